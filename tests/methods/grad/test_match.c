/* Gradient distances by their laws and against loops; the matching step against finite differences of itself and against
 * PyTorch's double backward (tests/golden/grad), in float64 on ref and in float32 on cpu. */
#include "methods/distill/match.h"

#include "golden/golden.h"

enum { C = 3, SYN = 2, REAL = 4, SIZE = 8, WIDTH = 6, PX = SIZE * SIZE * 3 };
static const rt_normalise cifar = {{0.4914f, 0.4822f, 0.4465f}, {0.2023f, 0.1994f, 0.2010f}};

/* --- distances ----------------------------------------------------------------------------------------------------------- */

enum { NETS = 2, TENSORS = 3 };
static const rt_param parts[TENSORS] = {{.shape = {RT_F32, 4, {4, 3, 3, 3}}, .count = 108},
                                        {.shape = {RT_F32, 1, {4}}, .count = 4},
                                        {.shape = {RT_F32, 2, {5, 7}}, .count = 35}};

typedef struct distances {
    double d[NETS], *gradient[TENSORS]; /* gradient of the sum by s[k]; NULL when k does not enter */
} distances;

/* The distance of gradients r and s (flat per tensor, NETS of them) on the ref back end. */
static void measure(rt_distance kind, double *const r[TENSORS], double *const s[TENSORS], distances *out)
{
    session t;
    rt_val rv[TENSORS], sv[TENSORS], gs[TENSORS];
    int at[TENSORS], k_of[TENSORS], n = 0;
    static const char *const names[2][TENSORS] = {{"r0", "r1", "r2"}, {"s0", "s1", "s2"}};
    session_open(&t, "ref");
    memset(out, 0, sizeof *out);
    for (int k = 0; k < TENSORS; k++) {
        if (!rt_distance_includes(kind, &parts[k])) continue;
        rt_shape shape = {RT_F32, parts[k].shape.rank + 1, {NETS}};
        memcpy(shape.d + 1, parts[k].shape.d, (size_t)parts[k].shape.rank * sizeof *shape.d);
        rv[n] = session_input(&t, names[0][k], shape, r[k]);
        sv[n] = session_input(&t, names[1][k], shape, s[k]);
        k_of[n++] = k;
    }
    rt_val d = rt_gradient_distance(t.g, kind, rv, sv, n);
    rt_ok(rt_grad(t.g, rt_sum_all(t.g, d), sv, n, gs));
    int od = session_output(&t, d);
    for (int i = 0; i < n; i++) at[i] = session_output(&t, gs[i]);
    session_run(&t);
    memcpy(out->d, session_read(&t, od), sizeof out->d);
    for (int i = 0; i < n; i++) {
        size_t bytes = (size_t)(NETS * parts[k_of[i]].count) * sizeof(double);
        out->gradient[k_of[i]] = malloc(bytes);
        memcpy(out->gradient[k_of[i]], session_read(&t, at[i]), bytes);
    }
    session_close(&t);
}

static void distances_fini(distances *d)
{
    for (int k = 0; k < TENSORS; k++) free(d->gradient[k]);
}

static void draw(double *v[TENSORS], uint32_t key, double scale)
{
    for (int k = 0; k < TENSORS; k++) v[k] = filled(key + (uint32_t)k, NETS * parts[k].count, scale, 0);
}

static void drop(double *v[TENSORS])
{
    for (int k = 0; k < TENSORS; k++) free(v[k]);
}

