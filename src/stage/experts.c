/* experts: networks trained on the real images whose weights are kept after every epoch. Each is an artefact of its own, so a
 * killed run loses the epochs since the last checkpoint of the expert at hand and nothing of those before it.
 *
 * While an expert trains, its snapshots lie in `<expert>.ckpt/snapshots/`, each written whole before a checkpoint can lie past
 * it: a resumed run finds all snapshots up to its checkpoint and rewrites the later ones with the same bytes. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/rng.h"
#include "stage/stages.h"

/* Experts are other networks than teachers and students, which count from 0 under the run's own seed. */
enum { EXPERT_SEED = 0x45585054 };

/* What is trained and kept: snapshots 0..last, and the final one after `epochs`. */
typedef struct span {
    int64_t epochs, last;
    bool final;
} span;

static rt_status span_of(const rt_config *c, span *out)
{
    rt_status st = RT_OK;
    span s = {.last = 0};
    for (int32_t i = 0; i < c->methods.names.n; i++) {
        const rt_method *m;
        int64_t last = 0;
        bool final = false;
        RT_TRY(rt_method_find(c->methods.names.v[i], &m));
        if (!(m->needs & RT_NEEDS_EXPERTS)) continue;
        m->expert_span(c, &last, &final);
        if (last > c->experts.epochs) {
            st = RT_RAISE(RT_ERR_CONFIG, "%s reads experts up to epoch %lld (largest start + epochs ahead), experts.epochs is %lld",
                          m->name, (long long)last, (long long)c->experts.epochs);
            rt_error_fix(st, "raise experts.epochs to %lld, or lower the start epochs of %s", (long long)last, m->name);
            goto out;
        }
        if (last > s.last) s.last = last;
        s.final = s.final || final;
    }
    if (!strcmp(c->experts.keep, "all")) s = (span){.last = c->experts.epochs, .final = true};
    s.epochs = s.final ? c->experts.epochs : s.last; /* a constant rate: the epochs after that change nothing before them */
    *out = s;
out:
    return st;
}

static bool kept(const span *s, int64_t epoch) { return epoch <= s->last || (s->final && epoch == s->epochs); }

rt_status rt_run_experts_recipe(const rt_run *r, rt_recipe *out, int64_t *n_kept)
{
    rt_status st = RT_OK;
    const rt_config *c = r->c;
    span s;
    RT_TRY(span_of(c, &s));
    rt_recipe x = {.epochs = s.epochs, .batch = c->experts.batch};
    snprintf(x.name, sizeof x.name, "experts");
    x.optim = (rt_optim_desc){.kind = RT_SGD, .lr = c->experts.lr, .momentum = c->experts.momentum,
                              .weight_decay = c->experts.weight_decay};
    x.schedule = (rt_schedule){.kind = RT_SCHED_CONSTANT};
    x.gsam_rho = c->experts.gsam_rho;
    x.gsam_alpha = c->experts.gsam_rho > 0 ? c->experts.gsam_alpha : 0;
    if (*c->experts.dsa && strcmp(c->experts.dsa, "none")) {
        x.augment = RT_AUGMENT_DSA;
        x.dsa_strategy = c->experts.dsa;
    }
    if (n_kept) *n_kept = s.last + 1 + (s.final && s.epochs > s.last);
    *out = x;
out:
    return st;
}

/* Without the number of experts and epochs: more of either leaves those before them as they are. */
static rt_status expert_key(rt_run *r, int64_t k, char key[RT_HASH_HEX])
{
    rt_status st = RT_OK;
    char which[32], text[RT_RECIPE_TEXT];
    rt_recipe recipe;
    RT_TRY(rt_run_experts_recipe(r, &recipe, NULL));
    recipe.epochs = 0;
    rt_run_recipe_text(&recipe, text);
    snprintf(which, sizeof which, "expert %lld", (long long)k);
    RT_TRY(rt_run_key(r, (const char *const[]){"network"}, 1, (const char *const[]){which, text}, 2, key));
out:
    return st;
}

/* A checkpoint belongs to one span as well: another would have kept other snapshots. */
static rt_status checkpoint_key(const char *key, const span *s, char out[RT_HASH_HEX])
{
    char text[RT_HASH_HEX + 64];
    int n = snprintf(text, sizeof text, "%s epochs %lld last %lld final %d", key, (long long)s->epochs, (long long)s->last, s->final);
    return rt_hash_bytes(text, (size_t)n, out);
}

