/* What a recovery's loss is made of: cross-entropy and distances of statistics, each group of images apart (recover.h). */
#include "methods/recover/recover.h"

rt_val rt_recover_ce(const rt_recover_graph *w)
{
    rt_val sum = rt_sum_all(w->g, rt_softmax_ce(w->g, w->logits, w->label));
    return rt_mul_scalar(w->g, sum, 1 / (double)w->each);
}

void rt_recover_moments(const rt_recover_graph *w, rt_val x, rt_val *mean, rt_val *var)
{
    rt_moments(w->g, x, w->groups, mean, var);
}

void rt_recover_running(const rt_recover_graph *w, const rt_tap *tap, rt_val *mean, rt_val *var)
{
    const rt_model *m = w->teacher->model;
    *mean = rt_view1d(w->g, w->buffers, rt_model_stat_at(m, tap->mean)->offset, RT_SHAPE(RT_F32, tap->c));
    *var = rt_view1d(w->g, w->buffers, rt_model_stat_at(m, tap->var)->offset, RT_SHAPE(RT_F32, tap->c));
}

rt_val rt_recover_distance(const rt_recover_graph *w, rt_val x, rt_val y)
{
    rt_graph *g = w->g;
    rt_val d = rt_sub(g, x, y), square = rt_sum(g, rt_square(g, d), 2u, false);
    rt_val apart = rt_step(g, square), safe = rt_add(g, square, rt_add_scalar(g, rt_neg(g, apart), 1)); /* 1 where they coincide */
    return rt_mul(g, rt_sqrt(g, safe), apart);
}

rt_val rt_recover_bn(const rt_recover_graph *w, double first, double var_weight, const rt_val *mean, const rt_val *var)
{
    rt_graph *g = w->g;
    rt_val total = rt_scalar(g, 0);
    int32_t k = 0;
    for (int32_t i = 0; w->taps && i < w->taps->n; i++) {
        const rt_tap *tap = &w->taps->tap[i];
        rt_val mu, v, want_mu, want_v;
        if (tap->kind != RT_TAP_NORM || tap->mean < 0) continue;
        rt_recover_moments(w, tap->input, &mu, &v);
        rt_recover_running(w, tap, &want_mu, &want_v);
        if (mean) want_mu = mean[k];
        if (var) want_v = var[k];
        rt_val layer = rt_add(g, rt_recover_distance(w, mu, want_mu), rt_mul_scalar(g, rt_recover_distance(w, v, want_v), var_weight));
        total = rt_add(g, total, rt_mul_scalar(g, rt_sum_all(g, layer), k == 0 ? first : 1));
        k++;
    }
    return total;
}
