/* Convolution nodes on the device: layouts, precision, networks, the choice of an engine.
 *
 * Images are NHWC as everywhere. Weights are [K,C/groups,R,S] in the language; cuDNN's engines for NHWC want [K,R,S,C/groups].
 * Describing ours by strides would leave it nearly no engine (none of the tensor-core ones), so weights are reordered into
 * scratch before, or from scratch after, the convolution: a pass over the smallest operand. 1x1 and depthwise weights are the
 * same bytes in both orders and are passed as they are, unless they start off a 16-byte boundary (views of theta do), which
 * would cost the engines that load vectors: such operands are copied too.
 *
 * bf16: operands are rounded into scratch at the boundary of this op, the engine sums in float32, and the result is stored as
 * float32 (by the engine if it has that output type, else it is widened from bfloat16). Values between ops stay float32: every
 * other kernel then has one storage type, master weights need no second copy, and an op's error is that of rounding its own
 * operands. It costs 6 bytes per operand element and convolution over storing bfloat16 between ops.
 *
 * M networks (nets): axis 0 of images and of weights are M blocks; one plan runs M times over shifted pointers.
 *
 * Engine: see rt_dnn_open for which are allowed. With an algorithm cache, or outside strict mode, they are timed and the choice
 * is kept; in strict mode without a cache cuDNN's first allowed proposal is taken, since a choice by timing may change bits. */
#include "backend/cuda/conv.h"

#include <string.h>

#include "backend/algo.h"
#include "ops/attrs.h"
#include "ops/util.h"

/* An operand on its way between our layout, type and alignment and cuDNN's. */
typedef struct stage {
    bool used;
    bool half;       /* bfloat16 on cuDNN's side */
    size_t offset;   /* of cuDNN's side in scratch */
    rt_k_map map;    /* how the copy reads its source */
    int64_t count;   /* elements, all networks */
} stage;

typedef struct conv_state {
    rt_cuda_state s;
    rt_dnn_conv dnn;
    int64_t nets;
    bool empty, bias;
    stage stage[RT_DNN_OPERANDS];
    size_t workspace;    /* offset in scratch */
    rt_k_map bias_map;   /* forward: y + bias */
    rt_k_reduce db;      /* weight gradient: sum of gy per channel */
    size_t db_scratch;   /* offset */
} conv_state;

/* The node's first two inputs: conv2d x, w; dx gy, w; dw x, gy. */
static const int *inputs_of(rt_op op)
{
    static const int order[3][2] = {{RT_DNN_X, RT_DNN_W}, {RT_DNN_Y, RT_DNN_W}, {RT_DNN_X, RT_DNN_Y}};
    return order[op == RT_OP_CONV2D ? 0 : op == RT_OP_CONV2D_DX ? 1 : 2];
}

static int64_t alignment(int64_t bytes)
{
    int64_t a = 16;
    while (bytes % a) a /= 2;
    return a;
}

static rt_dnn_dims dims_of(const rt_node *n, int64_t nets, bool half)
{
    const rt_conv2d_attr *a = n->attr;
    const rt_shape *x = n->op == RT_OP_CONV2D_DX ? &n->out_shape[0] : &n->in_shape[0];
    const rt_shape *w = n->op == RT_OP_CONV2D_DW ? &n->out_shape[0] : &n->in_shape[1];
    const rt_shape *y = n->op == RT_OP_CONV2D ? &n->out_shape[0] : &n->in_shape[n->op == RT_OP_CONV2D_DW ? 1 : 0];
    rt_dnn_dims d = {.op = n->op, .n = x->d[0] / nets, .h = x->d[1], .w = x->d[2], .c = x->d[3], .k = w->d[0] / nets, .cg = w->d[1],
                     .r = w->d[2], .s = w->d[3], .p = y->d[1], .q = y->d[2], .stride = {a->conv.stride[0], a->conv.stride[1]},
                     .pad = {a->conv.pad[0], a->conv.pad[1]}, .align = {16, 16, 16}};
    const rt_shape *shape[] = {x, w, y};
    for (int i = 0; i < RT_DNN_OPERANDS && nets > 1; i++) d.align[i] = alignment(rt_shape_count(shape[i]) / nets * (half ? 2 : 4));
    return d;
}

