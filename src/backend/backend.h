/* What a backend provides. Private to src/backend and src/exec.
 *
 * A kernel table has one entry per op; an entry without run means "unsupported", and prepare says so with op, shape and
 * reason. There is no silent fallback to another backend. */
#ifndef RT_BACKEND_BACKEND_H
#define RT_BACKEND_BACKEND_H

#include "math/view.h"
#include "ops/row.h"
#include "retort/exec.h"

/* Storage of one operand at run time. Addresses are fixed at prepare (capture needs that). */
typedef struct rt_kernel_io {
    const void *const *in;
    void *const *out;
    void *scratch; /* as booked in prepare; shared between kernels, contents undefined on entry */
} rt_kernel_io;

typedef struct rt_prepared {
    const rt_node *node;     /* copy owned by the exec: the graph may be gone */
    void *state;             /* the kernel's own: primitives, chosen algorithm */
    size_t scratch_bytes;    /* booked by prepare */
    const char *impl;        /* name of the chosen implementation, for profile and doctor; borrowed */
    uint32_t misaligned;     /* bit i: input i is a view that does not start on a 16-byte boundary */
    bool plan_only;          /* prepare must not time or allocate operands: only scratch_bytes matters */
} rt_prepared;

typedef struct rt_kernel {
    /* May be NULL (always supported). why: borrowed text. */
    bool (*supports)(const rt_node *n, const char **why);
    rt_status (*prepare)(rt_backend *be, rt_prepared *p); /* may be NULL; picks algorithm, books scratch */
    rt_status (*run)(const rt_prepared *p, const rt_kernel_io *io); /* no allocation, no synchronisation */
    void (*release)(rt_prepared *p); /* may be NULL */
} rt_kernel;

typedef struct rt_backend_vtable {
    const char *name;
    size_t real_bytes;       /* storage of one RT_F32 element: 8 on ref, 4 elsewhere */
    bool host_memory;        /* rt_tensor_host works */
    const rt_kernel *kernels; /* RT_OP_COUNT entries */
    rt_status (*alloc)(rt_backend *be, size_t bytes, void **p); /* zeroed, 256-byte aligned */
    void (*free)(rt_backend *be, void *p);
    rt_status (*upload)(rt_backend *be, void *dst, const void *src, size_t bytes);
    rt_status (*download)(rt_backend *be, void *dst, const void *src, size_t bytes);
    /* RT_F32 constants, at prepare; double, so that ref keeps 1/3. RT_I32 constants are uploaded. */
    rt_status (*fill)(rt_backend *be, void *dst, double value, size_t count);
    /* Within the backend's memory, in the order of runs. NULL: memory is the host's, runs are done when they return, and
     * upload does. */
    rt_status (*copy)(rt_backend *be, void *dst, const void *src, size_t bytes);
    rt_status (*begin_run)(rt_backend *be); /* optional */
    rt_status (*end_run)(rt_backend *be);   /* optional: synchronise and surface device errors */
    /* Optional, all four or none: between begin and end the kernels' work is collected instead of done; launch does it all,
     * in the order of runs. end with keep = false drops what was collected. */
    rt_status (*capture_begin)(rt_backend *be);
    rt_status (*capture_end)(rt_backend *be, bool keep, void **graph);
    rt_status (*graph_launch)(rt_backend *be, void *graph);
    void (*graph_free)(rt_backend *be, void *graph);
    /* Optional: out [batch,h,w,3] from uint8 images [.,h,w,3] through batch views (math/view.h); table [256,3] holds the normalised
     * values of a byte per channel. Every pointer is this backend's memory; indices are the caller's care. */
    rt_status (*views)(rt_backend *be, const uint8_t *px, const rt_pixel_view *plan, const float *table, int64_t batch, int32_t h,
                       int32_t w, bool resize, void *out);
    size_t (*free_bytes)(rt_backend *be); /* optional: of its own memory, now; 0: it cannot say */
    void (*close)(rt_backend *be);
} rt_backend_vtable;

struct rt_backend {
    const rt_backend_vtable *vt;
    rt_backend_opts opts;
    char describe[256];
    /* backend-private data follows in the implementing struct */
};

/* Storage of shape in the backend's memory: real_bytes per RT_F32 element, 4 per RT_I32. */
struct rt_tensor {
    rt_backend *be; /* borrowed */
    rt_shape shape;
    size_t bytes;
    void *data;
};

/* RT_ERR_UNSUPPORTED, with a way out, unless o asks for float32 as it is. */
rt_status rt_backend_need_f32(const char *name, const rt_backend_opts *o);
const char *rt_precision_name(rt_precision p); /* "f32" */

rt_status rt_ref_open(const rt_backend_opts *o, rt_backend **out);
rt_status rt_cpu_open(const rt_backend_opts *o, rt_backend **out);
rt_status rt_cuda_open(const rt_backend_opts *o, rt_backend **out); /* without CUDA: says so (cuda/absent.c) */

#endif
