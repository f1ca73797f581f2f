/* Differentiation: worked examples with exact values, the rules of the language at its edges, Hessians, structure. */
#include "../support/eval.h"
#include "../support/suite.h"

#include "base/alloc.h"
#include "ops/row.h"

static rt_graph *open_graph(void)
{
    rt_graph *g = NULL;
    rt_ok(rt_graph_create(&g));
    return g;
}

/* Value of a scalar-sized v at x = at. */
static double at1(const rt_graph *g, rt_val x, double at, rt_val v)
{
    double out = NAN;
    void *p = &out;
    rt_ok(rt_eval_ref(g, &(rt_feed){x, &at}, 1, &v, 1, &p));
    return out;
}

START_TEST(powers_to_third_order)
{
    rt_graph *g = open_graph();
    rt_val x = rt_input(g, "x", RT_SCALAR_F32), d[4] = {rt_recip(g, x)};
    for (int k = 1; k < 4; k++) rt_ok(rt_grad(g, d[k - 1], &x, 1, &d[k]));
    rt_assert_near(at1(g, x, 2.0, d[0]), 0.5, 0, 1e-15);
    rt_assert_near(at1(g, x, 2.0, d[1]), -0.25, 0, 1e-15);
    rt_assert_near(at1(g, x, 2.0, d[2]), 0.25, 0, 1e-15);    /* 2 / x^3 */
    rt_assert_near(at1(g, x, 2.0, d[3]), -0.375, 0, 1e-15);  /* -6 / x^4 */
    rt_val t = rt_tanh(g, x), dt, ddt;
    rt_ok(rt_grad(g, t, &x, 1, &dt));
    rt_ok(rt_grad(g, dt, &x, 1, &ddt));
    double y = tanh(0.7);
    rt_assert_near(at1(g, x, 0.7, dt), 1 - y * y, 0, 1e-14);
    rt_assert_near(at1(g, x, 0.7, ddt), -2 * y * (1 - y * y), 0, 1e-14);
    rt_graph_destroy(g);
}
END_TEST

START_TEST(product_of_two_inputs)
{
    rt_graph *g = open_graph();
    rt_val x = rt_input(g, "x", RT_SCALAR_F32), y = rt_input(g, "y", RT_SCALAR_F32), in[2] = {x, y}, d[2], h[2];
    rt_ok(rt_grad(g, rt_mul(g, rt_square(g, x), y), in, 2, d));
    rt_ok(rt_grad(g, d[0], in, 2, h));
    double vx = 3, vy = 5, out[4] = {NAN, NAN, NAN, NAN};
    rt_feed feed[] = {{x, &vx}, {y, &vy}};
    rt_val want[] = {d[0], d[1], h[0], h[1]};
    void *p[] = {&out[0], &out[1], &out[2], &out[3]};
    rt_ok(rt_eval_ref(g, feed, 2, want, 4, p));
    ck_assert(out[0] == 30 && out[1] == 9 && out[2] == 10 && out[3] == 6);
    rt_graph_destroy(g);
}
END_TEST

START_TEST(broadcast_gradients_are_summed_on_the_edge)
{
    rt_graph *g = open_graph();
    rt_val a = rt_input(g, "a", RT_SHAPE(RT_F32, 2, 3)), b = rt_input(g, "b", RT_SHAPE(RT_F32, 3));
    rt_val s = rt_input(g, "s", RT_SCALAR_F32), in[3] = {a, b, s}, d[3];
    rt_ok(rt_grad(g, rt_sum_all(g, rt_mul(g, rt_mul(g, a, b), s)), in, 3, d));
    double va[6] = {1, 2, 3, 4, 5, 6}, vb[3] = {1, 10, 100}, vs = 2, da[6], db[3], ds;
    rt_feed feed[] = {{a, va}, {b, vb}, {s, &vs}};
    void *p[] = {da, db, &ds};
    rt_ok(rt_eval_ref(g, feed, 3, d, 3, p));
    for (int i = 0; i < 6; i++) ck_assert(da[i] == 2 * vb[i % 3]);
    ck_assert(db[0] == 10 && db[1] == 14 && db[2] == 18);
    ck_assert(ds == 5 + 70 + 900);
    rt_graph_destroy(g);
}
END_TEST

