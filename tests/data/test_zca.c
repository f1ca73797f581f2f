/* ZCA whitening: the law of its spectrum, the way back, the same bytes on any number of threads, batches of whitened images. */
#include "artefact/artefact.h"
#include "base/linalg.h"
#include "data/zca.h"
#include "fixture.h"

enum { S = 16, D = S * S * 3, N = 1500 }; /* two chunks of rows, two tiles a side */

/* Smooth images: every pixel follows its neighbours, as in photographs, so that the spectrum spans orders of magnitude. */
static rt_images make(int n)
{
    static const char *const names[] = {"a", "b"};
    rt_images im = {.n = n, .h = S, .w = S};
    rt_ok(rt_classes_make(names, 2, &im.classes));
    im.px = rt_malloc((size_t)n * D);
    im.label = rt_calloc((size_t)n * sizeof *im.label);
    im.key = rt_calloc((size_t)n * sizeof *im.key);
    for (int i = 0; i < n; i++) {
        rt_rng r = rt_rng_at(4, RT_RNG_TEST, (uint64_t)i, 0);
        double a[3], fx = rt_rng_uniform_in(&r, -4, 4), fy = rt_rng_uniform_in(&r, -4, 4), phase = rt_rng_uniform_in(&r, 0, 6.3);
        for (int c = 0; c < 3; c++) a[c] = rt_rng_uniform_in(&r, 0, 100);
        for (int y = 0; y < S; y++)
            for (int x = 0; x < S; x++)
                for (int c = 0; c < 3; c++)
                    im.px[(i * S * S + y * S + x) * 3 + c] =
                        (uint8_t)(110 + a[c] * sin(phase + fx * x / S + fy * y / S) + rt_rng_uniform_in(&r, 0, 30));
        im.key[i] = rt_asprintf("k%d", i);
        im.label[i] = i % 2;
    }
    return im;
}

/* Unbiased covariance by its definition; rows of C,H,W in [0,1] or whitened, given H,W,C. */
static double *covariance_of(const float *px, int n)
{
    double *mean = calloc(D, sizeof *mean), *cov = calloc((size_t)D * D, sizeof *cov), *row = malloc(D * sizeof *row);
    ck_assert(mean && cov && row);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < D; k++) mean[k % 3 * S * S + k / 3] += (double)px[(size_t)i * D + (size_t)k] / n;
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < D; k++) row[k % 3 * S * S + k / 3] = (double)px[(size_t)i * D + (size_t)k];
        for (int a = 0; a < D; a++) {
            double d = row[a] - mean[a];
            for (int b = a; b < D; b++) cov[a * D + b] += d * (row[b] - mean[b]) / (n - 1);
        }
    }
    for (int a = 0; a < D; a++)
        for (int b = 0; b < a; b++) cov[a * D + b] = cov[b * D + a];
    free(mean);
    free(row);
    return cov;
}

START_TEST(whitened_covariance_has_the_stated_spectrum)
{
    rt_images im = make(N);
    rt_zca z;
    float *unit = malloc((size_t)N * D * sizeof *unit);
    rt_ok(rt_zca_fit(&im, 0.1, 2, &z));
    for (int k = 0; k < N * D; k++) unit[k] = (float)im.px[k] / 255.0f;
    double *s = malloc(D * sizeof *s), *cov = covariance_of(unit, N);
    rt_ok(rt_eigen(cov, D, s, false));
    for (int k = 0; k < D; k++) rt_assert_near(z.spectrum[k], s[k], 1e-7, 1e-7); /* s is of pixels rounded to float */
    ck_assert(s[D - 1] > 1 && s[0] < 0.01);
    free(cov);
    rt_ok(rt_zca_attach(&z, 2, &im));
    cov = covariance_of(im.white, N);
    double *w = malloc(D * sizeof *w);
    rt_ok(rt_eigen(cov, D, w, false));
    for (int k = 0; k < D; k++) rt_assert_near(w[k], s[k] / (s[k] + 0.1), 1e-5, 1e-4);
    /* and back */
    float *back = malloc((size_t)N * D * sizeof *back);
    rt_ok(rt_zca_restore(&z, im.white, N, 2, back));
    for (int k = 0; k < N * D; k++) rt_assert_near((double)back[k], (double)unit[k], 1e-4, 0);
    uint8_t *rgb = malloc((size_t)N * D);
    rt_ok(rt_zca_rgb(&z, im.white, N, 1, rgb));
    ck_assert_int_eq(memcmp(rgb, im.px, (size_t)N * D), 0);
    free(s);
    free(w);
    free(cov);
    free(back);
    free(rgb);
    free(unit);
    rt_zca_fini(&z);
    rt_images_fini(&im);
}
END_TEST

