/* Any bytes as JPEG: decoded or refused. A file that decodes without a warning must give the same pixels when only a
 * part of it is decoded. The part is chosen by the input's last bytes. */
#include <stdlib.h>
#include <string.h>

#include "data/internal.h"

enum { MAX_PIXELS = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    int32_t h = 0, w = 0, x0 = 0;
    int warnings = 0, part_warnings = 0;
    rt_image all = {0}, part = {0};
    if (n < 8 || rt_jpeg_size(bytes, n, "fuzz", &h, &w) != RT_OK || (int64_t)h * w > MAX_PIXELS) return 0;
    if (rt_jpeg_decode(bytes, n, "fuzz", &all, &warnings) != RT_OK) return 0;
    const uint8_t *end = bytes + n - 4;
    rt_span s = {.x0 = end[0] * w / 256, .y0 = end[1] * h / 256};
    s.w = 1 + end[2] * (w - s.x0) / 257;
    s.h = 1 + end[3] * (h - s.y0) / 257;
    if (rt_jpeg_decode_around(bytes, n, "fuzz", &s, &part, &x0, &part_warnings) == RT_OK && warnings == 0)
        for (int32_t y = 0; y < s.h; y++)
            if (memcmp(part.px + ((size_t)y * (size_t)part.w + (size_t)x0) * 3,
                       all.px + ((size_t)(s.y0 + y) * (size_t)w + (size_t)s.x0) * 3, (size_t)s.w * 3))
                abort();
    rt_image_fini(&all);
    rt_image_fini(&part);
    return 0;
}
