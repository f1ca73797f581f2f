/* Any bytes as PNG: decoded or refused; what decodes survives encoding and decoding again. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "data/internal.h"

enum { MAX_PIXELS = 1 << 18, IHDR_END = 24 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    rt_image im = {0}, again = {0};
    void *png = NULL;
    size_t size = 0;
    if (n < IHDR_END) return 0;
    uint64_t side[2] = {0};
    for (int k = 0; k < 8; k++) side[k / 4] = side[k / 4] << 8 | bytes[16 + k];
    if (side[0] * side[1] > MAX_PIXELS || rt_png_decode(bytes, n, "fuzz", &im) != RT_OK) return 0;
    if (rt_png_encode(im.px, im.h, im.w, &png, &size) != RT_OK || rt_png_decode(png, size, "again", &again) != RT_OK ||
        memcmp(im.px, again.px, (size_t)im.h * (size_t)im.w * 3))
        abort();
    rt_image_fini(&im);
    rt_image_fini(&again);
    rt_free(png);
    return 0;
}
