/* Cases of blocks' moments: one block, several, and each of the two gradients alone. */
#include "case.h"

static void whole(rt_graph *g, const rt_val *x, rt_val *y) { rt_moments(g, x[0], 1, &y[0], &y[1]); }
static void blocks(rt_graph *g, const rt_val *x, rt_val *y) { rt_moments(g, x[0], 2, &y[0], &y[1]); }
static void mean_only(rt_graph *g, const rt_val *x, rt_val *y)
{
    rt_val var;
    rt_moments(g, x[0], 3, &y[0], &var);
}
static void var_only(rt_graph *g, const rt_val *x, rt_val *y)
{
    rt_val mean;
    rt_moments(g, x[0], 3, &mean, &y[0]);
}
static void gradient(rt_graph *g, const rt_val *x, rt_val *y) /* mean is an input like any other */
{
    const struct {
        int64_t groups;
    } a = {2};
    y[0] = rt_graph_append(g, RT_OP_MOMENTS_DX, x, 4, &a, sizeof a);
}

static const rt_case cases[] = {
    {.name = "moments", .op = RT_OP_MOMENTS, .n_out = 2, .build = whole, .in = {IN(UNIFORM, -1, 2, 3, 4, 3, 5)}},
    {.name = "moments.blocks", .op = RT_OP_MOMENTS, .n_out = 2, .build = blocks, .in = {IN(UNIFORM, -1, 2, 4, 3, 4, 3)}},
    {.name = "moments.mean", .op = RT_OP_MOMENTS, .build = mean_only, .in = {IN(UNIFORM, -1, 1, 3, 2, 3, 2)}},
    {.name = "moments.var", .op = RT_OP_MOMENTS, .build = var_only, .in = {IN(UNIFORM, -1, 1, 3, 2, 3, 2)}},
    {.name = "moments.wide", .op = RT_OP_MOMENTS, .n_out = 2, .build = blocks, .in = {IN(UNIFORM, -1, 1, 2, 2, 2, 260)}},
    {.name = "moments_dx", .op = RT_OP_MOMENTS_DX, .build = gradient,
     .in = {IN(UNIFORM, -1, 1, 4, 3, 2, 3), IN(UNIFORM, -1, 1, 2, 3), IN(AWAY, 0.5, 1, 2, 3), IN(AWAY, 0.5, 1, 2, 3)}},
};
RT_CASE_TABLE(moments, cases)