/* Independent of the graph: the definitions in loops. */
static double by_loops(rt_distance kind, double *const r[TENSORS], double *const s[TENSORS], int64_t net)
{
    double sum = 0, rs = 0, rr = 0, ss = 0;
    for (int k = 0; k < TENSORS; k++) {
        int64_t n = parts[k].count, rows = parts[k].shape.d[0], len = n / rows;
        const double *a = r[k] + net * n, *b = s[k] + net * n;
        int rank = parts[k].shape.rank;
        rs += dot(a, b, n), rr += dot(a, a, n), ss += dot(b, b, n);
        for (int64_t i = 0; i < rows && kind == RT_DISTANCE_COSINE && rank >= 2; i++)
            sum += 1 - dot(a + i * len, b + i * len, len) /
                           (sqrt(dot(a + i * len, a + i * len, len) * dot(b + i * len, b + i * len, len)) + 1e-6);
        for (int64_t i = 0; i < n; i++) {
            double e = b[i] - a[i];
            if (kind == RT_DISTANCE_MSE || (kind == RT_DISTANCE_CONV_L2 && rank == 4)) sum += e * e;
            if (kind == RT_DISTANCE_CONV_L1 && rank == 4) sum += fabs(e);
        }
    }
    return kind == RT_DISTANCE_COS ? 1 - rs / (sqrt(rr) * sqrt(ss) + 1e-6) : sum;
}

START_TEST(distances_are_their_definitions)
{
    double *r[TENSORS], *s[TENSORS];
    distances d;
    draw(r, 10, 1);
    draw(s, 20, 1);
    for (int kind = 0; kind < RT_DISTANCES; kind++) {
        measure((rt_distance)kind, r, s, &d);
        for (int net = 0; net < NETS; net++) rt_assert_near(d.d[net], by_loops((rt_distance)kind, r, s, net), 0, 1e-12);
        for (int k = 0; k < TENSORS; k++) { /* the gradient, by central differences */
            if (!d.gradient[k]) continue;
            for (int64_t i = 0; i < NETS * parts[k].count; i += 13) {
                double was = s[k][i], h = 1e-6, *const cs[TENSORS] = {s[0], s[1], s[2]};
                int64_t net = i / parts[k].count;
                s[k][i] = was + h;
                double up = by_loops((rt_distance)kind, r, cs, net);
                s[k][i] = was - h;
                double down = by_loops((rt_distance)kind, r, cs, net);
                s[k][i] = was;
                rt_assert_near(d.gradient[k][i], (up - down) / (2 * h), 1e-8, 1e-6);
            }
        }
        distances_fini(&d);
    }
    drop(r);
    drop(s);
}
END_TEST

/* matching.md 8, test 5: zero for equal batches, no matter the scale of one side, gradient orthogonal to s in every row. */
START_TEST(cosine_obeys_its_laws)
{
    double *r[TENSORS], *s[TENSORS];
    distances d, scaled;
    draw(r, 30, 1);
    measure(RT_DISTANCE_COSINE, r, r, &d);
    for (int net = 0; net < NETS; net++) /* 9 rows whose norms are above 1 */
        ck_assert_msg(d.d[net] >= 0 && d.d[net] <= 9e-6, "identical gradients are %g apart", d.d[net]);
    distances_fini(&d);
    draw(s, 40, 1);
    measure(RT_DISTANCE_COSINE, r, s, &d);
    ck_assert(d.d[0] > 1);
    ck_assert_ptr_null(d.gradient[1]); /* a bias does not enter */
    for (int k = 0; k < TENSORS; k += 2) {
        int64_t rows = NETS * parts[k].shape.d[0], len = NETS * parts[k].count / rows;
        for (int64_t i = 0; i < rows; i++) {
            const double *u = d.gradient[k] + i * len, *v = s[k] + i * len;
            double size = sqrt(dot(u, u, len) * dot(v, v, len));
            ck_assert(size > 0.1);
            rt_assert_near(dot(u, v, len) / size, 0, 2e-6, 0);
        }
    }
    for (int k = 0; k < TENSORS; k++)
        for (int64_t i = 0; i < NETS * parts[k].count; i++) s[k][i] *= 37;
    measure(RT_DISTANCE_COSINE, r, s, &scaled);
    for (int net = 0; net < NETS; net++) rt_assert_near(scaled.d[net], d.d[net], 1e-5, 0);
    distances_fini(&d);
    distances_fini(&scaled);
    drop(r);
    drop(s);
}
END_TEST

