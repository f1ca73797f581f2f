/* NCFM (Wang et al., "Dataset Distillation with Neural Characteristic Function: A Minmax Perspective", CVPR 2025;
 * matching.md 4.9).
 *
 * Per iteration: pixels are clamped to [0,1]; a network of the pool and a point between its initial and its trained weights
 * are drawn; for each class the characteristic functions of the unit features of real images and of the decoded synthetic
 * ones (multi-formation), under one shared augmentation, are compared at K frequencies; then one calibration sweep lowers the
 * cross-entropy of the trained network on the synthetic images. The optimiser (AdamW) steps on ALL stored images after every
 * class, as the released code does: between two gradients of one class its images move classes - 1 steps more, by decaying
 * moments (and by decay itself). ncfm.update: joint sums the classes and steps once.
 *
 * Frequencies are standard normal, as in every released configuration, or come from the sampling network of the paper
 * (ncfm.sampling_net): psi climbs on the loss that the images descend. */
#include "methods/distill/ncfm.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "methods/distill/characteristic.h"
#include "methods/distill/formation.h"

enum { CHUNK_CPU = 256, CHUNK_GPU = 2560 }; /* images per step */
static const double PLATEAU_THRESHOLD = 1e-4; /* a loss must fall by this share to count as better */

/* --- setting up -------------------------------------------------------------------------------------------------------- */

static rt_status check(const rt_build_ctx *ctx)
{
    rt_status st = RT_OK;
    const rt_config *c = ctx->config;
    if (ctx->train->white) {
        st = RT_RAISE(RT_ERR_CONFIG, "ncfm optimises pixels in [0,1]; whitened ones do not live there");
        return rt_error_fix(st, "set data.zca to false, or take ncfm out of methods.names");
    }
    if (c->ncfm.factor > ctx->net.size) {
        st = RT_RAISE(RT_ERR_CONFIG, "ncfm.factor %lld cuts images of %d pixels into nothing", (long long)c->ncfm.factor, ctx->net.size);
        return rt_error_fix(st, "use at most data.size");
    }
    if (c->ncfm.alpha + c->ncfm.beta <= 0) {
        st = RT_RAISE(RT_ERR_CONFIG, "ncfm.alpha and ncfm.beta are both 0: there is nothing to match");
        return rt_error_fix(st, "set both to 0.5, the published weights");
    }
    return st;
}

