/* Comparison that fails closed: NaN fails, too many zeros fail, and the report says where and how to repeat. */
#ifndef RT_TESTS_COMPARE_H
#define RT_TESTS_COMPARE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct rt_compare {
    const char *what;   /* "cpu grad x0": goes into the report */
    const char *repeat; /* a command */
    uint64_t seed;
    double atol, rtol;
    bool sparse; /* most of the output may be zero */
} rt_compare;

/* Aborts the running Check test at the first element with |got - want| > atol + rtol |want|, telling the worst too. */
void rt_assert_close(const rt_compare *c, const double *got, const double *want, int64_t n);

#endif