START_TEST(edges_of_the_language)
{
    rt_graph *g = open_graph();
    rt_val x = rt_input(g, "x", RT_SHAPE(RT_F32, 2)), other = rt_input(g, "other", RT_SHAPE(RT_F32, 3));
    rt_val h = rt_square(g, x), y = rt_sum_all(g, rt_mul(g, h, h)), in[4] = {h, x, other, y}, d[4];
    rt_ok(rt_grad(g, y, in, 4, d)); /* an intermediate, its source, a stranger, y itself */
    double vx[2] = {2, 3}, vo[3] = {0, 0, 0}, dh[2], dx[2], dn[3] = {1, 1, 1}, dy = 0;
    rt_feed feed[] = {{x, vx}, {other, vo}};
    void *p[] = {dh, dx, dn, &dy};
    rt_ok(rt_eval_ref(g, feed, 2, d, 4, p));
    ck_assert(dh[0] == 8 && dh[1] == 18);
    ck_assert(dx[0] == 32 && dx[1] == 108); /* 4 x^3 */
    ck_assert(dn[0] == 0 && dn[1] == 0 && dn[2] == 0);
    ck_assert(dy == 1);
    rt_graph_destroy(g);
}
END_TEST

/* Second derivatives of a norm whose operands are views and broadcasts: its expansion must stop at the operands, not look
 * through them to what they were made from. */
START_TEST(expansions_stop_at_the_operands)
{
    enum { X = 2 * 2 * 2 * 4, C = 4 };
    double x0[X], gamma0[C] = {1, 2, 0.5, -1}, beta0[C] = {0.5, 0.25, 1, 2}, gy0[X], got[2][X + 2 * C + 1];
    for (int i = 0; i < X; i++) x0[i] = sin(3.0 * i), gy0[i] = 0.75;
    for (int k = 0; k < 2; k++) {
        rt_graph *g = open_graph();
        rt_val x = rt_input(g, "x", k ? RT_SHAPE(RT_F32, 2, 2, 2, 2, 2) : RT_SHAPE(RT_F32, 2, 2, 2, 4));
        rt_val gamma = rt_input(g, "gamma", k ? RT_SHAPE(RT_F32, 2, 2) : RT_SHAPE(RT_F32, 4));
        rt_val beta = rt_input(g, "beta", k ? RT_SHAPE(RT_F32, 1, 4) : RT_SHAPE(RT_F32, 4));
        rt_val up = rt_input(g, "up", k ? RT_SCALAR_F32 : RT_SHAPE(RT_F32, 2, 2, 2, 4)), in[4] = {x, gamma, beta, up}, d[4];
        rt_val y = rt_norm(g, rt_reshape(g, x, RT_SHAPE(RT_F32, 2, 2, 2, 4)), rt_reshape(g, gamma, RT_SHAPE(RT_F32, 4)),
                           rt_reshape(g, beta, RT_SHAPE(RT_F32, 4)),
                           (rt_norm_attr){.kind = RT_NORM_GROUP, .groups = 2, .relu = 1, .eps = 1e-3}, NULL, NULL);
        rt_val gy = rt_broadcast(g, up, RT_SHAPE(RT_F32, 2, 2, 2, 4));
        rt_ok(rt_vjp(g, &y, &gy, 1, in, 3, d));
        rt_val s = rt_sum_all(g, rt_square(g, d[0]));
        s = rt_add(g, s, rt_add(g, rt_sum_all(g, rt_square(g, d[1])), rt_sum_all(g, rt_square(g, d[2]))));
        rt_ok(rt_grad(g, s, in, 4, d));
        rt_feed feed[] = {{x, x0}, {gamma, gamma0}, {beta, beta0}, {up, gy0}};
        d[3] = rt_sum_all(g, d[3]);
        void *p[] = {got[k], got[k] + X, got[k] + X + C, got[k] + X + 2 * C};
        rt_ok(rt_eval_ref(g, feed, 4, d, 4, p));
        rt_graph_destroy(g);
    }
    for (int i = 0; i < X + C; i++) ck_assert(got[0][i] != 0);
    for (int i = 0; i < X + 2 * C + 1; i++) rt_assert_near(got[1][i], got[0][i], 1e-12, 1e-12);
}
END_TEST

