/* A trajectory of training steps as one graph: the loss of trajectory matching, |theta_N - theta*|^2 / |theta_0 -
 * theta*|^2, differentiated with respect to the images, the label logits and the learning rate, against central
 * differences in float64. Views, network, loss and optimiser step are all on the path, and the derivative needs the
 * second derivative of each. */
#include "../support/eval.h"
#include "../support/suite.h"

#include "base/rng.h"
#include "nn/nn.h"

enum { IMAGES = 3, SIZE = 8, CLASSES = 4, STEPS = 3 };

typedef enum view { VIEW_NONE, VIEW_COLOR, VIEW_AFFINE, VIEW_BOX } view;

typedef struct unroll {
    rt_graph *g;
    rt_model *m;
    rt_feed feed[8];
    int n_feed;
    rt_val x, logits, lr, loss, grad[3];
} unroll;

static double *draw(int64_t n, double lo, double hi, uint32_t stream)
{
    rt_rng r = rt_rng_at(5, RT_RNG_TEST, 0, stream);
    double *p = malloc((size_t)n * sizeof *p);
    for (int64_t i = 0; i < n; i++) p[i] = rt_rng_uniform_in(&r, lo, hi);
    return p;
}

static rt_val input(unroll *u, const char *name, rt_shape s, double lo, double hi)
{
    rt_val v = rt_input(u->g, name, s);
    u->feed[u->n_feed] = (rt_feed){v, draw(rt_shape_count(&s), lo, hi, (uint32_t)u->n_feed)};
    u->n_feed++;
    return v;
}

/* Parameters of a view, the same for every step; values of each image differ. */
static rt_val apply(unroll *u, view k, rt_val x)
{
    static const double turn[6] = {0.97, -0.2, 0.6, 0.22, 1.08, -0.9}, box[4] = {1, 5, 2, 9};
    const double *row = k == VIEW_AFFINE ? turn : box;
    const int64_t width = k == VIEW_AFFINE ? 6 : k == VIEW_BOX ? 4 : 3;
    if (k == VIEW_NONE) return x;
    rt_val p = input(u, "p", RT_SHAPE(RT_F32, IMAGES, width), 0.5, 1.5);
    double *data = (double *)u->feed[u->n_feed - 1].data;
    if (k == VIEW_COLOR) return rt_color(u->g, x, p);
    for (int64_t i = 0; i < IMAGES * width; i++)
        data[i] = row[i % width] + (k == VIEW_AFFINE ? 0.01 * (double)(i / width) : 0);
    return k == VIEW_AFFINE ? rt_affine_sample(u->g, x, p, SIZE, SIZE) : rt_box_mask(u->g, x, p);
}

static rt_val softmax(rt_graph *g, rt_val z) { return rt_exp(g, rt_log_softmax(g, z)); }

