/* Distances of real images to their nearest image of the set: the k-centre view of coverage. The maximum is the
 * covering radius, a statistic of outliers; the mean is the one to lead with.
 *
 * A real image is taken to be in the set when its squared distance is below 1e-8 of the mean squared norm of the
 * centred real features: features of the same image from another batch differ by about 1e-6 of their size in float32. */
#include <math.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "metrics/internal.h"

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Linear interpolation between order statistics: q = 0 is the least, q = 1 the greatest. */
static double quantile(const double *sorted, int64_t n, double q)
{
    const double at = q * (double)(n - 1);
    const int64_t lo = (int64_t)at, hi = lo + 1 < n ? lo + 1 : lo;
    return sorted[lo] + (at - (double)lo) * (sorted[hi] - sorted[lo]);
}

rt_status rt_nearest_of(const rt_cross *s, rt_nearest *out)
{
    rt_status st = RT_OK;
    const double *min2 = s->min2;
    const int64_t n = s->real->p.n;
    double *d = NULL, sum = 0, square = 0, rest = 0, same2 = 0;
    int64_t apart = 0;
    for (int64_t i = 0; i < n; i++) same2 += 1e-8 / (double)n * s->real->norm2[i];
    RT_ALLOC(d, (size_t)n * sizeof *d, "nearest distances");
    for (int64_t i = 0; i < n; i++) {
        d[i] = sqrt(min2[i]);
        sum += d[i];
        square += min2[i];
        apart += min2[i] > same2;
        rest += min2[i] > same2 ? d[i] : 0;
    }
    qsort(d, (size_t)n, sizeof *d, ascending);
    *out = (rt_nearest){.mean = sum / (double)n,
                        .mean_square = square / (double)n,
                        .max = d[n - 1],
                        .p50 = quantile(d, n, 0.5),
                        .p90 = quantile(d, n, 0.9),
                        .p99 = quantile(d, n, 0.99),
                        .rest = apart ? rest / (double)apart : 0};
out:
    rt_free(d);
    return st;
}

rt_status rt_nearest_measure(rt_points real, rt_points set, int64_t tile, rt_nearest *out)
{
    rt_status st = RT_OK;
    rt_side x = {0}, y = {0};
    rt_cross c = {0};
    RT_TRY(rt_points_pair_check(real, set));
    RT_TRY(rt_side_open(real, NULL, &x));
    RT_TRY(rt_side_open(set, x.mean, &y));
    RT_TRY(rt_cross_open(&x.m, &y.m, 0, NULL, NULL, &c));
    RT_TRY(rt_dots(&x.m, &y.m, tile, false, &(rt_visit){rt_cross_visit, &c}, 1));
    RT_TRY(rt_nearest_of(&c, out));
out:
    rt_side_close(&x);
    rt_side_close(&y);
    rt_cross_close(&c);
    return st;
}