START_TEST(several_outputs_add_up)
{
    rt_graph *g = open_graph();
    rt_val x = rt_input(g, "x", RT_SCALAR_F32), y[3] = {rt_square(g, x), rt_exp(g, x), rt_square(g, x)}, d;
    rt_val gy[3] = {rt_scalar(g, 3), rt_scalar(g, 1), rt_scalar(g, 10)};
    rt_ok(rt_vjp(g, y, gy, 3, &x, 1, &d));
    rt_assert_near(at1(g, x, 2.0, d), 13 * 4 + exp(2.0), 0, 1e-15);
    rt_graph_destroy(g);
}
END_TEST

START_TEST(misuse_is_refused)
{
    rt_graph *g = open_graph();
    rt_val x = rt_input(g, "x", RT_SHAPE(RT_F32, 2)), d = {1234};
    rt_fails(rt_grad(g, rt_square(g, x), &x, 1, &d), RT_ERR_ARG);
    ck_assert_str_eq(rt_error_what(), "gradient: y is f32[2], must have rank 0");
    ck_assert_uint_eq(d.id, 1234);
    rt_fails(rt_graph_status(g), RT_ERR_ARG); /* and it sticks */
    rt_graph_destroy(g);

    g = open_graph();
    x = rt_input(g, "x", RT_SHAPE(RT_F32, 2));
    rt_val one = rt_scalar(g, 1), i = rt_input(g, "i", RT_SHAPE(RT_I32, 2));
    rt_fails(rt_vjp(g, &x, &one, 1, &x, 1, &d), RT_ERR_ARG);
    ck_assert_str_eq(rt_error_what(), "gradient: y[0] is f32[2], its gradient f32[]");
    rt_graph_destroy(g);

    g = open_graph();
    x = rt_input(g, "x", RT_SCALAR_F32);
    i = rt_input(g, "i", RT_SHAPE(RT_I32, 2));
    rt_fails(rt_grad(g, x, &i, 1, &d), RT_ERR_ARG);
    ck_assert_str_eq(rt_error_what(), "gradient: wrt[0] is i32 and has no gradient");
    rt_graph_destroy(g);

    g = open_graph();
    x = rt_input(g, "x", RT_SCALAR_F32);
    rt_fails(rt_grad(g, x, &(rt_val){99}, 1, &d), RT_ERR_ARG);
    rt_graph_destroy(g);
}
END_TEST

/* --- a small network over one flat parameter vector ----------------------------------------------------------------- */
enum { P = 3 * 4 + 4 + 4 * 2 };

static rt_val mlp(rt_graph *g, rt_val x, rt_val theta)
{
    rt_val w1 = rt_view1d(g, theta, 0, RT_SHAPE(RT_F32, 3, 4)), b1 = rt_view1d(g, theta, 12, RT_SHAPE(RT_F32, 4));
    rt_val w2 = rt_view1d(g, theta, 16, RT_SHAPE(RT_F32, 4, 2));
    rt_val h = rt_sigmoid(g, rt_add(g, rt_matmul(g, x, w1, false, false), b1));
    return rt_mean_all(g, rt_square(g, rt_matmul(g, h, w2, false, false)));
}

START_TEST(hessian_is_symmetric)
{
    rt_graph *g = open_graph();
    rt_val x = rt_input(g, "x", RT_SHAPE(RT_F32, 5, 3)), theta = rt_input(g, "theta", RT_SHAPE(RT_F32, P));
    rt_val u = rt_input(g, "u", RT_SHAPE(RT_F32, P)), v = rt_input(g, "v", RT_SHAPE(RT_F32, P)), gt, hu, hv;
    rt_ok(rt_grad(g, mlp(g, x, theta), &theta, 1, &gt));
    rt_ok(rt_grad(g, rt_dot(g, gt, u), &theta, 1, &hu));
    rt_ok(rt_grad(g, rt_dot(g, gt, v), &theta, 1, &hv));
    double vx[15], vt[P], vu[P], vv[P], a = 0, b = 1;
    for (int i = 0; i < 15; i++) vx[i] = sin(i + 1.0);
    for (int i = 0; i < P; i++) {
        vt[i] = cos(2.0 * i);
        vu[i] = sin(3.0 * i + 0.5);
        vv[i] = cos(5.0 * i + 0.1);
    }
    rt_feed feed[] = {{x, vx}, {theta, vt}, {u, vu}, {v, vv}};
    rt_val want[] = {rt_dot(g, hu, v), rt_dot(g, hv, u)};
    void *p[] = {&a, &b};
    rt_ok(rt_eval_ref(g, feed, 4, want, 2, p));
    ck_assert(fabs(a) > 1e-3);
    rt_assert_near(a, b, 1e-15, 1e-12);
    rt_graph_destroy(g);
}
END_TEST

