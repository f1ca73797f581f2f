/* DWA, DELT, FADRM and CV-DD: whole constructions of a few iterations against PyTorch (tests/golden/recover/methods.py) from
 * given pixels, teachers and views; their orders and weights on worked examples; resumption; refusals. */
#include "world.h"

#include "base/log.h"
#include "methods/recover/cvdd.h"
#include "methods/recover/delt.h"
#include "methods/recover/rank.h"
#include "methods/recover/recover.h"

/* --- orders and weights --------------------------------------------------------------------------------------------------- */

START_TEST(delt_groups)
{
    static const struct {
        int64_t n, rounds, joins[10];
    } want[] = {
        {10, 8, {0, 0, 1, 1, 2, 3, 4, 5, 6, 7}}, /* two larger groups first */
        {4, 2, {0, 0, 1, 1}},
        {5, 8, {0, 1, 2, 3, 4}},                 /* rounds 5 to 7 bring nobody */
        {7, 3, {0, 0, 0, 1, 1, 2, 2}},
        {6, 1, {0, 0, 0, 0, 0, 0}},
        {1, 8, {0}},
    };
    for (size_t k = 0; k < sizeof want / sizeof *want; k++)
        for (int64_t i = 0; i < want[k].n; i++) ck_assert_int_eq(rt_delt_joins(want[k].n, want[k].rounds, i), want[k].joins[i]);
}
END_TEST

START_TEST(delt_order)
{
    static const int64_t nine[] = {5, 6, 4, 7, 3, 8, 2, 1, 0}, four[] = {2, 3, 1, 0}; /* past the end: left out */
    int64_t place[9];
    rt_delt_medium(9, 9, place);
    for (int i = 0; i < 9; i++) ck_assert_int_eq(place[i], nine[i]);
    rt_delt_medium(4, 4, place);
    for (int i = 0; i < 4; i++) ck_assert_int_eq(place[i], four[i]);
    rt_delt_medium(100, 3, place);
    ck_assert(place[0] == 50 && place[1] == 51 && place[2] == 49);
    rt_delt_medium(2, 2, place);
    ck_assert(place[0] == 1 && place[1] == 0);
    rt_delt_medium(1, 1, place);
    ck_assert_int_eq(place[0], 0);
}
END_TEST

START_TEST(curriculum)
{
    rt_assert_near(rt_recover_curriculum("cosine", 1, 0.08, 0, 4000), 1, 1e-12, 0);
    rt_assert_near(rt_recover_curriculum("cosine", 1, 0.08, 2000, 4000), 0.54, 1e-12, 0);
    rt_assert_near(rt_recover_curriculum("cosine", 0.5, 0.08, 1000, 4000), 0.54, 1e-12, 0);
    rt_assert_near(rt_recover_curriculum("cosine", 0.5, 0.08, 2000, 4000), 0.08, 0, 0);
    rt_assert_near(rt_recover_curriculum("linear", 1, 0.08, 1000, 4000), 0.77, 1e-12, 0);
    rt_assert_near(rt_recover_curriculum("step", 0.25, 0.08, 999, 4000), 1, 0, 0);
    rt_assert_near(rt_recover_curriculum("step", 0.25, 0.08, 1000, 4000), 0.08, 0, 0);
    rt_assert_near(rt_recover_curriculum("none", 1, 0.08, 0, 4000), 0.08, 0, 0);
}
END_TEST

START_TEST(cvdd_pairs_and_weights)
{
    static const int32_t ten[][2] = {{0, 1}, {0, 2}, {0, 3}, {0, 4}, {1, 2}, {1, 3}, {1, 4}, {2, 3}, {2, 4}, {3, 4}};
    int32_t pair[2];
    double w[2];
    for (int k = 0; k < 20; k++) {
        rt_cvdd_pair(5, k, pair);
        ck_assert(pair[0] == ten[k % 10][0] && pair[1] == ten[k % 10][1]);
    }
    rt_cvdd_pair(2, 7, pair);
    ck_assert(pair[0] == 0 && pair[1] == 1);
    rt_cvdd_weights((double[]){56.4, 52.5}, 5, w); /* ResNet-18 and ShuffleNetV2 of ImageNet-1K: 1 / (1 + exp(-0.78)) */
    rt_assert_near(w[0], 0.68568, 1e-5, 0);
    rt_assert_near(w[0] + w[1], 1, 1e-15, 0);
    rt_cvdd_weights((double[]){0, 0}, 5, w);
    rt_assert_near(w[1], 0.5, 0, 0);
}
END_TEST

