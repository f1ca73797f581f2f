/* Characteristic functions and the network that samples their frequencies, as graphs (characteristic.h). */
#include "methods/distill/characteristic.h"

#include <math.h>

#include "base/rng.h"

static const double NORM_FLOOR = 1e-12, PHASE_FLOOR = 1e-12, ROOT_FLOOR = 1e-24;
enum { PSI_LAYERS = 3 };

rt_val rt_cf_unit_rows(rt_graph *g, rt_val f)
{
    rt_val square = rt_sum(g, rt_square(g, f), 2u, true);
    return rt_div(g, f, rt_sqrt(g, rt_maximum(g, square, rt_scalar(g, NORM_FLOOR * NORM_FLOOR))));
}

void rt_cf_means(rt_graph *g, rt_val f, rt_val t, int64_t classes, rt_val *c, rt_val *s)
{
    rt_val phase = rt_matmul(g, f, t, false, true);
    const rt_shape *ps = rt_val_shape(g, phase);
    if (!ps) {
        *c = *s = (rt_val){0};
        return;
    }
    rt_shape by_class = RT_SHAPE(RT_F32, classes, ps->d[0] / classes, ps->d[1]);
    *c = rt_mean(g, rt_reshape(g, rt_cos(g, phase), by_class), 2u, false);
    *s = rt_mean(g, rt_reshape(g, rt_sin(g, phase), by_class), 2u, false);
}

static rt_val magnitude(rt_graph *g, rt_val c, rt_val s)
{
    rt_val square = rt_add(g, rt_square(g, c), rt_square(g, s));
    return rt_sqrt(g, rt_maximum(g, square, rt_scalar(g, ROOT_FLOOR)));
}

rt_val rt_cf_loss(rt_graph *g, rt_val cr, rt_val sr, rt_val cs, rt_val ss, double alpha, double beta, double scale)
{
    /* With A = (|Phi_r| - |Phi_s|)^2 and D = |Phi_r - Phi_s|^2 the phase term 2 (|Phi_r||Phi_s| - ...) is D - A: differences
     * are taken before squares, which float32 needs when the two functions are close. */
    rt_val d = rt_add(g, rt_square(g, rt_sub(g, cr, cs)), rt_square(g, rt_sub(g, sr, ss))), inside;
    rt_val floor = rt_scalar(g, PHASE_FLOOR);
    if (alpha == beta) {
        inside = rt_mul_scalar(g, rt_maximum(g, d, floor), beta);
    } else {
        rt_val a = rt_square(g, rt_sub(g, magnitude(g, cr, sr), magnitude(g, cs, ss)));
        inside = rt_add(g, rt_mul_scalar(g, a, alpha), rt_mul_scalar(g, rt_maximum(g, rt_sub(g, d, a), floor), beta));
        inside = rt_maximum(g, inside, rt_scalar(g, ROOT_FLOOR));
    }
    return rt_mul_scalar(g, rt_sum_all(g, rt_mean(g, rt_sqrt(g, inside), 2u, false)), scale);
}

/* --- psi --------------------------------------------------------------------------------------------------------------- */

int64_t rt_psi_n_params(int64_t dim) { return PSI_LAYERS * (dim * dim + 3 * dim); }

void rt_psi_init(int64_t dim, uint64_t seed, float *theta)
{
    double bound = 1 / sqrt((double)dim);
    for (int k = 0; k < PSI_LAYERS; k++) {
        float *w = theta + k * (dim * dim + 3 * dim), *gamma = w + dim * dim + dim;
        rt_rng r = rt_rng_at(seed, RT_RNG_NOISE, (uint64_t)k, UINT32_MAX - 1); /* no row of a noise matrix has this number */
        for (int64_t i = 0; i < dim * dim + dim; i++) w[i] = (float)rt_rng_uniform_in(&r, -bound, bound);
        for (int64_t i = 0; i < dim; i++) gamma[i] = 1, gamma[dim + i] = 0;
    }
}

static rt_val leaky_relu(rt_graph *g, rt_val x)
{
    return rt_maximum(g, x, rt_mul_scalar(g, x, 0.2));
}

rt_val rt_psi_forward(rt_graph *g, rt_val noise, rt_val theta, int64_t dim)
{
    const rt_shape *ns = rt_val_shape(g, noise);
    rt_val x = noise;
    if (!ns) return x;
    rt_shape rows = *ns, maps = RT_SHAPE(RT_F32, rows.d[0], 1, 1, dim), vec = RT_SHAPE(RT_F32, dim);
    rt_norm_attr batch = {.kind = RT_NORM_BATCH, .groups = 1, .eps = 1e-5};
    for (int k = 0; k < PSI_LAYERS; k++) {
        int64_t at = k * (dim * dim + 3 * dim);
        rt_val w = rt_view1d(g, theta, at, RT_SHAPE(RT_F32, dim, dim)), b = rt_view1d(g, theta, at + dim * dim, vec);
        rt_val gamma = rt_view1d(g, theta, at + dim * dim + dim, vec), beta = rt_view1d(g, theta, at + dim * dim + 2 * dim, vec);
        x = rt_add(g, rt_matmul(g, x, w, false, true), b);
        x = rt_reshape(g, rt_norm(g, rt_reshape(g, x, maps), gamma, beta, batch, NULL, NULL), rows);
        x = k + 1 < PSI_LAYERS ? leaky_relu(g, x) : rt_tanh(g, x);
    }
    return x;
}
