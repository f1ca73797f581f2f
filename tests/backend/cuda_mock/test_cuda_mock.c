/* The CUDA back end's control flow over stand-ins for the runtime, cuDNN and cuBLASLt (tests/kernels/host, this folder): what a
 * machine without a GPU can prove. Numbers are compared with ref. (The op suite runs over the same stand-ins: kernels_ops.) */
#include <math.h>
#include <unistd.h>

#include "backend/cuda/cuda.h"
#include "base/fs.h"
#include "base/rng.h"
#include "ops/attrs.h"
#include "support/suite.h"

static rt_backend *open_with(rt_backend_opts o)
{
    rt_backend *be = NULL;
    rt_host_cuda_machine(1, 9);
    rt_ok(rt_backend_open("cuda", &o, &be));
    return be;
}

static float value_at(uint32_t key, int64_t i)
{
    rt_u32x4 w = rt_draw(11, 1, key, (uint32_t)i, 0);
    return 2 * rt_u01(w.v[0]) - 1;
}

static void fill(rt_tensor *t, uint32_t key)
{
    const int64_t n = rt_shape_count(rt_tensor_shape(t));
    float *f = malloc((size_t)n * sizeof *f + 1);
    for (int64_t i = 0; i < n; i++) f[i] = value_at(key, i);
    rt_ok(rt_tensor_write(t, f, (size_t)n * sizeof *f));
    free(f);
}

static float *read_all(rt_tensor *t)
{
    const size_t n = (size_t)rt_shape_count(rt_tensor_shape(t));
    float *f = malloc(n * sizeof *f + 1);
    rt_ok(rt_tensor_read(t, f, n * sizeof *f));
    return f;
}

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

