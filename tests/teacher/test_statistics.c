/* The statistics pass: golden vectors of every kind of statistic, the artefact it is kept in, and what it refuses. */
#include <fcntl.h>
#include <unistd.h>

#include "artefact/scratch.h"
#include "base/alloc.h"
#include "base/rng.h"
#include "golden/golden.h"
#include "teacher/statistics.h"

enum { N = 20, BATCH = 8, CLASSES = 3, WIDTH = 5, SEED = 3 };
static const rt_normalise norm = {{0.485f, 0.456f, 0.406f}, {0.229f, 0.224f, 0.225f}};
static const rt_stats_spec whole = {.convs = true, .patches = true, .by_class = true, .within_image = true, .batch = BATCH, .seed = SEED};

static rt_teacher make_teacher(int32_t size, int32_t depth)
{
    rt_teacher t = {.weight = 1, .content = "made"};
    rt_model_desc d = {.arch = "convnet", .depth = depth, .width = WIDTH, .norm = RT_MODEL_NORM_BATCH, .size = size, .channels = 3,
                       .classes = CLASSES};
    snprintf(t.name, sizeof t.name, "net0");
    rt_ok(rt_model_create(&d, &t.model));
    double *theta = golden_theta(t.model), *buffers = golden_buffers(t.model);
    t.theta = rt_malloc((size_t)rt_model_n_params(t.model) * sizeof(float));
    t.buffers = rt_malloc((size_t)rt_model_n_buffers(t.model) * sizeof(float));
    for (int64_t i = 0; i < rt_model_n_params(t.model); i++) t.theta[i] = (float)theta[i];
    for (int64_t i = 0; i < rt_model_n_buffers(t.model); i++) t.buffers[i] = (float)buffers[i];
    free(theta);
    free(buffers);
    return t;
}

static void drop_teacher(rt_teacher *t)
{
    rt_model_destroy(t->model);
    rt_free(t->theta);
    rt_free(t->buffers);
}

/* The generator's images, laid so that the pass meets them in the generator's order. */
static rt_images make_images(int32_t size)
{
    static const char *const names[] = {"a", "b", "c"};
    int64_t px = (int64_t)size * size * 3, order[N];
    rt_images im = {.n = N, .h = size, .w = size};
    double *v = filled(910 + (uint32_t)size, N * px, 127.5, 127.5);
    im.px = rt_malloc((size_t)(N * px));
    im.label = rt_malloc(N * sizeof *im.label);
    im.key = rt_calloc(N * sizeof *im.key);
    rt_ok(rt_classes_make(names, CLASSES, &im.classes));
    rt_epoch_order(SEED, 0, N, order);
    for (int64_t i = 0; i < N; i++) {
        im.key[i] = rt_asprintf("%lld", (long long)i);
        im.label[order[i]] = (int32_t)(i % CLASSES);
        for (int64_t k = 0; k < px; k++) im.px[order[i] * px + k] = (uint8_t)(v[i * px + k] > 255 ? 255 : v[i * px + k]);
    }
    free(v);
    return im;
}

static rt_status collect(const char *backend, int threads, rt_teacher *t, rt_images *im, const rt_stats_spec *spec, const char *dir,
                         rt_ledger *ledger, rt_stats *out)
{
    rt_backend *be = NULL;
    rt_ok(rt_backend_open(backend, &(rt_backend_opts){.threads = threads, .strict = true}, &be));
    rt_status st = rt_stats_collect(be, t, im, &norm, spec, threads, dir, ledger, out);
    rt_backend_close(be);
    return st;
}

static void compare(const rt_st_file *f, int32_t size, const rt_layer_stats *l, const char *kind, const char *key, const float *got,
                    int64_t n, precision p)
{
    char name[128];
    ck_assert_msg(got != NULL, "%s has no %s%s", l->name, kind, key);
    snprintf(name, sizeof name, "%d.%s.%s%s", size, l->name, kind, key);
    const double *want = golden(f, name, n);
    double *have = malloc((size_t)n * sizeof *have);
    for (int64_t i = 0; i < n; i++) have[i] = (double)got[i];
    assert_vector(name, have, want, n, p);
    free(have);
}

