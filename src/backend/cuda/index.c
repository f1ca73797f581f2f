/* gather, scatter_add and one_hot on the device, and the fault word through which kernels report indices out of range. */
#include "backend/cuda/cuda.h"

#include "ops/attr.h"
#include "ops/util.h"

rt_k_fault rt_cuda_fault(const rt_prepared *p)
{
    return (rt_k_fault){.word = ((const rt_cuda_state *)p->state)->be->fault, .op = (uint32_t)p->node->op};
}

rt_status rt_cuda_fault_check(rt_cuda_backend *cb)
{
    const uint64_t word = *(volatile uint64_t *)cb->fault;
    if (word == 0) return RT_OK;
    *(volatile uint64_t *)cb->fault = 0;
    return RT_RAISE(RT_ERR_ARG, "%s: index %d at position %u%s is out of range", rt_op_name((rt_op)RT_K_FAULT_OP(word)),
                    (int)RT_K_FAULT_INDEX(word), RT_K_FAULT_AT(word), RT_K_FAULT_AT(word) == 0xFFFFFFu ? " or later" : "");
}

static int64_t row_count(const rt_shape *s) /* elements of one row along axis 0 */
{
    int64_t n = 1;
    for (int i = 1; i < s->rank; i++) n *= s->d[i];
    return n;
}

rt_status rt_cuda_gather_run(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_node *n = p->node;
    const rt_cuda_state *s = p->state;
    return rt_cuda_launched(p, rt_k_gather(io->in[0], io->in[1], io->out[0], n->in_shape[1].d[0], row_count(&n->in_shape[0]),
                                           n->in_shape[0].d[0], rt_cuda_fault(p), s->be->stream));
}

rt_status rt_cuda_scatter_prepare(rt_backend *be, rt_prepared *p)
{
    rt_status st = RT_OK;
    RT_TRY(rt_cuda_prepare(be, p, sizeof(rt_cuda_state), "cuda:chains"));
    p->scratch_bytes = (size_t)(p->node->out_shape[0].d[0] + p->node->in_shape[1].d[0]) * sizeof(int32_t);
out:
    return st;
}

rt_status rt_cuda_scatter_add_run(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_node *n = p->node;
    const rt_cuda_state *s = p->state;
    return rt_cuda_launched(p, rt_k_scatter_add(io->in[0], io->in[1], io->out[0], n->in_shape[1].d[0], row_count(&n->in_shape[0]),
                                                n->out_shape[0].d[0], io->scratch, rt_cuda_fault(p), s->be->stream));
}

rt_status rt_cuda_one_hot_run(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_cuda_state *s = p->state;
    const rt_shape *y = &p->node->out_shape[0];
    return rt_cuda_launched(p, rt_k_one_hot(io->in[0], io->out[0], y->d[0], y->d[1], rt_cuda_fault(p), s->be->stream));
}
