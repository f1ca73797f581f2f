/* Where the library sends lines meant for people: a callback set by the program. Without one, lines are dropped.
 * The library itself never prints. */
#ifndef RT_BASE_LOG_H
#define RT_BASE_LOG_H

#include "retort/status.h"

typedef enum rt_log_level { RT_LOG_DEBUG, RT_LOG_INFO, RT_LOG_WARN } rt_log_level;
typedef void (*rt_log_fn)(void *ctx, rt_log_level level, const char *line);
void rt_log_set(rt_log_fn fn, void *ctx);
void rt_log_line(rt_log_level level, const char *fmt, ...) RT_PRINTF(2, 3);

/* Progress: long loops report (phase, done, total, unit); the program renders it. Cheap; call once per step.
 * A loop that can resume also asks rt_stop_requested() each step; then it commits and returns RT_ERR_CANCELLED. */
typedef struct rt_progress {
    const char *phase, *unit;
    double done, total; /* total 0: unknown */
    const char *note;   /* extra figures, may be NULL */
} rt_progress;
typedef void (*rt_progress_fn)(void *ctx, const rt_progress *p);
void rt_progress_set(rt_progress_fn fn, void *ctx);
void rt_progress_report(const rt_progress *p);

/* Cooperative cancellation, safe to call from a signal handler. */
void rt_stop_request(void);
int rt_stop_requested(void);
void rt_stop_clear(void);

/* Monotonic seconds since an arbitrary origin; thread CPU is not included. */
double rt_now(void);

#endif
