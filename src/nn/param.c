/* The model object: tables of named parameters and statistics, and the walks that fill and use them (net.h).
 *
 * Parameters lie in theta in state_dict order without padding, so that lengths are the published parameter counts.
 * Invariant: offsets of consecutive entries are adjacent; the tables never change after rt_model_create. */
#include "nn/net.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

#define ARCH_REF(name) &rt_arch_##name,
static const rt_arch *const archs[] = {RT_ARCHS(ARCH_REF) NULL};

const char *rt_model_arch(int32_t i)
{
    const int32_t n = (int32_t)(sizeof archs / sizeof *archs) - 1;
    return i >= 0 && i < n ? archs[i]->name : NULL;
}

void rt_net_fail(rt_net *n, rt_status st)
{
    if (n->st == RT_OK) n->st = st;
}

rt_status rt_net_resolve(rt_model_desc *d, rt_model_norm norm, int32_t least, int32_t least_small)
{
    const int32_t need = d->small_stem ? least_small : least;

    d->depth = d->width = 0;
    d->norm = norm;
    if (d->size >= need) return RT_OK;
    rt_status st = RT_RAISE(RT_ERR_CONFIG, "size %d is below the %d pixels that this stem needs", d->size, need);
    return d->small_stem || d->size < least_small ? st : rt_error_fix(st, "set small_stem for small images");
}

static void join_name(rt_net *n, char out[64], const char *prefix, const char *leaf)
{
    int len = snprintf(out, 64, "%s.%s", prefix, leaf);
    if (len < 0 || len >= 64)
        rt_net_fail(n, RT_RAISE(RT_ERR_INTERNAL, "parameter name %s.%s is too long", prefix, leaf));
}

/* Room for one more entry of `size` bytes; doubles. */
static rt_status grow(void **table, int32_t n, int32_t *cap, size_t size)
{
    if (n < *cap) return RT_OK;
    int32_t want = *cap ? 2 * *cap : 32;
    void *p = rt_realloc(*table, (size_t)*cap * size, (size_t)want * size);
    if (!p) return RT_RAISE(RT_ERR_NOMEM, "no memory for the parameter table (%d entries)", want);
    *table = p;
    *cap = want;
    return RT_OK;
}

/* What networks see of vec [P], or of vec [M,P]: `s` of each, in turn along axis 0. */
static rt_val view_of(rt_graph *g, rt_val vec, int64_t offset, rt_shape s)
{
    const rt_shape *from = rt_val_shape(g, vec);
    if (!from || from->rank == 1) return rt_view1d(g, vec, offset, s);
    if (s.rank == 0) s = RT_SHAPE(RT_F32, 1);
    s.d[0] *= from->d[0];
    return rt_view2d(g, vec, offset, s);
}

rt_val rt_net_param(rt_net *n, const char *prefix, const char *leaf, rt_shape shape, rt_init init, int64_t fan)
{
    rt_val none = {0};
    rt_model *m = n->declare;

    if (n->st != RT_OK) return none;
    if (!m) {
        const rt_param *p = &n->m->param[n->next_param++];
        return view_of(n->g, n->theta, p->offset, p->shape);
    }
    rt_param p = {.shape = shape, .offset = m->n_theta, .count = rt_shape_count(&shape), .init = init, .fan = fan};
    join_name(n, p.name, prefix, leaf);
    rt_net_fail(n, grow((void **)&m->param, m->n_param, &m->cap_param, sizeof p));
    if (n->st != RT_OK) return none;
    m->param[m->n_param++] = p;
    m->n_theta += p.count;
    return none;
}

