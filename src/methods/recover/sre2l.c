/* SRe2L (Yin et al., NeurIPS 2023; arXiv 2306.13092; decoupled.md 2.1): images of noise that a teacher recognises and whose
 * statistics in its BatchNorm layers are those of real data. The recovery core as it is. */
#include "methods/recover/recover.h"

static rt_recovery describe(const rt_build_ctx *ctx)
{
    return (rt_recovery){.ctx = ctx, .name = "sre2l", RT_RECOVER_SETTINGS(ctx->config->sre2l)};
}

static rt_status construct(const rt_build_ctx *ctx, rt_set *out)
{
    rt_recovery r = describe(ctx);
    return rt_recover_run(&r, out);
}

static rt_status estimate(const rt_build_ctx *ctx, rt_estimate *out)
{
    rt_recovery r = describe(ctx);
    return rt_recover_estimate(&r, out);
}

const rt_method rt_method_sre2l = {.name = "sre2l", .family = "recovery", .title = "SRe2L (Yin et al., NeurIPS 2023)",
                                   .needs = RT_NEEDS_TEACHER, .stochastic = true,
                                   .construct = construct, .estimate = estimate};
