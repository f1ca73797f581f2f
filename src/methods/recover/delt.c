/* DELT, diversity-driven early-late training (Shen et al., CVPR 2025; decoupled.md 2.8): recovery that starts from real images
 * of medium difficulty, and in which the images of a class join one group after the other, one group a round. The first
 * group is optimised for all rounds, the last for one, so that the images of a class end at different distances from where they
 * started. Crops shrink as in CDA.
 *
 * One Adam and one cosine over all rounds, as released: an image that joins in round j has moments of zero while the correction
 * for their start counts from the block's first iteration, so its first step is 0.5 / sqrt(0.1) = 1.6 times the rate. (The
 * released option that restarts the rate in every round is overwritten by the line after it.)
 *
 * A block is whole classes, as many as fit `batch`. Where one class has more images than that, the blocks of the class share
 * them out by turns and each has its own groups: the released code gives a block without images of the first groups fewer
 * rounds and a shorter cosine instead; no published setting has one. */
#include "methods/recover/delt.h"

#include <string.h>

#include "base/alloc.h"
#include "methods/recover/rank.h"
#include "methods/recover/recover.h"

/* --- order ---------------------------------------------------------------------------------------------------------------- */

int64_t rt_delt_joins(int64_t n, int64_t rounds, int64_t rank)
{
    int64_t small = n / rounds, larger = n % rounds, head = larger * (small + 1);
    if (rank < head) return rank / (small + 1);
    return larger + (rank - head) / small; /* small > 0: with n < rounds every image lies in the head */
}

void rt_delt_medium(int64_t n, int64_t count, int64_t *place)
{
    int64_t middle = (n + 1) / 2;
    for (int64_t step = 0, k = 0; k < count; step++) {
        int64_t at = middle + (step % 2 ? (step + 1) / 2 : -(step / 2));
        if (at >= 0 && at < n) place[k++] = at;
    }
}

/* --- the method ----------------------------------------------------------------------------------------------------------- */

typedef struct delt {
    rt_recovery r;
    int64_t rounds, round;  /* how many, and their iterations */
    int64_t classes, ipc;
    int64_t wide, parts;    /* classes of a block; or, where wide is 1, blocks of a class */
} delt;

/* Images of block b that come from one class, and the first of its classes. */
static int64_t share_of(const delt *d, int64_t b, int64_t *first, int64_t *wide)
{
    *first = d->parts > 1 ? b / d->parts : b * d->wide;
    *wide = d->classes - *first < d->wide ? d->classes - *first : d->wide;
    return d->parts > 1 ? (d->ipc - b % d->parts + d->parts - 1) / d->parts : d->ipc;
}

static int64_t compose(void *self, int64_t block, int64_t *image)
{
    const delt *d = self;
    int64_t first, wide, n = 0, share = share_of(d, block, &first, &wide);
    if (first >= d->classes) return -1;
    for (int64_t j = 0; j < d->rounds; j++)
        for (int64_t c = 0; c < wide; c++)
            for (int64_t i = 0; i < share; i++)
                if (rt_delt_joins(share, d->rounds, i) == j)
                    image[n++] = (first + c) * d->ipc + (d->parts > 1 ? i * d->parts + block % d->parts : i);
    return n;
}

static int64_t active(void *self, int64_t block, int64_t t)
{
    const delt *d = self;
    int64_t first, wide, n = 0, share = share_of(d, block, &first, &wide), now = t / d->round;
    for (int64_t i = 0; i < share; i++) n += rt_delt_joins(share, d->rounds, i) <= now;
    return n * wide;
}

/* Places of a class's images in ascending order of probability. */
static void choose(const char *how, int64_t n, int64_t count, int64_t *place)
{
    if (!strcmp(how, "medium")) {
        rt_delt_medium(n, count, place);
        return;
    }
    bool easy = !strcmp(how, "easy");
    for (int64_t i = 0; i < count; i++) place[i] = easy ? n - 1 - i : i;
}

