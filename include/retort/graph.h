/* Symbolic programs: build a graph of ops, differentiate it, hand it to retort/exec.h.
 *
 * A tour. Building computes nothing; it appends nodes to a graph and returns rt_val handles:
 *
 *     rt_graph *g;  rt_graph_create(&g);
 *     rt_val x = rt_input(g, "x", RT_SHAPE(RT_F32, 32, 784));
 *     rt_val w = rt_input(g, "w", RT_SHAPE(RT_F32, 784, 10));
 *     rt_val q = rt_input(g, "q", RT_SHAPE(RT_F32, 32, 10));
 *     rt_val loss = rt_mean_all(g, rt_softmax_ce(g, rt_matmul(g, x, w, false, false), q));
 *     rt_val gw;    rt_grad(g, loss, &w, 1, &gw);         // gradients are ordinary nodes ...
 *     rt_val dot = rt_sum_all(g, rt_mul(g, gw, v));
 *     rt_val hv;    rt_grad(g, dot, &w, 1, &hv);          // ... so they can be differentiated again
 *     if (rt_graph_status(g) != RT_OK) ...                // one check: the first error sticks
 *
 * Rules of the language
 *   - Values are immutable; there are no in-place ops. Storage reuse is the planner's decision.
 *   - Same op, attributes and inputs give the same value (hash-consing), so backward graphs share forward values.
 *   - A constructor that fails records the first error in the graph and returns the none value (id 0); constructors
 *     given none return none. Expressions nest; check rt_graph_status once.
 *   - Layout is NHWC: images [N,H,W,C]; convolution weights are kept as torchvision names them, [K,C/groups,R,S].
 *   - Elementwise binary ops broadcast as NumPy does. Gradients are summed back to a source's shape on the edge, once,
 *     in rt_grad: no vjp rule handles broadcasting.
 *   - RT_F32 is "real": float32 on cpu/cuda, float64 on ref. RT_I32 carries labels and indices and has no gradient.
 *
 * Ownership: the graph owns its nodes; rt_val is an index into it and stays valid until rt_graph_destroy.
 * Thread safety: one graph, one thread.
 */
#ifndef RETORT_GRAPH_H
#define RETORT_GRAPH_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "retort/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { RT_MAX_RANK = 6 };

typedef enum rt_dtype { RT_F32 = 0, RT_I32 = 1 } rt_dtype;

typedef struct rt_shape {
    rt_dtype dtype;
    int32_t rank;
    int64_t d[RT_MAX_RANK]; /* entries past rank are 0, so shapes compare with memcmp */
} rt_shape;

typedef struct rt_val {
    uint32_t id; /* 0 is "none" */
} rt_val;

typedef struct rt_graph rt_graph;

/* --- shapes ------------------------------------------------------------------------------------------------------ */
RT_API rt_shape rt_shape_make(rt_dtype t, int rank, const int64_t *d);
RT_API int64_t rt_shape_count(const rt_shape *s); /* product of dims; 1 for rank 0 */
RT_API bool rt_shape_eq(const rt_shape *a, const rt_shape *b);
RT_API const char *rt_shape_str(const rt_shape *s, char *buf, size_t n); /* "f32[32,3,224,224]"; returns buf */
#define RT_SHAPE(t, ...)                                                                                               \
    rt_shape_make((t), (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})
#define RT_SCALAR_F32 rt_shape_make(RT_F32, 0, NULL)

/* --- graph ------------------------------------------------------------------------------------------------------- */
RT_API rt_status rt_graph_create(rt_graph **out);
RT_API void rt_graph_destroy(rt_graph *g);
RT_API rt_status rt_graph_status(const rt_graph *g); /* first sticky error (re-raises its message) or RT_OK */
RT_API const rt_shape *rt_val_shape(const rt_graph *g, rt_val v); /* borrowed; NULL for none */
RT_API rt_status rt_graph_verify(const rt_graph *g); /* shapes re-inferred, inputs precede uses, attributes in range */
RT_API rt_status rt_graph_dump(const rt_graph *g, FILE *f, bool dot); /* text (stable across runs) or graphviz */

