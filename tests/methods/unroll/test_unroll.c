/* The adjoint of an unroll: against central differences in float64, against its definition with the Hessian left out, and
 * its memory against the number of steps. */
#include <malloc.h>

#include "../../support/eval.h"
#include "../../support/suite.h"

#include "base/alloc.h"
#include "base/rng.h"
#include "methods/distill/unroll.h"

enum { IMAGES = 5, SIZE = 8, CLASSES = 3, STEPS = 5 };

typedef struct problem {
    rt_backend *be;
    rt_model *m;
    rt_unroll *u;
    double *x, *y, *theta, *target, beta;
    int64_t n_x, n_y, n_params;
} problem;

static double *draw(int64_t n, double lo, double hi, uint32_t stream)
{
    rt_rng r = rt_rng_at(3, RT_RNG_TEST, 0, stream);
    double *p = malloc((size_t)n * sizeof *p);
    for (int64_t i = 0; i < n; i++) p[i] = (double)(float)rt_rng_uniform_in(&r, lo, hi);
    return p;
}

static void write_all(const problem *p)
{
    rt_ok(rt_tensor_write_f64(rt_unroll_images(p->u), p->x, (size_t)p->n_x));
    rt_ok(rt_tensor_write_f64(rt_unroll_labels(p->u), p->y, (size_t)p->n_y));
    rt_ok(rt_tensor_write_f64(rt_unroll_step_size(p->u), &p->beta, 1));
}

static problem open_problem(const char *dsa, char mode, int32_t steps, int64_t batch, bool logits, bool hessian)
{
    problem p = {.beta = 0.2, .n_x = IMAGES * SIZE * SIZE * 3, .n_y = IMAGES * CLASSES};
    rt_dsa d = {0};
    rt_ok(rt_backend_open("ref", NULL, &p.be));
    rt_ok(rt_model_create(&(rt_model_desc){.arch = "convnet", .depth = 2, .width = 4, .norm = RT_MODEL_NORM_INSTANCE,
                                           .size = SIZE, .channels = 3, .classes = CLASSES},
                          &p.m));
    p.n_params = rt_model_n_params(p.m);
    rt_ok(rt_dsa_parse(dsa, mode, &d));
    rt_ok(rt_unroll_create(p.be, &(rt_unroll_desc){.model = p.m, .images = IMAGES, .batch = batch, .steps = steps,
                                                   .logits = logits, .hessian = hessian, .dsa = d},
                           &p.u));
    rt_unroll_draw(p.u, 9, 4);
    p.x = draw(p.n_x, -1, 1, 1);
    p.y = draw(p.n_y, logits ? -1 : 0.1, 1, 2);
    p.theta = draw(p.n_params, -0.5, 0.5, 3);
    p.target = draw(p.n_params, -0.02, 0.02, 4); /* near: L is a difference of trajectories over a small square */
    for (int64_t i = 0; i < p.n_params; i++) p.target[i] += p.theta[i];
    write_all(&p);
    return p;
}

static void close_problem(problem *p)
{
    rt_unroll_destroy(p->u);
    rt_model_destroy(p->m);
    rt_backend_close(p->be);
    free(p->x);
    free(p->y);
    free(p->theta);
    free(p->target);
}

static double loss_of(const problem *p)
{
    rt_unroll_result r;
    write_all(p);
    rt_ok(rt_unroll_run_f64(p->u, p->theta, p->target, 1e-300, &r)); /* over the limit: no adjoint */
    ck_assert(!r.complete);
    return r.loss;
}

/* The derivative along dir by the five-point rule. */
static double slope(const problem *p, double *at, const double *dir, int64_t n, double h)
{
    static const double step[4] = {-2, -1, 1, 2}, weight[4] = {1.0 / 12, -8.0 / 12, 8.0 / 12, -1.0 / 12};
    double sum = 0, *keep = malloc((size_t)n * sizeof *keep);
    memcpy(keep, at, (size_t)n * sizeof *keep);
    for (int k = 0; k < 4; k++) {
        for (int64_t i = 0; i < n; i++) at[i] = keep[i] + step[k] * h * dir[i];
        sum += weight[k] * loss_of(p) / h;
    }
    memcpy(at, keep, (size_t)n * sizeof *keep);
    free(keep);
    return sum;
}

static double *read_all(rt_tensor *t)
{
    const int64_t n = rt_shape_count(rt_tensor_shape(t));
    double *v = malloc((size_t)n * sizeof *v);
    rt_ok(rt_tensor_read_f64(t, v, (size_t)n));
    return v;
}

