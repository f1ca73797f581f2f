/* The inside of src/data: the data set's index as its readers (imagefolder, tar, cifar) fill it, and the decode and
 * resize cores behind the public calls. Not for anyone else.
 *
 * A data set is one flat array of entries in data-set order plus one pool of key bytes: 1.3 million ImageNet samples
 * cost 32 bytes each and their keys. Samples are read by (file, offset, length) with pread, so threads share nothing.
 */
#ifndef RT_DATA_INTERNAL_H
#define RT_DATA_INTERNAL_H

#include "data/data.h"

enum {
    RT_SAMPLE_MAX_BYTES = 256 << 20, /* one encoded image */
    RT_LIST_MAX_BYTES = 256 << 20,   /* a class or key list */
    RT_CLASSES_MAX = 1000000,
    RT_FILES_KEPT_OPEN = 256
};

typedef struct rt_entry {
    uint64_t off, len; /* in the file; CIFAR: in raw */
    uint64_t key;      /* offset of a NUL-terminated string in keys */
    int32_t label, file;
} rt_entry;

struct rt_dataset {
    char *kind;
    rt_classes classes;
    rt_entry *entry;
    int64_t n, cap;
    char *keys;
    size_t keys_len, keys_cap;
    char **file; /* n_files paths */
    int *fd;     /* n_files descriptors opened on first use, -1 when closed; accessed atomically */
    int32_t n_files, files_cap;
    uint8_t *raw; /* CIFAR: n * raw_side^2 * 3, RGB interleaved */
    int32_t raw_side;
    int n_open; /* accessed atomically */
    char hash[RT_HASH_HEX];
};

rt_status rt_index_add_file(rt_dataset *d, const char *path, int32_t *file);
rt_status rt_index_add(rt_dataset *d, const char *key, size_t key_len, int32_t label, int32_t file, uint64_t off,
                       uint64_t len);

/* Readers: fill entries, files and classes of an empty data set. */
rt_status rt_open_imagefolder(const rt_data_source *src, rt_dataset *d);
rt_status rt_open_wds(const rt_data_source *src, rt_dataset *d);
rt_status rt_open_cifar(const rt_data_source *src, int n_classes, rt_dataset *d);

/* Whole file, unpacked when it starts with the xz magic. cap bounds what comes out. *data is owned, NUL-terminated. */
rt_status rt_read_maybe_xz(const char *path, size_t cap, void **data, size_t *n);
/* Splits text into lines in place (LF or CRLF; a final newline is optional). An empty line or a NUL is RT_ERR_FORMAT.
 * *line is owned by the caller (rt_free) and points into text. */
rt_status rt_split_lines(const char *path, char *text, size_t n, char ***line, int64_t *n_lines);

/* Comma list with {000..146} ranges and {a,b} alternatives, expanded in order. Release with rt_fs_list_free. */
rt_status rt_expand_pattern(const char *pattern, char ***names, size_t *n);

/* The members of one tar shard: regular files only, in archive order. */
typedef struct rt_member {
    uint64_t off, len; /* of the content, in the tar file */
    size_t name;       /* offset of a NUL-terminated path in names */
} rt_member;
typedef struct rt_member_list {
    rt_member *item;
    size_t n, cap;
    char *names;
    size_t names_len, names_cap;
} rt_member_list;
rt_status rt_member_add(rt_member_list *m, const char *name, uint64_t off, uint64_t len);
void rt_member_list_fini(rt_member_list *m);
/* Splits a WebDataset name into key and field at the first dot of the base name. false: not part of a sample (no dot,
 * hidden file, top-level name that starts with "__"). *field points into name. */
bool rt_member_split(const char *name, size_t *key_len, const char **field);
/* RT_ERR_FORMAT when a member's path is absolute or climbs out with "..". */
rt_status rt_member_check_name(const char *tar, const char *name);
/* Walks the archive once. Nothing is extracted; hostile or damaged archives are RT_ERR_FORMAT naming the member. */
rt_status rt_tar_scan(const char *path, rt_member_list *m);
/* The members from an index file that belongs to the tar as it is now, else by a scan, which then writes the index file
 * beside the tar, or into cache when that folder is read-only. */
rt_status rt_tar_members(const char *path, const char *cache, rt_member_list *m);

/* A box of pixels [x0, x0 + w) x [y0, y0 + h). */
typedef struct rt_span {
    int32_t x0, y0, w, h;
} rt_span;

/* Decoders behind rt_decode. */
bool rt_is_jpeg(const void *bytes, size_t n);
rt_status rt_jpeg_size(const void *bytes, size_t n, const char *name, int32_t *h, int32_t *w);
rt_status rt_jpeg_decode(const void *bytes, size_t n, const char *name, rt_image *out, int *n_warnings);
/* Decodes little more than the region: out holds its rows, and its columns from *x0 on, equal byte for byte to those of
 * a whole decode; columns beside them may differ. Damage elsewhere in the file may go unseen. */
rt_status rt_jpeg_decode_around(const void *bytes, size_t n, const char *name, const rt_span *region, rt_image *out,
                                int32_t *x0, int *n_warnings);
rt_status rt_png_decode(const void *bytes, size_t n, const char *name, rt_image *out);
/* Any sample of a data set as pixels, encoded or not. */
rt_status rt_dataset_decode(const rt_dataset *d, int64_t i, rt_image *out, int *n_warnings);

/* RGB pixels px (h x w, rows `stride` bytes apart): the box is resized to h_out x w_out, of which only `window` (NULL:
 * all) is computed and written, rows contiguous. Taps may read outside the box but not outside h x w (Pillow's box=).
 */
rt_status rt_resize_window(const uint8_t *px, size_t stride, int32_t h, int32_t w, const rt_span *box, int32_t h_out,
                           int32_t w_out, rt_filter f, const rt_span *window, uint8_t *out);

rt_status rt_view_check(const rt_view *v);
/* out[y][x] = px[y + y0][x + x0], black outside: pad and crop. */
void rt_pixels_shift(const uint8_t *px, int32_t h, int32_t w, int32_t y0, int32_t x0, uint8_t *out);
/* out[y][x] = px[(y + roll_y) mod h][(x + roll_x) mod w], 0 <= roll < side. */
void rt_pixels_roll(const uint8_t *px, int32_t h, int32_t w, int32_t roll_y, int32_t roll_x, uint8_t *out);
/* (v / 255 - mean) / std for each byte and channel; nm NULL: v / 255. RT_ERR_ARG when a std is not positive. */
rt_status rt_normalise_table(const rt_normalise *nm, float table[256][3]);
void rt_normalise_row(float (*table)[3], const uint8_t *px, int32_t w, bool flip, float *out);

#endif