rt_val rt_net_stat(rt_net *n, const char *prefix, const char *leaf, int64_t count, float init, int32_t *index)
{
    rt_val none = {0};
    rt_model *m = n->declare;

    *index = n->next_stat++;
    if (n->st != RT_OK) return none;
    if (!m) return view_of(n->g, n->buffers, n->m->stat[*index].offset, RT_SHAPE(RT_F32, count));
    rt_model_stat s = {.offset = m->n_buffer, .count = count, .init = init};
    join_name(n, s.name, prefix, leaf);
    rt_net_fail(n, grow((void **)&m->stat, m->n_stat, &m->cap_stat, sizeof s));
    if (n->st != RT_OK) return none;
    m->stat[m->n_stat++] = s;
    m->n_buffer += count;
    return none;
}

void rt_net_tap(rt_net *n, rt_tap_kind kind, const char *name, rt_act x, int32_t mean, int32_t var)
{
    if (!n->taps || n->st != RT_OK) return;
    if (n->taps->n == RT_MAX_TAPS) {
        rt_net_fail(n, RT_RAISE(RT_ERR_UNSUPPORTED, "more than %d taps asked for", RT_MAX_TAPS));
        return;
    }
    rt_tap *t = &n->taps->tap[n->taps->n++];
    *t = (rt_tap){.kind = kind, .input = x.v, .h = x.h, .w = x.w, .c = x.c, .mean = mean, .var = var};
    snprintf(t->name, sizeof t->name, "%s", name);
}

static rt_status check_desc(const rt_model_desc *d, const rt_arch **arch)
{
    const struct {
        const char *name;
        int32_t value, lo, hi;
    } range[] = {{"depth", d->depth, 0, 12},          {"width", d->width, 0, 16384},
                 {"size", d->size, 1, 4096},          {"channels", d->channels, 1, 1024},
                 {"classes", d->classes, 1, 1000000}, {"norm", (int32_t)d->norm, 0, RT_MODEL_NORM_GROUP}};

    if (!memchr(d->arch, 0, sizeof d->arch)) return RT_RAISE(RT_ERR_CONFIG, "network name is not terminated");
    *arch = NULL;
    for (size_t i = 0; archs[i]; i++)
        if (strcmp(archs[i]->name, d->arch) == 0) *arch = archs[i];
    if (!*arch) {
        char list[512];
        size_t at = 0;
        for (size_t i = 0; archs[i] && at < sizeof list; i++)
            at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", i ? ", " : "", archs[i]->name);
        rt_status st = RT_RAISE(RT_ERR_CONFIG, "no network is called '%s'", d->arch);
        return rt_error_fix(st, "use one of %s", list);
    }
    for (size_t i = 0; i < sizeof range / sizeof *range; i++)
        if (range[i].value < range[i].lo || range[i].value > range[i].hi)
            return RT_RAISE(RT_ERR_CONFIG, "network %s: %s is %d, allowed are %d to %d", d->arch, range[i].name,
                            range[i].value, range[i].lo, range[i].hi);
    return RT_OK;
}

rt_status rt_model_create(const rt_model_desc *d, rt_model **out)
{
    rt_status st = RT_OK;
    rt_model *m = NULL;
    const rt_arch *arch = NULL;
    rt_act features, logits;

    RT_TRY(check_desc(d, &arch));
    RT_ALLOC(m, sizeof *m, "network");
    m->desc = *d;
    m->arch = arch;
    RT_TRYF(arch->resolve(&m->desc), "network %s", d->arch);

    rt_net walk = {.declare = m, .m = m, .nets = 1};
    arch->walk(&walk, (rt_act){.h = d->size, .w = d->size, .c = d->channels}, &features, &logits);
    RT_TRYF(walk.st, "network %s", d->arch);
    m->feature_dim = features.c;

    *out = m;
    m = NULL;
out:
    rt_model_destroy(m);
    return st;
}

void rt_model_destroy(rt_model *m)
{
    if (!m) return;
    rt_free(m->param);
    rt_free(m->stat);
    rt_free(m);
}

