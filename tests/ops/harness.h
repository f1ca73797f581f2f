/* The graph of one case with its inputs drawn, gradients built, ready for any mode. */
#ifndef RT_TESTS_OPS_HARNESS_H
#define RT_TESTS_OPS_HARNESS_H

#include "../support/eval.h"
#include "case.h"

typedef struct rt_bench_case {
    const rt_case *c;
    rt_graph *g;
    int n_in, n_out, n_real; /* n_real: inputs with a gradient */
    rt_val x[CASE_MAX_IN], y[RT_MAX_OUT], cot[RT_MAX_OUT]; /* cot: cotangents, inputs of the graph too */
    int n_cot;                                             /* real outputs */
    rt_val real[CASE_MAX_IN];                              /* the x with a gradient */
    rt_val gx[CASE_MAX_IN];                                /* d sum <cot, y> / d real */
    rt_feed feed[CASE_MAX_IN * 4 + RT_MAX_OUT];            /* all inputs so far */
    int n_feed;
} rt_bench_case;

const rt_case *const *rt_all_cases(size_t *n);

/* Builds forward and, unless the case has none, the gradient. as_float: draws are rounded to float. Aborts the test on
 * any failure. */
void rt_bench_open(rt_bench_case *b, const rt_case *c, bool as_float);
void rt_bench_close(rt_bench_case *b);
/* Adds an input of the shape of v with values uniform in +-[0.25,1): the direction or cotangent number k. */
rt_val rt_bench_add_input(rt_bench_case *b, const char *name, rt_val v, uint32_t k);
/* Evaluates one value with the oracle: returns owned doubles (i32 converted). */
double *rt_bench_eval(const rt_bench_case *b, rt_val v);
int64_t rt_bench_count(const rt_bench_case *b, rt_val v);

#endif
