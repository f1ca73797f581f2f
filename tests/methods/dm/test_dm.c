/* DM against PyTorch: two iterations from given images, networks, batches and DSA parameters (tests/golden/dm). The ref back
 * end must agree to 1e-6 (the vectors are float32 copies of float64 results), cpu to 1e-4. */
#include <unistd.h>

#include "artefact/artefact.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "methods/method.h"
#include "support/suite.h"

enum { CLASSES = 3, IPC = 2, BATCH = 4, SIZE = 16, ITS = 2, N = 30, PX = SIZE * SIZE * 3 };

typedef struct fixture {
    char dir[64], init[96], theta[96], order[96], ckpt[96];
    rt_st_file *golden;
    rt_images train;
    rt_config config;
} fixture;

static rt_st_tensor named(const rt_st_file *f, const char *name, const char *as)
{
    const rt_st_tensor *t = rt_st_find(f, name);
    ck_assert_msg(t != NULL, "golden tensor %s", name);
    rt_st_tensor copy = *t;
    copy.name = as;
    return copy;
}

static void set_up(fixture *x)
{
    char path[512];
    memset(x, 0, sizeof *x);
    snprintf(path, sizeof path, "%s/tests/golden/dm/dm.safetensors", getenv("RT_SOURCE_DIR"));
    rt_ok(rt_st_open(path, &x->golden));
    snprintf(x->dir, sizeof x->dir, "/tmp/retort-dm-XXXXXX");
    ck_assert(mkdtemp(x->dir) != NULL);
    static const char yaml[] = "version: 1\ndata: {kind: demo}\ndm: {iterations: 2, batch_real: 4, lr: 30}\n";
    rt_ok(rt_config_parse("test.yaml", yaml, sizeof yaml - 1, NULL, 0, &x->config));
    snprintf(x->init, sizeof x->init, "%s/init.safetensors", x->dir);
    snprintf(x->theta, sizeof x->theta, "%s/theta.safetensors", x->dir);
    snprintf(x->order, sizeof x->order, "%s/order.safetensors", x->dir);
    snprintf(x->ckpt, sizeof x->ckpt, "%s/dm.ckpt", x->dir);
    rt_st_tensor init = named(x->golden, "init", "images"), theta = named(x->golden, "theta", "theta");
    rt_st_tensor order[] = {named(x->golden, "dsa_affine", "dsa_affine"), named(x->golden, "dsa_box", "dsa_box"),
                            named(x->golden, "dsa_color", "dsa_color"), named(x->golden, "real", "real")};
    rt_ok(rt_st_write(x->init, &init, 1, NULL, 0));
    rt_ok(rt_st_write(x->theta, &theta, 1, NULL, 0));
    rt_ok(rt_st_write(x->order, order, 4, NULL, 0));
    x->train = (rt_images){.n = N, .h = SIZE, .w = SIZE};
    x->train.px = rt_malloc(N * PX);
    x->train.label = rt_malloc(N * sizeof(int32_t));
    x->train.key = rt_calloc(N * sizeof(char *));
    memcpy(x->train.px, named(x->golden, "px", "px").data, N * PX);
    for (int i = 0; i < N; i++) {
        x->train.label[i] = i % CLASSES;
        x->train.key[i] = rt_asprintf("k%02d", i);
    }
    rt_ok(rt_classes_make((const char *const[]){"a", "b", "c"}, CLASSES, &x->train.classes));
}

static void tear_down(fixture *x)
{
    rt_st_close(x->golden);
    rt_images_fini(&x->train);
    rt_config_fini(&x->config);
    rt_ok(rt_fs_remove_tree(x->dir));
}

static rt_build_ctx context(const fixture *x, rt_backend *be, rt_ledger *ledger)
{
    rt_build_ctx c = {.be = be, .train = &x->train, .ipc = IPC, .seed = 3, .threads = 1, .ckpt_dir = x->ckpt,
                      .inputs_hash = "test", .ckpt_seconds = 1e9, .keep = 2, .ledger = ledger,
                      .norm = {{0.4914f, 0.4822f, 0.4465f}, {0.2023f, 0.1994f, 0.2010f}}};
    c.net = (rt_model_desc){.arch = "convnet", .depth = 2, .width = 6, .norm = RT_MODEL_NORM_INSTANCE, .size = SIZE,
                            .channels = 3, .classes = CLASSES};
    c.config = &x->config;
    c.files = (rt_draw_files){x->init, x->theta, x->order};
    return c;
}

typedef void change_fn(rt_build_ctx *c, rt_config *config);

static void construct(fixture *x, const char *backend, change_fn *change, rt_set *out, rt_status want)
{
    rt_backend *be = NULL;
    rt_ledger *ledger = NULL;
    const rt_method *dm;
    rt_ok(rt_backend_open(backend, &(rt_backend_opts){.threads = 1, .strict = true}, &be));
    rt_ok(rt_ledger_create(&ledger));
    rt_ledger_begin(ledger);
    rt_ok(rt_method_find("dm", &dm));
    rt_build_ctx c = context(x, be, ledger);
    if (change) change(&c, &x->config);
    rt_status got = dm->construct(&c, out);
    ck_assert_msg(got == want, "%s (%s), want %s", rt_status_name(got), rt_error_what(), rt_status_name(want));
    rt_ledger_destroy(ledger);
    rt_backend_close(be);
}

