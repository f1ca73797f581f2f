/* The sections of the page: the answer in words, tables, image grids, costs, protocol. */
#include <limits.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "report/internal.h"

static bool same_pair(const d_summary *a, const d_summary *b)
{
    return !strcmp(a->protocol, b->protocol) && !strcmp(a->student, b->student);
}

static void put_swatch(text *t, const d_data *d, const char *method)
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
        if (r->full || !r->n || r->ipc != like->ipc || !same_pair(r, like) || r->synthetic != kind) continue;
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
        if (d->row[i].full && d->row[i].n && same_pair(&d->row[i], group))
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
        if (r->full || !r->n || !same_pair(r, &d->row[0]) || (i && d->row[i - 1].ipc == r->ipc && !d->row[i - 1].full))
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
        if (!o->full && o->n && o->ipc == r->ipc && same_pair(o, r) && o->mean > r->mean) return false;
    }
    return r->n && !r->full;
}

static void headline_row(text *t, const d_data *d, const d_summary *r, bool group)
{
    char a[T_FIG], b[T_FIG];
    t_put(t, "<tr%s><td>", group ? " class=\"group\"" : "");
    if (r->full)
        t_put(t, "<span class=\"swatch\"></span>all images");
    else
        put_swatch(t, d, r->method);
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
        bool opens = !last || !same_pair(last, r);
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
                     "sets</th><th>against<br>random</th><th>construction</th><th>+ teacher</th>"
                     "<th>GFLOP</th><th>images<br>seen</th><th>peak<br>memory</th></tr></thead><tbody>\n");
        }
        headline_row(t, d, r, !opens && (last->ipc != r->ipc || last->full != r->full));
        if (i + 1 == d->n_row || !same_pair(&d->row[i + 1], r)) t_put(t, "</tbody></table></div>\n");
    }
    t_put(t, "<p class=\"note\">Top-1 is the last epoch's, mean ± standard deviation over the networks; the difference "
             "to random "
             "carries its standard error and is coloured beyond two of them. Construction is the mean of one set. "
             "Teacher: networks trained once on all images, for the methods that select by their features or scores. "
             "Bytes are those of the stored files.</p>\n");
}

/* --- image grids ---------------------------------------------------------------------------------------------------
 */
enum { GRID_CLASSES = 10, GRID_IMAGES = 10 };

static void put_grid(text *t, const d_data *d, const d_set *s, const char *run_dir)
{
    rt_status st = RT_OK;
    rt_set set = {0};
    void *png = NULL;
    size_t bytes = 0;
    char path[PATH_MAX];
    t_put(t, "<figure><figcaption title=\"");
    t_html(t, s->title);
    t_put(t, "\"><b>");
    put_swatch(t, d, s->method);
    t_put(t, "</b> · seed %lld<br>", (long long)s->seed);
    t_html(t, s->title);
    t_put(t, "</figcaption>");
    RT_TRY(rt_fs_join(path, sizeof path, run_dir, s->path));
    RT_TRY(rt_set_read(path, false, &set, NULL));
    rt_grid_opts o = {
        .max_classes = GRID_CLASSES, .max_ipc = GRID_IMAGES, .zoom = 1, .gap = 1, .scale = RT_GRID_STORED};
    RT_TRY(rt_grid_png(&set, &o, &png, &bytes));
    int32_t rows = set.classes.n < GRID_CLASSES ? set.classes.n : GRID_CLASSES;
    int32_t cols = set.ipc < GRID_IMAGES ? set.ipc : GRID_IMAGES;
    int width = cols * (set.w + 1) + 1; /* small images are enlarged by the page, two grids beside each other */
    if (set.w < 48) width = width * 7 / 5;
    t_put(t, "<div class=\"grid\" style=\"width:%dpx\"><ol>", width + 83);
    for (int32_t r = 0; r < rows; r++) {
        int32_t c = rows == 1 ? 0 : (int32_t)((int64_t)r * (set.classes.n - 1) / (rows - 1));
        t_put(t, "<li>");
        t_html(t, set.classes.name[c]);
        t_put(t, "</li>");
    }
    t_put(t, "</ol><img width=\"%d\" alt=\"", width);
    t_html(t, s->id);
    t_put(t, "\" src=\"data:image/png;base64,");
    t_base64(t, png, bytes);
    t_put(t, "\"></div>");
out:
    if (st != RT_OK) { /* a set that cannot be shown is said, in the page and in the log */
        rt_log_line(RT_LOG_WARN, "report: no images of %s: %s", s->id, rt_error_what());
        t_put(t, "<p class=\"warning\">No images: ");
        t_html(t, rt_error_what());
        t_put(t, "</p>");
    }
    t_put(t, "</figure>\n");
    rt_free(png);
    rt_set_fini(&set);
}

