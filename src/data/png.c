/* PNG by libspng, read by the rules of Pillow's convert("RGB"): alpha and tRNS are dropped (not blended), a palette is
 * looked up, gray is replicated, gray below 8 bits is stretched to 0..255, no gamma is applied. 16-bit samples keep
 * their high byte: what Pillow does for colour; for 16-bit gray Pillow's result changed between releases, so ours is
 * stated here.
 *
 * Writing is lossless and deterministic: 8-bit RGB, fixed compression level, no time stamp, no text. The bytes depend
 * on the zlib release; the pixels do not. */
#include <spng.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "data/internal.h"

enum { MAX_PIXELS = 64 << 20, MAX_SIDE = 1 << 20, MAX_CHUNK = 16 << 20, LEVEL = 6 };

static rt_status spng_failed(const char *name, int code)
{
    rt_status st = code == SPNG_EMEM ? RT_ERR_NOMEM : RT_ERR_FORMAT;
    return RT_RAISE(st, "%s: PNG refused: %s", name, spng_strerror(code));
}

rt_status rt_png_decode(const void *bytes, size_t n, const char *name, rt_image *out)
{
    rt_status st = RT_OK;
    uint8_t *px = NULL;
    struct spng_ihdr ihdr;
    size_t size = 0;
    int e = 0;
    spng_ctx *ctx = spng_ctx_new(0);
    if (!ctx) return RT_RAISE(RT_ERR_NOMEM, "%s: PNG decoder", name);
    if ((e = spng_set_image_limits(ctx, MAX_SIDE, MAX_SIDE)) ||
        (e = spng_set_chunk_limits(ctx, MAX_CHUNK, 4 * MAX_CHUNK)) || (e = spng_set_png_buffer(ctx, bytes, n)) ||
        (e = spng_get_ihdr(ctx, &ihdr))) {
        st = spng_failed(name, e);
        goto out;
    }
    if ((uint64_t)ihdr.width * ihdr.height > MAX_PIXELS) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: PNG refused: %u x %u pixels, at most %d million", name, ihdr.width,
                      ihdr.height, MAX_PIXELS >> 20);
        goto out;
    }
    if ((e = spng_decoded_image_size(ctx, SPNG_FMT_RGB8, &size))) {
        st = spng_failed(name, e);
        goto out;
    }
    if (size != (size_t)ihdr.width * ihdr.height * 3) {
        st = RT_RAISE(RT_ERR_INTERNAL, "%s: PNG decoder wants %zu bytes", name, size);
        goto out;
    }
    RT_ALLOC(px, size, "PNG pixels");
    if ((e = spng_decode_image(ctx, px, size, SPNG_FMT_RGB8, 0))) {
        st = spng_failed(name, e);
        goto out;
    }
    *out = (rt_image){.h = (int32_t)ihdr.height, .w = (int32_t)ihdr.width, .px = px};
    px = NULL;
out:
    spng_ctx_free(ctx);
    rt_free(px);
    return st;
}

rt_status rt_png_encode(const uint8_t *rgb, int32_t h, int32_t w, void **bytes, size_t *n)
{
    rt_status st = RT_OK;
    void *png = NULL, *copy = NULL;
    size_t size = 0;
    int e = 0;
    if (h < 1 || w < 1) return RT_RAISE(RT_ERR_ARG, "PNG of %d x %d", h, w);
    struct spng_ihdr ihdr = {
        .width = (uint32_t)w, .height = (uint32_t)h, .bit_depth = 8, .color_type = SPNG_COLOR_TYPE_TRUECOLOR};
    spng_ctx *ctx = spng_ctx_new(SPNG_CTX_ENCODER);
    if (!ctx) return RT_RAISE(RT_ERR_NOMEM, "PNG encoder");
    if ((e = spng_set_option(ctx, SPNG_ENCODE_TO_BUFFER, 1)) ||
        (e = spng_set_option(ctx, SPNG_IMG_COMPRESSION_LEVEL, LEVEL)) || (e = spng_set_ihdr(ctx, &ihdr)) ||
        (e = spng_encode_image(ctx, rgb, (size_t)h * (size_t)w * 3, SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE)) ||
        !(png = spng_get_png_buffer(ctx, &size, &e))) {
        st = RT_RAISE(e == SPNG_EMEM ? RT_ERR_NOMEM : RT_ERR_INTERNAL, "PNG encoder: %s", spng_strerror(e));
        goto out;
    }
    if (!(copy = rt_malloc(size))) {
        st = RT_RAISE(RT_ERR_NOMEM, "no memory for a PNG of %zu bytes", size);
        goto out;
    }
    memcpy(copy, png, size);
    *bytes = copy;
    *n = size;
out:
    free(png);
    spng_ctx_free(ctx);
    return st;
}
