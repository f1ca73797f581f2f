/* Protocols and students: the published settings, what a set may decide about its students, checks along the way, and the
 * refusals. Classes are colours, so that a few epochs tell right from wrong targets. */
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/rng.h"
#include "eval/eval.h"
#include "support/suite.h"

enum { CLASSES = 3, SIZE = 8, N = 30, PX = SIZE * SIZE * 3 };
static const char *const names[] = {"red", "green", "blue"};
static const rt_model_desc net = {.arch = "convnet", .depth = 1, .width = 8, .norm = RT_MODEL_NORM_INSTANCE, .size = SIZE,
                                  .channels = 3, .classes = CLASSES};
static const char zca_a[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
static const char zca_b[] = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/* Class k is bright in channel k; pixels in [0,1] minus a half, times two. */
static rt_set make_set(uint64_t seed)
{
    rt_set s = {.n = N, .h = SIZE, .w = SIZE, .ipc = N / CLASSES, .norm = {{0.5f, 0.5f, 0.5f}, {0.5f, 0.5f, 0.5f}}, .method = "test"};
    rt_ok(rt_classes_make(names, CLASSES, &s.classes));
    s.px = rt_malloc(N * PX * sizeof *s.px);
    s.label = rt_malloc(N * sizeof *s.label);
    for (int i = 0; i < N; i++) {
        rt_rng r = rt_rng_at(seed, RT_RNG_TEST, (uint64_t)i, 0);
        s.label[i] = i * CLASSES / N;
        for (int k = 0; k < PX; k++)
            s.px[i * PX + k] = 1.2f * rt_rng_uniform(&r) - 0.9f + (k % 3 == s.label[i] ? 0.4f : 0.0f);
    }
    return s;
}

/* What one evaluation takes: a set to judge on, the task, a trainer. */
typedef struct bench {
    rt_backend *be;
    rt_trainer *t;
    rt_set test_set;
    rt_train_data test;
    rt_eval_task task;
    rt_train_run run;
} bench;

static void open_bench(bench *b, const rt_recipe *r)
{
    memset(b, 0, sizeof *b);
    rt_ok(rt_backend_open("cpu", &(rt_backend_opts){.threads = 1, .strict = true}, &b->be));
    rt_ok(rt_trainer_create(b->be, &net, r, &b->t));
    b->test_set = make_set(77);
    b->test = (rt_train_data){.n = N, .px = b->test_set.px, .label = b->test_set.label};
    b->task = (rt_eval_task){.test = &b->test, .classes = &b->test_set.classes};
    b->run = (rt_train_run){.seed = 3, .threads = 1, .phase = "test", .inputs_hash = "test", .ckpt_seconds = 1e9};
}

static void close_bench(bench *b)
{
    rt_trainer_destroy(b->t);
    rt_backend_close(b->be);
    rt_set_fini(&b->test_set);
}

static rt_recipe quick_recipe(int64_t epochs)
{
    rt_recipe r;
    rt_protocol_recipe(RT_P1_PLAIN, N, CLASSES, epochs, &r);
    r.batch = 10;
    r.optim.lr = 0.05;
    return r;
}

/* matching.md 5, line by line. */
START_TEST(settings_are_the_published_ones)
{
    static const struct {
        const char *name;
        rt_optim_kind kind;
        rt_augment_kind augment;
        int64_t epochs, batch;
        double lr, decay, factor, cutmix, milestone[4];
        int n_milestones, restart;
        char mode;
        bool follows;
    } want[] = {
        {"p1_plain", RT_SGD, RT_AUGMENT_NONE, 301, 256, 0.01, 5e-4, 0.1, 0, {152}, 1, 1, 0, false},
        {"p1_classic", RT_SGD, RT_AUGMENT_DSA, 1001, 256, 0.01, 5e-4, 0.1, 0, {502}, 1, 1, 0, false},
        {"p1_mtt", RT_SGD, RT_AUGMENT_DSA, 1001, 256, 0.01, 5e-4, 0.1, 0, {502}, 1, 1, 0, true},
        {"p1_datm", RT_SGD, RT_AUGMENT_DSA, 1001, 128, 0.01, 5e-4, 0.1, 0, {502}, 1, 1, 0, true},
        {"p1_idc", RT_SGD, RT_AUGMENT_DSA, 1000, 64, 0.01, 5e-4, 0.2, 0.5, {666, 833}, 2, 0, 'I', false},
        {"p1_datadam", RT_SGD, RT_AUGMENT_DSA, 1801, 64, 0.01, 5e-4, 0.1, 0, {902}, 1, 1, 0, false},
        {"p1_ncfm", RT_ADAMW, RT_AUGMENT_DSA, 2000, 128, 1e-3, 1e-2, 0.5, 0.5, {400, 800, 1200, 1600}, 4, 0, 'I', false},
    };
    rt_protocol p;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        rt_recipe r;
        rt_ok(rt_protocol_find(want[i].name, &p));
        ck_assert_str_eq(rt_protocol_name(p), want[i].name);
        rt_protocol_recipe(p, 100, 10, 0, &r);
        ck_assert_str_eq(r.name, want[i].name);
        ck_assert_int_eq(r.epochs, want[i].epochs);
        ck_assert_int_eq(r.batch, want[i].batch);
        ck_assert(r.optim.kind == want[i].kind && r.augment == want[i].augment && r.dsa_mode == want[i].mode);
        ck_assert(r.optim.lr == want[i].lr && r.optim.weight_decay == want[i].decay && r.cutmix == want[i].cutmix);
        ck_assert(want[i].kind == RT_ADAMW || r.optim.momentum == 0.9);
        ck_assert(r.schedule.kind == RT_SCHED_STEP && r.schedule.factor == want[i].factor && r.schedule.restart == want[i].restart);
        ck_assert_int_eq(r.schedule.n_milestones, want[i].n_milestones);
        for (int k = 0; k < want[i].n_milestones; k++) ck_assert(r.schedule.milestone[k] == want[i].milestone[k]);
        ck_assert(rt_protocol_follows_set(p) == want[i].follows);
    }
    rt_fails(rt_protocol_find("p4", &p), RT_ERR_CONFIG);
    ck_assert_ptr_nonnull(strstr(rt_error_remedy(), "p1_ncfm"));
}
END_TEST

