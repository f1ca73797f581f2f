/* The compiled step of recovery (recover.h):
 *
 *     images -> the first `active` of each group -> view -> every teacher of the panel -> sum of weighted losses
 *            -> gradient -> Adam -> clip to pixels that exist
 *
 * Images that do not take part have no gradient and no moments, so Adam leaves them where they are. Teachers are frozen: only
 * the gradient of the images is asked for. */
#include <string.h>

#include "base/alloc.h"
#include "methods/recover/core.h"

static const rt_adam_attr adam = {.beta1 = 0.5, .beta2 = 0.9, .eps = 1e-8};

/* --- what steps share ----------------------------------------------------------------------------------------------------- */

static rt_status model_of(recover_steps *s, int32_t teacher, int32_t side, rt_model **out)
{
    rt_status st = RT_OK;
    const rt_teacher *t = &s->r->ctx->teachers->teacher[teacher];
    recover_model one = {.teacher = teacher, .side = side};
    if (side == rt_model_desc_of(t->model)->size) {
        *out = t->model;
        return RT_OK;
    }
    for (int i = 0; i < s->n_models; i++)
        if (s->model[i].teacher == teacher && s->model[i].side == side) {
            *out = s->model[i].model;
            return RT_OK;
        }
    recover_model *more = rt_realloc(s->model, (size_t)s->n_models * sizeof *more, (size_t)(s->n_models + 1) * sizeof *more);
    if (!more) return RT_RAISE(RT_ERR_NOMEM, "networks of a recovery");
    s->model = more;
    RT_TRYF(rt_teacher_resized(t, side, &one.model), "teacher %s for images of %d pixels", t->name, side);
    s->model[s->n_models++] = one;
    *out = one.model;
out:
    return st;
}

static rt_status slot_of(recover_steps *s, int64_t images, int32_t side, recover_slot **out)
{
    rt_status st = RT_OK;
    recover_slot *one = NULL, **more;
    rt_shape shape = RT_SHAPE(RT_F32, images, side, side, 3);
    for (int i = 0; i < s->n_slots; i++)
        if (s->slot[i]->images == images && s->slot[i]->side == side) {
            *out = s->slot[i];
            return RT_OK;
        }
    if (!(more = rt_realloc(s->slot, (size_t)s->n_slots * sizeof *more, (size_t)(s->n_slots + 1) * sizeof *more))) return RT_RAISE(RT_ERR_NOMEM, "images of a pass");
    s->slot = more;
    RT_ALLOC(one, sizeof *one, "images of a pass");
    memset(one, 0, sizeof *one);
    s->slot[s->n_slots++] = one;
    *one = (recover_slot){.images = images, .side = side};
    RT_TRY(rt_tensor_create(s->r->ctx->be, shape, &one->x));
    RT_TRY(rt_tensor_create(s->r->ctx->be, shape, &one->m));
    RT_TRY(rt_tensor_create(s->r->ctx->be, shape, &one->v));
    *out = one;
out:
    return st;
}

rt_status recover_steps_init(rt_recovery *r, recover_steps *out)
{
    rt_status st = RT_OK;
    recover_steps s = {.r = r};
    const rt_committee *c = r->ctx->teachers;
    size_t bytes = (size_t)c->n * sizeof(rt_tensor *);
    RT_ALLOC(s.theta, bytes, "teachers");
    memset(s.theta, 0, bytes);
    RT_ALLOC(s.buffers, bytes, "teachers");
    memset(s.buffers, 0, bytes);
    for (int32_t i = 0; i < c->n; i++) {
        const rt_teacher *t = &c->teacher[i];
        int64_t p = rt_model_n_params(t->model), b = rt_model_n_buffers(t->model);
        RT_TRY(rt_tensor_create(r->ctx->be, RT_SHAPE(RT_F32, p), &s.theta[i]));
        RT_TRY(rt_tensor_write(s.theta[i], t->theta, (size_t)p * sizeof *t->theta));
        if (!b) continue;
        RT_TRY(rt_tensor_create(r->ctx->be, RT_SHAPE(RT_F32, b), &s.buffers[i]));
        RT_TRY(rt_tensor_write(s.buffers[i], t->buffers, (size_t)b * sizeof *t->buffers));
    }
out:
    *out = s; /* also when it failed: fini lets go of what there is */
    return st;
}

