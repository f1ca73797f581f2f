/* MTT and TESLA as methods, on small experts: one iteration against the unroll it is made of, options, skipped iterations,
 * and a run that is stopped at every iteration. The gradients themselves are tested in tests/methods/unroll. */
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/rng.h"
#include "methods/distill/expert_draw.h"
#include "methods/distill/unroll.h"
#include "support/suite.h"

enum { CLASSES = 3, IPC = 2, IMAGES = CLASSES * IPC, SIZE = 8, N = 24, PX = SIZE * SIZE * 3, EXPERTS = 2, LAST = 3, STEPS = 3 };

typedef struct fixture {
    char dir[64], ckpt[96];
    rt_images train;
    rt_config config;
    rt_model *model;
    rt_experts *experts;
    int64_t n_params;
} fixture;

static const rt_model_desc net = {.arch = "convnet", .depth = 1, .width = 4, .norm = RT_MODEL_NORM_INSTANCE, .size = SIZE,
                                  .channels = 3, .classes = CLASSES};

/* Straight lines: snapshot e of expert k is its initialisation plus e steps along a direction. */
static void commit_expert(const fixture *x, int k)
{
    char path[160], file[320], name[RT_EXPERT_NAME], arch[RT_EXPERT_ARCH];
    rt_commit *c;
    const size_t n = (size_t)x->n_params;
    float *theta = rt_malloc(n * sizeof *theta), *to = rt_malloc(n * sizeof *to), *at = rt_malloc(n * sizeof *at);
    rt_model_init(x->model, 5, (uint64_t)k, theta, NULL);
    rt_model_init(x->model, 6, (uint64_t)k, to, NULL);
    snprintf(path, sizeof path, "%s/expert%d", x->dir, k);
    rt_ok(rt_commit_begin(path, &c));
    for (int64_t e = 0; e <= LAST; e++) {
        for (size_t i = 0; i < n; i++) at[i] = theta[i] + 0.02f * (float)e * to[i];
        rt_expert_file(e, name);
        rt_ok(rt_fs_join(file, sizeof file, rt_commit_dir(c), name));
        rt_ok(rt_st_write(file, &(rt_st_tensor){"theta", RT_ST_F32, 1, {x->n_params}, at, n * 4}, 1, NULL, 0));
    }
    rt_expert_arch(x->model, arch);
    json_t *m = json_pack("{s:s, s:s, s:s, s:s, s:I, s:I}", "kind", "expert", "arch", arch, "classes_hash", x->train.classes.hash,
                          "zca", "", "last", (json_int_t)LAST, "final", (json_int_t)-1);
    rt_ok(rt_commit_finish(c, m));
    json_decref(m);
    rt_free(theta);
    rt_free(to);
    rt_free(at);
}

static fixture set_up(const char *yaml)
{
    fixture x = {.dir = "/tmp/retort-mtt-XXXXXX"};
    ck_assert_ptr_nonnull(mkdtemp(x.dir));
    snprintf(x.ckpt, sizeof x.ckpt, "%s/mtt.ckpt", x.dir);
    rt_ok(rt_config_parse("test.yaml", yaml, strlen(yaml), NULL, 0, &x.config));
    x.train = (rt_images){.n = N, .h = SIZE, .w = SIZE, .px = rt_malloc(N * PX), .label = rt_malloc(N * sizeof(int32_t)),
                          .key = rt_calloc(N * sizeof(char *))};
    rt_rng r = rt_rng_at(1, RT_RNG_TEST, 0, 0);
    for (int i = 0; i < N * PX; i++) x.train.px[i] = (uint8_t)rt_rng_below(&r, 256);
    for (int i = 0; i < N; i++) {
        x.train.label[i] = i % CLASSES;
        x.train.key[i] = rt_asprintf("k%02d", i);
    }
    rt_ok(rt_classes_make((const char *const[]){"a", "b", "c"}, CLASSES, &x.train.classes));
    rt_ok(rt_model_create(&net, &x.model));
    x.n_params = rt_model_n_params(x.model);
    for (int k = 0; k < EXPERTS; k++) commit_expert(&x, k);
    rt_ok(rt_experts_open(x.dir, EXPERTS, x.model, x.train.classes.hash, "", LAST, false, &x.experts));
    return x;
}

