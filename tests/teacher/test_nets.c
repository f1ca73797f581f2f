/* A trainer of several networks: each ends with the bytes that it has alone, whatever the views, the optimiser and the norm;
 * killed and resumed likewise. In strict mode on the cpu, where kernels compute a network of several as one alone. */
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/rng.h"
#include "support/suite.h"
#include "teacher/train.h"

enum { CLASSES = 3, SIZE = 8, N = 20, PX = SIZE * SIZE * 3, M = 3, MAX_P = 4096, MAX_B = 64 };

static const uint64_t numbers[M] = {4, 0, 7};
static const rt_model_desc nets[] = {
    {.arch = "convnet", .depth = 1, .width = 32, .norm = RT_MODEL_NORM_INSTANCE, .size = SIZE, .channels = 3, .classes = CLASSES},
    {.arch = "convnet", .depth = 2, .width = 8, .norm = RT_MODEL_NORM_BATCH, .size = SIZE, .channels = 3, .classes = CLASSES},
};

static rt_images make_images(void)
{
    static const char *const names[] = {"red", "green", "blue"};
    rt_images im = {.n = N, .h = SIZE, .w = SIZE};
    im.px = rt_malloc(N * PX);
    im.label = rt_malloc(N * sizeof *im.label);
    im.key = rt_calloc(N * sizeof *im.key);
    rt_ok(rt_classes_make(names, CLASSES, &im.classes));
    for (int i = 0; i < N; i++) {
        rt_rng r = rt_rng_at(1, RT_RNG_TEST, (uint64_t)i, 0);
        im.label[i] = i % CLASSES;
        im.key[i] = rt_asprintf("%d", i);
        for (int k = 0; k < PX; k++)
            im.px[i * PX + k] = (uint8_t)(rt_rng_below(&r, 160) + (k % 3 == im.label[i] ? 60 : 20));
    }
    return im;
}

