/* rt_set to files (set.c says which). Everything is written below an open commit; the manifest is the caller's. */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "artefact/artefact.h"
#include "artefact/internal.h"
#include "base/alloc.h"
#include "base/fs.h"

enum { FOLDER_NAME_MAX = RT_SET_FOLDER - 16, TENSORS = 3, META = 18 };

bool rt_set_plain_names(const rt_classes *c)
{
    for (int32_t i = 0; i < c->n; i++) {
        const char *s = c->name[i];
        if (s[0] == '.' || strchr(s, '/') || strlen(s) > FOLDER_NAME_MAX) return false;
        if (i && strcmp(c->name[i - 1], s) >= 0) return false;
    }
    return true;
}

void rt_set_folder(const rt_classes *c, int32_t label, bool plain, char *out)
{
    int digits = snprintf(NULL, 0, "%d", c->n - 1);
    if (plain) {
        snprintf(out, RT_SET_FOLDER, "%s", c->name[label]);
        return;
    }
    int n = snprintf(out, RT_SET_FOLDER, "%0*d_%.*s", digits, label, FOLDER_NAME_MAX, c->name[label]);
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
    bool plain = rt_set_plain_names(&s->classes);
    char folder[RT_SET_FOLDER], name[RT_SET_FOLDER + 48];
    uint8_t *rgb = NULL;
    void *png = NULL;
    size_t n_png = 0;

    RT_ALLOC(rgb, (size_t)row, "one image");
    for (int64_t i = 0; i < s->n; i++) {
        index = i && s->label[i] == s->label[i - 1] ? index + 1 : 0;
        rt_set_rgb(s, i, rgb);
        rt_free(png);
        png = NULL;
        RT_TRYF(rt_png_encode(rgb, s->h, s->w, &png, &n_png), "image %" PRId64, i);
        rt_set_folder(&s->classes, s->label[i], plain, folder);
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
    char path[PATH_MAX], ipc[16], mean[64], std[64], factor[16], step[32];
    int64_t *label = NULL, row = (int64_t)s->h * s->w * 3;

    RT_ALLOC(label, (size_t)(s->n + 1) * sizeof *label, "labels");
    for (int64_t i = 0; i < s->n; i++) label[i] = s->label[i];
    snprintf(ipc, sizeof ipc, "%d", s->ipc);
    snprintf(mean, sizeof mean, "%.9g %.9g %.9g", (double)s->norm.mean[0], (double)s->norm.mean[1], (double)s->norm.mean[2]);
    snprintf(std, sizeof std, "%.9g %.9g %.9g", (double)s->norm.std[0], (double)s->norm.std[1], (double)s->norm.std[2]);
    rt_st_tensor t[TENSORS] = {
        {"images", RT_ST_F32, 4, {s->n, s->h, s->w, 3}, s->px, (uint64_t)(s->n * row) * 4},
        {"labels", RT_ST_I64, 1, {s->n}, label, (uint64_t)s->n * 8},
        {"soft_labels", RT_ST_F32, 2, {s->n, s->classes.n}, s->soft, (uint64_t)s->n * (uint64_t)s->classes.n * 4},
    };
    const char *space = s->zca[0] ? "zca: whitened by the ZCA artefact" : s->unit ? "unit: p/255" : "normalised: (p/255 - mean)/std";
    const char *meta[META] = {"method", s->method, "ipc", ipc, "mean", mean, "std", std, "space", space};
    int n_meta = 5;
    if (s->zca[0]) meta[2 * n_meta] = "zca", meta[2 * n_meta++ + 1] = s->zca;
    if (s->factor > 1) meta[2 * n_meta] = "factor", meta[2 * n_meta++ + 1] = factor;
    if (s->step_size > 0) meta[2 * n_meta] = "step_size", meta[2 * n_meta++ + 1] = step;
    if (s->soft) meta[2 * n_meta] = "soft_labels", meta[2 * n_meta++ + 1] = s->soft_logits ? "logits" : "probabilities";
    snprintf(factor, sizeof factor, "%d", s->factor);
    snprintf(step, sizeof step, "%.9g", (double)s->step_size);
    RT_TRY(rt_fs_join(path, sizeof path, rt_commit_dir(c), "set.safetensors"));
    RT_TRY(rt_st_write(path, t, s->soft ? TENSORS : TENSORS - 1, meta, n_meta));
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

/* Notes in canonical form, so that equal runs give equal bytes; the trace as it is. */
static rt_status write_record(const rt_set *s, rt_commit *c)
{
    rt_status st = RT_OK;
    json_t *notes = NULL;
    char *text = NULL;
    if (s->notes) {
        RT_TRY(rt_json_parse("notes of the set", s->notes, strlen(s->notes), &notes));
        if (!json_is_object(notes)) {
            st = RT_RAISE(RT_ERR_ARG, "notes of the set are not a JSON object");
            goto out;
        }
        RT_TRY(rt_json_text(notes, &text));
        RT_TRY(rt_commit_file(c, "notes.json", text, strlen(text)));
    }
    if (s->trace) {
        RT_TRY(rt_set_check_trace(s->trace, strlen(s->trace), s->method, RT_ERR_ARG));
        RT_TRY(rt_commit_file(c, "trace.csv", s->trace, strlen(s->trace)));
    }
out:
    json_decref(notes);
    rt_free(text);
    return st;
}

rt_status rt_set_write(const rt_set *s, rt_commit *c, int64_t *image_bytes, int64_t *label_bytes)
{
    rt_status st = RT_OK;
    int64_t bytes = 0;
    if (s->n < 1 || s->h < 1 || s->w < 1 || s->h > RT_SET_SIDE_MAX || s->w > RT_SET_SIDE_MAX || s->classes.n < 1 || !s->px || !s->label ||
        (s->score && !s->key))
        return RT_RAISE(RT_ERR_ARG, "set of %" PRId64 " images of %d x %d in %d classes", s->n, s->h, s->w, s->classes.n);
    RT_TRY(rt_set_check(s, s->method[0] ? s->method : "set", RT_ERR_NUMERIC, RT_ERR_ARG));
    RT_TRYF(write_images(s, c, &bytes), "write set");
    RT_TRYF(write_tensors(s, c), "write set");
    RT_TRYF(write_texts(s, c), "write set");
    RT_TRYF(write_record(s, c), "write set");
    int64_t hard = s->classes.n <= 256 ? 1 : s->classes.n <= 65536 ? 2 : 4;
    *image_bytes = bytes;
    *label_bytes = s->n * (s->soft ? 4 * (int64_t)s->classes.n : hard);
out:
    return st;
}
