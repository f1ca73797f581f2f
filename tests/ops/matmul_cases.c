/* All four transpose flags, plain and batched, and shapes at the edges: vectors, one row, inner length one. */
#include "case.h"

#define BUILD(name, ta, tb)                                                                                            \
    static void name(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = rt_matmul(g, x[0], x[1], ta, tb); }
BUILD(nn, false, false)
BUILD(nt, false, true)
BUILD(tn, true, false)
BUILD(tt, true, true)

/* Both operands the same value: the two gradients meet. */
static void gram(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = rt_matmul(g, x[0], x[0], true, false); }

static const rt_case cases[] = {
    {.name = "matmul.nn", .op = RT_OP_MATMUL, .build = nn, .in = {IN(UNIFORM, -1, 1, 5, 7), IN(UNIFORM, -1, 1, 7, 3)}},
    {.name = "matmul.nt", .op = RT_OP_MATMUL, .build = nt, .in = {IN(UNIFORM, -1, 1, 5, 7), IN(UNIFORM, -1, 1, 3, 7)}},
    {.name = "matmul.tn", .op = RT_OP_MATMUL, .build = tn, .in = {IN(UNIFORM, -1, 1, 7, 5), IN(UNIFORM, -1, 1, 7, 3)}},
    {.name = "matmul.tt", .op = RT_OP_MATMUL, .build = tt, .in = {IN(UNIFORM, -1, 1, 7, 5), IN(UNIFORM, -1, 1, 3, 7)}},
    {.name = "matmul.batched",
     .op = RT_OP_MATMUL,
     .build = nn,
     .in = {IN(UNIFORM, -1, 1, 2, 3, 4, 5), IN(UNIFORM, -1, 1, 2, 3, 5, 6)}},
    {.name = "matmul.batched_tt",
     .op = RT_OP_MATMUL,
     .build = tt,
     .in = {IN(UNIFORM, -1, 1, 3, 5, 4), IN(UNIFORM, -1, 1, 3, 6, 5)}},
    {.name = "matmul.row", .op = RT_OP_MATMUL, .build = nn, .in = {IN(UNIFORM, -1, 1, 1, 37), IN(UNIFORM, -1, 1, 37, 11)}},
    {.name = "matmul.outer", .op = RT_OP_MATMUL, .build = nn, .in = {IN(UNIFORM, -1, 1, 9, 1), IN(UNIFORM, -1, 1, 1, 11)}},
    {.name = "matmul.long", .op = RT_OP_MATMUL, .build = nn, .in = {IN(UNIFORM, -1, 1, 4, 1023), IN(UNIFORM, -1, 1, 1023, 5)}},
    {.name = "matmul.gram", .op = RT_OP_MATMUL, .build = gram, .in = {IN(UNIFORM, -1, 1, 6, 5)}},
};
RT_CASE_TABLE(matmul, cases)
