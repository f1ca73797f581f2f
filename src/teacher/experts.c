/* Reading expert trajectories. Nothing here trains; what is refused is refused before a construction begins, except for bytes
 * that rotted since the commit, which the checksum of each read catches. */
#include "teacher/experts.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"

typedef struct expert {
    char *path;
    json_t *manifest;
    int64_t last, final;
} expert;

struct rt_experts {
    int64_t n, n_params, last;
    expert *e;
};

void rt_expert_file(int64_t epoch, char out[RT_EXPERT_NAME])
{
    snprintf(out, RT_EXPERT_NAME, "theta-%04" PRId64 ".safetensors", epoch);
}

void rt_expert_arch(const rt_model *m, char out[RT_EXPERT_ARCH])
{
    const rt_model_desc *d = rt_model_desc_of(m);
    snprintf(out, RT_EXPERT_ARCH, "%s depth %d width %d norm %d stem %d: %dx%dx%d to %d classes, %" PRId64 " weights", d->arch, d->depth,
             d->width, (int)d->norm, d->small_stem, d->size, d->size, d->channels, d->classes, rt_model_n_params(m));
}

static rt_status refuse(const char *path, const char *what, const char *have, const char *want)
{
    rt_status st = RT_RAISE(RT_ERR_FORMAT, "%s was trained with %s (%.80s), this run has (%.80s)", path, what, *have ? have : "none",
                            *want ? want : "none");
    return rt_error_fix(st, "run `retort teach` with this config, or give this run a folder of its own (run.dir)");
}

static const char *text_at(const json_t *m, const char *key)
{
    const char *s = json_string_value(json_object_get(m, key));
    return s ? s : "";
}

static rt_status check_expert(const expert *x, const rt_model *net, const char *classes_hash, const char *zca)
{
    char arch[RT_EXPERT_ARCH];
    rt_expert_arch(net, arch);
    if (strcmp(text_at(x->manifest, "arch"), arch)) return refuse(x->path, "another network", text_at(x->manifest, "arch"), arch);
    if (strcmp(text_at(x->manifest, "classes_hash"), classes_hash))
        return refuse(x->path, "another class list", text_at(x->manifest, "classes_hash"), classes_hash);
    if (strcmp(text_at(x->manifest, "zca"), zca)) return refuse(x->path, "another ZCA transform", text_at(x->manifest, "zca"), zca);
    return RT_OK;
}

static rt_status open_expert(const char *dir, int64_t k, expert *x)
{
    rt_status st = RT_OK;
    const json_t *last, *final;
    if (!(x->path = rt_asprintf("%s/expert%" PRId64, dir, k))) return RT_RAISE(RT_ERR_NOMEM, "path of expert %" PRId64, k);
    st = rt_artefact_open(x->path, "expert", false, &x->manifest);
    if (st == RT_ERR_MISSING) return rt_error_fix(st, "run `retort teach` with this config first");
    if (st != RT_OK) return rt_error_fix(st, "remove %s and run `retort teach`: it trains this expert again", x->path);
    last = json_object_get(x->manifest, "last");
    final = json_object_get(x->manifest, "final");
    x->last = (int64_t)json_integer_value(last);
    x->final = (int64_t)json_integer_value(final);
    if (!json_is_integer(last) || !json_is_integer(final) || x->last < 0) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: the manifest does not say which snapshots are kept", x->path);
        rt_error_fix(st, "remove %s and run `retort teach`: it trains this expert again", x->path);
    }
    return st;
}

rt_status rt_experts_open(const char *dir, int64_t n, const rt_model *net, const char *classes_hash, const char *zca, int64_t last,
                          bool final, rt_experts **out)
{
    rt_status st = RT_OK;
    rt_experts *e = NULL;
    if (n < 1) return RT_RAISE(RT_ERR_ARG, "%" PRId64 " experts", n);
    RT_ALLOC(e, sizeof *e, "experts");
    RT_ALLOC(e->e, (size_t)n * sizeof *e->e, "experts");
    e->n = n;
    e->n_params = rt_model_n_params(net);
    e->last = INT64_MAX;
    for (int64_t k = 0; k < n; k++) {
        expert *x = &e->e[k];
        RT_TRY(open_expert(dir, k, x));
        RT_TRY(check_expert(x, net, classes_hash, zca));
        if (x->last < last || (final && x->final < 0)) {
            st = RT_RAISE(RT_ERR_FORMAT, "%s keeps snapshots 0 to %" PRId64 "%s, this config reads up to %" PRId64 "%s", x->path, x->last,
                          x->final < 0 ? "" : " and the final one", last, final ? " and the final one" : "");
            rt_error_fix(st, "run `retort teach` with this config again");
            goto out;
        }
        if (x->last < e->last) e->last = x->last;
    }
    *out = e;
    e = NULL;
out:
    rt_experts_close(e);
    return st == RT_OK ? st : rt_error_frame(st, __FILE__, __LINE__, "experts");
}

void rt_experts_close(rt_experts *e)
{
    if (!e) return;
    for (int64_t k = 0; e->e && k < e->n; k++) {
        rt_free(e->e[k].path);
        json_decref(e->e[k].manifest);
    }
    rt_free(e->e);
    rt_free(e);
}

int64_t rt_experts_count(const rt_experts *e) { return e->n; }
int64_t rt_experts_last(const rt_experts *e) { return e->last; }
int64_t rt_experts_final(const rt_experts *e, int64_t k) { return k >= 0 && k < e->n ? e->e[k].final : -1; }
const json_t *rt_experts_manifest(const rt_experts *e, int64_t k) { return k >= 0 && k < e->n ? e->e[k].manifest : NULL; }

static rt_status read_snapshot(const char *path, const char *want, int64_t n, float *theta)
{
    rt_status st = RT_OK;
    char hex[RT_HASH_HEX];
    rt_st_file *f = NULL;
    RT_TRY(rt_hash_file(path, hex, NULL));
    if (strcmp(hex, want)) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: checksum differs from the manifest: the file was damaged", path);
        goto out;
    }
    RT_TRY(rt_st_open(path, &f));
    const rt_st_tensor *t = rt_st_find(f, "theta");
    if (!t || t->dtype != RT_ST_F32 || t->rank != 1 || t->shape[0] != n) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: float32 vector theta of %" PRId64 " weights expected", path, n);
        goto out;
    }
    RT_TRY(rt_st_to_f32(t, theta, n));
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(theta[i])) {
            st = RT_RAISE(RT_ERR_FORMAT, "%s: weight %" PRId64 " is not finite", path, i);
            goto out;
        }
out:
    rt_st_close(f);
    return st;
}

rt_status rt_experts_read(const rt_experts *e, int64_t k, int64_t epoch, float *theta)
{
    rt_status st = RT_OK;
    char name[RT_EXPERT_NAME], path[PATH_MAX];
    if (k < 0 || k >= e->n || epoch < 0 || (epoch > e->e[k].last && epoch != e->e[k].final))
        return RT_RAISE(RT_ERR_ARG, "snapshot %" PRId64 " of expert %" PRId64 ": not kept", epoch, k);
    const expert *x = &e->e[k];
    rt_expert_file(epoch, name);
    RT_TRY(rt_fs_join(path, sizeof path, x->path, name));
    const char *sha = text_at(json_object_get(json_object_get(x->manifest, "files"), name), "sha256");
    st = read_snapshot(path, sha, e->n_params, theta);
    if (st == RT_ERR_FORMAT || st == RT_ERR_MISSING)
        rt_error_fix(st, "remove %s, run `retort teach`, then this command again: what was constructed so far is kept", x->path);
out:
    return st;
}
