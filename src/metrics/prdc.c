/* Precision, recall (Kynkaanniemi et al., NeurIPS 2019), density, coverage (Naeem et al., ICML 2020), and what a random
 * subset is expected to cover.
 *
 * A ball is open (strict <) and reaches to the k-th nearest *other* row of its own set, so the ball of a real image
 * holds exactly k real images when there are no ties: itself and the k - 1 nearest. Distances are compared as squares.
 * With k + 1 copies of an image the radius is 0 and nothing is inside. */
#include <math.h>

#include "base/alloc.h"
#include "metrics/internal.h"

rt_status rt_neighbours_open(const rt_mat *a, int64_t k, rt_neighbours *s)
{
    rt_status st = RT_OK;
    *s = (rt_neighbours){.a = a, .k = k};
    RT_ALLOC(s->near2, (size_t)(a->p.n * k) * sizeof *s->near2, "nearest neighbours");
    for (int64_t i = 0; i < a->p.n * k; i++) s->near2[i] = INFINITY;
out:
    return st;
}

void rt_neighbours_close(rt_neighbours *s)
{
    rt_free(s->near2);
    *s = (rt_neighbours){0};
}

void rt_neighbours_visit(void *ctx, int64_t i, int64_t j0, int64_t m, const double *dot)
{
    const rt_neighbours *s = ctx;
    const double na = s->a->norm2[i], *nb = s->a->norm2 + j0;
    double *near2 = s->near2 + i * s->k, worst = near2[s->k - 1];
    for (int64_t j = 0; j < m; j++) {
        const double d2 = rt_dist2(na, nb[j], dot[j]);
        if (d2 >= worst || j0 + j == i) continue;
        int64_t at = s->k - 1;
        for (; at > 0 && near2[at - 1] > d2; at--) near2[at] = near2[at - 1];
        near2[at] = d2;
        worst = near2[s->k - 1];
    }
}

rt_status rt_cross_open(const rt_mat *real, const rt_mat *set, int n_k, const double *const *real_r2,
                        const double *const *set_r2, rt_cross *s)
{
    rt_status st = RT_OK;
    const int64_t n = real->p.n, m = set->p.n;
    *s = (rt_cross){.real = real, .set = set, .n_k = n_k, .real_r2 = real_r2, .set_r2 = set_r2};
    RT_ALLOC(s->min2, (size_t)n * sizeof *s->min2, "nearest distances");
    for (int64_t i = 0; i < n; i++) s->min2[i] = INFINITY;
    if (n_k) {
        RT_ALLOC(s->inside, (size_t)(n_k * m) * sizeof *s->inside, "ball counts");
        RT_ALLOC(s->reached, (size_t)(n_k * n), "ball marks");
    }
out:
    return st;
}

void rt_cross_close(rt_cross *s)
{
    rt_free(s->min2);
    rt_free(s->inside);
    rt_free(s->reached);
    *s = (rt_cross){0};
}

void rt_cross_visit(void *ctx, int64_t i, int64_t j0, int64_t m, const double *dot)
{
    const rt_cross *s = ctx;
    const double na = s->real->norm2[i], *nb = s->set->norm2 + j0;
    double best = s->min2[i];
    for (int64_t j = 0; j < m; j++) {
        const double d2 = rt_dist2(na, nb[j], dot[j]);
        best = d2 < best ? d2 : best;
    }
    s->min2[i] = best;
    for (int k = 0; k < s->n_k; k++) {
        const double r2 = s->real_r2[k][i], *set_r2 = s->set_r2[k];
        int64_t *inside = s->inside + k * s->set->p.n + j0;
        uint8_t reached = s->reached[k * s->real->p.n + i];
        if (best < r2) /* or none of the columns so far is inside */
            for (int64_t j = 0; j < m; j++)
                if (rt_dist2(na, nb[j], dot[j]) < r2) {
#pragma omp atomic
                    inside[j]++; /* integers: rows of other threads may come in any order */
                }
        if (set_r2 && !reached) {
            for (int64_t j = 0; j < m && !reached; j++) reached = rt_dist2(na, nb[j], dot[j]) < set_r2[j0 + j];
            s->reached[k * s->real->p.n + i] = reached;
        }
    }
}

void rt_cross_prdc(const rt_cross *s, int at, int64_t k, rt_prdc *out)
{
    const int64_t n = s->real->p.n, m = s->set->p.n;
    int64_t covered = 0, reached = 0, precise = 0, balls = 0;
    for (int64_t i = 0; i < n; i++) {
        covered += s->min2[i] < s->real_r2[at][i];
        reached += s->reached[at * n + i];
    }
    for (int64_t j = 0; j < m; j++) {
        precise += s->inside[at * m + j] > 0;
        balls += s->inside[at * m + j];
    }
    *out = (rt_prdc){.precision = (double)precise / (double)m,
                     .recall = s->set_r2[at] ? (double)reached / (double)n : NAN,
                     .density = (double)balls / ((double)k * (double)m),
                     .coverage = (double)covered / (double)n};
}

