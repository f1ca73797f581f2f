/* IDC (Kim et al., "Dataset Condensation via Efficient Synthetic-Data Parameterization", ICML 2022; matching.md 4.4).
 *
 *     repeat `iterations` times:
 *         theta <- fresh network (optionally trained on the real data first); clamp the images to [0,1]
 *         for sweep 0 .. inner-1:
 *             every class in turn: D = distance of the convolutions' gradients between real images and the decoded
 *                 synthetic ones, one augmentation shared by both; one SGD step with momentum on ALL images
 *             train theta on REAL data: `train_images` of them, augmented and mixed by CutMix
 *
 * Images live in [0,1] and are normalised before the augmentation. The stored images are tiles (formation.h).
 *
 * A step after every class moves the images of all classes, whose momentum coasts. The gradient of a class depends on its
 * own images alone, and how they coast until its turn is known in closed form (rt_match_coast). So a sweep is computed as one
 * batched problem: every class coasts to its turn, all gradients at once, every class steps and coasts to the end of the
 * sweep. That is the published sequential rule, not an approximation of it. `update: joint` takes one step a sweep. */
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/rng.h"
#include "methods/distill/formation.h"
#include "methods/distill/inner.h"
#include "methods/distill/match.h"

enum {
    REAL_IMAGES = 256,          /* real images per pass */
    SYN_IMAGES = 128,           /* decoded synthetic images per pass */
    GRADIENT_BYTES = 256 << 20  /* of one side's gradients per pass */
};

typedef struct idc {
    const rt_build_ctx *ctx;
    rt_dsa dsa;
    rt_model *model;
    rt_draws draws;
    rt_match match;
    rt_inner inner;
    rt_tensor *theta, *buffers;
    int64_t classes, ipc, n, px, decoded;
    double lr;
    float *images, *velocity, *g, *batch, *theta_host, *buffers_host, *dsa_real[RT_DSA_INPUTS], *dsa_syn[RT_DSA_INPUTS];
    int64_t *pick, *distinct, *order;
    int32_t *label, *take;
} idc;

static void idc_fini(idc *d)
{
    rt_match_fini(&d->match);
    rt_inner_fini(&d->inner);
    rt_tensor_destroy(d->theta);
    rt_tensor_destroy(d->buffers);
    rt_model_destroy(d->model);
    rt_draws_close(&d->draws);
    void *p[] = {d->images, d->velocity, d->g, d->batch, d->theta_host, d->buffers_host, d->pick, d->distinct, d->order,
                 d->label, d->take};
    for (size_t i = 0; i < sizeof p / sizeof *p; i++) rt_free(p[i]);
    for (int k = 0; k < RT_DSA_INPUTS; k++) {
        rt_free(d->dsa_real[k]);
        rt_free(d->dsa_syn[k]);
    }
}

/* --- building ------------------------------------------------------------------------------------------------------------ */

static rt_status make_steps(idc *d)
{
    rt_status st = RT_OK;
    const rt_build_ctx *ctx = d->ctx;
    const rt_config *c = ctx->config;
    int64_t p = rt_model_n_params(d->model), by_memory = GRADIENT_BYTES / (4 * p);
    rt_match_desc m = {.be = ctx->be, .model = d->model, .theta = d->theta, .buffers = d->buffers, .classes = d->classes,
                       .distance = !strcmp(c->idc.distance, "l1") ? RT_DISTANCE_CONV_L1 : RT_DISTANCE_CONV_L2,
                       .real = c->idc.batch_real, .syn = d->ipc, .dsa = d->dsa.n_ops > 0, .norm = &ctx->norm,
                       .factor = (int32_t)c->idc.factor, .take = c->idc.batch_syn};
    int64_t by_images = SYN_IMAGES / rt_match_decoded(&m);
    m.chunk_syn = rt_divisor_up_to(d->classes, by_images < by_memory ? by_images : by_memory);
    m.chunk_real = rt_divisor_up_to(m.chunk_syn, REAL_IMAGES / m.real);
    RT_TRY(rt_match_create(&m, &d->match));
    d->decoded = rt_match_decoded(&m);
    rt_inner_desc in = {.be = ctx->be, .model = d->model, .theta = d->theta, .buffers = d->buffers, .norm = &ctx->norm,
                        .batch = c->idc.batch_train < ctx->train->n ? c->idc.batch_train : ctx->train->n, .lr = c->idc.lr_net,
                        .momentum = c->idc.momentum_net, .weight_decay = c->idc.decay_net, .cutmix = c->idc.cutmix};
    RT_TRY(rt_dsa_parse(c->idc.dsa_train, 'I', &in.dsa));
    RT_TRY(rt_inner_create(&in, &d->inner));
out:
    return st;
}

