/* NCFM against PyTorch (image gradients in float64, images after whole iterations), the laws of its distance
 * (matching.md 8, test 8), the sampling network, and what a class-wise step with momentum amounts to (test 10). */
#include "distmatch.h"
#include "methods/distill/characteristic.h"
#include "methods/distill/formation.h"

enum { K = 16, ITS = 2 };

/* --- the distance ------------------------------------------------------------------------------------------------------ */

/* L of two functions given by their c and s [1,K]; gradient with respect to the second c. */
static double distance(const double *v[4], double alpha, double beta, double *grad)
{
    session s;
    rt_val in[4], g;
    const char *const name[] = {"cr", "sr", "cs", "ss"};
    session_open(&s, "ref");
    for (int i = 0; i < 4; i++) in[i] = session_input(&s, name[i], RT_SHAPE(RT_F32, 1, K), v[i]);
    rt_val loss = rt_cf_loss(s.g, in[0], in[1], in[2], in[3], alpha, beta, 300);
    rt_ok(rt_grad(s.g, loss, &in[2], 1, &g));
    int l = session_output(&s, loss), o = session_output(&s, g);
    session_run(&s);
    double value = session_read(&s, l)[0];
    if (grad) memcpy(grad, session_read(&s, o), K * sizeof *grad);
    session_close(&s);
    return value;
}

START_TEST(distance_is_what_it_says)
{
    double *v[4], mean = 0, general = 0;
    for (uint32_t i = 0; i < 4; i++) v[i] = filled(50 + i, K, 0.6, 0);
    for (int k = 0; k < K; k++) {
        double ar = hypot(v[0][k], v[1][k]), as = hypot(v[2][k], v[3][k]);
        mean += hypot(v[0][k] - v[2][k], v[1][k] - v[3][k]) / K;
        general += 300 * sqrt(0.7 * (ar - as) * (ar - as) + 0.2 * 2 * (ar * as - v[0][k] * v[2][k] - v[1][k] * v[3][k])) / K;
    }
    rt_assert_near(distance((const double *[]){v[0], v[1], v[2], v[3]}, 0.5, 0.5, NULL), 300 / sqrt(2) * mean, 0, 1e-12);
    rt_assert_near(distance((const double *[]){v[0], v[1], v[2], v[3]}, 0.7, 0.2, NULL), general, 0, 1e-12);
    /* both forms of the formula meet where the weights are equal */
    rt_assert_near(distance((const double *[]){v[0], v[1], v[2], v[3]}, 0.5 + 1e-12, 0.5, NULL), 300 / sqrt(2) * mean, 0, 1e-9);
    /* identical: the floor of the phase term alone, and no gradient that is not finite */
    double g[K];
    rt_assert_near(distance((const double *[]){v[0], v[1], v[0], v[1]}, 0.5, 0.5, g), 300 * sqrt(0.5e-12), 1e-12, 0);
    for (int k = 0; k < K; k++) rt_assert_near(g[k], 0, 1e-9, 0);
    ck_assert(distance((const double *[]){v[0], v[1], v[0], v[1]}, 0.7, 0.2, g) < 1e-3);
    for (int k = 0; k < K; k++) ck_assert(isfinite(g[k]));
    ck_assert(isfinite(distance((const double *[]){v[0], v[1], v[0], v[1]}, 0.7, 0, g)) && isfinite(g[0]));
    for (int i = 0; i < 4; i++) free(v[i]);
}
END_TEST

START_TEST(sampling_network_agrees_with_torch)
{
    enum { DIM = 12, P = 3 * (DIM * DIM + 3 * DIM) };
    fixture x;
    session s;
    rt_val cr, sr, cs, ss, g;
    set_up(&x, "ncfm", "iterations: 2");
    ck_assert_int_eq(rt_psi_n_params(DIM), P);
    session_open(&s, "ref");
    double *t0 = filled(31, P, 0.5, 0.1), *n0 = filled(32, K * DIM, 1, 0), *r0 = filled(33, 8 * DIM, 0.5, 0), *s0 = filled(34, 6 * DIM, 0.5, 0.1);
    rt_val theta = session_input(&s, "psi", RT_SHAPE(RT_F32, P), t0), noise = session_input(&s, "noise", RT_SHAPE(RT_F32, K, DIM), n0);
    rt_val t = rt_psi_forward(s.g, noise, theta, DIM);
    rt_cf_means(s.g, session_input(&s, "r", RT_SHAPE(RT_F32, 8, DIM), r0), t, 1, &cr, &sr);
    rt_cf_means(s.g, session_input(&s, "s", RT_SHAPE(RT_F32, 6, DIM), s0), t, 1, &cs, &ss);
    rt_val loss = rt_cf_loss(s.g, cr, sr, cs, ss, 0.5, 0.5, 300);
    rt_ok(rt_grad(s.g, loss, &theta, 1, &g));
    int ot = session_output(&s, t), ol = session_output(&s, loss), og = session_output(&s, g);
    session_run(&s);
    double et = rel_distance(session_read(&s, ot), golden(&x, "psi_t")->data, K * DIM);
    double eg = rel_distance(session_read(&s, og), golden(&x, "psi_grad")->data, P);
    ck_assert_msg(et <= 1e-9 && eg <= 1e-8, "frequencies %g, gradient %g", et, eg);
    rt_assert_near(session_read(&s, ol)[0], ((const double *)golden(&x, "psi_loss")->data)[0], 0, 1e-9);
    free(t0), free(n0), free(r0), free(s0);
    session_close(&s);
    tear_down(&x);
}
END_TEST

