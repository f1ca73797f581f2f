/* DATM: how it begins (images, label logits, what fills the gaps), which experts and epochs it reads, and that an iteration over
 * the threshold leaves everything as it was. The gradients are in methods.unroll_golden. */
#include <limits.h>

#include "fixture.h"
#include "methods/distill/datm.h"
#include "methods/distill/expert_draw.h"

typedef struct school {
    fixture x;
    char dir[96];
    rt_model *m;
    rt_backend *be;
    rt_experts *experts;
    rt_build_ctx ctx;
} school;

/* Experts of two snapshots: epoch 0 and the last are theta[k]; epochs 1 .. last differ a little from it. */
static void enrol(school *s, int n, const float *const *theta, int64_t last)
{
    char path[PATH_MAX], file[PATH_MAX], name[RT_EXPERT_NAME], arch[RT_EXPERT_ARCH];
    int64_t p = rt_model_n_params(s->m);
    float *v = malloc((size_t)p * sizeof *v);
    rt_expert_arch(s->m, arch);
    for (int k = 0; k < n; k++) {
        rt_commit *c;
        snprintf(path, sizeof path, "%s/expert%d", s->dir, k);
        rt_ok(rt_commit_begin(path, &c));
        for (int64_t e = 0; e <= last + 1; e++) {
            double *wiggle = filled((uint32_t)(50 + e), p, 0.01, 0);
            for (int64_t i = 0; i < p; i++) v[i] = theta[k][i] + (e && e <= last ? (float)(wiggle[i] * (double)e) : 0.0f);
            free(wiggle);
            rt_expert_file(e, name);
            rt_ok(rt_fs_join(file, sizeof file, rt_commit_dir(c), name));
            rt_ok(rt_st_write(file, &(rt_st_tensor){"theta", RT_ST_F32, 1, {p}, v, (uint64_t)p * 4}, 1, NULL, 0));
        }
        json_t *m = json_pack("{s:s, s:s, s:s, s:s, s:I, s:I}", "kind", "expert", "arch", arch, "classes_hash", s->x.train.classes.hash,
                              "zca", "", "last", (json_int_t)last, "final", (json_int_t)(last + 1));
        rt_ok(rt_commit_finish(c, m));
        json_decref(m);
    }
    free(v);
    rt_ok(rt_experts_open(s->dir, n, s->m, s->x.train.classes.hash, "", last, true, &s->experts));
    s->ctx.experts = s->experts;
}

static void open_school(school *s, const char *backend, const char *const *overrides, int n)
{
    memset(s, 0, sizeof *s);
    set_up(&s->x, overrides, n, false);
    snprintf(s->dir, sizeof s->dir, "%s/experts", s->x.dir);
    rt_ok(rt_fs_mkdirs(s->dir));
    rt_ok(rt_model_create(&s->x.net, &s->m));
    rt_ok(rt_backend_open(backend, &(rt_backend_opts){.threads = 1, .strict = true}, &s->be));
    s->ctx = (rt_build_ctx){.be = s->be, .train = &s->x.train, .ipc = SYN, .seed = 3, .threads = 1, .ckpt_dir = s->x.ckpt,
                            .inputs_hash = "test", .ckpt_seconds = 1e9, .keep = 2, .net = s->x.net, .config = &s->x.config,
                            .norm = {{0.4914f, 0.4822f, 0.4465f}, {0.2023f, 0.1994f, 0.2010f}}};
}

static void close_school(school *s)
{
    rt_experts_close(s->experts);
    rt_backend_close(s->be);
    rt_model_destroy(s->m);
    tear_down(&s->x);
}

/* A network that says `bias` whatever it is shown: all weights are 0 but those of the last layer's bias. */
static float *opinionated(const school *s, float a, float b, float c)
{
    int64_t p = rt_model_n_params(s->m);
    float *v = calloc((size_t)p, sizeof *v);
    v[p - 3] = a, v[p - 2] = b, v[p - 1] = c;
    return v;
}

/* Index of the training image these pixels are, or -1. */
static int image_of(const school *s, const float *px)
{
    float one[PX];
    for (int64_t i = 0; i < N; i++) {
        rt_ok(rt_batch_fill(&s->x.train, &i, 1, &s->ctx.norm, NULL, 0, 0, 1, one));
        if (!memcmp(one, px, sizeof one)) return (int)i;
    }
    return -1;
}

