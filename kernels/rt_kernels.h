/* The launchers: the C-visible list of device kernels. Each one puts work on the stream and returns the launch's status; none
 * allocates, synchronises or chooses a policy. Pointers are device memory. Nothing is launched for zero elements.
 *
 * Element order of every reduction is fixed by the shape alone: no atomics, same bits on every run. */
#ifndef RT_KERNELS_H
#define RT_KERNELS_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#include "math/view.h"

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
/* y[...by sb] = a[...by sa] for every element of m.d: broadcast, transpose, slice, pad and concat are maps. 32-bit elements of
 * any type; a and y point at the first element used. */
cudaError_t rt_k_copy(const void *a, void *y, const rt_k_map *m, cudaStream_t s);

/* Rounding to bfloat16 and widening from it, reading through m likewise. */
cudaError_t rt_k_to_bf16(const float *a, uint16_t *y, const rt_k_map *m, cudaStream_t s);
cudaError_t rt_k_from_bf16(const uint16_t *a, float *y, const rt_k_map *m, cudaStream_t s);

/* Where a kernel reports data that is out of range (an index): a word the host reads after the stream is synchronised, 0 while
 * all is well. `op` names the reporter. Of several faults any one is kept. */
typedef struct rt_k_fault {
    uint64_t *word;
    uint32_t op; /* below 255 */
} rt_k_fault;
/* The word: op + 1 in the highest 8 bits, then the position (24 bits, saturated), then the index as it was found. */
#define RT_K_FAULT_OP(word) ((uint32_t)((word) >> 56) - 1u)
#define RT_K_FAULT_AT(word) ((uint32_t)((word) >> 32) & 0xFFFFFFu)
#define RT_K_FAULT_INDEX(word) ((int32_t)(uint32_t)(word))

/* --- index (axis 0): rows of `row` 32-bit elements ------------------------------------------------------------------------ */
cudaError_t rt_k_gather(const void *x, const int32_t *idx, void *y, int64_t m, int64_t row, int64_t rows, rt_k_fault f, cudaStream_t s);
/* chain: scratch of rows + m int32. m below 2^31. */
cudaError_t rt_k_scatter_add(const float *gy, const int32_t *idx, float *gx, int64_t m, int64_t row, int64_t rows, int32_t *chain,
                             rt_k_fault f, cudaStream_t s);
cudaError_t rt_k_one_hot(const int32_t *idx, float *y, int64_t m, int64_t classes, rt_k_fault f, cudaStream_t s);

/* --- pooling: x [n,h,w,c], y and index [n,p,q,c] --------------------------------------------------------------------------- */
typedef struct rt_k_pool {
    int64_t n;
    int32_t h, w, c, p, q, size[2], stride[2], pad[2];
} rt_k_pool;
cudaError_t rt_k_avg_pool(const float *x, float *y, const rt_k_pool *a, cudaStream_t s);
cudaError_t rt_k_avg_pool_dx(const float *gy, float *gx, const rt_k_pool *a, cudaStream_t s);
cudaError_t rt_k_max_pool(const float *x, float *y, int32_t *index, const rt_k_pool *a, cudaStream_t s);
cudaError_t rt_k_max_pool_dx(const float *gy, const int32_t *index, float *gx, const rt_k_pool *a, rt_k_fault f, cudaStream_t s);
cudaError_t rt_k_pool_gather(const float *gx, const int32_t *index, float *gy, const rt_k_pool *a, rt_k_fault f, cudaStream_t s);

/* --- normalisation (norm.cu): x is segments of rows x c; y and gy are segments of units x c --------------------------------- */
enum { RT_K_NORM_SLAB = 32 }; /* channels of a block; fused needs c / groups to be a power of two no larger */
typedef struct rt_k_norm {
    int64_t segments, rows, units; /* units: pixels of y in a segment, rows / 4 with the pool; rows below 2^31 */
    int64_t nets, per_net;         /* parameters [nets, c]; per_net segments in a row use the same */
    int64_t chunk, n_chunks;       /* split: units of a block, and blocks of a segment */
    int32_t h, w, c, groups;       /* groups of a segment */
    int32_t relu, pool, fused;
    float eps;
    const float *x, *gamma, *beta, *mean, *rstd, *gy; /* mean, rstd [segments, groups]; the last three: backward */
    float *y, *mean_out, *rstd_out;                   /* forward */
    float *gx, *ggamma, *gbeta;                       /* backward */
    float *part_a, *part_b;                           /* scratch, split: [segments, n_chunks, c] */
    float *sum_g, *sum_gx;                            /* scratch, backward: [segments, c] */
    float *stat_e, *stat_ex;                          /* scratch, backward and split: [segments, groups] */
} rt_k_norm;
cudaError_t rt_k_norm_forward(const rt_k_norm *a, cudaStream_t s);
cudaError_t rt_k_norm_backward(const rt_k_norm *a, cudaStream_t s);

