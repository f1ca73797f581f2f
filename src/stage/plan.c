/* plan: what a config will take before it runs. FLOPs and memory come from the compiled steps, times from running a few of
 * them; so the figures are those of this machine, and a step that would not fit fails here and not in hour nine. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "eval/eval.h"
#include "methods/method.h"
#include "stage/stages.h"

typedef struct row {
    char phase[64];
    double runs, steps, flops, seconds, peak_bytes, disk_bytes;
} row;

typedef struct sheet {
    row r[64];
    int n;
    double resident_bytes; /* decoded images, features */
} sheet;

static row *add(sheet *s, const char *fmt, ...) RT_PRINTF(2, 3);
static row *add(sheet *s, const char *fmt, ...)
{
    row *r = &s->r[s->n < 63 ? s->n++ : 63];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(r->phase, sizeof r->phase, fmt, ap);
    va_end(ap);
    r->runs = 1;
    return r;
}

/* Teachers with their initial weights: a step costs what it costs whatever they are. */
static rt_status untrained(rt_run *r, rt_teachers which, rt_committee *out)
{
    rt_status st = RT_OK;
    rt_committee c = {0};
    rt_teacher_seat seat;
    int n = 0;
    while (rt_run_teacher_seat(r, which, n, &seat)) n++;
    RT_ALLOC(c.teacher, (size_t)n * sizeof *c.teacher, "committee");
    memset(c.teacher, 0, (size_t)n * sizeof *c.teacher);
    for (; rt_run_teacher_seat(r, which, c.n, &seat); c.n++) {
        rt_teacher *t = &c.teacher[c.n];
        rt_model_desc net;
        snprintf(t->name, sizeof t->name, "%s", seat.name);
        t->weight = 1;
        RT_TRY(rt_run_net(r, seat.arch, &net));
        RT_TRY(rt_model_create(&net, &t->model));
        RT_ALLOC(t->theta, (size_t)rt_model_n_params(t->model) * sizeof *t->theta, "teacher");
        if (rt_model_n_buffers(t->model)) RT_ALLOC(t->buffers, (size_t)rt_model_n_buffers(t->model) * sizeof *t->buffers, "teacher");
        rt_model_init(t->model, rt_run_teacher_seed(r), (uint64_t)seat.network, t->theta, t->buffers);
    }
    *out = c;
    c = (rt_committee){0};
out:
    c.n += c.teacher && n > c.n; /* the one that failed */
    rt_committee_fini(&c);
    return st;
}

static rt_status plan_training(rt_run *r, const rt_model_desc *net, const rt_recipe *recipe, const rt_committee *teachers, int64_t n, int64_t n_infer, row *out)
{
    rt_status st = RT_OK;
    rt_trainer *t = NULL;
    rt_backend *be = NULL;
    rt_exec_stats stats;
    double step_s, infer_s, infer_flops;
    int64_t batch = recipe->batch < n ? recipe->batch : n;
    RT_TRY(rt_run_backend(r, &be));
    RT_TRY(rt_trainer_create_taught(be, net, recipe, 1, teachers, &t));
    RT_TRY(rt_trainer_probe(t, batch, &step_s, &stats));
    RT_TRY(rt_trainer_probe_infer(t, &infer_s, &infer_flops));
    double steps = (double)n / (double)batch * (double)recipe->epochs; /* the short last batch counts by its share */
    out->steps = steps;
    out->flops = steps * stats.flops + (double)n_infer * infer_flops;
    out->seconds = steps * step_s + (double)n_infer * infer_s;
    out->peak_bytes = (double)rt_trainer_arena_bytes(t);
out:
    rt_trainer_destroy(t);
    return st;
}

