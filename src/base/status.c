/* The thread-local error chain. Fixed buffers: raising an error never allocates. Text that does not fit is cut. */
#include "retort/status.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local rt_error_chain chain;

static const struct {
    const char *name;
    int exit_code;
} rows[RT_STATUS_COUNT] = {
    [RT_OK] = {"RT_OK", 0},
    [RT_ERR_GATE] = {"RT_ERR_GATE", 3},
    [RT_ERR_USAGE] = {"RT_ERR_USAGE", 64},
    [RT_ERR_FORMAT] = {"RT_ERR_FORMAT", 65},
    [RT_ERR_MISSING] = {"RT_ERR_MISSING", 66},
    [RT_ERR_UNSUPPORTED] = {"RT_ERR_UNSUPPORTED", 69},
    [RT_ERR_DEVICE] = {"RT_ERR_DEVICE", 69},
    [RT_ERR_ARG] = {"RT_ERR_ARG", 70},
    [RT_ERR_INTERNAL] = {"RT_ERR_INTERNAL", 70},
    [RT_ERR_NOMEM] = {"RT_ERR_NOMEM", 71},
    [RT_ERR_LOCKED] = {"RT_ERR_LOCKED", 73},
    [RT_ERR_IO] = {"RT_ERR_IO", 74},
    [RT_ERR_CANCELLED] = {"RT_ERR_CANCELLED", 75},
    [RT_ERR_COMM] = {"RT_ERR_COMM", 76},
    [RT_ERR_PERMISSION] = {"RT_ERR_PERMISSION", 77},
    [RT_ERR_CONFIG] = {"RT_ERR_CONFIG", 78},
    [RT_ERR_NUMERIC] = {"RT_ERR_NUMERIC", 79},
};

const char *rt_status_name(rt_status st) { return (unsigned)st < RT_STATUS_COUNT ? rows[st].name : "RT_ERR_?"; }
int rt_exit_code(rt_status st) { return (unsigned)st < RT_STATUS_COUNT ? rows[st].exit_code : 70; }

rt_status rt_error_raise(rt_status st, const char *file, int line, const char *fmt, ...)
{
    char what[sizeof chain.what]; /* the arguments may point into the old chain */
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    memset(&chain, 0, sizeof chain);
    chain.status = st;
    memcpy(chain.what, what, sizeof what);
    (void)file; /* kept in the signature for debuggers; users are shown files of theirs, not ours */
    (void)line;
    return st;
}

rt_status rt_error_frame(rt_status st, const char *file, int line, const char *fmt, ...)
{
    char frame[512], joined[sizeof chain.where + sizeof frame + 4]; /* cut when copied back */
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(frame, sizeof frame, fmt, ap);
    va_end(ap);
    snprintf(joined, sizeof joined, "%s%s%s", frame, chain.where[0] ? " / " : "", chain.where);
    joined[sizeof chain.where - 1] = 0;
    memcpy(chain.where, joined, sizeof chain.where);
    (void)file;
    (void)line;
    return st;
}

rt_status rt_error_fix(rt_status st, const char *fmt, ...)
{
    if (!chain.fix[0]) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(chain.fix, sizeof chain.fix, fmt, ap);
        va_end(ap);
    }
    return st;
}

rt_status rt_error_errno(const char *file, int line, const char *fmt, ...)
{
    int e = errno;
    char text[384];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    rt_status st = RT_ERR_IO;
    switch (e) {
    case ENOENT: case ENOTDIR: st = RT_ERR_MISSING; break;
    case EACCES: case EPERM: case EROFS: st = RT_ERR_PERMISSION; break;
    case ENOMEM: st = RT_ERR_NOMEM; break;
    default: break;
    }
    return rt_error_raise(st, file, line, "%s: %s", text, strerror(e));
}

const char *rt_error_what(void) { return chain.what; }
const char *rt_error_where(void) { return chain.where; }
const char *rt_error_remedy(void) { return chain.fix; }
void rt_error_clear(void) { memset(&chain, 0, sizeof chain); }
void rt_error_save(rt_error_chain *out) { *out = chain; }

rt_status rt_error_restore(const rt_error_chain *in)
{
    chain = *in;
    return chain.status;
}
