/* The file is small and read only while preparing, so every call reads it whole: no state to keep in step with the disk.
 * Two processes that store at once may lose a line; the loser times again next time. */
#include "backend/algo.h"

#include <jansson.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"

enum { MAX_BYTES = 16 << 20 };

static rt_status read_lines(const char *path, char **text, size_t *size)
{
    void *data = NULL;
    *text = NULL;
    *size = 0;
    if (!rt_fs_exists(path)) return RT_OK;
    rt_status st = rt_fs_read(path, MAX_BYTES, &data, size);
    *text = data;
    return st;
}

rt_status rt_algo_lookup(const char *path, const char *key, char *choice, size_t len, bool *found)
{
    rt_status st = RT_OK;
    char *text = NULL, *rest;
    size_t size;
    int line = 0;
    *found = false;
    RT_TRYF(read_lines(path, &text, &size), "algorithm cache");
    rest = text;
    for (char *at; rest && *rest && !*found;) {
        at = strsep(&rest, "\n");
        line++;
        if (!*at) continue;
        json_t *o = json_loads(at, JSON_REJECT_DUPLICATES, NULL);
        const char *k = json_string_value(json_object_get(o, "key"));
        const char *c = json_string_value(json_object_get(o, "choice"));
        bool ok = k && c;
        if (ok && strcmp(k, key) == 0) {
            snprintf(choice, len, "%s", c);
            *found = true;
        }
        json_decref(o);
        if (!ok) {
            st = RT_RAISE(RT_ERR_FORMAT, "%s:%d: not an algorithm choice", path, line);
            rt_error_fix(st, "delete the file: choices are then timed again");
            goto out;
        }
    }
out:
    rt_free(text);
    return st;
}

rt_status rt_algo_store(const char *path, const char *key, const char *choice)
{
    rt_status st = RT_OK;
    char *text = NULL, *line = NULL, *all = NULL;
    size_t size, add;
    json_t *o = json_pack("{s:s, s:s}", "key", key, "choice", choice);
    RT_TRY(read_lines(path, &text, &size));
    line = o ? json_dumps(o, JSON_COMPACT) : NULL;
    if (!line) {
        st = RT_RAISE(RT_ERR_NOMEM, "no memory for an algorithm choice");
        goto out;
    }
    add = strlen(line);
    RT_ALLOC(all, size + add + 1, "algorithm cache");
    if (size) memcpy(all, text, size);
    memcpy(all + size, line, add);
    all[size + add] = '\n';
    RT_TRYF(rt_fs_write_atomic(path, all, size + add + 1), "algorithm cache");
out:
    json_decref(o);
    free(line);
    rt_free(all);
    rt_free(text);
    return st;
}
