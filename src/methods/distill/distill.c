/* The loop around every iterative distillation method (distill.h).
 *
 * A checkpoint holds the method's state vectors, the trace so far and the ledger; everything else a method uses is drawn by
 * counter, so state and iteration number are all there is, and a resumed run ends with the bytes of an undisturbed one.
 * A snapshot of iteration k is committed before any checkpoint that claims k iterations: whoever resumes there need not
 * look back. */
#include "methods/distill/distill.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"

enum {
    TRACE_ROWS = 20000, /* of longer runs every k-th iteration is kept */
    SKIPS_FROM = 100    /* iterations before the share of skipped ones is judged */
};
typedef struct trace_row {
    double iteration, loss, step_size, skipped;
} trace_row;

typedef struct loop {
    const rt_build_ctx *ctx;
    const rt_distill *d;
    int64_t it, skipped, stride, n_trace;
    trace_row *trace;
} loop;

/* --- checkpoints ------------------------------------------------------------------------------------------------------- */

static rt_status save(loop *l)
{
    rt_status st = RT_OK;
    const rt_distill *d = l->d;
    json_t *state = NULL;
    rt_st_tensor t[RT_DISTILL_STATE + 1];
    if (d->pull) RT_TRY(d->pull(d->self));
    for (int i = 0; i < d->n_state; i++)
        t[i] = (rt_st_tensor){d->state[i].name, RT_ST_F32, 1, {d->state[i].count}, d->state[i].v,
                              (uint64_t)d->state[i].count * sizeof(float)};
    t[d->n_state] = (rt_st_tensor){"trace", RT_ST_F64, 2, {l->n_trace, sizeof *l->trace / sizeof(double)}, l->trace,
                                   (uint64_t)l->n_trace * sizeof *l->trace};
    rt_ledger_update(l->ctx->ledger);
    state = json_pack("{s:s, s:I, s:o}", "inputs_hash", l->ctx->inputs_hash, "skipped", (json_int_t)l->skipped, "ledger",
                      rt_ledger_json(l->ctx->ledger));
    if (!state) {
        st = RT_RAISE(RT_ERR_NOMEM, "checkpoint state");
        goto out;
    }
    RT_TRYF(rt_ckpt_save(l->ctx->ckpt_dir, (uint64_t)l->it, t, d->n_state + 1, state, l->ctx->keep),
            "checkpoint at iteration %" PRId64, l->it);
out:
    json_decref(state);
    return st;
}

static rt_status read_state(const loop *l, const rt_st_file *f, const rt_distill_state *s)
{
    const rt_st_tensor *t = rt_st_find(f, s->name);
    int64_t count = 1;
    for (int i = 0; t && i < t->rank; i++) count *= t->shape[i];
    if (!t || count != s->count) {
        rt_status st = RT_RAISE(RT_ERR_FORMAT, "checkpoint in %s holds no '%s' of %" PRId64 " values", l->ctx->ckpt_dir, s->name,
                                s->count);
        return rt_error_fix(st, "remove that folder: the construction starts again");
    }
    return rt_st_to_f32(t, s->v, s->count);
}

/* Fills the method's state, from a checkpoint or by starting. */
static rt_status restore(loop *l)
{
    rt_status st = RT_OK;
    rt_st_file *f = NULL;
    json_t *state = NULL;
    uint64_t step = 0;
    st = rt_ckpt_load(l->ctx->ckpt_dir, l->ctx->inputs_hash, &step, &f, &state);
    if (st == RT_ERR_MISSING) {
        rt_error_clear();
        st = l->d->start(l->d->self);
        goto out;
    }
    if (st != RT_OK) goto out;
    for (int i = 0; i < l->d->n_state; i++) RT_TRY(read_state(l, f, &l->d->state[i]));
    const rt_st_tensor *trace = rt_st_find(f, "trace");
    if (!trace || trace->dtype != RT_ST_F64 || trace->rank != 2 || trace->shape[1] != (int64_t)(sizeof *l->trace / sizeof(double)) ||
        trace->shape[0] > l->d->iterations / l->stride + 1 || (int64_t)step > l->d->iterations) {
        st = RT_RAISE(RT_ERR_FORMAT, "checkpoint in %s holds no trace of this construction", l->ctx->ckpt_dir);
        rt_error_fix(st, "remove that folder: the construction starts again");
        goto out;
    }
    memcpy(l->trace, trace->data, (size_t)trace->bytes);
    l->n_trace = trace->shape[0];
    l->skipped = (int64_t)json_integer_value(json_object_get(state, "skipped"));
    RT_TRY(rt_ledger_restore(l->ctx->ledger, json_object_get(state, "ledger")));
    l->it = (int64_t)step;
out:
    rt_st_close(f);
    json_decref(state);
    return st;
}

