#include "harness.h"

#include <stdlib.h>
#include <string.h>

#include "../support/suite.h"
#include "base/rng.h"

#define RT_FAMILY(name) extern const rt_case_table rt_case_table_##name;
#include "families.def"
#undef RT_FAMILY

static const rt_case_table *const families[] = {
#define RT_FAMILY(name) &rt_case_table_##name,
#include "families.def"
#undef RT_FAMILY
};

const rt_case *const *rt_all_cases(size_t *n)
{
    static const rt_case *all[1024];
    size_t k = 0;
    for (size_t f = 0; f < sizeof families / sizeof families[0]; f++)
        for (size_t i = 0; i < families[f]->n; i++) {
            if (k == sizeof all / sizeof all[0]) abort();
            all[k++] = &families[f]->cases[i];
        }
    *n = k;
    return all;
}

static int64_t count_of(const rt_case_in *in)
{
    int64_t n = 1;
    for (int i = 0; i < in->rank; i++) n *= in->d[i];
    return n;
}

static void *draw(const rt_case_in *in, rt_rng *r, bool as_float)
{
    int64_t n = count_of(in);
    if (in->kind == DRAW_INDEX) {
        int32_t *p = malloc((size_t)n * sizeof *p + 1);
        for (int64_t i = 0; i < n; i++) p[i] = (int32_t)((int64_t)in->lo + rt_rng_below(r, (uint32_t)(in->hi - in->lo)));
        return p;
    }
    double *p = malloc((size_t)n * sizeof *p + 1);
    int64_t *order = NULL;
    if (in->kind == DRAW_DISTINCT) {
        order = malloc((size_t)n * sizeof *order + 1);
        for (int64_t i = 0; i < n; i++) order[i] = i;
        rt_rng_shuffle(r, order, n);
    }
    for (int64_t i = 0; i < n; i++) {
        double u = rt_rng_uniform_in(r, in->kind == DRAW_PROB ? 0.1 : in->lo, in->kind == DRAW_PROB ? 1.0 : in->hi);
        switch (in->kind) {
        case DRAW_AWAY: p[i] = rt_rng_below(r, 2) ? u : -u; break;
        case DRAW_DISTINCT: p[i] = in->lo + (in->hi - in->lo) * ((double)order[i] + 0.5) / (double)n; break;
        case DRAW_DATA: p[i] = in->data[i]; break;
        default: p[i] = u; break;
        }
    }
    if (in->kind == DRAW_PROB) {
        int64_t cols = in->d[in->rank - 1];
        for (int64_t row = 0; row < n / cols; row++) {
            double sum = 0;
            for (int64_t j = 0; j < cols; j++) sum += p[row * cols + j];
            for (int64_t j = 0; j < cols; j++) p[row * cols + j] /= sum;
        }
    }
    if (as_float)
        for (int64_t i = 0; i < n; i++) p[i] = (double)(float)p[i];
    free(order);
    return p;
}

rt_val rt_bench_add_input(rt_bench_case *b, const char *name, rt_val v, uint32_t k)
{
    const rt_shape *s = rt_val_shape(b->g, v);
    rt_case_in in = {.kind = DRAW_AWAY, .lo = 0.25, .hi = 1, .rank = s->rank};
    memcpy(in.d, s->d, sizeof in.d);
    rt_rng r = rt_rng_at(b->c->seed, RT_RNG_TEST, 1, k);
    rt_val w = rt_input(b->g, name, *s);
    b->feed[b->n_feed++] = (rt_feed){w, draw(&in, &r, true)};
    return w;
}

void rt_bench_open(rt_bench_case *b, const rt_case *c, bool as_float)
{
    char name[16];
    memset(b, 0, sizeof *b);
    b->c = c;
    rt_ok(rt_graph_create(&b->g));
    for (; b->n_in < CASE_MAX_IN && c->in[b->n_in].kind != DRAW_END; b->n_in++) {
        const rt_case_in *in = &c->in[b->n_in];
        rt_rng r = rt_rng_at(c->seed, RT_RNG_TEST, 0, (uint32_t)b->n_in);
        snprintf(name, sizeof name, "x%d", b->n_in);
        rt_val v = rt_input(b->g, name, rt_shape_make(in->kind == DRAW_INDEX ? RT_I32 : RT_F32, in->rank, in->d));
        b->x[b->n_in] = v;
        b->feed[b->n_feed++] = (rt_feed){v, draw(in, &r, as_float)};
        if (in->kind != DRAW_INDEX && !in->no_grad) b->real[b->n_real++] = v;
    }
    c->build(b->g, b->x, b->y);
    rt_ok(rt_graph_status(b->g));
    b->n_out = c->n_out ? c->n_out : 1;
    rt_val real_y[RT_MAX_OUT];
    for (int o = 0; o < b->n_out; o++) {
        ck_assert_msg(b->y[o].id != 0, "%s: output %d is none", c->name, o);
        if (rt_val_shape(b->g, b->y[o])->dtype != RT_F32) continue;
        snprintf(name, sizeof name, "c%d", o);
        real_y[b->n_cot] = b->y[o];
        b->cot[b->n_cot++] = rt_bench_add_input(b, name, b->y[o], 100 + (uint32_t)o);
    }
    if (c->flags & CASE_NO_GRAD) b->n_real = 0;
    if (b->n_real) rt_ok(rt_vjp(b->g, real_y, b->cot, b->n_cot, b->real, b->n_real, b->gx));
}

void rt_bench_close(rt_bench_case *b)
{
    for (int i = 0; i < b->n_feed; i++) free((void *)b->feed[i].data);
    rt_graph_destroy(b->g);
}

int64_t rt_bench_count(const rt_bench_case *b, rt_val v) { return rt_shape_count(rt_val_shape(b->g, v)); }

double *rt_bench_eval(const rt_bench_case *b, rt_val v)
{
    int64_t n = rt_bench_count(b, v);
    double *out = malloc((size_t)n * sizeof *out + 1);
    bool real = rt_val_shape(b->g, v)->dtype == RT_F32;
    int32_t *whole = real ? NULL : malloc((size_t)n * sizeof *whole + 1);
    void *dst = real ? (void *)out : (void *)whole;
    rt_ok(rt_eval_ref(b->g, b->feed, b->n_feed, &v, 1, &dst));
    for (int64_t i = 0; !real && i < n; i++) out[i] = whole[i];
    free(whole);
    return out;
}
