/* WebDataset shards as a data set: adjacent members with one key are a sample; of its fields we read the image (jpg,
 * jpeg or png) and cls, the label as ASCII decimal. Other fields are left alone. Every sample must have both, once: a
 * sample that would silently vanish is an error instead. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "data/internal.h"

enum { CLS_MAX = 16 };

typedef struct sample {
    const char *key;
    size_t key_len;
    const rt_member *image, *cls;
    size_t first; /* its members are [first, ...) */
} sample;

static rt_status add_field(sample *s, const char *shard, const char *field, const rt_member *m)
{
    const rt_member **slot = !strcasecmp(field, "jpg") || !strcasecmp(field, "jpeg") || !strcasecmp(field, "png")
                                 ? &s->image
                             : !strcasecmp(field, "cls") ? &s->cls
                                                         : NULL;
    if (!slot) return RT_OK;
    if (*slot)
        return RT_RAISE(RT_ERR_FORMAT, "%s: sample '%.*s' has two %s", shard, (int)s->key_len, s->key,
                        slot == &s->cls ? "labels (cls)" : "images");
    *slot = m;
    return RT_OK;
}

/* No field may appear twice in a sample, known to us or not. Samples have a handful of fields. */
static rt_status check_fields(const rt_member_list *m, const sample *s, size_t end, const char *shard)
{
    for (size_t i = s->first; i < end; i++)
        for (size_t k = s->first; k < i; k++)
            if (!strcasecmp(m->names + m->item[i].name + s->key_len, m->names + m->item[k].name + s->key_len))
                return RT_RAISE(RT_ERR_FORMAT, "%s: sample '%.*s' has the field '%s' twice", shard, (int)s->key_len,
                                s->key, m->names + m->item[i].name + s->key_len + 1);
    return RT_OK;
}

static rt_status read_label(int fd, const char *shard, const sample *s, int32_t *label)
{
    char text[CLS_MAX + 1] = {0};
    size_t n = s->cls->len;
    rt_status st = RT_OK;
    if (n <= CLS_MAX) RT_TRY(rt_fs_pread(fd, shard, text, n, s->cls->off));
    if (n > 0 && n <= CLS_MAX && text[n - 1] == '\n') text[--n] = 0;
    bool digits = n > 0 && n <= 9;
    for (size_t i = 0; digits && i < n; i++) digits = text[i] >= '0' && text[i] <= '9';
    if (!digits) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: sample '%.*s': its cls is not a decimal label of at most 9 digits", shard,
                      (int)s->key_len, s->key);
        goto out;
    }
    *label = (int32_t)strtol(text, NULL, 10);
out:
    return st;
}

static rt_status finish_sample(rt_dataset *d, const rt_member_list *m, const sample *s, size_t end, int32_t file,
                               int fd)
{
    rt_status st = RT_OK;
    const char *shard = d->file[file];
    int32_t label = 0;
    if (!s->key) return RT_OK;
    RT_TRY(check_fields(m, s, end, shard));
    if (!s->image || !s->cls) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: sample '%.*s' has no %s", shard, (int)s->key_len, s->key,
                      s->image ? "label (cls)" : "image (jpg, jpeg, png)");
        goto out;
    }
    if (s->image->len > RT_SAMPLE_MAX_BYTES) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: sample '%.*s': image of %llu bytes, at most %d", shard, (int)s->key_len,
                      s->key, (unsigned long long)s->image->len, RT_SAMPLE_MAX_BYTES);
        goto out;
    }
    RT_TRY(read_label(fd, shard, s, &label));
    RT_TRY(rt_index_add(d, s->key, s->key_len, label, file, s->image->off, s->image->len));
out:
    return st;
}

