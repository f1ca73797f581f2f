/* Convolutions by oneDNN: the one file that knows its convolution API (release 2.x).
 *
 * A plan is one primitive with an operand table. An operand whose layout the primitive wants otherwise has a second memory
 * in scratch and a reorder. oneDNN's own scratch is user-supplied, so that the planner books it. run only sets pointers and
 * executes.
 *
 * Layouts: operands are NHWC and [K,C/groups,R,S]; oneDNN names dimensions N,C,H,W whatever the layout. */
#include <string.h>

#include "backend/cpu/conv.h"
#include "base/alloc.h"

enum { X, W, B, Y, OPERANDS };

typedef struct operand {
    bool used, written;
    int slot;                    /* index into io->in or io->out */
    int arg;                     /* DNNL_ARG_* */
    dnnl_memory_desc_t ours, theirs;
    dnnl_memory_t memory, inner; /* inner is NULL when the layouts agree */
    dnnl_primitive_t reorder;
    dnnl_memory_t pad;           /* the reorder's own scratch, or NULL */
    size_t offset, pad_offset;   /* of inner and pad in scratch */
} operand;

typedef struct conv {
    dnnl_stream_t stream; /* borrowed */
    dnnl_primitive_t prim;
    operand op[OPERANDS];
    dnnl_memory_t pad; /* oneDNN's scratch */
    size_t pad_offset;
    dnnl_exec_arg_t args[OPERANDS + 1];
    int n_args;
} conv;

static void release(void *state)
{
    conv *c = state;
    if (!c) return;
    for (int i = 0; i < OPERANDS; i++) {
        if (c->op[i].reorder) dnnl_primitive_destroy(c->op[i].reorder);
        if (c->op[i].pad) dnnl_memory_destroy(c->op[i].pad);
        if (c->op[i].inner) dnnl_memory_destroy(c->op[i].inner);
        if (c->op[i].memory) dnnl_memory_destroy(c->op[i].memory);
    }
    if (c->pad) dnnl_memory_destroy(c->pad);
    if (c->prim) dnnl_primitive_destroy(c->prim);
    rt_free(c);
}

static rt_status execute_reorder(const conv *c, const operand *o, bool inward)
{
    rt_status st = RT_OK;
    dnnl_exec_arg_t a[3] = {{DNNL_ARG_FROM, inward ? o->memory : o->inner},
                            {DNNL_ARG_TO, inward ? o->inner : o->memory},
                            {DNNL_ARG_SCRATCHPAD, o->pad}};
    RT_ONEDNN(dnnl_primitive_execute(o->reorder, c->stream, o->pad ? 3 : 2, a));
out:
    return st;
}

static rt_status run(const rt_conv_plan *p, const rt_kernel_io *io)
{
    rt_status st = RT_OK;
    const conv *c = p->state;
    for (int i = 0; i < OPERANDS; i++) {
        const operand *o = &c->op[i];
        if (!o->used) continue;
        void *at = o->written ? io->out[o->slot] : (void *)(uintptr_t)io->in[o->slot];
        RT_ONEDNN(dnnl_memory_set_data_handle(o->memory, at));
        if (o->inner) RT_ONEDNN(dnnl_memory_set_data_handle(o->inner, (char *)io->scratch + o->offset));
        if (o->pad) RT_ONEDNN(dnnl_memory_set_data_handle(o->pad, (char *)io->scratch + o->pad_offset));
        if (o->inner && !o->written) RT_TRY(execute_reorder(c, o, true));
    }
    if (c->pad) RT_ONEDNN(dnnl_memory_set_data_handle(c->pad, (char *)io->scratch + c->pad_offset));
    RT_ONEDNN(dnnl_primitive_execute(c->prim, c->stream, c->n_args, c->args));
    for (int i = 0; i < OPERANDS; i++)
        if (c->op[i].used && c->op[i].inner && c->op[i].written) RT_TRY(execute_reorder(c, &c->op[i], false));
out:
    return st;
}

static size_t book(size_t *total, size_t bytes)
{
    size_t at = *total;
    *total += (bytes + 255) / 256 * 256;
    return at;
}

/* A memory for the scratch that pd asks for, if any. */
static rt_status attach_pad(rt_cpu *be, const_dnnl_primitive_desc_t pd, dnnl_memory_t *pad, size_t *at, size_t *scratch)
{
    rt_status st = RT_OK;
    const dnnl_memory_desc_t *md = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    if (!md || dnnl_memory_desc_get_size(md) == 0) return RT_OK;
    RT_ONEDNN(dnnl_memory_create(pad, md, be->engine, DNNL_MEMORY_NONE));
    *at = book(scratch, dnnl_memory_desc_get_size(md));
out:
    return st;
}

