/* rt_set on disk: the one type for coresets and distilled sets.
 *
 *   images/<class>/<index>.png   8-bit, lossless; a plain ImageFolder whose sorted folder order is the label order. When the
 *                                class names are not in byte order or not usable as file names, every folder is
 *                                "<label>_<name made safe>" so that the order still holds.
 *   set.safetensors              "images" f32 [n,h,w,3] in normalised space (the exact result), "labels" i64 [n], optional
 *                                "soft_labels" f32 [n,classes]; metadata: method, ipc, mean, std
 *   classes.txt                  one name a line, in label order
 *   index.csv                    selections only: key,label,rank,score; rank counts from 0 within the class
 *
 * Byte accounting: images are their PNG files; labels are the soft ones as stored (float32), else one byte each (two above
 * 256 classes, four above 65,536). Reading believes nothing: shapes, label range and order, finite values, the class hash. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "artefact/artefact.h"
#include "artefact/internal.h"
#include "base/alloc.h"
#include "base/fs.h"

enum { SIDE_MAX = 1 << 16, INDEX_MAX_BYTES = 1 << 30, FOLDER_NAME_MAX = 100 };

void rt_set_fini(rt_set *s)
{
    if (!s) return;
    rt_free(s->px);
    rt_free(s->label);
    rt_free(s->soft);
    for (int64_t i = 0; s->key && i < s->n; i++) rt_free(s->key[i]);
    rt_free(s->key);
    rt_free(s->score);
    rt_classes_fini(&s->classes);
    memset(s, 0, sizeof *s);
}

/* Index of the first value that is not finite, or -1. */
static int64_t first_bad(const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return i;
    return -1;
}

/* st is what a broken value means: NUMERIC when a method made it, FORMAT when a file holds it. */
static rt_status check_values(const rt_set *s, const char *where, rt_status numeric, rt_status broken)
{
    int64_t row = (int64_t)s->h * s->w * 3, bad = first_bad(s->px, s->n * row);
    if (bad >= 0) return RT_RAISE(numeric, "%s: image %" PRId64 " holds a value that is not finite", where, bad / row);
    if (s->soft && (bad = first_bad(s->soft, s->n * s->classes.n)) >= 0)
        return RT_RAISE(numeric, "%s: soft label %" PRId64 " holds a value that is not finite", where, bad / s->classes.n);
    for (int64_t i = 0; i < s->n; i++) {
        if (s->score && !isfinite(s->score[i])) return RT_RAISE(numeric, "%s: score of image %" PRId64 " is not finite", where, i);
        if (s->label[i] < 0 || s->label[i] >= s->classes.n)
            return RT_RAISE(broken, "%s: image %" PRId64 " has label %d of %d classes", where, i, s->label[i], s->classes.n);
        if (i && s->label[i] < s->label[i - 1])
            return RT_RAISE(broken, "%s: image %" PRId64 " of class %d follows class %d: not in class order", where, i, s->label[i],
                            s->label[i - 1]);
    }
    for (int c = 0; c < 3; c++)
        if (!isfinite(s->norm.mean[c]) || !isfinite(s->norm.std[c]) || s->norm.std[c] <= 0)
            return RT_RAISE(broken, "%s: channel %d has mean %g, std %g", where, c, (double)s->norm.mean[c], (double)s->norm.std[c]);
    return RT_OK;
}

/* 8 bits per channel: what the PNG files hold and what views of uint8 images see. */
static void to_stored(const float *x, int64_t n, const rt_normalise *norm, uint8_t *rgb)
{
    for (int64_t k = 0; k < n; k++) {
        float v = floorf((x[k] * norm->std[k % 3] + norm->mean[k % 3]) * 255.0f + 0.5f);
        rgb[k] = (uint8_t)(v < 0.0f ? 0.0f : v > 255.0f ? 255.0f : v);
    }
}

