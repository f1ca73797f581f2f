/* CutMix (Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019)
 * in the form of IDC and NCFM (matching.md 2.4): after the augmentation, with a probability per batch, one box and one
 * permutation for the whole batch; label weights are the true areas of the clipped box.
 *
 * Like DSA in two halves: the host draws by counter, the graph pastes, so one prepared plan serves every draw. A batch that
 * is not mixed has an empty box. */
#ifndef RT_NN_CUTMIX_H
#define RT_NN_CUTMIX_H

#include <stdint.h>

#include "retort/graph.h"

/* One batch's draw, keyed by (seed, RT_RNG_MIX, step, 0). lambda ~ U(0,1) = Beta(1,1), box side sqrt(1 - lambda) of the
 * image's, centre uniform, clipped. scratch [n] is overwritten. Fills partner [n] (absolute rows: first + a permutation of
 * 0..n-1) and box [n*4] (rows b0..b1, columns b2..b3), and returns the share of its own area that an image keeps. */
float rt_cutmix_draw(double probability, int64_t size, uint64_t seed, uint64_t step, int64_t n, int64_t first, int64_t *scratch,
                     int32_t *partner, float *box);
/* q_out[i] = keep q[i] + (1 - keep) q[partner[i] - first]; q and q_out [n*classes] may not overlap. */
void rt_cutmix_labels(const float *q, int64_t n, int64_t first, int64_t classes, const int32_t *partner, float keep, float *q_out);
/* y[i] = x[i] outside box[i], x[partner[i]] inside. x [N,H,W,C]; partner i32[N]; box f32[N,4]. */
rt_val rt_cutmix_apply(rt_graph *g, rt_val x, rt_val partner, rt_val box);

#endif
