/* Data sets: where images come from, which class each belongs to, and how they reach a batch.
 *
 *   rt_dataset  an index over encoded samples: (shard, offset, length) + label + key. Cheap; holds no pixels.
 *   rt_images   decoded uint8 NHWC pixels of one size, resident in memory. What CIFAR, small ImageNet subsets and every
 *               condensed set become.
 *   rt_loader   a stream of batches in a planned epoch order; from rt_images or straight from a rt_dataset.
 *
 * Class identity travels with all three: an ordered class list and its hash (DESIGN 2.11).
 */
#ifndef RT_DATA_DATA_H
#define RT_DATA_DATA_H

#include <stdbool.h>
#include <stdint.h>

#include "base/hash.h"
#include "retort/exec.h"
#include "retort/status.h"

/* --- classes ----------------------------------------------------------------------------------------------------- */
typedef struct rt_classes {
    int32_t n;
    char **name;            /* n owned strings; position is the label */
    char hash[RT_HASH_HEX]; /* SHA-256 of the names, each followed by '\n' */
} rt_classes;
rt_status rt_classes_make(const char *const *names, int32_t n,
                          rt_classes *out);                   /* copies; duplicate or empty names fail */
rt_status rt_classes_read(const char *path, rt_classes *out); /* one name a line */
rt_status rt_classes_copy(const rt_classes *in, rt_classes *out);
void rt_classes_fini(rt_classes *c);
/* RT_OK or RT_ERR_FORMAT naming the first differing classes and how many of n differ. a_name, b_name: what holds them.
 */
rt_status rt_classes_check(const rt_classes *a, const char *a_name, const rt_classes *b, const char *b_name);

/* --- policy for samples that cannot be decoded -------------------------------------------------------------------- */
typedef enum rt_bad_policy { RT_BAD_FAIL = 0, RT_BAD_SKIP = 1 } rt_bad_policy;
typedef struct rt_bad_sample {
    char *key, *reason;
} rt_bad_sample;
typedef struct rt_bad_list {
    rt_bad_policy policy;
    double max_fraction;   /* of the samples tried; more is an error even under SKIP */
    bool warnings_are_bad; /* libjpeg warnings (truncated data) count as bad */
    rt_bad_sample *item;
    int64_t n, cap;
} rt_bad_list;
/* Nothing is skipped, warnings are bad, at most 1 in 10,000 once the policy is set to SKIP. */
void rt_bad_list_init(rt_bad_list *b);
/* Appends a copy of key and reason. */
rt_status rt_bad_list_add(rt_bad_list *b, const char *key, const char *reason);
/* RT_ERR_FORMAT naming the first bad sample when more than max_fraction of `tried` are listed. */
rt_status rt_bad_list_check(const rt_bad_list *b, int64_t tried);
void rt_bad_list_fini(rt_bad_list *b);

/* --- data set ---------------------------------------------------------------------------------------------------- */
typedef struct rt_dataset rt_dataset;
typedef struct rt_data_source {
    const char *kind;    /* "imagefolder" | "wds" | "cifar10" | "cifar100" */
    const char *path;    /* folder, shard pattern with {a..b}, or folder/file prefix of CIFAR binaries; comma list */
    const char *split;   /* "train" | "test" for CIFAR; else ignored */
    const char *classes; /* class list file; NULL: folder names / CIFAR's own (a wds source then is an error);
                            "numbered" or "numbered:N": the classes of a wds source are "0".."N-1" */
    bool listed_only;    /* imagefolder with a class list: folders that it does not name are left out (ImageNet-100 out of ImageNet) */
    const char *keys;    /* CIFAR: optional file with one key a line (may be .xz) */
    const char *cache;   /* where wds index files go when the shard's folder is read-only; NULL: not stored */
} rt_data_source;

rt_status rt_dataset_open(const rt_data_source *src, rt_dataset **out);
void rt_dataset_close(rt_dataset *d);
int64_t rt_dataset_count(const rt_dataset *d);
const rt_classes *rt_dataset_classes(const rt_dataset *d);
int32_t rt_dataset_label(const rt_dataset *d, int64_t i);
const char *rt_dataset_key(const rt_dataset *d, int64_t i); /* borrowed */
const char *rt_dataset_hash(const rt_dataset *d);           /* identity: source kind, keys, labels, sizes, classes */
/* Encoded bytes (or raw CIFAR record pixels as decoded RGB): owned by the caller. Thread safe. */
rt_status rt_dataset_read(const rt_dataset *d, int64_t i, void **bytes, size_t *n);
/* Side of the raw RGB squares that rt_dataset_read gives (CIFAR: 32), 0 when samples are encoded. */
int32_t rt_dataset_raw_side(const rt_dataset *d);

