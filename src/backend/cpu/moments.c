/* Mean and variance per channel of blocks of images, and their gradient. Images are one thread's work each and are merged in
 * their order: neither the thread count nor the number of blocks changes a bit. */
#include "backend/cpu/norm.h"

typedef struct geometry {
    int64_t n, h, w, c, groups, each;
} geometry;

static geometry of(const rt_node *n)
{
    const int64_t *d = n->in_shape[0].d, groups = ((const rt_moments_attr *)n->attr)->groups;
    return (geometry){d[0], d[1], d[2], d[3], groups, d[0] / groups};
}

static image strip_of(const geometry *g, int64_t c) { return (image){g->h, g->w, g->c, g->c - c < STRIP ? g->c - c : STRIP}; }

static rt_status run(const rt_prepared *p, const rt_kernel_io *io)
{
    const geometry g = of(p->node);
    const float *x = io->in[0];
    float *mean = io->out[0], *var = io->out[1], *mu = io->scratch, *m2 = mu + g.n * g.c;
    const double m = (double)(g.h * g.w);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < g.n; i++)
        for (int64_t c = 0; c < g.c; c += STRIP)
            rt_norm_strip_stats(x + i * g.h * g.w * g.c + c, strip_of(&g, c), mu + i * g.c + c, m2 + i * g.c + c);
    for (int64_t k = 0; k < g.groups; k++)
        for (int64_t c = 0; c < g.c; c++) {
            const float *a = mu + k * g.each * g.c + c, *b = m2 + k * g.each * g.c + c;
            double sum = 0, dev = 0;
            for (int64_t i = 0; i < g.each; i++) sum += (double)a[i * g.c];
            const double centre = sum / (double)g.each;
            for (int64_t i = 0; i < g.each; i++) {
                const double d = (double)a[i * g.c] - centre;
                dev += (double)b[i * g.c] + m * d * d;
            }
            mean[k * g.c + c] = (float)centre;
            var[k * g.c + c] = (float)(dev / (m * (double)g.each));
        }
    return RT_OK;
}

RT_CLONES static void strip_gradient(const float *x, float *y, image s, const float *mean, const float *a, const float *b)
{
    for (int64_t q = 0; q < s.h * s.w; q++)
        RT_IVDEP for (int64_t c = 0; c < s.n; c++) y[q * s.c + c] = a[c] + (x[q * s.c + c] - mean[c]) * b[c];
}

static rt_status run_dx(const rt_prepared *p, const rt_kernel_io *io)
{
    const geometry g = of(p->node);
    const float *x = io->in[0], *mean = io->in[1], *gm = io->in[2], *gv = io->in[3];
    float *gx = io->out[0];
    const double m = (double)(g.each * g.h * g.w);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < g.n; i++)
        for (int64_t c0 = 0; c0 < g.c; c0 += STRIP) {
            const image s = strip_of(&g, c0);
            const int64_t at = i / g.each * g.c + c0, from = i * g.h * g.w * g.c + c0;
            float a[STRIP], b[STRIP];
            for (int64_t c = 0; c < s.n; c++) {
                a[c] = (float)((double)gm[at + c] / m);
                b[c] = (float)(2 * (double)gv[at + c] / m);
            }
            strip_gradient(x + from, gx + from, s, mean + at, a, b);
        }
    return RT_OK;
}

static rt_status prepare(rt_backend *be, rt_prepared *p)
{
    const int64_t *d = p->node->in_shape[0].d;
    (void)be;
    p->scratch_bytes = p->node->op == RT_OP_MOMENTS ? (size_t)(d[0] * d[3]) * 2 * sizeof(float) : 0;
    p->impl = "loop";
    return RT_OK;
}

void rt_cpu_moments_kernels(rt_kernel *t)
{
    t[RT_OP_MOMENTS] = (rt_kernel){.prepare = prepare, .run = run};
    t[RT_OP_MOMENTS_DX] = (rt_kernel){.prepare = prepare, .run = run_dx};
}
