/* The CUDA back end over stand-ins for the runtime, cuDNN and cuBLASLt (tests/kernels/host, this folder): what a machine without a
 * GPU can prove of libraries, numbers and the choice of engines. Numbers are compared with ref. (The op suite runs over the same
 * stand-ins: kernels_ops; whole steps and failures: test_cuda_mock_steps.c.) */
#include <math.h>
#include <unistd.h>

#include "base/fs.h"
#include "mock.h"
#include "ops/attrs.h"

/* --- libraries ---------------------------------------------------------------------------------------------------------- */
START_TEST(opens)
{
    rt_backend *be = open_with((rt_backend_opts){.precision = RT_PRECISION_TF32, .strict = true});
    ck_assert_ptr_nonnull(strstr(rt_backend_describe(be), "cuDNN 9.19.0, cuBLASLt 13.1; tf32, strict"));
    rt_backend_close(be);
    ck_assert_int_eq(rt_host_cuda_live(), 0);
}
END_TEST

START_TEST(absent_libraries)
{
    char dir[] = "/tmp/retort-libs-XXXXXX", file[64], *real = strdup(getenv("RT_CUDA_LIBRARIES"));
    rt_backend *be = NULL;
    rt_host_cuda_machine(1, 9);
    ck_assert_ptr_nonnull(mkdtemp(dir));
    setenv("RT_CUDA_LIBRARIES", dir, 1);
    rt_fails(rt_backend_open("cuda", NULL, &be), RT_ERR_UNSUPPORTED);
    ck_assert_msg(strncmp(rt_error_what(), "cuBLASLt not found: ", 20) == 0, "%s", rt_error_what());
    ck_assert_ptr_nonnull(strstr(rt_error_remedy(), "RT_CUDA_LIBRARIES"));
    snprintf(file, sizeof file, "%s/libcublasLt.so.13", dir);
    rt_ok(rt_fs_write_atomic(file, "no library", 10));
    rt_fails(rt_backend_open("cuda", NULL, &be), RT_ERR_UNSUPPORTED);
    ck_assert_msg(strstr(rt_error_what(), "libcublasLt.so.13: ") != NULL, "%s", rt_error_what()); /* why it does not open */
    unlink(file);
    char target[1024];
    snprintf(target, sizeof target, "%s/libcudnn.so.9", real);
    ck_assert_int_eq(symlink(target, file), 0); /* opens, but is something else */
    rt_fails(rt_backend_open("cuda", NULL, &be), RT_ERR_UNSUPPORTED);
    ck_assert_msg(strstr(rt_error_what(), "has no cublasLt") != NULL, "%s", rt_error_what());
    unlink(file);
    snprintf(target, sizeof target, "%s/libcublasLt.so.13", real);
    ck_assert_int_eq(symlink(target, file), 0);
    rt_fails(rt_backend_open("cuda", NULL, &be), RT_ERR_UNSUPPORTED);
    ck_assert_msg(strncmp(rt_error_what(), "cuDNN 9 not found: ", 19) == 0, "%s", rt_error_what());
    ck_assert_ptr_null(be);
    ck_assert_int_eq(rt_host_cuda_live(), 0);
    setenv("RT_CUDA_LIBRARIES", real, 1);
    unlink(file);
    rmdir(dir);
    free(real);
}
END_TEST

START_TEST(precision_of_others)
{
    static const char *const names[] = {"cpu", "ref"};
    rt_backend *be = NULL;
    for (int i = 0; i < 2; i++) {
        rt_fails(rt_backend_open(names[i], &(rt_backend_opts){.threads = 1, .precision = RT_PRECISION_BF16}, &be), RT_ERR_UNSUPPORTED);
        ck_assert_ptr_nonnull(strstr(rt_error_what(), "precision bf16"));
        ck_assert_ptr_nonnull(strstr(rt_error_remedy(), "backend.precision=f32"));
    }
    ck_assert_ptr_null(be);
}
END_TEST

/* --- numbers ------------------------------------------------------------------------------------------------------------ */
typedef struct conv_case {
    int64_t n, h, w, c, k, r, s;
    int stride, pad, groups, nets;
    bool bias;
} conv_case;
static const conv_case conv_cases[] = {
    {2, 5, 4, 3, 4, 3, 3, 1, 1, 1, 1, true},  {3, 7, 6, 4, 6, 3, 2, 2, 1, 2, 1, true}, {2, 5, 5, 6, 6, 3, 3, 1, 1, 6, 1, false},
    {4, 4, 4, 5, 3, 1, 1, 1, 0, 1, 1, true},  {6, 5, 5, 3, 4, 3, 3, 1, 1, 1, 3, true}, {4, 6, 5, 4, 2, 2, 3, 2, 0, 2, 2, true},
    {1, 3, 3, 7, 5, 3, 3, 1, 0, 1, 1, false},
};
enum { CONV_CASES = sizeof conv_cases / sizeof *conv_cases };

