/* eval: every set x protocol x student x network is one artefact with its accuracy. A student's trainer is compiled once
 * and reused for every set of the same size.
 *
 * The networks of one set, protocol and student that are still wanted are trained one after the other, or at once in one
 * compiled step (eval.batched): each is the network it is alone, up to rounding, and in strict mode on the cpu to the bit; its
 * cost is its share. Two cores are busy with the ten images of one network (bench/nets.c: no gain), a GPU is not: `auto`. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "eval/eval.h"
#include "stage/stages.h"

/* The trainer of the last cell; the next one usually wants the same. */
typedef struct bench_seat {
    rt_trainer *t;
    rt_protocol protocol;
    char student[32];
    int64_t batch, epochs, nets;
    rt_committee committee[RT_TEACHERS_RUNS + 1]; /* read on first use and kept for the run; n == 0: not yet */
} bench_seat;

static int64_t epochs_of(const rt_config *c, rt_protocol p)
{
    const int64_t epochs[RT_PROTOCOL_COUNT] = {
        [RT_P1_PLAIN] = c->eval.epochs_plain, [RT_P1_CLASSIC] = c->eval.epochs_classic, [RT_P1] = c->eval.epochs_p1,
        [RT_P1_MTT] = c->eval.epochs_mtt,     [RT_P1_DATM] = c->eval.epochs_datm,       [RT_P1_IDC] = c->eval.epochs_idc,
        [RT_P1_DATADAM] = c->eval.epochs_datadam, [RT_P1_NCFM] = c->eval.epochs_ncfm};
    if (epochs[p]) return epochs[p];
    return strncmp(rt_protocol_name(p), "p2", 2) == 0 ? c->eval.epochs_p2 : c->eval.epochs_p3;
}

/* The keys that p1, p2, p3 and their variants share; 0 leaves what the protocol says. */
static void budget_keys(const rt_config *c, rt_protocol p, const char *student, bool full, rt_recipe *r)
{
    const int64_t batch = p == RT_P1 ? c->eval.batch_p1 : strncmp(r->name, "p2", 2) == 0 ? c->eval.batch_p2 : c->eval.batch_p3;
    rt_protocol_student(p, student, r);
    if (batch > 0 && !full) r->batch = batch;
    r->batch = (int64_t)((double)r->batch * c->eval.batch_factor + 0.5);
    if (r->batch < 1) r->batch = 1;
    if (c->eval.lr_p1 > 0) r->optim.lr = c->eval.lr_p1;
    if (c->eval.crop_scale > 0) r->rrc_scale = (float)c->eval.crop_scale;
    if (c->eval.zeta > 0) r->schedule.zeta = c->eval.zeta;
    if (c->eval.temperature > 0 && r->loss == RT_LOSS_KL) r->temperature = c->eval.temperature;
    r->patch_shuffle = c->eval.patch_shuffle;
}

void rt_run_eval_recipe(const rt_config *c, rt_protocol p, const char *student, int64_t n, int32_t classes, bool full, rt_recipe *r)
{
    rt_protocol_recipe(p, n, classes, full ? c->eval.full_epochs : epochs_of(c, p), r);
    if (rt_protocol_budget(p)) {
        budget_keys(c, p, student, full, r);
    } else if (p == RT_P1_PLAIN || p == RT_P1_CLASSIC) {
        r->batch = c->eval.batch_classic;
        r->optim.lr = c->eval.lr_classic;
    } else if (rt_protocol_follows_set(p)) {
        r->optim.lr = c->eval.lr_common;
    }
    if (r->augment == RT_AUGMENT_DSA) r->dsa_strategy = r->dsa_mode == 'I' ? c->dsa.variant : c->dsa.strategy;
    if (r->dsa_mode == 'I') r->cutmix = c->dsa.cutmix;
}

bool rt_run_lesson(rt_protocol p, rt_teachers *which)
{
    const rt_lesson l = rt_protocol_teachers(p);
    *which = l == RT_LESSON_COMMITTEE ? RT_TEACHERS_COMMITTEE : l == RT_LESSON_RUNS ? RT_TEACHERS_RUNS : RT_TEACHERS_FIRST;
    return l != RT_LESSON_NONE;
}