static void step_destroy(recover_step *p)
{
    rt_exec_destroy(p->ex);
    rt_exec_destroy(p->probe);
    rt_tensor *t[] = {p->box, p->label, p->hyper, p->loss, p->probed};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) rt_tensor_destroy(t[i]);
    for (int i = 0; i < p->n_inputs; i++) {
        rt_tensor_destroy(p->input[i].t);
        rt_free(p->input[i].host);
    }
    rt_free(p->host);
    rt_free(p);
}

void recover_steps_fini(recover_steps *s)
{
    for (int i = s->n_steps - 1; i >= 0; i--) step_destroy(s->step[i]); /* lenders of arenas come before those who borrow */
    for (int i = 0; i < s->n_slots; i++) {
        rt_tensor_destroy(s->slot[i]->x);
        rt_tensor_destroy(s->slot[i]->m);
        rt_tensor_destroy(s->slot[i]->v);
        rt_free(s->slot[i]);
    }
    for (int i = 0; i < s->n_models; i++) rt_model_destroy(s->model[i].model);
    for (int32_t i = 0; s->r && i < s->r->ctx->teachers->n; i++) {
        if (s->theta) rt_tensor_destroy(s->theta[i]);
        if (s->buffers) rt_tensor_destroy(s->buffers[i]);
    }
    for (int i = 0; i < s->n_states; i++) {
        rt_tensor_destroy(s->state[i].t);
        rt_free(s->state[i].host);
    }
    rt_free(s->step);
    rt_free(s->slot);
    rt_free(s->model);
    rt_free(s->theta);
    rt_free(s->buffers);
    memset(s, 0, sizeof *s);
}

/* --- while a graph is built ----------------------------------------------------------------------------------------------- */

/* Inputs and outputs of the graph that grows; errors of allocation wait here for the end. */
typedef struct building {
    recover_steps *s;
    recover_step *step;
    rt_graph *g;
    rt_bind in[2 * RT_RECOVER_PANEL + RT_RECOVER_INPUTS + RT_RECOVER_EXTRA + 8], out[RT_RECOVER_EXTRA + 4];
    int n_in, n_out;
    rt_val box, state_in[RT_RECOVER_EXTRA];
    rt_status st;
} building;

static rt_val input(building *b, const char *name, rt_tensor *t)
{
    rt_val v = rt_input(b->g, name, *rt_tensor_shape(t));
    b->in[b->n_in++] = (rt_bind){v, t};
    return v;
}

rt_val rt_recover_look(const rt_recover_graph *w, rt_val images)
{
    const building *b = w->step;
    int64_t side = b->step->slot->side;
    return rt_crop_view(w->g, images, b->box, side, side);
}

static int state_named(recover_steps *s, const char *name, int64_t count, float initial, rt_status *st_out)
{
    rt_status st = RT_OK;
    recover_state one = {.name = name, .count = count};
    for (int i = 0; i < s->n_states; i++)
        if (!strcmp(s->state[i].name, name)) return i;
    if (s->n_states == RT_RECOVER_EXTRA) {
        st = RT_RAISE(RT_ERR_INTERNAL, "more than %d vectors of a method: '%s'", RT_RECOVER_EXTRA, name);
        goto out;
    }
    RT_ALLOC(one.host, (size_t)count * sizeof *one.host, "a method's vector");
    for (int64_t i = 0; i < count; i++) one.host[i] = initial;
    RT_TRY(rt_tensor_create(s->r->ctx->be, RT_SHAPE(RT_F32, count), &one.t));
    s->state[s->n_states] = one;
    return s->n_states++;
out:
    rt_free(one.host);
    *st_out = st;
    return -1;
}

rt_val rt_recover_state(const rt_recover_graph *w, const char *name, int64_t count, float initial)
{
    building *b = w->step;
    int i = state_named(b->s, name, count, initial, &b->st);
    if (i < 0) return (rt_val){0};
    if (!b->state_in[i].id) b->state_in[i] = input(b, name, b->s->state[i].t);
    return b->state_in[i];
}

