/* The table, lookups in it, and text to value.
 *
 * Numbers follow JSON's grammar and are consumed whole: `5x`, `3.7` for a count, `010`, `1_000`, `0x10`, `nan` and `.5`
 * are refused, where a lenient parser would read some other number than the author meant. Booleans are `true` and
 * `false` only. A plain scalar that YAML gives another meaning (`null`, `yes`, ...) is refused as a string until it is
 * quoted. */
#include "config/schema.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

/* clang-format off */
#define RT_CHOICES(...) ((const char *const[]){__VA_ARGS__, NULL})
#define AT(at, key_) offsetof(rt_config, at key_)
#define RT_SECTION(name, help_) {.kind = CFG_SECTION, .path = #name, .key = #name, .help = help_},
#define RT_SECTION_END(name)
#define RT_INT(at, key_, def_, lo_, hi_, help_)                                                                        \
    {.kind = CFG_INT, .path = #at #key_, .key = #key_, .def = def_, .help = help_, .ilo = lo_, .ihi = hi_,             \
     .offset = AT(at, key_)},
#define RT_INTS(at, key_, def_, lo_, hi_, help_)                                                                       \
    {.kind = CFG_INTS, .path = #at #key_, .key = #key_, .def = def_, .help = help_, .ilo = lo_, .ihi = hi_,            \
     .offset = AT(at, key_)},
#define RT_REAL(at, key_, def_, lo_, hi_, help_)                                                                       \
    {.kind = CFG_REAL, .path = #at #key_, .key = #key_, .def = def_, .help = help_, .lo = lo_, .hi = hi_,              \
     .offset = AT(at, key_)},
#define RT_REALS(at, key_, def_, lo_, hi_, help_)                                                                      \
    {.kind = CFG_REALS, .path = #at #key_, .key = #key_, .def = def_, .help = help_, .lo = lo_, .hi = hi_,             \
     .offset = AT(at, key_)},
#define RT_REAL3(at, key_, def_, lo_, hi_, help_)                                                                      \
    {.kind = CFG_REAL3, .path = #at #key_, .key = #key_, .def = def_, .help = help_, .lo = lo_, .hi = hi_,             \
     .offset = AT(at, key_)},
#define PLAIN(kind_, at, key_, def_, help_)                                                                            \
    {.kind = kind_, .path = #at #key_, .key = #key_, .def = def_, .help = help_, .offset = AT(at, key_)},
#define RT_BOOL(at, key_, def_, help_) PLAIN(CFG_BOOL, at, key_, def_, help_)
#define RT_STR(at, key_, def_, help_) PLAIN(CFG_STR, at, key_, def_, help_)
#define RT_PATH(at, key_, def_, help_) PLAIN(CFG_PATH, at, key_, def_, help_)
#define RT_PATHS(at, key_, def_, help_) PLAIN(CFG_PATHS, at, key_, def_, help_)
#define RT_ENUM(at, key_, def_, choices_, help_)                                                                       \
    {.kind = CFG_ENUM, .path = #at #key_, .key = #key_, .def = def_, .help = help_, .choices = choices_,               \
     .offset = AT(at, key_)},
#define RT_ENUMS(at, key_, def_, choices_, help_)                                                                      \
    {.kind = CFG_ENUMS, .path = #at #key_, .key = #key_, .def = def_, .help = help_, .choices = choices_,              \
     .offset = AT(at, key_)},

static const cfg_row rows[] = {
#include "config/config.def"
};
/* clang-format on */
enum { N_ROWS = sizeof rows / sizeof *rows };

int cfg_row_count(void)
{
    return N_ROWS;
}
const cfg_row *cfg_row_at(int i)
{
    return &rows[i];
}
bool cfg_is_list(const cfg_row *row)
{
    return row->kind == CFG_INTS || row->kind == CFG_ENUMS || row->kind == CFG_REALS || row->kind == CFG_REAL3;
}

const cfg_row *cfg_find(const char *path)
{
    for (int i = 0; i < N_ROWS; i++)
        if (!strcmp(rows[i].path, path)) return &rows[i];
    return NULL;
}

bool cfg_in_section(const cfg_row *row, const char *section)
{
    const char *dot = strchr(row->path, '.');
    size_t n = strlen(section);
    if (!n) return !dot;
    return dot && (size_t)(dot - row->path) == n && !strncmp(row->path, section, n);
}

/* Insertions, deletions, substitutions and swaps of neighbours, three rows of the table at a time. */
int rt_edit_distance(const char *a, const char *b)
{
    enum { MAX = 40 };
    int d[3][MAX + 1], n = (int)strnlen(a, MAX + 1), m = (int)strnlen(b, MAX + 1);
    if (n > MAX || m > MAX) return MAX;
    for (int j = 0; j <= m; j++) d[0][j] = j;
    for (int i = 1; i <= n; i++) {
        int *now = d[i % 3], *above = d[(i + 2) % 3], *two = d[(i + 1) % 3];
        now[0] = i;
        for (int j = 1; j <= m; j++) {
            bool same = tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);
            int best = above[j - 1] + !same;
            if (above[j] + 1 < best) best = above[j] + 1;
            if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && two[j - 2] + 1 < best)
                best = two[j - 2] + 1;
            now[j] = best;
        }
    }
    return d[n % 3][m];
}