/* --- pixels ------------------------------------------------------------------------------------------------------ */
typedef struct rt_image {
    int32_t h, w; /* always 3 channels, RGB, interleaved, rows contiguous */
    uint8_t *px;  /* owned */
} rt_image;
void rt_image_fini(rt_image *im);
/* JPEG or PNG by magic bytes; CMYK as Pillow, grayscale replicated, EXIF orientation ignored; at most 64 Mpixel and
 * 100 scans. n_warnings may be NULL. Decodes like Pillow: accurate integer IDCT, fancy upsampling. */
rt_status rt_decode(const void *bytes, size_t n, const char *name, rt_image *out, int *n_warnings);
typedef enum rt_filter { RT_BILINEAR = 1, RT_BICUBIC = 2 } rt_filter;
/* Pillow's antialiased two-pass resize of the source box [x0,x0+bw) x [y0,y0+bh), bit for bit. */
rt_status rt_resize(const rt_image *in, int x0, int y0, int bw, int bh, int h_out, int w_out, rt_filter f,
                    uint8_t *out);
/* Crop, then resize (torchvision's resized_crop): like rt_resize, but no tap reads outside the box. */
rt_status rt_crop_resize(const rt_image *in, int x0, int y0, int bw, int bh, int h_out, int w_out, rt_filter f,
                         uint8_t *out);
rt_status rt_png_encode(const uint8_t *rgb, int32_t h, int32_t w, void **bytes, size_t *n); /* owned, deterministic */
rt_status rt_jpeg_encode(const uint8_t *rgb, int32_t h, int32_t w, int quality, void **bytes, size_t *n); /* owned */

/* How an encoded image becomes size x size pixels. */
typedef struct rt_preset {
    int32_t size;   /* output side */
    int32_t resize; /* shorter side before the centre crop; 0: squash both sides straight to size */
    rt_filter filter;
} rt_preset;
/* Resize and centre crop as torchvision does on Pillow images: long side = int(resize * long / short), crop offset
 * (side - size) / 2 rounded half to even. out: size * size * 3. */
rt_status rt_preset_apply(const rt_preset *p, const rt_image *in, uint8_t *out);
/* Bytes that rt_images_load would keep for n samples: pixels, labels, keys' pointers. For choosing between residency
 * and streaming against a budget. */
size_t rt_images_bytes(int64_t n, int32_t h, int32_t w);

typedef struct rt_images {
    int64_t n;
    int32_t h, w;
    uint8_t *px;    /* n * h * w * 3 */
    int32_t *label; /* n */
    char **key;     /* n */
    rt_classes classes;
    /* Whitened (rt_zca_attach): batches are made of `white` instead of px and normalisation, which then is ignored. */
    float *white;             /* n * h * w * 3, or NULL */
    const struct rt_zca *zca; /* borrowed */
} rt_images;
/* Decodes the whole set with `threads` threads into memory; order = data set order whatever the thread count. Samples
 * refused under SKIP are left out and listed in bad. */
rt_status rt_images_load(const rt_dataset *d, const rt_preset *p, int threads, rt_bad_list *bad, rt_images *out);
rt_status rt_images_subset(const rt_images *in, const int64_t *idx, int64_t n, rt_images *out);
void rt_images_fini(rt_images *im);
/* Per-class index lists: idx (owned, n entries) grouped by class in ascending order, start has classes.n + 1 entries.
 */
rt_status rt_images_by_class(const rt_images *im, int64_t **idx, int64_t **start);

/* --- batches ----------------------------------------------------------------------------------------------------- */
typedef struct rt_normalise {
    float mean[3], std[3]; /* of pixels in [0,1] */
} rt_normalise;
/* Random view of one sample, drawn by counter (seed, epoch-wide step, place): replays on any thread count. */
typedef struct rt_view {
    bool rrc, flip;           /* random resized crop; horizontal flip with probability 0.5 */
    bool shuffle;             /* with rrc, before it: halves of the columns swap, and of the rows, by two coins (RDED's 2x2 shuffle) */
    int32_t pad_crop;         /* > 0: zero-pad by this and crop back at a random offset (classic CIFAR) */
    float scale[2], ratio[2]; /* of rrc: share of the area, width / height */
} rt_view;
/* What one draw came to: the box of the source that is shown, in source pixels; it may stick out under pad_crop. The source is
 * read as if it began at (roll_y, roll_x) and went round: half of a side where a shuffle swaps the halves, else 0. */
typedef struct rt_view_box {
    int32_t x0, y0, w, h, roll_y, roll_x;
    bool flip;
} rt_view_box;
/* The draw for a source of h x w: purpose RT_RNG_AUGMENT at (seed, step, sample). Slot 0 holds {flip, y, x, coins} of flip,
 * pad_crop and shuffle, slot 1 + t holds {area, log ratio, y, x} of the t-th try of the random resized crop. */
