/* Sessions on both CPU backends: values, bindings that overwrite, refusals, poison, failing allocations. */
#include "../support/suite.h"

#include "base/alloc.h"
#include "backend/backend.h"
#include "exec/plan.h"
#include "retort/exec.h"

static const char *const backend_names[] = {"ref", "cpu"};
enum { BACKENDS = 2 };

static rt_backend *open_backend(int i)
{
    rt_backend *be;
    rt_ok(rt_backend_open(backend_names[i], &(rt_backend_opts){.threads = 2, .strict = true}, &be));
    return be;
}

static rt_tensor *vec(rt_backend *be, int64_t n, double first)
{
    rt_tensor *t;
    double data[64];
    rt_ok(rt_tensor_create(be, RT_SHAPE(RT_F32, n), &t));
    for (int64_t i = 0; i < n; i++) data[i] = first + (double)i;
    rt_ok(rt_tensor_write_f64(t, data, (size_t)n));
    return t;
}

static void expect(const rt_tensor *t, const double *want)
{
    double got[64];
    int64_t n = rt_shape_count(rt_tensor_shape(t));
    rt_ok(rt_tensor_read_f64(t, got, (size_t)n));
    for (int64_t i = 0; i < n; i++) rt_assert_near(got[i], want[i], 1e-6, 1e-6);
}

START_TEST(state_is_updated_in_place)
{
    for (int k = 0; k < BACKENDS; k++) {
        rt_backend *be = open_backend(k);
        rt_graph *g;
        rt_exec *ex;
        rt_exec_stats s;
        rt_ok(rt_graph_create(&g));
        rt_val th = rt_input(g, "theta", RT_SHAPE(RT_F32, 4)), v = rt_input(g, "v", RT_SHAPE(RT_F32, 4)), v1;
        rt_val lr = rt_input(g, "lr", RT_SCALAR_F32);
        rt_val t1 = rt_sgd_step(g, th, v, rt_mul_scalar(g, th, 2), lr, rt_scalar(g, 0), 0.5, false, &v1);
        rt_tensor *tt = vec(be, 4, 1), *tv = vec(be, 4, 0), *tl;
        rt_ok(rt_tensor_create(be, RT_SCALAR_F32, &tl));
        rt_ok(rt_tensor_write_f64(tl, &(double){0.25}, 1));
        rt_ok(rt_exec_prepare(be, g, (rt_bind[]){{th, tt}, {v, tv}, {lr, tl}}, 3, (rt_bind[]){{t1, tt}, {v1, tv}}, 2, NULL,
                              &ex));
        rt_graph_destroy(g); /* the exec keeps what it needs */
        rt_exec_get_stats(ex, &s);
        ck_assert_int_eq(s.n_kernels, 2); /* mul and sgd: no copies */
        rt_ok(rt_exec_run(ex));
        expect(tt, (double[]){1 - .25 * 2, 2 - .25 * 4.5 - 0, 3 - .25 * 7, 4 - .25 * 9.5});
        expect(tv, (double[]){2, 4.5, 7, 9.5});
        rt_ok(rt_exec_run(ex)); /* v' = v/2 + 2 theta = 1 + 1 = 2; theta' = 0.5 - 0.5 */
        double th0, v0, got[4];
        rt_ok(rt_tensor_read_f64(tt, got, 4));
        th0 = got[0];
        rt_ok(rt_tensor_read_f64(tv, got, 4));
        v0 = got[0];
        rt_assert_near(th0, 0.0, 1e-6, 0);
        rt_assert_near(v0, 2.0, 1e-6, 0);
        rt_exec_destroy(ex);
        rt_tensor_destroy(tt);
        rt_tensor_destroy(tv);
        rt_tensor_destroy(tl);
        rt_backend_close(be);
    }
}
END_TEST

/* theta' = 2 theta lands in theta's tensor although theta is read again afterwards. */
START_TEST(overwriting_waits_for_every_reader)
{
    for (int k = 0; k < BACKENDS; k++) {
        rt_backend *be = open_backend(k);
        rt_graph *g;
        rt_exec *ex;
        rt_ok(rt_graph_create(&g));
        rt_val a = rt_input(g, "a", RT_SHAPE(RT_F32, 3)), twice = rt_mul_scalar(g, a, 2);
        rt_val later = rt_add(g, rt_exp(g, rt_mul_scalar(g, a, 0)), rt_mul(g, twice, a));
        rt_tensor *ta = vec(be, 3, 1), *tb = vec(be, 3, 0);
        rt_ok(rt_exec_prepare(be, g, (rt_bind[]){{a, ta}}, 1, (rt_bind[]){{twice, ta}, {later, tb}}, 2, NULL, &ex));
        rt_ok(rt_exec_run(ex));
        expect(ta, (double[]){2, 4, 6});
        expect(tb, (double[]){1 + 2, 1 + 8, 1 + 18});
        rt_exec_destroy(ex);
        rt_tensor_destroy(ta);
        rt_tensor_destroy(tb);
        rt_graph_destroy(g);
        rt_backend_close(be);
    }
}
END_TEST