/* grad against differences: along one random direction, and for single elements, relative to the largest. */
static void check_gradient(const char *what, problem *p, double *at, const double *grad, int64_t n)
{
    double *dir = draw(n, 0.5, 1, 77), got = 0, top = 0;
    for (int64_t i = 0; i < n; i++) {
        got += grad[i] * dir[i];
        top = fabs(grad[i]) > top ? fabs(grad[i]) : top;
    }
    ck_assert_msg(top > 0, "%s: no gradient", what);
    double want = slope(p, at, dir, n, 1e-6);
    ck_assert_msg(fabs(got - want) <= 1e-5 * (fabs(want) + top), "%s along a direction: %.12g, differences %.12g", what,
                  got, want);
    for (int k = 0; k < 4; k++) {
        const int64_t i = k * (n - 1) / 3;
        memset(dir, 0, (size_t)n * sizeof *dir);
        dir[i] = 1;
        want = slope(p, at, dir, n, 1e-5);
        ck_assert_msg(fabs(grad[i] - want) <= 1e-5 * (fabs(want) + 0.01 * top), "%s [%lld]: %.12g, differences %.12g", what,
                      (long long)i, grad[i], want);
    }
    free(dir);
}

static void check_adjoint(const char *dsa, char mode, int64_t batch)
{
    rt_unroll_result r;
    problem p = open_problem(dsa, mode, STEPS, batch, true, true);
    char what[64];
    rt_ok(rt_unroll_run_f64(p.u, p.theta, p.target, 0, &r));
    ck_assert(r.complete);
    double *gx = read_all(rt_unroll_d_images(p.u)), *gu = read_all(rt_unroll_d_labels(p.u));
    snprintf(what, sizeof what, "%.30s: pixels", dsa);
    check_gradient(what, &p, p.x, gx, p.n_x);
    snprintf(what, sizeof what, "%.30s: label logits", dsa);
    check_gradient(what, &p, p.y, gu, p.n_y);
    snprintf(what, sizeof what, "%.30s: step size", dsa);
    check_gradient(what, &p, &p.beta, &r.d_step_size, 1);
    free(gx);
    free(gu);
    close_problem(&p);
}

START_TEST(adjoint_with_each_augmentation)
{
    static const char *const ops[] = {"none", "color", "crop", "cutout", "flip", "scale", "rotate"};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) check_adjoint(ops[i], 'S', 0);
}
END_TEST

/* Two images a step, one left over; and all augmentations in turn, in three stages. */
START_TEST(adjoint_of_batches) { check_adjoint("color_crop_cutout_flip_scale_rotate", 'M', 2); }
END_TEST

/* --- with and without the Hessian ------------------------------------------------------------------------------------------ */
typedef struct gradients {
    double *x, beta, loss;
} gradients;

static gradients gradient_of(int32_t steps, double beta, bool hessian)
{
    rt_unroll_result r;
    gradients g;
    problem p = open_problem("none", 'S', steps, 0, false, hessian);
    p.beta = beta;
    for (int64_t i = 0; i < p.n_y; i++) p.y[i] = i % CLASSES == i / CLASSES % CLASSES;
    write_all(&p);
    rt_ok(rt_unroll_run_f64(p.u, p.theta, p.target, 0, &r));
    g = (gradients){read_all(rt_unroll_d_images(p.u)), r.d_step_size, r.loss};
    close_problem(&p);
    return g;
}

/* |a - b| / |a| and the cosine. */
static double difference(const double *a, const double *b, int64_t n, double *cosine)
{
    double d = 0, aa = 0, bb = 0, ab = 0;
    for (int64_t i = 0; i < n; i++) {
        d += (a[i] - b[i]) * (a[i] - b[i]);
        aa += a[i] * a[i];
        bb += b[i] * b[i];
        ab += a[i] * b[i];
    }
    ck_assert(aa > 0 && bb > 0);
    *cosine = ab / sqrt(aa * bb);
    return sqrt(d / aa);
}

/* No product with the Hessian reaches the pixels of the last step, so with one step the two are the same. */
START_TEST(one_step_needs_no_hessian)
{
    gradients exact = gradient_of(1, 0.2, true), frozen = gradient_of(1, 0.2, false);
    double cosine;
    ck_assert_msg(difference(exact.x, frozen.x, IMAGES * SIZE * SIZE * 3, &cosine) <= 1e-14, "they differ");
    rt_assert_near(exact.beta, frozen.beta, 0, 1e-13);
    free(exact.x);
    free(frozen.x);
}
END_TEST

