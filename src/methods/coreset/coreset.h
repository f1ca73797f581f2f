/* Coreset selectors: which rows of one class to keep. Pure functions over float matrices: no engine, no files, no clock.
 *
 * The caller hands over one class at a time (rows 0..n-1 in ascending data-set order) and maps the picks back. Rules that
 * hold for every selector:
 *   - min(budget, n) rows are picked; picked[] and score[] have room for that many. budget 0 is fine, negative is an error.
 *   - picked[] is in selection order and has the prefix property: the first b entries are the selection of budget b.
 *   - ties go to the smaller row, so neither block order nor thread count can change a pick.
 *   - rows with NaN or infinity are RT_ERR_NUMERIC naming the first such row; nothing is written then.
 *   - memory is linear in n: no n x n or n x budget matrix exists.
 *   - arithmetic is float64 with a fixed order of summation per row: same picks and same scores on any thread count.
 */
#ifndef RT_METHODS_CORESET_H
#define RT_METHODS_CORESET_H

#include <stdbool.h>
#include <stdint.h>

#include "retort/status.h"

typedef enum rt_kcenter_start {
    RT_KCENTER_MEDOID = 0, /* the row nearest to the class mean */
    RT_KCENTER_RANDOM,     /* uniform, from (seed, cls) */
    RT_KCENTER_GIVEN       /* start_row */
} rt_kcenter_start;

/* Zeroed: the defaults. */
typedef struct rt_select_opts {
    uint64_t seed;          /* of the draws of random and of k-center's random start */
    uint64_t cls;           /* class number: one independent stream per class */
    bool raw;               /* features as given; default: every row scaled to unit L2 norm (zero rows stay zero) */
    rt_kcenter_start start;
    int64_t start_row;      /* for RT_KCENTER_GIVEN */
} rt_select_opts;

/* feat: n x d, rows contiguous, borrowed. opts NULL: defaults. score may be NULL; it is aligned with picked and holds the
 * selector's objective after that pick, i.e. the quality of the prefix that ends there. */
typedef rt_status rt_select_fn(const float *feat, int64_t n, int64_t d, int64_t budget, const rt_select_opts *opts,
                               int64_t *picked, double *score);

rt_select_fn rt_select_random;  /* prefix of one permutation; feat is not read and may be NULL; score 0 */
rt_select_fn rt_select_herding; /* score: distance of the mean of the picks from the class mean */
rt_select_fn rt_select_kcenter; /* score: covering radius, the largest distance of any row to its nearest pick */

/* The rows of largest value first. value: n, borrowed; score: the value of each pick. */
rt_status rt_select_score(const double *value, int64_t n, int64_t budget, int64_t *picked, double *score);

/* EL2N = || softmax(z) - onehot(y) ||_2 in [0, sqrt 2], one value per row (Paul, Ganguli, Dziugaite: "Deep Learning on a
 * Data Diet", 2021). From probabilities (n x classes, rows sum to one) or from logits (softmax in float64). */
rt_status rt_el2n_probs(const float *prob, int64_t n, int32_t classes, const int32_t *label, double *value);
rt_status rt_el2n_logits(const float *logit, int64_t n, int32_t classes, const int32_t *label, double *value);

#endif
