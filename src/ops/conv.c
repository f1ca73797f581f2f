/* Two-dimensional convolution: one trilinear form, three ops.
 *
 * T(x, w, gy) = <gy, conv2d(x, w)> is linear in each argument. Fixing two and differentiating by the third gives conv2d
 * (by gy), conv2d_dx (by x) and conv2d_dw (by w), so the three are each other's derivatives and the family is closed at
 * every order. The bias adds <gy, 1 bias>: its gradient is the second output of conv2d_dw, which reads gy once for
 * both.
 *
 * Networks. With `nets` = M the node is M convolutions of the same geometry side by side: axis 0 of x, y and w is M equal
 * blocks and block m of one meets block m of the others. The family stays closed, since each block is.
 *
 * Not here: dilation, asymmetric padding, transposed convolution as a layer (conv2d_dx is that operator).
 *
 * x [N,H,W,C], w [M K,C/groups,R,S], y and gy [N,P,Q,K]; P = (H + 2 pad - R) / stride + 1, rounded down. */
#include "ops/attrs.h"
#include "ops/check.h"

#include <stdio.h>
#include <string.h>

/* --- shapes ------------------------------------------------------------------------------------------------------ */

static rt_status check_attr(const rt_node *n, const rt_conv2d_attr *a)
{
    if (a->conv.stride[0] < 1 || a->conv.stride[1] < 1) return rt_op_misuse(n, "stride must be at least 1");
    if (a->conv.pad[0] < 0 || a->conv.pad[1] < 0) return rt_op_misuse(n, "padding must not be negative");
    if (a->conv.groups < 1) return rt_op_misuse(n, "groups must be at least 1");
    if (a->conv.nets < 0) return rt_op_misuse(n, "nets must not be negative");
    return RT_OK;
}

/* y of an x [n,h,w,c] under w [nets k,c/groups,r,s]; complains where they do not fit. */
static rt_status y_shape(const rt_node *n, const rt_conv2d_attr *a, const int64_t x[4], const int64_t w[4], rt_shape *y)
{
    int64_t groups = a->conv.groups, nets = rt_nets(a->conv.nets), k_net = w[0] / nets;
    if (x[0] % nets || w[0] % nets)
        return rt_op_misuse(n, "%lld networks do not divide N = %lld and %lld rows of weights", (long long)nets,
                            (long long)x[0], (long long)w[0]);
    if (x[3] % groups || k_net % groups)
        return rt_op_misuse(n, "%d groups do not divide C = %lld and K = %lld", a->conv.groups, (long long)x[3],
                            (long long)k_net);
    if (w[1] != x[3] / groups)
        return rt_op_misuse(n, "w holds %lld channels per group where x has %lld", (long long)w[1],
                            (long long)(x[3] / groups));
    int64_t out[2];
    for (int k = 0; k < 2; k++) {
        int64_t room = x[1 + k] + 2 * (int64_t)a->conv.pad[k] - w[2 + k];
        if (room < 0) return rt_op_misuse(n, "the window is larger than the padded image");
        out[k] = room / a->conv.stride[k] + 1;
    }
    *y = RT_SHAPE(RT_F32, x[0], out[0], out[1], k_net);
    return RT_OK;
}

static rt_status conv2d_infer(rt_node *n)
{
    rt_status st = RT_OK;
    const rt_conv2d_attr *a = n->attr;
    RT_TRY(check_attr(n, a));
    if (n->n_in != (a->has_bias ? 3 : 2)) {
        st = rt_op_misuse(n, "takes %d inputs", a->has_bias ? 3 : 2);
        goto out;
    }
    RT_TRY(rt_op_want(n, 0, RT_F32, 4));
    RT_TRY(rt_op_want(n, 1, RT_F32, 4));
    if (a->has_bias) {
        rt_shape bias = RT_SHAPE(RT_F32, n->in_shape[1].d[0]);
        RT_TRY(rt_op_want_shape(n, 2, &bias));
    }
    RT_TRY(y_shape(n, a, n->in_shape[0].d, n->in_shape[1].d, &n->out_shape[0]));
out:
    return st;
}

