/* Everything the distillation methods draw: by counter, or from the files that replace draws (set.init_images,
 * set.network_weights, set.batch_order), so that any single step can be compared with another framework. */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "methods/distill/distill.h"

const int64_t rt_dsa_width[RT_DSA_INPUTS] = {3, 6, 4};
const char *const rt_dsa_name[RT_DSA_INPUTS] = {"dsa_color", "dsa_affine", "dsa_box"};

rt_status rt_draws_find(const rt_st_file *f, const char *path, const char *name, bool required, rt_st_dtype dtype, int rank,
                        const int64_t *want, const rt_st_tensor **out)
{
    const rt_st_tensor *t = rt_st_find(f, name);
    if (!t && required) return RT_RAISE(RT_ERR_FORMAT, "%s: no tensor '%s'", path, name);
    bool ok = !t || (t->dtype == dtype && t->rank == rank && t->shape[0] >= want[0]);
    for (int i = 1; t && ok && i < rank; i++) ok = t->shape[i] == want[i];
    if (!ok)
        return RT_RAISE(RT_ERR_FORMAT, "%s: '%s' must be %s with rank %d, at least %lld rows, then %lld, ...", path, name,
                        dtype == RT_ST_F32 ? "F32" : "I64", rank, (long long)want[0], (long long)want[rank > 1]);
    *out = t;
    return RT_OK;
}

static rt_status open_order(rt_draws *d, const char *path)
{
    rt_status st = RT_OK;
    int64_t classes = d->ctx->train->classes.n;
    RT_TRY(rt_st_open(path, &d->order));
    RT_TRY(rt_draws_find(d->order, path, "real", d->batch_real > 0, RT_ST_I64, 3,
                       (int64_t[]){d->iterations, classes, d->batch_real}, &d->given_real));
    const int64_t *v = d->given_real ? d->given_real->data : NULL;
    for (int64_t i = 0, n = v ? (int64_t)(d->given_real->bytes / sizeof *v) : 0; i < n; i++)
        if (v[i] < 0 || v[i] >= d->ctx->train->n) {
            st = RT_RAISE(RT_ERR_FORMAT, "%s: 'real'[%lld] = %lld, there are %lld training images", path, (long long)i,
                          (long long)v[i], (long long)d->ctx->train->n);
            goto out;
        }
    for (int k = 0; k < RT_DSA_INPUTS; k++)
        RT_TRY(rt_draws_find(d->order, path, rt_dsa_name[k], false, RT_ST_F32, 3,
                           (int64_t[]){d->iterations, classes, rt_dsa_width[k]}, &d->given_dsa[k]));
out:
    return st;
}

rt_status rt_draws_open(const rt_build_ctx *ctx, int64_t iterations, int64_t batch_real, int64_t n_params, rt_draws *out)
{
    rt_status st = RT_OK;
    const rt_draw_files *f = &ctx->files;
    const rt_images *tr = ctx->train;
    rt_draws d = {.ctx = ctx, .iterations = iterations, .batch_real = batch_real, .n_params = n_params};
    RT_ALLOC(d.scratch, (size_t)batch_real * sizeof *d.scratch, "real batch");
    RT_TRY(rt_images_by_class(tr, &d.by_class, &d.start));
    for (int32_t c = 0; c < tr->classes.n; c++)
        if (d.start[c + 1] == d.start[c]) {
            st = RT_RAISE(RT_ERR_FORMAT, "class %d (%s) has no training image", c, tr->classes.name[c]);
            rt_error_fix(st, "add images of that class, or take it off the class list");
            goto out;
        }
    if (f->network_weights && *f->network_weights) {
        RT_TRY(rt_st_open(f->network_weights, &d.weights));
        RT_TRY(rt_draws_find(d.weights, f->network_weights, "theta", true, RT_ST_F32, 2, (int64_t[]){iterations, n_params},
                           &d.given_theta));
    }
    if (f->batch_order && *f->batch_order) RT_TRY(open_order(&d, f->batch_order));
    *out = d;
    memset(&d, 0, sizeof d);
out:
    rt_draws_close(&d);
    return st;
}

void rt_draws_close(rt_draws *d)
{
    rt_free(d->by_class);
    rt_free(d->start);
    rt_free(d->scratch);
    rt_st_close(d->weights);
    rt_st_close(d->order);
    memset(d, 0, sizeof *d);
}

