/* Resident images: a whole data set decoded to one size. Samples are decoded in any order by any thread and land at
 * their own place, so the result does not depend on the thread count; nor does the reported error (the lowest failing
 * sample). */
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "data/internal.h"

typedef struct load {
    const rt_dataset *d;
    rt_preset preset;
    bool skip, warnings_are_bad;
    uint8_t *px;
    size_t size;          /* bytes of one image */
    char **bad;           /* per sample: why it was skipped, or NULL */
    int64_t first_failed; /* accessed atomically; d->n when none */
    int64_t done;         /* accessed atomically */
    rt_error_chain error; /* of first_failed, under the critical section */
} load;

static rt_status load_one(load *l, int64_t i)
{
    rt_image im = {0};
    int warnings = 0;
    rt_status st = RT_OK;
    RT_TRY(rt_dataset_decode(l->d, i, &im, &warnings));
    if (warnings > 0 && l->warnings_are_bad) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: damaged JPEG: %d decoder warnings", rt_dataset_key(l->d, i), warnings);
        goto out;
    }
    RT_TRYF(rt_preset_apply(&l->preset, &im, l->px + (size_t)i * l->size), "sample '%s'", rt_dataset_key(l->d, i));
out:
    rt_image_fini(&im);
    return st;
}

static void note_failure(load *l, int64_t i)
{
#pragma omp critical(rt_images_error)
    if (i < l->first_failed) {
        __atomic_store_n(&l->first_failed, i, __ATOMIC_RELAXED);
        rt_error_save(&l->error);
    }
}

static void load_sample(load *l, int64_t i)
{
    if (i > __atomic_load_n(&l->first_failed, __ATOMIC_RELAXED)) return; /* an earlier one decides */
    rt_status st = rt_stop_requested() ? RT_RAISE(RT_ERR_CANCELLED, "loading images was stopped") : load_one(l, i);
    if (st == RT_ERR_FORMAT && l->skip && !(l->bad[i] = rt_strdup(rt_error_what())))
        st = RT_RAISE(RT_ERR_NOMEM, "no memory for the list of bad samples");
    if (st != RT_OK && !(st == RT_ERR_FORMAT && l->skip)) note_failure(l, i);
}

static void load_all(load *l, int threads)
{
    int64_t n = l->d->n;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 16) if (threads > 1)
    for (int64_t i = 0; i < n; i++) {
        load_sample(l, i);
        int64_t done = __atomic_add_fetch(&l->done, 1, __ATOMIC_RELAXED);
        if (done % 256 == 0 || done == n) {
#pragma omp critical(rt_images_progress)
            rt_progress_report(
                &(rt_progress){.phase = "load images", .unit = "img", .done = (double)done, .total = (double)n});
        }
    }
}

/* Moves what was decoded to the front and gives it labels and keys. */
static rt_status keep_good(load *l, rt_bad_list *bad, rt_images *im)
{
    rt_status st = RT_OK;
    for (int64_t i = 0; i < l->d->n; i++) {
        if (l->bad && l->bad[i]) {
            RT_TRY(rt_bad_list_add(bad, rt_dataset_key(l->d, i), l->bad[i]));
            continue;
        }
        if (im->n != i) memmove(im->px + (size_t)im->n * l->size, im->px + (size_t)i * l->size, l->size);
        im->label[im->n] = rt_dataset_label(l->d, i);
        if (!(im->key[im->n] = rt_strdup(rt_dataset_key(l->d, i)))) {
            st = RT_RAISE(RT_ERR_NOMEM, "no memory for image keys");
            goto out;
        }
        im->n++;
    }
    if (bad) RT_TRY(rt_bad_list_check(bad, l->d->n));
    if (im->n == 0) st = RT_RAISE(RT_ERR_FORMAT, "none of %lld samples could be decoded", (long long)l->d->n);
out:
    return st;
}

static rt_status images_alloc(int64_t n, int32_t h, int32_t w, const rt_classes *c, rt_images *im)
{
    rt_status st = RT_OK;
    size_t bytes = (size_t)n * (size_t)h * (size_t)w * 3;
    im->h = h;
    im->w = w;
    if (!(im->px = rt_malloc(bytes ? bytes : 1))) {
        st = RT_RAISE(RT_ERR_NOMEM, "no memory for %lld images of %d x %d (%zu bytes)", (long long)n, h, w, bytes);
        return rt_error_fix(st, "use a smaller image size or fewer samples, or stream them");
    }
    RT_ALLOC(im->label, (size_t)(n ? n : 1) * sizeof *im->label, "labels");
    RT_ALLOC(im->key, (size_t)(n ? n : 1) * sizeof *im->key, "keys");
    RT_TRY(rt_classes_copy(c, &im->classes));
out:
    return st;
}

