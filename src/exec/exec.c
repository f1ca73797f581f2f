/* Sessions: a plan bound to a backend. prepare books everything, run only calls kernels.
 *
 * The exec owns the plan (with copies of the nodes), the prepared kernels and one arena; it borrows the backend and the
 * tensors. Addresses never change after prepare, which is what capturing a step needs.
 *
 * Execs that take turns may share one arena (rt_exec_opts.arena_of). Constants lie in the arena, so an exec fills its own
 * again when another one ran since.
 *
 * Poison mode is for tests. Before a run every arena store is filled with bytes 0xff (a NaN as float or double, -1 as
 * int32), as is scratch before each kernel and a store after its last reader, so reading what nobody wrote shows up as NaN.
 * Each store and scratch is followed by a guard that must survive the kernel that writes it. */
#include "exec/exec_internal.h"

#include <string.h>
#include <time.h>

#include "base/alloc.h"

enum { GUARD_BYTES = 256, FILL_BYTE = 0xff, GUARD_BYTE = 0xa5 };

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

/* --- prepare -------------------------------------------------------------------------------------------------------- */
static rt_status prepare_kernels(rt_exec *ex)
{
    rt_status st = RT_OK;
    char text[512];
    for (int s = 0; s < ex->plan->n_step; s++) {
        rt_plan_step *step = &ex->plan->step[s];
        const rt_kernel *k = &ex->be->vt->kernels[step->node.op];
        const char *why = "not implemented";
        if (!k->run || (k->supports && !k->supports(&step->node, &why))) {
            st = RT_RAISE(RT_ERR_UNSUPPORTED, "backend %s cannot run %s: %s", ex->be->vt->name,
                          rt_plan_node_str(&step->node, text, sizeof text), why);
            goto out;
        }
        ex->prep[s] = (rt_prepared){.node = &step->node, .impl = ex->be->vt->name, .plan_only = ex->opts.plan_only};
        for (int i = 0; i < step->node.n_in && i < 32; i++)
            if (step->in[i].offset % 16) ex->prep[s].misaligned |= 1u << i;
        ex->n_prep = s + 1;
        if (k->prepare) RT_TRYF(k->prepare(ex->be, &ex->prep[s]), "%s", rt_plan_node_str(&step->node, text, sizeof text));
        step->scratch_bytes = ex->prep[s].scratch_bytes;
    }
out:
    return st;
}

static void *address(const rt_exec *ex, rt_place at)
{
    const rt_store *s = &ex->plan->store[at.store];
    return (char *)(s->kind == RT_STORE_TENSOR ? s->tensor->data : (char *)ex->arena + s->offset) + at.offset;
}

static rt_status bind_addresses(rt_exec *ex)
{
    rt_status st = RT_OK;
    size_t n = 0;
    for (int s = 0; s < ex->plan->n_step; s++) n += ex->plan->step[s].node.n_in + (size_t)ex->plan->step[s].node.n_out;
    RT_ALLOC(ex->address, n * sizeof *ex->address, "operand addresses");
    n = 0;
    for (int s = 0; s < ex->plan->n_step; s++) {
        const rt_plan_step *step = &ex->plan->step[s];
        ex->io[s] = (rt_kernel_io){.in = (const void *const *)ex->address + n, .out = ex->address + n + step->node.n_in,
                                   .scratch = step->scratch_bytes ? (char *)ex->arena + step->scratch_offset : NULL};
        for (int i = 0; i < step->node.n_in; i++) ex->address[n++] = address(ex, step->in[i]);
        for (int o = 0; o < step->node.n_out; o++) ex->address[n++] = address(ex, step->out[o]);
    }
out:
    return st;
}

static rt_status fill_constants(rt_exec *ex)
{
    rt_status st = RT_OK;
    for (int i = 0; i < ex->plan->n_store; i++) {
        const rt_store *s = &ex->plan->store[i];
        if (s->kind != RT_STORE_CONST || !s->count) continue;
        void *at = (char *)ex->arena + s->offset;
        if (s->dtype == RT_F32) {
            RT_TRY(ex->be->vt->fill(ex->be, at, s->value, (size_t)s->count));
        } else {
            int32_t *host;
            RT_ALLOC(host, s->bytes, "integer constant");
            for (int64_t k = 0; k < s->count; k++) host[k] = (int32_t)s->value;
            st = ex->be->vt->upload(ex->be, at, host, s->bytes);
            rt_free(host);
            if (st != RT_OK) goto out;
        }
    }
out:
    return st;
}

