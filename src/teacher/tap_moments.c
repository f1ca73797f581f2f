/* Moments of a map inside a graph (G-VBSM's channel and patch statistics, decoupled.md 2.4).
 *
 * A map whose sides are multiples of 16 is cut as it is. One of at most 16x16 is a single tile, which is never enlarged: with
 * P [256,hw] the matrix that does it, the sum of squares over the enlarged map is sum_c x_c' (P'P) x_c, and P'P is a
 * Kronecker product of two tiny constants; for a map of 2x2 that is a 64th of the memory. Any other map is enlarged.
 *
 * Variances are taken around a mean that carries no gradient: a variance does not change with its centre there, so the
 * gradient is exact, and no digits are lost in float32. */
#include "teacher/statistics.h"

enum { MAX_SIDE = 1024, ROWS = 1 << 0, COLS = 1 << 1, DEEP = 1 << 2 };

int32_t rt_patch_tiles(int32_t h, int32_t w) { return ((h + RT_PATCH - 1) / RT_PATCH) * ((w + RT_PATCH - 1) / RT_PATCH); }

void rt_channel_moments(rt_graph *g, rt_val x, int64_t groups, rt_val *mean, rt_val *var)
{
    const rt_shape *s = rt_val_shape(g, x);
    *mean = *var = (rt_val){0};
    if (!s || s->rank != 4 || s->d[0] % groups) return;
    rt_shape rows = RT_SHAPE(RT_F32, groups, s->d[0] / groups * s->d[1] * s->d[2], s->d[3]);
    x = rt_reshape(g, x, rows);
    *mean = rt_mean(g, x, COLS, false);
    rt_val centre = rt_reshape(g, rt_stop_gradient(g, *mean), RT_SHAPE(RT_F32, groups, 1, rows.d[2]));
    *var = rt_mean(g, rt_square(g, rt_sub(g, x, centre)), COLS, false);
}

/* [n,1]: where the n centres of an enlarged side fall on a side of `from`, in its pixels, held inside. */
static rt_val positions(rt_graph *g, int64_t n, int64_t from)
{
    rt_val at[MAX_SIDE];
    for (int64_t i = 0; i < n; i++) {
        double p = ((double)i + 0.5) * (double)from / (double)n - 0.5;
        p = p < 0 ? 0 : p > (double)(from - 1) ? (double)(from - 1) : p;
        at[i] = rt_const(g, p, RT_SHAPE(RT_F32, 1, 1));
    }
    return rt_concat(g, at, (int)n, 0);
}

/* [n,from]: the bilinear enlargement of a side, a triangle around each position. */
static rt_val enlargement(rt_graph *g, int64_t n, int64_t from)
{
    rt_val at[MAX_SIDE];
    for (int64_t j = 0; j < from; j++) at[j] = rt_const(g, (double)j, RT_SHAPE(RT_F32, 1, 1));
    rt_val distance = rt_abs(g, rt_sub(g, positions(g, n, from), rt_concat(g, at, (int)from, 1)));
    return rt_relu(g, rt_add_scalar(g, rt_neg(g, distance), 1));
}

/* x [N,h,w,c] with h and w at most 16. */
static void one_tile(rt_graph *g, rt_val x, const rt_shape *s, int64_t groups, rt_val *mean, rt_val *var)
{
    const int64_t n = s->d[0], h = s->d[1], w = s->d[2], c = s->d[3], each = n / groups;
    const double area = RT_PATCH * RT_PATCH;
    rt_val rows = enlargement(g, RT_PATCH, h), cols = enlargement(g, RT_PATCH, w);
    rt_val weight = rt_mul(g, rt_reshape(g, rt_sum(g, rows, ROWS, false), RT_SHAPE(RT_F32, h, 1)),
                           rt_reshape(g, rt_sum(g, cols, ROWS, false), RT_SHAPE(RT_F32, 1, w)));
    rt_val pairs = rt_mul(g, rt_reshape(g, rt_matmul(g, rows, rows, true, false), RT_SHAPE(RT_F32, h, 1, h, 1)),
                          rt_reshape(g, rt_matmul(g, cols, cols, true, false), RT_SHAPE(RT_F32, 1, w, 1, w)));
    weight = rt_reshape(g, weight, RT_SHAPE(RT_F32, 1, h * w));
    pairs = rt_reshape(g, pairs, RT_SHAPE(RT_F32, 1, h * w, h * w));

    rt_val flat = rt_reshape(g, x, RT_SHAPE(RT_F32, n, h * w, c));
    rt_val seen = rt_mul(g, rt_mean(g, flat, DEEP, false), weight); /* [N,hw] */
    *mean = rt_mul_scalar(g, rt_sum(g, rt_reshape(g, seen, RT_SHAPE(RT_F32, groups, each * h * w)), COLS, true), 1 / (area * (double)each));

    rt_val centre = rt_reshape(g, rt_stop_gradient(g, *mean), RT_SHAPE(RT_F32, groups, 1, 1));
    rt_val apart = rt_sub(g, rt_reshape(g, flat, RT_SHAPE(RT_F32, groups, each * h * w, c)), centre);
    apart = rt_reshape(g, apart, RT_SHAPE(RT_F32, n, h * w, c));
    rt_val products = rt_mul(g, rt_matmul(g, apart, apart, false, true), pairs); /* [N,hw,hw] */
    products = rt_sum(g, rt_reshape(g, products, RT_SHAPE(RT_F32, groups, each * h * w * h * w)), COLS, true);
    *var = rt_mul_scalar(g, products, 1 / (area * (double)(each * c)));
}

