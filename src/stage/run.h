/* Internal to src/stage: one run directory, opened. */
#ifndef RT_STAGE_RUN_H
#define RT_STAGE_RUN_H

#include <jansson.h>
#include <limits.h>

#include "artefact/artefact.h"
#include "config/config.h"
#include "data/data.h"
#include "nn/nn.h"
#include "retort/exec.h"
#include "stage/stage.h"
#include "teacher/committee.h"
#include "teacher/train.h"

/* Everything is opened on first use and kept: one process decodes the data once however many stages it runs. */
typedef struct rt_run {
    const rt_config *c;
    rt_lock *lock;
    rt_backend *be;
    rt_dataset *train_set, *test_set;
    rt_images train, test;
    rt_bad_list bad;
    bool have_train, have_test, have_zca;
    rt_zca zca;                      /* with data.zca */
    rt_normalise norm;
    double decode_s;                 /* wall seconds spent decoding, charged to the data stage */
} rt_run;

rt_status rt_run_open(const rt_config *c, rt_run *out);
void rt_run_close(rt_run *r);
rt_status rt_run_path(const rt_run *r, char out[PATH_MAX], const char *fmt, ...) RT_PRINTF(3, 4); /* below run.dir */

rt_status rt_run_backend(rt_run *r, rt_backend **out);
rt_status rt_run_datasets(rt_run *r);              /* opens indices of both splits; class lists must agree */
rt_status rt_run_train(rt_run *r, const rt_images **out);
rt_status rt_run_test(rt_run *r, const rt_images **out);
int rt_run_threads(const rt_run *r);
/* data.zca: the transform of this run, read or fitted; whitened pixels for resident images. */
rt_status rt_run_zca(rt_run *r);
rt_status rt_run_whiten(rt_run *r, rt_images *im);
/* RT_ERR_CONFIG naming the remedy when a set's pixels live under another transform than this run's. */
rt_status rt_run_check_space(rt_run *r, const rt_set *set, const char *path);

/* The network named arch for this run's images; convnet and mlp take depth, width and norm from the config. */
rt_status rt_run_net(rt_run *r, const char *arch, rt_model_desc *out);

/* Hash of what a stage depends on: canonical text of config sections, the data's identity, and the strings in extra. */
rt_status rt_run_key(rt_run *r, const char *const *sections, int n_sections, const char *const *extra, int n_extra,
                     char hex[RT_HASH_HEX]);
/* Manifest every artefact of the run starts from: kind, inputs_hash, classes_hash, seed, config (resolved). Owned. */
rt_status rt_run_manifest(rt_run *r, const char *kind, const char *inputs_hash, rt_ledger *cost, json_t **out);

/* True in *skip when the artefact at path is there already and wanted (no force). What a process that was killed after
 * its commit, or a later one that was killed before, left beside it is removed then: checkpoints, .tmp, .old. */
rt_status rt_run_skip(const char *path, const char *kind, const char *key, bool force, bool *skip);

/* --- names of the grid ----------------------------------------------------------------------------------------------- */
typedef struct rt_set_name {
    const char *method;
    int64_t ipc;
    int32_t seed;
    int64_t iteration;               /* 0: the finished set; else its snapshot after that many iterations */
    char text[64];                   /* "dm-ipc10-s0"; of a snapshot "dm-ipc10-s0-it100" */
} rt_set_name;
/* The i-th set of the config's grid; false past the end. Deterministic methods have one construction. A construction's
 * snapshots follow it in ascending order; those at or past its last iteration do not exist. */
bool rt_run_set_name(const rt_run *r, int i, rt_set_name *out);
void rt_run_name_text(rt_set_name *n); /* fills text from the other fields */
/* Under which name results of the set at set_path are kept: the folder's for a set of this run; for one of elsewhere with
 * the head of its content hash, so that it cannot take the place of one of ours. */
enum { RT_RESULTS_NAME = 128 };
rt_status rt_run_results_name(const rt_run *r, const char *set_path, const char *content, char out[RT_RESULTS_NAME]);
/* The i-th folder of set.foreign; false past the end. */
bool rt_run_foreign_at(const rt_run *r, int i, char path[PATH_MAX]);
/* Students trained on that construction: eval.seeds for deterministic methods; stochastic ones share them between their
 * constructions (rounded up), so that every method is judged by the same number of networks. */
int32_t rt_run_networks(const rt_run *r, const rt_set_name *s);

/* --- teachers ----------------------------------------------------------------------------------------------------------- */
/* A selection of teachers: net0; committee.archs in their order; net0 to net<teach.runs - 1>, several seeds of one network. */
typedef enum rt_teachers { RT_TEACHERS_FIRST, RT_TEACHERS_COMMITTEE, RT_TEACHERS_RUNS } rt_teachers;
typedef struct rt_teacher_seat {
    char name[48];        /* of its folder below teacher/: "net<k>", or a member's architecture */
    const char *arch;
    int network;          /* number of its initial weights and draws */
    bool member;          /* of a committee, beside net<k>: weights and accuracy alone */
} rt_teacher_seat;
bool rt_run_teacher_seat(const rt_run *r, rt_teachers which, int i, rt_teacher_seat *out); /* false past the end */
uint64_t rt_run_teacher_seed(const rt_run *r); /* with a seat's network: no student of this run draws the same */
rt_status rt_run_teacher_key(rt_run *r, const rt_teacher_seat *s, char key[RT_HASH_HEX]);
/* The committed teacher, made by this config's settings for this run's classes: its folder and manifest (owned). */
rt_status rt_run_teacher_open(rt_run *r, const rt_teacher_seat *s, char path[PATH_MAX], json_t **manifest);
/* All of a selection in memory. rt_committee_fini. */
rt_status rt_run_committee(rt_run *r, rt_teachers which, rt_committee *out);
/* One hash of the contents of all of them, for keys; reads manifests alone. */
rt_status rt_run_committee_hash(rt_run *r, rt_teachers which, char hex[RT_HASH_HEX]);
typedef struct rt_teacher_info {
    char content_hash[RT_HASH_HEX];
    double accuracy, wall_s, flops;
} rt_teacher_info;
rt_status rt_run_teacher_info(rt_run *r, int k, rt_teacher_info *out);
/* The same and what follows are of net<k>. features [n,dim] owned floats and el2n [n] owned doubles; either may be NULL. */
rt_status rt_run_teacher_features(rt_run *r, int k, float **features, int64_t *dim, double **el2n);
/* Mean EL2N over all teachers; owned. */
rt_status rt_run_el2n(rt_run *r, double **out);
rt_status rt_run_teacher_weights(rt_run *r, int k, rt_trainer *t);

#endif