/* --- against PyTorch ---------------------------------------------------------------------------------------------------- */

static rt_val channels(rt_graph *g, double a, double b, double c)
{
    rt_shape one = RT_SHAPE(RT_F32, 1);
    return rt_concat(g, (rt_val[]){rt_const(g, a, one), rt_const(g, b, one), rt_const(g, c, one)}, 3, 0);
}

/* Gradient of the sum over the classes, by hand from the builders: clamp, decode, normalise, augment, features, distance. */
static void gradient(const char *backend, const char *name, double alpha, double beta, double tolerance)
{
    fixture x;
    session s;
    rt_model *m = NULL;
    rt_forward f;
    rt_val gx, loss = {0}, none = {0};
    set_up(&x, "ncfm", "iterations: 2");
    session_open(&s, backend);
    rt_ok(rt_model_create(&net, &m));
    int64_t p = rt_model_n_params(m), dim = rt_model_feature_dim(m);
    double *theta0 = wide(golden(&x, "theta"), p), *init = wide(golden(&x, "init"), IMAGES * PX), *t0 = wide(golden(&x, "frequencies"), K * dim);
    for (int i = 0; i < IMAGES * PX; i++) init[i] = init[i] < 0 ? 0 : init[i] > 1 ? 1 : init[i];
    rt_val theta = session_input(&s, "theta", RT_SHAPE(RT_F32, p), theta0), t = session_input(&s, "t", RT_SHAPE(RT_F32, K, dim), t0);
    rt_val images = session_input(&s, "x", RT_SHAPE(RT_F32, IMAGES, SIZE, SIZE, 3), init);
    rt_val mean = channels(s.g, 0.4914, 0.4822, 0.4465), std = channels(s.g, 0.2023, 0.1994, 0.2010);
    for (int c = 0; c < CLASSES; c++) {
        char label[16];
        double *r0 = real_batch(&x, c);
        rt_val cr, sr, cs, ss;
        snprintf(label, sizeof label, "real%d", c);
        rt_val r = augmented(&s, &x, session_input(&s, label, RT_SHAPE(RT_F32, BATCH, SIZE, SIZE, 3), r0), c, BATCH, "r");
        rt_ok(rt_model_forward(m, s.g, r, theta, none, 1, &f));
        rt_cf_means(s.g, rt_cf_unit_rows(s.g, f.features), t, 1, &cr, &sr);
        rt_val v = rt_formation_decode(s.g, class_rows(s.g, images, c, IPC), 1, 2);
        v = augmented(&s, &x, rt_div(s.g, rt_sub(s.g, v, mean), std), c, 4 * IPC, "s");
        rt_ok(rt_model_forward(m, s.g, v, theta, none, 1, &f));
        rt_cf_means(s.g, rt_cf_unit_rows(s.g, f.features), t, 1, &cs, &ss);
        rt_val d = rt_cf_loss(s.g, cr, sr, cs, ss, alpha, beta, 300);
        loss = loss.id ? rt_add(s.g, loss, d) : d;
        free(r0);
    }
    rt_ok(rt_grad(s.g, loss, &images, 1, &gx));
    int out = session_output(&s, gx);
    session_run(&s);
    double e = rel_distance(session_read(&s, out), golden(&x, name)->data, IMAGES * PX);
    ck_assert_msg(e <= tolerance, "%s on %s: relative distance %g", name, backend, e);
    free(theta0), free(init), free(t0);
    rt_model_destroy(m);
    session_close(&s);
    tear_down(&x);
}

START_TEST(gradients_agree_with_torch)
{
    gradient("ref", "grad_joint", 0.5, 0.5, 1e-8);
    gradient("ref", "grad_weights", 0.7, 0.2, 1e-8);
    gradient("cpu", "grad_joint", 0.5, 0.5, 1e-4);
    gradient("cpu", "grad_weights", 0.7, 0.2, 1e-4);
}
END_TEST

