/* Backends by name, and tensors: conversions, sizes, what is refused. */
#include "../support/suite.h"

#include "backend/backend.h"
#include "base/alloc.h"

enum { N = 3 * 1024 + 5 }; /* across the blocks of conversion */

START_TEST(names)
{
    rt_backend *be = NULL;
    rt_ok(rt_backend_open("ref", NULL, &be));
    ck_assert_str_eq(rt_backend_name(be), "ref");
    ck_assert_uint_gt(strlen(rt_backend_describe(be)), 0);
    rt_backend_close(be);
    be = NULL;
    rt_fails(rt_backend_open("gpu", NULL, &be), RT_ERR_ARG);
    ck_assert_str_eq(rt_error_what(), "backend 'gpu' does not exist");
    ck_assert_str_eq(rt_error_remedy(), "choose one of: cpu, cuda, ref");
    rt_fails(rt_backend_open(NULL, NULL, &be), RT_ERR_ARG);
    ck_assert_ptr_null(be);
    rt_backend_close(NULL);
}
END_TEST

static void round_trip(const char *name)
{
    rt_backend *be = NULL;
    rt_tensor *t = NULL, *i = NULL;
    static float f[N], f2[N];
    static double d[N], d2[N];
    int32_t k[3] = {-7, 0, INT32_MAX}, k2[3] = {0};
    rt_ok(rt_backend_open(name, &(rt_backend_opts){.threads = 1}, &be));
    rt_ok(rt_tensor_create(be, RT_SHAPE(RT_F32, N), &t));
    rt_ok(rt_tensor_read(t, f2, sizeof f2)); /* new tensors are zero */
    for (int n = 0; n < N; n++) {
        ck_assert(f2[n] == 0.0f);
        f[n] = 1.0f / (float)(n + 3);
        d[n] = f[n];
    }
    rt_ok(rt_tensor_write(t, f, sizeof f));
    rt_ok(rt_tensor_read(t, f2, sizeof f2));
    rt_ok(rt_tensor_read_f64(t, d2, N));
    ck_assert_int_eq(memcmp(f, f2, sizeof f), 0);
    ck_assert_int_eq(memcmp(d, d2, sizeof d), 0);
    for (int n = 0; n < N; n++) d[n] = 1.0 / (n + 3);
    rt_ok(rt_tensor_write_f64(t, d, N));
    rt_ok(rt_tensor_read_f64(t, d2, N));
    for (int n = 0; n < N; n++) ck_assert(strcmp(name, "ref") == 0 ? d2[n] == d[n] : d2[n] == (double)(float)d[n]);
    ck_assert_int_eq(rt_tensor_host(t) == NULL, strcmp(name, "ref") == 0);

    rt_ok(rt_tensor_create(be, RT_SHAPE(RT_I32, 3), &i));
    rt_ok(rt_tensor_write(i, k, sizeof k));
    rt_ok(rt_tensor_read(i, k2, sizeof k2));
    ck_assert_int_eq(memcmp(k, k2, sizeof k), 0);

    rt_fails(rt_tensor_write(t, f, sizeof f - 4), RT_ERR_ARG);
    rt_fails(rt_tensor_read(t, f, sizeof f + 4), RT_ERR_ARG);
    rt_fails(rt_tensor_write_f64(t, d, N - 1), RT_ERR_ARG);
    rt_fails(rt_tensor_read_f64(i, d, 3), RT_ERR_ARG);
    rt_fails(rt_tensor_write_f64(i, d, 3), RT_ERR_ARG);
    ck_assert_str_eq(rt_error_what(), "tensor i32[3]: write as double");
    rt_tensor_destroy(t);
    rt_tensor_destroy(i);
    rt_tensor_destroy(NULL);
    rt_backend_close(be);
}

START_TEST(tensors_of_ref) { round_trip("ref"); }
END_TEST
START_TEST(tensors_of_cpu) { round_trip("cpu"); }
END_TEST

