/* Fitting and applying ZCA. Layouts: images are H,W,C in memory, the transform acts on C,H,W. */
#include "data/zca.h"

#include <math.h>
#include <omp.h>
#include <string.h>

#include "base/alloc.h"
#include "base/linalg.h"
#include "base/log.h"

enum {
    ROWS = 1024, /* (p - 128)^2 <= 2^14, so 2^10 of them add up exactly in float32 */
    TILE = 512,
    APPLY = 256, /* images multiplied at a time */
    SHIFT = 128
};

void rt_zca_fini(rt_zca *z)
{
    if (!z) return;
    rt_free(z->mean);
    rt_free(z->transform);
    rt_free(z->inverse);
    rt_free(z->spectrum);
    memset(z, 0, sizeof *z);
}

/* One image, H,W,C to C,H,W, minus SHIFT. */
static void centred_row(const uint8_t *px, int64_t area, float *row)
{
    for (int64_t i = 0; i < area; i++)
        for (int c = 0; c < 3; c++) row[c * area + i] = (float)(px[3 * i + c] - SHIFT);
}

/* gram [d,d] = sum of products of shifted pixels, its upper triangle of tiles; sum [d]. Both are exact. */
static rt_status exact_gram(const rt_images *im, int64_t d, int threads, double *gram, double *sum)
{
    rt_status st = RT_OK;
    int64_t area = d / 3, tiles = (d + TILE - 1) / TILE;
    float *rows = NULL, *part = NULL;
    RT_ALLOC(rows, (size_t)(ROWS * d) * sizeof *rows, "ZCA rows");
    RT_ALLOC(part, (size_t)threads * TILE * TILE * sizeof *part, "ZCA tiles");
    for (int64_t at = 0; at < im->n; at += ROWS) {
        int64_t n = im->n - at < ROWS ? im->n - at : ROWS;
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int64_t i = 0; i < n; i++) centred_row(im->px + (size_t)((at + i) * d), area, rows + i * d);
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int64_t j = 0; j < d; j++)
            for (int64_t i = 0; i < n; i++) sum[j] += (double)rows[i * d + j];
#pragma omp parallel num_threads(threads)
        {
            float *mine = part + (size_t)omp_get_thread_num() * TILE * TILE;
#pragma omp for schedule(dynamic, 1)
            for (int64_t t = 0; t < tiles * tiles; t++) {
                int64_t i0 = t / tiles * TILE, j0 = t % tiles * TILE;
                if (j0 < i0) continue;
                int64_t m = d - i0 < TILE ? d - i0 : TILE, k = d - j0 < TILE ? d - j0 : TILE;
                rt_gram_tile_f32(rows, n, d, i0, m, j0, k, 0, mine, TILE);
                for (int64_t i = 0; i < m; i++)
                    for (int64_t j = 0; j < k; j++) gram[(i0 + i) * d + j0 + j] += (double)mine[i * TILE + j];
            }
        }
        rt_progress_report(&(rt_progress){"whitening: covariance", "image", (double)(at + n), (double)im->n, ""});
    }
out:
    rt_free(rows);
    rt_free(part);
    return st;
}

/* Both triangles of the unbiased covariance of pixels in [0,1], in place. */
static void covariance(double *gram, const double *sum, int64_t d, int64_t n, int threads)
{
#pragma omp parallel for num_threads(threads) schedule(dynamic, 16)
    for (int64_t i = 0; i < d; i++)
        for (int64_t j = i; j < d; j++)
            gram[i * d + j] = (gram[i * d + j] - sum[i] * sum[j] / (double)n) / ((double)(n - 1) * 255.0 * 255.0);
    for (int64_t i = 0; i < d; i++)
        for (int64_t j = 0; j < i; j++) gram[i * d + j] = gram[j * d + i];
}

