/* The host CUDA runtime and the fiber scheduler (cuda_runtime_api.h, cuda_runtime.h). */
#include "cuda_runtime.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <ucontext.h>
#include <vector>

dim3 threadIdx, blockIdx, blockDim, gridDim;

/* Where the suites' stand-ins for cuDNN and cuBLASLt are, unless the caller names others. */
__attribute__((constructor)) static void name_libraries() { setenv("RT_CUDA_LIBRARIES", RT_MOCK_LIBRARIES, 0); }

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
static cudaError_t enqueue(cudaStream_t s, std::function<cudaError_t()> work);

static void run_grid(dim3 grid, dim3 block, const std::function<void()> &k)
{
    const size_t threads = (size_t)block.x * block.y * block.z;
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

void rt_host_launch(dim3 grid, dim3 block, cudaStream_t stream, const std::function<void()> &k)
{
    const size_t threads = (size_t)block.x * block.y * block.z;
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || threads == 0 || threads > 1024) {
        pending = cudaErrorInvalidConfiguration;
        return;
    }
    enqueue(stream, [grid, block, k] { run_grid(grid, block, k); return cudaSuccess; });
}

/* --- streams, events, graphs --------------------------------------------------------------------------------------------- */
struct op {
    std::function<cudaError_t()> work;
    cudaEvent_t wait; /* or an event of another stream, by value below */
    cudaStream_t of;
    size_t upto;
};
struct CUgraph_st {
    std::vector<std::function<cudaError_t()>> work;
};
struct CUgraphExec_st {
    std::shared_ptr<CUgraph_st> g;
};
struct CUstream_st {
    std::vector<op> queue; /* all there ever was; done: worked off */
    size_t done = 0;
    std::unique_ptr<CUgraph_st> capture;
    bool broken = false;  /* something forbidden happened while capturing */
};
struct CUevent_st {
    cudaStream_t of = nullptr;
    size_t upto = 0;
    double at = 0;
};

static std::vector<cudaStream_t> streams;
static std::map<void *, size_t> pinned;
static double clock_ms;
static cudaError_t sticky;
static int n_devices = 1, sm_major = 9, live, fail_in, graph_launches, calls;
static cudaError_t fail_with;

/* Works a stream off up to a position, following its waits. */
static void drain(cudaStream_t s, size_t upto)
{
    while (s->done < upto) {
        op now = s->queue[s->done++];
        s->queue[s->done - 1].work = nullptr;
        if (now.of) drain(now.of, now.upto);
        else {
            const cudaError_t e = now.work();
            if (e != cudaSuccess && sticky == cudaSuccess) sticky = e;
        }
    }
}

static void drain_all()
{
    for (cudaStream_t s : streams) drain(s, s->queue.size());
}

static cudaError_t enqueue(cudaStream_t s, std::function<cudaError_t()> work)
{
    if (s->capture) s->capture->work.push_back(std::move(work));
    else s->queue.push_back({std::move(work), nullptr, nullptr, 0});
    return cudaSuccess;
}

/* What a capture in progress forbids breaks it. */
static bool forbidden()
{
    bool any = false;
    for (cudaStream_t s : streams)
        if (s->capture) any = s->broken = true;
    return any;
}

static cudaError_t settled()
{
    const cudaError_t e = sticky;
    sticky = cudaSuccess;
    return e;
}

static bool is_pinned(const void *p)
{
    const char *at = static_cast<const char *>(p);
    for (auto &r : pinned)
        if (at >= static_cast<char *>(r.first) && at < static_cast<char *>(r.first) + r.second) return true;
    return false;
}

