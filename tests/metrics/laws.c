/* What must hold whatever the data: identical sets, invariances, equal forms, tile sizes and threads, the law of random
 * subsets, errors. */
#include <omp.h>

#include "base/alloc.h"
#include "base/log.h"
#include "points.h"

enum { D = 5 };

START_TEST(identical_sets)
{
    float *x = gaussian(60, D, 1);
    const rt_points p = {x, 60, D, NULL};
    rt_prdc v;
    rt_nearest n;
    rt_mmd m;
    double fd;
    rt_ok(rt_prdc_measure(p, p, 3, 0, &v));
    ck_assert(v.precision == 1 && v.recall == 1 && v.density == 1 && v.coverage == 1);
    rt_ok(rt_nearest_measure(p, p, 0, &n));
    ck_assert(n.max == 0 && n.mean == 0 && n.rest == 0);
    for (rt_mmd_kernel k = RT_KERNEL_RBF; k <= RT_KERNEL_ENERGY; k++) {
        rt_ok(rt_mmd_measure(p, p, k, 2, 0, &m));
        ck_assert(m.biased == 0);
    }
    for (rt_frechet_form f = RT_FRECHET_DENSE; f <= RT_FRECHET_LOW_RANK; f++) {
        rt_ok(rt_frechet(p, p, f, &fd));
        rt_assert_near(fd, 0, 1e-7, 0); /* low rank: 55 zeros among 60 eigenvalues */
    }
    free(x);
}
END_TEST

typedef struct figures {
    double radius[2 * 131];
    rt_prdc prdc;
    rt_nearest nearest;
    rt_mmd mmd[3];
    double frechet[2];
    rt_vendi vendi[2];
    rt_spread spread;
} figures;

static void measure_all(rt_points x, rt_points y, int64_t tile, figures *f)
{
    memset(f, 0, sizeof *f); /* compared with memcmp */
    rt_ok(rt_knn_radii(x, (const int64_t[]){1, 6}, 2, tile, f->radius));
    rt_ok(rt_prdc_measure(x, y, 4, tile, &f->prdc));
    rt_ok(rt_nearest_measure(x, y, tile, &f->nearest));
    for (rt_mmd_kernel k = RT_KERNEL_RBF; k <= RT_KERNEL_ENERGY; k++)
        rt_ok(rt_mmd_measure(x, y, k, 3, tile, &f->mmd[k]));
    rt_ok(rt_frechet(x, y, RT_FRECHET_DENSE, &f->frechet[0]));
    rt_ok(rt_frechet(x, y, RT_FRECHET_LOW_RANK, &f->frechet[1]));
    rt_ok(rt_vendi_measure(y, RT_VENDI_PRIMAL, &f->vendi[0]));
    rt_ok(rt_vendi_measure(y, RT_VENDI_DUAL, &f->vendi[1]));
    rt_ok(rt_spread_measure(y, &f->spread));
}

/* Bit for bit; 270 features are summed in two pieces. */
START_TEST(tiles_and_threads_do_not_matter)
{
    static const int64_t tile[] = {1, 7, 64, 131, 1000};
    float *x = gaussian(131, 270, 2), *y = gaussian(37, 270, 3);
    const rt_points px = {x, 131, 270, NULL}, py = {y, 37, 270, NULL};
    static figures want, got;
    omp_set_num_threads(1);
    measure_all(px, py, 0, &want);
    for (size_t t = 0; t < sizeof tile / sizeof *tile; t++) {
        measure_all(px, py, tile[t], &got);
        if (memcmp(&got, &want, sizeof want)) ck_abort_msg("tile %lld changes a figure", (long long)tile[t]);
    }
    for (int threads = 2; threads <= 4; threads += 2) {
        omp_set_num_threads(threads);
        measure_all(px, py, 16, &got);
        if (memcmp(&got, &want, sizeof want)) ck_abort_msg("%d threads change a figure", threads);
    }
    free(x);
    free(y);
}
END_TEST

