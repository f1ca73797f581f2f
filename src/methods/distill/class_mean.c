/* Matching of class means (class_mean.h).
 *
 * Three compiled steps: the mean statistics of the real batches of some classes; loss and image gradient of a chunk of
 * classes; the update of all images. Chunks keep memory at that of `chunk` classes whatever their number; class terms
 * separate, so the result does not depend on the chunking except for rounding. */
#include "methods/distill/class_mean.h"

#include <string.h>

#include "base/alloc.h"

/* Images per step: about where convolutions peak on a CPU; a GPU needs more to fill it. */
enum { CHUNK_CPU = 256, CHUNK_GPU = 2560 };

typedef struct match {
    const rt_build_ctx *ctx;
    const rt_class_mean *m;
    rt_draws draws;
    rt_model *model;
    rt_dsa dsa;
    bool use_dsa;
    int64_t n, px, ipc, classes, dim, n_params, n_buffers; /* px: floats per image; dim: numbers in the statistic */
    int64_t chunk, real_chunk;                             /* classes per gradient step, per step over real images */
    rt_exec *real, *grad, *update;
    rt_tensor *theta, *buffers;
    rt_tensor *xr, *pr[RT_DSA_INPUTS], *mu_r;           /* real batches, their DSA parameters, mean statistics [real_chunk,dim] */
    rt_tensor *xs, *ps[RT_DSA_INPUTS], *mu, *gs, *loss; /* synthetic chunk, its parameters, targets [chunk,dim] */
    rt_tensor *all, *velocity, *g_all, *lr;             /* the whole set and its optimiser */
    float *images, *velocity_host, *g_host, *theta_host, *buffers_host, *batch, *mu_host, *dsa_host[RT_DSA_INPUTS];
    int64_t *pick;
    double flops_per_it;
} match;

static void match_fini(match *d)
{
    rt_exec_destroy(d->real);
    rt_exec_destroy(d->grad);
    rt_exec_destroy(d->update);
    rt_tensor *t[] = {d->theta, d->buffers, d->xr, d->mu_r, d->xs, d->mu, d->gs, d->loss, d->all, d->velocity, d->g_all, d->lr};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) rt_tensor_destroy(t[i]);
    for (int k = 0; k < RT_DSA_INPUTS; k++) {
        rt_tensor_destroy(d->pr[k]);
        rt_tensor_destroy(d->ps[k]);
        rt_free(d->dsa_host[k]);
    }
    rt_model_destroy(d->model);
    void *p[] = {d->images, d->velocity_host, d->g_host, d->theta_host, d->buffers_host, d->batch, d->mu_host, d->pick};
    for (size_t i = 0; i < sizeof p / sizeof *p; i++) rt_free(p[i]);
    rt_draws_close(&d->draws);
}

/* --- the three steps --------------------------------------------------------------------------------------------------- */

/* Class means [classes,dim] of the statistic over the images in tx, augmented with the parameters in p; x is the input to
 * differentiate for. */
static rt_status means_of(match *d, rt_graph *g, rt_tensor *tx, rt_tensor *const p[], int64_t classes, rt_bind *in, int *n_in,
                          rt_val *x, rt_val *means)
{
    rt_status st = RT_OK;
    rt_forward f;
    rt_val theta = rt_input(g, "theta", *rt_tensor_shape(d->theta)), buffers = {0}, v[RT_DSA_INPUTS];
    in[(*n_in)++] = (rt_bind){theta, d->theta};
    if (d->buffers) {
        buffers = rt_input(g, "buffers", *rt_tensor_shape(d->buffers));
        in[(*n_in)++] = (rt_bind){buffers, d->buffers};
    }
    *x = rt_input(g, "x", *rt_tensor_shape(tx));
    in[(*n_in)++] = (rt_bind){*x, tx};
    rt_val view = *x;
    if (d->use_dsa) {
        for (int k = 0; k < RT_DSA_INPUTS; k++) {
            v[k] = rt_input(g, rt_dsa_name[k], *rt_tensor_shape(p[k]));
            in[(*n_in)++] = (rt_bind){v[k], p[k]};
        }
        view = rt_dsa_apply(g, *x, v[0], v[1], v[2]);
    }
    /* training mode: a random network has no running statistics worth using */
    RT_TRY(rt_model_forward(d->model, g, view, theta, buffers, RT_FORWARD_TRAINING | (d->m->relus ? RT_FORWARD_RELUS : 0), &f));
    rt_val rows = d->m->statistic(d->ctx->config, g, &f);
    RT_TRY(rt_graph_status(g));
    const rt_shape *s = rt_val_shape(g, rows);
    *means = rt_mean(g, rt_reshape(g, rows, RT_SHAPE(RT_F32, classes, s->d[0] / classes, s->d[1])), 2u, false);
out:
    return st;
}