static rt_optim_desc optimiser(const rt_config *c)
{
    bool sgd = !strcmp(c->ncfm.optimiser, "sgd");
    return (rt_optim_desc){.kind = sgd ? RT_SGD : RT_ADAMW, .lr = c->ncfm.lr, .momentum = c->ncfm.momentum,
                           .weight_decay = sgd ? 0 : c->ncfm.weight_decay, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
}

static rt_status allocate(rt_ncfm *d)
{
    rt_status st = RT_OK;
    size_t pixels = (size_t)(d->n * d->px) * sizeof(float), psi = (size_t)(d->psi ? rt_psi_n_params(d->dim) : 0) * sizeof(float);
    size_t full = (size_t)d->ctx->net.size * (size_t)d->ctx->net.size * 3;
    int64_t views = d->part > d->rows ? d->part : d->rows;
    RT_ALLOC(d->images, pixels, "synthetic images");
    for (int i = 0; i < 2; i++) {
        RT_ALLOC(d->state_host[i], i < d->n_state ? pixels : 0, "state of the images' optimiser");
        RT_ALLOC(d->psi_host[i], psi, "sampling network");
    }
    RT_ALLOC(d->theta_host, (size_t)d->n_params * sizeof(float), "network");
    RT_ALLOC(d->trained_host, (size_t)d->n_params * sizeof(float), "network");
    RT_ALLOC(d->buffers_host, (size_t)d->n_buffers * sizeof(float), "network");
    RT_ALLOC(d->real_px, (size_t)d->part * full * sizeof(float), "real batch");
    RT_ALLOC(d->pick, (size_t)d->batch * sizeof *d->pick, "real batch");
    RT_ALLOC(d->mean_c, (size_t)(d->chunk * d->k) * sizeof(float), "characteristic function");
    RT_ALLOC(d->mean_s, (size_t)(d->chunk * d->k) * sizeof(float), "characteristic function");
    RT_ALLOC(d->part_host, (size_t)d->k * sizeof(float), "characteristic function");
    RT_ALLOC(d->t_host, (size_t)(d->k * d->dim) * sizeof(float), "frequencies");
    RT_ALLOC(d->fr_host, (size_t)(d->psi ? d->chunk * d->batch * d->dim : 0) * sizeof(float), "features of real images");
    RT_ALLOC(d->index_host, (size_t)(d->chunk * d->ipc) * sizeof *d->index_host, "class of a step");
    RT_ALLOC(d->label_host, (size_t)d->rows * sizeof *d->label_host, "labels of a step");
    for (int k = 0; d->use_dsa && k < RT_DSA_INPUTS; k++)
        RT_ALLOC(d->dsa_host[k], (size_t)(views * rt_dsa_width[k]) * sizeof(float), "DSA parameters");
out:
    return st;
}

static rt_status find_given(rt_ncfm *d)
{
    rt_status st = RT_OK;
    const rt_draw_files *f = &d->ctx->files;
    int64_t its = d->ctx->config->ncfm.iterations;
    if (d->draws.weights)
        RT_TRY(rt_draws_find(d->draws.weights, f->network_weights, "trained", false, RT_ST_F32, 2, (int64_t[]){its, d->n_params},
                             &d->given_trained));
    if (d->draws.order)
        RT_TRY(rt_draws_find(d->draws.order, f->batch_order, "frequencies", false, RT_ST_F32, 3, (int64_t[]){its, d->k, d->dim},
                             &d->given_t));
out:
    return st;
}

static rt_status ncfm_init(rt_ncfm *d, const rt_build_ctx *ctx)
{
    rt_status st = RT_OK;
    const rt_config *c = ctx->config;
    int64_t images = strcmp(rt_backend_name(ctx->be), "cuda") ? CHUNK_CPU : CHUNK_GPU;
    RT_TRY(check(ctx));
    d->ctx = ctx;
    d->use_dsa = *c->ncfm.dsa && strcmp(c->ncfm.dsa, "none") != 0;
    if (d->use_dsa) RT_TRY(rt_dsa_parse(c->ncfm.dsa, 'I', &d->dsa));
    d->dsa.siamese = 1;
    RT_TRY(rt_model_create(&ctx->net, &d->model));
    d->optim = optimiser(c);
    d->n_state = rt_optim_n_state(&d->optim);
    d->classwise = !strcmp(c->ncfm.update, "class");
    d->psi = c->ncfm.sampling_net;
    d->classes = ctx->train->classes.n;
    d->ipc = ctx->ipc;
    d->n = d->classes * d->ipc;
    d->px = (int64_t)ctx->net.size * ctx->net.size * 3;
    d->factor = c->ncfm.factor;
    d->dim = rt_model_feature_dim(d->model);
    d->k = c->ncfm.frequencies;
    d->n_params = rt_model_n_params(d->model);
    d->n_buffers = rt_model_n_buffers(d->model);
    d->batch = c->ncfm.batch_real;
    d->part = rt_divisor_up_to(d->batch, images);
    int64_t decoded = d->ipc * d->factor * d->factor; /* of one class */
    d->chunk = d->classwise ? 1 : rt_divisor_up_to(d->classes, images / decoded);
    d->rows = d->chunk * decoded;
    RT_TRY(rt_draws_open(ctx, c->ncfm.iterations, d->batch, d->n_params, &d->draws));
    RT_TRY(find_given(d));
    RT_TRY(allocate(d));
    RT_TRY(rt_ncfm_compile(d));
out:
    return st;
}

/* --- draws of one iteration -------------------------------------------------------------------------------------------- */

/* Matching weights between the initial and the trained ones of one network of the pool, and those trained ones. */
static rt_status draw_network(rt_ncfm *d, int64_t it)
{
    rt_status st = RT_OK;
    const rt_pool *p = d->ctx->pool;
    size_t bytes = (size_t)d->n_params * sizeof(float);
    rt_rng r = rt_rng_at(d->ctx->seed, RT_RNG_NOISE, (uint64_t)it, UINT32_MAX);
    rt_draws_network(&d->draws, d->model, it, d->theta_host, d->buffers_host);
    if (d->draws.given_theta) {
        const float *given = d->given_trained ? (const float *)d->given_trained->data + it * d->n_params : d->theta_host;
        memcpy(d->trained_host, given, bytes);
    } else if (p && p->n) {
        int64_t k = rt_rng_below(&r, (uint32_t)p->n);
        float l = d->ctx->config->ncfm.interpolate ? rt_rng_uniform(&r) : 0;
        const float *a = p->initial + k * d->n_params, *b = p->trained + k * d->n_params;
        for (int64_t i = 0; i < d->n_params; i++) d->theta_host[i] = l * a[i] + (1 - l) * b[i];
        memcpy(d->trained_host, b, bytes);
    } else { /* an estimate before the pool exists: any weights cost the same */
        memcpy(d->trained_host, d->theta_host, bytes);
    }
    RT_TRY(rt_tensor_write(d->theta, d->theta_host, bytes));
    RT_TRY(rt_tensor_write(d->trained, d->trained_host, bytes));
    if (d->buffers) RT_TRY(rt_tensor_write(d->buffers, d->buffers_host, (size_t)d->n_buffers * sizeof(float)));
out:
    return st;
}

/* Standard normal rows, one stream a row. */
static void normal_rows(const rt_ncfm *d, uint64_t step, float *out)
{
    uint64_t seed = d->ctx->seed;
#pragma omp parallel for schedule(static) num_threads(d->ctx->threads > 0 ? d->ctx->threads : 1)
    for (int64_t row = 0; row < d->k; row++)
        for (int64_t j = 0; j < d->dim; j += 4) {
            rt_u32x4 u = rt_draw(seed, RT_RNG_NOISE, step, (uint32_t)row, (uint32_t)(j / 4));
            float z[4];
            for (int h = 0; h < 2; h++) { /* Box-Muller, both numbers of a pair */
                float radius = sqrtf(-2.0f * logf(((float)(u.v[2 * h] >> 8) + 0.5f) * 0x1p-24f));
                float angle = (float)(u.v[2 * h + 1] >> 8) * (6.2831853f * 0x1p-24f);
                z[2 * h] = radius * cosf(angle);
                z[2 * h + 1] = radius * sinf(angle);
            }
            for (int64_t i = 0; i < 4 && j + i < d->dim; i++) out[row * d->dim + j + i] = z[i];
        }
}

/* Frequencies of iteration it, or of chunk `first` of it when the sampling network makes them. */
static rt_status draw_frequencies(rt_ncfm *d, int64_t it, int64_t first)
{
    rt_status st = RT_OK;
    size_t bytes = (size_t)(d->k * d->dim) * sizeof(float);
    if (!d->psi && first > 0) return RT_OK;
    if (d->given_t) memcpy(d->t_host, (const float *)d->given_t->data + it * d->k * d->dim, bytes);
    else normal_rows(d, (uint64_t)(it * d->classes + first), d->t_host);
    RT_TRY(rt_tensor_write(d->psi ? d->noise : d->t, d->t_host, bytes));
    if (d->psi) RT_TRY(rt_exec_run(d->psi_t));
out:
    return st;
}

static void real_batch(rt_ncfm *d, int64_t it, int64_t c)
{
    const rt_draws *w = &d->draws;
    int64_t members = w->start[c + 1] - w->start[c];
    if (w->given_real || strcmp(d->ctx->config->ncfm.real, "first")) rt_draws_real(w, it, c, d->pick);
    else
        for (int64_t i = 0; i < d->batch; i++) d->pick[i] = w->by_class[w->start[c] + i % members];
}

static rt_status write_dsa(rt_ncfm *d, rt_tensor *const p[], int64_t rows)
{
    rt_status st = RT_OK;
    for (int k = 0; k < RT_DSA_INPUTS; k++)
        RT_TRY(rt_tensor_write(p[k], d->dsa_host[k], (size_t)(rows * rt_dsa_width[k]) * sizeof(float)));
out:
    return st;
}

/* --- one iteration ----------------------------------------------------------------------------------------------------- */

/* Characteristic function of class c's real batch, as row `at` of the chunk. */
static rt_status real_function(rt_ncfm *d, int64_t it, int64_t c, int64_t at)
{
    rt_status st = RT_OK;
    int64_t px = (int64_t)d->ctx->net.size * d->ctx->net.size * 3;
    float *sum[] = {d->mean_c + at * d->k, d->mean_s + at * d->k}, share = (float)d->part / (float)d->batch;
    rt_tensor *const part[] = {d->part_c, d->part_s};
    real_batch(d, it, c);
    memset(sum[0], 0, (size_t)d->k * sizeof(float));
    memset(sum[1], 0, (size_t)d->k * sizeof(float));
    if (d->use_dsa) {
        rt_draws_dsa(&d->draws, &d->dsa, it, c, 0, d->part, d->dsa_host);
        RT_TRY(write_dsa(d, d->pr, d->part));
    }
    for (int64_t b = 0; b < d->batch; b += d->part) {
        RT_TRY(rt_batch_fill(d->ctx->train, d->pick + b, d->part, &d->ctx->norm, NULL, 0, 0, d->ctx->threads, d->real_px));
        RT_TRY(rt_tensor_write(d->xr, d->real_px, (size_t)(d->part * px) * sizeof(float)));
        RT_TRY(rt_exec_run(d->real));
        for (int i = 0; i < 2; i++) {
            RT_TRY(rt_tensor_read(part[i], d->part_host, (size_t)d->k * sizeof(float)));
            for (int64_t k = 0; k < d->k; k++) sum[i][k] += share * d->part_host[k];
        }
        if (d->psi)
            RT_TRY(rt_tensor_read(d->part_f, d->fr_host + (at * d->batch + b) * d->dim, (size_t)(d->part * d->dim) * sizeof(float)));
    }
out:
    return st;
}

/* Names the classes [first, first + chunk) to the next step; its augmentation is that of the real batches, or one of its own. */
static rt_status aim(rt_ncfm *d, int64_t it, int64_t first, bool calibrating)
{
    rt_status st = RT_OK;
    int64_t each = d->rows / d->chunk;
    int32_t size = d->ctx->net.size;
    for (int64_t i = 0; i < d->chunk * d->ipc; i++) d->index_host[i] = (int32_t)(first * d->ipc + i);
    for (int64_t i = 0; i < d->rows; i++) d->label_host[i] = (int32_t)(first + i / each);
    RT_TRY(rt_tensor_write(d->index, d->index_host, (size_t)(d->chunk * d->ipc) * sizeof(int32_t)));
    RT_TRY(rt_tensor_write(d->label, d->label_host, (size_t)d->rows * sizeof(int32_t)));
    if (!d->use_dsa) goto out;
    for (int64_t k = 0; k < d->chunk; k++) {
        float *const at[] = {d->dsa_host[0] + k * each * rt_dsa_width[0], d->dsa_host[1] + k * each * rt_dsa_width[1],
                             d->dsa_host[2] + k * each * rt_dsa_width[2]};
        if (calibrating)
            rt_dsa_draw(&d->dsa, 0, size, size, d->ctx->seed, (uint64_t)it, (uint32_t)(d->classes + first + k), NULL, each, at[0],
                        at[1], at[2]);
        else rt_draws_dsa(&d->draws, &d->dsa, it, first + k, k * each, each, d->dsa_host);
    }
    RT_TRY(write_dsa(d, d->ps, d->rows));
out:
    return st;
}

/* Rate and bias corrections of optimiser step number t, counted from 1. */
static rt_status set_rate(rt_ncfm *d, int64_t t)
{
    float hyper[3];
    rt_optim_hyper(&d->optim, (double)d->plateau[0], t, hyper);
    return rt_tensor_write(d->hyper, hyper, sizeof hyper);
}

static rt_status match_chunk(rt_ncfm *d, int64_t it, int64_t first, double *loss)
{
    rt_status st = RT_OK;
    float l;
    size_t bytes = (size_t)(d->chunk * d->k) * sizeof(float);
    RT_TRY(draw_frequencies(d, it, first));
    for (int64_t k = 0; k < d->chunk; k++) RT_TRY(real_function(d, it, first + k, k));
    RT_TRY(rt_tensor_write(d->cr, d->mean_c, bytes));
    RT_TRY(rt_tensor_write(d->sr, d->mean_s, bytes));
    RT_TRY(aim(d, it, first, false));
    RT_TRY(rt_exec_run(d->match));
    RT_TRY(rt_tensor_read(d->loss, &l, sizeof l));
    *loss += (double)l;
    if (d->psi) {
        RT_TRY(rt_tensor_write(d->fr, d->fr_host, (size_t)(d->chunk * d->batch * d->dim) * sizeof(float)));
        RT_TRY(rt_exec_run(d->psi_step));
    }
out:
    return st;
}

/* Halves the rate when the loss has not fallen for `patience` iterations. */
static void plateau(rt_ncfm *d, double loss)
{
    float *p = d->plateau;
    const rt_config *c = d->ctx->config;
    if (loss < (double)p[1] * (1 - PLATEAU_THRESHOLD)) {
        p[1] = (float)loss;
        p[2] = 0;
    } else if ((p[2] += 1) > (float)c->ncfm.plateau_patience) {
        p[0] *= (float)c->ncfm.plateau_factor;
        p[2] = 0;
    }
}

static rt_status iterate(void *self, int64_t it, rt_distill_step *s)
{
    rt_status st = RT_OK;
    rt_ncfm *d = self;
    bool calibrating = d->calibrate != NULL;
    int64_t per_it = d->classwise ? d->classes * (calibrating ? 2 : 1) : 1, t = it * per_it;
    RT_TRY(rt_exec_run(d->clamp));
    RT_TRY(draw_network(d, it));
    if (!d->classwise) {
        memset(d->images, 0, (size_t)(d->n * d->px) * sizeof(float)); /* pull fills it again */
        RT_TRY(rt_tensor_write(d->acc, d->images, (size_t)(d->n * d->px) * sizeof(float)));
    }
    for (int64_t c = 0; c < d->classes; c += d->chunk) {
        RT_TRY(set_rate(d, d->classwise ? ++t : t + 1));
        RT_TRY(match_chunk(d, it, c, &s->loss));
    }
    for (int64_t c = 0; calibrating && c < d->classes; c += d->chunk) {
        RT_TRY(set_rate(d, d->classwise ? ++t : t + 1));
        RT_TRY(aim(d, it, c, true));
        RT_TRY(rt_exec_run(d->calibrate));
    }
    if (!d->classwise) RT_TRY(rt_exec_run(d->update));
    plateau(d, s->loss);
    s->flops = d->flops_per_it;
    s->images_seen = (double)(d->classes * d->batch + d->n * d->factor * d->factor * (calibrating ? 2 : 1));
out:
    return st;
}

/* --- the frame --------------------------------------------------------------------------------------------------------- */

static rt_status start(void *self)
{
    rt_ncfm *d = self;
    const rt_config *c = d->ctx->config;
    d->plateau[0] = (float)c->ncfm.lr;
    d->plateau[1] = FLT_MAX;
    if (d->psi) rt_psi_init(d->dim, d->ctx->seed, d->psi_host[0]);
    return rt_formation_mix(&d->draws, d->factor, !strcmp(c->ncfm.real, "first"), d->images);
}

/* Moves every state vector between the host and the back end. */
static rt_status carry(rt_ncfm *d, rt_status (*move)(rt_tensor *t, float *v, size_t bytes))
{
    rt_status st = RT_OK;
    size_t bytes = (size_t)(d->n * d->px) * sizeof(float);
    RT_TRY(move(d->all, d->images, bytes));
    for (int i = 0; i < d->n_state; i++) RT_TRY(move(d->state[i], d->state_host[i], bytes));
    if (d->psi) {
        RT_TRY(move(d->psi_theta, d->psi_host[0], (size_t)rt_psi_n_params(d->dim) * sizeof(float)));
        RT_TRY(move(d->psi_v, d->psi_host[1], (size_t)rt_psi_n_params(d->dim) * sizeof(float)));
    }
out:
    return st;
}

static rt_status to_tensor(rt_tensor *t, float *v, size_t bytes) { return rt_tensor_write(t, v, bytes); }
static rt_status to_host(rt_tensor *t, float *v, size_t bytes) { return rt_tensor_read(t, v, bytes); }

static rt_status push(void *self)
{
    rt_status st = RT_OK;
    rt_ncfm *d = self;
    float lr = (float)d->ctx->config->ncfm.sampling_lr;
    RT_TRY(carry(d, to_tensor));
    if (d->psi) RT_TRY(rt_tensor_write(d->psi_hyper, &lr, sizeof lr));
out:
    return st;
}

static rt_status pull(void *self) { return carry(self, to_host); }

static rt_status result(void *self, rt_set *out)
{
    rt_status st = RT_OK;
    rt_ncfm *d = self;
    rt_set s = {0};
    RT_TRY(rt_formation_set(d->ctx, "ncfm", d->factor, d->images, &s));
    for (int64_t i = 0; i < d->n * d->px; i++) s.px[i] = s.px[i] < 0 ? 0 : s.px[i] > 1 ? 1 : s.px[i]; /* as the next iteration would */
    *out = s;
out:
    return st;
}

static rt_distill frame(rt_ncfm *d)
{
    const rt_config *c = d->ctx->config;
    rt_distill f = {.name = "ncfm", .iterations = c->ncfm.iterations, .self = d, .start = start, .push = push, .pull = pull,
                    .iterate = iterate, .result = result};
    int n = 0, m = 0;
    f.state[n++] = (rt_distill_state){"images", d->images, d->n * d->px};
    f.state[n++] = (rt_distill_state){"state0", d->state_host[0], d->n * d->px};
    if (d->n_state > 1) f.state[n++] = (rt_distill_state){"state1", d->state_host[1], d->n * d->px};
    f.state[n++] = (rt_distill_state){"plateau", d->plateau, 3};
    if (d->psi) {
        f.state[n++] = (rt_distill_state){"psi", d->psi_host[0], rt_psi_n_params(d->dim)};
        f.state[n++] = (rt_distill_state){"psi_velocity", d->psi_host[1], rt_psi_n_params(d->dim)};
    }
    f.n_state = n;
    if (strcmp(c->ncfm.real, "first"))
        f.deviation[m++] = "initial images and real batches are random; the released code takes the first of each class";
    if (!d->psi) f.deviation[m++] = "frequencies are standard normal as in the released configurations, and one draw serves all classes";
    if (!d->classwise) f.deviation[m++] = "one joint step on all classes instead of a step after every class";
    if (rt_model_desc_of(d->model)->depth > 5) f.deviation[m++] = "features of the last layer only; released: several for deeper networks";
    f.n_deviations = m;
    return f;
}

static int64_t iterations(const rt_config *c) { return c->ncfm.iterations; }

static void pool(const rt_config *c, rt_pool_spec *out)
{
    rt_recipe r = {.name = "ncfm pool", .epochs = c->ncfm.pretrain_epochs, .batch = c->ncfm.pretrain_batch};
    r.optim = (rt_optim_desc){.kind = RT_SGD, .lr = c->ncfm.pretrain_lr, .momentum = 0.9, .weight_decay = 5e-4};
    r.schedule = (rt_schedule){.kind = RT_SCHED_STEP, .factor = 0.2, .n_milestones = 2,
                               .milestone = {2.0 * (double)r.epochs / 3, 5.0 * (double)r.epochs / 6}};
    if (*c->ncfm.pretrain_dsa && strcmp(c->ncfm.pretrain_dsa, "none")) {
        r.augment = RT_AUGMENT_DSA;
        r.dsa_strategy = c->ncfm.pretrain_dsa;
        r.dsa_mode = 'I';
        r.cutmix = c->ncfm.pretrain_cutmix;
    }
    *out = (rt_pool_spec){.networks = c->ncfm.networks, .recipe = r};
}

static rt_status construct(const rt_build_ctx *ctx, rt_set *out)
{
    rt_status st = RT_OK;
    rt_ncfm d = {0};
    RT_TRY(ncfm_init(&d, ctx));
    if (!d.draws.given_theta && !(ctx->pool && ctx->pool->n && ctx->pool->n_params == d.n_params)) {
        st = RT_RAISE(RT_ERR_INTERNAL, "ncfm was given no pool of networks");
        goto out;
    }
    rt_distill f = frame(&d);
    RT_TRY(rt_distill_run(ctx, &f, out));
out:
    rt_ncfm_fini(&d);
    return st;
}

static rt_status estimate(const rt_build_ctx *ctx, rt_estimate *out)
{
    rt_status st = RT_OK;
    rt_ncfm d = {0};
    RT_TRY(ncfm_init(&d, ctx));
    rt_distill f = frame(&d);
    RT_TRY(rt_distill_estimate(ctx, &f, rt_ncfm_peak_bytes(&d), out));
out:
    rt_ncfm_fini(&d);
    return st;
}

const rt_method rt_method_ncfm = {.name = "ncfm", .family = "distribution matching", .title = "NCFM (Wang et al., CVPR 2025)",
                                  .stochastic = true, .iterations = iterations, .pool = pool, .construct = construct,
                                  .estimate = estimate};