START_TEST(ranking_is_the_teachers)
{
    world w;
    rt_backend *be = NULL;
    rt_ledger *ledger = NULL;
    double p[W_TRAIN];
    int64_t member[] = {0, 3, 6, 9}, order[4];
    world_open(&w, 1);
    rt_ok(rt_backend_open("cpu", &(rt_backend_opts){.threads = 1, .strict = true}, &be));
    rt_ok(rt_ledger_create(&ledger));
    rt_ledger_begin(ledger);
    rt_build_ctx c = {.be = be, .train = &w.train, .threads = 1, .ledger = ledger, .norm = {{0.5f, 0.5f, 0.5f}, {0.25f, 0.25f, 0.25f}}};
    rt_ok(rt_rank_probability(&c, &w.teachers.teacher[0], p));
    for (int i = 0; i < W_TRAIN; i++) ck_assert(p[i] > 0 && p[i] < 1);
    ck_assert(rt_ledger_entry(ledger)->flops > 0);
    double sum = 0; /* the same image under the three labels: probabilities sum to 1 */
    for (int k = 0; k < W_CLASSES; k++) {
        w.train.label[5] = k;
        rt_ok(rt_rank_probability(&c, &w.teachers.teacher[0], p));
        sum += p[5];
    }
    rt_assert_near(sum, 1, 1e-6, 0);
    rt_ok(rt_rank_ascending((double[]){0.5, 0, 0, 0.1, 0, 0, 0.5, 0, 0, 0.2}, member, 4, order));
    ck_assert(order[0] == 3 && order[1] == 9 && order[2] == 0 && order[3] == 6);
    rt_ledger_destroy(ledger);
    rt_backend_close(be);
    world_close(&w);
}
END_TEST

/* --- against PyTorch ------------------------------------------------------------------------------------------------------- */

typedef struct golden_case {
    const char *name, *method, *yaml;
    int32_t ipc, teachers;
    bool resnet;
} golden_case;
#define HEAD "version: 1\ndata: {kind: demo, size: 16}\n"
static const golden_case cases[] = {
    {"dwa", "dwa", HEAD "dwa: {iterations: 3, batch: 2, rho: 0.5, steps: 4}\n", 2, 1, false},
    {"dwa_accumulate", "dwa", HEAD "dwa: {iterations: 3, batch: 2, rho: 0.5, steps: 4, accumulate: true}\n", 2, 1, false},
    {"delt", "delt", HEAD "delt: {iterations: 4, batch: 6, rounds: 2}\n", 3, 1, false},
    {"fadrm", "fadrm", HEAD "fadrm: {iterations: 5, batch: 2, stages: [1, 1, 1]}\n", 1, 1, false},
    {"fadrm_resized", "fadrm", HEAD "fadrm: {iterations: 4, batch: 2, stages: [0.75, 1]}\n", 1, 1, true},
    {"cvdd", "cvdd", HEAD "cvdd: {iterations: 3, batch: 2, priors: [60, 52.5, 55]}\n", 3, 3, false},
};