void rt_recover_update(const rt_recover_graph *w, const char *name, rt_val now)
{
    building *b = w->step;
    for (int i = 0; i < b->s->n_states; i++)
        if (!strcmp(b->s->state[i].name, name)) b->out[b->n_out++] = (rt_bind){now, b->s->state[i].t};
}

rt_val rt_recover_input(const rt_recover_graph *w, const char *name, rt_shape shape, rt_recover_fill *fill)
{
    rt_status st = RT_OK;
    building *b = w->step;
    recover_input one = {.name = name, .count = rt_shape_count(&shape), .teacher = w->teacher_index, .fill = fill};
    if (b->step->n_inputs == RT_RECOVER_INPUTS) {
        st = RT_RAISE(RT_ERR_INTERNAL, "more than %d inputs of a method: '%s'", RT_RECOVER_INPUTS, name);
        goto out;
    }
    RT_ALLOC(one.host, (size_t)one.count * sizeof *one.host, "a method's input");
    RT_TRY(rt_tensor_create(b->s->r->ctx->be, shape, &one.t));
    b->step->input[b->step->n_inputs++] = one;
    return input(b, name, one.t);
out:
    rt_free(one.host);
    b->st = st;
    return (rt_val){0};
}

/* The images that take part: the first `active` of each group. */
static rt_val part_of(const building *b, rt_val x)
{
    const recover_step *p = b->step;
    int64_t side = p->slot->side;
    if (p->active == p->each) return x;
    rt_val by_group = rt_reshape(b->g, x, RT_SHAPE(RT_F32, p->groups, p->each, side, side, 3));
    rt_val part = rt_slice(b->g, by_group, (int64_t[]){0, 0, 0, 0, 0}, (int64_t[]){p->groups, p->active, side, side, 3});
    return rt_reshape(b->g, part, RT_SHAPE(RT_F32, p->groups * p->active, side, side, 3));
}

static rt_val clipped(const building *b, rt_val x)
{
    const rt_normalise *nm = &b->s->r->ctx->norm;
    rt_val lo[3], hi[3];
    for (int c = 0; c < 3; c++) {
        lo[c] = rt_const(b->g, (0.0 - (double)nm->mean[c]) / (double)nm->std[c], RT_SHAPE(RT_F32, 1));
        hi[c] = rt_const(b->g, (1.0 - (double)nm->mean[c]) / (double)nm->std[c], RT_SHAPE(RT_F32, 1));
    }
    return rt_minimum(b->g, rt_maximum(b->g, x, rt_concat(b->g, lo, 3, 0)), rt_concat(b->g, hi, 3, 0));
}

/* Weighted loss of one teacher. taps: scratch. */
static rt_status loss_of(building *b, int32_t k, rt_val images, rt_val view, rt_val label, rt_tap_list *taps, rt_val *out)
{
    rt_status st = RT_OK;
    recover_step *p = b->step;
    rt_recovery *r = b->s->r;
    int32_t i = p->panel.teacher[k];
    const rt_teacher *t = &r->ctx->teachers->teacher[i];
    rt_model *m = NULL;
    rt_forward f;
    char name[2][32];
    snprintf(name[0], sizeof name[0], "theta%d", i);
    snprintf(name[1], sizeof name[1], "buffers%d", i);
    RT_TRY(model_of(b->s, i, p->slot->side, &m));
    rt_recover_graph w = {.r = r, .g = b->g, .teacher = t, .teacher_index = i, .groups = p->groups, .each = p->active,
                          .images = images, .view = view, .label = label, .taps = r->r_bn > 0 ? taps : NULL, .step = b};
    w.theta = input(b, name[0], b->s->theta[i]);
    if (b->s->buffers[i]) w.buffers = input(b, name[1], b->s->buffers[i]);
    if (w.taps) RT_TRY(rt_model_forward_tapped(m, b->g, view, w.theta, w.buffers, 0, taps, &f));
    else RT_TRY(rt_model_forward(m, b->g, view, w.theta, w.buffers, 0, &f));
    w.logits = f.logits;
    rt_val loss = r->loss ? r->loss(r->self, &w) : rt_recover_ce(&w);
    if (!r->loss && w.taps)
        loss = rt_add(b->g, loss, rt_mul_scalar(b->g, rt_recover_bn(&w, r->first_bn, r->var_weight, NULL, NULL), r->r_bn));
    *out = p->panel.weight[k] == 1 ? loss : rt_mul_scalar(b->g, loss, p->panel.weight[k]);
out:
    return st;
}