/* --- trace, notes, result ---------------------------------------------------------------------------------------------- */

static void report(const loop *l, const rt_distill_step *s)
{
    char note[96];
    int n = snprintf(note, sizeof note, "loss %.4f", s->loss);
    if (s->step_size != 0) n += snprintf(note + n, sizeof note - (size_t)n, ", step %.3g", s->step_size);
    if (l->skipped) snprintf(note + n, sizeof note - (size_t)n, ", skipped %" PRId64, l->skipped);
    rt_progress_report(&(rt_progress){l->d->name, "it", (double)l->it, (double)l->d->iterations, note});
}

static rt_status trace_text(const loop *l, char **out)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (!f) return RT_RAISE(RT_ERR_NOMEM, "no memory for the trace");
    fputs("iteration,loss,step_size,skipped\n", f);
    for (int64_t i = 0; i < l->n_trace; i++) {
        const trace_row *r = &l->trace[i];
        fprintf(f, "%.0f,", r->iteration);
        if (isfinite(r->loss)) fprintf(f, "%.9g", r->loss); /* empty: a skipped iteration came to no number */
        putc(',', f);
        if (r->step_size != 0) fprintf(f, "%.9g", r->step_size);
        fprintf(f, ",%d\n", (int)r->skipped);
    }
    bool bad = ferror(f) | fclose(f);
    *out = bad ? NULL : rt_strdup(text);
    free(text); /* of open_memstream */
    return *out ? RT_OK : RT_RAISE(RT_ERR_NOMEM, "no memory for the trace");
}

/* {"deviations": [...], "iterations": n, "skipped": n}: what a reader of the result has to know. */
static rt_status notes_text(const loop *l, char **out)
{
    json_t *list = json_array(), *notes;
    for (int i = 0; i < l->d->n_deviations; i++) json_array_append_new(list, json_string(l->d->deviation[i]));
    notes = json_pack("{s:o, s:I, s:I}", "deviations", list, "iterations", (json_int_t)l->it, "skipped", (json_int_t)l->skipped);
    char *text = notes ? json_dumps(notes, JSON_SORT_KEYS | JSON_COMPACT) : NULL;
    *out = text ? rt_strdup(text) : NULL;
    free(text); /* jansson's allocator */
    json_decref(notes);
    return *out ? RT_OK : RT_RAISE(RT_ERR_NOMEM, "no memory for the notes of a set");
}

static rt_status result(const loop *l, rt_set *out)
{
    rt_status st = RT_OK;
    rt_set s = {0};
    if (l->d->pull) RT_TRY(l->d->pull(l->d->self));
    RT_TRY(l->d->result(l->d->self, &s));
    RT_TRY(trace_text(l, &s.trace));
    RT_TRY(notes_text(l, &s.notes));
    *out = s;
    memset(&s, 0, sizeof s);
out:
    rt_set_fini(&s);
    return st;
}

static rt_status snapshot(const loop *l)
{
    rt_status st = RT_OK;
    rt_set s = {0};
    const rt_int_list *at = &l->ctx->config->methods.snapshots;
    bool wanted = false;
    for (int32_t i = 0; i < at->n; i++) wanted = wanted || at->v[i] == l->it;
    if (!wanted || !l->ctx->snapshot || l->it >= l->d->iterations) return RT_OK; /* the last one is the set itself */
    RT_TRY(result(l, &s));
    RT_TRY(l->ctx->snapshot(l->ctx->snapshot_to, l->it, &s));
out:
    rt_set_fini(&s);
    return st == RT_OK ? st : rt_error_frame(st, __FILE__, __LINE__, "snapshot at iteration %" PRId64, l->it);
}

/* --- the loop ---------------------------------------------------------------------------------------------------------- */