static rt_status conv2d_dx_infer(rt_node *n)
{
    rt_status st = RT_OK;
    const rt_conv2d_attr *a = n->attr;
    RT_TRY(check_attr(n, a));
    RT_TRY(rt_op_want(n, 0, RT_F32, 4));
    RT_TRY(rt_op_want(n, 1, RT_F32, 4));
    if (a->h < 1 || a->w < 1 || a->c < 1) {
        st = rt_op_misuse(n, "the image to form is empty");
        goto out;
    }
    const int64_t x[4] = {n->in_shape[0].d[0], a->h, a->w, a->c};
    rt_shape y;
    RT_TRY(y_shape(n, a, x, n->in_shape[1].d, &y));
    RT_TRY(rt_op_want_shape(n, 0, &y));
    n->out_shape[0] = rt_shape_make(RT_F32, 4, x);
out:
    return st;
}

static rt_status conv2d_dw_infer(rt_node *n)
{
    rt_status st = RT_OK;
    const rt_conv2d_attr *a = n->attr;
    RT_TRY(check_attr(n, a));
    RT_TRY(rt_op_want(n, 0, RT_F32, 4));
    RT_TRY(rt_op_want(n, 1, RT_F32, 4));
    if (a->r < 1 || a->s < 1) {
        st = rt_op_misuse(n, "the window to form is empty");
        goto out;
    }
    const int64_t k = n->in_shape[1].d[3] * rt_nets(a->conv.nets);
    const int64_t w[4] = {k, n->in_shape[0].d[3] / a->conv.groups, a->r, a->s};
    rt_shape y;
    RT_TRY(y_shape(n, a, n->in_shape[0].d, w, &y));
    RT_TRY(rt_op_want_shape(n, 1, &y));
    n->out_shape[0] = rt_shape_make(RT_F32, 4, w);
    n->n_out = 1;
    if (a->has_bias) {
        n->out_shape[1] = RT_SHAPE(RT_F32, k);
        n->n_out = 2;
    }
out:
    return st;
}

/* --- constructors ------------------------------------------------------------------------------------------------- */

rt_val rt_conv2d(rt_graph *g, rt_val x, rt_val w, rt_val bias, rt_conv_attr a)
{
    if (a.nets == 1) a.nets = 0;
    rt_conv2d_attr attr = {.conv = a, .has_bias = bias.id != 0};
    rt_val in[3] = {x, w, bias};
    return rt_graph_append(g, RT_OP_CONV2D, in, attr.has_bias ? 3 : 2, &attr, sizeof attr);
}

/* x: the shape of the image to form. */
static rt_val conv2d_dx(rt_graph *g, rt_val gy, rt_val w, rt_conv_attr a, const rt_shape *x)
{
    rt_conv2d_attr attr = {.conv = a, .h = x->d[1], .w = x->d[2], .c = x->d[3]};
    return rt_graph_append(g, RT_OP_CONV2D_DX, (rt_val[]){gy, w}, 2, &attr, sizeof attr);
}

static rt_val conv2d_dw(rt_graph *g, rt_val x, rt_val gy, rt_conv_attr a, const rt_shape *w, int64_t has_bias)
{
    rt_conv2d_attr attr = {.conv = a, .has_bias = has_bias, .r = w->d[2], .s = w->d[3]};
    return rt_graph_append(g, RT_OP_CONV2D_DW, (rt_val[]){x, gy}, 2, &attr, sizeof attr);
}

/* --- derivatives -------------------------------------------------------------------------------------------------- */

static void conv2d_vjp(rt_graph *g, const rt_node *n, const rt_val *gy, rt_val *gx)
{
    const rt_conv2d_attr *a = n->attr;
    gx[0] = conv2d_dx(g, gy[0], n->in[1], a->conv, &n->in_shape[0]);
    gx[1] = conv2d_dw(g, n->in[0], gy[0], a->conv, &n->in_shape[1], a->has_bias);
    if (a->has_bias) gx[2] = rt_node_out(gx[1], 1);
}

static void conv2d_dx_vjp(rt_graph *g, const rt_node *n, const rt_val *gy, rt_val *gx)
{
    const rt_conv2d_attr *a = n->attr; /* inputs were (gy, w) */
    gx[0] = rt_conv2d(g, gy[0], n->in[1], (rt_val){0}, a->conv);
    gx[1] = conv2d_dw(g, gy[0], n->in[0], a->conv, &n->in_shape[1], 0);
}

/* gb [M K] over the pixels of gy [M n,P,Q,K]: what a bias does. */
static rt_val spread(rt_graph *g, rt_val gb, int64_t nets, const rt_shape *gy)
{
    if (nets == 1) return rt_broadcast(g, gb, *gy);
    const int64_t n = gy->d[0] / nets, p = gy->d[1], q = gy->d[2], k = gy->d[3];
    gb = rt_reshape(g, gb, RT_SHAPE(RT_F32, nets, 1, 1, 1, k));
    return rt_reshape(g, rt_broadcast(g, gb, RT_SHAPE(RT_F32, nets, n, p, q, k)), *gy);
}

