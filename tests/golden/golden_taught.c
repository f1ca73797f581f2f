/* Steps of students that learn from teachers against PyTorch in float64 (taught/generate.py): the compiled step that the trainer
 * runs, with its own bindings. */
#include "base/alloc.h"
#include "golden.h"
#include "teacher/steps.h"

enum { BATCH = 6, SIZE = 8, CLASSES = 5 };

static rt_model_desc net_of(int32_t depth, int32_t width)
{
    return (rt_model_desc){.arch = "convnet", .depth = depth, .width = width, .norm = RT_MODEL_NORM_BATCH, .size = SIZE, .channels = 3,
                           .classes = CLASSES};
}

static float *narrow(double *v, int64_t n) /* every value is a float32 number */
{
    float *f = rt_malloc((size_t)n * sizeof *f);
    for (int64_t i = 0; i < n; i++) f[i] = (float)v[i];
    free(v);
    return f;
}

static rt_committee make_teachers(int32_t n, const double *weight)
{
    static const int32_t shape[2][2] = {{1, 6}, {2, 4}};
    rt_committee c = {.n = n, .teacher = rt_calloc((size_t)n * sizeof *c.teacher)};
    for (int32_t i = 0; i < n; i++) {
        rt_teacher *k = &c.teacher[i];
        rt_model_desc d = net_of(shape[i][0], shape[i][1]);
        snprintf(k->name, sizeof k->name, "teacher %d", i);
        rt_ok(rt_model_create(&d, &k->model));
        k->theta = narrow(golden_theta(k->model), rt_model_n_params(k->model));
        k->buffers = narrow(golden_buffers(k->model), rt_model_n_buffers(k->model));
        k->weight = weight[i];
    }
    return c;
}

/* Reads a tensor as doubles. Caller frees. */
static double *values(const rt_tensor *t, int64_t n)
{
    double *v = malloc((size_t)n * sizeof *v);
    rt_ok(rt_tensor_read_f64(t, v, (size_t)n));
    return v;
}

static void assert_tensor(const rt_st_file *f, const char *label, const char *what, const rt_tensor *t, int64_t n, precision pr)
{
    char name[64];
    snprintf(name, sizeof name, "%s.%s", label, what);
    double *v = values(t, n);
    assert_vector(name, v, golden(f, name, n), n, pr);
    free(v);
}

/* What a step moves, apart from what it started at: a wrong gradient is not hidden behind large weights. */
static void assert_moved(const rt_st_file *f, const char *label, const rt_trainer *t, const double *from, precision pr)
{
    char name[64];
    const int64_t n = t->n_params;
    snprintf(name, sizeof name, "%s.theta", label);
    const double *want = golden(f, name, n);
    double *got = values(t->theta, n), *move = malloc((size_t)n * sizeof *move);
    for (int64_t i = 0; i < n; i++) {
        got[i] -= from[i];
        move[i] = want[i] - from[i];
    }
    assert_vector(name, got, move, n, (precision){pr.backend, 10 * pr.rel});
    free(got), free(move);
}

