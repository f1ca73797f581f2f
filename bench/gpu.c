/* The workloads that a GPU is measured by, on any device:
 *
 *     bench_gpu [options] floor [SIZE]                    copy and matrix product: the floor of the others
 *     bench_gpu [options] step ARCH SIZE BATCH [NETS]     training steps: convnet, resnet18, resnet50
 *     bench_gpu [options] dm IPC [ITERATIONS]             iterations of distribution matching, CIFAR-10 sized
 *     bench_gpu [options] device                          says what the device is; exit 77 when there is none
 *
 *     --device cuda|cpu|ref   --precision f32|tf32|bf16   --runs N   --smoke: sizes for a machine without a GPU
 *
 * One JSON line each: median, minimum and maximum in milliseconds, seconds from the start of the process to the first result
 * (cold), rate, megabytes of the plan. Inputs are made on the host once and stay on the device. bench/gpu_torch.py does the same
 * work in PyTorch; bench/run_gpu.sh takes turns. */
#include "gpu.h"

#include <string.h>

#include "nn/nn.h"
#include "optim/optim.h"

void gpu_print(const gpu_bench *b, const char *fields, double *ms, int n, double cold_s, double unit, const char *per, double peak_mb)
{
    qsort(ms, (size_t)n, sizeof *ms, ascending);
    printf("{%s,\"engine\":\"retort\",\"device\":\"%s\",\"precision\":\"%s\",\"median_ms\":%.4f,\"min_ms\":%.4f,\"max_ms\":%.4f,"
           "\"cold_s\":%.3f,\"%s\":%.1f,\"peak_mb\":%.1f}\n",
           fields, rt_backend_describe(b->be), b->precision, ms[n / 2], ms[0], ms[n - 1], cold_s, per, 1e3 * unit / ms[n / 2], peak_mb);
    fflush(stdout);
}

/* One array for all host data: values in [-1, 1), or one-hot rows where hot > 0. */
static rt_tensor *tensor(const gpu_bench *b, rt_shape s, int hot)
{
    rt_tensor *t = NULL;
    const int64_t n = rt_shape_count(&s);
    float *host = malloc((size_t)n * sizeof *host);
    if (!host) exit(71);
    for (int64_t i = 0; i < n; i++)
        host[i] = hot ? (float)(i % hot == i / hot % hot) : (float)((double)(i * 2654435761u % 1000003u) / 500001.5 - 1);
    TRY(rt_tensor_create(b->be, s, &t));
    TRY(rt_tensor_write(t, host, (size_t)n * sizeof *host));
    free(host);
    return t;
}

/* Runs once to warm up, then b->runs times. Returns the milliseconds, owned; *cold: seconds to the end of the first. */
static double *timed(const gpu_bench *b, rt_exec *ex, double *cold)
{
    double *ms = calloc((size_t)b->runs, sizeof *ms);
    if (!ms) exit(71);
    TRY(rt_exec_run(ex));
    *cold = probe_now() - b->born;
    for (int i = 0; i < 3; i++) TRY(rt_exec_run(ex)); /* capture, clocks */
    for (int r = 0; r < b->runs; r++) {
        const double t = probe_now();
        TRY(rt_exec_run(ex));
        ms[r] = 1e3 * (probe_now() - t);
    }
    return ms;
}

void gpu_floor(const gpu_bench *b, int size)
{
    char fields[256];
    double cold;
    rt_graph *g;
    rt_exec *ex;
    /* Copy: 64 size^2 floats, read and written once. */
    const rt_shape flat = RT_SHAPE(RT_F32, 64 * (int64_t)size * size / 16), square = RT_SHAPE(RT_F32, size, size);
    TRY(rt_graph_create(&g));
    rt_val x = rt_input(g, "x", flat), y = rt_neg(g, x);
    rt_tensor *tx = tensor(b, flat, 0), *ty = tensor(b, flat, 0);
    TRY(rt_graph_status(g));
    TRY(rt_exec_prepare(b->be, g, &(rt_bind){x, tx}, 1, &(rt_bind){y, ty}, 1, NULL, &ex));
    double *ms = timed(b, ex, &cold);
    snprintf(fields, sizeof fields, "\"workload\":\"copy\",\"elements\":%lld", (long long)rt_shape_count(&flat));
    gpu_print(b, fields, ms, b->runs, cold, 8e-9 * (double)rt_shape_count(&flat), "GB_s", 8e-6 * (double)rt_shape_count(&flat));
    free(ms);
    rt_exec_destroy(ex);
    rt_graph_destroy(g);
    rt_tensor_destroy(tx);
    rt_tensor_destroy(ty);

    TRY(rt_graph_create(&g));
    rt_val a = rt_input(g, "a", square), c = rt_input(g, "c", square), p = rt_matmul(g, a, c, false, false);
    rt_tensor *ta = tensor(b, square, 0), *tc = tensor(b, square, 0), *tp = tensor(b, square, 0);
    TRY(rt_graph_status(g));
    TRY(rt_exec_prepare(b->be, g, (rt_bind[]){{a, ta}, {c, tc}}, 2, &(rt_bind){p, tp}, 1, NULL, &ex));
    ms = timed(b, ex, &cold);
    snprintf(fields, sizeof fields, "\"workload\":\"matmul\",\"size\":%d", size);
    gpu_print(b, fields, ms, b->runs, cold, 2e-12 * (double)size * size * size, "TFLOP_s", 12e-6 * (double)size * size);
    free(ms);
    rt_exec_destroy(ex);
    rt_graph_destroy(g);
    rt_tensor_destroy(ta);
    rt_tensor_destroy(tc);
    rt_tensor_destroy(tp);
}