rt_status rt_set_stored(const rt_set *s, rt_images *out)
{
    rt_status st = RT_OK;
    int64_t row = (int64_t)s->h * s->w * 3;
    rt_images im = {.n = s->n, .h = s->h, .w = s->w};
    RT_ALLOC(im.px, (size_t)(s->n * row), "8-bit images");
    RT_ALLOC(im.label, (size_t)s->n * sizeof *im.label, "labels");
    RT_ALLOC(im.key, (size_t)s->n * sizeof *im.key, "keys");
    RT_TRY(rt_classes_copy(&s->classes, &im.classes));
    to_stored(s->px, s->n * row, &s->norm, im.px);
    memcpy(im.label, s->label, (size_t)s->n * sizeof *im.label);
    for (int64_t i = 0; i < s->n; i++)
        if (!(im.key[i] = s->key ? rt_strdup(s->key[i]) : rt_asprintf("%s-%" PRId64, s->method, i))) {
            st = RT_RAISE(RT_ERR_NOMEM, "keys");
            goto out;
        }
    *out = im;
    memset(&im, 0, sizeof im);
out:
    rt_images_fini(&im);
    return st;
}

/* --- writing --------------------------------------------------------------------------------------------------------- */

static bool names_serve_as_folders(const rt_classes *c)
{
    for (int32_t i = 0; i < c->n; i++) {
        const char *s = c->name[i];
        if (s[0] == '.' || strchr(s, '/') || strlen(s) > FOLDER_NAME_MAX) return false;
        if (i && strcmp(c->name[i - 1], s) >= 0) return false;
    }
    return true;
}

