/* The session object, shared by exec.c, capture.c and profile.c only. */
#ifndef RT_EXEC_INTERNAL_H
#define RT_EXEC_INTERNAL_H

#include "exec/plan.h"

/* k runs with their rows, and the graph recorded of it or NULL. */
typedef struct rt_body {
    int k, n_rows;
    rt_rows rows[RT_MAX_ROWS];
    void *graph;
} rt_body;

struct rt_exec {
    rt_backend *be; /* borrowed */
    rt_plan *plan;
    rt_exec_opts opts;
    rt_prepared *prep;  /* per step */
    rt_kernel_io *io;   /* per step, pointing into address */
    void **address;
    double *ms;         /* per step, summed over runs */
    int n_prep;         /* kernels prepared so far: what destroy must release */
    long n_run;
    void *arena;
    struct rt_exec *owner;    /* whose arena this is: this exec, or one it borrows from; NULL under plan_only */
    struct rt_exec *last_run; /* owners: whose constants lie in the arena */
    void *bounce;       /* poison mode: host copy of the largest store */
    size_t bounce_bytes;
    rt_tensor **out; /* the tensors bound as outputs, borrowed */
    int n_out;
    rt_body once, many;
    char *backup;    /* capture: verify: device memory for the outputs' contents */
};

rt_status rt_exec_take_arena(rt_exec *ex); /* refills the constants after another exec used the arena */
rt_status rt_exec_run_steps(rt_exec *ex); /* every kernel once, in order; no waiting */

/* capture.c */
rt_capture rt_exec_capture_mode(const rt_exec *ex);
rt_status rt_exec_capture_prepare(rt_exec *ex);
void rt_exec_body_release(rt_exec *ex, rt_body *b);

#endif
