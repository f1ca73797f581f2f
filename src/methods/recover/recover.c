/* The frame of recovery (recover.h): passes over blocks, stages, checkpoints and the finished set.
 *
 * Iteration it of the construction is iteration t = it mod T of pass it / T. What a checkpoint holds: the finished images, the
 * initial ones, the images of the pass at the side of their stage, Adam's moments, the moved weights of teacher 0 where a method
 * moves them, and the method's own vectors. Between checkpoints the pass lives in the tensors of its slot. */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "methods/recover/core.h"

typedef struct core {
    rt_recovery *r;
    recover_plan plan;
    recover_steps steps;
    rt_draws draws;
    const rt_st_tensor *given_view;  /* [blocks, T, RT_CROP_BOX], or NULL */
    int64_t n, px, n_theta;          /* images, floats of one, parameters of teacher 0 where it is moved (else 0) */
    int64_t most;                    /* floats of the largest pass at the largest side */
    float *images, *initial, *work, *m, *v, *theta, *box, *scratch;
    int64_t it;                      /* iterations done */
    bool loaded;                     /* the slot of the pass in progress holds work, m and v */
} core;

/* --- where an iteration lies ---------------------------------------------------------------------------------------------- */

typedef struct place {
    int64_t pass, t, first, groups, each; /* first: block; each: images of a block */
    int64_t stage_begin;                  /* iteration in the block */
    int32_t stage, side;
} place;

static int32_t stage_at(const rt_recovery *r, int64_t t, int64_t *begin)
{
    int32_t k = 0;
    *begin = 0;
    while (k + 1 < r->n_stages && t >= *begin + r->stage[k].iterations) *begin += r->stage[k++].iterations;
    return k;
}

static int32_t side_of(const rt_recovery *r, int32_t stage) { return r->n_stages ? r->stage[stage].side : r->ctx->net.size; }

static place place_of(const core *c, int64_t it)
{
    int64_t T = c->r->iterations;
    place p = {.pass = it / T, .t = it % T};
    p.first = c->plan.pass[p.pass];
    p.groups = c->plan.pass[p.pass + 1] - p.first;
    p.each = c->plan.start[p.first + 1] - c->plan.start[p.first];
    p.stage = stage_at(c->r, p.t, &p.stage_begin);
    p.side = side_of(c->r, p.stage);
    return p;
}

static const int64_t *images_of(const core *c, const place *p) { return c->plan.image + c->plan.start[p->first]; }

static rt_status step_at(core *c, const place *p, recover_step **out)
{
    recover_panel panel;
    int64_t active = c->r->active ? c->r->active(c->r->self, p->first, p->t) : p->each;
    if (active < 1 || active > p->each)
        return RT_RAISE(RT_ERR_INTERNAL, "%s lets %lld of %lld images take part", c->r->name, (long long)active, (long long)p->each);
    recover_panel_of(c->r, p->first, p->t, &panel);
    return recover_step_get(&c->steps, &panel, p->side, p->groups, p->each, active, out);
}

/* --- views ---------------------------------------------------------------------------------------------------------------- */

static void box_of(const core *c, int64_t block, int64_t t, int32_t side, float box[RT_CROP_BOX])
{
    const rt_recovery *r = c->r;
    double scale = r->crop_min ? r->crop_min(r->self, t, r->iterations) : r->view.scale_min;
    if (c->given_view) memcpy(box, (const float *)c->given_view->data + (block * r->iterations + t) * RT_CROP_BOX, RT_CROP_BOX * sizeof *box);
    else recover_view_draw(&r->view, scale, r->ctx->seed, block, t, side, box);
}

