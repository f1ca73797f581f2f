/* Differentiable views: colour, affine sampling and its adjoint, box mask. Images are independent, so each is one thread's
 * work and the adjoint needs no atomics. Formulas are shared with the reference and CUDA. */
#include <string.h>

#include "backend/cpu/cpu.h"
#include "math/hd.h"
#include "ops/attrs.h"

#include <math.h>

#include "math/real_f32.h"
#include "math/sample.inc"

typedef struct geometry {
    int64_t n, pixels, c;
} geometry;

static geometry of(const rt_shape *s) { return (geometry){s->d[0], s->d[1] * s->d[2], s->d[3]}; }

static rt_status run_color(const rt_prepared *p, const rt_kernel_io *io)
{
    const geometry g = of(&p->node->in_shape[0]);
    const float *x = io->in[0], *param = io->in[1];
    float *y = io->out[0];
#pragma omp parallel for schedule(static) if (g.n * g.pixels * g.c > RT_CPU_GRAIN)
    for (int64_t i = 0; i < g.n; i++) {
        const float *xi = x + i * g.pixels * g.c;
        float *yi = y + i * g.pixels * g.c;
        double image = 0;
        for (int64_t e = 0; e < g.pixels * g.c; e++) image += (double)xi[e];
        const float image_mean = (float)(image / (double)(g.pixels * g.c));
        for (int64_t q = 0; q < g.pixels; q++) {
            float pixel = 0;
            for (int64_t c = 0; c < g.c; c++) pixel += xi[q * g.c + c];
            pixel /= (float)g.c;
            for (int64_t c = 0; c < g.c; c++)
                yi[q * g.c + c] = rt_color_f32(xi[q * g.c + c], pixel, image_mean, param + 3 * i);
        }
    }
    return RT_OK;
}

static rt_status run_affine_sample(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_shape *xs = &p->node->in_shape[0], *ys = &p->node->out_shape[0];
    const geometry gx = of(xs), gy = of(ys);
    const float *x = io->in[0], *a = io->in[1];
    float *y = io->out[0];
#pragma omp parallel for schedule(static) if (gy.n * gy.pixels * gy.c > RT_CPU_GRAIN / 8)
    for (int64_t image = 0; image < gy.n; image++)
        for (int64_t q = 0; q < gy.pixels; q++) {
            int64_t pixel[4];
            float weight[4], *yq = y + (image * gy.pixels + q) * gy.c;
            int taps = rt_affine_taps_f32(a + image * 6, q / ys->d[2], q % ys->d[2], xs->d[1], xs->d[2], pixel, weight);
            for (int64_t c = 0; c < gy.c; c++) {
                float sum = 0;
                for (int k = 0; k < taps; k++) sum += weight[k] * x[(image * gx.pixels + pixel[k]) * gx.c + c];
                yq[c] = sum;
            }
        }
    return RT_OK;
}

static rt_status run_affine_scatter(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_shape *ys = &p->node->in_shape[0], *xs = &p->node->out_shape[0];
    const geometry gx = of(xs), gy = of(ys);
    const float *y = io->in[0], *a = io->in[1];
    float *x = io->out[0];
#pragma omp parallel for schedule(static) if (gy.n * gy.pixels * gy.c > RT_CPU_GRAIN / 8)
    for (int64_t image = 0; image < gy.n; image++) {
        memset(x + image * gx.pixels * gx.c, 0, (size_t)(gx.pixels * gx.c) * sizeof *x);
        for (int64_t q = 0; q < gy.pixels; q++) {
            int64_t pixel[4];
            float weight[4];
            const float *yq = y + (image * gy.pixels + q) * gy.c;
            int taps = rt_affine_taps_f32(a + image * 6, q / ys->d[2], q % ys->d[2], xs->d[1], xs->d[2], pixel, weight);
            for (int k = 0; k < taps; k++)
                for (int64_t c = 0; c < gy.c; c++) x[(image * gx.pixels + pixel[k]) * gx.c + c] += weight[k] * yq[c];
        }
    }
    return RT_OK;
}

static rt_status run_box_mask(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_shape *s = &p->node->in_shape[0];
    const geometry g = of(s);
    const float *x = io->in[0], *box = io->in[1];
    float *y = io->out[0];
#pragma omp parallel for schedule(static) if (g.n * g.pixels * g.c > RT_CPU_GRAIN)
    for (int64_t image = 0; image < g.n; image++)
        for (int64_t q = 0; q < g.pixels; q++) {
            const int64_t at = (image * g.pixels + q) * g.c;
            const int hidden = rt_box_covers_f32(box + image * 4, q / s->d[2], q % s->d[2]);
            for (int64_t c = 0; c < g.c; c++) y[at + c] = hidden ? 0 : x[at + c];
        }
    return RT_OK;
}

void rt_cpu_sample_kernels(rt_kernel *t)
{
    t[RT_OP_COLOR].run = run_color;
    t[RT_OP_AFFINE_SAMPLE].run = run_affine_sample;
    t[RT_OP_AFFINE_SCATTER].run = run_affine_scatter;
    t[RT_OP_BOX_MASK].run = run_box_mask;
}
