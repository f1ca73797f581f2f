/* Statistics of a teacher on disk: an artefact of kind "statistics" with statistics.safetensors, tensors "<layer>.<moment>" for
 * what the pass was asked for, in float32. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "data/zca.h"
#include "teacher/statistics.h"

static const char file_name[] = "statistics.safetensors";
enum { MOMENTS = 8, TENSOR_NAME = 96 };

typedef struct moment {
    const char *name;
    size_t at;            /* of the pointer in rt_layer_stats */
    bool tiles, by_class; /* [tiles] or [channels], of each class */
} moment;
static const moment moments[MOMENTS] = {
#define M(name_, tiles_, class_) {#name_, offsetof(rt_layer_stats, name_), tiles_, class_}
    M(mean, false, false),      M(var, false, false),      M(patch_mean, true, false),      M(patch_var, true, false),
    M(class_mean, false, true), M(class_var, false, true), M(class_patch_mean, true, true), M(class_patch_var, true, true),
#undef M
};

static float **slot(rt_layer_stats *l, const moment *m) { return (float **)(void *)((char *)l + m->at); }

/* Values of a moment of a layer under spec; 0: not asked for. */
static int64_t wanted(const rt_layer_stats *l, const rt_stats_spec *spec, int32_t classes, const moment *m)
{
    if (l->kind == RT_TAP_CONV && !spec->convs) return 0;
    if (m->by_class && !spec->by_class) return 0;
    return (int64_t)(m->tiles ? l->tiles : l->channels) * (m->by_class ? classes : 1);
}

void rt_stats_fini(rt_stats *s)
{
    for (int32_t i = 0; s->layer && i < s->layers; i++)
        for (int k = 0; k < MOMENTS; k++) rt_free(*slot(&s->layer[i], &moments[k]));
    rt_free(s->layer);
    memset(s, 0, sizeof *s);
}

rt_status rt_stats_create(const rt_teacher *t, const rt_stats_spec *spec, int32_t classes, rt_stats *out)
{
    rt_status st = RT_OK;
    const rt_model_desc *d = rt_model_desc_of(t->model);
    rt_graph *g = NULL;
    rt_tap_list *taps = NULL;
    rt_forward f;
    rt_stats s = {.classes = classes};
    RT_ALLOC(taps, sizeof *taps, "taps");
    RT_TRY(rt_graph_create(&g));
    rt_val x = rt_input(g, "x", RT_SHAPE(RT_F32, 1, d->size, d->size, d->channels)), none = {0};
    rt_val theta = rt_input(g, "theta", RT_SHAPE(RT_F32, rt_model_n_params(t->model)));
    int64_t n_buffers = rt_model_n_buffers(t->model);
    rt_val buffers = n_buffers ? rt_input(g, "buffers", RT_SHAPE(RT_F32, n_buffers)) : none;
    RT_TRY(rt_model_forward_tapped(t->model, g, x, theta, buffers, 0, taps, &f));
    RT_ALLOC(s.layer, (size_t)(taps->n + 1) * sizeof *s.layer, "statistics");
    memset(s.layer, 0, (size_t)(taps->n + 1) * sizeof *s.layer);
    s.layers = taps->n;
    for (int32_t i = 0; i < s.layers; i++) {
        const rt_tap *tap = &taps->tap[i];
        rt_layer_stats *l = &s.layer[i];
        l->kind = tap->kind;
        snprintf(l->name, sizeof l->name, "%s", tap->name);
        l->channels = tap->c;
        l->tiles = tap->kind == RT_TAP_CONV && spec->convs && spec->patches ? rt_patch_tiles(tap->h, tap->w) : 0;
        for (int k = 0; k < MOMENTS; k++) {
            int64_t n = wanted(l, spec, classes, &moments[k]);
            if (!n) continue;
            RT_ALLOC(*slot(l, &moments[k]), (size_t)n * sizeof(float), "statistics");
            memset(*slot(l, &moments[k]), 0, (size_t)n * sizeof(float));
        }
    }
    *out = s;
    memset(&s, 0, sizeof s);
out:
    rt_stats_fini(&s);
    rt_graph_destroy(g);
    rt_free(taps);
    return st;
}

/* --- key ---------------------------------------------------------------------------------------------------------------- */

static void add_text(rt_sha256 *h, const char *text) { rt_sha256_update(h, text, strlen(text) + 1); }

rt_status rt_stats_path(const rt_teacher *t, const rt_images *im, const rt_normalise *norm, const rt_stats_spec *spec, const char *dir,
                        char *path, size_t n, char key[RT_HASH_HEX])
{
    rt_status st = RT_OK;
    const rt_model_desc *d = rt_model_desc_of(t->model);
    rt_sha256 *h = NULL;
    char text[512], hex[RT_HASH_HEX], leaf[128];
    RT_TRY(rt_sha256_create(&h));
    int at = snprintf(text, sizeof text, "statistics 1\n%s depth %d width %d norm %d size %d small %d classes %d\nimages %lld %dx%d\n",
                      d->arch, d->depth, d->width, (int)d->norm, d->size, d->small_stem, d->classes, (long long)im->n, im->h, im->w);
    snprintf(text + at, sizeof text - (size_t)at, "convs %d patches %d class %d within %d ema %d views %d batch %lld seed %llu\n",
             spec->convs, spec->patches, spec->by_class, spec->within_image, spec->ema, spec->views, (long long)spec->batch,
             (unsigned long long)spec->seed);
    add_text(h, text);
    rt_sha256_update(h, t->theta, (size_t)rt_model_n_params(t->model) * sizeof *t->theta);
    if (t->buffers) rt_sha256_update(h, t->buffers, (size_t)rt_model_n_buffers(t->model) * sizeof *t->buffers);
    add_text(h, im->classes.hash);
    add_text(h, im->white && im->zca ? im->zca->hash : "");
    rt_sha256_update(h, norm, sizeof *norm);
    rt_sha256_update(h, im->label, (size_t)im->n * sizeof *im->label);
    rt_sha256_update(h, im->px, (size_t)im->n * (size_t)im->h * (size_t)im->w * 3);
    rt_sha256_final(h, hex);
    snprintf(leaf, sizeof leaf, "%s-%.12s", t->name, hex);
    RT_TRY(rt_fs_join(path, n, dir, leaf));
    memcpy(key, hex, sizeof hex);
out:
    return st;
}

