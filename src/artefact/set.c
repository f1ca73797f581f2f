/* rt_set: the one type for coresets and distilled sets. Checks of its values and the two ways it is seen; files are
 * set_write.c and set_read.c.
 *
 *   images/<class>/<index>.png   8-bit, lossless; a plain ImageFolder whose sorted folder order is the label order. When the
 *                                class names are not in byte order or not usable as file names, every folder is
 *                                "<label>_<name made safe>" so that the order still holds.
 *   set.safetensors              "images" f32 [n,h,w,3] in the set's space (the exact result), "labels" i64 [n], optional
 *                                "soft_labels" f32 [n,classes]; metadata: method, ipc, mean, std, space, and where they
 *                                apply zca, factor, step_size, soft_labels ("probabilities" or "logits")
 *   classes.txt                  one name a line, in label order
 *   index.csv                    selections only: key,label,rank,score; rank counts from 0 within the class
 *   trace.csv, notes.json        optimised sets: what each iteration came to; what was skipped and what deviates
 *
 * Byte accounting: images are their PNG files; labels are the soft ones as stored (float32), else one byte each (two above
 * 256 classes, four above 65,536). Reading believes nothing: shapes, label range and order, finite values, the class hash.
 * Sets written before a field existed are read with its default. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "artefact/artefact.h"
#include "artefact/internal.h"
#include "base/alloc.h"

/* A row of probabilities may miss 1 by what float32 sums of up to thousands of classes round to. */
static const double SUM_SLACK = 1e-3;

void rt_set_fini(rt_set *s)
{
    if (!s) return;
    rt_free(s->px);
    rt_free(s->label);
    rt_free(s->soft);
    rt_free(s->rgb);
    rt_free(s->notes);
    rt_free(s->trace);
    for (int64_t i = 0; s->key && i < s->n; i++) rt_free(s->key[i]);
    rt_free(s->key);
    rt_free(s->score);
    rt_classes_fini(&s->classes);
    memset(s, 0, sizeof *s);
}

const char *rt_set_space(const rt_set *s) { return s->zca[0] ? "zca" : s->unit ? "unit" : "normalised"; }

/* --- checks ------------------------------------------------------------------------------------------------------------ */

/* Index of the first value that is not finite, or -1. */
static int64_t first_bad(const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return i;
    return -1;
}

static rt_status check_soft(const rt_set *s, const char *where, rt_status numeric, rt_status broken)
{
    int64_t c = s->classes.n, bad = first_bad(s->soft, s->n * c);
    if (bad >= 0) return RT_RAISE(numeric, "%s: soft label %" PRId64 " holds a value that is not finite", where, bad / c);
    for (int64_t i = 0; i < s->n && !s->soft_logits; i++) {
        double sum = 0;
        for (int64_t k = 0; k < c; k++) {
            double p = (double)s->soft[i * c + k];
            if (p < -SUM_SLACK) return RT_RAISE(broken, "%s: soft label %" PRId64 " holds the probability %g", where, i, p);
            sum += p;
        }
        if (fabs(sum - 1) > SUM_SLACK) return RT_RAISE(broken, "%s: soft label %" PRId64 " sums to %g, not 1", where, i, sum);
    }
    return RT_OK;
}

static rt_status check_kind(const rt_set *s, const char *where, rt_status numeric, rt_status broken)
{
    if (isinf(s->step_size)) return RT_RAISE(numeric, "%s: step size %g", where, (double)s->step_size);
    if (s->step_size < 0) return RT_RAISE(broken, "%s: step size %g is negative", where, (double)s->step_size);
    if (s->factor < 0 || s->factor > RT_SET_FACTOR_MAX || s->factor > s->h || s->factor > s->w)
        return RT_RAISE(broken, "%s: %d tiles a side of a %d x %d image", where, s->factor, s->h, s->w);
    if (s->soft_logits && !s->soft) return RT_RAISE(broken, "%s: soft labels are logits, but there are none", where);
    if (s->zca[0] && (s->unit || !s->rgb))
        return RT_RAISE(broken, "%s: whitened pixels %s", where, s->unit ? "cannot lie in [0,1] too" : "without their 8-bit images");
    if (s->zca[0] && strspn(s->zca, "0123456789abcdef") != RT_HASH_HEX - 1)
        return RT_RAISE(broken, "%s: \"%.70s\" is not a hash of a ZCA artefact", where, s->zca);
    return RT_OK;
}

