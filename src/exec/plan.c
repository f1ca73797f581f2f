/* Planning: dead-code elimination, order, shared storage, lifetimes, bindings.
 *
 * Order is the order of building, which is topological; nothing is reordered, so a plan reads like the program. What a
 * binding needs is done with copies instead: an output whose tensor still holds a value that is read later goes through
 * the arena and is copied after the last step, and an output that is itself an input about to be overwritten is copied
 * aside before the first. Optimiser steps, built last, need neither: they write theta' over theta.
 *
 * Writing over an operand is allowed where the op's row says so, the operand is whole and of the same size, and nobody
 * reads it afterwards. Costs: one pass over the nodes, and rt_interval_pack's search for the offsets. */
#include "exec/plan.h"

#include <string.h>

#include "base/alloc.h"
#include "base/interval.h"
#include "ops/attr.h"
#include "ops/util.h"

enum { NONE = -1 };

typedef struct value {
    uint32_t root;    /* value whose storage this one shares */
    size_t offset;    /* bytes into it */
    int32_t node;     /* index of the node that makes it; NONE for synthetic copies */
    int32_t maker;    /* roots: step that writes it; NONE for leaves */
    int32_t out;      /* roots: which output of that step */
    int32_t last;     /* roots: last step that reads it, NONE when none does */
    int32_t store;    /* roots */
    int32_t direct;   /* roots: store of the tensor it is written to, or NONE */
    rt_shape shape;
} value;

typedef struct builder {
    const rt_backend *be;
    const rt_graph *g;
    const rt_bind *in, *out;
    int n_in, n_out;
    value *val;       /* graph values, then up to two copies per output */
    uint32_t n_val;
    bool *need;       /* per node */
    size_t n_node;
    uint32_t *result; /* per output: the value that ends in its tensor */
    rt_plan *p;
    int cap_store, cap_step;
} builder;

static size_t elem_bytes(const builder *b, rt_dtype t) { return t == RT_F32 ? b->be->vt->real_bytes : sizeof(int32_t); }

static size_t shape_bytes(const builder *b, const rt_shape *s)
{
    return (size_t)rt_shape_count(s) * elem_bytes(b, s->dtype);
}

const char *rt_plan_node_str(const rt_node *n, char *buf, size_t len)
{
    char s[RT_SHAPE_STR];
    int at = snprintf(buf, len, "%s(", rt_op_name(n->op));
    for (int i = 0; i < n->n_in && (size_t)at < len; i++)
        at += snprintf(buf + at, len - (size_t)at, "%s%s", i ? ", " : "", rt_shape_str(&n->in_shape[i], s, sizeof s));
    if ((size_t)at < len)
        snprintf(buf + at, len - (size_t)at, ") -> %s", rt_shape_str(&n->out_shape[0], s, sizeof s));
    return buf;
}

/* --- bindings ----------------------------------------------------------------------------------------------------- */
static rt_status check_bind(const builder *b, const rt_bind *x, const char *side, int i)
{
    char s[RT_SHAPE_STR], t[RT_SHAPE_STR];
    const rt_shape *vs = rt_val_shape(b->g, x->v);
    if (!vs) return RT_RAISE(RT_ERR_ARG, "%s %d: binds no value of this graph", side, i);
    if (!x->t) return RT_RAISE(RT_ERR_ARG, "%s %d: %s has no tensor", side, i, rt_shape_str(vs, s, sizeof s));
    if (x->t->be != b->be)
        return RT_RAISE(RT_ERR_ARG, "%s %d: the tensor belongs to backend %s, the plan to %s", side, i,
                        rt_backend_name(x->t->be), rt_backend_name(b->be));
    if (!rt_shape_eq(vs, &x->t->shape))
        return RT_RAISE(RT_ERR_ARG, "%s %d: value is %s, its tensor %s", side, i, rt_shape_str(vs, s, sizeof s),
                        rt_shape_str(&x->t->shape, t, sizeof t));
    return RT_OK;
}

