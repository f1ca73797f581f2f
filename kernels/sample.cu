/* Differentiable views: colour, affine sampling with its adjoint, box mask. Formulas: math/sample.inc.
 *
 * The adjoint of affine sampling is a gather: a thread owns one pixel of the image and looks for the output points that read it.
 * Solving the affine map backwards bounds them by a box, a few points for the maps augmentation draws; inside the box the taps
 * are computed by the same function as forwards, and whoever did not read the pixel adds nothing. The box is widened by more
 * than the rounding of either direction, so no tap is lost, and terms are added in scan order. A map that cannot be inverted
 * makes the box the whole output: slow, and right. */
#include "launch.cuh"

#include <math.h>

#include "math/hd.h"

#include "math/real_f32.h"
#include "math/sample.inc"

struct add_up {
    __device__ float operator()(float a, float b) const { return a + b; }
};

/* A block per image: the mean over all of it, then every pixel. */
__global__ static void k_color(const float *x, const float *param, float *y, int64_t images, int64_t pixels, int32_t c)
{
    __shared__ float sm[RT_K_BLOCK], mean;
    const int64_t size = pixels * c;
    for (int64_t i = blockIdx.x; i < images; i += gridDim.x) {
        const float *xi = x + i * size;
        float sum = 0.0f;
        for (int64_t e = threadIdx.x; e < size; e += blockDim.x) sum += xi[e];
        sum = rt_k_block_reduce(sum, sm, add_up());
        if (threadIdx.x == 0) mean = sum / (float)size;
        __syncthreads();
        const float image_mean = mean;
        for (int64_t q = threadIdx.x; q < pixels; q += blockDim.x) {
            float pixel = 0.0f;
            for (int32_t k = 0; k < c; k++) pixel += xi[q * c + k];
            pixel /= (float)c;
            for (int32_t k = 0; k < c; k++)
                y[i * size + q * c + k] = rt_color_f32(xi[q * c + k], pixel, image_mean, param + 3 * i);
        }
        __syncthreads(); /* mean may be written again */
    }
}

/* One thread per output pixel: its taps serve all channels. */
__global__ static void k_affine_sample(const float *x, const float *a, float *y, rt_k_affine g)
{
    RT_K_FOR(e, g.images * g.h_out * g.w_out)
    {
        const int64_t line = e / g.w_out, image = line / g.h_out;
        int64_t pixel[4];
        float weight[4];
        const int taps = rt_affine_taps_f32(a + image * 6, line - image * g.h_out, e - line * g.w_out, g.h_in, g.w_in, pixel, weight);
        const float *xi = x + image * g.h_in * g.w_in * g.c;
        for (int32_t c = 0; c < g.c; c++) {
            float sum = 0.0f;
            for (int k = 0; k < taps; k++) sum += weight[k] * xi[pixel[k] * g.c + c];
            y[e * g.c + c] = sum;
        }
    }
}

/* Points [i0, i1] x [j0, j1] of the output that may read pixel (r, c). */
struct bounds {
    int64_t i0, i1, j0, j1;
};

/* [lo, hi] as indices in 0..n-1, one to spare on either side; everything when a bound is not a number. */
__device__ static inline void clip(double lo, double hi, int64_t n, int64_t *first, int64_t *last)
{
    *first = lo - 1.0 > 0.0 ? (lo - 1.0 < (double)n ? (int64_t)(lo - 1.0) : n) : 0;
    *last = hi + 1.0 < (double)(n - 1) ? (hi + 1.0 > -1.0 ? (int64_t)(hi + 1.0) : -1) : n - 1;
}

__device__ static inline bounds readers_of(const float *a, int64_t r, int64_t c, const rt_k_affine &g)
{
    /* The taps' coordinates are float sums: they are off by less than this from the exact map. */
    const double slack_r = 3e-7 * (fabs((double)a[0]) * (double)g.h_out + fabs((double)a[1]) * (double)g.w_out + fabs((double)a[2]));
    const double slack_c = 3e-7 * (fabs((double)a[3]) * (double)g.h_out + fabs((double)a[4]) * (double)g.w_out + fabs((double)a[5]));
    const double det = (double)a[0] * (double)a[4] - (double)a[1] * (double)a[3];
    const double dr = (double)r - (double)a[2], dc = (double)c - (double)a[5], er = 1.0 + slack_r, ec = 1.0 + slack_c;
    const double i = ((double)a[4] * dr - (double)a[1] * dc) / det, j = ((double)a[0] * dc - (double)a[3] * dr) / det;
    const double ei = (fabs((double)a[4]) * er + fabs((double)a[1]) * ec) / fabs(det);
    const double ej = (fabs((double)a[0]) * ec + fabs((double)a[3]) * er) / fabs(det);
    bounds b;
    clip(i - ei, i + ei, g.h_out, &b.i0, &b.i1);
    clip(j - ej, j + ej, g.w_out, &b.j0, &b.j1);
    return b;
}

