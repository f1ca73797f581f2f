/* cuDNN's graph API for one convolution: describe the operation, ask which engines can do it, make one of them a plan, run it.
 *
 * Descriptors refer to each other, so everything below a plan lives as long as the plan. All tensors are NHWC, the filter
 * KRSC: the layout all tensor-core engines share; cuDNN takes dimensions in the order N,C,H,W whatever the strides say.
 *
 * Which engines are allowed: never one that accumulates in less than float32. In f32, none that uses tensor cores (they
 * round operands to TF32); in tf32, none that rounds further. In strict mode, none that is not deterministic. */
#include "backend/cuda/conv.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { MAX_KNOBS = 64, MAX_NOTES = 16, MAX_FOUND = 32 };

static rt_status make(const rt_cudnn *l, int type, void **d)
{
    rt_status st = RT_OK;
    RT_CUDNN(l, cudnnBackendCreateDescriptor(type, d));
out:
    return st;
}

static rt_status set(const rt_cudnn *l, void *d, int name, int type, int64_t count, const void *v)
{
    rt_status st = RT_OK;
    RT_CUDNN(l, cudnnBackendSetAttribute(d, name, type, count, v));
out:
    if (st != RT_OK) return rt_error_frame(st, __FILE__, __LINE__, "attribute %d", name);
    return st;
}

static rt_status finish(const rt_cudnn *l, void *d, const char *what)
{
    rt_status st = RT_OK;
    RT_CUDNN(l, cudnnBackendFinalize(d));
out:
    if (st != RT_OK) return rt_error_frame(st, __FILE__, __LINE__, "%s", what);
    return st;
}

static void drop(const rt_cudnn *l, void **d)
{
    if (*d) (void)l->cudnnBackendDestroyDescriptor(*d);
    *d = NULL;
}

/* --- the operation ------------------------------------------------------------------------------------------------------ */
/* dims in N,C,H,W; memory in N,H,W,C. */
static rt_status make_tensor(const rt_cudnn *l, int64_t id, int type, int64_t align, const int64_t dims[4], void **out)
{
    rt_status st = RT_OK;
    const int64_t stride[4] = {dims[1] * dims[2] * dims[3], 1, dims[3] * dims[1], dims[1]};
    RT_TRY(make(l, RT_CUDNN_BACKEND_TENSOR_DESCRIPTOR, out));
    RT_TRY(set(l, *out, RT_CUDNN_ATTR_TENSOR_DATA_TYPE, RT_CUDNN_TYPE_DATA_TYPE, 1, &type));
    RT_TRY(set(l, *out, RT_CUDNN_ATTR_TENSOR_DIMENSIONS, RT_CUDNN_TYPE_INT64, 4, dims));
    RT_TRY(set(l, *out, RT_CUDNN_ATTR_TENSOR_STRIDES, RT_CUDNN_TYPE_INT64, 4, stride));
    RT_TRY(set(l, *out, RT_CUDNN_ATTR_TENSOR_UNIQUE_ID, RT_CUDNN_TYPE_INT64, 1, &id));
    RT_TRY(set(l, *out, RT_CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, RT_CUDNN_TYPE_INT64, 1, &align));
    RT_TRY(finish(l, *out, "tensor"));
out:
    return st;
}

static rt_status make_geometry(const rt_cudnn *l, const rt_dnn_dims *d, void **out)
{
    rt_status st = RT_OK;
    const int compute = RT_CUDNN_DATA_FLOAT, mode = RT_CUDNN_CROSS_CORRELATION;
    const int64_t axes = 2, dilation[2] = {1, 1};
    RT_TRY(make(l, RT_CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, out));
    RT_TRY(set(l, *out, RT_CUDNN_ATTR_CONVOLUTION_COMP_TYPE, RT_CUDNN_TYPE_DATA_TYPE, 1, &compute));
    RT_TRY(set(l, *out, RT_CUDNN_ATTR_CONVOLUTION_CONV_MODE, RT_CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode));
    RT_TRY(set(l, *out, RT_CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, RT_CUDNN_TYPE_INT64, 1, &axes));
    RT_TRY(set(l, *out, RT_CUDNN_ATTR_CONVOLUTION_DILATIONS, RT_CUDNN_TYPE_INT64, 2, dilation));
    RT_TRY(set(l, *out, RT_CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, RT_CUDNN_TYPE_INT64, 2, d->stride));
    RT_TRY(set(l, *out, RT_CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, RT_CUDNN_TYPE_INT64, 2, d->pad));
    RT_TRY(set(l, *out, RT_CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, RT_CUDNN_TYPE_INT64, 2, d->pad));
    RT_TRY(finish(l, *out, "convolution"));
out:
    return st;
}

