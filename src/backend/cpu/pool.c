/* Pooling in NHWC: for each output pixel, its channels run along a vector. Rows of the output (or, for adjoints, images) are
 * the parallel unit, so nothing is shared. */
#include <string.h>

#include "backend/cpu/cpu.h"
#include "ops/attrs.h"

typedef struct window {
    int64_t h0, h1, w0, w1; /* the part of the window inside the image */
} window;

static window window_of(const rt_pool_attr *a, int64_t h, int64_t w, int64_t p, int64_t q)
{
    window v = {.h0 = p * a->stride[0] - a->pad[0], .w0 = q * a->stride[1] - a->pad[1]};
    v.h1 = v.h0 + a->size[0] < h ? v.h0 + a->size[0] : h;
    v.w1 = v.w0 + a->size[1] < w ? v.w0 + a->size[1] : w;
    v.h0 = v.h0 > 0 ? v.h0 : 0;
    v.w0 = v.w0 > 0 ? v.w0 : 0;
    return v;
}

RT_CLONES static void add_scaled(float *y, const float *x, float k, int64_t n)
{
    for (int64_t c = 0; c < n; c++) y[c] += k * x[c];
}

RT_CLONES static void keep_larger(float *y, int32_t *index, const float *x, int32_t where, int64_t n)
{
    for (int64_t c = 0; c < n; c++) {
        /* The first of equals stays; a NaN replaces a number and is not replaced. */
        const int better = (x[c] > y[c]) | ((x[c] != x[c]) & (y[c] == y[c]));
        y[c] = better ? x[c] : y[c];
        index[c] = better ? where : index[c];
    }
}

static rt_status run_avg_pool(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_pool_attr *a = p->node->attr;
    const rt_shape *xs = &p->node->in_shape[0], *ys = &p->node->out_shape[0];
    const int64_t H = xs->d[1], W = xs->d[2], C = xs->d[3], P = ys->d[1], Q = ys->d[2];
    const float *x = io->in[0], share = 1.0f / (float)(a->size[0] * a->size[1]);
    float *y = io->out[0];
#pragma omp parallel for schedule(static) if (rt_shape_count(xs) > RT_CPU_GRAIN)
    for (int64_t row = 0; row < ys->d[0] * P; row++) {
        const float *xi = x + row / P * H * W * C;
        for (int64_t q = 0; q < Q; q++) {
            const window v = window_of(a, H, W, row % P, q);
            float *to = y + (row * Q + q) * C;
            memset(to, 0, (size_t)C * sizeof *to);
            for (int64_t i = v.h0; i < v.h1; i++)
                for (int64_t j = v.w0; j < v.w1; j++) add_scaled(to, xi + (i * W + j) * C, share, C);
        }
    }
    return RT_OK;
}

static rt_status run_avg_pool_dx(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_pool_dx_attr *a = p->node->attr;
    const rt_shape *ys = &p->node->in_shape[0];
    const int64_t H = a->h, W = a->w, C = ys->d[3], P = ys->d[1], Q = ys->d[2];
    const float *gy = io->in[0], share = 1.0f / (float)(a->pool.size[0] * a->pool.size[1]);
    float *gx = io->out[0];
#pragma omp parallel for schedule(static) if (rt_shape_count(&p->node->out_shape[0]) > RT_CPU_GRAIN)
    for (int64_t n = 0; n < ys->d[0]; n++) {
        float *xi = gx + n * H * W * C;
        memset(xi, 0, (size_t)(H * W * C) * sizeof *xi);
        for (int64_t pq = 0; pq < P * Q; pq++) {
            const window v = window_of(&a->pool, H, W, pq / Q, pq % Q);
            for (int64_t i = v.h0; i < v.h1; i++)
                for (int64_t j = v.w0; j < v.w1; j++)
                    add_scaled(xi + (i * W + j) * C, gy + (n * P * Q + pq) * C, share, C);
        }
    }
    return RT_OK;
}

static rt_status run_max_pool(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_pool_attr *a = p->node->attr;
    const rt_shape *xs = &p->node->in_shape[0], *ys = &p->node->out_shape[0];
    const int64_t H = xs->d[1], W = xs->d[2], C = xs->d[3], P = ys->d[1], Q = ys->d[2];
    const float *x = io->in[0];
    float *y = io->out[0];
    int32_t *index = io->out[1];
#pragma omp parallel for schedule(static) if (rt_shape_count(xs) > RT_CPU_GRAIN)
    for (int64_t row = 0; row < ys->d[0] * P; row++) {
        const float *xi = x + row / P * H * W * C;
        for (int64_t q = 0; q < Q; q++) {
            const window v = window_of(a, H, W, row % P, q);
            const int64_t first = v.h0 * W + v.w0;
            float *to = y + (row * Q + q) * C;
            int32_t *at = index + (row * Q + q) * C;
            memcpy(to, xi + first * C, (size_t)C * sizeof *to);
            for (int64_t c = 0; c < C; c++) at[c] = (int32_t)first;
            for (int64_t i = v.h0; i < v.h1; i++)
                for (int64_t j = v.w0; j < v.w1; j++)
                    if (i * W + j != first) keep_larger(to, at, xi + (i * W + j) * C, (int32_t)(i * W + j), C);
        }
    }
    return RT_OK;
}

/* The index is data. Returns the first offending element, or -1. */
static int64_t bad_index(const int32_t *index, int64_t n, int64_t pixels)
{
    for (int64_t e = 0; e < n; e++)
        if (index[e] < 0 || index[e] >= pixels) return e;
    return -1;
}

/* Adjoint pair over one layout: max_pool_dx scatters gy to the winners, pool_gather reads them back. */
static rt_status run_winners(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_pool_dx_attr *a = p->node->attr;
    const bool scatter = p->node->op == RT_OP_MAX_POOL_DX;
    const rt_shape *small = &p->node->in_shape[1];
    const int64_t C = small->d[3], pq = small->d[1] * small->d[2], hw = a->h * a->w, N = small->d[0];
    const float *from = io->in[0];
    const int32_t *index = io->in[1];
    float *to = io->out[0];
    const int64_t bad = bad_index(index, N * pq * C, hw);
    if (bad >= 0)
        return RT_RAISE(RT_ERR_ARG, "%s: index %d at element %lld is outside the image", rt_op_name(p->node->op),
                        index[bad], (long long)bad);
#pragma omp parallel for schedule(static) if (N * hw * C > RT_CPU_GRAIN)
    for (int64_t n = 0; n < N; n++) {
        const int32_t *at = index + n * pq * C;
        if (scatter) memset(to + n * hw * C, 0, (size_t)(hw * C) * sizeof *to);
        for (int64_t e = 0; e < pq * C; e++) {
            const int64_t big = n * hw * C + at[e] * C + e % C;
            if (scatter)
                to[big] += from[n * pq * C + e];
            else
                to[n * pq * C + e] = from[big];
        }
    }
    return RT_OK;
}

void rt_cpu_pool_kernels(rt_kernel *t)
{
    t[RT_OP_AVG_POOL].run = run_avg_pool;
    t[RT_OP_AVG_POOL_DX].run = run_avg_pool_dx;
    t[RT_OP_MAX_POOL].run = run_max_pool;
    t[RT_OP_MAX_POOL_DX].run = t[RT_OP_POOL_GATHER].run = run_winners;
}
