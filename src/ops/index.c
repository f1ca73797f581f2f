/* Index ops along axis 0: gather and its adjoint scatter_add, and one_hot. Indices are data: they carry no gradient, and an
 * index out of range is an error of the run (RT_ERR_ARG naming position and value), never a wrap or a skip. */
#include <string.h>

#include "ops/attr.h"
#include "ops/util.h"

static int64_t rows_of(const rt_node *n) { return ((const rt_rows_attr *)n->attr)->rows; }

static rt_status check_index(const rt_node *n, const int32_t *idx, int64_t count, int64_t limit)
{
    for (int64_t i = 0; i < count; i++)
        if (idx[i] < 0 || idx[i] >= limit)
            return RT_RAISE(RT_ERR_ARG, "%s: index %d at position %lld does not lie in 0..%lld", rt_op_name(n->op),
                            (int)idx[i], (long long)i, (long long)limit - 1);
    return RT_OK;
}

static size_t row_bytes(const rt_shape *s)
{
    size_t bytes = rt_ref_elem_bytes(s->dtype);
    for (int i = 1; i < s->rank; i++) bytes *= (size_t)s->d[i];
    return bytes;
}

static void rows_print(const rt_node *n, char *buf, size_t len)
{
    snprintf(buf, len, "rows=%lld", (long long)rows_of(n));
}

/* --- gather ------------------------------------------------------------------------------------------------------- */
static rt_status gather_infer(rt_node *n)
{
    rt_status st = RT_OK;
    RT_TRY(rt_need_rank(n, 0, 1, RT_MAX_RANK));
    RT_TRY(rt_need_dtype(n, 1, RT_I32));
    RT_TRY(rt_need_rank(n, 1, 1, 1));
    n->out_shape[0] = n->in_shape[0];
    n->out_shape[0].d[0] = n->in_shape[1].d[0];
out:
    return st;
}

static rt_status gather_ref(const rt_node *n, const rt_ref_io *io)
{
    const int32_t *idx = io->in[1];
    int64_t m = n->in_shape[1].d[0];
    size_t bytes = row_bytes(&n->in_shape[0]);
    rt_status st = check_index(n, idx, m, n->in_shape[0].d[0]);
    for (int64_t i = 0; i < m && st == RT_OK; i++)
        memcpy((char *)io->out[0] + (size_t)i * bytes, (const char *)io->in[0] + (size_t)idx[i] * bytes, bytes);
    return st;
}

static void gather_vjp(rt_graph *g, const rt_node *n, const rt_val *gy, rt_val *gx)
{
    gx[0] = rt_scatter_add(g, gy[0], n->in[1], n->in_shape[0].d[0]);
    gx[1] = (rt_val){0};
}

const rt_op_row rt_row_gather = {.name = "gather",
                                 .n_in = 2,
                                 .n_out = 1,
                                 .flags = RT_ROW_LINEAR,
                                 .no_grad_in = 2,
                                 .infer = gather_infer,
                                 .vjp = gather_vjp,
                                 .ref = gather_ref,
                                 .cost = rt_cost_move};

rt_val rt_gather(rt_graph *g, rt_val x, rt_val idx)
{
    return rt_graph_append(g, RT_OP_GATHER, (rt_val[]){x, idx}, 2, NULL, 0);
}

/* --- scatter_add -------------------------------------------------------------------------------------------------- */
static rt_status scatter_infer(rt_node *n)
{
    char a[RT_SHAPE_STR], b[RT_SHAPE_STR];
    rt_status st = RT_OK;
    RT_TRY(rt_need_dtype(n, 0, RT_F32));
    RT_TRY(rt_need_rank(n, 0, 1, RT_MAX_RANK));
    RT_TRY(rt_need_dtype(n, 1, RT_I32));
    RT_TRY(rt_need_rank(n, 1, 1, 1));
    if (n->in_shape[1].d[0] != n->in_shape[0].d[0] || rows_of(n) < 0) {
        st = RT_RAISE(RT_ERR_ARG, "scatter_add: %s with indices %s into %lld rows",
                      rt_shape_str(&n->in_shape[0], a, sizeof a), rt_shape_str(&n->in_shape[1], b, sizeof b),
                      (long long)rows_of(n));
        goto out;
    }
    n->out_shape[0] = n->in_shape[0];
    n->out_shape[0].d[0] = rows_of(n);
out:
    return st;
}

