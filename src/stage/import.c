/* import: a set that somebody else distilled becomes an artefact like our own, so that eval and measure take it. Classes are
 * checked, images are counted, and where this run has a teacher, what the teacher makes of the images is said: a set whose
 * class order is wrong shows there, and so does one whose teacher saw something else entirely. */
#include "stage/import.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "stage/stages.h"

/* rank[i]: place of image i within its class, in the order it was read; *ipc: images of every class. */
static rt_status count_classes(const rt_foreign *f, const rt_classes *c, int64_t want, const char *source, int64_t *rank, int64_t *ipc)
{
    rt_status st = RT_OK;
    int64_t *count = NULL;
    RT_ALLOC(count, (size_t)c->n * sizeof *count, "images per class");
    for (int64_t i = 0; i < f->n; i++) rank[i] = count[f->label[i]]++;
    int32_t few = 0, many = 0;
    for (int32_t k = 0; k < c->n; k++) {
        if (count[k] < count[few]) few = k;
        if (count[k] > count[many]) many = k;
    }
    if (count[few] == 0 || (want > 0 && count[few] < want)) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: class %d ('%s') has %lld images, the set needs %lld of every class", source, few, c->name[few],
                      (long long)count[few], (long long)(want > 0 ? want : 1));
        rt_error_fix(st, count[few] ? "lower --ipc" : "is this a set for other classes? give the config of the data set that it was made from");
        goto out;
    }
    if (want == 0 && count[few] != count[many]) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: class '%s' has %lld images, class '%s' %lld", source, c->name[few], (long long)count[few],
                      c->name[many], (long long)count[many]);
        rt_error_fix(st, "add --ipc %lld to take the first so many of every class", (long long)count[few]);
        goto out;
    }
    *ipc = want > 0 ? want : count[few];
out:
    rt_free(count);
    return st;
}

/* The set in class order. Takes nothing of f. */
static rt_status arrange(const rt_run *r, const rt_foreign *f, const rt_import *o, rt_set *out)
{
    rt_status st = RT_OK;
    const rt_classes *c = rt_dataset_classes(r->train_set);
    rt_set s = {.h = f->h, .w = f->w, .unit = f->unit, .norm = r->norm, .step_size = NAN};
    int64_t *rank = NULL, ipc = 0;
    const size_t px = (size_t)f->h * (size_t)f->w * 3;
    RT_ALLOC(rank, (size_t)f->n * sizeof *rank, "order of the set");
    RT_TRY(count_classes(f, c, o->ipc, o->source, rank, &ipc));
    s.n = ipc * c->n;
    s.ipc = (int32_t)ipc;
    snprintf(s.method, sizeof s.method, "%s", o->method);
    RT_TRY(rt_classes_copy(c, &s.classes));
    RT_ALLOC(s.px, (size_t)s.n * px * sizeof *s.px, "pixels of the set");
    RT_ALLOC(s.label, (size_t)s.n * sizeof *s.label, "labels of the set");
    if (f->soft) RT_ALLOC(s.soft, (size_t)(s.n * c->n) * sizeof *s.soft, "soft labels of the set");
    s.soft_logits = f->soft_logits;
    if (f->key) RT_ALLOC(s.key, (size_t)s.n * sizeof *s.key, "names of the images");
    for (int64_t i = 0; i < f->n; i++) {
        if (rank[i] >= ipc) continue;
        const int64_t at = f->label[i] * ipc + rank[i];
        memcpy(s.px + (size_t)at * px, f->px + (size_t)i * px, px * sizeof *s.px);
        s.label[at] = f->label[i];
        if (f->soft) memcpy(s.soft + at * c->n, f->soft + i * c->n, (size_t)c->n * sizeof *s.soft);
        if (f->key && !(s.key[at] = rt_strdup(f->key[i]))) {
            st = RT_RAISE(RT_ERR_NOMEM, "names of the images");
            goto out;
        }
    }
    *out = s;
    memset(&s, 0, sizeof s);
out:
    rt_set_fini(&s);
    rt_free(rank);
    return st;
}