/* --- writing and reading ------------------------------------------------------------------------------------------------ */

static void tensor_name(const rt_layer_stats *l, const moment *m, char out[TENSOR_NAME])
{
    snprintf(out, TENSOR_NAME, "%s.%s", l->name, m->name);
}

rt_status rt_stats_write(const char *path, const char *key, const rt_teacher *t, const rt_stats_spec *spec, const rt_stats *s,
                         const rt_ledger *cost)
{
    rt_status st = RT_OK;
    char file[PATH_MAX];
    rt_commit *commit = NULL;
    rt_st_tensor *tensor = NULL;
    char (*name)[TENSOR_NAME] = NULL;
    json_t *m = NULL;
    int64_t n = 0;
    RT_ALLOC(tensor, (size_t)(MOMENTS * s->layers + 1) * sizeof *tensor, "statistics");
    RT_ALLOC(name, (size_t)(MOMENTS * s->layers + 1) * sizeof *name, "statistics");
    for (int32_t i = 0; i < s->layers; i++)
        for (int k = 0; k < MOMENTS; k++) {
            rt_layer_stats *l = &s->layer[i];
            int64_t count = wanted(l, spec, s->classes, &moments[k]), rows = moments[k].by_class ? s->classes : 1;
            if (!count) continue;
            tensor_name(l, &moments[k], name[n]);
            tensor[n] = (rt_st_tensor){name[n], RT_ST_F32, 1, {count}, *slot(l, &moments[k]), (uint64_t)count * 4};
            if (moments[k].by_class) {
                tensor[n].rank = 2;
                tensor[n].shape[0] = rows;
                tensor[n].shape[1] = count / rows;
            }
            n++;
        }
    RT_TRY(rt_commit_begin(path, &commit));
    RT_TRY(rt_fs_join(file, sizeof file, rt_commit_dir(commit), file_name));
    RT_TRY(rt_st_write(file, tensor, n, NULL, 0));
    m = json_pack("{s:s, s:s, s:s, s:s, s:i, s:o}", "kind", "statistics", "inputs_hash", key, "teacher", t->name,
                  "teacher_content", t->content, "layers", s->layers, "cost", rt_ledger_json(cost));
    if (!m) {
        st = RT_RAISE(RT_ERR_NOMEM, "manifest");
        goto out;
    }
    rt_commit *c = commit;
    commit = NULL;
    RT_TRY(rt_commit_finish(c, m));
out:
    rt_commit_abort(commit);
    rt_free(tensor);
    rt_free(name);
    json_decref(m);
    return st;
}

static rt_status take(const rt_st_file *f, const char *file, rt_layer_stats *l, const moment *m, int64_t count, int32_t classes)
{
    rt_status st = RT_OK;
    char name[TENSOR_NAME];
    float *v = *slot(l, m);
    tensor_name(l, m, name);
    const rt_st_tensor *t = rt_st_find(f, name);
    bool fits = t && t->dtype == RT_ST_F32 && t->rank == (m->by_class ? 2 : 1) && t->bytes == (uint64_t)count * 4 &&
                (!m->by_class || t->shape[0] == classes);
    if (!fits) return RT_RAISE(RT_ERR_FORMAT, "%s: no '%s' of %lld values", file, name, (long long)count);
    RT_TRY(rt_st_to_f32(t, v, count));
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(v[i])) return RT_RAISE(RT_ERR_FORMAT, "%s: '%s' holds a value that is not finite", file, name);
out:
    return st;
}

rt_status rt_stats_read(const char *path, const char *key, const rt_teacher *t, const rt_stats_spec *spec, int32_t classes,
                        rt_stats *out)
{
    rt_status st = RT_OK;
    char file[PATH_MAX];
    json_t *m = NULL;
    rt_st_file *f = NULL;
    rt_stats s = {0};
    int64_t n = 0;
    RT_TRY(rt_artefact_open(path, "statistics", true, &m));
    const char *have = json_string_value(json_object_get(m, "inputs_hash"));
    if (!have || strcmp(have, key)) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s holds statistics of another teacher, other data or another pass", path);
        rt_error_fix(st, "remove that folder: they are collected again");
        goto out;
    }
    RT_TRY(rt_fs_join(file, sizeof file, path, file_name));
    RT_TRY(rt_st_open(file, &f));
    RT_TRY(rt_stats_create(t, spec, classes, &s));
    for (int32_t i = 0; i < s.layers; i++)
        for (int k = 0; k < MOMENTS; k++) {
            int64_t count = wanted(&s.layer[i], spec, classes, &moments[k]);
            if (!count) continue;
            RT_TRY(take(f, file, &s.layer[i], &moments[k], count, classes));
            n++;
        }
    if (n != rt_st_count(f)) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: %lld tensors, the teacher's layers make %lld", file, (long long)rt_st_count(f), (long long)n);
        goto out;
    }
    *out = s;
    memset(&s, 0, sizeof s);
out:
    json_decref(m);
    rt_st_close(f);
    rt_stats_fini(&s);
    return st;
}