static rt_status make_host(idc *d)
{
    rt_status st = RT_OK;
    const rt_match_desc *m = &d->match.d;
    int64_t p = rt_model_n_params(d->model), b = rt_model_n_buffers(d->model), real = m->chunk_real * m->real;
    int64_t rows = real > d->inner.d.batch ? real : d->inner.d.batch;
    RT_ALLOC(d->images, (size_t)(d->n * d->px) * sizeof(float), "synthetic images");
    RT_ALLOC(d->velocity, (size_t)(d->n * d->px) * sizeof(float), "synthetic images");
    RT_ALLOC(d->g, (size_t)(d->n * d->px) * sizeof(float), "image gradient");
    RT_ALLOC(d->batch, (size_t)(rows * d->px) * sizeof(float), "batch of images");
    RT_ALLOC(d->theta_host, (size_t)p * sizeof(float), "network");
    if (b) RT_ALLOC(d->buffers_host, (size_t)b * sizeof(float), "network");
    RT_ALLOC(d->pick, (size_t)rows * sizeof(int64_t), "real batch");
    RT_ALLOC(d->distinct, (size_t)d->classes * sizeof(int64_t), "class sizes");
    RT_ALLOC(d->order, (size_t)d->ctx->train->n * sizeof(int64_t), "order of the real images");
    RT_ALLOC(d->label, (size_t)rows * sizeof(int32_t), "labels");
    RT_ALLOC(d->take, (size_t)(m->chunk_syn * d->ipc * m->factor * m->factor) * sizeof(int32_t), "chosen images");
    for (int64_t c = 0; c < d->classes; c++) {
        int64_t members = d->draws.start[c + 1] - d->draws.start[c];
        d->distinct[c] = members < m->real ? members : m->real;
    }
    for (int k = 0; m->dsa && k < RT_DSA_INPUTS; k++) {
        RT_ALLOC(d->dsa_real[k], (size_t)(real * rt_dsa_width[k]) * sizeof(float), "augmentation parameters");
        RT_ALLOC(d->dsa_syn[k], (size_t)(m->chunk_syn * d->decoded * rt_dsa_width[k]) * sizeof(float), "augmentation parameters");
    }
out:
    return st;
}

static rt_status idc_init(idc *d, const rt_build_ctx *ctx)
{
    rt_status st = RT_OK;
    const rt_config *c = ctx->config;
    d->ctx = ctx;
    RT_TRY(rt_dsa_parse(c->idc.dsa_match, 'I', &d->dsa));
    d->dsa.siamese = 1;
    RT_TRY(rt_model_create(&ctx->net, &d->model));
    d->classes = ctx->train->classes.n;
    d->ipc = ctx->ipc;
    d->n = d->classes * d->ipc;
    d->px = (int64_t)ctx->net.size * ctx->net.size * 3;
    d->lr = c->idc.lr * (double)d->ipc / 10.0;
    RT_TRY(rt_draws_open(ctx, c->idc.iterations * c->idc.inner, c->idc.batch_real, rt_model_n_params(d->model), &d->draws));
    RT_TRY(rt_tensor_create(ctx->be, RT_SHAPE(RT_F32, rt_model_n_params(d->model)), &d->theta));
    if (rt_model_n_buffers(d->model))
        RT_TRY(rt_tensor_create(ctx->be, RT_SHAPE(RT_F32, rt_model_n_buffers(d->model)), &d->buffers));
    RT_TRY(make_steps(d));
    RT_TRY(make_host(d));
out:
    return st;
}

/* --- one iteration ------------------------------------------------------------------------------------------------------- */

static rt_status fill(const idc *d, const int64_t *idx, int64_t n)
{
    return rt_batch_fill(d->ctx->train, idx, n, &rt_unit_pixels, NULL, 0, 0, d->ctx->threads, d->batch);
}

