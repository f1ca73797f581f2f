/* Pooling and its adjoints in NHWC. A thread makes one output element (V channels of it), so there is nothing to add
 * atomically: the adjoints ask which windows cover a pixel, and visit them in scan order, as the reference adds. */
#include "launch.cuh"

#include <math.h>

struct window {
    int32_t h0, h1, w0, w1; /* the part inside the image */
};

__device__ static inline window window_of(const rt_k_pool &a, int32_t p, int32_t q)
{
    const int32_t h = p * a.stride[0] - a.pad[0], w = q * a.stride[1] - a.pad[1];
    window v;
    v.h0 = h > 0 ? h : 0;
    v.w0 = w > 0 ? w : 0;
    v.h1 = h + a.size[0] < a.h ? h + a.size[0] : a.h;
    v.w1 = w + a.size[1] < a.w ? w + a.size[1] : a.w;
    return v;
}

/* Windows [p0, p1) x [q0, q1) that contain pixel (i, j). */
struct cover {
    int32_t p0, p1, q0, q1;
};

__device__ static inline int32_t first_window(int32_t at, int32_t size, int32_t stride)
{
    return at < size ? 0 : (at - size) / stride + 1;
}

__device__ static inline cover cover_of(const rt_k_pool &a, int32_t i, int32_t j)
{
    const int32_t h = i + a.pad[0], w = j + a.pad[1];
    cover v;
    v.p0 = first_window(h, a.size[0], a.stride[0]);
    v.q0 = first_window(w, a.size[1], a.stride[1]);
    v.p1 = h / a.stride[0] + 1 < a.p ? h / a.stride[0] + 1 : a.p;
    v.q1 = w / a.stride[1] + 1 < a.q ? w / a.stride[1] + 1 : a.q;
    return v;
}

/* Element e of [n, rows, cols, c] (c in packs). */
struct place {
    int64_t n;
    int32_t i, j, c;
};

__device__ static inline place place_of(int64_t e, int32_t rows, int32_t cols, int32_t c)
{
    place at;
    const int64_t pixel = e / c, line = pixel / cols;
    at.c = (int32_t)(e - pixel * c);
    at.j = (int32_t)(pixel - line * cols);
    at.n = line / rows;
    at.i = (int32_t)(line - at.n * rows);
    return at;
}

/* Offset, in packs, of pixel (i, j) of the large and of (p, q) of the small image. */
__device__ static inline int64_t large(const rt_k_pool &a, const place &at, int32_t c, int32_t i, int32_t j)
{
    return ((at.n * a.h + i) * a.w + j) * c + at.c;
}
__device__ static inline int64_t small(const rt_k_pool &a, const place &at, int32_t c, int32_t p, int32_t q)
{
    return ((at.n * a.p + p) * a.q + q) * c + at.c;
}

template <int V> __global__ static void k_avg_pool(const float *x, float *y, rt_k_pool a)
{
    const int32_t c = a.c / V;
    const float share = 1.0f / (float)(a.size[0] * a.size[1]);
    RT_K_FOR(e, a.n * a.p * a.q * c)
    {
        const place at = place_of(e, a.p, a.q, c);
        const window v = window_of(a, at.i, at.j);
        rt_k_pack<float, V> sum = {};
        for (int32_t i = v.h0; i < v.h1; i++)
            for (int32_t j = v.w0; j < v.w1; j++) {
                const rt_k_pack<float, V> t = rt_k_load<V>(x + large(a, at, c, i, j) * V);
                for (int k = 0; k < V; k++) sum.v[k] += t.v[k];
            }
        for (int k = 0; k < V; k++) sum.v[k] *= share;
        rt_k_store<V>(y + e * V, sum);
    }
}

template <int V> __global__ static void k_avg_pool_dx(const float *gy, float *gx, rt_k_pool a)
{
    const int32_t c = a.c / V;
    const float share = 1.0f / (float)(a.size[0] * a.size[1]);
    RT_K_FOR(e, a.n * a.h * a.w * c)
    {
        const place at = place_of(e, a.h, a.w, c);
        const cover v = cover_of(a, at.i, at.j);
        rt_k_pack<float, V> sum = {};
        for (int32_t p = v.p0; p < v.p1; p++)
            for (int32_t q = v.q0; q < v.q1; q++) {
                const rt_k_pack<float, V> t = rt_k_load<V>(gy + small(a, at, c, p, q) * V);
                for (int k = 0; k < V; k++) sum.v[k] += t.v[k] * share;
            }
        rt_k_store<V>(gx + e * V, sum);
    }
}

/* Among equals the first in scan order wins; a NaN wins over numbers and is not replaced. */
template <int V> __global__ static void k_max_pool(const float *x, float *y, int32_t *index, rt_k_pool a)
{
    const int32_t c = a.c / V;
    RT_K_FOR(e, a.n * a.p * a.q * c)
    {
        const place at = place_of(e, a.p, a.q, c);
        const window v = window_of(a, at.i, at.j);
        rt_k_pack<float, V> best = rt_k_load<V>(x + large(a, at, c, v.h0, v.w0) * V);
        rt_k_pack<int32_t, V> where;
        for (int k = 0; k < V; k++) where.v[k] = v.h0 * a.w + v.w0;
        for (int32_t i = v.h0; i < v.h1; i++)
            for (int32_t j = v.w0; j < v.w1; j++) {
                const rt_k_pack<float, V> t = rt_k_load<V>(x + large(a, at, c, i, j) * V);
                for (int k = 0; k < V; k++)
                    if (t.v[k] > best.v[k] || (t.v[k] != t.v[k] && best.v[k] == best.v[k])) {
                        best.v[k] = t.v[k];
                        where.v[k] = i * a.w + j;
                    }
            }
        rt_k_store<V>(y + e * V, best);
        rt_k_store<V>(index + e * V, where);
    }
}

