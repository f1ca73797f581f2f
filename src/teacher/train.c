/* The training loop: order, schedule, checkpoints. What a batch holds is in batch.c, the arithmetic of a step in steps.c. */
#include "teacher/train.h"

#include <math.h>
#include <string.h>

#include "backend/backend.h"
#include "base/alloc.h"
#include "base/log.h"
#include "base/rng.h"
#include "nn/dsa.h"
#include "teacher/steps.h"

/* A vector of len per network. */
static rt_shape rows(int64_t nets, int64_t len)
{
    return nets == 1 ? RT_SHAPE(RT_F32, len) : RT_SHAPE(RT_F32, nets, len);
}

rt_status rt_trainer_create(rt_backend *be, const rt_model_desc *net, const rt_recipe *r, rt_trainer **out)
{
    return rt_trainer_create_many(be, net, r, 1, out);
}

rt_status rt_trainer_create_many(rt_backend *be, const rt_model_desc *net, const rt_recipe *r, int64_t networks,
                                 rt_trainer **out)
{
    return rt_trainer_create_taught(be, net, r, networks, NULL, out);
}

rt_status rt_trainer_create_taught(rt_backend *be, const rt_model_desc *net, const rt_recipe *r, int64_t networks,
                                   const rt_committee *teachers, rt_trainer **out)
{
    rt_status st = RT_OK;
    float *mask = NULL;
    rt_trainer *t = NULL;
    if (networks < 1 || networks > INT32_MAX)
        return RT_RAISE(RT_ERR_ARG, "a trainer of %lld networks", (long long)networks);
    if (r->loss != RT_LOSS_CE && r->gsam_rho > 0)
        return RT_RAISE(RT_ERR_ARG, "recipe %s: GSAM with the loss of a teacher", r->name);
    if (r->loss == RT_LOSS_KL && !(r->temperature > 0))
        return RT_RAISE(RT_ERR_ARG, "recipe %s: temperature %g", r->name, r->temperature);
    if (r->ema < 0 || r->ema >= 1) return RT_RAISE(RT_ERR_ARG, "recipe %s: moving average of decay %g", r->name, r->ema);
    RT_ALLOC(t, sizeof *t, "trainer");
    t->nets = networks;
    t->be = be;
    t->recipe = *r;
    RT_TRY(rt_model_create(net, &t->model));
    t->n_params = rt_model_n_params(t->model);
    t->n_buffers = rt_model_n_buffers(t->model);
    t->n_state = rt_optim_n_state(&r->optim);
    RT_TRY(rt_tensor_create(be, rows(networks, t->n_params), &t->theta));
    for (int i = 0; i < t->n_state; i++) RT_TRY(rt_tensor_create(be, rows(networks, t->n_params), &t->state[i]));
    if (t->n_buffers) RT_TRY(rt_tensor_create(be, rows(networks, t->n_buffers), &t->buffers));
    if (r->ema > 0) RT_TRY(rt_tensor_create(be, rows(networks, t->n_params), &t->ema));
    RT_TRY(rt_taught_open(t, teachers));
    RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, 3), &t->hyper));
    RT_TRY(rt_tensor_create(be, networks == 1 ? RT_SCALAR_F32 : RT_SHAPE(RT_F32, networks), &t->loss));
    t->window = be->vt->end_run ? RT_LOSS_WINDOW : 1;
    RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, t->window, networks), &t->losses));
    float wd = (float)r->optim.weight_decay;
    if (r->decay_kernels_only) {
        RT_ALLOC(mask, (size_t)(networks * t->n_params) * sizeof *mask, "decay mask");
        for (int64_t m = 0; m < networks; m++) rt_model_decay_mask(t->model, mask + m * t->n_params);
        for (int64_t i = 0; i < networks * t->n_params; i++) mask[i] *= wd;
        RT_TRY(rt_tensor_create(be, rows(networks, t->n_params), &t->decay));
        RT_TRY(rt_tensor_write(t->decay, mask, (size_t)(networks * t->n_params) * sizeof *mask));
    } else {
        RT_TRY(rt_tensor_create(be, RT_SCALAR_F32, &t->decay));
        RT_TRY(rt_tensor_write(t->decay, &wd, sizeof wd));
    }
    *out = t;
    t = NULL;
out:
    rt_free(mask);
    rt_trainer_destroy(t);
    return st;
}

