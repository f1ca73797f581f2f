/* The compiled gradient-matching step (match.h). */
#include "methods/distill/match.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "methods/distill/formation.h"
#include "methods/distill/inner.h"

void rt_match_sgd(float *x, float *v, const float *g, int64_t n, double lr, double momentum)
{
    float m = (float)momentum, step = (float)lr;
    for (int64_t i = 0; i < n; i++) {
        v[i] = m * v[i] + g[i];
        x[i] -= step * v[i];
    }
}

void rt_match_coast(float *x, float *v, int64_t n, double lr, double momentum, int64_t k)
{
    double left = pow(momentum, (double)k); /* mu + mu^2 + ... + mu^k = mu (1 - mu^k) / (1 - mu) */
    float reach = (float)(lr * momentum * (1.0 - left) / (1.0 - momentum)), keep = (float)left;
    for (int64_t i = 0; i < n; i++) {
        x[i] -= reach * v[i];
        v[i] *= keep;
    }
}

static int64_t decoded(const rt_match_desc *d)
{
    return d->factor > 1 ? d->syn * d->factor * d->factor : d->syn;
}

int64_t rt_match_decoded(const rt_match_desc *d)
{
    return d->take > 0 && d->take < decoded(d) ? d->take : decoded(d);
}

static void side_fini(rt_match_side *s)
{
    rt_exec_destroy(s->ex);
    rt_tensor_destroy(s->x);
    rt_tensor_destroy(s->label);
    rt_tensor_destroy(s->pick);
    rt_tensor_destroy(s->weight);
    for (int k = 0; k < RT_DSA_INPUTS; k++) rt_tensor_destroy(s->dsa[k]);
}

void rt_match_fini(rt_match *m)
{
    side_fini(&m->real);
    side_fini(&m->syn);
    for (int32_t k = 0; k < m->n_tensors; k++) {
        if (m->g_part && m->g_part != m->g_real) rt_tensor_destroy(m->g_part[k]);
        if (m->g_real) rt_tensor_destroy(m->g_real[k]);
        if (m->g_host) rt_free(m->g_host[k]);
    }
    if (m->g_part != m->g_real) rt_free(m->g_part);
    rt_free(m->g_real);
    rt_free(m->g_host);
    rt_free(m->tensor);
    rt_free(m->label);
    rt_free(m->weight);
    rt_tensor_destroy(m->gx);
    rt_tensor_destroy(m->distance);
    memset(m, 0, sizeof *m);
}

/* --- graphs -------------------------------------------------------------------------------------------------------------- */

/* A graph under construction with its bindings; `bind` has room for all of them. */
typedef struct builder {
    rt_graph *g;
    rt_bind *in, *out;
    int n_in, n_out;
} builder;

static rt_val input(builder *b, const char *name, rt_tensor *t)
{
    rt_val v = rt_input(b->g, name, *rt_tensor_shape(t));
    b->in[b->n_in++] = (rt_bind){v, t};
    return v;
}

/* [classes, ...parameter] of the k-th matched parameter. */
static rt_shape gradient_shape(const rt_match *m, int32_t k, int64_t classes)
{
    const rt_param *p = rt_model_param(m->d.model, m->tensor[k]);
    rt_shape s = {.dtype = RT_F32, .rank = p->shape.rank + 1};
    s.d[0] = classes;
    for (int i = 0; i < p->shape.rank; i++) s.d[i + 1] = p->shape.d[i];
    return s;
}

/* What both sides have in common: the loss of each class's images, summed. */
typedef struct side_graph {
    rt_val x, y, theta; /* images as bound; summed mean losses; theta as the forward pass read it */
} side_graph;

