#include "methods/coreset/rows.h"

#include <math.h>

#include "base/alloc.h"

enum { LANES = 16, COLUMNS = 64 };

/* The binary travels: one body, compiled for three widths, chosen at load time. Sanitizer run-times do not survive the
 * resolver, which runs before they are set up. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) &&                   \
    !defined(__SANITIZE_THREAD__)
#define WIDE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDE
#endif

static double fold(const double a[LANES])
{
    double b[4] = {0};
    for (int l = 0; l < LANES; l++) b[l & 3] += a[l];
    return (b[0] + b[1]) + (b[2] + b[3]);
}

WIDE static void dist2_range(const float *x, const double *inv, const double *w, int64_t d, int64_t n, double *out)
{
    int64_t body = d - d % LANES;
    for (int64_t i = 0; i < n; i++, x += d) {
        double a[LANES] = {0}, s = inv[i];
        for (int64_t k = 0; k < body; k += LANES)
            for (int l = 0; l < LANES; l++) {
                double t = (double)x[k + l] * s - w[k + l];
                a[l] += t * t;
            }
        for (int64_t k = body; k < d; k++) {
            double t = (double)x[k] * s - w[k];
            a[k - body] += t * t;
        }
        out[i] = fold(a);
    }
}

void rt_rows_dist2(const rt_rows *r, const double *point, double *out)
{
    enum { ROWS = 16 }; /* a task: enough to amortise the schedule, few enough to balance a class of a hundred */
    int64_t tasks = (r->n + ROWS - 1) / ROWS;
#pragma omp parallel for schedule(static) if (r->n * r->d > 65536)
    for (int64_t t = 0; t < tasks; t++) {
        int64_t i = t * ROWS, m = r->n - i < ROWS ? r->n - i : ROWS;
        dist2_range(r->x + i * r->d, r->inv + i, point, r->d, m, out + i);
    }
}

void rt_rows_get(const rt_rows *r, int64_t i, double *out)
{
    for (int64_t k = 0; k < r->d; k++) out[k] = (double)r->x[i * r->d + k] * r->inv[i];
}

void rt_rows_mean(const rt_rows *r, double *mean)
{
    int64_t tasks = (r->d + COLUMNS - 1) / COLUMNS; /* by columns: every sum runs over the rows in order */
#pragma omp parallel for schedule(static) if (r->n * r->d > 65536)
    for (int64_t t = 0; t < tasks; t++) {
        int64_t k0 = t * COLUMNS, k1 = k0 + COLUMNS < r->d ? k0 + COLUMNS : r->d;
        for (int64_t k = k0; k < k1; k++) mean[k] = 0;
        for (int64_t i = 0; i < r->n; i++)
            for (int64_t k = k0; k < k1; k++) mean[k] += (double)r->x[i * r->d + k] * r->inv[i];
        for (int64_t k = k0; k < k1; k++) mean[k] /= (double)r->n;
    }
}

rt_status rt_rows_open(const float *feat, int64_t n, int64_t d, int64_t budget, bool raw, rt_rows *r)
{
    rt_status st = RT_OK;
    double *zero = NULL, *norm2 = NULL;
    *r = (rt_rows){.x = feat, .n = n, .d = d};
    if (n < 0 || n > UINT32_MAX || d < 1 || budget < 0 || n > INT64_MAX / d / (int64_t)sizeof *feat || (n && !feat))
        return RT_RAISE(RT_ERR_ARG, "selection of %lld from %lld x %lld features", (long long)budget, (long long)n,
                        (long long)d);
    if (n == 0) return RT_OK;
    RT_ALLOC(zero, (size_t)d * sizeof *zero, "a feature row");
    RT_ALLOC(norm2, (size_t)n * sizeof *norm2, "feature norms");
    RT_ALLOC(r->inv, (size_t)n * sizeof *r->inv, "feature norms");
    for (int64_t i = 0; i < n; i++) r->inv[i] = 1;
    rt_rows_dist2(r, zero, norm2); /* squares of floats cannot overflow a double: not finite means a bad entry */
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(norm2[i])) {
            st = RT_RAISE(RT_ERR_NUMERIC, "feature row %lld of %lld holds NaN or infinity", (long long)i, (long long)n);
            goto out;
        }
        if (!raw) r->inv[i] = norm2[i] > 0 ? 1 / sqrt(norm2[i]) : 0;
    }
out:
    rt_free(zero);
    rt_free(norm2);
    return st;
}

void rt_rows_fini(rt_rows *r)
{
    rt_free(r->inv);
    r->inv = NULL;
}
