/* Reductions. sum is linear, its adjoint is broadcast; amax and argmax are piecewise constant choices and carry no
 * gradient: they serve stable shifts (log-sum-exp) and predictions.
 *
 * Reference order: one running double per output element, inputs in storage order. */
#include <math.h>
#include <string.h>

#include "ops/attr.h"
#include "ops/util.h"

static const rt_reduce_attr *attr_of(const rt_node *n) { return n->attr; }

static rt_status reduce_infer(rt_node *n)
{
    char b[RT_SHAPE_STR];
    const rt_shape *x = &n->in_shape[0];
    rt_shape *y = &n->out_shape[0];
    uint32_t axes = attr_of(n)->axes;
    rt_status st = rt_need_dtype(n, 0, RT_F32);
    if (st != RT_OK) return st;
    if (axes >> x->rank)
        return RT_RAISE(RT_ERR_ARG, "%s: axes mask 0x%x names an axis that %s does not have", rt_op_name(n->op),
                        (unsigned)axes, rt_shape_str(x, b, sizeof b));
    *y = rt_shape_make(x->dtype, 0, NULL);
    for (int i = 0; i < x->rank; i++) {
        bool reduced = axes >> i & 1;
        if (reduced && x->d[i] == 0 && n->op == RT_OP_AMAX)
            return RT_RAISE(RT_ERR_ARG, "amax: axis %d of %s is empty", i, rt_shape_str(x, b, sizeof b));
        if (!reduced) y->d[y->rank++] = x->d[i];
        if (reduced && attr_of(n)->keep) y->d[y->rank++] = 1;
    }
    return RT_OK;
}

static void reduce_print(const rt_node *n, char *buf, size_t len)
{
    snprintf(buf, len, "axes=0x%x%s", (unsigned)attr_of(n)->axes, attr_of(n)->keep ? " keep" : "");
}

/* Walks x in storage order; out index by strides that are 0 on reduced axes. */
static void reduce_loop(const rt_node *n, const double *x, double *y, bool max)
{
    const rt_shape *s = &n->in_shape[0];
    int64_t count = rt_shape_count(s), n_out = rt_shape_count(&n->out_shape[0]);
    int64_t stride[RT_MAX_RANK] = {0}, at[RT_MAX_RANK] = {0}, o = 0, step = 1;
    for (int i = s->rank - 1; i >= 0; i--)
        if (!(attr_of(n)->axes >> i & 1)) {
            stride[i] = step;
            step *= s->d[i];
        }
    for (int64_t i = 0; i < n_out; i++) y[i] = max ? -HUGE_VAL : 0.0;
    for (int64_t i = 0; i < count; i++) {
        if (!max)
            y[o] += x[i];
        else if (x[i] > y[o] || x[i] != x[i]) /* NaN wins and stays */
            y[o] = x[i];
        for (int k = s->rank - 1; k >= 0; k--) {
            o += stride[k];
            if (++at[k] < s->d[k]) break;
            o -= stride[k] * s->d[k];
            at[k] = 0;
        }
    }
}

static rt_cost reduce_cost(const rt_node *n)
{
    rt_cost c = rt_cost_move(n);
    c.flops = (double)rt_shape_count(&n->in_shape[0]);
    return c;
}

static rt_val append_reduce(rt_graph *g, rt_op op, rt_val x, uint32_t axes, bool keep)
{
    rt_reduce_attr a = {.axes = axes, .keep = keep};
    return rt_graph_append(g, op, &x, 1, &a, sizeof a);
}

/* The shape of x with the axes of the mask set to 1. */
static rt_shape kept_shape(const rt_shape *x, uint32_t axes)
{
    rt_shape s = *x;
    for (int i = 0; i < s.rank; i++)
        if (axes >> i & 1) s.d[i] = 1;
    return s;
}

/* --- sum --------------------------------------------------------------------------------------------------------- */
static rt_status sum_ref(const rt_node *n, const rt_ref_io *io)
{
    reduce_loop(n, io->in[0], io->out[0], false);
    return RT_OK;
}

static void sum_vjp(rt_graph *g, const rt_node *n, const rt_val *gy, rt_val *gx)
{
    gx[0] = rt_broadcast(g, rt_reshape(g, gy[0], kept_shape(&n->in_shape[0], attr_of(n)->axes)), n->in_shape[0]);
}

const rt_op_row rt_row_sum = {.name = "sum",
                              .n_in = 1,
                              .n_out = 1,
                              .flags = RT_ROW_LINEAR,
                              .attr_bytes = sizeof(rt_reduce_attr),
                              .infer = reduce_infer,
                              .vjp = sum_vjp,
                              .ref = sum_ref,
                              .cost = reduce_cost,
                              .print_attr = reduce_print};

rt_val rt_sum(rt_graph *g, rt_val x, uint32_t axes, bool keep_dims)
{
    const rt_shape *s = rt_val_shape(g, x);
    if (!s) return rt_graph_none(g, RT_OP_SUM);
    rt_shape kept = kept_shape(s, axes);
    if (axes == 0) return x;
    if (s->dtype == RT_F32 && !(axes >> s->rank) && rt_shape_eq(s, &kept)) { /* sums of one element: a view */
        rt_shape r = rt_shape_make(s->dtype, 0, NULL);
        for (int i = 0; i < s->rank; i++)
            if (keep_dims || !(axes >> i & 1)) r.d[r.rank++] = s->d[i];
        return rt_reshape(g, x, r);
    }
    return append_reduce(g, RT_OP_SUM, x, axes, keep_dims);
}

