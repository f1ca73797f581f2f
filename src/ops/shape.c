/* Movement: reshape, broadcast, transpose, slice, pad, concat, and stop_gradient. No arithmetic, any dtype.
 *
 * Adjoint pairs: broadcast and sum, slice and pad, concat and slices, transpose and its inverse, reshape and itself.
 * reshape, stop_gradient and slices that stay contiguous are views: rt_node_view says so and where they start. */
#include <string.h>

#include "ops/attr.h"
#include "ops/util.h"

/* Copies elements from in (walked by in_stride over shape s, from in_off) to out (by out_stride, from out_off). */
static void copy_loop(const rt_shape *s, const void *in, int64_t in_off, const int64_t *in_stride, void *out,
                      int64_t out_off, const int64_t *out_stride)
{
    int64_t count = rt_shape_count(s), at[RT_MAX_RANK] = {0}, i = in_off, o = out_off;
    for (int64_t e = 0; e < count; e++) {
        if (s->dtype == RT_F32)
            ((double *)out)[o] = ((const double *)in)[i];
        else
            ((int32_t *)out)[o] = ((const int32_t *)in)[i];
        for (int k = s->rank - 1; k >= 0; k--) {
            i += in_stride[k];
            o += out_stride[k];
            if (++at[k] < s->d[k]) break;
            i -= in_stride[k] * s->d[k];
            o -= out_stride[k] * s->d[k];
            at[k] = 0;
        }
    }
}

static rt_status copy_ref(const rt_node *n, const rt_ref_io *io)
{
    size_t bytes = (size_t)rt_shape_count(&n->out_shape[0]) * rt_ref_elem_bytes(n->out_shape[0].dtype);
    if (bytes) memmove(io->out[0], io->in[0], bytes);
    return RT_OK;
}

static void shape_print(const rt_node *n, char *buf, size_t len)
{
    rt_shape_str(&((const rt_shape_attr *)n->attr)->shape, buf, len);
}

/* --- stop_gradient ------------------------------------------------------------------------------------------------ */
const rt_op_row rt_row_stop_gradient = {.name = "stop_gradient",
                                        .n_in = 1,
                                        .n_out = 1,
                                        .flags = RT_ROW_VIEW,
                                        .no_grad_in = 1,
                                        .infer = rt_infer_same,
                                        .vjp = rt_vjp_none,
                                        .ref = copy_ref};

rt_val rt_stop_gradient(rt_graph *g, rt_val x) { return rt_graph_append(g, RT_OP_STOP_GRADIENT, &x, 1, NULL, 0); }

/* --- reshape ------------------------------------------------------------------------------------------------------ */
static rt_status reshape_infer(rt_node *n)
{
    char a[RT_SHAPE_STR], b[RT_SHAPE_STR];
    const rt_shape *s = &((const rt_shape_attr *)n->attr)->shape;
    int64_t count = rt_shape_count(s);
    if (count < 0 || count != rt_shape_count(&n->in_shape[0]))
        return RT_RAISE(RT_ERR_ARG, "reshape: %s does not hold the elements of %s", rt_shape_str(s, a, sizeof a),
                        rt_shape_str(&n->in_shape[0], b, sizeof b));
    n->out_shape[0] = *s;
    return RT_OK;
}

static void reshape_vjp(rt_graph *g, const rt_node *n, const rt_val *gy, rt_val *gx)
{
    gx[0] = rt_reshape(g, gy[0], n->in_shape[0]);
}

const rt_op_row rt_row_reshape = {.name = "reshape",
                                  .n_in = 1,
                                  .n_out = 1,
                                  .flags = RT_ROW_VIEW | RT_ROW_LINEAR,
                                  .attr_bytes = sizeof(rt_shape_attr),
                                  .infer = reshape_infer,
                                  .vjp = reshape_vjp,
                                  .ref = copy_ref,
                                  .print_attr = shape_print};

