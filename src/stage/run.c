/* One run directory: configuration, data, back end, keys and names. Stages are in index.c, teach.c, build.c, ... */
#include "stage/run.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "data/demo.h"
#include "stage/stages.h"

rt_status rt_run_path(const rt_run *r, char out[PATH_MAX], const char *fmt, ...)
{
    char rel[PATH_MAX];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(rel, sizeof rel, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof rel) return RT_RAISE(RT_ERR_ARG, "path too long below %s", r->c->run.dir);
    return rt_fs_join(out, PATH_MAX, r->c->run.dir, rel);
}

rt_status rt_run_open(const rt_config *c, rt_run *out)
{
    rt_status st = RT_OK;
    rt_run r = {.c = c};
    char path[PATH_MAX], *yaml = NULL;
    for (int i = 0; i < 3; i++) {
        r.norm.mean[i] = (float)c->data.mean[i];
        r.norm.std[i] = (float)c->data.std[i];
    }
    if (c->data.zca) r.norm = (rt_normalise){{0, 0, 0}, {1, 1, 1}}; /* pixels in [0,1] are what is whitened */
    r.bad.policy = !strcmp(c->data.on_bad_sample, "skip") ? RT_BAD_SKIP : RT_BAD_FAIL;
    r.bad.max_fraction = c->data.max_bad;
    r.bad.warnings_are_bad = true;
    RT_TRYF(rt_fs_mkdirs(c->run.dir), "run directory");
    RT_TRY(rt_lock_take(c->run.dir, &r.lock));
    RT_TRY(rt_config_yaml(c, &yaml));
    RT_TRY(rt_run_path(&r, path, "resolved.yaml"));
    RT_TRY(rt_fs_write_atomic(path, yaml, strlen(yaml)));
    *out = r;
    memset(&r, 0, sizeof r);
out:
    rt_free(yaml);
    rt_run_close(&r);
    return st;
}

void rt_run_close(rt_run *r)
{
    rt_images_fini(&r->train);
    rt_images_fini(&r->test);
    rt_zca_fini(&r->zca);
    rt_dataset_close(r->train_set);
    rt_dataset_close(r->test_set);
    rt_bad_list_fini(&r->bad);
    rt_backend_close(r->be);
    rt_lock_release(r->lock);
    memset(r, 0, sizeof *r);
}

rt_status rt_run_results_name(const rt_run *r, const char *set_path, const char *content, char out[RT_RESULTS_NAME])
{
    rt_status st = RT_OK;
    char real[PATH_MAX], own[PATH_MAX], real_own[PATH_MAX];
    if (!realpath(set_path, real)) return RT_RAISE_ERRNO("%s", set_path);
    const char *base = strrchr(real, '/') + 1;
    RT_TRY(rt_run_path(r, own, "sets/%s", base));
    bool ours = realpath(own, real_own) && !strcmp(real, real_own);
    int n = snprintf(out, RT_RESULTS_NAME, ours ? "%s" : "%s-%.8s", base, content);
    if (n < 0 || n >= RT_RESULTS_NAME) st = RT_RAISE(RT_ERR_ARG, "name of the set folder is too long: %s", real);
out:
    return st;
}

rt_status rt_run_skip(const char *path, const char *kind, const char *key, bool force, bool *skip)
{
    rt_status st = RT_OK;
    char ckpt[PATH_MAX], tmp[PATH_MAX], old[PATH_MAX];
    rt_commit *sweep = NULL;
    bool current = !force && rt_artefact_is_current(path, kind, key);
    if (current) {
        if (snprintf(ckpt, PATH_MAX, "%s.ckpt", path) >= PATH_MAX || snprintf(tmp, PATH_MAX, "%s.tmp", path) >= PATH_MAX ||
            snprintf(old, PATH_MAX, "%s.old", path) >= PATH_MAX)
            return RT_RAISE(RT_ERR_ARG, "path too long: %s", path);
        if (rt_fs_exists(ckpt)) RT_TRY(rt_ckpt_clear(ckpt));
        if (rt_fs_exists(tmp) || rt_fs_exists(old)) RT_TRY(rt_commit_begin(path, &sweep)); /* which sweeps both */
    }
    *skip = current;
out:
    rt_commit_abort(sweep);
    return st;
}

