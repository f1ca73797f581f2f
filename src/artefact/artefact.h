/* Artefacts: folders that exist whole or not at all.
 *
 *   commit       files are written into `<path>.tmp`, each fsync'd; manifest.json (kind, input hashes, resolved config,
 *                sizes, SHA-256s) comes last; then rename to `<path>` and fsync of the parent. A folder without a valid
 *                manifest does not exist. States and recovery: commit.c.
 *                Equal runs give equal bytes in every file but run.json, where the manifest's "cost", "created" and "host"
 *                are kept; "content_hash" covers all other files. Opening joins both into one object.
 *   checkpoint   a numbered artefact under `<stage>.ckpt/`; the newest valid one wins; older ones are removed after.
 *   lock         one writer per run directory (flock; names host and pid; a dead owner's lock is taken over).
 *   ledger       what a stage cost; survives resume by summing segments.
 */
#ifndef RT_ARTEFACT_ARTEFACT_H
#define RT_ARTEFACT_ARTEFACT_H

#include <stdbool.h>
#include <stdint.h>
#include <jansson.h>

#include "artefact/safetensors.h"
#include "base/hash.h"
#include "data/data.h"
#include "data/zca.h"
#include "retort/status.h"

/* --- commit ------------------------------------------------------------------------------------------------------ */
typedef struct rt_commit rt_commit;
rt_status rt_commit_begin(const char *path, rt_commit **out);                  /* sweeps a stale .tmp first */
const char *rt_commit_dir(const rt_commit *c);                                 /* write further files below here */
rt_status rt_commit_file(rt_commit *c, const char *name, const void *p, size_t n); /* subfolders in name are created */
/* manifest: borrowed object with the caller's fields: "kind" (required), "inputs_hash", "inputs", "config", "classes_hash",
 * "seed", "revision", and "cost" (rt_ledger_json; goes to run.json). Added here: "format_version", "files" (everything below
 * the folder), "content_hash", "created", "host". Replaces an existing artefact at path so that old or new is whole at every
 * moment. c is destroyed, also on failure. Do not put anything that differs between equal runs into another field. */
rt_status rt_commit_finish(rt_commit *c, const json_t *manifest);
void rt_commit_abort(rt_commit *c);                                            /* accepts NULL */

/* Opens a committed artefact, first completing or taking back a commit that was killed between its renames: manifest
 * parsed, kind checked (NULL: any), sizes checked (and SHA-256s when `deep`). RT_ERR_MISSING when there is none; RT_ERR_FORMAT
 * when damaged; files the manifest does not list are ignored. *manifest (may be NULL) is owned (json_decref). */
rt_status rt_artefact_open(const char *path, const char *kind, bool deep, json_t **manifest);
/* True when path holds a committed artefact of this kind whose "inputs_hash" equals hash: the stage can be skipped. */
bool rt_artefact_is_current(const char *path, const char *kind, const char *inputs_hash);

/* --- checkpoints --------------------------------------------------------------------------------------------------- */
/* Saves tensors and a small JSON state (give it "inputs_hash") as step `step` under `<dir>`; then keeps the newest `keep` up
 * to it and drops later ones, which belong to a timeline that was given up. */
rt_status rt_ckpt_save(const char *dir, uint64_t step, const rt_st_tensor *t, int64_t n, const json_t *state, int keep);
/* Newest valid checkpoint whose state "inputs_hash" equals hash (NULL: any); RT_ERR_MISSING when there is none. */
rt_status rt_ckpt_load(const char *dir, const char *inputs_hash, uint64_t *step, rt_st_file **tensors, json_t **state);
rt_status rt_ckpt_clear(const char *dir);

/* --- lock ---------------------------------------------------------------------------------------------------------- */
typedef struct rt_lock rt_lock;
rt_status rt_lock_take(const char *dir, rt_lock **out); /* creates dir; RT_ERR_LOCKED names host and pid */
void rt_lock_release(rt_lock *l);

/* --- cost ledger (DESIGN 2.13) ------------------------------------------------------------------------------------- */
typedef struct rt_cost_entry {
    double wall_s, cpu_s, device_s;
    double flops;                 /* from the op rows */
    double images_decoded, images_seen;
    double peak_host_bytes, peak_device_bytes;
    double energy_j;              /* NaN: not measured */
    double image_bytes, label_bytes;
    int32_t segments;             /* 1 + number of resumes */
} rt_cost_entry;
typedef struct rt_ledger rt_ledger;
rt_status rt_ledger_create(rt_ledger **out);
void rt_ledger_destroy(rt_ledger *l);
void rt_ledger_begin(rt_ledger *l);                             /* starts the clock of this segment */
rt_cost_entry *rt_ledger_entry(rt_ledger *l);                   /* counters to add to; borrowed until destroy */
void rt_ledger_update(rt_ledger *l);                            /* brings wall, cpu, peaks up to now */
json_t *rt_ledger_json(const rt_ledger *l);                     /* owned; goes into checkpoint state and manifest "cost" */
/* What one of n equal parts of the work cost: a ledger that has stopped, sums over n, peaks whole. */
rt_status rt_ledger_share(const rt_ledger *l, int64_t n, rt_ledger **out);
rt_status rt_ledger_restore(rt_ledger *l, const json_t *saved); /* sums: earlier segments + this one */

