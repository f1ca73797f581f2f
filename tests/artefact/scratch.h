/* A fresh folder per test; removed by the next run of the same test. In shared memory where there is some, since these
 * tests fsync thousands of times; one per build tree, so that two trees can be tested at once. */
#ifndef RT_TESTS_SCRATCH_H
#define RT_TESTS_SCRATCH_H

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/hash.h"
#include "support/suite.h"

static inline const char *scratch(const char *name)
{
    static char path[PATH_MAX];
    const char *build = getenv("RT_BUILD_DIR");
    if (!build) build = "/tmp";
    if (access("/dev/shm", W_OK) == 0)
        snprintf(path, sizeof path, "/dev/shm/retort-%016llx/%s", (unsigned long long)rt_hash64(build, strlen(build), 0), name);
    else snprintf(path, sizeof path, "%s/scratch/%s", build, name);
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