static void tear_down(fixture *x)
{
    rt_experts_close(x->experts);
    rt_model_destroy(x->model);
    rt_images_fini(&x->train);
    rt_config_fini(&x->config);
    rt_ok(rt_fs_remove_tree(x->dir));
}

static rt_build_ctx context(const fixture *x, rt_backend *be, rt_ledger *ledger)
{
    return (rt_build_ctx){.be = be, .train = &x->train, .ipc = IPC, .seed = 3, .threads = 1, .ckpt_dir = x->ckpt, .net = net,
                          .inputs_hash = "test", .ckpt_seconds = 1e9, .keep = 2, .ledger = ledger, .experts = x->experts,
                          .config = &x->config, .norm = {{0.5f, 0.5f, 0.5f}, {0.25f, 0.25f, 0.25f}}};
}

static rt_status construct(const fixture *x, const char *name, rt_set *out)
{
    rt_backend *be = NULL;
    rt_ledger *ledger = NULL;
    const rt_method *m;
    rt_ok(rt_backend_open("cpu", &(rt_backend_opts){.threads = 1, .strict = true}, &be));
    rt_ok(rt_ledger_create(&ledger));
    rt_ledger_begin(ledger);
    rt_ok(rt_method_find(name, &m));
    const rt_build_ctx c = context(x, be, ledger);
    rt_status st = m->construct(&c, out);
    rt_ledger_destroy(ledger);
    rt_backend_close(be);
    return st;
}

static rt_set run(const char *yaml, const char *name)
{
    rt_set s = {0};
    fixture x = set_up(yaml);
    rt_ok(construct(&x, name, &s));
    tear_down(&x);
    return s;
}

#define YAML(section, rates, more)                                                                                     \
    "version: 1\ndata: {kind: demo}\n" section ": {steps: 3, expert_epochs: 1, max_start: 3, step0: 0.05, batch: 4, "    \
    rates ", " more "}\n"
#define RATES "lr_pixel: 20, lr_step: 0.00001"
#define MTT(more) YAML("mtt", RATES, more)
#define TESLA(more) YAML("tesla", RATES, more)

/* images - rate * gradient, step - rate * gradient: the first step of a momentum that starts at zero. */
START_TEST(an_iteration_is_one_step_down_the_gradient)
{
    rt_backend *be;
    rt_unroll *u;
    rt_dsa dsa;
    rt_unroll_result r;
    rt_set start = run(MTT("iterations: 0"), "mtt"), end = run(MTT("iterations: 1"), "mtt");
    fixture x = set_up(MTT("iterations: 1"));
    rt_ok(rt_backend_open("cpu", &(rt_backend_opts){.threads = 1, .strict = true}, &be));
    const rt_build_ctx c = context(&x, be, NULL);
    float *a = rt_malloc((size_t)x.n_params * 4), *b = rt_malloc((size_t)x.n_params * 4), *g = rt_malloc(IMAGES * PX * 4);
    rt_ok(rt_expert_segment(&c, x.model, 0, 0, 3, 1, a, b));
    rt_ok(rt_dsa_parse("color_crop_cutout_flip_scale_rotate", 'S', &dsa));
    dsa.align_corners = 1;
    rt_ok(rt_unroll_create(be, &(rt_unroll_desc){.model = x.model, .images = IMAGES, .batch = 4, .steps = STEPS,
                                                 .hessian = true, .dsa = dsa}, &u));
    rt_unroll_draw(u, c.seed, 0);
    float hot[IMAGES * CLASSES] = {0};
    for (int i = 0; i < IMAGES; i++) hot[i * CLASSES + i / IPC] = 1;
    rt_ok(rt_tensor_write(rt_unroll_images(u), start.px, IMAGES * PX * 4));
    rt_ok(rt_tensor_write(rt_unroll_labels(u), hot, sizeof hot));
    rt_ok(rt_tensor_write_f64(rt_unroll_step_size(u), &(double){(double)0.05f}, 1));
    rt_ok(rt_unroll_run(u, a, b, 0, &r));
    rt_ok(rt_tensor_read(rt_unroll_d_images(u), g, IMAGES * PX * 4));
    double moved = 0;
    for (int i = 0; i < IMAGES * PX; i++) {
        const double want = (double)start.px[i] - 20 * (double)g[i];
        moved = fmax(moved, fabs(20 * (double)g[i]));
        rt_assert_near((double)end.px[i], want, 1e-6, 1e-6);
    }
    ck_assert_msg(moved > 1e-3, "the images hardly moved (%g): the test shows nothing", moved);
    rt_assert_near((double)end.step_size, 0.05 - 0.00001 * r.d_step_size, 0, 1e-6);
    ck_assert_float_eq(start.step_size, 0.05f);
    ck_assert(!end.soft && !strcmp(end.method, "mtt"));
    for (int i = 0; i < IMAGES; i++) ck_assert_int_eq(end.label[i], i / IPC);
    rt_unroll_destroy(u);
    rt_backend_close(be);
    rt_free(a);
    rt_free(b);
    rt_free(g);
    rt_set_fini(&start);
    rt_set_fini(&end);
    tear_down(&x);
}
END_TEST

