/* Index ramps and dropout masks. */
#include "backend/cpu/cpu.h"
#include "base/rng.h"
#include "math/dropout.h"
#include "ops/attr.h"

/* Every line along the last axis is a ramp; where it starts follows from the axes before. */
static rt_status run_iota(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_iota_attr *a = p->node->attr;
    const rt_shape *s = &p->node->out_shape[0];
    const int last = s->rank - 1;
    const int64_t width = s->rank ? s->d[last] : 1, step = s->rank ? a->coef[last] : 0, count = rt_shape_count(s);
    const int64_t lines = count ? count / width : 0;
    const int real = s->dtype == RT_F32;
#pragma omp parallel for schedule(static) if (count > RT_CPU_GRAIN)
    for (int64_t line = 0; line < lines; line++) {
        int64_t start = a->offset, rest = line;
        for (int k = last - 1; k >= 0; k--) {
            start += rest % s->d[k] * a->coef[k];
            rest /= s->d[k];
        }
        for (int64_t i = 0; i < width; i++)
            if (real) ((float *)io->out[0])[line * width + i] = (float)(start + i * step);
            else ((int32_t *)io->out[0])[line * width + i] = (int32_t)(start + i * step);
    }
    return RT_OK;
}

static rt_status run_dropout_mask(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_dropout_attr *a = p->node->attr;
    const rt_shape *c = &p->node->in_shape[0];
    const int64_t nets = c->rank == 2 ? c->d[0] : 1, each = rt_shape_count(&p->node->out_shape[0]) / nets;
    const int64_t blocks = (each + 3) / 4;
    const uint32_t limit = rt_dropout_limit(a->keep);
    const float kept = (float)(1.0 / a->keep);
#pragma omp parallel for schedule(static) if (nets * each > RT_CPU_GRAIN)
    for (int64_t b = 0; b < nets * blocks; b++) {
        const int64_t m = b / blocks, block = b % blocks, n = each - 4 * block < 4 ? each - 4 * block : 4;
        const rt_u32x4 w = rt_dropout_words((const int32_t *)io->in[0] + 4 * m, RT_RNG_DROPOUT, (uint32_t)a->stream, block);
        float *y = (float *)io->out[0] + m * each + 4 * block;
        for (int64_t i = 0; i < n; i++) y[i] = rt_dropout_keeps(w.v[i], limit) ? kept : 0.0f;
    }
    return RT_OK;
}

void rt_cpu_generate_kernels(rt_kernel *t)
{
    t[RT_OP_IOTA].run = run_iota;
    t[RT_OP_DROPOUT_MASK].run = run_dropout_mask;
}
