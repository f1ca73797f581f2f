/* Elementwise kernels, expanded from the same list and formulas as the CPU loops and the reference; and fill and copy, which
 * move without arithmetic. Bound by memory: one read per operand, one write. */
#include "launch.cuh"

#include <math.h>

#include "math/hd.h"

#include "math/real_f32.h"
#include "math/elementwise.inc"

/* Offset of element i of the map, for one set of strides. I: 32-bit wherever the count allows, since division dominates. */
template <typename I> __device__ inline int64_t offset_of(I i, int32_t rank, const int64_t *d, const int64_t *s)
{
    int64_t off = 0;
    for (int32_t k = rank - 1; k > 0; k--) {
        const I q = i / (I)d[k];
        off += (int64_t)(i - q * (I)d[k]) * s[k];
        i = q;
    }
    return off + (int64_t)i * s[0];
}

#define RT_UNARY(ENUM, name)                                                                                           \
    __global__ static void k_##name(const float *x, float *y, int64_t n)                                               \
    {                                                                                                                  \
        RT_K_FOR(i, n) y[i] = rt_##name##_f32(x[i]);                                                                   \
    }                                                                                                                  \
    extern "C" cudaError_t rt_k_##name(const float *x, float *y, int64_t n, cudaStream_t s)                            \
    {                                                                                                                  \
        if (n == 0) return cudaSuccess;                                                                                \
        RT_LAUNCH(k_##name, rt_k_blocks(n, RT_K_BLOCK), RT_K_BLOCK, s, x, y, n);                                       \
        return cudaGetLastError();                                                                                     \
    }

/* Rank 1 covers equal shapes and scalars: the strides are 0 or 1 and no division is needed. */
#define RT_BINARY(ENUM, name)                                                                                          \
    __global__ static void k_##name##_flat(const float *a, const float *b, float *y, rt_k_map m)                       \
    {                                                                                                                  \
        RT_K_FOR(i, m.n) y[i] = rt_##name##_f32(a[i * m.sa[0]], b[i * m.sb[0]]);                                       \
    }                                                                                                                  \
    template <typename I> __global__ static void k_##name##_map(const float *a, const float *b, float *y, rt_k_map m)  \
    {                                                                                                                  \
        RT_K_FOR(i, m.n)                                                                                               \
            y[i] = rt_##name##_f32(a[offset_of((I)i, m.rank, m.d, m.sa)], b[offset_of((I)i, m.rank, m.d, m.sb)]);      \
    }                                                                                                                  \
    extern "C" cudaError_t rt_k_##name(const float *a, const float *b, float *y, const rt_k_map *m, cudaStream_t s)    \
    {                                                                                                                  \
        if (m->n == 0) return cudaSuccess;                                                                             \
        const unsigned grid = rt_k_blocks(m->n, RT_K_BLOCK);                                                           \
        if (m->rank <= 1) RT_LAUNCH(k_##name##_flat, grid, RT_K_BLOCK, s, a, b, y, *m);                                \
        else if (m->n <= UINT32_MAX) RT_LAUNCH(k_##name##_map<uint32_t>, grid, RT_K_BLOCK, s, a, b, y, *m);            \
        else RT_LAUNCH(k_##name##_map<uint64_t>, grid, RT_K_BLOCK, s, a, b, y, *m);                                    \
        return cudaGetLastError();                                                                                     \
    }
#include "math/elementwise.def"
#undef RT_UNARY
#undef RT_BINARY

__global__ static void k_fill(float *y, float value, int64_t n) { RT_K_FOR(i, n) y[i] = value; }

extern "C" cudaError_t rt_k_fill(float *y, float value, int64_t n, cudaStream_t s)
{
    if (n == 0) return cudaSuccess;
    RT_LAUNCH(k_fill, rt_k_blocks(n, RT_K_BLOCK), RT_K_BLOCK, s, y, value, n);
    return cudaGetLastError();
}

template <typename I> __global__ static void k_copy(const uint32_t *a, uint32_t *y, rt_k_map m)
{
    RT_K_FOR(i, m.n) y[i] = a[offset_of((I)i, m.rank, m.d, m.sa)];
}

extern "C" cudaError_t rt_k_copy(const void *a, void *y, const rt_k_map *m, cudaStream_t s)
{
    if (m->n == 0) return cudaSuccess;
    const uint32_t *from = static_cast<const uint32_t *>(a);
    uint32_t *to = static_cast<uint32_t *>(y);
    const unsigned grid = rt_k_blocks(m->n, RT_K_BLOCK);
    if (m->n <= UINT32_MAX) RT_LAUNCH(k_copy<uint32_t>, grid, RT_K_BLOCK, s, from, to, *m);
    else RT_LAUNCH(k_copy<uint64_t>, grid, RT_K_BLOCK, s, from, to, *m);
    return cudaGetLastError();
}
