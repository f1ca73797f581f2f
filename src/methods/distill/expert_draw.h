/* Which expert and which of its epochs an iteration of trajectory matching starts from: by counter, so that a resumed run
 * goes on with the same. */
#ifndef RT_METHODS_EXPERT_DRAW_H
#define RT_METHODS_EXPERT_DRAW_H

#include <stdint.h>

#include "methods/method.h"

/* The next expert of a pool of n, shuffled anew whenever all of it was used. */
rt_status rt_expert_of(uint64_t seed, int64_t it, int64_t n, int64_t *expert);
/* Start epoch, uniform in [lo, hi); lo when that is empty. */
int64_t rt_expert_start(uint64_t seed, int64_t it, int64_t lo, int64_t hi);
/* Both ends of iteration `it`: snapshots `start` and `start + ahead` of its expert into theta0 and target [n_params].
 * Without experts (ctx->experts NULL: `retort plan` asks before they are trained) two fresh networks stand in. */
rt_status rt_expert_segment(const rt_build_ctx *ctx, const rt_model *m, int64_t it, int64_t lo, int64_t hi, int64_t ahead,
                            float *theta0, float *target);

#endif
