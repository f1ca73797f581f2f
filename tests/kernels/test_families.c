/* The kernel families on shapes made to hurt: channel counts around the vector width and the slab, operands off alignment, single
 * elements, nothing at all, several blocks and chunks, and data that is out of range. The op suite on the same back end
 * (kernels_ops) covers derivatives. */
#include <math.h>

#include "backend/cuda/cuda.h"
#include "base/rng.h"
#include "ops/attrs.h"
#include "rig.h"
#include "support/suite.h"

typedef struct shape4 {
    int64_t n, h, w, c;
} shape4;

static rt_val image(rt_graph *g, const char *name, shape4 s) { return rt_input(g, name, RT_SHAPE(RT_F32, s.n, s.h, s.w, s.c)); }

static rt_graph *graph(void)
{
    rt_graph *g = NULL;
    rt_ok(rt_graph_create(&g));
    return g;
}

static void done(rt_backend *be)
{
    be->vt->close(be);
    ck_assert_int_eq(rt_host_cuda_live(), 0);
}

/* --- normalisation ---------------------------------------------------------------------------------------------------------- */

/* norm and norm_dx of one geometry: dx is given the reference's statistics, rounded. */
static void check_norm(rt_backend *be, shape4 s, rt_norm_attr a, const char *impl, unsigned flags)
{
    rt_graph *g = graph();
    const int64_t nets = rt_nets(a.nets);
    rt_val x = image(g, "x", s), gamma = rt_input(g, "gamma", RT_SHAPE(RT_F32, nets * s.c)), beta = rt_input(g, "beta", RT_SHAPE(RT_F32, nets * s.c));
    rt_val mean, rstd, y = rt_norm(g, x, gamma, beta, a, &mean, &rstd);
    rt_ok(rt_graph_status(g));
    rig f = {.n = rt_val_node(g, y, &(int){0})}, b = {0};
    rt_prepared p = {.node = f.n};
    rt_ok(rt_cuda_norm_prepare(be, &p));
    ck_assert_str_eq(p.impl, impl);
    rt_cuda_release(&p);
    for (int i = 0; i < 3; i++) {
        int64_t count = rt_shape_count(&f.n->in_shape[i]);
        f.in[i] = malloc((size_t)count * 8 + 1);
        for (int64_t e = 0; e < count; e++) f.in[i][e] = rig_draw((uint32_t)e, i, i == 1);
    }
    rig_device(be, &f, flags);
    rig_ref(&f);
    rig_compare(&f, 2e-5, 5e-6);

    rt_val gy = rt_input(g, "gy", f.n->out_shape[0]);
    rt_val gx = rt_graph_append(g, RT_OP_NORM_DX, (rt_val[]){x, gamma, beta, mean, rstd, gy}, 6, f.n->attr, sizeof(rt_norm_attr));
    rt_ok(rt_graph_status(g));
    b.n = rt_val_node(g, gx, &(int){0});
    for (int i = 0; i < 6; i++) {
        int64_t count = rt_shape_count(&b.n->in_shape[i]);
        b.in[i] = malloc((size_t)count * 8 + 1);
        for (int64_t e = 0; e < count; e++)
            b.in[i][e] = i < 3 ? f.in[i][e] : i < 5 ? (double)(float)f.want[i - 2][e] : rig_draw((uint32_t)e, i, false);
    }
    rig_device(be, &b, flags);
    rig_ref(&b);
    /* Sums of up to a few thousand terms of size 16: absolute error follows their number, not the small result. */
    const double terms = sqrt((double)(s.n * s.h * s.w)) * 16;
    rig_compare(&b, 1e-6 * terms * (s.h * s.w == 1 ? 1 / sqrt(a.eps) : 1), 2e-5); /* one pixel: k g cancels, rstd is 1/sqrt(eps) */
    rig_free(&f);
    rig_free(&b);
    rt_graph_destroy(g);
}

#define GROUPS(g_, ...) ((rt_norm_attr){.kind = RT_NORM_GROUP, .groups = (g_), .eps = 1e-5, __VA_ARGS__})
#define BATCH(...) ((rt_norm_attr){.kind = RT_NORM_BATCH, .eps = 1e-5, __VA_ARGS__})

