/* One cell of the grid: one student, one set, one seed. */
#include "eval/eval.h"

#include <string.h>

#include "base/alloc.h"
#include "base/log.h"

void rt_eval_result_fini(rt_eval_result *r)
{
    rt_free(r->per_class);
    r->per_class = NULL;
}

rt_status rt_eval_set(rt_trainer *t, const rt_set *set, const rt_images *test, const rt_normalise *norm, const rt_train_run *run,
                      rt_eval_result *out)
{
    rt_train_data data = {.n = set->n, .px = set->px, .label = set->label, .soft = set->soft, .norm = set->norm};
    rt_images stored = {0};
    rt_status st = RT_OK;
    RT_TRY(rt_classes_check(&set->classes, "the set", &test->classes, "the test data"));
    if (rt_trainer_recipe(t)->augment == RT_AUGMENT_RRC_CUTMIX || rt_trainer_recipe(t)->augment == RT_AUGMENT_FLIP_CROP) {
        RT_TRY(rt_set_stored(set, &stored));
        data.images = &stored;
    }
    RT_TRY(rt_eval_data(t, &data, test, norm, run, out));
out:
    rt_images_fini(&stored);
    return st;
}

rt_status rt_eval_data(rt_trainer *t, const rt_train_data *data, const rt_images *test, const rt_normalise *norm,
                       const rt_train_run *run, rt_eval_result *out)
{
    rt_status st = RT_OK;
    rt_train_result tr;
    int32_t *predicted = NULL, classes = test->classes.n;
    int64_t *hit = NULL, *seen = NULL;
    double begun = rt_now();
    rt_eval_result r = {.n_test = test->n};
    RT_ALLOC(predicted, (size_t)test->n * sizeof *predicted, "predictions");
    RT_ALLOC(hit, (size_t)classes * sizeof *hit, "per-class counts");
    RT_ALLOC(seen, (size_t)classes * sizeof *seen, "per-class counts");
    RT_ALLOC(r.per_class, (size_t)classes * sizeof *r.per_class, "per-class accuracy");
    RT_TRY(rt_trainer_run(t, data, run, &tr));
    rt_train_data test_data = {.n = test->n, .images = test, .label = test->label, .norm = *norm};
    RT_TRY(rt_trainer_infer(t, &test_data, run->threads, NULL, NULL, predicted));
    for (int64_t i = 0; i < test->n; i++) {
        seen[test->label[i]]++;
        hit[test->label[i]] += predicted[i] == test->label[i];
        r.n_correct += predicted[i] == test->label[i];
    }
    for (int32_t c = 0; c < classes; c++) r.per_class[c] = seen[c] ? (double)hit[c] / (double)seen[c] : 0.0;
    r.accuracy = (double)r.n_correct / (double)test->n;
    r.first_loss = tr.first_loss;
    r.last_loss = tr.last_loss;
    r.images_seen = tr.images_seen;
    r.flops = tr.flops;
    r.wall_s = rt_now() - begun;
    *out = r;
    r.per_class = NULL;
out:
    rt_free(predicted);
    rt_free(hit);
    rt_free(seen);
    rt_eval_result_fini(&r);
    return st;
}