static void agree(const golden_case *k, const char *backend, double tolerance)
{
    world w;
    rt_set s = {0};
    char name[64];
    rt_st_file *f = golden_open("recover/methods");
    int64_t n = (int64_t)W_CLASSES * k->ipc;
    world_open(&w, k->teachers);
    w.ipc = k->ipc;
    world_config(&w, k->yaml);
    if (k->resnet) {
        rt_committee_fini(&w.teachers);
        w.teachers = (rt_committee){.n = 1, .teacher = rt_calloc(sizeof(rt_teacher))};
        world_teacher(&w, 0, &(rt_model_desc){.arch = "resnet18", .size = W_SIZE, .channels = 3, .classes = W_CLASSES, .small_stem = 1});
    }
    snprintf(name, sizeof name, "%s.view", k->name);
    const rt_st_tensor *view = rt_st_find(f, name);
    ck_assert_ptr_nonnull(view);
    int64_t boxes = view->shape[0] * view->shape[1] * view->shape[2];
    float *box = rt_malloc((size_t)boxes * sizeof *box), *init = rt_malloc((size_t)(n * W_PX) * sizeof *init);
    for (int64_t i = 0; i < boxes; i++) box[i] = (float)((const double *)view->data)[i];
    double *start = filled(900, n * W_PX, 1, 0);
    for (int64_t i = 0; i < n * W_PX; i++) init[i] = (float)start[i];
    rt_st_tensor images = {"images", RT_ST_F32, 4, {n, W_SIZE, W_SIZE, 3}, init, (uint64_t)(n * W_PX) * 4};
    rt_st_tensor views = {"recover_view", RT_ST_F32, 3, {view->shape[0], view->shape[1], view->shape[2]}, box, (uint64_t)boxes * 4};
    rt_ok(rt_st_write(w.init, &images, 1, NULL, 0));
    rt_ok(rt_st_write(w.order, &views, 1, NULL, 0));
    w.given_init = w.given_order = true;
    rt_ok(world_construct(&w, k->method, backend, &s));
    snprintf(name, sizeof name, "%s.images", k->name);
    const double *want = golden(f, name, n * W_PX);
    double worst = 0, moved = 0, apart = 0, way = 0;
    int64_t off = 0;
    for (int64_t i = 0; i < n * W_PX; i++) {
        double e = fabs((double)s.px[i] - want[i]), m = fabs(want[i] - start[i]);
        off += !(e <= tolerance);
        apart += e * e;
        way += m * m;
        if (!(e <= worst)) worst = e;
        if (m > moved) moved = m;
    }
    ck_assert_msg(moved > 0.2, "%s: the images hardly moved (%g): the test would show nothing", k->name, moved);
    /* Adam's step is the sign of a gradient at first: a pixel in 1000 may have one so small that float32 decides. */
    ck_assert_msg(off * 1000 <= n * W_PX && sqrt(apart / way) <= tolerance, "%s on %s: largest difference %g (%lld of %lld pixels off), images moved by up to %g", k->name, backend,
                  worst, (long long)off, (long long)(n * W_PX), moved);
    for (int64_t i = 0; i < n; i++) ck_assert_int_eq(s.label[i], i / k->ipc);
    rt_set_fini(&s);
    rt_st_close(f);
    free(start);
    rt_free(box);
    rt_free(init);
    world_close(&w);
}

START_TEST(ref_agrees_with_torch)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) agree(&cases[i], "ref", 3e-5);
}
END_TEST

START_TEST(cpu_agrees_with_torch)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) agree(&cases[i], "cpu", 1e-4);
}
END_TEST

