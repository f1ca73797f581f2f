/* Networks as graph builders over one flat parameter vector theta.
 *
 * A model is a list of named parameters (torchvision state_dict names, shapes and offsets into theta), a list of named
 * buffers (BatchNorm running statistics) and a function that builds its forward graph. Layers are functions in layers.c.
 */
#ifndef RT_NN_NN_H
#define RT_NN_NN_H

#include <stdint.h>

#include "artefact/safetensors.h"
#include "retort/graph.h"

typedef enum rt_init { RT_INIT_UNIFORM_FAN_IN, RT_INIT_KAIMING_NORMAL_FAN_OUT, RT_INIT_ONE, RT_INIT_ZERO } rt_init;
typedef struct rt_param {
    char name[64];
    rt_shape shape;
    int64_t offset, count; /* into theta; weights [K,C,R,S] and [out,in] as torchvision keeps them */
    rt_init init;
    int64_t fan;           /* fan_in or fan_out, as init wants */
} rt_param;

typedef enum rt_model_norm { RT_MODEL_NORM_NONE, RT_MODEL_NORM_INSTANCE, RT_MODEL_NORM_BATCH, RT_MODEL_NORM_LAYER, RT_MODEL_NORM_GROUP } rt_model_norm;
typedef struct rt_model_desc {
    char arch[32];         /* "convnet" | "mlp" | "resnet18" | "resnet50" (torchvision names) */
    int32_t depth, width;  /* convnet: 3, 128; mlp: hidden layers, 2 x 128 */
    rt_model_norm norm;    /* convnet */
    int32_t size, channels, classes; /* input is [N,size,size,channels] */
    int32_t small_stem;    /* resnet: 3x3 stride 1 stem without max pool */
} rt_model_desc;

typedef struct rt_model rt_model;
rt_status rt_model_create(const rt_model_desc *d, rt_model **out);
void rt_model_destroy(rt_model *m);
const rt_model_desc *rt_model_desc_of(const rt_model *m);
int64_t rt_model_n_params(const rt_model *m);   /* length of theta */
int64_t rt_model_n_buffers(const rt_model *m);  /* length of the flat buffer vector (running mean/var), may be 0 */
int32_t rt_model_param_count(const rt_model *m);
const rt_param *rt_model_param(const rt_model *m, int32_t i);
int32_t rt_model_feature_dim(const rt_model *m);

typedef struct rt_forward {
    rt_val logits, features; /* [N,classes], [N,feature_dim] (what the classifier sees) */
    rt_val buffers_new;      /* training mode with BatchNorm: updated flat buffers; else none */
} rt_forward;
/* x [N,size,size,channels]; theta [P]; buffers [B] or none when the model has none. */
rt_status rt_model_forward(const rt_model *m, rt_graph *g, rt_val x, rt_val theta, rt_val buffers, int training, rt_forward *out);
/* Gradient of scalar y with respect to the flat theta, as one [P] value: differentiates with respect to each parameter
 * view and concatenates. theta must be the value given to rt_model_forward in the same graph. */
rt_status rt_model_grad(const rt_model *m, rt_graph *g, rt_val y, rt_val theta, rt_val *grad);
/* Mask for weight decay: 1 on parameters of rank >= 2 named *weight, else 0 (decoupled.md 1.8). out has P floats. */
void rt_model_decay_mask(const rt_model *m, float *out);
/* PyTorch's default initialisation (torchvision's for ResNets), network number `index` under `seed`. */
void rt_model_init(const rt_model *m, uint64_t seed, uint64_t index, float *theta, float *buffers);

/* state_dict <-> theta. Reads strip "module." and "_orig_mod."; every missing, unexpected or misshapen tensor is named. */
rt_status rt_model_load(const rt_model *m, const rt_st_file *f, const char *name, float *theta, float *buffers);
rt_status rt_model_save(const rt_model *m, const char *path, const float *theta, const float *buffers,
                        const char *const *meta, int n_meta);

#endif
