/* One view of a resident uint8 image, and the taps of Pillow's antialiased bilinear resize: shared by src/data (which draws and
 * defines them) and the device. Coefficients are double arithmetic without contraction, sums are integers: the same bytes
 * everywhere. */
#ifndef RT_MATH_VIEW_H
#define RT_MATH_VIEW_H

#include "hd.h"

/* Image `image` through the box (y0, x0, h, w) of the source, which begins at (roll_y, roll_x) of the image and goes round: resized to the output when the batch asks for it, else shifted, with
 * zeros where the box leaves the image. Rows [cut[0], cut[1]) and columns [cut[2], cut[3]) show place `partner` of the batch instead
 * (CutMix); partner -1: none. */
typedef struct rt_pixel_view {
    int64_t image;
    int32_t y0, x0, h, w, roll_y, roll_x, flip, partner, cut[4];
} rt_pixel_view;

enum { RT_TAP_FRACTION = 32 - 8 - 2 };

/* Source samples [lo, lo + n) that output i of n_out reads from the span [a, a + b) of n_in; support 1 is bilinear, 2 bicubic. */
typedef struct rt_taps {
    int32_t lo, n;
    double centre, inv;
} rt_taps;

RT_HD rt_taps rt_taps_at(int32_t n_in, int32_t a, int32_t b, int32_t n_out, int32_t i, double support)
{
    rt_taps t;
    const double scale = (double)b / n_out, wide = scale < 1.0 ? 1.0 : scale, reach = support * wide;
    t.centre = a + (i + 0.5) * scale;
    t.inv = 1.0 / wide;
    int32_t lo = (int32_t)(t.centre - reach + 0.5), hi = (int32_t)(t.centre + reach + 0.5);
    if (lo < 0) lo = 0;
    if (hi > n_in) hi = n_in;
    t.lo = lo;
    t.n = hi - lo;
    return t;
}

/* Where tap k lies from the centre, in units of the filter. */
RT_HD double rt_tap_at(rt_taps t, int32_t k) { return (k + t.lo - t.centre + 0.5) * t.inv; }

RT_HD double rt_tap_bilinear(double x)
{
    if (x < 0.0) x = -x;
    return x < 1.0 ? 1.0 - x : 0.0;
}

RT_HD int32_t rt_tap_fixed(double weight, double sum)
{
    const double v = sum != 0.0 ? weight / sum : weight;
    return (int32_t)(v < 0 ? -0.5 + v * (1 << RT_TAP_FRACTION) : 0.5 + v * (1 << RT_TAP_FRACTION));
}

RT_HD uint8_t rt_tap_byte(int32_t sum)
{
    const int32_t v = sum >> RT_TAP_FRACTION;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

#endif
