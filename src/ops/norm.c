/* Group and batch normalisation with the ReLU and the 2x2 average pool that often follow, as one op.
 *
 *     xhat = (x - mean) * rstd,  rstd = 1 / sqrt(var + eps),  var biased
 *     pre  = gamma * xhat + beta
 *     y    = pool(relu(pre))            each optional
 *
 * Groups == C is instance norm, groups == 1 is layer norm over C,H,W (Wu, He: "Group Normalization", ECCV 2018); batch
 * norm takes its statistics per channel over N,H,W (Ioffe, Szegedy, ICML 2015) and leaves running averages to src/nn.
 *
 * Derivatives. With e = gamma * g, g the gradient at pre, and means over the elements that share a statistic:
 *
 *     gx = rstd * (e - mean(e) - xhat * mean(e * xhat)),  ggamma = sum g * xhat,  gbeta = sum g
 *
 * norm_dx computes the three in one op. It is handed mean and rstd only to save work: they are functions of x, so it
 * takes them as inputs without gradient, and its expansion recomputes them from x. Its own derivatives, in either mode,
 * are the two ops of norm_tangent.c, which take mean and rstd in the same way and are differentiated through their
 * expansions; so nothing ever flows back into norm's mean and rstd from here. This is sound only if mean and rstd are
 * those of x, and are outputs of a norm node rather than primitives that an expansion would meet again (a walk stops at
 * a node's inputs): none of these ops has a public constructor, only norm's rules make them. A gradient that does arrive
 * at norm's mean or rstd sends norm itself through its expansion.
 *
 * Networks. With `nets` = M, axis 0 of x is M equal blocks with gamma, beta and batch statistics of their own.
 *
 * x [N,H,W,C]; gamma, beta [M C]; mean, rstd [N,groups] or [M C]; y [N,H,W,C] or [N,H/2,W/2,C]. */
#include "ops/norm.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

const rt_pool_attr rt_norm_half = {.size = {2, 2}, .stride = {2, 2}};

/* --- shapes ------------------------------------------------------------------------------------------------------- */

rt_shape rt_norm_y_shape(const rt_norm_attr *a, const rt_shape *x)
{
    int64_t f = a->pool ? 2 : 1;
    return RT_SHAPE(RT_F32, x->d[0], x->d[1] / f, x->d[2] / f, x->d[3]);
}

rt_shape rt_norm_stat_shape(const rt_norm_attr *a, const rt_shape *x)
{
    if (a->kind == RT_NORM_BATCH) return RT_SHAPE(RT_F32, rt_nets(a->nets) * x->d[3]);
    return RT_SHAPE(RT_F32, x->d[0], a->groups);
}

rt_status rt_norm_check(const rt_node *n)
{
    rt_status st = RT_OK;
    const rt_norm_attr *a = n->attr;
    const rt_shape *x = &n->in_shape[0];
    RT_TRY(rt_op_want(n, 0, RT_F32, 4));
    if (a->nets < 0 || x->d[0] % rt_nets(a->nets)) {
        st = rt_op_misuse(n, "%lld networks do not divide N = %lld", (long long)a->nets, (long long)x->d[0]);
        goto out;
    }
    rt_shape channel = RT_SHAPE(RT_F32, rt_nets(a->nets) * x->d[3]);
    RT_TRY(rt_op_want_shape(n, 1, &channel));
    RT_TRY(rt_op_want_shape(n, 2, &channel));
    if (a->kind != RT_NORM_GROUP && a->kind != RT_NORM_BATCH)
        st = rt_op_misuse(n, "kind %d is neither group nor batch", a->kind);
    else if (a->kind == RT_NORM_GROUP && (a->groups < 1 || x->d[3] % a->groups))
        st = rt_op_misuse(n, "%d groups do not divide C = %lld", a->groups, (long long)x->d[3]);
    else if (a->pool != 0 && a->pool != 2)
        st = rt_op_misuse(n, "pool must be 0 or 2");
    else if (a->pool && (x->d[1] % 2 || x->d[2] % 2))
        st = rt_op_misuse(n, "a fused 2x2 pool needs even H and W");
    else if (a->relu != 0 && a->relu != 1)
        st = rt_op_misuse(n, "relu must be 0 or 1");
    else if (!(a->eps >= 0))
        st = rt_op_misuse(n, "eps must not be negative");
out:
    return st;
}

