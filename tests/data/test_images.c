/* Image folders and resident images: class rule, order, bad-sample policy, presets. */
#include "data/internal.h"
#include "fixture.h"

static char root[PATH_MAX];

static void put_png(const char *dir, const char *name, int h, int w, uint32_t seed)
{
    uint8_t *px = rt_malloc((size_t)(h * w * 3));
    void *png = NULL;
    size_t n = 0;
    paint(px, h, w, seed);
    rt_ok(rt_png_encode(px, h, w, &png, &n));
    put_file(dir, name, png, n);
    rt_free(png);
    rt_free(px);
}

static char *make_folder(void)
{
    char *dir = temp_folder();
    rt_ok(rt_fs_join(root, sizeof root, dir, "train"));
    put_png(root, "zebra/b.png", 20, 30, 1);
    put_png(root, "zebra/a.JPEG", 20, 30, 2); /* a PNG under another name */
    put_png(root, "zebra/deep/er/c.WebP", 20, 30, 3);
    put_png(root, "Ant/1.png", 40, 24, 4);
    put_text(root, "Ant/notes.txt", "not an image");
    put_png(root, "bee/x.png", 33, 33, 5);
    put_text(root, "stray.png", "not in a class folder");
    return dir;
}

START_TEST(classes_are_folders_in_byte_order)
{
    static const char *const key[] = {"Ant/1.png", "bee/x.png", "zebra/a.JPEG", "zebra/b.png", "zebra/deep/er/c.WebP"};
    static const int label[] = {0, 1, 2, 2, 2};
    char *dir = make_folder();
    rt_dataset *d = NULL;
    rt_data_source src = {.kind = "imagefolder", .path = root};
    rt_ok(rt_dataset_open(&src, &d));
    ck_assert_int_eq(rt_dataset_count(d), 5);
    ck_assert_str_eq(rt_dataset_classes(d)->hash, sha("Ant\nbee\nzebra\n", 14));
    for (int i = 0; i < 5; i++) {
        ck_assert_str_eq(rt_dataset_key(d, i), key[i]);
        ck_assert_int_eq(rt_dataset_label(d, i), label[i]);
    }
    rt_dataset_close(d);
    temp_gone(dir);
}
END_TEST

START_TEST(a_class_list_gives_another_order_of_the_same_folders)
{
    char *dir = make_folder(), list[PATH_MAX];
    rt_dataset *d = NULL;
    rt_ok(rt_fs_join(list, sizeof list, dir, "list"));
    rt_data_source src = {.kind = "imagefolder", .path = root, .classes = list};
    put_text(dir, "list", "zebra\nAnt\nbee\n");
    rt_ok(rt_dataset_open(&src, &d));
    ck_assert_int_eq(rt_dataset_label(d, 0), 1);
    ck_assert_int_eq(rt_dataset_label(d, 4), 0);
    rt_dataset_close(d);
    put_text(dir, "list", "zebra\nAnt\n");
    rt_fails(rt_dataset_open(&src, &d), RT_ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "folder 'bee' is not in the class list"));
    src.listed_only = true; /* the list chooses */
    rt_ok(rt_dataset_open(&src, &d));
    ck_assert_int_eq(rt_dataset_count(d), 4);
    ck_assert_int_eq(rt_dataset_label(d, 0), 1);
    ck_assert_str_eq(rt_dataset_key(d, 1), "zebra/a.JPEG");
    ck_assert_int_eq(rt_dataset_classes(d)->n, 2);
    rt_dataset_close(d);
    put_text(dir, "list", "zebra\nAnt\nbee\ncat\n");
    rt_fails(rt_dataset_open(&src, &d), RT_ERR_FORMAT); /* but what it names is there */
    src.listed_only = false;
    rt_fails(rt_dataset_open(&src, &d), RT_ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "class 3, 'cat'"));
    src.classes = NULL;
    char p[PATH_MAX];
    rt_ok(rt_fs_join(p, sizeof p, root, "empty"));
    rt_ok(rt_fs_mkdirs(p));
    rt_fails(rt_dataset_open(&src, &d), RT_ERR_FORMAT); /* a class without images */
    src.path = p;
    rt_fails(rt_dataset_open(&src, &d), RT_ERR_MISSING);
    src.path = "/nowhere/at/all";
    rt_fails(rt_dataset_open(&src, &d), RT_ERR_MISSING);
    temp_gone(dir);
}
END_TEST

START_TEST(loading_does_not_depend_on_threads)
{
    char *dir = temp_folder(), name[64];
    for (uint32_t i = 0; i < 90; i++) {
        snprintf(name, sizeof name, "c%u/%03u.png", i % 3, i);
        put_png(dir, name, 20 + (int)(i % 7), 31 - (int)(i % 5), i);
    }
    rt_dataset *d = NULL;
    rt_data_source src = {.kind = "imagefolder", .path = dir};
    rt_ok(rt_dataset_open(&src, &d));
    rt_preset p = {.size = 16, .resize = 18, .filter = RT_BICUBIC};
    rt_images one = {0};
    rt_ok(rt_images_load(d, &p, 1, NULL, &one));
    ck_assert_int_eq(one.n, 90);
    for (int t = 2; t <= 4; t++) {
        rt_images more = {0};
        rt_ok(rt_images_load(d, &p, t, NULL, &more));
        ck_assert_mem_eq(one.px, more.px, 90 * 16 * 16 * 3);
        ck_assert_mem_eq(one.label, more.label, 90 * sizeof *one.label);
        for (int i = 0; i < 90; i++) ck_assert_str_eq(one.key[i], more.key[i]);
        rt_images_fini(&more);
    }
    rt_images_fini(&one);
    rt_fails(rt_images_load(d, &(rt_preset){.size = 16, .resize = 8, .filter = RT_BILINEAR}, 1, NULL, &one),
             RT_ERR_CONFIG);
    rt_fails(rt_images_load(d, &(rt_preset){.size = 0}, 1, NULL, &one), RT_ERR_CONFIG);
    rt_dataset_close(d);
    temp_gone(dir);
}
END_TEST

