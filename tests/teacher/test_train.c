/* The training loop: learns, repeats, resumes to the same bytes, refuses to diverge silently; and evaluation on top of it. */
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/rng.h"
#include "eval/eval.h"
#include "support/suite.h"

enum { CLASSES = 3, SIZE = 8, N = 60, PX = SIZE * SIZE * 3 };

/* Class k is bright in channel k, with noise: learnable in a few epochs, not at once. */
static rt_images make_images(uint64_t seed, const char *const *names)
{
    rt_images im = {.n = N, .h = SIZE, .w = SIZE};
    im.px = rt_malloc(N * PX);
    im.label = rt_malloc(N * sizeof *im.label);
    im.key = rt_calloc(N * sizeof *im.key);
    rt_ok(rt_classes_make(names, CLASSES, &im.classes));
    for (int i = 0; i < N; i++) {
        rt_rng r = rt_rng_at(seed, RT_RNG_TEST, (uint64_t)i, 0);
        im.label[i] = i % CLASSES;
        im.key[i] = rt_asprintf("%d", i);
        for (int k = 0; k < PX; k++)
            im.px[i * PX + k] = (uint8_t)(rt_rng_below(&r, 160) + (k % 3 == im.label[i] ? 60 : 20));
    }
    return im;
}

static const char *const names[] = {"red", "green", "blue"};
static const rt_model_desc net = {.arch = "convnet", .depth = 1, .width = 8, .norm = RT_MODEL_NORM_INSTANCE, .size = SIZE,
                                  .channels = 3, .classes = CLASSES};
static const rt_model_desc bn_net = {.arch = "convnet", .depth = 1, .width = 8, .norm = RT_MODEL_NORM_BATCH, .size = SIZE,
                                     .channels = 3, .classes = CLASSES};

static rt_recipe recipe(rt_augment_kind augment)
{
    rt_recipe r = {.name = "test", .epochs = 12, .batch = 16, .augment = augment, .dsa_strategy = "color_crop_flip"};
    r.optim = (rt_optim_desc){.kind = RT_SGD, .lr = 0.05, .momentum = 0.9, .weight_decay = 5e-4};
    r.schedule = (rt_schedule){.kind = RT_SCHED_COSINE, .zeta = 1};
    return r;
}

typedef struct outcome {
    float theta[4096], buffers[64];
    double accuracy;
    rt_train_result r;
} outcome;

static rt_status train(const char *backend, int threads, const rt_model_desc *d, const rt_recipe *r, const char *ckpt,
                       double ckpt_seconds, outcome *o)
{
    rt_backend *be = NULL;
    rt_trainer *t = NULL;
    rt_images im = make_images(1, names);
    int32_t predicted[N];
    rt_ok(rt_backend_open(backend, &(rt_backend_opts){.threads = threads, .strict = true}, &be));
    rt_ok(rt_trainer_create(be, d, r, &t));
    ck_assert_int_le(rt_model_n_params(rt_trainer_model(t)), 4096);
    rt_train_data data = {.n = N, .images = &im, .label = im.label, .norm = {{0.5f, 0.5f, 0.5f}, {0.25f, 0.25f, 0.25f}}};
    rt_train_run run = {.seed = 9, .ckpt_dir = ckpt, .inputs_hash = "test", .ckpt_seconds = ckpt_seconds, .keep = 2,
                        .threads = threads, .phase = "test", .snapshot_epoch = 2};
    rt_status st = rt_trainer_run(t, &data, &run, &o->r);
    if (st == RT_OK) {
        rt_ok(rt_trainer_weights(t, false, o->theta, o->buffers));
        rt_ok(rt_trainer_infer(t, &data, threads, NULL, NULL, predicted));
        int hits = 0;
        for (int i = 0; i < N; i++) hits += predicted[i] == im.label[i];
        o->accuracy = (double)hits / N;
    }
    rt_trainer_destroy(t);
    rt_backend_close(be);
    rt_images_fini(&im);
    return st;
}

START_TEST(learns_and_repeats)
{
    static outcome a, b;
    rt_recipe r = recipe(RT_AUGMENT_NONE);
    rt_ok(train("cpu", 1, &net, &r, NULL, 0, &a));
    rt_ok(train("cpu", 1, &net, &r, NULL, 0, &b));
    ck_assert_msg(a.accuracy > 0.9, "accuracy %.3f", a.accuracy);
    ck_assert(a.r.last_loss < 0.5 * a.r.first_loss);
    ck_assert_int_eq(a.r.steps, 12 * 4); /* 60 images in batches of 16: the last one is short */
    ck_assert(a.r.images_seen == 12.0 * N);
    ck_assert_mem_eq(a.theta, b.theta, sizeof a.theta);
}
END_TEST