static rt_status norm_infer(rt_node *n)
{
    rt_status st = RT_OK;
    RT_TRY(rt_norm_check(n));
    n->out_shape[0] = rt_norm_y_shape(n->attr, &n->in_shape[0]);
    n->out_shape[1] = n->out_shape[2] = rt_norm_stat_shape(n->attr, &n->in_shape[0]);
out:
    return st;
}

static rt_status norm_dx_infer(rt_node *n)
{
    rt_status st = RT_OK;
    RT_TRY(rt_norm_check(n));
    rt_shape stat = rt_norm_stat_shape(n->attr, &n->in_shape[0]), y = rt_norm_y_shape(n->attr, &n->in_shape[0]);
    RT_TRY(rt_op_want_shape(n, 3, &stat));
    RT_TRY(rt_op_want_shape(n, 4, &stat));
    RT_TRY(rt_op_want_shape(n, 5, &y));
    n->out_shape[0] = n->in_shape[0];
    n->out_shape[1] = n->out_shape[2] = n->in_shape[1];
out:
    return st;
}

/* --- constructor and derivative ----------------------------------------------------------------------------------- */

rt_val rt_norm(rt_graph *g, rt_val x, rt_val gamma, rt_val beta, rt_norm_attr a, rt_val *mean, rt_val *rstd)
{
    if (a.kind == RT_NORM_BATCH) a.groups = 0; /* ignored, so it must not tell equal nodes apart */
    if (a.nets == 1) a.nets = 0;
    rt_val y = rt_graph_append(g, RT_OP_NORM, (rt_val[]){x, gamma, beta}, 3, &a, sizeof a);
    if (mean) *mean = rt_node_out(y, 1);
    if (rstd) *rstd = rt_node_out(y, 2);
    return y;
}

static int norm_vjp_needs_expand(const rt_node *n, const rt_val *gy)
{
    (void)n;
    return gy[1].id != 0 || gy[2].id != 0;
}

static void norm_vjp(rt_graph *g, const rt_node *n, const rt_val *gy, rt_val *gx)
{
    rt_val y = {n->first_out};
    rt_val in[6] = {n->in[0], n->in[1], n->in[2], rt_node_out(y, 1), rt_node_out(y, 2), gy[0]};
    gx[0] = rt_graph_append(g, RT_OP_NORM_DX, in, 6, n->attr, sizeof(rt_norm_attr));
    gx[1] = rt_node_out(gx[0], 1);
    gx[2] = rt_node_out(gx[0], 2);
}

static void norm_jvp(rt_graph *g, const rt_node *n, const rt_val *tx, rt_val *ty)
{
    ty[0] = rt_norm_tangent(g, n, tx[0], tx[1], tx[2]);
}

/* norm_dx is the gradient of f = <gy, y(x, gamma, beta)>, so the gradient of <(u, v, w), norm_dx> is the second derivative of
 * f along (u, v, w): the tangent of norm_dx at fixed gy, and with respect to gy the tangent of y. */
static void norm_dx_vjp(rt_graph *g, const rt_node *n, const rt_val *gy, rt_val *gx)
{
    gx[5] = rt_norm_tangent(g, n, gy[0], gy[1], gy[2]);
    if (!gy[0].id && !gy[1].id) return; /* gbeta sees x, gamma and beta only through the mask */
    gx[0] = rt_norm_dx_tangent(g, n, gy[0], gy[1], (rt_val){0});
    gx[1] = rt_node_out(gx[0], 1);
    gx[2] = rt_node_out(gx[0], 2);
}

static void norm_dx_jvp(rt_graph *g, const rt_node *n, const rt_val *tx, rt_val *ty)
{
    if (tx[0].id || tx[1].id) {
        ty[0] = rt_norm_dx_tangent(g, n, tx[0], tx[1], tx[5]);
    } else if (tx[5].id) { /* linear in gy */
        rt_val in[6] = {n->in[0], n->in[1], n->in[2], n->in[3], n->in[4], tx[5]};
        ty[0] = rt_graph_append(g, RT_OP_NORM_DX, in, 6, n->attr, sizeof(rt_norm_attr));
    }
    ty[1] = rt_node_out(ty[0], 1);
    ty[2] = rt_node_out(ty[0], 2);
}