rt_status rt_recover_see(rt_recovery *r, int64_t block, int64_t t, const float *images, int64_t n, float *view)
{
    rt_status st = RT_OK;
    const core *c = r->core;
    rt_graph *g = NULL;
    rt_tensor *x = NULL, *b = NULL;
    rt_exec *ex = NULL;
    float box[RT_CROP_BOX], *resized = NULL;
    int64_t begin;
    int32_t size = r->ctx->net.size, side = side_of(r, stage_at(r, t, &begin));
    size_t floats = (size_t)(n * side * side * 3);
    box_of(c, block, t, side, box);
    if (side != size) {
        RT_ALLOC(resized, floats * sizeof *resized, "images of a stage");
        recover_resize(images, n, size, resized, side);
    }
    RT_TRY(rt_tensor_create(r->ctx->be, RT_SHAPE(RT_F32, n, side, side, 3), &x));
    RT_TRY(rt_tensor_create(r->ctx->be, RT_SHAPE(RT_F32, 1, RT_CROP_BOX), &b));
    RT_TRY(rt_tensor_write(x, resized ? resized : images, floats * sizeof *images));
    RT_TRY(rt_tensor_write(b, box, sizeof box));
    RT_TRY(rt_graph_create(&g));
    rt_bind in[] = {{rt_input(g, "images", *rt_tensor_shape(x)), x}, {rt_input(g, "box", *rt_tensor_shape(b)), b}};
    rt_bind out = {rt_crop_view(g, in[0].v, in[1].v, side, side), x};
    RT_TRY(rt_graph_status(g));
    RT_TRY(rt_exec_prepare(r->ctx->be, g, in, 2, &out, 1, NULL, &ex));
    RT_TRY(rt_exec_run(ex));
    RT_TRY(rt_tensor_read(x, view, floats * sizeof *view));
out:
    rt_exec_destroy(ex);
    rt_graph_destroy(g);
    rt_tensor_destroy(x);
    rt_tensor_destroy(b);
    rt_free(resized);
    return st;
}

/* --- a pass begins, changes its stage, ends ------------------------------------------------------------------------------- */

/* The initial images of a pass, at the side of the set, into out. */
static void gather(const core *c, const place *p, float *out)
{
    const int64_t *image = images_of(c, p);
    for (int64_t i = 0; i < p->groups * p->each; i++)
        memcpy(out + i * c->px, c->initial + image[i] * c->px, (size_t)c->px * sizeof *out);
}

static void forget_moments(core *c)
{
    memset(c->m, 0, (size_t)c->most * sizeof *c->m);
    memset(c->v, 0, (size_t)c->most * sizeof *c->v);
}

static rt_status begin(core *c, const place *p)
{
    rt_status st = RT_OK;
    rt_recovery *r = c->r;
    int64_t n = p->groups * p->each;
    int32_t size = r->ctx->net.size;
    gather(c, p, c->scratch);
    if (r->before_block) RT_TRYF(r->before_block(r->self, p->first, c->scratch, images_of(c, p), n, c->theta), "before block %lld", (long long)p->first);
    if (p->side == size) memcpy(c->work, c->scratch, (size_t)(n * c->px) * sizeof *c->work);
    else recover_resize(c->scratch, n, size, c->work, p->side);
    forget_moments(c);
out:
    return st;
}

/* Images, moments and moved weights from the host into the slot that a step works on. */
static rt_status load(core *c, const place *p, recover_slot *s)
{
    rt_status st = RT_OK;
    size_t bytes = (size_t)(p->groups * p->each * p->side * p->side * 3) * sizeof(float);
    RT_TRY(rt_tensor_write(s->x, c->work, bytes));
    RT_TRY(rt_tensor_write(s->m, c->m, bytes));
    RT_TRY(rt_tensor_write(s->v, c->v, bytes));
    if (c->n_theta) RT_TRY(rt_tensor_write(c->steps.theta[0], c->theta, (size_t)c->n_theta * sizeof *c->theta));
    c->loaded = true;
out:
    return st;
}

static rt_status unload(core *c, const place *p, const recover_slot *s)
{
    rt_status st = RT_OK;
    size_t bytes = (size_t)(p->groups * p->each * p->side * p->side * 3) * sizeof(float);
    RT_TRY(rt_tensor_read(s->x, c->work, bytes));
    RT_TRY(rt_tensor_read(s->m, c->m, bytes));
    RT_TRY(rt_tensor_read(s->v, c->v, bytes));
out:
    return st;
}

