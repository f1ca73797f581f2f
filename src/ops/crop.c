/* The view that a group of images shares: a crop resized bilinearly, mirrored and shifted circularly. Formulas and edge
 * rules: kernels/math/crop.inc. Linear in the image; crop_view_dx is its adjoint with the same weights.
 *
 * x [N,H,W,C]; box [G,8], one for each of G equal blocks of images, data without gradient; y [N,P,Q,C]. */
#include "ops/attrs.h"
#include "ops/check.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "math/hd.h"

#include "math/real_f64.h"
#include "math/crop.inc"

static rt_status infer(rt_node *n)
{
    rt_status st = RT_OK;
    const rt_crop_attr *a = n->attr;
    RT_TRY(rt_op_want(n, 0, RT_F32, 4));
    RT_TRY(rt_op_want(n, 1, RT_F32, 2));
    const int64_t *x = n->in_shape[0].d, *box = n->in_shape[1].d;
    if (box[1] != RT_CROP_BOX || x[0] % box[0])
        st = rt_op_misuse(n, "want one box of %d numbers for each of some equal blocks of images", RT_CROP_BOX);
    else if (a->h < 1 || a->w < 1)
        st = rt_op_misuse(n, "%lld x %lld is no image", (long long)a->h, (long long)a->w);
    n->out_shape[0] = RT_SHAPE(RT_F32, x[0], a->h, a->w, x[3]);
out:
    return st;
}

rt_val rt_crop_view(rt_graph *g, rt_val x, rt_val box, int64_t h, int64_t w)
{
    rt_crop_attr a = {.h = h, .w = w};
    return rt_graph_append(g, RT_OP_CROP_VIEW, (rt_val[]){x, box}, 2, &a, sizeof a);
}

static rt_val adjoint(rt_graph *g, rt_val gy, rt_val box, int64_t h, int64_t w)
{
    rt_crop_attr a = {.h = h, .w = w};
    return rt_graph_append(g, RT_OP_CROP_VIEW_DX, (rt_val[]){gy, box}, 2, &a, sizeof a);
}

static void vjp(rt_graph *g, const rt_node *n, const rt_val *gy, rt_val *gx)
{
    gx[0] = adjoint(g, gy[0], n->in[1], n->in_shape[0].d[1], n->in_shape[0].d[2]);
    gx[1] = (rt_val){0};
}

static void vjp_dx(rt_graph *g, const rt_node *n, const rt_val *gy, rt_val *gx)
{
    gx[0] = rt_crop_view(g, gy[0], n->in[1], n->in_shape[0].d[1], n->in_shape[0].d[2]);
    gx[1] = (rt_val){0};
}

/* Visits every tap: pixel `from` of an image and pixel `to` of its view, with the weight that joins them. */
typedef void tap_fn(void *self, int64_t from, int64_t to, double weight);
static void each_tap(const double *box, const int64_t *in, const int64_t *shown, tap_fn *fn, void *self)
{
    const rt_crop_f64 b = rt_crop_of_f64(box, in[1], in[2], shown[1], shown[2]);
    for (int64_t u = 0; u < shown[1]; u++)
        for (int64_t v = 0; v < shown[2]; v++) {
            int64_t r[2], c[2];
            double down, right;
            rt_crop_tap_f64(u, shown[1], b.h, &r[0], &r[1], &down);
            rt_crop_tap_f64(v, shown[2], b.w, &c[0], &c[1], &right);
            const int64_t to = rt_crop_place_f64(u, shown[1], 0, b.down) * shown[2] + rt_crop_place_f64(v, shown[2], b.flip, b.right);
            for (int k = 0; k < 4; k++)
                fn(self, (b.row + r[k >> 1]) * in[2] + b.col + c[k & 1], to,
                   (k >> 1 ? down : 1 - down) * (k & 1 ? right : 1 - right));
        }
}

typedef struct pair {
    const double *in;
    double *out;
    int64_t c;
} pair;

static void gather(void *self, int64_t from, int64_t to, double weight)
{
    const pair *p = self;
    for (int64_t c = 0; weight != 0 && c < p->c; c++) p->out[to * p->c + c] += weight * p->in[from * p->c + c];
}

static void scatter(void *self, int64_t from, int64_t to, double weight)
{
    const pair *p = self;
    for (int64_t c = 0; weight != 0 && c < p->c; c++) p->out[from * p->c + c] += weight * p->in[to * p->c + c];
}

static rt_status ref(const rt_node *n, const rt_ref_io *io)
{
    const bool back = n->op == RT_OP_CROP_VIEW_DX;
    const int64_t *in = n->in_shape[0].d, *out = n->out_shape[0].d, each = in[0] / n->in_shape[1].d[0];
    pair p = {.in = io->in[0], .out = io->out[0], .c = in[3]};
    memset(p.out, 0, (size_t)rt_shape_count(&n->out_shape[0]) * sizeof *p.out);
    for (int64_t i = 0; i < in[0]; i++, p.in += in[1] * in[2] * in[3], p.out += out[1] * out[2] * out[3]) {
        const double *box = (const double *)io->in[1] + i / each * RT_CROP_BOX;
        if (back) each_tap(box, out, in, scatter, &p);
        else each_tap(box, in, out, gather, &p);
    }
    return RT_OK;
}

static rt_cost cost(const rt_node *n) /* four taps; the shown side counts */
{
    const rt_shape *y = n->op == RT_OP_CROP_VIEW ? &n->out_shape[0] : &n->in_shape[0];
    return (rt_cost){.flops = 8 * (double)rt_shape_count(y), .bytes = rt_op_bytes(n)};
}

static void print(const rt_node *n, char *buf, size_t len)
{
    const rt_crop_attr *a = n->attr;
    snprintf(buf, len, "to %lldx%lld", (long long)a->h, (long long)a->w);
}

const rt_op_row rt_row_crop_view = {
    .name = "crop_view", .n_in = 2, .n_out = 1, .flags = RT_ROW_LINEAR, .no_grad_in = 1u << 1,
    .attr_bytes = sizeof(rt_crop_attr), .infer = infer, .vjp = vjp, .ref = ref, .cost = cost, .print_attr = print,
};
const rt_op_row rt_row_crop_view_dx = {
    .name = "crop_view_dx", .n_in = 2, .n_out = 1, .flags = RT_ROW_LINEAR, .no_grad_in = 1u << 1,
    .attr_bytes = sizeof(rt_crop_attr), .infer = infer, .vjp = vjp_dx, .ref = ref, .cost = cost, .print_attr = print,
};
