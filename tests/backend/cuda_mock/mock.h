/* Shared by the suites over the stand-ins: a device to open, and tensors filled by counter. */
#ifndef RT_TEST_CUDA_MOCK_H
#define RT_TEST_CUDA_MOCK_H

#include <math.h>

#include "backend/cuda/cuda.h"
#include "base/rng.h"
#include "support/suite.h"

static inline rt_backend *open_with(rt_backend_opts o)
{
    rt_backend *be = NULL;
    rt_host_cuda_machine(1, 9);
    rt_ok(rt_backend_open("cuda", &o, &be));
    return be;
}

static inline float value_at(uint32_t key, int64_t i)
{
    rt_u32x4 w = rt_draw(11, 1, key, (uint32_t)i, 0);
    return 2 * rt_u01(w.v[0]) - 1;
}

static inline void fill(rt_tensor *t, uint32_t key)
{
    const int64_t n = rt_shape_count(rt_tensor_shape(t));
    float *f = malloc((size_t)n * sizeof *f + 1);
    for (int64_t i = 0; i < n; i++) f[i] = value_at(key, i);
    rt_ok(rt_tensor_write(t, f, (size_t)n * sizeof *f));
    free(f);
}

static inline float *read_all(rt_tensor *t)
{
    const size_t n = (size_t)rt_shape_count(rt_tensor_shape(t));
    float *f = malloc(n * sizeof *f + 1);
    rt_ok(rt_tensor_read(t, f, n * sizeof *f));
    return f;
}

/* |a - b| relative to |b|. */
static inline double distance(const float *a, const float *b, int64_t n)
{
    double d = 0, t = 1e-30;
    for (int64_t i = 0; i < n; i++) {
        d += pow((double)a[i] - (double)b[i], 2);
        t += (double)b[i] * (double)b[i];
    }
    return sqrt(d / t);
}

#endif
