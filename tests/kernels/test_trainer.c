/* The trainer on the CUDA back end over the host runtime: batches made on the device, steps that are not waited for. Whatever the
 * augmentation and the number of networks, a run ends with the bytes of the same run with batches made on the host. */
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/rng.h"
#include "rig.h"
#include "support/suite.h"
#include "teacher/train.h"

enum { CLASSES = 3, SIZE = 8, N = 20, PX = SIZE * SIZE * 3, M = 2, BATCH = 8, PER_EPOCH = 3, MAX_P = 1024, MAX_B = 32 };

static const rt_model_desc net = {.arch = "convnet", .depth = 1, .width = 8, .norm = RT_MODEL_NORM_BATCH, .size = SIZE, .channels = 3,
                                  .classes = CLASSES};

/* How a back end is opened: with a kernel for views or without, with how much memory free; and what it was asked to do. */
typedef enum how { CPU, HOST, DEVICE, TIGHT } how;
static const rt_backend_vtable *real;
static int n_views, n_waits;

static rt_status count_views(rt_backend *be, const uint8_t *px, const rt_pixel_view *plan, const float *table, int64_t batch, int32_t h,
                             int32_t w, bool resize, void *out)
{
    n_views++;
    return real->views(be, px, plan, table, batch, h, w, resize, out);
}

static rt_status count_waits(rt_backend *be)
{
    n_waits++;
    return real->end_run(be);
}

static size_t little(rt_backend *be)
{
    (void)be;
    return 2 * N * PX - 1;
}

static rt_status open_as(how as, rt_backend **out)
{
    static rt_backend_vtable vt;
    rt_status st = RT_OK;
    n_views = n_waits = 0;
    if (as == CPU) return rt_backend_open("cpu", &(rt_backend_opts){.threads = 1, .strict = true}, out);
    RT_TRY(rt_cuda_open(&(rt_backend_opts){.strict = true, .capture = RT_CAPTURE_ON}, out));
    real = (*out)->vt;
    vt = *real;
    vt.views = as == HOST ? NULL : count_views;
    vt.end_run = count_waits;
    if (as == TIGHT) vt.free_bytes = little;
    (*out)->vt = &vt;
out:
    return st;
}

static rt_recipe recipe(int kind)
{
    rt_recipe r = {.name = "test", .epochs = 3, .batch = BATCH, .augment = (rt_augment_kind)kind, .dsa_strategy = "color_crop_flip"};
    r.optim = (rt_optim_desc){.kind = RT_SGD, .lr = 0.05, .momentum = 0.9, .weight_decay = 5e-4};
    r.schedule = (rt_schedule){.kind = RT_SCHED_COSINE, .zeta = 1};
    if (kind > RT_AUGMENT_RRC_CUTMIX) { /* IDC's: CutMix in the graph */
        r.augment = RT_AUGMENT_DSA;
        r.dsa_mode = 'I';
        r.cutmix = 0.7;
    }
    return r;
}

typedef struct outcome {
    float theta[M * MAX_P], buffers[M * MAX_B], probs[N * CLASSES];
    rt_train_result r[M];
} outcome;

static const rt_committee *committee; /* that the trainer learns from; NULL: none */

