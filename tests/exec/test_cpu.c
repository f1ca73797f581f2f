/* The cpu backend as a whole: a training step against ref, thread counts, allocations, memory, choices of implementation. */
#include "../support/suite.h"

#include <unistd.h>

#include "backend/cpu/conv.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "exec/plan.h"
#include "nn/nn.h"
#include "retort/exec.h"

/* --- a ConvNet-3 training step ------------------------------------------------------------------------------------------ */
typedef struct step {
    rt_backend *be;
    rt_exec *ex;
    rt_tensor *x, *q, *theta, *v, *lr, *loss, *grad;
    int64_t n_params;
} step;

static float wave(int64_t i, int64_t k) { return (float)((double)(i * k % 1009) / 504.5 - 1); }

static void fill(rt_tensor *t, int64_t k)
{
    int64_t n = rt_shape_count(rt_tensor_shape(t));
    float *host = malloc((size_t)n * sizeof *host);
    for (int64_t i = 0; i < n; i++) host[i] = wave(i + 1, k);
    rt_ok(rt_tensor_write(t, host, (size_t)n * sizeof *host));
    free(host);
}

static void open_step(step *s, const char *backend, int threads, int batch, int width, bool want_grad)
{
    rt_model *m;
    rt_graph *g;
    rt_forward f;
    rt_val grad, v_new;
    rt_ok(rt_backend_open(backend, &(rt_backend_opts){.threads = threads, .strict = true}, &s->be));
    rt_ok(rt_model_create(&(rt_model_desc){.arch = "convnet", .norm = RT_MODEL_NORM_INSTANCE, .width = width, .size = 32,
                                           .channels = 3, .classes = 10}, &m));
    int64_t P = s->n_params = rt_model_n_params(m);
    rt_shape xs = RT_SHAPE(RT_F32, batch, 32, 32, 3), qs = RT_SHAPE(RT_F32, batch, 10), ps = RT_SHAPE(RT_F32, P);
    rt_ok(rt_graph_create(&g));
    rt_val x = rt_input(g, "x", xs), q = rt_input(g, "q", qs), th = rt_input(g, "theta", ps), v = rt_input(g, "v", ps);
    rt_val lr = rt_input(g, "lr", RT_SCALAR_F32);
    rt_ok(rt_model_forward(m, g, x, th, (rt_val){0}, 1, &f));
    rt_val loss = rt_mean_all(g, rt_softmax_ce(g, f.logits, q));
    rt_ok(rt_model_grad(m, g, loss, th, &grad));
    rt_val th_new = rt_sgd_step(g, th, v, grad, lr, rt_scalar(g, 5e-4), 0.9, false, &v_new);
    rt_ok(rt_tensor_create(s->be, xs, &s->x));
    rt_ok(rt_tensor_create(s->be, qs, &s->q));
    rt_ok(rt_tensor_create(s->be, ps, &s->theta));
    rt_ok(rt_tensor_create(s->be, ps, &s->v));
    rt_ok(rt_tensor_create(s->be, ps, &s->grad));
    rt_ok(rt_tensor_create(s->be, RT_SCALAR_F32, &s->lr));
    rt_ok(rt_tensor_create(s->be, RT_SCALAR_F32, &s->loss));
    rt_ok(rt_exec_prepare(s->be, g, (rt_bind[]){{x, s->x}, {q, s->q}, {th, s->theta}, {v, s->v}, {lr, s->lr}}, 5,
                          (rt_bind[]){{th_new, s->theta}, {v_new, s->v}, {loss, s->loss}, {grad, s->grad}},
                          want_grad ? 4 : 3, NULL, &s->ex));
    rt_graph_destroy(g);
    float *host = calloc((size_t)(P > batch * 10 ? P : batch * 10), sizeof *host);
    rt_model_init(m, 7, 0, host, NULL);
    rt_ok(rt_tensor_write(s->theta, host, (size_t)P * sizeof *host));
    for (int i = 0; i < batch * 10; i++) host[i] = i % 10 == i / 10 % 10;
    rt_ok(rt_tensor_write(s->q, host, (size_t)batch * 10 * sizeof *host));
    rt_ok(rt_tensor_write(s->lr, (float[]){0.1f}, sizeof(float)));
    fill(s->x, 7919);
    free(host);
    rt_model_destroy(m);
}

