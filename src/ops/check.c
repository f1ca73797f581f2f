/* Complaints and counts shared by the structured rows. */
#include "ops/check.h"

#include <stdarg.h>
#include <stdio.h>

rt_status rt_op_misuse(const rt_node *n, const char *fmt, ...)
{
    char text[256], operands[224] = "", s[64];
    size_t used = 0;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    for (int i = 0; i < n->n_in && used < sizeof operands - 1; i++) {
        int k = snprintf(operands + used, sizeof operands - used, "%s%s", i ? ", " : "",
                         rt_shape_str(&n->in_shape[i], s, sizeof s));
        used += k > 0 ? (size_t)k : 0;
    }
    return RT_RAISE(RT_ERR_ARG, "%s(%s): %s", rt_op_name(n->op), operands, text);
}

rt_status rt_op_want(const rt_node *n, int i, rt_dtype t, int rank)
{
    const rt_shape *s = &n->in_shape[i];
    if (s->dtype != t || s->rank != rank)
        return rt_op_misuse(n, "input %d must be %s of rank %d", i, t == RT_I32 ? "i32" : "f32", rank);
    for (int k = 0; k < rank; k++)
        if (s->d[k] < 1) return rt_op_misuse(n, "axis %d of input %d is empty", k, i);
    return RT_OK;
}

rt_status rt_op_want_shape(const rt_node *n, int i, const rt_shape *s)
{
    char want[64];
    if (!rt_shape_eq(&n->in_shape[i], s))
        return rt_op_misuse(n, "input %d must be %s", i, rt_shape_str(s, want, sizeof want));
    return RT_OK;
}

double rt_op_bytes(const rt_node *n)
{
    double count = 0;
    for (int i = 0; i < n->n_in; i++) count += (double)rt_shape_count(&n->in_shape[i]);
    for (int o = 0; o < n->n_out; o++) count += (double)rt_shape_count(&n->out_shape[o]);
    return 4 * count;
}

rt_cost rt_op_streaming_cost(const rt_node *n, double flops_per_element)
{
    return (rt_cost){.flops = flops_per_element * (double)rt_shape_count(&n->out_shape[0]), .bytes = rt_op_bytes(n)};
}
