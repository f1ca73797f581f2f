/* Checked rows, means, centred sides, eigenvalues: the ground the measures stand on. */
#include <math.h>

#include "base/alloc.h"
#include "metrics/internal.h"

static const float *row_of(rt_points p, int64_t i) { return p.x + (p.idx ? p.idx[i] : i) * p.d; }

rt_status rt_points_check(const char *what, rt_points p)
{
    if (p.n < 1 || p.d < 1 || !p.x || p.n > INT64_MAX / p.d / (int64_t)sizeof(double) || p.d > INT32_MAX)
        return RT_RAISE(RT_ERR_ARG, "%s features: %lld x %lld", what, (long long)p.n, (long long)p.d);
    int64_t bad = p.n;
#pragma omp parallel for schedule(static) reduction(min : bad) if (p.n * p.d > 100000)
    for (int64_t i = 0; i < p.n; i++) {
        const float *x = row_of(p, i);
        double s = 0; /* 0 * x is 0 for every finite x, so the sum is 0 or NaN */
        for (int64_t k = 0; k < p.d; k++) s += 0.0 * (double)x[k];
        if (s != 0 && i < bad) bad = i;
    }
    if (bad < p.n)
        return RT_RAISE(RT_ERR_NUMERIC, "%s feature row %lld of %lld holds NaN or infinity", what,
                        (long long)(p.idx ? p.idx[bad] : bad), (long long)p.n);
    return RT_OK;
}

rt_status rt_points_pair_check(rt_points real, rt_points set)
{
    rt_status st = RT_OK;
    if (real.d != set.d)
        return RT_RAISE(RT_ERR_ARG, "real features have %lld dimensions, the set's %lld", (long long)real.d,
                        (long long)set.d);
    RT_TRY(rt_points_check("real", real));
    RT_TRY(rt_points_check("set", set));
out:
    return st;
}

void rt_points_mean(rt_points p, double *mean)
{
    enum { COLUMNS = 64 }; /* by columns: every sum runs over the rows in order */
#pragma omp parallel for schedule(static) if (p.n * p.d > 100000)
    for (int64_t k0 = 0; k0 < p.d; k0 += COLUMNS) {
        const int64_t k1 = p.d - k0 < COLUMNS ? p.d : k0 + COLUMNS;
        for (int64_t k = k0; k < k1; k++) mean[k] = 0;
        for (int64_t i = 0; i < p.n; i++) {
            const float *x = row_of(p, i);
            for (int64_t k = k0; k < k1; k++) mean[k] += (double)x[k];
        }
        for (int64_t k = k0; k < k1; k++) mean[k] /= (double)p.n;
    }
}

rt_status rt_side_open(rt_points p, const double *mean, rt_side *s)
{
    rt_status st = RT_OK;
    *s = (rt_side){.m = {.p = p, .mean = mean}};
    if (!mean) {
        RT_ALLOC(s->mean, (size_t)p.d * sizeof *s->mean, "a mean of features");
        rt_points_mean(p, s->mean);
        s->m.mean = s->mean;
    }
    RT_ALLOC(s->norm2, (size_t)p.n * sizeof *s->norm2, "norms of features");
    RT_TRY(rt_norms(&s->m, s->norm2));
    s->m.norm2 = s->norm2;
out:
    return st;
}

void rt_side_close(rt_side *s)
{
    rt_free(s->mean);
    rt_free(s->norm2);
    *s = (rt_side){0};
}
