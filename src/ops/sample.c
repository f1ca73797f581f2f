/* Differentiable views: colour, affine sampling, masking by a box. Formulas and edge rules: kernels/math/sample.inc.
 *
 *     color (x, p)          affine in x. Saturation is s I + (1-s) A with A the channel mean of each pixel, contrast
 *                           k I + (1-k) B with B the image mean; A and B are symmetric and A B = B A = B, so their
 *                           product is symmetric too, and the derivative is color itself with brightness 0.
 *     affine_sample (x, a)  linear; affine_scatter (gy, a) is its adjoint, with the same weights.
 *     box_mask (x, box)     diagonal, so self-adjoint.
 *
 * The per-image parameters carry no gradient: augmentation is drawn, not learned. x [N,H,W,C]; p [N,3], a [N,6],
 * box [N,4]. */
#include "ops/attrs.h"
#include "ops/check.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "math/hd.h"

#include "math/real_f64.h"
#include "math/sample.inc"

/* --- shapes ------------------------------------------------------------------------------------------------------- */

/* An image and one row of `width` parameters for each. */
static rt_status want_image_and(const rt_node *n, int64_t width)
{
    rt_status st = RT_OK;
    RT_TRY(rt_op_want(n, 0, RT_F32, 4));
    rt_shape p = RT_SHAPE(RT_F32, n->in_shape[0].d[0], width);
    RT_TRY(rt_op_want_shape(n, 1, &p));
out:
    return st;
}

static rt_status color_infer(rt_node *n)
{
    n->out_shape[0] = n->in_shape[0];
    return want_image_and(n, 3);
}

static rt_status box_mask_infer(rt_node *n)
{
    n->out_shape[0] = n->in_shape[0];
    return want_image_and(n, 4);
}

static rt_status affine_infer(rt_node *n)
{
    rt_status st = RT_OK;
    const rt_affine_attr *a = n->attr;
    RT_TRY(want_image_and(n, 6));
    if (a->h < 1 || a->w < 1) {
        st = rt_op_misuse(n, "%lld x %lld is no image", (long long)a->h, (long long)a->w);
        goto out;
    }
    n->out_shape[0] = RT_SHAPE(RT_F32, n->in_shape[0].d[0], a->h, a->w, n->in_shape[0].d[3]);
out:
    return st;
}

/* --- constructors and derivatives --------------------------------------------------------------------------------- */

rt_val rt_color(rt_graph *g, rt_val x, rt_val p)
{
    return rt_graph_append(g, RT_OP_COLOR, (rt_val[]){x, p}, 2, NULL, 0);
}

rt_val rt_box_mask(rt_graph *g, rt_val x, rt_val box)
{
    return rt_graph_append(g, RT_OP_BOX_MASK, (rt_val[]){x, box}, 2, NULL, 0);
}

rt_val rt_affine_sample(rt_graph *g, rt_val x, rt_val a, int64_t h_out, int64_t w_out)
{
    rt_affine_attr attr = {.h = h_out, .w = w_out};
    return rt_graph_append(g, RT_OP_AFFINE_SAMPLE, (rt_val[]){x, a}, 2, &attr, sizeof attr);
}

rt_val rt_affine_scatter(rt_graph *g, rt_val gy, rt_val a, int64_t h_in, int64_t w_in)
{
    rt_affine_attr attr = {.h = h_in, .w = w_in};
    return rt_graph_append(g, RT_OP_AFFINE_SCATTER, (rt_val[]){gy, a}, 2, &attr, sizeof attr);
}

static void color_vjp(rt_graph *g, const rt_node *n, const rt_val *gy, rt_val *gx)
{
    const int64_t images = n->in_shape[1].d[0];
    rt_val sk = rt_slice(g, n->in[1], (int64_t[]){0, 1}, (int64_t[]){images, 3});
    rt_val no_brightness = rt_pad(g, sk, (int64_t[]){0, 1}, (int64_t[]){0, 0});
    gx[0] = rt_color(g, gy[0], no_brightness);
    gx[1] = (rt_val){0};
}

static void affine_sample_vjp(rt_graph *g, const rt_node *n, const rt_val *gy, rt_val *gx)
{
    gx[0] = rt_affine_scatter(g, gy[0], n->in[1], n->in_shape[0].d[1], n->in_shape[0].d[2]);
    gx[1] = (rt_val){0};
}

static void affine_scatter_vjp(rt_graph *g, const rt_node *n, const rt_val *gy, rt_val *gx)
{
    gx[0] = rt_affine_sample(g, gy[0], n->in[1], n->in_shape[0].d[1], n->in_shape[0].d[2]);
    gx[1] = (rt_val){0};
}

static void box_mask_vjp(rt_graph *g, const rt_node *n, const rt_val *gy, rt_val *gx)
{
    gx[0] = rt_box_mask(g, gy[0], n->in[1]);
    gx[1] = (rt_val){0};
}

/* --- definition --------------------------------------------------------------------------------------------------- */

static rt_status color_ref(const rt_node *n, const rt_ref_io *io)
{
    const rt_shape *s = &n->in_shape[0];
    const double *x = io->in[0], *p = io->in[1];
    double *y = io->out[0];
    const int64_t pixels = s->d[1] * s->d[2], C = s->d[3];
    for (int64_t i = 0; i < s->d[0]; i++, x += pixels * C, y += pixels * C, p += 3) {
        double image = 0;
        for (int64_t e = 0; e < pixels * C; e++) image += x[e];
        image /= (double)(pixels * C);
        for (int64_t q = 0; q < pixels; q++) {
            double pixel = 0;
            for (int64_t c = 0; c < C; c++) pixel += x[q * C + c];
            pixel /= (double)C;
            for (int64_t c = 0; c < C; c++) y[q * C + c] = rt_color_f64(x[q * C + c], pixel, image, p);
        }
    }
    return RT_OK;
}

