/* Gradient matching: DC (Zhao, Mopuri, Bilen: "Dataset Condensation with Gradient Matching", ICLR 2021; matching.md 4.1) and
 * DSA (Zhao, Bilen: "Dataset Condensation with Differentiable Siamese Augmentation", ICML 2021; matching.md 4.2).
 *
 *     repeat `iterations` times:
 *         theta <- fresh network
 *         for outer step 0 .. outer-1:
 *             L = sum_c D(grad of B_r real images of c, grad of all synthetic images of c)      (match.h)
 *             one SGD step with momentum on ALL images
 *             unless it is the last: train theta on the images as they are, `inner` epochs
 *
 * DSA is DC plus: initial images are real, one siamese augmentation per class and outer step on both sides, the network is
 * trained with augmentation (drawn per image). Real gradients are constants; nothing flows through the network's training.
 * With batch norm, a forward pass over 16 real images of every class updates the running statistics before each outer step,
 * and matching uses them frozen.
 *
 * Every draw of an outer step is keyed by iteration * outer + step, the network by that of its first step. */
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/rng.h"
#include "methods/distill/inner.h"
#include "methods/distill/match.h"

enum {
    REAL_IMAGES = 256,      /* real images per pass: where convolutions have long peaked */
    SYN_IMAGES = 128,       /* synthetic images per pass */
    GRADIENT_BYTES = 256 << 20, /* of one side's gradients per pass */
    BN_IMAGES = 16          /* real images per class that set batch-norm statistics */
};

typedef struct dc {
    const rt_build_ctx *ctx;
    const char *name;
    bool use_dsa;
    rt_dsa dsa;
    rt_model *model;
    rt_draws draws;
    rt_match match;
    rt_inner inner;
    rt_exec *statistics;    /* batch norm: forward in training mode */
    rt_tensor *theta, *buffers, *x_statistics;
    int64_t classes, ipc, n, px, outer, inner_epochs, batch_real;
    float *images, *velocity, *g, *batch, *theta_host, *buffers_host, *dsa_real[RT_DSA_INPUTS], *dsa_syn[RT_DSA_INPUTS];
    int64_t *pick, *distinct, *order;
    int32_t *label, *batch_label;
    double peak_bytes;
} dc;

/* The published loops (matching.md 4.1) for 1, 10, 20, ... 50 images per class; between and beyond them the rule they follow:
 * as many outer steps as images per class, and training that shows the network about 500 epochs' worth of one image. */
static void published_loops(int64_t ipc, int64_t *outer, int64_t *inner)
{
    static const int64_t row[][3] = {{1, 1, 1}, {10, 10, 50}, {20, 20, 25}, {30, 30, 20}, {40, 40, 15}, {50, 50, 10}};
    *outer = ipc < 50 ? ipc : 50;
    *inner = ipc <= 10 ? 50 : 500 / ipc > 1 ? 500 / ipc : 1;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        if (row[i][0] == ipc) {
            *outer = row[i][1];
            *inner = row[i][2];
        }
}

static void dc_fini(dc *d)
{
    rt_match_fini(&d->match);
    rt_inner_fini(&d->inner);
    rt_exec_destroy(d->statistics);
    rt_tensor_destroy(d->theta);
    rt_tensor_destroy(d->buffers);
    rt_tensor_destroy(d->x_statistics);
    rt_model_destroy(d->model);
    rt_draws_close(&d->draws);
    void *p[] = {d->images, d->velocity, d->g, d->batch, d->theta_host, d->buffers_host, d->pick, d->distinct, d->order,
                 d->label, d->batch_label};
    for (size_t i = 0; i < sizeof p / sizeof *p; i++) rt_free(p[i]);
    for (int k = 0; k < RT_DSA_INPUTS; k++) {
        rt_free(d->dsa_real[k]);
        rt_free(d->dsa_syn[k]);
    }
}

/* --- building ------------------------------------------------------------------------------------------------------------ */

static rt_distance distance_of(const char *name)
{
    return !strcmp(name, "mse") ? RT_DISTANCE_MSE : !strcmp(name, "cos") ? RT_DISTANCE_COS : RT_DISTANCE_COSINE;
}