static void folder_name(const rt_classes *c, int32_t label, bool plain, char out[FOLDER_NAME_MAX + 16])
{
    int digits = snprintf(NULL, 0, "%d", c->n - 1);
    if (plain) {
        snprintf(out, FOLDER_NAME_MAX + 16, "%s", c->name[label]);
        return;
    }
    int n = snprintf(out, FOLDER_NAME_MAX + 16, "%0*d_%.*s", digits, label, FOLDER_NAME_MAX, c->name[label]);
    for (int i = 0; i < n && out[i]; i++) {
        char ch = out[i];
        bool safe = (ch >= '0' && ch <= '9') || (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || ch == '-' || ch == '_' || ch == '.';
        if (!safe) out[i] = '_';
    }
}

static rt_status write_images(const rt_set *s, rt_commit *c, int64_t *bytes)
{
    rt_status st = RT_OK;
    int64_t row = (int64_t)s->h * s->w * 3, sum = 0, index = 0;
    bool plain = names_serve_as_folders(&s->classes);
    char folder[FOLDER_NAME_MAX + 16], name[FOLDER_NAME_MAX + 64];
    uint8_t *rgb = NULL;
    void *png = NULL;
    size_t n_png = 0;

    RT_ALLOC(rgb, (size_t)row, "one image");
    for (int64_t i = 0; i < s->n; i++) {
        const float *x = s->px + i * row;
        index = i && s->label[i] == s->label[i - 1] ? index + 1 : 0;
        to_stored(x, row, &s->norm, rgb);
        rt_free(png);
        png = NULL;
        RT_TRYF(rt_png_encode(rgb, s->h, s->w, &png, &n_png), "image %" PRId64, i);
        folder_name(&s->classes, s->label[i], plain, folder);
        snprintf(name, sizeof name, "images/%s/%05" PRId64 ".png", folder, index);
        RT_TRY(rt_commit_file(c, name, png, n_png));
        sum += (int64_t)n_png;
    }
    *bytes = sum;
out:
    rt_free(rgb);
    rt_free(png);
    return st;
}

static rt_status write_tensors(const rt_set *s, rt_commit *c)
{
    rt_status st = RT_OK;
    char path[PATH_MAX], ipc[16], mean[64], std[64];
    int64_t *label = NULL, row = (int64_t)s->h * s->w * 3;

    RT_ALLOC(label, (size_t)(s->n + 1) * sizeof *label, "labels");
    for (int64_t i = 0; i < s->n; i++) label[i] = s->label[i];
    snprintf(ipc, sizeof ipc, "%d", s->ipc);
    snprintf(mean, sizeof mean, "%.9g %.9g %.9g", (double)s->norm.mean[0], (double)s->norm.mean[1], (double)s->norm.mean[2]);
    snprintf(std, sizeof std, "%.9g %.9g %.9g", (double)s->norm.std[0], (double)s->norm.std[1], (double)s->norm.std[2]);
    rt_st_tensor t[3] = {
        {"images", RT_ST_F32, 4, {s->n, s->h, s->w, 3}, s->px, (uint64_t)(s->n * row) * 4},
        {"labels", RT_ST_I64, 1, {s->n}, label, (uint64_t)s->n * 8},
        {"soft_labels", RT_ST_F32, 2, {s->n, s->classes.n}, s->soft, (uint64_t)s->n * (uint64_t)s->classes.n * 4},
    };
    const char *const meta[] = {"method", s->method, "ipc", ipc, "mean", mean, "std", std, "space", "normalised: (p/255 - mean)/std"};
    RT_TRY(rt_fs_join(path, sizeof path, rt_commit_dir(c), "set.safetensors"));
    RT_TRY(rt_st_write(path, t, s->soft ? 3 : 2, meta, 5));
out:
    rt_free(label);
    return st;
}

static void put_field(FILE *f, const char *s)
{
    if (!strpbrk(s, ",\"\r\n")) {
        fputs(s, f);
        return;
    }
    putc('"', f);
    for (; *s; s++) {
        if (*s == '"') putc('"', f);
        putc(*s, f);
    }
    putc('"', f);
}

/* Both small text files, made in memory. */
static rt_status write_texts(const rt_set *s, rt_commit *c)
{
    rt_status st = RT_OK;
    char *text = NULL;
    size_t n = 0;
    int64_t rank = 0;
    FILE *f = open_memstream(&text, &n);

    if (!f) return RT_RAISE(RT_ERR_NOMEM, "no memory for classes.txt");
    for (int32_t i = 0; i < s->classes.n; i++) fprintf(f, "%s\n", s->classes.name[i]);
    if (ferror(f) | fclose(f)) {
        st = RT_RAISE(RT_ERR_NOMEM, "no memory for classes.txt");
        goto out;
    }
    RT_TRY(rt_commit_file(c, "classes.txt", text, n));
    if (!s->key) goto out;
    free(text); /* of open_memstream, not of rt_malloc */
    text = NULL;
    if (!(f = open_memstream(&text, &n))) {
        st = RT_RAISE(RT_ERR_NOMEM, "no memory for index.csv");
        goto out;
    }
    fputs("key,label,rank,score\n", f);
    for (int64_t i = 0; i < s->n; i++) {
        rank = i && s->label[i] == s->label[i - 1] ? rank + 1 : 0;
        put_field(f, s->key[i]);
        fprintf(f, ",%d,%" PRId64 ",", s->label[i], rank);
        if (s->score) fprintf(f, "%.17g", s->score[i]);
        putc('\n', f);
    }
    if (ferror(f) | fclose(f)) {
        st = RT_RAISE(RT_ERR_NOMEM, "no memory for index.csv");
        goto out;
    }
    RT_TRY(rt_commit_file(c, "index.csv", text, n));
out:
    free(text);
    return st;
}

rt_status rt_set_write(const rt_set *s, rt_commit *c, int64_t *image_bytes, int64_t *label_bytes)
{
    rt_status st = RT_OK;
    int64_t bytes = 0;
    if (s->n < 1 || s->h < 1 || s->w < 1 || s->h > SIDE_MAX || s->w > SIDE_MAX || s->classes.n < 1 || !s->px || !s->label ||
        (s->score && !s->key))
        return RT_RAISE(RT_ERR_ARG, "set of %" PRId64 " images of %d x %d in %d classes", s->n, s->h, s->w, s->classes.n);
    RT_TRY(check_values(s, s->method[0] ? s->method : "set", RT_ERR_NUMERIC, RT_ERR_ARG));
    RT_TRYF(write_images(s, c, &bytes), "write set");
    RT_TRYF(write_tensors(s, c), "write set");
    RT_TRYF(write_texts(s, c), "write set");
    int64_t hard = s->classes.n <= 256 ? 1 : s->classes.n <= 65536 ? 2 : 4;
    *image_bytes = bytes;
    *label_bytes = s->n * (s->soft ? 4 * (int64_t)s->classes.n : hard);
out:
    return st;
}

/* --- reading --------------------------------------------------------------------------------------------------------- */

/* Cuts the next field off *p in place, undoing quotes. *end gets the delimiter: ',', '\n' or 0. NULL when malformed. */
static char *next_field(char **p, char *end)
{
    char *out = *p, *w = *p, *r = *p;
    if (*r == '"') {
        for (r++;; r++) {
            if (!*r) return NULL;
            if (*r == '"' && *++r != '"') break;
            *w++ = *r;
        }
    } else
        while (*r && *r != ',' && *r != '\n') {
            if (*r == '"') return NULL;
            *w++ = *r++;
        }
    if (*r && *r != ',' && *r != '\n') return NULL;
    *end = *r;
    *p = *r ? r + 1 : r;
    *w = 0;
    return out;
}

static bool whole_int(const char *s, int64_t *out)
{
    char *end;
    errno = 0;
    long long v = strtoll(s, &end, 10);
    if (errno || end == s || *end || (*s != '-' && (*s < '0' || *s > '9'))) return false;
    *out = v;
    return true;
}

static rt_status read_index(const char *dir, rt_set *s)
{
    rt_status st = RT_OK;
    static const char head[] = "key,label,rank,score\n";
    char path[PATH_MAX];
    void *text = NULL;
    size_t n = 0;
    int64_t rank = 0, scored = 0;

    RT_TRY(rt_fs_join(path, sizeof path, dir, "index.csv"));
    RT_TRY(rt_fs_read(path, INDEX_MAX_BYTES, &text, &n));
    if (n < sizeof head - 1 || memcmp(text, head, sizeof head - 1) || memchr(text, 0, n)) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: does not begin with \"key,label,rank,score\"", path);
        goto out;
    }
    RT_ALLOC(s->key, (size_t)s->n * sizeof *s->key, "keys");
    RT_ALLOC(s->score, (size_t)s->n * sizeof *s->score, "scores");
    char *p = (char *)text + sizeof head - 1;
    for (int64_t i = 0; i < s->n; i++) {
        char *f[4] = {0}, end = ',', *stop;
        int64_t label = -1, r = -1;
        for (int k = 0; k < 4 && (k == 0 || end == ','); k++) f[k] = next_field(&p, &end);
        rank = i && s->label[i] == s->label[i - 1] ? rank + 1 : 0;
        if (!f[0] || !f[1] || !f[2] || !f[3] || end != '\n' || !f[0][0] || !whole_int(f[1], &label) || !whole_int(f[2], &r) ||
            label != s->label[i] || r != rank) {
            st = RT_RAISE(RT_ERR_FORMAT, "%s:%" PRId64 ": expected key,%d,%" PRId64 ",score", path, i + 2, s->label[i], rank);
            goto out;
        }
        if (f[3][0]) {
            s->score[i] = strtod(f[3], &stop);
            if (*stop || !isfinite(s->score[i])) {
                st = RT_RAISE(RT_ERR_FORMAT, "%s:%" PRId64 ": score \"%s\" is not a number", path, i + 2, f[3]);
                goto out;
            }
            scored++;
        }
        if (!(s->key[i] = rt_strdup(f[0]))) {
            st = RT_RAISE(RT_ERR_NOMEM, "no memory for keys");
            goto out;
        }
    }
    if (*p || (scored && scored != s->n)) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: %s", path, *p ? "more rows than images" : "some rows have no score");
        goto out;
    }
    if (!scored) {
        rt_free(s->score);
        s->score = NULL;
    }
