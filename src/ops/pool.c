/* Pooling: two linear pairs, each the other's adjoint.
 *
 *     avg_pool (x) <-> avg_pool_dx (gy)                  padding counts as zeros, the divisor is the window's size
 *     max_pool_dx (gy, index) <-> pool_gather (gx, index)
 *
 * max_pool itself returns (y, index) and is linear once the index is fixed, which is its derivative wherever it has
 * one. Windows may overlap. Padding never wins a maximum; among equals the first in scan order wins; a NaN wins.
 *
 * x [N,H,W,C], y and index [N,P,Q,C]; index = h*W + w within the image and channel. */
#include "ops/attrs.h"
#include "ops/check.h"

#include <stdio.h>
#include <string.h>

/* --- shapes ------------------------------------------------------------------------------------------------------- */

static rt_status y_shape(const rt_node *n, const rt_pool_attr *a, const int64_t x[4], rt_shape *y)
{
    int64_t out[2];
    for (int k = 0; k < 2; k++) {
        if (a->size[k] < 1 || a->stride[k] < 1) return rt_op_misuse(n, "size and stride must be at least 1");
        if (a->pad[k] < 0 || a->pad[k] >= a->size[k])
            return rt_op_misuse(n, "padding must be smaller than the window, or a window would see nothing else");
        int64_t room = x[1 + k] + 2 * (int64_t)a->pad[k] - a->size[k];
        if (room < 0) return rt_op_misuse(n, "the window is larger than the padded image");
        out[k] = room / a->stride[k] + 1;
    }
    *y = RT_SHAPE(RT_F32, x[0], out[0], out[1], x[3]);
    return RT_OK;
}

static rt_status pool_infer(rt_node *n)
{
    rt_status st = RT_OK;
    RT_TRY(rt_op_want(n, 0, RT_F32, 4));
    RT_TRY(y_shape(n, n->attr, n->in_shape[0].d, &n->out_shape[0]));
    if (n->op == RT_OP_MAX_POOL) {
        if (n->in_shape[0].d[1] * n->in_shape[0].d[2] > INT32_MAX) {
            st = rt_op_misuse(n, "an image of this size cannot be indexed by i32");
            goto out;
        }
        n->out_shape[1] = n->out_shape[0];
        n->out_shape[1].dtype = RT_I32;
    }
out:
    return st;
}

/* avg_pool_dx and max_pool_dx: gy [N,P,Q,C] must be what an image of h x w pools to. */
static rt_status pool_dx_infer(rt_node *n)
{
    rt_status st = RT_OK;
    const rt_pool_dx_attr *a = n->attr;
    RT_TRY(rt_op_want(n, 0, RT_F32, 4));
    const int64_t x[4] = {n->in_shape[0].d[0], a->h, a->w, n->in_shape[0].d[3]};
    rt_shape y;
    RT_TRY(y_shape(n, &a->pool, x, &y));
    RT_TRY(rt_op_want_shape(n, 0, &y));
    if (n->op == RT_OP_MAX_POOL_DX) {
        y.dtype = RT_I32;
        RT_TRY(rt_op_want_shape(n, 1, &y));
    }
    n->out_shape[0] = rt_shape_make(RT_F32, 4, x);
out:
    return st;
}

static rt_status pool_gather_infer(rt_node *n)
{
    rt_status st = RT_OK;
    const rt_pool_dx_attr *a = n->attr;
    RT_TRY(rt_op_want(n, 0, RT_F32, 4));
    if (a->h != n->in_shape[0].d[1] || a->w != n->in_shape[0].d[2]) {
        st = rt_op_misuse(n, "attributes say %lld x %lld", (long long)a->h, (long long)a->w);
        goto out;
    }
    rt_shape y;
    RT_TRY(y_shape(n, &a->pool, n->in_shape[0].d, &y));
    n->out_shape[0] = y;
    y.dtype = RT_I32;
    RT_TRY(rt_op_want_shape(n, 1, &y));
out:
    return st;
}

