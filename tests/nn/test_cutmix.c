/* CutMix: the paste against a loop, the adjoint, the law of the draw, the labels. */
#include "nn/cutmix.h"
#include "session.h"

enum { N = 5, S = 8, C = 3, COUNT = N * S * S * C };

START_TEST(pastes_the_box_of_the_partner)
{
    static const float box[4] = {2, 6, 5, 8};
    static const int32_t partner[N] = {3, 0, 2, 4, 1};
    double wide[N * 4], *x0 = filled(1, COUNT, 1, 0), *y0 = filled(2, COUNT, 1, 0);
    session s;
    session_open(&s, "cpu");
    for (int i = 0; i < N * 4; i++) wide[i] = (double)box[i % 4];
    rt_tensor *tp = NULL;
    rt_val x = session_input(&s, "x", RT_SHAPE(RT_F32, N, S, S, C), x0);
    rt_val y = session_input(&s, "y", RT_SHAPE(RT_F32, N, S, S, C), y0);
    rt_val b = session_input(&s, "b", RT_SHAPE(RT_F32, N, 4), wide);
    rt_val p = rt_input(s.g, "p", RT_SHAPE(RT_I32, N)), adjoint;
    rt_ok(rt_tensor_create(s.be, RT_SHAPE(RT_I32, N), &tp));
    rt_ok(rt_tensor_write(tp, partner, sizeof partner));
    s.in[s.n_in++] = (rt_bind){p, tp};
    rt_val mixed = rt_cutmix_apply(s.g, x, p, b);
    rt_ok(rt_grad(s.g, rt_dot(s.g, mixed, y), &x, 1, &adjoint));
    int out = session_output(&s, mixed), back = session_output(&s, adjoint);
    session_run(&s);
    const double *got = session_read(&s, out);
    double moved = 0;
    for (int i = 0, n = 0; n < N; n++)
        for (int h = 0; h < S; h++)
            for (int w = 0; w < S; w++)
                for (int c = 0; c < C; c++, i++) {
                    bool in = h >= 2 && h < 6 && w >= 5;
                    int from = in ? i + (partner[n] - n) * S * S * C : i;
                    ck_assert_msg(got[i] == x0[from], "image %d, %d, %d, %d", n, h, w, c);
                    moved += in && from != i;
                }
    ck_assert(moved == (N - 1) * 4 * 3 * C); /* image 2 is its own partner */
    rt_assert_near(dot(got, y0, COUNT), dot(session_read(&s, back), x0, COUNT), 1e-5, 1e-5);
    free(x0), free(y0);
    session_close(&s);
}
END_TEST

/* The area of the box is 1 - lambda before clipping; the clipped mean is smaller. Permutations, kept share, probability. */
START_TEST(draws_follow_the_law)
{
    enum { B = 16, SIDE = 32, STEPS = 4000 };
    int64_t scratch[B];
    int32_t partner[B];
    float box[B * 4];
    int mixed = 0;
    double area = 0;
    for (uint64_t step = 0; step < STEPS; step++) {
        float keep = rt_cutmix_draw(0.5, SIDE, 7, step, B, 100, scratch, partner, box);
        unsigned seen = 0;
        for (int i = 0; i < B; i++) {
            ck_assert(partner[i] >= 100 && partner[i] < 100 + B);
            seen |= 1u << (partner[i] - 100);
            ck_assert_mem_eq(box + 4 * i, box, 4 * sizeof *box);
        }
        ck_assert_uint_eq(seen, (1u << B) - 1);
        double a = (double)((box[1] - box[0]) * (box[3] - box[2])) / (SIDE * SIDE);
        ck_assert(box[0] >= 0 && box[1] <= SIDE && box[2] >= 0 && box[3] <= SIDE && a >= 0);
        rt_assert_near((double)keep, 1 - a, 1e-6, 0);
        bool moved = false;
        for (int i = 0; i < B; i++) moved |= partner[i] != 100 + i;
        mixed += moved;
        area += a;
        if (!moved) ck_assert_float_eq(keep, 1.0f);
    }
    rt_assert_near(mixed, STEPS / 2, 5 * sqrt(STEPS * 0.25), 0);
    /* E[(overlap of [c - s/2, c + s/2] with [0,1])^2] with s^2 = 1 - lambda ~ U(0,1), c ~ U: per side s - s^2/4, independent */
    double want = 0;
    for (int i = 0; i < 1000; i++) {
        double s = sqrt((i + 0.5) / 1000), side = s - s * s / 4;
        want += side * side / 1000;
    }
    rt_assert_near(area / mixed, want, 0.03, 0); /* the box is an even number of whole pixels: slightly smaller */
    rt_cutmix_draw(1.0, SIDE, 7, 3, B, 0, scratch, partner, box);
    int32_t again[B];
    rt_cutmix_draw(1.0, SIDE, 7, 3, B, 0, scratch, again, box);
    ck_assert_mem_eq(partner, again, sizeof again);
    ck_assert_float_eq(rt_cutmix_draw(0.0, SIDE, 7, 3, B, 0, scratch, partner, box), 1.0f);
}
END_TEST

START_TEST(labels_are_mixed_by_area)
{
    const float q[6] = {1, 0, 0, 1, 0.5f, 0.5f};
    const int32_t partner[3] = {11, 12, 10};
    float out[6];
    rt_cutmix_labels(q, 3, 10, 2, partner, 0.75f, out);
    const float want[6] = {0.75f, 0.25f, 0.125f, 0.875f, 0.625f, 0.375f};
    for (int i = 0; i < 6; i++) ck_assert_float_eq(out[i], want[i]);
}
END_TEST

static const rt_test tests[] = {
    {"paste", pastes_the_box_of_the_partner}, {"draw", draws_follow_the_law}, {"labels", labels_are_mixed_by_area}};
RT_SUITE("nn.cutmix", tests)
