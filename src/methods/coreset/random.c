/* Uniform without replacement: the prefix of one permutation per (seed, class), so budgets are nested and comparisons
 * across budgets are paired. */
#include "base/alloc.h"
#include "base/rng.h"
#include "methods/coreset/coreset.h"

rt_status rt_select_random(const float *feat, int64_t n, int64_t d, int64_t budget, const rt_select_opts *opts,
                           int64_t *picked, double *score)
{
    rt_status st = RT_OK;
    const rt_select_opts o = opts ? *opts : (rt_select_opts){0};
    int64_t *order = NULL, m = budget < n ? budget : n;
    (void)feat;
    (void)d;
    if (n < 0 || budget < 0 || n > UINT32_MAX)
        return RT_RAISE(RT_ERR_ARG, "selection of %lld from %lld rows", (long long)budget, (long long)n);
    RT_ALLOC(order, ((size_t)n + 1) * sizeof *order, "a permutation");
    for (int64_t i = 0; i < n; i++) order[i] = i;
    rt_rng rng = rt_rng_at(o.seed, RT_RNG_SELECT, o.cls, 0);
    rt_rng_shuffle(&rng, order, n);
    for (int64_t t = 0; t < m; t++) {
        picked[t] = order[t];
        if (score) score[t] = 0;
    }
out:
    rt_free(order);
    return st;
}
