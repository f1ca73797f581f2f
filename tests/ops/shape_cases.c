/* Movement ops. Each is followed by a square where the op alone would leave the second derivative trivially zero. */
#include "case.h"

#define BUILD(name, expr)                                                                                              \
    static void name(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = (expr); }
BUILD(reshape, rt_reshape(g, x[0], RT_SHAPE(RT_F32, 5, -1)))
BUILD(reshape_square, rt_square(g, rt_reshape(g, x[0], RT_SHAPE(RT_F32, 5, -1))))
BUILD(broadcast_row, rt_broadcast(g, x[0], RT_SHAPE(RT_F32, 3, 4, 7)))
BUILD(broadcast_ones, rt_broadcast(g, x[0], RT_SHAPE(RT_F32, 3, 4, 7)))
BUILD(broadcast_scalar, rt_broadcast(g, x[0], RT_SHAPE(RT_F32, 5, 13)))
BUILD(broadcast_square, rt_broadcast(g, rt_square(g, x[0]), RT_SHAPE(RT_F32, 3, 4, 7)))
BUILD(transpose2, rt_transpose(g, x[0], (int[]){1, 0}))
BUILD(transpose4, rt_transpose(g, x[0], (int[]){0, 3, 1, 2}))
BUILD(transpose_cycle, rt_square(g, rt_transpose(g, x[0], (int[]){2, 0, 1})))
BUILD(slice_rows, rt_slice(g, x[0], (int64_t[]){2, 0}, (int64_t[]){5, 6}))
BUILD(slice_box, rt_square(g, rt_slice(g, x[0], (int64_t[]){0, 1, 2}, (int64_t[]){3, 4, 7})))
BUILD(pad_box, rt_pad(g, x[0], (int64_t[]){1, 0, 2}, (int64_t[]){0, 1, 1}))
BUILD(pad_square, rt_square(g, rt_pad(g, x[0], (int64_t[]){3, 0}, (int64_t[]){0, 2})))
BUILD(concat_last, rt_concat(g, x, 3, 1))
BUILD(concat_first, rt_square(g, rt_concat(g, (rt_val[]){x[0], x[1], x[0]}, 3, 0)))
BUILD(stop, rt_stop_gradient(g, x[0]))
BUILD(stop_half, rt_mul(g, rt_square(g, x[0]), rt_stop_gradient(g, x[1])))

/* A two-layer perceptron whose parameters are views of one vector: gradients meet again as one concat. */
static void flat_params(rt_graph *g, const rt_val *x, rt_val *y)
{
    rt_val w1 = rt_view1d(g, x[1], 0, RT_SHAPE(RT_F32, 3, 4)), b1 = rt_view1d(g, x[1], 12, RT_SHAPE(RT_F32, 4));
    rt_val w2 = rt_view1d(g, x[1], 18, RT_SHAPE(RT_F32, 4, 2)); /* a gap of two, and two unused at the end */
    rt_val h = rt_tanh(g, rt_add(g, rt_matmul(g, x[0], w1, false, false), b1));
    rt_val again = rt_tanh(g, rt_matmul(g, rt_square(g, x[0]), w1, false, false)); /* w1 used twice */
    y[0] = rt_matmul(g, rt_add(g, h, again), w2, false, false);
}

/* Views that overlap in part cannot be joined. */
static void overlapping_views(rt_graph *g, const rt_val *x, rt_val *y)
{
    rt_val a = rt_view1d(g, x[0], 0, RT_SHAPE(RT_F32, 6)), b = rt_view1d(g, x[0], 4, RT_SHAPE(RT_F32, 6));
    y[0] = rt_add(g, rt_mul(g, rt_square(g, a), b), rt_square(g, rt_view1d(g, x[0], 5, RT_SHAPE(RT_F32, 6))));
}

/* Empty operands: legal wherever the result is defined. */
BUILD(empty_sum, rt_sum(g, rt_square(g, x[0]), 1, false))
BUILD(empty_matmul, rt_matmul(g, x[0], x[1], false, false))
BUILD(empty_part, rt_mul_scalar(g, rt_concat(g, x, 2, 0), 3))
BUILD(empty_slice, rt_square(g, rt_transpose(g, rt_slice(g, x[0], (int64_t[]){2, 0}, (int64_t[]){2, 4}), (int[]){1, 0})))

