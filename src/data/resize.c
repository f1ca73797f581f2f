/* Pillow's antialiased resize, bit for bit.
 *
 * For an output of n from a source span [a, a + b): scale = b / n, filter scale = max(scale, 1), support = (1 bilinear,
 * 2 bicubic with a = -0.5) * filter scale. Output x has centre a + (x + 0.5) * scale and takes source samples
 * int(c - s + 0.5) .. int(c + s + 0.5) - 1 clamped to the image; weights are normalised in double and rounded to 22
 * fraction bits; each pass is (sum + 2^21) >> 22 clipped to a byte. Horizontal pass first, then vertical, with the
 * middle image in bytes. A pass whose span already has the output size is skipped. (Pillow 13 runs the vertical pass
 * first when the height loses more than twice as many pixels as the width, which moves some bytes by one; every release
 * before it, and so every published weight and accuracy, has the order above.)
 *
 * Because every sum is exact integer arithmetic, any order and any vector width gives the same bytes. The horizontal
 * pass runs over the needed rows only, and only output pixels inside a window are computed (a centre crop costs what it
 * shows). Where the processor has AVX2, the horizontal pass takes four taps of three channels at once: coefficients are
 * split as k = high * 2^11 + low with both halves in 16 bits, so that products of byte pairs add up in one multiply-add
 * instruction. */
#include <math.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
/* The resolver of a cloned function runs before a thread sanitizer is ready for it. */
#if defined(__SANITIZE_THREAD__)
#define RT_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RT_TSAN 1
#endif
#endif
#if defined(__x86_64__) && !defined(RT_TSAN)
#define WIDE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDE
#endif

#include "base/alloc.h"
#include "data/internal.h"
#include "math/view.h"

enum { FRACTION = RT_TAP_FRACTION, SPLIT = 11, GROUP = 4, CHUNK = 64 };

typedef struct axis {
    int32_t n;              /* outputs */
    int32_t taps;           /* room per output */
    int32_t *first, *count; /* n each */
    int32_t *k;             /* n * taps, fixed point */
    int32_t groups;         /* of four taps per output, in quad */
    int16_t *quad;          /* n * groups * 32: high halves for two lanes, then low halves; NULL: not wanted */
} axis;

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
    rt_free(ax->quad);
}

/* Coefficients of outputs [win0, win0 + win_n) of an axis of n_out over the span [a, a + b) of n_in samples. */
static rt_status axis_init(axis *ax, int32_t n_in, int32_t a, int32_t b, int32_t n_out, int32_t win0, int32_t win_n,
                           rt_filter f)
{
    rt_status st = RT_OK;
    double *w = NULL;
    const double scale = (double)b / n_out, reach = f == RT_BICUBIC ? 2.0 : 1.0;
    ax->n = win_n;
    ax->taps = (int32_t)ceil(reach * (scale < 1.0 ? 1.0 : scale)) * 2 + 1;
    RT_ALLOC(ax->first, 2 * (size_t)win_n * sizeof *ax->first, "resize bounds");
    ax->count = ax->first + win_n;
    RT_ALLOC(ax->k, (size_t)win_n * (size_t)ax->taps * sizeof *ax->k, "resize coefficients");
    RT_ALLOC(w, (size_t)ax->taps * sizeof *w, "resize coefficients");
    for (int32_t i = 0; i < win_n; i++) {
        const rt_taps at = rt_taps_at(n_in, a, b, n_out, win0 + i, reach);
        int32_t *k = ax->k + (size_t)i * (size_t)ax->taps;
        double sum = 0.0;
        for (int32_t t = 0; t < at.n; t++) {
            double x = rt_tap_at(at, t);
            w[t] = f == RT_BICUBIC ? bicubic(x) : rt_tap_bilinear(x);
            sum += w[t];
        }
        for (int32_t t = 0; t < at.n; t++) k[t] = rt_tap_fixed(w[t], sum);
        ax->first[i] = at.lo;
        ax->count[i] = at.n;
    }
out:
    rt_free(w);
    if (st != RT_OK) {
        axis_fini(ax);
        *ax = (axis){0};
    }
    return st;
}

