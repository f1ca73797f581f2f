/* Shared by the parts of bench_gpu. */
#ifndef RT_BENCH_GPU_H
#define RT_BENCH_GPU_H

#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "retort/exec.h"

typedef struct gpu_bench {
    rt_backend *be;
    const char *device, *precision;
    double born; /* start of the process, seconds */
    int runs;
} gpu_bench;

/* Milliseconds of each of n runs. Prints one JSON line: `fields` is the inside of an object that names the workload; `unit`
 * images (or whatever `per` says) are done per run. */
void gpu_print(const gpu_bench *b, const char *fields, double *ms, int n, double cold_s, double unit, const char *per, double peak_mb);

void gpu_floor(const gpu_bench *b, int size);
/* One training step: forward, cross-entropy, gradient, SGD with momentum, in place. nets independent networks, each on a batch
 * of its own. */
void gpu_step(const gpu_bench *b, const char *arch, int size, int batch, int nets);
void gpu_dm(const gpu_bench *b, int ipc, int width, int batch_real, int iterations);

#endif
