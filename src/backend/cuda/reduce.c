/* sum, amax, argmax on the device. The order of additions is planned here from the shape alone (kernels/reduce.cu). */
#include "backend/cuda/cuda.h"

#include "ops/attr.h"
#include "ops/util.h"

enum {
    ROW_CHUNK = 8192,      /* elements a block joins: 32 a thread, then a tree of 256; rounding grows with 40, not 8192 */
    COLUMN_CHUNK_MIN = 64
};

typedef struct reduce_state {
    rt_cuda_state s;
    rt_k_reduce r;
} reduce_state;

/* Appends an axis, joining it with the one before where they are walked as one. */
static void add_axis(int32_t *rank, int64_t *d, int64_t *s, int64_t size, int64_t stride)
{
    if (*rank > 0 && s[*rank - 1] == size * stride) {
        d[*rank - 1] *= size;
        s[*rank - 1] = stride;
        return;
    }
    d[*rank] = size;
    s[*rank] = stride;
    ++*rank;
}

void rt_cuda_reduce_plan(const rt_shape *x, uint32_t axes, rt_k_reduce *r)
{
    int64_t stride[RT_MAX_RANK] = {0};
    bool last_kept = false;
    rt_shape_strides(x, stride);
    *r = (rt_k_reduce){.n_out = 1, .n_red = 1};
    for (int i = 0; i < x->rank; i++) {
        bool reduced = axes >> i & 1;
        if (reduced) r->n_red *= x->d[i];
        else r->n_out *= x->d[i];
        if (x->d[i] == 1) continue;
        last_kept = !reduced;
        if (reduced) add_axis(&r->red_rank, r->red_d, r->red_s, x->d[i], stride[i]);
        else add_axis(&r->kept_rank, r->kept_d, r->kept_s, x->d[i], stride[i]);
    }
    r->columns = last_kept;
    r->chunk = ROW_CHUNK;
    if (r->columns) /* about the square root: as many chunks as elements in each, so both passes are short */
        for (r->chunk = COLUMN_CHUNK_MIN; r->chunk * r->chunk < r->n_red;) r->chunk *= 2;
    r->n_chunks = r->n_red > r->chunk ? (r->n_red + r->chunk - 1) / r->chunk : 1;
}

rt_status rt_cuda_reduce_prepare(rt_backend *be, rt_prepared *p)
{
    rt_status st = RT_OK;
    RT_TRY(rt_cuda_prepare(be, p, sizeof(reduce_state), NULL));
    rt_k_reduce *r = &((reduce_state *)p->state)->r;
    rt_cuda_reduce_plan(&p->node->in_shape[0], ((const rt_reduce_attr *)p->node->attr)->axes, r);
    if (r->n_chunks > 1) p->scratch_bytes = (size_t)(r->n_out * r->n_chunks) * sizeof(float);
    p->impl = r->columns ? "cuda:columns" : "cuda:rows";
out:
    return st;
}

rt_status rt_cuda_sum_run(const rt_prepared *p, const rt_kernel_io *io)
{
    const reduce_state *s = p->state;
    return rt_cuda_launched(p, rt_k_sum(io->in[0], io->out[0], &s->r, io->scratch, s->s.be->stream));
}

rt_status rt_cuda_amax_run(const rt_prepared *p, const rt_kernel_io *io)
{
    const reduce_state *s = p->state;
    return rt_cuda_launched(p, rt_k_amax(io->in[0], io->out[0], &s->r, io->scratch, s->s.be->stream));
}

rt_status rt_cuda_argmax_run(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_cuda_state *s = p->state;
    const rt_shape *x = &p->node->in_shape[0];
    return rt_cuda_launched(p, rt_k_argmax(io->in[0], io->out[0], rt_shape_count(&p->node->out_shape[0]), x->d[x->rank - 1],
                                           s->be->stream));
}
