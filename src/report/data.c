/* Everything of a run in memory, and the summary that tables and plots show.
 *
 * Accuracy is the mean over all networks of all sets of a cell; sd is the sample standard deviation (n - 1) over the
 * same networks. The difference to random carries sqrt(sd_a^2 / n_a + sd_b^2 / n_b). */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "report/internal.h"

/* --- reading -------------------------------------------------------------------------------------------------------
 */
static char *column_text(sqlite3_stmt *s, int i, rt_status *st)
{
    const char *v = (const char *)sqlite3_column_text(s, i);
    char *copy = rt_strdup(v ? v : "");
    if (!copy && *st == RT_OK) *st = RT_RAISE(RT_ERR_NOMEM, "no memory for a result");
    return copy;
}
static double column_real(sqlite3_stmt *s, int i)
{
    return sqlite3_column_type(s, i) == SQLITE_NULL ? NAN : sqlite3_column_double(s, i);
}

/* Makes room for one more element of a growing array whose capacity is the next power of two. */
void *d_room(void *list, int n, size_t size, rt_status *st)
{
    if (n & (n - 1)) return list; /* not a power of two: there is room */
    size_t grown = n ? (size_t)n * 2 : 1;
    void *bigger = rt_realloc(list, (size_t)n * size, grown * size);
    if (!bigger) {
        if (*st == RT_OK) *st = RT_RAISE(RT_ERR_NOMEM, "no memory for %zu results", grown);
        return list;
    }
    memset((char *)bigger + (size_t)n * size, 0, (grown - (size_t)n) * size);
    return bigger;
}

rt_status d_set_path(const d_set *s, const char *run_dir, char *out, size_t n)
{
    if (s->path[0] != '/') return rt_fs_join(out, n, run_dir, s->path); /* of this run; an imported one lies anywhere */
    return (size_t)snprintf(out, n, "%s", s->path) < n ? RT_OK : RT_RAISE(RT_ERR_ARG, "path of set %s is too long", s->id);
}

const d_set *d_find_set(const d_data *d, const char *id)
{
    for (int i = 0; i < d->n_set; i++)
        if (!strcmp(d->set[i].id, id)) return &d->set[i];
    return NULL;
}

int64_t d_next_ipc(const d_data *d, int64_t after)
{
    int64_t ipc = 0;
    for (int i = 0; i < d->n_set; i++)
        if (d->set[i].ipc > after && (!ipc || d->set[i].ipc < ipc)) ipc = d->set[i].ipc;
    return ipc;
}

static rt_status read_run(d_data *d, sqlite3_stmt *s)
{
    rt_status st = RT_OK;
    d->name = column_text(s, 1, &st);
    d->config = column_text(s, 2, &st);
    d->command = column_text(s, 3, &st);
    d->device = column_text(s, 4, &st);
    d->version = column_text(s, 5, &st);
    d->dataset = column_text(s, 6, &st);
    d->n_train = sqlite3_column_int64(s, 8);
    d->n_test = sqlite3_column_int64(s, 9);
    d->size = sqlite3_column_int(s, 10);
    const char *list = (const char *)sqlite3_column_text(s, 7);
    json_t *names = list ? json_loads(list, 0, NULL) : NULL;
    size_t n = json_array_size(names);
    if (st == RT_OK && n) {
        RT_ALLOC(d->classes, n * sizeof *d->classes, "class names");
        for (size_t i = 0; i < n; i++) {
            const char *name = json_string_value(json_array_get(names, i));
            if (!(d->classes[i] = rt_strdup(name ? name : "?"))) {
                st = RT_RAISE(RT_ERR_NOMEM, "no memory for class names");
                goto out;
            }
            d->n_classes++;
        }
    }
out:
    json_decref(names);
    return st;
}

/* Finished sets and snapshots of unfinished ones are kept apart: tables and means are about the former. */
static rt_status read_set(d_data *d, sqlite3_stmt *s)
{
    rt_status st = RT_OK;
    int64_t iteration = sqlite3_column_int64(s, 12);
    d_set **list = iteration ? &d->snapshot : &d->set;
    int *n = iteration ? &d->n_snapshot : &d->n_set;
    *list = d_room(*list, *n, sizeof **list, &st);
    if (st != RT_OK) return st;
    (*list)[(*n)++] = (d_set){.id = column_text(s, 0, &st),
                              .method = column_text(s, 1, &st),
                              .title = column_text(s, 2, &st),
                              .family = column_text(s, 3, &st),
                              .ipc = sqlite3_column_int64(s, 4),
                              .seed = sqlite3_column_int64(s, 5),
                              .n = sqlite3_column_int64(s, 6),
                              .image_bytes = column_real(s, 7),
                              .label_bytes = column_real(s, 8),
                              .path = column_text(s, 9, &st),
                              .synthetic = sqlite3_column_int(s, 10) != 0,
                              .uses_teacher = sqlite3_column_int(s, 11),
                              .iteration = iteration,
                              .space = column_text(s, 13, &st),
                              .soft_labels = column_text(s, 14, &st),
                              .factor = sqlite3_column_int64(s, 15),
                              .step_size = column_real(s, 16),
                              .notes = column_text(s, 17, &st)};
    return st;
}

