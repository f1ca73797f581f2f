/* What the other stages read of trained teachers: features, scores, weights, and whole committees. How they come to be:
 * teach.c. A teacher is read only when it was made with this config's settings and data, and for this run's classes. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/rng.h"
#include "stage/stages.h"

/* Teachers draw apart from students: a student of the same network number would start at its teacher's initial weights and
 * see its batches, and learn from it better than from any other teacher. */
enum { TEACHER_SEED = 0x74656163, MEMBER = 1 << 20 };

uint64_t rt_run_teacher_seed(const rt_run *r) { return rt_seed_derive((uint64_t)r->c->seed, TEACHER_SEED); }

bool rt_run_teacher_seat(const rt_run *r, rt_teachers which, int i, rt_teacher_seat *out)
{
    const rt_config *c = r->c;
    const int64_t n = which == RT_TEACHERS_COMMITTEE ? c->committee.archs.n : which == RT_TEACHERS_RUNS ? c->teach.runs : 1;
    if (i < 0 || i >= n) return false;
    rt_teacher_seat s = {.arch = c->network.arch, .network = which == RT_TEACHERS_RUNS ? i : 0};
    if (which == RT_TEACHERS_COMMITTEE && strcmp(c->committee.archs.v[i], "network") != 0) {
        s.member = true;
        s.arch = c->committee.archs.v[i];
        s.network = MEMBER; /* of the architecture of net0 it is another network still */
        snprintf(s.name, sizeof s.name, "%s", s.arch);
    } else {
        snprintf(s.name, sizeof s.name, "net%d", s.network);
    }
    *out = s;
    return true;
}

/* Without teach.runs and committee.archs: one more teacher leaves those before it as they are. */
rt_status rt_run_teacher_key(rt_run *r, const rt_teacher_seat *s, char key[RT_HASH_HEX])
{
    rt_status st = RT_OK;
    char which[256], recipe_text[RT_RECIPE_TEXT];
    rt_recipe recipe;
    rt_model_desc d;
    RT_TRY(rt_run_teach_recipe(r->c, &recipe));
    rt_run_recipe_text(&recipe, recipe_text);
    RT_TRY(rt_run_net(r, s->arch, &d));
    snprintf(which, sizeof which, "teacher %s %d of %s depth=%d width=%d norm=%d stem=%d el2n=%lld", s->member ? "member" : "net",
             s->network, d.arch, d.depth, d.width, (int)d.norm, d.small_stem, s->member ? -1LL : (long long)r->c->teach.el2n_epoch);
    RT_TRY(rt_run_key(r, NULL, 0, (const char *const[]){which, recipe_text}, 2, key));
out:
    return st;
}

rt_status rt_run_teacher_open(rt_run *r, const rt_teacher_seat *s, char path[PATH_MAX], json_t **manifest)
{
    rt_status st = RT_OK;
    char key[RT_HASH_HEX];
    json_t *m = NULL;
    RT_TRY(rt_run_teacher_key(r, s, key));
    RT_TRY(rt_run_path(r, path, "teacher/%s", s->name));
    st = rt_artefact_open(path, "teacher", false, &m);
    if (st == RT_ERR_MISSING) {
        rt_error_fix(st, "run `retort teach` with this config first");
        goto out;
    }
    if (st != RT_OK) goto out;
    const char *have = json_string_value(json_object_get(m, "inputs_hash"));
    if (!have || strcmp(have, key) != 0) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s was made with other settings or data", path);
        rt_error_fix(st, "run `retort teach` with this config again");
        goto out;
    }
    const char *classes = json_string_value(json_object_get(m, "classes_hash"));
    if (!classes || strcmp(classes, rt_dataset_classes(r->train_set)->hash) != 0) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s has a head for other classes, or for these in another order", path);
        rt_error_fix(st, "run `retort teach --force` with this config");
        goto out;
    }
    *manifest = m;
    m = NULL;
out:
    json_decref(m);
    return st;
}

