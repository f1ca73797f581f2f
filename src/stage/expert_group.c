/* Training one group of experts. While it trains, snapshots lie in `<first expert>.ckpt/snapshots/<expert>/`, each written whole
 * before a checkpoint can lie past it: a resumed run finds all snapshots up to its checkpoint and rewrites the later ones with the
 * same bytes. */
#include <limits.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/rng.h"
#include "stage/experts.h"

/* A checkpoint belongs to one group and one span: another would hold other networks, and have kept other snapshots. key: of the
 * group's first expert. */
static rt_status checkpoint_key(const char *key, int64_t n, const rt_expert_span *s, char out[RT_HASH_HEX])
{
    char text[RT_HASH_HEX + 96];
    int len = snprintf(text, sizeof text, "%s networks %lld epochs %lld last %lld final %d", key, (long long)n, (long long)s->epochs,
                       (long long)s->last, s->final);
    return rt_hash_bytes(text, (size_t)len, out);
}

/* --- snapshots while a group trains ------------------------------------------------------------------------------------ */

typedef struct taker {
    const rt_expert_span *s;
    rt_expert_group g;
    char ckpt[PATH_MAX];
    int64_t n_params;
    float *theta, *buffers; /* of all networks of the group, one after the other */
    json_t *accuracy[RT_EXPERTS_AT_ONCE];
} taker;

static rt_status snapshot_path(const taker *k, int64_t m, int64_t epoch, char path[PATH_MAX])
{
    char name[RT_EXPERT_NAME];
    rt_expert_file(epoch, name);
    int n = snprintf(path, PATH_MAX, "%s/snapshots/%lld/%s", k->ckpt, (long long)(k->g.first + m), name);
    return n < PATH_MAX ? RT_OK : RT_RAISE(RT_ERR_ARG, "path too long: %s", k->ckpt);
}

static rt_status write_theta(const char *path, const float *theta, int64_t n)
{
    return rt_st_write(path, &(rt_st_tensor){"theta", RT_ST_F32, 1, {n}, theta, (uint64_t)n * sizeof *theta}, 1, NULL, 0);
}

static rt_status take(void *to, const rt_trainer *t, int64_t epoch)
{
    rt_status st = RT_OK;
    taker *k = to;
    char path[PATH_MAX];
    if (!rt_expert_kept(k->s, epoch)) return RT_OK;
    RT_TRY(rt_trainer_weights(t, false, k->theta, k->buffers));
    for (int64_t m = 0; m < k->g.n; m++) {
        RT_TRY(snapshot_path(k, m, epoch, path));
        RT_TRY(write_theta(path, k->theta + m * k->n_params, k->n_params));
    }
out:
    return st;
}

static rt_status read_taken(const taker *k, int64_t m, int64_t epoch, float *theta)
{
    rt_status st = RT_OK;
    char path[PATH_MAX];
    rt_st_file *f = NULL;
    RT_TRY(snapshot_path(k, m, epoch, path));
    RT_TRYF(rt_st_open(path, &f), "snapshot of an expert in training");
    const rt_st_tensor *t = rt_st_find(f, "theta");
    if (!t) st = RT_RAISE(RT_ERR_FORMAT, "%s: no tensor theta", path);
    else st = rt_st_to_f32(t, theta, k->n_params);
out:
    if (st != RT_OK) rt_error_fix(st, "remove %s and run the same command: it trains from the beginning", k->ckpt);
    rt_st_close(f);
    return st;
}