/* One row per architecture: net<k> with their features, then each further member of the committee. */
static rt_status plan_teacher(rt_run *r, const rt_teacher_seat *seat, sheet *s)
{
    rt_status st = RT_OK;
    rt_model_desc net;
    rt_recipe recipe;
    rt_model *m = NULL;
    int64_t n = rt_dataset_count(r->train_set);
    row *out = add(s, "teach %s%s", seat->arch, seat->member ? " (committee)" : "");
    RT_TRY(rt_run_net(r, seat->arch, &net));
    RT_TRY(rt_run_teach_recipe(r->c, &recipe));
    RT_TRY(plan_training(r, &net, &recipe, NULL, n, (seat->member ? 0 : n) + rt_dataset_count(r->test_set), out));
    RT_TRY(rt_model_create(&net, &m));
    double features = seat->member ? 0 : (double)n * rt_model_feature_dim(m) * 4;
    out->disk_bytes = features + (double)rt_model_n_params(m) * 4 * (1 + (double)r->c->run.keep);
    s->resident_bytes += features;
out:
    rt_model_destroy(m);
    return st;
}

static rt_status plan_teach(rt_run *r, unsigned wanted, sheet *s)
{
    rt_status st = RT_OK;
    rt_teacher_seat seat;
    if (wanted & RT_WANT_NETS) {
        rt_run_teacher_seat(r, RT_TEACHERS_FIRST, 0, &seat);
        RT_TRY(plan_teacher(r, &seat, s));
        s->r[s->n - 1].runs = (double)r->c->teach.runs;
    }
    for (int i = 0; (wanted & RT_WANT_COMMITTEE) && rt_run_teacher_seat(r, RT_TEACHERS_COMMITTEE, i, &seat); i++)
        if (seat.member || !(wanted & RT_WANT_NETS)) RT_TRY(plan_teacher(r, &seat, s));
out:
    return st;
}

static rt_status plan_experts(rt_run *r, sheet *s)
{
    rt_status st = RT_OK;
    rt_model_desc net;
    rt_recipe recipe;
    rt_model *m = NULL;
    int64_t kept = 0;
    row *out = add(s, "experts %s", r->c->network.arch);
    RT_TRY(rt_run_net(r, r->c->network.arch, &net));
    RT_TRY(rt_run_experts_recipe(r, &recipe, &kept));
    RT_TRY(plan_training(r, &net, &recipe, NULL, rt_dataset_count(r->train_set), rt_dataset_count(r->test_set), out));
    RT_TRY(rt_model_create(&net, &m));
    out->runs = (double)r->c->experts.count;
    out->disk_bytes = (double)rt_model_n_params(m) * 4 * (double)kept;
out:
    rt_model_destroy(m);
    return st;
}

/* Networks that methods want trained before they construct. */
static rt_status plan_pools(rt_run *r, sheet *s)
{
    rt_status st = RT_OK;
    const rt_config *c = r->c;
    for (int32_t i = 0; i < c->methods.names.n; i++) {
        const rt_method *m;
        rt_pool_spec spec;
        rt_model_desc net;
        RT_TRY(rt_method_find(c->methods.names.v[i], &m));
        if (!m->pool || *c->set.network_weights) continue;
        m->pool(c, &spec);
        row *out = add(s, "pool of %s", m->name);
        RT_TRY(rt_run_net(r, c->network.arch, &net));
        RT_TRYF(plan_training(r, &net, &spec.recipe, NULL, rt_dataset_count(r->train_set), 0, out), "%s", out->phase);
        out->runs = (double)spec.networks;
    }
out:
    return st;
}

