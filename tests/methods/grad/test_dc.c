/* DC and DSA as methods: the whole loop against PyTorch, the law of the loops, repeatability, stop and resume, small classes,
 * refusals. The gradients themselves are in test_match.c. */
#include "fixture.h"

static const char *const loop[] = {"dc.iterations=1", "dc.outer=3", "dc.inner=2", "dc.batch_real=4", "dc.lr=0.5",
                                   "dc.lr_net=0.25", "dc.distance=cosine"};
enum { LOOP = sizeof loop / sizeof *loop };

static void agree(const char *backend, const char *distance, const char *golden_name, double tolerance)
{
    fixture x;
    rt_set s = {0};
    rt_st_file *f = golden_open("grad/match");
    const char *overrides[LOOP];
    memcpy(overrides, loop, sizeof loop);
    overrides[LOOP - 1] = distance;
    set_up(&x, overrides, LOOP, false);
    rt_ok(construct(&x, "dc", backend, true, &s));
    const double *want = golden(f, golden_name, C * SYN * PX);
    double *init = filled(900, C * SYN * PX, 1, 0), err = 0, moved = 0;
    for (int i = 0; i < C * SYN * PX; i++) {
        err += ((double)s.px[i] - want[i]) * ((double)s.px[i] - want[i]);
        moved += (want[i] - init[i]) * (want[i] - init[i]);
    }
    ck_assert_msg(sqrt(moved / (C * SYN * PX)) > 0.01, "the images moved by %g only", sqrt(moved / (C * SYN * PX)));
    ck_assert_msg(sqrt(err / moved) <= tolerance, "%s %s: images differ by %g of how far they moved", backend, distance,
                  sqrt(err / moved));
    free(init);
    rt_set_fini(&s);
    rt_st_close(f);
    tear_down(&x);
}

START_TEST(ref_agrees_with_torch)
{
    agree("ref", "dc.distance=cosine", "loop_cosine.images", 5e-6); /* images pass through float32 */
    agree("ref", "dc.distance=mse", "loop_mse.images", 5e-6);
}
END_TEST

START_TEST(cpu_agrees_with_torch)
{
    agree("cpu", "dc.distance=cosine", "loop_cosine.images", 1e-4);
    agree("cpu", "dc.distance=mse", "loop_mse.images", 1e-4);
}
END_TEST

static const char *const dsa[] = {"dc.iterations=6", "dc.batch_real=4", "dc.outer=2", "dc.inner=2", "dc.batch_train=4"};

START_TEST(stops_and_resumes_to_the_same_bytes)
{
    fixture x;
    rt_set whole = {0}, again = {0}, parts = {0};
    for (int bn = 0; bn < 2; bn++) {
        set_up(&x, dsa, 5, false);
        if (bn) x.net.norm = RT_MODEL_NORM_BATCH;
        rt_ok(construct(&x, "dsa", "cpu", false, &whole));
        rt_ok(rt_fs_remove_tree(x.ckpt));
        rt_ok(construct(&x, "dsa", "cpu", false, &again));
        ck_assert_mem_eq(whole.px, again.px, (size_t)(C * SYN * PX) * sizeof *whole.px);
        rt_ok(rt_fs_remove_tree(x.ckpt));
        stop_after = 3 + bn; /* two reports an iteration: inside the second one, and at its end */
        rt_progress_set(count_down, NULL);
        rt_fails(construct(&x, "dsa", "cpu", false, &parts), RT_ERR_CANCELLED);
        rt_progress_set(NULL, NULL);
        rt_stop_clear();
        rt_ok(construct(&x, "dsa", "cpu", false, &parts));
        ck_assert_mem_eq(whole.px, parts.px, (size_t)(C * SYN * PX) * sizeof *whole.px);
        ck_assert_str_eq(whole.trace, parts.trace);
        ck_assert_str_eq(whole.method, "dsa");
        ck_assert_ptr_nonnull(strstr(whole.notes, "\"skipped\":0"));
        rt_set_fini(&whole);
        rt_set_fini(&again);
        rt_set_fini(&parts);
        tear_down(&x);
    }
}
END_TEST

/* More real images per step than a class has: the class counts whole, and the rest is filler. */
START_TEST(small_classes_count_whole)
{
    fixture x;
    rt_set all = {0}, more = {0};
    set_up(&x, (const char *const[]){"dc.iterations=2", "dc.batch_real=10", "dc.init=real"}, 3, false);
    rt_ok(construct(&x, "dc", "cpu", false, &all));
    tear_down(&x);
    set_up(&x, (const char *const[]){"dc.iterations=2", "dc.batch_real=13", "dc.init=real"}, 3, false);
    rt_ok(construct(&x, "dc", "cpu", false, &more));
    for (int i = 0; i < C * SYN * PX; i++) rt_assert_near((double)more.px[i], (double)all.px[i], 1e-4, 1e-4);
    rt_set_fini(&all);
    rt_set_fini(&more);
    tear_down(&x);
}
END_TEST

START_TEST(bad_settings_are_refused)
{
    fixture x;
    rt_set s = {0};
    set_up(&x, (const char *const[]){"dc.iterations=2"}, 1, false);
    rt_fails(construct(&x, "dc", "cpu", true, &s), RT_ERR_FORMAT); /* the files hold another batch and fewer steps */
    tear_down(&x);
    set_up(&x, (const char *const[]){"dc.iterations=20", "dc.lr=100000", "dc.batch_real=4", "dc.distance=mse"}, 4, false);
    x.net.norm = RT_MODEL_NORM_NONE;
    rt_fails(construct(&x, "dc", "cpu", false, &s), RT_ERR_NUMERIC);
    ck_assert_ptr_null(s.px);
    tear_down(&x);
}
END_TEST

static const rt_test tests[] = {{"ref and torch", ref_agrees_with_torch},
                                {"cpu and torch", cpu_agrees_with_torch},
                                {"resume", stops_and_resumes_to_the_same_bytes},
                                {"small classes", small_classes_count_whole},
                                {"refusals", bad_settings_are_refused}};
RT_SUITE("methods.dc", tests)
