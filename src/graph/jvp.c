/* Forward-mode differentiation as a graph transformation.
 *
 * rt_jvp(y, wrt, v) appends nodes that compute sum_k (d y / d wrt[k]) v[k]: one sweep over the nodes in order, each turning
 * the tangents of its inputs into those of its outputs. Applied to a gradient it gives products with second derivatives
 * (forward over reverse; Pearlmutter, "Fast exact multiplication by the Hessian", 1994): with y = (grad_theta, grad_x) of
 * a loss and v in theta's space, H v and K v of matching.md 3.2.
 *
 * Rules. Few rows have a rule of their own (row->jvp: fused normalisation). For the others it is derived from vjp, which
 * is linear in the gradient it is handed: with u a placeholder for that gradient, vjp gives J'u as a graph, and the
 * gradient of <J'u, t> with respect to u is J t, in which u no longer occurs. The placeholder is an input that nothing
 * needs, so no plan contains it; hash-consing finds the values of J t that exist already. Each op's tangent costs what
 * one would write by hand, and there is no second set of rules to keep right.
 *
 * Only values that both depend on a wrt and lead to a y are touched. A tangent that is zero is the none value. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "graph/graph_internal.h"
#include "ops/util.h"

typedef struct sweep {
    rt_graph *g;
    size_t n_node, n_val;     /* of the graph as it was */
    uint8_t *fixed;           /* the value is a wrt: its tangent is given */
    uint8_t *depends, *wanted;
    rt_val *tangent;
} sweep;

static bool flows(const rt_node *n, int i)
{
    return n->in_shape[i].dtype == RT_F32 && !(i < 16 && rt_op_row_of(n->op)->no_grad_in >> i & 1);
}

static void mark(sweep *s)
{
    for (size_t k = 0; k < s->n_node; k++) {
        const rt_node *n = rt_graph_node(s->g, k);
        bool any = false;
        for (int i = 0; i < n->n_in && !any; i++) any = flows(n, i) && s->depends[n->in[i].id];
        for (uint32_t id = n->first_out; id < n->first_out + n->n_out; id++) s->depends[id] |= any;
    }
    for (size_t k = s->n_node; k-- > 0;) {
        const rt_node *n = rt_graph_node(s->g, k);
        bool any = false;
        for (uint32_t id = n->first_out; id < n->first_out + n->n_out; id++) any |= s->wanted[id] && !s->fixed[id];
        for (int i = 0; i < n->n_in && any; i++)
            if (flows(n, i)) s->wanted[n->in[i].id] = 1;
    }
}

/* Tangents of n's outputs (those with ask[o]) from tx, through its vjp. */
static rt_status derived_rule(sweep *s, const rt_node *n, const rt_val *tx, const bool *ask, rt_val *ty)
{
    rt_status st = RT_OK;
    rt_graph *g = s->g;
    rt_val u[RT_MAX_OUT] = {{0}}, list[RT_MAX_OUT], got[RT_MAX_OUT], *gx = NULL;
    int n_list = 0, n_pair = 0, at = 0;
    RT_ALLOC(gx, 3 * (size_t)n->n_in * sizeof *gx, "tangents");
    rt_val *y = gx + n->n_in, *gy = y + n->n_in;
    for (int o = 0; o < n->n_out; o++) {
        char name[48];
        if (!ask[o]) continue;
        snprintf(name, sizeof name, "tangent placeholder %zu", rt_graph_node_count(g));
        list[n_list++] = u[o] = rt_input(g, name, n->out_shape[o]);
    }
    RT_TRY(rt_graph_status(g));
    RT_TRYF(rt_grad_node(g, n, u, 0, gx), "tangent of %s", rt_op_name(n->op));
    for (int i = 0; i < n->n_in; i++) {
        if (!gx[i].id || !tx[i].id) continue;
        y[n_pair] = gx[i];
        gy[n_pair++] = tx[i];
    }
    RT_TRYF(rt_grad_walk(g, y, gy, n_pair, list, n_list, NULL, 0, 0, got), "tangent of %s", rt_op_name(n->op));
    for (int o = 0; o < n->n_out; o++)
        if (ask[o]) ty[o] = got[at++];
out:
    rt_free(gx);
    return st;
}

