/* Cases of convolution and its two adjoints. */
#include "case.h"

#include "ops/attrs.h"

static const rt_conv_attr plain = {{1, 1}, {1, 1}, 1, 0}, pointwise = {{1, 1}, {0, 0}, 1, 0}, half = {{2, 2}, {1, 1}, 1, 0},
                          grouped = {{2, 1}, {1, 0}, 2, 0}, depthwise = {{1, 1}, {1, 1}, 4, 0}, stem = {{2, 2}, {3, 3}, 1, 0};

static void conv_plain(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = rt_conv2d(g, x[0], x[1], (rt_val){0}, plain); }
static void conv_half(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = rt_conv2d(g, x[0], x[1], (rt_val){0}, half); }
static void conv_stem(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = rt_conv2d(g, x[0], x[1], (rt_val){0}, stem); }
static void conv_depthwise(rt_graph *g, const rt_val *x, rt_val *y)
{
    y[0] = rt_conv2d(g, x[0], x[1], (rt_val){0}, depthwise);
}
static void conv_bias(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = rt_conv2d(g, x[0], x[1], x[2], plain); }
static void conv_pointwise(rt_graph *g, const rt_val *x, rt_val *y)
{
    y[0] = rt_conv2d(g, x[0], x[1], x[2], pointwise);
}
static void conv_grouped(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = rt_conv2d(g, x[0], x[1], x[2], grouped); }

/* Two networks: blocks of images meet blocks of weights. */
static const rt_conv_attr pair = {{1, 1}, {1, 1}, 1, 2}, pair_grouped = {{2, 1}, {1, 0}, 2, 2}, trio = {{1, 1}, {0, 0}, 1, 3};
static void conv_pair(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = rt_conv2d(g, x[0], x[1], x[2], pair); }
static void conv_pair_grouped(rt_graph *g, const rt_val *x, rt_val *y)
{
    y[0] = rt_conv2d(g, x[0], x[1], (rt_val){0}, pair_grouped);
}
static void conv_trio(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = rt_conv2d(g, x[0], x[1], x[2], trio); }

/* (gy, w): the image has h x w x c, which the window does not determine. */
static void dx(rt_graph *g, const rt_val *x, rt_val *y, rt_conv_attr a, int64_t h, int64_t w, int64_t c)
{
    rt_conv2d_attr attr = {.conv = a, .h = h, .w = w, .c = c};
    y[0] = rt_graph_append(g, RT_OP_CONV2D_DX, x, 2, &attr, sizeof attr);
}
static void dx_half(rt_graph *g, const rt_val *x, rt_val *y) { dx(g, x, y, half, 6, 5, 3); }
static void dx_grouped(rt_graph *g, const rt_val *x, rt_val *y) { dx(g, x, y, grouped, 6, 5, 4); }

/* (x, gy) */
static void dw(rt_graph *g, const rt_val *x, rt_val *y, rt_conv_attr a, int64_t r, int64_t s, int bias)
{
    rt_conv2d_attr attr = {.conv = a, .has_bias = bias, .r = r, .s = s};
    y[0] = rt_graph_append(g, RT_OP_CONV2D_DW, x, 2, &attr, sizeof attr);
    if (bias) y[1] = rt_node_out(y[0], 1);
}
static void dw_half(rt_graph *g, const rt_val *x, rt_val *y) { dw(g, x, y, half, 3, 3, 0); }
static void dw_bias(rt_graph *g, const rt_val *x, rt_val *y) { dw(g, x, y, plain, 3, 3, 1); }
static void dw_grouped(rt_graph *g, const rt_val *x, rt_val *y) { dw(g, x, y, grouped, 3, 2, 1); }
static void dx_pair(rt_graph *g, const rt_val *x, rt_val *y) { dx(g, x, y, pair, 5, 4, 3); }
static void dx_pair_grouped(rt_graph *g, const rt_val *x, rt_val *y) { dx(g, x, y, pair_grouped, 6, 5, 4); }
static void dw_pair(rt_graph *g, const rt_val *x, rt_val *y) { dw(g, x, y, pair, 3, 3, 1); }
static void dw_pair_grouped(rt_graph *g, const rt_val *x, rt_val *y) { dw(g, x, y, pair_grouped, 3, 2, 0); }
static void db_pair(rt_graph *g, const rt_val *x, rt_val *y)
{
    rt_val both[2];
    dw(g, x, both, pair, 3, 3, 1);
    y[0] = both[1];
}
static void db_only(rt_graph *g, const rt_val *x, rt_val *y)
{
    rt_val both[2];
    dw(g, x, both, plain, 3, 3, 1);
    y[0] = both[1];
}

