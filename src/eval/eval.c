/* Cells of the grid: one student, one set, and as many seeds as the trainer has networks. */
#include "eval/eval.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "eval/checks.h"

void rt_eval_result_fini(rt_eval_result *r)
{
    rt_free(r->per_class);
    r->per_class = NULL;
}

/* Students can only be judged on data that live where their training images lived. */
static rt_status same_space(const rt_set *set, const char *zca)
{
    rt_status st = RT_OK;
    bool given = zca && zca[0];
    if (!set->zca[0] && !given) return RT_OK;
    if (set->zca[0] && given && !strcmp(set->zca, zca)) return RT_OK;
    if (set->zca[0] && !given) {
        st = RT_RAISE(RT_ERR_CONFIG, "the set holds whitened pixels (ZCA %.12s), the evaluation data are not whitened", set->zca);
        return rt_error_fix(st, "add --set data.zca=true, which fits and applies the whitening to this data");
    }
    if (!set->zca[0]) {
        st = RT_RAISE(RT_ERR_CONFIG, "the evaluation data are whitened (ZCA %.12s), the set's pixels are %s", zca, rt_set_space(set));
        return rt_error_fix(st, "evaluate this set with --set data.zca=false");
    }
    st = RT_RAISE(RT_ERR_CONFIG, "the set lives under the whitening %.12s, the evaluation data under %.12s", set->zca, zca);
    return rt_error_fix(st, "use the training images that the set was constructed from: they decide the whitening");
}

rt_status rt_eval_set(rt_trainer *t, const rt_set *set, const rt_eval_task *task, const rt_train_run *run, rt_eval_result *out)
{
    rt_set seen = {0};
    rt_images stored = {0};
    rt_status st = RT_OK;
    rt_augment_kind augment = rt_trainer_recipe(t)->augment;
    RT_TRY(rt_classes_check(&set->classes, "the set", task->classes, "the test data"));
    RT_TRY(same_space(set, task->zca));
    RT_TRY(rt_set_decode(set, &seen));
    rt_train_data data = {.n = seen.n, .px = seen.px, .label = seen.label, .norm = seen.norm};
    if (task->soft_labels) data.soft = seen.soft;
    if (augment == RT_AUGMENT_RRC_CUTMIX || augment == RT_AUGMENT_RRC || augment == RT_AUGMENT_FLIP_CROP) {
        if (seen.zca[0]) {
            st = RT_RAISE(RT_ERR_CONFIG, "%s draws views of 8-bit images, whitened pixels have none", rt_trainer_recipe(t)->name);
            rt_error_fix(st, "evaluate whitened sets with a protocol that augments by DSA, such as p1_mtt");
            goto out;
        }
        RT_TRY(rt_set_stored(&seen, &stored));
        data.images = &stored;
    }
    RT_TRY(rt_eval_data(t, &data, task, run, out));
out:
    rt_set_fini(&seen);
    rt_images_fini(&stored);
    return st;
}

/* The last epoch's score of network m; r has its training. */
static rt_status score(rt_checks *c, const rt_eval_task *task, int64_t m, rt_eval_result *r)
{
    rt_status st = RT_OK;
    const rt_train_data *test = task->test;
    const int32_t classes = task->classes->n;
    int64_t *hit = NULL, *seen = NULL;
    RT_ALLOC(hit, (size_t)classes * sizeof *hit, "per-class counts");
    RT_ALLOC(seen, (size_t)classes * sizeof *seen, "per-class counts");
    RT_ALLOC(r->per_class, (size_t)classes * sizeof *r->per_class, "per-class accuracy");
    RT_TRY(rt_checks_score(c, m, &r->n_correct));
    for (int64_t i = 0; i < test->n; i++) {
        seen[test->label[i]]++;
        hit[test->label[i]] += c->predicted[i] == test->label[i];
    }
    for (int32_t k = 0; k < classes; k++) r->per_class[k] = seen[k] ? (double)hit[k] / (double)seen[k] : 0.0;
    r->n_test = test->n;
    r->accuracy = (double)r->n_correct / (double)test->n;
    r->best = NAN;
    if (task->check_every > 0) {
        rt_checks_take(c, m, r->n_correct, rt_trainer_recipe(c->t)->epochs);
        r->best = (double)c->best[m] / (double)test->n;
        r->best_epoch = c->best_epoch[m];
    }
out:
    rt_free(hit);
    rt_free(seen);
    return st;
}

