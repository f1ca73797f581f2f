/* Sections of the page about the sets themselves: their images, and what each says about its construction. */
#include <limits.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "report/internal.h"

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
    part_swatch(t, d, s->method);
    t_put(t, "</b> · seed %lld<br>", (long long)s->seed);
    t_html(t, s->title);
    t_put(t, "</figcaption>");
    RT_TRY(d_set_path(s, run_dir, path, sizeof path));
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
    for (int64_t ipc = d_next_ipc(d, 0); ipc; ipc = d_next_ipc(d, ipc)) {
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

/* --- notes ---------------------------------------------------------------------------------------------------------
 */
static void notes_row(text *t, const d_data *d, const d_set *s, const json_t *notes)
{
    json_int_t iterations = json_integer_value(json_object_get(notes, "iterations"));
    json_int_t skipped = json_integer_value(json_object_get(notes, "skipped"));
    const json_t *list = json_object_get(notes, "deviations");
    t_put(t, "<tr><td>");
    part_swatch(t, d, s->method);
    t_put(t, "</td><td>%lld</td><td>%lld</td><td>", (long long)s->ipc, (long long)s->seed);
    t_html(t, s->space[0] ? s->space : "–");
    t_put(t, "</td><td>");
    t_html(t, s->soft_labels[0] && strcmp(s->soft_labels, "none") ? s->soft_labels : "class");
    if (s->factor > 1) t_put(t, "</td><td>%lld × %lld", (long long)s->factor, (long long)s->factor);
    else t_put(t, "</td><td>–");
    if (s->step_size > 0) t_put(t, "</td><td>%.4g</td>", s->step_size);
    else t_put(t, "</td><td>–</td>");
    if (iterations) t_put(t, "<td>%lld</td><td>%lld</td>", (long long)iterations, (long long)skipped);
    else t_put(t, "<td>–</td><td>–</td>");
    t_put(t, "<td class=\"words\">");
    for (size_t k = 0; k < json_array_size(list); k++) {
        const char *line = json_string_value(json_array_get(list, k));
        if (!line) continue;
        if (k) t_put(t, "; ");
        t_html(t, line);
    }
    if (!json_array_size(list)) t_put(t, "–");
    t_put(t, "</td></tr>\n");
}

void part_notes(text *t, const d_data *d)
{
    int shown = 0;
    for (int i = 0; i < d->n_set; i++) {
        const d_set *s = &d->set[i];
        if (!s->synthetic) continue;
        if (!shown++)
            t_put(t, "<h2>How they were made</h2>\n<div class=\"wide\"><table><thead><tr><th>method</th><th>IPC</th><th>seed</th>"
                     "<th>pixels</th><th>labels</th><th>tiles</th><th>learned<br>rate</th><th>iterations</th>"
                     "<th>without<br>update</th><th class=\"words\">differs from the published method</th></tr></thead><tbody>\n");
        json_t *notes = s->notes[0] ? json_loads(s->notes, JSON_REJECT_DUPLICATES, NULL) : NULL;
        notes_row(t, d, s, notes);
        json_decref(notes);
    }
    if (shown) t_put(t, "</tbody></table></div>\n");
}
