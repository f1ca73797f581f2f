/* Index ramps and dropout masks on the device. */
#include "backend/cuda/cuda.h"

#include "base/rng.h"
#include "math/dropout.h"
#include "ops/attr.h"

static cudaStream_t stream_of(const rt_prepared *p) { return ((const rt_cuda_state *)p->state)->be->stream; }

rt_status rt_cuda_iota_run(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_iota_attr *a = p->node->attr;
    const rt_shape *s = &p->node->out_shape[0];
    rt_k_iota k = {.y = io->out[0], .n = rt_shape_count(s), .offset = a->offset, .real = s->dtype == RT_F32};
    for (int i = 0; i < RT_K_RANK; i++) {
        const int at = i - (RT_K_RANK - s->rank);
        k.d[i] = at < 0 ? 1 : s->d[at];
        k.coef[i] = at < 0 ? 0 : a->coef[at];
    }
    return rt_cuda_launched(p, rt_k_iota_fill(&k, stream_of(p)));
}

rt_status rt_cuda_dropout_mask_run(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_dropout_attr *a = p->node->attr;
    const rt_shape *c = &p->node->in_shape[0];
    const int64_t nets = c->rank == 2 ? c->d[0] : 1;
    const rt_k_dropout k = {.counter = io->in[0], .y = io->out[0], .nets = nets, .each = rt_shape_count(&p->node->out_shape[0]) / nets,
                            .purpose = RT_RNG_DROPOUT, .stream = (uint32_t)a->stream, .limit = rt_dropout_limit(a->keep),
                            .kept = (float)(1.0 / a->keep)};
    return rt_cuda_launched(p, rt_k_dropout_mask(&k, stream_of(p)));
}
