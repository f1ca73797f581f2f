/* The CUDA kernel table: what is there. An op without an entry is "unsupported" at prepare, by name; INPUT and CONST need no
 * kernel. */
#include "backend/cuda/cuda.h"

#define ENTRY(how, name) {.prepare = rt_cuda_##how##_prepare, .run = rt_cuda_##name##_run, .release = rt_cuda_release}
#define NORM(name)                                                                                                     \
    {.supports = rt_cuda_norm_supports, .prepare = rt_cuda_norm_prepare, .run = rt_cuda_##name##_run, .release = rt_cuda_release}
#define TANGENT                                                                                                        \
    {.supports = rt_cuda_norm_supports, .prepare = rt_cuda_norm_tangent_prepare, .run = rt_cuda_norm_tangent_run,       \
     .release = rt_cuda_release}
#define POOL(name)                                                                                                     \
    {.supports = rt_cuda_pool_supports, .prepare = rt_cuda_pool_prepare, .run = rt_cuda_##name##_run, .release = rt_cuda_release}

const rt_kernel rt_cuda_kernels[RT_OP_COUNT] = {
#define RT_UNARY(ENUM, name) [RT_OP_##ENUM] = ENTRY(flat, name),
#define RT_BINARY(ENUM, name) [RT_OP_##ENUM] = ENTRY(broadcast, name),
#include "math/elementwise.def"
#undef RT_UNARY
#undef RT_BINARY
    [RT_OP_IOTA] = ENTRY(state, iota),
    [RT_OP_DROPOUT_MASK] = ENTRY(state, dropout_mask),
    [RT_OP_STOP_GRADIENT] = ENTRY(flat, copy),
    [RT_OP_RESHAPE] = ENTRY(flat, copy),
    [RT_OP_BROADCAST] = ENTRY(broadcast_map, move),
    [RT_OP_TRANSPOSE] = ENTRY(transpose, move),
    [RT_OP_SLICE] = ENTRY(slice, move),
    [RT_OP_PAD] = ENTRY(pad, move),
    [RT_OP_CONCAT] = ENTRY(concat, move),
    [RT_OP_GATHER] = ENTRY(state, gather),
    [RT_OP_SCATTER_ADD] = ENTRY(scatter, scatter_add),
    [RT_OP_ONE_HOT] = ENTRY(state, one_hot),
    [RT_OP_SUM] = ENTRY(reduce, sum),
    [RT_OP_AMAX] = ENTRY(reduce, amax),
    [RT_OP_ARGMAX] = ENTRY(state, argmax),
    [RT_OP_AVG_POOL] = POOL(avg_pool),
    [RT_OP_AVG_POOL_DX] = POOL(avg_pool_dx),
    [RT_OP_MAX_POOL] = POOL(max_pool),
    [RT_OP_MAX_POOL_DX] = POOL(max_pool_dx),
    [RT_OP_POOL_GATHER] = POOL(pool_gather),
    [RT_OP_NORM] = NORM(norm),
    [RT_OP_NORM_DX] = NORM(norm_dx),
    [RT_OP_NORM_TANGENT] = TANGENT,
    [RT_OP_NORM_DX_TANGENT] = TANGENT,
    [RT_OP_LOG_SOFTMAX] = ENTRY(state, log_softmax),
    [RT_OP_SOFTMAX_CE] = ENTRY(state, softmax_ce),
    [RT_OP_COLOR] = ENTRY(state, color),
    [RT_OP_AFFINE_SAMPLE] = ENTRY(state, affine_sample),
    [RT_OP_AFFINE_SCATTER] = ENTRY(state, affine_scatter),
    [RT_OP_BOX_MASK] = ENTRY(state, box_mask),
    [RT_OP_CROP_VIEW] = ENTRY(state, crop_view),
    [RT_OP_CROP_VIEW_DX] = ENTRY(state, crop_view_dx),
    [RT_OP_MOMENTS] = ENTRY(moments, moments),
    [RT_OP_MOMENTS_DX] = ENTRY(moments, moments_dx),
    [RT_OP_MATMUL] = {.prepare = rt_cuda_matmul_prepare, .run = rt_cuda_matmul_run, .release = rt_cuda_matmul_release},
    [RT_OP_CONV2D] = {.prepare = rt_cuda_conv_prepare, .run = rt_cuda_conv_run, .release = rt_cuda_conv_release},
    [RT_OP_CONV2D_DX] = {.prepare = rt_cuda_conv_prepare, .run = rt_cuda_conv_run, .release = rt_cuda_conv_release},
    [RT_OP_CONV2D_DW] = {.prepare = rt_cuda_conv_prepare, .run = rt_cuda_conv_run, .release = rt_cuda_conv_release},
    [RT_OP_SGD_STEP] = ENTRY(state, sgd_step),
    [RT_OP_ADAM_STEP] = ENTRY(state, adam_step),
};
