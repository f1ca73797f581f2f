/* results.db: an SQLite file that anything can query.
 *
 * WAL with synchronous NORMAL: a reader (a notebook, `report`) never blocks a writer; a power failure may lose the last
 * rows but not the file, and a lost row comes back when its stage is repeated, because every row is also in the
 * manifest of its artefact. Rows are replaced by key. Values are bound, never pasted into SQL. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "report/internal.h"

enum { APPLICATION_ID = 0x52544F52 /* "RTOR" */, VERSION = 2 /* 2: snapshots, notes and best over checks */ };

const res_table res_tables[RES_TABLES] = {
    [RES_RUNS] = {"runs",
                  "id INTEGER, name TEXT, config TEXT, command TEXT, device TEXT, version TEXT, dataset TEXT, classes "
                  "TEXT, n_train INTEGER, n_test INTEGER, size INTEGER",
                  "id", 11},
    [RES_SETS] =
        {"sets",
         "id TEXT NOT NULL, method TEXT NOT NULL, title TEXT, family TEXT, ipc INTEGER NOT NULL, seed INTEGER, "
         "n INTEGER, image_bytes INTEGER, label_bytes INTEGER, path TEXT, synthetic INTEGER, uses_teacher "
         "INTEGER, iteration INTEGER, space TEXT, soft_labels TEXT, factor INTEGER, step_size REAL, notes TEXT",
         "id", 18},
    [RES_EVALS] = {"evals",
                   "set_id TEXT NOT NULL, protocol TEXT NOT NULL, student TEXT NOT NULL, network INTEGER NOT NULL, "
                   "accuracy REAL, n_correct INTEGER, n_test INTEGER, first_loss REAL, last_loss REAL, images_seen "
                   "REAL, flops REAL, wall_s REAL, per_class TEXT, best REAL, best_epoch INTEGER, lr REAL, labels TEXT",
                   "set_id, protocol, student, network", 17},
    [RES_METRICS] =
        {"metrics",
         "set_id TEXT NOT NULL, name TEXT NOT NULL, k INTEGER NOT NULL, class INTEGER NOT NULL, value REAL, "
         "random_expectation REAL",
         "set_id, name, k, class", 6},
    [RES_COSTS] =
        {"costs",
         "stage TEXT NOT NULL, item TEXT NOT NULL, method TEXT, wall_s REAL, cpu_s REAL, device_s REAL, flops "
         "REAL, images_decoded REAL, images_seen REAL, peak_host_bytes REAL, peak_device_bytes REAL, energy_j "
         "REAL, image_bytes REAL, label_bytes REAL, segments INTEGER",
         "stage, item", 15},
};

rt_status res_error(const rt_results *r, int rc, const char *doing)
{
    const char *why = r->db ? sqlite3_errmsg(r->db) : sqlite3_errstr(rc);
    rt_status st = RT_ERR_IO;
    switch (rc & 0xFF) {
    case SQLITE_NOMEM: st = RT_ERR_NOMEM; break;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: st = RT_ERR_LOCKED; break;
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT: st = RT_ERR_FORMAT; break;
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH: st = RT_ERR_PERMISSION; break;
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH: st = RT_ERR_ARG; break;
    case SQLITE_ERROR:
    case SQLITE_MISUSE: st = RT_ERR_INTERNAL; break;
    default: break;
    }
    st = RT_RAISE(st, "%s: %s: %s", r->path, doing, why);
    if (st == RT_ERR_FORMAT)
        rt_error_fix(st, "move the file away; the stages write its rows again from their artefacts");
    return st;
}

