/* Second order of fused normalisation: tangents of norm and of its gradient, each as one op.
 *
 * Along (tx, tgamma, tbeta), with the names of norm.c, m1 = mean(tx), m2 = mean(tx * xhat) over a statistic's elements:
 *
 *     txhat = rstd * (tx - m1 - xhat * m2)
 *     ty    = pool(mask * (tgamma * xhat + gamma * txhat + tbeta))                                   norm_tangent
 *
 * and, with g and tg the gradients at pre that belong to gy and tgy, e = gamma * g, te = tgamma * g + gamma * tg:
 *
 *     tgx     = rstd * (te - mean(te) - txhat * mean(e xhat) - xhat * (mean(te xhat) + mean(e txhat))) - rstd * m2 * gx
 *     tggamma = sum (tg * xhat + g * txhat),  tgbeta = sum tg                                        norm_dx_tangent
 *
 * (matching.md 3.2). The mask of the ReLU is constant, so tbeta does not enter the second. A missing tgy is zero.
 *
 * Both serve either mode of differentiation: rt_jvp asks for them directly, and because a Hessian is symmetric they are
 * also the reverse rule of norm_dx (norm.c). Without them one second-order normalisation is some thirty elementwise
 * passes over the map. Their own derivatives go through their expansions, where mean and rstd are recomputed from x, as
 * for norm_dx. */
#include <string.h>

#include "base/alloc.h"
#include "ops/norm.h"

/* --- shapes and constructors ---------------------------------------------------------------------------------------- */
static rt_status want_stats(const rt_node *n)
{
    rt_status st = RT_OK;
    RT_TRY(rt_norm_check(n));
    const rt_shape stat = rt_norm_stat_shape(n->attr, &n->in_shape[0]);
    RT_TRY(rt_op_want_shape(n, 3, &stat));
    RT_TRY(rt_op_want_shape(n, 4, &stat));
out:
    return st;
}

static rt_status norm_tangent_infer(rt_node *n)
{
    rt_status st = RT_OK;
    RT_TRY(want_stats(n));
    RT_TRY(rt_op_want_shape(n, 5, &n->in_shape[0]));
    RT_TRY(rt_op_want_shape(n, 6, &n->in_shape[1]));
    RT_TRY(rt_op_want_shape(n, 7, &n->in_shape[1]));
    n->out_shape[0] = rt_norm_y_shape(n->attr, &n->in_shape[0]);
out:
    return st;
}

static rt_status norm_dx_tangent_infer(rt_node *n)
{
    rt_status st = RT_OK;
    if (n->n_in != 8 && n->n_in != 9) return rt_op_misuse(n, "takes 8 or 9 inputs");
    RT_TRY(want_stats(n));
    const rt_shape y = rt_norm_y_shape(n->attr, &n->in_shape[0]);
    RT_TRY(rt_op_want_shape(n, 5, &y));
    RT_TRY(rt_op_want_shape(n, 6, &n->in_shape[0]));
    RT_TRY(rt_op_want_shape(n, 7, &n->in_shape[1]));
    if (n->n_in == 9) RT_TRY(rt_op_want_shape(n, 8, &y));
    n->out_shape[0] = n->in_shape[0];
    n->out_shape[1] = n->out_shape[2] = n->in_shape[1];
out:
    return st;
}

static rt_val or_zero(rt_graph *g, rt_val v, const rt_shape *s) { return v.id ? v : rt_const(g, 0, *s); }

/* mean and rstd of the statistic that a norm or norm_dx node uses. */
static void stats_of(const rt_node *n, rt_val *mean, rt_val *rstd)
{
    const bool forward = n->op == RT_OP_NORM;
    *mean = forward ? rt_node_out((rt_val){n->first_out}, 1) : n->in[3];
    *rstd = forward ? rt_node_out((rt_val){n->first_out}, 2) : n->in[4];
}

rt_val rt_norm_tangent(rt_graph *g, const rt_node *n, rt_val tx, rt_val tgamma, rt_val tbeta)
{
    rt_val in[8] = {n->in[0], n->in[1], n->in[2]};
    stats_of(n, &in[3], &in[4]);
    in[5] = or_zero(g, tx, &n->in_shape[0]);
    in[6] = or_zero(g, tgamma, &n->in_shape[1]);
    in[7] = or_zero(g, tbeta, &n->in_shape[1]);
    return rt_graph_append(g, RT_OP_NORM_TANGENT, in, 8, n->attr, sizeof(rt_norm_attr));
}

