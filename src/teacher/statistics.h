/* Statistics of what a teacher's layers see of the training set: one pass, kept as an artefact (LPLD, G-VBSM, EDC;
 * decoupled.md 2.4, 2.6, 2.11). Layers are the taps of nn.h, in their order.
 *
 *     tap_moments.c      moments of a map inside a graph: per channel, and per tile of 16x16 positions
 *     statistics.c       the pass: a graph per batch gives every image's moments, the host pools them in double
 *     statistics_file.c  the artefact
 *
 * A pass sees every training image once, in the shuffled order of epoch 0 under spec.seed, the last batch smaller. Memory is
 * that of one batch, whatever the number of images. */
#ifndef RT_TEACHER_STATISTICS_H
#define RT_TEACHER_STATISTICS_H

#include "artefact/artefact.h"
#include "data/data.h"
#include "retort/exec.h"
#include "teacher/committee.h"

/* Of one tap. What was not asked for is NULL, and tiles 0. Variances are biased. */
typedef struct rt_layer_stats {
    rt_tap_kind kind;
    char name[64];                /* of the tap */
    int32_t channels, tiles;      /* tiles: positions of the 16x16 patch grid, row by row; convolutions only */
    float *mean, *var;            /* [channels]: of a batch's images together, averaged over batches by their size */
    float *patch_mean, *patch_var;/* [tiles], likewise */
    float *class_mean, *class_var;/* [classes, channels] */
    float *class_patch_mean, *class_patch_var; /* [classes, tiles] */
} rt_layer_stats;
typedef struct rt_stats {
    int32_t layers, classes;
    rt_layer_stats *layer;        /* one per tap; owned */
} rt_stats;
typedef struct rt_stats_spec {
    bool convs;                   /* convolutions too; else BatchNorm layers alone */
    bool patches, by_class;
    bool within_image;            /* class statistics as means over images of an image's own mean and variance (EDC); else of a
                                   * class's images together */
    bool ema;                     /* class statistics as running ones over the batches that hold the class, momentum 0.1, from 0 and 1,
                                   * without correction (LPLD); else averages over all images of the class */
    bool views;                   /* random resized crop (0.08, 1) and flip (G-VBSM, EDC); else the images as they are */
    int64_t batch;
    uint64_t seed;                /* of order and views */
} rt_stats_spec;
/* One pass over images. dir: where the result is kept and found again (keyed by the teacher's weights, the data and spec;
 * a folder per pass, created with its parents; what is damaged there is collected again), or NULL. What the pass costs is
 * added to ledger (may be NULL) when it is made, and stands in the artefact. RT_ERR_NUMERIC naming a layer whose
 * statistics are not finite; RT_ERR_FORMAT naming a class without an image when by_class. */
rt_status rt_stats_collect(rt_backend *be, const rt_teacher *t, const rt_images *images, const rt_normalise *norm,
                           const rt_stats_spec *spec, int threads, const char *dir, rt_ledger *ledger, rt_stats *out);
void rt_stats_fini(rt_stats *s); /* accepts a zeroed struct */

/* --- the artefact ------------------------------------------------------------------------------------------------------- */
/* Where dir keeps that pass, and its key. */
rt_status rt_stats_path(const rt_teacher *t, const rt_images *images, const rt_normalise *norm, const rt_stats_spec *spec,
                        const char *dir, char *path, size_t n, char key[RT_HASH_HEX]);
/* Reads and checks everything: checksums, key, layers and sizes against the teacher's network, finite values.
 * RT_ERR_MISSING when there is none, RT_ERR_FORMAT when it is damaged or another's. out is owned. */
rt_status rt_stats_read(const char *path, const char *key, const rt_teacher *t, const rt_stats_spec *spec, int32_t classes,
                        rt_stats *out);
rt_status rt_stats_write(const char *path, const char *key, const rt_teacher *t, const rt_stats_spec *spec, const rt_stats *s,
                         const rt_ledger *cost);
/* Layers, names and room, zero-filled, for what spec asks of the teacher's network; owned. */
rt_status rt_stats_create(const rt_teacher *t, const rt_stats_spec *spec, int32_t classes, rt_stats *out);

/* --- inside a graph ----------------------------------------------------------------------------------------------------- */
enum { RT_PATCH = 16 };
int32_t rt_patch_tiles(int32_t h, int32_t w); /* of a map of h x w: sides rounded up to a multiple of 16, over 16 */
/* x [N,h,w,c], in `groups` equal blocks of images: mean and biased variance [groups,c] over a block's images and positions. */
void rt_channel_moments(rt_graph *g, rt_val x, int64_t groups, rt_val *mean, rt_val *var);
/* Mean and biased variance [groups,tiles] of each tile over a block's images, all channels and the tile's 16x16 positions, of
 * the map enlarged to multiples of 16 (bilinear, corners not aligned). */
void rt_patch_moments(rt_graph *g, rt_val x, int64_t groups, rt_val *mean, rt_val *var);

#endif
