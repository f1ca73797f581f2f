/* Sets made of real images: what every coreset ends in, and what distillation starts from. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "methods/coreset/coreset.h"
#include "methods/method.h"

rt_status rt_draw_real(const rt_images *train, int32_t ipc, uint64_t seed, int64_t *idx)
{
    rt_status st = RT_OK;
    int64_t *by_class = NULL, *start = NULL;
    RT_TRY(rt_images_by_class(train, &by_class, &start));
    for (int32_t c = 0; c < train->classes.n; c++) {
        int64_t n = start[c + 1] - start[c];
        if (n < ipc) {
            st = RT_RAISE(RT_ERR_CONFIG, "class %d (%s) has %lld training images, %d per class are asked for", c,
                          train->classes.name[c], (long long)n, ipc);
            if (n) rt_error_fix(st, "set set.ipc to at most %lld", (long long)n);
            else rt_error_fix(st, "add images of that class, or take it off the class list");
            goto out;
        }
        int64_t *picked = idx + (int64_t)c * ipc;
        RT_TRY(rt_select_random(NULL, n, 0, ipc, &(rt_select_opts){.seed = seed, .cls = (uint64_t)c}, picked, NULL));
        for (int32_t i = 0; i < ipc; i++) picked[i] = by_class[start[c] + picked[i]];
    }
out:
    rt_free(by_class);
    rt_free(start);
    return st;
}

rt_status rt_set_space_of(const rt_build_ctx *ctx, rt_set *s)
{
    rt_status st = RT_OK;
    const rt_zca *z = ctx->train->white ? ctx->train->zca : NULL;
    s->norm = ctx->norm;
    if (!z) return RT_OK;
    RT_ALLOC(s->rgb, (size_t)(s->n * z->d), "8-bit images");
    RT_TRY(rt_zca_rgb(z, s->px, s->n, ctx->threads, s->rgb));
    memcpy(s->zca, z->hash, sizeof s->zca);
out:
    return st;
}

rt_status rt_set_from_real(const rt_build_ctx *ctx, const int64_t *idx, const double *score, const char *method, rt_set *out)
{
    rt_status st = RT_OK;
    const rt_images *tr = ctx->train;
    rt_set s = {.n = (int64_t)ctx->ipc * tr->classes.n, .h = tr->h, .w = tr->w, .ipc = ctx->ipc};
    size_t n = (size_t)s.n, px = (size_t)s.h * (size_t)s.w * 3;
    snprintf(s.method, sizeof s.method, "%s", method);
    RT_ALLOC(s.px, n * px * sizeof *s.px, "pixels of the set");
    RT_ALLOC(s.label, n * sizeof *s.label, "labels of the set");
    RT_ALLOC(s.key, n * sizeof *s.key, "keys of the set");
    if (score) {
        RT_ALLOC(s.score, n * sizeof *s.score, "scores of the set");
        memcpy(s.score, score, n * sizeof *s.score);
    }
    RT_TRY(rt_classes_copy(&tr->classes, &s.classes));
    RT_TRY(rt_batch_fill(tr, idx, s.n, &ctx->norm, NULL, 0, 0, ctx->threads, s.px));
    RT_TRY(rt_set_space_of(ctx, &s));
    for (size_t i = 0; i < n; i++) {
        s.label[i] = tr->label[idx[i]];
        if (!(s.key[i] = rt_strdup(tr->key[idx[i]]))) {
            st = RT_RAISE(RT_ERR_NOMEM, "keys of the set");
            goto out;
        }
    }
    *out = s;
    memset(&s, 0, sizeof s);
out:
    rt_set_fini(&s);
    return st;
}
