/* A device that runs out of memory: a three-line error, nothing leaked, and the next plan works. Skipped without a device. */
#include "backend/backend.h"
#include "support/suite.h"

enum { N = 16 << 20, KEEP = 4096 };
static rt_backend *be;

/* y = tanh(x)^2 on N elements: prepares and runs; the status of the first failure. */
static rt_status work(float *last)
{
    rt_status st = RT_OK;
    rt_graph *g = NULL;
    rt_tensor *tx = NULL, *ty = NULL;
    rt_exec *ex = NULL;
    if ((st = rt_graph_create(&g)) != RT_OK) return st;
    rt_val x = rt_input(g, "x", RT_SHAPE(RT_F32, N)), y = rt_square(g, rt_tanh(g, rt_add_scalar(g, x, 1)));
    st = rt_graph_status(g);
    if (st == RT_OK) st = rt_tensor_create(be, RT_SHAPE(RT_F32, N), &tx);
    if (st == RT_OK) st = rt_tensor_create(be, RT_SHAPE(RT_F32, N), &ty);
    if (st == RT_OK) st = rt_exec_prepare(be, g, &(rt_bind){x, tx}, 1, &(rt_bind){y, ty}, 1, NULL, &ex);
    if (st == RT_OK) st = rt_exec_run(ex);
    float *host = st == RT_OK ? malloc((size_t)N * sizeof *host) : NULL;
    if (host) {
        st = rt_tensor_read(ty, host, (size_t)N * sizeof *host);
        *last = host[N - 1];
    }
    free(host);
    rt_exec_destroy(ex);
    rt_tensor_destroy(tx);
    rt_tensor_destroy(ty);
    rt_graph_destroy(g);
    return st;
}

START_TEST(running_out_is_an_error_and_passes)
{
    static void *held[KEEP];
    int n = 0;
    float last = 0;
    rt_ok(work(&last));
    rt_assert_near(last, 0.58002566, 0, 1e-5); /* tanh(1)^2 */
    for (size_t bytes = (size_t)8 << 30; bytes >= (size_t)16 << 20 && n < KEEP;) /* take what there is */
        if (be->vt->alloc(be, bytes, &held[n]) == RT_OK) n++;
        else bytes /= 2;
    rt_error_clear();
    ck_assert_int_gt(n, 0);
    rt_fails(work(&last), RT_ERR_NOMEM);
    ck_assert_msg(strstr(rt_error_what(), "GiB") != NULL, "%s", rt_error_what());
    ck_assert_str_ne(rt_error_remedy(), "");
    while (n > 0) be->vt->free(be, held[--n]);
    rt_error_clear();
    last = 0;
    rt_ok(work(&last));
    rt_assert_near(last, 0.58002566, 0, 1e-5);
}
END_TEST

int main(void)
{
    if (rt_backend_open("cuda", &(rt_backend_opts){0}, &be) != RT_OK) {
        printf("no CUDA device: not measured\n");
        return 77;
    }
    Suite *s = suite_create("gpu.memory");
    TCase *tc = tcase_create("memory");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, running_out_is_an_error_and_passes);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK); /* a device does not survive a fork */
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    rt_backend_close(be);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
