/* The table of rows, expanded from ops.def, and what many rows share. */
#include "ops/util.h"

static const rt_op_row *const table[RT_OP_COUNT] = {
#define RT_OP(ENUM, name) [RT_OP_##ENUM] = &rt_row_##name,
#include "ops/ops.def"
#undef RT_OP
};

const rt_op_row *rt_op_row_of(rt_op op) { return (unsigned)op < RT_OP_COUNT ? table[op] : NULL; }
const char *rt_op_name(rt_op op) { return (unsigned)op < RT_OP_COUNT ? table[op]->name : "?"; }

rt_status rt_need_dtype(const rt_node *n, int input, rt_dtype t)
{
    char b[RT_SHAPE_STR];
    if (n->in_shape[input].dtype == t) return RT_OK;
    return RT_RAISE(RT_ERR_ARG, "%s: input %d is %s, must be %s", rt_op_name(n->op), input,
                    rt_shape_str(&n->in_shape[input], b, sizeof b), t == RT_F32 ? "f32" : "i32");
}

rt_status rt_need_rank(const rt_node *n, int input, int lo, int hi)
{
    char b[RT_SHAPE_STR];
    if (n->in_shape[input].rank >= lo && n->in_shape[input].rank <= hi) return RT_OK;
    return RT_RAISE(RT_ERR_ARG, "%s: input %d is %s, its rank must lie in %d..%d", rt_op_name(n->op), input,
                    rt_shape_str(&n->in_shape[input], b, sizeof b), lo, hi);
}

rt_status rt_infer_same(rt_node *n)
{
    n->out_shape[0] = n->in_shape[0];
    return RT_OK;
}

rt_status rt_infer_same_real(rt_node *n)
{
    n->out_shape[0] = n->in_shape[0];
    return rt_need_dtype(n, 0, RT_F32);
}

void rt_vjp_none(rt_graph *g, const rt_node *n, const rt_val *gy, rt_val *gx)
{
    (void)g;
    (void)gy;
    for (int i = 0; i < n->n_in; i++) gx[i] = (rt_val){0};
}

static double operand_bytes(const rt_node *n)
{
    double b = 0;
    for (int i = 0; i < n->n_in; i++) b += 4.0 * (double)rt_shape_count(&n->in_shape[i]);
    for (int o = 0; o < n->n_out; o++) b += 4.0 * (double)rt_shape_count(&n->out_shape[o]);
    return b;
}

rt_cost rt_cost_default(const rt_node *n)
{
    const rt_op_row *row = rt_op_row_of(n->op);
    if (row->flags & (RT_ROW_LEAF | RT_ROW_VIEW)) return (rt_cost){0, 0};
    return (rt_cost){.flops = (double)rt_shape_count(&n->out_shape[0]), .bytes = operand_bytes(n)};
}

rt_cost rt_cost_move(const rt_node *n) { return (rt_cost){.flops = 0, .bytes = operand_bytes(n)}; }

size_t rt_ref_elem_bytes(rt_dtype t) { return t == RT_F32 ? sizeof(double) : sizeof(int32_t); }
