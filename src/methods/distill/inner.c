/* Training steps on a network that is being matched (inner.h). */
#include "methods/distill/inner.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "nn/cutmix.h"

static const int64_t width[3] = {3, 6, 4}; /* of the rows that rt_dsa_draw fills */

static void step_fini(rt_inner_step *s)
{
    rt_exec_destroy(s->ex);
    rt_tensor *t[] = {s->x, s->q, s->dsa[0], s->dsa[1], s->dsa[2], s->partner, s->box};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) rt_tensor_destroy(t[i]);
    memset(s, 0, sizeof *s);
}

void rt_inner_fini(rt_inner *in)
{
    for (int i = 0; i < in->n_steps; i++) step_fini(&in->step[i]);
    rt_tensor *t[] = {in->velocity, in->lr, in->decay, in->loss};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) rt_tensor_destroy(t[i]);
    void *p[] = {in->q, in->mixed, in->dsa[0], in->dsa[1], in->dsa[2], in->box, in->zero, in->partner, in->scratch};
    for (size_t i = 0; i < sizeof p / sizeof *p; i++) rt_free(p[i]);
    memset(in, 0, sizeof *in);
}

rt_status rt_inner_create(const rt_inner_desc *d, rt_inner *out)
{
    rt_status st = RT_OK;
    rt_inner in = {.d = *d};
    size_t b = (size_t)d->batch, classes = (size_t)rt_model_desc_of(d->model)->classes;
    int64_t p = rt_model_n_params(d->model);
    float lr = (float)d->lr, decay = (float)d->weight_decay;
    RT_TRY(rt_tensor_create(d->be, RT_SHAPE(RT_F32, p), &in.velocity));
    RT_TRY(rt_tensor_create(d->be, RT_SCALAR_F32, &in.lr));
    RT_TRY(rt_tensor_create(d->be, RT_SCALAR_F32, &in.decay));
    RT_TRY(rt_tensor_create(d->be, RT_SCALAR_F32, &in.loss));
    RT_TRY(rt_tensor_write(in.lr, &lr, sizeof lr));
    RT_TRY(rt_tensor_write(in.decay, &decay, sizeof decay));
    RT_ALLOC(in.q, b * classes * sizeof(float), "labels");
    RT_ALLOC(in.mixed, b * classes * sizeof(float), "labels");
    RT_ALLOC(in.zero, (size_t)p * sizeof(float), "momentum");
    RT_ALLOC(in.box, b * 4 * sizeof(float), "CutMix boxes");
    RT_ALLOC(in.partner, b * sizeof(int32_t), "CutMix partners");
    RT_ALLOC(in.scratch, b * sizeof(int64_t), "CutMix partners");
    for (int k = 0; k < 3; k++) RT_ALLOC(in.dsa[k], b * (size_t)width[k] * sizeof(float), "augmentation parameters");
    *out = in;
    memset(&in, 0, sizeof in);
out:
    rt_inner_fini(&in);
    return st;
}

rt_status rt_inner_reset(rt_inner *in)
{
    return rt_tensor_write(in->velocity, in->zero, (size_t)rt_model_n_params(in->d.model) * sizeof(float));
}

rt_val rt_normalised(rt_graph *g, rt_val x, const rt_normalise *nm)
{
    rt_val scale[3], shift[3];
    for (int c = 0; c < 3; c++) {
        double inv = 1.0 / (double)nm->std[c];
        scale[c] = rt_const(g, inv, RT_SHAPE(RT_F32, 1));
        shift[c] = rt_const(g, -(double)nm->mean[c] * inv, RT_SHAPE(RT_F32, 1));
    }
    return rt_add(g, rt_mul(g, x, rt_concat(g, scale, 3, 0)), rt_concat(g, shift, 3, 0));
}

static rt_val input(rt_graph *g, const char *name, rt_tensor *t, rt_bind *in, int *n)
{
    rt_val v = rt_input(g, name, *rt_tensor_shape(t));
    in[(*n)++] = (rt_bind){v, t};
    return v;
}

/* The images as the network sees them. */
static rt_val view_of(const rt_inner *in, const rt_inner_step *s, rt_graph *g, rt_bind *bind, int *n)
{
    static const char *const name[3] = {"dsa_color", "dsa_affine", "dsa_box"};
    rt_val x = input(g, "x", s->x, bind, n), p[3];
    if (in->d.norm) x = rt_normalised(g, x, in->d.norm);
    if (in->d.dsa.n_ops > 0) {
        for (int k = 0; k < 3; k++) p[k] = input(g, name[k], s->dsa[k], bind, n);
        x = rt_dsa_apply(g, x, p[0], p[1], p[2]);
    }
    if (in->d.cutmix > 0) {
        rt_val partner = input(g, "cutmix_partner", s->partner, bind, n);
        x = rt_cutmix_apply(g, x, partner, input(g, "cutmix_box", s->box, bind, n));
    }
    return x;
}

