/* What recovery needs: the view that a block of images shares, its adjoint (math/crop.inc), and moments per channel of blocks.
 *
 * The adjoint of the crop is a gather: a thread owns one pixel of the image and looks through the few lines of the view that may
 * show it. Moments are taken image by image and joined in their order, so a block's bits do not depend on its neighbours. */
#include "launch.cuh"

#include <math.h>

#include "math/hd.h"

#include "math/real_f32.h"
#include "math/crop.inc"

enum { BOX = 8, LANES = 32, ROWS = RT_K_BLOCK / LANES };

__global__ static void k_crop_view(const float *x, const float *box, float *y, rt_k_crop g)
{
    RT_K_FOR(e, g.images * g.h_view * g.w_view)
    {
        const int64_t line = e / g.w_view, image = line / g.h_view, u = line - image * g.h_view, v = e - line * g.w_view;
        const rt_crop_f32 b = rt_crop_of_f32(box + image / g.each * BOX, g.h, g.w, g.h_view, g.w_view);
        int64_t r[2], c[2];
        float down, right;
        rt_crop_tap_f32(u, g.h_view, b.h, &r[0], &r[1], &down);
        rt_crop_tap_f32(v, g.w_view, b.w, &c[0], &c[1], &right);
        const float *from = x + image * g.h * g.w * g.c;
        const float *above = from + ((b.row + r[0]) * g.w + b.col) * g.c, *below = from + ((b.row + r[1]) * g.w + b.col) * g.c;
        const int64_t place = rt_crop_place_f32(u, g.h_view, 0, b.down) * g.w_view + rt_crop_place_f32(v, g.w_view, b.flip, b.right);
        float *to = y + (image * g.h_view * g.w_view + place) * g.c;
        for (int32_t k = 0; k < g.c; k++) {
            const float top = above[c[0] * g.c + k] * (1.0f - right) + above[c[1] * g.c + k] * right;
            const float low = below[c[0] * g.c + k] * (1.0f - right) + below[c[1] * g.c + k] * right;
            to[k] = top * (1.0f - down) + low * down;
        }
    }
}

/* How much line u of a view of n shows of line r of a crop of `size`. */
__device__ static inline float share(int64_t u, int64_t n, int64_t size, int64_t r)
{
    int64_t lo, hi;
    float t;
    rt_crop_tap_f32(u, n, size, &lo, &hi, &t);
    return (lo == r ? 1.0f - t : 0.0f) + (hi == r ? t : 0.0f);
}

__global__ static void k_crop_view_dx(const float *gy, const float *box, float *gx, rt_k_crop g)
{
    RT_K_FOR(e, g.images * g.h * g.w)
    {
        const int64_t line = e / g.w, image = line / g.h;
        const rt_crop_f32 b = rt_crop_of_f32(box + image / g.each * BOX, g.h, g.w, g.h_view, g.w_view);
        const int64_t r = line - image * g.h - b.row, c = e - line * g.w - b.col;
        const float *from = gy + image * g.h_view * g.w_view * g.c;
        int64_t u0 = 0, u1 = -1, v0 = 0, v1 = -1;
        if (r >= 0 && r < b.h && c >= 0 && c < b.w) {
            rt_crop_readers_f32(r, g.h_view, b.h, &u0, &u1);
            rt_crop_readers_f32(c, g.w_view, b.w, &v0, &v1);
        }
        for (int32_t k = 0; k < g.c; k++) {
            float sum = 0.0f;
            for (int64_t u = u0; u <= u1; u++) {
                const float down = share(u, g.h_view, b.h, r);
                const float *row = from + rt_crop_place_f32(u, g.h_view, 0, b.down) * g.w_view * g.c + k;
                for (int64_t v = v0; v <= v1 && down > 0.0f; v++)
                    sum += row[rt_crop_place_f32(v, g.w_view, b.flip, b.right) * g.c] * (down * share(v, g.w_view, b.w, c));
            }
            gx[e * g.c + k] = sum;
        }
    }
}

