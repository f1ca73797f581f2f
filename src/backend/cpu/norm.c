/* Group, instance and batch normalisation with the ReLU and 2x2 average pool behind them, in one sweep.
 *
 * An image of [H,W,C] fits the second-level cache where it matters, so statistics take two passes over one image (mean, then
 * squared deviations: no cancellation) and the normalisation a third, for one trip to memory. Batch statistics are those of
 * the images, merged by the pairwise formula of Chan, Golub, LeVeque (1983) in image order: the result does not depend
 * on the thread count. Channels run along vectors in strips; sums of a row of pixels are float, sums of rows double.
 *
 * With pre = (x - mean) * k + beta, k = gamma * rstd, and g the gradient at pre:
 *     gx = k * g - rstd * mean(gamma g) - (x - mean) * rstd^2 * mean(gamma g xhat). */
#include <math.h>

#include "backend/cpu/norm.h"

/* Per-channel constants of a strip. */
typedef struct coeffs {
    float mean[STRIP], rstd[STRIP], k[STRIP], beta[STRIP];
} coeffs;

/* --- loops over one strip of one image --------------------------------------------------------------------------------- */
RT_CLONES void rt_norm_strip_stats(const float *x, image s, float *mean, float *m2)
{
    float acc[STRIP];
    double sum[STRIP];
    const double m = (double)(s.h * s.w);
    for (int64_t c = 0; c < s.n; c++) sum[c] = 0;
    for (int64_t i = 0; i < s.h; i++) {
        for (int64_t c = 0; c < s.n; c++) acc[c] = 0;
        for (int64_t j = 0; j < s.w; j++)
            for (int64_t c = 0; c < s.n; c++) acc[c] += x[(i * s.w + j) * s.c + c];
        for (int64_t c = 0; c < s.n; c++) sum[c] += (double)acc[c];
    }
    float mu[STRIP];
    for (int64_t c = 0; c < s.n; c++) {
        mu[c] = (float)(sum[c] / m);
        sum[c] = 0;
    }
    for (int64_t i = 0; i < s.h; i++) {
        for (int64_t c = 0; c < s.n; c++) acc[c] = 0;
        for (int64_t j = 0; j < s.w; j++)
            for (int64_t c = 0; c < s.n; c++) {
                const float d = x[(i * s.w + j) * s.c + c] - mu[c];
                acc[c] += d * d;
            }
        for (int64_t c = 0; c < s.n; c++) sum[c] += (double)acc[c];
    }
    for (int64_t c = 0; c < s.n; c++) {
        mean[c] = mu[c];
        m2[c] = (float)sum[c];
    }
}

static inline __attribute__((always_inline)) float act(float t, int relu)
{
    return relu ? (t < 0 ? 0 : t) : t; /* a NaN stays one */
}

static inline __attribute__((always_inline)) void apply(const float *x, float *y, image s, const coeffs *k, int relu,
                                                        int pool)
{
    if (pool) {
        const int64_t below = s.w * s.c;
        for (int64_t i = 0; i < s.h / 2; i++)
            for (int64_t j = 0; j < s.w / 2; j++) {
                const float *p = x + (2 * i * s.w + 2 * j) * s.c;
                float *to = y + (i * (s.w / 2) + j) * s.c;
                RT_IVDEP for (int64_t c = 0; c < s.n; c++)
                {
                    const float m = k->mean[c], f = k->k[c], b = k->beta[c];
                    to[c] = 0.25f * ((act((p[c] - m) * f + b, relu) + act((p[s.c + c] - m) * f + b, relu)) +
                                     (act((p[below + c] - m) * f + b, relu) +
                                      act((p[below + s.c + c] - m) * f + b, relu)));
                }
            }
    } else {
        for (int64_t q = 0; q < s.h * s.w; q++)
            RT_IVDEP for (int64_t c = 0; c < s.n; c++)
                y[q * s.c + c] = act((x[q * s.c + c] - k->mean[c]) * k->k[c] + k->beta[c], relu);
    }
}

