/* DC and DSA as methods: the whole loop against PyTorch, the law of the loops, repeatability, stop and resume, small classes,
 * refusals. The gradients themselves are in test_match.c. */
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "golden/golden.h"
#include "methods/method.h"

enum { C = 3, SYN = 2, REAL = 4, SIZE = 8, WIDTH = 6, PX = SIZE * SIZE * 3, N = 30, OUTER = 3 };

typedef struct fixture {
    char dir[64], init[96], theta[96], order[96], ckpt[96];
    rt_images train;
    rt_config config;
    rt_model_desc net;
} fixture;

static void write_draws(fixture *x)
{
    rt_model *m = NULL;
    static float init[C * SYN * PX];
    static int64_t real[OUTER * C * REAL];
    rt_ok(rt_model_create(&x->net, &m));
    int64_t p = rt_model_n_params(m);
    double *wide = golden_theta(m), *images = filled(900, C * SYN * PX, 1, 0);
    float *theta = calloc((size_t)(OUTER * p), sizeof *theta);
    for (int64_t i = 0; i < p; i++) theta[i] = (float)wide[i]; /* row 0: the one network */
    for (int i = 0; i < C * SYN * PX; i++) init[i] = (float)images[i];
    for (int t = 0; t < OUTER; t++)
        for (int c = 0; c < C; c++)
            for (int j = 0; j < REAL; j++) real[(t * C + c) * REAL + j] = 3 * ((4 * t + j) % 10) + c;
    rt_st_tensor ti = {"images", RT_ST_F32, 4, {C * SYN, SIZE, SIZE, 3}, init, sizeof init};
    rt_st_tensor tt = {"theta", RT_ST_F32, 2, {OUTER, p}, theta, (uint64_t)(OUTER * p) * sizeof *theta};
    rt_st_tensor tr = {"real", RT_ST_I64, 3, {OUTER, C, REAL}, real, sizeof real};
    rt_ok(rt_st_write(x->init, &ti, 1, NULL, 0));
    rt_ok(rt_st_write(x->theta, &tt, 1, NULL, 0));
    rt_ok(rt_st_write(x->order, &tr, 1, NULL, 0));
    free(wide), free(images), free(theta);
    rt_model_destroy(m);
}

static const char text[] = "version: 1\ndata: {kind: demo}\n";

static void set_up(fixture *x, const char *const *overrides, int n)
{
    memset(x, 0, sizeof *x);
    snprintf(x->dir, sizeof x->dir, "/tmp/retort-dc-XXXXXX");
    ck_assert(mkdtemp(x->dir) != NULL);
    snprintf(x->init, sizeof x->init, "%s/init.safetensors", x->dir);
    snprintf(x->theta, sizeof x->theta, "%s/theta.safetensors", x->dir);
    snprintf(x->order, sizeof x->order, "%s/order.safetensors", x->dir);
    snprintf(x->ckpt, sizeof x->ckpt, "%s/ckpt", x->dir);
    rt_ok(rt_config_parse("test", text, sizeof text - 1, overrides, n, &x->config));
    x->net = (rt_model_desc){.arch = "convnet", .depth = 2, .width = WIDTH, .norm = RT_MODEL_NORM_INSTANCE, .size = SIZE,
                             .channels = 3, .classes = C};
    x->train = (rt_images){.n = N, .h = SIZE, .w = SIZE};
    x->train.px = rt_malloc(N * PX);
    x->train.label = rt_malloc(N * sizeof(int32_t));
    x->train.key = rt_calloc(N * sizeof(char *));
    double *u = filled(920, N * PX, 127, 128);
    for (int i = 0; i < N * PX; i++) x->train.px[i] = (uint8_t)floor(u[i]);
    free(u);
    for (int i = 0; i < N; i++) {
        x->train.label[i] = i % C;
        x->train.key[i] = rt_asprintf("k%02d", i);
    }
    rt_ok(rt_classes_make((const char *const[]){"a", "b", "c"}, C, &x->train.classes));
    write_draws(x);
}

static void tear_down(fixture *x)
{
    rt_images_fini(&x->train);
    rt_config_fini(&x->config);
    rt_ok(rt_fs_remove_tree(x->dir));
}

static rt_status construct(fixture *x, const char *method, const char *backend, bool files, rt_set *out)
{
    rt_backend *be = NULL;
    rt_ledger *ledger = NULL;
    const rt_method *m;
    rt_ok(rt_backend_open(backend, &(rt_backend_opts){.threads = 1, .strict = true}, &be));
    rt_ok(rt_ledger_create(&ledger));
    rt_ledger_begin(ledger);
    rt_ok(rt_method_find(method, &m));
    rt_build_ctx c = {.be = be, .train = &x->train, .ipc = SYN, .seed = 3, .threads = 1, .ckpt_dir = x->ckpt, .inputs_hash = "test",
                      .ckpt_seconds = 1e9, .keep = 2, .ledger = ledger, .net = x->net, .config = &x->config,
                      .norm = {{0.4914f, 0.4822f, 0.4465f}, {0.2023f, 0.1994f, 0.2010f}}};
    if (files) c.files = (rt_draw_files){x->init, x->theta, x->order};
    rt_status got = m->construct(&c, out);
    rt_ledger_destroy(ledger);
    rt_backend_close(be);
    return got;
}

static const char *const loop[] = {"dc.iterations=1", "dc.outer=3", "dc.inner=2", "dc.batch_real=4", "dc.lr=0.5",
                                   "dc.lr_net=0.25", "dc.distance=cosine"};
enum { LOOP = sizeof loop / sizeof *loop };