/* Memories of operand i and, when the primitive wants another layout, its reorder. */
static rt_status attach(conv *c, rt_cpu *be, const_dnnl_primitive_attr_t attr, operand *o, size_t *scratch)
{
    rt_status st = RT_OK;
    dnnl_primitive_desc_t pd = NULL;
    RT_ONEDNN(dnnl_memory_create(&o->memory, &o->ours, be->engine, DNNL_MEMORY_NONE));
    if (!dnnl_memory_desc_equal(&o->ours, &o->theirs)) {
        RT_ONEDNN(dnnl_memory_create(&o->inner, &o->theirs, be->engine, DNNL_MEMORY_NONE));
        o->offset = book(scratch, dnnl_memory_desc_get_size(&o->theirs));
        RT_ONEDNN(dnnl_reorder_primitive_desc_create(&pd, o->written ? &o->theirs : &o->ours, be->engine,
                                                     o->written ? &o->ours : &o->theirs, be->engine, attr));
        RT_ONEDNN(dnnl_primitive_create(&o->reorder, pd));
        RT_TRY(attach_pad(be, pd, &o->pad, &o->pad_offset, scratch));
    }
    c->args[c->n_args++] = (dnnl_exec_arg_t){o->arg, o->inner ? o->inner : o->memory};
out:
    if (pd) dnnl_primitive_desc_destroy(pd);
    return st;
}

/* The primitive descriptor of the node's direction; *fwd is a hint that the caller destroys too. */
static dnnl_status_t describe(rt_cpu *be, const rt_conv_dims *d, dnnl_alg_kind_t alg, const dnnl_memory_desc_t *x,
                              const dnnl_memory_desc_t *w, const dnnl_memory_desc_t *b, const dnnl_memory_desc_t *y,
                              const_dnnl_primitive_attr_t attr, dnnl_primitive_desc_t *fwd, dnnl_primitive_desc_t *pd)
{
    const dnnl_dims_t stride = {d->stride[0], d->stride[1]}, pad = {d->pad[0], d->pad[1]};
    /* Rows the window never reaches (stride) make the right padding smaller, possibly negative. */
    const dnnl_dims_t right = {(d->p - 1) * d->stride[0] + d->r - d->h - d->pad[0],
                               (d->q - 1) * d->stride[1] + d->s - d->w - d->pad[1]};
    dnnl_convolution_desc_t desc;
    dnnl_status_t s = dnnl_convolution_forward_desc_init(
        &desc, d->op == RT_OP_CONV2D ? dnnl_forward_inference : dnnl_forward_training, alg, x, w,
        d->op == RT_OP_CONV2D && d->bias ? b : NULL, y, stride, pad, right);
    if (s == dnnl_success) s = dnnl_primitive_desc_create(fwd, &desc, attr, be->engine, NULL);
    if (s != dnnl_success || d->op == RT_OP_CONV2D) return s;
    if (d->op == RT_OP_CONV2D_DX)
        s = dnnl_convolution_backward_data_desc_init(&desc, alg, x, w, y, stride, pad, right);
    else
        s = dnnl_convolution_backward_weights_desc_init(&desc, alg, x, w, d->bias ? b : NULL, y, stride, pad, right);
    return s == dnnl_success ? dnnl_primitive_desc_create(pd, &desc, attr, be->engine, *fwd) : s;
}