const cfg_row *cfg_nearest(const char *section, const char *key)
{
    const cfg_row *best = NULL;
    int best_d = (int)strlen(key) / 3 + 1;
    for (int i = 0; i < N_ROWS; i++) {
        if (!cfg_in_section(&rows[i], section)) continue;
        int d = rt_edit_distance(key, rows[i].key);
        if (d <= best_d && (!best || d < best_d)) {
            best = &rows[i];
            best_d = d;
        }
    }
    for (int i = 0; !best && i < N_ROWS; i++) /* right key, wrong section; or a dotted path where a section was meant */
        if (!strcmp(rows[i].key, key) || !strcmp(rows[i].path, key)) best = &rows[i];
    return best;
}

rt_status cfg_blame(const cfg_src *src, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (src->set) return RT_RAISE(RT_ERR_CONFIG, "--set %.60s: %s", src->set, text);
    return RT_RAISE(RT_ERR_CONFIG, "%s:%zu:%zu: %s", src->file, src->line, src->column, text);
}

/* --- text to value -------------------------------------------------------------------------------------------------
 */
static const char *article(cfg_kind k)
{
    switch (k) {
    case CFG_INT:
    case CFG_INTS: return "an integer";
    case CFG_REAL:
    case CFG_REALS:
    case CFG_REAL3: return "a number";
    case CFG_BOOL: return "true or false";
    default: return "a string";
    }
}

static rt_status wrong_type(const cfg_row *row, const cfg_scalar *v)
{
    rt_status st = v->size == 0 && v->plain
                       ? cfg_blame(&v->src, "`%s` has no value, expected %s", row->path, article(row->kind))
                       : cfg_blame(&v->src, "`%s` must be %s, got %s%.*s%s", row->path, article(row->kind),
                                   v->plain ? "`" : "the string \"", (int)(v->size > 60 ? 60 : v->size), v->text,
                                   v->plain ? "`" : "\"");
    return rt_error_fix(st, "%s: %s; default %s", row->path, row->help, row->def);
}

/* JSON's number grammar; *integer when it has neither fraction nor exponent. */
static bool is_number(const char *s, size_t n, bool *integer)
{
    size_t i = 0, digits;
    if (i < n && s[i] == '-') i++;
    digits = i;
    while (i < n && isdigit((unsigned char)s[i])) i++;
    if (i == digits || (s[digits] == '0' && i > digits + 1)) return false;
    *integer = i == n;
    if (i < n && s[i] == '.') {
        digits = ++i;
        while (i < n && isdigit((unsigned char)s[i])) i++;
        if (i == digits) return false;
    }
    if (i < n && (s[i] == 'e' || s[i] == 'E')) {
        i++;
        if (i < n && (s[i] == '+' || s[i] == '-')) i++;
        digits = i;
        while (i < n && isdigit((unsigned char)s[i])) i++;
        if (i == digits) return false;
    }
    return i == n;
}

static rt_status to_int(const cfg_row *row, const cfg_scalar *v, int64_t *out)
{
    bool integer = false;
    if (!v->plain || !is_number(v->text, v->size, &integer) || !integer) return wrong_type(row, v);
    errno = 0;
    long long x = strtoll(v->text, NULL, 10);
    if (errno == ERANGE || x < row->ilo || x > row->ihi) {
        rt_status st =
            cfg_blame(&v->src, "`%s` is out of range: %.*s", row->path, (int)(v->size > 60 ? 60 : v->size), v->text);
        return rt_error_fix(st, "%s lies between %lld and %lld: %s", row->path, (long long)row->ilo,
                            (long long)row->ihi, row->help);
    }
    *out = x;
    return RT_OK;
}