/* --- leaves ------------------------------------------------------------------------------------------------------ */
RT_API rt_val rt_input(rt_graph *g, const char *name, rt_shape s); /* bound to a tensor by rt_exec; names are unique */
RT_API rt_val rt_const(rt_graph *g, double value, rt_shape s);     /* filled with one value */
RT_API rt_val rt_scalar(rt_graph *g, double value);                /* rank-0 constant */

/* y[i0,i1,...] = offset + sum_k coef[k] i_k, of dtype s.dtype; coef has rank(s) entries, or is NULL for rank 0. Index tables and
 * masks by position, made where they are used. RT_ERR_ARG where a value leaves i32. */
RT_API rt_val rt_iota(rt_graph *g, rt_shape s, int64_t offset, const int64_t *coef);
/* Dropout by counter: f32 of shape s, each element 1/keep with probability keep in (0,1], else 0. counter i32[4] = (seed low,
 * high; step low, high), as bits: the mask is a pure function of counter, stream (below 2^16, one per layer) and place. Of M
 * networks counter is [M,4] and axis 0 of s is M equal blocks; block m is the mask that counter m gives on its own. No
 * gradient. */
RT_API rt_val rt_dropout_mask(rt_graph *g, rt_val counter, rt_shape s, double keep, int32_t stream);

/* --- elementwise ------------------------------------------------------------------------------------------------- */
RT_API rt_val rt_neg(rt_graph *g, rt_val x);
RT_API rt_val rt_exp(rt_graph *g, rt_val x);
RT_API rt_val rt_log(rt_graph *g, rt_val x);
RT_API rt_val rt_sqrt(rt_graph *g, rt_val x);
RT_API rt_val rt_recip(rt_graph *g, rt_val x);
RT_API rt_val rt_square(rt_graph *g, rt_val x);
RT_API rt_val rt_tanh(rt_graph *g, rt_val x);
RT_API rt_val rt_cos(rt_graph *g, rt_val x);
RT_API rt_val rt_sin(rt_graph *g, rt_val x);
RT_API rt_val rt_sigmoid(rt_graph *g, rt_val x);
RT_API rt_val rt_silu(rt_graph *g, rt_val x); /* x sigmoid(x), also called swish */
RT_API rt_val rt_erf(rt_graph *g, rt_val x);
RT_API rt_val rt_relu(rt_graph *g, rt_val x);
RT_API rt_val rt_step(rt_graph *g, rt_val x); /* x > 0 ? 1 : 0; its derivative is zero by definition */
RT_API rt_val rt_abs(rt_graph *g, rt_val x);
RT_API rt_val rt_sign(rt_graph *g, rt_val x);
RT_API rt_val rt_add(rt_graph *g, rt_val a, rt_val b);
RT_API rt_val rt_sub(rt_graph *g, rt_val a, rt_val b);
RT_API rt_val rt_mul(rt_graph *g, rt_val a, rt_val b);
RT_API rt_val rt_div(rt_graph *g, rt_val a, rt_val b);
RT_API rt_val rt_maximum(rt_graph *g, rt_val a, rt_val b);
RT_API rt_val rt_minimum(rt_graph *g, rt_val a, rt_val b);
RT_API rt_val rt_mul_scalar(rt_graph *g, rt_val a, double k);
RT_API rt_val rt_add_scalar(rt_graph *g, rt_val a, double k);
RT_API rt_val rt_stop_gradient(rt_graph *g, rt_val x);

/* --- reduce: axes is a bit mask (bit i = axis i) ------------------------------------------------------------------ */
RT_API rt_val rt_sum(rt_graph *g, rt_val x, uint32_t axes, bool keep_dims);
RT_API rt_val rt_mean(rt_graph *g, rt_val x, uint32_t axes, bool keep_dims);
RT_API rt_val rt_sum_all(rt_graph *g, rt_val x); /* rank 0 */
RT_API rt_val rt_mean_all(rt_graph *g, rt_val x);
RT_API rt_val rt_amax(rt_graph *g, rt_val x, uint32_t axes, bool keep_dims); /* no gradient: use for stable shifts */
RT_API rt_val rt_argmax(rt_graph *g, rt_val x);                              /* last axis -> i32; smallest index wins ties */
RT_API rt_val rt_dot(rt_graph *g, rt_val a, rt_val b);                       /* sum of products, rank 0 */

