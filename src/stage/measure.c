/* measure: what every set covers. Features come from the last teacher (the first one selected the coresets, so with two or
 * more teachers the measuring network took no part in any construction; with one it did, and the result says so). Sets are
 * measured as stored, 8 bits per channel, without augmentation. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "metrics/metrics.h"
#include "stage/stages.h"

/* What all sets are measured with: opened on the first set that needs it. */
typedef struct yardstick {
    rt_trainer *t;
    float *features;
    rt_metric_ref *ref;
    rt_teacher_info info;
    int teacher;
} yardstick;

static void yardstick_fini(yardstick *y)
{
    rt_metric_ref_destroy(y->ref);
    rt_free(y->features);
    rt_trainer_destroy(y->t);
}

static rt_status yardstick_open(rt_run *r, yardstick *y)
{
    rt_status st = RT_OK;
    rt_backend *be = NULL;
    const rt_images *train = NULL;
    rt_model_desc net;
    rt_recipe recipe;
    int64_t dim = 0;
    if (y->ref) return RT_OK;
    RT_TRY(rt_run_train(r, &train));
    RT_TRY(rt_run_backend(r, &be));
    RT_TRY(rt_run_net(r, r->c->network.arch, &net));
    RT_TRY(rt_run_teach_recipe(r->c, &recipe));
    RT_TRY(rt_trainer_create(be, &net, &recipe, &y->t));
    RT_TRY(rt_run_teacher_weights(r, y->teacher, y->t));
    RT_TRY(rt_run_teacher_features(r, y->teacher, &y->features, &dim, NULL));
    rt_metric_opts o = {.k = r->c->metrics.k.v, .n_k = (int)r->c->metrics.k.n, .max_reference = r->c->metrics.max_reference,
                        .seed = (uint64_t)r->c->seed};
    RT_TRYF(rt_metric_ref_create(y->features, train->label, train->n, dim, train->classes.n, &o, &y->ref), "reference features");
out:
    return st;
}

static json_t *rows_json(const rt_metric_rows *rows)
{
    json_t *all = json_array();
    for (int64_t i = 0; all && i < rows->n; i++) {
        const rt_metric_row *x = &rows->row[i];
        json_t *o = json_pack("{s:s, s:I, s:I, s:f}", "name", x->name, "k", (json_int_t)x->k, "class",
                              (json_int_t)x->class_index, "value", x->value);
        if (o && isfinite(x->random_expectation)) json_object_set_new(o, "random_expectation", json_real(x->random_expectation));
        if (!o || json_array_append_new(all, o)) {
            json_decref(all);
            return NULL;
        }
    }
    return all;
}

static rt_status commit_rows(rt_run *r, const char *path, const char *key, const rt_metric_rows *rows, const yardstick *y,
                             rt_ledger *ledger)
{
    rt_status st = RT_OK;
    rt_commit *commit = NULL;
    json_t *m = NULL, *all = rows_json(rows);
    char *text = all ? json_dumps(all, JSON_INDENT(1) | JSON_SORT_KEYS | JSON_REAL_PRECISION(17)) : NULL;
    if (!text) {
        st = RT_RAISE(RT_ERR_NOMEM, "metric rows");
        goto out;
    }
    RT_TRY(rt_commit_begin(path, &commit));
    RT_TRY(rt_commit_file(commit, "metrics.json", text, strlen(text)));
    RT_TRY(rt_run_manifest(r, "measure", key, ledger, &m));
    if (json_object_update_missing_new(m, json_pack("{s:i, s:b}", "teacher", y->teacher, "teacher_took_part", y->teacher == 0))) {
        st = RT_RAISE(RT_ERR_NOMEM, "manifest");
        goto out;
    }
    rt_commit *c = commit;
    commit = NULL;
    RT_TRY(rt_commit_finish(c, m));
out:
    rt_commit_abort(commit);
    json_decref(m);
    json_decref(all);
    free(text); /* jansson's allocator */
    return st;
}

