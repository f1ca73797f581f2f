/* The adjoint of an unroll: against central differences in float64, against its definition with the Hessian left out, and
 * its memory against the number of steps. */
#include "../../support/eval.h"
#include "../../support/suite.h"

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

static const rt_test tests[] = {{"adjoint with each augmentation", adjoint_with_each_augmentation},
                                {"adjoint of batches and stages", adjoint_of_batches}};
RT_SUITE("methods.unroll", tests)
