/* Networks as graph builders over one flat parameter vector theta.
 *
 * A model is a list of named parameters (torchvision state_dict names, shapes and offsets into theta), a list of named
 * buffers (BatchNorm running statistics) and a function that builds its forward graph. Layers: layers.c. */
#ifndef RT_NN_NN_H
#define RT_NN_NN_H

#include <stdint.h>

#include "artefact/safetensors.h"
#include "retort/graph.h"

typedef enum rt_init {
    RT_INIT_UNIFORM_FAN_IN,         /* +-1/sqrt(fan_in), PyTorch's default */
    RT_INIT_UNIFORM_FAN_OUT,        /* +-1/sqrt(fan_out) */
    RT_INIT_KAIMING_NORMAL_FAN_IN,  /* standard deviation sqrt(2/fan_in) */
    RT_INIT_KAIMING_NORMAL_FAN_OUT, /* sqrt(2/fan_out) */
    RT_INIT_NORMAL_001,             /* 0.01 */
    RT_INIT_ONE,
    RT_INIT_ZERO
} rt_init;
typedef struct rt_param {
    char name[64];
    rt_shape shape;
    int64_t offset, count; /* into theta; weights [K,C,R,S] and [out,in] as torchvision keeps them */
    rt_init init;
    int64_t fan; /* fan_in or fan_out, as init wants; 1 where it wants none */
} rt_param;
/* A BatchNorm statistic: not trained, but part of the state_dict. */
typedef struct rt_model_stat {
    char name[64];         /* "bn1.running_mean" */
    int64_t offset, count; /* into the flat buffer vector */
    float init;            /* 0 (mean) or 1 (variance) */
} rt_model_stat;

typedef enum rt_model_norm {
    RT_MODEL_NORM_NONE,
    RT_MODEL_NORM_INSTANCE, /* GroupNorm with groups == channels: affine, no running statistics */
    RT_MODEL_NORM_BATCH,
    RT_MODEL_NORM_LAYER, /* over C,H,W of a sample, affine per element (as the DC code base has it) */
    RT_MODEL_NORM_GROUP  /* 4 groups */
} rt_model_norm;
typedef struct rt_model_desc {
    char arch[32];        /* one of rt_model_arch: torchvision names */
    int32_t depth, width; /* convnet: blocks (0: by resolution, so that the last map is 4x4), channels (0: 128);
                           * mlp: hidden layers (0: 2), units (0: 128); ignored by the others */
    rt_model_norm norm;   /* convnet */
    int32_t size, channels, classes; /* input is [N,size,size,channels] */
    int32_t small_stem;              /* variant for 32 to 64 pixels, where a network has one: see the head of its file */
} rt_model_desc;

typedef struct rt_model rt_model;
/* Name of architecture i = 0, 1, ...; NULL past the last. */
const char *rt_model_arch(int32_t i);
/* RT_ERR_CONFIG names the field that does not fit. */
rt_status rt_model_create(const rt_model_desc *d, rt_model **out);
void rt_model_destroy(rt_model *m);
const rt_model_desc *rt_model_desc_of(const rt_model *m); /* with depth and width resolved */
int64_t rt_model_n_params(const rt_model *m);             /* length of theta */
int64_t rt_model_n_buffers(const rt_model *m); /* length of the flat buffer vector (running mean/var), may be 0 */
int32_t rt_model_param_count(const rt_model *m);
const rt_param *rt_model_param(const rt_model *m, int32_t i);
int32_t rt_model_stat_count(const rt_model *m);
const rt_model_stat *rt_model_stat_at(const rt_model *m, int32_t i);
int32_t rt_model_feature_dim(const rt_model *m);

/* What rt_model_forward is asked for besides logits and features; OR them. */
enum {
    RT_FORWARD_TRAINING = 1, /* batch statistics; the value 1 also reads as a plain `training` */
    RT_FORWARD_RELUS = 2     /* fill relu: the output map of every ReLU, ReLU6 and SiLU, before pooling. Norm and pooling are
                              * not fused then. */
};
enum { RT_FORWARD_MAX_RELUS = 128 };