static rt_status make_match(dc *d)
{
    const rt_build_ctx *ctx = d->ctx;
    int64_t p = rt_model_n_params(d->model), by_memory = GRADIENT_BYTES / (4 * p);
    int64_t by_images = SYN_IMAGES / d->ipc, syn = by_images < by_memory ? by_images : by_memory;
    syn = rt_divisor_up_to(d->classes, syn);
    rt_match_desc m = {.be = ctx->be, .model = d->model, .distance = distance_of(ctx->config->dc.distance), .theta = d->theta,
                       .buffers = d->buffers, .classes = d->classes, .real = d->batch_real, .syn = d->ipc, .chunk_syn = syn,
                       .chunk_real = rt_divisor_up_to(syn, REAL_IMAGES / d->batch_real), .dsa = d->use_dsa};
    return rt_match_create(&m, &d->match);
}

static rt_status make_inner(dc *d)
{
    const rt_config *c = d->ctx->config;
    rt_inner_desc in = {.be = d->ctx->be, .model = d->model, .theta = d->theta, .buffers = d->buffers, .lr = c->dc.lr_net,
                        .batch = c->dc.batch_train < d->n ? c->dc.batch_train : d->n};
    if (d->use_dsa) {
        in.dsa = d->dsa;
        in.dsa.siamese = 0;
    }
    return rt_inner_create(&in, &d->inner);
}

static rt_status make_statistics(dc *d)
{
    rt_status st = RT_OK;
    rt_graph *g = NULL;
    rt_forward f;
    int32_t size = d->ctx->net.size;
    RT_TRY(rt_tensor_create(d->ctx->be, RT_SHAPE(RT_F32, BN_IMAGES * d->classes, size, size, 3), &d->x_statistics));
    RT_TRY(rt_graph_create(&g));
    rt_val x = rt_input(g, "x", *rt_tensor_shape(d->x_statistics)), theta = rt_input(g, "theta", *rt_tensor_shape(d->theta));
    rt_val buffers = rt_input(g, "buffers", *rt_tensor_shape(d->buffers));
    rt_bind in[] = {{x, d->x_statistics}, {theta, d->theta}, {buffers, d->buffers}}, out[1];
    RT_TRY(rt_model_forward(d->model, g, x, theta, buffers, 1, &f));
    out[0] = (rt_bind){f.buffers_new, d->buffers};
    RT_TRY(rt_exec_prepare(d->ctx->be, g, in, 3, out, 1, NULL, &d->statistics));
out:
    rt_graph_destroy(g);
    return st;
}

static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

static rt_status make_host(dc *d)
{
    rt_status st = RT_OK;
    int64_t p = rt_model_n_params(d->model), b = rt_model_n_buffers(d->model), chunk = d->match.d.chunk_real * d->batch_real;
    int64_t rows = most(most(chunk, d->inner.d.batch), d->buffers ? BN_IMAGES * d->classes : 0);
    RT_ALLOC(d->images, (size_t)(d->n * d->px) * sizeof(float), "synthetic images");
    RT_ALLOC(d->velocity, (size_t)(d->n * d->px) * sizeof(float), "synthetic images");
    RT_ALLOC(d->g, (size_t)(d->n * d->px) * sizeof(float), "image gradient");
    RT_ALLOC(d->batch, (size_t)(rows * d->px) * sizeof(float), "batch of images");
    RT_ALLOC(d->theta_host, (size_t)p * sizeof(float), "network");
    if (b) RT_ALLOC(d->buffers_host, (size_t)b * sizeof(float), "network");
    RT_ALLOC(d->pick, (size_t)most(rows, d->batch_real) * sizeof(int64_t), "real batch");
    RT_ALLOC(d->distinct, (size_t)d->classes * sizeof(int64_t), "class sizes");
    RT_ALLOC(d->order, (size_t)d->n * sizeof(int64_t), "order of the images");
    RT_ALLOC(d->label, (size_t)d->n * sizeof(int32_t), "labels");
    RT_ALLOC(d->batch_label, (size_t)d->inner.d.batch * sizeof(int32_t), "labels");
    for (int64_t i = 0; i < d->n; i++) d->label[i] = (int32_t)(i / d->ipc);
    for (int64_t c = 0; c < d->classes; c++) {
        int64_t members = d->draws.start[c + 1] - d->draws.start[c];
        d->distinct[c] = members < d->batch_real ? members : d->batch_real;
    }
    for (int k = 0; d->use_dsa && k < RT_DSA_INPUTS; k++) {
        RT_ALLOC(d->dsa_real[k], (size_t)(chunk * rt_dsa_width[k]) * sizeof(float), "DSA parameters");
        RT_ALLOC(d->dsa_syn[k], (size_t)(d->match.d.chunk_syn * d->ipc * rt_dsa_width[k]) * sizeof(float), "DSA parameters");
    }
out:
    return st;
}

