/* norm, norm_dx and their tangents on the device: the shape becomes segments (kernels/norm.cu), and the form is chosen by the shape alone. */
#include "backend/cuda/cuda.h"

#include "ops/attrs.h"
#include "ops/util.h"

enum {
    FUSED_ROWS = 4096,  /* pixels a block reads twice: 512 KB of a slab, which stays in the second-level cache */
    CHUNK_MIN = 256,    /* units of a block, split */
    CHUNKS_MAX = 512    /* of a segment */
};

typedef struct norm_state {
    rt_cuda_state s;
    rt_k_norm a; /* without pointers */
} norm_state;

bool rt_cuda_norm_supports(const rt_node *n, const char **why)
{
    const rt_shape *x = &n->in_shape[0];
    if (x->d[0] * x->d[1] * x->d[2] <= INT32_MAX && x->d[3] <= INT32_MAX) return true;
    *why = "2^31 pixels or channels";
    return false;
}

static rt_k_norm plan(const rt_node *n)
{
    const rt_norm_attr *a = n->attr;
    const rt_shape *x = &n->in_shape[0];
    const bool batch = a->kind == RT_NORM_BATCH;
    const int64_t nets = rt_nets(a->nets), images = x->d[0], image = x->d[1] * x->d[2];
    rt_k_norm k = {.h = (int32_t)x->d[1], .w = (int32_t)x->d[2], .c = (int32_t)x->d[3], .relu = a->relu, .pool = a->pool,
                   .eps = (float)a->eps, .nets = nets};
    k.segments = batch ? nets : images;
    k.rows = batch ? images / nets * image : image;
    k.units = a->pool ? k.rows / 4 : k.rows;
    k.per_net = k.segments / nets > 0 ? k.segments / nets : 1;
    k.groups = batch ? k.c : a->groups;
    const int32_t d = k.groups > 0 ? k.c / k.groups : 0;
    k.fused = !batch && k.rows <= FUSED_ROWS && d > 0 && d <= RT_K_NORM_SLAB && (d & (d - 1)) == 0;
    k.chunk = (k.units + CHUNKS_MAX - 1) / CHUNKS_MAX;
    if (k.chunk < CHUNK_MIN) k.chunk = CHUNK_MIN;
    k.n_chunks = k.fused ? 1 : (k.units + k.chunk - 1) / k.chunk;
    return k;
}

rt_status rt_cuda_norm_prepare(rt_backend *be, rt_prepared *p)
{
    rt_status st = RT_OK;
    RT_TRY(rt_cuda_prepare(be, p, sizeof(norm_state), NULL));
    rt_k_norm *k = &((norm_state *)p->state)->a;
    *k = plan(p->node);
    int64_t reals = k->fused ? 0 : 2 * k->segments * k->n_chunks * k->c;
    if (p->node->op == RT_OP_NORM_DX) reals += 2 * k->segments * k->c + (k->fused ? 0 : 2 * k->segments * k->groups);
    p->scratch_bytes = (size_t)reals * sizeof(float);
    p->impl = k->fused ? "cuda:fused" : "cuda:split";
out:
    return st;
}

static void part(float **at, float **a, float **b, int64_t n)
{
    *a = *at;
    *b = *at + n;
    *at += 2 * n;
}

rt_status rt_cuda_norm_run(const rt_prepared *p, const rt_kernel_io *io)
{
    const norm_state *s = p->state;
    rt_k_norm k = s->a;
    float *scratch = io->scratch;
    k.x = io->in[0];
    k.gamma = io->in[1];
    k.beta = io->in[2];
    k.y = io->out[0];
    k.mean_out = io->out[1];
    k.rstd_out = io->out[2];
    if (!k.fused) part(&scratch, &k.part_a, &k.part_b, k.segments * k.n_chunks * k.c);
    return rt_cuda_launched(p, rt_k_norm_forward(&k, s->s.be->stream));
}