/* The whole life of a trainer; with whitened pixels where white is given. */
static rt_status train(how as, const rt_recipe *r, int64_t nets, const char *ckpt, float *white, outcome *o)
{
    rt_status st = RT_OK;
    rt_backend *be = NULL;
    rt_trainer *t = NULL;
    uint8_t px[N * PX];
    int32_t label[N];
    rt_images im = {.n = N, .h = SIZE, .w = SIZE, .px = px, .label = label, .white = white};
    rt_train_data data = {.n = N, .images = &im, .label = label, .norm = {{0.49f, 0.48f, 0.45f}, {0.2f, 0.21f, 0.22f}}};
    rt_train_run run = {.seed = 9, .ckpt_dir = ckpt, .inputs_hash = "test", .ckpt_seconds = 1e9, .keep = 2, .threads = 1, .phase = "test"};
    memset(o, 0, sizeof *o);
    for (int i = 0; i < N; i++) {
        label[i] = i % CLASSES;
        for (int k = 0; k < PX; k++) px[i * PX + k] = (uint8_t)(rt_draw(3, 1, (uint64_t)i, (uint32_t)k, 0).v[0] % 160 + (k % 3 == label[i] ? 60 : 20));
    }
    RT_TRY(open_as(as, &be));
    RT_TRY(rt_trainer_create_taught(be, &net, r, nets, committee, &t));
    ck_assert(rt_model_n_params(rt_trainer_model(t)) <= MAX_P && rt_model_n_buffers(rt_trainer_model(t)) <= MAX_B);
    RT_TRY(rt_trainer_run(t, &data, &run, o->r));
    RT_TRY(rt_trainer_weights(t, false, o->theta, o->buffers));
    RT_TRY(rt_trainer_infer_of(t, nets - 1, &data, 1, NULL, o->probs, NULL));
out:
    rt_trainer_destroy(t);
    rt_backend_close(be);
    return st;
}

static double distance(const float *a, const float *b, size_t n)
{
    double d = 0, t = 1e-30;
    for (size_t i = 0; i < n; i++) {
        d += pow((double)a[i] - (double)b[i], 2);
        t += pow((double)b[i], 2);
    }
    return sqrt(d / t);
}

START_TEST(every_augmentation_ends_with_the_same_bytes)
{
    static outcome cpu, host, device;
    rt_host_cuda_machine(1, 9);
    for (int kind = RT_AUGMENT_NONE; kind <= RT_AUGMENT_RRC_CUTMIX + 1; kind++)
        for (int nets = 1; nets <= M; nets++) {
            rt_recipe r = recipe(kind);
            rt_ok(train(HOST, &r, nets, NULL, NULL, &host));
            ck_assert_int_eq(n_views, 0);
            rt_ok(train(DEVICE, &r, nets, NULL, NULL, &device));
            ck_assert_int_eq(n_views, r.epochs * PER_EPOCH + 1); /* one launch a step, whatever the number of networks; inference */
            ck_assert_msg(memcmp(&host, &device, sizeof host) == 0, "augmentation %d, %d networks", kind, nets);
            rt_ok(train(CPU, &r, nets, NULL, NULL, &cpu));
            const double d = distance(device.theta, cpu.theta, M * MAX_P), e = distance(device.probs, cpu.probs, N * CLASSES);
            ck_assert_msg(d < 1e-5 && e < 1e-5, "augmentation %d, %d networks: %g, %g from the cpu", kind, nets, d, e);
            rt_assert_near(device.r[nets - 1].last_loss, cpu.r[nets - 1].last_loss, 0, 1e-5);
        }
    ck_assert_int_eq(rt_host_cuda_live(), 0);
}
END_TEST

/* Students of a teacher, with shuffled patches, an average, and views with and without CutMix. On the device the teacher looks at
 * all networks' views at once. */
