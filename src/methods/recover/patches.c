/* RDED's patches (Sun et al., CVPR 2024; decoupled.md 2.5): of every candidate image the crop that the teacher recognises best,
 * of a class the best (or middling) of those, tiled. No optimisation.
 *
 *     crops at the resolution that images came in, square, bilinear with antialiasing to size / factor
 *     score: -log probability of the true class, the crop in the middle of a field of zeros (the mean colour)
 *     image i holds the candidates of rank q ipc + i in its tiles q, row by row
 *
 * Crops are drawn by (image of the class, crop); a class is decoded once and its pixels are forgotten with it. */
#include "methods/recover/patches.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "methods/recover/rank.h"

enum { SCORED_AT_ONCE = 250, TRIES = 10 };

typedef struct pool {
    const rt_build_ctx *ctx;
    const rt_patch_spec *spec;
    rt_scorer *scorer;
    int64_t *by_class, *start;   /* members of classes */
    int32_t side;                /* of a crop */
    int64_t px, batch;           /* floats of a crop; crops scored at once */
    float *best;                 /* [per_class, px]: the best crop of every candidate */
    double *score;               /* [per_class]: its cross-entropy */
    int64_t *picked, *owner, *identity, *order;
    int32_t *label;
    double *logp;
    uint8_t *crop;
} pool;

static void pool_fini(pool *p)
{
    rt_scorer_close(p->scorer);
    void *all[] = {p->by_class, p->start, p->best, p->score, p->picked, p->owner, p->identity, p->order, p->label, p->logp, p->crop};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) rt_free(all[i]);
}

static rt_status check(const pool *p)
{
    rt_status st = RT_OK;
    const rt_patch_spec *s = p->spec;
    const rt_images *tr = p->ctx->train;
    int64_t need = (int64_t)p->ctx->ipc * s->factor * s->factor;
    if (s->factor < 1 || p->ctx->net.size % s->factor) {
        st = RT_RAISE(RT_ERR_CONFIG, "%d pixels do not divide into %d tiles", p->ctx->net.size, s->factor);
        return rt_error_fix(st, "choose a factor that divides data.size");
    }
    if (s->per_class < need) {
        st = RT_RAISE(RT_ERR_CONFIG, "%d images of %d patches per class need %lld candidates, %lld are asked for", p->ctx->ipc,
                      s->factor * s->factor, (long long)need, (long long)s->per_class);
        return rt_error_fix(st, "draw at least %lld images per class, or lower set.ipc or the factor", (long long)need);
    }
    for (int32_t c = 0; !s->pool && c < tr->classes.n; c++) {
        int64_t n = p->start[c + 1] - p->start[c];
        if (n >= s->per_class) continue;
        st = RT_RAISE(RT_ERR_CONFIG, "class %d (%s) has %lld training images, patches want %lld of each class", c, tr->classes.name[c],
                      (long long)n, (long long)s->per_class);
        return rt_error_fix(st, "draw at most %lld images per class for the patches", (long long)n);
    }
    return RT_OK;
}

static rt_status pool_open(pool *p, const rt_build_ctx *ctx, const rt_patch_spec *spec)
{
    rt_status st = RT_OK;
    size_t n = (size_t)spec->per_class;
    *p = (pool){.ctx = ctx, .spec = spec};
    RT_TRY(rt_images_by_class(ctx->train, &p->by_class, &p->start));
    RT_TRY(check(p));
    p->side = ctx->net.size / spec->factor;
    p->px = (int64_t)p->side * p->side * 3;
    p->batch = spec->crops > SCORED_AT_ONCE ? spec->crops : SCORED_AT_ONCE / spec->crops * spec->crops;
    RT_ALLOC(p->best, n * (size_t)p->px * sizeof *p->best, "patches");
    RT_ALLOC(p->score, n * sizeof *p->score, "patches");
    RT_ALLOC(p->picked, (size_t)ctx->train->n * sizeof *p->picked, "patches");
    RT_ALLOC(p->identity, n * sizeof *p->identity, "patches");
    RT_ALLOC(p->order, n * sizeof *p->order, "patches");
    RT_ALLOC(p->owner, (size_t)p->batch * sizeof *p->owner, "patches");
    RT_ALLOC(p->label, (size_t)p->batch * sizeof *p->label, "patches");
    RT_ALLOC(p->logp, (size_t)p->batch * sizeof *p->logp, "patches");
    RT_ALLOC(p->crop, (size_t)p->px, "patches");
    RT_TRY(rt_scorer_open(ctx, &ctx->teachers->teacher[0], p->batch, &p->scorer));
out:
    return st;
}