/* T (S + eps) T = 1 and T times the inverse = 1: the transform by its defining equation, not by how it is computed. */
START_TEST(transform_solves_its_equation)
{
    rt_images im = make(N);
    rt_zca z;
    rt_ok(rt_zca_fit(&im, 0.1, 2, &z));
    float *unit = malloc((size_t)N * D * sizeof *unit);
    for (int k = 0; k < N * D; k++) unit[k] = (float)im.px[k] / 255.0f;
    double *cov = covariance_of(unit, N), *half = calloc((size_t)D * D, sizeof *half);
    for (int a = 0; a < D; a++) cov[a * D + a] += 0.1;
    for (int a = 0; a < D; a++)
        for (int k = 0; k < D; k++)
            for (int b = 0; b < D; b++) half[a * D + b] += (double)z.transform[a * D + k] * cov[k * D + b];
    for (int a = 0; a < D; a += 7)
        for (int b = 0; b < D; b++) {
            double one = 0, two = 0;
            for (int k = 0; k < D; k++) {
                one += half[a * D + k] * (double)z.transform[k * D + b];
                two += (double)z.inverse[a * D + k] * (double)z.transform[k * D + b];
            }
            rt_assert_near(one, a == b, 1e-4, 0);
            rt_assert_near(two, a == b, 1e-4, 0);
            ck_assert(z.transform[a * D + b] == z.transform[b * D + a]);
        }
    free(unit);
    free(cov);
    free(half);
    rt_zca_fini(&z);
    rt_images_fini(&im);
}
END_TEST

START_TEST(same_bytes_on_any_number_of_threads)
{
    rt_images a = make(N), b = make(N);
    rt_zca z, y;
    rt_ok(rt_zca_fit(&a, 0.1, 1, &z));
    rt_ok(rt_zca_fit(&b, 0.1, 3, &y));
    ck_assert_int_eq(memcmp(z.transform, y.transform, (size_t)D * D * 4), 0);
    ck_assert_int_eq(memcmp(z.inverse, y.inverse, (size_t)D * D * 4), 0);
    ck_assert_int_eq(memcmp(z.mean, y.mean, (size_t)D * 4), 0);
    rt_ok(rt_zca_attach(&z, 1, &a));
    rt_ok(rt_zca_attach(&y, 3, &b));
    ck_assert_int_eq(memcmp(a.white, b.white, (size_t)N * D * 4), 0);
    rt_zca_fini(&z);
    rt_zca_fini(&y);
    rt_images_fini(&a);
    rt_images_fini(&b);
}
END_TEST

START_TEST(batches_are_made_of_whitened_pixels)
{
    rt_images im = make(300), sub;
    rt_zca z;
    rt_normalise nm = {{0.5f, 0.5f, 0.5f}, {0.1f, 0.1f, 0.1f}}; /* has no say any more */
    rt_view moved = {.flip = true, .pad_crop = 3}, cropped = {.rrc = true, .flip = true, .scale = {0.5f, 1}, .ratio = {0.75f, 1.33f}};
    enum { B = 9 };
    static float out[B * D], raw[B * D];
    int64_t idx[B];
    for (int b = 0; b < B; b++) idx[b] = 31 * b + 5;
    rt_ok(rt_zca_fit(&im, 0.1, 2, &z));
    rt_ok(rt_batch_fill(&im, idx, B, NULL, &cropped, 7, 3, 2, raw)); /* not whitened yet */
    rt_ok(rt_zca_whiten(&z, B, 1, raw));
    rt_ok(rt_zca_attach(&z, 2, &im));
    rt_ok(rt_batch_fill(&im, idx, B, &nm, &cropped, 7, 3, 2, out));
    ck_assert_int_eq(memcmp(out, raw, sizeof out), 0);
    rt_ok(rt_batch_fill(&im, idx, B, &nm, NULL, 0, 0, 1, out));
    for (int b = 0; b < B; b++) ck_assert_int_eq(memcmp(out + b * D, im.white + idx[b] * D, D * sizeof *out), 0);
    rt_ok(rt_batch_fill(&im, idx, B, &nm, &moved, 7, 3, 2, out));
    int flips = 0, outside = 0;
    for (int b = 0; b < B; b++) {
        rt_view_box v;
        rt_ok(rt_view_draw(&moved, S, S, 7, 3, (uint32_t)b, &v));
        flips += v.flip;
        for (int y = 0; y < S; y++)
            for (int x = 0; x < S; x++) {
                int sy = y + v.y0, sx = (v.flip ? S - 1 - x : x) + v.x0;
                bool in = sy >= 0 && sy < S && sx >= 0 && sx < S;
                outside += !in;
                for (int c = 0; c < 3; c++)
                    ck_assert(out[b * D + (y * S + x) * 3 + c] == (in ? im.white[idx[b] * D + (sy * S + sx) * 3 + c] : 0.0f));
            }
    }
    ck_assert(flips > 0 && flips < B && outside > 0);
    rt_ok(rt_images_subset(&im, idx, B, &sub));
    for (int b = 0; b < B; b++) ck_assert_int_eq(memcmp(sub.white + b * D, im.white + idx[b] * D, D * sizeof *out), 0);
    ck_assert(sub.zca == &z);
    rt_images_fini(&sub);
    rt_images_fini(&im);
    rt_zca_fini(&z);
}
END_TEST