rt_status rt_cuda_norm_dx_run(const rt_prepared *p, const rt_kernel_io *io)
{
    const norm_state *s = p->state;
    rt_k_norm k = s->a;
    float *scratch = io->scratch;
    k.x = io->in[0];
    k.gamma = io->in[1];
    k.beta = io->in[2];
    k.mean = io->in[3];
    k.rstd = io->in[4];
    k.gy = io->in[5];
    k.gx = io->out[0];
    k.ggamma = io->out[1];
    k.gbeta = io->out[2];
    part(&scratch, &k.sum_g, &k.sum_gx, k.segments * k.c);
    if (!k.fused) {
        part(&scratch, &k.part_a, &k.part_b, k.segments * k.n_chunks * k.c);
        part(&scratch, &k.stat_e, &k.stat_ex, k.segments * k.groups);
    }
    return rt_cuda_launched(p, rt_k_norm_backward(&k, s->s.be->stream));
}

/* --- tangents (kernels/norm_tangent.cu) ----------------------------------------------------------------------------------- */
static size_t tangent_sums(const rt_node *n, const rt_k_norm *k)
{
    return (size_t)(k->segments * k->c * (n->op == RT_OP_NORM_TANGENT ? RT_K_NORM_SUMS : RT_K_NORM_DX_SUMS));
}

rt_status rt_cuda_norm_tangent_prepare(rt_backend *be, rt_prepared *p)
{
    rt_status st = RT_OK;
    RT_TRY(rt_cuda_prepare(be, p, sizeof(norm_state), "cuda:tangent"));
    rt_k_norm *k = &((norm_state *)p->state)->a;
    *k = plan(p->node);
    k->chunk = (k->rows + CHUNKS_MAX - 1) / CHUNKS_MAX;
    if (k->chunk < CHUNK_MIN) k->chunk = CHUNK_MIN;
    k->n_chunks = k->rows > 0 ? (k->rows + k->chunk - 1) / k->chunk : 1;
    const size_t sums = tangent_sums(p->node, k), parts = k->n_chunks > 1 ? sums * (size_t)k->n_chunks : 0;
    p->scratch_bytes = (parts + sums + (size_t)(k->segments * k->groups * RT_K_NORM_STATS)) * sizeof(float);
out:
    return st;
}

rt_status rt_cuda_norm_tangent_run(const rt_prepared *p, const rt_kernel_io *io)
{
    const norm_state *s = p->state;
    const rt_node *n = p->node;
    const rt_k_norm *k = &s->a;
    const bool forward = n->op == RT_OP_NORM_TANGENT;
    const int tx = forward ? 5 : 6;
    float *scratch = io->scratch;
    rt_k_norm_tangent a = {.segments = k->segments, .rows = k->rows, .units = k->units, .nets = k->nets, .per_net = k->per_net,
                           .chunk = k->chunk, .n_chunks = k->n_chunks, .h = k->h, .w = k->w, .c = k->c, .groups = k->groups,
                           .relu = k->relu, .pool = k->pool, .x = io->in[0], .gamma = io->in[1], .beta = io->in[2], .mean = io->in[3],
                           .rstd = io->in[4], .tx = io->in[tx], .tgamma = io->in[tx + 1]};
    if (forward) {
        a.tbeta = io->in[7];
        a.ty = io->out[0];
    } else {
        a.gy = io->in[5];
        a.tgy = n->n_in == 9 ? io->in[8] : NULL;
        a.tgx = io->out[0];
        a.tggamma = io->out[1];
        a.tgbeta = io->out[2];
    }
    if (k->segments * k->rows * k->c == 0) { /* no elements: sums over none */
        const size_t bytes = (size_t)(forward ? 0 : rt_shape_count(&n->out_shape[1])) * sizeof(float);
        cudaError_t e = bytes ? cudaMemsetAsync(io->out[1], 0, bytes, s->s.be->stream) : cudaSuccess;
        if (e == cudaSuccess && bytes) e = cudaMemsetAsync(io->out[2], 0, bytes, s->s.be->stream);
        return rt_cuda_launched(p, e);
    }
    a.part = scratch;
    a.sum = scratch + (k->n_chunks > 1 ? tangent_sums(n, k) * (size_t)k->n_chunks : 0);
    a.stat = a.sum + tangent_sums(n, k);
    return rt_cuda_launched(p, rt_k_norm_tangent_run(&a, s->s.be->stream));
}
