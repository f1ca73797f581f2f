/* Lifetimes to offsets: packs intervals (first use, last use, size) into one arena. Serves the tensor planner and the
 * loader's page slots. Greedy by size, best fit on paper; offsets are multiples of align. */
#ifndef RT_BASE_INTERVAL_H
#define RT_BASE_INTERVAL_H

#include <stdint.h>

#include "retort/status.h"

typedef struct rt_interval {
    int32_t first, last; /* inclusive */
    size_t bytes;
    size_t offset;       /* out */
} rt_interval;

/* Writes offsets; *peak is the arena size. O(n^2) worst case. */
rt_status rt_interval_pack(rt_interval *iv, size_t n, size_t align, size_t *peak);

#endif
