/* The streaming loader: every sample once an epoch, the same bytes on any thread count and after a resume, errors where
 * they belong, clean shutdown. */
#include "data/internal.h"
#include "fixture.h"

enum { N = 53, SIDE = 20 };

static char *dir;
static rt_dataset *set;

/* N pictures of several sizes in three classes, two thirds JPEG. */
static void open_set(void)
{
    dir = temp_folder();
    for (uint32_t i = 0; i < N; i++) {
        int h = 24 + (int)(i * 7 % 40), w = 70 - (int)(i * 5 % 37);
        uint8_t *px = rt_malloc((size_t)(h * w * 3));
        void *bytes = NULL;
        size_t n = 0;
        char name[64];
        paint(px, h, w, i);
        if (i % 3)
            rt_ok(rt_jpeg_encode(px, h, w, 85, &bytes, &n));
        else
            rt_ok(rt_png_encode(px, h, w, &bytes, &n));
        snprintf(name, sizeof name, "c%u/%03u.jpg", i * 3 / N, i);
        put_file(dir, name, bytes, n);
        rt_free(bytes);
        rt_free(px);
    }
    rt_data_source src = {.kind = "imagefolder", .path = dir};
    rt_ok(rt_dataset_open(&src, &set));
    ck_assert_int_eq(rt_dataset_count(set), N);
}

static void close_set(void)
{
    rt_dataset_close(set);
    temp_gone(dir);
}

static rt_loader_options options(void)
{
    return (rt_loader_options){.batch = 8,
                               .threads = 2,
                               .batches_ahead = 2,
                               .shuffle = true,
                               .seed = 5,
                               .preset = {.size = SIDE, .resize = 22, .filter = RT_BILINEAR},
                               .view = {.rrc = true, .flip = true, .scale = {0.08f, 1}, .ratio = {0.75f, 4.0f / 3}}};
}

/* Runs an epoch; returns how many samples came; bytes of all of them go to out, in order. */
static int64_t run_epoch(rt_loader *l, uint64_t epoch, int64_t first, uint8_t *out, int64_t *index)
{
    rt_loader_batch b;
    int64_t n = 0;
    rt_ok(rt_loader_start(l, epoch, first));
    for (;;) {
        rt_ok(rt_loader_next(l, &b));
        if (b.n == 0) break;
        for (int64_t k = 0; k < b.n; k++, n++) {
            memcpy(out + n * SIDE * SIDE * 3, b.u8 + k * SIDE * SIDE * 3, SIDE * SIDE * 3);
            index[n] = b.index[k];
            ck_assert_int_eq(b.label[k], rt_dataset_label(set, b.index[k]));
        }
    }
    rt_ok(rt_loader_next(l, &b)); /* stays at the end */
    ck_assert_int_eq(b.n, 0);
    return n;
}

static uint8_t first_px[N * SIDE * SIDE * 3], px[N * SIDE * SIDE * 3];
static int64_t first_index[N], indices[N];

START_TEST(every_sample_once_and_the_same_bytes_on_any_thread_count)
{
    open_set();
    rt_loader *l = NULL;
    rt_loader_options o = options();
    o.threads = 1;
    rt_ok(rt_loader_create(set, &o, NULL, &l));
    ck_assert_int_eq(rt_loader_batches(l), 7);
    ck_assert_int_eq(run_epoch(l, 3, 0, first_px, first_index), N);
    bool seen[N] = {false};
    for (int i = 0; i < N; i++) {
        ck_assert(!seen[first_index[i]]);
        seen[first_index[i]] = true;
    }
    rt_loader_destroy(l);
    for (int threads = 1; threads <= 4; threads++)
        for (int ahead = 0; ahead <= 9; ahead += 3) {
            o.threads = threads;
            o.batches_ahead = ahead;
            rt_ok(rt_loader_create(set, &o, NULL, &l));
            ck_assert_int_eq(run_epoch(l, 2, 0, px, indices), N); /* another epoch before: leaves no trace */
            ck_assert_mem_ne(indices, first_index, sizeof indices);
            ck_assert_int_eq(run_epoch(l, 3, 0, px, indices), N);
            ck_assert_mem_eq(indices, first_index, sizeof indices);
            ck_assert_mem_eq(px, first_px, sizeof px);
            ck_assert_int_eq(run_epoch(l, 3, 4, px, indices), N - 32); /* resumed at batch 4 */
            ck_assert_mem_eq(px, first_px + 32 * SIDE * SIDE * 3, (N - 32) * SIDE * SIDE * 3);
            rt_loader_destroy(l);
        }
    close_set();
}
END_TEST

