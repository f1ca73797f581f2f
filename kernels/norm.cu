/* Group, instance, layer and batch normalisation with the ReLU and 2x2 average pool behind them.
 *
 * Every kind is one problem: x is `segments` pieces of `rows` pixels by c channels, and a statistic belongs to one segment and a
 * run of d = c / groups channels. A segment is an image (group kinds) or all images of a network (batch).
 *
 * fused   one block per segment and slab of channels reads x, takes the moments, reads it again from the cache and writes y;
 *         backward likewise. For segments of a few thousand pixels whose statistics lie inside a slab (instance norm).
 * split   chunks of rows give partial results, a second kernel joins them, a third applies: batch norm, layer norm.
 *
 * A block is lanes of channels (x) by lanes of pixels (y); a thread keeps V neighbouring channels, 16 bytes. Moments of eight
 * pixels are taken in registers by two passes and merged (math/norm.inc); lanes and chunks merge in fixed trees. Backward needs
 * sum g and sum g xhat per channel: sums of eight, then of the lane, then of the tree.
 *
 * With the pool, a "unit" is the 2x2 square behind one pixel of y, else one pixel. */
#include "launch.cuh"

#include <math.h>

#include "math/hd.h"

#include "math/real_f32.h"
#include "math/norm.inc"

enum { DEPTH = 8, SLAB = RT_K_NORM_SLAB };

/* --- places ------------------------------------------------------------------------------------------------------------- */

/* Piece of work of a block: rows or units [first, end) of a segment, and the first channel of this thread. */
struct job {
    int64_t segment, chunk;
    int32_t channel; /* of this thread; >= c: it only runs along */
};

template <int V> __device__ static inline job job_of(const rt_k_norm &a, int64_t id, int64_t n_chunks)
{
    const int64_t wide = (int64_t)blockDim.x * V, slabs = (a.c + wide - 1) / wide, part = id / slabs;
    job j;
    j.channel = (int32_t)((id - part * slabs) * wide + (int64_t)threadIdx.x * V);
    j.segment = part / n_chunks;
    j.chunk = part - j.segment * n_chunks;
    return j;
}

/* Offset in x of unit u's first pixel. Unpooled: pixel u of the segment. */
template <bool POOL> __device__ static inline int64_t unit_at(const rt_k_norm &a, int64_t segment, uint32_t u)
{
    const int64_t base = segment * a.rows;
    if (!POOL) return (base + u) * a.c;
    const uint32_t w = (uint32_t)a.w / 2, per_image = (uint32_t)a.h / 2 * w, image = u / per_image, at = u - image * per_image, i = at / w;
    return (base + ((int64_t)image * a.h + 2 * i) * a.w + 2 * (at - i * w)) * a.c;
}

/* The pixels of a unit: 1, or 4 in scan order. */
template <bool POOL> __device__ static inline int64_t pixel_step(const rt_k_norm &a, int k)
{
    return POOL ? ((k >> 1) * (int64_t)a.w + (k & 1)) * a.c : 0;
}

/* Per-channel constants of a thread. */
template <int V> struct coeffs {
    float mean[V], rstd[V], k[V], beta[V];
};

template <int V>
__device__ static inline coeffs<V> coeffs_of(const rt_k_norm &a, const float *mean, const float *rstd, int64_t segment, int32_t channel)
{
    coeffs<V> q;
    const int32_t d = a.c / a.groups;
    const int64_t net = segment / a.per_net * a.c;
    for (int v = 0; v < V; v++) {
        const int64_t s = segment * a.groups + (channel + v) / d;
        q.mean[v] = mean[s];
        q.rstd[v] = rstd[s];
        q.k[v] = a.gamma[net + channel + v] * q.rstd[v];
        q.beta[v] = a.beta[net + channel + v];
    }
    return q;
}

/* --- moments ------------------------------------------------------------------------------------------------------------ */

struct moments {
    float n, mean, m2;
};

struct join_moments {
    __device__ moments operator()(moments a, moments b) const
    {
        rt_moments_merge_f32(&a.n, &a.mean, &a.m2, b.n, b.mean, b.m2);
        return a;
    }
};

