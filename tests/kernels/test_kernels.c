/* CUDA kernels and back end against the reference rows, on fibers (host/): elementwise, movement, reductions, optimisers,
 * and every error path of the device code. */
#include <math.h>

#include "backend/cuda/cuda.h"
#include "base/rng.h"
#include "ops/attr.h"
#include "rig.h"
#include "support/suite.h"

/* --- elementwise ------------------------------------------------------------------------------------------------------ */

typedef rt_val (*unary_fn)(rt_graph *, rt_val);
typedef rt_val (*binary_fn)(rt_graph *, rt_val, rt_val);

START_TEST(unary_ops_match_the_reference)
{
    static const struct {
        unary_fn f;
        bool positive;
    } ops[] = {{rt_neg, 0}, {rt_exp, 0}, {rt_log, 1}, {rt_sqrt, 1}, {rt_recip, 1}, {rt_square, 0}, {rt_tanh, 0}, {rt_cos, 0}, {rt_sin, 0}, {rt_sigmoid, 0}, {rt_silu, 0}, {rt_erf, 0}, {rt_relu, 0}, {rt_step, 0}, {rt_abs, 0}, {rt_sign, 0}};
    static const int64_t sizes[] = {0, 1, 7, 255, 256, 257, 1000};
    rt_backend *be = rig_open();
    for (size_t k = 0; k < sizeof ops / sizeof *ops; k++)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            rt_graph *g = NULL;
            rt_ok(rt_graph_create(&g));
            rt_val x = rt_input(g, "x", RT_SHAPE(RT_F32, sizes[s]));
            rig_check(be, g, ops[k].f(g, x), ops[k].positive, 0, 2.4e-7, s % 2); /* 2 ulp */
            rt_graph_destroy(g);
        }
    be->vt->close(be);
    ck_assert_int_eq(rt_host_cuda_live(), 0);
}
END_TEST

START_TEST(special_values_match_the_reference)
{
    static const double special[] = {NAN, INFINITY, -INFINITY, 0.0, -0.0, 0x1p-140, 1e38, -1e38, 100.0, -100.0};
    enum { N = sizeof special / sizeof *special };
    static const unary_fn unary[] = {rt_neg, rt_exp, rt_log, rt_sqrt, rt_recip, rt_square, rt_tanh, rt_cos, rt_sin, rt_sigmoid, rt_silu, rt_erf, rt_relu, rt_step, rt_abs, rt_sign};
    static const binary_fn binary[] = {rt_add, rt_sub, rt_mul, rt_div, rt_maximum, rt_minimum};
    rt_backend *be = rig_open();
    for (size_t k = 0; k < sizeof unary / sizeof *unary + sizeof binary / sizeof *binary; k++) {
        bool two = k >= sizeof unary / sizeof *unary;
        rt_graph *g = NULL;
        int o = 0;
        rt_ok(rt_graph_create(&g));
        rt_val a = rt_input(g, "a", RT_SHAPE(RT_F32, N, two ? N : 1)), b = rt_input(g, "b", RT_SHAPE(RT_F32, N, N));
        rig r = {.n = rt_val_node(g, two ? binary[k - sizeof unary / sizeof *unary](g, a, b) : unary[k](g, a), &o)};
        rt_ok(rt_graph_status(g));
        for (int i = 0; i < r.n->n_in; i++) {
            r.in[i] = malloc(N * N * 8);
            for (int e = 0; e < N * N; e++) r.in[i][e] = (double)(float)special[i ? e % N : two ? e / N : e % N];
        }
        rig_device(be, &r, 0);
        rig_ref(&r);
        for (int64_t e = 0; e < r.n_want[0]; e++) /* the reference has a wider range: bring it to float's */
            r.want[0][e] = fabs(r.want[0][e]) < 0x1p-126 ? r.want[0][e] : (double)(float)r.want[0][e];
        rig_compare(&r, !two && unary[k] == rt_silu ? 0x1p-142 : 0x1p-149, 2.4e-7); /* silu: x times a subnormal */
        rig_free(&r);
        rt_graph_destroy(g);
    }
    be->vt->close(be);
}
END_TEST

