/* Host data on its way to the device.
 *
 * A write copies into a pinned slot and sends it on a stream of its own into the slot's twin on the device; the computing stream
 * then moves it to its place when its turn comes. So the bus works while kernels still read the old contents, a caller needs no
 * double buffers, and order is that of the calls. The move inside the device costs about a thousandth of the bus's time.
 * A slot is used again when its twin has been read. */
#include "backend/cuda/cuda.h"

#include <string.h>

rt_status rt_cuda_staging_open(rt_cuda_staging *s)
{
    rt_status st = RT_OK;
    RT_CUDA(cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking));
    RT_CUDA(cudaMallocHost((void **)&s->pinned, (size_t)RT_CUDA_SLOTS * RT_CUDA_SLOT_BYTES));
    RT_CUDA(cudaMalloc((void **)&s->device, (size_t)RT_CUDA_SLOTS * RT_CUDA_SLOT_BYTES));
    for (int i = 0; i < RT_CUDA_SLOTS; i++) {
        RT_CUDA(cudaEventCreateWithFlags(&s->up[i], cudaEventDisableTiming));
        RT_CUDA(cudaEventCreateWithFlags(&s->down[i], cudaEventDisableTiming));
    }
out:
    return st;
}

void rt_cuda_staging_close(rt_cuda_staging *s)
{
    for (int i = 0; i < RT_CUDA_SLOTS; i++) {
        if (s->up[i]) cudaEventDestroy(s->up[i]);
        if (s->down[i]) cudaEventDestroy(s->down[i]);
    }
    if (s->device) cudaFree(s->device);
    if (s->pinned) cudaFreeHost(s->pinned);
    if (s->stream) cudaStreamDestroy(s->stream);
    memset(s, 0, sizeof *s);
}

rt_status rt_cuda_stage(rt_cuda_backend *cb, void *dst, const void *src, size_t bytes)
{
    rt_status st = RT_OK;
    rt_cuda_staging *s = &cb->staging;
    for (size_t at = 0; at < bytes; at += RT_CUDA_SLOT_BYTES) {
        const size_t n = bytes - at < RT_CUDA_SLOT_BYTES ? bytes - at : RT_CUDA_SLOT_BYTES;
        const int i = s->next;
        char *pinned = s->pinned + (size_t)i * RT_CUDA_SLOT_BYTES, *device = s->device + (size_t)i * RT_CUDA_SLOT_BYTES;
        if (s->used[i]) RT_CUDA(cudaEventSynchronize(s->down[i]));
        memcpy(pinned, (const char *)src + at, n);
        RT_CUDA(cudaMemcpyAsync(device, pinned, n, cudaMemcpyHostToDevice, s->stream));
        RT_CUDA(cudaEventRecord(s->up[i], s->stream));
        RT_CUDA(cudaStreamWaitEvent(cb->stream, s->up[i], 0));
        RT_CUDA(cudaMemcpyAsync((char *)dst + at, device, n, cudaMemcpyDeviceToDevice, cb->stream));
        RT_CUDA(cudaEventRecord(s->down[i], cb->stream));
        s->used[i] = true;
        s->next = (i + 1) % RT_CUDA_SLOTS;
    }
out:
    return st;
}
