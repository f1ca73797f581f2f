/* The prepared reference: everything about the real images that does not depend on a set, computed once. Per class and
 * pooled: which rows are compared with, their mean, norms, k-NN radii and mean kernel values; per class the cosine and
 * variance that diversity is related to; pooled the moments of the Frechet distance and the width of the RBF kernel. */
#include <math.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/rng.h"
#include "metrics/internal.h"

rt_status rt_rows_by_class(const int32_t *label, int64_t n, int32_t n_classes, int64_t **row, int64_t **start)
{
    rt_status st = RT_OK;
    int64_t *r = NULL, *s = NULL;
    RT_ALLOC(r, (size_t)(n + 1) * sizeof *r, "row numbers");
    RT_ALLOC(s, ((size_t)n_classes + 2) * sizeof *s, "class offsets");
    for (int64_t i = 0; i < n; i++) {
        if (label[i] < 0 || label[i] >= n_classes) {
            st = RT_RAISE(RT_ERR_ARG, "label %d of row %lld is not one of %d classes", (int)label[i], (long long)i,
                          (int)n_classes);
            goto out;
        }
        s[label[i] + 2]++;
    }
    for (int32_t c = 0; c < n_classes; c++) s[c + 2] += s[c + 1];
    for (int64_t i = 0; i < n; i++) r[s[label[i] + 1]++] = i;
    *row = r;
    *start = s;
    r = s = NULL;
out:
    rt_free(r);
    rt_free(s);
    return st;
}

bool rt_points_zero_row(rt_points p)
{
    for (int64_t i = 0; i < p.n; i++) {
        const float *x = p.x + (p.idx ? p.idx[i] : i) * p.d;
        int64_t k = 0;
        while (k < p.d && x[k] == 0) k++;
        if (k == p.d) return true;
    }
    return false;
}

/* idx <- most of row[0..n), uniformly and seeded, ascending; all when most is 0 or n is less. */
static rt_status sample(const int64_t *row, int64_t n, int64_t most, uint64_t seed, int32_t stream, rt_group *g)
{
    rt_status st = RT_OK;
    uint8_t *chosen = NULL;
    int64_t *order = NULL, m = most > 0 && most < n ? most : n, at = 0;
    RT_ALLOC(g->idx, (size_t)m * sizeof *g->idx, "reference rows");
    RT_ALLOC(chosen, (size_t)n, "reference rows");
    RT_ALLOC(order, (size_t)n * sizeof *order, "reference rows");
    for (int64_t i = 0; i < n; i++) order[i] = i;
    if (m < n) {
        rt_rng r = rt_rng_at(seed, RT_RNG_METRIC, 1, (uint32_t)stream); /* step 0 draws the pairs of sigma2 */
        rt_rng_shuffle(&r, order, n);
    }
    for (int64_t i = 0; i < m; i++) chosen[order[i]] = 1;
    for (int64_t i = 0; i < n; i++)
        if (chosen[i]) g->idx[at++] = row[i];
    g->side.m.p = (rt_points){.n = m, .idx = g->idx};
out:
    rt_free(chosen);
    rt_free(order);
    return st;
}

static rt_status prepare(const rt_metric_ref *ref, rt_group *g)
{
    rt_status st = RT_OK;
    rt_neighbours near = {0};
    rt_kernel_sums sums = {0};
    const rt_points p = {ref->feat, g->side.m.p.n, ref->d, g->idx};
    const rt_mat *m = &g->side.m;
    RT_TRY(rt_side_open(p, NULL, &g->side));
    RT_ALLOC(g->r2, (size_t)(ref->n_k * p.n) * sizeof *g->r2, "radii");
    RT_TRY(rt_neighbours_open(m, ref->most, &near));
    RT_TRY(rt_kernel_sums_open(m, m, ref->rbf ? ref->sigma2 : 0, &sums));
    rt_visit visit[] = {{rt_neighbours_visit, &near}, {rt_kernel_sums_visit, &sums}};
    RT_TRY(rt_dots(m, m, ref->tile, false, visit, 2));
    for (int k = 0; k < ref->n_k; k++)
        for (int64_t i = 0; i < p.n; i++) g->r2[k * p.n + i] = near.near2[i * ref->most + ref->k[k] - 1];
    rt_kernel_sums_mean(&sums, &g->means);
out:
    rt_neighbours_close(&near);
    rt_kernel_sums_close(&sums);
    return st;
}

/* What diversity within a class is related to: all images of the class. */
static rt_status spread_of_class(rt_points all, rt_group *g)
{
    rt_status st = RT_OK;
    rt_side s = {0};
    double sum = 0;
    g->mean_cosine = g->trace = NAN;
    if (all.n < 2) return RT_OK;
    if (!rt_points_zero_row(all)) RT_TRY(rt_mean_cosine(all, &g->mean_cosine));
    RT_TRY(rt_side_open(all, NULL, &s));
    for (int64_t i = 0; i < all.n; i++) sum += s.norm2[i];
    g->trace = sum / (double)(all.n - 1);
out:
    rt_side_close(&s);
    return st;
}