START_TEST(binary_ops_broadcast_like_the_reference)
{
    static const binary_fn ops[] = {rt_add, rt_sub, rt_mul, rt_div, rt_maximum, rt_minimum};
    static const struct {
        int ra, rb;
        int64_t a[RT_MAX_RANK], b[RT_MAX_RANK];
    } shapes[] = {
        {1, 1, {300}, {300}},          {0, 1, {0}, {257}},                {2, 0, {4, 65}, {0}},          {2, 2, {5, 7}, {5, 7}},
        {2, 1, {5, 7}, {7}},           {2, 2, {5, 7}, {5, 1}},            {2, 2, {1, 7}, {5, 1}},        {4, 1, {2, 3, 3, 5}, {5}},
        {4, 4, {2, 3, 3, 5}, {2, 1, 1, 5}}, {4, 4, {2, 1, 3, 1}, {1, 4, 1, 5}}, {6, 6, {2, 1, 2, 1, 2, 3}, {1, 3, 2, 2, 1, 3}},
        {2, 2, {0, 3}, {1, 3}},        {3, 3, {1, 1, 1}, {1, 1, 1}},      {3, 2, {2, 1, 3}, {4, 1}},
    };
    rt_backend *be = rig_open();
    for (size_t k = 0; k < sizeof ops / sizeof *ops; k++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            rt_graph *g = NULL;
            rt_ok(rt_graph_create(&g));
            rt_val a = rt_input(g, "a", rt_shape_make(RT_F32, shapes[s].ra, shapes[s].a));
            rt_val b = rt_input(g, "b", rt_shape_make(RT_F32, shapes[s].rb, shapes[s].b));
            rig_check(be, g, ops[k](g, a, b), ops[k] == rt_div, 0, 1.2e-7, s == 0 || s == 3);
            rt_graph_destroy(g);
        }
    be->vt->close(be);
    ck_assert_int_eq(rt_host_cuda_live(), 0);
}
END_TEST

START_TEST(movement_matches_the_reference)
{
    static const int perms[][4] = {{0, 1, 2, 3}, {3, 2, 1, 0}, {0, 2, 3, 1}, {1, 0, 3, 2}, {0, 3, 1, 2}};
    rt_backend *be = rig_open();
    rt_graph *g = NULL;
    rt_ok(rt_graph_create(&g));
    rt_val x = rt_input(g, "x", RT_SHAPE(RT_F32, 2, 3, 5, 7)), row = rt_input(g, "row", RT_SHAPE(RT_F32, 3, 1, 7));
    for (size_t i = 1; i < sizeof perms / sizeof *perms; i++) rig_check(be, g, rt_transpose(g, x, perms[i]), false, 0, 0, false);
    rig_check(be, g, rt_broadcast(g, row, RT_SHAPE(RT_F32, 2, 3, 5, 7)), false, 0, 0, false);
    rig_check(be, g, rt_broadcast(g, row, RT_SHAPE(RT_F32, 3, 64, 7)), false, 0, 0, false);
    rig_check(be, g, rt_reshape(g, x, RT_SHAPE(RT_F32, 6, 35)), false, 0, 0, false);
    rig_check(be, g, rt_stop_gradient(g, x), false, 0, 0, true);
    rt_graph_destroy(g);
    be->vt->close(be);
}
END_TEST

/* --- reductions ------------------------------------------------------------------------------------------------------- */