static rt_status losses(const rt_match *m, builder *b, const rt_match_side *s, side_graph *out)
{
    rt_status st = RT_OK;
    rt_graph *g = b->g;
    const rt_match_desc *d = &m->d;
    rt_forward f;
    rt_val buffers = {0}, theta = input(b, "theta", d->theta);
    if (d->buffers) buffers = input(b, "buffers", d->buffers);
    if (s->classes > 1) {
        theta = rt_broadcast(g, theta, RT_SHAPE(RT_F32, s->classes, rt_model_n_params(d->model)));
        if (d->buffers) buffers = rt_broadcast(g, buffers, RT_SHAPE(RT_F32, s->classes, rt_model_n_buffers(d->model)));
    }
    rt_val x = input(b, "x", s->x), view = x, y;
    if (s == &m->syn && d->factor > 1) view = rt_formation_decode(g, view, s->classes, d->factor);
    if (s->pick) view = rt_gather(g, view, input(b, "pick", s->pick));
    if (d->norm) view = rt_normalised(g, view, d->norm);
    if (d->dsa) {
        rt_val p[RT_DSA_INPUTS];
        for (int k = 0; k < RT_DSA_INPUTS; k++) p[k] = input(b, rt_dsa_name[k], s->dsa[k]);
        view = rt_dsa_apply(g, view, p[0], p[1], p[2]);
    }
    RT_TRY(rt_model_forward(d->model, g, view, theta, buffers, 0, &f));
    rt_val ce = rt_softmax_ce(g, f.logits, rt_one_hot(g, input(b, "label", s->label), rt_model_desc_of(d->model)->classes));
    if (s->weight) y = rt_dot(g, ce, input(b, "weight", s->weight));
    else y = rt_mul_scalar(g, rt_sum_all(g, ce), 1.0 / (double)s->images);
    *out = (side_graph){.x = x, .y = y, .theta = theta};
out:
    return st;
}

static rt_status compile_real(rt_match *m, builder *b)
{
    rt_status st = RT_OK;
    side_graph l;
    rt_val *grad = NULL;
    RT_ALLOC(grad, (size_t)m->n_tensors * sizeof *grad, "gradients");
    RT_TRY(losses(m, b, &m->real, &l));
    RT_TRY(rt_model_grads(m->d.model, b->g, l.y, l.theta, m->tensor, m->n_tensors, grad));
    for (int32_t k = 0; k < m->n_tensors; k++)
        b->out[b->n_out++] = (rt_bind){rt_reshape(b->g, grad[k], gradient_shape(m, k, m->real.classes)), m->g_part[k]};
    RT_TRY(rt_graph_status(b->g));
    RT_TRY(rt_exec_prepare(m->d.be, b->g, b->in, b->n_in, b->out, b->n_out, NULL, &m->real.ex));
out:
    rt_free(grad);
    return st;
}

/* The image gradient K u, u = dD/dg held constant, as the tangent of d loss / d x along u in theta: forward over reverse
 * (matching.md 3.2). Measured against a second reverse pass through the whole step, which would expand every norm. */
static rt_status compile_syn(rt_match *m, builder *b)
{
    rt_status st = RT_OK;
    rt_graph *g = b->g;
    side_graph l;
    rt_val *v = NULL, gx, out;
    int32_t n = m->n_tensors;
    char name[32];
    RT_ALLOC(v, 5 * (size_t)n * sizeof *v, "gradients");
    rt_val *real = v, *grad = v + n, *view = v + 2 * n, *along = v + 3 * n, *leaf = v + 4 * n;
    RT_TRY(losses(m, b, &m->syn, &l));
    RT_TRY(rt_model_grads(m->d.model, g, l.y, l.theta, m->tensor, n, grad));
    for (int32_t k = 0; k < n; k++) {
        snprintf(name, sizeof name, "real%d", k);
        real[k] = input(b, name, m->g_real[k]);
        leaf[k] = rt_stop_gradient(g, rt_reshape(g, grad[k], gradient_shape(m, k, m->syn.classes)));
    }
    rt_val apart = rt_gradient_distance(g, m->d.distance, real, leaf, n);
    RT_TRY(rt_grad(g, rt_sum_all(g, apart), leaf, n, along));
    RT_TRY(rt_model_views(m->d.model, g, l.theta, m->tensor, n, view));
    for (int32_t k = 0; k < n; k++) along[k] = rt_reshape(g, along[k], *rt_val_shape(g, view[k]));
    RT_TRY(rt_grad(g, l.y, &l.x, 1, &gx));
    RT_TRY(rt_jvp(g, &gx, 1, view, along, n, &out));
    b->out[b->n_out++] = (rt_bind){out, m->gx};
    b->out[b->n_out++] = (rt_bind){apart, m->distance};
    RT_TRY(rt_graph_status(g));
    RT_TRY(rt_exec_prepare(m->d.be, g, b->in, b->n_in, b->out, b->n_out, NULL, &m->syn.ex));
out:
    rt_free(v);
    return st;
}