rt_val rt_reshape(rt_graph *g, rt_val x, rt_shape s)
{
    const rt_node *n = rt_val_node(g, x, NULL);
    const rt_shape *from = rt_val_shape(g, x);
    rt_shape_attr a;
    if (!n) return rt_graph_none(g, RT_OP_RESHAPE);
    memset(&a, 0, sizeof a);
    a.shape = rt_shape_make(from->dtype, s.rank, s.d);
    int64_t known = 1, total = rt_shape_count(from);
    int open = -1;
    for (int i = 0; i < a.shape.rank; i++) {
        if (a.shape.d[i] == -1 && open < 0)
            open = i;
        else if (__builtin_mul_overflow(known, a.shape.d[i], &known))
            known = 0;
    }
    if (open >= 0 && known > 0 && total % known == 0) a.shape.d[open] = total / known;
    if (rt_shape_eq(from, &a.shape)) return x;
    rt_val src = n->op == RT_OP_RESHAPE && !rt_graph_expanding(g) ? n->in[0] : x; /* reshape of reshape is one reshape */
    if (rt_shape_eq(rt_val_shape(g, src), &a.shape)) return src;
    return rt_graph_append(g, RT_OP_RESHAPE, &src, 1, &a, sizeof a);
}

/* --- broadcast ---------------------------------------------------------------------------------------------------- */
static rt_status broadcast_infer(rt_node *n)
{
    char a[RT_SHAPE_STR], b[RT_SHAPE_STR];
    const rt_shape *s = &((const rt_shape_attr *)n->attr)->shape, *x = &n->in_shape[0];
    bool fits = s->rank >= x->rank;
    for (int i = 0; fits && i < x->rank; i++) fits = x->d[i] == 1 || x->d[i] == s->d[i + s->rank - x->rank];
    if (!fits)
        return RT_RAISE(RT_ERR_ARG, "broadcast: %s does not broadcast to %s", rt_shape_str(x, a, sizeof a),
                        rt_shape_str(s, b, sizeof b));
    n->out_shape[0] = *s;
    return RT_OK;
}

static rt_status broadcast_ref(const rt_node *n, const rt_ref_io *io)
{
    int64_t si[RT_MAX_RANK], so[RT_MAX_RANK];
    rt_broadcast_strides(&n->in_shape[0], &n->out_shape[0], si);
    rt_shape_strides(&n->out_shape[0], so);
    copy_loop(&n->out_shape[0], io->in[0], 0, si, io->out[0], 0, so);
    return RT_OK;
}

static void broadcast_vjp(rt_graph *g, const rt_node *n, const rt_val *gy, rt_val *gx)
{
    gx[0] = rt_sum_to(g, gy[0], &n->in_shape[0]);
}

const rt_op_row rt_row_broadcast = {.name = "broadcast",
                                    .n_in = 1,
                                    .n_out = 1,
                                    .flags = RT_ROW_LINEAR,
                                    .attr_bytes = sizeof(rt_shape_attr),
                                    .infer = broadcast_infer,
                                    .vjp = broadcast_vjp,
                                    .ref = broadcast_ref,
                                    .cost = rt_cost_move,
                                    .print_attr = shape_print};

rt_val rt_broadcast(rt_graph *g, rt_val x, rt_shape s)
{
    const rt_shape *from = rt_val_shape(g, x);
    rt_shape_attr a;
    if (!from) return rt_graph_none(g, RT_OP_BROADCAST);
    memset(&a, 0, sizeof a);
    a.shape = rt_shape_make(from->dtype, s.rank, s.d);
    if (rt_shape_eq(from, &a.shape)) return x;
    if (rt_shape_count(from) == rt_shape_count(&a.shape) && a.shape.rank >= from->rank) {
        bool ones = true; /* only axes of size 1 are added: a view */
        for (int i = 0; ones && i < from->rank; i++) ones = from->d[i] == a.shape.d[i + a.shape.rank - from->rank];
        if (ones) return rt_reshape(g, x, a.shape);
    }
    return rt_graph_append(g, RT_OP_BROADCAST, &x, 1, &a, sizeof a);
}

