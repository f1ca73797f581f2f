/* DWA, directed weight adjustment (Du et al., NeurIPS 2024; decoupled.md 2.7): recovery from a teacher whose weights are moved
 * before each block so that its own loss on the block's initial images rises,
 *
 *     K times:  theta <- theta + (rho / K) g / ||g||,   g = d CE(teacher(view), y) / d theta,
 *
 * over all parameters, with the running statistics and the view of the block's first iteration: another teacher for every
 * block, and so more diverse images. Blocks start from real images; variances weigh r_var in the statistics loss.
 *
 * The released code reloads the teacher per rank of images only, so that the blocks of a rank see the sum of all movements so
 * far: dwa.accumulate. It also leaves the weights' gradients of a block's pixel steps in the first movement of the next block,
 * and the movements' gradients of the pixels in the first pixel step; both are slips that cost a weight gradient in every
 * step to repeat, and are not. */
#include <string.h>

#include "base/alloc.h"
#include "methods/recover/recover.h"
#include "methods/recover/start.h"

static const double tiny = 1e-12; /* of the published code, added to the norm */

typedef struct dwa {
    rt_recovery r;
    int64_t blocks;  /* of a rank */
    int64_t n;       /* images that the step is compiled for; 0: there is none yet */
    rt_tensor *view, *label, *theta, *buffers;
    rt_exec *ex;
    double flops;
    float *shown, *one_hot;
} dwa;

static void step_fini(dwa *d)
{
    rt_exec_destroy(d->ex);
    rt_tensor *t[] = {d->view, d->label, d->theta, d->buffers};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) rt_tensor_destroy(t[i]);
    rt_free(d->shown);
    rt_free(d->one_hot);
    d->ex = NULL;
    d->view = d->label = d->theta = d->buffers = NULL;
    d->shown = d->one_hot = NULL;
    d->n = 0;
}

static rt_status compile(dwa *d, int64_t n)
{
    rt_status st = RT_OK;
    const rt_teacher *t = &d->r.ctx->teachers->teacher[0];
    const rt_model_desc *m = rt_model_desc_of(t->model);
    rt_backend *be = d->r.ctx->be;
    rt_graph *g = NULL;
    rt_bind in[4], out;
    rt_forward f;
    rt_val grad;
    rt_exec_stats stats;
    int64_t n_theta = rt_model_n_params(t->model), n_buffers = rt_model_n_buffers(t->model);
    int k = 0;
    step_fini(d);
    RT_ALLOC(d->shown, (size_t)(n * m->size * m->size * 3) * sizeof *d->shown, "view of a block");
    RT_ALLOC(d->one_hot, (size_t)(n * m->classes) * sizeof *d->one_hot, "labels of a block");
    RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, n, m->size, m->size, 3), &d->view));
    RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, n, m->classes), &d->label));
    RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, n_theta), &d->theta));
    RT_TRY(rt_graph_create(&g));
    in[k++] = (rt_bind){rt_input(g, "view", *rt_tensor_shape(d->view)), d->view};
    in[k++] = (rt_bind){rt_input(g, "label", *rt_tensor_shape(d->label)), d->label};
    in[k++] = (rt_bind){rt_input(g, "theta", *rt_tensor_shape(d->theta)), d->theta};
    rt_val theta = in[2].v;
    if (n_buffers) {
        RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, n_buffers), &d->buffers));
        RT_TRY(rt_tensor_write(d->buffers, t->buffers, (size_t)n_buffers * sizeof *t->buffers));
        in[k++] = (rt_bind){rt_input(g, "buffers", *rt_tensor_shape(d->buffers)), d->buffers};
    }
    RT_TRY(rt_model_forward(t->model, g, in[0].v, theta, n_buffers ? in[3].v : (rt_val){0}, 0, &f));
    rt_val loss = rt_mean_all(g, rt_softmax_ce(g, f.logits, in[1].v));
    RT_TRY(rt_model_grad(t->model, g, loss, theta, &grad));
    rt_val norm = rt_add_scalar(g, rt_sqrt(g, rt_dot(g, grad, grad)), tiny);
    rt_val by = rt_mul_scalar(g, rt_recip(g, norm), d->r.ctx->config->dwa.rho / (double)d->r.ctx->config->dwa.steps);
    out = (rt_bind){rt_add(g, theta, rt_mul(g, grad, by)), d->theta};
    RT_TRY(rt_graph_status(g));
    RT_TRY(rt_exec_prepare(be, g, in, k, &out, 1, NULL, &d->ex));
    rt_exec_get_stats(d->ex, &stats);
    d->flops = stats.flops;
    d->n = n;
