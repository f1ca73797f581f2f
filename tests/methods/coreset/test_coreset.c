/* Selectors: worked examples with exact orders and values, properties on random classes against a naive implementation
 * written here from the definitions, and the edges of the contract. */
#include <omp.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "methods/coreset/coreset.h"
#include "support/suite.h"

static const rt_select_opts raw = {.raw = true};

static void assert_order(const int64_t *got, const int64_t *want, int n)
{
    for (int i = 0; i < n; i++)
        if (got[i] != want[i]) ck_abort_msg("pick %d is %lld, want %lld", i, (long long)got[i], (long long)want[i]);
}

/* n x d rows around a few centres, so that a class has shape: clumps, and outliers of unequal norm. */
static float *toy_class(int64_t n, int64_t d, uint64_t seed)
{
    float *x = malloc((size_t)(n * d) * sizeof *x);
    rt_rng r = rt_rng_at(seed, RT_RNG_TEST, 0, 0);
    for (int64_t i = 0; i < n; i++) {
        double shift = (double)(i % 3) - 0.5, scale = i % 17 == 0 ? 3 : 0.5;
        for (int64_t k = 0; k < d; k++) x[i * d + k] = (float)(shift * (double)(k % 2) + scale * rt_rng_normal(&r));
    }
    return x;
}

/* --- naive versions: quadratic, from the definitions, in long double ------------------------------------------------ */
static long double *unit_rows(const float *x, int64_t n, int64_t d, bool is_raw)
{
    long double *u = malloc((size_t)(n * d) * sizeof *u);
    for (int64_t i = 0; i < n; i++) {
        long double q = 0;
        for (int64_t k = 0; k < d; k++) q += (long double)x[i * d + k] * x[i * d + k];
        for (int64_t k = 0; k < d; k++) u[i * d + k] = x[i * d + k] / (is_raw || q == 0 ? 1 : sqrtl(q));
    }
    return u;
}

static long double gap2(const long double *a, const long double *b, int64_t d)
{
    long double s = 0;
    for (int64_t k = 0; k < d; k++) s += (a[k] - b[k]) * (a[k] - b[k]);
    return s;
}

/* The row whose addition makes the mean of the picks nearest to the class mean; every mean is recomputed from scratch. */
static void naive_herding(const float *x, int64_t n, int64_t d, int64_t b, bool is_raw, int64_t *picked, double *err)
{
    long double *u = unit_rows(x, n, d, is_raw), *mean = calloc((size_t)d, sizeof *mean), *m = calloc((size_t)d, sizeof *m);
    for (int64_t i = 0; i < n * d; i++) mean[i % d] += u[i] / (long double)n;
    for (int64_t t = 0; t < b; t++) {
        long double best = INFINITY;
        for (int64_t j = 0; j < n; j++) {
            bool used = false;
            for (int64_t s = 0; s < t; s++) used |= picked[s] == j;
            if (used) continue;
            for (int64_t k = 0; k < d; k++) {
                m[k] = u[j * d + k];
                for (int64_t s = 0; s < t; s++) m[k] += u[picked[s] * d + k];
                m[k] /= (long double)(t + 1);
            }
            long double e = gap2(m, mean, d);
            if (e < best) best = e, picked[t] = j;
        }
        err[t] = (double)sqrtl(best);
    }
    free(u);
    free(mean);
    free(m);
}

/* Start at the row of least total squared distance to all others; then the farthest, with all distances recomputed. */
static void naive_kcenter(const float *x, int64_t n, int64_t d, int64_t b, bool is_raw, int64_t *picked, double *radius)
{
    long double *u = unit_rows(x, n, d, is_raw), best = INFINITY;
    for (int64_t i = 0; i < n; i++) {
        long double s = 0;
        for (int64_t j = 0; j < n; j++) s += gap2(u + i * d, u + j * d, d);
        if (s < best) best = s, picked[0] = i;
    }
    for (int64_t t = 1; t <= b; t++) {
        long double far = -1;
        int64_t at = -1;
        for (int64_t i = 0; i < n; i++) {
            long double near = INFINITY;
            for (int64_t s = 0; s < t; s++) {
                long double g = gap2(u + i * d, u + picked[s] * d, d);
                if (g < near) near = g;
            }
            if (near > far) far = near, at = i;
        }
        radius[t - 1] = (double)sqrtl(far);
        if (t < b) picked[t] = at;
    }
    free(u);
}

