/* What students learn from in the graph of their step: the teachers' passes over the very views that the students see, the
 * target that their logits make, and the losses (decoupled.md 1.7, 5.3, 5.4).
 *
 * A teacher's weights are bound tensors, written once when the trainer is made and shared by all its steps and networks. In
 * eval mode it is a pass with folded norms and no gradient; on a device M students' views are one batch to it, on a host, where
 * a larger batch gains nothing, M batches, so that a network learns to the bit what it learns alone. With batch statistics
 * (BSSL) it sees what a student's norms see: each network's views alone, in the recipe's parts; its running statistics are read
 * by nobody and stay as they are. */
#include <math.h>
#include <stdio.h>

#include "backend/backend.h"
#include "base/alloc.h"
#include "teacher/steps.h"

void rt_taught_close(rt_trainer *t)
{
    for (int32_t i = 0; t->teachers && i < t->teachers->n; i++) {
        if (t->teacher_theta) rt_tensor_destroy(t->teacher_theta[i]);
        if (t->teacher_buffers) rt_tensor_destroy(t->teacher_buffers[i]);
    }
    rt_free(t->teacher_theta);
    rt_free(t->teacher_buffers);
    t->teacher_theta = t->teacher_buffers = NULL;
    t->teachers = NULL;
}

static rt_status check_teacher(const rt_trainer *t, const rt_teacher *k)
{
    const rt_model_desc *a = rt_model_desc_of(k->model), *b = rt_model_desc_of(t->model);
    if (a->size == b->size && a->channels == b->channels && a->classes == b->classes) return RT_OK;
    return RT_RAISE(RT_ERR_ARG, "teacher %s is for %d classes of %dx%dx%d images, the students for %d of %dx%dx%d", k->name, a->classes,
                    a->size, a->size, a->channels, b->classes, b->size, b->size, b->channels);
}

rt_status rt_taught_open(rt_trainer *t, const rt_committee *c)
{
    rt_status st = RT_OK;
    const rt_recipe *r = &t->recipe;
    double weights = 0;
    if (r->loss == RT_LOSS_CE || r->stored_targets) return RT_OK;
    if (!c || c->n < 1) return RT_RAISE(RT_ERR_ARG, "recipe %s learns from a teacher, none was given", r->name);
    for (int32_t i = 0; i < c->n; i++) {
        RT_TRY(check_teacher(t, &c->teacher[i]));
        if (!(c->teacher[i].weight >= 0) || !isfinite(c->teacher[i].weight))
            return RT_RAISE(RT_ERR_ARG, "teacher %s has the weight %g", c->teacher[i].name, c->teacher[i].weight);
        weights += c->teacher[i].weight;
    }
    if (!(weights > 0)) return RT_RAISE(RT_ERR_ARG, "the weights of the %d teachers are all 0", c->n);
    t->teachers = c;
    RT_ALLOC(t->teacher_theta, (size_t)c->n * sizeof *t->teacher_theta, "teachers");
    RT_ALLOC(t->teacher_buffers, (size_t)c->n * sizeof *t->teacher_buffers, "teachers");
    for (int32_t i = 0; i < c->n; i++) {
        const rt_teacher *k = &c->teacher[i];
        const int64_t p = rt_model_n_params(k->model), b = rt_model_n_buffers(k->model);
        RT_TRY(rt_tensor_create(t->be, RT_SHAPE(RT_F32, p), &t->teacher_theta[i]));
        RT_TRY(rt_tensor_write(t->teacher_theta[i], k->theta, (size_t)p * sizeof *k->theta));
        if (!b) continue;
        RT_TRY(rt_tensor_create(t->be, RT_SHAPE(RT_F32, b), &t->teacher_buffers[i]));
        RT_TRY(rt_tensor_write(t->teacher_buffers[i], k->buffers, (size_t)b * sizeof *k->buffers));
    }
out:
    return st;
}

