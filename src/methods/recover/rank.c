/* A teacher's probabilities of images (rank.h). */
#include "methods/recover/rank.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

enum { BATCH = 256 };

struct rt_scorer {
    const rt_build_ctx *ctx;
    const rt_teacher *teacher;
    rt_tensor *x, *theta, *buffers, *logits;
    rt_exec *ex;
    float *host, *z;
    int64_t batch, px;
    int32_t classes;
    double flops;
};

void rt_scorer_close(rt_scorer *s)
{
    if (!s) return;
    rt_exec_destroy(s->ex);
    rt_tensor *t[] = {s->x, s->theta, s->buffers, s->logits};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) rt_tensor_destroy(t[i]);
    rt_free(s->host);
    rt_free(s->z);
    rt_free(s);
}

float *rt_scorer_images(rt_scorer *s) { return s->host; }

static rt_status compile(rt_scorer *s)
{
    rt_status st = RT_OK;
    rt_graph *g = NULL;
    rt_forward f;
    rt_exec_stats stats;
    const rt_teacher *t = s->teacher;
    rt_backend *be = s->ctx->be;
    int32_t size = rt_model_desc_of(t->model)->size;
    int64_t n_theta = rt_model_n_params(t->model), n_buffers = rt_model_n_buffers(t->model);
    rt_bind in[3], out;
    int n = 0;
    RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, s->batch, size, size, 3), &s->x));
    RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, s->batch, s->classes), &s->logits));
    RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, n_theta), &s->theta));
    RT_TRY(rt_tensor_write(s->theta, t->theta, (size_t)n_theta * sizeof *t->theta));
    RT_TRY(rt_graph_create(&g));
    in[n++] = (rt_bind){rt_input(g, "x", *rt_tensor_shape(s->x)), s->x};
    in[n++] = (rt_bind){rt_input(g, "theta", *rt_tensor_shape(s->theta)), s->theta};
    if (n_buffers) {
        RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, n_buffers), &s->buffers));
        RT_TRY(rt_tensor_write(s->buffers, t->buffers, (size_t)n_buffers * sizeof *t->buffers));
        in[n++] = (rt_bind){rt_input(g, "buffers", *rt_tensor_shape(s->buffers)), s->buffers};
    }
    RT_TRY(rt_model_forward(t->model, g, in[0].v, in[1].v, n_buffers ? in[2].v : (rt_val){0}, 0, &f));
    RT_TRY(rt_graph_status(g));
    out = (rt_bind){f.logits, s->logits};
    RT_TRY(rt_exec_prepare(be, g, in, n, &out, 1, NULL, &s->ex));
    rt_exec_get_stats(s->ex, &stats);
    s->flops = stats.flops;
out:
    rt_graph_destroy(g);
    return st;
}

rt_status rt_scorer_open(const rt_build_ctx *ctx, const rt_teacher *t, int64_t batch, rt_scorer **out)
{
    rt_status st = RT_OK;
    rt_scorer *s = NULL;
    const rt_model_desc *m = rt_model_desc_of(t->model);
    RT_ALLOC(s, sizeof *s, "ranking of images");
    memset(s, 0, sizeof *s);
    *s = (rt_scorer){.ctx = ctx, .teacher = t, .batch = batch, .px = (int64_t)m->size * m->size * 3, .classes = m->classes};
    RT_ALLOC(s->host, (size_t)(batch * s->px) * sizeof *s->host, "images to be ranked");
    RT_ALLOC(s->z, (size_t)(batch * s->classes) * sizeof *s->z, "logits");
    memset(s->host, 0, (size_t)(batch * s->px) * sizeof *s->host);
    RT_TRYF(compile(s), "forward pass of teacher %s", t->name);
    *out = s;
    s = NULL;
out:
    rt_scorer_close(s);
    return st;
}

static double log_probability(const float *z, int32_t classes, int32_t label)
{
    double top = z[0], sum = 0;
    for (int32_t j = 1; j < classes; j++) top = z[j] > top ? z[j] : top;
    for (int32_t j = 0; j < classes; j++) sum += exp((double)z[j] - top);
    return (double)z[label] - top - log(sum);
}

rt_status rt_scorer_run(rt_scorer *s, const int32_t *label, int64_t n, double *logp)
{
    rt_status st = RT_OK;
    RT_TRY(rt_tensor_write(s->x, s->host, (size_t)(s->batch * s->px) * sizeof *s->host));
    RT_TRY(rt_exec_run(s->ex));
    RT_TRY(rt_tensor_read(s->logits, s->z, (size_t)(s->batch * s->classes) * sizeof *s->z));
    for (int64_t i = 0; i < n; i++) {
        logp[i] = log_probability(s->z + i * s->classes, s->classes, label[i]);
        if (!isfinite(logp[i])) {
            st = RT_RAISE(RT_ERR_NUMERIC, "teacher %s gives image %lld of a batch no probability", s->teacher->name, (long long)i);
            rt_error_fix(st, "train it with a lower teach.lr");
            goto out;
        }
    }
    rt_ledger_entry(s->ctx->ledger)->flops += s->flops;
    rt_ledger_entry(s->ctx->ledger)->images_seen += (double)n;
out:
    return st;
}

rt_status rt_rank_probability(const rt_build_ctx *ctx, const rt_teacher *t, double *probability)
{
    rt_status st = RT_OK;
    const rt_images *tr = ctx->train;
    int64_t batch = tr->n < BATCH ? tr->n : BATCH, *index = NULL;
    rt_scorer *s = NULL;
    RT_TRY(rt_scorer_open(ctx, t, batch, &s));
    RT_ALLOC(index, (size_t)batch * sizeof *index, "images to be ranked");
    for (int64_t at = 0; at < tr->n; at += batch) {
        int64_t n = tr->n - at < batch ? tr->n - at : batch;
        for (int64_t i = 0; i < n; i++) index[i] = at + i;
        RT_TRY(rt_batch_fill(tr, index, n, &ctx->norm, NULL, 0, 0, ctx->threads, s->host));
        RT_TRYF(rt_scorer_run(s, tr->label + at, n, probability + at), "training images from %s on", tr->key[at]);
        for (int64_t i = 0; i < n; i++) probability[at + i] = exp(probability[at + i]);
    }
out:
    rt_scorer_close(s);
    rt_free(index);
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

rt_status rt_rank_ascending(const double *score, const int64_t *member, int64_t n, int64_t *order)
{
    rt_status st = RT_OK;
    scored *s = NULL;
    RT_ALLOC(s, (size_t)n * sizeof *s, "ranking");
    for (int64_t i = 0; i < n; i++) s[i] = (scored){score[member[i]], i, member[i]};
    qsort(s, (size_t)n, sizeof *s, by_score);
    for (int64_t i = 0; i < n; i++) order[i] = s[i].member;
out:
    rt_free(s);
    return st;
}
