/* IDC as a method: sweeps with a step after every class against PyTorch's sequential ones, repeatability, stop and resume,
 * subsets of decoded images, what the set says. The gradients themselves are in test_match.c. */
#include "fixture.h"

static const char *const loop[] = {"idc.iterations=1", "idc.inner=3",      "idc.batch_real=4",    "idc.lr=0.5",
                                   "idc.momentum=0.5", "idc.train_images=0", "idc.update=class"};
enum { LOOP = sizeof loop / sizeof *loop };

static void agree(const char *backend, const char *update, const char *golden_name, double tolerance)
{
    fixture x;
    rt_set s = {0};
    rt_st_file *f = golden_open("grad/match");
    const char *overrides[LOOP];
    memcpy(overrides, loop, sizeof loop);
    overrides[LOOP - 1] = update;
    set_up(&x, overrides, LOOP, true);
    rt_ok(construct(&x, "idc", backend, true, &s));
    const double *want = golden(f, golden_name, C * SYN * PX);
    double *init = filled(900, C * SYN * PX, 0.5, 0.5), err = 0, moved = 0;
    for (int i = 0; i < C * SYN * PX; i++) {
        double w = want[i] < 0 ? 0 : want[i] > 1 ? 1 : want[i]; /* the set is clamped */
        err += ((double)s.px[i] - w) * ((double)s.px[i] - w);
        moved += (w - init[i]) * (w - init[i]);
    }
    ck_assert_msg(sqrt(moved / (C * SYN * PX)) > 0.01, "the images moved by %g only", sqrt(moved / (C * SYN * PX)));
    ck_assert_msg(sqrt(err / moved) <= tolerance, "%s %s: images differ by %g of how far they moved", backend, update,
                  sqrt(err / moved));
    ck_assert(s.unit && s.factor == 2);
    ck_assert((strstr(s.notes, "joint step") != NULL) == !strcmp(update, "idc.update=joint"));
    free(init);
    rt_set_fini(&s);
    rt_st_close(f);
    tear_down(&x);
}

START_TEST(ref_agrees_with_torch)
{
    agree("ref", "idc.update=class", "loop_idc_class.images", 5e-6); /* images pass through float32 */
    agree("ref", "idc.update=joint", "loop_idc_joint.images", 5e-6);
}
END_TEST

START_TEST(cpu_agrees_with_torch)
{
    agree("cpu", "idc.update=class", "loop_idc_class.images", 1e-4);
    agree("cpu", "idc.update=joint", "loop_idc_joint.images", 1e-4);
}
END_TEST

/* With training on real data, CutMix, subsets of the decoded images and pre-training. */
START_TEST(stops_and_resumes_to_the_same_bytes)
{
    static const char *const settings[] = {"idc.iterations=5",    "idc.inner=2",      "idc.batch_real=4", "idc.batch_syn=3",
                                           "idc.train_images=12", "idc.batch_train=5", "idc.pretrain=1",   "idc.init=random",
                                           "idc.distance=l1"};
    fixture x;
    rt_set whole = {0}, again = {0}, parts = {0};
    set_up(&x, settings, sizeof settings / sizeof *settings, true);
    rt_ok(construct(&x, "idc", "cpu", false, &whole));
    rt_ok(rt_fs_remove_tree(x.ckpt));
    rt_ok(construct(&x, "idc", "cpu", false, &again));
    ck_assert_mem_eq(whole.px, again.px, (size_t)(C * SYN * PX) * sizeof *whole.px);
    rt_ok(rt_fs_remove_tree(x.ckpt));
    stop_after = 4; /* two reports an iteration */
    rt_progress_set(count_down, NULL);
    rt_fails(construct(&x, "idc", "cpu", false, &parts), RT_ERR_CANCELLED);
    rt_progress_set(NULL, NULL);
    rt_stop_clear();
    rt_ok(construct(&x, "idc", "cpu", false, &parts));
    ck_assert_mem_eq(whole.px, parts.px, (size_t)(C * SYN * PX) * sizeof *whole.px);
    ck_assert_str_eq(whole.trace, parts.trace);
    ck_assert_ptr_nonnull(strstr(whole.notes, "random images"));
    for (int i = 0; i < C * SYN * PX; i++) ck_assert(whole.px[i] >= 0 && whole.px[i] <= 1);
    rt_set_fini(&whole);
    rt_set_fini(&again);
    rt_set_fini(&parts);
    tear_down(&x);
}
END_TEST

START_TEST(networks_without_convolutions_are_refused)
{
    fixture x;
    rt_set s = {0};
    set_up(&x, loop, LOOP, true);
    x.net = (rt_model_desc){.arch = "mlp", .size = SIZE, .channels = 3, .classes = C};
    rt_fails(construct(&x, "idc", "cpu", false, &s), RT_ERR_CONFIG);
    tear_down(&x);
}
END_TEST

static const rt_test tests[] = {{"ref and torch", ref_agrees_with_torch},
                                {"cpu and torch", cpu_agrees_with_torch},
                                {"resume", stops_and_resumes_to_the_same_bytes},
                                {"mlp", networks_without_convolutions_are_refused}};
RT_SUITE("methods.idc", tests)
