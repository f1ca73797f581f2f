/* NCFM's compiled steps.
 *
 *   real       images of one class (a part of the batch) -> c, s of their characteristic function
 *   match      loss of a chunk of classes and its gradient with respect to ALL stored images; then either the optimiser's
 *              step on all of them (class-wise update: chunk is one class) or a sum of gradients (joint update)
 *   calibrate  the same with the cross-entropy of the trained network
 *   update     the joint step          clamp      pixels back into [0,1]
 *   psi_t      frequencies of the sampling network          psi_step   its ascent on the loss */
#include <string.h>

#include "base/alloc.h"
#include "methods/distill/characteristic.h"
#include "methods/distill/formation.h"
#include "methods/distill/ncfm.h"

enum { MAX_BINDS = 24 };

/* A graph under construction with its bindings. */
typedef struct plan {
    rt_graph *g;
    rt_bind in[MAX_BINDS], out[MAX_BINDS];
    int n_in, n_out;
} plan;

static rt_val input(plan *p, const char *name, rt_tensor *t)
{
    rt_val v = rt_input(p->g, name, *rt_tensor_shape(t));
    p->in[p->n_in++] = (rt_bind){v, t};
    return v;
}

static void output(plan *p, rt_val v, rt_tensor *t) { p->out[p->n_out++] = (rt_bind){v, t}; }

static rt_status prepare(const rt_ncfm *d, plan *p, rt_exec **out)
{
    rt_status st = rt_graph_status(p->g);
    if (st != RT_OK) return st;
    return rt_exec_prepare(d->ctx->be, p->g, p->in, p->n_in, p->out, p->n_out, NULL, out);
}

/* Logits and features of images in normalised space under theta. Batch statistics: the weights between two networks have no
 * running ones. */
static rt_status forward(rt_ncfm *d, plan *p, rt_val x, rt_tensor *const dsa[], rt_tensor *theta, rt_forward *f)
{
    rt_val v[RT_DSA_INPUTS], buffers = {0};
    if (d->buffers) buffers = input(p, "buffers", d->buffers);
    if (d->use_dsa) {
        for (int k = 0; k < RT_DSA_INPUTS; k++) v[k] = input(p, rt_dsa_name[k], dsa[k]);
        x = rt_dsa_apply(p->g, x, v[0], v[1], v[2]);
    }
    return rt_model_forward(d->model, p->g, x, input(p, "theta", theta), buffers, RT_FORWARD_TRAINING, f);
}

static rt_status compile_real(rt_ncfm *d)
{
    rt_status st = RT_OK;
    plan p = {0};
    rt_forward f;
    rt_val c, s;
    RT_TRY(rt_graph_create(&p.g));
    RT_TRY(forward(d, &p, input(&p, "real", d->xr), d->pr, d->theta, &f));
    rt_val rows = rt_cf_unit_rows(p.g, f.features);
    rt_cf_means(p.g, rows, input(&p, "t", d->t), 1, &c, &s);
    output(&p, c, d->part_c);
    output(&p, s, d->part_s);
    if (d->psi) output(&p, rows, d->part_f);
    RT_TRY(prepare(d, &p, &d->real));
out:
    rt_graph_destroy(p.g);
    return st;
}

static rt_val per_channel(rt_graph *g, const double v[3])
{
    rt_val c[3];
    for (int i = 0; i < 3; i++) c[i] = rt_const(g, v[i], RT_SHAPE(RT_F32, 1));
    return rt_concat(g, c, 3, 0);
}

/* The training images of the chunk named by `index`, in normalised space. */
static rt_val decoded(rt_ncfm *d, plan *p, rt_val all)
{
    rt_graph *g = p->g;
    int64_t size = d->ctx->net.size;
    double scale[3], shift[3];
    for (int i = 0; i < 3; i++) {
        scale[i] = 1 / (double)d->ctx->norm.std[i];
        shift[i] = (double)d->ctx->norm.mean[i] / (double)d->ctx->norm.std[i];
    }
    rt_val x = rt_gather(g, rt_reshape(g, all, RT_SHAPE(RT_F32, d->n, size, size, 3)), input(p, "index", d->index));
    x = rt_formation_decode(g, x, d->chunk, d->factor);
    return rt_sub(g, rt_mul(g, x, per_channel(g, scale)), per_channel(g, shift));
}

