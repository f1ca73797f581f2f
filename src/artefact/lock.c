/* One writer per run directory: flock on `<dir>/LOCK`, whose text names the owner.
 *
 * The kernel drops the lock when its owner dies, however it dies, so a LOCK file with an owner's text but no lock is stale
 * and is taken over. The text is only for people and for the error message; it decides nothing. The file stays after
 * release (emptied): unlinking it would let two processes lock two different files of the same name. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "artefact/artefact.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"

struct rt_lock {
    int fd;
};

static void read_owner(int fd, char out[320])
{
    ssize_t n = pread(fd, out, 319, 0);
    out[n > 0 ? n : 0] = 0;
    out[strcspn(out, "\n")] = 0;
}

rt_status rt_lock_take(const char *dir, rt_lock **out)
{
    rt_status st = RT_OK;
    rt_lock *l = NULL;
    char path[PATH_MAX], owner[320], host[256] = "?", when[32], text[320];
    int fd = -1;

    RT_TRY(rt_fs_mkdirs(dir));
    RT_TRY(rt_fs_join(path, sizeof path, dir, "LOCK"));
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0) {
        st = RT_RAISE_ERRNO("%s", path);
        goto out;
    }
    while (flock(fd, LOCK_EX | LOCK_NB)) {
        if (errno == EINTR) continue;
        if (errno == EWOULDBLOCK) {
            read_owner(fd, owner);
            st = RT_RAISE(RT_ERR_LOCKED, "%s is in use by %s", dir, owner[0] ? owner : "a process that has not signed its lock yet");
            rt_error_fix(st, "wait for it to end, or stop that process there, or choose another run directory");
        } else {
            st = RT_RAISE_ERRNO("%s: lock", path);
            rt_error_fix(st, "the file system must support flock (Lustre: mount with -o flock); choose another run directory");
        }
        goto out;
    }
    read_owner(fd, owner);
    if (owner[0]) rt_log_line(RT_LOG_INFO, "%s: taking over the lock of %s, which ended without releasing it", dir, owner);
    RT_ALLOC(l, sizeof *l, "lock");
    gethostname(host, sizeof host - 1);
    time_t now = time(NULL);
    struct tm tm;
    gmtime_r(&now, &tm);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
    int n = snprintf(text, sizeof text, "host %.200s pid %ld since %s\n", host, (long)getpid(), when);
    if (ftruncate(fd, 0)) {
        st = RT_RAISE_ERRNO("%s: truncate", path);
        goto out;
    }
    RT_TRY(rt_fs_write_all(fd, path, text, (size_t)n));
    l->fd = fd;
    fd = -1;
    *out = l;
    l = NULL;
out:
    rt_free(l);
    if (fd >= 0) close(fd);
    return st;
}

void rt_lock_release(rt_lock *l)
{
    if (!l) return;
    if (ftruncate(l->fd, 0)) rt_log_line(RT_LOG_WARN, "lock: the owner's text could not be cleared");
    close(l->fd); /* drops the lock */
    rt_free(l);
}