/* A row of zeros has the distance 1 and the gradient -r / 1e-6 (matching.md 3.3), not a NaN. */
START_TEST(rows_of_zeros_stay_finite)
{
    double *r[TENSORS], *s[TENSORS];
    distances d;
    draw(r, 50, 1);
    draw(s, 60, 1);
    memset(s[2], 0, 7 * sizeof *s[2]);
    measure(RT_DISTANCE_COSINE, r, s, &d);
    for (int i = 0; i < 7; i++) rt_assert_near(d.gradient[2][i], -r[2][i] / 1e-6, 0, 1e-6);
    ck_assert(isfinite(d.d[0]));
    distances_fini(&d);
    for (int kind = 0; kind < RT_DISTANCES; kind++) {
        for (int k = 0; k < TENSORS; k++) memset(s[k], 0, (size_t)(NETS * parts[k].count) * sizeof *s[k]);
        measure((rt_distance)kind, r, s, &d);
        for (int k = 0; k < TENSORS; k++)
            for (int64_t i = 0; d.gradient[k] && i < NETS * parts[k].count; i++) ck_assert(isfinite(d.gradient[k][i]));
        distances_fini(&d);
    }
    drop(r);
    drop(s);
}
END_TEST

START_TEST(tensors_that_enter)
{
    rt_model *m = NULL;
    int32_t index[32];
    rt_model_desc d = {.arch = "convnet", .depth = 2, .width = WIDTH, .norm = RT_MODEL_NORM_INSTANCE, .size = SIZE,
                       .channels = 3, .classes = C};
    rt_ok(rt_model_create(&d, &m));
    ck_assert_int_eq(rt_distance_tensors(RT_DISTANCE_COSINE, m, index), 3); /* two kernels and the classifier */
    ck_assert_str_eq(rt_model_param(m, index[2])->name, "classifier.weight");
    ck_assert_int_eq(rt_distance_tensors(RT_DISTANCE_CONV_L2, m, index), 2);
    ck_assert_int_eq(rt_distance_tensors(RT_DISTANCE_MSE, m, index), rt_model_param_count(m));
    rt_model_destroy(m);
    d = (rt_model_desc){.arch = "mlp", .size = SIZE, .channels = 3, .classes = C};
    rt_ok(rt_model_create(&d, &m));
    ck_assert_int_eq(rt_distance_tensors(RT_DISTANCE_CONV_L1, m, index), 0);
    rt_match_desc md = {.model = m, .distance = RT_DISTANCE_CONV_L1};
    rt_match match;
    rt_fails(rt_match_create(&md, &match), RT_ERR_CONFIG);
    rt_model_destroy(m);
}
END_TEST

/* --- the step ------------------------------------------------------------------------------------------------------------ */

typedef struct step {
    rt_backend *be;
    rt_model *model;
    rt_tensor *theta, *buffers;
    rt_match m;
    float *syn, *real, *dsa[2][RT_DSA_INPUTS], *gx;
    double exact[C * SYN * PX]; /* the image gradient as the back end has it */
    int32_t pick[C * SYN * 4];
    double loss;
} step;

typedef struct setting {
    const char *name;
    rt_distance distance;
    rt_model_norm norm;
    bool unit;
    int32_t factor;
} setting;

static float *narrow(uint32_t key, int64_t n, bool unit)
{
    double *wide = unit ? filled(key, n, 0.5, 0.5) : filled(key, n, 1, 0);
    float *v = malloc((size_t)n * sizeof *v);
    for (int64_t i = 0; i < n; i++) v[i] = (float)wide[i];
    free(wide);
    return v;
}