static void close_step(step *s)
{
    rt_exec_destroy(s->ex);
    rt_tensor *all[] = {s->x, s->q, s->theta, s->v, s->lr, s->loss, s->grad};
    for (int i = 0; i < 7; i++) rt_tensor_destroy(all[i]);
    rt_backend_close(s->be);
}

static double *read_all(const rt_tensor *t)
{
    int64_t n = rt_shape_count(rt_tensor_shape(t));
    double *d = malloc((size_t)n * sizeof *d);
    rt_ok(rt_tensor_read_f64(t, d, (size_t)n));
    return d;
}

/* |a - b| / |b| in the Euclidean norm; NaN fails every comparison. */
static double relative(const double *a, const double *b, int64_t n)
{
    double diff = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        diff += (a[i] - b[i]) * (a[i] - b[i]);
        norm += b[i] * b[i];
    }
    return sqrt(diff / norm);
}

START_TEST(training_step_agrees_with_ref)
{
    step ref, cpu;
    open_step(&ref, "ref", 1, 2, 32, true);
    open_step(&cpu, "cpu", 2, 2, 32, true);
    rt_ok(rt_exec_run(ref.ex));
    rt_ok(rt_exec_run(cpu.ex));
    double *a = read_all(cpu.grad), *b = read_all(ref.grad), *c = read_all(cpu.theta), *d = read_all(ref.theta);
    double g = relative(a, b, ref.n_params), t = relative(c, d, ref.n_params);
    ck_assert_msg(g < 1e-5, "gradient differs by %.3g", g);
    ck_assert_msg(t < 1e-5, "theta differs by %.3g", t);
    free(a);
    free(b);
    free(c);
    free(d);
    close_step(&ref);
    close_step(&cpu);
}
END_TEST

START_TEST(thread_counts_agree)
{
    double *first = NULL;
    for (int threads = 1; threads <= 4; threads *= 2) {
        step s;
        open_step(&s, "cpu", threads, 8, 32, false);
        rt_ok(rt_exec_run(s.ex));
        double *theta = read_all(s.theta);
        if (first) {
            double r = relative(theta, first, s.n_params);
            ck_assert_msg(r < 1e-5, "%d threads differ by %.3g", threads, r);
            free(theta);
        } else {
            first = theta;
        }
        close_step(&s);
    }
    free(first);
}
END_TEST

START_TEST(two_runs_give_the_same_bytes)
{
    double *first = NULL;
    for (int r = 0; r < 2; r++) {
        step s;
        open_step(&s, "cpu", 2, 8, 32, false);
        for (int k = 0; k < 3; k++) rt_ok(rt_exec_run(s.ex));
        double *theta = read_all(s.theta);
        if (first) ck_assert_mem_eq(first, theta, (size_t)s.n_params * sizeof *first);
        free(first);
        first = theta;
        close_step(&s);
    }
    free(first);
}
END_TEST

START_TEST(run_does_not_allocate)
{
    step s;
    open_step(&s, "cpu", 2, 8, 32, false);
    uint64_t before = rt_alloc_count();
    for (int k = 0; k < 3; k++) rt_ok(rt_exec_run(s.ex));
    ck_assert_uint_eq(rt_alloc_count(), before);
    close_step(&s);
}
END_TEST

/* Resident bytes of this process from /proc, or 0. */
static size_t status_bytes(const char *key)
{
    char line[256];
    size_t kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) == 0) sscanf(line + strlen(key), ": %zu", &kib);
    if (f) fclose(f);
    return kib * 1024;
}

START_TEST(memory_is_as_planned)
{
#if defined(__SANITIZE_ADDRESS__)
    fprintf(stderr, "memory is as planned: skipped, the sanitizer's own memory is in the way\n");
    return;
#endif
    step s;
    open_step(&s, "cpu", 2, 4, 128, false); /* lets oneDNN generate its code and load its pages */
    rt_ok(rt_exec_run(s.ex));
    close_step(&s);
    FILE *f = fopen("/proc/self/clear_refs", "w"); /* resets the high-water mark */
    if (!f || fputs("5", f) < 0) {
        if (f) fclose(f);
        return;
    }
    fclose(f);
    size_t base = status_bytes("VmRSS");
    open_step(&s, "cpu", 2, 256, 128, false);
    rt_ok(rt_exec_run(s.ex));
    rt_exec_stats st;
    rt_exec_get_stats(s.ex, &st);
    size_t grown = status_bytes("VmHWM") - base, planned = st.arena_bytes + st.bound_bytes;
    ck_assert_msg(fabs((double)grown - (double)planned) < 0.02 * (double)planned, "planned %zu bytes, the process grew by %zu",
                  planned, grown);
    close_step(&s);
}
END_TEST