/* What the labeller's first member says about each plain image: the logarithm of its probabilities, which are its logits but for
 * a constant that no softmax sees. [n,classes], owned. */
static rt_status store_targets(const rt_eval_task *task, const rt_train_data *data, int threads, float **out)
{
    rt_status st = RT_OK;
    const rt_teacher *k = task->labeller && task->labeller->n ? &task->labeller->teacher[0] : NULL;
    const rt_recipe idle = {.name = "labels", .epochs = 1, .batch = 1, .optim = {.kind = RT_SGD, .lr = 1}};
    rt_trainer *t = NULL;
    float *z = NULL;
    const int64_t count = data->n * task->classes->n;
    if (!k || !task->be) return RT_RAISE(RT_ERR_ARG, "students of stored labels, and nobody to make them");
    RT_ALLOC(z, (size_t)count * sizeof *z, "stored labels");
    RT_TRY(rt_trainer_create(task->be, rt_model_desc_of(k->model), &idle, &t));
    RT_TRY(rt_trainer_set_weights(t, k->theta, k->buffers));
    RT_TRYF(rt_trainer_infer(t, data, threads, NULL, z, NULL), "labels of teacher %s", k->name);
    for (int64_t i = 0; i < count; i++) z[i] = logf(z[i] > 1e-37f ? z[i] : 1e-37f);
    *out = z;
    z = NULL;
out:
    rt_trainer_destroy(t);
    rt_free(z);
    return st;
}

rt_status rt_eval_data(rt_trainer *t, const rt_train_data *data, const rt_eval_task *task, const rt_train_run *run,
                       rt_eval_result *out)
{
    rt_status st = RT_OK;
    const int64_t nets = rt_trainer_networks(t);
    rt_train_result *tr = NULL;
    rt_eval_result *r = NULL;
    rt_train_run with_checks = *run;
    rt_train_data seen = *data;
    float *stored = NULL;
    double begun = rt_now();
    rt_checks checks = {.t = t, .test = task->test, .run = run, .every = task->check_every};
    RT_ALLOC(tr, (size_t)nets * sizeof *tr, "results");
    RT_ALLOC(r, (size_t)nets * sizeof *r, "results");
    RT_ALLOC(checks.best, (size_t)nets * sizeof *checks.best, "checks");
    RT_ALLOC(checks.best_epoch, (size_t)nets * sizeof *checks.best_epoch, "checks");
    RT_ALLOC(checks.predicted, (size_t)task->test->n * sizeof *checks.predicted, "predictions");
    if (task->check_every > 0) {
        RT_TRY(rt_checks_open(&checks));
        with_checks.on_epoch = rt_checks_on_epoch;
        with_checks.on_epoch_to = &checks;
    }
    if (rt_trainer_recipe(t)->stored_targets && !seen.logits) {
        RT_TRY(store_targets(task, data, run->threads, &stored));
        seen.logits = stored;
    }
    RT_TRY(rt_trainer_run(t, &seen, &with_checks, tr));
    for (int64_t m = 0; m < nets; m++) {
        r[m] = (rt_eval_result){.first_loss = tr[m].first_loss, .last_loss = tr[m].last_loss, .images_seen = tr[m].images_seen,
                                .flops = tr[m].flops, .teacher_flops = tr[m].teacher_flops,
                                .label_bytes = seen.logits ? seen.n * task->classes->n * (int64_t)sizeof *seen.logits : 0};
        RT_TRY(score(&checks, task, m, &r[m]));
    }
    for (int64_t m = 0; m < nets; m++) {
        r[m].wall_s = (rt_now() - begun) / (double)nets;
        out[m] = r[m];
        r[m].per_class = NULL;
    }
out:
    for (int64_t m = 0; r && m < nets; m++) rt_eval_result_fini(&r[m]);
    rt_free(r);
    rt_free(tr);
    rt_free(stored);
    rt_free(checks.best);
    rt_free(checks.best_epoch);
    rt_free(checks.predicted);
    return st;
}