/* From the stage of p into that of the next iteration: resized, mixed with the initial images, without moments. */
static void change_stage(core *c, const place *p, int32_t side)
{
    const rt_recovery *r = c->r;
    int64_t n = p->groups * p->each, count = n * side * side * 3;
    double keep = r->stage[p->stage].residual;
    float *grown = c->m, *start = c->v; /* free: the moments end with the stage */
    if (side == p->side) memcpy(grown, c->work, (size_t)count * sizeof *grown);
    else recover_resize(c->work, n, p->side, grown, side);
    gather(c, p, c->scratch);
    if (side == r->ctx->net.size) memcpy(start, c->scratch, (size_t)count * sizeof *start);
    else recover_resize(c->scratch, n, r->ctx->net.size, start, side);
    for (int64_t i = 0; i < count; i++) c->work[i] = (float)(keep * (double)grown[i] + (1 - keep) * (double)start[i]);
    forget_moments(c);
    c->loaded = false;
}

/* The images of a pass, as far as they are, into the set. */
static void publish(core *c, const place *p)
{
    const int64_t *image = images_of(c, p);
    int64_t n = p->groups * p->each;
    const float *now = c->work;
    if (p->side != c->r->ctx->net.size) {
        recover_resize(c->work, n, p->side, c->scratch, c->r->ctx->net.size);
        now = c->scratch;
    }
    for (int64_t i = 0; i < n; i++) memcpy(c->images + image[i] * c->px, now + i * c->px, (size_t)c->px * sizeof *now);
}

/* --- the loop ------------------------------------------------------------------------------------------------------------- */

static rt_status iterate(void *self, int64_t it, rt_distill_step *s)
{
    rt_status st = RT_OK;
    core *c = self;
    rt_recovery *r = c->r;
    place p = place_of(c, it);
    int64_t begun;
    recover_step *step;
    RT_TRY(step_at(c, &p, &step));
    if (p.t == 0) {
        RT_TRY(begin(c, &p));
        c->loaded = false;
    }
    if (!c->loaded) RT_TRY(load(c, &p, step->slot));
    for (int64_t g = 0; g < p.groups; g++) box_of(c, p.first + g, p.t, p.side, c->box + g * RT_CROP_BOX);
    double steps = (double)(p.t - p.stage_begin + 1);
    float hyper[3] = {(float)(0.5 * (1 + cos(3.14159265358979323846 * (double)p.t / (double)r->iterations)) * r->lr),
                      (float)(1 - pow(0.5, steps)), (float)(1 - pow(0.9, steps))};
    RT_TRY(recover_step_run(&c->steps, step, p.pass, p.first, p.t, images_of(c, &p), c->box, hyper, &s->loss));
    c->it = it + 1;
    if (p.t + 1 == r->iterations || stage_at(r, p.t + 1, &begun) != p.stage) RT_TRY(unload(c, &p, step->slot));
    if (p.t + 1 == r->iterations) publish(c, &p);
    else if (stage_at(r, p.t + 1, &begun) != p.stage) change_stage(c, &p, side_of(r, p.stage + 1));
    s->flops = step->flops;
    s->images_seen = (double)(step->groups * step->active);
out:
    return st;
}

static rt_status start(void *self)
{
    rt_status st = RT_OK;
    core *c = self;
    rt_recovery *r = c->r;
    bool given = r->ctx->files.init_images && *r->ctx->files.init_images;
    if (r->initial && !given) RT_TRYF(r->initial(r->self, c->initial), "initial images of %s", r->name);
    else RT_TRY(rt_draws_initial(&c->draws, true, c->initial, NULL));
    memcpy(c->images, c->initial, (size_t)(c->n * c->px) * sizeof *c->images);
    if (c->n_theta) memcpy(c->theta, r->ctx->teachers->teacher[0].theta, (size_t)c->n_theta * sizeof *c->theta);
out:
    return st;
}

static rt_status push(void *self)
{
    rt_status st = RT_OK;
    core *c = self;
    c->loaded = false;
    for (int i = 0; i < c->steps.n_states; i++)
        RT_TRY(rt_tensor_write(c->steps.state[i].t, c->steps.state[i].host, (size_t)c->steps.state[i].count * sizeof(float)));
out:
    return st;
}

