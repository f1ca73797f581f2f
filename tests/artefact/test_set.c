/* rt_set on disk: round trip to the bit, a loadable image folder, and refusal of everything a file could say wrong. */
#include <math.h>

#include "artefact/artefact.h"
#include "base/alloc.h"
#include "scratch.h"

enum { N = 5, H = 2, W = 3, CLASSES = 3, ROW = H * W * 3 };

static const char *const plain_names[] = {"ant", "bee", "cat"};

/* Five images in three classes (2, 1, 2); pixel k of image i is (17 i + 11 k) mod 256 on the 8-bit grid. */
static void make_set(rt_set *s, const char *const *names, bool selection, bool soft)
{
    static const int32_t labels[N] = {0, 0, 1, 2, 2};
    memset(s, 0, sizeof *s);
    *s = (rt_set){.n = N, .h = H, .w = W, .ipc = 2, .norm = {{0.4914f, 0.4822f, 0.4465f}, {0.2023f, 0.1994f, 0.201f}}, .method = "herding"};
    rt_ok(rt_classes_make(names, CLASSES, &s->classes));
    s->px = rt_malloc(N * ROW * sizeof *s->px);
    s->label = rt_malloc(sizeof labels);
    memcpy(s->label, labels, sizeof labels);
    for (int i = 0; i < N * ROW; i++) {
        float p = (float)((17 * (i / ROW) + 11 * (i % ROW)) % 256) / 255.0f;
        s->px[i] = (p - s->norm.mean[i % 3]) / s->norm.std[i % 3];
    }
    if (selection) {
        s->key = rt_calloc(N * sizeof *s->key);
        s->score = rt_malloc(N * sizeof *s->score);
        for (int i = 0; i < N; i++) {
            s->key[i] = rt_asprintf(i == 3 ? "odd, \"quoted\"\nkey %d" : "train/%d.png", i);
            s->score[i] = 1.0 / (i + 3);
        }
    }
    if (soft) {
        s->soft = rt_malloc(N * CLASSES * sizeof *s->soft);
        for (int i = 0; i < N * CLASSES; i++) s->soft[i] = i % 3 == 0 ? 0.5f : i % 3 == 1 ? 0.375f : 0.125f;
    }
}

static rt_status store(const rt_set *s, const char *path, int64_t *image_bytes, int64_t *label_bytes)
{
    rt_status st = RT_OK;
    rt_commit *c = NULL;
    json_t *m = json_pack("{s:s, s:s}", "kind", "set", "classes_hash", s->classes.hash);
    RT_TRY(rt_commit_begin(path, &c));
    RT_TRY(rt_set_write(s, c, image_bytes, label_bytes));
    rt_commit *whole = c;
    c = NULL;
    RT_TRY(rt_commit_finish(whole, m));
out:
    rt_commit_abort(c);
    json_decref(m);
    return st;
}