/* Sets in the order of the tables; lead: the first seed of each method, else all others. */
static int put_sets(text *t, const d_data *d, const char *run_dir, int64_t ipc, bool lead)
{
    int shown = 0;
    for (int i = 0; i < d->n_row; i++) {
        const d_summary *r = &d->row[i];
        bool first_pair = true;
        for (int k = 0; k < i; k++)
            first_pair =
                first_pair && (d->row[k].full || d->row[k].ipc != r->ipc || strcmp(d->row[k].method, r->method));
        if (r->full || r->ipc != ipc || !first_pair) continue;
        const d_set *lowest = NULL;
        for (int k = 0; k < d->n_set; k++) {
            const d_set *s = &d->set[k];
            if (s->ipc == ipc && !strcmp(s->method, r->method) && (!lowest || s->seed < lowest->seed)) lowest = s;
        }
        for (int k = 0; k < d->n_set; k++) {
            const d_set *s = &d->set[k];
            if (s->ipc != ipc || strcmp(s->method, r->method) || (s == lowest) != lead) continue;
            put_grid(t, d, s, run_dir);
            shown++;
        }
    }
    return shown;
}

void part_grids(text *t, const d_data *d, const char *run_dir)
{
    if (!d->n_set) return;
    t_put(t, "<h2>The images</h2>\n<p class=\"note\">The same classes in every set, %s. Pixels as stored.</p>\n",
          d->n_classes > GRID_CLASSES ? "ten of them evenly spread" : "in class order");
    int64_t done = 0;
    for (;;) { /* IPCs in ascending order */
        int64_t ipc = INT64_MAX;
        for (int i = 0; i < d->n_set; i++)
            if (d->set[i].ipc > done && d->set[i].ipc < ipc) ipc = d->set[i].ipc;
        if (ipc == INT64_MAX) break;
        done = ipc;
        t_put(t, "<h3>%lld image%s per class%s</h3>\n<div class=\"sets\">\n", (long long)ipc, ipc == 1 ? "" : "s",
              ipc > GRID_IMAGES ? ", the first ten" : "");
        int n = put_sets(t, d, run_dir, ipc, true), total = 0;
        t_put(t, "</div>\n");
        for (int i = 0; i < d->n_set; i++) total += d->set[i].ipc == ipc;
        if (total > n) {
            t_put(t, "<details><summary>The other %d constructions</summary><div class=\"sets\">\n", total - n);
            put_sets(t, d, run_dir, ipc, false);
            t_put(t, "</div></details>\n");
        }
    }
}

/* --- metrics -------------------------------------------------------------------------------------------------------
 */
