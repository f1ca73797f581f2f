/* Second derivatives of whole networks: H v of a training loss, by differentiating the gradient graph, against central
 * differences of the gradient, all in float64 by the rows' references.
 *
 * A difference sees a kink where the derivative is defined as zero: a ReLU or a maximum that switches between theta -
 * h v and theta + h v. With tens of thousands of units the step must be small enough that none does (v is scaled to
 * each parameter's size and h is relative); rounding then bounds the agreement from below. */
#include "../support/eval.h"
#include "../support/suite.h"

#include "base/rng.h"
#include "nn/nn.h"

typedef struct problem {
    rt_graph *g;
    rt_model *m;
    rt_val x, q, theta, buffers, v, loss, grad, hv;
    double *x_data, *q_data, *theta_data, *buffer_data, *v_data;
    int64_t n_params;
} problem;

static double *normals(int64_t n, uint32_t purpose)
{
    rt_rng r = rt_rng_at(7, RT_RNG_TEST, 0, purpose);
    double *p = malloc((size_t)n * sizeof *p);
    for (int64_t i = 0; i < n; i++) p[i] = rt_rng_normal(&r);
    return p;
}

/* Direction: each parameter tensor by its own root mean square, or 0.1 where that is smaller (biases, shifts). */
static double *direction(const rt_model *m, const double *theta)
{
    double *v = normals(rt_model_n_params(m), 3);
    for (int32_t i = 0; i < rt_model_param_count(m); i++) {
        const rt_param *p = rt_model_param(m, i);
        double sum = 0;
        for (int64_t k = 0; k < p->count; k++) sum += theta[p->offset + k] * theta[p->offset + k];
        double rms = sqrt(sum / (double)p->count);
        for (int64_t k = 0; k < p->count; k++) v[p->offset + k] *= rms > 0.1 || p->shape.rank > 1 ? rms : 0.1;
    }
    return v;
}

static problem open_problem(const rt_model_desc *d, int64_t images)
{
    problem p = {0};
    rt_ok(rt_model_create(d, &p.m));
    rt_ok(rt_graph_create(&p.g));
    p.n_params = rt_model_n_params(p.m);
    const int64_t n_buffers = rt_model_n_buffers(p.m), pixels = (int64_t)d->size * d->size * d->channels;

    float *theta = malloc((size_t)p.n_params * sizeof *theta);
    float *buffers = calloc((size_t)n_buffers + 1, sizeof *buffers);
    rt_model_init(p.m, 11, 0, theta, n_buffers ? buffers : NULL);
    p.theta_data = malloc((size_t)p.n_params * sizeof *p.theta_data);
    p.buffer_data = malloc((size_t)(n_buffers + 1) * sizeof *p.buffer_data);
    for (int64_t i = 0; i < p.n_params; i++) p.theta_data[i] = (double)theta[i];
    for (int64_t i = 0; i < n_buffers; i++) p.buffer_data[i] = (double)buffers[i];
    free(theta);
    free(buffers);
    p.x_data = normals(images * pixels, 1);
    p.q_data = normals(images * d->classes, 2); /* soft labels: squares, made to sum to one */
    for (int64_t i = 0; i < images; i++) {
        double *q = p.q_data + i * d->classes, sum = 0;
        for (int32_t c = 0; c < d->classes; c++) sum += q[c] * q[c];
        for (int32_t c = 0; c < d->classes; c++) q[c] = q[c] * q[c] / sum;
    }
    p.v_data = direction(p.m, p.theta_data);

    p.x = rt_input(p.g, "x", RT_SHAPE(RT_F32, images, d->size, d->size, d->channels));
    p.q = rt_input(p.g, "q", RT_SHAPE(RT_F32, images, d->classes));
    p.theta = rt_input(p.g, "theta", RT_SHAPE(RT_F32, p.n_params));
    p.v = rt_input(p.g, "v", RT_SHAPE(RT_F32, p.n_params));
    if (n_buffers) p.buffers = rt_input(p.g, "buffers", RT_SHAPE(RT_F32, n_buffers));
    rt_forward f;
    rt_ok(rt_model_forward(p.m, p.g, p.x, p.theta, p.buffers, 1, &f));
    p.loss = rt_mean_all(p.g, rt_softmax_ce(p.g, f.logits, p.q));
    rt_ok(rt_model_grad(p.m, p.g, p.loss, p.theta, &p.grad));
    rt_ok(rt_model_grad(p.m, p.g, rt_dot(p.g, p.grad, p.v), p.theta, &p.hv));
    return p;
}