static rt_status to_real(const cfg_row *row, const cfg_scalar *v, double *out)
{
    bool integer;
    if (!v->plain || !is_number(v->text, v->size, &integer)) return wrong_type(row, v);
    double x = strtod(v->text, NULL);
    if (!(x >= row->lo && x <= row->hi)) {
        rt_status st =
            cfg_blame(&v->src, "`%s` is out of range: %.*s", row->path, (int)(v->size > 60 ? 60 : v->size), v->text);
        return rt_error_fix(st, "%s lies between %g and %g: %s", row->path, row->lo, row->hi, row->help);
    }
    *out = x == 0 ? 0 : x; /* no negative zero */
    return RT_OK;
}

static bool equals(const cfg_scalar *v, const char *s)
{
    return strlen(s) == v->size && !memcmp(v->text, s, v->size);
}

static rt_status to_bool(const cfg_row *row, const cfg_scalar *v, bool *out)
{
    bool t = equals(v, "true"), f = equals(v, "false");
    if (!v->plain || (!t && !f)) return wrong_type(row, v);
    *out = t;
    return RT_OK;
}

static rt_status to_choice(const cfg_row *row, const cfg_scalar *v, const char **out)
{
    char list[256] = "";
    size_t at = 0;
    const char *near = NULL;
    char text[41] = "";
    snprintf(text, sizeof text, "%.*s", (int)(v->size > 40 ? 40 : v->size), v->text);
    for (const char *const *c = row->choices; *c; c++) {
        if (equals(v, *c)) {
            *out = *c;
            return RT_OK;
        }
        at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", at ? ", " : "", *c);
        if (at >= sizeof list) at = sizeof list - 1;
        if (rt_edit_distance(text, *c) <= (int)strlen(text) / 3 + 1 && !near) near = *c;
    }
    rt_status st = v->size ? cfg_blame(&v->src, "`%s` cannot be `%s`", row->path, text)
                           : cfg_blame(&v->src, "`%s` has no value", row->path);
    if (near) return rt_error_fix(st, "did you mean `%s`? choices: %s", near, list);
    return rt_error_fix(st, "choices: %s", list);
}

/* Well-formed UTF-8 without control characters: it must survive the echo, JSON manifests and terminals. */
static bool is_text(const char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        unsigned char c = (unsigned char)s[i];
        int more = c < 0x80                ? 0
                   : c >= 0xC2 && c < 0xE0 ? 1
                   : c >= 0xE0 && c < 0xF0 ? 2
                   : c >= 0xF0 && c < 0xF5 ? 3
                                           : -1;
        if (more < 0 || c < 0x20 || c == 0x7F || i + (size_t)more >= n) return false;
        for (int k = 1; k <= more; k++)
            if (((unsigned char)s[i + (size_t)k] & 0xC0) != 0x80) return false;
        unsigned char d = more ? (unsigned char)s[i + 1] : 0;
        if ((c == 0xC2 && d < 0xA0) || (c == 0xE0 && d < 0xA0) || (c == 0xED && d > 0x9F) || (c == 0xF0 && d < 0x90) ||
            (c == 0xF4 && d > 0x8F))
            return false; /* C1 controls, overlong forms, surrogates, beyond U+10FFFF */
        i += (size_t)more + 1;
    }
    return true;
}

/* base + path. base is a real path, so its `..` can be resolved by dropping components. */
static rt_status join(const cfg_scalar *v, const char *base, const char *p, size_t n, char *out, size_t cap)
{
    size_t len = 0;
    if (p[0] != '/') {
        len = strlen(base);
        while (len > 1 && base[len - 1] == '/') len--;
        if (len == 1 && base[0] == '/') len = 0;
        for (;;) {
            if (n >= 2 && p[0] == '.' && p[1] == '/')
                p += 2, n -= 2;
            else if (n >= 3 && !strncmp(p, "../", 3)) {
                p += 3, n -= 3;
                while (len && base[--len] != '/') {
                }
            } else if (n == 2 && !strncmp(p, "..", 2)) {
                n = 0;
                while (len && base[--len] != '/') {
                }
            } else if (n == 1 && p[0] == '.')
                n = 0;
            else
                break;
        }
    }
    if (len + n + 2 > cap) return cfg_blame(&v->src, "path is longer than %zu bytes", cap);
    memcpy(out, base, len);
    if (p[0] != '/' || len) out[len++] = '/';
    memcpy(out + len, p, n);
    out[len + n] = 0;
    len += n;
    while (len > 1 && out[len - 1] == '/') out[--len] = 0;
    return RT_OK;
}

