/* A teacher's probabilities of real images (rank.h). */
#include "methods/recover/rank.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

enum { BATCH = 256 };

typedef struct pass {
    rt_tensor *x, *theta, *buffers, *logits;
    rt_exec *ex;
    float *host, *z;
    int64_t *index, batch, count; /* count: of x */
} pass;

static void pass_fini(pass *p)
{
    rt_exec_destroy(p->ex);
    rt_tensor *t[] = {p->x, p->theta, p->buffers, p->logits};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) rt_tensor_destroy(t[i]);
    rt_free(p->host);
    rt_free(p->z);
    rt_free(p->index);
}

static rt_status compile(const rt_build_ctx *ctx, const rt_teacher *t, pass *p)
{
    rt_status st = RT_OK;
    rt_graph *g = NULL;
    rt_forward f;
    const rt_model_desc *m = rt_model_desc_of(t->model);
    int64_t n_theta = rt_model_n_params(t->model), n_buffers = rt_model_n_buffers(t->model);
    rt_bind in[3], out;
    int n = 0;
    p->batch = ctx->train->n < BATCH ? ctx->train->n : BATCH;
    p->count = p->batch * m->size * m->size * 3;
    RT_ALLOC(p->host, (size_t)p->count * sizeof *p->host, "images to be ranked");
    RT_ALLOC(p->z, (size_t)(p->batch * m->classes) * sizeof *p->z, "logits");
    RT_ALLOC(p->index, (size_t)p->batch * sizeof *p->index, "images to be ranked");
    RT_TRY(rt_tensor_create(ctx->be, RT_SHAPE(RT_F32, p->batch, m->size, m->size, 3), &p->x));
    RT_TRY(rt_tensor_create(ctx->be, RT_SHAPE(RT_F32, p->batch, m->classes), &p->logits));
    RT_TRY(rt_tensor_create(ctx->be, RT_SHAPE(RT_F32, n_theta), &p->theta));
    RT_TRY(rt_tensor_write(p->theta, t->theta, (size_t)n_theta * sizeof *t->theta));
    RT_TRY(rt_graph_create(&g));
    in[n++] = (rt_bind){rt_input(g, "x", *rt_tensor_shape(p->x)), p->x};
    in[n++] = (rt_bind){rt_input(g, "theta", *rt_tensor_shape(p->theta)), p->theta};
    if (n_buffers) {
        RT_TRY(rt_tensor_create(ctx->be, RT_SHAPE(RT_F32, n_buffers), &p->buffers));
        RT_TRY(rt_tensor_write(p->buffers, t->buffers, (size_t)n_buffers * sizeof *t->buffers));
        in[n++] = (rt_bind){rt_input(g, "buffers", *rt_tensor_shape(p->buffers)), p->buffers};
    }
    RT_TRY(rt_model_forward(t->model, g, in[0].v, in[1].v, n_buffers ? in[2].v : (rt_val){0}, 0, &f));
    RT_TRY(rt_graph_status(g));
    out = (rt_bind){f.logits, p->logits};
    RT_TRY(rt_exec_prepare(ctx->be, g, in, n, &out, 1, NULL, &p->ex));
out:
    rt_graph_destroy(g);
    return st;
}

static double probability_of(const float *z, int32_t classes, int32_t label)
{
    double top = z[0], sum = 0;
    for (int32_t j = 1; j < classes; j++) top = z[j] > top ? z[j] : top;
    for (int32_t j = 0; j < classes; j++) sum += exp((double)z[j] - top);
    return exp((double)z[label] - top) / sum;
}

rt_status rt_rank_probability(const rt_build_ctx *ctx, const rt_teacher *t, double *probability)
{
    rt_status st = RT_OK;
    pass p = {0};
    const rt_images *tr = ctx->train;
    int32_t classes = rt_model_desc_of(t->model)->classes;
    rt_exec_stats stats;
    double passes = 0;
    RT_TRYF(compile(ctx, t, &p), "forward pass of teacher %s", t->name);
    rt_exec_get_stats(p.ex, &stats);
    for (int64_t at = 0; at < tr->n; at += p.batch, passes++) {
        for (int64_t i = 0; i < p.batch; i++) p.index[i] = at + i < tr->n ? at + i : tr->n - 1; /* the last ones repeat */
        RT_TRY(rt_batch_fill(tr, p.index, p.batch, &ctx->norm, NULL, 0, 0, ctx->threads, p.host));
        RT_TRY(rt_tensor_write(p.x, p.host, (size_t)p.count * sizeof *p.host));
        RT_TRY(rt_exec_run(p.ex));
        RT_TRY(rt_tensor_read(p.logits, p.z, (size_t)(p.batch * classes) * sizeof *p.z));
        for (int64_t i = 0; i < p.batch && at + i < tr->n; i++) {
            double q = probability_of(p.z + i * classes, classes, tr->label[at + i]);
            if (!isfinite(q)) {
                st = RT_RAISE(RT_ERR_NUMERIC, "teacher %s gives image %s no probability", t->name, tr->key[at + i]);
                rt_error_fix(st, "train it with a lower teach.lr");
                goto out;
            }
            probability[at + i] = q;
        }
    }
    rt_cost_entry *cost = rt_ledger_entry(ctx->ledger);
    cost->flops += stats.flops * passes;
    cost->images_seen += (double)tr->n;
out:
    pass_fini(&p);
    return st;
}

typedef struct scored {
    double score;
    int64_t place, member;
} scored;

static int by_score(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? -1 : 1;
    return x->place < y->place ? -1 : x->place > y->place;
}

rt_status rt_rank_ascending(const double *probability, const int64_t *member, int64_t n, int64_t *order)
{
    rt_status st = RT_OK;
    scored *s = NULL;
    RT_ALLOC(s, (size_t)n * sizeof *s, "ranking");
    for (int64_t i = 0; i < n; i++) s[i] = (scored){probability[member[i]], i, member[i]};
    qsort(s, (size_t)n, sizeof *s, by_score);
    for (int64_t i = 0; i < n; i++) order[i] = s[i].member;
out:
    rt_free(s);
    return st;
}