/* out = sum over k of f(s_k) v_k v_k^T with eigenvectors as rows of v; work [d,d], tile: TILE^2 a thread. */
static void from_spectrum(const double *v, const double *s, int64_t d, double eps, bool back, int threads, double *work,
                          double *tile, float *out)
{
    int64_t tiles = (d + TILE - 1) / TILE;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t k = 0; k < d; k++) {
        double e = (s[k] > 0 ? s[k] : 0) + eps, f = sqrt(back ? sqrt(e) : 1 / sqrt(e)); /* rounding may leave s a little below 0 */
        for (int64_t j = 0; j < d; j++) work[k * d + j] = f * v[k * d + j];
    }
#pragma omp parallel num_threads(threads)
    {
        double *mine = tile + (size_t)omp_get_thread_num() * TILE * TILE;
#pragma omp for schedule(dynamic, 1)
        for (int64_t t = 0; t < tiles * tiles; t++) {
            int64_t i0 = t / tiles * TILE, j0 = t % tiles * TILE;
            if (j0 < i0) continue;
            int64_t m = d - i0 < TILE ? d - i0 : TILE, n = d - j0 < TILE ? d - j0 : TILE;
            rt_gram_tile_f64(work, d, d, i0, m, j0, n, 0, mine, TILE);
            for (int64_t i = 0; i < m; i++)
                for (int64_t j = i0 == j0 ? i : 0; j < n; j++) /* symmetric to the last bit */
                    out[(i0 + i) * d + j0 + j] = out[(j0 + j) * d + i0 + i] = (float)mine[i * TILE + j];
        }
    }
}

static int at_least_one(int threads) { return threads > 0 ? threads : omp_get_max_threads(); }

rt_status rt_zca_fit(const rt_images *im, double eps, int threads, rt_zca *out)
{
    rt_status st = RT_OK;
    rt_zca z = {.h = im->h, .w = im->w, .d = (int64_t)im->h * im->w * 3, .eps = eps};
    double *gram = NULL, *work = NULL, *sum = NULL, *tile = NULL;
    size_t d = (size_t)z.d;
    if (im->n < 2 || !(eps > 0)) return RT_RAISE(RT_ERR_ARG, "ZCA of %lld images with eps %g", (long long)im->n, eps);
    threads = at_least_one(threads);
    rt_blas_one_thread();
    RT_ALLOC(gram, d * d * sizeof *gram, "ZCA covariance");
    RT_ALLOC(sum, d * sizeof *sum, "ZCA mean");
    RT_ALLOC(z.mean, d * sizeof *z.mean, "ZCA mean");
    RT_ALLOC(z.spectrum, d * sizeof *z.spectrum, "ZCA spectrum");
    RT_TRY(exact_gram(im, z.d, threads, gram, sum));
    for (size_t j = 0; j < d; j++) z.mean[j] = (float)((sum[j] / (double)im->n + SHIFT) / 255.0);
    covariance(gram, sum, z.d, im->n, threads);
    RT_TRY(rt_eigen(gram, z.d, z.spectrum, true));
    if (!(z.spectrum[d - 1] > 0)) {
        st = RT_RAISE(RT_ERR_FORMAT, "no pixel of the %lld training images varies", (long long)im->n);
        rt_error_fix(st, "set data.zca to false, or check the training split");
        goto out;
    }
    RT_ALLOC(work, d * d * sizeof *work, "ZCA transform");
    RT_ALLOC(tile, (size_t)threads * TILE * TILE * sizeof *tile, "ZCA tiles");
    RT_ALLOC(z.transform, d * d * sizeof *z.transform, "ZCA transform");
    RT_ALLOC(z.inverse, d * d * sizeof *z.inverse, "ZCA inverse");
    from_spectrum(gram, z.spectrum, z.d, eps, false, threads, work, tile, z.transform);
    from_spectrum(gram, z.spectrum, z.d, eps, true, threads, work, tile, z.inverse);
    *out = z;
    memset(&z, 0, sizeof z);
out:
    rt_free(gram);
    rt_free(sum);
    rt_free(work);
    rt_free(tile);
    rt_zca_fini(&z);
    return st == RT_OK ? st : rt_error_frame(st, __FILE__, __LINE__, "whitening");
}

