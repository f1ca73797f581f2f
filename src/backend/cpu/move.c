/* Movement: strided copies of four-byte elements; the type does not matter. */
#include <string.h>

#include "backend/cpu/cpu.h"
#include "ops/attr.h"
#include "ops/util.h"

typedef struct call {
    const uint32_t *x;
    uint32_t *y;
    const rt_walk *w;
} call;

RT_CLONES static void copy_row(const uint32_t *x, int64_t sx, uint32_t *y, int64_t sy, int64_t n)
{
    if (sx == 0 && sy == 1)
        for (int64_t i = 0; i < n; i++) y[i] = x[0];
    else
        for (int64_t i = 0; i < n; i++) y[i * sy] = x[i * sx];
}

static void run_row(int64_t n, const int64_t *at, const void *context)
{
    const call *c = context;
    const int64_t sx = c->w->stride[0][c->w->rank - 1], sy = c->w->stride[1][c->w->rank - 1];
    if (sx == 1 && sy == 1)
        memcpy(c->y + at[1], c->x + at[0], (size_t)n * sizeof *c->y);
    else
        copy_row(c->x + at[0], sx, c->y + at[1], sy, n);
}

/* y[y_off + <i, sy>] = x[x_off + <i, sx>] over the index space s. */
static void copy(const rt_shape *s, const void *x, int64_t x_off, const int64_t *sx, void *y, int64_t y_off,
                 const int64_t *sy)
{
    rt_walk w;
    rt_walk_init(&w, s, 2, (const int64_t *const[]){sx, sy});
    call c = {(const uint32_t *)x + x_off, (uint32_t *)y + y_off, &w};
    rt_walk_run(&w, run_row, &c);
}

static int64_t dot(int rank, const int64_t *a, const int64_t *b)
{
    int64_t sum = 0;
    for (int i = 0; i < rank; i++) sum += a[i] * b[i];
    return sum;
}

static rt_status run_identity(const rt_prepared *p, const rt_kernel_io *io)
{
    int64_t stride[RT_MAX_RANK];
    rt_shape_strides(&p->node->out_shape[0], stride);
    copy(&p->node->out_shape[0], io->in[0], 0, stride, io->out[0], 0, stride);
    return RT_OK;
}

static rt_status run_broadcast(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_shape *y = &p->node->out_shape[0];
    int64_t sx[RT_MAX_RANK], sy[RT_MAX_RANK];
    rt_broadcast_strides(&p->node->in_shape[0], y, sx);
    rt_shape_strides(y, sy);
    copy(y, io->in[0], 0, sx, io->out[0], 0, sy);
    return RT_OK;
}

static rt_status run_transpose(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_transpose_attr *a = p->node->attr;
    const rt_shape *y = &p->node->out_shape[0];
    int64_t in[RT_MAX_RANK], sx[RT_MAX_RANK] = {0}, sy[RT_MAX_RANK];
    rt_shape_strides(&p->node->in_shape[0], in);
    rt_shape_strides(y, sy);
    for (int i = 0; i < y->rank; i++) sx[i] = in[a->perm[i]];
    copy(y, io->in[0], 0, sx, io->out[0], 0, sy);
    return RT_OK;
}

static rt_status run_slice(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_slice_attr *a = p->node->attr;
    int64_t sx[RT_MAX_RANK], sy[RT_MAX_RANK];
    rt_shape_strides(&p->node->in_shape[0], sx);
    rt_shape_strides(&p->node->out_shape[0], sy);
    copy(&p->node->out_shape[0], io->in[0], dot(p->node->in_shape[0].rank, a->begin, sx), sx, io->out[0], 0, sy);
    return RT_OK;
}

static rt_status run_pad(const rt_prepared *p, const rt_kernel_io *io)
{
    static const uint32_t zero = 0;
    static const int64_t still[RT_MAX_RANK] = {0};
    const rt_pad_attr *a = p->node->attr;
    const rt_shape *x = &p->node->in_shape[0], *y = &p->node->out_shape[0];
    int64_t sx[RT_MAX_RANK], sy[RT_MAX_RANK];
    rt_shape_strides(x, sx);
    rt_shape_strides(y, sy);
    copy(y, &zero, 0, still, io->out[0], 0, sy);
    copy(x, io->in[0], 0, sx, io->out[0], dot(x->rank, a->lo, sy), sy);
    return RT_OK;
}

static rt_status run_concat(const rt_prepared *p, const rt_kernel_io *io)
{
    const int axis = ((const rt_concat_attr *)p->node->attr)->axis;
    int64_t sx[RT_MAX_RANK], sy[RT_MAX_RANK], at = 0;
    rt_shape_strides(&p->node->out_shape[0], sy);
    for (int i = 0; i < p->node->n_in; i++) {
        const rt_shape *x = &p->node->in_shape[i];
        rt_shape_strides(x, sx);
        copy(x, io->in[i], 0, sx, io->out[0], at * sy[axis], sy);
        at += x->d[axis];
    }
    return RT_OK;
}

void rt_cpu_move_kernels(rt_kernel *t)
{
    t[RT_OP_RESHAPE].run = t[RT_OP_STOP_GRADIENT].run = run_identity;
    t[RT_OP_BROADCAST].run = run_broadcast;
    t[RT_OP_TRANSPOSE].run = run_transpose;
    t[RT_OP_SLICE].run = run_slice;
    t[RT_OP_PAD].run = run_pad;
    t[RT_OP_CONCAT].run = run_concat;
}
