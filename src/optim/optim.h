/* Optimisers as graph builders, and schedules as plain functions of the step. */
#ifndef RT_OPTIM_OPTIM_H
#define RT_OPTIM_OPTIM_H

#include <stdint.h>

#include "retort/graph.h"

typedef enum rt_optim_kind { RT_SGD, RT_ADAM, RT_ADAMW } rt_optim_kind;
typedef struct rt_optim_desc {
    rt_optim_kind kind;
    double lr, momentum, weight_decay, beta1, beta2, eps;
    int32_t nesterov;
} rt_optim_desc;

typedef enum rt_schedule_kind {
    RT_SCHED_CONSTANT,
    RT_SCHED_STEP,
    RT_SCHED_COSINE,
    RT_SCHED_LINEAR, /* 1 - e / (zeta E): with zeta 2 from 1 to one half, what EDC's ImageNet-1K code runs */
    RT_SCHED_COSINE2 /* EDC's cos2: the cosine up to 5/6 of E, from there its value times (E - e) / E */
} rt_schedule_kind;
typedef struct rt_schedule {
    rt_schedule_kind kind;
    double total;  /* epochs (or steps) E */
    double zeta;   /* cosine: lr = 1/2 (1 + cos(pi e / (zeta E))); 1 anneals to 0 */
    double factor; /* step: multiplied at each milestone */
    double milestone[4];
    int32_t n_milestones;
    double warmup;   /* linear from 0 over this many */
    int32_t restart; /* step: the optimiser is rebuilt (state zeroed, t = 1 again) at each milestone */
} rt_schedule;
/* Rate of the unit that begins when e epochs (or steps) are done; schedule.c says what that means for each kind. */
double rt_schedule_at(const rt_schedule *s, double lr0, double e);
/* 1 when the optimiser must be rebuilt because a milestone lies in (before, e]: ask at the start of every epoch with
 * before = e - 1. */
int rt_schedule_restarts(const rt_schedule *s, double before, double e);
/* Evaluation of the DC family (matching.md 4.1): epochs 0 .. E, so E + 1 of them; the rate falls tenfold *after* the
 * epoch with index floor(E/2) + 1 and the optimiser is rebuilt there, losing its momentum. */
rt_schedule rt_schedule_dc(int64_t epochs);

/* Number of state vectors of length P the optimiser keeps: 1 (SGD: v) or 2 (Adam: m, v). */
int rt_optim_n_state(const rt_optim_desc *d);
/* hyper is f32[3]: SGD reads [0] = lr; Adam reads lr, 1-beta1^t, 1-beta2^t. Fills host values for update t >= 1. */
void rt_optim_hyper(const rt_optim_desc *d, double lr, int64_t t, float hyper[3]);
/* Builds theta' and state' (rt_optim_n_state values). state [P] each, zero before the first step. hyper: input f32[3];
 * decay: rank 0 or [P] value, already multiplied by weight_decay. */
rt_val rt_optim_step(rt_graph *g, const rt_optim_desc *d, rt_val theta, const rt_val *state, rt_val grad, rt_val hyper,
                     rt_val decay, rt_val *state_new);
/* GSAM, adaptive: two gradients of one batch make a step's direction. theta and gradients [P], or [M,P] with norms of each row.
 * Where the second gradient is taken: theta + rho theta^2 grad / (||theta grad|| + 1e-12). */
rt_val rt_gsam_ascend(rt_graph *g, rt_val theta, rt_val grad, double rho);
/* sharp - alpha (grad - its projection on sharp), with sharp the gradient there. */
rt_val rt_gsam_direction(rt_graph *g, rt_val grad, rt_val sharp, double alpha);
/* avg' = decay * avg + (1 - decay) * theta, in the graph. */
rt_val rt_ema_step(rt_graph *g, rt_val avg, rt_val theta, double decay);

#endif
