/* The first sections of the page: the answer in words and the headline table. The others: html_sets.c, html_measures.c,
 * html_costs.c. */
#include <string.h>

#include "report/internal.h"

bool part_same_pair(const d_summary *a, const d_summary *b)
{
    return !strcmp(a->protocol, b->protocol) && !strcmp(a->student, b->student);
}

void part_swatch(text *t, const d_data *d, const char *method)
{
    t_put(t, "<span class=\"swatch\" style=\"background:%s\"></span>", plot_colour(d, method));
    t_html(t, method);
}

/* --- the answer in words -------------------------------------------------------------------------------------------
 */
/* The best row of a group of rows with the same pair and IPC; kind 0: coresets other than random, 1: synthetic. */
static const d_summary *best_of(const d_data *d, const d_summary *like, int kind)
{
    const d_summary *best = NULL;
    for (int i = 0; i < d->n_row; i++) {
        const d_summary *r = &d->row[i];
        if (r->full || !r->n || r->ipc != like->ipc || !part_same_pair(r, like) || r->synthetic != kind) continue;
        if (!kind && !strcmp(r->method, "random")) continue;
        if (!best || r->mean > best->mean) best = r;
    }
    return best;
}

static void put_answer(text *t, const d_data *d, const d_summary *group)
{
    char a[T_FIG], b[T_FIG];
    const d_summary *coreset = best_of(d, group, 0), *distilled = best_of(d, group, 1);
    if (!coreset && !distilled) return;
    t_put(t, "<p class=\"lead\">At %lld image%s per class, ", (long long)group->ipc, group->ipc == 1 ? "" : "s");
    const d_summary *first = distilled ? distilled : coreset;
    t_put(t, "<b>");
    t_html(t, first->method);
    t_put(t, "</b> reaches <b>%.1f&thinsp;%%</b>", 100 * first->mean);
    if (!isnan(first->gap))
        t_put(t, ", %.1f points %s random selection", 100 * fabs(first->gap), first->gap < 0 ? "below" : "above");
    if (distilled && coreset) {
        double gap = distilled->mean - coreset->mean;
        double se = sqrt(distilled->sd * distilled->sd / distilled->n + coreset->sd * coreset->sd / coreset->n);
        t_put(t, " and %.1f points %s the best coreset, ", 100 * fabs(gap), gap < 0 ? "below" : "above");
        t_html(t, coreset->method);
        t_put(t, " (%.1f&thinsp;%%)", 100 * coreset->mean);
        if (!isnan(se) && fabs(gap) < 2 * se) t_put(t, ", a difference within two standard errors");
        if (!isnan(distilled->build_s) && !isnan(coreset->build_s)) {
            t_put(t, ". Constructing it took <span class=\"nw\">%s</span>; ", t_seconds(distilled->build_s + distilled->teacher_s, a));
            t_html(t, coreset->method);
            t_put(t, " took <span class=\"nw\">%s</span>%s", t_seconds(coreset->build_s + coreset->teacher_s, b),
                  coreset->teacher_s > 0 ? ", its teacher included" : "");
        }
    }
    for (int i = 0; i < d->n_row; i++)
        if (d->row[i].full && d->row[i].n && part_same_pair(&d->row[i], group))
            t_put(t, ". All %s training images give %.1f&thinsp;%%", t_count((double)d->n_train, a),
                  100 * d->row[i].mean);
    t_put(t, ".</p>\n");
}

void part_summary(text *t, const d_data *d)
{
    t_put(t, "<h1>");
    t_html(t, d->name[0] ? d->name : "results");
    t_put(t, "</h1>\n<p class=\"meta\">");
    t_html(t, d->dataset);
    if (d->size) t_put(t, " · %d × %d pixels", d->size, d->size);
    t_put(t, "</p>\n<p class=\"meta\">");
    t_html(t, d->device);
    if (d->version[0]) {
        t_put(t, " · retort ");
        t_html(t, d->version);
    }
    t_put(t, "</p>\n");
    for (int i = 0; i < d->n_row; i++) { /* the first pair only: the others are in the tables */
        const d_summary *r = &d->row[i];
        if (r->full || !r->n || !part_same_pair(r, &d->row[0]) || (i && d->row[i - 1].ipc == r->ipc && !d->row[i - 1].full))
            continue;
        put_answer(t, d, r);
    }
    if (!d->n_row) t_put(t, "<p class=\"lead\">No results yet.</p>\n");
}

/* --- headline ------------------------------------------------------------------------------------------------------
 */
static bool is_best(const d_data *d, const d_summary *r)
{
    for (int i = 0; i < d->n_row; i++) {
        const d_summary *o = &d->row[i];
        if (!o->full && o->n && o->ipc == r->ipc && part_same_pair(o, r) && o->mean > r->mean) return false;
    }
    return r->n && !r->full;
}

