/* Real images that recovery starts from, instead of noise. */
#ifndef RT_METHODS_START_H
#define RT_METHODS_START_H

#include "methods/recover/patches.h"

/* images [classes*ipc, size, size, 3] in normalised space, class by class: rank i of a class is the i-th of a random draw. */
rt_status rt_start_real(const rt_build_ctx *ctx, float *images);
/* The same, tiled from crops of that rank (patches.h). per_class 0: 300, or what the smallest class has; factor 0: as published,
 * 2 x 2 tiles from 128 pixels on, below one crop. */
rt_status rt_start_patches(const rt_build_ctx *ctx, rt_patch_rank rank, int64_t per_class, int64_t crops, int64_t factor, float *images);

#endif