START_TEST(taught_students_end_with_the_same_bytes)
{
    static outcome cpu, host, device;
    rt_teacher k = {.name = "teacher", .weight = 1};
    rt_committee c = {.n = 1, .teacher = &k};
    rt_model_desc d = net;
    d.width = 6;
    rt_host_cuda_machine(1, 9);
    rt_ok(rt_model_create(&d, &k.model));
    k.theta = rt_calloc((size_t)rt_model_n_params(k.model) * sizeof *k.theta);
    k.buffers = rt_calloc((size_t)rt_model_n_buffers(k.model) * sizeof *k.buffers);
    rt_model_init(k.model, 5, 0, k.theta, k.buffers);
    committee = &c;
    for (int kind = 0; kind < 4; kind++)
        for (int nets = 1; nets <= M; nets++) {
            rt_recipe r = recipe(kind % 2 ? RT_AUGMENT_RRC_CUTMIX : RT_AUGMENT_NONE);
            if (kind % 2 == 0) r.augment = RT_AUGMENT_RRC;
            r.patch_shuffle = true;
            r.loss = kind < 2 ? RT_LOSS_KL : RT_LOSS_MSE_GT;
            r.temperature = 20, r.gamma = 0.025, r.ema = kind < 2 ? 0 : 0.9;
            r.teacher_batch_stats = kind == 3;
            rt_ok(train(HOST, &r, nets, NULL, NULL, &host));
            rt_ok(train(DEVICE, &r, nets, NULL, NULL, &device));
            ck_assert_int_eq(n_views, r.epochs * PER_EPOCH + 1);
            ck_assert_msg(memcmp(&host, &device, sizeof host) == 0, "lesson %d, %d networks", kind, nets);
            rt_ok(train(CPU, &r, nets, NULL, NULL, &cpu));
            const double far = distance(device.theta, cpu.theta, M * MAX_P), e = distance(device.probs, cpu.probs, N * CLASSES);
            ck_assert_msg(far < 1e-5 && e < 1e-5, "lesson %d, %d networks: %g, %g from the cpu", kind, nets, far, e);
            rt_assert_near(device.r[nets - 1].last_loss, cpu.r[nets - 1].last_loss, 1e-7, 1e-4);
        }
    committee = NULL;
    rt_model_destroy(k.model);
    rt_free(k.theta);
    rt_free(k.buffers);
    ck_assert_int_eq(rt_host_cuda_live(), 0);
}
END_TEST

/* What has no kernel or does not fit takes the host's way. */
START_TEST(the_host_path_remains)
{
    static outcome host, other;
    static float white[N * PX];
    rt_recipe r = recipe(RT_AUGMENT_FLIP_CROP);
    rt_host_cuda_machine(1, 9);
    rt_ok(train(HOST, &r, 1, NULL, NULL, &host));
    rt_ok(train(TIGHT, &r, 1, NULL, NULL, &other));
    ck_assert_int_eq(n_views, 0);
    ck_assert_int_eq(memcmp(&host, &other, sizeof host), 0);
    for (int i = 0; i < N * PX; i++) white[i] = rt_u01(rt_draw(4, 1, 0, (uint32_t)i, 0).v[0]) - 0.5f;
    rt_ok(train(HOST, &r, 1, NULL, white, &host));
    rt_ok(train(DEVICE, &r, 1, NULL, white, &other));
    ck_assert_int_eq(n_views, 0);
    ck_assert_int_eq(memcmp(&host, &other, sizeof host), 0);
    ck_assert_int_eq(rt_host_cuda_live(), 0);
}
END_TEST

/* Losses of 1 + 16 + 16 + ... steps are read at once, and a loss that is not finite is still named by its step. */
START_TEST(steps_are_not_waited_for)
{
    static outcome o;
    char want[256];
    rt_recipe r = recipe(RT_AUGMENT_NONE);
    rt_host_cuda_machine(1, 9);
    r.epochs = 12;
    rt_ok(train(DEVICE, &r, 1, NULL, NULL, &o));
    ck_assert_int_eq(o.r->steps, 36);
    ck_assert_int_eq(n_waits, 4 + 1); /* after steps 1, 17, 33, 36; inference */
    r.optim.lr = 1e30;
    rt_fails(train(CPU, &r, 1, NULL, NULL, &o), RT_ERR_NUMERIC);
    snprintf(want, sizeof want, "%s", rt_error_what());
    ck_assert_ptr_nonnull(strstr(want, " at step "));
    rt_fails(train(DEVICE, &r, 1, NULL, NULL, &o), RT_ERR_NUMERIC);
    const char *at = strstr(rt_error_what(), " at step "); /* the kind of NaN may differ */
    ck_assert_msg(at && strcmp(at, strstr(want, " at step ")) == 0, "%s; the cpu: %s", rt_error_what(), want);
    ck_assert_ptr_nonnull(strstr(rt_error_remedy(), "1e+30"));
    ck_assert_int_eq(rt_host_cuda_live(), 0);
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
    char dir[] = "/tmp/retort-trainer-XXXXXX", ckpt[64];
    rt_recipe r = recipe(RT_AUGMENT_RRC_CUTMIX);
    rt_host_cuda_machine(1, 9);
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(ckpt, sizeof ckpt, "%s/ckpt", dir);
    rt_ok(train(DEVICE, &r, M, NULL, NULL, &whole));
    rt_progress_set(count_steps, NULL);
    stop_after = 4; /* in the middle of an epoch, with steps that nobody looked at yet */
    rt_fails(train(DEVICE, &r, M, ckpt, NULL, &parts), RT_ERR_CANCELLED);
    rt_stop_clear();
    rt_ok(train(DEVICE, &r, M, ckpt, NULL, &parts));
    ck_assert_int_eq(memcmp(&whole, &parts, sizeof whole), 0);
    rt_ok(rt_fs_remove_tree(dir));
    ck_assert_int_eq(rt_host_cuda_live(), 0);
}
END_TEST

