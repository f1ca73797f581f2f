/* The real images: decode and resize equal Pillow, partial decode equals whole decode, odd files are survived. */
#include <sys/resource.h>
#include <time.h>

#include "data/internal.h"
#include "golden.h"

RT_NEEDS_REAL_DATA

static rt_dataset *open_tar(const char *tar)
{
    rt_dataset *d = NULL;
    rt_data_source src = {.kind = "wds", .path = real(tar), .classes = "numbered:1000"};
    rt_ok(rt_dataset_open(&src, &d));
    return d;
}

START_TEST(real_pictures_equal_pillow)
{
    golden_row row[128];
    char *text = NULL;
    size_t n = golden_read("real.tsv", &text, row, 128), done = 0;
    const char *tar = "";
    rt_dataset *d = NULL;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(tar, row[i].field[0])) {
            rt_dataset_close(d);
            d = open_tar(tar = row[i].field[0]);
        }
        for (int64_t k = 0; k < rt_dataset_count(d); k++) {
            if (strcmp(rt_dataset_key(d, k), row[i].field[1])) continue;
            void *bytes = NULL;
            size_t size = 0;
            rt_ok(rt_dataset_read(d, k, &bytes, &size));
            golden_check(&row[i], bytes, size);
            rt_free(bytes);
            done++;
        }
    }
    ck_assert_uint_eq(done, n);
    ck_assert_uint_ge(n, 60);
    rt_dataset_close(d);
    rt_free(text);
}
END_TEST

START_TEST(partial_decode_equals_whole)
{
    rt_dataset *d = open_tar("imagenet1k-sample-000000.tar");
    rt_view v = {.rrc = true, .scale = {0.08f, 1}, .ratio = {0.75f, 4.0f / 3}};
    for (int64_t i = 0; i < rt_dataset_count(d); i += 2) {
        void *bytes = NULL;
        size_t n = 0;
        rt_image all = {0};
        rt_ok(rt_dataset_read(d, i, &bytes, &n));
        rt_ok(rt_decode(bytes, n, rt_dataset_key(d, i), &all, NULL));
        for (uint32_t k = 0; k < 3; k++) {
            rt_view_box b;
            rt_image part = {0};
            rt_ok(rt_view_draw(&v, all.h, all.w, 11, (uint64_t)i, k, &b));
            rt_span s = {b.x0, b.y0, b.w, b.h};
            int32_t x0 = -1;
            rt_ok(rt_jpeg_decode_around(bytes, n, rt_dataset_key(d, i), &s, &part, &x0, NULL));
            for (int y = 0; y < s.h; y++)
                if (memcmp(part.px + ((size_t)y * (size_t)part.w + (size_t)x0) * 3,
                           all.px + ((size_t)(s.y0 + y) * (size_t)all.w + (size_t)s.x0) * 3, (size_t)s.w * 3))
                    ck_abort_msg("%s: row %d of %dx%d at (%d, %d) differs", rt_dataset_key(d, i), y, s.h, s.w, s.y0,
                                 s.x0);
            rt_image_fini(&part);
        }
        rt_image_fini(&all);
        rt_free(bytes);
    }
    rt_dataset_close(d);
}
END_TEST

/* The verdict column of odd-jpeg-index.tsv for a key: 'o'k, 'w'arning, 'e'rror. */
static char verdict_of(const char *index, const char *key)
{
    size_t n = strlen(key);
    for (const char *p = index; p && *p; p = strchr(p, '\n'), p = p ? p + 1 : p) {
        if (strncmp(p, key, n) || p[n] != '\t') continue;
        return strchr(p + n + 1, '\t')[1];
    }
    ck_abort_msg("%s is not in the index", key);
    return 0;
}

START_TEST(odd_files_are_decoded_or_refused_with_a_reason)
{
    rt_dataset *d = open_tar("odd-jpeg-000000.tar");
    void *index = NULL;
    size_t size = 0;
    rt_ok(rt_fs_read(real("odd-jpeg-index.tsv"), 1 << 20, &index, &size));
    ck_assert_int_eq(rt_dataset_count(d), 192);
    int decoded = 0, refused = 0;
    for (int64_t i = 0; i < 192; i++) {
        const char *key = rt_dataset_key(d, i);
        char verdict = verdict_of(index, key);
        void *bytes = NULL;
        size_t n = 0;
        int warnings = -1;
        rt_image im = {0};
        struct timespec t0, t1;
        rt_ok(rt_dataset_read(d, i, &bytes, &n));
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t0);
        rt_status st = rt_decode(bytes, n, key, &im, &warnings);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t1);
        double s = (double)(t1.tv_sec - t0.tv_sec) + 1e-9 * (double)(t1.tv_nsec - t0.tv_nsec);
        if (s > 5.0) ck_abort_msg("%s: %.1f s of processor time", key, s);
        if (st == RT_OK) {
            decoded++;
            if (verdict == 'o' && warnings) ck_abort_msg("%s: %d warnings where djpeg has none", key, warnings);
            if (verdict == 'w' && !warnings) ck_abort_msg("%s: no warning where djpeg warns", key);
            /* Hashing reads every byte: memory checkers see what was never written. */
            ck_assert_uint_eq(strlen(sha(im.px, (size_t)im.h * (size_t)im.w * 3)), 64);
            rt_image_fini(&im);
        } else {
            refused++;
            ck_assert_int_eq(st, RT_ERR_FORMAT);
            ck_assert_ptr_nonnull(strstr(rt_error_what(), key));
            bool cap = strstr(rt_error_what(), "at most") || strstr(rt_error_what(), "scans");
            if (verdict != 'e' && !cap) ck_abort_msg("refused where djpeg decodes: %s", rt_error_what());
        }
        rt_free(bytes);
    }
    printf("odd files: %d decoded, %d refused, peak %zu MiB\n", decoded, refused, rt_peak_rss_bytes() >> 20);
    ck_assert_int_ge(decoded, 50);
    rt_free(index);
    rt_dataset_close(d);
}
END_TEST

static const rt_test tests[] = {
    {"real pictures equal Pillow", real_pictures_equal_pillow},
    {"partial decode equals whole", partial_decode_equals_whole},
    {"odd files are decoded or refused with a reason", odd_files_are_decoded_or_refused_with_a_reason},
};
RT_SUITE("data.real", tests)
