/* Tar shards: what a sample is, what is refused and why, index files that are used, rebuilt or left alone. */
#include <fcntl.h>
#include <strings.h>
#include <sys/stat.h>

#include "data/internal.h"
#include "fixture.h"

static char path[PATH_MAX];

/* Opens dir/a.tar with classes 0..9. */
static rt_status open_shard(const char *dir, rt_dataset **d)
{
    rt_ok(rt_fs_join(path, sizeof path, dir, "a.tar"));
    rt_data_source src = {.kind = "wds", .path = path, .classes = "numbered:10"};
    return rt_dataset_open(&src, d);
}

static void refused(const char *dir, rt_status want, const char *says)
{
    rt_dataset *d = NULL;
    rt_fails(open_shard(dir, &d), want);
    if (!strstr(rt_error_what(), says)) ck_abort_msg("'%s' does not say '%s'", rt_error_what(), says);
    ck_assert_ptr_null(d);
}

START_TEST(samples_are_adjacent_members_with_one_key)
{
    char *dir = temp_folder();
    tar_out t = {0};
    rt_dataset *d = NULL;
    tar_header(&t, "sub/", '5', NULL, 0);
    tar_file(&t, "__index__.json", "{}", 2);
    tar_file(&t, "README", "no dot", 6);
    tar_sample(&t, "sub/one", "3", 1);
    tar_file(&t, "sub/one.json", "{\"a\": 1}", 8);
    tar_file(&t, "sub/one.seg.png", "other field", 11);
    tar_file(&t, "two.CLS", "7\n", 2);
    tar_file(&t, "two.JpEg", "not read here", 13);
    tar_end(&t);
    tar_save(&t, dir, "a.tar");
    rt_ok(open_shard(dir, &d));
    ck_assert_int_eq(rt_dataset_count(d), 2);
    ck_assert_str_eq(rt_dataset_key(d, 0), "sub/one");
    ck_assert_int_eq(rt_dataset_label(d, 0), 3);
    ck_assert_str_eq(rt_dataset_key(d, 1), "two");
    ck_assert_int_eq(rt_dataset_label(d, 1), 7);
    void *bytes = NULL;
    size_t n = 0;
    rt_image im = {0};
    uint8_t want[8 * 8 * 3];
    rt_ok(rt_dataset_read(d, 1, &bytes, &n));
    ck_assert_uint_eq(n, 13);
    ck_assert_mem_eq(bytes, "not read here", 13);
    rt_free(bytes);
    rt_ok(rt_dataset_decode(d, 0, &im, NULL));
    paint(want, 8, 8, 1);
    ck_assert_mem_eq(im.px, want, sizeof want);
    rt_image_fini(&im);
    rt_dataset_close(d);
    temp_gone(dir);
}
END_TEST

START_TEST(hostile_members_are_refused_by_name)
{
    static const struct {
        const char *name;
        char type;
        const char *link, *says;
    } bad[] = {
        {"../evil.jpg", '0', NULL, "'../evil.jpg' climbs out"},
        {"a/../../evil.jpg", '0', NULL, "climbs out"},
        {"a/..", '5', NULL, "climbs out"},
        {"/etc/passwd.jpg", '0', NULL, "absolute"},
        {"link.jpg", '2', "/etc/passwd", "'link.jpg' is a symbolic link"},
        {"link.jpg", '2', "ok.jpg", "symbolic link"},
        {"hard.jpg", '1', "ok.png", "'hard.jpg' is a hard link"},
        {"dev.jpg", '3', NULL, "a device"},
        {"blk.jpg", '4', NULL, "a device"},
        {"fifo.jpg", '6', NULL, "a FIFO"},
    };
    char *dir = temp_folder();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        for (int after = 0; after < 2; after++) {
            tar_out t = {0};
            if (after) tar_sample(&t, "ok", "1", 1);
            tar_header(&t, bad[i].name, bad[i].type, bad[i].link, 0);
            tar_end(&t);
            tar_save(&t, dir, "a.tar");
            refused(dir, RT_ERR_FORMAT, bad[i].says);
        }
    temp_gone(dir);
}
END_TEST

