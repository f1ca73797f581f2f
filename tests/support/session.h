/* One graph, one backend, host doubles in and out: the frame of tests that run whole graphs.
 *
 *     session s;  session_open(&s, "ref");
 *     rt_val x = session_input(&s, "x", RT_SHAPE(RT_F32, 3), data);
 *     int y = session_output(&s, rt_square(s.g, x));
 *     session_run(&s);                       // prepares on the first call
 *     double *v = session_read(&s, y);       // owned by the session until it closes
 *     session_close(&s); */
#ifndef RT_TESTS_SESSION_H
#define RT_TESTS_SESSION_H

#include "retort/exec.h"
#include "suite.h"

enum { SESSION_SLOTS = 48 };

typedef struct session {
    rt_backend *be;
    rt_graph *g;
    rt_exec *ex;
    rt_bind in[SESSION_SLOTS], out[SESSION_SLOTS];
    double *host[SESSION_SLOTS];
    int n_in, n_out;
} session;

static inline void session_open(session *s, const char *backend)
{
    memset(s, 0, sizeof *s);
    rt_ok(rt_backend_open(backend, &(rt_backend_opts){.threads = 2}, &s->be));
    rt_ok(rt_graph_create(&s->g));
}

/* Overwrites input i (in the order of session_input). */
static inline void session_write(session *s, int i, const double *data)
{
    rt_ok(rt_tensor_write_f64(s->in[i].t, data, (size_t)rt_shape_count(rt_tensor_shape(s->in[i].t))));
}

static inline rt_val session_input(session *s, const char *name, rt_shape shape, const double *data)
{
    rt_bind b = {rt_input(s->g, name, shape), NULL};
    ck_assert_int_lt(s->n_in, SESSION_SLOTS);
    rt_ok(rt_graph_status(s->g));
    rt_ok(rt_tensor_create(s->be, shape, &b.t));
    s->in[s->n_in++] = b;
    session_write(s, s->n_in - 1, data);
    return b.v;
}

static inline int session_output(session *s, rt_val v)
{
    rt_bind b = {v, NULL};
    ck_assert_int_lt(s->n_out, SESSION_SLOTS);
    rt_ok(rt_graph_status(s->g));
    rt_ok(rt_tensor_create(s->be, *rt_val_shape(s->g, v), &b.t));
    s->out[s->n_out] = b;
    return s->n_out++;
}

static inline void session_run(session *s)
{
    if (!s->ex) rt_ok(rt_exec_prepare(s->be, s->g, s->in, s->n_in, s->out, s->n_out, NULL, &s->ex));
    rt_ok(rt_exec_run(s->ex));
}

static inline double *session_read(session *s, int i)
{
    size_t n = (size_t)rt_shape_count(rt_tensor_shape(s->out[i].t));
    free(s->host[i]);
    s->host[i] = malloc((n ? n : 1) * sizeof(double));
    ck_assert_ptr_nonnull(s->host[i]);
    rt_ok(rt_tensor_read_f64(s->out[i].t, s->host[i], n));
    return s->host[i];
}

static inline void session_close(session *s)
{
    rt_exec_destroy(s->ex);
    for (int i = 0; i < s->n_in; i++) rt_tensor_destroy(s->in[i].t);
    for (int i = 0; i < s->n_out; i++) {
        rt_tensor_destroy(s->out[i].t);
        free(s->host[i]);
    }
    rt_graph_destroy(s->g);
    rt_backend_close(s->be);
}

/* Deterministic test data: offset + scale * u, u in [-1,1) from a murmur3 finaliser over (key, index), rounded to
 * float32. tests/golden/generate.py has the same function. Caller frees. */
static inline double *filled(uint32_t key, int64_t n, double scale, double offset)
{
    double *v = malloc((size_t)(n ? n : 1) * sizeof *v);
    ck_assert_ptr_nonnull(v);
    for (int64_t i = 0; i < n; i++) {
        uint32_t h = (uint32_t)i + 0x9E3779B9u * (key + 1u);
        h ^= h >> 16;
        h *= 0x85EBCA6Bu;
        h ^= h >> 13;
        h *= 0xC2B2AE35u;
        h ^= h >> 16;
        v[i] = (double)(float)(offset + scale * ((double)(h >> 8) / 8388608.0 - 1.0));
    }
    return v;
}

static inline double dot(const double *a, const double *b, int64_t n)
{
    double s = 0;
    for (int64_t i = 0; i < n; i++) s += a[i] * b[i];
    return s;
}

/* |a - b| / |b|; NaN when anything is NaN. */
static inline double rel_distance(const double *a, const double *b, int64_t n)
{
    double d = 0;
    for (int64_t i = 0; i < n; i++) d += (a[i] - b[i]) * (a[i] - b[i]);
    return sqrt(d / dot(b, b, n));
}

#endif
