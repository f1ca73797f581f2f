/* Layers over an rt_net (net.h). Every function works in both walks: it always computes the output shape and registers
 * or takes its parameters, and appends nodes only when there is a graph. Of M networks (n->nets) the images come in M
 * blocks, and convolution and norm meet them with M blocks of parameters; the linear layer is a batch of M products.
 *
 * Normalisation follows PyTorch: eps 1e-5, biased variance for the output; BatchNorm's running variance takes the
 * unbiased one with momentum 0.1. */
#include <stdio.h>

#include "nn/net.h"

static const double norm_eps = 1e-5, stat_momentum = 0.1;

static rt_val scale_rows(rt_graph *g, rt_val w, rt_val scale, int64_t k)
{
    return rt_mul(g, w, rt_reshape(g, scale, RT_SHAPE(RT_F32, k, 1, 1, 1)));
}

/* running' = (1 - momentum) running + momentum batch, the variance made unbiased. mean, rstd come out of rt_norm. */
static void update_stats(rt_net *n, rt_act x, rt_val mean, rt_val rstd, rt_val run_mean, rt_val run_var,
                         int32_t mean_at, int32_t var_at)
{
    rt_graph *g = n->g;
    double count = (double)(n->batch / n->nets) * x.h * x.w;
    rt_val var = rt_add_scalar(g, rt_recip(g, rt_square(g, rt_stop_gradient(g, rstd))), -norm_eps);
    rt_val unbiased = rt_mul_scalar(g, var, stat_momentum * count / (count - 1.0));
    rt_val fresh = rt_mul_scalar(g, rt_stop_gradient(g, mean), stat_momentum);

    n->stat_new[mean_at] = rt_add(g, rt_mul_scalar(g, run_mean, 1.0 - stat_momentum), fresh);
    n->stat_new[var_at] = rt_add(g, rt_mul_scalar(g, run_var, 1.0 - stat_momentum), unbiased);
}

static rt_act avg_pool2(rt_net *n, rt_act x)
{
    if (n->g) x.v = rt_avg_pool(n->g, x.v, (rt_pool_attr){.size = {2, 2}, .stride = {2, 2}});
    x.h /= 2;
    x.w /= 2;
    return x;
}

static rt_conv_attr conv_attr(const rt_net *n, const rt_conv_norm *c)
{
    return (rt_conv_attr){
        .stride = {c->stride, c->stride}, .pad = {c->pad, c->pad}, .groups = 1, .nets = (int32_t)n->nets};
}

/* Convolution, BatchNorm, optional ReLU. Outside training the norm is an affine map per channel with known
 * coefficients, so it is folded into the convolution: same function of every input, one pass over the map less. */
static rt_act conv_batch_norm(rt_net *n, rt_act x, const rt_conv_norm *c, rt_val w, rt_val b, rt_act y)
{
    rt_graph *g = n->g;
    int32_t mean_at, var_at;
    rt_shape vec = RT_SHAPE(RT_F32, c->out);
    rt_conv_attr ca = conv_attr(n, c);
    rt_val gamma = rt_net_param(n, c->norm, "weight", vec, RT_INIT_ONE, 1);
    rt_val beta = rt_net_param(n, c->norm, "bias", vec, RT_INIT_ZERO, 1);
    rt_val run_mean = rt_net_stat(n, c->norm, "running_mean", c->out, 0.0f, &mean_at);
    rt_val run_var = rt_net_stat(n, c->norm, "running_var", c->out, 1.0f, &var_at);

    if (!g) return y;
    if (n->training) {
        if (n->batch / n->nets * y.h * y.w < 2) {
            rt_net_fail(n, RT_RAISE(RT_ERR_ARG, "%s: batch statistics need more than one value per channel", c->norm));
            return y;
        }
        rt_val mean, rstd;
        rt_norm_attr a = {.kind = RT_NORM_BATCH, .groups = 1, .relu = c->relu, .nets = n->nets, .eps = norm_eps};
        y.v = rt_conv2d(g, x.v, w, b, ca);
        rt_net_tap(n, RT_TAP_NORM, c->norm, y, mean_at, var_at);
        y.v = rt_norm(g, y.v, gamma, beta, a, &mean, &rstd);
        update_stats(n, y, mean, rstd, run_mean, run_var, mean_at, var_at);
        return y;
    }
    rt_val scale = rt_mul(g, gamma, rt_recip(g, rt_sqrt(g, rt_add_scalar(g, run_var, norm_eps))));
    if (n->taps) { /* the map before the norm is wanted: scale and shift are a pass of their own */
        y.v = rt_conv2d(g, x.v, w, b, ca);
        rt_net_tap(n, RT_TAP_NORM, c->norm, y, mean_at, var_at);
        rt_val shift = rt_sub(g, beta, rt_mul(g, run_mean, scale));
        y.v = rt_add(g, rt_mul(g, y.v, scale), shift);
        if (c->relu) y.v = rt_relu(g, y.v);
        return y;
    }
    rt_val centre = c->bias ? rt_sub(g, b, run_mean) : rt_neg(g, run_mean);
    rt_val shift = rt_add(g, beta, rt_mul(g, centre, scale));
    y.v = rt_conv2d(g, x.v, scale_rows(g, w, scale, n->nets * c->out), shift, ca);
    if (c->relu) y.v = rt_relu(g, y.v);
    return y;
}

