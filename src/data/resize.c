/* Pillow's antialiased resize, bit for bit.
 *
 * For an output of n from a source span [a, a + b): scale = b / n, filter scale = max(scale, 1), support = (1 bilinear,
 * 2 bicubic with a = -0.5) * filter scale. Output x has centre a + (x + 0.5) * scale and takes source samples
 * int(c - s + 0.5) .. int(c + s + 0.5) - 1 clamped to the image; weights are normalised in double and rounded to 22
 * fraction bits; each pass is (sum + 2^21) >> 22 clipped to a byte. Horizontal pass first, then vertical, with the middle
 * image in bytes. A pass whose span already has the output size is skipped. (Pillow 13 runs the vertical pass first when the
 * height loses more than twice as many pixels as the width, which moves some bytes by one; every release before it, and so
 * every published weight and accuracy, has the order above.)
 *
 * Because every sum is exact integer arithmetic, any order and any vector width gives the same bytes. The horizontal pass
 * runs over the needed rows only, and only output pixels inside a window are computed (a centre crop costs what it shows).
 * Coefficients are split as k = high * 2^11 + low so that both halves fit 16 bits: products of byte pairs then add in 32
 * bits by one multiply-add instruction each. */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "data/internal.h"

enum { FRACTION = 32 - 8 - 2 };

typedef struct axis {
    int32_t n;     /* outputs */
    int32_t taps;  /* room per output */
    int32_t *first, *count; /* n each */
    int32_t *k;    /* n * taps, fixed point */
} axis;

static double bilinear(double x)
{
    if (x < 0.0) x = -x;
    return x < 1.0 ? 1.0 - x : 0.0;
}

