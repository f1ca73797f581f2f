/* What every benchmark here needs: a check that ends the program, a sort order, the processor's clock. */
#ifndef RT_BENCH_BENCH_H
#define RT_BENCH_BENCH_H

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "probe.h"
#include "retort/status.h"

#define TRY(expr)                                                                                                      \
    do {                                                                                                               \
        if ((expr) != RT_OK) {                                                                                         \
            fprintf(stderr, "%s: %s (%s)\n", #expr, rt_error_what(), rt_error_where());                                \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static inline int ascending(const void *a, const void *b) /* doubles, for qsort */
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Processor time of all threads, seconds: steadier than wall time when others share the cores. */
static inline double bench_cpu(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
