/* Builds the graphs of a trainer: one update step per batch size, one inference step. A step reads theta and writes theta'
 * into the same tensor, so a run of steps needs no copies. */
#include "teacher/steps.h"

#include <string.h>

#include "base/alloc.h"
#include "nn/cutmix.h"
#include "nn/dsa.h"

static rt_val bound_input(rt_graph *g, const char *name, rt_tensor *t, rt_bind *in, int *n)
{
    if (!t) return (rt_val){0};
    rt_val v = rt_input(g, name, *rt_tensor_shape(t));
    in[(*n)++] = (rt_bind){v, t};
    return v;
}

void rt_train_step_fini(rt_train_step *s)
{
    rt_exec_destroy(s->exec);
    rt_tensor_destroy(s->x);
    rt_tensor_destroy(s->q);
    rt_tensor_destroy(s->target);
    rt_tensor_destroy(s->color);
    rt_tensor_destroy(s->affine);
    rt_tensor_destroy(s->box);
    rt_tensor_destroy(s->partner);
    rt_tensor_destroy(s->patch);
    memset(s, 0, sizeof *s);
}

void rt_infer_step_fini(rt_infer_step *s)
{
    rt_exec_destroy(s->exec);
    rt_tensor_destroy(s->x);
    rt_tensor_destroy(s->logits);
    rt_tensor_destroy(s->features);
    memset(s, 0, sizeof *s);
}

/* Turns the gradient into GSAM's direction: the same batch once more, where the weights rise. Batch statistics of the first
 * pass are the ones kept. */
static rt_status sharpened(rt_trainer *t, rt_graph *g, rt_val x, rt_val q, rt_val theta, rt_val buffers, int64_t batch, rt_val *grad)
{
    rt_status st = RT_OK;
    rt_forward f;
    rt_val sharp = {0}, up = rt_gsam_ascend(g, theta, *grad, t->recipe.gsam_rho);
    RT_TRY(rt_model_forward(t->model, g, x, up, buffers, 1, &f));
    rt_val loss = rt_mul_scalar(g, rt_sum_all(g, rt_softmax_ce(g, f.logits, q)), 1.0 / (double)batch); /* each network's mean */
    RT_TRY(rt_model_grad(t->model, g, loss, up, &sharp));
    *grad = rt_gsam_direction(g, *grad, sharp, t->recipe.gsam_alpha);
out:
    return st;
}

/* The students' logits of their views, in the recipe's parts; running statistics go from part to part. */
static rt_status student_logits(rt_trainer *t, rt_graph *g, rt_val x, rt_val theta, rt_val buffers, int64_t batch, rt_val *logits,
                                rt_val *buffers_new)
{
    enum { MAX_PARTS = 16 };
    rt_status st = RT_OK;
    rt_val part[MAX_PARTS];
    rt_forward f;
    const int64_t n = rt_parts_of(&t->recipe, batch), classes = rt_model_desc_of(t->model)->classes;
    if (n > MAX_PARTS) return RT_RAISE(RT_ERR_ARG, "a batch in %lld parts, at most %d", (long long)n, MAX_PARTS);
    for (int64_t i = 0; i < n; i++) {
        rt_val seen = rt_rows_slice(g, x, t->nets, batch * i / n, batch * (i + 1) / n);
        RT_TRY(rt_model_forward(t->model, g, seen, theta, buffers, RT_FORWARD_TRAINING, &f));
        buffers = f.buffers_new;
        part[i] = n == 1 ? f.logits : rt_reshape(g, f.logits, RT_SHAPE(RT_F32, t->nets, -1, classes));
    }
    *logits = n == 1 ? part[0] : rt_reshape(g, rt_concat(g, part, (int)n, 1), RT_SHAPE(RT_F32, t->nets * batch, classes));
    *buffers_new = buffers;
out:
    return st;
}

