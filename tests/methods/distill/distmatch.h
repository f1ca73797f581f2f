/* Golden vectors of one method as files and a context: what the tests of DataDAM and NCFM stand on (tests/golden/distmatch). */
#ifndef RT_TESTS_DISTMATCH_H
#define RT_TESTS_DISTMATCH_H

#include <unistd.h>

#include "artefact/artefact.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "methods/method.h"
#include "nn/dsa.h"
#include "session.h"

enum { CLASSES = 3, IPC = 2, BATCH = 4, SIZE = 16, N_TRAIN = 30, IMAGES = CLASSES * IPC, PX = SIZE * SIZE * 3 };
static const rt_normalise norm = {{0.4914f, 0.4822f, 0.4465f}, {0.2023f, 0.1994f, 0.2010f}};
static const rt_model_desc net = {.arch = "convnet", .depth = 2, .width = 6, .norm = RT_MODEL_NORM_INSTANCE, .size = SIZE,
                                  .channels = 3, .classes = CLASSES};

typedef struct fixture {
    char dir[64], init[96], weights[96], order[96], ckpt[96];
    rt_st_file *golden;
    rt_images train;
    rt_config config;
} fixture;

static inline const rt_st_tensor *golden(const fixture *x, const char *name)
{
    const rt_st_tensor *t = rt_st_find(x->golden, name);
    ck_assert_msg(t != NULL, "golden tensor %s", name);
    return t;
}

static inline rt_st_tensor renamed(const fixture *x, const char *name, const char *as)
{
    rt_st_tensor t = *golden(x, name);
    t.name = as;
    return t;
}

/* `yaml`: the method's own section. */
static inline void set_up(fixture *x, const char *method, const char *yaml)
{
    char path[512], text[1024];
    memset(x, 0, sizeof *x);
    snprintf(path, sizeof path, "%s/tests/golden/distmatch/%s.safetensors", getenv("RT_SOURCE_DIR"), method);
    rt_ok(rt_st_open(path, &x->golden));
    snprintf(x->dir, sizeof x->dir, "/tmp/retort-distmatch-XXXXXX");
    ck_assert(mkdtemp(x->dir) != NULL);
    int n = snprintf(text, sizeof text, "version: 1\ndata: {kind: demo}\n%s: {%s}\n", method, yaml);
    rt_ok(rt_config_parse("test.yaml", text, (size_t)n, NULL, 0, &x->config));
    snprintf(x->init, sizeof x->init, "%s/init.safetensors", x->dir);
    snprintf(x->weights, sizeof x->weights, "%s/weights.safetensors", x->dir);
    snprintf(x->order, sizeof x->order, "%s/order.safetensors", x->dir);
    snprintf(x->ckpt, sizeof x->ckpt, "%s/x.ckpt", x->dir);
    bool ncfm = !strcmp(method, "ncfm");
    rt_st_tensor init = renamed(x, "init", "images");
    rt_st_tensor weights[] = {*golden(x, "theta"), ncfm ? *golden(x, "trained") : (rt_st_tensor){0}};
    rt_st_tensor order[] = {*golden(x, "dsa_affine"), *golden(x, "dsa_box"), *golden(x, "dsa_color"), *golden(x, "real"),
                            ncfm ? *golden(x, "frequencies") : (rt_st_tensor){0}};
    rt_ok(rt_st_write(x->init, &init, 1, NULL, 0));
    rt_ok(rt_st_write(x->weights, weights, ncfm ? 2 : 1, NULL, 0));
    rt_ok(rt_st_write(x->order, order, ncfm ? 5 : 4, NULL, 0));
    x->train = (rt_images){.n = N_TRAIN, .h = SIZE, .w = SIZE};
    x->train.px = rt_malloc(N_TRAIN * PX);
    x->train.label = rt_malloc(N_TRAIN * sizeof(int32_t));
    x->train.key = rt_calloc(N_TRAIN * sizeof(char *));
    memcpy(x->train.px, golden(x, "px")->data, N_TRAIN * PX);
    for (int i = 0; i < N_TRAIN; i++) {
        x->train.label[i] = i % CLASSES;
        x->train.key[i] = rt_asprintf("k%02d", i);
    }
    rt_ok(rt_classes_make((const char *const[]){"a", "b", "c"}, CLASSES, &x->train.classes));
}

static inline void tear_down(fixture *x)
{
    rt_st_close(x->golden);
    rt_images_fini(&x->train);
    rt_config_fini(&x->config);
    rt_ok(rt_fs_remove_tree(x->dir));
}