static rt_status dc_init(dc *d, const rt_build_ctx *ctx, const char *name)
{
    rt_status st = RT_OK;
    const rt_config *c = ctx->config;
    d->ctx = ctx;
    d->name = name;
    d->use_dsa = !strcmp(name, "dsa") && *c->dc.dsa && strcmp(c->dc.dsa, "none");
    if (d->use_dsa) RT_TRY(rt_dsa_parse(c->dc.dsa, 'S', &d->dsa));
    d->dsa.siamese = 1;
    RT_TRY(rt_model_create(&ctx->net, &d->model));
    d->classes = ctx->train->classes.n;
    d->ipc = ctx->ipc;
    d->n = d->classes * d->ipc;
    d->px = (int64_t)ctx->net.size * ctx->net.size * 3;
    d->batch_real = c->dc.batch_real;
    published_loops(d->ipc, &d->outer, &d->inner_epochs);
    if (c->dc.outer) d->outer = c->dc.outer;
    if (c->dc.inner) d->inner_epochs = c->dc.inner;
    RT_TRY(rt_draws_open(ctx, c->dc.iterations * d->outer, d->batch_real, rt_model_n_params(d->model), &d->draws));
    RT_TRY(rt_tensor_create(ctx->be, RT_SHAPE(RT_F32, rt_model_n_params(d->model)), &d->theta));
    if (rt_model_n_buffers(d->model)) {
        RT_TRY(rt_tensor_create(ctx->be, RT_SHAPE(RT_F32, rt_model_n_buffers(d->model)), &d->buffers));
        RT_TRY(make_statistics(d));
    }
    RT_TRY(make_match(d));
    RT_TRY(make_inner(d));
    RT_TRY(make_host(d));
    d->peak_bytes = (double)d->match.arena_bytes;
out:
    return st;
}

/* --- one iteration ------------------------------------------------------------------------------------------------------- */

static rt_status fill(const dc *d, const int64_t *idx, int64_t n)
{
    return rt_batch_fill(d->ctx->train, idx, n, &d->ctx->norm, NULL, 0, 0, d->ctx->threads, d->batch);
}

/* 16 distinct members of a class; all of them, repeated, when there are no more than that. */
static void pick_few(const int64_t *member, int64_t n, rt_rng *r, int64_t *pick)
{
    for (int64_t i = 0, k; i < BN_IMAGES; i++) {
        do {
            pick[i] = n > BN_IMAGES ? member[rt_rng_below(r, (uint32_t)n)] : member[i % n];
            for (k = 0; k < i && pick[k] != pick[i]; k++) {}
        } while (n > BN_IMAGES && k < i);
    }
}

/* Running statistics from 16 real images of every class. */
static rt_status set_statistics(dc *d, int64_t t)
{
    rt_status st = RT_OK;
    for (int64_t c = 0; c < d->classes; c++) {
        const int64_t *member = d->draws.by_class + d->draws.start[c], n = d->draws.start[c + 1] - d->draws.start[c];
        rt_rng r = rt_rng_at(d->ctx->seed, RT_RNG_REAL_BATCH, (uint64_t)t, (uint32_t)(d->classes + c));
        pick_few(member, n, &r, d->pick + c * BN_IMAGES);
    }
    RT_TRY(fill(d, d->pick, BN_IMAGES * d->classes));
    RT_TRY(rt_tensor_write(d->x_statistics, d->batch, (size_t)(BN_IMAGES * d->classes * d->px) * sizeof(float)));
    RT_TRY(rt_exec_run(d->statistics));
out:
    return st;
}

