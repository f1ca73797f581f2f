/* The training loop: order, views, mixing, schedule, checkpoints. The arithmetic of a step is in steps.c. */
#include "teacher/train.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/rng.h"
#include "nn/cutmix.h"
#include "nn/dsa.h"
#include "teacher/steps.h"

rt_status rt_trainer_create(rt_backend *be, const rt_model_desc *net, const rt_recipe *r, rt_trainer **out)
{
    rt_status st = RT_OK;
    float *mask = NULL;
    rt_trainer *t = NULL;
    RT_ALLOC(t, sizeof *t, "trainer");
    t->be = be;
    t->recipe = *r;
    RT_TRY(rt_model_create(net, &t->model));
    t->n_params = rt_model_n_params(t->model);
    t->n_buffers = rt_model_n_buffers(t->model);
    t->n_state = rt_optim_n_state(&r->optim);
    RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, t->n_params), &t->theta));
    for (int i = 0; i < t->n_state; i++) RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, t->n_params), &t->state[i]));
    if (t->n_buffers) RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, t->n_buffers), &t->buffers));
    RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, 3), &t->hyper));
    RT_TRY(rt_tensor_create(be, RT_SCALAR_F32, &t->loss));
    float wd = (float)r->optim.weight_decay;
    if (r->decay_kernels_only) {
        RT_ALLOC(mask, (size_t)t->n_params * sizeof *mask, "decay mask");
        rt_model_decay_mask(t->model, mask);
        for (int64_t i = 0; i < t->n_params; i++) mask[i] *= wd;
        RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, t->n_params), &t->decay));
        RT_TRY(rt_tensor_write(t->decay, mask, (size_t)t->n_params * sizeof *mask));
    } else {
        RT_TRY(rt_tensor_create(be, RT_SCALAR_F32, &t->decay));
        RT_TRY(rt_tensor_write(t->decay, &wd, sizeof wd));
    }
    *out = t;
    t = NULL;
out:
    rt_free(mask);
    rt_trainer_destroy(t);
    return st;
}

void rt_trainer_destroy(rt_trainer *t)
{
    if (!t) return;
    for (int i = 0; i < t->n_steps; i++) rt_train_step_fini(&t->step[i]);
    rt_infer_step_fini(&t->infer);
    rt_tensor_destroy(t->theta);
    for (int i = 0; i < RT_MAX_OPT_STATE; i++) rt_tensor_destroy(t->state[i]);
    rt_tensor_destroy(t->buffers);
    rt_tensor_destroy(t->hyper);
    rt_tensor_destroy(t->decay);
    rt_tensor_destroy(t->loss);
    rt_model_destroy(t->model);
    rt_free(t->snapshot);
    rt_free(t);
}

const rt_model *rt_trainer_model(const rt_trainer *t) { return t->model; }
const rt_recipe *rt_trainer_recipe(const rt_trainer *t) { return &t->recipe; }

int64_t rt_trainer_arena_bytes(const rt_trainer *t)
{
    size_t most = 0;
    rt_exec_stats s;
    for (int i = 0; i <= t->n_steps; i++) {
        const rt_exec *ex = i < t->n_steps ? t->step[i].exec : t->infer.exec;
        if (!ex) continue;
        rt_exec_get_stats(ex, &s);
        if (s.arena_bytes + s.bound_bytes > most) most = s.arena_bytes + s.bound_bytes;
    }
    return (int64_t)most;
}

/* --- one batch on the host ------------------------------------------------------------------------------------------ */

/* Host staging of one run; sized for the largest batch. */
typedef struct staging {
    float *x, *q, *color, *affine, *box, *patch;
    float *mix_q, *mix_box;      /* CutMix after DSA */
    int32_t *partner;
    int64_t *order, *scratch;
} staging;

static void staging_fini(staging *s)
{
    rt_free(s->x);
    rt_free(s->q);
    rt_free(s->color);
    rt_free(s->affine);
    rt_free(s->box);
    rt_free(s->patch);
    rt_free(s->mix_q);
    rt_free(s->mix_box);
    rt_free(s->partner);
    rt_free(s->scratch);
    rt_free(s->order);
}

