/* Building graphs: append-only nodes, hash-consing, the sticky error.
 *
 * Storage. Nodes and everything they point to (inputs, their shapes, attributes) live in bump blocks that never move, so
 * rules may keep a `const rt_node *` while they append. `node` lists them in order of creation; since a node can only
 * name values that exist, that order is topological and needs no sorting ever again.
 *
 * Values. A value id names one output of one node; outputs of a node have consecutive ids; 0 is none.
 *
 * Hash-consing. A node is its op, inputs and attribute bytes; the table maps that triple to the first node that had it.
 * Everything in the language is pure, so merging is always right, except for nodes with a `unique` number (inputs).
 *
 * Errors. The first failure is saved with its chain; afterwards every append returns none at once. */
#include "graph/graph_internal.h"

#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "ops/util.h"

enum { BLOCK_BYTES = 64 * 1024, FIRST_SLOTS = 256 };

struct rt_graph_block {
    rt_graph_block *next;
    size_t used, cap;
    _Alignas(16) unsigned char data[];
};

static void *bump(rt_graph *g, size_t bytes)
{
    rt_graph_block *b = g->blocks;
    bytes = (bytes + 15) & ~(size_t)15;
    if (!b || b->cap - b->used < bytes) {
        size_t cap = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;
        b = rt_malloc(sizeof *b + cap);
        if (!b) return NULL;
        b->next = g->blocks;
        b->used = 0;
        b->cap = cap;
        g->blocks = b;
    }
    void *p = b->data + b->used;
    b->used += bytes;
    return p;
}

/* Makes room for one more element of `size` bytes; NULL-safe growth by doubling. */
static rt_status reserve(void **p, size_t n, size_t *cap, size_t size)
{
    if (n < *cap) return RT_OK;
    size_t want = *cap ? *cap * 2 : 64;
    void *q = rt_realloc(*p, *cap * size, want * size);
    if (!q) return RT_RAISE(RT_ERR_NOMEM, "no memory for a graph of %zu nodes", n);
    *p = q;
    *cap = want;
    return RT_OK;
}

rt_status rt_graph_create(rt_graph **out)
{
    rt_status st = RT_OK;
    rt_graph *g = NULL;
    RT_ALLOC(g, sizeof *g, "graph");
    RT_ALLOC(g->slot, FIRST_SLOTS * sizeof *g->slot, "graph");
    RT_ALLOC(g->slot_hash, FIRST_SLOTS * sizeof *g->slot_hash, "graph");
    g->n_slot = FIRST_SLOTS;
    g->n_val = 1;
    *out = g;
    g = NULL;
out:
    rt_graph_destroy(g);
    return st;
}

void rt_graph_destroy(rt_graph *g)
{
    if (!g) return;
    for (rt_graph_block *b = g->blocks, *next; b; b = next) {
        next = b->next;
        rt_free(b);
    }
    rt_free(g->node);
    rt_free(g->owner);
    rt_free(g->slot);
    rt_free(g->slot_hash);
    rt_free(g->input);
    rt_free(g);
}

/* --- errors ------------------------------------------------------------------------------------------------------ */
rt_status rt_graph_status(const rt_graph *g) { return g->st == RT_OK ? RT_OK : rt_error_restore(&g->chain); }

rt_val rt_graph_fail(rt_graph *g, rt_status st)
{
    if (g->st == RT_OK && st != RT_OK) {
        g->st = st;
        rt_error_save(&g->chain);
    }
    return (rt_val){0};
}

rt_val rt_graph_none(rt_graph *g, rt_op op)
{
    if (g->st != RT_OK) return (rt_val){0};
    return rt_graph_fail(g, RT_RAISE(RT_ERR_ARG, "%s: given no value", rt_op_name(op)));
}

/* --- questions --------------------------------------------------------------------------------------------------- */
rt_val rt_node_out(rt_val first, int o) { return first.id ? (rt_val){first.id + (uint32_t)o} : first; }

bool rt_graph_expanding(const rt_graph *g) { return g->expanding > 0; }

const rt_node *rt_val_node(const rt_graph *g, rt_val v, int *out_index)
{
    if (v.id == 0 || v.id >= g->n_val) return NULL;
    const rt_node *n = g->node[g->owner[v.id]];
    if (out_index) *out_index = (int)(v.id - n->first_out);
    return n;
}

