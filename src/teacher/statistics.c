/* The pass (statistics.h). A compiled graph gives the moments of every image of a batch, of every layer asked for: means and
 * variances over positions. Everything else follows from those: what a set of images has in common is the mean of their means,
 * and a variance of (mean of v + m^2) - mean^2, taken in double. */
#include "teacher/statistics.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"

enum { KINDS = 2 }; /* of moments: per channel, per tile */

/* One vector of moments of a layer: where it lies in an image's row, and what it is pooled into. */
typedef struct place {
    int64_t at, count;          /* means at [at, at + count), variances behind them */
    float *mean, *var;          /* global, [count] */
    float *class_mean, *class_var; /* [classes, count] or NULL */
} place;

typedef struct pass {
    const rt_stats_spec *spec;
    int64_t n, batch, width;    /* images; of a step; floats in an image's row */
    int32_t classes;
    place *place;
    int n_places;
    double *mean, *var;         /* [width / 2] each: global sums */
    double *class_mean, *class_var; /* [classes, width / 2] */
    int64_t *class_n;           /* images seen of a class */
    rt_exec *exec;
    rt_tensor *x, *theta, *buffers, *rows;
    double flops;
} pass;

static void pass_fini(pass *p)
{
    void *v[] = {p->place, p->mean, p->var, p->class_mean, p->class_var, p->class_n};
    for (size_t i = 0; i < sizeof v / sizeof *v; i++) rt_free(v[i]);
    rt_exec_destroy(p->exec);
    rt_tensor_destroy(p->x);
    rt_tensor_destroy(p->theta);
    rt_tensor_destroy(p->buffers);
    rt_tensor_destroy(p->rows);
}

static void places(pass *p, const rt_stats *s)
{
    for (int32_t i = 0; i < s->layers; i++) {
        const rt_layer_stats *l = &s->layer[i];
        if (!l->mean) continue;
        place both[KINDS] = {{0, l->channels, l->mean, l->var, l->class_mean, l->class_var},
                             {0, l->tiles, l->patch_mean, l->patch_var, l->class_patch_mean, l->class_patch_var}};
        for (int k = 0; k < KINDS; k++)
            if (both[k].count) {
                both[k].at = p->width;
                p->width += 2 * both[k].count;
                p->place[p->n_places++] = both[k];
            }
    }
}

/* --- the step ----------------------------------------------------------------------------------------------------------- */

static rt_status compile(pass *p, rt_backend *be, const rt_teacher *t, const rt_stats *s)
{
    rt_status st = RT_OK;
    const rt_model_desc *d = rt_model_desc_of(t->model);
    const int64_t n_buffers = rt_model_n_buffers(t->model);
    rt_graph *g = NULL;
    rt_tap_list *taps = NULL;
    rt_val *part = NULL, none = {0};
    rt_forward f;
    rt_exec_stats cost;
    rt_bind in[3];
    int n_in = 0, n = 0;
    RT_ALLOC(taps, sizeof *taps, "taps");
    RT_ALLOC(part, (size_t)(4 * s->layers + 1) * sizeof *part, "taps");
    RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, p->batch, d->size, d->size, d->channels), &p->x));
    RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, rt_model_n_params(t->model)), &p->theta));
    RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, p->batch, p->width), &p->rows));
    RT_TRY(rt_tensor_write(p->theta, t->theta, (size_t)rt_model_n_params(t->model) * 4));
    RT_TRY(rt_graph_create(&g));
    in[n_in++] = (rt_bind){rt_input(g, "x", *rt_tensor_shape(p->x)), p->x};
    in[n_in++] = (rt_bind){rt_input(g, "theta", *rt_tensor_shape(p->theta)), p->theta};
    if (n_buffers) {
        RT_TRY(rt_tensor_create(be, RT_SHAPE(RT_F32, n_buffers), &p->buffers));
        RT_TRY(rt_tensor_write(p->buffers, t->buffers, (size_t)n_buffers * 4));
        in[n_in++] = (rt_bind){rt_input(g, "buffers", *rt_tensor_shape(p->buffers)), p->buffers};
    }
    RT_TRY(rt_model_forward_tapped(t->model, g, in[0].v, in[1].v, n_buffers ? in[2].v : none, 0, taps, &f));
    for (int32_t i = 0; i < s->layers; i++) { /* in the order of `places` */
        if (!s->layer[i].mean) continue;
        rt_channel_moments(g, taps->tap[i].input, p->batch, &part[n], &part[n + 1]);
        n += 2;
        if (!s->layer[i].tiles) continue;
        rt_patch_moments(g, taps->tap[i].input, p->batch, &part[n], &part[n + 1]);
        n += 2;
    }
    rt_bind out = {rt_concat(g, part, n, 1), p->rows};
    RT_TRY(rt_graph_status(g));
    RT_TRY(rt_exec_prepare(be, g, in, n_in, &out, 1, NULL, &p->exec));
    rt_exec_get_stats(p->exec, &cost);
    p->flops = cost.flops;
