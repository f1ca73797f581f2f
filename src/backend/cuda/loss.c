/* log_softmax and softmax_ce on the device. */
#include "backend/cuda/cuda.h"

rt_status rt_cuda_log_softmax_run(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_cuda_state *s = p->state;
    const rt_shape *x = &p->node->in_shape[0];
    const int64_t cols = x->d[x->rank - 1];
    return rt_cuda_launched(p, rt_k_log_softmax(io->in[0], io->out[0], rt_shape_count(x) / cols, cols, s->be->stream));
}

rt_status rt_cuda_softmax_ce_run(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_cuda_state *s = p->state;
    const rt_shape *z = &p->node->in_shape[0];
    return rt_cuda_launched(p, rt_k_softmax_ce(io->in[0], io->in[1], io->out[0], io->out[1], z->d[0], z->d[1], s->be->stream));
}
