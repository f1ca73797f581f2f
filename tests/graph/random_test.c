/* Random graphs of smooth ops through rt_grad, twice, against differences; and determinism of construction. */
#include "../support/eval.h"
#include "../support/suite.h"

#include "base/rng.h"
#include "ops/row.h"

enum { N_IN = 3, N_OP = 25, N_SHAPES = 4, PATH = 64 * 1024 };

typedef struct program {
    rt_graph *g;
    rt_val x[N_IN], y; /* y: rank 0 */
    double data[N_IN][12];
} program;

static rt_shape shape_at(uint32_t i)
{
    switch (i % N_SHAPES) {
    case 0: return RT_SHAPE(RT_F32, 3, 4);
    case 1: return RT_SHAPE(RT_F32, 4);
    case 2: return RT_SHAPE(RT_F32, 3, 1);
    default: return RT_SCALAR_F32;
    }
}

/* One random op on values already made. Results are squashed, so that nothing grows with depth. */
static rt_val random_op(rt_graph *g, rt_rng *r, const rt_val *pool, int n)
{
    rt_val a = pool[rt_rng_below(r, (uint32_t)n)], b = pool[rt_rng_below(r, (uint32_t)n)];
    const rt_shape *s = rt_val_shape(g, a);
    switch (rt_rng_below(r, 12)) {
    case 0: return rt_tanh(g, rt_add(g, a, b));
    case 1: return rt_tanh(g, rt_mul(g, a, b));
    case 2: return rt_div(g, a, rt_add_scalar(g, rt_square(g, b), 1.0));
    case 3: return rt_sub(g, rt_sigmoid(g, a), rt_sigmoid(g, b));
    case 4: return rt_sqrt(g, rt_add_scalar(g, rt_square(g, a), 0.5));
    case 5: return rt_tanh(g, rt_exp(g, rt_tanh(g, a)));
    case 6: return rt_log(g, rt_add_scalar(g, rt_square(g, a), 1.5));
    case 7: return s->rank ? rt_mean(g, a, 1u << rt_rng_below(r, (uint32_t)s->rank), rt_rng_below(r, 2)) : a;
    case 8:
        return s->rank == 2 && s->d[1] == 4 ? rt_tanh(g, rt_matmul(g, a, rt_matmul(g, a, a, true, false), false, false))
                                            : rt_recip(g, rt_add_scalar(g, rt_square(g, a), 1.0));
    case 9: return s->rank == 2 ? rt_transpose(g, rt_transpose(g, rt_tanh(g, a), (int[]){1, 0}), (int[]){1, 0}) : a;
    case 10:
        return s->rank == 1 && s->d[0] == 4
                   ? rt_concat(g, (rt_val[]){rt_view1d(g, a, 2, RT_SHAPE(RT_F32, 2)), rt_view1d(g, a, 0, RT_SHAPE(RT_F32, 2))}, 2, 0)
                   : rt_neg(g, a);
    default: return rt_broadcast(g, a, rt_val_shape(g, a)->rank <= 1 && rt_shape_count(s) == 1 ? shape_at(0) : *s);
    }
}

static program build(uint64_t seed)
{
    program p;
    rt_val pool[N_IN + N_OP];
    char name[8];
    rt_rng r = rt_rng_at(seed, RT_RNG_TEST, 0, 0);
    p.g = NULL;
    rt_ok(rt_graph_create(&p.g));
    for (int i = 0; i < N_IN; i++) {
        snprintf(name, sizeof name, "x%d", i);
        pool[i] = p.x[i] = rt_input(p.g, name, shape_at((uint32_t)i));
        for (int k = 0; k < 12; k++) p.data[i][k] = rt_rng_uniform_in(&r, -1, 1);
    }
    for (int i = 0; i < N_OP; i++) {
        /* Shapes that do not fit one another are a dead end of the draw, not of the test: keep to broadcastable pairs. */
        pool[N_IN + i] = random_op(p.g, &r, pool, N_IN + i);
        if (!pool[N_IN + i].id) break;
    }
    if (rt_graph_status(p.g) != RT_OK) return p;
    p.y = rt_scalar(p.g, 0);
    for (int i = 0; i < N_OP; i++) p.y = rt_add(p.g, p.y, rt_mean_all(p.g, pool[N_IN + i]));
    return p;
}

