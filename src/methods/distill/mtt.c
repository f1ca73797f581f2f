/* MTT and TESLA: matching training trajectories.
 *
 * MTT (Cazenavette et al., "Dataset distillation by matching training trajectories", CVPR 2022; matching.md 4.5): take
 * snapshot s of an expert, train N steps on the synthetic images from there, and move pixels and step size so that the
 * end comes closer to the expert's snapshot s + M. The gradient is exact (unroll.h).
 *
 * TESLA (Cui et al., "Scaling up dataset distillation to ImageNet-1K with constant memory", ICML 2023; matching.md 3.5,
 * 4.6) is the same iteration with every theta_t taken as a constant: `hessian` off. Its released code hands half of that
 * gradient to the pixels, and its published rates belong to it, so this is the default (`half_gradient`). With
 * `soft_labels` the labels of every iteration are what the target snapshot says of the images as they are; the set keeps
 * those of the last iteration.
 *
 * What the two share with DATM is in trajectory.h; how experts are drawn, in expert_draw.h. */
#include <string.h>

#include "methods/distill/expert_draw.h"
#include "methods/distill/trajectory.h"

typedef struct mtt {
    const rt_build_ctx *ctx;
    const char *name;
    bool noise, soft;
    int64_t max_start, expert_epochs;
    rt_traj t;
    rt_draws draws;
} mtt;

/* --- settings: two sections of one shape ----------------------------------------------------------------------------------- */
typedef struct settings {
    rt_traj_params p;
    int64_t iterations, max_start, expert_epochs;
    bool noise, soft;
} settings;

#define SETTINGS(s)                                                                                                    \
    {                                                                                                                  \
        .p = {.steps = (int32_t)(s).steps, .batch = (s).batch, .lr_pixel = (s).lr_pixel, .lr_step = (s).lr_step,       \
              .momentum_pixel = (s).momentum_pixel, .momentum_step = (s).momentum_step, .step0 = (s).step0,            \
              .threshold = (s).threshold, .dsa = (s).dsa, .hessian = (s).hessian, .log_step = (s).log_step},           \
        .iterations = (s).iterations, .max_start = (s).max_start, .expert_epochs = (s).expert_epochs,                  \
        .noise = !strcmp((s).init, "noise")                                                                            \
    }

static settings mtt_settings(const rt_config *c) { return (settings)SETTINGS(c->mtt); }

static settings tesla_settings(const rt_config *c)
{
    settings s = SETTINGS(c->tesla);
    s.p.half_pixel_gradient = c->tesla.half_gradient;
    s.soft = c->tesla.soft_labels;
    return s;
}

/* --- the method ---------------------------------------------------------------------------------------------------------------- */
static rt_status start(void *self)
{
    rt_status st = RT_OK;
    mtt *m = self;
    RT_TRY(rt_draws_initial(&m->draws, m->noise, m->t.images, NULL));
    rt_traj_start(&m->t);
out:
    return st;
}

static rt_status push(void *self) { return rt_traj_push(&((mtt *)self)->t); }
static rt_status pull(void *self) { return rt_traj_pull(&((mtt *)self)->t); }

static rt_status result(void *self, rt_set *out)
{
    const mtt *m = self;
    return rt_traj_result(&m->t, m->name, m->soft, out);
}

static rt_status iterate(void *self, int64_t it, rt_distill_step *s)
{
    rt_status st = RT_OK;
    mtt *m = self;
    RT_TRYF(rt_expert_segment(m->ctx, m->t.model, it, 0, m->max_start, m->expert_epochs, m->t.theta0, m->t.target),
            "iteration %lld", (long long)it);
    if (m->soft) RT_TRY(rt_traj_relabel(&m->t, m->t.target));
    RT_TRY(rt_traj_iterate(&m->t, it, s));
out:
    return st;
}

