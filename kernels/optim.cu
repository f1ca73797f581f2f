/* Optimiser steps: one pass over the parameter vector and its state. Every element is read before it is written, so outputs
 * may share storage with inputs. */
#include "launch.cuh"

#include <math.h>

#include "math/hd.h"

#include "math/real_f32.h"
#include "math/optim.inc"

__global__ static void k_sgd_step(rt_k_sgd a)
{
    const float lr = a.lr[0];
    RT_K_FOR(i, a.n)
    {
        float theta, v;
        rt_sgd_step_f32(a.theta[i], a.v[i], a.grad[i], lr, a.decay[i * a.decay_step], a.momentum, a.nesterov, &theta, &v);
        a.theta_new[i] = theta;
        a.v_new[i] = v;
    }
}

__global__ static void k_adam_step(rt_k_adam a)
{
    const float lr = a.hyper[0], bc1 = a.hyper[1], bc2 = a.hyper[2];
    RT_K_FOR(i, a.n)
    {
        float theta, m, v;
        rt_adam_step_f32(a.theta[i], a.m[i], a.v[i], a.grad[i], lr, bc1, bc2, a.decay[i * a.decay_step], a.beta1, a.beta2,
                         a.eps, a.decoupled, &theta, &m, &v);
        a.theta_new[i] = theta;
        a.m_new[i] = m;
        a.v_new[i] = v;
    }
}

extern "C" cudaError_t rt_k_sgd_step(const rt_k_sgd *a, cudaStream_t s)
{
    if (a->n == 0) return cudaSuccess;
    RT_LAUNCH(k_sgd_step, rt_k_blocks(a->n, RT_K_BLOCK), RT_K_BLOCK, s, *a);
    return cudaGetLastError();
}

extern "C" cudaError_t rt_k_adam_step(const rt_k_adam *a, cudaStream_t s)
{
    if (a->n == 0) return cudaSuccess;
    RT_LAUNCH(k_adam_step, rt_k_blocks(a->n, RT_K_BLOCK), RT_K_BLOCK, s, *a);
    return cudaGetLastError();
}
