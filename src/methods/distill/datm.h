/* How DATM begins (matching.md 4.7): images that experts already classify, and labels that are their logits. */
#ifndef RT_METHODS_DATM_H
#define RT_METHODS_DATM_H

#include "methods/method.h"

/* What had to be made up for. */
typedef struct rt_datm_gaps {
    int64_t images;  /* initial images that no expert classifies right: the class had too few of the others */
    int64_t labels;  /* images whose label is the logits of the expert that is least wrong, none being right */
} rt_datm_gaps;

/* images [classes * ipc, size, size, 3] in the space of ctx->train, class by class: going through each class in random order,
 * the first whose prediction by the final snapshot of expert 0 is right; where a class runs out, expert 1, and so on; where
 * all run out, any others. With `correct` false, or without experts, random real images; with set.init_images, that file.
 *
 * logits [classes * ipc, classes]: per image, the mean logits of those final snapshots that classify it right. The mean over
 * none is not defined: then the logits of the expert that gives the right class most. With `correct` false, expert 0's. */
rt_status rt_datm_start(const rt_build_ctx *ctx, bool correct, float *images, float *logits, rt_datm_gaps *gaps);

#endif
