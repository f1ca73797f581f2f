/* Values made from attributes and a counter instead of tensors: index ramps and dropout masks. Neither carries a gradient.
 *
 * A dropout mask is a pure function of (seed, step, stream, place): the backward pass reads the same node, a resumed run
 * draws what the straight one drew, and a network of a batch draws what it draws alone. Which elements stay is decided in
 * integers (math/dropout.h), so all back ends agree to the bit. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "math/dropout.h"
#include "ops/attr.h"
#include "ops/check.h"
#include "ops/util.h"

/* --- iota ---------------------------------------------------------------------------------------------------------- */
static rt_status iota_infer(rt_node *n)
{
    const rt_iota_attr *a = n->attr;
    const double limit = a->shape.dtype == RT_I32 ? 2147483647.0 : 16777216.0; /* f32 counts by one up to here */
    double lo = (double)a->offset, hi = lo;
    for (int k = 0; k < a->shape.rank; k++) {
        double far = (double)a->coef[k] * (double)(a->shape.d[k] - 1);
        if (a->shape.d[k] == 0) continue;
        lo += far < 0 ? far : 0;
        hi += far > 0 ? far : 0;
    }
    if (lo < -limit || hi > limit) return rt_op_misuse(n, "values from %.0f to %.0f are not all exact", lo, hi);
    n->out_shape[0] = a->shape;
    return RT_OK;
}

static rt_status iota_ref(const rt_node *n, const rt_ref_io *io)
{
    const rt_iota_attr *a = n->attr;
    const rt_shape *s = &n->out_shape[0];
    int64_t at[RT_MAX_RANK] = {0}, count = rt_shape_count(s), value = a->offset;
    for (int64_t i = 0; i < count; i++) {
        if (s->dtype == RT_F32) ((double *)io->out[0])[i] = (double)value;
        else ((int32_t *)io->out[0])[i] = (int32_t)value;
        for (int k = s->rank - 1; k >= 0; k--) { /* odometer */
            value += a->coef[k];
            if (++at[k] < s->d[k]) break;
            value -= a->coef[k] * s->d[k];
            at[k] = 0;
        }
    }
    return RT_OK;
}

static void iota_print(const rt_node *n, char *buf, size_t len)
{
    const rt_iota_attr *a = n->attr;
    size_t used = (size_t)snprintf(buf, len, "%lld", (long long)a->offset);
    for (int k = 0; k < a->shape.rank && used < len; k++)
        used += (size_t)snprintf(buf + used, len - used, " %+lld i%d", (long long)a->coef[k], k);
}

const rt_op_row rt_row_iota = {.name = "iota",
                               .n_out = 1,
                               .attr_bytes = sizeof(rt_iota_attr),
                               .infer = iota_infer,
                               .vjp = rt_vjp_none,
                               .ref = iota_ref,
                               .cost = rt_cost_move,
                               .print_attr = iota_print};

rt_val rt_iota(rt_graph *g, rt_shape s, int64_t offset, const int64_t *coef)
{
    rt_iota_attr a;
    memset(&a, 0, sizeof a);
    a.offset = offset;
    a.shape = rt_shape_make(s.dtype, s.rank, s.d);
    for (int k = 0; k < s.rank && k < RT_MAX_RANK; k++) a.coef[k] = coef[k];
    return rt_graph_append(g, RT_OP_IOTA, NULL, 0, &a, sizeof a);
}

/* --- dropout_mask -------------------------------------------------------------------------------------------------- */
static rt_status dropout_infer(rt_node *n)
{
    const rt_dropout_attr *a = n->attr;
    const rt_shape *c = &n->in_shape[0];
    const int64_t nets = c->rank == 2 ? c->d[0] : 1;
    rt_status st = RT_OK;
    RT_TRY(rt_need_dtype(n, 0, RT_I32));
    RT_TRY(rt_need_rank(n, 0, 1, 2));
    if (c->d[c->rank - 1] != 4) {
        st = rt_op_misuse(n, "a counter has 4 words");
        goto out;
    }
    if (a->shape.dtype != RT_F32 || nets < 1 || (nets > 1 && (a->shape.rank < 1 || a->shape.d[0] % nets))) {
        st = rt_op_misuse(n, "a mask is f32, and axis 0 a multiple of the counters");
        goto out;
    }
    if (!(a->keep > 0x1p-24 && a->keep <= 1) || a->stream < 0 || a->stream > 0xFFFF) {
        st = rt_op_misuse(n, "keeps %g in stream %lld; must be in (2^-24, 1] and 0..65535", a->keep,
                          (long long)a->stream);
        goto out;
    }
    if (rt_shape_count(&a->shape) / nets > (int64_t)4 << 32) {
        st = rt_op_misuse(n, "a mask of more than 2^34 elements");
        goto out;
    }
    n->out_shape[0] = a->shape;
out:
    return st;
}

static rt_status dropout_ref(const rt_node *n, const rt_ref_io *io)
{
    const rt_dropout_attr *a = n->attr;
    const int64_t nets = n->in_shape[0].rank == 2 ? n->in_shape[0].d[0] : 1;
    const int64_t each = rt_shape_count(&n->out_shape[0]) / nets;
    const uint32_t limit = rt_dropout_limit(a->keep);
    for (int64_t m = 0; m < nets; m++) {
        const int32_t *counter = (const int32_t *)io->in[0] + 4 * m;
        double *y = (double *)io->out[0] + m * each;
        for (int64_t i = 0; i < each; i++) {
            rt_u32x4 w = rt_dropout_words(counter, RT_RNG_DROPOUT, (uint32_t)a->stream, i / 4);
            y[i] = rt_dropout_keeps(w.v[i % 4], limit) ? 1.0 / a->keep : 0.0;
        }
    }
    return RT_OK;
}

static rt_cost dropout_cost(const rt_node *n) { return rt_op_streaming_cost(n, 0); } /* integer work is not counted */

static void dropout_print(const rt_node *n, char *buf, size_t len)
{
    const rt_dropout_attr *a = n->attr;
    snprintf(buf, len, "keep=%.9g stream=%lld", a->keep, (long long)a->stream);
}

const rt_op_row rt_row_dropout_mask = {.name = "dropout_mask",
                                       .n_in = 1,
                                       .n_out = 1,
                                       .no_grad_in = 1,
                                       .attr_bytes = sizeof(rt_dropout_attr),
                                       .infer = dropout_infer,
                                       .vjp = rt_vjp_none,
                                       .ref = dropout_ref,
                                       .cost = dropout_cost,
                                       .print_attr = dropout_print};

rt_val rt_dropout_mask(rt_graph *g, rt_val counter, rt_shape s, double keep, int32_t stream)
{
    rt_dropout_attr a;
    memset(&a, 0, sizeof a);
    a.keep = keep;
    a.stream = stream;
    a.shape = rt_shape_make(s.dtype, s.rank, s.d);
    return rt_graph_append(g, RT_OP_DROPOUT_MASK, &counter, 1, &a, sizeof a);
}