static double distance(const rt_set *a, const rt_set *b)
{
    double d = 0;
    for (int i = 0; i < IMAGES * PX; i++) d += ((double)a->px[i] - (double)b->px[i]) * ((double)a->px[i] - (double)b->px[i]);
    return sqrt(d);
}

/* The released code's half, the whole, and the exact gradient. */
START_TEST(tesla_halves_and_freezes)
{
    rt_set start = run(TESLA("iterations: 0"), "tesla"), half = run(TESLA("iterations: 1"), "tesla");
    rt_set whole = run(TESLA("iterations: 1, half_gradient: false"), "tesla");
    rt_set exact = run(TESLA("iterations: 1, half_gradient: false, hessian: true"), "tesla");
    rt_set mtt = run(MTT("iterations: 1"), "mtt"), off = run(MTT("iterations: 1, hessian: false"), "mtt");
    ck_assert(distance(&start, &half) > 1e-3);
    rt_assert_near(distance(&start, &whole), 2 * distance(&start, &half), 0, 1e-4);
    ck_assert_float_eq(whole.step_size, half.step_size);
    ck_assert_mem_eq(mtt.px, exact.px, IMAGES * PX * 4);
    ck_assert_mem_eq(off.px, whole.px, IMAGES * PX * 4);
    ck_assert(distance(&mtt, &off) > 1e-4 * distance(&start, &mtt));
    ck_assert_str_eq(half.notes, "{\"deviations\":[],\"iterations\":1,\"skipped\":0}");
    ck_assert_ptr_nonnull(strstr(whole.notes, "halve it"));
    ck_assert_ptr_nonnull(strstr(exact.notes, "gradient is exact"));
    ck_assert_ptr_nonnull(strstr(off.notes, "TESLA"));
    rt_set *all[] = {&start, &half, &whole, &exact, &mtt, &off};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) rt_set_fini(all[i]);
}
END_TEST

/* Labels of the last iteration: what its target says of the images before the update. */
START_TEST(tesla_labels_come_from_the_target)
{
    rt_set s = run(YAML("tesla", "lr_pixel: 0, lr_step: 0", "iterations: 1, soft_labels: true"), "tesla");
    fixture x = set_up(TESLA("iterations: 1"));
    rt_backend *be;
    rt_graph *g;
    rt_exec *ex;
    rt_forward f;
    rt_tensor *tx, *tt, *ty;
    float want[IMAGES * CLASSES], *a = rt_malloc((size_t)x.n_params * 4), *b = rt_malloc((size_t)x.n_params * 4);
    ck_assert(s.soft && !s.soft_logits);
    rt_ok(rt_backend_open("ref", NULL, &be));
    const rt_build_ctx c = context(&x, be, NULL);
    rt_ok(rt_expert_segment(&c, x.model, 0, 0, 3, 1, a, b));
    rt_ok(rt_graph_create(&g));
    rt_val vx = rt_input(g, "x", RT_SHAPE(RT_F32, IMAGES, SIZE, SIZE, 3)), vt = rt_input(g, "t", RT_SHAPE(RT_F32, x.n_params));
    rt_ok(rt_model_forward(x.model, g, vx, vt, (rt_val){0}, 1, &f));
    rt_ok(rt_tensor_create(be, *rt_val_shape(g, vx), &tx));
    rt_ok(rt_tensor_create(be, *rt_val_shape(g, vt), &tt));
    rt_ok(rt_tensor_create(be, RT_SHAPE(RT_F32, IMAGES, CLASSES), &ty));
    rt_ok(rt_tensor_write(tx, s.px, IMAGES * PX * 4));
    rt_ok(rt_tensor_write(tt, b, (size_t)x.n_params * 4));
    rt_bind in[] = {{vx, tx}, {vt, tt}}, out[] = {{rt_exp(g, rt_log_softmax(g, f.logits)), ty}};
    rt_ok(rt_exec_prepare(be, g, in, 2, out, 1, NULL, &ex));
    rt_ok(rt_exec_run(ex));
    rt_ok(rt_tensor_read(ty, want, sizeof want));
    for (int i = 0; i < IMAGES * CLASSES; i++) rt_assert_near((double)s.soft[i], (double)want[i], 1e-6, 1e-5);
    rt_exec_destroy(ex);
    rt_graph_destroy(g);
    rt_tensor_destroy(tx);
    rt_tensor_destroy(tt);
    rt_tensor_destroy(ty);
    rt_backend_close(be);
    rt_free(a);
    rt_free(b);
    rt_set_fini(&s);
    tear_down(&x);
}
END_TEST