/* --- transpose ---------------------------------------------------------------------------------------------------- */
static const int32_t *perm_of(const rt_node *n) { return ((const rt_transpose_attr *)n->attr)->perm; }

static rt_status transpose_infer(rt_node *n)
{
    char b[RT_SHAPE_STR];
    const rt_shape *x = &n->in_shape[0];
    uint32_t seen = 0;
    n->out_shape[0] = *x;
    for (int i = 0; i < x->rank; i++) {
        int32_t p = perm_of(n)[i];
        if (p < 0 || p >= x->rank || (seen >> p & 1))
            return RT_RAISE(RT_ERR_ARG, "transpose: entry %d of the permutation (%d) is no new axis of %s", i, (int)p,
                            rt_shape_str(x, b, sizeof b));
        seen |= 1u << p;
        n->out_shape[0].d[i] = x->d[p];
    }
    return RT_OK;
}

static rt_status transpose_ref(const rt_node *n, const rt_ref_io *io)
{
    int64_t own[RT_MAX_RANK], si[RT_MAX_RANK] = {0}, so[RT_MAX_RANK];
    rt_shape_strides(&n->in_shape[0], own);
    rt_shape_strides(&n->out_shape[0], so);
    for (int i = 0; i < n->out_shape[0].rank; i++) si[i] = own[perm_of(n)[i]];
    copy_loop(&n->out_shape[0], io->in[0], 0, si, io->out[0], 0, so);
    return RT_OK;
}

static void transpose_vjp(rt_graph *g, const rt_node *n, const rt_val *gy, rt_val *gx)
{
    int inverse[RT_MAX_RANK] = {0};
    for (int i = 0; i < n->out_shape[0].rank; i++) inverse[perm_of(n)[i]] = i;
    gx[0] = rt_transpose(g, gy[0], inverse);
}

static void transpose_print(const rt_node *n, char *buf, size_t len)
{
    int at = snprintf(buf, len, "perm=");
    for (int i = 0; i < n->in_shape[0].rank && at >= 0 && (size_t)at < len; i++)
        at += snprintf(buf + at, len - (size_t)at, "%s%d", i ? "," : "", (int)perm_of(n)[i]);
}

const rt_op_row rt_row_transpose = {.name = "transpose",
                                    .n_in = 1,
                                    .n_out = 1,
                                    .flags = RT_ROW_LINEAR,
                                    .attr_bytes = sizeof(rt_transpose_attr),
                                    .infer = transpose_infer,
                                    .vjp = transpose_vjp,
                                    .ref = transpose_ref,
                                    .cost = rt_cost_move,
                                    .print_attr = transpose_print};

rt_val rt_transpose(rt_graph *g, rt_val x, const int *perm)
{
    const rt_shape *s = rt_val_shape(g, x);
    rt_transpose_attr a;
    bool same = true;
    if (!s) return rt_graph_none(g, RT_OP_TRANSPOSE);
    memset(&a, 0, sizeof a);
    for (int i = 0; i < s->rank; i++) {
        a.perm[i] = perm[i];
        same = same && perm[i] == i;
    }
    return same ? x : rt_graph_append(g, RT_OP_TRANSPOSE, &x, 1, &a, sizeof a);
}

/* --- slice -------------------------------------------------------------------------------------------------------- */
static rt_status slice_infer(rt_node *n)
{
    char b[RT_SHAPE_STR];
    const rt_slice_attr *a = n->attr;
    const rt_shape *x = &n->in_shape[0];
    n->out_shape[0] = *x;
    for (int i = 0; i < x->rank; i++) {
        if (a->begin[i] < 0 || a->end[i] < a->begin[i] || a->end[i] > x->d[i])
            return RT_RAISE(RT_ERR_ARG, "slice: [%lld,%lld) does not lie in axis %d of %s", (long long)a->begin[i],
                            (long long)a->end[i], i, rt_shape_str(x, b, sizeof b));
        n->out_shape[0].d[i] = a->end[i] - a->begin[i];
    }
    return RT_OK;
}