rt_status rt_conv_onednn(rt_cpu *be, const rt_conv_dims *d, rt_conv_layout layout, rt_conv_plan *out)
{
    rt_status st = RT_OK;
    const bool grouped = d->groups > 1, dx = d->op == RT_OP_CONV2D_DX, dw = d->op == RT_OP_CONV2D_DW;
    const dnnl_alg_kind_t alg = layout == RT_CONV_WINOGRAD ? dnnl_convolution_winograd : dnnl_convolution_direct;
    const dnnl_format_tag_t tag = layout == RT_CONV_NHWC ? dnnl_nhwc : dnnl_format_tag_any;
    const dnnl_dims_t xd = {d->n, d->c, d->h, d->w}, yd = {d->n, d->k, d->p, d->q}, bd = {d->k};
    const dnnl_dims_t wd = {d->k, d->c, d->r, d->s};
    const dnnl_dims_t gd = {d->groups, d->k / d->groups, d->c / d->groups, d->r, d->s};
    dnnl_memory_desc_t x, w, b, y;
    dnnl_primitive_desc_t fwd = NULL, pd = NULL;
    dnnl_primitive_attr_t attr = NULL;
    conv *c = NULL;
    size_t scratch = 0;

    RT_ALLOC(c, sizeof *c, "convolution");
    c->stream = be->stream;
    RT_ONEDNN(dnnl_primitive_attr_create(&attr));
    RT_ONEDNN(dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user));
    RT_ONEDNN(dnnl_memory_desc_init_by_tag(&x, 4, xd, dnnl_f32, tag));
    RT_ONEDNN(dnnl_memory_desc_init_by_tag(&y, 4, yd, dnnl_f32, tag));
    RT_ONEDNN(dnnl_memory_desc_init_by_tag(&b, 1, bd, dnnl_f32, dnnl_x));
    RT_ONEDNN(dnnl_memory_desc_init_by_tag(&w, grouped ? 5 : 4, grouped ? gd : wd, dnnl_f32, dnnl_format_tag_any));
    dnnl_status_t s = describe(be, d, alg, &x, &w, &b, &y, attr, &fwd, &pd);
    if (s == dnnl_unimplemented) {
        st = RT_RAISE(RT_ERR_UNSUPPORTED, "oneDNN has no such convolution");
        goto out;
    }
    RT_ONEDNN(s);
    dnnl_primitive_desc_t use = pd ? pd : fwd;
    RT_ONEDNN(dnnl_primitive_desc_query(use, dnnl_query_impl_info_str, 0, &out->impl));
    RT_ONEDNN(dnnl_primitive_create(&c->prim, use));

    /* Our layouts. */
    RT_ONEDNN(dnnl_memory_desc_init_by_tag(&c->op[X].ours, 4, xd, dnnl_f32, dnnl_nhwc));
    RT_ONEDNN(dnnl_memory_desc_init_by_tag(&c->op[Y].ours, 4, yd, dnnl_f32, dnnl_nhwc));
    RT_ONEDNN(dnnl_memory_desc_init_by_tag(&c->op[W].ours, grouped ? 5 : 4, grouped ? gd : wd, dnnl_f32,
                                           grouped ? dnnl_goihw : dnnl_oihw));
    c->op[B].ours = c->op[B].theirs = b;
    c->op[X].theirs = *dnnl_primitive_desc_query_md(use, dx ? dnnl_query_diff_src_md : dnnl_query_src_md, 0);
    c->op[W].theirs = *dnnl_primitive_desc_query_md(use, dw ? dnnl_query_diff_weights_md : dnnl_query_weights_md, 0);
    c->op[Y].theirs =
        *dnnl_primitive_desc_query_md(use, d->op == RT_OP_CONV2D ? dnnl_query_dst_md : dnnl_query_diff_dst_md, 0);
    /* Who reads and writes what: conv2d (x, w, b) -> y; dx (gy, w) -> gx; dw (x, gy) -> dw, db. */
    c->op[X].slot = 0;
    c->op[X].written = dx;
    c->op[X].arg = dx ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC;
    c->op[W].slot = dw ? 0 : 1;
    c->op[W].written = dw;
    c->op[W].arg = dw ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS;
    c->op[B].slot = dw ? 1 : 2;
    c->op[B].written = dw;
    c->op[B].arg = dw ? DNNL_ARG_DIFF_BIAS : DNNL_ARG_BIAS;
    c->op[Y].slot = dw ? 1 : 0;
    c->op[Y].written = d->op == RT_OP_CONV2D;
    c->op[Y].arg = d->op == RT_OP_CONV2D ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST;
    c->op[X].used = c->op[W].used = c->op[Y].used = true;
    c->op[B].used = d->bias;
    for (int i = 0; i < OPERANDS; i++)
        if (c->op[i].used) RT_TRY(attach(c, be, attr, &c->op[i], &scratch));

    RT_TRY(attach_pad(be, use, &c->pad, &c->pad_offset, &scratch));
    if (c->pad) c->args[c->n_args++] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, c->pad};
    out->d = *d;
    out->scratch_bytes = scratch;
    out->run = run;
    out->release = release;
    out->state = c;
    c = NULL;
out:
    if (pd) dnnl_primitive_desc_destroy(pd);
    if (fwd) dnnl_primitive_desc_destroy(fwd);
    if (attr) dnnl_primitive_attr_destroy(attr);
    release(c);
    return st;
}
