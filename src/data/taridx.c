/* Index files for tar shards, in the form that NVIDIA DALI's wds2idx writes and its reader takes:
 *
 *     v1.2 <number of samples>
 *     <ext> <offset> <size> <name> <ext> <offset> <size> <name> ...       one line per sample, fields apart by one
 * space
 *
 * offset is where the content begins in the tar (a multiple of 512), name the member's path, ext what follows the first
 * dot of its base name. Files are named after the shard up to the first dot: train-000000.tar -> train-000000.idx.
 *
 * We add a last line that DALI does not read, because it stops after the counted samples:
 *
 *     # tar <bytes> <mtime in ns>
 *
 * An index is trusted only for the tar it describes: with our line both numbers must match; without it (written by
 * DALI) it must not be older than the tar. In both cases every member must lie inside the file. Anything else is
 * rebuilt, silently: an index is a cache. Names with spaces cannot be written in this form; such shards are scanned
 * each time. */
#include <ctype.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "data/internal.h"

enum { MAX_INDEX = 1 << 30 };

static long long mtime_ns(const struct stat *sb)
{
    return (long long)sb->st_mtim.tv_sec * 1000000000LL + sb->st_mtim.tv_nsec;
}

bool rt_member_split(const char *name, size_t *key_len, const char **field)
{
    const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
    const char *dot = strchr(base, '.');
    if (!dot || dot == base || !dot[1]) return false;
    if (!slash && name[0] == '_' && name[1] == '_') return false;
    *key_len = (size_t)(dot - name);
    *field = dot + 1;
    return true;
}

/* Next word of a line: [a-z etc.]+ up to a space or the line's end. NULL at the end of the line. */
static char *word(char **p)
{
    while (**p == ' ') ++*p;
    if (!**p) return NULL;
    char *w = *p;
    while (**p && **p != ' ') ++*p;
    if (**p) *(*p)++ = 0;
    return w;
}

static bool number(const char *s, uint64_t *v)
{
    if (!s || !isdigit((unsigned char)*s) || strlen(s) > 18) return false;
    *v = 0;
    for (; isdigit((unsigned char)*s); s++) *v = *v * 10 + (uint64_t)(*s - '0');
    return !*s;
}

static bool parse_sample(char *line, uint64_t tar_size, rt_member_list *m)
{
    char *p = line, *ext = NULL;
    bool any = false;
    while ((ext = word(&p))) {
        uint64_t off = 0, len = 0;
        if (!number(word(&p), &off) || !number(word(&p), &len)) return false;
        char *name = word(&p);
        if (!name || off % 512 || off > tar_size || len > tar_size - off) return false;
        if (rt_member_check_name("index", name) != RT_OK || rt_member_add(m, name, off, len) != RT_OK) return false;
        any = true;
    }
    return any;
}

/* Cuts the next line off *text; NULL when there is no more. */
static char *next_line(char **text)
{
    if (!**text) return NULL;
    char *line = *text, *eol = strchr(line, '\n');
    *text = eol ? eol + 1 : line + strlen(line);
    if (eol) *eol = 0;
    return line;
}

static bool parse(char *text, const struct stat *tar, const struct stat *idx, rt_member_list *m)
{
    char *line = next_line(&text);
    uint64_t n = 0;
    if (!line || strncmp(line, "v1.2 ", 5) || !number(line + 5, &n) || n == 0) return false;
    for (uint64_t i = 0; i < n; i++)
        if (!(line = next_line(&text)) || !parse_sample(line, (uint64_t)tar->st_size, m)) return false;
    if (!(line = next_line(&text))) return mtime_ns(idx) >= mtime_ns(tar);
    long long bytes = 0, when = 0;
    return sscanf(line, "# tar %lld %lld", &bytes, &when) == 2 && bytes == (long long)tar->st_size &&
           when == mtime_ns(tar);
}

/* true when path holds a valid index of the tar. */
static bool read_index(const char *path, const struct stat *tar, rt_member_list *m)
{
    struct stat sb;
    void *text = NULL;
    size_t n = 0;
    if (stat(path, &sb) || rt_fs_read(path, MAX_INDEX, &text, &n) != RT_OK) {
        rt_error_clear();
        return false;
    }
    rt_member_list list = {0};
    bool valid = strlen(text) == n && parse(text, tar, &sb, &list);
    rt_free(text);
    if (valid) {
        *m = list;
    } else {
        rt_error_clear();
        rt_member_list_fini(&list);
    }
    return valid;
}