typedef void change_fn(rt_build_ctx *ctx);

static inline void construct(fixture *x, const char *method, const char *backend, change_fn *change, rt_set *out, rt_status want)
{
    rt_backend *be = NULL;
    rt_ledger *ledger = NULL;
    const rt_method *m;
    rt_ok(rt_backend_open(backend, &(rt_backend_opts){.threads = 1, .strict = true}, &be));
    rt_ok(rt_ledger_create(&ledger));
    rt_ledger_begin(ledger);
    rt_ok(rt_method_find(method, &m));
    rt_build_ctx c = {.be = be, .train = &x->train, .norm = norm, .net = net, .ipc = IPC, .seed = 3, .threads = 1,
                      .config = &x->config, .files = {x->init, x->weights, x->order}, .ckpt_dir = x->ckpt, .inputs_hash = "test",
                      .ckpt_seconds = 1e9, .keep = 2, .ledger = ledger};
    if (change) change(&c);
    rt_status got = m->construct(&c, out);
    ck_assert_msg(got == want, "%s (%s), want %s", rt_status_name(got), rt_error_what(), rt_status_name(want));
    rt_ledger_destroy(ledger);
    rt_backend_close(be);
}

/* Images against a golden tensor, in units of the largest distance that an image has moved from its start. */
static inline void images_agree(const fixture *x, const rt_set *s, const char *name, double tolerance)
{
    const float *want = golden(x, name)->data, *init = golden(x, "init")->data;
    double worst = 0, moved = 0;
    ck_assert_int_eq(s->n, IMAGES);
    for (int i = 0; i < IMAGES * PX; i++) {
        double e = fabs((double)s->px[i] - (double)want[i]), m = fabs((double)want[i] - (double)init[i]);
        if (!(e <= worst)) worst = e;
        if (m > moved) moved = m;
    }
    ck_assert_msg(moved > 1e-3, "%s: the images hardly moved (%g): the test would show nothing", name, moved);
    ck_assert_msg(worst <= tolerance * moved, "%s: largest difference %g, images moved by up to %g", name, worst, moved);
}

/* --- graphs by hand, for gradients in float64 --------------------------------------------------------------------------- */

/* Real batch of class c in iteration 0, normalised in double. Caller frees. */
static inline double *real_batch(const fixture *x, int c)
{
    const int64_t *pick = (const int64_t *)golden(x, "real")->data + c * BATCH;
    double *v = malloc(BATCH * PX * sizeof *v);
    static const double mean[] = {0.4914, 0.4822, 0.4465}, std[] = {0.2023, 0.1994, 0.2010};
    for (int i = 0; i < BATCH * PX; i++) v[i] = ((double)x->train.px[pick[i / PX] * PX + i % PX] / 255 - mean[i % 3]) / std[i % 3];
    return v;
}

/* Rows of class c's DSA draw for n images, as an input. */
static inline rt_val dsa_input(session *s, const fixture *x, const char *name, int c, int n, const char *as)
{
    const rt_st_tensor *t = golden(x, name);
    int64_t w = t->shape[2];
    double *v = malloc((size_t)(n * w) * sizeof *v);
    for (int64_t i = 0; i < n * w; i++) v[i] = (double)((const float *)t->data)[c * w + i % w];
    rt_val in = session_input(s, as, RT_SHAPE(RT_F32, n, w), v);
    free(v);
    return in;
}

/* The augmentation of class c on n images. */
static inline rt_val augmented(session *s, const fixture *x, rt_val v, int c, int n, const char *side)
{
    char name[3][32];
    const char *const part[] = {"dsa_color", "dsa_affine", "dsa_box"};
    rt_val p[3];
    for (int k = 0; k < 3; k++) {
        snprintf(name[k], sizeof name[k], "%s%s%d", side, part[k], c);
        p[k] = dsa_input(s, x, part[k], c, n, name[k]);
    }
    return rt_dsa_apply(s->g, v, p[0], p[1], p[2]);
}

static inline double *wide(const rt_st_tensor *t, int64_t n)
{
    double *v = malloc((size_t)n * sizeof *v);
    for (int64_t i = 0; i < n; i++) v[i] = (double)((const float *)t->data)[i];
    return v;
}

static inline rt_val class_rows(rt_graph *g, rt_val x, int c, int n)
{
    int64_t begin[4] = {(int64_t)c * n, 0, 0, 0}, end[4] = {(int64_t)(c + 1) * n, SIZE, SIZE, 3};
    return rt_slice(g, x, begin, end);
}

#endif