static void evaluate(const problem *p, rt_val want, double *out)
{
    rt_feed feed[5] = {{p->x, p->x_data}, {p->q, p->q_data}, {p->theta, p->theta_data}, {p->v, p->v_data},
                       {p->buffers, p->buffer_data}};
    void *to = out;
    rt_ok(rt_eval_ref(p->g, feed, p->buffers.id ? 5 : 4, &want, 1, &to));
}

/* Relative error in the 2-norm of H v against (grad(theta + h v) - grad(theta - h v)) / 2h. */
static double hvp_error(problem *p, double h)
{
    const size_t bytes = (size_t)p->n_params * sizeof(double);
    double *hv = malloc(bytes), *side[2] = {malloc(bytes), malloc(bytes)}, *keep = malloc(bytes), error = 0, size = 0;
    evaluate(p, p->hv, hv);
    memcpy(keep, p->theta_data, bytes);
    for (int s = 0; s < 2; s++) {
        for (int64_t i = 0; i < p->n_params; i++) p->theta_data[i] = keep[i] + (s ? h : -h) * p->v_data[i];
        evaluate(p, p->grad, side[s]);
    }
    memcpy(p->theta_data, keep, bytes);
    for (int64_t i = 0; i < p->n_params; i++) {
        double want = (side[1][i] - side[0][i]) / (2 * h);
        error += (hv[i] - want) * (hv[i] - want);
        size += want * want;
    }
    free(hv);
    free(side[0]);
    free(side[1]);
    free(keep);
    printf("  %s: relative error of H v %.2g, |H v| %.3g, %lld parameters\n", rt_model_desc_of(p->m)->arch,
           sqrt(error / size), sqrt(size), (long long)p->n_params);
    ck_assert_msg(size > 0, "H v is zero: nothing was compared");
    return sqrt(error / size);
}

static void close_problem(problem *p)
{
    rt_graph_destroy(p->g);
    rt_model_destroy(p->m);
    free(p->x_data);
    free(p->q_data);
    free(p->theta_data);
    free(p->buffer_data);
    free(p->v_data);
}

static void check(const rt_model_desc *d, int64_t images, double h)
{
    problem p = open_problem(d, images);
    double error = hvp_error(&p, h);
    ck_assert_msg(error <= 1e-6, "%s: H v differs from central differences by %.3g", d->arch, error);
    close_problem(&p);
}

START_TEST(convnet3)
{
    check(&(rt_model_desc){.arch = "convnet", .depth = 3, .width = 8, .norm = RT_MODEL_NORM_INSTANCE, .size = 16,
                           .channels = 3, .classes = 10},
          4, 1e-6);
}
END_TEST

START_TEST(convnet3_batch_norm)
{
    check(&(rt_model_desc){.arch = "convnet", .depth = 3, .width = 8, .norm = RT_MODEL_NORM_BATCH, .size = 16,
                           .channels = 3, .classes = 10},
          4, 1e-6);
}
END_TEST

