/* A CUDA runtime for machines without a GPU, just large enough for src/backend/cuda: device memory is malloc'd memory, a stream
 * is a queue that is worked off as late as the rules allow: when somebody synchronises, waits for an event of it, or frees
 * memory. What forgets to wait therefore reads old bytes. A stream under capture collects its work into a graph. Copies from
 * and to pageable memory are synchronous, as in effect on a device. Linked instead of libcudart in tests only. */
#ifndef RT_TESTS_HOST_CUDA_RUNTIME_API_H
#define RT_TESTS_HOST_CUDA_RUNTIME_API_H

#include <stddef.h>
#include <stdint.h>

#define CUDART_VERSION 13000

#ifdef __cplusplus
extern "C" {
#endif

typedef enum cudaError {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorInsufficientDriver = 35,
    cudaErrorNoDevice = 100,
    cudaErrorLaunchFailure = 719,
    cudaErrorStreamCaptureUnsupported = 900,
    cudaErrorStreamCaptureInvalidated = 901
} cudaError_t;
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;
typedef struct CUgraph_st *cudaGraph_t;
typedef struct CUgraphExec_st *cudaGraphExec_t;
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeGlobal = 0, cudaStreamCaptureModeThreadLocal = 1, cudaStreamCaptureModeRelaxed = 2 };
struct cudaDeviceProp {
    char name[256];
    int major, minor, multiProcessorCount;
    size_t totalGlobalMem;
};

cudaError_t cudaGetDeviceCount(int *n);
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaDriverGetVersion(int *v);
cudaError_t cudaRuntimeGetVersion(int *v);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t s);
cudaError_t cudaStreamSynchronize(cudaStream_t s);
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned flags);
cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *e, cudaGraph_t g, unsigned long long flags);
cudaError_t cudaGraphUpload(cudaGraphExec_t e, cudaStream_t s);
cudaError_t cudaGraphLaunch(cudaGraphExec_t e, cudaStream_t s);
cudaError_t cudaGraphDestroy(cudaGraph_t g);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t e);
cudaError_t cudaEventCreate(cudaEvent_t *e);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags);
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s);
cudaError_t cudaEventSynchronize(cudaEvent_t e);
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to); /* see rt_host_cuda_pass */
cudaError_t cudaEventDestroy(cudaEvent_t e);
cudaError_t cudaMallocHost(void **p, size_t bytes);
cudaError_t cudaFreeHost(void *p);
cudaError_t cudaMalloc(void **p, size_t bytes);
cudaError_t cudaFree(void *p);
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total);
cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t s);
cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t s);
cudaError_t cudaGetLastError(void);
const char *cudaGetErrorString(cudaError_t e);
const char *cudaGetErrorName(cudaError_t e);

/* The machine the test wants: devices < 0 means no driver; the n-th call from now fails with `with` (n 0: none). */
void rt_host_cuda_machine(int devices, int sm_major);
void rt_host_cuda_fail_at(int n, cudaError_t with);
int rt_host_cuda_live(void); /* whatever was created and not released */
int rt_host_cuda_launches(void);
int rt_host_cuda_graph_launches(void);
int rt_host_cuda_calls(void); /* calls that could have failed so far */

/* For mock libraries that work on these streams. enqueue: run(ctx) in stream order; drop(ctx) when nobody can run it again,
 * which for captured work is when its graph is gone. fails: counts one call against rt_host_cuda_fail_at and
 * returns what it shall fail with. count: adds to what
 * is live. pass: work advances the clock of the events by ms when it runs. */
cudaError_t rt_host_cuda_enqueue(cudaStream_t s, cudaError_t (*run)(void *), void *ctx, void (*drop)(void *));
int rt_host_cuda_fails(void);
void rt_host_cuda_count(int delta);
void rt_host_cuda_pass(double ms);

#ifdef __cplusplus
}
#endif
#endif
