/* experts: networks trained on the real images whose weights are kept after every epoch. Each is an artefact of its own, so a
 * killed run loses the epochs since the last checkpoint of those at hand and nothing of the others. Training: expert_group.c. */
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "stage/experts.h"

static rt_status span_of(const rt_config *c, rt_expert_span *out)
{
    rt_status st = RT_OK;
    rt_expert_span s = {.last = 0};
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
    if (!strcmp(c->experts.keep, "all")) s = (rt_expert_span){.last = c->experts.epochs, .final = true};
    s.epochs = s.final ? c->experts.epochs : s.last; /* a constant rate: the epochs after that change nothing before them */
    *out = s;
out:
    return st;
}

rt_status rt_run_experts_recipe(const rt_run *r, rt_recipe *out, int64_t *n_kept)
{
    rt_status st = RT_OK;
    const rt_config *c = r->c;
    rt_expert_span s;
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

/* Experts are trained in groups of `parallel`, by number, so that a killed run finds the group it was in. */
static rt_expert_group group_of(const rt_config *c, int64_t k)
{
    int64_t p = c->experts.parallel, first = k / p * p, left = c->experts.count - first;
    return (rt_expert_group){first, left < p ? left : p};
}

/* Without the number of experts and epochs: more of either leaves those before them as they are. Here a network of a batch is
 * computed as it is alone, bit for bit; on a GPU how many are trained at once may reach the last bits. */
rt_status rt_expert_key(rt_run *r, int64_t k, char key[RT_HASH_HEX])
{
    rt_status st = RT_OK;
    char which[64], text[RT_RECIPE_TEXT];
    rt_recipe recipe;
    RT_TRY(rt_run_experts_recipe(r, &recipe, NULL));
    recipe.epochs = 0;
    rt_run_recipe_text(&recipe, text);
    bool gpu = !strcmp(r->c->backend.device, "cuda");
    snprintf(which, sizeof which, "expert %lld of %lld", (long long)k, gpu ? (long long)group_of(r->c, k).n : 1);
    RT_TRY(rt_run_key(r, (const char *const[]){"network"}, 1, (const char *const[]){which, text}, 2, key));
out:
    return st;
}

/* True when the expert at path was made with this key and keeps all that is wanted (it may keep more). */
static bool covers(const char *path, const char *key, const rt_expert_span *s)
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

/* Which experts of a group are not there, or not as wanted. When all are, what a kill left beside them is swept. */
static rt_status survey(rt_run *r, rt_expert_group g, const rt_expert_span *s, bool force, bool *missing, bool *any)
{
    rt_status st = RT_OK;
    char path[PATH_MAX], key[RT_HASH_HEX];
    bool skip;
    *any = false;
    for (int pass = 0; pass < 2; pass++)
        for (int64_t m = 0; m < g.n && (pass == 0 || !*any); m++) {
            RT_TRY(rt_expert_key(r, g.first + m, key));
            RT_TRY(rt_run_path(r, path, "experts/expert%lld", (long long)(g.first + m)));
            if (pass == 0) {
                missing[m] = force || !covers(path, key, s);
                *any = *any || missing[m];
            } else
                RT_TRY(rt_run_skip(path, "expert", key, false, &skip));
        }
out:
    return st;
}

rt_status rt_run_experts(rt_run *r, const rt_stage_opts *o)
{
    rt_status st = RT_OK;
    rt_trainer *t = NULL;
    rt_backend *be = NULL;
    rt_recipe recipe;
    rt_model_desc net;
    rt_expert_span s;
    char path[PATH_MAX];
    bool missing[RT_EXPERTS_AT_ONCE], any;
    RT_TRY(span_of(r->c, &s));
    RT_TRY(rt_run_experts_recipe(r, &recipe, NULL));
    RT_TRY(rt_run_path(r, path, "experts"));
    RT_TRY(rt_fs_mkdirs(path));
    for (int64_t k = 0; k < r->c->experts.count; k += r->c->experts.parallel) {
        rt_expert_group g = group_of(r->c, k);
        RT_TRY(survey(r, g, &s, o->force, missing, &any));
        if (!any) continue;
        if (t && rt_trainer_networks(t) != g.n) { /* the last group may be smaller */
            rt_trainer_destroy(t);
            t = NULL;
        }
        if (!t) {
            RT_TRY(rt_run_backend(r, &be));
            RT_TRY(rt_run_net(r, r->c->network.arch, &net));
            RT_TRY(rt_trainer_create_many(be, &net, &recipe, g.n, &t));
        }
        RT_TRYF(rt_expert_group_train(r, g, &s, missing, t), "expert %lld", (long long)k);
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
    rt_expert_span s;
    RT_TRY(span_of(r->c, &s));
    RT_TRY(rt_run_path(r, dir, "experts"));
    RT_TRY(rt_run_net(r, r->c->network.arch, &net));
    RT_TRY(rt_model_create(&net, &m));
    if (r->c->data.zca) RT_TRY(rt_run_zca(r));
    RT_TRY(rt_experts_open(dir, r->c->experts.count, m, rt_dataset_classes(r->train_set)->hash, r->c->data.zca ? r->zca.hash : "", s.last,
                           s.final, &e));
    for (int64_t k = 0; k < rt_experts_count(e); k++) {
        const char *have = json_string_value(json_object_get(rt_experts_manifest(e, k), "inputs_hash"));
        RT_TRY(rt_expert_key(r, k, key));
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