static double dot(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* <w, H v> = <v, H w>; and the mixed product d <grad_theta, v> / dx against differences of the image gradient. */
START_TEST(products_are_symmetric_and_mixed)
{
    const rt_model_desc d = {.arch = "convnet", .depth = 2, .width = 6, .norm = RT_MODEL_NORM_INSTANCE, .size = 8,
                             .channels = 3, .classes = 5};
    const double h = 1e-6;
    problem p = open_problem(&d, 4);
    const int64_t n = p.n_params, n_x = rt_shape_count(rt_val_shape(p.g, p.x));
    double *v = p.v_data, *w = normals(n, 4);
    double *hv = malloc((size_t)n * sizeof *hv), *hw = malloc((size_t)n * sizeof *hw);
    evaluate(&p, p.hv, hv);
    p.v_data = w;
    evaluate(&p, p.hv, hw);
    p.v_data = v;
    rt_assert_near(dot(w, hv, n), dot(v, hw, n), 1e-12, 1e-11);

    rt_val gx, kv;
    rt_ok(rt_grad(p.g, p.loss, &p.x, 1, &gx));
    rt_ok(rt_grad(p.g, rt_dot(p.g, p.grad, p.v), &p.x, 1, &kv));
    double *got = malloc((size_t)n_x * sizeof *got), *side[2], error = 0, size = 0;
    evaluate(&p, kv, got);
    for (int s = 0; s < 2; s++) {
        side[s] = malloc((size_t)n_x * sizeof **side);
        for (int64_t i = 0; i < n; i++) p.theta_data[i] += (s ? 2 * h : -h) * v[i];
        evaluate(&p, gx, side[s]);
    }
    for (int64_t i = 0; i < n_x; i++) {
        double want = (side[1][i] - side[0][i]) / (2 * h);
        error += (got[i] - want) * (got[i] - want);
        size += want * want;
    }
    ck_assert_msg(size > 0 && sqrt(error / size) <= 1e-6, "mixed product differs by %.3g", sqrt(error / size));
    free(w);
    free(hv);
    free(hw);
    free(got);
    free(side[0]);
    free(side[1]);
    close_problem(&p);
}
END_TEST

/* The products of one tangent sweep (rt_jvp of the three gradients along v; matching.md 3.2 and test 2 of section 8): H v in
 * the parameters, K v in the pixels, M v in label logits, against central differences of the gradients. */
START_TEST(one_sweep_gives_all_products)
{
    static const char *const names[3] = {"H v", "K v", "M v"};
    const rt_model_desc d = {.arch = "convnet", .depth = 2, .width = 6, .norm = RT_MODEL_NORM_INSTANCE, .size = 8,
                             .channels = 3, .classes = 5};
    const double h = 1e-6;
    problem p = open_problem(&d, 4);
    rt_forward f;
    rt_val first[3], sweep[3];
    rt_val u = rt_input(p.g, "u", RT_SHAPE(RT_F32, 4, 5));
    rt_ok(rt_model_forward(p.m, p.g, p.x, p.theta, p.buffers, 1, &f));
    rt_val loss = rt_mean_all(p.g, rt_softmax_ce(p.g, f.logits, rt_exp(p.g, rt_log_softmax(p.g, u))));
    rt_ok(rt_model_grad(p.m, p.g, loss, p.theta, &first[0]));
    rt_ok(rt_grad(p.g, loss, (rt_val[]){p.x, u}, 2, first + 1));
    rt_ok(rt_jvp(p.g, first, 3, &p.theta, &p.v, 1, sweep));
    rt_ok(rt_graph_verify(p.g));
    double *logits = normals(20, 5);
    for (int k = 0; k < 3; k++) {
        const int64_t n = rt_shape_count(rt_val_shape(p.g, sweep[k]));
        double *got = malloc((size_t)n * sizeof *got), *side[2], error = 0, size = 0;
        const rt_feed feed[] = {{p.x, p.x_data}, {p.theta, p.theta_data}, {p.v, p.v_data}, {u, logits}};
        rt_ok(rt_eval_ref(p.g, feed, 4, &sweep[k], 1, (void *[]){got}));
        for (int s = 0; s < 2; s++) {
            side[s] = malloc((size_t)n * sizeof **side);
            for (int64_t i = 0; i < p.n_params; i++) p.theta_data[i] += (s ? 2 * h : -h) * p.v_data[i];
            rt_ok(rt_eval_ref(p.g, feed, 4, &first[k], 1, (void *[]){side[s]}));
        }
        for (int64_t i = 0; i < p.n_params; i++) p.theta_data[i] -= h * p.v_data[i];
        for (int64_t i = 0; i < n; i++) {
            const double want = (side[1][i] - side[0][i]) / (2 * h);
            error += (got[i] - want) * (got[i] - want);
            size += want * want;
        }
        printf("  %s by one sweep: relative error %.2g, length %.3g\n", names[k], sqrt(error / size), sqrt(size));
        ck_assert_msg(size > 0 && sqrt(error / size) <= 1e-6, "%s differs by %.3g", names[k], sqrt(error / size));
        int biases = 0;
        if (k == 0) { /* a convolution's bias in front of instance norm has no effect */
            for (int32_t i = 0; i < rt_model_param_count(p.m); i++) {
                const rt_param *q = rt_model_param(p.m, i);
                int at;
                if (q->shape.rank != 1 || sscanf(q->name, "features.%d.bias", &at) != 1 || at % 4) continue;
                biases++;
                for (int64_t e = 0; e < q->count; e++)
                    ck_assert_msg(fabs(got[q->offset + e]) <= 1e-12 * sqrt(size), "H v of %s is %.3g", q->name, got[q->offset + e]);
            }
            ck_assert_int_eq(biases, d.depth);
        }
        free(got);
        free(side[0]);
        free(side[1]);
    }
    free(logits);
    close_problem(&p);
}
END_TEST

/* The whole network with its 7x7 stem and max pool: 32 pixels leave a 1x1 last map. */
START_TEST(resnet18)
{
    check(&(rt_model_desc){.arch = "resnet18", .size = 32, .channels = 3, .classes = 10}, 4, 1e-7);
}
END_TEST

static const rt_test tests[] = {{"ConvNet-3, instance norm", convnet3},
                                {"ConvNet-3, batch norm", convnet3_batch_norm},
                                {"symmetric and mixed products", products_are_symmetric_and_mixed},
                                {"one sweep gives all products", one_sweep_gives_all_products},
                                {"ResNet-18", resnet18}};
RT_SUITE("ops.hvp", tests)