static void check_golden(const char *backend, int32_t size, int32_t depth, const char *kind, precision p)
{
    rt_st_file *f = golden_open("recover/statistics");
    rt_teacher t = make_teacher(size, depth);
    rt_images im = make_images(size);
    rt_stats s = {0};
    rt_stats_spec spec = whole;
    spec.within_image = !strcmp(kind, "within.");
    spec.ema = !strcmp(kind, "running.");
    rt_ok(collect(backend, 2, &t, &im, &spec, NULL, NULL, &s));
    ck_assert_int_eq(s.layers, 2 * depth);
    for (int32_t i = 0; i < s.layers; i++) {
        rt_layer_stats *l = &s.layer[i];
        int32_t c = l->channels, side = (size >> (i / 2)) > 16 ? 4 : 1;
        ck_assert_int_eq(l->kind, i % 2 ? RT_TAP_NORM : RT_TAP_CONV);
        ck_assert_int_eq(l->tiles, i % 2 ? 0 : side);
        compare(f, size, l, "", "mean", l->mean, c, p);
        compare(f, size, l, "", "var", l->var, c, p);
        compare(f, size, l, kind, "mean", l->class_mean, CLASSES * c, p);
        compare(f, size, l, kind, "var", l->class_var, CLASSES * c, p);
        if (!l->tiles) continue;
        compare(f, size, l, "", "patch_mean", l->patch_mean, l->tiles, p);
        compare(f, size, l, "", "patch_var", l->patch_var, l->tiles, p);
        compare(f, size, l, kind, "patch_mean", l->class_patch_mean, CLASSES * l->tiles, p);
        compare(f, size, l, kind, "patch_var", l->class_patch_var, CLASSES * l->tiles, p);
    }
    rt_stats_fini(&s);
    rt_images_fini(&im);
    drop_teacher(&t);
    rt_st_close(f);
}

START_TEST(agrees_with_pytorch)
{
    static const char *const kinds[] = {"within.", "together.", "running."};
    for (int k = 0; k < 3; k++) {
        check_golden("ref", 24, 2, kinds[k], (precision){"ref", 1e-6});
        check_golden("cpu", 24, 2, kinds[k], (precision){"cpu", 1e-5});
        check_golden("cpu", 32, 3, kinds[k], (precision){"cpu", 1e-5});
    }
    check_golden("ref", 32, 3, "within.", (precision){"ref", 1e-6});
}
END_TEST

/* Patch moments in their three forms: gradients against finite differences, in float64, and blocks of images apart. */
static double patch_value(int32_t side_h, int32_t side_w, int64_t groups, const double *x, int64_t n, int64_t c, double *grad)
{
    session s;
    session_open(&s, "ref");
    rt_val in = session_input(&s, "x", RT_SHAPE(RT_F32, n, side_h, side_w, c), x), mean, var, dx;
    rt_patch_moments(s.g, in, groups, &mean, &var);
    rt_val y = rt_add(s.g, rt_sum_all(s.g, rt_square(s.g, mean)), rt_sum_all(s.g, rt_sqrt(s.g, var)));
    rt_ok(rt_grad(s.g, y, &in, 1, &dx));
    int value = session_output(&s, y), g = session_output(&s, dx);
    session_run(&s);
    double v = *session_read(&s, value);
    if (grad) memcpy(grad, session_read(&s, g), (size_t)(n * side_h * side_w * c) * sizeof *grad);
    session_close(&s);
    return v;
}

START_TEST(patch_gradients)
{
    static const int32_t side[][2] = {{5, 5}, {16, 16}, {7, 18}, {16, 4}};
    enum { IMAGES = 4, CHANNELS = 2 };
    for (int k = 0; k < 4; k++) {
        int64_t count = IMAGES * side[k][0] * side[k][1] * CHANNELS;
        double *x = filled(5, count, 1, 0.3), *grad = malloc((size_t)count * sizeof *grad);
        patch_value(side[k][0], side[k][1], 2, x, IMAGES, CHANNELS, grad);
        for (int64_t i = 0; i < count; i += count / 7) {
            const double eps = 1e-5, keep = x[i];
            x[i] = keep + eps;
            double up = patch_value(side[k][0], side[k][1], 2, x, IMAGES, CHANNELS, NULL);
            x[i] = keep - eps;
            double down = patch_value(side[k][0], side[k][1], 2, x, IMAGES, CHANNELS, NULL);
            x[i] = keep;
            rt_assert_near(grad[i], (up - down) / (2 * eps), 1e-9, 1e-6);
        }
        free(x);
        free(grad);
    }
}
END_TEST