START_TEST(iterations_over_the_threshold_change_nothing)
{
    rt_set start = run(MTT("iterations: 0"), "mtt"), all = run(MTT("iterations: 5, threshold: 0.0001"), "mtt");
    ck_assert_mem_eq(start.px, all.px, IMAGES * PX * 4);
    ck_assert_float_eq(start.step_size, all.step_size);
    ck_assert_ptr_nonnull(strstr(all.notes, "\"skipped\":5"));
    ck_assert_ptr_nonnull(strstr(all.notes, "threshold"));
    rt_set_fini(&start);
    rt_set_fini(&all);
}
END_TEST

/* A step size that explodes: its iterations are skipped and counted, and nothing that is not finite gets into the set. */
START_TEST(iterations_that_are_not_finite_change_nothing)
{
    rt_set s = run(YAML("mtt", "lr_pixel: 20, lr_step: 1000", "iterations: 8"), "mtt");
    for (int i = 0; i < IMAGES * PX; i++) ck_assert(isfinite(s.px[i]));
    ck_assert_ptr_nonnull(s.trace);
    rt_set log = run(YAML("mtt", "lr_pixel: 20, lr_step: 0.001", "iterations: 8, log_step: true"), "mtt");
    ck_assert(log.step_size > 0);
    ck_assert_ptr_nonnull(strstr(log.notes, "logarithm"));
    rt_set_fini(&s);
    rt_set_fini(&log);
}
END_TEST

static void stop_at_once(void *ctx, const rt_progress *p)
{
    (void)ctx;
    (void)p;
    rt_stop_request();
}

/* Stopped after every single iteration and resumed, the run ends with the bytes of an undisturbed one. */
START_TEST(stops_and_resumes_to_the_same_bytes)
{
    static const char yaml[] = MTT("iterations: 5");
    rt_set whole = run(yaml, "mtt"), parts = {0};
    fixture x = set_up(yaml);
    int stops = 0;
    rt_status st;
    rt_progress_set(stop_at_once, NULL);
    while ((st = construct(&x, "mtt", &parts)) == RT_ERR_CANCELLED) {
        rt_stop_clear();
        ck_assert_int_lt(++stops, 10);
    }
    rt_progress_set(NULL, NULL);
    rt_stop_clear();
    rt_ok(st);
    ck_assert_int_ge(stops, 4);
    ck_assert_mem_eq(whole.px, parts.px, IMAGES * PX * 4);
    ck_assert_mem_eq(&whole.step_size, &parts.step_size, sizeof whole.step_size);
    ck_assert_str_eq(whole.trace, parts.trace);
    rt_set_fini(&whole);
    rt_set_fini(&parts);
    tear_down(&x);
}
END_TEST

static const rt_test tests[] = {{"one step down the gradient", an_iteration_is_one_step_down_the_gradient},
                                {"TESLA halves and freezes", tesla_halves_and_freezes},
                                {"TESLA's labels", tesla_labels_come_from_the_target},
                                {"threshold", iterations_over_the_threshold_change_nothing},
                                {"not finite", iterations_that_are_not_finite_change_nothing},
                                {"resume", stops_and_resumes_to_the_same_bytes}};
RT_SUITE("methods.mtt", tests)
