/* Batches of views of images that lie on the device. */
#include "backend/cuda/cuda.h"

rt_status rt_cuda_views(rt_backend *be, const uint8_t *px, const rt_pixel_view *plan, const float *table, int64_t batch, int32_t h,
                        int32_t w, bool resize, void *out)
{
    const rt_k_views a = {.px = px, .plan = plan, .table = table, .out = out, .batch = batch, .h = h, .w = w, .resize = resize};
    const cudaError_t e = rt_k_views_fill(&a, ((rt_cuda_backend *)be)->stream);
    return e == cudaSuccess ? RT_OK : rt_cuda_failed(e, "views of a batch");
}