static void agree(const char *backend, const char *distance, const char *golden_name, double tolerance)
{
    fixture x;
    rt_set s = {0};
    rt_st_file *f = golden_open("grad/match");
    const char *overrides[LOOP];
    memcpy(overrides, loop, sizeof loop);
    overrides[LOOP - 1] = distance;
    set_up(&x, overrides, LOOP);
    rt_ok(construct(&x, "dc", backend, true, &s));
    const double *want = golden(f, golden_name, C * SYN * PX);
    double *init = filled(900, C * SYN * PX, 1, 0), err = 0, moved = 0;
    for (int i = 0; i < C * SYN * PX; i++) {
        err += ((double)s.px[i] - want[i]) * ((double)s.px[i] - want[i]);
        moved += (want[i] - init[i]) * (want[i] - init[i]);
    }
    ck_assert_msg(sqrt(moved / (C * SYN * PX)) > 0.01, "the images moved by %g only", sqrt(moved / (C * SYN * PX)));
    ck_assert_msg(sqrt(err / moved) <= tolerance, "%s %s: images differ by %g of how far they moved", backend, distance,
                  sqrt(err / moved));
    free(init);
    rt_set_fini(&s);
    rt_st_close(f);
    tear_down(&x);
}

START_TEST(ref_agrees_with_torch)
{
    agree("ref", "dc.distance=cosine", "loop_cosine.images", 5e-6); /* images pass through float32 */
    agree("ref", "dc.distance=mse", "loop_mse.images", 5e-6);
}
END_TEST

START_TEST(cpu_agrees_with_torch)
{
    agree("cpu", "dc.distance=cosine", "loop_cosine.images", 1e-4);
    agree("cpu", "dc.distance=mse", "loop_mse.images", 1e-4);
}
END_TEST

static int stop_after;
static void count_down(void *ctx, const rt_progress *p)
{
    (void)ctx;
    (void)p;
    if (--stop_after == 0) rt_stop_request();
}

static const char *const dsa[] = {"dc.iterations=6", "dc.batch_real=4", "dc.outer=2", "dc.inner=2", "dc.batch_train=4"};

START_TEST(stops_and_resumes_to_the_same_bytes)
{
    fixture x;
    rt_set whole = {0}, again = {0}, parts = {0};
    for (int bn = 0; bn < 2; bn++) {
        set_up(&x, dsa, 5);
        if (bn) x.net.norm = RT_MODEL_NORM_BATCH;
        rt_ok(construct(&x, "dsa", "cpu", false, &whole));
        rt_ok(rt_fs_remove_tree(x.ckpt));
        rt_ok(construct(&x, "dsa", "cpu", false, &again));
        ck_assert_mem_eq(whole.px, again.px, (size_t)(C * SYN * PX) * sizeof *whole.px);
        rt_ok(rt_fs_remove_tree(x.ckpt));
        stop_after = 3;
        rt_progress_set(count_down, NULL);
        rt_fails(construct(&x, "dsa", "cpu", false, &parts), RT_ERR_CANCELLED);
        rt_progress_set(NULL, NULL);
        rt_stop_clear();
        rt_ok(construct(&x, "dsa", "cpu", false, &parts));
        ck_assert_mem_eq(whole.px, parts.px, (size_t)(C * SYN * PX) * sizeof *whole.px);
        ck_assert_str_eq(whole.trace, parts.trace);
        ck_assert_str_eq(whole.method, "dsa");
        ck_assert_ptr_nonnull(strstr(whole.notes, "\"skipped\":0"));
        rt_set_fini(&whole);
        rt_set_fini(&again);
        rt_set_fini(&parts);
        tear_down(&x);
    }
}
END_TEST

/* More real images per step than a class has: the class counts whole, and the rest is filler. */
START_TEST(small_classes_count_whole)
{
    fixture x;
    rt_set all = {0}, more = {0};
    set_up(&x, (const char *const[]){"dc.iterations=2", "dc.batch_real=10", "dc.init=real"}, 3);
    rt_ok(construct(&x, "dc", "cpu", false, &all));
    tear_down(&x);
    set_up(&x, (const char *const[]){"dc.iterations=2", "dc.batch_real=13", "dc.init=real"}, 3);
    rt_ok(construct(&x, "dc", "cpu", false, &more));
    for (int i = 0; i < C * SYN * PX; i++) rt_assert_near((double)more.px[i], (double)all.px[i], 1e-4, 1e-4);
    rt_set_fini(&all);
    rt_set_fini(&more);
    tear_down(&x);
}
END_TEST

START_TEST(bad_settings_are_refused)
{
    fixture x;
    rt_set s = {0};
    set_up(&x, (const char *const[]){"dc.iterations=2"}, 1);
    rt_fails(construct(&x, "dc", "cpu", true, &s), RT_ERR_FORMAT); /* the files hold another batch and fewer steps */
    tear_down(&x);
    set_up(&x, (const char *const[]){"dc.iterations=20", "dc.lr=100000", "dc.batch_real=4", "dc.distance=mse"}, 4);
    x.net.norm = RT_MODEL_NORM_NONE;
    rt_fails(construct(&x, "dc", "cpu", false, &s), RT_ERR_NUMERIC);
    ck_assert_ptr_null(s.px);
    tear_down(&x);
}
END_TEST

static const rt_test tests[] = {{"ref and torch", ref_agrees_with_torch},
                                {"cpu and torch", cpu_agrees_with_torch},
                                {"resume", stops_and_resumes_to_the_same_bytes},
                                {"small classes", small_classes_count_whole},
                                {"refusals", bad_settings_are_refused}};
RT_SUITE("methods.dc", tests)
