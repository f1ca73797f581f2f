/* Every case through every mode that needs no backend: the oracle against itself and against differences.
 *
 *   infer      the reference writes every element of the inferred shape, and nothing is NaN
 *   expand     a fused op equals its expansion
 *   ref-grad   the gradient of <c, y(x)> against central differences
 *   ref-grad2  the gradient of <v, gradient> against differences of <v, gradient>, in x and in c
 *   adjoint    <c, J v> = <J'c, v> for ops linear or affine in input 0
 *   tangent    forward mode agrees with reverse mode: <c, J v> = <J'c, v>, and the tangent of the gradient with the
 *              gradient of <gradient, v>
 *   closure    derivatives of derivatives never reach an op without a rule
 *   coverage   every op has a case
 *
 * RT_CASE=name restricts to one case, RT_MODE=mode to one mode. */
#include "../support/compare.h"
#include "../support/suite.h"
#include "base/rng.h"
#include "harness.h"

static char repeat_text[256];

static const char *repeat(const rt_case *c, const char *mode)
{
    snprintf(repeat_text, sizeof repeat_text, "RT_CASE=%s RT_MODE=%s tests/ops/test_ops", c->name, mode);
    return repeat_text;
}

/* The node of the op a case is about: the last one, since helpers come before it. */
static const rt_node *subject(const rt_bench_case *b)
{
    const rt_node *found = NULL;
    for (size_t i = 0; i < rt_graph_node_count(b->g); i++)
        if (rt_graph_node(b->g, i)->op == b->c->op) found = rt_graph_node(b->g, i);
    return found;
}

static void mode_infer(const rt_case *c)
{
    rt_bench_case b;
    rt_bench_open(&b, c, false);
    ck_assert_msg(subject(&b) != NULL, "%s: its graph has no %s node", c->name, rt_op_name(c->op));
    rt_ok(rt_graph_verify(b.g));
    for (int o = 0; o < b.n_out; o++) {
        double *y = rt_bench_eval(&b, b.y[o]);
        rt_assert_close(&(rt_compare){c->name, repeat(c, "infer"), c->seed, 0, 0, c->flags & CASE_SPARSE}, y, y,
                        rt_bench_count(&b, b.y[o])); /* unwritten elements are NaN in the oracle */
        free(y);
    }
    rt_bench_close(&b);
}

static void mode_expand(const rt_case *c)
{
    rt_bench_case b;
    if (!rt_op_row_of(c->op)->expand) return;
    rt_bench_open(&b, c, false);
    const rt_node *n = subject(&b);
    rt_val e[RT_MAX_OUT] = {{0}};
    rt_op_row_of(c->op)->expand(b.g, n, e);
    rt_ok(rt_graph_status(b.g));
    for (int o = 0; o < n->n_out; o++) {
        ck_assert_msg(e[o].id != n->first_out + (uint32_t)o, "%s: output %d expands into itself", c->name, o);
        double *want = rt_bench_eval(&b, (rt_val){n->first_out + (uint32_t)o}), *got = rt_bench_eval(&b, e[o]);
        rt_assert_close(&(rt_compare){c->name, repeat(c, "expand"), c->seed, 1e-11, 1e-10, c->flags & CASE_SPARSE},
                        got, want, rt_bench_count(&b, e[o]));
        free(want);
        free(got);
    }
    rt_bench_close(&b);
}

/* --- differences --------------------------------------------------------------------------------------------------- */
/* d s(x + t dir) / dt at 0 by the five-point rule, s scalar, moving the fed input `at`. */
static double slope(rt_bench_case *b, rt_val s, int at, const double *dir)
{
    static const double step[4] = {-2, -1, 1, 2}, weight[4] = {1.0 / 12, -8.0 / 12, 8.0 / 12, -1.0 / 12};
    const double h = 2e-4;
    int64_t n = rt_bench_count(b, b->feed[at].v);
    double *x = (double *)b->feed[at].data, *keep = malloc((size_t)n * sizeof *keep + 1), sum = 0;
    memcpy(keep, x, (size_t)n * sizeof *x);
    for (int k = 0; k < 4; k++) {
        for (int64_t i = 0; i < n; i++) x[i] = keep[i] + step[k] * h * dir[i];
        double *v = rt_bench_eval(b, s);
        sum += weight[k] * *v / h;
        free(v);
    }
    memcpy(x, keep, (size_t)n * sizeof *x);
    free(keep);
    return sum;
}

