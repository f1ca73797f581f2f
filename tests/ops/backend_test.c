/* Every case on a backend, through rt_exec, against the float64 oracle. RT_BACKEND names the backend (default cpu).
 *
 *   forward   outputs
 *   grad      outputs and first derivatives, one plan
 *   grad2     derivatives of <v, gradient>: the ops that only second derivatives use
 *   guard     as grad, arena poisoned with NaN and sentinels between values: same bits as without
 *   repeat    as grad: two runs of one plan, and a second plan, give the same bits
 *   capture   as grad on cuda: each run also as a recorded graph, same bits
 *
 * Inputs are rounded to float for both sides, so what differs is the arithmetic alone. The tolerance follows from the
 * longest reduction of the plan: rounding errors of n terms grow like sqrt(n). An op that the backend does not have fails
 * its cases: there is no list of exceptions. RT_CASE and RT_MODE restrict as in test_ops; RT_PRECISION=tf32 or bf16 opens the
 * backend so and widens the tolerance to the rounding of operands. */
#include "../support/compare.h"
#include "../support/suite.h"
#include "harness.h"
#include "retort/exec.h"

enum { MAX_WANT = RT_MAX_OUT + 2 * CASE_MAX_IN };

static char repeat_text[256];
static rt_backend *backend; /* one per process */

static const char *backend_name(void)
{
    const char *name = getenv("RT_BACKEND");
    return name && *name ? name : "cpu";
}

static const char *repeat(const rt_case *c, const char *mode)
{
    snprintf(repeat_text, sizeof repeat_text, "RT_BACKEND=%s RT_CASE=%s RT_MODE=%s tests/ops/test_ops_cpu",
             backend_name(), c->name, mode);
    return repeat_text;
}

static rt_precision precision(void)
{
    const char *name = getenv("RT_PRECISION");
    return name && strcmp(name, "bf16") == 0 ? RT_PRECISION_BF16 : name && strcmp(name, "tf32") == 0 ? RT_PRECISION_TF32 : RT_PRECISION_F32;
}

/* A case with the values asked of the backend. */
typedef struct job {
    rt_bench_case b;
    rt_val want[MAX_WANT];
    int n_want;
    rt_tensor *in[CASE_MAX_IN * 5], *out[MAX_WANT];
    rt_exec *ex;
} job;

static void write_input(rt_tensor *t, const void *data)
{
    const rt_shape *s = rt_tensor_shape(t);
    size_t n = (size_t)rt_shape_count(s);
    if (s->dtype == RT_F32)
        rt_ok(rt_tensor_write_f64(t, data, n));
    else
        rt_ok(rt_tensor_write(t, data, n * sizeof(int32_t)));
}

static void prepare(job *j, const rt_exec_opts *o)
{
    rt_bind in[CASE_MAX_IN * 5], out[MAX_WANT];
    for (int i = 0; i < j->b.n_feed; i++) {
        rt_ok(rt_tensor_create(backend, *rt_val_shape(j->b.g, j->b.feed[i].v), &j->in[i]));
        write_input(j->in[i], j->b.feed[i].data);
        in[i] = (rt_bind){j->b.feed[i].v, j->in[i]};
    }
    for (int i = 0; i < j->n_want; i++) {
        rt_ok(rt_tensor_create(backend, *rt_val_shape(j->b.g, j->want[i]), &j->out[i]));
        out[i] = (rt_bind){j->want[i], j->out[i]};
    }
    rt_ok(rt_exec_prepare(backend, j->b.g, in, j->b.n_feed, out, j->n_want, o, &j->ex));
}

static void release(job *j)
{
    rt_exec_destroy(j->ex);
    j->ex = NULL;
    for (int i = 0; i < j->b.n_feed; i++) rt_tensor_destroy(j->in[i]);
    for (int i = 0; i < j->n_want; i++) rt_tensor_destroy(j->out[i]);
}

