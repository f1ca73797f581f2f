/* The first layer of every network for small images: 3x3, stride 1, padding 1, from three channels.
 *
 * Libraries block channels by sixteen and waste thirteen of them here; the weight gradient suffers most. But 3x3x3 = 27
 * products per output fit the register file of AVX-512 as 27 accumulators of 16 output channels, so the weight gradient
 * needs one load of gy and 27 multiply-adds with broadcast pixels, near the machine's peak. The forward direction keeps
 * 8 pixels x 32 output channels in registers. Pixels are read from a zero-padded copy of the image, which stays in the
 * first-level cache.
 *
 * The image gradient, which every matching method asks for, is a product of 8 pixels x K by K x 27 in registers, whose rows
 * are then added into a padded image; a pixel's 27 numbers are three runs of nine there.
 *
 * The weight gradient is summed over fixed groups of images whose results are added in order: the thread count does not
 * change the result. Only where AVX-512 is found at run time, and only for output channels in multiples of 32. */
#include <omp.h>
#include <string.h>

#include "backend/cpu/conv.h"
#include "base/alloc.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

enum { TAPS = 27, LANES = 16, MAX_GROUPS = 64 };
#define RT_AVX512 __attribute__((target("avx512f")))

typedef struct rgb {
    int threads;
    int64_t pad_w, pad_floats;     /* row length and size of a padded image, in floats */
    int64_t row_floats;            /* image gradient: 32 numbers for each pixel of a row */
    int64_t per_group, groups;     /* images of a group */
    size_t pads, partials;         /* offsets in scratch */
} rgb;

static void pad_image(const rgb *s, const rt_conv_dims *d, const float *x, float *to)
{
    memset(to, 0, (size_t)s->pad_floats * sizeof *to);
    for (int64_t i = 0; i < d->h; i++)
        memcpy(to + (i + 1) * s->pad_w + 3, x + i * d->w * 3, (size_t)d->w * 3 * sizeof *to);
}

/* --- forward ------------------------------------------------------------------------------------------------------------- */
/* w reordered to [27][K]; n pixels from one row of the padded image, 32 channels from k. */
#define RGB_FORWARD(name, PIXELS)                                                                                      \
    RT_AVX512 static void name(const float *x, int64_t pad_w, const float *w, const float *bias, int64_t K, float *y)  \
    {                                                                                                                  \
        __m512 a[PIXELS], b[PIXELS];                                                                                   \
        _Pragma("GCC unroll 8") for (int p = 0; p < PIXELS; p++)                                                       \
        {                                                                                                              \
            a[p] = bias ? _mm512_loadu_ps(bias) : _mm512_setzero_ps();                                                 \
            b[p] = bias ? _mm512_loadu_ps(bias + LANES) : _mm512_setzero_ps();                                         \
        }                                                                                                              \
        for (int r = 0; r < 3; r++)                                                                                    \
            for (int t = 0; t < 9; t++) {                                                                              \
                const __m512 wa = _mm512_loadu_ps(w + (r * 9 + t) * K);                                                \
                const __m512 wb = _mm512_loadu_ps(w + (r * 9 + t) * K + LANES);                                        \
                _Pragma("GCC unroll 8") for (int p = 0; p < PIXELS; p++)                                               \
                {                                                                                                      \
                    const __m512 v = _mm512_set1_ps(x[r * pad_w + t + 3 * p]);                                         \
                    a[p] = _mm512_fmadd_ps(v, wa, a[p]);                                                               \
                    b[p] = _mm512_fmadd_ps(v, wb, b[p]);                                                               \
                }                                                                                                      \
            }                                                                                                          \
        _Pragma("GCC unroll 8") for (int p = 0; p < PIXELS; p++)                                                       \
        {                                                                                                              \
            _mm512_storeu_ps(y + p * K, a[p]);                                                                         \
            _mm512_storeu_ps(y + p * K + LANES, b[p]);                                                                 \
        }                                                                                                              \
    }