START_TEST(every_axis_mask_reduces_like_the_reference)
{
    static const struct {
        int rank;
        int64_t d[RT_MAX_RANK];
    } shapes[] = {{1, {1}}, {1, {257}}, {2, {3, 300}}, {2, {300, 3}}, {3, {4, 9, 5}}, {4, {2, 5, 3, 7}}, {4, {3, 1, 4, 1}}, {5, {2, 3, 2, 3, 2}}, {2, {0, 3}}};
    rt_backend *be = rig_open();
    int checked = 0;
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (uint32_t axes = 1; axes < 1u << shapes[s].rank; axes++)
            for (int max = 0; max < 2; max++) {
                rt_graph *g = NULL;
                int o;
                rt_shape shape = rt_shape_make(RT_F32, shapes[s].rank, shapes[s].d);
                if (max && rt_shape_count(&shape) == 0) continue;
                rt_ok(rt_graph_create(&g));
                rt_val x = rt_input(g, "x", shape);
                rt_val y = max ? rt_amax(g, x, axes, axes & 1) : rt_sum(g, x, axes, axes & 1);
                rt_ok(rt_graph_status(g));
                if (rt_val_node(g, y, &o)->op == (max ? RT_OP_AMAX : RT_OP_SUM)) {
                    rig_check(be, g, y, false, max ? 0 : 2e-4, 1e-6, false);
                    checked++;
                }
                rt_graph_destroy(g);
            }
    ck_assert_int_gt(checked, 100);
    be->vt->close(be);
    ck_assert_int_eq(rt_host_cuda_live(), 0);
}
END_TEST

/* Large enough for several chunks and both passes; the error of ordered float addition stays within 1e-6 of sum |x|. */
START_TEST(long_reductions_take_two_passes)
{
    static const struct {
        int rank;
        int64_t d[3];
        uint32_t axes;
        const char *impl;
        int passes;
    } cases[] = {{1, {40000}, 1, "cuda:rows", 2}, {2, {5000, 13}, 1, "cuda:columns", 2}, {2, {3, 20001}, 2, "cuda:rows", 2},
                 {3, {40, 3, 40}, 5, "cuda:rows", 1}, {3, {40, 60, 3}, 3, "cuda:columns", 2}};
    rt_backend *be = rig_open();
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        rt_graph *g = NULL;
        int o = 0;
        rt_ok(rt_graph_create(&g));
        rt_val y = rt_sum(g, rt_input(g, "x", rt_shape_make(RT_F32, cases[k].rank, cases[k].d)), cases[k].axes, false);
        rt_ok(rt_graph_status(g));
        rig r = {.n = rt_val_node(g, y, &o)};
        rt_prepared p = {.node = r.n};
        rt_ok(rt_cuda_reduce_prepare(be, &p));
        ck_assert_str_eq(p.impl, cases[k].impl);
        ck_assert_int_eq(p.scratch_bytes > 0, cases[k].passes == 2);
        rt_cuda_release(&p);
        int before = rt_host_cuda_launches();
        int64_t count = rt_shape_count(&r.n->in_shape[0]);
        double size = 0;
        r.in[0] = malloc((size_t)count * 8);
        for (int64_t e = 0; e < count; e++) size += fabs(r.in[0][e] = rig_draw((uint32_t)e, 0, true));
        rig_device(be, &r, 0);
        ck_assert_int_eq(rt_host_cuda_launches() - before, 2 * cases[k].passes);
        rig_ref(&r);
        rig_compare(&r, 1e-6 * size / (double)r.n_want[0], 0);
        rig_free(&r);
        rt_graph_destroy(g);
    }
    be->vt->close(be);
}
END_TEST