/* --- snapshots while an expert trains ---------------------------------------------------------------------------------- */

typedef struct taker {
    const span *s;
    char dir[PATH_MAX];
    float *theta, *buffers;
} taker;

static rt_status take(void *to, const rt_trainer *t, int64_t epoch)
{
    rt_status st = RT_OK;
    taker *k = to;
    char name[RT_EXPERT_NAME], path[PATH_MAX];
    int64_t n = rt_model_n_params(rt_trainer_model(t));
    if (!kept(k->s, epoch)) return RT_OK;
    RT_TRY(rt_trainer_weights(t, false, k->theta, k->buffers));
    rt_expert_file(epoch, name);
    RT_TRY(rt_fs_join(path, sizeof path, k->dir, name));
    RT_TRY(rt_st_write(path, &(rt_st_tensor){"theta", RT_ST_F32, 1, {n}, k->theta, (uint64_t)n * sizeof *k->theta}, 1, NULL, 0));
out:
    return st;
}

static rt_status read_taken(const taker *k, int64_t epoch, int64_t n)
{
    rt_status st = RT_OK;
    char name[RT_EXPERT_NAME], path[PATH_MAX];
    rt_st_file *f = NULL;
    rt_expert_file(epoch, name);
    RT_TRY(rt_fs_join(path, sizeof path, k->dir, name));
    RT_TRYF(rt_st_open(path, &f), "snapshot of a run that was interrupted");
    const rt_st_tensor *t = rt_st_find(f, "theta");
    if (!t) st = RT_RAISE(RT_ERR_FORMAT, "%s: no tensor theta", path);
    else st = rt_st_to_f32(t, k->theta, n);
out:
    if (st != RT_OK) rt_error_fix(st, "remove %s and run the same command: this expert is trained from its beginning", k->dir);
    rt_st_close(f);
    return st;
}

/* Accuracy on the evaluation split at epochs 0, 1, 2, 4, ... and the last: for the reader, no method sees it. */
static rt_status accuracies(rt_run *r, rt_trainer *t, const taker *k, json_t *manifest)
{
    rt_status st = RT_OK;
    const rt_images *test = NULL;
    int32_t *predicted = NULL;
    json_t *all = json_array();
    int64_t n = rt_model_n_params(rt_trainer_model(t));
    RT_TRY(rt_run_test(r, &test));
    rt_train_data data = {.n = test->n, .images = test, .label = test->label, .norm = r->norm};
    RT_ALLOC(predicted, (size_t)test->n * sizeof *predicted, "predictions");
    bool stats = rt_model_n_buffers(rt_trainer_model(t)) > 0; /* running statistics are kept of the last epoch only */
    for (int64_t e = stats ? k->s->epochs : 0, next = 1;; e = next, next *= 2) {
        if (e > k->s->epochs) e = k->s->epochs;
        int64_t hits = 0;
        if (kept(k->s, e)) {
            if (!stats) {
                RT_TRY(read_taken(k, e, n));
                RT_TRY(rt_trainer_set_weights(t, k->theta, NULL));
            }
            RT_TRY(rt_trainer_infer(t, &data, rt_run_threads(r), NULL, NULL, predicted));
            for (int64_t i = 0; i < test->n; i++) hits += predicted[i] == test->label[i];
            if (json_array_append_new(all, json_pack("{s:I, s:f}", "epoch", (json_int_t)e, "accuracy", (double)hits / (double)test->n))) {
                st = RT_RAISE(RT_ERR_NOMEM, "accuracies");
                goto out;
            }
        }
        if (e == k->s->epochs) break;
    }
    if (json_object_set(manifest, "accuracy", all)) st = RT_RAISE(RT_ERR_NOMEM, "manifest");
out:
    json_decref(all);
    rt_free(predicted);
    return st;
}