rt_status rt_exec_prepare(rt_backend *be, const rt_graph *g, const rt_bind *in, int n_in, const rt_bind *out, int n_out,
                          const rt_exec_opts *o, rt_exec **out_ex)
{
    rt_status st = RT_OK;
    rt_exec *ex = NULL;
    RT_ALLOC(ex, sizeof *ex, "exec");
    ex->be = be;
    if (o) ex->opts = *o;
    RT_TRYF(rt_plan_build(be, g, in, n_in, out, n_out, &ex->plan), "plan");
    size_t n = (size_t)ex->plan->n_step;
    RT_ALLOC(ex->prep, n * sizeof *ex->prep, "prepared kernels");
    RT_ALLOC(ex->io, n * sizeof *ex->io, "operand lists");
    RT_ALLOC(ex->ms, n * sizeof *ex->ms, "profile");
    RT_ALLOC(ex->out, (size_t)n_out * sizeof *ex->out, "outputs");
    for (int i = 0; i < n_out; i++) ex->out[ex->n_out++] = out[i].t;
    RT_TRY(prepare_kernels(ex));
    if (ex->opts.poison) ex->plan->guard = GUARD_BYTES;
    RT_TRY(rt_plan_pack(ex->plan));
    if (!ex->opts.plan_only) {
        ex->owner = o && o->arena_of && o->arena_of->owner ? o->arena_of->owner : ex;
        if (ex->owner != ex && ex->owner->be == be && ex->owner->plan->arena_bytes >= ex->plan->arena_bytes)
            ex->arena = ex->owner->arena;
        else
            ex->owner = ex;
        if (ex->plan->arena_bytes && ex->owner == ex)
            RT_TRYF(be->vt->alloc(be, ex->plan->arena_bytes, &ex->arena), "arena of %zu bytes", ex->plan->arena_bytes);
        RT_TRY(bind_addresses(ex));
        RT_TRY(fill_constants(ex));
        ex->owner->last_run = ex;
        RT_TRY(rt_exec_capture_prepare(ex));
        if (ex->opts.poison) {
            for (int i = 0; i < ex->plan->n_store; i++)
                if (ex->plan->store[i].bytes > ex->bounce_bytes) ex->bounce_bytes = ex->plan->store[i].bytes;
            if (ex->plan->scratch_bytes > ex->bounce_bytes) ex->bounce_bytes = ex->plan->scratch_bytes;
            if (ex->bounce_bytes < GUARD_BYTES) ex->bounce_bytes = GUARD_BYTES;
            RT_ALLOC(ex->bounce, ex->bounce_bytes, "poison");
        }
    }
    *out_ex = ex;
    ex = NULL;
out:
    rt_exec_destroy(ex);
    return st;
}

void rt_exec_destroy(rt_exec *ex)
{
    if (!ex) return;
    rt_exec_body_release(ex, &ex->once);
    rt_exec_body_release(ex, &ex->many);
    if (ex->backup) ex->be->vt->free(ex->be, ex->backup);
    for (int s = 0; s < ex->n_prep; s++) {
        const rt_kernel *k = &ex->be->vt->kernels[ex->prep[s].node->op];
        if (k->release) k->release(&ex->prep[s]);
    }
    if (ex->owner == ex && ex->arena) ex->be->vt->free(ex->be, ex->arena);
    if (ex->owner && ex->owner != ex && ex->owner->last_run == ex) ex->owner->last_run = NULL;
    rt_plan_destroy(ex->plan);
    rt_free(ex->bounce);
    rt_free(ex->address);
    rt_free(ex->prep);
    rt_free(ex->io);
    rt_free(ex->ms);
    rt_free(ex->out);
    rt_free(ex);
}

/* --- poison ----------------------------------------------------------------------------------------------------------- */
static rt_status paint(rt_exec *ex, size_t offset, size_t bytes, int byte)
{
    if (!bytes) return RT_OK;
    memset(ex->bounce, byte, bytes);
    return ex->be->vt->upload(ex->be, (char *)ex->arena + offset, ex->bounce, bytes);
}

