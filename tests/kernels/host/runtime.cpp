/* The host CUDA runtime and the fiber scheduler (cuda_runtime_api.h, cuda_runtime.h). */
#include "cuda_runtime.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ucontext.h>
#include <vector>

dim3 threadIdx, blockIdx, blockDim, gridDim;

/* --- fibers ------------------------------------------------------------------------------------------------------------ */
namespace {

constexpr size_t stack_bytes = 64 * 1024;

struct fiber {
    ucontext_t ctx;
    dim3 idx;
    bool done;
};

ucontext_t scheduler;
fiber *running;
const std::function<void()> *body;

void fiber_main()
{
    (*body)();
    running->done = true;
    swapcontext(&running->ctx, &scheduler);
}

} // namespace

void __syncthreads() { swapcontext(&running->ctx, &scheduler); }

static void start(fiber *f, char *stack)
{
    getcontext(&f->ctx);
    f->ctx.uc_stack.ss_sp = stack;
    f->ctx.uc_stack.ss_size = stack_bytes;
    f->ctx.uc_link = nullptr;
    f->done = false;
    makecontext(&f->ctx, fiber_main, 0);
}

/* Between two barriers every fiber runs once, in turn. A fiber that ends while others wait would hang a real block only if
 * they wait for it; since a later barrier without it is a bug in the kernel, that aborts. */
static void run_block(std::vector<fiber> &f, char *stacks)
{
    for (size_t t = 0; t < f.size(); t++) start(&f[t], stacks + t * stack_bytes);
    for (size_t left = f.size(); left > 0;) {
        size_t ended = 0;
        for (fiber &g : f) {
            running = &g;
            threadIdx = g.idx;
            swapcontext(&scheduler, &g.ctx);
            ended += g.done;
        }
        if (ended != left) {
            if (ended != 0) {
                std::fprintf(stderr, "kernel: %zu of %zu threads ended while the others wait at a barrier\n", ended, left);
                std::abort();
            }
            continue;
        }
        left = 0;
    }
}

static int launches;
static cudaError_t pending;

void rt_host_launch(dim3 grid, dim3 block, const std::function<void()> &k)
{
    const size_t threads = (size_t)block.x * block.y * block.z;
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || threads == 0 || threads > 1024) {
        pending = cudaErrorInvalidConfiguration;
        return;
    }
    std::vector<fiber> f(threads);
    static std::vector<char> stacks;
    if (stacks.size() < threads * stack_bytes) stacks.resize(threads * stack_bytes);
    for (size_t t = 0; t < threads; t++)
        f[t].idx = dim3((unsigned)(t % block.x), (unsigned)(t / block.x % block.y), (unsigned)(t / block.x / block.y));
    gridDim = grid;
    blockDim = block;
    body = &k;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                blockIdx = dim3(x, y, z);
                run_block(f, stacks.data());
            }
    launches++;
}

/* --- runtime ----------------------------------------------------------------------------------------------------------- */
static int n_devices = 1, sm_major = 9, live, fail_in;
static cudaError_t fail_with;

static bool fails(cudaError_t *e)
{
    if (fail_in == 0 || --fail_in > 0) return false;
    *e = fail_with;
    return true;
}

#define MAY_FAIL()                                                                                                     \
    do {                                                                                                               \
        cudaError_t injected_ = cudaSuccess;                                                                           \
        if (fails(&injected_)) return injected_;                                                                       \
    } while (0)

extern "C" {

void rt_host_cuda_machine(int devices, int major)
{
    n_devices = devices;
    sm_major = major;
}

void rt_host_cuda_fail_at(int n, cudaError_t with)
{
    fail_in = n;
    fail_with = with;
}

int rt_host_cuda_live(void) { return live; }
int rt_host_cuda_launches(void) { return launches; }

cudaError_t cudaGetDeviceCount(int *n)
{
    MAY_FAIL();
    if (n_devices < 0) return cudaErrorInsufficientDriver; /* *n untouched, as the real one */
    if (n_devices == 0) return cudaErrorNoDevice;
    *n = n_devices;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
    MAY_FAIL();
    if (device < 0 || device >= n_devices) return cudaErrorInvalidValue;
    std::memset(p, 0, sizeof *p);
    std::snprintf(p->name, sizeof p->name, "host fibers");
    p->major = sm_major;
    p->multiProcessorCount = 1;
    p->totalGlobalMem = (size_t)1 << 30;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int) { MAY_FAIL(); return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int *v) { MAY_FAIL(); *v = 13000; return cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int *v) { MAY_FAIL(); *v = 13000; return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { MAY_FAIL(); return cudaSuccess; }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned)
{
    MAY_FAIL();
    *s = static_cast<cudaStream_t>(std::malloc(1));
    live++;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    std::free(s);
    live--;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    MAY_FAIL();
    if (bytes > ((size_t)1 << 30)) return cudaErrorMemoryAllocation;
    if (posix_memalign(p, 256, bytes) != 0) return cudaErrorMemoryAllocation; /* exact size: the sanitizer guards its end */
    std::memset(*p, 0xff, bytes); /* NaN: device memory is not zeroed */
    live++;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    std::free(p);
    live--;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    *free_bytes = (size_t)1 << 29;
    *total = (size_t)1 << 30;
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t)
{
    MAY_FAIL();
    std::memset(p, value, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind, cudaStream_t)
{
    MAY_FAIL();
    std::memcpy(dst, src, bytes);
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void)
{
    MAY_FAIL();
    const cudaError_t e = pending;
    pending = cudaSuccess;
    return e;
}

const char *cudaGetErrorString(cudaError_t e)
{
    switch (e) {
    case cudaErrorInsufficientDriver: return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorMemoryAllocation: return "out of memory";
    default: return e == cudaSuccess ? "no error" : "injected";
    }
}

const char *cudaGetErrorName(cudaError_t e) { return e == cudaSuccess ? "cudaSuccess" : "cudaError"; }

} // extern "C"