START_TEST(norms_of_every_kind)
{
    rt_backend *be = rig_open();
    for (unsigned flags = 0; flags <= RIG_SHIFT; flags += RIG_SHIFT) {
        check_norm(be, (shape4){2, 4, 6, 3}, GROUPS(3, .relu = 1, .pool = 2), "cuda:fused", flags);
        check_norm(be, (shape4){2, 5, 3, 8}, GROUPS(8, .relu = 1), "cuda:fused", flags);
        check_norm(be, (shape4){1, 2, 2, 36}, GROUPS(36, .pool = 2), "cuda:fused", flags); /* two slabs, one short */
        check_norm(be, (shape4){3, 6, 2, 40}, GROUPS(5, .relu = 1), "cuda:fused", flags);  /* runs of 8 */
        check_norm(be, (shape4){2, 2, 2, 64}, GROUPS(2, .relu = 1, .pool = 2), "cuda:fused", flags); /* runs of 32 */
        check_norm(be, (shape4){2, 4, 4, 6}, GROUPS(2, .relu = 1), "cuda:split", flags);  /* runs of 3 */
        check_norm(be, (shape4){2, 4, 4, 6}, GROUPS(1, .pool = 2), "cuda:split", flags);
        check_norm(be, (shape4){3, 4, 6, 68}, BATCH(.relu = 1, .pool = 2), "cuda:split", flags);
        check_norm(be, (shape4){7, 3, 3, 5}, BATCH(.relu = 1), "cuda:split", flags);
        check_norm(be, (shape4){4, 3, 3, 8}, BATCH(.relu = 1, .nets = 2), "cuda:split", flags);
        check_norm(be, (shape4){6, 2, 4, 12}, GROUPS(3, .relu = 1, .pool = 2, .nets = 3), "cuda:fused", flags);
        check_norm(be, (shape4){6, 2, 4, 9}, GROUPS(1, .relu = 1, .nets = 3), "cuda:split", flags);
    }
    done(be);
}
END_TEST

START_TEST(norms_in_several_chunks)
{
    rt_backend *be = rig_open();
    check_norm(be, (shape4){5, 14, 14, 8}, BATCH(.relu = 1), "cuda:split", 0);            /* 980 pixels: chunks of 256, the last short */
    check_norm(be, (shape4){9, 16, 16, 5}, BATCH(.relu = 1, .pool = 2), "cuda:split", 0);
    check_norm(be, (shape4){8, 12, 12, 4}, BATCH(.relu = 1, .nets = 2), "cuda:split", 0);
    check_norm(be, (shape4){2, 20, 20, 6}, GROUPS(2), "cuda:split", 0);
    check_norm(be, (shape4){1, 66, 64, 4}, GROUPS(4, .relu = 1, .pool = 2), "cuda:split", 0); /* too many pixels for fused */
    check_norm(be, (shape4){1, 64, 64, 3}, GROUPS(3, .relu = 1, .pool = 2), "cuda:fused", 0);
    done(be);
}
END_TEST

START_TEST(norms_of_little_or_nothing)
{
    rt_backend *be = rig_open();
    check_norm(be, (shape4){1, 1, 1, 1}, GROUPS(1), "cuda:fused", 0); /* variance 0 */
    check_norm(be, (shape4){1, 1, 1, 1}, BATCH(.relu = 1), "cuda:split", 0);
    check_norm(be, (shape4){3, 1, 1, 7}, GROUPS(7, .relu = 1), "cuda:fused", 0);
    done(be);
}
END_TEST

