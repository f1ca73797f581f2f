/* CIFAR-10 and CIFAR-100 in their binary layout (Krizhevsky 2009): a record is the label byte (CIFAR-100: coarse label,
 * then fine label; the fine one is used), then 1,024 red, 1,024 green and 1,024 blue bytes, row by row.
 *
 * Files carry the official names (data_batch_1..5.bin, test_batch.bin; train.bin, test.bin), alone or after a prefix
 * that ends in '-' or '_', plain or with ".xz" appended. Whether a file is compressed is decided by its first bytes.
 * Pixels are unpacked once into RGB interleaved order and stay in memory: 154 MB for the train split. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "data/internal.h"

enum { SIDE = 32, PLANE = SIDE * SIDE, PIXELS = 3 * PLANE, PATH_BYTES = 4096, FILE_CAP = 1 << 29, MAX_FILES = 64 };

static const char *const cifar10_names[10] = {"airplane", "automobile", "bird",  "cat",  "deer",
                                              "dog",      "frog",       "horse", "ship", "truck"};
static const char *const cifar100_names[100] = {
    "apple",      "aquarium_fish", "baby",         "bear",       "beaver",      "bed",         "bee",
    "beetle",     "bicycle",       "bottle",       "bowl",       "boy",         "bridge",      "bus",
    "butterfly",  "camel",         "can",          "castle",     "caterpillar", "cattle",      "chair",
    "chimpanzee", "clock",         "cloud",        "cockroach",  "couch",       "crab",        "crocodile",
    "cup",        "dinosaur",      "dolphin",      "elephant",   "flatfish",    "forest",      "fox",
    "girl",       "hamster",       "house",        "kangaroo",   "keyboard",    "lamp",        "lawn_mower",
    "leopard",    "lion",          "lizard",       "lobster",    "man",         "maple_tree",  "motorcycle",
    "mountain",   "mouse",         "mushroom",     "oak_tree",   "orange",      "orchid",      "otter",
    "palm_tree",  "pear",          "pickup_truck", "pine_tree",  "plain",       "plate",       "poppy",
    "porcupine",  "possum",        "rabbit",       "raccoon",    "ray",         "road",        "rocket",
    "rose",       "sea",           "seal",         "shark",      "shrew",       "skunk",       "skyscraper",
    "snail",      "snake",         "spider",       "squirrel",   "streetcar",   "sunflower",   "sweet_pepper",
    "table",      "tank",          "telephone",    "television", "tiger",       "tractor",     "train",
    "trout",      "tulip",         "turtle",       "wardrobe",   "whale",       "willow_tree", "wolf",
    "woman",      "worm"};

typedef struct part {
    char path[PATH_BYTES];
    uint8_t *bytes; /* unpacked records */
    size_t n;
    rt_error_chain error;
} part;

/* Does name equal base or end in -base or _base? */
static bool names_base(const char *name, const char *base)
{
    size_t ln = strlen(name), lb = strlen(base);
    if (ln < lb || strcmp(name + ln - lb, base)) return false;
    return ln == lb || name[ln - lb - 1] == '-' || name[ln - lb - 1] == '_';
}

static rt_status find_in_folder(const char *dir, char *const *names, size_t n, const char *base, part *p)
{
    char want[64];
    for (int packed = 0; packed < 2; packed++) {
        const char *found = NULL;
        snprintf(want, sizeof want, "%s%s", base, packed ? ".xz" : "");
        for (size_t i = 0; i < n; i++) {
            if (!names_base(names[i], want)) continue;
            if (found) {
                rt_status st = RT_RAISE(RT_ERR_CONFIG, "%s holds both %s and %s", dir, found, names[i]);
                return rt_error_fix(st, "name the files' common prefix instead of the folder");
            }
            found = names[i];
        }
        if (found) return rt_fs_join(p->path, sizeof p->path, dir, found);
    }
    rt_status st = RT_RAISE(RT_ERR_MISSING, "%s: no file named %s, %s.xz or with a prefix before it", dir, base, base);
    return rt_error_fix(st, "point the data path at the folder of the CIFAR binary files");
}

static rt_status find_by_prefix(const char *prefix, const char *base, part *p)
{
    for (int packed = 0; packed < 2; packed++) {
        if ((size_t)snprintf(p->path, sizeof p->path, "%s%s%s", prefix, base, packed ? ".xz" : "") >= sizeof p->path)
            return RT_RAISE(RT_ERR_CONFIG, "%s: path too long", prefix);
        if (rt_fs_size(p->path) >= 0) return RT_OK;
    }
    return RT_RAISE(RT_ERR_MISSING, "%s%s: no such file, nor with .xz", prefix, base);
}

