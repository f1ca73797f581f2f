/* Batches from resident images: views, flip and normalisation in one pass from uint8 to float. Each place in the batch
 * is independent of the others, so the bytes do not depend on the thread count. */
#include "base/alloc.h"
#include "base/rng.h"
#include "data/internal.h"
#include "data/zca.h"

rt_status rt_normalise_table(const rt_normalise *nm, float table[256][3])
{
    for (int c = 0; nm && c < 3; c++)
        if (!(nm->std[c] > 0)) return RT_RAISE(RT_ERR_ARG, "normalise: std %g of channel %d", (double)nm->std[c], c);
    for (int v = 0; v < 256; v++)
        for (int c = 0; c < 3; c++) { /* in float, in the order of torchvision's ToTensor and Normalize */
            float x = (float)v / 255.0f;
            table[v][c] = nm ? (x - nm->mean[c]) / nm->std[c] : x;
        }
    return RT_OK;
}

void rt_normalise_row(float (*table)[3], const uint8_t *px, int32_t w, bool flip, float *out)
{
    for (int32_t x = 0; x < w; x++) {
        const uint8_t *p = px + 3 * (flip ? w - 1 - x : x);
        out[3 * x] = table[p[0]][0];
        out[3 * x + 1] = table[p[1]][1];
        out[3 * x + 2] = table[p[2]][2];
    }
}

/* The box of a whitened image, which is a shift at most; outside of the image is 0. */
static void fill_white(const float *px, int32_t h, int32_t w, const rt_view_box *b, float *out)
{
    for (int32_t y = 0; y < h; y++)
        for (int32_t x = 0; x < w; x++) {
            int32_t sy = y + b->y0, sx = (b->flip ? w - 1 - x : x) + b->x0;
            bool in = sy >= 0 && sy < h && sx >= 0 && sx < w;
            for (int c = 0; c < 3; c++) *out++ = in ? px[((size_t)sy * (size_t)w + (size_t)sx) * 3 + (size_t)c] : 0.0f;
        }
}

static rt_status fill_one(const rt_images *im, int64_t i, const rt_view *view, uint64_t seed, uint64_t step,
                          uint32_t place, float (*table)[3], uint8_t *scratch, float *out)
{
    int32_t h = im->h, w = im->w;
    size_t row = (size_t)w * 3;
    const uint8_t *px = im->px + (size_t)i * (size_t)h * row;
    rt_view_box b = {.w = w, .h = h};
    if (view) {
        rt_status st = rt_view_draw(view, h, w, seed, step, place, &b);
        if (st != RT_OK) return st;
    }
    if (im->white && !(view && view->rrc)) {
        fill_white(im->white + (size_t)i * (size_t)h * row, h, w, &b, out);
        return RT_OK;
    }
    if (b.roll_y || b.roll_x) {
        rt_pixels_roll(px, h, w, b.roll_y, b.roll_x, scratch + (size_t)h * row);
        px = scratch + (size_t)h * row;
    }
    if (view && view->rrc) {
        rt_span box = {0, 0, b.w, b.h};
        const uint8_t *from = px + (size_t)b.y0 * row + (size_t)b.x0 * 3;
        rt_status st = rt_resize_window(from, row, b.h, b.w, &box, h, w, RT_BILINEAR, NULL, scratch);
        if (st != RT_OK) return st;
        px = scratch;
    } else if (b.x0 || b.y0) { /* pad_crop */
        rt_pixels_shift(px, h, w, b.y0, b.x0, scratch);
        px = scratch;
    }
    for (int32_t y = 0; y < h; y++) rt_normalise_row(table, px + (size_t)y * row, w, b.flip, out + (size_t)y * row);
    return RT_OK;
}

rt_status rt_batch_fill(const rt_images *im, const int64_t *idx, int64_t batch, const rt_normalise *nm,
                        const rt_view *view, uint64_t seed, uint64_t step, int threads, float *out)
{
    rt_status st = RT_OK;
    float table[256][3];
    uint8_t *scratch = NULL;
    rt_error_chain failed = {0};
    size_t size = (size_t)im->h * (size_t)im->w * 3;
    if (threads < 1) threads = 1;
    RT_TRY(rt_normalise_table(im->white ? NULL : nm, table));
    if (view) RT_TRY(rt_view_check(view));
    for (int64_t b = 0; b < batch; b++)
        if (idx[b] < 0 || idx[b] >= im->n)
            return RT_RAISE(RT_ERR_ARG, "batch place %lld: image %lld of %lld", (long long)b, (long long)idx[b],
                            (long long)im->n);
    const size_t room = view && view->shuffle ? 2 * size : size;
    if (view && !(scratch = rt_malloc(room * (size_t)threads)))
        return RT_RAISE(RT_ERR_NOMEM, "no memory for views (%zu bytes)", room * (size_t)threads);
        /* One contiguous run of places per thread: each writes its own part of out and uses its own scratch. */
#pragma omp parallel for num_threads(threads) schedule(static, 1) if (threads > 1)
    for (int t = 0; t < threads; t++) {
        int64_t lo = batch * t / threads, hi = batch * (t + 1) / threads;
        for (int64_t b = lo; b < hi; b++)
            if (fill_one(im, idx[b], view, seed, step, (uint32_t)b, table, scratch + (view ? room * (size_t)t : 0),
                         out + (size_t)b * size) != RT_OK) {
#pragma omp critical(rt_batch_error)
                rt_error_save(&failed);
                break;
            }
    }
    if (failed.status != RT_OK) st = rt_error_restore(&failed);
    else if (im->white && view && view->rrc) st = rt_zca_whiten(im->zca, batch, threads, out);
out:
    rt_free(scratch);
    return st;
}