/* --- worked examples -------------------------------------------------------------------------------------------------- */
START_TEST(herding_table)
{
    static const float x[] = {0, 0, 4, 0, 0, 5, 4, 4, 1, 2, 3, 1};
    static const int64_t want[] = {4, 5, 3, 0};
    static const double err[] = {1, 0.5, 0.745355992, 0.25};
    int64_t got[4];
    double e[4];
    rt_ok(rt_select_herding(x, 6, 2, 4, &raw, got, e));
    assert_order(got, want, 4);
    for (int t = 0; t < 4; t++) rt_assert_near(e[t], err[t], 1e-9, 0);
}
END_TEST

START_TEST(kcenter_table)
{
    static const float x[] = {0, 1, 2, 6, 7, 12, 20};
    static const int64_t want[] = {0, 6, 5, 3, 2}, medoid[] = {4, 6, 0};
    static const double radius[] = {20, 8, 6, 2, 1};
    rt_select_opts o = {.raw = true, .start = RT_KCENTER_GIVEN, .start_row = 0};
    int64_t got[7];
    double r[7];
    rt_ok(rt_select_kcenter(x, 7, 1, 5, &o, got, r));
    assert_order(got, want, 5);
    for (int t = 0; t < 5; t++) rt_assert_near(r[t], radius[t], 1e-9, 0);
    rt_ok(rt_select_kcenter(x, 7, 1, 3, &raw, got, r));
    assert_order(got, medoid, 3);
    rt_assert_near(r[2], 5, 1e-9, 0);
    rt_ok(rt_select_kcenter(x, 7, 1, 7, &o, got, r));
    ck_assert(r[6] == 0);
}
END_TEST

START_TEST(el2n_table)
{
    static const float z[] = {2, 1, 0, 2, 1, 0, 2, 1, 0};
    static const int32_t y[] = {0, 1, 2};
    static const double want[] = {0.424336124, 1.010488058, 1.153465176};
    float p[9];
    double v[3];
    rt_ok(rt_el2n_logits(z, 3, 3, y, v));
    for (int i = 0; i < 3; i++) rt_assert_near(v[i], want[i], 1e-9, 0);
    for (int i = 0; i < 9; i++) p[i] = (float)(exp((double)z[i]) / (exp(2) + exp(1) + 1));
    rt_ok(rt_el2n_probs(p, 3, 3, y, v));
    for (int i = 0; i < 3; i++) rt_assert_near(v[i], want[i], 1e-7, 0); /* probabilities are rounded to float */
}
END_TEST

START_TEST(el2n_is_bounded)
{
    rt_rng r = rt_rng_at(5, RT_RNG_TEST, 0, 0);
    float z[50 * 7];
    int32_t y[50];
    double v[50];
    for (int i = 0; i < 350; i++) z[i] = (float)(30 * rt_rng_normal(&r));
    for (int i = 0; i < 50; i++) y[i] = (int32_t)rt_rng_below(&r, 7);
    rt_ok(rt_el2n_logits(z, 50, 7, y, v));
    for (int i = 0; i < 50; i++) ck_assert(v[i] >= 0 && v[i] <= sqrt(2) + 1e-15);
    y[3] = 7;
    rt_fails(rt_el2n_logits(z, 50, 7, y, v), RT_ERR_FORMAT);
    y[3] = 0;
    z[12 * 7 + 2] = NAN;
    rt_fails(rt_el2n_logits(z, 50, 7, y, v), RT_ERR_NUMERIC);
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "row 12"));
}
END_TEST

