/* Images per second from a tar of JPEGs to random-resized-cropped, flipped uint8 NHWC batches.
 *
 *     bench_loader SHARDS [threads] [epochs] [size]
 *
 * One JSON line: median, min and max over epochs after one to warm up; processor time per image, which says more than
 * wall time when the machine is shared. bench/loader_pil.py does the same work with Pillow; bench/run_loader.sh runs
 * both by turns. */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

#include "data/data.h"

int main(int argc, char **argv)
{
    enum { MAX_EPOCHS = 64 };
    int threads = argc > 2 ? atoi(argv[2]) : 2, epochs = argc > 3 ? atoi(argv[3]) : 5,
        size = argc > 4 ? atoi(argv[4]) : 224;
    if (argc < 2 || epochs < 1 || epochs > MAX_EPOCHS) {
        fprintf(stderr, "bench_loader SHARDS [threads] [epochs up to %d] [size]\n", MAX_EPOCHS);
        return 64;
    }
    rt_dataset *d;
    rt_loader *l;
    double rate[MAX_EPOCHS];
    TRY(rt_dataset_open(&(rt_data_source){.kind = "wds", .path = argv[1], .classes = "numbered:1000"}, &d));
    rt_loader_options o = {.batch = 32,
                           .threads = threads,
                           .batches_ahead = 2,
                           .shuffle = true,
                           .seed = 1,
                           .preset = {.size = size, .filter = RT_BILINEAR},
                           .view = {.rrc = true, .flip = true, .scale = {0.08f, 1}, .ratio = {0.75f, 4.0f / 3}}};
    TRY(rt_loader_create(d, &o, NULL, &l));
    double cpu = 0;
    for (int e = -1; e < epochs; e++) {
        if (e == 0) cpu = bench_cpu();
        double t = probe_now();
        rt_loader_batch b;
        TRY(rt_loader_start(l, (uint64_t)(e + 1), 0));
        do TRY(rt_loader_next(l, &b));
        while (b.n);
        if (e >= 0) rate[e] = (double)rt_dataset_count(d) / (probe_now() - t);
    }
    cpu = (bench_cpu() - cpu) / ((double)epochs * (double)rt_dataset_count(d));
    qsort(rate, (size_t)epochs, sizeof *rate, ascending);
    printf(
        "{\"bench\": \"loader\", \"by\": \"retort\", \"threads\": %d, \"images\": %lld, \"size\": %d, \"img_s\": %.1f, "
        "\"min\": %.1f, \"max\": %.1f, \"cpu_ms\": %.3f}\n",
        threads, (long long)rt_dataset_count(d), size, rate[epochs / 2], rate[0], rate[epochs - 1], 1e3 * cpu);
    rt_loader_destroy(l);
    rt_dataset_close(d);
    return 0;
}
