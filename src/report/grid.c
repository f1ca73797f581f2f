/* Image grids: one row per class, one column per image, enlarged without smoothing so that every pixel can be seen. Whitened
 * pixels are no colours: such a set is shown by its 8-bit images. */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "report/report.h"

enum { MAX_SIDE_PX = 16384, GAP_GREY = 0x90 };

/* Affine map from the values shown to 0..255, per channel: v * gain + offset. */
typedef struct tone {
    double gain[3], offset[3];
} tone;

static double value_at(const rt_set *s, int64_t i) { return s->rgb ? (double)s->rgb[i] : (double)s->px[i]; }

static tone tone_stored(const rt_set *s)
{
    tone t;
    for (int c = 0; c < 3; c++) {
        t.gain[c] = s->rgb ? 1.0 : s->unit ? 255.0 : 255.0 * (double)s->norm.std[c];
        t.offset[c] = s->rgb || s->unit ? 0.0 : 255.0 * (double)s->norm.mean[c];
    }
    return t;
}

static tone tone_sd(const rt_set *s)
{
    double sum = 0, sum2 = 0;
    int64_t count = s->n * s->h * s->w * 3;
    for (int64_t i = 0; i < count; i++) sum += value_at(s, i);
    double mean = sum / (double)count;
    for (int64_t i = 0; i < count; i++) sum2 += (value_at(s, i) - mean) * (value_at(s, i) - mean);
    double sd = sqrt(sum2 / (double)count);
    double gain = sd > 0 ? 255.0 / (5.0 * sd) : 0;
    tone t;
    for (int c = 0; c < 3; c++) {
        t.gain[c] = gain;
        t.offset[c] = 127.5 - gain * mean;
    }
    return t;
}

static uint8_t to_byte(double v)
{
    return v > 0 ? v < 255 ? (uint8_t)(v + 0.5) : 255 : 0; /* NaN is black */
}

static void draw_image(const rt_set *s, int64_t index, const tone *t, int32_t zoom, uint8_t *out, int64_t stride)
{
    for (int32_t y = 0; y < s->h * zoom; y++) {
        uint8_t *o = out + y * stride;
        int64_t line = (index * s->h + y / zoom) * s->w * 3;
        for (int32_t x = 0; x < s->w * zoom; x++)
            for (int c = 0; c < 3; c++) *o++ = to_byte(value_at(s, line + (x / zoom) * 3 + c) * t->gain[c] + t->offset[c]);
    }
}

rt_status rt_grid_png(const rt_set *s, const rt_grid_opts *o, void **png, size_t *bytes)
{
    rt_status st = RT_OK;
    uint8_t *canvas = NULL;
    int64_t *next = NULL;
    int32_t zoom = o->zoom > 0 ? o->zoom : 1, gap = o->gap > 0 ? o->gap : 0;
    int32_t rows = o->max_classes > 0 && o->max_classes < s->classes.n ? o->max_classes : s->classes.n;
    int32_t cols = o->max_ipc > 0 && o->max_ipc < s->ipc ? o->max_ipc : s->ipc;

    if (s->n < 1 || rows < 1 || cols < 1) return RT_RAISE(RT_ERR_FORMAT, "the set has no images to show");
    int64_t cell_w = (int64_t)s->w * zoom + gap, cell_h = (int64_t)s->h * zoom + gap;
    int64_t w = cols * cell_w + gap, h = rows * cell_h + gap;
    if (w > MAX_SIDE_PX || h > MAX_SIDE_PX) {
        st = RT_RAISE(RT_ERR_FORMAT, "a grid of %lld x %lld pixels, at most %d a side", (long long)w, (long long)h,
                      MAX_SIDE_PX);
        return rt_error_fix(st, "show fewer classes or images, or a smaller zoom");
    }
    RT_ALLOC(canvas, (size_t)(w * h * 3), "image grid");
    RT_ALLOC(next, (size_t)s->classes.n * sizeof *next, "image grid");
    memset(canvas, GAP_GREY, (size_t)(w * h * 3));
    const tone t = o->scale == RT_GRID_SD ? tone_sd(s) : tone_stored(s);

    for (int64_t i = 0; i < s->n; i++) {
        int32_t label = s->label[i];
        if (label < 0 || label >= s->classes.n) {
            st =
                RT_RAISE(RT_ERR_FORMAT, "image %lld has the label %d of %d classes", (long long)i, label, s->classes.n);
            goto out;
        }
        int64_t col = next[label]++, row = -1;
        for (int32_t r = 0; r < rows && row < 0;
             r++) { /* row r shows class r (n-1)/(rows-1): first and last included */
            int64_t shown = rows == 1 ? 0 : (int64_t)r * (s->classes.n - 1) / (rows - 1);
            if (shown == label) row = r;
        }
        if (row < 0 || col >= cols) continue;
        draw_image(s, i, &t, zoom, canvas + ((gap + row * cell_h) * w + gap + col * cell_w) * 3, w * 3);
    }
    RT_TRY(rt_png_encode(canvas, (int32_t)h, (int32_t)w, png, bytes));
out:
    rt_free(canvas);
    rt_free(next);
    return st;
}