/* --- shape ------------------------------------------------------------------------------------------------------- */
RT_API rt_val rt_reshape(rt_graph *g, rt_val x, rt_shape s); /* dtype of s is ignored; one dim may be -1 */
RT_API rt_val rt_broadcast(rt_graph *g, rt_val x, rt_shape s);
RT_API rt_val rt_transpose(rt_graph *g, rt_val x, const int *perm); /* perm has rank(x) entries */
RT_API rt_val rt_slice(rt_graph *g, rt_val x, const int64_t *begin, const int64_t *end);
RT_API rt_val rt_pad(rt_graph *g, rt_val x, const int64_t *lo, const int64_t *hi); /* zeros; adjoint of slice */
RT_API rt_val rt_concat(rt_graph *g, const rt_val *x, int n, int axis);
/* 1-D helper for flat parameter vectors: elements [off, off + count(s)) of x viewed with shape s. Costs nothing. */
RT_API rt_val rt_view1d(rt_graph *g, rt_val x, int64_t off, rt_shape s);
/* The same for M vectors, x [M,P]: columns [off, off + count(s) / M) of every row, row after row in shape s. A copy if M > 1. */
RT_API rt_val rt_view2d(rt_graph *g, rt_val x, int64_t off, rt_shape s);

/* --- index (axis 0) ---------------------------------------------------------------------------------------------- */
RT_API rt_val rt_gather(rt_graph *g, rt_val x, rt_val idx);                     /* y[i] = x[idx[i]], idx i32[M] */
RT_API rt_val rt_scatter_add(rt_graph *g, rt_val gy, rt_val idx, int64_t rows); /* adjoint of gather */
RT_API rt_val rt_one_hot(rt_graph *g, rt_val idx, int64_t classes);             /* i32[M] -> f32[M,classes] */

/* --- linear algebra, convolution, pooling ------------------------------------------------------------------------- */
RT_API rt_val rt_matmul(rt_graph *g, rt_val a, rt_val b, bool ta, bool tb); /* [..,M,K] x [..,K,N]; equal batch dims */

/* nets: that many independent networks in one op (0 and 1: one). Axis 0 of x is nets equal blocks, and block m uses its own
 * weights: w[nets*K,C/groups,R,S], bias[nets*K], each network's K rows in turn. */
typedef struct rt_conv_attr {
    int32_t stride[2], pad[2], groups; /* symmetric zero padding; dilation 1 */
    int32_t nets;
} rt_conv_attr;
/* y[N,P,Q,K] = x[N,H,W,C] * w[K,C/groups,R,S] (+ bias[K] when bias is not none). */
RT_API rt_val rt_conv2d(rt_graph *g, rt_val x, rt_val w, rt_val bias, rt_conv_attr a);

typedef struct rt_pool_attr {
    int32_t size[2], stride[2], pad[2];
} rt_pool_attr;
RT_API rt_val rt_avg_pool(rt_graph *g, rt_val x, rt_pool_attr a); /* padding counts as zeros, divisor = size */
RT_API rt_val rt_max_pool(rt_graph *g, rt_val x, rt_pool_attr a); /* padding never wins; ties: first in scan order */

/* --- normalisation, losses (fused; they expand into primitives where another derivative follows) ------------------- */
typedef enum rt_norm_kind {
    RT_NORM_GROUP = 0, /* statistics per sample and group of channels; groups == C is instance norm, 1 is layer norm */
    RT_NORM_BATCH = 1  /* statistics per channel over N,H,W */
} rt_norm_kind;
typedef struct rt_norm_attr {
    int32_t kind, groups; /* groups is ignored by RT_NORM_BATCH */
    int32_t relu;         /* 1: y = relu(norm(x)) */
    int32_t pool;         /* 0 or 2: 2x2 stride-2 average pool after the (optional) relu; H and W even */
    int64_t nets;         /* as in rt_conv_attr: gamma, beta [nets*C]; batch statistics per network, [nets*C] */
    double eps;
} rt_norm_attr;
/* y = pool(relu(gamma * (x - mean) * rstd + beta)); biased variance. x[N,H,W,C]; gamma, beta [C].
 * mean/rstd: optional outs, [N,groups] (group) or [C] (batch); pass NULL when not wanted. */
RT_API rt_val rt_norm(rt_graph *g, rt_val x, rt_val gamma, rt_val beta, rt_norm_attr a, rt_val *mean, rt_val *rstd);

