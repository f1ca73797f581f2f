/* Files the way a tool that must not lose work handles them: whole reads with a cap, durable writes, no surprises. */
#ifndef RT_BASE_FS_H
#define RT_BASE_FS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "retort/status.h"

/* Reads a whole regular file. *data is owned by the caller (rt_free), NUL-terminated past *size.
 * A file over max_bytes is RT_ERR_FORMAT. */
rt_status rt_fs_read(const char *path, size_t max_bytes, void **data, size_t *size);
/* pread until done; a short file is RT_ERR_FORMAT naming offset and length. EINTR is retried. */
rt_status rt_fs_pread(int fd, const char *path, void *buf, size_t n, uint64_t off);
/* write until done; ENOSPC/EDQUOT say needed and free bytes. */
rt_status rt_fs_write_all(int fd, const char *path, const void *buf, size_t n);
/* temp sibling + write + fsync + rename + fsync(dir): path holds either the old bytes or the new. */
rt_status rt_fs_write_atomic(const char *path, const void *buf, size_t n);
rt_status rt_fs_fsync_dir(const char *dir);
rt_status rt_fs_mkdirs(const char *path);           /* like mkdir -p, mode 0777 & ~umask */
rt_status rt_fs_remove_tree(const char *path);      /* never follows symlinks; a missing path is fine */
bool rt_fs_exists(const char *path);
bool rt_fs_is_dir(const char *path);
int64_t rt_fs_size(const char *path);               /* -1 when absent */
int64_t rt_fs_tree_bytes(const char *path);         /* sum of regular files, 0 when absent */
/* Sorted (byte order) names in a directory, without . and ..; release with rt_fs_list_free. */
rt_status rt_fs_list(const char *dir, char ***names, size_t *n);
void rt_fs_list_free(char **names, size_t n);
/* Joins with exactly one '/'; writes at most n bytes; RT_ERR_ARG when it does not fit. */
rt_status rt_fs_join(char *out, size_t n, const char *a, const char *b);

#endif
