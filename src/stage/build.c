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
    rt_experts *experts;
    rt_pool pool;           /* of pool_of */
    const rt_method *pool_of;
    rt_committee first, all; /* the one teacher; the committee */
    int64_t *original_of;   /* NULL with have_originals: the identity */
    bool have_originals;
} shared;

enum { NEEDS_SCORES = RT_NEEDS_FEATURES | RT_NEEDS_EL2N, NEEDS_WEIGHTS = RT_NEEDS_TEACHER | RT_NEEDS_COMMITTEE };

static rt_teachers teachers_of(const rt_method *m)
{
    return m->needs & RT_NEEDS_COMMITTEE ? RT_TEACHERS_COMMITTEE : RT_TEACHERS_FIRST;
}

/* One text for all experts: their contents' hashes. */
static rt_status experts_hash(const rt_experts *e, char hex[RT_HASH_HEX])
{
    rt_status st = RT_OK;
    rt_sha256 *h = NULL;
    RT_TRY(rt_sha256_create(&h));
    for (int64_t k = 0; k < rt_experts_count(e); k++) {
        const char *one = json_string_value(json_object_get(rt_experts_manifest(e, k), "content_hash"));
        rt_sha256_update(h, one ? one : "", one ? strlen(one) : 0);
    }
    rt_sha256_final(h, hex);
out:
    return st;
}

/* Exactly what a set depends on, and nothing of the grid around it: another ipc, method or seed must not build it again. */
static rt_status set_key(rt_run *r, const rt_method *m, const rt_set_name *s, shared *have, char key[RT_HASH_HEX])
{
    rt_status st = RT_OK;
    const char *sections[8], *extra[8 + 64];
    const char *const given[] = {r->c->set.init_images, r->c->set.network_weights, r->c->set.batch_order};
    enum { N_GIVEN = sizeof given / sizeof *given };
    char given_hash[N_GIVEN][RT_HASH_HEX] = {{0}};
    int n_sections = 0, n_extra = 0;
    char experts[RT_HASH_HEX], teachers[RT_HASH_HEX];
    static const char sep[] = "needs";
    rt_teacher_info info[64];
    extra[n_extra++] = s->text;
    if (!strcmp(m->family, "coreset")) {
        if (m->needs & NEEDS_SCORES) sections[n_sections++] = "coreset";
    } else {
        sections[n_sections++] = m->section ? m->section : m->name;
        sections[n_sections++] = "network";
        for (int i = 0; i < N_GIVEN; i++) { /* files that replace draws count by their bytes */
            if (*given[i]) RT_TRY(rt_hash_file(given[i], given_hash[i], NULL));
            extra[n_extra++] = given_hash[i];
        }
    }
    if (m->needs & RT_NEEDS_EXPERTS) {
        if (!have->experts) RT_TRY(rt_run_experts_open(r, &have->experts));
        RT_TRY(experts_hash(have->experts, experts));
        extra[n_extra++] = experts;
    }
    if (m->needs & NEEDS_SCORES) {
        int runs = (m->needs & RT_NEEDS_EL2N) && r->c->teach.runs < 64 ? (int)r->c->teach.runs : 1;
        extra[n_extra++] = sep;
        for (int k = 0; k < runs; k++) {
            RT_TRY(rt_run_teacher_info(r, k, &info[k]));
            extra[n_extra++] = info[k].content_hash;
        }
    }
    if (m->needs & NEEDS_WEIGHTS) {
        RT_TRY(rt_run_committee_hash(r, teachers_of(m), teachers));
        extra[n_extra++] = teachers;
    }
    RT_TRY(rt_run_key(r, sections, n_sections, extra, n_extra, key));
out:
    return st;
}

