/* state_dict <-> theta: safetensors files with the names PyTorch code uses.
 *
 * Reading maps every tensor of the file to at most one place, reports everything that does not fit at once, and touches
 * the caller's memory only when all of it fits. `num_batches_tracked` counters carry nothing that a forward pass needs:
 * they are skipped when read, and written as 0 beside each running_var so that strict loaders are content. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "nn/net.h"

static const char counter[] = "num_batches_tracked";

/* One place a tensor can go to: parameter i, or statistic i - n_param. */
typedef struct slot {
    const char *name;
    rt_shape shape;
    int64_t offset;
} slot;

static int32_t slot_count(const rt_model *m)
{
    return m->n_param + m->n_stat;
}

static slot slot_at(const rt_model *m, int32_t i)
{
    if (i < m->n_param) return (slot){m->param[i].name, m->param[i].shape, m->param[i].offset};
    const rt_model_stat *s = &m->stat[i - m->n_param];
    return (slot){s->name, RT_SHAPE(RT_F32, s->count), s->offset};
}

static int32_t slot_find(const rt_model *m, const char *name)
{
    for (int32_t i = 0; i < slot_count(m); i++)
        if (strcmp(slot_at(m, i).name, name) == 0) return i;
    return -1;
}

static const char *strip_wrappers(const char *name)
{
    static const char *const prefix[] = {"module.", "_orig_mod."};
    for (int again = 1; again;) {
        again = 0;
        for (size_t i = 0; i < 2; i++)
            if (strncmp(name, prefix[i], strlen(prefix[i])) == 0) {
                name += strlen(prefix[i]);
                again = 1;
            }
    }
    return name;
}

/* True for "<norm>.num_batches_tracked" of a norm that this network has. */
static int is_counter(const rt_model *m, const char *name)
{
    size_t len = strlen(name), tail = sizeof counter - 1;
    char var[80];

    if (len <= tail || strcmp(name + len - tail, counter) != 0) return 0;
    if (snprintf(var, sizeof var, "%.*srunning_var", (int)(len - tail), name) >= (int)sizeof var) return 0;
    return slot_find(m, var) >= 0;
}

/* Collects complaints: all of them as log lines, as many as fit in the message. */
typedef struct complaints {
    char text[400];
    int32_t n, left_out;
} complaints;

static void RT_PRINTF(2, 3) complain(complaints *c, const char *fmt, ...)
{
    char line[320];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    rt_log_line(RT_LOG_WARN, "%s", line);
    size_t used = strlen(c->text), need = strlen(line) + 2;
    if (used + need < sizeof c->text && c->left_out == 0)
        snprintf(c->text + used, sizeof c->text - used, "%s%s", c->n ? ", " : "", line);
    else
        c->left_out++;
    c->n++;
}

static void shape_text(const rt_st_tensor *t, char *buf, size_t n)
{
    size_t used = (size_t)snprintf(buf, n, "[");
    for (int32_t i = 0; i < t->rank && used < n; i++)
        used += (size_t)snprintf(buf + used, n - used, "%s%lld", i ? "," : "", (long long)t->shape[i]);
    if (used < n) snprintf(buf + used, n - used, "]");
}

static int fits(const rt_st_tensor *t, const rt_shape *s)
{
    if (t->rank != s->rank) return 0;
    for (int32_t i = 0; i < t->rank; i++)
        if (t->shape[i] != s->d[i]) return 0;
    return 1;
}

static int is_float(rt_st_dtype t)
{
    return t == RT_ST_F32 || t == RT_ST_F16 || t == RT_ST_BF16 || t == RT_ST_F64;
}

