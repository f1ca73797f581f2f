/* build: constructs every set of the grid (methods x images per class x constructions). */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/rng.h"
#include "methods/method.h"
#include "stage/stages.h"

/* Features and scores are read once for all sets that need them. */
typedef struct shared {
    float *features;
    int64_t dim;
    double *el2n;
} shared;

/* Exactly what a set depends on, and nothing of the grid around it: another ipc, method or seed must not build it again. */
static rt_status set_key(rt_run *r, const rt_method *m, const rt_set_name *s, char key[RT_HASH_HEX])
{
    rt_status st = RT_OK;
    const char *sections[8], *extra[8 + 64];
    const char *const given[] = {r->c->set.init_images, r->c->set.network_weights, r->c->set.batch_order};
    enum { N_GIVEN = sizeof given / sizeof *given };
    char given_hash[N_GIVEN][RT_HASH_HEX] = {{0}};
    int n_sections = 0, n_extra = 0;
    static const char sep[] = "needs";
    rt_teacher_info info[64];
    extra[n_extra++] = s->text;
    if (!strcmp(m->family, "coreset")) {
        if (m->needs) sections[n_sections++] = "coreset";
    } else {
        sections[n_sections++] = m->name; /* a method's own section carries its name */
        sections[n_sections++] = "network";
        for (int i = 0; i < N_GIVEN; i++) { /* files that replace draws count by their bytes */
            if (*given[i]) RT_TRY(rt_hash_file(given[i], given_hash[i], NULL));
            extra[n_extra++] = given_hash[i];
        }
    }
    if (m->needs) {
        int runs = (m->needs & RT_NEEDS_EL2N) && r->c->teach.runs < 64 ? (int)r->c->teach.runs : 1;
        extra[n_extra++] = sep;
        for (int k = 0; k < runs; k++) {
            RT_TRY(rt_run_teacher_info(r, k, &info[k]));
            extra[n_extra++] = info[k].content_hash;
        }
    }
    RT_TRY(rt_run_key(r, sections, n_sections, extra, n_extra, key));
out:
    return st;
}

static rt_status read_needs(rt_run *r, const rt_method *m, shared *s)
{
    rt_status st = RT_OK;
    if ((m->needs & RT_NEEDS_FEATURES) && !s->features) RT_TRY(rt_run_teacher_features(r, 0, &s->features, &s->dim, NULL));
    if ((m->needs & RT_NEEDS_EL2N) && !s->el2n) RT_TRY(rt_run_el2n(r, &s->el2n));
out:
    return st;
}

/* Teachers a method relied on, shown apart from its own cost. */
static rt_status teacher_cost(rt_run *r, const rt_method *m, json_t *manifest)
{
    rt_status st = RT_OK;
    double wall = 0, flops = 0;
    rt_teacher_info info;
    int runs = m->needs & RT_NEEDS_EL2N ? (int)r->c->teach.runs : m->needs & RT_NEEDS_FEATURES ? 1 : 0;
    for (int k = 0; k < runs; k++) {
        RT_TRY(rt_run_teacher_info(r, k, &info));
        wall += info.wall_s;
        flops += info.flops;
    }
    /* inside "cost": wall time varies between runs, so it may not enter the compared bytes */
    json_t *cost = json_object_get(manifest, "cost");
    if (json_object_set_new(cost, "teacher_wall_s", json_real(wall)) || json_object_set_new(cost, "teacher_flops", json_real(flops)))
        st = RT_RAISE(RT_ERR_NOMEM, "manifest");
out:
    return st;
}

static rt_status commit_set(rt_run *r, const rt_method *m, const rt_set_name *name, const char *path, const char *key,
                            const rt_set *set, rt_ledger *ledger)
{
    rt_status st = RT_OK;
    rt_commit *commit = NULL;
    json_t *manifest = NULL;
    int64_t image_bytes = 0, label_bytes = 0;
    RT_TRY(rt_commit_begin(path, &commit));
    RT_TRY(rt_set_write(set, commit, &image_bytes, &label_bytes));
    rt_ledger_entry(ledger)->image_bytes = (double)image_bytes;
    rt_ledger_entry(ledger)->label_bytes = (double)label_bytes;
    RT_TRY(rt_run_manifest(r, "set", key, ledger, &manifest));
    RT_TRY(teacher_cost(r, m, manifest));
    if (json_object_update_missing_new(manifest, json_pack("{s:s, s:s, s:s, s:I, s:i, s:I, s:I}", "method", m->name, "family",
                                                           m->family, "title", m->title, "ipc", (json_int_t)name->ipc,
                                                           "construction", name->seed, "image_bytes", (json_int_t)image_bytes,
                                                           "label_bytes", (json_int_t)label_bytes))) {
        st = RT_RAISE(RT_ERR_NOMEM, "manifest");
        goto out;
    }
    rt_commit *c = commit;
    commit = NULL;
    RT_TRY(rt_commit_finish(c, manifest));
out:
    rt_commit_abort(commit);
    json_decref(manifest);
    return st;
}