/* --- implementations ------------------------------------------------------------------------------------------------------ */
typedef struct shipped {
    const char *arch;
    int depth, size, batch;
} shipped;

static void check_model(rt_backend *be, const shipped *k)
{
    rt_model *m;
    rt_graph *g;
    rt_forward f;
    rt_val grad;
    bool resnet = k->arch[0] == 'r';
    rt_model_desc d = {.depth = k->depth, .norm = RT_MODEL_NORM_INSTANCE, .size = k->size, .channels = 3, .classes = 10,
                       .small_stem = k->size <= 64};
    snprintf(d.arch, sizeof d.arch, "%s", k->arch);
    rt_ok(rt_model_create(&d, &m));
    rt_ok(rt_graph_create(&g));
    rt_val x = rt_input(g, "x", RT_SHAPE(RT_F32, k->batch, k->size, k->size, 3)), gx;
    rt_val th = rt_input(g, "theta", RT_SHAPE(RT_F32, rt_model_n_params(m)));
    rt_val buf = resnet ? rt_input(g, "buffers", RT_SHAPE(RT_F32, rt_model_n_buffers(m))) : (rt_val){0};
    rt_ok(rt_model_forward(m, g, x, th, buf, 1, &f));
    rt_val loss = rt_sum_all(g, f.logits);
    rt_ok(rt_model_grad(m, g, loss, th, &grad));
    rt_ok(rt_grad(g, loss, &x, 1, &gx));
    for (size_t i = 0; i < rt_graph_node_count(g); i++) {
        const rt_node *n = rt_graph_node(g, i);
        char text[512];
        if (n->op != RT_OP_CONV2D && n->op != RT_OP_CONV2D_DX && n->op != RT_OP_CONV2D_DW) continue;
        rt_prepared p = {.node = n, .plan_only = true};
        rt_ok(be->vt->kernels[n->op].prepare(be, &p));
        ck_assert_msg(strncmp(p.impl, "ref", 3) != 0, "%s runs as %s", rt_plan_node_str(n, text, sizeof text), p.impl);
        be->vt->kernels[n->op].release(&p);
    }
    rt_graph_destroy(g);
    rt_model_destroy(m);
}

START_TEST(no_shipped_shape_runs_reference_code)
{
    static const shipped list[] = {
        {"convnet", 3, 32, 1},    {"convnet", 3, 32, 10},  {"convnet", 3, 32, 256}, {"convnet", 4, 64, 10},
        {"convnet", 4, 64, 256},  {"convnet", 5, 128, 10}, {"resnet18", 0, 64, 10}, {"resnet18", 0, 224, 10},
        {"resnet18", 0, 32, 256}, {"resnet50", 0, 64, 1},  {"resnet50", 0, 224, 10},
    };
    rt_backend *be;
    rt_ok(rt_backend_open("cpu", &(rt_backend_opts){.threads = 2, .strict = true}, &be));
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) check_model(be, &list[i]);
    rt_backend_close(be);
}
END_TEST

/* Prepares one convolution with the cache at path; returns the implementation's name. */
static rt_status impl_of(const char *path, bool strict, char *impl, size_t len)
{
    rt_status st = RT_OK;
    rt_backend *be = NULL;
    rt_graph *g = NULL;
    rt_ok(rt_backend_open("cpu", &(rt_backend_opts){.threads = 1, .strict = strict, .algo_cache = path}, &be));
    rt_ok(rt_graph_create(&g));
    rt_val y = rt_conv2d(g, rt_input(g, "x", RT_SHAPE(RT_F32, 2, 8, 8, 32)),
                         rt_input(g, "w", RT_SHAPE(RT_F32, 32, 32, 3, 3)), (rt_val){0}, (rt_conv_attr){{1, 1}, {1, 1}, 1, 0});
    const rt_node *n = rt_val_node(g, y, NULL);
    rt_prepared p = {.node = n};
    st = be->vt->kernels[n->op].prepare(be, &p);
    if (st == RT_OK) {
        snprintf(impl, len, "%s", p.impl);
        be->vt->kernels[n->op].release(&p);
    }
    rt_graph_destroy(g);
    rt_backend_close(be);
    return st;
}

