#include "base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/alloc.h"

rt_status rt_fs_pread(int fd, const char *path, void *buf, size_t n, uint64_t off)
{
    size_t done = 0;
    while (done < n) {
        ssize_t r = pread(fd, (char *)buf + done, n - done, (off_t)(off + done));
        if (r < 0 && errno == EINTR) continue;
        if (r < 0) return RT_RAISE_ERRNO("%s: read at %llu", path, (unsigned long long)(off + done));
        if (r == 0)
            return RT_RAISE(RT_ERR_FORMAT, "%s: ends at byte %llu, expected %zu bytes from %llu", path,
                            (unsigned long long)(off + done), n, (unsigned long long)off);
        done += (size_t)r;
    }
    return RT_OK;
}

rt_status rt_fs_write_all(int fd, const char *path, const void *buf, size_t n)
{
    size_t done = 0;
    while (done < n) {
        ssize_t w = write(fd, (const char *)buf + done, n - done);
        if (w < 0 && errno == EINTR) continue;
        if (w < 0 && (errno == ENOSPC || errno == EDQUOT)) {
            struct statvfs v;
            unsigned long long free_bytes = fstatvfs(fd, &v) ? 0 : (unsigned long long)v.f_bavail * v.f_frsize;
            rt_status st = RT_RAISE(RT_ERR_IO, "%s: disk full: %zu bytes needed, %llu free", path, n - done, free_bytes);
            return rt_error_fix(st, "free space there and rerun the same command: it resumes from its last commit");
        }
        if (w < 0) return RT_RAISE_ERRNO("%s: write", path);
        done += (size_t)w;
    }
    return RT_OK;
}

rt_status rt_fs_read(const char *path, size_t max_bytes, void **data, size_t *size)
{
    rt_status st = RT_OK;
    char *buf = NULL;
    struct stat sb;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return RT_RAISE_ERRNO("%s", path);
    if (fstat(fd, &sb)) {
        st = RT_RAISE_ERRNO("%s", path);
        goto out;
    }
    if (!S_ISREG(sb.st_mode)) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: not a regular file", path);
        goto out;
    }
    if ((uint64_t)sb.st_size > max_bytes) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: %lld bytes, at most %zu are read", path, (long long)sb.st_size, max_bytes);
        goto out;
    }
    RT_ALLOC(buf, (size_t)sb.st_size + 1, path);
    RT_TRY(rt_fs_pread(fd, path, buf, (size_t)sb.st_size, 0));
    *data = buf;
    *size = (size_t)sb.st_size;
    buf = NULL;
out:
    rt_free(buf);
    close(fd);
    return st;
}

rt_status rt_fs_fsync_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return RT_RAISE_ERRNO("%s", dir);
    int r = fsync(fd);
    if (r && (errno == EINVAL || errno == ENOTSUP)) r = 0; /* some network file systems refuse; rename is still atomic */
    rt_status st = r ? RT_RAISE_ERRNO("%s: fsync", dir) : RT_OK;
    close(fd);
    return st;
}

static void parent_of(const char *path, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%s", path);
    char *slash = strrchr(out, '/');
    if (!slash) snprintf(out, PATH_MAX, ".");
    else if (slash == out) out[1] = 0;
    else *slash = 0;
}

rt_status rt_fs_write_atomic(const char *path, const void *buf, size_t n)
{
    rt_status st = RT_OK;
    char tmp[PATH_MAX], dir[PATH_MAX];
    int fd = -1;
    if ((size_t)snprintf(tmp, sizeof tmp, "%s.tmp.%ld", path, (long)getpid()) >= sizeof tmp)
        return RT_RAISE(RT_ERR_ARG, "%s: path too long", path);
    parent_of(path, dir);
    fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return RT_RAISE_ERRNO("%s", tmp);
    RT_TRY(rt_fs_write_all(fd, tmp, buf, n));
    if (fsync(fd)) {
        st = RT_RAISE_ERRNO("%s: fsync", tmp);
        goto out;
    }
    int r = close(fd);
    fd = -1;
    if (r) {
        st = RT_RAISE_ERRNO("%s: close", tmp);
        goto out;
    }
    if (rename(tmp, path)) {
        st = RT_RAISE_ERRNO("%s: rename", path);
        goto out;
    }
    RT_TRY(rt_fs_fsync_dir(dir));
out:
    if (fd >= 0) close(fd);
    if (st != RT_OK) unlink(tmp);
    return st;
}

