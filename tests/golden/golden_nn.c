/* Training steps of whole networks against PyTorch in float64 (generate.py). */
#include "golden.h"
#include "optim/optim.h"

typedef struct step {
    session s;
    rt_model *m;
    rt_val x, theta, q, buffers, loss;
    rt_forward f;
    int64_t p;
} step;

static void open_step(step *t, const char *backend, const rt_model_desc *d, int64_t batch, int training)
{
    memset(t, 0, sizeof *t);
    session_open(&t->s, backend);
    rt_ok(rt_model_create(d, &t->m));
    t->p = rt_model_n_params(t->m);
    double *x = filled(900, batch * d->size * d->size * d->channels, 1, 0), *theta = golden_theta(t->m);
    double *q = golden_labels(batch, d->classes), *b = golden_buffers(t->m);
    t->x = session_input(&t->s, "x", RT_SHAPE(RT_F32, batch, d->size, d->size, d->channels), x);
    t->theta = session_input(&t->s, "theta", RT_SHAPE(RT_F32, t->p), theta);
    t->q = session_input(&t->s, "q", RT_SHAPE(RT_F32, batch, d->classes), q);
    if (rt_model_n_buffers(t->m))
        t->buffers = session_input(&t->s, "buffers", RT_SHAPE(RT_F32, rt_model_n_buffers(t->m)), b);
    rt_ok(rt_model_forward(t->m, t->s.g, t->x, t->theta, t->buffers, training, &t->f));
    t->loss = rt_mean_all(t->s.g, rt_softmax_ce(t->s.g, t->f.logits, t->q));
    free(x), free(theta), free(q), free(b);
}

static void close_step(step *t)
{
    rt_model_destroy(t->m);
    session_close(&t->s);
}

START_TEST(convnet_sgd_step)
{
    const precision pr = precisions[_i];
    const rt_model_desc d = {.arch = "convnet",
                             .depth = 3,
                             .width = 16,
                             .norm = RT_MODEL_NORM_INSTANCE,
                             .size = 32,
                             .channels = 3,
                             .classes = 10};
    const rt_optim_desc sgd = {.kind = RT_SGD, .lr = 0.01, .momentum = 0.9, .weight_decay = 5e-4};
    rt_st_file *f = golden_open("convnet_step");
    rt_val grad, v_new;
    step t;
    open_step(&t, pr.backend, &d, 4, 1);
    double *v = malloc((size_t)t.p * sizeof *v), hyper[3] = {0};
    float h[3];
    for (int32_t i = 0; i < rt_model_param_count(t.m); i++) {
        const rt_param *q = rt_model_param(t.m, i);
        double *part = filled(200 + (uint32_t)i, q->count, 0.0625, 0);
        memcpy(v + q->offset, part, (size_t)q->count * sizeof *part);
        free(part);
    }
    rt_optim_hyper(&sgd, sgd.lr, 1, h);
    for (int i = 0; i < 3; i++) hyper[i] = (double)h[i];
    hyper[0] = sgd.lr; /* unrounded, for float64 */
    rt_val velocity = session_input(&t.s, "v", RT_SHAPE(RT_F32, t.p), v);
    rt_val rates = session_input(&t.s, "hyper", RT_SHAPE(RT_F32, 3), hyper);
    rt_ok(rt_model_grad(t.m, t.s.g, t.loss, t.theta, &grad));
    rt_val next =
        rt_optim_step(t.s.g, &sgd, t.theta, &velocity, grad, rates, rt_scalar(t.s.g, sgd.weight_decay), &v_new);
    int out[] = {session_output(&t.s, t.f.logits), session_output(&t.s, t.loss), session_output(&t.s, grad),
                 session_output(&t.s, next), session_output(&t.s, v_new)};
    session_run(&t.s);
    assert_vector("logits", session_read(&t.s, out[0]), golden(f, "logits", 40), 40, pr);
    assert_vector("loss", session_read(&t.s, out[1]), golden(f, "loss", 1), 1, pr);
    assert_vector("gradient", session_read(&t.s, out[2]), golden(f, "grad", t.p), t.p, pr);
    assert_vector("theta", session_read(&t.s, out[3]), golden(f, "theta", t.p), t.p, pr);
    assert_vector("velocity", session_read(&t.s, out[4]), golden(f, "velocity", t.p), t.p, pr);
    free(v);
    rt_st_close(f);
    close_step(&t);
}
END_TEST

