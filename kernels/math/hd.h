/* Qualifiers that let one formula serve C, CUDA device code and CUDA host code. */
#ifndef RT_MATH_HD_H
#define RT_MATH_HD_H

#include <stdint.h>

#ifdef __CUDACC__
#define RT_HD static __host__ __device__ __forceinline__
#else
#define RT_HD static inline
#endif

#endif
