/* Optimiser rules and schedule tables against PyTorch (generate.py). */
#include "golden.h"
#include "optim/optim.h"

enum { P = 8 };

static void check_rule(const rt_st_file *f, const char *name, rt_optim_desc d, precision pr)
{
    const double *want = golden(f, name, 3 * P);
    double *theta0 = filled(0, P, 1, 0), zero[P] = {0}, hyper[3] = {0};
    rt_val state[2] = {{0}, {0}}, state_new[2];
    int n = rt_optim_n_state(&d), out[3];
    session s;
    session_open(&s, pr.backend);
    rt_val theta = session_input(&s, "theta", RT_SHAPE(RT_F32, P), theta0);
    rt_val grad = session_input(&s, "grad", RT_SHAPE(RT_F32, P), zero);
    rt_val rates = session_input(&s, "hyper", RT_SHAPE(RT_F32, 3), hyper);
    for (int i = 0; i < n; i++) state[i] = session_input(&s, i ? "s1" : "s0", RT_SHAPE(RT_F32, P), zero);
    out[0] = session_output(
        &s, rt_optim_step(s.g, &d, theta, state, grad, rates, rt_scalar(s.g, d.weight_decay), state_new));
    for (int i = 0; i < n; i++) out[1 + i] = session_output(&s, state_new[i]);
    for (int t = 1; t <= 3; t++) {
        double *g = filled((uint32_t)t, P, 1, 0);
        const double exact[3] = {d.lr, 1 - pow(d.beta1, t), 1 - pow(d.beta2, t)};
        session_write(&s, 1, g);
        session_write(&s, 2, exact);
        session_run(&s);
        assert_vector(name, session_read(&s, out[0]), want + (t - 1) * P, P, pr);
        session_write(&s, 0, session_read(&s, out[0]));
        for (int i = 0; i < n; i++) session_write(&s, 3 + i, session_read(&s, out[1 + i]));
        free(g);
    }
    free(theta0);
    session_close(&s);
}

START_TEST(rules_are_those_of_pytorch)
{
    const rt_optim_desc
        plain = {.kind = RT_SGD, .lr = 0.1},
        momentum = {.kind = RT_SGD, .lr = 0.1, .momentum = 0.9, .weight_decay = 0.05},
        nesterov = {.kind = RT_SGD, .lr = 0.1, .momentum = 0.9, .weight_decay = 0.05, .nesterov = 1},
        adam = {.kind = RT_ADAM, .lr = 0.01, .beta1 = 0.8, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.05},
        adamw = {.kind = RT_ADAMW, .lr = 0.01, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.05};
    rt_st_file *f = golden_open("optimisers");
    for (size_t k = 0; k < 2; k++) {
        check_rule(f, "sgd", plain, precisions[k]);
        check_rule(f, "momentum", momentum, precisions[k]);
        check_rule(f, "nesterov", nesterov, precisions[k]);
        check_rule(f, "adam", adam, precisions[k]);
        check_rule(f, "adamw", adamw, precisions[k]);
    }
    rt_st_close(f);
}
END_TEST

START_TEST(schedules_are_those_of_pytorch)
{
    const rt_schedule cosine = {.kind = RT_SCHED_COSINE, .total = 40, .zeta = 1},
                      smoothed = {.kind = RT_SCHED_COSINE, .total = 40, .zeta = 2},
                      warm = {.kind = RT_SCHED_COSINE, .total = 40, .zeta = 1, .warmup = 5},
                      steps = {.kind = RT_SCHED_STEP,
                               .total = 40,
                               .factor = 0.2,
                               .milestone = {10, 25, 26},
                               .n_milestones = 3},
                      constant = {.kind = RT_SCHED_CONSTANT, .total = 40}, dc = rt_schedule_dc(39);
    const struct {
        const char *name;
        const rt_schedule *s;
    } row[] = {{"cosine", &cosine}, {"smoothed", &smoothed}, {"warmup_cosine", &warm}, {"steps", &steps}, {"dc", &dc}};
    rt_st_file *f = golden_open("schedules");
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        const double *want = golden(f, row[i].name, 40);
        for (int e = 0; e < 40; e++) {
            double got = rt_schedule_at(row[i].s, 0.5, e);
            ck_assert_msg(rt_near(got, want[e], 1e-11, 1e-11), "%s: epoch %d: %.15g, want %.15g", row[i].name, e, got,
                          want[e]);
        }
    }
    for (int e = 0; e < 40; e++) ck_assert(rt_schedule_at(&constant, 0.5, e) == 0.5);
    rt_st_close(f);
}
END_TEST

/* 1000 (+1) epochs: the rate falls after epoch index 501, and only there is the optimiser rebuilt. */
START_TEST(the_dc_schedule_restarts_once)
{
    rt_schedule s = rt_schedule_dc(1000), plain = s;
    plain.restart = 0;
    ck_assert(s.total == 1001);
    for (int e = 0; e < 1001; e++) {
        rt_assert_near(rt_schedule_at(&s, 0.01, e), e <= 501 ? 0.01 : 0.001, 0, 1e-15);
        ck_assert_int_eq(rt_schedule_restarts(&s, e - 1, e), e == 502);
        ck_assert_int_eq(rt_schedule_restarts(&plain, e - 1, e), 0);
    }
    ck_assert_int_eq(rt_schedule_restarts(&s, 0, 1000), 1); /* a resumed run that skips over the milestone */
    rt_schedule w = {.kind = RT_SCHED_CONSTANT, .warmup = 4};
    rt_assert_near(rt_schedule_at(&w, 2, 0), 0, 0, 0);
    rt_assert_near(rt_schedule_at(&w, 2, 1), 0.5, 0, 0);
    rt_assert_near(rt_schedule_at(&w, 2, 4), 2, 0, 0);
}
END_TEST

START_TEST(an_average_moves_by_its_decay)
{
    session s;
    const double avg[2] = {1, -2}, theta[2] = {3, 6};
    session_open(&s, "ref");
    rt_val a = session_input(&s, "a", RT_SHAPE(RT_F32, 2), avg), t = session_input(&s, "t", RT_SHAPE(RT_F32, 2), theta);
    int out = session_output(&s, rt_ema_step(s.g, a, t, 0.75));
    session_run(&s);
    double *v = session_read(&s, out);
    rt_assert_near(v[0], 1.5, 1e-15, 0);
    rt_assert_near(v[1], 0, 1e-15, 0);
    session_close(&s);
}
END_TEST

static const rt_test tests[] = {
    {"rules", rules_are_those_of_pytorch},
    {"schedules", schedules_are_those_of_pytorch},
    {"dc schedule", the_dc_schedule_restarts_once},
    {"ema", an_average_moves_by_its_decay},
};
RT_SUITE("golden.optim", tests)