static void step_open(step *s, const setting *c, const char *backend, int64_t chunk_real, int64_t chunk_syn)
{
    rt_model_desc d = {.arch = "convnet", .depth = 2, .width = WIDTH, .norm = c->norm, .size = SIZE, .channels = 3, .classes = C};
    memset(s, 0, sizeof *s);
    rt_ok(rt_backend_open(backend, &(rt_backend_opts){.threads = 1, .strict = true}, &s->be));
    rt_ok(rt_model_create(&d, &s->model));
    int64_t p = rt_model_n_params(s->model), b = rt_model_n_buffers(s->model);
    double *theta = golden_theta(s->model), *buffers = golden_buffers(s->model);
    rt_ok(rt_tensor_create(s->be, RT_SHAPE(RT_F32, p), &s->theta));
    rt_ok(rt_tensor_write_f64(s->theta, theta, (size_t)p));
    if (b) {
        rt_ok(rt_tensor_create(s->be, RT_SHAPE(RT_F32, b), &s->buffers));
        rt_ok(rt_tensor_write_f64(s->buffers, buffers, (size_t)b));
    }
    free(theta);
    free(buffers);
    rt_match_desc md = {.be = s->be, .model = s->model, .distance = c->distance, .theta = s->theta, .buffers = s->buffers,
                        .classes = C, .real = REAL, .syn = SYN, .chunk_real = chunk_real, .chunk_syn = chunk_syn, .dsa = true,
                        .norm = c->unit ? &cifar : NULL, .factor = c->factor};
    rt_ok(rt_match_create(&md, &s->m));
    s->syn = narrow(900, C * SYN * PX, c->unit);
    s->real = narrow(910, C * REAL * PX, c->unit);
    s->gx = malloc((size_t)(C * SYN * PX) * sizeof *s->gx);
    int64_t rows[2] = {C * REAL, C * s->m.syn.images};
    for (int side = 0; side < 2; side++)
        for (int k = 0; k < RT_DSA_INPUTS; k++) s->dsa[side][k] = calloc((size_t)(rows[side] * rt_dsa_width[k]), sizeof(float));
    for (int i = 0; i < C * SYN * 4; i++) s->pick[i] = i;
}

static void step_close(step *s)
{
    rt_match_fini(&s->m);
    rt_tensor_destroy(s->theta);
    rt_tensor_destroy(s->buffers);
    rt_model_destroy(s->model);
    rt_backend_close(s->be);
    free(s->syn), free(s->real), free(s->gx);
    for (int side = 0; side < 2; side++)
        for (int k = 0; k < RT_DSA_INPUTS; k++) free(s->dsa[side][k]);
}

/* Rows of the golden file, one per class, for every image of both sides. */
static void step_rows(step *s, const rt_st_file *f, const char *name)
{
    static const char *const part[RT_DSA_INPUTS] = {"color", "affine", "box"};
    char key[64];
    for (int k = 0; k < RT_DSA_INPUTS; k++) {
        int64_t w = rt_dsa_width[k], per[2] = {REAL, s->m.syn.images};
        snprintf(key, sizeof key, "%s.%s", name, part[k]);
        const double *v = golden(f, key, C * w);
        for (int side = 0; side < 2; side++)
            for (int64_t i = 0; i < C * per[side]; i++)
                for (int64_t j = 0; j < w; j++) s->dsa[side][k][i * w + j] = (float)v[i / per[side] * w + j];
    }
}

static void step_run(step *s)
{
    const rt_match_desc *d = &s->m.d;
    s->loss = 0;
    for (int64_t at = 0; at < C; at += d->chunk_syn) {
        float *p[RT_DSA_INPUTS];
        double loss;
        for (int64_t c = at; c < at + d->chunk_syn; c += d->chunk_real) {
            for (int k = 0; k < RT_DSA_INPUTS; k++) p[k] = s->dsa[0][k] + c * REAL * rt_dsa_width[k];
            rt_ok(rt_match_gradients(&s->m, c, s->real + c * REAL * PX, NULL, p));
        }
        for (int k = 0; k < RT_DSA_INPUTS; k++) p[k] = s->dsa[1][k] + at * s->m.syn.images * rt_dsa_width[k];
        rt_ok(rt_match_images(&s->m, at, s->syn + at * SYN * PX, s->pick, p, s->gx + at * SYN * PX, &loss));
        rt_ok(rt_tensor_read_f64(s->m.gx, s->exact + at * SYN * PX, (size_t)(d->chunk_syn * SYN * PX)));
        s->loss += loss;
    }
}