/* Checks grad (of scalar s, with respect to the fed input `at`) along random directions and along single coordinates. */
static void check_slopes(rt_bench_case *b, rt_val s, int at, rt_val grad, double tol, const char *mode)
{
    int64_t n = rt_bench_count(b, grad);
    double *g = rt_bench_eval(b, grad), *dir = malloc((size_t)n * sizeof *dir + 1), top = 0;
    for (int64_t i = 0; i < n; i++) top = fabs(g[i]) > top || isnan(g[i]) ? fabs(g[i]) : top;
    rt_rng r = rt_rng_at(b->c->seed, RT_RNG_TEST, 2, (uint32_t)at);
    for (int k = 0; k < 12 && n > 0; k++) {
        double want, got = 0, scale = 0;
        bool coordinate = k >= 4; /* four directions, eight coordinates */
        for (int64_t i = 0; i < n; i++) dir[i] = coordinate ? 0 : rt_rng_uniform_in(&r, -1, 1);
        if (coordinate) dir[rt_rng_below(&r, (uint32_t)n)] = 1;
        for (int64_t i = 0; i < n; i++) {
            got += g[i] * dir[i];
            scale += fabs(g[i] * dir[i]);
        }
        want = b->c->flags & CASE_ZERO_GRAD ? 0 : slope(b, s, at, dir);
        /* The scale of the terms, not of their sum, which may cancel; a coordinate is judged against the largest. */
        double limit = b->c->flags & CASE_ZERO_GRAD ? 0 : tol * (scale > top ? scale : top) + 1e-10;
        if (!(fabs(got - want) <= limit))
            ck_abort_msg("%s: input %d, %s %d: gradient gives %.15g, differences %.15g (error %.3g, allowed %.3g); seed "
                         "%llu; repeat: %s",
                         b->c->name, at, coordinate ? "coordinate" : "direction", k, got, want, fabs(got - want), limit,
                         (unsigned long long)b->c->seed, repeat(b->c, mode));
    }
    free(g);
    free(dir);
}

static int feed_of(const rt_bench_case *b, rt_val v)
{
    for (int i = 0; i < b->n_feed; i++)
        if (b->feed[i].v.id == v.id) return i;
    ck_abort_msg("value is not an input");
}

static void mode_grad(const rt_case *c)
{
    rt_bench_case b;
    rt_bench_open(&b, c, false);
    if (b.n_real && b.n_cot) {
        rt_val s = {0};
        int k = 0;
        for (int o = 0; o < b.n_out; o++)
            if (rt_val_shape(b.g, b.y[o])->dtype == RT_F32) {
                rt_val d = rt_dot(b.g, b.y[o], b.cot[k++]);
                s = s.id ? rt_add(b.g, s, d) : d;
            }
        rt_ok(rt_graph_status(b.g));
        for (int i = 0; i < b.n_real; i++) check_slopes(&b, s, feed_of(&b, b.real[i]), b.gx[i], 1e-7, "ref-grad");
    }
    rt_bench_close(&b);
}

static void mode_grad2(const rt_case *c)
{
    rt_bench_case b;
    char name[16];
    rt_bench_open(&b, c, false);
    if (b.n_real && b.n_cot) {
        rt_val s = {0}, wrt[CASE_MAX_IN + RT_MAX_OUT], h[CASE_MAX_IN + RT_MAX_OUT];
        int n = 0;
        for (int i = 0; i < b.n_real; i++) {
            snprintf(name, sizeof name, "v%d", i);
            rt_val v = rt_bench_add_input(&b, name, b.gx[i], 200 + (uint32_t)i), d = rt_dot(b.g, b.gx[i], v);
            s = s.id ? rt_add(b.g, s, d) : d;
            wrt[n++] = b.real[i];
        }
        for (int o = 0; o < b.n_cot; o++) wrt[n++] = b.cot[o];
        rt_ok(rt_grad(b.g, s, wrt, n, h));
        for (int i = 0; i < n; i++) check_slopes(&b, s, feed_of(&b, wrt[i]), h[i], 1e-6, "ref-grad2");
    }
    rt_bench_close(&b);
}

static double dot_of(const double *a, const double *b, int64_t n, double *scale)
{
    double s = 0;
    *scale = 0;
    for (int64_t i = 0; i < n; i++) {
        s += a[i] * b[i];
        *scale += fabs(a[i] * b[i]);
    }
    return s;
}

