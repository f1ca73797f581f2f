/* teach: networks trained on the real images. Each is an artefact with its weights, its training-set features, its EL2N
 * scores and its accuracy on the evaluation split; coresets and metrics read those. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "methods/coreset/coreset.h"
#include "stage/stages.h"

rt_status rt_run_teach_recipe(const rt_config *c, rt_recipe *out)
{
    rt_recipe r = {.epochs = c->teach.epochs, .batch = c->teach.batch};
    snprintf(r.name, sizeof r.name, "teach");
    r.optim = (rt_optim_desc){.lr = c->teach.lr, .momentum = c->teach.momentum, .nesterov = c->teach.nesterov,
                              .weight_decay = c->teach.weight_decay, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
    r.optim.kind = !strcmp(c->teach.optimiser, "sgd") ? RT_SGD : !strcmp(c->teach.optimiser, "adam") ? RT_ADAM : RT_ADAMW;
    r.schedule = (rt_schedule){.kind = RT_SCHED_CONSTANT, .zeta = 1, .factor = 0.1, .n_milestones = 1};
    r.schedule.milestone[0] = (double)((c->teach.epochs + 1) / 2);
    if (!strcmp(c->teach.schedule, "cosine")) r.schedule.kind = RT_SCHED_COSINE;
    if (!strcmp(c->teach.schedule, "step")) r.schedule.kind = RT_SCHED_STEP;
    if (!strcmp(c->teach.augment, "flip_crop")) r.augment = RT_AUGMENT_FLIP_CROP;
    if (!strcmp(c->teach.augment, "dsa")) r.augment = RT_AUGMENT_DSA;
    r.dsa_strategy = c->dsa.strategy;
    if (c->teach.el2n_epoch > c->teach.epochs) {
        rt_status st = RT_RAISE(RT_ERR_CONFIG, "teach.el2n_epoch is %lld, teach.epochs only %lld", (long long)c->teach.el2n_epoch,
                                (long long)c->teach.epochs);
        return rt_error_fix(st, "lower teach.el2n_epoch, or 0 for the last epoch");
    }
    *out = r;
    return RT_OK;
}

/* Without teach.runs: one more teacher leaves those before it as they are. */
static rt_status teacher_key(rt_run *r, int k, char key[RT_HASH_HEX])
{
    rt_status st = RT_OK;
    char which[64], recipe_text[RT_RECIPE_TEXT];
    rt_recipe recipe;
    RT_TRY(rt_run_teach_recipe(r->c, &recipe));
    rt_run_recipe_text(&recipe, recipe_text);
    snprintf(which, sizeof which, "teacher %d el2n %lld", k, (long long)r->c->teach.el2n_epoch);
    RT_TRY(rt_run_key(r, (const char *const[]){"network"}, 1, (const char *const[]){which, recipe_text}, 2, key));
out:
    return st;
}

typedef struct outputs {
    float *theta, *buffers, *features, *probs;
    int32_t *predicted;
    double *el2n, accuracy;
    int64_t dim;
} outputs;

static void outputs_fini(outputs *o)
{
    void *p[] = {o->theta, o->buffers, o->features, o->probs, o->predicted, o->el2n};
    for (size_t i = 0; i < sizeof p / sizeof *p; i++) rt_free(p[i]);
}

/* Features and accuracy from the final weights; EL2N from the snapshot when there is one. */
static rt_status collect(rt_run *r, rt_trainer *t, bool snapshot, const rt_train_data *train, outputs *o)
{
    rt_status st = RT_OK;
    const rt_images *test = NULL;
    const rt_model *m = rt_trainer_model(t);
    int32_t classes = rt_model_desc_of(m)->classes;
    int64_t hits = 0;
    RT_TRY(rt_run_test(r, &test));
    rt_train_data test_data = {.n = test->n, .images = test, .label = test->label, .norm = r->norm};
    int64_t most = train->n > test->n ? train->n : test->n;
    o->dim = rt_model_feature_dim(m);
    RT_ALLOC(o->theta, (size_t)rt_model_n_params(m) * sizeof(float), "weights");
    RT_ALLOC(o->buffers, (size_t)rt_model_n_buffers(m) * sizeof(float), "weights");
    RT_ALLOC(o->features, (size_t)(train->n * o->dim) * sizeof(float), "features");
    RT_ALLOC(o->probs, (size_t)(train->n * classes) * sizeof(float), "probabilities");
    RT_ALLOC(o->predicted, (size_t)most * sizeof(int32_t), "predictions");
    RT_ALLOC(o->el2n, (size_t)train->n * sizeof(double), "EL2N scores");
    RT_TRY(rt_trainer_infer(t, train, rt_run_threads(r), o->features, o->probs, NULL));
    RT_TRY(rt_trainer_infer(t, &test_data, rt_run_threads(r), NULL, NULL, o->predicted));
    for (int64_t i = 0; i < test->n; i++) hits += o->predicted[i] == test->label[i];
    o->accuracy = (double)hits / (double)test->n;
    if (snapshot) {
        RT_TRY(rt_trainer_weights(t, true, o->theta, o->buffers));
        float *keep = NULL;
        RT_ALLOC(keep, (size_t)(rt_model_n_params(m) + rt_model_n_buffers(m)) * sizeof(float), "weights");
        st = rt_trainer_weights(t, false, keep, keep + rt_model_n_params(m));
        if (st == RT_OK) st = rt_trainer_set_weights(t, o->theta, o->buffers);
        if (st == RT_OK) st = rt_trainer_infer(t, train, rt_run_threads(r), NULL, o->probs, NULL);
        if (st == RT_OK) st = rt_trainer_set_weights(t, keep, keep + rt_model_n_params(m));
        rt_free(keep);
        if (st != RT_OK) goto out;
    }
    RT_TRY(rt_trainer_weights(t, false, o->theta, o->buffers));
    RT_TRY(rt_el2n_probs(o->probs, train->n, classes, train->label, o->el2n));
out:
    return st;
}