/* Joins v over the lanes of pixels: a tree over threadIdx.y. sm: one T per thread and v. The result is valid in lane 0. */
template <int V, typename T, typename Op> __device__ static inline void join_lanes(T *v, T *sm, Op op)
{
    T *mine = sm + ((int)threadIdx.y * (int)blockDim.x + (int)threadIdx.x) * V;
    for (int k = 0; k < V; k++) mine[k] = v[k];
    __syncthreads();
    for (unsigned half = blockDim.y / 2; half > 0; half /= 2) {
        if (threadIdx.y < half)
            for (int k = 0; k < V; k++) mine[k] = op(mine[k], mine[half * blockDim.x * V + k]);
        __syncthreads();
    }
    for (int k = 0; k < V; k++) v[k] = mine[k];
    __syncthreads();
}

/* Moments of this thread's pixels in rows [first, end) of the segment. */
template <int V>
__device__ static inline void lane_moments(const rt_k_norm &a, int64_t segment, int64_t first, int64_t end, int32_t channel, moments *m)
{
    const float *x = a.x + segment * a.rows * a.c + channel;
    for (int k = 0; k < V; k++) m[k].n = m[k].mean = m[k].m2 = 0.0f;
    if (channel >= a.c) return;
    for (int64_t r = first + threadIdx.y; r < end; r += (int64_t)DEPTH * blockDim.y) {
        rt_k_pack<float, V> t[DEPTH];
        int n = 0;
#pragma unroll
        for (int i = 0; i < DEPTH; i++)
            if (r + (int64_t)i * blockDim.y < end) {
                t[i] = rt_k_load<V>(x + (r + (int64_t)i * blockDim.y) * a.c);
                n++;
            } else t[i] = {};
        for (int k = 0; k < V; k++) {
            float sum = 0.0f, m2 = 0.0f;
#pragma unroll
            for (int i = 0; i < DEPTH; i++) sum += t[i].v[k];
            const float mean = sum / (float)n;
#pragma unroll
            for (int i = 0; i < DEPTH; i++) m2 += i < n ? (t[i].v[k] - mean) * (t[i].v[k] - mean) : 0.0f;
            rt_moments_merge_f32(&m[k].n, &m[k].mean, &m[k].m2, (float)n, mean, m2);
        }
    }
}

/* --- the pieces both forms share -------------------------------------------------------------------------------------------- */

template <int V, bool POOL>
__device__ static inline void apply(const rt_k_norm &a, int64_t segment, int64_t first, int64_t end, int32_t channel, const coeffs<V> &q)
{
    float *y = a.y + segment * a.units * a.c + channel;
    for (int64_t u = first + threadIdx.y; u < end; u += blockDim.y) {
        const float *x = a.x + unit_at<POOL>(a, segment, (uint32_t)u) + channel;
        rt_k_pack<float, V> out = {};
#pragma unroll
        for (int p = 0; p < (POOL ? 4 : 1); p++) {
            const rt_k_pack<float, V> t = rt_k_load<V>(x + pixel_step<POOL>(a, p));
            for (int k = 0; k < V; k++) {
                const float act = rt_norm_act_f32(rt_norm_pre_f32(t.v[k], q.mean[k], q.k[k], q.beta[k]), a.relu);
                out.v[k] = p == 0 ? act : out.v[k] + act;
            }
        }
        if (POOL)
            for (int k = 0; k < V; k++) out.v[k] *= 0.25f;
        rt_k_store<V>(y + u * a.c, out);
    }
}

struct sums {
    float g, gx; /* sum g, sum g (x - mean) */
};

struct join_sums {
    __device__ sums operator()(sums a, sums b) const
    {
        a.g += b.g;
        a.gx += b.gx;
        return a;
    }
};

