/* The words of CUDA C++ for a host compiler. A launch runs its blocks one after the other; every thread of a block is a fiber
 * (ucontext), and __syncthreads switches to the next, so real block algorithms run: shared-memory trees, tails, several rows
 * a block. What it cannot show is a data race: compute-sanitizer's racecheck on a GPU does. */
#ifndef RT_TESTS_HOST_CUDA_RUNTIME_H
#define RT_TESTS_HOST_CUDA_RUNTIME_H

#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

#include "cuda_runtime_api.h"

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(threads)
#define __shared__ static /* blocks run one at a time */

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
extern dim3 threadIdx, blockIdx, blockDim, gridDim; /* of the running fiber */

void __syncthreads();
void rt_host_launch(dim3 grid, dim3 block, cudaStream_t stream, const std::function<void()> &body);

/* A launch keeps copies of its arguments, as a real one does: the caller's are gone when a captured graph runs. */
template <class... P, class... A>
void rt_host_enqueue(void (*kernel)(P...), dim3 grid, dim3 block, cudaStream_t stream, A &&...args)
{
    std::tuple<std::decay_t<P>...> kept(std::forward<A>(args)...);
    rt_host_launch(grid, block, stream, [kernel, kept] { std::apply(kernel, kept); });
}

#define RT_LAUNCH(kernel, grid, block, stream, ...) rt_host_enqueue(kernel, (grid), (block), (stream), __VA_ARGS__)

#endif
