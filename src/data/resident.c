/* Images that live where the arithmetic runs. The draws are made here, by the same function as on the CPU; what travels per batch is the
 * plan, 56 bytes an image, instead of its pixels. */
#include <string.h>

#include "backend/backend.h"
#include "base/alloc.h"
#include "data/internal.h"

struct rt_resident {
    rt_backend *be;
    const rt_images *im;
    uint8_t *px;         /* backend's memory; NULL: batches are made on the host */
    float *table;        /* [256,3] there */
    rt_pixel_view *plan; /* there, for `room` places */
    rt_pixel_view *host_plan;
    float *host;         /* host batches, for `room` places */
    int64_t room, drawn; /* drawn: places of host_plan */
    float shown[256][3]; /* the table as last uploaded */
    bool has_table;
};

void rt_resident_close(rt_resident *r)
{
    if (!r) return;
    r->be->vt->free(r->be, r->px);
    r->be->vt->free(r->be, r->table);
    r->be->vt->free(r->be, r->plan);
    rt_free(r->host_plan);
    rt_free(r->host);
    rt_free(r);
}

rt_status rt_resident_open(rt_backend *be, const rt_images *im, rt_resident **out)
{
    rt_status st = RT_OK;
    rt_resident *r = NULL;
    const size_t bytes = (size_t)im->n * (size_t)im->h * (size_t)im->w * 3;
    RT_ALLOC(r, sizeof *r, "resident images");
    r->be = be;
    r->im = im;
    if (be->vt->views && !im->white) {
        RT_TRYF(be->vt->alloc(be, bytes, (void **)&r->px), "%lld images of %d x %d", (long long)im->n, im->h, im->w);
        RT_TRY(be->vt->upload(be, r->px, im->px, bytes));
        RT_TRY(be->vt->alloc(be, sizeof r->shown, (void **)&r->table));
    }
    *out = r;
    r = NULL;
out:
    rt_resident_close(r);
    return st;
}

/* Room for a batch where it is made. */
static rt_status reserve(rt_resident *r, int64_t batch)
{
    rt_status st = RT_OK;
    if (batch <= r->room) return RT_OK;
    r->room = 0;
    rt_free(r->host);
    r->host = NULL;
    r->be->vt->free(r->be, r->plan);
    r->plan = NULL;
    if (r->px) RT_TRY(r->be->vt->alloc(r->be, (size_t)batch * sizeof *r->plan, (void **)&r->plan));
    else RT_ALLOC(r->host, 2 * (size_t)batch * (size_t)r->im->h * (size_t)r->im->w * 3 * sizeof *r->host, "batch");
    r->room = batch;
out:
    return st;
}

static rt_status check_target(const rt_resident *r, int64_t batch, const rt_tensor *x)
{
    const rt_shape want = RT_SHAPE(RT_F32, batch, r->im->h, r->im->w, 3);
    if (x->be == r->be && rt_shape_eq(&want, rt_tensor_shape(x))) return RT_OK;
    return RT_RAISE(RT_ERR_ARG, "resident batch: the tensor is not [%lld,%d,%d,3] of the images' backend", (long long)batch, r->im->h,
                    r->im->w);
}

static rt_status check_places(const rt_resident *r, const int64_t *idx, int64_t batch, const int64_t *partner)
{
    for (int64_t b = 0; b < batch; b++) {
        if (idx[b] < 0 || idx[b] >= r->im->n)
            return RT_RAISE(RT_ERR_ARG, "batch place %lld: image %lld of %lld", (long long)b, (long long)idx[b], (long long)r->im->n);
        if (partner && (partner[b] < 0 || partner[b] >= batch))
            return RT_RAISE(RT_ERR_ARG, "batch place %lld: partner %lld of %lld", (long long)b, (long long)partner[b], (long long)batch);
    }
    return RT_OK;
}

