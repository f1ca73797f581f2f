/* pool: networks that a method wants trained on the real data before it constructs (NCFM). Each is an artefact of its own,
 * pool/<method>-net<k>, with its initial and its final weights; a killed training resumes, a finished one is reused by every
 * set of the run. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/rng.h"
#include "stage/stages.h"

enum { POOL_SEED = 0x706f6f6c }; /* keeps them apart from teachers, experts and students of the same run */

void rt_pool_fini(rt_pool *p)
{
    rt_free(p->initial);
    rt_free(p->trained);
    memset(p, 0, sizeof *p);
}

static rt_status net_key(rt_run *r, const rt_recipe *recipe, int64_t k, char key[RT_HASH_HEX])
{
    rt_status st = RT_OK;
    char which[32], text[RT_RECIPE_TEXT];
    rt_run_recipe_text(recipe, text);
    snprintf(which, sizeof which, "pool %lld", (long long)k);
    RT_TRY(rt_run_key(r, (const char *const[]){"network"}, 1, (const char *const[]){which, text}, 2, key));
out:
    return st;
}

static rt_status commit_net(rt_run *r, const rt_trainer *t, const char *path, const char *key, rt_ledger *ledger, int64_t k)
{
    rt_status st = RT_OK;
    rt_commit *commit = NULL;
    json_t *manifest = NULL;
    char file[PATH_MAX];
    const rt_model *m = rt_trainer_model(t);
    int64_t n = rt_model_n_params(m), n_buffers = rt_model_n_buffers(m);
    float *initial = NULL, *trained = NULL, *buffers = NULL;
    RT_ALLOC(initial, (size_t)n * sizeof *initial, "weights");
    RT_ALLOC(trained, (size_t)n * sizeof *trained, "weights");
    RT_ALLOC(buffers, (size_t)n_buffers * sizeof *buffers, "statistics");
    rt_model_init(m, rt_seed_derive((uint64_t)r->c->seed, POOL_SEED), (uint64_t)k, initial, buffers);
    RT_TRY(rt_trainer_weights(t, false, trained, buffers));
    RT_TRY(rt_commit_begin(path, &commit));
    RT_TRY(rt_fs_join(file, sizeof file, rt_commit_dir(commit), "network.safetensors"));
    rt_st_tensor x[] = {{"initial", RT_ST_F32, 1, {n}, initial, (uint64_t)n * sizeof *initial},
                        {"trained", RT_ST_F32, 1, {n}, trained, (uint64_t)n * sizeof *trained}};
    RT_TRY(rt_st_write(file, x, 2, NULL, 0));
    RT_TRY(rt_run_manifest(r, "network", key, ledger, &manifest));
    rt_commit *c = commit;
    commit = NULL;
    RT_TRY(rt_commit_finish(c, manifest));
out:
    rt_commit_abort(commit);
    json_decref(manifest);
    rt_free(initial);
    rt_free(trained);
    rt_free(buffers);
    return st;
}

static rt_status train_net(rt_run *r, rt_trainer *t, const char *method, int64_t k, const char *path, const char *key)
{
    rt_status st = RT_OK;
    char ckpt[PATH_MAX], phase[64];
    const rt_images *train = NULL;
    rt_ledger *ledger = NULL;
    rt_train_result tr = {0};
    snprintf(phase, sizeof phase, "pool of %s, network %lld", method, (long long)k);
    if ((size_t)snprintf(ckpt, sizeof ckpt, "%s.ckpt", path) >= sizeof ckpt) return RT_RAISE(RT_ERR_ARG, "path too long: %s", path);
    RT_TRY(rt_run_train(r, &train));
    RT_TRY(rt_ledger_create(&ledger));
    rt_ledger_begin(ledger);
    rt_train_data data = {.n = train->n, .images = train, .label = train->label, .norm = r->norm};
    rt_train_run run = {.seed = rt_seed_derive((uint64_t)r->c->seed, POOL_SEED), .network = (uint64_t)k, .ckpt_dir = ckpt,
                        .inputs_hash = key, .ckpt_seconds = r->c->run.checkpoint_seconds, .keep = (int)r->c->run.keep,
                        .threads = rt_run_threads(r), .phase = phase, .ledger = ledger};
    RT_TRYF(rt_trainer_run(t, &data, &run, &tr), "%s", phase);
    rt_ledger_entry(ledger)->peak_device_bytes = (double)rt_trainer_arena_bytes(t);
    RT_TRY(commit_net(r, t, path, key, ledger, k));
    RT_TRY(rt_ckpt_clear(ckpt));
    rt_log_line(RT_LOG_INFO, "%s: loss %.4f", phase, tr.last_loss);
out:
    rt_ledger_destroy(ledger);
    return st;
}

