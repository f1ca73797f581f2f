/* Decoding and resizing against Pillow on small pictures kept in the tree; codecs; refusals. */
#include "data/internal.h"
#include "golden.h"

START_TEST(small_pictures_equal_pillow)
{
    golden_row row[64];
    char *text = NULL;
    size_t n = golden_read("small.tsv", &text, row, 64);
    ck_assert_uint_eq(n, 16);
    for (size_t i = 0; i < n; i++) {
        void *bytes = NULL;
        size_t size = 0;
        rt_ok(rt_fs_read(golden_path(row[i].field[1]), 1 << 20, &bytes, &size));
        golden_check(&row[i], bytes, size);
        rt_free(bytes);
    }
    rt_free(text);
}
END_TEST

START_TEST(region_equals_crop_of_whole)
{
    static const char *const name[] = {"420.jpg",     "422.jpg",  "444.jpg",  "progressive.jpg",
                                       "restart.jpg", "gray.jpg", "cmyk.jpg", "narrow.jpg"};
    rt_rng r = rt_rng_at(1, RT_RNG_TEST, 0, 0);
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) {
        void *bytes = NULL;
        size_t size = 0;
        rt_image all = {0};
        rt_ok(rt_fs_read(golden_path(name[i]), 1 << 20, &bytes, &size));
        rt_ok(rt_decode(bytes, size, name[i], &all, NULL));
        for (int k = 0; k < 200; k++) {
            rt_span s = {.w = 1 + (int32_t)rt_rng_below(&r, (uint32_t)all.w),
                         .h = 1 + (int32_t)rt_rng_below(&r, (uint32_t)all.h)};
            s.x0 = (int32_t)rt_rng_below(&r, (uint32_t)(all.w - s.w + 1));
            s.y0 = (int32_t)rt_rng_below(&r, (uint32_t)(all.h - s.h + 1));
            rt_image part = {0};
            int32_t x0 = -1;
            rt_ok(rt_jpeg_decode_around(bytes, size, name[i], &s, &part, &x0, NULL));
            ck_assert(part.h == s.h && x0 >= 0 && x0 + s.w <= part.w);
            for (int y = 0; y < s.h; y++)
                if (memcmp(part.px + (y * part.w + x0) * 3, all.px + ((s.y0 + y) * all.w + s.x0) * 3, (size_t)s.w * 3))
                    ck_abort_msg("%s: row %d of %dx%d at (%d, %d) differs", name[i], y, s.h, s.w, s.y0, s.x0);
            rt_image_fini(&part);
        }
        rt_span out = {0, 0, all.w + 1, 1};
        rt_image part = {0};
        int32_t x0 = -1;
        rt_fails(rt_jpeg_decode_around(bytes, size, name[i], &out, &part, &x0, NULL), RT_ERR_FORMAT);
        ck_assert(x0 == -1 && !part.px);
        rt_image_fini(&all);
        rt_free(bytes);
    }
}
END_TEST

START_TEST(png_round_trip_is_identity)
{
    static const int size[][2] = {{1, 1}, {32, 32}, {7, 190}, {64, 1}};
    for (size_t i = 0; i < 4; i++) {
        int h = size[i][0], w = size[i][1];
        uint8_t *px = rt_malloc((size_t)(h * w * 3));
        paint(px, h, w, (uint32_t)i);
        void *a = NULL, *b = NULL;
        size_t na = 0, nb = 0;
        rt_image im = {0};
        rt_ok(rt_png_encode(px, h, w, &a, &na));
        rt_ok(rt_png_encode(px, h, w, &b, &nb));
        ck_assert_uint_eq(na, nb);
        ck_assert_mem_eq(a, b, na);
        rt_ok(rt_decode(a, na, "png", &im, NULL));
        ck_assert(im.h == h && im.w == w);
        ck_assert_mem_eq(im.px, px, (size_t)(h * w * 3));
        rt_image_fini(&im);
        for (size_t cut = 0; cut + 16 < na; cut += 1 + na / 50) /* cut before the pixels end (12 bytes are IEND) */
            rt_fails(rt_decode(a, cut, "cut", &im, NULL), RT_ERR_FORMAT);
        rt_free(a);
        rt_free(b);
        rt_free(px);
    }
    void *p = NULL;
    size_t n = 0;
    rt_fails(rt_png_encode((uint8_t *)"", 0, 1, &p, &n), RT_ERR_ARG);
}
END_TEST

START_TEST(jpeg_encoder_is_deterministic_and_close)
{
    enum { H = 40, W = 56 };
    uint8_t px[H * W * 3];
    for (int i = 0; i < H * W * 3; i++) px[i] = (uint8_t)(i / 3 % W * 4); /* smooth */
    void *a = NULL, *b = NULL;
    size_t na = 0, nb = 0;
    rt_image im = {0};
    int warnings = -1;
    rt_ok(rt_jpeg_encode(px, H, W, 95, &a, &na));
    rt_ok(rt_jpeg_encode(px, H, W, 95, &b, &nb));
    ck_assert_uint_eq(na, nb);
    ck_assert_mem_eq(a, b, na);
    rt_ok(rt_decode(a, na, "jpeg", &im, &warnings));
    ck_assert_int_eq(warnings, 0);
    double worst = 0;
    for (int i = 0; i < H * W * 3; i++) worst = fmax(worst, fabs((double)px[i] - im.px[i]));
    ck_assert(worst <= 6);
    rt_image_fini(&im);
    rt_fails(rt_jpeg_encode(px, H, W, 0, &a, &na), RT_ERR_ARG);
    rt_ok(rt_decode(a, na - 30, "cut", &im, &warnings)); /* damage is a warning; the policy decides */
    ck_assert_int_gt(warnings, 0);
    rt_image_fini(&im);
    rt_free(a);
    rt_free(b);
}
END_TEST