START_TEST(score_ranks_and_breaks_ties_by_row)
{
    static const double v[] = {0.5, 2, -1, 2, 0.5, 3};
    static const int64_t want[] = {5, 1, 3, 0, 4, 2};
    int64_t got[6];
    double s[6];
    rt_ok(rt_select_score(v, 6, 99, got, s));
    assert_order(got, want, 6);
    for (int i = 0; i < 6; i++) ck_assert(s[i] == v[want[i]]);
    const double bad[] = {1, NAN, 2};
    got[0] = -7;
    rt_fails(rt_select_score(bad, 3, 1, got, NULL), RT_ERR_NUMERIC);
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "row 1 "));
    ck_assert(got[0] == -7);
}
END_TEST

/* --- properties --------------------------------------------------------------------------------------------------- */
START_TEST(agrees_with_naive)
{
    enum { N = 83, D = 21, B = 30 };
    for (int mode = 0; mode < 2; mode++) {
        float *x = toy_class(N, D, 11 + (uint64_t)mode);
        rt_select_opts o = {.raw = mode};
        int64_t got[B], want[B];
        double gs[B], ws[B];
        rt_ok(rt_select_herding(x, N, D, B, &o, got, gs));
        naive_herding(x, N, D, B, mode, want, ws);
        assert_order(got, want, B);
        for (int t = 0; t < B; t++) rt_assert_near(gs[t], ws[t], 1e-12, 1e-10);
        rt_ok(rt_select_kcenter(x, N, D, B, &o, got, gs));
        naive_kcenter(x, N, D, B, mode, want, ws);
        assert_order(got, want, B);
        for (int t = 0; t < B; t++) rt_assert_near(gs[t], ws[t], 1e-12, 1e-10);
        free(x);
    }
}
END_TEST

START_TEST(keeps_digits_far_from_the_origin)
{
    enum { N = 60, D = 37, B = 20 }; /* rows a few float spacings apart at 1000: the expanded square has no digit left */
    float x[N * D];
    rt_rng r = rt_rng_at(6, RT_RNG_TEST, 0, 0);
    for (int i = 0; i < N * D; i++) x[i] = (float)(1000 + 1e-3 * rt_rng_normal(&r));
    memcpy(x + 40 * D, x + 7 * D, sizeof(float) * D); /* and one duplicate */
    int64_t got[N], want[B];
    double gs[N], ws[B];
    rt_ok(rt_select_herding(x, N, D, B, &raw, got, gs));
    naive_herding(x, N, D, B, true, want, ws);
    assert_order(got, want, B);
    for (int t = 0; t < B; t++) rt_assert_near(gs[t], ws[t], 1e-12, 1e-9);
    rt_ok(rt_select_kcenter(x, N, D, N, &raw, got, gs));
    naive_kcenter(x, N, D, B, true, want, ws);
    assert_order(got, want, B);
    for (int t = 0; t < B; t++) rt_assert_near(gs[t], ws[t], 1e-12, 1e-9);
    ck_assert(gs[N - 2] == 0 && got[N - 1] == 40); /* the copy adds nothing, so it comes last */
}
END_TEST

static rt_select_fn *const geometric[] = {rt_select_herding, rt_select_kcenter};

START_TEST(permutation_invariant)
{
    enum { N = 300, D = 19, B = 40 };
    float *x = toy_class(N, D, 3), *y = malloc(sizeof(float) * N * D);
    int64_t perm[N], a[B], b[B];
    rt_rng r = rt_rng_at(9, RT_RNG_TEST, 0, 0);
    for (int i = 0; i < N; i++) perm[i] = i;
    rt_rng_shuffle(&r, perm, N);
    for (int i = 0; i < N; i++) memcpy(y + i * D, x + perm[i] * D, sizeof(float) * D);
    for (int f = 0; f < 2; f++) {
        rt_ok(geometric[f](x, N, D, B, NULL, a, NULL));
        rt_ok(geometric[f](y, N, D, B, NULL, b, NULL));
        for (int t = 0; t < B; t++) b[t] = perm[b[t]];
        assert_order(b, a, B);
    }
    free(x);
    free(y);
}
END_TEST