/* Mean and biased variance [groups,C] over all pixels of each of that many equal blocks of images of x [N,H,W,C]. */
RT_API void rt_moments(rt_graph *g, rt_val x, int64_t groups, rt_val *mean, rt_val *var);

RT_API rt_val rt_log_softmax(rt_graph *g, rt_val x);           /* last axis */
RT_API rt_val rt_softmax_ce(rt_graph *g, rt_val z, rt_val q);  /* z,q [B,C] -> per-sample -sum q log softmax(z), [B] */

/* --- differentiable views (linear or affine in x; the per-image parameters are data, without gradient) ------------- */
/* brightness, then saturation, then contrast, matching.md 2.4. p f32[N,3] = (b, s, k); identity is (0, 1, 1). */
RT_API rt_val rt_color(rt_graph *g, rt_val x, rt_val p);
/* y[n,i,j,:] = bilinear sample of x[n] at (row, col) = (a0*i + a1*j + a2, a3*i + a4*j + a5) in pixel units, zeros
 * outside. a f32[N,6]. Exactly-integer coordinates copy exactly. */
RT_API rt_val rt_affine_sample(rt_graph *g, rt_val x, rt_val a, int64_t h_out, int64_t w_out);
RT_API rt_val rt_affine_scatter(rt_graph *g, rt_val gy, rt_val a, int64_t h_in, int64_t w_in); /* its adjoint */
/* zero inside rows [b0,b1) and cols [b2,b3), clipped to the image; empty box = identity. box f32[N,4] */
RT_API rt_val rt_box_mask(rt_graph *g, rt_val x, rt_val box);
/* One view for all images of a block: box f32[G,8] = (row, column, height, width of the crop, flip, shift of rows, shift of
 * columns, spare) for each of G equal blocks of x [N,H,W,C]. The crop is resized to h x w bilinearly without antialiasing (as
 * PyTorch's interpolate), mirrored, shifted circularly: [N,h,w,C]. */
enum { RT_CROP_BOX = 8 };
RT_API rt_val rt_crop_view(rt_graph *g, rt_val x, rt_val box, int64_t h, int64_t w);

/* --- optimisers over the flat parameter vector (each is one pass; expands into primitives) ------------------------- */
/* PyTorch SGD: g += decay*theta; v' = momentum*v + g; theta' = theta - lr*(nesterov ? g + momentum*v' : v').
 * theta,v,grad [P], or any one shape, e.g. [M,P]; lr rank 0; decay rank 0 or as theta (mask * weight decay). */
RT_API rt_val rt_sgd_step(rt_graph *g, rt_val theta, rt_val v, rt_val grad, rt_val lr, rt_val decay, double momentum,
                          bool nesterov, rt_val *v_new);
typedef struct rt_adam_attr {
    double beta1, beta2, eps;
    int32_t decoupled; /* 1: AdamW, 0: Adam (decay added to the gradient) */
} rt_adam_attr;
/* hyper f32[3] = (lr, 1 - beta1^t, 1 - beta2^t), computed by the caller per step. */
RT_API rt_val rt_adam_step(rt_graph *g, rt_val theta, rt_val m, rt_val v, rt_val grad, rt_val hyper, rt_val decay,
                           rt_adam_attr a, rt_val *m_new, rt_val *v_new);

/* --- differentiation --------------------------------------------------------------------------------------------- */
/* Appends nodes computing d y / d wrt[i], y of rank 0. A wrt that y does not depend on gives zeros of its shape. */
RT_API rt_status rt_grad(rt_graph *g, rt_val y, const rt_val *wrt, int n, rt_val *out);
/* General form: sum_k <gy[k], d y[k] / d wrt[i]>. */
RT_API rt_status rt_vjp(rt_graph *g, const rt_val *y, const rt_val *gy, int n_y, const rt_val *wrt, int n, rt_val *out);
/* Forward mode: out[i] = sum_k (d y[i] / d wrt[k]) v[k]; v[k] has the shape of wrt[k]. With y the gradient of a loss and wrt
 * its parameters this is H v, and K v for a gradient with respect to images (src/graph/jvp.c). */
RT_API rt_status rt_jvp(rt_graph *g, const rt_val *y, int n_y, const rt_val *wrt, const rt_val *v, int n, rt_val *out);

#ifdef __cplusplus
}
#endif
#endif