static const setting settings[] = {{"dc_cosine", RT_DISTANCE_COSINE, RT_MODEL_NORM_INSTANCE, false, 1},
                                   {"dc_mse", RT_DISTANCE_MSE, RT_MODEL_NORM_INSTANCE, false, 1},
                                   {"dc_cos", RT_DISTANCE_COS, RT_MODEL_NORM_INSTANCE, false, 1},
                                   {"dc_batch_norm", RT_DISTANCE_COSINE, RT_MODEL_NORM_BATCH, false, 1},
                                   {"dsa_color", RT_DISTANCE_COSINE, RT_MODEL_NORM_INSTANCE, false, 1},
                                   {"dsa_crop", RT_DISTANCE_COSINE, RT_MODEL_NORM_INSTANCE, false, 1},
                                   {"dsa_cutout", RT_DISTANCE_COSINE, RT_MODEL_NORM_INSTANCE, false, 1},
                                   {"dsa_flip", RT_DISTANCE_COSINE, RT_MODEL_NORM_INSTANCE, false, 1},
                                   {"dsa_scale", RT_DISTANCE_COSINE, RT_MODEL_NORM_INSTANCE, false, 1},
                                   {"dsa_rotate", RT_DISTANCE_COSINE, RT_MODEL_NORM_INSTANCE, false, 1},
                                   {"idc_l2", RT_DISTANCE_CONV_L2, RT_MODEL_NORM_INSTANCE, true, 1},
                                   {"idc_l1", RT_DISTANCE_CONV_L1, RT_MODEL_NORM_INSTANCE, true, 1},
                                   {"idc_multi", RT_DISTANCE_CONV_L2, RT_MODEL_NORM_INSTANCE, true, 2}};
enum { SETTINGS = sizeof settings / sizeof *settings };

static void against_torch(precision pr, int64_t chunk_real, int64_t chunk_syn)
{
    rt_st_file *f = golden_open("grad/match");
    char key[64];
    for (size_t i = 0; i < SETTINGS; i++) {
        step s;
        step_open(&s, &settings[i], pr.backend, chunk_real, chunk_syn);
        step_rows(&s, f, settings[i].name);
        step_run(&s);
        snprintf(key, sizeof key, "%s.gx", settings[i].name);
        assert_vector(key, s.exact, golden(f, key, C * SYN * PX), C * SYN * PX, pr);
        snprintf(key, sizeof key, "%s.d", settings[i].name);
        const double *d = golden(f, key, C);
        rt_assert_near(s.loss, d[0] + d[1] + d[2], 0, 1e-5); /* handed over in float32 */
        step_close(&s);
    }
    rt_st_close(f);
}

START_TEST(ref_agrees_with_torch)
{
    against_torch(precisions[0], C, C);
    against_torch(precisions[0], 1, 1);
}
END_TEST

START_TEST(cpu_agrees_with_torch)
{
    against_torch(precisions[1], C, C);
    against_torch(precisions[1], 1, 1);
    against_torch(precisions[1], 1, C); /* real gradients class by class, images together */
}
END_TEST