/* The optimiser's step on every stored image. */
static void step(rt_ncfm *d, plan *p, rt_val all, rt_val gx)
{
    rt_val state[2], state_new[2];
    for (int i = 0; i < d->n_state; i++) state[i] = input(p, i ? "state1" : "state0", d->state[i]);
    rt_val hyper = input(p, "hyper", d->hyper), decay = rt_scalar(p->g, d->optim.weight_decay);
    output(p, rt_optim_step(p->g, &d->optim, all, state, gx, hyper, decay, state_new), d->all);
    for (int i = 0; i < d->n_state; i++) output(p, state_new[i], d->state[i]);
}

/* What becomes of a chunk's gradient. */
static void step_or_sum(rt_ncfm *d, plan *p, rt_val all, rt_val gx)
{
    if (d->classwise) step(d, p, all, gx);
    else output(p, rt_add(p->g, input(p, "sum", d->acc), gx), d->acc);
}

static rt_status compile_match(rt_ncfm *d)
{
    rt_status st = RT_OK;
    plan p = {0};
    rt_forward f;
    rt_val c, s, gx;
    RT_TRY(rt_graph_create(&p.g));
    rt_val all = input(&p, "images", d->all);
    RT_TRY(forward(d, &p, decoded(d, &p, all), d->ps, d->theta, &f));
    rt_val rows = rt_cf_unit_rows(p.g, f.features);
    rt_cf_means(p.g, rows, input(&p, "t", d->t), d->chunk, &c, &s);
    const rt_config *cfg = d->ctx->config;
    rt_val loss = rt_cf_loss(p.g, input(&p, "c", d->cr), input(&p, "s", d->sr), c, s, cfg->ncfm.alpha, cfg->ncfm.beta, cfg->ncfm.scale);
    RT_TRY(rt_grad(p.g, loss, &all, 1, &gx));
    step_or_sum(d, &p, all, gx);
    output(&p, loss, d->loss);
    if (d->psi) output(&p, rows, d->fs);
    RT_TRY(prepare(d, &p, &d->match));
out:
    rt_graph_destroy(p.g);
    return st;
}

static rt_status compile_calibrate(rt_ncfm *d)
{
    rt_status st = RT_OK;
    plan p = {0};
    rt_forward f;
    rt_val gx;
    RT_TRY(rt_graph_create(&p.g));
    rt_val all = input(&p, "images", d->all);
    RT_TRY(forward(d, &p, decoded(d, &p, all), d->ps, d->trained, &f));
    rt_val q = rt_one_hot(p.g, input(&p, "label", d->label), d->classes);
    rt_val ce = rt_mean_all(p.g, rt_softmax_ce(p.g, f.logits, q)); /* classes of a chunk have equal shares: sum of their means */
    rt_val loss = rt_mul_scalar(p.g, ce, d->ctx->config->ncfm.calibration * (double)d->chunk);
    RT_TRY(rt_grad(p.g, loss, &all, 1, &gx));
    step_or_sum(d, &p, all, gx);
    output(&p, loss, d->loss);
    RT_TRY(prepare(d, &p, &d->calibrate));
out:
    rt_graph_destroy(p.g);
    return st;
}

static rt_status compile_update(rt_ncfm *d)
{
    rt_status st = RT_OK;
    plan p = {0};
    RT_TRY(rt_graph_create(&p.g));
    rt_val all = input(&p, "images", d->all);
    step(d, &p, all, input(&p, "gradient", d->acc));
    RT_TRY(prepare(d, &p, &d->update));
out:
    rt_graph_destroy(p.g);
    return st;
}

static rt_status compile_clamp(rt_ncfm *d)
{
    rt_status st = RT_OK;
    plan p = {0};
    RT_TRY(rt_graph_create(&p.g));
    rt_val all = input(&p, "images", d->all);
    output(&p, rt_minimum(p.g, rt_maximum(p.g, all, rt_scalar(p.g, 0.0)), rt_scalar(p.g, 1.0)), d->all);
    RT_TRY(prepare(d, &p, &d->clamp));
out:
    rt_graph_destroy(p.g);
    return st;
}