/* Tangents of either (norm_tangent.cu); fields as above. ty set: of the forward op; else of the gradient. n_chunks >= 1. */
typedef struct rt_k_norm_tangent {
    int64_t segments, rows, units, nets, per_net, chunk, n_chunks;
    int32_t h, w, c, groups, relu, pool;
    const float *x, *gamma, *beta, *mean, *rstd, *tx, *tgamma;
    const float *tbeta;              /* forward */
    const float *gy, *tgy;           /* gradient; tgy may be NULL: zero */
    float *ty;                       /* forward */
    float *tgx, *tggamma, *tgbeta;   /* gradient */
    float *part, *sum, *stat;        /* scratch: [n_chunks, segments, sums, c] when n_chunks > 1; [segments, sums, c]; [segments, groups, 6] */
} rt_k_norm_tangent;
enum { RT_K_NORM_SUMS = 2, RT_K_NORM_DX_SUMS = 7, RT_K_NORM_STATS = 6 }; /* sums of either op */
cudaError_t rt_k_norm_tangent_run(const rt_k_norm_tangent *a, cudaStream_t s);

/* --- batches of views of resident images (math/view.h): out [batch,h,w,3] from px [n,h,w,3]; table [256,3]: normalised values */
typedef struct rt_k_views {
    const uint8_t *px;
    const rt_pixel_view *plan; /* [batch], on the device */
    const float *table;
    float *out;
    int64_t batch;
    int32_t h, w, resize;
} rt_k_views;
cudaError_t rt_k_views_fill(const rt_k_views *a, cudaStream_t s);

/* --- losses over the last axis ---------------------------------------------------------------------------------------------- */
cudaError_t rt_k_log_softmax(const float *x, float *y, int64_t rows, int64_t cols, cudaStream_t s);
cudaError_t rt_k_softmax_ce(const float *z, const float *q, float *loss, float *p, int64_t rows, int64_t cols, cudaStream_t s);

/* --- made from a counter or from nothing ------------------------------------------------------------------------------------ */
typedef struct rt_k_iota { /* y[i] = offset + sum at_k * coef[k], i row-major over d (ones in front); float when real, else int32 */
    void *y;
    int64_t n, offset, d[RT_K_RANK], coef[RT_K_RANK];
    int32_t real;
} rt_k_iota;
typedef struct rt_k_dropout { /* y [nets, each]: kept or 0 (math/dropout.h); counter [nets, 4] */
    const int32_t *counter;
    float *y;
    int64_t nets, each;
    uint32_t purpose, stream, limit;
    float kept;
} rt_k_dropout;
cudaError_t rt_k_iota_fill(const rt_k_iota *a, cudaStream_t s);
cudaError_t rt_k_dropout_mask(const rt_k_dropout *a, cudaStream_t s);

/* --- differentiable views (math/sample.inc) ----------------------------------------------------------------------------------- */
typedef struct rt_k_affine { /* in: the image that is read (sample) or written (scatter); out: the sampled points */
    int64_t images, h_in, w_in, h_out, w_out;
    int32_t c;
} rt_k_affine;
cudaError_t rt_k_color(const float *x, const float *param, float *y, int64_t images, int64_t pixels, int32_t c, cudaStream_t s);
cudaError_t rt_k_affine_sample(const float *x, const float *a, float *y, const rt_k_affine *g, cudaStream_t s);
cudaError_t rt_k_affine_scatter(const float *gy, const float *a, float *gx, const rt_k_affine *g, cudaStream_t s);
cudaError_t rt_k_box_mask(const float *x, const float *box, float *y, int64_t images, int64_t h, int64_t w, int32_t c, cudaStream_t s);

/* --- recovery: one view per block of images (math/crop.inc), moments per channel of blocks ---------------------------------- */
typedef struct rt_k_crop { /* images [images,h,w,c], `each` to a box of 8; views [images,h_view,w_view,c] */
    int64_t images, each, h, w, h_view, w_view;
    int32_t c;
} rt_k_crop;
typedef struct rt_k_blocks_of { /* x [groups * each, pixels, channels] */
    int64_t groups, each, pixels, channels;
} rt_k_blocks_of;
cudaError_t rt_k_crop_view(const float *x, const float *box, float *y, const rt_k_crop *g, cudaStream_t s);
cudaError_t rt_k_crop_view_dx(const float *gy, const float *box, float *gx, const rt_k_crop *g, cudaStream_t s);
/* mean, var [groups,channels]; scratch: 2 * groups * each * channels floats */
cudaError_t rt_k_moments(const float *x, float *mean, float *var, float *scratch, const rt_k_blocks_of *b, cudaStream_t s);
cudaError_t rt_k_moments_dx(const float *x, const float *mean, const float *gmean, const float *gvar, float *gx, const rt_k_blocks_of *b,
                            cudaStream_t s);

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
