/* Matching of class means: what DM and DataDAM are.
 *
 *   min_S  E_theta,omega  sum_c || mean s_theta(A_omega T_c) - mean s_theta(A_omega S_c) ||^2
 *
 * s: a statistic of one image, a row of T numbers computed from a freshly initialised, never trained network; a new network
 * every iteration (one network kept does not work, matching.md 7 item 27). A: one siamese DSA draw per class and iteration,
 * shared by the real and the synthetic images of that class. Real statistics are constants. The class terms are summed and
 * the images take ONE joint SGD step with momentum per iteration; no pixel is clamped. */
#ifndef RT_METHODS_CLASS_MEAN_H
#define RT_METHODS_CLASS_MEAN_H

#include "methods/distill/distill.h"

typedef struct rt_class_mean {
    const char *name;            /* of the method and of its config section */
    int64_t iterations, batch_real;
    double lr, momentum;
    bool init_noise;
    const char *dsa;             /* siamese strategy; "none": off */
    bool relus;                  /* statistic wants f->relu */
    /* Rows [n,T] of the statistic for a forward pass over n images; a term's weight goes into its coordinates as the root. */
    rt_val (*statistic)(const rt_config *c, rt_graph *g, const rt_forward *f);
    const char *deviation[RT_DISTILL_DEVIATIONS];
    int n_deviations;
} rt_class_mean;

rt_status rt_class_mean_construct(const rt_build_ctx *ctx, const rt_class_mean *m, rt_set *out);
rt_status rt_class_mean_estimate(const rt_build_ctx *ctx, const rt_class_mean *m, rt_estimate *out);

#endif
