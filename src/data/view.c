/* Random views of a sample, drawn by counter so that any thread, rank or device draws the same one.
 *
 * Random resized crop by torchvision's rule (Inception crop, Szegedy et al. 2015, "Going deeper with convolutions"):
 * share of the area uniform in scale, log of the aspect ratio uniform in log ratio, up to 10 tries until the box fits,
 * then the largest centred box whose ratio is allowed. The place is uniform over all that fit. */
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "data/internal.h"

enum { TRIES = 10 };

rt_status rt_view_check(const rt_view *v)
{
    if (v->pad_crop < 0 || (v->rrc && v->pad_crop > 0))
        return RT_RAISE(RT_ERR_ARG, "view: pad_crop %d with rrc %d: one of the two crops", v->pad_crop, v->rrc);
    if (v->rrc && !(v->scale[0] > 0 && v->scale[0] <= v->scale[1] && v->scale[1] <= 1 && v->ratio[0] > 0 &&
                    v->ratio[0] <= v->ratio[1] && v->ratio[1] <= 1000))
        return RT_RAISE(RT_ERR_ARG, "view: scale [%g, %g] within (0, 1], ratio [%g, %g] positive and ordered",
                        (double)v->scale[0], (double)v->scale[1], (double)v->ratio[0], (double)v->ratio[1]);
    if (v->shuffle && !v->rrc) return RT_RAISE(RT_ERR_ARG, "view: patches are shuffled before a random resized crop only");
    return RT_OK;
}

static double between(uint32_t word, double lo, double hi)
{
    return lo + (hi - lo) * (double)rt_u01(word);
}

static void random_resized_crop(const rt_view *v, int32_t h, int32_t w, uint64_t seed, uint64_t step, uint32_t sample,
                                rt_view_box *b)
{
    double area = (double)h * w, r0 = (double)v->ratio[0], r1 = (double)v->ratio[1];
    for (uint32_t t = 0; t < TRIES; t++) {
        rt_u32x4 u = rt_draw(seed, RT_RNG_AUGMENT, step, sample, 1 + t);
        double target = area * between(u.v[0], (double)v->scale[0], (double)v->scale[1]);
        double ratio = exp(between(u.v[1], log(r0), log(r1)));
        double cw = nearbyint(sqrt(target * ratio)), ch = nearbyint(sqrt(target / ratio));
        if (cw < 1 || ch < 1 || cw > w || ch > h) continue;
        b->w = (int32_t)cw;
        b->h = (int32_t)ch;
        b->y0 = (int32_t)rt_below(u.v[2], (uint32_t)(h - b->h + 1));
        b->x0 = (int32_t)rt_below(u.v[3], (uint32_t)(w - b->w + 1));
        return;
    }
    double in = (double)w / h;
    b->w = w;
    b->h = h;
    if (in < r0)
        b->h = (int32_t)nearbyint(w / r0);
    else if (in > r1)
        b->w = (int32_t)nearbyint(h * r1);
    if (b->h < 1) b->h = 1;
    if (b->w < 1) b->w = 1;
    b->y0 = (h - b->h) / 2;
    b->x0 = (w - b->w) / 2;
}

rt_status rt_view_draw(const rt_view *v, int32_t h, int32_t w, uint64_t seed, uint64_t step, uint32_t sample,
                       rt_view_box *out)
{
    rt_status st = rt_view_check(v);
    if (st != RT_OK) return st;
    if (h < 1 || w < 1) return RT_RAISE(RT_ERR_ARG, "view of a picture of %d x %d", h, w);
    rt_view_box b = {.w = w, .h = h};
    rt_u32x4 u = rt_draw(seed, RT_RNG_AUGMENT, step, sample, 0);
    if (v->flip) b.flip = (u.v[0] >> 31) != 0;
    if (v->pad_crop > 0) {
        b.y0 = (int32_t)rt_below(u.v[1], 2 * (uint32_t)v->pad_crop + 1) - v->pad_crop;
        b.x0 = (int32_t)rt_below(u.v[2], 2 * (uint32_t)v->pad_crop + 1) - v->pad_crop;
    }
    if (v->shuffle) {
        b.roll_y = u.v[3] >> 31 ? h / 2 : 0;
        b.roll_x = u.v[3] >> 30 & 1 ? w / 2 : 0;
    }
    if (v->rrc) random_resized_crop(v, h, w, seed, step, sample, &b);
    *out = b;
    return RT_OK;
}

void rt_pixels_shift(const uint8_t *px, int32_t h, int32_t w, int32_t y0, int32_t x0, uint8_t *out)
{
    size_t row = (size_t)w * 3;
    int32_t lo = x0 < 0 ? -x0 : 0, hi = x0 > 0 ? w - x0 : w; /* columns that show the picture */
    memset(out, 0, (size_t)h * row);
    for (int32_t y = 0; y < h; y++)
        if (y + y0 >= 0 && y + y0 < h && lo < hi)
            memcpy(out + (size_t)y * row + 3 * (size_t)lo, px + (size_t)(y + y0) * row + 3 * (size_t)(lo + x0),
                   (size_t)(hi - lo) * 3);
}

void rt_pixels_roll(const uint8_t *px, int32_t h, int32_t w, int32_t roll_y, int32_t roll_x, uint8_t *out)
{
    const size_t row = (size_t)w * 3, cut = (size_t)roll_x * 3;
    for (int32_t y = 0; y < h; y++) {
        const uint8_t *from = px + (size_t)(y + roll_y < h ? y + roll_y : y + roll_y - h) * row;
        memcpy(out + (size_t)y * row, from + cut, row - cut);
        memcpy(out + (size_t)y * row + row - cut, from, cut);
    }
}