static void conv2d_dw_vjp(rt_graph *g, const rt_node *n, const rt_val *gy, rt_val *gx)
{
    const rt_conv2d_attr *a = n->attr; /* inputs were (x, gy), outputs (dw, db) */
    rt_val gw = gy[0], gb = a->has_bias ? gy[1] : (rt_val){0};
    gx[0] = gx[1] = (rt_val){0};
    if (gw.id) { /* d<gb, db>/dgy spreads gb over N,P,Q, which is what a bias does */
        gx[0] = conv2d_dx(g, n->in[1], gw, a->conv, &n->in_shape[0]);
        gx[1] = rt_conv2d(g, n->in[0], gw, gb, a->conv);
    } else if (gb.id) {
        gx[1] = spread(g, gb, rt_nets(a->conv.nets), &n->in_shape[1]);
    }
}

/* --- definition --------------------------------------------------------------------------------------------------- */

/* The index space of the trilinear form; every op walks it once and differs only in what it accumulates. */
typedef struct conv_space {
    int64_t nets, n, h, w, c, k, cg, r, s, p, q, kg; /* n: images of all networks; k, kg: of one */
    int64_t stride[2], pad[2];
} conv_space;

static conv_space space_of(const rt_conv2d_attr *a, const rt_shape *x, const rt_shape *w, const rt_shape *y)
{
    const int64_t nets = rt_nets(a->conv.nets), k = w->d[0] / nets;
    return (conv_space){.nets = nets, .n = x->d[0], .h = x->d[1], .w = x->d[2], .c = x->d[3], .k = k, .cg = w->d[1],
                        .r = w->d[2], .s = w->d[3], .p = y->d[1], .q = y->d[2], .kg = k / a->conv.groups,
                        .stride = {a->conv.stride[0], a->conv.stride[1]}, .pad = {a->conv.pad[0], a->conv.pad[1]}};
}

/* Visits every (y element, x element, w element) triple that multiplies. */
#define CONV_FOR_EACH(sp, iy, ix, iw)                                                                                  \
    for (int64_t n_ = 0; n_ < (sp).n; n_++)                                                                            \
        for (int64_t p_ = 0, k0_ = n_ / ((sp).n / (sp).nets) * (sp).k; p_ < (sp).p; p_++)                              \
            for (int64_t q_ = 0; q_ < (sp).q; q_++)                                                                    \
                for (int64_t k_ = 0; k_ < (sp).k; k_++)                                                                \
                    for (int64_t r_ = 0; r_ < (sp).r; r_++)                                                            \
                        for (int64_t s_ = 0, iy = ((n_ * (sp).p + p_) * (sp).q + q_) * (sp).k + k_; s_ < (sp).s; s_++) \
                            for (int64_t c_ = 0, h_ = p_ * (sp).stride[0] - (sp).pad[0] + r_,                          \
                                         w_ = q_ * (sp).stride[1] - (sp).pad[1] + s_,                                  \
                                         ix = ((n_ * (sp).h + h_) * (sp).w + w_) * (sp).c + k_ / (sp).kg * (sp).cg,    \
                                         iw = ((k0_ + k_) * (sp).cg * (sp).r + r_) * (sp).s + s_;                      \
                                 h_ >= 0 && h_ < (sp).h && w_ >= 0 && w_ < (sp).w && c_ < (sp).cg;                     \
                                 c_++, ix++, iw += (sp).r * (sp).s)

/* The bias of element i of y. */
static int64_t bias_at(const conv_space *sp, int64_t i)
{
    return i / (sp->n / sp->nets * sp->p * sp->q * sp->k) * sp->k + i % sp->k;
}

static rt_status conv2d_ref(const rt_node *n, const rt_ref_io *io)
{
    const rt_conv2d_attr *a = n->attr;
    const double *x = io->in[0], *w = io->in[1], *bias = a->has_bias ? io->in[2] : NULL;
    double *y = io->out[0];
    conv_space sp = space_of(a, &n->in_shape[0], &n->in_shape[1], &n->out_shape[0]);
    for (int64_t i = 0; i < rt_shape_count(&n->out_shape[0]); i++) y[i] = bias ? bias[bias_at(&sp, i)] : 0;
    CONV_FOR_EACH(sp, iy, ix, iw) y[iy] += x[ix] * w[iw];
    return RT_OK;
}