/* LayerNorm over C,H,W with one weight per element, as nn.LayerNorm([C,H,W]). */
static rt_val layer_norm(rt_net *n, rt_act y, const rt_conv_norm *c)
{
    rt_graph *g = n->g;
    static const int chw_to_hwc[] = {0, 2, 3, 1};
    rt_shape chw = RT_SHAPE(RT_F32, y.c, y.h, y.w), vec = RT_SHAPE(RT_F32, y.c);
    rt_val gamma = rt_net_param(n, c->norm, "weight", chw, RT_INIT_ONE, 1);
    rt_val beta = rt_net_param(n, c->norm, "bias", chw, RT_INIT_ZERO, 1);

    if (!g) return y.v;
    rt_norm_attr a = {.kind = RT_NORM_GROUP, .groups = 1, .eps = norm_eps};
    rt_val z = rt_norm(g, y.v, rt_const(g, 1.0, vec), rt_const(g, 0.0, vec), a, NULL, NULL);
    /* [M,n,H,W,C] with one weight per network and element */
    rt_shape flat = *rt_val_shape(g, z), each = RT_SHAPE(RT_F32, n->nets, n->batch / n->nets, y.h, y.w, y.c);
    rt_shape mchw = RT_SHAPE(RT_F32, n->nets, y.c, y.h, y.w), wide = RT_SHAPE(RT_F32, n->nets, 1, y.h, y.w, y.c);
    gamma = rt_reshape(g, rt_transpose(g, rt_reshape(g, gamma, mchw), chw_to_hwc), wide);
    beta = rt_reshape(g, rt_transpose(g, rt_reshape(g, beta, mchw), chw_to_hwc), wide);
    z = rt_reshape(g, rt_add(g, rt_mul(g, rt_reshape(g, z, each), gamma), beta), flat);
    return c->relu ? rt_relu(g, z) : z;
}

void rt_net_keep_relu(rt_net *n, rt_act y)
{
    if (!n->relus || !y.h) return;
    if (n->relus->n_relu == RT_FORWARD_MAX_RELUS)
        rt_net_fail(n, RT_RAISE(RT_ERR_UNSUPPORTED, "more than %d ReLU outputs asked for", RT_FORWARD_MAX_RELUS));
    else n->relus->relu[n->relus->n_relu++] = y.v;
}

