/* Small examples with values worked by hand or by independent closed forms. */
#include "points.h"

#define TIGHT 1e-9

static void check_prdc(rt_points x, rt_points y, int64_t k, rt_prdc want)
{
    rt_prdc got;
    rt_ok(rt_prdc_measure(x, y, k, 0, &got));
    rt_assert_near(got.precision, want.precision, TIGHT, 0);
    rt_assert_near(got.recall, want.recall, TIGHT, 0);
    rt_assert_near(got.density, want.density, TIGHT, 0);
    rt_assert_near(got.coverage, want.coverage, TIGHT, 0);
}

START_TEST(prdc_on_a_line)
{
    const rt_points x = POINTS(1, 0, 1, 3, 6, 10), y = POINTS(1, 0.5, 2.5, 9, 20);
    static const double rx[] = {1, 1, 2, 3, 4, 3, 2, 3, 4, 7}, ry[] = {2, 2, 6.5, 11, 8.5, 6.5, 8.5, 17.5};
    double r[10];
    rt_ok(rt_knn_radii(x, (const int64_t[]){1, 2}, 2, 0, r));
    for (int i = 0; i < 10; i++) rt_assert_near(r[i], rx[i], TIGHT, 0);
    rt_ok(rt_knn_radii(y, (const int64_t[]){1, 2}, 2, 0, r));
    for (int i = 0; i < 8; i++) rt_assert_near(r[i], ry[i], TIGHT, 0);
    check_prdc(x, y, 1, (rt_prdc){0.75, 1, 1, 0.8});
    check_prdc(x, y, 2, (rt_prdc){0.75, 1, 1.125, 1});
    check_prdc(x, POINTS(1, 1, 6), 1, (rt_prdc){1, 1, 1, 0.4});
}
END_TEST

/* Averages over all m-subsets of seven points without ties equal the closed form. */
static void enumerate(int m, int64_t k, double want)
{
    static const float x[] = {0, 1, 3, 6, 10, 15, 21};
    double density = 0, coverage = 0;
    int count = 0;
    for (int mask = 0; mask < 128; mask++) {
        if (__builtin_popcount((unsigned)mask) != m) continue;
        float y[7];
        int n = 0;
        for (int i = 0; i < 7; i++)
            if (mask >> i & 1) y[n++] = x[i];
        rt_prdc v;
        rt_ok(rt_prdc_measure((rt_points){x, 7, 1, NULL}, (rt_points){y, m, 1, NULL}, k, 0, &v));
        ck_assert(v.precision == 1);
        density += v.density;
        coverage += v.coverage;
        count++;
    }
    rt_assert_near(density / count, 1, TIGHT, 0);
    rt_assert_near(coverage / count, want, TIGHT, 0);
    rt_assert_near(rt_coverage_expected(7, m, k), want, TIGHT, 0);
}

START_TEST(prdc_over_all_subsets)
{
    enumerate(3, 1, 3.0 / 7);
    enumerate(3, 2, 5.0 / 7);
    enumerate(4, 2, 6.0 / 7);
}
END_TEST

START_TEST(expected_coverage)
{
    static const struct {
        int64_t n, m, k;
        double want;
    } row[] = {{1300, 10, 5, 0.037931860},       {1300, 50, 5, 0.178326352},       {1300, 100, 5, 0.330253576},
               {1281167, 10000, 5, 0.038422474}, {1281167, 50000, 5, 0.180486759}, {5000, 10, 5, 0.009964050},
               {500, 10, 5, 0.096450326}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        rt_assert_near(rt_coverage_expected(row[i].n, row[i].m, row[i].k), row[i].want, TIGHT, 0);
        rt_assert_near(rt_coverage_expected_sampled(row[i].n, row[i].n, row[i].m, row[i].k), row[i].want, TIGHT, 0);
    }
    ck_assert(rt_coverage_expected(10, 10, 3) == 1);
    ck_assert(rt_coverage_expected(10, 0, 3) == 0);
    ck_assert(isnan(rt_coverage_expected(10, 3, 10)) && isnan(rt_coverage_expected(10, 11, 3)));
}
END_TEST

/* Every reference sample of 4 of 6 points with every 2-subset of the 6. */
START_TEST(expected_coverage_of_a_sampled_reference)
{
    static const float x[] = {0, 1, 3, 6.5f, 11, 18};
    for (int64_t k = 1; k < 4; k++) {
        double coverage = 0;
        int count = 0;
        for (int a = 0; a < 64; a++)
            for (int b = 0; b < 64; b++) {
                if (__builtin_popcount((unsigned)a) != 4 || __builtin_popcount((unsigned)b) != 2) continue;
                float ref[4], y[2];
                double r[4];
                int n = 0, m = 0;
                for (int i = 0; i < 6; i++) {
                    if (a >> i & 1) ref[n++] = x[i];
                    if (b >> i & 1) y[m++] = x[i];
                }
                rt_ok(rt_knn_radii((rt_points){ref, 4, 1, NULL}, &k, 1, 0, r));
                for (int i = 0; i < 4; i++)
                    coverage += fabs(ref[i] - y[0]) < r[i] - 1e-6 || fabs(ref[i] - y[1]) < r[i] - 1e-6;
                count += 4;
            }
        rt_assert_near(rt_coverage_expected_sampled(6, 4, 2, k), coverage / count, TIGHT, 0);
    }
}
END_TEST

