/* Shared by the files of the cpu backend: the backend object, oneDNN's error macro, strided walks, parallel ranges.
 *
 * Every kernel works on float32 or int32 in host memory, NHWC. Loops that matter are compiled three times and dispatched on
 * the CPU at start (RT_CLONES), because the binary travels. A cloned function must not contain an OpenMP construct: the
 * compiler outlines the region before it clones, and the region would stay at the base instruction set. So: the parallel
 * region is in a plain function, the loop over a range in a cloned one. */
#ifndef RT_BACKEND_CPU_H
#define RT_BACKEND_CPU_H

#include <dnnl.h>

#include "backend/backend.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) &&                \
    !defined(__SANITIZE_THREAD__)
#define RT_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define RT_CLONES
#endif
/* Iterations are independent although pointers may be equal (in-place): without it gcc falls to the scalar loop. */
#define RT_IVDEP _Pragma("GCC ivdep")

enum { RT_CPU_GRAIN = 32768 }; /* elements below which a second thread costs more than it brings */

typedef struct rt_cpu {
    rt_backend base;
    rt_backend_vtable vt;
    rt_kernel kernels[RT_OP_COUNT];
    int threads;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    char *algo_cache; /* path or NULL */
} rt_cpu;

/* Each family adds its kernels to the table. */
void rt_cpu_elementwise_kernels(rt_kernel *t);
void rt_cpu_reduce_kernels(rt_kernel *t);
void rt_cpu_move_kernels(rt_kernel *t);
void rt_cpu_index_kernels(rt_kernel *t);
void rt_cpu_matmul_kernels(rt_kernel *t);
void rt_cpu_conv_kernels(rt_kernel *t);
void rt_cpu_pool_kernels(rt_kernel *t);
void rt_cpu_norm_kernels(rt_kernel *t);
void rt_cpu_loss_kernels(rt_kernel *t);
void rt_cpu_moments_kernels(rt_kernel *t);
void rt_cpu_sample_kernels(rt_kernel *t);
void rt_cpu_generate_kernels(rt_kernel *t);
void rt_cpu_crop_kernels(rt_kernel *t);
void rt_cpu_optim_kernels(rt_kernel *t);

/* oneDNN's errors are bare codes: the caller's frame adds op and shapes. */
const char *rt_cpu_dnnl_name(dnnl_status_t s);
#define RT_ONEDNN(expr)                                                                                                \
    do {                                                                                                               \
        dnnl_status_t rt_dnnl_ = (expr);                                                                               \
        if (rt_dnnl_ != dnnl_success) {                                                                                \
            st = RT_RAISE(rt_dnnl_ == dnnl_out_of_memory ? RT_ERR_NOMEM : RT_ERR_DEVICE, "oneDNN: %s: %s", #expr,      \
                          rt_cpu_dnnl_name(rt_dnnl_));                                                                 \
            goto out;                                                                                                  \
        }                                                                                                              \
    } while (0)

/* --- strided walks ------------------------------------------------------------------------------------------------- */
/* Up to three operands walked over one index space; axes of size 1 are dropped and neighbours merged where every operand
 * allows it. rank >= 1; the inner axis is d[rank - 1]. */
typedef struct rt_walk {
    int rank;
    int64_t d[RT_MAX_RANK], stride[3][RT_MAX_RANK];
} rt_walk;

void rt_walk_init(rt_walk *w, const rt_shape *s, int operands, const int64_t *const *stride);
/* Calls row(n, offsets, context) for runs along the inner axis, in parallel; offsets[k] is where operand k starts. Runs of
 * one call cover each element exactly once; no order is promised. */
typedef void (*rt_walk_row)(int64_t n, const int64_t *at, const void *context);
void rt_walk_run(const rt_walk *w, rt_walk_row row, const void *context);

/* Fixed partition of [0, n): the share of thread t of T, contiguous. */
static inline void rt_share(int64_t n, int t, int threads, int64_t *lo, int64_t *hi)
{
    *lo = n * t / threads;
    *hi = n * (t + 1) / threads;
}

#endif