START_TEST(labels_agree_with_torch)
{
    const precision pr = precisions[_i];
    enum { EXPERTS = 4 };
    school s;
    rt_datm_gaps gaps;
    float *theta[EXPERTS], images[C * SYN * PX], logits[C * SYN * C];
    double got[C * SYN * C];
    rt_st_file *f = golden_open("datm/labels");
    open_school(&s, pr.backend, NULL, 0);
    int64_t p = rt_model_n_params(s.m);
    for (int k = 0; k < EXPERTS; k++) {
        double *v = filled((uint32_t)(700 + k), p, 0.5, 0);
        theta[k] = malloc((size_t)p * sizeof *theta[k]);
        for (int64_t i = 0; i < p; i++) theta[k][i] = (float)v[i];
        free(v);
    }
    enrol(&s, EXPERTS, (const float *const *)theta, 2);
    s.ctx.files.init_images = s.x.init;
    rt_ok(rt_datm_start(&s.ctx, true, images, logits, &gaps));
    const double *right = golden(f, "right", C * SYN);
    int none = 0, some = 0;
    for (int i = 0; i < C * SYN; i++) {
        none += right[i] == 0;
        some += right[i] > 1;
    }
    ck_assert(none > 0 && some > 0); /* the vectors show both branches */
    ck_assert_int_eq(gaps.labels, none);
    ck_assert_int_eq(gaps.images, 0);
    for (int i = 0; i < C * SYN * C; i++) got[i] = (double)logits[i];
    assert_vector("logits", got, golden(f, "logits", C * SYN * C), C * SYN * C, (precision){pr.backend, _i ? 1e-4 : 1e-6});
    for (int k = 0; k < EXPERTS; k++) free(theta[k]);
    rt_st_close(f);
    close_school(&s);
}
END_TEST

START_TEST(begins_with_images_that_experts_know)
{
    school s;
    rt_datm_gaps gaps;
    float images[C * SYN * PX], logits[C * SYN * C], again[C * SYN * PX];
    int seen[C * SYN];
    open_school(&s, "cpu", NULL, 0);
    /* two that only ever say class 0, one that says class 1; class 2 is known to none, least badly to expert 1 */
    float *theta[3] = {opinionated(&s, 3, 1, 0), opinionated(&s, 1, 2, 1.5f), opinionated(&s, 5, 0, 2)};
    enrol(&s, 3, (const float *const *)theta, 2);
    rt_ok(rt_datm_start(&s.ctx, true, images, logits, &gaps));
    ck_assert_int_eq(gaps.images, SYN);
    ck_assert_int_eq(gaps.labels, SYN);
    static const float want[C][C] = {{4, 0.5f, 1}, {1, 2, 1.5f}, {1, 2, 1.5f}}; /* mean of 0 and 2; 1 alone; the least wrong */
    for (int i = 0; i < C * SYN; i++) {
        seen[i] = image_of(&s, images + i * PX);
        ck_assert_int_ge(seen[i], 0);
        ck_assert_int_eq(s.x.train.label[seen[i]], i / SYN);
        for (int k = 0; k < i; k++) ck_assert_int_ne(seen[k], seen[i]);
        for (int c = 0; c < C; c++) rt_assert_near((double)logits[i * C + c], (double)want[i / SYN][c], 1e-6, 0);
    }
    rt_ok(rt_datm_start(&s.ctx, true, again, logits, &gaps));
    ck_assert_mem_eq(images, again, sizeof images);
    s.ctx.seed = 4; /* another construction begins with others */
    rt_ok(rt_datm_start(&s.ctx, true, again, logits, &gaps));
    ck_assert_mem_ne(images, again, sizeof images);
    /* init: real takes any images, and the word of expert 0 for them */
    rt_ok(rt_datm_start(&s.ctx, false, images, logits, &gaps));
    for (int i = 0; i < C * SYN; i++)
        for (int c = 0; c < C; c++) rt_assert_near((double)logits[i * C + c], (double)theta[0][rt_model_n_params(s.m) - 3 + c], 1e-6, 0);
    s.ctx.ipc = N; /* more than a class has */
    rt_fails(rt_datm_start(&s.ctx, true, images, logits, &gaps), RT_ERR_CONFIG);
    for (int k = 0; k < 3; k++) free(theta[k]);
    close_school(&s);
}
END_TEST

static const char *const small[] = {"datm.iterations=6", "datm.steps=3", "datm.batch=4", "datm.first_max_start=1", "datm.max_start=2",
                                    "datm.expert_epochs=1", "datm.grow=3", "datm.lr_pixel=10", "datm.threshold=0",
                                    "datm.lr_step=0.001", "datm.dsa=color_crop_flip"};
enum { SMALL = sizeof small / sizeof *small };

static rt_status build(school *s, rt_set *out)
{
    const rt_method *m;
    rt_ledger *ledger;
    rt_ok(rt_method_find("datm", &m));
    rt_ok(rt_ledger_create(&ledger));
    rt_ledger_begin(ledger);
    s->ctx.ledger = ledger;
    rt_status st = m->construct(&s->ctx, out);
    rt_ledger_destroy(ledger);
    return st;
}

