/* A batch from resident uint8 images in one pass: crop and antialiased resize, or shift; flip; CutMix; normalise; NHWC.
 * What is drawn comes from the host (src/data/view.c), so every byte equals the CPU's: taps are double arithmetic shared by
 * math/view.h, sums are integers, normalised values come from a table of 256 per channel. A thread makes one output pixel. */
#include "launch.cuh"

#include "math/view.h"

struct rgb {
    uint8_t c[3];
};

__device__ static inline double weight_sum(rt_taps t)
{
    double sum = 0.0;
    for (int32_t k = 0; k < t.n; k++) sum += rt_tap_bilinear(rt_tap_at(t, k));
    return sum;
}

__device__ static inline int32_t around(int32_t at, int32_t n) { return at < n ? at : at - n; }

/* Output pixel (y, x) of the view's box resized to h x w. The box stands for the whole picture: taps stop at its edges. The horizontal
 * pass rounds to bytes before the vertical one; a pass whose size does not change is skipped. */
__device__ static inline rgb resized(const uint8_t *px, const rt_pixel_view &v, int32_t h, int32_t w, int32_t y, int32_t x)
{
    const int32_t half = 1 << (RT_TAP_FRACTION - 1);
    const bool across = v.w != w, down = v.h != h;
    rt_taps tx = {x, 1, 0.0, 0.0}, ty = {y, 1, 0.0, 0.0};
    if (across) tx = rt_taps_at(v.w, 0, v.w, w, x, 1.0);
    if (down) ty = rt_taps_at(v.h, 0, v.h, h, y, 1.0);
    const double sum_x = across ? weight_sum(tx) : 0.0, sum_y = down ? weight_sum(ty) : 0.0;
    int32_t column[3] = {half, half, half};
    rgb out;
    for (int32_t j = 0; j < ty.n; j++) {
        const uint8_t *row = px + (int64_t)around(v.y0 + ty.lo + j + v.roll_y, h) * w * 3;
        rgb mid;
        if (across) {
            int32_t line[3] = {half, half, half};
            for (int32_t i = 0; i < tx.n; i++) {
                const int32_t k = rt_tap_fixed(rt_tap_bilinear(rt_tap_at(tx, i)), sum_x);
                const uint8_t *at = row + 3 * around(v.x0 + tx.lo + i + v.roll_x, w);
                for (int c = 0; c < 3; c++) line[c] += at[c] * k;
            }
            for (int c = 0; c < 3; c++) mid.c[c] = rt_tap_byte(line[c]);
        } else {
            const uint8_t *at = row + 3 * around(v.x0 + x + v.roll_x, w);
            for (int c = 0; c < 3; c++) mid.c[c] = at[c];
        }
        if (!down) return mid;
        const int32_t k = rt_tap_fixed(rt_tap_bilinear(rt_tap_at(ty, j)), sum_y);
        for (int c = 0; c < 3; c++) column[c] += mid.c[c] * k;
    }
    for (int c = 0; c < 3; c++) out.c[c] = rt_tap_byte(column[c]);
    return out;
}

__device__ static inline rgb shifted(const uint8_t *px, const rt_pixel_view &v, int32_t h, int32_t w, int32_t y, int32_t x)
{
    rgb out = {{0, 0, 0}};
    const int32_t sy = y + v.y0, sx = x + v.x0;
    if (sy < 0 || sy >= h || sx < 0 || sx >= w) return out;
    for (int c = 0; c < 3; c++) out.c[c] = px[((int64_t)sy * w + sx) * 3 + c];
    return out;
}

__global__ static void k_views(rt_k_views a)
{
    RT_K_FOR(e, a.batch * a.h * a.w)
    {
        const int64_t line = e / a.w, b = line / a.h;
        const int32_t x = (int32_t)(e - line * a.w), y = (int32_t)(line - b * a.h);
        rt_pixel_view v = a.plan[b];
        if (v.partner >= 0 && y >= v.cut[0] && y < v.cut[1] && x >= v.cut[2] && x < v.cut[3]) v = a.plan[v.partner];
        const uint8_t *px = a.px + v.image * a.h * a.w * 3;
        const int32_t at = v.flip ? a.w - 1 - x : x;
        const rgb p = a.resize ? resized(px, v, a.h, a.w, y, at) : shifted(px, v, a.h, a.w, y, at);
        for (int c = 0; c < 3; c++) a.out[e * 3 + c] = a.table[p.c[c] * 3 + c];
    }
}

extern "C" cudaError_t rt_k_views_fill(const rt_k_views *a, cudaStream_t s)
{
    const int64_t n = a->batch * a->h * a->w;
    if (n == 0) return cudaSuccess;
    RT_LAUNCH(k_views, rt_k_blocks(n, RT_K_BLOCK), RT_K_BLOCK, s, *a);
    return cudaGetLastError();
}