/* Soft labels say class + 1: a student that follows them is never right, one on class labels nearly always. */
/* decoupled.md 5, line by line. */
START_TEST(protocols_of_the_distillation_budget)
{
    static const struct {
        const char *name;
        int64_t epochs, batch; /* 100 images of 10 classes */
        double zeta, temperature, gamma, ema, crop;
        rt_lesson teachers;
        rt_loss_kind loss;
        rt_target_kind target;
        rt_schedule_kind schedule;
        int parts;
    } want[] = {
        {"p1", 300, 50, 1, 0, 0, 0, 0, RT_LESSON_NONE, RT_LOSS_CE, RT_TARGET_MEAN, RT_SCHED_COSINE, 0},
        {"p2", 300, 50, 2, 20, 0, 0, 0, RT_LESSON_FIRST, RT_LOSS_KL, RT_TARGET_MEAN, RT_SCHED_COSINE, 0},
        {"p2_rd3", 400, 50, 2, 20, 0, 0, 0, RT_LESSON_FIRST, RT_LOSS_KL, RT_TARGET_MEAN, RT_SCHED_COSINE, 0},
        {"p2_sre2l", 300, 1024, 1, 20, 0, 0, 0.08, RT_LESSON_FIRST, RT_LOSS_KL, RT_TARGET_MEAN, RT_SCHED_COSINE, 0},
        {"p2_fixed", 300, 50, 2, 20, 0, 0, 0, RT_LESSON_FIRST, RT_LOSS_KL, RT_TARGET_MEAN, RT_SCHED_COSINE, 0},
        {"p3", 300, 50, 2, 0, 0.025, 0.99, 0, RT_LESSON_COMMITTEE, RT_LOSS_MSE_GT, RT_TARGET_MEAN, RT_SCHED_COSINE, 0},
        {"p3_kl", 300, 50, 2, 20, 0, 0, 0, RT_LESSON_COMMITTEE, RT_LOSS_KL, RT_TARGET_MEAN, RT_SCHED_COSINE, 0},
        {"p3_edc", 300, 100, 2, 0, 0.025, 0.99, 0, RT_LESSON_COMMITTEE, RT_LOSS_MSE_GT, RT_TARGET_MEAN, RT_SCHED_LINEAR, 0},
        {"p3_gvbsm", 300, 50, 2, 0, 0.025, 0.99, 0, RT_LESSON_COMMITTEE, RT_LOSS_MSE_GT, RT_TARGET_EQUALISED, RT_SCHED_COSINE, 0},
        {"p3_5xr18", 300, 50, 2, 20, 0, 0, 0, RT_LESSON_RUNS, RT_LOSS_KL, RT_TARGET_MEAN, RT_SCHED_COSINE, 0},
        {"p3_bssl", 300, 16, 2, 20, 0, 0, 0, RT_LESSON_COMMITTEE, RT_LOSS_KL, RT_TARGET_MEAN, RT_SCHED_COSINE, 2},
    };
    static const struct {
        const char *arch;
        double lr;
    } rate[] = {{"resnet18", 1e-3},     {"resnet101", 1e-3}, {"convnet", 1e-3},  {"vgg11", 5e-4},  {"efficientnet_b0", 2e-3},
                {"mobilenet_v2", 2.5e-3}, {"alexnet", 1e-4},   {"vit_b_16", 1e-4}, {"swin_t", 1e-4}};
    static const int64_t rule[][3] = {{10, 10, 50}, {500, 10, 100}, {1000, 100, 100}, {5000, 100, 200}, {10000, 1000, 100}}; /* n, classes, batch */
    rt_protocol p;
    rt_recipe r;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        rt_ok(rt_protocol_find(want[i].name, &p));
        rt_protocol_recipe(p, 100, 10, 0, &r);
        ck_assert(rt_protocol_budget(p) && !rt_protocol_follows_set(p) && rt_protocol_teachers(p) == want[i].teachers);
        ck_assert_msg(r.epochs == want[i].epochs && r.batch == want[i].batch, "%s: %d epochs, batch %d", r.name, (int)r.epochs, (int)r.batch);
        ck_assert(r.optim.kind == RT_ADAMW && r.optim.lr == 1e-3 && r.optim.weight_decay == 0.01 && r.decay_kernels_only);
        const bool fixed = p == RT_P2_FIXED;
        ck_assert(r.stored_targets == fixed && r.augment == (fixed ? RT_AUGMENT_RRC : RT_AUGMENT_RRC_CUTMIX));
        ck_assert(r.optim.beta1 == 0.9 && r.optim.beta2 == 0.999 && !r.patch_shuffle && !r.t_squared);
        ck_assert(r.schedule.kind == want[i].schedule && r.schedule.zeta == want[i].zeta && r.temperature == want[i].temperature);
        ck_assert(r.loss == want[i].loss && r.target == want[i].target && r.gamma == want[i].gamma && r.ema == want[i].ema);
        ck_assert(r.parts == want[i].parts && r.teacher_batch_stats == (want[i].parts > 0));
        rt_assert_near((double)r.rrc_scale, want[i].crop, 1e-8, 0);
        rt_protocol_student(p, "resnet18", &r);
        ck_assert(r.schedule.zeta == (p == RT_P2_RD3 ? 1 : want[i].zeta));
    }
    for (size_t i = 0; i < sizeof rate / sizeof *rate; i++) {
        rt_protocol_recipe(RT_P2, 100, 10, 0, &r);
        rt_protocol_student(RT_P2, rate[i].arch, &r);
        ck_assert_msg(r.optim.lr == rate[i].lr, "%s: %g", rate[i].arch, r.optim.lr);
    }
    for (size_t i = 0; i < sizeof rule / sizeof *rule; i++) {
        rt_protocol_recipe(RT_P2, rule[i][0], (int32_t)rule[i][1], 0, &r);
        ck_assert_int_eq(r.batch, rule[i][2]);
    }
    rt_schedule line = {.kind = RT_SCHED_LINEAR, .zeta = 2, .total = 10}, turn = {.kind = RT_SCHED_COSINE2, .zeta = 2, .total = 12};
    rt_assert_near(rt_schedule_at(&line, 1, 0), 1, 1e-15, 0);
    rt_assert_near(rt_schedule_at(&line, 1, 5), 0.75, 1e-15, 0);
    rt_assert_near(rt_schedule_at(&line, 1, 10), 0.5, 1e-15, 0);
    rt_assert_near(rt_schedule_at(&turn, 1, 6), 0.85355339059327376, 1e-14, 0); /* (1 + cos(pi / 4)) / 2 */
    rt_assert_near(rt_schedule_at(&turn, 1, 11), 0.62940952255126037 / 12, 1e-14, 0); /* (1 + cos(5 pi / 12)) / 2 */
    rt_assert_near(rt_schedule_at(&turn, 1, 12), 0, 1e-15, 0);
}
END_TEST

