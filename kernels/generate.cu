/* Index ramps and dropout masks: nothing is read but a counter, so both are bound by their writes. */
#include "launch.cuh"

#include "math/dropout.h"

__global__ static void k_iota(rt_k_iota a)
{
    RT_K_FOR(i, a.n)
    {
        int64_t value = a.offset, rest = i;
        for (int k = RT_K_RANK - 1; k >= 0; k--) {
            const int64_t q = rest / a.d[k];
            value += (rest - q * a.d[k]) * a.coef[k];
            rest = q;
        }
        if (a.real) static_cast<float *>(a.y)[i] = (float)value;
        else static_cast<int32_t *>(a.y)[i] = (int32_t)value;
    }
}

/* One thread per draw of four words. */
__global__ static void k_dropout_mask(rt_k_dropout a)
{
    const int64_t blocks = (a.each + 3) / 4;
    RT_K_FOR(b, a.nets * blocks)
    {
        const int64_t m = b / blocks, block = b - m * blocks;
        const rt_u32x4 w = rt_dropout_words(a.counter + 4 * m, a.purpose, a.stream, block);
        float *y = a.y + m * a.each + 4 * block;
        for (int i = 0; i < 4; i++)
            if (4 * block + i < a.each) y[i] = rt_dropout_keeps(w.v[i], a.limit) ? a.kept : 0.0f;
    }
}

extern "C" cudaError_t rt_k_iota_fill(const rt_k_iota *a, cudaStream_t s)
{
    if (a->n == 0) return cudaSuccess;
    RT_LAUNCH(k_iota, rt_k_blocks(a->n, RT_K_BLOCK), RT_K_BLOCK, s, *a);
    return cudaGetLastError();
}

extern "C" cudaError_t rt_k_dropout_mask(const rt_k_dropout *a, cudaStream_t s)
{
    if (a->nets * a->each == 0) return cudaSuccess;
    RT_LAUNCH(k_dropout_mask, rt_k_blocks(a->nets * ((a->each + 3) / 4), RT_K_BLOCK), RT_K_BLOCK, s, *a);
    return cudaGetLastError();
}
