/* Internal to src/nn: the model's tables, and one walk over a network.
 *
 * A network is written once, as a function over an rt_net. The first walk *declares* (g == NULL): it registers
 * parameters and statistics and tracks shapes. Every later walk *builds*: it takes the same parameters in the same
 * order as views of theta and appends graph nodes. So names, shapes, offsets and forward code cannot drift apart. */
#ifndef RT_NN_NET_H
#define RT_NN_NET_H

#include "nn/nn.h"

typedef struct rt_net rt_net;

struct rt_model {
    rt_model_desc desc;
    const struct rt_arch *arch;
    rt_param *param;
    rt_model_stat *stat;
    int32_t n_param, cap_param, n_stat, cap_stat;
    int64_t n_theta, n_buffer;
    int32_t feature_dim;
};

/* A feature map [N,h,w,c], or a matrix [N,c] with h == w == 0. v is none while declaring. */
typedef struct rt_act {
    rt_val v;
    int32_t h, w, c;
} rt_act;

struct rt_net {
    rt_model *declare; /* not NULL: declaring walk */
    const rt_model *m;
    rt_graph *g;
    rt_val theta, buffers;
    int64_t batch; /* images of all networks */
    int64_t nets;  /* networks: rows of theta; 1 while declaring */
    int training;
    int32_t next_param, next_stat;
    rt_val *stat_new; /* m->n_stat values, filled by training walks */
    rt_tap_list *taps;     /* NULL: nobody asks */
    rt_forward *relus; /* NULL: ReLU outputs are not asked for; else its relu and n_relu are filled */
    rt_status st;     /* first failure of a walk; layers do nothing after it */
};

typedef struct rt_arch {
    const char *name;
    rt_status (*resolve)(rt_model_desc *d); /* defaults and range checks */
    void (*walk)(rt_net *n, rt_act x, rt_act *features, rt_act *logits);
} rt_arch;
/* The one list of architectures, in the order that messages and choices name them. */
#define RT_ARCHS(X)                                                                                                    \
    X(convnet)                                                                                                         \
    X(mlp)                                                                                                             \
    X(resnet18)                                                                                                        \
    X(resnet34)                                                                                                        \
    X(resnet50)                                                                                                        \
    X(mobilenet_v2)                                                                                                    \
    X(shufflenet_v2_x0_5)                                                                                              \
    X(shufflenet_v2_x1_0)
#define RT_ARCH_DECLARE(name) extern const rt_arch rt_arch_##name;
RT_ARCHS(RT_ARCH_DECLARE)

/* --- param.c -------------------------------------------------------------------------------------------------------
 */
/* The next parameter, "<prefix>.<leaf>": registered while declaring, a view of theta while building. Of M networks the
 * view holds each one's parameter in turn along axis 0: [M K,...] for a shape of [K,...]. */
rt_val rt_net_param(rt_net *n, const char *prefix, const char *leaf, rt_shape shape, rt_init init, int64_t fan);
/* The next running statistic [M count]; *index receives its place in stat_new. */
rt_val rt_net_stat(rt_net *n, const char *prefix, const char *leaf, int64_t count, float init, int32_t *index);
void rt_net_fail(rt_net *n, rt_status st);
/* resolve of the networks without depth and width: the norm they have, and the least size without and with small_stem. */
rt_status rt_net_resolve(rt_model_desc *d, rt_model_norm norm, int32_t least, int32_t least_small);
/* Notes a tap where somebody asks: x is what enters the layer called name. */
void rt_net_tap(rt_net *n, rt_tap_kind kind, const char *name, rt_act x, int32_t mean, int32_t var);

/* --- layers.c ------------------------------------------------------------------------------------------------------
 */
typedef enum rt_activation { RT_ACT_NONE, RT_ACT_RELU, RT_ACT_RELU6, RT_ACT_SILU } rt_activation;
typedef struct rt_conv_norm {
    const char *conv, *norm; /* name prefixes; norm is ignored for RT_MODEL_NORM_NONE */
    int32_t out, kernel, stride, pad;
    int32_t groups; /* 0 and 1: none; as many as channels: depthwise */
    int32_t bias;   /* the convolution has a bias of its own: uniform beside a uniform weight, else zero at the start */
    rt_init init;   /* of the convolution weight */
    rt_model_norm kind;
    rt_activation act; /* after the norm */
    int32_t pool;      /* after that: 2x2 average pooling */
} rt_conv_norm;
rt_act rt_net_conv_norm(rt_net *n, rt_act x, const rt_conv_norm *c);
/* BatchNorm on its own, where no convolution stands before it (pre-activation networks). */
rt_act rt_net_batch_norm(rt_net *n, rt_act x, const char *name, rt_activation act);
rt_act rt_net_linear(rt_net *n, rt_act x, const char *prefix, int32_t out); /* PyTorch's initialisation */
rt_act rt_net_linear_init(rt_net *n, rt_act x, const char *prefix, int32_t out, rt_init weight, rt_init bias);
rt_act rt_net_activate(rt_net *n, rt_act x, rt_activation act);
rt_act rt_net_relu(rt_net *n, rt_act x);
rt_act rt_net_add(rt_net *n, rt_act a, rt_act b);
rt_act rt_net_max_pool(rt_net *n, rt_act x, int32_t size, int32_t stride, int32_t pad);
rt_act rt_net_global_mean(rt_net *n, rt_act x);
rt_act rt_net_flatten(rt_net *n, rt_act x); /* C,H,W order, channel slowest, as an NCHW framework flattens */

#endif
