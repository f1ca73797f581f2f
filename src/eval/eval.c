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

static int32_t to_u8(float v) { return v <= 0.0f ? 0 : v >= 255.0f ? 255 : (int32_t)(v + 0.5f); }

/* The set as it is stored: 8 bits per channel. What views that work on uint8 images need. */
static rt_status quantise(const rt_set *s, rt_images *out)
{
    rt_status st = RT_OK;
    size_t count = (size_t)s->n * (size_t)s->h * (size_t)s->w;
    rt_images im = {.n = s->n, .h = s->h, .w = s->w};
    RT_ALLOC(im.px, count * 3, "8-bit images");
    for (size_t i = 0; i < count; i++)
        for (int c = 0; c < 3; c++)
            im.px[i * 3 + (size_t)c] = (uint8_t)to_u8(255.0f * (s->px[i * 3 + (size_t)c] * s->norm.std[c] + s->norm.mean[c]));
    *out = im;
out:
    return st;
}

rt_status rt_eval_set(rt_trainer *t, const rt_set *set, const rt_images *test, const rt_normalise *norm, const rt_train_run *run,
                      rt_eval_result *out)
{
    rt_train_data data = {.n = set->n, .px = set->px, .label = set->label, .soft = set->soft, .norm = set->norm};
    rt_images stored = {0};
    rt_status st = RT_OK;
    RT_TRY(rt_classes_check(&set->classes, "the set", &test->classes, "the test data"));
    if (rt_trainer_recipe(t)->augment == RT_AUGMENT_RRC_CUTMIX || rt_trainer_recipe(t)->augment == RT_AUGMENT_FLIP_CROP) {
        RT_TRY(quantise(set, &stored));
        data.images = &stored;
    }
    RT_TRY(rt_eval_data(t, &data, test, norm, run, out));
out:
    rt_free(stored.px);
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
