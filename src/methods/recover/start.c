/* Real images that recovery starts from (start.h). */
#include "methods/recover/start.h"

#include "base/alloc.h"

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