static rt_status seat_for(rt_run *r, bench_seat *seat, rt_protocol p, const char *student, int64_t n, bool full, int64_t nets)
{
    rt_status st = RT_OK;
    rt_model_desc net;
    rt_recipe recipe;
    rt_backend *be = NULL;
    rt_teachers which;
    const rt_committee *teachers = NULL;
    RT_TRY(rt_run_net(r, student, &net));
    rt_run_eval_recipe(r->c, p, student, n, net.classes, full, &recipe);
    if (seat->t && seat->protocol == p && !strcmp(seat->student, student) && seat->batch == recipe.batch &&
        seat->epochs == recipe.epochs && seat->nets == nets)
        return RT_OK;
    rt_trainer_destroy(seat->t);
    seat->t = NULL;
    RT_TRY(rt_run_backend(r, &be));
    if (rt_run_lesson(p, &which)) {
        if (!seat->committee[which].n) RT_TRY(rt_run_committee(r, which, &seat->committee[which]));
        teachers = &seat->committee[which];
    }
    RT_TRY(rt_trainer_create_taught(be, &net, &recipe, nets, teachers, &seat->t));
    seat->protocol = p;
    seat->nets = nets;
    snprintf(seat->student, sizeof seat->student, "%s", student);
    seat->batch = recipe.batch;
    seat->epochs = recipe.epochs;
out:
    return st;
}

typedef struct cell {
    char set[RT_RESULTS_NAME], content[RT_HASH_HEX], path[PATH_MAX], key[RT_HASH_HEX];
    rt_protocol protocol;
    const char *student;
    int network;
    int64_t n; /* images trained on */
    bool full;
    double lr;          /* that the student starts at */
    const char *labels; /* "hard", "probabilities", "logits" or "teacher": what it is trained on */
} cell;

/* Whether this cell's protocol and the config want the soft labels of a set that has them. */
static bool soft_labels(const rt_run *r, const cell *c)
{
    return rt_protocol_follows_set(c->protocol) && strcmp(r->c->eval.labels, "hard") != 0;
}

/* A cell depends on its own recipe, not on which other cells the config asks for. */
static rt_status name_cell(rt_run *r, cell *c)
{
    rt_status st = RT_OK;
    char which[128], recipe_text[RT_RECIPE_TEXT], taught[RT_HASH_HEX] = "";
    rt_recipe recipe;
    rt_teachers teachers;
    snprintf(which, sizeof which, "%s %d labels=%d checks=%lld", c->student, c->network, soft_labels(r, c),
             (long long)r->c->eval.check_every);
    RT_TRY(rt_run_datasets(r));
    rt_run_eval_recipe(r->c, c->protocol, c->student, c->n, rt_dataset_classes(r->train_set)->n, c->full, &recipe);
    rt_run_recipe_text(&recipe, recipe_text);
    const bool has_teachers = rt_run_lesson(c->protocol, &teachers);
    if (has_teachers) RT_TRY(rt_run_committee_hash(r, teachers, taught));
    RT_TRY(rt_run_key(r, (const char *const[]){"network"}, 1,
                      (const char *const[]){c->content, which, recipe_text, rt_dataset_hash(r->test_set), taught}, has_teachers ? 5 : 4,
                      c->key));
    RT_TRY(rt_run_path(r, c->path, "evals/%s/%s-%s-n%d", c->set, rt_protocol_name(c->protocol), c->student, c->network));
out:
    return st;
}