static rt_status plan_build(rt_run *r, sheet *s)
{
    rt_status st = RT_OK;
    rt_committee teachers = {0};
    rt_set_name name;
    const rt_config *c = r->c;
    for (int i = 0; rt_run_set_name(r, i, &name); i++) {
        const rt_method *m;
        RT_TRY(rt_method_find(name.method, &m));
        if (name.iteration) continue; /* taken along the way */
        if (name.seed > 0) { /* a further construction of the row above */
            s->r[s->n - 1].runs++;
            continue;
        }
        row *out = add(s, "build %s ipc %lld", name.method, (long long)name.ipc);
        double pixels = (double)name.ipc * rt_dataset_classes(r->train_set)->n * (double)(c->data.size * c->data.size) * 3;
        out->disk_bytes = pixels * 5; /* float32 and 8-bit PNG */
        if (!m->estimate) continue;
        rt_estimate e;
        rt_build_ctx ctx = rt_run_build_ctx(r, &name);
        RT_TRY(rt_run_backend(r, &ctx.be));
        RT_TRY(rt_run_train(r, &ctx.train));
        RT_TRY(rt_run_net(r, c->network.arch, &ctx.net));
        if (m->needs & (RT_NEEDS_TEACHER | RT_NEEDS_COMMITTEE)) {
            RT_TRY(untrained(r, m->needs & RT_NEEDS_COMMITTEE ? RT_TEACHERS_COMMITTEE : RT_TEACHERS_FIRST, &teachers));
            ctx.teachers = &teachers;
        }
        RT_TRYF(m->estimate(&ctx, &e), "set %s", name.text);
        rt_committee_fini(&teachers);
        teachers = (rt_committee){0};
        out->steps = e.steps;
        out->flops = e.flops;
        out->seconds = e.seconds;
        out->peak_bytes = e.peak_bytes;
        out->disk_bytes += pixels * 8 * (double)c->run.keep; /* images and velocity in checkpoints */
    }
out:
    rt_committee_fini(&teachers);
    return st;
}

static rt_status plan_eval(rt_run *r, sheet *s)
{
    rt_status st = RT_OK;
    const rt_config *c = r->c;
    int32_t classes = rt_dataset_classes(r->train_set)->n;
    for (int32_t k = 0; k < c->set.ipc.n; k++)
        for (int32_t p = 0; p < c->eval.protocols.n; p++)
            for (int32_t a = 0; a < c->eval.students.n; a++) {
                rt_protocol protocol;
                rt_recipe recipe;
                rt_model_desc net;
                rt_set_name name;
                int64_t n = c->set.ipc.v[k] * classes;
                row *out = add(s, "eval %s %s ipc %lld", c->eval.protocols.v[p], c->eval.students.v[a], (long long)c->set.ipc.v[k]);
                RT_TRY(rt_protocol_find(c->eval.protocols.v[p], &protocol));
                rt_run_eval_recipe(c, protocol, c->eval.students.v[a], n, classes, false, &recipe);
                RT_TRY(rt_run_net(r, c->eval.students.v[a], &net));
                rt_teachers which;
                rt_committee teachers = {0};
                if (rt_run_lesson(protocol, &which)) RT_TRY(untrained(r, which, &teachers));
                st = plan_training(r, &net, &recipe, &teachers, n, rt_dataset_count(r->test_set), out);
                rt_committee_fini(&teachers);
                if (st != RT_OK) return rt_error_frame(st, __FILE__, __LINE__, "%s", out->phase);
                out->runs = 0;
                for (int i = 0; rt_run_set_name(r, i, &name); i++)
                    if (name.ipc == c->set.ipc.v[k]) out->runs += rt_run_networks(r, &name);
                out->disk_bytes = 8192 * out->runs;
            }
out:
    return st;
}

/* --- text ------------------------------------------------------------------------------------------------------------------ */

static void human_time(double s, char *buf, size_t n)
{
    if (s < 1) snprintf(buf, n, "< 1 s");
    else if (s < 120) snprintf(buf, n, "%.0f s", s);
    else if (s < 7200) snprintf(buf, n, "%.1f min", s / 60);
    else snprintf(buf, n, "%.1f h", s / 3600);
}

static void human_bytes(double b, char *buf, size_t n)
{
    if (b < 1) snprintf(buf, n, "-");
    else if (b < 1e6) snprintf(buf, n, "%.0f KB", b / 1e3);
    else if (b < 1e9) snprintf(buf, n, "%.1f MB", b / 1e6);
    else snprintf(buf, n, "%.2f GB", b / 1e9);
}

