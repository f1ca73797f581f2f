/* Cases of the two pooling pairs. Windows of 3 at stride 2 overlap; those of 2 do not. */
#include "case.h"

#include "ops/attrs.h"

static const rt_pool_attr two = {{2, 2}, {2, 2}, {0, 0}}, three = {{3, 3}, {2, 2}, {1, 1}},
                          uneven = {{3, 2}, {1, 2}, {1, 0}};

static void avg_two(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = rt_avg_pool(g, x[0], two); }
static void avg_three(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = rt_avg_pool(g, x[0], three); }
static void avg_uneven(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = rt_avg_pool(g, x[0], uneven); }

static void max_of(rt_graph *g, const rt_val *x, rt_val *y, rt_pool_attr a)
{
    y[0] = rt_max_pool(g, x[0], a);
    y[1] = rt_node_out(y[0], 1);
}
static void max_two(rt_graph *g, const rt_val *x, rt_val *y) { max_of(g, x, y, two); }
static void max_three(rt_graph *g, const rt_val *x, rt_val *y) { max_of(g, x, y, three); }
static void max_uneven(rt_graph *g, const rt_val *x, rt_val *y) { max_of(g, x, y, uneven); }

static void back(rt_graph *g, rt_op op, const rt_val *x, int n, rt_val *y, rt_pool_attr a, int64_t h, int64_t w)
{
    rt_pool_dx_attr attr = {.pool = a, .h = h, .w = w};
    y[0] = rt_graph_append(g, op, x, n, &attr, sizeof attr);
}
static void avg_dx_two(rt_graph *g, const rt_val *x, rt_val *y) { back(g, RT_OP_AVG_POOL_DX, x, 1, y, two, 7, 4); }
static void avg_dx_three(rt_graph *g, const rt_val *x, rt_val *y) { back(g, RT_OP_AVG_POOL_DX, x, 1, y, three, 6, 5); }
/* The winners are those of an image of their own, x[1]: an index lies inside its window. */
static void winners(rt_graph *g, rt_op op, const rt_val *x, rt_val *y)
{
    rt_val won[RT_MAX_OUT];
    max_of(g, x + 1, won, three);
    back(g, op, (rt_val[]){x[0], won[1]}, 2, y, three, 6, 5);
}
static void max_dx(rt_graph *g, const rt_val *x, rt_val *y) { winners(g, RT_OP_MAX_POOL_DX, x, y); }
static void gather(rt_graph *g, const rt_val *x, rt_val *y) { winners(g, RT_OP_POOL_GATHER, x, y); }

static const rt_case cases[] = {
    {.name = "avg_pool.two", .op = RT_OP_AVG_POOL, .build = avg_two, .in = {IN(UNIFORM, -1, 1, 2, 7, 4, 3)}},
    {.name = "avg_pool.three", .op = RT_OP_AVG_POOL, .build = avg_three, .in = {IN(UNIFORM, -1, 1, 2, 6, 5, 3)}},
    {.name = "avg_pool.uneven", .op = RT_OP_AVG_POOL, .build = avg_uneven, .in = {IN(UNIFORM, -1, 1, 2, 4, 6, 3)}},
    {.name = "avg_pool_dx.two", .op = RT_OP_AVG_POOL_DX, .build = avg_dx_two, .in = {IN(UNIFORM, -1, 1, 2, 3, 2, 3)}},
    {.name = "avg_pool_dx.three", .op = RT_OP_AVG_POOL_DX, .build = avg_dx_three,
     .in = {IN(UNIFORM, -1, 1, 2, 3, 3, 3)}},
    {.name = "max_pool.two", .op = RT_OP_MAX_POOL, .n_out = 2, .build = max_two, .flags = CASE_SPARSE,
     .in = {IN(DISTINCT, -2, 2, 2, 4, 6, 3)}},
    {.name = "max_pool.three", .op = RT_OP_MAX_POOL, .n_out = 2, .build = max_three, .flags = CASE_SPARSE,
     .in = {IN(DISTINCT, -2, 2, 2, 6, 5, 3)}},
    {.name = "max_pool.negative", .op = RT_OP_MAX_POOL, .n_out = 2, .build = max_three, .flags = CASE_SPARSE,
     .in = {IN(DISTINCT, -5, -1, 2, 5, 5, 2)}}, /* padding must not win */
    {.name = "max_pool.uneven", .op = RT_OP_MAX_POOL, .n_out = 2, .build = max_uneven, .flags = CASE_SPARSE,
     .in = {IN(DISTINCT, -2, 2, 1, 4, 6, 3)}},
    {.name = "max_pool_dx.three", .op = RT_OP_MAX_POOL_DX, .build = max_dx, .flags = CASE_SPARSE,
     .in = {IN(UNIFORM, -1, 1, 2, 3, 3, 3), IN_FIXED(DISTINCT, -2, 2, 2, 6, 5, 3)}},
    {.name = "pool_gather.three", .op = RT_OP_POOL_GATHER, .build = gather, .flags = CASE_SPARSE,
     .in = {IN(UNIFORM, -1, 1, 2, 6, 5, 3), IN_FIXED(DISTINCT, -2, 2, 2, 6, 5, 3)}},
};
RT_CASE_TABLE(pool, cases)
