/* Unrolled training and its adjoint: what is compiled, and the two loops over it. Definitions are in unroll.h.
 *
 * Three kinds of compiled steps share one arena, since no two run at once:
 *     forward  (theta, x, y, beta, I, omega) -> theta - beta g, in place
 *     finish   (path) -> L, lambda_N = 2 (theta_N - theta*) / Delta; clears the gradients. theta* waits in lambda's place
 *     adjoint  (theta_t, lambda, ...) -> lambda - beta H lambda and, accumulated, dx -= beta K lambda, du -= beta M lambda,
 *              dbeta -= <lambda, g_t>
 * forward and adjoint exist once per batch size: the batch, and the remainder of images / batch if there is one.
 *
 * The adjoint is a tangent sweep over the gradient (rt_jvp), not a second reverse pass. Both cost 21 convolutions of
 * ConvNet-3, but the sweep reads each normalised map once less and adds less (ops/norm_tangent.c), and hands out <lambda,
 * g_t> as the tangent of the loss, so that no weight gradient is formed for it. Two quiet cores, width 128, H v and K v
 * together: batch 100 165 ms against 200, batch 10 19 ms against 23 (bench_second_order tangent, reverse). The price is that
 * the backward pass of the gradient lives until the sweep reaches it: an arena of 303 MB against 267.
 *
 * Invariant: between runs `path` holds theta_0 .. theta_N of the last run, whole or not. */
#include "methods/distill/unroll.h"

#include <math.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/rng.h"

enum { MAX_IN = 9 + RT_UNROLL_STAGES * RT_UNROLL_DSA, MAX_OUT = 4 };

static const int64_t dsa_width[RT_UNROLL_DSA] = {3, 6, 4};
static const char *const dsa_name[RT_UNROLL_DSA] = {"color", "affine", "box"};

/* The compiled steps for one batch size, with their inputs. */
typedef struct sized {
    int64_t n;
    rt_exec *forward, *adjoint;
    rt_tensor *index, *dsa[RT_UNROLL_STAGES][RT_UNROLL_DSA];
} sized;

struct rt_unroll {
    rt_backend *be;
    rt_unroll_desc d;
    int64_t n_params, classes;
    int32_t size, channels, stages; /* stages 0: no augmentation */
    sized of[2];
    int n_of;
    rt_exec *finish;
    rt_tensor *images, *labels, *beta, *gx, *gu, *gbeta, *theta, *lambda, *path, *loss;
    rt_unroll_step *step; /* [steps] */
    int64_t *order;       /* [images], of the draw */
    bool plan_only;
};

/* A graph under construction with its bindings. */
typedef struct program {
    rt_graph *g;
    rt_bind in[MAX_IN], out[MAX_OUT];
    int n_in, n_out;
    rt_val theta, images, labels, beta, loss;
} program;

static rt_val bind_input(program *p, const char *name, rt_tensor *t)
{
    rt_val v = rt_input(p->g, name, *rt_tensor_shape(t));
    p->in[p->n_in++] = (rt_bind){v, t};
    return v;
}

static void bind_output(program *p, rt_val v, rt_tensor *t) { p->out[p->n_out++] = (rt_bind){v, t}; }

static rt_status compile(rt_unroll *u, program *p, rt_exec *arena_of, rt_exec **out)
{
    rt_status st = RT_OK;
    RT_TRY(rt_graph_status(p->g));
    RT_TRY(rt_exec_prepare(u->be, p->g, p->in, p->n_in, p->out, p->n_out,
                           &(rt_exec_opts){.plan_only = u->plan_only, .arena_of = arena_of}, out));
out:
    return st;
}

/* Opens a program with the training loss of one step in it. */
static rt_status build_loss(rt_unroll *u, const sized *z, program *p)
{
    rt_status st = RT_OK;
    rt_forward f;
    rt_val buffers = {0};
    RT_TRY(rt_graph_create(&p->g));
    p->theta = bind_input(p, "theta", u->theta);
    p->images = bind_input(p, "images", u->images);
    p->labels = bind_input(p, "labels", u->labels);
    p->beta = bind_input(p, "step_size", u->beta);
    rt_val index = bind_input(p, "index", z->index), x = rt_gather(p->g, p->images, index);
    for (int32_t s = 0; s < u->stages; s++) {
        rt_val v[RT_UNROLL_DSA];
        for (int k = 0; k < RT_UNROLL_DSA; k++) {
            char name[24];
            snprintf(name, sizeof name, "%s%d", dsa_name[k], s);
            v[k] = bind_input(p, name, z->dsa[s][k]);
        }
        x = rt_dsa_apply(p->g, x, v[0], v[1], v[2]);
    }
    rt_val q = rt_gather(p->g, p->labels, index);
    if (u->d.logits) q = rt_exp(p->g, rt_log_softmax(p->g, q));
    /* Running statistics are read by no training step, so they need no tensor. */
    const int64_t n_buffers = rt_model_n_buffers(u->d.model);
    if (n_buffers) buffers = rt_input(p->g, "buffers", RT_SHAPE(RT_F32, n_buffers));
    RT_TRY(rt_model_forward(u->d.model, p->g, x, p->theta, buffers, 1, &f));
    p->loss = rt_mean_all(p->g, rt_softmax_ce(p->g, f.logits, q));
out:
    return st;
}

