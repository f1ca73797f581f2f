/* Small helpers of the structured rows: complaints that name the op and its operands, and byte counts for costs. */
#ifndef RT_OPS_CHECK_H
#define RT_OPS_CHECK_H

#include "ops/row.h"

/* Raises RT_ERR_ARG: "conv2d(f32[2,8,8,3], f32[4,2,3,3]): <message>". */
rt_status rt_op_misuse(const rt_node *n, const char *fmt, ...) RT_PRINTF(2, 3);
/* RT_OK when input i is of this type and rank and has no empty axis. */
rt_status rt_op_want(const rt_node *n, int i, rt_dtype t, int rank);
/* As rt_op_want, and the shape equals s. */
rt_status rt_op_want_shape(const rt_node *n, int i, const rt_shape *s);
/* Every input read and every output written once, in the four-byte storage of cpu and cuda. */
double rt_op_bytes(const rt_node *n);
/* The cost of a memory-bound op: flops_per_element over output 0. */
rt_cost rt_op_streaming_cost(const rt_node *n, double flops_per_element);

#endif
