/* How sure a teacher is of images: what RDED keeps crops by and DELT chooses its first images by (decoupled.md 2.5, 2.8). */
#ifndef RT_METHODS_RANK_H
#define RT_METHODS_RANK_H

#include "methods/method.h"

/* A compiled forward pass of one teacher over batches from the host. */
typedef struct rt_scorer rt_scorer;
rt_status rt_scorer_open(const rt_build_ctx *ctx, const rt_teacher *t, int64_t batch, rt_scorer **out); /* borrows ctx and t */
void rt_scorer_close(rt_scorer *s); /* accepts NULL */
float *rt_scorer_images(rt_scorer *s); /* [batch,size,size,3], normalised: fill the first n, then run */
/* logp[i] = log softmax probability of label[i] of the first n images, never above 0. Its cost goes to ctx->ledger.
 * RT_ERR_NUMERIC when logits are not finite. */
rt_status rt_scorer_run(rt_scorer *s, const int32_t *label, int64_t n, double *logp);

/* Probability that t gives the true class of every training image, as it is: probability[ctx->train->n]. */
rt_status rt_rank_probability(const rt_build_ctx *ctx, const rt_teacher *t, double *probability);
/* order[0..n): members by ascending score[member], equal ones in their order. */
rt_status rt_rank_ascending(const double *score, const int64_t *member, int64_t n, int64_t *order);

#endif
