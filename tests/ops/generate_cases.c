/* Ramps and dropout masks. Masks are checked through what they multiply, too: the derivative is the mask itself. */
#include "case.h"

#define BUILD(name, expr)                                                                                              \
    static void name(rt_graph *g, const rt_val *x, rt_val *y)                                                          \
    {                                                                                                                  \
        (void)x;                                                                                                       \
        y[0] = (expr);                                                                                                 \
    }
BUILD(ramp_i32, rt_iota(g, RT_SHAPE(RT_I32, 3, 4, 5), -7, (const int64_t[]){100, -9, 1}))
BUILD(ramp_f32, rt_iota(g, RT_SHAPE(RT_F32, 2, 3, 2, 3), 11, (const int64_t[]){5, 1, -5, -1}))
BUILD(ramp_scalar, rt_iota(g, RT_SCALAR_F32, -3, NULL))
/* relative positions of a 2x3 window: rows of x added to a 6x6 table */
BUILD(ramp_gather, rt_square(g, rt_gather(g, x[0], rt_reshape(g, rt_iota(g, RT_SHAPE(RT_I32, 2, 3, 2, 3), 7,
                                                                          (const int64_t[]){5, 1, -5, -1}),
                                                               RT_SHAPE(RT_I32, 36)))))
BUILD(mask, rt_dropout_mask(g, x[0], RT_SHAPE(RT_F32, 7, 33), 0.75, 3))
BUILD(mask_all, rt_dropout_mask(g, x[0], RT_SHAPE(RT_F32, 13), 1, 0))
BUILD(drop, rt_mul(g, rt_tanh(g, x[0]), rt_dropout_mask(g, x[1], RT_SHAPE(RT_F32, 3, 5, 5, 3), 0.6, 65535)))
BUILD(drop_paths, rt_mul(g, x[0], rt_dropout_mask(g, x[1], RT_SHAPE(RT_F32, 12, 1, 1, 1), 0.5, 1)))
BUILD(drop_nets, rt_square(g, rt_mul(g, x[0], rt_dropout_mask(g, x[1], RT_SHAPE(RT_F32, 6, 5), 0.5, 2))))

static const rt_case cases[] = {
    {.name = "iota.i32", .op = RT_OP_IOTA, .build = ramp_i32, .flags = CASE_NO_GRAD | CASE_SPARSE},
    {.name = "iota.f32", .op = RT_OP_IOTA, .build = ramp_f32, .flags = CASE_NO_GRAD | CASE_SPARSE},
    {.name = "iota.scalar", .op = RT_OP_IOTA, .build = ramp_scalar, .flags = CASE_NO_GRAD | CASE_SPARSE},
    {.name = "iota.gather", .op = RT_OP_IOTA, .build = ramp_gather, .in = {IN(UNIFORM, -2, 2, 15, 2)}, .flags = CASE_SPARSE},
    {.name = "dropout_mask", .op = RT_OP_DROPOUT_MASK, .build = mask, .in = {IN(INDEX, -2000000000, 2000000000, 4)},
     .flags = CASE_NO_GRAD | CASE_SPARSE},
    {.name = "dropout_mask.keep_all", .op = RT_OP_DROPOUT_MASK, .build = mask_all, .in = {IN(INDEX, 0, 100, 4)},
     .flags = CASE_NO_GRAD | CASE_SPARSE},
    {.name = "dropout_mask.dropout", .op = RT_OP_DROPOUT_MASK, .build = drop,
     .in = {IN(UNIFORM, -2, 2, 3, 5, 5, 3), IN(INDEX, 0, 1000, 4)}, .flags = CASE_SPARSE},
    {.name = "dropout_mask.paths", .op = RT_OP_DROPOUT_MASK, .build = drop_paths,
     .in = {IN(UNIFORM, -2, 2, 12, 2, 3, 2), IN(INDEX, 0, 1000, 4)}, .flags = CASE_SPARSE},
    {.name = "dropout_mask.nets", .op = RT_OP_DROPOUT_MASK, .build = drop_nets,
     .in = {IN(UNIFORM, -2, 2, 6, 5), IN(INDEX, 0, 1000, 3, 4)}, .flags = CASE_SPARSE},
};
RT_CASE_TABLE(generate, cases)
