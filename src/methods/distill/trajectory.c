/* The outer iteration of trajectory matching (trajectory.h).
 *
 * Pixels, label logits and their momenta live on the back end and are updated there by one compiled step; the step size is
 * two numbers and is updated here. Update order within an iteration is that of the published code: all gradients are taken
 * at the old state, then all three variables move. */
#include "methods/distill/trajectory.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

enum { RELABEL_IMAGES = 256 };

static rt_status check_params(const rt_traj_params *p)
{
    const struct {
        const char *name;
        double v;
        bool positive;
    } number[] = {{"pixel rate", p->lr_pixel, false},        {"step-size rate", p->lr_step, false},
                  {"label rate", p->lr_label, false},        {"pixel momentum", p->momentum_pixel, false},
                  {"step-size momentum", p->momentum_step, false}, {"label momentum", p->momentum_label, false},
                  {"first step size", p->step0, true},       {"threshold", p->threshold, false}};
    for (size_t i = 0; i < sizeof number / sizeof *number; i++)
        if (!isfinite(number[i].v) || number[i].v < 0 || (number[i].positive && number[i].v == 0))
            return RT_RAISE(RT_ERR_CONFIG, "trajectory matching: the %s is %g", number[i].name, number[i].v);
    return RT_OK;
}

/* --- compiled steps ------------------------------------------------------------------------------------------------------ */
/* x' and v' of one SGD step with momentum on a tensor of any rank, as vectors; appends the bindings. */
static void bind_sgd(rt_graph *g, const char *const name[4], rt_tensor *const t[4], double scale, double momentum,
                     rt_bind *in, int *n_in, rt_bind *out, int *n_out)
{
    rt_val v[4], flat[3], v_new;
    const rt_shape s = *rt_tensor_shape(t[0]), line = RT_SHAPE(RT_F32, rt_shape_count(&s));
    for (int i = 0; i < 4; i++) {
        v[i] = rt_input(g, name[i], *rt_tensor_shape(t[i]));
        in[(*n_in)++] = (rt_bind){v[i], t[i]};
    }
    for (int i = 0; i < 3; i++) flat[i] = rt_reshape(g, v[i], line);
    if (scale != 1) flat[2] = rt_mul_scalar(g, flat[2], scale);
    rt_val x = rt_sgd_step(g, flat[0], flat[1], flat[2], v[3], rt_scalar(g, 0.0), momentum, false, &v_new);
    out[(*n_out)++] = (rt_bind){rt_reshape(g, x, s), t[0]};
    out[(*n_out)++] = (rt_bind){rt_reshape(g, v_new, s), t[1]};
}

static rt_status compile_update(rt_traj *t)
{
    static const char *const x[] = {"images", "velocity", "d_images", "lr"},
                      *const u[] = {"labels", "label_velocity", "d_labels", "lr_label"};
    rt_status st = RT_OK;
    rt_graph *g = NULL;
    rt_bind in[8], out[4];
    int n_in = 0, n_out = 0;
    RT_TRY(rt_graph_create(&g));
    rt_tensor *const tx[] = {rt_unroll_images(t->unroll), t->v_images, rt_unroll_d_images(t->unroll), t->lr[0]};
    bind_sgd(g, x, tx, t->p.half_pixel_gradient ? 0.5 : 1, t->p.momentum_pixel, in, &n_in, out, &n_out);
    if (t->p.logits) {
        rt_tensor *const tu[] = {rt_unroll_labels(t->unroll), t->v_labels, rt_unroll_d_labels(t->unroll), t->lr[1]};
        bind_sgd(g, u, tu, 1, t->p.momentum_label, in, &n_in, out, &n_out);
    }
    RT_TRY(rt_graph_status(g));
    RT_TRY(rt_exec_prepare(t->ctx->be, g, in, n_in, out, n_out, NULL, &t->update));
out:
    rt_graph_destroy(g);
    return st;
}

/* Squared lengths of the gradients: what tells a broken iteration from a good one. */
static rt_status compile_norms(rt_traj *t)
{
    static const char *const name[] = {"d_images", "d_labels"};
    rt_status st = RT_OK;
    rt_graph *g = NULL;
    rt_bind in[2], out[2];
    rt_tensor *const d[] = {rt_unroll_d_images(t->unroll), rt_unroll_d_labels(t->unroll)};
    const int n = t->p.logits ? 2 : 1;
    RT_TRY(rt_graph_create(&g));
    for (int i = 0; i < n; i++) {
        in[i] = (rt_bind){rt_input(g, name[i], *rt_tensor_shape(d[i])), d[i]};
        out[i] = (rt_bind){rt_dot(g, in[i].v, in[i].v), t->norm[i]};
    }
    RT_TRY(rt_graph_status(g));
    RT_TRY(rt_exec_prepare(t->ctx->be, g, in, n, out, n, NULL, &t->norms));
out:
    rt_graph_destroy(g);
    return st;
}

