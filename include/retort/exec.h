/* Running graphs: backends, tensors, plans.
 *
 * prepare may allocate, choose algorithms by timing, and fail; run may do none of these. A prepared rt_exec owns one
 * arena for all intermediate values, so a step cannot run out of memory in hour nine.
 *
 *     rt_backend *be;  rt_backend_open("cpu", &(rt_backend_opts){.threads = 2}, &be);
 *     rt_tensor *tx;   rt_tensor_create(be, RT_SHAPE(RT_F32, 32, 784), &tx);
 *     rt_bind in[]  = {{x, tx}, {w, tw}, {q, tq}};
 *     rt_bind out[] = {{w_new, tw}, {loss, tl}};       // an output may overwrite an input tensor: state update in place
 *     rt_exec *ex;     rt_exec_prepare(be, g, in, 3, out, 2, NULL, &ex);
 *     rt_tensor_write(tx, host, bytes);  rt_exec_run(ex);  rt_tensor_read(tl, &loss, sizeof loss);
 *
 * The graph may be destroyed after rt_exec_prepare. Tensors are shared between execs by binding them (train and
 * evaluation step share theta); they are borrowed by the exec and must outlive it.
 */
#ifndef RETORT_EXEC_H
#define RETORT_EXEC_H

#include "retort/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rt_backend rt_backend;
typedef struct rt_tensor rt_tensor;
typedef struct rt_exec rt_exec;

/* What products and convolutions compute in; all else, parameters and sums are float32 always. */
typedef enum rt_precision {
    RT_PRECISION_F32,
    RT_PRECISION_TF32, /* operands rounded to 10 bits of mantissa inside the tensor cores */
    RT_PRECISION_BF16  /* operands rounded to bfloat16, sums in float32 */
} rt_precision;

/* A run of a device's kernels can be recorded once and then launched as one graph. */
typedef enum rt_capture {
    RT_CAPTURE_DEFAULT, /* exec: as the backend was opened; backend: off */
    RT_CAPTURE_OFF,
    RT_CAPTURE_ON,      /* the first run is direct, the second records; no effect where a backend cannot */
    RT_CAPTURE_VERIFY   /* every run twice, direct and captured, on the same state: outputs must agree to the bit */
} rt_capture;

typedef struct rt_backend_opts {
    int threads;      /* 0: all cores this process may use */
    bool strict;      /* fixed reduction orders, no timing-dependent algorithm choice: same bits on every run */
    int device_index; /* cuda */
    const char *algo_cache; /* file that keeps algorithm choices across runs (so that a resumed run repeats them) or NULL */
    rt_precision precision; /* cuda; elsewhere anything but f32 is RT_ERR_UNSUPPORTED */
    rt_capture capture;     /* cuda */
} rt_backend_opts;

/* name: "ref" (float64 definition), "cpu" (oneDNN + OpenMP), "cuda". RT_ERR_UNSUPPORTED with a reason when absent. */
RT_API rt_status rt_backend_open(const char *name, const rt_backend_opts *o, rt_backend **out);
RT_API void rt_backend_close(rt_backend *be);
RT_API const char *rt_backend_name(const rt_backend *be);
RT_API const char *rt_backend_describe(const rt_backend *be); /* device, ISA, threads, library versions: one line */

/* --- tensors ----------------------------------------------------------------------------------------------------- */
RT_API rt_status rt_tensor_create(rt_backend *be, rt_shape s, rt_tensor **out); /* zero-filled */
RT_API void rt_tensor_destroy(rt_tensor *t);
RT_API const rt_shape *rt_tensor_shape(const rt_tensor *t);
RT_API size_t rt_tensor_bytes(const rt_tensor *t); /* in the backend's memory */
/* Host data is float (RT_F32) or int32_t (RT_I32); bytes must equal count * 4. ref converts to and from double. */
RT_API rt_status rt_tensor_write(rt_tensor *t, const void *src, size_t bytes);
RT_API rt_status rt_tensor_read(const rt_tensor *t, void *dst, size_t bytes);
RT_API rt_status rt_tensor_write_f64(rt_tensor *t, const double *src, size_t count);
RT_API rt_status rt_tensor_read_f64(const rt_tensor *t, double *dst, size_t count);
/* count elements between two tensors of one backend and one dtype, offsets in elements; they must not overlap. */
RT_API rt_status rt_tensor_copy(rt_tensor *dst, int64_t dst_at, const rt_tensor *src, int64_t src_at, int64_t count);
/* Direct host storage (float or int32_t) on cpu; NULL on ref and cuda. Valid between runs. */
RT_API void *rt_tensor_host(rt_tensor *t);

/* --- plans ------------------------------------------------------------------------------------------------------- */
typedef struct rt_bind {
    rt_val v;
    rt_tensor *t;
} rt_bind;

typedef struct rt_exec_opts {
    bool poison;        /* tests: fill the arena with NaN before each run and put sentinels between values */
    bool profile;       /* accumulate time per node */
    bool plan_only;     /* do not allocate or time: rt_exec_stats works, rt_exec_run fails */
    /* Borrow the arena of this exec of the same backend when it is large enough (else allocate). For steps that take
     * turns: the lender must outlive the borrower, and the two never run at once. */
    rt_exec *arena_of;
    rt_capture capture; /* poison and profile look between kernels and run directly */
} rt_exec_opts;

typedef struct rt_exec_stats {
    size_t arena_bytes;   /* one arena: peak of live intermediates, constants, scratch, alignment */
    size_t scratch_bytes; /* largest scratch of a kernel; it lies inside the arena */
    size_t bound_bytes;   /* tensors bound as inputs and outputs, each counted once */
    size_t naive_bytes;   /* sum of all intermediates, for comparison */
    double flops, bytes;  /* per run, from the op rows */
    int n_nodes, n_kernels;
} rt_exec_stats;

RT_API rt_status rt_exec_prepare(rt_backend *be, const rt_graph *g, const rt_bind *in, int n_in, const rt_bind *out,
                                 int n_out, const rt_exec_opts *o, rt_exec **out_ex);
RT_API void rt_exec_destroy(rt_exec *ex);
RT_API rt_status rt_exec_run(rt_exec *ex); /* rt_exec_start, then rt_exec_wait */
/* Starts a run without waiting for the device: what is written to tensors meanwhile (the next batch) takes effect after it,
 * and uploading overlaps with it. Errors of the device may surface at wait, or at the next read. */
RT_API rt_status rt_exec_start(rt_exec *ex);
RT_API rt_status rt_exec_wait(rt_exec *ex);
/* k runs as one launch. Before run i row i of each in-block [>= k, shape of t] becomes t; after it t becomes row i of each
 * out-block. So per-step values (learning rate, indices, losses) live in blocks on the device and the host only starts. */
typedef struct rt_rows {
    rt_tensor *block, *t; /* borrowed; t need not be bound */
    bool out;
} rt_rows;
enum { RT_MAX_ROWS = 16 };
RT_API rt_status rt_exec_run_many(rt_exec *ex, int k, const rt_rows *rows, int n_rows);
RT_API void rt_exec_get_stats(const rt_exec *ex, rt_exec_stats *out);
/* Per-node table after runs with profile: op, shape, implementation name, ms, GF/s, GB/s. */
RT_API rt_status rt_exec_profile_dump(const rt_exec *ex, FILE *f);

#ifdef __cplusplus
}
#endif
#endif
