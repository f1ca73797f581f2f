/* Maximum mean discrepancy (Gretton et al., JMLR 2012) with RBF and cubic kernels, and the energy distance, which is
 * the same statistic for the kernel -|x - y| (Sejdinovic et al., Ann. Stat. 2013).
 *
 * Sums run along rows, a row by one thread in column order, then over rows in order. */
#include <math.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "metrics/internal.h"

/* p = a mean' (+ shift): n dot products with the mean that was subtracted. */
static rt_status mean_products(const rt_mat *a, double shift, double *p)
{
    rt_status st = RT_OK;
    const rt_mat mu = {.p = {.n = 1, .d = a->p.d}, .g = a->mean};
    RT_TRY(rt_product(a, &mu, false, p));
    for (int64_t i = 0; i < a->p.n; i++) p[i] += shift;
out:
    return st;
}

rt_status rt_kernel_sums_open(const rt_mat *a, const rt_mat *b, double sigma2, rt_kernel_sums *s)
{
    rt_status st = RT_OK;
    double shift = 0;
    *s = (rt_kernel_sums){.a = a, .b = b, .gamma = sigma2 > 0 ? 1 / (2 * sigma2) : 0};
    RT_ALLOC(s->pa, (size_t)a->p.n * sizeof(double), "kernel sums");
    RT_ALLOC(s->pb, (size_t)b->p.n * sizeof(double), "kernel sums");
    RT_ALLOC(s->rbf, (size_t)a->p.n * sizeof(double), "kernel sums");
    RT_ALLOC(s->cubic, (size_t)a->p.n * sizeof(double), "kernel sums");
    RT_ALLOC(s->dist, (size_t)a->p.n * sizeof(double), "kernel sums");
    for (int64_t k = 0; k < a->p.d; k++) shift += a->mean[k] * a->mean[k];
    RT_TRY(mean_products(a, 0, s->pa));
    RT_TRY(mean_products(b, shift, s->pb));
out:
    return st;
}

void rt_kernel_sums_close(rt_kernel_sums *s)
{
    rt_free(s->pa);
    rt_free(s->pb);
    rt_free(s->rbf);
    rt_free(s->cubic);
    rt_free(s->dist);
    *s = (rt_kernel_sums){0};
}

static double cubed(double dot, double d)
{
    double v = dot / d + 1;
    return v * v * v;
}

void rt_kernel_sums_visit(void *ctx, int64_t i, int64_t j0, int64_t m, const double *dot)
{
    const rt_kernel_sums *s = ctx;
    const double na = s->a->norm2[i], *nb = s->b->norm2 + j0, pa = s->pa[i], *pb = s->pb + j0, d = (double)s->a->p.d;
    double rbf = s->rbf[i], cubic = s->cubic[i], dist = s->dist[i];
    for (int64_t j = 0; j < m; j++) {
        cubic += cubed(dot[j] + pa + pb[j], d);
        dist += sqrt(rt_dist2(na, nb[j], dot[j]));
    }
    if (s->gamma > 0)
        for (int64_t j = 0; j < m; j++) rbf += exp(-s->gamma * rt_dist2(na, nb[j], dot[j]));
    s->rbf[i] = rbf;
    s->cubic[i] = cubic;
    s->dist[i] = dist;
}

void rt_kernel_sums_mean(const rt_kernel_sums *s, rt_kernel_means *out)
{
    const int64_t n = s->a->p.n;
    double rbf = 0, cubic = 0, dist = 0, diagonal = 0;
    const double shift = s->pb[0] - s->pa[0]; /* only used where b is a: then it is |mean|^2 */
    for (int64_t i = 0; i < n; i++) {
        rbf += s->rbf[i];
        cubic += s->cubic[i];
        dist += s->dist[i];
        diagonal += cubed(s->a->norm2[i] + 2 * s->pa[i] + shift, (double)s->a->p.d);
    }
    const double pairs = (double)n * (double)s->b->p.n;
    *out = (rt_kernel_means){
        .all = {[RT_KERNEL_RBF] = rbf / pairs, [RT_KERNEL_CUBIC] = cubic / pairs, [RT_KERNEL_ENERGY] = -dist / pairs},
        .diagonal = {[RT_KERNEL_RBF] = 1, [RT_KERNEL_CUBIC] = diagonal / (double)n, [RT_KERNEL_ENERGY] = 0}};
}

