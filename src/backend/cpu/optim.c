/* Optimiser steps: one pass over theta and its state, from the shared formulas. In place is safe: an element is read before
 * any output of that element is written. */
#include <math.h>
#include <omp.h>

#include "backend/cpu/cpu.h"
#include "math/hd.h"
#include "ops/attrs.h"

#include "math/real_f32.h"
#include "math/optim.inc"

RT_CLONES static void sgd_range(const rt_sgd_step_attr *a, const float *const *in, float *const *out, int64_t decay_step,
                                int64_t lo, int64_t hi)
{
    const float *theta = in[0], *v = in[1], *grad = in[2], *decay = in[4], lr = in[3][0];
    float *theta_new = out[0], *v_new = out[1];
    const float momentum = (float)a->momentum;
    const int nesterov = a->nesterov != 0;
    if (decay_step) {
        RT_IVDEP for (int64_t i = lo; i < hi; i++) rt_sgd_step_f32(theta[i], v[i], grad[i], lr, decay[i], momentum,
                                                                   nesterov, &theta_new[i], &v_new[i]);
    } else {
        const float all = decay[0];
        RT_IVDEP for (int64_t i = lo; i < hi; i++) rt_sgd_step_f32(theta[i], v[i], grad[i], lr, all, momentum, nesterov,
                                                                   &theta_new[i], &v_new[i]);
    }
}

RT_CLONES static void adam_range(const rt_adam_step_attr *a, const float *const *in, float *const *out,
                                 int64_t decay_step, int64_t lo, int64_t hi)
{
    const float *theta = in[0], *m = in[1], *v = in[2], *grad = in[3], *hyper = in[4], *decay = in[5];
    const float lr = hyper[0], bc1 = hyper[1], bc2 = hyper[2];
    const float beta1 = (float)a->beta1, beta2 = (float)a->beta2, eps = (float)a->eps;
    const int decoupled = a->decoupled != 0;
    float *theta_new = out[0], *m_new = out[1], *v_new = out[2];
    RT_IVDEP for (int64_t i = lo; i < hi; i++) rt_adam_step_f32(theta[i], m[i], v[i], grad[i], lr, bc1, bc2,
                                                                decay[i * decay_step], beta1, beta2, eps, decoupled,
                                                                &theta_new[i], &m_new[i], &v_new[i]);
}

static rt_status run(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_node *n = p->node;
    const int64_t count = n->in_shape[0].d[0], decay_step = n->in_shape[n->n_in - 1].rank ? 1 : 0;
    const float *const *in = (const float *const *)io->in;
    float *const *out = (float *const *)io->out;
    if (count == 0) return RT_OK;
#pragma omp parallel if (count > RT_CPU_GRAIN)
    {
        int64_t lo, hi;
        rt_share(count, omp_get_thread_num(), omp_get_num_threads(), &lo, &hi);
        if (n->op == RT_OP_SGD_STEP)
            sgd_range(n->attr, in, out, decay_step, lo, hi);
        else
            adam_range(n->attr, in, out, decay_step, lo, hi);
    }
    return RT_OK;
}

void rt_cpu_optim_kernels(rt_kernel *t) { t[RT_OP_SGD_STEP].run = t[RT_OP_ADAM_STEP].run = run; }