START_TEST(nan_and_ties)
{
    static const struct {
        double x[6];
        int32_t at; /* argmax as the reference scans */
        double max;
    } rows[] = {
        {{1, 3, 2, 3, 0, 3}, 1, 3},          {{5, 5, 5, 5, 5, 5}, 0, 5},     {{-INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY}, 0, -INFINITY},
        {{1, NAN, 2, 4, NAN, 3}, 3, NAN},    {{NAN, 1, 2, 3, 4, 5}, 0, NAN}, {{NAN, INFINITY, 0, 0, 0, 0}, 0, NAN},
        {{-INFINITY, NAN, -INFINITY, NAN, 0, 0}, 4, NAN}, {{0, -0.0, 0, 0, 0, 0}, 0, 0}, {{1, INFINITY, INFINITY, 2, 2, 2}, 1, INFINITY},
    };
    enum { ROWS = sizeof rows / sizeof *rows };
    rt_backend *be = rig_open();
    rt_graph *g = NULL;
    int o = 0;
    rt_ok(rt_graph_create(&g));
    rt_val x = rt_input(g, "x", RT_SHAPE(RT_F32, ROWS, 6));
    for (int which = 0; which < 2; which++) {
        rig r = {.n = rt_val_node(g, which ? rt_amax(g, x, 2, false) : rt_argmax(g, x), &o)};
        rt_ok(rt_graph_status(g));
        r.in[0] = malloc(ROWS * 6 * 8);
        for (int i = 0; i < ROWS * 6; i++) r.in[0][i] = rows[i / 6].x[i % 6];
        rig_device(be, &r, 0);
        rig_ref(&r);
        rig_compare(&r, 0, 0);
        for (int i = 0; i < ROWS; i++) {
            if (!which) ck_assert_int_eq(((int32_t *)r.got[0])[i], rows[i].at);
            else ck_assert(isnan(rows[i].max) ? isnan(r.got[0][i]) : r.got[0][i] == (float)rows[i].max);
        }
        rig_free(&r);
    }
    rt_val wide = rt_input(g, "wide", RT_SHAPE(RT_F32, 3, 1000)), one = rt_input(g, "one", RT_SHAPE(RT_F32, 300, 1));
    rig_check(be, g, rt_argmax(g, wide), false, 0, 0, false); /* drawn with many ties at 1 and 0 */
    rig_check(be, g, rt_argmax(g, one), false, 0, 0, false);
    rt_graph_destroy(g);
    be->vt->close(be);
}
END_TEST

/* --- optimisers ------------------------------------------------------------------------------------------------------- */

START_TEST(optimiser_steps_match_the_reference)
{
    rt_backend *be = rig_open();
    for (int variant = 0; variant < 8; variant++) {
        int64_t n = variant & 4 ? 515 : 64;
        rt_graph *g = NULL;
        rt_ok(rt_graph_create(&g));
        rt_shape vec = RT_SHAPE(RT_F32, n);
        rt_val theta = rt_input(g, "theta", vec), m = rt_input(g, "m", vec), v = rt_input(g, "v", vec), grad = rt_input(g, "grad", vec);
        rt_val decay = rt_input(g, "decay", variant & 1 ? vec : RT_SCALAR_F32), lr = rt_input(g, "lr", RT_SCALAR_F32);
        rt_val hyper = rt_input(g, "hyper", RT_SHAPE(RT_F32, 3));
        rig_check(be, g, rt_sgd_step(g, theta, v, grad, lr, decay, 0.5, variant & 2, NULL), false, 2e-5, 1e-6, variant & 1);
        rt_adam_attr a = {.beta1 = 0.5, .beta2 = 0.75, .eps = 1e-3, .decoupled = variant & 2};
        rig_check(be, g, rt_adam_step(g, theta, m, v, grad, hyper, decay, a, NULL, NULL), true, 2e-5, 2e-6, variant & 1);
        rt_graph_destroy(g);
    }
    be->vt->close(be);
    ck_assert_int_eq(rt_host_cuda_live(), 0);
}
END_TEST