START_TEST(crops_equal_crop_and_resize_of_the_whole)
{
    open_set();
    rt_loader *l = NULL;
    rt_loader_options o = options();
    rt_ok(rt_loader_create(set, &o, NULL, &l));
    ck_assert_int_eq(run_epoch(l, 1, 0, px, indices), N);
    for (int n = 0; n < N; n++) {
        rt_image im = {0};
        rt_view_box b;
        uint8_t want[SIDE * SIDE * 3];
        rt_ok(rt_dataset_decode(set, indices[n], &im, NULL));
        rt_ok(rt_view_draw(&o.view, im.h, im.w, o.seed, 7 + (uint64_t)n / 8, (uint32_t)n % 8, &b));
        rt_ok(rt_crop_resize(&im, b.x0, b.y0, b.w, b.h, SIDE, SIDE, RT_BILINEAR, want));
        for (int y = 0; y < SIDE; y++)
            for (int x = 0; x < SIDE; x++)
                ck_assert_mem_eq(px + ((n * SIDE + y) * SIDE + x) * 3,
                                 want + (y * SIDE + (b.flip ? SIDE - 1 - x : x)) * 3, 3);
        rt_image_fini(&im);
    }
    rt_loader_destroy(l);
    close_set();
}
END_TEST

START_TEST(streaming_equals_residency)
{
    open_set();
    rt_loader *l = NULL;
    rt_images im = {0};
    rt_loader_options o = options();
    o.view = (rt_view){.flip = true, .pad_crop = 3};
    o.as_float = true;
    o.normalise = (rt_normalise){{0.5f, 0.4f, 0.3f}, {0.2f, 0.3f, 0.25f}};
    o.drop_last = true;
    rt_ok(rt_loader_create(set, &o, NULL, &l));
    rt_ok(rt_images_load(set, &o.preset, 2, NULL, &im));
    ck_assert_int_eq(rt_loader_batches(l), 6);
    int64_t order[N];
    static float want[8 * SIDE * SIDE * 3];
    rt_epoch_order(o.seed, 9, N, order);
    rt_ok(rt_loader_start(l, 9, 0));
    for (int b = 0; b < 6; b++) {
        rt_loader_batch got;
        rt_ok(rt_loader_next(l, &got));
        ck_assert_int_eq(got.n, 8);
        ck_assert_mem_eq(got.index, order + b * 8, 8 * sizeof *order);
        rt_ok(rt_batch_fill(&im, got.index, 8, &o.normalise, &o.view, o.seed, 9 * 6 + (uint64_t)b, 1, want));
        ck_assert_mem_eq(got.f32, want, sizeof want);
        ck_assert_ptr_null(got.u8);
    }
    rt_loader_batch got;
    rt_ok(rt_loader_next(l, &got));
    ck_assert_int_eq(got.n, 0);
    rt_images_fini(&im);
    rt_loader_destroy(l);
    close_set();
}
END_TEST

