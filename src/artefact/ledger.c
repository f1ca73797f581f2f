/* What a stage cost. Times run on the monotonic clock and on the process's CPU clock; a resumed stage adds its segments,
 * so the time before a kill counts up to the last checkpoint that stored it. Nothing is estimated: a figure that was not
 * measured (energy without a meter) is NaN here and null in JSON, never 0. */
#include <math.h>
#include <time.h>

#include "artefact/artefact.h"
#include "base/alloc.h"
#include "base/log.h"

struct rt_ledger {
    rt_cost_entry e;                  /* all segments, up to the last update */
    double wall_before, cpu_before;   /* of earlier segments */
    double wall_start, cpu_start;     /* of this segment */
    bool running;
};

/* Every field of the entry but segments; sums unless it is a peak. */
static const struct {
    const char *name;
    size_t at;
    bool peak;
} fields[] = {
#define F(name_, peak_) {#name_, offsetof(rt_cost_entry, name_), peak_}
    F(wall_s, false),         F(cpu_s, false),       F(device_s, false),        F(flops, false),
    F(images_decoded, false), F(images_seen, false), F(peak_host_bytes, true),  F(peak_device_bytes, true),
    F(energy_j, false),       F(image_bytes, true),  F(label_bytes, true), /* a set is as large as its largest commit */
#undef F
};
enum { N_FIELDS = sizeof fields / sizeof fields[0] };

static double *field(rt_cost_entry *e, int i) { return (double *)((char *)e + fields[i].at); }

static double cpu_now(void)
{
    struct timespec t = {0};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

rt_status rt_ledger_create(rt_ledger **out)
{
    rt_ledger *l = rt_calloc(sizeof *l);
    if (!l) return RT_RAISE(RT_ERR_NOMEM, "no memory for a cost ledger");
    l->e.energy_j = NAN;
    l->e.segments = 1;
    *out = l;
    return RT_OK;
}

void rt_ledger_destroy(rt_ledger *l) { rt_free(l); }

void rt_ledger_begin(rt_ledger *l)
{
    l->wall_start = rt_now();
    l->cpu_start = cpu_now();
    l->running = true;
    rt_peak_rss_reset();
}

rt_cost_entry *rt_ledger_entry(rt_ledger *l) { return &l->e; }

void rt_ledger_update(rt_ledger *l)
{
    if (!l->running) return;
    double peak = (double)rt_peak_rss_bytes();
    l->e.wall_s = l->wall_before + (rt_now() - l->wall_start);
    l->e.cpu_s = l->cpu_before + (cpu_now() - l->cpu_start);
    if (peak > l->e.peak_host_bytes) l->e.peak_host_bytes = peak;
}

json_t *rt_ledger_json(const rt_ledger *l)
{
    json_t *o = json_object();
    rt_cost_entry e = l->e;
    int bad = !o;
    for (int i = 0; !bad && i < N_FIELDS; i++) {
        double v = *field(&e, i);
        bad |= json_object_set_new(o, fields[i].name, isfinite(v) ? json_real(v) : json_null());
    }
    if (!bad) bad |= json_object_set_new(o, "segments", json_integer(e.segments));
    if (bad) {
        json_decref(o);
        return NULL;
    }
    return o;
}

rt_status rt_ledger_share(const rt_ledger *l, int64_t n, rt_ledger **out)
{
    rt_ledger *part = NULL;
    rt_status st = n < 1 ? RT_RAISE(RT_ERR_ARG, "cost shared by %lld", (long long)n) : rt_ledger_create(&part);
    if (st != RT_OK) return st;
    part->e = l->e;
    for (int i = 0; i < N_FIELDS; i++)
        if (!fields[i].peak) *field(&part->e, i) /= (double)n;
    *out = part;
    return RT_OK;
}

rt_status rt_ledger_restore(rt_ledger *l, const json_t *saved)
{
    rt_cost_entry e = l->e;
    const json_t *segments = json_object_get(saved, "segments");
    if (!json_is_integer(segments) || json_integer_value(segments) < 1 || json_integer_value(segments) > 1000000000)
        return RT_RAISE(RT_ERR_FORMAT, "saved cost: \"segments\" is missing or out of range");
    for (int i = 0; i < N_FIELDS; i++) {
        const json_t *v = json_object_get(saved, fields[i].name);
        double *now = field(&e, i);
        bool energy = fields[i].at == offsetof(rt_cost_entry, energy_j);
        if (json_is_null(v) && energy) { /* an unmeasured segment makes the sum unknown */
            *now = NAN;
            continue;
        }
        double x = json_is_number(v) ? json_number_value(v) : -1.0;
        if (!(x >= 0.0)) return RT_RAISE(RT_ERR_FORMAT, "saved cost: \"%s\" is missing or not a number >= 0", fields[i].name);
        if (fields[i].peak) *now = x > *now ? x : *now;
        else if (energy && isnan(*now)) *now = x; /* this segment has not measured yet */
        else *now += x;
    }
    e.segments = l->e.segments + (int32_t)json_integer_value(segments);
    l->wall_before += json_number_value(json_object_get(saved, "wall_s"));
    l->cpu_before += json_number_value(json_object_get(saved, "cpu_s"));
    l->e = e;
    return RT_OK;
}