static unroll open_unroll(view k, bool adam)
{
    unroll u = {0};
    rt_val grad, v, m, theta_n;
    const rt_model_desc d = {.arch = "convnet", .depth = 2, .width = 4, .norm = RT_MODEL_NORM_INSTANCE, .size = SIZE,
                             .channels = 3, .classes = CLASSES};
    rt_ok(rt_model_create(&d, &u.m));
    rt_ok(rt_graph_create(&u.g));
    rt_graph *g = u.g;
    const rt_shape flat = RT_SHAPE(RT_F32, rt_model_n_params(u.m));
    u.x = input(&u, "x", RT_SHAPE(RT_F32, IMAGES, SIZE, SIZE, 3), -1, 1);
    u.logits = input(&u, "logits", RT_SHAPE(RT_F32, IMAGES, CLASSES), -1, 1);
    u.lr = input(&u, "lr", RT_SCALAR_F32, 0.04, 0.06);
    rt_val theta = input(&u, "theta", flat, -0.5, 0.5), target = input(&u, "target", flat, -0.5, 0.5);
    rt_val seen = apply(&u, k, u.x);
    theta_n = theta;
    m = v = rt_const(g, adam ? 0.01 : 0, flat);
    for (int t = 0; t < STEPS; t++) {
        rt_forward f;
        rt_ok(rt_model_forward(u.m, g, seen, theta_n, (rt_val){0}, 1, &f));
        rt_val loss = rt_mean_all(g, rt_softmax_ce(g, f.logits, softmax(g, u.logits)));
        rt_ok(rt_model_grad(u.m, g, loss, theta_n, &grad));
        if (adam) {
            rt_shape one = RT_SHAPE(RT_F32, 1);
            rt_val hyper[3] = {rt_reshape(g, u.lr, one), rt_const(g, 0.2, one), rt_const(g, 0.1, one)};
            theta_n = rt_adam_step(g, theta_n, m, v, grad, rt_concat(g, hyper, 3, 0), rt_scalar(g, 0.01),
                                   (rt_adam_attr){0.8, 0.9, 1e-3, 1}, &m, &v);
        } else {
            theta_n = rt_sgd_step(g, theta_n, v, grad, u.lr, rt_scalar(g, 0.01), 0.9, t % 2, &v);
        }
    }
    rt_val far = rt_sub(g, theta_n, target), start = rt_sub(g, theta, target);
    u.loss = rt_div(g, rt_dot(g, far, far), rt_dot(g, start, start));
    rt_ok(rt_grad(g, u.loss, (rt_val[]){u.x, u.logits, u.lr}, 3, u.grad));
    return u;
}

static void evaluate(const unroll *u, rt_val want, double *out)
{
    void *to = out;
    rt_ok(rt_eval_ref(u->g, u->feed, u->n_feed, &want, 1, &to));
}

/* The derivative along one random direction of input i, by the five-point rule. */
static double slope(unroll *u, int i, const double *dir, int64_t n)
{
    static const double step[4] = {-2, -1, 1, 2}, weight[4] = {1.0 / 12, -8.0 / 12, 8.0 / 12, -1.0 / 12};
    const double h = i == 2 ? 1e-5 : 1e-6;
    double *x = (double *)u->feed[i].data, sum = 0;
    for (int k = 0; k < 4; k++) {
        double loss;
        for (int64_t e = 0; e < n; e++) x[e] += step[k] * h * dir[e];
        evaluate(u, u->loss, &loss);
        for (int64_t e = 0; e < n; e++) x[e] -= step[k] * h * dir[e];
        sum += weight[k] * loss / h;
    }
    return sum;
}

static void check(view k, bool adam)
{
    static const char *const names[3] = {"images", "label logits", "learning rate"};
    unroll u = open_unroll(k, adam);
    for (int i = 0; i < 3; i++) {
        const int64_t n = rt_shape_count(rt_val_shape(u.g, u.grad[i]));
        double *grad = malloc((size_t)n * sizeof *grad), *dir = draw(n, 0.5, 1, 50 + (uint32_t)i), got = 0, scale = 0;
        evaluate(&u, u.grad[i], grad);
        for (int64_t e = 0; e < n; e++) {
            got += grad[e] * dir[e];
            scale += fabs(grad[e] * dir[e]);
        }
        double want = slope(&u, i, dir, n);
        ck_assert_msg(scale > 0, "view %d: no gradient reaches the %s", k, names[i]);
        ck_assert_msg(fabs(got - want) <= 1e-6 * scale, "view %d, %s: %.12g, differences %.12g (scale %.3g)", k,
                      names[i], got, want, scale);
        free(grad);
        free(dir);
    }
    for (int i = 0; i < u.n_feed; i++) free((void *)u.feed[i].data);
    rt_graph_destroy(u.g);
    rt_model_destroy(u.m);
}

START_TEST(sgd_with_each_view)
{
    for (int k = VIEW_NONE; k <= VIEW_BOX; k++) check((view)k, false);
}
END_TEST

START_TEST(adamw) { check(VIEW_COLOR, true); }
END_TEST

static const rt_test tests[] = {{"SGD with each view", sgd_with_each_view}, {"AdamW", adamw}};
RT_SUITE("ops.unroll", tests)
