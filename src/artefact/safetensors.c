/* safetensors: u64 little-endian header length N, N bytes of JSON, then one byte buffer to the end of the file.
 *
 * The reader trusts nothing. Before the JSON parser sees the header a scan bounds its depth and its number of values, so
 * that a hostile 100 MB header cannot be amplified; then every rule of the format is checked: first byte '{', only spaces
 * after the object, no duplicate keys, integers without sign, fraction or exponent, offsets that tile the buffer exactly
 * (no hole, overlap or trailing byte), shape products without overflow. Stricter than the reference in two points: a
 * tensor entry holds exactly dtype, shape and data_offsets, and only 0x20 may follow the header's object.
 *
 * The writer emits the reference's canonical form: tensors by descending dtype rank, then name; compact JSON; header
 * padded with spaces to a multiple of 8. Same tensors, same bytes. */
#include "artefact/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "artefact/internal.h"
#include "base/alloc.h"
#include "base/fs.h"

enum {
    HEADER_MAX = 100000000,
    TENSORS_MAX = 1 << 16,
    VALUES_MAX = TENSORS_MAX * 16, /* dtype, two offsets, up to 8 dims, with room for metadata */
    DEPTH_MAX = 3                  /* { tensor { shape [ */
};
#define INTEGER_MAX ((1LL << 48) - 1) /* of the format's JSON schema */

struct rt_st_file {
    json_t *header;      /* owns names and metadata strings */
    unsigned char *data; /* the byte buffer */
    rt_st_tensor *tensor;
    int64_t n;
};

/* Types of the format in the reference's rank order. bytes 0: part of the format, not read here. */
static const struct {
    const char *name;
    int bytes;
    rt_st_dtype dtype;
} dtypes[] = {
    {"BOOL", 0, 0},    {"F4", 0, 0},      {"F6_E2M3", 0, 0},     {"F6_E3M2", 0, 0},     {"U8", 1, RT_ST_U8},
    {"I8", 0, 0},      {"F8_E5M2", 0, 0}, {"F8_E4M3", 0, 0},     {"F8_E8M0", 0, 0},     {"F8_E4M3FNUZ", 0, 0},
    {"F8_E5M2FNUZ", 0, 0}, {"I16", 0, 0}, {"U16", 0, 0},         {"F16", 2, RT_ST_F16}, {"BF16", 2, RT_ST_BF16},
    {"I32", 4, RT_ST_I32}, {"U32", 0, 0}, {"F32", 4, RT_ST_F32}, {"C64", 0, 0},         {"F64", 8, RT_ST_F64},
    {"I64", 8, RT_ST_I64}, {"U64", 0, 0},
};
enum { N_DTYPES = sizeof dtypes / sizeof dtypes[0] };

static int dtype_rank(rt_st_dtype d)
{
    for (int i = 0; i < N_DTYPES; i++)
        if (dtypes[i].bytes && dtypes[i].dtype == d) return i;
    return -1;
}

/* --- reading --------------------------------------------------------------------------------------------------------- */

/* Bounds depth and number of values before parsing, and refuses signs, which the parser would accept in "-0". */
static rt_status scan_header(const char *path, const char *s, size_t n)
{
    int depth = 0;
    int64_t values = 0;
    bool in_string = false;
    if (n == 0 || s[0] != '{') return RT_RAISE(RT_ERR_FORMAT, "%s: header does not begin with '{'", path);
    while (n > 0 && s[n - 1] == ' ') n--;
    if (s[n - 1] != '}') return RT_RAISE(RT_ERR_FORMAT, "%s: bytes other than spaces after the header's object", path);
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        if (in_string) {
            if (c == '\\') i++;
            else if (c == '"') in_string = false;
            continue;
        }
        if (c == '"') in_string = true;
        else if (c == '{' || c == '[') {
            if (++depth > DEPTH_MAX)
                return RT_RAISE(RT_ERR_FORMAT, "%s: header is nested deeper than %d at byte %zu", path, DEPTH_MAX, i);
        } else if (c == '}' || c == ']') depth--;
        else if (c == ',' && ++values > VALUES_MAX)
            return RT_RAISE(RT_ERR_FORMAT, "%s: header has more than %d values", path, VALUES_MAX);
        else if (c == '-' || c == '+')
            return RT_RAISE(RT_ERR_FORMAT, "%s: signed number in the header at byte %zu", path, i);
    }
    return RT_OK;
}