static void agree(const char *backend, double tolerance)
{
    fixture x;
    rt_set s = {0};
    set_up(&x);
    construct(&x, backend, NULL, &s, RT_OK);
    const float *want = named(x.golden, "images", "images").data;
    ck_assert_int_eq(s.n, CLASSES * IPC);
    double worst = 0, moved = 0, scale = 0;
    const float *init = named(x.golden, "init", "init").data;
    for (int i = 0; i < CLASSES * IPC * PX; i++) {
        double e = fabs((double)s.px[i] - (double)want[i]), m = fabs((double)want[i] - (double)init[i]);
        if (!(e <= worst)) worst = e;
        if (m > moved) moved = m;
        if (fabs((double)want[i]) > scale) scale = fabs((double)want[i]);
    }
    ck_assert_msg(moved > 1e-3, "the images hardly moved (%g): the test would show nothing", moved);
    ck_assert_msg(worst <= tolerance * moved, "%s: largest difference %g, images moved by up to %g", backend, worst, moved);
    for (int i = 0; i < s.n; i++) ck_assert_int_eq(s.label[i], i / IPC);
    ck_assert_str_eq(s.notes, "{\"deviations\":[],\"iterations\":2,\"skipped\":0}");
    ck_assert(!strncmp(s.trace, "iteration,loss,step_size,skipped\n0,", 35));
    rt_set_fini(&s);
    tear_down(&x);
}

START_TEST(ref_agrees_with_torch) { agree("ref", 2e-6); }
END_TEST
START_TEST(cpu_agrees_with_torch) { agree("cpu", 1e-4); }
END_TEST

static void without_files(rt_build_ctx *c, rt_config *config)
{
    (void)config;
    c->files = (rt_draw_files){0};
}

START_TEST(same_seed_same_images)
{
    fixture x;
    rt_set a = {0}, b = {0};
    set_up(&x);
    construct(&x, "cpu", without_files, &a, RT_OK);
    construct(&x, "cpu", without_files, &b, RT_OK);
    ck_assert_mem_eq(a.px, b.px, (size_t)(CLASSES * IPC * PX) * sizeof *a.px);
    rt_set_fini(&a);
    rt_set_fini(&b);
    tear_down(&x);
}
END_TEST

static void longer_than_files(rt_build_ctx *c, rt_config *config)
{
    (void)c;
    config->dm.iterations = ITS + 1;
}

static void other_batch(rt_build_ctx *c, rt_config *config)
{
    (void)c;
    config->dm.iterations = ITS;
    config->dm.batch_real = BATCH + 1;
}

static void unknown_op(rt_build_ctx *c, rt_config *config)
{
    (void)c;
    config->dm.batch_real = BATCH;
    memcpy(config->dm.dsa, "color_zoom", sizeof "color_zoom");
}

static void known_op(rt_build_ctx *c, rt_config *config)
{
    (void)c;
    memcpy(config->dm.dsa, "color", sizeof "color");
}

START_TEST(bad_inputs)
{
    fixture x;
    rt_set s = {0};
    set_up(&x);
    construct(&x, "ref", longer_than_files, &s, RT_ERR_FORMAT);
    construct(&x, "ref", other_batch, &s, RT_ERR_FORMAT);
    construct(&x, "ref", unknown_op, &s, RT_ERR_CONFIG);
    rt_st_tensor init = named(x.golden, "init", "images");
    float *broken = rt_malloc(init.bytes);
    memcpy(broken, init.data, init.bytes);
    broken[5] = NAN;
    init.data = broken;
    rt_ok(rt_st_write(x.init, &init, 1, NULL, 0));
    construct(&x, "cpu", known_op, &s, RT_ERR_FORMAT); /* given images are input ... */
    rt_st_tensor good = named(x.golden, "init", "images"), theta = named(x.golden, "theta", "theta");
    rt_ok(rt_st_write(x.init, &good, 1, NULL, 0));
    rt_free(broken);
    broken = rt_malloc(theta.bytes);
    memcpy(broken, theta.data, theta.bytes);
    broken[0] = NAN; /* a weight of the first convolution: must not vanish in a ReLU */
    theta.data = broken;
    rt_ok(rt_st_write(x.theta, &theta, 1, NULL, 0));
    construct(&x, "cpu", NULL, &s, RT_ERR_NUMERIC); /* ... and a loss that is not finite stops the run */
    rt_free(broken);
    ck_assert(s.px == NULL);
    tear_down(&x);
}
END_TEST

static const rt_test tests[] = {{"ref agrees with PyTorch", ref_agrees_with_torch},
                                {"cpu agrees with PyTorch", cpu_agrees_with_torch},
                                {"same seed, same images", same_seed_same_images},
                                {"bad inputs are refused", bad_inputs}};
RT_SUITE("methods.dm", tests)
