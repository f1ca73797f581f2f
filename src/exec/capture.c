/* Running a plan once, or k times with rows in and out, directly or as a recorded graph.
 *
 * What is recorded is a *body*: the whole sequence of copies and kernels. It is recorded when it has run directly before, since
 * a device's libraries finish setting themselves up in their first call, which a recording does not allow. From then on a run
 * is one launch. An exec keeps one graph for rt_exec_run and one for the last shape of rt_exec_run_many.
 *
 * verify runs the body both ways on the same state: outputs are put back in between, and every output and out-block must end
 * with the same bits. */
#include "exec/exec_internal.h"

#include <string.h>

#include "base/alloc.h"
#include "ops/util.h"

static bool can_capture(const rt_exec *ex)
{
    return ex->be->vt->capture_begin && !ex->opts.poison && !ex->opts.profile;
}

rt_capture rt_exec_capture_mode(const rt_exec *ex)
{
    rt_capture mode = ex->opts.capture == RT_CAPTURE_DEFAULT ? ex->be->opts.capture : ex->opts.capture;
    return mode == RT_CAPTURE_DEFAULT || !can_capture(ex) ? RT_CAPTURE_OFF : mode;
}

static rt_status copy(const rt_exec *ex, void *dst, const void *src, size_t bytes)
{
    return (ex->be->vt->copy ? ex->be->vt->copy : ex->be->vt->upload)(ex->be, dst, src, bytes);
}

/* --- the body ----------------------------------------------------------------------------------------------------------- */
static rt_status move_rows(const rt_exec *ex, const rt_body *b, int i, bool out)
{
    rt_status st = RT_OK;
    for (int r = 0; r < b->n_rows; r++) {
        const rt_rows *x = &b->rows[r];
        void *row = (char *)x->block->data + (size_t)i * x->t->bytes;
        if (x->out == out) RT_TRYF(copy(ex, out ? row : x->t->data, out ? x->t->data : row, x->t->bytes), "row %d of block %d", i, r);
    }
out:
    return st;
}

static rt_status do_body(rt_exec *ex, const rt_body *b)
{
    rt_status st = RT_OK;
    for (int i = 0; i < b->k; i++) {
        RT_TRY(move_rows(ex, b, i, false));
        RT_TRY(rt_exec_run_steps(ex));
        RT_TRY(move_rows(ex, b, i, true));
    }
out:
    return st;
}

static rt_status record(rt_exec *ex, rt_body *b)
{
    rt_status st = RT_OK;
    const rt_backend_vtable *vt = ex->be->vt;
    rt_error_chain why;
    RT_TRYF(vt->capture_begin(ex->be), "capture");
    st = do_body(ex, b);
    if (st == RT_OK) RT_TRYF(vt->capture_end(ex->be, true, &b->graph), "capture of %d kernels", ex->plan->n_step * b->k);
    else {
        rt_error_save(&why);
        (void)vt->capture_end(ex->be, false, NULL);
        st = rt_error_restore(&why);
    }
out:
    return st;
}

void rt_exec_body_release(rt_exec *ex, rt_body *b)
{
    if (b->graph) ex->be->vt->graph_free(ex->be, b->graph);
    memset(b, 0, sizeof *b);
}

/* --- verify ------------------------------------------------------------------------------------------------------------- */
/* What verify compares: outputs, then out-blocks. */
static const rt_tensor *compared(const rt_exec *ex, const rt_body *b, int i)
{
    if (i < ex->n_out) return ex->out[i];
    i -= ex->n_out;
    for (int r = 0; r < b->n_rows; r++)
        if (b->rows[r].out && i-- == 0) return b->rows[r].block;
    return NULL;
}

static rt_status differ(const rt_tensor *t, int i, bool block, const uint32_t *direct, const uint32_t *graph)
{
    char s[RT_SHAPE_STR];
    size_t at = 0;
    while (direct[at] == graph[at]) at++;
    rt_status st = RT_RAISE(RT_ERR_INTERNAL, "capture: %s %d %s differs at element %zu: direct %08x, captured %08x", block ? "block" : "output", i,
                            rt_shape_str(&t->shape, s, sizeof s), at, direct[at], graph[at]);
    return rt_error_fix(st, "use --set backend.capture=off, and report this: a kernel depends on something outside its operands");
}

static rt_status wait(rt_exec *ex) { return ex->be->vt->end_run ? ex->be->vt->end_run(ex->be) : RT_OK; }