static rt_status get_integer(const char *path, const char *name, const char *what, const json_t *v, uint64_t *out)
{
    if (!json_is_integer(v))
        return RT_RAISE(RT_ERR_FORMAT, "%s: tensor \"%s\": %s is not an integer", path, name, what);
    json_int_t i = json_integer_value(v);
    if (i < 0 || i > INTEGER_MAX)
        return RT_RAISE(RT_ERR_FORMAT, "%s: tensor \"%s\": %s %" JSON_INTEGER_FORMAT " is outside 0..2^48-1", path, name, what, i);
    *out = (uint64_t)i;
    return RT_OK;
}

/* One entry of the header; begin goes to *begin, the end is begin + t->bytes. */
static rt_status read_entry(const char *path, const char *name, const json_t *e, rt_st_tensor *t, uint64_t *begin)
{
    rt_status st = RT_OK;
    const json_t *dtype = json_object_get(e, "dtype"), *shape = json_object_get(e, "shape");
    const json_t *offs = json_object_get(e, "data_offsets");
    uint64_t end = 0, count = 1, bytes = 0;
    int row = 0;

    if (!json_is_string(dtype) || !json_is_array(shape) || !json_is_array(offs) || json_object_size(e) != 3 ||
        json_array_size(offs) != 2)
        return RT_RAISE(RT_ERR_FORMAT, "%s: tensor \"%s\": not exactly dtype, shape and two data_offsets", path, name);
    const char *dname = json_string_value(dtype);
    while (row < N_DTYPES && strcmp(dtypes[row].name, dname)) row++;
    if (row == N_DTYPES) return RT_RAISE(RT_ERR_FORMAT, "%s: tensor \"%s\": unknown dtype \"%s\"", path, name, dname);
    if (!dtypes[row].bytes) {
        st = RT_RAISE(RT_ERR_UNSUPPORTED, "%s: tensor \"%s\": dtype %s is not read here", path, name, dname);
        return rt_error_fix(st, "store it as F32, F16, BF16, F64, I64, I32 or U8");
    }
    size_t rank = json_array_size(shape);
    if (rank > RT_ST_MAX_RANK)
        return RT_RAISE(RT_ERR_UNSUPPORTED, "%s: tensor \"%s\": rank %zu, at most %d", path, name, rank, RT_ST_MAX_RANK);
    for (size_t i = 0; i < rank; i++) {
        uint64_t d = 0;
        RT_TRY(get_integer(path, name, "dimension", json_array_get(shape, i), &d));
        t->shape[i] = (int64_t)d;
        if (__builtin_mul_overflow(count, d, &count)) goto too_large;
    }
    if (__builtin_mul_overflow(count, (uint64_t)dtypes[row].bytes, &bytes)) goto too_large;
    RT_TRY(get_integer(path, name, "offset", json_array_get(offs, 0), begin));
    RT_TRY(get_integer(path, name, "offset", json_array_get(offs, 1), &end));
    if (end < *begin || end - *begin != bytes) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: tensor \"%s\": offsets [%" PRIu64 ", %" PRIu64 ") for %" PRIu64 " bytes", path, name,
                      *begin, end, bytes);
        goto out;
    }
    t->name = name;
    t->dtype = dtypes[row].dtype;
    t->rank = (int32_t)rank;
    t->bytes = bytes;
out:
    return st;
too_large:
    return RT_RAISE(RT_ERR_FORMAT, "%s: tensor \"%s\": the product of its shape overflows", path, name);
}

typedef struct place {
    uint64_t begin;
    rt_st_tensor t;
} place;

static int by_offset(const void *a, const void *b)
{
    const place *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->t.bytes != y->t.bytes) return x->t.bytes < y->t.bytes ? -1 : 1; /* empty tensors before their neighbour */
    return strcmp(x->t.name, y->t.name);
}

static rt_status read_metadata(const char *path, const json_t *meta)
{
    const char *key;
    json_t *v;
    if (!json_is_object(meta)) return RT_RAISE(RT_ERR_FORMAT, "%s: __metadata__ is not an object", path);
    json_object_foreach((json_t *)meta, key, v)
        if (!json_is_string(v)) return RT_RAISE(RT_ERR_FORMAT, "%s: __metadata__ \"%s\" is not a string", path, key);
    return RT_OK;
}