/* The case's graph; order 0: outputs, 1: and gradients, 2: second derivatives only. */
static void open_job(job *j, const rt_case *c, int order)
{
    char name[16];
    memset(j, 0, sizeof *j);
    rt_bench_open(&j->b, c, true);
    if (order < 2)
        for (int o = 0; o < j->b.n_out; o++) j->want[j->n_want++] = j->b.y[o];
    if (order == 1)
        for (int i = 0; i < j->b.n_real; i++) j->want[j->n_want++] = j->b.gx[i];
    if (order == 2 && j->b.n_real) {
        rt_val s = {0}, wrt[CASE_MAX_IN + RT_MAX_OUT];
        int n = 0;
        for (int i = 0; i < j->b.n_real; i++) {
            snprintf(name, sizeof name, "v%d", i);
            rt_val v = rt_bench_add_input(&j->b, name, j->b.gx[i], 200 + (uint32_t)i), d = rt_dot(j->b.g, j->b.gx[i], v);
            s = s.id ? rt_add(j->b.g, s, d) : d;
            wrt[n++] = j->b.real[i];
        }
        for (int o = 0; o < j->b.n_cot; o++) wrt[n++] = j->b.cot[o];
        rt_ok(rt_grad(j->b.g, s, wrt, n, j->want));
        j->n_want = n;
    }
}

/* Terms summed into one element, by the longest reduction in the graph. */
static double longest_reduction(const rt_graph *g)
{
    double longest = 1;
    for (size_t i = 0; i < rt_graph_node_count(g); i++) {
        const rt_node *n = rt_graph_node(g, i);
        const rt_op_row *row = rt_op_row_of(n->op);
        double count = n->n_out ? (double)rt_shape_count(&n->out_shape[0]) : 0;
        if (!row->cost || !(count > 0)) continue;
        double terms = row->cost(n).flops / count;
        longest = terms > longest ? terms : longest;
    }
    return longest;
}

static double *read_value(rt_tensor *t)
{
    const rt_shape *s = rt_tensor_shape(t);
    size_t n = (size_t)rt_shape_count(s);
    double *out = malloc(n * sizeof *out + 1);
    if (s->dtype == RT_F32) {
        rt_ok(rt_tensor_read_f64(t, out, n));
    } else {
        int32_t *whole = malloc(n * sizeof *whole + 1);
        rt_ok(rt_tensor_read(t, whole, n * sizeof *whole));
        for (size_t i = 0; i < n; i++) out[i] = whole[i];
        free(whole);
    }
    return out;
}

static void compare_with_oracle(const job *j, const char *mode)
{
    const rt_case *c = j->b.c;
    static const double rounding[] = {6e-8, 2.5e-4, 2e-3}; /* half a unit in the last place of f32, tf32, bf16 */
    double unit = strcmp(backend_name(), "ref") == 0 ? 1e-14 : rounding[precision()];
    double tol = unit * 8 * (4 + sqrt(longest_reduction(j->b.g))) * (c->tol > 0 ? c->tol : 1);
    for (int i = 0; i < j->n_want; i++) {
        char what[128];
        int64_t n = rt_bench_count(&j->b, j->want[i]);
        double *want = rt_bench_eval(&j->b, j->want[i]), *got = read_value(j->out[i]), top = 0;
        bool exact = rt_val_shape(j->b.g, j->want[i])->dtype == RT_I32;
        for (int64_t k = 0; k < n; k++) top = fabs(want[k]) > top ? fabs(want[k]) : top;
        snprintf(what, sizeof what, "%s on %s, %s: value %d", c->name, backend_name(), mode, i);
        rt_assert_close(&(rt_compare){what, repeat(c, mode), c->seed, exact ? 0 : tol * top, exact ? 0 : tol, true}, got,
                        want, n);
        free(want);
        free(got);
    }
}

static void against_oracle(const rt_case *c, int order, const char *mode)
{
    job j;
    open_job(&j, c, order);
    if (j.n_want) {
        prepare(&j, NULL);
        rt_ok(rt_exec_run(j.ex));
        compare_with_oracle(&j, mode);
        release(&j);
    }
    rt_bench_close(&j.b);
}

