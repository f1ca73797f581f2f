/* Sums and maxima over axes.
 *
 * Nearly every reduction is [A, R, B] with the middle axis reduced (row sums have B = 1, column sums A = 1). It is cut by
 * fixed sizes, so the result does not depend on the thread count: R into pieces whose partial results lie in scratch
 * and are combined in order. Sums run in double: the loops wait for memory anyway. Other patterns (reduced axes on both
 * sides of a kept one) walk the reduced axes per output element. */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "backend/cpu/cpu.h"
#include "ops/attr.h"
#include "ops/util.h"

enum { COLS = 512, PIECE = 65536 };

typedef struct plan {
    bool simple;
    int64_t a, r, b;              /* simple */
    int64_t rows, pieces, strips; /* rows of a piece, pieces per R, strips of COLS per B */
    int kept, reduced;            /* general: axes of each kind and their strides in x */
    int64_t kd[RT_MAX_RANK], ks[RT_MAX_RANK], rd[RT_MAX_RANK], rs[RT_MAX_RANK];
} plan;

/* Strided rows [0, rows) of `cols` columns (cols <= COLS) into out[cols]. */
RT_CLONES static void sum_strip(const float *x, int64_t rows, int64_t stride, int64_t cols, double *out)
{
    double acc[COLS];
    for (int64_t c = 0; c < cols; c++) acc[c] = 0;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) acc[c] += (double)x[r * stride + c];
    for (int64_t c = 0; c < cols; c++) out[c] = acc[c];
}

RT_CLONES static double sum_row(const float *x, int64_t n)
{
    enum { LANES = 16 };
    double acc[LANES] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++) acc[k] += (double)x[i + k];
    for (; i < n; i++) sum += (double)x[i];
    for (int k = 0; k < LANES; k++) sum += acc[k];
    return sum;
}

RT_CLONES static void max_strip(const float *x, int64_t rows, int64_t stride, int64_t cols, double *out)
{
    float acc[COLS];
    for (int64_t c = 0; c < cols; c++) acc[c] = x[c];
    for (int64_t r = 1; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) {
            float v = x[r * stride + c];
            acc[c] = v > acc[c] || v != v ? v : acc[c]; /* a NaN stays: nothing compares greater */
        }
    for (int64_t c = 0; c < cols; c++) out[c] = (double)acc[c];
}

static rt_status prepare(rt_backend *be, rt_prepared *p)
{
    rt_status st = RT_OK;
    const rt_shape *x = &p->node->in_shape[0];
    const uint32_t axes = ((const rt_reduce_attr *)p->node->attr)->axes;
    int64_t stride[RT_MAX_RANK];
    int phase = 0; /* 0 kept, 1 reduced, 2 kept again, 3 anything else */
    plan *q = NULL;
    (void)be;
    RT_ALLOC(q, sizeof *q, "reduction");
    *q = (plan){.a = 1, .r = 1, .b = 1};
    rt_shape_strides(x, stride);
    for (int i = 0; i < x->rank; i++) {
        bool reduce = axes >> i & 1;
        if (reduce) {
            q->rd[q->reduced] = x->d[i];
            q->rs[q->reduced++] = stride[i];
        } else {
            q->kd[q->kept] = x->d[i];
            q->ks[q->kept++] = stride[i];
        }
        if (x->d[i] == 1) continue;
        if (phase == 0 && reduce) phase = 1;
        if (phase == 1 && !reduce) phase = 2;
        if (phase == 2 && reduce) phase = 3;
        if (phase == 0) q->a *= x->d[i];
        if (phase == 1) q->r *= x->d[i];
        if (phase == 2) q->b *= x->d[i];
    }
    q->simple = phase < 3;
    int64_t width = q->b < COLS ? q->b : COLS;
    q->rows = PIECE / (width ? width : 1);
    q->pieces = q->r > 0 ? (q->r + q->rows - 1) / q->rows : 1;
    q->strips = (q->b + COLS - 1) / COLS;
    if (q->simple) p->scratch_bytes = (size_t)(q->a * q->pieces * q->b) * sizeof(double);
    p->state = q;
    p->impl = q->simple ? "loop" : "loop strided";
out:
    return st;
}

