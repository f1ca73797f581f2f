/* Feature rows for the metrics' suites. */
#ifndef RT_TESTS_METRICS_POINTS_H
#define RT_TESTS_METRICS_POINTS_H

#include "base/rng.h"
#include "metrics/metrics.h"
#include "support/suite.h"

/* rows of literals: POINTS(2, 0, 0, 1, 0) is (0,0), (1,0) */
#define POINTS(dim, ...)                                                                                               \
    ((rt_points){(const float[]){__VA_ARGS__}, (int64_t)(sizeof((float[]){__VA_ARGS__}) / sizeof(float)) / (dim),      \
                 (dim), NULL})

/* n x d normal draws, the j-th feature of deviation 1 / (1 + j / 4), mean 1. Owned by the caller (free). */
static inline float *gaussian(int64_t n, int64_t d, uint64_t seed)
{
    float *x = malloc((size_t)(n * d) * sizeof *x);
    rt_rng r = rt_rng_at(seed, RT_RNG_TEST, 0, 0);
    for (int64_t i = 0; i < n * d; i++) x[i] = (float)(1 + rt_rng_normal(&r) / (1 + (double)(i % d) / 4));
    return x;
}

#endif