static rt_status compile(rt_inner *in, rt_inner_step *s)
{
    rt_status st = RT_OK;
    rt_graph *g = NULL;
    rt_bind bind[16], out[4];
    int n = 0, n_out = 0;
    rt_forward f;
    rt_val grad, buffers = {0}, v_new;
    RT_TRY(rt_graph_create(&g));
    rt_val x = view_of(in, s, g, bind, &n), q = input(g, "q", s->q, bind, &n), theta = input(g, "theta", in->d.theta, bind, &n);
    rt_val v = input(g, "velocity", in->velocity, bind, &n), lr = input(g, "lr", in->lr, bind, &n);
    rt_val decay = input(g, "decay", in->decay, bind, &n);
    if (in->d.buffers) buffers = input(g, "buffers", in->d.buffers, bind, &n);
    RT_TRY(rt_model_forward(in->d.model, g, x, theta, buffers, 1, &f));
    rt_val loss = rt_mean_all(g, rt_softmax_ce(g, f.logits, q));
    RT_TRY(rt_model_grad(in->d.model, g, loss, theta, &grad));
    out[n_out++] = (rt_bind){rt_sgd_step(g, theta, v, grad, lr, decay, in->d.momentum, false, &v_new), in->d.theta};
    out[n_out++] = (rt_bind){v_new, in->velocity};
    out[n_out++] = (rt_bind){loss, in->loss};
    if (in->d.buffers) out[n_out++] = (rt_bind){f.buffers_new, in->d.buffers};
    RT_TRY(rt_graph_status(g));
    RT_TRY(rt_exec_prepare(in->d.be, g, bind, n, out, n_out, NULL, &s->ex));
    rt_exec_stats stats;
    rt_exec_get_stats(s->ex, &stats);
    s->flops = stats.flops;
out:
    rt_graph_destroy(g);
    return st;
}

static rt_status step_create(rt_inner *in, int64_t n, rt_inner_step *s)
{
    rt_status st = RT_OK;
    const rt_model_desc *m = rt_model_desc_of(in->d.model);
    rt_backend *be = in->d.be;
    s->n = n;
    RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, n, m->size, m->size, m->channels), &s->x));
    RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, n, m->classes), &s->q));
    for (int k = 0; in->d.dsa.n_ops > 0 && k < 3; k++) RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, n, width[k]), &s->dsa[k]));
    if (in->d.cutmix > 0) {
        RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_I32, n), &s->partner));
        RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, n, 4), &s->box));
    }
    RT_TRYF(compile(in, s), "training step of the matched network, batch %lld", (long long)n);
out:
    if (st != RT_OK) step_fini(s);
    return st;
}

static rt_status step_of(rt_inner *in, int64_t n, rt_inner_step **out)
{
    rt_status st = RT_OK;
    for (int i = 0; i < in->n_steps; i++)
        if (in->step[i].n == n) {
            *out = &in->step[i];
            return RT_OK;
        }
    if (in->n_steps == RT_INNER_SIZES) step_fini(&in->step[--in->n_steps]);
    RT_TRY(step_create(in, n, &in->step[in->n_steps]));
    *out = &in->step[in->n_steps++];
out:
    return st;
}

rt_status rt_inner_train(rt_inner *in, const float *x, const int32_t *label, int64_t n, uint64_t seed, uint64_t step, double *flops)
{
    rt_status st = RT_OK;
    rt_inner_step *s;
    const rt_model_desc *m = rt_model_desc_of(in->d.model);
    size_t rows = (size_t)n, classes = (size_t)m->classes, px = (size_t)m->size * (size_t)m->size * (size_t)m->channels;
    float loss, *q = in->q;
    RT_TRY(step_of(in, n, &s));
    memset(q, 0, rows * classes * sizeof *q);
    for (size_t i = 0; i < rows; i++) q[i * classes + (size_t)label[i]] = 1.0f;
    if (s->dsa[0]) {
        rt_dsa_draw(&in->d.dsa, 0, m->size, m->size, seed, step, 0, NULL, n, in->dsa[0], in->dsa[1], in->dsa[2]);
        for (int k = 0; k < 3; k++) RT_TRY(rt_tensor_write(s->dsa[k], in->dsa[k], rows * (size_t)width[k] * sizeof(float)));
    }
    if (s->partner) {
        float keep = rt_cutmix_draw(in->d.cutmix, m->size, seed, step, n, 0, in->scratch, in->partner, in->box);
        rt_cutmix_labels(q, n, 0, m->classes, in->partner, keep, in->mixed);
        q = in->mixed;
        RT_TRY(rt_tensor_write(s->partner, in->partner, rows * sizeof *in->partner));
        RT_TRY(rt_tensor_write(s->box, in->box, rows * 4 * sizeof *in->box));
    }
    RT_TRY(rt_tensor_write(s->x, x, rows * px * sizeof *x));
    RT_TRY(rt_tensor_write(s->q, q, rows * classes * sizeof *q));
    RT_TRY(rt_exec_run(s->ex));
    RT_TRY(rt_tensor_read(in->loss, &loss, sizeof loss));
    if (!isfinite(loss)) {
        st = RT_RAISE(RT_ERR_NUMERIC, "training loss of the matched network is %f", (double)loss);
        rt_error_fix(st, "lower the network's learning rate (now %g)", in->d.lr);
        goto out;
    }
    if (flops) *flops += s->flops;
out:
    return st;
}