static rt_status compile_relabel(rt_traj *t)
{
    rt_status st = RT_OK;
    rt_graph *g = NULL;
    rt_forward f;
    rt_val buffers = {0};
    rt_bind in[3], out[1];
    const int64_t chunk = t->n < RELABEL_IMAGES ? t->n : RELABEL_IMAGES, n_buffers = rt_model_n_buffers(t->model);
    RT_TRY(rt_tensor_create(t->ctx->be, RT_SHAPE(RT_F32, t->n_params), &t->teacher));
    RT_TRY(rt_tensor_create(t->ctx->be, RT_SHAPE(RT_I32, chunk), &t->some));
    RT_TRY(rt_tensor_create(t->ctx->be, RT_SHAPE(RT_F32, chunk, t->classes), &t->prob));
    RT_TRY(rt_graph_create(&g));
    rt_tensor *images = rt_unroll_images(t->unroll);
    in[0] = (rt_bind){rt_input(g, "theta", *rt_tensor_shape(t->teacher)), t->teacher};
    in[1] = (rt_bind){rt_input(g, "images", *rt_tensor_shape(images)), images};
    in[2] = (rt_bind){rt_input(g, "index", *rt_tensor_shape(t->some)), t->some};
    if (n_buffers) buffers = rt_input(g, "buffers", RT_SHAPE(RT_F32, n_buffers));
    RT_TRY(rt_model_forward(t->model, g, rt_gather(g, in[1].v, in[2].v), in[0].v, buffers, 1, &f));
    out[0] = (rt_bind){rt_exp(g, rt_log_softmax(g, f.logits)), t->prob};
    RT_TRY(rt_graph_status(g));
    RT_TRY(rt_exec_prepare(t->ctx->be, g, in, 3, out, 1, NULL, &t->relabel));
out:
    rt_graph_destroy(g);
    return st;
}

/* --- life ------------------------------------------------------------------------------------------------------------------ */
static rt_status make_storage(rt_traj *t)
{
    rt_status st = RT_OK;
    rt_backend *be = t->ctx->be;
    const size_t images = (size_t)(t->n * t->px) * sizeof(float), labels = (size_t)(t->n * t->classes) * sizeof(float);
    const double rate[2] = {t->p.lr_pixel, t->p.lr_label};
    RT_ALLOC(t->images, images, "synthetic images");
    RT_ALLOC(t->v_images_host, images, "momentum of the images");
    RT_ALLOC(t->labels, labels, "labels");
    if (t->p.logits) RT_ALLOC(t->v_labels_host, labels, "momentum of the labels");
    RT_ALLOC(t->theta0, (size_t)t->n_params * sizeof(float), "start of a trajectory");
    RT_ALLOC(t->target, (size_t)t->n_params * sizeof(float), "end of a trajectory");
    RT_TRY(rt_tensor_create(be, *rt_tensor_shape(rt_unroll_images(t->unroll)), &t->v_images));
    if (t->p.logits) RT_TRY(rt_tensor_create(be, *rt_tensor_shape(rt_unroll_labels(t->unroll)), &t->v_labels));
    for (int i = 0; i < 2; i++) {
        RT_TRY(rt_tensor_create(be, RT_SCALAR_F32, &t->lr[i]));
        RT_TRY(rt_tensor_create(be, RT_SCALAR_F32, &t->norm[i]));
        RT_TRY(rt_tensor_write_f64(t->lr[i], &rate[i], 1));
    }
out:
    return st;
}

rt_status rt_traj_open(const rt_build_ctx *ctx, const rt_traj_params *p, rt_traj *t)
{
    rt_status st = RT_OK;
    rt_unroll_stats s;
    *t = (rt_traj){.ctx = ctx, .p = *p};
    RT_TRY(check_params(p));
    RT_TRY(rt_model_create(&ctx->net, &t->model));
    t->classes = ctx->train->classes.n;
    t->n = t->classes * ctx->ipc;
    t->px = (int64_t)ctx->net.size * ctx->net.size * ctx->net.channels;
    t->n_params = rt_model_n_params(t->model);
    rt_unroll_desc d = {.model = t->model, .images = t->n, .batch = p->batch, .steps = p->steps, .logits = p->logits,
                        .hessian = p->hessian};
    if (p->dsa) RT_TRY(rt_dsa_parse(p->dsa, 'S', &d.dsa));
    d.dsa.align_corners = 1; /* the convention of this lineage (matching.md 2.4) */
    RT_TRYF(rt_unroll_create(ctx->be, &d, &t->unroll), "trajectory matching");
    RT_TRY(make_storage(t));
    RT_TRYF(compile_update(t), "image update");
    RT_TRYF(compile_norms(t), "gradient norms");
    rt_unroll_get_stats(t->unroll, &s);
    t->flops = s.flops;
out:
    return st;
}

