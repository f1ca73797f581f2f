/* Convolution nodes: geometry, and the choice of an implementation.
 *
 * Several ways compute the same node (conv.h); which is fastest depends on shape and machine. With an algorithm cache, or
 * outside strict mode, they are timed at prepare and the best is kept. In strict mode without a cache a fixed rule decides
 * (the order of `ways_of`, from measurements), because a choice by timing may change bits from run to run.
 *
 * oneDNN falls back to its scalar reference code without a word, fifty times slower. Such a way is taken only when there is
 * no other, and then said in the log. */
#include "backend/cpu/conv.h"

#include <omp.h>
#include <string.h>
#include <time.h>

#include "backend/algo.h"
#include "base/alloc.h"
#include "base/log.h"

rt_conv_dims rt_conv_dims_of(const rt_node *n)
{
    const rt_conv2d_attr *a = n->attr;
    const rt_shape *x = n->op == RT_OP_CONV2D_DX ? &n->out_shape[0] : &n->in_shape[0];
    const rt_shape *w = n->op == RT_OP_CONV2D_DW ? &n->out_shape[0] : &n->in_shape[1];
    const rt_shape *y = n->op == RT_OP_CONV2D ? &n->out_shape[0] : &n->in_shape[n->op == RT_OP_CONV2D_DW ? 1 : 0];
    const int64_t nets = rt_nets(a->conv.nets);
    return (rt_conv_dims){.op = n->op, .n = x->d[0] / nets, .h = x->d[1], .w = x->d[2], .c = x->d[3], .k = w->d[0] / nets,
                          .r = w->d[2], .s = w->d[3], .p = y->d[1], .q = y->d[2],
                          .stride = {a->conv.stride[0], a->conv.stride[1]}, .pad = {a->conv.pad[0], a->conv.pad[1]},
                          .groups = a->conv.groups, .bias = a->has_bias != 0};
}

/* --- ways ------------------------------------------------------------------------------------------------------------- */
enum { MAX_WAYS = 10 };

typedef struct way {
    const char *name, *side_name; /* in the cache: do not rename */
    rt_conv_make make;
    bool side; /* networks side by side rather than in turn */
} way;

/* What is to be computed: nets times d. */
typedef struct task {
    rt_conv_dims d;
    int64_t nets;
} task;

static rt_status make_plan(rt_cpu *be, const way *w, const task *t, rt_conv_plan *out)
{
    return t->nets == 1 ? w->make(be, &t->d, out) : rt_conv_nets(be, w->make, &t->d, t->nets, w->side, out);
}

static const char *name_of(const way *w) { return w->side ? w->side_name : w->name; }

static rt_status make_nhwc(rt_cpu *be, const rt_conv_dims *d, rt_conv_plan *out)
{
    return rt_conv_onednn(be, d, RT_CONV_NHWC, out);
}
static rt_status make_blocked(rt_cpu *be, const rt_conv_dims *d, rt_conv_plan *out)
{
    return rt_conv_onednn(be, d, RT_CONV_BLOCKED, out);
}
static rt_status make_winograd(rt_cpu *be, const rt_conv_dims *d, rt_conv_plan *out)
{
    return rt_conv_onednn(be, d, RT_CONV_WINOGRAD, out);
}

static const way nhwc = {"nhwc", "nhwc side", make_nhwc, false}, blocked = {"blocked", "blocked side", make_blocked, false},
                 winograd = {"winograd", "winograd side", make_winograd, false}, rgb = {"rgb", "rgb side", rt_conv_rgb, false},
                 turned = {"winograd turned", "winograd turned side", rt_conv_flip, false};

/* The ways worth trying, the presumably best first. Winograd F(4x4,3x3) runs at about twice the direct rate where there are
 * channels and tiles enough to pay for its transforms, those of the weights above all; on three channels it loses fourfold.
 * Forward it runs best as an image gradient (conv_flip.c: 128 channels, 16x16, 100 images: 20 ms against 25 on one core; 10
 * images: 2.5 against 7).
 * Networks in turn come first: the rule then gives each the bits that it has on its own. */