void rt_trainer_destroy(rt_trainer *t)
{
    if (!t) return;
    for (int i = 0; i < t->n_steps; i++) rt_train_step_fini(&t->step[i]);
    rt_infer_step_fini(&t->infer);
    rt_tensor_destroy(t->theta);
    for (int i = 0; i < RT_MAX_OPT_STATE; i++) rt_tensor_destroy(t->state[i]);
    rt_tensor_destroy(t->buffers);
    rt_tensor_destroy(t->hyper);
    rt_tensor_destroy(t->decay);
    rt_tensor_destroy(t->loss);
    rt_tensor_destroy(t->losses);
    rt_tensor_destroy(t->ema);
    rt_taught_close(t);
    rt_tensor_destroy(t->seated);
    rt_tensor_destroy(t->seated_buffers);
    rt_model_destroy(t->model);
    rt_free(t->snapshot);
    rt_free(t);
}

const rt_model *rt_trainer_model(const rt_trainer *t) { return t->model; }
int64_t rt_trainer_networks(const rt_trainer *t) { return t->nets; }
const rt_recipe *rt_trainer_recipe(const rt_trainer *t) { return &t->recipe; }

int64_t rt_trainer_arena_bytes(const rt_trainer *t)
{
    size_t most = 0;
    rt_exec_stats s;
    for (int i = 0; i <= t->n_steps; i++) {
        const rt_exec *ex = i < t->n_steps ? t->step[i].exec : t->infer.exec;
        if (!ex) continue;
        rt_exec_get_stats(ex, &s);
        if (s.arena_bytes + s.bound_bytes > most) most = s.arena_bytes + s.bound_bytes;
    }
    return (int64_t)most;
}

/* --- checkpoints ---------------------------------------------------------------------------------------------------- */

/* Where a run stands between two steps. */
typedef struct cursor {
    int64_t epoch, batch_in_epoch, updates; /* updates since the optimiser was (re)built, for Adam's bias correction */
    bool has_snapshot;
    rt_train_result sum;  /* of one network, but for the losses */
    double *first, *last; /* losses of each network */
    uint64_t *draws;      /* seed of each network's draws */
    float *window;        /* losses as read from the device */
    int64_t read;         /* steps whose losses have been read */
    rt_exec *running;     /* of the last step; it may still run while read < sum.steps */
} cursor;

static void cursor_fini(cursor *c)
{
    rt_free(c->first);
    rt_free(c->last);
    rt_free(c->draws);
    rt_free(c->window);
}

static uint64_t number_of(const rt_train_run *run, int64_t m)
{
    return run->networks ? run->networks[m] : run->network + (uint64_t)m;
}

static rt_status cursor_init(cursor *c, const rt_train_run *run, int64_t nets, int64_t window)
{
    rt_status st = RT_OK;
    RT_ALLOC(c->window, (size_t)(window * nets) * sizeof *c->window, "losses");
    RT_ALLOC(c->first, (size_t)nets * sizeof *c->first, "losses");
    RT_ALLOC(c->last, (size_t)nets * sizeof *c->last, "losses");
    RT_ALLOC(c->draws, (size_t)nets * sizeof *c->draws, "seeds");
    for (int64_t m = 0; m < nets; m++) c->draws[m] = rt_seed_derive(run->seed, number_of(run, m));
out:
    return st;
}

static json_t *reals(const double *v, int64_t n)
{
    json_t *a = json_array();
    for (int64_t i = 0; a && i < n; i++) json_array_append_new(a, json_real(v[i]));
    return a;
}

static bool read_reals(const json_t *a, double *v, int64_t n)
{
    if (!json_is_array(a) || json_array_size(a) != (size_t)n) return false;
    for (int64_t i = 0; i < n; i++) {
        const json_t *x = json_array_get(a, (size_t)i);
        if (!json_is_number(x)) return false;
        v[i] = json_number_value(x);
    }
    return true;
}