/* Against sums of squared differences in long double, through an index. */
START_TEST(distances_are_right)
{
    enum { N = 50, K = 300 };
    float *x = gaussian(2 * N, K, 4);
    int64_t idx[N];
    double r[N];
    for (int i = 0; i < N; i++) idx[i] = (7 * i) % (2 * N);
    for (int k = 0; k < K; k++) x[idx[3] * K + k] = x[idx[9] * K + k] + (k == 5 ? 1e-4f : 0); /* a near-duplicate */
    rt_ok(rt_knn_radii((rt_points){x, N, K, idx}, (const int64_t[]){1}, 1, 0, r));
    for (int i = 0; i < N; i++) {
        long double least = INFINITY;
        for (int j = 0; j < N; j++) {
            long double d2 = 0;
            for (int k = 0; k < K; k++) {
                long double t = (long double)x[idx[i] * K + k] - (long double)x[idx[j] * K + k];
                d2 += t * t;
            }
            if (j != i && d2 < least) least = d2;
        }
        rt_assert_near(r[i], (double)sqrtl(least), 0, i == 3 || i == 9 ? 1e-5 : 1e-12);
    }
    free(x);
}
END_TEST

/* Expectations of a uniform subset of a class; 3 standard errors over 200 subsets. */
START_TEST(random_subsets_obey_the_law)
{
    enum { N = 1300, M = 10, TRIES = 200 };
    static const int64_t k = 5;
    static int32_t label[N];
    static int64_t order[N];
    float *x = gaussian(N, 8, 5), y[M * 8];
    double mean[2] = {0}, square[2] = {0};
    const double want[2] = {rt_coverage_expected(N, M, k), 1};
    rt_metric_ref *ref;
    rt_ok(rt_metric_ref_create(x, label, N, 8, 1, &(rt_metric_opts){.k = &k, .n_k = 1}, &ref));
    for (int t = 0; t < TRIES; t++) {
        rt_rng r = rt_rng_at(9, RT_RNG_TEST, 1, (uint32_t)t);
        rt_metric_rows rows = {0};
        for (int i = 0; i < N; i++) order[i] = i;
        rt_rng_shuffle(&r, order, N);
        for (int i = 0; i < M; i++) memcpy(y + i * 8, x + order[i] * 8, 8 * sizeof *y);
        rt_ok(rt_metrics_of_set(ref, y, label, M, &rows));
        ck_assert_str_eq(rows.row[0].name, "coverage");
        ck_assert_str_eq(rows.row[1].name, "precision");
        ck_assert_str_eq(rows.row[3].name, "density");
        ck_assert(rows.row[1].value == 1 && rows.row[0].random_expectation == want[0]);
        const double got[2] = {rows.row[0].value, rows.row[3].value};
        for (int i = 0; i < 2; i++) mean[i] += got[i] / TRIES, square[i] += got[i] * got[i] / TRIES;
        rt_metric_rows_fini(&rows);
    }
    for (int i = 0; i < 2; i++) {
        const double error = sqrt((square[i] - mean[i] * mean[i]) / TRIES);
        ck_assert_msg(error > 0 && error < 0.05 * want[i], "standard error %g", error);
        rt_assert_near(mean[i], want[i], 3 * error, 0);
    }
    rt_metric_ref_destroy(ref);
    free(x);
}
END_TEST

