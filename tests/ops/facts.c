/* Exact facts of the structured ops: worked examples, edges, and refusals that name the op and its operands. */
#include "../support/eval.h"
#include "../support/suite.h"

#include "base/alloc.h"
#include "base/rng.h"
#include "ops/attrs.h"

enum { MAX_FEED = 8 };
static rt_graph *g;
static rt_feed feed[MAX_FEED];
static int n_feed;

static void begin(void) /* the last graph stays reachable: each test is a process */
{
    rt_graph_destroy(g);
    g = NULL;
    n_feed = 0;
    rt_ok(rt_graph_create(&g));
}

static rt_val input(const double *data, rt_shape s)
{
    char name[16];
    snprintf(name, sizeof name, "x%d", n_feed);
    rt_val v = rt_input(g, name, s);
    feed[n_feed++] = (rt_feed){v, data};
    return v;
}

static void eval(rt_val v, void *out)
{
    rt_ok(rt_graph_status(g));
    rt_ok(rt_eval_ref(g, feed, n_feed, &v, 1, &out));
}

static void eval_is(rt_val v, const double *want, int64_t n)
{
    double *got = malloc((size_t)n * sizeof *got);
    ck_assert_int_eq(rt_shape_count(rt_val_shape(g, v)), n);
    eval(v, got);
    for (int64_t i = 0; i < n; i++)
        if (!(got[i] == want[i])) ck_abort_msg("element %lld is %.17g, want %.17g", (long long)i, got[i], want[i]);
    free(got);
}

/* The last constructor was refused with exactly this text. */
static void refused(rt_val v, const char *want)
{
    ck_assert_uint_eq(v.id, 0);
    rt_fails(rt_graph_status(g), RT_ERR_ARG);
    ck_assert_str_eq(rt_error_what(), want);
    begin();
}

/* --- convolution -------------------------------------------------------------------------------------------------- */
START_TEST(convolution_by_hand)
{
    static const double x[] = {1, 2, 3, 4, 5, 6, 7, 8, 9}, w[] = {1, 0, 0, -1}, b[] = {10};
    begin();
    rt_val vx = input(x, RT_SHAPE(RT_F32, 1, 3, 3, 1)), vw = input(w, RT_SHAPE(RT_F32, 1, 1, 2, 2));
    rt_conv_attr a = {{1, 1}, {0, 0}, 1, 0};
    eval_is(rt_conv2d(g, vx, vw, (rt_val){0}, a), (const double[]){-4, -4, -4, -4}, 4);
    a.pad[0] = a.pad[1] = 1; /* correlation, not convolution: w is not flipped */
    a.stride[0] = a.stride[1] = 2;
    eval_is(rt_conv2d(g, vx, vw, input(b, RT_SHAPE(RT_F32, 1)), a), (const double[]){9, 7, 3, 6}, 4);
}
END_TEST

START_TEST(one_pass_over_gy_serves_weights_and_bias)
{
    begin();
    rt_val in[3] = {rt_input(g, "x", RT_SHAPE(RT_F32, 2, 5, 5, 3)), rt_input(g, "w", RT_SHAPE(RT_F32, 4, 3, 3, 3)),
                    rt_input(g, "b", RT_SHAPE(RT_F32, 4))};
    rt_val gx[3], y = rt_conv2d(g, in[0], in[1], in[2], (rt_conv_attr){{1, 1}, {1, 1}, 1, 0});
    rt_ok(rt_grad(g, rt_sum_all(g, rt_square(g, y)), in, 3, gx));
    int count = 0;
    for (size_t i = 0; i < rt_graph_node_count(g); i++) count += rt_graph_node(g, i)->op == RT_OP_CONV2D_DW;
    ck_assert_int_eq(count, 1);
    ck_assert_uint_eq(gx[2].id, rt_node_out(gx[1], 1).id);
    rt_cost c = rt_op_row_of(RT_OP_CONV2D)->cost(rt_val_node(g, y, NULL));
    ck_assert(c.flops == 2.0 * 2 * 5 * 5 * 4 * 27); /* 2 per multiply-add, padding counted */
    ck_assert(c.bytes == 4.0 * (150 + 108 + 4 + 200));
}
END_TEST

