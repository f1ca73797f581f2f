/* Everything DM draws: by counter, or from the files that replace draws (set.init_images, set.network_weights,
 * set.batch_order), so that any single step can be compared with another framework. */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "methods/distill/dm.h"

const int64_t rt_dm_dsa_width[DM_DSA_INPUTS] = {3, 6, 4};
const char *const rt_dm_dsa_name[DM_DSA_INPUTS] = {"dsa_color", "dsa_affine", "dsa_box"};

/* A tensor with at least want[0] rows and exactly want[1..] behind; *out NULL when absent and not required. */
static rt_status find_shaped(const rt_st_file *f, const char *path, const char *name, bool required, rt_st_dtype dtype,
                             int rank, const int64_t *want, const rt_st_tensor **out)
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

rt_status rt_dm_open_draws(rt_dm *d)
{
    rt_status st = RT_OK;
    const rt_draw_files *f = &d->ctx->files;
    const rt_dm_params *p = &d->ctx->dm;
    if (f->network_weights && *f->network_weights) {
        RT_TRY(rt_st_open(f->network_weights, &d->weights));
        RT_TRY(find_shaped(d->weights, f->network_weights, "theta", true, RT_ST_F32, 2,
                           (int64_t[]){p->iterations, d->n_params}, &d->given_theta));
    }
    if (!f->batch_order || !*f->batch_order) goto out;
    RT_TRY(rt_st_open(f->batch_order, &d->order));
    RT_TRY(find_shaped(d->order, f->batch_order, "real", true, RT_ST_I64, 3,
                       (int64_t[]){p->iterations, d->classes, p->batch_real}, &d->given_real));
    const int64_t *v = d->given_real->data;
    for (int64_t i = 0, n = (int64_t)(d->given_real->bytes / sizeof *v); i < n; i++)
        if (v[i] < 0 || v[i] >= d->ctx->train->n) {
            st = RT_RAISE(RT_ERR_FORMAT, "%s: 'real'[%lld] = %lld, there are %lld training images", f->batch_order,
                          (long long)i, (long long)v[i], (long long)d->ctx->train->n);
            goto out;
        }
    for (int k = 0; k < DM_DSA_INPUTS; k++)
        RT_TRY(find_shaped(d->order, f->batch_order, rt_dm_dsa_name[k], false, RT_ST_F32, 3,
                           (int64_t[]){p->iterations, d->classes, rt_dm_dsa_width[k]}, &d->given_dsa[k]));
out:
    return st;
}

rt_status rt_dm_initial_images(rt_dm *d)
{
    rt_status st = RT_OK;
    const rt_build_ctx *ctx = d->ctx;
    rt_st_file *f = NULL;
    int64_t *idx = NULL;
    if (ctx->files.init_images && *ctx->files.init_images) {
        const rt_st_tensor *t = NULL;
        RT_TRY(rt_st_open(ctx->files.init_images, &f));
        RT_TRY(find_shaped(f, ctx->files.init_images, "images", true, RT_ST_F32, 4,
                           (int64_t[]){d->n, ctx->net.size, ctx->net.size, 3}, &t));
        if (t->shape[0] != d->n) {
            st = RT_RAISE(RT_ERR_FORMAT, "%s: %lld images, the set has %lld", ctx->files.init_images, (long long)t->shape[0],
                          (long long)d->n);
            goto out;
        }
        RT_TRY(rt_st_to_f32(t, d->images, d->n * d->px));
        for (int64_t i = 0; i < d->n * d->px; i++)
            if (!isfinite(d->images[i])) {
                st = RT_RAISE(RT_ERR_FORMAT, "%s: image %lld holds a value that is not finite", ctx->files.init_images,
                              (long long)(i / d->px));
                goto out;
            }
    } else if (ctx->dm.init_noise) {
        for (int64_t i = 0; i < d->n; i++) {
            rt_rng r = rt_rng_at(ctx->seed, RT_RNG_SELECT, (uint64_t)i, 1);
            for (int64_t j = 0; j < d->px; j++) d->images[i * d->px + j] = (float)rt_rng_normal(&r);
        }
    } else {
        RT_ALLOC(idx, (size_t)d->n * sizeof *idx, "initial images");
        RT_TRY(rt_draw_real(ctx->train, ctx->ipc, ctx->seed, idx));
        RT_TRY(rt_batch_fill(ctx->train, idx, d->n, &ctx->norm, NULL, 0, 0, ctx->threads, d->images));
    }
out:
    rt_free(idx);
    rt_st_close(f);
    return st;
}

rt_status rt_dm_new_network(rt_dm *d, int64_t it)
{
    rt_status st = RT_OK;
    const float *theta = d->theta_host;
    rt_model_init(d->model, d->ctx->seed, (uint64_t)it, d->theta_host, d->buffers_host);
    if (d->given_theta) theta = (const float *)d->given_theta->data + it * d->n_params;
    RT_TRY(rt_tensor_write(d->theta, theta, (size_t)d->n_params * sizeof *theta));
    if (d->buffers) RT_TRY(rt_tensor_write(d->buffers, d->buffers_host, (size_t)d->n_buffers * sizeof(float)));
out:
    return st;
}

/* batch_real distinct members of the class; with fewer members than that, all of them, repeated in order. */
void rt_dm_real_batch(rt_dm *d, int64_t it, int64_t c)
{
    int64_t b = d->ctx->dm.batch_real, n = d->start[c + 1] - d->start[c], *member = d->by_class + d->start[c];
    if (d->given_real) {
        memcpy(d->pick, (const int64_t *)d->given_real->data + (it * d->classes + c) * b, (size_t)b * sizeof *d->pick);
        return;
    }
    rt_rng r = rt_rng_at(d->ctx->seed, RT_RNG_REAL_BATCH, (uint64_t)it, (uint32_t)c);
    int64_t distinct = b < n ? b : n, *swap = d->pick + b; /* the head of a Fisher-Yates shuffle, undone afterwards */
    for (int64_t i = 0; i < distinct; i++) {
        int64_t j = i + (int64_t)rt_rng_below(&r, (uint32_t)(n - i)), t = member[i];
        member[i] = member[j];
        member[j] = t;
        swap[i] = j;
        d->pick[i] = member[i];
    }
    for (int64_t i = distinct - 1; i >= 0; i--) {
        int64_t t = member[i];
        member[i] = member[swap[i]];
        member[swap[i]] = t;
    }
    for (int64_t i = distinct; i < b; i++) d->pick[i] = d->pick[i % distinct];
}

void rt_dm_dsa(rt_dm *d, int64_t it, int64_t c, int64_t at, int64_t n)
{
    float one[DM_DSA_INPUTS][6];
    int32_t size = d->ctx->net.size;
    rt_dsa_draw(&d->dsa, 0, size, size, d->ctx->seed, (uint64_t)it, (uint32_t)c, NULL, 1, one[0], one[1], one[2]);
    for (int k = 0; k < DM_DSA_INPUTS; k++) {
        int64_t w = rt_dm_dsa_width[k];
        const float *src = one[k];
        if (d->given_dsa[k]) src = (const float *)d->given_dsa[k]->data + (it * d->classes + c) * w;
        for (int64_t i = 0; i < n; i++) memcpy(d->dsa_host[k] + (at + i) * w, src, (size_t)w * sizeof *src);
    }
}
