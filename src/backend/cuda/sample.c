/* Differentiable views on the device: colour, affine sampling and its adjoint, box mask. */
#include "backend/cuda/cuda.h"

#include "ops/attrs.h"

static cudaStream_t stream_of(const rt_prepared *p) { return ((const rt_cuda_state *)p->state)->be->stream; }

rt_status rt_cuda_color_run(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_shape *x = &p->node->in_shape[0];
    return rt_cuda_launched(p, rt_k_color(io->in[0], io->in[1], io->out[0], x->d[0], x->d[1] * x->d[2], (int32_t)x->d[3], stream_of(p)));
}

/* in: the side with the image, out: the side with the sampled points. */
static rt_k_affine geometry(const rt_shape *in, const rt_shape *out)
{
    return (rt_k_affine){.images = in->d[0], .h_in = in->d[1], .w_in = in->d[2], .h_out = out->d[1], .w_out = out->d[2],
                         .c = (int32_t)in->d[3]};
}

rt_status rt_cuda_affine_sample_run(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_k_affine g = geometry(&p->node->in_shape[0], &p->node->out_shape[0]);
    return rt_cuda_launched(p, rt_k_affine_sample(io->in[0], io->in[1], io->out[0], &g, stream_of(p)));
}

rt_status rt_cuda_affine_scatter_run(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_k_affine g = geometry(&p->node->out_shape[0], &p->node->in_shape[0]);
    return rt_cuda_launched(p, rt_k_affine_scatter(io->in[0], io->in[1], io->out[0], &g, stream_of(p)));
}

rt_status rt_cuda_box_mask_run(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_shape *x = &p->node->in_shape[0];
    return rt_cuda_launched(p, rt_k_box_mask(io->in[0], io->in[1], io->out[0], x->d[0], x->d[1], x->d[2], (int32_t)x->d[3], stream_of(p)));
}
