/* Whole networks on the reference backend: second derivatives against central differences, symmetries. */
#include "nn/nn.h"
#include "session.h"

typedef struct net {
    session s;
    rt_model *m;
    int64_t p, batch;
    double *theta, *v, *w;
    int grad, hv, hw, logits;
} net;

static const rt_model_desc convnet = {
    .arch = "convnet", .depth = 3, .width = 6, .norm = RT_MODEL_NORM_INSTANCE, .size = 16, .channels = 3, .classes = 5};

static double *start(const rt_model *m)
{
    int64_t p = rt_model_n_params(m), b = rt_model_n_buffers(m);
    float *theta = malloc((size_t)p * sizeof *theta), *buffers = malloc((size_t)(b + 1) * sizeof *buffers);
    double *wide = malloc((size_t)p * sizeof *wide);
    rt_model_init(m, 3, 0, theta, buffers);
    for (int64_t i = 0; i < p; i++) wide[i] = (double)theta[i];
    free(theta);
    free(buffers);
    return wide;
}

/* Graph of logits, gradient of the mean loss, and with hvp its products with v and w. Input 1 is theta. */
static void build(net *n, const rt_model_desc *d, int64_t batch, int training, int hvp)
{
    session *s = &n->s;
    rt_forward f;
    rt_val none = {0}, buffers = none, grad, hv, hw;
    int64_t pixels = batch * d->size * d->size * d->channels;

    session_open(s, "ref");
    rt_ok(rt_model_create(d, &n->m));
    n->batch = batch;
    n->p = rt_model_n_params(n->m);
    n->theta = start(n->m);
    n->v = filled(21, n->p, 1, 0);
    n->w = filled(22, n->p, 1, 0);
    double *x0 = filled(20, pixels, 1, 0), *q0 = filled(23, batch * d->classes, 0.5 / d->classes, 1.0 / d->classes);
    rt_val x = session_input(s, "x", RT_SHAPE(RT_F32, batch, d->size, d->size, d->channels), x0);
    rt_val theta = session_input(s, "theta", RT_SHAPE(RT_F32, n->p), n->theta);
    rt_val q = session_input(s, "q", RT_SHAPE(RT_F32, batch, d->classes), q0);
    if (rt_model_n_buffers(n->m)) {
        double *b0 = filled(24, rt_model_n_buffers(n->m), 0.25, 0.5);
        buffers = session_input(s, "buffers", RT_SHAPE(RT_F32, rt_model_n_buffers(n->m)), b0);
        free(b0);
    }
    rt_ok(rt_model_forward(n->m, s->g, x, theta, buffers, training, &f));
    n->logits = session_output(s, f.logits);
    rt_val loss = rt_mean_all(s->g, rt_softmax_ce(s->g, f.logits, q));
    rt_ok(rt_model_grad(n->m, s->g, loss, theta, &grad));
    n->grad = session_output(s, grad);
    if (hvp) {
        rt_val v = session_input(s, "v", RT_SHAPE(RT_F32, n->p), n->v),
               w = session_input(s, "w", RT_SHAPE(RT_F32, n->p), n->w);
        rt_ok(rt_model_grad(n->m, s->g, rt_dot(s->g, grad, v), theta, &hv));
        rt_ok(rt_model_grad(n->m, s->g, rt_dot(s->g, grad, w), theta, &hw));
        n->hv = session_output(s, hv);
        n->hw = session_output(s, hw);
    }
    free(x0);
    free(q0);
}

static void finish(net *n)
{
    rt_model_destroy(n->m);
    free(n->theta), free(n->v), free(n->w);
    session_close(&n->s);
}

/* (g(theta + eps v) - g(theta - eps v)) / (2 eps) from a second graph without second derivatives. */
static double *differences(const rt_model_desc *d, int64_t batch, int training, double eps)
{
    net n;
    build(&n, d, batch, training, 0);
    double *moved = malloc((size_t)n.p * sizeof *moved), *out = malloc((size_t)n.p * sizeof *out);
    for (int side = 0; side < 2; side++) {
        for (int64_t i = 0; i < n.p; i++) moved[i] = n.theta[i] + (side ? -eps : eps) * n.v[i];
        session_write(&n.s, 1, moved);
        session_run(&n.s);
        double *g = session_read(&n.s, n.grad);
        for (int64_t i = 0; i < n.p; i++) out[i] = side ? (out[i] - g[i]) / (2 * eps) : g[i];
    }
    free(moved);
    finish(&n);
    return out;
}

static void check_hvp(const rt_model_desc *d, int64_t batch, int training, double eps)
{
    net n;
    build(&n, d, batch, training, 1);
    session_run(&n.s);
    double *hv = session_read(&n.s, n.hv), *hw = session_read(&n.s, n.hw);
    double *fd = differences(d, batch, training, eps), size = sqrt(dot(hv, hv, n.p));
    double err = rel_distance(hv, fd, n.p);
    ck_assert_msg(err <= 1e-6, "%s: Hv differs from central differences by %g relative", d->arch, err);
    rt_assert_near(dot(n.w, hv, n.p), dot(n.v, hw, n.p), 1e-12 * size * sqrt((double)n.p), 1e-10);
    for (int32_t i = 0; d->norm == RT_MODEL_NORM_INSTANCE && i < rt_model_param_count(n.m); i++) {
        const rt_param *p = rt_model_param(n.m, i); /* an instance norm takes away what a convolution's bias adds */
        if (i % 4 != 1 || strncmp(p->name, "features", 8)) continue;
        double there = sqrt(dot(hv + p->offset, hv + p->offset, p->count));
        ck_assert_msg(there <= 1e-11 * size, "%s: Hv is %g there, %g in all", p->name, there, size);
    }
    free(fd);
    finish(&n);
}

