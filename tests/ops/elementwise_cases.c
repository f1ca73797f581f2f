/* Elementwise cases. Shapes are odd on purpose: not multiples of any vector width; binary ops broadcast on either side. */
#include "case.h"

#define RT_UNARY(ENUM, name)                                                                                           \
    static void name##_build(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = rt_##name(g, x[0]); }
#define RT_BINARY(ENUM, name)                                                                                          \
    static void name##_build(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = rt_##name(g, x[0], x[1]); }
#include "math/elementwise.def"
#undef RT_UNARY
#undef RT_BINARY

/* A self-product chain: one value as both operands, used twice. */
static void shared_build(rt_graph *g, const rt_val *x, rt_val *y)
{
    rt_val s = rt_mul(g, x[0], x[0]);
    y[0] = rt_sub(g, rt_mul(g, s, x[0]), rt_div(g, x[0], s));
}

static void scalars_build(rt_graph *g, const rt_val *x, rt_val *y)
{
    y[0] = rt_add_scalar(g, rt_mul_scalar(g, x[0], -2.5), 0.75);
}

static const rt_case cases[] = {
    {.name = "neg", .op = RT_OP_NEG, .build = neg_build, .in = {IN(UNIFORM, -2, 2, 3, 5, 7)}},
    {.name = "exp", .op = RT_OP_EXP, .build = exp_build, .in = {IN(UNIFORM, -3, 3, 3, 37)}},
    {.name = "log", .op = RT_OP_LOG, .build = log_build, .in = {IN(UNIFORM, 0.2, 5, 3, 37)}},
    {.name = "sqrt", .op = RT_OP_SQRT, .build = sqrt_build, .in = {IN(UNIFORM, 0.2, 5, 111)}},
    {.name = "recip", .op = RT_OP_RECIP, .build = recip_build, .in = {IN(AWAY, 0.3, 3, 111)}},
    {.name = "square", .op = RT_OP_SQUARE, .build = square_build, .in = {IN(UNIFORM, -2, 2, 7, 16)}},
    {.name = "tanh", .op = RT_OP_TANH, .build = tanh_build, .in = {IN(UNIFORM, -3, 3, 7, 17)}},
    {.name = "cos", .op = RT_OP_COS, .build = cos_build, .in = {IN(UNIFORM, -7, 7, 7, 17)}},
    {.name = "sin", .op = RT_OP_SIN, .build = sin_build, .in = {IN(UNIFORM, -7, 7, 7, 17)}},
    {.name = "sigmoid", .op = RT_OP_SIGMOID, .build = sigmoid_build, .in = {IN(UNIFORM, -8, 8, 7, 17)}},
    {.name = "silu", .op = RT_OP_SILU, .build = silu_build, .in = {IN(UNIFORM, -8, 8, 7, 17)}},
    {.name = "erf", .op = RT_OP_ERF, .build = erf_build, .in = {IN(UNIFORM, -3, 3, 7, 17)}},
    {.name = "relu", .op = RT_OP_RELU, .build = relu_build, .in = {IN(AWAY, 0.1, 2, 3, 5, 7)}, .flags = CASE_SPARSE},
    {.name = "step",
     .op = RT_OP_STEP,
     .build = step_build,
     .in = {IN(AWAY, 0.1, 2, 3, 5, 7)},
     .flags = CASE_SPARSE | CASE_ZERO_GRAD},
    {.name = "abs", .op = RT_OP_ABS, .build = abs_build, .in = {IN(AWAY, 0.1, 2, 3, 5, 7)}},
    {.name = "sign",
     .op = RT_OP_SIGN,
     .build = sign_build,
     .in = {IN(AWAY, 0.1, 2, 3, 5, 7)},
     .flags = CASE_SPARSE | CASE_ZERO_GRAD},
    {.name = "add", .op = RT_OP_ADD, .build = add_build, .in = {IN(UNIFORM, -2, 2, 3, 37), IN(UNIFORM, -2, 2, 3, 37)}},
    {.name = "add.row", .op = RT_OP_ADD, .build = add_build, .in = {IN(UNIFORM, -2, 2, 4, 3, 19), IN(UNIFORM, -2, 2, 19)}},
    {.name = "add.channel",
     .op = RT_OP_ADD,
     .build = add_build,
     .in = {IN(UNIFORM, -2, 2, 2, 5, 5, 13), IN(UNIFORM, -2, 2, 13)}},
    {.name = "add.scalar", .op = RT_OP_ADD, .build = add_build, .in = {IN_SCALAR(UNIFORM, -2, 2), IN(UNIFORM, -2, 2, 65)}},
    {.name = "sub.outer",
     .op = RT_OP_SUB,
     .build = sub_build,
     .in = {IN(UNIFORM, -2, 2, 5, 1, 3), IN(UNIFORM, -2, 2, 7, 1)}},
    {.name = "sub", .op = RT_OP_SUB, .build = sub_build, .in = {IN(UNIFORM, -2, 2, 131), IN(UNIFORM, -2, 2, 131)}},
    {.name = "mul", .op = RT_OP_MUL, .build = mul_build, .in = {IN(UNIFORM, -2, 2, 3, 37), IN(UNIFORM, -2, 2, 3, 37)}},
    {.name = "mul.column", .op = RT_OP_MUL, .build = mul_build, .in = {IN(UNIFORM, -2, 2, 6, 11), IN(UNIFORM, -2, 2, 6, 1)}},
    {.name = "mul.sample",
     .op = RT_OP_MUL,
     .build = mul_build,
     .in = {IN(UNIFORM, -2, 2, 3, 4, 4, 5), IN(UNIFORM, -2, 2, 3, 1, 1, 5)}},
    {.name = "div", .op = RT_OP_DIV, .build = div_build, .in = {IN(UNIFORM, -2, 2, 3, 37), IN(AWAY, 0.4, 2, 3, 37)}},
    {.name = "div.row", .op = RT_OP_DIV, .build = div_build, .in = {IN(UNIFORM, -2, 2, 6, 11), IN(AWAY, 0.4, 2, 11)}},
    {.name = "div.over", .op = RT_OP_DIV, .build = div_build, .in = {IN(UNIFORM, -2, 2, 6, 1), IN(AWAY, 0.4, 2, 6, 11)}},
    {.name = "maximum",
     .op = RT_OP_MAXIMUM,
     .build = maximum_build,
     .in = {IN(DISTINCT, -2, 2, 4, 9), IN(DISTINCT, -1.97, 2.03, 4, 9)}},
    {.name = "maximum.row",
     .op = RT_OP_MAXIMUM,
     .build = maximum_build,
     .in = {IN(DISTINCT, -2, 2, 4, 9), IN(DISTINCT, -1.97, 2.01, 9)}},
    {.name = "minimum",
     .op = RT_OP_MINIMUM,
     .build = minimum_build,
     .in = {IN(DISTINCT, -2, 2, 4, 9), IN(DISTINCT, -1.97, 2.03, 4, 9)}},
    {.name = "mul.shared", .op = RT_OP_MUL, .build = shared_build, .in = {IN(AWAY, 0.5, 2, 3, 7)}},
    {.name = "mul.by_number", .op = RT_OP_MUL, .build = scalars_build, .in = {IN(UNIFORM, -2, 2, 3, 7)}},
};
RT_CASE_TABLE(elementwise, cases)
