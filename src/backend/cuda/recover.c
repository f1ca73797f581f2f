/* The shared view of a block of images, and moments per channel of blocks, on the device (kernels/recover.cu). */
#include "backend/cuda/cuda.h"

#include "ops/attrs.h"

static cudaStream_t stream_of(const rt_prepared *p) { return ((const rt_cuda_state *)p->state)->be->stream; }

static rt_k_crop geometry(const rt_shape *image, const rt_shape *view, const rt_shape *box)
{
    return (rt_k_crop){.images = image->d[0], .each = image->d[0] / box->d[0], .h = image->d[1], .w = image->d[2],
                       .h_view = view->d[1], .w_view = view->d[2], .c = (int32_t)image->d[3]};
}

rt_status rt_cuda_crop_view_run(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_node *n = p->node;
    const rt_k_crop g = geometry(&n->in_shape[0], &n->out_shape[0], &n->in_shape[1]);
    return rt_cuda_launched(p, rt_k_crop_view(io->in[0], io->in[1], io->out[0], &g, stream_of(p)));
}

rt_status rt_cuda_crop_view_dx_run(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_node *n = p->node;
    const rt_k_crop g = geometry(&n->out_shape[0], &n->in_shape[0], &n->in_shape[1]);
    return rt_cuda_launched(p, rt_k_crop_view_dx(io->in[0], io->in[1], io->out[0], &g, stream_of(p)));
}

static rt_k_blocks_of blocks_of(const rt_node *n)
{
    const int64_t *d = n->in_shape[0].d, groups = ((const rt_moments_attr *)n->attr)->groups;
    return (rt_k_blocks_of){.groups = groups, .each = d[0] / groups, .pixels = d[1] * d[2], .channels = d[3]};
}

rt_status rt_cuda_moments_prepare(rt_backend *be, rt_prepared *p)
{
    const int64_t *d = p->node->in_shape[0].d;
    rt_status st = rt_cuda_prepare(be, p, sizeof(rt_cuda_state), "kernel");
    if (p->node->op == RT_OP_MOMENTS) p->scratch_bytes = (size_t)(d[0] * d[3]) * 2 * sizeof(float);
    return st;
}

rt_status rt_cuda_moments_run(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_k_blocks_of b = blocks_of(p->node);
    return rt_cuda_launched(p, rt_k_moments(io->in[0], io->out[0], io->out[1], io->scratch, &b, stream_of(p)));
}

rt_status rt_cuda_moments_dx_run(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_k_blocks_of b = blocks_of(p->node);
    return rt_cuda_launched(p, rt_k_moments_dx(io->in[0], io->in[1], io->in[2], io->in[3], io->out[0], &b, stream_of(p)));
}