static rt_status open_net(rt_run *r, int k, char path[PATH_MAX], json_t **m)
{
    rt_teacher_seat s;
    if (!rt_run_teacher_seat(r, RT_TEACHERS_RUNS, k, &s)) return RT_RAISE(RT_ERR_ARG, "teacher %d of %lld", k, (long long)r->c->teach.runs);
    return rt_run_teacher_open(r, &s, path, m);
}

static rt_status read_weights(const char *path, const rt_model *net, float **theta, float **buffers)
{
    rt_status st = RT_OK;
    char file[PATH_MAX];
    rt_st_file *f = NULL;
    float *p = NULL, *b = NULL;
    RT_TRY(rt_fs_join(file, sizeof file, path, "model.safetensors"));
    RT_TRY(rt_st_open(file, &f));
    RT_ALLOC(p, (size_t)rt_model_n_params(net) * sizeof *p, "weights");
    RT_ALLOC(b, (size_t)rt_model_n_buffers(net) * sizeof *b, "weights");
    RT_TRY(rt_model_load(net, f, file, p, b));
    *theta = p;
    *buffers = b;
    p = b = NULL;
out:
    rt_free(p);
    rt_free(b);
    rt_st_close(f);
    return st;
}

rt_status rt_run_teacher_info(rt_run *r, int k, rt_teacher_info *out)
{
    char path[PATH_MAX];
    json_t *m = NULL;
    rt_status st = open_net(r, k, path, &m);
    if (st != RT_OK) return st;
    const char *hash = json_string_value(json_object_get(m, "content_hash"));
    snprintf(out->content_hash, sizeof out->content_hash, "%s", hash ? hash : "");
    out->accuracy = json_number_value(json_object_get(m, "accuracy"));
    out->flops = json_number_value(json_object_get(m, "flops"));
    out->wall_s = json_number_value(json_object_get(json_object_get(m, "cost"), "wall_s"));
    json_decref(m);
    return RT_OK;
}

rt_status rt_run_teacher_features(rt_run *r, int k, float **features, int64_t *dim, double **el2n)
{
    rt_status st = RT_OK;
    char path[PATH_MAX], file[PATH_MAX];
    json_t *m = NULL;
    rt_st_file *f = NULL;
    float *x = NULL;
    double *e = NULL;
    RT_TRY(open_net(r, k, path, &m));
    RT_TRY(rt_fs_join(file, sizeof file, path, "features.safetensors"));
    RT_TRY(rt_st_open(file, &f));
    const rt_st_tensor *tx = rt_st_find(f, "features"), *te = rt_st_find(f, "el2n");
    int64_t n = rt_dataset_count(r->train_set) - r->bad.n;
    if (!tx || !te || tx->rank != 2 || te->rank != 1 || te->dtype != RT_ST_F64 || te->shape[0] != tx->shape[0] ||
        tx->shape[0] != n) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: features of %lld training images expected", file, (long long)n);
        goto out;
    }
    if (features) {
        RT_ALLOC(x, (size_t)(tx->shape[0] * tx->shape[1]) * sizeof *x, "features");
        RT_TRY(rt_st_to_f32(tx, x, tx->shape[0] * tx->shape[1]));
    }
    if (el2n) {
        RT_ALLOC(e, (size_t)n * sizeof *e, "EL2N scores");
        memcpy(e, te->data, (size_t)n * sizeof *e);
        *el2n = e;
        e = NULL;
    }
    if (features) {
        *features = x;
        x = NULL;
    }
    if (dim) *dim = tx->shape[1];
out:
    rt_free(x);
    rt_free(e);
    rt_st_close(f);
    json_decref(m);
    return st;
}