void rt_traj_close(rt_traj *t)
{
    rt_exec_destroy(t->update);
    rt_exec_destroy(t->norms);
    rt_exec_destroy(t->relabel);
    rt_unroll_destroy(t->unroll);
    rt_tensor *x[] = {t->v_images, t->v_labels, t->lr[0], t->lr[1], t->norm[0], t->norm[1], t->teacher, t->some, t->prob};
    for (size_t i = 0; i < sizeof x / sizeof *x; i++) rt_tensor_destroy(x[i]);
    float *p[] = {t->images, t->v_images_host, t->labels, t->v_labels_host, t->theta0, t->target};
    for (size_t i = 0; i < sizeof p / sizeof *p; i++) rt_free(p[i]);
    rt_model_destroy(t->model);
    *t = (rt_traj){0};
}

/* --- state ----------------------------------------------------------------------------------------------------------------- */
void rt_traj_state(rt_traj *t, rt_distill *d)
{
    const int64_t pixels = t->n * t->px, labels = t->n * t->classes;
    d->state[d->n_state++] = (rt_distill_state){"images", t->images, pixels};
    d->state[d->n_state++] = (rt_distill_state){"velocity", t->v_images_host, pixels};
    d->state[d->n_state++] = (rt_distill_state){"step_size", t->step, 2};
    d->state[d->n_state++] = (rt_distill_state){"labels", t->labels, labels};
    if (t->p.logits) d->state[d->n_state++] = (rt_distill_state){"label_velocity", t->v_labels_host, labels};
}

void rt_traj_start(rt_traj *t)
{
    const size_t labels = (size_t)(t->n * t->classes) * sizeof(float);
    memset(t->v_images_host, 0, (size_t)(t->n * t->px) * sizeof(float));
    t->step[0] = (float)t->p.step0;
    t->step[1] = 0;
    if (t->p.logits) {
        memset(t->v_labels_host, 0, labels);
        return;
    }
    memset(t->labels, 0, labels);
    for (int64_t i = 0; i < t->n; i++) t->labels[i * t->classes + i / t->ctx->ipc] = 1;
}

rt_status rt_traj_push(rt_traj *t)
{
    rt_status st = RT_OK;
    const size_t images = (size_t)(t->n * t->px) * sizeof(float), labels = (size_t)(t->n * t->classes) * sizeof(float);
    RT_TRY(rt_tensor_write(rt_unroll_images(t->unroll), t->images, images));
    RT_TRY(rt_tensor_write(t->v_images, t->v_images_host, images));
    RT_TRY(rt_tensor_write(rt_unroll_labels(t->unroll), t->labels, labels));
    if (t->p.logits) RT_TRY(rt_tensor_write(t->v_labels, t->v_labels_host, labels));
out:
    return st;
}

rt_status rt_traj_pull(rt_traj *t)
{
    rt_status st = RT_OK;
    const size_t images = (size_t)(t->n * t->px) * sizeof(float), labels = (size_t)(t->n * t->classes) * sizeof(float);
    RT_TRY(rt_tensor_read(rt_unroll_images(t->unroll), t->images, images));
    RT_TRY(rt_tensor_read(t->v_images, t->v_images_host, images));
    RT_TRY(rt_tensor_read(rt_unroll_labels(t->unroll), t->labels, labels));
    if (t->p.logits) RT_TRY(rt_tensor_read(t->v_labels, t->v_labels_host, labels));
out:
    return st;
}

rt_status rt_traj_relabel(rt_traj *t, const float *theta)
{
    rt_status st = RT_OK;
    int32_t index[RELABEL_IMAGES];
    float *prob = NULL;
    if (!t->relabel) RT_TRYF(compile_relabel(t), "soft labels");
    const int64_t chunk = rt_tensor_shape(t->some)->d[0];
    RT_ALLOC(prob, (size_t)(chunk * t->classes) * sizeof *prob, "soft labels");
    RT_TRY(rt_tensor_write(t->teacher, theta, (size_t)t->n_params * sizeof *theta));
    for (int64_t at = 0; at < t->n; at += chunk) {
        const int64_t from = at + chunk <= t->n ? at : t->n - chunk; /* the last chunk reaches back */
        for (int64_t i = 0; i < chunk; i++) index[i] = (int32_t)(from + i);
        RT_TRY(rt_tensor_write(t->some, index, (size_t)chunk * sizeof *index));
        RT_TRY(rt_exec_run(t->relabel));
        RT_TRY(rt_tensor_read(t->prob, prob, (size_t)(chunk * t->classes) * sizeof *prob));
        memcpy(t->labels + from * t->classes, prob, (size_t)(chunk * t->classes) * sizeof *prob);
    }
    RT_TRY(rt_tensor_write(rt_unroll_labels(t->unroll), t->labels, (size_t)(t->n * t->classes) * sizeof(float)));
out:
    rt_free(prob);
    return st;
}

