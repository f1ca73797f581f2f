/* The panel: every measure of one set against a prepared reference, per class and pooled, as rows.
 *
 * A group (a class, or all together) costs two passes over pairs: set x set for radii and kernel means, real x set for
 * all the rest. What is undefined for a group is no row. Expectations of a uniform random subset of the same size are
 * exact (exchangeability), also where the reference is itself a sample of the real images:
 *   coverage   rt_coverage_expected_sampled
 *   density    1: the mean size of an open ball among all N images is k N / n_ref
 *   precision  1, when the reference is all images (each lies in its own ball)
 *   biased     (kd - ko) (1/n_ref + 1/m - 2/N), kd and ko the kernel's mean on and off the diagonal
 *   unbiased   -(kd - ko) 2/N: two samples share an image with probability 1/N
 *   mean cosine, trace ratio   those of all images of the class, and 1
 * where kd and ko of a sampled reference are themselves estimates, and the pooled reference counts as a uniform sample
 * of all images (max_reference takes equally from unequal classes: then it is not quite). */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "metrics/internal.h"

void rt_metric_rows_fini(rt_metric_rows *rows)
{
    rt_free(rows->row);
    *rows = (rt_metric_rows){0};
}

static rt_status put(rt_metric_rows *rows, const char *name, int64_t k, int64_t class_index, double value,
                     double expected)
{
    rt_status st = RT_OK;
    if (isnan(value)) return RT_OK;
    if (rows->n == rows->capacity) {
        const int64_t more = rows->capacity ? 2 * rows->capacity : 64;
        rt_metric_row *p = rt_realloc(rows->row, (size_t)rows->capacity * sizeof *p, (size_t)more * sizeof *p);
        if (!p) return RT_RAISE(RT_ERR_NOMEM, "no memory for %lld metric rows", (long long)more);
        rows->row = p;
        rows->capacity = more;
    }
    rows->row[rows->n++] = (rt_metric_row){name, k, class_index, value, expected};
    return st;
}

static rt_status put_prdc(const rt_metric_ref *ref, const rt_group *g, const rt_cross *c, int64_t class_index,
                          rt_metric_rows *rows)
{
    rt_status st = RT_OK;
    const int64_t n = g->side.m.p.n, m = c->set->p.n;
    for (int at = 0; at < ref->n_k; at++) {
        const int64_t k = ref->k[at];
        rt_prdc v;
        rt_cross_prdc(c, at, k, &v);
        RT_TRY(put(rows, "coverage", k, class_index, v.coverage,
                   rt_coverage_expected_sampled(g->population, n, m, k)));
        RT_TRY(put(rows, "precision", k, class_index, v.precision, n == g->population ? 1 : NAN));
        RT_TRY(put(rows, "recall", k, class_index, v.recall, NAN));
        RT_TRY(put(rows, "density", k, class_index, v.density, 1));
    }
out:
    return st;
}

static rt_status put_nearest(const rt_cross *c, int64_t class_index, rt_metric_rows *rows)
{
    rt_status st = RT_OK;
    rt_nearest v;
    RT_TRY(rt_nearest_of(c, &v));
    RT_TRY(put(rows, "delta_mean", 0, class_index, v.mean, NAN));
    RT_TRY(put(rows, "delta_max", 0, class_index, v.max, NAN));
    RT_TRY(put(rows, "delta_p50", 0, class_index, v.p50, NAN));
    RT_TRY(put(rows, "delta_p90", 0, class_index, v.p90, NAN));
    RT_TRY(put(rows, "delta_p99", 0, class_index, v.p99, NAN));
    RT_TRY(put(rows, "delta_rest", 0, class_index, v.rest, NAN));
out:
    return st;
}

static rt_status put_kernels(const rt_metric_ref *ref, const rt_group *g, const rt_kernel_means *yy,
                             const rt_kernel_means *xy, int64_t m, int64_t class_index, rt_metric_rows *rows)
{
    static const struct {
        const char *name;
        rt_mmd_kernel kernel;
        bool unbiased;
    } kind[] = {{"mmd_rbf", RT_KERNEL_RBF, false}, {"kid", RT_KERNEL_CUBIC, true}, {"energy", RT_KERNEL_ENERGY, false}};
    rt_status st = RT_OK;
    const int64_t n = g->side.m.p.n;
    for (int i = 0; i < 3; i++) {
        const rt_mmd_kernel q = kind[i].kernel;
        if (q == RT_KERNEL_RBF && !ref->rbf) continue;
        const double kd = g->means.diagonal[q], ko = rt_off_diagonal(g->means.all[q], kd, n);
        const double population = (double)g->population;
        double value, expected;
        if (kind[i].unbiased) {
            value = rt_mmd_biased(ko, rt_off_diagonal(yy->all[q], yy->diagonal[q], m), xy->all[q]);
            expected = -(kd - ko) * 2 / population;
        } else {
            value = rt_mmd_biased(g->means.all[q], yy->all[q], xy->all[q]);
            expected = (kd - ko) * (1 / (double)n + 1 / (double)m - 2 / population);
        }
        RT_TRY(put(rows, kind[i].name, 0, class_index, value, m <= g->population ? expected : NAN));
    }
out:
    return st;
}