/* An input that is a view one element into a vector: nothing is aligned then. */
static rt_val shifted(rt_graph *g, const char *name, rt_shape s, rt_val *whole)
{
    const int64_t from = 1, to = 1 + rt_shape_count(&s);
    *whole = rt_input(g, name, RT_SHAPE(RT_F32, to));
    return rt_reshape(g, rt_slice(g, *whole, &from, &to), s);
}

/* y, dx, dw, db of one convolution on a backend; owned. */
static void conv_on(rt_backend *be, const conv_case *t, float *out[4], int64_t count[4])
{
    rt_graph *g = NULL;
    rt_exec *ex = NULL;
    rt_tensor *in[4], *res[4];
    rt_ok(rt_graph_create(&g));
    const int m = t->nets;
    rt_val wx, ww, x = shifted(g, "x", RT_SHAPE(RT_F32, t->n, t->h, t->w, t->c), &wx);
    rt_val w = shifted(g, "w", RT_SHAPE(RT_F32, m * t->k, t->c / t->groups, t->r, t->s), &ww);
    rt_val b = rt_input(g, "b", RT_SHAPE(RT_F32, m * t->k)), none = {0};
    rt_conv_attr a = {.stride = {t->stride, t->stride}, .pad = {t->pad, t->pad}, .groups = t->groups, .nets = m};
    rt_val y = rt_conv2d(g, x, w, t->bias ? b : none, a);
    rt_ok(rt_graph_status(g));
    rt_val wc, c = shifted(g, "c", *rt_val_shape(g, y), &wc), wrt[3] = {x, w, b}, gx[3];
    const int n_wrt = t->bias ? 3 : 2, n_out = 1 + n_wrt, n_in = t->bias ? 4 : 3;
    rt_ok(rt_vjp(g, &y, &c, 1, wrt, n_wrt, gx));
    rt_val from[4] = {wx, ww, wc, b}, to[4] = {y, gx[0], gx[1], gx[2]};
    rt_bind bi[4], bo[4];
    for (int i = 0; i < n_in; i++) {
        rt_ok(rt_tensor_create(be, *rt_val_shape(g, from[i]), &in[i]));
        fill(in[i], (uint32_t)i);
        bi[i] = (rt_bind){from[i], in[i]};
    }
    for (int o = 0; o < n_out; o++) {
        rt_ok(rt_tensor_create(be, *rt_val_shape(g, to[o]), &res[o]));
        bo[o] = (rt_bind){to[o], res[o]};
    }
    rt_ok(rt_exec_prepare(be, g, bi, n_in, bo, n_out, &(rt_exec_opts){.poison = true}, &ex));
    rt_ok(rt_exec_run(ex));
    for (int o = 0; o < 4; o++) {
        out[o] = o < n_out ? read_all(res[o]) : NULL;
        count[o] = o < n_out ? rt_shape_count(rt_tensor_shape(res[o])) : 0;
    }
    rt_exec_destroy(ex);
    for (int i = 0; i < n_in; i++) rt_tensor_destroy(in[i]);
    for (int o = 0; o < n_out; o++) rt_tensor_destroy(res[o]);
    rt_graph_destroy(g);
}

static void convolutions(rt_precision p, bool strict, double least, double most)
{
    rt_backend *ref = NULL, *be = open_with((rt_backend_opts){.precision = p, .strict = strict});
    double worst = 0;
    rt_ok(rt_backend_open("ref", NULL, &ref));
    for (int i = 0; i < CONV_CASES; i++) {
        float *got[4], *want[4];
        int64_t n[4];
        conv_on(ref, &conv_cases[i], want, n);
        conv_on(be, &conv_cases[i], got, n);
        for (int o = 0; o < 4; o++) {
            double d = got[o] ? distance(got[o], want[o], n[o]) : 0;
            ck_assert_msg(d <= most, "case %d, output %d in %s: relative distance %g", i, o, rt_precision_name(p), d);
            if (o < 3 && d > worst) worst = d; /* db is a plain sum */
            free(got[o]);
            free(want[o]);
        }
    }
    ck_assert_msg(worst >= least, "%s: rounding of the operands should show, worst distance %g", rt_precision_name(p), worst);
    rt_backend_close(be);
    rt_backend_close(ref);
    ck_assert_int_eq(rt_host_cuda_live(), 0);
}