/* --- applying ---------------------------------------------------------------------------------------------------------- */

/* to[h,w,3] = from[h,w,3] through t, APPLY images at a time; the mean comes off before, or is put back after. */
static rt_status through(const rt_zca *z, const float *t, bool restore, const float *from, int64_t n, int threads, float *to)
{
    rt_status st = RT_OK;
    int64_t d = z->d, area = d / 3, parts = (n + APPLY - 1) / APPLY;
    float *buf = NULL;
    threads = at_least_one(threads);
    if (threads > parts) threads = parts > 1 ? (int)parts : 1;
    rt_blas_one_thread();
    RT_ALLOC(buf, (size_t)threads * 2 * APPLY * (size_t)d * sizeof *buf, "whitening");
#pragma omp parallel num_threads(threads)
    {
        float *x = buf + (size_t)omp_get_thread_num() * 2 * APPLY * (size_t)d, *y = x + APPLY * d;
#pragma omp for schedule(dynamic, 1)
        for (int64_t p = 0; p < parts; p++) {
            int64_t at = p * APPLY, rows = n - at < APPLY ? n - at : APPLY;
            for (int64_t r = 0; r < rows; r++)
                for (int64_t i = 0; i < area; i++)
                    for (int64_t c = 0; c < 3; c++) {
                        float v = from[(at + r) * d + 3 * i + c];
                        x[r * d + c * area + i] = restore ? v : v - z->mean[c * area + i];
                    }
            rt_rows_times_f32(x, rows, d, t, y);
            for (int64_t r = 0; r < rows; r++)
                for (int64_t i = 0; i < area; i++)
                    for (int64_t c = 0; c < 3; c++) {
                        float v = y[r * d + c * area + i];
                        to[(at + r) * d + 3 * i + c] = restore ? v + z->mean[c * area + i] : v;
                    }
        }
    }
out:
    rt_free(buf);
    return st;
}

rt_status rt_zca_whiten(const rt_zca *z, int64_t n, int threads, float *px)
{
    return through(z, z->transform, false, px, n, threads, px);
}

rt_status rt_zca_restore(const rt_zca *z, const float *px, int64_t n, int threads, float *out)
{
    return through(z, z->inverse, true, px, n, threads, out);
}

rt_status rt_zca_rgb(const rt_zca *z, const float *px, int64_t n, int threads, uint8_t *rgb)
{
    rt_status st = RT_OK;
    float *x = NULL;
    RT_ALLOC(x, (size_t)(n * z->d) * sizeof *x, "restored pixels");
    RT_TRY(rt_zca_restore(z, px, n, threads, x));
    for (int64_t k = 0; k < n * z->d; k++) {
        float v = floorf(x[k] * 255.0f + 0.5f);
        rgb[k] = (uint8_t)(v > 0.0f ? v < 255.0f ? v : 255.0f : 0.0f);
    }
out:
    rt_free(x);
    return st;
}

rt_status rt_zca_attach(const rt_zca *z, int threads, rt_images *im)
{
    rt_status st = RT_OK;
    float *white = NULL;
    if (im->h != z->h || im->w != z->w)
        return RT_RAISE(RT_ERR_ARG, "whitening of %dx%d images with a transform for %dx%d", im->h, im->w, z->h, z->w);
    RT_ALLOC(white, (size_t)(im->n * z->d) * sizeof *white, "whitened pixels");
    for (int64_t k = 0; k < im->n * z->d; k++) white[k] = (float)im->px[k] / 255.0f;
    RT_TRY(rt_zca_whiten(z, im->n, threads, white));
    rt_free(im->white);
    im->white = white;
    im->zca = z;
    white = NULL;
out:
    rt_free(white);
    return st;
}