rt_val rt_norm_dx_tangent(rt_graph *g, const rt_node *n, rt_val tx, rt_val tgamma, rt_val tgy)
{
    rt_val in[9] = {n->in[0], n->in[1], n->in[2], n->in[3], n->in[4], n->in[5]};
    in[6] = or_zero(g, tx, &n->in_shape[0]);
    in[7] = or_zero(g, tgamma, &n->in_shape[1]);
    in[8] = tgy;
    return rt_graph_append(g, RT_OP_NORM_DX_TANGENT, in, tgy.id ? 9 : 8, n->attr, sizeof(rt_norm_attr));
}

/* --- expansion ---------------------------------------------------------------------------------------------------- */
typedef struct tangent_parts {
    rt_val m2;    /* kept dims of the statistic's view */
    rt_val txhat; /* of the affine view */
} tangent_parts;

static tangent_parts expand_tangent(rt_graph *g, const rt_norm_view *v, const rt_norm_parts *p, rt_val tx)
{
    tangent_parts t;
    rt_val xhat = rt_reshape(g, p->xhat, v->shape), along = rt_reshape(g, tx, v->shape);
    t.m2 = rt_mean(g, rt_mul(g, along, xhat), v->axes, true);
    rt_val inner = rt_sub(g, rt_sub(g, along, rt_mean(g, along, v->axes, true)), rt_mul(g, xhat, t.m2));
    t.txhat = rt_reshape(g, rt_mul(g, inner, p->rstd), v->affine);
    return t;
}

static void norm_tangent_expand(rt_graph *g, const rt_node *n, rt_val *out)
{
    const rt_norm_attr *a = n->attr;
    const rt_norm_view v = rt_norm_view_of(a, &n->in_shape[0]);
    const rt_norm_parts p = rt_norm_expand_parts(g, n, &v);
    const tangent_parts t = expand_tangent(g, &v, &p, n->in[5]);
    rt_val tgamma = rt_reshape(g, n->in[6], v.channel), tbeta = rt_reshape(g, n->in[7], v.channel);
    rt_val ty = rt_add(g, rt_add(g, rt_mul(g, tgamma, p.xhat), rt_mul(g, p.gamma, t.txhat)), tbeta);
    if (a->relu) ty = rt_mul(g, ty, rt_step(g, p.pre));
    ty = rt_reshape(g, ty, v.image);
    out[0] = a->pool ? rt_avg_pool(g, ty, rt_norm_half) : ty;
}

static void norm_dx_tangent_expand(rt_graph *g, const rt_node *n, rt_val *out)
{
    const rt_norm_attr *a = n->attr;
    const rt_norm_view v = rt_norm_view_of(a, &n->in_shape[0]);
    const rt_norm_parts p = rt_norm_expand_parts(g, n, &v);
    const tangent_parts t = expand_tangent(g, &v, &p, n->in[6]);
    rt_val ge = rt_norm_at_pre(g, a, &v, &p, n->in[5]), te_affine = rt_mul(g, ge, rt_reshape(g, n->in[7], v.channel));
    rt_val sum_gamma = rt_mul(g, ge, t.txhat), tge = {0};
    if (n->n_in == 9) {
        tge = rt_norm_at_pre(g, a, &v, &p, n->in[8]);
        te_affine = rt_add(g, te_affine, rt_mul(g, tge, p.gamma));
        sum_gamma = rt_add(g, sum_gamma, rt_mul(g, tge, p.xhat));
    }
    rt_val e = rt_reshape(g, rt_mul(g, ge, p.gamma), v.shape), te = rt_reshape(g, te_affine, v.shape);
    rt_val xhat = rt_reshape(g, p.xhat, v.shape), txhat = rt_reshape(g, t.txhat, v.shape);
    rt_val mex = rt_mean(g, rt_mul(g, e, xhat), v.axes, true);
    rt_val gx = rt_sub(g, rt_sub(g, e, rt_mean(g, e, v.axes, true)), rt_mul(g, xhat, mex)); /* over rstd */
    rt_val mtex = rt_mean(g, rt_add(g, rt_mul(g, te, xhat), rt_mul(g, e, txhat)), v.axes, true);
    rt_val inner = rt_sub(g, rt_sub(g, te, rt_mean(g, te, v.axes, true)), rt_mul(g, txhat, mex));
    inner = rt_sub(g, rt_sub(g, inner, rt_mul(g, xhat, mtex)), rt_mul(g, gx, rt_mul(g, t.m2, p.rstd)));
    out[0] = rt_reshape(g, rt_mul(g, inner, p.rstd), v.image);
    out[1] = rt_reshape(g, rt_sum(g, sum_gamma, v.per_channel, false), n->in_shape[1]);
    out[2] = n->n_in == 9 ? rt_reshape(g, rt_sum(g, tge, v.per_channel, false), n->in_shape[1])
                          : rt_const(g, 0, n->in_shape[1]);
}