START_TEST(convolution_f32)
{
    convolutions(RT_PRECISION_F32, true, 0, 1e-6);
    convolutions(RT_PRECISION_F32, false, 0, 1e-6);
}
END_TEST
START_TEST(convolution_tf32) { convolutions(RT_PRECISION_TF32, true, 1e-5, 1e-3); }
END_TEST
START_TEST(convolution_bf16)
{
    convolutions(RT_PRECISION_BF16, true, 1e-4, 1e-2);
    convolutions(RT_PRECISION_BF16, false, 1e-4, 1e-2);
}
END_TEST

static float *product_on(rt_backend *be, int64_t batch, int64_t m, int64_t n, int64_t k, bool ta, bool tb)
{
    rt_graph *g = NULL;
    rt_exec *ex = NULL;
    rt_tensor *t[3];
    rt_ok(rt_graph_create(&g));
    const rt_shape sa = RT_SHAPE(RT_F32, batch, ta ? k : m, ta ? m : k), sb = RT_SHAPE(RT_F32, batch, tb ? n : k, tb ? k : n);
    rt_val a, b, la, lb; /* one operand in four off any alignment, one in four the other */
    if (ta && !tb) la = shifted(g, "a", sa, &a);
    else la = a = rt_input(g, "a", sa);
    if (tb && !ta) lb = shifted(g, "b", sb, &b);
    else lb = b = rt_input(g, "b", sb);
    rt_val y = rt_matmul(g, la, lb, ta, tb), v[3] = {a, b, y};
    rt_ok(rt_graph_status(g));
    for (int i = 0; i < 3; i++) {
        rt_ok(rt_tensor_create(be, *rt_val_shape(g, v[i]), &t[i]));
        fill(t[i], 20 + (uint32_t)i);
    }
    rt_ok(rt_exec_prepare(be, g, (rt_bind[]){{a, t[0]}, {b, t[1]}}, 2, &(rt_bind){y, t[2]}, 1, NULL, &ex));
    rt_ok(rt_exec_run(ex));
    float *out = read_all(t[2]);
    rt_exec_destroy(ex);
    for (int i = 0; i < 3; i++) rt_tensor_destroy(t[i]);
    rt_graph_destroy(g);
    return out;
}

START_TEST(products)
{
    static const int64_t shapes[][4] = {{1, 5, 7, 3}, {3, 4, 2, 9}, {2, 1, 6, 5}, {1, 8, 8, 8}, {2, 3, 4, 0}, {0, 2, 2, 2}};
    static const double most[] = {1e-6, 1e-3, 1e-2};
    rt_backend *ref = NULL;
    rt_ok(rt_backend_open("ref", NULL, &ref));
    for (int p = 0; p < 3; p++)
        for (int strict = 0; strict < 2; strict++) {
            rt_backend *be = open_with((rt_backend_opts){.precision = (rt_precision)p, .strict = strict});
            for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
                for (int t = 0; t < 4; t++) {
                    const int64_t *s = shapes[i];
                    float *got = product_on(be, s[0], s[1], s[2], s[3], t & 1, t & 2), *want = product_on(ref, s[0], s[1], s[2], s[3], t & 1, t & 2);
                    double d = distance(got, want, s[0] * s[1] * s[2]);
                    ck_assert_msg(d <= most[p], "product %zu, flags %d, %s: %g", i, t, rt_precision_name((rt_precision)p), d);
                    free(got);
                    free(want);
                }
            rt_backend_close(be);
        }
    rt_backend_close(ref);
    ck_assert_int_eq(rt_host_cuda_live(), 0);
}
END_TEST

/* --- choice of engines -------------------------------------------------------------------------------------------------- */
/* The implementation that a small convolution gets. */
static const char *choice(rt_backend_opts o, int *calls)
{
    static char name[160];
    rt_graph *g = NULL;
    rt_backend *be = open_with(o);
    rt_ok(rt_graph_create(&g));
    rt_val y = rt_conv2d(g, rt_input(g, "x", RT_SHAPE(RT_F32, 2, 4, 4, 3)), rt_input(g, "w", RT_SHAPE(RT_F32, 4, 3, 3, 3)), (rt_val){0},
                         (rt_conv_attr){.stride = {1, 1}, .pad = {1, 1}, .groups = 1});
    rt_prepared p = {.node = rt_val_node(g, y, NULL)};
    const int before = rt_host_cuda_calls();
    rt_ok(be->vt->kernels[RT_OP_CONV2D].prepare(be, &p));
    if (calls) *calls = rt_host_cuda_calls() - before;
    snprintf(name, sizeof name, "%s", p.impl);
    be->vt->kernels[RT_OP_CONV2D].release(&p);
    rt_graph_destroy(g);
    rt_backend_close(be);
    ck_assert_int_eq(rt_host_cuda_live(), 0);
    return name;
}

