/* What the verbs of the program share. The program is thin: it parses a command line, loads a config, calls one stage
 * or report function and prints what came back. Nothing outside src/cli prints or exits. */
#ifndef RT_CLI_CLI_H
#define RT_CLI_CLI_H

#include <stdbool.h>
#include <stdio.h>

#include "config/config.h"
#include "retort/status.h"
#include "stage/stage.h"

enum { CLI_MAX_SET = 64, CLI_MAX_POS = 64 };

/* Flags a verb accepts, as a mask. */
enum {
    CLI_CONFIG = 1, /* --config FILE, and a config as first argument */
    CLI_SET = 32,   /* --set, --quick */
    CLI_FORCE = 2,
    CLI_JSON = 4,
    CLI_OUT = 8,  /* --out FILE */
    CLI_IMPORT = 64, /* --method, --map, --space, --logits, --ipc */
    CLI_GRID = 16 /* --zoom, --scale, --classes, --images */
};

typedef struct cli_args {
    const char *program, *config, *out;
    const char *method, *map, *space;
    const char *set[CLI_MAX_SET];
    const char *pos[CLI_MAX_POS]; /* without the config */
    int n_set, n_pos;
    bool json, quick, force, help, logits;
    int64_t zoom, classes, images, ipc;
    bool scale_sd;
} cli_args;

typedef struct cli_verb {
    const char *name, *args, *summary;
    const char *about; /* a few lines for --help, with one example */
    unsigned flags;
    int min_pos, max_pos;
    rt_status (*run)(const cli_args *a);
} cli_verb;

/* verbs.c */
const cli_verb *cli_verb_at(int i); /* NULL past the end */
const cli_verb *cli_verb_find(const char *name);
rt_status cli_help(const char *verb, FILE *f); /* NULL: the program; "config": every key */

/* args.c */
rt_status cli_parse(const cli_verb *v, int argc, char **argv, cli_args *out);
/* The config a verb works on: --config, or the first argument (a file, or a run folder: its resolved.yaml), with
 * --quick and --set applied. Also points progress.json at the run folder. */
rt_status cli_load_config(const cli_args *a, rt_config *out);
/* The same for one file, or for text (not NULL) that stands for it. */
rt_status cli_override(const cli_args *a, const char *path, const char *text, size_t size, rt_config *out);

/* errors.c */
void cli_print_error(rt_status st, const char *where, FILE *f); /* three lines */

/* progress.c */
rt_status cli_progress_start(void); /* installs the log and progress callbacks and starts the heartbeat */
void cli_progress_file(const char *run_dir);
void cli_progress_stop(void); /* ends the live line; safe to call twice */
void cli_format_seconds(double s, char *buf, size_t n);
void cli_format_count(double x, char *buf, size_t n);

/* cmd_*.c */
rt_status cmd_index(const cli_args *a);
rt_status cmd_teach(const cli_args *a);
rt_status cmd_build(const cli_args *a);
rt_status cmd_eval(const cli_args *a);
rt_status cmd_import(const cli_args *a);
rt_status cmd_measure(const cli_args *a);
rt_status cmd_report(const cli_args *a);
rt_status cmd_bench(const cli_args *a);
rt_status cmd_repro(const cli_args *a);
rt_status cmd_plan(const cli_args *a);
rt_status cmd_show(const cli_args *a);
rt_status cmd_verify(const cli_args *a);
rt_status cmd_doctor(const cli_args *a);
rt_status cmd_demo(const cli_args *a);

/* doctor_checks.c */
typedef enum doctor_level { DOCTOR_GREEN, DOCTOR_YELLOW, DOCTOR_RED } doctor_level;
typedef struct doctor_row {
    doctor_level level;
    char name[32], value[256], fix[256];
} doctor_row;
enum { DOCTOR_MAX_ROWS = 24 };
int doctor_run(const char *dir, doctor_row rows[DOCTOR_MAX_ROWS]); /* returns the number of rows */

/* Writes the table and where the page is. Takes both strings; either may be NULL. */
void cli_print_report(char *table, char *page);

#endif
