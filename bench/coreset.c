/* Herding and k-center greedy on one class the size of ImageNet's: 130 of 1,300 rows of 512 features, as given by default.
 *
 *     bench_coreset [rows] [dims] [budget] [runs] [threads]
 *
 * One JSON line per selector: milliseconds (median, min, max), a checksum of the picks (the comparator prints its own, so
 * that equal work is seen to be equal) and the last score. */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

#include "methods/coreset/coreset.h"

/* Features after a ReLU look like this: many zeros, no sign. The comparator draws the same integers. */
static void features(float *x, int64_t count)
{
    uint64_t s = 1;
    for (int64_t i = 0; i < count; i++) {
        s = s * 6364136223846793005u + 1442695040888963407u;
        int64_t v = (int64_t)(s >> 40) - (1 << 23);
        x[i] = v > 0 ? (float)v / 8388608.0f : 0;
    }
}

int main(int argc, char **argv)
{
    int64_t number[5] = {1300, 512, 130, 21, 0};
    for (int i = 1; i < argc && i <= 5; i++) number[i - 1] = atoll(argv[i]);
    const int64_t n = number[0], d = number[1], budget = number[2], runs = number[3] > 0 ? number[3] : 1;
    if (n < 1 || d < 1 || budget < 1 || budget > n) {
        fprintf(stderr, "usage: bench_coreset [rows] [dims] [budget <= rows] [runs] [threads]\n");
        return 64;
    }
    if (number[4] > 0) omp_set_num_threads((int)number[4]);
    static const struct {
        const char *name;
        rt_select_fn *run;
    } selector[] = {{"herding", rt_select_herding}, {"kcenter", rt_select_kcenter}};
    float *x = malloc((size_t)(n * d) * sizeof *x);
    int64_t *picked = malloc((size_t)budget * sizeof *picked);
    double *score = malloc((size_t)budget * sizeof *score), *ms = malloc((size_t)runs * sizeof *ms);
    if (!x || !picked || !score || !ms) {
        fprintf(stderr, "no memory for %lld x %lld features\n", (long long)n, (long long)d);
        return 71;
    }
    features(x, n * d);
    for (size_t f = 0; f < sizeof selector / sizeof selector[0]; f++) {
        for (int64_t r = -1; r < runs; r++) { /* run -1 warms up */
            double t = probe_now();
            if (selector[f].run(x, n, d, budget, NULL, picked, score) != RT_OK) {
                fprintf(stderr, "%s: %s\n", selector[f].name, rt_error_what());
                return 1;
            }
            if (r >= 0) ms[r] = 1e3 * (probe_now() - t);
        }
        qsort(ms, (size_t)runs, sizeof *ms, ascending);
        int64_t sum = 0;
        for (int64_t t = 0; t < budget; t++) sum = (sum * 31 + picked[t] + 1) % 1000000007;
        printf("{\"workload\":\"%s\",\"engine\":\"retort\",\"rows\":%lld,\"dims\":%lld,\"budget\":%lld,\"threads\":%d,"
               "\"median_ms\":%.2f,\"min_ms\":%.2f,\"max_ms\":%.2f,\"picks\":%lld,\"score\":%.9f}\n",
               selector[f].name, (long long)n, (long long)d, (long long)budget, omp_get_max_threads(), ms[runs / 2], ms[0],
               ms[runs - 1], (long long)sum, score[budget - 1]);
    }
    free(x);
    free(picked);
    free(score);
    free(ms);
    return 0;
}