/* Candidates of class c: given, or drawn without replacement. */
static void pick(pool *p, int32_t c)
{
    int64_t n = p->start[c + 1] - p->start[c];
    if (p->spec->pool) {
        memcpy(p->picked, p->spec->pool + (int64_t)c * p->spec->per_class, (size_t)p->spec->per_class * sizeof *p->picked);
        return;
    }
    rt_rng r = rt_rng_at(p->ctx->seed, RT_RNG_PATCHES, (uint64_t)c, UINT32_MAX);
    memcpy(p->picked, p->by_class + p->start[c], (size_t)n * sizeof *p->picked);
    rt_rng_shuffle(&r, p->picked, n);
}

/* Training image i as it came, or as it is kept where there is nothing else. */
static rt_status source(const pool *p, int64_t i, rt_image *out)
{
    rt_status st = RT_OK;
    const rt_build_ctx *ctx = p->ctx;
    const rt_images *tr = ctx->train;
    void *bytes = NULL;
    size_t n;
    if (!ctx->originals) {
        n = (size_t)tr->h * (size_t)tr->w * 3;
        rt_image im = {.h = tr->h, .w = tr->w};
        RT_ALLOC(im.px, n, "image");
        memcpy(im.px, tr->px + (size_t)i * n, n);
        *out = im;
        return RT_OK;
    }
    int64_t k = ctx->original_of ? ctx->original_of[i] : i;
    int32_t raw = rt_dataset_raw_side(ctx->originals);
    RT_TRY(rt_dataset_read(ctx->originals, k, &bytes, &n));
    if (raw) {
        *out = (rt_image){.h = raw, .w = raw, .px = bytes};
        bytes = NULL;
    } else {
        RT_TRY(rt_decode(bytes, n, rt_dataset_key(ctx->originals, k), out, NULL));
    }
out:
    rt_free(bytes);
    return st;
}

/* A square of a share of the area; where ten tries do not fit, the square in the middle. */
static void draw_box(rt_rng *r, double scale_min, int32_t h, int32_t w, int box[3])
{
    for (int k = 0; k < TRIES; k++) {
        int64_t side = llround(sqrt((double)h * w * rt_rng_uniform_in(r, scale_min, 1)));
        if (side < 1 || side > h || side > w) continue;
        box[0] = (int)rt_rng_below(r, (uint32_t)(w - side + 1));
        box[1] = (int)rt_rng_below(r, (uint32_t)(h - side + 1));
        box[2] = (int)side;
        return;
    }
    box[2] = h < w ? h : w;
    box[0] = (w - box[2]) / 2;
    box[1] = (h - box[2]) / 2;
}

/* Crop k of candidate i of class c into place `at` of the batch. */
static rt_status cut(pool *p, int32_t c, int64_t i, int32_t k, const rt_image *im, int64_t at)
{
    rt_status st = RT_OK;
    int32_t size = p->ctx->net.size, off = (size - p->side) / 2;
    const rt_normalise *nm = &p->ctx->norm;
    float *field = rt_scorer_images(p->scorer) + at * (int64_t)size * size * 3;
    int box[3];
    rt_rng r = rt_rng_at(p->ctx->seed, RT_RNG_PATCHES, (uint64_t)c * (uint64_t)p->spec->per_class + (uint64_t)i, (uint32_t)k);
    draw_box(&r, p->spec->scale_min, im->h, im->w, box);
    RT_TRY(rt_crop_resize(im, box[0], box[1], box[2], box[2], p->side, p->side, RT_BILINEAR, p->crop));
    memset(field, 0, (size_t)(size * size * 3) * sizeof *field);
    for (int32_t y = 0; y < p->side; y++)
        for (int32_t x = 0; x < p->side * 3; x++)
            field[((off + y) * size + off) * 3 + x] =
                (float)(((double)p->crop[y * p->side * 3 + x] / 255.0 - (double)nm->mean[x % 3]) / (double)nm->std[x % 3]);
    p->owner[at] = i;
    p->label[at] = c;
out:
    return st;
}