/* --- definition --------------------------------------------------------------------------------------------------- */
/* Operands of either op, and the means that both need: m1 and m2 per statistic. */
typedef struct frame {
    const rt_norm_attr *a;
    const rt_shape *x_shape;
    const double *x, *gamma, *beta, *mean, *rstd, *tx, *tgamma;
    double *m1, *m2;
} frame;

/* tx, tgamma: inputs at and after `tx`. */
static frame frame_of(const rt_node *n, const rt_ref_io *io, int tx)
{
    return (frame){.a = n->attr, .x_shape = &n->in_shape[0], .x = io->in[0], .gamma = io->in[1], .beta = io->in[2],
                   .mean = io->in[3], .rstd = io->in[4], .tx = io->in[tx], .tgamma = io->in[tx + 1]};
}

static void fill_means(const frame *f)
{
    const double m = (double)rt_norm_per_stat(f->a, f->x_shape);
    RT_IMAGE_FOR_EACH(f->x_shape, i)
    {
        const int64_t s = rt_norm_stat_at(f->a, f->x_shape, n_, c_);
        f->m1[s] += f->tx[i] / m;
        f->m2[s] += f->tx[i] * (f->x[i] - f->mean[s]) * f->rstd[s] / m;
    }
}

typedef struct element {
    int64_t stat, affine;
    double xhat, txhat;
    bool on; /* the ReLU lets it through */
} element;

static element element_at(const frame *f, int64_t i, int64_t image, int64_t c)
{
    element e = {.stat = rt_norm_stat_at(f->a, f->x_shape, image, c), .affine = rt_norm_affine_at(f->a, f->x_shape, image, c)};
    e.xhat = (f->x[i] - f->mean[e.stat]) * f->rstd[e.stat];
    e.txhat = f->rstd[e.stat] * (f->tx[i] - f->m1[e.stat] - e.xhat * f->m2[e.stat]);
    e.on = !f->a->relu || f->gamma[e.affine] * e.xhat + f->beta[e.affine] > 0;
    return e;
}

static rt_status norm_tangent_ref(const rt_node *n, const rt_ref_io *io)
{
    rt_status st = RT_OK;
    const int64_t n_stat = rt_shape_count(&n->in_shape[3]);
    const double *tbeta = io->in[7];
    double *ty = io->out[0], *sums = NULL;
    frame f = frame_of(n, io, 5);
    RT_ALLOC(sums, (size_t)n_stat * 2 * sizeof *sums, "means of norm_tangent");
    f.m1 = sums;
    f.m2 = sums + n_stat;
    fill_means(&f);
    memset(ty, 0, (size_t)rt_shape_count(&n->out_shape[0]) * sizeof *ty);
    RT_IMAGE_FOR_EACH(f.x_shape, i)
    {
        const element e = element_at(&f, i, n_, c_);
        const double t = f.tgamma[e.affine] * e.xhat + f.gamma[e.affine] * e.txhat + tbeta[e.affine];
        if (f.a->pool)
            ty[rt_norm_half_index(f.x_shape, n_, h_, w_, c_)] += e.on ? t / 4 : 0;
        else
            ty[i] = e.on ? t : 0;
    }
out:
    rt_free(sums);
    return st;
}

static double at_pre(const frame *f, const element *e, const double *gy, int64_t i, int64_t half)
{
    if (!gy || !e->on) return 0;
    return f->a->pool ? gy[half] / 4 : gy[i];
}