RGB_FORWARD(forward_8, 8)
RGB_FORWARD(forward_1, 1)

/* [K,3,3,3] (channel, row, column) to [row, column, channel][K]: the order of a padded image's row. */
static void gather_weights(const float *w, int64_t K, float *to)
{
    for (int64_t k = 0; k < K; k++)
        for (int c = 0; c < 3; c++)
            for (int rs = 0; rs < 9; rs++) to[(rs * 3 + c) * K + k] = w[(k * 3 + c) * 9 + rs];
}

static rt_status run_forward(const rt_conv_plan *p, const rt_kernel_io *io)
{
    const rgb *s = p->state;
    const rt_conv_dims *d = &p->d;
    const float *x = io->in[0], *bias = d->bias ? io->in[2] : NULL;
    float *y = io->out[0], *w = (float *)((char *)io->scratch + s->partials);
    gather_weights(io->in[1], d->k, w);
#pragma omp parallel for schedule(static) num_threads(s->threads)
    for (int64_t n = 0; n < d->n; n++) {
        float *pad = (float *)((char *)io->scratch + s->pads) + omp_get_thread_num() * s->pad_floats;
        pad_image(s, d, x + n * d->h * d->w * 3, pad);
        for (int64_t i = 0; i < d->h; i++)
            for (int64_t j = 0, step; j < d->w; j += step) {
                const float *from = pad + i * s->pad_w + 3 * j;
                float *to = y + ((n * d->h + i) * d->w + j) * d->k;
                step = d->w - j >= 8 ? 8 : 1;
                for (int64_t k = 0; k < d->k; k += 2 * LANES)
                    (step == 8 ? forward_8 : forward_1)(from, s->pad_w, w + k, bias ? bias + k : NULL, d->k, to + k);
            }
    }
    return RT_OK;
}

/* --- weight gradient ---------------------------------------------------------------------------------------------------- */
/* One row of pixels into acc[28][LANES]: 27 taps and the bias. gy is read in strips, a line here and there, which the
 * hardware does not foresee: each strip fetches its share of the row that comes next, from `ahead`. */
RT_AVX512 static void gradient_row(const float *x, int64_t pad_w, const float *gy, const float *ahead, int64_t K, int64_t n,
                                   float *acc)
{
    __m512 a[TAPS], b = _mm512_loadu_ps(acc + TAPS * LANES);
#pragma GCC unroll 27
    for (int t = 0; t < TAPS; t++) a[t] = _mm512_loadu_ps(acc + t * LANES);
    for (int64_t j = 0; j < n; j++) {
        const __m512 g = _mm512_loadu_ps(gy + j * K);
        _mm_prefetch((const char *)(ahead + j * LANES), _MM_HINT_T0);
        b = _mm512_add_ps(b, g);
#pragma GCC unroll 27
        for (int t = 0; t < TAPS; t++)
            a[t] = _mm512_fmadd_ps(_mm512_set1_ps(x[t / 9 * pad_w + t % 9 + 3 * j]), g, a[t]);
    }
#pragma GCC unroll 27
    for (int t = 0; t < TAPS; t++) _mm512_storeu_ps(acc + t * LANES, a[t]);
    _mm512_storeu_ps(acc + TAPS * LANES, b);
}

