/* RDED (Sun et al., CVPR 2024; arXiv 2312.03526; decoupled.md 2.5): images tiled from the crops of real images that a teacher
 * recognises best. Nothing is optimised; patches.c is all of it. */
#include "base/alloc.h"
#include "methods/distill/distill.h"
#include "methods/recover/start.h"

static rt_status construct(const rt_build_ctx *ctx, rt_set *out)
{
    rt_status st = RT_OK;
    const rt_config *c = ctx->config;
    float *images = NULL;
    size_t n = (size_t)ctx->train->classes.n * (size_t)ctx->ipc * (size_t)ctx->net.size * (size_t)ctx->net.size * 3;
    RT_ALLOC(images, n * sizeof *images, "images of the set");
    RT_TRY(rt_start_patches(ctx, RT_PATCH_EASY, c->rded.images, c->rded.crops, c->rded.factor, images));
    RT_TRY(rt_distill_set(ctx, "rded", images, out));
out:
    rt_free(images);
    return st;
}

const rt_method rt_method_rded = {.name = "rded", .family = "recovery", .title = "RDED (Sun et al., CVPR 2024)",
                                  .needs = RT_NEEDS_TEACHER, .stochastic = true, .construct = construct};
