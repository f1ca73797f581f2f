/* Every convolutional network of torchvision against torchvision (networks.py): names, shapes and order of the state_dict, logits
 * from given weights and buffers, one training step's gradients and statistics, and the round trip through a file. */
#include <unistd.h>

#include "golden.h"

typedef struct row {
    const char *arch;
    int32_t size, small; /* of the vectors */
    double rel;          /* of gradients on the cpu: float32 through many batch norms; float64 agrees where ref is run */
    int32_t ref;         /* gradients on ref too: seconds */
} row;

static const row rows[] = {
    {"resnet34", 64, 0, 1e-2, 0},           {"mobilenet_v2", 64, 0, 1e-3, 1},
    {"shufflenet_v2_x0_5", 64, 0, 1e-3, 1}, {"shufflenet_v2_x1_0", 64, 0, 1e-3, 0},
};
enum { ROWS = sizeof rows / sizeof *rows, CLASSES = 10, IMAGES = 8, BATCH = 4 };

static rt_model *make(const char *arch, int32_t size, int32_t classes, int32_t small)
{
    rt_model_desc d = {.size = size, .channels = 3, .classes = classes, .small_stem = small};
    rt_model *m = NULL;
    snprintf(d.arch, sizeof d.arch, "%s", arch);
    rt_ok(rt_model_create(&d, &m));
    return m;
}

START_TEST(state_dict)
{
    const char *arch = rows[_i].arch, *root = getenv("RT_SOURCE_DIR");
    char path[512], name[128], dims[64], whose[64];
    rt_model *m = make(arch, 224, 1000, 0);
    int32_t params = 0, stats = 0;
    snprintf(path, sizeof path, "%s/tests/golden/networks.txt", root ? root : ".");
    FILE *f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    while (fscanf(f, "%63s %127s %63s", whose, name, dims) == 3) {
        if (strcmp(whose, arch)) continue;
        if (strcmp(name, "parameters") == 0) {
            ck_assert_int_eq(rt_model_n_params(m), strtoll(dims, NULL, 10));
            continue;
        }
        if (strstr(name, ".running_")) {
            ck_assert_int_lt(stats, rt_model_stat_count(m));
            const rt_model_stat *s = rt_model_stat_at(m, stats++);
            ck_assert_str_eq(s->name, name);
            ck_assert_int_eq(s->count, strtoll(dims, NULL, 10));
            continue;
        }
        ck_assert_int_lt(params, rt_model_param_count(m));
        const rt_param *p = rt_model_param(m, params++);
        char ours[64] = "";
        for (int32_t k = 0, at = 0; k < p->shape.rank; k++)
            at += snprintf(ours + at, sizeof ours - (size_t)at, "%s%lld", k ? "x" : "", (long long)p->shape.d[k]);
        ck_assert_str_eq(p->name, name);
        ck_assert_str_eq(ours, dims);
    }
    fclose(f);
    ck_assert_int_gt(params, 0);
    ck_assert_int_eq(params, rt_model_param_count(m));
    ck_assert_int_eq(stats, rt_model_stat_count(m));
    rt_model_destroy(m);
}
END_TEST

typedef struct pass {
    session s;
    rt_val theta, loss;
    rt_forward f;
} pass;

static void open_pass(pass *t, const rt_model *m, const char *backend, int64_t batch, int training)
{
    const rt_model_desc *d = rt_model_desc_of(m);
    const int64_t px = (int64_t)d->size * d->size * d->channels;
    memset(t, 0, sizeof *t);
    session_open(&t->s, backend);
    double *x = filled(900, batch * px, 1, 0), *theta = golden_theta(m), *q = golden_labels(batch, d->classes);
    double *b = golden_buffers(m);
    rt_val buffers = {0}, in = session_input(&t->s, "x", RT_SHAPE(RT_F32, batch, d->size, d->size, d->channels), x);
    t->theta = session_input(&t->s, "theta", RT_SHAPE(RT_F32, rt_model_n_params(m)), theta);
    if (rt_model_n_buffers(m)) buffers = session_input(&t->s, "buffers", RT_SHAPE(RT_F32, rt_model_n_buffers(m)), b);
    rt_ok(rt_model_forward(m, t->s.g, in, t->theta, buffers, training, &t->f));
    if (training) {
        rt_val labels = session_input(&t->s, "q", RT_SHAPE(RT_F32, batch, d->classes), q);
        t->loss = rt_mean_all(t->s.g, rt_softmax_ce(t->s.g, t->f.logits, labels));
    }
    free(x), free(theta), free(q), free(b);
}

static const double *of(const rt_st_file *f, const row *r, const char *what, int64_t count)
{
    char name[96];
    snprintf(name, sizeof name, "%s.%s", r->arch, what);
    return golden(f, name, count);
}

/* On ref, where a convolution takes seconds, the first image alone: evaluation treats each by itself. */
START_TEST(logits)
{
    const row *r = &rows[_i];
    rt_st_file *f = golden_open("networks");
    rt_model *m = make(r->arch, r->size, CLASSES, r->small);
    const double *want = of(f, r, "logits", IMAGES * CLASSES);
    for (int b = 0; b < 2; b++) {
        const int64_t n = b == 0 ? 1 : IMAGES;
        pass t;
        open_pass(&t, m, precisions[b].backend, n, 0);
        int out = session_output(&t.s, t.f.logits);
        session_run(&t.s);
        assert_vector(r->arch, session_read(&t.s, out), want, n * CLASSES, precisions[b]);
        session_close(&t.s);
    }
    rt_model_destroy(m);
    rt_st_close(f);
}
END_TEST

