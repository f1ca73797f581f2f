/* Private to src/backend/cuda: the backend struct, the status macro, and what the kernel families export to table.c. */
#ifndef RT_BACKEND_CUDA_H
#define RT_BACKEND_CUDA_H

#include <cuda_runtime_api.h>

#include "backend/backend.h"
#include "backend/cuda/vendor.h"
#include "base/alloc.h"
#include "rt_kernels.h"

/* The way of host data to the device: pinned slots, each with its twin on the device (staging.c). As many as a training step has
 * small inputs, so that all of the next step's can be on their way while a step runs. */
enum { RT_CUDA_SLOTS = 8, RT_CUDA_SLOT_BYTES = 1 << 20 };
typedef struct rt_cuda_staging {
    char *pinned, *device;             /* RT_CUDA_SLOTS slots each */
    cudaStream_t stream;               /* uploads */
    cudaEvent_t up[RT_CUDA_SLOTS];     /* the slot's bytes are on the device */
    cudaEvent_t down[RT_CUDA_SLOTS];   /* and have left its device slot */
    bool used[RT_CUDA_SLOTS];
    int next;
} rt_cuda_staging;

typedef struct rt_cuda_backend {
    rt_backend base;
    int device;
    uint64_t *fault;     /* pinned host memory that kernels write to (rt_k_fault); 0: none */
    cudaStream_t stream; /* all computing runs here; never the default stream, so that a run can be captured */
    rt_cuda_staging staging;
    rt_cudnn dnn;
    rt_cublaslt lt;
    void *dnn_handle, *lt_handle;
    cudaEvent_t from, to; /* timing at prepare */
    char *algo_cache;     /* path or NULL */
    char machine[128];    /* device and library versions: with the shape, the key of a choice of algorithm */
} rt_cuda_backend;

