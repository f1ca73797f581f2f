/* Whole-file reading with optional xz decompression, decided by the magic bytes. Output, decoder memory and input are
 * bounded, so a small hostile file cannot fill the machine. */
#include <lzma.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "data/internal.h"

enum { XZ_MEMORY = 192 << 20, XZ_FIRST_GUESS = 1 << 20 };
static const uint8_t xz_magic[6] = {0xFD, '7', 'z', 'X', 'Z', 0};

static const char *lzma_reason(lzma_ret r)
{
    switch (r) {
    case LZMA_MEMLIMIT_ERROR:
        return "needs more decoder memory than is allowed";
    case LZMA_BUF_ERROR:
        return "the compressed data end early";
    case LZMA_DATA_ERROR:
        return "the compressed data are corrupt";
    case LZMA_FORMAT_ERROR:
        return "not an xz stream";
    case LZMA_OPTIONS_ERROR:
        return "unsupported xz options";
    default:
        return "xz decoder failed";
    }
}

/* Grows buf by doubling to hold at least one more byte (and one for the NUL), never past cap + 1. */
static rt_status grow(const char *path, uint8_t **buf, size_t *size, size_t cap)
{
    size_t want = *size ? *size * 2 : XZ_FIRST_GUESS;
    if (want > cap + 1) want = cap + 1;
    uint8_t *bigger = rt_realloc(*buf, *size, want);
    if (!bigger) return RT_RAISE(RT_ERR_NOMEM, "no memory for %s (%zu bytes)", path, want);
    *buf = bigger;
    *size = want;
    return RT_OK;
}

static rt_status unpack(const char *path, const uint8_t *in, size_t n_in, size_t cap, void **data, size_t *n)
{
    rt_status st = RT_OK;
    uint8_t *buf = NULL;
    size_t size = 0, len = 0;
    lzma_stream s = LZMA_STREAM_INIT;
    lzma_ret r = lzma_stream_decoder(&s, XZ_MEMORY, LZMA_CONCATENATED);
    if (r != LZMA_OK) {
        st = RT_RAISE(r == LZMA_MEM_ERROR ? RT_ERR_NOMEM : RT_ERR_INTERNAL, "%s: xz decoder does not start", path);
        goto out;
    }
    s.next_in = in;
    s.avail_in = n_in;
    while (r != LZMA_STREAM_END) {
        if (len + 1 >= size) {
            if (size == cap + 1) { /* full to the cap: only the end of the stream may follow */
                uint8_t extra;
                s.next_out = &extra;
                s.avail_out = 1;
                r = lzma_code(&s, LZMA_FINISH);
                if (r == LZMA_STREAM_END && s.avail_out == 1) break;
                st = RT_RAISE(RT_ERR_FORMAT, "%s: unpacks to more than %zu bytes", path, cap);
                goto out;
            }
            RT_TRY(grow(path, &buf, &size, cap));
        }
        s.next_out = buf + len;
        s.avail_out = size - 1 - len;
        r = lzma_code(&s, LZMA_FINISH);
        len = size - 1 - s.avail_out;
        if (r == LZMA_MEM_ERROR) {
            st = RT_RAISE(RT_ERR_NOMEM, "%s: no memory for the xz decoder", path);
            goto out;
        }
        if (r != LZMA_OK && r != LZMA_STREAM_END) {
            st = RT_RAISE(RT_ERR_FORMAT, "%s: %s (after %zu bytes)", path, lzma_reason(r), len);
            goto out;
        }
    }
    if (!buf) RT_TRY(grow(path, &buf, &size, cap));
    buf[len] = 0;
    *data = buf;
    *n = len;
    buf = NULL;
out:
    lzma_end(&s);
    rt_free(buf);
    return st;
}

rt_status rt_read_maybe_xz(const char *path, size_t cap, void **data, size_t *n)
{
    rt_status st = RT_OK;
    void *raw = NULL;
    size_t n_raw = 0;
    RT_TRY(rt_fs_read(path, cap, &raw, &n_raw));
    if (n_raw < sizeof xz_magic || memcmp(raw, xz_magic, sizeof xz_magic)) {
        *data = raw;
        *n = n_raw;
        raw = NULL;
    } else {
        RT_TRY(unpack(path, raw, n_raw, cap, data, n));
    }
out:
    rt_free(raw);
    return st;
}