const rt_model_desc *rt_model_desc_of(const rt_model *m)
{
    return &m->desc;
}
int64_t rt_model_n_params(const rt_model *m)
{
    return m->n_theta;
}
int64_t rt_model_n_buffers(const rt_model *m)
{
    return m->n_buffer;
}
int32_t rt_model_param_count(const rt_model *m)
{
    return m->n_param;
}
const rt_param *rt_model_param(const rt_model *m, int32_t i)
{
    return &m->param[i];
}
int32_t rt_model_stat_count(const rt_model *m)
{
    return m->n_stat;
}
const rt_model_stat *rt_model_stat_at(const rt_model *m, int32_t i)
{
    return &m->stat[i];
}
int32_t rt_model_feature_dim(const rt_model *m)
{
    return m->feature_dim;
}

static rt_shape rows_of(int64_t nets, int64_t len)
{
    return nets ? RT_SHAPE(RT_F32, nets, len) : RT_SHAPE(RT_F32, len);
}

static rt_status check_value(const rt_graph *g, rt_val v, const char *what, rt_shape want)
{
    const rt_shape *got = rt_val_shape(g, v);
    char a[96], b[96];

    if (got && rt_shape_eq(got, &want)) return RT_OK;
    return RT_RAISE(RT_ERR_ARG, "%s is %s, the network wants %s", what, got ? rt_shape_str(got, a, sizeof a) : "absent",
                    rt_shape_str(&want, b, sizeof b));
}

rt_status rt_model_forward(const rt_model *m, rt_graph *g, rt_val x, rt_val theta, rt_val buffers, int training,
                           rt_forward *out)
{
    return rt_model_forward_tapped(m, g, x, theta, buffers, training, NULL, out);
}

rt_status rt_model_forward_tapped(const rt_model *m, rt_graph *g, rt_val x, rt_val theta, rt_val buffers, int training,
                                  rt_tap_list *taps, rt_forward *out)
{
    rt_status st = RT_OK;
    rt_val *stat_new = NULL, none = {0};
    rt_act features, logits;
    rt_forward f = {.n_relu = 0};
    const rt_model_desc *d = &m->desc;

    RT_TRY(rt_graph_status(g));
    if (taps) taps->n = 0;
    const rt_shape *xs = rt_val_shape(g, x);
    int64_t batch = xs && xs->rank == 4 ? xs->d[0] : 1;
    RT_TRYF(check_value(g, x, "x", RT_SHAPE(RT_F32, batch, d->size, d->size, d->channels)), "forward of %s", d->arch);
    const rt_shape *ts = rt_val_shape(g, theta);
    const int64_t nets = ts && ts->rank == 2 ? ts->d[0] : 0; /* 0: theta is a vector */
    RT_TRYF(check_value(g, theta, "theta", rows_of(nets, m->n_theta)), "forward of %s", d->arch);
    if (nets && batch % nets) {
        st = RT_RAISE(RT_ERR_ARG, "forward of %s: %lld networks do not divide %lld images", d->arch, (long long)nets,
                      (long long)batch);
        goto out;
    }
    if (taps && nets > 1) {
        st = RT_RAISE(RT_ERR_UNSUPPORTED, "forward of %s: taps are of one network, not of %lld", d->arch, (long long)nets);
        goto out;
    }
    if (m->n_stat) {
        RT_TRYF(check_value(g, buffers, "buffers", rows_of(nets, m->n_buffer)), "forward of %s", d->arch);
        RT_ALLOC(stat_new, (size_t)m->n_stat * sizeof *stat_new, "statistics of a forward pass");
    }

    rt_net walk = {
        .m = m, .g = g, .theta = theta, .buffers = buffers, .batch = batch, .nets = nets ? nets : 1,
        .training = training & RT_FORWARD_TRAINING, .stat_new = stat_new, .taps = taps, .relus = training & RT_FORWARD_RELUS ? &f : NULL};
    m->arch->walk(&walk, (rt_act){.v = x, .h = d->size, .w = d->size, .c = d->channels}, &features, &logits);
    RT_TRYF(walk.st, "forward of %s", d->arch);
    for (int32_t i = 0; walk.training && nets && i < m->n_stat; i++)
        stat_new[i] = rt_reshape(g, stat_new[i], RT_SHAPE(RT_F32, nets, m->stat[i].count));
    rt_val buffers_new = walk.training && m->n_stat ? rt_concat(g, stat_new, m->n_stat, nets ? 1 : 0) : none;
    RT_TRYF(rt_graph_status(g), "forward of %s", d->arch);
    f.logits = logits.v;
    f.features = features.v;
    f.buffers_new = buffers_new;
    *out = f;
out:
    rt_free(stat_new);
    return st;
}

