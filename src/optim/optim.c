/* Optimisers over the flat theta, with PyTorch's rules: SGD (momentum, Nesterov, decay added to the gradient), Adam,
 * and AdamW (decay decoupled). State starts at zero, which gives SGD's first step v = g as PyTorch has it.
 *
 * What changes from step to step (learning rate, bias corrections) is data in `hyper`, so one graph serves all. */
#include "optim/optim.h"

#include <math.h>

int rt_optim_n_state(const rt_optim_desc *d)
{
    return d->kind == RT_SGD ? 1 : 2;
}

void rt_optim_hyper(const rt_optim_desc *d, double lr, int64_t t, float hyper[3])
{
    hyper[0] = (float)lr;
    hyper[1] = hyper[2] = 1.0f;
    if (d->kind == RT_SGD) return;
    /* expm1 keeps 1 - beta^t exact to rounding where beta^t is close to 1. */
    hyper[1] = (float)-expm1((double)t * log(d->beta1));
    hyper[2] = (float)-expm1((double)t * log(d->beta2));
}

rt_val rt_optim_step(rt_graph *g, const rt_optim_desc *d, rt_val theta, const rt_val *state, rt_val grad, rt_val hyper,
                     rt_val decay, rt_val *state_new)
{
    if (d->kind == RT_SGD) {
        rt_val lr = rt_view1d(g, hyper, 0, RT_SCALAR_F32);
        return rt_sgd_step(g, theta, state[0], grad, lr, decay, d->momentum, d->nesterov != 0, &state_new[0]);
    }
    rt_adam_attr a = {.beta1 = d->beta1, .beta2 = d->beta2, .eps = d->eps, .decoupled = d->kind == RT_ADAMW};
    return rt_adam_step(g, theta, state[0], state[1], grad, hyper, decay, a, &state_new[0], &state_new[1]);
}