/* The image gradient against central differences of the distance, in float64, for every distance. */
START_TEST(image_gradient_is_the_derivative)
{
    rt_st_file *f = golden_open("grad/match");
    for (size_t i = 0; i < SETTINGS; i++) {
        step s;
        double gx[SYN * PX], d[2];
        step_open(&s, &settings[i], "ref", 1, 1);
        step_rows(&s, f, settings[i].name);
        rt_ok(rt_match_gradients(&s.m, 0, s.real, NULL, s.dsa[0]));
        rt_ok(rt_match_images(&s.m, 0, s.syn, s.pick, s.dsa[1], s.gx, &s.loss));
        rt_ok(rt_tensor_read_f64(s.m.gx, gx, SYN * PX));
        double wide[SYN * PX], scale = sqrt(dot(gx, gx, SYN * PX) / (SYN * PX));
        for (int k = 0; k < SYN * PX; k++) wide[k] = (double)s.syn[k];
        for (int k = 5; k < SYN * PX; k += 37) {
            double was = wide[k], h = 1e-6;
            for (int side = 0; side < 2; side++) {
                wide[k] = was + (side ? -h : h);
                rt_ok(rt_tensor_write_f64(s.m.syn.x, wide, SYN * PX));
                rt_ok(rt_exec_run(s.m.syn.ex));
                rt_ok(rt_tensor_read_f64(s.m.distance, &d[side], 1));
            }
            wide[k] = was;
            ck_assert_msg(rt_near(gx[k], (d[0] - d[1]) / (2 * h), 1e-5 * scale, 1e-6), "%s: pixel %d: %.12g, differences %.12g",
                          settings[i].name, k, gx[k], (d[0] - d[1]) / (2 * h));
        }
        step_close(&s);
    }
    rt_st_close(f);
}
END_TEST

/* k steps without gradient, at once. */
START_TEST(coasting_is_idle_steps)
{
    float x[3] = {1, -2, 3}, v[3] = {0.5f, 4, -1}, x2[3], v2[3], zero[3] = {0};
    memcpy(x2, x, sizeof x);
    memcpy(v2, v, sizeof v);
    for (int k = 0; k < 5; k++) rt_match_sgd(x, v, zero, 3, 0.3, 0.6);
    rt_match_coast(x2, v2, 3, 0.3, 0.6, 5);
    for (int i = 0; i < 3; i++) {
        rt_assert_near((double)x2[i], (double)x[i], 0, 1e-6);
        rt_assert_near((double)v2[i], (double)v[i], 0, 1e-6);
    }
    rt_match_coast(x2, v2, 3, 0.3, 0.6, 0);
    for (int i = 0; i < 3; i++) rt_assert_near((double)x2[i], (double)x[i], 0, 1e-6);
}
END_TEST

/* A class with fewer images than the batch: fillers, whatever they show, do not count. */
START_TEST(fillers_do_not_count)
{
    step full;
    rt_st_file *f = golden_open("grad/match");
    const int64_t distinct[1] = {REAL - 1};
    float small[(REAL - 1) * PX], want[C * SYN * PX];
    step_open(&full, &settings[0], "ref", 1, 1);
    step_rows(&full, f, "dc_cosine");
    rt_ok(rt_match_gradients(&full.m, 0, full.real, distinct, full.dsa[0]));
    rt_ok(rt_match_images(&full.m, 0, full.syn, full.pick, full.dsa[1], full.gx, &full.loss));
    memcpy(small, full.real, sizeof small);
    memcpy(want, full.gx, sizeof want);
    rt_match_desc d = full.m.d;
    rt_match_fini(&full.m);
    d.real = REAL - 1;
    rt_ok(rt_match_create(&d, &full.m));
    rt_ok(rt_match_gradients(&full.m, 0, small, NULL, full.dsa[0]));
    double loss;
    rt_ok(rt_match_images(&full.m, 0, full.syn, full.pick, full.dsa[1], full.gx, &loss));
    rt_assert_near(loss, full.loss, 0, 1e-6);
    for (int i = 0; i < SYN * PX; i++) rt_assert_near((double)want[i], (double)full.gx[i], 1e-9, 1e-6);
    step_close(&full);
    rt_st_close(f);
}
END_TEST

static const rt_test tests[] = {
    {"definitions", distances_are_their_definitions},
    {"cosine", cosine_obeys_its_laws},
    {"zeros", rows_of_zeros_stay_finite},
    {"tensors", tensors_that_enter},
    {"ref and torch", ref_agrees_with_torch},
    {"cpu and torch", cpu_agrees_with_torch},
    {"coasting", coasting_is_idle_steps},
    {"fillers", fillers_do_not_count},
    {"differences", image_gradient_is_the_derivative},
};
RT_SUITE("methods.match", tests)
