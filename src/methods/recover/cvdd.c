/* CV-DD, committee voting (Cui et al., arXiv 2501.07575; decoupled.md 2.9): every rank of images (image i of each class) is
 * recovered from two members of the committee at once,
 *
 *     sum over both of  w_j (CE_j + r_bn R_bn,j),   w = softmax(prior / temperature) over the two,
 *
 * where a member's prior is the accuracy that a set distilled from it alone reached. Starts from patches of medium difficulty.
 * The pair depends on the rank alone: all blocks of a rank share it. */
#include "methods/recover/cvdd.h"

#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "methods/recover/recover.h"
#include "methods/recover/start.h"

enum { IN_ORDER_UP_TO = 10 }; /* images per class for which the released code has a fixed sequence of pairs */

void rt_cvdd_pair(int32_t n, int64_t k, int32_t pair[2])
{
    int32_t first = 0;
    k %= (int64_t)n * (n - 1) / 2;
    for (; k >= n - 1 - first; first++) k -= n - 1 - first;
    pair[0] = first;
    pair[1] = first + 1 + (int32_t)k;
}

void rt_cvdd_weights(const double prior[2], double temperature, double weight[2])
{
    weight[0] = 1 / (1 + exp((prior[1] - prior[0]) / temperature));
    weight[1] = 1 - weight[0];
}

typedef struct cvdd {
    rt_recovery r;
    double prior[RT_CFG_MAX_LIST];
    int64_t blocks; /* of a rank */
} cvdd;

/* The two with the highest priors; the earlier of equal ones. */
static void best_pair(const cvdd *d, int32_t n, int32_t pair[2])
{
    int32_t a = 0, b = -1;
    for (int32_t i = 1; i < n; i++)
        if (d->prior[i] > d->prior[a]) a = i;
    for (int32_t i = 0; i < n; i++)
        if (i != a && (b < 0 || d->prior[i] > d->prior[b])) b = i;
    pair[0] = a < b ? a : b;
    pair[1] = a < b ? b : a;
}

static int32_t panel(void *self, int64_t block, int32_t *teacher, double *weight)
{
    const cvdd *d = self;
    const rt_build_ctx *ctx = d->r.ctx;
    const char *how = ctx->config->cvdd.pairs;
    int32_t n = ctx->teachers->n;
    int64_t rank = block / d->blocks;
    if (!strcmp(how, "published")) how = ctx->ipc == 1 ? "best" : ctx->ipc <= IN_ORDER_UP_TO ? "in_order" : "random";
    if (!strcmp(how, "best")) best_pair(d, n, teacher);
    else if (!strcmp(how, "in_order")) rt_cvdd_pair(n, rank, teacher);
    else {
        rt_rng r = rt_rng_at(ctx->seed, RT_RNG_COMMITTEE, (uint64_t)rank, 0);
        rt_cvdd_pair(n, rt_rng_below(&r, (uint32_t)(n * (n - 1) / 2)), teacher);
    }
    rt_cvdd_weights((double[]){d->prior[teacher[0]], d->prior[teacher[1]]}, ctx->config->cvdd.temperature, weight);
    return 2;
}

static rt_status initial(void *self, float *images)
{
    const cvdd *d = self;
    const rt_config *c = d->r.ctx->config;
    return rt_start_patches(d->r.ctx, RT_PATCH_MEDIUM, c->cvdd.patch_images, c->cvdd.patch_crops, c->cvdd.patch_factor, images);
}

static rt_status describe(const rt_build_ctx *ctx, cvdd *d)
{
    rt_status st;
    const rt_config *c = ctx->config;
    const rt_real_list *given = &c->cvdd.priors;
    int32_t n = ctx->teachers->n;
    bool equal = given->n == 1 && given->v[0] == 0;
    *d = (cvdd){.r = {.ctx = ctx, .name = "cvdd", .self = d, RT_RECOVER_SETTINGS(c->cvdd), .teachers = RT_RECOVER_ALL,
                      .initial = initial, .panel = panel}};
    if (n < 2 || n > RT_CFG_MAX_LIST) {
        st = RT_RAISE(RT_ERR_CONFIG, "cvdd inverts pairs of teachers, and the committee has %d", n);
        return rt_error_fix(st, "list two to %d architectures in committee.archs", RT_CFG_MAX_LIST);
    }
    if (!equal && given->n != n) {
        st = RT_RAISE(RT_ERR_CONFIG, "cvdd.priors has %d values, the committee %d members", given->n, n);
        return rt_error_fix(st, "give one accuracy in percent per entry of committee.archs, in its order, or [0] for equal weights");
    }
    for (int32_t i = 0; i < n; i++) d->prior[i] = equal ? 0 : given->v[i];
    if (equal) d->r.deviation[d->r.n_deviations++] = "no priors were given: the two teachers of an image weigh the same";
    d->blocks = (ctx->train->classes.n + d->r.batch - 1) / d->r.batch;
    return RT_OK;
}

static rt_status construct(const rt_build_ctx *ctx, rt_set *out)
{
    cvdd d;
    rt_status st = describe(ctx, &d);
    return st == RT_OK ? rt_recover_run(&d.r, out) : st;
}

static rt_status estimate(const rt_build_ctx *ctx, rt_estimate *out)
{
    cvdd d;
    rt_status st = describe(ctx, &d);
    return st == RT_OK ? rt_recover_estimate(&d.r, out) : st;
}

const rt_method rt_method_cvdd = {.name = "cvdd", .family = "recovery", .title = "CV-DD (Cui et al., 2025)",
                                  .needs = RT_NEEDS_COMMITTEE, .stochastic = true,
                                  .construct = construct, .estimate = estimate};