/* --- expansion ---------------------------------------------------------------------------------------------------- */

rt_norm_view rt_norm_view_of(const rt_norm_attr *a, const rt_shape *x)
{
    const uint32_t nhw = 1u << 0 | 1u << 1 | 1u << 2;
    const int64_t nets = rt_nets(a->nets), h = x->d[1], w = x->d[2], c = x->d[3];
    rt_norm_view v = {.image = *x, .affine = *x, .channel = RT_SHAPE(RT_F32, c), .per_channel = nhw};
    if (nets > 1) {
        v.affine = RT_SHAPE(RT_F32, nets, x->d[0] / nets, h, w, c);
        v.channel = RT_SHAPE(RT_F32, nets, 1, 1, 1, c);
        v.per_channel = nhw << 1;
    }
    v.shape = v.affine;
    v.axes = v.per_channel;
    if (a->kind == RT_NORM_GROUP) {
        v.shape = RT_SHAPE(RT_F32, x->d[0], h, w, a->groups, c / a->groups);
        v.axes = 1u << 1 | 1u << 2 | 1u << 4;
    }
    return v;
}

rt_norm_parts rt_norm_expand_parts(rt_graph *g, const rt_node *n, const rt_norm_view *v)
{
    const rt_norm_attr *a = n->attr;
    rt_norm_parts p;
    rt_val x = rt_reshape(g, n->in[0], v->shape);
    p.mean = rt_mean(g, x, v->axes, true);
    rt_val centred = rt_sub(g, x, p.mean);
    rt_val var = rt_mean(g, rt_square(g, centred), v->axes, true);
    p.rstd = rt_recip(g, rt_sqrt(g, rt_add_scalar(g, var, a->eps)));
    p.gamma = rt_reshape(g, n->in[1], v->channel);
    p.xhat = rt_reshape(g, rt_mul(g, centred, p.rstd), v->affine);
    p.pre = rt_add(g, rt_mul(g, p.gamma, p.xhat), rt_reshape(g, n->in[2], v->channel));
    return p;
}

static void norm_expand(rt_graph *g, const rt_node *n, rt_val *out)
{
    const rt_norm_attr *a = n->attr;
    rt_norm_view v = rt_norm_view_of(a, &n->in_shape[0]);
    rt_norm_parts p = rt_norm_expand_parts(g, n, &v);
    rt_val y = rt_reshape(g, a->relu ? rt_relu(g, p.pre) : p.pre, v.image);
    out[0] = a->pool ? rt_avg_pool(g, y, rt_norm_half) : y;
    out[1] = rt_reshape(g, p.mean, n->out_shape[1]);
    out[2] = rt_reshape(g, p.rstd, n->out_shape[2]);
}

rt_val rt_norm_at_pre(rt_graph *g, const rt_norm_attr *a, const rt_norm_view *v, const rt_norm_parts *p, rt_val gy)
{
    if (a->pool) {
        rt_pool_dx_attr up = {.pool = rt_norm_half, .h = v->image.d[1], .w = v->image.d[2]};
        gy = rt_graph_append(g, RT_OP_AVG_POOL_DX, &gy, 1, &up, sizeof up);
    }
    gy = rt_reshape(g, gy, v->affine);
    return a->relu ? rt_mul(g, gy, rt_step(g, p->pre)) : gy;
}