/* With more they differ by beta times products with the Hessian (matching.md 3.5): in proportion to beta where that is
 * small, and beyond agreement where it is not. */
START_TEST(frozen_gradient_is_off_in_proportion_to_the_step)
{
    static const double beta[] = {0.002, 0.02, 0.5};
    double off[3], cosine[3];
    for (int i = 0; i < 3; i++) {
        gradients exact = gradient_of(10, beta[i], true), frozen = gradient_of(10, beta[i], false);
        rt_assert_near(exact.loss, frozen.loss, 0, 1e-14); /* one trajectory */
        off[i] = difference(exact.x, frozen.x, IMAGES * SIZE * SIZE * 3, &cosine[i]);
        printf("  beta %.3g: frozen gradient off by %.3g, cosine %.5f; of beta: %.4g against %.4g\n", beta[i], off[i], cosine[i],
               frozen.beta, exact.beta);
        free(exact.x);
        free(frozen.x);
    }
    ck_assert_msg(off[1] / off[0] > 7 && off[1] / off[0] < 13, "ten times the step: %.3g times the difference", off[1] / off[0]);
    ck_assert_msg(off[2] > 0.2 && cosine[2] < 0.99, "a large step: off by %.3g, cosine %.4f", off[2], cosine[2]);
}
END_TEST

/* The whole unroll as one graph, differentiated as such, with and without paths through the weights. */
static void whole_graph(bool hessian, int32_t steps, problem *p, double *gx, double *gbeta)
{
    rt_graph *g;
    rt_ok(rt_graph_create(&g));
    rt_val x = rt_input(g, "x", RT_SHAPE(RT_F32, IMAGES, SIZE, SIZE, 3)), q = rt_input(g, "q", RT_SHAPE(RT_F32, IMAGES, CLASSES));
    rt_val theta = rt_input(g, "theta", RT_SHAPE(RT_F32, p->n_params)), end = theta, at = theta, d[2];
    rt_val target = rt_input(g, "target", RT_SHAPE(RT_F32, p->n_params)), beta = rt_input(g, "beta", RT_SCALAR_F32);
    for (int32_t t = 0; t < steps; t++) {
        rt_forward f;
        rt_val grad;
        rt_ok(rt_model_forward(p->m, g, x, at, (rt_val){0}, 1, &f));
        rt_ok(rt_model_grad(p->m, g, rt_mean_all(g, rt_softmax_ce(g, f.logits, q)), at, &grad));
        end = rt_sub(g, end, rt_mul(g, beta, grad));
        at = hessian ? end : rt_stop_gradient(g, end);
    }
    rt_val far = rt_sub(g, end, target), whole = rt_sub(g, theta, target);
    rt_ok(rt_grad(g, rt_div(g, rt_dot(g, far, far), rt_dot(g, whole, whole)), (rt_val[]){x, beta}, 2, d));
    const rt_feed feed[] = {{x, p->x}, {q, p->y}, {theta, p->theta}, {target, p->target}, {beta, &p->beta}};
    rt_ok(rt_eval_ref(g, feed, 5, d, 2, (void *[]){gx, gbeta}));
    rt_graph_destroy(g);
}

START_TEST(adjoint_is_that_of_the_whole_graph)
{
    for (int hessian = 0; hessian < 2; hessian++) {
        rt_unroll_result r;
        problem p = open_problem("none", 'S', 4, 0, false, hessian);
        double *want = malloc((size_t)p.n_x * sizeof *want), want_beta, cosine;
        for (int64_t i = 0; i < p.n_y; i++) p.y[i] = i % CLASSES == i / CLASSES % CLASSES;
        write_all(&p);
        rt_ok(rt_unroll_run_f64(p.u, p.theta, p.target, 0, &r));
        double *got = read_all(rt_unroll_d_images(p.u));
        whole_graph(hessian, 4, &p, want, &want_beta);
        ck_assert(difference(want, got, p.n_x, &cosine) <= 1e-11);
        rt_assert_near(r.d_step_size, want_beta, 0, 1e-11);
        free(want);
        free(got);
        close_problem(&p);
    }
}
END_TEST