static rt_status conv2d_dx_ref(const rt_node *n, const rt_ref_io *io)
{
    const double *gy = io->in[0], *w = io->in[1];
    double *gx = io->out[0];
    conv_space sp = space_of(n->attr, &n->out_shape[0], &n->in_shape[1], &n->in_shape[0]);
    memset(gx, 0, (size_t)rt_shape_count(&n->out_shape[0]) * sizeof *gx);
    CONV_FOR_EACH(sp, iy, ix, iw) gx[ix] += gy[iy] * w[iw];
    return RT_OK;
}

static rt_status conv2d_dw_ref(const rt_node *n, const rt_ref_io *io)
{
    const rt_conv2d_attr *a = n->attr;
    const double *x = io->in[0], *gy = io->in[1];
    double *dw = io->out[0];
    conv_space sp = space_of(a, &n->in_shape[0], &n->out_shape[0], &n->in_shape[1]);
    memset(dw, 0, (size_t)rt_shape_count(&n->out_shape[0]) * sizeof *dw);
    CONV_FOR_EACH(sp, iy, ix, iw) dw[iw] += gy[iy] * x[ix];
    if (a->has_bias) {
        double *db = io->out[1];
        memset(db, 0, (size_t)(sp.nets * sp.k) * sizeof *db);
        for (int64_t i = 0; i < rt_shape_count(&n->in_shape[1]); i++) db[bias_at(&sp, i)] += gy[i];
    }
    return RT_OK;
}

/* --- cost and text ------------------------------------------------------------------------------------------------ */

/* Multiply-adds with padding counted, as everyone counts them. */
static rt_cost conv_cost(const rt_node *n, const rt_shape *w, const rt_shape *y)
{
    double per_output = (double)(w->d[1] * w->d[2] * w->d[3]);
    return (rt_cost){.flops = 2 * per_output * (double)rt_shape_count(y), .bytes = rt_op_bytes(n)};
}
static rt_cost conv2d_cost(const rt_node *n) { return conv_cost(n, &n->in_shape[1], &n->out_shape[0]); }
static rt_cost conv2d_dx_cost(const rt_node *n) { return conv_cost(n, &n->in_shape[1], &n->in_shape[0]); }
static rt_cost conv2d_dw_cost(const rt_node *n) { return conv_cost(n, &n->out_shape[0], &n->in_shape[1]); }

static void conv_print(const rt_node *n, char *buf, size_t len)
{
    const rt_conv2d_attr *a = n->attr;
    char more[96] = "";
    if (n->op == RT_OP_CONV2D_DX)
        snprintf(more, sizeof more, " x=%lldx%lldx%lld", (long long)a->h, (long long)a->w, (long long)a->c);
    if (n->op == RT_OP_CONV2D_DW) snprintf(more, sizeof more, " w=%lldx%lld", (long long)a->r, (long long)a->s);
    char nets[24] = "";
    if (a->conv.nets > 1) snprintf(nets, sizeof nets, " nets=%d", a->conv.nets);
    snprintf(buf, len, "stride=%dx%d pad=%dx%d groups=%d%s%s%s", a->conv.stride[0], a->conv.stride[1], a->conv.pad[0],
             a->conv.pad[1], a->conv.groups, nets, more, a->has_bias ? " bias" : "");
}

const rt_op_row rt_row_conv2d = {
    .name = "conv2d", .n_in = 255, .n_out = 1, .flags = RT_ROW_LINEAR, .attr_bytes = sizeof(rt_conv2d_attr),
    .infer = conv2d_infer, .vjp = conv2d_vjp, .ref = conv2d_ref, .cost = conv2d_cost, .print_attr = conv_print,
};
const rt_op_row rt_row_conv2d_dx = {
    .name = "conv2d_dx", .n_in = 2, .n_out = 1, .flags = RT_ROW_LINEAR, .attr_bytes = sizeof(rt_conv2d_attr),
    .infer = conv2d_dx_infer, .vjp = conv2d_dx_vjp, .ref = conv2d_dx_ref, .cost = conv2d_dx_cost,
    .print_attr = conv_print,
};
const rt_op_row rt_row_conv2d_dw = {
    .name = "conv2d_dw", .n_in = 2, .n_out = 2, .flags = RT_ROW_LINEAR, .attr_bytes = sizeof(rt_conv2d_attr),
    .infer = conv2d_dw_infer, .vjp = conv2d_dw_vjp, .ref = conv2d_dw_ref, .cost = conv2d_dw_cost,
    .print_attr = conv_print,
};