#define SMALL "iterations: 2, batch_real: 4, frequencies: 16, "
#define SGD "optimiser: sgd, lr: 0.02, momentum: 0.5, "

static void whole(const char *backend, const char *yaml, const char *name, double tolerance)
{
    fixture x;
    rt_set s = {0};
    set_up(&x, "ncfm", yaml);
    construct(&x, "ncfm", backend, NULL, &s, RT_OK);
    ck_assert(s.unit && s.factor == 2);
    images_agree(&x, &s, name, tolerance);
    rt_set_fini(&s);
    tear_down(&x);
}

START_TEST(images_agree_with_torch)
{
    for (int cpu = 0; cpu < 2; cpu++) {
        const char *be = cpu ? "cpu" : "ref";
        double t = cpu ? 1e-4 : 1e-5;
        whole(be, SMALL SGD "update: joint, calibration: 0", "images_joint", t);
        whole(be, "iterations: 1, batch_real: 4, frequencies: 16, alpha: 0.7, beta: 0.2, " SGD "update: joint, calibration: 0", "images_weights", t);
        whole(be, SMALL SGD "update: class, calibration: 1, dsa: none", "images_classwise", t);
        /* the first AdamW step is the sign of the gradient: float32 cannot follow where that is near zero */
        if (!cpu) whole(be, SMALL "optimiser: adamw, lr: 0.01, calibration: 1, dsa: none", "images_adamw", 1e-4);
    }
}
END_TEST

/* --- class-wise momentum ------------------------------------------------------------------------------------------------ */

/* A full-tensor SGD step with momentum mu after each of n classes is, for the images of one class, v <- mu^n v + g and
 * x <- x - lr (1 - mu^n) / (1 - mu) v between one of its gradients and the next. Three sweeps of both. */
START_TEST(class_wise_momentum_is_slower_memory)
{
    enum { N = 5, D = 3, SWEEPS = 3 };
    const double mu = 0.5, lr = 0.1;
    double *start = filled(61, N * D, 1, 0), *pull = filled(62, N * D, 1, 0), gain = lr * (1 - pow(mu, N)) / (1 - mu);
    double x[N * D], v[N * D] = {0}, g[N * D] = {0}, zero[N * D] = {0};
    memcpy(x, start, sizeof x);
    session s;
    rt_val v_new;
    session_open(&s, "ref");
    rt_val vx = session_input(&s, "x", RT_SHAPE(RT_F32, N * D), start), vv = session_input(&s, "v", RT_SHAPE(RT_F32, N * D), zero);
    rt_val vg = session_input(&s, "g", RT_SHAPE(RT_F32, N * D), g), vl = session_input(&s, "lr", RT_SCALAR_F32, &lr);
    rt_val x_new = rt_sgd_step(s.g, vx, vv, vg, vl, rt_scalar(s.g, 0), mu, false, &v_new);
    int ox = session_output(&s, x_new), ov = session_output(&s, v_new);
    for (int sweep = 0; sweep < SWEEPS; sweep++)
        for (int c = 0; c < N; c++) {
            /* the gradient of a quadratic and something that is not one, at the images as the full-tensor steps left them */
            const double *full = sweep + c ? session_read(&s, ox) : start;
            memset(g, 0, sizeof g);
            for (int i = c * D; i < (c + 1) * D; i++) {
                if (sweep) x[i] -= gain * v[i]; /* all the steps since its last gradient at once */
                rt_assert_near(full[i], x[i], 1e-12, 1e-12);
                g[i] = x[i] - pull[i] + 0.3 * sin(3 * x[i]);
                v[i] = pow(mu, N) * v[i] + g[i];
            }
            double *fx = malloc(sizeof x), *fv = malloc(sizeof v);
            memcpy(fx, full, sizeof x);
            if (sweep + c) memcpy(fv, session_read(&s, ov), sizeof v);
            else memset(fv, 0, sizeof v);
            session_write(&s, 0, fx);
            session_write(&s, 1, fv);
            session_write(&s, 2, g);
            session_run(&s);
            free(fx), free(fv);
        }
    free(start), free(pull);
    session_close(&s);
}
END_TEST

/* --- the method -------------------------------------------------------------------------------------------------------- */

static float pool_initial[2 * 4096], pool_trained[2 * 4096];
static rt_pool pool = {.initial = pool_initial, .trained = pool_trained};