void part_metrics(text *t, const d_data *d)
{
    enum { MAX = 24 };
    const d_metric *col[MAX]; /* one of each name and k, pooled */
    int n = 0;
    for (int i = 0; i < d->n_metric; i++) {
        const d_metric *m = &d->metric[i];
        bool fresh = m->class_index == -1;
        for (int k = 0; k < n && fresh; k++) fresh = strcmp(col[k]->name, m->name) || col[k]->k != m->k;
        if (fresh && n < MAX) col[n++] = m;
    }
    if (!n) return;
    t_put(t, "<div class=\"wide\"><table><thead><tr><th>method</th><th>IPC</th>");
    for (int c = 0; c < n; c++) {
        t_put(t, "<th>");
        t_html(t, col[c]->name);
        if (col[c]->k) t_put(t, " <span class=\"sub\">k = %lld</span>", (long long)col[c]->k);
        t_put(t, "</th>");
    }
    t_put(t, "</tr></thead><tbody>\n");
    const d_summary *last = NULL;
    for (int i = 0; i < d->n_row; i++) {
        const d_summary *r = &d->row[i];
        bool fresh = !r->full;
        for (int k = 0; k < i; k++)
            fresh = fresh && (d->row[k].full || d->row[k].ipc != r->ipc || strcmp(d->row[k].method, r->method));
        if (!fresh) continue;
        t_put(t, "<tr%s><td>", last && last->ipc != r->ipc ? " class=\"group\"" : "");
        put_swatch(t, d, r->method);
        t_put(t, "</td><td>%lld</td>", (long long)r->ipc);
        for (int c = 0; c < n; c++) {
            double expected, v = d_metric_mean(d, r->method, r->ipc, col[c]->name, col[c]->k, -1, &expected);
            if (isnan(v))
                t_put(t, "<td>–</td>");
            else {
                t_put(t, "<td>%.4g", v);
                if (!isnan(expected)) t_put(t, " <span class=\"sub\">/ %.3g</span>", expected);
                t_put(t, "</td>");
            }
        }
        t_put(t, "</tr>\n");
        last = r;
    }
    t_put(t, "</tbody></table></div>\n<p class=\"note\">Means over the constructions of a method. After the slash: "
             "what a random "
             "subset of the same size is expected to have. A subset of the real images has precision 1; Fréchet "
             "distance, MMD and "
             "Vendi depend on the size of the set and compare only within one IPC.</p>\n");
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
    for (int i = 0; i < d->n_row && same_pair(&d->row[i], &d->row[0]); i++) {
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
        for (int i = 0; i < d->n_row && same_pair(&d->row[i], &d->row[0]); i++) {
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

/* --- costs ---------------------------------------------------------------------------------------------------------
 */
/* Sums of all pieces of a stage, constructions by method. */
typedef struct cost_sum {
    const char *stage, *method;
    rt_cost_entry sum;
    int n, resumed;
} cost_sum;
enum { MAX_COST_ROWS = 64 };

static int sum_costs(const d_data *d, cost_sum rows[MAX_COST_ROWS])
{
    static const char *const order[] = {"index", "teach", "build", "eval", "measure"};
    int n = 0;
    for (size_t s = 0; s <= sizeof order / sizeof *order; s++) { /* the last round takes stages of other names */
        for (int i = 0; i < d->n_cost; i++) {
            const d_cost *c = &d->cost[i];
            size_t at = 0;
            while (at < sizeof order / sizeof *order && strcmp(order[at], c->stage)) at++;
            if (at != s) continue;
            int k = 0;
            while (k < n && (strcmp(rows[k].stage, c->stage) || strcmp(rows[k].method, c->method))) k++;
            if (k == MAX_COST_ROWS) continue;
            if (k == n) rows[n++] = (cost_sum){.stage = c->stage, .method = c->method};
            cost_sum *r = &rows[k];
            const rt_cost_entry *x = &c->cost;
            r->sum.wall_s += x->wall_s, r->sum.cpu_s += x->cpu_s, r->sum.device_s += x->device_s;
            r->sum.flops += x->flops, r->sum.energy_j += x->energy_j;
            r->sum.images_decoded += x->images_decoded, r->sum.images_seen += x->images_seen;
            r->sum.peak_host_bytes = fmax(r->sum.peak_host_bytes, x->peak_host_bytes);
            r->sum.peak_device_bytes = fmax(r->sum.peak_device_bytes, x->peak_device_bytes);
            r->resumed += x->segments > 1;
            r->n++;
        }
    }
    return n;
}

static void put_joules(text *t, double j)
{
    if (isnan(j))
        t_put(t, "<td>–</td>");
    else
        t_put(t, j < 3600 ? "<td>%.0f J</td>" : "<td>%.2f Wh</td>", j < 3600 ? j : j / 3600);
}

void part_costs(text *t, const d_data *d)
{
    char a[T_FIG], b[T_FIG], c[T_FIG];
    cost_sum rows[MAX_COST_ROWS];
    bool device = false, energy = false;
    int n = sum_costs(d, rows);
    for (int i = 0; i < n; i++) {
        device = device || rows[i].sum.device_s > 0 || rows[i].sum.peak_device_bytes > 0;
        energy = energy || !isnan(rows[i].sum.energy_j);
    }
    t_put(t,
          "<div class=\"wide\"><table><thead><tr><th>stage</th><th>pieces</th><th>of them resumed</th><th>wall</th>"
          "<th>processor</th><th>GFLOP</th><th>images decoded</th><th>images seen</th><th>peak "
          "memory</th>%s%s</tr></thead>"
          "<tbody>\n",
          device ? "<th>device</th><th>device memory</th>" : "", energy ? "<th>energy</th>" : "");
    for (int i = 0; i < n; i++) {
        const rt_cost_entry *x = &rows[i].sum;
        t_put(t, "<tr><td>");
        t_html(t, rows[i].stage);
        if (rows[i].method[0]) {
            t_put(t, " ");
            t_html(t, rows[i].method);
        }
        t_put(t, "</td><td>%d</td><td>%d</td><td>%s</td><td>%s</td><td>%s</td>", rows[i].n, rows[i].resumed,
              t_seconds(x->wall_s, a), t_seconds(x->cpu_s, b), t_gflop(x->flops, c));
        t_put(t, "<td>%s</td><td>%s</td><td>%s</td>", t_big(x->images_decoded, a), t_big(x->images_seen, b),
              t_bytes(x->peak_host_bytes, c));
        if (device) t_put(t, "<td>%s</td><td>%s</td>", t_seconds(x->device_s, a), t_bytes(x->peak_device_bytes, b));
        if (energy) put_joules(t, x->energy_j);
        t_put(t, "</tr>\n");
    }
    t_put(t,
          "</tbody></table></div>\n<p class=\"note\">GFLOP: 10⁹ floating-point operations counted from the graph, a "
          "multiply-add "
          "is two. Peak memory is the process's high-water mark. Interrupted work counts: the segments of a resumed "
          "piece are "
          "summed.%s</p>\n",
          energy ? "" : " Energy was not measured: there was no counter to read.");
}

/* --- protocol ------------------------------------------------------------------------------------------------------
 */
/* The resolved config as lists. Its lines are `key: value`, `section:` and `  key: value`, as rt_config_yaml writes
 * them. */
static void put_knobs(text *t, const char *yaml)
{
    bool open = false;
    t_put(t, "<div class=\"knobs\">");
    while (*yaml) {
        size_t n = strcspn(yaml, "\n");
        char line[1024];
        snprintf(line, sizeof line, "%.*s", (int)(n < 1000 ? n : 1000), yaml);
        yaml += n + (yaml[n] == '\n');
        char *colon = strchr(line, ':');
        if (!colon) continue;
        const char *key = line + (line[0] == ' ' ? 2 : 0), *value = colon + 1;
        while (*value == ' ') value++;
        *colon = 0;
        bool section = line[0] != ' ' && !*value;
        if (section || !open) {
            if (open) t_put(t, "</dl></section>");
            t_put(t, "<section><h3>");
            t_html(t, section ? key : "run");
            t_put(t, "</h3><dl>");
            open = true;
        }
        if (section) continue;
        t_put(t, "<dt>");
        t_html(t, key);
        t_put(t, "</dt><dd>");
        size_t length = strlen(value);
        if (length >= 2 && value[0] == '"' && value[length - 1] == '"') { /* quotes are YAML's, not the reader's */
            line[(size_t)(value - line) + length - 1] = 0;
            value++;
        }
        t_html(t, value[0] ? value : "–");
        t_put(t, "</dd>");
    }
    if (open) t_put(t, "</dl></section>");
    t_put(t, "</div>\n");
}

void part_protocol(text *t, const d_data *d)
{
    t_put(t, "<h2>Repeat it</h2>\n");
    if (d->command[0]) {
        t_put(t, "<pre>");
        t_html(t, d->command);
        t_put(t, "</pre>\n");
    }
    t_put(t, "<p class=\"note\">Every figure as a table: ");
    for (int i = 0; i < RES_TABLES; i++)
        t_put(t, "%s<a href=\"%s.csv\">%s.csv</a> <a href=\"%s.jsonl\">.jsonl</a>", i ? " · " : "", res_tables[i].name,
              res_tables[i].name, res_tables[i].name);
    t_put(t, "; queryable in <code>../results.db</code> (SQLite).</p>\n");
    if (d->config[0]) {
        t_put(t, "<h2>Every knob</h2>\n");
        put_knobs(t, d->config);
    }
}