void gpu_step(const gpu_bench *b, const char *arch, int size, int batch, int nets)
{
    const bool convnet = strcmp(arch, "convnet") == 0;
    const int classes = convnet ? 10 : 1000;
    rt_model *m;
    rt_model_desc desc = {.norm = convnet ? RT_MODEL_NORM_INSTANCE : RT_MODEL_NORM_BATCH, .size = size, .channels = 3, .classes = classes};
    snprintf(desc.arch, sizeof desc.arch, "%s", arch);
    TRY(rt_model_create(&desc, &m));
    const int64_t P = rt_model_n_params(m), B = rt_model_n_buffers(m), images = (int64_t)batch * nets;
    const rt_shape xs = RT_SHAPE(RT_F32, images, size, size, 3), qs = RT_SHAPE(RT_F32, images, classes);
    const rt_shape ps = nets > 1 ? RT_SHAPE(RT_F32, nets, P) : RT_SHAPE(RT_F32, P), flat = RT_SHAPE(RT_F32, nets * P);
    const rt_shape bs = nets > 1 ? RT_SHAPE(RT_F32, nets, B) : RT_SHAPE(RT_F32, B);
    rt_graph *g;
    TRY(rt_graph_create(&g));
    rt_val x = rt_input(g, "x", xs), q = rt_input(g, "q", qs), theta = rt_input(g, "theta", ps), v = rt_input(g, "v", flat);
    rt_val lr = rt_input(g, "lr", RT_SCALAR_F32), buffers = B ? rt_input(g, "buffers", bs) : (rt_val){0}, grad, v_new;
    rt_forward f;
    TRY(rt_model_forward(m, g, x, theta, buffers, 1, &f));
    /* The sum over networks of each one's mean. */
    rt_val loss = rt_mul_scalar(g, rt_mean_all(g, rt_softmax_ce(g, f.logits, q)), nets);
    TRY(rt_model_grad(m, g, loss, theta, &grad));
    rt_val theta_new = rt_sgd_step(g, rt_reshape(g, theta, flat), v, rt_reshape(g, grad, flat), lr, rt_scalar(g, 5e-4), 0.9, false, &v_new);
    theta_new = rt_reshape(g, theta_new, ps);
    TRY(rt_graph_status(g));

    rt_tensor *tx = tensor(b, xs, 0), *tq = tensor(b, qs, classes), *tt = tensor(b, ps, 0), *tv = NULL, *tl = NULL, *tlr = NULL, *tb = NULL;
    float *host = malloc((size_t)(nets * (P + B) + 1) * sizeof *host);
    if (!host) exit(71);
    for (int k = 0; k < nets; k++) rt_model_init(m, 1, (uint64_t)k, host + k * P, B ? host + nets * P + k * B : NULL);
    TRY(rt_tensor_write(tt, host, (size_t)(nets * P) * sizeof *host));
    TRY(rt_tensor_create(b->be, flat, &tv));
    TRY(rt_tensor_create(b->be, RT_SCALAR_F32, &tl));
    TRY(rt_tensor_create(b->be, RT_SCALAR_F32, &tlr));
    TRY(rt_tensor_write(tlr, (float[]){0.01f}, sizeof(float)));
    if (B) {
        TRY(rt_tensor_create(b->be, bs, &tb));
        TRY(rt_tensor_write(tb, host + nets * P, (size_t)(nets * B) * sizeof *host));
    }
    free(host);
    const rt_bind in[] = {{x, tx}, {q, tq}, {theta, tt}, {v, tv}, {lr, tlr}, {buffers, tb}};
    const rt_bind out[] = {{theta_new, tt}, {v_new, tv}, {loss, tl}, {f.buffers_new, tb}};
    rt_exec *ex;
    TRY(rt_exec_prepare(b->be, g, in, B ? 6 : 5, out, B ? 4 : 3, NULL, &ex));
    rt_graph_destroy(g);
    double cold;
    double *ms = timed(b, ex, &cold);
    float last;
    TRY(rt_tensor_read(tl, &last, sizeof last));
    if (!(last < 1e9f)) {
        fprintf(stderr, "%s: the loss became %g\n", arch, (double)last);
        exit(1);
    }
    rt_exec_stats s;
    rt_exec_get_stats(ex, &s);
    char fields[256];
    snprintf(fields, sizeof fields, "\"workload\":\"step\",\"arch\":\"%s\",\"size\":%d,\"batch\":%d,\"nets\":%d,\"gflop\":%.3f,\"kernels\":%d", arch,
             size, batch, nets, 1e-9 * s.flops, s.n_kernels);
    gpu_print(b, fields, ms, b->runs, cold, (double)images, "img_s", 1e-6 * (double)(s.arena_bytes + s.bound_bytes));
    free(ms);
    rt_exec_destroy(ex);
    rt_tensor *all[] = {tx, tq, tt, tv, tl, tlr, tb};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) rt_tensor_destroy(all[i]);
    rt_model_destroy(m);
}