/* Which sample of the training split every decoded image is, when some were left out. Both lists are in data-set order. */
static rt_status find_originals(rt_run *r, shared *s)
{
    rt_status st = RT_OK;
    const rt_images *train = NULL;
    if (s->have_originals) return RT_OK;
    RT_TRY(rt_run_train(r, &train));
    const int64_t all = rt_dataset_count(r->train_set);
    if (train->n < all) {
        int64_t at = 0;
        RT_ALLOC(s->original_of, (size_t)train->n * sizeof *s->original_of, "places of the training images");
        for (int64_t i = 0; i < train->n; i++, at++) {
            while (at < all && strcmp(rt_dataset_key(r->train_set, at), train->key[i]) != 0) at++;
            if (at == all) {
                st = RT_RAISE(RT_ERR_INTERNAL, "training image %s is not in its data set", train->key[i]);
                goto out;
            }
            s->original_of[i] = at;
        }
    }
    s->have_originals = true;
out:
    return st;
}

static rt_status read_needs(rt_run *r, const rt_method *m, shared *s)
{
    rt_status st = RT_OK;
    if ((m->needs & RT_NEEDS_FEATURES) && !s->features) RT_TRY(rt_run_teacher_features(r, 0, &s->features, &s->dim, NULL));
    if ((m->needs & RT_NEEDS_EL2N) && !s->el2n) RT_TRY(rt_run_el2n(r, &s->el2n));
    if (m->pool && s->pool_of != m) {
        rt_pool_fini(&s->pool);
        s->pool_of = NULL;
        RT_TRY(rt_run_pool(r, m, &s->pool));
        s->pool_of = m;
    }
    if ((m->needs & RT_NEEDS_TEACHER) && !s->first.n) RT_TRY(rt_run_committee(r, RT_TEACHERS_FIRST, &s->first));
    if ((m->needs & RT_NEEDS_COMMITTEE) && !s->all.n) RT_TRY(rt_run_committee(r, RT_TEACHERS_COMMITTEE, &s->all));
    RT_TRY(find_originals(r, s));
out:
    return st;
}

/* A teacher's cost under its name, and into the sums: once, however many of a method's needs it serves. */
static rt_status add_teacher(rt_run *r, const rt_teacher_seat *seat, json_t *each, double *wall, double *flops)
{
    rt_status st = RT_OK;
    char path[PATH_MAX];
    json_t *m = NULL;
    if (json_object_get(each, seat->name)) return RT_OK;
    RT_TRY(rt_run_teacher_open(r, seat, path, &m));
    double w = json_number_value(json_object_get(json_object_get(m, "cost"), "wall_s"));
    double f = json_number_value(json_object_get(m, "flops"));
    if (json_object_set_new(each, seat->name, json_pack("{s:f, s:f}", "wall_s", w, "flops", f))) {
        st = RT_RAISE(RT_ERR_NOMEM, "manifest");
        goto out;
    }
    *wall += w;
    *flops += f;
out:
    json_decref(m);
    return st;
}

/* Teachers and experts a method relied on, shown apart from its own cost. */
static rt_status teacher_cost(rt_run *r, const rt_method *m, const shared *s, json_t *manifest)
{
    rt_status st = RT_OK;
    double wall = 0, flops = 0;
    rt_teacher_seat seat;
    /* inside "cost": wall time varies between runs, so it may not enter the compared bytes */
    json_t *cost = json_object_get(manifest, "cost"), *each = json_object();
    if (!each || json_object_set_new(cost, "teachers", each)) return RT_RAISE(RT_ERR_NOMEM, "manifest");
    for (int k = 0; (m->needs & RT_NEEDS_EL2N) && rt_run_teacher_seat(r, RT_TEACHERS_RUNS, k, &seat); k++)
        RT_TRY(add_teacher(r, &seat, each, &wall, &flops));
    for (int k = 0; (m->needs & (RT_NEEDS_FEATURES | RT_NEEDS_TEACHER)) && rt_run_teacher_seat(r, RT_TEACHERS_FIRST, k, &seat); k++)
        RT_TRY(add_teacher(r, &seat, each, &wall, &flops));
    for (int k = 0; (m->needs & RT_NEEDS_COMMITTEE) && rt_run_teacher_seat(r, RT_TEACHERS_COMMITTEE, k, &seat); k++)
        RT_TRY(add_teacher(r, &seat, each, &wall, &flops));
    if (m->needs & RT_NEEDS_EXPERTS) {
        double experts_wall, experts_flops;
        rt_run_experts_cost(s->experts, &experts_wall, &experts_flops);
        if (json_object_set_new(cost, "experts_wall_s", json_real(experts_wall)) ||
            json_object_set_new(cost, "experts_flops", json_real(experts_flops)))
            return RT_RAISE(RT_ERR_NOMEM, "manifest");
    }
    if (m->pool) {
        wall += s->pool.wall_s;
        flops += s->pool.flops;
    }
    if (json_object_set_new(cost, "teacher_wall_s", json_real(wall)) || json_object_set_new(cost, "teacher_flops", json_real(flops)))
        st = RT_RAISE(RT_ERR_NOMEM, "manifest");
out:
    return st;
}