/* The statistics loss of two groups of two images and its gradient, in float64 on ref, along directions of their own. */
START_TEST(statistics_loss_against_differences)
{
    enum { N = 4, COUNT = N * W_PX, DIRECTIONS = 5 };
    const double h = 1e-5;
    world w;
    rt_backend *be = NULL;
    rt_graph *g = NULL;
    rt_tensor *x = NULL, *theta = NULL, *buffers = NULL, *loss = NULL, *grad = NULL;
    rt_exec *ex = NULL;
    rt_forward f;
    rt_tap_list *taps = rt_malloc(sizeof *taps);
    double *at = filled(900, COUNT, 1, 0), *gx = malloc(COUNT * sizeof *gx), *to = malloc(COUNT * sizeof *to);
    world_open(&w, 1);
    const rt_teacher *t = &w.teachers.teacher[0];
    int64_t p = rt_model_n_params(t->model), b = rt_model_n_buffers(t->model);
    rt_ok(rt_backend_open("ref", &(rt_backend_opts){.threads = 1, .strict = true}, &be));
    rt_ok(rt_tensor_create(be, RT_SHAPE(RT_F32, N, W_SIZE, W_SIZE, 3), &x));
    rt_ok(rt_tensor_create(be, RT_SHAPE(RT_F32, N, W_SIZE, W_SIZE, 3), &grad));
    rt_ok(rt_tensor_create(be, RT_SHAPE(RT_F32, p), &theta));
    rt_ok(rt_tensor_create(be, RT_SHAPE(RT_F32, b), &buffers));
    rt_ok(rt_tensor_create(be, RT_SCALAR_F32, &loss));
    rt_ok(rt_tensor_write(theta, t->theta, (size_t)p * sizeof *t->theta));
    rt_ok(rt_tensor_write(buffers, t->buffers, (size_t)b * sizeof *t->buffers));
    rt_ok(rt_graph_create(&g));
    rt_bind in[] = {{rt_input(g, "x", *rt_tensor_shape(x)), x}, {rt_input(g, "theta", *rt_tensor_shape(theta)), theta},
                    {rt_input(g, "buffers", *rt_tensor_shape(buffers)), buffers}};
    rt_ok(rt_model_forward_tapped(t->model, g, in[0].v, in[1].v, in[2].v, 0, taps, &f));
    rt_recover_graph of = {.g = g, .teacher = t, .groups = 2, .each = 2, .view = in[0].v, .theta = in[1].v, .buffers = in[2].v, .taps = taps};
    rt_val r = rt_recover_bn(&of, 10, 2, NULL, NULL), dr;
    rt_ok(rt_grad(g, r, &in[0].v, 1, &dr));
    rt_bind out[] = {{r, loss}, {dr, grad}};
    rt_ok(rt_exec_prepare(be, g, in, 3, out, 2, NULL, &ex));
    rt_ok(rt_tensor_write_f64(x, at, COUNT));
    rt_ok(rt_exec_run(ex));
    rt_ok(rt_tensor_read_f64(grad, gx, COUNT));
    for (int k = 0; k < DIRECTIONS; k++) {
        double *d = filled(300 + (uint32_t)k, COUNT, 1, 0), side[2], along = 0;
        for (int s = 0; s < 2; s++) {
            for (int i = 0; i < COUNT; i++) to[i] = at[i] + (s ? h : -h) * d[i];
            rt_ok(rt_tensor_write_f64(x, to, COUNT));
            rt_ok(rt_exec_run(ex));
            rt_ok(rt_tensor_read_f64(loss, &side[s], 1));
        }
        for (int i = 0; i < COUNT; i++) along += gx[i] * d[i];
        ck_assert(fabs(along) > 1e-3);
        rt_assert_near((side[1] - side[0]) / (2 * h), along, 0, 1e-6);
        free(d);
    }
    rt_exec_destroy(ex);
    rt_graph_destroy(g);
    rt_tensor *all[] = {x, theta, buffers, loss, grad};
    for (int i = 0; i < 5; i++) rt_tensor_destroy(all[i]);
    rt_backend_close(be);
    rt_free(taps);
    free(at), free(gx), free(to);
    world_close(&w);
}
END_TEST

/* --- the same bits ---------------------------------------------------------------------------------------------------------- */

static void construct(world *w, const char *method, const char *yaml, rt_set *out)
{
    world_config(w, yaml);
    rt_ok(world_construct(w, method, "cpu", out));
    if (rt_fs_exists(w->ckpt)) rt_ok(rt_fs_remove_tree(w->ckpt));
}

static void assert_same(const char *what, const rt_set *a, const rt_set *b)
{
    int64_t off = 0;
    ck_assert_int_eq(a->n, b->n);
    for (int64_t i = 0; i < a->n * W_PX; i++) off += memcmp(&a->px[i], &b->px[i], sizeof *a->px) != 0;
    ck_assert_msg(off == 0, "%s: %lld of %lld pixels are not the same bits", what, (long long)off, (long long)(a->n * W_PX));
}

START_TEST(grouped_equals_ungrouped)
{
    static const struct {
        const char *method, *one, *many;
        int teachers;
    } t[] = {
        {"sre2l", HEAD "sre2l: {iterations: 4, batch: 3, groups: 1}\n", HEAD "sre2l: {iterations: 4, batch: 3, groups: 3}\n", 1},
        {"cvdd", HEAD "cvdd: {iterations: 3, batch: 3, pairs: best, groups: 1}\n", HEAD "cvdd: {iterations: 3, batch: 3, pairs: best}\n", 3},
        {"fadrmp", HEAD "fadrm: {iterations: 4, batch: 3, stages: [1, 1], groups: 1}\n", HEAD "fadrm: {iterations: 4, batch: 3, stages: [1, 1]}\n", 2},
        {"delt", HEAD "delt: {iterations: 4, rounds: 2, batch: 5, groups: 1}\n", HEAD "delt: {iterations: 4, rounds: 2, batch: 5}\n", 1},
    };
    for (size_t k = 0; k < sizeof t / sizeof *t; k++) {
        world w;
        rt_set a = {0}, b = {0};
        world_open(&w, t[k].teachers);
        w.ipc = 5;
        construct(&w, t[k].method, t[k].one, &a);
        construct(&w, t[k].method, t[k].many, &b);
        assert_same(t[k].method, &a, &b);
        rt_set_fini(&a);
        rt_set_fini(&b);
        world_close(&w);
    }
}
END_TEST

