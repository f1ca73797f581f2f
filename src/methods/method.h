/* A method constructs a condensed set. One method, one file, one line in method.def.
 *
 * The context holds the training split only: methods never see the evaluation split, because there is no handle to it. */
#ifndef RT_METHODS_METHOD_H
#define RT_METHODS_METHOD_H

#include <stdbool.h>
#include <stdint.h>

#include "artefact/artefact.h"
#include "data/data.h"
#include "nn/nn.h"
#include "retort/exec.h"

enum {
    RT_NEEDS_FEATURES = 1, /* training-set features of a teacher */
    RT_NEEDS_EL2N = 2      /* EL2N scores of a teacher */
};

typedef struct rt_dm_params {
    int64_t iterations, batch_real;
    double lr, momentum;
    bool init_noise;
    const char *dsa_strategy; /* "" or "none": no augmentation */
} rt_dm_params;

typedef struct rt_coreset_params {
    bool normalise;       /* L2-normalise features */
    bool kcenter_random;  /* start at a random member instead of the class medoid */
} rt_coreset_params;

/* Files that replace draws, so that one step can be compared with another framework; NULL or "" means "draw". */
typedef struct rt_draw_files {
    const char *init_images;     /* safetensors: images f32 [n,h,w,3] normalised, labels i64 [n] */
    const char *network_weights; /* safetensors: theta f32 [iterations, P] */
    const char *batch_order;     /* safetensors: real i64 [iterations, classes, batch_real] (training-set indices), and
                                    optionally dsa_color [iterations,classes,3], dsa_affine [..,6], dsa_box [..,4] */
} rt_draw_files;

typedef struct rt_build_ctx {
    rt_backend *be;
    const rt_images *train;
    rt_normalise norm;
    rt_model_desc net;
    int32_t ipc;
    uint64_t seed;                /* of this construction */
    int threads;
    const float *features;        /* [train->n, feature_dim] or NULL */
    int64_t feature_dim;
    const double *el2n;           /* [train->n] or NULL */
    rt_dm_params dm;
    rt_coreset_params coreset;
    rt_draw_files files;
    const char *ckpt_dir, *inputs_hash;
    double ckpt_seconds;
    int keep;
    rt_ledger *ledger;
} rt_build_ctx;

/* What a construction will take, for `retort plan`; times from a short measured run. */
typedef struct rt_estimate {
    double steps, flops, seconds;
    double peak_bytes;            /* plan arena and bound tensors of the largest step */
} rt_estimate;

typedef struct rt_method {
    const char *name, *family, *title;  /* "dm", "distribution matching", "DM (Zhao & Bilen, WACV 2023)" */
    unsigned needs;
    bool stochastic;                    /* constructions differ by seed */
    rt_status (*construct)(const rt_build_ctx *ctx, rt_set *out);
    rt_status (*estimate)(const rt_build_ctx *ctx, rt_estimate *out); /* NULL: seconds; nothing worth planning */
} rt_method;

/* By name; RT_ERR_CONFIG listing the known names when there is none. */
rt_status rt_method_find(const char *name, const rt_method **out);
const rt_method *rt_method_at(int i); /* NULL past the end */

/* Helpers shared by methods. */
/* Class-major index list of `ipc` real images per class drawn without replacement (RT_RNG_SELECT, step = class). */
rt_status rt_draw_real(const rt_images *train, int32_t ipc, uint64_t seed, int64_t *idx);
/* A set of real images in normalised space. score may be NULL. */
rt_status rt_set_from_real(const rt_build_ctx *ctx, const int64_t *idx, const double *score, const char *method, rt_set *out);

#endif
