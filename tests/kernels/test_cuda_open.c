/* The CUDA backend as built into the program: without a device it says so, with the reason and a way out. */
#include "backend/backend.h"
#include "support/suite.h"

START_TEST(says_no_device_or_opens_one)
{
    rt_backend *be = NULL;
    rt_backend_opts o = {0};
    rt_status st = rt_backend_open("cuda", &o, &be);
    if (st == RT_OK) {
        ck_assert_ptr_nonnull(strstr(be->describe, "sm_"));
        be->vt->close(be);
        o.device_index = 1000;
        st = rt_backend_open("cuda", &o, &be);
    } else ck_assert_ptr_null(be);
    ck_assert_int_eq(st, RT_ERR_UNSUPPORTED);
    ck_assert_int_eq(rt_exit_code(st), 69);
    const char *says = rt_error_what();
    ck_assert_msg(!strncmp(says, "no CUDA device", 14) || strstr(says, "was built without CUDA"), "%s", says);
    ck_assert_uint_gt(strlen(says), strlen("no CUDA device: "));
    ck_assert_str_ne(rt_error_remedy(), "");
}
END_TEST

static const rt_test tests[] = {{"says no device or opens one", says_no_device_or_opens_one}};
RT_SUITE("cuda.open", tests)