/* One output pixel of one row. */
static inline void tap_pixel(const axis *ax, int32_t x, const uint8_t *row, uint8_t *dst)
{
    const int32_t *k = ax->k + (size_t)x * (size_t)ax->taps;
    const uint8_t *p = row + (size_t)ax->first[x] * 3;
    int32_t r = 1 << (FRACTION - 1), g = r, b = r;
    for (int32_t t = 0; t < ax->count[x]; t++, p += 3) {
        r += p[0] * k[t];
        g += p[1] * k[t];
        b += p[2] * k[t];
    }
    dst[0] = rt_tap_byte(r);
    dst[1] = rt_tap_byte(g);
    dst[2] = rt_tap_byte(b);
}

static void horizontal_plain(const axis *ax, const uint8_t *src, size_t stride, int32_t rows, uint8_t *dst)
{
    for (int32_t y = 0; y < rows; y++, src += stride)
        for (int32_t x = 0; x < ax->n; x++, dst += 3) tap_pixel(ax, x, src, dst);
}

#if defined(__x86_64__)
/* Lays the coefficients out for horizontal_avx2: per group of taps 0..3, the high halves as (0 1) four times, (2 3)
 * four times, then the low halves alike. Taps past the count are zero. */
static rt_status axis_quads(axis *ax)
{
    rt_status st = RT_OK;
    ax->groups = (ax->taps + GROUP - 1) / GROUP;
    RT_ALLOC(ax->quad, (size_t)ax->n * (size_t)ax->groups * 32 * sizeof *ax->quad, "resize coefficients");
    for (int32_t x = 0; x < ax->n; x++)
        for (int32_t t = 0; t < ax->count[x]; t++) {
            int32_t k = ax->k[(size_t)x * (size_t)ax->taps + (size_t)t];
            int16_t *q =
                ax->quad + ((size_t)x * (size_t)ax->groups + (size_t)(t / GROUP)) * 32 + (t % GROUP) / 2 * 8 + t % 2;
            for (int lane = 0; lane < 4; lane++) {
                q[2 * lane] = (int16_t)(k >> SPLIT);
                q[2 * lane + 16] = (int16_t)(k & ((1 << SPLIT) - 1));
            }
        }
out:
    return st;
}

/* end: one past the last readable byte. Pixels whose wide loads would pass it go the plain way. */
__attribute__((target("avx2"))) static void horizontal_avx2(const axis *ax, const uint8_t *src, size_t stride,
                                                            int32_t rows, const uint8_t *end, uint8_t *dst)
{
    const __m256i spread =
        _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1,    /* taps 0 1: R G B */
                         6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1); /* taps 2 3 */
    const __m128i half = _mm_set1_epi32(1 << (FRACTION - 1));
    for (int32_t y = 0; y < rows; y++, src += stride)
        for (int32_t x = 0; x < ax->n; x++, dst += 3) {
            const uint8_t *p = src + (size_t)ax->first[x] * 3;
            int32_t groups = (ax->count[x] + GROUP - 1) / GROUP;
            if ((size_t)(end - p) < (size_t)groups * GROUP * 3 + 4) {
                tap_pixel(ax, x, src, dst);
                continue;
            }
            const int16_t *q = ax->quad + (size_t)x * (size_t)ax->groups * 32;
            __m256i hi = _mm256_setzero_si256(), lo = hi;
            for (int32_t g = 0; g < groups; g++, p += GROUP * 3, q += 32) {
                __m256i v = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)p));
                v = _mm256_shuffle_epi8(v, spread);
                hi = _mm256_add_epi32(hi, _mm256_madd_epi16(v, _mm256_load_si256((const __m256i *)(const void *)q)));
                lo = _mm256_add_epi32(lo,
                                      _mm256_madd_epi16(v, _mm256_load_si256((const __m256i *)(const void *)(q + 16))));
            }
            __m256i both = _mm256_add_epi32(_mm256_slli_epi32(hi, SPLIT), lo);
            __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
            sum = _mm_srai_epi32(_mm_add_epi32(sum, half), FRACTION);
            sum = _mm_packus_epi16(_mm_packs_epi32(sum, sum), sum);
            uint32_t rgb = (uint32_t)_mm_cvtsi128_si32(sum);
            memcpy(dst, &rgb, 3);
        }
}
#endif