static rt_status compile_forward(rt_unroll *u, sized *z)
{
    rt_status st = RT_OK;
    program p = {0};
    rt_val grad;
    RT_TRY(build_loss(u, z, &p));
    RT_TRY(rt_model_grad(u->d.model, p.g, p.loss, p.theta, &grad));
    bind_output(&p, rt_sub(p.g, p.theta, rt_mul(p.g, p.beta, grad)), u->theta);
    RT_TRY(compile(u, &p, u->of[0].adjoint, &z->forward));
out:
    rt_graph_destroy(p.g);
    return st;
}

/* old - beta * d, into the tensor that old came from. */
static void accumulate(program *p, const char *name, rt_tensor *t, rt_val d)
{
    rt_val old = bind_input(p, name, t);
    bind_output(p, rt_sub(p->g, old, rt_mul(p->g, p->beta, d)), t);
}

static rt_status compile_adjoint(rt_unroll *u, sized *z)
{
    rt_status st = RT_OK;
    program p = {0};
    rt_val first[4], along[4];
    int n = 2;
    RT_TRY(build_loss(u, z, &p));
    rt_val lambda = bind_input(&p, "lambda", u->lambda), gbeta = bind_input(&p, "d_step_size", u->gbeta);
    first[0] = p.loss; /* its tangent is <g_t, lambda> */
    RT_TRY(rt_grad(p.g, p.loss, (rt_val[]){p.images, p.labels}, u->d.logits ? 2 : 1, first + 1));
    if (u->d.logits) n++;
    if (u->d.hessian) RT_TRY(rt_model_grad(u->d.model, p.g, p.loss, p.theta, &first[n++]));
    RT_TRY(rt_jvp(p.g, first, n, &p.theta, &lambda, 1, along));
    bind_output(&p, rt_sub(p.g, gbeta, along[0]), u->gbeta);
    accumulate(&p, "d_images", u->gx, along[1]);
    if (u->d.logits) accumulate(&p, "d_labels", u->gu, along[2]);
    if (u->d.hessian) bind_output(&p, rt_sub(p.g, lambda, rt_mul(p.g, p.beta, along[n - 1])), u->lambda);
    RT_TRY(compile(u, &p, z == u->of ? NULL : u->of[0].adjoint, &z->adjoint));
out:
    rt_graph_destroy(p.g);
    return st;
}

static rt_status compile_finish(rt_unroll *u)
{
    rt_status st = RT_OK;
    program p = {0};
    const int64_t N = u->d.steps, P = u->n_params;
    rt_val zero;
    RT_TRY(rt_graph_create(&p.g));
    rt_val path = bind_input(&p, "path", u->path), target = bind_input(&p, "lambda", u->lambda);
    rt_val start = rt_view1d(p.g, path, 0, RT_SHAPE(RT_F32, P)), end = rt_view1d(p.g, path, N * P, RT_SHAPE(RT_F32, P));
    rt_val far = rt_sub(p.g, end, target), whole = rt_sub(p.g, start, target);
    rt_val delta = rt_dot(p.g, whole, whole);
    bind_output(&p, rt_div(p.g, rt_dot(p.g, far, far), delta), u->loss);
    bind_output(&p, rt_mul(p.g, far, rt_div(p.g, rt_scalar(p.g, 2.0), delta)), u->lambda);
    zero = rt_scalar(p.g, 0.0);
    bind_output(&p, rt_broadcast(p.g, zero, *rt_tensor_shape(u->gx)), u->gx);
    if (u->gu) bind_output(&p, rt_broadcast(p.g, zero, *rt_tensor_shape(u->gu)), u->gu);
    RT_TRY(compile(u, &p, u->of[0].adjoint, &u->finish));
out:
    rt_graph_destroy(p.g);
    return st;
}

