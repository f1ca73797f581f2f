/* Distribution matching (Zhao & Bilen, "Dataset Condensation with Distribution Matching", WACV 2023; matching.md 4.3).
 *
 *   min_S  E_theta,omega  sum_c || mean psi_theta(A_omega T_c) - mean psi_theta(A_omega S_c) ||^2
 *
 * psi: features before the classifier of a freshly initialised, never trained network, a new one every iteration. A: one
 * siamese DSA draw per class and iteration, shared by the real and the synthetic images of that class. The real features
 * are constants. The classes are summed and the images take ONE joint SGD step (momentum) per iteration.
 *
 * Three compiled steps: the mean feature of one class's real batch; loss and image gradient of a chunk of classes; the
 * update of all images. Chunks keep memory at that of `chunk` classes whatever their number; class terms separate, so the
 * result does not depend on the chunking except for rounding. */
#include "methods/distill/dm.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"

enum { CHUNK_IMAGES = 256 }; /* synthetic images per gradient step: about the batch where convolutions peak */

static void dm_fini(rt_dm *d)
{
    rt_exec_destroy(d->real);
    rt_exec_destroy(d->grad);
    rt_exec_destroy(d->update);
    rt_tensor *t[] = {d->theta, d->buffers, d->xr, d->mu_r, d->xs, d->mu, d->gs, d->loss, d->all, d->velocity, d->g_all, d->lr};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) rt_tensor_destroy(t[i]);
    for (int k = 0; k < DM_DSA_INPUTS; k++) {
        rt_tensor_destroy(d->pr[k]);
        rt_tensor_destroy(d->ps[k]);
        rt_free(d->dsa_host[k]);
    }
    rt_model_destroy(d->model);
    void *p[] = {d->images, d->g_host, d->theta_host, d->buffers_host, d->batch, d->mu_host, d->by_class, d->start, d->pick};
    for (size_t i = 0; i < sizeof p / sizeof *p; i++) rt_free(p[i]);
    rt_st_close(d->weights);
    rt_st_close(d->order);
}

/* --- the three steps --------------------------------------------------------------------------------------------------- */

/* Features of the images in tx after augmentation with the parameters in p; x is the input to differentiate for. */
static rt_status features_of(rt_dm *d, rt_graph *g, rt_tensor *tx, rt_tensor *const p[], rt_bind *in, int *n_in, rt_val *x,
                             rt_val *features)
{
    rt_forward f;
    rt_val theta = rt_input(g, "theta", *rt_tensor_shape(d->theta)), buffers = {0}, v[DM_DSA_INPUTS];
    in[(*n_in)++] = (rt_bind){theta, d->theta};
    if (d->buffers) {
        buffers = rt_input(g, "buffers", *rt_tensor_shape(d->buffers));
        in[(*n_in)++] = (rt_bind){buffers, d->buffers};
    }
    *x = rt_input(g, "x", *rt_tensor_shape(tx));
    in[(*n_in)++] = (rt_bind){*x, tx};
    rt_val view = *x;
    if (d->use_dsa) {
        for (int k = 0; k < DM_DSA_INPUTS; k++) {
            v[k] = rt_input(g, rt_dm_dsa_name[k], *rt_tensor_shape(p[k]));
            in[(*n_in)++] = (rt_bind){v[k], p[k]};
        }
        view = rt_dsa_apply(g, *x, v[0], v[1], v[2]);
    }
    /* training mode: a random network has no running statistics worth using */
    rt_status st = rt_model_forward(d->model, g, view, theta, buffers, 1, &f);
    if (st == RT_OK) *features = f.features;
    return st;
}

static rt_status compile_real(rt_dm *d)
{
    rt_status st = RT_OK;
    rt_graph *g = NULL;
    rt_bind in[8], bind_out[1];
    int n_in = 0;
    rt_val x, f;
    RT_TRY(rt_graph_create(&g));
    RT_TRY(features_of(d, g, d->xr, d->pr, in, &n_in, &x, &f));
    bind_out[0] = (rt_bind){rt_mean(g, f, 1u, false), d->mu_r};
    RT_TRY(rt_graph_status(g));
    RT_TRY(rt_exec_prepare(d->ctx->be, g, in, n_in, bind_out, 1, NULL, &d->real));
out:
    rt_graph_destroy(g);
    return st;
}

