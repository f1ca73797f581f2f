#include "base/alloc.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static _Atomic uint64_t n_calls, fail_at;
static _Atomic int fail_persistent;

static int must_fail(void)
{
    uint64_t n = atomic_fetch_add(&n_calls, 1) + 1;
    uint64_t at = atomic_load(&fail_at);
    return at != 0 && (n == at || (n > at && atomic_load(&fail_persistent)));
}

void rt_alloc_fail_at(uint64_t n, int persistent)
{
    atomic_store(&fail_persistent, persistent);
    atomic_store(&fail_at, n ? atomic_load(&n_calls) + n : 0);
}

uint64_t rt_alloc_count(void) { return atomic_load(&n_calls); }

void *rt_malloc(size_t bytes)
{
    if (must_fail() || bytes > SIZE_MAX - RT_ALIGN) return NULL;
    size_t whole = (bytes + RT_ALIGN - 1) / RT_ALIGN * RT_ALIGN; /* aligned_alloc wants a multiple */
    return aligned_alloc(RT_ALIGN, whole ? whole : RT_ALIGN);
}

void *rt_calloc(size_t bytes)
{
    void *p = rt_malloc(bytes);
    if (p) memset(p, 0, bytes);
    return p;
}

void *rt_realloc(void *p, size_t old_bytes, size_t new_bytes)
{
    void *q = rt_malloc(new_bytes);
    if (!q) return NULL;
    if (p) memcpy(q, p, old_bytes < new_bytes ? old_bytes : new_bytes);
    rt_free(p);
    return q;
}

char *rt_strdup(const char *s)
{
    size_t n = strlen(s) + 1;
    char *d = rt_malloc(n);
    if (d) memcpy(d, s, n);
    return d;
}

char *rt_asprintf(const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    char *s = n < 0 ? NULL : rt_malloc((size_t)n + 1);
    if (s) vsnprintf(s, (size_t)n + 1, fmt, again);
    va_end(again);
    va_end(ap);
    return s;
}

void rt_free(void *p) { free(p); }

size_t rt_peak_rss_bytes(void)
{
    struct rusage u;
    char line[128];
    size_t kib = 0;
    FILE *f = fopen("/proc/self/status", "re"); /* VmHWM honours the reset, ru_maxrss does not */
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %zu kB", &kib) == 1) break;
    if (f) fclose(f);
    if (!kib && !getrusage(RUSAGE_SELF, &u)) kib = (size_t)u.ru_maxrss;
    return kib * 1024;
}

void rt_peak_rss_reset(void)
{
    FILE *f = fopen("/proc/self/clear_refs", "we");
    if (!f) return;
    fputs("5", f);
    fclose(f);
}
