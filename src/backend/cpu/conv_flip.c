/* A 3x3 convolution of stride and padding 1 as the image gradient of another: with w'[c,k,r,s] = w[k,c,2-r,2-s],
 * conv2d(x, w) = conv2d_dx(x, w'). oneDNN's Winograd code for image gradients has fewer restrictions on how it blocks tiles
 * and runs a quarter faster than the one for the forward direction, which loses altogether where tiles are few. Turning the
 * weights costs one pass over them; a bias is added afterwards. */
#include "backend/cpu/conv.h"
#include "base/alloc.h"

typedef struct flip {
    rt_conv_plan inner;
    size_t w_offset; /* turned weights, in scratch */
    int threads;
} flip;

static void release(void *state)
{
    flip *f = state;
    if (f && f->inner.release) f->inner.release(f->inner.state);
    rt_free(f);
}

RT_CLONES static void add_bias(float *y, const float *bias, int64_t pixels, int64_t k)
{
    for (int64_t p = 0; p < pixels; p++)
        RT_IVDEP for (int64_t c = 0; c < k; c++) y[p * k + c] += bias[c];
}

static rt_status run(const rt_conv_plan *p, const rt_kernel_io *io)
{
    rt_status st = RT_OK;
    const flip *f = p->state;
    const rt_conv_dims *d = &p->d;
    const float *w = io->in[1];
    float *turned = (float *)((char *)io->scratch + f->w_offset), *y = io->out[0];
    for (int64_t k = 0; k < d->k; k++)
        for (int64_t c = 0; c < d->c; c++)
            for (int i = 0; i < 9; i++) turned[(c * d->k + k) * 9 + i] = w[(k * d->c + c) * 9 + 8 - i];
    const rt_kernel_io inner = {.in = (const void *const[]){io->in[0], turned}, .out = io->out, .scratch = io->scratch};
    RT_TRY(f->inner.run(&f->inner, &inner));
    if (!d->bias) goto out;
#pragma omp parallel for schedule(static) num_threads(f->threads)
    for (int64_t n = 0; n < d->n; n++)
        add_bias(y + n * d->p * d->q * d->k, io->in[2], d->p * d->q, d->k);
out:
    return st;
}

rt_status rt_conv_flip(rt_cpu *be, const rt_conv_dims *d, rt_conv_plan *out)
{
    rt_status st = RT_OK;
    flip *f = NULL;
    const bool fits = d->op == RT_OP_CONV2D && d->groups == 1 && d->r == 3 && d->s == 3 && d->stride[0] == 1 &&
                      d->stride[1] == 1 && d->pad[0] == 1 && d->pad[1] == 1;
    if (!fits) return RT_RAISE(RT_ERR_UNSUPPORTED, "only a forward 3x3 of stride and padding 1");
    RT_ALLOC(f, sizeof *f, "convolution");
    rt_conv_dims turned = *d;
    turned.op = RT_OP_CONV2D_DX;
    turned.c = d->k;
    turned.k = d->c;
    turned.bias = false;
    RT_TRY(rt_conv_onednn(be, &turned, RT_CONV_WINOGRAD, &f->inner));
    f->threads = be->threads;
    f->w_offset = (f->inner.scratch_bytes + 255) / 256 * 256;
    *out = (rt_conv_plan){.d = *d, .scratch_bytes = f->w_offset + (size_t)(d->k * d->c * 9) * sizeof(float),
                          .impl = f->inner.impl, .run = run, .state = f, .release = release};
    f = NULL;
out:
    release(f);
    return st;
}