static rt_status compile(rt_match *m, rt_status (*build)(rt_match *, builder *))
{
    rt_status st = RT_OK;
    builder b = {0};
    size_t n = (size_t)m->n_tensors;
    RT_ALLOC(b.in, (n + 8) * sizeof *b.in, "bindings");
    RT_ALLOC(b.out, (n + 2) * sizeof *b.out, "bindings");
    RT_TRY(rt_graph_create(&b.g));
    RT_TRY(build(m, &b));
out:
    rt_graph_destroy(b.g);
    rt_free(b.in);
    rt_free(b.out);
    return st;
}

/* --- tensors ------------------------------------------------------------------------------------------------------------- */

static rt_status side_create(const rt_match *m, rt_match_side *s, int64_t stored)
{
    rt_status st = RT_OK;
    const rt_match_desc *d = &m->d;
    const rt_model_desc *net = rt_model_desc_of(d->model);
    int64_t rows = s->classes * s->images;
    RT_TRY(rt_tensor_create(d->be, RT_SHAPE(RT_F32, s->classes * stored, net->size, net->size, net->channels), &s->x));
    RT_TRY(rt_tensor_create(d->be, RT_SHAPE(RT_I32, rows), &s->label));
    for (int k = 0; d->dsa && k < RT_DSA_INPUTS; k++)
        RT_TRY(rt_tensor_create(d->be, RT_SHAPE(RT_F32, rows, rt_dsa_width[k]), &s->dsa[k]));
out:
    return st;
}


static rt_status make_tensors(rt_match *m)
{
    rt_status st = RT_OK;
    rt_match_desc *d = &m->d;
    size_t n = (size_t)m->n_tensors;
    bool split = d->chunk_real != d->chunk_syn;
    int64_t rows = d->chunk_real * d->real, syn_rows = d->chunk_syn * rt_match_decoded(d);
    m->real = (rt_match_side){.classes = d->chunk_real, .images = d->real};
    m->syn = (rt_match_side){.classes = d->chunk_syn, .images = rt_match_decoded(d)};
    RT_TRY(side_create(m, &m->real, d->real));
    RT_TRY(side_create(m, &m->syn, d->syn));
    RT_TRY(rt_tensor_create(d->be, RT_SHAPE(RT_F32, rows), &m->real.weight));
    RT_ALLOC(m->weight, (size_t)rows * sizeof *m->weight, "weights of real images");
    if (rt_match_decoded(d) < decoded(d)) RT_TRY(rt_tensor_create(d->be, RT_SHAPE(RT_I32, syn_rows), &m->syn.pick));
    RT_ALLOC(m->label, (size_t)(rows > syn_rows ? rows : syn_rows) * sizeof *m->label, "labels");
    RT_ALLOC(m->g_real, n * sizeof *m->g_real, "real gradients");
    m->g_part = m->g_real;
    if (split) {
        m->g_part = NULL;
        RT_ALLOC(m->g_part, n * sizeof *m->g_part, "real gradients");
        RT_ALLOC(m->g_host, n * sizeof *m->g_host, "real gradients");
    }
    for (int32_t k = 0; k < m->n_tensors; k++) {
        RT_TRY(rt_tensor_create(d->be, gradient_shape(m, k, d->chunk_syn), &m->g_real[k]));
        if (!split) continue;
        RT_TRY(rt_tensor_create(d->be, gradient_shape(m, k, d->chunk_real), &m->g_part[k]));
        int64_t count = rt_model_param(d->model, m->tensor[k])->count;
        RT_ALLOC(m->g_host[k], (size_t)(d->chunk_syn * count) * sizeof(float), "real gradients");
    }
    RT_TRY(rt_tensor_create(d->be, *rt_tensor_shape(m->syn.x), &m->gx));
    RT_TRY(rt_tensor_create(d->be, RT_SHAPE(RT_F32, d->chunk_syn), &m->distance));
out:
    return st;
}