rt_status rt_fs_mkdirs(const char *path)
{
    char buf[PATH_MAX];
    if ((size_t)snprintf(buf, sizeof buf, "%s", path) >= sizeof buf) return RT_RAISE(RT_ERR_ARG, "%s: path too long", path);
    for (char *p = buf + 1;; p++) {
        if (*p && *p != '/') continue;
        char c = *p;
        *p = 0;
        if (mkdir(buf, 0777) && errno != EEXIST) return RT_RAISE_ERRNO("%s: cannot create folder", buf);
        if (!c) break;
        *p = c;
    }
    if (!rt_fs_is_dir(path)) return RT_RAISE(RT_ERR_IO, "%s: exists and is not a folder", path);
    return RT_OK;
}

static rt_status remove_at(int parent, const char *name, const char *whole)
{
    struct stat sb;
    if (fstatat(parent, name, &sb, AT_SYMLINK_NOFOLLOW)) return errno == ENOENT ? RT_OK : RT_RAISE_ERRNO("%s", whole);
    if (!S_ISDIR(sb.st_mode)) {
        if (unlinkat(parent, name, 0) && errno != ENOENT) return RT_RAISE_ERRNO("%s: remove", whole);
        return RT_OK;
    }
    rt_status st = RT_OK;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        if (fd >= 0) close(fd);
        return RT_RAISE_ERRNO("%s", whole);
    }
    for (struct dirent *e; st == RT_OK && (e = readdir(d));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) st = remove_at(fd, e->d_name, whole);
    closedir(d);
    if (st == RT_OK && unlinkat(parent, name, AT_REMOVEDIR) && errno != ENOENT) st = RT_RAISE_ERRNO("%s: remove", whole);
    return st;
}

rt_status rt_fs_remove_tree(const char *path) { return remove_at(AT_FDCWD, path, path); }

bool rt_fs_exists(const char *path)
{
    struct stat sb;
    return lstat(path, &sb) == 0;
}

bool rt_fs_is_dir(const char *path)
{
    struct stat sb;
    return stat(path, &sb) == 0 && S_ISDIR(sb.st_mode);
}

int64_t rt_fs_size(const char *path)
{
    struct stat sb;
    return stat(path, &sb) ? -1 : (int64_t)sb.st_size;
}

int64_t rt_fs_tree_bytes(const char *path)
{
    struct stat sb;
    if (lstat(path, &sb)) return 0;
    if (S_ISREG(sb.st_mode)) return (int64_t)sb.st_size;
    if (!S_ISDIR(sb.st_mode)) return 0;
    int64_t sum = 0;
    char **names = NULL, child[PATH_MAX];
    size_t n = 0;
    if (rt_fs_list(path, &names, &n) != RT_OK) return 0;
    for (size_t i = 0; i < n; i++)
        if (rt_fs_join(child, sizeof child, path, names[i]) == RT_OK) sum += rt_fs_tree_bytes(child);
    rt_fs_list_free(names, n);
    return sum;
}

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

rt_status rt_fs_list(const char *dir, char ***names, size_t *n)
{
    rt_status st = RT_OK;
    char **list = NULL;
    size_t len = 0, cap = 0;
    DIR *d = opendir(dir);
    if (!d) return RT_RAISE_ERRNO("%s", dir);
    for (struct dirent *e; (e = readdir(d));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        if (len == cap) {
            size_t grown = cap ? cap * 2 : 64;
            char **bigger = rt_realloc(list, cap * sizeof *list, grown * sizeof *list);
            if (!bigger) {
                st = RT_RAISE(RT_ERR_NOMEM, "listing of %s", dir);
                goto out;
            }
            list = bigger;
            cap = grown;
        }
        if (!(list[len] = rt_strdup(e->d_name))) {
            st = RT_RAISE(RT_ERR_NOMEM, "listing of %s", dir);
            goto out;
        }
        len++;
    }
    if (len) qsort(list, len, sizeof *list, by_bytes);
    *names = list;
    *n = len;
    list = NULL;
out:
    if (list) rt_fs_list_free(list, len);
    closedir(d);
    return st;
}

void rt_fs_list_free(char **names, size_t n)
{
    for (size_t i = 0; i < n; i++) rt_free(names[i]);
    rt_free(names);
}

rt_status rt_fs_join(char *out, size_t n, const char *a, const char *b)
{
    size_t la = strlen(a);
    const char *sep = la == 0 || a[la - 1] == '/' ? "" : "/";
    while (*b == '/' && la) b++;
    if ((size_t)snprintf(out, n, "%s%s%s", a, sep, b) >= n) return RT_RAISE(RT_ERR_ARG, "%s/%s: path too long", a, b);
    return RT_OK;
}
