/* Operands of a normalisation node, shared by norm.c and norm_tangent.c. */
#ifndef RT_BACKEND_CPU_NORM_H
#define RT_BACKEND_CPU_NORM_H

#include "backend/cpu/cpu.h"
#include "ops/attrs.h"

enum { STRIP = 256 };

typedef struct image {
    int64_t h, w, c; /* c: distance of pixels; a strip covers n channels of it */
    int64_t n;
} image;

typedef struct rt_norm_call {
    const rt_norm_attr *a;
    int64_t N, H, W, C, groups, y_pixels;
    int64_t nets, n_net; /* networks, and images of one */
    const float *x, *gamma, *beta;
    float *mean, *rstd; /* of the statistic */
} rt_norm_call;

static inline rt_norm_call rt_norm_call_of(const rt_node *n, const rt_kernel_io *io)
{
    const rt_norm_attr *a = n->attr;
    const rt_shape *s = &n->in_shape[0];
    rt_norm_call c = {.a = a, .N = s->d[0], .H = s->d[1], .W = s->d[2], .C = s->d[3], .x = io->in[0],
                      .gamma = io->in[1], .beta = io->in[2], .nets = rt_nets(a->nets)};
    c.n_net = c.N / c.nets;
    c.groups = a->kind == RT_NORM_BATCH ? c.C : a->groups;
    c.y_pixels = a->pool ? c.H / 2 * (c.W / 2) : c.H * c.W;
    return c;
}

/* Where gamma and beta of channel 0 of image n are. */
static inline int64_t rt_norm_call_affine(const rt_norm_call *q, int64_t n) { return n / q->n_net * q->C; }

static inline int64_t rt_norm_call_stat(const rt_norm_call *q, int64_t n, int64_t c)
{
    return q->a->kind == RT_NORM_BATCH ? rt_norm_call_affine(q, n) + c : n * q->groups + c / (q->C / q->groups);
}

/* Mean and sum of squared deviations over the pixels of one image, for the channels of a strip. */
void rt_norm_strip_stats(const float *x, image s, float *mean, float *m2);

void rt_cpu_norm_tangent_kernels(rt_kernel *t);

#endif