/* A large mean: sums of squares would lose everything, merged moments lose what float loses. */
START_TEST(norm_survives_a_large_mean)
{
    static const rt_norm_attr kinds[] = {{.kind = RT_NORM_GROUP, .groups = 4, .eps = 1e-5}, {.kind = RT_NORM_BATCH, .eps = 1e-5}};
    rt_backend *be = rig_open();
    for (int kind = 0; kind < 2; kind++) {
        rt_graph *g = graph();
        rt_val x = image(g, "x", (shape4){2, 24, 24, 4}), c = rt_input(g, "c", RT_SHAPE(RT_F32, 4)), b = rt_input(g, "b", RT_SHAPE(RT_F32, 4));
        rt_val y = rt_norm(g, x, c, b, kinds[kind], NULL, NULL);
        rt_ok(rt_graph_status(g));
        rig r = {.n = rt_val_node(g, y, &(int){0})};
        for (int i = 0; i < 3; i++) {
            int64_t count = rt_shape_count(&r.n->in_shape[i]);
            r.in[i] = malloc((size_t)count * 8);
            for (int64_t e = 0; e < count; e++)
                r.in[i][e] = i == 0 ? 1000.0 + (double)(float)rig_draw((uint32_t)e, 0, false) : i == 1;
            for (int64_t e = 0; e < count; e++) r.in[i][e] = (double)(float)r.in[i][e];
        }
        rig_device(be, &r, 0);
        rig_ref(&r);
        rig_compare(&r, 2e-4, 1e-6);
        rig_free(&r);
        rt_graph_destroy(g);
    }
    done(be);
}
END_TEST

/* --- pooling ------------------------------------------------------------------------------------------------------------------ */

static rt_val dx_of(rt_graph *g, rt_op op, rt_val first, rt_val index, rt_pool_attr a, shape4 x)
{
    const rt_pool_dx_attr d = {.pool = a, .h = x.h, .w = x.w};
    return rt_graph_append(g, op, (rt_val[]){first, index}, index.id ? 2 : 1, &d, sizeof d);
}