template <int V, bool POOL>
__device__ static inline void lane_sums(const rt_k_norm &a, int64_t segment, int64_t first, int64_t end, int32_t channel,
                                        const coeffs<V> &q, sums *s)
{
    const float *gy = a.gy + segment * a.units * a.c + channel;
    for (int k = 0; k < V; k++) s[k].g = s[k].gx = 0.0f;
    for (int64_t u = first + threadIdx.y; u < end; u += (int64_t)DEPTH * blockDim.y) {
        sums part[V];
        for (int k = 0; k < V; k++) part[k].g = part[k].gx = 0.0f;
        for (int64_t i = u; i < u + (int64_t)DEPTH * blockDim.y && i < end; i += blockDim.y) {
            const float *x = a.x + unit_at<POOL>(a, segment, (uint32_t)i) + channel;
            const rt_k_pack<float, V> g = rt_k_load<V>(gy + i * a.c);
#pragma unroll
            for (int p = 0; p < (POOL ? 4 : 1); p++) {
                const rt_k_pack<float, V> t = rt_k_load<V>(x + pixel_step<POOL>(a, p));
                for (int k = 0; k < V; k++) {
                    const float pre = rt_norm_pre_f32(t.v[k], q.mean[k], q.k[k], q.beta[k]);
                    const float m = rt_norm_mask_f32(POOL ? 0.25f * g.v[k] : g.v[k], pre, a.relu);
                    part[k].g += m;
                    part[k].gx += m * (t.v[k] - q.mean[k]);
                }
            }
        }
        for (int k = 0; k < V; k++) {
            s[k].g += part[k].g;
            s[k].gx += part[k].gx;
        }
    }
}

template <int V, bool POOL>
__device__ static inline void gradient(const rt_k_norm &a, int64_t segment, int64_t first, int64_t end, int32_t channel,
                                       const coeffs<V> &q, const float *k0, const float *k2)
{
    const float *gy = a.gy + segment * a.units * a.c + channel;
    for (int64_t u = first + threadIdx.y; u < end; u += blockDim.y) {
        const int64_t at = unit_at<POOL>(a, segment, (uint32_t)u) + channel;
        const rt_k_pack<float, V> g = rt_k_load<V>(gy + u * a.c);
#pragma unroll
        for (int p = 0; p < (POOL ? 4 : 1); p++) {
            rt_k_pack<float, V> t = rt_k_load<V>(a.x + at + pixel_step<POOL>(a, p));
            for (int k = 0; k < V; k++) {
                const float pre = rt_norm_pre_f32(t.v[k], q.mean[k], q.k[k], q.beta[k]);
                const float m = rt_norm_mask_f32(POOL ? 0.25f * g.v[k] : g.v[k], pre, a.relu);
                t.v[k] = rt_norm_grad_f32(m, t.v[k], q.mean[k], q.k[k], k0[k], k2[k]);
            }
            rt_k_store<V>(a.gx + at + pixel_step<POOL>(a, p), t);
        }
    }
}

/* --- fused ------------------------------------------------------------------------------------------------------------------- */

/* Joins runs of d neighbouring channels of a slab, in channel order, and hands each channel the result of its run. sm: one T
 * per channel of the slab, filled by lane 0 of pixels. */
template <int V, typename T, typename Op> __device__ static inline void join_run(T *v, T *sm, int32_t d, int32_t live, Op op)
{
    const int base = (int)threadIdx.x * V;
    if (threadIdx.y == 0)
        for (int k = 0; k < V; k++) sm[base + k] = v[k];
    __syncthreads();
    if (threadIdx.y == 0 && d > 1)
        for (int k = 0; k < V; k++)
            if ((base + k) % d == 0 && base + k < live) {
                T all = sm[base + k];
                for (int32_t i = 1; i < d; i++) all = op(all, sm[base + k + i]);
                for (int32_t i = 0; i < d; i++) sm[base + k + i] = all;
            }
    __syncthreads();
    for (int k = 0; k < V; k++) v[k] = sm[base + k];
    __syncthreads();
}