static rt_status run_gradient(const rt_conv_plan *p, const rt_kernel_io *io)
{
    const rgb *s = p->state;
    const rt_conv_dims *d = &p->d;
    const float *x = io->in[0], *gy = io->in[1];
    float *dw = io->out[0], *db = d->bias ? io->out[1] : NULL, *part = (float *)((char *)io->scratch + s->partials);
    const int64_t strips = d->k / LANES, size = strips * (TAPS + 1) * LANES;
#pragma omp parallel for schedule(static) num_threads(s->threads)
    for (int64_t g = 0; g < s->groups; g++) {
        float *pad = (float *)((char *)io->scratch + s->pads) + omp_get_thread_num() * s->pad_floats;
        const int64_t end = (g + 1) * s->per_group < d->n ? (g + 1) * s->per_group : d->n;
        memset(part + g * size, 0, (size_t)size * sizeof *part);
        for (int64_t n = g * s->per_group; n < end; n++) {
            pad_image(s, d, x + n * d->h * d->w * 3, pad);
            for (int64_t i = 0; i < d->h; i++) {
                const float *row = gy + (n * d->h + i) * d->w * d->k;
                const float *next = n + 1 < d->n || i + 1 < d->h ? row + d->w * d->k : row;
                for (int64_t k = 0; k < strips; k++)
                    gradient_row(pad + i * s->pad_w, s->pad_w, row + k * LANES, next + k * d->w * LANES, d->k, d->w,
                                 part + g * size + k * (TAPS + 1) * LANES);
            }
        }
    }
#pragma omp parallel for schedule(static) num_threads(s->threads)
    for (int64_t k = 0; k < d->k; k++)
        for (int t = 0; t <= TAPS; t++) {
            double sum = 0;
            const float *at = part + (k / LANES * (TAPS + 1) + t) * LANES + k % LANES;
            for (int64_t g = 0; g < s->groups; g++) sum += (double)at[g * size];
            if (t < TAPS)
                dw[(k * 3 + t % 3) * 9 + t / 3] = (float)sum;
            else if (db)
                db[k] = (float)sum;
        }
    return RT_OK;
}

/* --- image gradient ------------------------------------------------------------------------------------------------------ */
/* v[PIXELS][32] = gy[PIXELS][K] * w[K][32]. */
#define RGB_BACKWARD(name, PIXELS)                                                                                     \
    RT_AVX512 static void name(const float *gy, int64_t K, const float *w, float *v)                                   \
    {                                                                                                                  \
        __m512 a[PIXELS], b[PIXELS];                                                                                   \
        _Pragma("GCC unroll 8") for (int p = 0; p < PIXELS; p++) a[p] = b[p] = _mm512_setzero_ps();                    \
        for (int64_t k = 0; k < K; k++) {                                                                              \
            const __m512 wa = _mm512_loadu_ps(w + k * 2 * LANES), wb = _mm512_loadu_ps(w + k * 2 * LANES + LANES);     \
            _Pragma("GCC unroll 8") for (int p = 0; p < PIXELS; p++)                                                   \
            {                                                                                                          \
                const __m512 g = _mm512_set1_ps(gy[p * K + k]);                                                        \
                a[p] = _mm512_fmadd_ps(g, wa, a[p]);                                                                   \
                b[p] = _mm512_fmadd_ps(g, wb, b[p]);                                                                   \
            }                                                                                                          \
        }                                                                                                              \
        _Pragma("GCC unroll 8") for (int p = 0; p < PIXELS; p++)                                                       \
        {                                                                                                              \
            _mm512_storeu_ps(v + p * 2 * LANES, a[p]);                                                                 \
            _mm512_storeu_ps(v + p * 2 * LANES + LANES, b[p]);                                                         \
        }                                                                                                              \
    }
RGB_BACKWARD(backward_8, 8)
RGB_BACKWARD(backward_1, 1)

/* Adds the rows of v [w][32] into three rows of the padded image. Runs of pixels three apart do not overlap, so none waits
 * for the store before it. */
RT_AVX512 static void add_row(const float *v, int64_t w, int64_t pad_w, float *pad)
{
    const __mmask16 nine = 0x1ff;
    for (int64_t first = 0; first < 3; first++)
        for (int64_t j = first; j < w; j += 3)
            for (int r = 0; r < 3; r++) {
                float *to = pad + r * pad_w + 3 * j;
                const __m512 add = _mm512_maskz_loadu_ps(nine, v + j * 2 * LANES + 9 * r);
                _mm512_mask_storeu_ps(to, nine, _mm512_add_ps(_mm512_maskz_loadu_ps(nine, to), add));
            }
}