static rt_status compile_real(match *d)
{
    rt_status st = RT_OK;
    rt_graph *g = NULL;
    rt_bind in[8], bind_out[1];
    int n_in = 0;
    rt_val x, mu;
    RT_TRY(rt_graph_create(&g));
    RT_TRY(means_of(d, g, d->xr, d->pr, d->real_chunk, in, &n_in, &x, &mu));
    RT_TRY(rt_graph_status(g));
    d->dim = rt_val_shape(g, mu)->d[1];
    RT_TRY(rt_tensor_create(d->ctx->be, RT_SHAPE(RT_F32, d->real_chunk, d->dim), &d->mu_r));
    RT_TRY(rt_tensor_create(d->ctx->be, RT_SHAPE(RT_F32, d->chunk, d->dim), &d->mu));
    RT_ALLOC(d->mu_host, (size_t)(d->classes * d->dim) * sizeof(float), "mean statistics");
    bind_out[0] = (rt_bind){mu, d->mu_r};
    RT_TRY(rt_exec_prepare(d->ctx->be, g, in, n_in, bind_out, 1, NULL, &d->real));
out:
    rt_graph_destroy(g);
    return st;
}

static rt_status compile_grad(match *d)
{
    rt_status st = RT_OK;
    rt_graph *g = NULL;
    rt_bind in[8], bind_out[2];
    int n_in = 0;
    rt_val x, mean, gx;
    RT_TRY(rt_graph_create(&g));
    RT_TRY(means_of(d, g, d->xs, d->ps, d->chunk, in, &n_in, &x, &mean));
    rt_val mu = rt_input(g, "mu", *rt_tensor_shape(d->mu));
    in[n_in++] = (rt_bind){mu, d->mu};
    rt_val loss = rt_sum_all(g, rt_square(g, rt_sub(g, mu, mean)));
    RT_TRY(rt_grad(g, loss, &x, 1, &gx));
    bind_out[0] = (rt_bind){gx, d->gs};
    bind_out[1] = (rt_bind){loss, d->loss};
    RT_TRY(rt_graph_status(g));
    RT_TRY(rt_exec_prepare(d->ctx->be, g, in, n_in, bind_out, 2, NULL, &d->grad));
out:
    rt_graph_destroy(g);
    return st;
}

static rt_status compile_update(match *d)
{
    rt_status st = RT_OK;
    rt_graph *g = NULL;
    RT_TRY(rt_graph_create(&g));
    rt_val x = rt_input(g, "images", *rt_tensor_shape(d->all)), v = rt_input(g, "velocity", *rt_tensor_shape(d->all));
    rt_val gx = rt_input(g, "gradient", *rt_tensor_shape(d->all)), lr = rt_input(g, "lr", RT_SCALAR_F32), v_new;
    rt_val x_new = rt_sgd_step(g, x, v, gx, lr, rt_scalar(g, 0.0), d->m->momentum, false, &v_new);
    rt_bind in[] = {{x, d->all}, {v, d->velocity}, {gx, d->g_all}, {lr, d->lr}};
    rt_bind bind_out[] = {{x_new, d->all}, {v_new, d->velocity}};
    RT_TRY(rt_graph_status(g));
    RT_TRY(rt_exec_prepare(d->ctx->be, g, in, 4, bind_out, 2, NULL, &d->update));
out:
    rt_graph_destroy(g);
    return st;
}

static rt_status make_tensors(match *d)
{
    rt_status st = RT_OK;
    rt_backend *be = d->ctx->be;
    int64_t size = d->ctx->net.size, real = d->real_chunk * d->m->batch_real, syn = d->chunk * d->ipc;
    rt_shape whole = RT_SHAPE(RT_F32, d->n * d->px);
    float lr = (float)d->m->lr;
    RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, d->n_params), &d->theta));
    if (d->n_buffers) RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, d->n_buffers), &d->buffers));
    RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, real, size, size, 3), &d->xr));
    RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, syn, size, size, 3), &d->xs));
    RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, syn, size, size, 3), &d->gs));
    RT_TRY(rt_tensor_create(be, RT_SCALAR_F32, &d->loss));
    for (int k = 0; d->use_dsa && k < RT_DSA_INPUTS; k++) {
        int64_t rows = real > syn ? real : syn, w = rt_dsa_width[k];
        RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, real, w), &d->pr[k]));
        RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, syn, w), &d->ps[k]));
        RT_ALLOC(d->dsa_host[k], (size_t)(rows * w) * sizeof(float), "DSA parameters");
    }
    RT_TRY(rt_tensor_create(be, whole, &d->all));
    RT_TRY(rt_tensor_create(be, whole, &d->velocity));
    RT_TRY(rt_tensor_create(be, whole, &d->g_all));
    RT_TRY(rt_tensor_create(be, RT_SCALAR_F32, &d->lr));
    RT_TRY(rt_tensor_write(d->lr, &lr, sizeof lr));
