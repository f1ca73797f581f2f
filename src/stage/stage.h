/* Stages: from a config to artefacts in its run directory. Each stage takes the run's lock, skips what is current (inputs
 * hash unchanged), resumes what a killed process left, and records its cost. Nothing here prints; text for people is
 * returned or goes through base/log.h.
 *
 *   <run.dir>/resolved.yaml            config as resolved
 *             dataset/                 index: class list, counts, hash
 *             teacher/net<k>/          weights, training-set features, EL2N scores, test accuracy
 *             sets/<method>-ipc<n>-s<seed>/
 *             evals/<set>/<protocol>-<student>-n<k>/result.json
 *             measures/<set>/
 *             results.db  report/      index.html, *.csv, *.jsonl
 *             repro.json               of a recipe: figure, published figure, gates, cost
 */
#ifndef RT_STAGE_STAGE_H
#define RT_STAGE_STAGE_H

#include <stdbool.h>
#include <stddef.h>

#include "config/config.h"
#include "retort/status.h"

typedef struct rt_stage_opts {
    bool force;                 /* redo the stage even when its artefact is current */
    const char *const *paths;   /* eval and measure: set folders to use instead of the run's own */
    int n_paths;
} rt_stage_opts;

rt_status rt_stage_index(const rt_config *c, const rt_stage_opts *o);
rt_status rt_stage_teach(const rt_config *c, const rt_stage_opts *o);
rt_status rt_stage_build(const rt_config *c, const rt_stage_opts *o);
rt_status rt_stage_eval(const rt_config *c, const rt_stage_opts *o);
/* A published set of somebody else. Everything borrowed. */
typedef struct rt_import {
    const char *source;         /* class folders, or a .safetensors file (stage/import.h) */
    const char *method;         /* what it is called in results */
    const char *map;            /* file of lines `folder class`, or NULL */
    const char *space;          /* of float tensors: "normalised" or "unit"; NULL: not said */
    bool logits;                /* soft labels are logits */
    int64_t ipc;                /* take the first so many of every class; 0: all, equally many */
    const char *out;            /* folder; NULL: <run.dir>/imported/<method>-ipc<n> */
    bool force;
} rt_import;
/* *text (owned) says what was read, under which class order, and whether the run's teacher recognises it. */
rt_status rt_stage_import(const rt_config *c, const rt_import *o, char **text);
rt_status rt_stage_measure(const rt_config *c, const rt_stage_opts *o);
/* Writes <run.dir>/report; *table (owned, rt_free) is the headline table as text, *path the report's page (owned). */
rt_status rt_stage_report(const rt_config *c, char **table, char **path);
/* The whole grid: index, teach, build, eval, measure, report; skips what is done. */
rt_status rt_stage_bench(const rt_config *c, const rt_stage_opts *o, char **table, char **path);
/* A recipe (section repro): index, teach, build and eval as bench does, then the figure against the published one and
 * against random selection. *text (owned) says all of it and is also set when a gate fails: RT_ERR_GATE. The same goes into
 * <run.dir>/repro.json. RT_ERR_CONFIG for a config that is no recipe. */
rt_status rt_stage_repro(const rt_config *c, const rt_stage_opts *o, char **text);
/* Phases, FLOPs, time by a short measured run, peak memory, disk; what does not fit. *text is owned. RT_ERR_GATE when
 * something does not fit. */
rt_status rt_stage_plan(const rt_config *c, char **text);

#endif
