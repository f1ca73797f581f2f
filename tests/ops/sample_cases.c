/* Cases of the differentiable views. The parameters are exact in float32, so every back end samples the same points. */
#include "case.h"

static void color(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = rt_color(g, x[0], x[1]); }
static void box(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = rt_box_mask(g, x[0], x[1]); }
static void sample(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = rt_affine_sample(g, x[0], x[1], 5, 6); }
static void sample_small(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = rt_affine_sample(g, x[0], x[1], 3, 4); }
static void scatter(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = rt_affine_scatter(g, x[0], x[1], 5, 6); }

static const double color_p[] = {0.25, 1.75, 0.625, -0.4375, 0.125, 1.375};
/* rotation with scale; horizontal mirror; shift by whole pixels; shrink about the centre */
static const double turn[] = {0.9375, 0.25, -0.375, -0.28125, 0.90625, 0.75, 1, 0, 0, 0, -1, 5};
static const double move[] = {1, 0, -2, 0, 1, 1, 0.5, 0, 0.75, 0, 0.5, 1.25};
static const double boxes[] = {1, 3, 2, 6, -2, 2, 4, 9, 3, 3, 0, 6};

static const rt_case cases[] = {
    {.name = "color", .op = RT_OP_COLOR, .build = color,
     .in = {IN(UNIFORM, -1, 1, 2, 3, 4, 3), IN_DATA(color_p, 2, 3)}},
    {.name = "affine_sample.turn", .op = RT_OP_AFFINE_SAMPLE, .build = sample, .flags = CASE_SPARSE,
     .in = {IN(UNIFORM, -1, 1, 2, 5, 6, 3), IN_DATA(turn, 2, 6)}},
    {.name = "affine_sample.move", .op = RT_OP_AFFINE_SAMPLE, .build = sample, .flags = CASE_SPARSE,
     .in = {IN(UNIFORM, -1, 1, 2, 5, 6, 3), IN_DATA(move, 2, 6)}},
    {.name = "affine_sample.resize", .op = RT_OP_AFFINE_SAMPLE, .build = sample_small, .flags = CASE_SPARSE,
     .in = {IN(UNIFORM, -1, 1, 2, 7, 5, 2), IN_DATA(turn, 2, 6)}},
    {.name = "affine_scatter.turn", .op = RT_OP_AFFINE_SCATTER, .build = scatter, .flags = CASE_SPARSE,
     .in = {IN(UNIFORM, -1, 1, 2, 5, 6, 3), IN_DATA(turn, 2, 6)}},
    {.name = "affine_scatter.move", .op = RT_OP_AFFINE_SCATTER, .build = scatter, .flags = CASE_SPARSE,
     .in = {IN(UNIFORM, -1, 1, 2, 4, 3, 2), IN_DATA(move, 2, 6)}},
    {.name = "box_mask", .op = RT_OP_BOX_MASK, .build = box, .flags = CASE_SPARSE,
     .in = {IN(UNIFORM, -1, 1, 3, 5, 6, 2), IN_DATA(boxes, 3, 4)}},
};
RT_CASE_TABLE(sample, cases)