/* --- constructors and derivatives --------------------------------------------------------------------------------- */

rt_val rt_avg_pool(rt_graph *g, rt_val x, rt_pool_attr a)
{
    return rt_graph_append(g, RT_OP_AVG_POOL, &x, 1, &a, sizeof a);
}

rt_val rt_max_pool(rt_graph *g, rt_val x, rt_pool_attr a)
{
    return rt_graph_append(g, RT_OP_MAX_POOL, &x, 1, &a, sizeof a);
}

static void avg_pool_vjp(rt_graph *g, const rt_node *n, const rt_val *gy, rt_val *gx)
{
    rt_pool_dx_attr a = {.h = n->in_shape[0].d[1], .w = n->in_shape[0].d[2]};
    memcpy(&a.pool, n->attr, sizeof a.pool);
    gx[0] = rt_graph_append(g, RT_OP_AVG_POOL_DX, gy, 1, &a, sizeof a);
}

static void avg_pool_dx_vjp(rt_graph *g, const rt_node *n, const rt_val *gy, rt_val *gx)
{
    gx[0] = rt_avg_pool(g, gy[0], ((const rt_pool_dx_attr *)n->attr)->pool);
}

static void max_pool_vjp(rt_graph *g, const rt_node *n, const rt_val *gy, rt_val *gx)
{
    rt_pool_dx_attr a = {.h = n->in_shape[0].d[1], .w = n->in_shape[0].d[2]};
    memcpy(&a.pool, n->attr, sizeof a.pool);
    rt_val index = {n->first_out + 1};
    gx[0] = rt_graph_append(g, RT_OP_MAX_POOL_DX, (rt_val[]){gy[0], index}, 2, &a, sizeof a);
}

static void max_pool_dx_vjp(rt_graph *g, const rt_node *n, const rt_val *gy, rt_val *gx)
{
    gx[0] = rt_graph_append(g, RT_OP_POOL_GATHER, (rt_val[]){gy[0], n->in[1]}, 2, n->attr, sizeof(rt_pool_dx_attr));
    gx[1] = (rt_val){0};
}

static void pool_gather_vjp(rt_graph *g, const rt_node *n, const rt_val *gy, rt_val *gx)
{
    gx[0] = rt_graph_append(g, RT_OP_MAX_POOL_DX, (rt_val[]){gy[0], n->in[1]}, 2, n->attr, sizeof(rt_pool_dx_attr));
    gx[1] = (rt_val){0};
}

/* --- definition --------------------------------------------------------------------------------------------------- */

typedef struct pool_window {
    int64_t h0, h1, w0, w1; /* the part of the window inside the image */
} pool_window;

static pool_window window_of(const rt_pool_attr *a, int64_t h, int64_t w, int64_t p, int64_t q)
{
    pool_window v = {.h0 = p * a->stride[0] - a->pad[0], .w0 = q * a->stride[1] - a->pad[1]};
    v.h1 = v.h0 + a->size[0] < h ? v.h0 + a->size[0] : h;
    v.w1 = v.w0 + a->size[1] < w ? v.w0 + a->size[1] : w;
    v.h0 = v.h0 > 0 ? v.h0 : 0;
    v.w0 = v.w0 > 0 ? v.w0 : 0;
    return v;
}

/* Visits every y element as iy with its image n_, channel c_ and window v. */
#define POOL_FOR_EACH(y, attr, h, w, iy, v)                                                                            \
    for (int64_t iy = 0, n_ = 0; n_ < (y)->d[0]; n_++)                                                                 \
        for (int64_t p_ = 0; p_ < (y)->d[1]; p_++)                                                                     \
            for (int64_t q_ = 0; q_ < (y)->d[2]; q_++)                                                                 \
                for (int64_t c_ = 0; c_ < (y)->d[3]; c_++, iy++)                                                       \
                    for (pool_window v = window_of((attr), (h), (w), p_, q_), *once_ = &v; once_; once_ = NULL)

