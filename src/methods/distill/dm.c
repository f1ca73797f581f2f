/* Distribution matching (Zhao & Bilen, "Dataset Condensation with Distribution Matching", WACV 2023; matching.md 4.3):
 * class means (class_mean.h) of the features before the classifier. */
#include <string.h>

#include "methods/distill/class_mean.h"

static rt_val features(const rt_config *c, rt_graph *g, const rt_forward *f)
{
    (void)c;
    (void)g;
    return f->features;
}

static rt_class_mean describe(const rt_config *c)
{
    return (rt_class_mean){.name = "dm", .iterations = c->dm.iterations, .batch_real = c->dm.batch_real, .lr = c->dm.lr,
                           .momentum = c->dm.momentum, .init_noise = !strcmp(c->dm.init, "noise"), .dsa = c->dm.dsa,
                           .statistic = features};
}

static int64_t iterations(const rt_config *c) { return c->dm.iterations; }

static rt_status construct(const rt_build_ctx *ctx, rt_set *out)
{
    rt_class_mean m = describe(ctx->config);
    return rt_class_mean_construct(ctx, &m, out);
}

static rt_status estimate(const rt_build_ctx *ctx, rt_estimate *out)
{
    rt_class_mean m = describe(ctx->config);
    return rt_class_mean_estimate(ctx, &m, out);
}

const rt_method rt_method_dm = {.name = "dm", .family = "distribution matching", .title = "DM (Zhao & Bilen, WACV 2023)",
                                .stochastic = true, .iterations = iterations, .construct = construct, .estimate = estimate};