int rt_run_threads(const rt_run *r) { return (int)r->c->backend.threads; }

/* The config's choices are those of the enums. */
static rt_precision precision_of(const char *name)
{
    return strcmp(name, "bf16") == 0 ? RT_PRECISION_BF16 : strcmp(name, "tf32") == 0 ? RT_PRECISION_TF32 : RT_PRECISION_F32;
}

static rt_capture capture_of(const char *name)
{
    return strcmp(name, "verify") == 0 ? RT_CAPTURE_VERIFY : strcmp(name, "off") == 0 ? RT_CAPTURE_OFF : RT_CAPTURE_ON;
}

rt_status rt_run_backend(rt_run *r, rt_backend **out)
{
    rt_status st = RT_OK;
    char cache[PATH_MAX];
    if (!r->be) {
        RT_TRY(rt_run_path(r, cache, "algorithms.jsonl"));
        rt_backend_opts o = {.threads = rt_run_threads(r), .strict = r->c->backend.strict, .precision = precision_of(r->c->backend.precision),
                             .capture = capture_of(r->c->backend.capture)};
        if (!o.strict) o.algo_cache = cache; /* timed choices may differ between runs, and with them the last bits */
        RT_TRY(rt_backend_open(r->c->backend.device, &o, &r->be));
    }
    *out = r->be;
out:
    return st;
}

/* --- data ---------------------------------------------------------------------------------------------------------------- */

enum { DEMO_TRAIN = 200, DEMO_TEST = 100 }; /* images per class of the generated set */

static rt_status demo_data(rt_run *r, char train[PATH_MAX], char test[PATH_MAX])
{
    rt_status st = RT_OK;
    char dir[PATH_MAX];
    RT_TRY(rt_run_path(r, dir, "data"));
    RT_TRY(rt_fs_join(train, PATH_MAX, dir, "train"));
    RT_TRY(rt_fs_join(test, PATH_MAX, dir, "test"));
    if (!rt_fs_is_dir(dir)) /* appears whole or not at all */
        RT_TRYF(rt_demo_generate(dir, (uint64_t)r->c->seed, DEMO_TRAIN, DEMO_TEST, (int)r->c->data.size), "demo images");
out:
    return st;
}

static const char *or_null(const char *s) { return s && *s ? s : NULL; }

rt_status rt_run_datasets(rt_run *r)
{
    rt_status st = RT_OK;
    const rt_config *c = r->c;
    char train[PATH_MAX], test[PATH_MAX];
    if (r->train_set && r->test_set) return RT_OK;
    rt_data_source a = {.kind = c->data.kind, .path = c->data.train, .split = "train", .classes = or_null(c->data.classes),
                        .listed_only = c->data.listed_only, .keys = or_null(c->data.keys_train)};
    rt_data_source b = {.kind = c->data.kind, .path = *c->data.test ? c->data.test : c->data.train, .split = "test",
                        .classes = a.classes, .listed_only = a.listed_only, .keys = or_null(c->data.keys_test)};
    if (!strcmp(c->data.kind, "demo")) {
        RT_TRY(demo_data(r, train, test));
        a.kind = b.kind = "imagefolder";
        a.path = train;
        b.path = test;
    }
    if (!r->train_set) RT_TRYF(rt_dataset_open(&a, &r->train_set), "training split %s", a.path);
    if (!r->test_set) RT_TRYF(rt_dataset_open(&b, &r->test_set), "evaluation split %s", b.path);
    RT_TRY(rt_classes_check(rt_dataset_classes(r->train_set), "the training split", rt_dataset_classes(r->test_set),
                            "the evaluation split"));
out:
    return st;
}

static rt_status load(rt_run *r, const rt_dataset *d, rt_bad_list *bad, rt_images *out)
{
    rt_preset p = {.size = (int32_t)r->c->data.size, .resize = (int32_t)r->c->data.resize,
                   .filter = !strcmp(r->c->data.filter, "bicubic") ? RT_BICUBIC : RT_BILINEAR};
    double begun = rt_now();
    rt_status st = rt_images_load(d, &p, rt_run_threads(r), bad, out);
    r->decode_s += rt_now() - begun;
    return st;
}

