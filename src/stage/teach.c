/* teach: networks trained on the real images. Each is an artefact with its weights and its accuracy on the evaluation split:
 *
 *   teacher/net<k>   k < teach.runs, of section network; besides training-set features and EL2N scores, which coresets and
 *                    metrics read. net0 is the one teacher of methods and protocols that want one.
 *   teacher/<arch>   the further members of a committee (committee.archs), trained by the same recipe.
 *
 * Only what something asks for is trained. How it is read: committee.c. */
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

typedef struct outputs {
    float *theta, *buffers;
    double accuracy;
    float *features, *probs; /* NULL for a member of a committee */
    double *el2n;
    int64_t dim;
} outputs;

static void outputs_fini(outputs *o)
{
    void *p[] = {o->theta, o->buffers, o->features, o->probs, o->el2n};
    for (size_t i = 0; i < sizeof p / sizeof *p; i++) rt_free(p[i]);
}

/* How many of the evaluation split's images the trainer's network knows. */
static rt_status score(rt_run *r, rt_trainer *t, double *accuracy)
{
    rt_status st = RT_OK;
    const rt_images *test = NULL;
    int32_t *predicted = NULL;
    int64_t hits = 0;
    RT_TRY(rt_run_test(r, &test));
    rt_train_data data = {.n = test->n, .images = test, .label = test->label, .norm = r->norm};
    RT_ALLOC(predicted, (size_t)test->n * sizeof *predicted, "predictions");
    RT_TRY(rt_trainer_infer(t, &data, rt_run_threads(r), NULL, NULL, predicted));
    for (int64_t i = 0; i < test->n; i++) hits += predicted[i] == test->label[i];
    *accuracy = (double)hits / (double)test->n;
out:
    rt_free(predicted);
    return st;
}

static rt_status final_weights(const rt_trainer *t, outputs *o)
{
    rt_status st = RT_OK;
    const rt_model *m = rt_trainer_model(t);
    RT_ALLOC(o->theta, (size_t)rt_model_n_params(m) * sizeof(float), "weights");
    RT_ALLOC(o->buffers, (size_t)rt_model_n_buffers(m) * sizeof(float), "weights");
    RT_TRY(rt_trainer_weights(t, false, o->theta, o->buffers));
out:
    return st;
}

