#include "base/rng.h"

#include <math.h>

rt_rng rt_rng_at(uint64_t seed, uint32_t purpose, uint64_t step, uint32_t sample)
{
    return (rt_rng){.seed = seed, .step = step, .purpose = purpose, .sample = sample};
}

uint32_t rt_rng_u32(rt_rng *r)
{
    if (r->have == 0) {
        /* 2^16 slots of four words per sample; long streams carry into the high half of the step counter. */
        uint64_t step = r->step ^ ((uint64_t)(r->slot >> 16) << 48);
        r->block = rt_draw(r->seed, r->purpose, step, r->sample, r->slot & 0xFFFFu);
        r->slot++;
        r->have = 4;
    }
    return r->block.v[4 - r->have--];
}

float rt_rng_uniform(rt_rng *r) { return rt_u01(rt_rng_u32(r)); }

double rt_rng_uniform_in(rt_rng *r, double lo, double hi) { return lo + (hi - lo) * (double)rt_rng_uniform(r); }

uint32_t rt_rng_below(rt_rng *r, uint32_t n) { return rt_below(rt_rng_u32(r), n); }

double rt_rng_normal(rt_rng *r)
{
    double u = ((double)rt_rng_u32(r) + 0.5) / 4294967296.0, v = (double)rt_rng_u32(r) / 4294967296.0;
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

void rt_rng_shuffle(rt_rng *r, int64_t *idx, int64_t n)
{
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = (int64_t)rt_rng_below(r, (uint32_t)(i + 1)), t = idx[i];
        idx[i] = idx[j];
        idx[j] = t;
    }
}

uint64_t rt_seed_derive(uint64_t seed, uint64_t index)
{
    rt_u32x4 w = rt_draw(seed, 0xFFFFu, index, 0x5EEDu, 0);
    return (uint64_t)w.v[0] << 32 | w.v[1];
}
