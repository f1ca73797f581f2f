/* Internal to src/stage: a set that somebody else distilled, as it was read: images in any order with the class each
 * belongs to, before it is checked against a run's classes. */
#ifndef RT_STAGE_IMPORT_H
#define RT_STAGE_IMPORT_H

#include "stage/run.h"

typedef struct rt_foreign {
    int64_t n;
    int32_t h, w;
    float *px;        /* [n,h,w,3], normalised by the run's mean and std, or as they came when unit is set */
    int32_t *label;   /* of the run's class list */
    float *soft;      /* [n,classes] or NULL */
    bool soft_logits, unit;
    char **key;       /* owned, or NULL: where each image came from */
    char order[160];  /* how the class order was found, one sentence */
    int64_t resized;  /* images that had another size */
    double stored_bytes; /* as published */
} rt_foreign;
void rt_foreign_fini(rt_foreign *f);

/* folder: class folders as SRe2L, CDA, DELT, CV-DD (new000 ...), RDED (00000 ...) and the diffusion methods (names of classes) write
 * them. map: a file of lines "folder class", or NULL. */
rt_status rt_foreign_folders(rt_run *r, const char *folder, const char *map, rt_foreign *out);
/* A safetensors file: "images" f32|f16|bf16|u8 [n,3,h,w] or [n,h,w,3], "labels" i64 [n] and/or "soft_labels" [n,classes].
 * space: what float images are: "normalised" or "unit"; NULL is an error for them. logits: soft labels before softmax. */
rt_status rt_foreign_tensors(rt_run *r, const char *file, const char *space, bool logits, rt_foreign *out);

#endif