/* A construction that is stopped in every iteration, and goes on from what it left. */
START_TEST(stopped_and_resumed)
{
    static const struct {
        const char *method, *yaml;
        int teachers;
    } t[] = {
        {"sre2l", HEAD "sre2l: {iterations: 3, batch: 2}\n", 1},
        {"cda", HEAD "cda: {iterations: 3, batch: 3}\n", 1},
        {"dwa", HEAD "dwa: {iterations: 3, batch: 2, rho: 0.5, steps: 2, accumulate: true}\n", 1},
        {"delt", HEAD "delt: {iterations: 4, rounds: 2, batch: 4}\n", 1},
        {"sre2lpp", HEAD "sre2lpp: {iterations: 2, batch: 2}\n", 1},
        {"fadrm", HEAD "fadrm: {iterations: 4, batch: 2, stages: [1, 1]}\n", 1},
        {"fadrmp", HEAD "fadrm: {iterations: 3, batch: 3, stages: [1]}\n", 2},
        {"cvdd", HEAD "cvdd: {iterations: 3, batch: 3, priors: [50, 60, 55]}\n", 3},
    };
    for (size_t k = 0; k < sizeof t / sizeof *t; k++) {
        world w;
        rt_set a = {0}, b = {0};
        int stops = 0;
        world_open(&w, t[k].teachers);
        construct(&w, t[k].method, t[k].yaml, &a);
        for (rt_status st = RT_ERR_CANCELLED; st == RT_ERR_CANCELLED; stops += st == RT_ERR_CANCELLED) {
            rt_stop_request();
            st = world_construct(&w, t[k].method, "cpu", &b);
            rt_stop_clear();
            ck_assert_int_lt(stops, 100);
            if (st != RT_OK && st != RT_ERR_CANCELLED) ck_abort_msg("%s: %s", t[k].method, rt_error_what());
        }
        ck_assert_int_gt(stops, 2);
        assert_same(t[k].method, &a, &b);
        ck_assert_str_eq(a.trace, b.trace);
        rt_set_fini(&a);
        rt_set_fini(&b);
        world_close(&w);
    }
}
END_TEST

/* Without teachers' training, originals or a ledger: what `retort plan` has. */
START_TEST(estimates)
{
    static const char *const method[] = {"sre2l", "sre2lpp", "cda", "dwa", "delt", "fadrm", "fadrmp", "cvdd"};
    for (size_t k = 0; k < sizeof method / sizeof *method; k++) {
        world w;
        rt_backend *be = NULL;
        rt_estimate e = {0};
        const rt_method *m;
        world_open(&w, 3);
        world_config(&w, HEAD "dwa: {batch: 3}\ndelt: {batch: 6}\n");
        rt_ok(rt_backend_open("cpu", &(rt_backend_opts){.threads = 1, .strict = true}, &be));
        rt_build_ctx c = {.be = be, .train = &w.train, .ipc = 2, .threads = 1, .net = world_convnet(), .config = &w.config,
                          .teachers = &w.teachers, .norm = {{0.5f, 0.5f, 0.5f}, {0.25f, 0.25f, 0.25f}}};
        rt_ok(rt_method_find(method[k], &m));
        rt_ok(m->estimate(&c, &e));
        ck_assert_msg(e.steps >= 2000 && e.flops > 0 && e.seconds > 0 && e.peak_bytes > 0, "%s: %g steps, %g FLOPs, %g s, %g bytes",
                      method[k], e.steps, e.flops, e.seconds, e.peak_bytes);
        rt_backend_close(be);
        world_close(&w);
    }
}
END_TEST