static rt_status commit_teacher(rt_run *r, const char *path, const char *key, const rt_trainer *t, const rt_train_data *train,
                                const outputs *o, const rt_train_result *tr, rt_ledger *ledger)
{
    rt_status st = RT_OK;
    rt_commit *commit = NULL;
    json_t *m = NULL;
    char file[PATH_MAX];
    RT_TRY(rt_commit_begin(path, &commit));
    RT_TRY(rt_fs_join(file, sizeof file, rt_commit_dir(commit), "model.safetensors"));
    RT_TRY(rt_model_save(rt_trainer_model(t), file, o->theta, o->buffers,
                         (const char *const[]){"classes_hash", rt_dataset_classes(r->train_set)->hash}, 1));
    RT_TRY(rt_fs_join(file, sizeof file, rt_commit_dir(commit), "features.safetensors"));
    rt_st_tensor ten[] = {{"features", RT_ST_F32, 2, {train->n, o->dim}, o->features, (uint64_t)(train->n * o->dim) * 4},
                          {"el2n", RT_ST_F64, 1, {train->n}, o->el2n, (uint64_t)train->n * 8}};
    RT_TRY(rt_st_write(file, ten, 2, NULL, 0));
    RT_TRY(rt_run_manifest(r, "teacher", key, ledger, &m));
    if (json_object_update_missing_new(m, json_pack("{s:f, s:f, s:f, s:f, s:s, s:I}", "accuracy", o->accuracy, "last_loss",
                                                    tr->last_loss, "images_seen", tr->images_seen, "flops", tr->flops, "arch",
                                                    rt_model_desc_of(rt_trainer_model(t))->arch, "epochs",
                                                    (json_int_t)r->c->teach.epochs))) {
        st = RT_RAISE(RT_ERR_NOMEM, "manifest");
        goto out;
    }
    rt_commit *c = commit;
    commit = NULL;
    RT_TRY(rt_commit_finish(c, m));
out:
    rt_commit_abort(commit);
    json_decref(m);
    return st;
}

static rt_status teach_one(rt_run *r, int k, const char *path, const char *key, rt_trainer *t)
{
    rt_status st = RT_OK;
    char ckpt[PATH_MAX], phase[32];
    const rt_images *train = NULL;
    rt_ledger *ledger = NULL;
    rt_train_result tr = {0};
    outputs o = {0};
    snprintf(phase, sizeof phase, "teach network %d", k);
    RT_TRY(rt_run_path(r, ckpt, "teacher/net%d.ckpt", k));
    RT_TRY(rt_run_train(r, &train));
    RT_TRY(rt_ledger_create(&ledger));
    rt_ledger_begin(ledger);
    rt_train_data data = {.n = train->n, .images = train, .label = train->label, .norm = r->norm};
    rt_train_run run = {.seed = (uint64_t)r->c->seed, .network = (uint64_t)k, .ckpt_dir = ckpt, .inputs_hash = key,
                        .ckpt_seconds = r->c->run.checkpoint_seconds, .keep = (int)r->c->run.keep,
                        .threads = rt_run_threads(r), .phase = phase, .ledger = ledger,
                        .snapshot_epoch = r->c->teach.el2n_epoch};
    RT_TRY(rt_trainer_run(t, &data, &run, &tr));
    RT_TRYF(collect(r, t, r->c->teach.el2n_epoch > 0, &data, &o), "features and scores");
    rt_ledger_entry(ledger)->peak_device_bytes = (double)rt_trainer_arena_bytes(t);
    RT_TRY(commit_teacher(r, path, key, t, &data, &o, &tr, ledger));
    RT_TRY(rt_ckpt_clear(ckpt));
    rt_log_line(RT_LOG_INFO, "teacher %d: %.2f %% on the evaluation split after %lld epochs", k, 100 * o.accuracy,
                (long long)r->c->teach.epochs);
out:
    outputs_fini(&o);
    rt_ledger_destroy(ledger);
    return st;
}