static int ways_of(const task *t, int threads, way out[MAX_WAYS])
{
    int n = 0;
    const rt_conv_dims *d = &t->d;
    const bool three = d->r == 3 && d->s == 3 && d->stride[0] == 1 && d->stride[1] == 1 && d->groups == 1;
    const int64_t tiles = d->n * ((d->p + 3) / 4) * ((d->q + 3) / 4);
    const int64_t enough = d->op == RT_OP_CONV2D ? 256 : d->op == RT_OP_CONV2D_DX ? 64 : 128;
    const bool wino = three && d->c % 16 == 0 && d->k % 16 == 0 && d->c >= 32 && d->k >= 32;
    if (wino && d->op == RT_OP_CONV2D && tiles >= 64) out[n++] = turned;
    if (wino && tiles >= enough) out[n++] = winograd;
    if (three && d->c == 3) out[n++] = rgb;
    const bool first_blocked = d->c < 16 && d->op != RT_OP_CONV2D; /* nhwc is five times slower there */
    out[n++] = first_blocked ? blocked : nhwc;
    out[n++] = first_blocked ? nhwc : blocked;
    if (wino && tiles < enough) out[n++] = winograd;
    for (int i = 0, turns = t->nets > 1 && threads > 1 ? n : 0; i < turns; i++) {
        out[n] = out[i];
        out[n++].side = true;
    }
    return n;
}

static void drop(rt_conv_plan *p)
{
    if (p->release) p->release(p->state);
    memset(p, 0, sizeof *p);
}

static bool is_reference(const rt_conv_plan *p) { return strncmp(p->impl, "ref", 3) == 0; }

/* --- timing ------------------------------------------------------------------------------------------------------------- */
static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Best of three after a warm-up; operands are zeros, which no kernel here treats specially. */
static rt_status time_plan(rt_backend *be, const rt_node *n, const rt_conv_plan *p, double *best)
{
    rt_status st = RT_OK;
    void *in[3] = {0}, *out[2] = {0}, *scratch = NULL;
    rt_kernel_io io = {.in = (const void *const *)in, .out = out};
    *best = 0;
    for (int i = 0; i < n->n_in; i++)
        RT_TRY(be->vt->alloc(be, (size_t)rt_shape_count(&n->in_shape[i]) * sizeof(float), &in[i]));
    for (int o = 0; o < n->n_out; o++)
        RT_TRY(be->vt->alloc(be, (size_t)rt_shape_count(&n->out_shape[o]) * sizeof(float), &out[o]));
    if (p->scratch_bytes) RT_TRY(be->vt->alloc(be, p->scratch_bytes, &scratch));
    io.scratch = scratch;
    for (int r = 0; r < 4; r++) {
        double t = seconds();
        RT_TRY(p->run(p, &io));
        t = seconds() - t;
        if (r == 1 || (r > 1 && t < *best)) *best = t;
    }
out:
    for (int i = 0; i < 3; i++) be->vt->free(be, in[i]);
    for (int o = 0; o < 2; o++) be->vt->free(be, out[o]);
    be->vt->free(be, scratch);
    return st;
}

/* --- choice ------------------------------------------------------------------------------------------------------------- */
static void key_of(const rt_cpu *be, const task *t, char *buf, size_t len)
{
    const rt_conv_dims *d = &t->d;
    char nets[32] = "";
    if (t->nets > 1) snprintf(nets, sizeof nets, " nets%lld", (long long)t->nets);
    snprintf(buf, len, "%s n%lld h%lld w%lld c%lld k%lld r%lld s%lld stride%d,%d pad%d,%d g%d%s%s | %s", rt_op_name(d->op),
             (long long)d->n, (long long)d->h, (long long)d->w, (long long)d->c, (long long)d->k, (long long)d->r,
             (long long)d->s, d->stride[0], d->stride[1], d->pad[0], d->pad[1], d->groups, nets, d->bias ? " bias" : "",
             be->base.describe);
}

