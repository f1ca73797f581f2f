/* Leaves: named inputs and constants. Their attributes carry the shape, since nothing comes in. */
#include <string.h>

#include "base/alloc.h"
#include "ops/attr.h"
#include "ops/util.h"

/* --- input ------------------------------------------------------------------------------------------------------- */
static rt_status input_infer(rt_node *n)
{
    memcpy(&n->out_shape[0], (const char *)n->attr + n->attr_bytes - sizeof(rt_shape), sizeof(rt_shape));
    return RT_OK;
}

static void input_print(const rt_node *n, char *buf, size_t len) { snprintf(buf, len, "'%s'", (const char *)n->attr); }

const rt_op_row rt_row_input = {.name = "input",
                                .n_out = 1,
                                .flags = RT_ROW_LEAF,
                                .infer = input_infer,
                                .vjp = rt_vjp_none,
                                .print_attr = input_print};

rt_val rt_input(rt_graph *g, const char *name, rt_shape s)
{
    if (rt_graph_status(g) != RT_OK) return (rt_val){0};
    if (!name || !name[0]) return rt_graph_fail(g, RT_RAISE(RT_ERR_ARG, "input: needs a name"));
    size_t len = strlen(name) + 1;
    s = rt_shape_make(s.dtype, s.rank, s.d);
    char *attr = rt_calloc(len + sizeof s);
    if (!attr) return rt_graph_fail(g, RT_RAISE(RT_ERR_NOMEM, "no memory for input '%s'", name));
    memcpy(attr, name, len);
    memcpy(attr + len, &s, sizeof s);
    rt_val v = rt_graph_append(g, RT_OP_INPUT, NULL, 0, attr, len + sizeof s);
    rt_free(attr);
    return v;
}

/* --- const ------------------------------------------------------------------------------------------------------- */
static rt_status const_infer(rt_node *n)
{
    const rt_const_attr *a = n->attr;
    n->out_shape[0] = a->shape;
    if (a->shape.dtype == RT_I32 && !(a->value >= INT32_MIN && a->value <= INT32_MAX))
        return RT_RAISE(RT_ERR_ARG, "const: %g does not fit i32", a->value);
    return RT_OK;
}

static rt_status const_ref(const rt_node *n, const rt_ref_io *io)
{
    const rt_const_attr *a = n->attr;
    int64_t count = rt_shape_count(&n->out_shape[0]);
    if (n->out_shape[0].dtype == RT_F32)
        for (int64_t i = 0; i < count; i++) ((double *)io->out[0])[i] = a->value;
    else
        for (int64_t i = 0; i < count; i++) ((int32_t *)io->out[0])[i] = (int32_t)a->value;
    return RT_OK;
}

static void const_print(const rt_node *n, char *buf, size_t len)
{
    snprintf(buf, len, "%.9g", ((const rt_const_attr *)n->attr)->value);
}

const rt_op_row rt_row_const = {.name = "const",
                                .n_out = 1,
                                .flags = RT_ROW_LEAF,
                                .attr_bytes = sizeof(rt_const_attr),
                                .infer = const_infer,
                                .vjp = rt_vjp_none,
                                .ref = const_ref,
                                .print_attr = const_print};

rt_val rt_const(rt_graph *g, double value, rt_shape s)
{
    rt_const_attr a;
    memset(&a, 0, sizeof a);
    a.value = value;
    a.shape = rt_shape_make(s.dtype, s.rank, s.d); /* zeroes what lies past rank: attributes compare as bytes */
    return rt_graph_append(g, RT_OP_CONST, NULL, 0, &a, sizeof a);
}

rt_val rt_scalar(rt_graph *g, double value) { return rt_const(g, value, RT_SCALAR_F32); }

bool rt_val_is_const(const rt_graph *g, rt_val v, double value)
{
    const rt_node *n = rt_val_node(g, v, NULL);
    return n && n->op == RT_OP_CONST && ((const rt_const_attr *)n->attr)->value == value;
}