/* --- limits ------------------------------------------------------------------------------------------------------------------- */
START_TEST(a_loss_over_the_limit_or_not_finite_is_not_differentiated)
{
    rt_unroll_result r;
    problem p = open_problem("none", 'S', 2, 0, false, true);
    rt_ok(rt_unroll_run_f64(p.u, p.theta, p.target, 0, &r));
    ck_assert(r.complete && r.loss > 0);
    double loss = r.loss;
    rt_ok(rt_unroll_run_f64(p.u, p.theta, p.target, loss * 0.999, &r));
    ck_assert(!r.complete && r.loss == loss);
    rt_ok(rt_unroll_run_f64(p.u, p.theta, p.target, loss * 1.001, &r));
    ck_assert(r.complete);
    rt_ok(rt_unroll_run_f64(p.u, p.theta, p.theta, 0, &r)); /* start and target are one point */
    ck_assert(!r.complete && !isfinite(r.loss));
    p.beta = 1e300;
    write_all(&p);
    rt_ok(rt_unroll_run_f64(p.u, p.theta, p.target, 0, &r));
    ck_assert(!r.complete);
    close_problem(&p);
}
END_TEST

START_TEST(sizes_that_make_no_sense_are_refused)
{
    rt_unroll *u = NULL;
    problem p = open_problem("none", 'S', 1, 0, false, true);
    rt_fails(rt_unroll_create(p.be, &(rt_unroll_desc){.model = p.m, .images = 3, .steps = 0}, &u), RT_ERR_CONFIG);
    rt_fails(rt_unroll_create(p.be, &(rt_unroll_desc){.model = p.m, .images = 0, .steps = 1}, &u), RT_ERR_CONFIG);
    rt_fails(rt_unroll_create(p.be, &(rt_unroll_desc){.model = p.m, .images = 3, .steps = 1, .batch = -1}, &u), RT_ERR_CONFIG);
    ck_assert_ptr_null(u);
    close_problem(&p);
}
END_TEST

/* Chunks come from the end of a shuffled list, the remainder first; every pass covers every image once. */
START_TEST(batches_cover_the_set)
{
    problem p = open_problem("none", 'S', 6, 2, false, true);
    for (int pass = 0; pass < 2; pass++) {
        int seen[IMAGES] = {0};
        for (int32_t t = 3 * pass; t < 3 * pass + 3; t++) {
            const rt_unroll_step *s = rt_unroll_plan(p.u, t);
            ck_assert_int_eq(s->n, t % 3 ? 2 : 1);
            for (int64_t i = 0; i < s->n; i++) seen[s->index[i]]++;
        }
        for (int i = 0; i < IMAGES; i++) ck_assert_int_eq(seen[i], 1);
    }
    const int32_t first = rt_unroll_plan(p.u, 1)->index[0];
    int moved = 0;
    for (int64_t it = 5; it < 12; it++) {
        rt_unroll_draw(p.u, 9, it);
        moved += rt_unroll_plan(p.u, 1)->index[0] != first;
    }
    rt_unroll_draw(p.u, 9, 4);
    ck_assert(moved > 0 && rt_unroll_plan(p.u, 1)->index[0] == first);
    close_problem(&p);
}
END_TEST

/* --- memory --------------------------------------------------------------------------------------------------------------------- */
static rt_unroll_desc large(const rt_model *m, int32_t steps, int64_t images)
{
    rt_unroll_desc d = {.model = m, .images = images, .steps = steps, .hessian = true};
    rt_ok(rt_dsa_parse("color_crop_cutout_flip_scale_rotate", 'S', &d.dsa));
    return d;
}

/* ConvNet-3, batch 100: one step's arena + (N + 1) |theta| + 5 %, a straight line in N. */
START_TEST(memory_is_one_step_and_the_path)
{
    static const int32_t steps[] = {10, 25, 50, 100};
    rt_unroll_stats s[4];
    rt_backend *be;
    rt_model *m;
    rt_ok(rt_backend_open("cpu", &(rt_backend_opts){.threads = 1}, &be));
    rt_ok(rt_model_create(&(rt_model_desc){.arch = "convnet", .norm = RT_MODEL_NORM_INSTANCE, .size = 32, .channels = 3,
                                           .classes = 10},
                          &m));
    const double theta = 4.0 * (double)rt_model_n_params(m);
    for (int i = 0; i < 4; i++) {
        const rt_unroll_desc d = large(m, steps[i], 100);
        rt_ok(rt_unroll_estimate(be, &d, &s[i]));
        const double total = (double)(s[i].step_bytes + s[i].path_bytes + s[i].other_bytes);
        const double allowed = 1.05 * ((double)s[i].step_bytes + (steps[i] + 1) * theta);
        printf("  N = %d: %.1f MB, one step's arena %.1f, allowed %.1f\n", steps[i], 1e-6 * total,
               1e-6 * (double)s[i].step_bytes, 1e-6 * allowed);
        ck_assert(total <= allowed);
        ck_assert_uint_eq(s[i].step_bytes, s[0].step_bytes);
        ck_assert_uint_eq(s[i].other_bytes, s[0].other_bytes);
        rt_assert_near((double)s[i].path_bytes, (steps[i] + 1) * theta, 0, 0);
    }
    rt_model_destroy(m);
    rt_backend_close(be);
}
END_TEST

