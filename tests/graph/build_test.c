/* The builder: hash-consing, sticky errors, shape arithmetic, broadcasting rules, peepholes. */
#include "../support/suite.h"

#include "ops/util.h"
#include "retort/graph.h"

static rt_graph *open_graph(void)
{
    rt_graph *g = NULL;
    rt_ok(rt_graph_create(&g));
    return g;
}

static void assert_shape(const rt_graph *g, rt_val v, const char *want)
{
    char b[RT_SHAPE_STR];
    ck_assert_msg(v.id != 0, "no value: %s", (rt_graph_status(g), rt_error_what()));
    ck_assert_str_eq(rt_shape_str(rt_val_shape(g, v), b, sizeof b), want);
}

START_TEST(equal_nodes_are_one_value)
{
    rt_graph *g = open_graph();
    rt_val x = rt_input(g, "x", RT_SHAPE(RT_F32, 2, 3)), y = rt_input(g, "y", RT_SHAPE(RT_F32, 2, 3));
    ck_assert_uint_ne(x.id, y.id);
    ck_assert_uint_eq(rt_exp(g, x).id, rt_exp(g, x).id);
    ck_assert_uint_ne(rt_exp(g, x).id, rt_exp(g, y).id);
    ck_assert_uint_eq(rt_add(g, x, y).id, rt_add(g, y, x).id);
    ck_assert_uint_ne(rt_sub(g, x, y).id, rt_sub(g, y, x).id);
    ck_assert_uint_eq(rt_sum(g, x, 1, false).id, rt_sum(g, x, 1, false).id);
    ck_assert_uint_ne(rt_sum(g, x, 1, false).id, rt_sum(g, x, 1, true).id);
    ck_assert_uint_eq(rt_scalar(g, 2.0).id, rt_scalar(g, 2.0).id);
    size_t n = rt_graph_node_count(g);
    for (int i = 0; i < 1000; i++) rt_mul_scalar(g, rt_exp(g, x), 2.0); /* across table growth */
    ck_assert_uint_eq(rt_graph_node_count(g), n + 1);
    for (int i = 0; i < 1000; i++) rt_scalar(g, 100.0 + i);
    ck_assert_uint_eq(rt_graph_node_count(g), n + 1001);
    for (int i = 0; i < 1000; i++) rt_scalar(g, 100.0 + i);
    ck_assert_uint_eq(rt_graph_node_count(g), n + 1001);
    rt_ok(rt_graph_status(g));
    rt_graph_destroy(g);
}
END_TEST

START_TEST(first_error_sticks)
{
    rt_graph *g = open_graph();
    rt_val x = rt_input(g, "x", RT_SHAPE(RT_F32, 2, 3)), y = rt_input(g, "y", RT_SHAPE(RT_F32, 4));
    rt_val bad = rt_add(g, x, y);
    ck_assert_uint_eq(bad.id, 0);
    size_t n = rt_graph_node_count(g);
    ck_assert_uint_eq(rt_exp(g, rt_matmul(g, bad, x, false, false)).id, 0);
    ck_assert_uint_eq(rt_exp(g, x).id, 0); /* nothing works after an error */
    ck_assert_uint_eq(rt_graph_node_count(g), n);
    rt_error_clear();
    rt_fails(rt_graph_status(g), RT_ERR_ARG);
    ck_assert_str_eq(rt_error_what(), "add: shapes f32[2,3] and f32[4] do not broadcast");
    rt_graph_destroy(g);
}
END_TEST

START_TEST(none_and_foreign_values_are_refused)
{
    rt_graph *g = open_graph();
    rt_exp(g, (rt_val){0});
    rt_fails(rt_graph_status(g), RT_ERR_ARG);
    rt_graph_destroy(g);
    g = open_graph();
    rt_exp(g, (rt_val){77});
    rt_fails(rt_graph_status(g), RT_ERR_ARG);
    rt_graph_destroy(g);
    g = open_graph();
    rt_reshape(g, (rt_val){0}, RT_SHAPE(RT_F32, 1));
    rt_fails(rt_graph_status(g), RT_ERR_ARG);
    rt_graph_destroy(g);
}
END_TEST

START_TEST(names_of_inputs_are_unique)
{
    rt_graph *g = open_graph();
    rt_input(g, "x", RT_SHAPE(RT_F32, 2));
    rt_input(g, "x", RT_SHAPE(RT_F32, 2));
    rt_fails(rt_graph_status(g), RT_ERR_ARG);
    ck_assert_str_eq(rt_error_what(), "input: the name 'x' is already taken");
    rt_graph_destroy(g);
}
END_TEST

START_TEST(binary_ops_broadcast_like_numpy)
{
    rt_graph *g = open_graph();
    rt_val a = rt_input(g, "a", RT_SHAPE(RT_F32, 4, 1, 3)), b = rt_input(g, "b", RT_SHAPE(RT_F32, 5, 1));
    assert_shape(g, rt_mul(g, a, b), "f32[4,5,3]");
    assert_shape(g, rt_mul(g, rt_scalar(g, 3), b), "f32[5,1]");
    assert_shape(g, rt_add(g, rt_input(g, "z", RT_SHAPE(RT_F32, 0, 1)), rt_input(g, "q", RT_SHAPE(RT_F32, 7))),
                 "f32[0,7]");
    rt_ok(rt_graph_status(g));
    rt_graph_destroy(g);
}
END_TEST

