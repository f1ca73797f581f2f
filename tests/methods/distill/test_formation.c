/* Multi-formation: decoding in the graph against decoding of a stored set, its adjoint, and initial images of tiles. */
#include "base/alloc.h"
#include "methods/distill/formation.h"
#include "session.h"

enum { CLASSES = 2, IPC = 3, SIZE = 8, PX = SIZE * SIZE * 3, N = CLASSES * IPC };

static void same_as_students_see(const char *backend, int64_t factor, double tolerance)
{
    session s;
    session_open(&s, backend);
    double *x0 = filled(5, N * PX, 0.5, 0.5);
    rt_val x = session_input(&s, "x", RT_SHAPE(RT_F32, N, SIZE, SIZE, 3), x0);
    int y = session_output(&s, rt_formation_decode(s.g, x, CLASSES, factor));
    session_run(&s);
    const double *got = session_read(&s, y);

    rt_set stored = {.n = N, .h = SIZE, .w = SIZE, .ipc = IPC, .unit = true, .factor = (int32_t)factor, .norm = {{0}, {1, 1, 1}}}, seen = {0};
    stored.px = rt_malloc(N * PX * sizeof(float));
    stored.label = rt_malloc(N * sizeof(int32_t));
    for (int i = 0; i < N * PX; i++) stored.px[i] = (float)x0[i];
    for (int i = 0; i < N; i++) stored.label[i] = i / IPC;
    rt_ok(rt_classes_make((const char *const[]){"a", "b"}, CLASSES, &stored.classes));
    rt_ok(rt_set_decode(&stored, &seen));
    ck_assert_int_eq(seen.n, N * factor * factor);
    ck_assert_int_eq(rt_shape_count(rt_tensor_shape(s.out[y].t)), seen.n * PX);
    for (int64_t i = 0; i < seen.n * PX; i++) rt_assert_near(got[i], (double)seen.px[i], tolerance, 0);
    rt_set_fini(&stored);
    rt_set_fini(&seen);
    free(x0);
    session_close(&s);
}

START_TEST(decodes_as_students_see)
{
    for (int64_t factor = 1; factor <= 3; factor++) { /* 3 does not divide 8 */
        same_as_students_see("ref", factor, 1e-6);
        same_as_students_see("cpu", factor, 1e-6);
    }
}
END_TEST

/* <A x - A 0, w> = <x, A' w>. A 0 is what the padding shows. */
START_TEST(adjoint)
{
    for (int64_t factor = 1; factor <= 3; factor++) {
        session s;
        int64_t many = N * factor * factor * PX;
        session_open(&s, "ref");
        double *x0 = filled(6, N * PX, 0.5, 0.5), *w0 = filled(7, many, 1, 0), *zero = calloc(N * PX, sizeof *zero);
        rt_val x = session_input(&s, "x", RT_SHAPE(RT_F32, N, SIZE, SIZE, 3), x0), gx;
        rt_val w = session_input(&s, "w", RT_SHAPE(RT_F32, N * factor * factor, SIZE, SIZE, 3), w0);
        rt_val y = rt_formation_decode(s.g, x, CLASSES, factor), d = rt_dot(s.g, y, w);
        rt_ok(rt_grad(s.g, d, &x, 1, &gx));
        int od = session_output(&s, d), og = session_output(&s, gx);
        session_run(&s);
        double at_x = session_read(&s, od)[0], inner = dot(x0, session_read(&s, og), N * PX);
        session_write(&s, 0, zero);
        session_run(&s);
        rt_assert_near(at_x - session_read(&s, od)[0], inner, 1e-9, 1e-9);
        ck_assert(fabs(inner) > 1e-3);
        free(x0), free(w0), free(zero);
        session_close(&s);
    }
}
END_TEST

/* --- initial images ---------------------------------------------------------------------------------------------------- */

enum { MEMBERS = 20 };

/* Every pixel says which image it is of and where it lies: red = image, green = row, blue = column. */
static void make_train(rt_images *t, int n)
{
    *t = (rt_images){.n = n, .h = SIZE, .w = SIZE};
    t->px = rt_malloc((size_t)(n * PX));
    t->label = rt_malloc((size_t)n * sizeof *t->label);
    t->key = rt_calloc((size_t)n * sizeof *t->key);
    for (int i = 0; i < n; i++) {
        t->label[i] = i % CLASSES;
        t->key[i] = rt_asprintf("k%02d", i);
        for (int p = 0; p < SIZE * SIZE; p++) {
            uint8_t *px = t->px + (i * SIZE * SIZE + p) * 3;
            px[0] = (uint8_t)i, px[1] = (uint8_t)(p / SIZE), px[2] = (uint8_t)(p % SIZE);
        }
    }
    rt_ok(rt_classes_make((const char *const[]){"a", "b"}, CLASSES, &t->classes));
}

static int byte_of(float v) { return (int)(v * 255.0f + 0.5f); }

static void check_tiles(int n, int64_t factor, bool first)
{
    rt_images train;
    rt_draws d;
    float images[N * PX], again[N * PX];
    int64_t t = rt_formation_tile(SIZE, factor);
    bool used[64] = {0};
    make_train(&train, n);
    rt_build_ctx ctx = {.train = &train, .ipc = IPC, .seed = 4, .threads = 1, .net = {.size = SIZE}};
    rt_ok(rt_draws_open(&ctx, 1, 1, 1, &d));
    rt_ok(rt_formation_mix(&d, factor, first, images));
    rt_ok(rt_formation_mix(&d, factor, first, again));
    ck_assert_mem_eq(images, again, sizeof images);
    for (int c = 0; c < CLASSES; c++)
        for (int64_t k = 0; k < factor * factor; k++)
            for (int i = 0; i < IPC; i++) {
                const float *im = images + (c * IPC + i) * PX;
                int64_t top = k / factor * t, left = k % factor * t;
                int source = byte_of(im[(top * SIZE + left) * 3]);
                ck_assert_int_eq(source % CLASSES, c);
                if (first) ck_assert_int_eq(source, ((k * IPC + i) % (n / CLASSES)) * CLASSES + c);
                if (n == CLASSES * MEMBERS) ck_assert_msg(!used[source], "image %d twice", source);
                used[source] = true;
                for (int64_t y = 0; y < t && top + y < SIZE; y++)
                    for (int64_t x = 0; x < t && left + x < SIZE; x++) {
                        const float *px = im + ((top + y) * SIZE + left + x) * 3;
                        ck_assert_int_eq(byte_of(px[0]), source);
                        ck_assert_int_eq(byte_of(px[1]), y * SIZE / t); /* nearest neighbour */
                        ck_assert_int_eq(byte_of(px[2]), x * SIZE / t);
                    }
            }
    rt_draws_close(&d);
    rt_images_fini(&train);
}

START_TEST(tiles_are_real_images)
{
    for (int64_t factor = 1; factor <= 2; factor++) {
        check_tiles(CLASSES * MEMBERS, factor, false);
        check_tiles(CLASSES * MEMBERS, factor, true);
        check_tiles(CLASSES * 5, factor, false); /* fewer members than tiles */
    }
}
END_TEST

static const rt_test tests[] = {{"decodes as students see", decodes_as_students_see},
                                {"adjoint", adjoint},
                                {"tiles are real images", tiles_are_real_images}};
RT_SUITE("methods.formation", tests)