static rt_status read_entries(const char *path, rt_st_file *f, uint64_t buffer_bytes)
{
    rt_status st = RT_OK;
    size_t room = json_object_size(f->header);
    place *p = NULL;
    int64_t n = 0;
    uint64_t at = 0;
    const char *name;
    json_t *e;

    if (room > TENSORS_MAX) return RT_RAISE(RT_ERR_FORMAT, "%s: %zu tensors, at most %d", path, room, TENSORS_MAX);
    RT_ALLOC(p, (room + 1) * sizeof *p, "tensor table");
    RT_ALLOC(f->tensor, (room + 1) * sizeof *f->tensor, "tensor table");
    json_object_foreach(f->header, name, e) {
        if (!strcmp(name, "__metadata__")) {
            RT_TRY(read_metadata(path, e));
            continue;
        }
        RT_TRY(read_entry(path, name, e, &p[n].t, &p[n].begin));
        n++;
    }
    qsort(p, (size_t)n, sizeof *p, by_offset);
    for (int64_t i = 0; i < n; i++) {
        if (p[i].begin != at) {
            st = RT_RAISE(RT_ERR_FORMAT, "%s: tensor \"%s\" begins at %" PRIu64 ", %s at %" PRIu64, path, p[i].t.name, p[i].begin,
                          p[i].begin > at ? "a hole" : "an overlap", at);
            goto out;
        }
        at += p[i].t.bytes; /* no overflow: both at most 2^48 */
        f->tensor[i] = p[i].t;
    }
    if (at != buffer_bytes) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: tensors end at %" PRIu64 ", the buffer at %" PRIu64, path, at, buffer_bytes);
        goto out;
    }
    f->n = n;
out:
    rt_free(p);
    return st;
}

rt_status rt_st_open(const char *path, rt_st_file **out)
{
    rt_status st = RT_OK;
    rt_st_file *f = NULL;
    char *header = NULL;
    unsigned char len[8];
    struct stat sb;
    uint64_t n = 0, size;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* NONBLOCK: a FIFO must not hang us */

    if (fd < 0) return RT_RAISE_ERRNO("%s", path);
    if (fstat(fd, &sb)) {
        st = RT_RAISE_ERRNO("%s", path);
        goto out;
    }
    if (!S_ISREG(sb.st_mode)) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: not a regular file", path);
        goto out;
    }
    size = (uint64_t)sb.st_size;
    if (size < 8) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: %" PRIu64 " bytes are too few for a safetensors file", path, size);
        goto out;
    }
    RT_TRY(rt_fs_pread(fd, path, len, 8, 0));
    for (int i = 7; i >= 0; i--) n = n << 8 | len[i];
    if (n > HEADER_MAX || n > size - 8) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: header of %" PRIu64 " bytes in a file of %" PRIu64 " (at most %d)", path, n, size,
                      HEADER_MAX);
        goto out;
    }
    RT_ALLOC(f, sizeof *f, "safetensors handle");
    RT_ALLOC(header, (size_t)n + 1, "safetensors header");
    RT_TRY(rt_fs_pread(fd, path, header, (size_t)n, 8));
    RT_TRY(scan_header(path, header, (size_t)n));
    RT_TRYF(rt_json_parse(path, header, (size_t)n, &f->header), "safetensors header");
    RT_TRY(read_entries(path, f, size - 8 - n)); /* before any allocation the header could inflate */
    f->data = rt_malloc((size_t)(size - 8 - n));
    if (!f->data) {
        st = RT_RAISE(RT_ERR_NOMEM, "no memory for %" PRIu64 " bytes of %s", size - 8 - n, path);
        goto out;
    }
    RT_TRY(rt_fs_pread(fd, path, f->data, (size_t)(size - 8 - n), 8 + n));
    uint64_t at = 0;
    for (int64_t i = 0; i < f->n; i++) {
        f->tensor[i].data = f->data + at;
        at += f->tensor[i].bytes;
    }
    *out = f;
    f = NULL;
out:
    rt_st_close(f);
    rt_free(header);
    close(fd);
    return st;
}

void rt_st_close(rt_st_file *f)
{
    if (!f) return;
    json_decref(f->header);
    rt_free(f->tensor);
    rt_free(f->data);
    rt_free(f);
}

int64_t rt_st_count(const rt_st_file *f) { return f->n; }
const rt_st_tensor *rt_st_at(const rt_st_file *f, int64_t i) { return i >= 0 && i < f->n ? &f->tensor[i] : NULL; }

const rt_st_tensor *rt_st_find(const rt_st_file *f, const char *name)
{
    for (int64_t i = 0; i < f->n; i++)
        if (!strcmp(f->tensor[i].name, name)) return &f->tensor[i];
    return NULL;
}

const char *rt_st_metadata(const rt_st_file *f, const char *key)
{
    return json_string_value(json_object_get(json_object_get(f->header, "__metadata__"), key));
}

