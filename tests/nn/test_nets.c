/* M networks in one graph against M graphs of one network: logits, features, statistics, first and second derivatives, by
 * the definition and on the cpu. On the cpu in strict mode a network's bits do not depend on its neighbours. */
#include "nn/nn.h"
#include "ops/row.h"
#include "session.h"

enum { M = 3, EACH = 4, OUTPUTS = 8 };

typedef struct row {
    const char *name;
    rt_model_desc net;
    int training;
} row;

static const row rows[] = {
    {"convnet, instance",
     {.arch = "convnet", .depth = 2, .width = 32, .norm = RT_MODEL_NORM_INSTANCE, .size = 8, .channels = 3, .classes = 5}, 1},
    {"convnet, group",
     {.arch = "convnet", .depth = 2, .width = 8, .norm = RT_MODEL_NORM_GROUP, .size = 8, .channels = 3, .classes = 5}, 1},
    {"convnet, layer",
     {.arch = "convnet", .depth = 2, .width = 8, .norm = RT_MODEL_NORM_LAYER, .size = 8, .channels = 3, .classes = 5}, 1},
    {"convnet, none",
     {.arch = "convnet", .depth = 2, .width = 8, .norm = RT_MODEL_NORM_NONE, .size = 8, .channels = 3, .classes = 5}, 1},
    {"convnet, batch",
     {.arch = "convnet", .depth = 2, .width = 8, .norm = RT_MODEL_NORM_BATCH, .size = 8, .channels = 3, .classes = 5}, 1},
    {"convnet, batch, eval",
     {.arch = "convnet", .depth = 2, .width = 8, .norm = RT_MODEL_NORM_BATCH, .size = 8, .channels = 3, .classes = 5}, 0},
    {"mlp", {.arch = "mlp", .depth = 2, .width = 16, .size = 8, .channels = 3, .classes = 5}, 1},
    {"resnet18", {.arch = "resnet18", .size = 8, .channels = 3, .classes = 5, .small_stem = 1}, 1},
    {"resnet18, eval", {.arch = "resnet18", .size = 8, .channels = 3, .classes = 5, .small_stem = 1}, 0},
    {"mobilenet_v2", {.arch = "mobilenet_v2", .size = 8, .channels = 3, .classes = 5, .small_stem = 1}, 1},
    {"mobilenet_v2, eval", {.arch = "mobilenet_v2", .size = 8, .channels = 3, .classes = 5, .small_stem = 1}, 0},
    {"shufflenet_v2_x0_5", {.arch = "shufflenet_v2_x0_5", .size = 8, .channels = 3, .classes = 5, .small_stem = 1}, 1},
    {"shufflenet_v2_x0_5, eval", {.arch = "shufflenet_v2_x0_5", .size = 8, .channels = 3, .classes = 5, .small_stem = 1}, 0},
};

typedef struct bench {
    session s;
    int out[OUTPUTS], n_out;
} bench;

static void open_strict(session *s, const char *backend)
{
    memset(s, 0, sizeof *s);
    rt_ok(rt_backend_open(backend, &(rt_backend_opts){.threads = 2, .strict = true}, &s->be));
    rt_ok(rt_graph_create(&s->g));
}

/* Networks first .. first + nets - 1; nets 0: one network, without a leading axis. */
static void build(bench *b, const rt_model *m, const char *backend, int training, int second, int first, int nets)
{
    session *s = &b->s;
    const rt_model_desc *d = rt_model_desc_of(m);
    const int64_t p = rt_model_n_params(m), nb = rt_model_n_buffers(m), some = nets ? nets : 1, n = some * EACH;
    const int64_t px = (int64_t)d->size * d->size * d->channels;
    float *theta32 = malloc((size_t)p * sizeof *theta32), *buf32 = malloc((size_t)(nb + 1) * sizeof *buf32);
    double *theta = malloc((size_t)(some * p) * sizeof *theta);
    for (int64_t k = 0; k < some; k++) {
        rt_model_init(m, 3, (uint64_t)(first + k), theta32, buf32);
        for (int64_t i = 0; i < p; i++) theta[k * p + i] = (double)theta32[i];
    }
    double *x0 = filled(20, M * EACH * px, 1, 0), *q0 = filled(23, M * EACH * d->classes, 0.5 / d->classes, 1.0 / d->classes);
    double *v0 = filled(21, M * p, 1, 0), *b0 = filled(24, M * nb, 0.05, 0.1);
    rt_val buffers = {0}, grad, wrt[2], h[2];
    rt_forward f;
    open_strict(s, backend);
    rt_val x = session_input(s, "x", RT_SHAPE(RT_F32, n, d->size, d->size, d->channels), x0 + first * EACH * px);
    rt_val q = session_input(s, "q", RT_SHAPE(RT_F32, n, d->classes), q0 + first * EACH * d->classes);
    rt_val th = session_input(s, "theta", nets ? RT_SHAPE(RT_F32, nets, p) : RT_SHAPE(RT_F32, p), theta);
    rt_val v = session_input(s, "v", nets ? RT_SHAPE(RT_F32, nets, p) : RT_SHAPE(RT_F32, p), v0 + first * p);
    if (nb) buffers = session_input(s, "buffers", nets ? RT_SHAPE(RT_F32, nets, nb) : RT_SHAPE(RT_F32, nb), b0 + first * nb);
    rt_ok(rt_model_forward(m, s->g, x, th, buffers, training, &f));
    rt_val loss = rt_mul_scalar(s->g, rt_sum_all(s->g, rt_softmax_ce(s->g, f.logits, q)), 1.0 / EACH);
    rt_ok(rt_model_grad(m, s->g, loss, th, &grad));
    b->n_out = 0;
    b->out[b->n_out++] = session_output(s, f.logits);
    b->out[b->n_out++] = session_output(s, f.features);
    b->out[b->n_out++] = session_output(s, grad);
    if (f.buffers_new.id) b->out[b->n_out++] = session_output(s, f.buffers_new);
    wrt[0] = x;
    wrt[1] = th;
    rt_ok(rt_grad(s->g, loss, wrt, 2, h));
    b->out[b->n_out++] = session_output(s, h[0]);
    if (second) {
        rt_ok(rt_grad(s->g, rt_dot(s->g, grad, v), wrt, 2, h));
        b->out[b->n_out++] = session_output(s, h[0]);
        b->out[b->n_out++] = session_output(s, h[1]);
    }
    session_run(s);
    free(theta32), free(buf32), free(theta), free(x0), free(q0), free(v0), free(b0);
}