START_TEST(soft_labels_are_used_when_asked)
{
    rt_recipe r = quick_recipe(20);
    for (int logits = 0; logits < 2; logits++) {
        bench b;
        rt_eval_result hard, soft;
        rt_set s = make_set(1);
        open_bench(&b, &r);
        s.soft = rt_calloc(N * CLASSES * sizeof *s.soft);
        s.soft_logits = logits;
        for (int i = 0; i < N; i++) s.soft[i * CLASSES + (s.label[i] + 1) % CLASSES] = logits ? 9.0f : 1.0f;
        rt_ok(rt_eval_set(b.t, &s, &b.task, &b.run, &hard));
        b.task.soft_labels = true;
        rt_ok(rt_eval_set(b.t, &s, &b.task, &b.run, &soft));
        ck_assert_msg(hard.accuracy > 0.8, "class labels: %.3f", hard.accuracy);
        ck_assert_msg(soft.accuracy < 0.2, "shifted soft labels: %.3f", soft.accuracy);
        rt_eval_result_fini(&hard);
        rt_eval_result_fini(&soft);
        rt_set_fini(&s);
        close_bench(&b);
    }
}
END_TEST

/* A run's rate stands for the recipe's: with one of 1e-9 nothing is learned. Images are counted decoded. */
START_TEST(rate_and_tiles)
{
    rt_recipe r = quick_recipe(20);
    bench b;
    rt_eval_result e, still;
    rt_set s = make_set(1);
    open_bench(&b, &r);
    s.factor = 2;
    rt_ok(rt_eval_set(b.t, &s, &b.task, &b.run, &e));
    ck_assert_msg(e.accuracy > 0.8, "tiles: %.3f", e.accuracy);
    ck_assert(e.images_seen == 4.0 * N * (double)r.epochs);
    b.run.lr = 1e-9;
    rt_ok(rt_eval_set(b.t, &s, &b.task, &b.run, &still));
    double moved = fabs(still.last_loss - still.first_loss), learned = e.first_loss - e.last_loss; /* batches differ */
    ck_assert_msg(moved < 0.25 * learned, "rate 1e-9 moved the loss by %g, rate .05 by %g", moved, learned);
    rt_eval_result_fini(&e);
    rt_eval_result_fini(&still);
    rt_set_fini(&s);
    close_bench(&b);
}
END_TEST