START_TEST(convnet_variants)
{
    const precision pr = precisions[_i];
    const struct {
        const char *label;
        rt_model_norm norm;
        int32_t size, channels, depth;
    } row[] = {{"none", RT_MODEL_NORM_NONE, 16, 3, 2},       {"batch", RT_MODEL_NORM_BATCH, 16, 3, 2},
               {"layer", RT_MODEL_NORM_LAYER, 16, 3, 2},     {"group", RT_MODEL_NORM_GROUP, 16, 3, 2},
               {"digits", RT_MODEL_NORM_INSTANCE, 28, 1, 3}, {"odd", RT_MODEL_NORM_INSTANCE, 10, 3, 2}};
    rt_st_file *f = golden_open("convnet_variants");
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        for (int training = 0; training < 2; training++) {
            const rt_model_desc d = {.arch = "convnet",
                                     .depth = row[i].depth,
                                     .width = 8,
                                     .norm = row[i].norm,
                                     .size = row[i].size,
                                     .channels = row[i].channels,
                                     .classes = 5};
            char label[32];
            step t;
            open_step(&t, pr.backend, &d, 3, training);
            int out = session_output(&t.s, t.f.logits);
            session_run(&t.s);
            snprintf(label, sizeof label, "%s.%s", row[i].label, training ? "train" : "eval");
            assert_vector(label, session_read(&t.s, out), golden(f, label, 15), 15, pr);
            close_step(&t);
        }
    rt_st_close(f);
}
END_TEST

