/* DSA: parsing, drawing, applying. The rules are in dsa.h; the ranges are those of matching.md 2.4.
 *
 * An affine row (a0..a5) says where output pixel (i, j) reads its input:
 *     row = a0 i + a1 j + a2,   col = a3 i + a4 j + a5.
 * A linear map [[p, q], [r, s]] on normalised (x, y) coordinates about the centre becomes, in pixels,
 *     col = cw + p (j - cw) + q (i - ch) ratio,   row = ch + r (j - cw) / ratio + s (i - ch),
 * with ch = (H-1)/2, cw = (W-1)/2 and ratio = W/H, or (W-1)/(H-1) when corners are aligned. On square maps both
 * conventions give the same coordinates. */
#include "nn/dsa.h"

#include <math.h>
#include <string.h>

#include "base/rng.h"

static const char *const names[RT_DSA_OPS] = {"color", "crop", "cutout", "flip", "scale", "rotate"};

static const double brightness = 1.0, saturation = 2.0, contrast = 0.5, crop_ratio = 0.125, cutout_ratio = 0.5,
                    flip_probability = 0.5, scale_ratio = 1.2, rotate_degrees = 15.0;

/* Where an op sits inside a stage: colour, geometry, cutout. */
static int slot_of(rt_dsa_op op)
{
    return op == RT_DSA_COLOR ? 0 : op == RT_DSA_CUTOUT ? 2 : 1;
}

/* IDC's order of application: flip, color, one of the rest, cutout (matching.md 2.4, last part). */
static void sort_idc(rt_dsa *d)
{
    static const int rank[RT_DSA_OPS] = {[RT_DSA_FLIP] = 0, [RT_DSA_COLOR] = 1, [RT_DSA_CROP] = 2,
                                         [RT_DSA_SCALE] = 2, [RT_DSA_ROTATE] = 2, [RT_DSA_CUTOUT] = 3};
    for (int32_t i = 1; i < d->n_ops; i++) /* stable: the rest keeps the order of the string */
        for (int32_t k = i; k > 0 && rank[d->op[k]] < rank[d->op[k - 1]]; k--) {
            rt_dsa_op t = d->op[k];
            d->op[k] = d->op[k - 1];
            d->op[k - 1] = t;
        }
}

static int always_on(rt_dsa_op op)
{
    return op == RT_DSA_FLIP || op == RT_DSA_COLOR || op == RT_DSA_CUTOUT;
}

/* The op of the call that is drawn: one of all (S), one of those that are not always on (I); -1: none is drawn. */
static int32_t choose(const rt_dsa *d, uint64_t seed, uint64_t step, uint32_t group)
{
    int32_t from[RT_DSA_OPS], n = 0;
    for (int32_t i = 0; i < d->n_ops; i++)
        if (d->mode == 'S' || (d->mode == 'I' && !always_on(d->op[i]))) from[n++] = i;
    return n ? from[rt_below(rt_draw(seed, RT_RNG_DSA, step, group, 0).v[0], (uint32_t)n)] : -1;
}

/* Whether op k takes part in a call that drew `chosen`. */
static int takes_part(const rt_dsa *d, int32_t k, int32_t chosen)
{
    return d->mode == 'M' || k == chosen || (d->mode == 'I' && always_on(d->op[k]));
}

/* Assigns stages for mode M: an op joins the current stage when its slot comes later than the stage's last one, or when
 * both are geometry and at most one of them is not a flip (a flip moves pixels without losing or mixing any). */
static void assign_stages(rt_dsa *d)
{
    int last = -1, resamples = 0;

    d->n_stages = 1;
    for (int32_t i = 0; i < d->n_ops; i++) {
        int slot = slot_of(d->op[i]), heavy = slot == 1 && d->op[i] != RT_DSA_FLIP;
        if (d->mode == 'M' && (slot < last || (slot == last && resamples + heavy > 1))) {
            d->n_stages++;
            resamples = 0;
        }
        last = slot;
        resamples += heavy;
        d->stage[i] = d->mode == 'M' ? d->n_stages - 1 : 0;
    }
}

rt_status rt_dsa_parse(const char *strategy, char mode, rt_dsa *out)
{
    rt_dsa d = {.mode = mode};
    unsigned seen = 0;

    if (mode != 'S' && mode != 'M' && mode != 'I')
        return RT_RAISE(RT_ERR_CONFIG, "DSA mode '%c' is none of S, M and I", mode);
    const char *p = strcmp(strategy, "none") == 0 ? "" : strategy;
    while (*p) {
        size_t len = strcspn(p, "_");
        int op = 0;
        while (op < RT_DSA_OPS && (strlen(names[op]) != len || strncmp(p, names[op], len) != 0)) op++;
        if (op == RT_DSA_OPS || strcmp(p + len, "_") == 0) {
            if (op < RT_DSA_OPS) p += len + 1, len = 0; /* a trailing '_' names the empty op */
            rt_status st = RT_RAISE(RT_ERR_CONFIG, "DSA strategy '%.200s': no op is called '%.*s'", strategy,
                                    (int)(len < 60 ? len : 60), p);
            return rt_error_fix(st, "join some of color, crop, cutout, flip, scale, rotate by '_', or use none");
        }
        if (seen >> op & 1) return RT_RAISE(RT_ERR_CONFIG, "DSA strategy '%.200s' names %s twice", strategy, names[op]);
        seen |= 1u << op;
        d.op[d.n_ops++] = (rt_dsa_op)op;
        p += len + (p[len] == '_');
    }
    if (mode == 'I') sort_idc(&d);
    assign_stages(&d);
    *out = d;
    return RT_OK;
}

