/* Elementwise ops on the device: shapes become rt_k_map at prepare, run only launches. */
#include "backend/cuda/cuda.h"

#include <string.h>

#include "ops/util.h"

rt_status rt_cuda_prepare(rt_backend *be, rt_prepared *p, size_t bytes, const char *impl)
{
    rt_status st = RT_OK;
    rt_cuda_state *s = NULL;
    RT_ALLOC(s, bytes, "kernel state");
    s->be = (rt_cuda_backend *)be;
    p->state = s;
    p->impl = impl;
out:
    return st;
}

void rt_cuda_release(rt_prepared *p)
{
    rt_free(p->state);
    p->state = NULL;
}

rt_status rt_cuda_state_prepare(rt_backend *be, rt_prepared *p) { return rt_cuda_prepare(be, p, sizeof(rt_cuda_state), "cuda:flat"); }

rt_status rt_cuda_launched(const rt_prepared *p, cudaError_t e)
{
    return e == cudaSuccess ? RT_OK : rt_cuda_failed(e, rt_op_name(p->node->op));
}

void rt_cuda_map(const rt_shape *out, const int64_t *sa, const int64_t *sb, rt_k_map *m)
{
    int r = 0;
    memset(m, 0, sizeof *m);
    m->n = rt_shape_count(out);
    for (int i = 0; i < out->rank; i++) {
        if (out->d[i] == 1) continue;
        /* The axis before runs into this one when one step of it equals a whole turn of this, in both inputs. */
        if (r > 0 && m->sa[r - 1] == sa[i] * out->d[i] && m->sb[r - 1] == sb[i] * out->d[i]) {
            m->d[r - 1] *= out->d[i];
            r--;
        } else m->d[r] = out->d[i];
        m->sa[r] = sa[i];
        m->sb[r] = sb[i];
        r++;
    }
    m->rank = r ? r : 1;
    if (r == 0) m->d[0] = 1;
}

typedef struct map_state {
    rt_cuda_state s;
    rt_k_map map;
} map_state;

rt_status rt_cuda_flat_prepare(rt_backend *be, rt_prepared *p)
{
    rt_status st = RT_OK;
    RT_TRY(rt_cuda_prepare(be, p, sizeof(map_state), "cuda:flat"));
    ((map_state *)p->state)->map.n = rt_shape_count(&p->node->out_shape[0]);
out:
    return st;
}

rt_status rt_cuda_broadcast_prepare(rt_backend *be, rt_prepared *p)
{
    rt_status st = RT_OK;
    int64_t sa[RT_MAX_RANK] = {0}, sb[RT_MAX_RANK] = {0};
    const rt_node *n = p->node;
    RT_TRY(rt_cuda_prepare(be, p, sizeof(map_state), NULL));
    map_state *s = p->state;
    rt_broadcast_strides(&n->in_shape[0], &n->out_shape[0], sa);
    if (n->n_in > 1) rt_broadcast_strides(&n->in_shape[1], &n->out_shape[0], sb);
    rt_cuda_map(&n->out_shape[0], sa, sb, &s->map);
    p->impl = s->map.rank == 1 ? "cuda:flat" : "cuda:map";
out:
    return st;
}

#define RT_UNARY(ENUM, name)                                                                                           \
    rt_status rt_cuda_##name##_run(const rt_prepared *p, const rt_kernel_io *io)                                       \
    {                                                                                                                  \
        const map_state *s = p->state;                                                                                 \
        return rt_cuda_launched(p, rt_k_##name(io->in[0], io->out[0], s->map.n, s->s.be->stream));                     \
    }
#define RT_BINARY(ENUM, name)                                                                                          \
    rt_status rt_cuda_##name##_run(const rt_prepared *p, const rt_kernel_io *io)                                       \
    {                                                                                                                  \
        const map_state *s = p->state;                                                                                 \
        return rt_cuda_launched(p, rt_k_##name(io->in[0], io->in[1], io->out[0], &s->map, s->s.be->stream));           \
    }
#include "math/elementwise.def"
#undef RT_UNARY
#undef RT_BINARY

/* --- storage that could not be shared ----------------------------------------------------------------------------------- */

rt_status rt_cuda_copy_run(const rt_prepared *p, const rt_kernel_io *io)
{
    const map_state *s = p->state;
    if (s->map.n == 0 || io->in[0] == io->out[0]) return RT_OK;
    return rt_cuda_launched(p, cudaMemcpyAsync(io->out[0], io->in[0], (size_t)s->map.n * 4, cudaMemcpyDeviceToDevice, s->s.be->stream));
}
