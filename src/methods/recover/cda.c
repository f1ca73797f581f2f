/* CDA, curriculum data augmentation (Yin & Shen, TMLR 2024; arXiv 2311.18838; decoupled.md 2.2): SRe2L whose crops begin with the
 * whole image and shrink. */
#include "methods/recover/recover.h"

static double crop_min(void *self, int64_t t, int64_t T)
{
    const rt_recovery *r = self;
    const rt_config *c = r->ctx->config;
    return rt_recover_curriculum(c->cda.curriculum, c->cda.milestone, c->cda.crop_min, t, T);
}

static void describe(const rt_build_ctx *ctx, rt_recovery *r)
{
    *r = (rt_recovery){.ctx = ctx, .name = "cda", .self = r, RT_RECOVER_SETTINGS(ctx->config->cda), .crop_min = crop_min};
}

static rt_status construct(const rt_build_ctx *ctx, rt_set *out)
{
    rt_recovery r;
    describe(ctx, &r);
    return rt_recover_run(&r, out);
}

static rt_status estimate(const rt_build_ctx *ctx, rt_estimate *out)
{
    rt_recovery r;
    describe(ctx, &r);
    return rt_recover_estimate(&r, out);
}

const rt_method rt_method_cda = {.name = "cda", .family = "recovery", .title = "CDA (Yin & Shen, TMLR 2024)",
                                 .needs = RT_NEEDS_TEACHER, .stochastic = true,
                                 .construct = construct, .estimate = estimate};
