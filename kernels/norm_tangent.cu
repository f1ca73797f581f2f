/* Tangents of normalisation and of its gradient: norm_tangent and norm_dx_tangent (src/ops/norm_tangent.c has the formulas).
 *
 * With xhat = (x - mean) rstd, g and tg the gradients at the ReLU's input that belong to gy and tgy, four steps:
 *
 *   sums     per segment, chunk of rows and channel: tx, tx xhat, g, g xhat, g tx, tg, tg xhat
 *   join     the chunks, in order
 *   stats    per statistic, over its channels: m1, m2, mean e, mean e xhat, mean te, mean (te xhat + e txhat),
 *            where e = gamma g, te = tgamma g + gamma tg, and mean e txhat = rstd (mean e tx - m1 mean e - m2 mean e xhat)
 *   apply    the output, element by element; and, for the gradient's tangent, the sums over segments for gamma and beta
 *
 * A block is 32 channels (x, 128 bytes of a row) by 8 rows (y); sums of a thread, then a tree over y. The order depends on the
 * shape alone. What a segment, unit and network is: kernels/norm.cu. */
#include "launch.cuh"

#include "math/hd.h"

enum { LANES = 32, ROWS = RT_K_BLOCK / LANES, SUMS = 7, STATS = 6 };
enum { S_T, S_TX, S_G, S_GX, S_GT, S_TG, S_TGX };
enum { MEAN_1, MEAN_2, MEAN_E, MEAN_EX, MEAN_TE, MEAN_TEX };

struct place {
    int64_t segment, chunk, stat, affine;
    int32_t channel;
    float mean, rstd, gamma, beta;
};

/* Job id of a block: the fastest is the slab of channels, then the chunk. Threads past the last channel only run along. */
__device__ static inline place place_of(const rt_k_norm_tangent &a, int64_t id)
{
    const int64_t slabs = (a.c + LANES - 1) / LANES, part = id / slabs;
    place p;
    p.channel = (int32_t)(id - part * slabs) * LANES + (int32_t)threadIdx.x;
    p.segment = part / a.n_chunks;
    p.chunk = part - p.segment * a.n_chunks;
    p.stat = p.affine = 0;
    p.mean = p.rstd = p.gamma = p.beta = 0.0f;
    if (p.channel < a.c) {
        p.stat = p.segment * a.groups + p.channel / (a.c / a.groups);
        p.affine = p.segment / a.per_net * a.c + p.channel;
        p.mean = a.mean[p.stat];
        p.rstd = a.rstd[p.stat];
        p.gamma = a.gamma[p.affine];
        p.beta = a.beta[p.affine];
    }
    return p;
}

/* Element of y behind row r of a segment, for channel 0. */
__device__ static inline int64_t y_at(const rt_k_norm_tangent &a, int64_t segment, uint32_t r)
{
    if (!a.pool) return (segment * a.rows + r) * a.c;
    const uint32_t w = (uint32_t)a.w, per = (uint32_t)a.h * w, image = r / per, at = r - image * per, i = at / w, j = at - i * w;
    return (segment * a.units + (int64_t)image * (per / 4) + (int64_t)(i / 2) * (w / 2) + j / 2) * a.c;
}

/* First row of unit u of a segment, and the distance of the other rows of its square. */
__device__ static inline uint32_t row_of(const rt_k_norm_tangent &a, uint32_t u)
{
    if (!a.pool) return u;
    const uint32_t w = (uint32_t)a.w / 2, per = (uint32_t)a.h / 2 * w, image = u / per, at = u - image * per, i = at / w;
    return (image * (uint32_t)a.h + 2 * i) * (uint32_t)a.w + 2 * (at - i * w);
}

struct gradients {
    float g, tg;
};

__device__ static inline gradients at_pre(const rt_k_norm_tangent &a, const place &p, uint32_t r, float xhat)
{
    gradients v = {0.0f, 0.0f};
    if (a.relu && !(p.gamma * xhat + p.beta > 0.0f)) return v;
    const int64_t at = y_at(a, p.segment, r) + p.channel;
    const float part = a.pool ? 0.25f : 1.0f;
    v.g = part * a.gy[at];
    if (a.tgy) v.tg = part * a.tgy[at];
    return v;
}