static rt_status avg_pool_ref(const rt_node *n, const rt_ref_io *io)
{
    const rt_pool_attr *a = n->attr;
    const rt_shape *xs = &n->in_shape[0];
    const double *x = io->in[0];
    double *y = io->out[0];
    POOL_FOR_EACH(&n->out_shape[0], a, xs->d[1], xs->d[2], iy, v)
    {
        double sum = 0;
        for (int64_t i = v.h0; i < v.h1; i++)
            for (int64_t j = v.w0; j < v.w1; j++) sum += x[((n_ * xs->d[1] + i) * xs->d[2] + j) * xs->d[3] + c_];
        y[iy] = sum / (a->size[0] * a->size[1]);
    }
    return RT_OK;
}

static rt_status avg_pool_dx_ref(const rt_node *n, const rt_ref_io *io)
{
    const rt_pool_dx_attr *a = n->attr;
    const double *gy = io->in[0];
    double *gx = io->out[0];
    memset(gx, 0, (size_t)rt_shape_count(&n->out_shape[0]) * sizeof *gx);
    POOL_FOR_EACH(&n->in_shape[0], &a->pool, a->h, a->w, iy, v)
    {
        double share = gy[iy] / (a->pool.size[0] * a->pool.size[1]);
        for (int64_t i = v.h0; i < v.h1; i++)
            for (int64_t j = v.w0; j < v.w1; j++) gx[((n_ * a->h + i) * a->w + j) * n->in_shape[0].d[3] + c_] += share;
    }
    return RT_OK;
}

static rt_status max_pool_ref(const rt_node *n, const rt_ref_io *io)
{
    const rt_shape *xs = &n->in_shape[0];
    const double *x = io->in[0];
    double *y = io->out[0];
    int32_t *index = io->out[1];
    POOL_FOR_EACH(&n->out_shape[0], n->attr, xs->d[1], xs->d[2], iy, v)
    {
        double best = 0;
        int64_t where = -1;
        for (int64_t i = v.h0; i < v.h1; i++)
            for (int64_t j = v.w0; j < v.w1; j++) {
                double t = x[((n_ * xs->d[1] + i) * xs->d[2] + j) * xs->d[3] + c_];
                if (where < 0 || t > best || (t != t && best == best)) {
                    best = t;
                    where = i * xs->d[2] + j;
                }
            }
        y[iy] = best;
        index[iy] = (int32_t)where;
    }
    return RT_OK;
}

/* Position in the image of the winner of y element iy, or an error: the index is data. */
static rt_status winner_at(const rt_node *n, const int32_t *index, int64_t iy, const rt_shape *y, int64_t hw,
                           int64_t *at)
{
    if (index[iy] < 0 || index[iy] >= hw)
        return rt_op_misuse(n, "index %d at element %lld is outside the image", index[iy], (long long)iy);
    int64_t c = iy % y->d[3], img = iy / (y->d[1] * y->d[2] * y->d[3]);
    *at = (img * hw + index[iy]) * y->d[3] + c;
    return RT_OK;
}

static rt_status max_pool_dx_ref(const rt_node *n, const rt_ref_io *io)
{
    rt_status st = RT_OK;
    const rt_pool_dx_attr *a = n->attr;
    const double *gy = io->in[0];
    double *gx = io->out[0];
    memset(gx, 0, (size_t)rt_shape_count(&n->out_shape[0]) * sizeof *gx);
    for (int64_t iy = 0, at = 0; iy < rt_shape_count(&n->in_shape[0]); iy++) {
        RT_TRY(winner_at(n, io->in[1], iy, &n->in_shape[0], a->h * a->w, &at));
        gx[at] += gy[iy];
    }
out:
    return st;
}

