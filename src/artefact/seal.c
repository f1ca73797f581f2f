/* Sealing a folder before its manifest is written: fsync and SHA-256 of everything below it.
 *
 * Others may have written the files, so each is fsync'd here whatever they did. fsync waits for the disk, not for a core, and
 * a journalling file system lets waiting fsyncs share one journal write: 500 small files took 1.3 s one after the other and
 * 0.03 s in 16 threads (ext4). The order among them is free, since nothing is visible before the manifest. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "artefact/internal.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/hash.h"

enum { THREADS = 16 };

typedef struct row {
    char *name; /* below root; "" is root itself */
    bool folder;
    uint64_t size;
    char hex[RT_HASH_HEX];
} row;

typedef struct seal {
    const char *root;
    row *row;
    size_t n, cap;
    _Atomic size_t next;
    pthread_mutex_t lock; /* guards what follows */
    rt_status st;
    rt_error_chain chain;
} seal;

static rt_status add(seal *s, const char *name, bool folder)
{
    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 64;
        row *bigger = rt_realloc(s->row, s->n * sizeof *bigger, cap * sizeof *bigger);
        if (!bigger) return RT_RAISE(RT_ERR_NOMEM, "no memory for the file list of %s", s->root);
        s->row = bigger;
        s->cap = cap;
    }
    char *copy = rt_strdup(name);
    if (!copy) return RT_RAISE(RT_ERR_NOMEM, "no memory for the file list of %s", s->root);
    s->row[s->n++] = (row){.name = copy, .folder = folder};
    return RT_OK;
}

static rt_status list(seal *s, const char *below)
{
    rt_status st = RT_OK;
    char dir[PATH_MAX], name[PATH_MAX], path[PATH_MAX];
    char **names = NULL;
    size_t n = 0;
    struct stat sb;

    RT_TRY(add(s, below, true));
    RT_TRY(rt_fs_join(dir, sizeof dir, s->root, below));
    RT_TRY(rt_fs_list(dir, &names, &n));
    for (size_t i = 0; i < n; i++) {
        RT_TRY(rt_fs_join(name, sizeof name, below, names[i]));
        RT_TRY(rt_fs_join(path, sizeof path, s->root, name));
        if (!strcmp(name, RT_RUN_NAME) || !strcmp(name, RT_MANIFEST_NAME)) {
            st = RT_RAISE(RT_ERR_ARG, "%s: the commit writes this file itself", path);
            goto out;
        }
        if (lstat(path, &sb)) {
            st = RT_RAISE_ERRNO("%s", path);
            goto out;
        }
        if (S_ISDIR(sb.st_mode)) RT_TRY(list(s, name));
        else if (S_ISREG(sb.st_mode)) RT_TRY(add(s, name, false));
        else {
            st = RT_RAISE(RT_ERR_ARG, "%s: neither a file nor a folder", path);
            goto out;
        }
    }
out:
    rt_fs_list_free(names, n);
    return st;
}

static rt_status seal_row(const seal *s, row *r)
{
    rt_status st = RT_OK;
    char path[PATH_MAX];
    int fd = -1;
    RT_TRY(rt_fs_join(path, sizeof path, s->root, r->name));
    if (r->folder) return rt_fs_fsync_dir(path);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fsync(fd)) {
        st = RT_RAISE_ERRNO("%s: fsync", path);
        goto out;
    }
    RT_TRY(rt_hash_file(path, r->hex, &r->size));
out:
    if (fd >= 0) close(fd);
    return st;
}

static void *work(void *arg)
{
    seal *s = arg;
    for (size_t i; (i = atomic_fetch_add(&s->next, 1)) < s->n;) {
        rt_status st = seal_row(s, &s->row[i]);
        if (st == RT_OK) continue;
        pthread_mutex_lock(&s->lock);
        if (s->st == RT_OK) {
            s->st = st;
            rt_error_save(&s->chain);
        }
        pthread_mutex_unlock(&s->lock);
        atomic_store(&s->next, s->n); /* the others stop too */
    }
    return NULL;
}

rt_status rt_artefact_seal(const char *root, json_t *files)
{
    rt_status st = RT_OK;
    seal s = {.root = root, .lock = PTHREAD_MUTEX_INITIALIZER};
    pthread_t thread[THREADS];
    int n_threads = 0;

    RT_TRY(list(&s, ""));
    /* The caller works too; a thread that cannot be had only makes it slower. */
    while (n_threads < THREADS - 1 && (size_t)n_threads + 1 < s.n && !pthread_create(&thread[n_threads], NULL, work, &s)) n_threads++;
    work(&s);
    for (int i = 0; i < n_threads; i++) pthread_join(thread[i], NULL);
    if (s.st != RT_OK) {
        st = rt_error_restore(&s.chain);
        goto out;
    }
    for (size_t i = 0; i < s.n; i++) {
        const row *r = &s.row[i];
        if (r->folder) continue;
        json_t *v = json_pack("{s:I, s:s}", "bytes", (json_int_t)r->size, "sha256", r->hex);
        if (!v || json_object_set_new(files, r->name, v)) {
            st = RT_RAISE(RT_ERR_ARG, "%s/%s: name is not UTF-8 (or no memory)", root, r->name);
            goto out;
        }
    }
out:
    for (size_t i = 0; i < s.n; i++) rt_free(s.row[i].name);
    rt_free(s.row);
    return st;
}