static rt_status check_binds(const builder *b)
{
    rt_status st = RT_OK;
    for (int i = 0; i < b->n_in; i++) {
        RT_TRY(check_bind(b, &b->in[i], "input", i));
        if (rt_val_node(b->g, b->in[i].v, NULL)->op != RT_OP_INPUT) {
            st = RT_RAISE(RT_ERR_ARG, "input %d: the value is made by %s, not an input", i,
                          rt_op_name(rt_val_node(b->g, b->in[i].v, NULL)->op));
            goto out;
        }
        for (int k = 0; k < i; k++)
            if (b->in[k].v.id == b->in[i].v.id) {
                st = RT_RAISE(RT_ERR_ARG, "input '%s' is bound twice",
                              (const char *)rt_val_node(b->g, b->in[i].v, NULL)->attr);
                goto out;
            }
    }
    if (b->n_out < 1) {
        st = RT_RAISE(RT_ERR_ARG, "a plan needs at least one output");
        goto out;
    }
    for (int i = 0; i < b->n_out; i++) {
        RT_TRY(check_bind(b, &b->out[i], "output", i));
        for (int k = 0; k < i; k++)
            if (b->out[k].t == b->out[i].t) {
                st = RT_RAISE(RT_ERR_ARG, "outputs %d and %d are bound to one tensor", k, i);
                goto out;
            }
    }
out:
    return st;
}

static const rt_tensor *tensor_of_input(const builder *b, uint32_t id)
{
    for (int i = 0; i < b->n_in; i++)
        if (b->in[i].v.id == id) return b->in[i].t;
    return NULL;
}

static bool is_output_tensor(const builder *b, const rt_tensor *t)
{
    for (int i = 0; i < b->n_out; i++)
        if (b->out[i].t == t) return true;
    return false;
}

/* --- values ------------------------------------------------------------------------------------------------------- */
static rt_status collect(builder *b)
{
    rt_status st = RT_OK;
    b->n_node = rt_graph_node_count(b->g);
    b->n_val = 1;
    for (size_t i = 0; i < b->n_node; i++) {
        const rt_node *n = rt_graph_node(b->g, i);
        if (n->first_out + n->n_out > b->n_val) b->n_val = n->first_out + n->n_out;
    }
    RT_ALLOC(b->val, (b->n_val + 2 * (size_t)b->n_out) * sizeof *b->val, "plan values");
    RT_ALLOC(b->need, b->n_node * sizeof *b->need, "plan marks");
    RT_ALLOC(b->result, (size_t)b->n_out * sizeof *b->result, "plan outputs");
    for (size_t i = 0; i < b->n_node; i++) {
        const rt_node *n = rt_graph_node(b->g, i);
        for (int o = 0; o < n->n_out; o++) {
            int64_t shift = 0;
            value *v = &b->val[n->first_out + (uint32_t)o];
            *v = (value){.root = n->first_out + (uint32_t)o, .node = (int32_t)i, .maker = NONE, .out = o,
                         .last = NONE, .store = NONE, .direct = NONE, .shape = n->out_shape[o]};
            if (o == 0 && rt_node_view(n, &shift)) {
                const value *src = &b->val[n->in[0].id];
                v->root = src->root;
                v->offset = src->offset + (size_t)shift * elem_bytes(b, v->shape.dtype);
            }
        }
    }
    for (int i = 0; i < b->n_out; i++) b->need[b->val[b->out[i].v.id].node] = true;
    for (size_t i = b->n_node; i-- > 0;) {
        const rt_node *n = rt_graph_node(b->g, i);
        if (!b->need[i]) continue;
        b->p->n_node++;
        for (int k = 0; k < n->n_in; k++) b->need[b->val[n->in[k].id].node] = true;
        if (n->op == RT_OP_INPUT && !tensor_of_input(b, n->first_out)) {
            char s[RT_SHAPE_STR];
            st = RT_RAISE(RT_ERR_ARG, "input '%s' %s is needed and not bound", (const char *)n->attr,
                          rt_shape_str(&n->out_shape[0], s, sizeof s));
            goto out;
        }
    }
out:
    return st;
}

