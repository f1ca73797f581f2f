/* Matrix products by cuBLASLt.
 *
 * cuBLASLt counts in columns; our row-major y = a b is its column-major y' = b' a', so operands change places and nothing is
 * transposed in memory. Leading axes are one strided batch. In bf16 operands are rounded into scratch first (conv.c says why)
 * and the product is written as float32. The graph has no op that a product could swallow as an epilogue: bias and ReLU are
 * ops of their own.
 *
 * Algorithm: kept in the cache as its bytes, by timing, or cuBLASLt's first proposal (strict without cache, plan only). Split
 * sums may only be joined in float32 in a fixed order: the in-place scheme is excluded, always. */
#include "backend/cuda/cuda.h"

#include <string.h>

#include "backend/algo.h"
#include "ops/attr.h"
#include "ops/util.h"

enum { MAX_WAYS = 8, HEX = 2 * sizeof(rt_cublaslt_algo) };
#define MAX_WORKSPACE ((size_t)32 << 20)

typedef struct matmul_state {
    rt_cuda_state s;
    int64_t batch, m, n, k;
    bool ta, tb, half, empty;
    void *desc, *a, *b, *y; /* cuBLASLt's: of stored a, of stored b, of y */
    rt_cublaslt_algo algo;
    size_t workspace, workspace_bytes;
    size_t at[2];           /* bf16: offsets of a and b in scratch */
    rt_k_map map[2];
    char impl[32];
} matmul_state;

static rt_status make_layout(const rt_cublaslt *l, void **out, int type, int64_t rows, int64_t cols, int64_t batch)
{
    rt_status st = RT_OK;
    const int32_t count = (int32_t)batch;
    const int64_t stride = rows * cols;
    RT_CUBLASLT(l, cublasLtMatrixLayoutCreate(out, type, (uint64_t)rows, (uint64_t)cols, rows));
    if (batch > 1) {
        RT_CUBLASLT(l, cublasLtMatrixLayoutSetAttribute(*out, RT_CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count));
        RT_CUBLASLT(l, cublasLtMatrixLayoutSetAttribute(*out, RT_CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride));
    }
out:
    return st;
}

static rt_status describe(const rt_cublaslt *l, matmul_state *s, rt_precision precision)
{
    rt_status st = RT_OK;
    const int type = s->half ? RT_CUDA_R_16BF : RT_CUDA_R_32F;
    const int compute = precision == RT_PRECISION_TF32 ? RT_CUBLAS_COMPUTE_32F_FAST_TF32 : RT_CUBLAS_COMPUTE_32F;
    const int first = s->tb ? RT_CUBLAS_OP_T : RT_CUBLAS_OP_N, second = s->ta ? RT_CUBLAS_OP_T : RT_CUBLAS_OP_N;
    RT_CUBLASLT(l, cublasLtMatmulDescCreate(&s->desc, compute, RT_CUDA_R_32F));
    RT_CUBLASLT(l, cublasLtMatmulDescSetAttribute(s->desc, RT_CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first));
    RT_CUBLASLT(l, cublasLtMatmulDescSetAttribute(s->desc, RT_CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second));
    RT_TRY(make_layout(l, &s->b, type, s->tb ? s->k : s->n, s->tb ? s->n : s->k, s->batch));
    RT_TRY(make_layout(l, &s->a, type, s->ta ? s->m : s->k, s->ta ? s->k : s->m, s->batch));
    RT_TRY(make_layout(l, &s->y, RT_CUDA_R_32F, s->n, s->m, s->batch));
out:
    return st;
}