static rt_recipe recipe(rt_augment_kind augment, bool adamw)
{
    rt_recipe r = {.name = "test", .epochs = 3, .batch = 8, .augment = augment, .dsa_strategy = "color_crop_flip_scale"};
    r.optim = (rt_optim_desc){.kind = RT_SGD, .lr = 0.05, .momentum = 0.9, .weight_decay = 5e-2};
    if (adamw) {
        r.optim = (rt_optim_desc){.kind = RT_ADAMW, .lr = 0.01, .weight_decay = 0.5, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
        r.decay_kernels_only = true;
    }
    r.schedule = (rt_schedule){.kind = RT_SCHED_COSINE, .zeta = 1};
    return r;
}

typedef struct outcome {
    int64_t p, b;
    float theta[M * MAX_P], buffers[M * MAX_B], early[M * MAX_P], early_buffers[M * MAX_B];
    int32_t predicted[M][N];
    rt_train_result r[M];
    rt_cost_entry cost;
    int epochs_told;
} outcome;

static rt_status tell(void *to, const rt_trainer *t, int64_t epoch)
{
    (void)t;
    (void)epoch;
    ++*(int *)to;
    return RT_OK;
}

/* Networks numbers[first .. first + n - 1] at once. */
static rt_status train(int threads, const rt_model_desc *d, const rt_recipe *r, int first, int n, const char *ckpt, outcome *o)
{
    rt_backend *be = NULL;
    rt_trainer *t = NULL;
    rt_images im = make_images();
    rt_ledger *ledger = NULL;
    memset(o, 0, sizeof *o);
    rt_ok(rt_backend_open("cpu", &(rt_backend_opts){.threads = threads, .strict = true}, &be));
    rt_ok(rt_trainer_create_many(be, d, r, n, &t));
    rt_ok(rt_ledger_create(&ledger));
    ck_assert_int_eq(rt_trainer_networks(t), n);
    o->p = rt_model_n_params(rt_trainer_model(t));
    o->b = rt_model_n_buffers(rt_trainer_model(t));
    ck_assert(o->p <= MAX_P && o->b <= MAX_B);
    rt_train_data data = {.n = N, .images = &im, .label = im.label, .norm = {{0.5f, 0.5f, 0.5f}, {0.25f, 0.25f, 0.25f}}};
    rt_train_run run = {.seed = 9, .networks = numbers + first, .ckpt_dir = ckpt, .inputs_hash = "test", .ckpt_seconds = 1e9,
                        .keep = 2, .threads = threads, .phase = "test", .snapshot_epoch = 2, .ledger = ledger,
                        .on_epoch = tell, .on_epoch_to = &o->epochs_told};
    rt_ledger_begin(ledger);
    rt_status st = rt_trainer_run(t, &data, &run, o->r);
    if (st == RT_OK) {
        o->cost = *rt_ledger_entry(ledger);
        rt_ok(rt_trainer_weights(t, false, o->theta, o->buffers));
        rt_ok(rt_trainer_weights(t, true, o->early, o->early_buffers));
        for (int m = 0; m < n; m++) rt_ok(rt_trainer_infer_of(t, m, &data, threads, NULL, NULL, o->predicted[m]));
        rt_fails(rt_trainer_infer_of(t, n, &data, threads, NULL, NULL, o->predicted[0]), RT_ERR_ARG);
    }
    rt_ledger_destroy(ledger);
    rt_trainer_destroy(t);
    rt_backend_close(be);
    rt_images_fini(&im);
    return st;
}

static void same(const outcome *all, const outcome *one, int m, const char *what)
{
    const size_t p = (size_t)one->p, b = (size_t)one->b;
    ck_assert_msg(!memcmp(all->theta + (size_t)m * p, one->theta, p * sizeof(float)), "%s: theta of network %d", what, m);
    ck_assert_msg(!memcmp(all->buffers + (size_t)m * b, one->buffers, b * sizeof(float)), "%s: buffers of network %d", what, m);
    ck_assert_mem_eq(all->early + (size_t)m * p, one->early, p * sizeof(float));
    ck_assert_mem_eq(all->early_buffers + (size_t)m * b, one->early_buffers, b * sizeof(float));
    ck_assert_mem_eq(all->predicted[m], one->predicted[0], sizeof one->predicted[0]);
    ck_assert(all->r[m].first_loss == one->r[0].first_loss && all->r[m].last_loss == one->r[0].last_loss);
    ck_assert_msg(all->r[m].flops == one->r[0].flops, "%s: %.17g flops, alone %.17g", what, all->r[m].flops, one->r[0].flops);
    ck_assert(all->r[m].steps == one->r[0].steps && all->r[m].images_seen == one->r[0].images_seen);
    ck_assert_msg(memcmp(one->theta, one->early, p * sizeof(float)) != 0, "%s: nothing learned after the snapshot", what);
}

START_TEST(networks_end_as_they_do_alone)
{
    static outcome all, one;
    char what[64];
    for (int k = 0; k < 12; k++) {
        const int threads = k % 2 + 1;
        rt_recipe r = recipe((rt_augment_kind)(k % 4), k % 3 == 1);
        if (k >= 8 && r.augment == RT_AUGMENT_DSA) r.dsa_mode = 'I', r.cutmix = 0.5;
        if (k >= 10) r.gsam_rho = 0.05, r.gsam_alpha = 0.3;
        snprintf(what, sizeof what, "augmentation %d, recipe %d", k % 4, k);
        rt_ok(train(threads, &nets[k / 4 % 2], &r, 0, M, NULL, &all));
        ck_assert(memcmp(all.theta, all.theta + all.p, (size_t)all.p * sizeof(float)) != 0);
        ck_assert_int_eq(all.epochs_told, 4);
        double images = 0;
        for (int m = 0; m < M; m++) {
            rt_ok(train(threads, &nets[k / 4 % 2], &r, m, 1, NULL, &one));
            same(&all, &one, m, what);
            images += one.cost.images_seen;
        }
        ck_assert(all.cost.images_seen == images && images == 3.0 * M * N);
        ck_assert(all.cost.flops > 0);
    }
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
    char dir[] = "/tmp/retort-nets-XXXXXX", ckpt[64];
    ck_assert(mkdtemp(dir) != NULL);
    snprintf(ckpt, sizeof ckpt, "%s/ckpt", dir);
    rt_recipe r = recipe(RT_AUGMENT_RRC_CUTMIX, true);
    rt_ok(train(1, &nets[1], &r, 0, M, NULL, &whole));
    rt_progress_set(count_steps, NULL);
    for (int k = 0; k < 2; k++) {
        stop_after = 4;
        rt_fails(train(1, &nets[1], &r, 0, M, ckpt, &parts), RT_ERR_CANCELLED);
        rt_stop_clear();
    }
    stop_after = -1;
    rt_ok(train(1, &nets[1], &r, 0, M, ckpt, &parts));
    ck_assert_mem_eq(whole.theta, parts.theta, sizeof whole.theta);
    ck_assert_mem_eq(whole.buffers, parts.buffers, sizeof whole.buffers);
    ck_assert_mem_eq(whole.early, parts.early, sizeof whole.early);
    for (int m = 0; m < M; m++)
        ck_assert(whole.r[m].first_loss == parts.r[m].first_loss && whole.r[m].last_loss == parts.r[m].last_loss);
    rt_ok(rt_fs_remove_tree(dir));
}
END_TEST

START_TEST(refusals)
{
    static outcome o;
    rt_backend *be = NULL;
    rt_trainer *t = NULL;
    rt_recipe r = recipe(RT_AUGMENT_NONE, false);
    rt_ok(rt_backend_open("ref", &(rt_backend_opts){0}, &be));
    rt_fails(rt_trainer_create_many(be, &nets[0], &r, 0, &t), RT_ERR_ARG);
    rt_backend_close(be);
    r.optim.lr = 1e30;
    rt_fails(train(1, &nets[0], &r, 1, 2, NULL, &o), RT_ERR_NUMERIC);
    ck_assert_msg(strstr(rt_error_what(), "network 0") || strstr(rt_error_what(), "network 7"), "%s", rt_error_what());
}
END_TEST

static const rt_test tests[] = {{"networks end as they do alone", networks_end_as_they_do_alone},
                                {"resumes to the same bytes", resumes_to_the_same_bytes},
                                {"refusals", refusals}};
RT_SUITE("teacher.nets", tests)
