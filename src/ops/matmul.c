/* Batched matrix product with transpose flags: y[..,M,N] = op(a)[..,M,K] op(b)[..,K,N], equal leading dims, where op
 * transposes the last two axes of the stored operand when its flag is set.
 *
 * The op is closed on itself: both derivatives are matrix products of the same kind, flags chosen so that nothing is
 * ever transposed in memory. */
#include <string.h>

#include "ops/attr.h"
#include "ops/util.h"

typedef struct dims {
    int64_t batch, m, n, k;
} dims;

static const rt_matmul_attr *attr_of(const rt_node *n) { return n->attr; }

static dims dims_of(const rt_node *n)
{
    const rt_shape *a = &n->in_shape[0], *y = &n->out_shape[0];
    dims d = {1, y->d[y->rank - 2], y->d[y->rank - 1], a->d[a->rank - (attr_of(n)->ta ? 2 : 1)]};
    for (int i = 0; i < y->rank - 2; i++) d.batch *= y->d[i];
    return d;
}

static rt_status matmul_infer(rt_node *n)
{
    char sa[RT_SHAPE_STR], sb[RT_SHAPE_STR];
    rt_status st = RT_OK;
    const rt_shape *a = &n->in_shape[0], *b = &n->in_shape[1];
    for (int i = 0; i < 2; i++) {
        RT_TRY(rt_need_dtype(n, i, RT_F32));
        RT_TRY(rt_need_rank(n, i, 2, RT_MAX_RANK));
    }
    int r = a->rank, ta = attr_of(n)->ta, tb = attr_of(n)->tb;
    bool fits = (ta & ~1) == 0 && (tb & ~1) == 0 && b->rank == r;
    for (int i = 0; fits && i < r - 2; i++) fits = a->d[i] == b->d[i];
    if (!fits || a->d[r - (ta ? 2 : 1)] != b->d[r - (tb ? 1 : 2)]) {
        st = RT_RAISE(RT_ERR_ARG, "matmul: %s%s and %s%s do not multiply", rt_shape_str(a, sa, sizeof sa),
                      ta ? " transposed" : "", rt_shape_str(b, sb, sizeof sb), tb ? " transposed" : "");
        goto out;
    }
    n->out_shape[0] = *a;
    n->out_shape[0].d[r - 2] = a->d[r - (ta ? 1 : 2)];
    n->out_shape[0].d[r - 1] = b->d[r - (tb ? 2 : 1)];
out:
    return st;
}

static rt_status matmul_ref(const rt_node *n, const rt_ref_io *io)
{
    dims d = dims_of(n);
    int64_t am = attr_of(n)->ta ? 1 : d.k, ak = attr_of(n)->ta ? d.m : 1;
    int64_t bk = attr_of(n)->tb ? 1 : d.n, bn = attr_of(n)->tb ? d.k : 1;
    for (int64_t s = 0; s < d.batch; s++) {
        const double *a = (const double *)io->in[0] + s * d.m * d.k, *b = (const double *)io->in[1] + s * d.k * d.n;
        double *y = (double *)io->out[0] + s * d.m * d.n;
        for (int64_t i = 0; i < d.m; i++)
            for (int64_t j = 0; j < d.n; j++) {
                double sum = 0;
                for (int64_t k = 0; k < d.k; k++) sum += a[i * am + k * ak] * b[k * bk + j * bn];
                y[i * d.n + j] = sum;
            }
    }
    return RT_OK;
}

static void matmul_vjp(rt_graph *g, const rt_node *n, const rt_val *gy, rt_val *gx)
{
    rt_val a = n->in[0], b = n->in[1];
    bool ta = attr_of(n)->ta, tb = attr_of(n)->tb;
    gx[0] = ta ? rt_matmul(g, b, gy[0], tb, true) : rt_matmul(g, gy[0], b, false, !tb);
    gx[1] = tb ? rt_matmul(g, gy[0], a, true, ta) : rt_matmul(g, a, gy[0], !ta, false);
}

static rt_cost matmul_cost(const rt_node *n)
{
    dims d = dims_of(n);
    rt_cost c = rt_cost_move(n);
    c.flops = 2.0 * (double)d.batch * (double)d.m * (double)d.n * (double)d.k;
    return c;
}

static void matmul_print(const rt_node *n, char *buf, size_t len)
{
    snprintf(buf, len, "%c%c", attr_of(n)->ta ? 't' : 'n', attr_of(n)->tb ? 't' : 'n');
}

const rt_op_row rt_row_matmul = {.name = "matmul",
                                 .n_in = 2,
                                 .n_out = 1,
                                 .flags = RT_ROW_LINEAR,
                                 .attr_bytes = sizeof(rt_matmul_attr),
                                 .infer = matmul_infer,
                                 .vjp = matmul_vjp,
                                 .ref = matmul_ref,
                                 .cost = matmul_cost,
                                 .print_attr = matmul_print};

rt_val rt_matmul(rt_graph *g, rt_val a, rt_val b, bool ta, bool tb)
{
    rt_matmul_attr t = {.ta = ta, .tb = tb};
    return rt_graph_append(g, RT_OP_MATMUL, (rt_val[]){a, b}, 2, &t, sizeof t);
}