/* Call number i of the device's libraries runs out of memory, for every i up to the images' own memory, which is named, and in
 * strides from there on: an error that says what and how to go on, nothing leaked. */
START_TEST(out_of_memory)
{
    static outcome o;
    rt_recipe r = recipe(RT_AUGMENT_RRC_CUTMIX);
    r.epochs = 1;
    bool images = false;
    rt_host_cuda_machine(1, 9);
    int before = rt_host_cuda_calls();
    rt_ok(train(DEVICE, &r, 1, NULL, NULL, &o));
    const int calls = rt_host_cuda_calls() - before;
    for (int i = 1; i <= calls; i += images ? 29 : 1) {
        rt_host_cuda_fail_at(i, cudaErrorMemoryAllocation);
        rt_status st = train(DEVICE, &r, 1, NULL, NULL, &o);
        rt_host_cuda_fail_at(0, cudaSuccess);
        ck_assert_msg(rt_host_cuda_live() == 0, "call %d: %d things left", i, rt_host_cuda_live());
        if (st == RT_OK) continue; /* a probe whose failure only means "take another" */
        ck_assert_msg(st == RT_ERR_NOMEM || st == RT_ERR_UNSUPPORTED, "call %d: %s: %s", i, rt_status_name(st), rt_error_what());
        ck_assert_msg(*rt_error_what() && *rt_error_remedy(), "call %d of %d: %s [%s]", i, calls, rt_error_what(), rt_error_where());
        if (strstr(rt_error_where(), "20 images of 8 x 8") == NULL) continue;
        images = true;
        ck_assert_int_eq(st, RT_ERR_NOMEM);
        ck_assert_ptr_nonnull(strstr(rt_error_what(), "wanted"));
    }
    ck_assert(images);
    const uint64_t from = rt_alloc_count(); /* and so does the host */
    rt_ok(train(DEVICE, &r, 1, NULL, NULL, &o));
    const uint64_t count = rt_alloc_count() - from;
    for (uint64_t i = 1; i <= count; i += 7) {
        rt_alloc_fail_at(i, 0);
        rt_status st = train(DEVICE, &r, 1, NULL, NULL, &o);
        rt_alloc_fail_at(0, 0);
        ck_assert_msg(rt_host_cuda_live() == 0, "allocation %d: %d things left", (int)i, rt_host_cuda_live());
        ck_assert_msg(st == RT_ERR_NOMEM && *rt_error_what(), "allocation %d of %d: %s", (int)i, (int)count, rt_status_name(st));
    }
}
END_TEST

static const rt_test tests[] = {
    {"every augmentation ends with the same bytes", every_augmentation_ends_with_the_same_bytes},
    {"taught students end with the same bytes", taught_students_end_with_the_same_bytes},
    {"the host path remains", the_host_path_remains},
    {"steps are not waited for", steps_are_not_waited_for},
    {"resumes to the same bytes", resumes_to_the_same_bytes},
    {"out of memory", out_of_memory},
};
RT_SUITE("kernels.trainer", tests)