static rt_status commit_cell(rt_run *r, const cell *c, const rt_eval_result *e, rt_ledger *ledger, const rt_recipe *recipe)
{
    rt_status st = RT_OK;
    rt_commit *commit = NULL;
    json_t *m = NULL, *result = NULL, *per_class = json_array(), *names = json_array();
    char *text = NULL;
    rt_teachers which;
    rt_teacher_seat teacher;
    rt_recipe published;
    int32_t classes = rt_dataset_classes(r->train_set)->n;
    for (int32_t k = 0; k < classes; k++) json_array_append_new(per_class, json_real(e->per_class[k]));
    bool checked = r->c->eval.check_every > 0;
    result = json_pack("{s:s, s:s, s:s, s:i, s:f, s:I, s:I, s:f, s:f, s:f, s:f, s:o, s:I, s:I, s:f, s:s, s:o, s:I}", "set", c->set, "protocol",
                       rt_protocol_name(c->protocol), "student", c->student, "network", c->network, "accuracy", e->accuracy,
                       "n_correct", (json_int_t)e->n_correct, "n_test", (json_int_t)e->n_test, "first_loss", e->first_loss,
                       "last_loss", e->last_loss, "images_seen", e->images_seen, "flops", e->flops, "per_class", per_class,
                       "epochs", (json_int_t)recipe->epochs, "batch", (json_int_t)recipe->batch, "lr", c->lr,
                       "labels", c->labels, "best", checked ? json_real(e->best) : json_null(), "best_epoch",
                       (json_int_t)e->best_epoch);
    if (result && rt_run_lesson(c->protocol, &which)) {
        for (int i = 0; rt_run_teacher_seat(r, which, i, &teacher); i++) json_array_append_new(names, json_string(teacher.name));
        json_object_set(result, "teachers", names);
        if (e->label_bytes) json_object_set_new(result, "label_bytes", json_integer((json_int_t)e->label_bytes));
        json_object_set_new(result, "teacher_flops", json_real(e->teacher_flops));
    }
    if (result && rt_protocol_budget(c->protocol) && !c->full) { /* fewer epochs than published are said */
        rt_protocol_recipe(c->protocol, c->n, classes, 0, &published);
        json_object_set_new(result, "epochs_published", json_integer((json_int_t)published.epochs));
    }
    if (result) text = json_dumps(result, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(17));
    if (!text) {
        st = RT_RAISE(RT_ERR_NOMEM, "result");
        goto out;
    }
    RT_TRY(rt_commit_begin(c->path, &commit));
    RT_TRY(rt_commit_file(commit, "result.json", text, strlen(text)));
    RT_TRY(rt_run_manifest(r, "eval", c->key, ledger, &m));
    rt_commit *done = commit;
    commit = NULL;
    RT_TRY(rt_commit_finish(done, m));
out:
    rt_commit_abort(commit);
    free(text); /* jansson's allocator */
    json_decref(result);
    json_decref(names);
    json_decref(m);
    return st;
}

/* What a checkpoint of these cells belongs to. */
static rt_status key_of_cells(const cell *c, int n, char out[RT_HASH_HEX])
{
    rt_status st = RT_OK;
    char *all = NULL;
    if (n == 1) {
        memcpy(out, c->key, RT_HASH_HEX);
        return RT_OK;
    }
    RT_ALLOC(all, (size_t)n * RT_HASH_HEX, "keys");
    for (int k = 0; k < n; k++) memcpy(all + (size_t)k * RT_HASH_HEX, c[k].key, RT_HASH_HEX);
    RT_TRY(rt_hash_bytes(all, (size_t)n * RT_HASH_HEX, out));
out:
    rt_free(all);
    return st;
}

/* Commits each cell with its share of the cost. */
static rt_status commit_cells(rt_run *r, const cell *c, int n, const rt_eval_result *e, rt_ledger *ledger, const rt_recipe *recipe)
{
    rt_status st = RT_OK;
    rt_ledger *part = NULL;
    rt_ledger_update(ledger);
    RT_TRY(rt_ledger_share(ledger, n, &part));
    for (int k = 0; k < n; k++) {
        RT_TRY(commit_cell(r, &c[k], &e[k], part, recipe));
        rt_log_line(RT_LOG_INFO, "%s %s %s n%d: %.2f %%", c[k].set, rt_protocol_name(c[k].protocol), c[k].student, c[k].network,
                    100 * e[k].accuracy);
    }
out:
    rt_ledger_destroy(part);
    return st;
}