static rt_status read_initial(const rt_draws *d, const char *path, float *images)
{
    rt_status st = RT_OK;
    rt_st_file *f = NULL;
    const rt_st_tensor *t = NULL;
    int64_t n = (int64_t)d->ctx->train->classes.n * d->ctx->ipc, size = d->ctx->net.size, px = size * size * 3;
    RT_TRY(rt_st_open(path, &f));
    RT_TRY(rt_draws_find(f, path, "images", true, RT_ST_F32, 4, (int64_t[]){n, size, size, 3}, &t));
    if (t->shape[0] != n) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: %lld images, the set has %lld", path, (long long)t->shape[0], (long long)n);
        goto out;
    }
    RT_TRY(rt_st_to_f32(t, images, n * px));
    for (int64_t i = 0; i < n * px; i++)
        if (!isfinite(images[i])) {
            st = RT_RAISE(RT_ERR_FORMAT, "%s: image %lld holds a value that is not finite", path, (long long)(i / px));
            goto out;
        }
out:
    rt_st_close(f);
    return st;
}

rt_status rt_draws_initial(const rt_draws *d, bool noise, float *images, int64_t *source)
{
    rt_status st = RT_OK;
    const rt_build_ctx *ctx = d->ctx;
    int64_t *idx = NULL, n = (int64_t)ctx->train->classes.n * ctx->ipc, px = (int64_t)ctx->net.size * ctx->net.size * 3;
    bool given = ctx->files.init_images && *ctx->files.init_images;
    if (given) {
        RT_TRY(read_initial(d, ctx->files.init_images, images));
    } else if (noise) {
        for (int64_t i = 0; i < n; i++) {
            rt_rng r = rt_rng_at(ctx->seed, RT_RNG_SELECT, (uint64_t)i, 1);
            for (int64_t j = 0; j < px; j++) images[i * px + j] = (float)rt_rng_normal(&r);
        }
    } else {
        RT_ALLOC(idx, (size_t)n * sizeof *idx, "initial images");
        RT_TRY(rt_draw_real(ctx->train, ctx->ipc, ctx->seed, idx));
        RT_TRY(rt_batch_fill(ctx->train, idx, n, &ctx->norm, NULL, 0, 0, ctx->threads, images));
    }
    for (int64_t i = 0; source && i < n; i++) source[i] = idx ? idx[i] : -1;
out:
    rt_free(idx);
    return st;
}

void rt_draws_network(const rt_draws *d, const rt_model *m, int64_t it, float *theta, float *buffers)
{
    rt_model_init(m, d->ctx->seed, (uint64_t)it, theta, buffers);
    if (d->given_theta)
        memcpy(theta, (const float *)d->given_theta->data + it * d->n_params, (size_t)d->n_params * sizeof *theta);
}

void rt_draws_real(const rt_draws *d, int64_t it, int64_t c, int64_t *pick)
{
    int64_t b = d->batch_real, n = d->start[c + 1] - d->start[c], *member = d->by_class + d->start[c], *swap = d->scratch;
    if (d->given_real) {
        const int64_t *given = d->given_real->data;
        memcpy(pick, given + (it * d->ctx->train->classes.n + c) * b, (size_t)b * sizeof *pick);
        return;
    }
    rt_rng r = rt_rng_at(d->ctx->seed, RT_RNG_REAL_BATCH, (uint64_t)it, (uint32_t)c);
    int64_t distinct = b < n ? b : n; /* the head of a Fisher-Yates shuffle, undone afterwards */
    for (int64_t i = 0; i < distinct; i++) {
        int64_t j = i + (int64_t)rt_rng_below(&r, (uint32_t)(n - i)), t = member[i];
        member[i] = member[j];
        member[j] = t;
        swap[i] = j;
        pick[i] = member[i];
    }
    for (int64_t i = distinct - 1; i >= 0; i--) {
        int64_t t = member[i];
        member[i] = member[swap[i]];
        member[swap[i]] = t;
    }
    for (int64_t i = distinct; i < b; i++) pick[i] = pick[i % distinct];
}

void rt_draws_dsa(const rt_draws *d, const rt_dsa *dsa, int64_t it, int64_t c, int64_t at, int64_t n, float *const host[RT_DSA_INPUTS])
{
    float one[RT_DSA_INPUTS][6];
    int32_t size = d->ctx->net.size;
    rt_dsa_draw(dsa, 0, size, size, d->ctx->seed, (uint64_t)it, (uint32_t)c, NULL, 1, one[0], one[1], one[2]);
    for (int k = 0; k < RT_DSA_INPUTS; k++) {
        int64_t w = rt_dsa_width[k];
        const float *src = one[k];
        if (d->given_dsa[k]) src = (const float *)d->given_dsa[k]->data + (it * d->ctx->train->classes.n + c) * w;
        for (int64_t i = 0; i < n; i++) memcpy(host[k] + (at + i) * w, src, (size_t)w * sizeof *src);
    }
}