static rt_status put_diversity(const rt_group *g, rt_points set, int64_t class_index, rt_metric_rows *rows)
{
    rt_status st = RT_OK;
    rt_vendi vendi;
    rt_spread spread;
    double cosine;
    if (set.n < 2) return RT_OK; /* one image is neither alike nor unlike */
    if (!rt_points_zero_row(set)) {
        RT_TRY(rt_vendi_measure(set, RT_VENDI_AUTO, &vendi));
        RT_TRY(rt_mean_cosine(set, &cosine));
        RT_TRY(put(rows, "vendi", 0, class_index, vendi.q1, NAN));
        RT_TRY(put(rows, "vendi_2", 0, class_index, vendi.q2, NAN));
        RT_TRY(put(rows, "vendi_inf", 0, class_index, vendi.qinf, NAN));
        RT_TRY(put(rows, "mean_cosine", 0, class_index, cosine, g->mean_cosine));
    }
    RT_TRY(rt_spread_measure(set, &spread));
    if (g->trace > 0) RT_TRY(put(rows, "trace_ratio", 0, class_index, spread.trace_unbiased / g->trace, 1));
    RT_TRY(put(rows, "effective_rank", 0, class_index, spread.effective_rank, NAN));
    RT_TRY(put(rows, "participation", 0, class_index, spread.participation, NAN));
out:
    return st;
}

/* class_index -1: the pooled group. */
static rt_status measure_group(const rt_metric_ref *ref, const rt_group *g, rt_points set, int64_t class_index,
                               rt_metric_rows *rows)
{
    rt_status st = RT_OK;
    const int64_t n = g->side.m.p.n, m = set.n;
    const double **real_r2 = NULL, **set_r2 = NULL;
    double *r2 = NULL, frechet;
    rt_side y = {0};
    rt_neighbours near = {0};
    rt_kernel_sums yy = {0}, xy = {0};
    rt_cross cross = {0};
    rt_kernel_means yy_mean, xy_mean;
    int64_t most = 0;
    if (m == 0) { /* nothing of the class is covered, and nothing else is defined */
        for (int at = 0; at < ref->n_k; at++) RT_TRY(put(rows, "coverage", ref->k[at], class_index, 0, 0));
        return RT_OK;
    }
    RT_TRY(rt_side_open(set, g->side.mean, &y));
    RT_ALLOC(real_r2, ((size_t)ref->n_k + 1) * sizeof *real_r2, "radii");
    RT_ALLOC(set_r2, ((size_t)ref->n_k + 1) * sizeof *set_r2, "radii");
    RT_ALLOC(r2, (size_t)(ref->n_k * m + 1) * sizeof *r2, "radii");
    for (int at = 0; at < ref->n_k; at++) {
        real_r2[at] = g->r2 + at * n;
        set_r2[at] = ref->k[at] < m ? r2 + at * m : NULL;
        if (ref->k[at] < m && ref->k[at] > most) most = ref->k[at];
    }

    RT_TRY(rt_kernel_sums_open(&y.m, &y.m, ref->rbf ? ref->sigma2 : 0, &yy));
    if (most) RT_TRY(rt_neighbours_open(&y.m, most, &near));
    const rt_visit within[] = {{rt_kernel_sums_visit, &yy}, {rt_neighbours_visit, &near}};
    RT_TRY(rt_dots(&y.m, &y.m, ref->tile, false, within, most ? 2 : 1));
    for (int at = 0; at < ref->n_k; at++)
        for (int64_t j = 0; set_r2[at] && j < m; j++) r2[at * m + j] = near.near2[j * most + ref->k[at] - 1];

    RT_TRY(rt_kernel_sums_open(&g->side.m, &y.m, ref->rbf ? ref->sigma2 : 0, &xy));
    RT_TRY(rt_cross_open(&g->side.m, &y.m, ref->n_k, real_r2, set_r2, &cross));
    const rt_visit across[] = {{rt_kernel_sums_visit, &xy}, {rt_cross_visit, &cross}};
    RT_TRY(rt_dots(&g->side.m, &y.m, ref->tile, false, across, 2));

    rt_kernel_sums_mean(&yy, &yy_mean);
    rt_kernel_sums_mean(&xy, &xy_mean);
    RT_TRY(put_prdc(ref, g, &cross, class_index, rows));
    RT_TRY(put_nearest(&cross, class_index, rows));
    RT_TRY(put_kernels(ref, g, &yy_mean, &xy_mean, m, class_index, rows));
    if (m > 1 && n > 1) {
        if (class_index < 0)
            RT_TRY(rt_frechet_to(&ref->moments, set, RT_FRECHET_AUTO, &frechet));
        else
            RT_TRY(rt_frechet(g->side.m.p, set, RT_FRECHET_AUTO, &frechet));
        RT_TRY(put(rows, "frechet", 0, class_index, frechet, NAN));
    }
    if (class_index >= 0) RT_TRY(put_diversity(g, set, class_index, rows));
out:
    rt_free(real_r2);
    rt_free(set_r2);
    rt_free(r2);
    rt_side_close(&y);
    rt_neighbours_close(&near);
    rt_kernel_sums_close(&yy);
    rt_kernel_sums_close(&xy);
    rt_cross_close(&cross);
    return st;
}

