/* Frechet distance between Gaussians fitted to two sets of features (Dowson and Landau 1982; FID, Heusel et al. 2017):
 *
 *     FD = |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^1/2,    covariances with n - 1
 *
 * The last trace is the sum of square roots of the eigenvalues of S1 S2, which are those of the symmetric
 *   dense     S1^1/2 S2 S1^1/2               (d x d)
 *   low rank  Yc S1 Yc' / (m - 1)            (m x m, Yc the centred rows of the set)
 * and equal, so m < d needs no ridge. Eigenvalues below (order) eps (largest) are round-off of zeros, whose square
 * roots would add up to 1e-8 of the largest each: they are dropped. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "metrics/internal.h"

static double sum_of_roots(const double *ascending, int64_t n)
{
    const double floor = (double)n * DBL_EPSILON * ascending[n - 1];
    double s = 0;
    for (int64_t i = 0; i < n; i++)
        if (ascending[i] > floor) s += sqrt(ascending[i]);
    return s;
}

/* a <- a^1/2 for a symmetric positive semi-definite matrix: V' sqrt(w) V with eigenvectors in the rows of V. */
static rt_status matrix_root(double *a, int64_t d)
{
    rt_status st = RT_OK;
    double *w = NULL, *t = NULL;
    RT_ALLOC(w, (size_t)d * sizeof *w, "eigenvalues");
    RT_ALLOC(t, (size_t)(d * d) * sizeof *t, "a matrix root");
    RT_TRY(rt_eigen(a, d, w, true));
    for (int64_t j = 0; j < d; j++) { /* t = (w^1/4 V)', so that t t' is the root */
        const double f = w[j] > 0 ? sqrt(sqrt(w[j])) : 0;
        for (int64_t k = 0; k < d; k++) t[k * d + j] = f * a[j * d + k];
    }
    const rt_mat m = {.p = {.n = d, .d = d}, .g = t};
    RT_TRY(rt_product(&m, &m, false, a));
out:
    rt_free(w);
    rt_free(t);
    return st;
}

rt_status rt_moments_open(rt_points p, bool root, rt_moments *m)
{
    rt_status st = RT_OK;
    const int64_t d = p.d;
    *m = (rt_moments){.d = d};
    if (p.n < 2) return RT_RAISE(RT_ERR_ARG, "the covariance of one feature row is undefined");
    RT_ALLOC(m->mean, (size_t)d * sizeof *m->mean, "a mean of features");
    RT_ALLOC(m->cov, (size_t)(d * d) * sizeof *m->cov, "a covariance");
    rt_points_mean(p, m->mean);
    RT_TRY(rt_scatter(&(rt_mat){.p = p, .mean = m->mean}, NULL, m->cov));
    for (int64_t i = 0; i < d * d; i++) m->cov[i] /= (double)(p.n - 1);
    for (int64_t i = 0; i < d; i++) m->trace += m->cov[i * d + i];
    if (root) {
        RT_ALLOC(m->root, (size_t)(d * d) * sizeof *m->root, "the root of a covariance");
        memcpy(m->root, m->cov, (size_t)(d * d) * sizeof *m->root);
        RT_TRY(matrix_root(m->root, d));
    }
out:
    return st;
}

void rt_moments_close(rt_moments *m)
{
    rt_free(m->mean);
    rt_free(m->cov);
    rt_free(m->root);
    *m = (rt_moments){0};
}

static double sum(const double *x, int64_t n)
{
    double s = 0;
    for (int64_t i = 0; i < n; i++) s += x[i];
    return s;
}

static double assemble(const double *m1, const double *m2, int64_t d, double trace1, double trace2, double roots)
{
    double apart = 0;
    for (int64_t k = 0; k < d; k++) apart += (m1[k] - m2[k]) * (m1[k] - m2[k]);
    return apart + (trace1 + trace2 - 2 * roots);
}

/* Sum of roots of the eigenvalues of g (n x n, destroyed) scaled by f. */
static rt_status roots_of(double *g, int64_t n, double f, double *out)
{
    rt_status st = RT_OK;
    double *w = NULL;
    RT_ALLOC(w, (size_t)n * sizeof *w, "eigenvalues");
    for (int64_t i = 0; i < n * n; i++) g[i] *= f;
    RT_TRY(rt_eigen(g, n, w, false));
    *out = sum_of_roots(w, n);
out:
    rt_free(w);
    return st;
}

static rt_status dense(const rt_moments *m, const rt_mat *set, double *roots)
{
    rt_status st = RT_OK;
    const int64_t d = m->d;
    double *cov = NULL, *t = NULL;
    const rt_mat root = {.p = {.n = d, .d = d}, .g = m->root};
    if (!m->root) return RT_RAISE(RT_ERR_ARG, "dense Frechet distance without the root of the covariance");
    RT_ALLOC(cov, (size_t)(d * d) * sizeof *cov, "a covariance");
    RT_ALLOC(t, (size_t)(d * d) * sizeof *t, "a product of covariances");
    RT_TRY(rt_scatter(set, NULL, cov));
    RT_TRY(rt_product(&root, &(rt_mat){.p = {.n = d, .d = d}, .g = cov}, false, t)); /* S1^1/2 S2 (both symmetric) */
    RT_TRY(rt_product(&root, &(rt_mat){.p = {.n = d, .d = d}, .g = t}, false, cov)); /* S1^1/2 (S1^1/2 S2)' */
    RT_TRY(roots_of(cov, d, 1 / (double)(set->p.n - 1), roots));
out:
    rt_free(cov);
    rt_free(t);
    return st;
}