START_TEST(choices_are_kept)
{
    char path[64], first[64], second[64], *text, *at;
    void *data;
    size_t size;
    snprintf(path, sizeof path, "/tmp/retort-algo-%ld.jsonl", (long)getpid());
    rt_ok(impl_of(path, true, first, sizeof first));
    rt_ok(rt_fs_read(path, 1 << 20, &data, &size));
    text = data;
    ck_assert_ptr_nonnull(strstr(text, "conv2d n2 h8 w8 c32 k32 r3 s3"));
    /* What the file says decides, not the clock. */
    at = strstr(text, "\"choice\":\"");
    ck_assert_ptr_nonnull(at);
    at[10] = 0;
    for (int k = 0; k < 2; k++) {
        char *forged = rt_asprintf("%s%s\"}\n", text, k ? "winograd" : "blocked");
        rt_ok(rt_fs_write_atomic(path, forged, strlen(forged)));
        rt_ok(impl_of(path, k == 0, second, sizeof second));
        ck_assert_str_ne(second, "");
        rt_free(forged);
        if (strstr(first, "avx512")) ck_assert_int_eq(strstr(second, "wino") != NULL, k);
    }
    rt_ok(rt_fs_write_atomic(path, "{\"key\": 3}\n", 11));
    rt_fails(impl_of(path, true, second, sizeof second), RT_ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(rt_error_what(), ":1:"));
    unlink(path);
    rt_free(data);
}
END_TEST

/* --- every way of convolving against the definition ----------------------------------------------------------------------- */
static rt_status way_0(rt_cpu *be, const rt_conv_dims *d, rt_conv_plan *out)
{
    return rt_conv_onednn(be, d, RT_CONV_NHWC, out);
}
static rt_status way_1(rt_cpu *be, const rt_conv_dims *d, rt_conv_plan *out)
{
    return rt_conv_onednn(be, d, RT_CONV_BLOCKED, out);
}
static rt_status way_2(rt_cpu *be, const rt_conv_dims *d, rt_conv_plan *out)
{
    return rt_conv_onednn(be, d, RT_CONV_WINOGRAD, out);
}
enum { WAYS = 5 };
static const rt_conv_make make[WAYS] = {way_0, way_1, way_2, rt_conv_rgb, rt_conv_flip};

/* way / WAYS: networks in turn, side by side. */
static rt_status make_way(rt_cpu *be, const rt_node *n, int way, rt_conv_plan *out)
{
    const rt_conv_dims d = rt_conv_dims_of(n);
    const int32_t nets = ((const rt_conv2d_attr *)n->attr)->conv.nets;
    if (nets < 2) return make[way % WAYS](be, &d, out);
    return rt_conv_nets(be, make[way % WAYS], &d, nets, way >= WAYS, out);
}

/* Runs one node every way; returns how many ways there were. */
static int check_ways(rt_backend *be, const rt_node *n)
{
    const int rows = ((const rt_conv2d_attr *)n->attr)->conv.nets > 1 ? 2 : 1;
    double *in64[3] = {0}, *out64[2] = {0};
    float *in[3] = {0}, *out[2] = {0};
    int ways = 0;
    for (int i = 0; i < n->n_in; i++) {
        int64_t count = rt_shape_count(&n->in_shape[i]);
        in64[i] = malloc((size_t)count * sizeof(double));
        in[i] = rt_malloc((size_t)count * sizeof(float));
        for (int64_t k = 0; k < count; k++) in64[i][k] = in[i][k] = wave(k + 1, 7919 + 104729 * i);
    }
    for (int o = 0; o < n->n_out; o++) {
        out64[o] = malloc((size_t)rt_shape_count(&n->out_shape[o]) * sizeof(double));
        out[o] = rt_malloc((size_t)rt_shape_count(&n->out_shape[o]) * sizeof(float));
    }
    rt_ok(rt_op_row_of(n->op)->ref(n, &(rt_ref_io){(const void *const *)in64, (void *const *)out64}));
    for (int way = 0; way < rows * WAYS; way++) {
        rt_conv_plan p = {0};
        char text[512];
        rt_status st = make_way((rt_cpu *)be, n, way, &p);
        if (st == RT_ERR_UNSUPPORTED) continue;
        rt_ok(st);
        void *scratch = rt_malloc(p.scratch_bytes + 1);
        memset(scratch, 0xff, p.scratch_bytes);
        for (int o = 0; o < n->n_out; o++) memset(out[o], 0xff, (size_t)rt_shape_count(&n->out_shape[o]) * sizeof(float));
        rt_ok(p.run(&p, &(rt_kernel_io){(const void *const *)in, (void *const *)out, scratch}));
        for (int o = 0; o < n->n_out; o++) {
            int64_t count = rt_shape_count(&n->out_shape[o]);
            double *got = malloc((size_t)count * sizeof *got);
            for (int64_t k = 0; k < count; k++) got[k] = (double)out[o][k];
            double r = relative(got, out64[o], count);
            ck_assert_msg(r < 5e-6, "%s as %s, output %d, differs by %.3g", rt_plan_node_str(n, text, sizeof text), p.impl,
                          o, r);
            free(got);
        }
        rt_free(scratch);
        p.release(p.state);
        ways++;
    }
    for (int i = 0; i < 3; i++) {
        free(in64[i]);
        rt_free(in[i]);
    }
    for (int o = 0; o < 2; o++) {
        free(out64[o]);
        rt_free(out[o]);
    }
    return ways;
}