/* Fills source[slot] for every slot, or raises with everything that does not fit. */
static rt_status match(const rt_model *m, const rt_st_file *f, const char *name, const rt_st_tensor **source)
{
    complaints c = {{0}, 0, 0};

    for (int64_t i = 0; i < rt_st_count(f); i++) {
        const rt_st_tensor *t = rt_st_at(f, i);
        const char *bare = strip_wrappers(t->name);
        int32_t at = slot_find(m, bare);
        char got[128], want[128];

        if (at < 0) {
            if (!is_counter(m, bare)) complain(&c, "unexpected %s", t->name);
            continue;
        }
        slot s = slot_at(m, at);
        if (source[at]) {
            complain(&c, "%s twice (as %s and %s)", s.name, source[at]->name, t->name);
            continue;
        }
        source[at] = t;
        shape_text(t, got, sizeof got);
        if (!fits(t, &s.shape))
            complain(&c, "misshapen %s %s, the network has %s", t->name, got,
                     rt_shape_str(&s.shape, want, sizeof want));
        else if (!is_float(t->dtype))
            complain(&c, "%s holds integers", t->name);
    }
    for (int32_t i = 0; i < slot_count(m); i++)
        if (!source[i]) complain(&c, "missing %s", slot_at(m, i).name);
    if (c.n == 0) return RT_OK;

    char more[48] = "";
    if (c.left_out) snprintf(more, sizeof more, " and %d more", c.left_out);
    rt_status st = RT_RAISE(RT_ERR_FORMAT, "%s does not fit %s with %d classes: %s%s", name, m->desc.arch,
                            m->desc.classes, c.text, more);
    return rt_error_fix(st, "check network, classes, norm and stem against the file; the log names every tensor");
}

static rt_status read_all(const rt_model *m, const rt_st_tensor *const *source, float *theta, float *buffers)
{
    rt_status st = RT_OK;

    for (int32_t i = 0; i < slot_count(m); i++) {
        slot s = slot_at(m, i);
        int64_t count = rt_shape_count(&s.shape);
        float *to = (i < m->n_param ? theta : buffers) + s.offset;
        RT_TRYF(rt_st_to_f32(source[i], to, count), "tensor %s", source[i]->name);
        for (int64_t k = 0; k < count; k++)
            if (!isfinite(to[k])) {
                st = RT_RAISE(RT_ERR_NUMERIC, "%s[%lld] is %g", source[i]->name, (long long)k, (double)to[k]);
                goto out;
            }
    }
out:
    return st;
}

rt_status rt_model_load(const rt_model *m, const rt_st_file *f, const char *name, float *theta, float *buffers)
{
    rt_status st = RT_OK;
    const rt_st_tensor **source = NULL;
    float *fresh = NULL;

    RT_ALLOC(source, (size_t)slot_count(m) * sizeof *source, "tensor table");
    RT_TRY(match(m, f, name, source));
    RT_ALLOC(fresh, (size_t)(m->n_theta + m->n_buffer) * sizeof *fresh, "weights");
    RT_TRYF(read_all(m, source, fresh, fresh + m->n_theta), "load %s", name);
    memcpy(theta, fresh, (size_t)m->n_theta * sizeof *theta);
    if (m->n_buffer) memcpy(buffers, fresh + m->n_theta, (size_t)m->n_buffer * sizeof *buffers);
out:
    rt_free(fresh);
    rt_free(source);
    return st;
}

rt_status rt_model_save(const rt_model *m, const char *path, const float *theta, const float *buffers,
                        const char *const *meta, int n_meta)
{
    rt_status st = RT_OK;
    static const int64_t zero = 0;
    int32_t n_slots = slot_count(m), n = 0;
    rt_st_tensor *t = NULL;
    char(*counters)[80] = NULL;

    /* Every second statistic is a running_var and brings a counter. */
    RT_ALLOC(t, ((size_t)n_slots + (size_t)m->n_stat) * sizeof *t, "tensor table");
    if (m->n_stat) RT_ALLOC(counters, (size_t)m->n_stat * sizeof *counters, "tensor names");
    for (int32_t i = 0; i < n_slots; i++) {
        slot s = slot_at(m, i);
        rt_st_tensor e = {.name = s.name,
                          .dtype = RT_ST_F32,
                          .rank = s.shape.rank,
                          .data = (i < m->n_param ? theta : buffers) + s.offset,
                          .bytes = (uint64_t)rt_shape_count(&s.shape) * sizeof(float)};
        for (int32_t k = 0; k < e.rank; k++) e.shape[k] = s.shape.d[k];
        t[n++] = e;
        const char *leaf = strrchr(s.name, '.');
        if (i < m->n_param || !leaf || strcmp(leaf, ".running_var") != 0) continue;
        char *label = counters[i - m->n_param];
        snprintf(label, sizeof *counters, "%.*s.%s", (int)(leaf - s.name), s.name, counter);
        t[n++] = (rt_st_tensor){.name = label, .dtype = RT_ST_I64, .data = &zero, .bytes = sizeof zero};
    }
    RT_TRYF(rt_st_write(path, t, n, meta, n_meta), "save %s", m->desc.arch);
out:
    rt_free(counters);
    rt_free(t);
    return st;
}