out:
    rt_graph_destroy(g);
    rt_free(taps);
    rt_free(part);
    return st;
}

/* --- pooling ------------------------------------------------------------------------------------------------------------ */

/* mean and variance of column j of a place over the images pick[0..n), together. */
static void pool(const place *q, const float *rows, int64_t width, const int64_t *pick, int64_t n, int64_t j, bool apart, double *mean,
                 double *var)
{
    double m = 0, v = 0, square = 0;
    for (int64_t b = 0; b < n; b++) {
        const float *row = rows + pick[b] * width + q->at + j;
        m += (double)row[0];
        v += (double)row[q->count];
        square += (double)row[0] * (double)row[0];
    }
    *mean = m / (double)n;
    *var = apart ? v / (double)n : (v + square) / (double)n - *mean * *mean;
}

/* The images of one batch: pick lists 0..n-1, then those of a class. */
static void pool_batch(pass *p, const float *rows, const int32_t *label, int64_t n, int64_t *pick)
{
    const int64_t half = p->width / 2;
    const double share = (double)n / (double)p->n;
    for (int64_t b = 0; b < n; b++) pick[b] = b;
    for (int k = 0; k < p->n_places; k++)
        for (int64_t j = 0; j < p->place[k].count; j++) {
            double m, v;
            pool(&p->place[k], rows, p->width, pick, n, j, false, &m, &v);
            p->mean[p->place[k].at / 2 + j] += share * m;
            p->var[p->place[k].at / 2 + j] += share * v;
        }
    if (!p->spec->by_class) return;
    for (int32_t c = 0; c < p->classes; c++) {
        int64_t members = 0;
        for (int64_t b = 0; b < n; b++)
            if (label[b] == c) pick[members++] = b;
        if (!members) continue;
        for (int k = 0; k < p->n_places; k++)
            for (int64_t j = 0; j < p->place[k].count; j++) {
                double *mean = p->class_mean + c * half + p->place[k].at / 2 + j, *var = p->class_var + c * half + p->place[k].at / 2 + j;
                double m, v, w = (double)members;
                pool(&p->place[k], rows, p->width, pick, members, j, p->spec->within_image, &m, &v);
                if (p->spec->ema) {
                    *mean += 0.1 * (m - *mean);
                    *var += 0.1 * (v - *var);
                } else { /* sums, or those of v + m^2 until all images are in */
                    *mean += w * m;
                    *var += w * (p->spec->within_image ? v : v + m * m);
                }
            }
        p->class_n[c] += members;
    }
}

static rt_status settle(pass *p, const rt_images *im)
{
    const int64_t half = p->width / 2;
    for (int k = 0; k < p->n_places; k++) {
        place *q = &p->place[k];
        for (int64_t j = 0; j < q->count; j++) {
            q->mean[j] = (float)p->mean[q->at / 2 + j];
            q->var[j] = (float)p->var[q->at / 2 + j];
        }
        for (int32_t c = 0; q->class_mean && c < p->classes; c++) {
            if (!p->class_n[c]) return RT_RAISE(RT_ERR_FORMAT, "class %d (%s) has no training image", c, im->classes.name[c]);
            for (int64_t j = 0; j < q->count; j++) {
                double m = p->class_mean[c * half + q->at / 2 + j], v = p->class_var[c * half + q->at / 2 + j];
                if (!p->spec->ema) {
                    m /= (double)p->class_n[c];
                    v = v / (double)p->class_n[c] - (p->spec->within_image ? 0 : m * m);
                }
                q->class_mean[c * q->count + j] = (float)m;
                q->class_var[c * q->count + j] = (float)v;
            }
        }
    }
    return RT_OK;
}

