/* A fresh folder per test, in shared memory where there is some (these tests fsync thousands of times); one root per build
 * tree and suite, so that several can run at once. The root is removed when the suite ends. */
#ifndef RT_TESTS_SCRATCH_H
#define RT_TESTS_SCRATCH_H

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/hash.h"
#include "support/suite.h"

static char scratch_root[PATH_MAX];
static pid_t scratch_owner; /* the suite's process: tests run in its children */

__attribute__((constructor)) static void scratch_open(void)
{
    const char *build = getenv("RT_BUILD_DIR"), *suite = program_invocation_short_name;
    if (!build) build = "/tmp";
    scratch_owner = getpid();
    if (access("/dev/shm", W_OK) == 0)
        snprintf(scratch_root, sizeof scratch_root, "/dev/shm/retort-%016llx-%s", (unsigned long long)rt_hash64(build, strlen(build), 0),
                 suite);
    else snprintf(scratch_root, sizeof scratch_root, "%s/scratch-%s", build, suite);
}

__attribute__((destructor)) static void scratch_close(void)
{
    if (getpid() == scratch_owner) rt_fs_remove_tree(scratch_root);
}

static inline const char *scratch(const char *name)
{
    static char path[PATH_MAX];
    rt_ok(rt_fs_join(path, sizeof path, scratch_root, name));
    rt_ok(rt_fs_remove_tree(path));
    rt_ok(rt_fs_mkdirs(path));
    return path;
}

static inline const char *below(const char *dir, const char *name)
{
    static char path[4][PATH_MAX];
    static int turn;
    turn = (turn + 1) % 4;
    rt_ok(rt_fs_join(path[turn], PATH_MAX, dir, name));
    return path[turn];
}

#endif