START_TEST(long_names_cannot_hide_a_path)
{
    char *dir = temp_folder(), name[300];
    tar_out t = {0};
    rt_dataset *d = NULL;
    memset(name, 'n', sizeof name);
    memcpy(name + 280, ".cls", 5);
    tar_header(&t, "././@LongLink", 'L', NULL, 285); /* GNU: the next member's name */
    tar_raw(&t, name, 285);
    tar_pad(&t);
    tar_file(&t, "short.cls", "4", 1);
    memcpy(name + 280, ".png", 5);
    tar_header(&t, "././@LongLink", 'L', NULL, 285);
    tar_raw(&t, name, 285);
    tar_pad(&t);
    tar_file(&t, "short.png", "x", 1);
    tar_end(&t);
    tar_save(&t, dir, "a.tar");
    rt_ok(open_shard(dir, &d));
    ck_assert_uint_eq(strlen(rt_dataset_key(d, 0)), 280);
    ck_assert_int_eq(rt_dataset_label(d, 0), 4);
    rt_dataset_close(d);

    static const char pax[] = "22 path=../escape.png\n"; /* PAX: overrides the header's name */
    tar_header(&t, "pax", 'x', NULL, sizeof pax - 1);
    tar_raw(&t, pax, sizeof pax - 1);
    tar_pad(&t);
    tar_file(&t, "nice.png", "x", 1);
    tar_end(&t);
    tar_save(&t, dir, "a.tar");
    refused(dir, RT_ERR_FORMAT, "climbs out");

    static const char big[] = "21 size=999999999999\n"; /* PAX: overrides the size */
    tar_header(&t, "pax", 'x', NULL, sizeof big - 1);
    tar_raw(&t, big, sizeof big - 1);
    tar_pad(&t);
    tar_file(&t, "nice.png", "x", 1);
    tar_end(&t);
    tar_save(&t, dir, "a.tar");
    refused(dir, RT_ERR_FORMAT, "a.tar");
    temp_gone(dir);
}
END_TEST

