/* Herding (Welling 2009; in the exemplar form of Rebuffi et al., "iCaRL", 2017): keep the running mean of the picks close
 * to the class mean m. With S the sum of the t picks so far, the next is
 *
 *     argmin over the rest of || (t + 1) m - S - x_j ||^2
 *
 * which is the pick that brings the mean of t + 1 rows nearest to m. On rows of unequal norm this is not the linear form
 * argmax <w, x_j>; and a well-known public implementation takes argmax of this very distance, which picks outliers. */
#include <math.h>

#include "base/alloc.h"
#include "methods/coreset/rows.h"

rt_status rt_select_herding(const float *feat, int64_t n, int64_t d, int64_t budget, const rt_select_opts *opts,
                            int64_t *picked, double *score)
{
    rt_status st = RT_OK;
    rt_rows r = {0};
    double *mean = NULL, *target = NULL, *row = NULL, *dist = NULL;
    bool *taken = NULL;
    RT_TRY(rt_rows_open(feat, n, d, budget, opts && opts->raw, &r));
    int64_t m = budget < n ? budget : n;
    if (m == 0) goto out;
    RT_ALLOC(mean, (size_t)d * sizeof *mean, "the class mean");
    RT_ALLOC(target, (size_t)d * sizeof *target, "the herding target");
    RT_ALLOC(row, (size_t)d * sizeof *row, "a feature row");
    RT_ALLOC(dist, (size_t)n * sizeof *dist, "distances");
    RT_ALLOC(taken, (size_t)n * sizeof *taken, "the picks");
    rt_rows_mean(&r, mean);
    for (int64_t t = 0; t < m; t++) {
        for (int64_t k = 0; k < d; k++) target[k] += mean[k]; /* (t + 1) m - S */
        rt_rows_dist2(&r, target, dist);
        int64_t best = -1;
        for (int64_t j = 0; j < n; j++)
            if (!taken[j] && (best < 0 || dist[j] < dist[best])) best = j;
        taken[best] = true;
        picked[t] = best;
        if (score) score[t] = sqrt(dist[best]) / (double)(t + 1);
        rt_rows_get(&r, best, row);
        for (int64_t k = 0; k < d; k++) target[k] -= row[k];
    }
out:
    rt_rows_fini(&r);
    rt_free(mean);
    rt_free(target);
    rt_free(row);
    rt_free(dist);
    rt_free(taken);
    return st;
}
