/* Recording the computing stream into a CUDA graph.
 *
 * Thread-local mode: another thread's allocations do not break a recording, this thread's do, as they should: a kernel's run
 * allocates nothing. The graph is uploaded when made, so its first launch is like the others. */
#include "backend/cuda/cuda.h"

rt_status rt_cuda_capture_begin(rt_backend *be)
{
    rt_status st = RT_OK;
    rt_cuda_backend *cb = (rt_cuda_backend *)be;
    RT_CUDA(cudaStreamSynchronize(cb->stream)); /* earlier errors are earlier work's */
    RT_CUDA(cudaStreamBeginCapture(cb->stream, cudaStreamCaptureModeThreadLocal));
out:
    return st;
}

rt_status rt_cuda_capture_end(rt_backend *be, bool keep, void **graph)
{
    rt_status st = RT_OK;
    rt_cuda_backend *cb = (rt_cuda_backend *)be;
    cudaGraph_t g = NULL;
    cudaGraphExec_t e = NULL;
    cudaError_t ended = cudaStreamEndCapture(cb->stream, &g);
    if (!keep) {
        (void)cudaGetLastError(); /* the failure that made the caller drop it is reported already */
        goto out;
    }
    RT_CUDA(ended);
    RT_CUDA(cudaGraphInstantiate(&e, g, 0));
    RT_CUDA(cudaGraphUpload(e, cb->stream));
    *graph = e;
    e = NULL;
out:
    if (e) cudaGraphExecDestroy(e);
    if (g) cudaGraphDestroy(g);
    return st;
}

rt_status rt_cuda_graph_launch(rt_backend *be, void *graph)
{
    rt_status st = RT_OK;
    RT_CUDA(cudaGraphLaunch(graph, ((rt_cuda_backend *)be)->stream));
out:
    return st;
}

void rt_cuda_graph_free(rt_backend *be, void *graph)
{
    (void)be;
    if (graph) cudaGraphExecDestroy(graph);
}
