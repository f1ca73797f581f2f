/* Dot products of all pairs of rows, in tiles: the one hot loop of the metrics.
 *
 * A block of columns is packed by all threads into panels of 16 rows; then every thread packs chunks of 64 rows into
 * panels of 8 and multiplies. Each product is a chain of multiply-adds over the features, cut every 256 features where
 * the partial sum is added to the total; nothing about the tiling enters that order, so a product is a function of its
 * two rows alone: blocked equals unblocked bit for bit, a.b equals b.a, and a row is exactly at distance 0 from a copy.
 *
 * float64 throughout rather than float32 tiles with a second look at close pairs: half the speed at most, and every
 * comparison of a distance with a radius is right to 1e-15 without a case distinction.
 *
 * The file is compiled with contraction of a * b + c, so that vectors use fused multiply-add where the CPU has it. */
#include <omp.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "metrics/internal.h"

enum { MR = 8, NR = 16, KB = 256, ROWS = 64, COLUMNS = 512, SCATTER = 2048 };

/* One vector of eight doubles: a register of AVX-512, two of AVX2, four of SSE2. */
typedef double v8 __attribute__((vector_size(64)));

typedef void (*micro_fn)(const double *a, const double *b, int64_t kc, double *c, int64_t ldc, bool first);

/* c[rows][8 vecs] (+)= a b over kc features; a in panels of MR, b in panels of NR. */
#define MICRO_BODY(rows, vecs)                                                                                         \
    v8 acc[rows][vecs];                                                                                                \
    for (int r = 0; r < (rows); r++)                                                                                   \
        for (int v = 0; v < (vecs); v++) acc[r][v] = (v8){0};                                                          \
    for (int64_t k = 0; k < kc; k++, a += MR, b += NR) {                                                               \
        v8 bv[vecs];                                                                                                   \
        for (int v = 0; v < (vecs); v++) bv[v] = *(const v8 *)(b + 8 * v);                                             \
        for (int r = 0; r < (rows); r++)                                                                               \
            for (int v = 0; v < (vecs); v++) acc[r][v] += a[r] * bv[v];                                                \
    }                                                                                                                  \
    for (int r = 0; r < (rows); r++)                                                                                   \
        for (int v = 0; v < (vecs); v++) {                                                                             \
            v8 *to = (v8 *)(c + r * ldc + 8 * v);                                                                      \
            *to = first ? acc[r][v] : *to + acc[r][v];                                                                 \
        }

#define MICRO(name, attribute, rows, vecs)                                                                             \
    attribute static void name##_part(const double *a, const double *b, int64_t kc, double *c, int64_t ldc,            \
                                      bool first)                                                                      \
    {                                                                                                                  \
        MICRO_BODY(rows, vecs)                                                                                         \
    }                                                                                                                  \
    attribute static void name(const double *a, const double *b, int64_t kc, double *c, int64_t ldc, bool first)       \
    {                                                                                                                  \
        for (int r = 0; r < MR; r += (rows))                                                                           \
            for (int v = 0; v < NR; v += 8 * (vecs)) name##_part(a + r, b + v, kc, c + r * ldc + v, ldc, first);       \
    }

#if defined(__x86_64__) && defined(__GNUC__)
MICRO(micro_avx512, __attribute__((target("avx512f"))), 8, 2)
MICRO(micro_avx2, __attribute__((target("avx2,fma"))), 4, 1)
#endif
MICRO(micro_plain, , 2, 1)

static micro_fn choose_micro(void)
{
#if defined(__x86_64__) && defined(__GNUC__)
    if (__builtin_cpu_supports("avx512f")) return micro_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return micro_avx2;
#endif
    return micro_plain;
}

/* Rows i0..i0+n of m into one panel of width w: out[k * w + r]; missing rows are zeros. */
static void pack(const rt_mat *m, int64_t i0, int64_t n, int64_t w, double *out)
{
    const int64_t d = m->p.d;
    if (n < w) memset(out, 0, (size_t)(d * w) * sizeof *out);
    for (int64_t r = 0; r < n; r++) {
        int64_t i = i0 + r;
        if (m->g) {
            const double *x = m->g + i * d;
            for (int64_t k = 0; k < d; k++) out[k * w + r] = x[k];
        } else {
            const float *x = m->p.x + (m->p.idx ? m->p.idx[i] : i) * d;
            if (m->mean)
                for (int64_t k = 0; k < d; k++) out[k * w + r] = (double)x[k] - m->mean[k];
            else
                for (int64_t k = 0; k < d; k++) out[k * w + r] = (double)x[k];
        }
    }
}

static void multiply(micro_fn micro, const double *a, const double *b, int64_t rows, int64_t cols, int64_t d, double *c)
{
    for (int64_t k = 0; k < d; k += KB) {
        int64_t kc = d - k < KB ? d - k : KB;
        for (int64_t j = 0; j < cols; j += NR)
            for (int64_t i = 0; i < rows; i += MR)
                micro(a + i * d + k * MR, b + j * d + k * NR, kc, c + i * cols + j, cols, k == 0);
    }
}

static int64_t up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