/* --- steps ---------------------------------------------------------------------------------------------------------- */
/* A self-contained copy of n with room for its places, in one block that starts at node.in_shape. */
static rt_status copy_node(const rt_node *n, rt_plan_step *s)
{
    rt_status st = RT_OK;
    char *block;
    size_t in = n->n_in, shapes = in * sizeof(rt_shape), places = (in + n->n_out) * sizeof(rt_place);
    RT_ALLOC(block, shapes + places + n->attr_bytes + in * sizeof(rt_val) + 1, "plan step");
    s->node = *n;
    s->node.in_shape = memcpy(block, n->in_shape, shapes);
    s->in = (rt_place *)(block + shapes);
    s->out = s->in + in;
    if (n->attr_bytes) s->node.attr = memcpy(block + shapes + places, n->attr, n->attr_bytes);
    s->node.in = memcpy(block + shapes + places + n->attr_bytes, n->in, in * sizeof(rt_val));
out:
    return st;
}

static rt_status add_step(builder *b, const rt_node *n)
{
    rt_status st = RT_OK;
    RT_TRY(copy_node(n, &b->p->step[b->p->n_step]));
    b->p->n_step++;
out:
    return st;
}

/* Step copying value v into a new value: a reshape to its own shape. to: id of the copy. */
static rt_status add_copy(builder *b, uint32_t v, uint32_t to)
{
    rt_shape_attr a = {.shape = b->val[v].shape};
    rt_val in = {v};
    rt_node n = {.op = RT_OP_RESHAPE, .n_in = 1, .n_out = 1, .first_out = to, .in = &in, .in_shape = &a.shape,
                 .out_shape = {a.shape}, .attr = &a, .attr_bytes = sizeof a};
    b->val[to] = (value){.root = to, .node = NONE, .maker = b->p->n_step, .out = 0, .last = NONE, .store = NONE,
                         .direct = NONE, .shape = a.shape};
    return add_step(b, &n);
}

static void mark_reads(builder *b)
{
    for (int s = 0; s < b->p->n_step; s++)
        for (int i = 0; i < b->p->step[s].node.n_in; i++)
            b->val[b->val[b->p->step[s].node.in[i].id].root].last = s;
}

/* Whether output o of step s may be written over root u, as far as this step's own reads go. */
static bool may_overwrite(const builder *b, int s, int o, uint32_t u, const rt_shape *out)
{
    const rt_node *n = &b->p->step[s].node;
    const rt_op_row *row = rt_op_row_of(n->op);
    /* The optimisers read and write element by element: v' may take v's place as theta' takes theta's. */
    bool optimiser = n->op == RT_OP_SGD_STEP || n->op == RT_OP_ADAM_STEP;
    for (int i = 0; i < n->n_in; i++) {
        const value *v = &b->val[n->in[i].id];
        if (v->root != u) continue;
        bool rule = o == 0 ? row->inplace_in >> i & 1 : optimiser && i == o;
        if (!rule || v->offset || v->shape.dtype != out->dtype || rt_shape_count(&v->shape) != rt_shape_count(out) ||
            rt_shape_count(&b->val[u].shape) != rt_shape_count(out))
            return false;
    }
    return true;
}

/* Whether v is all of its root's elements, in another shape at most. */
static bool is_whole(const builder *b, uint32_t v)
{
    const value *x = &b->val[v];
    return x->offset == 0 && rt_shape_count(&x->shape) == rt_shape_count(&b->val[x->root].shape);
}

/* Whether root r may be computed straight into tensor t: every input that lives there has been read by then. */
static bool can_write_direct(const builder *b, uint32_t r, const rt_tensor *t)
{
    int s = b->val[r].maker;
    if (s == NONE || b->val[r].direct != NONE) return false;
    for (int i = 0; i < b->n_in; i++) {
        uint32_t u = b->in[i].v.id;
        if (b->in[i].t != t || b->val[u].last < s) continue;
        if (b->val[u].last > s || !may_overwrite(b, s, b->val[r].out, u, &b->val[r].shape)) return false;
    }
    return true;
}

