/* A method constructs a condensed set. One method, one file, one line in method.def.
 *
 * The context holds the training split only: methods never see the evaluation split, because there is no handle to it. */
#ifndef RT_METHODS_METHOD_H
#define RT_METHODS_METHOD_H

#include <stdbool.h>
#include <stdint.h>

#include "artefact/artefact.h"
#include "config/config.h"
#include "data/data.h"
#include "nn/nn.h"
#include "retort/exec.h"
#include "teacher/committee.h"
#include "teacher/experts.h"
#include "teacher/train.h"

enum {
    RT_NEEDS_FEATURES = 1, /* training-set features of a teacher */
    RT_NEEDS_EL2N = 2,     /* EL2N scores of a teacher */
    RT_NEEDS_EXPERTS = 4,  /* expert trajectories (teacher/experts.h) */
    RT_NEEDS_TEACHER = 8,  /* the weights of the first teacher: a committee of one */
    RT_NEEDS_COMMITTEE = 16 /* the weights of every teacher that section committee names */
};

/* Files that replace draws, so that one step can be compared with another framework; NULL or "" means "draw". */
typedef struct rt_draw_files {
    const char *init_images;     /* safetensors: images f32 [n,h,w,3] normalised, labels i64 [n] */
    const char *network_weights; /* safetensors: theta f32 [iterations, P] */
    const char *batch_order;     /* safetensors: real i64 [iterations, classes, batch_real] (training-set indices), and
                                    optionally dsa_color [iterations,classes,3], dsa_affine [..,6], dsa_box [..,4] */
} rt_draw_files;

/* Networks trained on the real data before a construction, kept with their initial weights (stage/pool.c): NCFM. */
typedef struct rt_pool {
    int64_t n, n_params;
    float *initial, *trained;    /* [n, n_params] */
    double wall_s, flops;        /* what training them took, whenever that was */
} rt_pool;
typedef struct rt_pool_spec {
    int64_t networks;
    rt_recipe recipe;
} rt_pool_spec;

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
    const rt_experts *experts;    /* or NULL */
    const rt_pool *pool;          /* or NULL */
    const rt_committee *teachers; /* with RT_NEEDS_TEACHER or RT_NEEDS_COMMITTEE, else NULL */
    const rt_dataset *originals;  /* the training split as encoded: image i of train is original_of[i] here; for methods that
                                   * crop at the resolution images came in */
    const int64_t *original_of;   /* NULL: the identity (no sample was skipped) */
    const rt_config *config;      /* a method reads its own section and nothing that names paths or the evaluation */
    rt_draw_files files;
    const char *stats_dir;        /* where passes of a teacher over the training images are kept (teacher/statistics.h); NULL: nowhere */
    const char *ckpt_dir, *inputs_hash;
    double ckpt_seconds;
    int keep;
    rt_ledger *ledger;
    /* Keeps the set as it is after iteration it, when methods.snapshots asks for it; NULL: nobody wants it. */
    rt_status (*snapshot)(void *to, int64_t it, const rt_set *set);
    void *snapshot_to;
} rt_build_ctx;

/* What a construction will take, for `retort plan`; times from a short measured run. */
typedef struct rt_estimate {
    double steps, flops, seconds;
    double peak_bytes;            /* plan arena and bound tensors of the largest step */
} rt_estimate;

typedef struct rt_method {
    const char *name, *family, *title;  /* "dm", "distribution matching", "DM (Zhao & Bilen, WACV 2023)" */
    const char *section;                /* of its settings; NULL: the one that carries its name */
    unsigned needs;
    bool stochastic;                    /* constructions differ by seed */
    /* With RT_NEEDS_EXPERTS: the last snapshot of the trajectories that this configuration can read (max_start - 1 + M), and
     * whether the final one of each expert is read besides. What no method reads is neither trained nor kept. */
    void (*expert_span)(const rt_config *c, int64_t *last, bool *final);
    int64_t (*iterations)(const rt_config *c); /* outer iterations; NULL: constructed in one go, without snapshots */
    void (*pool)(const rt_config *c, rt_pool_spec *out); /* the networks it wants trained first; NULL: none */
    rt_status (*construct)(const rt_build_ctx *ctx, rt_set *out);
    rt_status (*estimate)(const rt_build_ctx *ctx, rt_estimate *out); /* NULL: seconds; nothing worth planning */
} rt_method;

/* By name; RT_ERR_CONFIG listing the known names when there is none. */
rt_status rt_method_find(const char *name, const rt_method **out);
const rt_method *rt_method_at(int i); /* NULL past the end */

/* Helpers shared by methods. */
/* Class-major index list of `ipc` real images per class drawn without replacement (RT_RNG_SELECT, step = class). */
rt_status rt_draw_real(const rt_images *train, int32_t ipc, uint64_t seed, int64_t *idx);
/* Says of a set made from ctx's images what space its pixels live in and, when that is whitened, what they look like. */
rt_status rt_set_space_of(const rt_build_ctx *ctx, rt_set *s);
/* A set of real images in normalised space. score may be NULL. */
rt_status rt_set_from_real(const rt_build_ctx *ctx, const int64_t *idx, const double *score, const char *method, rt_set *out);

#endif
