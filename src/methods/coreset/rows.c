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

static double sum_of_squares(const float *x, double s, const double *w, int64_t d)
{
    double a[LANES] = {0};
    for (int64_t k = 0; k < d; k++) {
        double t = (double)x[k] * s - w[k];
        a[k % LANES] += t * t;
    }
    return fold(a);
}

/* Inner products of ROWS_AT_ONCE rows with w: enough independent sums to hide the latency of an addition. */
enum { ROWS_AT_ONCE = 4 };
typedef float f8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef double d8 __attribute__((vector_size(64)));
typedef double d8u __attribute__((vector_size(64), aligned(8), may_alias));

WIDE static void dots(const float *const x[ROWS_AT_ONCE], const double *w, int64_t d, double out[ROWS_AT_ONCE])
{
    d8 a[ROWS_AT_ONCE][2] = {{{0}}};
    int64_t body = d - d % LANES;
    for (int64_t k = 0; k < body; k += LANES) {
        d8 w0 = *(const d8u *)(w + k), w1 = *(const d8u *)(w + k + 8);
        for (int r = 0; r < ROWS_AT_ONCE; r++) {
            a[r][0] += __builtin_convertvector(*(const f8 *)(x[r] + k), d8) * w0;
            a[r][1] += __builtin_convertvector(*(const f8 *)(x[r] + k + 8), d8) * w1;
        }
    }
    for (int r = 0; r < ROWS_AT_ONCE; r++) {
        double lane[LANES];
        for (int l = 0; l < LANES; l++) lane[l] = a[r][l / 8][l % 8];
        for (int64_t k = body; k < d; k++) lane[k - body] += (double)x[r][k] * w[k];
        out[r] = fold(lane);
    }
}

/* |x|^2 - 2 x.w + |w|^2 costs three fifths of the sum of squares. What it loses to cancellation is about 1e-15 of
 * |x|^2 + |w|^2, so a result over 1e-5 of that has ten good digits, and a smaller one is computed again the long way. */
static void dist2_range(const rt_rows *r, int64_t i0, int64_t n, const double *w, double w2, double *out)
{
    for (int64_t i = 0; i < n; i += ROWS_AT_ONCE) {
        const float *x[ROWS_AT_ONCE];
        double dot[ROWS_AT_ONCE];
        for (int64_t k = 0; k < ROWS_AT_ONCE; k++) x[k] = r->x + (i0 + (i + k < n ? i + k : n - 1)) * r->d;
        dots(x, w, r->d, dot);
        for (int64_t k = 0; k < ROWS_AT_ONCE && i + k < n; k++) {
            int64_t row = i0 + i + k;
            double both = r->norm2[row] + w2, d2 = both - 2 * r->inv[row] * dot[k];
            out[row] = d2 > 1e-5 * both ? d2 : sum_of_squares(x[k], r->inv[row], w, r->d);
        }
    }
}

void rt_rows_dist2(const rt_rows *r, const double *point, double *out)
{
    enum { ROWS = 16 }; /* a task: enough to amortise the schedule, few enough to balance a class of a hundred */
    int64_t tasks = (r->n + ROWS - 1) / ROWS;
    double w2 = 0;
    for (int64_t k = 0; k < r->d; k++) w2 += point[k] * point[k];
#pragma omp parallel for schedule(static) if (r->n * r->d > 65536)
    for (int64_t t = 0; t < tasks; t++) {
        int64_t i = t * ROWS, m = r->n - i < ROWS ? r->n - i : ROWS;
        dist2_range(r, i, m, point, w2, out);
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
    double *zero = NULL;
    *r = (rt_rows){.x = feat, .n = n, .d = d};
    if (n < 0 || n > UINT32_MAX || d < 1 || budget < 0 || n > INT64_MAX / d / (int64_t)sizeof *feat || (n && !feat))
        return RT_RAISE(RT_ERR_ARG, "selection of %lld from %lld x %lld features", (long long)budget, (long long)n,
                        (long long)d);
    if (n == 0) return RT_OK;
    RT_ALLOC(zero, (size_t)d * sizeof *zero, "a feature row");
    RT_ALLOC(r->norm2, (size_t)n * sizeof *r->norm2, "feature norms");
    RT_ALLOC(r->inv, (size_t)n * sizeof *r->inv, "feature norms");
    for (int64_t i = 0; i < n; i++) {
        double q = sum_of_squares(feat + i * d, 1, zero, d);
        if (!isfinite(q)) { /* squares of floats cannot overflow a double: an entry is bad */
            st = RT_RAISE(RT_ERR_NUMERIC, "feature row %lld of %lld holds NaN or infinity", (long long)i, (long long)n);
            goto out;
        }
        r->inv[i] = raw ? 1 : q > 0 ? 1 / sqrt(q) : 0;
        r->norm2[i] = raw ? q : q > 0 ? 1 : 0;
    }
out:
    rt_free(zero);
    return st;
}

void rt_rows_fini(rt_rows *r)
{
    rt_free(r->inv);
    rt_free(r->norm2);
    r->inv = r->norm2 = NULL;
}
