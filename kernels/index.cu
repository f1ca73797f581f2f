/* Gather, scatter-add and one-hot along axis 0. Indices are data: one that is out of range is reported through the fault word
 * and touches nothing.
 *
 * scatter_add has no atomics: positions with the same index form a chain (head[row], then next[position]) in ascending order,
 * and the thread of an output element walks the chain of its row. So sums have the order of the reference on every run.
 * Finding a position's predecessor scans back over the indices, m^2/2 reads at worst (all different): batches of thousands,
 * not of millions. */
#include "launch.cuh"

/* y[i, :] = x[idx[i], :]; rows of `row` packs of V. */
template <int V>
__global__ static void k_gather(const uint32_t *x, const int32_t *idx, uint32_t *y, int64_t m, int64_t row, int64_t rows,
                                rt_k_fault f)
{
    RT_K_FOR(e, m * row)
    {
        const int64_t i = e / row;
        const int32_t at = idx[i];
        rt_k_pack<uint32_t, V> v = {};
        if (rt_k_index_ok(at, rows, i, f)) v = rt_k_load<V>(x + (at * row + (e - i * row)) * V);
        rt_k_store<V>(y + e * V, v);
    }
}

extern "C" cudaError_t rt_k_gather(const void *x, const int32_t *idx, void *y, int64_t m, int64_t row, int64_t rows, rt_k_fault f,
                                   cudaStream_t s)
{
    if (m == 0 || row == 0) return cudaSuccess;
    const uint32_t *from = static_cast<const uint32_t *>(x);
    uint32_t *to = static_cast<uint32_t *>(y);
    if (rt_k_vector(row, x, y))
        RT_LAUNCH(k_gather<4>, rt_k_blocks(m * row / 4, RT_K_BLOCK), RT_K_BLOCK, s, from, idx, to, m, row / 4, rows, f);
    else RT_LAUNCH(k_gather<1>, rt_k_blocks(m * row, RT_K_BLOCK), RT_K_BLOCK, s, from, idx, to, m, row, rows, f);
    return cudaGetLastError();
}

__global__ static void k_unlink(int32_t *chain, int64_t n) { RT_K_FOR(i, n) chain[i] = -1; }

/* Every position has one predecessor at most, so no two threads write the same link. */
__global__ static void k_link(const int32_t *idx, int32_t *head, int32_t *next, int64_t m, int64_t rows, rt_k_fault f)
{
    RT_K_FOR(i, m)
    {
        const int32_t at = idx[i];
        if (!rt_k_index_ok(at, rows, i, f)) continue;
        int64_t before = i - 1;
        while (before >= 0 && idx[before] != at) before--;
        if (before < 0) head[at] = (int32_t)i;
        else next[before] = (int32_t)i;
    }
}

template <int V>
__global__ static void k_scatter_add(const float *gy, const int32_t *head, const int32_t *next, float *gx, int64_t rows, int64_t row)
{
    RT_K_FOR(e, rows * row)
    {
        const int64_t r = e / row, c = e - r * row;
        rt_k_pack<float, V> sum = {};
        for (int32_t i = head[r]; i >= 0; i = next[i]) {
            const rt_k_pack<float, V> g = rt_k_load<V>(gy + (i * row + c) * V);
            for (int k = 0; k < V; k++) sum.v[k] += g.v[k];
        }
        rt_k_store<V>(gx + e * V, sum);
    }
}

extern "C" cudaError_t rt_k_scatter_add(const float *gy, const int32_t *idx, float *gx, int64_t m, int64_t row, int64_t rows,
                                        int32_t *chain, rt_k_fault f, cudaStream_t s)
{
    if (rows == 0 || row == 0) return cudaSuccess;
    RT_LAUNCH(k_unlink, rt_k_blocks(rows + m, RT_K_BLOCK), RT_K_BLOCK, s, chain, rows + m);
    if (m > 0) RT_LAUNCH(k_link, rt_k_blocks(m, RT_K_BLOCK), RT_K_BLOCK, s, idx, chain, chain + rows, m, rows, f);
    const int32_t *head = chain, *next = chain + rows;
    if (rt_k_vector(row, gy, gx))
        RT_LAUNCH(k_scatter_add<4>, rt_k_blocks(rows * row / 4, RT_K_BLOCK), RT_K_BLOCK, s, gy, head, next, gx, rows, row / 4);
    else RT_LAUNCH(k_scatter_add<1>, rt_k_blocks(rows * row, RT_K_BLOCK), RT_K_BLOCK, s, gy, head, next, gx, rows, row);
    return cudaGetLastError();
}

__global__ static void k_one_hot(const int32_t *idx, float *y, int64_t m, int64_t classes, rt_k_fault f)
{
    RT_K_FOR(e, m * classes)
    {
        const int64_t i = e / classes, c = e - i * classes;
        const int32_t at = idx[i];
        y[e] = at == c ? 1.0f : 0.0f;
        if (c == 0) (void)rt_k_index_ok(at, classes, i, f);
    }
}

extern "C" cudaError_t rt_k_one_hot(const int32_t *idx, float *y, int64_t m, int64_t classes, rt_k_fault f, cudaStream_t s)
{
    if (m == 0) return cudaSuccess;
    RT_LAUNCH(k_one_hot, rt_k_blocks(m * classes, RT_K_BLOCK), RT_K_BLOCK, s, idx, y, m, classes, f);
    return cudaGetLastError();
}