static double value(program *p, rt_val v, const double *dir, double t)
{
    double moved[N_IN][12], out = NAN;
    rt_feed feed[N_IN];
    void *dst = &out;
    for (int i = 0; i < N_IN; i++) {
        for (int k = 0; k < 12; k++) moved[i][k] = p->data[i][k] + t * dir[12 * i + k];
        feed[i] = (rt_feed){p->x[i], moved[i]};
    }
    rt_ok(rt_eval_ref(p->g, feed, N_IN, &v, 1, &dst));
    return out;
}

static double slope(program *p, rt_val v, const double *dir)
{
    const double h = 1e-3;
    return (8 * (value(p, v, dir, h) - value(p, v, dir, -h)) - (value(p, v, dir, 2 * h) - value(p, v, dir, -2 * h))) /
           (12 * h);
}

/* sum_i <d y / d x_i, dir_i> as a value of the graph: the directional derivative, itself differentiable. */
static rt_val along(program *p, rt_val y, const double *dir)
{
    rt_val d[N_IN], sum = rt_scalar(p->g, 0);
    rt_ok(rt_grad(p->g, y, p->x, N_IN, d));
    for (int i = 0; i < N_IN; i++) {
        int64_t n = rt_shape_count(rt_val_shape(p->g, p->x[i]));
        rt_val flat = rt_reshape(p->g, d[i], RT_SHAPE(RT_F32, -1));
        for (int64_t k = 0; k < n; k++) {
            rt_val one = rt_reshape(p->g, rt_view1d(p->g, flat, k, RT_SHAPE(RT_F32, 1)), RT_SCALAR_F32);
            sum = rt_add(p->g, sum, rt_mul_scalar(p->g, one, dir[12 * i + k]));
        }
    }
    rt_ok(rt_graph_status(p->g));
    return sum;
}

START_TEST(gradients_agree_with_differences)
{
    int used = 0;
    double dir[12 * N_IN];
    for (uint64_t seed = 1; seed <= 60; seed++) {
        program p = build(seed);
        if (rt_graph_status(p.g) == RT_OK) {
            rt_rng r = rt_rng_at(seed, RT_RNG_TEST, 1, 0);
            for (int k = 0; k < 12 * N_IN; k++) dir[k] = rt_rng_uniform_in(&r, -1, 1);
            rt_val first = along(&p, p.y, dir), second = along(&p, first, dir);
            rt_ok(rt_graph_verify(p.g));
            double want1 = slope(&p, p.y, dir), got1 = value(&p, first, dir, 0);
            double want2 = slope(&p, first, dir), got2 = value(&p, second, dir, 0);
            ck_assert_msg(rt_near(got1, want1, 1e-9, 1e-8), "seed %d: %.12g, want %.12g", (int)seed, got1, want1);
            ck_assert_msg(rt_near(got2, want2, 1e-8, 1e-7), "seed %d: %.12g, want %.12g", (int)seed, got2, want2);
            used++;
        }
        rt_graph_destroy(p.g);
    }
    ck_assert_int_ge(used, 30);
}
END_TEST

START_TEST(construction_is_deterministic)
{
    char *text[2];
    double dir[12 * N_IN] = {1, 2, 3};
    for (int i = 0; i < 2; i++) {
        program p = build(3);
        rt_ok(rt_graph_status(p.g));
        along(&p, along(&p, p.y, dir), dir);
        text[i] = calloc(1, PATH * 16);
        FILE *f = fmemopen(text[i], PATH * 16 - 1, "w");
        rt_ok(rt_graph_dump(p.g, f, false));
        fclose(f);
        rt_graph_destroy(p.g);
    }
    ck_assert_uint_gt(strlen(text[0]), 1000);
    ck_assert_int_eq(strcmp(text[0], text[1]), 0);
    free(text[0]);
    free(text[1]);
}
END_TEST

static const rt_test tests[] = {
    {"gradients agree with differences", gradients_agree_with_differences},
    {"construction is deterministic", construction_is_deterministic},
};
RT_SUITE("graph.random", tests)