START_TEST(every_way_agrees_with_the_definition)
{
    static const struct {
        int64_t n, h, w, c, k, window;
        rt_conv_attr a;
    } list[] = {
        {2, 7, 13, 3, 32, 3, {{1, 1}, {1, 1}, 1, 0}},   {3, 8, 8, 32, 32, 3, {{1, 1}, {1, 1}, 1, 0}},
        {70, 4, 4, 3, 32, 3, {{1, 1}, {1, 1}, 1, 0}},   {1, 9, 8, 32, 64, 3, {{1, 1}, {1, 1}, 1, 0}},
        {2, 14, 14, 3, 64, 7, {{2, 2}, {3, 3}, 1, 0}},  {2, 8, 8, 32, 32, 3, {{2, 2}, {1, 1}, 1, 0}},
        {2, 7, 7, 16, 32, 1, {{2, 2}, {0, 0}, 1, 0}},   {2, 6, 6, 32, 32, 3, {{1, 1}, {1, 1}, 32, 0}},
        {9, 8, 8, 32, 32, 3, {{1, 1}, {1, 1}, 1, 3}}, {6, 9, 8, 3, 32, 3, {{1, 1}, {1, 1}, 1, 3}},
        {3, 7, 7, 16, 32, 1, {{2, 2}, {0, 0}, 1, 3}}, {4, 6, 6, 32, 32, 3, {{1, 1}, {1, 1}, 32, 2}},
    };
    rt_backend *be;
    rt_ok(rt_backend_open("cpu", &(rt_backend_opts){.threads = 2, .strict = true}, &be));
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        rt_graph *g;
        const int64_t k = list[i].k * rt_nets(list[i].a.nets);
        rt_ok(rt_graph_create(&g));
        rt_val x = rt_input(g, "x", RT_SHAPE(RT_F32, list[i].n, list[i].h, list[i].w, list[i].c));
        rt_val w = rt_input(g, "w", RT_SHAPE(RT_F32, k, list[i].c / list[i].a.groups, list[i].window, list[i].window));
        rt_val b = rt_input(g, "b", RT_SHAPE(RT_F32, k));
        rt_val y = rt_conv2d(g, x, w, b, list[i].a), gy = rt_input(g, "gy", *rt_val_shape(g, y)), grad[3];
        rt_ok(rt_vjp(g, &y, &gy, 1, (rt_val[]){x, w, b}, 3, grad));
        int nodes = 0;
        for (size_t at = 0; at < rt_graph_node_count(g); at++) {
            const rt_node *n = rt_graph_node(g, at);
            if (n->op != RT_OP_CONV2D && n->op != RT_OP_CONV2D_DX && n->op != RT_OP_CONV2D_DW) continue;
            ck_assert_int_ge(check_ways(be, n), 2);
            nodes++;
        }
        ck_assert_int_eq(nodes, 3);
        rt_graph_destroy(g);
    }
    rt_backend_close(be);
}
END_TEST

static const rt_test tests[] = {
    {"every way agrees with the definition", every_way_agrees_with_the_definition},
    {"training step agrees with ref", training_step_agrees_with_ref},
    {"thread counts agree", thread_counts_agree},
    {"two runs give the same bytes", two_runs_give_the_same_bytes},
    {"run does not allocate", run_does_not_allocate},
    {"memory is as planned", memory_is_as_planned},
    {"no shipped shape runs reference code", no_shipped_shape_runs_reference_code},
    {"choices are kept", choices_are_kept},
};
RT_SUITE("exec.cpu", tests)
