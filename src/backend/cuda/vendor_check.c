/* Compiled where NVIDIA's headers are at hand: our values and struct layouts (vendor.def, vendor.h) against theirs. */
#include "backend/cuda/vendor.h"

#include <cublasLt.h>
#include <cudnn.h>

#define RT_CUDNN_VALUE(name, value) _Static_assert((int)name == (value), #name);
#define RT_CUBLASLT_VALUE(name, value) _Static_assert((int)name == (value), #name);
#define RT_CUDNN_FN(name, result, args)
#define RT_CUBLASLT_FN(name, result, args)
#include "backend/cuda/vendor.def"

_Static_assert(sizeof(rt_cublaslt_algo) == sizeof(cublasLtMatmulAlgo_t), "algo");
_Static_assert(sizeof(rt_cublaslt_found) == sizeof(cublasLtMatmulHeuristicResult_t), "heuristic result");
_Static_assert(offsetof(rt_cublaslt_found, workspace_bytes) == offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize), "workspace");
_Static_assert(offsetof(rt_cublaslt_found, state) == offsetof(cublasLtMatmulHeuristicResult_t, state), "state");
_Static_assert(sizeof(cudnnStatus_t) == sizeof(int) && sizeof(cudnnBackendAttributeName_t) == sizeof(int) &&
                   sizeof(cudnnBackendNumericalNote_t) == sizeof(int) && sizeof(cudnnBackendKnobType_t) == sizeof(int) &&
                   sizeof(cudaDataType) == sizeof(int) && sizeof(cublasComputeType_t) == sizeof(int) &&
                   sizeof(cublasLtReductionScheme_t) <= sizeof(int),
               "enums pass as int");