static rt_status exec(rt_results *r, const char *sql, const char *doing)
{
    int rc = sqlite3_exec(r->db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? RT_OK : res_error(r, rc, doing);
}

static rt_status read_int(rt_results *r, const char *sql, int *out)
{
    sqlite3_stmt *s = NULL;
    int rc = sqlite3_prepare_v2(r->db, sql, -1, &s, NULL);
    if (rc == SQLITE_OK && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        *out = sqlite3_column_int(s, 0);
        rc = SQLITE_OK;
    }
    rt_status st = rc == SQLITE_OK ? RT_OK : res_error(r, rc, "read its header");
    sqlite3_finalize(s);
    return st;
}

static rt_status create_tables(rt_results *r)
{
    rt_status st = RT_OK;
    char sql[1024];
    RT_TRY(exec(r, "BEGIN IMMEDIATE", "create"));
    for (int t = 0; t < RES_TABLES; t++) {
        snprintf(sql, sizeof sql, "CREATE TABLE IF NOT EXISTS %s(%s, PRIMARY KEY(%s))", res_tables[t].name,
                 res_tables[t].columns, res_tables[t].key);
        RT_TRY(exec(r, sql, "create tables"));
    }
    snprintf(sql, sizeof sql, "PRAGMA application_id=%d; PRAGMA user_version=%d; COMMIT", APPLICATION_ID, VERSION);
    RT_TRY(exec(r, sql, "create"));
out:
    return st;
}

/* Columns are only ever appended, so an older file is brought up to date in place; what it does not know stays NULL. */
static const char from_1[] =
    "BEGIN IMMEDIATE;"
    "ALTER TABLE sets ADD COLUMN iteration INTEGER; ALTER TABLE sets ADD COLUMN space TEXT;"
    "ALTER TABLE sets ADD COLUMN soft_labels TEXT; ALTER TABLE sets ADD COLUMN factor INTEGER;"
    "ALTER TABLE sets ADD COLUMN step_size REAL; ALTER TABLE sets ADD COLUMN notes TEXT;"
    "ALTER TABLE evals ADD COLUMN best REAL; ALTER TABLE evals ADD COLUMN best_epoch INTEGER;"
    "ALTER TABLE evals ADD COLUMN lr REAL; ALTER TABLE evals ADD COLUMN labels TEXT;"
    "PRAGMA user_version=2; COMMIT";

rt_status rt_results_open(const char *path, rt_results **out)
{
    rt_status st = RT_OK;
    rt_results *r = NULL;
    int id = 0, version = 0, n_tables = 0;
    RT_ALLOC(r, sizeof *r, "results handle");
    if (!(r->path = rt_strdup(path))) {
        st = RT_RAISE(RT_ERR_NOMEM, "no memory for %s", path);
        goto out;
    }
    int rc = sqlite3_open_v2(path, &r->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc != SQLITE_OK) {
        st = res_error(r, rc, "open");
        goto out;
    }
    sqlite3_busy_timeout(r->db, 10000);
    RT_TRY(read_int(r, "PRAGMA application_id", &id));
    RT_TRY(read_int(r, "PRAGMA user_version", &version));
    RT_TRY(read_int(r, "SELECT count(*) FROM sqlite_master", &n_tables));
    if (n_tables && id != APPLICATION_ID) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s is a database of another program", path);
        goto out;
    }
    if (version > VERSION) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s has format %d, this program reads up to %d", path, version, VERSION);
        st = rt_error_fix(st, "use the newer program that wrote it");
        goto out;
    }
    if (!n_tables) RT_TRY(exec(r, "PRAGMA journal_mode=WAL", "switch to WAL"));
    if (n_tables && version == 1) RT_TRY(exec(r, from_1, "bring it up to date"));
    if (!n_tables) RT_TRY(create_tables(r));
    RT_TRY(exec(r, "PRAGMA synchronous=NORMAL", "set durability"));
    *out = r;
    r = NULL;
out:
    rt_results_close(r);
    return st;
}

void rt_results_close(rt_results *r)
{
    if (!r) return;
    for (int t = 0; t < RES_TABLES; t++) sqlite3_finalize(r->put[t]);
    sqlite3_close(r->db);
    rt_free(r->path);
    rt_free(r);
}

