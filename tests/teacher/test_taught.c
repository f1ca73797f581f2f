/* Students that learn from teachers: each network ends as it does alone, killed and resumed likewise, moving averages included;
 * stored logits teach what the teacher does; costs of teachers and students are told apart; refusals. */
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/rng.h"
#include "support/suite.h"
#include "teacher/steps.h"

enum { CLASSES = 3, SIZE = 8, N = 22, PX = SIZE * SIZE * 3, M = 3, MAX_P = 4096, MAX_B = 64 };

static const rt_model_desc net = {.arch = "convnet", .depth = 2, .width = 8, .norm = RT_MODEL_NORM_BATCH, .size = SIZE, .channels = 3,
                                  .classes = CLASSES};
static const uint64_t numbers[M] = {4, 0, 7};

static rt_committee make_teachers(int32_t n, int32_t size, int32_t classes)
{
    rt_committee c = {.n = n, .teacher = rt_calloc((size_t)n * sizeof *c.teacher)};
    for (int32_t i = 0; i < n; i++) {
        rt_teacher *k = &c.teacher[i];
        rt_model_desc d = {.arch = "convnet", .depth = 1, .width = 6 + 2 * i, .norm = RT_MODEL_NORM_BATCH, .size = size, .channels = 3,
                           .classes = classes};
        snprintf(k->name, sizeof k->name, "teacher %d", i);
        rt_ok(rt_model_create(&d, &k->model));
        k->theta = rt_calloc((size_t)rt_model_n_params(k->model) * sizeof *k->theta);
        k->buffers = rt_calloc((size_t)rt_model_n_buffers(k->model) * sizeof *k->buffers);
        rt_model_init(k->model, 77, (uint64_t)i, k->theta, k->buffers);
        for (int64_t j = 0; j < rt_model_n_params(k->model); j++) k->theta[j] *= 3; /* opinions */
        k->weight = 1 + i;
    }
    return c;
}

typedef enum lesson { KL, KL_FIRST, MSE_GT, EQUALISED, BSSL, LESSONS } lesson;

