/* Shared by the files of src/report. */
#ifndef RT_REPORT_INTERNAL_H
#define RT_REPORT_INTERNAL_H

#include <math.h>
#include <sqlite3.h>

#include "report/report.h"

/* --- store.c -------------------------------------------------------------------------------------------------------
 */
enum { RES_RUNS, RES_SETS, RES_EVALS, RES_METRICS, RES_COSTS, RES_TABLES };
typedef struct res_table {
    const char *name;
    const char *columns; /* "name TYPE, ..." */
    const char *key;     /* columns of the primary key */
    int n;
} res_table;
extern const res_table res_tables[RES_TABLES];

struct rt_results {
    sqlite3 *db;
    sqlite3_stmt *put[RES_TABLES];
    char *path;
};
/* Raises what SQLite says; `rc` is its return code. */
rt_status res_error(const rt_results *r, int rc, const char *doing);
/* All rows of a table in key order. The caller finalises. */
rt_status res_select(rt_results *r, int table, sqlite3_stmt **out);
rt_status res_step(rt_results *r, sqlite3_stmt *s, bool *row);

/* --- data.c --------------------------------------------------------------------------------------------------------
 */
typedef struct d_set {
    char *id, *method, *title, *family, *path;
    int64_t ipc, seed, n;
    double image_bytes, label_bytes;
    bool synthetic;
    int uses_teacher; /* report.h */
    int64_t iteration, factor;
    char *space, *soft_labels, *notes; /* "" when not known */
    double step_size;
} d_set;
typedef struct d_eval {
    char *set, *protocol, *student;
    const d_set *owner; /* NULL for all training images, and for sets that this run does not hold */
    int64_t network;
    double accuracy, best, images_seen, flops, wall_s; /* best: NaN without checks */
    double *per_class;
    int32_t n_classes;
} d_eval;
typedef struct d_metric {
    char *set, *name;
    const d_set *owner;
    int64_t k, class_index;
    double value, expected;
} d_metric;
typedef struct d_cost {
    char *stage, *item, *method;
    const d_set *owner; /* of a construction */
    rt_cost_entry cost;
} d_cost;
/* Mean over the sets and networks of one cell of the grid. */
typedef struct d_summary {
    const char *method, *title, *family, *protocol,
        *student; /* borrowed from the data; protocol "" when not evaluated */
    int64_t ipc, n_images;
    bool full, synthetic;
    int uses_teacher;
    int n, n_sets;      /* networks, sets */
    double mean, sd;    /* of accuracy, fractions; sd NaN below two networks */
    double best;        /* mean of the best over checks; NaN unless every network was checked */
    double gap, gap_se; /* to random at the same IPC, protocol and student; NaN when there is none */
    double image_bytes, label_bytes;
    double build_s, build_flops, build_images, build_peak; /* mean per construction; NaN when not recorded */
    double teacher_s;                                      /* of teach, when the method needed it, else 0 */
} d_summary;
typedef struct d_data {
    char *name, *config, *command, *device, *version, *dataset;
    char **classes;
    int32_t n_classes, size;
    int64_t n_train, n_test;
    d_set *set, *snapshot;
    d_eval *eval;
    d_metric *metric;
    d_cost *cost;
    d_summary *row;
    int n_set, n_snapshot, n_eval, n_metric, n_cost, n_row;
} d_data;
rt_status d_load(rt_results *r, d_data *out);
void d_fini(d_data *d);
void *d_room(void *list, int n, size_t size, rt_status *st); /* makes room for element n; zeroed; on failure *st is set */
int64_t d_next_ipc(const d_data *d, int64_t after); /* the next size of the sets, 0 past the last */
rt_status d_summarise(d_data *d);                   /* summary.c: fills row */
const d_set *d_find_set(const d_data *d, const char *id); /* NULL when absent */
rt_status d_set_path(const d_set *s, const char *run_dir, char *out, size_t n); /* its folder */
/* Mean over the sets of (method, ipc) of a metric; NaN when absent. expected may be NULL. */
double d_metric_mean(const d_data *d, const char *method, int64_t ipc, const char *name, int64_t k, int64_t cls,
                     double *expected);

/* --- text.c: growing text and the way figures are written ----------------------------------------------------------
 */
typedef struct text {
    char *s;
    size_t n, cap;
    rt_status st; /* sticky: the first failure */
} text;
void t_put(text *t, const char *fmt, ...) RT_PRINTF(2, 3);
void t_raw(text *t, const char *s, size_t n);
void t_html(text *t, const char *s); /* escaped for text and attributes */
void t_base64(text *t, const void *p, size_t n);
rt_status t_take(text *t, char **out); /* hands the text over, or the sticky status */
void t_free(text *t);
enum { T_FIG = 32 };
const char *t_seconds(double s, char buf[T_FIG]);   /* "4.2 s", "3 min 05 s", "1 h 20 min"; "–" for NaN */
const char *t_bytes(double b, char buf[T_FIG]);     /* "310 KB", decimal units */
const char *t_count(double x, char buf[T_FIG]);     /* "1,281,167" */
const char *t_big(double x, char buf[T_FIG]);       /* "1.23 M" */
const char *t_gflop(double flops, char buf[T_FIG]); /* "0.31", "12.4", "40,000" */

/* --- plot.c --------------------------------------------------------------------------------------------------------
 */
/* Runs gnuplot on a script whose output is SVG and returns the picture, fit to stand inside a page (colours of text and
 * axes follow the page). RT_ERR_UNSUPPORTED with a remedy when gnuplot is not installed. */
rt_status plot_svg(const char *script, int width, int height, char **svg);
rt_status plot_accuracy_cost(const d_data *d, const char *protocol, const char *student, char **svg);
rt_status plot_accuracy_ipc(const d_data *d, const char *protocol, const char *student, char **svg);
rt_status plot_coverage(const d_data *d, int64_t ipc, int64_t k, char **svg);
rt_status plot_costs(const d_data *d, char **svg);
/* curves.c: accuracy over iterations from snapshots; loss over iterations from the traces of a method's sets. */
rt_status plot_curves(const d_data *d, const char *protocol, const char *student, char **svg);
rt_status plot_trace(const d_data *d, const char *method, const char *run_dir, char **svg);
bool plot_pair_at(const d_data *d, int index, const char **protocol, const char **student); /* false past the end */
void plot_name(text *t, const char *s); /* reduced to what may stand inside quotes of a script */
/* The colour of a method, the same everywhere: "#rrggbb". */
const char *plot_colour(const d_data *d, const char *method);

/* --- html_*.c: the sections of the page ------------------------------------------------------------------------
 */
bool part_same_pair(const d_summary *a, const d_summary *b);
void part_swatch(text *t, const d_data *d, const char *method);
void part_summary(text *t, const d_data *d);
void part_headline(text *t, const d_data *d);
/* across.c: a row per method and a column per protocol; nothing where one protocol was asked for */
void part_across(text *t, const d_data *d);
void across_text(text *t, const d_data *d, bool markdown);
void part_grids(text *t, const d_data *d, const char *run_dir);
void part_notes(text *t, const d_data *d);
void part_metrics(text *t, const d_data *d);
void part_per_class(text *t, const d_data *d);
void part_costs(text *t, const d_data *d);
void part_protocol(text *t, const d_data *d);

#endif