static size_t book(size_t *total, size_t bytes)
{
    const size_t at = *total;
    *total += (bytes + 255) / 256 * 256;
    return at;
}

/* --- choice ------------------------------------------------------------------------------------------------------------- */
static void key_of(const rt_cuda_backend *be, const rt_dnn_dims *d, char *buf, size_t len)
{
    snprintf(buf, len, "%s n%lld h%lld w%lld c%lld k%lld cg%lld r%lld s%lld stride%d,%d pad%d,%d align%d,%d,%d %s%s | %s", rt_op_name(d->op),
             (long long)d->n, (long long)d->h, (long long)d->w, (long long)d->c, (long long)d->k, (long long)d->cg, (long long)d->r,
             (long long)d->s, (int)d->stride[0], (int)d->stride[1], (int)d->pad[0], (int)d->pad[1], (int)d->align[0], (int)d->align[1],
             (int)d->align[2], rt_precision_name(be->base.opts.precision), be->base.opts.strict ? " strict" : "", be->machine);
}

typedef struct trial {
    rt_dnn_conv *c;
    bool ready[RT_DNN_MAX_WAYS];
    void *operand[RT_DNN_OPERANDS], *workspace;
} trial;

static rt_status try_way(void *ctx, int i)
{
    trial *t = ctx;
    if (!t->ready[i]) return RT_ERR_UNSUPPORTED;
    return rt_dnn_execute(t->c, i, t->operand, t->workspace);
}

static rt_status by_timing(rt_dnn_conv *c, int *pick)
{
    rt_status st = RT_OK;
    rt_backend *be = &c->be->base;
    const rt_dnn_dims *d = &c->d;
    const int64_t count[] = {d->n * d->h * d->w * d->c, d->k * d->cg * d->r * d->s, d->n * d->p * d->q * d->k};
    trial t = {.c = c};
    int64_t workspace = 0;
    for (int i = 0; i < c->n_ways; i++) {
        st = rt_dnn_ready(c, i);
        if (st == RT_ERR_UNSUPPORTED) continue;
        if (st != RT_OK) goto out;
        t.ready[i] = true;
        if (c->way[i].workspace > workspace) workspace = c->way[i].workspace;
    }
    for (int i = 0; i < RT_DNN_OPERANDS; i++) RT_TRY(be->vt->alloc(be, (size_t)count[i] * sizeof(float), &t.operand[i])); /* zeros */
    RT_TRY(be->vt->alloc(be, (size_t)workspace, &t.workspace));
    RT_TRY(rt_cuda_fastest(c->be, c->n_ways, try_way, &t, pick));
out:
    for (int i = 0; i < RT_DNN_OPERANDS; i++) be->vt->free(be, t.operand[i]);
    be->vt->free(be, t.workspace);
    return st;
}

static rt_status by_rule(rt_dnn_conv *c, int *pick)
{
    rt_status st = RT_ERR_UNSUPPORTED;
    for (int i = 0; i < c->n_ways && st == RT_ERR_UNSUPPORTED; i++) {
        st = rt_dnn_ready(c, i);
        if (st == RT_OK) *pick = i;
    }
    return st;
}

static rt_status choose(rt_dnn_conv *c, bool plan_only)
{
    rt_status st = RT_OK;
    rt_cuda_backend *be = c->be;
    char key[512], kept[sizeof c->way[0].name];
    bool found = false;
    int pick = -1;
    key_of(be, &c->d, key, sizeof key);
    if (be->algo_cache) RT_TRY(rt_algo_lookup(be->algo_cache, key, kept, sizeof kept, &found));
    for (int i = 0; found && pick < 0 && i < c->n_ways; i++) {
        if (strcmp(c->way[i].name, kept) != 0) continue;
        st = rt_dnn_ready(c, i);
        if (st == RT_OK) pick = i;
        else if (st != RT_ERR_UNSUPPORTED) goto out;
    }
    if (pick < 0 && (plan_only || (be->base.opts.strict && !be->algo_cache))) {
        RT_TRY(by_rule(c, &pick));
    } else if (pick < 0) {
        RT_TRY(by_timing(c, &pick));
        if (be->algo_cache) RT_TRY(rt_algo_store(be->algo_cache, key, c->way[pick].name));
    }
    st = RT_OK;
    rt_dnn_keep(c, pick);
out:
    return st;
}