/* IEEE binary16 to binary32, exactly, subnormals and NaN payloads included. */
static uint32_t half_bits(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exp = (h >> 10) & 31u, man = h & 0x3ffu;
    if (exp == 31) return sign | 0x7f800000u | man << 13;
    if (exp) return sign | (exp + 112) << 23 | man << 13;
    if (!man) return sign;
    int shift = __builtin_clz(man) - 21; /* bring the leading one to bit 10 */
    return sign | (uint32_t)(113 - shift) << 23 | (man << shift & 0x3ffu) << 13;
}

rt_status rt_st_to_f32(const rt_st_tensor *t, float *out, int64_t count)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->shape[i];
    if (n != count)
        return RT_RAISE(RT_ERR_FORMAT, "tensor \"%s\" has %" PRId64 " elements, expected %" PRId64, t->name, n, count);
    const unsigned char *p = t->data; /* memcpy throughout: a foreign order may leave a tensor unaligned */
    switch (t->dtype) {
    case RT_ST_F32:
        if (n) memcpy(out, p, (size_t)n * 4);
        return RT_OK;
    case RT_ST_F64:
        for (int64_t i = 0; i < n; i++) {
            double d;
            memcpy(&d, p + i * 8, 8);
            out[i] = (float)d;
        }
        return RT_OK;
    case RT_ST_F16:
    case RT_ST_BF16:
        for (int64_t i = 0; i < n; i++) {
            uint16_t h;
            memcpy(&h, p + i * 2, 2);
            uint32_t b = t->dtype == RT_ST_F16 ? half_bits(h) : (uint32_t)h << 16;
            memcpy(&out[i], &b, 4);
        }
        return RT_OK;
    default: return RT_RAISE(RT_ERR_FORMAT, "tensor \"%s\" holds integers, expected floating point", t->name);
    }
}

/* --- writing --------------------------------------------------------------------------------------------------------- */

typedef struct text {
    char *s;
    size_t n, cap;
} text;

static rt_status append(text *t, const char *s, size_t n)
{
    if (t->cap - t->n < n) {
        size_t cap = (t->cap + n) * 2;
        char *bigger = rt_realloc(t->s, t->n, cap);
        if (!bigger) return RT_RAISE(RT_ERR_NOMEM, "no memory for a safetensors header");
        t->s = bigger;
        t->cap = cap;
    }
    memcpy(t->s + t->n, s, n);
    t->n += n;
    return RT_OK;
}

/* Appends s as a JSON string, then tail. */
static rt_status append_string(text *t, const char *s, const char *tail)
{
    rt_status st = RT_OK;
    json_t *v = json_string(s);
    char *quoted = v ? json_dumps(v, JSON_ENCODE_ANY) : NULL;
    if (!quoted) {
        st = RT_RAISE(RT_ERR_ARG, "safetensors: a name or metadata string is not UTF-8 (or no memory)");
        goto out;
    }
    RT_TRY(append(t, quoted, strlen(quoted)));
    RT_TRY(append(t, tail, strlen(tail)));
out:
    json_decref(v);
    rt_free(quoted);
    return st;
}

static int canonical(const void *a, const void *b)
{
    const rt_st_tensor *x = *(const rt_st_tensor *const *)a, *y = *(const rt_st_tensor *const *)b;
    int rx = dtype_rank(x->dtype), ry = dtype_rank(y->dtype);
    return rx != ry ? ry - rx : strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const rt_st_tensor *const *)a)->name, (*(const rt_st_tensor *const *)b)->name);
}

static int by_key(const void *a, const void *b) { return strcmp(**(const char *const *const *)a, **(const char *const *const *)b); }

static rt_status check_tensor(const rt_st_tensor *t)
{
    uint64_t count = 1, bytes = 0;
    if (!t->name || !strcmp(t->name, "__metadata__")) return RT_RAISE(RT_ERR_ARG, "safetensors: bad tensor name");
    int row = dtype_rank(t->dtype);
    if (row < 0 || t->rank < 0 || t->rank > RT_ST_MAX_RANK)
        return RT_RAISE(RT_ERR_ARG, "safetensors: tensor \"%s\": bad dtype or rank", t->name);
    for (int i = 0; i < t->rank; i++)
        if (t->shape[i] < 0 || t->shape[i] > INTEGER_MAX || __builtin_mul_overflow(count, (uint64_t)t->shape[i], &count))
            return RT_RAISE(RT_ERR_ARG, "safetensors: tensor \"%s\": bad shape", t->name);
    if (__builtin_mul_overflow(count, (uint64_t)dtypes[row].bytes, &bytes) || bytes != t->bytes || bytes > INTEGER_MAX)
        return RT_RAISE(RT_ERR_ARG, "safetensors: tensor \"%s\": %" PRIu64 " bytes given for its shape", t->name, t->bytes);
    if (bytes && !t->data) return RT_RAISE(RT_ERR_ARG, "safetensors: tensor \"%s\": no data", t->name);
    return RT_OK;
}

