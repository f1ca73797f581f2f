/* log-softmax and soft cross-entropy, one row at a time: shift by the maximum, sums in double. */
#include <math.h>

#include "backend/cpu/cpu.h"
#include "ops/attrs.h"

static double log_sum_exp(const float *z, int64_t n)
{
    float top = z[0];
    double sum = 0;
    for (int64_t c = 1; c < n; c++) top = z[c] > top ? z[c] : top;
    for (int64_t c = 0; c < n; c++) sum += (double)expf(z[c] - top);
    return (double)top + log(sum);
}

static rt_status run_log_softmax(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_shape *s = &p->node->in_shape[0];
    const int64_t n = s->d[s->rank - 1], rows = rt_shape_count(s) / n;
    const float *x = io->in[0];
    float *y = io->out[0];
#pragma omp parallel for schedule(static) if (rows * n > RT_CPU_GRAIN / 16)
    for (int64_t b = 0; b < rows; b++) {
        const double lse = log_sum_exp(x + b * n, n);
        for (int64_t c = 0; c < n; c++) y[b * n + c] = (float)((double)x[b * n + c] - lse);
    }
    return RT_OK;
}

static rt_status run_softmax_ce(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_shape *s = &p->node->in_shape[0];
    const int64_t n = s->d[1];
    const float *z = io->in[0], *q = io->in[1];
    float *loss = io->out[0], *prob = io->out[1];
#pragma omp parallel for schedule(static) if (rt_shape_count(s) > RT_CPU_GRAIN / 16)
    for (int64_t b = 0; b < s->d[0]; b++) {
        const double lse = log_sum_exp(z + b * n, n);
        double sum = 0;
        for (int64_t c = 0; c < n; c++) {
            const double lp = (double)z[b * n + c] - lse;
            prob[b * n + c] = expf((float)lp);
            if (q[b * n + c] != 0) sum -= (double)q[b * n + c] * lp; /* 0 log 0 = 0 when a logit is -inf */
        }
        loss[b] = (float)sum;
    }
    return RT_OK;
}

void rt_cpu_loss_kernels(rt_kernel *t)
{
    t[RT_OP_LOG_SOFTMAX].run = run_log_softmax;
    t[RT_OP_SOFTMAX_CE].run = run_softmax_ce;
}