/* Share of the set that this run's first teacher puts in the class it is filed under; NaN when there is no teacher yet. */
static rt_status recognised(rt_run *r, const rt_set *s, double *share)
{
    rt_status st = RT_OK;
    rt_teacher_info info;
    rt_trainer *t = NULL;
    rt_images stored = {0};
    rt_backend *be = NULL;
    rt_model_desc net;
    rt_recipe recipe;
    int32_t *predicted = NULL;
    int64_t hits = 0;
    *share = NAN;
    st = rt_run_teacher_info(r, 0, &info);
    if (st == RT_ERR_MISSING || st == RT_ERR_FORMAT) {
        rt_error_clear();
        return RT_OK;
    }
    if (st != RT_OK) return st;
    RT_TRY(rt_set_stored(s, &stored));
    RT_TRY(rt_run_backend(r, &be));
    RT_TRY(rt_run_net(r, r->c->network.arch, &net));
    RT_TRY(rt_run_teach_recipe(r->c, &recipe));
    RT_TRY(rt_trainer_create(be, &net, &recipe, &t));
    RT_TRY(rt_run_teacher_weights(r, 0, t));
    RT_ALLOC(predicted, (size_t)s->n * sizeof *predicted, "predictions");
    rt_train_data data = {.n = s->n, .images = &stored, .label = s->label, .norm = r->norm};
    RT_TRY(rt_trainer_infer(t, &data, rt_run_threads(r), NULL, NULL, predicted));
    for (int64_t i = 0; i < s->n; i++) hits += predicted[i] == s->label[i];
    *share = (double)hits / (double)s->n;
out:
    rt_free(predicted);
    rt_images_fini(&stored);
    rt_trainer_destroy(t);
    return st;
}

static rt_status notes_of(const rt_foreign *f, const rt_import *o, double share, rt_set *s)
{
    rt_status st = RT_OK;
    json_t *list = json_array(), *notes = NULL;
    char line[256], *text = NULL;
    snprintf(line, sizeof line, "imported as published (%.0f bytes); nothing is known of what it cost to construct", f->stored_bytes);
    json_array_append_new(list, json_string(line));
    json_array_append_new(list, json_string(f->order));
    if (f->resized) {
        snprintf(line, sizeof line, "%lld images of other sizes were scaled: shorter side to %d pixels, then the centre", (long long)f->resized, f->h);
        json_array_append_new(list, json_string(line));
    }
    notes = json_pack("{s:o, s:s}", "deviations", list, "imported_from", o->source);
    if (notes && isfinite(share)) json_object_set_new(notes, "teacher_recognises", json_real(share));
    text = notes ? json_dumps(notes, JSON_SORT_KEYS | JSON_COMPACT) : NULL;
    if (!text || !(s->notes = rt_strdup(text))) st = RT_RAISE(RT_ERR_NOMEM, "notes of the set");
    free(text); /* jansson's allocator */
    json_decref(notes);
    return st;
}

static rt_status commit(rt_run *r, const rt_set *s, const rt_import *o, const char *path, double stored)
{
    rt_status st = RT_OK;
    rt_commit *c = NULL;
    json_t *m = NULL;
    rt_ledger *cost = NULL;
    int64_t image_bytes = 0, label_bytes = 0;
    char key[RT_HASH_HEX];
    RT_TRY(rt_ledger_create(&cost));
    RT_TRY(rt_commit_begin(path, &c));
    RT_TRY(rt_set_write(s, c, &image_bytes, &label_bytes));
    rt_ledger_entry(cost)->image_bytes = (double)image_bytes;
    rt_ledger_entry(cost)->label_bytes = (double)label_bytes;
    RT_TRY(rt_run_key(r, NULL, 0, (const char *const[]){"import", o->source, o->method}, 3, key));
    RT_TRY(rt_run_manifest(r, "set", key, cost, &m));
    RT_TRY(rt_set_describe(s, m));
    if (json_object_update_missing_new(m, json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:I, s:I, s:f}", "method", o->method, "family", "imported",
                                                    "title", o->method, "ipc", s->ipc, "construction", 0, "iteration", 0, "image_bytes",
                                                    (json_int_t)image_bytes, "label_bytes", (json_int_t)label_bytes, "published_bytes", stored))) {
        st = RT_RAISE(RT_ERR_NOMEM, "manifest");
        goto out;
    }
    rt_commit *done = c;
    c = NULL;
    RT_TRY(rt_commit_finish(done, m));