/* gx[winner] += gy. A window's index must lie inside it; the thread of the window's first pixel reports one that does not. */
template <int V> __global__ static void k_max_pool_dx(const float *gy, const int32_t *index, float *gx, rt_k_pool a, rt_k_fault f)
{
    const int32_t c = a.c / V;
    RT_K_FOR(e, a.n * a.h * a.w * c)
    {
        const place at = place_of(e, a.h, a.w, c);
        const cover v = cover_of(a, at.i, at.j);
        const int32_t me = at.i * a.w + at.j;
        rt_k_pack<float, V> sum = {};
        for (int32_t p = v.p0; p < v.p1; p++)
            for (int32_t q = v.q0; q < v.q1; q++) {
                const int64_t from = small(a, at, c, p, q) * V;
                const rt_k_pack<int32_t, V> w = rt_k_load<V>(index + from);
                const rt_k_pack<float, V> t = rt_k_load<V>(gy + from);
                for (int k = 0; k < V; k++) sum.v[k] += w.v[k] == me ? t.v[k] : 0.0f;
                const window in = window_of(a, p, q);
                if (in.h0 != at.i || in.w0 != at.j) continue;
                for (int k = 0; k < V; k++) {
                    const int32_t i = w.v[k] / a.w, j = w.v[k] - i * a.w;
                    if (w.v[k] < 0 || i < in.h0 || i >= in.h1 || j < in.w0 || j >= in.w1) rt_k_report(w.v[k], from + k, f);
                }
            }
        rt_k_store<V>(gx + e * V, sum);
    }
}

__global__ static void k_pool_gather(const float *gx, const int32_t *index, float *gy, rt_k_pool a, rt_k_fault f)
{
    const int64_t image = (int64_t)a.p * a.q * a.c, pixels = (int64_t)a.h * a.w;
    RT_K_FOR(e, a.n * image)
    {
        const int32_t at = index[e];
        gy[e] = rt_k_index_ok(at, pixels, e, f) ? gx[(e / image * pixels + at) * a.c + e % a.c] : 0.0f;
    }
}

extern "C" cudaError_t rt_k_avg_pool(const float *x, float *y, const rt_k_pool *a, cudaStream_t s)
{
    const int64_t n = a->n * a->p * a->q * a->c;
    if (n == 0) return cudaSuccess;
    if (rt_k_vector(a->c, x, y)) RT_LAUNCH(k_avg_pool<4>, rt_k_blocks(n / 4, RT_K_BLOCK), RT_K_BLOCK, s, x, y, *a);
    else RT_LAUNCH(k_avg_pool<1>, rt_k_blocks(n, RT_K_BLOCK), RT_K_BLOCK, s, x, y, *a);
    return cudaGetLastError();
}

extern "C" cudaError_t rt_k_avg_pool_dx(const float *gy, float *gx, const rt_k_pool *a, cudaStream_t s)
{
    const int64_t n = a->n * a->h * a->w * a->c;
    if (n == 0) return cudaSuccess;
    if (rt_k_vector(a->c, gy, gx)) RT_LAUNCH(k_avg_pool_dx<4>, rt_k_blocks(n / 4, RT_K_BLOCK), RT_K_BLOCK, s, gy, gx, *a);
    else RT_LAUNCH(k_avg_pool_dx<1>, rt_k_blocks(n, RT_K_BLOCK), RT_K_BLOCK, s, gy, gx, *a);
    return cudaGetLastError();
}

extern "C" cudaError_t rt_k_max_pool(const float *x, float *y, int32_t *index, const rt_k_pool *a, cudaStream_t s)
{
    const int64_t n = a->n * a->p * a->q * a->c;
    if (n == 0) return cudaSuccess;
    if (rt_k_vector(a->c, x, y, index)) RT_LAUNCH(k_max_pool<4>, rt_k_blocks(n / 4, RT_K_BLOCK), RT_K_BLOCK, s, x, y, index, *a);
    else RT_LAUNCH(k_max_pool<1>, rt_k_blocks(n, RT_K_BLOCK), RT_K_BLOCK, s, x, y, index, *a);
    return cudaGetLastError();
}

extern "C" cudaError_t rt_k_max_pool_dx(const float *gy, const int32_t *index, float *gx, const rt_k_pool *a, rt_k_fault f,
                                        cudaStream_t s)
{
    const int64_t n = a->n * a->h * a->w * a->c;
    if (n == 0) return cudaSuccess;
    if (rt_k_vector(a->c, gy, index, gx))
        RT_LAUNCH(k_max_pool_dx<4>, rt_k_blocks(n / 4, RT_K_BLOCK), RT_K_BLOCK, s, gy, index, gx, *a, f);
    else RT_LAUNCH(k_max_pool_dx<1>, rt_k_blocks(n, RT_K_BLOCK), RT_K_BLOCK, s, gy, index, gx, *a, f);
    return cudaGetLastError();
}

extern "C" cudaError_t rt_k_pool_gather(const float *gx, const int32_t *index, float *gy, const rt_k_pool *a, rt_k_fault f,
                                        cudaStream_t s)
{
    const int64_t n = a->n * a->p * a->q * a->c;
    if (n == 0) return cudaSuccess;
    RT_LAUNCH(k_pool_gather, rt_k_blocks(n, RT_K_BLOCK), RT_K_BLOCK, s, gx, index, gy, *a, f);
    return cudaGetLastError();
}
