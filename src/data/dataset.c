/* The common part of every data set: the index, reading a sample, and identity.
 *
 * Identity (rt_dataset_hash) is SHA-256 over
 *     "retort-dataset-1\n" kind "\n" class-hash "\n"  then per sample  key NUL, label (i32 LE), encoded bytes (u64 LE).
 * It holds no path and no pixels: a copy elsewhere is the same data set, and computing it costs milliseconds. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "data/internal.h"

rt_status rt_index_add_file(rt_dataset *d, const char *path, int32_t *file)
{
    if (d->n_files == d->files_cap) {
        size_t old = (size_t)d->files_cap, grown = old ? old * 2 : 64;
        char **paths = rt_realloc(d->file, old * sizeof *paths, grown * sizeof *paths);
        if (paths) d->file = paths;
        int *fds = rt_realloc(d->fd, old * sizeof *fds, grown * sizeof *fds);
        if (fds) d->fd = fds;
        if (!paths || !fds) return RT_RAISE(RT_ERR_NOMEM, "no memory for %zu file names", grown);
        d->files_cap = (int32_t)grown;
    }
    if (!(d->file[d->n_files] = rt_strdup(path))) return RT_RAISE(RT_ERR_NOMEM, "no memory for a file name");
    d->fd[d->n_files] = -1;
    *file = d->n_files++;
    return RT_OK;
}

rt_status rt_index_add(rt_dataset *d, const char *key, size_t key_len, int32_t label, int32_t file, uint64_t off,
                       uint64_t len)
{
    if (d->n == d->cap) {
        size_t old = (size_t)d->cap, grown = old ? old * 2 : 1024;
        rt_entry *bigger = rt_realloc(d->entry, old * sizeof *bigger, grown * sizeof *bigger);
        if (!bigger) return RT_RAISE(RT_ERR_NOMEM, "no memory for an index of %zu samples", grown);
        d->entry = bigger;
        d->cap = (int64_t)grown;
    }
    if (d->keys_cap - d->keys_len < key_len + 1) {
        size_t grown = d->keys_cap * 2 + key_len + 4096;
        char *bigger = rt_realloc(d->keys, d->keys_cap, grown);
        if (!bigger) return RT_RAISE(RT_ERR_NOMEM, "no memory for %zu bytes of keys", grown);
        d->keys = bigger;
        d->keys_cap = grown;
    }
    d->entry[d->n++] = (rt_entry){.off = off, .len = len, .key = d->keys_len, .label = label, .file = file};
    memcpy(d->keys + d->keys_len, key, key_len);
    d->keys[d->keys_len + key_len] = 0;
    d->keys_len += key_len + 1;
    return RT_OK;
}

static rt_status compute_hash(rt_dataset *d)
{
    rt_sha256 *h = NULL;
    rt_status st = rt_sha256_create(&h);
    if (st != RT_OK) return st;
    static const char tag[] = "retort-dataset-1\n";
    rt_sha256_update(h, tag, sizeof tag - 1);
    rt_sha256_update(h, d->kind, strlen(d->kind));
    rt_sha256_update(h, "\n", 1);
    rt_sha256_update(h, d->classes.hash, strlen(d->classes.hash));
    rt_sha256_update(h, "\n", 1);
    for (int64_t i = 0; i < d->n; i++) {
        const rt_entry *e = &d->entry[i];
        uint8_t tail[12];
        for (int b = 0; b < 4; b++) tail[b] = (uint8_t)((uint32_t)e->label >> (8 * b));
        for (int b = 0; b < 8; b++) tail[4 + b] = (uint8_t)(e->len >> (8 * b));
        rt_sha256_update(h, d->keys + e->key, strlen(d->keys + e->key) + 1);
        rt_sha256_update(h, tail, sizeof tail);
    }
    rt_sha256_final(h, d->hash);
    return RT_OK;
}

rt_status rt_dataset_open(const rt_data_source *src, rt_dataset **out)
{
    rt_status st = RT_OK;
    rt_dataset *d = NULL;
    if (!src->kind || !src->path || !src->path[0]) return RT_RAISE(RT_ERR_CONFIG, "data source without kind or path");
    RT_ALLOC(d, sizeof *d, "data set");
    if (!(d->kind = rt_strdup(src->kind))) {
        st = RT_RAISE(RT_ERR_NOMEM, "no memory for a data set");
        goto out;
    }
    if (!strcmp(src->kind, "imagefolder"))
        st = rt_open_imagefolder(src, d);
    else if (!strcmp(src->kind, "wds"))
        st = rt_open_wds(src, d);
    else if (!strcmp(src->kind, "cifar10"))
        st = rt_open_cifar(src, 10, d);
    else if (!strcmp(src->kind, "cifar100"))
        st = rt_open_cifar(src, 100, d);
    else
        st = RT_RAISE(RT_ERR_CONFIG, "data kind '%s' is not one of imagefolder, wds, cifar10, cifar100", src->kind);
    RT_TRYF(st, "open %s data %s", src->kind, src->path);
    if (d->n == 0) {
        st = RT_RAISE(RT_ERR_MISSING, "%s: no samples found", src->path);
        goto out;
    }
    for (int64_t i = 0; i < d->n; i++)
        if (d->entry[i].label < 0 || d->entry[i].label >= d->classes.n) {
            st = RT_RAISE(RT_ERR_FORMAT, "sample '%s': label %d, but the class list has %d classes",
                          d->keys + d->entry[i].key, d->entry[i].label, d->classes.n);
            st = rt_error_fix(st, "give the class list that this data set was labelled with");
            goto out;
        }
    RT_TRY(compute_hash(d));
    *out = d;
    d = NULL;
out:
    rt_dataset_close(d);
    return st;
}

void rt_dataset_close(rt_dataset *d)
{
    if (!d) return;
    for (int32_t i = 0; i < d->n_files; i++) {
        if (d->fd[i] >= 0) close(d->fd[i]);
        rt_free(d->file[i]);
    }
    rt_free(d->file);
    rt_free(d->fd);
    rt_free(d->entry);
    rt_free(d->keys);
    rt_free(d->raw);
    rt_free(d->kind);
    rt_classes_fini(&d->classes);
    rt_free(d);
}

int64_t rt_dataset_count(const rt_dataset *d)
{
    return d->n;
}
const rt_classes *rt_dataset_classes(const rt_dataset *d)
{
    return &d->classes;
}
int32_t rt_dataset_label(const rt_dataset *d, int64_t i)
{
    return d->entry[i].label;
}
const char *rt_dataset_key(const rt_dataset *d, int64_t i)
{
    return d->keys + d->entry[i].key;
}
const char *rt_dataset_hash(const rt_dataset *d)
{
    return d->hash;
}
int32_t rt_dataset_raw_side(const rt_dataset *d)
{
    return d->raw_side;
}

/* A descriptor for the file: a shared one for the first few hundred files, else one for this call alone. */
static rt_status file_fd(const rt_dataset *d, int32_t file, int *fd, bool *mine)
{
    rt_dataset *m = (rt_dataset *)d; /* descriptors are a cache: logically const */
    int have = __atomic_load_n(&m->fd[file], __ATOMIC_ACQUIRE);
    *mine = false;
    if (have >= 0) {
        *fd = have;
        return RT_OK;
    }
    int fresh = open(d->file[file], O_RDONLY | O_CLOEXEC);
    if (fresh < 0) return RT_RAISE_ERRNO("%s", d->file[file]);
    *fd = fresh;
    *mine = true;
    if (d->n_files > 1 && d->raw_side == 0 && !strcmp(d->kind, "imagefolder")) return RT_OK; /* one sample a file */
    if (__atomic_add_fetch(&m->n_open, 1, __ATOMIC_RELAXED) > RT_FILES_KEPT_OPEN) {
        __atomic_sub_fetch(&m->n_open, 1, __ATOMIC_RELAXED);
        return RT_OK;
    }
    int expect = -1;
    if (__atomic_compare_exchange_n(&m->fd[file], &expect, fresh, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        *mine = false;
    else
        __atomic_sub_fetch(&m->n_open, 1, __ATOMIC_RELAXED);
    return RT_OK;
}

rt_status rt_dataset_read(const rt_dataset *d, int64_t i, void **bytes, size_t *n)
{
    rt_status st = RT_OK;
    char *buf = NULL;
    int fd = -1;
    bool mine = false;
    if (i < 0 || i >= d->n) return RT_RAISE(RT_ERR_ARG, "sample %lld of %lld", (long long)i, (long long)d->n);
    const rt_entry *e = &d->entry[i];
    if (!(buf = rt_malloc(e->len ? e->len : 1)))
        return RT_RAISE(RT_ERR_NOMEM, "no memory for sample '%s' (%llu bytes)", rt_dataset_key(d, i),
                        (unsigned long long)e->len);
    if (d->raw) {
        memcpy(buf, d->raw + e->off, e->len);
    } else {
        RT_TRYF(file_fd(d, e->file, &fd, &mine), "sample '%s'", rt_dataset_key(d, i));
        RT_TRYF(rt_fs_pread(fd, d->file[e->file], buf, e->len, e->off), "sample '%s'", rt_dataset_key(d, i));
    }
    *bytes = buf;
    *n = e->len;
    buf = NULL;
out:
    if (mine) close(fd);
    rt_free(buf);
    return st;
}