static rt_status slice_ref(const rt_node *n, const rt_ref_io *io)
{
    const rt_slice_attr *a = n->attr;
    int64_t si[RT_MAX_RANK], so[RT_MAX_RANK], off = 0;
    rt_shape_strides(&n->in_shape[0], si);
    rt_shape_strides(&n->out_shape[0], so);
    for (int i = 0; i < n->in_shape[0].rank; i++) off += a->begin[i] * si[i];
    copy_loop(&n->out_shape[0], io->in[0], off, si, io->out[0], 0, so);
    return RT_OK;
}

static void slice_vjp(rt_graph *g, const rt_node *n, const rt_val *gy, rt_val *gx)
{
    const rt_slice_attr *a = n->attr;
    int64_t hi[RT_MAX_RANK] = {0};
    for (int i = 0; i < n->in_shape[0].rank; i++) hi[i] = n->in_shape[0].d[i] - a->end[i];
    gx[0] = rt_pad(g, gy[0], a->begin, hi);
}

static void pairs_print(int rank, const int64_t *p, const int64_t *q, char *buf, size_t len)
{
    int at = 0;
    buf[0] = 0;
    for (int i = 0; i < rank && at >= 0 && (size_t)at < len; i++)
        at += snprintf(buf + at, len - (size_t)at, "%s%lld:%lld", i ? "," : "", (long long)p[i], (long long)q[i]);
}

static void slice_print(const rt_node *n, char *buf, size_t len)
{
    const rt_slice_attr *a = n->attr;
    pairs_print(n->in_shape[0].rank, a->begin, a->end, buf, len);
}

const rt_op_row rt_row_slice = {.name = "slice",
                                .n_in = 1,
                                .n_out = 1,
                                .flags = RT_ROW_VIEW | RT_ROW_LINEAR,
                                .attr_bytes = sizeof(rt_slice_attr),
                                .infer = slice_infer,
                                .vjp = slice_vjp,
                                .ref = slice_ref,
                                .cost = rt_cost_move,
                                .print_attr = slice_print};

rt_val rt_slice(rt_graph *g, rt_val x, const int64_t *begin, const int64_t *end)
{
    const rt_shape *s = rt_val_shape(g, x);
    rt_slice_attr a;
    bool full = true;
    if (!s) return rt_graph_none(g, RT_OP_SLICE);
    memset(&a, 0, sizeof a);
    for (int i = 0; i < s->rank; i++) {
        a.begin[i] = begin[i];
        a.end[i] = end[i];
        full = full && begin[i] == 0 && end[i] == s->d[i];
    }
    return full ? x : rt_graph_append(g, RT_OP_SLICE, &x, 1, &a, sizeof a);
}

rt_val rt_view1d(rt_graph *g, rt_val x, int64_t off, rt_shape s)
{
    const rt_shape *from = rt_val_shape(g, x);
    char a[RT_SHAPE_STR], b[RT_SHAPE_STR];
    if (!from) return rt_graph_none(g, RT_OP_SLICE);
    int64_t count = rt_shape_count(&s);
    if (from->rank != 1 || off < 0 || count < 0 || count > from->d[0] || off > from->d[0] - count)
        return rt_graph_fail(g, RT_RAISE(RT_ERR_ARG, "view1d: %s at offset %lld does not lie in %s",
                                         rt_shape_str(&s, a, sizeof a), (long long)off,
                                         rt_shape_str(from, b, sizeof b)));
    return rt_reshape(g, rt_slice(g, x, &off, &(int64_t){off + count}), s);
}

rt_val rt_view2d(rt_graph *g, rt_val x, int64_t off, rt_shape s)
{
    const rt_shape *from = rt_val_shape(g, x);
    char a[RT_SHAPE_STR], b[RT_SHAPE_STR];
    if (!from) return rt_graph_none(g, RT_OP_SLICE);
    const int64_t rows = from->rank == 2 ? from->d[0] : 0, count = rt_shape_count(&s), each = rows ? count / rows : 0;
    if (!rows || off < 0 || each * rows != count || each > from->d[1] || off > from->d[1] - each)
        return rt_graph_fail(g, RT_RAISE(RT_ERR_ARG, "view2d: %s at column %lld does not lie in %s",
                                         rt_shape_str(&s, a, sizeof a), (long long)off,
                                         rt_shape_str(from, b, sizeof b)));
    return rt_reshape(g, rt_slice(g, x, (const int64_t[]){0, off}, (const int64_t[]){rows, off + each}), s);
}

