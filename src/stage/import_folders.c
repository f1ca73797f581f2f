/* Image folders of published sets. Layouts, read in the code that writes them: SRe2L, CDA, DELT and CV-DD save
 * new<class 000..>/class<c>_id<i>.jpg, RDED <class 00000..>/class<c>_id<i>.jpg, both numbered by the sorted class folders of
 * their training data; Minimax, D4M and D3HR save one folder per class name or WordNet id.
 *
 * What a folder stands for is decided once for all of them: by a map file; else by name, when every folder is a class; else by
 * number, when the folders are 0 .. C-1 behind one common prefix of letters. Anything else is an error: nothing is guessed. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "stage/import.h"

enum { MAP_MAX_BYTES = 1 << 26 };

void rt_foreign_fini(rt_foreign *f)
{
    rt_free(f->px);
    rt_free(f->label);
    rt_free(f->soft);
    for (int64_t i = 0; f->key && i < f->n; i++) rt_free(f->key[i]);
    rt_free(f->key);
    memset(f, 0, sizeof *f);
}

static int32_t class_named(const rt_classes *c, const char *name, size_t len)
{
    for (int32_t k = 0; k < c->n; k++)
        if (strlen(c->name[k]) == len && !strncmp(c->name[k], name, len)) return k;
    return -1;
}

/* The number behind a prefix of letters, and the length of that prefix; false when there is none. */
static bool numbered(const char *name, size_t *prefix, int64_t *number)
{
    size_t p = 0;
    while (isalpha((unsigned char)name[p])) p++;
    if (!isdigit((unsigned char)name[p])) return false;
    char *end;
    *number = strtoll(name + p, &end, 10);
    *prefix = p;
    return !*end && strlen(name + p) < 10;
}

static rt_status by_map(const rt_classes *folder, const rt_classes *c, const char *path, int32_t *label)
{
    rt_status st = RT_OK;
    void *text = NULL;
    size_t n = 0;
    RT_TRY(rt_fs_read(path, MAP_MAX_BYTES, &text, &n)); /* NUL-terminated */
    for (int32_t i = 0; i < folder->n; i++) label[i] = -1;
    int64_t line = 0;
    for (char *p = text; p && *p;) {
        size_t len = strcspn(p, "\n"), first = strcspn(p, " \t\n");
        line++;
        char *rest = p + first;
        while (rest < p + len && (*rest == ' ' || *rest == '\t')) rest++;
        size_t rest_len = (size_t)(p + len - rest);
        while (rest_len && isspace((unsigned char)rest[rest_len - 1])) rest_len--;
        if (len && rest_len == 0) {
            st = RT_RAISE(RT_ERR_FORMAT, "%s:%lld: no class behind the folder", path, (long long)line);
            goto out;
        }
        const int32_t k = len ? class_named(c, rest, rest_len) : -1, f = len ? class_named(folder, p, first) : -1;
        if (len && k < 0) {
            st = RT_RAISE(RT_ERR_FORMAT, "%s:%lld: '%.*s' is not a class of this run", path, (long long)line, (int)(rest_len > 60 ? 60 : rest_len), rest);
            goto out;
        }
        if (f >= 0) label[f] = k; /* folders that are not there: a map may be larger than the set */
        p += len + (p[len] == '\n');
    }
    for (int32_t i = 0; i < folder->n; i++)
        if (label[i] < 0) {
            st = RT_RAISE(RT_ERR_FORMAT, "%s says nothing about the folder '%s'", path, folder->name[i]);
            goto out;
        }
out:
    rt_free(text);
    return st == RT_OK ? st : rt_error_fix(st, "a map has lines `folder class`, with the names of the run's class list");
}

