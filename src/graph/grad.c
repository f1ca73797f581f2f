/* Reverse-mode differentiation as a graph transformation, of any order.
 *
 * rt_vjp(y, gy, wrt) appends nodes that compute sum_k <gy[k], d y[k] / d wrt[i]>. They are ordinary nodes: differentiate
 * them again and second derivatives come out; there is no tape and no notion of "order".
 *
 * The walk. A *region* is the set of values that y depends on, listed by descending id. Ids ascend along every edge
 * (inputs precede uses), so the list is a reverse topological order and needs no other bookkeeping. It is collected with a
 * max-heap: pop the largest id, skip repeats, push the inputs of its node. Values older than every wrt cannot depend on
 * one and are not entered. A pass from the old end marks which values reach a wrt; the pass from the young end turns each
 * marked value's contributions into one gradient and asks its node's rule for those of the inputs. Cost: O(E log E) for E
 * edges of the region, and only marked edges cost nodes. Rules may append gradients nobody wants (a first layer's image
 * gradient); being unreachable from any output they are never run.
 *
 * Rules see equal shapes only. Where an elementwise op broadcast an input, the gradient comes back in the output's shape
 * and is summed to the input's here, on the edge, once.
 *
 * Contributions are added in order of arrival, with one exception: theta is one long vector and a network reads it through
 * hundreds of slices, whose adjoints are hundreds of vectors of theta's length, nearly all zeros. Pads of a vector, or of
 * the columns of a matrix (theta [M,P] of M networks), whose ranges are equal or disjoint are therefore joined by concat:
 * one pass over theta instead of one per parameter.
 *
 * Fused ops. A node whose row has no vjp (or says that this combination of gradients needs it) is differentiated through
 * its expansion: build the same outputs from primitives, then run the same walk over that region, with the node's own
 * inputs as stopping points. That gives partial derivatives, which are accumulated like any rule's result. So a fused
 * backward op needs no rule of its own, at any order. Hash-consing may find that the expansion recomputes an input of the
 * node (say f(x, mean(x)) expanding into mean(x) again); the path then ends at that input and the outer walk carries it
 * on, which is the same total derivative. It would be lost if the row called that input no_grad: rows must not
 * recompute a no_grad input from another input in expand.
 *
 * Zeros. A gradient that nothing flows into is the none value until the very end, where rt_vjp makes zeros of it. */
#include "graph/graph_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "ops/attr.h"
#include "ops/util.h"

enum { MAX_NESTING = 16, NO_LINK = 0 };

typedef struct link { /* one contribution to a value's gradient */
    rt_val v;
    uint32_t next; /* index into walk.link, 0 ends */
} link;

typedef struct walk {
    rt_graph *g;
    const rt_val *wrt, *stop;
    int n_wrt, n_stop;
    uint32_t *id; /* the region: value ids, descending */
    size_t n, cap;
    uint8_t *reach; /* value depends on a wrt */
    rt_val *adj;    /* combined gradient, none before its turn */
    uint32_t *head, *tail;
    link *link; /* link[0] is unused */
    size_t n_link, cap_link;
    int nesting;
} walk;

static bool listed(const rt_val *list, int n, uint32_t id)
{
    for (int i = 0; i < n; i++)
        if (list[i].id == id) return true;
    return false;
}

static rt_status grow(void *pp, size_t n, size_t *cap, size_t size)
{
    void *p, *q;
    if (n < *cap) return RT_OK;
    memcpy(&p, pp, sizeof p);
    size_t want = *cap ? *cap * 2 : 256;
    q = rt_realloc(p, *cap * size, want * size);
    if (!q) return RT_RAISE(RT_ERR_NOMEM, "no memory to differentiate %zu values", n);
    memcpy(pp, &q, sizeof q);
    *cap = want;
    return RT_OK;
}

/* --- the region --------------------------------------------------------------------------------------------------- */
typedef struct heap {
    uint32_t *id;
    size_t n, cap;
} heap;

static rt_status heap_push(heap *h, uint32_t id)
{
    rt_status st = grow(&h->id, h->n, &h->cap, sizeof *h->id);
    if (st != RT_OK) return st;
    size_t i = h->n++;
    for (; i && h->id[(i - 1) / 2] < id; i = (i - 1) / 2) h->id[i] = h->id[(i - 1) / 2];
    h->id[i] = id;
    return RT_OK;
}