/* Bad samples are listed in the run directory, never silent. */
static rt_status list_bad(rt_run *r)
{
    rt_status st = RT_OK;
    char path[PATH_MAX];
    FILE *f = NULL;
    if (!r->bad.n) return RT_OK;
    RT_TRY(rt_run_path(r, path, "bad_samples.jsonl"));
    if (!(f = fopen(path, "w"))) return RT_RAISE_ERRNO("%s", path);
    for (int64_t i = 0; i < r->bad.n; i++) {
        json_t *line = json_pack("{s:s, s:s}", "key", r->bad.item[i].key, "reason", r->bad.item[i].reason);
        int bad = !line || json_dumpf(line, f, JSON_COMPACT | JSON_SORT_KEYS) || fputc('\n', f) == EOF;
        json_decref(line);
        if (bad) {
            st = RT_RAISE_ERRNO("%s", path);
            goto out;
        }
    }
    rt_log_line(RT_LOG_WARN, "%lld training samples could not be decoded and were left out: %s", (long long)r->bad.n, path);
out:
    if (f && fclose(f) && st == RT_OK) st = RT_RAISE_ERRNO("%s", path);
    return st;
}

rt_status rt_run_train(rt_run *r, const rt_images **out)
{
    rt_status st = RT_OK;
    if (!r->have_train) {
        RT_TRY(rt_run_datasets(r));
        RT_TRYF(load(r, r->train_set, &r->bad, &r->train), "decoding the training split");
        r->have_train = true;
        RT_TRY(list_bad(r));
        if (r->c->data.zca) RT_TRY(rt_run_whiten(r, &r->train));
    }
    *out = &r->train;
out:
    return st;
}

/* Evaluation never skips: a result over fewer images is another result. */
rt_status rt_run_test(rt_run *r, const rt_images **out)
{
    rt_status st = RT_OK;
    rt_bad_list strict = {.policy = RT_BAD_FAIL, .warnings_are_bad = true};
    if (!r->have_test) {
        RT_TRY(rt_run_datasets(r));
        RT_TRYF(load(r, r->test_set, &strict, &r->test), "decoding the evaluation split");
        r->have_test = true;
        if (r->c->data.zca) RT_TRY(rt_run_whiten(r, &r->test));
    }
    *out = &r->test;
out:
    rt_bad_list_fini(&strict);
    return st;
}

/* --- keys, manifests, names ------------------------------------------------------------------------------------------------ */

static rt_model_norm norm_of(const char *name)
{
    static const char *const names[] = {"none", "instance", "batch", "layer", "group"};
    static const rt_model_norm value[] = {RT_MODEL_NORM_NONE, RT_MODEL_NORM_INSTANCE, RT_MODEL_NORM_BATCH, RT_MODEL_NORM_LAYER,
                                          RT_MODEL_NORM_GROUP};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i])) return value[i];
    return RT_MODEL_NORM_INSTANCE;
}

rt_status rt_run_net(rt_run *r, const char *arch, rt_model_desc *out)
{
    rt_status st = RT_OK;
    const rt_config *c = r->c;
    RT_TRY(rt_run_datasets(r));
    rt_model_desc d = {.depth = (int32_t)c->network.depth, .width = (int32_t)c->network.width, .norm = norm_of(c->network.norm),
                       .size = (int32_t)c->data.size, .channels = 3, .classes = rt_dataset_classes(r->train_set)->n,
                       .small_stem = c->network.small_stem};
    snprintf(d.arch, sizeof d.arch, "%s", arch);
    *out = d;
out:
    return st;
}