START_TEST(shapes_are_checked_for_overflow)
{
    int64_t big = INT64_C(1) << 40;
    rt_graph *g = open_graph();
    rt_val x = rt_input(g, "x", RT_SHAPE(RT_F32, big, 1)), y = rt_input(g, "y", RT_SHAPE(RT_F32, 1, big));
    ck_assert_uint_ne(x.id, 0);
    rt_mul(g, x, y);
    rt_fails(rt_graph_status(g), RT_ERR_ARG);
    rt_graph_destroy(g);
    g = open_graph();
    rt_input(g, "n", RT_SHAPE(RT_F32, -1));
    rt_fails(rt_graph_status(g), RT_ERR_ARG);
    rt_graph_destroy(g);
    g = open_graph();
    rt_input(g, "r", RT_SHAPE(RT_F32, 1, 1, 1, 1, 1, 1, 1));
    rt_fails(rt_graph_status(g), RT_ERR_ARG);
    rt_graph_destroy(g);
}
END_TEST

START_TEST(identities_cost_nothing)
{
    rt_graph *g = open_graph();
    rt_val x = rt_input(g, "x", RT_SHAPE(RT_F32, 2, 3));
    ck_assert_uint_eq(rt_mul_scalar(g, x, 1.0).id, x.id);
    ck_assert_uint_eq(rt_add_scalar(g, x, 0.0).id, x.id);
    ck_assert_uint_eq(rt_reshape(g, rt_reshape(g, x, RT_SHAPE(RT_F32, 6)), RT_SHAPE(RT_F32, 2, -1)).id, x.id);
    ck_assert_uint_eq(rt_transpose(g, x, (int[]){0, 1}).id, x.id);
    ck_assert_uint_eq(rt_slice(g, x, (int64_t[]){0, 0}, (int64_t[]){2, 3}).id, x.id);
    rt_val s = rt_broadcast(g, rt_scalar(g, 2.0), RT_SHAPE(RT_F32, 2, 3));
    ck_assert_uint_eq(rt_mul(g, s, x).id, rt_mul(g, rt_scalar(g, 2.0), x).id);
    assert_shape(g, rt_mul(g, rt_scalar(g, 1.0), rt_scalar(g, 2.0)), "f32[]");
    assert_shape(g, rt_mul(g, rt_broadcast(g, rt_scalar(g, 1), RT_SHAPE(RT_F32, 2, 3)), rt_scalar(g, 3)), "f32[2,3]");
    rt_ok(rt_graph_status(g));
    rt_graph_destroy(g);
}
END_TEST

START_TEST(shapes_of_movement_and_matmul)
{
    rt_graph *g = open_graph();
    rt_val x = rt_input(g, "x", RT_SHAPE(RT_F32, 2, 3, 5)), i = rt_input(g, "i", RT_SHAPE(RT_I32, 7));
    rt_val y = rt_input(g, "y", RT_SHAPE(RT_F32, 2, 4, 5));
    assert_shape(g, rt_transpose(g, x, (int[]){2, 0, 1}), "f32[5,2,3]");
    assert_shape(g, rt_slice(g, x, (int64_t[]){0, 1, 2}, (int64_t[]){2, 2, 5}), "f32[2,1,3]");
    assert_shape(g, rt_pad(g, x, (int64_t[]){0, 1, 2}, (int64_t[]){3, 0, 1}), "f32[5,4,8]");
    assert_shape(g, rt_concat(g, (rt_val[]){x, y, x}, 3, 1), "f32[2,10,5]");
    assert_shape(g, rt_gather(g, x, i), "f32[7,3,5]");
    assert_shape(g, rt_scatter_add(g, rt_gather(g, x, i), i, 9), "f32[9,3,5]");
    assert_shape(g, rt_one_hot(g, i, 10), "f32[7,10]");
    assert_shape(g, rt_matmul(g, x, y, false, true), "f32[2,3,4]");
    assert_shape(g, rt_argmax(g, x), "i32[2,3]");
    assert_shape(g, rt_sum(g, x, 5, false), "f32[3]");
    assert_shape(g, rt_amax(g, x, 4, true), "f32[2,3,1]");
    assert_shape(g, rt_view1d(g, rt_reshape(g, x, RT_SHAPE(RT_F32, 30)), 6, RT_SHAPE(RT_F32, 2, 2)), "f32[2,2]");
    rt_ok(rt_graph_status(g));
    rt_matmul(g, x, y, false, false);
    rt_fails(rt_graph_status(g), RT_ERR_ARG);
    ck_assert_str_eq(rt_error_what(), "matmul: f32[2,3,5] and f32[2,4,5] do not multiply");
    rt_graph_destroy(g);
}
END_TEST

static const rt_test tests[] = {
    {"equal nodes are one value", equal_nodes_are_one_value},
    {"first error sticks", first_error_sticks},
    {"none and foreign values are refused", none_and_foreign_values_are_refused},
    {"names of inputs are unique", names_of_inputs_are_unique},
    {"binary ops broadcast like NumPy", binary_ops_broadcast_like_numpy},
    {"shapes are checked for overflow", shapes_are_checked_for_overflow},
    {"identities cost nothing", identities_cost_nothing},
    {"shapes of movement and matmul", shapes_of_movement_and_matmul},
};
RT_SUITE("graph.build", tests)
