/* Index ops: repeated, missing and extreme indices. */
#include "case.h"

#define BUILD(name, expr)                                                                                              \
    static void name(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = (expr); }
BUILD(gather, rt_gather(g, x[0], x[1]))
BUILD(gather_square, rt_square(g, rt_gather(g, x[0], x[1])))
BUILD(scatter, rt_scatter_add(g, x[0], x[1], 6))
BUILD(scatter_square, rt_square(g, rt_scatter_add(g, x[0], x[1], 6)))
BUILD(one_hot, rt_one_hot(g, x[0], 7))
BUILD(one_hot_pick, rt_sum(g, rt_mul(g, rt_exp(g, x[0]), rt_one_hot(g, x[1], 7)), 2, false))

static const rt_case cases[] = {
    {.name = "gather.rows",
     .op = RT_OP_GATHER,
     .build = gather,
     .in = {IN(UNIFORM, -2, 2, 6, 3, 5), IN(INDEX, 0, 6, 11)},
     .flags = CASE_SPARSE},
    {.name = "gather.elements",
     .op = RT_OP_GATHER,
     .build = gather_square,
     .in = {IN(UNIFORM, -2, 2, 9), IN(INDEX, 0, 9, 20)},
     .flags = CASE_SPARSE},
    {.name = "scatter_add.rows",
     .op = RT_OP_SCATTER_ADD,
     .build = scatter,
     .in = {IN(UNIFORM, -2, 2, 11, 3), IN(INDEX, 0, 6, 11)},
     .flags = CASE_SPARSE},
    {.name = "scatter_add.square",
     .op = RT_OP_SCATTER_ADD,
     .build = scatter_square,
     .in = {IN(UNIFORM, -2, 2, 11, 2, 2), IN(INDEX, 0, 6, 11)},
     .flags = CASE_SPARSE},
    {.name = "one_hot", .op = RT_OP_ONE_HOT, .build = one_hot, .in = {IN(INDEX, 0, 7, 13)}, .flags = CASE_NO_GRAD | CASE_SPARSE},
    {.name = "one_hot.pick",
     .op = RT_OP_ONE_HOT,
     .build = one_hot_pick,
     .in = {IN(UNIFORM, -2, 2, 13, 7), IN(INDEX, 0, 7, 13)},
     .flags = CASE_SPARSE},
};
RT_CASE_TABLE(index, cases)