static rt_status add_shard(rt_dataset *d, const char *path, const char *cache)
{
    rt_status st = RT_OK;
    rt_member_list m = {0};
    sample s = {0};
    int32_t file = 0;
    int fd = -1;
    RT_TRY(rt_tar_members(path, cache, &m));
    RT_TRY(rt_index_add_file(d, path, &file));
    if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0) {
        st = RT_RAISE_ERRNO("%s", path);
        goto out;
    }
    for (size_t i = 0; i < m.n; i++) {
        const char *name = m.names + m.item[i].name, *field = NULL;
        size_t len = 0;
        if (!rt_member_split(name, &len, &field)) {
            RT_TRY(finish_sample(d, &m, &s, i, file, fd));
            s = (sample){0};
            continue;
        }
        if (!s.key || len != s.key_len || memcmp(s.key, name, len)) {
            RT_TRY(finish_sample(d, &m, &s, i, file, fd));
            s = (sample){.key = name, .key_len = len, .first = i};
        }
        RT_TRY(add_field(&s, path, field, &m.item[i]));
    }
    RT_TRY(finish_sample(d, &m, &s, m.n, file, fd));
out:
    if (fd >= 0) close(fd);
    rt_member_list_fini(&m);
    return st;
}

/* "numbered..." where a class list's path is expected, perhaps joined to a folder by whoever resolves paths; NULL for
 * the path of a file. */
static const char *numbered_word(const char *classes)
{
    const char *slash = strrchr(classes, '/'), *last = slash ? slash + 1 : classes;
    return !strncmp(last, "numbered", strlen("numbered")) && !rt_fs_exists(classes) ? last : NULL;
}

/* "numbered" or "numbered:N": classes "0" .. "N-1", N from the largest label when it is not said. */
static rt_status numbered(const char *said, rt_dataset *d)
{
    rt_status st = RT_OK;
    char **name = NULL;
    int64_t n = 0;
    const char *count = said + strlen("numbered");
    for (int64_t i = 0; i < d->n; i++)
        if (d->entry[i].label >= n) n = (int64_t)d->entry[i].label + 1;
    if (*count) {
        char *end = NULL;
        long given = strtol(count + 1, &end, 10);
        if (*count != ':' || end == count + 1 || *end || given < 1)
            return RT_RAISE(RT_ERR_CONFIG, "classes '%s': either a file, numbered, or numbered:N", said);
        n = given;
    }
    if (n < 1 || n > RT_CLASSES_MAX)
        return RT_RAISE(RT_ERR_FORMAT, "%lld numbered classes, at most %d", (long long)n, RT_CLASSES_MAX);
    RT_ALLOC(name, (size_t)n * sizeof *name, "class names");
    for (int64_t i = 0; i < n; i++)
        if (!(name[i] = rt_asprintf("%lld", (long long)i))) {
            st = RT_RAISE(RT_ERR_NOMEM, "no memory for class names");
            goto out;
        }
    RT_TRY(rt_classes_make((const char *const *)name, (int32_t)n, &d->classes));
out:
    if (name)
        for (int64_t i = 0; i < n; i++) rt_free(name[i]);
    rt_free(name);
    return st;
}

rt_status rt_open_wds(const rt_data_source *src, rt_dataset *d)
{
    rt_status st = RT_OK;
    char **shard = NULL;
    size_t n = 0;
    bool have = src->classes && src->classes[0];
    const char *count = have ? numbered_word(src->classes) : NULL;
    if (!have) {
        st = RT_RAISE(RT_ERR_CONFIG, "%s: tar shards hold label numbers only; which classes are they?", src->path);
        return rt_error_fix(st, "name a class list (one name a line, line number = label), or say classes: numbered");
    }
    if (!count) RT_TRY(rt_classes_read(src->classes, &d->classes));
    RT_TRY(rt_expand_pattern(src->path, &shard, &n));
    for (size_t i = 0; i < n; i++) {
        RT_TRYF(add_shard(d, shard[i], src->cache), "shard %zu of %zu", i + 1, n);
        rt_progress_report(
            &(rt_progress){.phase = "index shards", .unit = "shard", .done = (double)(i + 1), .total = (double)n});
    }
    if (count && d->n) RT_TRY(numbered(count, d));
out:
    if (shard) rt_fs_list_free(shard, n);
    return st;
}