template <int V, bool POOL> __global__ __launch_bounds__(RT_K_BLOCK) static void k_norm_fused(rt_k_norm a, int64_t jobs)
{
    __shared__ moments sm[RT_K_BLOCK * V];
    const int32_t d = a.c / a.groups;
    for (int64_t id = blockIdx.x; id < jobs; id += gridDim.x) {
        const job j = job_of<V>(a, id, 1);
        const int32_t live = a.c - (j.channel - (int32_t)threadIdx.x * V); /* channels from the slab's first */
        moments m[V];
        lane_moments<V>(a, j.segment, 0, a.rows, j.channel, m);
        join_lanes<V>(m, sm, join_moments());
        join_run<V>(m, sm, d, live, join_moments());
        if (j.channel >= a.c) continue; /* no barrier below */
        coeffs<V> q;
        const int64_t net = j.segment / a.per_net * a.c;
        for (int k = 0; k < V; k++) {
            const int32_t c = j.channel + k;
            q.mean[k] = m[k].mean;
            q.rstd[k] = rt_rstd_f32(m[k].m2, m[k].n, a.eps);
            q.k[k] = a.gamma[net + c] * q.rstd[k];
            q.beta[k] = a.beta[net + c];
            if (threadIdx.y == 0 && c % d == 0) {
                a.mean_out[j.segment * a.groups + c / d] = q.mean[k];
                a.rstd_out[j.segment * a.groups + c / d] = q.rstd[k];
            }
        }
        apply<V, POOL>(a, j.segment, 0, a.units, j.channel, q);
    }
}

/* Writes gx and, per segment and channel, the two sums for the parameters' gradients. */
template <int V, bool POOL> __global__ __launch_bounds__(RT_K_BLOCK) static void k_norm_dx_fused(rt_k_norm a, int64_t jobs)
{
    __shared__ sums sm[RT_K_BLOCK * V];
    const int32_t d = a.c / a.groups;
    const float m = (float)a.rows * (float)d;
    for (int64_t id = blockIdx.x; id < jobs; id += gridDim.x) {
        const job j = job_of<V>(a, id, 1);
        const int32_t live = a.c - (j.channel - (int32_t)threadIdx.x * V);
        const int64_t net = j.segment / a.per_net * a.c;
        const bool in = j.channel < a.c;
        coeffs<V> q = {};
        sums s[V] = {};
        if (in) {
            q = coeffs_of<V>(a, a.mean, a.rstd, j.segment, j.channel);
            lane_sums<V, POOL>(a, j.segment, 0, a.units, j.channel, q, s);
        }
        join_lanes<V>(s, sm, join_sums());
        for (int k = 0; k < V && in && threadIdx.y == 0; k++) {
            const int32_t c = j.channel + k;
            s[k].gx *= q.rstd[k];
            a.sum_g[j.segment * a.c + c] = s[k].g;
            a.sum_gx[j.segment * a.c + c] = s[k].gx;
            s[k].g *= a.gamma[net + c];
            s[k].gx *= a.gamma[net + c];
        }
        join_run<V>(s, sm, d, live, join_sums());
        if (!in) continue; /* no barrier below */
        float k0[V], k2[V];
        for (int k = 0; k < V; k++) {
            k0[k] = q.rstd[k] * s[k].g / m;
            k2[k] = q.rstd[k] * q.rstd[k] * s[k].gx / m;
        }
        gradient<V, POOL>(a, j.segment, 0, a.units, j.channel, q, k0, k2);
    }
}

/* --- split: partial results [segment][chunk][channel] ---------------------------------------------------------------------- */

template <int V> __global__ __launch_bounds__(RT_K_BLOCK) static void k_norm_moments(rt_k_norm a, int64_t jobs)
{
    __shared__ moments sm[RT_K_BLOCK * V];
    const int64_t rows = a.chunk * (a.pool ? 4 : 1); /* chunks count units; moments do not care which pixels are whose */
    for (int64_t id = blockIdx.x; id < jobs; id += gridDim.x) {
        const job j = job_of<V>(a, id, a.n_chunks);
        const int64_t first = j.chunk * rows, end = first + rows < a.rows ? first + rows : a.rows;
        moments m[V];
        lane_moments<V>(a, j.segment, first, end, j.channel, m);
        join_lanes<V>(m, sm, join_moments());
        if (threadIdx.y != 0 || j.channel >= a.c) continue;
        for (int k = 0; k < V; k++) {
            const int64_t at = (j.segment * a.n_chunks + j.chunk) * a.c + j.channel + k;
            a.part_a[at] = m[k].mean;
            a.part_b[at] = m[k].m2;
        }
    }
}