static uint32_t heap_pop(heap *h)
{
    uint32_t top = h->id[0], last = h->id[--h->n];
    size_t i = 0, c;
    while ((c = 2 * i + 1) < h->n) {
        if (c + 1 < h->n && h->id[c + 1] > h->id[c]) c++;
        if (h->id[c] <= last) break;
        h->id[i] = h->id[c];
        i = c;
    }
    h->id[i] = last;
    return top;
}

static rt_status collect(walk *w, const rt_val *y, int n_y)
{
    rt_status st = RT_OK;
    heap h = {0};
    uint32_t oldest = UINT32_MAX, last = 0;
    for (int i = 0; i < w->n_wrt; i++)
        if (w->wrt[i].id < oldest) oldest = w->wrt[i].id;
    for (int i = 0; i < n_y; i++)
        if (y[i].id >= oldest) RT_TRY(heap_push(&h, y[i].id));
    while (h.n) {
        uint32_t id = heap_pop(&h);
        if (id == last) continue;
        last = id;
        RT_TRY(grow(&w->id, w->n, &w->cap, sizeof *w->id));
        w->id[w->n++] = id;
        if (listed(w->stop, w->n_stop, id)) continue;
        const rt_node *n = rt_val_node(w->g, (rt_val){id}, NULL);
        for (int i = 0; i < n->n_in; i++)
            if (n->in[i].id >= oldest) RT_TRY(heap_push(&h, n->in[i].id));
    }
out:
    rt_free(h.id);
    return st;
}

