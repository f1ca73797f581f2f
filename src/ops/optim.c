/* Optimiser steps over the flat parameter vector: one pass over theta, its state and the gradient each.
 *
 * Formulas are in kernels/math/optim.inc. A step has no derivative of its own: it expands into primitives where one is
 * asked for, so a trajectory of steps is differentiable in theta, the gradients, the learning rate and the decay. Two
 * edges of the mathematics remain: Adam's square root has no derivative where v' is exactly 0 (theta' then has
 * infinite slope in v'), and eps belongs outside the root, as in PyTorch.
 *
 * Storage. Every element is read before any output of the same element is written, so output 0 (theta') may take the
 * storage of theta, its state or the gradient (inplace_in). The other outputs always get storage of their own: the
 * planner's rule describes output 0 only. */
#include "ops/attrs.h"
#include "ops/check.h"

#include <math.h>
#include <stdio.h>

#include "math/hd.h"

#include "math/real_f64.h"
#include "math/optim.inc"

/* --- shapes ------------------------------------------------------------------------------------------------------- */

/* Inputs 0 .. state are vectors of one length; input `decay` is rank 0 or such a vector. Outputs 0 .. n_out - 1 too. */
static rt_status vectors_infer(rt_node *n, int state, int decay)
{
    rt_status st = RT_OK;
    RT_TRY(rt_op_want(n, 0, RT_F32, 1));
    for (int i = 1; i <= state; i++) RT_TRY(rt_op_want_shape(n, i, &n->in_shape[0]));
    if (n->in_shape[decay].dtype != RT_F32 || n->in_shape[decay].rank != 0)
        RT_TRY(rt_op_want_shape(n, decay, &n->in_shape[0]));
    for (int o = 0; o < n->n_out; o++) n->out_shape[o] = n->in_shape[0];
out:
    return st;
}

static rt_status sgd_step_infer(rt_node *n) /* theta, v, grad, lr, decay */
{
    rt_status st = RT_OK;
    RT_TRY(vectors_infer(n, 2, 4));
    RT_TRY(rt_op_want(n, 3, RT_F32, 0));
out:
    return st;
}

static rt_status adam_step_infer(rt_node *n) /* theta, m, v, grad, hyper, decay */
{
    rt_status st = RT_OK;
    rt_shape hyper = RT_SHAPE(RT_F32, 3);
    RT_TRY(vectors_infer(n, 3, 5));
    RT_TRY(rt_op_want_shape(n, 4, &hyper));
out:
    return st;
}

/* --- constructors ------------------------------------------------------------------------------------------------- */

/* The rows and kernels know vectors only; other shapes are seen as one, which costs nothing. */
static void flatten(rt_graph *g, rt_val *v, int n)
{
    for (int i = 0; i < n; i++) {
        const rt_shape *s = rt_val_shape(g, v[i]);
        if (s && s->rank > 1) v[i] = rt_reshape(g, v[i], RT_SHAPE(RT_F32, rt_shape_count(s)));
    }
}

/* out: a step's first output; theta: what it was built from. */
static rt_val shaped(rt_graph *g, rt_val out, int o, rt_val theta)
{
    const rt_shape *s = rt_val_shape(g, theta);
    rt_val v = rt_node_out(out, o);
    return s && v.id ? rt_reshape(g, v, *s) : v;
}

rt_val rt_sgd_step(rt_graph *g, rt_val theta, rt_val v, rt_val grad, rt_val lr, rt_val decay, double momentum,
                   bool nesterov, rt_val *v_new)
{
    rt_sgd_step_attr a = {.momentum = momentum, .nesterov = nesterov};
    rt_val in[5] = {theta, v, grad, lr, decay};
    flatten(g, in, 5);
    rt_val out = rt_graph_append(g, RT_OP_SGD_STEP, in, 5, &a, sizeof a);
    if (v_new) *v_new = shaped(g, out, 1, theta);
    return shaped(g, out, 0, theta);
}

rt_val rt_adam_step(rt_graph *g, rt_val theta, rt_val m, rt_val v, rt_val grad, rt_val hyper, rt_val decay,
                    rt_adam_attr attr, rt_val *m_new, rt_val *v_new)
{
    rt_adam_step_attr a = {.beta1 = attr.beta1, .beta2 = attr.beta2, .eps = attr.eps, .decoupled = attr.decoupled != 0};
    rt_val in[6] = {theta, m, v, grad, hyper, decay};
    flatten(g, in, 6);
    rt_val out = rt_graph_append(g, RT_OP_ADAM_STEP, in, 6, &a, sizeof a);
    if (m_new) *m_new = shaped(g, out, 1, theta);
    if (v_new) *v_new = shaped(g, out, 2, theta);
    return shaped(g, out, 0, theta);
}

/* --- expansion ---------------------------------------------------------------------------------------------------- */

