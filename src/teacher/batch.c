/* One batch: order, views, mixing and labels of every network, and its way to the step's tensors. What network m of several sees
 * is drawn with its own seed and lies in block m, exactly as if it were alone. Draws are the host's; pixels are made from them on
 * the device where the images fit there, else here: the same bytes. */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "nn/cutmix.h"
#include "teacher/steps.h"

void rt_staging_fini(rt_staging *s)
{
    rt_resident_close(s->resident);
    rt_free(s->x);
    rt_free(s->q);
    rt_free(s->color);
    rt_free(s->affine);
    rt_free(s->box);
    rt_free(s->patch);
    rt_free(s->mix_q);
    rt_free(s->target);
    rt_free(s->mix_box);
    rt_free(s->partner);
    rt_free(s->scratch);
    rt_free(s->order);
}

rt_status rt_staging_init(rt_staging *s, const rt_trainer *t, const rt_train_data *data, int64_t batch)
{
    rt_status st = RT_OK;
    const rt_model_desc *d = rt_model_desc_of(t->model);
    size_t b = (size_t)(batch * t->nets), px = (size_t)d->size * (size_t)d->size * (size_t)d->channels;
    s->n = data->n;
    if (data->images && rt_resident_fits(t->be, data->images)) RT_TRY(rt_resident_open(t->be, data->images, &s->resident));
    else RT_ALLOC(s->x, b * px * sizeof(float), "batch of images");
    RT_ALLOC(s->q, b * (size_t)d->classes * sizeof(float), "batch of labels");
    RT_ALLOC(s->color, b * 3 * sizeof(float), "augmentation parameters");
    RT_ALLOC(s->affine, b * 6 * sizeof(float), "augmentation parameters");
    RT_ALLOC(s->box, b * 4 * sizeof(float), "augmentation parameters");
    RT_ALLOC(s->order, (size_t)(s->n * t->nets) * sizeof(int64_t), "epoch order");
    const bool in_graph = t->recipe.augment == RT_AUGMENT_DSA && t->recipe.cutmix > 0;
    const bool in_views = t->recipe.augment == RT_AUGMENT_RRC_CUTMIX;
    if (t->recipe.loss != RT_LOSS_CE && t->recipe.stored_targets) {
        if (!data->logits) return RT_RAISE(RT_ERR_ARG, "recipe %s learns from stored logits, the data have none", t->recipe.name);
        RT_ALLOC(s->target, b * (size_t)d->classes * sizeof(float), "batch of stored logits");
    }
    if (in_graph || in_views) {
        RT_ALLOC(s->mix_q, b * (size_t)d->classes * sizeof(float), "CutMix labels");
        RT_ALLOC(s->scratch, (size_t)batch * sizeof(int64_t), "CutMix partners");
        RT_ALLOC(s->partner, b * sizeof(int32_t), "CutMix partners");
    }
    if (in_graph) RT_ALLOC(s->mix_box, b * 4 * sizeof(float), "CutMix boxes");
    if (in_views && s->x) RT_ALLOC(s->patch, (size_t)batch * px * sizeof(float), "CutMix patches");
out:
    return st;
}

static rt_status fill_pixels(const rt_trainer *t, const rt_train_data *d, const int64_t *idx, int64_t batch,
                             const rt_view *view, uint64_t seed, uint64_t step, int threads, float *x)
{
    const rt_model_desc *m = rt_model_desc_of(t->model);
    if (d->images) return rt_batch_fill(d->images, idx, batch, &d->norm, view, seed, step, threads, x);
    size_t px = (size_t)m->size * (size_t)m->size * (size_t)m->channels;
    for (int64_t b = 0; b < batch; b++) memcpy(x + (size_t)b * px, d->px + (size_t)idx[b] * px, px * sizeof *x);
    return RT_OK;
}

