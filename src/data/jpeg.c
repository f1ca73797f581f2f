/* JPEG by libjpeg-turbo, decoded as Pillow does: accurate integer IDCT, fancy upsampling, block smoothing, EXIF
 * orientation ignored, grayscale replicated. A four-component file is taken as Adobe-inverted whatever its marker says,
 * so R = C * K / 255 of the stored bytes, rounded to nearest (255 is odd: no ties).
 *
 * Hostile input: the library's default error handler ends the process, so errors jump back here; warnings are counted,
 * not printed; at most 64 Mpixel, 100 scans, and coefficient memory for a progressive picture of that size.
 *
 * Partial decode: libjpeg-turbo can start at a column that begins an MCU and skip rows. Upsampling looks one chroma
 * sample beside the wanted one, so where chroma is subsampled one extra MCU makes the wanted pixels equal to those of a
 * whole decode. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h> /* needs FILE */

#include "base/alloc.h"
#include "data/internal.h"

enum { MAX_PIXELS = 64 << 20, MAX_SCANS = 100, MAX_MEMORY = 640 << 20 };

typedef struct job {
    struct jpeg_decompress_struct c;
    struct jpeg_error_mgr err;
    struct jpeg_progress_mgr progress;
    jmp_buf jump;
    char reason[JMSG_LENGTH_MAX];
    bool refused; /* by a cap of ours: reason is final */
    int n_warnings;
    uint8_t *px;      /* rows of RGB */
    uint8_t *line;    /* one decoded row of CMYK, or one to drop */
    int32_t h, w, x0; /* x0: the region's first column in px */
} job;

static void on_error(j_common_ptr c)
{
    job *j = c->client_data;
    if (!j->refused) c->err->format_message(c, j->reason);
    longjmp(j->jump, 1);
}

static void on_message(j_common_ptr c, int level)
{
    job *j = c->client_data;
    if (level < 0) j->n_warnings++; /* counts all; traces (level >= 0) are of no interest */
}

static void on_output(j_common_ptr c)
{
    (void)c;
}

static void on_progress(j_common_ptr c)
{
    job *j = c->client_data;
    if (c->is_decompressor && j->c.input_scan_number > MAX_SCANS) {
        snprintf(j->reason, sizeof j->reason, "more than %d scans", MAX_SCANS);
        j->refused = true;
        on_error(c);
    }
}

static void refuse(job *j, const char *fmt, ...) RT_PRINTF(2, 3);
static void refuse(job *j, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(j->reason, sizeof j->reason, fmt, ap);
    va_end(ap);
    j->refused = true;
    longjmp(j->jump, 1);
}

static void start(job *j, const void *bytes, size_t n)
{
    j->c.err = jpeg_std_error(&j->err);
    j->err.error_exit = on_error;
    j->err.emit_message = on_message;
    j->err.output_message = on_output;
    j->c.client_data = j;
    jpeg_create_decompress(&j->c); /* clears all but err and client_data */
    j->c.mem->max_memory_to_use = MAX_MEMORY;
    j->progress.progress_monitor = on_progress;
    j->c.progress = &j->progress;
    jpeg_mem_src(&j->c, bytes, n);
    jpeg_read_header(&j->c, TRUE);
    if ((uint64_t)j->c.image_width * j->c.image_height > MAX_PIXELS)
        refuse(j, "%u x %u pixels, at most %d million", j->c.image_width, j->c.image_height, MAX_PIXELS >> 20);
    if (j->c.num_components != 1 && j->c.num_components != 3 && j->c.num_components != 4)
        refuse(j, "%d colour components", j->c.num_components);
    j->c.out_color_space = j->c.num_components == 4 ? JCS_CMYK : JCS_RGB;
    j->c.dct_method = JDCT_ISLOW;
    j->c.do_fancy_upsampling = TRUE;
}

static void cmyk_row(const uint8_t *in, int32_t w, uint8_t *out)
{
    for (int32_t x = 0; x < w; x++, in += 4, out += 3)
        for (int c = 0; c < 3; c++) out[c] = (uint8_t)((in[c] * in[3] + 127) / 255);
}

