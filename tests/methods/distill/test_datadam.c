/* DataDAM against PyTorch: image gradients in float64, images after two iterations on both back ends, and the law that
 * attention does not know the scale of its maps (matching.md 8, test 9). */
#include "methods/distill/datadam.h"
#include "distmatch.h"

enum { ITS = 2 };

/* Gradient of the whole loss by hand from the builder under test. */
static void gradient(const char *backend, const char *yaml, const char *name, double tolerance)
{
    fixture x;
    session s;
    rt_model *m = NULL;
    rt_forward f;
    rt_val gx, loss = {0};
    set_up(&x, "datadam", yaml);
    session_open(&s, backend);
    rt_ok(rt_model_create(&net, &m));
    int64_t p = rt_model_n_params(m);
    double *theta0 = wide(golden(&x, "theta"), p), *init = wide(golden(&x, "init"), IMAGES * PX);
    rt_val theta = session_input(&s, "theta", RT_SHAPE(RT_F32, p), theta0);
    rt_val images = session_input(&s, "x", RT_SHAPE(RT_F32, IMAGES, SIZE, SIZE, 3), init), none = {0};
    for (int c = 0; c < CLASSES; c++) {
        char label[16];
        double *r0 = real_batch(&x, c);
        snprintf(label, sizeof label, "real%d", c);
        rt_val r = augmented(&s, &x, session_input(&s, label, RT_SHAPE(RT_F32, BATCH, SIZE, SIZE, 3), r0), c, BATCH, "r");
        rt_ok(rt_model_forward(m, s.g, r, theta, none, RT_FORWARD_TRAINING | RT_FORWARD_RELUS, &f));
        ck_assert_int_eq(f.n_relu, 2);
        rt_val mr = rt_mean(s.g, rt_datadam_statistic(&x.config, s.g, &f), 1u, false);
        rt_val v = augmented(&s, &x, class_rows(s.g, images, c, IPC), c, IPC, "s");
        rt_ok(rt_model_forward(m, s.g, v, theta, none, RT_FORWARD_TRAINING | RT_FORWARD_RELUS, &f));
        rt_val ms = rt_mean(s.g, rt_datadam_statistic(&x.config, s.g, &f), 1u, false);
        rt_val d = rt_sum_all(s.g, rt_square(s.g, rt_sub(s.g, mr, ms)));
        loss = loss.id ? rt_add(s.g, loss, d) : d;
        free(r0);
    }
    rt_ok(rt_grad(s.g, loss, &images, 1, &gx));
    int out = session_output(&s, gx);
    session_run(&s);
    double e = rel_distance(session_read(&s, out), golden(&x, name)->data, IMAGES * PX);
    ck_assert_msg(e <= tolerance, "%s on %s: relative distance %g", name, backend, e);
    free(theta0), free(init);
    rt_model_destroy(m);
    session_close(&s);
    tear_down(&x);
}

static const struct {
    const char *yaml, *grad, *images;
} variant[] = {
    {"iterations: 2, batch_real: 4, lr: 0.1", "grad_p4", "images_p4"},
    {"iterations: 2, batch_real: 4, lr: 0.1, power: 1", "grad_p1", "images_p1"},
    {"iterations: 2, batch_real: 4, lr: 0.1, power: 3, last_layer: true", "grad_p3_last", "images_p3_last"},
};
enum { VARIANTS = sizeof variant / sizeof *variant };

START_TEST(gradients_agree_with_torch)
{
    for (int i = 0; i < VARIANTS; i++) {
        gradient("ref", variant[i].yaml, variant[i].grad, 1e-9);
        gradient("cpu", variant[i].yaml, variant[i].grad, 1e-4);
    }
}
END_TEST

