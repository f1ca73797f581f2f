/* CIFAR binaries made here: layout, keys, xz, and everything that can be wrong with them. */
#include <lzma.h>

#include "fixture.h"

enum { REC10 = 3073, REC100 = 3074, N = 6 };

static void make_records(uint8_t *out, int n, int labels, int first)
{
    for (int r = 0; r < n; r++) {
        *out++ = (uint8_t)((first + r) % 10);
        if (labels == 2) *out++ = (uint8_t)(90 + r % 10);
        for (int i = 0; i < 3072; i++) *out++ = (uint8_t)(i * 7 + r + first);
    }
}

static size_t pack(const uint8_t *in, size_t n, uint8_t *out, size_t cap)
{
    size_t pos = 0;
    ck_assert_int_eq(lzma_easy_buffer_encode(1, LZMA_CHECK_CRC32, NULL, in, n, out, &pos, cap), LZMA_OK);
    return pos;
}

static void put_train(const char *dir, const char *prefix)
{
    uint8_t rec[N * REC10];
    char name[64];
    for (int b = 0; b < 5; b++) {
        make_records(rec, N, 1, b * N);
        snprintf(name, sizeof name, "%sdata_batch_%d.bin", prefix, b + 1);
        put_file(dir, name, rec, sizeof rec);
    }
}

START_TEST(reads_records_in_order_as_rgb)
{
    char *dir = temp_folder();
    rt_dataset *d = NULL;
    put_train(dir, "");
    rt_data_source src = {.kind = "cifar10", .path = dir, .split = "train"};
    rt_ok(rt_dataset_open(&src, &d));
    ck_assert_int_eq(rt_dataset_count(d), 5 * N);
    ck_assert_int_eq(rt_dataset_raw_side(d), 32);
    ck_assert_str_eq(rt_dataset_classes(d)->name[3], "cat");
    ck_assert_str_eq(rt_dataset_key(d, 17), "train-00017");
    ck_assert_int_eq(rt_dataset_label(d, 17), 17 % 10);
    void *px = NULL;
    size_t n = 0;
    rt_ok(rt_dataset_read(d, 17, &px, &n));
    ck_assert_uint_eq(n, 3072);
    for (int i = 0; i < 1024; i++)
        for (int c = 0; c < 3; c++) ck_assert_uint_eq(((uint8_t *)px)[3 * i + c], (uint8_t)((c * 1024 + i) * 7 + 17));
    rt_free(px);
    rt_fails(rt_dataset_read(d, 5 * N, &px, &n), RT_ERR_ARG);
    rt_dataset_close(d);
    temp_gone(dir);
}
END_TEST

START_TEST(finds_files_by_folder_prefix_and_list)
{
    char *dir = temp_folder(), path[PATH_MAX], list[PATH_MAX * 2 + 64];
    rt_dataset *d = NULL;
    put_train(dir, "cifar10-");
    rt_data_source src = {.kind = "cifar10", .path = dir, .split = "train"};
    rt_ok(rt_dataset_open(&src, &d));
    char hash[RT_HASH_HEX];
    memcpy(hash, rt_dataset_hash(d), sizeof hash);
    rt_dataset_close(d);

    rt_ok(rt_fs_join(path, sizeof path, dir, "cifar10-"));
    src.path = path;
    rt_ok(rt_dataset_open(&src, &d));
    ck_assert_str_eq(rt_dataset_hash(d), hash); /* identity does not depend on the place */
    rt_dataset_close(d);

    snprintf(list, sizeof list, "%s/cifar10-data_batch_{4..5}.bin,%s/cifar10-data_batch_1.bin", dir, dir);
    src.path = list;
    rt_ok(rt_dataset_open(&src, &d));
    ck_assert_int_eq(rt_dataset_count(d), 3 * N);
    ck_assert_int_eq(rt_dataset_label(d, 0), 18 % 10);
    rt_dataset_close(d);

    put_train(dir, "other-");
    src.path = dir;
    rt_fails(rt_dataset_open(&src, &d), RT_ERR_CONFIG); /* two candidates */
    src.split = "test";
    rt_fails(rt_dataset_open(&src, &d), RT_ERR_MISSING);
    src.split = "val";
    rt_fails(rt_dataset_open(&src, &d), RT_ERR_CONFIG);
    temp_gone(dir);
}
END_TEST

START_TEST(cifar100_uses_the_fine_label)
{
    char *dir = temp_folder();
    uint8_t rec[N * REC100];
    rt_dataset *d = NULL;
    make_records(rec, N, 2, 0);
    put_file(dir, "test.bin", rec, sizeof rec);
    rt_data_source src = {.kind = "cifar100", .path = dir, .split = "test"};
    rt_ok(rt_dataset_open(&src, &d));
    ck_assert_int_eq(rt_dataset_label(d, 2), 92);
    ck_assert_str_eq(rt_dataset_classes(d)->name[92], "tulip");
    ck_assert_str_eq(rt_dataset_key(d, 2), "test-00002");
    rt_dataset_close(d);
    temp_gone(dir);
}
END_TEST