rt_val rt_mean(rt_graph *g, rt_val x, uint32_t axes, bool keep_dims)
{
    const rt_shape *s = rt_val_shape(g, x);
    double n = 1;
    if (!s) return rt_graph_none(g, RT_OP_SUM);
    for (int i = 0; i < s->rank; i++)
        if (axes >> i & 1) n *= (double)s->d[i];
    if (n == 0) {
        char b[RT_SHAPE_STR];
        return rt_graph_fail(g, RT_RAISE(RT_ERR_ARG, "mean: no elements along the axes 0x%x of %s", (unsigned)axes,
                                         rt_shape_str(s, b, sizeof b)));
    }
    return rt_mul_scalar(g, rt_sum(g, x, axes, keep_dims), 1.0 / n);
}

static uint32_t all_axes(const rt_graph *g, rt_val x)
{
    const rt_shape *s = rt_val_shape(g, x);
    return s ? (1u << s->rank) - 1u : 0;
}

rt_val rt_sum_all(rt_graph *g, rt_val x) { return rt_sum(g, x, all_axes(g, x), false); }
rt_val rt_mean_all(rt_graph *g, rt_val x) { return rt_mean(g, x, all_axes(g, x), false); }
rt_val rt_dot(rt_graph *g, rt_val a, rt_val b) { return rt_sum_all(g, rt_mul(g, a, b)); }

rt_val rt_sum_to(rt_graph *g, rt_val v, const rt_shape *s)
{
    const rt_shape *from = rt_val_shape(g, v);
    uint32_t axes = 0;
    if (!from) return rt_graph_none(g, RT_OP_SUM);
    if (rt_shape_eq(from, s)) return v;
    int lead = from->rank - s->rank;
    for (int i = 0; i < from->rank; i++)
        if (i < lead || (s->d[i - lead] == 1 && from->d[i] != 1)) axes |= 1u << i;
    return rt_reshape(g, rt_sum(g, v, axes, false), *s);
}

/* --- amax -------------------------------------------------------------------------------------------------------- */
static rt_status amax_ref(const rt_node *n, const rt_ref_io *io)
{
    reduce_loop(n, io->in[0], io->out[0], true);
    return RT_OK;
}

const rt_op_row rt_row_amax = {.name = "amax",
                               .n_in = 1,
                               .n_out = 1,
                               .no_grad_in = 1,
                               .attr_bytes = sizeof(rt_reduce_attr),
                               .infer = reduce_infer,
                               .vjp = rt_vjp_none,
                               .ref = amax_ref,
                               .cost = reduce_cost,
                               .print_attr = reduce_print};

rt_val rt_amax(rt_graph *g, rt_val x, uint32_t axes, bool keep_dims)
{
    return axes == 0 ? rt_stop_gradient(g, x) : append_reduce(g, RT_OP_AMAX, x, axes, keep_dims);
}

/* --- argmax ------------------------------------------------------------------------------------------------------ */
static rt_status argmax_infer(rt_node *n)
{
    char b[RT_SHAPE_STR];
    rt_status st = RT_OK;
    const rt_shape *x = &n->in_shape[0];
    RT_TRY(rt_need_dtype(n, 0, RT_F32));
    RT_TRY(rt_need_rank(n, 0, 1, RT_MAX_RANK));
    if (x->d[x->rank - 1] == 0 || x->d[x->rank - 1] > INT32_MAX) {
        st = RT_RAISE(RT_ERR_ARG, "argmax: the last axis of %s must hold 1..2^31-1 elements",
                      rt_shape_str(x, b, sizeof b));
        goto out;
    }
    n->out_shape[0] = rt_shape_make(RT_I32, x->rank - 1, x->d);
out:
    return st;
}

static rt_status argmax_ref(const rt_node *n, const rt_ref_io *io)
{
    const double *x = io->in[0];
    int32_t *y = io->out[0];
    const rt_shape *s = &n->in_shape[0];
    int64_t rows = rt_shape_count(&n->out_shape[0]), cols = s->d[s->rank - 1];
    for (int64_t r = 0; r < rows; r++) {
        int64_t best = 0;
        for (int64_t c = 1; c < cols; c++)
            if (x[r * cols + c] > x[r * cols + best]) best = c;
        y[r] = (int32_t)best;
    }
    return RT_OK;
}

const rt_op_row rt_row_argmax = {.name = "argmax",
                                 .n_in = 1,
                                 .n_out = 1,
                                 .no_grad_in = 1,
                                 .infer = argmax_infer,
                                 .vjp = rt_vjp_none,
                                 .ref = argmax_ref,
                                 .cost = reduce_cost};

rt_val rt_argmax(rt_graph *g, rt_val x) { return rt_graph_append(g, RT_OP_ARGMAX, &x, 1, NULL, 0); }