static rt_status create_inputs(rt_trainer *t, rt_train_step *s, int64_t all)
{
    rt_status st = RT_OK;
    const rt_model_desc *d = rt_model_desc_of(t->model);
    RT_TRY(rt_tensor_create(t->be, RT_SHAPE(RT_F32, all, d->size, d->size, d->channels), &s->x));
    if (t->recipe.loss != RT_LOSS_KL) RT_TRY(rt_tensor_create(t->be, RT_SHAPE(RT_F32, all, d->classes), &s->q));
    if (t->recipe.loss != RT_LOSS_CE && t->recipe.stored_targets)
        RT_TRY(rt_tensor_create(t->be, RT_SHAPE(RT_F32, all, d->classes), &s->target));
    if (t->recipe.augment == RT_AUGMENT_DSA) {
        RT_TRY(rt_tensor_create(t->be, RT_SHAPE(RT_F32, all, 3), &s->color));
        RT_TRY(rt_tensor_create(t->be, RT_SHAPE(RT_F32, all, 6), &s->affine));
        RT_TRY(rt_tensor_create(t->be, RT_SHAPE(RT_F32, all, 4), &s->box));
        if (t->recipe.cutmix > 0) {
            RT_TRY(rt_tensor_create(t->be, RT_SHAPE(RT_I32, all), &s->partner));
            RT_TRY(rt_tensor_create(t->be, RT_SHAPE(RT_F32, all, 4), &s->patch));
        }
    }
out:
    return st;
}

static rt_status build_train_step(rt_trainer *t, int64_t batch, rt_train_step *s)
{
    enum { OWN_INPUTS = 16 };
    rt_status st = RT_OK;
    rt_graph *g = NULL;
    const rt_model_desc *d = rt_model_desc_of(t->model);
    rt_bind *in = NULL, out[8];
    int n_in = 0, n_out = 0;
    s->batch = batch;
    RT_ALLOC(in, (size_t)(OWN_INPUTS + (t->teachers ? 2 * t->teachers->n : 0)) * sizeof *in, "inputs of a step");
    RT_TRY(create_inputs(t, s, batch * t->nets));
    RT_TRY(rt_graph_create(&g));
    rt_val x = bound_input(g, "x", s->x, in, &n_in), q = bound_input(g, "q", s->q, in, &n_in);
    rt_val target = bound_input(g, "target", s->target, in, &n_in), logits = {0}, buffers_new = {0};
    rt_val theta = bound_input(g, "theta", t->theta, in, &n_in);
    rt_val buffers = bound_input(g, "buffers", t->buffers, in, &n_in);
    rt_val hyper = bound_input(g, "hyper", t->hyper, in, &n_in), decay = bound_input(g, "decay", t->decay, in, &n_in);
    rt_val state[RT_MAX_OPT_STATE] = {{0}}, state_new[RT_MAX_OPT_STATE] = {{0}}, grad = {0};
    static const char *const state_name[RT_MAX_OPT_STATE] = {"state0", "state1"};
    for (int i = 0; i < t->n_state; i++) state[i] = bound_input(g, state_name[i], t->state[i], in, &n_in);
    if (t->recipe.augment == RT_AUGMENT_DSA) {
        rt_val color = bound_input(g, "dsa_color", s->color, in, &n_in);
        rt_val affine = bound_input(g, "dsa_affine", s->affine, in, &n_in);
        rt_val box = bound_input(g, "dsa_box", s->box, in, &n_in);
        x = rt_dsa_apply(g, x, color, affine, box);
        if (s->partner) {
            rt_val partner = bound_input(g, "cutmix_partner", s->partner, in, &n_in);
            x = rt_cutmix_apply(g, x, partner, bound_input(g, "cutmix_box", s->patch, in, &n_in));
        }
    }
    if (t->teachers) RT_TRY(rt_taught_target(t, g, x, t->nets, batch, in, &n_in, &target));
    RT_TRY(student_logits(t, g, x, theta, buffers, batch, &logits, &buffers_new));
    rt_val each = rt_student_loss(&t->recipe, g, logits, q, target), loss; /* each network's mean; their sum has all their gradients */
    loss = t->nets == 1 ? rt_mean_all(g, each) : rt_mean(g, rt_reshape(g, each, RT_SHAPE(RT_F32, t->nets, batch)), 1u << 1, false);
    rt_val sum = rt_mul_scalar(g, rt_sum_all(g, each), 1.0 / (double)batch);
    RT_TRY(rt_model_grad(t->model, g, sum, theta, &grad));
    if (t->recipe.gsam_rho > 0) RT_TRY(sharpened(t, g, x, q, theta, buffers, batch, &grad));
    rt_val theta_new = rt_optim_step(g, &t->recipe.optim, theta, state, grad, hyper, decay, state_new);
    out[n_out++] = (rt_bind){theta_new, t->theta};
    for (int i = 0; i < t->n_state; i++) out[n_out++] = (rt_bind){state_new[i], t->state[i]};
    if (t->buffers) out[n_out++] = (rt_bind){buffers_new, t->buffers};
    if (t->ema) {
        rt_val ema = bound_input(g, "ema", t->ema, in, &n_in);
        out[n_out++] = (rt_bind){rt_ema_step(g, ema, theta_new, t->recipe.ema), t->ema};
    }
    out[n_out++] = (rt_bind){loss, t->loss};
    RT_TRY(rt_graph_status(g));
    RT_TRY(rt_exec_prepare(t->be, g, in, n_in, out, n_out, NULL, &s->exec));
    RT_TRY(rt_taught_flops(t, t->nets, batch, &s->teacher_flops));
    if (t->nets == 1) s->teacher_flops_one = s->teacher_flops;
    else RT_TRY(rt_taught_flops(t, 1, batch, &s->teacher_flops_one));
out:
    rt_free(in);
    rt_graph_destroy(g);
    if (st != RT_OK) {
        rt_train_step_fini(s);
        st = rt_error_frame(st, __FILE__, __LINE__, "training step of %s, batch %lld", d->arch, (long long)batch);
    }
    return st;
}