/* --- runtime ----------------------------------------------------------------------------------------------------------- */
static bool fails(cudaError_t *e)
{
    calls++;
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
int rt_host_cuda_graph_launches(void) { return graph_launches; }
int rt_host_cuda_calls(void) { return calls; }
void rt_host_cuda_count(int delta) { live += delta; }
void rt_host_cuda_pass(double ms) { clock_ms += ms; }

int rt_host_cuda_fails(void)
{
    cudaError_t e = cudaSuccess;
    fails(&e);
    return e;
}

cudaError_t rt_host_cuda_enqueue(cudaStream_t s, cudaError_t (*run)(void *), void *ctx, void (*drop)(void *))
{
    std::shared_ptr<void> kept(ctx, drop);
    return enqueue(s, [run, kept] { return run(kept.get()); });
}

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

cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    MAY_FAIL();
    if (s->capture) {
        s->broken = true;
        return cudaErrorStreamCaptureUnsupported;
    }
    drain(s, s->queue.size());
    return settled();
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned)
{
    MAY_FAIL();
    *s = new CUstream_st;
    streams.push_back(*s);
    live++;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    drain_all(); /* queued work of others may wait for this one */
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i] == s) streams.erase(streams.begin() + (long)i);
    delete s;
    live--;
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned)
{
    MAY_FAIL();
    if (s->capture) {
        s->broken = true; /* this runtime captures single streams only */
        return cudaErrorStreamCaptureUnsupported;
    }
    if (e->of && e->of != s) s->queue.push_back({nullptr, e, e->of, e->upto});
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode)
{
    MAY_FAIL();
    if (s->capture) return cudaErrorStreamCaptureUnsupported;
    s->capture.reset(new CUgraph_st);
    s->broken = false;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g)
{
    cudaError_t injected = cudaSuccess;
    const bool broken = s->broken, fail = fails(&injected);
    std::unique_ptr<CUgraph_st> got(std::move(s->capture)); /* capture ends whatever is returned */
    s->broken = false;
    *g = nullptr;
    if (fail) return injected;
    if (!got) return cudaErrorInvalidValue;
    if (broken) return cudaErrorStreamCaptureInvalidated;
    *g = got.release();
    live++;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *e, cudaGraph_t g, unsigned long long)
{
    MAY_FAIL();
    *e = new CUgraphExec_st{std::make_shared<CUgraph_st>(*g)};
    live++;
    return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { MAY_FAIL(); return cudaSuccess; }

cudaError_t cudaGraphLaunch(cudaGraphExec_t e, cudaStream_t s)
{
    MAY_FAIL();
    graph_launches++;
    std::shared_ptr<CUgraph_st> g = e->g;
    return enqueue(s, [g] {
        cudaError_t first = cudaSuccess;
        for (auto &w : g->work) {
            const cudaError_t now = w();
            if (first == cudaSuccess) first = now;
        }
        return first;
    });
}

cudaError_t cudaGraphDestroy(cudaGraph_t g)
{
    delete g;
    live--;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t e)
{
    drain_all();
    delete e;
    live--;
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned)
{
    MAY_FAIL();
    *e = new CUevent_st;
    live++;
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *e) { return cudaEventCreateWithFlags(e, 0); }

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    MAY_FAIL();
    if (s->capture) {
        s->broken = true;
        return cudaErrorStreamCaptureUnsupported;
    }
    s->queue.push_back({[e] { e->at = clock_ms; return cudaSuccess; }, nullptr, nullptr, 0});
    e->of = s;
    e->upto = s->queue.size();
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    MAY_FAIL();
    if (forbidden()) return cudaErrorStreamCaptureUnsupported;
    if (e->of) drain(e->of, e->upto);
    return settled();
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    MAY_FAIL();
    *ms = (float)(to->at - from->at);
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    drain_all();
    delete e;
    live--;
    return cudaSuccess;
}

static cudaError_t allocate(void **p, size_t bytes)
{
    if (forbidden()) return cudaErrorStreamCaptureUnsupported;
    if (bytes > ((size_t)1 << 30)) return cudaErrorMemoryAllocation;
    if (posix_memalign(p, 256, bytes) != 0) return cudaErrorMemoryAllocation; /* exact size: the sanitizer guards its end */
    std::memset(*p, 0xff, bytes); /* NaN: device memory is not zeroed */
    live++;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    MAY_FAIL();
    return allocate(p, bytes);
}

cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    MAY_FAIL();
    const cudaError_t e = allocate(p, bytes);
    if (e == cudaSuccess) pinned[*p] = bytes;
    return e;
}

static cudaError_t release(void *p)
{
    if (forbidden()) return cudaErrorStreamCaptureUnsupported;
    drain_all();
    if (p) live--;
    std::free(p);
    return cudaSuccess;
}

cudaError_t cudaFree(void *p) { return release(p); }

cudaError_t cudaFreeHost(void *p)
{
    pinned.erase(p);
    return release(p);
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    *free_bytes = (size_t)1 << 29;
    *total = (size_t)1 << 30;
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t s)
{
    MAY_FAIL();
    return enqueue(s, [=] { std::memset(p, value, bytes); return cudaSuccess; });
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t s)
{
    MAY_FAIL();
    const bool device_only = kind == cudaMemcpyDeviceToDevice;
    if (device_only || is_pinned(kind == cudaMemcpyHostToDevice ? src : dst))
        return enqueue(s, [=] { std::memcpy(dst, src, bytes); return cudaSuccess; });
    if (s->capture) {
        s->broken = true; /* a copy of pageable memory synchronises */
        return cudaErrorStreamCaptureUnsupported;
    }
    drain(s, s->queue.size());
    std::memcpy(dst, src, bytes);
    return settled();
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
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated: return "operation failed due to a previous error during capture";
    default: return e == cudaSuccess ? "no error" : "injected";
    }
}

const char *cudaGetErrorName(cudaError_t e) { return e == cudaSuccess ? "cudaSuccess" : "cudaError"; }

} // extern "C"
