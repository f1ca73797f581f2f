#include "base/log.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

static rt_log_fn log_fn;
static void *log_ctx;
static rt_progress_fn progress_fn;
static void *progress_ctx;
static volatile sig_atomic_t stop_flag;

void rt_log_set(rt_log_fn fn, void *ctx)
{
    log_fn = fn;
    log_ctx = ctx;
}

void rt_log_line(rt_log_level level, const char *fmt, ...)
{
    if (!log_fn) return;
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    log_fn(log_ctx, level, line);
}

void rt_progress_set(rt_progress_fn fn, void *ctx)
{
    progress_fn = fn;
    progress_ctx = ctx;
}

void rt_progress_report(const rt_progress *p)
{
    if (progress_fn) progress_fn(progress_ctx, p);
}

void rt_stop_request(void) { stop_flag = 1; }
int rt_stop_requested(void) { return stop_flag; }
void rt_stop_clear(void) { stop_flag = 0; }

double rt_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