rt_status rt_run_key(rt_run *r, const char *const *sections, int n_sections, const char *const *extra, int n_extra,
                     char hex[RT_HASH_HEX])
{
    rt_status st = RT_OK;
    char *text = NULL, line[256];
    rt_sha256 *h = NULL;
    const rt_config *c = r->c;
    RT_TRY(rt_run_datasets(r));
    static const char *const none[1];
    RT_TRY(rt_config_canonical(c, sections ? sections : none, n_sections, &text)); /* which reads NULL as all of them */
    RT_TRY(rt_sha256_create(&h));
    rt_sha256_update(h, text, strlen(text));
    /* The data's identity instead of their path: a run that was moved is still current. */
    int n = snprintf(line, sizeof line, "seed=%lld device=%s size=%lld resize=%lld filter=%s mean=%.9g,%.9g,%.9g std=%.9g,%.9g,%.9g\n",
                     (long long)c->seed, c->backend.device, (long long)c->data.size, (long long)c->data.resize, c->data.filter,
                     c->data.mean[0], c->data.mean[1], c->data.mean[2], c->data.std[0], c->data.std[1], c->data.std[2]);
    rt_sha256_update(h, line, (size_t)n);
    if (c->data.zca) rt_sha256_update(h, "zca=0.1\n", 8);
    if (strcmp(c->backend.precision, "f32") != 0) rt_sha256_update(h, c->backend.precision, strlen(c->backend.precision) + 1);
    rt_sha256_update(h, rt_dataset_hash(r->train_set), RT_HASH_HEX);
    for (int i = 0; i < n_extra; i++) rt_sha256_update(h, extra[i], strlen(extra[i]) + 1);
    rt_sha256_final(h, hex);
out:
    rt_free(text);
    return st;
}

void rt_run_recipe_text(const rt_recipe *r, char out[RT_RECIPE_TEXT])
{
    const rt_optim_desc *o = &r->optim;
    const rt_schedule *s = &r->schedule;
    int n = snprintf(out, RT_RECIPE_TEXT,
                     "%s epochs=%lld batch=%lld optim=%d lr=%.9g momentum=%.9g decay=%.9g,%d betas=%.9g,%.9g eps=%.9g nesterov=%d "
                     "schedule=%d zeta=%.9g factor=%.9g warmup=%.9g restart=%d augment=%d,%.100s,%d,%.9g milestones=",
                     r->name, (long long)r->epochs, (long long)r->batch, (int)o->kind, o->lr, o->momentum, o->weight_decay,
                     r->decay_kernels_only, o->beta1, o->beta2, o->eps, o->nesterov, (int)s->kind, s->zeta, s->factor, s->warmup,
                     s->restart, (int)r->augment, r->augment == RT_AUGMENT_DSA && r->dsa_strategy ? r->dsa_strategy : "",
                     r->dsa_mode, r->cutmix);
    for (int i = 0; i < s->n_milestones && n > 0 && n < RT_RECIPE_TEXT; i++)
        n += snprintf(out + n, (size_t)(RT_RECIPE_TEXT - n), "%.9g,", s->milestone[i]);
    if (r->gsam_rho > 0 && n > 0 && n < RT_RECIPE_TEXT)
        n += snprintf(out + n, (size_t)(RT_RECIPE_TEXT - n), " gsam=%.9g,%.9g", r->gsam_rho, r->gsam_alpha);
    if (r->loss != RT_LOSS_CE && n > 0 && n < RT_RECIPE_TEXT)
        n += snprintf(out + n, (size_t)(RT_RECIPE_TEXT - n), " loss=%d target=%d stored=%d T=%.9g,%d gamma=%.9g stats=%d", (int)r->loss,
                      (int)r->target, r->stored_targets, r->temperature, r->t_squared, r->gamma, r->teacher_batch_stats);
    if ((r->ema > 0 || r->parts > 1) && n > 0 && n < RT_RECIPE_TEXT)
        n += snprintf(out + n, (size_t)(RT_RECIPE_TEXT - n), " ema=%.9g parts=%d", r->ema, r->parts);
    if ((r->rrc_scale > 0 || r->patch_shuffle) && n > 0 && n < RT_RECIPE_TEXT)
        snprintf(out + n, (size_t)(RT_RECIPE_TEXT - n), " crop=%.9g shuffle=%d", (double)r->rrc_scale, r->patch_shuffle);
}

