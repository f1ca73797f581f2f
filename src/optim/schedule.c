/* Learning-rate schedules: pure functions of e, the number of units done.
 *
 * Whoever asks decides the unit. Stepping once per epoch (the matching and the decoupled families) asks at the start of
 * epoch i with e = i, so epoch 0 has the full rate and a cosine ends just above its last value. Stepping per iteration
 * asks with e = i too, and `total` in iterations.
 *
 * During warm-up the rate is lr0 * e / warmup; the cosine spans what is left: x = (e - warmup) / (total - warmup).
 * Milestones count from the start. */
#include "optim/optim.h"

#include <math.h>

static int passed(const rt_schedule *s, double e)
{
    int n = 0;
    for (int32_t i = 0; i < s->n_milestones; i++) n += e >= s->milestone[i];
    return n;
}

double rt_schedule_at(const rt_schedule *s, double lr0, double e)
{
    if (s->warmup > 0 && e < s->warmup) return lr0 * (e > 0 ? e : 0) / s->warmup;
    switch (s->kind) {
    case RT_SCHED_STEP:
        return lr0 * pow(s->factor, passed(s, e));
    case RT_SCHED_COSINE:
    case RT_SCHED_LINEAR:
    case RT_SCHED_COSINE2: {
        const double pi = 3.14159265358979323846, zeta = s->zeta > 0 ? s->zeta : 1.0, turn = 5.0 / 6.0;
        double span = s->total - s->warmup, x = span > 0 ? (e - s->warmup) / span : 1.0;
        if (x > 1) x = 1;
        if (s->kind == RT_SCHED_LINEAR) return lr0 * (1.0 - x / zeta);
        if (s->kind == RT_SCHED_COSINE2 && x > turn) /* EDC's factor is (E - e) / E: it drops to a sixth at the turn */
            return 0.5 * lr0 * (1.0 + cos(pi * turn / zeta)) * (1.0 - x);
        return 0.5 * lr0 * (1.0 + cos(pi * x / zeta));
    }
    case RT_SCHED_CONSTANT:
        break;
    }
    return lr0;
}

int rt_schedule_restarts(const rt_schedule *s, double before, double e)
{
    return s->kind == RT_SCHED_STEP && s->restart && passed(s, e) != passed(s, before);
}

rt_schedule rt_schedule_dc(int64_t epochs)
{
    return (rt_schedule){.kind = RT_SCHED_STEP,
                         .total = (double)(epochs + 1),
                         .factor = 0.1,
                         .milestone = {(double)(epochs / 2 + 2)},
                         .n_milestones = 1,
                         .restart = 1};
}
