/* Batches made on the device against rt_batch_fill: the same bits, for every kind of view, odd sizes, CutMix; and the refusals. */
#include "base/alloc.h"
#include "base/rng.h"
#include "data/data.h"
#include "rig.h"
#include "support/suite.h"

enum { N = 9, BATCH = 13 };
static const rt_normalise norm = {{0.4914f, 0.4822f, 0.4465f}, {0.2023f, 0.1994f, 0.2010f}};

static rt_images images(int32_t h, int32_t w)
{
    rt_images im = {.n = N, .h = h, .w = w, .px = rt_malloc((size_t)(N * h * w * 3))};
    for (int64_t i = 0; i < N * h * w * 3; i++) im.px[i] = (uint8_t)rt_draw(5, 1, 0, (uint32_t)i, 0).v[0];
    return im;
}

/* The device's batch and the CPU back end's, which mixes rt_batch_fill's. */
static void compare(rt_backend *be, rt_backend *cpu, const rt_images *im, const rt_view *view, bool mix)
{
    const size_t count = (size_t)(BATCH * im->h * im->w * 3);
    const int32_t cut[4] = {im->h / 4, im->h, 0, im->w / 2};
    int64_t idx[BATCH], partner[BATCH];
    float *got = malloc(count * 4), *want = malloc(count * 4);
    rt_resident *a = NULL, *b = NULL;
    rt_tensor *x = NULL, *y = NULL;
    for (int i = 0; i < BATCH; i++) {
        idx[i] = i * 5 % N;
        partner[i] = (i + 3) % BATCH;
    }
    rt_ok(rt_resident_open(be, im, &a));
    rt_ok(rt_resident_open(cpu, im, &b));
    rt_ok(rt_tensor_create(be, RT_SHAPE(RT_F32, BATCH, im->h, im->w, 3), &x));
    rt_ok(rt_tensor_create(cpu, RT_SHAPE(RT_F32, BATCH, im->h, im->w, 3), &y));
    for (uint64_t step = 0; step < 3; step++) {
        rt_ok(rt_resident_fill(a, idx, BATCH, &norm, view, 11, step, mix ? partner : NULL, cut, 1, x));
        rt_ok(rt_tensor_read(x, got, count * 4));
        if (mix) {
            rt_ok(rt_resident_fill(b, idx, BATCH, &norm, view, 11, step, partner, cut, 1, y));
            rt_ok(rt_tensor_read(y, want, count * 4));
        } else rt_ok(rt_batch_fill(im, idx, BATCH, &norm, view, 11, step, 1, want));
        for (size_t i = 0; i < count; i++)
            ck_assert_msg(memcmp(&got[i], &want[i], 4) == 0, "%d x %d, step %d, element %zu: %.9g, want %.9g", im->h, im->w, (int)step, i,
                          (double)got[i], (double)want[i]);
    }
    idx[2] = N;
    rt_fails(rt_resident_fill(a, idx, BATCH, &norm, view, 11, 0, NULL, NULL, 1, x), RT_ERR_ARG);
    rt_fails(rt_resident_fill(a, idx, BATCH - 1, &norm, view, 11, 0, NULL, NULL, 1, x), RT_ERR_ARG);
    idx[2] = 0;
    partner[1] = BATCH;
    rt_fails(rt_resident_fill(a, idx, BATCH, &norm, view, 11, 0, partner, cut, 1, x), RT_ERR_ARG);
    rt_resident_close(a);
    rt_resident_close(b);
    rt_tensor_destroy(x);
    rt_tensor_destroy(y);
    free(got);
    free(want);
}

START_TEST(views_equal_the_host_bit_for_bit)
{
    static const rt_view views[] = {
        {.flip = true},
        {.flip = true, .pad_crop = 4},
        {.rrc = true, .flip = true, .scale = {0.08f, 1}, .ratio = {0.75f, 4.0f / 3}},
        {.rrc = true, .scale = {1, 1}, .ratio = {1, 1}}, /* the largest box: one pass may be skipped */
        {.rrc = true, .scale = {0.01f, 0.05f}, .ratio = {0.2f, 5}},
        {.rrc = true, .flip = true, .shuffle = true, .scale = {0.5f, 1}, .ratio = {0.75f, 4.0f / 3}},
        {.rrc = true, .shuffle = true, .scale = {1, 1}, .ratio = {1, 1}}, /* without a resize in between */
    };
    static const int32_t sizes[][2] = {{32, 32}, {17, 23}, {5, 3}, {1, 1}};
    rt_backend *be = rig_open(), *cpu = NULL;
    rt_ok(rt_backend_open("cpu", &(rt_backend_opts){.threads = 1}, &cpu));
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        rt_images im = images(sizes[s][0], sizes[s][1]);
        compare(be, cpu, &im, NULL, false);
        for (size_t v = 0; v < sizeof views / sizeof *views; v++)
            for (int mix = 0; mix < 2; mix++) compare(be, cpu, &im, &views[v], mix);
        rt_free(im.px);
    }
    rt_backend_close(cpu);
    rt_backend_close(be);
    ck_assert_int_eq(rt_host_cuda_live(), 0);
}
END_TEST

static const rt_test tests[] = {{"views equal the host bit for bit", views_equal_the_host_bit_for_bit}};
RT_SUITE("kernels.views", tests)
