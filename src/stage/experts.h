/* Internal to the two files of experts: which are trained together and what is kept (experts.c), and the training (expert_group.c). */
#ifndef RT_STAGE_EXPERTS_H
#define RT_STAGE_EXPERTS_H

#include "stage/stages.h"

enum { RT_EXPERT_SEED = 0x45585054 /* other networks than teachers and students, which count from 0 under the run's seed */,
       RT_EXPERTS_AT_ONCE = 64 };

/* What is trained and kept: snapshots 0..last, and the final one after `epochs`. */
typedef struct rt_expert_span {
    int64_t epochs, last;
    bool final;
} rt_expert_span;
static inline bool rt_expert_kept(const rt_expert_span *s, int64_t epoch)
{
    return epoch <= s->last || (s->final && epoch == s->epochs);
}

/* Experts first .. first + n - 1: one batched problem. */
typedef struct rt_expert_group {
    int64_t first, n;
} rt_expert_group;

rt_status rt_expert_key(rt_run *r, int64_t k, char key[RT_HASH_HEX]);
/* Trains the group with a trainer of n networks and commits those of its experts that are missing[m]. One that was killed
 * while it committed does not train again what its last checkpoint has. */
rt_status rt_expert_group_train(rt_run *r, rt_expert_group g, const rt_expert_span *s, const bool *missing, rt_trainer *t);

#endif
