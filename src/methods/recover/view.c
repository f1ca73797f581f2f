/* The draws of the view that a block shares (decoupled.md 1.2), and resizing between stages. */
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "methods/recover/core.h"

#include "math/hd.h"

#include "math/real_f64.h"
#include "math/crop.inc"

enum { TRIES = 10 };

/* torchvision's random resized crop: ten tries for an area and a ratio that fit, else all of the square. */
static void draw_crop(rt_rng *g, double scale_min, int32_t side, float box[RT_CROP_BOX])
{
    box[0] = box[1] = 0;
    box[2] = box[3] = (float)side;
    for (int k = 0; k < TRIES; k++) {
        double area = (double)side * side * rt_rng_uniform_in(g, scale_min, 1);
        double ratio = exp(rt_rng_uniform_in(g, log(3.0 / 4.0), log(4.0 / 3.0)));
        int64_t w = llround(sqrt(area * ratio)), h = llround(sqrt(area / ratio));
        if (w < 1 || h < 1 || w > side || h > side) continue;
        box[0] = (float)rt_rng_below(g, (uint32_t)(side - h + 1));
        box[1] = (float)rt_rng_below(g, (uint32_t)(side - w + 1));
        box[2] = (float)h;
        box[3] = (float)w;
        return;
    }
}

void recover_view_draw(const rt_recover_view *v, double scale_min, uint64_t seed, int64_t block, int64_t t, int32_t side,
                       float box[RT_CROP_BOX])
{
    rt_rng g = rt_rng_at(seed, RT_RNG_RECOVER, (uint64_t)t, (uint32_t)block);
    uint32_t shifts = (uint32_t)(v->jitter_hi - v->jitter_lo + 1);
    box[0] = box[1] = 0;
    box[2] = box[3] = (float)side;
    if (v->crop) draw_crop(&g, scale_min, side, box);
    box[4] = v->flip && rt_rng_uniform(&g) < 0.5f;
    box[5] = (float)(v->jitter_lo + (int32_t)rt_rng_below(&g, shifts));
    box[6] = (float)(v->jitter_lo + (int32_t)rt_rng_below(&g, shifts));
    box[7] = 0;
}

void recover_resize(const float *in, int64_t n, int32_t from, float *out, int32_t to)
{
    for (int64_t i = 0; i < n; i++, in += (int64_t)from * from * 3, out += (int64_t)to * to * 3)
        for (int64_t u = 0; u < to; u++)
            for (int64_t v = 0; v < to; v++) {
                int64_t r[2], c[2];
                double down, right;
                rt_crop_tap_f64(u, to, from, &r[0], &r[1], &down);
                rt_crop_tap_f64(v, to, from, &c[0], &c[1], &right);
                for (int k = 0; k < 3; k++) {
                    double top = (1 - right) * (double)in[(r[0] * from + c[0]) * 3 + k] + right * (double)in[(r[0] * from + c[1]) * 3 + k];
                    double low = (1 - right) * (double)in[(r[1] * from + c[0]) * 3 + k] + right * (double)in[(r[1] * from + c[1]) * 3 + k];
                    out[(u * to + v) * 3 + k] = (float)((1 - down) * top + down * low);
                }
            }
}

double rt_recover_curriculum(const char *mode, double milestone, double floor, int64_t t, int64_t T)
{
    double done = (double)t / (milestone * (double)T);
    if (done >= 1 || !strcmp(mode, "none")) return floor;
    if (!strcmp(mode, "step")) return 1;
    if (!strcmp(mode, "linear")) return floor + (1 - floor) * (1 - done);
    return floor + (1 - floor) * 0.5 * (1 + cos(3.14159265358979323846 * done));
}