typedef struct rt_forward {
    rt_val logits, features; /* [N,classes], [N,feature_dim] (what the classifier sees) */
    rt_val buffers_new;      /* training mode with BatchNorm: updated flat buffers [B], no gradient; else none */
    rt_val relu[RT_FORWARD_MAX_RELUS]; /* with RT_FORWARD_RELUS: maps [N,h,w,c] in the order of the network */
    int32_t n_relu;          /* layers without a map (those of the MLP) are not listed */
} rt_forward;
/* What enters a layer, for losses on statistics inside a network (DeepInversion; decoupled.md 1.3, 2.4). Every BatchNorm
 * and every convolution is one tap, in the order of the network; `input` of a BatchNorm is the convolution's output before
 * the norm. */
typedef enum rt_tap_kind { RT_TAP_NORM, RT_TAP_CONV } rt_tap_kind;
typedef struct rt_tap {
    rt_tap_kind kind;
    char name[64];     /* of the module: "layer1.0.bn1" */
    rt_val input;      /* [N,h,w,c] */
    int32_t h, w, c;
    int32_t mean, var; /* RT_TAP_NORM: which statistics (rt_model_stat_at) hold the running ones; RT_TAP_CONV: -1 */
} rt_tap;
enum { RT_MAX_TAPS = 320 };
typedef struct rt_tap_list {
    int32_t n;
    rt_tap tap[RT_MAX_TAPS];
} rt_tap_list;

/* x [N,size,size,channels]; theta [P]; buffers [B] or none when the model has none. training: BatchNorm uses batch
 * statistics and updates the running ones (momentum 0.1, unbiased variance); otherwise the running ones, folded into
 * the convolution in front. Features and logits do not depend on layout: maps are flattened in C,H,W order.
 *
 * M networks at once: theta [M,P], buffers [M,B], x [M n,size,size,channels] in M equal blocks; logits [M n,classes] and
 * buffers_new [M,B]. Network m sees block m alone, and computes what it would on its own. Rows of theta stay whole (one
 * network is one piece of memory, as files and optimisers want it), so each parameter is gathered from M rows: one copy of
 * theta per pass, a few percent of its optimiser step's traffic. */
rt_status rt_model_forward(const rt_model *m, rt_graph *g, rt_val x, rt_val theta, rt_val buffers, int training,
                           rt_forward *out);
/* The same, and fills taps (large: keep it on the heap). A BatchNorm outside training is then an affine map of its own, not
 * folded into the convolution, so that its input exists. */
rt_status rt_model_forward_tapped(const rt_model *m, rt_graph *g, rt_val x, rt_val theta, rt_val buffers, int training,
                                  rt_tap_list *taps, rt_forward *out);
/* Gradient of scalar y with respect to the flat theta, as one [P] (or [M,P]) value: differentiates with respect to each
 * parameter's slice and concatenates. theta must be the value given to rt_model_forward in the same graph. */
rt_status rt_model_grad(const rt_model *m, rt_graph *g, rt_val y, rt_val theta, rt_val *grad);
/* The same as separate values, for the parameters index[0..n) only: grad[k] is [count] (or [M,count]) of parameter index[k]. Where a
 * gradient is differentiated again this spares the concatenation and its adjoint. */
rt_status rt_model_grads(const rt_model *m, rt_graph *g, rt_val y, rt_val theta, const int32_t *index, int32_t n, rt_val *grad);
/* The slices of theta that the forward pass reads, [count] or [M,count] of parameter index[k]: what those gradients are
 * for, and what a tangent (rt_jvp) moves along. */
rt_status rt_model_views(const rt_model *m, rt_graph *g, rt_val theta, const int32_t *index, int32_t n, rt_val *view);
/* Mask for weight decay: 1 on parameters of rank >= 2 named *weight, else 0 (decoupled.md 1.8). out has P floats. */
void rt_model_decay_mask(const rt_model *m, float *out);
/* The initialisation of torchvision's class of that name (PyTorch's default for convnet and mlp), network number `index` under `seed`. A pure function of
 * (seed, index, parameter): each parameter has its own stream. buffers may be NULL when the model has none. */
void rt_model_init(const rt_model *m, uint64_t seed, uint64_t index, float *theta, float *buffers);

/* state_dict <-> theta. Reads strip "module." and "_orig_mod."; every missing, unexpected or misshapen tensor is named:
 * the first few in the error (RT_ERR_FORMAT), all of them as log lines. num_batches_tracked is accepted and ignored,
 * and written as 0. `name` is how messages call the file. theta and buffers are untouched on failure. */
rt_status rt_model_load(const rt_model *m, const rt_st_file *f, const char *name, float *theta, float *buffers);
rt_status rt_model_save(const rt_model *m, const char *path, const float *theta, const float *buffers,
                        const char *const *meta, int n_meta);

#endif