/* --- life ----------------------------------------------------------------------------------------------------------- */
static rt_status check_desc(const rt_unroll_desc *d)
{
    if (d->steps < 1) return RT_RAISE(RT_ERR_CONFIG, "an unroll of %d steps: at least 1 is needed", d->steps);
    if (d->images < 1) return RT_RAISE(RT_ERR_CONFIG, "an unroll over %lld images", (long long)d->images);
    if (d->batch < 0) return RT_RAISE(RT_ERR_CONFIG, "an unroll with batches of %lld images", (long long)d->batch);
    return RT_OK;
}

static rt_status make_sized(rt_unroll *u, int64_t n)
{
    rt_status st = RT_OK;
    sized *z = &u->of[u->n_of++];
    z->n = n;
    RT_TRY(rt_tensor_create(u->be, RT_SHAPE(RT_I32, n), &z->index));
    for (int32_t s = 0; s < u->stages; s++)
        for (int k = 0; k < RT_UNROLL_DSA; k++)
            RT_TRY(rt_tensor_create(u->be, RT_SHAPE(RT_F32, n, dsa_width[k]), &z->dsa[s][k]));
out:
    return st;
}

static rt_status make_tensors(rt_unroll *u)
{
    rt_status st = RT_OK;
    const int64_t P = u->n_params, n = u->d.images;
    const rt_shape x = RT_SHAPE(RT_F32, n, u->size, u->size, u->channels), y = RT_SHAPE(RT_F32, n, u->classes);
    RT_TRY(rt_tensor_create(u->be, x, &u->images));
    RT_TRY(rt_tensor_create(u->be, x, &u->gx));
    RT_TRY(rt_tensor_create(u->be, y, &u->labels));
    if (u->d.logits) RT_TRY(rt_tensor_create(u->be, y, &u->gu));
    RT_TRY(rt_tensor_create(u->be, RT_SCALAR_F32, &u->beta));
    RT_TRY(rt_tensor_create(u->be, RT_SCALAR_F32, &u->gbeta));
    RT_TRY(rt_tensor_create(u->be, RT_SCALAR_F32, &u->loss));
    RT_TRY(rt_tensor_create(u->be, RT_SHAPE(RT_F32, P), &u->theta));
    RT_TRY(rt_tensor_create(u->be, RT_SHAPE(RT_F32, P), &u->lambda));
    if (!u->plan_only) RT_TRY(rt_tensor_create(u->be, RT_SHAPE(RT_F32, (u->d.steps + 1) * P), &u->path));
    RT_TRY(make_sized(u, u->d.batch));
    if (n % u->d.batch) RT_TRY(make_sized(u, n % u->d.batch));
out:
    return st;
}

/* Room for what each step draws; which step has how many images is fixed by the sizes alone. */
static rt_status make_plan(rt_unroll *u)
{
    rt_status st = RT_OK;
    const int64_t n = u->d.images, batch = u->d.batch, chunks = (n + batch - 1) / batch;
    RT_ALLOC(u->order, (size_t)n * sizeof *u->order, "order of the synthetic images");
    RT_ALLOC(u->step, (size_t)u->d.steps * sizeof *u->step, "steps of the unroll");
    for (int32_t t = 0; t < u->d.steps; t++) {
        rt_unroll_step *p = &u->step[t];
        p->n = t % chunks == 0 && n % batch ? n % batch : batch;
        RT_ALLOC(p->index, (size_t)p->n * sizeof *p->index, "batch");
        for (int32_t s = 0; s < u->stages; s++)
            for (int k = 0; k < RT_UNROLL_DSA; k++)
                RT_ALLOC(p->dsa[s][k], (size_t)(p->n * dsa_width[k]) * sizeof(float), "DSA parameters");
    }
out:
    return st;
}