static rt_status measure_set(rt_run *r, const rt_stage_opts *o, const char *set_path, yardstick *y)
{
    rt_status st = RT_OK;
    rt_set set = {0}, tiles = {0};
    rt_images stored = {0};
    rt_metric_rows rows = {0};
    rt_ledger *ledger = NULL;
    json_t *m = NULL;
    float *f = NULL;
    char path[PATH_MAX], key[RT_HASH_HEX], name[RT_RESULTS_NAME];
    bool skip;
    RT_TRY(rt_set_read(set_path, true, &set, &m));
    RT_TRY(rt_classes_check(&set.classes, set_path, rt_dataset_classes(r->train_set), "the training split"));
    RT_TRY(rt_run_check_space(r, &set, set_path));
    const char *content = json_string_value(json_object_get(m, "content_hash"));
    RT_TRY(rt_run_key(r, (const char *const[]){"metrics"}, 1, (const char *const[]){content ? content : "", y->info.content_hash},
                      2, key));
    RT_TRY(rt_run_results_name(r, set_path, content ? content : "", name));
    RT_TRY(rt_run_path(r, path, "measures/%s", name));
    RT_TRY(rt_run_skip(path, "measure", key, o->force, &skip));
    if (skip) goto out;
    RT_TRY(yardstick_open(r, y));
    RT_TRY(rt_ledger_create(&ledger));
    rt_ledger_begin(ledger);
    if (set.factor > 1) { /* a mosaic is not an image that anyone trains on: its tiles are */
        RT_TRY(rt_set_decode(&set, &tiles));
        rt_set_fini(&set);
        set = tiles;
        memset(&tiles, 0, sizeof tiles);
    }
    RT_TRY(rt_set_stored(&set, &stored));
    if (r->c->data.zca) RT_TRY(rt_zca_attach(&r->zca, rt_run_threads(r), &stored));
    RT_ALLOC(f, (size_t)(set.n * rt_model_feature_dim(rt_trainer_model(y->t))) * sizeof *f, "features of the set");
    rt_train_data data = {.n = stored.n, .images = &stored, .label = stored.label, .norm = r->norm};
    RT_TRY(rt_trainer_infer(y->t, &data, rt_run_threads(r), f, NULL, NULL));
    RT_TRY(rt_metrics_of_set(y->ref, f, set.label, set.n, &rows));
    RT_TRY(commit_rows(r, path, key, &rows, y, ledger));
    rt_log_line(RT_LOG_INFO, "measured %s", name);
out:
    rt_set_fini(&set);
    rt_images_fini(&stored);
    rt_metric_rows_fini(&rows);
    rt_ledger_destroy(ledger);
    json_decref(m);
    rt_free(f);
    return st;
}

rt_status rt_run_measure(rt_run *r, const rt_stage_opts *o)
{
    rt_status st = RT_OK;
    yardstick y = {.teacher = (int)r->c->teach.runs - 1};
    rt_set_name name;
    char path[PATH_MAX];
    RT_TRY(rt_run_path(r, path, "measures"));
    RT_TRY(rt_fs_mkdirs(path));
    RT_TRY(rt_run_datasets(r));
    RT_TRY(rt_run_teacher_info(r, y.teacher, &y.info));
    for (int i = 0; i < o->n_paths; i++) RT_TRYF(measure_set(r, o, o->paths[i], &y), "%s", o->paths[i]);
    for (int i = 0; o->n_paths == 0 && rt_run_set_name(r, i, &name); i++) {
        RT_TRY(rt_run_path(r, path, "sets/%s", name.text));
        RT_TRYF(measure_set(r, o, path, &y), "set %s", name.text);
    }
    for (int i = 0; o->n_paths == 0 && rt_run_foreign_at(r, i, path); i++)
        RT_TRYF(measure_set(r, o, path, &y), "set.foreign %s", path);
out:
    yardstick_fini(&y);
    return st == RT_OK ? st : rt_error_frame(st, __FILE__, __LINE__, "measure");
}