static rt_status save_checkpoint(rt_trainer *t, const rt_train_run *run, const cursor *c)
{
    rt_status st = RT_OK;
    const int64_t n_theta = t->nets * t->n_params, n_buf = t->nets * t->n_buffers;
    size_t p = (size_t)n_theta, nb = (size_t)n_buf, parts = 1 + (size_t)t->n_state + (t->ema != NULL);
    float *all = NULL;
    json_t *state = NULL;
    rt_st_tensor ten[6];
    int64_t n = 0;
    RT_ALLOC(all, (p * parts + nb) * sizeof *all, "checkpoint");
    RT_TRY(rt_tensor_read(t->theta, all, p * sizeof *all));
    ten[n++] = (rt_st_tensor){"theta", RT_ST_F32, 1, {n_theta}, all, p * sizeof *all};
    static const char *const name[RT_MAX_OPT_STATE] = {"state0", "state1"};
    for (int i = 0; i < t->n_state; i++) {
        float *at = all + p * (size_t)(i + 1);
        RT_TRY(rt_tensor_read(t->state[i], at, p * sizeof *all));
        ten[n++] = (rt_st_tensor){name[i], RT_ST_F32, 1, {n_theta}, at, p * sizeof *all};
    }
    if (t->ema) {
        float *at = all + p * (parts - 1);
        RT_TRY(rt_tensor_read(t->ema, at, p * sizeof *all));
        ten[n++] = (rt_st_tensor){"ema", RT_ST_F32, 1, {n_theta}, at, p * sizeof *all};
    }
    if (nb) {
        RT_TRY(rt_tensor_read(t->buffers, all + p * parts, nb * sizeof *all));
        ten[n++] = (rt_st_tensor){"buffers", RT_ST_F32, 1, {n_buf}, all + p * parts, nb * sizeof *all};
    }
    if (c->has_snapshot)
        ten[n++] = (rt_st_tensor){"snapshot", RT_ST_F32, 1, {n_theta + n_buf}, t->snapshot, (p + nb) * sizeof *all};
    if (run->ledger) rt_ledger_update(run->ledger);
    state = json_pack("{s:s, s:I, s:I, s:I, s:o, s:o, s:I, s:f, s:f, s:f, s:o?}", "inputs_hash", run->inputs_hash, "epoch",
                      (json_int_t)c->epoch, "batch", (json_int_t)c->batch_in_epoch, "updates", (json_int_t)c->updates,
                      "first_loss", reals(c->first, t->nets), "last_loss", reals(c->last, t->nets), "steps", (json_int_t)c->sum.steps,
                      "images_seen", c->sum.images_seen, "flops", c->sum.flops, "teacher_flops", c->sum.teacher_flops, "ledger",
                      run->ledger ? rt_ledger_json(run->ledger) : NULL);
    if (!state) {
        st = RT_RAISE(RT_ERR_NOMEM, "checkpoint state");
        goto out;
    }
    RT_TRY(rt_ckpt_save(run->ckpt_dir, (uint64_t)c->sum.steps, ten, n, state, run->keep > 0 ? run->keep : 2));
out:
    json_decref(state);
    rt_free(all);
    return st;
}

static rt_status restore_tensor(const rt_st_file *f, const char *name, rt_tensor *t, float *buf, int64_t n)
{
    const rt_st_tensor *s = rt_st_find(f, name);
    if (!s) return RT_RAISE(RT_ERR_FORMAT, "checkpoint has no tensor '%s'", name);
    rt_status st = rt_st_to_f32(s, buf, n);
    return st != RT_OK || !t ? st : rt_tensor_write(t, buf, (size_t)n * sizeof *buf);
}

static rt_status keep_snapshot(rt_trainer *t)
{
    rt_status st = RT_OK;
    const int64_t p = t->nets * t->n_params, nb = t->nets * t->n_buffers;
    if (!t->snapshot) RT_ALLOC(t->snapshot, (size_t)(p + nb) * sizeof *t->snapshot, "snapshot");
    RT_TRY(rt_tensor_read(rt_judged(t), t->snapshot, (size_t)p * sizeof(float)));
    if (t->buffers) RT_TRY(rt_tensor_read(t->buffers, t->snapshot + p, (size_t)nb * sizeof(float)));
out:
    return st;
}

