/* Second-order steps of ConvNet-3 (width 128, instance norm) through the whole engine.
 *
 *     bench_second_order WORKLOAD [batch] [runs] [threads] [steps] [--profile]
 *
 *     mtt        one outer iteration of trajectory matching over `steps` inner steps: unroll, loss, exact gradient of the
 *                pixels and of the step size; time per inner step
 *     tesla      the same without products with the Hessian
 *     dsa        gradient matching on one synthetic batch: parameter gradient, cosine distance to a given gradient,
 *                gradient of the pixels
 *     tangent    H v and K v of one batch by forward over reverse (rt_jvp)
 *     reverse    the same by differentiating <gradient, v>
 *
 * One JSON line: milliseconds (median, min, max), GF/s by the op rows, arena, both probes before and after. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#include "methods/distill/unroll.h"

typedef struct bench {
    rt_backend *be;
    rt_model *m;
    rt_unroll *u;
    rt_exec *ex;
    float *theta, *target;
    int64_t n_params;
    int batch, steps;
    bool profile;
} bench;

static float noise(int64_t i) { return (float)((double)(i * 2654435761u % 1000003u) / 500001.5 - 1); }

static rt_tensor *tensor(bench *b, rt_shape s, float scale)
{
    rt_tensor *t = NULL;
    const int64_t n = rt_shape_count(&s);
    float *host = malloc((size_t)n * sizeof *host);
    for (int64_t i = 0; i < n; i++) host[i] = scale * noise(i);
    TRY(rt_tensor_create(b->be, s, &t));
    TRY(rt_tensor_write(t, host, (size_t)n * sizeof *host));
    free(host);
    return t;
}

static void open_mtt(bench *b, bool hessian)
{
    TRY(rt_unroll_create(b->be, &(rt_unroll_desc){.model = b->m, .images = b->batch, .steps = b->steps, .hessian = hessian}, &b->u));
    const int64_t n = (int64_t)b->batch * 32 * 32 * 3;
    float *host = malloc((size_t)n * sizeof *host);
    for (int64_t i = 0; i < n; i++) host[i] = noise(i);
    TRY(rt_tensor_write(rt_unroll_images(b->u), host, (size_t)n * sizeof *host));
    for (int64_t i = 0; i < b->batch * 10; i++) host[i] = i % 10 == i / 10 % 10;
    TRY(rt_tensor_write(rt_unroll_labels(b->u), host, (size_t)b->batch * 10 * sizeof *host));
    TRY(rt_tensor_write(rt_unroll_step_size(b->u), &(float){0.01f}, sizeof(float)));
    free(host);
}

/* sum over the rows of every weight of 1 - cosine(given, gradient): matching.md 2.5. */
static rt_val distance(bench *b, rt_graph *g, rt_val grad, rt_val given)
{
    rt_val sum = {0};
    for (int32_t i = 0; i < rt_model_param_count(b->m); i++) {
        const rt_param *p = rt_model_param(b->m, i);
        if (p->shape.rank < 2) continue;
        const rt_shape rows = RT_SHAPE(RT_F32, p->shape.d[0], p->count / p->shape.d[0]);
        rt_val s = rt_view1d(g, grad, p->offset, rows), r = rt_view1d(g, given, p->offset, rows);
        rt_val dot = rt_sum(g, rt_mul(g, r, s), 2u, false);
        rt_val rr = rt_sqrt(g, rt_sum(g, rt_square(g, r), 2u, false)), ss = rt_sqrt(g, rt_sum(g, rt_square(g, s), 2u, false));
        rt_val d = rt_div(g, dot, rt_add_scalar(g, rt_mul(g, rr, ss), 1e-6));
        d = rt_sub(g, rt_scalar(g, (double)rows.d[0]), rt_sum_all(g, d));
        sum = sum.id ? rt_add(g, sum, d) : d;
    }
    return sum;
}

