/* RDED's patches (decoupled.md 2.5): crops of real images that a teacher recognises, tiled. RDED's set is made of them, and
 * several recovery methods start from them. */
#ifndef RT_METHODS_PATCHES_H
#define RT_METHODS_PATCHES_H

#include "methods/method.h"

typedef enum rt_patch_rank {
    RT_PATCH_EASY,   /* lowest cross-entropy first: RDED */
    RT_PATCH_MEDIUM  /* around the median: the "medium" start of SRe2L++, CV-DD, FADRM */
} rt_patch_rank;
typedef struct rt_patch_spec {
    int64_t per_class;   /* images drawn of a class (mipc); at least ipc factor^2, at most what the class has */
    int32_t crops;       /* of each */
    int32_t factor;      /* an image is factor x factor patches */
    double scale_min;    /* smallest share of the area of a crop */
    rt_patch_rank rank;
    const int64_t *pool; /* candidates instead of a draw, per_class of each class in turn (CA2D); NULL: drawn */
} rt_patch_spec;
/* images [classes*ipc, size, size, 3] in normalised space, class by class; needs ctx->teachers and ctx->originals. What it
 * costs goes to ctx->ledger. */
rt_status rt_patches_make(const rt_build_ctx *ctx, const rt_patch_spec *spec, float *images);

#endif
