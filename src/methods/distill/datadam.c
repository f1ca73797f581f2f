/* DataDAM (Sajedi et al., "DataDAM: Efficient Dataset Distillation with Attention Matching", ICCV 2023; matching.md 4.8).
 *
 *   L = scale * sum_c [ sum_layers || mean a^(T_c) - mean a^(S_c) ||^2  +  lambda || mean psi(T_c) - mean psi(S_c) ||^2 ]
 *
 * a^ = a / ||a|| with a = sum over channels of |F|^p, the spatial attention of one ReLU output F, normalised per image before
 * the mean over the class. Layers: every ReLU output but the last, which enters through psi, the features before the
 * classifier. That is a match of class means (class_mean.h) whose statistic is the concatenation of all of them, each with
 * the root of its weight.
 *
 * Paper and released code differ in p (4; the code's default is 1) and in the number of iterations (8000; 20000). The
 * defaults are the paper's; datadam.power and datadam.iterations give the other. The code's --zca whitens the initial images
 * twice; here data.zca whitens once. */
#include <math.h>
#include <string.h>

#include "methods/distill/datadam.h"

static const double FLOOR = 1e-12; /* of a norm, as the common normalisation has it */

/* f >= 0, so |f| = f; p >= 1. */
static rt_val power(rt_graph *g, rt_val f, int64_t p)
{
    if (p == 1) return f;
    rt_val half = power(g, f, p / 2), even = rt_square(g, half);
    return p % 2 ? rt_mul(g, even, f) : even;
}

/* Map [n,h,w,c] -> unit rows [n,h*w]. */
static rt_val attention(rt_graph *g, rt_val map, int64_t p)
{
    const rt_shape s = *rt_val_shape(g, map);
    rt_val a = rt_reshape(g, rt_sum(g, power(g, map, p), 1u << 3, false), RT_SHAPE(RT_F32, s.d[0], s.d[1] * s.d[2]));
    rt_val square = rt_sum(g, rt_square(g, a), 2u, true);
    /* max(||a||, floor) with the gradient of the floor where the map is dead */
    return rt_div(g, a, rt_sqrt(g, rt_maximum(g, square, rt_scalar(g, FLOOR * FLOOR))));
}

rt_val rt_datadam_statistic(const rt_config *c, rt_graph *g, const rt_forward *f)
{
    rt_val part[RT_FORWARD_MAX_RELUS + 1];
    int layers = c->datadam.last_layer ? f->n_relu : f->n_relu - 1, n = 0;
    double root = sqrt(c->datadam.scale);
    for (int i = 0; i < layers; i++) part[n++] = rt_mul_scalar(g, attention(g, f->relu[i], c->datadam.power), root);
    part[n++] = rt_mul_scalar(g, f->features, root * sqrt(c->datadam.lambda));
    return rt_concat(g, part, n, 1);
}

static rt_class_mean describe(const rt_build_ctx *ctx)
{
    const rt_config *c = ctx->config;
    rt_class_mean m = {.name = "datadam", .iterations = c->datadam.iterations, .batch_real = c->datadam.batch_real,
                       .lr = c->datadam.lr, .momentum = c->datadam.momentum, .init_noise = !strcmp(c->datadam.init, "noise"),
                       .dsa = c->datadam.dsa, .relus = true, .statistic = rt_datadam_statistic};
    if (m.lr == 0) m.lr = ctx->ipc <= 50 ? 1 : 10;
    if (c->datadam.power != 4) m.deviation[m.n_deviations++] = "attention is a power of the maps other than the paper's 4";
    if (c->datadam.last_layer) m.deviation[m.n_deviations++] = "the attention of the last layer is matched too";
    if (m.init_noise) m.deviation[m.n_deviations++] = "initial images are noise instead of real images";
    return m;
}

static int64_t iterations(const rt_config *c) { return c->datadam.iterations; }

/* A network without convolutions has no maps to attend to. */
static rt_status check(const rt_build_ctx *ctx)
{
    if (strcmp(ctx->net.arch, "mlp")) return RT_OK;
    rt_status st = RT_RAISE(RT_ERR_CONFIG, "datadam matches feature maps; an MLP has none");
    return rt_error_fix(st, "set network.arch to convnet or a resnet");
}

static rt_status construct(const rt_build_ctx *ctx, rt_set *out)
{
    rt_status st = RT_OK;
    rt_class_mean m = describe(ctx);
    RT_TRY(check(ctx));
    RT_TRY(rt_class_mean_construct(ctx, &m, out));
out:
    return st;
}

static rt_status estimate(const rt_build_ctx *ctx, rt_estimate *out)
{
    rt_status st = RT_OK;
    rt_class_mean m = describe(ctx);
    RT_TRY(check(ctx));
    RT_TRY(rt_class_mean_estimate(ctx, &m, out));
out:
    return st;
}

const rt_method rt_method_datadam = {.name = "datadam", .family = "distribution matching",
                                     .title = "DataDAM (Sajedi et al., ICCV 2023)", .stochastic = true,
                                     .iterations = iterations, .construct = construct, .estimate = estimate};