rt_status rt_images_load(const rt_dataset *d, const rt_preset *p, int threads, rt_bad_list *bad, rt_images *out)
{
    rt_status st = RT_OK;
    rt_images im = {0};
    load l = {.d = d, .preset = *p, .first_failed = d->n, .warnings_are_bad = bad ? bad->warnings_are_bad : true};
    if (p->size < 1 || p->size > 4096 || p->resize < 0 || p->resize > 65536 || (p->resize && p->resize < p->size))
        return RT_RAISE(RT_ERR_CONFIG, "preset: size %d, shorter side %d", p->size, p->resize);
    if (threads < 1) threads = 1;
    RT_TRY(images_alloc(d->n, p->size, p->size, &d->classes, &im));
    l.px = im.px;
    l.size = (size_t)p->size * (size_t)p->size * 3;
    l.skip = bad && bad->policy == RT_BAD_SKIP;
    if (l.skip) RT_ALLOC(l.bad, (size_t)d->n * sizeof *l.bad, "list of bad samples");
    load_all(&l, threads);
    if (l.error.status != RT_OK) {
        st = rt_error_restore(&l.error);
        if (st == RT_ERR_FORMAT)
            st = rt_error_fix(st, "repair or remove that file, or set the bad-sample policy to skip");
        goto out;
    }
    RT_TRY(keep_good(&l, bad, &im));
    *out = im;
    im = (rt_images){0};
out:
    if (l.bad)
        for (int64_t i = 0; i < d->n; i++) rt_free(l.bad[i]);
    rt_free(l.bad);
    rt_images_fini(&im);
    return st;
}

rt_status rt_images_subset(const rt_images *in, const int64_t *idx, int64_t n, rt_images *out)
{
    rt_status st = RT_OK;
    rt_images im = {0};
    size_t size = (size_t)in->h * (size_t)in->w * 3;
    for (int64_t i = 0; i < n; i++)
        if (idx[i] < 0 || idx[i] >= in->n)
            return RT_RAISE(RT_ERR_ARG, "subset: image %lld of %lld", (long long)idx[i], (long long)in->n);
    RT_TRY(images_alloc(n, in->h, in->w, &in->classes, &im));
    if (in->white) {
        RT_ALLOC(im.white, (size_t)n * size * sizeof *im.white, "whitened pixels");
        im.zca = in->zca;
        for (int64_t i = 0; i < n; i++)
            memcpy(im.white + (size_t)i * size, in->white + (size_t)idx[i] * size, size * sizeof *im.white);
    }
    for (; im.n < n; im.n++) {
        memcpy(im.px + (size_t)im.n * size, in->px + (size_t)idx[im.n] * size, size);
        im.label[im.n] = in->label[idx[im.n]];
        if (!(im.key[im.n] = rt_strdup(in->key[idx[im.n]]))) {
            st = RT_RAISE(RT_ERR_NOMEM, "no memory for image keys");
            goto out;
        }
    }
    *out = im;
    im = (rt_images){0};
out:
    rt_images_fini(&im);
    return st;
}

void rt_images_fini(rt_images *im)
{
    if (!im) return;
    if (im->key)
        for (int64_t i = 0; i < im->n; i++) rt_free(im->key[i]);
    rt_free(im->key);
    rt_free(im->label);
    rt_free(im->px);
    rt_free(im->white);
    rt_classes_fini(&im->classes);
    *im = (rt_images){0};
}

rt_status rt_images_by_class(const rt_images *im, int64_t **idx, int64_t **start)
{
    rt_status st = RT_OK;
    int64_t *list = NULL, *first = NULL;
    size_t classes = (size_t)im->classes.n;
    RT_ALLOC(list, (size_t)(im->n ? im->n : 1) * sizeof *list, "class lists");
    RT_ALLOC(first, (classes + 2) * sizeof *first, "class lists"); /* one more as the running place */
    for (int64_t i = 0; i < im->n; i++) first[im->label[i] + 2]++;
    for (size_t c = 1; c <= classes; c++) first[c + 1] += first[c];
    for (int64_t i = 0; i < im->n; i++) list[first[im->label[i] + 1]++] = i;
    *idx = list;
    *start = first;
    list = NULL;
    first = NULL;
out:
    rt_free(list);
    rt_free(first);
    return st;
}

size_t rt_images_bytes(int64_t n, int32_t h, int32_t w)
{
    enum { KEY = 64 }; /* a key as allocated: rt_malloc rounds to cache lines */
    return (size_t)n * ((size_t)h * (size_t)w * 3 + sizeof(int32_t) + sizeof(char *) + KEY);
}