/* Writes the samples' lines to f (NULL: only counts); returns their number. */
static uint64_t write_samples(FILE *f, const rt_member_list *m)
{
    uint64_t n = 0;
    const char *last = NULL;
    size_t last_len = 0;
    for (size_t i = 0; i < m->n; i++) {
        const char *name = m->names + m->item[i].name, *field = NULL;
        size_t len = 0;
        if (!rt_member_split(name, &len, &field)) continue;
        bool same = last && len == last_len && !memcmp(last, name, len);
        if (!same) n++;
        if (f)
            fprintf(f, "%s%s %llu %llu %s",
                    same    ? " "
                    : n > 1 ? "\n"
                            : "",
                    field, (unsigned long long)m->item[i].off, (unsigned long long)m->item[i].len, name);
        last = name;
        last_len = len;
    }
    return n;
}

static rt_status write_index(const char *path, const struct stat *tar, const rt_member_list *m)
{
    char *text = NULL;
    size_t n = 0;
    for (size_t i = 0; i < m->n; i++)
        for (const char *c = m->names + m->item[i].name; *c; c++)
            if (isspace((unsigned char)*c)) return RT_OK;
    uint64_t samples = write_samples(NULL, m);
    FILE *f = samples ? open_memstream(&text, &n) : NULL;
    if (!f) return samples ? RT_RAISE(RT_ERR_NOMEM, "no memory for an index of %zu members", m->n) : RT_OK;
    fprintf(f, "v1.2 %llu\n", (unsigned long long)samples);
    write_samples(f, m);
    fprintf(f, "\n# tar %lld %lld\n", (long long)tar->st_size, mtime_ns(tar));
    rt_status st = fclose(f) ? RT_RAISE(RT_ERR_NOMEM, "no memory for an index") : rt_fs_write_atomic(path, text, n);
    free(text); /* from open_memstream */
    return st;
}

/* Read-only by its mode bits counts, also for root: such a folder was not meant to be written. */
static bool may_write(const char *dir)
{
    struct stat sb;
    return stat(dir, &sb) == 0 && (sb.st_mode & 0222) && access(dir, W_OK) == 0;
}

/* dir/stem.idx for dir/stem.anything; in the cache the tar's full path is hashed into the name. */
static rt_status index_paths(const char *tar, const char *cache, char beside[PATH_MAX], char dir[PATH_MAX],
                             char cached[PATH_MAX])
{
    char whole[PATH_MAX];
    const char *slash = strrchr(tar, '/'), *base = slash ? slash + 1 : tar;
    const char *dot = strchr(base, '.');
    int stem = dot && dot != base ? (int)(dot - base) : (int)strlen(base), lead = (int)(base - tar);
    if (snprintf(beside, PATH_MAX, "%.*s%.*s.idx", lead, tar, stem, base) >= PATH_MAX)
        return RT_RAISE(RT_ERR_CONFIG, "%s: path too long", tar);
    snprintf(dir, PATH_MAX, "%.*s", lead ? lead : 1, lead ? tar : ".");
    cached[0] = 0;
    if (!cache || !cache[0]) return RT_OK;
    if (!realpath(tar, whole)) return RT_RAISE_ERRNO("%s", tar);
    if (snprintf(cached, PATH_MAX, "%s/%.*s-%016llx.idx", cache, stem, base,
                 (unsigned long long)rt_hash64(whole, strlen(whole), 0)) >= PATH_MAX)
        return RT_RAISE(RT_ERR_CONFIG, "%s: path too long", cache);
    return RT_OK;
}

rt_status rt_tar_members(const char *path, const char *cache, rt_member_list *m)
{
    rt_status st = RT_OK;
    char beside[PATH_MAX], dir[PATH_MAX], cached[PATH_MAX];
    struct stat sb;
    if (stat(path, &sb)) return RT_RAISE_ERRNO("%s", path);
    RT_TRY(index_paths(path, cache, beside, dir, cached));
    if (read_index(beside, &sb, m) || (cached[0] && read_index(cached, &sb, m))) return RT_OK;
    RT_TRY(rt_tar_scan(path, m));
    const char *to = may_write(dir) ? beside : cached[0] ? cached : NULL;
    if (!to) return RT_OK;
    if ((to == cached && rt_fs_mkdirs(cache) != RT_OK) || write_index(to, &sb, m) != RT_OK) {
        rt_log_line(RT_LOG_WARN, "%s: index not stored: %s", to, rt_error_what()); /* the scan itself is good */
        rt_error_clear();
    }
out:
    return st;
}