static rt_status account(loop *l, const rt_distill_step *s)
{
    rt_status st;
    if (!s->skipped && !isfinite(s->loss)) {
        st = RT_RAISE(RT_ERR_NUMERIC, "matching loss is %f at iteration %" PRId64, s->loss, l->it);
        return rt_error_fix(st, "lower the rates of section `%s`, or look at the initial images and weights", l->d->name);
    }
    if (l->it % l->stride == 0)
        l->trace[l->n_trace++] = (trace_row){(double)l->it, s->loss, s->step_size, s->skipped};
    l->it++;
    l->skipped += s->skipped;
    if (l->it >= SKIPS_FROM && l->skipped * 4 > l->it) {
        st = RT_RAISE(RT_ERR_NUMERIC, "%" PRId64 " of %" PRId64 " iterations came to nothing usable and were skipped", l->skipped, l->it);
        return rt_error_fix(st, "lower the rates of section `%s`", l->d->name);
    }
    rt_cost_entry *cost = rt_ledger_entry(l->ctx->ledger);
    cost->flops += s->flops;
    cost->images_seen += s->images_seen;
    return RT_OK;
}

rt_status rt_distill_run(const rt_build_ctx *ctx, const rt_distill *d, rt_set *out)
{
    rt_status st = RT_OK;
    loop l = {.ctx = ctx, .d = d, .stride = (d->iterations + TRACE_ROWS - 1) / TRACE_ROWS};
    double last_commit = rt_now();
    if (l.stride < 1) l.stride = 1;
    RT_ALLOC(l.trace, (size_t)(d->iterations / l.stride + 1) * sizeof *l.trace, "trace");
    RT_TRY(restore(&l));
    if (d->push) RT_TRY(d->push(d->self));
    while (l.it < d->iterations) {
        rt_distill_step s = {0};
        RT_TRYF(d->iterate(d->self, l.it, &s), "%s, iteration %" PRId64, d->name, l.it);
        RT_TRY(account(&l, &s));
        report(&l, &s);
        RT_TRY(snapshot(&l));
        bool stop = rt_stop_requested() != 0;
        if (stop || rt_now() - last_commit >= ctx->ckpt_seconds) {
            RT_TRY(save(&l));
            last_commit = rt_now();
        }
        if (stop) {
            st = RT_RAISE(RT_ERR_CANCELLED, "stopped at iteration %" PRId64 " of %" PRId64, l.it, d->iterations);
            rt_error_fix(st, "rerun the same command: it resumes there");
            goto out;
        }
    }
    RT_TRY(result(&l, out));
out:
    rt_free(l.trace);
    return st;
}

rt_status rt_distill_estimate(const rt_build_ctx *ctx, const rt_distill *d, double peak_bytes, rt_estimate *out)
{
    rt_status st = RT_OK;
    rt_distill_step s = {0};
    double n = (double)d->iterations, begun = rt_now();
    (void)ctx;
    if (d->iterations > 0) { /* files that replace draws have no rows for an iteration that is not to be run */
        RT_TRY(d->start(d->self));
        if (d->push) RT_TRY(d->push(d->self));
        RT_TRY(d->iterate(d->self, 0, &s));
        s = (rt_distill_step){0};
        begun = rt_now();
        RT_TRY(d->iterate(d->self, 0, &s));
    }
    *out = (rt_estimate){.steps = n, .flops = s.flops * n, .seconds = (rt_now() - begun) * n, .peak_bytes = peak_bytes};
out:
    return st;
}

rt_status rt_distill_set(const rt_build_ctx *ctx, const char *method, const float *images, rt_set *out)
{
    rt_status st = RT_OK;
    int32_t size = ctx->net.size;
    int64_t n = (int64_t)ctx->train->classes.n * ctx->ipc, px = (int64_t)size * size * 3;
    rt_set s = {.n = n, .h = size, .w = size, .ipc = ctx->ipc};
    snprintf(s.method, sizeof s.method, "%s", method);
    RT_ALLOC(s.px, (size_t)(n * px) * sizeof *s.px, "pixels of the set");
    RT_ALLOC(s.label, (size_t)n * sizeof *s.label, "labels of the set");
    RT_TRY(rt_classes_copy(&ctx->train->classes, &s.classes));
    memcpy(s.px, images, (size_t)(n * px) * sizeof *s.px);
    RT_TRY(rt_set_space_of(ctx, &s));
    for (int64_t i = 0; i < n; i++) s.label[i] = (int32_t)(i / ctx->ipc);
    *out = s;
    memset(&s, 0, sizeof s);
out:
    rt_set_fini(&s);
    return st;
}

int64_t rt_divisor_up_to(int64_t n, int64_t limit)
{
    for (int64_t k = limit < n ? limit : n; k > 1; k--)
        if (n % k == 0) return k;
    return 1;
}
