/* Draws among experts (expert_draw.h; matching.md 4.5, step 1). */
#include "methods/distill/expert_draw.h"

#include "base/alloc.h"
#include "base/rng.h"

rt_status rt_expert_of(uint64_t seed, int64_t it, int64_t n, int64_t *expert)
{
    rt_status st = RT_OK;
    int64_t *order = NULL;
    RT_ALLOC(order, (size_t)n * sizeof *order, "order of the experts");
    for (int64_t k = 0; k < n; k++) order[k] = k;
    rt_rng r = rt_rng_at(seed, RT_RNG_EXPERT, (uint64_t)(it / n), 0);
    rt_rng_shuffle(&r, order, n);
    *expert = order[it % n];
out:
    rt_free(order);
    return st;
}

int64_t rt_expert_start(uint64_t seed, int64_t it, int64_t lo, int64_t hi)
{
    if (hi <= lo) return lo;
    rt_rng r = rt_rng_at(seed, RT_RNG_EXPERT, (uint64_t)it, 1);
    return lo + (int64_t)rt_rng_below(&r, (uint32_t)(hi - lo));
}

rt_status rt_expert_segment(const rt_build_ctx *ctx, const rt_model *m, int64_t it, int64_t lo, int64_t hi, int64_t ahead,
                            float *theta0, float *target)
{
    rt_status st = RT_OK;
    int64_t k = 0, start = rt_expert_start(ctx->seed, it, lo, hi);
    if (!ctx->experts) {
        if (rt_model_n_buffers(m)) return RT_RAISE(RT_ERR_CONFIG, "trajectories of a network with running statistics are not matched");
        rt_model_init(m, ctx->seed, 0, theta0, NULL);
        rt_model_init(m, ctx->seed, 1, target, NULL);
        return RT_OK;
    }
    RT_TRY(rt_expert_of(ctx->seed, it, rt_experts_count(ctx->experts), &k));
    RT_TRY(rt_experts_read(ctx->experts, k, start, theta0));
    RT_TRY(rt_experts_read(ctx->experts, k, start + ahead, target));
out:
    return st;
}
