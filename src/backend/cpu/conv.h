/* One way of running one convolution node. conv.c chooses among them. */
#ifndef RT_BACKEND_CPU_CONV_H
#define RT_BACKEND_CPU_CONV_H

#include "backend/cpu/cpu.h"
#include "ops/attrs.h"

/* The common geometry of conv2d, conv2d_dx and conv2d_dw, of one network. x [N,H,W,C], w [K,C/groups,R,S], y [N,P,Q,K]. */
typedef struct rt_conv_dims {
    rt_op op;
    int64_t n, h, w, c, k, r, s, p, q;
    int stride[2], pad[2], groups;
    bool bias; /* conv2d reads one, conv2d_dw writes its gradient */
} rt_conv_dims;

rt_conv_dims rt_conv_dims_of(const rt_node *n);

/* in and out are the node's operands; scratch holds scratch_bytes. */
typedef struct rt_conv_plan {
    rt_conv_dims d;
    size_t scratch_bytes;
    const char *impl; /* owned by the library or static */
    rt_status (*run)(const struct rt_conv_plan *p, const rt_kernel_io *io);
    void *state;
    void (*release)(void *state);
} rt_conv_plan;

typedef enum rt_conv_layout {
    RT_CONV_NHWC,     /* oneDNN direct on the operands as they are */
    RT_CONV_BLOCKED,  /* oneDNN direct in its own layout, reordered on the way in and out */
    RT_CONV_WINOGRAD  /* oneDNN Winograd F(4x4,3x3), reordered likewise */
} rt_conv_layout;

typedef rt_status (*rt_conv_make)(rt_cpu *be, const rt_conv_dims *d, rt_conv_plan *out);

/* n networks of geometry d, each by make: in turn on all threads, or side by side on one thread each (conv_nets.c). */
rt_status rt_conv_nets(rt_cpu *be, rt_conv_make make, const rt_conv_dims *d, int64_t n, bool side_by_side,
                       rt_conv_plan *out);

/* RT_ERR_UNSUPPORTED when oneDNN has no such implementation. */
rt_status rt_conv_onednn(rt_cpu *be, const rt_conv_dims *d, rt_conv_layout layout, rt_conv_plan *out);

/* 3x3, stride 1, padding 1, three channels, K a multiple of 32: forward and both gradients by own AVX-512 code; anything
 * else is RT_ERR_UNSUPPORTED. */
rt_status rt_conv_rgb(rt_cpu *be, const rt_conv_dims *d, rt_conv_plan *out);

/* A forward 3x3 of stride and padding 1 by the Winograd code for image gradients, with turned weights; anything else is
 * RT_ERR_UNSUPPORTED. */
rt_status rt_conv_flip(rt_cpu *be, const rt_conv_dims *d, rt_conv_plan *out);

#endif