rt_act rt_net_conv_norm(rt_net *n, rt_act x, const rt_conv_norm *c)
{
    rt_graph *g = n->g;
    rt_act y = {.h = (x.h + 2 * c->pad - c->kernel) / c->stride + 1,
                .w = (x.w + 2 * c->pad - c->kernel) / c->stride + 1,
                .c = c->out};
    int64_t area = (int64_t)c->kernel * c->kernel;
    int64_t fan_in = area * x.c, fan = c->init == RT_INIT_KAIMING_NORMAL_FAN_OUT ? area * c->out : fan_in;
    rt_conv_attr ca = conv_attr(n, c);
    int pooled = 0;
    rt_val b = {0};

    if (x.h + 2 * c->pad < c->kernel || y.h < 1 + c->pool || y.w < 1 + c->pool) {
        rt_net_fail(n, RT_RAISE(RT_ERR_CONFIG, "%s: a %dx%d map is too small for this layer", c->conv, x.h, x.w));
        return y;
    }
    rt_net_tap(n, RT_TAP_CONV, c->conv, x, -1, -1);
    rt_val w = rt_net_param(n, c->conv, "weight", RT_SHAPE(RT_F32, c->out, x.c, c->kernel, c->kernel), c->init, fan);
    if (c->bias) b = rt_net_param(n, c->conv, "bias", RT_SHAPE(RT_F32, c->out), RT_INIT_UNIFORM_FAN_IN, fan_in);

    if (c->kind == RT_MODEL_NORM_BATCH) {
        y = conv_batch_norm(n, x, c, w, b, y);
        if (c->relu) rt_net_keep_relu(n, y);
        return c->pool ? avg_pool2(n, y) : y;
    }
    if (g) y.v = rt_conv2d(g, x.v, w, b, ca);
    if (c->kind == RT_MODEL_NORM_NONE) {
        if (g && c->relu) y.v = rt_relu(g, y.v);
    } else if (c->kind == RT_MODEL_NORM_LAYER) {
        y.v = layer_norm(n, y, c);
    } else {
        rt_shape vec = RT_SHAPE(RT_F32, c->out);
        rt_val gamma = rt_net_param(n, c->norm, "weight", vec, RT_INIT_ONE, 1);
        rt_val beta = rt_net_param(n, c->norm, "bias", vec, RT_INIT_ZERO, 1);
        pooled = c->pool && y.h % 2 == 0 && y.w % 2 == 0 && !n->relus;
        rt_norm_attr a = {.kind = RT_NORM_GROUP,
                          .groups = c->kind == RT_MODEL_NORM_INSTANCE ? c->out : 4,
                          .relu = c->relu,
                          .pool = pooled ? 2 : 0,
                          .nets = n->nets,
                          .eps = norm_eps};
        if (g) y.v = rt_norm(g, y.v, gamma, beta, a, NULL, NULL);
    }
    if (c->relu) rt_net_keep_relu(n, y);
    if (pooled) {
        y.h /= 2;
        y.w /= 2;
        return y;
    }
    return c->pool ? avg_pool2(n, y) : y;
}

rt_act rt_net_linear(rt_net *n, rt_act x, const char *prefix, int32_t out)
{
    rt_act y = {.c = out};
    rt_val w = rt_net_param(n, prefix, "weight", RT_SHAPE(RT_F32, out, x.c), RT_INIT_UNIFORM_FAN_IN, x.c);
    rt_val b = rt_net_param(n, prefix, "bias", RT_SHAPE(RT_F32, out), RT_INIT_UNIFORM_FAN_IN, x.c);

    if (n->g && n->nets == 1) y.v = rt_add(n->g, rt_matmul(n->g, x.v, w, false, true), b);
    if (n->g && n->nets > 1) {
        const int64_t m = n->nets, each = n->batch / m;
        w = rt_reshape(n->g, w, RT_SHAPE(RT_F32, m, out, x.c));
        b = rt_reshape(n->g, b, RT_SHAPE(RT_F32, m, 1, out));
        y.v = rt_matmul(n->g, rt_reshape(n->g, x.v, RT_SHAPE(RT_F32, m, each, x.c)), w, false, true);
        y.v = rt_reshape(n->g, rt_add(n->g, y.v, b), RT_SHAPE(RT_F32, n->batch, out));
    }
    return y;
}

rt_act rt_net_relu(rt_net *n, rt_act x)
{
    if (n->g) x.v = rt_relu(n->g, x.v);
    rt_net_keep_relu(n, x);
    return x;
}

rt_act rt_net_add(rt_net *n, rt_act a, rt_act b)
{
    if (n->g) a.v = rt_add(n->g, a.v, b.v);
    return a;
}

rt_act rt_net_max_pool(rt_net *n, rt_act x, int32_t size, int32_t stride, int32_t pad)
{
    if (n->g)
        x.v =
            rt_max_pool(n->g, x.v, (rt_pool_attr){.size = {size, size}, .stride = {stride, stride}, .pad = {pad, pad}});
    x.h = (x.h + 2 * pad - size) / stride + 1;
    x.w = (x.w + 2 * pad - size) / stride + 1;
    return x;
}

rt_act rt_net_global_mean(rt_net *n, rt_act x)
{
    rt_act y = {.c = x.c};
    if (n->g) y.v = rt_mean(n->g, x.v, 1u << 1 | 1u << 2, false);
    return y;
}

rt_act rt_net_flatten(rt_net *n, rt_act x)
{
    static const int nhwc_to_nchw[] = {0, 3, 1, 2};
    rt_act y = {.c = x.c * x.h * x.w};

    if (n->g) y.v = rt_reshape(n->g, rt_transpose(n->g, x.v, nhwc_to_nchw), RT_SHAPE(RT_F32, n->batch, y.c));
    return y;
}
