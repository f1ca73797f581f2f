/* BLAS by its Fortran names, which every implementation has. Its matrices are column-major: a row-major matrix is its own
 * transpose there. */
#include "base/linalg.h"

#include <dlfcn.h>
#include <lapacke.h>

void sgemm_(const char *ta, const char *tb, const int *m, const int *n, const int *k, const float *alpha, const float *a,
            const int *lda, const float *b, const int *ldb, const float *beta, float *c, const int *ldc);
void dgemm_(const char *ta, const char *tb, const int *m, const int *n, const int *k, const double *alpha, const double *a,
            const int *lda, const double *b, const int *ldb, const double *beta, double *c, const int *ldc);

void rt_blas_one_thread(void)
{
    void (*set)(int) = NULL; /* OpenBLAS; other libraries are built for one thread or follow OMP_NUM_THREADS */
    *(void **)&set = dlsym(RTLD_DEFAULT, "openblas_set_num_threads");
    if (set) set(1);
}

rt_status rt_eigen(double *a, int64_t n, double *w, bool vectors)
{
    if (n < 1 || n > 46340) return RT_RAISE(RT_ERR_ARG, "eigenvalues of a matrix of order %lld", (long long)n);
    rt_blas_one_thread();
    /* Column-major: the matrix is symmetric, and eigenvectors come out as rows of ours. */
    lapack_int info = LAPACKE_dsyevd(LAPACK_COL_MAJOR, vectors ? 'V' : 'N', 'U', (lapack_int)n, a, (lapack_int)n, w);
    if (info == LAPACK_WORK_MEMORY_ERROR)
        return RT_RAISE(RT_ERR_NOMEM, "no memory for eigenvalues of order %lld", (long long)n);
    if (info)
        return RT_RAISE(RT_ERR_NUMERIC, "eigenvalues of order %lld: dsyevd returned %d", (long long)n, (int)info);
    return RT_OK;
}

/* In column-major terms c^T [n,m] = B A^T with A = columns i0.., B = columns j0.. of a. */
void rt_gram_tile_f32(const float *a, int64_t rows, int64_t lda, int64_t i0, int64_t m, int64_t j0, int64_t n, float beta,
                      float *c, int64_t ldc)
{
    const int im = (int)m, in = (int)n, ik = (int)rows, il = (int)lda, ic = (int)ldc;
    const float one = 1;
    sgemm_("N", "T", &in, &im, &ik, &one, a + j0, &il, a + i0, &il, &beta, c, &ic);
}

void rt_gram_tile_f64(const double *a, int64_t rows, int64_t lda, int64_t i0, int64_t m, int64_t j0, int64_t n, double beta,
                      double *c, int64_t ldc)
{
    const int im = (int)m, in = (int)n, ik = (int)rows, il = (int)lda, ic = (int)ldc;
    const double one = 1;
    dgemm_("N", "T", &in, &im, &ik, &one, a + j0, &il, a + i0, &il, &beta, c, &ic);
}

void rt_rows_times_f32(const float *x, int64_t rows, int64_t d, const float *t, float *y)
{
    const int in = (int)rows, id = (int)d;
    const float one = 1, zero = 0;
    sgemm_("N", "N", &id, &in, &id, &one, t, &id, x, &id, &zero, y, &id);
}