static int usage(void)
{
    fprintf(stderr, "usage: bench_gpu [--device D] [--precision P] [--runs N] [--smoke] floor [SIZE] | step ARCH SIZE BATCH [NETS] | dm IPC [ITERATIONS] | device\n");
    return 64;
}

static bool precision_of(const char *name, rt_backend_opts *o)
{
    static const char *const names[] = {"f32", "tf32", "bf16"};
    for (int i = 0; i < 3; i++)
        if (strcmp(name, names[i]) == 0) {
            o->precision = (rt_precision)i;
            return true;
        }
    return false;
}

int main(int argc, char **argv)
{
    gpu_bench b = {.device = "cuda", .precision = "f32", .born = probe_now(), .runs = 50};
    rt_backend_opts o = {.capture = RT_CAPTURE_ON};
    bool smoke = false;
    int at = 1;
    for (; at < argc && strncmp(argv[at], "--", 2) == 0; at++) {
        if (strcmp(argv[at], "--smoke") == 0) smoke = true;
        else if (at + 1 >= argc) return usage();
        else if (strcmp(argv[at], "--device") == 0) b.device = argv[++at];
        else if (strcmp(argv[at], "--precision") == 0) b.precision = argv[++at];
        else if (strcmp(argv[at], "--runs") == 0) b.runs = atoi(argv[++at]);
        else return usage();
    }
    if (at >= argc || b.runs < 1 || !precision_of(b.precision, &o)) return usage();
    if (strcmp(b.device, "cuda") != 0) o.capture = RT_CAPTURE_DEFAULT;
    const char *what = argv[at];
    int number[4] = {0};
    const int first = at + 1 + (strcmp(what, "step") == 0);
    for (int i = 0; i < 4 && first + i < argc; i++) number[i] = atoi(argv[first + i]);
    const rt_status st = rt_backend_open(b.device, &o, &b.be);
    if (st == RT_ERR_UNSUPPORTED) {
        printf("no CUDA device: not measured (%s)\n", rt_error_what());
        return 77;
    }
    TRY(st);
    if (smoke) b.runs = b.runs < 2 ? b.runs : 2;
    if (strcmp(what, "device") == 0) printf("%s\n", rt_backend_describe(b.be));
    else if (strcmp(what, "floor") == 0) gpu_floor(&b, smoke ? 256 : number[0] > 0 ? number[0] : 8192);
    else if (strcmp(what, "step") == 0 && number[0] > 0 && number[1] > 0)
        gpu_step(&b, argv[at + 1], smoke ? 32 : number[0], smoke ? 2 : number[1], number[2] > 1 ? (smoke ? 2 : number[2]) : 1);
    else if (strcmp(what, "dm") == 0 && number[0] > 0)
        gpu_dm(&b, smoke ? 1 : number[0], smoke ? 8 : 128, smoke ? 4 : 256, smoke ? 1 : number[1] > 0 ? number[1] : 50);
    else return usage();
    rt_backend_close(b.be);
    return 0;
}