/* --- stores ---------------------------------------------------------------------------------------------------------- */
static int add_store(builder *b, rt_store s)
{
    b->p->store[b->p->n_store] = s;
    return b->p->n_store++;
}

static int store_of_tensor(builder *b, rt_tensor *t)
{
    for (int i = 0; i < b->p->n_store; i++)
        if (b->p->store[i].tensor == t) return i;
    b->p->bound_bytes += t->bytes;
    return add_store(b, (rt_store){.kind = RT_STORE_TENSOR, .dtype = t->shape.dtype, .bytes = t->bytes, .tensor = t});
}

static rt_status schedule(builder *b)
{
    rt_status st = RT_OK;
    uint32_t next = b->n_val;
    b->cap_step = (int)b->n_node + 2 * b->n_out;
    b->cap_store = (int)b->n_val + b->n_in + 2 * b->n_out;
    RT_ALLOC(b->p->step, (size_t)b->cap_step * sizeof *b->p->step, "plan steps");
    RT_ALLOC(b->p->store, (size_t)b->cap_store * sizeof *b->p->store, "plan stores");

    for (int i = 0; i < b->n_out; i++) { /* inputs that are outputs and would be overwritten meanwhile */
        uint32_t v = b->out[i].v.id;
        const rt_tensor *home = tensor_of_input(b, b->val[v].root);
        b->result[i] = v;
        if (!home || home == b->out[i].t || !is_output_tensor(b, home)) continue;
        RT_TRY(add_copy(b, v, next));
        b->result[i] = next++;
    }
    for (size_t i = 0; i < b->n_node; i++) {
        const rt_node *n = rt_graph_node(b->g, i);
        int64_t shift;
        if (!b->need[i] || (rt_op_row_of(n->op)->flags & RT_ROW_LEAF) || rt_node_view(n, &shift)) continue;
        for (int o = 0; o < n->n_out; o++) b->val[n->first_out + (uint32_t)o].maker = b->p->n_step;
        RT_TRY(add_step(b, n));
    }
    mark_reads(b);
    for (int i = 0; i < b->n_out; i++) {
        uint32_t v = b->result[i], root = b->val[v].root;
        if (is_whole(b, v) && can_write_direct(b, root, b->out[i].t))
            b->val[root].direct = store_of_tensor(b, b->out[i].t);
    }
    for (int i = 0; i < b->n_out; i++) { /* the rest is copied when all reading is done */
        uint32_t v = b->result[i];
        int home = b->val[b->val[v].root].direct;
        if (is_whole(b, v) && home != NONE && b->p->store[home].tensor == b->out[i].t) continue;
        if (tensor_of_input(b, b->val[v].root) == b->out[i].t && b->val[v].offset == 0) continue; /* is there already */
        RT_TRY(add_copy(b, v, next));
        b->val[next++].direct = store_of_tensor(b, b->out[i].t);
    }
    mark_reads(b);
out:
    return st;
}

/* Where output o of step s goes: its tensor, a dying operand of the same size, or a new stretch of the arena. */
static int place_output(builder *b, int s, int o)
{
    const rt_node *n = &b->p->step[s].node;
    value *v = &b->val[n->first_out + (uint32_t)o];
    int32_t last = v->last > s ? v->last : s;
    if (v->direct != NONE) return v->direct;
    for (int i = 0; o == 0 && i < n->n_in; i++) {
        uint32_t u = b->val[n->in[i].id].root;
        rt_store *home = &b->p->store[b->val[u].store];
        if (!(rt_op_row_of(n->op)->inplace_in >> i & 1) || home->kind != RT_STORE_ARENA || home->last != s) continue;
        if (!may_overwrite(b, s, o, u, &v->shape)) continue;
        home->last = last;
        return b->val[u].store;
    }
    return add_store(b, (rt_store){.kind = RT_STORE_ARENA, .dtype = v->shape.dtype, .bytes = shape_bytes(b, &v->shape),
                                   .first = s, .last = last});
}

