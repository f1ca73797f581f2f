/* The allocator hook: every heap allocation of the library goes through here, so that a test can make the n-th fail.
 * Release everything with rt_free. Sizes in bytes. */
#ifndef RT_BASE_ALLOC_H
#define RT_BASE_ALLOC_H

#include <stddef.h>
#include <stdint.h>

#include "retort/status.h"

enum { RT_ALIGN = 64 }; /* one cache line, one AVX-512 register */

void *rt_malloc(size_t bytes);              /* 64-byte aligned, uninitialised; NULL when out of memory */
void *rt_calloc(size_t bytes);              /* same, zeroed */
void *rt_realloc(void *p, size_t old_bytes, size_t new_bytes); /* p untouched on failure */
char *rt_strdup(const char *s);
char *rt_asprintf(const char *fmt, ...) RT_PRINTF(1, 2); /* returns owned; NULL when out of memory */
void rt_free(void *p);                      /* accepts NULL */

/* Fault injection: the n-th allocation from now fails (n >= 1), and all later ones too when persistent; 0 disarms. */
void rt_alloc_fail_at(uint64_t n, int persistent);
uint64_t rt_alloc_count(void);              /* allocations so far */
size_t rt_peak_rss_bytes(void);             /* resident high-water mark since the start or the last reset */
void rt_peak_rss_reset(void);               /* so that each stage shows its own peak; without /proc nothing happens */

#endif