rt_status rt_set_check(const rt_set *s, const char *where, rt_status numeric, rt_status broken)
{
    rt_status st = RT_OK;
    int64_t row = (int64_t)s->h * s->w * 3, bad = first_bad(s->px, s->n * row);
    if (bad >= 0) return RT_RAISE(numeric, "%s: image %" PRId64 " holds a value that is not finite", where, bad / row);
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
    RT_TRY(check_kind(s, where, numeric, broken));
    if (s->soft) RT_TRY(check_soft(s, where, numeric, broken));
out:
    return st;
}

rt_status rt_set_check_trace(const char *text, size_t n, const char *where, rt_status broken)
{
    if (n < 2 || text[0] == '\n' || text[n - 1] != '\n' || memchr(text, 0, n))
        return RT_RAISE(broken, "%s: a trace is CSV text: a header line, then one line an iteration", where);
    return RT_OK;
}

/* --- as stored --------------------------------------------------------------------------------------------------------- */

/* 8 bits per channel: what the PNG files hold and what views of uint8 images see. */
void rt_set_rgb(const rt_set *s, int64_t i, uint8_t *rgb)
{
    int64_t row = (int64_t)s->h * s->w * 3;
    const float *x = s->px + i * row;
    if (s->rgb) {
        memcpy(rgb, s->rgb + i * row, (size_t)row);
        return;
    }
    for (int64_t k = 0; k < row; k++) {
        float p = s->unit ? x[k] : x[k] * s->norm.std[k % 3] + s->norm.mean[k % 3], v = floorf(p * 255.0f + 0.5f);
        rgb[k] = (uint8_t)(v < 0.0f ? 0.0f : v > 255.0f ? 255.0f : v);
    }
}