/* Whether some row of r's table was checked along the training. */
static bool has_best(const d_data *d, const d_summary *r)
{
    for (int i = 0; i < d->n_row; i++)
        if (part_same_pair(&d->row[i], r) && !isnan(d->row[i].best)) return true;
    return false;
}

static void headline_row(text *t, const d_data *d, const d_summary *r, bool group)
{
    char a[T_FIG], b[T_FIG];
    t_put(t, "<tr%s><td>", group ? " class=\"group\"" : "");
    if (r->full)
        t_put(t, "<span class=\"swatch\"></span>all images");
    else
        part_swatch(t, d, r->method);
    t_put(t, "</td><td>");
    if (r->full)
        t_put(t, "–");
    else
        t_put(t, "%lld", (long long)r->ipc);
    if (r->full)
        t_put(t, "</td><td>%s images</td>", t_count((double)r->n_images, a));
    else
        t_put(t, "</td><td>%s <span class=\"sub\">+ %s</span></td>", t_bytes(r->image_bytes, a),
              t_bytes(r->label_bytes, b));
    if (!r->n)
        t_put(t, "<td>–</td><td>–</td>");
    else {
        t_put(t, "<td%s>%.2f", is_best(d, r) ? " class=\"best\"" : "", 100 * r->mean);
        if (r->n > 1) t_put(t, " <span class=\"sub\">± %.2f</span>", 100 * r->sd);
        t_put(t, "</td><td>%d <span class=\"sub\">/ %d</span></td>", r->n, r->full ? 1 : r->n_sets);
    }
    if (has_best(d, r) && isnan(r->best)) t_put(t, "<td>–</td>");
    else if (has_best(d, r)) t_put(t, "<td>%.2f</td>", 100 * r->best);
    if (isnan(r->gap))
        t_put(t, "<td>–</td>");
    else {
        bool clear = !isnan(r->gap_se) && fabs(r->gap) > 2 * r->gap_se;
        t_put(t, "<td class=\"%s\">%+.2f", !clear ? "" : r->gap > 0 ? "up" : "down", 100 * r->gap);
        if (!isnan(r->gap_se)) t_put(t, " <span class=\"sub\">± %.2f</span>", 100 * r->gap_se);
        t_put(t, "</td>");
    }
    t_put(t, "<td>%s</td><td>%s</td>", t_seconds(r->build_s, a), r->teacher_s > 0 ? t_seconds(r->teacher_s, b) : "–");
    t_put(t, "<td>%s</td><td>%s</td>", t_gflop(r->build_flops, a), t_big(r->build_images, b));
    t_put(t, "<td>%s</td></tr>\n", t_bytes(r->build_peak, a));
}

void part_headline(text *t, const d_data *d)
{
    for (int i = 0; i < d->n_row; i++) {
        const d_summary *r = &d->row[i], *last = i ? &d->row[i - 1] : NULL;
        bool opens = !last || !part_same_pair(last, r);
        if (opens && r->full) { /* no set was evaluated like this: the teachers */
            t_put(t, "<p class=\"note\">");
            t_html(t, r->protocol);
            t_put(t, ", ");
            t_html(t, r->student);
            t_put(t, ", on all images: %.2f", 100 * r->mean);
            if (r->n > 1) t_put(t, " ± %.2f", 100 * r->sd);
            t_put(t, "&thinsp;%% (%d network%s).</p>\n", r->n, r->n == 1 ? "" : "s");
            continue;
        }
        if (opens) {
            t_put(t, "<div class=\"wide\"><table><caption>");
            if (r->protocol[0]) {
                t_put(t, "Protocol ");
                t_html(t, r->protocol);
                t_put(t, ", student ");
                t_html(t, r->student);
            } else
                t_put(t, "Constructed, not evaluated");
            t_put(t, "</caption>\n<thead><tr><th>method</th><th>IPC</th><th>stored<br>images + labels</th>"
                     "<th>top-1, %%</th><th>networks<br>/ "
                     "sets</th>%s<th>against<br>random</th><th>construction</th><th>+ teacher</th>"
                     "<th>GFLOP</th><th>images<br>seen</th><th>peak<br>memory</th></tr></thead><tbody>\n",
                  has_best(d, r) ? "<th>best over<br>checks, %</th>" : "");
        }
        headline_row(t, d, r, !opens && (last->ipc != r->ipc || last->full != r->full));
        if (i + 1 == d->n_row || !part_same_pair(&d->row[i + 1], r)) t_put(t, "</tbody></table></div>\n");
    }
    t_put(t, "<p class=\"note\">Top-1 is the last epoch's, mean ± standard deviation over the networks; the difference "
             "to random "
             "carries its standard error and is coloured beyond two of them. Construction is the mean of one set. "
             "Teacher: networks trained once on all images, for the methods that select by their features or scores. "
             "Bytes are those of the stored files. Best over checks, where there is one, is chosen on the test images: it is "
             "there to be compared with papers that report it.</p>\n");
}