static void norm_dx_expand(rt_graph *g, const rt_node *n, rt_val *out)
{
    const rt_norm_attr *a = n->attr;
    rt_norm_view v = rt_norm_view_of(a, &n->in_shape[0]);
    rt_norm_parts p = rt_norm_expand_parts(g, n, &v);
    rt_val ge = rt_norm_at_pre(g, a, &v, &p, n->in[5]);
    rt_val e = rt_reshape(g, rt_mul(g, ge, p.gamma), v.shape);
    rt_val xhat = rt_reshape(g, p.xhat, v.shape);
    rt_val along = rt_mul(g, xhat, rt_mean(g, rt_mul(g, e, xhat), v.axes, true));
    rt_val inner = rt_sub(g, rt_sub(g, e, rt_mean(g, e, v.axes, true)), along);
    out[0] = rt_reshape(g, rt_mul(g, inner, p.rstd), v.image);
    out[1] = rt_reshape(g, rt_sum(g, rt_mul(g, ge, p.xhat), v.per_channel, false), n->in_shape[1]);
    out[2] = rt_reshape(g, rt_sum(g, ge, v.per_channel, false), n->in_shape[1]);
}

/* --- definition --------------------------------------------------------------------------------------------------- */

int64_t rt_norm_affine_at(const rt_norm_attr *a, const rt_shape *x, int64_t image, int64_t c)
{
    return image / (x->d[0] / rt_nets(a->nets)) * x->d[3] + c;
}

int64_t rt_norm_stat_at(const rt_norm_attr *a, const rt_shape *x, int64_t image, int64_t c)
{
    return a->kind == RT_NORM_BATCH ? rt_norm_affine_at(a, x, image, c) : image * a->groups + c / (x->d[3] / a->groups);
}

int64_t rt_norm_per_stat(const rt_norm_attr *a, const rt_shape *x)
{
    const int64_t map = x->d[1] * x->d[2];
    return a->kind == RT_NORM_BATCH ? x->d[0] / rt_nets(a->nets) * map : map * (x->d[3] / a->groups);
}

int64_t rt_norm_half_index(const rt_shape *x, int64_t image, int64_t h, int64_t w, int64_t c)
{
    return ((image * (x->d[1] / 2) + h / 2) * (x->d[2] / 2) + w / 2) * x->d[3] + c;
}

static rt_status norm_ref(const rt_node *n, const rt_ref_io *io)
{
    const rt_norm_attr *a = n->attr;
    const rt_shape *xs = &n->in_shape[0];
    const double *x = io->in[0], *gamma = io->in[1], *beta = io->in[2];
    double *y = io->out[0], *mean = io->out[1], *rstd = io->out[2];
    const double m = (double)rt_norm_per_stat(a, xs);
    const int64_t n_stat = rt_shape_count(&n->out_shape[1]);

    memset(mean, 0, (size_t)n_stat * sizeof *mean);
    memset(rstd, 0, (size_t)n_stat * sizeof *rstd);
    RT_IMAGE_FOR_EACH(xs, i) mean[rt_norm_stat_at(a, xs, n_, c_)] += x[i];
    for (int64_t s = 0; s < n_stat; s++) mean[s] /= m;
    RT_IMAGE_FOR_EACH(xs, i)
    {
        int64_t s = rt_norm_stat_at(a, xs, n_, c_);
        rstd[s] += (x[i] - mean[s]) * (x[i] - mean[s]);
    }
    for (int64_t s = 0; s < n_stat; s++) rstd[s] = 1 / sqrt(rstd[s] / m + a->eps);

    memset(y, 0, (size_t)rt_shape_count(&n->out_shape[0]) * sizeof *y);
    RT_IMAGE_FOR_EACH(xs, i)
    {
        int64_t s = rt_norm_stat_at(a, xs, n_, c_);
        const int64_t at = rt_norm_affine_at(a, xs, n_, c_);
        double t = gamma[at] * (x[i] - mean[s]) * rstd[s] + beta[at];
        if (a->relu) t = t < 0 ? 0 : t; /* a NaN stays one */
        if (a->pool)
            y[rt_norm_half_index(xs, n_, h_, w_, c_)] += t / 4;
        else
            y[i] = t;
    }
    return RT_OK;
}

