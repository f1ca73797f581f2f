/* Checks a whole graph against the rows: run after passes, and by tests after every way of making nodes. */
#include "graph/graph_internal.h"

#include <string.h>

#include "ops/util.h"

static rt_status check_links(const rt_graph *g, const rt_node *n, uint32_t next_id)
{
    const rt_op_row *row = rt_op_row_of(n->op);
    if (!row) return RT_RAISE(RT_ERR_INTERNAL, "op number %d does not exist", (int)n->op);
    if (row->n_in != 255 && row->n_in != n->n_in)
        return RT_RAISE(RT_ERR_INTERNAL, "%s has %d inputs, takes %d", row->name, n->n_in, row->n_in);
    if (row->attr_bytes && row->attr_bytes != n->attr_bytes)
        return RT_RAISE(RT_ERR_INTERNAL, "%s has %u bytes of attributes, takes %d", row->name, (unsigned)n->attr_bytes,
                        row->attr_bytes);
    if (n->first_out != next_id)
        return RT_RAISE(RT_ERR_INTERNAL, "%s: outputs start at value %u, not %u", row->name, (unsigned)n->first_out,
                        (unsigned)next_id);
    for (int i = 0; i < n->n_in; i++) {
        if (n->in[i].id == 0 || n->in[i].id >= n->first_out)
            return RT_RAISE(RT_ERR_INTERNAL, "%s: input %d (value %u) does not precede it", row->name, i,
                            (unsigned)n->in[i].id);
        if (!rt_shape_eq(&n->in_shape[i], rt_val_shape(g, n->in[i])))
            return RT_RAISE(RT_ERR_INTERNAL, "%s: the recorded shape of input %d is stale", row->name, i);
    }
    return RT_OK;
}

static rt_status check_shapes(const rt_node *n)
{
    const rt_op_row *row = rt_op_row_of(n->op);
    char a[RT_SHAPE_STR], b[RT_SHAPE_STR];
    rt_node again = *n;
    rt_status st = RT_OK;
    memset(again.out_shape, 0, sizeof again.out_shape);
    again.n_out = row->n_out;
    RT_TRY(row->infer(&again));
    if (again.n_out != n->n_out) {
        st = RT_RAISE(RT_ERR_INTERNAL, "%s: has %d outputs, inference says %d", row->name, n->n_out, again.n_out);
        goto out;
    }
    for (int o = 0; o < n->n_out; o++)
        if (!rt_shape_eq(&again.out_shape[o], &n->out_shape[o])) {
            st = RT_RAISE(RT_ERR_INTERNAL, "%s: output %d is %s, inference says %s", row->name, o,
                          rt_shape_str(&n->out_shape[o], a, sizeof a), rt_shape_str(&again.out_shape[o], b, sizeof b));
            goto out;
        }
out:
    return st;
}

rt_status rt_graph_verify(const rt_graph *g)
{
    rt_status st = RT_OK;
    uint32_t next_id = 1;
    RT_TRY(rt_graph_status(g));
    for (size_t i = 0; i < g->n_node; i++) {
        const rt_node *n = g->node[i];
        RT_TRYF(check_links(g, n, next_id), "node %zu", i);
        RT_TRYF(check_shapes(n), "node %zu", i);
        for (int o = 0; o < n->n_out; o++)
            if (g->owner[n->first_out + (uint32_t)o] != i) {
                st = RT_RAISE(RT_ERR_INTERNAL, "value %u does not know its node %zu", (unsigned)n->first_out, i);
                goto out;
            }
        next_id += n->n_out;
    }
out:
    return st;
}
