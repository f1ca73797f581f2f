/* Rounding to bfloat16 and widening from it, with a change of layout on the way (rt_k_map): what products and convolutions in
 * bf16 do to their operands. Works on bits, so host and device agree exactly. */
#include "launch.cuh"

#include "math/bf16.h"

template <typename I> __device__ static inline int64_t at_of(I i, const rt_k_map &m)
{
    int64_t off = 0;
    for (int32_t k = m.rank - 1; k > 0; k--) {
        const I q = i / (I)m.d[k];
        off += (int64_t)(i - q * (I)m.d[k]) * m.sa[k];
        i = q;
    }
    return off + (int64_t)i * m.sa[0];
}

template <typename I> __global__ static void k_to_bf16(const uint32_t *a, uint16_t *y, rt_k_map m)
{
    RT_K_FOR(i, m.n) y[i] = rt_bf16_of_bits(a[at_of((I)i, m)]);
}

template <typename I> __global__ static void k_from_bf16(const uint16_t *a, uint32_t *y, rt_k_map m)
{
    RT_K_FOR(i, m.n) y[i] = rt_bf16_bits(a[at_of((I)i, m)]);
}

/* The common case, equal layouts: four elements a thread, 16 bytes on the float side. Both pointers are 256-byte aligned. */
__global__ static void k_to_bf16_flat(const uint4 *a, uint2 *y, int64_t quads)
{
    RT_K_FOR(i, quads)
    {
        const uint4 v = a[i];
        uint2 h;
        h.x = (uint32_t)rt_bf16_of_bits(v.x) | (uint32_t)rt_bf16_of_bits(v.y) << 16;
        h.y = (uint32_t)rt_bf16_of_bits(v.z) | (uint32_t)rt_bf16_of_bits(v.w) << 16;
        y[i] = h;
    }
}

__global__ static void k_from_bf16_flat(const uint2 *a, uint4 *y, int64_t quads)
{
    RT_K_FOR(i, quads)
    {
        const uint2 h = a[i];
        uint4 v;
        v.x = h.x << 16;
        v.y = h.x & 0xffff0000u;
        v.z = h.y << 16;
        v.w = h.y & 0xffff0000u;
        y[i] = v;
    }
}

static bool flat(const rt_k_map *m, const void *a, const void *y)
{
    return m->rank == 1 && m->sa[0] == 1 && m->n % 4 == 0 && ((uintptr_t)a | (uintptr_t)y) % 16 == 0;
}

extern "C" cudaError_t rt_k_to_bf16(const float *a, uint16_t *y, const rt_k_map *m, cudaStream_t s)
{
    if (m->n == 0) return cudaSuccess;
    const uint32_t *from = reinterpret_cast<const uint32_t *>(a);
    const unsigned grid = rt_k_blocks(m->n, RT_K_BLOCK);
    if (flat(m, a, y))
        RT_LAUNCH(k_to_bf16_flat, rt_k_blocks(m->n / 4, RT_K_BLOCK), RT_K_BLOCK, s, reinterpret_cast<const uint4 *>(a),
                  reinterpret_cast<uint2 *>(y), m->n / 4);
    else if (m->n <= UINT32_MAX) RT_LAUNCH(k_to_bf16<uint32_t>, grid, RT_K_BLOCK, s, from, y, *m);
    else RT_LAUNCH(k_to_bf16<uint64_t>, grid, RT_K_BLOCK, s, from, y, *m);
    return cudaGetLastError();
}

extern "C" cudaError_t rt_k_from_bf16(const uint16_t *a, float *y, const rt_k_map *m, cudaStream_t s)
{
    if (m->n == 0) return cudaSuccess;
    uint32_t *to = reinterpret_cast<uint32_t *>(y);
    const unsigned grid = rt_k_blocks(m->n, RT_K_BLOCK);
    if (flat(m, a, y))
        RT_LAUNCH(k_from_bf16_flat, rt_k_blocks(m->n / 4, RT_K_BLOCK), RT_K_BLOCK, s, reinterpret_cast<const uint2 *>(a),
                  reinterpret_cast<uint4 *>(y), m->n / 4);
    else if (m->n <= UINT32_MAX) RT_LAUNCH(k_from_bf16<uint32_t>, grid, RT_K_BLOCK, s, a, to, *m);
    else RT_LAUNCH(k_from_bf16<uint64_t>, grid, RT_K_BLOCK, s, a, to, *m);
    return cudaGetLastError();
}
