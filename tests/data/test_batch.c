/* Batches and views: worked examples, and the same bytes on any thread count. */
#include "data/internal.h"
#include "fixture.h"

enum { N = 12, S = 16 };

static void make_images(rt_images *im)
{
    static const char *names[] = {"a", "b", "c"};
    *im = (rt_images){.n = N, .h = S, .w = S};
    rt_ok(rt_classes_make(names, 3, &im->classes));
    im->px = rt_malloc(N * S * S * 3);
    im->label = rt_calloc(N * sizeof *im->label);
    im->key = rt_calloc(N * sizeof *im->key);
    for (int i = 0; i < N; i++) {
        paint(im->px + i * S * S * 3, S, S, (uint32_t)i);
        im->label[i] = (i * 2) % 3;
        im->key[i] = rt_asprintf("k%d", i);
    }
}

START_TEST(plain_batch_is_normalised_in_float)
{
    rt_images im;
    make_images(&im);
    rt_normalise nm = {{0.4914f, 0.4822f, 0.4465f}, {0.2023f, 0.1994f, 0.2010f}};
    int64_t idx[2] = {5, 0};
    float out[2 * S * S * 3];
    rt_ok(rt_batch_fill(&im, idx, 2, &nm, NULL, 1, 1, 1, out));
    for (int b = 0; b < 2; b++)
        for (int i = 0; i < S * S * 3; i++) {
            float want = ((float)im.px[idx[b] * S * S * 3 + i] / 255.0f - nm.mean[i % 3]) / nm.std[i % 3];
            ck_assert(out[b * S * S * 3 + i] == want);
        }
    idx[0] = N;
    rt_fails(rt_batch_fill(&im, idx, 2, &nm, NULL, 1, 1, 1, out), RT_ERR_ARG);
    idx[0] = 0;
    nm.std[1] = 0;
    rt_fails(rt_batch_fill(&im, idx, 2, &nm, NULL, 1, 1, 1, out), RT_ERR_ARG);
    rt_images_fini(&im);
}
END_TEST

START_TEST(views_move_pixels_as_drawn)
{
    rt_images im;
    make_images(&im);
    rt_view v = {.flip = true, .pad_crop = 4};
    int64_t idx[N];
    static float out[N * S * S * 3];
    for (int i = 0; i < N; i++) idx[i] = i;
    rt_ok(rt_batch_fill(&im, idx, N, NULL, &v, 42, 9, 2, out));
    int flips = 0, moved = 0;
    for (int b = 0; b < N; b++) {
        rt_view_box box;
        rt_ok(rt_view_draw(&v, S, S, 42, 9, (uint32_t)b, &box));
        ck_assert(box.x0 >= -4 && box.x0 <= 4 && box.y0 >= -4 && box.y0 <= 4 && box.w == S && box.h == S);
        flips += box.flip;
        moved += box.x0 != 0 || box.y0 != 0;
        for (int y = 0; y < S; y++)
            for (int x = 0; x < S; x++)
                for (int c = 0; c < 3; c++) {
                    int sx = (box.flip ? S - 1 - x : x) + box.x0, sy = y + box.y0;
                    bool in = sx >= 0 && sx < S && sy >= 0 && sy < S;
                    float want = in ? (float)im.px[((b * S + sy) * S + sx) * 3 + c] / 255.0f : 0.0f;
                    ck_assert(out[((b * S + y) * S + x) * 3 + c] == want);
                }
    }
    ck_assert(flips > 0 && flips < N && moved > N / 2);
    rt_images_fini(&im);
}
END_TEST

START_TEST(same_bytes_on_any_thread_count)
{
    rt_images im;
    make_images(&im);
    rt_view v[2] = {{.flip = true, .pad_crop = 2},
                    {.flip = true, .rrc = true, .scale = {0.08f, 1}, .ratio = {0.75f, 1.3333f}}};
    int64_t idx[37];
    static float a[37 * S * S * 3], b[37 * S * S * 3];
    for (int i = 0; i < 37; i++) idx[i] = (i * 5) % N;
    for (int k = 0; k < 2; k++) {
        rt_ok(rt_batch_fill(&im, idx, 37, NULL, &v[k], 3, 8, 1, a));
        for (int t = 2; t <= 4; t++) {
            memset(b, 0xAA, sizeof b);
            rt_ok(rt_batch_fill(&im, idx, 37, NULL, &v[k], 3, 8, t, b));
            ck_assert_mem_eq(a, b, sizeof a);
        }
        rt_ok(rt_batch_fill(&im, idx, 37, NULL, &v[k], 3, 9, 1, b)); /* another step: other views */
        ck_assert_mem_ne(a, b, sizeof a);
    }
    rt_images_fini(&im);
}
END_TEST

