/* Matrix products by oneDNN's sgemm: row-major, transposition flags as in the op. A batch of products is spread over the
 * threads, each product then runs in one. */
#include <string.h>

#include "backend/cpu/cpu.h"
#include "ops/attr.h"
#include "ops/util.h"

static rt_status run(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_matmul_attr *f = p->node->attr;
    const rt_shape *as = &p->node->in_shape[0], *ys = &p->node->out_shape[0];
    const int r = ys->rank;
    const int64_t m = ys->d[r - 2], n = ys->d[r - 1], k = as->d[f->ta ? r - 2 : r - 1];
    const char ta = f->ta ? 'T' : 'N', tb = f->tb ? 'T' : 'N';
    const int64_t lda = f->ta ? m : k, ldb = f->tb ? k : n;
    const float *a = io->in[0], *b = io->in[1];
    float *y = io->out[0];
    int64_t batch = 1;
    int failed = 0;
    for (int i = 0; i < r - 2; i++) batch *= ys->d[i];
    if (batch * m * n == 0) return RT_OK;
    if (k == 0) {
        memset(y, 0, (size_t)(batch * m * n) * sizeof *y);
        return RT_OK;
    }
    if (batch == 1) {
        failed = dnnl_sgemm(ta, tb, m, n, k, 1.0f, a, lda, b, ldb, 0.0f, y, n) != dnnl_success;
    } else {
#pragma omp parallel for reduction(| : failed)
        for (int64_t i = 0; i < batch; i++)
            failed |= dnnl_sgemm(ta, tb, m, n, k, 1.0f, a + i * m * k, lda, b + i * k * n, ldb, 0.0f, y + i * m * n,
                                 n) != dnnl_success;
    }
    return failed ? RT_RAISE(RT_ERR_DEVICE, "oneDNN: sgemm failed") : RT_OK;
}

static rt_status prepare(rt_backend *be, rt_prepared *p)
{
    (void)be;
    p->impl = "onednn sgemm";
    return RT_OK;
}

void rt_cpu_matmul_kernels(rt_kernel *t) { t[RT_OP_MATMUL] = (rt_kernel){.prepare = prepare, .run = run}; }
