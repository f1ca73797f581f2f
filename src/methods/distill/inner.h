/* Training the network between two matching steps (matching.md 4.1, 4.2, 4.4): plain SGD steps on theta where it lies, on
 * whatever images the method hands over. The matching step reads the same theta; nothing is differentiated through here.
 *
 * Not the trainer of src/teacher: no epochs, no schedule, no checkpoint; those belong to the method. */
#ifndef RT_METHODS_INNER_H
#define RT_METHODS_INNER_H

#include "data/data.h"
#include "nn/dsa.h"
#include "nn/nn.h"
#include "retort/exec.h"

typedef struct rt_inner_desc {
    rt_backend *be;             /* borrowed, as are model, theta, buffers */
    const rt_model *model;
    rt_tensor *theta, *buffers; /* [P], [B] or NULL; updated in place */
    int64_t batch;              /* most images of a step */
    double lr, momentum, weight_decay;
    const rt_normalise *norm;   /* not NULL: images live in [0,1] and are normalised before the augmentation */
    rt_dsa dsa;                 /* n_ops 0: no augmentation; parameters are drawn per image */
    double cutmix;              /* probability of CutMix after the augmentation */
} rt_inner_desc;

enum { RT_INNER_SIZES = 2 };    /* the full batch and the last one */

typedef struct rt_inner_step {
    int64_t n;
    rt_exec *ex;
    rt_tensor *x, *q, *dsa[3], *partner, *box;
    double flops;
} rt_inner_step;

typedef struct rt_inner {
    rt_inner_desc d;
    rt_inner_step step[RT_INNER_SIZES];
    int n_steps;
    rt_tensor *velocity, *lr, *decay, *loss;
    float *q, *mixed, *dsa[3], *box, *zero;
    int32_t *partner;
    int64_t *scratch;
} rt_inner;

rt_status rt_inner_create(const rt_inner_desc *d, rt_inner *out);
void rt_inner_fini(rt_inner *in); /* accepts a zeroed struct */
rt_status rt_inner_reset(rt_inner *in); /* forgets the momentum: a new network */
/* One step on n <= batch images x [n,h,w,3] with hard labels. (seed, step) key the augmentation. The first step of a size
 * compiles it; RT_ERR_NUMERIC when the loss is not finite. flops (may be NULL) is added to. */
rt_status rt_inner_train(rt_inner *in, const float *x, const int32_t *label, int64_t n, uint64_t seed, uint64_t step, double *flops);

/* (x - mean) / std per channel, in the graph: x [N,H,W,3] in [0,1]. */
rt_val rt_normalised(rt_graph *g, rt_val x, const rt_normalise *nm);

#endif
