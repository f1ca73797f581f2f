/* One outer step of MTT, DATM and TESLA against PyTorch's double backward in float64 (tests/golden/mtt). The vectors are
 * float32 copies: the ref back end must agree to 1e-6, cpu to 1e-4, relative to the length of each gradient. */
#include "../../support/suite.h"
#include "artefact/safetensors.h"
#include "methods/distill/unroll.h"

enum { IMAGES = 6, SIZE = 16, CLASSES = 3, STEPS = 4, BATCH = 4 };

static const float *floats(const rt_st_file *f, const char *name, int64_t count)
{
    const rt_st_tensor *t = rt_st_find(f, name);
    ck_assert_msg(t && t->dtype == RT_ST_F32 && t->bytes == (uint64_t)count * 4, "golden tensor %s", name);
    return t->data;
}

/* Relative distance of a tensor to a golden vector. */
static double distance_to(const rt_tensor *got, const float *want)
{
    const int64_t n = rt_shape_count(rt_tensor_shape(got));
    double *v = malloc((size_t)n * sizeof *v), d = 0, s = 0;
    rt_ok(rt_tensor_read_f64(got, v, (size_t)n));
    for (int64_t i = 0; i < n; i++) {
        d += (v[i] - (double)want[i]) * (v[i] - (double)want[i]);
        s += (double)want[i] * (double)want[i];
    }
    free(v);
    ck_assert(s > 0);
    return sqrt(d / s);
}

/* The draws of the file instead of the unroll's own. */
static void set_draws(rt_unroll *u, const rt_st_file *f)
{
    const rt_st_tensor *index = rt_st_find(f, "index");
    const int64_t total = 2 * IMAGES, width[3] = {3, 6, 4}, *from = index ? index->data : NULL;
    static const char *const name[3] = {"color", "affine", "box"};
    int64_t at = 0;
    ck_assert(from && index->dtype == RT_ST_I64 && index->bytes == (uint64_t)total * 8);
    for (int32_t t = 0; t < STEPS; t++) {
        const rt_unroll_step *s = rt_unroll_plan(u, t);
        ck_assert_int_eq(s->n, t % 2 ? BATCH : IMAGES - BATCH); /* the remainder first */
        for (int64_t i = 0; i < s->n; i++) s->index[i] = (int32_t)from[at + i];
        for (int k = 0; k < 3; k++)
            memcpy(s->dsa[0][k], floats(f, name[k], total * width[k]) + at * width[k],
                   (size_t)(s->n * width[k]) * sizeof(float));
        at += s->n;
    }
    ck_assert_ptr_null(rt_unroll_plan(u, STEPS));
}

static void check(const char *backend, double tol, const char *what, bool logits, bool hessian)
{
    char path[512], name[64];
    rt_backend *be;
    rt_model *m;
    rt_unroll *u;
    rt_st_file *f;
    rt_dsa dsa;
    rt_unroll_result r;
    snprintf(path, sizeof path, "%s/tests/golden/mtt/unroll.safetensors", getenv("RT_SOURCE_DIR"));
    rt_ok(rt_st_open(path, &f));
    rt_ok(rt_backend_open(backend, &(rt_backend_opts){.threads = 2, .strict = true}, &be));
    rt_ok(rt_model_create(&(rt_model_desc){.arch = "convnet", .depth = 2, .width = 8, .norm = RT_MODEL_NORM_INSTANCE,
                                           .size = SIZE, .channels = 3, .classes = CLASSES},
                          &m));
    rt_ok(rt_dsa_parse("color", 'S', &dsa));
    rt_ok(rt_unroll_create(be, &(rt_unroll_desc){.model = m, .images = IMAGES, .batch = BATCH, .steps = STEPS,
                                                 .logits = logits, .hessian = hessian, .dsa = dsa},
                           &u));
    set_draws(u, f);
    const int64_t P = rt_model_n_params(m), px = IMAGES * SIZE * SIZE * 3, labels = IMAGES * CLASSES;
    rt_ok(rt_tensor_write(rt_unroll_images(u), floats(f, "images", px), (size_t)px * 4));
    rt_ok(rt_tensor_write(rt_unroll_labels(u), floats(f, logits ? "logits" : "hard", labels), (size_t)labels * 4));
    rt_ok(rt_tensor_write_f64(rt_unroll_step_size(u), &(double){0.05}, 1));
    rt_ok(rt_unroll_run(u, floats(f, "theta", P), floats(f, "target", P), 0, &r));

    snprintf(name, sizeof name, "%s.loss", what);
    const double loss = (double)*floats(f, name, 1);
    snprintf(name, sizeof name, "%s.d_step_size", what);
    const double d_step = (double)*floats(f, name, 1);
    snprintf(name, sizeof name, "%s.d_images", what);
    const double images = distance_to(rt_unroll_d_images(u), floats(f, name, px));
    printf("  %s %s: loss %.2g, step size %.2g, images %.2g", backend, what, r.loss / loss - 1, r.d_step_size / d_step - 1,
           images);
    ck_assert(r.complete);
    rt_assert_near(r.loss, loss, 0, tol);
    rt_assert_near(r.d_step_size, d_step, 0, tol);
    ck_assert_msg(images <= tol, "%s %s: image gradient off by %.3g", backend, what, images);
    if (logits) {
        snprintf(name, sizeof name, "%s.d_logits", what);
        const double d = distance_to(rt_unroll_d_labels(u), floats(f, name, labels));
        printf(", logits %.2g", d);
        ck_assert_msg(d <= tol, "%s %s: logit gradient off by %.3g", backend, what, d);
    }
    printf("\n");
    rt_unroll_destroy(u);
    rt_model_destroy(m);
    rt_backend_close(be);
    rt_st_close(f);
}

static const struct {
    const char *backend;
    double tol;
} precision[] = {{"ref", 1e-6}, {"cpu", 1e-4}};

START_TEST(mtt)
{
    for (int i = 0; i < 2; i++) check(precision[i].backend, precision[i].tol, "hard", false, true);
}
END_TEST

START_TEST(datm)
{
    for (int i = 0; i < 2; i++) check(precision[i].backend, precision[i].tol, "logits", true, true);
}
END_TEST

START_TEST(tesla)
{
    for (int i = 0; i < 2; i++) check(precision[i].backend, precision[i].tol, "frozen", false, false);
}
END_TEST

static const rt_test tests[] = {{"MTT", mtt}, {"DATM", datm}, {"TESLA", tesla}};
RT_SUITE("methods.unroll_golden", tests)