static void line(FILE *f, const char *phase, double runs, double flops, double seconds, double peak, double disk)
{
    char t[32], p[32], d[32];
    human_time(seconds, t, sizeof t);
    human_bytes(peak, p, sizeof p);
    human_bytes(disk, d, sizeof d);
    fprintf(f, "%-36s %5.0f %11.3g %10s %10s %10s\n", phase, runs, flops, t, p, d);
}

static rt_status write_sheet(rt_run *r, const sheet *s, char **text, bool *fits)
{
    char *buf = NULL;
    size_t size = 0;
    double seconds = 0, flops = 0, peak = 0, disk = 0;
    FILE *f = open_memstream(&buf, &size);
    if (!f) return RT_RAISE_ERRNO("plan");
    fprintf(f, "%-36s %5s %11s %10s %10s %10s\n", "phase", "runs", "FLOP", "time", "memory", "disk");
    for (int i = 0; i < s->n; i++) {
        const row *x = &s->r[i];
        line(f, x->phase, x->runs, x->flops * x->runs, x->seconds * x->runs, x->peak_bytes, x->disk_bytes * x->runs);
        seconds += x->seconds * x->runs;
        flops += x->flops * x->runs;
        disk += x->disk_bytes * x->runs;
        if (x->peak_bytes > peak) peak = x->peak_bytes;
    }
    line(f, "all", 1, flops, seconds, peak + s->resident_bytes, disk);
    struct statvfs v;
    double ram = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE), room = 0;
    if (!statvfs(r->c->run.dir, &v)) room = (double)v.f_bavail * (double)v.f_frsize;
    char need[32], have[32];
    human_bytes(peak + s->resident_bytes, need, sizeof need);
    human_bytes(ram, have, sizeof have);
    bool ram_ok = peak + s->resident_bytes <= ram, disk_ok = disk <= room;
    fprintf(f, "\nmemory: %s of %s: %s\n", need, have, ram_ok ? "fits" : "does not fit; lower batch sizes or data.size");
    human_bytes(disk, need, sizeof need);
    human_bytes(room, have, sizeof have);
    fprintf(f, "disk:   %s of %s free: %s\n", need, have, disk_ok ? "fits" : "does not fit; free space or lower run.keep");
    fprintf(f, "Times are measured on a few steps on this machine; memory is the largest step's arena and tensors, plus decoded "
               "images and features.\n");
    if (fclose(f)) {
        free(buf);
        return RT_RAISE(RT_ERR_NOMEM, "plan");
    }
    *text = rt_strdup(buf);
    free(buf);
    *fits = ram_ok && disk_ok;
    return *text ? RT_OK : RT_RAISE(RT_ERR_NOMEM, "plan");
}

rt_status rt_stage_plan(const rt_config *c, char **text)
{
    rt_status st = RT_OK;
    rt_run r;
    sheet s = {.n = 0};
    bool fits = true;
    st = rt_run_open(c, &r);
    if (st != RT_OK) return st;
    RT_TRY(rt_run_datasets(&r));
    s.resident_bytes = (double)(rt_dataset_count(r.train_set) + rt_dataset_count(r.test_set)) * (double)(c->data.size * c->data.size) * 3;
    RT_TRY(plan_teach(&r, rt_run_teachers_wanted(&r), &s));
    if (rt_run_needs_experts(&r)) RT_TRY(plan_experts(&r, &s));
    RT_TRY(plan_pools(&r, &s));
    RT_TRY(plan_build(&r, &s));
    RT_TRY(plan_eval(&r, &s));
    RT_TRY(write_sheet(&r, &s, text, &fits));
    if (!fits) {
        st = RT_RAISE(RT_ERR_GATE, "the plan does not fit this machine");
        rt_error_fix(st, "see the lines under the table");
    }
out:
    rt_run_close(&r);
    return st == RT_OK ? st : rt_error_frame(st, __FILE__, __LINE__, "plan");
}
