/* From artefacts to results.db: read again in full each time, so the database never disagrees with the folders. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "methods/method.h"
#include "report/report.h"
#include "stage/stages.h"

static double real_at(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static int64_t int_at(const json_t *o, const char *key) { return (int64_t)json_integer_value(json_object_get(o, key)); }
static const char *text_at(const json_t *o, const char *key) { return json_string_value(json_object_get(o, key)); }

static rt_cost_entry cost_of(const json_t *manifest)
{
    const json_t *c = json_object_get(manifest, "cost");
    return (rt_cost_entry){.wall_s = real_at(c, "wall_s"), .cpu_s = real_at(c, "cpu_s"), .device_s = real_at(c, "device_s"),
                           .flops = real_at(c, "flops"), .images_decoded = real_at(c, "images_decoded"),
                           .images_seen = real_at(c, "images_seen"), .peak_host_bytes = real_at(c, "peak_host_bytes"),
                           .peak_device_bytes = real_at(c, "peak_device_bytes"), .energy_j = real_at(c, "energy_j"),
                           .image_bytes = real_at(c, "image_bytes"), .label_bytes = real_at(c, "label_bytes"),
                           .segments = (int32_t)int_at(c, "segments")};
}

static rt_status put_run(rt_run *r, rt_results *db)
{
    rt_status st = RT_OK;
    char *yaml = NULL, dataset[160], command[PATH_MAX + 64];
    rt_backend *be = NULL;
    RT_TRY(rt_run_backend(r, &be));
    RT_TRY(rt_config_yaml(r->c, &yaml));
    const rt_classes *c = rt_dataset_classes(r->train_set);
    snprintf(dataset, sizeof dataset, "%s: %lld training and %lld evaluation images, %d classes", r->c->data.kind,
             (long long)rt_dataset_count(r->train_set), (long long)rt_dataset_count(r->test_set), c->n);
    snprintf(command, sizeof command, "retort bench %s/resolved.yaml", r->c->run.dir);
    rt_row_run row = {.name = r->c->name, .config = yaml, .command = command, .device = rt_backend_describe(be),
                      .version = RT_VERSION, .dataset = dataset, .classes = c, .n_train = rt_dataset_count(r->train_set),
                      .n_test = rt_dataset_count(r->test_set), .size = (int32_t)r->c->data.size};
    RT_TRY(rt_results_put_run(db, &row));
out:
    rt_free(yaml);
    return st;
}

/* A teacher is the full-data reference of its own recipe. */
static rt_status put_teacher(rt_run *r, rt_results *db, const rt_teacher_seat *seat)
{
    rt_status st = RT_OK;
    char path[PATH_MAX];
    json_t *m = NULL;
    RT_TRY(rt_run_path(r, path, "teacher/%s", seat->name));
    st = rt_artefact_open(path, "teacher", false, &m);
    if (st == RT_ERR_MISSING) {
        rt_error_clear();
        return RT_OK; /* nothing of this run needed it */
    }
    if (st != RT_OK) goto out;
    rt_row_eval e = {.set = RT_FULL_SET, .protocol = "teach", .student = text_at(m, "arch"), .network = seat->member ? 0 : seat->network,
                     .accuracy = real_at(m, "accuracy"), .n_test = rt_dataset_count(r->test_set), .first_loss = NAN,
                     .last_loss = real_at(m, "last_loss"), .images_seen = real_at(m, "images_seen"),
                     .flops = real_at(m, "flops"), .wall_s = cost_of(m).wall_s};
    e.n_correct = (int64_t)(e.accuracy * (double)e.n_test + 0.5);
    const char *stage = seat->member ? "committee" : "teach";
    RT_TRY(rt_results_put_cost(db, &(rt_row_cost){.stage = stage, .item = seat->name, .cost = cost_of(m)}));
    if (!seat->member || strcmp(seat->arch, r->c->network.arch) != 0) RT_TRY(rt_results_put_eval(db, &e));
out:
    json_decref(m);
    return st;
}

static rt_status put_teachers(rt_run *r, rt_results *db)
{
    rt_status st = RT_OK;
    rt_teacher_seat seat;
    for (int i = 0; rt_run_teacher_seat(r, RT_TEACHERS_RUNS, i, &seat); i++) RT_TRY(put_teacher(r, db, &seat));
    for (int i = 0; rt_run_teacher_seat(r, RT_TEACHERS_COMMITTEE, i, &seat); i++)
        if (seat.member) RT_TRY(put_teacher(r, db, &seat));
out:
    return st;
}

/* Experts and the whitening transform, where a method or the data asked for them. */
static rt_status put_product(rt_run *r, rt_results *db, const char *rel, const char *kind, const char *stage, const char *item)
{
    rt_status st = RT_OK;
    char path[PATH_MAX];
    json_t *m = NULL;
    RT_TRY(rt_run_path(r, path, "%s", rel));
    st = rt_artefact_open(path, kind, false, &m);
    if (st == RT_ERR_MISSING) {
        rt_error_clear();
        return RT_OK;
    }
    if (st == RT_OK) st = rt_results_put_cost(db, &(rt_row_cost){.stage = stage, .item = item, .cost = cost_of(m)});
out:
    json_decref(m);
    return st;
}

