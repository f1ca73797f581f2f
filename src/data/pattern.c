/* Shard patterns: "a-{000000..000146}.tar,b-{x,y}.tar". Ranges keep the width of their first bound, as a shell does.
 * Nothing is looked up on disk and nothing is executed: a pattern is only names. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "data/internal.h"

enum { MAX_NAMES = 1000000, MAX_DEPTH = 16 };

typedef struct names {
    char **list;
    size_t n, cap;
} names;

static rt_status push(names *o, const char *s)
{
    if (o->n >= MAX_NAMES)
        return RT_RAISE(RT_ERR_CONFIG, "a shard pattern that expands to more than %d names", MAX_NAMES);
    if (o->n == o->cap) {
        size_t grown = o->cap ? o->cap * 2 : 64;
        char **bigger = rt_realloc(o->list, o->cap * sizeof *bigger, grown * sizeof *bigger);
        if (!bigger) return RT_RAISE(RT_ERR_NOMEM, "no memory for %zu shard names", grown);
        o->list = bigger;
        o->cap = grown;
    }
    if (!(o->list[o->n] = rt_strdup(s))) return RT_RAISE(RT_ERR_NOMEM, "no memory for a shard name");
    o->n++;
    return RT_OK;
}

static rt_status expand(names *o, const char *pattern, int depth);

/* head + word + tail, expanded further (tail may hold more braces). */
static rt_status expand_with(names *o, const char *head, int head_n, const char *word, int word_n, const char *tail,
                             int depth)
{
    char *s = rt_asprintf("%.*s%.*s%s", head_n, head, word_n, word, tail);
    if (!s) return RT_RAISE(RT_ERR_NOMEM, "no memory for a shard name");
    rt_status st = expand(o, s, depth + 1);
    rt_free(s);
    return st;
}

static bool all_digits(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (s[i] < '0' || s[i] > '9') return false;
    return n > 0 && n <= 9;
}

static rt_status expand(names *o, const char *pattern, int depth)
{
    const char *open = strchr(pattern, '{');
    if (!open) {
        if (strchr(pattern, '}')) return RT_RAISE(RT_ERR_CONFIG, "'%s': '}' without '{'", pattern);
        return push(o, pattern);
    }
    const char *close = strchr(open, '}'), *again = strchr(open + 1, '{');
    if (!close || (again && again < close) || depth > MAX_DEPTH)
        return RT_RAISE(RT_ERR_CONFIG, "'%s': braces do not close, are nested, or are more than %d", pattern,
                        MAX_DEPTH);
    const char *body = open + 1, *dots = strstr(body, "..");
    int head_n = (int)(open - pattern);
    rt_status st = RT_OK;
    if (dots && dots < close) {
        size_t la = (size_t)(dots - body), lb = (size_t)(close - dots - 2);
        if (!all_digits(body, la) || !all_digits(dots + 2, lb))
            return RT_RAISE(RT_ERR_CONFIG, "'%s': a range is {first..last} of decimal numbers", pattern);
        long a = strtol(body, NULL, 10), b = strtol(dots + 2, NULL, 10);
        if (b < a) return RT_RAISE(RT_ERR_CONFIG, "'%s': the range runs backwards", pattern);
        for (long v = a; v <= b && st == RT_OK; v++) {
            char word[24];
            int n = snprintf(word, sizeof word, "%0*ld", (int)la, v);
            st = expand_with(o, pattern, head_n, word, n, close + 1, depth);
        }
        return st;
    }
    for (const char *p = body; st == RT_OK && p <= close;) {
        const char *end = p;
        while (end < close && *end != ',') end++;
        st = expand_with(o, pattern, head_n, p, (int)(end - p), close + 1, depth);
        p = end + 1;
    }
    return st;
}

rt_status rt_expand_pattern(const char *pattern, char ***list, size_t *n)
{
    rt_status st = RT_OK;
    names o = {0};
    char *copy = rt_strdup(pattern);
    if (!copy) return RT_RAISE(RT_ERR_NOMEM, "no memory for a shard pattern");
    int depth = 0;
    char *start = copy;
    for (char *p = copy;; p++) {
        if (*p == '{') depth++;
        if (*p == '}') depth--;
        if (*p && (*p != ',' || depth > 0)) continue;
        bool last = !*p;
        *p = 0;
        if (!*start) {
            st = RT_RAISE(RT_ERR_CONFIG, "'%s': empty name in the list", pattern);
            goto out;
        }
        RT_TRY(expand(&o, start, 0));
        if (last) break;
        start = p + 1;
    }
    *list = o.list;
    *n = o.n;
    o = (names){0};
out:
    if (o.list) rt_fs_list_free(o.list, o.n);
    rt_free(copy);
    return st;
}
