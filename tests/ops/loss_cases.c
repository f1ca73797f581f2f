/* Cases of log-softmax and cross-entropy. The two-output case sends a gradient into p as well. */
#include "case.h"

static void log_softmax(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = rt_log_softmax(g, x[0]); }
static void ce(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = rt_softmax_ce(g, x[0], x[1]); }
static void ce_both(rt_graph *g, const rt_val *x, rt_val *y)
{
    y[0] = rt_softmax_ce(g, x[0], x[1]);
    y[1] = rt_node_out(y[0], 1);
}

static const rt_case cases[] = {
    {.name = "log_softmax.rows", .op = RT_OP_LOG_SOFTMAX, .build = log_softmax, .in = {IN(UNIFORM, -3, 3, 4, 7)}},
    {.name = "log_softmax.vector", .op = RT_OP_LOG_SOFTMAX, .build = log_softmax, .in = {IN(UNIFORM, -3, 3, 5)}},
    {.name = "log_softmax.cube", .op = RT_OP_LOG_SOFTMAX, .build = log_softmax, .in = {IN(UNIFORM, -3, 3, 2, 3, 4)}},
    {.name = "softmax_ce.prob", .op = RT_OP_SOFTMAX_CE, .build = ce,
     .in = {IN(UNIFORM, -3, 3, 4, 7), IN(PROB, 0, 1, 4, 7)}},
    {.name = "softmax_ce.free", .op = RT_OP_SOFTMAX_CE, .build = ce, /* targets that sum to anything */
     .in = {IN(UNIFORM, -3, 3, 4, 5), IN(UNIFORM, -1, 1, 4, 5)}},
    {.name = "softmax_ce.both", .op = RT_OP_SOFTMAX_CE, .n_out = 2, .build = ce_both,
     .in = {IN(UNIFORM, -3, 3, 4, 5), IN(UNIFORM, 0, 1, 4, 5)}},
};
RT_CASE_TABLE(loss, cases)