rt_status rt_run_el2n(rt_run *r, double **out)
{
    rt_status st = RT_OK;
    double *sum = NULL, *one = NULL;
    int runs = (int)r->c->teach.runs;
    int64_t n = rt_dataset_count(r->train_set) - r->bad.n;
    RT_ALLOC(sum, (size_t)n * sizeof *sum, "EL2N scores");
    for (int k = 0; k < runs; k++) {
        RT_TRY(rt_run_teacher_features(r, k, NULL, NULL, &one));
        for (int64_t i = 0; i < n; i++) sum[i] += one[i] / runs;
        rt_free(one);
        one = NULL;
    }
    *out = sum;
    sum = NULL;
out:
    rt_free(sum);
    rt_free(one);
    return st;
}

rt_status rt_run_teacher_weights(rt_run *r, int k, rt_trainer *t)
{
    rt_status st = RT_OK;
    char path[PATH_MAX];
    json_t *m = NULL;
    float *theta = NULL, *buffers = NULL;
    RT_TRY(open_net(r, k, path, &m));
    RT_TRY(read_weights(path, rt_trainer_model(t), &theta, &buffers));
    RT_TRY(rt_trainer_set_weights(t, theta, buffers));
out:
    rt_free(theta);
    rt_free(buffers);
    json_decref(m);
    return st;
}

/* --- committees ------------------------------------------------------------------------------------------------------------ */

static rt_status read_teacher(rt_run *r, const rt_teacher_seat *s, rt_teacher *out)
{
    rt_status st = RT_OK;
    char path[PATH_MAX];
    json_t *m = NULL;
    rt_model_desc d;
    rt_teacher t = {.weight = 1};
    RT_TRY(rt_run_teacher_open(r, s, path, &m));
    RT_TRY(rt_run_net(r, s->arch, &d));
    RT_TRY(rt_model_create(&d, &t.model));
    RT_TRY(read_weights(path, t.model, &t.theta, &t.buffers));
    const char *content = json_string_value(json_object_get(m, "content_hash"));
    snprintf(t.name, sizeof t.name, "%s", s->name);
    snprintf(t.content, sizeof t.content, "%s", content ? content : "");
    const json_t *accuracy = json_object_get(m, "accuracy");
    t.accuracy = json_is_number(accuracy) ? json_number_value(accuracy) : NAN;
    t.wall_s = json_number_value(json_object_get(json_object_get(m, "cost"), "wall_s"));
    t.flops = json_number_value(json_object_get(m, "flops"));
    *out = t;
    t = (rt_teacher){0};
out:
    rt_model_destroy(t.model);
    rt_free(t.theta);
    rt_free(t.buffers);
    json_decref(m);
    return st;
}

rt_status rt_run_committee(rt_run *r, rt_teachers which, rt_committee *out)
{
    rt_status st = RT_OK;
    rt_committee c = {0};
    rt_teacher_seat s;
    int n = 0;
    while (rt_run_teacher_seat(r, which, n, &s)) n++;
    RT_ALLOC(c.teacher, (size_t)n * sizeof *c.teacher, "committee");
    for (int i = 0; rt_run_teacher_seat(r, which, i, &s); i++) {
        RT_TRYF(read_teacher(r, &s, &c.teacher[i]), "teacher %s", s.name);
        c.n++;
    }
    *out = c;
    c = (rt_committee){0};
out:
    rt_committee_fini(&c);
    return st;
}

rt_status rt_run_committee_hash(rt_run *r, rt_teachers which, char hex[RT_HASH_HEX])
{
    rt_status st = RT_OK;
    char path[PATH_MAX], sum[RT_HASH_HEX] = "", text[2 * RT_HASH_HEX + 48];
    rt_teacher_seat s;
    for (int i = 0; rt_run_teacher_seat(r, which, i, &s); i++) {
        json_t *m = NULL;
        RT_TRYF(rt_run_teacher_open(r, &s, path, &m), "teacher %s", s.name);
        const char *content = json_string_value(json_object_get(m, "content_hash"));
        int n = snprintf(text, sizeof text, "%s%s %s", sum, s.name, content ? content : "");
        json_decref(m);
        RT_TRY(rt_hash_bytes(text, (size_t)n, sum));
    }
    memcpy(hex, sum, sizeof sum);
out:
    return st;
}
