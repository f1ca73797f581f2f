/* Choices among implementations that survive the process: JSON lines {"key": ..., "choice": ...}, one per node shape and
 * machine, written atomically. A run that is resumed with the same file makes the same choices, hence the same bits. */
#ifndef RT_BACKEND_ALGO_H
#define RT_BACKEND_ALGO_H

#include <stdbool.h>
#include <stddef.h>

#include "retort/status.h"

/* *found is false when the file or the key is absent. A file with a line that is not such an object is RT_ERR_FORMAT. */
rt_status rt_algo_lookup(const char *path, const char *key, char *choice, size_t len, bool *found);
rt_status rt_algo_store(const char *path, const char *key, const char *choice);

#endif