START_TEST(scale_and_rotation)
{
    enum { N = 80, M = 30 };
    float *x = gaussian(N + M, 2, 6), *y = malloc((N + M) * 2 * sizeof *y);
    for (int i = 0; i < N + M; i++) { /* three times a rotation by (3, 4)/5, exact in the limit of float32 */
        y[2 * i] = 3 * (0.6f * x[2 * i] - 0.8f * x[2 * i + 1]);
        y[2 * i + 1] = 3 * (0.8f * x[2 * i] + 0.6f * x[2 * i + 1]);
    }
    rt_prdc p[2];
    rt_vendi v[2];
    rt_spread s[2];
    rt_mmd e[2];
    double fd[2];
    for (int t = 0; t < 2; t++) {
        const float *z = t ? y : x;
        const rt_points real = {z, N, 2, NULL}, set = {z + 2 * N, M, 2, NULL};
        rt_ok(rt_prdc_measure(real, set, 3, 0, &p[t]));
        rt_ok(rt_vendi_measure(set, RT_VENDI_AUTO, &v[t]));
        rt_ok(rt_spread_measure(set, &s[t]));
        rt_ok(rt_mmd_measure(real, set, RT_KERNEL_ENERGY, 0, 0, &e[t]));
        rt_ok(rt_frechet(real, set, RT_FRECHET_AUTO, &fd[t]));
    }
    ck_assert(p[0].precision == p[1].precision && p[0].recall == p[1].recall && p[0].density == p[1].density &&
              p[0].coverage == p[1].coverage);
    rt_assert_near(v[1].q1, v[0].q1, 0, 1e-5);
    rt_assert_near(s[1].effective_rank, s[0].effective_rank, 0, 1e-5);
    rt_assert_near(e[1].biased, 3 * e[0].biased, 1e-7, 1e-4);
    rt_assert_near(fd[1], 9 * fd[0], 1e-6, 1e-4);
    free(x);
    free(y);
}
END_TEST

START_TEST(frechet_forms_agree)
{
    float *x = gaussian(90, 40, 7), *y = gaussian(90, 40, 8);
    for (int64_t m = 2; m < 60; m += 19) { /* 2, 21, 40, 59 of 40 dimensions */
        double dense, low;
        rt_ok(rt_frechet((rt_points){x, 90, 40, NULL}, (rt_points){y, m, 40, NULL}, RT_FRECHET_DENSE, &dense));
        rt_ok(rt_frechet((rt_points){x, 90, 40, NULL}, (rt_points){y, m, 40, NULL}, RT_FRECHET_LOW_RANK, &low));
        rt_assert_near(low, dense, 1e-6, 1e-7);
        ck_assert(dense > 0);
    }
    free(x);
    free(y);
}
END_TEST

START_TEST(vendi_laws)
{
    float *x = gaussian(24, 16, 9), *eye = calloc(64, sizeof *eye);
    int64_t twice[24];
    rt_vendi a, b;
    rt_ok(rt_vendi_measure((rt_points){x, 24, 16, NULL}, RT_VENDI_PRIMAL, &a));
    rt_ok(rt_vendi_measure((rt_points){x, 24, 16, NULL}, RT_VENDI_DUAL, &b));
    rt_assert_near(b.q1, a.q1, 0, 1e-9);
    rt_assert_near(b.q2, a.q2, 0, 1e-9);
    rt_assert_near(b.qinf, a.qinf, 0, 1e-9);
    for (int i = 0; i < 24; i++) twice[i] = i / 2;
    rt_ok(rt_vendi_measure((rt_points){x, 12, 16, NULL}, RT_VENDI_AUTO, &a));
    rt_ok(rt_vendi_measure((rt_points){x, 24, 16, twice}, RT_VENDI_AUTO, &b));
    rt_assert_near(b.q1, a.q1, 0, 1e-9); /* every row twice changes nothing */
    for (int i = 0; i < 8; i++) eye[9 * i] = (float)(i + 1);
    rt_ok(rt_vendi_measure((rt_points){eye, 8, 8, NULL}, RT_VENDI_AUTO, &a));
    rt_assert_near(a.q1, 8, 0, 1e-12);
    rt_assert_near(a.qinf, 8, 0, 1e-12);
    memset(twice, 0, sizeof twice);
    rt_ok(rt_vendi_measure((rt_points){x, 24, 16, twice}, RT_VENDI_AUTO, &a));
    rt_assert_near(a.q1, 1, 0, 1e-9);
    memset(eye, 0, 8 * sizeof *eye);
    rt_fails(rt_vendi_measure((rt_points){eye, 8, 8, NULL}, RT_VENDI_AUTO, &a), RT_ERR_NUMERIC);
    ck_assert_str_eq(rt_error_what(), "feature row 0 is zero: it has no cosine");
    free(x);
    free(eye);
}
END_TEST

