/* From a graph and its bindings to an ordered list of kernel calls over one arena. Pure: knows sizes and lifetimes, neither
 * devices nor kernels. exec.c adds those.
 *
 * Three notions. A *value* is what the graph names. Its *root* is the value whose storage it shares (views: reshape,
 * stop_gradient, contiguous slice). A *store* is a piece of memory: a bound tensor, a constant, or a stretch of the arena
 * that one root occupies, or several in succession when an op writes over its dying operand. */
#ifndef RT_EXEC_PLAN_H
#define RT_EXEC_PLAN_H

#include "backend/backend.h"

enum { RT_PLAN_ALIGN = 256 };

typedef enum rt_store_kind { RT_STORE_ARENA, RT_STORE_CONST, RT_STORE_TENSOR } rt_store_kind;

typedef struct rt_store {
    rt_store_kind kind;
    rt_dtype dtype;
    size_t bytes;
    int32_t first, last; /* steps, inclusive; ARENA and CONST */
    size_t offset;       /* in the arena; ARENA and CONST, set by rt_plan_pack */
    rt_tensor *tensor;   /* TENSOR */
    double value;        /* CONST */
    int64_t count;       /* CONST */
} rt_store;

typedef struct rt_place {
    int32_t store;
    size_t offset; /* bytes into the store */
} rt_place;

typedef struct rt_plan_step {
    rt_node node; /* deep copy, storage in the plan */
    rt_place *in, *out;
    size_t scratch_bytes, scratch_offset; /* scratch lives in the arena during this step alone */
} rt_plan_step;

typedef struct rt_plan {
    rt_store *store;
    rt_plan_step *step;
    int n_store, n_step, n_node; /* n_node: nodes that the outputs need, leaves and views included */
    size_t arena_bytes, scratch_bytes, bound_bytes, naive_bytes;
    size_t guard; /* bytes between stores that belong to none (tests) */
    double flops, bytes;
} rt_plan;

/* real_bytes: storage of one RT_F32 element. Checks every binding; all messages name the value and its shape. */
rt_status rt_plan_build(const rt_backend *be, const rt_graph *g, const rt_bind *in, int n_in, const rt_bind *out,
                        int n_out, rt_plan **out_plan);
/* Places stores and the scratch that the steps have booked by now. */
rt_status rt_plan_pack(rt_plan *p);
void rt_plan_destroy(rt_plan *p);

/* "conv2d(f32[2,8,8,3], f32[4,3,3,3]) -> f32[2,8,8,4]"; returns buf. */
const char *rt_plan_node_str(const rt_node *n, char *buf, size_t len);

/* The plan of an exec, for tests. */
const rt_plan *rt_exec_plan(const rt_exec *ex);

#endif
