/* Convolution nodes: geometry and the choice of an implementation. */
#include "backend/cpu/conv.h"

#include <string.h>

#include "base/alloc.h"

rt_conv_dims rt_conv_dims_of(const rt_node *n)
{
    const rt_conv2d_attr *a = n->attr;
    const rt_shape *x = n->op == RT_OP_CONV2D_DX ? &n->out_shape[0] : &n->in_shape[0];
    const rt_shape *w = n->op == RT_OP_CONV2D_DW ? &n->out_shape[0] : &n->in_shape[1];
    const rt_shape *y = n->op == RT_OP_CONV2D ? &n->out_shape[0] : &n->in_shape[n->op == RT_OP_CONV2D_DW ? 1 : 0];
    return (rt_conv_dims){.op = n->op, .n = x->d[0], .h = x->d[1], .w = x->d[2], .c = x->d[3], .k = w->d[0],
                          .r = w->d[2], .s = w->d[3], .p = y->d[1], .q = y->d[2],
                          .stride = {a->conv.stride[0], a->conv.stride[1]}, .pad = {a->conv.pad[0], a->conv.pad[1]},
                          .groups = a->conv.groups, .bias = a->has_bias != 0};
}

static rt_status prepare(rt_backend *be, rt_prepared *p)
{
    rt_status st = RT_OK;
    const rt_conv_dims d = rt_conv_dims_of(p->node);
    rt_conv_plan *plan = NULL;
    RT_ALLOC(plan, sizeof *plan, "convolution plan");
    RT_TRY(rt_conv_onednn((rt_cpu *)be, &d, RT_CONV_NHWC, plan));
    p->state = plan;
    p->scratch_bytes = plan->scratch_bytes;
    p->impl = plan->impl;
    plan = NULL;
out:
    rt_free(plan);
    return st;
}

static rt_status run(const rt_prepared *p, const rt_kernel_io *io)
{
    const rt_conv_plan *plan = p->state;
    return plan->run(plan, io);
}

static void release(rt_prepared *p)
{
    rt_conv_plan *plan = p->state;
    if (!plan) return;
    plan->release(plan->state);
    rt_free(plan);
}

void rt_cpu_conv_kernels(rt_kernel *t)
{
    t[RT_OP_CONV2D] = t[RT_OP_CONV2D_DX] = t[RT_OP_CONV2D_DW] =
        (rt_kernel){.prepare = prepare, .run = run, .release = release};
}