/* Attribute names of the three directions, in the order x, w, y, geometry, alpha, beta. */
static const struct direction {
    int descriptor, name[6];
} directions[] = {
    {RT_CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
     {RT_CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, RT_CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, RT_CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
      RT_CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, RT_CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
      RT_CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA}},
    {RT_CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
     {RT_CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, RT_CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, RT_CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
      RT_CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, RT_CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
      RT_CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA}},
    {RT_CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
     {RT_CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, RT_CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
      RT_CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, RT_CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
      RT_CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, RT_CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA}},
};

static rt_status make_graph(rt_cuda_backend *be, const rt_dnn_dims *d, rt_dnn_variant *v)
{
    rt_status st = RT_OK;
    const rt_cudnn *l = &be->dnn;
    const struct direction *dir = &directions[d->op == RT_OP_CONV2D ? 0 : d->op == RT_OP_CONV2D_DX ? 1 : 2];
    const int64_t dims[RT_DNN_OPERANDS][4] = {{d->n, d->c, d->h, d->w}, {d->k, d->cg, d->r, d->s}, {d->n, d->k, d->p, d->q}};
    const float alpha = 1, beta = 0;
    for (int i = 0; i < RT_DNN_OPERANDS; i++)
        RT_TRY(make_tensor(l, i + 1, i == (int)rt_dnn_result(d->op) ? v->out_type : v->in_type, d->align[i], dims[i], &v->tensor[i]));
    RT_TRY(make_geometry(l, d, &v->conv));
    RT_TRY(make(l, dir->descriptor, &v->op));
    for (int i = 0; i < RT_DNN_OPERANDS; i++) RT_TRY(set(l, v->op, dir->name[i], RT_CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &v->tensor[i]));
    RT_TRY(set(l, v->op, dir->name[3], RT_CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &v->conv));
    RT_TRY(set(l, v->op, dir->name[4], RT_CUDNN_TYPE_FLOAT, 1, &alpha));
    RT_TRY(set(l, v->op, dir->name[5], RT_CUDNN_TYPE_FLOAT, 1, &beta));
    RT_TRY(finish(l, v->op, "operation"));
    RT_TRY(make(l, RT_CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, &v->graph));
    RT_TRY(set(l, v->graph, RT_CUDNN_ATTR_OPERATIONGRAPH_HANDLE, RT_CUDNN_TYPE_HANDLE, 1, &be->dnn_handle));
    RT_TRY(set(l, v->graph, RT_CUDNN_ATTR_OPERATIONGRAPH_OPS, RT_CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &v->op));
    RT_TRY(finish(l, v->graph, "operation graph"));
out:
    return st;
}

/* --- engines ------------------------------------------------------------------------------------------------------------ */
static bool allowed(const rt_cuda_backend *be, const int *notes, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        switch (notes[i]) {
        case RT_CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION:
        case RT_CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13: return false; /* loses about three digits */
        case RT_CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC:
            if (be->base.opts.strict) return false;
            break;
        case RT_CUDNN_NUMERICAL_NOTE_TENSOR_CORE:
            if (be->base.opts.precision == RT_PRECISION_F32) return false;
            break;
        case RT_CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS:
            if (be->base.opts.precision != RT_PRECISION_BF16) return false;
            break;
        default: break;
        }
    return true;
}

