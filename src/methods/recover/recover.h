/* The recovery core: images optimised so that a frozen teacher recognises them and sees the statistics of real data
 * (SRe2L, arXiv 2306.13092; decoupled.md 1 and 2). Every teacher-based method is a short file that fills one rt_recovery.
 *
 * The images of a set are cut into blocks; the images of a block share one view per iteration and one set of batch
 * statistics, and are optimised for `iterations` steps, one block after the other, or `groups` of them in one pass with
 * statistics, views and losses of each group apart: the same bits in strict mode, one launch instead of many. A step is one
 * compiled graph:
 *
 *     view (shared crop, flip, roll) -> eval-mode teacher, taps -> loss of each group -> Adam on the pixels -> clip
 *
 * It stands on distill.h's loop: iteration it of the construction is iteration t = it mod T of pass it / T; all state
 * (images, Adam's moments, a method's vectors) is saved and restored there, so a kill inside a block loses seconds.
 *
 *     recover.c   the frame: passes, stages, checkpoints, result     plan.c  which images form a block, which blocks a pass
 *     step.c      the compiled steps, one per (teachers, active, side)
 *     match_bn.c  losses: cross-entropy, BatchNorm statistics        view.c  the draws of the shared view
 *     sre2l.c cda.c dwa.c delt.c fadrm.c edc.c gvbsm.c cvdd.c lpld.c scdd.c: one method each */
#ifndef RT_METHODS_RECOVER_H
#define RT_METHODS_RECOVER_H

#include "methods/distill/distill.h"

enum { RT_RECOVER_STAGES = 8, RT_RECOVER_EXTRA = 6, RT_RECOVER_INPUTS = 8 };

typedef struct rt_recovery rt_recovery;

/* --- the shared view --------------------------------------------------------------------------------------------------- */
/* Drawn by (seed, block, iteration); or read from set.batch_order, whose f32 `recover_view` [blocks, iterations, 8] then has
 * rows as rt_crop_view takes them. */
typedef struct rt_recover_view {
    bool crop, flip;          /* crop: random resized crop, ratio 3/4 to 4/3, bilinear without antialias, shared by a block */
    double scale_min;         /* smallest share of the area; a method's crop_min may move it */
    int32_t jitter_lo, jitter_hi; /* circular shift of both axes, inclusive; 0, 0: none */
} rt_recover_view;

/* CDA's curriculum: the smallest share of a crop in iteration t of T, from 1 down to `floor` at milestone * T. mode: "cosine",
 * "linear", "step" (1 until then) or "none" (floor from the start). */
double rt_recover_curriculum(const char *mode, double milestone, double floor, int64_t t, int64_t T);

/* --- what a step's loss is made of -------------------------------------------------------------------------------------- */
/* Given to a method's loss while a step's graph is built. Images of group k are rows [k B, (k+1) B) of everything. With
 * several teachers in one step (RT_RECOVER_ALL) the loss is asked for once for each of them. */
typedef struct rt_recover_graph {
    rt_recovery *r;
    rt_graph *g;
    const rt_teacher *teacher;
    int32_t teacher_index;
    int64_t groups, each;     /* groups of `each` images */
    rt_val images;            /* [groups*each, side, side, 3] as they are optimised */
    rt_val view;              /* the same as the teacher sees them */
    rt_val logits, label;     /* [groups*each, classes]; label: one-hot */
    rt_val theta, buffers;    /* the teacher's; buffers is none without BatchNorm */
    const rt_tap_list *taps;  /* NULL when r_bn is 0 */
    void *step;               /* step.c's */
} rt_recover_graph;
/* Mean cross-entropy of each group, summed over the groups: rank 0. */
rt_val rt_recover_ce(const rt_recover_graph *w);
/* Sum over groups and BatchNorm layers of weight_l (||mu - running mean|| + var_weight ||v - running var||); weight_l is
 * `first` for the first layer, else 1 (decoupled.md 1.3). mean, var: NULL for the running statistics, or for every BatchNorm
 * tap in turn the target [groups, c] or [c]. Zero for a teacher without BatchNorm. */
rt_val rt_recover_bn(const rt_recover_graph *w, double first, double var_weight, const rt_val *mean, const rt_val *var);
/* Mean [groups,c] and biased variance [groups,c] over images and positions of a tap's input, each group apart. */
void rt_recover_moments(const rt_recover_graph *w, rt_val x, rt_val *mean, rt_val *var);
/* The running statistics of a BatchNorm tap, [c] each. */
void rt_recover_running(const rt_recover_graph *w, const rt_tap *tap, rt_val *mean, rt_val *var);
/* Euclidean distances [groups] of the rows of x [groups,n] from those of y [groups,n], or from y [n]. No gradient at 0. */
rt_val rt_recover_distance(const rt_recover_graph *w, rt_val x, rt_val y);
/* A vector of `count` floats that lives across steps, from block to block, and is saved with the construction: its value now,
 * and what it is after this step. name: unique per method; steps that name the same vector share it. At most
 * RT_RECOVER_EXTRA vectors. A method whose blocks must see each other's vectors in order sets groups to 1. */