START_TEST(hessian_products_of_convnets)
{
    rt_model_desc d = convnet;
    check_hvp(&d, 3, 1, 1e-6);
    d.norm = RT_MODEL_NORM_LAYER;
    check_hvp(&d, 2, 1, 1e-6);
    d.norm = RT_MODEL_NORM_NONE;
    check_hvp(&d, 2, 1, 1e-6);
    d.norm = RT_MODEL_NORM_BATCH;
    check_hvp(&d, 3, 1, 1e-6);
    check_hvp(&d, 3, 0, 1e-6);
    d.norm = RT_MODEL_NORM_GROUP, d.width = 8;
    check_hvp(&d, 2, 1, 1e-6);
}
END_TEST

START_TEST(hessian_products_of_the_other_networks)
{
    rt_model_desc mlp = {.arch = "mlp", .width = 16, .size = 8, .channels = 3, .classes = 5};
    check_hvp(&mlp, 4, 1, 1e-6);
}
END_TEST

START_TEST(hessian_products_of_resnet18)
{
    rt_model_desc d = {
        .arch = "resnet18", .size = 16, .channels = 3, .classes = 5, .small_stem = 1, .norm = RT_MODEL_NORM_BATCH};
    check_hvp(&d, 3, 1, 1e-8);
}
END_TEST

/* Samples do not see each other, so permuting a batch permutes logits, to the last bit. */
START_TEST(permuting_a_batch_permutes_logits)
{
    net n;
    enum { batch = 4 };
    const int perm[batch] = {2, 0, 3, 1};
    int64_t pixels = (int64_t)convnet.size * convnet.size * convnet.channels;
    build(&n, &convnet, batch, 1, 0);
    session_run(&n.s);
    double *first = session_read(&n.s, n.logits), kept[batch * 5];
    memcpy(kept, first, sizeof kept);
    double *x = filled(20, batch * pixels, 1, 0), *shuffled = malloc((size_t)(batch * pixels) * sizeof *shuffled);
    for (int i = 0; i < batch; i++) memcpy(shuffled + i * pixels, x + perm[i] * pixels, (size_t)pixels * sizeof *x);
    session_write(&n.s, 0, shuffled);
    session_run(&n.s);
    double *second = session_read(&n.s, n.logits);
    for (int i = 0; i < batch; i++)
        for (int k = 0; k < 5; k++) ck_assert(second[i * 5 + k] == kept[perm[i] * 5 + k]);
    ck_assert(kept[0] != kept[5]);
    free(x), free(shuffled);
    finish(&n);
}
END_TEST

START_TEST(misuse_names_the_argument)
{
    rt_model *m = NULL;
    rt_graph *g = NULL;
    rt_forward f = {.logits = {77}};
    rt_val none = {0};
    rt_ok(rt_model_create(&convnet, &m));
    rt_ok(rt_graph_create(&g));
    rt_val x = rt_input(g, "x", RT_SHAPE(RT_F32, 2, 16, 16, 3)), small = rt_input(g, "s", RT_SHAPE(RT_F32, 2, 8, 8, 3));
    rt_val theta = rt_input(g, "theta", RT_SHAPE(RT_F32, rt_model_n_params(m))),
           t = rt_input(g, "t", RT_SHAPE(RT_F32, 7));
    rt_fails(rt_model_forward(m, g, small, theta, none, 1, &f), RT_ERR_ARG);
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "x is f32[2,8,8,3]"));
    rt_fails(rt_model_forward(m, g, x, t, none, 1, &f), RT_ERR_ARG);
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "theta is f32[7]"));
    rt_fails(rt_model_forward(m, g, x, none, none, 1, &f), RT_ERR_ARG);
    ck_assert_uint_eq(f.logits.id, 77);
    rt_model_destroy(m);

    rt_model_desc bn = convnet;
    bn.norm = RT_MODEL_NORM_BATCH;
    rt_ok(rt_model_create(&bn, &m));
    theta = rt_input(g, "theta2", RT_SHAPE(RT_F32, rt_model_n_params(m)));
    rt_fails(rt_model_forward(m, g, x, theta, none, 1, &f), RT_ERR_ARG);
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "buffers is absent"));
    rt_model_destroy(m);
    rt_graph_destroy(g);
}
END_TEST

static const rt_test tests[] = {
    {"convnet Hv", hessian_products_of_convnets},  {"mlp Hv", hessian_products_of_the_other_networks},
    {"resnet18 Hv", hessian_products_of_resnet18}, {"permutation", permuting_a_batch_permutes_logits},
    {"misuse", misuse_names_the_argument},
};
RT_SUITE("nn.forward", tests)