START_TEST(convolution_refuses)
{
    begin();
    rt_val x = rt_input(g, "x", RT_SHAPE(RT_F32, 2, 5, 5, 6)), w = rt_input(g, "w", RT_SHAPE(RT_F32, 4, 3, 3, 3));
    refused(rt_conv2d(g, x, w, (rt_val){0}, (rt_conv_attr){{1, 1}, {1, 1}, 1, 0}),
            "conv2d(f32[2,5,5,6], f32[4,3,3,3]): w holds 3 channels per group where x has 6");
    const struct {
        rt_conv_attr a;
        const char *want;
    } rows[] = {{{{0, 1}, {0, 0}, 1, 0}, "conv2d(f32[1,2,2,4], f32[4,4,3,3]): stride must be at least 1"},
                {{{1, 1}, {-1, 0}, 1, 0}, "conv2d(f32[1,2,2,4], f32[4,4,3,3]): padding must not be negative"},
                {{{1, 1}, {0, 0}, 0, 0}, "conv2d(f32[1,2,2,4], f32[4,4,3,3]): groups must be at least 1"},
                {{{1, 1}, {0, 0}, 3, 0}, "conv2d(f32[1,2,2,4], f32[4,4,3,3]): 3 groups do not divide C = 4 and K = 4"},
                {{{1, 1}, {0, 0}, 1, -1}, "conv2d(f32[1,2,2,4], f32[4,4,3,3]): nets must not be negative"},
                {{{1, 1}, {0, 0}, 1, 2},
                 "conv2d(f32[1,2,2,4], f32[4,4,3,3]): 2 networks do not divide N = 1 and 4 rows of weights"},
                {{{1, 1}, {0, 0}, 1, 0},
                 "conv2d(f32[1,2,2,4], f32[4,4,3,3]): the window is larger than the padded image"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        x = rt_input(g, "x", RT_SHAPE(RT_F32, 1, 2, 2, 4));
        w = rt_input(g, "w", RT_SHAPE(RT_F32, 4, 4, 3, 3));
        refused(rt_conv2d(g, x, w, (rt_val){0}, rows[i].a), rows[i].want);
    }
    x = rt_input(g, "x", RT_SHAPE(RT_F32, 1, 3, 3, 2));
    w = rt_input(g, "w", RT_SHAPE(RT_F32, 4, 2, 3, 3));
    refused(rt_conv2d(g, x, w, rt_input(g, "b", RT_SHAPE(RT_F32, 2)), (rt_conv_attr){{1, 1}, {1, 1}, 1, 0}),
            "conv2d(f32[1,3,3,2], f32[4,2,3,3], f32[2]): input 2 must be f32[4]");
}
END_TEST

/* --- pooling ------------------------------------------------------------------------------------------------------ */
START_TEST(maximum_of_ties_padding_and_nan)
{
    static const double x[] = {-3, -3, -5, -4, -2, -2, -9, -2, -2};
    static const double with_nan[] = {1, NAN, 5, NAN};
    const rt_pool_attr three = {{3, 3}, {2, 2}, {1, 1}}, two = {{2, 2}, {2, 2}, {0, 0}};
    int32_t index[4];
    double y[1];
    begin();
    rt_val v = rt_max_pool(g, input(x, RT_SHAPE(RT_F32, 1, 3, 3, 1)), three);
    eval_is(v, (const double[]){-2, -2, -2, -2}, 4); /* zeros of the padding would win if they took part */
    eval(rt_node_out(v, 1), index);
    ck_assert_int_eq(index[0], 4);
    ck_assert_int_eq(index[1], 4); /* the first in scan order */
    ck_assert_int_eq(index[2], 4);
    ck_assert_int_eq(index[3], 4);
    begin();
    v = rt_max_pool(g, input(with_nan, RT_SHAPE(RT_F32, 1, 2, 2, 1)), two);
    eval(v, y);
    eval(rt_node_out(v, 1), index);
    ck_assert(isnan(y[0]));
    ck_assert_int_eq(index[0], 1);
}
END_TEST

START_TEST(average_divides_by_the_window)
{
    static const double x[] = {9, 18, 27, 36};
    begin();
    rt_pool_attr a = {{3, 3}, {2, 2}, {1, 1}};
    eval_is(rt_avg_pool(g, input(x, RT_SHAPE(RT_F32, 1, 2, 2, 1)), a), (const double[]){10}, 1);
    a.pad[0] = 3;
    refused(rt_avg_pool(g, rt_input(g, "x", RT_SHAPE(RT_F32, 1, 8, 8, 1)), a),
            "avg_pool(f32[1,8,8,1]): padding must be smaller than the window, or a window would see nothing else");
}
END_TEST

START_TEST(a_foreign_index_is_refused)
{
    static const double gy[] = {1};
    static const int32_t index[] = {4};
    begin();
    rt_pool_dx_attr a = {.pool = {{2, 2}, {2, 2}, {0, 0}}, .h = 2, .w = 2};
    rt_val i = rt_input(g, "i", RT_SHAPE(RT_I32, 1, 1, 1, 1));
    feed[n_feed++] = (rt_feed){i, index};
    rt_val v = rt_graph_append(g, RT_OP_MAX_POOL_DX, (rt_val[]){input(gy, RT_SHAPE(RT_F32, 1, 1, 1, 1)), i}, 2, &a,
                               sizeof a);
    double out[4];
    void *to = out;
    rt_ok(rt_graph_status(g));
    rt_fails(rt_eval_ref(g, feed, n_feed, &v, 1, &to), RT_ERR_ARG);
    ck_assert_str_eq(rt_error_what(),
                     "max_pool_dx(f32[1,1,1,1], i32[1,1,1,1]): index 4 at element 0 is outside the image");
}
END_TEST

/* --- norms and losses --------------------------------------------------------------------------------------------- */
START_TEST(norm_by_hand)
{
    /* channel 0: 1,3,5,7 (mean 4, variance 5); channel 1: constant, so eps alone keeps it finite */
    static const double x[] = {1, 2, 3, 2, 5, 2, 7, 2}, gamma[] = {2, 3}, beta[] = {1, -1};
    double y[2], mean[2], rstd[2];
    rt_val vm, vr;
    begin();
    rt_norm_attr a = {.kind = RT_NORM_GROUP, .groups = 2, .relu = 1, .pool = 2, .eps = 4};
    rt_val v = rt_norm(g, input(x, RT_SHAPE(RT_F32, 1, 2, 2, 2)), input(gamma, RT_SHAPE(RT_F32, 2)),
                       input(beta, RT_SHAPE(RT_F32, 2)), a, &vm, &vr);
    eval(v, y);
    eval(vm, mean);
    eval(vr, rstd);
    rt_assert_near(mean[0], 4, 0, 0);
    rt_assert_near(rstd[0], 1.0 / 3, 1e-16, 0); /* sqrt(5 + 4) */
    rt_assert_near(rstd[1], 0.5, 0, 0);
    /* 2 * (-1, -1/3, 1/3, 1) + 1 = -1, 1/3, 5/3, 3; the ReLU comes before the mean: (0 + 1/3 + 5/3 + 3) / 4 */
    rt_assert_near(y[0], 1.25, 1e-15, 0);
    rt_assert_near(y[1], 0, 0, 0); /* beta = -1 */
}
END_TEST

START_TEST(batch_norm_ignores_groups)
{
    begin();
    rt_val x = rt_input(g, "x", RT_SHAPE(RT_F32, 2, 2, 2, 3)), c = rt_input(g, "c", RT_SHAPE(RT_F32, 3));
    rt_norm_attr a = {.kind = RT_NORM_BATCH, .groups = 7, .eps = 1e-5}, b = a;
    b.groups = 0;
    ck_assert_uint_eq(rt_norm(g, x, c, c, a, NULL, NULL).id, rt_norm(g, x, c, c, b, NULL, NULL).id);
    a.kind = RT_NORM_GROUP;
    refused(rt_norm(g, x, c, c, a, NULL, NULL), "norm(f32[2,2,2,3], f32[3], f32[3]): 7 groups do not divide C = 3");
    x = rt_input(g, "x", RT_SHAPE(RT_F32, 2, 3, 2, 3));
    c = rt_input(g, "c", RT_SHAPE(RT_F32, 3));
    b.pool = 2;
    refused(rt_norm(g, x, c, c, b, NULL, NULL),
            "norm(f32[2,3,2,3], f32[3], f32[3]): a fused 2x2 pool needs even H and W");
}
END_TEST

/* The fused backward serves first order; a gradient into mean or rstd goes through primitives. */
START_TEST(norm_uses_its_fused_backward)
{
    begin();
    rt_val in[3] = {rt_input(g, "x", RT_SHAPE(RT_F32, 2, 2, 2, 3)), rt_input(g, "gamma", RT_SHAPE(RT_F32, 3)),
                    rt_input(g, "beta", RT_SHAPE(RT_F32, 3))};
    rt_val gx[3], mean, y = rt_norm(g, in[0], in[1], in[2], (rt_norm_attr){.kind = 1, .eps = 1e-5}, &mean, NULL);
    rt_ok(rt_grad(g, rt_sum_all(g, rt_square(g, y)), in, 3, gx));
    ck_assert_int_eq(rt_val_node(g, gx[0], NULL)->op, RT_OP_NORM_DX);
    ck_assert_uint_eq(gx[1].id, gx[0].id + 1);
    size_t before = rt_graph_node_count(g);
    rt_ok(rt_grad(g, rt_sum_all(g, rt_square(g, mean)), in, 1, gx));
    for (size_t i = before; i < rt_graph_node_count(g); i++)
        ck_assert_int_ne(rt_graph_node(g, i)->op, RT_OP_NORM_DX);
}
END_TEST

START_TEST(cross_entropy_is_stable)
{
    static const double z[] = {1000, 0, -1000, -1000, -1000, -1000}, q[] = {0, 1, 0, 1.0 / 3, 1.0 / 3, 1.0 / 3};
    double loss[2], p[6];
    begin();
    rt_val vz = input(z, RT_SHAPE(RT_F32, 2, 3)), vq = input(q, RT_SHAPE(RT_F32, 2, 3));
    rt_val v = rt_softmax_ce(g, vz, vq);
    eval(v, loss);
    eval(rt_node_out(v, 1), p);
    rt_assert_near(loss[0], 1000, 0, 0);
    rt_assert_near(loss[1], log(3), 1e-12, 0);
    rt_assert_near(p[0], 1, 0, 0);
    rt_assert_near(p[3], 1.0 / 3, 1e-12, 0);
    refused(rt_softmax_ce(g, vz, rt_input(g, "q", RT_SHAPE(RT_F32, 3, 2))),
            "softmax_ce(f32[2,3], f32[3,2]): input 1 must be f32[2,3]");
}
END_TEST

/* --- views -------------------------------------------------------------------------------------------------------- */
START_TEST(identities_are_exact)
{
    static const double x[] = {0.1, -0.7, 0.3, 1e9, -1e-9, 0.3, 0.11, 0.13, 0.17, 5, 6, 7};
    static const double none[] = {0, 1, 1}, still[] = {1, 0, 0, 0, 1, 0}, empty[] = {1, 1, 0, 2};
    begin();
    rt_val v = input(x, RT_SHAPE(RT_F32, 1, 2, 2, 3));
    eval_is(rt_color(g, v, input(none, RT_SHAPE(RT_F32, 1, 3))), x, 12);
    eval_is(rt_affine_sample(g, v, input(still, RT_SHAPE(RT_F32, 1, 6)), 2, 2), x, 12);
    eval_is(rt_box_mask(g, v, input(empty, RT_SHAPE(RT_F32, 1, 4))), x, 12);
}
END_TEST

START_TEST(colour_by_hand)
{
    /* brighten by 1: (1,3), (5,7); saturation 1/2: (1.5,2.5), (5.5,6.5); contrast 2 about 4: (-1,1), (7,9) */
    static const double x[] = {0, 2, 4, 6}, p[] = {1, 0.5, 2};
    begin();
    eval_is(rt_color(g, input(x, RT_SHAPE(RT_F32, 1, 1, 2, 2)), input(p, RT_SHAPE(RT_F32, 1, 3))),
            (const double[]){-1, 1, 7, 9}, 4);
}
END_TEST

START_TEST(sampling_at_the_edges)
{
    static const double x[] = {1, 2, 3, 4}, broken[] = {1, NAN, 3, 4};
    static const double quarter[] = {1, 0, -0.25, 0, 1, 0}, far[] = {1, 0, -1, 0, 1, 0}, shift[] = {1, 0, 1, 0, 1, 0};
    static const double huge[] = {1e300, 0, 1e300, 0, 1, 0}, nan[] = {NAN, 0, 0, 0, 1, 0};
    begin();
    rt_val v = input(x, RT_SHAPE(RT_F32, 1, 2, 2, 1));
    rt_shape s = RT_SHAPE(RT_F32, 1, 6);
    /* a quarter above the top row: a quarter of the weight falls outside and counts as zero */
    eval_is(rt_affine_sample(g, v, input(quarter, s), 1, 2), (const double[]){0.75, 1.5}, 2);
    eval_is(rt_affine_sample(g, v, input(far, s), 2, 2), (const double[]){0, 0, 1, 2}, 4);
    eval_is(rt_affine_sample(g, v, input(huge, s), 1, 2), (const double[]){0, 0}, 2);
    eval_is(rt_affine_sample(g, v, input(nan, s), 1, 2), (const double[]){0, 0}, 2);
    begin(); /* an integer shift does not read the neighbours */
    v = input(broken, RT_SHAPE(RT_F32, 1, 2, 2, 1));
    eval_is(rt_affine_sample(g, v, input(shift, s), 1, 2), (const double[]){3, 4}, 2);
}
END_TEST

START_TEST(boxes_are_clipped)
{
    static const double x[] = {1, 2, 3, 4, 5, 6, 7, 8, 9}, box[] = {-5, 2, 1, 99};
    begin();
    eval_is(rt_box_mask(g, input(x, RT_SHAPE(RT_F32, 1, 3, 3, 1)), input(box, RT_SHAPE(RT_F32, 1, 4))),
            (const double[]){1, 0, 0, 4, 0, 0, 7, 8, 9}, 9);
    refused(rt_box_mask(g, rt_input(g, "x", RT_SHAPE(RT_F32, 2, 3, 3, 1)), rt_input(g, "b", RT_SHAPE(RT_F32, 1, 4))),
            "box_mask(f32[2,3,3,1], f32[1,4]): input 1 must be f32[2,4]");
}
END_TEST

/* --- optimisers --------------------------------------------------------------------------------------------------- */
START_TEST(steps_by_hand)
{
    static const double theta[] = {1, -2}, v[] = {0.5, 0}, grad[] = {0.25, 1}, lr[] = {0.5}, decay[] = {0.5, 0};
    double out[2];
    rt_val v_new;
    begin();
    rt_shape s = RT_SHAPE(RT_F32, 2);
    rt_val t = input(theta, s), m = input(v, s), gr = input(grad, s), l = input(lr, RT_SCALAR_F32), d = input(decay, s);
    /* g = (0.75, 1), v' = 0.5 v + g = (1, 1) */
    eval_is(rt_sgd_step(g, t, m, gr, l, d, 0.5, false, &v_new), (const double[]){0.5, -2.5}, 2);
    eval_is(v_new, (const double[]){1, 1}, 2);
    /* nesterov: g + 0.5 v' = (1.25, 1.5) */
    eval_is(rt_sgd_step(g, t, m, gr, l, d, 0.5, true, NULL), (const double[]){0.375, -2.75}, 2);
    static const double zero[] = {0, 0}, hyper[] = {0.5, 0.5, 0.75};
    rt_val z = input(zero, s), h = input(hyper, RT_SHAPE(RT_F32, 3));
    /* from zero state the first Adam step moves by lr * sign(g), here with eps 0 and no decay */
    const rt_adam_attr a = {.beta1 = 0.5, .beta2 = 0.25};
    eval(rt_adam_step(g, t, z, z, gr, h, rt_scalar(g, 0), a, NULL, NULL), out);
    rt_assert_near(out[0], 0.5, 1e-15, 0);
    rt_assert_near(out[1], -2.5, 1e-15, 0);
}
END_TEST

/* --- ramps and masks ---------------------------------------------------------------------------------------------- */
START_TEST(ramps_by_hand)
{
    int32_t whole[6];
    begin();
    eval_is(rt_iota(g, RT_SHAPE(RT_F32, 2, 3), 10, (const int64_t[]){-4, 1}), (const double[]){10, 11, 12, 6, 7, 8}, 6);
    eval(rt_iota(g, RT_SHAPE(RT_I32, 2, 3), -2147483647, (const int64_t[]){2147483647, 2147483647 / 2}), whole);
    ck_assert_int_eq(whole[0], -2147483647);
    ck_assert_int_eq(whole[4], 2147483647 / 2);
    rt_val none = rt_iota(g, RT_SHAPE(RT_I32, 0, 3), 0, (const int64_t[]){1, 1});
    ck_assert_int_eq(rt_shape_count(rt_val_shape(g, none)), 0);
    refused(rt_iota(g, RT_SHAPE(RT_I32, 2, 3), 0, (const int64_t[]){2147483647, 1}),
            "iota(): values from 0 to 2147483649 are not all exact");
    refused(rt_iota(g, RT_SHAPE(RT_F32, 9), 0, (const int64_t[]){-4194304}),
            "iota(): values from -33554432 to 0 are not all exact");
}
END_TEST

/* Element i is word i % 4 of draw i / 4 of stream `slot`; of two networks each has its own counter. */
START_TEST(masks_are_draws_of_the_counter)
{
    enum { N = 4002 };
    static const int32_t counter[] = {-5, 77, 123, 0, 9, 0, -1, 3};
    static const double keep = 0.3;
    double *y = malloc(2 * N * sizeof *y), *alone = malloc(N * sizeof *alone), kept[2] = {0, 0};
    begin();
    rt_val c = rt_input(g, "counter", RT_SHAPE(RT_I32, 2, 4)), one = rt_input(g, "one", RT_SHAPE(RT_I32, 4));
    feed[n_feed++] = (rt_feed){c, counter};
    feed[n_feed++] = (rt_feed){one, counter + 4};
    eval(rt_dropout_mask(g, c, RT_SHAPE(RT_F32, 2 * N / 3, 3), keep, 7), y);
    for (int i = 0; i < 2 * N; i++) {
        const uint64_t seed = i < N ? 77ull << 32 | 0xFFFFFFFBull : 9, step = i < N ? 123 : 3ull << 32 | 0xFFFFFFFFull;
        const uint32_t at = (uint32_t)(i % N), word = rt_draw(seed, RT_RNG_DROPOUT, step, at / 4, 7).v[at % 4];
        const double want = (double)rt_u01(word) < keep ? 1 / keep : 0; /* 0.3 lies between two draws */
        ck_assert_msg(y[i] == want, "element %d is %.17g, want %.17g", i, y[i], want);
        kept[i / N] += y[i] > 0;
    }
    for (int m = 0; m < 2; m++) rt_assert_near(kept[m] / N, keep, 0.03, 0); /* four standard deviations */
    eval(rt_dropout_mask(g, one, RT_SHAPE(RT_F32, N), keep, 7), alone);
    ck_assert_mem_eq(alone, y + N, N * sizeof *alone);
    eval(rt_dropout_mask(g, one, RT_SHAPE(RT_F32, N), keep, 8), alone);
    ck_assert(memcmp(alone, y + N, N * sizeof *alone) != 0);
    eval(rt_dropout_mask(g, one, RT_SHAPE(RT_F32, N), 1, 8), alone);
    for (int i = 0; i < N; i++) ck_assert(alone[i] == 1);
    free(y);
    free(alone);
    refused(rt_dropout_mask(g, rt_input(g, "a", RT_SHAPE(RT_I32, 3)), RT_SHAPE(RT_F32, 2), keep, 0),
            "dropout_mask(i32[3]): a counter has 4 words");
    refused(rt_dropout_mask(g, rt_input(g, "a", RT_SHAPE(RT_I32, 2, 4)), RT_SHAPE(RT_F32, 3), keep, 0),
            "dropout_mask(i32[2,4]): a mask is f32, and axis 0 a multiple of the counters");
    refused(rt_dropout_mask(g, rt_input(g, "a", RT_SHAPE(RT_I32, 4)), RT_SHAPE(RT_F32, 3), 0, 0),
            "dropout_mask(i32[4]): keeps 0 in stream 0; must be in (2^-24, 1] and 0..65535");
    refused(rt_dropout_mask(g, rt_input(g, "a", RT_SHAPE(RT_F32, 4)), RT_SHAPE(RT_F32, 3), keep, 0),
            "dropout_mask: input 0 is f32[4], must be i32");
}
END_TEST

START_TEST(memory_failure_is_reported)
{
    static const double x[] = {1, 2, 3, 4}, one[] = {1};
    rt_val vm, vr;
    begin();
    rt_norm_attr a = {.kind = RT_NORM_BATCH, .eps = 1};
    rt_val c = input(one, RT_SHAPE(RT_F32, 1)), vx = input(x, RT_SHAPE(RT_F32, 1, 2, 2, 1));
    rt_norm(g, vx, c, c, a, &vm, &vr);
    rt_val v = rt_graph_append(g, RT_OP_NORM_DX, (rt_val[]){vx, c, c, vm, vr, vx}, 6, &a, sizeof a);
    double out[4];
    void *to = out;
    rt_ok(rt_graph_status(g));
    rt_alloc_fail_at(1, 1);
    rt_status st = rt_eval_ref(g, feed, n_feed, &v, 1, &to);
    rt_alloc_fail_at(0, 0);
    ck_assert_int_eq(st, RT_ERR_NOMEM);
    rt_ok(rt_eval_ref(g, feed, n_feed, &v, 1, &to));
}
END_TEST

static const rt_test tests[] = {{"convolution by hand", convolution_by_hand},
                                {"one pass over gy", one_pass_over_gy_serves_weights_and_bias},
                                {"convolution refuses", convolution_refuses},
                                {"maximum of ties, padding and NaN", maximum_of_ties_padding_and_nan},
                                {"average divides by the window", average_divides_by_the_window},
                                {"a foreign index is refused", a_foreign_index_is_refused},
                                {"norm by hand", norm_by_hand},
                                {"batch norm ignores groups", batch_norm_ignores_groups},
                                {"norm uses its fused backward", norm_uses_its_fused_backward},
                                {"cross-entropy is stable", cross_entropy_is_stable},
                                {"identities are exact", identities_are_exact},
                                {"colour by hand", colour_by_hand},
                                {"sampling at the edges", sampling_at_the_edges},
                                {"boxes are clipped", boxes_are_clipped},
                                {"steps by hand", steps_by_hand},
                                {"ramps by hand", ramps_by_hand},
                                {"masks are draws of the counter", masks_are_draws_of_the_counter},
                                {"memory failure is reported", memory_failure_is_reported}};
RT_SUITE("ops.facts", tests)