static rt_status compile_psi(rt_ncfm *d)
{
    rt_status st = RT_OK;
    plan p = {0}, q = {0};
    rt_val cr, sr, cs, ss, gt, v_new;
    const rt_config *c = d->ctx->config;
    RT_TRY(rt_graph_create(&p.g));
    rt_val theta = input(&p, "psi", d->psi_theta);
    output(&p, rt_psi_forward(p.g, input(&p, "noise", d->noise), theta, d->dim), d->t);
    RT_TRY(prepare(d, &p, &d->psi_t));
    RT_TRY(rt_graph_create(&q.g));
    theta = input(&q, "psi", d->psi_theta);
    rt_val t = rt_psi_forward(q.g, input(&q, "noise", d->noise), theta, d->dim);
    rt_cf_means(q.g, input(&q, "real", d->fr), t, d->chunk, &cr, &sr);
    rt_cf_means(q.g, input(&q, "synthetic", d->fs), t, d->chunk, &cs, &ss);
    rt_val loss = rt_cf_loss(q.g, cr, sr, cs, ss, c->ncfm.alpha, c->ncfm.beta, c->ncfm.scale);
    RT_TRY(rt_grad(q.g, rt_neg(q.g, loss), &theta, 1, &gt)); /* it climbs */
    output(&q, rt_sgd_step(q.g, theta, input(&q, "velocity", d->psi_v), gt, input(&q, "lr", d->psi_hyper), rt_scalar(q.g, 0.0),
                           c->ncfm.sampling_momentum, false, &v_new), d->psi_theta);
    output(&q, v_new, d->psi_v);
    RT_TRY(prepare(d, &q, &d->psi_step));
out:
    rt_graph_destroy(p.g);
    rt_graph_destroy(q.g);
    return st;
}

static rt_status make_tensors(rt_ncfm *d)
{
    rt_status st = RT_OK;
    rt_backend *be = d->ctx->be;
    int64_t size = d->ctx->net.size;
    struct {
        rt_tensor **t;
        rt_shape shape;
        bool wanted;
    } make[] = {
        {&d->all, RT_SHAPE(RT_F32, d->n * d->px), true},
        {&d->state[0], RT_SHAPE(RT_F32, d->n * d->px), true},
        {&d->state[1], RT_SHAPE(RT_F32, d->n * d->px), d->n_state > 1},
        {&d->acc, RT_SHAPE(RT_F32, d->n * d->px), !d->classwise},
        {&d->hyper, RT_SHAPE(RT_F32, 3), true},
        {&d->theta, RT_SHAPE(RT_F32, d->n_params), true},
        {&d->trained, RT_SHAPE(RT_F32, d->n_params), true},
        {&d->buffers, RT_SHAPE(RT_F32, d->n_buffers), d->n_buffers > 0},
        {&d->t, RT_SHAPE(RT_F32, d->k, d->dim), true},
        {&d->xr, RT_SHAPE(RT_F32, d->part, size, size, 3), true},
        {&d->part_c, RT_SHAPE(RT_F32, 1, d->k), true},
        {&d->part_s, RT_SHAPE(RT_F32, 1, d->k), true},
        {&d->index, RT_SHAPE(RT_I32, d->chunk * d->ipc), true},
        {&d->label, RT_SHAPE(RT_I32, d->rows), true},
        {&d->cr, RT_SHAPE(RT_F32, d->chunk, d->k), true},
        {&d->sr, RT_SHAPE(RT_F32, d->chunk, d->k), true},
        {&d->loss, RT_SCALAR_F32, true},
        {&d->part_f, RT_SHAPE(RT_F32, d->part, d->dim), d->psi},
        {&d->noise, RT_SHAPE(RT_F32, d->k, d->dim), d->psi},
        {&d->fs, RT_SHAPE(RT_F32, d->rows, d->dim), d->psi},
        {&d->fr, RT_SHAPE(RT_F32, d->chunk * d->batch, d->dim), d->psi},
        {&d->psi_theta, RT_SHAPE(RT_F32, rt_psi_n_params(d->dim)), d->psi},
        {&d->psi_v, RT_SHAPE(RT_F32, rt_psi_n_params(d->dim)), d->psi},
        {&d->psi_hyper, RT_SCALAR_F32, d->psi},
    };
    for (size_t i = 0; i < sizeof make / sizeof *make; i++)
        if (make[i].wanted) RT_TRY(rt_tensor_create(be, make[i].shape, make[i].t));
    for (int i = 0; d->use_dsa && i < RT_DSA_INPUTS; i++) {
        RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, d->part, rt_dsa_width[i]), &d->pr[i]));
        RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, d->rows, rt_dsa_width[i]), &d->ps[i]));
    }