static void check_case(const char *label, int32_t n_teachers, const double *weight, rt_recipe r, int steps, precision pr)
{
    rt_st_file *f = golden_open("taught/taught");
    rt_backend *be = NULL;
    rt_trainer *t = NULL;
    rt_train_step *s = NULL;
    rt_committee c = make_teachers(n_teachers, weight);
    rt_model_desc d = net_of(2, 8);
    const bool adamw = r.optim.kind == RT_ADAMW;
    const double lr = adamw ? 1e-3 : 0.5;
    char name[64];
    snprintf(r.name, sizeof r.name, "%s", label);
    r.batch = BATCH;
    r.optim.weight_decay = 0.01, r.optim.beta1 = 0.9, r.optim.beta2 = 0.999;
    r.optim.eps = 1e-4; /* biases in front of a norm have gradients of rounding errors, whose signs mean nothing */
    r.decay_kernels_only = true;
    rt_ok(rt_backend_open(pr.backend, &(rt_backend_opts){.threads = 1, .strict = true}, &be));
    rt_ok(rt_trainer_create_taught(be, &d, &r, 1, &c, &t));
    rt_ok(rt_train_step_get(t, BATCH, &s));
    const int64_t p = t->n_params, b = t->n_buffers;
    double *x = filled(900, BATCH * SIZE * SIZE * 3, 1, 0), *theta = golden_theta(t->model), *buffers = golden_buffers(t->model);
    double *decay = malloc((size_t)p * sizeof *decay), q[BATCH * CLASSES] = {0};
    float *mask = malloc((size_t)p * sizeof *mask);
    rt_model_decay_mask(t->model, mask);
    for (int64_t i = 0; i < p; i++) decay[i] = 0.01 * (double)mask[i];
    for (int i = 0; i < BATCH; i++) q[i * CLASSES + i % CLASSES] = 1;
    rt_ok(rt_tensor_write_f64(s->x, x, BATCH * SIZE * SIZE * 3));
    if (s->q) rt_ok(rt_tensor_write_f64(s->q, q, BATCH * CLASSES));
    rt_ok(rt_tensor_write_f64(t->theta, theta, (size_t)p));
    rt_ok(rt_tensor_write_f64(t->buffers, buffers, (size_t)b));
    rt_ok(rt_tensor_write_f64(t->decay, decay, (size_t)p));
    if (t->ema) rt_ok(rt_tensor_write_f64(t->ema, theta, (size_t)p));
    for (int i = 0; i < steps; i++) {
        double hyper[3] = {lr, 1 - pow(0.9, i + 1), 1 - pow(0.999, i + 1)};
        rt_ok(rt_tensor_write_f64(t->hyper, hyper, 3));
        rt_ok(rt_exec_run(s->exec));
        snprintf(name, sizeof name, "loss%d", i);
        assert_tensor(f, label, name, t->loss, 1, pr);
    }
    assert_tensor(f, label, "theta", t->theta, p, pr);
    assert_tensor(f, label, "buffers", t->buffers, b, pr);
    if (t->ema) assert_tensor(f, label, "ema", t->ema, p, pr);
    if (!adamw) assert_moved(f, label, t, theta, pr); /* the first steps of Adam are signs */
    for (int32_t i = 0; i < n_teachers; i++) { /* a teacher's tensors are read only */
        double *v = values(t->teacher_buffers[i], rt_model_n_buffers(c.teacher[i].model));
        for (int64_t j = 0; j < rt_model_n_buffers(c.teacher[i].model); j++) ck_assert(v[j] == (double)c.teacher[i].buffers[j]);
        free(v);
    }
    ck_assert(s->teacher_flops > 0);
    free(x), free(theta), free(buffers), free(decay), free(mask);
    rt_trainer_destroy(t);
    rt_committee_fini(&c);
    rt_backend_close(be);
    rt_st_close(f);
}

static const double even[] = {1, 1}, one_to_three[] = {1, 3};

START_TEST(kl_of_one_teacher)
{
    check_case("kl", 1, even, (rt_recipe){.loss = RT_LOSS_KL, .temperature = 20}, 1, precisions[_i]);
    check_case("kl_squared", 1, even, (rt_recipe){.loss = RT_LOSS_KL, .temperature = 4, .t_squared = true}, 1, precisions[_i]);
}
END_TEST

START_TEST(mse_gt_with_a_moving_average)
{
    check_case("mse_gt", 2, one_to_three, (rt_recipe){.loss = RT_LOSS_MSE_GT, .gamma = 0.025, .ema = 0.9, .optim.kind = RT_ADAMW}, 2,
               precisions[_i]);
}
END_TEST

START_TEST(equalised_teachers)
{
    check_case("equalised", 2, even, (rt_recipe){.loss = RT_LOSS_MSE_GT, .gamma = 0.1, .target = RT_TARGET_EQUALISED}, 1, precisions[_i]);
}
END_TEST

START_TEST(teachers_with_batch_statistics)
{
    check_case("bssl", 2, even, (rt_recipe){.loss = RT_LOSS_KL, .temperature = 20, .teacher_batch_stats = true, .parts = 2}, 1, precisions[_i]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("golden.taught");
    TCase *tc = tcase_create("taught");
    tcase_add_loop_test(tc, kl_of_one_teacher, 0, 2);
    tcase_add_loop_test(tc, mse_gt_with_a_moving_average, 0, 2);
    tcase_add_loop_test(tc, equalised_teachers, 0, 2);
    tcase_add_loop_test(tc, teachers_with_batch_statistics, 0, 2);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