/* The engine and its settings as text. */
static rt_status name_way(const rt_cudnn *l, rt_dnn_way *w)
{
    rt_status st = RT_OK;
    void *knob[MAX_KNOBS] = {0};
    int64_t index = 0, n = 0;
    RT_CUDNN(l, cudnnBackendGetAttribute(w->engine, RT_CUDNN_ATTR_ENGINE_GLOBAL_INDEX, RT_CUDNN_TYPE_INT64, 1, &n, &index));
    int at = snprintf(w->name, sizeof w->name, "%d:e%" PRId64, w->variant, index);
    RT_CUDNN(l, cudnnBackendGetAttribute(w->cfg, RT_CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, RT_CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &n, NULL));
    if (n > MAX_KNOBS) n = MAX_KNOBS;
    for (int64_t i = 0; i < n; i++) RT_TRY(make(l, RT_CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, &knob[i]));
    if (n > 0) RT_CUDNN(l, cudnnBackendGetAttribute(w->cfg, RT_CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, RT_CUDNN_TYPE_BACKEND_DESCRIPTOR, n, &n, knob));
    for (int64_t i = 0; i < n && i < MAX_KNOBS && at < (int)sizeof w->name; i++) {
        int type = 0;
        int64_t value = 0, one = 0;
        RT_CUDNN(l, cudnnBackendGetAttribute(knob[i], RT_CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, RT_CUDNN_TYPE_KNOB_TYPE, 1, &one, &type));
        RT_CUDNN(l, cudnnBackendGetAttribute(knob[i], RT_CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, RT_CUDNN_TYPE_INT64, 1, &one, &value));
        at += snprintf(w->name + at, sizeof w->name - (size_t)at, "%s%d=%" PRId64, i ? "," : "k", type, value);
    }
out:
    for (int i = 0; i < MAX_KNOBS; i++) drop(l, &knob[i]);
    return st;
}

/* Takes *cfg (sets it to NULL) when its engine is allowed. */
static rt_status add_way(rt_dnn_conv *c, int variant, void **cfg)
{
    rt_status st = RT_OK;
    const rt_cudnn *l = &c->be->dnn;
    rt_dnn_way *w = &c->way[c->n_ways];
    int notes[MAX_NOTES] = {0};
    int64_t n = 0;
    *w = (rt_dnn_way){.variant = variant};
    RT_TRY(make(l, RT_CUDNN_BACKEND_ENGINE_DESCRIPTOR, &w->engine));
    RT_CUDNN(l, cudnnBackendGetAttribute(*cfg, RT_CUDNN_ATTR_ENGINECFG_ENGINE, RT_CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &w->engine));
    RT_CUDNN(l, cudnnBackendGetAttribute(w->engine, RT_CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, RT_CUDNN_TYPE_NUMERICAL_NOTE, MAX_NOTES, &n, notes));
    if (allowed(c->be, notes, n < MAX_NOTES ? n : MAX_NOTES)) {
        w->cfg = *cfg;
        *cfg = NULL;
        c->n_ways++;
        RT_TRY(name_way(l, w));
        return RT_OK;
    }
out:
    if (c->way + c->n_ways == w) drop(l, &w->engine);
    return st;
}

/* What the heuristic proposes for a variant, at most `most` ways in all. */
static rt_status ask(rt_dnn_conv *c, int variant, int mode, int most)
{
    rt_status st = RT_OK;
    const rt_cudnn *l = &c->be->dnn;
    void *heur = NULL, *cfg[MAX_FOUND] = {0};
    int64_t n = 0;
    RT_TRY(make(l, RT_CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, &heur));
    RT_TRY(set(l, heur, RT_CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, RT_CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &c->variant[variant].graph));
    RT_TRY(set(l, heur, RT_CUDNN_ATTR_ENGINEHEUR_MODE, RT_CUDNN_TYPE_HEUR_MODE, 1, &mode));
    st = finish(l, heur, "heuristic");
    if (st == RT_ERR_UNSUPPORTED) { /* no engine at all: not an error here */
        st = RT_OK;
        goto out;
    }
    RT_TRY(st);
    RT_CUDNN(l, cudnnBackendGetAttribute(heur, RT_CUDNN_ATTR_ENGINEHEUR_RESULTS, RT_CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &n, NULL));
    if (n > MAX_FOUND) n = MAX_FOUND;
    for (int64_t i = 0; i < n; i++) RT_TRY(make(l, RT_CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &cfg[i]));
    if (n > 0) RT_CUDNN(l, cudnnBackendGetAttribute(heur, RT_CUDNN_ATTR_ENGINEHEUR_RESULTS, RT_CUDNN_TYPE_BACKEND_DESCRIPTOR, n, &n, cfg));
    for (int64_t i = 0; i < n && i < MAX_FOUND && c->n_ways < most; i++) RT_TRY(add_way(c, variant, &cfg[i]));
out:
    for (int i = 0; i < MAX_FOUND; i++) drop(l, &cfg[i]);
    drop(l, &heur);
    return st;
}

