/* Which elements a dropout mask keeps: integers throughout, so that every device keeps the same ones. */
#ifndef RT_MATH_DROPOUT_H
#define RT_MATH_DROPOUT_H

#include "philox.h"

/* Words of elements 4 block .. 4 block + 3 of the mask of (counter, stream). counter: seed low, high; step low, high. */
RT_HD rt_u32x4 rt_dropout_words(const int32_t *counter, uint32_t purpose, uint32_t stream, int64_t block)
{
    const uint64_t seed = (uint64_t)(uint32_t)counter[1] << 32 | (uint32_t)counter[0];
    const uint64_t step = (uint64_t)(uint32_t)counter[3] << 32 | (uint32_t)counter[2];
    return rt_draw(seed, purpose, step, (uint32_t)block, stream);
}

/* A word keeps its element when its upper 24 bits are below keep * 2^24, keep in (0,1]. */
RT_HD uint32_t rt_dropout_limit(double keep) { return (uint32_t)(keep * 16777216.0 + 0.5); }
RT_HD int rt_dropout_keeps(uint32_t word, uint32_t limit) { return (word >> 8) < limit; }

#endif