/* RT_ERR_MISSING when there is nothing to resume from. */
static rt_status load_checkpoint(rt_trainer *t, const rt_train_run *run, cursor *c)
{
    rt_status st = RT_OK;
    rt_st_file *f = NULL;
    json_t *s = NULL;
    float *buf = NULL;
    uint64_t step = 0;
    json_int_t epoch, batch, updates, steps;
    const int64_t p = t->nets * t->n_params, nb = t->nets * t->n_buffers;
    static const char *const name[RT_MAX_OPT_STATE] = {"state0", "state1"};
    RT_TRY(rt_ckpt_load(run->ckpt_dir, run->inputs_hash, &step, &f, &s));
    if (json_unpack(s, "{s:I, s:I, s:I, s:I, s:F, s:F, s?F}", "epoch", &epoch, "batch", &batch, "updates", &updates, "steps",
                    &steps, "images_seen", &c->sum.images_seen, "flops", &c->sum.flops, "teacher_flops", &c->sum.teacher_flops) ||
        !read_reals(json_object_get(s, "first_loss"), c->first, t->nets) ||
        !read_reals(json_object_get(s, "last_loss"), c->last, t->nets)) {
        st = RT_RAISE(RT_ERR_FORMAT, "checkpoint in %s: state is incomplete", run->ckpt_dir);
        goto out;
    }
    c->epoch = epoch, c->batch_in_epoch = batch, c->updates = updates, c->sum.steps = c->read = steps;
    RT_ALLOC(buf, (size_t)(p + nb) * sizeof *buf, "checkpoint");
    RT_TRY(restore_tensor(f, "theta", t->theta, buf, p));
    for (int i = 0; i < t->n_state; i++) RT_TRY(restore_tensor(f, name[i], t->state[i], buf, p));
    if (t->buffers) RT_TRY(restore_tensor(f, "buffers", t->buffers, buf, nb));
    if (t->ema) RT_TRY(restore_tensor(f, "ema", t->ema, buf, p));
    if (rt_st_find(f, "snapshot")) {
        RT_TRY(keep_snapshot(t)); /* for its memory; overwritten on the next line */
        RT_TRY(restore_tensor(f, "snapshot", NULL, t->snapshot, p + nb));
        c->has_snapshot = true;
    }
    json_t *ledger = json_object_get(s, "ledger");
    if (run->ledger && json_is_object(ledger)) RT_TRY(rt_ledger_restore(run->ledger, ledger));
out:
    rt_free(buf);
    rt_st_close(f);
    json_decref(s);
    return st;
}

/* --- the loop --------------------------------------------------------------------------------------------------------- */

static rt_status zero_state(rt_trainer *t)
{
    rt_status st = RT_OK;
    float *zero = NULL;
    const size_t n = (size_t)(t->nets * t->n_params);
    RT_ALLOC(zero, n * sizeof *zero, "optimiser state");
    for (int i = 0; i < t->n_state; i++) RT_TRY(rt_tensor_write(t->state[i], zero, n * sizeof *zero));
out:
    rt_free(zero);
    return st;
}

rt_status rt_trainer_set_weights(rt_trainer *t, const float *theta, const float *buffers)
{
    rt_status st = RT_OK;
    RT_TRY(rt_tensor_write(t->theta, theta, (size_t)(t->nets * t->n_params) * sizeof *theta));
    if (t->ema) RT_TRY(rt_tensor_write(t->ema, theta, (size_t)(t->nets * t->n_params) * sizeof *theta));
    if (t->buffers) RT_TRY(rt_tensor_write(t->buffers, buffers, (size_t)(t->nets * t->n_buffers) * sizeof *buffers));
out:
    return st;
}

static rt_status fresh_weights(rt_trainer *t, const rt_train_run *run)
{
    rt_status st = RT_OK;
    float *theta = NULL, *buffers = NULL;
    RT_ALLOC(theta, (size_t)(t->nets * t->n_params) * sizeof *theta, "weights");
    RT_ALLOC(buffers, (size_t)(t->nets * t->n_buffers) * sizeof *buffers, "statistics");
    for (int64_t m = 0; m < t->nets; m++)
        rt_model_init(t->model, run->seed, number_of(run, m), theta + m * t->n_params, buffers + m * t->n_buffers);
    RT_TRY(rt_trainer_set_weights(t, theta, buffers));
    RT_TRY(zero_state(t));
out:
    rt_free(theta);
    rt_free(buffers);
    return st;
}

static double rate_at(const rt_trainer *t, const rt_train_run *run, int64_t epoch)
{
    rt_schedule sched = t->recipe.schedule;
    sched.total = (double)t->recipe.epochs;
    return rt_schedule_at(&sched, run->lr > 0 ? run->lr : t->recipe.optim.lr, (double)epoch);
}