out:
    return st;
}

static rt_status match_init(match *d, const rt_build_ctx *ctx, const rt_class_mean *m)
{
    rt_status st = RT_OK;
    int64_t images = strcmp(rt_backend_name(ctx->be), "cuda") ? CHUNK_CPU : CHUNK_GPU;
    d->ctx = ctx;
    d->m = m;
    d->use_dsa = *m->dsa && strcmp(m->dsa, "none") != 0;
    if (d->use_dsa) RT_TRY(rt_dsa_parse(m->dsa, 'S', &d->dsa));
    d->dsa.siamese = 1;
    RT_TRY(rt_model_create(&ctx->net, &d->model));
    d->classes = ctx->train->classes.n;
    d->ipc = ctx->ipc;
    d->n = d->classes * d->ipc;
    d->px = (int64_t)ctx->net.size * ctx->net.size * 3;
    d->chunk = rt_divisor_up_to(d->classes, images / d->ipc);
    /* Batch statistics see all real images together, as the original has it (matching.md 4.3), or as many as a step holds. */
    d->real_chunk = rt_divisor_up_to(d->classes, images / m->batch_real);
    d->n_params = rt_model_n_params(d->model);
    d->n_buffers = rt_model_n_buffers(d->model);
    size_t pixels = (size_t)(d->n * d->px) * sizeof(float);
    RT_ALLOC(d->images, pixels, "synthetic images");
    RT_ALLOC(d->velocity_host, pixels, "velocity of the images");
    RT_ALLOC(d->g_host, pixels, "image gradient");
    RT_ALLOC(d->theta_host, (size_t)d->n_params * sizeof(float), "network");
    RT_ALLOC(d->buffers_host, (size_t)d->n_buffers * sizeof(float), "network");
    RT_ALLOC(d->batch, (size_t)(d->real_chunk * m->batch_real * d->px) * sizeof(float), "real batch");
    RT_ALLOC(d->pick, (size_t)(d->real_chunk * m->batch_real) * sizeof(int64_t), "real batch");
    RT_TRY(rt_draws_open(ctx, m->iterations, m->batch_real, d->n_params, &d->draws));
    RT_TRY(make_tensors(d));
    RT_TRYF(compile_real(d), "mean statistics of real batches");
    RT_TRYF(compile_grad(d), "matching gradient");
    RT_TRYF(compile_update(d), "image update");
    rt_exec_stats r, g;
    rt_exec_get_stats(d->real, &r);
    rt_exec_get_stats(d->grad, &g);
    d->flops_per_it = r.flops * (double)(d->classes / d->real_chunk) + g.flops * (double)(d->classes / d->chunk);
out:
    return st;
}

/* --- one iteration ------------------------------------------------------------------------------------------------------ */

static rt_status write_dsa(match *d, rt_tensor *const p[], int64_t rows)
{
    rt_status st = RT_OK;
    for (int k = 0; k < RT_DSA_INPUTS; k++)
        RT_TRY(rt_tensor_write(p[k], d->dsa_host[k], (size_t)(rows * rt_dsa_width[k]) * sizeof(float)));
out:
    return st;
}

/* Targets of classes [first, first + real_chunk). */
static rt_status real_means(match *d, int64_t it, int64_t first)
{
    rt_status st = RT_OK;
    int64_t b = d->m->batch_real, n = d->real_chunk * b;
    for (int64_t k = 0; k < d->real_chunk; k++) rt_draws_real(&d->draws, it, first + k, d->pick + k * b);
    RT_TRY(rt_batch_fill(d->ctx->train, d->pick, n, &d->ctx->norm, NULL, 0, 0, d->ctx->threads, d->batch));
    RT_TRY(rt_tensor_write(d->xr, d->batch, (size_t)(n * d->px) * sizeof(float)));
    if (d->use_dsa) {
        for (int64_t k = 0; k < d->real_chunk; k++) rt_draws_dsa(&d->draws, &d->dsa, it, first + k, k * b, b, d->dsa_host);
        RT_TRY(write_dsa(d, d->pr, n));
    }
    RT_TRY(rt_exec_run(d->real));
    RT_TRY(rt_tensor_read(d->mu_r, d->mu_host + first * d->dim, (size_t)(d->real_chunk * d->dim) * sizeof(float)));
out:
    return st;
}