START_TEST(nearest_on_a_line)
{
    rt_nearest v;
    rt_ok(rt_nearest_measure(POINTS(1, 0, 1, 2, 6, 7, 12, 20), POINTS(1, 1, 7, 20), 0, &v));
    rt_assert_near(v.max, 5, TIGHT, 0);
    rt_assert_near(v.mean, 8.0 / 7, TIGHT, 0);
    rt_assert_near(v.rest, 2, TIGHT, 0);
    rt_assert_near(v.mean_square, 4, TIGHT, 0);
    rt_assert_near(v.p50, 1, TIGHT, 0);
    rt_assert_near(v.p90, 1 + 0.4 * 4, TIGHT, 0); /* sorted 0 0 0 1 1 1 5: place 5.4 */
    rt_ok(rt_nearest_measure(POINTS(1, 0, 1, 2, 6, 7, 12, 20), POINTS(1, 1.00001f, 7, 20), 0, &v));
    rt_assert_near(v.rest, 2, 1e-5, 0); /* 1 is still in the set, up to round-off of its features */
}
END_TEST

static void check_mmd(rt_points x, rt_points y, rt_mmd_kernel kernel, double sigma2, double biased, double unbiased)
{
    rt_mmd v;
    rt_ok(rt_mmd_measure(x, y, kernel, sigma2, 0, &v));
    rt_assert_near(v.biased, biased, TIGHT, 0);
    rt_assert_near(v.unbiased, unbiased, TIGHT, 0);
}

START_TEST(kernel_distances)
{
    const rt_points x = POINTS(2, 0, 0, 1, 0, 0, 1), y = POINTS(2, 1, 1, 2, 0);
    check_mmd(POINTS(1, 0, 1), POINTS(1, 0, 2), RT_KERNEL_RBF, 1, 0.5 * (1 - exp(-0.5)), -0.432332358383);
    check_mmd(x, y, RT_KERNEL_RBF, 1, 0.566962656, 0.093229127);
    check_mmd(x, y, RT_KERNEL_RBF, 4, 0.265326885, 0.104037786);
    check_mmd(x, y, RT_KERNEL_CUBIC, 0, 8 + 13.0 / 36, 3 + 1.0 / 12);

    rt_mmd v;
    rt_ok(rt_mmd_measure(POINTS(1, 0, 1), POINTS(1, 0, 2), RT_KERNEL_ENERGY, 0, 0, &v));
    rt_assert_near(v.biased, 0.5, TIGHT, 0);
    rt_ok(rt_mmd_measure(x, y, RT_KERNEL_ENERGY, 0, 0, &v));
    rt_assert_near(-v.mean_xy, 1.441713590, TIGHT, 0);
    rt_assert_near(-v.mean_xx, 0.758714125, TIGHT, 0);
    rt_assert_near(-v.mean_yy, 0.707106781, TIGHT, 0);
    rt_assert_near(v.biased, 1.417606274, TIGHT, 0);
}
END_TEST

START_TEST(median_distance)
{
    double s;
    rt_ok(rt_rbf_sigma2(POINTS(1, 0, 3), 7, &s)); /* one pair */
    rt_assert_near(s, 9, 0, 0);
    rt_ok(rt_rbf_sigma2(POINTS(1, 0, 1, 3), 7, &s)); /* squares 1, 4, 9 equally often */
    rt_assert_near(s, 4, 0, 0);
    rt_fails(rt_rbf_sigma2(POINTS(1, 2, 2, 2, 2), 7, &s), RT_ERR_NUMERIC);
    rt_fails(rt_rbf_sigma2(POINTS(1, 2), 7, &s), RT_ERR_ARG);
}
END_TEST

START_TEST(frechet_distances)
{
    static const rt_frechet_form form[] = {RT_FRECHET_DENSE, RT_FRECHET_LOW_RANK};
    const rt_points a = POINTS(2, 0, 0, 2, 1, 1, 3, 3, 2, 4, 4);
    double v;
    for (int f = 0; f < 2; f++) {
        rt_ok(rt_frechet(POINTS(2, 1, 0, -1, 0, 0, 2, 0, -2), POINTS(2, 4, 1, 2, 1, 3, 2, 3, 0), form[f], &v));
        rt_assert_near(v, 10 + 2.0 / 3, TIGHT, 0);
        rt_ok(rt_frechet(POINTS(2, 0, 0, 2, 0, 0, 2, 2, 2), POINTS(2, 0, 0, 1, 1, 2, 2, 3, 1), form[f], &v));
        rt_assert_near(v, 0.650680343, TIGHT, 0);
        rt_ok(rt_frechet(a, POINTS(2, 1, 0, 0, 2, 3, 1, 2, 5), form[f], &v)); /* covariances do not commute */
        rt_assert_near(v, 1.212825155, TIGHT, 0);
        rt_ok(rt_frechet(a, POINTS(2, 1, 0, 3, 2), form[f], &v)); /* rank one: a ridge would show */
        rt_assert_near(v, 1.753788749, TIGHT, 0);
    }
    rt_fails(rt_frechet(a, POINTS(2, 1, 0), RT_FRECHET_AUTO, &v), RT_ERR_ARG);
}
END_TEST