/* Fills the paths of the split's files: from a folder, a file-name prefix, or a comma list of files. */
static rt_status find_parts(const rt_data_source *src, int n_classes, part *p, int *n_parts)
{
    static const char *const base[4][5] = {
        {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"},
        {"test_batch.bin"},
        {"train.bin"},
        {"test.bin"}};
    rt_status st = RT_OK;
    char **names = NULL;
    size_t n = 0;
    int row = n_classes == 10 ? 0 : 2;
    const char *split = src->split ? src->split : "train";
    if (!strcmp(split, "test"))
        row++;
    else if (strcmp(split, "train"))
        return RT_RAISE(RT_ERR_CONFIG, "split '%s' of %s: either train or test", split, src->kind);
    int count = row == 0 ? 5 : 1;

    if (rt_fs_is_dir(src->path)) {
        RT_TRY(rt_fs_list(src->path, &names, &n));
        for (int i = 0; i < count; i++) RT_TRY(find_in_folder(src->path, names, n, base[row][i], &p[i]));
    } else if (strchr(src->path, ',') || rt_fs_size(src->path) >= 0) {
        RT_TRY(rt_expand_pattern(src->path, &names, &n));
        if (n > MAX_FILES) {
            st = RT_RAISE(RT_ERR_CONFIG, "%zu CIFAR files, at most %d", n, MAX_FILES);
            goto out;
        }
        for (count = 0; count < (int)n; count++) RT_TRY(rt_fs_join(p[count].path, PATH_BYTES, "", names[count]));
    } else {
        for (int i = 0; i < count; i++) RT_TRY(find_by_prefix(src->path, base[row][i], &p[i]));
    }
    *n_parts = count;
out:
    if (names) rt_fs_list_free(names, n);
    return st;
}

static rt_status read_part(part *p, size_t record)
{
    void *bytes = NULL;
    rt_status st = rt_read_maybe_xz(p->path, FILE_CAP, &bytes, &p->n);
    if (st != RT_OK) return st;
    p->bytes = bytes;
    if (p->n == 0 || p->n % record)
        return RT_RAISE(RT_ERR_FORMAT, "%s: %zu bytes are not a whole number of %zu-byte CIFAR records", p->path, p->n,
                        record);
    return RT_OK;
}

/* Unpacking is most of the opening time, so files go in parallel; the first file's error wins. */
static rt_status read_parts(part *p, int n, size_t record)
{
#pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < n; i++)
        if (read_part(&p[i], record) != RT_OK) rt_error_save(&p[i].error);
    for (int i = 0; i < n; i++)
        if (p[i].error.status != RT_OK) return rt_error_restore(&p[i].error);
    return RT_OK;
}

static rt_status add_record(rt_dataset *d, const char *path, const uint8_t *rec, int n_classes, const char *key,
                            int64_t place)
{
    int32_t label = n_classes == 10 ? rec[0] : rec[1];
    if (label >= n_classes)
        return RT_RAISE(RT_ERR_FORMAT, "%s: record %lld has label %d, at most %d", path, (long long)place, label,
                        n_classes - 1);
    const uint8_t *plane = rec + (n_classes == 10 ? 1 : 2);
    uint8_t *px = d->raw + d->n * PIXELS;
    for (int i = 0; i < PLANE; i++) {
        px[3 * i] = plane[i];
        px[3 * i + 1] = plane[PLANE + i];
        px[3 * i + 2] = plane[2 * PLANE + i];
    }
    return rt_index_add(d, key, strlen(key), label, 0, (uint64_t)d->n * PIXELS, PIXELS);
}

static rt_status add_records(const rt_data_source *src, const part *p, int n_parts, int n_classes, rt_dataset *d)
{
    rt_status st = RT_OK;
    void *text = NULL;
    char **line = NULL, made[64];
    size_t text_n = 0, record = PIXELS + (n_classes == 10 ? 1 : 2);
    int64_t n_keys = 0, total = 0;
    for (int i = 0; i < n_parts; i++) total += (int64_t)(p[i].n / record);
    if (src->keys && src->keys[0]) {
        RT_TRYF(rt_read_maybe_xz(src->keys, RT_LIST_MAX_BYTES, &text, &text_n), "key list");
        RT_TRYF(rt_split_lines(src->keys, text, text_n, &line, &n_keys), "key list");
        if (n_keys != total) {
            st = RT_RAISE(RT_ERR_FORMAT, "%s: %lld keys for %lld records", src->keys, (long long)n_keys,
                          (long long)total);
            goto out;
        }
    }
    RT_ALLOC(d->raw, (size_t)total * PIXELS, "CIFAR pixels");
    d->raw_side = SIDE;
    for (int i = 0; i < n_parts; i++)
        for (size_t r = 0; r < p[i].n / record; r++) {
            snprintf(made, sizeof made, "%s-%05lld", src->split ? src->split : "train", (long long)d->n);
            RT_TRY(add_record(d, p[i].path, p[i].bytes + r * record, n_classes, line ? line[d->n] : made, (int64_t)r));
        }
out:
    rt_free(line);
    rt_free(text);
    return st;
}

rt_status rt_open_cifar(const rt_data_source *src, int n_classes, rt_dataset *d)
{
    rt_status st = RT_OK;
    part *p = NULL;
    int n_parts = 0;
    RT_ALLOC(p, MAX_FILES * sizeof *p, "CIFAR files");
    RT_TRY(find_parts(src, n_classes, p, &n_parts));
    if (src->classes && src->classes[0]) {
        RT_TRY(rt_classes_read(src->classes, &d->classes));
        if (d->classes.n != n_classes) {
            st = RT_RAISE(RT_ERR_FORMAT, "%s: %d classes, %s has %d", src->classes, d->classes.n, src->kind, n_classes);
            goto out;
        }
    } else {
        RT_TRY(rt_classes_make(n_classes == 10 ? cifar10_names : cifar100_names, n_classes, &d->classes));
    }
    RT_TRY(read_parts(p, n_parts, PIXELS + (n_classes == 10 ? 1u : 2u)));
    RT_TRY(add_records(src, p, n_parts, n_classes, d));
out:
    if (p)
        for (int i = 0; i < MAX_FILES; i++) rt_free(p[i].bytes);
    rt_free(p);
    return st;
}