static rt_status chunk_gradient(match *d, int64_t it, int64_t first, double *loss)
{
    rt_status st = RT_OK;
    float l;
    size_t pixels = (size_t)(d->chunk * d->ipc * d->px);
    RT_TRY(rt_tensor_write(d->mu, d->mu_host + first * d->dim, (size_t)(d->chunk * d->dim) * sizeof(float)));
    RT_TRY(rt_tensor_write(d->xs, d->images + first * d->ipc * d->px, pixels * sizeof(float)));
    if (d->use_dsa) {
        for (int64_t k = 0; k < d->chunk; k++)
            rt_draws_dsa(&d->draws, &d->dsa, it, first + k, k * d->ipc, d->ipc, d->dsa_host);
        RT_TRY(write_dsa(d, d->ps, d->chunk * d->ipc));
    }
    RT_TRY(rt_exec_run(d->grad));
    RT_TRY(rt_tensor_read(d->gs, d->g_host + first * d->ipc * d->px, pixels * sizeof(float)));
    RT_TRY(rt_tensor_read(d->loss, &l, sizeof l));
    *loss += (double)l;
out:
    return st;
}

static rt_status iterate(void *self, int64_t it, rt_distill_step *s)
{
    rt_status st = RT_OK;
    match *d = self;
    size_t bytes = (size_t)(d->n * d->px) * sizeof(float);
    rt_draws_network(&d->draws, d->model, it, d->theta_host, d->buffers_host);
    RT_TRY(rt_tensor_write(d->theta, d->theta_host, (size_t)d->n_params * sizeof(float)));
    if (d->buffers) RT_TRY(rt_tensor_write(d->buffers, d->buffers_host, (size_t)d->n_buffers * sizeof(float)));
    for (int64_t c = 0; c < d->classes; c += d->real_chunk) RT_TRY(real_means(d, it, c));
    for (int64_t c = 0; c < d->classes; c += d->chunk) RT_TRY(chunk_gradient(d, it, c, &s->loss));
    RT_TRY(rt_tensor_write(d->g_all, d->g_host, bytes));
    RT_TRY(rt_exec_run(d->update));
    RT_TRY(rt_tensor_read(d->all, d->images, bytes));
    s->flops = d->flops_per_it;
    s->images_seen = (double)(d->classes * d->m->batch_real + d->n);
out:
    return st;
}

/* --- the frame ---------------------------------------------------------------------------------------------------------- */

static rt_status start(void *self)
{
    match *d = self;
    return rt_draws_initial(&d->draws, d->m->init_noise, d->images, NULL); /* the velocity starts at the zeros it is made of */
}

static rt_status push(void *self)
{
    rt_status st = RT_OK;
    match *d = self;
    size_t bytes = (size_t)(d->n * d->px) * sizeof(float);
    RT_TRY(rt_tensor_write(d->all, d->images, bytes));
    RT_TRY(rt_tensor_write(d->velocity, d->velocity_host, bytes));
out:
    return st;
}

static rt_status pull(void *self)
{
    match *d = self; /* the images are read in every iteration */
    return rt_tensor_read(d->velocity, d->velocity_host, (size_t)(d->n * d->px) * sizeof(float));
}

static rt_status result(void *self, rt_set *out)
{
    match *d = self;
    return rt_distill_set(d->ctx, d->m->name, d->images, out);
}

static rt_distill frame(match *d)
{
    rt_distill f = {.name = d->m->name, .iterations = d->m->iterations, .self = d, .n_state = 2,
                    .state = {{"images", d->images, d->n * d->px}, {"velocity", d->velocity_host, d->n * d->px}},
                    .n_deviations = d->m->n_deviations, .start = start, .push = push, .pull = pull, .iterate = iterate,
                    .result = result};
    memcpy(f.deviation, d->m->deviation, sizeof f.deviation);
    return f;
}

rt_status rt_class_mean_construct(const rt_build_ctx *ctx, const rt_class_mean *m, rt_set *out)
{
    rt_status st = RT_OK;
    match d = {0};
    RT_TRY(match_init(&d, ctx, m));
    rt_distill f = frame(&d);
    RT_TRY(rt_distill_run(ctx, &f, out));
out:
    match_fini(&d);
    return st;
}

rt_status rt_class_mean_estimate(const rt_build_ctx *ctx, const rt_class_mean *m, rt_estimate *out)
{
    rt_status st = RT_OK;
    match d = {0};
    rt_exec_stats real, grad;
    RT_TRY(match_init(&d, ctx, m));
    rt_exec_get_stats(d.real, &real);
    rt_exec_get_stats(d.grad, &grad);
    rt_distill f = frame(&d);
    RT_TRY(rt_distill_estimate(ctx, &f, (double)(real.arena_bytes + real.bound_bytes + grad.arena_bytes + grad.bound_bytes), out));
out:
    match_fini(&d);
    return st;
}
