/* Adaptive sharpness-aware minimisation with surrogate gap, as graph builders (Zhuang et al., "Surrogate gap minimization
 * improves sharpness-aware training", ICLR 2022; adaptive scaling of Kwon et al., ICML 2021). The experts of DATM are trained
 * like this (matching.md 4.7). All norms are over the whole parameter vector of a network. */
#include "optim/optim.h"

static const double tiny = 1e-12; /* of the published code, added to norms that divide */

/* Sum of products over the last axis, kept as an axis of 1: one number per network. */
static rt_val inner(rt_graph *g, rt_val a, rt_val b)
{
    const rt_shape *s = rt_val_shape(g, a);
    return s ? rt_sum(g, rt_mul(g, a, b), 1u << (s->rank - 1), true) : (rt_val){0};
}

static rt_val scaled(rt_graph *g, rt_val x, rt_val by)
{
    const rt_shape *s = rt_val_shape(g, x);
    return s ? rt_mul(g, x, rt_broadcast(g, by, *s)) : (rt_val){0};
}

rt_val rt_gsam_ascend(rt_graph *g, rt_val theta, rt_val grad, double rho)
{
    rt_val weighed = rt_mul(g, rt_abs(g, theta), grad);
    rt_val norm = rt_add_scalar(g, rt_sqrt(g, inner(g, weighed, weighed)), tiny);
    rt_val e = rt_mul(g, rt_square(g, theta), grad);
    return rt_add(g, theta, scaled(g, e, rt_mul_scalar(g, rt_recip(g, norm), rho)));
}

rt_val rt_gsam_direction(rt_graph *g, rt_val grad, rt_val sharp, double alpha)
{
    rt_val n = rt_sqrt(g, inner(g, grad, grad)), n_sharp = rt_sqrt(g, inner(g, sharp, sharp));
    rt_val cosine = rt_div(g, inner(g, grad, sharp), rt_add_scalar(g, rt_mul(g, n, n_sharp), tiny));
    rt_val along = rt_div(g, rt_mul(g, cosine, n), rt_add_scalar(g, n_sharp, tiny));
    rt_val across = rt_sub(g, grad, scaled(g, sharp, along));
    return rt_sub(g, sharp, rt_mul_scalar(g, across, alpha));
}
