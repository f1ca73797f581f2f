/* Short measured runs of a trainer's steps, for `retort plan`. */
#include "base/log.h"
#include "teacher/steps.h"

enum { PROBE_RUNS = 2 };

static rt_status time_exec(rt_exec *ex, double *seconds)
{
    rt_status st = RT_OK;
    RT_TRY(rt_exec_run(ex)); /* warm-up */
    double begun = rt_now();
    for (int i = 0; i < PROBE_RUNS; i++) RT_TRY(rt_exec_run(ex));
    *seconds = (rt_now() - begun) / PROBE_RUNS;
out:
    return st;
}

rt_status rt_trainer_probe(rt_trainer *t, int64_t batch, double *seconds, rt_exec_stats *stats)
{
    rt_status st = RT_OK;
    rt_train_step *s = NULL;
    RT_TRY(rt_train_step_get(t, batch, &s));
    RT_TRY(time_exec(s->exec, seconds));
    rt_exec_get_stats(s->exec, stats);
out:
    return st;
}

rt_status rt_trainer_probe_infer(rt_trainer *t, double *seconds, double *flops)
{
    enum { BATCH = 256 };
    rt_status st = RT_OK;
    rt_infer_step *s = NULL;
    rt_exec_stats stats;
    RT_TRY(rt_infer_step_get(t, BATCH, &s));
    RT_TRY(time_exec(s->exec, seconds));
    rt_exec_get_stats(s->exec, &stats);
    *seconds /= BATCH;
    *flops = stats.flops / BATCH;
out:
    return st;
}
