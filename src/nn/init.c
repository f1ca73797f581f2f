/* Initial weights. PyTorch's default for Conv2d and Linear: weight and bias uniform in +-1/sqrt(fan_in) (its
 * kaiming_uniform with a = sqrt 5). Most networks of torchvision: convolutions normal with sd sqrt(2/fan_out) (He et al. 2015,
 * arXiv 1502.01852, equation 14; fan_out counts every output channel, grouped or not), BatchNorm weight 1, bias 0.
 *
 * Parameter p of network `index` reads the stream (seed, RT_RNG_INIT, index, p), so its values depend on nothing else.
 */
#include <math.h>

#include "base/rng.h"
#include "nn/net.h"

void rt_model_init(const rt_model *m, uint64_t seed, uint64_t index, float *theta, float *buffers)
{
    for (int32_t i = 0; i < m->n_param; i++) {
        const rt_param *p = &m->param[i];
        rt_rng r = rt_rng_at(seed, RT_RNG_INIT, index, (uint32_t)i);
        float *w = theta + p->offset;

        switch (p->init) {
        case RT_INIT_UNIFORM_FAN_IN:
        case RT_INIT_UNIFORM_FAN_OUT: {
            double bound = 1.0 / sqrt((double)p->fan);
            for (int64_t k = 0; k < p->count; k++) w[k] = (float)rt_rng_uniform_in(&r, -bound, bound);
            break;
        }
        case RT_INIT_KAIMING_NORMAL_FAN_IN:
        case RT_INIT_KAIMING_NORMAL_FAN_OUT:
        case RT_INIT_NORMAL_001: {
            double sd = p->init == RT_INIT_NORMAL_001 ? 0.01 : sqrt(2.0 / (double)p->fan);
            for (int64_t k = 0; k < p->count; k++) w[k] = (float)(sd * rt_rng_normal(&r));
            break;
        }
        case RT_INIT_ONE:
        case RT_INIT_ZERO:
            for (int64_t k = 0; k < p->count; k++) w[k] = p->init == RT_INIT_ONE ? 1.0f : 0.0f;
            break;
        }
    }
    for (int32_t i = 0; i < m->n_stat; i++)
        for (int64_t k = 0; k < m->stat[i].count; k++) buffers[m->stat[i].offset + k] = m->stat[i].init;
}
