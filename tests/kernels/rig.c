#include "rig.h"

#include "base/rng.h"
#include "support/suite.h"

rt_backend *rig_open(void)
{
    rt_backend *be = NULL;
    rt_host_cuda_machine(1, 9);
    rt_ok(rt_cuda_open(&(rt_backend_opts){0}, &be));
    return be;
}

void rig_free(rig *r)
{
    for (int i = 0; i < RIG_MAX_IN; i++) free(r->in[i]);
    for (int o = 0; o < RT_MAX_OUT; o++) {
        free(r->want[o]);
        free(r->got[o]);
    }
}

double rig_draw(uint32_t i, int input, bool positive)
{
    rt_u32x4 w = rt_draw(7, 1, (uint64_t)input, i, 0);
    double v = (double)(float)(8.0 * (double)rt_u01(w.v[0]) - 4.0);
    if (w.v[1] % 16 == 0) v = 0.0;
    if (w.v[1] % 16 == 1) v = 1.0;
    return positive ? fabs(v) + 0.25 : v;
}

/* The four-byte image of an operand of the reference, owned. */
static void *narrow(const rt_shape *s, const void *from)
{
    const int64_t n = rt_shape_count(s);
    float *f = malloc((size_t)n * 4 + 1);
    if (s->dtype == RT_I32) memcpy(f, from, (size_t)n * 4);
    else
        for (int64_t e = 0; e < n; e++) f[e] = (float)((const double *)from)[e];
    return f;
}

void rig_device(rt_backend *be, rig *r, unsigned flags)
{
    const rt_node *n = r->n;
    const rt_kernel *k = &be->vt->kernels[n->op];
    const size_t off = flags & RIG_SHIFT ? 4 : 0;
    ck_assert_msg(k->run != NULL, "%s has no kernel", rt_op_name(n->op));
    rt_prepared p = {.node = n};
    rt_ok(k->prepare(be, &p));
    ck_assert_ptr_nonnull(p.impl);
    char *in[RIG_MAX_IN] = {0}, *out[RT_MAX_OUT] = {0};
    void *scratch = NULL;
    rt_ok(be->vt->alloc(be, p.scratch_bytes, &scratch));
    for (int turn = 0; turn < 2; turn++) {
        const void *at_in[RIG_MAX_IN] = {0};
        void *at_out[RT_MAX_OUT] = {0};
        memset(scratch, 0xff, p.scratch_bytes); /* NaN */
        for (int i = 0; i < n->n_in; i++) {
            const size_t bytes = (size_t)rt_shape_count(&n->in_shape[i]) * 4;
            void *f = narrow(&n->in_shape[i], r->in[i]);
            rt_ok(be->vt->alloc(be, bytes + off, (void **)&in[i]));
            rt_ok(be->vt->upload(be, in[i] + off, f, bytes));
            at_in[i] = in[i] + off;
            free(f);
        }
        for (int o = 0; o < n->n_out; o++) {
            const size_t bytes = (size_t)rt_shape_count(&n->out_shape[o]) * 4;
            const bool alias = flags & RIG_ALIAS && o == 0;
            if (alias) out[o] = in[0];
            else {
                rt_ok(be->vt->alloc(be, bytes + off, (void **)&out[o]));
                memset(out[o], 0xff, bytes + off);
            }
            at_out[o] = out[o] + off;
        }
        rt_ok(k->run(&p, &(rt_kernel_io){at_in, at_out, scratch}));
        rt_ok(be->vt->end_run(be));
        for (int o = 0; o < n->n_out; o++) {
            const size_t bytes = (size_t)rt_shape_count(&n->out_shape[o]) * 4;
            float *f = malloc(bytes + 1);
            rt_ok(be->vt->download(be, f, at_out[o], bytes));
            if (turn == 0) r->got[o] = f;
            else {
                ck_assert_msg(!bytes || !memcmp(f, r->got[o], bytes), "%s: two runs differ", rt_op_name(n->op));
                free(f);
            }
            if (out[o] != in[0]) be->vt->free(be, out[o]);
        }
        for (int i = 0; i < n->n_in; i++) be->vt->free(be, in[i]);
    }
    be->vt->free(be, scratch);
    k->release(&p);
    k->release(&p); /* accepts a released one */
}

void rig_ref(rig *r)
{
    const rt_node *n = r->n;
    void *out[RT_MAX_OUT];
    for (int o = 0; o < n->n_out; o++) {
        r->n_want[o] = rt_shape_count(&n->out_shape[o]);
        out[o] = r->want[o] = malloc((size_t)r->n_want[o] * 8 + 1);
    }
    rt_ok(rt_op_row_of(n->op)->ref(n, &(rt_ref_io){(const void *const *)r->in, out}));
}

void rig_compare(const rig *r, double atol, double rtol)
{
    for (int o = 0; o < r->n->n_out; o++)
        for (int64_t i = 0; i < r->n_want[o]; i++) {
            if (r->n->out_shape[o].dtype == RT_I32) {
                ck_assert_int_eq(((int32_t *)r->got[o])[i], ((int32_t *)r->want[o])[i]);
                continue;
            }
            double got = (double)r->got[o][i], want = r->want[o][i];
            bool same = isfinite(want) ? fabs(got - want) <= atol + rtol * fabs(want) : isnan(want) ? isnan(got) : got == want;
            ck_assert_msg(same, "%s output %d [%lld] = %.9g, want %.9g", rt_op_name(r->n->op), o, (long long)i, got, want);
        }
}

static void check(rt_backend *be, const rt_graph *g, rt_val v, bool positive, int32_t limit, double atol, double rtol, unsigned flags)
{
    int o = 0;
    rt_ok(rt_graph_status(g));
    rig r = {.n = rt_val_node(g, v, &o)};
    for (int i = 0; i < r.n->n_in; i++) {
        int64_t count = rt_shape_count(&r.n->in_shape[i]);
        r.in[i] = malloc((size_t)count * 8 + 1);
        for (int64_t e = 0; e < count; e++)
            if (r.n->in_shape[i].dtype == RT_I32)
                ((int32_t *)r.in[i])[e] = (int32_t)rt_below(rt_draw(9, 1, (uint64_t)i, (uint32_t)e, 0).v[0], (uint32_t)limit);
            else r.in[i][e] = rig_draw((uint32_t)e, i, positive);
    }
    rig_device(be, &r, flags);
    rig_ref(&r);
    rig_compare(&r, atol, rtol);
    rig_free(&r);
}

void rig_check_index(rt_backend *be, const rt_graph *g, rt_val v, int32_t limit, double atol, double rtol, unsigned flags)
{
    check(be, g, v, false, limit, atol, rtol, flags);
}

void rig_check(rt_backend *be, const rt_graph *g, rt_val v, bool positive, double atol, double rtol, unsigned flags)
{
    check(be, g, v, positive, 1, atol, rtol, flags);
}