static rt_status read_net(const char *path, int64_t k, rt_pool *p)
{
    rt_status st = RT_OK;
    char file[PATH_MAX];
    rt_st_file *f = NULL;
    json_t *m = NULL;
    RT_TRY(rt_artefact_open(path, "network", true, &m));
    RT_TRY(rt_fs_join(file, sizeof file, path, "network.safetensors"));
    RT_TRY(rt_st_open(file, &f));
    const rt_st_tensor *initial = rt_st_find(f, "initial"), *trained = rt_st_find(f, "trained");
    if (!initial || !trained) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: no tensors initial and trained", file);
        goto out;
    }
    RT_TRYF(rt_st_to_f32(initial, p->initial + k * p->n_params, p->n_params), "%s", file);
    RT_TRYF(rt_st_to_f32(trained, p->trained + k * p->n_params, p->n_params), "%s", file);
    const json_t *cost = json_object_get(m, "cost");
    p->wall_s += json_number_value(json_object_get(cost, "wall_s"));
    p->flops += json_number_value(json_object_get(cost, "flops"));
out:
    if (st != RT_OK) rt_error_fix(st, "remove %s and run the same command: it is trained again", path);
    rt_st_close(f);
    json_decref(m);
    return st;
}

rt_status rt_run_pool(rt_run *r, const rt_method *m, rt_pool *out)
{
    rt_status st = RT_OK;
    rt_pool p = {0};
    rt_pool_spec spec = {0};
    rt_trainer *t = NULL;
    rt_backend *be = NULL;
    rt_model_desc net;
    rt_model *model = NULL;
    char path[PATH_MAX], key[RT_HASH_HEX];
    bool skip;
    if (*r->c->set.network_weights) return RT_OK;
    m->pool(r->c, &spec);
    RT_TRY(rt_run_path(r, path, "pool"));
    RT_TRY(rt_fs_mkdirs(path));
    RT_TRY(rt_run_net(r, r->c->network.arch, &net));
    RT_TRY(rt_model_create(&net, &model));
    p.n = spec.networks;
    p.n_params = rt_model_n_params(model);
    RT_ALLOC(p.initial, (size_t)(p.n * p.n_params) * sizeof *p.initial, "pool of networks");
    RT_ALLOC(p.trained, (size_t)(p.n * p.n_params) * sizeof *p.trained, "pool of networks");
    for (int64_t k = 0; k < p.n; k++) {
        RT_TRY(net_key(r, &spec.recipe, k, key));
        RT_TRY(rt_run_path(r, path, "pool/%s-net%lld", m->name, (long long)k));
        RT_TRY(rt_run_skip(path, "network", key, false, &skip));
        if (!skip && !t) {
            RT_TRY(rt_run_backend(r, &be));
            RT_TRY(rt_trainer_create(be, &net, &spec.recipe, &t));
        }
        if (!skip) RT_TRY(train_net(r, t, m->name, k, path, key));
        RT_TRY(read_net(path, k, &p));
    }
    *out = p;
    memset(&p, 0, sizeof p);
out:
    rt_pool_fini(&p);
    rt_trainer_destroy(t);
    rt_model_destroy(model);
    return st;
}