START_TEST(engines)
{
    ck_assert_str_eq(choice((rt_backend_opts){.strict = true}, NULL), "0:e0"); /* the fallback: no tensor cores */
    ck_assert_str_eq(choice((rt_backend_opts){.strict = false}, NULL), "0:e0");
    ck_assert_str_eq(choice((rt_backend_opts){.strict = true, .precision = RT_PRECISION_TF32}, NULL), "0:e10k2=7,3=7");
    ck_assert_str_eq(choice((rt_backend_opts){.strict = false, .precision = RT_PRECISION_TF32}, NULL), "0:e20k2=7"); /* the fastest */
    ck_assert_str_eq(choice((rt_backend_opts){.strict = true, .precision = RT_PRECISION_BF16}, NULL), "0:e30k2=7,3=7");
}
END_TEST

START_TEST(choices_are_kept)
{
    char dir[] = "/tmp/retort-algo-XXXXXX", path[64], text[2048];
    int timed = 0, kept = 0;
    void *data = NULL;
    size_t size = 0;
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/algorithms.jsonl", dir);
    rt_backend_opts o = {.precision = RT_PRECISION_TF32, .algo_cache = path};
    ck_assert_str_eq(choice(o, &timed), "0:e20k2=7");
    rt_ok(rt_fs_read(path, sizeof text, &data, &size));
    snprintf(text, sizeof text, "%.*s", (int)size, (char *)data);
    rt_free(data);
    ck_assert_msg(strstr(text, "conv2d n2 h4 w4 c3 k4") && strstr(text, "host fibers sm_90 cudnn 91900") && strstr(text, "e20k2=7"), "%s", text);
    ck_assert_str_eq(choice(o, &kept), "0:e20k2=7");
    ck_assert_msg(kept < timed, "%d calls, then %d: nothing is timed again", timed, kept);
    char *at = strstr(text, "e20k2=7");
    memmove(at, "e10k2=7,3=7\"}\n", sizeof "e10k2=7,3=7\"}\n"); /* another run's choice is followed */
    rt_ok(rt_fs_write_atomic(path, text, strlen(text)));
    ck_assert_str_eq(choice(o, NULL), "0:e10k2=7,3=7");
    o.strict = true; /* other conditions, another key: timed among deterministic ones, and kept too */
    ck_assert_str_eq(choice(o, &timed), "0:e10k2=7,3=7");
    ck_assert_str_eq(choice(o, &kept), "0:e10k2=7,3=7");
    ck_assert_int_lt(kept, timed);
    rt_ok(rt_fs_write_atomic(path, "rubbish\n", 8));
    rt_backend *be = open_with(o);
    rt_graph *g = NULL;
    rt_ok(rt_graph_create(&g));
    rt_val y = rt_matmul(g, rt_input(g, "a", RT_SHAPE(RT_F32, 2, 3)), rt_input(g, "b", RT_SHAPE(RT_F32, 3, 2)), false, false);
    rt_prepared p = {.node = rt_val_node(g, y, NULL)};
    rt_fails(be->vt->kernels[RT_OP_MATMUL].prepare(be, &p), RT_ERR_FORMAT);
    be->vt->kernels[RT_OP_MATMUL].release(&p);
    unlink(path);
    for (int i = 0; i < 2; i++) { /* products: timed, then recalled */
        p = (rt_prepared){.node = rt_val_node(g, y, NULL)};
        const int before = rt_host_cuda_calls();
        rt_ok(be->vt->kernels[RT_OP_MATMUL].prepare(be, &p));
        *(i ? &kept : &timed) = rt_host_cuda_calls() - before;
        be->vt->kernels[RT_OP_MATMUL].release(&p);
    }
    ck_assert_int_lt(kept, timed / 2);
    rt_graph_destroy(g);
    rt_backend_close(be);
    ck_assert_int_eq(rt_host_cuda_live(), 0);
    unlink(path);
    rmdir(dir);
}
END_TEST

static const rt_test tests[] = {
    {"opens", opens},
    {"absent libraries", absent_libraries},
    {"precision of other backends", precision_of_others},
    {"convolution, f32", convolution_f32},
    {"convolution, tf32", convolution_tf32},
    {"convolution, bf16", convolution_bf16},
    {"products", products},
    {"engines", engines},
    {"choices are kept", choices_are_kept},
};
RT_SUITE("cuda.mock", tests)