double rt_mmd_biased(double xx, double yy, double xy) { return (xx - xy) + (yy - xy); }

double rt_off_diagonal(double all, double diagonal, int64_t n)
{
    return n < 2 ? NAN : (all * (double)n - diagonal) / (double)(n - 1);
}

static rt_status means_of(const rt_mat *a, const rt_mat *b, double sigma2, int64_t tile, rt_kernel_means *out)
{
    rt_status st = RT_OK;
    rt_kernel_sums s;
    RT_TRY(rt_kernel_sums_open(a, b, sigma2, &s));
    RT_TRY(rt_dots(a, b, tile, false, &(rt_visit){rt_kernel_sums_visit, &s}, 1));
    rt_kernel_sums_mean(&s, out);
out:
    rt_kernel_sums_close(&s);
    return st;
}

rt_status rt_mmd_measure(rt_points real, rt_points set, rt_mmd_kernel kernel, double sigma2, int64_t tile, rt_mmd *out)
{
    rt_status st = RT_OK;
    rt_side x = {0}, y = {0};
    rt_kernel_means xx, yy, xy;
    if (kernel < RT_KERNEL_RBF || kernel > RT_KERNEL_ENERGY) return RT_RAISE(RT_ERR_ARG, "kernel %d", (int)kernel);
    if (kernel == RT_KERNEL_RBF && !(sigma2 > 0 && isfinite(sigma2)))
        return RT_RAISE(RT_ERR_ARG, "RBF kernel of variance %g", sigma2);
    RT_TRY(rt_points_pair_check(real, set));
    RT_TRY(rt_side_open(real, NULL, &x));
    RT_TRY(rt_side_open(set, x.mean, &y));
    if (kernel != RT_KERNEL_RBF) sigma2 = 0;
    RT_TRY(means_of(&x.m, &x.m, sigma2, tile, &xx));
    RT_TRY(means_of(&y.m, &y.m, sigma2, tile, &yy));
    RT_TRY(means_of(&x.m, &y.m, sigma2, tile, &xy));
    *out = (rt_mmd){.biased = rt_mmd_biased(xx.all[kernel], yy.all[kernel], xy.all[kernel]),
                    .unbiased = rt_mmd_biased(rt_off_diagonal(xx.all[kernel], xx.diagonal[kernel], real.n),
                                              rt_off_diagonal(yy.all[kernel], yy.diagonal[kernel], set.n),
                                              xy.all[kernel]),
                    .mean_xx = xx.all[kernel],
                    .mean_yy = yy.all[kernel],
                    .mean_xy = xy.all[kernel]};
out:
    rt_side_close(&x);
    rt_side_close(&y);
    return st;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

rt_status rt_rbf_sigma2(rt_points real, uint64_t seed, double *sigma2)
{
    enum { PAIRS = 10000 };
    rt_status st = RT_OK;
    double *d2 = NULL;
    rt_rng r = rt_rng_at(seed, RT_RNG_METRIC, 0, 0);
    RT_TRY(rt_points_check("real", real));
    if (real.n < 2 || real.n > UINT32_MAX)
        return RT_RAISE(RT_ERR_ARG, "a median distance needs 2 rows or more, not %lld", (long long)real.n);
    RT_ALLOC(d2, PAIRS * sizeof *d2, "sampled distances");
    for (int p = 0; p < PAIRS; p++) {
        int64_t i = rt_rng_below(&r, (uint32_t)real.n), j = rt_rng_below(&r, (uint32_t)real.n - 1);
        if (j >= i) j++;
        const float *x = real.x + (real.idx ? real.idx[i] : i) * real.d,
                    *y = real.x + (real.idx ? real.idx[j] : j) * real.d;
        for (int64_t k = 0; k < real.d; k++) d2[p] += ((double)x[k] - (double)y[k]) * ((double)x[k] - (double)y[k]);
    }
    qsort(d2, PAIRS, sizeof *d2, ascending);
    const double median = 0.5 * (d2[PAIRS / 2 - 1] + d2[PAIRS / 2]);
    if (!(median > 0)) {
        st = RT_RAISE(RT_ERR_NUMERIC, "half of the real feature rows are equal: no scale for the RBF kernel");
        goto out;
    }
    *sigma2 = median;
out:
    rt_free(d2);
    return st;
}