START_TEST(round_trip_is_exact)
{
    const char *dir = strdup(scratch("set-trip"));
    for (int kind = 0; kind < 4; kind++) {
        rt_set a, b;
        json_t *m = NULL;
        int64_t image_bytes = 0, label_bytes = 0, png = 0;
        char path[PATH_MAX];
        make_set(&a, plain_names, kind & 1, kind & 2);
        a.px[4] = 7.25f; /* out of the 8-bit range: clipped in the PNG, kept in the tensor */
        snprintf(path, sizeof path, "%s/%d", dir, kind);
        rt_ok(store(&a, path, &image_bytes, &label_bytes));
        rt_ok(rt_set_read(path, true, &b, &m));
        ck_assert_int_eq(b.n, N);
        ck_assert_int_eq(b.h, H);
        ck_assert_int_eq(b.w, W);
        ck_assert_int_eq(b.ipc, 2);
        ck_assert_str_eq(b.method, "herding");
        ck_assert_str_eq(b.classes.hash, a.classes.hash);
        ck_assert_mem_eq(b.px, a.px, N * ROW * sizeof *a.px);
        ck_assert_mem_eq(b.label, a.label, N * sizeof *a.label);
        ck_assert_mem_eq(&b.norm, &a.norm, sizeof a.norm);
        ck_assert((b.key != NULL) == (kind & 1) && (b.score != NULL) == (kind & 1) && (b.soft != NULL) == !!(kind & 2));
        for (int i = 0; b.key && i < N; i++) ck_assert_str_eq(b.key[i], a.key[i]);
        if (b.score) ck_assert_mem_eq(b.score, a.score, N * sizeof *a.score);
        if (b.soft) ck_assert_mem_eq(b.soft, a.soft, N * CLASSES * sizeof *a.soft);
        ck_assert_int_eq(label_bytes, kind & 2 ? N * CLASSES * 4 : N);
        static const char *const files[] = {"ant/00000", "ant/00001", "bee/00000", "cat/00000", "cat/00001"};
        for (int i = 0; i < N; i++) {
            char name[64];
            void *bytes = NULL;
            size_t n = 0;
            rt_image im = {0};
            snprintf(name, sizeof name, "images/%s.png", files[i]);
            rt_ok(rt_fs_read(below(path, name), 1 << 20, &bytes, &n));
            rt_ok(rt_decode(bytes, n, name, &im, NULL));
            ck_assert(im.h == H && im.w == W);
            for (int k = 0; k < ROW; k++) ck_assert_int_eq(im.px[k], i == 0 && k == 4 ? 255 : (17 * i + 11 * k) % 256);
            png += (int64_t)n;
            rt_image_fini(&im);
            rt_free(bytes);
        }
        ck_assert_int_eq(image_bytes, png);
        json_decref(m);
        rt_set_fini(&a);
        rt_set_fini(&b);
    }
    free((void *)dir);
}
END_TEST