/* Waits for the steps started so far and looks at their losses. A loss that is not finite is reported with its own step, at most
 * t->window - 1 steps after it. */
static rt_status read_losses(rt_trainer *t, const rt_train_run *run, int64_t per_epoch, cursor *c)
{
    rt_status st = RT_OK;
    if (c->read == c->sum.steps) return RT_OK;
    RT_TRY(rt_exec_wait(c->running));
    RT_TRY(rt_tensor_read(t->losses, c->window, (size_t)(t->window * t->nets) * sizeof *c->window));
    for (; c->read < c->sum.steps; c->read++) {
        const float *loss = c->window + c->read % t->window * t->nets;
        for (int64_t m = 0; m < t->nets; m++) {
            if (!isfinite(loss[m])) {
                const int64_t epoch = c->read / per_epoch;
                st = RT_RAISE(RT_ERR_NUMERIC, "loss is %f at step %lld (epoch %lld, network %llu)", (double)loss[m], (long long)c->read,
                              (long long)epoch, (unsigned long long)number_of(run, m));
                rt_error_fix(st, "lower the learning rate (now %g)", rate_at(t, run, epoch));
                goto out;
            }
            if (c->read == 0) c->first[m] = (double)loss[m];
            c->last[m] = (double)loss[m];
        }
    }
out:
    return st;
}

/* Starts a step and does not wait for it, so that the next batch is drawn and sent while it runs. */
static rt_status one_step(rt_trainer *t, const rt_train_data *d, const rt_train_run *run, const rt_dsa *dsa, double lr,
                          cursor *c, rt_staging *h, int64_t batch)
{
    rt_status st = RT_OK;
    rt_train_step *s = NULL;
    rt_exec_stats cost;
    float hyper[3];
    RT_TRY(rt_train_step_get(t, batch, &s));
    int64_t first = c->batch_in_epoch * t->recipe.batch;
    RT_TRY(rt_staging_load(t, s, d, dsa, first, c->draws, (uint64_t)c->sum.steps, run->threads, h));
    rt_optim_hyper(&t->recipe.optim, lr, ++c->updates, hyper);
    RT_TRY(rt_tensor_write(t->hyper, hyper, sizeof hyper));
    RT_TRY(rt_exec_start(s->exec));
    c->running = s->exec;
    RT_TRY(rt_tensor_copy(t->losses, c->sum.steps % t->window * t->nets, t->loss, 0, t->nets));
    c->sum.steps++;
    rt_exec_get_stats(s->exec, &cost);
    c->sum.images_seen += (double)batch;
    c->sum.flops += (cost.flops - s->teacher_flops) / (double)t->nets;
    c->sum.teacher_flops += s->teacher_flops_one;
    if (run->ledger) {
        rt_ledger_entry(run->ledger)->images_seen += (double)(batch * t->nets);
        rt_ledger_entry(run->ledger)->flops += cost.flops;
    }
out:
    return st;
}

