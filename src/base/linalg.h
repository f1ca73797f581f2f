/* Dense linear algebra through BLAS and LAPACK, always on one of their threads: the number of threads a library happens to
 * start must not reach the last digits, and its threads would crowd out ours. Callers split the work themselves, into parts
 * that do not depend on the number of threads. */
#ifndef RT_BASE_LINALG_H
#define RT_BASE_LINALG_H

#include <stdbool.h>
#include <stdint.h>

#include "retort/status.h"

/* Eigenvalues w[n], ascending, of the symmetric matrix a [n,n], which is overwritten: with its eigenvectors as rows when
 * `vectors`. n at most 46340. */
rt_status rt_eigen(double *a, int64_t n, double *w, bool vectors);

/* To be called once before a parallel region that multiplies. */
void rt_blas_one_thread(void);
/* c[i][j] = sum over k of a[k][i0 + i] * a[k][j0 + j] for i < m, j < n and k < rows, plus beta * c: a tile of the Gram
 * matrix of the columns of a [rows, lda]; c has rows of ldc. */
void rt_gram_tile_f32(const float *a, int64_t rows, int64_t lda, int64_t i0, int64_t m, int64_t j0, int64_t n, float beta,
                      float *c, int64_t ldc);
void rt_gram_tile_f64(const double *a, int64_t rows, int64_t lda, int64_t i0, int64_t m, int64_t j0, int64_t n, double beta,
                      double *c, int64_t ldc);
/* y [rows, d] = x [rows, d] t [d, d]. */
void rt_rows_times_f32(const float *x, int64_t rows, int64_t d, const float *t, float *y);

#endif