/* The first way in order that is not reference code; failing that, the first that exists at all. */
static rt_status by_rule(rt_cpu *be, const task *t, const way *ways, int n, rt_conv_plan *out, const char **name)
{
    rt_status st = RT_ERR_UNSUPPORTED;
    rt_conv_plan fallback = {0};
    for (int i = 0; i < n; i++) {
        rt_conv_plan p = {0};
        st = make_plan(be, &ways[i], t, &p);
        if (st == RT_ERR_UNSUPPORTED) continue;
        if (st != RT_OK) break;
        if (!is_reference(&p)) {
            drop(&fallback);
            *out = p;
            *name = name_of(&ways[i]);
            return RT_OK;
        }
        if (fallback.run) {
            drop(&p);
        } else {
            fallback = p;
            *name = name_of(&ways[i]);
        }
    }
    if (!fallback.run || (st != RT_OK && st != RT_ERR_UNSUPPORTED)) {
        drop(&fallback);
        return st;
    }
    *out = fallback;
    return RT_OK;
}

static rt_status by_timing(rt_cpu *be, const rt_node *node, const task *t, const way *ways, int n,
                           rt_conv_plan *out, const char **name)
{
    rt_status st = RT_OK;
    rt_conv_plan best = {0}, p = {0};
    double best_s = 0, s;
    for (int i = 0; i < n; i++) {
        st = make_plan(be, &ways[i], t, &p);
        if (st == RT_ERR_UNSUPPORTED) continue;
        if (st != RT_OK) goto out;
        if (is_reference(&p)) {
            drop(&p);
            continue;
        }
        RT_TRY(time_plan(&be->base, node, &p, &s));
        if (!best.run || s < best_s) {
            drop(&best);
            best = p;
            best_s = s;
            *name = name_of(&ways[i]);
        } else {
            p.release(p.state);
        }
        memset(&p, 0, sizeof p);
    }
    st = RT_OK;
    if (!best.run) return by_rule(be, t, ways, n, out, name); /* nothing but reference code */
    *out = best;
    memset(&best, 0, sizeof best);
out:
    drop(&best);
    drop(&p);
    return st;
}

static rt_status choose(rt_cpu *be, const rt_prepared *p, const task *t, rt_conv_plan *out)
{
    rt_status st = RT_OK;
    way ways[MAX_WAYS];
    const char *name = NULL;
    char key[512], kept[32];
    int n = ways_of(t, be->threads, ways);
    bool found = false;
    key_of(be, t, key, sizeof key);
    if (be->algo_cache) RT_TRY(rt_algo_lookup(be->algo_cache, key, kept, sizeof kept, &found));
    for (int i = 0; found && i < n; i++)
        if (strcmp(name_of(&ways[i]), kept) == 0) {
            st = make_plan(be, &ways[i], t, out);
            if (st != RT_ERR_UNSUPPORTED) goto out; /* done, or a real failure */
        }
    if (p->plan_only || (be->base.opts.strict && !be->algo_cache)) {
        RT_TRY(by_rule(be, t, ways, n, out, &name));
    } else {
        RT_TRY(by_timing(be, p->node, t, ways, n, out, &name));
        if (be->algo_cache) RT_TRY(rt_algo_store(be->algo_cache, key, name));
    }
out:
    return st;
}

static rt_status prepare(rt_backend *be, rt_prepared *p)
{
    rt_status st = RT_OK;
    const task t = {rt_conv_dims_of(p->node), rt_nets(((const rt_conv2d_attr *)p->node->attr)->conv.nets)};
    rt_conv_plan *plan = NULL;
    RT_ALLOC(plan, sizeof *plan, "convolution plan");
    omp_set_num_threads(((rt_cpu *)be)->threads);
    RT_TRY(choose((rt_cpu *)be, p, &t, plan));
    if (is_reference(plan)) {
        char key[512];
        key_of((rt_cpu *)be, &t, key, sizeof key);
        rt_log_line(RT_LOG_WARN, "oneDNN has only reference code (%s), very slow, for %s", plan->impl, key);
    }
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