static void release(rt_prepared *p) { rt_free(p->state); }

static double combine(bool max, double a, double b) { return !max ? a + b : b > a || b != b ? b : a; }

static void run_simple(const plan *q, bool max, const float *x, float *y, double *part)
{
    const int64_t units = q->a * q->pieces * q->strips;
#pragma omp parallel for schedule(static) if (q->a * q->r * q->b > RT_CPU_GRAIN)
    for (int64_t u = 0; u < units; u++) {
        int64_t strip = u % q->strips, piece = u / q->strips % q->pieces, a = u / q->strips / q->pieces;
        int64_t row = piece * q->rows, rows = q->r - row < q->rows ? q->r - row : q->rows, col = strip * COLS;
        const float *from = x + (a * q->r + row) * q->b + col;
        double *to = part + (a * q->pieces + piece) * q->b + col;
        if (max)
            max_strip(from, rows, q->b, q->b - col < COLS ? q->b - col : COLS, to);
        else if (q->b == 1)
            *to = sum_row(from, rows);
        else
            sum_strip(from, rows, q->b, q->b - col < COLS ? q->b - col : COLS, to);
    }
    for (int64_t a = 0; a < q->a; a++)
        for (int64_t b = 0; b < q->b; b++) {
            double v = part[a * q->pieces * q->b + b];
            for (int64_t k = 1; k < q->pieces; k++) v = combine(max, v, part[(a * q->pieces + k) * q->b + b]);
            y[a * q->b + b] = (float)v;
        }
}

static double reduce_at(const plan *q, bool max, const float *x)
{
    int64_t at[RT_MAX_RANK] = {0}, total = 1, i = 0;
    double v = max ? (double)x[0] : 0;
    for (int k = 0; k < q->reduced; k++) total *= q->rd[k];
    for (int64_t e = 0; e < total; e++) {
        v = combine(max, v, (double)x[i]);
        for (int k = q->reduced - 1; k >= 0; k--) {
            i += q->rs[k];
            if (++at[k] < q->rd[k]) break;
            i -= q->rs[k] * q->rd[k];
            at[k] = 0;
        }
    }
    return v;
}

static rt_status run(const rt_prepared *p, const rt_kernel_io *io)
{
    const plan *q = p->state;
    const bool max = p->node->op == RT_OP_AMAX;
    const float *x = io->in[0];
    float *y = io->out[0];
    const int64_t n = rt_shape_count(&p->node->out_shape[0]);
    if (q->simple) {
        run_simple(q, max, x, y, io->scratch);
        return RT_OK;
    }
#pragma omp parallel for schedule(static) if (rt_shape_count(&p->node->in_shape[0]) > RT_CPU_GRAIN)
    for (int64_t o = 0; o < n; o++) {
        int64_t left = o, from = 0;
        for (int k = q->kept - 1; k >= 0; k--) {
            from += left % q->kd[k] * q->ks[k];
            left /= q->kd[k];
        }
        y[o] = (float)reduce_at(q, max, x + from);
    }
    return RT_OK;
}

static rt_status run_argmax(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_shape *s = &p->node->in_shape[0];
    const int64_t cols = s->d[s->rank - 1], rows = rt_shape_count(&p->node->out_shape[0]);
    const float *x = io->in[0];
    int32_t *y = io->out[0];
#pragma omp parallel for schedule(static) if (rows * cols > RT_CPU_GRAIN)
    for (int64_t r = 0; r < rows; r++) {
        int64_t best = 0;
        for (int64_t c = 1; c < cols; c++)
            if (x[r * cols + c] > x[r * cols + best]) best = c;
        y[r] = (int32_t)best;
    }
    return RT_OK;
}

void rt_cpu_reduce_kernels(rt_kernel *t)
{
    t[RT_OP_SUM] = t[RT_OP_AMAX] = (rt_kernel){.prepare = prepare, .run = run, .release = release};
    t[RT_OP_ARGMAX].run = run_argmax;
}