START_TEST(two_tensors_swap)
{
    for (int k = 0; k < BACKENDS; k++) {
        rt_backend *be = open_backend(k);
        rt_graph *g;
        rt_exec *ex;
        rt_ok(rt_graph_create(&g));
        rt_val a = rt_input(g, "a", RT_SHAPE(RT_F32, 3)), b = rt_input(g, "b", RT_SHAPE(RT_F32, 3));
        rt_tensor *ta = vec(be, 3, 1), *tb = vec(be, 3, 10);
        rt_ok(rt_exec_prepare(be, g, (rt_bind[]){{a, ta}, {b, tb}}, 2, (rt_bind[]){{b, ta}, {a, tb}}, 2, NULL, &ex));
        rt_ok(rt_exec_run(ex));
        expect(ta, (double[]){10, 11, 12});
        expect(tb, (double[]){1, 2, 3});
        rt_exec_destroy(ex);
        rt_tensor_destroy(ta);
        rt_tensor_destroy(tb);
        rt_graph_destroy(g);
        rt_backend_close(be);
    }
}
END_TEST

/* Outputs may be inputs, views, constants, or one value twice. */
START_TEST(any_value_can_be_an_output)
{
    for (int k = 0; k < BACKENDS; k++) {
        rt_backend *be = open_backend(k);
        rt_graph *g;
        rt_exec *ex;
        rt_ok(rt_graph_create(&g));
        rt_val a = rt_input(g, "a", RT_SHAPE(RT_F32, 6)), view = rt_view1d(g, a, 2, RT_SHAPE(RT_F32, 3));
        rt_val c = rt_const(g, 7, RT_SHAPE(RT_F32, 2)), sum = rt_add(g, view, view);
        rt_tensor *ta = vec(be, 6, 0), *t[5] = {vec(be, 6, 0), vec(be, 3, 0), vec(be, 2, 0), vec(be, 3, 0), vec(be, 3, 0)};
        rt_ok(rt_exec_prepare(be, g, (rt_bind[]){{a, ta}}, 1,
                              (rt_bind[]){{a, t[0]}, {view, t[1]}, {c, t[2]}, {sum, t[3]}, {sum, t[4]}}, 5,
                              &(rt_exec_opts){.poison = true}, &ex));
        rt_ok(rt_exec_run(ex));
        rt_ok(rt_exec_run(ex)); /* constants survive */
        expect(t[0], (double[]){0, 1, 2, 3, 4, 5});
        expect(t[1], (double[]){2, 3, 4});
        expect(t[2], (double[]){7, 7});
        expect(t[3], (double[]){4, 6, 8});
        expect(t[4], (double[]){4, 6, 8});
        rt_exec_destroy(ex);
        rt_tensor_destroy(ta);
        for (int i = 0; i < 5; i++) rt_tensor_destroy(t[i]);
        rt_graph_destroy(g);
        rt_backend_close(be);
    }
}
END_TEST