rt_val rt_rows_slice(rt_graph *g, rt_val x, int64_t nets, int64_t lo, int64_t hi)
{
    int64_t begin[RT_MAX_RANK] = {0}, end[RT_MAX_RANK];
    if (!x.id) return x; /* the graph failed before, and says why */
    rt_shape s = *rt_val_shape(g, x);
    const int64_t each = s.d[0] / nets;
    if (lo == 0 && hi == each) return x;
    rt_shape blocks = s;
    blocks.rank = s.rank + 1;
    blocks.d[0] = nets;
    blocks.d[1] = each;
    for (int32_t i = 1; i < s.rank; i++) blocks.d[i + 1] = s.d[i];
    for (int32_t i = 0; i < blocks.rank; i++) end[i] = blocks.d[i];
    begin[1] = lo, end[1] = hi;
    s.d[0] = nets * (hi - lo);
    return rt_reshape(g, rt_slice(g, rt_reshape(g, x, blocks), begin, end), s);
}

/* The logits of teacher i for the views x, [nets * batch, classes]. */
static rt_status look(rt_trainer *t, rt_graph *g, int32_t i, rt_val x, int64_t nets, int64_t batch, rt_val theta, rt_val buffers, rt_val *logits)
{
    rt_status st = RT_OK;
    const rt_model *m = t->teachers->teacher[i].model;
    const bool own_stats = t->recipe.teacher_batch_stats;
    const int64_t blocks = own_stats || t->be->vt->host_memory ? nets : 1, block = nets * batch / blocks;
    const int64_t parts = own_stats ? rt_parts_of(&t->recipe, batch) : 1, n = blocks * parts;
    rt_val *part = NULL;
    rt_forward f;
    RT_ALLOC(part, (size_t)n * sizeof *part, "parts of a batch");
    for (int64_t k = 0; k < n; k++) {
        const int64_t at = k / parts * block, p = k % parts;
        rt_val seen = rt_rows_slice(g, x, 1, at + block * p / parts, at + block * (p + 1) / parts);
        RT_TRY(rt_model_forward(m, g, seen, theta, buffers, own_stats ? RT_FORWARD_TRAINING : 0, &f));
        part[k] = f.logits;
    }
    *logits = n == 1 ? part[0] : rt_concat(g, part, (int)n, 0);
out:
    rt_free(part);
    return st;
}

/* Each network's block of logits over its Frobenius norm: [nets * batch, classes], and the norms [nets,1] apart. */
static rt_val unit_block(rt_graph *g, rt_val logits, int64_t nets, rt_val *norm)
{
    const rt_shape s = *rt_val_shape(g, logits);
    rt_val rows = rt_reshape(g, logits, RT_SHAPE(RT_F32, nets, s.d[0] / nets * s.d[1]));
    *norm = rt_sqrt(g, rt_sum(g, rt_square(g, rows), 1u << 1, true));
    return rt_mul(g, rows, rt_recip(g, rt_add_scalar(g, *norm, 1e-12)));
}

/* Mean of the logits by the teachers' weights. Equalised (G-VBSM): every teacher's block is scaled to the mean of their norms
 * first, so that none outweighs the others by the size of its logits alone. */
static rt_val join(rt_trainer *t, rt_graph *g, int64_t nets, const rt_val *logits)
{
    const rt_committee *c = t->teachers;
    const bool equal = t->recipe.target == RT_TARGET_EQUALISED;
    rt_val sum = {0}, norms = {0};
    double weights = 0;
    for (int32_t i = 0; i < c->n; i++) weights += c->teacher[i].weight;
    for (int32_t i = 0; i < c->n; i++) {
        rt_val norm = {0}, own = equal ? unit_block(g, logits[i], nets, &norm) : logits[i];
        own = rt_mul_scalar(g, own, c->teacher[i].weight / weights);
        sum = i ? rt_add(g, sum, own) : own;
        if (equal) norms = i ? rt_add(g, norms, norm) : norm;
    }
    if (!equal) return sum;
    return rt_reshape(g, rt_mul(g, sum, rt_mul_scalar(g, norms, 1.0 / c->n)), *rt_val_shape(g, logits[0]));
}