/* Whether the case is its subject alone, applied to x[0] once: then linearity of the op is linearity of the case. */
static bool is_bare(const rt_bench_case *b)
{
    const rt_node *n = rt_val_node(b->g, b->y[0], NULL); /* a self-adjoint op also turns up in the gradient */
    if (n->op != b->c->op || n->in[0].id != b->x[0].id || n->n_out != b->n_out) return false;
    for (int i = 1; i < n->n_in; i++)
        if (n->in[i].id == b->x[0].id) return false;
    for (int o = 0; o < b->n_out; o++)
        if (b->y[o].id != n->first_out + (uint32_t)o) return false;
    return true;
}

static void mode_adjoint(const rt_case *c)
{
    rt_bench_case b;
    if (!(rt_op_row_of(c->op)->flags & RT_ROW_LINEAR) || (c->flags & CASE_NO_GRAD) || c->in[0].no_grad ||
        c->in[0].kind == DRAW_INDEX)
        return;
    rt_bench_open(&b, c, false);
    if (!is_bare(&b)) {
        rt_bench_close(&b);
        return;
    }
    int64_t n_x = rt_bench_count(&b, b.x[0]);
    double scale, total, left = 0, *gx = rt_bench_eval(&b, b.gx[0]); /* affine: gx does not depend on x[0] */
    double *x = (double *)b.feed[0].data, *v = malloc((size_t)n_x * sizeof *v + 1);
    memcpy(v, x, (size_t)n_x * sizeof *x);
    double right = dot_of(gx, v, n_x, &total);
    for (int pass = 0; pass < 2; pass++) { /* <c, J v> = <c, y(v)> - <c, y(0)> */
        if (pass) memset(x, 0, (size_t)n_x * sizeof *x);
        for (int o = 0; o < b.n_out; o++) {
            double *y = rt_bench_eval(&b, b.y[o]);
            double d = dot_of(y, b.feed[feed_of(&b, b.cot[o])].data, rt_bench_count(&b, b.y[o]), &scale);
            left += pass ? -d : d;
            total += scale;
            free(y);
        }
    }
    double limit = 1e-12 * total;
    ck_assert_msg((total > 0 || n_x == 0) && fabs(left - right) <= limit, "%s: <c, J v> = %.17g, <J'c, v> = %.17g; repeat: %s", c->name,
                  left, right, repeat(c, "adjoint"));
    free(gx);
    free(v);
    rt_bench_close(&b);
}

/* Forward mode along random directions of all real inputs, once on the outputs and once on the gradient. */
static void mode_tangent(const rt_case *c)
{
    rt_bench_case b;
    char name[16];
    rt_bench_open(&b, c, false);
    if (b.n_real && b.n_cot) {
        rt_val v[CASE_MAX_IN], y[RT_MAX_OUT], ty[RT_MAX_OUT], tg[CASE_MAX_IN], h[CASE_MAX_IN], s = {0};
        double left = 0, right = 0, total = 0, scale;
        int n_y = 0;
        for (int i = 0; i < b.n_real; i++) {
            snprintf(name, sizeof name, "v%d", i);
            v[i] = rt_bench_add_input(&b, name, b.real[i], 400 + (uint32_t)i);
            rt_val d = rt_dot(b.g, b.gx[i], v[i]);
            s = s.id ? rt_add(b.g, s, d) : d;
        }
        for (int o = 0; o < b.n_out; o++)
            if (rt_val_shape(b.g, b.y[o])->dtype == RT_F32) y[n_y++] = b.y[o];
        rt_ok(rt_jvp(b.g, y, n_y, b.real, v, b.n_real, ty));
        rt_ok(rt_jvp(b.g, b.gx, b.n_real, b.real, v, b.n_real, tg));
        rt_ok(rt_grad(b.g, s, b.real, b.n_real, h));
        rt_ok(rt_graph_verify(b.g));
        for (int o = 0; o < n_y; o++) {
            double *t = rt_bench_eval(&b, ty[o]);
            left += dot_of(t, b.feed[feed_of(&b, b.cot[o])].data, rt_bench_count(&b, ty[o]), &scale);
            total += scale;
            free(t);
        }
        for (int i = 0; i < b.n_real; i++) {
            double *g = rt_bench_eval(&b, b.gx[i]);
            right += dot_of(g, b.feed[feed_of(&b, v[i])].data, rt_bench_count(&b, v[i]), &scale);
            total += scale;
            free(g);
        }
        ck_assert_msg(fabs(left - right) <= 1e-11 * total + 1e-300, "%s: <c, J v> = %.17g, <J'c, v> = %.17g; repeat: %s",
                      c->name, left, right, repeat(c, "tangent"));
        for (int i = 0; i < b.n_real; i++) {
            double *got = rt_bench_eval(&b, tg[i]), *want = rt_bench_eval(&b, h[i]);
            rt_assert_close(&(rt_compare){c->name, repeat(c, "tangent"), c->seed, 1e-10, 1e-9, true}, got, want,
                            rt_bench_count(&b, tg[i]));
            free(got);
            free(want);
        }
    }
    rt_bench_close(&b);
}

