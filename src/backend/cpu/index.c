/* Gather, scatter-add and one-hot along axis 0. Indices are data, so every run checks them. */
#include <string.h>

#include "backend/cpu/cpu.h"
#include "ops/attr.h"
#include "ops/util.h"

static rt_status check_index(const rt_node *n, const int32_t *idx, int64_t m, int64_t rows)
{
    for (int64_t i = 0; i < m; i++)
        if (idx[i] < 0 || idx[i] >= rows)
            return RT_RAISE(RT_ERR_ARG, "%s: index %d at position %lld does not lie in 0..%lld", rt_op_name(n->op),
                            idx[i], (long long)i, (long long)rows - 1);
    return RT_OK;
}

static int64_t row_count(const rt_shape *s) /* elements of one row along axis 0 */
{
    int64_t n = 1;
    for (int i = 1; i < s->rank; i++) n *= s->d[i];
    return n;
}

static rt_status run_gather(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_node *n = p->node;
    const int32_t *idx = io->in[1];
    const int64_t m = n->in_shape[1].d[0], row = row_count(&n->in_shape[0]);
    rt_status st = check_index(n, idx, m, n->in_shape[0].d[0]);
    if (st != RT_OK || row == 0) return st;
#pragma omp parallel for schedule(static) if (m * row > RT_CPU_GRAIN)
    for (int64_t i = 0; i < m; i++)
        memcpy((uint32_t *)io->out[0] + i * row, (const uint32_t *)io->in[0] + (int64_t)idx[i] * row,
               (size_t)row * sizeof(uint32_t));
    return RT_OK;
}

RT_CLONES static void add_to(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] += x[i];
}

static rt_status run_scatter(const rt_prepared *p, const rt_kernel_io *io)
{
    enum { COLS = 1024 };
    const rt_node *n = p->node;
    const int32_t *idx = io->in[1];
    const float *gy = io->in[0];
    float *gx = io->out[0];
    const int64_t m = n->in_shape[1].d[0], row = row_count(&n->in_shape[0]), rows = n->out_shape[0].d[0];
    rt_status st = check_index(n, idx, m, rows);
    if (st != RT_OK || rows * row == 0) return st;
    memset(gx, 0, (size_t)(rows * row) * sizeof *gx);
    /* Rows may repeat: threads share columns, each adds in the order of idx. */
#pragma omp parallel for schedule(static) if (m * row > RT_CPU_GRAIN)
    for (int64_t c = 0; c < row; c += COLS)
        for (int64_t i = 0; i < m; i++)
            add_to(gx + (int64_t)idx[i] * row + c, gy + i * row + c, row - c < COLS ? row - c : COLS);
    return RT_OK;
}

static rt_status run_one_hot(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_node *n = p->node;
    const int32_t *idx = io->in[0];
    float *y = io->out[0];
    const int64_t m = n->in_shape[0].d[0], classes = ((const rt_rows_attr *)n->attr)->rows;
    rt_status st = check_index(n, idx, m, classes);
    if (st != RT_OK || m == 0) return st;
    memset(y, 0, (size_t)(m * classes) * sizeof *y);
    for (int64_t i = 0; i < m; i++) y[i * classes + idx[i]] = 1.0f;
    return RT_OK;
}

void rt_cpu_index_kernels(rt_kernel *t)
{
    t[RT_OP_GATHER].run = run_gather;
    t[RT_OP_SCATTER_ADD].run = run_scatter;
    t[RT_OP_ONE_HOT].run = run_one_hot;
}