/* label[i]: class of folder i. */
static rt_status which_class(const rt_classes *folder, const rt_classes *c, const char *root, const char *map, int32_t *label,
                             char order[160])
{
    rt_status st = RT_OK;
    int32_t names = 0, unknown = -1;
    size_t prefix = 0, p;
    int64_t number = 0;
    bool numbers = folder->n == c->n && numbered(folder->name[0], &prefix, &number);
    if (map) {
        RT_TRY(by_map(folder, c, map, label));
        snprintf(order, 160, "class order: by the map file");
        return RT_OK;
    }
    for (int32_t i = 0; i < folder->n; i++) {
        label[i] = class_named(c, folder->name[i], strlen(folder->name[i]));
        names += label[i] >= 0;
        if (label[i] < 0 && unknown < 0) unknown = i;
        numbers = numbers && numbered(folder->name[i], &p, &number) && p == prefix && number < c->n &&
                  !strncmp(folder->name[i], folder->name[0], p);
    }
    if (names == folder->n) {
        snprintf(order, 160, "class order: folders carry the names of the classes");
        return RT_OK;
    }
    if (numbers && names == 0) {
        for (int32_t i = 0; i < folder->n; i++) { /* C distinct names of numbers below C behind one prefix; 1 and 01 are the same number */
            numbered(folder->name[i], &p, &number);
            label[i] = (int32_t)number;
            for (int32_t k = 0; k < i; k++)
                if (label[k] == label[i]) {
                    st = RT_RAISE(RT_ERR_FORMAT, "%s: folders '%s' and '%s' are the same number", root, folder->name[k], folder->name[i]);
                    goto out;
                }
        }
        snprintf(order, 160, "class order: folder numbers index the class list, which nothing in the set confirms");
        return RT_OK;
    }
    if (names) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: folder '%s' is not a class of this run, %d other folders are", root, folder->name[unknown], names);
        rt_error_fix(st, "is this a set for other classes? if not, give --map FILE with lines `folder class`");
    } else {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: %d folders ('%s', ...) are neither the %d classes of this run nor numbers 0 to %d", root,
                      folder->n, folder->name[0], c->n, c->n - 1);
        rt_error_fix(st, "give --map FILE with lines `folder class`, or the config of the data set that this set was made from");
    }
out:
    return st;
}

static rt_status read_one(const rt_dataset *d, int64_t i, int32_t size, rt_foreign *f, uint8_t *rgb)
{
    rt_status st = RT_OK;
    void *bytes = NULL;
    size_t n = 0;
    rt_image im = {0};
    RT_TRY(rt_dataset_read(d, i, &bytes, &n));
    RT_TRY(rt_decode(bytes, n, rt_dataset_key(d, i), &im, NULL));
    f->stored_bytes += (double)n;
    if (im.h == size && im.w == size) {
        memcpy(rgb, im.px, (size_t)size * (size_t)size * 3);
    } else {
        f->resized++;
        RT_TRY(rt_preset_apply(&(rt_preset){.size = size, .resize = size, .filter = RT_BILINEAR}, &im, rgb));
    }
out:
    rt_image_fini(&im);
    rt_free(bytes);
    return st;
}

rt_status rt_foreign_folders(rt_run *r, const char *folder, const char *map, rt_foreign *out)
{
    rt_status st = RT_OK;
    rt_foreign f = {0};
    rt_dataset *d = NULL;
    int32_t *label = NULL;
    uint8_t *rgb = NULL;
    const int32_t size = (int32_t)r->c->data.size;
    const size_t px = (size_t)size * (size_t)size * 3;
    RT_TRY(rt_dataset_open(&(rt_data_source){.kind = "imagefolder", .path = folder}, &d));
    const rt_classes *folders = rt_dataset_classes(d);
    RT_ALLOC(label, (size_t)folders->n * sizeof *label, "classes of folders");
    RT_TRY(which_class(folders, rt_dataset_classes(r->train_set), folder, map, label, f.order));
    f.n = rt_dataset_count(d);
    f.h = f.w = size;
    RT_ALLOC(f.px, (size_t)f.n * px * sizeof *f.px, "images of the set");
    RT_ALLOC(f.label, (size_t)f.n * sizeof *f.label, "labels of the set");
    RT_ALLOC(f.key, (size_t)f.n * sizeof *f.key, "names of the images");
    RT_ALLOC(rgb, px, "one image");
    for (int64_t i = 0; i < f.n; i++) {
        RT_TRY(read_one(d, i, size, &f, rgb));
        for (size_t k = 0; k < px; k++)
            f.px[(size_t)i * px + k] = ((float)rgb[k] / 255.0f - r->norm.mean[k % 3]) / r->norm.std[k % 3];
        f.label[i] = label[rt_dataset_label(d, i)];
        if (!(f.key[i] = rt_strdup(rt_dataset_key(d, i)))) {
            st = RT_RAISE(RT_ERR_NOMEM, "names of the images");
            goto out;
        }
        rt_progress_report(&(rt_progress){.phase = "import", .unit = "img", .done = (double)(i + 1), .total = (double)f.n});
        if (rt_stop_requested()) {
            st = RT_RAISE(RT_ERR_CANCELLED, "stopped after %lld of %lld images", (long long)i, (long long)f.n);
            goto out;
        }
    }
    *out = f;
    memset(&f, 0, sizeof f);
out:
    rt_foreign_fini(&f);
    rt_dataset_close(d);
    rt_free(label);
    rt_free(rgb);
    return st;
}
