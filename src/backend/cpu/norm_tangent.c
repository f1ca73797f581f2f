/* Tangents of normalisation and of its gradient (src/ops/norm_tangent.c has the formulas), in two sweeps over an image.
 *
 * Every output element is a linear form in the operands at its place with coefficients per channel, once a few sums per
 * channel are known. With d = x - mean:
 *
 *     norm_tangent      ty  = pool(mask (a d + b tx + e))                        from sums of tx, tx d
 *     norm_dx_tangent   tgx = a d + b tx + e + p g + q tg                        and of g, g d, g tx, tg, tg d
 *
 * First sweep: the sums. Then the coefficients, per group of an image, or for batch statistics once over all images.
 * Second sweep: the output. Channels run along vectors; sums of a row of pixels are float, sums of rows double. Sums over
 * images are added in image order: the thread count does not change the result. */
#include <math.h>
#include <string.h>

#include "backend/cpu/norm.h"

enum { LANES = 32 }; /* channels whose sums stay in registers */

typedef struct sums {
    double t, td, g, gd, gt, tg, tgd; /* of tx, tx d, g, g d, g tx, tg, tg d over one channel of one image */
} sums;

/* Per channel of one image, in scratch: what the sweeps need. */
typedef struct coeffs {
    float *mean, *k, *beta;   /* pre = d k + beta */
    float *a, *b, *e, *p, *q; /* the linear form */
} coeffs;

/* One image of the operands; gy and tgy are pooled maps when pool is set; tgy may be NULL. */
typedef struct operands {
    const float *x, *tx, *gy, *tgy;
    float *out;
    int64_t h, w, c;
} operands;

static inline __attribute__((always_inline)) int64_t y_at(const operands *o, int64_t i, int64_t j, int pool)
{
    return pool ? ((i / 2) * (o->w / 2) + j / 2) * o->c : (i * o->w + j) * o->c;
}

/* --- sweeps over n <= LANES channels from c0 ----------------------------------------------------------------------------- */
static inline __attribute__((always_inline)) void first_forward(const operands *o, const coeffs *k, int64_t c0, int n,
                                                                sums *s)
{
    double t[LANES] = {0}, td[LANES] = {0};
    float mean[LANES];
    for (int l = 0; l < n; l++) mean[l] = k->mean[c0 + l];
    for (int64_t i = 0; i < o->h; i++) {
        float rt[LANES] = {0}, rd[LANES] = {0};
        for (int64_t j = 0; j < o->w; j++) {
            const float *x = o->x + (i * o->w + j) * o->c + c0, *v = o->tx + (i * o->w + j) * o->c + c0;
            for (int l = 0; l < n; l++) {
                rt[l] += v[l];
                rd[l] += v[l] * (x[l] - mean[l]);
            }
        }
        for (int l = 0; l < n; l++) {
            t[l] += (double)rt[l];
            td[l] += (double)rd[l];
        }
    }
    for (int l = 0; l < n; l++) s[c0 + l] = (sums){.t = t[l], .td = td[l]};
}

static inline __attribute__((always_inline)) void first_backward(const operands *o, const coeffs *k, int64_t c0, int n,
                                                                 int relu, int pool, int has_tg, sums *s)
{
    double sum[7][LANES] = {{0}};
    float mean[LANES], scale[LANES], beta[LANES];
    for (int l = 0; l < n; l++) {
        mean[l] = k->mean[c0 + l];
        scale[l] = k->k[c0 + l];
        beta[l] = k->beta[c0 + l];
    }
    for (int64_t i = 0; i < o->h; i++) {
        float row[7][LANES] = {{0}};
        for (int64_t j = 0; j < o->w; j++) {
            const int64_t at = (i * o->w + j) * o->c + c0, y = y_at(o, i, j, pool) + c0;
            const float *px = o->x + at, *pt = o->tx + at, *pg = o->gy + y, *ptg = has_tg ? o->tgy + y : pg;
            for (int l = 0; l < n; l++) {
                const float d = px[l] - mean[l], t = pt[l];
                const float on = relu ? (d * scale[l] + beta[l] > 0 ? 1.0f : 0.0f) : 1.0f;
                const float g = on * pg[l];
                row[0][l] += t;
                row[1][l] += t * d;
                row[2][l] += g;
                row[3][l] += g * d;
                row[4][l] += g * t;
                if (has_tg) {
                    const float tg = on * ptg[l];
                    row[5][l] += tg;
                    row[6][l] += tg * d;
                }
            }
        }
        for (int m = 0; m < 7; m++)
            for (int l = 0; l < n; l++) sum[m][l] += (double)row[m][l];
    }
    const double part = pool ? 0.25 : 1;
    for (int l = 0; l < n; l++)
        s[c0 + l] = (sums){sum[0][l],        sum[1][l],        part * sum[2][l], part * sum[3][l],
                           part * sum[4][l], part * sum[5][l], part * sum[6][l]};
}

