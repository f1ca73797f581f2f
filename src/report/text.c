/* Growing text with a sticky status, escaping, and the way figures are written for people. */
#include <stdarg.h>
#include <string.h>

#include "base/alloc.h"
#include "report/internal.h"

static bool reserve(text *t, size_t more)
{
    if (t->st != RT_OK) return false;
    if (t->n + more + 1 <= t->cap) return true;
    size_t cap = (t->n + more + 1) * 3 / 2 + 1024;
    char *bigger = rt_realloc(t->s, t->cap, cap);
    if (!bigger) {
        t->st = RT_RAISE(RT_ERR_NOMEM, "no memory for %zu bytes of text", cap);
        return false;
    }
    t->s = bigger;
    t->cap = cap;
    return true;
}

void t_put(text *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || !reserve(t, (size_t)n)) return;
    va_start(ap, fmt);
    vsnprintf(t->s + t->n, (size_t)n + 1, fmt, ap);
    va_end(ap);
    t->n += (size_t)n;
}

void t_raw(text *t, const char *s, size_t n)
{
    if (!reserve(t, n)) return;
    memcpy(t->s + t->n, s, n);
    t->n += n;
    t->s[t->n] = 0;
}

void t_html(text *t, const char *s)
{
    for (; s && *s; s++) {
        switch (*s) {
        case '&': t_put(t, "&amp;"); break;
        case '<': t_put(t, "&lt;"); break;
        case '>': t_put(t, "&gt;"); break;
        case '"': t_put(t, "&quot;"); break;
        case '\'': t_put(t, "&#39;"); break;
        default:
            if ((unsigned char)*s >= 0x20 || *s == '\n') t_raw(t, s, 1);
        }
    }
}

void t_base64(text *t, const void *p, size_t n)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *b = p;
    if (!reserve(t, (n + 2) / 3 * 4)) return;
    for (size_t i = 0; i < n; i += 3) {
        unsigned v = (unsigned)b[i] << 16 | (i + 1 < n ? (unsigned)b[i + 1] << 8 : 0) | (i + 2 < n ? b[i + 2] : 0);
        char *o = t->s + t->n;
        o[0] = digit[v >> 18];
        o[1] = digit[v >> 12 & 63];
        o[2] = i + 1 < n ? digit[v >> 6 & 63] : '=';
        o[3] = i + 2 < n ? digit[v & 63] : '=';
        t->n += 4;
    }
    t->s[t->n] = 0;
}

rt_status t_take(text *t, char **out)
{
    reserve(t, 0);
    if (t->st != RT_OK) {
        t_free(t);
        return t->st;
    }
    t->s[t->n] = 0;
    *out = t->s;
    *t = (text){0};
    return RT_OK;
}

void t_free(text *t)
{
    rt_free(t->s);
    t->s = NULL;
    t->n = t->cap = 0;
}

const char *t_seconds(double s, char buf[T_FIG])
{
    if (!(s >= 0))
        snprintf(buf, T_FIG, "–");
    else if (s < 0.095)
        snprintf(buf, T_FIG, "%.2f s", s);
    else if (s < 9.95)
        snprintf(buf, T_FIG, "%.1f s", s);
    else if (s < 120)
        snprintf(buf, T_FIG, "%.0f s", s);
    else if (s < 3600)
        snprintf(buf, T_FIG, "%.0f min %02.0f s", floor(s / 60), floor(fmod(s, 60)));
    else
        snprintf(buf, T_FIG, "%.0f h %02.0f min", floor(s / 3600), floor(fmod(s, 3600) / 60));
    return buf;
}

static const char *scaled(double x, const char *const unit[5], char buf[T_FIG])
{
    int i = 0;
    if (!(x >= 0)) {
        snprintf(buf, T_FIG, "–");
        return buf;
    }
    while (x >= 999.5 && i < 4) x /= 1000, i++;
    snprintf(buf, T_FIG, x >= 99.95 || x == floor(x) ? "%.0f%s" : x >= 9.995 ? "%.1f%s" : "%.2f%s", x, unit[i]);
    return buf;
}

const char *t_bytes(double b, char buf[T_FIG])
{
    static const char *const unit[5] = {" B", " KB", " MB", " GB", " TB"};
    return scaled(b, unit, buf);
}

const char *t_big(double x, char buf[T_FIG])
{
    static const char *const unit[5] = {"", " k", " M", " G", " T"};
    return scaled(x, unit, buf);
}

const char *t_count(double x, char buf[T_FIG])
{
    char digits[T_FIG];
    if (!(x >= 0 && x < 1e15)) {
        snprintf(buf, T_FIG, "–");
        return buf;
    }
    snprintf(digits, sizeof digits, "%.0f", x);
    size_t len = strlen(digits), at = 0;
    for (size_t i = 0; i < len; i++) {
        buf[at++] = digits[i];
        if ((len - i - 1) % 3 == 0 && i + 1 < len) buf[at++] = ',';
    }
    buf[at] = 0;
    return buf;
}

const char *t_gflop(double flops, char buf[T_FIG])
{
    double g = flops / 1e9;
    if (g >= 100) return t_count(g, buf);
    if (!(g >= 0))
        snprintf(buf, T_FIG, "–");
    else
        snprintf(buf, T_FIG, g == 0 ? "%.0f" : g < 10 ? "%.2f" : "%.1f", g);
    return buf;
}