START_TEST(prefixes_are_selections)
{
    enum { N = 120, D = 8 };
    rt_select_fn *const all[] = {rt_select_random, rt_select_herding, rt_select_kcenter};
    float *x = toy_class(N, D, 4);
    int64_t whole[N], part[N];
    for (int f = 0; f < 3; f++) {
        bool seen[N] = {0};
        rt_ok(all[f](x, N, D, N, NULL, whole, NULL));
        for (int i = 0; i < N; i++) { /* the whole class, each row once */
            ck_assert(whole[i] >= 0 && whole[i] < N && !seen[whole[i]]);
            seen[whole[i]] = true;
        }
        for (int b = 0; b < N; b += 7) {
            part[b] = -5;
            rt_ok(all[f](x, N, D, b, NULL, part, NULL));
            assert_order(part, whole, b);
            ck_assert(part[b] == -5); /* no write past the budget */
        }
    }
    free(x);
}
END_TEST

START_TEST(threads_do_not_matter)
{
    enum { N = 700, D = 131, B = 60 };
    float *x = toy_class(N, D, 8);
    static int64_t want[B], got[B];
    static double ws[B], gs[B];
    for (int f = 0; f < 2; f++) {
        omp_set_num_threads(1);
        rt_ok(geometric[f](x, N, D, B, NULL, want, ws));
        for (int t = 2; t <= 4; t += 2) {
            omp_set_num_threads(t);
            rt_ok(geometric[f](x, N, D, B, NULL, got, gs));
            ck_assert_mem_eq(got, want, sizeof want);
            ck_assert_mem_eq(gs, ws, sizeof ws);
        }
    }
    free(x);
}
END_TEST

START_TEST(random_draws_are_uniform_and_seeded)
{
    enum { N = 20, B = 5, RUNS = 4000 };
    int count[N] = {0};
    int64_t a[B], b[B];
    for (uint64_t s = 0; s < RUNS; s++) {
        rt_ok(rt_select_random(NULL, N, 0, B, &(rt_select_opts){.seed = s}, a, NULL));
        for (int t = 0; t < B; t++) count[a[t]]++;
    }
    for (int i = 0; i < N; i++) ck_assert_int_lt(abs(count[i] - RUNS * B / N), 140); /* 5 sd of a binomial(4000, 1/4) */
    rt_ok(rt_select_random(NULL, N, 0, B, &(rt_select_opts){.seed = 1, .cls = 2}, a, NULL));
    rt_ok(rt_select_random(NULL, N, 0, B, &(rt_select_opts){.seed = 1, .cls = 2}, b, NULL));
    ck_assert_mem_eq(a, b, sizeof a);
    rt_ok(rt_select_random(NULL, N, 0, B, &(rt_select_opts){.seed = 1, .cls = 3}, b, NULL));
    ck_assert_mem_ne(a, b, sizeof a);
    float x[N];
    int64_t first[3];
    for (int i = 0; i < N; i++) x[i] = (float)i;
    for (uint64_t s = 0; s < 3; s++)
        rt_ok(rt_select_kcenter(x, N, 1, 1, &(rt_select_opts){.seed = s, .start = RT_KCENTER_RANDOM}, first + s, NULL));
    ck_assert(first[0] != first[1] || first[1] != first[2]);
}
END_TEST

/* --- edges -------------------------------------------------------------------------------------------------------- */
START_TEST(small_and_large_budgets)
{
    static const float one[] = {3, 4}, same[] = {1, 2, 1, 2, 1, 2}, zeros[4] = {0};
    int64_t p[4] = {-1, -1, -1, -1};
    double s[4] = {-1, -1, -1, -1};
    for (int f = 0; f < 2; f++) {
        rt_ok(geometric[f](one, 1, 2, 0, NULL, p, s));
        ck_assert(p[0] == -1 && s[0] == -1);
        rt_ok(geometric[f](NULL, 0, 2, 3, NULL, p, s));
        ck_assert(p[0] == -1);
        rt_ok(geometric[f](one, 1, 2, 3, NULL, p, s));
        ck_assert(p[0] == 0 && p[1] == -1 && s[0] == 0);
        rt_ok(geometric[f](same, 3, 2, 9, NULL, p, s)); /* duplicates: ties all the way, in row order */
        assert_order(p, (const int64_t[]){0, 1, 2}, 3);
        ck_assert(s[2] < 1e-15 && p[3] == -1);
        rt_ok(geometric[f](zeros, 2, 2, 2, NULL, p, s)); /* zero rows have no direction and stay zero */
        assert_order(p, (const int64_t[]){0, 1}, 2);
        p[0] = p[1] = p[2] = -1;
        s[0] = -1;
    }
}
END_TEST