static double distance(const float *a, const float *b, int64_t n)
{
    double d = 0, t = 1e-30;
    for (int64_t i = 0; i < n; i++) {
        d += pow((double)a[i] - (double)b[i], 2);
        t += (double)b[i] * (double)b[i];
    }
    return sqrt(d / t);
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

/* --- steps -------------------------------------------------------------------------------------------------------------- */
enum { BATCH = 3, SIDE = 4, FILTERS = 4, CLASSES = 3, P_CONV = FILTERS * 2 * 9, P_BIAS = FILTERS, P_HEAD = SIDE * SIDE * FILTERS * CLASSES,
       PARAMS = P_CONV + P_BIAS + P_HEAD };

/* A training step: convolution, ReLU, linear head, mean square; SGD with momentum in place. */
typedef struct net {
    rt_backend *be;
    rt_tensor *x, *y, *theta, *v, *lr, *decay, *loss;
    rt_exec *ex;
} net;

static rt_status net_open(rt_backend *be, rt_capture capture, net *n)
{
    rt_status st = RT_OK;
    rt_graph *g = NULL;
    rt_val grad, v_new;
    *n = (net){.be = be};
    RT_TRY(rt_graph_create(&g));
    rt_val x = rt_input(g, "x", RT_SHAPE(RT_F32, BATCH, SIDE, SIDE, 2)), y = rt_input(g, "y", RT_SHAPE(RT_F32, BATCH, CLASSES));
    rt_val theta = rt_input(g, "theta", RT_SHAPE(RT_F32, PARAMS)), v = rt_input(g, "v", RT_SHAPE(RT_F32, PARAMS));
    rt_val lr = rt_input(g, "lr", RT_SCALAR_F32), decay = rt_input(g, "decay", RT_SCALAR_F32);
    int64_t cut[] = {0, P_CONV, P_CONV + P_BIAS, PARAMS};
    rt_val w = rt_reshape(g, rt_slice(g, theta, &cut[0], &cut[1]), RT_SHAPE(RT_F32, FILTERS, 2, 3, 3)), b = rt_slice(g, theta, &cut[1], &cut[2]);
    rt_val head = rt_reshape(g, rt_slice(g, theta, &cut[2], &cut[3]), RT_SHAPE(RT_F32, SIDE * SIDE * FILTERS, CLASSES));
    rt_val h = rt_relu(g, rt_conv2d(g, x, w, b, (rt_conv_attr){.stride = {1, 1}, .pad = {1, 1}, .groups = 1}));
    rt_val z = rt_matmul(g, rt_reshape(g, h, RT_SHAPE(RT_F32, BATCH, SIDE * SIDE * FILTERS)), head, false, false);
    rt_val loss = rt_mean_all(g, rt_square(g, rt_sub(g, z, y)));
    RT_TRY(rt_graph_status(g));
    RT_TRY(rt_grad(g, loss, &theta, 1, &grad));
    rt_val t_new = rt_sgd_step(g, theta, v, grad, lr, decay, 0.9, false, &v_new);
    RT_TRY(rt_graph_status(g));
    rt_tensor **t[] = {&n->x, &n->y, &n->theta, &n->v, &n->lr, &n->decay, &n->loss};
    const rt_val val[] = {x, y, theta, v, lr, decay, loss};
    for (int i = 0; i < 7; i++) RT_TRY(rt_tensor_create(be, *rt_val_shape(g, val[i]), t[i]));
    const rt_bind in[] = {{x, n->x}, {y, n->y}, {theta, n->theta}, {v, n->v}, {lr, n->lr}, {decay, n->decay}};
    const rt_bind out[] = {{t_new, n->theta}, {v_new, n->v}, {loss, n->loss}};
    RT_TRY(rt_exec_prepare(be, g, in, 6, out, 3, &(rt_exec_opts){.capture = capture}, &n->ex));
out:
    rt_graph_destroy(g);
    return st;
}

static void net_close(net *n)
{
    rt_exec_destroy(n->ex);
    rt_tensor *t[] = {n->x, n->y, n->theta, n->v, n->lr, n->decay, n->loss};
    for (int i = 0; i < 7; i++) rt_tensor_destroy(t[i]);
}

static rt_status write_step(net *n, int step)
{
    float x[BATCH * SIDE * SIDE * 2], y[BATCH * CLASSES], lr = 0.1f / (float)(step + 1);
    rt_status st = RT_OK;
    for (size_t i = 0; i < sizeof x / sizeof *x; i++) x[i] = value_at(100 + (uint32_t)step, (int64_t)i);
    for (size_t i = 0; i < sizeof y / sizeof *y; i++) y[i] = value_at(200 + (uint32_t)step, (int64_t)i);
    RT_TRY(rt_tensor_write(n->x, x, sizeof x));
    RT_TRY(rt_tensor_write(n->y, y, sizeof y));
    RT_TRY(rt_tensor_write(n->lr, &lr, sizeof lr));
out:
    return st;
}

static rt_status net_begin(net *n)
{
    float theta[PARAMS], decay = 0.01f;
    rt_status st = RT_OK;
    for (int i = 0; i < PARAMS; i++) theta[i] = 0.3f * value_at(7, i);
    RT_TRY(rt_tensor_write(n->theta, theta, sizeof theta));
    RT_TRY(rt_tensor_write(n->decay, &decay, sizeof decay));
out:
    return st;
}

enum { STEPS = 6 };

/* theta after STEPS steps; the next step's data are written while the last one is still under way. */
static void train(rt_backend *be, rt_capture capture, float theta[PARAMS])
{
    net n;
    rt_ok(net_open(be, capture, &n));
    rt_ok(net_begin(&n));
    rt_ok(write_step(&n, 0));
    for (int s = 0; s < STEPS; s++) {
        rt_ok(rt_exec_start(n.ex));
        if (s + 1 < STEPS) rt_ok(write_step(&n, s + 1));
        if (s % 2) rt_ok(rt_exec_wait(n.ex));
    }
    rt_ok(rt_exec_wait(n.ex));
    rt_ok(rt_tensor_read(n.theta, theta, PARAMS * sizeof *theta));
    net_close(&n);
}

START_TEST(captured_steps)
{
    float off[PARAMS], on[PARAMS], verified[PARAMS], want[PARAMS];
    rt_backend *be = open_with((rt_backend_opts){.strict = true}), *ref = NULL;
    train(be, RT_CAPTURE_DEFAULT, off);
    ck_assert_int_eq(rt_host_cuda_graph_launches(), 0);
    train(be, RT_CAPTURE_ON, on);
    ck_assert_int_eq(rt_host_cuda_graph_launches(), STEPS - 1);
    train(be, RT_CAPTURE_VERIFY, verified);
    ck_assert_int_eq(rt_host_cuda_graph_launches(), 2 * STEPS - 1);
    ck_assert_int_eq(memcmp(off, on, sizeof off), 0);
    ck_assert_int_eq(memcmp(off, verified, sizeof off), 0);
    rt_ok(rt_backend_open("ref", NULL, &ref));
    train(ref, RT_CAPTURE_ON, want); /* where nothing can be captured, runs are direct */
    ck_assert(distance(off, want, PARAMS) < 1e-6);
    rt_backend_close(ref);
    rt_backend_close(be);
    be = open_with((rt_backend_opts){.strict = true, .capture = RT_CAPTURE_ON}); /* the backend's default */
    const int before = rt_host_cuda_graph_launches();
    train(be, RT_CAPTURE_DEFAULT, on);
    ck_assert_int_eq(rt_host_cuda_graph_launches() - before, STEPS - 1);
    ck_assert_int_eq(memcmp(off, on, sizeof off), 0);
    rt_backend_close(be);
    ck_assert_int_eq(rt_host_cuda_live(), 0);
}
END_TEST

/* K steps as one launch: per-step inputs and losses in blocks. */
static void train_many(rt_backend *be, rt_capture capture, float theta[PARAMS], float loss[STEPS])
{
    net n;
    rt_tensor *bx, *by, *bl, *bo;
    const int half = STEPS / 2;
    rt_ok(net_open(be, capture, &n));
    rt_ok(net_begin(&n));
    rt_ok(rt_tensor_create(be, RT_SHAPE(RT_F32, half, BATCH, SIDE, SIDE, 2), &bx));
    rt_ok(rt_tensor_create(be, RT_SHAPE(RT_F32, half, BATCH, CLASSES), &by));
    rt_ok(rt_tensor_create(be, RT_SHAPE(RT_F32, half + 1), &bl)); /* longer than needed */
    rt_ok(rt_tensor_create(be, RT_SHAPE(RT_F32, half), &bo));
    const rt_rows rows[] = {{bx, n.x, false}, {by, n.y, false}, {bl, n.lr, false}, {bo, n.loss, true}};
    for (int part = 0; part < 2; part++) {
        float x[STEPS / 2][BATCH * SIDE * SIDE * 2], y[STEPS / 2][BATCH * CLASSES], lr[STEPS / 2 + 1] = {0};
        for (int s = 0; s < half; s++) {
            const int step = part * half + s;
            for (int i = 0; i < BATCH * SIDE * SIDE * 2; i++) x[s][i] = value_at(100 + (uint32_t)step, i);
            for (int i = 0; i < BATCH * CLASSES; i++) y[s][i] = value_at(200 + (uint32_t)step, i);
            lr[s] = 0.1f / (float)(step + 1);
        }
        rt_ok(rt_tensor_write(bx, x, sizeof x));
        rt_ok(rt_tensor_write(by, y, sizeof y));
        rt_ok(rt_tensor_write(bl, lr, sizeof lr));
        rt_ok(rt_exec_run_many(n.ex, half, rows, 4));
        rt_ok(rt_tensor_read(bo, loss + part * half, sizeof *loss * (size_t)half));
    }
    rt_ok(rt_tensor_read(n.theta, theta, PARAMS * sizeof *theta));
    rt_fails(rt_exec_run_many(n.ex, 0, rows, 4), RT_ERR_ARG);
    rt_fails(rt_exec_run_many(n.ex, half + 1, rows, 4), RT_ERR_ARG);
    ck_assert_msg(strncmp(rt_error_what(), "block 0: f32[3,3,4,4,2] does not hold 4 rows of f32[3,4,4,2]", 40) == 0, "%s", rt_error_what());
    rt_fails(rt_exec_run_many(n.ex, half, (rt_rows[]){{bx, n.y, false}}, 1), RT_ERR_ARG);
    rt_fails(rt_exec_run_many(n.ex, half, (rt_rows[]){{NULL, n.y, false}}, 1), RT_ERR_ARG);
    net_close(&n);
    rt_tensor_destroy(bx);
    rt_tensor_destroy(by);
    rt_tensor_destroy(bl);
    rt_tensor_destroy(bo);
}

START_TEST(many_steps_as_one)
{
    float want[PARAMS], got[PARAMS], loss[STEPS], other[STEPS];
    rt_backend *be = open_with((rt_backend_opts){.strict = true}), *cpu = NULL, *ref = NULL;
    train(be, RT_CAPTURE_OFF, want);
    train_many(be, RT_CAPTURE_OFF, got, loss);
    ck_assert_int_eq(memcmp(want, got, sizeof want), 0);
    ck_assert(loss[0] > 0 && isfinite(loss[STEPS - 1]));
    int before = rt_host_cuda_graph_launches();
    train_many(be, RT_CAPTURE_ON, got, other);
    ck_assert_int_eq(rt_host_cuda_graph_launches() - before, 1); /* the first half ran directly, the second in one launch */
    ck_assert_int_eq(memcmp(want, got, sizeof want), 0);
    ck_assert_int_eq(memcmp(loss, other, sizeof loss), 0);
    train_many(be, RT_CAPTURE_VERIFY, got, other);
    ck_assert_int_eq(memcmp(want, got, sizeof want), 0);
    ck_assert_int_eq(memcmp(loss, other, sizeof loss), 0);
    rt_ok(rt_backend_open("cpu", &(rt_backend_opts){.threads = 1}, &cpu));
    train_many(cpu, RT_CAPTURE_ON, got, other);
    ck_assert(distance(got, want, PARAMS) < 1e-5 && distance(other, loss, STEPS) < 1e-5);
    rt_ok(rt_backend_open("ref", NULL, &ref));
    train_many(ref, RT_CAPTURE_ON, got, other);
    ck_assert(distance(got, want, PARAMS) < 1e-6 && distance(other, loss, STEPS) < 1e-6);
    rt_backend_close(ref);
    rt_backend_close(cpu);
    rt_backend_close(be);
    ck_assert_int_eq(rt_host_cuda_live(), 0);
}
END_TEST

/* Engine 20 of the stand-in, taken in tf32 outside strict mode, gives other bits each time: verify must say so. */
START_TEST(verify_catches_a_difference)
{
    net n;
    rt_backend *be = open_with((rt_backend_opts){.precision = RT_PRECISION_TF32, .capture = RT_CAPTURE_VERIFY});
    rt_ok(net_open(be, RT_CAPTURE_DEFAULT, &n));
    rt_ok(net_begin(&n));
    rt_ok(write_step(&n, 0));
    rt_fails(rt_exec_run(n.ex), RT_ERR_INTERNAL);
    ck_assert_msg(strncmp(rt_error_what(), "capture: output 0 f32[268] differs at element ", 44) == 0, "%s", rt_error_what());
    ck_assert_ptr_nonnull(strstr(rt_error_remedy(), "backend.capture=off"));
    net_close(&n);
    rt_backend_close(be);
    ck_assert_int_eq(rt_host_cuda_live(), 0);
}
END_TEST

/* More than all slots of the staging ring hold, several times round. */
START_TEST(large_uploads)
{
    enum { COUNT = (3 * RT_CUDA_SLOTS * RT_CUDA_SLOT_BYTES + 40) / 4 };
    rt_backend *be = open_with((rt_backend_opts){0});
    rt_tensor *t = NULL;
    float *f = malloc(COUNT * sizeof *f), *want = malloc(COUNT * sizeof *want);
    rt_ok(rt_tensor_create(be, RT_SHAPE(RT_F32, COUNT), &t));
    for (int turn = 0; turn < 2; turn++) {
        for (int i = 0; i < COUNT; i++) want[i] = f[i] = (float)(i ^ turn);
        rt_ok(rt_tensor_write(t, f, COUNT * sizeof *f));
        for (int i = 0; i < COUNT; i++) f[i] = -1; /* the caller's again */
        float *got = read_all(t);
        ck_assert_int_eq(memcmp(got, want, COUNT * sizeof *got), 0);
        free(got);
    }
    free(f);
    free(want);
    rt_tensor_destroy(t);
    rt_backend_close(be);
    ck_assert_int_eq(rt_host_cuda_live(), 0);
}
END_TEST

/* --- failures ----------------------------------------------------------------------------------------------------------- */
static rt_status whole_life(rt_precision p, rt_capture capture)
{
    rt_status st = RT_OK;
    rt_backend *be = NULL;
    net n = {0};
    float theta[PARAMS];
    RT_TRY(rt_backend_open("cuda", &(rt_backend_opts){.precision = p, .strict = capture == RT_CAPTURE_VERIFY, .capture = capture}, &be));
    RT_TRY(net_open(be, RT_CAPTURE_DEFAULT, &n));
    RT_TRY(net_begin(&n));
    for (int s = 0; s < 2; s++) {
        RT_TRY(write_step(&n, s));
        RT_TRY(rt_exec_run(n.ex));
    }
    RT_TRY(rt_tensor_read(n.theta, theta, sizeof theta));
out:
    net_close(&n);
    rt_backend_close(be);
    return st;
}

/* Call number i of CUDA, cuDNN or cuBLASLt fails, for every i: an error with a message, nothing leaked, nothing hung. */
static void every_call_fails(rt_precision p, rt_capture capture, cudaError_t with, rt_status as)
{
    rt_host_cuda_machine(1, 9);
    int i = 1, forgiven = 0;
    for (bool passed = false; !passed; i++) {
        const int before = rt_host_cuda_calls();
        rt_host_cuda_fail_at(i, with);
        rt_status st = whole_life(p, capture);
        passed = st == RT_OK && rt_host_cuda_calls() - before < i;
        rt_host_cuda_fail_at(0, cudaSuccess);
        ck_assert_msg(rt_host_cuda_live() == 0, "call %d of %s: %d things left", i, rt_precision_name(p), rt_host_cuda_live());
        if (st == RT_OK) {
            forgiven += !passed; /* a heuristic or probe whose failure only means "take another" */
            continue;
        }
        ck_assert_msg(st == as || st == RT_ERR_UNSUPPORTED, "call %d: %s: %s", i, rt_status_name(st), rt_error_what());
        ck_assert_int_ne(*rt_error_what(), 0);
    }
    ck_assert_msg(i > 300, "only %d calls", i);
    ck_assert_msg(forgiven <= 2, "%d failures went unseen", forgiven);
}

START_TEST(out_of_memory_everywhere) { every_call_fails(RT_PRECISION_F32, RT_CAPTURE_ON, cudaErrorMemoryAllocation, RT_ERR_NOMEM); }
END_TEST
START_TEST(device_errors_everywhere) { every_call_fails(RT_PRECISION_BF16, RT_CAPTURE_VERIFY, cudaErrorLaunchFailure, RT_ERR_DEVICE); }
END_TEST

START_TEST(errors_name_the_op)
{
    net n;
    rt_backend *be = open_with((rt_backend_opts){.strict = true});
    rt_ok(net_open(be, RT_CAPTURE_OFF, &n));
    rt_ok(net_begin(&n));
    rt_ok(write_step(&n, 0));
    bool conv = false, product = false;
    for (int i = 1; i < 200 && !(conv && product); i++) {
        rt_host_cuda_fail_at(i, cudaErrorLaunchFailure);
        rt_status st = rt_exec_run(n.ex);
        rt_host_cuda_fail_at(0, cudaSuccess);
        if (st == RT_OK) continue;
        if (strncmp(rt_error_what(), "cudnnBackendExecute", 19) == 0)
            conv = conv || strstr(rt_error_where(), "conv2d(f32[3,4,4,2], f32[4,2,3,3], f32[4]) -> f32[3,4,4,4]");
        if (strncmp(rt_error_what(), "cublasLtMatmul", 14) == 0)
            product = product || strstr(rt_error_where(), "matmul(f32[3,64], f32[64,3]) -> f32[3,3]");
    }
    ck_assert(conv && product);
    net_close(&n);
    rt_backend_close(be);
    ck_assert_int_eq(rt_host_cuda_live(), 0);
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
    {"captured steps", captured_steps},
    {"many steps as one", many_steps_as_one},
    {"verify catches a difference", verify_catches_a_difference},
    {"large uploads", large_uploads},
    {"out of memory everywhere", out_of_memory_everywhere},
    {"device errors everywhere", device_errors_everywhere},
    {"errors name the op", errors_name_the_op},
};
RT_SUITE("cuda.mock", tests)