START_TEST(type_is_by_content_and_refusals_say_why)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *says;
    } bad[] = {{"", 0, "empty"},
               {"<html>", 6, "HTML"},
               {"GIF89a", 6, "GIF"},
               {"BM....", 6, "BMP"},
               {"zzzz", 4, "unknown kind"},
               {"\xFF\xD8\xFF", 3, "JPEG refused"},
               {"\x89PNG\r\n\x1a\n", 8, "PNG refused"}};
    rt_image im = {.h = -1};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        rt_fails(rt_decode(bad[i].bytes, bad[i].n, "n02.JPEG", &im, NULL), RT_ERR_FORMAT);
        ck_assert_msg(strstr(rt_error_what(), bad[i].says) && strstr(rt_error_what(), "n02.JPEG"), "%s",
                      rt_error_what());
    }
    ck_assert_int_eq(im.h, -1);
}
END_TEST

START_TEST(sixteen_bit_png_keeps_the_high_byte)
{
    /* 1 x 2 gray, 16 bits: 0x12FF and 0x8000; written by hand so that no encoder's choice enters. */
    static const uint8_t png[] = {0x89, 'P',  'N',  'G', 13,   10,   26,   10,  0,   0,    0,    13,   'I',  'H',  'D',
                                  'R',  0,    0,    0,   2,    0,    0,    0,   1,   16,   0,    0,    0,    0,    0,
                                  0,    0,    0,    0,   0,    0,    16,   'I', 'D', 'A',  'T',  0x78, 0x01, 0x01, 5,
                                  0,    0xFA, 0xFF, 0,   0x12, 0xFF, 0x80, 0,   0,   0,    0,    0,    0,    0,    0,
                                  0,    0,    0,    0,   0,    'I',  'E',  'N', 'D', 0xAE, 0x42, 0x60, 0x82};
    uint8_t file[sizeof png];
    memcpy(file, png, sizeof png);
    const uint8_t raw[5] = {0, 0x12, 0xFF, 0x80, 0};
    uint32_t a = 1, b = 0;
    for (int i = 0; i < 5; i++) b += a += raw[i];
    uint32_t adler = b << 16 | a;
    for (int i = 0; i < 4; i++) file[53 + i] = (uint8_t)(adler >> (24 - 8 * i));
    uint32_t crc = rt_crc32(0, file + 12, 17);
    for (int i = 0; i < 4; i++) file[29 + i] = (uint8_t)(crc >> (24 - 8 * i));
    crc = rt_crc32(0, file + 37, 20);
    for (int i = 0; i < 4; i++) file[57 + i] = (uint8_t)(crc >> (24 - 8 * i));
    rt_image im = {0};
    rt_ok(rt_decode(file, sizeof file, "16 bit", &im, NULL));
    static const uint8_t want[6] = {0x12, 0x12, 0x12, 0x80, 0x80, 0x80};
    ck_assert_mem_eq(im.px, want, 6);
    rt_image_fini(&im);
}
END_TEST

START_TEST(resize_checks_its_arguments)
{
    uint8_t px[4 * 4 * 3] = {0}, out[300];
    rt_image im = {4, 4, px};
    rt_fails(rt_resize(&im, 0, 0, 5, 4, 2, 2, RT_BILINEAR, out), RT_ERR_ARG);
    rt_fails(rt_resize(&im, -1, 0, 2, 2, 2, 2, RT_BILINEAR, out), RT_ERR_ARG);
    rt_fails(rt_resize(&im, 0, 0, 4, 4, 0, 2, RT_BILINEAR, out), RT_ERR_ARG);
    rt_fails(rt_crop_resize(&im, 3, 3, 2, 1, 2, 2, RT_BILINEAR, out), RT_ERR_ARG);
    rt_fails(rt_preset_apply(&(rt_preset){.size = 8, .resize = 4, .filter = RT_BILINEAR}, &im, out), RT_ERR_CONFIG);
}
END_TEST

static const rt_test tests[] = {
    {"small pictures equal Pillow", small_pictures_equal_pillow},
    {"region equals crop of whole", region_equals_crop_of_whole},
    {"PNG round trip is identity", png_round_trip_is_identity},
    {"JPEG encoder is deterministic and close", jpeg_encoder_is_deterministic_and_close},
    {"type is by content and refusals say why", type_is_by_content_and_refusals_say_why},
    {"16-bit PNG keeps the high byte", sixteen_bit_png_keeps_the_high_byte},
    {"resize checks its arguments", resize_checks_its_arguments},
};
RT_SUITE("data.decode", tests)