static rt_status staging_init(staging *s, const rt_trainer *t, int64_t batch, int64_t n)
{
    rt_status st = RT_OK;
    const rt_model_desc *d = rt_model_desc_of(t->model);
    size_t b = (size_t)batch, px = (size_t)d->size * (size_t)d->size * (size_t)d->channels;
    RT_ALLOC(s->x, b * px * sizeof(float), "batch of images");
    RT_ALLOC(s->q, b * (size_t)d->classes * sizeof(float), "batch of labels");
    RT_ALLOC(s->color, b * 3 * sizeof(float), "augmentation parameters");
    RT_ALLOC(s->affine, b * 6 * sizeof(float), "augmentation parameters");
    RT_ALLOC(s->box, b * 4 * sizeof(float), "augmentation parameters");
    RT_ALLOC(s->order, (size_t)n * sizeof(int64_t), "epoch order");
    if (t->recipe.augment == RT_AUGMENT_RRC_CUTMIX) RT_ALLOC(s->patch, b * px * sizeof(float), "CutMix patches");
    if (t->recipe.augment == RT_AUGMENT_DSA && t->recipe.cutmix > 0) {
        RT_ALLOC(s->mix_q, b * (size_t)d->classes * sizeof(float), "CutMix labels");
        RT_ALLOC(s->mix_box, b * 4 * sizeof(float), "CutMix boxes");
        RT_ALLOC(s->partner, b * sizeof(int32_t), "CutMix partners");
        RT_ALLOC(s->scratch, b * sizeof(int64_t), "CutMix partners");
    }
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
 * Beta(1,1) per batch; the label weight is the true area of the clipped box. */
static rt_status cut_mix(const rt_model_desc *m, uint64_t seed, uint64_t step, int64_t batch, staging *s)
{
    rt_status st = RT_OK;
    int64_t *partner = NULL, size = m->size, c = m->channels, k = m->classes;
    float *mixed = NULL;
    RT_ALLOC(partner, (size_t)batch * sizeof *partner, "CutMix partners");
    RT_ALLOC(mixed, (size_t)(batch * k) * sizeof *mixed, "CutMix labels");
    rt_rng r = rt_rng_at(seed, RT_RNG_MIX, step, 0);
    double lambda = (double)rt_rng_uniform(&r), side = sqrt(1.0 - lambda);
    int64_t half = (int64_t)(side * (double)size) / 2;
    int64_t cy = (int64_t)rt_rng_below(&r, (uint32_t)size), cx = (int64_t)rt_rng_below(&r, (uint32_t)size);
    int64_t y0 = cy - half < 0 ? 0 : cy - half, y1 = cy + half > size ? size : cy + half;
    int64_t x0 = cx - half < 0 ? 0 : cx - half, x1 = cx + half > size ? size : cx + half;
    for (int64_t b = 0; b < batch; b++) partner[b] = b;
    rt_rng_shuffle(&r, partner, batch);
    size_t row = (size_t)((x1 - x0) * c), image = (size_t)(size * size * c), rows = (size_t)(y1 - y0);
    for (int64_t b = 0; b < batch; b++) /* patches first: partners are pasted as they were */
        for (size_t y = 0; y < rows; y++)
            memcpy(s->patch + ((size_t)b * rows + y) * row,
                   s->x + (size_t)partner[b] * image + (((size_t)y0 + y) * (size_t)size + (size_t)x0) * (size_t)c,
                   row * sizeof(float));
    for (int64_t b = 0; b < batch; b++)
        for (size_t y = 0; y < rows; y++)
            memcpy(s->x + (size_t)b * image + (((size_t)y0 + y) * (size_t)size + (size_t)x0) * (size_t)c,
                   s->patch + ((size_t)b * rows + y) * row, row * sizeof(float));
    float keep = 1.0f - (float)((y1 - y0) * (x1 - x0)) / (float)(size * size);
    for (int64_t b = 0; b < batch; b++)
        for (int64_t j = 0; j < k; j++) mixed[b * k + j] = keep * s->q[b * k + j] + (1.0f - keep) * s->q[partner[b] * k + j];
    memcpy(s->q, mixed, (size_t)(batch * k) * sizeof *mixed);
out:
    rt_free(partner);
    rt_free(mixed);
    return st;
}

/* CutMix of the augmented images: the pasting is in the graph, labels are mixed here. */
static rt_status write_cutmix(const rt_trainer *t, rt_train_step *s, uint64_t seed, uint64_t step, staging *h)
{
    rt_status st = RT_OK;
    const rt_model_desc *m = rt_model_desc_of(t->model);
    size_t b = (size_t)s->batch, labels = b * (size_t)m->classes * sizeof(float);
    float keep = rt_cutmix_draw(t->recipe.cutmix, m->size, seed, step, s->batch, 0, h->scratch, h->partner, h->mix_box);
    rt_cutmix_labels(h->q, s->batch, 0, m->classes, h->partner, keep, h->mix_q);
    RT_TRY(rt_tensor_write(s->partner, h->partner, b * sizeof(int32_t)));
    RT_TRY(rt_tensor_write(s->patch, h->mix_box, b * 4 * sizeof(float)));
    RT_TRY(rt_tensor_write(s->q, h->mix_q, labels));
out:
    return st;
}

static rt_status write_batch(rt_trainer *t, rt_train_step *s, const rt_train_data *d, const rt_dsa *dsa, const int64_t *idx,
                             uint64_t seed, uint64_t step, int threads, staging *h)
{
    rt_status st = RT_OK;
    const rt_model_desc *m = rt_model_desc_of(t->model);
    rt_view view = {0}, *use = NULL;
    if (t->recipe.augment == RT_AUGMENT_FLIP_CROP) {
        view = (rt_view){.flip = true, .pad_crop = m->size / 8};
        use = &view;
    } else if (t->recipe.augment == RT_AUGMENT_RRC_CUTMIX) {
        view = (rt_view){.rrc = true, .flip = true, .scale = {0.5f, 1.0f}, .ratio = {0.75f, 4.0f / 3.0f}};
        use = &view;
    }
    RT_TRY(fill_pixels(t, d, idx, s->batch, use, seed, step, threads, h->x));
    fill_labels(d, idx, s->batch, m->classes, h->q);
    if (t->recipe.augment == RT_AUGMENT_RRC_CUTMIX) RT_TRY(cut_mix(m, seed, step, s->batch, h));
    size_t b = (size_t)s->batch, px = (size_t)m->size * (size_t)m->size * (size_t)m->channels;
    RT_TRY(rt_tensor_write(s->x, h->x, b * px * sizeof(float)));
    RT_TRY(rt_tensor_write(s->q, h->q, b * (size_t)m->classes * sizeof(float)));
    if (dsa) {
        rt_dsa_draw(dsa, 0, m->size, m->size, seed, step, 0, NULL, s->batch, h->color, h->affine, h->box);
        RT_TRY(rt_tensor_write(s->color, h->color, b * 3 * sizeof(float)));
        RT_TRY(rt_tensor_write(s->affine, h->affine, b * 6 * sizeof(float)));
        RT_TRY(rt_tensor_write(s->box, h->box, b * 4 * sizeof(float)));
        if (s->partner) RT_TRY(write_cutmix(t, s, seed, step, h));
    }
out:
    return st;
}

/* --- checkpoints ---------------------------------------------------------------------------------------------------- */

/* Where a run stands between two steps. */
typedef struct cursor {
    int64_t epoch, batch_in_epoch, updates; /* updates since the optimiser was (re)built, for Adam's bias correction */
    bool has_snapshot;
    rt_train_result sum;
} cursor;

static rt_status save_checkpoint(rt_trainer *t, const rt_train_run *run, const cursor *c)
{
    rt_status st = RT_OK;
    size_t p = (size_t)t->n_params, nb = (size_t)t->n_buffers, parts = 1 + (size_t)t->n_state;
    float *all = NULL;
    json_t *state = NULL;
    rt_st_tensor ten[5];
    int64_t n = 0;
    RT_ALLOC(all, (p * parts + nb) * sizeof *all, "checkpoint");
    RT_TRY(rt_tensor_read(t->theta, all, p * sizeof *all));
    ten[n++] = (rt_st_tensor){"theta", RT_ST_F32, 1, {t->n_params}, all, p * sizeof *all};
    static const char *const name[RT_MAX_OPT_STATE] = {"state0", "state1"};
    for (int i = 0; i < t->n_state; i++) {
        float *at = all + p * (size_t)(i + 1);
        RT_TRY(rt_tensor_read(t->state[i], at, p * sizeof *all));
        ten[n++] = (rt_st_tensor){name[i], RT_ST_F32, 1, {t->n_params}, at, p * sizeof *all};
    }
    if (nb) {
        RT_TRY(rt_tensor_read(t->buffers, all + p * parts, nb * sizeof *all));
        ten[n++] = (rt_st_tensor){"buffers", RT_ST_F32, 1, {t->n_buffers}, all + p * parts, nb * sizeof *all};
    }
    if (c->has_snapshot)
        ten[n++] = (rt_st_tensor){"snapshot", RT_ST_F32, 1, {t->n_params + t->n_buffers}, t->snapshot, (p + nb) * sizeof *all};
    if (run->ledger) rt_ledger_update(run->ledger);
    state = json_pack("{s:s, s:I, s:I, s:I, s:f, s:f, s:I, s:f, s:f, s:o?}", "inputs_hash", run->inputs_hash, "epoch",
                      (json_int_t)c->epoch, "batch", (json_int_t)c->batch_in_epoch, "updates", (json_int_t)c->updates,
                      "first_loss", c->sum.first_loss, "last_loss", c->sum.last_loss, "steps", (json_int_t)c->sum.steps,
                      "images_seen", c->sum.images_seen, "flops", c->sum.flops, "ledger",
                      run->ledger ? rt_ledger_json(run->ledger) : NULL);
    if (!state) {
        st = RT_RAISE(RT_ERR_NOMEM, "checkpoint state");
        goto out;
    }
    RT_TRY(rt_ckpt_save(run->ckpt_dir, (uint64_t)c->sum.steps, ten, n, state, run->keep > 0 ? run->keep : 2));
out:
    json_decref(state);
    rt_free(all);
    return st;
}

static rt_status restore_tensor(const rt_st_file *f, const char *name, rt_tensor *t, float *buf, int64_t n)
{
    const rt_st_tensor *s = rt_st_find(f, name);
    if (!s) return RT_RAISE(RT_ERR_FORMAT, "checkpoint has no tensor '%s'", name);
    rt_status st = rt_st_to_f32(s, buf, n);
    return st != RT_OK || !t ? st : rt_tensor_write(t, buf, (size_t)n * sizeof *buf);
}

static rt_status keep_snapshot(rt_trainer *t)
{
    rt_status st = RT_OK;
    if (!t->snapshot) RT_ALLOC(t->snapshot, (size_t)(t->n_params + t->n_buffers) * sizeof *t->snapshot, "snapshot");
    RT_TRY(rt_tensor_read(t->theta, t->snapshot, (size_t)t->n_params * sizeof(float)));
    if (t->buffers) RT_TRY(rt_tensor_read(t->buffers, t->snapshot + t->n_params, (size_t)t->n_buffers * sizeof(float)));
out:
    return st;
}

/* RT_ERR_MISSING when there is nothing to resume from. */
static rt_status load_checkpoint(rt_trainer *t, const rt_train_run *run, cursor *c)
{
    rt_status st = RT_OK;
    rt_st_file *f = NULL;
    json_t *s = NULL;
    float *buf = NULL;
    uint64_t step = 0;
    json_int_t epoch, batch, updates, steps;
    static const char *const name[RT_MAX_OPT_STATE] = {"state0", "state1"};
    RT_TRY(rt_ckpt_load(run->ckpt_dir, run->inputs_hash, &step, &f, &s));
    if (json_unpack(s, "{s:I, s:I, s:I, s:F, s:F, s:I, s:F, s:F}", "epoch", &epoch, "batch", &batch, "updates", &updates,
                    "first_loss", &c->sum.first_loss, "last_loss", &c->sum.last_loss, "steps", &steps, "images_seen",
                    &c->sum.images_seen, "flops", &c->sum.flops)) {
        st = RT_RAISE(RT_ERR_FORMAT, "checkpoint in %s: state is incomplete", run->ckpt_dir);
        goto out;
    }
    c->epoch = epoch, c->batch_in_epoch = batch, c->updates = updates, c->sum.steps = steps;
    RT_ALLOC(buf, (size_t)(t->n_params + t->n_buffers) * sizeof *buf, "checkpoint");
    RT_TRY(restore_tensor(f, "theta", t->theta, buf, t->n_params));
    for (int i = 0; i < t->n_state; i++) RT_TRY(restore_tensor(f, name[i], t->state[i], buf, t->n_params));
    if (t->buffers) RT_TRY(restore_tensor(f, "buffers", t->buffers, buf, t->n_buffers));
    if (rt_st_find(f, "snapshot")) {
        RT_TRY(keep_snapshot(t)); /* for its memory; overwritten on the next line */
        RT_TRY(restore_tensor(f, "snapshot", NULL, t->snapshot, t->n_params + t->n_buffers));
        c->has_snapshot = true;
    }
    json_t *ledger = json_object_get(s, "ledger");
    if (run->ledger && json_is_object(ledger)) RT_TRY(rt_ledger_restore(run->ledger, ledger));
out:
    rt_free(buf);
    rt_st_close(f);
    json_decref(s);
    return st;
}

/* --- the loop --------------------------------------------------------------------------------------------------------- */

static rt_status zero_state(rt_trainer *t)
{
    rt_status st = RT_OK;
    float *zero = NULL;
    RT_ALLOC(zero, (size_t)t->n_params * sizeof *zero, "optimiser state");
    for (int i = 0; i < t->n_state; i++) RT_TRY(rt_tensor_write(t->state[i], zero, (size_t)t->n_params * sizeof *zero));
out:
    rt_free(zero);
    return st;
}

rt_status rt_trainer_set_weights(rt_trainer *t, const float *theta, const float *buffers)
{
    rt_status st = RT_OK;
    RT_TRY(rt_tensor_write(t->theta, theta, (size_t)t->n_params * sizeof *theta));
    if (t->buffers) RT_TRY(rt_tensor_write(t->buffers, buffers, (size_t)t->n_buffers * sizeof *buffers));
out:
    return st;
}

static rt_status fresh_weights(rt_trainer *t, const rt_train_run *run)
{
    rt_status st = RT_OK;
    float *theta = NULL, *buffers = NULL;
    RT_ALLOC(theta, (size_t)t->n_params * sizeof *theta, "weights");
    RT_ALLOC(buffers, (size_t)t->n_buffers * sizeof *buffers, "statistics");
    rt_model_init(t->model, run->seed, run->network, theta, buffers);
    RT_TRY(rt_trainer_set_weights(t, theta, buffers));
    RT_TRY(zero_state(t));
out:
    rt_free(theta);
    rt_free(buffers);
    return st;
}

static rt_status one_step(rt_trainer *t, const rt_train_data *d, const rt_train_run *run, const rt_dsa *dsa, double lr,
                          cursor *c, staging *h, int64_t batch)
{
    rt_status st = RT_OK;
    rt_train_step *s = NULL;
    rt_exec_stats cost;
    float hyper[3], loss;
    uint64_t draws = rt_seed_derive(run->seed, run->network);
    RT_TRY(rt_train_step_get(t, batch, &s));
    int64_t first = c->batch_in_epoch * t->recipe.batch;
    RT_TRY(write_batch(t, s, d, dsa, h->order + first, draws, (uint64_t)c->sum.steps, run->threads, h));
    rt_optim_hyper(&t->recipe.optim, lr, ++c->updates, hyper);
    RT_TRY(rt_tensor_write(t->hyper, hyper, sizeof hyper));
    RT_TRY(rt_exec_run(s->exec));
    RT_TRY(rt_tensor_read(t->loss, &loss, sizeof loss));
    if (!isfinite(loss)) {
        st = RT_RAISE(RT_ERR_NUMERIC, "loss is %f at step %lld (epoch %lld)", (double)loss, (long long)c->sum.steps,
                      (long long)c->epoch);
        rt_error_fix(st, "lower the learning rate (now %g)", lr);
        goto out;
    }
    if (c->sum.steps == 0) c->sum.first_loss = (double)loss;
    c->sum.last_loss = (double)loss;
    c->sum.steps++;
    rt_exec_get_stats(s->exec, &cost);
    c->sum.images_seen += (double)batch;
    c->sum.flops += cost.flops;
    if (run->ledger) {
        rt_ledger_entry(run->ledger)->images_seen += (double)batch;
        rt_ledger_entry(run->ledger)->flops += cost.flops;
    }
out:
    return st;
}

rt_status rt_trainer_run(rt_trainer *t, const rt_train_data *d, const rt_train_run *run, rt_train_result *out)
{
    rt_status st = RT_OK;
    staging h = {0};
    cursor c = {0};
    rt_dsa dsa, *use_dsa = NULL;
    const rt_recipe *r = &t->recipe;
    rt_schedule sched = r->schedule;
    sched.total = (double)r->epochs;
    if (d->n < 1) return RT_RAISE(RT_ERR_ARG, "nothing to train on: 0 images");
    int64_t batch = r->batch < d->n ? r->batch : d->n, per_epoch = (d->n + r->batch - 1) / r->batch;
    uint64_t order_seed = rt_seed_derive(run->seed, run->network);
    double last_commit = rt_now();
    if (r->augment == RT_AUGMENT_DSA) {
        RT_TRY(rt_dsa_parse(r->dsa_strategy, r->dsa_mode ? r->dsa_mode : 'S', &dsa));
        use_dsa = &dsa;
    }
    RT_TRY(staging_init(&h, t, batch, d->n));
    st = run->ckpt_dir ? load_checkpoint(t, run, &c) : RT_ERR_MISSING;
    if (st == RT_ERR_MISSING) {
        rt_error_clear();
        c = (cursor){0};
        RT_TRY(fresh_weights(t, run));
        if (run->on_epoch) RT_TRYF(run->on_epoch(run->on_epoch_to, t, 0), "initial weights");
    } else if (st != RT_OK) goto out;
    for (; c.epoch < r->epochs; c.epoch++, c.batch_in_epoch = 0) {
        if (c.batch_in_epoch == 0 && rt_schedule_restarts(&sched, (double)c.epoch - 1, (double)c.epoch)) {
            RT_TRY(zero_state(t));
            c.updates = 0;
        }
        double lr = rt_schedule_at(&sched, run->lr > 0 ? run->lr : r->optim.lr, (double)c.epoch);
        rt_epoch_order(order_seed, (uint64_t)c.epoch, d->n, h.order);
        for (; c.batch_in_epoch < per_epoch;) {
            int64_t left = d->n - c.batch_in_epoch * r->batch;
            RT_TRY(one_step(t, d, run, use_dsa, lr, &c, &h, left < batch ? left : batch));
            c.batch_in_epoch++;
            char note[64];
            snprintf(note, sizeof note, "loss %.4f  lr %.2g", c.sum.last_loss, lr);
            rt_progress_report(&(rt_progress){run->phase, "step", (double)c.sum.steps, (double)(per_epoch * r->epochs), note});
            bool stop = rt_stop_requested() != 0;
            if (run->ckpt_dir && (stop || rt_now() - last_commit >= run->ckpt_seconds)) {
                RT_TRYF(save_checkpoint(t, run, &c), "checkpoint at step %lld", (long long)c.sum.steps);
                last_commit = rt_now();
            }
            if (stop) {
                st = RT_RAISE(RT_ERR_CANCELLED, "stopped at step %lld", (long long)c.sum.steps);
                rt_error_fix(st, "rerun the same command: it resumes there");
                goto out;
            }
        }
        if (run->snapshot_epoch > 0 && c.epoch + 1 == run->snapshot_epoch) {
            RT_TRY(keep_snapshot(t));
            c.has_snapshot = true;
        }
        if (run->on_epoch) RT_TRYF(run->on_epoch(run->on_epoch_to, t, c.epoch + 1), "epoch %lld", (long long)c.epoch + 1);
    }
    *out = c.sum;
out:
    staging_fini(&h);
    return st == RT_OK ? st : rt_error_frame(st, __FILE__, __LINE__, "%s", run->phase ? run->phase : "training");
}

rt_status rt_trainer_weights(const rt_trainer *t, bool snapshot, float *theta, float *buffers)
{
    rt_status st = RT_OK;
    if (snapshot) {
        if (!t->snapshot) return RT_RAISE(RT_ERR_ARG, "the run kept no snapshot");
        memcpy(theta, t->snapshot, (size_t)t->n_params * sizeof *theta);
        if (t->n_buffers) memcpy(buffers, t->snapshot + t->n_params, (size_t)t->n_buffers * sizeof *buffers);
        return RT_OK;
    }
    RT_TRY(rt_tensor_read(t->theta, theta, (size_t)t->n_params * sizeof *theta));
    if (t->buffers) RT_TRY(rt_tensor_read(t->buffers, buffers, (size_t)t->n_buffers * sizeof *buffers));
out:
    return st;
}
