/* Canonical JSON text and durable writes (internal.h). jansson's allocations are routed through base/alloc.h so that a
 * test can make the n-th fail. */
#include "artefact/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/hash.h"

/* jansson reports memory that ran out inside its lexer as a syntax error, and its dumper may drop a member and succeed;
 * this flag tells. */
static _Thread_local bool starved;

static void *json_malloc(size_t n)
{
    void *p = rt_malloc(n);
    if (!p) starved = true;
    return p;
}

__attribute__((constructor)) static void route_jansson(void) { json_set_alloc_funcs(json_malloc, rt_free); }

rt_status rt_json_text(const json_t *v, char **text)
{
    starved = false;
    char *s = json_dumps(v, JSON_SORT_KEYS | JSON_INDENT(2) | JSON_REAL_PRECISION(17) | JSON_ENCODE_ANY);
    if (!s || starved) {
        rt_free(s);
        return RT_RAISE(RT_ERR_NOMEM, "no memory for JSON text");
    }
    size_t n = strlen(s);
    char *whole = rt_realloc(s, n, n + 2);
    if (!whole) {
        rt_free(s);
        return RT_RAISE(RT_ERR_NOMEM, "no memory for JSON text");
    }
    memcpy(whole + n, "\n", 2);
    *text = whole;
    return RT_OK;
}

rt_status rt_json_parse(const char *name, const char *text, size_t n, json_t **out)
{
    json_error_t err;
    starved = false;
    json_t *v = json_loadb(text, n, JSON_REJECT_DUPLICATES, &err);
    if (starved) {
        json_decref(v);
        return RT_RAISE(RT_ERR_NOMEM, "%s: no memory to parse %zu bytes of JSON", name, n);
    }
    if (!v) return RT_RAISE(RT_ERR_FORMAT, "%s:%d:%d: %s", name, err.line, err.column, err.text);
    *out = v;
    return RT_OK;
}

rt_status rt_json_read(const char *path, size_t max_bytes, json_t **out, char **text)
{
    void *data = NULL;
    size_t n = 0;
    json_t *v = NULL;
    rt_status st = rt_fs_read(path, max_bytes, &data, &n);
    if (st == RT_OK) st = rt_json_parse(path, data, n, &v);
    if (st == RT_OK) {
        *out = v;
        if (text) {
            *text = data;
            data = NULL;
        }
    }
    rt_free(data);
    return st;
}

rt_status rt_json_hash(const json_t *v, char *hex)
{
    char *text = NULL;
    rt_status st = rt_json_text(v, &text);
    if (st == RT_OK) st = rt_hash_bytes(text, strlen(text), hex);
    rt_free(text);
    return st;
}

rt_status rt_write_pieces(const char *path, const rt_piece *piece, int n, bool sync)
{
    rt_status st = RT_OK;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0) return RT_RAISE_ERRNO("%s: cannot create", path);
    for (int i = 0; i < n; i++) RT_TRY(rt_fs_write_all(fd, path, piece[i].p, piece[i].n));
    if (sync && fsync(fd)) {
        st = RT_RAISE_ERRNO("%s: fsync", path);
        goto out;
    }
    int r = close(fd);
    fd = -1;
    if (r) st = RT_RAISE_ERRNO("%s: close", path);
out:
    if (fd >= 0) close(fd);
    return st;
}

rt_status rt_fsync_parent(const char *path)
{
    char dir[PATH_MAX];
    if ((size_t)snprintf(dir, sizeof dir, "%s", path) >= sizeof dir) return RT_RAISE(RT_ERR_ARG, "%s: path too long", path);
    size_t n = strlen(dir);
    while (n > 1 && dir[n - 1] == '/') dir[--n] = 0;
    char *slash = strrchr(dir, '/');
    if (!slash) memcpy(dir, ".", 2);
    else if (slash == dir) dir[1] = 0;
    else *slash = 0;
    return rt_fs_fsync_dir(dir);
}

rt_status rt_write_atomic_pieces(const char *path, const rt_piece *piece, int n)
{
    rt_status st = RT_OK;
    char tmp[PATH_MAX];
    if ((size_t)snprintf(tmp, sizeof tmp, "%s.tmp.%ld", path, (long)getpid()) >= sizeof tmp)
        return RT_RAISE(RT_ERR_ARG, "%s: path too long", path);
    RT_TRY(rt_write_pieces(tmp, piece, n, true));
    if (rename(tmp, path)) {
        st = RT_RAISE_ERRNO("%s: rename", path);
        goto out;
    }
    RT_TRY(rt_fsync_parent(path));
out:
    if (st != RT_OK) unlink(tmp);
    return st;
}

rt_status rt_artefact_remove(const char *path)
{
    char manifest[PATH_MAX];
    rt_status st = rt_fs_join(manifest, sizeof manifest, path, "manifest.json");
    if (st != RT_OK) return st;
    if (unlink(manifest) && errno != ENOENT && errno != ENOTDIR) return RT_RAISE_ERRNO("%s: remove", manifest);
    return rt_fs_remove_tree(path);
}

bool rt_artefact_name_ok(const char *name)
{
    if (!*name || *name == '/') return false;
    for (const char *p = name;;) {
        size_t n = strcspn(p, "/");
        if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.')) return false;
        if (!p[n]) return true;
        p += n + 1;
    }
}