START_TEST(threads_and_backends_agree)
{
    static outcome one, two, ref;
    rt_recipe r = recipe(RT_AUGMENT_DSA);
    r.epochs = 1;
    rt_ok(train("cpu", 1, &net, &r, NULL, 0, &one));
    rt_ok(train("cpu", 2, &net, &r, NULL, 0, &two));
    rt_ok(train("ref", 1, &net, &r, NULL, 0, &ref));
    for (size_t i = 0; i < sizeof one.theta / sizeof *one.theta; i++) {
        rt_assert_near((double)two.theta[i], (double)one.theta[i], 1e-6, 1e-5);
        rt_assert_near((double)one.theta[i], (double)ref.theta[i], 1e-5, 1e-4);
    }
}
END_TEST

START_TEST(every_augmentation_learns)
{
    static outcome o;
    for (int k = RT_AUGMENT_NONE; k <= RT_AUGMENT_RRC_CUTMIX; k++) {
        rt_recipe r = recipe((rt_augment_kind)k);
        rt_ok(train("cpu", 1, &bn_net, &r, NULL, 0, &o));
        ck_assert_msg(o.accuracy > 0.6, "augmentation %d: accuracy %.3f", k, o.accuracy);
    }
    rt_recipe idc = recipe(RT_AUGMENT_DSA);
    idc.dsa_mode = 'I';
    idc.cutmix = 0.5;
    rt_ok(train("cpu", 1, &bn_net, &idc, NULL, 0, &o));
    ck_assert_msg(o.accuracy > 0.6, "IDC's views: accuracy %.3f", o.accuracy);
}
END_TEST

static int stop_after;
static void count_steps(void *ctx, const rt_progress *p)
{
    (void)ctx;
    (void)p;
    if (--stop_after == 0) rt_stop_request();
}

START_TEST(resumes_to_the_same_bytes)
{
    static outcome whole, parts;
    char dir[] = "/tmp/retort-train-XXXXXX", ckpt[64];
    ck_assert(mkdtemp(dir) != NULL);
    snprintf(ckpt, sizeof ckpt, "%s/ckpt", dir);
    rt_recipe r = recipe(RT_AUGMENT_RRC_CUTMIX);
    r.optim.kind = RT_ADAMW;
    r.optim.lr = 0.01, r.optim.beta1 = 0.9, r.optim.beta2 = 0.999, r.optim.eps = 1e-8;
    rt_ok(train("cpu", 1, &bn_net, &r, NULL, 0, &whole));
    rt_progress_set(count_steps, NULL);
    stop_after = 7;
    rt_fails(train("cpu", 1, &bn_net, &r, ckpt, 1e9, &parts), RT_ERR_CANCELLED);
    rt_stop_clear();
    stop_after = 13;
    rt_fails(train("cpu", 1, &bn_net, &r, ckpt, 1e9, &parts), RT_ERR_CANCELLED);
    rt_stop_clear();
    stop_after = -1;
    rt_ok(train("cpu", 1, &bn_net, &r, ckpt, 0, &parts));
    ck_assert_mem_eq(whole.theta, parts.theta, sizeof whole.theta);
    ck_assert_mem_eq(whole.buffers, parts.buffers, sizeof whole.buffers);
    ck_assert(whole.r.last_loss == parts.r.last_loss && whole.r.steps == parts.r.steps);
    rt_ok(rt_fs_remove_tree(dir));
}
END_TEST

START_TEST(divergence_is_an_error)
{
    static outcome o;
    rt_recipe r = recipe(RT_AUGMENT_NONE);
    r.optim.lr = 1e30;
    rt_fails(train("cpu", 1, &net, &r, NULL, 0, &o), RT_ERR_NUMERIC);
    ck_assert(strstr(rt_error_what(), "step") != NULL);
    r = recipe(RT_AUGMENT_DSA);
    r.dsa_strategy = "color_zoom";
    rt_fails(train("cpu", 1, &net, &r, NULL, 0, &o), RT_ERR_CONFIG);
    ck_assert(strstr(rt_error_what(), "zoom") != NULL);
}
END_TEST