rt_status rt_dots(const rt_mat *a, const rt_mat *b, int64_t tile, bool upper, const rt_visit *visit, int n_visit)
{
    rt_status st = RT_OK;
    const int64_t d = a->p.d, na = a->p.n, nb = b->p.n;
    const int64_t cols = tile < 1 ? COLUMNS : tile < nb ? tile : nb, rows = cols < ROWS ? up(cols, MR) : ROWS;
    const int64_t width = up(cols < nb ? cols : nb, NR), chunks = (na + rows - 1) / rows;
    const int threads = na * nb * d > 100000 ? omp_get_max_threads() : 1;
    const micro_fn micro = choose_micro();
    double *panels = NULL, *scratch = NULL;
    if (na == 0 || nb == 0) return RT_OK;
    const int64_t each = rows * d + rows * width;
    RT_ALLOC(panels, (size_t)(width * d) * sizeof *panels, "packed feature columns");
    RT_ALLOC(scratch, (size_t)(threads * each) * sizeof *scratch, "packed feature rows");
    for (int64_t j0 = 0; j0 < nb; j0 += cols) {
        const int64_t m = nb - j0 < cols ? nb - j0 : cols, wide = up(m, NR);
        if (rt_stop_requested()) {
            st = RT_RAISE(RT_ERR_CANCELLED, "stopped while measuring");
            goto out;
        }
#pragma omp parallel num_threads(threads)
        {
            double *pa = scratch + omp_get_thread_num() * each, *c = pa + rows * d;
#pragma omp for schedule(static)
            for (int64_t j = 0; j < wide; j += NR) pack(b, j0 + j, m - j < NR ? m - j : NR, NR, panels + j * d);
#pragma omp for schedule(dynamic)
            for (int64_t t = 0; t < chunks; t++) {
                const int64_t i0 = t * rows, n = na - i0 < rows ? na - i0 : rows;
                if (upper && i0 >= j0 + m) continue;
                for (int64_t i = 0; i < n; i += MR) pack(a, i0 + i, n - i < MR ? n - i : MR, MR, pa + i * d);
                multiply(micro, pa, panels, up(n, MR), wide, d, c);
                for (int64_t i = 0; i < n; i++)
                    for (int v = 0; v < n_visit; v++) visit[v].fn(visit[v].ctx, i0 + i, j0, m, c + i * wide);
            }
        }
    }
out:
    rt_free(panels);
    rt_free(scratch);
    return st;
}

rt_status rt_norms(const rt_mat *a, double *norm2)
{
    rt_status st = RT_OK;
    const int64_t d = a->p.d, n = a->p.n, each = 2 * NR * d + NR * NR;
    const int threads = n * d > 10000 ? omp_get_max_threads() : 1;
    const micro_fn micro = choose_micro();
    double *scratch = NULL;
    RT_ALLOC(scratch, (size_t)(threads * each) * sizeof *scratch, "packed feature rows");
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i0 = 0; i0 < n; i0 += NR) {
        double *pa = scratch + omp_get_thread_num() * each, *pb = pa + NR * d, *c = pb + NR * d;
        const int64_t m = n - i0 < NR ? n - i0 : NR;
        for (int64_t i = 0; i < m; i += MR) pack(a, i0 + i, m - i < MR ? m - i : MR, MR, pa + i * d);
        pack(a, i0, m, NR, pb);
        multiply(micro, pa, pb, up(m, MR), NR, d, c);
        for (int64_t i = 0; i < m; i++) norm2[i0 + i] = c[i * NR + i];
    }
out:
    rt_free(scratch);
    return st;
}

typedef struct store {
    double *out;
    int64_t ld;
    bool add;
} store;

static void store_row(void *ctx, int64_t i, int64_t j0, int64_t m, const double *dot)
{
    const store *s = ctx;
    double *to = s->out + i * s->ld + j0;
    if (s->add)
        for (int64_t j = 0; j < m; j++) to[j] += dot[j];
    else
        memcpy(to, dot, (size_t)m * sizeof *to);
}

rt_status rt_product(const rt_mat *a, const rt_mat *b, bool add, double *out)
{
    store s = {out, b->p.n, add};
    return rt_dots(a, b, 0, false, &(rt_visit){store_row, &s}, 1);
}

/* Samples in pieces of SCATTER: a piece is transposed, its features' dot products over the samples are added to out. */
rt_status rt_scatter(const rt_mat *a, const double *inv, double *out)
{
    rt_status st = RT_OK;
    const int64_t n = a->p.n, d = a->p.d;
    double *t = NULL;
    store s = {out, d, true};
    RT_ALLOC(t, (size_t)(d * (n < SCATTER ? n : SCATTER)) * sizeof *t, "transposed features");
    memset(out, 0, (size_t)(d * d) * sizeof *out);
    for (int64_t i0 = 0; i0 < n; i0 += SCATTER) {
        const int64_t m = n - i0 < SCATTER ? n - i0 : SCATTER;
#pragma omp parallel for schedule(static) if (m * d > 100000)
        for (int64_t k0 = 0; k0 < d; k0 += NR)
            for (int64_t i = 0; i < m; i++) {
                const float *x = a->p.x + (a->p.idx ? a->p.idx[i0 + i] : i0 + i) * d;
                const double f = inv ? inv[i0 + i] : 1;
                for (int64_t k = k0; k < d && k < k0 + NR; k++)
                    t[k * m + i] = f * ((double)x[k] - (a->mean ? a->mean[k] : 0));
            }
        const rt_mat tm = {.p = {.n = d, .d = m}, .g = t};
        RT_TRY(rt_dots(&tm, &tm, 0, true, &(rt_visit){store_row, &s}, 1));
    }
    for (int64_t i = 0; i < d; i++)
        for (int64_t j = 0; j < i; j++) out[i * d + j] = out[j * d + i];
out:
    rt_free(t);
    return st;
}
