/* Status codes and the error chain.
 *
 * Every fallible function returns an rt_status. The first failure *raises* a message ("what"); callers add *frames*
 * ("where", outermost last) and whoever knows the remedy sets the *fix*. The chain is thread-local, fixed in size and
 * never allocates, so it works when memory is gone. Only the command line prints it, in three lines: what, where, fix.
 *
 * Shape of every function:
 *     rt_status st = RT_OK;
 *     ...
 *     RT_TRY(callee(...));                        // propagate
 *     RT_TRYF(callee(...), "open shard %s", p);   // propagate with a frame
 *     if (bad) { st = RT_RAISE(RT_ERR_FORMAT, "..."); goto out; }
 * out:
 *     release(...);                               // accepts NULL and half-built
 *     return st;
 */
#ifndef RETORT_STATUS_H
#define RETORT_STATUS_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define RT_API __attribute__((visibility("default")))
#define RT_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define RT_API
#define RT_PRINTF(f, a)
#endif

/* One enumerator per exit code of the table (README "Exit codes"); rt_exit_code maps them. */
typedef enum rt_status {
    RT_OK = 0,
    RT_ERR_GATE,        /* 3   finished, a stated gate failed */
    RT_ERR_USAGE,       /* 64  command line */
    RT_ERR_FORMAT,      /* 65  bad input data or checksum */
    RT_ERR_MISSING,     /* 66  input missing */
    RT_ERR_UNSUPPORTED, /* 69  op, device or library not available */
    RT_ERR_DEVICE,      /* 69  a device call failed */
    RT_ERR_ARG,         /* 70  caller broke a contract: a bug of ours when it reaches a user */
    RT_ERR_INTERNAL,    /* 70  invariant broken */
    RT_ERR_NOMEM,       /* 71  host or device memory */
    RT_ERR_LOCKED,      /* 73  run exists or is locked */
    RT_ERR_IO,          /* 74  I/O error, disk full */
    RT_ERR_CANCELLED,   /* 75  stopped early, resumable */
    RT_ERR_COMM,        /* 76  a rank or the network was lost */
    RT_ERR_PERMISSION,  /* 77 */
    RT_ERR_CONFIG,      /* 78  configuration */
    RT_ERR_NUMERIC,     /* 79  NaN or infinity, divergence */
    RT_STATUS_COUNT
} rt_status;

RT_API const char *rt_status_name(rt_status st); /* "RT_ERR_IO"; static storage */
RT_API int rt_exit_code(rt_status st);

/* Starts a new chain (dropping any old one) and returns st. */
RT_API rt_status rt_error_raise(rt_status st, const char *file, int line, const char *fmt, ...) RT_PRINTF(4, 5);
/* Adds an outer context line to the current chain and returns st. */
RT_API rt_status rt_error_frame(rt_status st, const char *file, int line, const char *fmt, ...) RT_PRINTF(4, 5);
/* Sets the remedy, unless an inner caller already did; returns st. */
RT_API rt_status rt_error_fix(rt_status st, const char *fmt, ...) RT_PRINTF(2, 3);
/* Raises from errno: maps ENOENT to MISSING, EACCES/EPERM to PERMISSION, ENOMEM to NOMEM, the rest to IO. */
RT_API rt_status rt_error_errno(const char *file, int line, const char *fmt, ...) RT_PRINTF(3, 4);

/* The three lines of the current chain; "" when there is none. Borrowed until the next call in this thread. */
RT_API const char *rt_error_what(void);
RT_API const char *rt_error_where(void); /* frames, outermost first, joined by " / " */
RT_API const char *rt_error_remedy(void);
RT_API void rt_error_clear(void);

/* Hands a chain from a worker thread to the thread that joins it. */
typedef struct rt_error_chain {
    rt_status status;
    char what[512], where[1024], fix[512];
} rt_error_chain;
RT_API void rt_error_save(rt_error_chain *out);
RT_API rt_status rt_error_restore(const rt_error_chain *in);

#define RT_RAISE(st_, ...) rt_error_raise((st_), __FILE__, __LINE__, __VA_ARGS__)
#define RT_RAISE_ERRNO(...) rt_error_errno(__FILE__, __LINE__, __VA_ARGS__)
#define RT_TRY(expr)                                                                                                   \
    do {                                                                                                               \
        st = (expr);                                                                                                   \
        if (st != RT_OK) goto out;                                                                                     \
    } while (0)
#define RT_TRYF(expr, ...)                                                                                             \
    do {                                                                                                               \
        st = (expr);                                                                                                   \
        if (st != RT_OK) {                                                                                             \
            st = rt_error_frame(st, __FILE__, __LINE__, __VA_ARGS__);                                                  \
            goto out;                                                                                                  \
        }                                                                                                              \
    } while (0)
/* Allocation with the only possible complaint. Use as: RT_ALLOC(p, n * sizeof *p, "labels"); */
#define RT_ALLOC(ptr, bytes_, label)                                                                                   \
    do {                                                                                                               \
        (ptr) = rt_calloc(bytes_);                                                                                     \
        if (!(ptr)) {                                                                                                  \
            st = RT_RAISE(RT_ERR_NOMEM, "no memory for %s (%zu bytes)", (label), (size_t)(bytes_));                    \
            goto out;                                                                                                  \
        }                                                                                                              \
    } while (0)

#ifdef __cplusplus
}
#endif
#endif
