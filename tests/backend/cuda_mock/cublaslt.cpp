/* A cuBLASLt for machines without a GPU: column-major products on the streams of tests/kernels/host.
 *
 * Layouts are read as described (type, rows, columns, leading dimension, batch), so a wrong description gives wrong numbers or
 * a refusal. Four algorithms are offered: the first cannot run (its state says so), the second needs workspace, the third is
 * the fastest, the fourth joins split sums in place and is offered only to callers that allow that. Pointers must be aligned as
 * the heuristic was told. */
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>

#include "backend/cuda/vendor.h"

namespace {

struct layout {
    int type;
    uint64_t rows, cols;
    int64_t ld, stride;
    int32_t batch;
};
struct product {
    int compute, op[2]; /* of A, of B */
};
struct preference {
    uint64_t workspace;
    uint32_t schemes, align[4];
};
struct job {
    product p;
    layout a, b, d;
    const void *pa, *pb;
    void *pd, *workspace;
    float alpha, beta;
    size_t workspace_bytes;
    double ms;
};

enum { SUCCESS = 0, NO_MEMORY = 3, INVALID = 7, FAILED = 13, NOT_SUPPORTED = 15 };
const uint64_t MAGIC = 0x5245544f52544c54;
const size_t workspaces[] = {0, 4096, 0, 64};
const double times[] = {0.01, 1.0, 0.5, 0.1};

int injected()
{
    switch (rt_host_cuda_fails()) {
    case cudaSuccess: return SUCCESS;
    case cudaErrorMemoryAllocation: return NO_MEMORY;
    default: return FAILED;
    }
}
#define MAY_FAIL()                                                                                                     \
    do {                                                                                                               \
        const int injected_ = injected();                                                                              \
        if (injected_ != SUCCESS) return injected_;                                                                    \
    } while (0)

template <typename T> int make(void **out, const T &v)
{
    MAY_FAIL();
    *out = new T(v);
    rt_host_cuda_count(1);
    return SUCCESS;
}
template <typename T> int destroy(void *p)
{
    delete static_cast<T *>(p);
    rt_host_cuda_count(-1);
    return SUCCESS;
}

float load(int type, const void *p, int64_t i)
{
    if (type == RT_CUDA_R_32F) return ((const float *)p)[i];
    const uint32_t u = (uint32_t)((const uint16_t *)p)[i] << 16;
    float f;
    std::memcpy(&f, &u, 4);
    return f;
}

double tf32(double v)
{
    if (v == 0 || !std::isfinite(v)) return v;
    int e = 0;
    const double m = std::frexp(v, &e);
    return std::ldexp(std::nearbyint(std::ldexp(m, 11)), e - 11);
}

bool fits(const product &p, const layout &a, const layout &b, const layout &d)
{
    const uint64_t m = p.op[0] ? a.cols : a.rows, k = p.op[0] ? a.rows : a.cols, kb = p.op[1] ? b.cols : b.rows, n = p.op[1] ? b.rows : b.cols;
    return m == d.rows && n == d.cols && k == kb && a.batch == b.batch && a.batch == d.batch && a.type == b.type && d.type == RT_CUDA_R_32F &&
           a.ld >= (int64_t)a.rows && b.ld >= (int64_t)b.rows && d.ld >= (int64_t)d.rows;
}

cudaError_t work(void *ctx)
{
    const job &j = *(const job *)ctx;
    const bool fast = j.p.compute == RT_CUBLAS_COMPUTE_32F_FAST_TF32;
    const int64_t k = (int64_t)(j.p.op[0] ? j.a.rows : j.a.cols);
    if (j.workspace_bytes) std::memset(j.workspace, 0xa5, j.workspace_bytes);
    for (int64_t s = 0; s < j.d.batch; s++)
        for (int64_t col = 0; col < (int64_t)j.d.cols; col++)
            for (int64_t row = 0; row < (int64_t)j.d.rows; row++) {
                double sum = 0;
                for (int64_t i = 0; i < k; i++) {
                    const int64_t at = s * j.a.stride + (j.p.op[0] ? row * j.a.ld + i : i * j.a.ld + row);
                    const int64_t bt = s * j.b.stride + (j.p.op[1] ? i * j.b.ld + col : col * j.b.ld + i);
                    const double a = load(j.a.type, j.pa, at), b = load(j.b.type, j.pb, bt);
                    sum += fast ? tf32(a) * tf32(b) : a * b;
                }
                float *to = (float *)j.pd + s * j.d.stride + col * j.d.ld + row;
                *to = (float)((double)j.alpha * sum + (j.beta != 0 ? (double)j.beta * (double)*to : 0));
            }
    rt_host_cuda_pass(j.ms);
    return cudaSuccess;
}

} // namespace

