/* A cuDNN for machines without a GPU: the graph API for one convolution, on the streams of tests/kernels/host.
 *
 * It is stricter than the real one where strictness finds bugs. Descriptors are bags of attributes; finalising checks that every
 * one needed is there, of the right type and count, and refers only to finalised descriptors; nothing can be set afterwards.
 * Tensors are read through the strides and types they were described with, so a wrong layout gives wrong numbers; the
 * workspace is filled with rubbish; alignment is checked. Every call can be made to fail.
 *
 * Engines, in the order in which the heuristic offers them:
 *   50 cannot be planned          40 accumulates in less than float32     30 rounds operands to bfloat16
 *   20 tf32, not deterministic    10 tf32                                 60 wants 2 GiB of workspace    0 float32
 * Each advances the clock by its own time, so that the choice by timing has a right answer: 30 < 40 < 20 < 10 < 0. Engine 20 is
 * off by a little more every time it runs. */
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include "backend/cuda/vendor.h"

namespace {

struct attribute {
    int type;
    int64_t count;
    std::vector<char> bytes;
};

struct descriptor {
    int type;
    bool final = false;
    std::map<int, attribute> attr;
    int engine = -1; /* ENGINE, ENGINECFG */
    descriptor *graph = nullptr;
};

struct handle {
    cudaStream_t stream;
};

enum { SUCCESS = 0, BAD_PARAM = 2000, NOT_FINALIZED = 2004, NOT_SUPPORTED = 3000, EXECUTION_FAILED = 5000 };

struct engine {
    int index, note, knob;
    int64_t workspace;
    double ms;
};
const engine engines[] = {
    {50, RT_CUDNN_NUMERICAL_NOTE_TENSOR_CORE, 1, 0, 0.01},
    {40, RT_CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION, 1, 0, 0.2},
    {30, RT_CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS, 2, 0, 0.1},
    {20, RT_CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC, 1, 512, 0.5},
    {10, RT_CUDNN_NUMERICAL_NOTE_TENSOR_CORE, 2, 1000, 1.0},
    {60, -1, 0, (int64_t)2 << 30, 0.01},
    {0, -1, 0, 0, 3.0},
};

char last_error[256];

int fail(int status, const char *why)
{
    std::snprintf(last_error, sizeof last_error, "mock: %s", why);
    return status;
}

int injected()
{
    switch (rt_host_cuda_fails()) {
    case cudaSuccess: return SUCCESS;
    case cudaErrorMemoryAllocation: return fail(RT_CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED, "injected");
    default: return fail(EXECUTION_FAILED, "injected");
    }
}
#define MAY_FAIL()                                                                                                     \
    do {                                                                                                               \
        const int injected_ = injected();                                                                              \
        if (injected_ != SUCCESS) return injected_;                                                                    \
    } while (0)

size_t size_of(int type)
{
    switch (type) {
    case RT_CUDNN_TYPE_DATA_TYPE:
    case RT_CUDNN_TYPE_CONVOLUTION_MODE:
    case RT_CUDNN_TYPE_HEUR_MODE:
    case RT_CUDNN_TYPE_KNOB_TYPE:
    case RT_CUDNN_TYPE_NUMERICAL_NOTE:
    case RT_CUDNN_TYPE_FLOAT: return 4;
    default: return 8;
    }
}

struct need {
    int descriptor, name, type, count;
};
const need needs[] = {
    {RT_CUDNN_BACKEND_TENSOR_DESCRIPTOR, RT_CUDNN_ATTR_TENSOR_DATA_TYPE, RT_CUDNN_TYPE_DATA_TYPE, 1},
    {RT_CUDNN_BACKEND_TENSOR_DESCRIPTOR, RT_CUDNN_ATTR_TENSOR_DIMENSIONS, RT_CUDNN_TYPE_INT64, 4},
    {RT_CUDNN_BACKEND_TENSOR_DESCRIPTOR, RT_CUDNN_ATTR_TENSOR_STRIDES, RT_CUDNN_TYPE_INT64, 4},
    {RT_CUDNN_BACKEND_TENSOR_DESCRIPTOR, RT_CUDNN_ATTR_TENSOR_UNIQUE_ID, RT_CUDNN_TYPE_INT64, 1},
    {RT_CUDNN_BACKEND_TENSOR_DESCRIPTOR, RT_CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, RT_CUDNN_TYPE_INT64, 1},
    {RT_CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, RT_CUDNN_ATTR_CONVOLUTION_COMP_TYPE, RT_CUDNN_TYPE_DATA_TYPE, 1},
    {RT_CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, RT_CUDNN_ATTR_CONVOLUTION_CONV_MODE, RT_CUDNN_TYPE_CONVOLUTION_MODE, 1},
    {RT_CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, RT_CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, RT_CUDNN_TYPE_INT64, 1},
    {RT_CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, RT_CUDNN_ATTR_CONVOLUTION_DILATIONS, RT_CUDNN_TYPE_INT64, 2},
    {RT_CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, RT_CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, RT_CUDNN_TYPE_INT64, 2},
    {RT_CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, RT_CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, RT_CUDNN_TYPE_INT64, 2},
    {RT_CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, RT_CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, RT_CUDNN_TYPE_INT64, 2},
    {RT_CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, RT_CUDNN_ATTR_OPERATIONGRAPH_HANDLE, RT_CUDNN_TYPE_HANDLE, 1},
    {RT_CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, RT_CUDNN_ATTR_OPERATIONGRAPH_OPS, RT_CUDNN_TYPE_BACKEND_DESCRIPTOR, 1},
    {RT_CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, RT_CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, RT_CUDNN_TYPE_BACKEND_DESCRIPTOR, 1},
    {RT_CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, RT_CUDNN_ATTR_ENGINEHEUR_MODE, RT_CUDNN_TYPE_HEUR_MODE, 1},
    {RT_CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, RT_CUDNN_ATTR_EXECUTION_PLAN_HANDLE, RT_CUDNN_TYPE_HANDLE, 1},
    {RT_CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, RT_CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, RT_CUDNN_TYPE_BACKEND_DESCRIPTOR, 1},
    {RT_CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, RT_CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, RT_CUDNN_TYPE_INT64, 3},
    {RT_CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, RT_CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, RT_CUDNN_TYPE_VOID_PTR, 3},
    {RT_CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, RT_CUDNN_ATTR_VARIANT_PACK_WORKSPACE, RT_CUDNN_TYPE_VOID_PTR, 1},
};

/* x, w, y, geometry, alpha, beta of the three operations. */
const int names[3][6] = {
    {RT_CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, RT_CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, RT_CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
     RT_CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, RT_CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
     RT_CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
    {RT_CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, RT_CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
     RT_CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, RT_CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
     RT_CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, RT_CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
    {RT_CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, RT_CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
     RT_CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, RT_CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
     RT_CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, RT_CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA}};

bool is_operation(int type)
{
    return type >= RT_CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR &&
           type <= RT_CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR;
}

bool has(const descriptor *d, int name, int type, int count)
{
    auto at = d->attr.find(name);
    return at != d->attr.end() && at->second.type == type && at->second.count == count;
}

template <typename T> const T *get(const descriptor *d, int name) { return reinterpret_cast<const T *>(d->attr.at(name).bytes.data()); }
descriptor *ref(const descriptor *d, int name) { return *get<descriptor *>(d, name); }

/* A convolution ready to be worked: everything copied, since descriptors may be gone when it runs. */
struct tensor {
    int type;
    int64_t d[4], s[4], align;
};
struct job {
    int kind; /* index into names */
    tensor t[3];
    int64_t stride[2], pad[2];
    int engine;
    int64_t workspace_bytes;
    double ms;
    void *at[3], *workspace;
};

tensor tensor_of(const descriptor *d)
{
    tensor t = {};
    t.type = *get<int>(d, RT_CUDNN_ATTR_TENSOR_DATA_TYPE);
    std::memcpy(t.d, get<int64_t>(d, RT_CUDNN_ATTR_TENSOR_DIMENSIONS), sizeof t.d);
    std::memcpy(t.s, get<int64_t>(d, RT_CUDNN_ATTR_TENSOR_STRIDES), sizeof t.s);
    t.align = *get<int64_t>(d, RT_CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT);
    return t;
}

job job_of(const descriptor *graph)
{
    const descriptor *op = ref(graph, RT_CUDNN_ATTR_OPERATIONGRAPH_OPS);
    job j = {};
    j.kind = op->type - RT_CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR;
    for (int i = 0; i < 3; i++) j.t[i] = tensor_of(ref(op, names[j.kind][i]));
    const descriptor *geometry = ref(op, names[j.kind][3]);
    std::memcpy(j.stride, get<int64_t>(geometry, RT_CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES), sizeof j.stride);
    std::memcpy(j.pad, get<int64_t>(geometry, RT_CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS), sizeof j.pad);
    return j;
}

const engine *engine_of(int index)
{
    for (const engine &e : engines)
        if (e.index == index) return &e;
    return nullptr;
}

bool shapes_fit(const job &j)
{
    const int64_t *x = j.t[0].d, *w = j.t[1].d, *y = j.t[2].d;
    bool fit = x[0] == y[0] && w[0] == y[1] && w[1] > 0 && x[1] % w[1] == 0 && w[0] % (x[1] / w[1]) == 0;
    for (int i = 0; i < 2; i++) fit = fit && y[2 + i] == (x[2 + i] + 2 * j.pad[i] - w[2 + i]) / j.stride[i] + 1;
    for (int i = 0; i < 3; i++) fit = fit && j.t[i].s[1] == 1; /* what NHWC engines take */
    return fit;
}

float widen(uint16_t h)
{
    const uint32_t u = (uint32_t)h << 16;
    float f;
    std::memcpy(&f, &u, 4);
    return f;
}

float load(const tensor &t, const void *p, int64_t i) { return t.type == RT_CUDNN_DATA_FLOAT ? ((const float *)p)[i] : widen(((const uint16_t *)p)[i]); }

void store(const tensor &t, void *p, int64_t i, double v)
{
    const float f = (float)v;
    if (t.type == RT_CUDNN_DATA_FLOAT) {
        ((float *)p)[i] = f;
        return;
    }
    uint32_t u;
    std::memcpy(&u, &f, 4);
    ((uint16_t *)p)[i] = std::isnan(f) ? 0x7fc0 : (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* Keeps `bits` of the mantissa, to nearest. */
double rounded(double v, int bits)
{
    if (v == 0 || !std::isfinite(v)) return v;
    int e;
    const double m = std::frexp(v, &e);
    return std::ldexp(std::nearbyint(std::ldexp(m, bits + 1)), e - bits - 1);
}

cudaError_t work(void *ctx)
{
    const job &j = *(const job *)ctx;
    const tensor &tx = j.t[0], &tw = j.t[1], &ty = j.t[2];
    const int result = j.kind == 0 ? 2 : j.kind == 1 ? 1 : 0;
    const int bits = j.engine == 30 ? 7 : j.engine == 10 || j.engine == 20 ? 10 : 52;
    const int64_t kg = tw.d[0] / (tx.d[1] / tw.d[1]);
    std::vector<double> sum((size_t)(j.t[result].d[0] * j.t[result].d[1] * j.t[result].d[2] * j.t[result].d[3]), 0.0);
    auto dense = [&](const tensor &t, int64_t a, int64_t b, int64_t c, int64_t d) { return (size_t)(((a * t.d[1] + b) * t.d[2] + c) * t.d[3] + d); };
    auto at = [](const tensor &t, int64_t a, int64_t b, int64_t c, int64_t d) { return a * t.s[0] + b * t.s[1] + c * t.s[2] + d * t.s[3]; };
    if (j.workspace_bytes) std::memset(j.workspace, 0xa5, (size_t)j.workspace_bytes);
    for (int64_t n = 0; n < ty.d[0]; n++)
        for (int64_t k = 0; k < ty.d[1]; k++)
            for (int64_t p = 0; p < ty.d[2]; p++)
                for (int64_t q = 0; q < ty.d[3]; q++)
                    for (int64_t c = 0; c < tw.d[1]; c++)
                        for (int64_t r = 0; r < tw.d[2]; r++)
                            for (int64_t s = 0; s < tw.d[3]; s++) {
                                const int64_t h = p * j.stride[0] - j.pad[0] + r, w = q * j.stride[1] - j.pad[1] + s, cx = k / kg * tw.d[1] + c;
                                if (h < 0 || h >= tx.d[2] || w < 0 || w >= tx.d[3]) continue;
                                auto v = [&](int i) {
                                    const int64_t o = i == 0 ? at(tx, n, cx, h, w) : i == 1 ? at(tw, k, c, r, s) : at(ty, n, k, p, q);
                                    return rounded(load(j.t[i], j.at[i], o), bits);
                                };
                                if (result == 2) sum[dense(ty, n, k, p, q)] += v(0) * v(1);
                                else if (result == 1) sum[dense(tw, k, c, r, s)] += v(0) * v(2);
                                else sum[dense(tx, n, cx, h, w)] += v(1) * v(2);
                            }
    static int runs;
    if (j.engine == 20) sum[0] += 1e-3 * ++runs;
    const tensor &to = j.t[result];
    for (int64_t a = 0; a < to.d[0]; a++)
        for (int64_t b = 0; b < to.d[1]; b++)
            for (int64_t c = 0; c < to.d[2]; c++)
                for (int64_t d = 0; d < to.d[3]; d++) store(to, j.at[result], at(to, a, b, c, d), sum[dense(to, a, b, c, d)]);
    rt_host_cuda_pass(j.ms);
    return cudaSuccess;
}

/* What the real library checks when it finalises. */
int check(descriptor *d)
{
    if (d->type == RT_CUDNN_BACKEND_ENGINE_DESCRIPTOR || d->type == RT_CUDNN_BACKEND_ENGINECFG_DESCRIPTOR ||
        d->type == RT_CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR)
        return fail(BAD_PARAM, "this mock fills engines itself");
    for (const need &n : needs)
        if (n.descriptor == d->type && !has(d, n.name, n.type, n.count)) return fail(BAD_PARAM, "an attribute is missing, or of another type or count");
    if (is_operation(d->type)) {
        const int *name = names[d->type - RT_CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR];
        for (int i = 0; i < 4; i++) {
            if (!has(d, name[i], RT_CUDNN_TYPE_BACKEND_DESCRIPTOR, 1)) return fail(BAD_PARAM, "an operand is missing");
            if (ref(d, name[i])->type != (i < 3 ? RT_CUDNN_BACKEND_TENSOR_DESCRIPTOR : RT_CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR))
                return fail(BAD_PARAM, "an operand is something else");
        }
        for (int i = 4; i < 6; i++)
            if (!has(d, name[i], RT_CUDNN_TYPE_FLOAT, 1) || *get<float>(d, name[i]) != (i == 4 ? 1.0f : 0.0f)) return fail(BAD_PARAM, "alpha or beta");
    }
    for (auto &a : d->attr)
        if (a.second.type == RT_CUDNN_TYPE_BACKEND_DESCRIPTOR && !(*reinterpret_cast<descriptor *const *>(a.second.bytes.data()))->final)
            return fail(NOT_FINALIZED, "it refers to a descriptor that is not finalised");
    if (d->type == RT_CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR && !shapes_fit(job_of(d))) return fail(NOT_SUPPORTED, "shapes or layouts do not fit");
    if (d->type == RT_CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR && ref(d, RT_CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)->engine == 50)
        return fail(NOT_SUPPORTED, "engine 50 never can");
    return SUCCESS;
}

int give(int64_t wanted, int64_t *count, int64_t have)
{
    if (count) *count = have;
    return wanted < 0 ? BAD_PARAM : SUCCESS;
}

} // namespace

extern "C" {

size_t cudnnGetVersion(void) { return 91900; }

const char *cudnnGetErrorString(int status)
{
    switch (status) {
    case SUCCESS: return "CUDNN_STATUS_SUCCESS";
    case NOT_SUPPORTED: return "CUDNN_STATUS_NOT_SUPPORTED";
    case EXECUTION_FAILED: return "CUDNN_STATUS_EXECUTION_FAILED";
    case RT_CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED: return "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED";
    default: return "CUDNN_STATUS_BAD_PARAM";
    }
}

void cudnnGetLastErrorString(char *message, size_t max_size) { std::snprintf(message, max_size, "%s", last_error); }

int cudnnCreate(void **h)
{
    MAY_FAIL();
    *h = new handle{nullptr};
    rt_host_cuda_count(1);
    return SUCCESS;
}

int cudnnDestroy(void *h)
{
    delete static_cast<handle *>(h);
    rt_host_cuda_count(-1);
    return SUCCESS;
}

int cudnnSetStream(void *h, cudaStream_t s)
{
    MAY_FAIL();
    static_cast<handle *>(h)->stream = s;
    return SUCCESS;
}

int cudnnBackendCreateDescriptor(int type, void **out)
{
    MAY_FAIL();
    descriptor *d = new descriptor;
    d->type = type;
    *out = d;
    rt_host_cuda_count(1);
    return SUCCESS;
}

int cudnnBackendDestroyDescriptor(void *d)
{
    delete static_cast<descriptor *>(d);
    rt_host_cuda_count(-1);
    return SUCCESS;
}

int cudnnBackendSetAttribute(void *descriptor_, int name, int type, int64_t count, const void *elements)
{
    MAY_FAIL();
    descriptor *d = static_cast<descriptor *>(descriptor_);
    if (d->final) return fail(BAD_PARAM, "already finalised");
    const char *bytes = static_cast<const char *>(elements);
    d->attr[name] = {type, count, std::vector<char>(bytes, bytes + (size_t)count * size_of(type))};
    return SUCCESS;
}

int cudnnBackendFinalize(void *descriptor_)
{
    MAY_FAIL();
    descriptor *d = static_cast<descriptor *>(descriptor_);
    const int status = check(d);
    if (status == SUCCESS) d->final = true;
    return status;
}

int cudnnBackendGetAttribute(void *descriptor_, int name, int type, int64_t wanted, int64_t *count, void *elements)
{
    MAY_FAIL();
    descriptor *d = static_cast<descriptor *>(descriptor_);
    if (!d->final) return fail(NOT_FINALIZED, "asked before it was finalised");
    descriptor **list = static_cast<descriptor **>(elements);
    const engine *e = engine_of(d->engine);
    switch (name) {
    case RT_CUDNN_ATTR_ENGINEHEUR_RESULTS: {
        const int mode = *get<int>(d, RT_CUDNN_ATTR_ENGINEHEUR_MODE);
        descriptor *graph = ref(d, RT_CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
        int64_t n = 0;
        for (const engine &x : engines) {
            if (mode == RT_CUDNN_HEUR_MODE_FALLBACK ? x.index != 0 : x.index == 0) continue; /* the plain one is the fallback */
            if (n < wanted) {
                if (list[n]->type != RT_CUDNN_BACKEND_ENGINECFG_DESCRIPTOR) return fail(BAD_PARAM, "results need engine configurations");
                list[n]->engine = x.index;
                list[n]->graph = graph;
                list[n]->final = true;
            }
            n++;
        }
        return give(wanted, count, n);
    }
    case RT_CUDNN_ATTR_ENGINECFG_ENGINE:
        if (type != RT_CUDNN_TYPE_BACKEND_DESCRIPTOR || list[0]->type != RT_CUDNN_BACKEND_ENGINE_DESCRIPTOR) return fail(BAD_PARAM, "needs an engine");
        list[0]->engine = d->engine;
        list[0]->final = true;
        return give(wanted, count, 1);
    case RT_CUDNN_ATTR_ENGINE_GLOBAL_INDEX: *static_cast<int64_t *>(elements) = d->engine; return give(wanted, count, 1);
    case RT_CUDNN_ATTR_ENGINE_NUMERICAL_NOTE: {
        int *notes = static_cast<int *>(elements);
        int64_t n = 0;
        if (e->note >= 0) notes[n++] = e->note;
        if (e->note == RT_CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC) notes[n++] = RT_CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
        return give(wanted, count, n);
    }
    case RT_CUDNN_ATTR_ENGINECFG_KNOB_CHOICES:
        for (int i = 0; i < e->knob && i < wanted; i++) {
            list[i]->engine = i;
            list[i]->final = true;
        }
        return give(wanted, count, e->knob);
    case RT_CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE: *static_cast<int *>(elements) = 2 + d->engine; return give(wanted, count, 1);
    case RT_CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE: *static_cast<int64_t *>(elements) = 7; return give(wanted, count, 1);
    case RT_CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
        *static_cast<int64_t *>(elements) = engine_of(ref(d, RT_CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)->engine)->workspace;
        return give(wanted, count, 1);
    default: return fail(NOT_SUPPORTED, "this mock does not tell that");
    }
}

int cudnnBackendExecute(void *handle_, void *plan, void *pack)
{
    MAY_FAIL();
    const descriptor *p = static_cast<descriptor *>(plan), *v = static_cast<descriptor *>(pack);
    if (!p->final || !v->final) return fail(NOT_FINALIZED, "plan or operands");
    const descriptor *cfg = ref(p, RT_CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    std::unique_ptr<job> j(new job(job_of(cfg->graph)));
    const descriptor *op = ref(cfg->graph, RT_CUDNN_ATTR_OPERATIONGRAPH_OPS);
    const int64_t *ids = get<int64_t>(v, RT_CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    void *const *at = get<void *>(v, RT_CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    for (int i = 0; i < 3; i++) {
        const int64_t id = *get<int64_t>(ref(op, names[j->kind][i]), RT_CUDNN_ATTR_TENSOR_UNIQUE_ID);
        for (int k = 0; k < 3; k++)
            if (ids[k] == id) j->at[i] = at[k];
        if (!j->at[i] || (uintptr_t)j->at[i] % (uintptr_t)j->t[i].align != 0) return fail(2003, "a pointer is missing or misaligned");
    }
    const engine *e = engine_of(cfg->engine);
    j->engine = e->index;
    j->ms = e->ms;
    j->workspace_bytes = e->workspace;
    j->workspace = *get<void *>(v, RT_CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
    if (e->workspace && !j->workspace) return fail(BAD_PARAM, "no workspace");
    if (rt_host_cuda_enqueue(static_cast<handle *>(handle_)->stream, work, j.get(), [](void *x) { delete static_cast<job *>(x); }) != cudaSuccess)
        return fail(EXECUTION_FAILED, "stream");
    (void)j.release();
    return SUCCESS;
}

} // extern "C"