/* x [N,h,w,c] enlarged to H x W: its border repeated once, so that no sample lies outside, then one bilinear sampling. */
static rt_val enlarge(rt_graph *g, rt_val x, const rt_shape *s, int64_t to_h, int64_t to_w)
{
    const int64_t n = s->d[0], h = s->d[1], w = s->d[2], c = s->d[3];
    rt_val top = rt_slice(g, x, (int64_t[]){0, 0, 0, 0}, (int64_t[]){n, 1, w, c});
    rt_val bottom = rt_slice(g, x, (int64_t[]){0, h - 1, 0, 0}, (int64_t[]){n, h, w, c});
    x = rt_concat(g, (rt_val[]){top, x, bottom}, 3, 1);
    rt_val left = rt_slice(g, x, (int64_t[]){0, 0, 0, 0}, (int64_t[]){n, h + 2, 1, c});
    rt_val right = rt_slice(g, x, (int64_t[]){0, 0, w - 1, 0}, (int64_t[]){n, h + 2, w, c});
    x = rt_concat(g, (rt_val[]){left, x, right}, 3, 2);
    double fh = (double)h / (double)to_h, fw = (double)w / (double)to_w;
    const double a[6] = {fh, 0, fh / 2 + 0.5, 0, fw, fw / 2 + 0.5};
    rt_val column[6];
    for (int i = 0; i < 6; i++) column[i] = rt_const(g, a[i], RT_SHAPE(RT_F32, n, 1));
    return rt_affine_sample(g, x, rt_concat(g, column, 6, 1), to_h, to_w);
}

/* x [N,H,W,c] with H and W multiples of 16. Sums run over whole rows of a tile first: those lie together. */
static void cut(rt_graph *g, rt_val x, int64_t groups, int64_t n, int64_t h, int64_t w, int64_t c, rt_val *mean, rt_val *var)
{
    const int64_t each = n / groups, th = h / RT_PATCH, tw = w / RT_PATCH, run = RT_PATCH * c;
    const rt_shape lines = RT_SHAPE(RT_F32, n * h * tw, run);
    const uint32_t inner = 1u << 1 | 1u << 3; /* of [groups, each, th, 16, tw] */
    const rt_shape tiles = RT_SHAPE(RT_F32, groups, each, th, RT_PATCH, tw);
    rt_val line = rt_mean(g, rt_reshape(g, x, lines), COLS, false);
    rt_val m = rt_mean(g, rt_reshape(g, line, tiles), inner, false);
    *mean = rt_reshape(g, m, RT_SHAPE(RT_F32, groups, th * tw));

    /* The centre of a tile, laid along every line of it. */
    rt_val centre = rt_reshape(g, rt_stop_gradient(g, m), RT_SHAPE(RT_F32, groups, 1, th, 1, tw));
    centre = rt_reshape(g, rt_broadcast(g, centre, tiles), RT_SHAPE(RT_F32, n * h * tw, 1));
    line = rt_mean(g, rt_square(g, rt_sub(g, rt_reshape(g, x, lines), centre)), COLS, false);
    *var = rt_reshape(g, rt_mean(g, rt_reshape(g, line, tiles), inner, false), RT_SHAPE(RT_F32, groups, th * tw));
}

void rt_patch_moments(rt_graph *g, rt_val x, int64_t groups, rt_val *mean, rt_val *var)
{
    const rt_shape *in = rt_val_shape(g, x);
    *mean = *var = (rt_val){0};
    if (!in || in->rank != 4 || in->d[0] % groups || in->d[1] > MAX_SIDE - RT_PATCH || in->d[2] > MAX_SIDE - RT_PATCH) return;
    const rt_shape s = *in; /* the graph may move it */
    int64_t h = (s.d[1] + RT_PATCH - 1) / RT_PATCH * RT_PATCH, w = (s.d[2] + RT_PATCH - 1) / RT_PATCH * RT_PATCH;
    if (h == RT_PATCH && w == RT_PATCH && (s.d[1] < RT_PATCH || s.d[2] < RT_PATCH)) {
        one_tile(g, x, &s, groups, mean, var);
        return;
    }
    if (h != s.d[1] || w != s.d[2]) x = enlarge(g, x, &s, h, w);
    cut(g, x, groups, s.d[0], h, w, s.d[3], mean, var);
}