static void mode_forward(const rt_case *c) { against_oracle(c, 0, "forward"); }
static void mode_grad(const rt_case *c) { against_oracle(c, 1, "grad"); }
static void mode_grad2(const rt_case *c) { against_oracle(c, 2, "grad2"); }

/* Runs a prepared job and returns all its outputs, owned. */
static double **run_and_read(job *j)
{
    double **out = malloc(MAX_WANT * sizeof *out);
    rt_ok(rt_exec_run(j->ex));
    for (int i = 0; i < j->n_want; i++) out[i] = read_value(j->out[i]);
    return out;
}

static void assert_same_bits(const job *j, double **a, double **b, const char *mode, const char *what)
{
    for (int i = 0; i < j->n_want; i++) {
        int64_t n = rt_bench_count(&j->b, j->want[i]);
        for (int64_t k = 0; k < n; k++)
            if (memcmp(&a[i][k], &b[i][k], sizeof a[i][k]) != 0)
                ck_abort_msg("%s: value %d, element %lld: %.9g, then %.9g %s; repeat: %s", j->b.c->name, i, (long long)k,
                             a[i][k], b[i][k], what, repeat(j->b.c, mode));
        free(b[i]);
    }
    free(b);
}

static void mode_guard(const rt_case *c)
{
    job j;
    open_job(&j, c, 1);
    prepare(&j, NULL);
    double **plain = run_and_read(&j);
    release(&j);
    prepare(&j, &(rt_exec_opts){.poison = true});
    assert_same_bits(&j, plain, run_and_read(&j), "guard", "with poison");
    assert_same_bits(&j, plain, run_and_read(&j), "guard", "with poison, again");
    release(&j);
    for (int i = 0; i < j.n_want; i++) free(plain[i]);
    free(plain);
    rt_bench_close(&j.b);
}

static void mode_repeat(const rt_case *c)
{
    job j;
    open_job(&j, c, 1);
    prepare(&j, NULL);
    double **first = run_and_read(&j);
    assert_same_bits(&j, first, run_and_read(&j), "repeat", "on the second run");
    release(&j);
    prepare(&j, NULL);
    assert_same_bits(&j, first, run_and_read(&j), "repeat", "from a second plan");
    release(&j);
    for (int i = 0; i < j.n_want; i++) free(first[i]);
    free(first);
    rt_bench_close(&j.b);
}

static void mode_capture(const rt_case *c)
{
    job j;
    if (strcmp(backend_name(), "cuda") != 0) return; /* nothing to capture */
    open_job(&j, c, 1);
    prepare(&j, &(rt_exec_opts){.capture = RT_CAPTURE_VERIFY});
    for (int i = 0; i < 2; i++) rt_ok(rt_exec_run(j.ex));
    compare_with_oracle(&j, "capture");
    release(&j);
    rt_bench_close(&j.b);
}

static const struct {
    const char *name;
    void (*run)(const rt_case *c);
} modes[] = {
    {"forward", mode_forward}, {"grad", mode_grad}, {"grad2", mode_grad2}, {"guard", mode_guard}, {"repeat", mode_repeat},
    {"capture", mode_capture},
};
enum { N_MODES = sizeof modes / sizeof modes[0] };

static void open_backend(void)
{
    rt_ok(rt_backend_open(backend_name(), &(rt_backend_opts){.threads = 2, .strict = true, .precision = precision()}, &backend));
}

static void close_backend(void) { rt_backend_close(backend); }

START_TEST(run_one)
{
    size_t n;
    const rt_case *c = rt_all_cases(&n)[_i / N_MODES];
    const char *mode = modes[_i % N_MODES].name, *only_case = getenv("RT_CASE"), *only_mode = getenv("RT_MODE");
    if ((only_case && strcmp(only_case, c->name) != 0) || (only_mode && strcmp(only_mode, mode) != 0)) return;
    modes[_i % N_MODES].run(c);
}
END_TEST

int main(void)
{
    size_t n;
    rt_all_cases(&n);
    Suite *s = suite_create("ops.backend");
    TCase *tc = tcase_create("cases");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, open_backend, close_backend);
    tcase_add_loop_test(tc, run_one, 0, (int)(n * N_MODES));
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