/* Features from the final weights, which o has; EL2N from the snapshot when there is one. */
static rt_status collect(rt_run *r, rt_trainer *t, bool snapshot, const rt_train_data *train, outputs *o)
{
    rt_status st = RT_OK;
    const rt_model *m = rt_trainer_model(t);
    int32_t classes = rt_model_desc_of(m)->classes;
    float *early = NULL;
    o->dim = rt_model_feature_dim(m);
    RT_ALLOC(o->features, (size_t)(train->n * o->dim) * sizeof(float), "features");
    RT_ALLOC(o->probs, (size_t)(train->n * classes) * sizeof(float), "probabilities");
    RT_ALLOC(o->el2n, (size_t)train->n * sizeof(double), "EL2N scores");
    RT_TRY(rt_trainer_infer(t, train, rt_run_threads(r), o->features, o->probs, NULL));
    if (snapshot) {
        int64_t n_params = rt_model_n_params(m);
        RT_ALLOC(early, (size_t)(n_params + rt_model_n_buffers(m)) * sizeof(float), "weights");
        RT_TRY(rt_trainer_weights(t, true, early, early + n_params));
        RT_TRY(rt_trainer_set_weights(t, early, early + n_params));
        st = rt_trainer_infer(t, train, rt_run_threads(r), NULL, o->probs, NULL);
        if (st == RT_OK) st = rt_trainer_set_weights(t, o->theta, o->buffers);
        if (st != RT_OK) goto out;
    }
    RT_TRY(rt_el2n_probs(o->probs, train->n, classes, train->label, o->el2n));
out:
    rt_free(early);
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
    if (o->features) {
        RT_TRY(rt_fs_join(file, sizeof file, rt_commit_dir(commit), "features.safetensors"));
        rt_st_tensor ten[] = {{"features", RT_ST_F32, 2, {train->n, o->dim}, o->features, (uint64_t)(train->n * o->dim) * 4},
                              {"el2n", RT_ST_F64, 1, {train->n}, o->el2n, (uint64_t)train->n * 8}};
        RT_TRY(rt_st_write(file, ten, 2, NULL, 0));
    }
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

static rt_status teach_one(rt_run *r, const rt_teacher_seat *seat, const char *path, const char *key, rt_trainer *t)
{
    rt_status st = RT_OK;
    char ckpt[PATH_MAX], phase[64];
    const rt_images *train = NULL;
    rt_ledger *ledger = NULL;
    rt_train_result tr = {0};
    outputs o = {0};
    snprintf(phase, sizeof phase, "teach %s", seat->name);
    RT_TRY(rt_run_path(r, ckpt, "teacher/%s.ckpt", seat->name));
    RT_TRY(rt_run_train(r, &train));
    RT_TRY(rt_ledger_create(&ledger));
    rt_ledger_begin(ledger);
    rt_train_data data = {.n = train->n, .images = train, .label = train->label, .norm = r->norm};
    rt_train_run run = {.seed = rt_run_teacher_seed(r), .network = (uint64_t)seat->network, .ckpt_dir = ckpt, .inputs_hash = key,
                        .ckpt_seconds = r->c->run.checkpoint_seconds, .keep = (int)r->c->run.keep,
                        .threads = rt_run_threads(r), .phase = phase, .ledger = ledger,
                        .snapshot_epoch = seat->member ? 0 : r->c->teach.el2n_epoch};
    RT_TRY(rt_trainer_run(t, &data, &run, &tr));
    RT_TRY(final_weights(t, &o));
    RT_TRYF(score(r, t, &o.accuracy), "accuracy");
    if (!seat->member) RT_TRYF(collect(r, t, r->c->teach.el2n_epoch > 0, &data, &o), "features and scores");
    rt_ledger_entry(ledger)->peak_device_bytes = (double)rt_trainer_arena_bytes(t);
    RT_TRY(commit_teacher(r, path, key, t, &data, &o, &tr, ledger));
    RT_TRY(rt_ckpt_clear(ckpt));
    rt_log_line(RT_LOG_INFO, "teacher %s: %.2f %% on the evaluation split after %lld epochs", seat->name, 100 * o.accuracy,
                (long long)r->c->teach.epochs);
out:
    outputs_fini(&o);
    rt_ledger_destroy(ledger);
    return st;
}

/* Trains what is missing of one selection. Seats of one architecture share the compiled trainer. */
static rt_status teach_seats(rt_run *r, const rt_stage_opts *o, rt_teachers which, bool members_only)
{
    rt_status st = RT_OK;
    rt_trainer *t = NULL;
    rt_backend *be = NULL;
    rt_recipe recipe;
    rt_model_desc net;
    rt_teacher_seat seat;
    char path[PATH_MAX], key[RT_HASH_HEX];
    bool skip;
    RT_TRY(rt_run_teach_recipe(r->c, &recipe));
    RT_TRY(rt_run_path(r, path, "teacher"));
    RT_TRY(rt_fs_mkdirs(path));
    for (int i = 0; rt_run_teacher_seat(r, which, i, &seat); i++) {
        if (members_only && !seat.member) continue;
        RT_TRY(rt_run_teacher_key(r, &seat, key));
        RT_TRY(rt_run_path(r, path, "teacher/%s", seat.name));
        RT_TRY(rt_run_skip(path, "teacher", key, o->force, &skip));
        if (skip) continue;
        if (t && strcmp(rt_model_desc_of(rt_trainer_model(t))->arch, seat.arch) != 0) {
            rt_trainer_destroy(t);
            t = NULL;
        }
        if (!t) {
            RT_TRY(rt_run_backend(r, &be));
            RT_TRY(rt_run_net(r, seat.arch, &net));
            RT_TRYF(rt_trainer_create(be, &net, &recipe, &t), "teacher %s", seat.name);
        }
        RT_TRYF(teach_one(r, &seat, path, key, t), "teacher %s", seat.name);
    }
out:
    rt_trainer_destroy(t);
    return st;
}

rt_status rt_run_teach_committee(rt_run *r, const rt_stage_opts *o)
{
    return teach_seats(r, o, RT_TEACHERS_COMMITTEE, false);
}

rt_status rt_run_teach(rt_run *r, const rt_stage_opts *o)
{
    rt_status st = RT_OK;
    bool experts = rt_run_needs_experts(r);
    unsigned wanted = rt_run_teachers_wanted(r);
    if (!experts && !wanted) wanted = RT_WANT_NETS; /* asked for by name, with nothing that needs any: teachers */
    if (wanted & RT_WANT_NETS) RT_TRY(teach_seats(r, o, RT_TEACHERS_RUNS, false));
    if (wanted & RT_WANT_COMMITTEE) RT_TRY(teach_seats(r, o, RT_TEACHERS_COMMITTEE, (wanted & RT_WANT_NETS) != 0));
    if (experts) RT_TRY(rt_run_experts(r, o));
out:
    return st == RT_OK ? st : rt_error_frame(st, __FILE__, __LINE__, "teach");
}