template <bool DX> __global__ static void k_tangent_sums(rt_k_norm_tangent a)
{
    constexpr int N = DX ? (int)SUMS : 2;
    __shared__ float sm[SUMS * RT_K_BLOCK];
    const int64_t jobs = a.segments * a.n_chunks * ((a.c + LANES - 1) / LANES);
    const int t = (int)threadIdx.y * LANES + (int)threadIdx.x;
    for (int64_t id = blockIdx.x; id < jobs; id += gridDim.x) {
        const place p = place_of(a, id);
        const int64_t first = p.chunk * a.chunk, end = first + a.chunk < a.rows ? first + a.chunk : a.rows;
        float s[SUMS] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
        if (p.channel < a.c)
            for (int64_t r = first + threadIdx.y; r < end; r += ROWS) {
                const int64_t i = (p.segment * a.rows + r) * a.c + p.channel;
                const float xhat = (a.x[i] - p.mean) * p.rstd, tx = a.tx[i];
                s[S_T] += tx;
                s[S_TX] += tx * xhat;
                if (!DX) continue;
                const gradients v = at_pre(a, p, (uint32_t)r, xhat);
                s[S_G] += v.g;
                s[S_GX] += v.g * xhat;
                s[S_GT] += v.g * tx;
                s[S_TG] += v.tg;
                s[S_TGX] += v.tg * xhat;
            }
        for (int m = 0; m < N; m++) sm[m * RT_K_BLOCK + t] = s[m];
        __syncthreads();
        for (int half = ROWS / 2; half > 0; half /= 2) {
            if ((int)threadIdx.y < half)
                for (int m = 0; m < N; m++) sm[m * RT_K_BLOCK + t] += sm[m * RT_K_BLOCK + t + half * LANES];
            __syncthreads();
        }
        float *to = a.n_chunks > 1 ? a.part : a.sum;
        if (threadIdx.y == 0 && p.channel < a.c)
            for (int m = 0; m < N; m++) to[((p.chunk * a.segments + p.segment) * N + m) * a.c + p.channel] = sm[m * RT_K_BLOCK + t];
        __syncthreads(); /* sm is used again */
    }
}

__global__ static void k_tangent_join(rt_k_norm_tangent a, int64_t n)
{
    RT_K_FOR(i, n)
    {
        float s = 0.0f;
        for (int64_t k = 0; k < a.n_chunks; k++) s += a.part[k * n + i];
        a.sum[i] = s;
    }
}

template <bool DX> __global__ static void k_tangent_stats(rt_k_norm_tangent a)
{
    constexpr int N = DX ? (int)SUMS : 2;
    const int32_t d = a.c / a.groups;
    const float share = 1.0f / ((float)a.rows * (float)d);
    RT_K_FOR(stat, a.segments * a.groups)
    {
        const int64_t segment = stat / a.groups, affine = segment / a.per_net * a.c;
        const int32_t from = (int32_t)(stat - segment * a.groups) * d;
        float m[STATS] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f}, et = 0.0f;
        for (int32_t c = from; c < from + d; c++) {
            const float *s = a.sum + segment * N * a.c + c;
            m[MEAN_1] += s[S_T * (int64_t)a.c];
            m[MEAN_2] += s[S_TX * (int64_t)a.c];
            if (!DX) continue;
            const float gamma = a.gamma[affine + c], tgamma = a.tgamma[affine + c], g = s[S_G * (int64_t)a.c], gx = s[S_GX * (int64_t)a.c];
            m[MEAN_E] += gamma * g;
            m[MEAN_EX] += gamma * gx;
            m[MEAN_TE] += tgamma * g + gamma * s[S_TG * (int64_t)a.c];
            m[MEAN_TEX] += tgamma * gx + gamma * s[S_TGX * (int64_t)a.c];
            et += gamma * s[S_GT * (int64_t)a.c];
        }
        for (int k = 0; k < STATS; k++) m[k] *= share;
        if (DX) m[MEAN_TEX] += a.rstd[stat] * (et * share - m[MEAN_1] * m[MEAN_E] - m[MEAN_2] * m[MEAN_EX]);
        for (int k = 0; k < STATS; k++) a.stat[stat * STATS + k] = m[k];
    }
}

/* tggamma = sum tg xhat + g txhat, tgbeta = sum tg: one thread per network and channel, its segments in order. */
__global__ static void k_tangent_affine(rt_k_norm_tangent a)
{
    const int32_t d = a.c / a.groups;
    RT_K_FOR(i, a.nets * a.c)
    {
        const int64_t net = i / a.c;
        const int32_t c = (int32_t)(i - net * a.c);
        float gamma = 0.0f, beta = 0.0f;
        for (int64_t segment = net * a.per_net; segment < (net + 1) * a.per_net && segment < a.segments; segment++) {
            const int64_t stat = segment * a.groups + c / d;
            const float *s = a.sum + segment * SUMS * a.c + c, *m = a.stat + stat * STATS;
            gamma += s[S_TGX * (int64_t)a.c] +
                     a.rstd[stat] * (s[S_GT * (int64_t)a.c] - m[MEAN_1] * s[S_G * (int64_t)a.c] - m[MEAN_2] * s[S_GX * (int64_t)a.c]);
            beta += s[S_TG * (int64_t)a.c];
        }
        a.tggamma[i] = gamma;
        a.tgbeta[i] = beta;
    }
}

