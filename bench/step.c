/* Training step of ConvNet-D through the whole engine: forward, loss, gradient of theta, SGD with momentum, in place.
 *
 *     bench_step [batch] [runs] [threads] [--profile] [--strict] [--pixels]
 *
 * One JSON line: milliseconds per step (median, min, max), images per second, GF/s by the op rows, and both probes before
 * and after, so that a disturbed run shows. --pixels also asks for the gradient of the images. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#include "base/rng.h"
#include "nn/nn.h"
#include "optim/optim.h"
#include "retort/exec.h"

static rt_tensor *tensor(rt_backend *be, rt_shape s, const float *data)
{
    rt_tensor *t = NULL;
    TRY(rt_tensor_create(be, s, &t));
    if (data) TRY(rt_tensor_write(t, data, (size_t)rt_shape_count(&s) * sizeof *data));
    return t;
}

int main(int argc, char **argv)
{
    int number[3] = {256, 15, 0}, n_number = 0;
    bool profile = false, strict = false, pixels = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--profile") == 0) profile = true;
        else if (strcmp(argv[i], "--strict") == 0) strict = true;
        else if (strcmp(argv[i], "--pixels") == 0) pixels = true;
        else if (n_number < 3) number[n_number++] = atoi(argv[i]);
    }
    const int batch = number[0], runs = number[1] > 0 ? number[1] : 1;
    rt_backend *be;
    TRY(rt_backend_open("cpu", &(rt_backend_opts){.threads = number[2], .strict = strict}, &be));

    rt_model *m;
    TRY(rt_model_create(&(rt_model_desc){.arch = "convnet", .norm = RT_MODEL_NORM_INSTANCE, .size = 32, .channels = 3,
                                         .classes = 10}, &m));
    const int64_t P = rt_model_n_params(m), pixel_count = (int64_t)batch * 32 * 32 * 3;
    float *host = calloc((size_t)(pixel_count > P ? pixel_count : P), sizeof *host);
    rt_model_init(m, 1, 0, host, NULL);
    rt_graph *g;
    TRY(rt_graph_create(&g));
    rt_shape xs = RT_SHAPE(RT_F32, batch, 32, 32, 3), ps = RT_SHAPE(RT_F32, P), qs = RT_SHAPE(RT_F32, batch, 10);
    rt_val x = rt_input(g, "x", xs), q = rt_input(g, "q", qs), theta = rt_input(g, "theta", ps), v = rt_input(g, "v", ps);
    rt_val lr = rt_input(g, "lr", RT_SCALAR_F32), grad, v_new, gx = {0};
    rt_forward f;
    TRY(rt_model_forward(m, g, x, theta, (rt_val){0}, 1, &f));
    rt_val loss = rt_mean_all(g, rt_softmax_ce(g, f.logits, q));
    TRY(rt_model_grad(m, g, loss, theta, &grad));
    if (pixels) TRY(rt_grad(g, loss, &x, 1, &gx));
    rt_val theta_new = rt_sgd_step(g, theta, v, grad, lr, rt_scalar(g, 5e-4), 0.9, false, &v_new);
    TRY(rt_graph_status(g));

    rt_tensor *tt = tensor(be, ps, host), *tv = tensor(be, ps, NULL), *tloss = tensor(be, RT_SCALAR_F32, NULL);
    for (int64_t i = 0; i < pixel_count; i++) host[i] = (float)((double)(i * 2654435761u % 1000003u) / 500001.5 - 1);
    rt_tensor *tx = tensor(be, xs, host);
    for (int i = 0; i < batch * 10; i++) host[i] = i % 10 == i / 10 % 10;
    rt_tensor *tq = tensor(be, qs, host), *tlr = tensor(be, RT_SCALAR_F32, (float[]){0.01f});
    rt_bind in[] = {{x, tx}, {q, tq}, {theta, tt}, {v, tv}, {lr, tlr}};
    rt_bind out[] = {{theta_new, tt}, {v_new, tv}, {loss, tloss}, {gx, pixels ? tensor(be, xs, NULL) : NULL}};
    rt_exec *ex;
    TRY(rt_exec_prepare(be, g, in, 5, out, pixels ? 4 : 3, &(rt_exec_opts){.profile = profile}, &ex));
    rt_graph_destroy(g);

    rt_exec_stats s;
    rt_exec_get_stats(ex, &s);
    double *ms = calloc((size_t)runs, sizeof *ms), cpu = 0, fma = probe_fma(), gemm = probe_sgemm();
    TRY(rt_exec_run(ex));
    for (int r = 0; r < runs; r++) {
        double t = probe_now(), c = 1e3 * bench_cpu();
        TRY(rt_exec_run(ex));
        ms[r] = 1e3 * (probe_now() - t);
        c = 1e3 * bench_cpu() - c;
        cpu = r == 0 || c < cpu ? c : cpu;
    }
    double fma2 = probe_fma(), gemm2 = probe_sgemm(), peak = fma > fma2 ? fma : fma2, top = gemm > gemm2 ? gemm : gemm2;
    float last;
    TRY(rt_tensor_read(tloss, &last, sizeof last));
    if (profile) TRY(rt_exec_profile_dump(ex, stderr));
    qsort(ms, (size_t)runs, sizeof *ms, ascending);
    double rate = 1e-6 * s.flops / ms[0], img = 1e3 * batch / ms[0];
    printf("{\"workload\":\"convnet3 step%s\",\"batch\":%d,\"engine\":\"%s\",\"median_ms\":%.2f,\"min_ms\":%.2f,"
           "\"max_ms\":%.2f,\"cpu_ms\":%.2f,\"img_s\":%.0f,\"gflops\":%.1f,\"of_fma_peak\":%.3f,\"img_s_per_sgemm_gf\":%.3f,"
           "\"fma_gf\":[%.0f,%.0f],\"sgemm_gf\":[%.0f,%.0f],\"arena_mb\":%.1f,\"bound_mb\":%.1f,\"loss\":%.4f}\n",
           pixels ? " + pixel gradient" : "", batch, rt_backend_describe(be), ms[runs / 2], ms[0], ms[runs - 1], cpu, img, rate,
           rate / peak, img / top, fma, fma2, gemm, gemm2, 1e-6 * (double)s.arena_bytes, 1e-6 * (double)s.bound_bytes,
           (double)last);
    rt_exec_destroy(ex);
    free(ms);
    free(host);
    rt_tensor *all[] = {tt, tv, tloss, tx, tq, tlr, out[3].t};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) rt_tensor_destroy(all[i]);
    rt_model_destroy(m);
    rt_backend_close(be);
    return 0;
}