/* --- prepare ------------------------------------------------------------------------------------------------------------ */
/* Writes `to` in row-major order, reading by the strides. */
static void dense_map(const rt_shape *to, const int64_t *from, rt_k_map *m)
{
    int64_t dense[RT_MAX_RANK];
    rt_shape_strides(to, dense);
    rt_cuda_map(to, from, dense, m);
}

/* How operand i travels. ours/theirs differ for weights only: [k,cg,r,s] against [k,r,s,cg]. */
static void plan_stage(conv_state *s, int i, bool half, bool result, bool misaligned, size_t *scratch)
{
    const rt_dnn_dims *d = &s->dnn.d;
    const bool reorder = i == RT_DNN_W && d->cg > 1 && d->r * d->s > 1;
    stage *t = &s->stage[i];
    t->used = reorder || half || misaligned;
    t->half = half;
    if (!t->used) return;
    t->offset = book(scratch, (size_t)t->count * (half ? 2 : 4));
    if (reorder && !result) {
        const rt_shape to = RT_SHAPE(RT_F32, s->nets * d->k, d->r, d->s, d->cg);
        dense_map(&to, (int64_t[]){d->cg * d->r * d->s, d->s, 1, d->r * d->s}, &t->map);
    } else if (reorder) {
        const rt_shape to = RT_SHAPE(RT_F32, s->nets * d->k, d->cg, d->r, d->s);
        dense_map(&to, (int64_t[]){d->r * d->s * d->cg, 1, d->s * d->cg, d->cg}, &t->map);
    } else {
        const rt_shape to = RT_SHAPE(RT_F32, t->count);
        dense_map(&to, (int64_t[]){1}, &t->map);
    }
}

static void plan_bias(conv_state *s, const rt_node *n, size_t *scratch)
{
    const rt_dnn_dims *d = &s->dnn.d;
    const int64_t pixels = d->n * d->p * d->q;
    const rt_shape y = RT_SHAPE(RT_F32, s->nets, pixels, d->k);
    if (!s->bias) return;
    if (n->op == RT_OP_CONV2D) {
        rt_cuda_map(&y, (int64_t[]){pixels * d->k, d->k, 1}, (int64_t[]){d->k, 0, 1}, &s->bias_map);
        return;
    }
    rt_cuda_reduce_plan(&y, 2u, &s->db);
    if (s->db.n_chunks > 1) s->db_scratch = book(scratch, (size_t)(s->db.n_out * s->db.n_chunks) * sizeof(float));
}