static rt_status commit_expert(const rt_trainer *t, const char *path, const taker *k, const json_t *manifest)
{
    rt_status st = RT_OK;
    rt_commit *commit = NULL;
    char name[RT_EXPERT_NAME], file[PATH_MAX];
    int64_t n = rt_model_n_params(rt_trainer_model(t));
    RT_TRY(rt_commit_begin(path, &commit));
    for (int64_t e = 0; e <= k->s->epochs; e++) {
        if (!kept(k->s, e)) continue;
        RT_TRY(read_taken(k, e, n));
        rt_expert_file(e, name);
        RT_TRY(rt_fs_join(file, sizeof file, rt_commit_dir(commit), name));
        RT_TRY(rt_st_write(file, &(rt_st_tensor){"theta", RT_ST_F32, 1, {n}, k->theta, (uint64_t)n * sizeof *k->theta}, 1, NULL, 0));
    }
    rt_commit *c = commit;
    commit = NULL;
    RT_TRY(rt_commit_finish(c, manifest));
out:
    rt_commit_abort(commit);
    return st;
}

static rt_status manifest_of(rt_run *r, const char *key, const rt_trainer *t, const span *s, const rt_train_result *tr, rt_ledger *ledger,
                             json_t **out)
{
    rt_status st = RT_OK;
    char arch[RT_EXPERT_ARCH], text[RT_RECIPE_TEXT];
    json_t *m = NULL;
    rt_expert_arch(rt_trainer_model(t), arch);
    rt_run_recipe_text(rt_trainer_recipe(t), text);
    RT_TRY(rt_run_manifest(r, "expert", key, ledger, &m));
    json_t *more = json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:f, s:f, s:f}", "arch", arch, "recipe", text, "zca", r->c->data.zca ? r->zca.hash : "", "epochs",
                             (json_int_t)s->epochs, "last", (json_int_t)s->last, "final", (json_int_t)(s->final ? s->epochs : -1),
                             "last_loss", tr->last_loss, "images_seen", tr->images_seen, "flops", tr->flops);
    if (!more || json_object_update_missing_new(m, more)) {
        st = RT_RAISE(RT_ERR_NOMEM, "manifest");
        goto out;
    }
    *out = m;
    m = NULL;
out:
    json_decref(m);
    return st;
}

static rt_status train_one(rt_run *r, int64_t k, const span *s, const char *path, const char *key, rt_trainer *t)
{
    rt_status st = RT_OK;
    char ckpt[PATH_MAX], ckpt_key[RT_HASH_HEX], phase[32];
    const rt_images *train = NULL;
    rt_ledger *ledger = NULL;
    rt_train_result tr = {0};
    json_t *manifest = NULL;
    taker taken = {.s = s};
    const rt_model *m = rt_trainer_model(t);
    snprintf(phase, sizeof phase, "expert %lld", (long long)k);
    RT_ALLOC(taken.theta, (size_t)rt_model_n_params(m) * sizeof(float), "weights");
    RT_ALLOC(taken.buffers, (size_t)rt_model_n_buffers(m) * sizeof(float), "statistics");
    RT_TRY(rt_run_path(r, ckpt, "experts/expert%lld.ckpt", (long long)k));
    RT_TRY(rt_fs_join(taken.dir, sizeof taken.dir, ckpt, "snapshots"));
    RT_TRY(rt_fs_mkdirs(taken.dir));
    RT_TRY(checkpoint_key(key, s, ckpt_key));
    RT_TRY(rt_run_train(r, &train));
    RT_TRY(rt_ledger_create(&ledger));
    rt_ledger_begin(ledger);
    rt_train_data data = {.n = train->n, .images = train, .label = train->label, .norm = r->norm};
    rt_train_run run = {.seed = rt_seed_derive((uint64_t)r->c->seed, EXPERT_SEED), .network = (uint64_t)k, .ckpt_dir = ckpt,
                        .inputs_hash = ckpt_key, .ckpt_seconds = r->c->run.checkpoint_seconds, .keep = (int)r->c->run.keep,
                        .threads = rt_run_threads(r), .phase = phase, .ledger = ledger, .on_epoch = take, .on_epoch_to = &taken};
    RT_TRY(rt_trainer_run(t, &data, &run, &tr));
    rt_ledger_entry(ledger)->peak_device_bytes = (double)rt_trainer_arena_bytes(t);
    RT_TRY(manifest_of(r, key, t, s, &tr, ledger, &manifest)); /* closes the account: what follows is not the expert's cost */
    RT_TRY(accuracies(r, t, &taken, manifest));
    RT_TRY(commit_expert(t, path, &taken, manifest));
    RT_TRY(rt_ckpt_clear(ckpt));
    const json_t *acc = json_object_get(manifest, "accuracy");
    rt_log_line(RT_LOG_INFO, "expert %lld: %.2f %% on the evaluation split after %lld epochs", (long long)k,
                100 * json_number_value(json_object_get(json_array_get(acc, json_array_size(acc) - 1), "accuracy")), (long long)s->epochs);
out:
    json_decref(manifest);
    rt_ledger_destroy(ledger);
    rt_free(taken.theta);
    rt_free(taken.buffers);
    return st;
}