/* The step of the paper's first iteration by hand: theta 1, gradient 0.5, lr 0.1, so theta' = 1 - 0.1 * 1 (m/sqrt v = 1). */
START_TEST(optimiser_steps_by_hand)
{
    rt_backend *be = rig_open();
    rt_cuda_backend *cb = (rt_cuda_backend *)be;
    float theta = 1, m = 0, v = 0, grad = 0.5f, hyper[3] = {0.1f, 0.5f, 0.25f}, decay = 0, lr = 0.1f, t1 = 0, m1 = 0, v1 = 0;
    rt_k_adam a = {&theta, &m, &v, &grad, hyper, &decay, &t1, &m1, &v1, 1, 0, 0.5f, 0.75f, 0.0f, 1};
    ck_assert_int_eq(rt_k_adam_step(&a, cb->stream), cudaSuccess);
    rt_ok(be->vt->end_run(be));
    ck_assert(m1 == 0.25f && v1 == 0.0625f);
    rt_assert_near(t1, 0.9, 0, 1e-7);
    float mom = 2;
    rt_k_sgd s = {&theta, &mom, &grad, &lr, &decay, &t1, &v1, 1, 0, 0.9f, 0}; /* v' = 0.9*2 + 0.5 = 2.3 */
    ck_assert_int_eq(rt_k_sgd_step(&s, cb->stream), cudaSuccess);
    rt_ok(be->vt->end_run(be));
    rt_assert_near(v1, 2.3, 0, 1e-7);
    rt_assert_near(t1, 0.77, 0, 1e-7);
    s.nesterov = 1; /* 1 - 0.1 * (0.5 + 0.9 * 2.3) */
    ck_assert_int_eq(rt_k_sgd_step(&s, cb->stream), cudaSuccess);
    rt_ok(be->vt->end_run(be));
    rt_assert_near(t1, 0.743, 0, 1e-6);
    be->vt->close(be);
}
END_TEST

/* --- through the executor --------------------------------------------------------------------------------------------- */

enum { STEPS = 5, BATCH = 6, WIDTH = 33 };

/* theta <- SGD with momentum on mean tanh(x theta + 1/2)^2, in place, after STEPS steps. */
static void train(const char *backend, float theta[WIDTH])
{
    rt_backend *be = NULL;
    rt_graph *g = NULL;
    rt_tensor *tx = NULL, *tt = NULL, *tv = NULL, *tl = NULL, *tlr = NULL, *td = NULL;
    rt_exec *ex = NULL;
    rt_val gt, v_new;
    float x[BATCH * WIDTH], lr = 0.25f, decay = 0.01f, loss[STEPS];
    rt_ok(rt_backend_open(backend, &(rt_backend_opts){.threads = 1}, &be));
    rt_ok(rt_graph_create(&g));
    rt_val vx = rt_input(g, "x", RT_SHAPE(RT_F32, BATCH, WIDTH)), vt = rt_input(g, "theta", RT_SHAPE(RT_F32, WIDTH));
    rt_val vv = rt_input(g, "v", RT_SHAPE(RT_F32, WIDTH)), vl = rt_input(g, "lr", RT_SCALAR_F32), vd = rt_input(g, "decay", RT_SCALAR_F32);
    rt_val l = rt_mean_all(g, rt_square(g, rt_tanh(g, rt_add_scalar(g, rt_mul(g, vx, vt), 0.5))));
    rt_ok(rt_grad(g, l, &vt, 1, &gt));
    rt_val t_new = rt_sgd_step(g, vt, vv, gt, vl, vd, 0.9, true, &v_new);
    rt_ok(rt_graph_status(g));
    rt_ok(rt_tensor_create(be, RT_SHAPE(RT_F32, BATCH, WIDTH), &tx));
    rt_ok(rt_tensor_create(be, RT_SHAPE(RT_F32, WIDTH), &tt));
    rt_ok(rt_tensor_create(be, RT_SHAPE(RT_F32, WIDTH), &tv));
    rt_ok(rt_tensor_create(be, RT_SCALAR_F32, &tl));
    rt_ok(rt_tensor_create(be, RT_SCALAR_F32, &tlr));
    rt_ok(rt_tensor_create(be, RT_SCALAR_F32, &td));
    const rt_bind in[] = {{vx, tx}, {vt, tt}, {vv, tv}, {vl, tlr}, {vd, td}}, out[] = {{t_new, tt}, {v_new, tv}, {l, tl}};
    rt_ok(rt_exec_prepare(be, g, in, 5, out, 3, &(rt_exec_opts){.poison = true}, &ex));
    rt_graph_destroy(g);
    for (int i = 0; i < BATCH * WIDTH; i++) x[i] = (float)rig_draw((uint32_t)i, 0, false);
    for (int i = 0; i < WIDTH; i++) theta[i] = (float)rig_draw((uint32_t)i, 1, false);
    rt_ok(rt_tensor_write(tx, x, sizeof x));
    rt_ok(rt_tensor_write(tt, theta, WIDTH * sizeof *theta));
    rt_ok(rt_tensor_write(tlr, &lr, sizeof lr));
    rt_ok(rt_tensor_write(td, &decay, sizeof decay));
    for (int s = 0; s < STEPS; s++) {
        rt_ok(rt_exec_run(ex));
        rt_ok(rt_tensor_read(tl, &loss[s], sizeof loss[s]));
    }
    ck_assert_msg(loss[STEPS - 1] < loss[0], "loss %g, then %g", (double)loss[0], (double)loss[STEPS - 1]);
    rt_ok(rt_tensor_read(tt, theta, WIDTH * sizeof *theta));
    rt_exec_destroy(ex);
    rt_tensor_destroy(tx);
    rt_tensor_destroy(tt);
    rt_tensor_destroy(tv);
    rt_tensor_destroy(tl);
    rt_tensor_destroy(tlr);
    rt_tensor_destroy(td);
    rt_backend_close(be);
}