/* `steps` training steps of the network on real images in the order of `epoch` (as often as it takes). */
static rt_status train_network(idc *d, uint64_t epoch, int64_t steps, rt_distill_step *s)
{
    rt_status st = RT_OK;
    const rt_images *train = d->ctx->train;
    uint64_t seed = rt_seed_derive(d->ctx->seed, 1); /* apart from the matching draws, which use the seed itself */
    int64_t batch = d->inner.d.batch, per_order = train->n / batch;
    for (int64_t k = 0; k < steps; k++) {
        if (k % per_order == 0) rt_epoch_order(seed, epoch << 16 | (uint64_t)(k / per_order), train->n, d->order);
        const int64_t *idx = d->order + k % per_order * batch;
        RT_TRY(fill(d, idx, batch));
        for (int64_t i = 0; i < batch; i++) d->label[i] = train->label[idx[i]];
        RT_TRY(rt_inner_train(&d->inner, d->batch, d->label, batch, seed, epoch << 20 | (uint64_t)k, &s->flops));
    }
    s->images_seen += (double)(steps * batch);
out:
    return st;
}

static rt_status real_pass(idc *d, int64_t t, int64_t first)
{
    rt_status st = RT_OK;
    int64_t b = d->match.d.real, k = d->match.d.chunk_real;
    for (int64_t c = 0; c < k; c++) {
        rt_draws_real(&d->draws, t, first + c, d->pick + c * b);
        if (d->match.d.dsa) rt_draws_dsa(&d->draws, &d->dsa, t, first + c, c * b, b, d->dsa_real);
    }
    RT_TRY(fill(d, d->pick, k * b));
    RT_TRY(rt_match_gradients(&d->match, first, d->batch, d->distinct + first, d->dsa_real));
out:
    return st;
}

/* A random subset of each class's decoded images, when there are more than enter a pass. */
static void choose(idc *d, int64_t t, int64_t first)
{
    int64_t all = d->ipc * d->match.d.factor * d->match.d.factor;
    for (int64_t c = 0; c < d->match.d.chunk_syn; c++) {
        rt_rng r = rt_rng_at(d->ctx->seed, RT_RNG_REAL_BATCH, (uint64_t)t, (uint32_t)(d->classes + first + c));
        int32_t *row = d->take + c * d->decoded;
        for (int64_t i = 0, left = d->decoded; left > 0; i++) /* selection sampling: every subset is equally likely */
            if ((int64_t)rt_rng_below(&r, (uint32_t)(all - i)) < left) row[d->decoded - left--] = (int32_t)(c * all + i);
    }
}

static rt_status sweep(idc *d, int64_t t, rt_distill_step *s)
{
    rt_status st = RT_OK;
    const rt_match_desc *m = &d->match.d;
    const rt_config *c = d->ctx->config;
    bool in_turn = !strcmp(c->idc.update, "class");
    int64_t slice = d->ipc * d->px;
    for (int64_t at = 0; at < d->classes; at += m->chunk_syn) {
        double apart;
        for (int64_t k = at; k < at + m->chunk_syn; k += m->chunk_real) RT_TRY(real_pass(d, t, k));
        for (int64_t k = 0; m->dsa && k < m->chunk_syn; k++)
            rt_draws_dsa(&d->draws, &d->dsa, t, at + k, k * d->decoded, d->decoded, d->dsa_syn);
        if (d->match.syn.pick) choose(d, t, at);
        for (int64_t k = at; in_turn && k < at + m->chunk_syn; k++)
            rt_match_coast(d->images + k * slice, d->velocity + k * slice, slice, d->lr, c->idc.momentum, k);
        RT_TRY(rt_match_images(&d->match, at, d->images + at * slice, d->take, d->dsa_syn, d->g + at * slice, &apart));
        s->loss += apart;
        s->flops += d->match.flops_syn + d->match.flops_real * (double)(m->chunk_syn / m->chunk_real);
    }
    rt_match_sgd(d->images, d->velocity, d->g, d->n * d->px, d->lr, c->idc.momentum);
    for (int64_t k = 0; in_turn && k < d->classes; k++)
        rt_match_coast(d->images + k * slice, d->velocity + k * slice, slice, d->lr, c->idc.momentum, d->classes - 1 - k);
    s->images_seen += (double)(d->classes * (m->real + d->decoded));
out:
    return st;
}

