/* Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
 *
 * Counter-based: a draw is a pure function of (seed, purpose, step, sample, slot), so CPU and GPU, one rank and eight, a
 * straight run and a resumed one draw the same numbers, and no generator state is ever stored. */
#ifndef RT_MATH_PHILOX_H
#define RT_MATH_PHILOX_H

#include "hd.h"

typedef struct rt_u32x4 {
    uint32_t v[4];
} rt_u32x4;

RT_HD rt_u32x4 rt_philox4x32(rt_u32x4 ctr, uint32_t k0, uint32_t k1)
{
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * ctr.v[0], p1 = (uint64_t)0xCD9E8D57u * ctr.v[2];
        rt_u32x4 n;
        n.v[0] = (uint32_t)(p1 >> 32) ^ ctr.v[1] ^ k0;
        n.v[1] = (uint32_t)p1;
        n.v[2] = (uint32_t)(p0 >> 32) ^ ctr.v[3] ^ k1;
        n.v[3] = (uint32_t)p0;
        ctr = n;
        k0 += 0x9E3779B9u; /* golden ratio */
        k1 += 0xBB67AE85u; /* sqrt(3) - 1 */
    }
    return ctr;
}

/* Four words for one (seed, purpose, step, sample, slot). purpose < 2^16, slot < 2^16. */
RT_HD rt_u32x4 rt_draw(uint64_t seed, uint32_t purpose, uint64_t step, uint32_t sample, uint32_t slot)
{
    rt_u32x4 ctr = {{(uint32_t)step, (uint32_t)(step >> 32), sample, (purpose << 16) | (slot & 0xFFFFu)}};
    return rt_philox4x32(ctr, (uint32_t)seed, (uint32_t)(seed >> 32));
}

/* Uniform in [0,1) with 24 bits: exact in float, equal on every device. */
RT_HD float rt_u01(uint32_t w) { return (float)(w >> 8) * (1.0f / 16777216.0f); }

/* Uniform integer in [0,n) by multiply-shift (bias < n / 2^32). */
RT_HD uint32_t rt_below(uint32_t w, uint32_t n) { return (uint32_t)(((uint64_t)w * n) >> 32); }

#endif