START_TEST(a_flat_gradient_is_one_concat)
{
    rt_graph *g = open_graph();
    rt_val x = rt_input(g, "x", RT_SHAPE(RT_F32, 5, 3)), theta = rt_input(g, "theta", RT_SHAPE(RT_F32, P)), gt;
    rt_ok(rt_grad(g, mlp(g, x, theta), &theta, 1, &gt));
    const rt_node *n = rt_val_node(g, gt, NULL);
    ck_assert_str_eq(rt_op_name(n->op), "concat");
    ck_assert_int_eq(n->n_in, 3);
    for (int i = 0; i < n->n_in; i++) ck_assert_str_ne(rt_op_name(rt_val_node(g, n->in[i], NULL)->op), "pad");
    rt_graph_destroy(g);
}
END_TEST

/* Backward graphs find forward values again: differentiating twice adds nothing the second time. */
START_TEST(gradients_are_hash_consed)
{
    rt_graph *g = open_graph();
    rt_val x = rt_input(g, "x", RT_SHAPE(RT_F32, 5, 3)), theta = rt_input(g, "theta", RT_SHAPE(RT_F32, P)), a, b;
    rt_val loss = mlp(g, x, theta);
    rt_ok(rt_grad(g, loss, &theta, 1, &a));
    size_t n = rt_graph_node_count(g);
    rt_ok(rt_grad(g, loss, &theta, 1, &b));
    ck_assert_uint_eq(a.id, b.id);
    ck_assert_uint_eq(rt_graph_node_count(g), n);
    rt_graph_destroy(g);
}
END_TEST

START_TEST(every_allocation_may_fail)
{
    bool done = false;
    for (uint64_t k = 1; !done && k < 10000; k++) {
        rt_graph *g = NULL;
        rt_val gt, h;
        rt_alloc_fail_at(k, 0);
        rt_status st = rt_graph_create(&g);
        if (st == RT_OK) {
            rt_val x = rt_input(g, "x", RT_SHAPE(RT_F32, 5, 3)), theta = rt_input(g, "theta", RT_SHAPE(RT_F32, P));
            st = rt_grad(g, mlp(g, x, theta), &theta, 1, &gt);
            if (st == RT_OK) st = rt_grad(g, rt_sum_all(g, gt), &theta, 1, &h);
            if (st == RT_OK) st = rt_graph_verify(g);
        }
        rt_alloc_fail_at(0, 0);
        ck_assert_msg(st == RT_OK || st == RT_ERR_NOMEM, "allocation %llu: %s", (unsigned long long)k, rt_error_what());
        done = st == RT_OK;
        rt_graph_destroy(g);
    }
    ck_assert(done);
}
END_TEST

static const rt_test tests[] = {
    {"powers to third order", powers_to_third_order},
    {"product of two inputs", product_of_two_inputs},
    {"broadcast gradients are summed on the edge", broadcast_gradients_are_summed_on_the_edge},
    {"edges of the language", edges_of_the_language},
    {"expansions stop at the operands", expansions_stop_at_the_operands},
    {"several outputs add up", several_outputs_add_up},
    {"misuse is refused", misuse_is_refused},
    {"hessian is symmetric", hessian_is_symmetric},
    {"a flat gradient is one concat", a_flat_gradient_is_one_concat},
    {"gradients are hash-consed", gradients_are_hash_consed},
    {"every allocation may fail", every_allocation_may_fail},
};
RT_SUITE("graph.grad", tests)