START_TEST(random_resized_crop_follows_its_rule)
{
    rt_view v = {.rrc = true, .scale = {0.25f, 0.5f}, .ratio = {0.75f, 4.0f / 3}};
    double area = 0, ratio = 0;
    for (uint32_t i = 0; i < 4000; i++) {
        rt_view_box b;
        rt_ok(rt_view_draw(&v, 400, 400, 5, 0, i, &b));
        ck_assert(b.x0 >= 0 && b.y0 >= 0 && b.x0 + b.w <= 400 && b.y0 + b.h <= 400 && !b.flip);
        double share = (double)b.w * b.h / 160000.0, r = log((double)b.w / b.h);
        ck_assert(share > 0.245 && share < 0.505 && fabs(r) < log(4.0 / 3) + 0.01);
        area += share / 4000;
        ratio += r / 4000;
    }
    rt_assert_near(area, 0.375, 0.005, 0); /* uniform: sd of the mean is 0.0011 */
    rt_assert_near(ratio, 0, 0.012, 0);    /* sd of the mean is 0.0026 */

    rt_view_box b; /* never fits: the largest centred box of an allowed ratio */
    v = (rt_view){.rrc = true, .scale = {1, 1}, .ratio = {0.75f, 4.0f / 3}};
    rt_ok(rt_view_draw(&v, 100, 1000, 5, 0, 0, &b));
    ck_assert(b.h == 100 && b.w == 133 && b.y0 == 0 && b.x0 == 433);
    rt_ok(rt_view_draw(&v, 1000, 100, 5, 0, 0, &b));
    ck_assert(b.w == 100 && b.h == 133 && b.x0 == 0 && b.y0 == 433);
    v.ratio[1] = 0.5f;
    rt_fails(rt_view_draw(&v, 10, 10, 5, 0, 0, &b), RT_ERR_ARG);
    v = (rt_view){.rrc = true, .pad_crop = 4, .scale = {0.5f, 1}, .ratio = {1, 1}};
    rt_fails(rt_view_draw(&v, 10, 10, 5, 0, 0, &b), RT_ERR_ARG);
}
END_TEST

/* A shuffled view is the view of the image whose quarters were exchanged by hand; the four arrangements are equally frequent. */
START_TEST(shuffle_exchanges_the_quarters)
{
    enum { DRAWS = 4000 };
    rt_images im, turned;
    make_images(&im);
    make_images(&turned);
    const rt_view plain = {.rrc = true, .flip = true, .scale = {0.5f, 1}, .ratio = {0.75f, 4.0f / 3}};
    rt_view v = plain;
    v.shuffle = true;
    int64_t idx[N];
    static float out[N * S * S * 3], want[N * S * S * 3];
    for (int i = 0; i < N; i++) {
        rt_view_box box;
        idx[i] = i;
        rt_ok(rt_view_draw(&v, S, S, 42, 9, (uint32_t)i, &box));
        for (int y = 0; y < S; y++)
            for (int x = 0; x < S; x++) {
                int from_y = box.roll_y ? (y < S / 2 ? y + S / 2 : y - S / 2) : y, from_x = box.roll_x ? (x < S / 2 ? x + S / 2 : x - S / 2) : x;
                memcpy(turned.px + ((i * S + y) * S + x) * 3, im.px + ((i * S + from_y) * S + from_x) * 3, 3);
            }
    }
    rt_ok(rt_batch_fill(&im, idx, N, NULL, &v, 42, 9, 2, out));
    rt_ok(rt_batch_fill(&turned, idx, N, NULL, &plain, 42, 9, 1, want));
    ck_assert_mem_eq(out, want, sizeof out);
    int seen[4] = {0};
    for (uint32_t i = 0; i < DRAWS; i++) {
        rt_view_box box;
        rt_ok(rt_view_draw(&v, S, S, 1, 2, i, &box));
        ck_assert((box.roll_y == 0 || box.roll_y == S / 2) && (box.roll_x == 0 || box.roll_x == S / 2));
        seen[(box.roll_y > 0) + 2 * (box.roll_x > 0)]++;
    }
    for (int k = 0; k < 4; k++) ck_assert_msg(abs(seen[k] - DRAWS / 4) < 140, "arrangement %d: %d of %d", k, seen[k], DRAWS); /* 5 sd */
    v = (rt_view){.flip = true, .shuffle = true};
    rt_fails(rt_batch_fill(&im, idx, N, NULL, &v, 42, 9, 1, out), RT_ERR_ARG);
    rt_images_fini(&im);
    rt_images_fini(&turned);
}
END_TEST

START_TEST(subset_and_class_lists)
{
    rt_images im, sub = {0};
    make_images(&im);
    int64_t pick[3] = {7, 7, 1}, *idx = NULL, *start = NULL;
    rt_ok(rt_images_subset(&im, pick, 3, &sub));
    ck_assert_int_eq(sub.n, 3);
    ck_assert_str_eq(sub.key[1], "k7");
    ck_assert_mem_eq(sub.px + 2 * S * S * 3, im.px + S * S * 3, S * S * 3);
    ck_assert_str_eq(sub.classes.hash, im.classes.hash);
    rt_images_fini(&sub);
    pick[1] = -1;
    rt_fails(rt_images_subset(&im, pick, 3, &sub), RT_ERR_ARG);
    rt_ok(rt_images_by_class(&im, &idx, &start)); /* labels 0 2 1 0 2 1 ... */
    static const int64_t want[N] = {0, 3, 6, 9, 2, 5, 8, 11, 1, 4, 7, 10}, first[4] = {0, 4, 8, 12};
    ck_assert_mem_eq(idx, want, sizeof want);
    ck_assert_mem_eq(start, first, sizeof first);
    rt_free(idx);
    rt_free(start);
    rt_images_fini(&im);
}
END_TEST

static const rt_test tests[] = {
    {"plain batch is normalised in float", plain_batch_is_normalised_in_float},
    {"views move pixels as drawn", views_move_pixels_as_drawn},
    {"same bytes on any thread count", same_bytes_on_any_thread_count},
    {"random resized crop follows its rule", random_resized_crop_follows_its_rule},
    {"shuffle exchanges the quarters", shuffle_exchanges_the_quarters},
    {"subset and class lists", subset_and_class_lists},
};
RT_SUITE("data.batch", tests)
