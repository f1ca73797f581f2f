/* Convolution on the device: geometry, and the engines cuDNN offers for it. Private to conv.c and conv_dnn.c. */
#ifndef RT_BACKEND_CUDA_CONV_H
#define RT_BACKEND_CUDA_CONV_H

#include "backend/cuda/cuda.h"

/* One network's share: x [n,h,w,c], w [k,cg,r,s], y [n,p,q,k]. */
typedef struct rt_dnn_dims {
    rt_op op;
    int64_t n, h, w, c, k, cg, r, s, p, q;
    int64_t stride[2], pad[2];
    int64_t align[3]; /* of x, w, y in bytes: 16, or less where networks follow each other at odd distances */
} rt_dnn_dims;

/* The three operands in cuDNN's terms, whatever the direction. */
typedef enum rt_dnn_operand { RT_DNN_X, RT_DNN_W, RT_DNN_Y, RT_DNN_OPERANDS } rt_dnn_operand;
static inline rt_dnn_operand rt_dnn_result(rt_op op) { return op == RT_OP_CONV2D ? RT_DNN_Y : op == RT_OP_CONV2D_DX ? RT_DNN_X : RT_DNN_W; }

enum { RT_DNN_MAX_WAYS = 12, RT_DNN_VARIANTS = 2 };
#define RT_DNN_MAX_WORKSPACE ((int64_t)1 << 30)

/* An engine with its settings, on one of the variants of the operation. */
typedef struct rt_dnn_way {
    int variant;
    char name[160];     /* "1:e37k2=1,3=0": in the algorithm cache, do not change */
    void *cfg, *engine, *plan;
    int64_t workspace;
} rt_dnn_way;

/* The same convolution with other types of operand and result. */
typedef struct rt_dnn_variant {
    int in_type, out_type; /* RT_CUDNN_DATA_* */
    void *tensor[RT_DNN_OPERANDS], *conv, *op, *graph;
} rt_dnn_variant;

typedef struct rt_dnn_conv {
    rt_cuda_backend *be;
    rt_dnn_dims d;
    int n_variants, n_ways, pick;
    rt_dnn_variant variant[RT_DNN_VARIANTS];
    rt_dnn_way way[RT_DNN_MAX_WAYS];
} rt_dnn_conv;

/* Lists the ways in cuDNN's order of preference, without those that the precision or strict mode forbids; types: n_variants
 * pairs of operand and result type. c is zeroed by the caller and closed by it whatever is returned. UNSUPPORTED: none. */
rt_status rt_dnn_open(rt_cuda_backend *be, const rt_dnn_dims *d, const int types[][2], int n_variants, rt_dnn_conv *c);
void rt_dnn_close(rt_dnn_conv *c);
/* Makes way i ready to run and sets its workspace; UNSUPPORTED when it cannot, or needs too much. Once is enough. */
rt_status rt_dnn_ready(rt_dnn_conv *c, int i);
/* Frees all but way i. */
void rt_dnn_keep(rt_dnn_conv *c, int i);
/* NHWC, and w as [k,r,s,cg], in the types of the way's variant. */
rt_status rt_dnn_execute(const rt_dnn_conv *c, int i, void *const operand[RT_DNN_OPERANDS], void *workspace);

#endif
