/* DELT's order of work, as plain functions. */
#ifndef RT_METHODS_DELT_H
#define RT_METHODS_DELT_H

#include <stdint.h>

/* The round in which image `rank` of a class's n images joins: n images are cut into `rounds` consecutive groups, the first
 * n mod rounds of them one larger; with fewer images than rounds the last rounds bring nobody. */
int64_t rt_delt_joins(int64_t n, int64_t rounds, int64_t rank);
/* place[0..count): places in an ascending order of n that lie around its middle: ceil(n/2), +1, -1, +2, -2, ...; those that
 * are not there (the published code fails) are left out. count <= n. */
void rt_delt_medium(int64_t n, int64_t count, int64_t *place);

#endif
