/* rt_set from files (set.c says which). Nothing a file says is believed before it is checked. */
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

enum { INDEX_MAX_BYTES = 1 << 30, PNG_MAX_BYTES = 1 << 28 };

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

/* The 8-bit images of a whitened set, which its tensor cannot give. */
static rt_status read_rgb(const char *dir, rt_set *s)
{
    rt_status st = RT_OK;
    int64_t row = (int64_t)s->h * s->w * 3, index = 0;
    bool plain = rt_set_plain_names(&s->classes);
    char folder[RT_SET_FOLDER], name[RT_SET_FOLDER + 48], path[PATH_MAX];
    void *png = NULL;
    rt_image im = {0};
    size_t n = 0;
    RT_ALLOC(s->rgb, (size_t)(s->n * row), "8-bit images");
    for (int64_t i = 0; i < s->n; i++) {
        if (s->label[i] < 0 || s->label[i] >= s->classes.n) break; /* rt_set_check names it */
        index = i && s->label[i] == s->label[i - 1] ? index + 1 : 0;
        rt_set_folder(&s->classes, s->label[i], plain, folder);
        snprintf(name, sizeof name, "images/%s/%05" PRId64 ".png", folder, index);
        RT_TRY(rt_fs_join(path, sizeof path, dir, name));
        RT_TRY(rt_fs_read(path, PNG_MAX_BYTES, &png, &n));
        RT_TRY(rt_decode(png, n, path, &im, NULL));
        if (im.h != s->h || im.w != s->w) {
            st = RT_RAISE(RT_ERR_FORMAT, "%s is %d x %d pixels, the tensor's images are %d x %d", path, im.h, im.w, s->h, s->w);
            goto out;
        }
        memcpy(s->rgb + i * row, im.px, (size_t)row);
        rt_image_fini(&im);
        rt_free(png);
        png = NULL;
    }
out:
    rt_image_fini(&im);
    rt_free(png);
    return st;
}

/* What a set's metadata says beyond shapes; absent keys keep the defaults of older sets. */
static rt_status read_kind(const rt_st_file *f, const char *path, rt_set *s)
{
    const char *space = rt_st_metadata(f, "space"), *zca = rt_st_metadata(f, "zca"), *factor = rt_st_metadata(f, "factor");
    const char *step = rt_st_metadata(f, "step_size"), *soft = rt_st_metadata(f, "soft_labels");
    int64_t v = 1;
    char *end = NULL;
    size_t n = space ? strcspn(space, ":") : 0;
    s->unit = n == 4 && !strncmp(space, "unit", n);
    bool whitened = n == 3 && !strncmp(space, "zca", n), normalised = !space || (n == 10 && !strncmp(space, "normalised", n));
    if (!normalised && !s->unit && !whitened)
        return RT_RAISE(RT_ERR_FORMAT, "%s: unknown space \"%.40s\"", path, space);
    if (whitened != (zca != NULL) || (zca && strlen(zca) != RT_HASH_HEX - 1))
        return RT_RAISE(RT_ERR_FORMAT, "%s: space \"%.40s\" with zca hash \"%.70s\"", path, space ? space : "", zca ? zca : "");
    if (zca) memcpy(s->zca, zca, RT_HASH_HEX);
    if (factor && (!whole_int(factor, &v) || v < 1 || v > RT_SET_FACTOR_MAX))
        return RT_RAISE(RT_ERR_FORMAT, "%s: factor \"%.40s\" is not a number of tiles a side, 1 to %d", path, factor, RT_SET_FACTOR_MAX);
    s->factor = (int32_t)v;
    s->step_size = NAN;
    if (step) {
        s->step_size = strtof(step, &end);
        if (end == step || *end || !isfinite(s->step_size) || s->step_size <= 0)
            return RT_RAISE(RT_ERR_FORMAT, "%s: step_size \"%.40s\" is not a positive number", path, step);
    }
    s->soft_logits = soft && !strcmp(soft, "logits");
    if (soft && !s->soft_logits && strcmp(soft, "probabilities"))
        return RT_RAISE(RT_ERR_FORMAT, "%s: soft_labels \"%.40s\" are neither probabilities nor logits", path, soft);
    return RT_OK;
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
        x->shape[1] > RT_SET_SIDE_MAX || x->shape[2] > RT_SET_SIDE_MAX) {
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
    RT_TRY(read_kind(f, path, s));
    if (s->zca[0]) RT_TRY(read_rgb(dir, s));
    RT_TRY(rt_set_check(s, path, RT_ERR_FORMAT, RT_ERR_FORMAT));
out:
    rt_st_close(f);
    return st;
}

static rt_status read_record(const char *dir, const json_t *files, rt_set *s)
{
    rt_status st = RT_OK;
    char path[PATH_MAX];
    json_t *notes = NULL;
    void *text = NULL;
    size_t n = 0;
    if (json_object_get(files, "notes.json")) {
        RT_TRY(rt_fs_join(path, sizeof path, dir, "notes.json"));
        RT_TRY(rt_json_read(path, RT_SET_TEXT_MAX, &notes, &s->notes));
        if (!json_is_object(notes)) {
            st = RT_RAISE(RT_ERR_FORMAT, "%s: not a JSON object", path);
            goto out;
        }
    }
    if (json_object_get(files, "trace.csv")) {
        RT_TRY(rt_fs_join(path, sizeof path, dir, "trace.csv"));
        RT_TRY(rt_fs_read(path, RT_SET_TEXT_MAX, &text, &n));
        RT_TRY(rt_set_check_trace(text, n, path, RT_ERR_FORMAT));
        s->trace = text;
        text = NULL;
    }
out:
    json_decref(notes);
    rt_free(text);
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
    RT_TRY(read_record(path, json_object_get(m, "files"), &s));
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