static rt_set set_of(const rt_images *im)
{
    rt_set s = {.n = im->n, .h = SIZE, .w = SIZE, .ipc = N / CLASSES, .norm = {{0.5f, 0.5f, 0.5f}, {0.25f, 0.25f, 0.25f}}};
    s.px = rt_malloc(N * PX * sizeof *s.px);
    s.label = rt_malloc(N * sizeof *s.label);
    for (int i = 0; i < N * PX; i++) s.px[i] = ((float)im->px[i] / 255.0f - 0.5f) / 0.25f;
    memcpy(s.label, im->label, N * sizeof *s.label);
    rt_ok(rt_classes_copy(&im->classes, &s.classes));
    return s;
}

START_TEST(evaluation_scores_and_refuses)
{
    static const char *const other[] = {"red", "blue", "green"};
    rt_images train_im = make_images(1, names), test = make_images(2, names), wrong = make_images(2, other);
    rt_set s = set_of(&train_im);
    rt_backend *be = NULL;
    rt_trainer *t = NULL;
    rt_eval_result e;
    rt_recipe r;
    rt_protocol_recipe(RT_P1_PLAIN, N, CLASSES, 120, &r);
    ck_assert_int_eq(r.epochs, 121);
    rt_ok(rt_backend_open("cpu", &(rt_backend_opts){.threads = 1, .strict = true}, &be));
    rt_ok(rt_trainer_create(be, &net, &r, &t));
    rt_train_run run = {.seed = 1, .threads = 1, .phase = "test"};
    rt_train_data test_data = {.n = N, .images = &test, .label = test.label, .norm = s.norm};
    rt_eval_task task = {.test = &test_data, .classes = &test.classes};
    rt_ok(rt_eval_set(t, &s, &task, &run, &e));
    ck_assert(isnan(e.best) && e.best_epoch == 0);
    ck_assert_msg(e.accuracy > 0.8, "accuracy %.3f", e.accuracy);
    ck_assert(e.n_correct == (int64_t)(e.accuracy * N + 0.5) && e.n_test == N);
    double mean = (e.per_class[0] + e.per_class[1] + e.per_class[2]) / 3;
    rt_assert_near(mean, e.accuracy, 1e-12, 0);
    rt_eval_result_fini(&e);
    task.classes = &wrong.classes;
    rt_fails(rt_eval_set(t, &s, &task, &run, &e), RT_ERR_FORMAT);
    ck_assert(strstr(rt_error_what(), "green") != NULL || strstr(rt_error_where(), "green") != NULL);
    rt_trainer_destroy(t);
    rt_backend_close(be);
    rt_set_fini(&s);
    rt_images_fini(&train_im);
    rt_images_fini(&test);
    rt_images_fini(&wrong);
}
END_TEST

/* Two gradients a step: it learns, repeats, goes elsewhere than plain descent, and counts both passes. */
START_TEST(gsam_learns_and_repeats)
{
    static outcome a, b, plain;
    rt_recipe r = recipe(RT_AUGMENT_DSA);
    r.epochs = 20;
    rt_ok(train("cpu", 1, &net, &r, NULL, 0, &plain));
    r.gsam_rho = 0.05;
    r.gsam_alpha = 0.3;
    rt_ok(train("cpu", 1, &net, &r, NULL, 0, &a));
    rt_ok(train("cpu", 1, &net, &r, NULL, 0, &b));
    ck_assert_int_eq(memcmp(a.theta, b.theta, sizeof a.theta), 0);
    ck_assert_int_ne(memcmp(a.theta, plain.theta, sizeof a.theta), 0);
    ck_assert_msg(a.accuracy > 0.8, "accuracy %.3f", a.accuracy);
    ck_assert_msg(a.r.flops > 1.8 * plain.r.flops && a.r.flops < 2.5 * plain.r.flops, "%g against %g", a.r.flops, plain.r.flops);
    rt_ok(train("ref", 1, &net, &r, NULL, 0, &b)); /* in float64 */
    double d = 0, n = 0;
    for (int i = 0; i < 4096; i++) {
        d += pow((double)a.theta[i] - (double)b.theta[i], 2);
        n += pow((double)b.theta[i], 2);
    }
    rt_assert_near(sqrt(d / n), 0, 1e-3, 0);
}
END_TEST

static const rt_test tests[] = {{"learns and repeats", learns_and_repeats},
                                {"threads and back ends agree", threads_and_backends_agree},
                                {"every augmentation learns", every_augmentation_learns},
                                {"resumes to the same bytes", resumes_to_the_same_bytes},
                                {"divergence is an error", divergence_is_an_error},
                                {"evaluation scores and refuses", evaluation_scores_and_refuses},
                                {"gsam learns and repeats", gsam_learns_and_repeats}};
RT_SUITE("teacher", tests)