/* --- the pass ----------------------------------------------------------------------------------------------------------- */

static rt_status open_pass(pass *p, rt_backend *be, const rt_teacher *t, const rt_stats *s)
{
    rt_status st = RT_OK;
    RT_ALLOC(p->place, (size_t)(KINDS * s->layers) * sizeof *p->place, "statistics");
    places(p, s);
    const size_t half = (size_t)p->width / 2, all = p->spec->by_class ? half * (size_t)p->classes : 1;
    if (!half) {
        st = RT_RAISE(RT_ERR_CONFIG, "teacher %s has no layer to take statistics of", t->name);
        rt_error_fix(st, "use a teacher with BatchNorm (network.norm: batch)");
        goto out;
    }
    double **sums[] = {&p->mean, &p->var, &p->class_mean, &p->class_var};
    for (int i = 0; i < 4; i++) {
        RT_ALLOC(*sums[i], (i < 2 ? half : all) * sizeof **sums[i], "statistics");
        memset(*sums[i], 0, (i < 2 ? half : all) * sizeof **sums[i]);
    }
    RT_ALLOC(p->class_n, (size_t)p->classes * sizeof *p->class_n, "statistics");
    memset(p->class_n, 0, (size_t)p->classes * sizeof *p->class_n);
    for (size_t i = 0; p->spec->ema && i < all; i++) p->class_var[i] = 1;
    RT_TRYF(compile(p, be, t, s), "statistics of teacher %s", t->name);
out:
    return st;
}

static rt_status check_rows(const pass *p, const rt_stats *s, const float *rows, int64_t n)
{
    for (int64_t i = 0; i < n * p->width; i++) {
        if (isfinite(rows[i])) continue;
        int64_t at = i % p->width;
        for (int32_t k = 0; k < s->layers; k++) {
            at -= s->layer[k].mean ? 2 * ((int64_t)s->layer[k].channels + s->layer[k].tiles) : 0;
            if (at < 0) return RT_RAISE(RT_ERR_NUMERIC, "what enters %s is not finite", s->layer[k].name);
        }
    }
    return RT_OK;
}

static rt_status run(pass *p, rt_backend *be, const rt_images *im, const rt_normalise *norm, const rt_stats *s, int threads)
{
    static const rt_view view = {.rrc = true, .flip = true, .scale = {0.08f, 1}, .ratio = {0.75f, 4.0f / 3}};
    rt_status st = RT_OK;
    const rt_view *seen = p->spec->views ? &view : NULL;
    const int64_t px = (int64_t)im->h * im->w * 3;
    float *x = NULL, *rows = NULL;
    int64_t *order = NULL, *idx = NULL, *pick = NULL;
    int32_t *label = NULL;
    rt_resident *resident = NULL;
    RT_ALLOC(rows, (size_t)(p->batch * p->width) * sizeof *rows, "moments of a batch");
    RT_ALLOC(order, (size_t)p->n * sizeof *order, "order of the images");
    RT_ALLOC(idx, (size_t)p->batch * sizeof *idx, "batch");
    RT_ALLOC(pick, (size_t)p->batch * sizeof *pick, "batch");
    RT_ALLOC(label, (size_t)p->batch * sizeof *label, "batch");
    if (rt_resident_fits(be, im)) RT_TRY(rt_resident_open(be, im, &resident));
    else RT_ALLOC(x, (size_t)(p->batch * px) * sizeof *x, "batch");
    rt_epoch_order(p->spec->seed, 0, p->n, order);
    for (int64_t at = 0, step = 0; at < p->n; at += p->batch, step++) {
        int64_t real = p->n - at < p->batch ? p->n - at : p->batch;
        for (int64_t b = 0; b < p->batch; b++) { /* a last batch is filled up; what fills it is not pooled */
            idx[b] = order[b < real ? at + b : p->n - 1];
            label[b] = im->label[idx[b]];
        }
        if (resident) {
            RT_TRY(rt_resident_fill(resident, idx, p->batch, norm, seen, p->spec->seed, (uint64_t)step, NULL, NULL, threads, p->x));
        } else {
            RT_TRY(rt_batch_fill(im, idx, p->batch, norm, seen, p->spec->seed, (uint64_t)step, threads, x));
            RT_TRY(rt_tensor_write(p->x, x, (size_t)(p->batch * px) * sizeof *x));
        }
        RT_TRY(rt_exec_run(p->exec));
        RT_TRY(rt_tensor_read(p->rows, rows, (size_t)(p->batch * p->width) * sizeof *rows));
        RT_TRY(check_rows(p, s, rows, real));
        pool_batch(p, rows, label, real, pick);
        rt_progress_report(&(rt_progress){"statistics", "images", (double)(at + real), (double)p->n, ""});
        if (rt_stop_requested()) {
            st = RT_RAISE(RT_ERR_CANCELLED, "stopped at image %lld of %lld", (long long)(at + real), (long long)p->n);
            rt_error_fix(st, "rerun the same command: the pass starts again");
            goto out;
        }
    }
    RT_TRY(settle(p, im));
out:
    rt_resident_close(resident);
    rt_free(x);
    rt_free(rows);
    rt_free(order);
    rt_free(idx);
    rt_free(pick);
    rt_free(label);
    return st;
}