START_TEST(a_training_step_runs_through_the_executor)
{
    float got[WIDTH], want[WIDTH];
    rt_host_cuda_machine(1, 9);
    train("cuda", got);
    ck_assert_int_gt(rt_host_cuda_launches(), STEPS * 5);
    train("ref", want);
    for (int i = 0; i < WIDTH; i++) rt_assert_near(got[i], want[i], 1e-6, 1e-5);
    ck_assert_int_eq(rt_host_cuda_live(), 0);
}
END_TEST

/* --- device ----------------------------------------------------------------------------------------------------------- */

START_TEST(machines_without_a_usable_device)
{
    static const struct {
        int devices, sm, index;
        const char *says, *fix;
    } cases[] = {{-1, 9, 0, "no CUDA device: CUDA driver version is insufficient", "install an NVIDIA driver for CUDA 13"},
                 {0, 9, 0, "no CUDA device: no CUDA-capable device", "CUDA_VISIBLE_DEVICES"},
                 {2, 9, 2, "no CUDA device 2: 2 present", "0 to 1"},
                 {2, 9, -1, "no CUDA device -1", "0 to 1"},
                 {1, 7, 0, "is sm_70", "backend.device=cpu"}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        rt_backend *be = NULL;
        rt_host_cuda_machine(cases[k].devices, cases[k].sm);
        rt_fails(rt_cuda_open(&(rt_backend_opts){.device_index = cases[k].index}, &be), RT_ERR_UNSUPPORTED);
        ck_assert_ptr_null(be);
        ck_assert_msg(strstr(rt_error_what(), cases[k].says) != NULL, "\"%s\"", rt_error_what());
        ck_assert_msg(strstr(rt_error_remedy(), cases[k].fix) != NULL, "\"%s\"", rt_error_remedy());
    }
    ck_assert_int_eq(rt_host_cuda_live(), 0);
    rt_backend *be = rig_open();
    ck_assert_str_eq(be->describe, "cuda: device 0 host fibers, sm_90, 1 SM, 1.0 GiB; driver 13.0, runtime 13.0, cuDNN 9.19.0, cuBLASLt 13.1; f32");
    be->vt->close(be);
    rt_host_cuda_machine(1, 9);
}
END_TEST

