/* From encoded bytes to pixels: the type is what the first bytes say, never what a name says (ImageNet holds a PNG
 * under a .JPEG name). */
#include <string.h>

#include "base/alloc.h"
#include "data/internal.h"

static const uint8_t png_magic[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};

/* Names what the bytes look like, for the reason of a refusal. */
static const char *other_kind(const uint8_t *b, size_t n)
{
    static const struct {
        const char *magic;
        size_t n;
        const char *kind;
    } known[] = {{"BM", 2, "a BMP"},
                 {"GIF8", 4, "a GIF"},
                 {"RIFF", 4, "a RIFF (WebP?) file"},
                 {"II*\0", 4, "a TIFF"},
                 {"MM\0*", 4, "a TIFF"},
                 {"<", 1, "HTML or XML"},
                 {"\0\0\0\fjP  ", 8, "a JPEG 2000"},
                 {"\xFF\x0A", 2, "a JPEG XL"},
                 {"P6", 2, "a PPM"},
                 {"P5", 2, "a PGM"}};
    if (n == 0) return "empty";
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (n >= known[i].n && !memcmp(b, known[i].magic, known[i].n)) return known[i].kind;
    return "of an unknown kind";
}

void rt_image_fini(rt_image *im)
{
    if (!im) return;
    rt_free(im->px);
    *im = (rt_image){0};
}

rt_status rt_decode(const void *bytes, size_t n, const char *name, rt_image *out, int *n_warnings)
{
    if (rt_is_jpeg(bytes, n)) return rt_jpeg_decode(bytes, n, name, out, n_warnings);
    if (n >= sizeof png_magic && !memcmp(bytes, png_magic, sizeof png_magic)) {
        rt_status st = rt_png_decode(bytes, n, name, out);
        if (st == RT_OK && n_warnings) *n_warnings = 0;
        return st;
    }
    return RT_RAISE(RT_ERR_FORMAT, "%s: neither JPEG nor PNG: the content is %s", name, other_kind(bytes, n));
}

rt_status rt_dataset_decode(const rt_dataset *d, int64_t i, rt_image *out, int *n_warnings)
{
    void *bytes = NULL;
    size_t n = 0;
    rt_status st = rt_dataset_read(d, i, &bytes, &n);
    if (st != RT_OK) return st;
    if (d->raw) {
        *out = (rt_image){.h = d->raw_side, .w = d->raw_side, .px = bytes};
        if (n_warnings) *n_warnings = 0;
        return RT_OK;
    }
    st = rt_decode(bytes, n, rt_dataset_key(d, i), out, n_warnings);
    rt_free(bytes);
    return st;
}
