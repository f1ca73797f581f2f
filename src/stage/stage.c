/* The public entry of each stage: open the run, do it, close the run. */
#include <string.h>

#include "base/alloc.h"
#include "methods/method.h"
#include "report/report.h"
#include "stage/stages.h"

typedef rt_status stage_fn(rt_run *r, const rt_stage_opts *o);

static rt_status with_run(const rt_config *c, const rt_stage_opts *o, stage_fn *fn)
{
    rt_run r;
    static const rt_stage_opts none;
    rt_status st = rt_run_open(c, &r);
    if (st != RT_OK) return st;
    st = fn(&r, o ? o : &none);
    rt_run_close(&r);
    return st;
}

rt_status rt_stage_index(const rt_config *c, const rt_stage_opts *o) { return with_run(c, o, rt_run_index); }
rt_status rt_stage_teach(const rt_config *c, const rt_stage_opts *o) { return with_run(c, o, rt_run_teach); }
rt_status rt_stage_build(const rt_config *c, const rt_stage_opts *o) { return with_run(c, o, rt_run_build); }
rt_status rt_stage_eval(const rt_config *c, const rt_stage_opts *o) { return with_run(c, o, rt_run_eval); }
rt_status rt_stage_measure(const rt_config *c, const rt_stage_opts *o) { return with_run(c, o, rt_run_measure); }

/* Metrics compare features, and the features are a teacher's; so are the labels of P2 and P3. */
unsigned rt_run_teachers_wanted(const rt_run *r)
{
    const rt_config *c = r->c;
    unsigned wanted = c->metrics.enabled ? RT_WANT_NETS : 0;
    for (int32_t i = 0; i < c->methods.names.n; i++) {
        const rt_method *m;
        if (rt_method_find(c->methods.names.v[i], &m) != RT_OK) continue;
        if (m->needs & (RT_NEEDS_FEATURES | RT_NEEDS_EL2N | RT_NEEDS_TEACHER)) wanted |= RT_WANT_NETS;
        if (m->needs & RT_NEEDS_COMMITTEE) wanted |= RT_WANT_COMMITTEE;
    }
    for (int32_t i = 0; i < c->eval.protocols.n; i++) {
        const char *p = c->eval.protocols.v[i];
        if (!strncmp(p, "p2", 2) || !strcmp(p, "p3_5xr18")) wanted |= RT_WANT_NETS;
        else if (!strncmp(p, "p3", 2)) wanted |= RT_WANT_COMMITTEE;
    }
    return wanted;
}

bool rt_run_needs_experts(const rt_run *r)
{
    for (int32_t i = 0; i < r->c->methods.names.n; i++) {
        const rt_method *m;
        if (rt_method_find(r->c->methods.names.v[i], &m) == RT_OK && (m->needs & RT_NEEDS_EXPERTS)) return true;
    }
    return false;
}

rt_status rt_run_report(rt_run *r, char **table, char **path)
{
    rt_status st = RT_OK;
    rt_results *db = NULL;
    char file[PATH_MAX], *t = NULL, *p = NULL;
    RT_TRY(rt_run_results(r));
    RT_TRY(rt_run_path(r, file, "results.db"));
    RT_TRY(rt_results_open(file, &db));
    RT_TRY(rt_report_table(db, RT_TABLE_TERMINAL, &t));
    rt_results_close(db);
    db = NULL;
    st = rt_report_html(r->c->run.dir, &p); /* without gnuplot: the page, and an error that says what is missing */
    if (st != RT_OK && st != RT_ERR_UNSUPPORTED) goto out;
    *table = t;
    *path = p;
    t = p = NULL;
out:
    rt_results_close(db);
    rt_free(t);
    rt_free(p);
    return st;
}

rt_status rt_stage_report(const rt_config *c, char **table, char **path)
{
    rt_run r;
    rt_status st = rt_run_open(c, &r);
    if (st != RT_OK) return st;
    st = rt_run_report(&r, table, path);
    rt_run_close(&r);
    return st == RT_OK ? st : rt_error_frame(st, __FILE__, __LINE__, "report");
}

rt_status rt_stage_bench(const rt_config *c, const rt_stage_opts *o, char **table, char **path)
{
    static const rt_stage_opts none;
    rt_run r;
    rt_status st = rt_run_open(c, &r);
    if (st != RT_OK) return st;
    if (!o) o = &none;
    RT_TRY(rt_run_index(&r, o));
    if (rt_run_teachers_wanted(&r) || rt_run_needs_experts(&r)) RT_TRY(rt_run_teach(&r, o));
    RT_TRY(rt_run_build(&r, o));
    RT_TRY(rt_run_eval(&r, o));
    if (c->metrics.enabled) RT_TRY(rt_run_measure(&r, o));
    RT_TRY(rt_run_report(&r, table, path));
out:
    rt_run_close(&r);
    return st;
}