static rt_status open_unroll(rt_backend *be, const rt_unroll_desc *d, bool plan_only, rt_unroll **out)
{
    rt_status st = RT_OK;
    rt_unroll *u = NULL;
    RT_TRY(check_desc(d));
    RT_ALLOC(u, sizeof *u, "unroll");
    const rt_model_desc *net = rt_model_desc_of(d->model);
    u->be = be;
    u->d = *d;
    if (u->d.batch == 0 || u->d.batch > u->d.images) u->d.batch = u->d.images;
    u->plan_only = plan_only;
    u->n_params = rt_model_n_params(d->model);
    u->classes = net->classes;
    u->size = net->size;
    u->channels = net->channels;
    u->stages = d->dsa.n_ops ? rt_dsa_stages(&d->dsa) : 0;
    RT_TRY(make_tensors(u));
    RT_TRY(make_plan(u));
    for (int i = 0; i < u->n_of; i++) {
        RT_TRYF(compile_adjoint(u, &u->of[i]), "adjoint of a step on %lld images", (long long)u->of[i].n);
        RT_TRYF(compile_forward(u, &u->of[i]), "step on %lld images", (long long)u->of[i].n);
    }
    if (!plan_only) RT_TRYF(compile_finish(u), "matching loss");
    rt_unroll_draw(u, 0, 0);
    *out = u;
    u = NULL;
out:
    rt_unroll_destroy(u);
    return st;
}

rt_status rt_unroll_create(rt_backend *be, const rt_unroll_desc *d, rt_unroll **out)
{
    return open_unroll(be, d, false, out);
}

void rt_unroll_destroy(rt_unroll *u)
{
    if (!u) return;
    rt_exec_destroy(u->finish);
    for (int i = 1; i >= 0; i--) { /* of[0].adjoint lends its arena to the others: last */
        sized *z = &u->of[i];
        rt_exec_destroy(z->forward);
        rt_exec_destroy(z->adjoint);
        rt_tensor_destroy(z->index);
        for (int s = 0; s < RT_UNROLL_STAGES; s++)
            for (int k = 0; k < RT_UNROLL_DSA; k++) rt_tensor_destroy(z->dsa[s][k]);
    }
    rt_tensor *t[] = {u->images, u->labels, u->beta, u->gx, u->gu, u->gbeta, u->theta, u->lambda, u->path, u->loss};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) rt_tensor_destroy(t[i]);
    for (int32_t i = 0; u->step && i < u->d.steps; i++) {
        rt_free(u->step[i].index);
        for (int s = 0; s < RT_UNROLL_STAGES; s++)
            for (int k = 0; k < RT_UNROLL_DSA; k++) rt_free(u->step[i].dsa[s][k]);
    }
    rt_free(u->step);
    rt_free(u->order);
    rt_free(u);
}

rt_tensor *rt_unroll_images(rt_unroll *u) { return u->images; }
rt_tensor *rt_unroll_labels(rt_unroll *u) { return u->labels; }
rt_tensor *rt_unroll_step_size(rt_unroll *u) { return u->beta; }
rt_tensor *rt_unroll_d_images(rt_unroll *u) { return u->gx; }
rt_tensor *rt_unroll_d_labels(rt_unroll *u) { return u->gu; }
const rt_unroll_step *rt_unroll_plan(const rt_unroll *u, int32_t t)
{
    return t >= 0 && t < u->d.steps ? &u->step[t] : NULL;
}

/* --- draws ---------------------------------------------------------------------------------------------------------- */
void rt_unroll_draw(rt_unroll *u, uint64_t seed, int64_t it)
{
    int64_t left = 0;
    uint32_t shuffles = 0;
    for (int32_t t = 0; t < u->d.steps; t++) {
        const rt_unroll_step *p = &u->step[t];
        if (left == 0) {
            for (int64_t i = 0; i < u->d.images; i++) u->order[i] = i;
            rt_rng r = rt_rng_at(seed, RT_RNG_ORDER, (uint64_t)it, shuffles++);
            rt_rng_shuffle(&r, u->order, u->d.images);
            left = u->d.images;
        }
        left -= p->n;
        for (int64_t i = 0; i < p->n; i++) p->index[i] = (int32_t)u->order[left + i];
        for (int32_t s = 0; s < u->stages; s++)
            rt_dsa_draw(&u->d.dsa, s, u->size, u->size, seed, (uint64_t)(it * u->d.steps + t), 0, NULL, p->n,
                        p->dsa[s][0], p->dsa[s][1], p->dsa[s][2]);
    }
}

static rt_status load_step(rt_unroll *u, int32_t t, sized **out)
{
    rt_status st = RT_OK;
    const rt_unroll_step *p = &u->step[t];
    sized *z = &u->of[p->n == u->of[0].n ? 0 : 1];
    RT_TRY(rt_tensor_write(z->index, p->index, (size_t)p->n * sizeof *p->index));
    for (int32_t s = 0; s < u->stages; s++)
        for (int k = 0; k < RT_UNROLL_DSA; k++)
            RT_TRY(rt_tensor_write(z->dsa[s][k], p->dsa[s][k], (size_t)(p->n * dsa_width[k]) * sizeof(float)));
    *out = z;
out:
    return st;
}

