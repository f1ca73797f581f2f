/* What the data suites share: temporary folders, the real images, hashing, and a tar writer that can write bad tars. */
#ifndef RT_TESTS_DATA_FIXTURE_H
#define RT_TESTS_DATA_FIXTURE_H

#include <limits.h>
#include <stdint.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/rng.h"
#include "data/data.h"
#include "support/suite.h"

/* Folder of the real images, or NULL. */
static inline const char *shared_data(void)
{
    static char path[PATH_MAX];
    const char *env = getenv("RT_SHARED_DATA"), *src = getenv("RT_SOURCE_DIR");
    if (env)
        snprintf(path, sizeof path, "%s", env);
    else
        snprintf(path, sizeof path, "%s/../shared/data", src ? src : ".");
    return rt_fs_is_dir(path) ? path : NULL;
}

/* Put into a suite that is nothing without the real images: ctest then shows it as skipped. */
#define RT_NEEDS_REAL_DATA                                                                                             \
    __attribute__((constructor)) static void need_real_data(void)                                                      \
    {                                                                                                                  \
        if (shared_data()) return;                                                                                     \
        printf("skipped: the real images are not here; set RT_SHARED_DATA to their folder\n");                         \
        fflush(stdout);                                                                                                \
        _exit(77);                                                                                                     \
    }

static inline const char *real(const char *name)
{
    static char path[4][PATH_MAX];
    static int turn;
    char *p = path[turn++ & 3];
    rt_ok(rt_fs_join(p, PATH_MAX, shared_data(), name));
    return p;
}

/* A fresh folder, removed by temp_gone. */
static inline char *temp_folder(void)
{
    static char path[PATH_MAX];
    const char *t = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/retort-test-XXXXXX", t ? t : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(path));
    return path;
}
static inline void temp_gone(const char *path)
{
    rt_ok(rt_fs_remove_tree(path));
}

static inline void put_file(const char *dir, const char *name, const void *bytes, size_t n)
{
    char path[PATH_MAX], parent[PATH_MAX];
    rt_ok(rt_fs_join(path, sizeof path, dir, name));
    snprintf(parent, sizeof parent, "%s", path);
    *strrchr(parent, '/') = 0;
    rt_ok(rt_fs_mkdirs(parent));
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(bytes, 1, n, f), n);
    ck_assert_int_eq(fclose(f), 0);
}
static inline void put_text(const char *dir, const char *name, const char *text)
{
    put_file(dir, name, text, strlen(text));
}

static inline const char *sha(const void *p, size_t n)
{
    static char hex[RT_HASH_HEX];
    rt_ok(rt_hash_bytes(p, n, hex));
    return hex;
}

/* A smooth colour picture with some texture; any size. */
static inline void paint(uint8_t *px, int h, int w, uint32_t seed)
{
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++)
            for (int c = 0; c < 3; c++) {
                uint32_t v =
                    (uint32_t)(x * (3 + c) + y * (5 - c)) + seed * 37u + ((uint32_t)(x * y) >> 4) * (uint32_t)(c + 1);
                px[(y * w + x) * 3 + c] = (uint8_t)(v & 255u);
            }
}

/* --- tar writer --------------------------------------------------------------------------------------------------- */
typedef struct tar_out {
    uint8_t *bytes;
    size_t n;
} tar_out;

static inline void tar_raw(tar_out *t, const void *p, size_t n)
{
    t->bytes = realloc(t->bytes, t->n + n + 512);
    ck_assert_ptr_nonnull(t->bytes);
    memcpy(t->bytes + t->n, p, n);
    t->n += n;
}

static inline void tar_pad(tar_out *t)
{
    static const uint8_t zero[512];
    if (t->n % 512) tar_raw(t, zero, 512 - t->n % 512);
}

static inline void tar_header(tar_out *t, const char *name, char type, const char *link, unsigned long long size)
{
    char h[512] = {0};
    memcpy(h, name, strnlen(name, 100));
    memcpy(h + 100, "0000644", 7);
    memcpy(h + 108, "0000000", 7);
    memcpy(h + 116, "0000000", 7);
    snprintf(h + 124, 12, "%011llo", size & 077777777777ull);
    memcpy(h + 136, "00000000000", 11);
    h[156] = type;
    if (link) memcpy(h + 157, link, strnlen(link, 100));
    memcpy(h + 257, "ustar\00000", 8);
    memset(h + 148, ' ', 8);
    unsigned sum = 0;
    for (int i = 0; i < 512; i++) sum += (uint8_t)h[i];
    snprintf(h + 148, 8, "%06o", sum);
    tar_raw(t, h, 512);
}

static inline void tar_file(tar_out *t, const char *name, const void *p, size_t n)
{
    tar_header(t, name, '0', NULL, n);
    tar_raw(t, p, n);
    tar_pad(t);
}

static inline void tar_end(tar_out *t)
{
    static const uint8_t zero[1024];
    tar_raw(t, zero, sizeof zero);
}

/* A sample of one small PNG and its label. */
static inline void tar_sample(tar_out *t, const char *key, const char *label, uint32_t seed)
{
    uint8_t px[8 * 8 * 3];
    char name[256];
    void *png = NULL;
    size_t n = 0;
    paint(px, 8, 8, seed);
    rt_ok(rt_png_encode(px, 8, 8, &png, &n));
    snprintf(name, sizeof name, "%s.cls", key);
    tar_file(t, name, label, strlen(label));
    snprintf(name, sizeof name, "%s.png", key);
    tar_file(t, name, png, n);
    rt_free(png);
}

static inline void tar_save(tar_out *t, const char *dir, const char *name)
{
    put_file(dir, name, t->bytes, t->n);
    free(t->bytes);
    *t = (tar_out){0};
}

#endif