/* Differentiates three times; every op that turns up must be differentiable or have nothing to differentiate. */
static void mode_closure(const rt_case *c)
{
    rt_bench_case b;
    char name[16];
    rt_bench_open(&b, c, false);
    rt_val g[CASE_MAX_IN], next[CASE_MAX_IN];
    memcpy(g, b.gx, sizeof g);
    for (int order = 2; order <= 3 && b.n_real; order++) {
        rt_val s = {0};
        for (int i = 0; i < b.n_real; i++) {
            snprintf(name, sizeof name, "w%d.%d", order, i);
            rt_val d = rt_dot(b.g, g[i], rt_bench_add_input(&b, name, g[i], 300));
            s = s.id ? rt_add(b.g, s, d) : d;
        }
        rt_ok(rt_grad(b.g, s, b.real, b.n_real, next));
        memcpy(g, next, sizeof g);
    }
    for (size_t i = 0; i < rt_graph_node_count(b.g); i++) {
        const rt_node *n = rt_graph_node(b.g, i);
        const rt_op_row *row = rt_op_row_of(n->op);
        ck_assert_msg(n->n_in == 0 || row->vjp || row->expand, "%s: %s has neither vjp nor expand", c->name, row->name);
    }
    rt_ok(rt_graph_verify(b.g));
    rt_bench_close(&b);
}

static const struct {
    const char *name;
    void (*run)(const rt_case *c);
} modes[] = {
    {"infer", mode_infer},   {"expand", mode_expand},   {"ref-grad", mode_grad},
    {"ref-grad2", mode_grad2}, {"adjoint", mode_adjoint}, {"tangent", mode_tangent},
    {"closure", mode_closure},
};
enum { N_MODES = sizeof modes / sizeof modes[0] };

START_TEST(run_one)
{
    size_t n;
    const rt_case *c = rt_all_cases(&n)[_i / N_MODES];
    const char *mode = modes[_i % N_MODES].name, *only_case = getenv("RT_CASE"), *only_mode = getenv("RT_MODE");
    if ((only_case && strcmp(only_case, c->name) != 0) || (only_mode && strcmp(only_mode, mode) != 0)) return;
    modes[_i % N_MODES].run(c);
}
END_TEST

START_TEST(every_op_has_a_case)
{
    size_t n;
    const rt_case *const *all = rt_all_cases(&n);
    bool subject_of[RT_OP_COUNT] = {false}, seen[RT_OP_COUNT] = {false};
    for (size_t i = 0; i < n; i++) {
        rt_bench_case b;
        for (size_t j = 0; j < i; j++) ck_assert_msg(strcmp(all[i]->name, all[j]->name) != 0, "two cases %s", all[i]->name);
        rt_bench_open(&b, all[i], false);
        subject_of[all[i]->op] = true;
        for (size_t k = 0; k < rt_graph_node_count(b.g); k++) seen[rt_graph_node(b.g, k)->op] = true;
        rt_bench_close(&b);
    }
    for (int op = 0; op < RT_OP_COUNT; op++)
        if (op != RT_OP_INPUT && op != RT_OP_CONST)
            ck_assert_msg(subject_of[op], "%s is the subject of no case (%s)", rt_op_name((rt_op)op),
                          seen[op] ? "it turns up in others" : "it turns up nowhere");
}
END_TEST

int main(void)
{
    size_t n;
    rt_all_cases(&n);
    Suite *s = suite_create("ops");
    TCase *tc = tcase_create("cases");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, run_one, 0, (int)(n * N_MODES));
    tcase_add_test(tc, every_op_has_a_case);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