const rt_shape *rt_val_shape(const rt_graph *g, rt_val v)
{
    int o = 0;
    const rt_node *n = rt_val_node(g, v, &o);
    return n ? &n->out_shape[o] : NULL;
}

size_t rt_graph_node_count(const rt_graph *g) { return g->n_node; }
const rt_node *rt_graph_node(const rt_graph *g, size_t i) { return i < g->n_node ? g->node[i] : NULL; }

/* --- hash-consing ------------------------------------------------------------------------------------------------ */
static uint64_t hash_key(rt_op op, const rt_val *in, int n_in, const void *attr, size_t attr_bytes)
{
    uint64_t h = (uint64_t)op * 0x9E3779B97F4A7C15u + attr_bytes;
    if (n_in) h = rt_hash64(in, (size_t)n_in * sizeof *in, h);
    if (attr_bytes) h = rt_hash64(attr, attr_bytes, h);
    return h;
}

static const rt_node *find(const rt_graph *g, uint64_t h, rt_op op, const rt_val *in, int n_in, const void *attr,
                           size_t attr_bytes)
{
    for (size_t i = h & (g->n_slot - 1); g->slot[i]; i = (i + 1) & (g->n_slot - 1)) {
        const rt_node *n = g->node[g->slot[i] - 1];
        if (g->slot_hash[i] == h && n->op == op && !n->unique && n->n_in == n_in && n->attr_bytes == attr_bytes &&
            (n_in == 0 || memcmp(n->in, in, (size_t)n_in * sizeof *in) == 0) &&
            (attr_bytes == 0 || memcmp(n->attr, attr, attr_bytes) == 0))
            return n;
    }
    return NULL;
}

static void place(uint32_t *slot, uint64_t *slot_hash, size_t n_slot, uint64_t h, uint32_t index)
{
    size_t i = h & (n_slot - 1);
    while (slot[i]) i = (i + 1) & (n_slot - 1);
    slot[i] = index;
    slot_hash[i] = h;
}

static rt_status grow_table(rt_graph *g)
{
    rt_status st = RT_OK;
    uint32_t *slot = NULL;
    uint64_t *slot_hash = NULL;
    size_t n = g->n_slot * 2;
    RT_ALLOC(slot, n * sizeof *slot, "graph table");
    RT_ALLOC(slot_hash, n * sizeof *slot_hash, "graph table");
    for (size_t i = 0; i < g->n_slot; i++)
        if (g->slot[i]) place(slot, slot_hash, n, g->slot_hash[i], g->slot[i]);
    rt_free(g->slot);
    rt_free(g->slot_hash);
    g->slot = slot;
    g->slot_hash = slot_hash;
    g->n_slot = n;
    slot = NULL;
    slot_hash = NULL;
out:
    rt_free(slot);
    rt_free(slot_hash);
    return st;
}

/* --- append ------------------------------------------------------------------------------------------------------ */
static rt_status check_call(const rt_graph *g, const rt_op_row *row, const rt_val *in, int n_in, size_t attr_bytes)
{
    if (n_in < 0 || n_in > UINT16_MAX || (row->n_in != 255 && row->n_in != n_in))
        return RT_RAISE(RT_ERR_ARG, "%s: given %d inputs, takes %d", row->name, n_in, row->n_in);
    if (row->attr_bytes && row->attr_bytes != attr_bytes)
        return RT_RAISE(RT_ERR_INTERNAL, "%s: given %zu bytes of attributes, takes %d", row->name, attr_bytes,
                        row->attr_bytes);
    for (int i = 0; i < n_in; i++)
        if (in[i].id == 0 || in[i].id >= g->n_val)
            return RT_RAISE(RT_ERR_ARG, "%s: input %d is %s", row->name, i,
                            in[i].id ? "not a value of this graph" : "no value");
    return RT_OK;
}

static rt_status check_name(const rt_graph *g, const char *name)
{
    for (size_t i = 0; i < g->n_input; i++)
        if (strcmp(g->node[g->input[i]]->attr, name) == 0)
            return RT_RAISE(RT_ERR_ARG, "input: the name '%s' is already taken", name);
    return RT_OK;
}