static rt_status norm_dx_tangent_ref(const rt_node *n, const rt_ref_io *io)
{
    rt_status st = RT_OK;
    const int64_t n_stat = rt_shape_count(&n->in_shape[3]), n_affine = n->in_shape[1].d[0];
    const double *gy = io->in[5], *tgy = n->n_in == 9 ? io->in[8] : NULL;
    double *tgx = io->out[0], *tggamma = io->out[1], *tgbeta = io->out[2], *sums = NULL;
    frame f = frame_of(n, io, 6);
    const double m = (double)rt_norm_per_stat(f.a, f.x_shape);
    RT_ALLOC(sums, (size_t)n_stat * 6 * sizeof *sums, "means of norm_dx_tangent");
    f.m1 = sums;
    f.m2 = sums + n_stat;
    double *me = sums + 2 * n_stat, *mex = sums + 3 * n_stat, *mte = sums + 4 * n_stat, *mtex = sums + 5 * n_stat;
    fill_means(&f);
    memset(tggamma, 0, (size_t)n_affine * sizeof *tggamma);
    memset(tgbeta, 0, (size_t)n_affine * sizeof *tgbeta);
    for (int pass = 0; pass < 2; pass++) /* means, then values */
        RT_IMAGE_FOR_EACH(f.x_shape, i)
        {
            const int64_t half = f.a->pool ? rt_norm_half_index(f.x_shape, n_, h_, w_, c_) : 0;
            const element k = element_at(&f, i, n_, c_);
            const double g = at_pre(&f, &k, gy, i, half), tg = at_pre(&f, &k, tgy, i, half);
            const double e = f.gamma[k.affine] * g, te = f.tgamma[k.affine] * g + f.gamma[k.affine] * tg;
            const double r = f.rstd[k.stat];
            if (pass == 0) {
                me[k.stat] += e / m;
                mex[k.stat] += e * k.xhat / m;
                mte[k.stat] += te / m;
                mtex[k.stat] += (te * k.xhat + e * k.txhat) / m;
                tggamma[k.affine] += tg * k.xhat + g * k.txhat;
                tgbeta[k.affine] += tg;
                continue;
            }
            const double gx = r * (e - me[k.stat] - k.xhat * mex[k.stat]);
            tgx[i] = r * (te - mte[k.stat] - k.txhat * mex[k.stat] - k.xhat * mtex[k.stat]) - r * f.m2[k.stat] * gx;
        }
out:
    rt_free(sums);
    return st;
}

/* --- cost ------------------------------------------------------------------------------------------------------------ */
static rt_cost norm_tangent_cost(const rt_node *n)
{
    const rt_norm_attr *a = n->attr;
    const double per = 10 + (a->relu ? 3 : 0) + (a->pool ? 1 : 0);
    return (rt_cost){.flops = per * (double)rt_shape_count(&n->in_shape[0]), .bytes = rt_op_bytes(n)};
}

static rt_cost norm_dx_tangent_cost(const rt_node *n)
{
    const rt_norm_attr *a = n->attr;
    const double per = 22 + (a->relu ? 3 : 0) + (a->pool ? 1 : 0);
    return (rt_cost){.flops = per * (double)rt_shape_count(&n->in_shape[0]), .bytes = rt_op_bytes(n)};
}

const rt_op_row rt_row_norm_tangent = {
    .name = "norm_tangent", .n_in = 8, .n_out = 1, .no_grad_in = 1u << 3 | 1u << 4, .attr_bytes = sizeof(rt_norm_attr),
    .infer = norm_tangent_infer, .expand = norm_tangent_expand, .ref = norm_tangent_ref, .cost = norm_tangent_cost,
    .print_attr = rt_norm_print,
};
const rt_op_row rt_row_norm_dx_tangent = {
    .name = "norm_dx_tangent", .n_in = 255, .n_out = 3, .no_grad_in = 1u << 3 | 1u << 4,
    .attr_bytes = sizeof(rt_norm_attr), .infer = norm_dx_tangent_infer, .expand = norm_dx_tangent_expand,
    .ref = norm_dx_tangent_ref, .cost = norm_dx_tangent_cost, .print_attr = rt_norm_print,
};