/* Adds, for class -1, the mean over the classes of `name` (and its least value, when least is given). */
static rt_status put_class_mean(rt_metric_rows *rows, int64_t from, const char *name, int64_t k, const char *as,
                                const char *least)
{
    rt_status st = RT_OK;
    double sum = 0, expected = 0, low = INFINITY;
    int64_t count = 0;
    for (int64_t i = from; i < rows->n; i++) {
        const rt_metric_row *r = &rows->row[i];
        if (r->class_index < 0 || r->k != k || strcmp(r->name, name)) continue;
        sum += r->value;
        expected += r->random_expectation;
        low = r->value < low ? r->value : low;
        count++;
    }
    if (!count) return RT_OK;
    RT_TRY(put(rows, as, k, -1, sum / (double)count, expected / (double)count));
    if (least) RT_TRY(put(rows, least, k, -1, low, NAN));
out:
    return st;
}

static rt_status put_means(const rt_metric_ref *ref, rt_metric_rows *rows, int64_t from)
{
    static const char *const diversity[] = {"vendi", "vendi_2", "vendi_inf", "mean_cosine", "trace_ratio",
                                            "effective_rank", "participation"};
    rt_status st = RT_OK;
    for (int at = 0; at < ref->n_k; at++)
        RT_TRY(put_class_mean(rows, from, "coverage", ref->k[at], "coverage_class_mean", "coverage_class_min"));
    for (size_t i = 0; i < sizeof diversity / sizeof *diversity; i++)
        RT_TRY(put_class_mean(rows, from, diversity[i], 0, diversity[i], NULL));
out:
    return st;
}

rt_status rt_metrics_of_set(const rt_metric_ref *ref, const float *feat, const int32_t *label, int64_t n,
                            rt_metric_rows *rows)
{
    rt_status st = RT_OK;
    const int64_t before = rows->n, d = ref->d;
    int64_t *row = NULL, *start = NULL;
    rt_balance balance;
    RT_TRY(rt_points_check("set", (rt_points){feat, n, d, NULL}));
    RT_TRYF(rt_balance_measure(label, n, ref->n_classes, &balance), "labels of a set");
    RT_TRY(rt_rows_by_class(label, n, ref->n_classes, &row, &start));
    RT_TRYF(measure_group(ref, &ref->group[ref->n_classes], (rt_points){feat, n, d, NULL}, -1, rows),
            "set of %lld images, all classes", (long long)n);
    for (int32_t c = 0; c < ref->n_classes; c++) {
        rt_progress_report(&(rt_progress){"measure", "class", c, ref->n_classes, NULL});
        const rt_points of_class = {feat, start[c + 1] - start[c], d, row + start[c]};
        RT_TRYF(measure_group(ref, &ref->group[c], of_class, c, rows), "set of %lld images, class %d", (long long)n,
                (int)c);
    }
    RT_TRY(put_means(ref, rows, before));
    RT_TRY(put(rows, "balance_entropy", 0, -1, balance.entropy, NAN));
    RT_TRY(put(rows, "balance_min", 0, -1, (double)balance.min, NAN));
    RT_TRY(put(rows, "balance_max", 0, -1, (double)balance.max, NAN));
out:
    if (st != RT_OK) rows->n = before;
    rt_free(row);
    rt_free(start);
    return st;
}
