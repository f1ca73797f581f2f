/* Methods as bench_gpu measures them: the real construction on made-up images, twice, once with n and once with 2 n iterations; the
 * difference is n iterations without start-up. */
#include "gpu.h"

#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "methods/method.h"
#include "probe.h"

enum { CLASSES = 10, SIZE = 32, PER_CLASS = 300 };

static void made_up(rt_images *im)
{
    const int64_t n = CLASSES * PER_CLASS, px = SIZE * SIZE * 3;
    *im = (rt_images){.n = n, .h = SIZE, .w = SIZE};
    im->px = rt_malloc((size_t)(n * px));
    im->label = rt_malloc((size_t)n * sizeof *im->label);
    im->key = rt_calloc((size_t)n * sizeof *im->key);
    if (!im->px || !im->label || !im->key) exit(71);
    for (int64_t i = 0; i < n * px; i++) im->px[i] = (uint8_t)((uint64_t)i * 2654435761u >> 13);
    for (int64_t i = 0; i < n; i++) {
        im->label[i] = (int32_t)(i % CLASSES);
        im->key[i] = rt_asprintf("%lld", (long long)i);
    }
    static const char *const names[CLASSES] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
    TRY(rt_classes_make(names, CLASSES, &im->classes));
}

static double construct(const gpu_bench *b, const rt_images *train, int ipc, int width, int batch_real, int iterations, const char *dir)
{
    char yaml[256], ckpt[128];
    rt_config config = {0};
    rt_ledger *ledger = NULL;
    const rt_method *dm;
    rt_set set = {0};
    const int len = snprintf(yaml, sizeof yaml, "version: 1\ndata: {kind: demo}\ndm: {iterations: %d, batch_real: %d}\n", iterations, batch_real);
    TRY(rt_config_parse("bench", yaml, (size_t)len, NULL, 0, &config));
    snprintf(ckpt, sizeof ckpt, "%s/%d", dir, iterations);
    TRY(rt_ledger_create(&ledger));
    rt_ledger_begin(ledger);
    TRY(rt_method_find("dm", &dm));
    const rt_build_ctx c = {
        .be = b->be, .train = train, .ipc = ipc, .seed = 1, .ckpt_dir = ckpt, .inputs_hash = "bench", .ckpt_seconds = 1e9, .keep = 1,
        .ledger = ledger, .norm = {{0.4914f, 0.4822f, 0.4465f}, {0.2023f, 0.1994f, 0.2010f}}, .config = &config,
        .net = {.arch = "convnet", .depth = 3, .width = width, .norm = RT_MODEL_NORM_INSTANCE, .size = SIZE, .channels = 3, .classes = CLASSES}};
    const double t = probe_now();
    TRY(dm->construct(&c, &set));
    const double s = probe_now() - t;
    rt_set_fini(&set);
    rt_ledger_destroy(ledger);
    rt_config_fini(&config);
    return s;
}

void gpu_dm(const gpu_bench *b, int ipc, int width, int batch_real, int iterations)
{
    enum { TURNS = 3 };
    char dir[] = "/tmp/retort-bench-XXXXXX", fields[128];
    double ms[TURNS], cold;
    rt_images train;
    if (!mkdtemp(dir)) exit(74);
    made_up(&train);
    construct(b, &train, ipc, width, batch_real, 1, dir); /* chooses algorithms */
    cold = probe_now() - b->born;
    for (int i = 0; i < TURNS; i++) {
        const double once = construct(b, &train, ipc, width, batch_real, iterations, dir);
        ms[i] = 1e3 * (construct(b, &train, ipc, width, batch_real, 2 * iterations, dir) - once) / iterations;
    }
    snprintf(fields, sizeof fields, "\"workload\":\"dm\",\"ipc\":%d,\"width\":%d,\"batch_real\":%d", ipc, width, batch_real);
    gpu_print(b, fields, ms, TURNS, cold, 1, "it_s", 0);
    rt_images_fini(&train);
    TRY(rt_fs_remove_tree(dir));
}