static rt_status collect(rt_backend *be, const rt_teacher *t, const rt_images *im, const rt_normalise *norm, const rt_stats_spec *spec,
                         int threads, rt_ledger *cost, rt_stats *out)
{
    rt_status st = RT_OK;
    const rt_model_desc *d = rt_model_desc_of(t->model);
    pass p = {.spec = spec, .n = im->n, .batch = spec->batch < im->n ? spec->batch : im->n, .classes = im->classes.n};
    rt_stats s = {0};
    if (spec->batch < 1 || im->n < 1 || im->h != d->size || im->w != d->size || d->channels != 3) {
        st = RT_RAISE(RT_ERR_ARG, "statistics: %lld images of %dx%d for a teacher of %d pixels, batch %lld", (long long)im->n, im->h, im->w,
                      d->size, (long long)spec->batch);
        goto out;
    }
    RT_TRY(rt_stats_create(t, spec, im->classes.n, &s));
    RT_TRY(open_pass(&p, be, t, &s));
    RT_TRY(run(&p, be, im, norm, &s, threads));
    rt_ledger_update(cost);
    rt_ledger_entry(cost)->images_seen += (double)im->n;
    rt_ledger_entry(cost)->flops += p.flops * (double)((p.n + p.batch - 1) / p.batch);
    *out = s;
    memset(&s, 0, sizeof s);
out:
    rt_stats_fini(&s);
    pass_fini(&p);
    return st;
}

rt_status rt_stats_collect(rt_backend *be, const rt_teacher *t, const rt_images *images, const rt_normalise *norm,
                           const rt_stats_spec *spec, int threads, const char *dir, rt_ledger *ledger, rt_stats *out)
{
    rt_status st = RT_OK;
    char path[4096], key[RT_HASH_HEX];
    rt_ledger *cost = NULL;
    rt_stats s = {0};
    if (dir) {
        RT_TRY(rt_stats_path(t, images, norm, spec, dir, path, sizeof path, key));
        st = rt_stats_read(path, key, t, spec, images->classes.n, out);
        if (st == RT_OK || (st != RT_ERR_MISSING && st != RT_ERR_FORMAT)) return st;
        if (st == RT_ERR_FORMAT) rt_log_line(RT_LOG_WARN, "%s is damaged and is collected again: %s", path, rt_error_what());
        rt_error_clear();
        st = RT_OK;
    }
    RT_TRY(rt_ledger_create(&cost));
    rt_ledger_begin(cost);
    RT_TRYF(collect(be, t, images, norm, spec, threads, cost, &s), "statistics of teacher %s", t->name);
    rt_log_line(RT_LOG_INFO, "statistics of teacher %s over %lld images in %.1f s", t->name, (long long)images->n,
                rt_ledger_entry(cost)->wall_s);
    if (dir) RT_TRY(rt_fs_mkdirs(dir));
    if (dir) RT_TRY(rt_stats_write(path, key, t, spec, &s, cost));
    if (ledger) { /* its clock runs */
        rt_ledger_entry(ledger)->flops += rt_ledger_entry(cost)->flops;
        rt_ledger_entry(ledger)->images_seen += rt_ledger_entry(cost)->images_seen;
    }
    *out = s;
    memset(&s, 0, sizeof s);
out:
    rt_stats_fini(&s);
    rt_ledger_destroy(cost);
    return st;
}
