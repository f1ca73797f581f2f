/* Unrolled training and its exact adjoint in the memory of one step (DESIGN 2.6; matching.md 3.4).
 *
 * N steps of plain gradient descent on the synthetic set,
 *
 *     theta_{t+1} = theta_t - beta g_t,   g_t = grad_theta loss(theta_t; A_t x[I_t], y[I_t]),
 *     L = |theta_N - theta*|^2 / |theta_0 - theta*|^2,
 *
 * and dL with respect to the images x, the step size beta and, where they are learned, the label logits u. The trajectory
 * theta_0 .. theta_N is kept; activations are not: one compiled adjoint step (theta_t, lambda_{t+1} -> lambda_t, and the
 * terms of dx, du, dbeta) is replayed backwards over it. Exact for every N; memory is one step plus (N + 1) |theta|.
 *
 * `hessian` off leaves out lambda_t = lambda_{t+1} - beta H lambda_{t+1} and keeps lambda at its last value: the gradient
 * of TESLA (Cui et al., ICML 2023; matching.md 3.5), which treats every theta_t as a constant.
 *
 * Not here: where theta_0 and theta* come from, how images are updated (trajectory.h), any randomness beyond a draw by
 * counter that a caller may overwrite (rt_unroll_plan). */
#ifndef RT_METHODS_UNROLL_H
#define RT_METHODS_UNROLL_H

#include <stdbool.h>

#include "nn/dsa.h"
#include "nn/nn.h"
#include "retort/exec.h"

enum { RT_UNROLL_STAGES = RT_DSA_OPS, RT_UNROLL_DSA = 3 /* color 3, affine 6, box 4 floats per image */ };

typedef struct rt_unroll_desc {
    const rt_model *model; /* borrowed; batch norm uses the statistics of the batch */
    int64_t images;        /* n of the synthetic set */
    int64_t batch;         /* images per step; 0, or more than n: all of them */
    int32_t steps;         /* N */
    bool logits;           /* labels are logits u, used through softmax, and get a gradient; else probabilities, constants */
    bool hessian;          /* true: the exact gradient */
    rt_dsa dsa;            /* of every step, one draw per image; n_ops 0: none */
} rt_unroll_desc;

/* What one step t uses; the arrays belong to the unroll. Rows of dsa are those of index. */
typedef struct rt_unroll_step {
    int64_t n;                                     /* batch, or the remainder of images / batch */
    int32_t *index;                                /* [n] into the synthetic set */
    float *dsa[RT_UNROLL_STAGES][RT_UNROLL_DSA];   /* [n,3], [n,6], [n,4] per stage; NULL without augmentation */
} rt_unroll_step;

typedef struct rt_unroll_result {
    double loss;        /* L; not finite when the unroll diverged or theta_0 == theta* */
    double d_step_size; /* dL / dbeta */
    bool complete;      /* false: L was not finite or over the limit, and nothing was differentiated */
} rt_unroll_result;

typedef struct rt_unroll rt_unroll;

/* Compiles the steps. RT_ERR_CONFIG for sizes that make no sense. */
rt_status rt_unroll_create(rt_backend *be, const rt_unroll_desc *d, rt_unroll **out);
void rt_unroll_destroy(rt_unroll *u);

/* Storage on the backend, for the caller to fill, update and read between calls. Borrowed. */
rt_tensor *rt_unroll_images(rt_unroll *u);   /* x  [images, size, size, channels] */
rt_tensor *rt_unroll_labels(rt_unroll *u);   /* logits u or probabilities [images, classes] */
rt_tensor *rt_unroll_step_size(rt_unroll *u); /* beta, rank 0 */
rt_tensor *rt_unroll_d_images(rt_unroll *u);
rt_tensor *rt_unroll_d_labels(rt_unroll *u); /* NULL unless desc.logits */

/* Draws every step of outer iteration `it`: a shuffled list of all images is cut into chunks of `batch` and consumed
 * from its end, so that a short remainder comes first; when it is empty a new shuffle follows. DSA draws per image. */
void rt_unroll_draw(rt_unroll *u, uint64_t seed, int64_t it);
/* Step t as drawn; a caller may overwrite index and dsa (tests, draws from a file). NULL past the last step. */
const rt_unroll_step *rt_unroll_plan(const rt_unroll *u, int32_t t);
/* One unroll from theta0 towards target (P floats each, host). When L is finite and at most limit (0: no limit) the
 * gradients are left in d_images and d_labels. */
rt_status rt_unroll_run(rt_unroll *u, const float *theta0, const float *target, double limit, rt_unroll_result *out);
/* The same in double, for back end ref. */
rt_status rt_unroll_run_f64(rt_unroll *u, const double *theta0, const double *target, double limit, rt_unroll_result *out);

typedef struct rt_unroll_stats {
    double flops;              /* of one whole unroll with its adjoint, by the op rows */
    double forward_flops;      /* of the unroll alone: what a skipped iteration costs */
    double images;             /* image passes: N steps forward, N back */
    size_t step_bytes;         /* arena of the largest compiled step; the others borrow it */
    size_t path_bytes;         /* (N + 1) |theta| */
    size_t other_bytes;        /* images, labels, their gradients, theta, lambda, step inputs */
} rt_unroll_stats;
void rt_unroll_get_stats(const rt_unroll *u, rt_unroll_stats *out);

/* The memory alone, without compiling for timing or allocating (`retort plan`, tests). */
rt_status rt_unroll_estimate(rt_backend *be, const rt_unroll_desc *d, rt_unroll_stats *out);

#endif
