/* sgd_step and adam_step on the device. Learning rate, bias corrections and decay stay in device memory. */
#include "backend/cuda/cuda.h"

#include "ops/attrs.h"

rt_status rt_cuda_sgd_step_run(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_sgd_step_attr *a = p->node->attr;
    const rt_k_sgd k = {
        .theta = io->in[0], .v = io->in[1], .grad = io->in[2], .lr = io->in[3], .decay = io->in[4],
        .theta_new = io->out[0], .v_new = io->out[1],
        .n = p->node->in_shape[0].d[0], .decay_step = p->node->in_shape[4].rank ? 1 : 0,
        .momentum = (float)a->momentum, .nesterov = a->nesterov != 0,
    };
    return rt_cuda_launched(p, rt_k_sgd_step(&k, ((const rt_cuda_state *)p->state)->be->stream));
}

rt_status rt_cuda_adam_step_run(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_adam_step_attr *a = p->node->attr;
    const rt_k_adam k = {
        .theta = io->in[0], .m = io->in[1], .v = io->in[2], .grad = io->in[3], .hyper = io->in[4], .decay = io->in[5],
        .theta_new = io->out[0], .m_new = io->out[1], .v_new = io->out[2],
        .n = p->node->in_shape[0].d[0], .decay_step = p->node->in_shape[5].rank ? 1 : 0,
        .beta1 = (float)a->beta1, .beta2 = (float)a->beta2, .eps = (float)a->eps, .decoupled = a->decoupled != 0,
    };
    return rt_cuda_launched(p, rt_k_adam_step(&k, ((const rt_cuda_state *)p->state)->be->stream));
}
