/* Inference with a trainer's weights: features, probabilities, predictions, in data-set order. The last batch is filled up
 * by repeating its last sample (eval mode: samples do not interact), so one compiled step serves any n. */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "teacher/steps.h"

enum { INFER_BATCH = 256 };

static void softmax_row(const float *z, int64_t k, float *p)
{
    double top = z[0], sum = 0;
    for (int64_t j = 1; j < k; j++)
        if (z[j] > top) top = z[j];
    for (int64_t j = 0; j < k; j++) sum += exp((double)z[j] - top);
    for (int64_t j = 0; j < k; j++) p[j] = (float)(exp((double)z[j] - top) / sum);
}

static int32_t argmax_row(const float *z, int64_t k)
{
    int32_t best = 0;
    for (int64_t j = 1; j < k; j++)
        if (z[j] > z[best]) best = (int32_t)j;
    return best;
}

rt_status rt_trainer_infer(rt_trainer *t, const rt_train_data *d, int threads, float *features, float *probs,
                           int32_t *predicted)
{
    return rt_trainer_infer_of(t, 0, d, threads, features, probs, predicted);
}

rt_status rt_trainer_infer_of(rt_trainer *t, int64_t network, const rt_train_data *d, int threads, float *features,
                              float *probs, int32_t *predicted)
{
    rt_status st = RT_OK;
    const rt_model_desc *m = rt_model_desc_of(t->model);
    int64_t batch = d->n < INFER_BATCH ? d->n : INFER_BATCH, k = m->classes, dim = rt_model_feature_dim(t->model);
    size_t px = (size_t)m->size * (size_t)m->size * (size_t)m->channels;
    float *x = NULL, *z = NULL, *f = NULL;
    int64_t *idx = NULL;
    rt_infer_step *s = NULL;
    rt_resident *resident = NULL;
    if (d->n < 1) return RT_RAISE(RT_ERR_ARG, "inference over 0 images");
    if (network < 0 || network >= t->nets)
        return RT_RAISE(RT_ERR_ARG, "inference with network %lld of %lld", (long long)network, (long long)t->nets);
    RT_TRY(rt_infer_step_get(t, batch, &s));
    if (t->seated) RT_TRY(rt_tensor_copy(t->seated, 0, rt_judged(t), network * t->n_params, t->n_params));
    if (t->seated_buffers)
        RT_TRY(rt_tensor_copy(t->seated_buffers, 0, t->buffers, network * t->n_buffers, t->n_buffers));
    if (d->images && rt_resident_fits(t->be, d->images)) RT_TRY(rt_resident_open(t->be, d->images, &resident));
    else RT_ALLOC(x, (size_t)batch * px * sizeof *x, "inference batch");
    RT_ALLOC(z, (size_t)(batch * k) * sizeof *z, "logits");
    RT_ALLOC(f, (size_t)(batch * dim) * sizeof *f, "features");
    RT_ALLOC(idx, (size_t)batch * sizeof *idx, "inference batch");
    for (int64_t at = 0; at < d->n; at += batch) {
        int64_t real = d->n - at < batch ? d->n - at : batch;
        for (int64_t b = 0; b < batch; b++) idx[b] = b < real ? at + b : d->n - 1;
        if (resident) {
            RT_TRY(rt_resident_fill(resident, idx, batch, &d->norm, NULL, 0, 0, NULL, NULL, threads, s->x));
        } else {
            if (d->images) RT_TRY(rt_batch_fill(d->images, idx, batch, &d->norm, NULL, 0, 0, threads, x));
            else
                for (int64_t b = 0; b < batch; b++) memcpy(x + (size_t)b * px, d->px + (size_t)idx[b] * px, px * sizeof *x);
            RT_TRY(rt_tensor_write(s->x, x, (size_t)batch * px * sizeof *x));
        }
        RT_TRY(rt_exec_run(s->exec));
        RT_TRY(rt_tensor_read(s->logits, z, (size_t)(batch * k) * sizeof *z));
        if (features) {
            RT_TRY(rt_tensor_read(s->features, f, (size_t)(batch * dim) * sizeof *f));
            memcpy(features + at * dim, f, (size_t)(real * dim) * sizeof *f);
        }
        for (int64_t b = 0; b < real; b++) {
            for (int64_t j = 0; j < k; j++)
                if (!isfinite(z[b * k + j])) {
                    st = RT_RAISE(RT_ERR_NUMERIC, "logit %lld of image %lld is not finite", (long long)j, (long long)(at + b));
                    goto out;
                }
            if (probs) softmax_row(z + b * k, k, probs + (at + b) * k);
            if (predicted) predicted[at + b] = argmax_row(z + b * k, k);
        }
    }
out:
    rt_resident_close(resident);
    rt_free(x);
    rt_free(z);
    rt_free(f);
    rt_free(idx);
    return st;
}