START_TEST(images_agree_with_torch)
{
    for (int i = 0; i < VARIANTS; i++)
        for (int cpu = 0; cpu < 2; cpu++) {
            fixture x;
            rt_set s = {0};
            set_up(&x, "datadam", variant[i].yaml);
            construct(&x, "datadam", cpu ? "cpu" : "ref", NULL, &s, RT_OK);
            images_agree(&x, &s, variant[i].images, cpu ? 1e-4 : 1e-5);
            ck_assert(!s.unit && s.factor <= 1);
            ck_assert(!strstr(s.notes, "power") == (i == 0));
            rt_set_fini(&s);
            tear_down(&x);
        }
}
END_TEST

/* Maps times any positive number: the same statistic. */
START_TEST(scale_of_maps_does_not_matter)
{
    for (int64_t power = 1; power <= 4; power++) {
        fixture x;
        session s;
        set_up(&x, "datadam", "lambda: 0");
        x.config.datadam.power = power;
        session_open(&s, "ref");
        double *a0 = filled(41, 4 * 6 * 6 * 5, 0.5, 0.5), *f0 = filled(42, 4 * 7, 1, 0);
        rt_val a = session_input(&s, "a", RT_SHAPE(RT_F32, 4, 6, 6, 5), a0), b = rt_square(s.g, a);
        rt_val features = session_input(&s, "f", RT_SHAPE(RT_F32, 4, 7), f0);
        rt_forward plain = {.features = features, .relu = {a, b}, .n_relu = 2};
        rt_forward scaled = {.features = features, .relu = {rt_mul_scalar(s.g, a, 37.5), rt_mul_scalar(s.g, b, 0.02)}, .n_relu = 2};
        int y = session_output(&s, rt_datadam_statistic(&x.config, s.g, &plain));
        int z = session_output(&s, rt_datadam_statistic(&x.config, s.g, &scaled));
        session_run(&s);
        const double *p = session_read(&s, y), *q = session_read(&s, z);
        ck_assert_int_eq(rt_shape_count(rt_tensor_shape(s.out[y].t)), 4 * (36 + 7)); /* the last map enters by its features only */
        for (int i = 0; i < 4 * (36 + 7); i++) rt_assert_near(q[i], p[i], 1e-12, 1e-12);
        for (int n = 0; n < 4; n++) { /* unit rows times the root of the weight */
            double sum = 0;
            for (int i = 0; i < 36; i++) sum += p[n * 43 + i] * p[n * 43 + i];
            rt_assert_near(sum, 100, 1e-9, 0);
        }
        free(a0), free(f0);
        session_close(&s);
        tear_down(&x);
    }
}
END_TEST

static void no_files(rt_build_ctx *c) { c->files = (rt_draw_files){0}; }
static void an_mlp(rt_build_ctx *c)
{
    c->files = (rt_draw_files){0};
    snprintf(c->net.arch, sizeof c->net.arch, "mlp");
}

START_TEST(draws_repeat_and_bad_inputs_are_refused)
{
    fixture x;
    rt_set a = {0}, b = {0};
    set_up(&x, "datadam", "iterations: 2, batch_real: 4");
    construct(&x, "datadam", "cpu", no_files, &a, RT_OK);
    construct(&x, "datadam", "cpu", no_files, &b, RT_OK);
    ck_assert_mem_eq(a.px, b.px, IMAGES * PX * sizeof *a.px);
    ck_assert_str_eq(a.trace, b.trace);
    rt_set_fini(&a);
    rt_set_fini(&b);
    construct(&x, "datadam", "cpu", an_mlp, &a, RT_ERR_CONFIG);
    x.config.datadam.iterations = ITS + 1; /* the files have draws for two */
    construct(&x, "datadam", "cpu", NULL, &a, RT_ERR_FORMAT);
    ck_assert(a.px == NULL);
    tear_down(&x);
}
END_TEST

static const rt_test tests[] = {{"gradients agree with PyTorch", gradients_agree_with_torch},
                                {"images agree with PyTorch", images_agree_with_torch},
                                {"the scale of maps does not matter", scale_of_maps_does_not_matter},
                                {"draws repeat, bad inputs are refused", draws_repeat_and_bad_inputs_are_refused}};
RT_SUITE("methods.datadam", tests)