/* One row of threads per statistic. */
__global__ static void k_norm_join_moments(rt_k_norm a)
{
    __shared__ moments sm[RT_K_BLOCK];
    const int32_t d = a.c / a.groups;
    const int64_t n_stat = a.segments * a.groups, items = a.n_chunks * d, rows = a.chunk * (a.pool ? 4 : 1);
    for (int64_t base = (int64_t)blockIdx.x * blockDim.y; base < n_stat; base += (int64_t)gridDim.x * blockDim.y) {
        const int64_t s = base + threadIdx.y, segment = s / a.groups;
        moments m = {0.0f, 0.0f, 0.0f};
        if (s < n_stat)
            for (int64_t i = threadIdx.x; i < items; i += blockDim.x) {
                const int64_t chunk = i / d, at = (segment * a.n_chunks + chunk) * a.c + (s - segment * a.groups) * d + (i - chunk * d);
                const int64_t n = a.rows - chunk * rows < rows ? a.rows - chunk * rows : rows;
                rt_moments_merge_f32(&m.n, &m.mean, &m.m2, (float)n, a.part_a[at], a.part_b[at]);
            }
        m = rt_k_block_reduce(m, sm, join_moments());
        if (threadIdx.x != 0 || s >= n_stat) continue;
        a.mean_out[s] = m.mean;
        a.rstd_out[s] = rt_rstd_f32(m.m2, m.n, a.eps);
    }
}

template <int V, bool POOL> __global__ __launch_bounds__(RT_K_BLOCK) static void k_norm_apply(rt_k_norm a, int64_t jobs)
{
    for (int64_t id = blockIdx.x; id < jobs; id += gridDim.x) {
        const job j = job_of<V>(a, id, a.n_chunks);
        const int64_t first = j.chunk * a.chunk, end = first + a.chunk < a.units ? first + a.chunk : a.units;
        if (j.channel < a.c)
            apply<V, POOL>(a, j.segment, first, end, j.channel, coeffs_of<V>(a, a.mean_out, a.rstd_out, j.segment, j.channel));
    }
}

template <int V, bool POOL> __global__ __launch_bounds__(RT_K_BLOCK) static void k_norm_sums(rt_k_norm a, int64_t jobs)
{
    __shared__ sums sm[RT_K_BLOCK * V];
    for (int64_t id = blockIdx.x; id < jobs; id += gridDim.x) {
        const job j = job_of<V>(a, id, a.n_chunks);
        const int64_t first = j.chunk * a.chunk, end = first + a.chunk < a.units ? first + a.chunk : a.units;
        coeffs<V> q = {};
        sums s[V] = {};
        if (j.channel < a.c) {
            q = coeffs_of<V>(a, a.mean, a.rstd, j.segment, j.channel);
            lane_sums<V, POOL>(a, j.segment, first, end, j.channel, q, s);
        }
        join_lanes<V>(s, sm, join_sums());
        if (threadIdx.y != 0 || j.channel >= a.c) continue;
        for (int k = 0; k < V; k++) {
            const int64_t at = (j.segment * a.n_chunks + j.chunk) * a.c + j.channel + k;
            a.part_a[at] = s[k].g;
            a.part_b[at] = s[k].gx * q.rstd[k];
        }
    }
}

/* g[o, c] = sum of part_a over n consecutive rows, gx likewise: chunks into segments, segments into networks. Neighbouring
 * threads hold neighbouring channels; blockDim.y lanes share the rows. */