static const rt_case cases[] = {
    {.name = "conv2d.plain", .op = RT_OP_CONV2D, .build = conv_plain,
     .in = {IN(UNIFORM, -1, 1, 2, 5, 4, 3), IN(UNIFORM, -1, 1, 4, 3, 3, 3)}},
    {.name = "conv2d.bias", .op = RT_OP_CONV2D, .build = conv_bias,
     .in = {IN(UNIFORM, -1, 1, 2, 5, 4, 3), IN(UNIFORM, -1, 1, 4, 3, 3, 3), IN(UNIFORM, -1, 1, 4)}},
    {.name = "conv2d.pointwise", .op = RT_OP_CONV2D, .build = conv_pointwise,
     .in = {IN(UNIFORM, -1, 1, 2, 3, 3, 5), IN(UNIFORM, -1, 1, 4, 5, 1, 1), IN(UNIFORM, -1, 1, 4)}},
    {.name = "conv2d.stride2", .op = RT_OP_CONV2D, .build = conv_half,
     .in = {IN(UNIFORM, -1, 1, 2, 6, 5, 3), IN(UNIFORM, -1, 1, 4, 3, 3, 3)}},
    {.name = "conv2d.grouped", .op = RT_OP_CONV2D, .build = conv_grouped,
     .in = {IN(UNIFORM, -1, 1, 2, 6, 5, 4), IN(UNIFORM, -1, 1, 6, 2, 3, 2), IN(UNIFORM, -1, 1, 6)}},
    {.name = "conv2d.depthwise", .op = RT_OP_CONV2D, .build = conv_depthwise,
     .in = {IN(UNIFORM, -1, 1, 2, 4, 4, 4), IN(UNIFORM, -1, 1, 4, 1, 3, 3)}},
    {.name = "conv2d.stem", .op = RT_OP_CONV2D, .build = conv_stem,
     .in = {IN(UNIFORM, -1, 1, 1, 8, 8, 3), IN(UNIFORM, -1, 1, 2, 3, 7, 7)}},
    {.name = "conv2d_dx.stride2", .op = RT_OP_CONV2D_DX, .build = dx_half,
     .in = {IN(UNIFORM, -1, 1, 2, 3, 3, 4), IN(UNIFORM, -1, 1, 4, 3, 3, 3)}},
    {.name = "conv2d_dx.grouped", .op = RT_OP_CONV2D_DX, .build = dx_grouped,
     .in = {IN(UNIFORM, -1, 1, 2, 3, 4, 6), IN(UNIFORM, -1, 1, 6, 2, 3, 2)}},
    {.name = "conv2d_dw.stride2", .op = RT_OP_CONV2D_DW, .build = dw_half,
     .in = {IN(UNIFORM, -1, 1, 2, 6, 5, 3), IN(UNIFORM, -1, 1, 2, 3, 3, 4)}},
    {.name = "conv2d_dw.bias", .op = RT_OP_CONV2D_DW, .n_out = 2, .build = dw_bias,
     .in = {IN(UNIFORM, -1, 1, 2, 5, 4, 3), IN(UNIFORM, -1, 1, 2, 5, 4, 4)}},
    {.name = "conv2d_dw.grouped", .op = RT_OP_CONV2D_DW, .n_out = 2, .build = dw_grouped,
     .in = {IN(UNIFORM, -1, 1, 2, 6, 5, 4), IN(UNIFORM, -1, 1, 2, 3, 4, 6)}},
    {.name = "conv2d_dw.bias_alone", .op = RT_OP_CONV2D_DW, .build = db_only, .flags = CASE_SPARSE,
     .in = {IN(UNIFORM, -1, 1, 2, 5, 4, 3), IN(UNIFORM, -1, 1, 2, 5, 4, 4)}},
    {.name = "conv2d.nets", .op = RT_OP_CONV2D, .build = conv_pair,
     .in = {IN(UNIFORM, -1, 1, 4, 5, 4, 3), IN(UNIFORM, -1, 1, 8, 3, 3, 3), IN(UNIFORM, -1, 1, 8)}},
    {.name = "conv2d.nets_grouped", .op = RT_OP_CONV2D, .build = conv_pair_grouped,
     .in = {IN(UNIFORM, -1, 1, 2, 6, 5, 4), IN(UNIFORM, -1, 1, 12, 2, 3, 2)}},
    {.name = "conv2d.nets_pointwise", .op = RT_OP_CONV2D, .build = conv_trio,
     .in = {IN(UNIFORM, -1, 1, 6, 3, 2, 5), IN(UNIFORM, -1, 1, 6, 5, 1, 1), IN(UNIFORM, -1, 1, 6)}},
    {.name = "conv2d_dx.nets", .op = RT_OP_CONV2D_DX, .build = dx_pair,
     .in = {IN(UNIFORM, -1, 1, 4, 5, 4, 4), IN(UNIFORM, -1, 1, 8, 3, 3, 3)}},
    {.name = "conv2d_dx.nets_grouped", .op = RT_OP_CONV2D_DX, .build = dx_pair_grouped,
     .in = {IN(UNIFORM, -1, 1, 2, 3, 4, 6), IN(UNIFORM, -1, 1, 12, 2, 3, 2)}},
    {.name = "conv2d_dw.nets", .op = RT_OP_CONV2D_DW, .n_out = 2, .build = dw_pair,
     .in = {IN(UNIFORM, -1, 1, 4, 5, 4, 3), IN(UNIFORM, -1, 1, 4, 5, 4, 4)}},
    {.name = "conv2d_dw.nets_grouped", .op = RT_OP_CONV2D_DW, .build = dw_pair_grouped,
     .in = {IN(UNIFORM, -1, 1, 2, 6, 5, 4), IN(UNIFORM, -1, 1, 2, 3, 4, 6)}},
    {.name = "conv2d_dw.nets_bias_alone", .op = RT_OP_CONV2D_DW, .build = db_pair, .flags = CASE_SPARSE,
     .in = {IN(UNIFORM, -1, 1, 4, 5, 4, 3), IN(UNIFORM, -1, 1, 4, 5, 4, 4)}},
};
RT_CASE_TABLE(conv, cases)