/* Copies a finished node into the graph. */
static rt_status commit(rt_graph *g, const rt_node *tmp, uint64_t h, rt_val *out)
{
    rt_status st = RT_OK;
    size_t in_bytes = tmp->n_in * sizeof *tmp->in, shape_bytes = tmp->n_in * sizeof *tmp->in_shape;
    RT_TRY(reserve((void **)&g->node, g->n_node, &g->cap_node, sizeof *g->node));
    for (int o = 0; o < tmp->n_out; o++)
        RT_TRY(reserve((void **)&g->owner, g->n_val + (size_t)o, &g->cap_val, sizeof *g->owner));
    if (tmp->op == RT_OP_INPUT) RT_TRY(reserve((void **)&g->input, g->n_input, &g->cap_input, sizeof *g->input));
    if ((g->n_node + 1) * 2 > g->n_slot) RT_TRY(grow_table(g));
    if (g->n_val + tmp->n_out > UINT32_MAX) {
        st = RT_RAISE(RT_ERR_ARG, "%s: more than 2^32 values in one graph", rt_op_name(tmp->op));
        goto out;
    }

    rt_node *n = bump(g, sizeof *n);
    rt_val *in = n ? bump(g, in_bytes) : NULL;
    rt_shape *in_shape = in ? bump(g, shape_bytes) : NULL;
    void *attr = in_shape ? bump(g, tmp->attr_bytes) : NULL;
    if (!attr) {
        st = RT_RAISE(RT_ERR_NOMEM, "no memory for a graph of %zu nodes", g->n_node);
        goto out;
    }
    *n = *tmp;
    n->in = in_bytes ? memcpy(in, tmp->in, in_bytes) : NULL;
    n->in_shape = shape_bytes ? memcpy(in_shape, tmp->in_shape, shape_bytes) : NULL;
    n->attr = n->attr_bytes ? memcpy(attr, tmp->attr, n->attr_bytes) : NULL;
    n->first_out = (uint32_t)g->n_val;
    if (n->op == RT_OP_INPUT) g->input[g->n_input++] = (uint32_t)g->n_node;
    for (int o = 0; o < n->n_out; o++) g->owner[g->n_val++] = (uint32_t)g->n_node;
    g->node[g->n_node++] = n;
    place(g->slot, g->slot_hash, g->n_slot, h, (uint32_t)g->n_node);
    *out = (rt_val){n->first_out};
out:
    return st;
}

rt_val rt_graph_append(rt_graph *g, rt_op op, const rt_val *in, int n_in, const void *attr, size_t attr_bytes)
{
    rt_status st = RT_OK;
    rt_shape few[8], *in_shape = few;
    rt_val out = {0};
    if (g->st != RT_OK) return out;
    const rt_op_row *row = rt_op_row_of(op);
    if (!row) return rt_graph_fail(g, RT_RAISE(RT_ERR_ARG, "op number %d does not exist", (int)op));
    RT_TRY(check_call(g, row, in, n_in, attr_bytes));
    if (op == RT_OP_INPUT) RT_TRY(check_name(g, attr));

    uint64_t h = hash_key(op, in, n_in, attr, attr_bytes);
    const rt_node *same = find(g, h, op, in, n_in, attr, attr_bytes);
    if (same) {
        out.id = same->first_out;
        goto out;
    }
    if (n_in > (int)(sizeof few / sizeof few[0])) RT_ALLOC(in_shape, (size_t)n_in * sizeof *in_shape, "shapes");
    for (int i = 0; i < n_in; i++) in_shape[i] = *rt_val_shape(g, in[i]);
    rt_node tmp = {.op = op,
                   .n_in = (uint16_t)n_in,
                   .n_out = row->n_out,
                   .in = in,
                   .in_shape = in_shape,
                   .attr = attr,
                   .attr_bytes = (uint32_t)attr_bytes,
                   .unique = op == RT_OP_INPUT ? g->n_input + 1 : 0};
    RT_TRY(row->infer(&tmp));
    for (int o = 0; o < tmp.n_out; o++) RT_TRY(rt_shape_check(row->name, &tmp.out_shape[o]));
    RT_TRY(commit(g, &tmp, h, &out));
out:
    if (in_shape != few) rt_free(in_shape);
    return st == RT_OK ? out : rt_graph_fail(g, st);
}
