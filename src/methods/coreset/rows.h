/* What the geometric selectors share: one class of feature rows, optionally read as if scaled to unit norm, and the only
 * two passes they need: the mean, and the distance of every row to one point.
 *
 * Distances are float64 to at least ten digits, and those of duplicates are 0 to the rounding of the point: where the
 * expanded square would cancel, the differences are summed (rows.c). Each row is summed by one thread in a fixed lane order
 * (16 interleaved partial sums, whatever the width of the SIMD unit), so results do not depend on the thread count or CPU. */
#ifndef RT_METHODS_CORESET_ROWS_H
#define RT_METHODS_CORESET_ROWS_H

#include "methods/coreset/coreset.h"

typedef struct rt_rows {
    const float *x; /* n x d, borrowed */
    int64_t n, d;
    double *inv;    /* n owned factors that rows are read with: 1 / norm, or 1 */
    double *norm2;  /* n owned squared norms of the rows as read */
} rt_rows;

/* Checks shape and finiteness, and computes the factors. Release with rt_rows_fini, also after failure. */
rt_status rt_rows_open(const float *feat, int64_t n, int64_t d, int64_t budget, bool raw, rt_rows *r);
void rt_rows_fini(rt_rows *r);
void rt_rows_mean(const rt_rows *r, double *mean);                   /* mean: d */
void rt_rows_get(const rt_rows *r, int64_t i, double *out);          /* out: d */
void rt_rows_dist2(const rt_rows *r, const double *point, double *out); /* point: d; out: n squared distances */

#endif