rt_build_ctx rt_run_build_ctx(const rt_run *r, const rt_set_name *name)
{
    const rt_config *c = r->c;
    rt_build_ctx ctx = {.norm = r->norm, .ipc = (int32_t)name->ipc, .seed = rt_seed_derive((uint64_t)c->seed, (uint64_t)name->seed),
                        .threads = rt_run_threads(r), .ckpt_seconds = c->run.checkpoint_seconds, .keep = (int)c->run.keep};
    ctx.dm = (rt_dm_params){.iterations = c->dm.iterations, .batch_real = c->dm.batch_real, .lr = c->dm.lr,
                            .momentum = c->dm.momentum, .init_noise = !strcmp(c->dm.init, "noise"), .dsa_strategy = c->dm.dsa};
    ctx.coreset = (rt_coreset_params){.normalise = c->coreset.normalise,
                                      .kcenter_random = !strcmp(c->coreset.kcenter_start, "random")};
    ctx.files = (rt_draw_files){c->set.init_images, c->set.network_weights, c->set.batch_order};
    return ctx;
}

static rt_status build_one(rt_run *r, const rt_method *m, const rt_set_name *name, const char *path, const char *key, shared *s)
{
    rt_status st = RT_OK;
    char ckpt[PATH_MAX];
    rt_ledger *ledger = NULL;
    rt_set set = {0};
    rt_build_ctx ctx = rt_run_build_ctx(r, name);
    ctx.inputs_hash = key;
    RT_TRY(rt_run_path(r, ckpt, "sets/%s.ckpt", name->text));
    ctx.ckpt_dir = ckpt;
    RT_TRY(rt_run_backend(r, &ctx.be));
    RT_TRY(rt_run_train(r, &ctx.train));
    RT_TRY(rt_run_net(r, r->c->network.arch, &ctx.net));
    RT_TRY(read_needs(r, m, s));
    ctx.features = s->features;
    ctx.feature_dim = s->dim;
    ctx.el2n = s->el2n;
    RT_TRY(rt_ledger_create(&ledger));
    rt_ledger_begin(ledger);
    ctx.ledger = ledger;
    RT_TRY(m->construct(&ctx, &set));
    RT_TRY(commit_set(r, m, name, path, key, &set, ledger));
    RT_TRY(rt_ckpt_clear(ckpt));
    rt_log_line(RT_LOG_INFO, "set %s: %lld images, constructed in %.1f s", name->text, (long long)set.n,
                rt_ledger_entry(ledger)->wall_s);
out:
    rt_set_fini(&set);
    rt_ledger_destroy(ledger);
    return st;
}

rt_status rt_run_build(rt_run *r, const rt_stage_opts *o)
{
    rt_status st = RT_OK;
    shared s = {0};
    rt_set_name name;
    char path[PATH_MAX], key[RT_HASH_HEX];
    bool skip;
    RT_TRY(rt_run_path(r, path, "sets"));
    RT_TRY(rt_fs_mkdirs(path));
    RT_TRY(rt_run_datasets(r));
    for (int i = 0; rt_run_set_name(r, i, &name); i++) {
        const rt_method *m;
        RT_TRY(rt_method_find(name.method, &m));
        RT_TRYF(set_key(r, m, &name, key), "set %s", name.text);
        RT_TRY(rt_run_path(r, path, "sets/%s", name.text));
        RT_TRY(rt_run_skip(path, "set", key, o->force, &skip));
        if (skip) continue;
        RT_TRYF(build_one(r, m, &name, path, key, &s), "set %s", name.text);
    }
out:
    rt_free(s.features);
    rt_free(s.el2n);
    return st == RT_OK ? st : rt_error_frame(st, __FILE__, __LINE__, "build");
}
