/* Mean and biased variance per channel of each of some equal blocks of images: what losses on statistics inside a network
 * are made of (DeepInversion, arXiv 1912.08795; decoupled.md 1.3).
 *
 *     moments    (x)                     -> mean, var        x [N,H,W,C] in G blocks; mean, var [G,C] over a block's M pixels
 *     moments_dx (x, mean, gmean, gvar)  -> gx = gmean / M + gvar 2 (x - mean) / M
 *
 * moments_dx is a function of four inputs like any other: it is differentiated through its expansion, and what arrives at
 * mean flows back through moments. Sums are taken image by image and merged in their order, so a block's result does not
 * depend on which blocks stand beside it. */
#include "ops/attrs.h"
#include "ops/check.h"

#include <stdio.h>

static rt_status infer(rt_node *n)
{
    rt_status st = RT_OK;
    const rt_moments_attr *a = n->attr;
    RT_TRY(rt_op_want(n, 0, RT_F32, 4));
    if (a->groups < 1 || n->in_shape[0].d[0] % a->groups) {
        st = rt_op_misuse(n, "%lld groups do not divide N = %lld", (long long)a->groups, (long long)n->in_shape[0].d[0]);
        goto out;
    }
    const rt_shape stat = RT_SHAPE(RT_F32, a->groups, n->in_shape[0].d[3]);
    if (n->op == RT_OP_MOMENTS) {
        n->out_shape[0] = n->out_shape[1] = stat;
    } else {
        for (int i = 1; i < 4; i++) RT_TRY(rt_op_want_shape(n, i, &stat));
        n->out_shape[0] = n->in_shape[0];
    }
out:
    return st;
}

void rt_moments(rt_graph *g, rt_val x, int64_t groups, rt_val *mean, rt_val *var)
{
    rt_moments_attr a = {.groups = groups};
    *mean = rt_graph_append(g, RT_OP_MOMENTS, &x, 1, &a, sizeof a);
    *var = rt_node_out(*mean, 1);
}

static void vjp(rt_graph *g, const rt_node *n, const rt_val *gy, rt_val *gx)
{
    const rt_val mean = {n->first_out};
    rt_val gm = gy[0].id ? gy[0] : rt_const(g, 0, n->out_shape[0]), gv = gy[1].id ? gy[1] : rt_const(g, 0, n->out_shape[0]);
    gx[0] = rt_graph_append(g, RT_OP_MOMENTS_DX, (rt_val[]){n->in[0], mean, gm, gv}, 4, n->attr, sizeof(rt_moments_attr));
}

/* --- from primitives ---------------------------------------------------------------------------------------------------- */

static rt_shape blocks_of(const rt_node *n) /* [G,N/G,H,W,C] */
{
    const int64_t *x = n->in_shape[0].d, groups = ((const rt_moments_attr *)n->attr)->groups;
    return RT_SHAPE(RT_F32, groups, x[0] / groups, x[1], x[2], x[3]);
}

static rt_val wide(rt_graph *g, const rt_node *n, rt_val stat) /* [G,C] against the blocks */
{
    const rt_shape b = blocks_of(n);
    return rt_reshape(g, stat, RT_SHAPE(RT_F32, b.d[0], 1, 1, 1, b.d[4]));
}

static void expand(rt_graph *g, const rt_node *n, rt_val *out)
{
    enum { PIXELS = 1u << 1 | 1u << 2 | 1u << 3 };
    const rt_val x = rt_reshape(g, n->in[0], blocks_of(n));
    out[0] = rt_mean(g, x, PIXELS, false);
    out[1] = rt_mean(g, rt_square(g, rt_sub(g, x, wide(g, n, out[0]))), PIXELS, false);
}

static void expand_dx(rt_graph *g, const rt_node *n, rt_val *out)
{
    const rt_shape b = blocks_of(n);
    const double m = (double)(b.d[1] * b.d[2] * b.d[3]);
    const rt_val x = rt_reshape(g, n->in[0], b), gm = rt_mul_scalar(g, wide(g, n, n->in[2]), 1 / m);
    const rt_val away = rt_sub(g, x, wide(g, n, n->in[1])), gv = rt_mul_scalar(g, wide(g, n, n->in[3]), 2 / m);
    out[0] = rt_reshape(g, rt_add(g, rt_mul(g, away, gv), gm), n->in_shape[0]);
}

/* --- definition --------------------------------------------------------------------------------------------------------- */

static rt_status ref(const rt_node *n, const rt_ref_io *io)
{
    const rt_shape b = blocks_of(n);
    const int64_t pixels = b.d[1] * b.d[2] * b.d[3], C = b.d[4];
    const double *x = io->in[0];
    double *mean = io->out[0], *var = io->out[1];
    for (int64_t k = 0; k < b.d[0]; k++, x += pixels * C, mean += C, var += C)
        for (int64_t c = 0; c < C; c++) {
            double sum = 0, dev = 0;
            for (int64_t p = 0; p < pixels; p++) sum += x[p * C + c];
            mean[c] = sum / (double)pixels;
            for (int64_t p = 0; p < pixels; p++) dev += (x[p * C + c] - mean[c]) * (x[p * C + c] - mean[c]);
            var[c] = dev / (double)pixels;
        }
    return RT_OK;
}

static rt_status ref_dx(const rt_node *n, const rt_ref_io *io)
{
    const rt_shape b = blocks_of(n);
    const int64_t pixels = b.d[1] * b.d[2] * b.d[3], C = b.d[4];
    const double *x = io->in[0], m = (double)pixels;
    double *gx = io->out[0];
    for (int64_t k = 0; k < b.d[0]; k++, x += pixels * C, gx += pixels * C) {
        const double *mean = (const double *)io->in[1] + k * C, *gm = (const double *)io->in[2] + k * C;
        const double *gv = (const double *)io->in[3] + k * C;
        for (int64_t p = 0; p < pixels; p++)
            for (int64_t c = 0; c < C; c++)
                gx[p * C + c] = gm[c] / m + gv[c] * 2 * (x[p * C + c] - mean[c]) / m;
    }
    return RT_OK;
}

static rt_cost cost(const rt_node *n)
{
    return (rt_cost){.flops = 4 * (double)rt_shape_count(&n->in_shape[0]), .bytes = rt_op_bytes(n)};
}

static void print(const rt_node *n, char *buf, size_t len)
{
    snprintf(buf, len, "groups %lld", (long long)((const rt_moments_attr *)n->attr)->groups);
}

const rt_op_row rt_row_moments = {
    .name = "moments", .n_in = 1, .n_out = 2, .attr_bytes = sizeof(rt_moments_attr), .infer = infer, .vjp = vjp,
    .expand = expand, .ref = ref, .cost = cost, .print_attr = print,
};
const rt_op_row rt_row_moments_dx = {
    .name = "moments_dx", .n_in = 4, .n_out = 1, .inplace_in = 1u << 0, .attr_bytes = sizeof(rt_moments_attr), .infer = infer,
    .expand = expand_dx, .ref = ref_dx, .cost = cost, .print_attr = print,
};