rt_status rt_train_step_get(rt_trainer *t, int64_t batch, rt_train_step **out)
{
    for (int i = 0; i < t->n_steps; i++)
        if (t->step[i].batch == batch) {
            *out = &t->step[i];
            return RT_OK;
        }
    rt_status st = RT_OK;
    if (t->n_steps == RT_MAX_STEPS) { /* sets of yet another size: rebuild */
        RT_TRY(rt_exec_wait(t->step[t->n_steps - 1].exec));
        rt_train_step_fini(&t->step[--t->n_steps]);
    }
    RT_TRY(build_train_step(t, batch, &t->step[t->n_steps]));
    *out = &t->step[t->n_steps++];
out:
    return st;
}

rt_status rt_infer_step_get(rt_trainer *t, int64_t batch, rt_infer_step **out)
{
    rt_status st = RT_OK;
    rt_graph *g = NULL;
    const rt_model_desc *d = rt_model_desc_of(t->model);
    rt_infer_step *s = &t->infer;
    rt_bind in[4], bind_out[2];
    int n_in = 0;
    if (s->exec && s->batch == batch) {
        *out = s;
        return RT_OK;
    }
    rt_infer_step_fini(s);
    s->batch = batch;
    RT_TRY(rt_tensor_create(t->be, RT_SHAPE(RT_F32, batch, d->size, d->size, d->channels), &s->x));
    RT_TRY(rt_tensor_create(t->be, RT_SHAPE(RT_F32, batch, d->classes), &s->logits));
    RT_TRY(rt_tensor_create(t->be, RT_SHAPE(RT_F32, batch, rt_model_feature_dim(t->model)), &s->features));
    RT_TRY(rt_graph_create(&g));
    if (t->nets > 1 && !t->seated) {
        RT_TRY(rt_tensor_create(t->be, RT_SHAPE(RT_F32, t->n_params), &t->seated));
        if (t->n_buffers) RT_TRY(rt_tensor_create(t->be, RT_SHAPE(RT_F32, t->n_buffers), &t->seated_buffers));
    }
    rt_val x = bound_input(g, "x", s->x, in, &n_in);
    rt_val theta = bound_input(g, "theta", t->seated ? t->seated : rt_judged(t), in, &n_in);
    rt_val buffers = bound_input(g, "buffers", t->seated ? t->seated_buffers : t->buffers, in, &n_in);
    rt_forward f;
    RT_TRY(rt_model_forward(t->model, g, x, theta, buffers, 0, &f));
    bind_out[0] = (rt_bind){f.logits, s->logits};
    bind_out[1] = (rt_bind){f.features, s->features};
    RT_TRY(rt_graph_status(g));
    RT_TRY(rt_exec_prepare(t->be, g, in, n_in, bind_out, 2, NULL, &s->exec));
    *out = s;
out:
    rt_graph_destroy(g);
    if (st != RT_OK) {
        rt_infer_step_fini(s);
        st = rt_error_frame(st, __FILE__, __LINE__, "inference of %s, batch %lld", d->arch, (long long)batch);
    }
    return st;
}