static void sgd_step_expand(rt_graph *g, const rt_node *n, rt_val *out)
{
    const rt_sgd_step_attr *a = n->attr;
    rt_val theta = n->in[0], lr = n->in[3];
    rt_val grad = rt_add(g, n->in[2], rt_mul(g, n->in[4], theta));
    rt_val v = rt_add(g, rt_mul_scalar(g, n->in[1], a->momentum), grad);
    rt_val along = a->nesterov ? rt_add(g, grad, rt_mul_scalar(g, v, a->momentum)) : v;
    out[0] = rt_sub(g, theta, rt_mul(g, lr, along));
    out[1] = v;
}

static void adam_step_expand(rt_graph *g, const rt_node *n, rt_val *out)
{
    const rt_adam_step_attr *a = n->attr;
    rt_val theta = n->in[0], grad = n->in[3], decay = n->in[5], hyper[3];
    for (int64_t i = 0; i < 3; i++) hyper[i] = rt_slice(g, n->in[4], &i, (int64_t[]){i + 1});
    rt_val decayed = rt_mul(g, decay, theta), start = theta;
    if (a->decoupled)
        start = rt_sub(g, theta, rt_mul(g, hyper[0], decayed));
    else
        grad = rt_add(g, grad, decayed);
    rt_val m = rt_add(g, rt_mul_scalar(g, n->in[1], a->beta1), rt_mul_scalar(g, grad, 1 - a->beta1));
    rt_val v = rt_add(g, rt_mul_scalar(g, n->in[2], a->beta2), rt_mul_scalar(g, rt_square(g, grad), 1 - a->beta2));
    rt_val root = rt_add_scalar(g, rt_sqrt(g, rt_div(g, v, hyper[2])), a->eps);
    out[0] = rt_sub(g, start, rt_mul(g, hyper[0], rt_div(g, rt_div(g, m, hyper[1]), root)));
    out[1] = m;
    out[2] = v;
}

/* --- definition --------------------------------------------------------------------------------------------------- */

static rt_status sgd_step_ref(const rt_node *n, const rt_ref_io *io)
{
    const rt_sgd_step_attr *a = n->attr;
    const double *theta = io->in[0], *v = io->in[1], *grad = io->in[2], *lr = io->in[3], *decay = io->in[4];
    double *theta_new = io->out[0], *v_new = io->out[1];
    const int64_t step = n->in_shape[4].rank ? 1 : 0;
    for (int64_t i = 0; i < n->in_shape[0].d[0]; i++)
        rt_sgd_step_f64(theta[i], v[i], grad[i], lr[0], decay[i * step], a->momentum, a->nesterov != 0, &theta_new[i],
                        &v_new[i]);
    return RT_OK;
}

static rt_status adam_step_ref(const rt_node *n, const rt_ref_io *io)
{
    const rt_adam_step_attr *a = n->attr;
    const double *theta = io->in[0], *m = io->in[1], *v = io->in[2], *grad = io->in[3], *hyper = io->in[4];
    const double *decay = io->in[5];
    double *theta_new = io->out[0], *m_new = io->out[1], *v_new = io->out[2];
    const int64_t step = n->in_shape[5].rank ? 1 : 0;
    for (int64_t i = 0; i < n->in_shape[0].d[0]; i++)
        rt_adam_step_f64(theta[i], m[i], v[i], grad[i], hyper[0], hyper[1], hyper[2], decay[i * step], a->beta1,
                         a->beta2, a->eps, a->decoupled != 0, &theta_new[i], &m_new[i], &v_new[i]);
    return RT_OK;
}

/* --- cost and text ------------------------------------------------------------------------------------------------ */

static rt_cost sgd_step_cost(const rt_node *n) { return rt_op_streaming_cost(n, 6); }
static rt_cost adam_step_cost(const rt_node *n) { return rt_op_streaming_cost(n, 15); }

static void sgd_print(const rt_node *n, char *buf, size_t len)
{
    const rt_sgd_step_attr *a = n->attr;
    snprintf(buf, len, "momentum=%g%s", a->momentum, a->nesterov ? " nesterov" : "");
}

static void adam_print(const rt_node *n, char *buf, size_t len)
{
    const rt_adam_step_attr *a = n->attr;
    snprintf(buf, len, "betas=%g,%g eps=%g%s", a->beta1, a->beta2, a->eps, a->decoupled ? " decoupled" : "");
}

const rt_op_row rt_row_sgd_step = {
    .name = "sgd_step", .n_in = 5, .n_out = 2, .inplace_in = 1u << 0 | 1u << 1 | 1u << 2,
    .attr_bytes = sizeof(rt_sgd_step_attr), .infer = sgd_step_infer, .expand = sgd_step_expand, .ref = sgd_step_ref,
    .cost = sgd_step_cost, .print_attr = sgd_print,
};
const rt_op_row rt_row_adam_step = {
    .name = "adam_step", .n_in = 6, .n_out = 3, .inplace_in = 1u << 0 | 1u << 1 | 1u << 2 | 1u << 3,
    .attr_bytes = sizeof(rt_adam_step_attr), .infer = adam_step_infer, .expand = adam_step_expand, .ref = adam_step_ref,
    .cost = adam_step_cost, .print_attr = adam_print,
};