START_TEST(bad_samples_follow_the_policy)
{
    char *dir = temp_folder(), name[64];
    for (uint32_t i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "c%u/%03u.png", i % 2, i);
        put_png(dir, name, 16, 16, i);
    }
    uint8_t px[24 * 24 * 3];
    void *jpg = NULL;
    size_t n = 0;
    paint(px, 24, 24, 1);
    rt_ok(rt_jpeg_encode(px, 24, 24, 90, &jpg, &n));
    put_text(dir, "c0/004.png", "<html>not found</html>");
    put_file(dir, "c1/031.png", jpg, n - 60); /* cut: only a warning to the decoder */
    rt_dataset *d = NULL;
    rt_data_source src = {.kind = "imagefolder", .path = dir};
    rt_ok(rt_dataset_open(&src, &d));
    rt_preset p = {.size = 16, .filter = RT_BILINEAR};
    rt_images im = {.n = -5};
    for (int t = 1; t <= 4; t++) {
        rt_fails(rt_images_load(d, &p, t, NULL, &im), RT_ERR_FORMAT);
        ck_assert_msg(strstr(rt_error_what(), "c0/004.png") && strstr(rt_error_what(), "HTML"), "%s", rt_error_what());
    }
    ck_assert_int_eq(im.n, -5);

    rt_bad_list bad;
    rt_bad_list_init(&bad);
    bad.policy = RT_BAD_SKIP;
    rt_fails(rt_images_load(d, &p, 2, &bad, &im), RT_ERR_FORMAT); /* 2 of 40 is more than 1 in 10,000 */
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "2 of 40"));
    rt_bad_list_fini(&bad);
    bad.max_fraction = 0.05;
    rt_ok(rt_images_load(d, &p, 2, &bad, &im));
    ck_assert_int_eq(im.n, 38);
    ck_assert_int_eq(bad.n, 2);
    ck_assert_str_eq(bad.item[0].key, "c0/004.png");
    ck_assert_str_eq(bad.item[1].key, "c1/031.png");
    ck_assert_ptr_nonnull(strstr(bad.item[1].reason, "warnings"));
    for (int64_t i = 0; i < im.n; i++) { /* those that stay are whole and in order */
        uint8_t want[16 * 16 * 3];
        paint(want, 16, 16, (uint32_t)atoi(im.key[i] + 3));
        ck_assert_mem_eq(im.px + i * 16 * 16 * 3, want, sizeof want);
        ck_assert_int_eq(im.label[i], im.key[i][1] - '0');
    }
    rt_images_fini(&im);
    rt_bad_list_fini(&bad);
    bad.warnings_are_bad = false;
    rt_ok(rt_images_load(d, &p, 2, &bad, &im));
    ck_assert_int_eq(im.n, 39);
    rt_images_fini(&im);
    rt_bad_list_fini(&bad);
    char gone[PATH_MAX];
    rt_ok(rt_fs_join(gone, sizeof gone, dir, "c1/001.png"));
    unlink(gone);
    rt_fails(rt_images_load(d, &p, 2, &bad, &im), RT_ERR_MISSING); /* I/O trouble is never skipped */
    rt_bad_list_fini(&bad);
    rt_free(jpg);
    rt_dataset_close(d);
    temp_gone(dir);
}
END_TEST

START_TEST(every_failed_allocation_is_reported)
{
    char *dir = make_folder();
    rt_dataset *d = NULL;
    rt_data_source src = {.kind = "imagefolder", .path = root};
    rt_ok(rt_dataset_open(&src, &d));
    rt_preset p = {.size = 8, .resize = 10, .filter = RT_BILINEAR};
    for (uint64_t k = 1;; k++) {
        rt_images im = {0};
        uint64_t before = rt_alloc_count();
        rt_alloc_fail_at(k, 0);
        rt_status st = rt_images_load(d, &p, 2, NULL, &im);
        rt_alloc_fail_at(0, 0);
        if (st == RT_OK) {
            ck_assert_uint_lt(rt_alloc_count() - before, k);
            rt_images_fini(&im);
            break;
        }
        ck_assert_int_eq(st, RT_ERR_NOMEM);
        ck_assert_ptr_null(im.px);
    }
    rt_dataset_close(d);
    temp_gone(dir);
}
END_TEST

static const rt_test tests[] = {
    {"classes are folders in byte order", classes_are_folders_in_byte_order},
    {"a class list gives another order of the same folders", a_class_list_gives_another_order_of_the_same_folders},
    {"loading does not depend on threads", loading_does_not_depend_on_threads},
    {"bad samples follow the policy", bad_samples_follow_the_policy},
    {"every failed allocation is reported", every_failed_allocation_is_reported},
};
RT_SUITE("data.images", tests)