rt_status rt_run_manifest(rt_run *r, const char *kind, const char *inputs_hash, rt_ledger *cost, json_t **out)
{
    /* Without `run`: where a result lies is no part of it, and two runs must be able to agree byte for byte. */
    static const char *const sections[] = {"", "backend", "data", "network", "teach", "committee", "experts", "set", "methods", "coreset", "dm",
                                           "dc", "idc", "datadam", "ncfm", "mtt", "tesla", "datm", "rded", "sre2l", "sre2lpp", "cda",
                                           "dwa", "delt", "fadrm", "cvdd", "dsa", "eval", "metrics"};
    rt_status st = RT_OK;
    char *config = NULL;
    json_t *m = NULL;
    RT_TRY(rt_config_canonical(r->c, sections, (int)(sizeof sections / sizeof *sections), &config));
    m = json_pack("{s:s, s:s, s:s, s:I, s:s, s:s}", "kind", kind, "inputs_hash", inputs_hash, "classes_hash",
                  rt_dataset_classes(r->train_set)->hash, "seed", (json_int_t)r->c->seed, "config", config, "version", RT_VERSION);
    if (m && cost) {
        rt_ledger_update(cost);
        if (json_object_set_new(m, "cost", rt_ledger_json(cost))) {
            json_decref(m);
            m = NULL;
        }
    }
    if (!m) {
        st = RT_RAISE(RT_ERR_NOMEM, "manifest of %s", kind);
        goto out;
    }
    *out = m;
out:
    rt_free(config);
    return st;
}

/* The snapshots of a method that will be taken, ascending. */
static int32_t snapshots_of(const rt_config *c, const rt_method *m, int64_t at[RT_CFG_MAX_LIST])
{
    const rt_int_list *want = &c->methods.snapshots;
    int64_t last = m->iterations ? m->iterations(c) : 0;
    int32_t n = 0;
    for (int32_t i = 0; i < want->n; i++) {
        int32_t k = n;
        if (want->v[i] < 1 || want->v[i] >= last) continue;
        for (; k > 0 && at[k - 1] > want->v[i]; k--) at[k] = at[k - 1];
        at[k] = want->v[i];
        n++;
    }
    return n;
}

void rt_run_name_text(rt_set_name *n)
{
    int len = snprintf(n->text, sizeof n->text, "%s-ipc%lld-s%d", n->method, (long long)n->ipc, n->seed);
    if (n->iteration) snprintf(n->text + len, sizeof n->text - (size_t)len, "-it%lld", (long long)n->iteration);
}

bool rt_run_set_name(const rt_run *r, int i, rt_set_name *out)
{
    const rt_config *c = r->c;
    for (int32_t k = 0; k < c->set.ipc.n; k++)
        for (int32_t m = 0; m < c->methods.names.n; m++) {
            const rt_method *method;
            int64_t at[RT_CFG_MAX_LIST];
            if (rt_method_find(c->methods.names.v[m], &method) != RT_OK) continue;
            int32_t snapshots = snapshots_of(c, method, at), per = 1 + snapshots;
            int32_t n = per * (method->stochastic ? (int32_t)c->methods.set_seeds : 1);
            if (i >= n) {
                i -= n;
                continue;
            }
            int32_t seed = i / per, which = i % per;
            *out = (rt_set_name){.method = method->name, .ipc = c->set.ipc.v[k], .seed = seed,
                                 .iteration = which ? at[which - 1] : 0};
            rt_run_name_text(out);
            return true;
        }
    return false;
}

bool rt_run_foreign_at(const rt_run *r, int i, char path[PATH_MAX])
{
    const char *p = r->c->set.foreign;
    for (; i > 0 && *p; i--) {
        p += strcspn(p, ",");
        p += *p == ',';
    }
    const size_t n = strcspn(p, ",");
    if (!n || n >= PATH_MAX) return false;
    memcpy(path, p, n);
    path[n] = 0;
    return true;
}

int32_t rt_run_networks(const rt_run *r, const rt_set_name *s)
{
    const rt_method *method;
    int32_t seeds = (int32_t)r->c->eval.seeds, sets = (int32_t)r->c->methods.set_seeds;
    if (rt_method_find(s->method, &method) != RT_OK || !method->stochastic) return seeds;
    return (seeds + sets - 1) / sets;
}
