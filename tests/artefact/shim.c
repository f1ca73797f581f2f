/* Interposes the calls that change a file system. Linked into a test (rt_shim_arm) or preloaded into the whole program:
 * LD_PRELOAD=librt_shim.so RT_SHIM=<mode number>:<k> retort build ...; RT_SHIM_COUNT_FILE gets the count at exit. */
#include "shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static _Atomic uint64_t count, at;
static _Atomic int how, armed;

/* --- what is not yet durable --- */
static pthread_mutex_t dirty_lock = PTHREAD_MUTEX_INITIALIZER;
enum { MAX_DIRTY = 256 };
static ino_t dirty[MAX_DIRTY];
static int n_dirty, worst_at_rename;

static void mark(const struct stat *sb)
{
    int i = 0;
    pthread_mutex_lock(&dirty_lock);
    while (i < n_dirty && dirty[i] != sb->st_ino) i++;
    if (i == n_dirty && n_dirty < MAX_DIRTY) dirty[n_dirty++] = sb->st_ino;
    pthread_mutex_unlock(&dirty_lock);
}

static void mark_parent(const char *path)
{
    char dir[4096];
    struct stat sb;
    const char *slash = strrchr(path, '/');
    snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    if (atomic_load(&armed) && stat(dir, &sb) == 0) mark(&sb);
}

static void mark_fd(int fd)
{
    struct stat sb;
    if (atomic_load(&armed) && fstat(fd, &sb) == 0 && S_ISREG(sb.st_mode)) mark(&sb);
}

static void clear_fd(int fd)
{
    struct stat sb;
    if (fstat(fd, &sb)) return;
    pthread_mutex_lock(&dirty_lock);
    for (int i = 0; i < n_dirty; i++)
        if (dirty[i] == sb.st_ino) dirty[i] = dirty[--n_dirty];
    pthread_mutex_unlock(&dirty_lock);
}

int rt_shim_unsynced(void) { return n_dirty; }
int rt_shim_unsynced_at_rename(void) { return worst_at_rename; }

void rt_shim_arm(rt_shim_mode mode, uint64_t k)
{
    atomic_store(&count, 0);
    atomic_store(&at, k);
    atomic_store(&how, (int)mode);
    n_dirty = worst_at_rename = 0;
    atomic_store(&armed, 1);
}

uint64_t rt_shim_count(void) { return atomic_load(&count); }
void rt_shim_disarm(void) { atomic_store(&armed, 0); }

__attribute__((constructor)) static void from_environment(void)
{
    int mode = 0;
    unsigned long long k = 0;
    const char *e = getenv("RT_SHIM");
    if (e && sscanf(e, "%d:%llu", &mode, &k) == 2) rt_shim_arm((rt_shim_mode)mode, k);
}

__attribute__((destructor)) static void report(void)
{
    const char *path = getenv("RT_SHIM_COUNT_FILE");
    FILE *f;
    rt_shim_disarm();
    if (path && (f = fopen(path, "w"))) {
        fprintf(f, "%llu\n", (unsigned long long)rt_shim_count());
        fclose(f);
    }
}

/* True when this operation must fail, with errno set; may not return at all. grows: needs disk space. */
static bool strikes(bool grows)
{
    if (!atomic_load(&armed)) return false;
    uint64_t n = atomic_fetch_add(&count, 1) + 1, k = atomic_load(&at);
    switch ((rt_shim_mode)atomic_load(&how)) {
    case RT_SHIM_COUNT: case RT_SHIM_SHORT: return false;
    case RT_SHIM_DIE: case RT_SHIM_TEAR:
        if (n == k) _exit(137);
        return false;
    case RT_SHIM_ENOSPC: errno = ENOSPC; return n == k;
    case RT_SHIM_EIO: errno = EIO; return n == k;
    case RT_SHIM_FULL: errno = ENOSPC; return grows && n >= k;
    }
    return false;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *p, size_t n)
{
    int mode = atomic_load(&how);
    if (fd > 2 && atomic_load(&armed) && (mode == RT_SHIM_TEAR || mode == RT_SHIM_SHORT) &&
        atomic_load(&count) + 1 == atomic_load(&at)) {
        atomic_fetch_add(&count, 1);
        if (mode == RT_SHIM_SHORT && n < 2) {
            errno = EINTR;
            return -1;
        }
        ssize_t done = REAL(write)(fd, p, n / 2);
        if (mode == RT_SHIM_TEAR) _exit(137);
        return done;
    }
    if (fd > 2 && strikes(true)) return -1;
    mark_fd(fd);
    return REAL(write)(fd, p, n);
}

int fsync(int fd)
{
    if (strikes(false)) return -1;
    int r = REAL(fsync)(fd);
    if (r == 0) clear_fd(fd);
    return r;
}

int rename(const char *a, const char *b)
{
    struct stat sb;
    if (strikes(false)) return -1;
    bool folder = lstat(a, &sb) == 0 && S_ISDIR(sb.st_mode);
    if (folder && atomic_load(&armed) && n_dirty > worst_at_rename) worst_at_rename = n_dirty;
    int r = REAL(rename)(a, b);
    if (r == 0) {
        mark_parent(a);
        mark_parent(b);
    }
    return r;
}

int unlink(const char *a) { return strikes(false) ? -1 : REAL(unlink)(a); }
int unlinkat(int d, const char *a, int flags) { return strikes(false) ? -1 : REAL(unlinkat)(d, a, flags); }

int mkdir(const char *a, mode_t m)
{
    struct stat sb; /* an existing folder answers EEXIST whatever the disk does */
    if (lstat(a, &sb) && strikes(true)) return -1;
    int r = REAL(mkdir)(a, m);
    if (r == 0) mark_parent(a);
    return r;
}

int open(const char *path, int flags, ...)
{
    mode_t m = 0;
    if (flags & (O_CREAT | O_TMPFILE)) {
        va_list ap;
        va_start(ap, flags);
        m = va_arg(ap, mode_t);
        va_end(ap);
    }
    if ((flags & O_CREAT) && strikes(true)) return -1;
    if (flags & O_CREAT) mark_parent(path);
    return REAL(open)(path, flags, m);
}