rt_val rt_recover_state(const rt_recover_graph *w, const char *name, int64_t count, float initial);
void rt_recover_update(const rt_recover_graph *w, const char *name, rt_val now);
/* This step's crops, flips and shifts of other images of the same shape. */
rt_val rt_recover_look(const rt_recover_graph *w, rt_val images);
/* Per-step data of the host, at most RT_RECOVER_INPUTS in a step: `fill` writes the shape's floats before every step that uses
 * it; teacher: whose loss it is in, block: of the step's first group, the others follow it; t: iteration in the block. */
typedef void rt_recover_fill(void *self, int32_t teacher, int64_t block, int64_t t, float *out);
rt_val rt_recover_input(const rt_recover_graph *w, const char *name, rt_shape shape, rt_recover_fill *fill);

/* Images of a block as the teacher sees them in its iteration t, computed on the host's behalf: for what a method does before
 * the block (DWA). images [n,size,size,3], view [n,side,side,3] of the stage that t lies in. From the callbacks below only. */
rt_status rt_recover_see(rt_recovery *r, int64_t block, int64_t t, const float *images, int64_t n, float *view);

/* --- a method ----------------------------------------------------------------------------------------------------------- */
/* All callbacks get self; those that may be NULL have a default. */
struct rt_recovery {
    const rt_build_ctx *ctx;
    const char *name;
    void *self;
    int64_t iterations;       /* T: of one block, all stages together */
    double lr;                /* of Adam (0.5, 0.9), cosine to 0 over T */
    double r_bn;              /* weight of the statistics loss; 0: none, and no taps */
    double first_bn, var_weight; /* 10 and 1 where published */
    rt_recover_view view;
    int64_t batch;            /* images of a block: min(batch, what is left) */
    bool class_major;         /* blocks of consecutive images of the set (class by class); else one image of each of
                               * `batch` consecutive classes, rank by rank, as SRe2L has it */
    int64_t groups;           /* blocks in one pass, where they have equal sizes; 0: about 512 images of 64 pixels on a GPU, 16 on a CPU */
    enum { RT_RECOVER_ROUND_ROBIN, RT_RECOVER_ALL } teachers; /* several: by turns, counting over blocks; or every one in every
                               * iteration, losses weighted */
    int n_stages;             /* 0: one, at the set's side */
    struct { int32_t side; int64_t iterations; double residual; } stage[RT_RECOVER_STAGES]; /* after a stage (not the last): x <- residual
                               * resize(x) + (1 - residual) resize(initial), bilinear; Adam is created anew (FADRM) */
    const char *deviation[RT_DISTILL_DEVIATIONS];
    int n_deviations;

    rt_status (*initial)(void *self, float *images); /* [n, size, size, 3] normalised; NULL: N(0,1) by counter. set.init_images comes
                               * before either */
    double (*crop_min)(void *self, int64_t t, int64_t T); /* curriculum of the crop; NULL: view.scale_min */
    int64_t (*compose)(void *self, int64_t block, int64_t *image); /* the images of a block in order, returns how many;
                               * -1 past the last block. Every image is in one block. NULL: by batch and class_major */
    int64_t (*active)(void *self, int64_t block, int64_t t); /* the first so many images of the block take part; NULL: all. The
                               * others keep pixels and moments; Adam counts t of the block for all of them, so that who joins
                               * late has moments of zero and their correction of t, as one optimiser of a released code has */
    int32_t (*panel)(void *self, int64_t block, int32_t *teacher, double *weight); /* the teachers of a block, indices in
                               * ascending order, and the weights of their losses (RT_RECOVER_ALL); returns how many. Blocks go
                               * through one pass only with others of the same panel. NULL: every teacher and its weight */
    rt_status (*before_block)(void *self, int64_t block, const float *images, const int64_t *image, int64_t n, float *theta);
                              /* may change theta, the working copy of teacher 0's weights, as the block before left it: n initial images
                               * [n,size,size,3] of the block and their places in the set. Then passes are of one block. NULL: none */
    rt_val (*loss)(void *self, const rt_recover_graph *w); /* rank 0, summed over the groups; NULL: CE + r_bn BN */
    /* What the host has to know of a step's images before the step: a value of w->images and w->view alone (there is no teacher
     * in w), computed under the step's draws; `probed` then gets it, before any rt_recover_fill of that step. NULL: nothing. */
    rt_val (*probe)(void *self, const rt_recover_graph *w);
    rt_status (*probed)(void *self, int64_t block, int64_t t, const float *value);
    rt_status (*finish)(void *self, rt_set *out); /* adds to the finished set; NULL: nothing */
    void *core;                /* recover.c's while it runs */
};
/* The settings that every method's section c of the configuration has (RT_RECOVER_KEYS in config.def). */
#define RT_RECOVER_SETTINGS(c)                                                                                         \
    .iterations = (c).iterations, .lr = (c).lr, .r_bn = (c).r_bn, .first_bn = (c).first_bn, .var_weight = 1,           \
    .batch = (c).batch, .groups = (c).groups,                                                                          \
    .view = {.crop = (c).crop_min < 1, .flip = (c).flip, .scale_min = (c).crop_min, .jitter_lo = (int32_t)(c).jitter_lo, \
             .jitter_hi = (int32_t)(c).jitter_hi}

/* Constructs the whole set. ctx->teachers must hold at least one teacher with a BatchNorm where r_bn > 0: RT_ERR_CONFIG
 * naming the teacher otherwise. */
rt_status rt_recover_run(rt_recovery *r, rt_set *out);
rt_status rt_recover_estimate(rt_recovery *r, rt_estimate *out);

#endif
