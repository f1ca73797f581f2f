/* Ordered class lists and their identity. The hash covers names and order, so a permuted list is another list: mixing
 * up class order is the most reported failure of the field (DESIGN 2.11). */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "data/internal.h"

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static rt_status check_names(const char *const *names, int32_t n)
{
    rt_status st = RT_OK;
    const char **sorted = NULL;
    for (int32_t i = 0; i < n; i++) {
        if (!names[i] || !names[i][0]) return RT_RAISE(RT_ERR_FORMAT, "class %d has an empty name", i);
        if (strpbrk(names[i], "\r\n")) return RT_RAISE(RT_ERR_FORMAT, "class %d: its name holds a line break", i);
    }
    RT_ALLOC(sorted, (size_t)n * sizeof *sorted, "class names");
    for (int32_t i = 0; i < n; i++) sorted[i] = names[i];
    qsort(sorted, (size_t)n, sizeof *sorted, by_name);
    for (int32_t i = 1; i < n; i++)
        if (!strcmp(sorted[i - 1], sorted[i])) {
            st = RT_RAISE(RT_ERR_FORMAT, "class name '%s' appears twice", sorted[i]);
            goto out;
        }
out:
    rt_free(sorted);
    return st;
}

rt_status rt_classes_make(const char *const *names, int32_t n, rt_classes *out)
{
    rt_status st = RT_OK;
    rt_classes c = {0};
    rt_sha256 *h = NULL;
    if (n < 1 || n > RT_CLASSES_MAX)
        return RT_RAISE(RT_ERR_FORMAT, "%d classes: between 1 and %d are supported", n, RT_CLASSES_MAX);
    RT_TRY(check_names(names, n));
    RT_ALLOC(c.name, (size_t)n * sizeof *c.name, "class names");
    for (c.n = 0; c.n < n; c.n++)
        if (!(c.name[c.n] = rt_strdup(names[c.n]))) {
            st = RT_RAISE(RT_ERR_NOMEM, "no memory for class names");
            goto out;
        }
    RT_TRY(rt_sha256_create(&h));
    for (int32_t i = 0; i < n; i++) {
        rt_sha256_update(h, c.name[i], strlen(c.name[i]));
        rt_sha256_update(h, "\n", 1);
    }
    rt_sha256_final(h, c.hash);
    *out = c;
    c = (rt_classes){0};
out:
    rt_classes_fini(&c);
    return st;
}

rt_status rt_split_lines(const char *path, char *text, size_t n, char ***line, int64_t *n_lines)
{
    rt_status st = RT_OK;
    char **list = NULL;
    int64_t count = 0;
    if (memchr(text, 0, n)) return RT_RAISE(RT_ERR_FORMAT, "%s: holds a NUL byte, so it is not a text list", path);
    size_t lines = 1;
    for (size_t i = 0; i < n; i++) lines += text[i] == '\n';
    RT_ALLOC(list, lines * sizeof *list, path);
    for (char *p = text, *end = text + n; p < end;) {
        char *eol = memchr(p, '\n', (size_t)(end - p));
        char *next = eol ? eol + 1 : end;
        if (!eol) eol = end; /* text[n] is writable: readers NUL-terminate */
        if (eol > p && eol[-1] == '\r') eol--;
        *eol = 0;
        if (eol == p) {
            st =
                RT_RAISE(RT_ERR_FORMAT, "%s:%lld: empty line in a list of one name a line", path, (long long)count + 1);
            goto out;
        }
        list[count++] = p;
        p = next;
    }
    *line = list;
    *n_lines = count;
    list = NULL;
out:
    rt_free(list);
    return st;
}

rt_status rt_classes_read(const char *path, rt_classes *out)
{
    rt_status st = RT_OK;
    void *text = NULL;
    char **line = NULL;
    size_t size = 0;
    int64_t n = 0;
    RT_TRYF(rt_read_maybe_xz(path, RT_LIST_MAX_BYTES, &text, &size), "class list");
    RT_TRYF(rt_split_lines(path, text, size, &line, &n), "class list");
    if (n > RT_CLASSES_MAX) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: %lld classes, at most %d", path, (long long)n, RT_CLASSES_MAX);
        goto out;
    }
    RT_TRYF(rt_classes_make((const char *const *)line, (int32_t)n, out), "class list %s", path);
out:
    rt_free(line);
    rt_free(text);
    return st;
}

rt_status rt_classes_copy(const rt_classes *in, rt_classes *out)
{
    return rt_classes_make((const char *const *)in->name, in->n, out);
}

void rt_classes_fini(rt_classes *c)
{
    if (!c) return;
    if (c->name)
        for (int32_t i = 0; i < c->n; i++) rt_free(c->name[i]);
    rt_free(c->name);
    *c = (rt_classes){0};
}

rt_status rt_classes_check(const rt_classes *a, const char *a_name, const rt_classes *b, const char *b_name)
{
    if (!strcmp(a->hash, b->hash)) return RT_OK;
    int32_t most = a->n > b->n ? a->n : b->n, differ = 0, first = -1;
    for (int32_t i = 0; i < most; i++)
        if (i >= a->n || i >= b->n || strcmp(a->name[i], b->name[i])) {
            if (first < 0) first = i;
            differ++;
        }
    if (first < 0) return RT_RAISE(RT_ERR_FORMAT, "%s and %s: same class names, but other hashes", a_name, b_name);
    rt_status st = RT_RAISE(RT_ERR_FORMAT, "class lists differ: class %d is '%s' in %s and '%s' in %s; %d of %d differ",
                            first, first < a->n ? a->name[first] : "(none)", a_name,
                            first < b->n ? b->name[first] : "(none)", b_name, differ, most);
    return rt_error_fix(st, "use artefacts built with one class list, or rebuild one of them with the other's list");
}
