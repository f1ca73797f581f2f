/* Strided index spaces, reduced to their fewest axes and cut into parallel runs. */
#include <omp.h>
#include <string.h>

#include "backend/cpu/cpu.h"

enum { RUN = 8192 }; /* longest run: a few pages, so that one long axis still feeds every thread */

void rt_walk_init(rt_walk *w, const rt_shape *s, int operands, const int64_t *const *stride)
{
    memset(w, 0, sizeof *w);
    for (int i = 0; i < s->rank; i++) {
        if (s->d[i] == 1) continue;
        bool merge = w->rank > 0;
        for (int k = 0; merge && k < operands; k++)
            merge = w->stride[k][w->rank - 1] == stride[k][i] * s->d[i];
        if (!merge) w->rank++;
        w->d[w->rank - 1] = merge ? w->d[w->rank - 1] * s->d[i] : s->d[i];
        for (int k = 0; k < operands; k++) w->stride[k][w->rank - 1] = stride[k][i];
    }
    if (w->rank == 0) { /* a single element */
        w->rank = 1;
        w->d[0] = 1;
    }
}

/* Runs [lo, hi) of the space: decode the first, then count like an odometer. */
static void walk_range(const rt_walk *w, int64_t per_row, int64_t lo, int64_t hi, rt_walk_row row, const void *context)
{
    const int last = w->rank - 1;
    int64_t at[RT_MAX_RANK] = {0}, base[3] = {0}, left = lo / per_row, piece = lo % per_row;
    for (int k = last - 1; k >= 0; k--) {
        at[k] = left % w->d[k];
        left /= w->d[k];
        for (int o = 0; o < 3; o++) base[o] += at[k] * w->stride[o][k];
    }
    for (int64_t u = lo; u < hi; u++) {
        int64_t from = piece * RUN, n = w->d[last] - from < RUN ? w->d[last] - from : RUN, start[3];
        for (int o = 0; o < 3; o++) start[o] = base[o] + from * w->stride[o][last];
        row(n, start, context);
        if (++piece < per_row) continue;
        piece = 0;
        for (int k = last - 1; k >= 0; k--) {
            for (int o = 0; o < 3; o++) base[o] += w->stride[o][k];
            if (++at[k] < w->d[k]) break;
            for (int o = 0; o < 3; o++) base[o] -= w->stride[o][k] * w->d[k];
            at[k] = 0;
        }
    }
}

void rt_walk_run(const rt_walk *w, rt_walk_row row, const void *context)
{
    int64_t rows = 1, inner = w->d[w->rank - 1], per_row = (inner + RUN - 1) / RUN;
    for (int k = 0; k < w->rank - 1; k++) rows *= w->d[k];
    if (rows * inner == 0) return;
#pragma omp parallel if (rows * inner > RT_CPU_GRAIN)
    {
        int64_t lo, hi;
        rt_share(rows * per_row, omp_get_thread_num(), omp_get_num_threads(), &lo, &hi);
        if (lo < hi) walk_range(w, per_row, lo, hi, row, context);
    }
}