static int place_leaf(builder *b, uint32_t root)
{
    const rt_tensor *t = tensor_of_input(b, root);
    if (t) return store_of_tensor(b, (rt_tensor *)t);
    const value *v = &b->val[root];
    const rt_const_attr *a = rt_graph_node(b->g, (size_t)v->node)->attr;
    return add_store(b, (rt_store){.kind = RT_STORE_CONST, .dtype = v->shape.dtype, .bytes = shape_bytes(b, &v->shape),
                                   .first = 0, .last = b->p->n_step - 1, .value = a->value,
                                   .count = rt_shape_count(&v->shape)});
}

static void place_all(builder *b)
{
    for (int s = 0; s < b->p->n_step; s++) {
        rt_plan_step *step = &b->p->step[s];
        const rt_node *n = &step->node;
        const rt_op_row *row = rt_op_row_of(n->op);
        rt_cost c = row->cost ? row->cost(n) : rt_cost_default(n);
        b->p->flops += c.flops;
        b->p->bytes += c.bytes;
        for (int i = 0; i < n->n_in; i++) {
            const value *v = &b->val[n->in[i].id];
            value *root = &b->val[v->root];
            if (root->store == NONE) root->store = place_leaf(b, v->root);
            step->in[i] = (rt_place){root->store, v->offset};
        }
        for (int o = 0; o < n->n_out; o++) {
            value *v = &b->val[n->first_out + (uint32_t)o];
            v->store = place_output(b, s, o);
            step->out[o] = (rt_place){v->store, 0};
            b->p->naive_bytes += shape_bytes(b, &v->shape);
        }
    }
    for (int i = 0; i < b->n_in; i++) store_of_tensor(b, b->in[i].t); /* bound but not read: part of the footprint */
}

rt_status rt_plan_build(const rt_backend *be, const rt_graph *g, const rt_bind *in, int n_in, const rt_bind *out,
                        int n_out, rt_plan **out_plan)
{
    rt_status st = RT_OK;
    builder b = {.be = be, .g = g, .in = in, .out = out, .n_in = n_in, .n_out = n_out};
    RT_TRY(rt_graph_status(g));
    RT_ALLOC(b.p, sizeof *b.p, "plan");
    RT_TRY(check_binds(&b));
    RT_TRY(collect(&b));
    RT_TRY(schedule(&b));
    place_all(&b);
    *out_plan = b.p;
    b.p = NULL;
out:
    rt_plan_destroy(b.p);
    rt_free(b.val);
    rt_free(b.need);
    rt_free(b.result);
    return st;
}

void rt_plan_destroy(rt_plan *p)
{
    if (!p) return;
    for (int i = 0; i < p->n_step; i++) rt_free((void *)p->step[i].node.in_shape); /* head of the step's block */
    rt_free(p->step);
    rt_free(p->store);
    rt_free(p);
}

rt_status rt_plan_pack(rt_plan *p)
{
    rt_status st = RT_OK;
    rt_interval *iv = NULL;
    size_t n = 0;
    RT_ALLOC(iv, ((size_t)p->n_store + (size_t)p->n_step) * sizeof *iv, "plan intervals");
    for (int i = 0; i < p->n_store; i++)
        if (p->store[i].kind != RT_STORE_TENSOR)
            iv[n++] = (rt_interval){p->store[i].first, p->store[i].last, p->store[i].bytes + p->guard, 0};
    for (int s = 0; s < p->n_step; s++) {
        if (p->step[s].scratch_bytes > p->scratch_bytes) p->scratch_bytes = p->step[s].scratch_bytes;
        if (p->step[s].scratch_bytes) iv[n++] = (rt_interval){s, s, p->step[s].scratch_bytes + p->guard, 0};
    }
    RT_TRY(rt_interval_pack(iv, n, RT_PLAN_ALIGN, &p->arena_bytes));
    n = 0;
    for (int i = 0; i < p->n_store; i++)
        if (p->store[i].kind != RT_STORE_TENSOR) p->store[i].offset = iv[n++].offset;
    for (int s = 0; s < p->n_step; s++)
        if (p->step[s].scratch_bytes) p->step[s].scratch_offset = iv[n++].offset;
out:
    rt_free(iv);
    return st;
}