static void account(recover_steps *s, recover_step *p)
{
    rt_exec_stats stats;
    rt_exec_get_stats(p->ex, &stats);
    p->flops = stats.flops;
    if ((double)(stats.arena_bytes + stats.bound_bytes) > s->peak_bytes) s->peak_bytes = (double)(stats.arena_bytes + stats.bound_bytes);
    if (!s->lender || stats.arena_bytes > s->largest_arena) {
        s->lender = p->ex;
        s->largest_arena = stats.arena_bytes;
    }
}

static rt_status compile(recover_steps *s, recover_step *p)
{
    rt_status st = RT_OK;
    building b = {.s = s, .step = p, .st = RT_OK};
    rt_tap_list *taps = NULL;
    rt_val total = {0}, one, grad, m_new, v_new;
    RT_ALLOC(taps, sizeof *taps, "layers of a teacher");
    RT_TRY(rt_graph_create(&b.g));
    rt_val x = input(&b, "images", p->slot->x), m = input(&b, "moment1", p->slot->m), v = input(&b, "moment2", p->slot->v);
    rt_val hyper = input(&b, "hyper", p->hyper), label = input(&b, "label", p->label);
    b.box = input(&b, "box", p->box);
    rt_val part = part_of(&b, x), view = rt_crop_view(b.g, part, b.box, p->slot->side, p->slot->side);
    for (int32_t k = 0; k < p->panel.n; k++) {
        RT_TRY(loss_of(&b, k, part, view, label, taps, &one));
        total = k == 0 ? one : rt_add(b.g, total, one);
    }
    if ((st = b.st) != RT_OK) goto out;
    RT_TRY(rt_grad(b.g, total, &x, 1, &grad));
    rt_val x_new = rt_adam_step(b.g, x, m, v, grad, hyper, rt_scalar(b.g, 0), adam, &m_new, &v_new);
    b.out[b.n_out++] = (rt_bind){clipped(&b, x_new), p->slot->x};
    b.out[b.n_out++] = (rt_bind){m_new, p->slot->m};
    b.out[b.n_out++] = (rt_bind){v_new, p->slot->v};
    b.out[b.n_out++] = (rt_bind){total, p->loss};
    RT_TRY(rt_graph_status(b.g));
    RT_TRY(rt_exec_prepare(s->r->ctx->be, b.g, b.in, b.n_in, b.out, b.n_out, &(rt_exec_opts){.arena_of = s->lender}, &p->ex));
    account(s, p);
out:
    rt_graph_destroy(b.g);
    rt_free(taps);
    return st;
}

/* What the host wants to know of the images before the step: no teacher in it. */
static rt_status compile_probe(recover_steps *s, recover_step *p)
{
    rt_status st = RT_OK;
    building b = {.s = s, .step = p, .st = RT_OK};
    rt_recovery *r = s->r;
    RT_TRY(rt_graph_create(&b.g));
    rt_val x = input(&b, "images", p->slot->x);
    b.box = input(&b, "box", p->box);
    rt_recover_graph w = {.r = r, .g = b.g, .teacher_index = -1, .groups = p->groups, .each = p->active, .images = part_of(&b, x),
                          .step = &b};
    w.view = rt_recover_look(&w, w.images);
    rt_val value = r->probe(r->self, &w);
    RT_TRY(rt_graph_status(b.g));
    RT_TRY(rt_tensor_create(r->ctx->be, *rt_val_shape(b.g, value), &p->probed));
    RT_TRY(rt_exec_prepare(r->ctx->be, b.g, b.in, b.n_in, &(rt_bind){value, p->probed}, 1, NULL, &p->probe));
out:
    rt_graph_destroy(b.g);
    return st;
}

static bool same(const recover_panel *a, const recover_panel *b)
{
    for (int32_t i = 0; a->n == b->n && i < a->n; i++)
        if (a->teacher[i] != b->teacher[i] || a->weight[i] != b->weight[i]) return false;
    return a->n == b->n;
}