static void fill_labels(const rt_train_data *d, const int64_t *idx, int64_t batch, int32_t classes, float *q)
{
    memset(q, 0, (size_t)(batch * classes) * sizeof *q);
    for (int64_t b = 0; b < batch; b++) {
        if (d->soft) memcpy(q + b * classes, d->soft + idx[b] * classes, (size_t)classes * sizeof *q);
        else q[b * classes + d->label[idx[b]]] = 1.0f;
    }
}

/* CutMix (Yun et al., ICCV 2019) in the form of decoupled.md 1.6: one box, one permutation and one lambda ~ U(0,1) =
 * Beta(1,1) per batch; the label weight is the true area of the clipped box. cut: rows [0], [1]) and columns [2], [3]). Returns
 * the share of its own area that an image keeps. */
static float draw_cut(int64_t size, uint64_t seed, uint64_t step, int64_t batch, int64_t *partner, int32_t cut[4])
{
    rt_rng r = rt_rng_at(seed, RT_RNG_MIX, step, 0);
    double lambda = (double)rt_rng_uniform(&r), side = sqrt(1.0 - lambda);
    int64_t half = (int64_t)(side * (double)size) / 2;
    int64_t cy = (int64_t)rt_rng_below(&r, (uint32_t)size), cx = (int64_t)rt_rng_below(&r, (uint32_t)size);
    int64_t y0 = cy - half < 0 ? 0 : cy - half, y1 = cy + half > size ? size : cy + half;
    int64_t x0 = cx - half < 0 ? 0 : cx - half, x1 = cx + half > size ? size : cx + half;
    for (int64_t b = 0; b < batch; b++) partner[b] = b;
    rt_rng_shuffle(&r, partner, batch);
    cut[0] = (int32_t)y0, cut[1] = (int32_t)y1, cut[2] = (int32_t)x0, cut[3] = (int32_t)x1;
    return 1.0f - (float)((y1 - y0) * (x1 - x0)) / (float)(size * size);
}

static void paste_cut(const rt_model_desc *m, int64_t batch, const int64_t *partner, const int32_t cut[4], float *px, float *patch)
{
    const size_t size = (size_t)m->size, c = (size_t)m->channels, image = size * size * c;
    const size_t rows = (size_t)(cut[1] - cut[0]), row = (size_t)(cut[3] - cut[2]) * c, y0 = (size_t)cut[0], x0 = (size_t)cut[2];
    for (int64_t b = 0; b < batch; b++) /* patches first: partners are pasted as they were */
        for (size_t y = 0; y < rows; y++)
            memcpy(patch + ((size_t)b * rows + y) * row, px + (size_t)partner[b] * image + ((y0 + y) * size + x0) * c, row * sizeof(float));
    for (int64_t b = 0; b < batch; b++)
        for (size_t y = 0; y < rows; y++)
            memcpy(px + (size_t)b * image + ((y0 + y) * size + x0) * c, patch + ((size_t)b * rows + y) * row, row * sizeof(float));
}