/* Units for the forward tangent, rows for the gradient's: both are n_chunks chunks of a segment. */
template <bool DX> __global__ static void k_tangent_apply(rt_k_norm_tangent a)
{
    const int64_t jobs = a.segments * a.n_chunks * ((a.c + LANES - 1) / LANES), n = DX ? a.rows : a.units;
    const int64_t chunk = (n + a.n_chunks - 1) / a.n_chunks;
    for (int64_t id = blockIdx.x; id < jobs; id += gridDim.x) {
        const place p = place_of(a, id);
        const int64_t first = p.chunk * chunk, end = first + chunk < n ? first + chunk : n;
        if (p.channel >= a.c) continue;
        const float *m = a.stat + p.stat * STATS, tgamma = a.tgamma[p.affine], tbeta = DX ? 0.0f : a.tbeta[p.affine];
        for (int64_t u = first + threadIdx.y; u < end; u += ROWS) {
            if (DX) {
                const int64_t i = (p.segment * a.rows + u) * a.c + p.channel;
                const float xhat = (a.x[i] - p.mean) * p.rstd, txhat = p.rstd * (a.tx[i] - m[MEAN_1] - xhat * m[MEAN_2]);
                const gradients v = at_pre(a, p, (uint32_t)u, xhat);
                const float e = p.gamma * v.g, te = tgamma * v.g + p.gamma * v.tg;
                const float gx = p.rstd * (e - m[MEAN_E] - xhat * m[MEAN_EX]);
                a.tgx[i] = p.rstd * (te - m[MEAN_TE] - txhat * m[MEAN_EX] - xhat * m[MEAN_TEX]) - p.rstd * m[MEAN_2] * gx;
                continue;
            }
            const int64_t base = p.segment * a.rows + row_of(a, (uint32_t)u);
            float sum = 0.0f;
            for (int k = 0; k < (a.pool ? 4 : 1); k++) {
                const int64_t i = (base + (int64_t)(k >> 1) * a.w + (k & 1)) * a.c + p.channel;
                const float xhat = (a.x[i] - p.mean) * p.rstd, txhat = p.rstd * (a.tx[i] - m[MEAN_1] - xhat * m[MEAN_2]);
                if (!a.relu || p.gamma * xhat + p.beta > 0.0f) sum += tgamma * xhat + p.gamma * txhat + tbeta;
            }
            a.ty[(p.segment * a.units + u) * a.c + p.channel] = a.pool ? 0.25f * sum : sum;
        }
    }
}

template <bool DX> static cudaError_t launch(const rt_k_norm_tangent *a, cudaStream_t s)
{
    const dim3 block(LANES, ROWS);
    const int64_t jobs = a->segments * a->n_chunks * ((a->c + LANES - 1) / LANES), sums = a->segments * (DX ? (int)SUMS : 2) * a->c;
    const unsigned grid = rt_k_blocks(jobs, 1);
    RT_LAUNCH(k_tangent_sums<DX>, grid, block, s, *a);
    cudaError_t e = cudaGetLastError();
    if (e == cudaSuccess && a->n_chunks > 1) {
        RT_LAUNCH(k_tangent_join, rt_k_blocks(sums, RT_K_BLOCK), RT_K_BLOCK, s, *a, sums);
        e = cudaGetLastError();
    }
    if (e == cudaSuccess) {
        RT_LAUNCH(k_tangent_stats<DX>, rt_k_blocks(a->segments * a->groups, RT_K_BLOCK), RT_K_BLOCK, s, *a);
        e = cudaGetLastError();
    }
    if (e == cudaSuccess && DX) {
        RT_LAUNCH(k_tangent_affine, rt_k_blocks(a->nets * a->c, RT_K_BLOCK), RT_K_BLOCK, s, *a);
        e = cudaGetLastError();
    }
    if (e == cudaSuccess) {
        RT_LAUNCH(k_tangent_apply<DX>, grid, block, s, *a);
        e = cudaGetLastError();
    }
    return e;
}

extern "C" cudaError_t rt_k_norm_tangent_run(const rt_k_norm_tangent *a, cudaStream_t s)
{
    if (a->segments == 0 || a->rows == 0 || a->c == 0) return cudaSuccess;
    return a->ty ? launch<false>(a, s) : launch<true>(a, s);
}
