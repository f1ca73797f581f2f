/* Initial images and label logits of DATM (datm.h). Experts judge images as they are, in batches of one compiled step. */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/rng.h"
#include "methods/distill/datm.h"
#include "methods/distill/distill.h"

enum { JUDGED = 256 };

typedef struct judge {
    const rt_build_ctx *ctx;
    rt_model *m;
    rt_exec *exec;
    rt_tensor *theta, *x, *z;
    int64_t batch, px, classes;
    float *weights, *host_x, *host_z;
} judge;

static void judge_close(judge *j)
{
    rt_exec_destroy(j->exec);
    rt_tensor_destroy(j->theta);
    rt_tensor_destroy(j->x);
    rt_tensor_destroy(j->z);
    rt_model_destroy(j->m);
    rt_free(j->weights);
    rt_free(j->host_x);
    rt_free(j->host_z);
}

static rt_status judge_open(const rt_build_ctx *ctx, judge *j)
{
    rt_status st = RT_OK;
    rt_graph *g = NULL;
    rt_forward f;
    const int64_t size = ctx->net.size;
    *j = (judge){.ctx = ctx, .batch = JUDGED, .px = size * size * 3, .classes = ctx->net.classes};
    RT_TRY(rt_model_create(&ctx->net, &j->m));
    const int64_t p = rt_model_n_params(j->m), n_buffers = rt_model_n_buffers(j->m);
    if (n_buffers) {
        st = RT_RAISE(RT_ERR_CONFIG, "datm: experts keep weights only, and this network predicts with running statistics");
        rt_error_fix(st, "set network.norm to instance");
        goto out;
    }
    RT_ALLOC(j->weights, (size_t)p * sizeof *j->weights, "weights of an expert");
    RT_ALLOC(j->host_x, (size_t)(j->batch * j->px) * sizeof *j->host_x, "judged images");
    RT_ALLOC(j->host_z, (size_t)(j->batch * j->classes) * sizeof *j->host_z, "logits");
    RT_TRY(rt_tensor_create(ctx->be, RT_SHAPE(RT_F32, p), &j->theta));
    RT_TRY(rt_tensor_create(ctx->be, RT_SHAPE(RT_F32, j->batch, size, size, 3), &j->x));
    RT_TRY(rt_tensor_create(ctx->be, RT_SHAPE(RT_F32, j->batch, j->classes), &j->z));
    RT_TRY(rt_graph_create(&g));
    rt_bind in[] = {{rt_input(g, "theta", *rt_tensor_shape(j->theta)), j->theta}, {rt_input(g, "x", *rt_tensor_shape(j->x)), j->x}};
    RT_TRY(rt_model_forward(j->m, g, in[1].v, in[0].v, (rt_val){0}, 0, &f));
    rt_bind out[] = {{f.logits, j->z}};
    RT_TRY(rt_graph_status(g));
    RT_TRY(rt_exec_prepare(ctx->be, g, in, 2, out, 1, NULL, &j->exec));
out:
    rt_graph_destroy(g);
    return st;
}

static rt_status seat(judge *j, int64_t expert)
{
    rt_status st = RT_OK;
    RT_TRY(rt_experts_read(j->ctx->experts, expert, rt_experts_final(j->ctx->experts, expert), j->weights));
    RT_TRY(rt_tensor_write(j->theta, j->weights, (size_t)rt_model_n_params(j->m) * sizeof *j->weights));
out:
    return st;
}

/* Logits of the n <= batch images in host_x, into host_z. What is left of the batch is whatever was there. */
static rt_status ask(judge *j, int64_t n)
{
    rt_status st = RT_OK;
    RT_TRY(rt_tensor_write(j->x, j->host_x, (size_t)(j->batch * j->px) * sizeof *j->host_x));
    RT_TRY(rt_exec_run(j->exec));
    RT_TRY(rt_tensor_read(j->z, j->host_z, (size_t)(j->batch * j->classes) * sizeof *j->host_z));
    for (int64_t i = 0; i < n * j->classes; i++)
        if (!isfinite(j->host_z[i])) {
            st = RT_RAISE(RT_ERR_NUMERIC, "a logit of an expert's final snapshot is not finite");
            rt_error_fix(st, "lower experts.lr or experts.epochs and run `retort teach` again");
            goto out;
        }
out:
    return st;
}

