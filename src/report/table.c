/* The headline table as text: aligned columns for a terminal, pipes for Markdown. */
#include <string.h>

#include "base/alloc.h"
#include "report/internal.h"

enum { COLUMNS = 12, BEST = 6, CELL = 48 };

typedef struct table_row {
    char cell[COLUMNS][CELL];
    bool rule; /* a rule above: another IPC */
} table_row;

static const char *const head[COLUMNS] = {"method",    "IPC",   "images",    "labels", "top-1 %", "n",
                                          "best %", "vs random", "build", "+ teacher", "GFLOP",  "peak mem"};

static void fill(const d_summary *r, table_row *o)
{
    char a[T_FIG];
    snprintf(o->cell[0], CELL, "%s", r->full ? "all images" : r->method);
    if (r->full)
        snprintf(o->cell[1], CELL, "–");
    else
        snprintf(o->cell[1], CELL, "%lld", (long long)r->ipc);
    snprintf(o->cell[2], CELL, "%s", t_bytes(r->image_bytes, a));
    snprintf(o->cell[3], CELL, "%s", t_bytes(r->label_bytes, a));
    if (!r->n)
        snprintf(o->cell[4], CELL, "–");
    else if (r->n == 1)
        snprintf(o->cell[4], CELL, "%.2f", 100 * r->mean);
    else
        snprintf(o->cell[4], CELL, "%.2f ± %.2f", 100 * r->mean, 100 * r->sd);
    snprintf(o->cell[5], CELL, "%d", r->n);
    if (isnan(r->best))
        snprintf(o->cell[BEST], CELL, "–");
    else
        snprintf(o->cell[BEST], CELL, "%.2f", 100 * r->best);
    if (isnan(r->gap))
        snprintf(o->cell[7], CELL, "–");
    else
        snprintf(o->cell[7], CELL, "%+.2f", 100 * r->gap);
    snprintf(o->cell[8], CELL, "%s", t_seconds(r->build_s, a));
    snprintf(o->cell[9], CELL, "%s", r->teacher_s > 0 ? t_seconds(r->teacher_s, a) : "–");
    snprintf(o->cell[10], CELL, "%s", t_gflop(r->build_flops, a));
    snprintf(o->cell[11], CELL, "%s", t_bytes(r->build_peak, a));
}

static int columns_of(const char *s) /* characters, not bytes */
{
    int n = 0;
    for (; *s; s++) n += ((unsigned char)*s & 0xC0) != 0x80;
    return n;
}

static void put_line(text *t, const table_row *row, const int width[COLUMNS], bool markdown)
{
    for (int c = 0; c < COLUMNS; c++) {
        if (!width[c]) continue; /* a column that says nothing */
        const char *cell = row ? row->cell[c] : head[c];
        int pad = width[c] - columns_of(cell);
        t_put(t, markdown ? c ? " | " : "| " : c ? "  " : "");
        if (c)
            t_put(t, "%*s%s", pad, "", cell);
        else
            t_put(t, "%s%*s", cell, pad, "");
    }
    t_put(t, markdown ? " |\n" : "\n");
}

rt_status rt_report_table(rt_results *r, rt_table_style style, char **out)
{
    rt_status st = RT_OK;
    d_data d = {0};
    table_row *rows = NULL;
    text t = {0};
    bool markdown = style == RT_TABLE_MARKDOWN;
    RT_TRY(d_load(r, &d));
    if (!d.n_row) {
        t_put(&t, "no results yet\n");
        RT_TRY(t_take(&t, out));
        goto out;
    }
    across_text(&t, &d, markdown);
    RT_ALLOC(rows, (size_t)d.n_row * sizeof *rows, "table");
    int width[COLUMNS];
    bool checked = false; /* some students were scored along their training */
    for (int c = 0; c < COLUMNS; c++) width[c] = columns_of(head[c]);
    for (int i = 0; i < d.n_row; i++) {
        fill(&d.row[i], &rows[i]);
        for (int c = 0; c < COLUMNS; c++) {
            int w = columns_of(rows[i].cell[c]);
            if (w > width[c]) width[c] = w;
        }
        checked = checked || !isnan(d.row[i].best);
    }
    if (!checked) width[BEST] = 0;
    for (int i = 0; i < d.n_row; i++) {
        const d_summary *row = &d.row[i], *last = i ? &d.row[i - 1] : NULL;
        bool opens = !last || strcmp(last->protocol, row->protocol) || strcmp(last->student, row->student);
        const char *bold = markdown ? "**" : "", *apart = i ? "\n" : "";
        if (opens && row->full) { /* no set was evaluated like this: the teachers */
            t_put(&t, "%s%s, %s, on all images: %s %% (n = %d)\n", apart, row->protocol, row->student, rows[i].cell[4],
                  row->n);
            continue;
        }
        if (opens) {
            if (row->protocol[0])
                t_put(&t, "%s%s%s, student %s%s\n\n", apart, bold, row->protocol, row->student, bold);
            else
                t_put(&t, "%s%snot evaluated%s\n\n", apart, bold, bold);
            put_line(&t, NULL, width, markdown);
            if (markdown) {
                for (int c = 0; c < COLUMNS; c++)
                    if (width[c]) t_put(&t, c ? " ---: |" : "| --- |");
                t_put(&t, "\n");
            }
        } else if (!markdown && (last->ipc != row->ipc || last->full != row->full)) {
            t_put(&t, "\n");
        }
        put_line(&t, &rows[i], width, markdown);
    }
    t_put(&t,
          "\ntop-1: last epoch, mean ± sd over n networks. build: mean seconds, GFLOP and largest peak of one "
          "construction;\n"
          "+ teacher: networks trained on all images, needed once by the methods that select by features or scores, or that match\n"
          "experts' trajectories.\n");
    if (checked) t_put(&t, "best: mean of the highest accuracy over checks on the test images; only to be compared with papers that report it.\n");
    RT_TRY(t_take(&t, out));
out:
    t_free(&t);
    rt_free(rows);
    d_fini(&d);
    return st;
}