/* Every CUDA call of opening, allocating, copying, filling and running fails in turn: a status, a message, no leak. */
START_TEST(every_cuda_call_may_fail)
{
    int failures = 0;
    rt_graph *g = NULL;
    int o;
    rt_ok(rt_graph_create(&g));
    const rt_node *n = rt_val_node(g, rt_sum_all(g, rt_input(g, "x", RT_SHAPE(RT_F32, 20000))), &o);
    rt_host_cuda_machine(1, 9);
    for (int k = 1;; k++) {
        rt_backend *be = NULL;
        void *x = NULL, *y = NULL, *scratch = NULL;
        rt_prepared p = {.node = n};
        float host[4] = {0};
        rt_error_clear();
        rt_host_cuda_fail_at(k, cudaErrorLaunchFailure);
        rt_status st = rt_cuda_open(NULL, &be);
        if (st == RT_OK) st = be->vt->alloc(be, 80000, &x);
        if (st == RT_OK) st = be->vt->alloc(be, 4, &y);
        if (st == RT_OK) st = be->vt->alloc(be, 80000, &scratch);
        if (st == RT_OK) st = be->vt->upload(be, x, host, sizeof host);
        if (st == RT_OK) st = be->vt->fill(be, x, 0.5, 20000);
        if (st == RT_OK) st = rt_cuda_reduce_prepare(be, &p);
        if (st == RT_OK) st = rt_cuda_sum_run(&p, &(rt_kernel_io){(const void *const[]){x}, (void *const[]){y}, scratch});
        if (st == RT_OK) st = be->vt->end_run(be);
        if (st == RT_OK) st = be->vt->download(be, host, y, 4);
        rt_host_cuda_fail_at(0, cudaSuccess);
        rt_cuda_release(&p);
        if (be) {
            be->vt->free(be, x);
            be->vt->free(be, y);
            be->vt->free(be, scratch);
            be->vt->close(be);
        }
        ck_assert_int_eq(rt_host_cuda_live(), 0);
        if (st == RT_OK) {
            rt_assert_near(host[0], 10000, 0, 0);
            break;
        }
        ck_assert_msg(st == RT_ERR_DEVICE || st == RT_ERR_UNSUPPORTED, "call %d: %s", k, rt_status_name(st));
        ck_assert_uint_gt(strlen(rt_error_what()), 0);
        failures++;
    }
    ck_assert_int_ge(failures, 18);
    rt_graph_destroy(g);
}
END_TEST

START_TEST(out_of_device_memory_says_how_much)
{
    rt_backend *be = rig_open();
    void *p = NULL;
    rt_fails(be->vt->alloc(be, (size_t)3 << 30, &p), RT_ERR_NOMEM);
    ck_assert_ptr_null(p);
    ck_assert_msg(strstr(rt_error_what(), "3.00 GiB wanted, 0.50 of 1.00 GiB free") != NULL, "%s", rt_error_what());
    ck_assert_str_ne(rt_error_remedy(), "");
    rt_ok(be->vt->alloc(be, 0, &p));
    be->vt->free(be, p);
    be->vt->free(be, NULL);
    be->vt->close(be);
}
END_TEST

/* Every op but the leaves; what is missing is in this list, and nothing in it is there. */
START_TEST(the_table_is_complete)
{
    static const rt_op absent[] = {RT_OP_INPUT, RT_OP_CONST};
    for (int op = 0; op < RT_OP_COUNT; op++) {
        bool there = true;
        for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) there = there && absent[i] != (rt_op)op;
        ck_assert_msg((rt_cuda_kernels[op].run != NULL) == there, "%s", rt_op_name((rt_op)op));
    }
}
END_TEST

static const rt_test tests[] = {
    {"unary ops match the reference", unary_ops_match_the_reference},
    {"special values match the reference", special_values_match_the_reference},
    {"binary ops broadcast like the reference", binary_ops_broadcast_like_the_reference},
    {"movement matches the reference", movement_matches_the_reference},
    {"every axis mask reduces like the reference", every_axis_mask_reduces_like_the_reference},
    {"long reductions take two passes", long_reductions_take_two_passes},
    {"NaN and ties", nan_and_ties},
    {"optimiser steps match the reference", optimiser_steps_match_the_reference},
    {"optimiser steps by hand", optimiser_steps_by_hand},
    {"a training step runs through the executor", a_training_step_runs_through_the_executor},
    {"machines without a usable device", machines_without_a_usable_device},
    {"every CUDA call may fail", every_cuda_call_may_fail},
    {"out of device memory says how much", out_of_device_memory_says_how_much},
    {"the table is complete", the_table_is_complete},
};
RT_SUITE("kernels", tests)
