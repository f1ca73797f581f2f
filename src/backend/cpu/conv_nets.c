/* Convolutions of several networks in one node (rt_conv_attr.nets): block m of the images with block m of the weights.
 *
 * Two schedules over the plans of one network (conv.h), which keep their operands where they are:
 *   in turn       one plan on all threads, run once per network: the very arithmetic of a network on its own, bit for bit
 *   side by side  each thread has a plan of its own, made for one thread, and takes whole networks. Small batches leave
 *                 threads idle inside one convolution, and here they do not. A weight gradient is then summed by one thread
 *                 instead of several, so its last bits may differ from those of a network on its own.
 *
 * The scratch of side by side is that of one plan per thread. Plans share oneDNN's CPU stream, which holds no state under
 * OpenMP; their memory objects, which hold pointers, are their own. */
#include <omp.h>

#include "backend/cpu/conv.h"
#include "base/alloc.h"

enum { MAX_OPERANDS = 3 };

typedef struct nets {
    int64_t n;
    int threads;                     /* plans: 1 in turn */
    rt_conv_plan *plan;              /* of one network, one per thread */
    size_t scratch;                  /* of one plan */
    int64_t in[MAX_OPERANDS], out[2]; /* floats from one network's operand to the next's */
} nets;

static void release(void *state)
{
    nets *s = state;
    if (!s) return;
    for (int t = 0; s->plan && t < s->threads; t++)
        if (s->plan[t].release) s->plan[t].release(s->plan[t].state);
    rt_free(s->plan);
    rt_free(s);
}

static rt_status run_one(const nets *s, int64_t m, int thread, const rt_kernel_io *io)
{
    const void *in[MAX_OPERANDS];
    void *out[2];
    const rt_conv_plan *p = &s->plan[thread];
    const int n_in = p->d.op == RT_OP_CONV2D && p->d.bias ? 3 : 2, n_out = p->d.op == RT_OP_CONV2D_DW && p->d.bias ? 2 : 1;
    for (int i = 0; i < n_in; i++) in[i] = (const float *)io->in[i] + m * s->in[i];
    for (int o = 0; o < n_out; o++) out[o] = (float *)io->out[o] + m * s->out[o];
    return p->run(p, &(rt_kernel_io){.in = in, .out = out, .scratch = (char *)io->scratch + (size_t)thread * s->scratch});
}

static rt_status run_in_turn(const rt_conv_plan *p, const rt_kernel_io *io)
{
    rt_status st = RT_OK;
    const nets *s = p->state;
    for (int64_t m = 0; m < s->n; m++) RT_TRYF(run_one(s, m, 0, io), "network %lld", (long long)m);
out:
    return st;
}

/* Errors carry no text across threads: the status of one that failed. */
static rt_status run_side_by_side(const rt_conv_plan *p, const rt_kernel_io *io)
{
    const nets *s = p->state;
    int failed = RT_OK;
#pragma omp parallel for schedule(static, 1) num_threads(s->threads) reduction(max : failed)
    for (int64_t m = 0; m < s->n; m++) {
        const int st = (int)run_one(s, m, omp_get_thread_num(), io);
        failed = st > failed ? st : failed;
    }
    return failed == RT_OK ? RT_OK : RT_RAISE((rt_status)failed, "a convolution of %lld networks failed", (long long)s->n);
}

rt_status rt_conv_nets(rt_cpu *be, rt_conv_make make, const rt_conv_dims *d, int64_t n, bool side_by_side,
                       rt_conv_plan *out)
{
    rt_status st = RT_OK;
    nets *s = NULL;
    rt_cpu each = *be;
    const int64_t x = d->n * d->h * d->w * d->c, w = d->k * (d->c / d->groups) * d->r * d->s, y = d->n * d->p * d->q * d->k;
    RT_ALLOC(s, sizeof *s, "networks of a convolution");
    s->n = n;
    s->threads = !side_by_side ? 1 : n < be->threads ? (int)n : be->threads;
    s->in[0] = d->op == RT_OP_CONV2D_DX ? y : x;
    s->in[1] = d->op == RT_OP_CONV2D_DW ? y : w;
    s->in[2] = d->k;
    s->out[0] = d->op == RT_OP_CONV2D ? y : d->op == RT_OP_CONV2D_DX ? x : w;
    s->out[1] = d->k;
    RT_ALLOC(s->plan, (size_t)s->threads * sizeof *s->plan, "networks of a convolution");
    if (side_by_side) {
        each.threads = 1;
        omp_set_num_threads(1); /* oneDNN divides the work when a primitive is made */
    }
    for (int t = 0; t < s->threads; t++) {
        RT_TRY(make(&each, d, &s->plan[t]));
        s->scratch = (s->plan[t].scratch_bytes + 255) / 256 * 256;
    }
    out->d = *d;
    out->impl = s->plan[0].impl;
    out->scratch_bytes = (size_t)s->threads * s->scratch;
    out->run = side_by_side ? run_side_by_side : run_in_turn;
    out->release = release;
    out->state = s;
    s = NULL;
out:
    omp_set_num_threads(be->threads);
    release(s);
    return st;
}
