/* Reductions in a fixed order.
 *
 * rows     The reduced axes include the fastest: a group of T threads (a power of two, a row of the block) shares one
 *          output; thread t takes elements t, t + T, ... of the chunk, then a tree joins the T results.
 * columns  The fastest axis is kept: one thread per output walks its chunk, and neighbouring threads read neighbours.
 *
 * A second pass joins the chunks the same way. The order depends on the shape and on nothing else. */
#include "launch.cuh"

#include <math.h>

struct op_sum {
    __device__ float operator()(float a, float b) const { return a + b; }
    __device__ float identity() const { return 0.0f; }
};

struct op_max {
    __device__ float operator()(float a, float b) const { return a > b || a != a ? a : b; } /* NaN in either wins */
    __device__ float identity() const { return -INFINITY; }
};

__device__ static inline int64_t walk(int64_t i, int32_t rank, const int64_t *d, const int64_t *s)
{
    int64_t off = 0;
    for (int32_t k = rank - 1; k >= 0; k--) {
        const int64_t q = i / d[k];
        off += (i - q * d[k]) * s[k];
        i = q;
    }
    return off;
}

/* Grid: x over (output, chunk) pairs in groups of blockDim.y. y[chunk * n_out + o]. */
template <typename Op> __global__ static void k_rows(const float *x, float *y, rt_k_reduce r)
{
    __shared__ float sm[RT_K_BLOCK];
    const Op op = Op();
    const int64_t jobs = r.n_out * r.n_chunks;
    for (int64_t base = (int64_t)blockIdx.x * blockDim.y; base < jobs; base += (int64_t)gridDim.x * blockDim.y) {
        const int64_t job = base + threadIdx.y; /* the tail of the last group runs along: all threads meet in the tree */
        float acc = op.identity();
        if (job < jobs) {
            const int64_t from = walk(job % r.n_out, r.kept_rank, r.kept_d, r.kept_s), first = job / r.n_out * r.chunk;
            const int64_t end = first + r.chunk < r.n_red ? first + r.chunk : r.n_red;
            for (int64_t e = first + threadIdx.x; e < end; e += blockDim.x)
                acc = op(acc, x[from + walk(e, r.red_rank, r.red_d, r.red_s)]);
        }
        acc = rt_k_block_reduce(acc, sm, op);
        if (threadIdx.x == 0 && job < jobs) y[job] = acc;
    }
}

template <typename Op> __global__ static void k_columns(const float *x, float *y, rt_k_reduce r)
{
    const Op op = Op();
    RT_K_FOR(job, r.n_out * r.n_chunks)
    {
        const int64_t from = walk(job % r.n_out, r.kept_rank, r.kept_d, r.kept_s), first = job / r.n_out * r.chunk;
        const int64_t end = first + r.chunk < r.n_red ? first + r.chunk : r.n_red;
        float acc = op.identity();
        for (int64_t e = first; e < end; e++) acc = op(acc, x[from + walk(e, r.red_rank, r.red_d, r.red_s)]);
        y[job] = acc;
    }
}

template <typename Op> static cudaError_t one_pass(const float *x, float *y, const rt_k_reduce *r, cudaStream_t s)
{
    const int64_t jobs = r->n_out * r->n_chunks;
    if (r->columns) RT_LAUNCH(k_columns<Op>, rt_k_blocks(jobs, RT_K_BLOCK), RT_K_BLOCK, s, x, y, *r);
    else {
        unsigned group = 1; /* threads per output: no more than it has elements */
        while (group < RT_K_BLOCK && (int64_t)group < r->n_red && (int64_t)group < r->chunk) group *= 2;
        const dim3 block(group, RT_K_BLOCK / group);
        RT_LAUNCH(k_rows<Op>, rt_k_blocks(jobs, block.y), block, s, x, y, *r);
    }
    return cudaGetLastError();
}

template <typename Op> static cudaError_t reduce(const float *x, float *y, const rt_k_reduce *r, float *scratch, cudaStream_t s)
{
    if (r->n_out == 0) return cudaSuccess;
    if (r->n_chunks == 1) return one_pass<Op>(x, y, r, s);
    const cudaError_t e = one_pass<Op>(x, scratch, r, s);
    if (e != cudaSuccess) return e;
    /* Partials lie as [chunk][output]: reduce axis 0 of them. */
    rt_k_reduce join = {};
    join.n_out = r->n_out;
    join.n_red = join.chunk = r->n_chunks;
    join.n_chunks = 1;
    join.columns = r->columns;
    join.kept_rank = join.red_rank = 1;
    join.kept_d[0] = r->n_out;
    join.kept_s[0] = 1;
    join.red_d[0] = r->n_chunks;
    join.red_s[0] = r->n_out;
    return one_pass<Op>(scratch, y, &join, s);
}

extern "C" cudaError_t rt_k_sum(const float *x, float *y, const rt_k_reduce *r, float *scratch, cudaStream_t s)
{
    return reduce<op_sum>(x, y, r, scratch, s);
}

extern "C" cudaError_t rt_k_amax(const float *x, float *y, const rt_k_reduce *r, float *scratch, cudaStream_t s)
{
    return reduce<op_max>(x, y, r, scratch, s);
}

/* --- argmax of the last axis ------------------------------------------------------------------------------------------ */

struct best {
    float v;
    int32_t at;
};

struct op_best { /* larger value, then smaller index */
    __device__ best operator()(best a, best b) const { return a.v > b.v || (a.v == b.v && a.at < b.at) ? a : b; }
};

/* As the reference scans: element 0 stands until something is larger, so a NaN there stays and a NaN elsewhere loses. */
__device__ static inline best candidate(float v, int64_t at)
{
    best c;
    c.v = v == v ? v : at == 0 ? INFINITY : -INFINITY;
    c.at = (int32_t)at;
    return c;
}

__global__ static void k_argmax(const float *x, int32_t *y, int64_t rows, int64_t cols)
{
    __shared__ best sm[RT_K_BLOCK];
    const op_best op = op_best();
    for (int64_t base = (int64_t)blockIdx.x * blockDim.y; base < rows; base += (int64_t)gridDim.x * blockDim.y) {
        const int64_t row = base + threadIdx.y;
        best acc;
        acc.v = -INFINITY;
        acc.at = INT32_MAX;
        if (row < rows)
            for (int64_t c = threadIdx.x; c < cols; c += blockDim.x) acc = op(acc, candidate(x[row * cols + c], c));
        acc = rt_k_block_reduce(acc, sm, op);
        if (threadIdx.x == 0 && row < rows) y[row] = acc.at;
    }
}

extern "C" cudaError_t rt_k_argmax(const float *x, int32_t *y, int64_t rows, int64_t cols, cudaStream_t s)
{
    if (rows == 0) return cudaSuccess;
    unsigned group = 1;
    while (group < RT_K_BLOCK && (int64_t)group < cols) group *= 2;
    const dim3 block(group, RT_K_BLOCK / group);
    RT_LAUNCH(k_argmax, rt_k_blocks(rows, block.y), block, s, x, y, rows, cols);
    return cudaGetLastError();
}