static rt_recipe recipe_of(lesson l)
{
    rt_recipe r = {.name = "taught", .epochs = 3, .batch = 8, .augment = RT_AUGMENT_RRC_CUTMIX, .loss = RT_LOSS_KL, .temperature = 20};
    r.optim = (rt_optim_desc){.kind = RT_ADAMW, .lr = 0.01, .weight_decay = 0.5, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
    r.decay_kernels_only = true;
    r.schedule = (rt_schedule){.kind = RT_SCHED_COSINE, .zeta = 2};
    if (l == KL_FIRST) r.augment = RT_AUGMENT_RRC, r.patch_shuffle = true, r.rrc_scale = 0.08f, r.t_squared = true;
    if (l == MSE_GT || l == EQUALISED) r.loss = RT_LOSS_MSE_GT, r.gamma = 0.025, r.ema = 0.9;
    if (l == EQUALISED) r.target = RT_TARGET_EQUALISED;
    if (l == BSSL) r.teacher_batch_stats = true, r.parts = 2;
    return r;
}

typedef struct outcome {
    int64_t p, b;
    float theta[M * MAX_P], buffers[M * MAX_B];
    int32_t predicted[M][N];
    rt_train_result r[M];
    double flops;
} outcome;

static float logits[N * CLASSES];

static rt_status train(const rt_recipe *r, const rt_committee *c, int first, int n, const char *ckpt, outcome *o)
{
    rt_status st = RT_OK;
    rt_backend *be = NULL;
    rt_trainer *t = NULL;
    rt_ledger *ledger = NULL;
    uint8_t px[N * PX];
    int32_t label[N];
    rt_images im = {.n = N, .h = SIZE, .w = SIZE, .px = px, .label = label};
    memset(o, 0, sizeof *o);
    for (int i = 0; i < N; i++) {
        label[i] = i % CLASSES;
        for (int k = 0; k < PX; k++)
            px[i * PX + k] = (uint8_t)(rt_draw(3, RT_RNG_TEST, (uint64_t)i, (uint32_t)k, 0).v[0] % 160 + (k % 3 == label[i] ? 60 : 20));
    }
    RT_TRY(rt_backend_open("cpu", &(rt_backend_opts){.threads = 1, .strict = true}, &be));
    RT_TRY(rt_trainer_create_taught(be, &net, r, n, c, &t));
    RT_TRY(rt_ledger_create(&ledger));
    rt_ledger_begin(ledger);
    o->p = rt_model_n_params(rt_trainer_model(t));
    o->b = rt_model_n_buffers(rt_trainer_model(t));
    ck_assert(o->p <= MAX_P && o->b <= MAX_B);
    rt_train_data data = {.n = N, .images = &im, .label = label, .logits = logits, .norm = {{0.5f, 0.5f, 0.5f}, {0.25f, 0.25f, 0.25f}}};
    rt_train_run run = {.seed = 9, .networks = numbers + first, .ckpt_dir = ckpt, .inputs_hash = "test", .ckpt_seconds = 1e9,
                        .keep = 2, .threads = 1, .phase = "test", .ledger = ledger};
    RT_TRY(rt_trainer_run(t, &data, &run, o->r));
    o->flops = rt_ledger_entry(ledger)->flops;
    RT_TRY(rt_trainer_weights(t, false, o->theta, o->buffers));
    for (int m = 0; m < n; m++) RT_TRY(rt_trainer_infer_of(t, m, &data, 1, NULL, NULL, o->predicted[m]));
out:
    rt_ledger_destroy(ledger);
    rt_trainer_destroy(t);
    rt_backend_close(be);
    return st;
}

START_TEST(networks_end_as_they_do_alone)
{
    static outcome all, one;
    for (int l = 0; l < LESSONS; l++) {
        rt_committee c = make_teachers(l == KL_FIRST ? 1 : 2, SIZE, CLASSES);
        rt_recipe r = recipe_of((lesson)l);
        rt_ok(train(&r, &c, 0, M, NULL, &all));
        ck_assert(memcmp(all.theta, all.theta + all.p, (size_t)all.p * sizeof(float)) != 0);
        for (int m = 0; m < M; m++) {
            rt_ok(train(&r, &c, m, 1, NULL, &one));
            const size_t p = (size_t)one.p, b = (size_t)one.b;
            ck_assert_msg(!memcmp(all.theta + (size_t)m * p, one.theta, p * sizeof(float)), "lesson %d: theta of network %d", l, m);
            ck_assert_msg(!memcmp(all.buffers + (size_t)m * b, one.buffers, b * sizeof(float)), "lesson %d: buffers of network %d", l, m);
            ck_assert_mem_eq(all.predicted[m], one.predicted[0], sizeof one.predicted[0]);
            ck_assert(all.r[m].first_loss == one.r[0].first_loss && all.r[m].last_loss == one.r[0].last_loss);
            ck_assert(all.r[m].flops == one.r[0].flops && all.r[m].teacher_flops == one.r[0].teacher_flops);
        }
        rt_committee_fini(&c);
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
    char dir[] = "/tmp/retort-taught-XXXXXX", ckpt[64];
    rt_committee c = make_teachers(2, SIZE, CLASSES);
    ck_assert(mkdtemp(dir) != NULL);
    for (int l = 0; l < LESSONS; l++) {
        rt_recipe r = recipe_of((lesson)l);
        snprintf(ckpt, sizeof ckpt, "%s/%d", dir, l);
        rt_progress_set(NULL, NULL);
        rt_ok(train(&r, &c, 0, M, NULL, &whole));
        rt_progress_set(count_steps, NULL);
        for (int k = 0; k < 2; k++) {
            stop_after = 4;
            rt_fails(train(&r, &c, 0, M, ckpt, &parts), RT_ERR_CANCELLED);
            rt_stop_clear();
        }
        stop_after = -1;
        rt_ok(train(&r, &c, 0, M, ckpt, &parts));
        whole.flops = parts.flops; /* the ledger also counts what it took up to the stop */
        ck_assert_msg(!memcmp(&whole, &parts, sizeof whole), "lesson %d", l);
    }
    rt_committee_fini(&c);
    rt_ok(rt_fs_remove_tree(dir));
}
END_TEST

/* Logits that a teacher gave to the plain images, stored, teach the same as the teacher itself while the views are plain. */
START_TEST(stored_logits_teach_the_same)
{
    static outcome online, stored;
    rt_committee c = make_teachers(1, SIZE, CLASSES);
    rt_backend *be = NULL;
    rt_trainer *t = NULL;
    rt_train_step *s = NULL;
    rt_recipe r = recipe_of(KL);
    r.augment = RT_AUGMENT_NONE;
    r.batch = N;
    rt_ok(train(&r, &c, 0, 1, NULL, &online));

    /* The teacher's logits of all images, in their order: the target of a trainer whose one batch they are. */
    rt_recipe stored_r = r;
    stored_r.stored_targets = true;
    rt_fails(train(&r, NULL, 0, 1, NULL, &stored), RT_ERR_ARG);
    rt_ok(rt_backend_open("cpu", &(rt_backend_opts){.threads = 1, .strict = true}, &be));
    rt_ok(rt_trainer_create_taught(be, &net, &r, 1, &c, &t));
    rt_ok(rt_train_step_get(t, N, &s));
    rt_graph *g = NULL;
    rt_exec *ex = NULL;
    rt_tensor *out = NULL;
    rt_bind in[3];
    rt_val target;
    int n_in = 0;
    static float x[N * PX];
    for (int i = 0; i < N; i++)
        for (int k = 0; k < PX; k++) {
            int v = (int)(rt_draw(3, RT_RNG_TEST, (uint64_t)i, (uint32_t)k, 0).v[0] % 160) + (k % 3 == i % CLASSES ? 60 : 20);
            x[i * PX + k] = ((float)v / 255.0f - 0.5f) / 0.25f;
        }
    rt_ok(rt_graph_create(&g));
    rt_val seen = rt_input(g, "x", *rt_tensor_shape(s->x));
    in[n_in++] = (rt_bind){seen, s->x};
    rt_ok(rt_taught_target(t, g, seen, 1, N, in, &n_in, &target));
    rt_ok(rt_tensor_create(be, RT_SHAPE(RT_F32, N, CLASSES), &out));
    rt_ok(rt_exec_prepare(be, g, in, n_in, &(rt_bind){target, out}, 1, NULL, &ex));
    rt_ok(rt_tensor_write(s->x, x, sizeof x));
    rt_ok(rt_exec_run(ex));
    rt_ok(rt_tensor_read(out, logits, sizeof logits));
    rt_ok(train(&stored_r, NULL, 0, 1, NULL, &stored));
    double d = 0, size = 0;
    for (int64_t i = 0; i < online.p; i++) {
        d += pow((double)online.theta[i] - (double)stored.theta[i], 2);
        size += pow((double)online.theta[i], 2);
    }
    rt_assert_near(sqrt(d / size), 0, 1e-5, 0);
    ck_assert(online.r->first_loss > 0 && stored.r->teacher_flops == 0);
    rt_assert_near(stored.r->first_loss, online.r->first_loss, 0, 1e-5);
    rt_exec_destroy(ex);
    rt_graph_destroy(g);
    rt_tensor_destroy(out);
    rt_trainer_destroy(t);
    rt_backend_close(be);
    rt_committee_fini(&c);
}
END_TEST

/* KL(p || q) by hand, and 0 with no gradient for a student that is its own teacher. */
START_TEST(kl_is_what_it_is)
{
    static const double z[2][3] = {{2, -1, 0.5}, {0, 4, 1}}, want_t[2] = {1, 4};
    for (int k = 0; k < 4; k++) {
        rt_recipe r = {.loss = RT_LOSS_KL, .temperature = want_t[k % 2], .t_squared = k > 1};
        rt_backend *be = NULL;
        rt_graph *g = NULL;
        rt_exec *ex = NULL;
        rt_tensor *ts = NULL, *tt = NULL, *tl = NULL, *tg = NULL;
        double p[3], q[3], sp = 0, sq = 0, kl = 0, got, grad[3];
        rt_ok(rt_backend_open("ref", &(rt_backend_opts){0}, &be));
        rt_ok(rt_graph_create(&g));
        rt_val s = rt_input(g, "s", RT_SHAPE(RT_F32, 1, 3)), t = rt_input(g, "t", RT_SHAPE(RT_F32, 1, 3)), gs;
        rt_val each = rt_student_loss(&r, g, s, (rt_val){0}, rt_stop_gradient(g, t));
        rt_ok(rt_grad(g, rt_sum_all(g, each), &s, 1, &gs));
        rt_ok(rt_tensor_create(be, RT_SHAPE(RT_F32, 1, 3), &ts));
        rt_ok(rt_tensor_create(be, RT_SHAPE(RT_F32, 1, 3), &tt));
        rt_ok(rt_tensor_create(be, RT_SHAPE(RT_F32, 1), &tl));
        rt_ok(rt_tensor_create(be, RT_SHAPE(RT_F32, 1, 3), &tg));
        rt_ok(rt_exec_prepare(be, g, (rt_bind[]){{s, ts}, {t, tt}}, 2, (rt_bind[]){{each, tl}, {gs, tg}}, 2, NULL, &ex));
        rt_ok(rt_tensor_write_f64(tt, z[0], 3));
        for (int i = 0; i < 3; i++) {
            sp += p[i] = exp(z[0][i] / r.temperature);
            sq += q[i] = exp(z[1][i] / r.temperature);
        }
        const double scale = r.t_squared ? r.temperature * r.temperature : 1;
        for (int i = 0; i < 3; i++) kl += scale * p[i] / sp * log(p[i] / sp / (q[i] / sq));
        rt_ok(rt_tensor_write_f64(ts, z[1], 3));
        rt_ok(rt_exec_run(ex));
        rt_ok(rt_tensor_read_f64(tl, &got, 1));
        rt_ok(rt_tensor_read_f64(tg, grad, 3));
        rt_assert_near(got, kl, 1e-14, 1e-12);
        for (int i = 0; i < 3; i++) rt_assert_near(grad[i], scale / r.temperature * (q[i] / sq - p[i] / sp), 1e-14, 1e-12);
        rt_ok(rt_tensor_write_f64(ts, z[0], 3));
        rt_ok(rt_exec_run(ex));
        rt_ok(rt_tensor_read_f64(tl, &got, 1));
        rt_ok(rt_tensor_read_f64(tg, grad, 3));
        rt_assert_near(got, 0, 1e-15, 0);
        for (int i = 0; i < 3; i++) rt_assert_near(grad[i], 0, 1e-15, 0);
        rt_exec_destroy(ex);
        rt_graph_destroy(g);
        rt_tensor_destroy(ts), rt_tensor_destroy(tt), rt_tensor_destroy(tl), rt_tensor_destroy(tg);
        rt_backend_close(be);
    }
}
END_TEST

/* The student's share is what the student alone would cost, within the losses' own arithmetic; the teachers' share grows with
 * their number; the ledger has both. */
START_TEST(costs_are_told_apart)
{
    static outcome plain, one, two;
    rt_committee c = make_teachers(2, SIZE, CLASSES), first = {.n = 1, .teacher = c.teacher};
    rt_recipe r = recipe_of(KL), ce = r;
    ce.loss = RT_LOSS_CE;
    rt_ok(train(&ce, NULL, 0, 1, NULL, &plain));
    rt_ok(train(&r, &first, 0, 1, NULL, &one));
    rt_ok(train(&r, &c, 0, 1, NULL, &two));
    rt_assert_near(one.r->flops, plain.r->flops, 0, 0.01);
    rt_assert_near(two.r->flops, one.r->flops, 0, 0.01);
    ck_assert(plain.r->teacher_flops == 0 && one.r->teacher_flops > 0 && two.r->teacher_flops > 1.9 * one.r->teacher_flops);
    rt_assert_near(one.flops, one.r->flops + one.r->teacher_flops, 0, 1e-12);
    /* one pass, no gradient: well under a third of a step of a network of its own size (forward, and two passes back) */
    rt_model_desc d = *rt_model_desc_of(c.teacher[0].model);
    ck_assert(one.r->teacher_flops < one.r->flops / 3 && d.depth == 1);
    rt_committee_fini(&c);
}
END_TEST

START_TEST(refusals)
{
    static outcome o;
    rt_committee c = make_teachers(1, SIZE, CLASSES), big = make_teachers(1, 2 * SIZE, CLASSES), more = make_teachers(1, SIZE, CLASSES + 1);
    rt_recipe r = recipe_of(KL);
    rt_fails(train(&r, NULL, 0, 1, NULL, &o), RT_ERR_ARG);
    rt_fails(train(&r, &big, 0, 1, NULL, &o), RT_ERR_ARG);
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "16x16x3"));
    rt_fails(train(&r, &more, 0, 1, NULL, &o), RT_ERR_ARG);
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "4 classes"));
    c.teacher[0].weight = 0;
    rt_fails(train(&r, &c, 0, 1, NULL, &o), RT_ERR_ARG);
    c.teacher[0].weight = NAN;
    rt_fails(train(&r, &c, 0, 1, NULL, &o), RT_ERR_ARG);
    c.teacher[0].weight = 1;
    r.temperature = 0;
    rt_fails(train(&r, &c, 0, 1, NULL, &o), RT_ERR_ARG);
    r = recipe_of(KL);
    r.gsam_rho = 0.05;
    rt_fails(train(&r, &c, 0, 1, NULL, &o), RT_ERR_ARG);
    r = recipe_of(MSE_GT);
    r.ema = 1;
    rt_fails(train(&r, &c, 0, 1, NULL, &o), RT_ERR_ARG);
    rt_committee_fini(&c);
    rt_committee_fini(&big);
    rt_committee_fini(&more);
}
END_TEST

static const rt_test tests[] = {{"networks end as they do alone", networks_end_as_they_do_alone},
                                {"resumes to the same bytes", resumes_to_the_same_bytes},
                                {"stored logits teach the same", stored_logits_teach_the_same},
                                {"kl is what it is", kl_is_what_it_is},
                                {"costs are told apart", costs_are_told_apart},
                                {"refusals", refusals}};
RT_SUITE("teacher.taught", tests)
