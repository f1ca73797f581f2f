/* The frame every iterative distillation method stands in, and the draws they share.
 *
 * A method owns its compiled steps and its host vectors, and says what one outer iteration does. The frame does the rest,
 * once: it restores the newest checkpoint or asks for a fresh start, counts cost, keeps the trace, reports progress, saves
 * on time and on request, refuses losses that are not finite, counts the iterations a method skipped, and takes snapshots
 * of the set along the way.
 *
 *     distill.c  the loop          draws.c  initial images, real batches, networks, DSA parameters: by counter or from files
 *     dm.c dc.c idc.c mtt.c datadam.c ncfm.c ...  one method, one file */
#ifndef RT_METHODS_DISTILL_H
#define RT_METHODS_DISTILL_H

#include "methods/method.h"
#include "nn/dsa.h"

/* --- the loop ---------------------------------------------------------------------------------------------------------- */
enum { RT_DISTILL_STATE = 12, RT_DISTILL_DEVIATIONS = 8 };

/* A vector that makes up the state of a construction: saved, and restored in place. Borrowed from the method. */
typedef struct rt_distill_state {
    const char *name;            /* "images", "velocity", "step_size", ... */
    float *v;
    int64_t count;
} rt_distill_state;

/* What one iteration came to. The frame zeroes it first. */
typedef struct rt_distill_step {
    double loss;
    double flops, images_seen;
    double step_size;            /* learned; 0: the method learns none */
    bool skipped;                /* the method left everything as it was: counted, and shown in the trace and the result */
} rt_distill_step;

typedef struct rt_distill {
    const char *name;
    int64_t iterations;
    void *self;
    rt_distill_state state[RT_DISTILL_STATE];
    int n_state;
    const char *deviation[RT_DISTILL_DEVIATIONS];  /* from the published method, one sentence each; borrowed */
    int n_deviations;
    rt_status (*start)(void *self);                                           /* fills the state: there is no checkpoint */
    rt_status (*push)(void *self);                                            /* host state -> tensors, after start or restore; may be NULL */
    rt_status (*pull)(void *self);                                            /* tensors -> host state, before a save; may be NULL */
    rt_status (*iterate)(void *self, int64_t it, rt_distill_step *s);
    rt_status (*result)(void *self, rt_set *out);                             /* after pull; may be called many times */
} rt_distill;

/* Runs to the end. The trace (iteration, loss, step_size, skipped; no clocks, so equal runs give equal bytes) becomes
 * trace.csv of the set; the number of skipped iterations and every deviation from the published method go into the set's
 * notes. RT_ERR_CANCELLED after a commit when a stop was requested; RT_ERR_NUMERIC when more than a quarter of at least 100
 * iterations were skipped, or when a loss is not finite and the method did not skip. */
rt_status rt_distill_run(const rt_build_ctx *ctx, const rt_distill *d, rt_set *out);
/* Iteration 0 is run twice; the first time warms caches and is not counted. */
rt_status rt_distill_estimate(const rt_build_ctx *ctx, const rt_distill *d, double peak_bytes, rt_estimate *out);

/* What most results are: classes * ipc images [.., size, size, 3] in normalised space, class by class, hard labels. Copies. */
rt_status rt_distill_set(const rt_build_ctx *ctx, const char *method, const float *images, rt_set *out);

/* --- draws ------------------------------------------------------------------------------------------------------------- */
enum { RT_DSA_INPUTS = 3 }; /* color, affine, box */
extern const int64_t rt_dsa_width[RT_DSA_INPUTS];
extern const char *const rt_dsa_name[RT_DSA_INPUTS];

typedef struct rt_draws {
    const rt_build_ctx *ctx;
    int64_t iterations, batch_real, n_params;
    int64_t *by_class, *start;   /* rt_images_by_class of the training split */
    int64_t *scratch;
    rt_st_file *weights, *order; /* files that replace draws (method.h, rt_draw_files) */
    const rt_st_tensor *given_theta, *given_real, *given_dsa[RT_DSA_INPUTS];
} rt_draws;
/* Opens and validates the files against the sizes; refuses a class without a training image. batch_real 0: the method draws
 * no real batches. */
rt_status rt_draws_open(const rt_build_ctx *ctx, int64_t iterations, int64_t batch_real, int64_t n_params, rt_draws *out);
void rt_draws_close(rt_draws *d); /* accepts a zeroed struct */
/* A tensor of a file that replaces draws: at least want[0] rows and exactly want[1..] behind; *out NULL when it is absent and not
 * required. Methods with draws of their own look them up in weights and order. */
rt_status rt_draws_find(const rt_st_file *f, const char *path, const char *name, bool required, rt_st_dtype dtype, int rank,
                        const int64_t *want, const rt_st_tensor **out);
/* images [classes*ipc, size, size, 3] in the set's space: the file, real images, or N(0,1) noise. source (may be NULL):
 * training-set index of each real image, -1 where there is none. */
rt_status rt_draws_initial(const rt_draws *d, bool noise, float *images, int64_t *source);
/* Network of iteration it under the construction's seed: theta [n_params], buffers may be NULL. */
void rt_draws_network(const rt_draws *d, const rt_model *m, int64_t it, float *theta, float *buffers);
/* pick[0..batch_real): distinct members of class c; with fewer members than that, all of them, repeated in order. */
void rt_draws_real(const rt_draws *d, int64_t it, int64_t c, int64_t *pick);
/* Class c's one siamese draw of iteration it, written into rows [at, at + n) of the three host arrays. */
void rt_draws_dsa(const rt_draws *d, const rt_dsa *dsa, int64_t it, int64_t c, int64_t at, int64_t n, float *const host[RT_DSA_INPUTS]);

/* --- chunks ------------------------------------------------------------------------------------------------------------ */
/* The largest divisor of n that is at most limit, 1 when there is none: how many classes go through one compiled step. */
int64_t rt_divisor_up_to(int64_t n, int64_t limit);

#endif
