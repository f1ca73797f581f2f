/* index: what the data are. Opens both splits, checks that their class lists agree, records counts and identity. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "stage/stages.h"

static json_t *split_json(const rt_dataset *d)
{
    const rt_classes *c = rt_dataset_classes(d);
    int64_t n = rt_dataset_count(d);
    json_t *per_class = json_object();
    for (int32_t k = 0; k < c->n; k++) json_object_set_new(per_class, c->name[k], json_integer(0));
    for (int64_t i = 0; i < n; i++) {
        json_t *v = json_object_get(per_class, c->name[rt_dataset_label(d, i)]);
        if (v) json_integer_set(v, json_integer_value(v) + 1);
    }
    return json_pack("{s:I, s:s, s:o}", "count", (json_int_t)n, "hash", rt_dataset_hash(d), "per_class", per_class);
}

static rt_status write_index(rt_run *r, const char *path, const char *key)
{
    rt_status st = RT_OK;
    rt_commit *commit = NULL;
    json_t *m = NULL;
    char *text = NULL;
    const rt_classes *classes = rt_dataset_classes(r->train_set);
    size_t len = 0, at = 0;
    for (int32_t k = 0; k < classes->n; k++) len += strlen(classes->name[k]) + 1;
    RT_ALLOC(text, len + 1, "class list");
    for (int32_t k = 0; k < classes->n; k++) at += (size_t)snprintf(text + at, len + 1 - at, "%s\n", classes->name[k]);
    RT_TRY(rt_commit_begin(path, &commit));
    RT_TRY(rt_commit_file(commit, "classes.txt", text, len));
    RT_TRY(rt_run_manifest(r, "dataset", key, NULL, &m));
    json_t *train = split_json(r->train_set), *test = split_json(r->test_set);
    if (!train || !test || json_object_set_new(m, "train", train) || json_object_set_new(m, "test", test)) {
        st = RT_RAISE(RT_ERR_NOMEM, "index");
        goto out;
    }
    rt_commit *c = commit;
    commit = NULL;
    RT_TRY(rt_commit_finish(c, m));
out:
    rt_commit_abort(commit);
    json_decref(m);
    rt_free(text);
    return st;
}

rt_status rt_run_index(rt_run *r, const rt_stage_opts *o)
{
    rt_status st = RT_OK;
    char path[PATH_MAX], key[RT_HASH_HEX];
    bool skip;
    RT_TRY(rt_run_path(r, path, "dataset"));
    RT_TRY(rt_run_datasets(r));
    RT_TRY(rt_run_key(r, NULL, 0, (const char *const[]){rt_dataset_hash(r->test_set)}, 1, key));
    const rt_classes *c = rt_dataset_classes(r->train_set);
    rt_log_line(RT_LOG_INFO, "data: %lld training and %lld evaluation images, %d classes (list %.12s)",
                (long long)rt_dataset_count(r->train_set), (long long)rt_dataset_count(r->test_set), c->n, c->hash);
    RT_TRY(rt_run_skip(path, "dataset", key, o->force, &skip));
    if (skip) goto out;
    RT_TRY(write_index(r, path, key));
out:
    return st == RT_OK ? st : rt_error_frame(st, __FILE__, __LINE__, "index");
}