static rt_status fill_host(rt_resident *r, const int64_t *idx, int64_t batch, const rt_normalise *nm, const rt_view *view, uint64_t seed,
                           uint64_t step, const int64_t *partner, const int32_t *cut, int threads, rt_tensor *x)
{
    rt_status st = RT_OK;
    const size_t row = (size_t)r->im->w * 3, size = (size_t)r->im->h * row;
    float *plain = r->host, *mixed = r->host + (size_t)batch * size;
    RT_TRY(rt_batch_fill(r->im, idx, batch, nm, view, seed, step, threads, plain));
    if (partner) {
        const int32_t y0 = cut[0] > 0 ? cut[0] : 0, y1 = cut[1] < r->im->h ? cut[1] : r->im->h;
        const int32_t x0 = cut[2] > 0 ? cut[2] : 0, x1 = cut[3] < r->im->w ? cut[3] : r->im->w;
        memcpy(mixed, plain, (size_t)batch * size * sizeof *plain);
        for (int64_t b = 0; b < batch; b++)
            for (int32_t y = y0; y < y1 && x0 < x1; y++) {
                const size_t at = (size_t)y * row + (size_t)x0 * 3;
                memcpy(mixed + (size_t)b * size + at, plain + (size_t)partner[b] * size + at, (size_t)(x1 - x0) * 3 * sizeof *plain);
            }
        plain = mixed;
    }
    RT_TRY(rt_tensor_write(x, plain, (size_t)batch * size * sizeof *plain));
out:
    return st;
}

bool rt_resident_fits(rt_backend *be, const rt_images *im)
{
    const size_t bytes = (size_t)im->n * (size_t)im->h * (size_t)im->w * 3;
    if (!be->vt->views || !be->vt->free_bytes || im->white) return false;
    return bytes <= be->vt->free_bytes(be) / 2;
}

rt_status rt_resident_draw(rt_resident *r, int64_t first, const int64_t *idx, int64_t n, const rt_view *view, uint64_t seed, uint64_t step,
                           const int64_t *partner, const int32_t *cut)
{
    rt_status st = RT_OK;
    const int32_t h = r->im->h, w = r->im->w;
    RT_TRY(check_places(r, idx, n, partner));
    if (first + n > r->drawn) {
        const size_t old = (size_t)r->drawn * sizeof *r->host_plan, bytes = (size_t)(first + n) * sizeof *r->host_plan;
        rt_pixel_view *more = rt_realloc(r->host_plan, old, bytes);
        if (!more) return RT_RAISE(RT_ERR_NOMEM, "no memory for plan of a batch (%zu bytes)", bytes);
        r->host_plan = more;
        r->drawn = first + n;
    }
    for (int64_t b = 0; b < n; b++) {
        rt_view_box box = {.w = w, .h = h};
        if (view) RT_TRY(rt_view_draw(view, h, w, seed, step, (uint32_t)b, &box));
        rt_pixel_view v = {.image = idx[b], .y0 = box.y0, .x0 = box.x0, .h = box.h, .w = box.w, .roll_y = box.roll_y,
                           .roll_x = box.roll_x, .flip = box.flip, .partner = -1};
        if (partner) {
            v.partner = (int32_t)(first + partner[b]);
            memcpy(v.cut, cut, sizeof v.cut);
        }
        r->host_plan[first + b] = v;
    }
out:
    return st;
}

rt_status rt_resident_make(rt_resident *r, const rt_normalise *nm, bool resize, rt_tensor *x)
{
    rt_status st = RT_OK;
    float table[256][3];
    const int64_t batch = rt_tensor_shape(x)->d[0];
    RT_TRY(check_target(r, batch, x));
    if (!r->px || batch > r->drawn)
        return RT_RAISE(RT_ERR_ARG, "resident batch of %lld places: %lld are drawn", (long long)batch, (long long)r->drawn);
    RT_TRY(reserve(r, batch));
    RT_TRY(rt_normalise_table(nm, table));
    if (!r->has_table || memcmp(table, r->shown, sizeof table) != 0) {
        RT_TRY(r->be->vt->upload(r->be, r->table, table, sizeof table));
        memcpy(r->shown, table, sizeof table);
        r->has_table = true;
    }
    RT_TRY(r->be->vt->upload(r->be, r->plan, r->host_plan, (size_t)batch * sizeof *r->plan));
    RT_TRY(r->be->vt->views(r->be, r->px, r->plan, r->table, batch, r->im->h, r->im->w, resize, x->data));
out:
    return st;
}

rt_status rt_resident_fill(rt_resident *r, const int64_t *idx, int64_t batch, const rt_normalise *nm, const rt_view *view, uint64_t seed,
                           uint64_t step, const int64_t *partner, const int32_t *cut, int threads, rt_tensor *x)
{
    rt_status st = RT_OK;
    RT_TRY(check_target(r, batch, x));
    if (r->px) {
        RT_TRY(rt_resident_draw(r, 0, idx, batch, view, seed, step, partner, cut));
        RT_TRY(rt_resident_make(r, nm, view && view->rrc, x));
    } else {
        RT_TRY(check_places(r, idx, batch, partner));
        RT_TRY(reserve(r, batch));
        RT_TRY(fill_host(r, idx, batch, nm, view, seed, step, partner, cut, threads, x));
    }
out:
    return st;
}
