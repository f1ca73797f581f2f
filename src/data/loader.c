/* The streaming loader.
 *
 * Plan. An epoch is known before it starts: its order is a permutation (order.c), so sample number p of the epoch goes
 * to place p % batch of batch p / batch, and its random view is drawn by counter from (seed, step, place), step being
 * the number of the batch since epoch 0. What a worker makes of a sample depends on nothing else, hence the same bytes
 * on any number of threads, after any resume.
 *
 * Memory. A ring of batches_ahead + 2 slots is booked at creation: one may be with the caller, one is being filled, the
 * others are ahead. Batch b lives in slot b % ring. A worker may start a sample of batch b once batch b - ring has been
 * given back, so nothing that is borrowed is overwritten, and at most `ring` batches are ever open. Workers take
 * samples one by one (a sample is about a millisecond), so a slow picture delays its own batch only.
 *
 * Failure. A worker saves the error chain of a failing sample in the batch's slot; the lowest place wins. The caller
 * meets the error when it reaches that batch, whatever the threads did meanwhile. Threads are joined in destroy; start
 * waits until no worker is inside a sample.
 *
 * Not here: ranks. A caller with several ranks gives each its own data set part or skips batches by `first`. */
#include <pthread.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "data/internal.h"

enum { MAX_THREADS = 1024, MAX_AHEAD = 4096 };

typedef struct slot {
    void *px;             /* batch * size * size * 3 bytes or floats */
    int32_t *label;       /* batch */
    int64_t *index;       /* batch */
    char **bad;           /* batch: why a place was skipped, or NULL */
    int64_t missing;      /* samples not finished; 0: ready */
    int64_t failed_place; /* of error; batch when none */
    rt_error_chain error;
} slot;

typedef struct worker {
    rt_loader *l;
    pthread_t thread;
    uint8_t *pixels, *shifted; /* one output picture each */
    bool running;
} worker;

struct rt_loader {
    const rt_dataset *d;
    rt_loader_options o;
    rt_bad_list *bad;
    uint8_t *listed; /* per sample: already in the bad list */
    bool skip, warnings_are_bad;
    size_t pixels; /* bytes of one uint8 picture, also its number of values */
    float table[256][3];
    int64_t *order, n_batches;
    slot *ring;
    int32_t n_ring;
    worker *worker;
    int32_t n_workers;

    pthread_mutex_t lock; /* guards what follows, and the slots' bookkeeping */
    pthread_cond_t work, ready;
    bool have_lock, quit;
    uint64_t epoch;
    int64_t next, end; /* sample numbers of the epoch: next to start, end of the plan */
    int64_t given;     /* batches handed to the caller (counted from the epoch's start) */
    int64_t open;      /* batches below this one have been given back */
    int64_t inside;    /* workers inside a sample */
};

/* --- one sample --------------------------------------------------------------------------------------------------- */
static rt_status check_warnings(const rt_loader *l, int64_t i, int warnings)
{
    if (warnings == 0 || !l->warnings_are_bad) return RT_OK;
    return RT_RAISE(RT_ERR_FORMAT, "%s: damaged JPEG: %d decoder warnings", rt_dataset_key(l->d, i), warnings);
}

