/* The tables of results.db as CSV (RFC 4180) and JSONL, in key order, written atomically. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "report/internal.h"

static void csv_cell(text *t, sqlite3_stmt *s, int i)
{
    const char *v = (const char *)sqlite3_column_text(s, i);
    if (!v) return;
    if (sqlite3_column_type(s, i) == SQLITE_FLOAT) {
        t_put(t, "%.17g", sqlite3_column_double(s, i));
        return;
    }
    if (!strpbrk(v, ",\"\r\n")) {
        t_put(t, "%s", v);
        return;
    }
    t_put(t, "\"");
    for (; *v; v++) t_put(t, *v == '"' ? "\"\"" : "%c", *v);
    t_put(t, "\"");
}

static json_t *json_cell(sqlite3_stmt *s, int i)
{
    const char *v;
    switch (sqlite3_column_type(s, i)) {
    case SQLITE_INTEGER: return json_integer(sqlite3_column_int64(s, i));
    case SQLITE_FLOAT:
        return isfinite(sqlite3_column_double(s, i)) ? json_real(sqlite3_column_double(s, i)) : json_null();
    case SQLITE_TEXT:
        v = (const char *)sqlite3_column_text(s, i);
        if (v && v[0] == '[') { /* lists are stored as JSON */
            json_t *list = json_loads(v, 0, NULL);
            if (list) return list;
        }
        return json_string(v);
    default: return json_null();
    }
}

static rt_status export_table(rt_results *r, int table, const char *dir)
{
    rt_status st = RT_OK;
    sqlite3_stmt *s = NULL;
    text csv = {0}, jsonl = {0};
    char path[PATH_MAX];
    bool row = false;
    RT_TRY(res_select(r, table, &s));
    int n = sqlite3_column_count(s);
    for (int i = 0; i < n; i++) t_put(&csv, "%s%s", i ? "," : "", sqlite3_column_name(s, i));
    t_put(&csv, "\r\n");
    for (;;) {
        RT_TRY(res_step(r, s, &row));
        if (!row) break;
        json_t *object = json_object();
        for (int i = 0; i < n; i++) {
            if (i) t_put(&csv, ",");
            csv_cell(&csv, s, i);
            json_object_set_new(object, sqlite3_column_name(s, i), json_cell(s, i));
        }
        t_put(&csv, "\r\n");
        char *line = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(17));
        json_decref(object);
        if (!line) {
            st = RT_RAISE(RT_ERR_NOMEM, "no memory for a row of %s", res_tables[table].name);
            goto out;
        }
        t_put(&jsonl, "%s\n", line);
        free(line);
    }
    t_raw(&jsonl, "", 0);
    if (csv.st != RT_OK || jsonl.st != RT_OK) {
        st = csv.st != RT_OK ? csv.st : jsonl.st;
        goto out;
    }
    snprintf(path, sizeof path, "%.4000s/%s.csv", dir, res_tables[table].name);
    RT_TRY(rt_fs_write_atomic(path, csv.s, csv.n));
    snprintf(path, sizeof path, "%.4000s/%s.jsonl", dir, res_tables[table].name);
    RT_TRY(rt_fs_write_atomic(path, jsonl.s, jsonl.n));
out:
    sqlite3_finalize(s);
    t_free(&csv);
    t_free(&jsonl);
    return st;
}

rt_status rt_results_export(rt_results *r, const char *dir)
{
    rt_status st = RT_OK;
    RT_TRY(rt_fs_mkdirs(dir));
    for (int t = 0; t < RES_TABLES; t++) RT_TRYF(export_table(r, t, dir), "export %s", res_tables[t].name);
out:
    return st;
}