static rt_status verify(rt_exec *ex, rt_body *b)
{
    rt_status st = RT_OK;
    const rt_backend_vtable *vt = ex->be->vt;
    uint32_t *direct = NULL, *graph = NULL;
    size_t total = 0, at = 0;
    const rt_tensor *t;
    for (int i = 0; (t = compared(ex, b, i)) != NULL; i++) total += t->bytes;
    RT_ALLOC(direct, total, "verification of capture");
    RT_ALLOC(graph, total, "verification of capture");
    for (int i = 0; i < ex->n_out; at += ex->out[i++]->bytes) RT_TRY(copy(ex, ex->backup + at, ex->out[i]->data, ex->out[i]->bytes));
    RT_TRY(do_body(ex, b));
    RT_TRY(wait(ex));
    at = 0;
    for (int i = 0; (t = compared(ex, b, i)) != NULL; at += t->bytes, i++)
        RT_TRY(vt->download(ex->be, (char *)direct + at, t->data, t->bytes));
    at = 0;
    for (int i = 0; i < ex->n_out; at += ex->out[i++]->bytes) RT_TRY(copy(ex, ex->out[i]->data, ex->backup + at, ex->out[i]->bytes));
    if (!b->graph) RT_TRY(record(ex, b));
    RT_TRY(vt->graph_launch(ex->be, b->graph));
    RT_TRY(wait(ex));
    at = 0;
    for (int i = 0; (t = compared(ex, b, i)) != NULL; at += t->bytes, i++)
        RT_TRY(vt->download(ex->be, (char *)graph + at, t->data, t->bytes));
    at = 0;
    for (int i = 0; (t = compared(ex, b, i)) != NULL; at += t->bytes, i++)
        if (memcmp((char *)direct + at, (char *)graph + at, t->bytes) != 0) {
            st = differ(t, i < ex->n_out ? i : i - ex->n_out, i >= ex->n_out, direct + at / 4, graph + at / 4);
            goto out;
        }
out:
    rt_free(direct);
    rt_free(graph);
    return st;
}

rt_status rt_exec_capture_prepare(rt_exec *ex)
{
    rt_status st = RT_OK;
    size_t total = 0;
    void *backup = NULL;
    if (rt_exec_capture_mode(ex) != RT_CAPTURE_VERIFY) return RT_OK;
    for (int i = 0; i < ex->n_out; i++) total += ex->out[i]->bytes;
    RT_TRYF(ex->be->vt->alloc(ex->be, total, &backup), "copy of the outputs, to verify capture");
    ex->backup = backup;
out:
    return st;
}

/* --- running ------------------------------------------------------------------------------------------------------------ */
static rt_status start(rt_exec *ex, rt_body *b)
{
    rt_status st = RT_OK;
    const rt_capture mode = rt_exec_capture_mode(ex);
    if (ex->opts.plan_only) return RT_RAISE(RT_ERR_ARG, "this exec was prepared with plan_only and cannot run");
    RT_TRY(rt_exec_take_arena(ex));
    if (ex->be->vt->begin_run) RT_TRY(ex->be->vt->begin_run(ex->be));
    if (mode == RT_CAPTURE_VERIFY) {
        RT_TRY(verify(ex, b));
    } else if (mode == RT_CAPTURE_OFF || ex->n_run == 0) {
        RT_TRY(do_body(ex, b));
    } else {
        if (!b->graph) RT_TRY(record(ex, b));
        RT_TRY(ex->be->vt->graph_launch(ex->be, b->graph));
    }
    ex->n_run += b->k;
out:
    return st;
}

rt_status rt_exec_start(rt_exec *ex)
{
    ex->once.k = 1;
    return start(ex, &ex->once);
}

rt_status rt_exec_wait(rt_exec *ex) { return wait(ex); }

rt_status rt_exec_run(rt_exec *ex)
{
    rt_status st = RT_OK;
    RT_TRY(rt_exec_start(ex));
    RT_TRY(wait(ex));
out:
    return st;
}

static rt_status check_rows(const rt_exec *ex, int k, const rt_rows *rows, int n_rows)
{
    char a[RT_SHAPE_STR], b[RT_SHAPE_STR];
    if (k < 1) return RT_RAISE(RT_ERR_ARG, "%d runs as one: at least 1", k);
    if (n_rows < 0 || n_rows > RT_MAX_ROWS) return RT_RAISE(RT_ERR_ARG, "%d blocks of rows: 0 to %d", n_rows, RT_MAX_ROWS);
    for (int i = 0; i < n_rows; i++) {
        if (!rows[i].block || !rows[i].t) return RT_RAISE(RT_ERR_ARG, "block %d: no tensor", i);
        const rt_shape *x = &rows[i].block->shape, *t = &rows[i].t->shape;
        bool fit = rows[i].block->be == ex->be && rows[i].t->be == ex->be && x->dtype == t->dtype && x->rank == t->rank + 1 && x->d[0] >= k;
        for (int d = 0; fit && d < t->rank; d++) fit = x->d[d + 1] == t->d[d];
        if (!fit)
            return RT_RAISE(RT_ERR_ARG, "block %d: %s does not hold %d rows of %s on this backend", i, rt_shape_str(x, a, sizeof a), k,
                            rt_shape_str(t, b, sizeof b));
    }
    return RT_OK;
}

rt_status rt_exec_run_many(rt_exec *ex, int k, const rt_rows *rows, int n_rows)
{
    rt_status st = RT_OK;
    rt_body *b = &ex->many;
    RT_TRY(check_rows(ex, k, rows, n_rows));
    bool same = b->k == k && b->n_rows == n_rows;
    for (int i = 0; same && i < n_rows; i++)
        same = b->rows[i].block == rows[i].block && b->rows[i].t == rows[i].t && b->rows[i].out == rows[i].out;
    if (!same) {
        rt_exec_body_release(ex, b);
        b->k = k;
        b->n_rows = n_rows;
        for (int i = 0; i < n_rows; i++) b->rows[i] = rows[i];
    }
    RT_TRY(start(ex, b));
    RT_TRY(wait(ex));
out:
    return st;
}