/* Random resized crop: of a JPEG only the crop is decoded, to the very pixels of a whole decode. */
static rt_status crop_sample(const rt_loader *l, int64_t i, uint64_t step, uint32_t place, uint8_t *out, bool *flip)
{
    rt_status st = RT_OK;
    void *bytes = NULL;
    size_t n = 0;
    rt_image im = {0};
    rt_view_box b;
    int warnings = 0;
    const char *key = rt_dataset_key(l->d, i);
    RT_TRY(rt_dataset_read(l->d, i, &bytes, &n));
    if (!l->d->raw && rt_is_jpeg(bytes, n)) {
        int32_t h = 0, w = 0;
        RT_TRY(rt_jpeg_size(bytes, n, key, &h, &w));
        RT_TRY(rt_view_draw(&l->o.view, h, w, l->o.seed, step, place, &b));
        RT_TRY(rt_jpeg_decode_around(bytes, n, key, &(rt_span){b.x0, b.y0, b.w, b.h}, &im, &b.x0, &warnings));
        RT_TRY(check_warnings(l, i, warnings));
        b.y0 = 0;
    } else {
        RT_TRY(rt_dataset_decode(l->d, i, &im, &warnings));
        RT_TRY(rt_view_draw(&l->o.view, im.h, im.w, l->o.seed, step, place, &b));
    }
    RT_TRY(rt_crop_resize(&im, b.x0, b.y0, b.w, b.h, l->o.preset.size, l->o.preset.size, RT_BILINEAR, out));
    *flip = b.flip;
out:
    rt_image_fini(&im);
    rt_free(bytes);
    return st;
}

/* Resize and centre crop of the whole picture; scratch: one output picture. */
static rt_status whole_sample(const rt_loader *l, int64_t i, uint64_t step, uint32_t place, uint8_t *scratch,
                              uint8_t *out, bool *flip)
{
    rt_status st = RT_OK;
    rt_image im = {0};
    rt_view_box b;
    int warnings = 0;
    int32_t size = l->o.preset.size;
    RT_TRY(rt_dataset_decode(l->d, i, &im, &warnings));
    RT_TRY(check_warnings(l, i, warnings));
    RT_TRY(rt_view_draw(&l->o.view, size, size, l->o.seed, step, place, &b));
    bool shift = b.x0 || b.y0;
    RT_TRYF(rt_preset_apply(&l->o.preset, &im, shift ? scratch : out), "sample '%s'", rt_dataset_key(l->d, i));
    if (shift) rt_pixels_shift(scratch, size, size, b.y0, b.x0, out);
    *flip = b.flip;
out:
    rt_image_fini(&im);
    return st;
}

static void flip_rows(uint8_t *px, int32_t h, int32_t w)
{
    for (int32_t y = 0; y < h; y++, px += (size_t)w * 3)
        for (int32_t a = 0, b = w - 1; a < b; a++, b--)
            for (int c = 0; c < 3; c++) {
                uint8_t keep = px[3 * a + c];
                px[3 * a + c] = px[3 * b + c];
                px[3 * b + c] = keep;
            }
}

static rt_status make_sample(rt_loader *l, worker *w, int64_t i, uint64_t step, slot *s, int64_t place)
{
    rt_status st = RT_OK;
    bool flip = false;
    int32_t size = l->o.preset.size;
    size_t row = (size_t)size * 3;
    uint8_t *to = l->o.as_float ? w->pixels : (uint8_t *)s->px + (size_t)place * l->pixels;
    if (l->o.view.rrc)
        RT_TRY(crop_sample(l, i, step, (uint32_t)place, to, &flip));
    else
        RT_TRY(whole_sample(l, i, step, (uint32_t)place, w->shifted, to, &flip));
    if (l->o.as_float) {
        float *out = (float *)s->px + (size_t)place * l->pixels;
        for (int32_t y = 0; y < size; y++)
            rt_normalise_row(l->table, to + (size_t)y * row, size, flip, out + (size_t)y * row);
    } else if (flip) {
        flip_rows(to, size, size);
    }
    s->label[place] = rt_dataset_label(l->d, i);
    s->index[place] = i;
out:
    return st;
}

/* --- workers ------------------------------------------------------------------------------------------------------ */
static bool may_start(const rt_loader *l)
{
    return l->next < l->end && l->next / l->o.batch < l->open + l->n_ring;
}

/* Books the outcome of one sample; the lock is held. */
static void finish_sample(rt_loader *l, slot *s, int64_t place, rt_status st)
{
    if (st == RT_ERR_FORMAT && l->skip) {
        if ((s->bad[place] = rt_strdup(rt_error_what())))
            st = RT_OK;
        else
            st = RT_RAISE(RT_ERR_NOMEM, "no memory for the list of bad samples");
    }
    if (st != RT_OK && place < s->failed_place) {
        s->failed_place = place;
        rt_error_save(&s->error);
    }
    l->inside--;
    if (--s->missing == 0 || l->inside == 0) pthread_cond_broadcast(&l->ready);
}