/* Accuracy on the evaluation split at epochs 0, 1, 2, 4, ... and the last: for the reader, no method sees it. */
static rt_status accuracies(rt_run *r, rt_trainer *t, taker *k)
{
    rt_status st = RT_OK;
    const rt_images *test = NULL;
    int32_t *predicted = NULL;
    RT_TRY(rt_run_test(r, &test));
    rt_train_data data = {.n = test->n, .images = test, .label = test->label, .norm = r->norm};
    RT_ALLOC(predicted, (size_t)test->n * sizeof *predicted, "predictions");
    bool stats = rt_model_n_buffers(rt_trainer_model(t)) > 0; /* running statistics are kept of the last epoch only */
    for (int64_t m = 0; m < k->g.n; m++)
        if (!(k->accuracy[m] = json_array())) return RT_RAISE(RT_ERR_NOMEM, "accuracies");
    for (int64_t e = stats ? k->s->epochs : 0, next = 1;; e = next, next *= 2) {
        if (e > k->s->epochs) e = k->s->epochs;
        if (rt_expert_kept(k->s, e) && !stats) {
            for (int64_t m = 0; m < k->g.n; m++) RT_TRY(read_taken(k, m, e, k->theta + m * k->n_params));
            RT_TRY(rt_trainer_set_weights(t, k->theta, NULL));
        }
        for (int64_t m = 0; rt_expert_kept(k->s, e) && m < k->g.n; m++) {
            int64_t hits = 0;
            RT_TRY(rt_trainer_infer_of(t, m, &data, rt_run_threads(r), NULL, NULL, predicted));
            for (int64_t i = 0; i < test->n; i++) hits += predicted[i] == test->label[i];
            if (json_array_append_new(k->accuracy[m],
                                      json_pack("{s:I, s:f}", "epoch", (json_int_t)e, "accuracy", (double)hits / (double)test->n))) {
                st = RT_RAISE(RT_ERR_NOMEM, "accuracies");
                goto out;
            }
        }
        if (e == k->s->epochs) break;
    }
out:
    rt_free(predicted);
    return st;
}

static rt_status commit_expert(const char *path, const taker *k, int64_t m, const json_t *manifest)
{
    rt_status st = RT_OK;
    rt_commit *commit = NULL;
    char name[RT_EXPERT_NAME], file[PATH_MAX];
    RT_TRY(rt_commit_begin(path, &commit));
    for (int64_t e = 0; e <= k->s->epochs; e++) {
        if (!rt_expert_kept(k->s, e)) continue;
        RT_TRY(read_taken(k, m, e, k->theta));
        rt_expert_file(e, name);
        RT_TRY(rt_fs_join(file, sizeof file, rt_commit_dir(commit), name));
        RT_TRY(write_theta(file, k->theta, k->n_params));
    }
    rt_commit *c = commit;
    commit = NULL;
    RT_TRY(rt_commit_finish(c, manifest));
out:
    rt_commit_abort(commit);
    return st;
}

/* What a group cost, in equal shares. Peaks are not divided: each of them needed all of it. */
static rt_status share_cost(json_t *manifest, int64_t n)
{
    static const char *const part[] = {"wall_s", "cpu_s", "device_s", "flops", "images_seen", "images_decoded"};
    json_t *cost = json_object_get(manifest, "cost");
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
        const json_t *v = json_object_get(cost, part[i]);
        if (json_is_number(v) && json_object_set_new(cost, part[i], json_real(json_number_value(v) / (double)n)))
            return RT_RAISE(RT_ERR_NOMEM, "manifest");
    }
    return RT_OK;
}

static rt_status manifest_of(rt_run *r, const char *key, const rt_trainer *t, const taker *k, const rt_train_result *tr,
                             rt_ledger *ledger, json_t **out)
{
    rt_status st = RT_OK;
    const rt_expert_span *s = k->s;
    char arch[RT_EXPERT_ARCH], text[RT_RECIPE_TEXT];
    json_t *whole = NULL;
    rt_expert_arch(rt_trainer_model(t), arch);
    rt_run_recipe_text(rt_trainer_recipe(t), text);
    RT_TRY(rt_run_manifest(r, "expert", key, ledger, &whole));
    RT_TRY(share_cost(whole, k->g.n));
    json_t *more = json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:f, s:f, s:f}", "arch", arch, "recipe", text, "zca",
                             r->c->data.zca ? r->zca.hash : "", "epochs", (json_int_t)s->epochs, "last", (json_int_t)s->last, "final",
                             (json_int_t)(s->final ? s->epochs : -1), "trained_together", (json_int_t)k->g.n, "last_loss",
                             tr->last_loss, "images_seen", tr->images_seen, "flops", tr->flops);
    if (!more || json_object_update_missing_new(whole, more)) {
        st = RT_RAISE(RT_ERR_NOMEM, "manifest");
        goto out;
    }
    *out = whole;
    whole = NULL;
out:
    json_decref(whole);
    return st;
}