out:
    rt_free(text);
    return st;
}

static rt_status read_tensors(const char *dir, rt_set *s)
{
    rt_status st = RT_OK;
    char path[PATH_MAX];
    rt_st_file *f = NULL;
    RT_TRY(rt_fs_join(path, sizeof path, dir, "set.safetensors"));
    RT_TRY(rt_st_open(path, &f));
    const rt_st_tensor *x = rt_st_find(f, "images"), *y = rt_st_find(f, "labels"), *soft = rt_st_find(f, "soft_labels");
    const char *mean = rt_st_metadata(f, "mean"), *std = rt_st_metadata(f, "std"), *ipc = rt_st_metadata(f, "ipc");
    const char *method = rt_st_metadata(f, "method");
    float *m = s->norm.mean, *d = s->norm.std;
    int64_t per_class = -1;
    char extra;

    if (!x || x->dtype != RT_ST_F32 || x->rank != 4 || x->shape[3] != 3 || x->shape[0] < 1 || x->shape[1] < 1 || x->shape[2] < 1 ||
        x->shape[1] > SIDE_MAX || x->shape[2] > SIDE_MAX) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: \"images\" must be f32 [n,h,w,3]", path);
        goto out;
    }
    if (!y || y->dtype != RT_ST_I64 || y->rank != 1 || y->shape[0] != x->shape[0]) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: \"labels\" must be i64 [n]", path);
        goto out;
    }
    if (soft && (soft->dtype != RT_ST_F32 || soft->rank != 2 || soft->shape[0] != x->shape[0] || soft->shape[1] != s->classes.n)) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: \"soft_labels\" must be f32 [n,%d]", path, s->classes.n);
        goto out;
    }
    if (!mean || !std || !ipc || !method || sscanf(mean, "%f %f %f%c", m, m + 1, m + 2, &extra) != 3 ||
        sscanf(std, "%f %f %f%c", d, d + 1, d + 2, &extra) != 3 || !whole_int(ipc, &per_class) || per_class < 0 ||
        per_class > INT32_MAX || strlen(method) >= sizeof s->method) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: metadata must hold method, ipc, mean and std", path);
        goto out;
    }
    s->n = x->shape[0];
    s->h = (int32_t)x->shape[1];
    s->w = (int32_t)x->shape[2];
    s->ipc = (int32_t)per_class;
    snprintf(s->method, sizeof s->method, "%s", method);
    RT_ALLOC(s->px, (size_t)x->bytes, "set images");
    memcpy(s->px, x->data, (size_t)x->bytes);
    RT_ALLOC(s->label, (size_t)s->n * sizeof *s->label, "set labels");
    for (int64_t i = 0; i < s->n; i++) {
        int64_t v;
        memcpy(&v, (const char *)y->data + i * 8, 8);
        s->label[i] = v < 0 || v > INT32_MAX ? -1 : (int32_t)v;
    }
    if (soft) {
        RT_ALLOC(s->soft, (size_t)soft->bytes, "soft labels");
        memcpy(s->soft, soft->data, (size_t)soft->bytes);
    }
    RT_TRY(check_values(s, path, RT_ERR_FORMAT, RT_ERR_FORMAT));
out:
    rt_st_close(f);
    return st;
}

rt_status rt_set_read(const char *path, bool deep, rt_set *out, json_t **manifest)
{
    rt_status st = RT_OK;
    rt_set s = {0};
    json_t *m = NULL;
    char file[PATH_MAX];

    RT_TRY(rt_artefact_open(path, "set", deep, &m));
    RT_TRY(rt_fs_join(file, sizeof file, path, "classes.txt"));
    RT_TRY(rt_classes_read(file, &s.classes));
    const char *want = json_string_value(json_object_get(m, "classes_hash"));
    if (want && strcmp(want, s.classes.hash)) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: hash of the class list is %.12s..., the manifest says %.12s...", file, s.classes.hash, want);
        goto out;
    }
    RT_TRY(read_tensors(path, &s));
    if (json_object_get(json_object_get(m, "files"), "index.csv")) RT_TRY(read_index(path, &s));
    *out = s;
    memset(&s, 0, sizeof s);
    if (manifest) {
        *manifest = m;
        m = NULL;
    }
out:
    if (st != RT_OK) rt_error_frame(st, __FILE__, __LINE__, "read set %s", path);
    rt_set_fini(&s);
    json_decref(m);
    return st;
}