static inline __attribute__((always_inline)) void second_forward(const operands *o, const coeffs *k, int64_t c0, int n,
                                                                 int relu, int pool)
{
    const float *mean = k->mean + c0, *scale = k->k + c0, *beta = k->beta + c0, *a = k->a + c0, *b = k->b + c0, *e = k->e + c0;
    const int step = pool ? 2 : 1;
    for (int64_t i = 0; i < o->h; i += step)
        for (int64_t j = 0; j < o->w; j += step) {
            float y[LANES] = {0}, *to = o->out + y_at(o, i, j, pool) + c0;
            for (int u = 0; u < step * step; u++) {
                const int64_t at = ((i + u / 2) * o->w + j + u % 2) * o->c + c0;
                const float *px = o->x + at, *pt = o->tx + at;
                for (int l = 0; l < n; l++) {
                    const float d = px[l] - mean[l], v = a[l] * d + b[l] * pt[l] + e[l];
                    y[l] += relu ? (d * scale[l] + beta[l] > 0 ? v : 0) : v;
                }
            }
            for (int l = 0; l < n; l++) to[l] = pool ? 0.25f * y[l] : y[l];
        }
}

static inline __attribute__((always_inline)) void second_backward(const operands *o, const coeffs *k, int64_t c0, int n,
                                                                  int relu, int pool, int has_tg)
{
    const float *mean = k->mean + c0, *scale = k->k + c0, *beta = k->beta + c0, *a = k->a + c0, *b = k->b + c0, *e = k->e + c0;
    const float *p = k->p + c0, *q = k->q + c0;
    for (int64_t i = 0; i < o->h; i++)
        for (int64_t j = 0; j < o->w; j++) {
            const int64_t at = (i * o->w + j) * o->c + c0, y = y_at(o, i, j, pool) + c0;
            const float *px = o->x + at, *pt = o->tx + at, *pg = o->gy + y, *ptg = has_tg ? o->tgy + y : pg;
            float *to = o->out + at;
            RT_IVDEP for (int l = 0; l < n; l++)
            {
                const float d = px[l] - mean[l], v = has_tg ? p[l] * pg[l] + q[l] * ptg[l] : p[l] * pg[l];
                const float on = relu ? (d * scale[l] + beta[l] > 0 ? v : 0) : v;
                to[l] = a[l] * d + b[l] * pt[l] + e[l] + on;
            }
        }
}

/* Channels [c0, end) of an image: full blocks with the count known to the compiler, then the rest. Both are told what is
 * fused. */
#define BLOCKS(name, call_full, call_rest)                                                                             \
    RT_CLONES static void name(const operands *o, const coeffs *k, int64_t c0, int64_t end, int relu, int pool,        \
                               int has_tg, sums *s)                                                                    \
    {                                                                                                                  \
        (void)s;                                                                                                       \
        (void)has_tg;                                                                                                  \
        (void)relu;                                                                                                    \
        (void)pool;                                                                                                    \
        for (; c0 + LANES <= end; c0 += LANES) call_full;                                                              \
        if (c0 < end) call_rest;                                                                                      \
    }
BLOCKS(sweep_first_forward, first_forward(o, k, c0, LANES, s), first_forward(o, k, c0, (int)(end - c0), s))
BLOCKS(sweep_first_fused, first_backward(o, k, c0, LANES, 1, 1, 1, s),
       first_backward(o, k, c0, (int)(end - c0), 1, 1, 1, s))
BLOCKS(sweep_first_backward, first_backward(o, k, c0, LANES, relu, pool, has_tg, s),
       first_backward(o, k, c0, (int)(end - c0), relu, pool, has_tg, s))
BLOCKS(sweep_second_fused, second_backward(o, k, c0, LANES, 1, 1, 1), second_backward(o, k, c0, (int)(end - c0), 1, 1, 1))
BLOCKS(sweep_second_backward, second_backward(o, k, c0, LANES, relu, pool, has_tg),
       second_backward(o, k, c0, (int)(end - c0), relu, pool, has_tg))
BLOCKS(sweep_forward_fused, second_forward(o, k, c0, LANES, 1, 1), second_forward(o, k, c0, (int)(end - c0), 1, 1))
BLOCKS(sweep_second_forward, second_forward(o, k, c0, LANES, relu, pool),
       second_forward(o, k, c0, (int)(end - c0), relu, pool))