static rt_status compile_grad(rt_dm *d)
{
    rt_status st = RT_OK;
    rt_graph *g = NULL;
    rt_bind in[8], bind_out[2];
    int n_in = 0;
    rt_val x, f, gx;
    RT_TRY(rt_graph_create(&g));
    RT_TRY(features_of(d, g, d->xs, d->ps, in, &n_in, &x, &f));
    rt_val mu = rt_input(g, "mu", *rt_tensor_shape(d->mu));
    in[n_in++] = (rt_bind){mu, d->mu};
    rt_val mean = rt_mean(g, rt_reshape(g, f, RT_SHAPE(RT_F32, d->chunk, d->ipc, d->dim)), 2u, false);
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

static rt_status compile_update(rt_dm *d)
{
    rt_status st = RT_OK;
    rt_graph *g = NULL;
    RT_TRY(rt_graph_create(&g));
    rt_val x = rt_input(g, "images", *rt_tensor_shape(d->all)), v = rt_input(g, "velocity", *rt_tensor_shape(d->all));
    rt_val gx = rt_input(g, "gradient", *rt_tensor_shape(d->all)), lr = rt_input(g, "lr", RT_SCALAR_F32), v_new;
    rt_val x_new = rt_sgd_step(g, x, v, gx, lr, rt_scalar(g, 0.0), d->ctx->dm.momentum, false, &v_new);
    rt_bind in[] = {{x, d->all}, {v, d->velocity}, {gx, d->g_all}, {lr, d->lr}};
    rt_bind bind_out[] = {{x_new, d->all}, {v_new, d->velocity}};
    RT_TRY(rt_graph_status(g));
    RT_TRY(rt_exec_prepare(d->ctx->be, g, in, 4, bind_out, 2, NULL, &d->update));
out:
    rt_graph_destroy(g);
    return st;
}

static rt_status make_tensors(rt_dm *d)
{
    rt_status st = RT_OK;
    rt_backend *be = d->ctx->be;
    int64_t size = d->ctx->net.size, real = d->ctx->dm.batch_real, syn = d->chunk * d->ipc;
    rt_shape whole = RT_SHAPE(RT_F32, d->n * d->px);
    float lr = (float)d->ctx->dm.lr;
    RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, d->n_params), &d->theta));
    if (d->n_buffers) RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, d->n_buffers), &d->buffers));
    RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, real, size, size, 3), &d->xr));
    RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, d->dim), &d->mu_r));
    RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, syn, size, size, 3), &d->xs));
    RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, syn, size, size, 3), &d->gs));
    RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, d->chunk, d->dim), &d->mu));
    RT_TRY(rt_tensor_create(be, RT_SCALAR_F32, &d->loss));
    for (int k = 0; d->use_dsa && k < DM_DSA_INPUTS; k++) {
        int64_t rows = real > syn ? real : syn, w = rt_dm_dsa_width[k];
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

static int64_t largest_divisor_up_to(int64_t n, int64_t limit)
{
    for (int64_t k = limit < n ? limit : n; k > 1; k--)
        if (n % k == 0) return k;
    return 1;
}

static rt_status dm_init(rt_dm *d, const rt_build_ctx *ctx)
{
    rt_status st = RT_OK;
    const char *strategy = ctx->dm.dsa_strategy;
    d->ctx = ctx;
    d->use_dsa = strategy && *strategy && strcmp(strategy, "none") != 0;
    if (d->use_dsa) RT_TRY(rt_dsa_parse(strategy, 'S', &d->dsa));
    d->dsa.siamese = 1;
    RT_TRY(rt_model_create(&ctx->net, &d->model));
    d->classes = ctx->train->classes.n;
    d->ipc = ctx->ipc;
    d->n = d->classes * d->ipc;
    d->px = (int64_t)ctx->net.size * ctx->net.size * 3;
    d->chunk = largest_divisor_up_to(d->classes, CHUNK_IMAGES / d->ipc);
    d->dim = rt_model_feature_dim(d->model);
    d->n_params = rt_model_n_params(d->model);
    d->n_buffers = rt_model_n_buffers(d->model);
    RT_ALLOC(d->images, (size_t)(d->n * d->px) * sizeof(float), "synthetic images");
    RT_ALLOC(d->g_host, (size_t)(d->n * d->px) * sizeof(float), "image gradient");
    RT_ALLOC(d->theta_host, (size_t)d->n_params * sizeof(float), "network");
    RT_ALLOC(d->buffers_host, (size_t)d->n_buffers * sizeof(float), "network");
    RT_ALLOC(d->batch, (size_t)(ctx->dm.batch_real * d->px) * sizeof(float), "real batch");
    RT_ALLOC(d->mu_host, (size_t)(d->chunk * d->dim) * sizeof(float), "mean features");
    RT_ALLOC(d->pick, (size_t)(2 * ctx->dm.batch_real) * sizeof(int64_t), "real batch");
    RT_TRY(rt_images_by_class(ctx->train, &d->by_class, &d->start));
    for (int64_t c = 0; c < d->classes; c++)
        if (d->start[c + 1] == d->start[c]) {
            st = RT_RAISE(RT_ERR_FORMAT, "class %lld (%s) has no training image", (long long)c, ctx->train->classes.name[c]);
            goto out;
        }
    RT_TRY(rt_dm_open_draws(d));
    RT_TRY(make_tensors(d));
    RT_TRYF(compile_real(d), "mean feature of a real batch");
    RT_TRYF(compile_grad(d), "matching gradient");
    RT_TRYF(compile_update(d), "image update");
    rt_exec_stats r, g;
    rt_exec_get_stats(d->real, &r);
    rt_exec_get_stats(d->grad, &g);
    d->flops_per_it = r.flops * (double)d->classes + g.flops * (double)(d->classes / d->chunk);
out:
    return st;
}

/* --- one iteration ------------------------------------------------------------------------------------------------------ */

static rt_status write_dsa(rt_dm *d, rt_tensor *const p[], int64_t rows)
{
    rt_status st = RT_OK;
    for (int k = 0; k < DM_DSA_INPUTS; k++)
        RT_TRY(rt_tensor_write(p[k], d->dsa_host[k], (size_t)(rows * rt_dm_dsa_width[k]) * sizeof(float)));
out:
    return st;
}

static rt_status real_feature(rt_dm *d, int64_t it, int64_t c, float *mu)
{
    rt_status st = RT_OK;
    int64_t b = d->ctx->dm.batch_real;
    rt_dm_real_batch(d, it, c);
    RT_TRY(rt_batch_fill(d->ctx->train, d->pick, b, &d->ctx->norm, NULL, 0, 0, d->ctx->threads, d->batch));
    RT_TRY(rt_tensor_write(d->xr, d->batch, (size_t)(b * d->px) * sizeof(float)));
    if (d->use_dsa) {
        rt_dm_dsa(d, it, c, 0, b);
        RT_TRY(write_dsa(d, d->pr, b));
    }
    RT_TRY(rt_exec_run(d->real));
    RT_TRY(rt_tensor_read(d->mu_r, mu, (size_t)d->dim * sizeof *mu));
out:
    return st;
}

static rt_status chunk_gradient(rt_dm *d, int64_t it, int64_t first, double *loss)
{
    rt_status st = RT_OK;
    float l;
    size_t pixels = (size_t)(d->chunk * d->ipc * d->px);
    for (int64_t k = 0; k < d->chunk; k++) RT_TRY(real_feature(d, it, first + k, d->mu_host + k * d->dim));
    RT_TRY(rt_tensor_write(d->mu, d->mu_host, (size_t)(d->chunk * d->dim) * sizeof(float)));
    RT_TRY(rt_tensor_write(d->xs, d->images + first * d->ipc * d->px, pixels * sizeof(float)));
    if (d->use_dsa) {
        for (int64_t k = 0; k < d->chunk; k++) rt_dm_dsa(d, it, first + k, k * d->ipc, d->ipc);
        RT_TRY(write_dsa(d, d->ps, d->chunk * d->ipc));
    }
    RT_TRY(rt_exec_run(d->grad));
    RT_TRY(rt_tensor_read(d->gs, d->g_host + first * d->ipc * d->px, pixels * sizeof(float)));
    RT_TRY(rt_tensor_read(d->loss, &l, sizeof l));
    *loss += (double)l;
out:
    return st;
}

static rt_status iterate(rt_dm *d, int64_t it, double *loss)
{
    rt_status st = RT_OK;
    size_t bytes = (size_t)(d->n * d->px) * sizeof(float);
    *loss = 0;
    RT_TRY(rt_dm_new_network(d, it));
    for (int64_t c = 0; c < d->classes; c += d->chunk) RT_TRY(chunk_gradient(d, it, c, loss));
    if (!isfinite(*loss)) {
        st = RT_RAISE(RT_ERR_NUMERIC, "matching loss is %f at iteration %lld", *loss, (long long)it);
        rt_error_fix(st, "lower dm.lr (now %g)", d->ctx->dm.lr);
        goto out;
    }
    RT_TRY(rt_tensor_write(d->g_all, d->g_host, bytes));
    RT_TRY(rt_exec_run(d->update));
    RT_TRY(rt_tensor_read(d->all, d->images, bytes));
out:
    return st;
}

/* --- checkpoints and result --------------------------------------------------------------------------------------------- */

static rt_status save(rt_dm *d, int64_t it)
{
    rt_status st = RT_OK;
    json_t *state = NULL;
    size_t bytes = (size_t)(d->n * d->px) * sizeof(float);
    RT_TRY(rt_tensor_read(d->velocity, d->g_host, bytes)); /* the gradient of this iteration is spent */
    rt_st_tensor t[] = {{"images", RT_ST_F32, 1, {d->n * d->px}, d->images, bytes},
                        {"velocity", RT_ST_F32, 1, {d->n * d->px}, d->g_host, bytes}};
    rt_ledger_update(d->ctx->ledger);
    state = json_pack("{s:s, s:o}", "inputs_hash", d->ctx->inputs_hash, "ledger", rt_ledger_json(d->ctx->ledger));
    if (!state) {
        st = RT_RAISE(RT_ERR_NOMEM, "checkpoint state");
        goto out;
    }
    RT_TRYF(rt_ckpt_save(d->ctx->ckpt_dir, (uint64_t)it, t, 2, state, d->ctx->keep), "checkpoint at iteration %lld",
            (long long)it);
out:
    json_decref(state);
    return st;
}

static rt_status restore(rt_dm *d, int64_t *it)
{
    rt_status st = RT_OK;
    rt_st_file *f = NULL;
    json_t *state = NULL;
    uint64_t step = 0;
    int64_t count = d->n * d->px;
    RT_TRY(rt_ckpt_load(d->ctx->ckpt_dir, d->ctx->inputs_hash, &step, &f, &state));
    const rt_st_tensor *images = rt_st_find(f, "images"), *velocity = rt_st_find(f, "velocity");
    if (!images || !velocity) {
        st = RT_RAISE(RT_ERR_FORMAT, "checkpoint in %s holds no images", d->ctx->ckpt_dir);
        goto out;
    }
    RT_TRY(rt_st_to_f32(velocity, d->images, count));
    RT_TRY(rt_tensor_write(d->velocity, d->images, (size_t)count * sizeof(float)));
    RT_TRY(rt_st_to_f32(images, d->images, count));
    RT_TRY(rt_ledger_restore(d->ctx->ledger, json_object_get(state, "ledger")));
    *it = (int64_t)step;
out:
    rt_st_close(f);
    json_decref(state);
    return st;
}

static rt_status to_set(const rt_dm *d, rt_set *out)
{
    rt_status st = RT_OK;
    int32_t size = d->ctx->net.size;
    rt_set s = {.n = d->n, .h = size, .w = size, .ipc = d->ctx->ipc, .norm = d->ctx->norm, .method = "dm"};
    RT_ALLOC(s.px, (size_t)(d->n * d->px) * sizeof *s.px, "pixels of the set");
    RT_ALLOC(s.label, (size_t)d->n * sizeof *s.label, "labels of the set");
    RT_TRY(rt_classes_copy(&d->ctx->train->classes, &s.classes));
    memcpy(s.px, d->images, (size_t)(d->n * d->px) * sizeof *s.px);
    for (int64_t i = 0; i < d->n; i++) s.label[i] = (int32_t)(i / d->ipc);
    *out = s;
    memset(&s, 0, sizeof s);
out:
    rt_set_fini(&s);
    return st;
}

static rt_status construct(const rt_build_ctx *ctx, rt_set *out)
{
    rt_status st = RT_OK;
    rt_dm d = {0};
    int64_t it = 0;
    double loss = 0, last_commit = rt_now();
    RT_TRY(dm_init(&d, ctx));
    st = restore(&d, &it);
    if (st == RT_ERR_MISSING) {
        rt_error_clear();
        RT_TRY(rt_dm_initial_images(&d));
    } else if (st != RT_OK) goto out;
    RT_TRY(rt_tensor_write(d.all, d.images, (size_t)(d.n * d.px) * sizeof(float)));
    while (it < ctx->dm.iterations) {
        RT_TRY(iterate(&d, it, &loss));
        it++;
        rt_cost_entry *cost = rt_ledger_entry(ctx->ledger);
        cost->flops += d.flops_per_it;
        cost->images_seen += (double)(d.classes * ctx->dm.batch_real + d.n);
        char note[48];
        snprintf(note, sizeof note, "loss %.4f", loss);
        rt_progress_report(&(rt_progress){"dm", "it", (double)it, (double)ctx->dm.iterations, note});
        bool stop = rt_stop_requested() != 0;
        if (stop || rt_now() - last_commit >= ctx->ckpt_seconds) {
            RT_TRY(save(&d, it));
            last_commit = rt_now();
        }
        if (stop) {
            st = RT_RAISE(RT_ERR_CANCELLED, "stopped at iteration %lld of %lld", (long long)it, (long long)ctx->dm.iterations);
            rt_error_fix(st, "rerun the same command: it resumes there");
            goto out;
        }
    }
    RT_TRY(to_set(&d, out));
out:
    dm_fini(&d);
    return st;
}

/* Two iterations are run; the first warms caches and is not counted. */
static rt_status estimate(const rt_build_ctx *ctx, rt_estimate *out)
{
    rt_status st = RT_OK;
    rt_dm d = {0};
    rt_exec_stats real, grad;
    double loss, begun;
    RT_TRY(dm_init(&d, ctx));
    RT_TRY(rt_dm_initial_images(&d));
    RT_TRY(rt_tensor_write(d.all, d.images, (size_t)(d.n * d.px) * sizeof(float)));
    RT_TRY(iterate(&d, 0, &loss));
    begun = rt_now();
    RT_TRY(iterate(&d, 1, &loss));
    double per_it = rt_now() - begun;
    rt_exec_get_stats(d.real, &real);
    rt_exec_get_stats(d.grad, &grad);
    *out = (rt_estimate){.steps = (double)ctx->dm.iterations, .flops = d.flops_per_it * (double)ctx->dm.iterations,
                         .seconds = per_it * (double)ctx->dm.iterations,
                         .peak_bytes = (double)(real.arena_bytes + real.bound_bytes + grad.arena_bytes + grad.bound_bytes)};
out:
    dm_fini(&d);
    return st;
}

const rt_method rt_method_dm = {.name = "dm", .family = "distribution matching", .title = "DM (Zhao & Bilen, WACV 2023)",
                                .stochastic = true, .construct = construct, .estimate = estimate};
