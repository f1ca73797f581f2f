/* Statistics of what a teacher's layers see of the training set: one pass, kept as an artefact (LPLD, G-VBSM, EDC;
 * decoupled.md 2.4, 2.6, 2.11). Layers are the taps of nn.h, in their order. */
#ifndef RT_TEACHER_STATISTICS_H
#define RT_TEACHER_STATISTICS_H

#include "artefact/artefact.h"
#include "data/data.h"
#include "retort/exec.h"
#include "teacher/committee.h"

typedef struct rt_layer_stats {
    int32_t channels, tiles;      /* tiles: positions of the 16x16 patch grid, 0 where patches were not asked for */
    float *mean, *var;            /* [channels] */
    float *patch_mean, *patch_var;/* [tiles] */
    float *class_mean, *class_var;/* [classes, channels], or NULL */
    float *class_patch_mean, *class_patch_var; /* [classes, tiles], or NULL */
} rt_layer_stats;
typedef struct rt_stats {
    int32_t layers, classes;
    rt_layer_stats *layer;        /* one per tap */
} rt_stats;
typedef struct rt_stats_spec {
    bool convs, patches, by_class;
    bool within_image;            /* class variance: mean over images of the variance inside an image (EDC), not the pooled one */
    bool ema;                     /* class statistics as running means of momentum 0.1 over batches, from 0 and 1 (LPLD) */
    bool views;                   /* random resized crop and flip (G-VBSM); else the images as they are */
    int64_t batch;
    uint64_t seed;
} rt_stats_spec;
/* One pass over images. dir: where the result is kept and found again (keyed by teacher, data and spec), or NULL. */
rt_status rt_stats_collect(rt_backend *be, const rt_teacher *t, const rt_images *images, const rt_normalise *norm,
                           const rt_stats_spec *spec, int threads, const char *dir, rt_ledger *ledger, rt_stats *out);
void rt_stats_fini(rt_stats *s);

#endif