int32_t rt_dsa_stages(const rt_dsa *d)
{
    return d->n_stages;
}

/* The four words of one op for one key. Slot 0 belongs to the choice of the op group. */
static rt_u32x4 words(uint64_t seed, uint64_t step, uint32_t sample, rt_dsa_op op)
{
    return rt_draw(seed, RT_RNG_DSA, step, sample, 1u + (uint32_t)op);
}

static double uniform(uint32_t word)
{
    return (double)rt_u01(word);
}

static void draw_color(rt_u32x4 r, float p[3])
{
    p[0] = (float)((uniform(r.v[0]) - 0.5) * brightness);
    p[1] = (float)(uniform(r.v[1]) * saturation);
    p[2] = (float)(uniform(r.v[2]) + contrast);
}

static double draw_shift(uint32_t word, int64_t size)
{
    int64_t most = (int64_t)(crop_ratio * (double)size + 0.5);
    return (double)rt_below(word, (uint32_t)(2 * most + 1)) - (double)most;
}

/* One side of the box: rows [b0, b1), clipped to the image. */
static void draw_cut(uint32_t word, int64_t size, float *b0, float *b1)
{
    int64_t side = (int64_t)(cutout_ratio * (double)size + 0.5);
    int64_t begin = (int64_t)rt_below(word, (uint32_t)(size + (side % 2 == 0))) - side / 2, end = begin + side;

    *b0 = (float)(begin > 0 ? begin : 0);
    *b1 = (float)(end < size ? end : size);
}

/* Map [[p, q], [r, s]] on normalised (x, y) about the centre, as pixel coordinates (file top). */
static void centred(const rt_dsa *d, int64_t h, int64_t w, double p, double q, double r, double s, double a[6])
{
    double ch = 0.5 * (double)(h - 1), cw = 0.5 * (double)(w - 1);
    double ratio = d->align_corners && h > 1 && w > 1 ? (double)(w - 1) / (double)(h - 1) : (double)w / (double)h;

    a[0] = s;
    a[1] = r / ratio;
    a[2] = ch - s * ch - r / ratio * cw;
    a[3] = q * ratio;
    a[4] = p;
    a[5] = cw - q * ratio * ch - p * cw;
}

static void draw_geometry(const rt_dsa *d, rt_dsa_op op, rt_u32x4 r, int64_t h, int64_t w, double a[6])
{
    if (op == RT_DSA_CROP) {
        a[2] = draw_shift(r.v[0], h);
        a[5] = draw_shift(r.v[1], w);
    } else if (op == RT_DSA_FLIP) {
        if (uniform(r.v[0]) < flip_probability) {
            a[4] = -1;
            a[5] = (double)(w - 1);
        }
    } else if (op == RT_DSA_SCALE) {
        double lo = 1.0 / scale_ratio, span = scale_ratio - lo;
        centred(d, h, w, lo + uniform(r.v[0]) * span, 0, 0, lo + uniform(r.v[1]) * span, a);
    } else {
        double t = (uniform(r.v[0]) - 0.5) * 2.0 * rotate_degrees * 3.14159265358979323846 / 180.0;
        centred(d, h, w, cos(t), -sin(t), sin(t), cos(t), a);
    }
}

/* a := the map that applies `a` first and `b` to its result: output (i, j) reads b's coordinates, which read a's. */
static void compose(double a[6], const double b[6])
{
    double c[6];
    for (int k = 0; k < 2; k++) {
        const double *f = a + 3 * k;
        c[3 * k] = f[0] * b[0] + f[1] * b[3];
        c[3 * k + 1] = f[0] * b[1] + f[1] * b[4];
        c[3 * k + 2] = f[0] * b[2] + f[1] * b[5] + f[2];
    }
    memcpy(a, c, sizeof c);
}

void rt_dsa_draw(const rt_dsa *d, int32_t stage, int64_t h, int64_t w, uint64_t seed, uint64_t step, uint32_t group,
                 const uint32_t *sample, int64_t n, float *color, float *affine, float *box)
{
    int32_t chosen = choose(d, seed, step, group);

    for (int64_t i = 0; i < n; i++) {
        uint32_t key = d->siamese ? group : sample ? sample[i] : (uint32_t)i;
        double a[6] = {1, 0, 0, 0, 1, 0};
        float *c = color + 3 * i, *b = box + 4 * i;

        c[0] = 0;
        c[1] = c[2] = 1;
        b[0] = b[1] = b[2] = b[3] = 0;
        for (int32_t k = 0; k < d->n_ops; k++) {
            if (d->stage[k] != stage || !takes_part(d, k, chosen)) continue;
            rt_u32x4 r = words(seed, step, key, d->op[k]);
            if (d->op[k] == RT_DSA_COLOR) {
                draw_color(r, c);
            } else if (d->op[k] == RT_DSA_CUTOUT) {
                draw_cut(r.v[0], h, &b[0], &b[1]);
                draw_cut(r.v[1], w, &b[2], &b[3]);
            } else {
                double next[6] = {1, 0, 0, 0, 1, 0};
                draw_geometry(d, d->op[k], r, h, w, next);
                compose(a, next);
            }
        }
        for (int k = 0; k < 6; k++) affine[6 * i + k] = (float)a[k];
    }
}

rt_val rt_dsa_apply(rt_graph *g, rt_val x, rt_val color, rt_val affine, rt_val box)
{
    const rt_shape *s = rt_val_shape(g, x);
    int64_t h = s && s->rank == 4 ? s->d[1] : 0, w = s && s->rank == 4 ? s->d[2] : 0;

    return rt_box_mask(g, rt_affine_sample(g, rt_color(g, x, color), affine, h, w), box);
}
