/* Attribute bytes of the structured ops: what a node carries besides its inputs. Private to src/ops and the backends.
 *
 * Attributes are compared and hashed as bytes, so no struct here has padding (checked below), and shapes that an op
 * needs from a tensor it does not read are attributes: a tensor kept alive for its shape alone would cost its whole
 * storage.
 *
 * Letters: image x [N,H,W,C]; convolution weight w [K,C/groups,R,S]; output y [N,P,Q,K]; g<t> gradient of t. */
#ifndef RT_OPS_ATTRS_H
#define RT_OPS_ATTRS_H

#include "ops/row.h"

/* Networks of a node: `nets` 0 and 1 both mean one, and constructors store 0 for it, so that equal nodes have equal bytes. */
static inline int64_t rt_nets(int64_t nets) { return nets > 1 ? nets : 1; }

/* CONV2D    (x, w[, bias])  -> y
 * CONV2D_DX (gy, w)         -> gx    needs h, w, c: stride and padding do not determine the input's size
 * CONV2D_DW (x, gy)         -> dw[, db]   needs r, s; db[K] = sum of gy over N,P,Q when has_bias (then n_out is 2) */
typedef struct rt_conv2d_attr {
    rt_conv_attr conv;
    int64_t has_bias;  /* CONV2D: a third input; CONV2D_DW: a second output; CONV2D_DX: 0 */
    int64_t h, w, c;   /* CONV2D_DX: H, W, C of x; else 0 */
    int64_t r, s;      /* CONV2D_DW: R, S of w; else 0 */
} rt_conv2d_attr;

/* AVG_POOL, MAX_POOL      (x)  -> y[, index]     carry rt_pool_attr
 * AVG_POOL_DX             (gy) -> gx             carry rt_pool_dx_attr
 * MAX_POOL_DX             (gy, index) -> gx      scatter-add of gy to the winners
 * POOL_GATHER             (gx, index) -> gy      its adjoint
 * index is i32[N,P,Q,C]: h*W + w of the winner within its image and channel, a pixel of its own window. */
typedef struct rt_pool_dx_attr {
    rt_pool_attr pool;
    int64_t h, w;      /* H, W of x */
} rt_pool_dx_attr;

/* NORM    (x, gamma, beta)                       -> y, mean, rstd        carry rt_norm_attr
 * NORM_DX (x, gamma, beta, mean, rstd, gy)       -> gx, ggamma, gbeta    carry rt_norm_attr
 * NORM_TANGENT    (x, gamma, beta, mean, rstd, tx, tgamma, tbeta)    -> ty                       carry rt_norm_attr
 * NORM_DX_TANGENT (x, gamma, beta, mean, rstd, gy, tx, tgamma[, tgy]) -> tgx, tggamma, tgbeta    carry rt_norm_attr */

/* AFFINE_SAMPLE (x, a): h, w of the output; AFFINE_SCATTER (gy, a): h, w of the image scattered into. */
typedef struct rt_affine_attr {
    int64_t h, w;
} rt_affine_attr;

/* CROP_VIEW (x, box) -> y; CROP_VIEW_DX (gy, box) -> gx: height and width of what comes out. */
typedef struct rt_crop_attr {
    int64_t h, w;
} rt_crop_attr;

/* MOMENTS (x) -> mean, var; MOMENTS_DX (x, mean, gmean, gvar) -> gx */
typedef struct rt_moments_attr {
    int64_t groups;
} rt_moments_attr;

/* SGD_STEP  (theta, v, grad, lr, decay)          -> theta', v' */
typedef struct rt_sgd_step_attr {
    double momentum;
    int64_t nesterov;
} rt_sgd_step_attr;

/* ADAM_STEP (theta, m, v, grad, hyper, decay)    -> theta', m', v' */
typedef struct rt_adam_step_attr {
    double beta1, beta2, eps;
    int64_t decoupled;
} rt_adam_step_attr;

/* COLOR, BOX_MASK, LOG_SOFTMAX, SOFTMAX_CE carry none. SOFTMAX_CE (z, q) -> loss[B], p[B,C]. */

_Static_assert(sizeof(rt_conv2d_attr) == 6 * sizeof(int32_t) + 6 * sizeof(int64_t), "padding would be hashed");
_Static_assert(sizeof(rt_pool_dx_attr) == 6 * sizeof(int32_t) + 2 * sizeof(int64_t), "padding would be hashed");
_Static_assert(sizeof(rt_norm_attr) == 4 * sizeof(int32_t) + sizeof(int64_t) + sizeof(double), "padding would be hashed");

#endif
