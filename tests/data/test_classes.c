/* Class lists, shard patterns and epoch order. */
#include "data/internal.h"
#include "fixture.h"

START_TEST(hash_is_of_names_and_order)
{
    const char *ab[] = {"a", "b"}, *ba[] = {"b", "a"};
    rt_classes x = {0}, y = {0};
    rt_ok(rt_classes_make(ab, 2, &x));
    rt_ok(rt_classes_make(ba, 2, &y));
    ck_assert_str_eq(x.hash, sha("a\nb\n", 4));
    ck_assert_str_ne(x.hash, y.hash);
    rt_fails(rt_classes_check(&x, "set", &y, "teacher"), RT_ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "class 0 is 'a' in set and 'b' in teacher; 2 of 2 differ"));
    rt_classes_fini(&y);
    rt_ok(rt_classes_copy(&x, &y));
    rt_ok(rt_classes_check(&x, "set", &y, "teacher"));
    rt_classes_fini(&x);
    rt_classes_fini(&y);
}
END_TEST

START_TEST(longer_list_differs_at_its_first_extra_class)
{
    const char *names[] = {"a", "b", "c"};
    rt_classes x = {0}, y = {0};
    rt_ok(rt_classes_make(names, 2, &x));
    rt_ok(rt_classes_make(names, 3, &y));
    rt_fails(rt_classes_check(&x, "x", &y, "y"), RT_ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "class 2 is '(none)' in x and 'c' in y; 1 of 3 differ"));
    rt_classes_fini(&x);
    rt_classes_fini(&y);
}
END_TEST

START_TEST(bad_lists_are_refused)
{
    const char *twice[] = {"a", "b", "a"}, *empty[] = {"a", ""}, *broken[] = {"a", "b\nc"};
    rt_classes c = {.n = 77};
    rt_fails(rt_classes_make(twice, 3, &c), RT_ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "'a' appears twice"));
    rt_fails(rt_classes_make(empty, 2, &c), RT_ERR_FORMAT);
    rt_fails(rt_classes_make(broken, 2, &c), RT_ERR_FORMAT);
    rt_fails(rt_classes_make(twice, 0, &c), RT_ERR_FORMAT);
    ck_assert_int_eq(c.n, 77); /* untouched */
}
END_TEST

START_TEST(reads_a_file_with_any_line_end)
{
    char *dir = temp_folder(), path[PATH_MAX];
    rt_classes c = {0};
    put_text(dir, "list", "tench\r\nchain saw\r\nlast");
    rt_ok(rt_fs_join(path, sizeof path, dir, "list"));
    rt_ok(rt_classes_read(path, &c));
    ck_assert_int_eq(c.n, 3);
    ck_assert_str_eq(c.name[1], "chain saw");
    ck_assert_str_eq(c.hash, sha("tench\nchain saw\nlast\n", 21));
    rt_classes_fini(&c);
    put_text(dir, "list", "a\n\nb\n");
    rt_fails(rt_classes_read(path, &c), RT_ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(rt_error_what(), ":2: empty line"));
    put_file(dir, "list", "a\0b\n", 4);
    rt_fails(rt_classes_read(path, &c), RT_ERR_FORMAT);
    put_text(dir, "list", "");
    rt_fails(rt_classes_read(path, &c), RT_ERR_FORMAT);
    rt_ok(rt_fs_join(path, sizeof path, dir, "absent"));
    rt_fails(rt_classes_read(path, &c), RT_ERR_MISSING);
    temp_gone(dir);
}
END_TEST

static void expands_to(const char *pattern, const char *want)
{
    char **name = NULL, all[512] = "";
    size_t n = 0;
    rt_ok(rt_expand_pattern(pattern, &name, &n));
    for (size_t i = 0; i < n; i++) {
        strcat(all, name[i]);
        strcat(all, i + 1 < n ? " " : "");
    }
    rt_fs_list_free(name, n);
    ck_assert_str_eq(all, want);
}

START_TEST(patterns_expand_like_a_shell)
{
    expands_to("a.tar", "a.tar");
    expands_to("a-{08..11}.tar", "a-08.tar a-09.tar a-10.tar a-11.tar");
    expands_to("x{1..2}-{a,b,}.t", "x1-a.t x1-b.t x1-.t x2-a.t x2-b.t x2-.t");
    expands_to("a,b{3..4},c", "a b3 b4 c");
    static const char *const bad[] = {"{a..b}", "{1..", "a}", "{{1..2}}", "{2..1}", "a,,b", "{0..999999999}", ""};
    char **name = NULL;
    size_t n = 0;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) rt_fails(rt_expand_pattern(bad[i], &name, &n), RT_ERR_CONFIG);
    ck_assert_ptr_null(name);
}
END_TEST

START_TEST(order_is_a_permutation_fixed_by_seed_and_epoch)
{
    enum { N = 1000 };
    int64_t a[N], b[N];
    bool seen[N] = {false};
    rt_epoch_order(7, 3, N, a);
    rt_epoch_order(7, 3, N, b);
    ck_assert_mem_eq(a, b, sizeof a);
    for (int i = 0; i < N; i++) {
        ck_assert(a[i] >= 0 && a[i] < N && !seen[a[i]]);
        seen[a[i]] = true;
    }
    rt_epoch_order(7, 4, N, b);
    ck_assert_mem_ne(a, b, sizeof a);
    rt_epoch_order(8, 3, N, b);
    ck_assert_mem_ne(a, b, sizeof a);
}
END_TEST

static const rt_test tests[] = {
    {"hash is of names and order", hash_is_of_names_and_order},
    {"longer list differs at its first extra class", longer_list_differs_at_its_first_extra_class},
    {"bad lists are refused", bad_lists_are_refused},
    {"reads a file with any line end", reads_a_file_with_any_line_end},
    {"patterns expand like a shell", patterns_expand_like_a_shell},
    {"order is a permutation fixed by seed and epoch", order_is_a_permutation_fixed_by_seed_and_epoch},
};
RT_SUITE("data.classes", tests)