static void enrol_random(school *s)
{
    float *theta[2];
    int64_t p = rt_model_n_params(s->m);
    for (int k = 0; k < 2; k++) {
        theta[k] = malloc((size_t)p * sizeof *theta[k]);
        rt_model_init(s->m, 77, (uint64_t)k, theta[k], NULL);
    }
    enrol(s, 2, (const float *const *)theta, 2);
    free(theta[0]);
    free(theta[1]);
}

START_TEST(learns_images_labels_and_step_size)
{
    school s;
    rt_set set = {0};
    rt_datm_gaps gaps;
    float images[C * SYN * PX], logits[C * SYN * C];
    open_school(&s, "cpu", small, SMALL);
    enrol_random(&s);
    rt_ok(rt_datm_start(&s.ctx, true, images, logits, &gaps));
    rt_ok(build(&s, &set));
    ck_assert_mem_ne(set.px, images, sizeof images);
    ck_assert_mem_ne(set.soft, logits, sizeof logits);
    ck_assert(set.soft_logits && set.step_size > 0 && set.step_size != 0.01f);
    ck_assert_str_eq(set.method, "datm");
    ck_assert_ptr_nonnull(strstr(set.notes, "\"skipped\":0"));
    ck_assert_ptr_nonnull(strstr(set.notes, "GSAM")); /* these experts did without: a deviation */
    rt_set_fini(&set);
    close_school(&s);
}
END_TEST

START_TEST(over_the_threshold_nothing_moves)
{
    school s;
    rt_set set = {0};
    rt_datm_gaps gaps;
    float images[C * SYN * PX], logits[C * SYN * C];
    const char *strict[SMALL];
    memcpy(strict, small, sizeof small);
    strict[8] = "datm.threshold=0.000001";
    open_school(&s, "cpu", strict, SMALL);
    enrol_random(&s);
    rt_ok(rt_datm_start(&s.ctx, true, images, logits, &gaps));
    rt_ok(build(&s, &set));
    ck_assert_mem_eq(set.px, images, sizeof images);
    ck_assert_mem_eq(set.soft, logits, sizeof logits);
    ck_assert(set.step_size == 0.01f);
    ck_assert_ptr_nonnull(strstr(set.notes, "\"skipped\":6"));
    rt_set_fini(&set);
    close_school(&s);
}
END_TEST

START_TEST(refuses_an_empty_window)
{
    school s;
    rt_set set = {0};
    const char *const empty[] = {"datm.min_start=2", "datm.first_max_start=2", "datm.max_start=3"};
    open_school(&s, "cpu", empty, 3);
    enrol_random(&s);
    rt_fails(build(&s, &set), RT_ERR_CONFIG);
    ck_assert_ptr_nonnull(strstr(rt_error_remedy(), "datm.min_start"));
    close_school(&s);
}
END_TEST

START_TEST(experts_come_in_shuffled_rounds)
{
    enum { POOL = 7, ROUNDS = 200 };
    int first[POOL] = {0}, starts[5] = {0};
    for (int64_t r = 0; r < ROUNDS; r++) {
        bool seen[POOL] = {false};
        for (int64_t i = 0; i < POOL; i++) {
            int64_t k;
            rt_ok(rt_expert_of(9, r * POOL + i, POOL, &k));
            ck_assert(k >= 0 && k < POOL && !seen[k]);
            seen[k] = true;
            if (i == 0) first[k]++;
            starts[rt_expert_start(9, r * POOL + i, 3, 8) - 3]++;
        }
    }
    for (int k = 0; k < POOL; k++) ck_assert(first[k] > 8 && first[k] < 60);            /* 28.6 expected */
    for (int k = 0; k < 5; k++) ck_assert(starts[k] > 220 && starts[k] < 340);          /* 280 expected */
    ck_assert_int_eq(rt_expert_start(9, 5, 4, 4), 4);
}
END_TEST

int main(void)
{
    static const struct {
        const char *name;
        const TTest *fn;
        int loops;
    } tests[] = {{"labels agree with torch", labels_agree_with_torch, 2},
                 {"begins with images that experts know", begins_with_images_that_experts_know, 1},
                 {"learns images, labels and step size", learns_images_labels_and_step_size, 1},
                 {"over the threshold nothing moves", over_the_threshold_nothing_moves, 1},
                 {"refuses an empty window", refuses_an_empty_window, 1},
                 {"experts come in shuffled rounds", experts_come_in_shuffled_rounds, 1}};
    Suite *s = suite_create("methods.datm");
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        TCase *tc = tcase_create(tests[i].name);
        tcase_set_timeout(tc, 120);
        tcase_add_loop_test(tc, tests[i].fn, 0, tests[i].loops);
        suite_add_tcase(s, tc);
    }
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