rt_status rt_dnn_open(rt_cuda_backend *be, const rt_dnn_dims *d, const int types[][2], int n_variants, rt_dnn_conv *c)
{
    rt_status st = RT_OK;
    c->be = be;
    c->d = *d;
    for (int v = 0; v < n_variants; v++) {
        c->variant[v].in_type = types[v][0];
        c->variant[v].out_type = types[v][1];
        c->n_variants = v + 1;
        st = make_graph(be, d, &c->variant[v]);
        if (st == RT_ERR_UNSUPPORTED) continue;
        if (st != RT_OK) goto out;
        const int most = RT_DNN_MAX_WAYS * (v + 1) / n_variants; /* the last two places are for what runs in any case */
        RT_TRY(ask(c, v, RT_CUDNN_HEUR_MODE_A, most - 2));
        RT_TRY(ask(c, v, RT_CUDNN_HEUR_MODE_FALLBACK, most));
    }
    st = RT_OK;
    if (c->n_ways == 0)
        st = RT_RAISE(RT_ERR_UNSUPPORTED, "cuDNN has no engine for this convolution in %s%s", rt_precision_name(be->base.opts.precision),
                      be->base.opts.strict ? " that is deterministic" : "");
out:
    return st;
}

rt_status rt_dnn_ready(rt_dnn_conv *c, int i)
{
    rt_status st = RT_OK;
    const rt_cudnn *l = &c->be->dnn;
    rt_dnn_way *w = &c->way[i];
    int64_t n = 0;
    if (w->plan) return RT_OK;
    RT_TRY(make(l, RT_CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &w->plan));
    RT_TRY(set(l, w->plan, RT_CUDNN_ATTR_EXECUTION_PLAN_HANDLE, RT_CUDNN_TYPE_HANDLE, 1, &c->be->dnn_handle));
    RT_TRY(set(l, w->plan, RT_CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, RT_CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &w->cfg));
    RT_TRY(finish(l, w->plan, "execution plan"));
    RT_CUDNN(l, cudnnBackendGetAttribute(w->plan, RT_CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, RT_CUDNN_TYPE_INT64, 1, &n, &w->workspace));
    if (w->workspace > RT_DNN_MAX_WORKSPACE)
        st = RT_RAISE(RT_ERR_UNSUPPORTED, "engine %s wants %.1f GiB of workspace", w->name, (double)w->workspace / (1 << 30));
out:
    if (st != RT_OK) drop(l, &w->plan);
    return st;
}

static void drop_way(const rt_cudnn *l, rt_dnn_way *w)
{
    drop(l, &w->plan);
    drop(l, &w->engine);
    drop(l, &w->cfg);
}

static void drop_variant(const rt_cudnn *l, rt_dnn_variant *v)
{
    drop(l, &v->graph);
    drop(l, &v->op);
    drop(l, &v->conv);
    for (int i = 0; i < RT_DNN_OPERANDS; i++) drop(l, &v->tensor[i]);
}

void rt_dnn_keep(rt_dnn_conv *c, int i)
{
    for (int k = 0; k < c->n_ways; k++)
        if (k != i) drop_way(&c->be->dnn, &c->way[k]);
    for (int v = 0; v < c->n_variants; v++)
        if (i < 0 || v != c->way[i].variant) drop_variant(&c->be->dnn, &c->variant[v]);
    c->pick = i;
}

void rt_dnn_close(rt_dnn_conv *c)
{
    if (c->be) rt_dnn_keep(c, -1);
    memset(c, 0, sizeof *c);
}

rt_status rt_dnn_execute(const rt_dnn_conv *c, int i, void *const operand[RT_DNN_OPERANDS], void *workspace)
{
    rt_status st = RT_OK;
    const rt_cudnn *l = &c->be->dnn;
    static const int64_t ids[RT_DNN_OPERANDS] = {1, 2, 3};
    void *pack = NULL;
    RT_TRY(make(l, RT_CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack));
    RT_TRY(set(l, pack, RT_CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, RT_CUDNN_TYPE_INT64, RT_DNN_OPERANDS, ids));
    RT_TRY(set(l, pack, RT_CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, RT_CUDNN_TYPE_VOID_PTR, RT_DNN_OPERANDS, operand));
    RT_TRY(set(l, pack, RT_CUDNN_ATTR_VARIANT_PACK_WORKSPACE, RT_CUDNN_TYPE_VOID_PTR, 1, &workspace));
    RT_TRY(finish(l, pack, "operands"));
    RT_CUDNN(l, cudnnBackendExecute(c->be->dnn_handle, c->way[i].plan, pack));
out:
    drop(l, &pack);
    return st;
}
