/* Real images that recovery starts from (start.h). */
#include "methods/recover/start.h"

#include "base/alloc.h"

enum { PUBLISHED_PER_CLASS = 300, TILED_FROM = 128 };

rt_status rt_start_real(const rt_build_ctx *ctx, float *images)
{
    rt_status st = RT_OK;
    int64_t n = (int64_t)ctx->train->classes.n * ctx->ipc, *index = NULL;
    RT_ALLOC(index, (size_t)n * sizeof *index, "initial images");
    RT_TRY(rt_draw_real(ctx->train, ctx->ipc, ctx->seed, index));
    RT_TRY(rt_batch_fill(ctx->train, index, n, &ctx->norm, NULL, 0, 0, ctx->threads, images));
out:
    rt_free(index);
    return st;
}

static rt_status smallest_class(const rt_build_ctx *ctx, int64_t *out)
{
    rt_status st = RT_OK;
    int64_t *member = NULL, *start = NULL, least = ctx->train->n;
    RT_TRY(rt_images_by_class(ctx->train, &member, &start));
    for (int32_t c = 0; c < ctx->train->classes.n; c++)
        if (start[c + 1] - start[c] < least) least = start[c + 1] - start[c];
    *out = least;
out:
    rt_free(member);
    rt_free(start);
    return st;
}

rt_status rt_start_patches(const rt_build_ctx *ctx, rt_patch_rank rank, int64_t per_class, int64_t crops, int64_t factor, float *images)
{
    rt_status st = RT_OK;
    rt_patch_spec spec = {.per_class = per_class, .crops = (int32_t)crops, .factor = (int32_t)factor, .scale_min = 0.08,
                          .rank = rank};
    if (!factor) spec.factor = ctx->net.size >= TILED_FROM ? 2 : 1;
    if (!per_class) {
        RT_TRY(smallest_class(ctx, &spec.per_class));
        if (spec.per_class > PUBLISHED_PER_CLASS) spec.per_class = PUBLISHED_PER_CLASS;
    }
    RT_TRY(rt_patches_make(ctx, &spec, images));
out:
    return st;
}