/* Block m of the staging: what network m, whose draws have this seed, sees in this step. */
static rt_status fill_network(const rt_trainer *t, const rt_train_data *d, const rt_dsa *dsa, int64_t m, int64_t first,
                              int64_t batch, uint64_t seed, uint64_t step, int threads, rt_staging *h)
{
    rt_status st = RT_OK;
    const rt_model_desc *net = rt_model_desc_of(t->model);
    const int64_t at = m * batch, px = (int64_t)net->size * net->size * net->channels, classes = net->classes;
    const int64_t *idx = h->order + m * h->n + first;
    rt_view view = {0}, *use = NULL;
    if (t->recipe.augment == RT_AUGMENT_FLIP_CROP) {
        view = (rt_view){.flip = true, .pad_crop = net->size / 8};
        use = &view;
    } else if (t->recipe.augment == RT_AUGMENT_RRC_CUTMIX || t->recipe.augment == RT_AUGMENT_RRC) {
        view = (rt_view){.rrc = true, .flip = true, .shuffle = t->recipe.patch_shuffle, .scale = {t->recipe.rrc_scale, 1.0f},
                         .ratio = {0.75f, 4.0f / 3.0f}};
        if (!(view.scale[0] > 0)) view.scale[0] = 0.5f;
        use = &view;
    }
    const bool mix = t->recipe.augment == RT_AUGMENT_RRC_CUTMIX;
    int32_t cut[4] = {0};
    float *q = h->q + at * classes;
    fill_labels(d, idx, batch, net->classes, q);
    for (int64_t b = 0; h->target && b < batch; b++)
        memcpy(h->target + (at + b) * classes, d->logits + idx[b] * classes, (size_t)classes * sizeof *h->target);
    if (mix) {
        const float keep = draw_cut(net->size, seed, step, batch, h->scratch, cut);
        for (int64_t b = 0; b < batch; b++) h->partner[at + b] = (int32_t)(at + h->scratch[b]);
        rt_cutmix_labels(q, batch, at, net->classes, h->partner + at, keep, h->mix_q + at * classes);
    }
    if (h->resident) {
        RT_TRY(rt_resident_draw(h->resident, at, idx, batch, use, seed, step, mix ? h->scratch : NULL, cut));
    } else {
        RT_TRY(fill_pixels(t, d, idx, batch, use, seed, step, threads, h->x + at * px));
        if (mix) paste_cut(net, batch, h->scratch, cut, h->x + at * px, h->patch);
    }
    if (!dsa) goto out;
    rt_dsa_draw(dsa, 0, net->size, net->size, seed, step, 0, NULL, batch, h->color + at * 3, h->affine + at * 6,
                h->box + at * 4);
    if (h->mix_box) { /* CutMix of the augmented images: the pasting is in the graph, labels are mixed here */
        float keep = rt_cutmix_draw(t->recipe.cutmix, net->size, seed, step, batch, at, h->scratch, h->partner + at,
                                    h->mix_box + at * 4);
        rt_cutmix_labels(q, batch, at, net->classes, h->partner + at, keep, h->mix_q + at * classes);
    }
out:
    return st;
}

rt_status rt_staging_load(rt_trainer *t, rt_train_step *s, const rt_train_data *d, const rt_dsa *dsa, int64_t first,
                          const uint64_t *seeds, uint64_t step, int threads, rt_staging *h)
{
    rt_status st = RT_OK;
    const rt_model_desc *net = rt_model_desc_of(t->model);
    for (int64_t m = 0; m < t->nets; m++)
        RT_TRY(fill_network(t, d, dsa, m, first, s->batch, seeds[m], step, threads, h));
    size_t b = (size_t)(s->batch * t->nets), px = (size_t)net->size * (size_t)net->size * (size_t)net->channels;
    const bool resize = t->recipe.augment == RT_AUGMENT_RRC_CUTMIX || t->recipe.augment == RT_AUGMENT_RRC;
    const bool mixed = h->mix_q && t->recipe.loss == RT_LOSS_CE; /* MSE-GT: the class label, although the view is mixed */
    if (h->resident) RT_TRY(rt_resident_make(h->resident, &d->norm, resize, s->x));
    else RT_TRY(rt_tensor_write(s->x, h->x, b * px * sizeof(float)));
    if (s->q) RT_TRY(rt_tensor_write(s->q, mixed ? h->mix_q : h->q, b * (size_t)net->classes * sizeof(float)));
    if (s->target) RT_TRY(rt_tensor_write(s->target, h->target, b * (size_t)net->classes * sizeof(float)));
    if (!dsa) goto out;
    RT_TRY(rt_tensor_write(s->color, h->color, b * 3 * sizeof(float)));
    RT_TRY(rt_tensor_write(s->affine, h->affine, b * 6 * sizeof(float)));
    RT_TRY(rt_tensor_write(s->box, h->box, b * 4 * sizeof(float)));
    if (h->mix_box) {
        RT_TRY(rt_tensor_write(s->partner, h->partner, b * sizeof(int32_t)));
        RT_TRY(rt_tensor_write(s->patch, h->mix_box, b * 4 * sizeof(float)));
    }
out:
    return st;
}