START_TEST(xz_is_seen_by_content_and_checked)
{
    char *dir = temp_folder(), path[PATH_MAX];
    uint8_t rec[N * REC10], packed[2 * N * REC10];
    rt_dataset *d = NULL;
    make_records(rec, N, 1, 0);
    size_t n = pack(rec, sizeof rec, packed, sizeof packed);
    rt_ok(rt_fs_join(path, sizeof path, dir, "a.bin"));
    rt_data_source src = {.kind = "cifar10", .path = path};

    put_file(dir, "a.bin", packed, n); /* no .xz in the name */
    rt_ok(rt_dataset_open(&src, &d));
    ck_assert_int_eq(rt_dataset_count(d), N);
    rt_dataset_close(d);

    for (size_t cut = 6; cut < n; cut += 37) { /* truncated anywhere */
        put_file(dir, "a.bin", packed, cut);
        rt_fails(rt_dataset_open(&src, &d), RT_ERR_FORMAT);
        ck_assert_ptr_nonnull(strstr(rt_error_what(), "end early"));
    }
    packed[n / 2] ^= 0x40; /* one flipped bit */
    put_file(dir, "a.bin", packed, n);
    rt_fails(rt_dataset_open(&src, &d), RT_ERR_FORMAT);

    put_file(dir, "a.bin", rec, sizeof rec - 1); /* not whole records */
    rt_fails(rt_dataset_open(&src, &d), RT_ERR_FORMAT);
    put_file(dir, "a.bin", rec, 0);
    rt_fails(rt_dataset_open(&src, &d), RT_ERR_FORMAT);
    rec[2 * REC10] = 10; /* a label that no class has */
    put_file(dir, "a.bin", rec, sizeof rec);
    rt_fails(rt_dataset_open(&src, &d), RT_ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "record 2 has label 10"));
    temp_gone(dir);
}
END_TEST

START_TEST(keys_come_from_a_list_of_the_right_length)
{
    char *dir = temp_folder(), path[PATH_MAX], keys[PATH_MAX];
    uint8_t rec[2 * REC10], packed[1024];
    rt_dataset *d = NULL;
    make_records(rec, 2, 1, 0);
    put_file(dir, "a.bin", rec, sizeof rec);
    rt_ok(rt_fs_join(path, sizeof path, dir, "a.bin"));
    rt_ok(rt_fs_join(keys, sizeof keys, dir, "keys.txt.xz"));
    rt_data_source src = {.kind = "cifar10", .path = path, .keys = keys};
    static const char text[] = "cat/one\ndog/two\n";
    put_file(dir, "keys.txt.xz", packed, pack((const uint8_t *)text, sizeof text - 1, packed, sizeof packed));
    rt_ok(rt_dataset_open(&src, &d));
    ck_assert_str_eq(rt_dataset_key(d, 1), "dog/two");
    rt_dataset_close(d);
    put_text(dir, "keys.txt.xz", "only one\n");
    rt_fails(rt_dataset_open(&src, &d), RT_ERR_FORMAT);
    src.keys = NULL;
    put_text(dir, "classes", "a\nb\n");
    char classes[PATH_MAX];
    rt_ok(rt_fs_join(classes, sizeof classes, dir, "classes"));
    src.classes = classes;
    rt_fails(rt_dataset_open(&src, &d), RT_ERR_FORMAT); /* two names for ten classes */
    temp_gone(dir);
}
END_TEST

START_TEST(every_failed_allocation_is_reported)
{
    char *dir = temp_folder();
    rt_dataset *d = NULL;
    put_train(dir, "");
    rt_data_source src = {.kind = "cifar10", .path = dir, .split = "train"};
    for (uint64_t k = 1;; k++) {
        uint64_t before = rt_alloc_count();
        rt_alloc_fail_at(k, 0);
        rt_status st = rt_dataset_open(&src, &d);
        rt_alloc_fail_at(0, 0);
        if (st == RT_OK) {
            ck_assert_uint_lt(rt_alloc_count() - before, k); /* nothing failed: all places were tried */
            rt_dataset_close(d);
            break;
        }
        ck_assert_int_eq(st, RT_ERR_NOMEM);
        ck_assert_ptr_null(d);
    }
    temp_gone(dir);
}
END_TEST

static const rt_test tests[] = {
    {"reads records in order as RGB", reads_records_in_order_as_rgb},
    {"finds files by folder, prefix and list", finds_files_by_folder_prefix_and_list},
    {"CIFAR-100 uses the fine label", cifar100_uses_the_fine_label},
    {"xz is seen by content and checked", xz_is_seen_by_content_and_checked},
    {"keys come from a list of the right length", keys_come_from_a_list_of_the_right_length},
    {"every failed allocation is reported", every_failed_allocation_is_reported},
};
RT_SUITE("data.cifar", tests)