static rt_status teach_all(rt_run *r, const rt_stage_opts *o)
{
    rt_status st = RT_OK;
    rt_trainer *t = NULL;
    rt_backend *be = NULL;
    rt_recipe recipe;
    rt_model_desc net;
    char path[PATH_MAX], key[RT_HASH_HEX];
    bool skip;
    RT_TRY(rt_run_teach_recipe(r->c, &recipe));
    for (int k = 0; k < (int)r->c->teach.runs; k++) {
        RT_TRY(teacher_key(r, k, key));
        RT_TRY(rt_run_path(r, path, "teacher/net%d", k));
        RT_TRY(rt_run_skip(path, "teacher", key, o->force, &skip));
        if (skip) continue;
        if (!t) {
            RT_TRY(rt_run_path(r, path, "teacher"));
            RT_TRY(rt_fs_mkdirs(path));
            RT_TRY(rt_run_path(r, path, "teacher/net%d", k));
            RT_TRY(rt_run_backend(r, &be));
            RT_TRY(rt_run_net(r, r->c->network.arch, &net));
            RT_TRY(rt_trainer_create(be, &net, &recipe, &t));
        }
        RT_TRYF(teach_one(r, k, path, key, t), "teacher %d", k);
    }
out:
    rt_trainer_destroy(t);
    return st;
}

rt_status rt_run_teach(rt_run *r, const rt_stage_opts *o)
{
    rt_status st = RT_OK;
    bool experts = rt_run_needs_experts(r);
    if (!experts || rt_run_needs_teacher(r)) RT_TRY(teach_all(r, o)); /* asked for by name, with nothing that needs any: teachers */
    if (experts) RT_TRY(rt_run_experts(r, o));
out:
    return st == RT_OK ? st : rt_error_frame(st, __FILE__, __LINE__, "teach");
}

/* --- what other stages read ------------------------------------------------------------------------------------------------ */

static rt_status open_teacher(rt_run *r, int k, char path[PATH_MAX], json_t **m)
{
    rt_status st = RT_OK;
    char key[RT_HASH_HEX];
    RT_TRY(teacher_key(r, k, key));
    RT_TRY(rt_run_path(r, path, "teacher/net%d", k));
    st = rt_artefact_open(path, "teacher", false, m);
    if (st == RT_ERR_MISSING) {
        rt_error_fix(st, "run `retort teach` with this config first");
        goto out;
    }
    if (st != RT_OK) goto out;
    const char *have = json_string_value(json_object_get(*m, "inputs_hash"));
    if (!have || strcmp(have, key)) {
        json_decref(*m);
        *m = NULL;
        st = RT_RAISE(RT_ERR_FORMAT, "%s was made with other settings or data", path);
        rt_error_fix(st, "run `retort teach` with this config again");
    }
out:
    return st;
}

rt_status rt_run_teacher_info(rt_run *r, int k, rt_teacher_info *out)
{
    char path[PATH_MAX];
    json_t *m = NULL;
    rt_status st = open_teacher(r, k, path, &m);
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
    RT_TRY(open_teacher(r, k, path, &m));
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
    char path[PATH_MAX], file[PATH_MAX];
    json_t *m = NULL;
    rt_st_file *f = NULL;
    float *theta = NULL, *buffers = NULL;
    const rt_model *net = rt_trainer_model(t);
    RT_TRY(open_teacher(r, k, path, &m));
    RT_TRY(rt_fs_join(file, sizeof file, path, "model.safetensors"));
    RT_TRY(rt_st_open(file, &f));
    RT_ALLOC(theta, (size_t)rt_model_n_params(net) * sizeof *theta, "weights");
    RT_ALLOC(buffers, (size_t)rt_model_n_buffers(net) * sizeof *buffers, "weights");
    RT_TRY(rt_model_load(net, f, file, theta, buffers));
    RT_TRY(rt_trainer_set_weights(t, theta, buffers));
out:
    rt_free(theta);
    rt_free(buffers);
    rt_st_close(f);
    json_decref(m);
    return st;
}
