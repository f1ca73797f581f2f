/* Whole steps of the CUDA back end over the stand-ins: captured against direct, many as one launch, large uploads; and every call
 * of every library failing in turn. */
#include <math.h>

#include "mock.h"
#include "ops/attrs.h"

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
    {"captured steps", captured_steps},
    {"many steps as one", many_steps_as_one},
    {"verify catches a difference", verify_catches_a_difference},
    {"large uploads", large_uploads},
    {"out of memory everywhere", out_of_memory_everywhere},
    {"device errors everywhere", device_errors_everywhere},
    {"errors name the op", errors_name_the_op},
};
RT_SUITE("cuda.mock_steps", tests)
