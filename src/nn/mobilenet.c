/* MobileNetV2 (Sandler et al., arXiv 1801.04381) with torchvision's names, shapes and order: a 3x3 stem, seventeen inverted
 * residuals (1x1 expansion, 3x3 depthwise, linear 1x1 projection; ReLU6), a 1x1 head, global mean, one linear layer.
 *
 * small_stem, for 32 to 64 pixels: the stem and the first halving stage (features.2) keep their resolution, so that 32 pixels
 * end in 4x4 maps as on CIFAR; no shape of a parameter changes. */
#include <stdio.h>

#include "nn/net.h"

static rt_status resolve(rt_model_desc *d)
{
    return rt_net_resolve(d, RT_MODEL_NORM_BATCH, 32, 8);
}

/* Convolution "<prefix>.<i>" and norm after it: as a module of its own ("<prefix>.<i>.0", ".1"), or flat ("<i>", "<i + 1>"). */
static rt_act conv_bn(rt_net *n, rt_act x, const char *prefix, int32_t i, bool flat, int32_t out, int32_t kernel, int32_t stride,
                      int32_t groups, rt_activation act)
{
    char conv[48], norm[48];
    snprintf(conv, sizeof conv, flat ? "%s.%d" : "%s.%d.0", prefix, i);
    snprintf(norm, sizeof norm, flat ? "%s.%d" : "%s.%d.1", prefix, flat ? i + 1 : i);
    return rt_net_conv_norm(n, x,
                            &(rt_conv_norm){.conv = conv,
                                            .norm = norm,
                                            .out = out,
                                            .kernel = kernel,
                                            .stride = stride,
                                            .pad = kernel / 2,
                                            .groups = groups,
                                            .init = RT_INIT_KAIMING_NORMAL_FAN_OUT,
                                            .kind = RT_MODEL_NORM_BATCH,
                                            .act = act});
}

static rt_act block(rt_net *n, rt_act x, int32_t index, int32_t expand, int32_t out, int32_t stride)
{
    char prefix[32];
    const int32_t inner = expand * x.c;
    int32_t i = 0;
    rt_act y = x;

    snprintf(prefix, sizeof prefix, "features.%d.conv", index);
    if (expand > 1) y = conv_bn(n, y, prefix, i++, false, inner, 1, 1, 1, RT_ACT_RELU6);
    y = conv_bn(n, y, prefix, i++, false, inner, 3, stride, inner, RT_ACT_RELU6);
    y = conv_bn(n, y, prefix, i, true, out, 1, 1, 1, RT_ACT_NONE);
    return stride == 1 && x.c == out ? rt_net_add(n, y, x) : y;
}

static void walk(rt_net *n, rt_act x, rt_act *features, rt_act *logits)
{
    /* expansion, channels, blocks, stride of the first */
    static const int32_t stage[7][4] = {{1, 16, 1, 1}, {6, 24, 2, 2}, {6, 32, 3, 2}, {6, 64, 4, 2},
                                        {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};
    const rt_model_desc *d = &n->m->desc;
    int32_t index = 1;

    x = conv_bn(n, x, "features", 0, false, 32, 3, d->small_stem ? 1 : 2, 1, RT_ACT_RELU6);
    for (int32_t s = 0; s < 7; s++)
        for (int32_t b = 0; b < stage[s][2]; b++, index++) {
            const int32_t stride = b || (s == 1 && d->small_stem) ? 1 : stage[s][3];
            x = block(n, x, index, stage[s][0], stage[s][1], stride);
        }
    x = conv_bn(n, x, "features", index, false, 1280, 1, 1, 1, RT_ACT_RELU6);
    *features = rt_net_global_mean(n, x);
    *logits = rt_net_linear_init(n, *features, "classifier.1", d->classes, RT_INIT_NORMAL_001, RT_INIT_ZERO);
}

const rt_arch rt_arch_mobilenet_v2 = {"mobilenet_v2", resolve, walk};
