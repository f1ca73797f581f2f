/* The shared crop and its adjoint. Images are independent, so each is one thread's work and the adjoint needs no atomics.
 * Formulas are shared with the reference and CUDA. */
#include <string.h>

#include "backend/cpu/cpu.h"
#include "math/hd.h"
#include "ops/attrs.h"

#include <math.h>

#include "math/real_f32.h"
#include "math/crop.inc"

typedef struct taps {
    int64_t at[2]; /* offset of a line in the image */
    int64_t to;    /* and in the view */
    float w[2];
} taps;

/* Lines of a view of n with this distance in memory, `in` in the image. */
static void lines(taps *t, int64_t n, int64_t first, int64_t size, int64_t flip, int64_t shift, int64_t in, int64_t out)
{
    for (int64_t u = 0; u < n; u++) {
        rt_crop_tap_f32(u, n, size, &t[u].at[0], &t[u].at[1], &t[u].w[1]);
        t[u].w[0] = 1.0f - t[u].w[1];
        for (int k = 0; k < 2; k++) t[u].at[k] = (first + t[u].at[k]) * in;
        t[u].to = rt_crop_place_f32(u, n, flip, shift) * out;
    }
}

static void show(const float *x, float *y, const taps *row, const taps *col, int64_t p, int64_t q, int64_t c)
{
    for (int64_t u = 0; u < p; u++)
        for (int64_t v = 0; v < q; v++) {
            const float *a = x + row[u].at[0], *b = x + row[u].at[1];
            float *to = y + row[u].to + col[v].to;
            for (int64_t k = 0; k < c; k++) {
                const float above = a[col[v].at[0] + k] * col[v].w[0] + a[col[v].at[1] + k] * col[v].w[1];
                const float below = b[col[v].at[0] + k] * col[v].w[0] + b[col[v].at[1] + k] * col[v].w[1];
                to[k] = above * row[u].w[0] + below * row[u].w[1];
            }
        }
}

static void give_back(const float *gy, float *gx, const taps *row, const taps *col, int64_t p, int64_t q, int64_t c)
{
    for (int64_t u = 0; u < p; u++)
        for (int64_t v = 0; v < q; v++) {
            const float *from = gy + row[u].to + col[v].to;
            for (int r = 0; r < 2; r++)
                for (int s = 0; s < 2; s++) {
                    float *to = gx + row[u].at[r] + col[v].at[s];
                    const float w = row[u].w[r] * col[v].w[s];
                    for (int64_t k = 0; k < c; k++) to[k] += from[k] * w;
                }
        }
}

static rt_status run(const rt_prepared *p, const rt_kernel_io *io)
{
    const bool back = p->node->op == RT_OP_CROP_VIEW_DX;
    const rt_shape *in = &p->node->in_shape[0], *out = &p->node->out_shape[0];
    const int64_t *image = back ? out->d : in->d, *view = back ? in->d : out->d, c = image[3], groups = p->node->in_shape[1].d[0];
    const int64_t each = image[0] / groups, lines_each = view[1] + view[2];
    const float *x = io->in[0], *box = io->in[1];
    float *y = io->out[0];
    taps *t = io->scratch;
    for (int64_t g = 0; g < groups; g++) {
        const rt_crop_f32 b = rt_crop_of_f32(box + g * RT_CROP_BOX, image[1], image[2], view[1], view[2]);
        lines(t + g * lines_each, view[1], b.row, b.h, 0, b.down, image[2] * c, view[2] * c);
        lines(t + g * lines_each + view[1], view[2], b.col, b.w, b.flip, b.right, c, c);
    }
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < image[0]; i++) {
        const taps *row = t + i / each * lines_each, *col = row + view[1];
        const float *from = x + i * in->d[1] * in->d[2] * c;
        float *to = y + i * out->d[1] * out->d[2] * c;
        if (back) {
            memset(to, 0, (size_t)(out->d[1] * out->d[2] * c) * sizeof *to);
            give_back(from, to, row, col, view[1], view[2], c);
        } else {
            show(from, to, row, col, view[1], view[2], c);
        }
    }
    return RT_OK;
}

static rt_status prepare(rt_backend *be, rt_prepared *p)
{
    const rt_node *n = p->node;
    const int64_t *view = n->op == RT_OP_CROP_VIEW_DX ? n->in_shape[0].d : n->out_shape[0].d;
    (void)be;
    p->scratch_bytes = (size_t)(n->in_shape[1].d[0] * (view[1] + view[2])) * sizeof(taps);
    p->impl = "loop";
    return RT_OK;
}

void rt_cpu_crop_kernels(rt_kernel *t)
{
    t[RT_OP_CROP_VIEW] = t[RT_OP_CROP_VIEW_DX] = (rt_kernel){.prepare = prepare, .run = run};
}
