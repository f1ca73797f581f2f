/* Multi-formation: tiles in, training images out (formation.h). */
#include "methods/distill/formation.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"

const rt_normalise rt_unit_pixels = {{0, 0, 0}, {1, 1, 1}};
static const double PAD = 0.5;

int64_t rt_formation_tile(int64_t size, int64_t factor) { return (size + factor - 1) / factor; }

/* --- decoding ---------------------------------------------------------------------------------------------------------- */

static rt_val cut(rt_graph *g, rt_val x, int axis, int64_t from, int64_t to)
{
    const rt_shape *s = rt_val_shape(g, x);
    int64_t begin[RT_MAX_RANK] = {0}, end[RT_MAX_RANK];
    if (!s) return (rt_val){0};
    for (int i = 0; i < s->rank; i++) end[i] = s->d[i];
    begin[axis] = from;
    end[axis] = to;
    return rt_slice(g, x, begin, end);
}

/* One pixel more on both sides of the axis, equal to its neighbour: what bilinear enlarging reads past the edge. */
static rt_val repeat_edges(rt_graph *g, rt_val x, int axis, int64_t n)
{
    return rt_concat(g, (rt_val[]){cut(g, x, axis, 0, 1), x, cut(g, x, axis, n - 1, n)}, 3, axis);
}

/* Rows (scale, 0, offset, 0, scale, offset) for n images. */
static rt_val same_affine(rt_graph *g, int64_t n, double scale, double offset)
{
    rt_val k = rt_const(g, scale, RT_SHAPE(RT_F32, n, 1)), o = rt_const(g, offset, RT_SHAPE(RT_F32, n, 1));
    rt_val zero = rt_const(g, 0.0, RT_SHAPE(RT_F32, n, 1));
    return rt_concat(g, (rt_val[]){k, zero, o, zero, k, o}, 6, 1);
}

rt_val rt_formation_decode(rt_graph *g, rt_val x, int64_t classes, int64_t factor)
{
    const rt_shape *xs = rt_val_shape(g, x);
    rt_val piece[256];
    if (!xs || factor == 1) return x;
    int64_t n = xs->d[0], size = xs->d[1], ch = xs->d[3], t = rt_formation_tile(size, factor), padded = t * factor;
    int64_t tiles = factor * factor, row = n / classes * t * t * ch;
    if (padded != size) { /* rt_pad fills with zeros */
        int64_t lo[4] = {0}, hi[4] = {0, padded - size, padded - size, 0};
        x = rt_add_scalar(g, rt_pad(g, rt_add_scalar(g, x, -PAD), lo, hi), PAD);
    }
    for (int64_t k = 0; k < tiles && k < 256; k++) {
        int64_t i = k / factor * t, j = k % factor * t;
        rt_val tile = cut(g, cut(g, x, 1, i, i + t), 2, j, j + t);
        piece[k] = rt_reshape(g, tile, RT_SHAPE(RT_F32, classes, 1, row));
    }
    x = rt_reshape(g, rt_concat(g, piece, (int)tiles, 1), RT_SHAPE(RT_F32, n * tiles, t, t, ch));
    x = repeat_edges(g, repeat_edges(g, x, 1, t), 2, t);
    /* pixel i of the enlarged image lies at (i + 1/2) t / size - 1/2 of the tile, one further for the repeated edge */
    double scale = (double)t / (double)size;
    return rt_affine_sample(g, x, same_affine(g, n * tiles, scale, 0.5 * scale + 0.5), size, size);
}

/* --- initial images ---------------------------------------------------------------------------------------------------- */

/* n members of class c: random ones without repetition, or the first; all of them again and again when there are fewer. */
static rt_status members(const rt_draws *d, int64_t c, bool first, int64_t n, int64_t *pick)
{
    rt_status st = RT_OK;
    int64_t count = d->start[c + 1] - d->start[c], *order = NULL;
    RT_ALLOC(order, (size_t)count * sizeof *order, "initial images");
    memcpy(order, d->by_class + d->start[c], (size_t)count * sizeof *order);
    rt_rng r = rt_rng_at(d->ctx->seed, RT_RNG_SELECT, (uint64_t)c, 2);
    if (!first) rt_rng_shuffle(&r, order, count);
    for (int64_t i = 0; i < n; i++) pick[i] = order[i % count];
out:
    rt_free(order);
    return st;
}

/* Pastes src, scaled down by nearest neighbour, as tile k of image. */
static void paste(const float *src, int64_t size, int64_t factor, int64_t k, float *image)
{
    int64_t t = rt_formation_tile(size, factor), top = k / factor * t, left = k % factor * t;
    for (int64_t i = 0; i < t && top + i < size; i++)
        for (int64_t j = 0; j < t && left + j < size; j++)
            memcpy(image + ((top + i) * size + left + j) * 3, src + (i * size / t * size + j * size / t) * 3, 3 * sizeof *image);
}

rt_status rt_formation_mix(const rt_draws *d, int64_t factor, bool first, float *images)
{
    rt_status st = RT_OK;
    const rt_build_ctx *ctx = d->ctx;
    int64_t tiles = factor * factor, ipc = ctx->ipc, size = ctx->net.size, px = size * size * 3, *pick = NULL;
    float *real = NULL;
    if (ctx->files.init_images && *ctx->files.init_images) return rt_draws_initial(d, false, images, NULL);
    RT_ALLOC(pick, (size_t)(tiles * ipc) * sizeof *pick, "initial images");
    RT_ALLOC(real, (size_t)(tiles * ipc * px) * sizeof *real, "initial images");
    for (int64_t c = 0; c < ctx->train->classes.n; c++) {
        RT_TRY(members(d, c, first, tiles * ipc, pick));
        RT_TRY(rt_batch_fill(ctx->train, pick, tiles * ipc, &rt_unit_pixels, NULL, 0, 0, ctx->threads, real));
        for (int64_t k = 0; k < tiles; k++)
            for (int64_t i = 0; i < ipc; i++) paste(real + (k * ipc + i) * px, size, factor, k, images + (c * ipc + i) * px);
    }
out:
    rt_free(pick);
    rt_free(real);
    return st;
}

rt_status rt_formation_set(const rt_build_ctx *ctx, const char *method, int64_t factor, const float *images, rt_set *out)
{
    rt_status st = RT_OK;
    rt_set s = {0};
    RT_TRY(rt_distill_set(ctx, method, images, &s));
    s.unit = true;
    s.factor = (int32_t)factor;
    *out = s;
out:
    return st;
}