static rt_status read_eval(d_data *d, sqlite3_stmt *s)
{
    rt_status st = RT_OK;
    d->eval = d_room(d->eval, d->n_eval, sizeof *d->eval, &st);
    if (st != RT_OK) return st;
    d_eval *e = &d->eval[d->n_eval++];
    *e = (d_eval){.set = column_text(s, 0, &st),
                  .protocol = column_text(s, 1, &st),
                  .student = column_text(s, 2, &st),
                  .network = sqlite3_column_int64(s, 3),
                  .accuracy = column_real(s, 4),
                  .best = column_real(s, 13),
                  .images_seen = column_real(s, 9),
                  .flops = column_real(s, 10),
                  .wall_s = column_real(s, 11)};
    if (st != RT_OK) return st;
    e->owner = d_find_set(d, e->set); /* tables are read in order: the sets are complete */
    const char *list = (const char *)sqlite3_column_text(s, 12);
    json_t *values = list ? json_loads(list, 0, NULL) : NULL;
    size_t n = json_array_size(values);
    if (n) {
        RT_ALLOC(e->per_class, n * sizeof *e->per_class, "per-class accuracies");
        for (size_t i = 0; i < n; i++) e->per_class[i] = json_number_value(json_array_get(values, i));
        e->n_classes = (int32_t)n;
    }
out:
    json_decref(values);
    return st;
}

static rt_status read_metric(d_data *d, sqlite3_stmt *s)
{
    rt_status st = RT_OK;
    d->metric = d_room(d->metric, d->n_metric, sizeof *d->metric, &st);
    if (st != RT_OK) return st;
    d->metric[d->n_metric++] = (d_metric){.set = column_text(s, 0, &st),
                                          .name = column_text(s, 1, &st),
                                          .k = sqlite3_column_int64(s, 2),
                                          .class_index = sqlite3_column_int64(s, 3),
                                          .value = column_real(s, 4),
                                          .expected = column_real(s, 5)};
    if (st == RT_OK) d->metric[d->n_metric - 1].owner = d_find_set(d, d->metric[d->n_metric - 1].set);
    return st;
}

static rt_status read_cost(d_data *d, sqlite3_stmt *s)
{
    rt_status st = RT_OK;
    d->cost = d_room(d->cost, d->n_cost, sizeof *d->cost, &st);
    if (st != RT_OK) return st;
    d->cost[d->n_cost++] = (d_cost){.stage = column_text(s, 0, &st),
                                    .item = column_text(s, 1, &st),
                                    .method = column_text(s, 2, &st),
                                    .cost = {.wall_s = column_real(s, 3),
                                             .cpu_s = column_real(s, 4),
                                             .device_s = column_real(s, 5),
                                             .flops = column_real(s, 6),
                                             .images_decoded = column_real(s, 7),
                                             .images_seen = column_real(s, 8),
                                             .peak_host_bytes = column_real(s, 9),
                                             .peak_device_bytes = column_real(s, 10),
                                             .energy_j = column_real(s, 11),
                                             .image_bytes = column_real(s, 12),
                                             .label_bytes = column_real(s, 13),
                                             .segments = sqlite3_column_int(s, 14)}};
    d_cost *c = &d->cost[d->n_cost - 1];
    if (st == RT_OK && !strcmp(c->stage, "build")) c->owner = d_find_set(d, c->item);
    return st;
}

rt_status d_load(rt_results *r, d_data *out)
{
    static rt_status (*const read[RES_TABLES])(d_data *, sqlite3_stmt *) = {read_run, read_set, read_eval, read_metric,
                                                                            read_cost};
    rt_status st = RT_OK;
    d_data d = {0};
    sqlite3_stmt *s = NULL;
    for (int t = 0; t < RES_TABLES; t++) {
        RT_TRY(res_select(r, t, &s));
        for (;;) {
            bool row = false;
            RT_TRY(res_step(r, s, &row));
            if (!row) break;
            RT_TRYF(read[t](&d, s), "read %s", res_tables[t].name);
        }
        sqlite3_finalize(s);
        s = NULL;
    }
    if (!d.name) {
        d.name = rt_strdup("");
        d.config = rt_strdup("");
        d.command = rt_strdup("");
        d.device = rt_strdup("");
        d.version = rt_strdup("");
        d.dataset = rt_strdup("");
        if (!d.name || !d.config || !d.command || !d.device || !d.version || !d.dataset) {
            st = RT_RAISE(RT_ERR_NOMEM, "no memory for a result");
            goto out;
        }
    }
    RT_TRY(d_summarise(&d));
    *out = d;
    memset(&d, 0, sizeof d);
out:
    sqlite3_finalize(s);
    d_fini(&d);
    return st;
}

static void set_fini(d_set *s)
{
    char *strings[] = {s->id, s->method, s->title, s->family, s->path, s->space, s->soft_labels, s->notes};
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) rt_free(strings[i]);
}

void d_fini(d_data *d)
{
    if (!d) return;
    char *strings[] = {d->name, d->config, d->command, d->device, d->version, d->dataset};
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) rt_free(strings[i]);
    for (int i = 0; i < d->n_classes; i++) rt_free(d->classes[i]);
    for (int i = 0; i < d->n_set; i++) set_fini(&d->set[i]);
    for (int i = 0; i < d->n_snapshot; i++) set_fini(&d->snapshot[i]);
    rt_free(d->snapshot);
    for (int i = 0; i < d->n_eval; i++) {
        rt_free(d->eval[i].set), rt_free(d->eval[i].protocol), rt_free(d->eval[i].student);
        rt_free(d->eval[i].per_class);
    }
    for (int i = 0; i < d->n_metric; i++) rt_free(d->metric[i].set), rt_free(d->metric[i].name);
    for (int i = 0; i < d->n_cost; i++) rt_free(d->cost[i].stage), rt_free(d->cost[i].item), rt_free(d->cost[i].method);
    rt_free(d->classes), rt_free(d->set), rt_free(d->eval), rt_free(d->metric), rt_free(d->cost), rt_free(d->row);
    memset(d, 0, sizeof *d);
}