static rt_status scatter_ref(const rt_node *n, const rt_ref_io *io)
{
    const int32_t *idx = io->in[1];
    const double *gy = io->in[0];
    double *gx = io->out[0];
    int64_t m = n->in_shape[1].d[0], row = (int64_t)(row_bytes(&n->in_shape[0]) / sizeof *gy);
    rt_status st = check_index(n, idx, m, rows_of(n));
    memset(gx, 0, (size_t)(rows_of(n) * row) * sizeof *gx);
    for (int64_t i = 0; i < m && st == RT_OK; i++)
        for (int64_t j = 0; j < row; j++) gx[idx[i] * row + j] += gy[i * row + j];
    return st;
}

static void scatter_vjp(rt_graph *g, const rt_node *n, const rt_val *gy, rt_val *gx)
{
    gx[0] = rt_gather(g, gy[0], n->in[1]);
    gx[1] = (rt_val){0};
}

const rt_op_row rt_row_scatter_add = {.name = "scatter_add",
                                      .n_in = 2,
                                      .n_out = 1,
                                      .flags = RT_ROW_LINEAR,
                                      .no_grad_in = 2,
                                      .attr_bytes = sizeof(rt_rows_attr),
                                      .infer = scatter_infer,
                                      .vjp = scatter_vjp,
                                      .ref = scatter_ref,
                                      .print_attr = rows_print};

rt_val rt_scatter_add(rt_graph *g, rt_val gy, rt_val idx, int64_t rows)
{
    rt_rows_attr a = {.rows = rows};
    return rt_graph_append(g, RT_OP_SCATTER_ADD, (rt_val[]){gy, idx}, 2, &a, sizeof a);
}

/* --- one_hot ------------------------------------------------------------------------------------------------------ */
static rt_status one_hot_infer(rt_node *n)
{
    rt_status st = RT_OK;
    RT_TRY(rt_need_dtype(n, 0, RT_I32));
    RT_TRY(rt_need_rank(n, 0, 1, 1));
    if (rows_of(n) < 1) {
        st = RT_RAISE(RT_ERR_ARG, "one_hot: %lld classes", (long long)rows_of(n));
        goto out;
    }
    n->out_shape[0] = RT_SHAPE(RT_F32, n->in_shape[0].d[0], rows_of(n));
out:
    return st;
}

static rt_status one_hot_ref(const rt_node *n, const rt_ref_io *io)
{
    const int32_t *idx = io->in[0];
    double *y = io->out[0];
    int64_t m = n->in_shape[0].d[0], classes = rows_of(n);
    rt_status st = check_index(n, idx, m, classes);
    memset(y, 0, (size_t)(m * classes) * sizeof *y);
    for (int64_t i = 0; i < m && st == RT_OK; i++) y[i * classes + idx[i]] = 1.0;
    return st;
}

const rt_op_row rt_row_one_hot = {.name = "one_hot",
                                  .n_in = 1,
                                  .n_out = 1,
                                  .no_grad_in = 1,
                                  .attr_bytes = sizeof(rt_rows_attr),
                                  .infer = one_hot_infer,
                                  .vjp = rt_vjp_none,
                                  .ref = one_hot_ref,
                                  .cost = rt_cost_move,
                                  .print_attr = rows_print};

rt_val rt_one_hot(rt_graph *g, rt_val idx, int64_t classes)
{
    rt_rows_attr a = {.rows = classes};
    return rt_graph_append(g, RT_OP_ONE_HOT, &idx, 1, &a, sizeof a);
}