static rt_status iterate(void *self, int64_t it, rt_distill_step *s)
{
    rt_status st = RT_OK;
    idc *d = self;
    const rt_config *c = d->ctx->config;
    int64_t batch = d->inner.d.batch, inner = c->idc.inner;
    rt_draws_network(&d->draws, d->model, it * inner, d->theta_host, d->buffers_host);
    RT_TRY(rt_tensor_write(d->theta, d->theta_host, (size_t)rt_model_n_params(d->model) * sizeof(float)));
    if (d->buffers)
        RT_TRY(rt_tensor_write(d->buffers, d->buffers_host, (size_t)rt_model_n_buffers(d->model) * sizeof(float)));
    RT_TRY(rt_inner_reset(&d->inner));
    if (c->idc.pretrain) /* its own epoch numbers, above those of the sweeps */
        RT_TRY(train_network(d, (uint64_t)(1ll << 40 | it), c->idc.pretrain * (d->ctx->train->n / batch), s));
    for (int64_t i = 0; i < d->n * d->px; i++) {
        float x = d->images[i];
        d->images[i] = x < 0.0f ? 0.0f : x > 1.0f ? 1.0f : x;
    }
    for (int64_t o = 0; o < inner; o++) {
        int64_t t = it * inner + o;
        if (o && rt_stop_requested()) {
            st = RT_RAISE(RT_ERR_CANCELLED, "stopped inside iteration %lld", (long long)it);
            rt_error_fix(st, "rerun the same command: it resumes at the last checkpoint");
            goto out;
        }
        RT_TRY(sweep(d, t, s));
        if (o + 1 == inner) break; /* the network is spent */
        RT_TRY(train_network(d, (uint64_t)t, (c->idc.train_images + batch - 1) / batch, s));
        rt_progress_report(&(rt_progress){"idc", "it", (double)it + (double)(o + 1) / (double)inner, (double)c->idc.iterations, NULL});
    }
    s->loss /= (double)(d->classes * inner); /* per class and sweep */
out:
    return st;
}

/* --- frame --------------------------------------------------------------------------------------------------------------- */

static rt_status start(void *self)
{
    idc *d = self;
    memset(d->velocity, 0, (size_t)(d->n * d->px) * sizeof(float));
    return rt_formation_mix(&d->draws, d->match.d.factor, !strcmp(d->ctx->config->idc.init, "first"), d->images);
}

/* The set holds pixels of [0,1]; between two iterations images may stick out a little. */
static rt_status result(void *self, rt_set *out)
{
    rt_status st = RT_OK;
    const idc *d = self;
    float *clamped = NULL;
    RT_ALLOC(clamped, (size_t)(d->n * d->px) * sizeof(float), "images of the set");
    for (int64_t i = 0; i < d->n * d->px; i++) {
        float x = d->images[i];
        clamped[i] = x < 0.0f ? 0.0f : x > 1.0f ? 1.0f : x;
    }
    RT_TRY(rt_formation_set(d->ctx, "idc", d->match.d.factor, clamped, out));
out:
    rt_free(clamped);
    return st;
}

static rt_distill frame_of(idc *d)
{
    const rt_config *c = d->ctx->config;
    rt_distill f = {.name = "idc", .iterations = c->idc.iterations, .self = d, .start = start, .iterate = iterate,
                    .result = result};
    f.state[f.n_state++] = (rt_distill_state){"images", d->images, d->n * d->px};
    f.state[f.n_state++] = (rt_distill_state){"velocity", d->velocity, d->n * d->px};
    if (strcmp(c->idc.update, "class"))
        f.deviation[f.n_deviations++] = "one joint step per sweep instead of a step after every class";
    if (strcmp(c->idc.init, "first"))
        f.deviation[f.n_deviations++] = "initial tiles are random images of the class instead of its first ones";
    if (d->buffers) f.deviation[f.n_deviations++] = "batch-norm statistics are frozen in matching steps";
    return f;
}

static rt_status run(const rt_build_ctx *ctx, rt_set *set, rt_estimate *estimate)
{
    rt_status st = RT_OK;
    idc d = {0};
    RT_TRY(idc_init(&d, ctx));
    rt_distill f = frame_of(&d);
    if (set) RT_TRY(rt_distill_run(ctx, &f, set));
    else RT_TRY(rt_distill_estimate(ctx, &f, (double)d.match.arena_bytes, estimate));
out:
    idc_fini(&d);
    return st;
}

static rt_status construct(const rt_build_ctx *ctx, rt_set *out) { return run(ctx, out, NULL); }
static rt_status estimate(const rt_build_ctx *ctx, rt_estimate *out) { return run(ctx, NULL, out); }
static int64_t iterations(const rt_config *c) { return c->idc.iterations; }

const rt_method rt_method_idc = {.name = "idc", .family = "gradient matching", .title = "IDC (Kim et al., ICML 2022)",
                                 .stochastic = true, .iterations = iterations, .construct = construct, .estimate = estimate};
