/* Cases of the optimiser steps, differentiated in every input: an unrolled trajectory needs all of them. Adam's second
 * moment stays away from zero, where its square root has no derivative. */
#include "case.h"

#define SGD(name, momentum, nesterov)                                                                                  \
    static void name(rt_graph *g, const rt_val *x, rt_val *y)                                                          \
    {                                                                                                                  \
        y[0] = rt_sgd_step(g, x[0], x[1], x[2], x[3], x[4], momentum, nesterov, &y[1]);                                \
    }
SGD(sgd, 0.9, false)
SGD(sgd_plain, 0.0, false)
SGD(nesterov, 0.9, true)

#define ADAM(name, is_decoupled)                                                                                       \
    static void name(rt_graph *g, const rt_val *x, rt_val *y)                                                          \
    {                                                                                                                  \
        const rt_adam_attr a = {.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-3, .decoupled = is_decoupled};                  \
        y[0] = rt_adam_step(g, x[0], x[1], x[2], x[3], x[4], x[5], a, &y[1], &y[2]);                                   \
    }
ADAM(adam, 0)
ADAM(adamw, 1)

#define VECTOR IN(UNIFORM, -1, 1, 11)
#define RATE IN_SCALAR(UNIFORM, 0.1, 0.5)
#define SECOND IN(UNIFORM, 0.5, 1.5, 11)
#define HYPER IN(UNIFORM, 0.3, 0.9, 3)

static const rt_case cases[] = {
    {.name = "sgd_step.momentum", .op = RT_OP_SGD_STEP, .n_out = 2, .build = sgd,
     .in = {VECTOR, VECTOR, VECTOR, RATE, RATE}},
    {.name = "sgd_step.plain", .op = RT_OP_SGD_STEP, .n_out = 2, .build = sgd_plain,
     .in = {VECTOR, VECTOR, VECTOR, RATE, RATE}, .flags = CASE_SPARSE},
    {.name = "sgd_step.nesterov", .op = RT_OP_SGD_STEP, .n_out = 2, .build = nesterov,
     .in = {VECTOR, VECTOR, VECTOR, RATE, IN(UNIFORM, 0, 0.5, 11)}},
    {.name = "adam_step.adam", .op = RT_OP_ADAM_STEP, .n_out = 3, .build = adam,
     .in = {VECTOR, VECTOR, SECOND, VECTOR, HYPER, RATE}},
    {.name = "adam_step.adamw", .op = RT_OP_ADAM_STEP, .n_out = 3, .build = adamw,
     .in = {VECTOR, VECTOR, SECOND, VECTOR, HYPER, IN(UNIFORM, 0, 0.5, 11)}},
};
RT_CASE_TABLE(optim, cases)
