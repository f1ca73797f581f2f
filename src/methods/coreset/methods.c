/* The coreset methods: one loop over classes around the pure selectors of coreset.h. */
#include "methods/coreset/coreset.h"

#include <string.h>

#include "base/alloc.h"
#include "methods/method.h"

/* Selects ctx->ipc members of every class and turns them into a set. select is NULL for a selection by EL2N. */
static rt_status select_per_class(const rt_build_ctx *ctx, rt_select_fn *select, const rt_select_opts *base, bool use_features,
                                  const char *name, rt_set *out)
{
    rt_status st = RT_OK;
    const rt_images *tr = ctx->train;
    int64_t *by_class = NULL, *start = NULL, *idx = NULL, *picked = NULL, most = 0, dim = use_features ? ctx->feature_dim : 0;
    double *score = NULL, *value = NULL;
    float *rows = NULL;
    size_t n = (size_t)(ctx->ipc * (int64_t)tr->classes.n);
    RT_TRY(rt_images_by_class(tr, &by_class, &start));
    for (int32_t c = 0; c < tr->classes.n; c++) {
        int64_t size = start[c + 1] - start[c];
        if (size > most) most = size;
        if (size < ctx->ipc) {
            st = RT_RAISE(RT_ERR_CONFIG, "class %d (%s) has %lld training images, %d per class are asked for", c,
                          tr->classes.name[c], (long long)size, ctx->ipc);
            if (size) rt_error_fix(st, "set set.ipc to at most %lld", (long long)size);
            else rt_error_fix(st, "add images of that class, or take it off the class list");
            goto out;
        }
    }
    RT_ALLOC(idx, n * sizeof *idx, "selection");
    RT_ALLOC(score, n * sizeof *score, "selection");
    RT_ALLOC(picked, (size_t)ctx->ipc * sizeof *picked, "selection");
    RT_ALLOC(value, (size_t)most * sizeof *value, "scores of a class");
    RT_ALLOC(rows, (size_t)(most * dim) * sizeof *rows, "features of a class");
    for (int32_t c = 0; c < tr->classes.n; c++) {
        int64_t size = start[c + 1] - start[c], at = (int64_t)c * ctx->ipc;
        const int64_t *member = by_class + start[c];
        for (int64_t i = 0; i < size; i++) {
            if (dim) memcpy(rows + i * dim, ctx->features + member[i] * dim, (size_t)dim * sizeof *rows);
            if (!select) value[i] = ctx->el2n[member[i]];
        }
        rt_select_opts o = *base;
        o.seed = ctx->seed;
        o.cls = (uint64_t)c;
        if (select) RT_TRYF(select(dim ? rows : NULL, size, dim, ctx->ipc, &o, picked, score + at), "class %s", tr->classes.name[c]);
        else RT_TRYF(rt_select_score(value, size, ctx->ipc, picked, score + at), "class %s", tr->classes.name[c]);
        for (int64_t i = 0; i < ctx->ipc; i++) idx[at + i] = member[picked[i]];
    }
    RT_TRY(rt_set_from_real(ctx, idx, score, name, out));
out:
    rt_free(by_class);
    rt_free(start);
    rt_free(idx);
    rt_free(picked);
    rt_free(score);
    rt_free(value);
    rt_free(rows);
    return st;
}

static rt_status construct_random(const rt_build_ctx *ctx, rt_set *out)
{
    return select_per_class(ctx, rt_select_random, &(rt_select_opts){0}, false, "random", out);
}

static rt_status construct_herding(const rt_build_ctx *ctx, rt_set *out)
{
    return select_per_class(ctx, rt_select_herding, &(rt_select_opts){.raw = !ctx->config->coreset.normalise}, true, "herding", out);
}

static rt_status construct_kcenter(const rt_build_ctx *ctx, rt_set *out)
{
    bool random = !strcmp(ctx->config->coreset.kcenter_start, "random");
    rt_select_opts o = {.raw = !ctx->config->coreset.normalise,
                        .start = random ? RT_KCENTER_RANDOM : RT_KCENTER_MEDOID};
    return select_per_class(ctx, rt_select_kcenter, &o, true, "kcenter", out);
}

static rt_status construct_el2n(const rt_build_ctx *ctx, rt_set *out)
{
    return select_per_class(ctx, NULL, &(rt_select_opts){0}, false, "el2n", out);
}

const rt_method rt_method_random = {.name = "random", .family = "coreset", .title = "class-balanced random",
                                    .stochastic = true, .construct = construct_random};
const rt_method rt_method_herding = {.name = "herding", .family = "coreset", .title = "herding (Welling, ICML 2009)",
                                     .needs = RT_NEEDS_FEATURES, .construct = construct_herding};
const rt_method rt_method_kcenter = {.name = "kcenter", .family = "coreset",
                                     .title = "k-center greedy (Sener & Savarese, ICLR 2018)",
                                     .needs = RT_NEEDS_FEATURES, .construct = construct_kcenter};
const rt_method rt_method_el2n = {.name = "el2n", .family = "coreset", .title = "EL2N, largest first (Paul et al., NeurIPS 2021)",
                                  .needs = RT_NEEDS_EL2N, .construct = construct_el2n};