rt_status rt_taught_target(rt_trainer *t, rt_graph *g, rt_val x, int64_t nets, int64_t batch, rt_bind *in, int *n_in, rt_val *target)
{
    rt_status st = RT_OK;
    rt_val *logits = NULL;
    char name[32];
    RT_ALLOC(logits, (size_t)t->teachers->n * sizeof *logits, "teachers");
    for (int32_t i = 0; i < t->teachers->n; i++) {
        rt_val theta, buffers = {0};
        snprintf(name, sizeof name, "teacher%d", i);
        theta = rt_input(g, name, *rt_tensor_shape(t->teacher_theta[i]));
        in[(*n_in)++] = (rt_bind){theta, t->teacher_theta[i]};
        if (t->teacher_buffers[i]) {
            snprintf(name, sizeof name, "teacher%d_buffers", i);
            buffers = rt_input(g, name, *rt_tensor_shape(t->teacher_buffers[i]));
            in[(*n_in)++] = (rt_bind){buffers, t->teacher_buffers[i]};
        }
        RT_TRYF(look(t, g, i, x, nets, batch, theta, buffers, &logits[i]), "teacher %s", t->teachers->teacher[i].name);
    }
    *target = rt_stop_gradient(g, join(t, g, nets, logits));
out:
    rt_free(logits);
    return st;
}

rt_val rt_student_loss(const rt_recipe *r, rt_graph *g, rt_val logits, rt_val q, rt_val target)
{
    if (r->loss == RT_LOSS_CE) return rt_softmax_ce(g, logits, q);
    if (r->loss == RT_LOSS_MSE_GT) {
        rt_val mse = rt_mean(g, rt_square(g, rt_sub(g, logits, target)), 1u << 1, false);
        return rt_add(g, mse, rt_mul_scalar(g, rt_softmax_ce(g, logits, q), r->gamma));
    }
    /* sum p (log p - log q) over the classes: the difference first, as the sum of each alone is far larger at a high T */
    rt_val log_p = rt_log_softmax(g, rt_mul_scalar(g, target, 1.0 / r->temperature));
    rt_val log_q = rt_log_softmax(g, rt_mul_scalar(g, logits, 1.0 / r->temperature));
    rt_val kl = rt_sum(g, rt_mul(g, rt_exp(g, log_p), rt_sub(g, log_p, log_q)), 1u << 1, false);
    return r->t_squared ? rt_mul_scalar(g, kl, r->temperature * r->temperature) : kl;
}

rt_status rt_taught_flops(rt_trainer *t, int64_t nets, int64_t batch, double *flops)
{
    rt_status st = RT_OK;
    rt_graph *g = NULL;
    rt_exec *ex = NULL;
    rt_bind *in = NULL;
    rt_tensor *x = NULL, *out_t = NULL;
    const rt_model_desc *d = rt_model_desc_of(t->model);
    rt_exec_stats stats;
    rt_val target;
    int n_in = 0;
    *flops = 0;
    if (!t->teachers) return RT_OK;
    RT_ALLOC(in, (size_t)(1 + 2 * t->teachers->n) * sizeof *in, "teachers");
    RT_TRY(rt_graph_create(&g));
    RT_TRY(rt_tensor_create(t->be, RT_SHAPE(RT_F32, nets * batch, d->size, d->size, d->channels), &x));
    rt_val seen = rt_input(g, "x", *rt_tensor_shape(x));
    in[n_in++] = (rt_bind){seen, x};
    RT_TRY(rt_taught_target(t, g, seen, nets, batch, in, &n_in, &target));
    RT_TRY(rt_graph_status(g));
    RT_TRY(rt_tensor_create(t->be, *rt_val_shape(g, target), &out_t));
    RT_TRY(rt_exec_prepare(t->be, g, in, n_in, &(rt_bind){target, out_t}, 1, &(rt_exec_opts){.plan_only = true}, &ex));
    rt_exec_get_stats(ex, &stats);
    *flops = stats.flops;
out:
    rt_exec_destroy(ex);
    rt_graph_destroy(g);
    rt_tensor_destroy(x);
    rt_tensor_destroy(out_t);
    rt_free(in);
    return st;
}