out:
    rt_graph_destroy(g);
    return st;
}

static rt_status before_block(void *self, int64_t block, const float *images, const int64_t *image, int64_t n, float *theta)
{
    rt_status st = RT_OK;
    dwa *d = self;
    const rt_build_ctx *ctx = d->r.ctx;
    const rt_teacher *t = &ctx->teachers->teacher[0];
    const rt_model_desc *m = rt_model_desc_of(t->model);
    size_t bytes = (size_t)rt_model_n_params(t->model) * sizeof *theta, pixels = (size_t)(n * m->size * m->size * 3);
    int64_t steps = ctx->config->dwa.steps;
    if (!ctx->config->dwa.accumulate || block % d->blocks == 0) memcpy(theta, t->theta, bytes);
    if (d->n != n) RT_TRYF(compile(d, n), "weight adjustment of teacher %s", t->name);
    RT_TRY(rt_recover_see(&d->r, block, 0, images, n, d->shown));
    memset(d->one_hot, 0, (size_t)(n * m->classes) * sizeof *d->one_hot);
    for (int64_t i = 0; i < n; i++) d->one_hot[i * m->classes + image[i] / ctx->ipc] = 1;
    RT_TRY(rt_tensor_write(d->view, d->shown, pixels * sizeof *d->shown));
    RT_TRY(rt_tensor_write(d->label, d->one_hot, (size_t)(n * m->classes) * sizeof *d->one_hot));
    RT_TRY(rt_tensor_write(d->theta, theta, bytes));
    for (int64_t k = 0; k < steps; k++) RT_TRY(rt_exec_run(d->ex));
    RT_TRY(rt_tensor_read(d->theta, theta, bytes));
    rt_ledger_entry(ctx->ledger)->flops += d->flops * (double)steps;
    rt_ledger_entry(ctx->ledger)->images_seen += (double)(n * steps);
out:
    return st;
}

static rt_status initial(void *self, float *images)
{
    const dwa *d = self;
    return rt_start_real(d->r.ctx, images);
}

static void describe(const rt_build_ctx *ctx, dwa *d)
{
    const rt_config *c = ctx->config;
    *d = (dwa){.r = {.ctx = ctx, .name = "dwa", .self = d, RT_RECOVER_SETTINGS(c->dwa), .initial = initial,
                     .before_block = before_block}};
    d->r.var_weight = c->dwa.r_var;
    d->r.groups = 1;
    d->blocks = (ctx->train->classes.n + d->r.batch - 1) / d->r.batch;
    d->r.deviation[d->r.n_deviations++] =
        "gradients are cleared between pixel steps and weight adjustment, where the released code carries them over";
    if (!c->dwa.accumulate)
        d->r.deviation[d->r.n_deviations++] = "every block starts from the teacher as trained, where the released code adds the "
                                              "adjustments of a rank's blocks up (dwa.accumulate)";
}

static rt_status construct(const rt_build_ctx *ctx, rt_set *out)
{
    dwa d;
    describe(ctx, &d);
    rt_status st = rt_recover_run(&d.r, out);
    step_fini(&d);
    return st;
}

static rt_status estimate(const rt_build_ctx *ctx, rt_estimate *out)
{
    dwa d;
    describe(ctx, &d);
    rt_status st = rt_recover_estimate(&d.r, out);
    step_fini(&d);
    return st;
}

const rt_method rt_method_dwa = {.name = "dwa", .family = "recovery", .title = "DWA (Du et al., NeurIPS 2024)",
                                 .needs = RT_NEEDS_TEACHER, .stochastic = true,
                                 .construct = construct, .estimate = estimate};
