/* Pooling and its adjoints on the device. Sizes within an image are 32-bit there; what does not fit is refused at prepare. */
#include "backend/cuda/cuda.h"

#include "ops/attrs.h"

typedef struct pool_state {
    rt_cuda_state s;
    rt_k_pool a;
} pool_state;

static bool backward(rt_op op) { return op == RT_OP_AVG_POOL_DX || op == RT_OP_MAX_POOL_DX; }

bool rt_cuda_pool_supports(const rt_node *n, const char **why)
{
    const rt_shape *big = backward(n->op) ? &n->out_shape[0] : &n->in_shape[0];
    const int64_t image = big->d[1] * big->d[2];
    if (image <= INT32_MAX && big->d[3] <= INT32_MAX) return true;
    *why = "an image of 2^31 pixels or channels";
    return false;
}

rt_status rt_cuda_pool_prepare(rt_backend *be, rt_prepared *p)
{
    rt_status st = RT_OK;
    const rt_node *n = p->node;
    const bool dx = backward(n->op);
    const rt_shape *big = dx ? &n->out_shape[0] : &n->in_shape[0], *small = dx ? &n->in_shape[0] : &n->out_shape[0];
    const rt_pool_attr *a = n->attr; /* rt_pool_dx_attr begins with one */
    RT_TRY(rt_cuda_prepare(be, p, sizeof(pool_state), "cuda:windows"));
    ((pool_state *)p->state)->a = (rt_k_pool){
        .n = big->d[0], .h = (int32_t)big->d[1], .w = (int32_t)big->d[2], .c = (int32_t)big->d[3],
        .p = (int32_t)small->d[1], .q = (int32_t)small->d[2],
        .size = {a->size[0], a->size[1]}, .stride = {a->stride[0], a->stride[1]}, .pad = {a->pad[0], a->pad[1]},
    };
out:
    return st;
}

rt_status rt_cuda_avg_pool_run(const rt_prepared *p, const rt_kernel_io *io)
{
    const pool_state *s = p->state;
    return rt_cuda_launched(p, rt_k_avg_pool(io->in[0], io->out[0], &s->a, s->s.be->stream));
}

rt_status rt_cuda_avg_pool_dx_run(const rt_prepared *p, const rt_kernel_io *io)
{
    const pool_state *s = p->state;
    return rt_cuda_launched(p, rt_k_avg_pool_dx(io->in[0], io->out[0], &s->a, s->s.be->stream));
}

rt_status rt_cuda_max_pool_run(const rt_prepared *p, const rt_kernel_io *io)
{
    const pool_state *s = p->state;
    return rt_cuda_launched(p, rt_k_max_pool(io->in[0], io->out[0], io->out[1], &s->a, s->s.be->stream));
}

rt_status rt_cuda_max_pool_dx_run(const rt_prepared *p, const rt_kernel_io *io)
{
    const pool_state *s = p->state;
    return rt_cuda_launched(p, rt_k_max_pool_dx(io->in[0], io->in[1], io->out[0], &s->a, rt_cuda_fault(p), s->s.be->stream));
}

rt_status rt_cuda_pool_gather_run(const rt_prepared *p, const rt_kernel_io *io)
{
    const pool_state *s = p->state;
    return rt_cuda_launched(p, rt_k_pool_gather(io->in[0], io->in[1], io->out[0], &s->a, rt_cuda_fault(p), s->s.be->stream));
}
