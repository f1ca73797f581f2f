/* The summary: one row per method, IPC, protocol and student, over finished sets. */
#include <stdlib.h>
#include <string.h>

#include "report/internal.h"

double d_metric_mean(const d_data *d, const char *method, int64_t ipc, const char *name, int64_t k, int64_t cls,
                     double *expected)
{
    double sum = 0, sum_expected = 0;
    int n = 0;
    for (int i = 0; i < d->n_metric; i++) {
        const d_metric *m = &d->metric[i];
        if (m->k != k || m->class_index != cls || strcmp(m->name, name)) continue;
        const d_set *s = m->owner;
        if (!s || s->ipc != ipc || strcmp(s->method, method)) continue;
        sum += m->value;
        sum_expected += m->expected;
        n++;
    }
    if (expected) *expected = n ? sum_expected / n : NAN;
    return n ? sum / n : NAN;
}

static bool in_row(const d_eval *e, const d_summary *row)
{
    const d_set *s = e->owner;
    if (strcmp(e->protocol, row->protocol) || strcmp(e->student, row->student)) return false;
    return row->full ? !strcmp(e->set, RT_FULL_SET) : s && s->ipc == row->ipc && !strcmp(s->method, row->method);
}

static void fill_accuracy(const d_data *d, d_summary *row)
{
    double sum = 0, sum2 = 0, best = 0;
    for (int i = 0; i < d->n_eval; i++) {
        const d_eval *e = &d->eval[i];
        if (!in_row(e, row)) continue;
        sum += e->accuracy;
        best += e->best; /* NaN when one of the networks was not checked */
        row->n++;
    }
    row->mean = row->n ? sum / row->n : NAN;
    row->best = row->n ? best / row->n : NAN;
    for (int i = 0; i < d->n_eval; i++) {
        const d_eval *e = &d->eval[i];
        if (in_row(e, row)) sum2 += (e->accuracy - row->mean) * (e->accuracy - row->mean);
    }
    row->sd = row->n > 1 ? sqrt(sum2 / (row->n - 1)) : NAN;
}

static void fill_costs(const d_data *d, d_summary *row)
{
    double wall = 0, flops = 0, images = 0, peak = 0;
    int n = 0;
    for (int i = 0; i < d->n_cost; i++) {
        const d_cost *c = &d->cost[i];
        if ((!strcmp(c->stage, "teach") && (row->uses_teacher & 1)) || (!strcmp(c->stage, "experts") && (row->uses_teacher & 2)) ||
            (!strcmp(c->stage, "committee") && (row->uses_teacher & 4)))
            row->teacher_s += c->cost.wall_s;
        if (strcmp(c->stage, "build")) continue;
        const d_set *s = c->owner;
        if (!s || s->ipc != row->ipc || strcmp(s->method, row->method)) continue;
        wall += c->cost.wall_s;
        flops += c->cost.flops;
        images += c->cost.images_seen;
        double p = c->cost.peak_device_bytes > 0 ? c->cost.peak_device_bytes : c->cost.peak_host_bytes;
        if (p > peak) peak = p;
        n++;
    }
    row->build_s = n ? wall / n : NAN;
    row->build_flops = n ? flops / n : NAN;
    row->build_images = n ? images / n : NAN;
    row->build_peak = n ? peak : NAN;
}

static void fill_bytes(const d_data *d, d_summary *row)
{
    for (int i = 0; i < d->n_set; i++) {
        const d_set *s = &d->set[i];
        if (s->ipc != row->ipc || strcmp(s->method, row->method)) continue;
        row->n_sets++;
        row->image_bytes += s->image_bytes;
        row->label_bytes += s->label_bytes;
        row->n_images = s->n;
    }
    row->image_bytes /= row->n_sets;
    row->label_bytes /= row->n_sets;
}

static int rank_of(const d_summary *r)
{
    return r->full ? 3 : r->synthetic ? 2 : strcmp(r->method, "random") ? 1 : 0;
}

static int by_cell(const void *pa, const void *pb)
{
    const d_summary *a = pa, *b = pb;
    int c = strcmp(a->protocol, b->protocol);
    if (!c) c = strcmp(a->student, b->student);
    if (!c) c = a->full - b->full;
    if (!c) c = (a->ipc > b->ipc) - (a->ipc < b->ipc);
    if (!c) c = rank_of(a) - rank_of(b);
    if (!c) c = strcmp(a->method, b->method);
    return c;
}

static bool has_row(const d_data *d, const d_summary *r)
{
    for (int i = 0; i < d->n_row; i++)
        if (!by_cell(&d->row[i], r)) return true;
    return false;
}

static rt_status add_row(d_data *d, d_summary r)
{
    rt_status st = RT_OK;
    if (has_row(d, &r)) return RT_OK;
    d->row = d_room(d->row, d->n_row, sizeof *d->row, &st);
    if (st == RT_OK) d->row[d->n_row++] = r;
    return st;
}

static d_summary cell_of(const d_set *s)
{
    return (d_summary){.method = s->method,
                       .title = s->title,
                       .family = s->family,
                       .protocol = "",
                       .student = "",
                       .ipc = s->ipc,
                       .synthetic = s->synthetic,
                       .uses_teacher = s->uses_teacher};
}

rt_status d_summarise(d_data *d)
{
    rt_status st = RT_OK;
    for (int i = 0; i < d->n_eval; i++) {
        const d_eval *e = &d->eval[i];
        const d_set *s = e->owner;
        bool full = !strcmp(e->set, RT_FULL_SET);
        if (!s && !full) continue; /* students of a set that this run does not hold */
        d_summary r =
            full ? (d_summary){.method = RT_FULL_SET, .title = "all training images", .family = "", .full = true}
                 : cell_of(s);
        r.protocol = e->protocol;
        r.student = e->student;
        RT_TRY(add_row(d, r));
    }
    for (int i = 0; i < d->n_set; i++) {
        bool evaluated = false;
        for (int k = 0; k < d->n_row; k++)
            evaluated = evaluated || (d->row[k].ipc == d->set[i].ipc && !strcmp(d->row[k].method, d->set[i].method));
        if (!evaluated) RT_TRY(add_row(d, cell_of(&d->set[i])));
    }
    if (d->n_row) qsort(d->row, (size_t)d->n_row, sizeof *d->row, by_cell);
    for (int i = 0; i < d->n_row; i++) {
        d_summary *r = &d->row[i];
        fill_accuracy(d, r);
        if (r->full) {
            r->n_images = d->n_train;
            r->image_bytes = r->label_bytes = r->build_s = r->build_flops = r->build_images = r->build_peak = NAN;
        } else {
            fill_bytes(d, r);
            fill_costs(d, r);
        }
    }
    for (int i = 0; i < d->n_row; i++) {
        d_summary *r = &d->row[i];
        r->gap = r->gap_se = NAN;
        for (int k = 0; k < d->n_row && !r->full; k++) {
            const d_summary *o = &d->row[k];
            if (k == i || o->full || strcmp(o->method, "random") || o->ipc != r->ipc ||
                strcmp(o->protocol, r->protocol) || strcmp(o->student, r->student))
                continue;
            r->gap = r->mean - o->mean;
            r->gap_se = sqrt(r->sd * r->sd / r->n + o->sd * o->sd / o->n);
        }
    }
out:
    return st;
}