/* True when the expert at path was made with this key and keeps all that is wanted (it may keep more). */
static bool covers(const char *path, const char *key, const span *s)
{
    json_t *m = NULL;
    bool ok = rt_artefact_is_current(path, "expert", key) && rt_artefact_open(path, "expert", false, &m) == RT_OK;
    if (ok) {
        const json_t *last = json_object_get(m, "last"), *final = json_object_get(m, "final");
        ok = json_is_integer(last) && json_integer_value(last) >= s->last &&
             (!s->final || (json_is_integer(final) && json_integer_value(final) == s->epochs));
    } else rt_error_clear();
    json_decref(m);
    return ok;
}

rt_status rt_run_experts(rt_run *r, const rt_stage_opts *o)
{
    rt_status st = RT_OK;
    rt_trainer *t = NULL;
    rt_backend *be = NULL;
    rt_recipe recipe;
    rt_model_desc net;
    span s;
    char path[PATH_MAX], key[RT_HASH_HEX];
    bool skip;
    RT_TRY(span_of(r->c, &s));
    RT_TRY(rt_run_experts_recipe(r, &recipe, NULL));
    RT_TRY(rt_run_path(r, path, "experts"));
    RT_TRY(rt_fs_mkdirs(path));
    for (int64_t k = 0; k < r->c->experts.count; k++) {
        RT_TRY(expert_key(r, k, key));
        RT_TRY(rt_run_path(r, path, "experts/expert%lld", (long long)k));
        if (!o->force && covers(path, key, &s)) {
            RT_TRY(rt_run_skip(path, "expert", key, false, &skip)); /* sweeps */
            continue;
        }
        if (!t) {
            RT_TRY(rt_run_backend(r, &be));
            RT_TRY(rt_run_net(r, r->c->network.arch, &net));
            RT_TRY(rt_trainer_create(be, &net, &recipe, &t));
        }
        RT_TRYF(train_one(r, k, &s, path, key, t), "expert %lld", (long long)k);
    }
out:
    rt_trainer_destroy(t);
    return st;
}

/* --- what build reads -------------------------------------------------------------------------------------------------- */

rt_status rt_run_experts_open(rt_run *r, rt_experts **out)
{
    rt_status st = RT_OK;
    char dir[PATH_MAX], key[RT_HASH_HEX];
    rt_model_desc net;
    rt_model *m = NULL;
    rt_experts *e = NULL;
    span s;
    RT_TRY(span_of(r->c, &s));
    RT_TRY(rt_run_path(r, dir, "experts"));
    RT_TRY(rt_run_net(r, r->c->network.arch, &net));
    RT_TRY(rt_model_create(&net, &m));
    if (r->c->data.zca) RT_TRY(rt_run_zca(r));
    RT_TRY(rt_experts_open(dir, r->c->experts.count, m, rt_dataset_classes(r->train_set)->hash, r->c->data.zca ? r->zca.hash : "", s.last,
                           s.final, &e));
    for (int64_t k = 0; k < rt_experts_count(e); k++) {
        const char *have = json_string_value(json_object_get(rt_experts_manifest(e, k), "inputs_hash"));
        RT_TRY(expert_key(r, k, key));
        if (!have || strcmp(have, key)) {
            st = RT_RAISE(RT_ERR_FORMAT, "%s/expert%lld was made with other settings or data", dir, (long long)k);
            rt_error_fix(st, "run `retort teach` with this config again");
            goto out;
        }
    }
    *out = e;
    e = NULL;
out:
    rt_experts_close(e);
    rt_model_destroy(m);
    return st;
}

void rt_run_experts_cost(const rt_experts *e, double *wall_s, double *flops)
{
    double wall = 0, f = 0;
    for (int64_t k = 0; k < rt_experts_count(e); k++) {
        const json_t *m = rt_experts_manifest(e, k);
        wall += json_number_value(json_object_get(json_object_get(m, "cost"), "wall_s"));
        f += json_number_value(json_object_get(m, "flops"));
    }
    *wall_s = wall;
    *flops = f;
}
