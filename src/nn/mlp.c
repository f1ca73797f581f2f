/* The MLP of the cross-architecture pools: flatten (C,H,W), `depth` hidden layers of `width` units with ReLU, one
 * linear layer. Layers are called fc_1 ... fc_{depth+1}. Features are the last hidden activations. */
#include <stdio.h>

#include "nn/net.h"

static rt_status resolve(rt_model_desc *d)
{
    if (d->depth == 0) d->depth = 2;
    if (d->width == 0) d->width = 128;
    if ((int64_t)d->size * d->size * d->channels > INT32_MAX)
        return RT_RAISE(RT_ERR_CONFIG, "an input of %dx%dx%d is too large to flatten", d->size, d->size, d->channels);
    return RT_OK;
}

static void walk(rt_net *n, rt_act x, rt_act *features, rt_act *logits)
{
    const rt_model_desc *d = &n->m->desc;
    char name[16];

    x = rt_net_flatten(n, x);
    for (int32_t i = 1; i <= d->depth; i++) {
        snprintf(name, sizeof name, "fc_%d", i);
        x = rt_net_relu(n, rt_net_linear(n, x, name, d->width));
    }
    snprintf(name, sizeof name, "fc_%d", d->depth + 1);
    *features = x;
    *logits = rt_net_linear(n, x, name, d->classes);
}

const rt_arch rt_arch_mlp = {"mlp", resolve, walk};