static rt_status build_header(const rt_st_tensor *const *order, int64_t n, const char *const *const *meta, int n_meta, text *h)
{
    rt_status st = RT_OK;
    char num[64];
    uint64_t at = 0;
    RT_TRY(append(h, "{", 1));
    if (n_meta) RT_TRY(append(h, "\"__metadata__\":{", 16));
    for (int i = 0; i < n_meta; i++) {
        if (i && !strcmp(meta[i][0], meta[i - 1][0])) {
            st = RT_RAISE(RT_ERR_ARG, "safetensors: metadata key \"%s\" twice", meta[i][0]);
            goto out;
        }
        RT_TRY(append_string(h, meta[i][0], ":"));
        RT_TRY(append_string(h, meta[i][1], i + 1 < n_meta ? "," : n ? "}," : "}"));
    }
    for (int64_t i = 0; i < n; i++) {
        const rt_st_tensor *t = order[i];
        const char *dname = dtypes[dtype_rank(t->dtype)].name;
        RT_TRY(append_string(h, t->name, ":{\"dtype\":\""));
        RT_TRY(append(h, dname, strlen(dname)));
        RT_TRY(append(h, "\",\"shape\":[", 11));
        for (int d = 0; d < t->rank; d++) {
            int k = snprintf(num, sizeof num, "%s%" PRId64, d ? "," : "", t->shape[d]);
            RT_TRY(append(h, num, (size_t)k));
        }
        int k = snprintf(num, sizeof num, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}%s", at, at + t->bytes, i + 1 < n ? "," : "");
        RT_TRY(append(h, num, (size_t)k));
        at += t->bytes;
    }
    RT_TRY(append(h, "}", 1));
    while (h->n % 8) RT_TRY(append(h, " ", 1));
    if (h->n > HEADER_MAX) st = RT_RAISE(RT_ERR_ARG, "safetensors: header of %zu bytes, at most %d", h->n, HEADER_MAX);
out:
    return st;
}

rt_status rt_st_write(const char *path, const rt_st_tensor *t, int64_t n, const char *const *meta, int n_meta)
{
    rt_status st = RT_OK;
    const rt_st_tensor **order = NULL;
    const char *const **pairs = NULL;
    rt_piece *piece = NULL;
    unsigned char len[8];
    text h = {0};

    if (n < 0 || n > TENSORS_MAX || n_meta < 0) return RT_RAISE(RT_ERR_ARG, "safetensors: %" PRId64 " tensors", n);
    RT_ALLOC(order, ((size_t)n + 1) * sizeof *order, "tensor order");
    RT_ALLOC(pairs, ((size_t)n_meta + 1) * sizeof *pairs, "metadata order");
    RT_ALLOC(piece, ((size_t)n + 2) * sizeof *piece, "tensor pieces");
    for (int64_t i = 0; i < n; i++) {
        RT_TRY(check_tensor(&t[i]));
        order[i] = &t[i];
    }
    qsort(order, (size_t)n, sizeof *order, by_name);
    for (int64_t i = 1; i < n; i++)
        if (!strcmp(order[i]->name, order[i - 1]->name)) {
            st = RT_RAISE(RT_ERR_ARG, "safetensors: tensor \"%s\" twice", order[i]->name);
            goto out;
        }
    qsort(order, (size_t)n, sizeof *order, canonical);
    for (int i = 0; i < n_meta; i++) pairs[i] = meta + 2 * i;
    qsort(pairs, (size_t)n_meta, sizeof *pairs, by_key);
    RT_TRY(build_header(order, n, pairs, n_meta, &h));
    for (int i = 0; i < 8; i++) len[i] = (unsigned char)(h.n >> (8 * i));
    piece[0] = (rt_piece){len, 8};
    piece[1] = (rt_piece){h.s, h.n};
    for (int64_t i = 0; i < n; i++) piece[i + 2] = (rt_piece){order[i]->data, (size_t)order[i]->bytes};
    RT_TRY(rt_write_atomic_pieces(path, piece, (int)n + 2));
out:
    rt_free(order);
    rt_free(pairs);
    rt_free(piece);
    rt_free(h.s);
    return st;
}