START_TEST(impossible_bindings_are_refused)
{
    rt_backend *be = open_backend(0), *other = open_backend(1);
    rt_graph *g;
    rt_exec *ex = NULL;
    rt_ok(rt_graph_create(&g));
    rt_val a = rt_input(g, "alpha", RT_SHAPE(RT_F32, 3)), b = rt_input(g, "beta", RT_SHAPE(RT_F32, 3));
    rt_val y = rt_add(g, a, b), z = rt_mul(g, a, b);
    rt_tensor *t3 = vec(be, 3, 0), *u3 = vec(be, 3, 0), *o3 = vec(be, 3, 0), *t4 = vec(be, 4, 0), *far = vec(other, 3, 0);
#define PREPARE(in_, out_)                                                                                             \
    rt_exec_prepare(be, g, in_, (int)(sizeof(in_) / sizeof(rt_bind)), out_, (int)(sizeof(out_) / sizeof(rt_bind)), NULL, &ex)
    rt_bind both[] = {{a, t3}, {b, u3}}, one[] = {{a, t3}}, shape[] = {{a, t3}, {b, t4}}, twice[] = {{a, t3}, {a, u3}};
    rt_bind made[] = {{y, t3}}, none[] = {{a, NULL}, {b, u3}}, foreign[] = {{a, far}, {b, u3}};
    rt_bind ok[] = {{y, o3}}, alias[] = {{y, o3}, {z, o3}}, wrong[] = {{y, t4}}, void_out[] = {{{0}, o3}};
    rt_fails(PREPARE(one, ok), RT_ERR_ARG);
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "'beta'"));
    rt_fails(PREPARE(shape, ok), RT_ERR_ARG);
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "f32[4]"));
    rt_fails(PREPARE(twice, ok), RT_ERR_ARG);
    rt_fails(PREPARE(made, ok), RT_ERR_ARG);
    rt_fails(PREPARE(none, ok), RT_ERR_ARG);
    rt_fails(PREPARE(foreign, ok), RT_ERR_ARG);
    rt_fails(PREPARE(both, alias), RT_ERR_ARG);
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "one tensor"));
    rt_fails(PREPARE(both, wrong), RT_ERR_ARG);
    rt_fails(PREPARE(both, void_out), RT_ERR_ARG);
    ck_assert_ptr_null(ex);
    rt_ok(PREPARE(both, ok));
    rt_exec_destroy(ex);
    rt_exec_destroy(NULL);
    rt_tensor *all[] = {t3, u3, o3, t4, far};
    for (int i = 0; i < 5; i++) rt_tensor_destroy(all[i]);
    rt_graph_destroy(g);
    rt_backend_close(be);
    rt_backend_close(other);
}
END_TEST

START_TEST(plan_only_plans)
{
    rt_backend *be = open_backend(1);
    rt_graph *g;
    rt_exec *ex;
    rt_exec_stats s;
    rt_ok(rt_graph_create(&g));
    rt_val a = rt_input(g, "a", RT_SHAPE(RT_F32, 64));
    rt_val y = rt_exp(g, rt_neg(g, rt_exp(g, a))), unused = rt_log(g, a);
    (void)unused;
    rt_tensor *ta = vec(be, 64, 0), *ty = vec(be, 64, 0);
    rt_ok(rt_exec_prepare(be, g, (rt_bind[]){{a, ta}}, 1, (rt_bind[]){{y, ty}}, 1, &(rt_exec_opts){.plan_only = true}, &ex));
    rt_exec_get_stats(ex, &s);
    ck_assert_uint_eq(s.arena_bytes, 256);    /* exp, then neg over it; the last exp goes to the tensor */
    ck_assert_uint_eq(s.naive_bytes, 3 * 256);
    ck_assert_uint_eq(s.bound_bytes, 2 * 256);
    ck_assert_int_eq(s.n_kernels, 3);
    ck_assert_int_eq(s.n_nodes, 4);
    rt_fails(rt_exec_run(ex), RT_ERR_ARG);
    rt_exec_destroy(ex);
    rt_tensor_destroy(ta);
    rt_tensor_destroy(ty);
    rt_graph_destroy(g);
    rt_backend_close(be);
}
END_TEST

/* A kernel that writes one element too many is caught, and so is one that reads what nobody wrote. */
static rt_status overrun(const rt_prepared *p, const rt_kernel_io *io)
{
    int64_t n = rt_shape_count(&p->node->out_shape[0]);
    for (int64_t i = 0; i <= n; i++) ((float *)io->out[0])[i] = 1;
    return RT_OK;
}

static rt_status lazy(const rt_prepared *p, const rt_kernel_io *io)
{
    (void)p;
    (void)io;
    return RT_OK;
}

START_TEST(poison_catches_bad_kernels)
{
    rt_backend *be = open_backend(1);
    rt_kernel *kernels = (rt_kernel *)be->vt->kernels; /* this backend object's own table */
    rt_graph *g;
    rt_exec *ex;
    rt_ok(rt_graph_create(&g));
    rt_val a = rt_input(g, "a", RT_SHAPE(RT_F32, 64)), y = rt_neg(g, rt_exp(g, a));
    rt_tensor *ta = vec(be, 64, 0), *ty = vec(be, 64, 0);
    kernels[RT_OP_EXP] = (rt_kernel){.run = overrun};
    rt_ok(rt_exec_prepare(be, g, (rt_bind[]){{a, ta}}, 1, (rt_bind[]){{y, ty}}, 1, &(rt_exec_opts){.poison = true}, &ex));
    rt_fails(rt_exec_run(ex), RT_ERR_INTERNAL);
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "exp(f32[64])"));
    rt_exec_destroy(ex);
    kernels[RT_OP_EXP] = (rt_kernel){.run = lazy};
    rt_ok(rt_exec_prepare(be, g, (rt_bind[]){{a, ta}}, 1, (rt_bind[]){{y, ty}}, 1, &(rt_exec_opts){.poison = true}, &ex));
    rt_ok(rt_exec_run(ex));
    double got[64];
    rt_ok(rt_tensor_read_f64(ty, got, 64));
    ck_assert(isnan(got[0]) && isnan(got[63]));
    rt_exec_destroy(ex);
    rt_tensor_destroy(ta);
    rt_tensor_destroy(ty);
    rt_graph_destroy(g);
    rt_backend_close(be);
}
END_TEST

