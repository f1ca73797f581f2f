/* Reading the vectors of generate.py, and making the weights and inputs they were computed from. */
#ifndef RT_TESTS_GOLDEN_H
#define RT_TESTS_GOLDEN_H

#include "artefact/safetensors.h"
#include "nn/nn.h"
#include "session.h"

/* Bounds of a comparison: ref runs in float64, cpu in float32. Relative to the size of the vector compared. */
typedef struct precision {
    const char *backend;
    double rel;
} precision;
static const precision precisions[] = {{"ref", 1e-9}, {"cpu", 1e-4}};

static inline rt_st_file *golden_open(const char *name)
{
    const char *root = getenv("RT_SOURCE_DIR");
    char path[512];
    rt_st_file *f = NULL;
    snprintf(path, sizeof path, "%s/tests/golden/%s.safetensors", root ? root : ".", name);
    rt_ok(rt_st_open(path, &f));
    return f;
}

/* Borrowed float64 values of a tensor with exactly `count` entries. */
static inline const double *golden(const rt_st_file *f, const char *name, int64_t count)
{
    const rt_st_tensor *t = rt_st_find(f, name);
    ck_assert_msg(t != NULL, "no golden tensor %s", name);
    ck_assert_int_eq(t->dtype, RT_ST_F64);
    ck_assert_uint_eq(t->bytes, (uint64_t)count * 8);
    return t->data;
}

static inline void assert_vector(const char *what, const double *got, const double *want, int64_t n, precision p)
{
    double err = rel_distance(got, want, n);
    ck_assert_msg(err <= p.rel, "%s: %s differs by %.3g relative, allowed %.3g", p.backend, what, err, p.rel);
}

/* set_weights of generate.py. Caller frees. */
static inline double *golden_theta(const rt_model *m)
{
    double *theta = malloc((size_t)rt_model_n_params(m) * sizeof *theta);
    for (int32_t i = 0; i < rt_model_param_count(m); i++) {
        const rt_param *q = rt_model_param(m, i);
        size_t len = strlen(q->name);
        double *v;
        if (q->shape.rank >= 2)
            v = filled((uint32_t)i, q->count, sqrt(3.0 / ((double)q->count / (double)q->shape.d[0])), 0);
        else if (len > 6 && strcmp(q->name + len - 6, "weight") == 0)
            v = filled((uint32_t)i, q->count, 0.25, 1);
        else
            v = filled((uint32_t)i, q->count, 0.125, 0);
        memcpy(theta + q->offset, v, (size_t)q->count * sizeof *v);
        free(v);
    }
    return theta;
}

/* set_statistics of generate.py. Caller frees. */
static inline double *golden_buffers(const rt_model *m)
{
    double *buffers = malloc(((size_t)rt_model_n_buffers(m) + 1) * sizeof *buffers);
    for (int32_t i = 0; i < rt_model_stat_count(m); i++) {
        const rt_model_stat *s = rt_model_stat_at(m, i);
        double *v = i % 2 ? filled(500 + (uint32_t)i, s->count, 0.5, 1) : filled(500 + (uint32_t)i, s->count, 0.25, 0);
        memcpy(buffers + s->offset, v, (size_t)s->count * sizeof *v);
        free(v);
    }
    return buffers;
}

static inline double *golden_labels(int64_t n, int64_t classes)
{
    double *q = filled(901, n * classes, 0.5, 0.5);
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int64_t k = 0; k < classes; k++) sum += q[i * classes + k];
        for (int64_t k = 0; k < classes; k++) q[i * classes + k] /= sum;
    }
    return q;
}

#endif