rt_status rt_match_create(const rt_match_desc *d, rt_match *out)
{
    rt_status st = RT_OK;
    rt_match m = {.d = *d};
    rt_exec_stats real, syn;
    RT_ALLOC(m.tensor, (size_t)rt_model_param_count(d->model) * sizeof *m.tensor, "matched parameters");
    int32_t n = rt_distance_tensors(d->distance, d->model, m.tensor);
    if (!n) {
        st = RT_RAISE(RT_ERR_CONFIG, "network %s has no parameter that this distance compares", rt_model_desc_of(d->model)->arch);
        rt_error_fix(st, "match the gradients of a convolutional network, or use the cosine distance");
        goto out;
    }
    m.n_tensors = n;
    RT_TRY(make_tensors(&m));
    RT_TRYF(compile(&m, compile_real), "gradient of real images");
    RT_TRYF(compile(&m, compile_syn), "matching gradient of synthetic images");
    rt_exec_get_stats(m.real.ex, &real);
    rt_exec_get_stats(m.syn.ex, &syn);
    m.arena_bytes = (int64_t)(real.arena_bytes + real.bound_bytes + syn.arena_bytes + syn.bound_bytes);
    m.flops_real = real.flops;
    m.flops_syn = syn.flops;
    *out = m;
    memset(&m, 0, sizeof m);
out:
    rt_match_fini(&m);
    return st;
}

/* --- passes -------------------------------------------------------------------------------------------------------------- */

static rt_status write_side(rt_match *m, rt_match_side *s, int64_t first, const float *x, float *const dsa[RT_DSA_INPUTS])
{
    rt_status st = RT_OK;
    size_t rows = (size_t)(s->classes * s->images);
    for (size_t i = 0; i < rows; i++) m->label[i] = (int32_t)(first + (int64_t)i / s->images);
    RT_TRY(rt_tensor_write(s->x, x, (size_t)rt_shape_count(rt_tensor_shape(s->x)) * sizeof *x));
    RT_TRY(rt_tensor_write(s->label, m->label, rows * sizeof *m->label));
    for (int k = 0; m->d.dsa && k < RT_DSA_INPUTS; k++)
        RT_TRY(rt_tensor_write(s->dsa[k], dsa[k], rows * (size_t)rt_dsa_width[k] * sizeof(float)));
out:
    return st;
}

rt_status rt_match_gradients(rt_match *m, int64_t first, const float *x, const int64_t *distinct, float *const dsa[RT_DSA_INPUTS])
{
    rt_status st = RT_OK;
    const rt_match_desc *d = &m->d;
    for (int64_t i = 0; i < d->chunk_real * d->real; i++) {
        int64_t n = distinct ? distinct[i / d->real] : d->real;
        m->weight[i] = i % d->real < n ? 1.0f / (float)n : 0.0f;
    }
    RT_TRY(rt_tensor_write(m->real.weight, m->weight, (size_t)(d->chunk_real * d->real) * sizeof *m->weight));
    RT_TRY(write_side(m, &m->real, first, x, dsa));
    RT_TRY(rt_exec_run(m->real.ex));
    if (!m->g_host) goto out;
    int64_t at = first % d->chunk_syn;
    for (int32_t k = 0; k < m->n_tensors; k++) {
        int64_t count = rt_model_param(d->model, m->tensor[k])->count;
        RT_TRY(rt_tensor_read(m->g_part[k], m->g_host[k] + at * count, (size_t)(d->chunk_real * count) * sizeof(float)));
        if (at + d->chunk_real == d->chunk_syn) /* the last part */
            RT_TRY(rt_tensor_write(m->g_real[k], m->g_host[k], (size_t)(d->chunk_syn * count) * sizeof(float)));
    }
out:
    return st;
}

rt_status rt_match_images(rt_match *m, int64_t first, const float *x, const int32_t *pick, float *const dsa[RT_DSA_INPUTS],
                          float *gx, double *loss)
{
    rt_status st = RT_OK;
    rt_match_side *s = &m->syn;
    double sum = 0;
    float *apart = NULL;
    RT_ALLOC(apart, (size_t)s->classes * sizeof *apart, "distances");
    RT_TRY(write_side(m, s, first, x, dsa));
    if (s->pick) RT_TRY(rt_tensor_write(s->pick, pick, (size_t)(s->classes * s->images) * sizeof *pick));
    RT_TRY(rt_exec_run(s->ex));
    RT_TRY(rt_tensor_read(m->gx, gx, (size_t)rt_shape_count(rt_tensor_shape(m->gx)) * sizeof *gx));
    RT_TRY(rt_tensor_read(m->distance, apart, (size_t)s->classes * sizeof *apart));
    for (int64_t c = 0; c < s->classes; c++) sum += (double)apart[c];
    *loss = sum;
out:
    rt_free(apart);
    return st;
}
