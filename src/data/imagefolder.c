/* ImageFolder by torchvision's rule: a class is a folder directly under the root, in byte order of the names; its files
 * are found by a recursive walk in byte order; a file counts when its extension, in any case, is one of the list below.
 * The key is the path below the root. Symbolic links are followed, as torchvision does; the depth is bounded so that a
 * loop ends.
 *
 * A class list may give another order; it must name exactly the folders that are there, or with listed_only some of them. */
#include <limits.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "data/internal.h"

enum { MAX_DEPTH = 32 };

static bool is_image_name(const char *name)
{
    static const char *const ext[] = {"jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof ext / sizeof *ext; i++)
        if (!strcasecmp(dot + 1, ext[i])) return true;
    return false;
}

static rt_status walk(rt_dataset *d, const char *root, const char *rel, int32_t label, int depth)
{
    rt_status st = RT_OK;
    char **names = NULL, path[PATH_MAX], child[PATH_MAX];
    size_t n = 0;
    struct stat sb;
    if (depth > MAX_DEPTH)
        return RT_RAISE(RT_ERR_FORMAT, "%s/%s: folders nested more than %d deep", root, rel, MAX_DEPTH);
    RT_TRY(rt_fs_join(path, sizeof path, root, rel));
    RT_TRY(rt_fs_list(path, &names, &n));
    for (size_t i = 0; i < n; i++) {
        RT_TRY(rt_fs_join(child, sizeof child, rel, names[i]));
        RT_TRY(rt_fs_join(path, sizeof path, root, child));
        if (stat(path, &sb)) {
            st = RT_RAISE_ERRNO("%s", path);
            goto out;
        }
        if (S_ISDIR(sb.st_mode)) {
            RT_TRY(walk(d, root, child, label, depth + 1));
            continue;
        }
        if (!S_ISREG(sb.st_mode) || !is_image_name(names[i])) continue;
        if (sb.st_size > RT_SAMPLE_MAX_BYTES) {
            st =
                RT_RAISE(RT_ERR_FORMAT, "%s: %lld bytes, at most %d", path, (long long)sb.st_size, RT_SAMPLE_MAX_BYTES);
            goto out;
        }
        int32_t file = 0;
        RT_TRY(rt_index_add_file(d, path, &file));
        RT_TRY(rt_index_add(d, child, strlen(child), label, file, 0, (uint64_t)sb.st_size));
    }
out:
    if (names) rt_fs_list_free(names, n);
    return st;
}

/* The folders and the list must be the same names; says which one differs first in sorted order. */
static rt_status match_folders(const char *root, char *const *folder, int32_t n, const rt_classes *c, const char *list,
                               bool listed_only, int32_t *label)
{
    rt_status st = RT_OK;
    for (int32_t i = 0; i < n; i++) {
        label[i] = -1;
        for (int32_t k = 0; k < c->n && label[i] < 0; k++)
            if (!strcmp(folder[i], c->name[k])) label[i] = k;
        if (label[i] < 0 && !listed_only) {
            st = RT_RAISE(RT_ERR_FORMAT, "%s: folder '%s' is not in the class list %s", root, folder[i], list);
            goto out;
        }
    }
    for (int32_t k = 0; k < c->n; k++) {
        bool found = false;
        for (int32_t i = 0; i < n && !found; i++) found = label[i] == k;
        if (!found) {
            st = RT_RAISE(RT_ERR_FORMAT, "%s: class %d, '%s', of %s has no folder", root, k, c->name[k], list);
            goto out;
        }
    }
out:
    return st == RT_OK ? st : rt_error_fix(st, "give the class list of this data set, or none to use the folder names");
}

rt_status rt_open_imagefolder(const rt_data_source *src, rt_dataset *d)
{
    rt_status st = RT_OK;
    char **names = NULL, path[PATH_MAX];
    size_t n_names = 0;
    int32_t n = 0, *label = NULL;
    if (!rt_fs_is_dir(src->path)) {
        st = RT_RAISE(rt_fs_exists(src->path) ? RT_ERR_FORMAT : RT_ERR_MISSING, "%s: no such folder", src->path);
        return rt_error_fix(st, "an image folder holds one folder per class");
    }
    RT_TRY(rt_fs_list(src->path, &names, &n_names));
    for (size_t i = 0; i < n_names; i++) { /* folders to the front, in order */
        RT_TRY(rt_fs_join(path, sizeof path, src->path, names[i]));
        if (!rt_fs_is_dir(path)) continue;
        char *folder = names[i];
        names[i] = names[n];
        names[n++] = folder;
    }
    if (n == 0) {
        st = RT_RAISE(RT_ERR_MISSING, "%s: holds no class folders", src->path);
        st = rt_error_fix(st, "an image folder holds one folder per class");
        goto out;
    }
    RT_ALLOC(label, (size_t)n * sizeof *label, "folder labels");
    if (src->classes && src->classes[0]) {
        RT_TRY(rt_classes_read(src->classes, &d->classes));
        RT_TRY(match_folders(src->path, names, n, &d->classes, src->classes, src->listed_only, label));
    } else {
        RT_TRY(rt_classes_make((const char *const *)names, n, &d->classes));
        for (int32_t i = 0; i < n; i++) label[i] = i;
    }
    for (int32_t i = 0; i < n; i++) {
        int64_t before = d->n;
        if (label[i] < 0) continue; /* not one of the classes asked for */
        RT_TRY(walk(d, src->path, names[i], label[i], 0));
        if (d->n == before) {
            st = RT_RAISE(RT_ERR_FORMAT, "%s/%s: class folder without a single image", src->path, names[i]);
            goto out;
        }
        rt_progress_report(&(rt_progress){.phase = "index folders", .unit = "class", .done = i + 1, .total = n});
    }
out:
    rt_free(label);
    if (names) rt_fs_list_free(names, n_names);
    return st;
}
