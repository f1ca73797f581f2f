/* ZCA whitening as the trajectory-matching lineage has it (kornia's ZCAWhitening with eps 0.1; matching.md 2.3).
 *
 * Images in [0,1], flattened C,H,W to d values: mean mu, covariance S = U diag(s) U^T of the training images (divided by
 * n - 1), T = U diag(1 / sqrt(s + eps)) U^T, x' = (x - mu) T. T is symmetric, and so is the way back, U diag(sqrt(s + eps))
 * U^T. eps is large against most eigenvalues on purpose: the whitened covariance has eigenvalues s / (s + eps).
 *
 * The same bytes for any number of threads: the Gram matrix of 8-bit pixels is summed exactly, in integers; the eigenproblem
 * runs on one thread; products are cut into parts of fixed size. Memory while fitting: about 5 d^2 doubles (CIFAR: 380 MB). */
#ifndef RT_DATA_ZCA_H
#define RT_DATA_ZCA_H

#include "data/data.h"

typedef struct rt_zca {
    int32_t h, w;      /* of the images; 3 channels */
    int64_t d;         /* 3 h w */
    double eps;
    float *mean;       /* [d], C,H,W */
    float *transform;  /* T [d,d] */
    float *inverse;    /* [d,d] */
    double *spectrum;  /* s [d], ascending */
    char hash[RT_HASH_HEX]; /* of the stored transform: what a set says it lives under; "" until stored or read */
} rt_zca;

/* Fits on at least two images. RT_ERR_FORMAT when no pixel varies. */
rt_status rt_zca_fit(const rt_images *im, double eps, int threads, rt_zca *out);
void rt_zca_fini(rt_zca *z);
/* n images [h,w,3] in [0,1], in place. */
rt_status rt_zca_whiten(const rt_zca *z, int64_t n, int threads, float *px);
/* The way back: whitened px to pixels in [0,1] (up to rounding, not clamped); out may be px. */
rt_status rt_zca_restore(const rt_zca *z, const float *px, int64_t n, int threads, float *out);
/* The same to 8 bits, clamped: what whitened images look like. */
rt_status rt_zca_rgb(const rt_zca *z, const float *px, int64_t n, int threads, uint8_t *rgb);
/* Gives resident images their whitened pixels (rt_images.white), from which batches are made from then on. Borrows z until
 * the images are released. */
rt_status rt_zca_attach(const rt_zca *z, int threads, rt_images *im);

#endif
