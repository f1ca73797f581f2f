/* The session object, shared by exec.c and profile.c only. */
#ifndef RT_EXEC_INTERNAL_H
#define RT_EXEC_INTERNAL_H

#include "exec/plan.h"

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
};

#endif