START_TEST(dwa_moves_the_teacher)
{
    world w;
    rt_set a = {0}, b = {0};
    world_open(&w, 1);
    construct(&w, "dwa", HEAD "dwa: {iterations: 2, batch: 3, rho: 0.5, steps: 0}\n", &a);
    construct(&w, "dwa", HEAD "dwa: {iterations: 2, batch: 3, rho: 0.5, steps: 2}\n", &b);
    ck_assert(memcmp(a.px, b.px, (size_t)(a.n * W_PX) * sizeof *a.px) != 0);
    ck_assert_ptr_nonnull(strstr(a.notes, "dwa.accumulate"));
    rt_set_fini(&a);
    rt_set_fini(&b);
    world_close(&w);
}
END_TEST

/* Patches without iterations: what fadrm starts from. Every pixel of a set at factor 1 and crop scale 1 would be a training image;
 * here: tiles are what the teacher ranks, in its order. */
START_TEST(patches_start_fadrm)
{
    world w;
    rt_set a = {0}, b = {0};
    world_open(&w, 1);
    construct(&w, "fadrm", HEAD "fadrm: {iterations: 0, stages: [1], patch_factor: 2}\n", &a);
    construct(&w, "fadrm", HEAD "fadrm: {iterations: 0, stages: [1], patch_factor: 2}\n", &b);
    assert_same("fadrm", &a, &b);
    for (int64_t i = 0; i < a.n * W_PX; i++) ck_assert(a.px[i] > -2.2f && a.px[i] < 2.7f);
    rt_set_fini(&b);
    w.seed = 4;
    construct(&w, "fadrm", HEAD "fadrm: {iterations: 0, stages: [1], patch_factor: 2}\n", &b);
    ck_assert(memcmp(a.px, b.px, (size_t)(a.n * W_PX) * sizeof *a.px) != 0);
    rt_set_fini(&a);
    rt_set_fini(&b);
    world_close(&w);
}
END_TEST

/* Cross-entropies that the teacher gives to the tiles of a set of class c, in the order of RDED's ranks: tile q of image i is
 * rank q ipc + i, and is scored in the middle of a field of zeros. */
static void tile_scores(const world *w, const rt_build_ctx *ctx, const rt_set *s, int c, int factor, double *ce)
{
    rt_scorer *scorer = NULL;
    int ipc = w->ipc, side = W_SIZE / factor, off = (W_SIZE - side) / 2;
    rt_ok(rt_scorer_open(ctx, &w->teachers.teacher[0], 1, &scorer));
    for (int q = 0; q < factor * factor; q++)
        for (int i = 0; i < ipc; i++) {
            float *field = rt_scorer_images(scorer);
            memset(field, 0, W_PX * sizeof *field);
            for (int y = 0; y < side; y++)
                memcpy(field + ((off + y) * W_SIZE + off) * 3,
                       s->px + (c * ipc + i) * W_PX + ((q / factor * side + y) * W_SIZE + q % factor * side) * 3, (size_t)side * 3 * sizeof *field);
            rt_ok(rt_scorer_run(scorer, &(int32_t){c}, 1, &ce[q * ipc + i]));
            ce[q * ipc + i] *= -1;
        }
    rt_scorer_close(scorer);
}

START_TEST(rded_ranks_and_tiles)
{
    static const char *const yaml[] = {HEAD "rded: {factor: 1}\n", HEAD "rded: {factor: 2}\n", HEAD "rded: {factor: 2, crops: 1}\n"};
    double sum[3] = {0};
    for (int k = 0; k < 3; k++) {
        world w;
        rt_set s = {0};
        rt_backend *be = NULL;
        rt_ledger *ledger = NULL;
        int factor = k ? 2 : 1;
        double ce[20];
        world_open(&w, 1);
        w.ipc = 5;
        construct(&w, "rded", yaml[k], &s);
        rt_ok(rt_backend_open("cpu", &(rt_backend_opts){.threads = 1, .strict = true}, &be));
        rt_ok(rt_ledger_create(&ledger));
        rt_ledger_begin(ledger);
        rt_build_ctx ctx = {.be = be, .train = &w.train, .threads = 1, .ledger = ledger};
        for (int c = 0; c < W_CLASSES; c++) {
            tile_scores(&w, &ctx, &s, c, factor, ce);
            for (int r = 1; r < 5 * factor * factor; r++) ck_assert_msg(ce[r] >= ce[r - 1] - 1e-5, "class %d: rank %d: %g after %g", c, r, ce[r], ce[r - 1]);
            for (int r = 0; r < 5 * factor * factor; r++) sum[k] += ce[r];
        }
        rt_ledger_destroy(ledger);
        rt_backend_close(be);
        rt_set_fini(&s);
        world_close(&w);
    }
    ck_assert_msg(sum[1] < sum[2], "five crops to choose from are no better (%g) than one (%g)", sum[1], sum[2]);
}
END_TEST

