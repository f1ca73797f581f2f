/* The panel: a prepared reference against the single measures, what is left out, expectations, failures. */
#include <omp.h>

#include "base/alloc.h"
#include "points.h"

enum { CLASSES = 3, PER = 40, N = CLASSES * PER, D = 12 };

static const int64_t ks[] = {3, 5};
static const rt_metric_opts opts = {.k = ks, .n_k = 2, .seed = 1};

/* Real images of class i % 3, so that classes interleave. */
static void toy(float **x, int32_t *label)
{
    *x = gaussian(N, D, 11);
    for (int i = 0; i < N; i++) {
        label[i] = i % CLASSES;
        (*x)[i * D] += (float)(2 * label[i]);
    }
}

static const rt_metric_row *find(const rt_metric_rows *rows, const char *name, int64_t k, int64_t class_index)
{
    for (int64_t i = 0; i < rows->n; i++)
        if (rows->row[i].k == k && rows->row[i].class_index == class_index && !strcmp(rows->row[i].name, name))
            return &rows->row[i];
    return NULL;
}

static double value(const rt_metric_rows *rows, const char *name, int64_t k, int64_t class_index)
{
    const rt_metric_row *r = find(rows, name, k, class_index);
    if (!r) ck_abort_msg("no %s at %lld of class %lld", name, (long long)k, (long long)class_index);
    return r->value;
}

START_TEST(agrees_with_the_single_measures)
{
    float *x;
    int32_t label[N];
    toy(&x, label);
    float *y = gaussian(27, D, 12);
    int32_t y_label[27];
    for (int i = 0; i < 27; i++) y_label[i] = i % 9 < 6 ? 0 : 1 + i % 2; /* 18, 4 and 5 images */
    rt_metric_ref *ref;
    rt_metric_rows rows = {0};
    rt_ok(rt_metric_ref_create(x, label, N, D, CLASSES, &opts, &ref));
    rt_ok(rt_metrics_of_set(ref, y, y_label, 27, &rows));
    double sigma2, trace[CLASSES], vendi = 0;
    rt_ok(rt_rbf_sigma2((rt_points){x, N, D, NULL}, 1, &sigma2));
    for (int c = -1; c < CLASSES; c++) {
        int64_t xi[N], yi[27], n = 0, m = 0;
        for (int i = 0; i < N; i++)
            if (c < 0 || label[i] == c) xi[n++] = i;
        for (int i = 0; i < 27; i++)
            if (c < 0 || y_label[i] == c) yi[m++] = i;
        const rt_points px = {x, n, D, xi}, py = {y, m, D, yi};
        for (int t = 0; t < 2; t++) {
            rt_prdc v;
            if (ks[t] >= m) {
                ck_assert(!find(&rows, "recall", ks[t], c));
                ck_assert(find(&rows, "density", ks[t], c) != NULL);
                continue;
            }
            rt_ok(rt_prdc_measure(px, py, ks[t], 0, &v));
            ck_assert(value(&rows, "coverage", ks[t], c) == v.coverage);
            ck_assert(value(&rows, "precision", ks[t], c) == v.precision);
            ck_assert(value(&rows, "recall", ks[t], c) == v.recall);
            ck_assert(value(&rows, "density", ks[t], c) == v.density);
            ck_assert(find(&rows, "coverage", ks[t], c)->random_expectation == rt_coverage_expected(n, m, ks[t]));
        }
        rt_nearest near;
        rt_mmd mmd;
        double fd;
        rt_ok(rt_nearest_measure(px, py, 0, &near));
        ck_assert(value(&rows, "delta_mean", 0, c) == near.mean && value(&rows, "delta_max", 0, c) == near.max);
        rt_ok(rt_mmd_measure(px, py, RT_KERNEL_RBF, sigma2, 0, &mmd));
        rt_assert_near(value(&rows, "mmd_rbf", 0, c), mmd.biased, 1e-14, 0);
        rt_ok(rt_mmd_measure(px, py, RT_KERNEL_CUBIC, 0, 0, &mmd));
        rt_assert_near(value(&rows, "kid", 0, c), mmd.unbiased, 1e-12, 0);
        rt_ok(rt_mmd_measure(px, py, RT_KERNEL_ENERGY, 0, 0, &mmd));
        rt_assert_near(value(&rows, "energy", 0, c), mmd.biased, 1e-13, 0);
        rt_ok(rt_frechet(px, py, RT_FRECHET_AUTO, &fd));
        rt_assert_near(value(&rows, "frechet", 0, c), fd, 0, 1e-9);
        if (c < 0) continue;
        rt_vendi v;
        rt_spread sx, sy;
        rt_ok(rt_vendi_measure(py, RT_VENDI_AUTO, &v));
        ck_assert(value(&rows, "vendi", 0, c) == v.q1);
        rt_ok(rt_spread_measure(px, &sx));
        rt_ok(rt_spread_measure(py, &sy));
        trace[c] = sy.trace_unbiased / sx.trace_unbiased;
        rt_assert_near(value(&rows, "trace_ratio", 0, c), trace[c], 0, 1e-12);
        vendi += v.q1 / CLASSES;
    }
    rt_assert_near(value(&rows, "vendi", 0, -1), vendi, 0, 1e-14);
    rt_assert_near(value(&rows, "trace_ratio", 0, -1), (trace[0] + trace[1] + trace[2]) / 3, 0, 1e-12);
    double coverage = 0;
    for (int c = 0; c < CLASSES; c++) coverage += value(&rows, "coverage", 5, c) / CLASSES;
    rt_assert_near(value(&rows, "coverage_class_mean", 5, -1), coverage, 1e-15, 0);
    ck_assert(value(&rows, "balance_min", 0, -1) == 4 && value(&rows, "balance_max", 0, -1) == 18);
    for (int64_t i = 0; i < rows.n; i++) ck_assert(isfinite(rows.row[i].value));
    rt_metric_rows_fini(&rows);
    rt_metric_ref_destroy(ref);
    free(x);
    free(y);
}
END_TEST

