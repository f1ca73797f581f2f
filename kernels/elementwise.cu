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
    template <int V> __global__ static void k_##name(const float *x, float *y, int64_t n)                              \
    {                                                                                                                  \
        RT_K_FOR(i, n)                                                                                                 \
        {                                                                                                              \
            rt_k_pack<float, V> v = rt_k_load<V>(x + i * V);                                                           \
            for (int k = 0; k < V; k++) v.v[k] = rt_##name##_f32(v.v[k]);                                              \
            rt_k_store<V>(y + i * V, v);                                                                               \
        }                                                                                                              \
    }                                                                                                                  \
    extern "C" cudaError_t rt_k_##name(const float *x, float *y, int64_t n, cudaStream_t s)                            \
    {                                                                                                                  \
        if (n == 0) return cudaSuccess;                                                                                \
        if (rt_k_vector(n, x, y)) RT_LAUNCH(k_##name<4>, rt_k_blocks(n / 4, RT_K_BLOCK), RT_K_BLOCK, s, x, y, n / 4);  \
        else RT_LAUNCH(k_##name<1>, rt_k_blocks(n, RT_K_BLOCK), RT_K_BLOCK, s, x, y, n);                               \
        return cudaGetLastError();                                                                                     \
    }

/* V elements of an operand whose stride is 0 (broadcast: one element) or 1. */
template <int V> __device__ inline rt_k_pack<float, V> operand(const float *a, int64_t i, int64_t stride)
{
    if (stride != 0) return rt_k_load<V>(a + i * V);
    rt_k_pack<float, V> v;
    for (int k = 0; k < V; k++) v.v[k] = a[0];
    return v;
}

static bool flat_in_packs(const rt_k_map *m, const float *a, const float *b, const float *y)
{
    return rt_k_vector(m->n, m->sa[0] ? a : nullptr, m->sb[0] ? b : nullptr, y);
}

/* Rank 1 covers equal shapes and scalars: the strides are 0 or 1 and no division is needed. */
#define RT_BINARY(ENUM, name)                                                                                          \
    template <int V> __global__ static void k_##name##_flat(const float *a, const float *b, float *y, int64_t n,       \
                                                            int64_t sa, int64_t sb)                                    \
    {                                                                                                                  \
        RT_K_FOR(i, n)                                                                                                 \
        {                                                                                                              \
            rt_k_pack<float, V> u = operand<V>(a, i, sa);                                                              \
            const rt_k_pack<float, V> w = operand<V>(b, i, sb);                                                        \
            for (int k = 0; k < V; k++) u.v[k] = rt_##name##_f32(u.v[k], w.v[k]);                                      \
            rt_k_store<V>(y + i * V, u);                                                                               \
        }                                                                                                              \
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
        if (m->rank <= 1 && flat_in_packs(m, a, b, y))                                                                 \
            RT_LAUNCH(k_##name##_flat<4>, rt_k_blocks(m->n / 4, RT_K_BLOCK), RT_K_BLOCK, s, a, b, y, m->n / 4, m->sa[0], m->sb[0]); \
        else if (m->rank <= 1) RT_LAUNCH(k_##name##_flat<1>, grid, RT_K_BLOCK, s, a, b, y, m->n, m->sa[0], m->sb[0]);  \
        else if (m->n <= UINT32_MAX) RT_LAUNCH(k_##name##_map<uint32_t>, grid, RT_K_BLOCK, s, a, b, y, *m);            \
        else RT_LAUNCH(k_##name##_map<uint64_t>, grid, RT_K_BLOCK, s, a, b, y, *m);                                    \
        return cudaGetLastError();                                                                                     \
    }
#include "math/elementwise.def"
#undef RT_UNARY
#undef RT_BINARY

template <int V> __global__ static void k_fill(float *y, float value, int64_t n)
{
    rt_k_pack<float, V> v;
    for (int k = 0; k < V; k++) v.v[k] = value;
    RT_K_FOR(i, n) rt_k_store<V>(y + i * V, v);
}

extern "C" cudaError_t rt_k_fill(float *y, float value, int64_t n, cudaStream_t s)
{
    if (n == 0) return cudaSuccess;
    if (rt_k_vector(n, y)) RT_LAUNCH(k_fill<4>, rt_k_blocks(n / 4, RT_K_BLOCK), RT_K_BLOCK, s, y, value, n / 4);
    else RT_LAUNCH(k_fill<1>, rt_k_blocks(n, RT_K_BLOCK), RT_K_BLOCK, s, y, value, n);
    return cudaGetLastError();
}

/* Strides count packs of V elements. */
template <typename I, int V> __global__ static void k_copy(const uint32_t *a, uint32_t *y, rt_k_map m)
{
    RT_K_FOR(i, m.n)
        rt_k_store<V>(y + offset_of((I)i, m.rank, m.d, m.sb) * V, rt_k_load<V>(a + offset_of((I)i, m.rank, m.d, m.sa) * V));
}

/* The map in packs of 4 along the last axis, if rows are contiguous on both sides and everything starts on 16 bytes. */
static bool in_packs(rt_k_map *m, const void *a, const void *y)
{
    const int32_t last = m->rank - 1;
    if (m->sa[last] != 1 || m->sb[last] != 1 || !rt_k_vector(m->d[last], a, y)) return false;
    for (int32_t i = 0; i < last; i++)
        if (m->sa[i] % 4 != 0 || m->sb[i] % 4 != 0) return false;
    for (int32_t i = 0; i < last; i++) {
        m->sa[i] /= 4;
        m->sb[i] /= 4;
    }
    m->d[last] /= 4;
    m->n /= 4;
    return true;
}

extern "C" cudaError_t rt_k_copy(const void *a, void *y, const rt_k_map *map, cudaStream_t s)
{
    if (map->n == 0) return cudaSuccess;
    const uint32_t *from = static_cast<const uint32_t *>(a);
    uint32_t *to = static_cast<uint32_t *>(y);
    rt_k_map m = *map;
    const bool packs = in_packs(&m, a, y), narrow = m.n <= UINT32_MAX;
    const auto k = packs ? (narrow ? k_copy<uint32_t, 4> : k_copy<uint64_t, 4>) : (narrow ? k_copy<uint32_t, 1> : k_copy<uint64_t, 1>);
    RT_LAUNCH(k, rt_k_blocks(m.n, RT_K_BLOCK), RT_K_BLOCK, s, from, to, m);
    return cudaGetLastError();
}