/* The next h rows, as wide as the decoder gives them. */
static void read_rows(job *j, int32_t h)
{
    int32_t w = (int32_t)j->c.output_width;
    size_t row = (size_t)w * 3;
    if (!(j->px = rt_malloc((size_t)h * row))) refuse(j, "no memory for %d x %d pixels", h, w);
    if (j->c.num_components == 4 && !(j->line = rt_malloc((size_t)w * 4))) refuse(j, "no memory for a row");
    for (int32_t y = 0; y < h; y++) {
        JSAMPROW into = j->line ? j->line : j->px + (size_t)y * row;
        if (jpeg_read_scanlines(&j->c, &into, 1) != 1) refuse(j, "the decoder gave no row %d", y);
        if (j->line) cmyk_row(j->line, w, j->px + (size_t)y * row);
    }
    j->h = h;
    j->w = w;
}

static bool decode_whole(job *j, const void *bytes, size_t n)
{
    if (setjmp(j->jump)) return false;
    start(j, bytes, n);
    jpeg_start_decompress(&j->c);
    read_rows(j, (int32_t)j->c.output_height);
    jpeg_finish_decompress(&j->c);
    return true;
}

static bool decode_region(job *j, const void *bytes, size_t n, const rt_span *r)
{
    if (setjmp(j->jump)) return false;
    start(j, bytes, n);
    int32_t h = (int32_t)j->c.image_height, w = (int32_t)j->c.image_width;
    if (r->x0 < 0 || r->y0 < 0 || r->w < 1 || r->h < 1 || r->x0 > w - r->w || r->y0 > h - r->h)
        refuse(j, "region %d x %d at (%d, %d) leaves the picture of %d x %d", r->h, r->w, r->y0, r->x0, h, w);
    jpeg_start_decompress(&j->c);
    int32_t side = j->c.max_h_samp_factor > 1 ? j->c.max_h_samp_factor * DCTSIZE : 0;
    int32_t above = j->c.max_v_samp_factor > 1 ? j->c.max_v_samp_factor * DCTSIZE : 0;
    int32_t left = r->x0 > side ? r->x0 - side : 0, right = r->x0 + r->w + side < w ? r->x0 + r->w + side : w;
    JDIMENSION at = (JDIMENSION)left, width = (JDIMENSION)(right - left);
    if (width < (JDIMENSION)w)
        jpeg_crop_scanline(&j->c, &at, &width);
    else
        at = 0;
    int32_t top = r->y0 - above;
    if (top > 0)
        jpeg_skip_scanlines(&j->c, (JDIMENSION)top);
    else
        top = 0;
    if (r->y0 > top) {
        if (!(j->line = rt_malloc((size_t)j->c.output_width * 4))) refuse(j, "no memory for a row");
        JSAMPROW drop = j->line;
        for (int32_t y = top; y < r->y0; y++) jpeg_read_scanlines(&j->c, &drop, 1);
        rt_free(j->line);
        j->line = NULL;
    }
    read_rows(j, r->h);
    j->x0 = r->x0 - (int32_t)at;
    jpeg_abort_decompress(&j->c); /* what follows the region is not read */
    return true;
}

static bool read_size(job *j, const void *bytes, size_t n)
{
    if (setjmp(j->jump)) return false;
    start(j, bytes, n);
    j->h = (int32_t)j->c.image_height;
    j->w = (int32_t)j->c.image_width;
    return true;
}

bool rt_is_jpeg(const void *bytes, size_t n)
{
    const uint8_t *b = bytes;
    return n >= 2 && b[0] == 0xFF && b[1] == 0xD8; /* stray bytes before the next marker are only a warning */
}

static rt_status failed(const job *j, const char *name)
{
    if (!strncmp(j->reason, "no memory", 9)) return RT_RAISE(RT_ERR_NOMEM, "%s: %s", name, j->reason);
    return RT_RAISE(RT_ERR_FORMAT, "%s: JPEG refused: %s", name, j->reason);
}