START_TEST(every_failing_allocation_is_survived)
{
    rt_backend *be = open_backend(1);
    rt_graph *g;
    rt_exec *ex = NULL;
    rt_ok(rt_graph_create(&g));
    rt_val x = rt_input(g, "x", RT_SHAPE(RT_F32, 2, 4, 4, 3)), w = rt_input(g, "w", RT_SHAPE(RT_F32, 4, 3, 3, 3));
    rt_val y = rt_sum_all(g, rt_relu(g, rt_conv2d(g, x, w, (rt_val){0}, (rt_conv_attr){{1, 1}, {1, 1}, 1, 0})));
    rt_tensor *tx, *tw, *ty;
    rt_ok(rt_tensor_create(be, RT_SHAPE(RT_F32, 2, 4, 4, 3), &tx));
    rt_ok(rt_tensor_create(be, RT_SHAPE(RT_F32, 4, 3, 3, 3), &tw));
    rt_ok(rt_tensor_create(be, RT_SCALAR_F32, &ty));
    int failures = 0;
    for (uint64_t n = 1; n < 1000; n++) {
        rt_alloc_fail_at(n, 0);
        rt_status st = rt_exec_prepare(be, g, (rt_bind[]){{x, tx}, {w, tw}}, 2, (rt_bind[]){{y, ty}}, 1, NULL, &ex);
        rt_alloc_fail_at(0, 0);
        if (st == RT_OK) break;
        ck_assert_int_eq(st, RT_ERR_NOMEM);
        ck_assert_ptr_null(ex);
        failures++;
    }
    ck_assert_int_gt(failures, 10);
    ck_assert_ptr_nonnull(ex);
    rt_ok(rt_exec_run(ex));
    rt_exec_destroy(ex);
    rt_tensor_destroy(tx);
    rt_tensor_destroy(tw);
    rt_tensor_destroy(ty);
    rt_graph_destroy(g);
    rt_backend_close(be);
}
END_TEST

START_TEST(profile_names_each_kernel)
{
    rt_backend *be = open_backend(1);
    rt_graph *g;
    rt_exec *ex;
    char *text = NULL;
    size_t size;
    rt_ok(rt_graph_create(&g));
    rt_val a = rt_input(g, "a", RT_SHAPE(RT_F32, 64)), y = rt_sum_all(g, rt_exp(g, a));
    rt_tensor *ta = vec(be, 64, 0), *ty;
    rt_ok(rt_tensor_create(be, RT_SCALAR_F32, &ty));
    rt_ok(rt_exec_prepare(be, g, (rt_bind[]){{a, ta}}, 1, (rt_bind[]){{y, ty}}, 1, &(rt_exec_opts){.profile = true}, &ex));
    rt_ok(rt_exec_run(ex));
    FILE *f = open_memstream(&text, &size);
    rt_ok(rt_exec_profile_dump(ex, f));
    fclose(f);
    ck_assert_ptr_nonnull(strstr(text, "exp(f32[64]) -> f32[64]"));
    ck_assert_ptr_nonnull(strstr(text, "2 kernels, 1 runs"));
    free(text);
    rt_exec_destroy(ex);
    rt_tensor_destroy(ta);
    rt_tensor_destroy(ty);
    rt_graph_destroy(g);
    rt_backend_close(be);
}
END_TEST

static const rt_test tests[] = {
    {"state is updated in place", state_is_updated_in_place},
    {"overwriting waits for every reader", overwriting_waits_for_every_reader},
    {"two tensors swap", two_tensors_swap},
    {"any value can be an output", any_value_can_be_an_output},
    {"impossible bindings are refused", impossible_bindings_are_refused},
    {"plan_only plans", plan_only_plans},
    {"poison catches bad kernels", poison_catches_bad_kernels},
    {"every failing allocation is survived", every_failing_allocation_is_survived},
    {"profile names each kernel", profile_names_each_kernel},
};
RT_SUITE("exec", tests)