static double bicubic(double x)
{
    const double a = -0.5;
    if (x < 0.0) x = -x;
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

static void axis_fini(axis *ax)
{
    rt_free(ax->first);
    rt_free(ax->k);
}

/* Coefficients of outputs [win0, win0 + win_n) of an axis of n_out over the span [a, a + b) of n_in samples. */
static rt_status axis_init(axis *ax, int32_t n_in, int32_t a, int32_t b, int32_t n_out, int32_t win0, int32_t win_n,
                           rt_filter f)
{
    rt_status st = RT_OK;
    double *w = NULL;
    double scale = (double)b / n_out, fscale = scale < 1.0 ? 1.0 : scale;
    double support = (f == RT_BICUBIC ? 2.0 : 1.0) * fscale, inv = 1.0 / fscale;
    ax->n = win_n;
    ax->taps = (int32_t)ceil(support) * 2 + 1;
    RT_ALLOC(ax->first, 2 * (size_t)win_n * sizeof *ax->first, "resize bounds");
    ax->count = ax->first + win_n;
    RT_ALLOC(ax->k, (size_t)win_n * (size_t)ax->taps * sizeof *ax->k, "resize coefficients");
    RT_ALLOC(w, (size_t)ax->taps * sizeof *w, "resize coefficients");
    for (int32_t i = 0; i < win_n; i++) {
        double centre = a + (win0 + i + 0.5) * scale, sum = 0.0;
        int32_t lo = (int32_t)(centre - support + 0.5), hi = (int32_t)(centre + support + 0.5);
        if (lo < 0) lo = 0;
        if (hi > n_in) hi = n_in;
        int32_t n = hi - lo, *k = ax->k + (size_t)i * (size_t)ax->taps;
        for (int32_t t = 0; t < n; t++) {
            double x = (t + lo - centre + 0.5) * inv;
            w[t] = f == RT_BICUBIC ? bicubic(x) : bilinear(x);
            sum += w[t];
        }
        for (int32_t t = 0; t < n; t++) {
            double v = sum != 0.0 ? w[t] / sum : w[t];
            k[t] = (int32_t)(v < 0 ? -0.5 + v * (1 << FRACTION) : 0.5 + v * (1 << FRACTION));
        }
        ax->first[i] = lo;
        ax->count[i] = n;
    }
out:
    rt_free(w);
    if (st != RT_OK) {
        axis_fini(ax);
        *ax = (axis){0};
    }
    return st;
}

static inline uint8_t clip8(int32_t v)
{
    v >>= FRACTION;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static void horizontal(const axis *ax, const uint8_t *src, size_t stride, int32_t rows, uint8_t *dst)
{
    for (int32_t y = 0; y < rows; y++, src += stride)
        for (int32_t x = 0; x < ax->n; x++) {
            const int32_t *k = ax->k + (size_t)x * (size_t)ax->taps;
            const uint8_t *p = src + (size_t)ax->first[x] * 3;
            int32_t r = 1 << (FRACTION - 1), g = r, b = r;
            for (int32_t t = 0; t < ax->count[x]; t++, p += 3) {
                r += p[0] * k[t];
                g += p[1] * k[t];
                b += p[2] * k[t];
            }
            *dst++ = clip8(r);
            *dst++ = clip8(g);
            *dst++ = clip8(b);
        }
}

/* Source row of output y's first tap is ax->first[y] - row0. acc: row_bytes sums. */
static void vertical(const axis *ax, int32_t row0, const uint8_t *src, size_t row_bytes, size_t stride, int32_t *acc,
                     uint8_t *dst)
{
    for (int32_t y = 0; y < ax->n; y++, dst += row_bytes) {
        const int32_t *k = ax->k + (size_t)y * (size_t)ax->taps;
        const uint8_t *p = src + (size_t)(ax->first[y] - row0) * stride;
        for (size_t i = 0; i < row_bytes; i++) acc[i] = 1 << (FRACTION - 1);
        for (int32_t t = 0; t < ax->count[y]; t++, p += stride) {
            int32_t kt = k[t];
            for (size_t i = 0; i < row_bytes; i++) acc[i] += p[i] * kt;
        }
        for (size_t i = 0; i < row_bytes; i++) dst[i] = clip8(acc[i]);
    }
}

static rt_status check(const rt_span *s, int32_t h_out, int32_t w_out, const rt_span *win)
{
    if (s->w < 1 || s->h < 1 || h_out < 1 || w_out < 1 || win->w < 1 || win->h < 1 || win->x0 < 0 || win->y0 < 0 ||
        win->x0 > w_out - win->w || win->y0 > h_out - win->h)
        return RT_RAISE(RT_ERR_ARG, "resize of a %d x %d box to %d x %d (height x width)", s->h, s->w, h_out, w_out);
    return RT_OK;
}

rt_status rt_resize_window(const uint8_t *px, size_t stride, int32_t h, int32_t w, const rt_span *box, int32_t h_out,
                           int32_t w_out, rt_filter f, const rt_span *window, uint8_t *out)
{
    rt_status st = RT_OK;
    axis ax = {0}, ay = {0};
    uint8_t *mid = NULL;
    int32_t *acc = NULL;
    rt_span whole = {0, 0, w_out, h_out}, win = window ? *window : whole;
    RT_TRY(check(box, h_out, w_out, &win));
    if (box->x0 < 0 || box->y0 < 0 || box->x0 > w - box->w || box->y0 > h - box->h) {
        st = RT_RAISE(RT_ERR_ARG, "box of %d x %d at (%d, %d) leaves an image of %d x %d", box->h, box->w, box->y0, box->x0,
                      h, w);
        goto out;
    }
    bool need_h = box->w != w_out, need_v = box->h != h_out;
    size_t row = (size_t)win.w * 3;
    int32_t row0 = box->y0 + win.y0, rows = win.h;
    if (need_v) {
        RT_TRY(axis_init(&ay, h, box->y0, box->h, h_out, win.y0, win.h, f));
        row0 = ay.first[0];
        rows = ay.first[win.h - 1] + ay.count[win.h - 1] - row0;
    }
    const uint8_t *src = px + (size_t)row0 * stride;
    size_t src_stride = stride;
    if (need_h) {
        RT_TRY(axis_init(&ax, w, box->x0, box->w, w_out, win.x0, win.w, f));
        uint8_t *dst = out;
        if (need_v) {
            if (!(mid = rt_malloc((size_t)rows * row))) {
                st = RT_RAISE(RT_ERR_NOMEM, "no memory for a resize of %d rows", rows);
                goto out;
            }
            dst = mid;
        }
        horizontal(&ax, src, stride, rows, dst);
        src = dst;
        src_stride = row;
    } else {
        src += (size_t)(box->x0 + win.x0) * 3;
    }
    if (need_v) {
        RT_ALLOC(acc, row * sizeof *acc, "resize sums");
        vertical(&ay, row0, src, row, src_stride, acc, out);
    } else if (!need_h) {
        for (int32_t y = 0; y < win.h; y++) memcpy(out + (size_t)y * row, src + (size_t)y * src_stride, row);
    }
out:
    axis_fini(&ax);
    axis_fini(&ay);
    rt_free(mid);
    rt_free(acc);
    return st;
}

rt_status rt_resize(const rt_image *in, int x0, int y0, int bw, int bh, int h_out, int w_out, rt_filter f, uint8_t *out)
{
    rt_span box = {x0, y0, bw, bh};
    return rt_resize_window(in->px, (size_t)in->w * 3, in->h, in->w, &box, h_out, w_out, f, NULL, out);
}

rt_status rt_crop_resize(const rt_image *in, int x0, int y0, int bw, int bh, int h_out, int w_out, rt_filter f,
                         uint8_t *out)
{
    if (x0 < 0 || y0 < 0 || bw < 1 || bh < 1 || x0 > in->w - bw || y0 > in->h - bh)
        return RT_RAISE(RT_ERR_ARG, "crop of %d x %d at (%d, %d) leaves an image of %d x %d", bh, bw, y0, x0, in->h, in->w);
    rt_span box = {0, 0, bw, bh};
    const uint8_t *px = in->px + ((size_t)y0 * (size_t)in->w + (size_t)x0) * 3;
    return rt_resize_window(px, (size_t)in->w * 3, bh, bw, &box, h_out, w_out, f, NULL, out);
}

static int32_t centre(int32_t side, int32_t size) /* Python's round((side - size) / 2.0): ties to even */
{
    return (int32_t)nearbyint((side - size) / 2.0);
}

rt_status rt_preset_apply(const rt_preset *p, const rt_image *in, uint8_t *out)
{
    rt_span box = {0, 0, in->w, in->h};
    if (p->resize == 0) return rt_resize_window(in->px, (size_t)in->w * 3, in->h, in->w, &box, p->size, p->size, p->filter, NULL, out);
    if (p->size < 1 || p->resize < p->size)
        return RT_RAISE(RT_ERR_CONFIG, "preset: shorter side %d is smaller than the crop %d", p->resize, p->size);
    int32_t lo = in->w < in->h ? in->w : in->h, hi = in->w < in->h ? in->h : in->w;
    int64_t far = (int64_t)((double)((int64_t)p->resize * hi) / (double)lo); /* int(size * long / short) in Python */
    if (far > 1 << 20) return RT_RAISE(RT_ERR_FORMAT, "image of %d x %d is too long for a short side of %d", in->h, in->w, p->resize);
    int32_t w_out = in->w < in->h ? p->resize : (int32_t)far, h_out = in->w < in->h ? (int32_t)far : p->resize;
    if (in->w == in->h) w_out = h_out = p->resize;
    rt_span win = {centre(w_out, p->size), centre(h_out, p->size), p->size, p->size};
    return rt_resize_window(in->px, (size_t)in->w * 3, in->h, in->w, &box, h_out, w_out, p->filter, &win, out);
}