static rt_status affine_sample_ref(const rt_node *n, const rt_ref_io *io)
{
    const rt_shape *xs = &n->in_shape[0], *ys = &n->out_shape[0];
    const double *x = io->in[0], *a = io->in[1];
    double *y = io->out[0];
    const int64_t C = xs->d[3];
    memset(y, 0, (size_t)rt_shape_count(ys) * sizeof *y);
    for (int64_t image = 0; image < ys->d[0]; image++)
        for (int64_t i = 0; i < ys->d[1]; i++)
            for (int64_t j = 0; j < ys->d[2]; j++, y += C) {
                int64_t pixel[4];
                double weight[4];
                int taps = rt_affine_taps_f64(a + image * 6, i, j, xs->d[1], xs->d[2], pixel, weight);
                for (int k = 0; k < taps; k++)
                    for (int64_t c = 0; c < C; c++)
                        y[c] += weight[k] * x[(image * xs->d[1] * xs->d[2] + pixel[k]) * C + c];
            }
    return RT_OK;
}

static rt_status affine_scatter_ref(const rt_node *n, const rt_ref_io *io)
{
    const rt_shape *ys = &n->in_shape[0], *xs = &n->out_shape[0];
    const double *gy = io->in[0], *a = io->in[1];
    double *gx = io->out[0];
    const int64_t C = xs->d[3];
    memset(gx, 0, (size_t)rt_shape_count(xs) * sizeof *gx);
    for (int64_t image = 0; image < ys->d[0]; image++)
        for (int64_t i = 0; i < ys->d[1]; i++)
            for (int64_t j = 0; j < ys->d[2]; j++, gy += C) {
                int64_t pixel[4];
                double weight[4];
                int taps = rt_affine_taps_f64(a + image * 6, i, j, xs->d[1], xs->d[2], pixel, weight);
                for (int k = 0; k < taps; k++)
                    for (int64_t c = 0; c < C; c++)
                        gx[(image * xs->d[1] * xs->d[2] + pixel[k]) * C + c] += weight[k] * gy[c];
            }
    return RT_OK;
}

static rt_status box_mask_ref(const rt_node *n, const rt_ref_io *io)
{
    const rt_shape *s = &n->in_shape[0];
    const double *x = io->in[0], *box = io->in[1];
    double *y = io->out[0];
    for (int64_t image = 0; image < s->d[0]; image++)
        for (int64_t i = 0; i < s->d[1]; i++)
            for (int64_t j = 0; j < s->d[2]; j++, x += s->d[3], y += s->d[3]) {
                int hidden = rt_box_covers_f64(box + image * 4, i, j);
                for (int64_t c = 0; c < s->d[3]; c++) y[c] = hidden ? 0 : x[c];
            }
    return RT_OK;
}

/* --- cost and text ------------------------------------------------------------------------------------------------ */

static rt_cost color_cost(const rt_node *n) { return rt_op_streaming_cost(n, 11); }
static rt_cost box_mask_cost(const rt_node *n) { return rt_op_streaming_cost(n, 0); }
static rt_cost affine_cost(const rt_node *n) /* four taps; the sampled side counts */
{
    const rt_shape *y = n->op == RT_OP_AFFINE_SAMPLE ? &n->out_shape[0] : &n->in_shape[0];
    return (rt_cost){.flops = 8 * (double)rt_shape_count(y), .bytes = rt_op_bytes(n)};
}

static void affine_print(const rt_node *n, char *buf, size_t len)
{
    const rt_affine_attr *a = n->attr;
    snprintf(buf, len, "to %lldx%lld", (long long)a->h, (long long)a->w);
}

const rt_op_row rt_row_color = {
    .name = "color", .n_in = 2, .n_out = 1, .flags = RT_ROW_LINEAR, .no_grad_in = 1u << 1, .infer = color_infer,
    .vjp = color_vjp, .ref = color_ref, .cost = color_cost,
};
const rt_op_row rt_row_affine_sample = {
    .name = "affine_sample", .n_in = 2, .n_out = 1, .flags = RT_ROW_LINEAR, .no_grad_in = 1u << 1,
    .attr_bytes = sizeof(rt_affine_attr), .infer = affine_infer, .vjp = affine_sample_vjp, .ref = affine_sample_ref,
    .cost = affine_cost, .print_attr = affine_print,
};
const rt_op_row rt_row_affine_scatter = {
    .name = "affine_scatter", .n_in = 2, .n_out = 1, .flags = RT_ROW_LINEAR, .no_grad_in = 1u << 1,
    .attr_bytes = sizeof(rt_affine_attr), .infer = affine_infer, .vjp = affine_scatter_vjp, .ref = affine_scatter_ref,
    .cost = affine_cost, .print_attr = affine_print,
};
const rt_op_row rt_row_box_mask = {
    .name = "box_mask", .n_in = 2, .n_out = 1, .flags = RT_ROW_LINEAR, .no_grad_in = 1u << 1, .inplace_in = 1u << 0,
    .infer = box_mask_infer, .vjp = box_mask_vjp, .ref = box_mask_ref, .cost = box_mask_cost,
};