/* --- coefficients ---------------------------------------------------------------------------------------------------------- */
typedef struct problem {
    rt_norm_call call;
    bool backward, batch;
    const float *mean, *rstd, *tx, *tgamma, *tbeta, *gy, *tgy;
    float *out, *tggamma, *tgbeta;
    double m;       /* elements of a statistic */
    sums *sum;      /* [N, C] */
    float *per;     /* 8 rows of C floats per image */
} problem;

static coeffs coeffs_of(const problem *p, int64_t n)
{
    const int64_t C = p->call.C;
    float *f = p->per + n * 8 * C;
    return (coeffs){f, f + C, f + 2 * C, f + 3 * C, f + 4 * C, f + 5 * C, f + 6 * C, f + 7 * C};
}

/* mean, k and beta of image n: all that the first sweep reads. */
static void fill_affine(const problem *p, int64_t n)
{
    const rt_norm_call *q = &p->call;
    const coeffs k = coeffs_of(p, n);
    const float *gamma = q->gamma + rt_norm_call_affine(q, n), *beta = q->beta + rt_norm_call_affine(q, n);
    for (int64_t c = 0; c < q->C; c++) {
        const int64_t s = rt_norm_call_stat(q, n, c);
        k.mean[c] = p->mean[s];
        k.k[c] = gamma[c] * p->rstd[s];
        k.beta[c] = beta[c];
    }
}

/* What the channels [c0, c0 + n_c) of the images [n0, n0 + n_n) share: their means become their coefficients. */
static void finish_stat(const problem *p, int64_t n0, int64_t n_n, int64_t c0, int64_t n_c)
{
    const rt_norm_call *q = &p->call;
    const int64_t s = rt_norm_call_stat(q, n0, c0);
    const double r = (double)p->rstd[s];
    double m1 = 0, m2 = 0, e = 0, ex = 0, te = 0, tex = 0;
    for (int64_t n = n0; n < n0 + n_n; n++)
        for (int64_t c = c0; c < c0 + n_c; c++) {
            m1 += p->sum[n * q->C + c].t / p->m;
            m2 += p->sum[n * q->C + c].td * r / p->m;
        }
    for (int64_t n = n0; n < n0 + n_n && p->backward; n++)
        for (int64_t c = c0; c < c0 + n_c; c++) {
            sums *k = &p->sum[n * q->C + c];
            const int64_t at = rt_norm_call_affine(q, n) + c;
            const double gamma = (double)q->gamma[at], tgamma = (double)p->tgamma[at];
            const double gx = k->gd * r, gtx = r * (k->gt - m1 * k->g - m2 * gx); /* sums of g xhat and g txhat */
            e += gamma * k->g / p->m;
            ex += gamma * gx / p->m;
            te += (tgamma * k->g + gamma * k->tg) / p->m;
            tex += (tgamma * gx + gamma * (k->tgd * r + gtx)) / p->m;
            k->gt = k->tgd * r + gtx; /* this image's share of tggamma */
        }
    for (int64_t n = n0; n < n0 + n_n; n++) {
        const coeffs k = coeffs_of(p, n);
        for (int64_t c = c0; c < c0 + n_c; c++) {
            const int64_t at = rt_norm_call_affine(q, n) + c;
            const double gamma = (double)q->gamma[at], tgamma = (double)p->tgamma[at], part = q->a->pool ? 0.25 : 1;
            if (p->backward) {
                k.a[c] = (float)(r * r * (2 * r * m2 * ex - tex));
                k.b[c] = (float)(-r * r * ex);
                k.e[c] = (float)(r * (r * (m1 * ex + m2 * e) - te));
                k.p[c] = (float)(part * r * (tgamma - r * m2 * gamma));
                k.q[c] = (float)(part * r * gamma);
            } else {
                k.a[c] = (float)(r * (tgamma - gamma * r * m2));
                k.b[c] = (float)(r * gamma);
                k.e[c] = (float)((double)p->tbeta[at] - gamma * r * m1);
            }
        }
    }
}

/* --- one node ------------------------------------------------------------------------------------------------------------ */
static operands operands_of(const problem *p, int64_t n)
{
    const rt_norm_call *q = &p->call;
    const int64_t px = q->H * q->W * q->C, py = q->y_pixels * q->C;
    return (operands){.x = q->x + n * px, .tx = p->tx + n * px, .gy = p->gy ? p->gy + n * py : NULL,
                      .tgy = p->tgy ? p->tgy + n * py : NULL, .out = p->out + n * (p->backward ? px : py),
                      .h = q->H, .w = q->W, .c = q->C};
}

