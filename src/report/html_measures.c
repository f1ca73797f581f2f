/* Sections of the page about the sets as measured: coverage and its kin, accuracy of each class. */
#include <string.h>

#include "report/internal.h"

/* --- metrics -------------------------------------------------------------------------------------------------------
 */
enum { MAX_METRICS = 256, MAX_METHODS = 64 };

/* The names and k of all pooled figures, in the order of the table. */
static int metric_names(const d_data *d, const d_metric *col[MAX_METRICS])
{
    int n = 0;
    for (int i = 0; i < d->n_metric; i++) {
        const d_metric *m = &d->metric[i];
        bool fresh = m->class_index == -1 && m->owner;
        for (int k = 0; k < n && fresh; k++) fresh = strcmp(col[k]->name, m->name) || col[k]->k != m->k;
        if (fresh && n < MAX_METRICS) col[n++] = m;
    }
    return n;
}

/* Rows of one IPC, each method once. */
static int methods_at(const d_data *d, int64_t ipc, const d_summary *list[MAX_METHODS])
{
    int n = 0;
    for (int i = 0; i < d->n_row; i++) {
        const d_summary *r = &d->row[i];
        bool fresh = !r->full && r->ipc == ipc;
        for (int k = 0; k < n && fresh; k++) fresh = strcmp(list[k]->method, r->method) != 0;
        if (fresh && n < MAX_METHODS) list[n++] = r;
    }
    return n;
}

/* Figures are rows, so that however many there are, none leaves the page at its right side. */
static void metrics_at(text *t, const d_data *d, int64_t ipc, const d_metric *const *metric, int n_metric)
{
    const d_summary *method[MAX_METHODS];
    int n = methods_at(d, ipc, method);
    t_put(t, "<div class=\"wide\"><table><caption>%lld image%s per class</caption><thead><tr><th>figure</th>", (long long)ipc,
          ipc == 1 ? "" : "s");
    for (int m = 0; m < n; m++) {
        t_put(t, "<th>");
        part_swatch(t, d, method[m]->method);
        t_put(t, "</th>");
    }
    t_put(t, "</tr></thead><tbody>\n");
    for (int c = 0; c < n_metric; c++) {
        t_put(t, "<tr><td>");
        t_html(t, metric[c]->name);
        if (metric[c]->k) t_put(t, " <span class=\"sub\">k = %lld</span>", (long long)metric[c]->k);
        t_put(t, "</td>");
        for (int m = 0; m < n; m++) {
            double expected, v = d_metric_mean(d, method[m]->method, ipc, metric[c]->name, metric[c]->k, -1, &expected);
            if (isnan(v)) {
                t_put(t, "<td>–</td>");
                continue;
            }
            t_put(t, "<td>%.4g", v);
            if (!isnan(expected)) t_put(t, " <span class=\"sub\">/ %.3g</span>", expected);
            t_put(t, "</td>");
        }
        t_put(t, "</tr>\n");
    }
    t_put(t, "</tbody></table></div>\n");
}

void part_metrics(text *t, const d_data *d)
{
    const d_metric *metric[MAX_METRICS];
    int n = metric_names(d, metric);
    if (!n) return;
    for (int64_t ipc = d_next_ipc(d, 0); ipc; ipc = d_next_ipc(d, ipc)) metrics_at(t, d, ipc, metric, n);
    t_put(t, "<p class=\"note\">Means over the constructions of a method. After the slash: what a random subset of the same "
             "size is expected to have. A subset of the real images has precision 1; Fréchet distance, MMD and Vendi depend "
             "on the size of the set and compare only within one IPC.</p>\n");
}

/* --- per class -----------------------------------------------------------------------------------------------------
 */
static double class_accuracy(const d_data *d, const d_summary *r, int cls)
{
    double sum = 0;
    int n = 0;
    for (int i = 0; i < d->n_eval; i++) {
        const d_eval *e = &d->eval[i];
        if (strcmp(e->protocol, r->protocol) || strcmp(e->student, r->student) || cls >= e->n_classes) continue;
        const d_set *s = e->owner;
        if (r->full ? strcmp(e->set, RT_FULL_SET) != 0 : !s || s->ipc != r->ipc || strcmp(s->method, r->method))
            continue;
        sum += e->per_class[cls];
        n++;
    }
    return n ? sum / n : NAN;
}

void part_per_class(text *t, const d_data *d)
{
    enum { WORST = 20 };
    if (!d->n_row || !d->n_classes || isnan(class_accuracy(d, &d->row[0], 0))) return;
    int order[WORST], n = 0;
    for (int c = 0; c < d->n_classes; c++) { /* insertion into the worst of the first row */
        double v = class_accuracy(d, &d->row[0], c);
        int at = n < WORST ? n++ : WORST;
        while (at > 0 && class_accuracy(d, &d->row[0], order[at - 1]) > v) {
            if (at < WORST) order[at] = order[at - 1];
            at--;
        }
        if (at < WORST) order[at] = c;
    }
    t_put(t, "<h2>Accuracy of each class</h2>\n<div class=\"wide\"><table class=\"heat\"><caption>");
    t_html(t, d->row[0].protocol);
    t_put(t, ", ");
    t_html(t, d->row[0].student);
    t_put(t, ", %%%s</caption><thead><tr><th>class</th>",
          d->n_classes > WORST ? ", the 20 lowest of the first column" : "");
    for (int i = 0; i < d->n_row && part_same_pair(&d->row[i], &d->row[0]); i++) {
        const d_summary *r = &d->row[i];
        t_put(t, "<th>");
        t_html(t, r->full ? "all images" : r->method);
        if (!r->full) t_put(t, "<br><span class=\"sub\">IPC %lld</span>", (long long)r->ipc);
        t_put(t, "</th>");
    }
    t_put(t, "</tr></thead><tbody>\n");
    for (int k = 0; k < n; k++) {
        int c = d->n_classes > WORST ? order[k] : k;
        t_put(t, "<tr><td>");
        t_html(t, d->classes[c]);
        t_put(t, "</td>");
        for (int i = 0; i < d->n_row && part_same_pair(&d->row[i], &d->row[0]); i++) {
            double v = class_accuracy(d, &d->row[i], c);
            if (isnan(v))
                t_put(t, "<td>–</td>");
            else
                t_put(t, "<td style=\"background:color-mix(in srgb, var(--accent) %.0f%%, transparent)\">%.1f</td>",
                      55 * v, 100 * v);
        }
        t_put(t, "</tr>\n");
    }
    t_put(t, "</tbody></table></div>\n");
}