/* What optimised sets add: learned rate, logits, tiles, space, notes, trace. */
START_TEST(optimised_sets_round_trip)
{
    const char *dir = strdup(scratch("set-more"));
    static const char zca[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    for (int kind = 0; kind < 3; kind++) { /* unit, zca, neither */
        rt_set a, b;
        rt_images im;
        json_t *m = json_object(), *plain = json_object();
        char path[PATH_MAX];
        int64_t x, y;
        make_set(&a, plain_names, false, true);
        a.soft_logits = true;
        a.soft[4] = -7.5f;
        a.step_size = 0.0123456789f;
        a.factor = 2;
        a.notes = rt_strdup("{\"skipped\": 3, \"deviations\": [\"real batches are random\"]}");
        a.trace = rt_strdup("iteration,loss\n0,1.5\n1,1.25\n");
        for (int i = 0; i < N * ROW && kind == 0; i++) a.px[i] = a.px[i] * a.norm.std[i % 3] + a.norm.mean[i % 3];
        a.unit = kind == 0;
        if (kind == 1) {
            memcpy(a.zca, zca, sizeof zca);
            a.rgb = rt_malloc(N * ROW);
            for (int i = 0; i < N * ROW; i++) a.rgb[i] = (uint8_t)(255 - i);
        }
        snprintf(path, sizeof path, "%s/%d", dir, kind);
        rt_ok(store(&a, path, &x, &y));
        rt_ok(rt_set_read(path, true, &b, NULL));
        ck_assert_mem_eq(b.px, a.px, N * ROW * sizeof *a.px);
        ck_assert_mem_eq(b.soft, a.soft, N * CLASSES * sizeof *a.soft);
        ck_assert(b.soft_logits && b.factor == 2 && b.unit == a.unit);
        ck_assert_mem_eq(&b.step_size, &a.step_size, sizeof b.step_size);
        ck_assert_str_eq(b.zca, a.zca);
        ck_assert_str_eq(b.trace, a.trace);
        ck_assert_ptr_nonnull(strstr(b.notes, "real batches are random"));
        rt_ok(rt_set_stored(&b, &im));
        for (int i = 0; i < N * ROW; i++)
            ck_assert_int_eq(im.px[i], kind == 1 ? (uint8_t)(255 - i) : (17 * (i / ROW) + 11 * (i % ROW)) % 256);
        rt_images_fini(&im);
        rt_ok(rt_set_describe(&b, m));
        ck_assert_str_eq(json_string_value(json_object_get(m, "space")), kind == 0 ? "unit" : kind == 1 ? "zca" : "normalised");
        ck_assert(kind == 1 ? json_is_string(json_object_get(m, "zca")) : json_is_null(json_object_get(m, "zca")));
        ck_assert_str_eq(json_string_value(json_object_get(m, "soft_labels")), "logits");
        ck_assert_int_eq(json_integer_value(json_object_get(m, "factor")), 2);
        ck_assert_int_eq(json_integer_value(json_object_get(json_object_get(m, "notes"), "skipped")), 3);
        ck_assert(json_real_value(json_object_get(m, "step_size")) == (double)a.step_size);
        rt_set_fini(&a);
        rt_set_fini(&b);

        make_set(&a, plain_names, true, false); /* a plain selection has none of it, and says so */
        snprintf(path, sizeof path, "%s/plain%d", dir, kind);
        rt_ok(store(&a, path, &x, &y));
        rt_ok(rt_set_read(path, true, &b, NULL));
        ck_assert(isnan(b.step_size) && b.factor == 1 && !b.unit && !b.zca[0] && !b.soft_logits && !b.notes && !b.trace && !b.rgb);
        rt_ok(rt_set_describe(&b, plain));
        ck_assert_str_eq(json_string_value(json_object_get(plain, "soft_labels")), "none");
        ck_assert(json_is_null(json_object_get(plain, "step_size")) && json_is_null(json_object_get(plain, "notes")));
        rt_set_fini(&a);
        rt_set_fini(&b);
        json_decref(m);
        json_decref(plain);
    }
    free((void *)dir);
}
END_TEST

/* Tiles of an image whose value is a ramp: bilinear with pixel centres at half reproduces it inside and clamps at the edge. */
START_TEST(tiles_are_decoded_class_by_class)
{
    enum { SIDE = 6, PX = SIDE * SIDE * 3 };
    static const char *const two[] = {"a", "b"};
    for (int f = 1; f <= 4; f++) {
        rt_set s = {.n = 3, .h = SIDE, .w = SIDE, .ipc = 2, .factor = f, .unit = true, .norm = {{0.5f, 0.25f, 0}, {0.5f, 2, 1}}}, d;
        rt_ok(rt_classes_make(two, 2, &s.classes));
        s.px = rt_calloc(3 * PX * sizeof *s.px);
        s.label = rt_calloc(3 * sizeof *s.label);
        s.soft = rt_calloc(6 * sizeof *s.soft);
        s.soft_logits = true;
        s.label[2] = 1;
        s.soft[5] = 2.0f;
        for (int i = 0; i < 3 * PX; i++) s.px[i] = (float)(i / PX) + 0.01f * (float)(i / 3 % SIDE) + 0.1f * (float)(i / 3 / SIDE % SIDE);
        rt_ok(rt_set_decode(&s, &d));
        ck_assert_int_eq(d.n, 3 * f * f);
        ck_assert_int_eq(d.ipc, 2 * f * f);
        ck_assert(!d.unit && !d.soft_logits && d.factor == 1);
        int tile = (SIDE + f - 1) / f;
        for (int64_t i = 0; i < d.n; i++) {
            int cls = i >= 2 * f * f, k = cls ? (int)i - 2 * f * f : (int)i / 2, from = cls ? 2 : (int)i % 2;
            ck_assert_int_eq(d.label[i], cls);
            ck_assert_float_eq_tol(d.soft[2 * i + 1], from == 2 ? 0.880797f : 0.5f, 1e-6f);
            for (int y = 0; y < SIDE; y++)
                for (int x = 0; x < SIDE; x++) {
                    double at[2] = {(y + 0.5) * tile / SIDE - 0.5, (x + 0.5) * tile / SIDE - 0.5}, p;
                    for (int q = 0; q < 2; q++) at[q] = at[q] < 0 ? 0 : at[q] > tile - 1 ? tile - 1 : at[q];
                    double gy = at[0] + k / f * tile, gx = at[1] + k % f * tile;
                    p = from + 0.1 * gy + 0.01 * gx;
                    if (gy > SIDE - 1 || gx > SIDE - 1) { /* between the image and the padding, or in it */
                        double over = gy > SIDE - 1 ? gy - (SIDE - 1) : 0, side = gx > SIDE - 1 ? gx - (SIDE - 1) : 0;
                        over = over > 1 ? 1 : over, side = side > 1 ? 1 : side;
                        double inside = from + 0.1 * (gy > SIDE - 1 ? SIDE - 1 : gy) + 0.01 * (gx > SIDE - 1 ? SIDE - 1 : gx);
                        p = 0.5 + (inside - 0.5) * (1 - over) * (1 - side);
                    }
                    const float *v = d.px + ((i * SIDE + y) * SIDE + x) * 3;
                    ck_assert_double_eq_tol((double)v[0], (p - 0.5) / 0.5, 2e-5);
                    ck_assert_double_eq_tol((double)v[1], (p - 0.25) / 2, 2e-5);
                    ck_assert_double_eq_tol((double)v[2], p, 2e-5);
                }
        }
        rt_set_fini(&s);
        rt_set_fini(&d);
    }
}
END_TEST

/* Names out of byte order, or unfit for a path: the folders' order is still the label order. */
START_TEST(folders_keep_the_label_order)
{
    static const char *const unordered[] = {"10", "9", "1"}, *const unfit[] = {"a/b", "..", "tab\ta\xc3\xa9"};
    const char *dir = strdup(scratch("set-order"));
    rt_set s, b;
    int64_t x, y;
    char **names = NULL;
    size_t n = 0;
    make_set(&s, unordered, false, false);
    rt_ok(store(&s, below(dir, "u"), &x, &y));
    rt_set_fini(&s);
    make_set(&s, unfit, false, false);
    rt_ok(store(&s, below(dir, "f"), &x, &y));
    rt_ok(rt_set_read(below(dir, "f"), true, &b, NULL));
    ck_assert_str_eq(b.classes.name[1], "..");
    rt_set_fini(&s);
    rt_set_fini(&b);
    rt_ok(rt_fs_list(below(dir, "u/images"), &names, &n));
    ck_assert_uint_eq(n, 3);
    ck_assert_str_eq(names[0], "0_10");
    ck_assert_str_eq(names[1], "1_9");
    ck_assert_str_eq(names[2], "2_1");
    rt_fs_list_free(names, n);
    rt_ok(rt_fs_list(below(dir, "f/images"), &names, &n));
    ck_assert_uint_eq(n, 3);
    ck_assert_str_eq(names[0], "0_a_b");
    ck_assert_str_eq(names[1], "1_..");
    ck_assert_str_eq(names[2], "2_tab_a__");
    rt_fs_list_free(names, n);
    ck_assert(!rt_fs_exists(below(dir, "u.tmp")));
    free((void *)dir);
}
END_TEST

START_TEST(broken_results_are_not_written)
{
    const char *path = strdup(below(scratch("set-nan"), "s"));
    rt_set s;
    int64_t x = -1, y = -1;
    make_set(&s, plain_names, true, true);
    float kept = s.px[2 * ROW];
    s.px[2 * ROW] = NAN;
    rt_fails(store(&s, path, &x, &y), RT_ERR_NUMERIC);
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "image 2"));
    s.px[2 * ROW] = kept;
    s.soft[3] = INFINITY;
    rt_fails(store(&s, path, &x, &y), RT_ERR_NUMERIC);
    s.soft[3] = 0.25f;
    rt_fails(store(&s, path, &x, &y), RT_ERR_ARG);
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "sums to 0.75"));
    s.soft_logits = true; /* logits may sum to anything */
    char beside[PATH_MAX];
    snprintf(beside, sizeof beside, "%s-logits", path);
    rt_ok(store(&s, beside, &x, &y));
    s.soft_logits = false;
    s.soft[3] = 0.5f;
    x = y = -1;
    s.step_size = INFINITY;
    rt_fails(store(&s, path, &x, &y), RT_ERR_NUMERIC);
    s.step_size = -0.5f;
    rt_fails(store(&s, path, &x, &y), RT_ERR_ARG);
    s.step_size = 0;
    s.factor = H + 1;
    rt_fails(store(&s, path, &x, &y), RT_ERR_ARG);
    s.factor = 0;
    memset(s.zca, 'a', RT_HASH_HEX - 1);
    rt_fails(store(&s, path, &x, &y), RT_ERR_ARG); /* no 8-bit images */
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "8-bit"));
    memset(s.zca, 0, RT_HASH_HEX);
    s.notes = rt_strdup("[1]");
    rt_fails(store(&s, path, &x, &y), RT_ERR_ARG);
    rt_free(s.notes);
    s.notes = NULL;
    s.trace = rt_strdup("iteration,loss");
    rt_fails(store(&s, path, &x, &y), RT_ERR_ARG);
    rt_free(s.trace);
    s.trace = NULL;
    s.score[1] = NAN;
    rt_fails(store(&s, path, &x, &y), RT_ERR_NUMERIC);
    s.score[1] = 0;
    s.label[4] = 3;
    rt_fails(store(&s, path, &x, &y), RT_ERR_ARG);
    s.label[4] = 1; /* after class 2 */
    rt_fails(store(&s, path, &x, &y), RT_ERR_ARG);
    s.label[4] = 2;
    s.norm.std[1] = 0;
    rt_fails(store(&s, path, &x, &y), RT_ERR_ARG);
    s.norm.std[1] = 1;
    s.n = 0;
    rt_fails(store(&s, path, &x, &y), RT_ERR_ARG);
    s.n = N;
    ck_assert_int_eq(x, -1); /* untouched on failure */
    ck_assert(!rt_fs_exists(path));
    rt_ok(store(&s, path, &x, &y));
    rt_set_fini(&s);
    free((void *)path);
}
END_TEST