/* Gradients of the real images of classes [first, first + chunk_real). */
static rt_status real_pass(dc *d, int64_t t, int64_t first)
{
    rt_status st = RT_OK;
    int64_t b = d->batch_real, k = d->match.d.chunk_real;
    for (int64_t c = 0; c < k; c++) {
        rt_draws_real(&d->draws, t, first + c, d->pick + c * b);
        if (d->use_dsa) rt_draws_dsa(&d->draws, &d->dsa, t, first + c, c * b, b, d->dsa_real);
    }
    RT_TRY(fill(d, d->pick, k * b));
    RT_TRY(rt_match_gradients(&d->match, first, d->batch, d->distinct + first, d->dsa_real));
out:
    return st;
}

static rt_status match_all(dc *d, int64_t t, rt_distill_step *s)
{
    rt_status st = RT_OK;
    const rt_match_desc *m = &d->match.d;
    for (int64_t at = 0; at < d->classes; at += m->chunk_syn) {
        double apart;
        for (int64_t c = at; c < at + m->chunk_syn; c += m->chunk_real) RT_TRY(real_pass(d, t, c));
        for (int64_t c = 0; d->use_dsa && c < m->chunk_syn; c++)
            rt_draws_dsa(&d->draws, &d->dsa, t, at + c, c * d->ipc, d->ipc, d->dsa_syn);
        float *x = d->images + at * d->ipc * d->px, *g = d->g + at * d->ipc * d->px;
        RT_TRY(rt_match_images(&d->match, at, x, NULL, d->dsa_syn, g, &apart));
        s->loss += apart;
        s->flops += d->match.flops_syn + d->match.flops_real * (double)(m->chunk_syn / m->chunk_real);
    }
    s->images_seen += (double)(d->classes * d->batch_real + d->n);
out:
    return st;
}

/* `inner` epochs on the images as they are; t keys order and augmentation. */
static rt_status train_network(dc *d, int64_t t, rt_distill_step *s)
{
    rt_status st = RT_OK;
    int64_t batch = d->inner.d.batch, steps = (d->n + batch - 1) / batch;
    uint64_t seed = rt_seed_derive(d->ctx->seed, 1); /* apart from the siamese draws, which use the seed itself */
    for (int64_t e = 0; e < d->inner_epochs; e++) {
        uint64_t epoch = (uint64_t)(t * d->inner_epochs + e);
        rt_epoch_order(seed, epoch, d->n, d->order);
        for (int64_t k = 0; k < steps; k++) {
            int64_t n = d->n - k * batch < batch ? d->n - k * batch : batch;
            for (int64_t i = 0; i < n; i++) {
                int64_t from = d->order[k * batch + i];
                memcpy(d->batch + i * d->px, d->images + from * d->px, (size_t)d->px * sizeof(float));
                d->batch_label[i] = d->label[from];
            }
            RT_TRY(rt_inner_train(&d->inner, d->batch, d->batch_label, n, seed, epoch * (uint64_t)steps + (uint64_t)k, &s->flops));
        }
    }
    s->images_seen += (double)(d->inner_epochs * d->n);
out:
    return st;
}

