/* Real images that recovery starts from, instead of noise. */
#ifndef RT_METHODS_START_H
#define RT_METHODS_START_H

#include "methods/method.h"

/* images [classes*ipc, size, size, 3] in normalised space, class by class: rank i of a class is the i-th of a random draw. */
rt_status rt_start_real(const rt_build_ctx *ctx, float *images);

#endif
