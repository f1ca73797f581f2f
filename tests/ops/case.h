/* One case, many modes.
 *
 * A case is a row: a function that builds outputs from inputs, and how the inputs are drawn. The harness (ops_test.c) runs
 * every mode over every case; adding a case adds a row, adding a family adds a line to families.def and a source file
 * that ends in RT_CASE_TABLE(family, array).
 *
 *     static void relu_build(rt_graph *g, const rt_val *x, rt_val *y) { y[0] = rt_relu(g, x[0]); }
 *     static const rt_case cases[] = {
 *         {.name = "relu", .op = RT_OP_RELU, .build = relu_build, .in = {IN(AWAY, 0.1, 2, 3, 5)}, .flags = CASE_SPARSE},
 *     };
 *     RT_CASE_TABLE(elementwise, cases)
 *
 * Derivatives are checked by differences, so inputs must stay away from kinks by construction: perturbations are at most
 * 4e-4 per element. Cases whose kinks lie inside (relu after a norm) choose a .seed that keeps clear of them. */
#ifndef RT_TESTS_OPS_CASE_H
#define RT_TESTS_OPS_CASE_H

#include "ops/row.h"
#include "retort/graph.h"

enum { CASE_MAX_IN = 8 };

typedef enum rt_draw_kind {
    DRAW_END = 0,  /* no more inputs */
    DRAW_UNIFORM,  /* [lo, hi) */
    DRAW_AWAY,     /* +-[lo, hi): away from zero */
    DRAW_DISTINCT, /* a shuffled ladder from lo to hi: neighbours differ by (hi - lo) / count */
    DRAW_PROB,     /* positive, last axis sums to one */
    DRAW_INDEX,    /* i32 in [lo, hi) */
    DRAW_DATA,     /* f32 copied from .data, no gradient asked */
} rt_draw_kind;

typedef struct rt_case_in {
    rt_draw_kind kind;
    double lo, hi;
    int rank;
    int64_t d[RT_MAX_RANK];
    const double *data;
    bool no_grad; /* f32 that carries no gradient by definition of the op (masks, parameters of views) */
} rt_case_in;

#define IN(kind_, lo_, hi_, ...)                                                                                       \
    {                                                                                                                  \
        .kind = DRAW_##kind_, .lo = (lo_), .hi = (hi_), .d = {__VA_ARGS__},                                            \
        .rank = (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t))                                              \
    }
#define IN_FIXED(kind_, lo_, hi_, ...)                                                                                 \
    {                                                                                                                  \
        .kind = DRAW_##kind_, .lo = (lo_), .hi = (hi_), .no_grad = true, .d = {__VA_ARGS__},                           \
        .rank = (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t))                                              \
    }
#define IN_SCALAR(kind_, lo_, hi_) {.kind = DRAW_##kind_, .lo = (lo_), .hi = (hi_), .rank = 0}
#define IN_DATA(array, ...)                                                                                            \
    {                                                                                                                  \
        .kind = DRAW_DATA, .data = (array), .no_grad = true, .d = {__VA_ARGS__},                                       \
        .rank = (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t))                                              \
    }

enum {
    CASE_SPARSE = 1,   /* most outputs or gradients are rightly zero */
    CASE_NO_GRAD = 2,  /* nothing to differentiate (argmax, one_hot) */
    CASE_ZERO_GRAD = 4 /* gradient defined as zero although differences may see one (stop_gradient): must be exactly 0 */
};

typedef struct rt_case {
    const char *name; /* unique over all families: "conv2d.stride2" */
    rt_op op;         /* the op this case is about; its row decides about the adjoint and expand modes */
    int n_out;        /* 0 means 1 */
    void (*build)(rt_graph *g, const rt_val *x, rt_val *y);
    rt_case_in in[CASE_MAX_IN];
    unsigned flags;
    uint64_t seed;
    double tol; /* multiplies the backend tolerance; 0 means 1 */
} rt_case;

typedef struct rt_case_table {
    const char *family;
    const rt_case *cases;
    size_t n;
} rt_case_table;

#define RT_CASE_TABLE(family_, array)                                                                                  \
    const rt_case_table rt_case_table_##family_ = {#family_, array, sizeof(array) / sizeof((array)[0])};

#endif