/* One image of one class, nothing of the others. */
START_TEST(undefined_figures_are_absent)
{
    float *x;
    int32_t label[N];
    toy(&x, label);
    rt_metric_ref *ref;
    rt_metric_rows rows = {0};
    rt_ok(rt_metric_ref_create(x, label, N, D, CLASSES, &opts, &ref));
    rt_ok(rt_metrics_of_set(ref, x + D, label + 1, 1, &rows));
    ck_assert(value(&rows, "coverage", 3, 0) == 0);
    ck_assert(value(&rows, "coverage", 3, 1) > 0);
    ck_assert(value(&rows, "precision", 3, 1) == 1);
    for (int c = -1; c < CLASSES; c++) {
        static const char *const no[] = {"kid", "frechet", "vendi", "mean_cosine", "trace_ratio", "effective_rank"};
        for (size_t i = 0; i < sizeof no / sizeof *no; i++) ck_assert_msg(!find(&rows, no[i], 0, c), "%s", no[i]);
        ck_assert(!find(&rows, "recall", 3, c));
    }
    ck_assert(!find(&rows, "delta_mean", 0, 0) && !find(&rows, "precision", 3, 0));
    ck_assert(value(&rows, "balance_entropy", 0, -1) == 0);
    rt_metric_rows_fini(&rows);
    rt_metric_ref_destroy(ref);
    free(x);
}
END_TEST

/* Means over many uniform subsets against the rows' own expectations, with a whole and with a sampled reference. */
static void expectations(int64_t max_reference)
{
    enum { M = 6, TRIES = 400, NAMES = 6 };
    static const char *const name[NAMES] = {"coverage", "density", "mmd_rbf", "kid", "energy", "mean_cosine"};
    float *x;
    int32_t label[N], zero[N] = {0};
    toy(&x, label);
    double sum[NAMES] = {0}, square[NAMES] = {0}, want[NAMES] = {0};
    for (int t = 0; t < TRIES; t++) {
        static const int64_t k = 3;
        rt_metric_opts o = {.k = &k, .n_k = 1, .seed = (uint64_t)t, .max_reference = max_reference};
        rt_metric_ref *ref;
        rt_metric_rows rows = {0};
        float y[M * D];
        int64_t order[N];
        rt_rng r = rt_rng_at((uint64_t)t, RT_RNG_TEST, 2, 0);
        for (int i = 0; i < N; i++) order[i] = i;
        rt_rng_shuffle(&r, order, N);
        for (int i = 0; i < M; i++) memcpy(y + i * D, x + order[i] * D, D * sizeof *y);
        rt_ok(rt_metric_ref_create(x, zero, N, D, 1, &o, &ref));
        rt_ok(rt_metrics_of_set(ref, y, zero, M, &rows));
        for (int i = 0; i < NAMES; i++) {
            const rt_metric_row *row = find(&rows, name[i], i < 2 ? 3 : 0, 0);
            sum[i] += row->value / TRIES;
            square[i] += row->value * row->value / TRIES;
            want[i] += row->random_expectation / TRIES;
        }
        rt_metric_rows_fini(&rows);
        rt_metric_ref_destroy(ref);
    }
    for (int i = 0; i < NAMES; i++) {
        const double error = sqrt((square[i] - sum[i] * sum[i]) / TRIES);
        if (!(fabs(sum[i] - want[i]) < 3.5 * error))
            ck_abort_msg("%s: mean %g, expected %g, standard error %g", name[i], sum[i], want[i], error);
        ck_assert_msg(i == 3 || i == 5 || error < 0.1 * want[i], "%s: standard error %g", name[i], error);
    }
    free(x);
}

START_TEST(expectation_of_random_subsets)
{
    expectations(0);
    expectations(30);
}
END_TEST