/* --- a whitening transform ------------------------------------------------------------------------------------------ */
/* Artefact of kind "zca": zca.safetensors with "mean" f32 [d], "transform" and "inverse" f32 [d,d], "spectrum" f64 [d], all in
 * C,H,W order; metadata: eps, height, width. Writing stores the transform in an open commit and sets its hash, which depends
 * on these values alone. Reading refuses (RT_ERR_FORMAT) what is damaged; z is owned. */
rt_status rt_zca_write(rt_zca *z, rt_commit *c);
rt_status rt_zca_read(const char *path, rt_zca *out);

/* --- the one type for coresets and distilled sets ------------------------------------------------------------------ */
/* On disk: images/<class>/<ipc index>.png (ImageFolder-loadable, lossless), set.safetensors ("images" f32 [n,h,w,3] in the
 * set's space, "labels" i64 [n], optional "soft_labels" f32 [n,classes]), index.csv (selections: key,label,rank,score),
 * trace.csv and notes.json (optimised sets), classes.txt, manifest.json of kind "set". Details: set.c.
 *
 * Three spaces (matching.md 2.2, 5): normalised, x = (p/255 - mean)/std; unit, x = p/255, normalised on use; zca, whitened by
 * the ZCA artefact of that hash, which no longer says what a pixel looks like: such a set brings its 8-bit images along. A
 * zeroed struct plus pixels, labels and classes is a valid set: every field below may stay 0. */
typedef struct rt_set {
    int64_t n;
    int32_t h, w, ipc;
    float *px;                    /* n*h*w*3, in the set's space */
    int32_t *label;               /* n, class-major order */
    float *soft;                  /* n*classes or NULL: rows are probabilities, or with soft_logits go through softmax on use */
    bool soft_logits;
    float step_size;              /* learned rate of the student's SGD, > 0; 0 or NaN: none was learned (read back as NaN) */
    int32_t factor;               /* multi-formation f: an image is f x f tiles, each a training image of its own; 0 or 1: no tiles */
    bool unit;                    /* px live in [0,1] */
    char zca[RT_HASH_HEX];        /* content hash of the ZCA artefact px live under; "": none */
    uint8_t *rgb;                 /* n*h*w*3, what px look like; required with zca, else NULL */
    char *notes;                  /* JSON object, or NULL: "skipped" iterations, "deviations" from the published method, ... */
    char *trace;                  /* CSV with a header line, or NULL: one row an iteration */
    char **key;                   /* source keys of a selection, NULL for synthetic images */
    double *score;                /* of a selection or NULL */
    rt_normalise norm;            /* mean and std of the normalised and the unit space */
    rt_classes classes;
    char method[32];
} rt_set;
void rt_set_fini(rt_set *s);
/* "normalised", "unit" or "zca". */
const char *rt_set_space(const rt_set *s);
/* The set as its PNG files hold it: 8-bit images with labels, keys and classes. Returns owned. RT_ERR_ARG for a whitened set
 * without rgb. */
rt_status rt_set_stored(const rt_set *s, rt_images *out);
/* The set as students see it: tiles cut out and enlarged (bilinear, corners not aligned; tile by tile within a class, padded
 * with mid-grey where factor does not divide the side), unit pixels normalised, logits as probabilities. What is whitened
 * stays whitened. Owned; n is factor^2 times that of s. */
rt_status rt_set_decode(const rt_set *s, rt_set *out);
/* Adds to a manifest what a reader wants to know before he opens the tensors: "space", "zca", "factor", "soft_labels"
 * ("none", "probabilities" or "logits"), "step_size" and "notes" (null when there is none). */
rt_status rt_set_describe(const rt_set *s, json_t *manifest);
/* Writes the files of s into an open commit (not the manifest) and reports stored bytes. */
rt_status rt_set_write(const rt_set *s, rt_commit *c, int64_t *image_bytes, int64_t *label_bytes);
/* Reads a committed set; deep verifies checksums. manifest may be NULL, else owned. */
rt_status rt_set_read(const char *path, bool deep, rt_set *out, json_t **manifest);

#endif