static rt_status forward(sweep *s, const rt_node *n)
{
    rt_status st = RT_OK;
    const rt_op_row *row = rt_op_row_of(n->op);
    rt_val few[8] = {{0}}, *tx = few, ty[RT_MAX_OUT] = {{0}};
    bool ask[RT_MAX_OUT] = {false}, any = false, own = row->jvp != NULL;
    for (int o = 0; o < n->n_out; o++) {
        const uint32_t id = n->first_out + (uint32_t)o;
        ask[o] = s->wanted[id] && s->depends[id] && !s->fixed[id] && n->out_shape[o].dtype == RT_F32;
        any |= ask[o];
        own = own && (!ask[o] || row->jvp_out >> o & 1);
    }
    if (!any) return RT_OK;
    if (n->n_in > (int)(sizeof few / sizeof few[0])) RT_ALLOC(tx, n->n_in * sizeof *tx, "tangents");
    any = false;
    for (int i = 0; i < n->n_in; i++) {
        if (flows(n, i)) tx[i] = s->tangent[n->in[i].id];
        any |= tx[i].id != 0;
    }
    if (any && own)
        row->jvp(s->g, n, tx, ty);
    else if (any)
        RT_TRY(derived_rule(s, n, tx, ask, ty));
    RT_TRY(rt_graph_status(s->g));
    for (int o = 0; o < n->n_out; o++)
        if (ask[o]) s->tangent[n->first_out + (uint32_t)o] = ty[o];
out:
    if (tx != few) rt_free(tx);
    return st;
}

static rt_status check(const rt_graph *g, const rt_val *y, int n_y, const rt_val *wrt, const rt_val *v, int n)
{
    char a[RT_SHAPE_STR], b[RT_SHAPE_STR];
    for (int i = 0; i < n_y; i++) {
        const rt_shape *s = rt_val_shape(g, y[i]);
        if (!s || s->dtype != RT_F32)
            return RT_RAISE(RT_ERR_ARG, "tangent: y[%d] is %s", i, s ? "i32 and has none" : "no value of this graph");
    }
    for (int i = 0; i < n; i++) {
        const rt_shape *s = rt_val_shape(g, wrt[i]), *t = rt_val_shape(g, v[i]);
        if (!s || !t || s->dtype != RT_F32 || !rt_shape_eq(s, t))
            return RT_RAISE(RT_ERR_ARG, "tangent: wrt[%d] is %s, its tangent %s", i, s ? rt_shape_str(s, a, sizeof a) : "none",
                            t ? rt_shape_str(t, b, sizeof b) : "none");
    }
    return RT_OK;
}

rt_status rt_jvp(rt_graph *g, const rt_val *y, int n_y, const rt_val *wrt, const rt_val *v, int n, rt_val *out)
{
    rt_status st = RT_OK;
    sweep s = {.g = g, .n_node = g->n_node, .n_val = g->n_val};
    RT_TRY(rt_graph_status(g));
    RT_TRY(check(g, y, n_y, wrt, v, n));
    RT_ALLOC(s.fixed, s.n_val, "tangents");
    RT_ALLOC(s.depends, s.n_val, "tangents");
    RT_ALLOC(s.wanted, s.n_val, "tangents");
    RT_ALLOC(s.tangent, s.n_val * sizeof *s.tangent, "tangents");
    for (int i = 0; i < n; i++) {
        s.fixed[wrt[i].id] = s.depends[wrt[i].id] = 1;
        s.tangent[wrt[i].id] = v[i];
    }
    for (int i = 0; i < n_y; i++) s.wanted[y[i].id] = 1;
    mark(&s);
    for (size_t k = 0; k < s.n_node; k++) RT_TRY(forward(&s, rt_graph_node(g, k)));
    for (int i = 0; i < n_y; i++) {
        rt_val t = s.tangent[y[i].id];
        out[i] = t.id ? t : rt_const(g, 0, *rt_val_shape(g, y[i]));
    }
    st = rt_graph_status(g);
out:
    rt_free(s.fixed);
    rt_free(s.depends);
    rt_free(s.wanted);
    rt_free(s.tangent);
    if (st != RT_OK) rt_graph_fail(g, st);
    return st;
}
