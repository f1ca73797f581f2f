/* bfloat16 as the upper half of a float32: round to nearest even, NaN stays NaN. Shared by C and CUDA. */
#ifndef RT_MATH_BF16_H
#define RT_MATH_BF16_H

#include "hd.h"

RT_HD uint16_t rt_bf16_of_bits(uint32_t u)
{
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40u); /* quiet: rounding up would make infinity */
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}
RT_HD uint32_t rt_bf16_bits(uint16_t h) { return (uint32_t)h << 16; }

#endif