/* Commits a valid set with one file replaced by given text or tensors. */
typedef struct swap {
    const char *why, *file, *text;
    rt_st_tensor t[3];
    int n_t;
    const char *meta[14];
    const char *says;
} swap;

static rt_status read_swapped(const swap *w, const char *path)
{
    rt_set s, b;
    int64_t x, y;
    rt_commit *c = NULL;
    json_t *m = json_pack("{s:s}", "kind", "set");
    make_set(&s, plain_names, true, false);
    json_object_set_new(m, "classes_hash", json_string(s.classes.hash));
    rt_ok(rt_commit_begin(path, &c));
    rt_ok(rt_set_write(&s, c, &x, &y));
    if (w->text) rt_ok(rt_commit_file(c, w->file, w->text, strlen(w->text)));
    else {
        int pairs = 0;
        while (pairs < 7 && w->meta[2 * pairs]) pairs++;
        rt_ok(rt_st_write(below(rt_commit_dir(c), w->file), w->t, w->n_t, w->meta, pairs));
    }
    rt_ok(rt_commit_finish(c, m));
    json_decref(m);
    rt_set_fini(&s);
    rt_status st = rt_set_read(path, true, &b, NULL);
    if (st == RT_OK) rt_set_fini(&b);
    return st;
}

static const float px[4 * 12 + 1] = {0}, nan_px[24] = {[13] = NAN};
static const int64_t ok_labels[2] = {0, 2}, high[2] = {0, 3}, low[2] = {-1, 0}, huge[2] = {0, 4294967296}, unordered_labels[2] = {1, 0};
static const float soft_labels[8] = {0}, negative[6] = {-1, 1, 1, 0, 0, 1};
#define IMAGES {"images", RT_ST_F32, 4, {2, 2, 2, 3}, px, 96}
#define LABELS(a) {"labels", RT_ST_I64, 1, {2}, a, 16}
#define BASE "method", "dm", "ipc", "1", "mean", "0 0 0", "std", "1 1 1"
#define META {BASE}
#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"
#define ST "set.safetensors"
static const swap swaps[] = {
    {"no images", ST, NULL, {LABELS(ok_labels)}, 1, META, "\"images\""},
    {"images of rank 2", ST, NULL, {{"images", RT_ST_F32, 2, {2, 12}, px, 96}, LABELS(ok_labels)}, 2, META, "\"images\""},
    {"four channels", ST, NULL, {{"images", RT_ST_F32, 4, {2, 2, 2, 4}, px, 128}, LABELS(ok_labels)}, 2, META, "\"images\""},
    {"no image", ST, NULL, {{"images", RT_ST_F32, 4, {0, 2, 2, 3}, px, 0}, {"labels", RT_ST_I64, 1, {0}, ok_labels, 0}}, 2, META, "\"images\""},
    {"no height", ST, NULL, {{"images", RT_ST_F32, 4, {2, 0, 2, 3}, px, 0}, LABELS(ok_labels)}, 2, META, "\"images\""},
    {"images are i32", ST, NULL, {{"images", RT_ST_I32, 4, {2, 2, 2, 3}, px, 96}, LABELS(ok_labels)}, 2, META, "\"images\""},
    {"image not finite", ST, NULL, {{"images", RT_ST_F32, 4, {2, 2, 2, 3}, nan_px, 96}, LABELS(ok_labels)}, 2, META, "image 1"},
    {"no labels", ST, NULL, {IMAGES}, 1, META, "\"labels\""},
    {"one label", ST, NULL, {IMAGES, {"labels", RT_ST_I64, 1, {1}, ok_labels, 8}}, 2, META, "\"labels\""},
    {"labels as f32", ST, NULL, {IMAGES, {"labels", RT_ST_F32, 1, {2}, px, 8}}, 2, META, "\"labels\""},
    {"label too high", ST, NULL, {IMAGES, LABELS(high)}, 2, META, "label 3 of 3"},
    {"label negative", ST, NULL, {IMAGES, LABELS(low)}, 2, META, "label -1"},
    {"label beyond 32 bits", ST, NULL, {IMAGES, LABELS(huge)}, 2, META, "label -1"},
    {"labels out of order", ST, NULL, {IMAGES, LABELS(unordered_labels)}, 2, META, "not in class order"},
    {"soft labels of four classes", ST, NULL, {IMAGES, LABELS(ok_labels), {"soft_labels", RT_ST_F32, 2, {2, 4}, soft_labels, 32}}, 3, META, "soft_labels"},
    {"no std", ST, NULL, {IMAGES, LABELS(ok_labels)}, 2, {"method", "dm", "ipc", "1", "mean", "0 0 0", "x", ""}, "metadata"},
    {"two means", ST, NULL, {IMAGES, LABELS(ok_labels)}, 2, {"method", "dm", "ipc", "1", "mean", "0 0", "std", "1 1 1"}, "metadata"},
    {"mean with a tail", ST, NULL, {IMAGES, LABELS(ok_labels)}, 2, {"method", "dm", "ipc", "1", "mean", "0 0 0x", "std", "1 1 1"}, "metadata"},
    {"std zero", ST, NULL, {IMAGES, LABELS(ok_labels)}, 2, {"method", "dm", "ipc", "1", "mean", "0 0 0", "std", "1 0 1"}, "channel 1"},
    {"std nan", ST, NULL, {IMAGES, LABELS(ok_labels)}, 2, {"method", "dm", "ipc", "1", "mean", "0 0 0", "std", "1 1 nan"}, "channel 2"},
    {"ipc not a number", ST, NULL, {IMAGES, LABELS(ok_labels)}, 2, {"method", "dm", "ipc", "1x", "mean", "0 0 0", "std", "1 1 1"}, "metadata"},
    {"method too long", ST, NULL, {IMAGES, LABELS(ok_labels)}, 2, {"method", "0123456789012345678901234567890123456789", "ipc", "1", "mean", "0 0 0", "std", "1 1 1"}, "metadata"},
    {"soft labels sum to 0", ST, NULL, {IMAGES, LABELS(ok_labels), {"soft_labels", RT_ST_F32, 2, {2, 3}, soft_labels, 24}}, 3, META, "sums to 0"},
    {"a negative probability", ST, NULL, {IMAGES, LABELS(ok_labels), {"soft_labels", RT_ST_F32, 2, {2, 3}, negative, 24}}, 3, META, "probability -1"},
    {"unknown labels", ST, NULL, {IMAGES, LABELS(ok_labels), {"soft_labels", RT_ST_F32, 2, {2, 3}, soft_labels, 24}}, 3, {BASE, "soft_labels", "odds"}, "odds"},
    {"logits without a tensor", ST, NULL, {IMAGES, LABELS(ok_labels)}, 2, {BASE, "soft_labels", "logits"}, "there are none"},
    {"unknown space", ST, NULL, {IMAGES, LABELS(ok_labels)}, 2, {BASE, "space", "units: p"}, "unknown space"},
    {"zca without a hash", ST, NULL, {IMAGES, LABELS(ok_labels)}, 2, {BASE, "space", "zca"}, "zca hash"},
    {"a hash without zca", ST, NULL, {IMAGES, LABELS(ok_labels)}, 2, {BASE, "zca", ZEROS}, "zca hash"},
    {"a short hash", ST, NULL, {IMAGES, LABELS(ok_labels)}, 2, {BASE, "space", "zca", "zca", "00"}, "zca hash"},
    {"zca images of another size", ST, NULL, {IMAGES, LABELS(ok_labels)}, 2, {BASE, "space", "zca", "zca", ZEROS}, "2 x 3 pixels"},
    {"factor 0", ST, NULL, {IMAGES, LABELS(ok_labels)}, 2, {BASE, "factor", "0"}, "factor"},
    {"factor is text", ST, NULL, {IMAGES, LABELS(ok_labels)}, 2, {BASE, "factor", "2x"}, "factor"},
    {"factor beyond the side", ST, NULL, {IMAGES, LABELS(ok_labels)}, 2, {BASE, "factor", "3"}, "3 tiles"},
    {"step size nan", ST, NULL, {IMAGES, LABELS(ok_labels)}, 2, {BASE, "step_size", "nan"}, "step_size"},
    {"step size negative", ST, NULL, {IMAGES, LABELS(ok_labels)}, 2, {BASE, "step_size", "-0.01"}, "step_size"},
    {"step size with a tail", ST, NULL, {IMAGES, LABELS(ok_labels)}, 2, {BASE, "step_size", "0.01 "}, "step_size"},
    {"notes are a list", "notes.json", "[]\n", {IMAGES}, 0, {0}, "not a JSON object"},
    {"notes are broken", "notes.json", "{\"skipped\": }\n", {IMAGES}, 0, {0}, "notes.json:1"},
    {"empty trace", "trace.csv", "\n", {IMAGES}, 0, {0}, "header line"},
    {"trace cut off", "trace.csv", "iteration,loss\n0,1", {IMAGES}, 0, {0}, "header line"},
    {"other classes", "classes.txt", "ant\ncat\nbee\n", {IMAGES}, 0, {0}, "hash of the class list"},
    {"duplicate class", "classes.txt", "ant\nbee\nant\n", {IMAGES}, 0, {0}, "ant"},
    {"index without a header", "index.csv", "a,0,0,1\n", {IMAGES}, 0, {0}, "does not begin"},
    {"index too short", "index.csv", "key,label,rank,score\na,0,0,1\n", {IMAGES}, 0, {0}, "index.csv:3"},
    {"index label differs", "index.csv", "key,label,rank,score\na,0,0,1\nb,1,1,1\n", {IMAGES}, 0, {0}, "index.csv:3"},
    {"index rank differs", "index.csv", "key,label,rank,score\na,0,1,1\n", {IMAGES}, 0, {0}, "index.csv:2"},
    {"index score is text", "index.csv", "key,label,rank,score\na,0,0,high\n", {IMAGES}, 0, {0}, "score"},
    {"index score is nan", "index.csv", "key,label,rank,score\na,0,0,nan\n", {IMAGES}, 0, {0}, "score"},
    {"index quote left open", "index.csv", "key,label,rank,score\n\"a,0,0,1\n", {IMAGES}, 0, {0}, "index.csv:2"},
    {"index has five fields", "index.csv", "key,label,rank,score\na,0,0,1,2\n", {IMAGES}, 0, {0}, "index.csv:2"},
    {"index has six rows", "index.csv", "key,label,rank,score\na,0,0,1\nb,0,1,1\nc,1,0,1\nd,2,0,1\ne,2,1,1\nf,2,2,1\n", {IMAGES}, 0, {0}, "more rows"},
    {"some scores missing", "index.csv", "key,label,rank,score\na,0,0,1\nb,0,1,\nc,1,0,1\nd,2,0,1\ne,2,1,1\n", {IMAGES}, 0, {0}, "no score"},
};