static rt_status put_products(rt_run *r, rt_results *db)
{
    rt_status st = RT_OK;
    char rel[64], item[32];
    if (r->c->data.zca) RT_TRY(put_product(r, db, "zca", "zca", "whiten", ""));
    for (int64_t k = 0; rt_run_needs_experts(r) && k < r->c->experts.count; k++) {
        snprintf(rel, sizeof rel, "experts/expert%lld", (long long)k);
        snprintf(item, sizeof item, "expert%lld", (long long)k);
        RT_TRY(put_product(r, db, rel, "expert", "experts", item));
    }
out:
    return st;
}

static rt_status put_eval(rt_results *db, const char *dir, const char *set, const char *item_name)
{
    rt_status st = RT_OK;
    char path[PATH_MAX], file[PATH_MAX], item[256];
    json_t *m = NULL, *e = NULL;
    json_error_t err;
    double *per_class = NULL;
    RT_TRY(rt_fs_join(path, sizeof path, dir, item_name));
    RT_TRY(rt_artefact_open(path, "eval", false, &m));
    RT_TRY(rt_fs_join(file, sizeof file, path, "result.json"));
    if (!(e = json_load_file(file, JSON_REJECT_DUPLICATES, &err))) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s:%d: %s", file, err.line, err.text);
        goto out;
    }
    const json_t *pc = json_object_get(e, "per_class");
    size_t n = json_array_size(pc);
    RT_ALLOC(per_class, n * sizeof *per_class, "per-class accuracy");
    for (size_t i = 0; i < n; i++) per_class[i] = json_number_value(json_array_get(pc, i));
    rt_row_eval row = {.set = set, .protocol = text_at(e, "protocol"), .student = text_at(e, "student"),
                       .network = int_at(e, "network"), .accuracy = real_at(e, "accuracy"), .n_correct = int_at(e, "n_correct"),
                       .n_test = int_at(e, "n_test"), .first_loss = real_at(e, "first_loss"), .last_loss = real_at(e, "last_loss"),
                       .images_seen = real_at(e, "images_seen"), .flops = real_at(e, "flops"), .wall_s = cost_of(m).wall_s,
                       .per_class = per_class, .n_classes = (int32_t)n, .best = real_at(e, "best"),
                       .best_epoch = int_at(e, "best_epoch"), .lr = real_at(e, "lr"), .labels = text_at(e, "labels")};
    RT_TRY(rt_results_put_eval(db, &row));
    snprintf(item, sizeof item, "%s/%s", set, item_name);
    RT_TRY(rt_results_put_cost(db, &(rt_row_cost){.stage = "eval", .item = item, .cost = cost_of(m)}));
out:
    rt_free(per_class);
    json_decref(m);
    json_decref(e);
    return st;
}

static bool is_work_file(const char *name) { return strchr(name, '.') != NULL; } /* X.ckpt, X.tmp, X.old */

static rt_status put_evals(rt_run *r, rt_results *db, const char *set)
{
    rt_status st = RT_OK;
    char dir[PATH_MAX], **names = NULL;
    size_t n = 0;
    RT_TRY(rt_run_path(r, dir, "evals/%s", set));
    if (!rt_fs_is_dir(dir)) goto out;
    RT_TRY(rt_fs_list(dir, &names, &n));
    for (size_t i = 0; i < n; i++)
        if (!is_work_file(names[i])) RT_TRY(put_eval(db, dir, set, names[i]));
out:
    rt_fs_list_free(names, n);
    return st;
}

static rt_status put_metrics(rt_run *r, rt_results *db, const char *set)
{
    rt_status st = RT_OK;
    char path[PATH_MAX], file[PATH_MAX];
    json_t *m = NULL, *rows = NULL;
    json_error_t err;
    RT_TRY(rt_run_path(r, path, "measures/%s", set));
    if (!rt_fs_is_dir(path)) goto out;
    RT_TRY(rt_artefact_open(path, "measure", false, &m));
    RT_TRY(rt_fs_join(file, sizeof file, path, "metrics.json"));
    if (!(rows = json_load_file(file, JSON_REJECT_DUPLICATES, &err))) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s:%d: %s", file, err.line, err.text);
        goto out;
    }
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *o = json_array_get(rows, i);
        rt_row_metric row = {.set = set, .name = text_at(o, "name"), .k = int_at(o, "k"), .class_index = int_at(o, "class"),
                             .value = real_at(o, "value"), .random_expectation = real_at(o, "random_expectation")};
        RT_TRY(rt_results_put_metric(db, &row));
    }
    RT_TRY(rt_results_put_cost(db, &(rt_row_cost){.stage = "measure", .item = set, .cost = cost_of(m)}));
out:
    json_decref(m);
    json_decref(rows);
    return st;
}