static void *work(void *arg)
{
    worker *w = arg;
    rt_loader *l = w->l;
    pthread_mutex_lock(&l->lock);
    for (;;) {
        while (!l->quit && !may_start(l)) pthread_cond_wait(&l->work, &l->lock);
        if (l->quit) break;
        int64_t p = l->next++, b = p / l->o.batch, place = p % l->o.batch, i = l->order[p];
        uint64_t step = l->epoch * (uint64_t)l->n_batches + (uint64_t)b;
        slot *s = &l->ring[b % l->n_ring];
        l->inside++;
        pthread_mutex_unlock(&l->lock);
        rt_status st = make_sample(l, w, i, step, s, place);
        pthread_mutex_lock(&l->lock);
        finish_sample(l, s, place, st);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* --- the caller's side -------------------------------------------------------------------------------------------- */
static int64_t batch_size(const rt_loader *l, int64_t b)
{
    int64_t left = l->d->n - b * l->o.batch;
    return left < l->o.batch ? left : l->o.batch;
}

/* Makes the slot ready to be filled with batch b. */
static void slot_reset(rt_loader *l, int64_t b)
{
    slot *s = &l->ring[b % l->n_ring];
    for (int64_t k = 0; s->bad && k < l->o.batch; k++) {
        rt_free(s->bad[k]);
        s->bad[k] = NULL;
    }
    s->missing = b < l->n_batches ? batch_size(l, b) : 0;
    s->failed_place = l->o.batch;
    s->error.status = RT_OK;
}

rt_status rt_loader_start(rt_loader *l, uint64_t epoch, int64_t first)
{
    if (first < 0 || first > l->n_batches)
        return RT_RAISE(RT_ERR_ARG, "loader: batch %lld of %lld", (long long)first, (long long)l->n_batches);
    pthread_mutex_lock(&l->lock);
    l->end = 0; /* no new samples; those under way end first */
    while (l->inside > 0) pthread_cond_wait(&l->ready, &l->lock);
    if (l->o.shuffle) rt_epoch_order(l->o.seed, epoch, l->d->n, l->order);
    l->epoch = epoch;
    l->given = l->open = first;
    l->next = first * l->o.batch;
    for (int64_t b = first; b < first + l->n_ring; b++) slot_reset(l, b);
    l->end = l->o.drop_last ? l->n_batches * l->o.batch : l->d->n;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
    return RT_OK;
}

/* Moves the good places of a batch together and lists the bad ones, each once however many epochs meet it. */
static rt_status drop_bad(rt_loader *l, slot *s, int64_t n, int64_t *kept)
{
    rt_status st = RT_OK;
    size_t bytes = l->pixels * (l->o.as_float ? sizeof(float) : 1);
    const int64_t *planned = l->order + (l->given - 1) * l->o.batch;
    int64_t k = 0;
    for (int64_t place = 0; place < n; place++) {
        int64_t i = planned[place];
        if (s->bad && s->bad[place]) {
            if (!l->listed[i]) RT_TRY(rt_bad_list_add(l->bad, rt_dataset_key(l->d, i), s->bad[place]));
            l->listed[i] = 1;
            continue;
        }
        if (k != place) {
            memmove((char *)s->px + (size_t)k * bytes, (char *)s->px + (size_t)place * bytes, bytes);
            s->label[k] = s->label[place];
            s->index[k] = s->index[place];
        }
        k++;
    }
    if (l->skip) RT_TRY(rt_bad_list_check(l->bad, l->d->n));
    *kept = k;
out:
    return st;
}

/* Waits for the next batch of the plan. *s NULL at the end of the epoch. */
static rt_status take(rt_loader *l, slot **s, int64_t *n)
{
    rt_status st = RT_OK;
    *s = NULL;
    pthread_mutex_lock(&l->lock);
    if (l->given > l->open) { /* the slot handed out last comes back */
        slot_reset(l, l->open + l->n_ring);
        l->open++;
        pthread_cond_broadcast(&l->work);
    }
    if (l->given * l->o.batch < l->end) {
        slot *t = &l->ring[l->given % l->n_ring];
        while (t->missing > 0) pthread_cond_wait(&l->ready, &l->lock);
        if (t->error.status != RT_OK) {
            st = rt_error_restore(&t->error);
            if (st == RT_ERR_FORMAT)
                st = rt_error_fix(st, "repair or remove that file, or set the bad-sample policy to skip");
        } else {
            *s = t;
            *n = batch_size(l, l->given++);
        }
    }
    pthread_mutex_unlock(&l->lock);
    return st;
}

rt_status rt_loader_next(rt_loader *l, rt_loader_batch *out)
{
    rt_status st = RT_OK;
    slot *s = NULL;
    int64_t n = 0, kept = 0;
    do {
        RT_TRY(take(l, &s, &n));
        if (!s) {
            *out = (rt_loader_batch){0};
            goto out;
        }
        RT_TRY(drop_bad(l, s, n, &kept));
    } while (kept == 0); /* a batch of bad samples only */
    *out = (rt_loader_batch){.n = kept, .label = s->label, .index = s->index};
    if (l->o.as_float)
        out->f32 = s->px;
    else
        out->u8 = s->px;
out:
    return st;
}

int64_t rt_loader_batches(const rt_loader *l)
{
    return l->n_batches;
}

size_t rt_loader_bytes(const rt_loader_options *o)
{
    size_t picture = (size_t)o->preset.size * (size_t)o->preset.size * 3 * (o->as_float ? sizeof(float) : 1);
    return ((size_t)o->batches_ahead + 2) * (size_t)o->batch * (picture + sizeof(int32_t) + sizeof(int64_t));
}

/* --- birth and death ---------------------------------------------------------------------------------------------- */
static rt_status check_options(const rt_loader_options *o)
{
    const rt_preset *p = &o->preset;
    if (o->batch < 1 || o->batch > INT32_MAX || o->threads < 1 || o->threads > MAX_THREADS || o->batches_ahead < 0 ||
        o->batches_ahead > MAX_AHEAD)
        return RT_RAISE(RT_ERR_CONFIG, "loader: batch %lld, %d threads, %d batches ahead", (long long)o->batch,
                        o->threads, o->batches_ahead);
    if (p->size < 1 || p->size > 4096 || (!o->view.rrc && p->resize && (p->resize < p->size || p->resize > 65536)))
        return RT_RAISE(RT_ERR_CONFIG, "preset: size %d, shorter side %d", p->size, p->resize);
    if (o->view.shuffle) return RT_RAISE(RT_ERR_UNSUPPORTED, "loader: patches are shuffled in resident images only");
    return rt_view_check(&o->view);
}

static rt_status slots_create(rt_loader *l)
{
    rt_status st = RT_OK;
    size_t batch = (size_t)l->o.batch, bytes = batch * l->pixels * (l->o.as_float ? sizeof(float) : 1);
    l->n_ring = l->o.batches_ahead + 2;
    RT_ALLOC(l->ring, (size_t)l->n_ring * sizeof *l->ring, "loader ring");
    for (int32_t k = 0; k < l->n_ring; k++) {
        slot *s = &l->ring[k];
        if (!(s->px = rt_malloc(bytes))) {
            st = RT_RAISE(RT_ERR_NOMEM, "no memory for a loader ring of %zu bytes", rt_loader_bytes(&l->o));
            st = rt_error_fix(st, "fewer batches ahead or a smaller batch need less");
            goto out;
        }
        RT_ALLOC(s->label, batch * sizeof *s->label, "loader ring");
        RT_ALLOC(s->index, batch * sizeof *s->index, "loader ring");
        if (l->skip) RT_ALLOC(s->bad, batch * sizeof *s->bad, "loader ring");
    }
out:
    return st;
}

static rt_status workers_create(rt_loader *l)
{
    rt_status st = RT_OK;
    RT_ALLOC(l->worker, (size_t)l->o.threads * sizeof *l->worker, "loader threads");
    l->n_workers = l->o.threads;
    for (int32_t k = 0; k < l->n_workers; k++) {
        worker *w = &l->worker[k];
        w->l = l;
        RT_ALLOC(w->pixels, l->pixels, "loader thread");
        RT_ALLOC(w->shifted, l->pixels, "loader thread");
    }
    for (int32_t k = 0; k < l->n_workers; k++) {
        int e = pthread_create(&l->worker[k].thread, NULL, work, &l->worker[k]);
        if (e) {
            st = RT_RAISE(RT_ERR_NOMEM, "loader thread %d of %d does not start: %s", k + 1, l->n_workers, strerror(e));
            goto out;
        }
        l->worker[k].running = true;
    }
out:
    return st;
}

rt_status rt_loader_create(const rt_dataset *d, const rt_loader_options *o, rt_bad_list *bad, rt_loader **out)
{
    rt_status st = RT_OK;
    rt_loader *l = NULL;
    RT_TRY(check_options(o));
    RT_ALLOC(l, sizeof *l, "loader");
    l->d = d;
    l->o = *o;
    l->bad = bad;
    l->skip = bad && bad->policy == RT_BAD_SKIP;
    l->warnings_are_bad = bad ? bad->warnings_are_bad : true;
    l->pixels = (size_t)o->preset.size * (size_t)o->preset.size * 3;
    l->n_batches = o->drop_last ? d->n / o->batch : (d->n + o->batch - 1) / o->batch;
    if (o->as_float) RT_TRY(rt_normalise_table(&o->normalise, l->table));
    if (l->skip) RT_ALLOC(l->listed, (size_t)d->n, "loader");
    RT_ALLOC(l->order, (size_t)d->n * sizeof *l->order, "epoch order");
    for (int64_t i = 0; i < d->n; i++) l->order[i] = i;
    RT_TRY(slots_create(l));
    if (pthread_mutex_init(&l->lock, NULL) || pthread_cond_init(&l->work, NULL) || pthread_cond_init(&l->ready, NULL)) {
        st = RT_RAISE(RT_ERR_NOMEM, "loader: no lock");
        goto out;
    }
    l->have_lock = true;
    RT_TRY(workers_create(l));
    *out = l;
    l = NULL;
out:
    rt_loader_destroy(l);
    return st;
}

void rt_loader_destroy(rt_loader *l)
{
    if (!l) return;
    if (l->have_lock) {
        pthread_mutex_lock(&l->lock);
        l->quit = true;
        pthread_cond_broadcast(&l->work);
        pthread_mutex_unlock(&l->lock);
    }
    for (int32_t k = 0; l->worker && k < l->n_workers; k++) {
        if (l->worker[k].running) pthread_join(l->worker[k].thread, NULL);
        rt_free(l->worker[k].pixels);
        rt_free(l->worker[k].shifted);
    }
    rt_free(l->worker);
    if (l->have_lock) {
        pthread_cond_destroy(&l->ready);
        pthread_cond_destroy(&l->work);
        pthread_mutex_destroy(&l->lock);
    }
    for (int32_t k = 0; l->ring && k < l->n_ring; k++) {
        slot *s = &l->ring[k];
        for (int64_t b = 0; s->bad && b < l->o.batch; b++) rt_free(s->bad[b]);
        rt_free(s->bad);
        rt_free(s->px);
        rt_free(s->label);
        rt_free(s->index);
    }
    rt_free(l->ring);
    rt_free(l->order);
    rt_free(l->listed);
    rt_free(l);
}