static void from_pool(rt_build_ctx *c)
{
    rt_model *m = NULL;
    rt_ok(rt_model_create(&c->net, &m));
    pool.n = 2;
    pool.n_params = rt_model_n_params(m);
    ck_assert_int_le(pool.n * pool.n_params, 2 * 4096);
    for (int k = 0; k < 4; k++) rt_model_init(m, 9, (uint64_t)k, (k % 2 ? pool_trained : pool_initial) + k / 2 * pool.n_params, NULL);
    c->pool = &pool;
    c->files = (rt_draw_files){0};
    rt_model_destroy(m);
}

static void nothing_given(rt_build_ctx *c) { c->files = (rt_draw_files){0}; }

static void falls(const char *yaml)
{
    fixture x;
    rt_set a = {0}, b = {0};
    double first = 0, last = 0;
    set_up(&x, "ncfm", yaml);
    construct(&x, "ncfm", "cpu", from_pool, &a, RT_OK);
    construct(&x, "ncfm", "cpu", from_pool, &b, RT_OK);
    ck_assert_mem_eq(a.px, b.px, IMAGES * PX * sizeof *a.px);
    ck_assert_str_eq(a.trace, b.trace);
    int rows = 0, it;
    for (const char *p = strchr(a.trace, '\n') + 1; *p; p = strchr(p, '\n') + 1, rows++) {
        double loss;
        ck_assert_int_eq(sscanf(p, "%d,%lf", &it, &loss), 2);
        if (rows < 10) first += loss;
        if (rows >= 30) last += loss;
    }
    ck_assert_int_eq(rows, 40);
    ck_assert_msg(last < 0.9 * first, "%s: mean loss %g, then %g", yaml, first / 10, last / 10);
    for (int i = 0; i < IMAGES * PX; i++) ck_assert(a.px[i] >= 0 && a.px[i] <= 1);
    rt_set_fini(&a);
    rt_set_fini(&b);
    tear_down(&x);
}

START_TEST(loss_falls)
{
    falls("iterations: 40, batch_real: 8, frequencies: 64, lr: 0.02, dsa: none");
    falls("iterations: 40, batch_real: 8, frequencies: 64, lr: 0.02, dsa: none, update: joint");
}
END_TEST

START_TEST(sampling_network_climbs_and_repeats)
{
    fixture x;
    rt_set a = {0}, b = {0};
    set_up(&x, "ncfm", "iterations: 3, batch_real: 8, frequencies: 32, sampling_net: true");
    construct(&x, "ncfm", "cpu", from_pool, &a, RT_OK);
    construct(&x, "ncfm", "cpu", from_pool, &b, RT_OK);
    ck_assert_str_eq(a.trace, b.trace);
    ck_assert(!strstr(a.notes, "standard normal"));
    rt_set_fini(&b);
    x.config.ncfm.sampling_lr = 1e-12; /* a network that hardly moves: other frequencies from the second step on */
    construct(&x, "ncfm", "cpu", from_pool, &b, RT_OK);
    ck_assert_str_ne(a.trace, b.trace);
    rt_set_fini(&a);
    rt_set_fini(&b);
    tear_down(&x);
}
END_TEST

static void whitened(rt_build_ctx *c)
{
    static rt_images white;
    static float px[1];
    white = *c->train;
    white.white = px;
    c->train = &white;
}

START_TEST(bad_inputs)
{
    fixture x;
    rt_set s = {0};
    set_up(&x, "ncfm", SMALL "factor: 2");
    construct(&x, "ncfm", "cpu", whitened, &s, RT_ERR_CONFIG);
    construct(&x, "ncfm", "cpu", nothing_given, &s, RT_ERR_INTERNAL);
    x.config.ncfm.frequencies = K + 1;
    construct(&x, "ncfm", "cpu", NULL, &s, RT_ERR_FORMAT);
    x.config.ncfm.alpha = x.config.ncfm.beta = 0;
    construct(&x, "ncfm", "cpu", NULL, &s, RT_ERR_CONFIG);
    x.config.ncfm.factor = SIZE + 1;
    construct(&x, "ncfm", "cpu", NULL, &s, RT_ERR_CONFIG);
    ck_assert(s.px == NULL);
    tear_down(&x);
}
END_TEST

static const rt_test tests[] = {{"the distance is what it says", distance_is_what_it_says},
                                {"the sampling network agrees with PyTorch", sampling_network_agrees_with_torch},
                                {"gradients agree with PyTorch", gradients_agree_with_torch},
                                {"images agree with PyTorch", images_agree_with_torch},
                                {"class-wise momentum is a slower memory", class_wise_momentum_is_slower_memory},
                                {"the loss falls, draws repeat", loss_falls},
                                {"the sampling network climbs and repeats", sampling_network_climbs_and_repeats},
                                {"bad inputs are refused", bad_inputs}};
RT_SUITE("methods.ncfm", tests)