out:
    rt_commit_abort(c);
    json_decref(m);
    rt_ledger_destroy(cost);
    return st;
}

static bool plain_name(const char *s)
{
    const size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-");
    return n > 0 && n < sizeof((rt_set *)0)->method && !s[n];
}

static rt_status import(rt_run *r, const rt_import *o, char **text)
{
    rt_status st = RT_OK;
    rt_foreign f = {0};
    rt_set s = {0};
    char path[PATH_MAX];
    double share = NAN;
    const rt_method *ours;
    RT_TRY(rt_run_datasets(r));
    if (!plain_name(o->method)) {
        st = RT_RAISE(RT_ERR_USAGE, "--method is a short name of letters, digits, '-', '+' and '_', got `%.60s`", o->method);
        rt_error_fix(st, "name the method, such as --method sre2l-released");
        goto out;
    }
    if (rt_method_find(o->method, &ours) == RT_OK) {
        st = RT_RAISE(RT_ERR_USAGE, "%s is a method of this program: results would not tell the two apart", o->method);
        rt_error_fix(st, "say where the set is from, such as --method %s-released", o->method);
        goto out;
    }
    rt_error_clear();
    if (rt_fs_is_dir(o->source)) RT_TRYF(rt_foreign_folders(r, o->source, o->map, &f), "folders of %s", o->source);
    else RT_TRYF(rt_foreign_tensors(r, o->source, o->space, o->logits, &f), "tensors of %s", o->source);
    RT_TRY(arrange(r, &f, o, &s));
    if (o->out) snprintf(path, sizeof path, "%s", o->out);
    else RT_TRY(rt_run_path(r, path, "imported/%s-ipc%d", o->method, s.ipc));
    if (rt_fs_exists(path) && !o->force) {
        st = RT_RAISE(RT_ERR_LOCKED, "%s exists", path);
        rt_error_fix(st, "add --force to replace it, or --out FOLDER");
        goto out;
    }
    RT_TRYF(recognised(r, &s, &share), "what the teacher makes of it");
    RT_TRY(notes_of(&f, o, share, &s));
    if (!o->out) {
        char parent[PATH_MAX];
        RT_TRY(rt_run_path(r, parent, "imported"));
        RT_TRY(rt_fs_mkdirs(parent));
    }
    RT_TRY(commit(r, &s, o, path, f.stored_bytes));
    char *say = rt_asprintf("%s\n%lld images, %d a class, %d x %d pixels, %.0f bytes as published%s\n%s\n", path, (long long)s.n, s.ipc, s.h, s.w,
                            f.stored_bytes, f.resized ? ", some scaled" : "", f.order);
    if (say && isfinite(share)) {
        char *more = rt_asprintf("%steacher net0 puts %.1f %% of them in their class%s\n", say, 100 * share,
                                 share < 2.0 / (double)s.classes.n ? ": no better than chance, look at the class order" : "");
        rt_free(say);
        say = more;
    }
    if (!say) st = RT_RAISE(RT_ERR_NOMEM, "no memory for the summary");
    else *text = say;
out:
    rt_foreign_fini(&f);
    rt_set_fini(&s);
    return st;
}

rt_status rt_stage_import(const rt_config *c, const rt_import *o, char **text)
{
    rt_run r;
    rt_status st = rt_run_open(c, &r);
    if (st != RT_OK) return st;
    st = import(&r, o, text);
    rt_run_close(&r);
    return st == RT_OK ? st : rt_error_frame(st, __FILE__, __LINE__, "import");
}