static rt_status iterate(void *self, int64_t it, rt_distill_step *s)
{
    rt_status st = RT_OK;
    dc *d = self;
    const rt_config *c = d->ctx->config;
    rt_draws_network(&d->draws, d->model, it * d->outer, d->theta_host, d->buffers_host);
    RT_TRY(rt_tensor_write(d->theta, d->theta_host, (size_t)rt_model_n_params(d->model) * sizeof(float)));
    if (d->buffers)
        RT_TRY(rt_tensor_write(d->buffers, d->buffers_host, (size_t)rt_model_n_buffers(d->model) * sizeof(float)));
    RT_TRY(rt_inner_reset(&d->inner));
    for (int64_t o = 0; o < d->outer; o++) {
        int64_t t = it * d->outer + o;
        if (o && rt_stop_requested()) {
            st = RT_RAISE(RT_ERR_CANCELLED, "stopped inside iteration %lld", (long long)it);
            rt_error_fix(st, "rerun the same command: it resumes at the last checkpoint");
            goto out;
        }
        if (d->buffers) RT_TRY(set_statistics(d, t));
        RT_TRY(match_all(d, t, s));
        rt_match_sgd(d->images, d->velocity, d->g, d->n * d->px, c->dc.lr, c->dc.momentum);
        if (o + 1 == d->outer) break; /* the network is spent */
        RT_TRY(train_network(d, t, s));
        double done = (double)it + (double)(o + 1) / (double)d->outer;
        rt_progress_report(&(rt_progress){d->name, "it", done, (double)c->dc.iterations, NULL});
    }
    s->loss /= (double)(d->classes * d->outer); /* per class and outer step, as the original prints it */
out:
    return st;
}

/* --- frame --------------------------------------------------------------------------------------------------------------- */

static rt_status start(void *self)
{
    rt_status st = RT_OK;
    dc *d = self;
    const char *init = d->ctx->config->dc.init;
    bool noise = !strcmp(init, "noise") || (!strcmp(init, "published") && !strcmp(d->name, "dc"));
    RT_TRY(rt_draws_initial(&d->draws, noise, d->images, NULL));
    memset(d->velocity, 0, (size_t)(d->n * d->px) * sizeof(float));
out:
    return st;
}

static rt_status result(void *self, rt_set *out)
{
    const dc *d = self;
    return rt_distill_set(d->ctx, d->name, d->images, out);
}

static rt_distill frame_of(dc *d)
{
    rt_distill f = {.name = d->name, .iterations = d->ctx->config->dc.iterations, .self = d, .start = start, .iterate = iterate,
                    .result = result};
    f.state[f.n_state++] = (rt_distill_state){"images", d->images, d->n * d->px};
    f.state[f.n_state++] = (rt_distill_state){"velocity", d->velocity, d->n * d->px};
    if (d->ipc != 1 && d->ipc % 10 && !(d->ctx->config->dc.outer && d->ctx->config->dc.inner))
        f.deviation[f.n_deviations++] = "no loops are published for this number of images per class: they follow the published rule";
    return f;
}

static rt_status run(const rt_build_ctx *ctx, const char *name, rt_set *set, rt_estimate *estimate)
{
    rt_status st = RT_OK;
    dc d = {0};
    RT_TRY(dc_init(&d, ctx, name));
    rt_distill f = frame_of(&d);
    if (set) RT_TRY(rt_distill_run(ctx, &f, set));
    else RT_TRY(rt_distill_estimate(ctx, &f, d.peak_bytes, estimate));
out:
    dc_fini(&d);
    return st;
}

static rt_status construct_dc(const rt_build_ctx *ctx, rt_set *out) { return run(ctx, "dc", out, NULL); }
static rt_status construct_dsa(const rt_build_ctx *ctx, rt_set *out) { return run(ctx, "dsa", out, NULL); }
static rt_status estimate_dc(const rt_build_ctx *ctx, rt_estimate *out) { return run(ctx, "dc", NULL, out); }
static rt_status estimate_dsa(const rt_build_ctx *ctx, rt_estimate *out) { return run(ctx, "dsa", NULL, out); }
static int64_t iterations(const rt_config *c) { return c->dc.iterations; }

const rt_method rt_method_dc = {.name = "dc", .family = "gradient matching", .title = "DC (Zhao et al., ICLR 2021)",
                                .stochastic = true, .iterations = iterations, .construct = construct_dc, .estimate = estimate_dc};
const rt_method rt_method_dsa = {.name = "dsa", .section = "dc", .family = "gradient matching",
                                 .title = "DSA (Zhao & Bilen, ICML 2021)", .stochastic = true, .iterations = iterations,
                                 .construct = construct_dsa, .estimate = estimate_dsa};
