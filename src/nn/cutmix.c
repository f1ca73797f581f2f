/* CutMix: drawing and pasting. The rules are in cutmix.h. */
#include "nn/cutmix.h"

#include <math.h>

#include "base/rng.h"

float rt_cutmix_draw(double probability, int64_t size, uint64_t seed, uint64_t step, int64_t n, int64_t first, int64_t *scratch,
                     int32_t *partner, float *box)
{
    rt_rng r = rt_rng_at(seed, RT_RNG_MIX, step, 0);
    int64_t y0 = 0, y1 = 0, x0 = 0, x1 = 0;
    for (int64_t i = 0; i < n; i++) scratch[i] = i;
    if ((double)rt_rng_uniform(&r) < probability) {
        double side = sqrt(1.0 - (double)rt_rng_uniform(&r));
        int64_t half = (int64_t)(side * (double)size) / 2;
        int64_t cy = (int64_t)rt_rng_below(&r, (uint32_t)size), cx = (int64_t)rt_rng_below(&r, (uint32_t)size);
        y0 = cy - half < 0 ? 0 : cy - half, y1 = cy + half > size ? size : cy + half;
        x0 = cx - half < 0 ? 0 : cx - half, x1 = cx + half > size ? size : cx + half;
        rt_rng_shuffle(&r, scratch, n);
    }
    for (int64_t i = 0; i < n; i++) {
        partner[i] = (int32_t)(first + scratch[i]);
        box[4 * i] = (float)y0, box[4 * i + 1] = (float)y1, box[4 * i + 2] = (float)x0, box[4 * i + 3] = (float)x1;
    }
    return 1.0f - (float)((y1 - y0) * (x1 - x0)) / (float)(size * size);
}

void rt_cutmix_labels(const float *q, int64_t n, int64_t first, int64_t classes, const int32_t *partner, float keep, float *q_out)
{
    for (int64_t i = 0; i < n; i++) {
        const float *own = q + i * classes, *other = q + (partner[i] - first) * classes;
        for (int64_t k = 0; k < classes; k++) q_out[i * classes + k] = keep * own[k] + (1.0f - keep) * other[k];
    }
}

rt_val rt_cutmix_apply(rt_graph *g, rt_val x, rt_val partner, rt_val box)
{
    rt_val other = rt_gather(g, x, partner);
    return rt_add(g, rt_box_mask(g, x, box), rt_sub(g, other, rt_box_mask(g, other, box)));
}
