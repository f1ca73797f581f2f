/* Helpers shared by graph, op families and backends: shape arithmetic and the rules many rows have in common. */
#ifndef RT_OPS_UTIL_H
#define RT_OPS_UTIL_H

#include "ops/row.h"

enum { RT_SHAPE_STR = 160 }; /* enough for any shape */

/* --- shapes (src/graph/value.c) ---------------------------------------------------------------------------------- */
rt_status rt_shape_check(const char *op, const rt_shape *s); /* rank, signs, no overflow of count * 8 */
void rt_shape_strides(const rt_shape *s, int64_t stride[RT_MAX_RANK]); /* row-major, in elements */
rt_status rt_shape_broadcast(const char *op, const rt_shape *a, const rt_shape *b, rt_shape *out); /* NumPy's rule */
/* Strides that walk `in` along the axes of `out`, which it broadcasts to: 0 on broadcast axes. */
void rt_broadcast_strides(const rt_shape *in, const rt_shape *out, int64_t stride[RT_MAX_RANK]);

/* --- values ------------------------------------------------------------------------------------------------------ */
/* Whether v is the output of a CONST node with this value. */
bool rt_val_is_const(const rt_graph *g, rt_val v, double value);
/* Sums v down to a shape that broadcasts to v's: the adjoint of broadcasting. */
rt_val rt_sum_to(rt_graph *g, rt_val v, const rt_shape *s);
/* Whether a row's expansion is being built. Constructors must not look through an operand to what it was made from then:
 * the walk back ends at the expanded node's inputs, and a path that starts behind one would miss it. */
bool rt_graph_expanding(const rt_graph *g);
/* Returns none; records "op: given no value" unless an error sticks already. For constructors that look at shapes. */
rt_val rt_graph_none(rt_graph *g, rt_op op);

/* --- parts of rows ----------------------------------------------------------------------------------------------- */
rt_status rt_infer_same(rt_node *n);      /* output 0 has the shape and dtype of input 0 */
rt_status rt_infer_same_real(rt_node *n); /* same, and refuses RT_I32 */
rt_status rt_need_dtype(const rt_node *n, int input, rt_dtype t);
rt_status rt_need_rank(const rt_node *n, int input, int lo, int hi);
void rt_vjp_none(rt_graph *g, const rt_node *n, const rt_val *gy, rt_val *gx); /* the explicit zero rule */
rt_cost rt_cost_default(const rt_node *n); /* one flop per output element (RT_ROW_LEAF and RT_ROW_VIEW: nothing) */
rt_cost rt_cost_move(const rt_node *n);    /* no flops; operands read and written once */
size_t rt_ref_elem_bytes(rt_dtype t);      /* 8 for RT_F32, 4 for RT_I32 */

#endif
