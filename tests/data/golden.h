/* Compares decoding and resizing with the hashes that tests/golden/data/make.py took from Pillow. */
#ifndef RT_TESTS_DATA_GOLDEN_H
#define RT_TESTS_DATA_GOLDEN_H

#include "fixture.h"

enum { GOLDEN_FIELDS = 10 };

typedef struct golden_row {
    char *field[GOLDEN_FIELDS]; /* tar, key, height, width, decode, tv1, bicubic, squash, box, crop */
} golden_row;

static inline const char *golden_path(const char *name)
{
    static char path[PATH_MAX];
    const char *src = getenv("RT_SOURCE_DIR");
    rt_ok(rt_fs_join(path, sizeof path, src ? src : ".", "tests/golden/data"));
    rt_ok(rt_fs_join(path + strlen(path), sizeof path - strlen(path), "/", name));
    return path;
}

/* Rows of a table; *text owns the strings. */
static inline size_t golden_read(const char *name, char **text, golden_row *row, size_t cap)
{
    void *bytes = NULL;
    size_t size = 0, n = 0;
    rt_ok(rt_fs_read(golden_path(name), 1 << 20, &bytes, &size));
    *text = bytes;
    char *p = strchr(*text, '\n');
    ck_assert_ptr_nonnull(p);
    for (p++; *p; n++) {
        ck_assert_uint_lt(n, cap);
        char *eol = strchr(p, '\n');
        ck_assert_ptr_nonnull(eol);
        *eol = 0;
        for (int f = 0; f < GOLDEN_FIELDS; f++) {
            row[n].field[f] = strsep(&p, "\t");
            ck_assert_ptr_nonnull(row[n].field[f]);
        }
        p = eol + 1;
    }
    return n;
}

static inline void golden_same(const golden_row *r, int field, const char *op, const uint8_t *px, size_t n)
{
    const char *got = sha(px, n);
    if (strcmp(got, r->field[field])) ck_abort_msg("%s %s: %s differs from Pillow", r->field[0], r->field[1], op);
}

static inline void golden_check(const golden_row *r, const void *bytes, size_t n)
{
    rt_image im = {0};
    static uint8_t out[224 * 224 * 3];
    rt_ok(rt_decode(bytes, n, r->field[1], &im, NULL));
    ck_assert_int_eq(im.h, atoi(r->field[2]));
    ck_assert_int_eq(im.w, atoi(r->field[3]));
    golden_same(r, 4, "decode", im.px, (size_t)im.h * (size_t)im.w * 3);
    rt_ok(rt_preset_apply(&(rt_preset){.size = 224, .resize = 256, .filter = RT_BILINEAR}, &im, out));
    golden_same(r, 5, "tv1", out, sizeof out);
    rt_ok(rt_preset_apply(&(rt_preset){.size = 224, .resize = 235, .filter = RT_BICUBIC}, &im, out));
    golden_same(r, 6, "bicubic", out, sizeof out);
    rt_ok(rt_preset_apply(&(rt_preset){.size = 64, .filter = RT_BILINEAR}, &im, out));
    golden_same(r, 7, "squash", out, 64 * 64 * 3);
    int x = im.w / 5, y = im.h / 7, bw = im.w * 3 / 5, bh = im.h * 2 / 3;
    bw = bw > 1 ? bw : 1;
    bh = bh > 1 ? bh : 1;
    rt_ok(rt_resize(&im, x, y, bw, bh, 80, 96, RT_BICUBIC, out));
    golden_same(r, 8, "box", out, 80 * 96 * 3);
    rt_ok(rt_crop_resize(&im, x, y, bw, bh, 100, 100, RT_BILINEAR, out));
    golden_same(r, 9, "crop", out, 100 * 100 * 3);
    rt_image_fini(&im);
}

#endif