static void file_of(const char *dir, char *path, size_t n, rt_teacher *t, rt_images *im)
{
    char key[RT_HASH_HEX];
    rt_ok(rt_stats_path(t, im, &norm, &whole, dir, path, n, key));
}

START_TEST(kept_and_found)
{
    const char *dir = below(scratch("kept"), "statistics");
    rt_teacher t = make_teacher(24, 2);
    rt_images im = make_images(24);
    rt_stats a = {0}, b = {0}, c = {0};
    rt_ledger *first = NULL, *second = NULL;
    rt_ok(rt_ledger_create(&first));
    rt_ok(rt_ledger_create(&second));
    rt_ok(collect("cpu", 1, &t, &im, &whole, dir, first, &a));
    ck_assert_msg(rt_ledger_entry(first)->images_seen == N && rt_ledger_entry(first)->flops > 0, "the pass is not in the ledger");
    rt_ok(collect("cpu", 2, &t, &im, &whole, dir, second, &b));
    ck_assert_msg(rt_ledger_entry(second)->images_seen == 0, "found again, and yet collected");
    rt_ok(collect("cpu", 2, &t, &im, &whole, NULL, NULL, &c)); /* another thread count: the same bytes */
    for (int32_t i = 0; i < a.layers; i++) {
        size_t n = (size_t)a.layer[i].channels * sizeof(float);
        ck_assert_str_eq(a.layer[i].name, b.layer[i].name);
        ck_assert_mem_eq(a.layer[i].mean, b.layer[i].mean, n);
        ck_assert_mem_eq(a.layer[i].var, c.layer[i].var, n);
        ck_assert_mem_eq(a.layer[i].class_var, b.layer[i].class_var, n * CLASSES);
        ck_assert_mem_eq(a.layer[i].class_mean, c.layer[i].class_mean, n * CLASSES);
    }
    rt_stats_fini(&b);
    im.px[7]++; /* other data: another pass */
    rt_ok(collect("cpu", 1, &t, &im, &whole, dir, second, &b));
    ck_assert_msg(rt_ledger_entry(second)->images_seen == N, "other images, and yet found");
    rt_stats_fini(&b);
    im.px[7]--;
    t.theta[0] += 1e-3f; /* another teacher */
    rt_ok(collect("cpu", 1, &t, &im, &whole, dir, second, &b));
    ck_assert_msg(rt_ledger_entry(second)->images_seen == 2 * N, "another teacher, and yet found");
    rt_stats_fini(&a);
    rt_stats_fini(&b);
    rt_stats_fini(&c);
    rt_ledger_destroy(first);
    rt_ledger_destroy(second);
    rt_images_fini(&im);
    drop_teacher(&t);
}
END_TEST