static int64_t answer(const judge *j, int64_t i)
{
    const float *z = j->host_z + i * j->classes;
    int64_t best = 0;
    for (int64_t k = 1; k < j->classes; k++)
        if (z[k] > z[best]) best = k;
    return best;
}

/* --- images ------------------------------------------------------------------------------------------------------------ */

/* Members of one class in random order; the first `taken` of them are chosen. */
typedef struct queue {
    int64_t *member, n, taken;
} queue;

/* Moves members the seated expert gets right to the front, until ipc are taken. */
static rt_status take_right(judge *j, int64_t c, queue *q)
{
    rt_status st = RT_OK;
    const rt_build_ctx *ctx = j->ctx;
    for (int64_t at = q->taken; at < q->n && q->taken < ctx->ipc; at += j->batch) {
        int64_t n = q->n - at < j->batch ? q->n - at : j->batch;
        RT_TRY(rt_batch_fill(ctx->train, q->member + at, n, &ctx->norm, NULL, 0, 0, ctx->threads, j->host_x));
        RT_TRY(ask(j, n));
        for (int64_t i = 0; i < n && q->taken < ctx->ipc; i++) {
            if (answer(j, i) != c) continue;
            int64_t right = q->member[at + i];
            memmove(q->member + q->taken + 1, q->member + q->taken, (size_t)(at + i - q->taken) * sizeof right); /* keeps their order */
            q->member[q->taken++] = right;
        }
    }
out:
    return st;
}

static rt_status choose(judge *j, float *images, int64_t *missing)
{
    rt_status st = RT_OK;
    const rt_build_ctx *ctx = j->ctx;
    int64_t *by_class = NULL, *start = NULL, classes = j->classes, wanting = classes;
    queue *q = NULL;
    RT_TRY(rt_images_by_class(ctx->train, &by_class, &start));
    RT_ALLOC(q, (size_t)classes * sizeof *q, "queues of images");
    for (int64_t c = 0; c < classes; c++) {
        q[c] = (queue){.member = by_class + start[c], .n = start[c + 1] - start[c]};
        if (q[c].n < ctx->ipc) {
            st = RT_RAISE(RT_ERR_CONFIG, "class %lld (%s) has %lld training images, %d per class are asked for", (long long)c,
                          ctx->train->classes.name[c], (long long)q[c].n, ctx->ipc);
            rt_error_fix(st, "lower set.ipc, or add images of that class");
            goto out;
        }
        rt_rng r = rt_rng_at(ctx->seed, RT_RNG_SELECT, (uint64_t)c, 3);
        rt_rng_shuffle(&r, q[c].member, q[c].n);
    }
    for (int64_t k = 0; k < rt_experts_count(ctx->experts) && wanting; k++) {
        RT_TRY(seat(j, k));
        wanting = 0;
        for (int64_t c = 0; c < classes; c++) {
            RT_TRY(take_right(j, c, &q[c]));
            wanting += q[c].taken < ctx->ipc;
        }
    }
    *missing = 0;
    for (int64_t c = 0; c < classes; c++) { /* those behind the chosen ones fill up */
        *missing += ctx->ipc - q[c].taken;
        RT_TRY(rt_batch_fill(ctx->train, q[c].member, ctx->ipc, &ctx->norm, NULL, 0, 0, ctx->threads, images + c * ctx->ipc * j->px));
    }
out:
    rt_free(q);
    rt_free(by_class);
    rt_free(start);
    return st;
}

/* --- labels ------------------------------------------------------------------------------------------------------------ */

/* log of the probability of class c. */
static double log_prob(const float *z, int64_t classes, int64_t c)
{
    double top = (double)z[0], sum = 0;
    for (int64_t k = 1; k < classes; k++)
        if ((double)z[k] > top) top = (double)z[k];
    for (int64_t k = 0; k < classes; k++) sum += exp((double)z[k] - top);
    return (double)z[c] - top - log(sum);
}