static rt_status pull(void *self)
{
    rt_status st = RT_OK;
    core *c = self;
    if (c->loaded && c->it > 0) {
        place p = place_of(c, c->it - 1);
        recover_step *step;
        RT_TRY(step_at(c, &p, &step));
        RT_TRY(unload(c, &p, step->slot));
        publish(c, &p);
    }
    for (int i = 0; i < c->steps.n_states; i++)
        RT_TRY(rt_tensor_read(c->steps.state[i].t, c->steps.state[i].host, (size_t)c->steps.state[i].count * sizeof(float)));
out:
    return st;
}

static rt_status result(void *self, rt_set *out)
{
    core *c = self;
    rt_set s = {0};
    rt_status st = rt_distill_set(c->r->ctx, c->r->name, c->images, &s);
    if (st == RT_OK && c->r->finish) st = c->r->finish(c->r->self, &s);
    if (st == RT_OK) *out = s;
    else rt_set_fini(&s);
    return st;
}

/* --- setting up ------------------------------------------------------------------------------------------------------------ */

static bool has_batch_norm(const rt_teacher *t)
{
    return rt_model_n_buffers(t->model) > 0;
}

static rt_status check(const rt_recovery *r)
{
    rt_status st = RT_OK;
    const rt_committee *c = r->ctx->teachers;
    bool found = r->r_bn == 0;
    int64_t total = 0;
    if (!c || c->n < 1 || c->n > RT_RECOVER_PANEL)
        return RT_RAISE(RT_ERR_CONFIG, "%s inverts 1 to %d teachers, %d are given", r->name, RT_RECOVER_PANEL, c ? c->n : 0);
    for (int32_t i = 0; i < c->n; i++) found = found || has_batch_norm(&c->teacher[i]);
    if (!found) {
        st = RT_RAISE(RT_ERR_CONFIG, "%s matches BatchNorm statistics, and teacher %s (%s) has no BatchNorm", r->name,
                      c->teacher[0].name, rt_model_desc_of(c->teacher[0].model)->arch);
        return rt_error_fix(st, "set network.norm to batch, take a network with BatchNorm, or set %s.r_bn to 0", r->name);
    }
    if (r->ctx->train->zca) {
        st = RT_RAISE(RT_ERR_CONFIG, "%s recovers pixels, and data.zca whitens them", r->name);
        return rt_error_fix(st, "set data.zca to false");
    }
    if (r->view.jitter_hi < r->view.jitter_lo) {
        st = RT_RAISE(RT_ERR_CONFIG, "shifts from %d to %d pixels", r->view.jitter_lo, r->view.jitter_hi);
        return rt_error_fix(st, "set %s.jitter_lo to at most jitter_hi", r->name);
    }
    for (int k = 0; k < r->n_stages; k++) total += r->stage[k].iterations;
    if (r->n_stages && total != r->iterations)
        return RT_RAISE(RT_ERR_INTERNAL, "%s has stages of %lld iterations in all, of %lld", r->name, (long long)total, (long long)r->iterations);
    return RT_OK;
}

