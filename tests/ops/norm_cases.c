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
    }                                                                                                                  \
    /* (x, gamma, beta, tx, tgamma, tbeta) */                                                                        \
    static void name##_t(rt_graph *g, const rt_val *x, rt_val *y)                                                      \
    {                                                                                                                  \
        rt_norm_attr a = {__VA_ARGS__};                                                                                \
        rt_val m, r;                                                                                                   \
        rt_norm(g, x[0], x[1], x[2], a, &m, &r);                                                                       \
        y[0] = rt_graph_append(g, RT_OP_NORM_TANGENT, (rt_val[]){x[0], x[1], x[2], m, r, x[3], x[4], x[5]}, 8, &a,     \
                               sizeof a);                                                                              \
    }                                                                                                                  \
    /* (x, gamma, beta, gy, tx, tgamma, tgy) */                                                                      \
    static void name##_dxt(rt_graph *g, const rt_val *x, rt_val *y)                                                    \
    {                                                                                                                  \
        rt_norm_attr a = {__VA_ARGS__};                                                                                \
        rt_val m, r;                                                                                                   \
        rt_norm(g, x[0], x[1], x[2], a, &m, &r);                                                                       \
        y[0] = rt_graph_append(g, RT_OP_NORM_DX_TANGENT,                                                               \
                               (rt_val[]){x[0], x[1], x[2], m, r, x[3], x[4], x[5], x[6]}, 9, &a, sizeof a);           \
        y[1] = rt_node_out(y[0], 1);                                                                                   \
        y[2] = rt_node_out(y[0], 2);                                                                                   \
    }                                                                                                                  \
    /* (x, gamma, beta, gy, tx, tgamma) */                                                                             \
    static void name##_dxt0(rt_graph *g, const rt_val *x, rt_val *y)                                                   \
    {                                                                                                                  \
        rt_norm_attr a = {__VA_ARGS__};                                                                                \
        rt_val m, r;                                                                                                   \
        rt_norm(g, x[0], x[1], x[2], a, &m, &r);                                                                       \
        y[0] = rt_graph_append(g, RT_OP_NORM_DX_TANGENT, (rt_val[]){x[0], x[1], x[2], m, r, x[3], x[4], x[5]}, 8, &a,  \
                               sizeof a);                                                                              \
        y[1] = rt_node_out(y[0], 1);                                                                                   \
    }
NORM(instance, .kind = RT_NORM_GROUP, .groups = 4, .eps = 1e-5)
NORM(instance_fused, .kind = RT_NORM_GROUP, .groups = 4, .relu = 1, .pool = 2, .eps = 1e-5)
NORM(group, .kind = RT_NORM_GROUP, .groups = 2, .pool = 2, .eps = 1e-5)
NORM(layer, .kind = RT_NORM_GROUP, .groups = 1, .relu = 1, .eps = 1e-3)
NORM(batch, .kind = RT_NORM_BATCH, .eps = 1e-5)
NORM(batch_fused, .kind = RT_NORM_BATCH, .relu = 1, .pool = 2, .eps = 1e-5)
NORM(instance_nets, .kind = RT_NORM_GROUP, .groups = 4, .relu = 1, .pool = 2, .nets = 2, .eps = 1e-5)
NORM(group_nets, .kind = RT_NORM_GROUP, .groups = 2, .nets = 3, .eps = 1e-5)
NORM(batch_nets, .kind = RT_NORM_BATCH, .relu = 1, .nets = 2, .eps = 1e-5)

#define X IN(UNIFORM, -2, 2, 2, 4, 4, 4), IN(AWAY, 0.5, 1.5, 4), IN(UNIFORM, -0.5, 0.5, 4)
#define TX IN(UNIFORM, -1, 1, 2, 4, 4, 4), IN(UNIFORM, -1, 1, 4)
#define GY_FULL IN(UNIFORM, -1, 1, 2, 4, 4, 4)
#define GY_HALF IN(UNIFORM, -1, 1, 2, 2, 2, 4)
#define TB IN(UNIFORM, -1, 1, 4)

#define X_PAIR IN(UNIFORM, -2, 2, 4, 4, 4, 4), IN(AWAY, 0.5, 1.5, 8), IN(UNIFORM, -0.5, 0.5, 8)
#define X_TRIO IN(UNIFORM, -2, 2, 3, 3, 4, 4), IN(AWAY, 0.5, 1.5, 12), IN(UNIFORM, -0.5, 0.5, 12)
#define TX_PAIR IN(UNIFORM, -1, 1, 4, 4, 4, 4), IN(UNIFORM, -1, 1, 8)
#define TX_TRIO IN(UNIFORM, -1, 1, 3, 3, 4, 4), IN(UNIFORM, -1, 1, 12)
#define GY_PAIR IN(UNIFORM, -1, 1, 4, 4, 4, 4)
#define GY_PAIR_HALF IN(UNIFORM, -1, 1, 4, 2, 2, 4)
#define GY_TRIO IN(UNIFORM, -1, 1, 3, 3, 4, 4)
#define TB_PAIR IN(UNIFORM, -1, 1, 8)
#define TB_TRIO IN(UNIFORM, -1, 1, 12)

#define CASES(name_, x_, gy_, tx_, tb_, seed_)                                                                         \
    {.name = "norm." #name_, .op = RT_OP_NORM, .build = name_##_y, .in = {x_}, .seed = seed_},                         \
    {.name = "norm." #name_ ".stats", .op = RT_OP_NORM, .n_out = 3, .build = name_##_all, .in = {x_}, .seed = seed_},  \
    {.name = "norm_dx." #name_, .op = RT_OP_NORM_DX, .n_out = 3, .build = name_##_dx, .in = {x_, gy_}, .seed = seed_}, \
    {.name = "norm_tangent." #name_, .op = RT_OP_NORM_TANGENT, .build = name_##_t, .in = {x_, tx_, tb_},               \
     .seed = seed_},                                                                                                   \
    {.name = "norm_dx_tangent." #name_, .op = RT_OP_NORM_DX_TANGENT, .n_out = 3, .build = name_##_dxt,                 \
     .in = {x_, gy_, tx_, gy_}, .seed = seed_},                                                                        \
    {.name = "norm_dx_tangent." #name_ ".x", .op = RT_OP_NORM_DX_TANGENT, .n_out = 2, .build = name_##_dxt0,           \
     .in = {x_, gy_, tx_}, .flags = CASE_SPARSE, .seed = seed_}

static const rt_case cases[] = {
    CASES(instance, X, GY_FULL, TX, TB, 1),
    CASES(instance_fused, X, GY_HALF, TX, TB, 2),
    CASES(group, X, GY_HALF, TX, TB, 1),
    CASES(layer, X, GY_FULL, TX, TB, 7),
    CASES(batch, X, GY_FULL, TX, TB, 1),
    CASES(batch_fused, X, GY_HALF, TX, TB, 4),
    CASES(instance_nets, X_PAIR, GY_PAIR_HALF, TX_PAIR, TB_PAIR, 2),
    CASES(group_nets, X_TRIO, GY_TRIO, TX_TRIO, TB_TRIO, 1),
    CASES(batch_nets, X_PAIR, GY_PAIR, TX_PAIR, TB_PAIR, 3),
};
RT_CASE_TABLE(norm, cases)