static int stop_after;
static void count_steps(void *ctx, const rt_progress *p)
{
    (void)ctx;
    (void)p;
    if (--stop_after == 0) rt_stop_request();
}

/* The best is the maximum over the scores of every k-th epoch, found here by training to each of them on its own; an
 * interrupted student finds the same. */
START_TEST(best_over_checks)
{
    enum { EVERY = 2, EPOCHS = 9 };
    rt_recipe r = quick_recipe(EPOCHS);
    r.schedule = (rt_schedule){.kind = RT_SCHED_CONSTANT};
    r.optim.lr = 0.3; /* jumps about */
    rt_set s = make_set(1);
    rt_eval_result e, whole;
    bench b;
    double best = -1, last = -1;
    int64_t best_epoch = 0;
    for (int64_t epochs = EVERY; epochs <= r.epochs; epochs += EVERY) { /* DC's rule: 10 epochs of 9 */
        rt_recipe part = r;
        part.epochs = epochs;
        open_bench(&b, &part);
        rt_ok(rt_eval_set(b.t, &s, &b.task, &b.run, &e));
        ck_assert(isnan(e.best));
        if (e.accuracy > best) best = e.accuracy, best_epoch = epochs;
        last = e.accuracy;
        rt_eval_result_fini(&e);
        close_bench(&b);
    }
    open_bench(&b, &r);
    b.task.check_every = EVERY;
    rt_ok(rt_eval_set(b.t, &s, &b.task, &b.run, &whole));
    ck_assert(whole.best == best && whole.best_epoch == best_epoch);
    ck_assert(whole.accuracy == last);

    char dir[] = "/tmp/retort-eval-XXXXXX", ckpt[64];
    ck_assert(mkdtemp(dir) != NULL);
    snprintf(ckpt, sizeof ckpt, "%s/ckpt", dir);
    b.run.ckpt_dir = ckpt;
    rt_progress_set(count_steps, NULL);
    for (int k = 0; k < 2; k++) {
        stop_after = 13;
        rt_fails(rt_eval_set(b.t, &s, &b.task, &b.run, &e), RT_ERR_CANCELLED);
        rt_stop_clear();
    }
    stop_after = -1;
    rt_ok(rt_eval_set(b.t, &s, &b.task, &b.run, &e));
    ck_assert(e.best == whole.best && e.best_epoch == whole.best_epoch && e.accuracy == whole.accuracy);
    rt_eval_result_fini(&e);
    rt_eval_result_fini(&whole);
    rt_set_fini(&s);
    close_bench(&b);
    rt_ok(rt_fs_remove_tree(dir));
}
END_TEST

