/* Faults at the k-th file operation (shim.c). Counts write, fsync, rename, unlink(at), mkdir, and open for writing. */
#ifndef RT_TESTS_SHIM_H
#define RT_TESTS_SHIM_H

#include <stdint.h>

typedef enum rt_shim_mode {
    RT_SHIM_COUNT,  /* only count */
    RT_SHIM_DIE,    /* _exit(137) instead of the k-th operation: what SIGKILL before it leaves */
    RT_SHIM_TEAR,   /* a k-th write does half its bytes, then _exit(137); other operations as DIE */
    RT_SHIM_ENOSPC, /* the k-th operation fails once */
    RT_SHIM_EIO,
    RT_SHIM_FULL,   /* from the k-th on, writes, mkdirs and creates fail with ENOSPC, as on a full disk */
    RT_SHIM_SHORT   /* the k-th write is short by half, or EINTR when it has one byte: callers must go on */
} rt_shim_mode;

void rt_shim_arm(rt_shim_mode mode, uint64_t k); /* counts from 1, restarting here */
uint64_t rt_shim_count(void);
void rt_shim_disarm(void);

/* What a power loss could still take: files written and folders changed that no fsync has reached. While armed. */
int rt_shim_unsynced(void);
int rt_shim_unsynced_at_rename(void); /* the most seen when a folder was renamed below its final name */

#endif