bool rt_node_view(const rt_node *n, int64_t *offset)
{
    *offset = 0;
    if (!(rt_op_row_of(n->op)->flags & RT_ROW_VIEW)) return false;
    if (n->op != RT_OP_SLICE) return true;
    /* Contiguous: after the first axis with more than one element, every axis is whole. */
    const rt_slice_attr *a = n->attr;
    const rt_shape *x = &n->in_shape[0], *y = &n->out_shape[0];
    int64_t stride[RT_MAX_RANK];
    bool run = false;
    if (rt_shape_count(y) == 0) return false;
    rt_shape_strides(x, stride);
    for (int i = 0; i < x->rank; i++) {
        if (run && y->d[i] != x->d[i]) return false;
        run = run || y->d[i] > 1;
        *offset += a->begin[i] * stride[i];
    }
    return true;
}

/* --- pad ---------------------------------------------------------------------------------------------------------- */
static rt_status pad_infer(rt_node *n)
{
    char b[RT_SHAPE_STR];
    const rt_pad_attr *a = n->attr;
    const rt_shape *x = &n->in_shape[0];
    n->out_shape[0] = *x;
    for (int i = 0; i < x->rank; i++) {
        int64_t *d = &n->out_shape[0].d[i];
        if (a->lo[i] < 0 || a->hi[i] < 0 || __builtin_add_overflow(*d, a->lo[i], d) ||
            __builtin_add_overflow(*d, a->hi[i], d))
            return RT_RAISE(RT_ERR_ARG, "pad: cannot pad axis %d of %s by %lld and %lld", i, rt_shape_str(x, b, sizeof b),
                            (long long)a->lo[i], (long long)a->hi[i]);
    }
    return RT_OK;
}

static rt_status pad_ref(const rt_node *n, const rt_ref_io *io)
{
    const rt_pad_attr *a = n->attr;
    int64_t si[RT_MAX_RANK], so[RT_MAX_RANK], off = 0;
    rt_shape_strides(&n->in_shape[0], si);
    rt_shape_strides(&n->out_shape[0], so);
    for (int i = 0; i < n->in_shape[0].rank; i++) off += a->lo[i] * so[i];
    memset(io->out[0], 0, (size_t)rt_shape_count(&n->out_shape[0]) * rt_ref_elem_bytes(n->out_shape[0].dtype));
    copy_loop(&n->in_shape[0], io->in[0], 0, si, io->out[0], off, so);
    return RT_OK;
}

static void pad_vjp(rt_graph *g, const rt_node *n, const rt_val *gy, rt_val *gx)
{
    const rt_pad_attr *a = n->attr;
    int64_t end[RT_MAX_RANK] = {0};
    for (int i = 0; i < n->in_shape[0].rank; i++) end[i] = a->lo[i] + n->in_shape[0].d[i];
    gx[0] = rt_slice(g, gy[0], a->lo, end);
}

static void pad_print(const rt_node *n, char *buf, size_t len)
{
    const rt_pad_attr *a = n->attr;
    pairs_print(n->in_shape[0].rank, a->lo, a->hi, buf, len);
}

const rt_op_row rt_row_pad = {.name = "pad",
                              .n_in = 1,
                              .n_out = 1,
                              .flags = RT_ROW_LINEAR,
                              .attr_bytes = sizeof(rt_pad_attr),
                              .infer = pad_infer,
                              .vjp = pad_vjp,
                              .ref = pad_ref,
                              .cost = rt_cost_move,
                              .print_attr = pad_print};

