/* ShuffleNetV2 at half and single width (Ma et al., arXiv 1807.11164) with torchvision's names, shapes and order. A unit of
 * stride 1 transforms the second half of its channels; one of stride 2 has two branches; either way the halves are joined and
 * interleaved (channel i of a half goes to 2 i, of the other to 2 i + 1).
 *
 * small_stem, for 32 to 64 pixels: the stem has stride 1 and no max pool; no shape of a parameter changes. */
#include <stdio.h>

#include "nn/net.h"

static rt_status resolve(rt_model_desc *d)
{
    return rt_net_resolve(d, RT_MODEL_NORM_BATCH, 32, 8);
}

/* Convolution "<prefix>.<i>" and norm "<prefix>.<i + 1>". */
static rt_act conv_bn(rt_net *n, rt_act x, const char *prefix, int32_t i, int32_t out, int32_t kernel, int32_t stride,
                      int32_t groups, rt_activation act)
{
    char conv[48], norm[48];
    snprintf(conv, sizeof conv, "%s.%d", prefix, i);
    snprintf(norm, sizeof norm, "%s.%d", prefix, i + 1);
    return rt_net_conv_norm(n, x,
                            &(rt_conv_norm){.conv = conv,
                                            .norm = norm,
                                            .out = out,
                                            .kernel = kernel,
                                            .stride = stride,
                                            .pad = kernel / 2,
                                            .groups = groups,
                                            .init = RT_INIT_UNIFORM_FAN_IN,
                                            .kind = RT_MODEL_NORM_BATCH,
                                            .act = act});
}

/* Channels [from, from + count). */
static rt_act channels(rt_net *n, rt_act x, int32_t from, int32_t count)
{
    rt_act y = {.h = x.h, .w = x.w, .c = count};
    if (n->g)
        y.v = rt_slice(n->g, x.v, (const int64_t[]){0, 0, 0, from}, (const int64_t[]){n->batch, x.h, x.w, from + count});
    return y;
}

/* Joins two halves and interleaves their channels. */
static rt_act shuffle(rt_net *n, rt_act a, rt_act b)
{
    static const int swap[] = {0, 1, 2, 4, 3};
    rt_act y = {.h = a.h, .w = a.w, .c = a.c + b.c};
    if (!n->g) return y;
    y.v = rt_concat(n->g, (const rt_val[]){a.v, b.v}, 2, 3);
    y.v = rt_transpose(n->g, rt_reshape(n->g, y.v, RT_SHAPE(RT_F32, n->batch, y.h, y.w, 2, a.c)), swap);
    y.v = rt_reshape(n->g, y.v, RT_SHAPE(RT_F32, n->batch, y.h, y.w, y.c));
    return y;
}

static rt_act unit(rt_net *n, rt_act x, const char *prefix, int32_t out, int32_t stride)
{
    char name[32];
    const int32_t half = out / 2;
    rt_act a = x, b = x;

    if (stride == 1) {
        a = channels(n, x, 0, half);
        b = channels(n, x, half, half);
    } else {
        snprintf(name, sizeof name, "%s.branch1", prefix);
        a = conv_bn(n, x, name, 0, x.c, 3, stride, x.c, RT_ACT_NONE);
        a = conv_bn(n, a, name, 2, half, 1, 1, 1, RT_ACT_RELU);
    }
    snprintf(name, sizeof name, "%s.branch2", prefix);
    b = conv_bn(n, b, name, 0, half, 1, 1, 1, RT_ACT_RELU);
    b = conv_bn(n, b, name, 3, half, 3, stride, half, RT_ACT_NONE);
    b = conv_bn(n, b, name, 5, half, 1, 1, 1, RT_ACT_RELU);
    return shuffle(n, a, b);
}

static void walk(rt_net *n, rt_act x, rt_act *features, rt_act *logits, const int32_t width[3])
{
    static const int32_t units[3] = {4, 8, 4};
    const rt_model_desc *d = &n->m->desc;
    char prefix[24];

    x = conv_bn(n, x, "conv1", 0, 24, 3, d->small_stem ? 1 : 2, 1, RT_ACT_RELU);
    if (!d->small_stem) x = rt_net_max_pool(n, x, 3, 2, 1);
    for (int32_t s = 0; s < 3; s++)
        for (int32_t u = 0; u < units[s]; u++) {
            snprintf(prefix, sizeof prefix, "stage%d.%d", s + 2, u);
            x = unit(n, x, prefix, width[s], u ? 1 : 2);
        }
    x = conv_bn(n, x, "conv5", 0, 1024, 1, 1, 1, RT_ACT_RELU);
    *features = rt_net_global_mean(n, x);
    *logits = rt_net_linear(n, *features, "fc", d->classes);
}

static void walk_half(rt_net *n, rt_act x, rt_act *features, rt_act *logits)
{
    walk(n, x, features, logits, (const int32_t[]){48, 96, 192});
}

static void walk_single(rt_net *n, rt_act x, rt_act *features, rt_act *logits)
{
    walk(n, x, features, logits, (const int32_t[]){116, 232, 464});
}

const rt_arch rt_arch_shufflenet_v2_x0_5 = {"shufflenet_v2_x0_5", resolve, walk_half};
const rt_arch rt_arch_shufflenet_v2_x1_0 = {"shufflenet_v2_x1_0", resolve, walk_single};
