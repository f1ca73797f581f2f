/* log-softmax and soft cross-entropy over the last axis. A group of threads (a power of two, one row of the block) shares a row
 * of logits: maximum, then sum of exponentials, each joined by a fixed tree. Values are shifted by the maximum before anything
 * is subtracted from them, so large logits lose nothing. */
#include "launch.cuh"

#include <math.h>

struct join_max {
    __device__ float operator()(float a, float b) const { return a > b ? a : b; }
};
struct join_sum {
    __device__ float operator()(float a, float b) const { return a + b; }
};

/* The result of a tree, for every thread of the row. slot: one T per row of the block. */
template <typename Op> __device__ static inline float row_join(float v, float *sm, float *slot, Op op)
{
    const float all = rt_k_block_reduce(v, sm, op);
    if (threadIdx.x == 0) slot[threadIdx.y] = all;
    __syncthreads();
    const float out = slot[threadIdx.y];
    __syncthreads();
    return out;
}

/* Maximum of the row and log of the sum of exp(z - maximum). A row with a NaN, or of infinities only, gives NaN. */
struct softmax_row {
    float top, log_sum;
};

__device__ static inline softmax_row measure(const float *z, int64_t cols, bool live, float *sm, float *slot)
{
    softmax_row r;
    float top = -INFINITY, sum = 0.0f;
    if (live)
        for (int64_t c = threadIdx.x; c < cols; c += blockDim.x) top = z[c] > top ? z[c] : top;
    r.top = row_join(top, sm, slot, join_max());
    if (live)
        for (int64_t c = threadIdx.x; c < cols; c += blockDim.x) sum += expf(z[c] - r.top);
    r.log_sum = logf(row_join(sum, sm, slot, join_sum()));
    return r;
}

__global__ static void k_log_softmax(const float *x, float *y, int64_t rows, int64_t cols)
{
    __shared__ float sm[RT_K_BLOCK], slot[RT_K_BLOCK];
    for (int64_t base = (int64_t)blockIdx.x * blockDim.y; base < rows; base += (int64_t)gridDim.x * blockDim.y) {
        const int64_t row = base + threadIdx.y;
        const bool live = row < rows;
        const softmax_row r = measure(x + row * cols, cols, live, sm, slot);
        if (live)
            for (int64_t c = threadIdx.x; c < cols; c += blockDim.x) y[row * cols + c] = (x[row * cols + c] - r.top) - r.log_sum;
    }
}

__global__ static void k_softmax_ce(const float *z, const float *q, float *loss, float *p, int64_t rows, int64_t cols)
{
    __shared__ float sm[RT_K_BLOCK], slot[RT_K_BLOCK];
    for (int64_t base = (int64_t)blockIdx.x * blockDim.y; base < rows; base += (int64_t)gridDim.x * blockDim.y) {
        const int64_t row = base + threadIdx.y;
        const bool live = row < rows;
        const softmax_row r = measure(z + row * cols, cols, live, sm, slot);
        float sum = 0.0f;
        if (live)
            for (int64_t c = threadIdx.x; c < cols; c += blockDim.x) {
                const float lp = (z[row * cols + c] - r.top) - r.log_sum, target = q[row * cols + c];
                p[row * cols + c] = expf(lp);
                if (target != 0.0f) sum -= target * lp; /* 0 log 0 = 0 when a logit is -inf */
            }
        sum = rt_k_block_reduce(sum, sm, join_sum());
        if (live && threadIdx.x == 0) loss[row] = sum;
    }
}

static dim3 group_for(int64_t cols)
{
    unsigned group = 1;
    while (group < RT_K_BLOCK && (int64_t)group < cols) group *= 2;
    return dim3(group, RT_K_BLOCK / group);
}

extern "C" cudaError_t rt_k_log_softmax(const float *x, float *y, int64_t rows, int64_t cols, cudaStream_t s)
{
    if (rows == 0) return cudaSuccess;
    const dim3 block = group_for(cols);
    RT_LAUNCH(k_log_softmax, rt_k_blocks(rows, block.y), block, s, x, y, rows, cols);
    return cudaGetLastError();
}

extern "C" cudaError_t rt_k_softmax_ce(const float *z, const float *q, float *loss, float *p, int64_t rows, int64_t cols,
                                       cudaStream_t s)
{
    if (rows == 0) return cudaSuccess;
    const dim3 block = group_for(cols);
    RT_LAUNCH(k_softmax_ce, rt_k_blocks(rows, block.y), block, s, z, q, loss, p, rows, cols);
    return cudaGetLastError();
}
