/* Gradient distances. The definitions are in gradient_distance.h.
 *
 * The square roots carry 1e-30 inside: at a row of zeros (an image without contrast, a dead channel) sqrt has no derivative,
 * and the limit wanted there is u = -r / n (matching.md 3.3). Norms that are not zero are far above 1e-15, so no value
 * changes. The published 1e-6 stays outside, where it damps rows whose norms are near 1e-3. */
#include "methods/distill/gradient_distance.h"

static const double published_eps = 1e-6, sqrt_floor = 1e-30;

bool rt_distance_includes(rt_distance d, const rt_param *p)
{
    switch (d) {
    case RT_DISTANCE_COSINE: return p->shape.rank >= 2;
    case RT_DISTANCE_CONV_L2:
    case RT_DISTANCE_CONV_L1: return p->shape.rank == 4;
    default: return true;
    }
}

int32_t rt_distance_tensors(rt_distance d, const rt_model *m, int32_t *index)
{
    int32_t n = 0;
    for (int32_t i = 0; i < rt_model_param_count(m); i++)
        if (rt_distance_includes(d, rt_model_param(m, i))) index[n++] = i;
    return n;
}

/* x as [classes, rows, rest]; rows 1: everything of a class is one row. */
static rt_val as_rows(rt_graph *g, rt_val x, bool one_row)
{
    const rt_shape *s = rt_val_shape(g, x);
    if (!s || s->rank < 2) return rt_reshape(g, x, RT_SHAPE(RT_F32, -1, 1, 1)); /* the graph holds the error */
    int64_t rows = one_row ? 1 : s->d[1];
    return rt_reshape(g, x, RT_SHAPE(RT_F32, s->d[0], rows, rt_shape_count(s) / (s->d[0] * rows)));
}

static rt_val along(rt_graph *g, rt_val a, rt_val b)
{
    return rt_sum(g, rt_mul(g, a, b), 1u << 2, false);
}

static rt_val root(rt_graph *g, rt_val x)
{
    return rt_sqrt(g, rt_add_scalar(g, x, sqrt_floor));
}

/* 1 - <r,s> / (|r| |s| + eps) from the three inner products. */
static rt_val one_minus_cosine(rt_graph *g, rt_val rs, rt_val rr, rt_val ss)
{
    rt_val n = rt_add_scalar(g, rt_mul(g, root(g, rr), root(g, ss)), published_eps);
    return rt_add_scalar(g, rt_neg(g, rt_div(g, rs, n)), 1.0);
}

static rt_val tensor_term(rt_graph *g, rt_distance d, rt_val r, rt_val s)
{
    if (d == RT_DISTANCE_COSINE) {
        r = as_rows(g, r, false);
        s = as_rows(g, s, false);
        return rt_sum(g, one_minus_cosine(g, along(g, r, s), along(g, r, r), along(g, s, s)), 1u << 1, false);
    }
    rt_val apart = as_rows(g, rt_sub(g, s, r), true);
    return rt_sum(g, d == RT_DISTANCE_CONV_L1 ? rt_abs(g, apart) : rt_square(g, apart), 1u << 1 | 1u << 2, false);
}

rt_val rt_gradient_distance(rt_graph *g, rt_distance d, const rt_val *r, const rt_val *s, int32_t n)
{
    rt_val total = {0}, rs = {0}, rr = {0}, ss = {0};
    for (int32_t k = 0; k < n; k++) {
        rt_val fixed = rt_stop_gradient(g, r[k]);
        if (d != RT_DISTANCE_COS) {
            rt_val term = tensor_term(g, d, fixed, s[k]);
            total = k ? rt_add(g, total, term) : term;
            continue;
        }
        rt_val a = as_rows(g, fixed, true), b = as_rows(g, s[k], true);
        rs = k ? rt_add(g, rs, along(g, a, b)) : along(g, a, b);
        rr = k ? rt_add(g, rr, along(g, a, a)) : along(g, a, a);
        ss = k ? rt_add(g, ss, along(g, b, b)) : along(g, b, b);
    }
    return d == RT_DISTANCE_COS ? rt_sum(g, one_minus_cosine(g, rs, rr, ss), 1u << 1, false) : total;
}
