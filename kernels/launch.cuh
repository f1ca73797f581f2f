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

/* V consecutive reals read or written as one: 16 bytes for V = 4. The address must be aligned to the whole. */
template <typename T, int V> struct alignas(sizeof(T) * V) rt_k_pack {
    T v[V];
};
template <int V, typename T> __device__ inline rt_k_pack<T, V> rt_k_load(const T *p)
{
    return *reinterpret_cast<const rt_k_pack<T, V> *>(p);
}
template <int V, typename T> __device__ inline void rt_k_store(T *p, const rt_k_pack<T, V> &x)
{
    *reinterpret_cast<rt_k_pack<T, V> *>(p) = x;
}

/* Whether rows of `row` four-byte elements that start at each p can be moved 16 bytes at a time. */
static inline bool rt_k_vector(int64_t row, const void *p0, const void *p1 = nullptr, const void *p2 = nullptr, const void *p3 = nullptr)
{
    const uintptr_t all = (uintptr_t)p0 | (uintptr_t)p1 | (uintptr_t)p2 | (uintptr_t)p3;
    return row % 4 == 0 && all % 16 == 0;
}

/* Keeps one fault for the host to find. One 64-bit store, so what it finds is one fault and not parts of several. */
__device__ inline void rt_k_report(int32_t index, int64_t at, rt_k_fault f)
{
    const uint64_t place = at < 0xFFFFFF ? (uint64_t)at : (uint64_t)0xFFFFFF;
    *static_cast<volatile uint64_t *>(f.word) = (uint64_t)(f.op + 1u) << 56 | place << 32 | (uint64_t)(uint32_t)index;
}

/* Whether an index found at position `at` lies in [0, limit); reports one that does not. */
__device__ inline bool rt_k_index_ok(int32_t index, int64_t limit, int64_t at, rt_k_fault f)
{
    if (index >= 0 && index < limit) return true;
    rt_k_report(index, at, f);
    return false;
}

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