static rt_status horizontal(axis *ax, const uint8_t *src, size_t stride, int32_t rows, const uint8_t *end, uint8_t *dst)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) {
        rt_status st = axis_quads(ax);
        if (st == RT_OK) horizontal_avx2(ax, src, stride, rows, end, dst);
        return st;
    }
#endif
    (void)end;
    horizontal_plain(ax, src, stride, rows, dst);
    return RT_OK;
}

/* n <= CHUNK bytes of one output row; with n = CHUNK the sums stay in registers. */
static inline void column_chunk(const int32_t *k, int32_t taps, const uint8_t *p, size_t stride, size_t n, uint8_t *dst)
{
    int32_t acc[CHUNK];
    for (size_t i = 0; i < n; i++) acc[i] = 1 << (FRACTION - 1);
    for (int32_t t = 0; t < taps; t++, p += stride) {
        int32_t kt = k[t];
        for (size_t i = 0; i < n; i++) acc[i] += p[i] * kt;
    }
    for (size_t i = 0; i < n; i++) dst[i] = rt_tap_byte(acc[i]);
}

/* Source row of output y's first tap is ax->first[y] - row0. */
WIDE static void vertical(const axis *ax, int32_t row0, const uint8_t *src, size_t row_bytes, size_t stride,
                          uint8_t *dst)
{
    for (int32_t y = 0; y < ax->n; y++, dst += row_bytes) {
        const int32_t *k = ax->k + (size_t)y * (size_t)ax->taps;
        const uint8_t *p = src + (size_t)(ax->first[y] - row0) * stride;
        size_t i = 0;
        for (; i + CHUNK <= row_bytes; i += CHUNK) column_chunk(k, ax->count[y], p + i, stride, CHUNK, dst + i);
        column_chunk(k, ax->count[y], p + i, stride, row_bytes - i, dst + i);
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
    rt_span whole = {0, 0, w_out, h_out}, win = window ? *window : whole;
    RT_TRY(check(box, h_out, w_out, &win));
    if (box->x0 < 0 || box->y0 < 0 || box->x0 > w - box->w || box->y0 > h - box->h) {
        st = RT_RAISE(RT_ERR_ARG, "box of %d x %d at (%d, %d) leaves an image of %d x %d", box->h, box->w, box->y0,
                      box->x0, h, w);
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
        const uint8_t *end = px + (size_t)(h - 1) * stride + (size_t)w * 3;
        RT_TRY(horizontal(&ax, src, stride, rows, end, dst));
        src = dst;
        src_stride = row;
    } else {
        src += (size_t)(box->x0 + win.x0) * 3;
    }
    if (need_v) {
        vertical(&ay, row0, src, row, src_stride, out);
    } else if (!need_h) {
        for (int32_t y = 0; y < win.h; y++) memcpy(out + (size_t)y * row, src + (size_t)y * src_stride, row);
    }
out:
    axis_fini(&ax);
    axis_fini(&ay);
    rt_free(mid);
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
        return RT_RAISE(RT_ERR_ARG, "crop of %d x %d at (%d, %d) leaves an image of %d x %d", bh, bw, y0, x0, in->h,
                        in->w);
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
    if (p->resize == 0)
        return rt_resize_window(in->px, (size_t)in->w * 3, in->h, in->w, &box, p->size, p->size, p->filter, NULL, out);
    if (p->size < 1 || p->resize < p->size)
        return RT_RAISE(RT_ERR_CONFIG, "preset: shorter side %d is smaller than the crop %d", p->resize, p->size);
    int32_t lo = in->w < in->h ? in->w : in->h, hi = in->w < in->h ? in->h : in->w;
    int64_t far = (int64_t)((double)((int64_t)p->resize * hi) / (double)lo); /* int(size * long / short) in Python */
    if (far > 1 << 20)
        return RT_RAISE(RT_ERR_FORMAT, "image of %d x %d is too long for a short side of %d", in->h, in->w, p->resize);
    int32_t w_out = in->w < in->h ? p->resize : (int32_t)far, h_out = in->w < in->h ? (int32_t)far : p->resize;
    if (in->w == in->h) w_out = h_out = p->resize;
    rt_span win = {centre(w_out, p->size), centre(h_out, p->size), p->size, p->size};
    return rt_resize_window(in->px, (size_t)in->w * 3, in->h, in->w, &box, h_out, w_out, p->filter, &win, out);
}