/* The row of a set, without what only its place in the grid says. *notes (jansson's allocator) backs row->notes. */
static rt_status row_of_set(const json_t *m, const char *id, const char *path, char **notes, rt_row_set *row)
{
    const json_t *o = json_object_get(m, "notes");
    *notes = NULL;
    if (json_is_object(o) && !(*notes = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS))) return RT_RAISE(RT_ERR_NOMEM, "notes of %s", id);
    const char *family = text_at(m, "family");
    *row = (rt_row_set){.id = id, .method = text_at(m, "method"), .title = text_at(m, "title"), .family = family, .ipc = int_at(m, "ipc"),
                        .image_bytes = int_at(m, "image_bytes"), .label_bytes = int_at(m, "label_bytes"), .path = path,
                        .synthetic = family && strcmp(family, "coreset") != 0, .space = text_at(m, "space"),
                        .soft_labels = text_at(m, "soft_labels"), .factor = int_at(m, "factor"), .step_size = real_at(m, "step_size"),
                        .notes = *notes};
    return RT_OK;
}

static rt_status put_set(rt_run *r, rt_results *db, const rt_set_name *name)
{
    rt_status st = RT_OK;
    char path[PATH_MAX], rel[96], *notes = NULL;
    json_t *m = NULL;
    const rt_method *method;
    rt_row_set row;
    RT_TRY(rt_run_path(r, path, "sets/%s", name->text));
    if (!rt_fs_is_dir(path)) goto out;
    RT_TRY(rt_artefact_open(path, "set", false, &m));
    RT_TRY(rt_method_find(name->method, &method));
    snprintf(rel, sizeof rel, "sets/%s", name->text);
    RT_TRY(row_of_set(m, name->text, rel, &notes, &row));
    row.method = name->method;
    row.ipc = name->ipc;
    row.seed = name->seed;
    row.n = name->ipc * rt_dataset_classes(r->train_set)->n;
    row.uses_teacher = ((method->needs & (RT_NEEDS_FEATURES | RT_NEEDS_EL2N | RT_NEEDS_TEACHER | RT_NEEDS_COMMITTEE)) ? 1 : 0) |
                       ((method->needs & RT_NEEDS_EXPERTS) ? 2 : 0) | ((method->needs & RT_NEEDS_COMMITTEE) ? 4 : 0);
    row.iteration = name->iteration;
    RT_TRY(rt_results_put_set(db, &row));
    if (!name->iteration) /* a snapshot's cost is part of the finished set's */
        RT_TRY(rt_results_put_cost(db, &(rt_row_cost){.stage = "build", .item = name->text, .method = name->method, .cost = cost_of(m)}));
    RT_TRY(put_evals(r, db, name->text));
    RT_TRY(put_metrics(r, db, name->text));
out:
    free(notes); /* jansson's allocator */
    json_decref(m);
    return st;
}

/* A set of elsewhere: what it is called and how large it is; what it cost nobody said. */
static rt_status put_foreign(rt_run *r, rt_results *db, const char *path)
{
    rt_status st = RT_OK;
    char id[RT_RESULTS_NAME], *notes = NULL;
    json_t *m = NULL;
    rt_row_set row;
    st = rt_artefact_open(path, "set", false, &m);
    if (st != RT_OK) return rt_error_fix(st, "`retort import` writes such folders; take it out of set.foreign otherwise");
    RT_TRY(rt_run_results_name(r, path, text_at(m, "content_hash") ? text_at(m, "content_hash") : "", id));
    RT_TRY(row_of_set(m, id, path, &notes, &row));
    row.n = row.ipc * rt_dataset_classes(r->train_set)->n;
    RT_TRY(rt_results_put_set(db, &row));
    RT_TRY(put_evals(r, db, id));
    RT_TRY(put_metrics(r, db, id));
out:
    free(notes); /* jansson's allocator */
    json_decref(m);
    return st;
}

rt_status rt_run_results(rt_run *r)
{
    rt_status st = RT_OK;
    rt_results *db = NULL;
    rt_set_name name;
    char path[PATH_MAX];
    RT_TRY(rt_run_datasets(r));
    RT_TRY(rt_run_path(r, path, "results.db"));
    RT_TRY(rt_results_open(path, &db));
    RT_TRY(rt_results_begin(db));
    RT_TRY(put_run(r, db));
    RT_TRY(put_teachers(r, db));
    RT_TRY(put_products(r, db));
    for (int i = 0; rt_run_set_name(r, i, &name); i++) RT_TRYF(put_set(r, db, &name), "set %s", name.text);
    for (int i = 0; rt_run_foreign_at(r, i, path); i++) RT_TRYF(put_foreign(r, db, path), "set.foreign %s", path);
    RT_TRY(put_evals(r, db, RT_FULL_SET));
    RT_TRY(rt_results_commit(db));
out:
    rt_results_close(db);
    return st == RT_OK ? st : rt_error_frame(st, __FILE__, __LINE__, "results");
}