RT_CLONES static void strip_apply(const float *x, float *y, image s, const coeffs *k, int relu, int pool)
{
    if (relu && pool)
        apply(x, y, s, k, 1, 1);
    else if (relu)
        apply(x, y, s, k, 1, 0);
    else
        apply(x, y, s, k, 0, pool);
}

/* Gradient at pre for pixel (i, j): one function so that both passes agree to the bit. */
static inline __attribute__((always_inline)) float at_pre(float x, float gy, const coeffs *k, int64_t c, int relu, int pool)
{
    const float g = pool ? 0.25f * gy : gy;
    return relu ? ((x - k->mean[c]) * k->k[c] + k->beta[c] > 0 ? g : 0) : g;
}

static inline __attribute__((always_inline)) const float *gy_at(const float *gy, image s, int64_t i, int64_t j, int pool)
{
    return pool ? gy + ((i / 2) * (s.w / 2) + j / 2) * s.c : gy + (i * s.w + j) * s.c;
}

static inline __attribute__((always_inline)) void sums(const float *x, const float *gy, image s, const coeffs *k, int relu,
                                                       int pool, float *sg, float *sgx)
{
    float a[STRIP], b[STRIP];
    double ta[STRIP], tb[STRIP];
    for (int64_t c = 0; c < s.n; c++) ta[c] = tb[c] = 0;
    for (int64_t i = 0; i < s.h; i++) {
        for (int64_t c = 0; c < s.n; c++) a[c] = b[c] = 0;
        for (int64_t j = 0; j < s.w; j++) {
            const float *p = x + (i * s.w + j) * s.c, *q = gy_at(gy, s, i, j, pool);
            for (int64_t c = 0; c < s.n; c++) {
                const float g = at_pre(p[c], q[c], k, c, relu, pool);
                a[c] += g;
                b[c] += g * (p[c] - k->mean[c]);
            }
        }
        for (int64_t c = 0; c < s.n; c++) {
            ta[c] += (double)a[c];
            tb[c] += (double)b[c];
        }
    }
    for (int64_t c = 0; c < s.n; c++) {
        sg[c] = (float)ta[c];
        sgx[c] = (float)(tb[c] * (double)k->rstd[c]);
    }
}

RT_CLONES static void strip_sums(const float *x, const float *gy, image s, const coeffs *k, int relu, int pool, float *sg,
                                 float *sgx)
{
    if (relu && pool)
        sums(x, gy, s, k, 1, 1, sg, sgx);
    else if (relu)
        sums(x, gy, s, k, 1, 0, sg, sgx);
    else
        sums(x, gy, s, k, 0, pool, sg, sgx);
}

/* k0, k2: rstd * mean(e) and rstd^2 * mean(e xhat). */
static inline __attribute__((always_inline)) void grad(const float *x, const float *gy, float *gx, image s, const coeffs *k,
                                                       const float *k0, const float *k2, int relu, int pool)
{
    for (int64_t i = 0; i < s.h; i++)
        for (int64_t j = 0; j < s.w; j++) {
            const float *p = x + (i * s.w + j) * s.c, *q = gy_at(gy, s, i, j, pool);
            float *to = gx + (i * s.w + j) * s.c;
            RT_IVDEP for (int64_t c = 0; c < s.n; c++)
                to[c] = at_pre(p[c], q[c], k, c, relu, pool) * k->k[c] - k0[c] - (p[c] - k->mean[c]) * k2[c];
        }
}

RT_CLONES static void strip_grad(const float *x, const float *gy, float *gx, image s, const coeffs *k, const float *k0,
                                 const float *k2, int relu, int pool)
{
    if (relu && pool)
        grad(x, gy, gx, s, k, k0, k2, 1, 1);
    else if (relu)
        grad(x, gy, gx, s, k, k0, k2, 1, 0);
    else
        grad(x, gy, gx, s, k, k0, k2, 0, pool);
}