static rt_status commit_set(rt_run *r, const rt_method *m, const rt_set_name *name, const char *path, const char *key,
                            const shared *s, const rt_set *set, rt_ledger *ledger)
{
    rt_status st = RT_OK;
    rt_commit *commit = NULL;
    json_t *manifest = NULL;
    int64_t image_bytes = 0, label_bytes = 0;
    if (r->c->data.zca && !set->zca[0]) {
        st = RT_RAISE(RT_ERR_CONFIG, "%s does not work on whitened images", m->name);
        rt_error_fix(st, "set data.zca to false, or take %s out of methods.names", m->name);
        goto out;
    }
    RT_TRY(rt_commit_begin(path, &commit));
    RT_TRY(rt_set_write(set, commit, &image_bytes, &label_bytes));
    rt_ledger_entry(ledger)->image_bytes = (double)image_bytes;
    rt_ledger_entry(ledger)->label_bytes = (double)label_bytes;
    RT_TRY(rt_run_manifest(r, "set", key, ledger, &manifest));
    RT_TRY(teacher_cost(r, m, s, manifest));
    RT_TRY(rt_set_describe(set, manifest));
    if (json_object_update_missing_new(manifest, json_pack("{s:s, s:s, s:s, s:I, s:i, s:I, s:I, s:I}", "method", m->name, "family",
                                                           m->family, "title", m->title, "ipc", (json_int_t)name->ipc,
                                                           "construction", name->seed, "iteration",
                                                           (json_int_t)name->iteration, "image_bytes", (json_int_t)image_bytes,
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
    ctx.config = c;
    ctx.files = (rt_draw_files){c->set.init_images, c->set.network_weights, c->set.batch_order};
    return ctx;
}

/* Where a construction's snapshots go. */
typedef struct sink {
    rt_run *r;
    const rt_method *m;
    const rt_set_name *name;
    shared *shared;
    rt_ledger *ledger;
} sink;

static rt_status keep_snapshot(void *to, int64_t it, const rt_set *set)
{
    rt_status st = RT_OK;
    sink *s = to;
    rt_set_name name = *s->name;
    char path[PATH_MAX], key[RT_HASH_HEX];
    name.iteration = it;
    rt_run_name_text(&name);
    RT_TRY(set_key(s->r, s->m, &name, s->shared, key));
    RT_TRY(rt_run_path(s->r, path, "sets/%s", name.text));
    RT_TRY(commit_set(s->r, s->m, &name, path, key, s->shared, set, s->ledger));
out:
    return st == RT_OK ? st : rt_error_frame(st, __FILE__, __LINE__, "set %s", name.text);
}

/* What a checkpoint belongs to: the set, and the snapshots that were asked for when it was taken. One taken without them
 * may lie behind an iteration that is now wanted. */
enum { CKPT_KEY = RT_HASH_HEX + RT_CFG_MAX_LIST * 24 };
static void ckpt_key(const rt_config *c, const char *key, char out[CKPT_KEY])
{
    int n = snprintf(out, CKPT_KEY, "%s", key);
    for (int32_t i = 0; i < c->methods.snapshots.n; i++)
        if (c->methods.snapshots.v[i]) n += snprintf(out + n, (size_t)(CKPT_KEY - n), ",%lld", (long long)c->methods.snapshots.v[i]);
}

static rt_status build_one(rt_run *r, const rt_method *m, const rt_set_name *name, const char *path, const char *key, shared *s)
{
    rt_status st = RT_OK;
    char ckpt[PATH_MAX], stats[PATH_MAX], inputs[CKPT_KEY];
    rt_ledger *ledger = NULL;
    rt_set set = {0};
    rt_build_ctx ctx = rt_run_build_ctx(r, name);
    sink to = {.r = r, .m = m, .name = name, .shared = s};
    ckpt_key(r->c, key, inputs);
    ctx.inputs_hash = inputs;
    RT_TRY(rt_run_path(r, ckpt, "sets/%s.ckpt", name->text));
    ctx.ckpt_dir = ckpt;
    RT_TRY(rt_run_path(r, stats, "statistics"));
    ctx.stats_dir = stats;
    RT_TRY(rt_run_backend(r, &ctx.be));
    RT_TRY(rt_run_train(r, &ctx.train));
    RT_TRY(rt_run_net(r, r->c->network.arch, &ctx.net));
    RT_TRY(read_needs(r, m, s));
    ctx.features = s->features;
    ctx.feature_dim = s->dim;
    ctx.el2n = s->el2n;
    ctx.experts = s->experts;
    ctx.pool = m->pool ? &s->pool : NULL;
    if (m->needs & NEEDS_WEIGHTS) ctx.teachers = teachers_of(m) == RT_TEACHERS_FIRST ? &s->first : &s->all;
    ctx.originals = r->train_set;
    ctx.original_of = s->original_of;
    RT_TRY(rt_ledger_create(&ledger));
    rt_ledger_begin(ledger);
    ctx.ledger = to.ledger = ledger;
    ctx.snapshot = keep_snapshot;
    ctx.snapshot_to = &to;
    RT_TRY(m->construct(&ctx, &set));
    RT_TRY(commit_set(r, m, name, path, key, s, &set, ledger));
    RT_TRY(rt_ckpt_clear(ckpt));
    rt_log_line(RT_LOG_INFO, "set %s: %lld images, constructed in %.1f s", name->text, (long long)set.n,
                rt_ledger_entry(ledger)->wall_s);
out:
    rt_set_fini(&set);
    rt_ledger_destroy(ledger);
    return st;
}

/* Whether the i-th set of the grid and the snapshots that follow it are there already. The set itself is asked last: asking
 * sweeps the checkpoints of a finished set, which a construction that is run again for its snapshots still needs. */
static rt_status all_there(rt_run *r, const rt_stage_opts *o, int i, const rt_method *m, shared *s, bool *skip)
{
    rt_status st = RT_OK;
    char path[PATH_MAX], key[RT_HASH_HEX];
    rt_set_name name;
    int last = i;
    *skip = true;
    while (rt_run_set_name(r, last + 1, &name) && name.iteration) last++;
    for (int k = last; k >= i && *skip; k--) {
        rt_run_set_name(r, k, &name);
        RT_TRYF(set_key(r, m, &name, s, key), "set %s", name.text);
        RT_TRY(rt_run_path(r, path, "sets/%s", name.text));
        RT_TRY(rt_run_skip(path, "set", key, o->force, skip));
    }
out:
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
        if (name.iteration) continue; /* kept while its set is constructed */
        RT_TRY(rt_method_find(name.method, &m));
        RT_TRY(all_there(r, o, i, m, &s, &skip));
        if (skip) continue;
        RT_TRYF(set_key(r, m, &name, &s, key), "set %s", name.text);
        RT_TRY(rt_run_path(r, path, "sets/%s", name.text));
        RT_TRYF(build_one(r, m, &name, path, key, &s), "set %s", name.text);
    }
out:
    rt_free(s.features);
    rt_free(s.el2n);
    rt_experts_close(s.experts);
    rt_pool_fini(&s.pool);
    rt_committee_fini(&s.first);
    rt_committee_fini(&s.all);
    rt_free(s.original_of);
    return st == RT_OK ? st : rt_error_frame(st, __FILE__, __LINE__, "build");
}