START_TEST(pools_of_every_window)
{
    static const rt_pool_attr windows[] = {{{2, 2}, {2, 2}, {0, 0}}, {{3, 3}, {2, 2}, {1, 1}}, {{3, 2}, {1, 3}, {2, 1}}, {{1, 1}, {2, 2}, {0, 0}}};
    static const shape4 shapes[] = {{2, 7, 9, 3}, {1, 6, 4, 8}, {3, 5, 5, 1}, {1, 3, 3, 260}};
    rt_backend *be = rig_open();
    for (size_t w = 0; w < sizeof windows / sizeof *windows; w++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
            for (unsigned flags = 0; flags <= RIG_SHIFT; flags += RIG_SHIFT) {
                rt_graph *g = graph();
                const rt_pool_attr a = windows[w];
                rt_val x = image(g, "x", shapes[s]), y = rt_max_pool(g, x, a), avg = rt_avg_pool(g, x, a);
                rig_check(be, g, y, false, 0, 0, flags);
                rig_check(be, g, avg, false, 1e-6, 1e-6, flags);
                rt_val gy = rt_input(g, "gy", *rt_val_shape(g, y));
                rig_check(be, g, dx_of(g, RT_OP_AVG_POOL_DX, gy, (rt_val){0}, a, shapes[s]), false, 1e-6, 1e-6, flags);
                rt_graph_destroy(g);
            }
    done(be);
}
END_TEST

/* max_pool_dx and pool_gather with the winners that max_pool found. */
START_TEST(pool_adjoints_follow_the_winners)
{
    static const rt_pool_attr windows[] = {{{2, 2}, {2, 2}, {0, 0}}, {{3, 3}, {2, 2}, {1, 1}}, {{3, 3}, {1, 1}, {1, 1}}};
    static const shape4 shapes[] = {{2, 7, 9, 3}, {1, 6, 4, 8}};
    rt_backend *be = rig_open();
    for (size_t w = 0; w < sizeof windows / sizeof *windows; w++)
        for (size_t s = 0; s < 2; s++)
            for (int gather = 0; gather < 2; gather++) {
                rt_graph *g = graph();
                rt_val x = image(g, "x", shapes[s]), y = rt_max_pool(g, x, windows[w]);
                rig m = {.n = rt_val_node(g, y, &(int){0})}, r = {0};
                m.in[0] = malloc((size_t)rt_shape_count(&m.n->in_shape[0]) * 8);
                for (int64_t e = 0; e < rt_shape_count(&m.n->in_shape[0]); e++) m.in[0][e] = rig_draw((uint32_t)e, 0, false);
                rig_ref(&m);
                rt_val first = gather ? x : rt_input(g, "gy", *rt_val_shape(g, y)), index = rt_node_out(y, 1);
                r.n = rt_val_node(g, dx_of(g, gather ? RT_OP_POOL_GATHER : RT_OP_MAX_POOL_DX, first, index, windows[w], shapes[s]), &(int){0});
                rt_ok(rt_graph_status(g));
                const int64_t count = rt_shape_count(&r.n->in_shape[0]);
                r.in[0] = malloc((size_t)count * 8);
                for (int64_t e = 0; e < count; e++) r.in[0][e] = rig_draw((uint32_t)e, 1, false);
                r.in[1] = malloc((size_t)m.n_want[1] * 4);
                memcpy(r.in[1], m.want[1], (size_t)m.n_want[1] * 4);
                rig_device(be, &r, 0);
                rig_ref(&r);
                rig_compare(&r, gather ? 0 : 1e-6, 1e-6);
                rig_free(&m);
                rig_free(&r);
                rt_graph_destroy(g);
            }
    done(be);
}
END_TEST

/* --- index --------------------------------------------------------------------------------------------------------------------- */

START_TEST(index_ops_in_order)
{
    static const struct {
        int64_t m, rows, row;
    } cases[] = {{1, 1, 1}, {300, 7, 3}, {5, 9, 8}, {0, 4, 4}, {6, 300, 1}, {70, 2, 260}, {9, 3, 0}};
    rt_backend *be = rig_open();
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
        for (unsigned flags = 0; flags <= RIG_SHIFT; flags += RIG_SHIFT) {
            rt_graph *g = graph();
            const int64_t m = cases[k].m, rows = cases[k].rows, row = cases[k].row;
            rt_val idx = rt_input(g, "idx", RT_SHAPE(RT_I32, m)), x = rt_input(g, "x", RT_SHAPE(RT_F32, rows, row));
            rig_check_index(be, g, rt_gather(g, x, idx), (int32_t)rows, 0, 0, flags);
            rig_check_index(be, g, rt_one_hot(g, idx, rows), (int32_t)rows, 0, 0, flags);
            rig_check_index(be, g, rt_scatter_add(g, rt_input(g, "gy", RT_SHAPE(RT_F32, m, row)), idx, rows), (int32_t)rows, 2e-5, 1e-6, flags);
            rt_graph_destroy(g);
        }
    done(be);
}
END_TEST

/* Runs v's node with all-zero reals and the given indices as its last input. */
static rt_status with_index(rt_backend *be, const rt_graph *g, rt_val v, const int32_t *idx)
{
    const rt_node *n = rt_val_node(g, v, &(int){0});
    const rt_kernel *k = &be->vt->kernels[n->op];
    rt_prepared p = {.node = n};
    void *in[RIG_MAX_IN] = {0}, *out = NULL, *scratch = NULL;
    rt_ok(k->prepare(be, &p));
    rt_ok(be->vt->alloc(be, p.scratch_bytes, &scratch));
    for (int i = 0; i < n->n_in; i++) rt_ok(be->vt->alloc(be, (size_t)rt_shape_count(&n->in_shape[i]) * 4, &in[i]));
    rt_ok(be->vt->alloc(be, (size_t)rt_shape_count(&n->out_shape[0]) * 4, &out));
    const int last = n->n_in - 1;
    rt_ok(be->vt->upload(be, in[last], idx, (size_t)rt_shape_count(&n->in_shape[last]) * 4));
    rt_ok(k->run(&p, &(rt_kernel_io){(const void *const *)in, &out, scratch}));
    const rt_status st = be->vt->end_run(be);
    rt_ok(be->vt->end_run(be)); /* reported once */
    for (int i = 0; i < n->n_in; i++) be->vt->free(be, in[i]);
    be->vt->free(be, out);
    be->vt->free(be, scratch);
    k->release(&p);
    return st;
}

START_TEST(indices_out_of_range_are_reported)
{
    static const int32_t bad[][4] = {{0, 5, 1, 2}, {3, 2, -1, 0}, {0, 1, 2, INT32_MIN}};
    static const char *at[] = {"index 5 at position 1", "index -1 at position 2", "index -2147483648 at position 3"};
    static const rt_pool_attr two = {{2, 2}, {2, 2}, {0, 0}};
    rt_backend *be = rig_open();
    rt_graph *g = graph();
    rt_val idx = rt_input(g, "idx", RT_SHAPE(RT_I32, 4)), x = rt_input(g, "x", RT_SHAPE(RT_F32, 5, 4)), gy = rt_input(g, "gy", RT_SHAPE(RT_F32, 4, 4));
    const rt_val ops[] = {rt_gather(g, x, idx), rt_scatter_add(g, gy, idx, 5), rt_one_hot(g, idx, 5)};
    rt_ok(rt_graph_status(g));
    for (size_t o = 0; o < 3; o++) {
        rt_ok(with_index(be, g, ops[o], (int32_t[]){4, 0, 4, 1}));
        for (size_t k = 0; k < 3; k++) {
            rt_fails(with_index(be, g, ops[o], bad[k]), RT_ERR_ARG);
            ck_assert_msg(strstr(rt_error_what(), at[k]) != NULL, "%s", rt_error_what());
            ck_assert_msg(strstr(rt_error_what(), rt_op_name(rt_val_node(g, ops[o], &(int){0})->op)) != NULL, "%s", rt_error_what());
        }
    }
    /* One window of each image: pixels 0, 1, 4, 5 of a 4 x 4 image belong to the first. */
    const shape4 s = {1, 4, 4, 1};
    rt_val index = rt_input(g, "index", RT_SHAPE(RT_I32, 1, 2, 2, 1)), small = rt_input(g, "small", RT_SHAPE(RT_F32, 1, 2, 2, 1));
    rt_val dx = dx_of(g, RT_OP_MAX_POOL_DX, small, index, two, s), gather = dx_of(g, RT_OP_POOL_GATHER, image(g, "big", s), index, two, s);
    rt_ok(rt_graph_status(g));
    rt_ok(with_index(be, g, dx, (int32_t[]){5, 2, 13, 10}));
    rt_fails(with_index(be, g, dx, (int32_t[]){5, 2, 2, 10}), RT_ERR_ARG); /* in the image, not in the window */
    rt_fails(with_index(be, g, dx, (int32_t[]){5, 2, 13, 16}), RT_ERR_ARG);
    rt_fails(with_index(be, g, dx, (int32_t[]){-1, 2, 13, 10}), RT_ERR_ARG);
    rt_fails(with_index(be, g, gather, (int32_t[]){5, 2, 13, 16}), RT_ERR_ARG);
    ck_assert_msg(strstr(rt_error_what(), "pool_gather: index 16 at position 3") != NULL, "%s", rt_error_what());
    rt_graph_destroy(g);
    done(be);
}
END_TEST

/* --- losses -------------------------------------------------------------------------------------------------------------------- */

START_TEST(losses_of_any_width)
{
    static const int64_t widths[] = {1, 2, 3, 10, 100, 255, 257, 1000};
    rt_backend *be = rig_open();
    for (size_t k = 0; k < sizeof widths / sizeof *widths; k++)
        for (int64_t rows = 1; rows < 12; rows += 5) {
            rt_graph *g = graph();
            rt_val z = rt_input(g, "z", RT_SHAPE(RT_F32, rows, widths[k])), q = rt_input(g, "q", RT_SHAPE(RT_F32, rows, widths[k]));
            rig_check(be, g, rt_log_softmax(g, z), false, 1e-6, 1e-6, 0);
            rig_check(be, g, rt_softmax_ce(g, z, q), true, 1e-5 * (double)widths[k], 1e-6, 0);
            rt_graph_destroy(g);
        }
    done(be);
}
END_TEST

START_TEST(losses_of_extreme_logits)
{
    static const double rows[][3] = {{1e30, 0, -1e30}, {-INFINITY, 0, 1}, {NAN, 0, 1}, {0, NAN, 1}, {3e4, 3e4, 3e4}, {-1e4, -1e4 + 1, -1e4}};
    enum { ROWS = sizeof rows / sizeof *rows };
    rt_backend *be = rig_open();
    rt_graph *g = graph();
    rt_val z = rt_input(g, "z", RT_SHAPE(RT_F32, ROWS, 3)), q = rt_input(g, "q", RT_SHAPE(RT_F32, ROWS, 3));
    const rt_val ops[] = {rt_log_softmax(g, z), rt_softmax_ce(g, z, q)};
    for (int k = 0; k < 2; k++) {
        rig r = {.n = rt_val_node(g, ops[k], &(int){0})};
        for (int i = 0; i < r.n->n_in; i++) {
            r.in[i] = malloc(ROWS * 3 * 8);
            for (int e = 0; e < ROWS * 3; e++) r.in[i][e] = i ? e % 3 == 1 : (double)(float)rows[e / 3][e % 3];
        }
        rig_device(be, &r, 0);
        rig_ref(&r);
        rig_compare(&r, 1e-6, 1e-6);
        rig_free(&r);
    }
    rt_graph_destroy(g);
    done(be);
}
END_TEST

/* --- movement and views --------------------------------------------------------------------------------------------------------- */

START_TEST(slices_pads_and_joins)
{
    static const int64_t last[] = {1, 3, 4, 8, 13};
    rt_backend *be = rig_open();
    for (size_t k = 0; k < sizeof last / sizeof *last; k++)
        for (unsigned flags = 0; flags <= RIG_SHIFT; flags += RIG_SHIFT) {
            rt_graph *g = graph();
            const int64_t c = last[k];
            rt_val x = rt_input(g, "x", RT_SHAPE(RT_F32, 3, 5, c)), y = rt_input(g, "y", RT_SHAPE(RT_F32, 3, 2, c)), z = rt_input(g, "z", RT_SHAPE(RT_F32, 3, 5, 4));
            rig_check(be, g, rt_slice(g, x, (int64_t[]){1, 1, 0}, (int64_t[]){3, 4, c}), false, 0, 0, flags);
            rig_check(be, g, rt_slice(g, x, (int64_t[]){0, 2, c / 2}, (int64_t[]){3, 3, c}), false, 0, 0, flags);
            rig_check(be, g, rt_slice(g, x, (int64_t[]){0, 2, 0}, (int64_t[]){3, 2, c}), false, 0, 0, flags);
            rig_check(be, g, rt_pad(g, x, (int64_t[]){0, 1, 0}, (int64_t[]){2, 0, 4}), false, 0, 0, flags);
            rig_check(be, g, rt_pad(g, x, (int64_t[]){1, 0, 3}, (int64_t[]){0, 0, 1}), false, 0, 0, flags);
            rig_check(be, g, rt_concat(g, (rt_val[]){x, y, x}, 3, 1), false, 0, 0, flags);
            rig_check(be, g, rt_concat(g, (rt_val[]){x, z}, 2, 2), false, 0, 0, flags);
            rt_graph_destroy(g);
        }
    done(be);
}
END_TEST

/* Views of images with the given rows of parameters. */
static void check_view(rt_backend *be, const rt_graph *g, rt_val v, const double *param, double atol)
{
    rt_ok(rt_graph_status(g));
    rig r = {.n = rt_val_node(g, v, &(int){0})};
    for (int i = 0; i < 2; i++) {
        const int64_t count = rt_shape_count(&r.n->in_shape[i]);
        r.in[i] = malloc((size_t)count * 8 + 1);
        for (int64_t e = 0; e < count; e++) r.in[i][e] = i ? (double)(float)param[e] : rig_draw((uint32_t)e, 0, false);
    }
    rig_device(be, &r, 0);
    rig_ref(&r);
    rig_compare(&r, atol, 1e-5);
    rig_free(&r);
}

START_TEST(views_match_the_reference)
{
    /* Identity, flip, turn by 30 degrees with a shift, shrink, magnify, projection onto a line, a point, far away. Entries are
     * multiples of 1/64, so that float and double agree on which side of an edge a point lies. */
    static const double maps[][6] = {
        {1, 0, 0, 0, 1, 0},  {1, 0, 0, 0, -1, 8},           {0.875, -0.5, 2.25, 0.5, 0.875, -1.5}, {2.5, 0, -1, 0, 2.5, -1},
        {0.25, 0, 1, 0, 0.25, 2}, {1, 1, 0, 1, 1, 0},       {0, 0, 3.5, 0, 0, 2.25},               {1, 0, 4096, 0, 1, 0}};
    enum { MAPS = sizeof maps / sizeof *maps };
    static const int64_t channels[] = {1, 3, 4, 6};
    rt_backend *be = rig_open();
    for (size_t k = 0; k < sizeof channels / sizeof *channels; k++) {
        rt_graph *g = graph();
        const shape4 s = {MAPS, 7, 9, channels[k]};
        rt_val x = image(g, "x", s), a = rt_input(g, "a", RT_SHAPE(RT_F32, MAPS, 6)), gy = image(g, "gy", (shape4){MAPS, 6, 11, channels[k]});
        check_view(be, g, rt_affine_sample(g, x, a, 6, 11), maps[0], 1e-6);
        check_view(be, g, rt_affine_scatter(g, gy, a, 7, 9), maps[0], 2e-5);
        double colors[MAPS * 3], boxes[MAPS * 4];
        for (int i = 0; i < MAPS * 3; i++) colors[i] = rig_draw((uint32_t)i, 5, i % 3 != 0);
        for (int i = 0; i < MAPS * 4; i++) boxes[i] = rig_draw((uint32_t)i, 6, false) + (i % 2 ? 6 : 1);
        check_view(be, g, rt_color(g, x, rt_input(g, "p", RT_SHAPE(RT_F32, MAPS, 3))), colors, 1e-4);
        check_view(be, g, rt_box_mask(g, x, rt_input(g, "box", RT_SHAPE(RT_F32, MAPS, 4))), boxes, 0);
        rt_graph_destroy(g);
    }
    done(be);
}
END_TEST

/* <gy, S x> = <S' gy, x> for maps drawn as augmentation draws them, and for wild ones: the adjoint finds every reader. */
START_TEST(scatter_is_the_adjoint_of_sample)
{
    enum { IMAGES = 64, H = 8, W = 8 };
    static float x[IMAGES * H * W], gy[IMAGES * H * W], sx[IMAGES * H * W], gx[IMAGES * H * W], a[IMAGES * 6];
    rt_backend *be = rig_open();
    cudaStream_t s = ((rt_cuda_backend *)be)->stream;
    for (int scale = 0; scale < 3; scale++) {
        for (int i = 0; i < IMAGES * H * W; i++) {
            x[i] = (float)rig_draw((uint32_t)i, 0, false);
            gy[i] = (float)rig_draw((uint32_t)i, 1, false);
        }
        for (int i = 0; i < IMAGES * 6; i++) {
            const float near = i % 6 == 0 || i % 6 == 4 ? 1.0f : 0.0f, d = (float)rig_draw((uint32_t)i, 2 + scale, false);
            a[i] = scale == 2 ? d * (i % 3 == 2 ? 1e5f : 3e4f) : near + d * (scale ? 1.0f : 0.125f);
        }
        const rt_k_affine g = {.images = IMAGES, .h_in = H, .w_in = W, .h_out = H, .w_out = W, .c = 1};
        ck_assert_int_eq(rt_k_affine_sample(x, a, sx, &g, s), cudaSuccess);
        ck_assert_int_eq(rt_k_affine_scatter(gy, a, gx, &g, s), cudaSuccess);
        rt_ok(be->vt->end_run(be));
        for (int i = 0; i < IMAGES; i++) {
            double left = 0, right = 0, size = 0;
            for (int e = i * H * W; e < (i + 1) * H * W; e++) {
                left += (double)gy[e] * (double)sx[e];
                right += (double)gx[e] * (double)x[e];
                size += fabs((double)gy[e] * (double)sx[e]) + fabs((double)gx[e] * (double)x[e]);
            }
            ck_assert_msg(fabs(left - right) <= 1e-5 * size + 1e-9, "scale %d, image %d: %.9g and %.9g", scale, i, left, right);
        }
    }
    done(be);
}
END_TEST

static const rt_test tests[] = {
    {"norms of every kind", norms_of_every_kind},
    {"norms in several chunks", norms_in_several_chunks},
    {"norms of little or nothing", norms_of_little_or_nothing},
    {"norm survives a large mean", norm_survives_a_large_mean},
    {"pools of every window", pools_of_every_window},
    {"pool adjoints follow the winners", pool_adjoints_follow_the_winners},
    {"index ops in order", index_ops_in_order},
    {"indices out of range are reported", indices_out_of_range_are_reported},
    {"losses of any width", losses_of_any_width},
    {"losses of extreme logits", losses_of_extreme_logits},
    {"slices, pads and joins", slices_pads_and_joins},
    {"views match the reference", views_match_the_reference},
    {"scatter is the adjoint of sample", scatter_is_the_adjoint_of_sample},
};
RT_SUITE("kernels.families", tests)
