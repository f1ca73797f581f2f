/* The op row: everything the graph knows about an op. Backends keep their own kernel tables (backend/backend.h).
 *
 * Adding an op: one line in ops.def, one row in the family file, a kernel per backend table, its cases in tests/ops. */
#ifndef RT_OPS_ROW_H
#define RT_OPS_ROW_H

#include "retort/graph.h"

typedef enum rt_op {
#define RT_OP(ENUM, name) RT_OP_##ENUM,
#include "ops/ops.def"
#undef RT_OP
    RT_OP_COUNT
} rt_op;

enum { RT_MAX_OUT = 4 };

/* One node. Immutable once appended. */
typedef struct rt_node {
    rt_op op;
    uint16_t n_in, n_out;
    uint32_t first_out;    /* value ids of its outputs: first_out .. first_out + n_out - 1 */
    const rt_val *in;      /* n_in values, owned by the graph */
    const rt_shape *in_shape;  /* n_in shapes, owned by the graph: rows need nothing else to look at */
    rt_shape out_shape[RT_MAX_OUT];
    const void *attr;      /* attr_bytes plain bytes, owned by the graph */
    uint32_t attr_bytes;   /* rows with fixed attributes: row->attr_bytes; INPUT: the name first (ops/attr.h) */
    uint64_t unique;       /* non-zero for nodes never merged */
} rt_node;

/* Operands of one node as the ref backend sees them: contiguous row-major doubles (RT_F32) or int32 (RT_I32). */
typedef struct rt_ref_io {
    const void *const *in; /* n_in */
    void *const *out;      /* n_out */
} rt_ref_io;

typedef struct rt_cost {
    double flops, bytes; /* 2 per multiply-add; bytes read + written once each, float32 */
} rt_cost;

enum {
    RT_ROW_ELEMENTWISE = 1, /* one output, every input broadcast to it, no cross-element reads */
    RT_ROW_VIEW = 2,        /* output may share the input's storage (reshape, slice): ask rt_node_view */
    RT_ROW_LEAF = 4,
    RT_ROW_LINEAR = 8       /* linear, or affine, in input 0 given the others: gets the adjoint test */
};

typedef struct rt_op_row {
    const char *name;
    uint8_t n_in, n_out;     /* n_in 255: any number, checked by infer; n_out: the most, infer may lower n->n_out */
    uint16_t flags;
    uint16_t no_grad_in;     /* bit i: input i carries no gradient */
    uint16_t inplace_in;     /* bit i: output 0 may take the storage of input i (same shape); other outputs never share */
    uint16_t attr_bytes;
    /* Fills n->out_shape from n->in_shape and attr; raises on misuse, naming the op and the shapes. */
    rt_status (*infer)(rt_node *n);
    /* gy[o] is none where no gradient arrives; set gx[i] to none where none flows. Only op constructors. NULL: see expand. */
    void (*vjp)(rt_graph *g, const rt_node *n, const rt_val *gy, rt_val *gx);
    /* Tangents of the outputs named by jvp_out from those of the inputs (none: zero), for rt_jvp. Only where a fused op
     * beats what jvp.c derives from vjp, or where that would lead through expand; NULL elsewhere. */
    void (*jvp)(rt_graph *g, const rt_node *n, const rt_val *tx, rt_val *ty);
    uint16_t jvp_out;        /* bit o: jvp gives output o */
    /* Same outputs from primitives. rt_vjp differentiates through it when vjp is NULL. It must not recompute a no_grad
     * input from another input: hash-consing would end that path at the input, and its gradient would be lost. */
    void (*expand)(rt_graph *g, const rt_node *n, rt_val *out);
    rt_status (*ref)(const rt_node *n, const rt_ref_io *io); /* float64, plain loops */
    rt_cost (*cost)(const rt_node *n);                       /* NULL: elementwise estimate */
    /* A vjp that may use expand instead of a fused backward for some outputs: return true to force the expansion. */
    int (*vjp_needs_expand)(const rt_node *n, const rt_val *gy);
    void (*print_attr)(const rt_node *n, char *buf, size_t len); /* for dumps and errors; NULL: none */
} rt_op_row;

/* Each family file defines the rows of its ops: const rt_op_row rt_row_conv2d = {...}; */
#define RT_OP(ENUM, name) extern const rt_op_row rt_row_##name;
#include "ops/ops.def"
#undef RT_OP

const rt_op_row *rt_op_row_of(rt_op op);
const char *rt_op_name(rt_op op);

/* Appends (or finds) a node; returns its first output, or none after recording the sticky error. attr may be NULL. */
rt_val rt_graph_append(rt_graph *g, rt_op op, const rt_val *in, int n_in, const void *attr, size_t attr_bytes);
/* o-th output of the node that made v. */
rt_val rt_node_out(rt_val first, int o);
const rt_node *rt_val_node(const rt_graph *g, rt_val v, int *out_index);
size_t rt_graph_node_count(const rt_graph *g);
const rt_node *rt_graph_node(const rt_graph *g, size_t i); /* in topological order: inputs precede uses */
/* Whether output 0 is input 0's storage, shifted by *offset elements: reshape, stop_gradient, contiguous slices. */
bool rt_node_view(const rt_node *n, int64_t *offset);
/* Records the current error chain as the graph's sticky error and returns none. */
rt_val rt_graph_fail(rt_graph *g, rt_status st);

#endif