rt_status rt_cuda_conv_prepare(rt_backend *be, rt_prepared *p)
{
    rt_status st = RT_OK;
    rt_cuda_backend *cb = (rt_cuda_backend *)be;
    const rt_node *n = p->node;
    const bool bf16 = be->opts.precision == RT_PRECISION_BF16;
    const int f = RT_CUDNN_DATA_FLOAT, h = RT_CUDNN_DATA_BFLOAT16;
    const int plain[][2] = {{f, f}}, half[][2] = {{h, h}, {h, f}}, half_dw[][2] = {{h, f}, {h, h}}; /* gradients of weights: float first */
    RT_TRY(rt_cuda_prepare(be, p, sizeof(conv_state), "cudnn"));
    conv_state *s = p->state;
    s->nets = rt_nets(((const rt_conv2d_attr *)n->attr)->conv.nets);
    s->bias = ((const rt_conv2d_attr *)n->attr)->has_bias != 0;
    s->dnn.d = dims_of(n, s->nets, bf16);
    const rt_dnn_dims d = s->dnn.d;
    s->stage[RT_DNN_X].count = s->nets * d.n * d.h * d.w * d.c;
    s->stage[RT_DNN_W].count = s->nets * d.k * d.cg * d.r * d.s;
    s->stage[RT_DNN_Y].count = s->nets * d.n * d.p * d.q * d.k;
    s->empty = s->stage[RT_DNN_X].count == 0 || s->stage[RT_DNN_W].count == 0 || s->stage[RT_DNN_Y].count == 0;
    if (!s->empty) {
        if (!bf16) RT_TRY(rt_dnn_open(cb, &d, plain, 1, &s->dnn));
        else RT_TRY(rt_dnn_open(cb, &d, n->op == RT_OP_CONV2D_DW ? half_dw : half, 2, &s->dnn));
        RT_TRY(choose(&s->dnn, p->plan_only));
        const rt_dnn_way *w = &s->dnn.way[s->dnn.pick];
        const rt_dnn_variant *v = &s->dnn.variant[w->variant];
        for (int i = 0; i < RT_DNN_OPERANDS; i++) {
            const bool result = i == (int)rt_dnn_result(n->op);
            const bool misaligned = !result && (p->misaligned >> (i == inputs_of(n->op)[0] ? 0 : 1) & 1);
            plan_stage(s, i, (result ? v->out_type : v->in_type) == h, result, misaligned, &p->scratch_bytes);
        }
        s->workspace = book(&p->scratch_bytes, (size_t)w->workspace);
        p->impl = w->name;
    }
    plan_bias(s, n, &p->scratch_bytes);
out:
    return st;
}

void rt_cuda_conv_release(rt_prepared *p)
{
    if (p->state) rt_dnn_close(&((conv_state *)p->state)->dnn);
    rt_cuda_release(p);
}

/* --- run ---------------------------------------------------------------------------------------------------------------- */
rt_status rt_cuda_conv_run(const rt_prepared *p, const rt_kernel_io *io)
{
    rt_status st = RT_OK;
    const conv_state *s = p->state;
    const rt_node *n = p->node;
    const int result = (int)rt_dnn_result(n->op);
    cudaStream_t stream = s->s.be->stream;
    const int *in = inputs_of(n->op);
    char *theirs[RT_DNN_OPERANDS];
    for (int i = 0; i < RT_DNN_OPERANDS && !s->empty; i++) {
        const stage *t = &s->stage[i];
        const void *ours = i == result ? io->out[0] : io->in[i == in[0] ? 0 : 1];
        theirs[i] = t->used ? (char *)io->scratch + t->offset : (char *)(uintptr_t)ours;
        if (!t->used || i == result) continue;
        if (t->half) RT_CUDA(rt_k_to_bf16(ours, (uint16_t *)theirs[i], &t->map, stream));
        else RT_CUDA(rt_k_copy(ours, theirs[i], &t->map, stream));
    }
    for (int64_t m = 0; m < s->nets && !s->empty; m++) {
        void *at[RT_DNN_OPERANDS];
        for (int i = 0; i < RT_DNN_OPERANDS; i++)
            at[i] = theirs[i] + m * (s->stage[i].count / s->nets) * (s->stage[i].half ? 2 : 4);
        RT_TRY(rt_dnn_execute(&s->dnn, s->dnn.pick, at, (char *)io->scratch + s->workspace));
    }
    if (s->empty) {
        RT_CUDA(cudaMemsetAsync(io->out[0], 0, (size_t)s->stage[result].count * sizeof(float), stream));
    } else if (s->stage[result].used) {
        const stage *t = &s->stage[result];
        if (t->half) RT_CUDA(rt_k_from_bf16((const uint16_t *)theirs[result], io->out[0], &t->map, stream));
        else RT_CUDA(rt_k_copy(theirs[result], io->out[0], &t->map, stream));
    }
    if (s->bias && n->op == RT_OP_CONV2D) RT_CUDA(rt_k_add(io->out[0], io->in[2], io->out[0], &s->bias_map, stream));
    if (s->bias && n->op == RT_OP_CONV2D_DW)
        RT_CUDA(rt_k_sum(io->in[1], io->out[1], &s->db, (float *)(void *)((char *)io->scratch + s->db_scratch), stream));
out:
    return st;
}