rt_status recover_step_get(recover_steps *s, const recover_panel *panel, int32_t side, int64_t groups, int64_t each, int64_t active,
                           recover_step **out)
{
    rt_status st = RT_OK;
    recover_step *p = NULL, **more;
    rt_backend *be = s->r->ctx->be;
    int64_t classes = s->r->ctx->train->classes.n, n = groups * active, host;
    for (int i = 0; i < s->n_steps; i++) {
        p = s->step[i];
        if (p->slot->side != side || p->groups != groups || p->each != each || p->active != active || !same(&p->panel, panel)) continue;
        *out = p;
        return RT_OK;
    }
    p = NULL;
    if (!(more = rt_realloc(s->step, (size_t)s->n_steps * sizeof *more, (size_t)(s->n_steps + 1) * sizeof *more))) return RT_RAISE(RT_ERR_NOMEM, "steps of a recovery");
    s->step = more;
    RT_ALLOC(p, sizeof *p, "steps of a recovery");
    memset(p, 0, sizeof *p);
    *p = (recover_step){.panel = *panel, .groups = groups, .each = each, .active = active, .labels_of = -1};
    RT_TRY(slot_of(s, groups * each, side, &p->slot));
    RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, groups, RT_CROP_BOX), &p->box));
    RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, n, classes), &p->label));
    RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, 3), &p->hyper));
    RT_TRY(rt_tensor_create(be, RT_SCALAR_F32, &p->loss));
    RT_TRYF(compile(s, p), "recovery step of %lld images", (long long)n);
    if (s->r->probe) RT_TRYF(compile_probe(s, p), "look at the images of a step");
    host = n * classes;
    if (p->probed && rt_shape_count(rt_tensor_shape(p->probed)) > host) host = rt_shape_count(rt_tensor_shape(p->probed));
    RT_ALLOC(p->host, (size_t)host * sizeof *p->host, "labels of a step");
    s->step[s->n_steps++] = p;
    *out = p;
    p = NULL;
out:
    if (p) step_destroy(p);
    return st;
}

/* --- a step --------------------------------------------------------------------------------------------------------------- */

static rt_status write_labels(recover_steps *s, recover_step *p, int64_t pass, const int64_t *image)
{
    int64_t classes = s->r->ctx->train->classes.n, n = p->groups * p->active;
    if (p->labels_of == pass) return RT_OK;
    memset(p->host, 0, (size_t)(n * classes) * sizeof *p->host);
    for (int64_t g = 0; g < p->groups; g++)
        for (int64_t i = 0; i < p->active; i++)
            p->host[(g * p->active + i) * classes + image[g * p->each + i] / s->r->ctx->ipc] = 1;
    p->labels_of = pass;
    return rt_tensor_write(p->label, p->host, (size_t)(n * classes) * sizeof *p->host);
}

rt_status recover_step_run(recover_steps *s, recover_step *p, int64_t pass, int64_t first, int64_t t, const int64_t *image,
                           const float *box, const float hyper[3], double *loss)
{
    rt_status st = RT_OK;
    rt_recovery *r = s->r;
    float l;
    RT_TRY(write_labels(s, p, pass, image));
    RT_TRY(rt_tensor_write(p->box, box, (size_t)(p->groups * RT_CROP_BOX) * sizeof *box));
    RT_TRY(rt_tensor_write(p->hyper, hyper, 3 * sizeof *hyper));
    if (p->probe) {
        RT_TRY(rt_exec_run(p->probe));
        RT_TRY(rt_tensor_read(p->probed, p->host, (size_t)rt_shape_count(rt_tensor_shape(p->probed)) * sizeof *p->host));
        RT_TRY(r->probed(r->self, first, t, p->host));
    }
    for (int i = 0; i < p->n_inputs; i++) {
        recover_input *in = &p->input[i];
        in->fill(r->self, in->teacher, first, t, in->host);
        RT_TRY(rt_tensor_write(in->t, in->host, (size_t)in->count * sizeof *in->host));
    }
    RT_TRY(rt_exec_run(p->ex));
    RT_TRY(rt_tensor_read(p->loss, &l, sizeof l));
    *loss = (double)l / (double)p->groups;
out:
    return st;
}