START_TEST(stored_transforms_come_back)
{
    rt_images im = make(300);
    rt_zca z, y;
    rt_commit *c;
    char dir[] = "/tmp/retort_zca_XXXXXX", path[64], file[96];
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/zca", dir);
    rt_ok(rt_zca_fit(&im, 0.1, 2, &z));
    rt_ok(rt_commit_begin(path, &c));
    rt_ok(rt_zca_write(&z, c));
    json_t *m = json_pack("{s:s}", "kind", "zca");
    rt_ok(rt_commit_finish(c, m));
    rt_ok(rt_zca_read(path, &y));
    ck_assert_str_eq(z.hash, y.hash);
    ck_assert(y.d == D && y.h == S && y.w == S);
    rt_assert_near(y.eps, 0.1, 1e-12, 0);
    ck_assert_int_eq(memcmp(z.transform, y.transform, (size_t)D * D * 4), 0);
    ck_assert_int_eq(memcmp(z.inverse, y.inverse, (size_t)D * D * 4), 0);
    ck_assert_int_eq(memcmp(z.mean, y.mean, (size_t)D * 4), 0);
    ck_assert_int_eq(memcmp(z.spectrum, y.spectrum, (size_t)D * 8), 0);
    rt_zca_fini(&y);
    snprintf(file, sizeof file, "%s/zca.safetensors", path);
    FILE *f = fopen(file, "r+b");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(fseek(f, -9, SEEK_END), 0);
    ck_assert_int_eq(fputc('x', f), 'x');
    ck_assert_int_eq(fclose(f), 0);
    rt_fails(rt_zca_read(path, &y), RT_ERR_FORMAT);
    json_decref(m);
    rt_ok(rt_fs_remove_tree(dir));
    rt_zca_fini(&z);
    rt_images_fini(&im);
}
END_TEST

START_TEST(refuses_what_cannot_be_whitened)
{
    rt_images im = make(3);
    rt_zca z;
    im.n = 1;
    rt_fails(rt_zca_fit(&im, 0.1, 1, &z), RT_ERR_ARG);
    im.n = 3;
    rt_fails(rt_zca_fit(&im, 0, 1, &z), RT_ERR_ARG);
    rt_ok(rt_zca_fit(&im, 0.1, 1, &z)); /* fewer images than values is fine: that is what eps is for */
    im.h = S / 2;
    rt_fails(rt_zca_attach(&z, 1, &im), RT_ERR_ARG);
    im.h = S;
    rt_zca_fini(&z);
    memset(im.px, 7, 3 * D);
    rt_fails(rt_zca_fit(&im, 0.1, 1, &z), RT_ERR_FORMAT);
    ck_assert(strstr(rt_error_remedy(), "data.zca") != NULL);
    rt_images_fini(&im);
}
END_TEST

static const rt_test tests[] = {
    {"whitened covariance has the stated spectrum", whitened_covariance_has_the_stated_spectrum},
    {"transform solves its equation", transform_solves_its_equation},
    {"same bytes on any number of threads", same_bytes_on_any_number_of_threads},
    {"batches are made of whitened pixels", batches_are_made_of_whitened_pixels},
    {"stored transforms come back", stored_transforms_come_back},
    {"refuses what cannot be whitened", refuses_what_cannot_be_whitened},
};
RT_SUITE("data.zca", tests)
