/* log-softmax and cross-entropy with soft targets, over the last axis and stable for any finite logits.
 *
 *     log_softmax (z) -> y = z - max z - log sum exp(z - max z)
 *     softmax_ce (z[B,C], q[B,C]) -> loss[B] = -sum_c q log softmax(z),  p[B,C] = softmax(z)
 *
 * q is not required to sum to one (mixed or partial labels do not): d loss / dz = p * sum q - q. p is a second output,
 * so the derivative is made of values the forward pass already has, and a second derivative arrives at p as a gradient
 * and goes through the softmax Jacobian diag(p) - p p'. */
#include "ops/attrs.h"
#include "ops/check.h"

#include <math.h>

/* --- shapes ------------------------------------------------------------------------------------------------------- */

static rt_status log_softmax_infer(rt_node *n)
{
    const rt_shape *x = &n->in_shape[0];
    if (x->dtype != RT_F32 || x->rank < 1 || x->d[x->rank - 1] < 1)
        return rt_op_misuse(n, "needs f32 with a non-empty last axis");
    n->out_shape[0] = *x;
    return RT_OK;
}

static rt_status softmax_ce_infer(rt_node *n)
{
    rt_status st = RT_OK;
    RT_TRY(rt_op_want(n, 0, RT_F32, 2));
    RT_TRY(rt_op_want_shape(n, 1, &n->in_shape[0]));
    n->out_shape[0] = RT_SHAPE(RT_F32, n->in_shape[0].d[0]);
    n->out_shape[1] = n->in_shape[0];
out:
    return st;
}

/* --- constructors and derivatives --------------------------------------------------------------------------------- */

rt_val rt_log_softmax(rt_graph *g, rt_val x) { return rt_graph_append(g, RT_OP_LOG_SOFTMAX, &x, 1, NULL, 0); }

rt_val rt_softmax_ce(rt_graph *g, rt_val z, rt_val q)
{
    return rt_graph_append(g, RT_OP_SOFTMAX_CE, (rt_val[]){z, q}, 2, NULL, 0);
}

static void log_softmax_vjp(rt_graph *g, const rt_node *n, const rt_val *gy, rt_val *gx)
{
    uint32_t last = 1u << (n->in_shape[0].rank - 1);
    rt_val p = rt_exp(g, (rt_val){n->first_out});
    gx[0] = rt_sub(g, gy[0], rt_mul(g, p, rt_sum(g, gy[0], last, true)));
}

static void softmax_ce_vjp(rt_graph *g, const rt_node *n, const rt_val *gy, rt_val *gx)
{
    const uint32_t last = 1u << 1;
    rt_val z = n->in[0], q = n->in[1], p = rt_node_out((rt_val){n->first_out}, 1);
    gx[0] = gx[1] = (rt_val){0};
    if (gy[0].id) {
        rt_val col = rt_reshape(g, gy[0], RT_SHAPE(RT_F32, n->in_shape[0].d[0], 1));
        gx[0] = rt_mul(g, col, rt_sub(g, rt_mul(g, p, rt_sum(g, q, last, true)), q));
        gx[1] = rt_neg(g, rt_mul(g, col, rt_log_softmax(g, z)));
    }
    if (gy[1].id) {
        rt_val pg = rt_mul(g, p, gy[1]);
        rt_val gz = rt_sub(g, pg, rt_mul(g, p, rt_sum(g, pg, last, true)));
        gx[0] = gx[0].id ? rt_add(g, gx[0], gz) : gz;
    }
}

/* --- definition --------------------------------------------------------------------------------------------------- */

/* max + log sum exp(z - max): what log_softmax subtracts. */
static double log_sum_exp(const double *z, int64_t count)
{
    double top = z[0], sum = 0;
    for (int64_t c = 1; c < count; c++) top = z[c] > top ? z[c] : top;
    for (int64_t c = 0; c < count; c++) sum += exp(z[c] - top);
    return top + log(sum);
}

static rt_status log_softmax_ref(const rt_node *n, const rt_ref_io *io)
{
    const double *x = io->in[0];
    double *y = io->out[0];
    const int64_t C = n->in_shape[0].d[n->in_shape[0].rank - 1], rows = rt_shape_count(&n->in_shape[0]) / C;
    for (int64_t b = 0; b < rows; b++) {
        double lse = log_sum_exp(x + b * C, C);
        for (int64_t c = 0; c < C; c++) y[b * C + c] = x[b * C + c] - lse;
    }
    return RT_OK;
}

static rt_status softmax_ce_ref(const rt_node *n, const rt_ref_io *io)
{
    const double *z = io->in[0], *q = io->in[1];
    double *loss = io->out[0], *p = io->out[1];
    const int64_t B = n->in_shape[0].d[0], C = n->in_shape[0].d[1];
    for (int64_t b = 0; b < B; b++) {
        double lse = log_sum_exp(z + b * C, C), sum = 0;
        for (int64_t c = 0; c < C; c++) {
            double lp = z[b * C + c] - lse;
            p[b * C + c] = exp(lp);
            if (q[b * C + c] != 0) sum -= q[b * C + c] * lp; /* 0 log 0 = 0 when a logit is -inf */
        }
        loss[b] = sum;
    }
    return RT_OK;
}

static rt_cost log_softmax_cost(const rt_node *n) { return rt_op_streaming_cost(n, 5); }

static rt_cost softmax_ce_cost(const rt_node *n)
{
    return (rt_cost){.flops = 8 * (double)rt_shape_count(&n->in_shape[0]), .bytes = rt_op_bytes(n)};
}

const rt_op_row rt_row_log_softmax = {
    .name = "log_softmax", .n_in = 1, .n_out = 1, .infer = log_softmax_infer, .vjp = log_softmax_vjp,
    .ref = log_softmax_ref, .cost = log_softmax_cost,
};
const rt_op_row rt_row_softmax_ce = {
    .name = "softmax_ce", .n_in = 2, .n_out = 2, .infer = softmax_ce_infer, .vjp = softmax_ce_vjp,
    .ref = softmax_ce_ref, .cost = softmax_ce_cost,
};
