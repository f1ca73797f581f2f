/* The launchers: the C-visible list of device kernels. Each one puts work on the stream and returns the launch's status; none
 * allocates, synchronises or chooses a policy. Pointers are device memory. Nothing is launched for zero elements.
 *
 * Element order of every reduction is fixed by the shape alone: no atomics, same bits on every run. */
#ifndef RT_KERNELS_H
#define RT_KERNELS_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { RT_K_RANK = 6 };

/* How output element i (row-major over d) reads its inputs: a[sum at_k * sa[k]], b[sum at_k * sb[k]]. A stride 0 broadcasts. */
typedef struct rt_k_map {
    int32_t rank;
    int64_t n; /* product of d */
    int64_t d[RT_K_RANK], sa[RT_K_RANK], sb[RT_K_RANK];
} rt_k_map;

/* A reduction over x: output o (row-major over kept_d) gathers n_red elements (row-major over red_d). `columns` tells that
 * neighbouring outputs are neighbours in x: then a thread takes an output, else a group of threads does. Both work through
 * `chunk` elements at a time; with more than one chunk the partial results pass through scratch (n_chunks * n_out reals). */
typedef struct rt_k_reduce {
    int64_t n_out, n_red, chunk, n_chunks;
    int32_t columns, kept_rank, red_rank;
    int64_t kept_d[RT_K_RANK], kept_s[RT_K_RANK], red_d[RT_K_RANK], red_s[RT_K_RANK];
} rt_k_reduce;

#define RT_UNARY(ENUM, name) cudaError_t rt_k_##name(const float *x, float *y, int64_t n, cudaStream_t s);
#define RT_BINARY(ENUM, name) cudaError_t rt_k_##name(const float *a, const float *b, float *y, const rt_k_map *m, cudaStream_t s);
#include "math/elementwise.def"
#undef RT_UNARY
#undef RT_BINARY

cudaError_t rt_k_fill(float *y, float value, int64_t n, cudaStream_t s);
/* y[i] = a[...] through m (sb is not read): broadcast, transpose and slice are maps. 32-bit elements of any type. */
cudaError_t rt_k_copy(const void *a, void *y, const rt_k_map *m, cudaStream_t s);

cudaError_t rt_k_sum(const float *x, float *y, const rt_k_reduce *r, float *scratch, cudaStream_t s);
cudaError_t rt_k_amax(const float *x, float *y, const rt_k_reduce *r, float *scratch, cudaStream_t s); /* NaN wins */
cudaError_t rt_k_argmax(const float *x, int32_t *y, int64_t rows, int64_t cols, cudaStream_t s); /* first of the largest */

/* Optimiser steps (math/optim.inc). decay_step 0: one decay for all; 1: one per element. Outputs may be the inputs. lr and
 * hyper are read on the device, so a captured graph follows a schedule. */
typedef struct rt_k_sgd {
    const float *theta, *v, *grad, *lr, *decay;
    float *theta_new, *v_new;
    int64_t n, decay_step;
    float momentum;
    int32_t nesterov;
} rt_k_sgd;
typedef struct rt_k_adam {
    const float *theta, *m, *v, *grad, *hyper, *decay; /* hyper: lr, 1 - beta1^t, 1 - beta2^t */
    float *theta_new, *m_new, *v_new;
    int64_t n, decay_step;
    float beta1, beta2, eps;
    int32_t decoupled;
} rt_k_adam;
cudaError_t rt_k_sgd_step(const rt_k_sgd *a, cudaStream_t s);
cudaError_t rt_k_adam_step(const rt_k_adam *a, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif
