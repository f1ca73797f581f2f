/* One outer iteration of trajectory matching: what MTT, TESLA and DATM share.
 *
 * A method chooses a start theta0 and a target theta* among expert snapshots, how labels begin, and the settings; this
 * part unrolls (unroll.h), differentiates, and takes one SGD step with momentum on the pixels, the step size and, where
 * they are learned, the label logits, each with its own rate. Iterations whose loss or gradient is not finite, or whose
 * loss exceeds the threshold, change nothing, not even a momentum (matching.md 7, items 16, 25).
 *
 * Use: open; name the state to the frame with rt_traj_state; start (or restore, then push); then per iteration fill
 * theta0 and target, relabel if wanted, iterate; pull before reading the host state; result. */
#ifndef RT_METHODS_TRAJECTORY_H
#define RT_METHODS_TRAJECTORY_H

#include "methods/distill/distill.h"
#include "methods/distill/unroll.h"

typedef struct rt_traj_params {
    int32_t steps;                /* N */
    int64_t batch;                /* images per inner step; 0: all of the set */
    double lr_pixel, lr_step, lr_label;
    double momentum_pixel, momentum_step, momentum_label;
    double step0;                 /* step size at the start */
    double threshold;             /* largest loss that still updates; 0: any finite one */
    const char *dsa;              /* of the inner steps; "none" */
    bool hessian;                 /* false: TESLA */
    bool half_pixel_gradient;     /* released TESLA code: pixels see half the gradient (matching.md 3.5) */
    bool log_step;                /* optimise log beta instead of beta, which then stays positive: a deviation */
    bool logits;                  /* labels are logits u and learned (DATM); else probabilities, constants */
} rt_traj_params;

typedef struct rt_traj {
    const rt_build_ctx *ctx;      /* borrowed */
    rt_traj_params p;
    rt_model *model;
    rt_unroll *unroll;
    rt_exec *update, *norms, *relabel;
    rt_tensor *v_images, *v_labels, *lr[2], *norm[2]; /* [0] pixels, [1] labels */
    rt_tensor *teacher, *some, *prob;                 /* relabel: parameters, index, probabilities of a few images */
    int64_t n, px, classes, n_params;
    /* Host state. step: beta and its momentum. Images [n,px] in the set's space, labels [n,classes]. */
    float *images, *v_images_host, *labels, *v_labels_host, step[2];
    float *theta0, *target;       /* [n_params]: the caller fills them before iterate */
    double flops;                 /* of one iteration */
} rt_traj;

/* Compiles everything. t is zeroed first; close it whatever happens. RT_ERR_CONFIG for settings that make no sense. */
rt_status rt_traj_open(const rt_build_ctx *ctx, const rt_traj_params *p, rt_traj *t);
void rt_traj_close(rt_traj *t);
/* Appends images, labels, their momenta and the step size to d->state. Constant labels are part of it too. */
void rt_traj_state(rt_traj *t, rt_distill *d);
/* Host state of a fresh run from images (already in t->images): one-hot labels (as logits: 0 and -inf would not do, so a
 * learner of logits fills t->labels itself), zero momenta, step0. */
void rt_traj_start(rt_traj *t);
rt_status rt_traj_push(rt_traj *t); /* host state -> back end */
rt_status rt_traj_pull(rt_traj *t);
/* Labels := softmax of the network `theta` [n_params] on the images as they are, in chunks (TESLA's soft labels). */
rt_status rt_traj_relabel(rt_traj *t, const float *theta);
/* One outer iteration from t->theta0 to t->target. Fills s; s->skipped says that nothing changed. */
rt_status rt_traj_iterate(rt_traj *t, int64_t it, rt_distill_step *s);
/* The set as it stands after pull: pixels, hard labels by place, soft labels where `soft`, the step size. */
rt_status rt_traj_result(const rt_traj *t, const char *method, bool soft, rt_set *out);
/* Peak bytes of the back end's memory: one step, the path, and everything bound. */
double rt_traj_bytes(const rt_traj *t);

#endif