static rt_status paint_store(rt_exec *ex, size_t offset, size_t bytes)
{
    rt_status st = RT_OK;
    RT_TRY(paint(ex, offset, bytes, FILL_BYTE));
    RT_TRY(paint(ex, offset + bytes, GUARD_BYTES, GUARD_BYTE));
out:
    return st;
}

static rt_status check_guard(rt_exec *ex, size_t offset, const rt_node *n, const char *what)
{
    rt_status st = RT_OK;
    char text[512];
    RT_TRY(ex->be->vt->download(ex->be, ex->bounce, (char *)ex->arena + offset, GUARD_BYTES));
    for (int i = 0; i < GUARD_BYTES; i++)
        if (((unsigned char *)ex->bounce)[i] != GUARD_BYTE) {
            st = RT_RAISE(RT_ERR_INTERNAL, "%s wrote %d bytes past the end of its %s",
                          rt_plan_node_str(n, text, sizeof text), i + 1, what);
            goto out;
        }
out:
    return st;
}

static rt_status poison_before(rt_exec *ex, int s)
{
    rt_status st = RT_OK;
    const rt_plan_step *step = &ex->plan->step[s];
    if (step->scratch_bytes) RT_TRY(paint_store(ex, step->scratch_offset, step->scratch_bytes));
    for (int i = 0; i < ex->plan->n_store; i++) {
        const rt_store *x = &ex->plan->store[i];
        if (x->kind == RT_STORE_ARENA && x->first == s) RT_TRY(paint_store(ex, x->offset, x->bytes));
    }
out:
    return st;
}

static rt_status poison_after(rt_exec *ex, int s)
{
    rt_status st = RT_OK;
    const rt_plan_step *step = &ex->plan->step[s];
    if (step->scratch_bytes)
        RT_TRY(check_guard(ex, step->scratch_offset + step->scratch_bytes, &step->node, "scratch"));
    for (int o = 0; o < step->node.n_out; o++) {
        const rt_store *x = &ex->plan->store[step->out[o].store];
        if (x->kind == RT_STORE_ARENA) RT_TRY(check_guard(ex, x->offset + x->bytes, &step->node, "output"));
    }
    for (int i = 0; i < ex->plan->n_store; i++) {
        const rt_store *x = &ex->plan->store[i];
        if (x->kind == RT_STORE_ARENA && x->last == s) RT_TRY(paint(ex, x->offset, x->bytes, FILL_BYTE));
    }
out:
    return st;
}

/* --- run ---------------------------------------------------------------------------------------------------------------- */
static rt_status run_step(rt_exec *ex, int s)
{
    rt_status st = RT_OK;
    const rt_prepared *p = &ex->prep[s];
    if (ex->opts.poison) RT_TRY(poison_before(ex, s));
    double t = ex->opts.profile ? now_ms() : 0;
    RT_TRY(ex->be->vt->kernels[p->node->op].run(p, &ex->io[s]));
    if (ex->opts.profile) ex->ms[s] += now_ms() - t;
    if (ex->opts.poison) RT_TRY(poison_after(ex, s));
out:
    if (st != RT_OK) {
        char text[512];
        st = rt_error_frame(st, __FILE__, __LINE__, "step %d: %s", s, rt_plan_node_str(p->node, text, sizeof text));
    }
    return st;
}

rt_status rt_exec_take_arena(rt_exec *ex)
{
    rt_status st = RT_OK;
    if (ex->owner->last_run == ex) return RT_OK;
    RT_TRY(fill_constants(ex));
    ex->owner->last_run = ex;
out:
    return st;
}

rt_status rt_exec_run_steps(rt_exec *ex)
{
    rt_status st = RT_OK;
    for (int s = 0; s < ex->plan->n_step; s++) RT_TRY(run_step(ex, s));
out:
    return st;
}

void rt_exec_get_stats(const rt_exec *ex, rt_exec_stats *out)
{
    const rt_plan *p = ex->plan;
    *out = (rt_exec_stats){.arena_bytes = p->arena_bytes, .scratch_bytes = p->scratch_bytes,
                           .bound_bytes = p->bound_bytes, .naive_bytes = p->naive_bytes, .flops = p->flops,
                           .bytes = p->bytes, .n_nodes = p->n_node, .n_kernels = p->n_step};
}

const rt_plan *rt_exec_plan(const rt_exec *ex) { return ex->plan; }