rt_status rt_results_begin(rt_results *r)
{
    return exec(r, "BEGIN IMMEDIATE", "begin");
}
rt_status rt_results_commit(rt_results *r)
{
    return exec(r, "COMMIT", "commit");
}

rt_status res_select(rt_results *r, int table, sqlite3_stmt **out)
{
    char sql[256];
    snprintf(sql, sizeof sql, "SELECT * FROM %s ORDER BY %s", res_tables[table].name, res_tables[table].key);
    int rc = sqlite3_prepare_v2(r->db, sql, -1, out, NULL);
    return rc == SQLITE_OK ? RT_OK : res_error(r, rc, res_tables[table].name);
}

rt_status res_step(rt_results *r, sqlite3_stmt *s, bool *row)
{
    int rc = sqlite3_step(s);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE) return res_error(r, rc, "read a row");
    *row = rc == SQLITE_ROW;
    return RT_OK;
}

/* --- writing: one cell after the other, in column order ------------------------------------------------------------
 */
typedef struct binder {
    rt_results *r;
    sqlite3_stmt *s;
    int table, at, rc;
} binder;

static rt_status begin_row(rt_results *r, int table, binder *b)
{
    *b = (binder){.r = r, .table = table};
    if (!r->put[table]) {
        char sql[256];
        size_t n = (size_t)snprintf(sql, sizeof sql, "INSERT OR REPLACE INTO %s VALUES(?", res_tables[table].name);
        for (int i = 1; i < res_tables[table].n; i++) n += (size_t)snprintf(sql + n, sizeof sql - n, ",?");
        snprintf(sql + n, sizeof sql - n, ")");
        int rc = sqlite3_prepare_v3(r->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &r->put[table], NULL);
        if (rc != SQLITE_OK) return res_error(r, rc, res_tables[table].name);
    }
    b->s = r->put[table];
    return RT_OK;
}

static void bound(binder *b, int rc)
{
    if (b->rc == SQLITE_OK) b->rc = rc;
}
static void put_text(binder *b, const char *s) /* s outlives the step */
{
    bound(b, s ? sqlite3_bind_text(b->s, ++b->at, s, -1, SQLITE_STATIC) : sqlite3_bind_null(b->s, ++b->at));
}
static void put_int(binder *b, int64_t x)
{
    bound(b, sqlite3_bind_int64(b->s, ++b->at, x));
}
static void put_real(binder *b, double x) /* SQLite itself stores NaN as NULL; infinity stays what it is */
{
    bound(b, isnan(x) ? sqlite3_bind_null(b->s, ++b->at) : sqlite3_bind_double(b->s, ++b->at, x));
}

static rt_status end_row(binder *b)
{
    rt_status st = RT_OK;
    int rc = b->rc == SQLITE_OK ? sqlite3_step(b->s) : b->rc;
    if (rc != SQLITE_DONE) st = res_error(b->r, rc, res_tables[b->table].name);
    sqlite3_reset(b->s);
    sqlite3_clear_bindings(b->s);
    return st;
}

rt_status rt_results_put_run(rt_results *r, const rt_row_run *row)
{
    rt_status st = RT_OK;
    binder b;
    json_t *list = json_array();
    char *classes = NULL;
    for (int32_t i = 0; row->classes && i < row->classes->n; i++)
        json_array_append_new(list, json_string(row->classes->name[i]));
    if (!list || !(classes = json_dumps(list, JSON_COMPACT))) {
        st = RT_RAISE(RT_ERR_NOMEM, "no memory for the class list");
        goto out;
    }
    RT_TRY(begin_row(r, RES_RUNS, &b));
    put_int(&b, 1);
    put_text(&b, row->name);
    put_text(&b, row->config);
    put_text(&b, row->command);
    put_text(&b, row->device);
    put_text(&b, row->version);
    put_text(&b, row->dataset);
    put_text(&b, classes);
    put_int(&b, row->n_train);
    put_int(&b, row->n_test);
    put_int(&b, row->size);
    RT_TRY(end_row(&b));
out:
    free(classes); /* jansson's own allocation */
    json_decref(list);
    return st;
}