/* --- one node ------------------------------------------------------------------------------------------------------------ */
static coeffs *fill_coeffs(coeffs *k, const rt_norm_call *q, const float *mean, const float *rstd, int64_t n, int64_t c0, int64_t len)
{
    const float *gamma = q->gamma + rt_norm_call_affine(q, n) + c0, *beta = q->beta + rt_norm_call_affine(q, n) + c0;
    for (int64_t c = 0; c < len; c++) {
        const int64_t s = rt_norm_call_stat(q, n, c0 + c);
        k->mean[c] = mean[s];
        k->rstd[c] = rstd[s];
        k->k[c] = gamma[c] * rstd[s];
        k->beta[c] = beta[c];
    }
    return k;
}

static image strip_of(const rt_norm_call *q, int64_t c0)
{
    return (image){q->H, q->W, q->C, q->C - c0 < STRIP ? q->C - c0 : STRIP};
}

/* Merges `count` groups of m values each, with means mu[i * step] and squared deviations m2[i * step]. */
static void merge(const float *mu, const float *m2, int64_t count, int64_t step, double m, double eps, float *mean,
                  float *rstd)
{
    double sum = 0, dev = 0;
    for (int64_t i = 0; i < count; i++) sum += (double)mu[i * step];
    const double centre = sum / (double)count;
    for (int64_t i = 0; i < count; i++) {
        const double d = (double)mu[i * step] - centre;
        dev += (double)m2[i * step] + m * d * d;
    }
    *mean = (float)centre;
    *rstd = (float)(1 / sqrt(dev / (m * (double)count) + eps));
}

static void apply_image(const rt_norm_call *q, int64_t n, float *y)
{
    coeffs k;
    for (int64_t c = 0; c < q->C; c += STRIP) {
        const image s = strip_of(q, c);
        strip_apply(q->x + n * q->H * q->W * q->C + c, y + n * q->y_pixels * q->C + c, s,
                    fill_coeffs(&k, q, q->mean, q->rstd, n, c, s.n), q->a->relu, q->a->pool);
    }
}

static rt_status run_norm(const rt_prepared *p, const rt_kernel_io *io)
{
    rt_norm_call q = rt_norm_call_of(p->node, io);
    float *y = io->out[0], *mu = io->scratch, *m2 = mu + q.N * q.C;
    const double m = (double)(q.H * q.W);
    const int64_t per_group = q.C / q.groups;
    const bool batch = q.a->kind == RT_NORM_BATCH;
    q.mean = io->out[1];
    q.rstd = io->out[2];
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < q.N; n++) {
        for (int64_t c = 0; c < q.C; c += STRIP)
            rt_norm_strip_stats(q.x + n * q.H * q.W * q.C + c, strip_of(&q, c), mu + n * q.C + c, m2 + n * q.C + c);
        if (batch) continue;
        for (int64_t g = 0; g < q.groups; g++)
            merge(mu + n * q.C + g * per_group, m2 + n * q.C + g * per_group, per_group, 1, m, q.a->eps,
                  &q.mean[n * q.groups + g], &q.rstd[n * q.groups + g]);
        apply_image(&q, n, y);
    }
    if (!batch) return RT_OK;
    for (int64_t i = 0; i < q.nets * q.C; i++) {
        const int64_t at = i / q.C * q.n_net * q.C + i % q.C;
        merge(mu + at, m2 + at, q.n_net, q.C, m, q.a->eps, &q.mean[i], &q.rstd[i]);
    }
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < q.N; n++) apply_image(&q, n, y);
    return RT_OK;
}

