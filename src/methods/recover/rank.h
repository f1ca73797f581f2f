/* How sure a teacher is of real images: what DELT chooses its first images by (decoupled.md 2.8). */
#ifndef RT_METHODS_RANK_H
#define RT_METHODS_RANK_H

#include "methods/method.h"

/* Softmax probability that t gives the true class of every training image, as it is: probability[ctx->train->n]. One forward
 * pass; its cost goes to ctx->ledger. RT_ERR_NUMERIC naming the image whose logits are not finite. */
rt_status rt_rank_probability(const rt_build_ctx *ctx, const rt_teacher *t, double *probability);
/* The members of a class by ascending probability, equal ones in their order: order[0..n). */
rt_status rt_rank_ascending(const double *probability, const int64_t *member, int64_t n, int64_t *order);

#endif