static rt_status to_string(const cfg_row *row, const cfg_scalar *v, const char *base, char **out)
{
    static const char *const other[] = {"null", "Null", "NULL", "~",  "true", "false", "True", "False", "TRUE", "FALSE",
                                        "yes",  "no",   "Yes",  "No", "on",   "off",   "On",   "Off",   NULL};
    rt_status st = RT_OK;
    char *copy = NULL, joined[PATH_MAX];
    if (v->plain && !v->size && !v->src.set) {
        st = cfg_blame(&v->src, "`%s` has no value, expected a string", row->path);
        return rt_error_fix(st, "write \"\" for an empty string, or leave the key out for the default");
    }
    for (int i = 0; v->plain && !v->src.set && other[i]; i++)
        if (equals(v, other[i])) {
            st = cfg_blame(&v->src, "`%s` must be a string, got `%s`", row->path, other[i]);
            return rt_error_fix(st, "quote it if the string is meant: \"%s\"", other[i]);
        }
    if (!is_text(v->text, v->size)) {
        st = cfg_blame(&v->src, "`%s` holds control characters or is not UTF-8", row->path);
        return rt_error_fix(st, "use one line of printable UTF-8 text");
    }
    if (row->kind == CFG_STR || !v->size) {
        RT_ALLOC(copy, v->size + 1, row->path);
        memcpy(copy, v->text, v->size);
    } else {
        size_t done = 0, have = 0;
        while (done <= v->size) {
            const char *p = v->text + done;
            const char *comma = row->kind == CFG_PATHS ? memchr(p, ',', v->size - done) : NULL;
            size_t n = comma ? (size_t)(comma - p) : v->size - done;
            if (!n) {
                st = cfg_blame(&v->src, "`%s` has an empty path between commas", row->path);
                goto out;
            }
            RT_TRY(join(v, base, p, n, joined, sizeof joined));
            size_t add = strlen(joined);
            char *bigger = rt_realloc(copy, have, have + add + 2);
            if (!bigger) {
                st = RT_RAISE(RT_ERR_NOMEM, "no memory for %s", row->path);
                goto out;
            }
            copy = bigger;
            if (have) copy[have - 1] = ',';
            memcpy(copy + have, joined, add + 1);
            have += add + 1;
            done += n + 1;
        }
        if (!is_text(copy, strlen(copy))) {
            st = cfg_blame(&v->src, "the folder of `%s` is not UTF-8", row->path);
            goto out;
        }
    }
    *out = copy;
    copy = NULL;
out:
    rt_free(copy);
    return st;
}

rt_status cfg_assign(rt_config *c, const cfg_row *row, const cfg_scalar *v, int n, const char *base)
{
    rt_status st = RT_OK;
    void *at = (char *)c + row->offset;
    rt_int_list ints = {.n = n};
    rt_real_list reals = {.n = n};
    rt_name_list names = {.n = n};
    double real3[3];
    char *string = NULL;

    switch (row->kind) {
    case CFG_SECTION: return RT_RAISE(RT_ERR_INTERNAL, "section %s given a value", row->path);
    case CFG_INT: return to_int(row, v, at);
    case CFG_REAL: return to_real(row, v, at);
    case CFG_BOOL: return to_bool(row, v, at);
    case CFG_ENUM: return to_choice(row, v, at);
    case CFG_STR:
    case CFG_PATH:
    case CFG_PATHS:
        RT_TRY(to_string(row, v, base, &string));
        rt_free(*(char **)at);
        *(char **)at = string;
        break;
    case CFG_INTS:
        for (int i = 0; i < n; i++) {
            RT_TRY(to_int(row, &v[i], &ints.v[i]));
            for (int j = 0; j < i; j++)
                if (ints.v[j] == ints.v[i])
                    return cfg_blame(&v[i].src, "`%s` lists %lld twice", row->path, (long long)ints.v[i]);
        }
        *(rt_int_list *)at = ints;
        break;
    case CFG_ENUMS:
        for (int i = 0; i < n; i++) {
            RT_TRY(to_choice(row, &v[i], &names.v[i]));
            for (int j = 0; j < i; j++)
                if (names.v[j] == names.v[i])
                    return cfg_blame(&v[i].src, "`%s` lists `%s` twice", row->path, names.v[i]);
        }
        *(rt_name_list *)at = names;
        break;
    case CFG_REALS:
        for (int i = 0; i < n; i++) RT_TRY(to_real(row, &v[i], &reals.v[i]));
        *(rt_real_list *)at = reals;
        break;
    case CFG_REAL3:
        if (n != 3) {
            st = cfg_blame(&v[0].src, "`%s` has %d value%s, expected 3", row->path, n, n == 1 ? "" : "s");
            return rt_error_fix(st, "one per channel, as in %s", row->def);
        }
        for (int i = 0; i < 3; i++) RT_TRY(to_real(row, &v[i], &real3[i]));
        memcpy(at, real3, sizeof real3);
        break;
    }
out:
    return st;
}