rt_status rt_results_put_set(rt_results *r, const rt_row_set *row)
{
    rt_status st = RT_OK;
    binder b;
    RT_TRY(begin_row(r, RES_SETS, &b));
    put_text(&b, row->id);
    put_text(&b, row->method);
    put_text(&b, row->title);
    put_text(&b, row->family);
    put_int(&b, row->ipc);
    put_int(&b, row->seed);
    put_int(&b, row->n);
    put_int(&b, row->image_bytes);
    put_int(&b, row->label_bytes);
    put_text(&b, row->path);
    put_int(&b, row->synthetic);
    put_int(&b, row->uses_teacher);
    put_int(&b, row->iteration);
    put_text(&b, row->space);
    put_text(&b, row->soft_labels);
    put_int(&b, row->factor);
    put_real(&b, row->step_size);
    put_text(&b, row->notes);
    RT_TRY(end_row(&b));
out:
    return st;
}

rt_status rt_results_put_eval(rt_results *r, const rt_row_eval *row)
{
    rt_status st = RT_OK;
    binder b;
    json_t *list = NULL;
    char *per_class = NULL;
    if (row->per_class) {
        list = json_array();
        for (int32_t i = 0; i < row->n_classes; i++) json_array_append_new(list, json_real(row->per_class[i]));
        if (!list || !(per_class = json_dumps(list, JSON_COMPACT | JSON_REAL_PRECISION(9)))) {
            st = RT_RAISE(RT_ERR_NOMEM, "no memory for per-class accuracies");
            goto out;
        }
    }
    RT_TRY(begin_row(r, RES_EVALS, &b));
    put_text(&b, row->set);
    put_text(&b, row->protocol);
    put_text(&b, row->student);
    put_int(&b, row->network);
    put_real(&b, row->accuracy);
    put_int(&b, row->n_correct);
    put_int(&b, row->n_test);
    put_real(&b, row->first_loss);
    put_real(&b, row->last_loss);
    put_real(&b, row->images_seen);
    put_real(&b, row->flops);
    put_real(&b, row->wall_s);
    put_text(&b, per_class);
    put_real(&b, row->best_epoch ? row->best : NAN);
    put_int(&b, row->best_epoch);
    put_real(&b, row->lr);
    put_text(&b, row->labels);
    RT_TRY(end_row(&b));
out:
    free(per_class);
    json_decref(list);
    return st;
}

rt_status rt_results_put_metric(rt_results *r, const rt_row_metric *row)
{
    rt_status st = RT_OK;
    binder b;
    RT_TRY(begin_row(r, RES_METRICS, &b));
    put_text(&b, row->set);
    put_text(&b, row->name);
    put_int(&b, row->k);
    put_int(&b, row->class_index);
    put_real(&b, row->value);
    put_real(&b, row->random_expectation);
    RT_TRY(end_row(&b));
out:
    return st;
}

rt_status rt_results_put_cost(rt_results *r, const rt_row_cost *row)
{
    rt_status st = RT_OK;
    binder b;
    const rt_cost_entry *c = &row->cost;
    RT_TRY(begin_row(r, RES_COSTS, &b));
    put_text(&b, row->stage);
    put_text(&b, row->item);
    put_text(&b, row->method);
    const double reals[] = {c->wall_s,         c->cpu_s,       c->device_s,        c->flops,
                            c->images_decoded, c->images_seen, c->peak_host_bytes, c->peak_device_bytes,
                            c->energy_j,       c->image_bytes, c->label_bytes};
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) put_real(&b, reals[i]);
    put_int(&b, c->segments);
    RT_TRY(end_row(&b));
out:
    return st;
}
