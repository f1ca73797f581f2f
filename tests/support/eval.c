#include "eval.h"

#include <stdlib.h>
#include <string.h>

#include "ops/util.h"

size_t rt_eval_bytes(const rt_graph *g, rt_val v)
{
    const rt_shape *s = rt_val_shape(g, v);
    return s ? (size_t)rt_shape_count(s) * rt_ref_elem_bytes(s->dtype) : 0;
}

static rt_status eval_node(const rt_graph *g, const rt_node *n, const rt_feed *feed, int n_feed, void **value)
{
    const rt_op_row *row = rt_op_row_of(n->op);
    rt_status st = RT_OK;
    const void **in = calloc((size_t)n->n_in + 1, sizeof *in);
    for (int i = 0; i < n->n_in; i++) in[i] = value[n->in[i].id];
    for (int o = 0; o < n->n_out; o++) {
        size_t bytes = rt_eval_bytes(g, (rt_val){n->first_out + (uint32_t)o});
        value[n->first_out + (uint32_t)o] = malloc(bytes + 1);
        memset(value[n->first_out + (uint32_t)o], 0xFF, bytes + 1); /* NaN: a reference must write every element */
    }
    if (n->op == RT_OP_INPUT) {
        int i = 0;
        while (i < n_feed && feed[i].v.id != n->first_out) i++;
        if (i == n_feed)
            st = RT_RAISE(RT_ERR_ARG, "evaluation: input '%s' is not fed", (const char *)n->attr);
        else
            memcpy(value[n->first_out], feed[i].data, rt_eval_bytes(g, (rt_val){n->first_out}));
    } else if (!row->ref) {
        st = RT_RAISE(RT_ERR_UNSUPPORTED, "%s: no reference", row->name);
    } else {
        st = row->ref(n, &(rt_ref_io){.in = in, .out = &value[n->first_out]});
    }
    free(in);
    return st;
}

rt_status rt_eval_ref(const rt_graph *g, const rt_feed *feed, int n_feed, const rt_val *want, int n_want,
                      void *const *out)
{
    size_t n_node = rt_graph_node_count(g), n_val = 1;
    rt_status st = rt_graph_status(g);
    if (st != RT_OK) return st;
    for (size_t i = 0; i < n_node; i++) n_val += rt_graph_node(g, i)->n_out;
    void **value = calloc(n_val, sizeof *value);
    unsigned char *needed = calloc(n_val, 1);
    for (int i = 0; i < n_want; i++) {
        if (want[i].id == 0 || want[i].id >= n_val) {
            st = RT_RAISE(RT_ERR_ARG, "evaluation: wanted value %d is none", i);
            goto out;
        }
        needed[want[i].id] = 1;
    }
    for (size_t i = n_node; i-- > 0;) {
        const rt_node *n = rt_graph_node(g, i);
        bool use = false;
        for (int o = 0; o < n->n_out; o++) use = use || needed[n->first_out + (uint32_t)o];
        for (int o = 0; o < n->n_out; o++) needed[n->first_out + (uint32_t)o] = use;
        for (int k = 0; use && k < n->n_in; k++) needed[n->in[k].id] = 1;
    }
    for (size_t i = 0; i < n_node && st == RT_OK; i++)
        if (needed[rt_graph_node(g, i)->first_out]) st = eval_node(g, rt_graph_node(g, i), feed, n_feed, value);
    for (int i = 0; i < n_want && st == RT_OK; i++) memcpy(out[i], value[want[i].id], rt_eval_bytes(g, want[i]));
out:
    for (size_t i = 0; i < n_val; i++) free(value[i]);
    free(value);
    free(needed);
    return st;
}
