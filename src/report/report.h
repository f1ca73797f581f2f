/* Results and what people see of them. Reads results.db and set folders, never models or training data.
 *
 *   store.c   results.db: one SQLite file per run (WAL), five tables, rows replaced by key, so that a stage may be
 * repeated export.c  the tables as CSV and JSONL data.c    everything of a run in memory summary.c one row per
 * method, IPC, protocol and student curves.c accuracy and loss along a construction table.c   the headline table for terminals and Markdown grid.c    image grids plot.c
 * gnuplot to SVG html.c    the self-contained page
 */
#ifndef RT_REPORT_REPORT_H
#define RT_REPORT_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "artefact/artefact.h"
#include "retort/status.h"

/* --- results.db ----------------------------------------------------------------------------------------------------
 */
typedef struct rt_results rt_results;

/* Opens or creates. A file of another kind or a newer version is RT_ERR_FORMAT. */
rt_status rt_results_open(const char *path, rt_results **out);
void rt_results_close(rt_results *r); /* accepts NULL */
/* Groups puts into one transaction; without them each put is its own. */
rt_status rt_results_begin(rt_results *r);
rt_status rt_results_commit(rt_results *r);

/* Strings are borrowed and may be NULL where a comment says so. Doubles that are NaN are stored as NULL ("not
 * measured"). */
typedef struct rt_row_run {
    const char *name;    /* run.name */
    const char *config;  /* resolved YAML */
    const char *command; /* one line that reproduces the run */
    const char *device;  /* rt_backend_describe */
    const char *version; /* program version and revision */
    const char *dataset; /* kind and counts, for people: "cifar10: 50,000 train, 10,000 test, 10 classes" */
    const rt_classes *classes;
    int64_t n_train, n_test;
    int32_t size; /* image side, pixels */
} rt_row_run;
rt_status rt_results_put_run(rt_results *r, const rt_row_run *row); /* one row a file: replaces the last */

typedef struct rt_row_set {
    const char *id; /* "dm-ipc10-s0": folder name under sets/; the key */
    const char *method, *title, *family;
    int64_t ipc, seed, n; /* n: images */
    int64_t image_bytes, label_bytes;
    const char *path;  /* relative to the run folder: "sets/dm-ipc10-s0" */
    bool synthetic;    /* images were optimised, not selected */
    int uses_teacher; /* construction needed networks of `teach` (bit 0), experts (bit 1), the rest of the committee (bit 2): their cost is shown beside */
    int64_t iteration; /* > 0: a snapshot of the construction after so many iterations; 0: the finished set */
    const char *space, *soft_labels; /* as in the manifest; NULL: not known */
    int64_t factor;                  /* tiles a side; 0 or 1: none */
    double step_size;                /* learned rate, or NaN */
    const char *notes;               /* JSON object: "iterations", "skipped", "deviations"; NULL: none */
} rt_row_set;
rt_status rt_results_put_set(rt_results *r, const rt_row_set *row);

/* One trained student. Key: set, protocol, student, network. */
typedef struct rt_row_eval {
    const char *set; /* a set's id, or RT_FULL_SET: all training images */
    const char *protocol, *student;
    int64_t network;
    double accuracy; /* last epoch, fraction */
    int64_t n_correct, n_test;
    double first_loss, last_loss, images_seen, flops, wall_s;
    const double *per_class; /* n_classes fractions, or NULL */
    int32_t n_classes;
    double best;             /* highest over the checks along the training; chosen on test data, so never the headline */
    int64_t best_epoch;      /* 0: there were no checks, and best is not read */
    double lr;               /* that the student started at */
    const char *labels;      /* "hard", "probabilities", "logits", "teacher"; NULL: not known */
} rt_row_eval;
#define RT_FULL_SET "full"
rt_status rt_results_put_eval(rt_results *r, const rt_row_eval *row);

/* One figure about a set. Key: set, name, k, class. */
typedef struct rt_row_metric {
    const char *set,
        *name;           /* "coverage", "density", "precision", "recall", "mmd", "frechet", "vendi", "balance", ... */
    int64_t k;           /* neighbourhood size, or 0 */
    int64_t class_index; /* -1: pooled or mean over classes */
    double value;
    double random_expectation; /* of a random subset of the same size, or NaN */
} rt_row_metric;
rt_status rt_results_put_metric(rt_results *r, const rt_row_metric *row);

/* What a piece of work cost. Key: stage, item. stage: "index" "whiten" "teach" "experts" "build" "eval" "measure"; item: a set's id for
 * build and measure, "<set>/<protocol>-<student>-n<k>" for eval, "net<k>" for teach, "" for index. */
typedef struct rt_row_cost {
    const char *stage, *item;
    const char *method; /* of build rows; NULL elsewhere */
    rt_cost_entry cost;
} rt_row_cost;
rt_status rt_results_put_cost(rt_results *r, const rt_row_cost *row);

/* Every table as <dir>/<table>.csv and <dir>/<table>.jsonl, in key order. */
rt_status rt_results_export(rt_results *r, const char *dir);

/* --- reports -------------------------------------------------------------------------------------------------------
 */
typedef enum rt_table_style { RT_TABLE_TERMINAL, RT_TABLE_MARKDOWN } rt_table_style;
/* Headline: method, IPC, image and label bytes, top-1 mean +- sd (n), difference to random, construction seconds,
 * GFLOP, images seen, peak memory; the full-data reference last. *text is owned. */
rt_status rt_report_table(rt_results *r, rt_table_style style, char **text);

/* Writes <run_dir>/report/: index.html (self-contained), *.csv, *.jsonl, table.md, *.svg. *page is owned, may be NULL.
 * Without gnuplot the page is written without plots and says so, and the status is RT_ERR_UNSUPPORTED. */
rt_status rt_report_html(const char *run_dir, char **page);

/* --- image grids ---------------------------------------------------------------------------------------------------
 */
typedef enum rt_grid_scale {
    RT_GRID_STORED, /* the 8-bit pixels as they are stored */
    RT_GRID_SD      /* mean +- 2.5 sd of the set stretched to the full range: shows synthetic images as papers do */
} rt_grid_scale;
typedef struct rt_grid_opts {
    int32_t max_classes, max_ipc; /* 0: all. Classes are taken evenly spread, the first and the last included */
    int32_t zoom;                 /* nearest-neighbour enlargement; 0: 1 */
    int32_t gap;                  /* pixels between images */
    rt_grid_scale scale;
} rt_grid_opts;
/* One row per class, one column per image. *png is owned. */
rt_status rt_grid_png(const rt_set *s, const rt_grid_opts *o, void **png, size_t *bytes);

#endif