START_TEST(errors_arrive_with_their_batch)
{
    open_set();
    put_text(dir, "c1/020.jpg", "<html>");
    put_text(dir, "c2/040.jpg", "<html>");
    rt_dataset_close(set);
    rt_data_source src = {.kind = "imagefolder", .path = dir};
    rt_ok(rt_dataset_open(&src, &set));
    rt_loader *l = NULL;
    rt_loader_options o = options();
    rt_loader_batch b;
    o.shuffle = false;
    for (o.threads = 1; o.threads <= 4; o.threads++) {
        rt_ok(rt_loader_create(set, &o, NULL, &l));
        rt_ok(rt_loader_start(l, 0, 0));
        for (int k = 0; k < 2; k++) rt_ok(rt_loader_next(l, &b));
        for (int k = 0; k < 3; k++) { /* sample 20 is in batch 2 */
            rt_fails(rt_loader_next(l, &b), RT_ERR_FORMAT);
            ck_assert_ptr_nonnull(strstr(rt_error_what(), "c1/020.jpg"));
        }
        rt_ok(rt_loader_start(l, 0, 3)); /* may go on elsewhere */
        rt_ok(rt_loader_next(l, &b));
        rt_loader_destroy(l);
    }
    rt_bad_list bad;
    rt_bad_list_init(&bad);
    bad.policy = RT_BAD_SKIP;
    bad.max_fraction = 0.05;
    o.threads = 3;
    rt_ok(rt_loader_create(set, &o, &bad, &l));
    for (uint64_t e = 0; e < 3; e++) {
        ck_assert_int_eq(run_epoch(l, e, 0, px, indices), N - 2);
        for (int n = 0; n < N - 2; n++) ck_assert_int_eq(indices[n], n + (n >= 20) + (n >= 39));
    }
    ck_assert_int_eq(bad.n, 2); /* listed once */
    ck_assert_str_eq(bad.item[1].key, "c2/040.jpg");
    rt_loader_destroy(l);
    rt_bad_list_fini(&bad);
    close_set();
}
END_TEST

START_TEST(may_be_left_at_any_time)
{
    open_set();
    rt_loader_options o = options();
    for (int k = 0; k < 20; k++) {
        rt_loader *l = NULL;
        rt_loader_batch b;
        o.threads = 1 + k % 4;
        rt_ok(rt_loader_create(set, &o, NULL, &l));
        for (int s = 0; s < k % 3; s++) rt_ok(rt_loader_start(l, (uint64_t)s, k % 7));
        for (int s = 0; s < k % 5; s++) rt_ok(rt_loader_next(l, &b));
        rt_loader_destroy(l);
    }
    rt_loader_destroy(NULL);
    close_set();
}
END_TEST

START_TEST(options_are_checked_and_memory_is_as_said)
{
    open_set();
    rt_loader *l = NULL;
    rt_loader_options o = options(), good = o;
    o.batch = 0;
    rt_fails(rt_loader_create(set, &o, NULL, &l), RT_ERR_CONFIG);
    o = good, o.threads = 0;
    rt_fails(rt_loader_create(set, &o, NULL, &l), RT_ERR_CONFIG);
    o = good, o.batches_ahead = -1;
    rt_fails(rt_loader_create(set, &o, NULL, &l), RT_ERR_CONFIG);
    o = good, o.preset.size = 0;
    rt_fails(rt_loader_create(set, &o, NULL, &l), RT_ERR_CONFIG);
    o = good, o.view.scale[0] = 0;
    rt_fails(rt_loader_create(set, &o, NULL, &l), RT_ERR_ARG);
    ck_assert_ptr_null(l);
    ck_assert_uint_eq(rt_loader_bytes(&good), 4 * 8 * (SIDE * SIDE * 3 + 12));
    ck_assert_uint_eq(rt_images_bytes(10, 32, 32), 10 * (3072 + 4 + sizeof(char *) + 64));
    for (uint64_t k = 1;; k++) { /* every allocation of creation */
        uint64_t before = rt_alloc_count();
        rt_alloc_fail_at(k, 0);
        rt_status st = rt_loader_create(set, &good, NULL, &l);
        rt_alloc_fail_at(0, 0);
        if (st == RT_OK) {
            ck_assert_uint_lt(rt_alloc_count() - before, k);
            break;
        }
        ck_assert_int_eq(st, RT_ERR_NOMEM);
    }
    rt_fails(rt_loader_start(l, 0, 8), RT_ERR_ARG);
    rt_loader_destroy(l);
    close_set();
}
END_TEST

static const rt_test tests[] = {
    {"every sample once, the same bytes on any thread count", every_sample_once_and_the_same_bytes_on_any_thread_count},
    {"crops equal crop and resize of the whole", crops_equal_crop_and_resize_of_the_whole},
    {"streaming equals residency", streaming_equals_residency},
    {"errors arrive with their batch", errors_arrive_with_their_batch},
    {"may be left at any time", may_be_left_at_any_time},
    {"options are checked and memory is as said", options_are_checked_and_memory_is_as_said},
};
RT_SUITE("data.loader", tests)