__global__ static void k_norm_columns(const float *part_a, const float *part_b, float *g, float *gx, int64_t outer, int64_t n, int32_t c)
{
    __shared__ sums sm[RT_K_BLOCK];
    const int64_t slabs = (c + (int64_t)blockDim.x - 1) / blockDim.x;
    for (int64_t id = blockIdx.x; id < outer * slabs; id += gridDim.x) {
        const int64_t o = id / slabs, channel = (id - o * slabs) * blockDim.x + threadIdx.x;
        sums s[1] = {};
        if (channel < c)
            for (int64_t i = threadIdx.y; i < n; i += blockDim.y) {
                s[0].g += part_a[(o * n + i) * c + channel];
                s[0].gx += part_b[(o * n + i) * c + channel];
            }
        join_lanes<1>(s, sm, join_sums());
        if (threadIdx.y != 0 || channel >= c) continue;
        g[o * c + channel] = s[0].g;
        gx[o * c + channel] = s[0].gx;
    }
}

/* Sums of a statistic from those of its channels, times gamma: e and ex [segments, groups]. One row of threads each. */
__global__ static void k_norm_join_sums(rt_k_norm a, const float *g, const float *gx)
{
    __shared__ sums sm[RT_K_BLOCK];
    const int32_t d = a.c / a.groups;
    const int64_t n_stat = a.segments * a.groups;
    for (int64_t base = (int64_t)blockIdx.x * blockDim.y; base < n_stat; base += (int64_t)gridDim.x * blockDim.y) {
        const int64_t s = base + threadIdx.y, segment = s / a.groups, net = segment / a.per_net * a.c;
        sums all = {0.0f, 0.0f};
        if (s < n_stat)
            for (int32_t i = (int32_t)threadIdx.x; i < d; i += (int32_t)blockDim.x) {
                const int64_t c = (s - segment * a.groups) * d + i;
                all.g += a.gamma[net + c] * g[segment * a.c + c];
                all.gx += a.gamma[net + c] * gx[segment * a.c + c];
            }
        all = rt_k_block_reduce(all, sm, join_sums());
        if (threadIdx.x != 0 || s >= n_stat) continue;
        a.stat_e[s] = all.g;
        a.stat_ex[s] = all.gx;
    }
}

template <int V, bool POOL> __global__ __launch_bounds__(RT_K_BLOCK) static void k_norm_gradient(rt_k_norm a, int64_t jobs)
{
    const int32_t d = a.c / a.groups;
    const float m = (float)a.rows * (float)d;
    for (int64_t id = blockIdx.x; id < jobs; id += gridDim.x) {
        const job j = job_of<V>(a, id, a.n_chunks);
        const int64_t first = j.chunk * a.chunk, end = first + a.chunk < a.units ? first + a.chunk : a.units;
        if (j.channel >= a.c) continue;
        const coeffs<V> q = coeffs_of<V>(a, a.mean, a.rstd, j.segment, j.channel);
        float k0[V], k2[V];
        for (int k = 0; k < V; k++) {
            const int64_t s = j.segment * a.groups + (j.channel + k) / d;
            k0[k] = q.rstd[k] * a.stat_e[s] / m;
            k2[k] = q.rstd[k] * q.rstd[k] * a.stat_ex[s] / m;
        }
        gradient<V, POOL>(a, j.segment, first, end, j.channel, q, k0, k2);
    }
}

/* --- launchers ------------------------------------------------------------------------------------------------------------------ */

/* Lanes of channels: a power of two, no more than the slab or the channels need; the rest of the block are lanes of pixels. */
static dim3 block_of(const rt_k_norm *a, int v)
{
    unsigned lanes = 1;
    while ((int)lanes * v < SLAB && (int)lanes * v < a->c) lanes *= 2;
    return dim3(lanes, RT_K_BLOCK / lanes);
}

static int64_t jobs_of(const rt_k_norm *a, dim3 block, int v, int64_t n_chunks)
{
    const int64_t wide = (int64_t)block.x * v;
    return a->segments * n_chunks * ((a->c + wide - 1) / wide);
}

static dim3 rows_for(int64_t items)
{
    unsigned group = 1;
    while (group < RT_K_BLOCK && (int64_t)group < items) group *= 2;
    return dim3(group, RT_K_BLOCK / group);
}