rt_status rt_set_stored(const rt_set *s, rt_images *out)
{
    rt_status st = RT_OK;
    int64_t row = (int64_t)s->h * s->w * 3;
    rt_images im = {.n = s->n, .h = s->h, .w = s->w};
    if (s->zca[0] && !s->rgb) return RT_RAISE(RT_ERR_ARG, "%s: whitened pixels without their 8-bit images", s->method);
    RT_ALLOC(im.px, (size_t)(s->n * row), "8-bit images");
    RT_ALLOC(im.label, (size_t)s->n * sizeof *im.label, "labels");
    RT_ALLOC(im.key, (size_t)s->n * sizeof *im.key, "keys");
    RT_TRY(rt_classes_copy(&s->classes, &im.classes));
    for (int64_t i = 0; i < s->n; i++) rt_set_rgb(s, i, im.px + i * row);
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

/* --- as trained on ----------------------------------------------------------------------------------------------------- */

/* A tile and its frame: rows [y0, y0 + th) and columns [x0, x0 + tw) of an h x w image; outside the image it is `pad`. */
typedef struct tile {
    const float *px;
    int32_t h, w, y0, x0, th, tw;
    float pad[3];
} tile;

static float tile_at(const tile *t, int32_t y, int32_t x, int c)
{
    y += t->y0;
    x += t->x0;
    return y < t->h && x < t->w ? t->px[((int64_t)y * t->w + x) * 3 + c] : t->pad[c];
}

/* Bilinear, pixel centres at half: source coordinate (i + 0.5) * size / side - 0.5, clamped at the tile's edge, so that one
 * tile never bleeds into the next. */
static void enlarge(const tile *t, float *out)
{
    for (int32_t y = 0; y < t->h; y++) {
        float fy = ((float)y + 0.5f) * (float)t->th / (float)t->h - 0.5f;
        if (fy < 0) fy = 0;
        int32_t y0 = (int32_t)fy, y1 = y0 + 1 < t->th ? y0 + 1 : y0;
        float wy = fy - (float)y0;
        for (int32_t x = 0; x < t->w; x++) {
            float fx = ((float)x + 0.5f) * (float)t->tw / (float)t->w - 0.5f;
            if (fx < 0) fx = 0;
            int32_t x0 = (int32_t)fx, x1 = x0 + 1 < t->tw ? x0 + 1 : x0;
            float wx = fx - (float)x0;
            for (int c = 0; c < 3; c++) {
                float top = tile_at(t, y0, x0, c) * (1 - wx) + tile_at(t, y0, x1, c) * wx;
                float low = tile_at(t, y1, x0, c) * (1 - wx) + tile_at(t, y1, x1, c) * wx;
                *out++ = top * (1 - wy) + low * wy;
            }
        }
    }
}

/* Row of soft labels as probabilities. */
static void to_probabilities(const rt_set *s, int64_t i, float *out)
{
    int32_t c = s->classes.n;
    const float *u = s->soft + i * c;
    double sum = 0, top = (double)u[0];
    for (int32_t k = 0; k < c; k++) {
        out[k] = u[k];
        if ((double)u[k] > top) top = (double)u[k];
    }
    if (!s->soft_logits) return;
    for (int32_t k = 0; k < c; k++) sum += exp((double)u[k] - top);
    for (int32_t k = 0; k < c; k++) out[k] = (float)(exp((double)u[k] - top) / sum);
}

/* Decoded image `to` out of tile k of stored image `from`. */
static void decode_image(const rt_set *s, int64_t from, int32_t k, rt_set *d, int64_t to)
{
    int32_t f = s->factor > 1 ? s->factor : 1;
    int64_t row = (int64_t)s->h * s->w * 3;
    float *out = d->px + to * row;
    tile t = {.px = s->px + from * row, .h = s->h, .w = s->w, .th = (s->h + f - 1) / f, .tw = (s->w + f - 1) / f};
    t.y0 = k / f * t.th;
    t.x0 = k % f * t.tw;
    for (int c = 0; c < 3; c++) t.pad[c] = s->unit ? 0.5f : s->zca[0] ? 0.0f : (0.5f - s->norm.mean[c]) / s->norm.std[c];
    if (f == 1) memcpy(out, t.px, (size_t)row * sizeof *out);
    else enlarge(&t, out);
    for (int64_t i = 0; s->unit && i < row; i++) out[i] = (out[i] - s->norm.mean[i % 3]) / s->norm.std[i % 3];
    d->label[to] = s->label[from];
    if (s->soft) to_probabilities(s, from, d->soft + to * s->classes.n);
}

rt_status rt_set_decode(const rt_set *s, rt_set *out)
{
    rt_status st = RT_OK;
    int64_t row = (int64_t)s->h * s->w * 3, to = 0;
    int32_t f = s->factor > 1 ? s->factor : 1, tiles = f * f;
    rt_set d = {.n = s->n * tiles, .h = s->h, .w = s->w, .ipc = s->ipc * tiles, .step_size = s->step_size, .factor = 1, .norm = s->norm};
    memcpy(d.method, s->method, sizeof d.method);
    memcpy(d.zca, s->zca, sizeof d.zca);
    RT_TRY(rt_classes_copy(&s->classes, &d.classes));
    RT_ALLOC(d.px, (size_t)(d.n * row) * sizeof *d.px, "decoded images");
    RT_ALLOC(d.label, (size_t)d.n * sizeof *d.label, "decoded labels");
    if (s->soft) RT_ALLOC(d.soft, (size_t)(d.n * s->classes.n) * sizeof *d.soft, "decoded soft labels");
    for (int64_t a = 0, b; a < s->n; a = b) { /* [a, b): one class */
        for (b = a + 1; b < s->n && s->label[b] == s->label[a];) b++;
        for (int32_t k = 0; k < tiles; k++)
            for (int64_t i = a; i < b; i++) decode_image(s, i, k, &d, to++);
    }
    *out = d;
    memset(&d, 0, sizeof d);
out:
    rt_set_fini(&d);
    return st;
}

rt_status rt_set_describe(const rt_set *s, json_t *manifest)
{
    rt_status st = RT_OK;
    json_t *notes = NULL;
    bool learned = s->step_size > 0;
    if (s->notes) RT_TRY(rt_json_parse("notes of the set", s->notes, strlen(s->notes), &notes));
    if (json_object_set_new(manifest, "space", json_string(rt_set_space(s))) ||
        json_object_set_new(manifest, "zca", s->zca[0] ? json_string(s->zca) : json_null()) ||
        json_object_set_new(manifest, "factor", json_integer(s->factor > 1 ? s->factor : 1)) ||
        json_object_set_new(manifest, "soft_labels", json_string(!s->soft ? "none" : s->soft_logits ? "logits" : "probabilities")) ||
        json_object_set_new(manifest, "step_size", learned ? json_real((double)s->step_size) : json_null()) ||
        json_object_set(manifest, "notes", notes ? notes : json_null()))
        st = RT_RAISE(RT_ERR_NOMEM, "no memory for the manifest");
out:
    json_decref(notes);
    return st;
}