static const rt_case cases[] = {
    {.name = "empty.sum", .op = RT_OP_SUM, .build = empty_sum, .in = {IN(UNIFORM, -2, 2, 0, 3)}},
    {.name = "empty.matmul",
     .op = RT_OP_MATMUL,
     .build = empty_matmul,
     .in = {IN(UNIFORM, -2, 2, 2, 0), IN(UNIFORM, -2, 2, 0, 3)}},
    {.name = "empty.concat", .op = RT_OP_CONCAT, .build = empty_part, .in = {IN(UNIFORM, -2, 2, 0, 3), IN(UNIFORM, -2, 2, 2, 3)}},
    {.name = "empty.slice", .op = RT_OP_SLICE, .build = empty_slice, .in = {IN(UNIFORM, -2, 2, 3, 4)}, .flags = CASE_SPARSE},
    {.name = "reshape", .op = RT_OP_RESHAPE, .build = reshape, .in = {IN(UNIFORM, -2, 2, 3, 5, 4)}},
    {.name = "reshape.square", .op = RT_OP_RESHAPE, .build = reshape_square, .in = {IN(UNIFORM, -2, 2, 3, 5, 4)}},
    {.name = "broadcast.row", .op = RT_OP_BROADCAST, .build = broadcast_row, .in = {IN(UNIFORM, -2, 2, 7)}},
    {.name = "broadcast.ones", .op = RT_OP_BROADCAST, .build = broadcast_ones, .in = {IN(UNIFORM, -2, 2, 3, 1, 1)}},
    {.name = "broadcast.scalar", .op = RT_OP_BROADCAST, .build = broadcast_scalar, .in = {IN_SCALAR(UNIFORM, 1, 2)}},
    {.name = "broadcast.square", .op = RT_OP_BROADCAST, .build = broadcast_square, .in = {IN(UNIFORM, -2, 2, 4, 1)}},
    {.name = "transpose.2d", .op = RT_OP_TRANSPOSE, .build = transpose2, .in = {IN(UNIFORM, -2, 2, 9, 35)}},
    {.name = "transpose.nchw", .op = RT_OP_TRANSPOSE, .build = transpose4, .in = {IN(UNIFORM, -2, 2, 2, 5, 6, 3)}},
    {.name = "transpose.cycle", .op = RT_OP_TRANSPOSE, .build = transpose_cycle, .in = {IN(UNIFORM, -2, 2, 2, 5, 3)}},
    {.name = "slice.rows", .op = RT_OP_SLICE, .build = slice_rows, .in = {IN(UNIFORM, -2, 2, 8, 6)}, .flags = CASE_SPARSE},
    {.name = "slice.box", .op = RT_OP_SLICE, .build = slice_box, .in = {IN(UNIFORM, -2, 2, 4, 5, 8)}, .flags = CASE_SPARSE},
    {.name = "pad.box", .op = RT_OP_PAD, .build = pad_box, .in = {IN(UNIFORM, -2, 2, 2, 3, 4)}, .flags = CASE_SPARSE},
    {.name = "pad.square", .op = RT_OP_PAD, .build = pad_square, .in = {IN(UNIFORM, -2, 2, 3, 4)}, .flags = CASE_SPARSE},
    {.name = "concat.last",
     .op = RT_OP_CONCAT,
     .build = concat_last,
     .in = {IN(UNIFORM, -2, 2, 3, 4, 2), IN(UNIFORM, -2, 2, 3, 1, 2), IN(UNIFORM, -2, 2, 3, 3, 2)}},
    {.name = "concat.repeated",
     .op = RT_OP_CONCAT,
     .build = concat_first,
     .in = {IN(UNIFORM, -2, 2, 3, 4), IN(UNIFORM, -2, 2, 1, 4)}},
    {.name = "concat.flat_params",
     .op = RT_OP_TANH,
     .build = flat_params,
     .in = {IN(UNIFORM, -1, 1, 5, 3), IN(UNIFORM, -1, 1, 28)}},
    {.name = "slice.overlap", .op = RT_OP_SLICE, .build = overlapping_views, .in = {IN(UNIFORM, -2, 2, 11)}},
    {.name = "stop_gradient",
     .op = RT_OP_STOP_GRADIENT,
     .build = stop,
     .in = {IN(UNIFORM, -2, 2, 3, 4)},
     .flags = CASE_ZERO_GRAD | CASE_SPARSE},
    {.name = "stop_gradient.half",
     .op = RT_OP_STOP_GRADIENT,
     .build = stop_half,
     .in = {IN(UNIFORM, -2, 2, 3, 4), IN_FIXED(UNIFORM, -2, 2, 3, 4)}},
};
RT_CASE_TABLE(shape, cases)