/* Checks a CUDA status inside a function of the usual shape (st, out:). The expression is part of the message. */
#define RT_CUDA(expr)                                                                                                  \
    do {                                                                                                               \
        cudaError_t rt_cuda_ = (expr);                                                                                 \
        if (rt_cuda_ != cudaSuccess) {                                                                                 \
            st = rt_cuda_failed(rt_cuda_, #expr);                                                                      \
            goto out;                                                                                                  \
        }                                                                                                              \
    } while (0)
rt_status rt_cuda_failed(cudaError_t e, const char *what); /* NOMEM for lack of device memory, else DEVICE */

rt_status rt_cuda_staging_open(rt_cuda_staging *s);
void rt_cuda_staging_close(rt_cuda_staging *s); /* accepts half-open ones */
/* Host bytes to dst, in the order of cb->stream; src may be reused on return. Uploading overlaps with what still computes. */
rt_status rt_cuda_stage(rt_cuda_backend *cb, void *dst, const void *src, size_t bytes);

/* Capture of cb->stream (backend.h). */
rt_status rt_cuda_capture_begin(rt_backend *be);
rt_status rt_cuda_capture_end(rt_backend *be, bool keep, void **graph);
rt_status rt_cuda_graph_launch(rt_backend *be, void *graph);
void rt_cuda_graph_free(rt_backend *be, void *graph);

/* Which implementation runs a node: kept in the algorithm cache, by rule (strict without cache, plan only), or by timing.
 * n ways, the presumably best first; try runs way i once on cb->stream, or returns UNSUPPORTED. *pick: the fastest that runs.
 * Times are of the device, between events, best of three after a warm-up. */
typedef rt_status (*rt_cuda_try)(void *ctx, int way);
rt_status rt_cuda_fastest(rt_cuda_backend *cb, int n, rt_cuda_try run, void *ctx, int *pick);

/* State of a prepared kernel: the backend it runs on, then the family's own. */
typedef struct rt_cuda_state {
    rt_cuda_backend *be;
} rt_cuda_state;
/* Allocates a zeroed state of `bytes` (at least rt_cuda_state) into p->state and names the implementation. */
rt_status rt_cuda_prepare(rt_backend *be, rt_prepared *p, size_t bytes, const char *impl);
void rt_cuda_release(rt_prepared *p);
/* The status of a launch as a status of ours, naming the op. */
rt_status rt_cuda_launched(const rt_prepared *p, cudaError_t e);

/* Drops axes of one element and joins axes that are walked as one, keeping the element order. rank 0 becomes rank 1. */
void rt_cuda_map(const rt_shape *out, const int64_t *sa, const int64_t *sb, rt_k_map *m);

/* For kernels that read indices: where they report one out of range. rt_cuda_fault_check turns a report into RT_ERR_ARG and
 * forgets it; call it after the stream is synchronised. */
rt_k_fault rt_cuda_fault(const rt_prepared *p);
rt_status rt_cuda_fault_check(rt_cuda_backend *cb);

rt_status rt_cuda_views(rt_backend *be, const uint8_t *px, const rt_pixel_view *plan, const float *table, int64_t batch, int32_t h,
                        int32_t w, bool resize, void *out);

extern const rt_kernel rt_cuda_kernels[RT_OP_COUNT];

/* Families: what table.c points at. */
rt_status rt_cuda_flat_prepare(rt_backend *be, rt_prepared *p);      /* element i from element i */
rt_status rt_cuda_broadcast_prepare(rt_backend *be, rt_prepared *p); /* inputs broadcast to output 0 */
rt_status rt_cuda_broadcast_map_prepare(rt_backend *be, rt_prepared *p); /* the moves: move.c */
rt_status rt_cuda_transpose_prepare(rt_backend *be, rt_prepared *p);
rt_status rt_cuda_slice_prepare(rt_backend *be, rt_prepared *p);
rt_status rt_cuda_pad_prepare(rt_backend *be, rt_prepared *p);
rt_status rt_cuda_concat_prepare(rt_backend *be, rt_prepared *p);
rt_status rt_cuda_reduce_prepare(rt_backend *be, rt_prepared *p);
rt_status rt_cuda_scatter_prepare(rt_backend *be, rt_prepared *p);
rt_status rt_cuda_pool_prepare(rt_backend *be, rt_prepared *p);
rt_status rt_cuda_norm_prepare(rt_backend *be, rt_prepared *p);
rt_status rt_cuda_norm_tangent_prepare(rt_backend *be, rt_prepared *p);
bool rt_cuda_norm_supports(const rt_node *n, const char **why);
bool rt_cuda_pool_supports(const rt_node *n, const char **why);
rt_status rt_cuda_moments_prepare(rt_backend *be, rt_prepared *p);
rt_status rt_cuda_state_prepare(rt_backend *be, rt_prepared *p);     /* nothing to plan */
/* The order of additions of a sum over `axes` of x; scratch of n_out * n_chunks floats when n_chunks > 1. */
void rt_cuda_reduce_plan(const rt_shape *x, uint32_t axes, rt_k_reduce *r);
rt_status rt_cuda_conv_prepare(rt_backend *be, rt_prepared *p);
void rt_cuda_conv_release(rt_prepared *p);
rt_status rt_cuda_matmul_prepare(rt_backend *be, rt_prepared *p);
void rt_cuda_matmul_release(rt_prepared *p);
#define RT_CUDA_RUN(name) rt_status rt_cuda_##name##_run(const rt_prepared *p, const rt_kernel_io *io);
#define RT_UNARY(ENUM, name) RT_CUDA_RUN(name)
#define RT_BINARY(ENUM, name) RT_CUDA_RUN(name)
#include "math/elementwise.def"
#undef RT_UNARY
#undef RT_BINARY
RT_CUDA_RUN(iota)
RT_CUDA_RUN(dropout_mask)
RT_CUDA_RUN(copy) /* reshape and stop_gradient, where the exec did not make them views */
RT_CUDA_RUN(move) /* broadcast, transpose, slice, pad, concat */
RT_CUDA_RUN(gather)
RT_CUDA_RUN(scatter_add)
RT_CUDA_RUN(one_hot)
RT_CUDA_RUN(avg_pool)
RT_CUDA_RUN(avg_pool_dx)
RT_CUDA_RUN(max_pool)
RT_CUDA_RUN(max_pool_dx)
RT_CUDA_RUN(pool_gather)
RT_CUDA_RUN(norm)
RT_CUDA_RUN(norm_dx)
RT_CUDA_RUN(norm_tangent)
RT_CUDA_RUN(log_softmax)
RT_CUDA_RUN(softmax_ce)
RT_CUDA_RUN(color)
RT_CUDA_RUN(affine_sample)
RT_CUDA_RUN(affine_scatter)
RT_CUDA_RUN(box_mask)
RT_CUDA_RUN(crop_view)
RT_CUDA_RUN(crop_view_dx)
RT_CUDA_RUN(moments)
RT_CUDA_RUN(moments_dx)
RT_CUDA_RUN(sum)
RT_CUDA_RUN(amax)
RT_CUDA_RUN(argmax)
RT_CUDA_RUN(sgd_step)
RT_CUDA_RUN(adam_step)
RT_CUDA_RUN(conv)
RT_CUDA_RUN(matmul)
#undef RT_CUDA_RUN

#endif
