/* The page: index.html with everything inside (style, SVG plots, PNG grids), so that it can be mailed or archived.
 *
 * No script, no font and no picture is fetched. Every text that came from a file is escaped. */
#include <limits.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "report/internal.h"
#include "report/page_css.h"

typedef struct page {
    text t;
    const char *dir; /* of the report */
    bool no_gnuplot;
    rt_error_chain no_gnuplot_error;
} page;

/* Puts a plot into the page and beside it as a file. A plot whose data is not there is left out; a missing gnuplot is
 * remembered; anything else ends the report. */
static rt_status put_plot(page *p, rt_status made, char *svg, const char *name, const char *caption)
{
    rt_status st = RT_OK;
    char path[PATH_MAX];
    if (made == RT_ERR_MISSING) return RT_OK;
    if (made == RT_ERR_UNSUPPORTED) {
        p->no_gnuplot = true;
        rt_error_save(&p->no_gnuplot_error);
        return RT_OK;
    }
    if (made != RT_OK) return made;
    snprintf(path, sizeof path, "%.4000s/%.80s.svg", p->dir, name);
    RT_TRY(rt_fs_write_atomic(path, svg, strlen(svg)));
    const char *start = strstr(svg, "<svg"); /* without the XML declaration */
    t_put(&p->t, "<figure class=\"plot\">%s<figcaption>", start ? start : "");
    t_html(&p->t, caption);
    t_put(&p->t, "</figcaption></figure>\n");
out:
    rt_free(svg);
    return st;
}

static rt_status put_accuracy_plots(page *p, const d_data *d)
{
    rt_status st = RT_OK;
    const char *protocol, *student;
    for (int i = 0; plot_pair_at(d, i, &protocol, &student); i++) {
        char *svg = NULL, name[64], caption[256];
        snprintf(name, sizeof name, i ? "accuracy-cost-%d" : "accuracy-cost", i + 1);
        snprintf(
            caption, sizeof caption,
            "Accuracy against construction cost, %.40s, %.40s. Labels: images per class; bars: ± sd over the networks.",
            protocol, student);
        st = plot_accuracy_cost(d, protocol, student, &svg);
        if (!i) t_put(&p->t, "<div class=\"plots\">\n");
        RT_TRY(put_plot(p, st, svg, name, caption));
        svg = NULL;
        snprintf(name, sizeof name, i ? "accuracy-ipc-%d" : "accuracy-ipc", i + 1);
        snprintf(caption, sizeof caption,
                 "Accuracy by method and images per class, %.40s, %.40s. Bars: mean ± sd over the networks.", protocol,
                 student);
        st = plot_accuracy_ipc(d, protocol, student, &svg);
        RT_TRY(put_plot(p, st, svg, name, caption));
    }
    if (plot_pair_at(d, 0, &protocol, &student)) t_put(&p->t, "</div>\n");
out:
    return st;
}

/* How sets come to be: accuracy of the snapshots and the loss that was minimised. */
static rt_status put_curves(page *p, const d_data *d, const char *run_dir)
{
    rt_status st = RT_OK;
    const char *protocol, *student;
    char *svg = NULL, name[96], caption[256];
    t_put(&p->t, "<div class=\"plots\">\n");
    for (int i = 0; plot_pair_at(d, i, &protocol, &student); i++) {
        st = plot_curves(d, protocol, student, &svg);
        snprintf(name, sizeof name, i ? "curves-%d" : "curves", i + 1);
        snprintf(caption, sizeof caption,
                 "Accuracy of the sets along their construction, %.40s, %.40s. Bars: ± sd over the networks; the last point "
                 "of a line is the finished set.",
                 protocol, student);
        RT_TRY(put_plot(p, st, svg, name, caption));
        svg = NULL;
    }
    for (int i = 0; i < d->n_set; i++) {
        bool fresh = d->set[i].synthetic;
        for (int k = 0; k < i && fresh; k++) fresh = strcmp(d->set[k].method, d->set[i].method) != 0;
        if (!fresh) continue;
        st = plot_trace(d, d->set[i].method, run_dir, &svg);
        int n = snprintf(name, sizeof name, "trace-%.60s", d->set[i].method);
        for (int k = 0; k < n; k++) /* a name from the database as a file name */
            if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789-", name[k])) name[k] = '_';
        snprintf(caption, sizeof caption, "What %.60s minimised, construction 0 of each size. Crosses on the axis: iterations that made no update.",
                 d->set[i].method);
        RT_TRY(put_plot(p, st, svg, name, caption));
        svg = NULL;
    }
    t_put(&p->t, "</div>\n");
out:
    return st;
}

