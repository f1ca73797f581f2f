/* Elementwise ops: loops generated from the shared list of formulas. */
#include <math.h>

#include "base/alloc.h"
#include "math/hd.h"
#include "backend/cpu/cpu.h"
#include "ops/util.h"

#include "math/real_f32.h"
#include "math/elementwise.inc"

/* Broadcasting leaves an operand's inner stride at 0 or 1, so four loops cover a binary row. */
typedef void (*unary_row)(const float *x, float *y, int64_t n);
typedef void (*binary_row)(const float *a, bool walk_a, const float *b, bool walk_b, float *y, int64_t n);

#define RT_UNARY(ENUM, name)                                                                                           \
    RT_CLONES static void name##_row(const float *x, float *y, int64_t n)                                              \
    {                                                                                                                  \
        RT_IVDEP for (int64_t i = 0; i < n; i++) y[i] = rt_##name##_f32(x[i]);                                         \
    }
#define RT_BINARY(ENUM, name)                                                                                          \
    RT_CLONES static void name##_row(const float *a, bool walk_a, const float *b, bool walk_b, float *y, int64_t n)    \
    {                                                                                                                  \
        const float a0 = a[0], b0 = b[0];                                                                              \
        if (walk_a && walk_b)                                                                                          \
            RT_IVDEP for (int64_t i = 0; i < n; i++) y[i] = rt_##name##_f32(a[i], b[i]);                               \
        else if (walk_a)                                                                                               \
            RT_IVDEP for (int64_t i = 0; i < n; i++) y[i] = rt_##name##_f32(a[i], b0);                                 \
        else if (walk_b)                                                                                               \
            RT_IVDEP for (int64_t i = 0; i < n; i++) y[i] = rt_##name##_f32(a0, b[i]);                                 \
        else                                                                                                           \
            for (int64_t i = 0; i < n; i++) y[i] = rt_##name##_f32(a0, b0);                                            \
    }
#include "math/elementwise.def"
#undef RT_UNARY
#undef RT_BINARY

static const unary_row unary[RT_OP_COUNT] = {
#define RT_UNARY(ENUM, name) [RT_OP_##ENUM] = name##_row,
#include "math/elementwise.def"
#undef RT_UNARY
};
static const binary_row binary[RT_OP_COUNT] = {
#define RT_BINARY(ENUM, name) [RT_OP_##ENUM] = name##_row,
#include "math/elementwise.def"
#undef RT_BINARY
};

typedef struct call {
    const float *a, *b;
    float *y;
    const rt_walk *w;
    unary_row unary;
    binary_row binary;
} call;

static void run_unary_row(int64_t n, const int64_t *at, const void *context)
{
    const call *c = context;
    c->unary(c->a + at[0], c->y + at[1], n);
}

static void run_binary_row(int64_t n, const int64_t *at, const void *context)
{
    const call *c = context;
    int last = c->w->rank - 1;
    c->binary(c->a + at[0], c->w->stride[0][last] != 0, c->b + at[1], c->w->stride[1][last] != 0, c->y + at[2], n);
}

static rt_status prepare(rt_backend *be, rt_prepared *p)
{
    rt_status st = RT_OK;
    const rt_node *n = p->node;
    int64_t s[3][RT_MAX_RANK];
    rt_walk *w = NULL;
    (void)be;
    RT_ALLOC(w, sizeof *w, "elementwise walk");
    for (int i = 0; i < n->n_in; i++) rt_broadcast_strides(&n->in_shape[i], &n->out_shape[0], s[i]);
    rt_shape_strides(&n->out_shape[0], s[n->n_in]);
    rt_walk_init(w, &n->out_shape[0], n->n_in + 1, (const int64_t *const[]){s[0], s[1], s[2]});
    p->state = w;
    p->impl = "loop";
out:
    return st;
}

static void release(rt_prepared *p) { rt_free(p->state); }

static rt_status run(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_walk *w = p->state;
    call c = {.a = io->in[0], .y = io->out[0], .w = w, .unary = unary[p->node->op], .binary = binary[p->node->op]};
    if (p->node->n_in == 2) c.b = io->in[1];
    rt_walk_run(w, c.unary ? run_unary_row : run_binary_row, &c);
    return RT_OK;
}

void rt_cpu_elementwise_kernels(rt_kernel *t)
{
    for (int op = 0; op < RT_OP_COUNT; op++)
        if (unary[op] || binary[op]) t[op] = (rt_kernel){.prepare = prepare, .run = run, .release = release};
}