START_TEST(seeded_and_independent_of_threads)
{
    float *x;
    int32_t label[N];
    toy(&x, label);
    rt_metric_rows rows[4] = {{0}};
    for (int t = 0; t < 4; t++) {
        rt_metric_opts o = opts;
        rt_metric_ref *ref;
        o.max_reference = 20;
        o.max_pooled = 33;
        o.tile = t;
        o.seed = t == 3 ? 2 : 1;
        omp_set_num_threads(1 << t % 3);
        rt_ok(rt_metric_ref_create(x, label, N, D, CLASSES, &o, &ref));
        ck_assert(rt_metric_ref_rows(ref, 1) == 20 && rt_metric_ref_rows(ref, -1) == 33);
        rt_ok(rt_metrics_of_set(ref, x, label, 30, &rows[t]));
        rt_metric_ref_destroy(ref);
    }
    bool differs = false;
    ck_assert(rows[0].n == rows[1].n && rows[0].n == rows[2].n && rows[0].n == rows[3].n);
    for (int64_t i = 0; i < rows[0].n; i++) {
        ck_assert(rows[0].row[i].value == rows[1].row[i].value && rows[0].row[i].value == rows[2].row[i].value);
        differs |= rows[0].row[i].value != rows[3].row[i].value;
    }
    ck_assert(differs);
    for (int t = 0; t < 4; t++) rt_metric_rows_fini(&rows[t]);
    free(x);
}
END_TEST

START_TEST(refusals)
{
    float *x;
    int32_t label[N];
    toy(&x, label);
    rt_metric_ref *ref = NULL;
    rt_metric_rows rows = {0};
    rt_metric_opts o = opts;
    o.k = (const int64_t[]){PER};
    o.n_k = 1;
    rt_fails(rt_metric_ref_create(x, label, N, D, CLASSES, &o, &ref), RT_ERR_CONFIG);
    ck_assert_msg(strstr(rt_error_what(), "class 0") != NULL, "%s", rt_error_what());
    rt_fails(rt_metric_ref_create(x, label, N, D, CLASSES + 1, &opts, &ref), RT_ERR_CONFIG); /* an empty class */
    rt_fails(rt_metric_ref_create(x, label, N, D, CLASSES - 1, &opts, &ref), RT_ERR_ARG);
    x[7 * D + 2] = NAN;
    rt_fails(rt_metric_ref_create(x, label, N, D, CLASSES, &opts, &ref), RT_ERR_NUMERIC);
    ck_assert_str_eq(rt_error_what(), "real feature row 7 of 120 holds NaN or infinity");
    ck_assert(ref == NULL);
    x[7 * D + 2] = 0;
    rt_ok(rt_metric_ref_create(x, label, N, D, CLASSES, &opts, &ref));
    rt_ok(rt_metrics_of_set(ref, x, label, 9, &rows));
    const int64_t before = rows.n;
    rt_fails(rt_metrics_of_set(ref, x, (const int32_t[]){0, 3}, 2, &rows), RT_ERR_ARG);
    rt_fails(rt_metrics_of_set(ref, x, label, 0, &rows), RT_ERR_ARG);
    float bad[D] = {[3] = INFINITY};
    rt_fails(rt_metrics_of_set(ref, bad, label, 1, &rows), RT_ERR_NUMERIC);
    ck_assert(rows.n == before);
    rt_metric_rows_fini(&rows);
    rt_metric_ref_destroy(ref);
    rt_metric_ref_destroy(NULL);
    free(x);
}
END_TEST

/* Every allocation in turn fails: a status, nothing leaked (sanitizers look), rows as they were. */
START_TEST(memory_runs_out)
{
    float *x;
    int32_t label[N];
    toy(&x, label);
    rt_metric_ref *ref = NULL;
    int failures = 0;
    for (uint64_t n = 1;; n++, failures++) {
        rt_alloc_fail_at(n, 0);
        rt_status st = rt_metric_ref_create(x, label, N, D, CLASSES, &opts, &ref);
        rt_alloc_fail_at(0, 0);
        if (st == RT_OK) break;
        ck_assert(st == RT_ERR_NOMEM && ref == NULL);
    }
    ck_assert_int_gt(failures, 50);
    for (uint64_t n = 1;; n++) {
        rt_metric_rows rows = {0};
        rt_alloc_fail_at(n, 0);
        rt_status st = rt_metrics_of_set(ref, x, label, 25, &rows);
        rt_alloc_fail_at(0, 0);
        ck_assert(st == RT_OK ? rows.n > 50 : st == RT_ERR_NOMEM && rows.n == 0);
        rt_metric_rows_fini(&rows);
        if (st == RT_OK) break;
    }
    rt_metric_ref_destroy(ref);
    free(x);
}
END_TEST

static const rt_test tests[] = {{"single measures", agrees_with_the_single_measures},
                                {"undefined", undefined_figures_are_absent},
                                {"expectations", expectation_of_random_subsets},
                                {"seed and threads", seeded_and_independent_of_threads},
                                {"refusals", refusals},
                                {"memory", memory_runs_out}};
RT_SUITE("metrics.panel", tests)