rt_val rt_pad(rt_graph *g, rt_val x, const int64_t *lo, const int64_t *hi)
{
    const rt_shape *s = rt_val_shape(g, x);
    rt_pad_attr a;
    bool none = true;
    if (!s) return rt_graph_none(g, RT_OP_PAD);
    memset(&a, 0, sizeof a);
    for (int i = 0; i < s->rank; i++) {
        a.lo[i] = lo[i];
        a.hi[i] = hi[i];
        none = none && lo[i] == 0 && hi[i] == 0;
    }
    return none ? x : rt_graph_append(g, RT_OP_PAD, &x, 1, &a, sizeof a);
}

/* --- concat ------------------------------------------------------------------------------------------------------- */
static int concat_axis(const rt_node *n) { return ((const rt_concat_attr *)n->attr)->axis; }

static rt_status concat_infer(rt_node *n)
{
    char a[RT_SHAPE_STR], b[RT_SHAPE_STR];
    int axis = concat_axis(n);
    if (n->n_in == 0) return RT_RAISE(RT_ERR_ARG, "concat: needs at least one input");
    rt_shape y = n->in_shape[0];
    if (axis < 0 || axis >= y.rank)
        return RT_RAISE(RT_ERR_ARG, "concat: axis %d is not an axis of %s", axis, rt_shape_str(&y, a, sizeof a));
    for (int i = 1; i < n->n_in; i++) {
        rt_shape x = n->in_shape[i];
        int64_t d = x.rank == y.rank ? x.d[axis] : 0;
        if (x.rank == y.rank) x.d[axis] = y.d[axis];
        if (!rt_shape_eq(&x, &y) || __builtin_add_overflow(y.d[axis], d, &y.d[axis]))
            return RT_RAISE(RT_ERR_ARG, "concat: input %d is %s, does not fit %s along axis %d", i,
                            rt_shape_str(&n->in_shape[i], a, sizeof a), rt_shape_str(&n->in_shape[0], b, sizeof b),
                            axis);
    }
    n->out_shape[0] = y;
    return RT_OK;
}

static rt_status concat_ref(const rt_node *n, const rt_ref_io *io)
{
    int64_t si[RT_MAX_RANK], so[RT_MAX_RANK], off = 0;
    rt_shape_strides(&n->out_shape[0], so);
    for (int i = 0; i < n->n_in; i++) {
        rt_shape_strides(&n->in_shape[i], si);
        copy_loop(&n->in_shape[i], io->in[i], 0, si, io->out[0], off, so);
        off += n->in_shape[i].d[concat_axis(n)] * so[concat_axis(n)];
    }
    return RT_OK;
}

static void concat_vjp(rt_graph *g, const rt_node *n, const rt_val *gy, rt_val *gx)
{
    int axis = concat_axis(n);
    int64_t begin[RT_MAX_RANK] = {0}, end[RT_MAX_RANK];
    memcpy(end, n->out_shape[0].d, sizeof end);
    for (int i = 0; i < n->n_in; i++) {
        end[axis] = begin[axis] + n->in_shape[i].d[axis];
        gx[i] = rt_slice(g, gy[0], begin, end);
        begin[axis] = end[axis];
    }
}

static void concat_print(const rt_node *n, char *buf, size_t len) { snprintf(buf, len, "axis=%d", concat_axis(n)); }

const rt_op_row rt_row_concat = {.name = "concat",
                                 .n_in = 255,
                                 .n_out = 1,
                                 .flags = RT_ROW_LINEAR,
                                 .attr_bytes = sizeof(rt_concat_attr),
                                 .infer = concat_infer,
                                 .vjp = concat_vjp,
                                 .ref = concat_ref,
                                 .cost = rt_cost_move,
                                 .print_attr = concat_print};

rt_val rt_concat(rt_graph *g, const rt_val *x, int n, int axis)
{
    rt_concat_attr a = {.axis = axis};
    const rt_shape *s = n == 1 ? rt_val_shape(g, x[0]) : NULL;
    if (s && axis >= 0 && axis < s->rank) return x[0];
    return rt_graph_append(g, RT_OP_CONCAT, x, n, &a, sizeof a);
}
