/* ConvNet-D of the dataset-condensation literature (Zhao, Mopuri, Bilen: "Dataset condensation with gradient matching",
 * ICLR 2021): D blocks of Conv 3x3 (pad 1, with bias) -> norm -> ReLU -> 2x2 average pool, then one linear layer.
 *
 * Names follow an nn.Sequential called `features` holding conv, norm, activation, pool of every block in turn:
 * block d is features.{4d} (conv) and features.{4d+1} (norm); without a norm a block has three entries and its conv is
 * features.{3d}. The classifier is `classifier`. One-channel 28x28 input is padded to 32x32 by the first convolution.
 */
#include <stdio.h>

#include "nn/net.h"

static rt_status resolve(rt_model_desc *d)
{
    if (d->depth == 0) {
        int32_t size = d->size == 28 && d->channels == 1 ? 32 : d->size;
        d->depth = 1;
        while (size >> d->depth > 4) d->depth++;
    }
    if (d->width == 0) d->width = 128;
    if (d->norm == RT_MODEL_NORM_GROUP && d->width % 4 != 0)
        return RT_RAISE(RT_ERR_CONFIG, "width %d does not divide into the 4 groups of group norm", d->width);
    if (d->size >> d->depth < 1) {
        rt_status st = RT_RAISE(RT_ERR_CONFIG, "depth %d halves %d pixels away", d->depth, d->size);
        return rt_error_fix(st, "use a depth below %d, or 0 for the depth that fits", d->depth);
    }
    return RT_OK;
}

static void walk(rt_net *n, rt_act x, rt_act *features, rt_act *logits)
{
    const rt_model_desc *d = &n->m->desc;
    int32_t step = d->norm == RT_MODEL_NORM_NONE ? 3 : 4;
    char conv[32], norm[32];

    for (int32_t i = 0; i < d->depth; i++) {
        snprintf(conv, sizeof conv, "features.%d", step * i);
        snprintf(norm, sizeof norm, "features.%d", step * i + 1);
        x = rt_net_conv_norm(n, x,
                             &(rt_conv_norm){.conv = conv,
                                             .norm = norm,
                                             .out = d->width,
                                             .kernel = 3,
                                             .stride = 1,
                                             .pad = i == 0 && d->size == 28 && d->channels == 1 ? 3 : 1,
                                             .bias = 1,
                                             .init = RT_INIT_UNIFORM_FAN_IN,
                                             .kind = d->norm,
                                             .act = RT_ACT_RELU,
                                             .pool = 1});
    }
    *features = rt_net_flatten(n, x);
    *logits = rt_net_linear(n, *features, "classifier", d->classes);
}

const rt_arch rt_arch_convnet = {"convnet", resolve, walk};
