/* cuDNN and cuBLASLt as tables of functions, opened at run time. What is in them: vendor.def. */
#ifndef RT_BACKEND_CUDA_VENDOR_H
#define RT_BACKEND_CUDA_VENDOR_H

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

#include "retort/status.h"

#define RT_CUDNN_FN(name, result, args)
#define RT_CUBLASLT_FN(name, result, args)
#define RT_CUDNN_VALUE(name, value) RT_##name = value,
#define RT_CUBLASLT_VALUE(name, value)
enum rt_cudnn_value {
#include "backend/cuda/vendor.def"
};
#undef RT_CUDNN_VALUE
#undef RT_CUBLASLT_VALUE
#define RT_CUDNN_VALUE(name, value)
#define RT_CUBLASLT_VALUE(name, value) RT_##name = value,
enum rt_cublaslt_value {
#include "backend/cuda/vendor.def"
};
#undef RT_CUBLASLT_VALUE
#undef RT_CUDNN_FN
#undef RT_CUBLASLT_FN

/* cublasLtMatmulAlgo_t and cublasLtMatmulHeuristicResult_t: plain bytes, valid within one version of the library. */
typedef struct rt_cublaslt_algo {
    uint64_t data[8];
} rt_cublaslt_algo;
typedef struct rt_cublaslt_found {
    rt_cublaslt_algo algo;
    size_t workspace_bytes;
    int state;
    float waves;
    int reserved[4];
} rt_cublaslt_found;

#define RT_CUBLASLT_VALUE(name, value)
#define RT_CUDNN_FN(name, result, args) result(*name) args;
#define RT_CUBLASLT_FN(name, result, args)
typedef struct rt_cudnn {
    void *so; /* handle of dlopen */
#include "backend/cuda/vendor.def"
} rt_cudnn;
#undef RT_CUDNN_FN
#undef RT_CUBLASLT_FN
#define RT_CUDNN_FN(name, result, args)
#define RT_CUBLASLT_FN(name, result, args) result(*name) args;
typedef struct rt_cublaslt {
    void *so;
#include "backend/cuda/vendor.def"
} rt_cublaslt;
#undef RT_CUDNN_FN
#undef RT_CUBLASLT_FN
#undef RT_CUDNN_VALUE
#undef RT_CUBLASLT_VALUE

/* Finds and opens the library: folders of RT_CUDA_LIBRARIES (colons between them), the loader's own path, CUDA_HOME and
 * CUDA_PATH, /usr/local/cuda, and the nvidia packages of Python environments. RT_ERR_UNSUPPORTED says what was looked for and
 * what to do; *l is untouched then. */
rt_status rt_cudnn_open(rt_cudnn *l);
rt_status rt_cublaslt_open(rt_cublaslt *l);
/* Accept closed ones. */
void rt_cudnn_close(rt_cudnn *l);
void rt_cublaslt_close(rt_cublaslt *l);

/* A library's status as ours, with its text: no memory is NOMEM, not supported UNSUPPORTED, the rest DEVICE. what: the call. */
rt_status rt_cudnn_failed(const rt_cudnn *l, int status, const char *what);
rt_status rt_cublaslt_failed(const rt_cublaslt *l, int status, const char *what);
/* For functions of the usual shape (st, out:). */
#define RT_CUDNN(l, call)                                                                                              \
    do {                                                                                                               \
        int rt_dnn_ = (l)->call;                                                                                       \
        if (rt_dnn_ != RT_CUDNN_STATUS_SUCCESS) {                                                                      \
            st = rt_cudnn_failed((l), rt_dnn_, #call);                                                                 \
            goto out;                                                                                                  \
        }                                                                                                              \
    } while (0)
#define RT_CUBLASLT(l, call)                                                                                           \
    do {                                                                                                               \
        int rt_lt_ = (l)->call;                                                                                        \
        if (rt_lt_ != RT_CUBLAS_STATUS_SUCCESS) {                                                                      \
            st = rt_cublaslt_failed((l), rt_lt_, #call);                                                               \
            goto out;                                                                                                  \
        }                                                                                                              \
    } while (0)

#endif