/* Channels [c, end) of image n. */
static void first_sweep(const problem *p, int64_t n, int64_t c, int64_t end)
{
    const operands o = operands_of(p, n);
    const coeffs k = coeffs_of(p, n);
    const int relu = p->call.a->relu, pool = p->call.a->pool != 0, has_tg = p->tgy != NULL;
    sums *s = p->sum + n * p->call.C;
    if (!p->backward)
        sweep_first_forward(&o, &k, c, end, relu, pool, has_tg, s);
    else if (relu && pool && has_tg)
        sweep_first_fused(&o, &k, c, end, relu, pool, has_tg, s);
    else
        sweep_first_backward(&o, &k, c, end, relu, pool, has_tg, s);
}

static void second_sweep(const problem *p, int64_t n, int64_t c, int64_t end)
{
    const operands o = operands_of(p, n);
    const coeffs k = coeffs_of(p, n);
    const int relu = p->call.a->relu, pool = p->call.a->pool != 0, has_tg = p->tgy != NULL;
    if (!p->backward && relu && pool)
        sweep_forward_fused(&o, &k, c, end, relu, pool, has_tg, NULL);
    else if (!p->backward)
        sweep_second_forward(&o, &k, c, end, relu, pool, has_tg, NULL);
    else if (relu && pool && has_tg)
        sweep_second_fused(&o, &k, c, end, relu, pool, has_tg, NULL);
    else
        sweep_second_backward(&o, &k, c, end, relu, pool, has_tg, NULL);
}

static void sum_affine(const problem *p)
{
    const rt_norm_call *q = &p->call;
    for (int64_t i = 0; i < q->nets * q->C; i++) {
        const int64_t first = i / q->C * q->n_net, c = i % q->C;
        double a = 0, b = 0;
        for (int64_t n = first; n < first + q->n_net; n++) {
            a += p->sum[n * q->C + c].gt;
            b += p->sum[n * q->C + c].tg;
        }
        p->tggamma[i] = (float)a;
        p->tgbeta[i] = (float)b;
    }
}

/* Channels to take at once: whole groups, and few, so that the second sweep finds in the cache what the first has read. */
static int64_t block_of(const rt_norm_call *q, int64_t per_group)
{
    if (per_group >= LANES || LANES % per_group) return q->C;
    return LANES;
}

static rt_status run(const rt_prepared *prep, const rt_kernel_io *io)
{
    const rt_node *node = prep->node;
    problem p = {.call = rt_norm_call_of(node, io), .backward = node->op == RT_OP_NORM_DX_TANGENT, .mean = io->in[3],
                 .rstd = io->in[4], .out = io->out[0]};
    const rt_norm_call *q = &p.call;
    p.batch = q->a->kind == RT_NORM_BATCH;
    p.gy = p.backward ? io->in[5] : NULL;
    p.tx = io->in[p.backward ? 6 : 5];
    p.tgamma = io->in[p.backward ? 7 : 6];
    p.tbeta = p.backward ? NULL : io->in[7];
    p.tgy = p.backward && node->n_in == 9 ? io->in[8] : NULL;
    p.tggamma = p.backward ? io->out[1] : NULL;
    p.tgbeta = p.backward ? io->out[2] : NULL;
    p.sum = io->scratch;
    p.per = (float *)(p.sum + q->N * q->C);
    const int64_t per_group = q->C / q->groups;
    p.m = (double)(q->H * q->W) * (double)(p.batch ? q->n_net : per_group);
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < q->N; n++) {
        const int64_t step = block_of(q, p.batch ? q->C : per_group);
        fill_affine(&p, n);
        for (int64_t c = 0, end; c < q->C; c = end) {
            end = c + step < q->C ? c + step : q->C;
            first_sweep(&p, n, c, end);
            if (p.batch) continue;
            for (int64_t g = c / per_group; g < end / per_group; g++) finish_stat(&p, n, 1, g * per_group, per_group);
            second_sweep(&p, n, c, end);
        }
    }
    if (p.batch) {
        for (int64_t i = 0; i < q->nets; i++)
            for (int64_t c = 0; c < q->C; c++) finish_stat(&p, i * q->n_net, q->n_net, c, 1);
#pragma omp parallel for schedule(static)
        for (int64_t n = 0; n < q->N; n++) second_sweep(&p, n, 0, q->C);
    }
    if (p.backward) sum_affine(&p);
    return RT_OK;
}

static rt_status prepare(rt_backend *be, rt_prepared *p)
{
    const rt_shape *x = &p->node->in_shape[0];
    (void)be;
    p->scratch_bytes = (size_t)(x->d[0] * x->d[3]) * (sizeof(sums) + 8 * sizeof(float));
    p->impl = "loop fused";
    return RT_OK;
}

void rt_cpu_norm_tangent_kernels(rt_kernel *t)
{
    t[RT_OP_NORM_TANGENT] = (rt_kernel){.prepare = prepare, .run = run};
    t[RT_OP_NORM_DX_TANGENT] = (rt_kernel){.prepare = prepare, .run = run};
}
