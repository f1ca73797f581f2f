/* A small data set and files that replace every draw, for the methods that match gradients. Image i of 30 has class i % 3 and
 * bytes floor(128 + 127 u) of hash 920, as in tests/golden/grad/generate.py. */
#ifndef RT_TESTS_GRAD_FIXTURE_H
#define RT_TESTS_GRAD_FIXTURE_H

#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "golden/golden.h"
#include "methods/distill/distill.h"

enum { C = 3, SYN = 2, REAL = 4, SIZE = 8, WIDTH = 6, PX = SIZE * SIZE * 3, N = 30, OUTER = 3 };

typedef struct fixture {
    char dir[64], init[96], theta[96], order[96], ckpt[96];
    rt_images train;
    rt_config config;
    rt_model_desc net;
} fixture;

/* Everything that is drawn, as files: a step of index t takes the images 3 ((4 t + j) % 10) + c of class c. */
static inline void write_draws(fixture *x, bool unit)
{
    rt_model *m = NULL;
    static float init[C * SYN * PX];
    static int64_t real[OUTER * C * REAL];
    rt_ok(rt_model_create(&x->net, &m));
    int64_t p = rt_model_n_params(m);
    double *wide = golden_theta(m), *images = unit ? filled(900, C * SYN * PX, 0.5, 0.5) : filled(900, C * SYN * PX, 1, 0);
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
    rt_st_tensor order[4] = {tr};
    int n = 1;
    static float rows[RT_DSA_INPUTS][OUTER * C * 6];
    if (unit) { /* IDC: the rows of the golden file at every step */
        static const char *const part[RT_DSA_INPUTS] = {"color", "affine", "box"};
        rt_st_file *f = golden_open("grad/match");
        for (int k = 0; k < RT_DSA_INPUTS; k++) {
            char name[32];
            int64_t w = rt_dsa_width[k];
            snprintf(name, sizeof name, "idc_multi.%s", part[k]);
            const double *v = golden(f, name, C * w);
            for (int64_t i = 0; i < OUTER * C * w; i++) rows[k][i] = (float)v[i % (C * w)];
            order[n++] = (rt_st_tensor){rt_dsa_name[k], RT_ST_F32, 3, {OUTER, C, w}, rows[k], (uint64_t)(OUTER * C * w) * 4};
        }
        rt_st_close(f);
    }
    rt_ok(rt_st_write(x->order, order, n, NULL, 0));
    free(wide), free(images), free(theta);
    rt_model_destroy(m);
}

static const char text[] = "version: 1\ndata: {kind: demo}\n";

static inline void set_up(fixture *x, const char *const *overrides, int n, bool unit)
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
    write_draws(x, unit);
}

static inline void tear_down(fixture *x)
{
    rt_images_fini(&x->train);
    rt_config_fini(&x->config);
    rt_ok(rt_fs_remove_tree(x->dir));
}

static inline rt_status construct(fixture *x, const char *method, const char *backend, bool files, rt_set *out)
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

/* Progress sink: asks for a stop at report number stop_after. */
static int stop_after;
static inline void count_down(void *ctx, const rt_progress *p)
{
    (void)ctx;
    (void)p;
    if (--stop_after == 0) rt_stop_request();
}

#endif