/* gx of image n from the sums of its statistic: se, sex are [stat]-indexed sums of gamma g and gamma g xhat. */
static void grad_image(const rt_norm_call *q, const rt_kernel_io *io, int64_t n, double m, const double *se, const double *sex)
{
    const float *mean = io->in[3], *rstd = io->in[4], *gy = io->in[5];
    float *gx = io->out[0], k0[STRIP], k2[STRIP];
    coeffs k;
    for (int64_t c0 = 0; c0 < q->C; c0 += STRIP) {
        const image s = strip_of(q, c0);
        fill_coeffs(&k, q, mean, rstd, n, c0, s.n);
        for (int64_t c = 0; c < s.n; c++) {
            const int64_t at = rt_norm_call_stat(q, n, c0 + c);
            k0[c] = (float)((double)k.rstd[c] * se[at] / m);
            k2[c] = (float)((double)k.rstd[c] * (double)k.rstd[c] * sex[at] / m);
        }
        strip_grad(q->x + n * q->H * q->W * q->C + c0, gy + n * q->y_pixels * q->C + c0,
                   gx + n * q->H * q->W * q->C + c0, s, &k, k0, k2, q->a->relu, q->a->pool);
    }
}

static rt_status run_norm_dx(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_norm_call q = rt_norm_call_of(p->node, io);
    const float *mean = io->in[3], *rstd = io->in[4], *gy = io->in[5];
    float *ggamma = io->out[1], *gbeta = io->out[2];
    const bool batch = q.a->kind == RT_NORM_BATCH;
    const int64_t per_group = q.C / q.groups, n_stat = batch ? q.nets * q.C : q.N * q.groups;
    const double m = (double)(q.H * q.W) * (double)(batch ? q.n_net : per_group);
    double *se = io->scratch, *sex = se + n_stat;
    float *sg = (float *)(sex + n_stat), *sgx = sg + q.N * q.C;
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < q.N; n++) {
        coeffs k;
        for (int64_t c = 0; c < q.C; c += STRIP) {
            const image s = strip_of(&q, c);
            strip_sums(q.x + n * q.H * q.W * q.C + c, gy + n * q.y_pixels * q.C + c, s,
                       fill_coeffs(&k, &q, mean, rstd, n, c, s.n), q.a->relu, q.a->pool, sg + n * q.C + c,
                       sgx + n * q.C + c);
        }
        if (batch) continue;
        const float *gamma = q.gamma + rt_norm_call_affine(&q, n);
        for (int64_t g = 0; g < q.groups; g++) {
            const int64_t at = n * q.groups + g;
            se[at] = sex[at] = 0;
            for (int64_t c = g * per_group; c < (g + 1) * per_group; c++) {
                se[at] += (double)gamma[c] * (double)sg[n * q.C + c];
                sex[at] += (double)gamma[c] * (double)sgx[n * q.C + c];
            }
        }
        grad_image(&q, io, n, m, se, sex);
    }
    for (int64_t i = 0; i < q.nets * q.C; i++) {
        const int64_t first = i / q.C * q.n_net, c = i % q.C;
        double a = 0, b = 0;
        for (int64_t n = first; n < first + q.n_net; n++) {
            a += (double)sg[n * q.C + c];
            b += (double)sgx[n * q.C + c];
        }
        gbeta[i] = (float)a;
        ggamma[i] = (float)b;
        if (batch) {
            se[i] = (double)q.gamma[i] * a;
            sex[i] = (double)q.gamma[i] * b;
        }
    }
    if (!batch) return RT_OK;
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < q.N; n++) grad_image(&q, io, n, m, se, sex);
    return RT_OK;
}

static rt_status prepare(rt_backend *be, rt_prepared *p)
{
    const rt_shape *x = &p->node->in_shape[0];
    const bool backward = p->node->op == RT_OP_NORM_DX;
    const int64_t n_stat = rt_shape_count(backward ? &p->node->in_shape[3] : &p->node->out_shape[1]);
    (void)be;
    p->scratch_bytes = (size_t)(x->d[0] * x->d[3]) * 2 * sizeof(float);
    if (backward) p->scratch_bytes += (size_t)n_stat * 2 * sizeof(double);
    p->impl = "loop fused";
    return RT_OK;
}

void rt_cpu_norm_kernels(rt_kernel *t)
{
    t[RT_OP_NORM] = (rt_kernel){.prepare = prepare, .run = run_norm};
    t[RT_OP_NORM_DX] = (rt_kernel){.prepare = prepare, .run = run_norm_dx};
    rt_cpu_norm_tangent_kernels(t);
}
