/* What norm.c and norm_tangent.c share: shapes, the pieces of an expansion, and where an element's statistic is. */
#ifndef RT_OPS_NORM_H
#define RT_OPS_NORM_H

#include "ops/attrs.h"
#include "ops/check.h"

extern const rt_pool_attr rt_norm_half; /* 2x2 stride 2 */

/* x, gamma, beta and the attributes fit together. */
rt_status rt_norm_check(const rt_node *n);
rt_shape rt_norm_y_shape(const rt_norm_attr *a, const rt_shape *x);
rt_shape rt_norm_stat_shape(const rt_norm_attr *a, const rt_shape *x);

/* --- expansion ---------------------------------------------------------------------------------------------------- */
/* x seen so that the elements of one statistic are whole axes: [N,H,W,G,C/G] over 1,2,4, or [N,H,W,C] over 0,1,2; and x
 * seen so that gamma and beta broadcast to it. With networks M > 1 those are [M,N/M,H,W,C] and [M,1,1,1,C]. */
typedef struct rt_norm_view {
    rt_shape shape, image; /* of one statistic's view, and [N,H,W,C] */
    uint32_t axes;
    rt_shape affine, channel; /* of the view that gamma broadcasts to, and of gamma there */
    uint32_t per_channel;     /* axes of affine that gamma's gradient sums over */
} rt_norm_view;

rt_norm_view rt_norm_view_of(const rt_norm_attr *a, const rt_shape *x);

typedef struct rt_norm_parts {
    rt_val mean, rstd; /* kept dims of the view */
    rt_val gamma;      /* as the affine view wants it */
    rt_val xhat, pre;  /* of the affine view */
} rt_norm_parts;

/* Of a node whose first inputs are x, gamma, beta. */
rt_norm_parts rt_norm_expand_parts(rt_graph *g, const rt_node *n, const rt_norm_view *v);
/* The gradient at pre, in the affine view, from gy: unpooled and masked. */
rt_val rt_norm_at_pre(rt_graph *g, const rt_norm_attr *a, const rt_norm_view *v, const rt_norm_parts *p, rt_val gy);
void rt_norm_print(const rt_node *n, char *buf, size_t len);

/* --- definition --------------------------------------------------------------------------------------------------- */
/* Where gamma and beta of element (image, channel) are. */
int64_t rt_norm_affine_at(const rt_norm_attr *a, const rt_shape *x, int64_t image, int64_t c);
/* Statistic of element (image, channel), and how many elements share one. */
int64_t rt_norm_stat_at(const rt_norm_attr *a, const rt_shape *x, int64_t image, int64_t c);
int64_t rt_norm_per_stat(const rt_norm_attr *a, const rt_shape *x);
int64_t rt_norm_half_index(const rt_shape *x, int64_t image, int64_t h, int64_t w, int64_t c);

/* Visits every element of an [N,H,W,C] image as i with image n_, position h_, w_ and channel c_. */
#define RT_IMAGE_FOR_EACH(x, i)                                                                                           \
    for (int64_t i = 0, n_ = 0; n_ < (x)->d[0]; n_++)                                                                  \
        for (int64_t h_ = 0; h_ < (x)->d[1]; h_++)                                                                     \
            for (int64_t w_ = 0; w_ < (x)->d[2]; w_++)                                                                 \
                for (int64_t c_ = 0; c_ < (x)->d[3]; c_++, i++)

/* --- second order (norm_tangent.c) -------------------------------------------------------------------------------- */
/* Tangent of y along (tx, tgamma, tbeta); n is a norm or norm_dx node. Each may be none, not all. */
rt_val rt_norm_tangent(rt_graph *g, const rt_node *n, rt_val tx, rt_val tgamma, rt_val tbeta);
/* Tangents of norm_dx's outputs (gx, ggamma, gbeta) along (tx, tgamma, tgy); n is a norm_dx node. Each may be none. */
rt_val rt_norm_dx_tangent(rt_graph *g, const rt_node *n, rt_val tx, rt_val tgamma, rt_val tgy);

#endif