/* --- refusals --------------------------------------------------------------------------------------------------------------- */

static void refused(world *w, const char *method, const char *yaml, const char *what, const char *fix)
{
    rt_set s = {0};
    world_config(w, yaml);
    rt_fails(world_construct(w, method, "cpu", &s), RT_ERR_CONFIG);
    ck_assert_msg(strstr(rt_error_what(), what) != NULL, "%s: %s", method, rt_error_what());
    ck_assert_msg(strstr(rt_error_remedy(), fix) != NULL, "%s: %s", method, rt_error_remedy());
}

START_TEST(refusals)
{
    world w;
    world_open(&w, 1);
    w.ipc = 21;
    refused(&w, "delt", HEAD, "class 0 (a) has 20 training images, 21 per class", "set.ipc to at most 20");
    refused(&w, "dwa", HEAD, "class 0 (a) has 20 training images", "set.ipc to at most 20");
    refused(&w, "fadrm", HEAD "fadrm: {patch_images: 30}\n", "class 0 (a) has 20 training images, patches want 30", "at most 20");
    refused(&w, "fadrm", HEAD, "need 21 candidates, 20 are asked for", "at least 21");
    w.ipc = 2;
    refused(&w, "fadrm", HEAD "fadrm: {patch_factor: 3}\n", "16 pixels do not divide into 3 tiles", "divides data.size");
    refused(&w, "fadrm", HEAD "fadrm: {patch_factor: 4}\n", "need 32 candidates", "at least 32");
    w.ipc = 1;
    refused(&w, "cvdd", HEAD, "committee has 1", "committee.archs");
    refused(&w, "fadrmp", HEAD, "committee has one", "committee.archs");
    refused(&w, "fadrm", HEAD "fadrm: {stages: [1, 0.5]}\n", "last of fadrm.stages is 0.5", "end the list with 1");
    refused(&w, "fadrm", HEAD "fadrm: {stages: [0.1, 1]}\n", "images of 2 pixels", "multiples of data.size");
    refused(&w, "fadrm", HEAD "fadrm: {stages: [1, 1, 1, 1, 1, 1, 1, 1, 1]}\n", "9 entries", "at most 8");
    refused(&w, "sre2l", HEAD "sre2l: {jitter_lo: 4, jitter_hi: 3}\n", "shifts from 4 to 3", "jitter_lo");
    rt_model_desc d = world_convnet();
    d.norm = RT_MODEL_NORM_INSTANCE;
    rt_committee_fini(&w.teachers);
    w.teachers = (rt_committee){.n = 1, .teacher = rt_calloc(sizeof(rt_teacher))};
    world_teacher(&w, 0, &d);
    refused(&w, "sre2l", HEAD, "teacher t0 (convnet) has no BatchNorm", "network.norm");
    world_close(&w);
    world_open(&w, 3);
    refused(&w, "cvdd", HEAD "cvdd: {priors: [60, 50]}\n", "2 values, the committee 3 members", "in its order");
    world_close(&w);
}
END_TEST

static const rt_test tests[] = {
    {"groups of delt", delt_groups},
    {"order of delt", delt_order},
    {"curriculum of crops", curriculum},
    {"pairs and weights of cvdd", cvdd_pairs_and_weights},
    {"ranking is the teacher's", ranking_is_the_teachers},
    {"ref agrees with torch", ref_agrees_with_torch},
    {"cpu agrees with torch", cpu_agrees_with_torch},
    {"statistics loss against differences", statistics_loss_against_differences},
    {"grouped equals ungrouped", grouped_equals_ungrouped},
    {"stopped and resumed", stopped_and_resumed},
    {"estimates", estimates},
    {"dwa moves the teacher", dwa_moves_the_teacher},
    {"patches start fadrm", patches_start_fadrm},
    {"rded ranks and tiles", rded_ranks_and_tiles},
    {"refusals", refusals},
};
RT_SUITE("methods.recover", tests)