START_TEST(vendi_scores)
{
    rt_vendi v;
    rt_ok(rt_vendi_of_kernel((const double[]){1, .9, 0, .9, 1, 0, 0, 0, 1}, 3, &v));
    rt_assert_near(v.q1, 2.157300483, TIGHT, 0);
    rt_assert_near(v.q2, 1.948051948, TIGHT, 0);
    rt_assert_near(v.qinf, 1.578947368, TIGHT, 0);
    rt_assert_near(rt_vendi_of_eigenvalues((const double[]){1.0 / 30, 1.0 / 3, 19.0 / 30}, 3, 0.5), 2.420348357, TIGHT,
                   0);
    for (rt_vendi_form f = RT_VENDI_AUTO; f <= RT_VENDI_DUAL; f++) { /* (.6, .8) is not unit in float32 */
        rt_ok(rt_vendi_measure(POINTS(2, 1, 0, 3, 4, 0, 1), f, &v));
        rt_assert_near(v.q1, 3 / pow(2, 2.0 / 3), TIGHT, 0);
        rt_assert_near(v.q2, 1.8, TIGHT, 0);
        rt_assert_near(v.qinf, 1.5, TIGHT, 0);
    }
    double k[36];
    for (int i = 0; i < 36; i++) k[i] = exp(-10.0 * abs(i / 6 / 2 - i % 6 / 2));
    rt_ok(rt_vendi_of_kernel(k, 6, &v));
    rt_assert_near(v.q1, 2.999999996, TIGHT, 0);
}
END_TEST

START_TEST(companions)
{
    double v;
    rt_ok(rt_mean_cosine(POINTS(2, 1, 0, 3, 4, 0, 1), &v));
    rt_assert_near(v, 1.4 / 3, TIGHT, 0);
    rt_spread s;
    rt_ok(rt_spread_measure(POINTS(2, 0, 0, 2, 0, 0, 1, 2, 1), &s));
    rt_assert_near(s.trace, 1.25, TIGHT, 0);
    rt_assert_near(s.trace_unbiased, 5.0 / 3, TIGHT, 0);
    rt_assert_near(s.effective_rank, 1.649384888, TIGHT, 0);
    rt_assert_near(s.effective_rank_sv, 1.889881575, TIGHT, 0);
    rt_assert_near(s.participation, 1.470588235, TIGHT, 0);
    rt_ok(rt_spread_measure(POINTS(2, .1f, .7f, .1f, .7f, .1f, .7f), &s));
    ck_assert(isnan(s.effective_rank) && isnan(s.participation));
    rt_ok(rt_spread_measure(POINTS(2, 3, 4), &s));
    ck_assert(s.trace == 0 && isnan(s.trace_unbiased));
}
END_TEST

START_TEST(balance)
{
    rt_balance b;
    rt_ok(rt_balance_measure((const int32_t[]){0, 1, 0, 1}, 4, 2, &b));
    ck_assert(b.min == 2 && b.max == 2);
    rt_assert_near(b.entropy, 1, TIGHT, 0);
    rt_ok(rt_balance_measure((const int32_t[]){0, 0, 0, 2}, 4, 4, &b));
    ck_assert(b.min == 0 && b.max == 3);
    rt_assert_near(b.entropy, -(0.75 * log(0.75) + 0.25 * log(0.25)) / log(4), TIGHT, 0);
    rt_fails(rt_balance_measure((const int32_t[]){0, 4}, 2, 4, &b), RT_ERR_ARG);
    rt_fails(rt_balance_measure((const int32_t[]){0, -1}, 2, 4, &b), RT_ERR_ARG);
}
END_TEST

static const rt_test tests[] = {{"prdc on a line", prdc_on_a_line},
                                {"prdc over all subsets", prdc_over_all_subsets},
                                {"expected coverage", expected_coverage},
                                {"expected coverage, sampled", expected_coverage_of_a_sampled_reference},
                                {"nearest", nearest_on_a_line},
                                {"kernel distances", kernel_distances},
                                {"median distance", median_distance},
                                {"frechet", frechet_distances},
                                {"vendi", vendi_scores},
                                {"companions", companions},
                                {"balance", balance}};
RT_SUITE("metrics.worked", tests)