static rt_status check_opts(const float *feat, const int32_t *label, int64_t n, int64_t d, int32_t n_classes,
                            const rt_metric_opts *o)
{
    if (!label || n_classes < 1 || n > UINT32_MAX || o->n_k < 0 || (o->n_k && !o->k) || o->max_reference < 0 ||
        o->max_pooled < 0)
        return RT_RAISE(RT_ERR_ARG, "reference of %lld images in %d classes", (long long)n, (int)n_classes);
    for (int i = 0; i < o->n_k; i++)
        if (o->k[i] < 1) return RT_RAISE(RT_ERR_CONFIG, "neighbourhood size %lld", (long long)o->k[i]);
    return rt_points_check("real", (rt_points){feat, n, d, NULL});
}

rt_status rt_metric_ref_create(const float *feat, const int32_t *label, int64_t n, int64_t d, int32_t n_classes,
                               const rt_metric_opts *o, rt_metric_ref **out)
{
    rt_status st = RT_OK;
    rt_metric_ref *ref = NULL;
    int64_t *row = NULL, *start = NULL, *all = NULL, kept = 0;
    uint8_t *used = NULL;
    RT_TRY(check_opts(feat, label, n, d, n_classes, o));
    RT_ALLOC(ref, sizeof *ref, "a metrics reference");
    *ref = (rt_metric_ref){.feat = feat, .n = n, .d = d, .tile = o->tile, .most = 1, .n_classes = n_classes};
    RT_ALLOC(ref->group, ((size_t)n_classes + 1) * sizeof *ref->group, "a metrics reference");
    RT_ALLOC(ref->k, ((size_t)o->n_k + 1) * sizeof *ref->k, "neighbourhood sizes");
    ref->n_k = o->n_k;
    for (int i = 0; i < o->n_k; i++) {
        ref->k[i] = o->k[i];
        ref->most = o->k[i] > ref->most ? o->k[i] : ref->most;
    }
    RT_TRY(rt_rows_by_class(label, n, n_classes, &row, &start));
    RT_ALLOC(all, (size_t)n * sizeof *all, "reference rows");
    RT_ALLOC(used, (size_t)n, "reference rows");
    rt_group *pooled = &ref->group[n_classes];
    for (int32_t c = 0; c < n_classes; c++) {
        rt_group *g = &ref->group[c];
        g->population = start[c + 1] - start[c];
        const int64_t use = o->max_reference && o->max_reference < g->population ? o->max_reference : g->population;
        if (use <= ref->most) {
            st = RT_RAISE(RT_ERR_CONFIG, "class %d is compared by %lld real images: too few for a %lld-th neighbour",
                          (int)c, (long long)use, (long long)ref->most);
            rt_error_fix(st, "lower metrics.k, or raise metrics.max_reference");
            goto out;
        }
        RT_TRY(sample(row + start[c], g->population, o->max_reference, o->seed, c, g));
        for (int64_t i = 0; i < use; i++) used[g->idx[i]] = 1;
    }
    for (int64_t i = 0; i < n; i++)
        if (used[i]) all[kept++] = i;
    pooled->population = n;
    pooled->mean_cosine = pooled->trace = NAN;
    int64_t most = o->max_pooled ? o->max_pooled : RT_METRIC_POOLED;
    RT_TRY(sample(all, kept, most > ref->most ? most : ref->most + 1, o->seed, n_classes, pooled));
    st = rt_rbf_sigma2((rt_points){feat, n, d, NULL}, o->seed, &ref->sigma2);
    ref->rbf = st == RT_OK;
    if (st == RT_ERR_NUMERIC) { /* half of the images look alike: the panel does without the RBF kernel */
        rt_error_clear();
        st = RT_OK;
    }
    RT_TRY(st);
    RT_TRY(rt_moments_open((rt_points){feat, n, d, NULL}, true, &ref->moments));
    for (int32_t c = 0; c <= n_classes; c++) {
        rt_progress_report(&(rt_progress){"measure: real images", "group", c, n_classes + 1, NULL});
        if (c < n_classes)
            RT_TRYF(spread_of_class((rt_points){feat, ref->group[c].population, d, row + start[c]}, &ref->group[c]),
                    "class %d of the real images", (int)c);
        RT_TRYF(prepare(ref, &ref->group[c]), "real images, group %d of %d", (int)c, (int)n_classes + 1);
    }
    *out = ref;
    ref = NULL;
out:
    rt_free(row);
    rt_free(start);
    rt_free(all);
    rt_free(used);
    rt_metric_ref_destroy(ref);
    return st;
}

void rt_metric_ref_destroy(rt_metric_ref *ref)
{
    if (!ref) return;
    for (int32_t c = 0; ref->group && c <= ref->n_classes; c++) {
        rt_free(ref->group[c].idx);
        rt_free(ref->group[c].r2);
        rt_side_close(&ref->group[c].side);
    }
    rt_free(ref->group);
    rt_free(ref->k);
    rt_moments_close(&ref->moments);
    rt_free(ref);
}

int64_t rt_metric_ref_rows(const rt_metric_ref *ref, int32_t class_index)
{
    return ref->group[class_index < 0 ? ref->n_classes : class_index].side.m.p.n;
}