static rt_status taker_open(rt_run *r, const rt_trainer *t, rt_expert_group g, const rt_expert_span *s, taker *k)
{
    rt_status st = RT_OK;
    char path[PATH_MAX];
    *k = (taker){.s = s, .g = g, .n_params = rt_model_n_params(rt_trainer_model(t))};
    RT_ALLOC(k->theta, (size_t)(g.n * k->n_params) * sizeof(float), "weights");
    RT_ALLOC(k->buffers, (size_t)(g.n * rt_model_n_buffers(rt_trainer_model(t))) * sizeof(float), "statistics");
    RT_TRY(rt_run_path(r, k->ckpt, "experts/expert%lld.ckpt", (long long)g.first));
    for (int64_t m = 0; m < g.n; m++) {
        if (snprintf(path, sizeof path, "%s/snapshots/%lld", k->ckpt, (long long)(g.first + m)) >= PATH_MAX)
            return RT_RAISE(RT_ERR_ARG, "path too long: %s", k->ckpt);
        RT_TRY(rt_fs_mkdirs(path));
    }
out:
    return st;
}

static void taker_close(taker *k)
{
    rt_free(k->theta);
    rt_free(k->buffers);
    for (int64_t m = 0; m < k->g.n; m++) json_decref(k->accuracy[m]);
}

static double last_accuracy(const json_t *a)
{
    return json_number_value(json_object_get(json_array_get(a, json_array_size(a) - 1), "accuracy"));
}

rt_status rt_expert_group_train(rt_run *r, rt_expert_group g, const rt_expert_span *s, const bool *missing, rt_trainer *t)
{
    rt_status st = RT_OK;
    char ckpt_key[RT_HASH_HEX], key[RT_HASH_HEX], path[PATH_MAX], phase[64];
    const rt_images *train = NULL;
    rt_ledger *ledger = NULL;
    rt_train_result tr[RT_EXPERTS_AT_ONCE] = {{0}};
    json_t *manifest[RT_EXPERTS_AT_ONCE] = {NULL};
    taker taken;
    if (g.n == 1) snprintf(phase, sizeof phase, "expert %lld", (long long)g.first);
    else snprintf(phase, sizeof phase, "experts %lld-%lld", (long long)g.first, (long long)(g.first + g.n - 1));
    RT_TRY(taker_open(r, t, g, s, &taken));
    RT_TRY(rt_expert_key(r, g.first, key));
    RT_TRY(checkpoint_key(key, g.n, s, ckpt_key));
    RT_TRY(rt_run_train(r, &train));
    RT_TRY(rt_ledger_create(&ledger));
    rt_ledger_begin(ledger);
    rt_train_data data = {.n = train->n, .images = train, .label = train->label, .norm = r->norm};
    rt_train_run run = {.seed = rt_seed_derive((uint64_t)r->c->seed, RT_EXPERT_SEED), .network = (uint64_t)g.first,
                        .ckpt_dir = taken.ckpt, .inputs_hash = ckpt_key, .ckpt_seconds = r->c->run.checkpoint_seconds,
                        .keep = (int)r->c->run.keep, .threads = rt_run_threads(r), .phase = phase, .ledger = ledger,
                        .on_epoch = take, .on_epoch_to = &taken};
    RT_TRY(rt_trainer_run(t, &data, &run, tr));
    rt_ledger_entry(ledger)->peak_device_bytes = (double)rt_trainer_arena_bytes(t);
    for (int64_t m = 0; m < g.n; m++) { /* at once: what follows is not the experts' cost */
        RT_TRY(rt_expert_key(r, g.first + m, key));
        RT_TRY(manifest_of(r, key, t, &taken, &tr[m], ledger, &manifest[m]));
    }
    RT_TRY(accuracies(r, t, &taken));
    for (int64_t m = 0; m < g.n; m++) {
        if (!missing[m]) continue;
        if (json_object_set(manifest[m], "accuracy", taken.accuracy[m])) {
            st = RT_RAISE(RT_ERR_NOMEM, "manifest");
            goto out;
        }
        RT_TRY(rt_run_path(r, path, "experts/expert%lld", (long long)(g.first + m)));
        RT_TRY(commit_expert(path, &taken, m, manifest[m]));
        rt_log_line(RT_LOG_INFO, "expert %lld: %.2f %% on the evaluation split after %lld epochs", (long long)(g.first + m),
                    100 * last_accuracy(taken.accuracy[m]), (long long)s->epochs);
    }
    RT_TRY(rt_ckpt_clear(taken.ckpt));
out:
    for (int64_t m = 0; m < g.n; m++) json_decref(manifest[m]);
    rt_ledger_destroy(ledger);
    taker_close(&taken);
    return st;
}