static rt_status low_rank(const rt_moments *m, const rt_mat *set, double *roots)
{
    rt_status st = RT_OK;
    const int64_t d = m->d, n = set->p.n;
    double *w = NULL, *g = NULL;
    RT_ALLOC(w, (size_t)(n * d) * sizeof *w, "a product of covariances");
    RT_ALLOC(g, (size_t)(n * n) * sizeof *g, "a product of covariances");
    RT_TRY(rt_product(set, &(rt_mat){.p = {.n = d, .d = d}, .g = m->cov}, false, w));
    RT_TRY(rt_product(&(rt_mat){.p = {.n = n, .d = d}, .g = w}, set, false, g));
    RT_TRY(roots_of(g, n, 1 / (double)(n - 1), roots));
out:
    rt_free(w);
    rt_free(g);
    return st;
}

rt_status rt_frechet_to(const rt_moments *m, rt_points set, rt_frechet_form form, double *out)
{
    rt_status st = RT_OK;
    rt_side y = {0};
    double roots = 0;
    if (set.d != m->d)
        return RT_RAISE(RT_ERR_ARG, "real features have %lld dimensions, the set's %lld", (long long)m->d,
                        (long long)set.d);
    if (set.n < 2) return RT_RAISE(RT_ERR_ARG, "the covariance of one feature row is undefined");
    RT_TRY(rt_side_open(set, NULL, &y));
    if (form == RT_FRECHET_DENSE || (form == RT_FRECHET_AUTO && set.n >= set.d))
        RT_TRY(dense(m, &y.m, &roots));
    else
        RT_TRY(low_rank(m, &y.m, &roots));
    *out = assemble(m->mean, y.mean, m->d, m->trace, sum(y.norm2, set.n) / (double)(set.n - 1), roots);
out:
    rt_side_close(&y);
    return st;
}

/* Without a d x d matrix: Yc S1 Yc' (n - 1) = (Yc Xc') (Yc Xc')', over pieces of the real rows. */
static rt_status low_rank_of_rows(rt_points real, rt_points set, double *out)
{
    enum { PIECE = 2048 };
    rt_status st = RT_OK;
    rt_side x = {0}, y = {0};
    double *b = NULL, *g = NULL, roots = 0;
    const int64_t m = set.n, n = real.n;
    RT_TRY(rt_side_open(real, NULL, &x));
    RT_TRY(rt_side_open(set, NULL, &y));
    RT_ALLOC(b, (size_t)(m * (n < PIECE ? n : PIECE)) * sizeof *b, "a product of features");
    RT_ALLOC(g, (size_t)(m * m) * sizeof *g, "a product of covariances");
    for (int64_t i0 = 0; i0 < n; i0 += PIECE) {
        rt_mat piece = x.m;
        piece.p.n = n - i0 < PIECE ? n - i0 : PIECE;
        if (piece.p.idx)
            piece.p.idx += i0;
        else
            piece.p.x += i0 * real.d;
        const rt_mat rows = {.p = {.n = m, .d = piece.p.n}, .g = b};
        RT_TRY(rt_product(&y.m, &piece, false, b));
        RT_TRY(rt_product(&rows, &rows, true, g));
    }
    RT_TRY(roots_of(g, m, 1 / ((double)(n - 1) * (double)(m - 1)), &roots));
    const double trace_x = sum(x.norm2, n) / (double)(n - 1), trace_y = sum(y.norm2, m) / (double)(m - 1);
    *out = assemble(x.mean, y.mean, real.d, trace_x, trace_y, roots);
out:
    rt_side_close(&x);
    rt_side_close(&y);
    rt_free(b);
    rt_free(g);
    return st;
}

rt_status rt_frechet(rt_points real, rt_points set, rt_frechet_form form, double *out)
{
    rt_status st = RT_OK;
    rt_moments m = {0};
    RT_TRY(rt_points_pair_check(real, set));
    if (real.n < 2 || set.n < 2) return RT_RAISE(RT_ERR_ARG, "the covariance of one feature row is undefined");
    if (form == RT_FRECHET_LOW_RANK || (form == RT_FRECHET_AUTO && set.n < set.d)) {
        RT_TRY(low_rank_of_rows(real, set, out));
    } else {
        RT_TRY(rt_moments_open(real, true, &m));
        RT_TRY(rt_frechet_to(&m, set, RT_FRECHET_DENSE, out));
    }
out:
    rt_moments_close(&m);
    return st;
}