typedef struct opinions {
    double *sum, *best;  /* [n,classes] of the experts that are right, [n] log probability of the least wrong */
    float *least;        /* [n,classes] its logits */
    int64_t *right;      /* [n] how many are right */
} opinions;

static rt_status hear(judge *j, const float *images, int64_t n, bool first, opinions *o)
{
    rt_status st = RT_OK;
    const int64_t classes = j->classes;
    for (int64_t at = 0; at < n; at += j->batch) {
        int64_t m = n - at < j->batch ? n - at : j->batch;
        memcpy(j->host_x, images + at * j->px, (size_t)(m * j->px) * sizeof *images);
        RT_TRY(ask(j, m));
        for (int64_t i = 0; i < m; i++) {
            const float *z = j->host_z + i * classes;
            int64_t c = (at + i) / j->ctx->ipc;
            double p = log_prob(z, classes, c);
            if (answer(j, i) == c) {
                o->right[at + i]++;
                for (int64_t k = 0; k < classes; k++) o->sum[(at + i) * classes + k] += (double)z[k];
            }
            if (first || p > o->best[at + i]) {
                o->best[at + i] = p;
                memcpy(o->least + (at + i) * classes, z, (size_t)classes * sizeof *z);
            }
        }
    }
out:
    return st;
}

static rt_status label(judge *j, const float *images, bool correct, float *logits, int64_t *unsure)
{
    rt_status st = RT_OK;
    const int64_t n = j->classes * j->ctx->ipc, experts = correct ? rt_experts_count(j->ctx->experts) : 1;
    opinions o = {0};
    RT_ALLOC(o.sum, (size_t)(n * j->classes) * sizeof *o.sum, "label logits");
    RT_ALLOC(o.best, (size_t)n * sizeof *o.best, "label logits");
    RT_ALLOC(o.least, (size_t)(n * j->classes) * sizeof *o.least, "label logits");
    RT_ALLOC(o.right, (size_t)n * sizeof *o.right, "label logits");
    for (int64_t k = 0; k < experts; k++) {
        RT_TRY(seat(j, k));
        RT_TRY(hear(j, images, n, k == 0, &o));
        rt_progress_report(&(rt_progress){"datm labels", "expert", (double)k + 1, (double)experts, ""});
    }
    *unsure = 0;
    for (int64_t i = 0; i < n; i++) {
        *unsure += o.right[i] == 0;
        for (int64_t k = 0; k < j->classes; k++) {
            int64_t at = i * j->classes + k;
            logits[at] = o.right[i] ? (float)(o.sum[at] / (double)o.right[i]) : o.least[at];
        }
    }
out:
    rt_free(o.sum);
    rt_free(o.best);
    rt_free(o.least);
    rt_free(o.right);
    return st;
}

rt_status rt_datm_start(const rt_build_ctx *ctx, bool correct, float *images, float *logits, rt_datm_gaps *gaps)
{
    rt_status st = RT_OK;
    judge j = {0};
    rt_draws d = {0};
    rt_datm_gaps g = {0};
    bool given = ctx->files.init_images && *ctx->files.init_images;
    RT_TRY(judge_open(ctx, &j));
    if (correct && !given && ctx->experts) {
        RT_TRYF(choose(&j, images, &g.images), "initial images");
    } else {
        RT_TRY(rt_draws_open(ctx, 1, 0, rt_model_n_params(j.m), &d));
        RT_TRYF(rt_draws_initial(&d, false, images, NULL), "initial images");
    }
    if (ctx->experts) {
        RT_TRYF(label(&j, images, correct, logits, &g.labels), "initial labels");
    } else {
        for (int64_t i = 0; i < j.classes * ctx->ipc; i++)
            for (int64_t k = 0; k < j.classes; k++) logits[i * j.classes + k] = k == i / ctx->ipc ? 1.0f : 0.0f;
    }
    *gaps = g;
out:
    rt_draws_close(&d);
    judge_close(&j);
    return st;
}