static rt_status ask(rt_cuda_backend *be, matmul_state *s, uint32_t misaligned, rt_cublaslt_found found[MAX_WAYS], int *n)
{
    rt_status st = RT_OK;
    const rt_cublaslt *l = &be->lt;
    static const int operands[] = {RT_CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, RT_CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                                   RT_CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, RT_CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    const size_t most = MAX_WORKSPACE;
    const uint32_t schemes = RT_CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    void *pref = NULL;
    RT_CUBLASLT(l, cublasLtMatmulPreferenceCreate(&pref));
    RT_CUBLASLT(l, cublasLtMatmulPreferenceSetAttribute(pref, RT_CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most, sizeof most));
    RT_CUBLASLT(l, cublasLtMatmulPreferenceSetAttribute(pref, RT_CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof schemes));
    for (int i = 0; i < 4; i++) {
        const bool off = i < 2 && !s->half && misaligned >> (1 - i) & 1; /* cuBLASLt's A is our b */
        const uint32_t a = off ? 4 : 16;
        RT_CUBLASLT(l, cublasLtMatmulPreferenceSetAttribute(pref, operands[i], &a, sizeof a));
    }
    RT_CUBLASLT(l, cublasLtMatmulAlgoGetHeuristic(be->lt_handle, s->desc, s->b, s->a, s->y, s->y, pref, MAX_WAYS, found, n));
    if (*n == 0) st = RT_RAISE(RT_ERR_UNSUPPORTED, "cuBLASLt has no algorithm for this product");
out:
    if (pref) (void)l->cublasLtMatmulPreferenceDestroy(pref);
    return st;
}

static rt_status execute(const matmul_state *s, const rt_cublaslt_algo *algo, const void *a, const void *b, void *y, void *workspace,
                         size_t workspace_bytes)
{
    rt_status st = RT_OK;
    const rt_cuda_backend *be = s->s.be;
    const float one = 1, zero = 0;
    RT_CUBLASLT(&be->lt, cublasLtMatmul(be->lt_handle, s->desc, &one, b, s->b, a, s->a, &zero, y, s->y, y, s->y, algo, workspace,
                                        workspace_bytes, be->stream));
out:
    return st;
}

/* --- choice ------------------------------------------------------------------------------------------------------------- */
static void to_hex(const rt_cublaslt_algo *a, char text[HEX + 1])
{
    for (size_t i = 0; i < sizeof *a; i++) snprintf(text + 2 * i, 3, "%02x", ((const unsigned char *)a)[i]);
}

static bool from_hex(const char *text, rt_cublaslt_algo *a)
{
    if (strlen(text) != HEX || strspn(text, "0123456789abcdef") != HEX) return false;
    for (size_t i = 0; i < sizeof *a; i++) {
        unsigned byte = 0;
        sscanf(text + 2 * i, "%2x", &byte);
        ((unsigned char *)a)[i] = (unsigned char)byte;
    }
    return true;
}

typedef struct trial {
    const matmul_state *s;
    const rt_cublaslt_found *found;
    void *a, *b, *y, *workspace;
} trial;

static rt_status try_way(void *ctx, int i)
{
    trial *t = ctx;
    if (t->found[i].state != RT_CUBLAS_STATUS_SUCCESS) return RT_ERR_UNSUPPORTED;
    return execute(t->s, &t->found[i].algo, t->a, t->b, t->y, t->workspace, t->found[i].workspace_bytes);
}

static rt_status by_timing(rt_backend *be, const matmul_state *s, const rt_cublaslt_found *found, int n, int *pick)
{
    rt_status st = RT_OK;
    trial t = {.s = s, .found = found};
    size_t workspace = 0;
    for (int i = 0; i < n; i++) workspace = found[i].workspace_bytes > workspace ? found[i].workspace_bytes : workspace;
    RT_TRY(be->vt->alloc(be, (size_t)(s->batch * s->m * s->k) * sizeof(float), &t.a)); /* zeros */
    RT_TRY(be->vt->alloc(be, (size_t)(s->batch * s->k * s->n) * sizeof(float), &t.b));
    RT_TRY(be->vt->alloc(be, (size_t)(s->batch * s->m * s->n) * sizeof(float), &t.y));
    RT_TRY(be->vt->alloc(be, workspace, &t.workspace));
    RT_TRY(rt_cuda_fastest((rt_cuda_backend *)be, n, try_way, &t, pick));
out:
    be->vt->free(be, t.a);
    be->vt->free(be, t.b);
    be->vt->free(be, t.y);
    be->vt->free(be, t.workspace);
    return st;
}

/* The cached algorithm, when the library still takes it. */
static rt_status recall(rt_cuda_backend *be, matmul_state *s, const char *key, bool *done)
{
    rt_status st = RT_OK;
    char text[HEX + 2];
    rt_cublaslt_algo algo;
    rt_cublaslt_found found = {0};
    bool kept = false;
    RT_TRY(rt_algo_lookup(be->algo_cache, key, text, sizeof text, &kept));
    if (kept && from_hex(text, &algo) &&
        be->lt.cublasLtMatmulAlgoCheck(be->lt_handle, s->desc, s->b, s->a, s->y, s->y, &algo, &found) == RT_CUBLAS_STATUS_SUCCESS &&
        found.workspace_bytes <= MAX_WORKSPACE) {
        s->algo = algo;
        s->workspace_bytes = found.workspace_bytes;
        *done = true;
    }
out:
    return st;
}

static rt_status choose(rt_cuda_backend *be, matmul_state *s, uint32_t misaligned, bool plan_only)
{
    rt_status st = RT_OK;
    char key[512], text[HEX + 1];
    rt_cublaslt_found found[MAX_WAYS] = {0};
    int n = 0, pick = 0;
    bool done = false;
    snprintf(key, sizeof key, "matmul b%lld m%lld n%lld k%lld %c%c off%u %s%s | %s", (long long)s->batch, (long long)s->m, (long long)s->n,
             (long long)s->k, s->ta ? 't' : 'n', s->tb ? 't' : 'n', misaligned, rt_precision_name(be->base.opts.precision),
             be->base.opts.strict ? " strict" : "", be->machine);
    if (be->algo_cache) RT_TRY(recall(be, s, key, &done));
    if (done) goto out;
    RT_TRY(ask(be, s, misaligned, found, &n));
    if (!plan_only && (!be->base.opts.strict || be->algo_cache)) {
        RT_TRY(by_timing(&be->base, s, found, n, &pick));
        to_hex(&found[pick].algo, text);
        if (be->algo_cache) RT_TRY(rt_algo_store(be->algo_cache, key, text));
    } else {
        while (pick < n - 1 && found[pick].state != RT_CUBLAS_STATUS_SUCCESS) pick++;
    }
    s->algo = found[pick].algo;
    s->workspace_bytes = found[pick].workspace_bytes;
out:
    return st;
}

/* --- the kernel --------------------------------------------------------------------------------------------------------- */
static size_t book(size_t *total, size_t bytes)
{
    const size_t at = *total;
    *total += (bytes + 255) / 256 * 256;
    return at;
}

rt_status rt_cuda_matmul_prepare(rt_backend *be, rt_prepared *p)
{
    rt_status st = RT_OK;
    const rt_matmul_attr *f = p->node->attr;
    const rt_shape *as = &p->node->in_shape[0], *ys = &p->node->out_shape[0];
    const int r = ys->rank;
    RT_TRY(rt_cuda_prepare(be, p, sizeof(matmul_state), "cublaslt"));
    matmul_state *s = p->state;
    s->ta = f->ta != 0;
    s->tb = f->tb != 0;
    s->half = be->opts.precision == RT_PRECISION_BF16;
    s->batch = 1;
    for (int i = 0; i < r - 2; i++) s->batch *= ys->d[i];
    s->m = ys->d[r - 2];
    s->n = ys->d[r - 1];
    s->k = as->d[s->ta ? r - 2 : r - 1];
    s->empty = s->batch == 0 || s->m == 0 || s->n == 0 || s->k == 0;
    if (s->empty) goto out;
    const int64_t count[] = {s->batch * s->m * s->k, s->batch * s->k * s->n};
    for (int i = 0; i < 2 && s->half; i++) {
        const rt_shape flat = RT_SHAPE(RT_F32, count[i]);
        rt_cuda_map(&flat, (int64_t[]){1}, (int64_t[]){1}, &s->map[i]);
        s->at[i] = book(&p->scratch_bytes, (size_t)count[i] * 2);
    }
    RT_TRY(describe(&s->s.be->lt, s, be->opts.precision));
    RT_TRY(choose(s->s.be, s, p->misaligned & 3, p->plan_only));
    s->workspace = book(&p->scratch_bytes, s->workspace_bytes);
    snprintf(s->impl, sizeof s->impl, "cublaslt %s", rt_precision_name(be->opts.precision));
    p->impl = s->impl;
out:
    return st;
}

void rt_cuda_matmul_release(rt_prepared *p)
{
    matmul_state *s = p->state;
    if (s) {
        const rt_cublaslt *l = &s->s.be->lt;
        if (s->a) (void)l->cublasLtMatrixLayoutDestroy(s->a);
        if (s->b) (void)l->cublasLtMatrixLayoutDestroy(s->b);
        if (s->y) (void)l->cublasLtMatrixLayoutDestroy(s->y);
        if (s->desc) (void)l->cublasLtMatmulDescDestroy(s->desc);
    }
    rt_cuda_release(p);
}

rt_status rt_cuda_matmul_run(const rt_prepared *p, const rt_kernel_io *io)
{
    rt_status st = RT_OK;
    const matmul_state *s = p->state;
    const void *operand[] = {io->in[0], io->in[1]};
    cudaStream_t stream = s->s.be->stream;
    if (s->empty) {
        RT_CUDA(cudaMemsetAsync(io->out[0], 0, (size_t)(s->batch * s->m * s->n) * sizeof(float), stream));
        goto out;
    }
    for (int i = 0; i < 2 && s->half; i++) {
        void *to = (char *)io->scratch + s->at[i];
        RT_CUDA(rt_k_to_bf16(operand[i], to, &s->map[i], stream));
        operand[i] = to;
    }
    RT_TRY(execute(s, &s->algo, operand[0], operand[1], io->out[0], (char *)io->scratch + s->workspace, s->workspace_bytes));
out:
    return st;
}