START_TEST(every_wrong_file_is_refused)
{
    const char *path = strdup(below(scratch("set-bad"), "s"));
    int wrong = 0;
    for (size_t i = 0; i < sizeof swaps / sizeof *swaps; i++) {
        rt_status st = read_swapped(&swaps[i], path);
        if (st != RT_ERR_FORMAT || !strstr(rt_error_what(), swaps[i].says) || !strstr(rt_error_where(), "read set")) {
            printf("%s: %s: \"%s\", expected FORMAT with \"%s\"\n", swaps[i].why, rt_status_name(st), rt_error_what(), swaps[i].says);
            wrong++;
        }
    }
    ck_assert_int_eq(wrong, 0);
    free((void *)path);
}
END_TEST

START_TEST(allocation_failures)
{
    const char *path = strdup(below(scratch("set-oom"), "s"));
    rt_set s, b;
    int64_t x, y;
    make_set(&s, plain_names, true, true);
    s.notes = rt_strdup("{}");
    s.trace = rt_strdup("iteration\n");
    memset(s.zca, 'a', RT_HASH_HEX - 1);
    s.rgb = rt_calloc(N * ROW);
    rt_ok(store(&s, path, &x, &y));
    rt_status st;
    uint64_t n = 0;
    do {
        rt_alloc_fail_at(++n, 0);
        st = rt_set_read(path, false, &b, NULL);
        rt_alloc_fail_at(0, 0);
        ck_assert_msg(st == RT_OK || st == RT_ERR_NOMEM, "allocation %llu: %s %s", (unsigned long long)n, rt_status_name(st), rt_error_what());
    } while (st != RT_OK);
    ck_assert_uint_ge(n, 30);
    rt_set_fini(&b);
    rt_set_fini(&s);
    free((void *)path);
}
END_TEST

static const rt_test tests[] = {
    {"round trip is exact", round_trip_is_exact},
    {"optimised sets round trip", optimised_sets_round_trip},
    {"tiles are decoded class by class", tiles_are_decoded_class_by_class},
    {"folders keep the label order", folders_keep_the_label_order},
    {"broken results are not written", broken_results_are_not_written},
    {"every wrong file is refused", every_wrong_file_is_refused},
    {"allocation failures", allocation_failures},
};
RT_SUITE("artefact.set", tests)