/* Norm and projection of count numbers; an error counts against the larger of their size and floor_. */
static void near(const char *what, const double *got, int64_t count, const double *want, uint32_t key, double floor_, double rel)
{
    double *v = filled(key, count, 1, 0), size = fmax(want[0], floor_), spread = fmin(sqrt((double)count / 3), 3);
    double norm = sqrt(dot(got, got, count)), product = dot(got, v, count);
    ck_assert_msg(fabs(norm - want[0]) <= rel * size, "norm of %s is %.10g, want %.10g", what, norm, want[0]);
    ck_assert_msg(fabs(product - want[1]) <= rel * size * spread, "projection of %s is %.10g, want %.10g", what, product, want[1]);
    free(v);
}

static void step(const rt_st_file *f, const row *r, precision pr, double rel)
{
    rt_model *m = make(r->arch, r->size, CLASSES, r->small);
    const int32_t n = rt_model_param_count(m), n_stat = rt_model_stat_count(m);
    const double *want = of(f, r, "grad", 2 * n), *stats = n_stat ? of(f, r, "stats", 2 * n_stat) : NULL;
    double whole = 0;
    rt_val grad;
    pass t;
    open_pass(&t, m, pr.backend, BATCH, RT_FORWARD_TRAINING);
    rt_ok(rt_model_grad(m, t.s.g, t.loss, t.theta, &grad));
    int loss = session_output(&t.s, t.loss), g = session_output(&t.s, grad);
    int b = n_stat ? session_output(&t.s, t.f.buffers_new) : -1;
    session_run(&t.s);
    assert_vector("loss", session_read(&t.s, loss), of(f, r, "loss", 1), 1, pr);
    const double *got = session_read(&t.s, g);
    for (int32_t i = 0; i < n; i++) whole += want[2 * i] * want[2 * i];
    for (int32_t i = 0; i < n; i++) {
        const rt_param *p = rt_model_param(m, i);
        near(p->name, got + p->offset, p->count, want + 2 * i, 1000 + (uint32_t)i, 1e-2 * sqrt(whole), rel);
    }
    const double *fresh = n_stat ? session_read(&t.s, b) : NULL;
    for (int32_t i = 0; i < n_stat; i++) {
        const rt_model_stat *s = rt_model_stat_at(m, i);
        near(s->name, fresh + s->offset, s->count, stats + 2 * i, 2000 + (uint32_t)i, 0, pr.rel);
    }
    session_close(&t.s);
    rt_model_destroy(m);
}

START_TEST(training_step)
{
    const row *r = &rows[_i];
    rt_st_file *f = golden_open("networks");
    if (r->ref) step(f, r, precisions[0], 1e-8);
    step(f, r, precisions[1], r->rel);
    rt_st_close(f);
}
END_TEST

static char *slurp(const char *path, long *n)
{
    FILE *f = fopen(path, "rb");
    ck_assert_ptr_nonnull(f);
    fseek(f, 0, SEEK_END);
    *n = ftell(f);
    rewind(f);
    char *text = malloc((size_t)*n);
    ck_assert_uint_eq(fread(text, 1, (size_t)*n, f), (size_t)*n);
    fclose(f);
    return text;
}

START_TEST(round_trip)
{
    const row *r = &rows[_i];
    rt_model *m = make(r->arch, r->size, CLASSES, r->small);
    const size_t p = (size_t)rt_model_n_params(m) * sizeof(float), b = (size_t)rt_model_n_buffers(m) * sizeof(float);
    float *theta = malloc(2 * p), *buffers = malloc(2 * b + 1), *theta2 = theta + p / sizeof(float);
    float *buffers2 = buffers + b / sizeof(float);
    char path[2][64];
    long n[2];
    rt_st_file *f = NULL;
    rt_model_init(m, 5, 1, theta, buffers);
    for (int k = 0; k < 2; k++) snprintf(path[k], sizeof path[k], "/tmp/rt_networks_%d_%d.safetensors", (int)getpid(), k);
    rt_ok(rt_model_save(m, path[0], theta, buffers, NULL, 0));
    rt_ok(rt_st_open(path[0], &f));
    memset(theta2, 255, p), memset(buffers2, 255, b);
    rt_ok(rt_model_load(m, f, path[0], theta2, buffers2));
    rt_st_close(f);
    ck_assert_int_eq(memcmp(theta, theta2, p), 0);
    ck_assert_int_eq(memcmp(buffers, buffers2, b), 0);
    rt_ok(rt_model_save(m, path[1], theta2, buffers2, NULL, 0));
    char *a = slurp(path[0], &n[0]), *c = slurp(path[1], &n[1]);
    ck_assert_int_eq(n[0], n[1]);
    ck_assert_int_eq(memcmp(a, c, (size_t)n[0]), 0);
    free(a), free(c), free(theta), free(buffers);
    unlink(path[0]), unlink(path[1]);
    rt_model_destroy(m);
}
END_TEST

int main(void)
{
    const struct {
        const char *name;
        const TTest *fn;
    } tests[] = {{"state_dict", state_dict}, {"logits", logits}, {"training step", training_step}, {"round trip", round_trip}};
    Suite *s = suite_create("golden.networks");
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        TCase *tc = tcase_create(tests[i].name);
        tcase_set_timeout(tc, 300);
        tcase_add_loop_test(tc, tests[i].fn, 0, ROWS); /* _i: index into rows */
        suite_add_tcase(s, tc);
    }
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