static rt_status put_coverage_plots(page *p, const d_data *d)
{
    rt_status st = RT_OK;
    for (int i = 0; i < d->n_metric; i++) {
        const d_metric *m = &d->metric[i];
        if (strcmp(m->name, "coverage") || m->class_index != 0) continue;
        const d_set *s = m->owner;
        bool fresh = s != NULL;
        for (int j = 0; j < i && fresh; j++) {
            const d_metric *o = &d->metric[j];
            const d_set *so = strcmp(o->name, "coverage") || o->class_index != 0 || o->k != m->k ? NULL : o->owner;
            fresh = !so || so->ipc != s->ipc;
        }
        if (!fresh) continue;
        char *svg = NULL, name[64], caption[200];
        snprintf(name, sizeof name, "coverage-ipc%lld-k%lld", (long long)s->ipc, (long long)m->k);
        snprintf(caption, sizeof caption,
                 "Coverage of each class at IPC %lld, k = %lld: the share of real images with a "
                 "set image within their k-th neighbour's distance.",
                 (long long)s->ipc, (long long)m->k);
        st = plot_coverage(d, s->ipc, m->k, &svg);
        RT_TRY(put_plot(p, st, svg, name, caption));
    }
out:
    return st;
}

static rt_status put_page(page *p, const d_data *d, const char *run_dir)
{
    rt_status st = RT_OK;
    text *t = &p->t;
    char *svg = NULL;
    t_put(t, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
             "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>");
    t_html(t, d->name);
    t_put(t, " – Retort</title>\n<style>\n%s</style></head>\n<body><main>\n", page_css);
    part_summary(t, d);
    size_t warning_at = t->n;

    t_put(t, "<h2>Results</h2>\n");
    part_across(t, d);
    part_headline(t, d);
    RT_TRY(put_accuracy_plots(p, d));
    part_grids(t, d, run_dir);
    part_notes(t, d);
    RT_TRY(put_curves(p, d, run_dir));
    if (d->n_metric) {
        t_put(t, "<h2>What the sets cover</h2>\n");
        part_metrics(t, d);
        RT_TRY(put_coverage_plots(p, d));
    }
    part_per_class(t, d);
    if (d->n_cost) {
        t_put(t, "<h2>What it cost</h2>\n");
        st = plot_costs(d, &svg);
        RT_TRY(
            put_plot(p, st, svg, "costs",
                     "Wall time of every stage, one after the other; constructions by method, all seeds and sizes."));
        part_costs(t, d);
    }
    part_protocol(t, d);
    t_put(t, "</main></body></html>\n");
    if (p->no_gnuplot && t->st == RT_OK) { /* said at the top, where it is seen */
        text w = {0};
        t_put(&w, "<p class=\"warning\">The plots are missing: ");
        t_html(&w, p->no_gnuplot_error.what);
        t_put(&w, ". Fix: ");
        t_html(&w, p->no_gnuplot_error.fix);
        t_put(&w, "</p>\n");
        text whole = {0};
        t_raw(&whole, t->s, warning_at);
        t_raw(&whole, w.s ? w.s : "", w.n);
        t_raw(&whole, t->s + warning_at, t->n - warning_at);
        t_free(&w);
        t_free(t);
        *t = whole;
    }
    st = t->st;
out:
    return st;
}

rt_status rt_report_html(const char *run_dir, char **page_path)
{
    rt_status st = RT_OK;
    rt_results *r = NULL;
    d_data d = {0};
    char db[PATH_MAX], dir[PATH_MAX], path[PATH_MAX];
    char *table = NULL, *result = NULL;
    page p = {.dir = dir};
    RT_TRY(rt_fs_join(db, sizeof db, run_dir, "results.db"));
    RT_TRY(rt_fs_join(dir, sizeof dir, run_dir, "report"));
    if (!rt_fs_exists(db)) {
        st = RT_RAISE(RT_ERR_MISSING, "%s does not exist", db);
        st = rt_error_fix(st, "`retort bench` or `retort build` writes it");
        goto out;
    }
    RT_TRY(rt_results_open(db, &r));
    RT_TRY(d_load(r, &d));
    RT_TRY(rt_fs_mkdirs(dir));
    RT_TRY(rt_results_export(r, dir));
    RT_TRY(rt_report_table(r, RT_TABLE_MARKDOWN, &table));
    RT_TRY(rt_fs_join(path, sizeof path, dir, "table.md"));
    RT_TRY(rt_fs_write_atomic(path, table, strlen(table)));
    RT_TRYF(put_page(&p, &d, run_dir), "write the report's page");
    RT_TRY(rt_fs_join(path, sizeof path, dir, "index.html"));
    RT_TRY(rt_fs_write_atomic(path, p.t.s, p.t.n));
    if (page_path && !(result = rt_strdup(path))) {
        st = RT_RAISE(RT_ERR_NOMEM, "no memory for a path");
        goto out;
    }
    if (page_path) *page_path = result;
    if (p.no_gnuplot) st = rt_error_restore(&p.no_gnuplot_error); /* the page is there, and says so too */
out:
    rt_free(table);
    t_free(&p.t);
    d_fini(&d);
    rt_results_close(r);
    return st;
}