/* gx [images, h_in, w_in, c] from gy [images, h_out, w_out, c]. Up to 4 channels at a time stay in registers. */
__global__ static void k_affine_scatter(const float *gy, const float *a, float *gx, rt_k_affine g)
{
    enum { LANES = 4 };
    RT_K_FOR(e, g.images * g.h_in * g.w_in)
    {
        const int64_t line = e / g.w_in, image = line / g.h_in, me = e - image * g.h_in * g.w_in;
        const bounds b = readers_of(a + image * 6, line - image * g.h_in, e - line * g.w_in, g);
        for (int32_t c0 = 0; c0 < g.c; c0 += LANES) {
            float sum[LANES] = {0.0f, 0.0f, 0.0f, 0.0f};
            for (int64_t i = b.i0; i <= b.i1; i++)
                for (int64_t j = b.j0; j <= b.j1; j++) {
                    int64_t pixel[4];
                    float weight[4];
                    const int taps = rt_affine_taps_f32(a + image * 6, i, j, g.h_in, g.w_in, pixel, weight);
                    for (int k = 0; k < taps; k++) {
                        if (pixel[k] != me) continue;
                        const float *from = gy + ((image * g.h_out + i) * g.w_out + j) * g.c + c0;
                        for (int l = 0; l < LANES; l++)
                            if (c0 + l < g.c) sum[l] += weight[k] * from[l];
                    }
                }
            for (int l = 0; l < LANES; l++)
                if (c0 + l < g.c) gx[e * g.c + c0 + l] = sum[l];
        }
    }
}

__global__ static void k_box_mask(const float *x, const float *box, float *y, int64_t images, int64_t h, int64_t w, int32_t c)
{
    RT_K_FOR(e, images * h * w)
    {
        const int64_t line = e / w, image = line / h;
        const int hidden = rt_box_covers_f32(box + image * 4, line - image * h, e - line * w);
        for (int32_t k = 0; k < c; k++) y[e * c + k] = hidden ? 0.0f : x[e * c + k];
    }
}

extern "C" cudaError_t rt_k_color(const float *x, const float *param, float *y, int64_t images, int64_t pixels, int32_t c, cudaStream_t s)
{
    if (images == 0 || pixels == 0 || c == 0) return cudaSuccess;
    RT_LAUNCH(k_color, rt_k_blocks(images, 1), RT_K_BLOCK, s, x, param, y, images, pixels, c);
    return cudaGetLastError();
}

extern "C" cudaError_t rt_k_affine_sample(const float *x, const float *a, float *y, const rt_k_affine *g, cudaStream_t s)
{
    const int64_t n = g->images * g->h_out * g->w_out;
    if (n == 0 || g->c == 0) return cudaSuccess;
    RT_LAUNCH(k_affine_sample, rt_k_blocks(n, RT_K_BLOCK), RT_K_BLOCK, s, x, a, y, *g);
    return cudaGetLastError();
}

extern "C" cudaError_t rt_k_affine_scatter(const float *gy, const float *a, float *gx, const rt_k_affine *g, cudaStream_t s)
{
    const int64_t n = g->images * g->h_in * g->w_in;
    if (n == 0 || g->c == 0) return cudaSuccess;
    RT_LAUNCH(k_affine_scatter, rt_k_blocks(n, RT_K_BLOCK), RT_K_BLOCK, s, gy, a, gx, *g);
    return cudaGetLastError();
}

extern "C" cudaError_t rt_k_box_mask(const float *x, const float *box, float *y, int64_t images, int64_t h, int64_t w, int32_t c,
                                     cudaStream_t s)
{
    if (images * h * w == 0 || c == 0) return cudaSuccess;
    RT_LAUNCH(k_box_mask, rt_k_blocks(images * h * w, RT_K_BLOCK), RT_K_BLOCK, s, x, box, y, images, h, w, c);
    return cudaGetLastError();
}
