/* Cases of fused normalisation. A case with three outputs also sends gradients into mean and rstd, which forces the
 * expansion; with one output the fused backward op is used. Seeds keep the ReLU clear of its kink. */
#include "case.h"

#define NORM(name, ...)                                                                                                \
    static void name##_y(rt_graph *g, const rt_val *x, rt_val *y)                                                      \
    {                                                                                                                  \
        y[0] = rt_norm(g, x[0], x[1], x[2], (rt_norm_attr){__VA_ARGS__}, NULL, NULL);                                  \
    }                                                                                                                  \
    static void name##_all(rt_graph *g, const rt_val *x, rt_val *y)                                                    \
    {                                                                                                                  \
        y[0] = rt_norm(g, x[0], x[1], x[2], (rt_norm_attr){__VA_ARGS__}, &y[1], &y[2]);                                \
    }                                                                                                                  \
    /* (x, gamma, beta, gy): mean and rstd must be those of x, so they are not inputs of the case */                  \
    static void name##_dx(rt_graph *g, const rt_val *x, rt_val *y)                                                     \
    {                                                                                                                  \
        rt_norm_attr a = {__VA_ARGS__};                                                                                \
        rt_val mean, rstd;                                                                                             \
        rt_norm(g, x[0], x[1], x[2], a, &mean, &rstd);                                                                 \
        y[0] = rt_graph_append(g, RT_OP_NORM_DX, (rt_val[]){x[0], x[1], x[2], mean, rstd, x[3]}, 6, &a, sizeof a);     \
        y[1] = rt_node_out(y[0], 1);                                                                                   \
        y[2] = rt_node_out(y[0], 2);                                                                                   \
    }
NORM(instance, .kind = RT_NORM_GROUP, .groups = 4, .eps = 1e-5)
NORM(instance_fused, .kind = RT_NORM_GROUP, .groups = 4, .relu = 1, .pool = 2, .eps = 1e-5)
NORM(group, .kind = RT_NORM_GROUP, .groups = 2, .pool = 2, .eps = 1e-5)
NORM(layer, .kind = RT_NORM_GROUP, .groups = 1, .relu = 1, .eps = 1e-3)
NORM(batch, .kind = RT_NORM_BATCH, .eps = 1e-5)
NORM(batch_fused, .kind = RT_NORM_BATCH, .relu = 1, .pool = 2, .eps = 1e-5)

#define X IN(UNIFORM, -2, 2, 2, 4, 4, 4), IN(AWAY, 0.5, 1.5, 4), IN(UNIFORM, -0.5, 0.5, 4)
#define GY_FULL IN(UNIFORM, -1, 1, 2, 4, 4, 4)
#define GY_HALF IN(UNIFORM, -1, 1, 2, 2, 2, 4)

#define CASES(name_, gy_, seed_)                                                                                       \
    {.name = "norm." #name_, .op = RT_OP_NORM, .build = name_##_y, .in = {X}, .seed = seed_},                          \
    {.name = "norm." #name_ ".stats", .op = RT_OP_NORM, .n_out = 3, .build = name_##_all, .in = {X}, .seed = seed_},   \
    {.name = "norm_dx." #name_, .op = RT_OP_NORM_DX, .n_out = 3, .build = name_##_dx, .in = {X, gy_}, .seed = seed_}

static const rt_case cases[] = {
    CASES(instance, GY_FULL, 1),
    CASES(instance_fused, GY_HALF, 2),
    CASES(group, GY_HALF, 1),
    CASES(layer, GY_FULL, 7),
    CASES(batch, GY_FULL, 1),
    CASES(batch_fused, GY_HALF, 4),
};
RT_CASE_TABLE(norm, cases)
