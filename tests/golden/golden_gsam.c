/* One step of adaptive GSAM against PyTorch in float64 (gsam.py), and rows of several networks apart from each other. */
#include "golden.h"
#include "optim/optim.h"

static const double rho = 0.05, alpha = 0.3, lr = 0.01;

START_TEST(gsam_step)
{
    const precision pr = precisions[_i];
    const rt_model_desc d = {.arch = "convnet", .depth = 2, .width = 8, .norm = RT_MODEL_NORM_INSTANCE, .size = 16, .channels = 3,
                             .classes = 10};
    rt_st_file *f = golden_open("gsam");
    session s;
    rt_model *m;
    rt_forward here, there;
    rt_val grad, sharp;
    session_open(&s, pr.backend);
    rt_ok(rt_model_create(&d, &m));
    int64_t p = rt_model_n_params(m);
    double *px = filled(900, 4 * 16 * 16 * 3, 1, 0), *weights = golden_theta(m), *labels = golden_labels(4, 10);
    rt_val x = session_input(&s, "x", RT_SHAPE(RT_F32, 4, 16, 16, 3), px), q = session_input(&s, "q", RT_SHAPE(RT_F32, 4, 10), labels);
    rt_val theta = session_input(&s, "theta", RT_SHAPE(RT_F32, p), weights);
    rt_ok(rt_model_forward(m, s.g, x, theta, (rt_val){0}, 1, &here));
    rt_val loss = rt_mean_all(s.g, rt_softmax_ce(s.g, here.logits, q));
    rt_ok(rt_model_grad(m, s.g, loss, theta, &grad));
    rt_val up = rt_gsam_ascend(s.g, theta, grad, rho);
    rt_ok(rt_model_forward(m, s.g, x, up, (rt_val){0}, 1, &there));
    rt_ok(rt_model_grad(m, s.g, rt_mean_all(s.g, rt_softmax_ce(s.g, there.logits, q)), up, &sharp));
    rt_val step = rt_gsam_direction(s.g, grad, sharp, alpha);
    rt_val next = rt_sub(s.g, theta, rt_mul_scalar(s.g, step, lr));
    const struct {
        const char *name;
        int out;
        int64_t n;
    } want[] = {{"loss", session_output(&s, loss), 1},       {"grad", session_output(&s, grad), p},
                {"ascended", session_output(&s, up), p},     {"sharp", session_output(&s, sharp), p},
                {"direction", session_output(&s, step), p}, {"theta", session_output(&s, next), p}};
    session_run(&s);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        assert_vector(want[i].name, session_read(&s, want[i].out), golden(f, want[i].name, want[i].n), want[i].n, pr);
    /* the comparison would notice a step without the second gradient */
    ck_assert(rel_distance(golden(f, "grad", p), golden(f, "direction", p), p) > 0.01);
    free(px), free(weights), free(labels);
    rt_model_destroy(m);
    session_close(&s);
    rt_st_close(f);
}
END_TEST

/* Two rows at once are the two rows one by one. */
START_TEST(rows_are_independent)
{
    enum { P = 37 };
    double *theta = filled(1, 2 * P, 1, 0), *grad = filled(2, 2 * P, 1, 0), *sharp = filled(3, 2 * P, 1, 0.1), got[2][2 * P];
    for (int k = 0; k < 3; k++) { /* k 0: both rows; then each */
        int64_t rows = k ? 1 : 2, at = k == 2 ? P : 0;
        rt_shape shape = k ? RT_SHAPE(RT_F32, P) : RT_SHAPE(RT_F32, 2, P);
        session s;
        session_open(&s, "ref");
        rt_val t = session_input(&s, "t", shape, theta + at), g = session_input(&s, "g", shape, grad + at),
               h = session_input(&s, "h", shape, sharp + at);
        int up = session_output(&s, rt_gsam_ascend(s.g, t, g, rho)), to = session_output(&s, rt_gsam_direction(s.g, g, h, alpha));
        session_run(&s);
        for (int64_t i = 0; i < rows * P; i++) {
            if (!k) {
                got[0][i] = session_read(&s, up)[i];
                got[1][i] = session_read(&s, to)[i];
                continue;
            }
            rt_assert_near(session_read(&s, up)[i], got[0][at + i], 1e-14, 1e-13);
            rt_assert_near(session_read(&s, to)[i], got[1][at + i], 1e-14, 1e-13);
        }
        session_close(&s);
    }
    free(theta), free(grad), free(sharp);
}
END_TEST

/* What the definition says of a gradient that vanishes and of one that is its own neighbour. */
START_TEST(degenerate_gradients)
{
    double theta[3] = {1, -2, 0}, zero[3] = {0}, g[3] = {3, 0, 4};
    session s;
    session_open(&s, "ref");
    rt_val t = session_input(&s, "t", RT_SHAPE(RT_F32, 3), theta), z = session_input(&s, "z", RT_SHAPE(RT_F32, 3), zero),
           v = session_input(&s, "v", RT_SHAPE(RT_F32, 3), g);
    int stay = session_output(&s, rt_gsam_ascend(s.g, t, z, rho)), none = session_output(&s, rt_gsam_direction(s.g, z, z, alpha)),
        same = session_output(&s, rt_gsam_direction(s.g, v, v, alpha));
    session_run(&s);
    for (int i = 0; i < 3; i++) {
        rt_assert_near(session_read(&s, stay)[i], theta[i], 0, 0);
        rt_assert_near(session_read(&s, none)[i], 0, 0, 0);
        rt_assert_near(session_read(&s, same)[i], g[i], 1e-12, 0);
    }
    session_close(&s);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("golden.gsam");
    TCase *tc = tcase_create("gsam");
    tcase_add_loop_test(tc, gsam_step, 0, 2);
    tcase_add_test(tc, rows_are_independent);
    tcase_add_test(tc, degenerate_gradients);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