static void open_graph(bench *b, const char *work)
{
    rt_graph *g;
    const rt_shape xs = RT_SHAPE(RT_F32, b->batch, 32, 32, 3), ps = RT_SHAPE(RT_F32, b->n_params);
    const rt_shape qs = RT_SHAPE(RT_F32, b->batch, 10);
    TRY(rt_graph_create(&g));
    rt_val x = rt_input(g, "x", xs), q = rt_input(g, "q", qs), theta = rt_input(g, "theta", ps), v = rt_input(g, "v", ps);
    rt_tensor *tx = tensor(b, xs, 1), *tq = tensor(b, qs, 0), *tt = tensor(b, ps, 0), *tv = tensor(b, ps, 0.01f);
    TRY(rt_tensor_write(tt, b->theta, (size_t)b->n_params * sizeof(float)));
    float *hot = calloc((size_t)b->batch * 10, sizeof *hot);
    for (int64_t i = 0; i < b->batch * 10; i++) hot[i] = i % 10 == i / 10 % 10;
    TRY(rt_tensor_write(tq, hot, (size_t)b->batch * 10 * sizeof *hot));
    free(hot);
    rt_forward f;
    rt_val grad, gx, out[3] = {{0}};
    rt_tensor *to[3] = {tensor(b, xs, 0), tensor(b, ps, 0), tensor(b, RT_SCALAR_F32, 0)};
    int n_out = 3;
    TRY(rt_model_forward(b->m, g, x, theta, (rt_val){0}, 1, &f));
    rt_val loss = rt_mean_all(g, rt_softmax_ce(g, f.logits, q));
    TRY(rt_model_grad(b->m, g, loss, theta, &grad));
    if (strcmp(work, "tangent") == 0) {
        TRY(rt_grad(g, loss, &x, 1, &gx));
        TRY(rt_jvp(g, (rt_val[]){gx, grad, loss}, 3, &theta, &v, 1, out));
    } else if (strcmp(work, "reverse") == 0) {
        out[2] = rt_dot(g, grad, v);
        TRY(rt_grad(g, out[2], &x, 1, &out[0]));
        TRY(rt_model_grad(b->m, g, out[2], theta, &out[1]));
    } else {
        rt_val d = distance(b, g, grad, v), u; /* K u with u = d distance / d gradient */
        TRY(rt_grad(g, d, &grad, 1, &u));
        TRY(rt_grad(g, loss, &x, 1, &gx));
        TRY(rt_jvp(g, &gx, 1, &theta, &u, 1, out));
        out[1] = d;
        to[1] = to[2];
        n_out = 2;
    }
    TRY(rt_graph_status(g));
    rt_bind in[] = {{x, tx}, {q, tq}, {theta, tt}, {v, tv}}, bound[3];
    for (int i = 0; i < n_out; i++) bound[i] = (rt_bind){out[i], to[i]};
    TRY(rt_exec_prepare(b->be, g, in, 4, bound, n_out, &(rt_exec_opts){.profile = b->profile}, &b->ex));
    rt_graph_destroy(g);
}

/* Milliseconds of one step; *cpu receives its processor time. */
static double once(bench *b, double *cpu)
{
    rt_unroll_result r;
    const double t = probe_now(), c = 1e3 * bench_cpu();
    if (b->u)
        TRY(rt_unroll_run(b->u, b->theta, b->target, 0, &r));
    else
        TRY(rt_exec_run(b->ex));
    const double per = b->u ? b->steps : 1;
    *cpu = (1e3 * bench_cpu() - c) / per;
    return 1e3 * (probe_now() - t) / per;
}

int main(int argc, char **argv)
{
    const char *work = argc > 1 ? argv[1] : "mtt";
    int number[4] = {100, 10, 0, 3}, n_number = 0;
    bench b = {0};
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--profile") == 0) b.profile = true;
        else if (n_number < 4) number[n_number++] = atoi(argv[i]);
    }
    const int runs = number[1] > 0 ? number[1] : 1;
    b.batch = number[0];
    b.steps = number[3];
    TRY(rt_backend_open("cpu", &(rt_backend_opts){.threads = number[2], .strict = true}, &b.be));
    TRY(rt_model_create(&(rt_model_desc){.arch = "convnet", .norm = RT_MODEL_NORM_INSTANCE, .size = 32, .channels = 3,
                                         .classes = 10}, &b.m));
    b.n_params = rt_model_n_params(b.m);
    b.theta = malloc((size_t)b.n_params * sizeof(float));
    b.target = malloc((size_t)b.n_params * sizeof(float));
    rt_model_init(b.m, 1, 0, b.theta, NULL);
    for (int64_t i = 0; i < b.n_params; i++) b.target[i] = b.theta[i] + 0.01f * noise(i);
    if (strcmp(work, "mtt") == 0 || strcmp(work, "tesla") == 0) open_mtt(&b, strcmp(work, "mtt") == 0);
    else open_graph(&b, work);

    rt_exec_stats s = {0};
    rt_unroll_stats us = {0};
    if (b.ex) rt_exec_get_stats(b.ex, &s);
    if (b.u) rt_unroll_get_stats(b.u, &us);
    double *ms = calloc((size_t)runs, sizeof *ms), fma = probe_fma(), gemm = probe_sgemm();
    double cpu = 0, c;
    once(&b, &c);
    for (int r = 0; r < runs; r++) {
        ms[r] = once(&b, &c);
        cpu = r == 0 || c < cpu ? c : cpu;
    }
    double fma2 = probe_fma(), gemm2 = probe_sgemm();
    if (b.profile && b.ex) TRY(rt_exec_profile_dump(b.ex, stderr));
    qsort(ms, (size_t)runs, sizeof *ms, ascending);
    const double flops = b.u ? us.flops / b.steps : s.flops;
    printf("{\"workload\":\"%s\",\"batch\":%d,\"steps\":%d,\"engine\":\"%s\",\"median_ms\":%.2f,\"min_ms\":%.2f,"
           "\"max_ms\":%.2f,\"cpu_ms\":%.2f,\"gflop\":%.3f,\"gflops\":%.1f,\"fma_gf\":[%.0f,%.0f],\"sgemm_gf\":[%.0f,%.0f],\"arena_mb\":%.1f}\n",
           work, b.batch, b.u ? b.steps : 1, rt_backend_describe(b.be), ms[runs / 2], ms[0], ms[runs - 1], cpu,
           1e-9 * flops, 1e-6 * flops / ms[0], fma, fma2, gemm, gemm2, 1e-6 * (double)(b.u ? us.step_bytes : s.arena_bytes));
    rt_unroll_destroy(b.u);
    rt_exec_destroy(b.ex);
    rt_model_destroy(b.m);
    free(b.theta);
    free(b.target);
    free(ms);
    rt_backend_close(b.be);
    return 0;
}
