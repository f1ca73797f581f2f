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
    return (rt_conv_attr){.stride = {c->stride, c->stride},
                          .pad = {c->pad, c->pad},
                          .groups = c->groups ? c->groups : 1,
                          .nets = (int32_t)n->nets};
}

static void keep_relu(rt_net *n, rt_act y)
{
    if (!n->relus || !y.h) return;
    if (n->relus->n_relu == RT_FORWARD_MAX_RELUS)
        rt_net_fail(n, RT_RAISE(RT_ERR_UNSUPPORTED, "more than %d ReLU outputs asked for", RT_FORWARD_MAX_RELUS));
    else n->relus->relu[n->relus->n_relu++] = y.v;
}

/* done: the ReLU, or that of a ReLU6, is already in x. */
static rt_act activate(rt_net *n, rt_act x, rt_activation act, bool done)
{
    if (n->g && !done && (act == RT_ACT_RELU || act == RT_ACT_RELU6)) x.v = rt_relu(n->g, x.v);
    if (n->g && act == RT_ACT_RELU6) x.v = rt_minimum(n->g, x.v, rt_scalar(n->g, 6.0));
    if (n->g && act == RT_ACT_SILU) x.v = rt_silu(n->g, x.v);
    if (act != RT_ACT_NONE) keep_relu(n, x);
    return x;
}

static bool has_relu(rt_activation act)
{
    return act == RT_ACT_RELU || act == RT_ACT_RELU6;
}

/* What a BatchNorm owns, in state_dict order. */
typedef struct batch_stats {
    rt_val gamma, beta, mean, var;
    int32_t mean_at, var_at;
} batch_stats;

static batch_stats take_stats(rt_net *n, const char *name, int32_t channels)
{
    batch_stats s;
    s.gamma = rt_net_param(n, name, "weight", RT_SHAPE(RT_F32, channels), RT_INIT_ONE, 1);
    s.beta = rt_net_param(n, name, "bias", RT_SHAPE(RT_F32, channels), RT_INIT_ZERO, 1);
    s.mean = rt_net_stat(n, name, "running_mean", channels, 0.0f, &s.mean_at);
    s.var = rt_net_stat(n, name, "running_var", channels, 1.0f, &s.var_at);
    return s;
}

/* gamma / sqrt(var + eps): what evaluation multiplies a channel by. */
static rt_val scale_of(rt_graph *g, const batch_stats *s)
{
    return rt_mul(g, s->gamma, rt_recip(g, rt_sqrt(g, rt_add_scalar(g, s->var, norm_eps))));
}

/* x times scale plus shift per channel, those of M networks meeting M blocks of images. */
static rt_val affine(rt_net *n, rt_act x, rt_val scale, rt_val shift)
{
    rt_graph *g = n->g;
    if (n->nets == 1) return rt_add(g, rt_mul(g, x.v, scale), shift);
    rt_shape flat = *rt_val_shape(g, x.v), each = RT_SHAPE(RT_F32, n->nets, n->batch / n->nets, x.h, x.w, x.c);
    rt_shape wide = RT_SHAPE(RT_F32, n->nets, 1, 1, 1, x.c);
    rt_val y = rt_mul(g, rt_reshape(g, x.v, each), rt_reshape(g, scale, wide));
    return rt_reshape(g, rt_add(g, y, rt_reshape(g, shift, wide)), flat);
}

static rt_act batch_norm(rt_net *n, rt_act x, const char *name, const batch_stats *s, rt_activation act)
{
    rt_graph *g = n->g;

    rt_net_tap(n, RT_TAP_NORM, name, x, s->mean_at, s->var_at);
    if (!n->training) {
        rt_val scale = scale_of(g, s);
        x.v = affine(n, x, scale, rt_sub(g, s->beta, rt_mul(g, s->mean, scale)));
        return activate(n, x, act, false);
    }
    if (n->batch / n->nets * x.h * x.w < 2) {
        rt_net_fail(n, RT_RAISE(RT_ERR_ARG, "%s: batch statistics need more than one value per channel", name));
        return x;
    }
    rt_val mean, rstd;
    rt_norm_attr a = {.kind = RT_NORM_BATCH, .groups = 1, .relu = has_relu(act), .nets = n->nets, .eps = norm_eps};
    x.v = rt_norm(g, x.v, s->gamma, s->beta, a, &mean, &rstd);
    update_stats(n, x, mean, rstd, s->mean, s->var, s->mean_at, s->var_at);
    return activate(n, x, act, true);
}

rt_act rt_net_batch_norm(rt_net *n, rt_act x, const char *name, rt_activation act)
{
    batch_stats s = take_stats(n, name, x.c);
    return n->g ? batch_norm(n, x, name, &s, act) : x;
}

/* Convolution, BatchNorm, activation. Outside training the norm is an affine map per channel with known coefficients, so it is
 * folded into the convolution: same function of every input, one pass over the map less. Not where the map before the norm is
 * wanted. */