START_TEST(spaces_must_agree)
{
    rt_recipe r = quick_recipe(2);
    bench b;
    rt_eval_result e;
    rt_set s = make_set(1);
    open_bench(&b, &r);
    b.task.zca = zca_a;
    rt_fails(rt_eval_set(b.t, &s, &b.task, &b.run, &e), RT_ERR_CONFIG);
    ck_assert_ptr_nonnull(strstr(rt_error_remedy(), "data.zca=false"));
    memcpy(s.zca, zca_b, sizeof zca_b);
    s.rgb = rt_calloc(N * PX);
    rt_fails(rt_eval_set(b.t, &s, &b.task, &b.run, &e), RT_ERR_CONFIG);
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "bbbbbbbbbbbb"));
    b.task.zca = "";
    rt_fails(rt_eval_set(b.t, &s, &b.task, &b.run, &e), RT_ERR_CONFIG);
    ck_assert_ptr_nonnull(strstr(rt_error_remedy(), "data.zca=true"));
    b.task.zca = zca_b;
    rt_ok(rt_eval_set(b.t, &s, &b.task, &b.run, &e));
    rt_eval_result_fini(&e);
    close_bench(&b);

    rt_recipe kd;
    rt_protocol_recipe(RT_P1, N, CLASSES, 1, &kd);
    open_bench(&b, &kd);
    b.task.zca = zca_b;
    rt_fails(rt_eval_set(b.t, &s, &b.task, &b.run, &e), RT_ERR_CONFIG);
    ck_assert_ptr_nonnull(strstr(rt_error_remedy(), "p1_mtt"));
    rt_set_fini(&s);
    close_bench(&b);
}
END_TEST

static const rt_test tests[] = {{"settings are the published ones", settings_are_the_published_ones},
                                {"protocols of the distillation budget", protocols_of_the_distillation_budget},
                                {"soft labels are used when asked", soft_labels_are_used_when_asked},
                                {"rate and tiles", rate_and_tiles},
                                {"best over checks", best_over_checks},
                                {"spaces must agree", spaces_must_agree}};
RT_SUITE("eval", tests)
