/* k-center greedy (Gonzalez 1985; Sener and Savarese, "Active Learning for CNNs: A Core-Set Approach", 2018): the next
 * pick is the row farthest from all picks, a 2-approximation of the smallest covering radius for any start. With few
 * centres the start matters much: the default is the medoid, not a random row. Only the n distances to the nearest pick
 * are kept. */
#include <math.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "methods/coreset/rows.h"

static int64_t nearest(const double *dist, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (dist[i] < dist[best]) best = i;
    return best;
}

rt_status rt_select_kcenter(const float *feat, int64_t n, int64_t d, int64_t budget, const rt_select_opts *opts,
                            int64_t *picked, double *score)
{
    rt_status st = RT_OK;
    const rt_select_opts o = opts ? *opts : (rt_select_opts){0};
    rt_rows r = {0};
    double *point = NULL, *dist = NULL, *delta = NULL;
    RT_TRY(rt_rows_open(feat, n, d, budget, o.raw, &r));
    int64_t m = budget < n ? budget : n, next = o.start_row;
    if (m == 0) goto out;
    if (o.start == RT_KCENTER_GIVEN && (next < 0 || next >= n)) {
        st = RT_RAISE(RT_ERR_ARG, "k-center starts at row %lld of %lld", (long long)next, (long long)n);
        goto out;
    }
    RT_ALLOC(point, (size_t)d * sizeof *point, "a centre");
    RT_ALLOC(dist, (size_t)n * sizeof *dist, "distances");
    RT_ALLOC(delta, (size_t)n * sizeof *delta, "distances to the nearest centre");
    if (o.start == RT_KCENTER_MEDOID) {
        rt_rows_mean(&r, point);
        rt_rows_dist2(&r, point, dist);
        next = nearest(dist, n);
    } else if (o.start == RT_KCENTER_RANDOM) {
        rt_rng rng = rt_rng_at(o.seed, RT_RNG_SELECT, o.cls, 1);
        next = (int64_t)rt_rng_below(&rng, (uint32_t)n);
    }
    for (int64_t i = 0; i < n; i++) delta[i] = INFINITY;
    for (int64_t t = 0; t < m; t++) {
        picked[t] = next;
        rt_rows_get(&r, next, point);
        rt_rows_dist2(&r, point, dist);
        delta[next] = -1; /* a pick: below every distance, so duplicates of it (distance 0) can still be picked */
        int64_t far = -1;
        for (int64_t i = 0; i < n; i++) {
            if (dist[i] < delta[i]) delta[i] = dist[i];
            if (far < 0 || delta[i] > delta[far]) far = i;
        }
        if (score) score[t] = delta[far] > 0 ? sqrt(delta[far]) : 0;
        next = far;
    }
out:
    rt_rows_fini(&r);
    rt_free(point);
    rt_free(dist);
    rt_free(delta);
    return st;
}