static rt_act conv_batch_norm(rt_net *n, rt_act x, const rt_conv_norm *c, rt_val w, rt_val b, rt_act y)
{
    rt_graph *g = n->g;
    rt_conv_attr ca = conv_attr(n, c);
    batch_stats s = take_stats(n, c->norm, c->out);

    if (!g) return y;
    if (n->training || n->taps) {
        y.v = rt_conv2d(g, x.v, w, b, ca);
        return batch_norm(n, y, c->norm, &s, c->act);
    }
    rt_val scale = scale_of(g, &s);
    rt_val centre = c->bias ? rt_sub(g, b, s.mean) : rt_neg(g, s.mean);
    rt_val shift = rt_add(g, s.beta, rt_mul(g, centre, scale));
    y.v = rt_conv2d(g, x.v, scale_rows(g, w, scale, n->nets * c->out), shift, ca);
    return activate(n, y, c->act, false);
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
    return z;
}

rt_act rt_net_conv_norm(rt_net *n, rt_act x, const rt_conv_norm *c)
{
    rt_graph *g = n->g;
    rt_act y = {.h = (x.h + 2 * c->pad - c->kernel) / c->stride + 1,
                .w = (x.w + 2 * c->pad - c->kernel) / c->stride + 1,
                .c = c->out};
    int64_t area = (int64_t)c->kernel * c->kernel, depth = x.c / (c->groups ? c->groups : 1);
    int64_t fan_in = area * depth, fan = c->init == RT_INIT_KAIMING_NORMAL_FAN_OUT ? area * c->out : fan_in;
    rt_init bias = c->init == RT_INIT_UNIFORM_FAN_IN ? RT_INIT_UNIFORM_FAN_IN : RT_INIT_ZERO;
    rt_conv_attr ca = conv_attr(n, c);
    int pooled = 0;
    rt_val b = {0};

    if (x.h + 2 * c->pad < c->kernel || y.h < 1 + c->pool || y.w < 1 + c->pool) {
        rt_net_fail(n, RT_RAISE(RT_ERR_CONFIG, "%s: a %dx%d map is too small for this layer", c->conv, x.h, x.w));
        return y;
    }
    rt_net_tap(n, RT_TAP_CONV, c->conv, x, -1, -1);
    rt_val w = rt_net_param(n, c->conv, "weight", RT_SHAPE(RT_F32, c->out, depth, c->kernel, c->kernel), c->init, fan);
    if (c->bias) b = rt_net_param(n, c->conv, "bias", RT_SHAPE(RT_F32, c->out), bias, fan_in);

    if (c->kind == RT_MODEL_NORM_BATCH) {
        y = conv_batch_norm(n, x, c, w, b, y);
        return c->pool ? avg_pool2(n, y) : y;
    }
    if (g) y.v = rt_conv2d(g, x.v, w, b, ca);
    if (c->kind == RT_MODEL_NORM_LAYER) {
        y.v = layer_norm(n, y, c);
    } else if (c->kind != RT_MODEL_NORM_NONE) {
        rt_shape vec = RT_SHAPE(RT_F32, c->out);
        rt_val gamma = rt_net_param(n, c->norm, "weight", vec, RT_INIT_ONE, 1);
        rt_val beta = rt_net_param(n, c->norm, "bias", vec, RT_INIT_ZERO, 1);
        pooled = c->pool && c->act != RT_ACT_RELU6 && c->act != RT_ACT_SILU && y.h % 2 == 0 && y.w % 2 == 0 && !n->relus;
        rt_norm_attr a = {.kind = RT_NORM_GROUP,
                          .groups = c->kind == RT_MODEL_NORM_INSTANCE ? c->out : 4,
                          .relu = has_relu(c->act),
                          .pool = pooled ? 2 : 0,
                          .nets = n->nets,
                          .eps = norm_eps};
        if (g) y.v = rt_norm(g, y.v, gamma, beta, a, NULL, NULL);
    }
    y = activate(n, y, c->act, c->kind == RT_MODEL_NORM_INSTANCE || c->kind == RT_MODEL_NORM_GROUP);
    if (pooled) {
        y.h /= 2;
        y.w /= 2;
        return y;
    }
    return c->pool ? avg_pool2(n, y) : y;
}

rt_act rt_net_linear(rt_net *n, rt_act x, const char *prefix, int32_t out)
{
    return rt_net_linear_init(n, x, prefix, out, RT_INIT_UNIFORM_FAN_IN, RT_INIT_UNIFORM_FAN_IN);
}

rt_act rt_net_linear_init(rt_net *n, rt_act x, const char *prefix, int32_t out, rt_init weight, rt_init bias)
{
    rt_act y = {.c = out};
    int64_t fan = weight == RT_INIT_UNIFORM_FAN_OUT ? out : x.c;
    rt_val w = rt_net_param(n, prefix, "weight", RT_SHAPE(RT_F32, out, x.c), weight, fan);
    rt_val b = rt_net_param(n, prefix, "bias", RT_SHAPE(RT_F32, out), bias, x.c);

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

rt_act rt_net_activate(rt_net *n, rt_act x, rt_activation act)
{
    return activate(n, x, act, false);
}

rt_act rt_net_relu(rt_net *n, rt_act x)
{
    return activate(n, x, RT_ACT_RELU, false);
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
