/* SRe2L++ (the baseline published with CV-DD, arXiv 2501.07575; decoupled.md 2.9): SRe2L that starts from patches of medium
 * difficulty instead of noise. */
#include "methods/recover/recover.h"
#include "methods/recover/start.h"

static rt_status initial(void *self, float *images)
{
    const rt_recovery *r = self;
    const rt_config *c = r->ctx->config;
    return rt_start_patches(r->ctx, RT_PATCH_MEDIUM, c->sre2lpp.patch_images, c->sre2lpp.patch_crops, c->sre2lpp.patch_factor, images);
}

static void describe(const rt_build_ctx *ctx, rt_recovery *r)
{
    *r = (rt_recovery){.ctx = ctx, .name = "sre2lpp", .self = r, RT_RECOVER_SETTINGS(ctx->config->sre2lpp), .initial = initial};
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

const rt_method rt_method_sre2lpp = {.name = "sre2lpp", .family = "recovery", .title = "SRe2L++ (Cui et al., 2025)",
                                     .needs = RT_NEEDS_TEACHER, .stochastic = true, .construct = construct, .estimate = estimate};