static void compare(const row *r, const char *backend, double tol)
{
    rt_model *m;
    bench all, one;
    double *got[OUTPUTS];
    /* the others have millions of parameters, and the layers of these */
    const int second = strcmp(r->net.arch, "convnet") == 0 || strcmp(r->net.arch, "mlp") == 0;
    rt_ok(rt_model_create(&r->net, &m));
    build(&all, m, backend, r->training, second, 0, M);
    for (int o = 0; o < all.n_out; o++) got[o] = session_read(&all.s, all.out[o]);
    for (int k = 0; k < M; k++) {
        build(&one, m, backend, r->training, second, k, 0);
        ck_assert_int_eq(one.n_out, all.n_out);
        for (int o = 0; o < one.n_out; o++) {
            const double *want = session_read(&one.s, one.out[o]);
            int64_t n = rt_shape_count(rt_tensor_shape(one.s.out[one.out[o]].t));
            ck_assert(dot(want, want, n) > 0);
            double far = rel_distance(got[o] + k * n, want, n);
            ck_assert_msg(far <= tol, "%s on %s: output %d of network %d is %.3g from what it is alone", r->name, backend, o,
                          k, far);
        }
        session_close(&one.s);
    }
    session_close(&all.s);
    rt_model_destroy(m);
}

START_TEST(networks_do_not_see_each_other)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) compare(&rows[i], "ref", 1e-13);
}
END_TEST

START_TEST(nor_on_the_cpu)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) compare(&rows[i], "cpu", 0);
}
END_TEST

/* theta [M,P] is read through columns: their gradients meet in one concat, not in a sum of padded matrices. */
START_TEST(gradients_of_columns_are_joined)
{
    session s;
    rt_model *m;
    rt_forward f;
    rt_val g;
    open_strict(&s, "ref");
    rt_ok(rt_model_create(&rows[0].net, &m));
    rt_val x = rt_input(s.g, "x", RT_SHAPE(RT_F32, M * EACH, 8, 8, 3));
    rt_val theta = rt_input(s.g, "theta", RT_SHAPE(RT_F32, M, rt_model_n_params(m)));
    rt_ok(rt_model_forward(m, s.g, x, theta, (rt_val){0}, 1, &f));
    rt_ok(rt_grad(s.g, rt_sum_all(s.g, rt_square(s.g, f.logits)), &theta, 1, &g));
    ck_assert_int_eq(rt_val_node(s.g, g, NULL)->op, RT_OP_CONCAT);
    ck_assert_int_eq(rt_val_node(s.g, g, NULL)->n_in, rt_model_param_count(m));
    rt_val again;
    rt_ok(rt_model_grad(m, s.g, rt_sum_all(s.g, rt_square(s.g, f.logits)), theta, &again));
    ck_assert_int_eq(again.id, g.id);
    rt_model_destroy(m);
    session_close(&s);
}
END_TEST

START_TEST(shapes_that_do_not_fit_are_refused)
{
    session s;
    rt_model *m;
    rt_forward f;
    open_strict(&s, "ref");
    rt_ok(rt_model_create(&rows[0].net, &m));
    rt_val x = rt_input(s.g, "x", RT_SHAPE(RT_F32, 4, 8, 8, 3));
    rt_val theta = rt_input(s.g, "theta", RT_SHAPE(RT_F32, M, rt_model_n_params(m)));
    rt_val wide = rt_input(s.g, "wide", RT_SHAPE(RT_F32, 2, rt_model_n_params(m) + 1));
    rt_fails(rt_model_forward(m, s.g, x, theta, (rt_val){0}, 1, &f), RT_ERR_ARG);
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "3 networks do not divide 4 images"));
    rt_fails(rt_model_forward(m, s.g, x, wide, (rt_val){0}, 1, &f), RT_ERR_ARG);
    rt_model_destroy(m);
    session_close(&s);
}
END_TEST

static const rt_test tests[] = {
    {"definition", networks_do_not_see_each_other},
    {"cpu", nor_on_the_cpu},
    {"gradients of columns", gradients_of_columns_are_joined},
    {"misuse", shapes_that_do_not_fit_are_refused},
};
RT_SUITE("nn.nets", tests)
