/* DATM: trajectory matching aligned with difficulty (Guo et al., "Towards lossless dataset distillation via difficulty-aligned
 * trajectory matching", ICLR 2024; matching.md 4.7).
 *
 * MTT with a window of start epochs that fits the number of images and grows while it runs, label logits that are learned, and
 * images that experts already classify to begin with. Experts are meant to be flat: experts.gsam_rho. An iteration over the
 * threshold changes nothing, no momentum either (trajectory.h). */
#include <string.h>

#include "base/log.h"
#include "methods/distill/datm.h"
#include "methods/distill/expert_draw.h"
#include "methods/distill/trajectory.h"

typedef struct datm {
    const rt_build_ctx *ctx;
    rt_traj t;
} datm;

static bool correct_init(const rt_config *c) { return !strcmp(c->datm.init, "correct"); }

/* End of the start window at iteration it: it grows from first_max_start to max_start over `grow` iterations. */
static int64_t window_end(const rt_config *c, int64_t it)
{
    int64_t from = c->datm.first_max_start, to = c->datm.max_start;
    if (c->datm.grow == 0 || from >= to || it >= c->datm.grow) return to;
    return from + (int64_t)((double)(to - from) * (double)it / (double)c->datm.grow);
}

static rt_status start(void *self)
{
    rt_status st = RT_OK;
    datm *d = self;
    rt_datm_gaps gaps;
    RT_TRY(rt_datm_start(d->ctx, correct_init(d->ctx->config), d->t.images, d->t.labels, &gaps));
    if (gaps.images)
        rt_log_line(RT_LOG_WARN, "datm: %lld initial images are classified right by no expert", (long long)gaps.images);
    if (gaps.labels)
        rt_log_line(RT_LOG_WARN, "datm: no expert is right on %lld initial images; their labels are those of the least wrong",
                    (long long)gaps.labels);
    rt_traj_start(&d->t);
out:
    return st;
}

static rt_status push(void *self) { return rt_traj_push(&((datm *)self)->t); }
static rt_status pull(void *self) { return rt_traj_pull(&((datm *)self)->t); }
static rt_status result(void *self, rt_set *out) { return rt_traj_result(&((datm *)self)->t, "datm", true, out); }

static rt_status iterate(void *self, int64_t it, rt_distill_step *s)
{
    rt_status st = RT_OK;
    datm *d = self;
    const rt_config *c = d->ctx->config;
    RT_TRYF(rt_expert_segment(d->ctx, d->t.model, it, c->datm.min_start, window_end(c, it), c->datm.expert_epochs, d->t.theta0,
                              d->t.target),
            "iteration %lld", (long long)it);
    RT_TRY(rt_traj_iterate(&d->t, it, s));
out:
    return st;
}

static rt_status check(const rt_config *c)
{
    if (c->datm.min_start < c->datm.max_start && (c->datm.grow == 0 || c->datm.min_start < c->datm.first_max_start)) return RT_OK;
    rt_status st = RT_RAISE(RT_ERR_CONFIG, "datm: the window of start epochs is empty: from %lld, up to %lld and then %lld",
                            (long long)c->datm.min_start, (long long)c->datm.first_max_start, (long long)c->datm.max_start);
    return rt_error_fix(st, "set datm.min_start below datm.first_max_start and datm.max_start");
}

static rt_status open_datm(const rt_build_ctx *ctx, bool estimate, datm *d, rt_distill *f)
{
    rt_status st = RT_OK;
    const rt_config *c = ctx->config;
    rt_traj_params p = {.steps = (int32_t)c->datm.steps, .batch = c->datm.batch, .lr_pixel = c->datm.lr_pixel,
                        .lr_step = c->datm.lr_step, .lr_label = c->datm.lr_label, .momentum_pixel = c->datm.momentum_pixel,
                        .momentum_step = c->datm.momentum_step, .momentum_label = c->datm.momentum_label,
                        .step0 = c->datm.step0, .threshold = estimate ? 0 : c->datm.threshold, .dsa = c->datm.dsa,
                        .hessian = true, .logits = true};
    *d = (datm){.ctx = ctx};
    RT_TRY(check(c));
    RT_TRY(rt_traj_open(ctx, &p, &d->t));
    *f = (rt_distill){.name = "datm", .iterations = c->datm.iterations, .self = d, .start = start, .push = push, .pull = pull,
                      .iterate = iterate, .result = result};
    rt_traj_state(&d->t, f);
    if (!correct_init(c))
        f->deviation[f->n_deviations++] = "initial images are random real ones, their labels the logits of one expert";
    if (c->experts.gsam_rho == 0)
        f->deviation[f->n_deviations++] = "experts were trained by plain SGD instead of GSAM";
out:
    return st;
}

static rt_status construct(const rt_build_ctx *ctx, rt_set *out)
{
    rt_status st = RT_OK;
    datm d = {0};
    rt_distill f;
    if (!ctx->experts) return RT_RAISE(RT_ERR_ARG, "datm without experts");
    RT_TRY(open_datm(ctx, false, &d, &f));
    RT_TRY(rt_distill_run(ctx, &f, out));
out:
    rt_traj_close(&d.t);
    return st;
}

static rt_status estimate(const rt_build_ctx *ctx, rt_estimate *out)
{
    rt_status st = RT_OK;
    datm d = {0};
    rt_distill f;
    RT_TRY(open_datm(ctx, true, &d, &f));
    RT_TRY(rt_distill_estimate(ctx, &f, rt_traj_bytes(&d.t), out));
out:
    rt_traj_close(&d.t);
    return st;
}

static int64_t iterations(const rt_config *c) { return c->datm.iterations; }

static void expert_span(const rt_config *c, int64_t *last, bool *final)
{
    *last = c->datm.max_start - 1 + c->datm.expert_epochs;
    *final = true; /* images and labels begin with what the finished experts say */
}

const rt_method rt_method_datm = {.name = "datm", .family = "trajectory matching", .title = "DATM (Guo et al., ICLR 2024)",
                                  .needs = RT_NEEDS_EXPERTS, .stochastic = true, .expert_span = expert_span,
                                  .iterations = iterations, .construct = construct, .estimate = estimate};