enum { SIZES = 4 };
static const int32_t unrolled[SIZES] = {8, 16, 32, 64};

/* What the process takes for each number of steps, kept where it is less than least: pages that the kernel took away from an
 * idle process and gives back while it works add to a measurement and are nobody's memory. Returns the slope in |theta| a step. */
static double measured_slope(rt_backend *be, rt_model *m, const float *from, const float *to, double least[SIZES])
{
    for (int i = -1; i < SIZES; i++) { /* the first warms the allocator and the library */
        rt_unroll *u;
        rt_unroll_result r;
        const rt_unroll_desc d = large(m, i < 0 ? unrolled[SIZES - 1] : unrolled[i], 2);
        malloc_trim(0); /* nothing that was freed hides what is taken */
        rt_peak_rss_reset();
        const double before = (double)rt_peak_rss_bytes();
        rt_ok(rt_unroll_create(be, &d, &u));
        rt_ok(rt_tensor_write_f64(rt_unroll_step_size(u), &(double){0.01}, 1));
        rt_ok(rt_unroll_run(u, from, to, 0, &r));
        const double taken = (double)rt_peak_rss_bytes() - before;
        if (i >= 0 && taken < least[i]) least[i] = taken;
        rt_unroll_destroy(u);
    }
    const double slope = (least[SIZES - 1] - least[0]) / (unrolled[SIZES - 1] - unrolled[0]) / (4.0 * (double)rt_model_n_params(m));
    printf("  N = %d to %d: %.1f to %.1f MB more than before, %.3f |theta| a step\n", unrolled[0], unrolled[SIZES - 1],
           1e-6 * least[0], 1e-6 * least[SIZES - 1], slope);
    return slope;
}

/* The same line in the memory that the process really takes, on a smaller network. */
START_TEST(measured_memory_is_that_line)
{
    enum { TRIES = 5 };
    rt_backend *be;
    rt_model *m;
    rt_ok(rt_backend_open("cpu", &(rt_backend_opts){.threads = 1}, &be));
    rt_ok(rt_model_create(&(rt_model_desc){.arch = "convnet", .width = 64, .norm = RT_MODEL_NORM_INSTANCE, .size = 32,
                                           .channels = 3, .classes = 10},
                          &m));
    const int64_t P = rt_model_n_params(m);
    float *a = malloc((size_t)P * sizeof *a), *b = malloc((size_t)P * sizeof *b);
    rt_model_init(m, 1, 0, a, NULL);
    rt_model_init(m, 1, 1, b, NULL);
    double least[SIZES] = {HUGE_VAL, HUGE_VAL, HUGE_VAL, HUGE_VAL}, slope = measured_slope(be, m, a, b, least);
    for (int k = 1; k < TRIES && !(fabs(slope - 1) <= 0.1); k++) slope = measured_slope(be, m, a, b, least);
    rt_assert_near(slope, 1, 0.1, 0);
    free(a);
    free(b);
    rt_model_destroy(m);
    rt_backend_close(be);
}
END_TEST

static const rt_test tests[] = {{"adjoint with each augmentation", adjoint_with_each_augmentation},
                                {"adjoint of batches and stages", adjoint_of_batches},
                                {"adjoint of the whole graph", adjoint_is_that_of_the_whole_graph},
                                {"one step needs no Hessian", one_step_needs_no_hessian},
                                {"frozen gradient", frozen_gradient_is_off_in_proportion_to_the_step},
                                {"limits", a_loss_over_the_limit_or_not_finite_is_not_differentiated},
                                {"refusals", sizes_that_make_no_sense_are_refused},
                                {"batches cover the set", batches_cover_the_set},
                                {"planned memory", memory_is_one_step_and_the_path},
                                {"measured memory", measured_memory_is_that_line}};
RT_SUITE("methods.unroll", tests)