START_TEST(damage_is_refused)
{
    const char *dir = below(scratch("damaged"), "statistics");
    rt_teacher t = make_teacher(24, 2), other = make_teacher(24, 1);
    rt_images im = make_images(24);
    rt_stats a = {0}, b = {0};
    char path[4096], file[4200], key[RT_HASH_HEX];
    rt_stats_spec more = whole;
    rt_ok(collect("cpu", 1, &t, &im, &whole, dir, NULL, &a));
    file_of(dir, path, sizeof path, &t, &im);
    rt_ok(rt_stats_path(&t, &im, &norm, &whole, dir, path, sizeof path, key));
    rt_ok(rt_stats_read(path, key, &t, &whole, CLASSES, &b));
    rt_stats_fini(&b);
    rt_fails(rt_stats_read(path, key, &other, &whole, CLASSES, &b), RT_ERR_FORMAT);   /* another network */
    rt_fails(rt_stats_read(path, "0000", &t, &whole, CLASSES, &b), RT_ERR_FORMAT);    /* another pass */
    rt_fails(rt_stats_read(path, key, &t, &whole, CLASSES + 1, &b), RT_ERR_FORMAT);   /* other classes */
    more.by_class = false;
    rt_fails(rt_stats_read(path, key, &t, &more, CLASSES, &b), RT_ERR_FORMAT);        /* more than was asked for */
    rt_fails(rt_stats_read(below(dir, "nothing"), key, &t, &whole, CLASSES, &b), RT_ERR_MISSING);

    snprintf(file, sizeof file, "%s/statistics.safetensors", path);
    int fd = open(file, O_RDWR);
    char byte = 0;
    off_t last = lseek(fd, -5, SEEK_END);
    ck_assert_int_eq(pread(fd, &byte, 1, last), 1);
    byte ^= 1;
    ck_assert_int_eq(pwrite(fd, &byte, 1, last), 1);
    close(fd);
    rt_fails(rt_stats_read(path, key, &t, &whole, CLASSES, &b), RT_ERR_FORMAT);
    ck_assert_ptr_null(b.layer);
    rt_error_clear();
    rt_ok(collect("cpu", 1, &t, &im, &whole, dir, NULL, &b)); /* collected again, over the damaged one */
    ck_assert_mem_eq(a.layer[0].mean, b.layer[0].mean, 3 * sizeof(float));
    rt_stats_fini(&b);
    rt_ok(rt_stats_read(path, key, &t, &whole, CLASSES, &b));
    rt_stats_fini(&a);
    rt_stats_fini(&b);
    rt_images_fini(&im);
    drop_teacher(&t);
    drop_teacher(&other);
}
END_TEST

START_TEST(what_cannot_be_taken)
{
    rt_teacher t = make_teacher(24, 2);
    rt_images im = make_images(24), small = make_images(32);
    rt_stats s = {0};
    rt_stats_spec spec = whole;
    rt_fails(collect("cpu", 1, &t, &small, &whole, NULL, NULL, &s), RT_ERR_ARG); /* another side */
    spec.batch = 0;
    rt_fails(collect("cpu", 1, &t, &im, &spec, NULL, NULL, &s), RT_ERR_ARG);
    for (int i = 0; i < N; i++)
        if (im.label[i] == 2) im.label[i] = 0;
    rt_fails(collect("cpu", 1, &t, &im, &whole, NULL, NULL, &s), RT_ERR_FORMAT); /* a class without images */
    t.theta[3] = NAN;
    rt_fails(collect("cpu", 1, &t, &im, &whole, NULL, NULL, &s), RT_ERR_NUMERIC);
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "features.1"));
    ck_assert_ptr_null(s.layer);
    rt_images_fini(&im);
    rt_images_fini(&small);
    drop_teacher(&t);
}
END_TEST

/* Views: the same bytes every time, another seed is another pass; convolutions are left out when not asked for. */
START_TEST(views_and_norms_alone)
{
    rt_teacher t = make_teacher(24, 2);
    rt_images im = make_images(24);
    rt_stats a = {0}, b = {0}, c = {0};
    rt_stats_spec spec = {.batch = 6, .views = true, .seed = 4};
    rt_ok(collect("cpu", 1, &t, &im, &spec, NULL, NULL, &a));
    rt_ok(collect("cpu", 2, &t, &im, &spec, NULL, NULL, &b));
    spec.seed = 5;
    rt_ok(collect("cpu", 1, &t, &im, &spec, NULL, NULL, &c));
    ck_assert_ptr_null(a.layer[0].mean);
    ck_assert_int_eq(a.layer[0].tiles, 0);
    ck_assert_ptr_null(a.layer[1].class_mean);
    ck_assert_mem_eq(a.layer[1].mean, b.layer[1].mean, WIDTH * sizeof(float));
    ck_assert_int_ne(memcmp(a.layer[1].mean, c.layer[1].mean, WIDTH * sizeof(float)), 0);
    rt_stats_fini(&a);
    rt_stats_fini(&b);
    rt_stats_fini(&c);
    rt_images_fini(&im);
    drop_teacher(&t);
}
END_TEST

static const rt_test tests[] = {
    {"agrees with PyTorch", agrees_with_pytorch}, {"gradients of patch moments", patch_gradients},
    {"kept and found again", kept_and_found},     {"damage is refused", damage_is_refused},
    {"what cannot be taken", what_cannot_be_taken}, {"views, and norms alone", views_and_norms_alone},
};
RT_SUITE("teacher.statistics", tests)
