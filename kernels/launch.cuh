/* Grid arithmetic, the launch macro and the block reduction. For .cu files only.
 *
 * The .cu files are plain C++ but for RT_LAUNCH, so that tests/kernels can compile them for the host: its cuda_runtime.h
 * defines the CUDA words and RT_LAUNCH, and runs every thread of a block as a fiber. */
#ifndef RT_KERNELS_LAUNCH_CUH
#define RT_KERNELS_LAUNCH_CUH

#include <cuda_runtime.h>
#include <stdint.h>

#include "rt_kernels.h"

#ifndef RT_LAUNCH
#define RT_LAUNCH(kernel, grid, block, stream, ...) kernel<<<(grid), (block), 0, (stream)>>>(__VA_ARGS__)
#endif

enum { RT_K_BLOCK = 256, RT_K_MAX_BLOCKS = 1 << 16 }; /* grids are capped: every kernel strides over its work */

static inline unsigned rt_k_blocks(int64_t n, int64_t per_block)
{
    int64_t b = (n + per_block - 1) / per_block;
    return (unsigned)(b < RT_K_MAX_BLOCKS ? b : (int64_t)RT_K_MAX_BLOCKS);
}

/* for (i of this thread's elements): grid-stride. */
#define RT_K_FOR(i, n)                                                                                                 \
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += (int64_t)gridDim.x * blockDim.x)

/* Combines the values of the threads with one threadIdx.y, in a fixed tree over threadIdx.x; blockDim.x is a power of two.
 * sm: one T per thread of the block. The result is valid where threadIdx.x is 0. All threads of the block must call. */
template <typename T, typename Op> __device__ inline T rt_k_block_reduce(T v, T *sm, Op op)
{
    T *row = sm + threadIdx.y * blockDim.x;
    row[threadIdx.x] = v;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) row[threadIdx.x] = op(row[threadIdx.x], row[threadIdx.x + half]);
        __syncthreads();
    }
    T out = row[0];
    __syncthreads(); /* sm may be used again */
    return out;
}

#endif
