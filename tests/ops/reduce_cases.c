/* Reductions over every kind of axis set: leading, trailing, middle, split, all. */
#include "case.h"

#define SUM(name, axes, keep)                                                                                          \
    static void name(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = rt_sum(g, x[0], axes, keep); }
SUM(sum_first, 1, false)
SUM(sum_last, 8, false)
SUM(sum_last_keep, 8, true)
SUM(sum_middle, 6, false)
SUM(sum_split, 5, true)
SUM(sum_channels, 7, false)

static void sum_all(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = rt_sum_all(g, x[0]); }
static void mean_all(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = rt_mean_all(g, x[0]); }
static void dot(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = rt_dot(g, x[0], x[1]); }
static void amax_last(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = rt_amax(g, x[0], 4, true); }
static void amax_all(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = rt_amax(g, x[0], 7, false); }
static void amax_middle(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = rt_amax(g, x[0], 2, false); }
static void argmax(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = rt_argmax(g, x[0]); }

/* The stable log-sum-exp: the shift has no gradient and needs none. */
static void lse(rt_graph *g, const rt_val *x, rt_val *y)
{
    rt_val m = rt_amax(g, x[0], 2, true);
    y[0] = rt_add(g, rt_log(g, rt_sum(g, rt_exp(g, rt_sub(g, x[0], m)), 2, true)), m);
    y[0] = rt_sub(g, x[0], y[0]);
}

static void variance(rt_graph *g, const rt_val *x, rt_val *y)
{
    y[0] = rt_mean(g, rt_square(g, rt_sub(g, x[0], rt_mean(g, x[0], 6, true))), 6, false);
}

static const rt_case cases[] = {
    {.name = "sum.first", .op = RT_OP_SUM, .build = sum_first, .in = {IN(UNIFORM, -2, 2, 5, 3, 4, 7)}},
    {.name = "sum.last", .op = RT_OP_SUM, .build = sum_last, .in = {IN(UNIFORM, -2, 2, 3, 5, 2, 37)}},
    {.name = "sum.last_keep", .op = RT_OP_SUM, .build = sum_last_keep, .in = {IN(UNIFORM, -2, 2, 3, 5, 2, 37)}},
    {.name = "sum.middle", .op = RT_OP_SUM, .build = sum_middle, .in = {IN(UNIFORM, -2, 2, 3, 5, 4, 9)}},
    {.name = "sum.split", .op = RT_OP_SUM, .build = sum_split, .in = {IN(UNIFORM, -2, 2, 3, 5, 4, 9)}},
    {.name = "sum.channels", .op = RT_OP_SUM, .build = sum_channels, .in = {IN(UNIFORM, -2, 2, 4, 6, 5, 13)}},
    {.name = "sum.all", .op = RT_OP_SUM, .build = sum_all, .in = {IN(UNIFORM, -2, 2, 33, 67)}},
    {.name = "sum.large", .op = RT_OP_SUM, .build = sum_all, .in = {IN(UNIFORM, -2, 2, 70001)}},
    {.name = "sum.mean", .op = RT_OP_SUM, .build = mean_all, .in = {IN(UNIFORM, -2, 2, 9, 11)}},
    {.name = "sum.dot", .op = RT_OP_SUM, .build = dot, .in = {IN(UNIFORM, -2, 2, 9, 11), IN(UNIFORM, -2, 2, 9, 11)}},
    {.name = "sum.variance", .op = RT_OP_SUM, .build = variance, .in = {IN(UNIFORM, -2, 2, 4, 5, 3, 3)}},
    {.name = "amax.last",
     .op = RT_OP_AMAX,
     .build = amax_last,
     .in = {IN(DISTINCT, -2, 2, 3, 5, 7)},
     .flags = CASE_ZERO_GRAD | CASE_SPARSE},
    {.name = "amax.middle",
     .op = RT_OP_AMAX,
     .build = amax_middle,
     .in = {IN(DISTINCT, -2, 2, 3, 5, 7)},
     .flags = CASE_ZERO_GRAD | CASE_SPARSE},
    {.name = "amax.all",
     .op = RT_OP_AMAX,
     .build = amax_all,
     .in = {IN(DISTINCT, -2, 2, 3, 5, 7)},
     .flags = CASE_ZERO_GRAD | CASE_SPARSE},
    {.name = "amax.log_sum_exp", .op = RT_OP_AMAX, .build = lse, .in = {IN(DISTINCT, -3, 3, 5, 9)}},
    {.name = "argmax",
     .op = RT_OP_ARGMAX,
     .build = argmax,
     .in = {IN(DISTINCT, -2, 2, 9, 11)},
     .flags = CASE_NO_GRAD | CASE_SPARSE},
};
RT_CASE_TABLE(reduce, cases)