rt_status rt_jpeg_size(const void *bytes, size_t n, const char *name, int32_t *h, int32_t *w)
{
    job j = {0};
    rt_status st = RT_OK;
    if (read_size(&j, bytes, n)) {
        *h = j.h;
        *w = j.w;
    } else {
        st = failed(&j, name);
    }
    jpeg_destroy_decompress(&j.c);
    return st;
}

/* Hands over what a decode made, or says why it made nothing; releases the rest. */
static rt_status finish(job *j, bool done, const char *name, rt_image *out, int *n_warnings)
{
    rt_status st = RT_OK;
    if (done) {
        *out = (rt_image){.h = j->h, .w = j->w, .px = j->px};
        if (n_warnings) *n_warnings = j->n_warnings;
        j->px = NULL;
    } else {
        st = failed(j, name);
    }
    jpeg_destroy_decompress(&j->c);
    rt_free(j->px);
    rt_free(j->line);
    return st;
}

rt_status rt_jpeg_decode(const void *bytes, size_t n, const char *name, rt_image *out, int *n_warnings)
{
    job j = {0};
    bool done = decode_whole(&j, bytes, n);
    return finish(&j, done, name, out, n_warnings);
}

rt_status rt_jpeg_decode_around(const void *bytes, size_t n, const char *name, const rt_span *region, rt_image *out,
                                int32_t *x0, int *n_warnings)
{
    job j = {0};
    bool done = decode_region(&j, bytes, n, region);
    rt_status st = finish(&j, done, name, out, n_warnings);
    if (st == RT_OK) *x0 = j.x0;
    return st;
}

typedef struct enc {
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr err;
    jmp_buf jump;
    char reason[JMSG_LENGTH_MAX];
    unsigned char *bytes; /* libjpeg's own buffer */
    unsigned long n;
} enc;

static void on_encode_error(j_common_ptr c)
{
    enc *e = c->client_data;
    c->err->format_message(c, e->reason);
    longjmp(e->jump, 1);
}

static bool encode(enc *e, const uint8_t *rgb, int32_t h, int32_t w, int quality)
{
    if (setjmp(e->jump)) return false;
    e->c.err = jpeg_std_error(&e->err);
    e->err.error_exit = on_encode_error;
    e->err.output_message = on_output;
    e->c.client_data = e;
    jpeg_create_compress(&e->c);
    jpeg_mem_dest(&e->c, &e->bytes, &e->n);
    e->c.image_width = (JDIMENSION)w;
    e->c.image_height = (JDIMENSION)h;
    e->c.input_components = 3;
    e->c.in_color_space = JCS_RGB;
    jpeg_set_defaults(&e->c); /* 4:2:0, like every common writer */
    jpeg_set_quality(&e->c, quality, TRUE);
    e->c.dct_method = JDCT_ISLOW;
    jpeg_start_compress(&e->c, TRUE);
    while (e->c.next_scanline < e->c.image_height) {
        JSAMPROW row = (JSAMPROW)(uintptr_t)(rgb + (size_t)e->c.next_scanline * (size_t)w * 3);
        jpeg_write_scanlines(&e->c, &row, 1);
    }
    jpeg_finish_compress(&e->c);
    return true;
}

rt_status rt_jpeg_encode(const uint8_t *rgb, int32_t h, int32_t w, int quality, void **bytes, size_t *n)
{
    rt_status st = RT_OK;
    enc e = {0};
    void *copy = NULL;
    if (h < 1 || w < 1 || h > JPEG_MAX_DIMENSION || w > JPEG_MAX_DIMENSION || quality < 1 || quality > 100)
        return RT_RAISE(RT_ERR_ARG, "JPEG of %d x %d at quality %d", h, w, quality);
    if (!encode(&e, rgb, h, w, quality)) {
        st = RT_RAISE(RT_ERR_INTERNAL, "JPEG encoder: %s", e.reason);
        goto out;
    }
    if (!(copy = rt_malloc(e.n))) {
        st = RT_RAISE(RT_ERR_NOMEM, "no memory for a JPEG of %lu bytes", e.n);
        goto out;
    }
    memcpy(copy, e.bytes, e.n);
    *bytes = copy;
    *n = e.n;
out:
    jpeg_destroy_compress(&e.c);
    free(e.bytes);
    return st;
}