static rt_status initial(void *self, float *images)
{
    rt_status st = RT_OK;
    const delt *d = self;
    const rt_build_ctx *ctx = d->r.ctx;
    const rt_images *tr = ctx->train;
    double *p = NULL;
    int64_t *member = NULL, *start = NULL, *order = NULL, *place = NULL, *picked = NULL;
    RT_ALLOC(p, (size_t)tr->n * sizeof *p, "probabilities");
    RT_ALLOC(order, (size_t)tr->n * sizeof *order, "ranking");
    RT_ALLOC(place, (size_t)d->ipc * sizeof *place, "ranking");
    RT_ALLOC(picked, (size_t)(d->classes * d->ipc) * sizeof *picked, "ranking");
    RT_TRY(rt_images_by_class(tr, &member, &start));
    for (int64_t c = 0; c < d->classes; c++)
        if (start[c + 1] - start[c] < d->ipc) {
            st = RT_RAISE(RT_ERR_CONFIG, "class %d (%s) has %lld training images, %lld per class are asked for", (int)c,
                          tr->classes.name[c], (long long)(start[c + 1] - start[c]), (long long)d->ipc);
            rt_error_fix(st, "set set.ipc to at most %lld", (long long)(start[c + 1] - start[c]));
            goto out;
        }
    RT_TRY(rt_rank_probability(ctx, &ctx->teachers->teacher[0], p));
    for (int64_t c = 0; c < d->classes; c++) {
        int64_t n = start[c + 1] - start[c];
        RT_TRY(rt_rank_ascending(p, member + start[c], n, order));
        choose(ctx->config->delt.select, n, d->ipc, place);
        for (int64_t i = 0; i < d->ipc; i++) picked[c * d->ipc + i] = order[place[i]];
    }
    RT_TRY(rt_batch_fill(tr, picked, d->classes * d->ipc, &ctx->norm, NULL, 0, 0, ctx->threads, images));
out:
    rt_free(p);
    rt_free(member);
    rt_free(start);
    rt_free(order);
    rt_free(place);
    rt_free(picked);
    return st;
}

static double crop_min(void *self, int64_t t, int64_t T)
{
    const delt *d = self;
    return rt_recover_curriculum(d->r.ctx->config->delt.curriculum, d->r.ctx->config->delt.milestone, d->r.view.scale_min, t, T);
}

static delt describe(const rt_build_ctx *ctx)
{
    const rt_config *c = ctx->config;
    delt d = {.r = {.ctx = ctx, .name = "delt", RT_RECOVER_SETTINGS(c->delt), .class_major = true, .initial = initial,
                    .compose = compose, .active = active, .crop_min = crop_min},
              .classes = ctx->train->classes.n, .ipc = ctx->ipc, .rounds = 1, .wide = 1, .parts = 1};
    if (d.ipc > 1) d.rounds = c->delt.rounds;
    d.round = d.r.iterations > d.rounds ? (d.r.iterations + d.rounds - 1) / d.rounds : 1;
    if (d.r.batch >= d.ipc) d.wide = d.r.batch / d.ipc;
    else d.parts = (d.ipc + d.r.batch - 1) / d.r.batch;
    if (d.parts > 1)
        d.r.deviation[d.r.n_deviations++] = "a class has more images than a block: its blocks share them out by turns, each with all rounds";
    return d;
}

static rt_status construct(const rt_build_ctx *ctx, rt_set *out)
{
    delt d = describe(ctx);
    d.r.self = &d;
    return rt_recover_run(&d.r, out);
}

static rt_status estimate(const rt_build_ctx *ctx, rt_estimate *out)
{
    delt d = describe(ctx);
    d.r.self = &d;
    return rt_recover_estimate(&d.r, out);
}

const rt_method rt_method_delt = {.name = "delt", .family = "recovery", .title = "DELT (Shen et al., CVPR 2025)",
                                  .needs = RT_NEEDS_TEACHER, .stochastic = true,
                                  .construct = construct, .estimate = estimate};