rt_status rt_view_draw(const rt_view *view, int32_t h, int32_t w, uint64_t seed, uint64_t step, uint32_t sample,
                       rt_view_box *out);
/* out[b] = normalised float NHWC of image idx[b] under its view; view NULL: as is. (seed, step) key the draws. Whitened images
 * are shifted and mirrored as they are (what lies outside is 0, the mean) and whitened after a random resized crop. */
rt_status rt_batch_fill(const rt_images *im, const int64_t *idx, int64_t batch, const rt_normalise *nm,
                        const rt_view *view, uint64_t seed, uint64_t step, int threads, float *out);
/* The same where the arithmetic runs: the images lie in the backend's memory, a batch costs its plan. Backends without a kernel for it
 * are given rt_batch_fill's. Borrows be and im until close. */
typedef struct rt_resident rt_resident;
rt_status rt_resident_open(rt_backend *be, const rt_images *im, rt_resident **out);
/* x [batch,h,w,3] of that backend gets what rt_batch_fill would write, to the bit. partner (with cut), or NULL: CutMix, place b shows place
 * partner[b] in rows [cut[0], cut[1]) and columns [cut[2], cut[3]). */
rt_status rt_resident_fill(rt_resident *r, const int64_t *idx, int64_t batch, const rt_normalise *nm, const rt_view *view, uint64_t seed,
                           uint64_t step, const int64_t *partner, const int32_t *cut, int threads, rt_tensor *x);
void rt_resident_close(rt_resident *r); /* accepts NULL */
/* Whether be makes batches of im itself and im takes at most half of the memory that be has free, which leaves room for whatever comes
 * later. The two halves of rt_resident_fill are for such images only: a batch is drawn in parts, each at its first place and with its
 * own seed (partners and places count from there), then made at once into x, of as many places. resize: the views were rrc. */
bool rt_resident_fits(rt_backend *be, const rt_images *im);
rt_status rt_resident_draw(rt_resident *r, int64_t first, const int64_t *idx, int64_t n, const rt_view *view, uint64_t seed, uint64_t step,
                           const int64_t *partner, const int32_t *cut);
rt_status rt_resident_make(rt_resident *r, const rt_normalise *nm, bool resize, rt_tensor *x);
/* Epoch permutation: a pure function of (seed, epoch, n). */
void rt_epoch_order(uint64_t seed, uint64_t epoch, int64_t n, int64_t *order);

/* --- streaming --------------------------------------------------------------------------------------------------- */
/* For what does not fit in memory: threads decode ahead, in the planned order, into a ring of slots booked at creation.
 */
typedef struct rt_loader rt_loader;
typedef struct rt_loader_options {
    int64_t batch;         /* samples a batch */
    int32_t threads;       /* decoding threads, >= 1 */
    int32_t batches_ahead; /* >= 0; the ring has two slots more: one with the caller, one being filled */
    bool shuffle;          /* false: data set order */
    bool drop_last;        /* leave out a last batch that is not full */
    uint64_t seed;         /* of order and views */
    rt_preset preset;      /* size is the output side; resize and filter hold when view.rrc is false */
    rt_view view;          /* rrc: cropped out of the file, bilinear; pad_crop, flip: of the preset's output */
    bool as_float;         /* normalised float instead of uint8 */
    rt_normalise normalise;
} rt_loader_options;
typedef struct rt_loader_batch {
    int64_t n;         /* 0: the epoch is over */
    const uint8_t *u8; /* n * size * size * 3, NHWC; NULL when as_float */
    const float *f32;  /* the same in float; NULL otherwise */
    const int32_t *label;
    const int64_t *index; /* in the data set */
} rt_loader_batch;
/* Borrows d and bad until destroy. bad NULL: any bad sample fails. */
rt_status rt_loader_create(const rt_dataset *d, const rt_loader_options *o, rt_bad_list *bad, rt_loader **out);
/* Plans the epoch and starts decoding at its batch `first` (> 0 resumes in the middle). May be called at any time. */
rt_status rt_loader_start(rt_loader *l, uint64_t epoch, int64_t first);
/* The next batch, borrowed until the following call. Bytes depend on (seed, epoch, batch) alone, not on threads. A bad
 * sample under FAIL is reported with its batch, and then by every call until the next start; under SKIP it is listed
 * once and the batch is smaller. */
rt_status rt_loader_next(rt_loader *l, rt_loader_batch *out);
int64_t rt_loader_batches(const rt_loader *l);      /* in an epoch */
size_t rt_loader_bytes(const rt_loader_options *o); /* of the ring; what creation books */
void rt_loader_destroy(rt_loader *l);

#endif
