/* Movement on the device: everything is strided copies of 32-bit elements, planned as maps at prepare. */
#include "backend/cuda/cuda.h"

#include "ops/attr.h"
#include "ops/util.h"

typedef struct move {
    rt_k_map map;
    int64_t from, to; /* offsets of the first element on either side */
} move;

typedef struct move_state {
    rt_cuda_state s;
    int n; /* moves, one per input */
    int64_t zeros; /* elements of the output to clear first */
    move m[];
} move_state;

static rt_status prepare(rt_backend *be, rt_prepared *p, int n, move_state **out)
{
    rt_status st = RT_OK;
    RT_TRY(rt_cuda_prepare(be, p, sizeof(move_state) + (size_t)n * sizeof(move), "cuda:map"));
    *out = p->state;
    (*out)->n = n;
out:
    return st;
}

static int64_t dot(int rank, const int64_t *a, const int64_t *b)
{
    int64_t sum = 0;
    for (int i = 0; i < rank; i++) sum += a[i] * b[i];
    return sum;
}

rt_status rt_cuda_broadcast_map_prepare(rt_backend *be, rt_prepared *p)
{
    rt_status st = RT_OK;
    int64_t from[RT_MAX_RANK] = {0}, to[RT_MAX_RANK] = {0};
    const rt_node *n = p->node;
    move_state *s = NULL;
    RT_TRY(prepare(be, p, 1, &s));
    rt_broadcast_strides(&n->in_shape[0], &n->out_shape[0], from);
    rt_shape_strides(&n->out_shape[0], to);
    rt_cuda_map(&n->out_shape[0], from, to, &s->m[0].map);
out:
    return st;
}

rt_status rt_cuda_transpose_prepare(rt_backend *be, rt_prepared *p)
{
    rt_status st = RT_OK;
    int64_t own[RT_MAX_RANK] = {0}, from[RT_MAX_RANK] = {0}, to[RT_MAX_RANK] = {0};
    const rt_node *n = p->node;
    const rt_transpose_attr *a = n->attr;
    move_state *s = NULL;
    RT_TRY(prepare(be, p, 1, &s));
    rt_shape_strides(&n->in_shape[0], own);
    rt_shape_strides(&n->out_shape[0], to);
    for (int i = 0; i < n->out_shape[0].rank; i++) from[i] = own[a->perm[i]];
    rt_cuda_map(&n->out_shape[0], from, to, &s->m[0].map);
out:
    return st;
}

rt_status rt_cuda_slice_prepare(rt_backend *be, rt_prepared *p)
{
    rt_status st = RT_OK;
    int64_t from[RT_MAX_RANK] = {0}, to[RT_MAX_RANK] = {0};
    const rt_node *n = p->node;
    move_state *s = NULL;
    RT_TRY(prepare(be, p, 1, &s));
    rt_shape_strides(&n->in_shape[0], from);
    rt_shape_strides(&n->out_shape[0], to);
    rt_cuda_map(&n->out_shape[0], from, to, &s->m[0].map);
    s->m[0].from = dot(n->in_shape[0].rank, ((const rt_slice_attr *)n->attr)->begin, from);
out:
    return st;
}

rt_status rt_cuda_pad_prepare(rt_backend *be, rt_prepared *p)
{
    rt_status st = RT_OK;
    int64_t from[RT_MAX_RANK] = {0}, to[RT_MAX_RANK] = {0};
    const rt_node *n = p->node;
    move_state *s = NULL;
    RT_TRY(prepare(be, p, 1, &s));
    rt_shape_strides(&n->in_shape[0], from);
    rt_shape_strides(&n->out_shape[0], to);
    rt_cuda_map(&n->in_shape[0], from, to, &s->m[0].map);
    s->m[0].to = dot(n->in_shape[0].rank, ((const rt_pad_attr *)n->attr)->lo, to);
    s->zeros = rt_shape_count(&n->out_shape[0]);
out:
    return st;
}

rt_status rt_cuda_concat_prepare(rt_backend *be, rt_prepared *p)
{
    rt_status st = RT_OK;
    int64_t from[RT_MAX_RANK] = {0}, to[RT_MAX_RANK] = {0}, at = 0;
    const rt_node *n = p->node;
    const int axis = ((const rt_concat_attr *)n->attr)->axis;
    move_state *s = NULL;
    RT_TRY(prepare(be, p, n->n_in, &s));
    rt_shape_strides(&n->out_shape[0], to);
    for (int i = 0; i < n->n_in; i++) {
        rt_shape_strides(&n->in_shape[i], from);
        rt_cuda_map(&n->in_shape[i], from, to, &s->m[i].map);
        s->m[i].to = at * to[axis];
        at += n->in_shape[i].d[axis];
    }
out:
    return st;
}

rt_status rt_cuda_move_run(const rt_prepared *p, const rt_kernel_io *io)
{
    const move_state *s = p->state;
    cudaError_t e = cudaSuccess;
    uint32_t *to = io->out[0];
    if (s->zeros > 0) e = cudaMemsetAsync(to, 0, (size_t)s->zeros * 4, s->s.be->stream);
    for (int i = 0; i < s->n && e == cudaSuccess; i++)
        e = rt_k_copy((const uint32_t *)io->in[i] + s->m[i].from, to + s->m[i].to, &s->m[i].map, s->s.be->stream);
    return rt_cuda_launched(p, e);
}