/* n cells that differ in their networks alone, at once. */
static rt_status eval_cells(rt_run *r, cell *c, int n, bench_seat *seat, const rt_set *set)
{
    rt_status st = RT_OK;
    const rt_images *test = NULL, *train = NULL;
    rt_ledger *ledger = NULL;
    rt_eval_result *e = NULL;
    uint64_t *networks = NULL;
    char ckpt[PATH_MAX], phase[160], key[RT_HASH_HEX];
    RT_ALLOC(e, (size_t)n * sizeof *e, "results");
    RT_ALLOC(networks, (size_t)n * sizeof *networks, "networks");
    for (int k = 0; k < n; k++) networks[k] = (uint64_t)c[k].network;
    RT_TRY(key_of_cells(c, n, key));
    RT_TRY(rt_run_test(r, &test));
    if (c->full) RT_TRY(rt_run_train(r, &train));
    int len = snprintf(phase, sizeof phase, "%s %s %s n%d", c->set, rt_protocol_name(c->protocol), c->student, c->network);
    if (n > 1 && len > 0 && (size_t)len < sizeof phase) snprintf(phase + len, sizeof phase - (size_t)len, "-%d", c[n - 1].network);
    if ((size_t)snprintf(ckpt, sizeof ckpt, "%s.ckpt", c->path) >= sizeof ckpt) {
        st = RT_RAISE(RT_ERR_ARG, "path too long");
        goto out;
    }
    RT_TRY(seat_for(r, seat, c->protocol, c->student, c->n, c->full, n));
    RT_TRY(rt_ledger_create(&ledger));
    rt_ledger_begin(ledger);
    rt_train_data test_data = {.n = test->n, .images = test, .label = test->label, .norm = r->norm};
    rt_eval_task task = {.test = &test_data, .classes = &test->classes, .zca = test->white ? test->zca->hash : "",
                         .soft_labels = soft_labels(r, c),
                         .check_every = r->c->eval.check_every};
    rt_teachers which;
    if (rt_run_lesson(c->protocol, &which)) {
        task.labeller = &seat->committee[which];
        RT_TRY(rt_run_backend(r, &task.be));
    }
    bool learned = set && rt_protocol_follows_set(c->protocol) && set->step_size > 0;
    for (int k = 0; k < n; k++) {
        c[k].lr = learned ? (double)set->step_size : rt_trainer_recipe(seat->t)->optim.lr;
        c[k].labels = rt_protocol_teachers(c->protocol) != RT_LESSON_NONE ? "teacher" : !set || !set->soft || !task.soft_labels ? "hard" : set->soft_logits ? "logits" : "probabilities";
    }
    rt_train_run run = {.lr = c->lr, .seed = (uint64_t)r->c->seed, .networks = networks, .ckpt_dir = ckpt, .inputs_hash = key,
                        .ckpt_seconds = r->c->run.checkpoint_seconds, .keep = (int)r->c->run.keep,
                        .threads = rt_run_threads(r), .phase = phase, .ledger = ledger};
    if (c->full) {
        rt_train_data data = {.n = train->n, .images = train, .label = train->label, .norm = r->norm};
        RT_TRY(rt_eval_data(seat->t, &data, &task, &run, e));
    } else {
        RT_TRY(rt_eval_set(seat->t, set, &task, &run, e));
    }
    rt_ledger_entry(ledger)->peak_device_bytes = (double)rt_trainer_arena_bytes(seat->t);
    RT_TRY(commit_cells(r, c, n, e, ledger, rt_trainer_recipe(seat->t)));
    RT_TRY(rt_ckpt_clear(ckpt));
out:
    for (int k = 0; e && k < n; k++) rt_eval_result_fini(&e[k]);
    rt_free(e);
    rt_free(networks);
    rt_ledger_destroy(ledger);
    return st;
}

/* Images that students see: every tile is one. */
static int64_t decoded(const rt_set *s) { return s->factor > 1 ? s->n * s->factor * s->factor : s->n; }

/* Networks trained in one step. On a GPU as many as leave room: MOST images' activations. */
static int at_once(const rt_run *r, const cell *c)
{
    enum { MOST = 8192 };
    rt_recipe recipe;
    const char *how = r->c->eval.batched;
    if (!strcmp(how, "off") || (!strcmp(how, "auto") && strcmp(r->c->backend.device, "cuda") != 0)) return 1;
    rt_run_eval_recipe(r->c, c->protocol, c->student, c->n, rt_dataset_classes(r->train_set)->n, c->full, &recipe);
    const int64_t batch = recipe.batch < c->n ? recipe.batch : c->n;
    return batch > 0 && MOST / batch > 1 ? (int)(MOST / batch) : 1;
}

/* All networks of one student under one protocol. */
static rt_status eval_student(rt_run *r, const rt_stage_opts *o, bench_seat *seat, const cell *like, const rt_set *set, int n_networks)
{
    rt_status st = RT_OK;
    cell *c = NULL;
    int wanted = 0, most = at_once(r, like);
    bool skip;
    RT_ALLOC(c, (size_t)n_networks * sizeof *c, "cells");
    for (int k = 0; k < n_networks; k++) {
        c[wanted] = *like;
        c[wanted].network = k;
        RT_TRY(name_cell(r, &c[wanted]));
        RT_TRY(rt_run_skip(c[wanted].path, "eval", c[wanted].key, o->force, &skip));
        if (!skip) wanted++;
    }
    for (int k = 0; k < wanted; k += most) RT_TRY(eval_cells(r, c + k, wanted - k < most ? wanted - k : most, seat, set));
out:
    rt_free(c);
    return st;
}

