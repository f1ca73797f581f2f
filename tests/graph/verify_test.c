/* Verify finds each kind of damage; dumps have one form; the counter-based generator gives its published vectors. */
#include "../support/suite.h"

#include "graph/graph_internal.h"
#include "math/philox.h"
#include "ops/attr.h"

static rt_graph *sample(void)
{
    rt_graph *g = NULL;
    rt_ok(rt_graph_create(&g));
    rt_val x = rt_input(g, "x", RT_SHAPE(RT_F32, 2, 3)), w = rt_input(g, "w", RT_SHAPE(RT_F32, 3, 4));
    rt_val y = rt_relu(g, rt_add_scalar(g, rt_matmul(g, x, w, false, false), 0.5));
    rt_slice(g, rt_sum(g, y, 2, true), (int64_t[]){1, 0}, (int64_t[]){2, 1});
    rt_ok(rt_graph_status(g));
    rt_ok(rt_graph_verify(g));
    return g;
}

START_TEST(damage_is_found)
{
    enum { OUT_SHAPE, IN_SHAPE, FORWARD_EDGE, OUTPUT_ID, ARITY, ATTRIBUTE, ATTRIBUTE_SIZE, N_KINDS };
    static const char *const say[N_KINDS] = {"inference says", "stale", "does not precede", "outputs start at",
                                             "has 1 inputs", "does not lie in", "bytes of attributes"};
    for (int kind = 0; kind < N_KINDS; kind++) {
        rt_graph *g = sample();
        size_t last = g->n_node - 1;
        rt_node *matmul = NULL, *slice = g->node[last];
        for (size_t i = 0; i <= last; i++)
            if (g->node[i]->op == RT_OP_MATMUL) matmul = g->node[i];
        switch (kind) {
        case OUT_SHAPE: matmul->out_shape[0].d[0]++; break;
        case IN_SHAPE: ((rt_shape *)matmul->in_shape)[0].d[0]++; break;
        case FORWARD_EDGE: ((rt_val *)matmul->in)[0].id = slice->first_out; break;
        case OUTPUT_ID: matmul->first_out++; break;
        case ARITY: matmul->n_in = 1; break;
        case ATTRIBUTE: ((rt_slice_attr *)slice->attr)->end[0] = 9; break;
        case ATTRIBUTE_SIZE: slice->attr_bytes--; break;
        }
        rt_status st = rt_graph_verify(g);
        ck_assert_msg(st == (kind == ATTRIBUTE ? RT_ERR_ARG : RT_ERR_INTERNAL), "damage %d: %s", kind, rt_status_name(st));
        ck_assert_msg(strstr(rt_error_what(), say[kind]) != NULL, "damage %d: %s", kind, rt_error_what());
        rt_graph_destroy(g);
    }
}
END_TEST

static void assert_dump(bool dot, const char *want)
{
    char text[4096] = {0};
    rt_graph *g = sample();
    FILE *f = fmemopen(text, sizeof text - 1, "w");
    rt_ok(rt_graph_dump(g, f, dot));
    fclose(f);
    ck_assert_str_eq(text, want);
    rt_graph_destroy(g);
}

START_TEST(text_dump)
{
    assert_dump(false, "%1 = input() {'x'} : f32[2,3]\n"
                       "%2 = input() {'w'} : f32[3,4]\n"
                       "%3 = matmul(%1, %2) {nn} : f32[2,4]\n"
                       "%4 = const() {0.5} : f32[]\n"
                       "%5 = add(%3, %4) : f32[2,4]\n"
                       "%6 = relu(%5) : f32[2,4]\n"
                       "%7 = sum(%6) {axes=0x2 keep} : f32[2,1]\n"
                       "%8 = slice(%7) {1:2,0:1} : f32[1,1]\n");
}
END_TEST

START_TEST(dot_dump)
{
    char text[4096] = {0};
    rt_graph *g = NULL;
    rt_ok(rt_graph_create(&g));
    rt_exp(g, rt_input(g, "a\"b", RT_SHAPE(RT_F32, 2)));
    FILE *f = fmemopen(text, sizeof text - 1, "w");
    rt_ok(rt_graph_dump(g, f, true));
    fclose(f);
    ck_assert_str_eq(text, "digraph retort {\n  node [fontname=monospace];\n"
                           "  n0 [label=\"input\\n'a\\\"b'\\nf32[2]\", shape=box];\n"
                           "  n1 [label=\"exp\\nf32[2]\"];\n"
                           "  n0 -> n1;\n}\n");
    rt_graph_destroy(g);
}
END_TEST

START_TEST(philox_known_answers)
{
    /* Random123 1.14, kat_vectors: philox4x32 with 10 rounds. */
    const uint32_t ones = 0xFFFFFFFFu;
    static const uint32_t zero_out[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    static const uint32_t ones_out[4] = {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd};
    rt_u32x4 a = rt_philox4x32((rt_u32x4){{0, 0, 0, 0}}, 0, 0);
    rt_u32x4 b = rt_philox4x32((rt_u32x4){{ones, ones, ones, ones}}, ones, ones);
    for (int i = 0; i < 4; i++) {
        ck_assert_uint_eq(a.v[i], zero_out[i]);
        ck_assert_uint_eq(b.v[i], ones_out[i]);
    }
    ck_assert_uint_eq(rt_draw(0, 0, 0, 0, 0).v[0], zero_out[0]);
    ck_assert(rt_u01(0xFFFFFFFFu) < 1.0f && rt_u01(0) == 0.0f);
    ck_assert_uint_eq(rt_below(0xFFFFFFFFu, 7), 6);
}
END_TEST

static const rt_test tests[] = {
    {"damage is found", damage_is_found},
    {"text dump", text_dump},
    {"dot dump", dot_dump},
    {"Philox known answers", philox_known_answers},
};
RT_SUITE("graph.verify", tests)