START_TEST(mlp_adamw_steps)
{
    const precision pr = precisions[_i];
    const rt_model_desc d = {.arch = "mlp", .width = 16, .size = 8, .channels = 3, .classes = 5};
    const rt_optim_desc adamw = {
        .kind = RT_ADAMW, .lr = 1e-3, .weight_decay = 0.01, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
    rt_st_file *f = golden_open("mlp_steps");
    const double *losses = golden(f, "losses", 3);
    rt_val grad, state[2], state_new[2];
    step t;
    open_step(&t, pr.backend, &d, 6, 1);
    double *zero = calloc((size_t)t.p, sizeof *zero), *decay = malloc((size_t)t.p * sizeof *decay), hyper[3] = {0};
    float *mask = malloc((size_t)t.p * sizeof *mask);
    rt_model_decay_mask(t.m, mask);
    for (int64_t i = 0; i < t.p; i++) decay[i] = adamw.weight_decay * (double)mask[i];
    state[0] = session_input(&t.s, "m", RT_SHAPE(RT_F32, t.p), zero);
    state[1] = session_input(&t.s, "v", RT_SHAPE(RT_F32, t.p), zero);
    rt_val rates = session_input(&t.s, "hyper", RT_SHAPE(RT_F32, 3), hyper);
    rt_val wd = session_input(&t.s, "decay", RT_SHAPE(RT_F32, t.p), decay);
    rt_ok(rt_model_grad(t.m, t.s.g, t.loss, t.theta, &grad));
    rt_val next = rt_optim_step(t.s.g, &adamw, t.theta, state, grad, rates, wd, state_new);
    int loss = session_output(&t.s, t.loss), theta = session_output(&t.s, next);
    int m = session_output(&t.s, state_new[0]), v = session_output(&t.s, state_new[1]);
    for (int k = 1; k <= 3; k++) {
        float h[3];
        rt_optim_hyper(&adamw, adamw.lr, k, h);
        const double exact[3] = {adamw.lr, 1 - pow(0.9, k), 1 - pow(0.999, k)};
        for (int i = 0; i < 3; i++) {
            rt_assert_near((double)h[i], exact[i], 0, 1e-7);
            hyper[i] = exact[i];
        }
        session_write(&t.s, 5, hyper);
        session_run(&t.s);
        assert_vector("loss", session_read(&t.s, loss), losses + k - 1, 1, pr);
        session_write(&t.s, 1, session_read(&t.s, theta));
        session_write(&t.s, 3, session_read(&t.s, m));
        session_write(&t.s, 4, session_read(&t.s, v));
    }
    assert_vector("theta", session_read(&t.s, theta), golden(f, "theta", t.p), t.p, pr);
    free(zero), free(decay), free(mask);
    rt_st_close(f);
    close_step(&t);
}
END_TEST

/* Per tensor its norm and its product with a hash vector, against rows of a golden digest. `floor` is the size below
 * which a tensor's error counts against the whole, not against itself. */
static void assert_digest(const char *what, const double *got, int64_t count, const double *want, uint32_t key,
                          double floor_, precision p)
{
    double *r = filled(key, count, 1, 0), norm = sqrt(dot(got, got, count)), size = fmax(want[0], floor_);
    double spread = sqrt((double)count / 3); /* size of the product for an error of size 1 in one direction */
    ck_assert_msg(fabs(norm - want[0]) <= p.rel * size, "%s: norm of %s is %.12g, want %.12g", p.backend, what, norm,
                  want[0]);
    double product = dot(got, r, count);
    ck_assert_msg(fabs(product - want[1]) <= p.rel * size * fmin(spread, 3),
                  "%s: projection of %s is %.12g, want %.12g", p.backend, what, product, want[1]);
    free(r);
}

START_TEST(resnet18_training_step)
{
    const precision pr = precisions[_i];
    const rt_model_desc d = {.arch = "resnet18", .size = 64, .channels = 3, .classes = 10};
    rt_st_file *f = golden_open("resnet18_step");
    const double *digest = golden(f, "grad", 62 * 2), *stats = golden(f, "stats", 40 * 2);
    rt_forward eval;
    rt_val grad;
    step t;
    open_step(&t, pr.backend, &d, 4, 1);
    rt_ok(rt_model_grad(t.m, t.s.g, t.loss, t.theta, &grad));
    rt_ok(rt_model_forward(t.m, t.s.g, t.x, t.theta, t.f.buffers_new, 0, &eval));
    int out[] = {session_output(&t.s, t.f.logits), session_output(&t.s, t.loss), session_output(&t.s, grad),
                 session_output(&t.s, t.f.buffers_new), session_output(&t.s, eval.logits)};
    session_run(&t.s);
    assert_vector("logits", session_read(&t.s, out[0]), golden(f, "logits", 40), 40, pr);
    assert_vector("loss", session_read(&t.s, out[1]), golden(f, "loss", 1), 1, pr);
    assert_vector("evaluation logits", session_read(&t.s, out[4]), golden(f, "eval_logits", 40), 40, pr);
    const double *g = session_read(&t.s, out[2]), *b = session_read(&t.s, out[3]);
    double whole = 0;
    for (int i = 0; i < 62; i++) whole += digest[2 * i] * digest[2 * i];
    for (int32_t i = 0; i < 62; i++) {
        const rt_param *q = rt_model_param(t.m, i);
        assert_digest(q->name, g + q->offset, q->count, digest + 2 * i, 1000 + (uint32_t)i, 1e-2 * sqrt(whole), pr);
    }
    for (int32_t i = 0; i < 40; i++) {
        const rt_model_stat *s = rt_model_stat_at(t.m, i);
        assert_digest(s->name, b + s->offset, s->count, stats + 2 * i, 2000 + (uint32_t)i, 0, pr);
    }
    rt_st_close(f);
    close_step(&t);
}
END_TEST

START_TEST(resnet50_evaluation)
{
    const precision pr = precisions[_i];
    const rt_model_desc d = {.arch = "resnet50", .size = 16, .channels = 3, .classes = 7, .small_stem = 1};
    rt_st_file *f = golden_open("resnet50_eval");
    step t;
    open_step(&t, pr.backend, &d, 2, 0);
    ck_assert_uint_eq(t.f.buffers_new.id, 0);
    int out = session_output(&t.s, t.f.logits);
    session_run(&t.s);
    assert_vector("logits", session_read(&t.s, out), golden(f, "logits", 14), 14, pr);
    rt_st_close(f);
    close_step(&t);
}
END_TEST

int main(void)
{
    const struct {
        const char *name;
        const TTest *fn;
    } tests[] = {{"convnet", convnet_sgd_step},
                 {"convnet variants", convnet_variants},
                 {"mlp", mlp_adamw_steps},
                 {"resnet18", resnet18_training_step},
                 {"resnet50", resnet50_evaluation}};
    Suite *s = suite_create("golden.nn");
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        TCase *tc = tcase_create(tests[i].name);
        tcase_set_timeout(tc, 300);
        tcase_add_loop_test(tc, tests[i].fn, 0, 2); /* _i: index into precisions */
        suite_add_tcase(s, tc);
    }
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
