/* Host side of the counter-based generator: purposes, and sequential helpers built on rt_draw. */
#ifndef RT_BASE_RNG_H
#define RT_BASE_RNG_H

#include <stdint.h>

#include "math/philox.h"

/* One purpose per independent use. Append only: the number is part of every stored result. */
enum rt_purpose {
    RT_RNG_TEST = 0,
    RT_RNG_INIT,      /* network initialisation: step = network number */
    RT_RNG_ORDER,     /* epoch order: step = epoch */
    RT_RNG_AUGMENT,   /* views of samples: step = iteration, sample = place in batch */
    RT_RNG_DSA,       /* DSA draws: step = iteration, sample = class or place in batch */
    RT_RNG_MIX,       /* CutMix / Mixup */
    RT_RNG_SELECT,    /* coreset selection: step = class */
    RT_RNG_REAL_BATCH,/* real batches of matching methods: step = iteration, sample = class */
    RT_RNG_DEMO,      /* generated demo images */
    RT_RNG_METRIC,    /* subsampling in metrics */
    RT_RNG_DROPOUT,
    RT_RNG_EXPERT,    /* experts and start epochs: sample 0: step = pass over the experts; sample 1: step = iteration */
    RT_RNG_NOISE = 12,/* frequencies and generator noise of NCFM: step = iteration, sample = row */
    RT_RNG_RECOVER = 32, /* shared views of recovery: step = iteration, sample = block */
    RT_RNG_COMMITTEE = 33, /* pairs of teachers of CV-DD: step = rank of images */
    RT_RNG_PATCHES = 34 /* crops of RDED: step = candidate, sample = crop */
};

/* A short sequential stream at one (seed, purpose, step, sample). Value type; copy to fork. */
typedef struct rt_rng {
    uint64_t seed, step;
    uint32_t purpose, sample, slot, have;
    rt_u32x4 block;
} rt_rng;

rt_rng rt_rng_at(uint64_t seed, uint32_t purpose, uint64_t step, uint32_t sample);
uint32_t rt_rng_u32(rt_rng *r);
float rt_rng_uniform(rt_rng *r);                    /* [0,1) */
double rt_rng_uniform_in(rt_rng *r, double lo, double hi);
uint32_t rt_rng_below(rt_rng *r, uint32_t n);       /* [0,n), n >= 1 */
double rt_rng_normal(rt_rng *r);                    /* Box-Muller, mean 0 sd 1 */
/* Fisher-Yates over idx[0..n): a pure function of the stream. n < 2^32. */
void rt_rng_shuffle(rt_rng *r, int64_t *idx, int64_t n);
/* Derives an independent 64-bit seed from a parent seed and a label index. */
uint64_t rt_seed_derive(uint64_t seed, uint64_t index);

#endif