/* k + 1 copies: the radius is 0 and the strict test never succeeds there. */
START_TEST(duplicates)
{
    const rt_points x = POINTS(1, 4, 4, 4, 9, 10, 12);
    rt_prdc v;
    double r[6];
    rt_ok(rt_knn_radii(x, (const int64_t[]){2}, 1, 0, r));
    ck_assert(r[0] == 0 && r[1] == 0 && r[2] == 0);
    rt_ok(rt_prdc_measure(x, x, 2, 0, &v));
    rt_assert_near(v.coverage, 0.5, 1e-12, 0);
    rt_assert_near(v.precision, 0.5, 1e-12, 0);
}
END_TEST

START_TEST(errors)
{
    float x[] = {0, 1, 2, 3, 4, 5, 6, 7}, y[] = {0, 1, 2, NAN};
    const rt_points px = {x, 4, 2, NULL}, py = {y, 2, 2, NULL};
    const int64_t idx[] = {0, 1};
    rt_prdc v = {7, 7, 7, 7};
    rt_mmd m;
    double r[4];
    rt_fails(rt_knn_radii(px, (const int64_t[]){4}, 1, 0, r), RT_ERR_ARG);
    rt_fails(rt_knn_radii(px, (const int64_t[]){0}, 1, 0, r), RT_ERR_ARG);
    rt_fails(rt_prdc_measure(px, (rt_points){x, 2, 2, NULL}, 2, 0, &v), RT_ERR_ARG);
    ck_assert_msg(strstr(rt_error_where(), "set's") != NULL, "%s", rt_error_where());
    rt_fails(rt_prdc_measure(px, (rt_points){x, 2, 3, NULL}, 1, 0, &v), RT_ERR_ARG);
    rt_fails(rt_prdc_measure(px, (rt_points){x, 0, 2, NULL}, 1, 0, &v), RT_ERR_ARG);
    rt_fails(rt_prdc_measure(px, py, 1, 0, &v), RT_ERR_NUMERIC);
    ck_assert_str_eq(rt_error_what(), "set feature row 1 of 2 holds NaN or infinity");
    y[3] = INFINITY;
    rt_fails(rt_prdc_measure((rt_points){y, 2, 2, idx}, px, 1, 0, &v), RT_ERR_NUMERIC);
    ck_assert_str_eq(rt_error_what(), "real feature row 1 of 2 holds NaN or infinity");
    rt_fails(rt_mmd_measure(px, px, RT_KERNEL_RBF, 0, 0, &m), RT_ERR_ARG);
    rt_fails(rt_mean_cosine((rt_points){x, 1, 2, NULL}, r), RT_ERR_ARG);
    ck_assert(v.precision == 7);
    rt_stop_request();
    rt_fails(rt_prdc_measure(px, px, 1, 0, &v), RT_ERR_CANCELLED);
    rt_stop_clear();
    rt_ok(rt_mmd_measure((rt_points){x, 1, 2, NULL}, px, RT_KERNEL_ENERGY, 0, 0, &m));
    ck_assert(isnan(m.unbiased) && m.biased > 0);
}
END_TEST

static const rt_test tests[] = {{"identical sets", identical_sets},
                                {"tiles and threads", tiles_and_threads_do_not_matter},
                                {"distances", distances_are_right},
                                {"random subsets", random_subsets_obey_the_law},
                                {"scale and rotation", scale_and_rotation},
                                {"frechet forms", frechet_forms_agree},
                                {"vendi laws", vendi_laws},
                                {"duplicates", duplicates},
                                {"errors", errors}};
RT_SUITE("metrics.laws", tests)
