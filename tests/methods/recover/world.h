/* A tiny world for methods that recover images from teachers: 3 classes of 16x16 images, ConvNets with BatchNorm whose weights the
 * hash of the golden vectors makes, and one call that constructs a set. */
#ifndef RT_TESTS_RECOVER_WORLD_H
#define RT_TESTS_RECOVER_WORLD_H

#include <unistd.h>

#include "artefact/artefact.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "methods/method.h"
#include "support/suite.h"

#include "golden.h"

enum { W_CLASSES = 3, W_SIZE = 16, W_PX = W_SIZE * W_SIZE * 3, W_TRAIN = 60, W_TEACHERS = 3 };

typedef struct world {
    char dir[64], init[96], order[96], ckpt[96];
    rt_images train;
    rt_config config;
    rt_committee teachers;
    bool given_init, given_order;
    int32_t ipc;
    uint64_t seed;
    double ckpt_seconds;
} world;

static inline void world_config(world *w, const char *yaml)
{
    rt_config_fini(&w->config);
    memset(&w->config, 0, sizeof w->config);
    rt_ok(rt_config_parse("test.yaml", yaml, strlen(yaml), NULL, 0, &w->config));
}

/* Teacher j: the hash's weights, moved by a hash of its own (methods.py). */
static inline void world_teacher(world *w, int j, const rt_model_desc *d)
{
    rt_teacher *t = &w->teachers.teacher[j];
    memset(t, 0, sizeof *t);
    rt_ok(rt_model_create(d, &t->model));
    snprintf(t->name, sizeof t->name, "t%d", j);
    t->weight = 1;
    int64_t p = rt_model_n_params(t->model), b = rt_model_n_buffers(t->model);
    double *theta = golden_theta(t->model), *buffers = golden_buffers(t->model), *move = filled(700 + (uint32_t)j, p, 0.0625, 0);
    t->theta = rt_malloc((size_t)p * sizeof(float));
    for (int64_t i = 0; i < p; i++) t->theta[i] = (float)(theta[i] + (j ? move[i] : 0));
    if (b) t->buffers = rt_malloc((size_t)b * sizeof(float));
    for (int64_t i = 0; i < b; i++) t->buffers[i] = (float)buffers[i];
    free(theta), free(buffers), free(move);
}

static inline rt_model_desc world_convnet(void)
{
    return (rt_model_desc){.arch = "convnet", .depth = 2, .width = 4, .norm = RT_MODEL_NORM_BATCH, .size = W_SIZE, .channels = 3,
                           .classes = W_CLASSES};
}

static inline void world_open(world *w, int teachers)
{
    memset(w, 0, sizeof *w);
    *w = (world){.ipc = 2, .seed = 3, .ckpt_seconds = 1e9};
    snprintf(w->dir, sizeof w->dir, "/tmp/retort-recover-XXXXXX");
    ck_assert(mkdtemp(w->dir) != NULL);
    snprintf(w->init, sizeof w->init, "%s/init.safetensors", w->dir);
    snprintf(w->order, sizeof w->order, "%s/order.safetensors", w->dir);
    snprintf(w->ckpt, sizeof w->ckpt, "%s/ckpt", w->dir);
    w->train = (rt_images){.n = W_TRAIN, .h = W_SIZE, .w = W_SIZE};
    w->train.px = rt_malloc(W_TRAIN * W_PX);
    w->train.label = rt_malloc(W_TRAIN * sizeof(int32_t));
    w->train.key = rt_calloc(W_TRAIN * sizeof(char *));
    double *px = filled(40, W_TRAIN * W_PX, 127, 128);
    for (int i = 0; i < W_TRAIN * W_PX; i++) w->train.px[i] = (uint8_t)px[i];
    free(px);
    for (int i = 0; i < W_TRAIN; i++) {
        w->train.label[i] = i % W_CLASSES;
        w->train.key[i] = rt_asprintf("k%02d", i);
    }
    rt_ok(rt_classes_make((const char *const[]){"a", "b", "c"}, W_CLASSES, &w->train.classes));
    w->teachers.n = teachers;
    w->teachers.teacher = rt_calloc((size_t)teachers * sizeof(rt_teacher));
    rt_model_desc d = world_convnet();
    for (int j = 0; j < teachers; j++) world_teacher(w, j, &d);
}

static inline void world_close(world *w)
{
    rt_images_fini(&w->train);
    rt_config_fini(&w->config);
    rt_committee_fini(&w->teachers);
    rt_ok(rt_fs_remove_tree(w->dir));
}

static inline rt_status world_construct(world *w, const char *method, const char *backend, rt_set *out)
{
    rt_backend *be = NULL;
    rt_ledger *ledger = NULL;
    const rt_method *m;
    rt_ok(rt_backend_open(backend, &(rt_backend_opts){.threads = 1, .strict = true}, &be));
    rt_ok(rt_ledger_create(&ledger));
    rt_ledger_begin(ledger);
    rt_ok(rt_method_find(method, &m));
    rt_build_ctx c = {.be = be, .train = &w->train, .ipc = w->ipc, .seed = w->seed, .threads = 1, .ckpt_dir = w->ckpt,
                      .inputs_hash = "test", .ckpt_seconds = w->ckpt_seconds, .keep = 2, .ledger = ledger,
                      .norm = {{0.485f, 0.456f, 0.406f}, {0.229f, 0.224f, 0.225f}}, .net = world_convnet(), .config = &w->config,
                      .teachers = &w->teachers};
    c.files = (rt_draw_files){w->given_init ? w->init : NULL, NULL, w->given_order ? w->order : NULL};
    rt_status st = m->construct(&c, out);
    rt_ledger_destroy(ledger);
    rt_backend_close(be);
    return st;
}

#endif