START_TEST(incomplete_samples_are_errors)
{
    char *dir = temp_folder();
    tar_out t = {0};
    static const struct {
        const char *member[4], *says; /* name, content, ... */
    } bad[] = {
        {{"k.png", "x", NULL}, "'k' has no label"},
        {{"k.cls", "1", NULL}, "'k' has no image"},
        {{"k.json", "{}", NULL}, "'k' has no image"},
        {{"k.png", "x", "k.png", "y"}, "'k' has two images"},
        {{"k.png", "x", "k.jpg", "y"}, "'k' has two images"},
        {{"k.cls", "1", "k.cls", "1"}, "two labels"},
        {{"k.json", "x", "k.JSON", "y"}, "field 'json' twice"},
        {{"k.png", "x", "k.cls", "-1"}, "not a decimal label"},
        {{"k.png", "x", "k.cls", "1x"}, "not a decimal label"},
        {{"k.png", "x", "k.cls", " 1"}, "not a decimal label"},
        {{"k.png", "x", "k.cls", "0x1"}, "not a decimal label"},
        {{"k.png", "x", "k.cls", "1\n\n"}, "not a decimal label"},
        {{"k.png", "x", "k.cls", ""}, "not a decimal label"},
        {{"k.png", "x", "k.cls", "9999999999"}, "not a decimal label"},
        {{"k.png", "x", "k.cls", "11111111111111111111111111111"}, "not a decimal label"},
        {{"k.png", "x", "k.cls", "10"}, "label 10, but the class list has 10 classes"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        for (int followed = 0; followed < 2; followed++) {
            for (int m = 0; m < 4 && bad[i].member[m]; m += 2)
                tar_file(&t, bad[i].member[m], bad[i].member[m + 1], strlen(bad[i].member[m + 1]));
            if (followed) tar_sample(&t, "later", "1", 2);
            tar_end(&t);
            tar_save(&t, dir, "a.tar");
            char says[128];
            snprintf(says, sizeof says, "%s", bad[i].says);
            rt_dataset *d = NULL;
            rt_fails(open_shard(dir, &d), RT_ERR_FORMAT);
            /* "JSON twice" names the field as it was written last */
            ck_assert_msg(strcasestr(rt_error_what(), says) != NULL, "'%s' does not say '%s'", rt_error_what(), says);
        }
    temp_gone(dir);
}
END_TEST

START_TEST(truncation_anywhere_is_an_error)
{
    char *dir = temp_folder();
    tar_out t = {0};
    for (uint32_t k = 0; k < 3; k++) {
        char key[8];
        snprintf(key, sizeof key, "k%u", k);
        tar_sample(&t, key, "1", k);
    }
    tar_end(&t);
    uint8_t *whole = t.bytes;
    size_t n = t.n;
    for (size_t cut = 0; cut + 1024 < n; cut += 128) {
        put_file(dir, "a.tar", whole, cut);
        rt_dataset *d = NULL;
        rt_status st = open_shard(dir, &d);
        if (st != (cut ? RT_ERR_FORMAT : RT_ERR_MISSING) && !(cut == 0 && st == RT_ERR_FORMAT))
            ck_abort_msg("cut at %zu: %s (%s)", cut, rt_status_name(st), rt_error_what());
    }
    free(whole);
    put_text(dir, "a.tar", "this is not a tar archive, only a line of text, repeated; ");
    refused(dir, RT_ERR_FORMAT, "a.tar");
    uint8_t gz[600] = {0x1F, 0x8B, 8};
    put_file(dir, "a.tar", gz, sizeof gz);
    refused(dir, RT_ERR_FORMAT, "not a readable plain tar");
    temp_gone(dir);
}
END_TEST

START_TEST(every_flipped_header_bit_is_survived)
{
    char *dir = temp_folder();
    tar_out t = {0};
    tar_sample(&t, "k", "1", 1);
    tar_end(&t);
    int refused_n = 0;
    for (size_t bit = 0; bit < 512 * 8; bit += 3) {
        rt_dataset *d = NULL;
        t.bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        put_file(dir, "a.tar", t.bytes, t.n);
        t.bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        rt_status st = open_shard(dir, &d);
        ck_assert(st == RT_OK || st == RT_ERR_FORMAT || st == RT_ERR_MISSING || st == RT_ERR_UNSUPPORTED);
        refused_n += st != RT_OK;
        rt_dataset_close(d);
    }
    ck_assert_int_gt(refused_n, 1300); /* the checksum sees nearly all of 1,366 */
    free(t.bytes);
    temp_gone(dir);
}
END_TEST

START_TEST(concatenated_archives_are_read_through)
{
    char *dir = temp_folder();
    tar_out t = {0};
    rt_dataset *d = NULL;
    tar_sample(&t, "one", "1", 1);
    tar_end(&t);
    tar_sample(&t, "two", "2", 2);
    tar_end(&t);
    tar_save(&t, dir, "a.tar");
    rt_ok(open_shard(dir, &d));
    ck_assert_int_eq(rt_dataset_count(d), 2);
    ck_assert_int_eq(rt_dataset_label(d, 1), 2);
    rt_dataset_close(d);
    temp_gone(dir);
}
END_TEST

static char *read_text(const char *dir, const char *name)
{
    void *text = NULL;
    size_t n = 0;
    char p[PATH_MAX];
    rt_ok(rt_fs_join(p, sizeof p, dir, name));
    rt_ok(rt_fs_read(p, 1 << 20, &text, &n));
    return text;
}

START_TEST(index_file_is_written_used_and_rebuilt)
{
    char *dir = temp_folder();
    tar_out t = {0};
    rt_dataset *d = NULL;
    tar_sample(&t, "x/one", "1", 1);
    tar_sample(&t, "two", "2", 2);
    tar_end(&t);
    uint8_t *bytes = t.bytes;
    size_t n = t.n;
    put_file(dir, "a.tar", bytes, n);
    rt_ok(open_shard(dir, &d));
    char hash[RT_HASH_HEX];
    memcpy(hash, rt_dataset_hash(d), sizeof hash);
    rt_dataset_close(d);
    char *idx = read_text(dir, "a.idx"), want[512];
    unsigned long png = strtoul(idx + strlen("v1.2 2\ncls 512 1 x/one.cls png 1536 "), NULL, 10);
    snprintf(want, sizeof want, "v1.2 2\ncls 512 1 x/one.cls png 1536 %lu x/one.png\ncls ", png);
    ck_assert_msg(!strncmp(idx, want, strlen(want)), "%s", idx);

    /* Used: an index (of the same tar) that leaves a sample out is believed. */
    char *second = strchr(strchr(idx, '\n') + 1, '\n') + 1, *trailer = strstr(idx, "\n# tar");
    snprintf(want, sizeof want, "v1.2 1\n%.*s%s", (int)(trailer - second), second, trailer);
    put_text(dir, "a.idx", want);
    rt_ok(open_shard(dir, &d));
    ck_assert_int_eq(rt_dataset_count(d), 1);
    ck_assert_str_eq(rt_dataset_key(d, 0), "two");
    rt_dataset_close(d);

    /* Rebuilt: the tar's time changed. */
    rt_ok(rt_fs_join(path, sizeof path, dir, "a.tar"));
    struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    ck_assert_int_eq(utimensat(AT_FDCWD, path, old, 0), 0);
    rt_ok(open_shard(dir, &d));
    ck_assert_int_eq(rt_dataset_count(d), 2);
    ck_assert_str_eq(rt_dataset_hash(d), hash);
    rt_dataset_close(d);

    /* Without our last line (DALI's own) it holds while it is not older than the tar. */
    rt_free(idx);
    idx = read_text(dir, "a.idx");
    strstr(idx, "# tar")[0] = 0;
    put_text(dir, "a.idx", idx);
    rt_ok(open_shard(dir, &d));
    rt_dataset_close(d);
    char *again = read_text(dir, "a.idx");
    ck_assert_str_eq(again, idx); /* left as it was */
    rt_free(again);
    char p[PATH_MAX];
    rt_ok(rt_fs_join(p, sizeof p, dir, "a.idx"));
    old[0].tv_sec = old[1].tv_sec = 500;
    ck_assert_int_eq(utimensat(AT_FDCWD, p, old, 0), 0);
    rt_ok(open_shard(dir, &d));
    rt_dataset_close(d);
    again = read_text(dir, "a.idx");
    ck_assert_ptr_nonnull(strstr(again, "# tar")); /* was stale: rebuilt */
    rt_free(again);
    rt_free(idx);

    /* Damaged in any way: rebuilt. */
    static const char *const bad[] = {"",
                                      "v1.1 1\n",
                                      "v1.2 0\n",
                                      "v1.2 9\ncls 512 1 a.cls\n",
                                      "v1.2 1\ncls 513 1 a.cls\n",
                                      "v1.2 1\ncls 512 99999999 a.cls\n",
                                      "v1.2 1\ncls 512 1 ../a.cls\n",
                                      "v1.2 1\ncls 512\n",
                                      "v1.2 1\ncls -512 1 a.cls\n",
                                      "v1.2 99999999999999999999\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_text(dir, "a.idx", bad[i]);
        rt_ok(open_shard(dir, &d));
        ck_assert_str_eq(rt_dataset_hash(d), hash);
        rt_dataset_close(d);
    }
    free(bytes);
    temp_gone(dir);
}
END_TEST

START_TEST(read_only_folder_keeps_its_index_in_the_cache)
{
    char *dir = temp_folder(), sub[PATH_MAX], cache[PATH_MAX], tar[PATH_MAX];
    tar_out t = {0};
    rt_dataset *d = NULL;
    tar_sample(&t, "one", "1", 1);
    tar_end(&t);
    tar_save(&t, dir, "ro/a.tar");
    rt_ok(rt_fs_join(sub, sizeof sub, dir, "ro"));
    rt_ok(rt_fs_join(tar, sizeof tar, sub, "a.tar"));
    rt_ok(rt_fs_join(cache, sizeof cache, dir, "cache"));
    ck_assert_int_eq(chmod(sub, 0555), 0);
    rt_data_source src = {.kind = "wds", .path = tar, .classes = "numbered"};
    rt_ok(rt_dataset_open(&src, &d)); /* no cache: nothing is stored */
    ck_assert_int_eq(rt_dataset_classes(d)->n, 2);
    rt_dataset_close(d);
    src.cache = cache;
    for (int i = 0; i < 2; i++) {
        rt_ok(rt_dataset_open(&src, &d));
        rt_dataset_close(d);
    }
    char **names = NULL;
    size_t n = 0;
    rt_ok(rt_fs_list(sub, &names, &n));
    ck_assert_uint_eq(n, 1);
    rt_fs_list_free(names, n);
    rt_ok(rt_fs_list(cache, &names, &n));
    ck_assert_uint_eq(n, 1);
    ck_assert(!strncmp(names[0], "a-", 2) && strstr(names[0], ".idx"));
    rt_fs_list_free(names, n);
    ck_assert_int_eq(chmod(sub, 0755), 0);
    temp_gone(dir);
}
END_TEST

START_TEST(many_shards_keep_few_files_open)
{
    enum { SHARDS = RT_FILES_KEPT_OPEN + 20 };
    char *dir = temp_folder(), name[32], pattern[PATH_MAX];
    rt_dataset *d = NULL;
    for (uint32_t i = 0; i < SHARDS; i++) {
        tar_out t = {0};
        tar_sample(&t, "k", "1", i);
        tar_end(&t);
        snprintf(name, sizeof name, "s-%03u.tar", i);
        tar_save(&t, dir, name);
    }
    snprintf(name, sizeof name, "s-{000..%03d}.tar", SHARDS - 1);
    rt_ok(rt_fs_join(pattern, sizeof pattern, dir, name));
    rt_data_source src = {.kind = "wds", .path = pattern, .classes = "numbered"};
    rt_ok(rt_dataset_open(&src, &d));
    for (int turn = 0; turn < 2; turn++)
        for (uint32_t i = 0; i < SHARDS; i++) {
            rt_image im = {0};
            uint8_t want[8 * 8 * 3];
            rt_ok(rt_dataset_decode(d, i, &im, NULL));
            paint(want, 8, 8, i);
            ck_assert_mem_eq(im.px, want, sizeof want);
            rt_image_fini(&im);
        }
    char **open_fd = NULL;
    size_t n = 0;
    rt_ok(rt_fs_list("/proc/self/fd", &open_fd, &n));
    rt_fs_list_free(open_fd, n);
    ck_assert_uint_ge(n, RT_FILES_KEPT_OPEN);
    ck_assert_uint_lt(n, RT_FILES_KEPT_OPEN + 16);
    rt_dataset_close(d);
    temp_gone(dir);
}
END_TEST

START_TEST(classes_of_a_shard_must_be_said)
{
    char *dir = temp_folder();
    tar_out t = {0};
    rt_dataset *d = NULL;
    tar_sample(&t, "one", "1", 1);
    tar_end(&t);
    tar_save(&t, dir, "a.tar");
    rt_ok(rt_fs_join(path, sizeof path, dir, "a.tar"));
    rt_data_source src = {.kind = "wds", .path = path};
    rt_fails(rt_dataset_open(&src, &d), RT_ERR_CONFIG);
    static const char *const bad[] = {"numbered:", "numbered:0", "numbered:x", "numbered 3"};
    for (size_t i = 0; i < 4; i++) {
        src.classes = bad[i];
        rt_fails(rt_dataset_open(&src, &d), RT_ERR_CONFIG);
    }
    src.classes = "/some/folder/numbered:3"; /* joined to the config's folder */
    rt_ok(rt_dataset_open(&src, &d));
    ck_assert_int_eq(rt_dataset_classes(d)->n, 3);
    rt_dataset_close(d);
    d = NULL;
    src.classes = "numbered:1";
    rt_fails(rt_dataset_open(&src, &d), RT_ERR_FORMAT); /* label 1 of 1 class */
    src.path = "no-such-{0..3}.tar";
    src.classes = "numbered";
    rt_fails(rt_dataset_open(&src, &d), RT_ERR_MISSING);
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "no-such-0.tar"));
    src.kind = "lmdb";
    rt_fails(rt_dataset_open(&src, &d), RT_ERR_CONFIG);
    temp_gone(dir);
}
END_TEST