/* --- one unroll ------------------------------------------------------------------------------------------------------ */
/* theta holds theta_0 and lambda holds theta*. */
static rt_status run(rt_unroll *u, double limit, rt_unroll_result *out)
{
    rt_status st = RT_OK;
    const int64_t P = u->n_params;
    rt_unroll_result r = {0};
    sized *z = NULL;
    RT_TRY(rt_tensor_copy(u->path, 0, u->theta, 0, P));
    for (int32_t t = 0; t < u->d.steps; t++) {
        RT_TRY(load_step(u, t, &z));
        RT_TRYF(rt_exec_run(z->forward), "inner step %d", t);
        RT_TRY(rt_tensor_copy(u->path, (t + 1) * P, u->theta, 0, P));
    }
    RT_TRY(rt_exec_run(u->finish));
    RT_TRY(rt_tensor_read_f64(u->loss, &r.loss, 1));
    r.complete = isfinite(r.loss) && (limit <= 0 || r.loss <= limit);
    if (r.complete) {
        RT_TRY(rt_tensor_write_f64(u->gbeta, &(double){0}, 1));
        for (int32_t t = u->d.steps - 1; t >= 0; t--) {
            RT_TRY(load_step(u, t, &z));
            RT_TRY(rt_tensor_copy(u->theta, 0, u->path, t * P, P));
            RT_TRYF(rt_exec_run(z->adjoint), "adjoint of inner step %d", t);
        }
        RT_TRY(rt_tensor_read_f64(u->gbeta, &r.d_step_size, 1));
    }
    *out = r;
out:
    return st;
}

rt_status rt_unroll_run(rt_unroll *u, const float *theta0, const float *target, double limit, rt_unroll_result *out)
{
    rt_status st = RT_OK;
    const size_t bytes = (size_t)u->n_params * sizeof(float);
    RT_TRY(rt_tensor_write(u->theta, theta0, bytes));
    RT_TRY(rt_tensor_write(u->lambda, target, bytes));
    RT_TRY(run(u, limit, out));
out:
    return st;
}

rt_status rt_unroll_run_f64(rt_unroll *u, const double *theta0, const double *target, double limit, rt_unroll_result *out)
{
    rt_status st = RT_OK;
    RT_TRY(rt_tensor_write_f64(u->theta, theta0, (size_t)u->n_params));
    RT_TRY(rt_tensor_write_f64(u->lambda, target, (size_t)u->n_params));
    RT_TRY(run(u, limit, out));
out:
    return st;
}

/* --- cost ------------------------------------------------------------------------------------------------------------ */
static void add_stats(const rt_exec *ex, double times, rt_unroll_stats *s)
{
    rt_exec_stats e;
    rt_exec_get_stats(ex, &e);
    s->flops += times * e.flops;
    if (e.arena_bytes > s->step_bytes) s->step_bytes = e.arena_bytes;
}

void rt_unroll_get_stats(const rt_unroll *u, rt_unroll_stats *out)
{
    rt_unroll_stats s = {0};
    rt_tensor *const t[] = {u->images, u->labels, u->beta, u->gx, u->gu, u->gbeta, u->theta, u->lambda, u->loss};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) s.other_bytes += t[i] ? rt_tensor_bytes(t[i]) : 0;
    for (int i = 0; i < u->n_of; i++) {
        const sized *z = &u->of[i];
        double times = 0;
        for (int32_t k = 0; k < u->d.steps; k++) times += u->step[k].n == z->n;
        const double before = s.flops;
        add_stats(z->forward, times, &s);
        s.forward_flops += s.flops - before;
        add_stats(z->adjoint, times, &s);
        s.images += 2 * times * (double)z->n;
        s.other_bytes += rt_tensor_bytes(z->index);
        for (int32_t st = 0; st < u->stages; st++)
            for (int k = 0; k < RT_UNROLL_DSA; k++) s.other_bytes += rt_tensor_bytes(z->dsa[st][k]);
    }
    s.path_bytes = (size_t)(u->d.steps + 1) * rt_tensor_bytes(u->theta);
    *out = s;
}

rt_status rt_unroll_estimate(rt_backend *be, const rt_unroll_desc *d, rt_unroll_stats *out)
{
    rt_status st = RT_OK;
    rt_unroll *u = NULL;
    RT_TRY(open_unroll(be, d, true, &u));
    rt_unroll_get_stats(u, out);
out:
    rt_unroll_destroy(u);
    return st;
}
