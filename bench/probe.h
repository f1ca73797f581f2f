/* What this machine can do right now: the denominators of every ratio, taken next to the measurement. GF/s, all threads of
 * the current OpenMP setting, about 0.2 s each. */
#ifndef RT_BENCH_PROBE_H
#define RT_BENCH_PROBE_H

double probe_fma(void);   /* multiply-adds on registers, widest vectors */
double probe_sgemm(void); /* oneDNN sgemm, 1536^3, best of several */
double probe_now(void);   /* seconds, monotonic */

#endif
