/* A world of three small classes on disk, and configs over it: what the suites of teachers run on. Class k is bright in
 * channel k, so a network of one block learns it in a few epochs. */
#ifndef RT_TESTS_STAGE_WORLD_H
#define RT_TESTS_STAGE_WORLD_H

#include <limits.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/rng.h"
#include "config/config.h"
#include "data/data.h"
#include "stage/stages.h"
#include "support/suite.h"

enum { WORLD_CLASSES = 3, WORLD_SIDE = 16, WORLD_TRAIN = 12, WORLD_TEST = 6 };
static const char *const world_class[WORLD_CLASSES] = {"blue", "green", "red"};

typedef struct world {
    char dir[128];
} world;

static inline void world_split(const char *dir, const char *split, int per_class, uint64_t seed)
{
    char path[256];
    uint8_t px[WORLD_SIDE * WORLD_SIDE * 3];
    for (int c = 0; c < WORLD_CLASSES; c++) {
        snprintf(path, sizeof path, "%s/%s/%s", dir, split, world_class[c]);
        rt_ok(rt_fs_mkdirs(path));
        for (int i = 0; i < per_class; i++) {
            rt_rng r = rt_rng_at(seed, RT_RNG_TEST, (uint64_t)(c * 100 + i), 0);
            void *png = NULL;
            size_t n = 0;
            for (size_t k = 0; k < sizeof px; k++) px[k] = (uint8_t)(rt_rng_below(&r, 120) + ((int)(k % 3) == 2 - c ? 110 : 20));
            rt_ok(rt_png_encode(px, WORLD_SIDE, WORLD_SIDE, &png, &n));
            snprintf(path, sizeof path, "%s/%s/%s/%02d.png", dir, split, world_class[c], i);
            rt_ok(rt_fs_write_atomic(path, png, n));
            rt_free(png);
        }
    }
}

static inline void world_make(world *w)
{
    const char *t = getenv("TMPDIR");
    snprintf(w->dir, sizeof w->dir, "%.100s/retort-world-XXXXXX", t ? t : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(w->dir));
    world_split(w->dir, "train", WORLD_TRAIN, 1);
    world_split(w->dir, "test", WORLD_TEST, 2);
}

/* The smallest run over it, changed by `more` (n of "section.key=value"). */
static inline void world_config(const world *w, const char *const *more, int n, rt_config *out)
{
    static const char text[] = "version: 1\n"
                               "name: world\n"
                               "seed: 5\n"
                               "backend: {threads: 1}\n"
                               "data: {train: train, test: test, size: 16, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}\n"
                               "network: {arch: convnet, depth: 1, width: 8, norm: batch}\n"
                               "teach: {epochs: 4, batch: 12, lr: 0.05}\n"
                               "methods: {names: [random], set_seeds: 1}\n"
                               "set: {ipc: [2]}\n"
                               "metrics: {enabled: false}\n"
                               "run: {dir: run}\n";
    char name[256];
    rt_ok(rt_fs_join(name, sizeof name, w->dir, "world.yaml"));
    rt_ok(rt_config_parse(name, text, sizeof text - 1, more, n, out));
}

static inline void world_gone(world *w) { rt_ok(rt_fs_remove_tree(w->dir)); }

#endif