/* r2: squared radii for each k, n_k x n. */
static rt_status radii2(const rt_mat *a, const int64_t *k, int n_k, int64_t tile, double *r2)
{
    rt_status st = RT_OK;
    rt_neighbours s = {0};
    int64_t most = 1;
    for (int i = 0; i < n_k; i++) {
        if (k[i] < 1 || k[i] >= a->p.n)
            return RT_RAISE(RT_ERR_ARG, "%lld-th nearest neighbour among %lld rows", (long long)k[i],
                            (long long)a->p.n);
        most = k[i] > most ? k[i] : most;
    }
    RT_TRY(rt_neighbours_open(a, most, &s));
    RT_TRY(rt_dots(a, a, tile, false, &(rt_visit){rt_neighbours_visit, &s}, 1));
    for (int i = 0; i < n_k; i++)
        for (int64_t j = 0; j < a->p.n; j++) r2[i * a->p.n + j] = s.near2[j * most + k[i] - 1];
out:
    rt_neighbours_close(&s);
    return st;
}

rt_status rt_knn_radii(rt_points x, const int64_t *k, int n_k, int64_t tile, double *r)
{
    rt_status st = RT_OK;
    rt_side s = {0};
    RT_TRY(rt_points_check("given", x));
    RT_TRY(rt_side_open(x, NULL, &s));
    RT_TRY(radii2(&s.m, k, n_k, tile, r));
    for (int64_t i = 0; i < n_k * x.n; i++) r[i] = sqrt(r[i]);
out:
    rt_side_close(&s);
    return st;
}

rt_status rt_prdc_measure(rt_points real, rt_points set, int64_t k, int64_t tile, rt_prdc *out)
{
    rt_status st = RT_OK;
    rt_side x = {0}, y = {0};
    rt_cross c = {0};
    double *rx = NULL, *ry = NULL;
    RT_TRY(rt_points_pair_check(real, set));
    RT_TRY(rt_side_open(real, NULL, &x));
    RT_TRY(rt_side_open(set, x.mean, &y));
    RT_ALLOC(rx, (size_t)real.n * sizeof *rx, "radii");
    RT_ALLOC(ry, (size_t)set.n * sizeof *ry, "radii");
    RT_TRYF(radii2(&x.m, &k, 1, tile, rx), "radii of the real features");
    RT_TRYF(radii2(&y.m, &k, 1, tile, ry), "radii of the set's features");
    const double *const real_r2[] = {rx}, *const set_r2[] = {ry}; /* outlive the pass */
    RT_TRY(rt_cross_open(&x.m, &y.m, 1, real_r2, set_r2, &c));
    RT_TRY(rt_dots(&x.m, &y.m, tile, false, &(rt_visit){rt_cross_visit, &c}, 1));
    rt_cross_prdc(&c, 0, k, out);
out:
    rt_side_close(&x);
    rt_side_close(&y);
    rt_cross_close(&c);
    rt_free(rx);
    rt_free(ry);
    return st;
}

/* C(n - k, m) / C(n, m): the chance that m of n points miss k given ones. */
static double miss(int64_t n, int64_t m, int64_t k)
{
    double p = 1;
    for (int64_t i = 0; i < k; i++) p *= (double)(n - m - i > 0 ? n - m - i : 0) / (double)(n - i);
    return p;
}

double rt_coverage_expected(int64_t n, int64_t m, int64_t k)
{
    if (k < 1 || k >= n || m < 0 || m > n) return NAN;
    /* 1 - prod (1 - m / (n - i)): log1p and expm1 keep the digits where m k << n. */
    double log_miss = 0;
    for (int64_t i = 0; i < k; i++) {
        if (n - m - i <= 0) return 1;
        log_miss += log1p(-(double)m / (double)(n - i));
    }
    return -expm1(log_miss);
}

double rt_coverage_expected_sampled(int64_t n, int64_t n_ref, int64_t m, int64_t k)
{
    if (n_ref == n) return rt_coverage_expected(n, m, k);
    if (k < 1 || k >= n_ref || n_ref > n || m < 0 || m > n) return NAN;
    /* Around a reference point the other n - 1 points in order of distance; n_ref - 1 of them are references, and the
     * k-th of these comes p-th: P(p) = C(p-1, k-1) C(n-1-p, n_ref-1-k) / C(n-1, n_ref-1). The open ball then holds p
     * points, itself included. Both factors go from p to p + 1 by a ratio; P by its logarithm, for it may be tiny. */
    const double others = (double)(n - 1), refs = (double)(n_ref - 1), kk = (double)k;
    double log_p = 0, missed = miss(n, m, k), sum = 0;
    for (int64_t i = 0; i < k; i++) log_p += log((refs - (double)i) / (others - (double)i));
    for (int64_t p = k; p <= n - n_ref + k; p++) {
        const double q = (double)p;
        sum += exp(log_p) * missed;
        if (p < n - n_ref + k) log_p += log(q / (q - kk + 1)) + log((others - q - refs + kk) / (others - q));
        missed *= (double)(n - m - p > 0 ? n - m - p : 0) / (double)(n - p);
        if (missed == 0) break;
    }
    return 1 - sum;
}