/* Position of a value in the region, or -1. */
static ptrdiff_t position(const walk *w, uint32_t id)
{
    size_t lo = 0, hi = w->n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (w->id[mid] > id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < w->n && w->id[lo] == id ? (ptrdiff_t)lo : -1;
}

/* Whether a gradient flows from node n to its input i. */
static bool flows(const walk *w, const rt_node *n, int i, size_t *pos)
{
    if (i < 16 && (rt_op_row_of(n->op)->no_grad_in >> i & 1)) return false;
    ptrdiff_t p = position(w, n->in[i].id);
    if (p < 0 || !w->reach[p]) return false;
    *pos = (size_t)p;
    return true;
}

static void mark(walk *w)
{
    for (size_t k = w->n; k-- > 0;) {
        rt_val v = {w->id[k]};
        size_t pos;
        if (rt_val_shape(w->g, v)->dtype != RT_F32) continue;
        w->reach[k] = listed(w->wrt, w->n_wrt, v.id);
        if (w->reach[k] || listed(w->stop, w->n_stop, v.id)) continue;
        const rt_node *n = rt_val_node(w->g, v, NULL);
        for (int i = 0; i < n->n_in && !w->reach[k]; i++) w->reach[k] = flows(w, n, i, &pos);
    }
}

/* --- contributions ------------------------------------------------------------------------------------------------ */
static rt_status contribute(walk *w, size_t pos, rt_val v)
{
    rt_status st = grow(&w->link, w->n_link, &w->cap_link, sizeof *w->link);
    if (st != RT_OK) return st;
    uint32_t l = (uint32_t)w->n_link++;
    w->link[l] = (link){v, NO_LINK};
    if (w->head[pos])
        w->link[w->tail[pos]].next = l;
    else
        w->head[pos] = l;
    w->tail[pos] = l;
    return RT_OK;
}

typedef struct piece { /* a pad along the last axis of a vector or matrix: src at [lo, hi), zeros elsewhere */
    int64_t lo, hi;
    rt_val src;
} piece;

static int by_range(const void *a, const void *b)
{
    const piece *p = a, *q = b;
    if (p->lo != q->lo) return p->lo < q->lo ? -1 : 1;
    return p->hi != q->hi ? (p->hi < q->hi ? -1 : 1) : (p->src.id > q->src.id) - (p->src.id < q->src.id);
}

static bool as_piece(const rt_graph *g, rt_val v, piece *p)
{
    const rt_node *n = rt_val_node(g, v, NULL);
    const rt_pad_attr *a = n->attr;
    const int last = n->out_shape[0].rank - 1;
    if (n->op != RT_OP_PAD || last < 0 || last > 1 || (last == 1 && (a->lo[0] || a->hi[0]))) return false;
    p->lo = a->lo[last];
    p->hi = p->lo + n->in_shape[0].d[last];
    p->src = n->in[0];
    return true;
}

/* Zeros beside the pieces of a value of shape `of`, n columns of them. */
static rt_val gap(rt_graph *g, const rt_shape *of, int64_t n)
{
    rt_shape s = *of;
    s.d[s.rank - 1] = n;
    return rt_const(g, 0, s);
}

/* Joins n pieces of a vector or matrix of this shape: equal ranges add, disjoint ones concatenate, gaps are zeros.
 * none when two ranges overlap in part. */
static rt_status join(rt_graph *g, piece *p, size_t n, const rt_shape *of, rt_val *out)
{
    rt_status st = RT_OK;
    const int last = of->rank - 1;
    const int64_t len = of->d[last];
    rt_val *part = NULL;
    size_t n_part = 0, m = 0;
    int64_t at = 0;
    qsort(p, n, sizeof *p, by_range);
    for (size_t i = 0; i < n; i++) {
        if (m && p[m - 1].lo == p[i].lo && p[m - 1].hi == p[i].hi) {
            p[m - 1].src = rt_add(g, p[m - 1].src, p[i].src);
            continue;
        }
        if (m && p[i].lo < p[m - 1].hi) {
            *out = (rt_val){0};
            return RT_OK;
        }
        p[m++] = p[i];
    }
    if (m == 1) {
        int64_t lo[2] = {0}, hi[2] = {0};
        lo[last] = p[0].lo;
        hi[last] = len - p[0].hi;
        *out = rt_pad(g, p[0].src, lo, hi);
        return rt_graph_status(g);
    }
    RT_ALLOC(part, (2 * m + 1) * sizeof *part, "gradient pieces");
    for (size_t i = 0; i < m; i++) {
        if (p[i].lo > at) part[n_part++] = gap(g, of, p[i].lo - at);
        part[n_part++] = p[i].src;
        at = p[i].hi;
    }
    if (at < len) part[n_part++] = gap(g, of, len - at);
    *out = rt_concat(g, part, (int)n_part, last);
    st = rt_graph_status(g);
out:
    rt_free(part);
    return st;
}

/* The sum of a value's contributions; none when there are none. */
static rt_status combine(walk *w, size_t pos, rt_val *out)
{
    rt_status st = RT_OK;
    rt_graph *g = w->g;
    piece *p = NULL, one;
    size_t n_piece = 0;
    rt_val sum = {0}, joined = {0};
    for (uint32_t l = w->head[pos]; l; l = w->link[l].next) n_piece += as_piece(g, w->link[l].v, &one);
    if (n_piece > 1) {
        RT_ALLOC(p, n_piece * sizeof *p, "gradient pieces");
        n_piece = 0;
        for (uint32_t l = w->head[pos]; l; l = w->link[l].next)
            n_piece += as_piece(g, w->link[l].v, &p[n_piece]);
        const rt_shape of = *rt_val_shape(g, (rt_val){w->id[pos]}); /* appending moves the graph's own */
        RT_TRY(join(g, p, n_piece, &of, &joined));
    }
    for (uint32_t l = w->head[pos]; l; l = w->link[l].next) {
        if (joined.id && as_piece(g, w->link[l].v, &one)) continue;
        sum = sum.id ? rt_add(g, sum, w->link[l].v) : w->link[l].v;
    }
    *out = !joined.id ? sum : !sum.id ? joined : rt_add(g, sum, joined);
    st = rt_graph_status(g);
out:
    rt_free(p);
    return st;
}

/* --- one node ----------------------------------------------------------------------------------------------------- */
static rt_status through_expansion(rt_graph *g, const rt_node *n, const rt_val *gy, int nesting, rt_val *gx)
{
    rt_status st = RT_OK;
    const rt_op_row *row = rt_op_row_of(n->op);
    rt_val y[RT_MAX_OUT] = {{0}}, used[RT_MAX_OUT], g_used[RT_MAX_OUT], *want = NULL;
    int n_used = 0;
    if (nesting > MAX_NESTING) return RT_RAISE(RT_ERR_INTERNAL, "%s: its expansion contains itself", row->name);
    g->expanding++;
    row->expand(g, n, y);
    g->expanding--;
    RT_TRYF(rt_graph_status(g), "expand %s", row->name);
    for (int o = 0; o < n->n_out; o++) {
        const rt_shape *s = rt_val_shape(g, y[o]);
        if (!s || !rt_shape_eq(s, &n->out_shape[o])) {
            st = RT_RAISE(RT_ERR_INTERNAL, "%s: output %d of its expansion has another shape", row->name, o);
            goto out;
        }
        if (!gy[o].id) continue;
        used[n_used] = y[o];
        g_used[n_used++] = gy[o];
    }
    RT_ALLOC(want, (size_t)n->n_in * sizeof *want, "inputs");
    int n_want = 0, at = 0;
    for (int i = 0; i < n->n_in; i++)
        if (!(i < 16 && (row->no_grad_in >> i & 1)) && !listed(n->in, i, n->in[i].id)) want[n_want++] = n->in[i];
    RT_TRY(rt_grad_walk(g, used, g_used, n_used, want, n_want, n->in, n->n_in, nesting + 1, want));
    for (int i = 0; i < n->n_in; i++)
        if (!(i < 16 && (row->no_grad_in >> i & 1)) && !listed(n->in, i, n->in[i].id)) gx[i] = want[at++];
out:
    rt_free(want);
    return st;
}

rt_status rt_grad_node(rt_graph *g, const rt_node *n, const rt_val *gy, int nesting, rt_val *gx)
{
    rt_status st = RT_OK;
    const rt_op_row *row = rt_op_row_of(n->op);
    if (row->expand && (!row->vjp || (row->vjp_needs_expand && row->vjp_needs_expand(n, gy)))) {
        RT_TRY(through_expansion(g, n, gy, nesting, gx));
    } else if (!row->vjp) {
        st = RT_RAISE(RT_ERR_UNSUPPORTED, "%s: this op has no derivative", row->name);
        goto out;
    } else {
        row->vjp(g, n, gy, gx);
    }
    RT_TRY(rt_graph_status(g));
    for (int i = 0; i < n->n_in && row->flags & RT_ROW_ELEMENTWISE; i++)
        if (gx[i].id) gx[i] = rt_sum_to(g, gx[i], &n->in_shape[i]);
    st = rt_graph_status(g);
out:
    return st;
}

/* Hands the gradients of one node's outputs to its inputs. */
static rt_status step_back(walk *w, const rt_node *n, const rt_val *gy)
{
    rt_status st = RT_OK;
    const rt_op_row *row = rt_op_row_of(n->op);
    rt_val few[8] = {{0}}, *gx = few;
    char a[RT_SHAPE_STR], b[RT_SHAPE_STR];
    if (n->n_in > (int)(sizeof few / sizeof few[0])) RT_ALLOC(gx, n->n_in * sizeof *gx, "input gradients");
    RT_TRYF(rt_grad_node(w->g, n, gy, w->nesting, gx), "differentiate %s", row->name);
    for (int i = 0; i < n->n_in; i++) {
        size_t pos;
        if (!gx[i].id || !flows(w, n, i, &pos)) continue;
        const rt_shape *s = rt_val_shape(w->g, gx[i]);
        if (!rt_shape_eq(s, &n->in_shape[i])) {
            st = RT_RAISE(RT_ERR_INTERNAL, "%s: its rule gives %s for input %d of shape %s", row->name,
                          rt_shape_str(s, a, sizeof a), i, rt_shape_str(&n->in_shape[i], b, sizeof b));
            goto out;
        }
        RT_TRY(contribute(w, pos, gx[i]));
    }
out:
    if (gx != few) rt_free(gx);
    return st;
}

/* --- the walk ----------------------------------------------------------------------------------------------------- */
static rt_status backward(walk *w)
{
    rt_status st = RT_OK;
    for (size_t k = 0; k < w->n;) {
        rt_val gy[RT_MAX_OUT] = {{0}};
        bool any = false;
        const rt_node *n = rt_val_node(w->g, (rt_val){w->id[k]}, NULL);
        for (; k < w->n && w->id[k] >= n->first_out; k++) { /* the outputs of n that lie in the region */
            if (!w->reach[k]) continue;
            RT_TRY(combine(w, k, &w->adj[k]));
            if (!w->adj[k].id || listed(w->stop, w->n_stop, w->id[k])) continue;
            gy[w->id[k] - n->first_out] = w->adj[k];
            any = true;
        }
        if (any && n->n_in) RT_TRY(step_back(w, n, gy));
    }
out:
    return st;
}

rt_status rt_grad_walk(rt_graph *g, const rt_val *y, const rt_val *gy, int n_y, const rt_val *wrt, int n_wrt,
                       const rt_val *stop, int n_stop, int nesting, rt_val *out)
{
    rt_status st = RT_OK;
    walk w = {.g = g, .wrt = wrt, .n_wrt = n_wrt, .stop = stop, .n_stop = n_stop, .nesting = nesting, .n_link = 1};
    RT_TRY(collect(&w, y, n_y));
    if (w.n) {
        RT_ALLOC(w.reach, w.n * sizeof *w.reach, "differentiation");
        RT_ALLOC(w.adj, w.n * sizeof *w.adj, "differentiation");
        RT_ALLOC(w.head, w.n * sizeof *w.head, "differentiation");
        RT_ALLOC(w.tail, w.n * sizeof *w.tail, "differentiation");
        RT_TRY(grow(&w.link, w.n_link, &w.cap_link, sizeof *w.link));
    }
    mark(&w);
    for (int i = 0; i < n_y; i++) {
        ptrdiff_t p = position(&w, y[i].id);
        if (p >= 0 && w.reach[p]) RT_TRY(contribute(&w, (size_t)p, gy[i]));
    }
    RT_TRY(backward(&w));
    for (int i = 0; i < n_wrt; i++) {
        ptrdiff_t p = position(&w, wrt[i].id);
        out[i] = p >= 0 ? w.adj[p] : (rt_val){0};
    }
out:
    rt_free(w.id);
    rt_free(w.reach);
    rt_free(w.adj);
    rt_free(w.head);
    rt_free(w.tail);
    rt_free(w.link);
    return st;
}

/* --- public ------------------------------------------------------------------------------------------------------- */
static rt_status check_real(const rt_graph *g, const char *what, int i, rt_val v)
{
    const rt_shape *s = rt_val_shape(g, v);
    if (!s) return RT_RAISE(RT_ERR_ARG, "gradient: %s[%d] is no value of this graph", what, i);
    if (s->dtype != RT_F32) return RT_RAISE(RT_ERR_ARG, "gradient: %s[%d] is i32 and has no gradient", what, i);
    return RT_OK;
}

rt_status rt_vjp(rt_graph *g, const rt_val *y, const rt_val *gy, int n_y, const rt_val *wrt, int n, rt_val *out)
{
    rt_status st = RT_OK;
    rt_val *got = NULL;
    char a[RT_SHAPE_STR], b[RT_SHAPE_STR];
    RT_TRY(rt_graph_status(g));
    for (int i = 0; i < n_y; i++) {
        RT_TRY(check_real(g, "y", i, y[i]));
        RT_TRY(check_real(g, "gy", i, gy[i]));
        if (!rt_shape_eq(rt_val_shape(g, y[i]), rt_val_shape(g, gy[i]))) {
            st = RT_RAISE(RT_ERR_ARG, "gradient: y[%d] is %s, its gradient %s", i,
                          rt_shape_str(rt_val_shape(g, y[i]), a, sizeof a),
                          rt_shape_str(rt_val_shape(g, gy[i]), b, sizeof b));
            goto out;
        }
    }
    for (int i = 0; i < n; i++) RT_TRY(check_real(g, "wrt", i, wrt[i]));
    if (n <= 0) goto out;
    RT_ALLOC(got, (size_t)n * sizeof *got, "gradients");
    RT_TRY(rt_grad_walk(g, y, gy, n_y, wrt, n, NULL, 0, 0, got));
    for (int i = 0; i < n; i++)
        if (!got[i].id) got[i] = rt_const(g, 0, *rt_val_shape(g, wrt[i]));
    RT_TRY(rt_graph_status(g));
    memcpy(out, got, (size_t)n * sizeof *got);
out:
    rt_free(got);
    if (st != RT_OK) rt_graph_fail(g, st);
    return st;
}

rt_status rt_grad(rt_graph *g, rt_val y, const rt_val *wrt, int n, rt_val *out)
{
    char b[RT_SHAPE_STR];
    rt_status st = rt_graph_status(g);
    if (st != RT_OK) return st;
    const rt_shape *s = rt_val_shape(g, y);
    if (s && s->rank != 0) {
        st = RT_RAISE(RT_ERR_ARG, "gradient: y is %s, must have rank 0", rt_shape_str(s, b, sizeof b));
        rt_error_fix(st, "reduce it with rt_sum_all or rt_mean_all, or call rt_vjp with a gradient for y");
        rt_graph_fail(g, st);
        return st;
    }
    rt_val one = rt_scalar(g, 1.0);
    return rt_vjp(g, &y, &one, 1, wrt, n, out);
}
