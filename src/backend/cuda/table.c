/* The CUDA kernel table: what is there. An op without an entry is "unsupported" at prepare, by name; INPUT and CONST need no
 * kernel. */
#include "backend/cuda/cuda.h"

#define ENTRY(how, name) {.prepare = rt_cuda_##how##_prepare, .run = rt_cuda_##name##_run, .release = rt_cuda_release}

const rt_kernel rt_cuda_kernels[RT_OP_COUNT] = {
#define RT_UNARY(ENUM, name) [RT_OP_##ENUM] = ENTRY(flat, name),
#define RT_BINARY(ENUM, name) [RT_OP_##ENUM] = ENTRY(broadcast, name),
#include "math/elementwise.def"
#undef RT_UNARY
#undef RT_BINARY
    [RT_OP_STOP_GRADIENT] = ENTRY(flat, copy),
    [RT_OP_RESHAPE] = ENTRY(flat, copy),
    [RT_OP_BROADCAST] = ENTRY(broadcast, map),
    [RT_OP_TRANSPOSE] = ENTRY(transpose, map),
    [RT_OP_SUM] = ENTRY(reduce, sum),
    [RT_OP_AMAX] = ENTRY(reduce, amax),
    [RT_OP_ARGMAX] = ENTRY(state, argmax),
    [RT_OP_SGD_STEP] = ENTRY(state, sgd_step),
    [RT_OP_ADAM_STEP] = ENTRY(state, adam_step),
};