/* Scores the n crops in the batch and keeps each that is its candidate's best so far. */
static rt_status judge(pool *p, int64_t n)
{
    rt_status st = RT_OK;
    int32_t size = p->ctx->net.size, off = (size - p->side) / 2;
    if (!n) return RT_OK;
    RT_TRY(rt_scorer_run(p->scorer, p->label, n, p->logp));
    for (int64_t j = 0; j < n; j++) {
        int64_t i = p->owner[j];
        if (!(-p->logp[j] < p->score[i])) continue;
        const float *field = rt_scorer_images(p->scorer) + j * (int64_t)size * size * 3;
        p->score[i] = -p->logp[j];
        for (int32_t y = 0; y < p->side; y++)
            memcpy(p->best + i * p->px + (int64_t)y * p->side * 3, field + ((off + y) * size + off) * 3, (size_t)(p->side * 3) * sizeof *field);
    }
out:
    return st;
}

static rt_status judge_class(pool *p, int32_t c)
{
    rt_status st = RT_OK;
    rt_image im = {0};
    int64_t n = 0;
    pick(p, c);
    for (int64_t i = 0; i < p->spec->per_class; i++) {
        p->score[i] = INFINITY;
        p->identity[i] = i;
        RT_TRYF(source(p, p->picked[i], &im), "image %s", p->ctx->train->key[p->picked[i]]);
        for (int32_t k = 0; k < p->spec->crops; k++) RT_TRY(cut(p, c, i, k, &im, n++));
        rt_image_fini(&im);
        im = (rt_image){0};
        if (n + p->spec->crops > p->batch) {
            RT_TRY(judge(p, n));
            n = 0;
        }
    }
    RT_TRY(judge(p, n));
    RT_TRY(rt_rank_ascending(p->score, p->identity, p->spec->per_class, p->order));
out:
    rt_image_fini(&im);
    return st;
}

/* The images of a class out of its ranked candidates. */
static void tile(const pool *p, float *images)
{
    int32_t size = p->ctx->net.size, f = p->spec->factor;
    int64_t ipc = p->ctx->ipc, need = ipc * f * f;
    int64_t first = p->spec->rank == RT_PATCH_MEDIUM ? (p->spec->per_class - need) / 2 : 0;
    for (int64_t i = 0; i < ipc; i++)
        for (int32_t q = 0; q < f * f; q++) {
            const float *from = p->best + p->order[first + q * ipc + i] * p->px;
            float *to = images + i * size * size * 3 + ((int64_t)(q / f) * p->side * size + (int64_t)(q % f) * p->side) * 3;
            for (int32_t y = 0; y < p->side; y++)
                memcpy(to + (int64_t)y * size * 3, from + (int64_t)y * p->side * 3, (size_t)(p->side * 3) * sizeof *to);
        }
}

rt_status rt_patches_make(const rt_build_ctx *ctx, const rt_patch_spec *spec, float *images)
{
    rt_status st = RT_OK;
    pool p;
    int64_t one = (int64_t)ctx->ipc * ctx->net.size * ctx->net.size * 3;
    RT_TRY(pool_open(&p, ctx, spec));
    for (int32_t c = 0; c < ctx->train->classes.n; c++) {
        RT_TRYF(judge_class(&p, c), "patches of class %s", ctx->train->classes.name[c]);
        tile(&p, images + c * one);
    }
out:
    pool_fini(&p);
    return st;
}
