/* The frame of every suite: an array of {name, function}, one Check process per test.
 *
 *     static const rt_test tests[] = {{"reads a tar", reads_a_tar}, ...};
 *     RT_SUITE("data.shard", tests)
 *
 * A test returns nothing and uses ck_assert_*. rt_ok(expr) fails with the whole error chain. */
#ifndef RT_TESTS_SUITE_H
#define RT_TESTS_SUITE_H

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "retort/status.h"

/* Check declares a test as a pointer variable, which cannot stand in a static table; here its name is an array of one. */
#undef START_TEST
#define START_TEST(name)                                                                                               \
    static void name##_fn(int _i CK_ATTRIBUTE_UNUSED);                                                                 \
    static const TTest name[1] = {{#name, name##_fn, __FILE__, __LINE__}};                                             \
    static void name##_fn(int _i CK_ATTRIBUTE_UNUSED)

typedef struct rt_test {
    const char *name;
    const TTest *fn;
} rt_test;

#define rt_ok(expr)                                                                                                    \
    do {                                                                                                               \
        rt_status rt_ok_ = (expr);                                                                                     \
        if (rt_ok_ != RT_OK)                                                                                           \
            ck_abort_msg("%s: %s: %s (%s)", #expr, rt_status_name(rt_ok_), rt_error_what(), rt_error_where());         \
    } while (0)

#define rt_fails(expr, status)                                                                                         \
    do {                                                                                                               \
        rt_status rt_got_ = (expr);                                                                                    \
        if (rt_got_ != (status))                                                                                       \
            ck_abort_msg("%s: got %s (%s), want %s", #expr, rt_status_name(rt_got_), rt_error_what(), #status);        \
    } while (0)

/* Fails on NaN: the comparison is negated. */
static inline int rt_near(double got, double want, double atol, double rtol)
{
    return fabs(got - want) <= atol + rtol * fabs(want);
}
#define rt_assert_near(got, want, atol, rtol)                                                                          \
    do {                                                                                                               \
        double g_ = (got), w_ = (want);                                                                                \
        if (!rt_near(g_, w_, (atol), (rtol)))                                                                          \
            ck_abort_msg("%s = %.12g, want %.12g (difference %.3g)", #got, g_, w_, g_ - w_);                           \
    } while (0)

#define RT_SUITE(title, table)                                                                                         \
    int main(void)                                                                                                     \
    {                                                                                                                  \
        Suite *s = suite_create(title);                                                                                \
        for (size_t i = 0; i < sizeof(table) / sizeof((table)[0]); i++) {                                              \
            TCase *tc = tcase_create((table)[i].name);                                                                 \
            tcase_set_timeout(tc, 600);                                                                                \
            tcase_add_test(tc, (table)[i].fn);                                                                         \
            suite_add_tcase(s, tc);                                                                                    \
        }                                                                                                              \
        SRunner *r = srunner_create(s);                                                                                \
        srunner_run_all(r, CK_NORMAL);                                                                                 \
        int failed = srunner_ntests_failed(r);                                                                         \
        srunner_free(r);                                                                                               \
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;                                                                   \
    }

#endif