START_TEST(every_failed_allocation_is_reported)
{
    char *dir = temp_folder();
    tar_out t = {0};
    rt_dataset *d = NULL;
    tar_sample(&t, "one", "1", 1);
    tar_end(&t);
    tar_save(&t, dir, "a.tar");
    for (uint64_t k = 1;; k++) {
        char p[PATH_MAX];
        rt_ok(rt_fs_join(p, sizeof p, dir, "a.idx"));
        unlink(p);
        uint64_t before = rt_alloc_count();
        rt_alloc_fail_at(k, 1);
        rt_status st = open_shard(dir, &d);
        rt_alloc_fail_at(0, 0);
        if (st == RT_OK) {
            ck_assert_uint_lt(rt_alloc_count() - before, k);
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
    {"samples are adjacent members with one key", samples_are_adjacent_members_with_one_key},
    {"hostile members are refused by name", hostile_members_are_refused_by_name},
    {"long names cannot hide a path", long_names_cannot_hide_a_path},
    {"incomplete samples are errors", incomplete_samples_are_errors},
    {"truncation anywhere is an error", truncation_anywhere_is_an_error},
    {"every flipped header bit is survived", every_flipped_header_bit_is_survived},
    {"concatenated archives are read through", concatenated_archives_are_read_through},
    {"index file is written, used and rebuilt", index_file_is_written_used_and_rebuilt},
    {"read-only folder keeps its index in the cache", read_only_folder_keeps_its_index_in_the_cache},
    {"many shards keep few files open", many_shards_keep_few_files_open},
    {"classes of a shard must be said", classes_of_a_shard_must_be_said},
    {"every failed allocation is reported", every_failed_allocation_is_reported},
};
RT_SUITE("data.tar", tests)