/* --- one iteration ------------------------------------------------------------------------------------------------------------ */
static rt_status finite_gradients(rt_traj *t, bool *finite)
{
    rt_status st = RT_OK;
    double norm;
    *finite = true;
    RT_TRY(rt_exec_run(t->norms));
    for (int i = 0; i < (t->p.logits ? 2 : 1); i++) {
        RT_TRY(rt_tensor_read_f64(t->norm[i], &norm, 1));
        *finite = *finite && isfinite(norm);
    }
out:
    return st;
}

/* One SGD step with momentum on beta, or on log beta, where the gradient is beta dL/dbeta. False: it would not be finite. */
static bool next_step_size(const rt_traj *t, double gradient, float next[2])
{
    const double beta = (double)t->step[0], g = t->p.log_step ? beta * gradient : gradient;
    const double v = t->p.momentum_step * (double)t->step[1] + g;
    next[0] = (float)(t->p.log_step ? beta * exp(-t->p.lr_step * v) : beta - t->p.lr_step * v);
    next[1] = (float)v;
    return isfinite(next[0]) && isfinite(next[1]);
}

rt_status rt_traj_iterate(rt_traj *t, int64_t it, rt_distill_step *s)
{
    rt_status st = RT_OK;
    rt_unroll_result r;
    rt_unroll_stats cost;
    float next[2];
    bool good;
    rt_unroll_get_stats(t->unroll, &cost);
    rt_unroll_draw(t->unroll, t->ctx->seed, it);
    RT_TRY(rt_tensor_write(rt_unroll_step_size(t->unroll), &t->step[0], sizeof t->step[0]));
    RT_TRYF(rt_unroll_run(t->unroll, t->theta0, t->target, t->p.threshold, &r), "iteration %lld", (long long)it);
    good = r.complete;
    if (good) RT_TRY(finite_gradients(t, &good));
    good = good && next_step_size(t, r.d_step_size, next);
    if (good) {
        RT_TRY(rt_exec_run(t->update));
        memcpy(t->step, next, sizeof next);
    }
    s->loss = r.loss;
    s->flops = r.complete ? cost.flops : cost.forward_flops;
    s->images_seen = r.complete ? cost.images : cost.images / 2;
    s->step_size = (double)t->step[0];
    s->skipped = !good;
out:
    return st;
}

rt_status rt_traj_result(const rt_traj *t, const char *method, bool soft, rt_set *out)
{
    rt_status st = RT_OK;
    const int32_t size = t->ctx->net.size;
    const size_t labels = (size_t)(t->n * t->classes) * sizeof(float);
    rt_set s = {.n = t->n, .h = size, .w = size, .ipc = t->ctx->ipc};
    snprintf(s.method, sizeof s.method, "%s", method);
    RT_ALLOC(s.px, (size_t)(t->n * t->px) * sizeof *s.px, "pixels of the set");
    RT_ALLOC(s.label, (size_t)t->n * sizeof *s.label, "labels of the set");
    RT_TRY(rt_classes_copy(&t->ctx->train->classes, &s.classes));
    memcpy(s.px, t->images, (size_t)(t->n * t->px) * sizeof *s.px);
    for (int64_t i = 0; i < t->n; i++) s.label[i] = (int32_t)(i / s.ipc);
    s.step_size = t->step[0] > 0 ? t->step[0] : NAN; /* a set has none that could not train a student */
    s.soft_logits = t->p.logits;
    RT_TRY(rt_set_space_of(t->ctx, &s));
    if (soft || t->p.logits) {
        RT_ALLOC(s.soft, labels, "soft labels of the set");
        memcpy(s.soft, t->labels, labels);
    }
    *out = s;
    memset(&s, 0, sizeof s);
out:
    rt_set_fini(&s);
    return st;
}

double rt_traj_bytes(const rt_traj *t)
{
    rt_unroll_stats s;
    rt_unroll_get_stats(t->unroll, &s);
    size_t velocity = rt_tensor_bytes(t->v_images) + (t->v_labels ? rt_tensor_bytes(t->v_labels) : 0);
    return (double)(s.step_bytes + s.path_bytes + s.other_bytes + velocity);
}
