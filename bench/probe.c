/* Peak probes. Needs -ffp-contract=fast: products and sums on vector types become FMAs. */
#include "probe.h"

#include <dnnl.h>
#include <omp.h>
#include <stdlib.h>
#include <time.h>

double probe_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

enum { STEPS = 4000000, CHAINS = 12 };

/* Twelve independent chains cover the latency of two FMA units. */
#define FMA_CHAINS(name, isa, lanes)                                                                                   \
    typedef float name##_vec __attribute__((vector_size(lanes * 4)));                                                  \
    __attribute__((target(isa), noinline)) static float name(float seed)                                               \
    {                                                                                                                  \
        name##_vec x = {0}, m = x + 0.999f, c = x + seed;                                                              \
        name##_vec a = c, b = c + 1, d = c + 2, e = c + 3, f = c + 4, g = c + 5, h = c + 6, i = c + 7, j = c + 8,      \
                   k = c + 9, l = c + 10, n = c + 11;                                                                  \
        for (long s = 0; s < STEPS; s++) {                                                                             \
            a = a * m + c, b = b * m + c, d = d * m + c, e = e * m + c, f = f * m + c, g = g * m + c;                  \
            h = h * m + c, i = i * m + c, j = j * m + c, k = k * m + c, l = l * m + c, n = n * m + c;                  \
        }                                                                                                              \
        a += b + d + e + f + g + h + i + j + k + l + n;                                                                \
        return a[0];                                                                                                   \
    }
#if defined(__x86_64__)
FMA_CHAINS(fma512, "avx512f", 16)
FMA_CHAINS(fma256, "avx2,fma", 8)
#else
FMA_CHAINS(fma128, "default", 4)
#endif

double probe_fma(void)
{
    double best = 0;
    volatile float sink = 0;
    for (int r = 0; r < 4; r++) {
        double t = probe_now(), lanes = 4;
#pragma omp parallel
        {
#if defined(__x86_64__)
            if (__builtin_cpu_supports("avx512f"))
                sink = fma512(0.001f);
            else
                sink = fma256(0.001f);
#else
            sink = fma128(0.001f);
#endif
        }
#if defined(__x86_64__)
        lanes = __builtin_cpu_supports("avx512f") ? 16 : 8;
#endif
        double rate = 2e-9 * lanes * CHAINS * STEPS * omp_get_max_threads() / (probe_now() - t);
        best = rate > best ? rate : best;
    }
    (void)sink;
    return best;
}

double probe_sgemm(void)
{
    enum { N = 1536 };
    double best = 0;
    float *a = calloc(3, sizeof(float) * N * N);
    if (!a) return 0;
    for (int r = 0; r < 6; r++) {
        double t = probe_now();
        dnnl_sgemm('N', 'N', N, N, N, 1, a, N, a + N * N, N, 0, a + 2 * N * N, N);
        double rate = 2e-9 * N * N * N / (probe_now() - t);
        best = rate > best ? rate : best;
    }
    free(a);
    return best;
}
