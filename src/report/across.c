/* One look over all protocols: a row per method, a column per protocol, and what the set cost beside. Only where sets were
 * evaluated under more than one protocol; the tables of each protocol say the rest. */
#include <string.h>

#include "report/internal.h"

enum { MOST = 16 }; /* protocols side by side */

typedef struct across {
    const d_data *d;
    const char *student;
    int64_t ipc;
    const char *protocol[MOST];
    int n;
} across;

/* Protocols under which some set of this size was judged by this student, in the order of the tables. */
static void collect(across *a)
{
    a->n = 0;
    for (int i = 0; i < a->d->n_row; i++) {
        const d_summary *r = &a->d->row[i];
        if (r->full || !r->n || r->ipc != a->ipc || strcmp(r->student, a->student)) continue;
        bool fresh = a->n < MOST;
        for (int k = 0; k < a->n && fresh; k++) fresh = strcmp(a->protocol[k], r->protocol) != 0;
        if (fresh) a->protocol[a->n++] = r->protocol;
    }
}

static const d_summary *cell(const across *a, const char *method, const char *protocol)
{
    for (int i = 0; i < a->d->n_row; i++) {
        const d_summary *r = &a->d->row[i];
        if (!r->full && r->n && r->ipc == a->ipc && !strcmp(r->student, a->student) && !strcmp(r->method, method) &&
            !strcmp(r->protocol, protocol))
            return r;
    }
    return NULL;
}

/* The first row of each method, in the order of the tables. */
static bool opens(const across *a, int i)
{
    const d_summary *r = &a->d->row[i];
    if (r->full || !r->n || r->ipc != a->ipc || strcmp(r->student, a->student)) return false;
    for (int k = 0; k < i; k++) {
        const d_summary *o = &a->d->row[k];
        if (!o->full && o->n && o->ipc == a->ipc && !strcmp(o->student, a->student) && !strcmp(o->method, r->method)) return false;
    }
    return true;
}

static bool best_under(const across *a, const d_summary *r)
{
    for (int i = 0; i < a->d->n_row; i++) {
        const d_summary *o = &a->d->row[i];
        if (!o->full && o->n && o->ipc == a->ipc && part_same_pair(o, r) && o->mean > r->mean) return false;
    }
    return true;
}

/* The i-th (student, IPC) with at least two protocols. */
static bool across_at(const d_data *d, int index, across *out)
{
    for (int i = 0; i < d->n_row; i++) {
        const d_summary *r = &d->row[i];
        if (r->full || !r->n) continue;
        bool fresh = true;
        for (int k = 0; k < i && fresh; k++)
            fresh = d->row[k].full || !d->row[k].n || d->row[k].ipc != r->ipc || strcmp(d->row[k].student, r->student);
        if (!fresh) continue;
        across a = {.d = d, .student = r->student, .ipc = r->ipc};
        collect(&a);
        if (a.n > 1 && !index--) {
            *out = a;
            return true;
        }
    }
    return false;
}

void across_text(text *t, const d_data *d, bool markdown)
{
    across a;
    char buf[T_FIG], fig[64];
    const char *sep = markdown ? " | " : "  ", *open = markdown ? "| " : "", *close = markdown ? " |\n" : "\n";
    for (int index = 0; across_at(d, index, &a); index++) {
        t_put(t, "%stop-1 %% by protocol, student %s, IPC %lld%s\n\n", markdown ? "**" : "", a.student, (long long)a.ipc, markdown ? "**" : "");
        t_put(t, "%s%-12s", open, "method");
        for (int p = 0; p < a.n; p++) t_put(t, "%s%14s", sep, a.protocol[p]);
        t_put(t, "%s%8s%s%8s%s%12s%s%12s%s", sep, "images", sep, "labels", sep, "build", sep, "+ teacher", close);
        if (markdown) {
            t_put(t, "| --- |");
            for (int p = 0; p < a.n + 4; p++) t_put(t, " ---: |");
            t_put(t, "\n");
        }
        for (int i = 0; i < d->n_row; i++) {
            if (!opens(&a, i)) continue;
            const d_summary *r = &d->row[i];
            t_put(t, "%s%-12s", open, r->method);
            for (int p = 0; p < a.n; p++) {
                const d_summary *c = cell(&a, r->method, a.protocol[p]);
                if (!c) snprintf(fig, sizeof fig, "-");
                else if (c->n == 1) snprintf(fig, sizeof fig, "%.2f", 100 * c->mean);
                else snprintf(fig, sizeof fig, "%.2f +- %.2f", 100 * c->mean, 100 * c->sd);
                t_put(t, "%s%14s", sep, fig);
            }
            t_put(t, "%s%8s", sep, t_bytes(r->image_bytes, buf));
            t_put(t, "%s%8s", sep, t_bytes(r->label_bytes, buf));
            t_put(t, "%s%12s", sep, isnan(r->build_s) ? "-" : t_seconds(r->build_s, buf));
            t_put(t, "%s%12s%s", sep, r->teacher_s > 0 ? t_seconds(r->teacher_s, buf) : "-", close);
        }
        t_put(t, "\n");
    }
}

void part_across(text *t, const d_data *d)
{
    across a;
    char buf[T_FIG];
    for (int index = 0; across_at(d, index, &a); index++) {
        t_put(t, "<div class=\"wide\"><table><caption>All protocols, student ");
        t_html(t, a.student);
        t_put(t, ", %lld image%s per class</caption><thead><tr><th>method</th>", (long long)a.ipc, a.ipc == 1 ? "" : "s");
        for (int p = 0; p < a.n; p++) {
            t_put(t, "<th>");
            t_html(t, a.protocol[p]);
            t_put(t, " %%</th>");
        }
        t_put(t, "<th>images + labels</th><th>build</th><th>+ teacher</th></tr></thead><tbody>\n");
        for (int i = 0; i < d->n_row; i++) {
            if (!opens(&a, i)) continue;
            const d_summary *r = &d->row[i];
            t_put(t, "<tr><td>");
            part_swatch(t, d, r->method);
            t_put(t, "</td>");
            for (int p = 0; p < a.n; p++) {
                const d_summary *c = cell(&a, r->method, a.protocol[p]);
                if (!c) {
                    t_put(t, "<td>–</td>");
                    continue;
                }
                t_put(t, "<td%s>%.2f", best_under(&a, c) ? " class=\"best\"" : "", 100 * c->mean);
                if (c->n > 1) t_put(t, " <span class=\"sub\">± %.2f</span>", 100 * c->sd);
                if (!isnan(c->gap)) {
                    const bool clear = !isnan(c->gap_se) && fabs(c->gap) > 2 * c->gap_se;
                    t_put(t, " <span class=\"%s\">%+.1f</span>", !clear ? "sub" : c->gap > 0 ? "up" : "down", 100 * c->gap);
                }
                t_put(t, "</td>");
            }
            t_put(t, "<td>%s", t_bytes(r->image_bytes, buf));
            t_put(t, " <span class=\"sub\">+ %s</span></td>", t_bytes(r->label_bytes, buf));
            t_put(t, "<td>%s</td>", t_seconds(r->build_s, buf));
            t_put(t, "<td>%s</td></tr>\n", r->teacher_s > 0 ? t_seconds(r->teacher_s, buf) : "–");
        }
        t_put(t, "</tbody></table></div>\n<p class=\"meta\">Last epoch, mean ± sd over networks; the signed figure is the distance to random selection "
                 "under the same protocol, coloured where it is larger than two standard errors.</p>\n");
    }
}