extern "C" {

size_t cublasLtGetVersion(void) { return 130100; }

const char *cublasLtGetStatusString(int status)
{
    switch (status) {
    case SUCCESS: return "success";
    case NO_MEMORY: return "resource allocation failed";
    case FAILED: return "the GPU program failed to execute";
    case NOT_SUPPORTED: return "the functionality requested is not supported";
    default: return "an unsupported value or parameter was passed to the function";
    }
}

int cublasLtCreate(void **h) { return make<int>(h, 1); }
int cublasLtDestroy(void *h) { return destroy<int>(h); }
int cublasLtMatmulDescCreate(void **d, int compute, int scale)
{
    if (scale != RT_CUDA_R_32F) return INVALID;
    return make<product>(d, product{compute, {0, 0}});
}
int cublasLtMatmulDescDestroy(void *d) { return destroy<product>(d); }
int cublasLtMatrixLayoutCreate(void **l, int type, uint64_t rows, uint64_t cols, int64_t ld)
{
    return make<layout>(l, layout{type, rows, cols, ld, 0, 1});
}
int cublasLtMatrixLayoutDestroy(void *l) { return destroy<layout>(l); }
int cublasLtMatmulPreferenceCreate(void **p) { return make<preference>(p, preference{0, 7, {256, 256, 256, 256}}); }
int cublasLtMatmulPreferenceDestroy(void *p) { return destroy<preference>(p); }

int cublasLtMatmulDescSetAttribute(void *d, int attr, const void *value, size_t bytes)
{
    MAY_FAIL();
    const int i = attr - RT_CUBLASLT_MATMUL_DESC_TRANSA;
    if (i < 0 || i > 1 || bytes != 4) return INVALID;
    std::memcpy(&static_cast<product *>(d)->op[i], value, 4);
    return SUCCESS;
}

int cublasLtMatrixLayoutSetAttribute(void *l, int attr, const void *value, size_t bytes)
{
    MAY_FAIL();
    layout *x = static_cast<layout *>(l);
    if (attr == RT_CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT && bytes == 4) std::memcpy(&x->batch, value, 4);
    else if (attr == RT_CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET && bytes == 8) std::memcpy(&x->stride, value, 8);
    else return INVALID;
    return SUCCESS;
}

int cublasLtMatmulPreferenceSetAttribute(void *p, int attr, const void *value, size_t bytes)
{
    MAY_FAIL();
    preference *x = static_cast<preference *>(p);
    const int i = attr - RT_CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
    if (attr == RT_CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES && bytes == 8) std::memcpy(&x->workspace, value, 8);
    else if (attr == RT_CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK && bytes == 4) std::memcpy(&x->schemes, value, 4);
    else if (i >= 0 && i < 4 && bytes == 4) std::memcpy(&x->align[i], value, 4);
    else return INVALID;
    return SUCCESS;
}

int cublasLtMatmulAlgoGetHeuristic(void *, void *desc, void *a, void *b, void *, void *d, void *pref, int wanted, rt_cublaslt_found *found, int *count)
{
    MAY_FAIL();
    const preference *p = static_cast<preference *>(pref);
    *count = 0;
    if (!fits(*static_cast<product *>(desc), *static_cast<layout *>(a), *static_cast<layout *>(b), *static_cast<layout *>(d))) return INVALID;
    for (int i = 0; i < 4 && *count < wanted; i++) {
        if (workspaces[i] > p->workspace || (i == 3 && !(p->schemes & 1))) continue;
        found[*count] = rt_cublaslt_found{{{MAGIC, (uint64_t)i, p->align[0], p->align[1], p->align[2], p->align[3]}}, workspaces[i], i == 0 ? NOT_SUPPORTED : SUCCESS, 1.0f, {0}};
        ++*count;
    }
    return SUCCESS;
}

int cublasLtMatmulAlgoCheck(void *, void *desc, void *a, void *b, void *, void *d, const rt_cublaslt_algo *algo, rt_cublaslt_found *found)
{
    MAY_FAIL();
    if (algo->data[0] != MAGIC || algo->data[1] > 3 || algo->data[1] == 0) return NOT_SUPPORTED;
    if (!fits(*static_cast<product *>(desc), *static_cast<layout *>(a), *static_cast<layout *>(b), *static_cast<layout *>(d))) return INVALID;
    found->workspace_bytes = workspaces[algo->data[1]];
    return SUCCESS;
}

int cublasLtMatmul(void *, void *desc, const void *alpha, const void *a, void *la, const void *b, void *lb, const void *beta, const void *c, void *lc,
                   void *d, void *ld, const rt_cublaslt_algo *algo, void *workspace, size_t workspace_bytes, cudaStream_t stream)
{
    MAY_FAIL();
    if (algo->data[0] != MAGIC || algo->data[1] == 0 || algo->data[1] > 3) return NOT_SUPPORTED;
    std::unique_ptr<job> j(new job{*static_cast<product *>(desc), *static_cast<layout *>(la), *static_cast<layout *>(lb), *static_cast<layout *>(ld), a, b,
                                   d, workspace, *static_cast<const float *>(alpha), *static_cast<const float *>(beta), workspaces[algo->data[1]],
                                   times[algo->data[1]]});
    if (!fits(j->p, j->a, j->b, j->d) || c != d || lc != ld || j->workspace_bytes > workspace_bytes) return INVALID;
    const uint64_t *align = algo->data + 2; /* what the heuristic was told */
    if ((uintptr_t)a % align[0] || (uintptr_t)b % align[1] || (uintptr_t)c % align[2] || (uintptr_t)d % align[3]) return INVALID;
    if (rt_host_cuda_enqueue(stream, work, j.get(), [](void *x) { delete static_cast<job *>(x); }) != cudaSuccess) return FAILED;
    (void)j.release();
    return SUCCESS;
}

} // extern "C"
