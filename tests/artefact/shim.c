/* Interposes the calls that change a file system. Linked into a test (rt_shim_arm) or preloaded into the whole program:
 * LD_PRELOAD=librt_shim.so RT_SHIM=<mode number>:<k> retort build ...; RT_SHIM_COUNT_FILE gets the count at exit. */
#include "shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
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

void rt_shim_arm(rt_shim_mode mode, uint64_t k)
{
    atomic_store(&count, 0);
    atomic_store(&at, k);
    atomic_store(&how, (int)mode);
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
    return REAL(write)(fd, p, n);
}

int fsync(int fd) { return strikes(false) ? -1 : REAL(fsync)(fd); }
int rename(const char *a, const char *b) { return strikes(false) ? -1 : REAL(rename)(a, b); }
int unlink(const char *a) { return strikes(false) ? -1 : REAL(unlink)(a); }
int unlinkat(int d, const char *a, int flags) { return strikes(false) ? -1 : REAL(unlinkat)(d, a, flags); }

int mkdir(const char *a, mode_t m)
{
    struct stat sb; /* an existing folder answers EEXIST whatever the disk does */
    return lstat(a, &sb) && strikes(true) ? -1 : REAL(mkdir)(a, m);
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
    return REAL(open)(path, flags, m);
}
