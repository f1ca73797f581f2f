/* ResNet-18, 34 and 50 (He et al., arXiv 1512.03385) with torchvision's names, shapes and order; those with bottlenecks
 * are "v1.5": the 3x3 convolution of a bottleneck carries the stride. small_stem replaces the 7x7 stride-2 stem and its max
 * pool by a 3x3 stride-1 convolution, as is usual for 32 to 64 pixels. Features are the globally averaged last map. */
#include <stdio.h>

#include "nn/net.h"

static rt_status resolve(rt_model_desc *d)
{
    return rt_net_resolve(d, RT_MODEL_NORM_BATCH, 32, 8);
}

static rt_act conv_bn(rt_net *n, rt_act x, const char *conv, const char *norm, int32_t out, int32_t kernel,
                      int32_t stride, rt_activation act)
{
    return rt_net_conv_norm(n, x,
                            &(rt_conv_norm){.conv = conv,
                                            .norm = norm,
                                            .out = out,
                                            .kernel = kernel,
                                            .stride = stride,
                                            .pad = kernel / 2,
                                            .init = RT_INIT_KAIMING_NORMAL_FAN_OUT,
                                            .kind = RT_MODEL_NORM_BATCH,
                                            .act = act});
}

/* Basic block (two 3x3) or bottleneck (1x1, 3x3, 1x1 to four times the width), shortcut by 1x1 where the shape changes.
 */
static rt_act block(rt_net *n, rt_act x, const char *prefix, int32_t width, int32_t stride, int bottleneck)
{
    char conv[40], norm[40];
    int32_t out = bottleneck ? 4 * width : width, n_conv = bottleneck ? 3 : 2;
    rt_act y = x;

    for (int32_t i = 1; i <= n_conv; i++) {
        int32_t kernel = bottleneck && i != 2 ? 1 : 3, strided = bottleneck ? 2 : 1;
        snprintf(conv, sizeof conv, "%s.conv%d", prefix, i);
        snprintf(norm, sizeof norm, "%s.bn%d", prefix, i);
        y = conv_bn(n, y, conv, norm, i == n_conv ? out : width, kernel, i == strided ? stride : 1,
                    i < n_conv ? RT_ACT_RELU : RT_ACT_NONE);
    }
    if (stride != 1 || x.c != out) {
        snprintf(conv, sizeof conv, "%s.downsample.0", prefix);
        snprintf(norm, sizeof norm, "%s.downsample.1", prefix);
        x = conv_bn(n, x, conv, norm, out, 1, stride, RT_ACT_NONE);
    }
    return rt_net_relu(n, rt_net_add(n, y, x));
}

static void walk(rt_net *n, rt_act x, rt_act *features, rt_act *logits, const int32_t blocks[4], int bottleneck)
{
    const rt_model_desc *d = &n->m->desc;
    char prefix[24];

    x = conv_bn(n, x, "conv1", "bn1", 64, d->small_stem ? 3 : 7, d->small_stem ? 1 : 2, RT_ACT_RELU);
    if (!d->small_stem) x = rt_net_max_pool(n, x, 3, 2, 1);
    for (int32_t l = 0; l < 4; l++)
        for (int32_t b = 0; b < blocks[l]; b++) {
            snprintf(prefix, sizeof prefix, "layer%d.%d", l + 1, b);
            x = block(n, x, prefix, 64 << l, l > 0 && b == 0 ? 2 : 1, bottleneck);
        }
    *features = rt_net_global_mean(n, x);
    *logits = rt_net_linear(n, *features, "fc", d->classes);
}

static void walk18(rt_net *n, rt_act x, rt_act *features, rt_act *logits)
{
    walk(n, x, features, logits, (const int32_t[]){2, 2, 2, 2}, 0);
}

static void walk34(rt_net *n, rt_act x, rt_act *features, rt_act *logits)
{
    walk(n, x, features, logits, (const int32_t[]){3, 4, 6, 3}, 0);
}

static void walk50(rt_net *n, rt_act x, rt_act *features, rt_act *logits)
{
    walk(n, x, features, logits, (const int32_t[]){3, 4, 6, 3}, 1);
}

const rt_arch rt_arch_resnet18 = {"resnet18", resolve, walk18};
const rt_arch rt_arch_resnet34 = {"resnet34", resolve, walk34};
const rt_arch rt_arch_resnet50 = {"resnet50", resolve, walk50};