rt_status rt_model_grad(const rt_model *m, rt_graph *g, rt_val y, rt_val theta, rt_val *grad)
{
    rt_status st = RT_OK;
    rt_val *view = NULL;
    int32_t n = m->n_param;

    RT_TRY(rt_graph_status(g));
    RT_ALLOC(view, 2 * (size_t)n * sizeof *view, "parameter views");
    rt_val *gv = view + n;
    const rt_shape *ts = rt_val_shape(g, theta);
    const int64_t nets = ts && ts->rank == 2 ? ts->d[0] : 0;
    RT_TRYF(check_value(g, theta, "theta", rows_of(nets, m->n_theta)), "gradient of %s", m->desc.arch);
    /* Hash-consing makes these the very slices that the forward pass reshapes its parameters from. */
    for (int32_t i = 0; i < n; i++) {
        const rt_param *p = &m->param[i];
        view[i] = nets ? rt_view2d(g, theta, p->offset, RT_SHAPE(RT_F32, nets, p->count))
                       : rt_view1d(g, theta, p->offset, RT_SHAPE(RT_F32, p->count));
    }
    RT_TRYF(rt_grad(g, y, view, n, gv), "gradient of %s", m->desc.arch);
    rt_val flat = rt_concat(g, gv, n, nets ? 1 : 0);
    RT_TRYF(rt_graph_status(g), "gradient of %s", m->desc.arch);
    *grad = flat;
out:
    rt_free(view);
    return st;
}

rt_status rt_model_views(const rt_model *m, rt_graph *g, rt_val theta, const int32_t *index, int32_t n, rt_val *view)
{
    rt_status st = RT_OK;
    const rt_shape *ts = rt_val_shape(g, theta);
    const int64_t nets = ts && ts->rank == 2 ? ts->d[0] : 0;
    RT_TRYF(check_value(g, theta, "theta", rows_of(nets, m->n_theta)), "parameters of %s", m->desc.arch);
    for (int32_t k = 0; k < n; k++) {
        const rt_param *p = &m->param[index[k]];
        view[k] = nets ? rt_view2d(g, theta, p->offset, RT_SHAPE(RT_F32, nets, p->count))
                       : rt_view1d(g, theta, p->offset, RT_SHAPE(RT_F32, p->count));
    }
    RT_TRY(rt_graph_status(g));
out:
    return st;
}

rt_status rt_model_grads(const rt_model *m, rt_graph *g, rt_val y, rt_val theta, const int32_t *index, int32_t n, rt_val *grad)
{
    rt_status st = RT_OK;
    rt_val *view = NULL;
    RT_TRY(rt_graph_status(g));
    RT_ALLOC(view, (size_t)n * sizeof *view, "parameter views");
    RT_TRY(rt_model_views(m, g, theta, index, n, view));
    RT_TRYF(rt_grad(g, y, view, n, grad), "gradients of %s", m->desc.arch);
out:
    rt_free(view);
    return st;
}

void rt_model_decay_mask(const rt_model *m, float *out)
{
    for (int32_t i = 0; i < m->n_param; i++) {
        const rt_param *p = &m->param[i];
        const char *dot = strrchr(p->name, '.');
        float keep = p->shape.rank >= 2 && dot && strcmp(dot, ".weight") == 0 ? 1.0f : 0.0f;
        for (int64_t k = 0; k < p->count; k++) out[p->offset + k] = keep;
    }
}