static void say_deviations(const settings *s, bool tesla, rt_distill *f)
{
    if (s->noise) f->deviation[f->n_deviations++] = "initial images are noise instead of real images";
    if (s->p.log_step) f->deviation[f->n_deviations++] = "the logarithm of the step size is optimised, so that it stays positive";
    if (s->p.threshold > 0) f->deviation[f->n_deviations++] = "iterations over a loss threshold change nothing";
    if (!tesla && !s->p.hessian)
        f->deviation[f->n_deviations++] = "products with the Hessian are left out: the gradient of TESLA";
    if (tesla && s->p.hessian)
        f->deviation[f->n_deviations++] = "the gradient is exact: products with the Hessian are kept";
    if (tesla && !s->p.half_pixel_gradient)
        f->deviation[f->n_deviations++] = "pixels see the whole gradient; the released code, and its rates, halve it";
}

/* m is zeroed; close it whatever happens. */
static rt_status open_mtt(const rt_build_ctx *ctx, const char *name, const settings *s, mtt *m, rt_distill *f)
{
    rt_status st = RT_OK;
    *m = (mtt){.ctx = ctx, .name = name, .noise = s->noise, .soft = s->soft, .max_start = s->max_start,
               .expert_epochs = s->expert_epochs};
    RT_TRY(rt_traj_open(ctx, &s->p, &m->t));
    RT_TRY(rt_draws_open(ctx, s->iterations, 0, m->t.n_params, &m->draws));
    *f = (rt_distill){.name = name, .iterations = s->iterations, .self = m, .start = start, .push = push, .pull = pull,
                      .iterate = iterate, .result = result};
    rt_traj_state(&m->t, f);
    say_deviations(s, !strcmp(name, "tesla"), f);
out:
    return st;
}

static void close_mtt(mtt *m)
{
    rt_draws_close(&m->draws);
    rt_traj_close(&m->t);
}

static rt_status construct(const rt_build_ctx *ctx, const char *name, const settings *s, rt_set *out)
{
    rt_status st = RT_OK;
    mtt m = {0};
    rt_distill f;
    if (!ctx->experts) return RT_RAISE(RT_ERR_ARG, "%s without experts", name);
    RT_TRY(open_mtt(ctx, name, s, &m, &f));
    RT_TRY(rt_distill_run(ctx, &f, out));
out:
    close_mtt(&m);
    return st;
}

static rt_status estimate(const rt_build_ctx *ctx, const char *name, settings s, rt_estimate *out)
{
    rt_status st = RT_OK;
    mtt m = {0};
    rt_distill f;
    s.p.threshold = 0; /* the networks that stand in for experts are far from each other */
    RT_TRY(open_mtt(ctx, name, &s, &m, &f));
    RT_TRY(rt_distill_estimate(ctx, &f, rt_traj_bytes(&m.t), out));
out:
    close_mtt(&m);
    return st;
}

/* --- the two rows ----------------------------------------------------------------------------------------------------------- */
#define METHOD(name_, title_)                                                                                          \
    static rt_status name_##_construct(const rt_build_ctx *ctx, rt_set *out)                                           \
    {                                                                                                                  \
        const settings s = name_##_settings(ctx->config);                                                              \
        return construct(ctx, #name_, &s, out);                                                                        \
    }                                                                                                                  \
    static rt_status name_##_estimate(const rt_build_ctx *ctx, rt_estimate *out)                                       \
    {                                                                                                                  \
        return estimate(ctx, #name_, name_##_settings(ctx->config), out);                                              \
    }                                                                                                                  \
    static int64_t name_##_iterations(const rt_config *c) { return c->name_.iterations; }                              \
    static void name_##_span(const rt_config *c, int64_t *last, bool *final)                                           \
    {                                                                                                                  \
        *last = c->name_.max_start - 1 + c->name_.expert_epochs;                                                       \
        *final = false;                                                                                                \
    }                                                                                                                  \
    const rt_method rt_method_##name_ = {.name = #name_, .family = "trajectory matching", .title = title_,             \
                                         .needs = RT_NEEDS_EXPERTS, .stochastic = true, .expert_span = name_##_span,   \
                                         .iterations = name_##_iterations, .construct = name_##_construct,             \
                                         .estimate = name_##_estimate};
METHOD(mtt, "MTT (Cazenavette et al., CVPR 2022)")
METHOD(tesla, "TESLA (Cui et al., ICML 2023)")