rt_status rt_trainer_run(rt_trainer *t, const rt_train_data *d, const rt_train_run *run, rt_train_result *out)
{
    rt_status st = RT_OK;
    rt_staging h = {0};
    cursor c = {0};
    rt_train_step *step = NULL;
    rt_dsa dsa, *use_dsa = NULL;
    const rt_recipe *r = &t->recipe;
    rt_schedule sched = r->schedule;
    sched.total = (double)r->epochs;
    if (d->n < 1) return RT_RAISE(RT_ERR_ARG, "nothing to train on: 0 images");
    int64_t batch = r->batch < d->n ? r->batch : d->n, per_epoch = (d->n + r->batch - 1) / r->batch;
    double last_commit = rt_now();
    if (r->augment == RT_AUGMENT_DSA) {
        RT_TRY(rt_dsa_parse(r->dsa_strategy, r->dsa_mode ? r->dsa_mode : 'S', &dsa));
        use_dsa = &dsa;
    }
    /* steps first: resident images take a share of what these leave */
    RT_TRY(rt_train_step_get(t, batch, &step));
    if (d->n % batch) RT_TRY(rt_train_step_get(t, d->n % batch, &step));
    RT_TRY(rt_staging_init(&h, t, d, batch));
    RT_TRY(cursor_init(&c, run, t->nets, t->window));
    st = run->ckpt_dir ? load_checkpoint(t, run, &c) : RT_ERR_MISSING;
    if (st == RT_ERR_MISSING) {
        rt_error_clear();
        c = (cursor){.first = c.first, .last = c.last, .draws = c.draws, .window = c.window};
        RT_TRY(fresh_weights(t, run));
        if (run->on_epoch) RT_TRYF(run->on_epoch(run->on_epoch_to, t, 0), "initial weights");
    } else if (st != RT_OK) goto out;
    for (; c.epoch < r->epochs; c.epoch++, c.batch_in_epoch = 0) {
        if (c.batch_in_epoch == 0 && rt_schedule_restarts(&sched, (double)c.epoch - 1, (double)c.epoch)) {
            RT_TRY(zero_state(t));
            c.updates = 0;
        }
        double lr = rate_at(t, run, c.epoch);
        for (int64_t m = 0; m < t->nets; m++) rt_epoch_order(c.draws[m], (uint64_t)c.epoch, d->n, h.order + m * d->n);
        for (; c.batch_in_epoch < per_epoch;) {
            int64_t left = d->n - c.batch_in_epoch * r->batch;
            RT_TRY(one_step(t, d, run, use_dsa, lr, &c, &h, left < batch ? left : batch));
            c.batch_in_epoch++;
            if (c.read == 0 || c.sum.steps - c.read == t->window) RT_TRY(read_losses(t, run, per_epoch, &c));
            char note[64];
            snprintf(note, sizeof note, "loss %.4f  lr %.2g", c.last[0], lr);
            rt_progress_report(&(rt_progress){run->phase, "step", (double)c.sum.steps, (double)(per_epoch * r->epochs), note});
            const bool stop = rt_stop_requested() != 0;
            const bool commit = run->ckpt_dir && (stop || rt_now() - last_commit >= run->ckpt_seconds);
            if (stop || commit) RT_TRY(read_losses(t, run, per_epoch, &c));
            if (commit) {
                RT_TRYF(save_checkpoint(t, run, &c), "checkpoint at step %lld", (long long)c.sum.steps);
                last_commit = rt_now();
            }
            if (stop) {
                st = RT_RAISE(RT_ERR_CANCELLED, "stopped at step %lld", (long long)c.sum.steps);
                rt_error_fix(st, "rerun the same command: it resumes there");
                goto out;
            }
        }
        const bool keep = run->snapshot_epoch > 0 && c.epoch + 1 == run->snapshot_epoch;
        if (keep || run->on_epoch) RT_TRY(read_losses(t, run, per_epoch, &c));
        if (keep) {
            RT_TRY(keep_snapshot(t));
            c.has_snapshot = true;
        }
        if (run->on_epoch) RT_TRYF(run->on_epoch(run->on_epoch_to, t, c.epoch + 1), "epoch %lld", (long long)c.epoch + 1);
    }
    RT_TRY(read_losses(t, run, per_epoch, &c));
    for (int64_t m = 0; m < t->nets; m++) {
        out[m] = c.sum;
        out[m].first_loss = c.first[m];
        out[m].last_loss = c.last[m];
    }
out:
    if (st != RT_OK && c.read < c.sum.steps) { /* nothing may run on after a failure: its memory is the caller's to release */
        rt_error_chain why;
        rt_error_save(&why);
        (void)rt_exec_wait(c.running);
        st = rt_error_restore(&why);
    }
    rt_staging_fini(&h);
    cursor_fini(&c);
    return st == RT_OK ? st : rt_error_frame(st, __FILE__, __LINE__, "%s", run->phase ? run->phase : "training");
}

rt_status rt_trainer_weights(const rt_trainer *t, bool snapshot, float *theta, float *buffers)
{
    rt_status st = RT_OK;
    const size_t p = (size_t)(t->nets * t->n_params), nb = (size_t)(t->nets * t->n_buffers);
    if (snapshot) {
        if (!t->snapshot) return RT_RAISE(RT_ERR_ARG, "the run kept no snapshot");
        memcpy(theta, t->snapshot, p * sizeof *theta);
        if (nb) memcpy(buffers, t->snapshot + p, nb * sizeof *buffers);
        return RT_OK;
    }
    RT_TRY(rt_tensor_read(rt_judged(t), theta, p * sizeof *theta));
    if (t->buffers) RT_TRY(rt_tensor_read(t->buffers, buffers, nb * sizeof *buffers));
out:
    return st;
}