out:
    return st;
}

rt_status rt_ncfm_compile(rt_ncfm *d)
{
    rt_status st = RT_OK;
    RT_TRY(make_tensors(d));
    RT_TRYF(compile_real(d), "characteristic function of real images");
    RT_TRYF(compile_match(d), "matching gradient");
    if (d->ctx->config->ncfm.calibration > 0) RT_TRYF(compile_calibrate(d), "calibration gradient");
    if (!d->classwise) RT_TRYF(compile_update(d), "image update");
    RT_TRY(compile_clamp(d));
    if (d->psi) RT_TRYF(compile_psi(d), "sampling network");
    rt_exec_stats s;
    double chunks = (double)(d->classes / d->chunk);
    struct {
        rt_exec *ex;
        double times;
    } use[] = {{d->real, (double)(d->classes * (d->batch / d->part))}, {d->match, chunks}, {d->calibrate, chunks}, {d->update, 1},
               {d->clamp, 1}, {d->psi_t, chunks}, {d->psi_step, chunks}};
    for (size_t i = 0; i < sizeof use / sizeof *use; i++)
        if (use[i].ex) {
            rt_exec_get_stats(use[i].ex, &s);
            d->flops_per_it += s.flops * use[i].times;
        }
out:
    return st;
}

double rt_ncfm_peak_bytes(const rt_ncfm *d)
{
    rt_exec *const all[] = {d->real, d->match, d->calibrate, d->update, d->psi_t, d->psi_step};
    double arenas = 0, bound = 0;
    rt_exec_stats s;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]) {
            rt_exec_get_stats(all[i], &s);
            arenas += (double)s.arena_bytes;
            if ((double)s.bound_bytes > bound) bound = (double)s.bound_bytes;
        }
    return arenas + bound;
}

void rt_ncfm_fini(rt_ncfm *d)
{
    rt_exec *const ex[] = {d->real, d->match, d->calibrate, d->update, d->clamp, d->psi_t, d->psi_step};
    rt_tensor *const t[] = {d->all, d->state[0], d->state[1], d->acc, d->hyper, d->theta, d->trained, d->buffers, d->t, d->noise,
                            d->xr, d->part_c, d->part_s, d->part_f, d->index, d->label, d->cr, d->sr, d->fs, d->loss,
                            d->psi_theta, d->psi_v, d->psi_hyper, d->fr};
    void *const p[] = {d->images, d->state_host[0], d->state_host[1], d->psi_host[0], d->psi_host[1], d->theta_host, d->trained_host,
                       d->buffers_host, d->real_px, d->mean_c, d->mean_s, d->part_host, d->t_host, d->fr_host, d->index_host,
                       d->label_host, d->pick};
    for (size_t i = 0; i < sizeof ex / sizeof *ex; i++) rt_exec_destroy(ex[i]);
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) rt_tensor_destroy(t[i]);
    for (size_t i = 0; i < sizeof p / sizeof *p; i++) rt_free(p[i]);
    for (int i = 0; i < RT_DSA_INPUTS; i++) {
        rt_tensor_destroy(d->pr[i]);
        rt_tensor_destroy(d->ps[i]);
        rt_free(d->dsa_host[i]);
    }
    rt_model_destroy(d->model);
    rt_draws_close(&d->draws);
    memset(d, 0, sizeof *d);
}