static rt_status norm_dx_ref(const rt_node *n, const rt_ref_io *io)
{
    rt_status st = RT_OK;
    const rt_norm_attr *a = n->attr;
    const rt_shape *xs = &n->in_shape[0];
    const double *x = io->in[0], *gamma = io->in[1], *beta = io->in[2], *mean = io->in[3], *rstd = io->in[4];
    const double *gy = io->in[5];
    double *gx = io->out[0], *ggamma = io->out[1], *gbeta = io->out[2], *sum_e, *sum_ex;
    const double m = (double)rt_norm_per_stat(a, xs);
    const int64_t n_stat = rt_shape_count(&n->in_shape[3]), n_affine = n->in_shape[1].d[0];
    double *sums = NULL;
    RT_ALLOC(sums, (size_t)n_stat * 2 * sizeof *sums, "sums of norm_dx");
    sum_e = sums;
    sum_ex = sums + n_stat;

    memset(ggamma, 0, (size_t)n_affine * sizeof *ggamma);
    memset(gbeta, 0, (size_t)n_affine * sizeof *gbeta);
    RT_IMAGE_FOR_EACH(xs, i)
    {
        int64_t s = rt_norm_stat_at(a, xs, n_, c_);
        double xhat = (x[i] - mean[s]) * rstd[s];
        double g = a->pool ? gy[rt_norm_half_index(xs, n_, h_, w_, c_)] / 4 : gy[i];
        const int64_t at = rt_norm_affine_at(a, xs, n_, c_);
        if (a->relu && !(gamma[at] * xhat + beta[at] > 0)) g = 0;
        ggamma[at] += g * xhat;
        gbeta[at] += g;
        gx[i] = gamma[at] * g; /* e, until the sums are known */
        sum_e[s] += gx[i];
        sum_ex[s] += gx[i] * xhat;
    }
    RT_IMAGE_FOR_EACH(xs, i)
    {
        int64_t s = rt_norm_stat_at(a, xs, n_, c_);
        gx[i] = rstd[s] * (gx[i] - sum_e[s] / m - (x[i] - mean[s]) * rstd[s] * sum_ex[s] / m);
    }
out:
    rt_free(sums);
    return st;
}

/* --- cost and text ------------------------------------------------------------------------------------------------ */

/* Statistics 4, normalise and scale 4, ReLU and pool 1 each. */
static rt_cost norm_cost(const rt_node *n)
{
    const rt_norm_attr *a = n->attr;
    double per = 8 + (a->relu ? 1 : 0) + (a->pool ? 1 : 0);
    return (rt_cost){.flops = per * (double)rt_shape_count(&n->in_shape[0]), .bytes = rt_op_bytes(n)};
}

static rt_cost norm_dx_cost(const rt_node *n)
{
    const rt_norm_attr *a = n->attr;
    double per = 14 + (a->relu ? 3 : 0) + (a->pool ? 1 : 0);
    return (rt_cost){.flops = per * (double)rt_shape_count(&n->in_shape[0]), .bytes = rt_op_bytes(n)};
}

void rt_norm_print(const rt_node *n, char *buf, size_t len)
{
    const rt_norm_attr *a = n->attr;
    char kind[32] = "batch", nets[40] = "";
    if (a->kind == RT_NORM_GROUP) snprintf(kind, sizeof kind, "groups=%d", a->groups);
    if (a->nets > 1) snprintf(nets, sizeof nets, " nets=%lld", (long long)a->nets);
    snprintf(buf, len, "%s eps=%g%s%s%s", kind, a->eps, nets, a->relu ? " relu" : "", a->pool ? " pool=2" : "");
}

const rt_op_row rt_row_norm = {
    .name = "norm", .n_in = 3, .n_out = 3, .attr_bytes = sizeof(rt_norm_attr), .infer = norm_infer, .vjp = norm_vjp,
    .expand = norm_expand, .ref = norm_ref, .cost = norm_cost, .vjp_needs_expand = norm_vjp_needs_expand,
    .print_attr = rt_norm_print, .jvp = norm_jvp, .jvp_out = 1u << 0,
};
const rt_op_row rt_row_norm_dx = {
    .name = "norm_dx", .n_in = 6, .n_out = 3, .no_grad_in = 1u << 3 | 1u << 4, .attr_bytes = sizeof(rt_norm_attr),
    .infer = norm_dx_infer, .vjp = norm_dx_vjp, .expand = norm_dx_expand, .ref = norm_dx_ref, .cost = norm_dx_cost,
    .print_attr = rt_norm_print, .jvp = norm_dx_jvp, .jvp_out = 7,
};