/* A block takes LANES channels of one image; sums of its ROWS rows of threads are added in their order. */
__global__ static void k_moments_image(const float *x, float *mu, float *m2, int64_t images, int64_t pixels, int64_t channels)
{
    __shared__ float sm[ROWS][LANES];
    const int lane = (int)threadIdx.x % LANES, row = (int)threadIdx.x / LANES;
    const int64_t strips = (channels + LANES - 1) / LANES;
    for (int64_t job = blockIdx.x; job < images * strips; job += gridDim.x) {
        const int64_t image = job / strips, c = job % strips * LANES + lane;
        const float *xi = x + image * pixels * channels + c;
        float mean = 0.0f;
        for (int pass = 0; pass < 2; pass++) {
            float sum = 0.0f, all = 0.0f;
            for (int64_t q = row; q < pixels && c < channels; q += ROWS) {
                const float d = xi[q * channels] - mean;
                sum += pass ? d * d : d;
            }
            sm[row][lane] = sum;
            __syncthreads();
            for (int k = 0; k < ROWS; k++) all += sm[k][lane];
            __syncthreads(); /* sm is written again */
            if (!pass) mean = all / (float)pixels;
            else if (row == 0 && c < channels) {
                mu[image * channels + c] = mean;
                m2[image * channels + c] = all;
            }
        }
    }
}

__global__ static void k_moments_join(const float *mu, const float *m2, float *mean, float *var, int64_t groups, int64_t each,
                                      int64_t pixels, int64_t channels)
{
    RT_K_FOR(e, groups * channels)
    {
        const int64_t first = e / channels * each * channels + e % channels;
        double sum = 0.0, dev = 0.0;
        for (int64_t i = 0; i < each; i++) sum += (double)mu[first + i * channels];
        const double centre = sum / (double)each;
        for (int64_t i = 0; i < each; i++) {
            const double d = (double)mu[first + i * channels] - centre;
            dev += (double)m2[first + i * channels] + (double)pixels * d * d;
        }
        mean[e] = (float)centre;
        var[e] = (float)(dev / ((double)pixels * (double)each));
    }
}

__global__ static void k_moments_dx(const float *x, const float *mean, const float *gmean, const float *gvar, float *gx, int64_t n,
                                    int64_t per_group, int64_t channels)
{
    const float m = (float)(per_group / channels);
    RT_K_FOR(e, n)
    {
        const int64_t at = e / per_group * channels + e % channels;
        gx[e] = gmean[at] / m + (x[e] - mean[at]) * (2.0f * gvar[at] / m);
    }
}

extern "C" cudaError_t rt_k_crop_view(const float *x, const float *box, float *y, const rt_k_crop *g, cudaStream_t s)
{
    const int64_t n = g->images * g->h_view * g->w_view;
    if (n == 0 || g->c == 0) return cudaSuccess;
    RT_LAUNCH(k_crop_view, rt_k_blocks(n, RT_K_BLOCK), RT_K_BLOCK, s, x, box, y, *g);
    return cudaGetLastError();
}

extern "C" cudaError_t rt_k_crop_view_dx(const float *gy, const float *box, float *gx, const rt_k_crop *g, cudaStream_t s)
{
    const int64_t n = g->images * g->h * g->w;
    if (n == 0 || g->c == 0) return cudaSuccess;
    RT_LAUNCH(k_crop_view_dx, rt_k_blocks(n, RT_K_BLOCK), RT_K_BLOCK, s, gy, box, gx, *g);
    return cudaGetLastError();
}

extern "C" cudaError_t rt_k_moments(const float *x, float *mean, float *var, float *scratch, const rt_k_blocks_of *b, cudaStream_t s)
{
    const int64_t images = b->groups * b->each, strips = (b->channels + LANES - 1) / LANES;
    float *mu = scratch, *m2 = scratch + images * b->channels;
    if (images == 0 || b->pixels == 0 || b->channels == 0) return cudaSuccess;
    RT_LAUNCH(k_moments_image, rt_k_blocks(images * strips, 1), RT_K_BLOCK, s, x, mu, m2, images, b->pixels, b->channels);
    RT_LAUNCH(k_moments_join, rt_k_blocks(b->groups * b->channels, RT_K_BLOCK), RT_K_BLOCK, s, mu, m2, mean, var, b->groups, b->each,
              b->pixels, b->channels);
    return cudaGetLastError();
}

extern "C" cudaError_t rt_k_moments_dx(const float *x, const float *mean, const float *gmean, const float *gvar, float *gx,
                                       const rt_k_blocks_of *b, cudaStream_t s)
{
    const int64_t per_group = b->each * b->pixels * b->channels, n = b->groups * per_group;
    if (n == 0) return cudaSuccess;
    RT_LAUNCH(k_moments_dx, rt_k_blocks(n, RT_K_BLOCK), RT_K_BLOCK, s, x, mean, gmean, gvar, gx, n, per_group, b->channels);
    return cudaGetLastError();
}