START_TEST(bad_input_is_refused)
{
    enum { N = 40, D = 5 };
    float *x = toy_class(N, D, 2);
    int64_t p[N] = {-9};
    for (int f = 0; f < 2; f++) {
        x[23 * D + 4] = f ? INFINITY : NAN;
        x[31 * D] = NAN;
        rt_fails(geometric[f](x, N, D, 3, NULL, p, NULL), RT_ERR_NUMERIC);
        ck_assert_ptr_nonnull(strstr(rt_error_what(), "row 23 "));
        rt_fails(geometric[f](x, N, D, -1, NULL, p, NULL), RT_ERR_ARG);
        rt_fails(geometric[f](x, N, 0, 1, NULL, p, NULL), RT_ERR_ARG);
        rt_fails(geometric[f](x, -1, D, 1, NULL, p, NULL), RT_ERR_ARG);
        rt_fails(geometric[f](NULL, N, D, 1, NULL, p, NULL), RT_ERR_ARG);
        rt_fails(geometric[f](x, INT64_MAX / 4, D, 1, NULL, p, NULL), RT_ERR_ARG);
        ck_assert(p[0] == -9);
    }
    rt_fails(rt_select_random(NULL, 3, 0, -1, NULL, p, NULL), RT_ERR_ARG);
    x[23 * D + 4] = x[31 * D] = 0;
    for (int64_t start = -1; start <= N; start += N + 1)
        rt_fails(rt_select_kcenter(x, N, D, 2, &(rt_select_opts){.start = RT_KCENTER_GIVEN, .start_row = start}, p, NULL),
                 RT_ERR_ARG);
    free(x);
}
END_TEST

START_TEST(no_memory_is_an_error_without_effect)
{
    enum { N = 40, D = 5 };
    float *x = toy_class(N, D, 2);
    rt_select_fn *const all[] = {rt_select_random, rt_select_herding, rt_select_kcenter};
    for (int f = 0; f < 3; f++) {
        int64_t p[3] = {-9, -9, -9};
        for (uint64_t k = 1;; k++) {
            rt_alloc_fail_at(k, 1);
            rt_status st = all[f](x, N, D, 3, NULL, p, NULL);
            rt_alloc_fail_at(0, 0);
            if (st == RT_OK) {
                ck_assert_uint_gt(k, 1);
                break;
            }
            ck_assert_int_eq(st, RT_ERR_NOMEM);
            ck_assert(p[0] == -9 && p[1] == -9 && p[2] == -9);
        }
    }
    free(x);
}
END_TEST

static const rt_test tests[] = {
    {"herding table", herding_table},
    {"k-center table", kcenter_table},
    {"EL2N table", el2n_table},
    {"EL2N bounds", el2n_is_bounded},
    {"score order and ties", score_ranks_and_breaks_ties_by_row},
    {"naive agreement", agrees_with_naive},
    {"far from the origin", keeps_digits_far_from_the_origin},
    {"permutation invariance", permutation_invariant},
    {"prefix property", prefixes_are_selections},
    {"thread invariance", threads_do_not_matter},
    {"random draws", random_draws_are_uniform_and_seeded},
    {"budgets", small_and_large_budgets},
    {"bad input", bad_input_is_refused},
    {"no memory", no_memory_is_an_error_without_effect},
};
RT_SUITE("coreset", tests)