static rt_status eval_networks(rt_run *r, const rt_stage_opts *o, bench_seat *seat, const char *name, const char *content,
                               const rt_set *set, int n_networks, bool full)
{
    rt_status st = RT_OK;
    char dir[PATH_MAX];
    RT_TRY(rt_run_path(r, dir, "evals/%s", name));
    RT_TRY(rt_fs_mkdirs(dir));
    for (int32_t p = 0; p < r->c->eval.protocols.n; p++)
        for (int32_t s = 0; s < r->c->eval.students.n; s++) {
            cell c = {.student = r->c->eval.students.v[s], .full = full, .n = set ? decoded(set) : rt_dataset_count(r->train_set)};
            snprintf(c.set, sizeof c.set, "%s", name);
            snprintf(c.content, sizeof c.content, "%s", content);
            RT_TRY(rt_protocol_find(r->c->eval.protocols.v[p], &c.protocol));
            RT_TRYF(eval_student(r, o, seat, &c, set, n_networks), "%s, %s, %s", name, r->c->eval.protocols.v[p], c.student);
        }
out:
    return st;
}

/* Reads a set, checks that it is what was committed and belongs to this run's classes and size, and evaluates it. */
static rt_status eval_folder(rt_run *r, const rt_stage_opts *o, bench_seat *seat, const char *path, int networks)
{
    rt_status st = RT_OK;
    rt_set set = {0};
    json_t *m = NULL;
    char name[RT_RESULTS_NAME];
    RT_TRY(rt_set_read(path, true, &set, &m));
    RT_TRY(rt_classes_check(&set.classes, path, rt_dataset_classes(r->test_set), "the evaluation split"));
    if (set.h != r->c->data.size || set.w != r->c->data.size) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s holds %dx%d images, data.size is %lld", path, set.h, set.w, (long long)r->c->data.size);
        rt_error_fix(st, "set data.size to %d, or evaluate another set", set.h);
        goto out;
    }
    const char *content = json_string_value(json_object_get(m, "content_hash"));
    RT_TRY(rt_run_results_name(r, path, content ? content : "", name));
    RT_TRY(eval_networks(r, o, seat, name, content ? content : "", &set, networks, false));
out:
    rt_set_fini(&set);
    json_decref(m);
    return st;
}

rt_status rt_run_eval(rt_run *r, const rt_stage_opts *o)
{
    rt_status st = RT_OK;
    bench_seat seat = {0};
    rt_set_name name;
    char path[PATH_MAX];
    RT_TRY(rt_run_datasets(r));
    for (int i = 0; i < o->n_paths; i++)
        RT_TRYF(eval_folder(r, o, &seat, o->paths[i], (int)r->c->eval.seeds), "%s", o->paths[i]);
    for (int i = 0; o->n_paths == 0 && rt_run_set_name(r, i, &name); i++) {
        RT_TRY(rt_run_path(r, path, "sets/%s", name.text));
        if (!rt_fs_is_dir(path)) {
            st = RT_RAISE(RT_ERR_MISSING, "%s: not constructed yet", path);
            rt_error_fix(st, "run `retort build` with this config first");
            goto out;
        }
        RT_TRYF(eval_folder(r, o, &seat, path, rt_run_networks(r, &name)), "set %s", name.text);
    }
    for (int i = 0; o->n_paths == 0 && rt_run_foreign_at(r, i, path); i++)
        RT_TRYF(eval_folder(r, o, &seat, path, (int)r->c->eval.seeds), "set.foreign %s", path);
    if (r->c->eval.full_data && o->n_paths == 0)
        RT_TRYF(eval_networks(r, o, &seat, "full", rt_dataset_hash(r->train_set), NULL, 1, true), "full data");
out:
    rt_trainer_destroy(seat.t);
    for (int i = 0; i <= RT_TEACHERS_RUNS; i++) rt_committee_fini(&seat.committee[i]);
    return st == RT_OK ? st : rt_error_frame(st, __FILE__, __LINE__, "eval");
}