static rt_status core_init(core *c, rt_recovery *r, rt_build_ctx *without_networks)
{
    rt_status st = RT_OK;
    int32_t largest = r->ctx->net.size;
    memset(c, 0, sizeof *c);
    c->r = r;
    RT_TRY(check(r));
    r->core = c;
    c->n = (int64_t)r->ctx->train->classes.n * r->ctx->ipc;
    c->px = (int64_t)r->ctx->net.size * r->ctx->net.size * 3;
    if (r->before_block) c->n_theta = rt_model_n_params(r->ctx->teachers->teacher[0].model);
    RT_TRY(recover_plan_make(r, &c->plan));
    for (int k = 0; k < r->n_stages; k++) largest = r->stage[k].side > largest ? r->stage[k].side : largest;
    c->most = c->plan.largest * largest * largest * 3;
    float **pass[] = {&c->work, &c->m, &c->v, &c->scratch}, **whole[] = {&c->images, &c->initial};
    for (int i = 0; i < 4; i++) {
        RT_ALLOC(*pass[i], (size_t)c->most * sizeof(float), "images of a pass");
        memset(*pass[i], 0, (size_t)c->most * sizeof(float));
    }
    for (int i = 0; i < 2; i++) RT_ALLOC(*whole[i], (size_t)(c->n * c->px) * sizeof(float), "images of the set");
    RT_ALLOC(c->theta, (size_t)(c->n_theta ? c->n_theta : 1) * sizeof *c->theta, "weights of the teacher");
    RT_ALLOC(c->box, (size_t)(c->plan.n_blocks * RT_CROP_BOX) * sizeof *c->box, "views");
    *without_networks = *r->ctx;
    without_networks->files.network_weights = NULL; /* teachers are given: a file of networks belongs to other methods */
    RT_TRY(rt_draws_open(without_networks, r->iterations, 0, 0, &c->draws));
    if (c->draws.order)
        RT_TRY(rt_draws_find(c->draws.order, r->ctx->files.batch_order, "recover_view", false, RT_ST_F32, 3,
                             (int64_t[]){c->plan.n_blocks, r->iterations, RT_CROP_BOX}, &c->given_view));
    RT_TRY(recover_steps_init(r, &c->steps));
    /* The steps of the first iterations: a method's vectors become known, and what cannot work fails at once. */
    for (int64_t t = 0; t < r->ctx->teachers->n && t < r->iterations; t++) {
        recover_step *step;
        place p = place_of(c, t);
        RT_TRY(step_at(c, &p, &step));
    }
out:
    return st;
}

static void core_fini(core *c)
{
    recover_steps_fini(&c->steps);
    recover_plan_fini(&c->plan);
    rt_draws_close(&c->draws);
    float *f[] = {c->images, c->initial, c->work, c->m, c->v, c->theta, c->box, c->scratch};
    for (size_t i = 0; i < sizeof f / sizeof *f; i++) rt_free(f[i]);
    if (c->r) c->r->core = NULL;
}

static rt_distill frame(core *c)
{
    const rt_recovery *r = c->r;
    rt_distill f = {.name = r->name, .iterations = r->iterations * c->plan.n_passes, .self = c, .n_state = 5,
                    .state = {{"images", c->images, c->n * c->px}, {"initial", c->initial, c->n * c->px}, {"pass", c->work, c->most},
                              {"moment1", c->m, c->most}, {"moment2", c->v, c->most}},
                    .n_deviations = r->n_deviations, .start = start, .push = push, .pull = pull, .iterate = iterate,
                    .result = result};
    if (c->n_theta) f.state[f.n_state++] = (rt_distill_state){"theta", c->theta, c->n_theta};
    for (int i = 0; i < c->steps.n_states; i++)
        f.state[f.n_state++] = (rt_distill_state){c->steps.state[i].name, c->steps.state[i].host, c->steps.state[i].count};
    memcpy(f.deviation, r->deviation, sizeof f.deviation);
    return f;
}

rt_status rt_recover_run(rt_recovery *r, rt_set *out)
{
    rt_status st = RT_OK;
    core c;
    rt_build_ctx without_networks;
    RT_TRY(core_init(&c, r, &without_networks));
    rt_distill f = frame(&c);
    RT_TRY(rt_distill_run(r->ctx, &f, out));
out:
    core_fini(&c);
    return st;
}

rt_status rt_recover_estimate(rt_recovery *r, rt_estimate *out)
{
    rt_status st = RT_OK;
    core c;
    rt_build_ctx without_networks;
    r->initial = NULL; /* noise costs a step the same, and nothing has to be decoded or ranked */
    r->before_block = NULL; /* once in all of a block's iterations, where the frame times one of them */
    RT_TRY(core_init(&c, r, &without_networks));
    rt_distill f = frame(&c);
    RT_TRY(rt_distill_estimate(r->ctx, &f, c.steps.peak_bytes, out));
out:
    core_fini(&c);
    return st;
}