static rt_status pool_gather_ref(const rt_node *n, const rt_ref_io *io)
{
    rt_status st = RT_OK;
    const rt_pool_dx_attr *a = n->attr;
    const double *x = io->in[0];
    double *y = io->out[0];
    for (int64_t iy = 0, at = 0; iy < rt_shape_count(&n->out_shape[0]); iy++) {
        RT_TRY(winner_at(n, io->in[1], iy, &n->out_shape[0], a->h * a->w, &at));
        y[iy] = x[at];
    }
out:
    return st;
}

/* --- cost and text ------------------------------------------------------------------------------------------------ */

static rt_cost pool_cost(const rt_node *n)
{
    const rt_pool_attr *a = n->attr;
    return rt_op_streaming_cost(n, (double)a->size[0] * a->size[1]);
}

static rt_cost pool_dx_cost(const rt_node *n)
{
    const rt_pool_dx_attr *a = n->attr;
    double per = n->op == RT_OP_AVG_POOL_DX ? (double)a->pool.size[0] * a->pool.size[1] : 1;
    return (rt_cost){.flops = per * (double)rt_shape_count(&n->in_shape[0]), .bytes = rt_op_bytes(n)};
}

static rt_cost pool_gather_cost(const rt_node *n) /* reads the winners, not the image */
{
    return (rt_cost){.flops = 0, .bytes = 12.0 * (double)rt_shape_count(&n->out_shape[0])};
}

static void pool_print(const rt_node *n, char *buf, size_t len)
{
    const rt_pool_attr *a = n->attr; /* rt_pool_dx_attr begins with one */
    char more[64] = "";
    if (n->op != RT_OP_AVG_POOL && n->op != RT_OP_MAX_POOL) {
        const rt_pool_dx_attr *d = n->attr;
        snprintf(more, sizeof more, " x=%lldx%lld", (long long)d->h, (long long)d->w);
    }
    snprintf(buf, len, "size=%dx%d stride=%dx%d pad=%dx%d%s", a->size[0], a->size[1], a->stride[0], a->stride[1],
             a->pad[0], a->pad[1], more);
}

const rt_op_row rt_row_avg_pool = {
    .name = "avg_pool", .n_in = 1, .n_out = 1, .flags = RT_ROW_LINEAR, .attr_bytes = sizeof(rt_pool_attr),
    .infer = pool_infer, .vjp = avg_pool_vjp, .ref = avg_pool_ref, .cost = pool_cost, .print_attr = pool_print,
};
const rt_op_row rt_row_avg_pool_dx = {
    .name = "avg_pool_dx", .n_in = 1, .n_out = 1, .flags = RT_ROW_LINEAR, .attr_bytes = sizeof(rt_pool_dx_attr),
    .infer = pool_dx_infer, .vjp = avg_pool_dx_vjp, .ref = avg_pool_dx_ref, .cost = pool_dx_cost,
    .print_attr = pool_print,
};
const rt_op_row rt_row_max_pool = {
    .name = "max_pool", .n_in = 1, .n_out = 2, .attr_bytes = sizeof(rt_pool_attr), .infer = pool_infer,
    .vjp = max_pool_vjp, .ref = max_pool_ref, .cost = pool_cost, .print_attr = pool_print,
};
const rt_op_row rt_row_max_pool_dx = {
    .name = "max_pool_dx", .n_in = 2, .n_out = 1, .flags = RT_ROW_LINEAR, .no_grad_in = 1u << 1,
    .attr_bytes = sizeof(rt_pool_dx_attr), .infer = pool_dx_infer, .vjp = max_pool_dx_vjp, .ref = max_pool_dx_ref,
    .cost = pool_dx_cost, .print_attr = pool_print,
};
const rt_op_row rt_row_pool_gather = {
    .name = "pool_gather", .n_in = 2, .n_out = 1, .flags = RT_ROW_LINEAR, .no_grad_in = 1u << 1,
    .attr_bytes = sizeof(rt_pool_dx_attr), .infer = pool_gather_infer, .vjp = pool_gather_vjp, .ref = pool_gather_ref,
    .cost = pool_gather_cost, .print_attr = pool_print,
};
