/* FADRM and FADRM+ (Cui et al., NeurIPS 2025; decoupled.md 2.10): recovery in stages of changing resolution with residuals.
 * Starts from patches P of medium difficulty; after every stage but the last
 *
 *     x <- residual resize(x, next) + (1 - residual) resize(P, next),
 *
 * which keeps the texture of real images that recovery washes out. Adam is created anew for each stage, the cosine runs over all.
 * FADRM inverts one teacher; FADRM+ the committee by turns. */
#include <math.h>

#include "methods/recover/recover.h"
#include "methods/recover/start.h"

enum { PUBLISHED_STAGES = 4, RESIZED_FROM = 128 };

static rt_status initial(void *self, float *images)
{
    const rt_recovery *r = self;
    const rt_config *c = r->ctx->config;
    return rt_start_patches(r->ctx, RT_PATCH_MEDIUM, c->fadrm.patch_images, c->fadrm.patch_crops, c->fadrm.patch_factor, images);
}

/* Sides of the stages: 200, 224, 200, 224 of 224 pixels; of small images always the whole side. */
static rt_status stages_of(rt_recovery *r)
{
    rt_status st;
    const rt_config *c = r->ctx->config;
    const rt_real_list *given = &c->fadrm.stages;
    int32_t size = r->ctx->net.size;
    bool published = given->n == 1 && given->v[0] == 0;
    int n = published ? PUBLISHED_STAGES : given->n;
    if (n > RT_RECOVER_STAGES) {
        st = RT_RAISE(RT_ERR_CONFIG, "fadrm.stages has %d entries", n);
        return rt_error_fix(st, "give at most %d", RT_RECOVER_STAGES);
    }
    if (!published && given->v[n - 1] != 1) {
        st = RT_RAISE(RT_ERR_CONFIG, "the last of fadrm.stages is %g, and the images would not have the side of the set", given->v[n - 1]);
        return rt_error_fix(st, "end the list with 1");
    }
    for (int k = 0; k < n; k++) {
        double of = published ? (size >= RESIZED_FROM && k % 2 == 0 ? 200.0 / 224.0 : 1) : given->v[k];
        int32_t side = (int32_t)lround(of * size);
        if (side < 4) {
            st = RT_RAISE(RT_ERR_CONFIG, "fadrm.stages asks for images of %d pixels", side);
            return rt_error_fix(st, "entries are multiples of data.size, such as 0.893 or 1");
        }
        r->stage[k].side = side;
        r->stage[k].iterations = r->iterations * (k + 1) / n - r->iterations * k / n;
        r->stage[k].residual = c->fadrm.residual;
    }
    r->n_stages = n;
    return RT_OK;
}

static rt_status describe(const rt_build_ctx *ctx, const char *name, rt_recovery *r)
{
    const rt_config *c = ctx->config;
    *r = (rt_recovery){.ctx = ctx, .name = name, .self = r, RT_RECOVER_SETTINGS(c->fadrm), .teachers = RT_RECOVER_ROUND_ROBIN,
                       .initial = initial};
    r->deviation[r->n_deviations++] = "steps are float32, where the released code has half precision with loss scaling";
    return stages_of(r);
}

static rt_status construct(const rt_build_ctx *ctx, rt_set *out)
{
    rt_recovery r;
    rt_status st = describe(ctx, "fadrm", &r);
    return st == RT_OK ? rt_recover_run(&r, out) : st;
}

static rt_status construct_plus(const rt_build_ctx *ctx, rt_set *out)
{
    rt_recovery r;
    if (ctx->teachers->n < 2) {
        rt_status st = RT_RAISE(RT_ERR_CONFIG, "fadrmp inverts several teachers by turns, and the committee has one");
        return rt_error_fix(st, "list more architectures in committee.archs, or run fadrm");
    }
    rt_status st = describe(ctx, "fadrmp", &r);
    return st == RT_OK ? rt_recover_run(&r, out) : st;
}

static rt_status estimate(const rt_build_ctx *ctx, rt_estimate *out)
{
    rt_recovery r;
    rt_status st = describe(ctx, "fadrm", &r);
    return st == RT_OK ? rt_recover_estimate(&r, out) : st;
}

const rt_method rt_method_fadrm = {.name = "fadrm", .family = "recovery", .title = "FADRM (Cui et al., NeurIPS 2025)",
                                   .needs = RT_NEEDS_TEACHER, .stochastic = true,
                                   .construct = construct, .estimate = estimate};
const rt_method rt_method_fadrmp = {.name = "fadrmp", .family = "recovery", .title = "FADRM+ (Cui et al., NeurIPS 2025)",
                                    .section = "fadrm", .needs = RT_NEEDS_COMMITTEE, .stochastic = true,
                                    .construct = construct_plus, .estimate = estimate};