START_TEST(edges)
{
    rt_backend *be = NULL;
    rt_tensor *t = NULL;
    rt_ok(rt_backend_open("ref", NULL, &be));
    rt_ok(rt_tensor_create(be, RT_SHAPE(RT_F32, 4, 0), &t)); /* empty: exists, holds nothing */
    rt_ok(rt_tensor_write(t, NULL, 0));
    rt_ok(rt_tensor_read(t, NULL, 0));
    rt_tensor_destroy(t);
    t = NULL;
    rt_fails(rt_tensor_create(be, RT_SHAPE(RT_F32, -2), &t), RT_ERR_ARG);
    rt_fails(rt_tensor_create(be, RT_SHAPE(RT_F32, INT64_C(1) << 40, INT64_C(1) << 40), &t), RT_ERR_ARG);
    for (int k = 1; k <= 2; k++) {
        rt_alloc_fail_at((uint64_t)k, 0);
        rt_fails(rt_tensor_create(be, RT_SHAPE(RT_F32, 8), &t), RT_ERR_NOMEM);
    }
    rt_alloc_fail_at(0, 0);
    ck_assert_ptr_null(t);
    rt_backend_close(be);
}
END_TEST

/* An index out of range is an error of the run on every backend, naming position and value; a good run follows. */
static void bad_index(const char *name, int op)
{
    static const char *const says[3] = {"gather: index 5 at position 2 does not lie in 0..4",
                                        "scatter_add: index 5 at position 2 does not lie in 0..4",
                                        "one_hot: index 5 at position 2 does not lie in 0..4"};
    rt_backend *be = NULL;
    rt_graph *g = NULL;
    rt_tensor *tx = NULL, *ti = NULL, *ty = NULL;
    rt_exec *ex = NULL;
    rt_ok(rt_backend_open(name, &(rt_backend_opts){.threads = 1}, &be));
    rt_ok(rt_graph_create(&g));
    rt_val x = rt_input(g, "x", RT_SHAPE(RT_F32, op == 0 ? 5 : 4, 2)), i = rt_input(g, "i", RT_SHAPE(RT_I32, 4));
    rt_val y = op == 0 ? rt_gather(g, x, i) : op == 1 ? rt_scatter_add(g, x, i, 5) : rt_one_hot(g, i, 5);
    rt_ok(rt_tensor_create(be, *rt_val_shape(g, x), &tx));
    rt_ok(rt_tensor_create(be, *rt_val_shape(g, i), &ti));
    rt_ok(rt_tensor_create(be, *rt_val_shape(g, y), &ty));
    rt_ok(rt_exec_prepare(be, g, (rt_bind[]){{i, ti}, {x, tx}}, op == 2 ? 1 : 2, &(rt_bind){y, ty}, 1, NULL, &ex));
    rt_graph_destroy(g); /* the plan does not need it */
    rt_ok(rt_tensor_write(ti, (int32_t[]){0, 4, 5, -1}, 16));
    rt_fails(rt_exec_run(ex), RT_ERR_ARG);
    ck_assert_str_eq(rt_error_what(), says[op]);
    rt_ok(rt_tensor_write(ti, (int32_t[]){0, 4, 3, 1}, 16));
    rt_ok(rt_exec_run(ex));
    rt_exec_destroy(ex);
    rt_tensor_destroy(tx);
    rt_tensor_destroy(ti);
    rt_tensor_destroy(ty);
    rt_backend_close(be);
}

START_TEST(bad_indices)
{
    for (int op = 0; op < 3; op++) {
        bad_index("ref", op);
        bad_index("cpu", op);
    }
}
END_TEST

#if !defined(RT_HAVE_CUDA)
START_TEST(cuda_says_why_not)
{
    rt_backend *be = NULL;
    rt_fails(rt_backend_open("cuda", NULL, &be), RT_ERR_UNSUPPORTED);
    ck_assert_str_eq(rt_error_what(), "backend 'cuda': this program was built without CUDA");
    ck_assert(strstr(rt_error_remedy(), "backend.device=cpu") != NULL);
}
END_TEST
#endif

static const rt_test tests[] = {
    {"names", names},
    {"tensors of ref", tensors_of_ref},
    {"tensors of cpu", tensors_of_cpu},
    {"edges", edges},
    {"bad indices", bad_indices},
#if !defined(RT_HAVE_CUDA)
    {"cuda says why not", cuda_says_why_not},
#endif
};
RT_SUITE("backend", tests)
