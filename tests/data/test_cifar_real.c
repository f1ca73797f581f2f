/* CIFAR-10 itself: the unpacked bytes are the published ones, and keys, labels and class names agree. */
#include "data/internal.h"
#include "fixture.h"

RT_NEEDS_REAL_DATA

START_TEST(unpacked_files_have_the_published_hashes)
{
    static const struct {
        const char *name, *sha;
    } file[] = {
        {"cifar10-data_batch_1.bin.xz", "8ab8606b2c3ef4d1aef64cb3f79c0ad80462e90f78be69b78d3e4bb536cbb5b8"},
        {"cifar10-test_batch.bin.xz", "1f74fc062e517ee2358a16aae80401d9da3828fc6e47ec4afde66c9bd6e4c041"},
    };
    for (size_t i = 0; i < sizeof file / sizeof *file; i++) {
        void *bytes = NULL;
        size_t n = 0;
        rt_ok(rt_read_maybe_xz(real(file[i].name), 30730000, &bytes, &n));
        ck_assert_uint_eq(n, 30730000);
        ck_assert_str_eq(sha(bytes, n), file[i].sha);
        rt_free(bytes);
        rt_fails(rt_read_maybe_xz(real(file[i].name), 30729999, &bytes, &n), RT_ERR_FORMAT); /* the cap holds */
    }
}
END_TEST

START_TEST(train_split_loads_whole_with_matching_keys)
{
    rt_dataset *d = NULL;
    rt_images im = {0};
    rt_data_source src = {.kind = "cifar10",
                          .path = shared_data(),
                          .split = "train",
                          .classes = real("cifar10-classes.txt"),
                          .keys = real("cifar10-train-keys.txt.xz")};
    rt_ok(rt_dataset_open(&src, &d));
    ck_assert_int_eq(rt_dataset_count(d), 50000);
    rt_ok(rt_images_load(d, &(rt_preset){.size = 32, .filter = RT_BILINEAR}, 2, NULL, &im));
    ck_assert_int_eq(im.n, 50000);
    int64_t *idx = NULL, *start = NULL;
    rt_ok(rt_images_by_class(&im, &idx, &start));
    for (int c = 0; c < 10; c++) {
        ck_assert_int_eq(start[c + 1] - start[c], 5000);
        size_t n = strlen(im.classes.name[c]);
        for (int64_t k = start[c]; k < start[c + 1]; k++) {
            const char *key = im.key[idx[k]]; /* "<class>/<stem>" */
            ck_assert(!strncmp(key, im.classes.name[c], n) && key[n] == '/');
            ck_assert(k == start[c] || idx[k] > idx[k - 1]);
        }
    }
    rt_free(idx);
    rt_free(start);
    rt_images_fini(&im);
    rt_dataset_close(d);
}
END_TEST

START_TEST(binary_record_equals_the_original_png)
{
    /* cifar10-png-sample holds original PNGs of test images, keys "<class>-<stem>"; the records hold "<class>/<stem>".
     */
    rt_dataset *bin = NULL, *png = NULL;
    rt_data_source a = {
        .kind = "cifar10", .path = shared_data(), .split = "test", .keys = real("cifar10-test-keys.txt.xz")};
    rt_data_source b = {
        .kind = "wds", .path = real("cifar10-png-sample-000000.tar"), .classes = real("cifar10-classes.txt")};
    rt_ok(rt_dataset_open(&a, &bin));
    rt_ok(rt_dataset_open(&b, &png));
    ck_assert_int_eq(rt_dataset_count(png), 200);
    int found = 0;
    for (int64_t i = 0; i < rt_dataset_count(bin); i++) {
        char key[256];
        snprintf(key, sizeof key, "%s", rt_dataset_key(bin, i));
        *strchr(key, '/') = '-';
        for (int64_t k = 0; k < 200; k++) {
            if (strcmp(key, rt_dataset_key(png, k))) continue;
            rt_image x = {0}, y = {0};
            rt_ok(rt_dataset_decode(bin, i, &x, NULL));
            rt_ok(rt_dataset_decode(png, k, &y, NULL));
            ck_assert_int_eq(y.h, 32);
            ck_assert_int_eq(y.w, 32);
            ck_assert_mem_eq(x.px, y.px, 3072);
            ck_assert_int_eq(rt_dataset_label(bin, i), rt_dataset_label(png, k));
            rt_image_fini(&x);
            rt_image_fini(&y);
            found++;
        }
    }
    ck_assert_int_eq(found, 200);
    rt_dataset_close(bin);
    rt_dataset_close(png);
}
END_TEST

static const rt_test tests[] = {
    {"unpacked files have the published hashes", unpacked_files_have_the_published_hashes},
    {"train split loads whole with matching keys", train_split_loads_whole_with_matching_keys},
    {"binary record equals the original PNG", binary_record_equals_the_original_png},
};
RT_SUITE("data.cifar.real", tests)