extern "C" cudaError_t rt_k_norm_forward(const rt_k_norm *a, cudaStream_t s)
{
    if (a->segments == 0 || a->rows == 0 || a->c == 0) return cudaSuccess;
    const bool packs = rt_k_vector(a->c, a->x, a->y);
    const int v = packs ? 4 : 1;
    const dim3 block = block_of(a, v);
    if (a->fused) {
        const int64_t jobs = jobs_of(a, block, v, 1);
        const auto k = packs ? (a->pool ? k_norm_fused<4, true> : k_norm_fused<4, false>) : (a->pool ? k_norm_fused<1, true> : k_norm_fused<1, false>);
        RT_LAUNCH(k, rt_k_blocks(jobs, 1), block, s, *a, jobs);
        return cudaGetLastError();
    }
    const int64_t jobs = jobs_of(a, block, v, a->n_chunks);
    const auto moments_k = packs ? k_norm_moments<4> : k_norm_moments<1>;
    const auto apply_k = packs ? (a->pool ? k_norm_apply<4, true> : k_norm_apply<4, false>) : (a->pool ? k_norm_apply<1, true> : k_norm_apply<1, false>);
    const dim3 join = rows_for(a->n_chunks * (a->c / a->groups));
    RT_LAUNCH(moments_k, rt_k_blocks(jobs, 1), block, s, *a, jobs);
    RT_LAUNCH(k_norm_join_moments, rt_k_blocks(a->segments * a->groups, join.y), join, s, *a);
    RT_LAUNCH(apply_k, rt_k_blocks(jobs, 1), block, s, *a, jobs);
    return cudaGetLastError();
}

static void columns(const float *part_a, const float *part_b, float *g, float *gx, int64_t outer, int64_t n, int32_t c, cudaStream_t s)
{
    const dim3 block(32, RT_K_BLOCK / 32);
    RT_LAUNCH(k_norm_columns, rt_k_blocks(outer * ((c + 31) / 32), 1), block, s, part_a, part_b, g, gx, outer, n, c);
}

extern "C" cudaError_t rt_k_norm_backward(const rt_k_norm *a, cudaStream_t s)
{
    if (a->segments == 0 || a->rows == 0 || a->c == 0) return cudaSuccess; /* the op refuses empty axes */
    const int64_t nets = a->nets;
    const bool packs = rt_k_vector(a->c, a->x, a->gy, a->gx);
    const int v = packs ? 4 : 1;
    const dim3 block = block_of(a, v);
    if (a->fused) {
        const int64_t jobs = jobs_of(a, block, v, 1);
        const auto k = packs ? (a->pool ? k_norm_dx_fused<4, true> : k_norm_dx_fused<4, false>) : (a->pool ? k_norm_dx_fused<1, true> : k_norm_dx_fused<1, false>);
        RT_LAUNCH(k, rt_k_blocks(jobs, 1), block, s, *a, jobs);
        columns(a->sum_g, a->sum_gx, a->gbeta, a->ggamma, nets, a->per_net, a->c, s);
        return cudaGetLastError();
    }
    const int64_t jobs = jobs_of(a, block, v, a->n_chunks);
    const auto sums_k = packs ? (a->pool ? k_norm_sums<4, true> : k_norm_sums<4, false>) : (a->pool ? k_norm_sums<1, true> : k_norm_sums<1, false>);
    const auto gradient_k = packs ? (a->pool ? k_norm_gradient<4, true> : k_norm_gradient<4, false>) : (a->pool ? k_norm_gradient<1, true> : k_norm_gradient<1, false>);
    const dim3 join = rows_for(a->c / a->groups);
    RT_LAUNCH(sums_k, rt_k_blocks(jobs, 1), block, s, *a, jobs);
    columns(a->part_a, a->part_b, a->sum_g, a->sum_gx, a->segments, a->n_chunks, a->c, s);
    columns(a->sum_g, a->sum_gx, a->gbeta, a->ggamma, nets, a->per_net, a->c, s);
    const float *g = a->sum_g, *gx = a->sum_gx;
    RT_LAUNCH(k_norm_join_sums, rt_k_blocks(a->segments * a->groups, join.y), join, s, *a, g, gx);
    RT_LAUNCH(gradient_k, rt_k_blocks(jobs, 1), block, s, *a, jobs);
    return cudaGetLastError();
}