static rt_status run_backward(const rt_conv_plan *p, const rt_kernel_io *io)
{
    const rgb *s = p->state;
    const rt_conv_dims *d = &p->d;
    const float *gy = io->in[0], *w = io->in[1];
    float *gx = io->out[0], *wide = (float *)((char *)io->scratch + s->partials);
    memset(wide, 0, (size_t)(d->k * 2 * LANES) * sizeof *wide);
    for (int64_t k = 0; k < d->k; k++)
        for (int c = 0; c < 3; c++)
            for (int rs = 0; rs < 9; rs++) wide[k * 2 * LANES + rs * 3 + c] = w[(k * 3 + c) * 9 + rs];
#pragma omp parallel for schedule(static) num_threads(s->threads)
    for (int64_t n = 0; n < d->n; n++) {
        float *pad = (float *)((char *)io->scratch + s->pads) + omp_get_thread_num() * (s->pad_floats + s->row_floats);
        float *row = pad + s->pad_floats;
        memset(pad, 0, (size_t)s->pad_floats * sizeof *pad);
        for (int64_t i = 0; i < d->h; i++) {
            const float *from = gy + (n * d->h + i) * d->w * d->k;
            for (int64_t j = 0, step; j < d->w; j += step) {
                step = d->w - j >= 8 ? 8 : 1;
                (step == 8 ? backward_8 : backward_1)(from + j * d->k, d->k, wide, row + j * 2 * LANES);
            }
            add_row(row, d->w, s->pad_w, pad + i * s->pad_w);
        }
        for (int64_t i = 0; i < d->h; i++)
            memcpy(gx + (n * d->h + i) * d->w * 3, pad + (i + 1) * s->pad_w + 3, (size_t)d->w * 3 * sizeof *gx);
    }
    return RT_OK;
}

rt_status rt_conv_rgb(rt_cpu *be, const rt_conv_dims *d, rt_conv_plan *out)
{
    rt_status st = RT_OK;
    rgb *s = NULL;
    const bool fits = d->groups == 1 && d->c == 3 && d->k % (2 * LANES) == 0 && d->r == 3 &&
                      d->s == 3 && d->stride[0] == 1 && d->stride[1] == 1 && d->pad[0] == 1 && d->pad[1] == 1;
    if (!fits) return RT_RAISE(RT_ERR_UNSUPPORTED, "only 3x3 from three channels");
    if (!__builtin_cpu_supports("avx512f")) return RT_RAISE(RT_ERR_UNSUPPORTED, "needs AVX-512");
    RT_ALLOC(s, sizeof *s, "convolution");
    s->threads = be->threads;
    s->pad_w = (d->w + 2) * 3;
    s->pad_floats = ((d->h + 2) * s->pad_w + LANES - 1) / LANES * LANES;
    s->per_group = (d->n + MAX_GROUPS - 1) / MAX_GROUPS;
    s->groups = (d->n + s->per_group - 1) / s->per_group;
    s->pads = 0;
    s->row_floats = d->op == RT_OP_CONV2D_DX ? d->w * 2 * LANES : 0;
    s->partials = (size_t)(s->threads * (s->pad_floats + s->row_floats)) * sizeof(float);
    const int64_t held = d->op == RT_OP_CONV2D_DX ? d->k * 2 * LANES : d->op == RT_OP_CONV2D ? d->k * (TAPS + 1)
                                                                                             : s->groups * d->k * (TAPS + 1);
    out->d = *d;
    out->scratch_bytes = s->partials + (size_t)held * sizeof(float);
    out->impl = "rgb:avx512";
    out->run = d->op == RT_OP_CONV2D ? run_forward : d->op == RT_OP_CONV2D_DX ? run_backward : run_gradient;
    out->release = rt_free;
    out->state = s;
out:
    return st;
}

#else

rt_status rt_conv_rgb(rt_cpu *be, const rt_conv_dims *d, rt_conv_plan *out)
{
    (void)be;
    (void)d;
    (void)out;
    return RT_RAISE(RT_ERR_UNSUPPORTED, "needs AVX-512");
}

#endif
