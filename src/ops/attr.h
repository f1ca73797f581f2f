/* Attributes of the core ops, as backends read them from rt_node.attr. Plain bytes, compared with memcmp: constructors
 * zero the whole struct first, so padding is part of the value. */
#ifndef RT_OPS_ATTR_H
#define RT_OPS_ATTR_H

#include "retort/graph.h"

typedef struct rt_const_attr { /* CONST */
    double value;
    rt_shape shape;
} rt_const_attr;

/* INPUT: a name of any length, NUL-terminated, followed (unaligned) by its rt_shape. attr as char * is the name. */

typedef struct rt_iota_attr { /* IOTA */
    int64_t offset, coef[RT_MAX_RANK];
    rt_shape shape;
} rt_iota_attr;

typedef struct rt_dropout_attr { /* DROPOUT_MASK (counter) */
    double keep;
    int64_t stream;
    rt_shape shape;
} rt_dropout_attr;

typedef struct rt_reduce_attr { /* SUM, AMAX */
    uint32_t axes; /* bit i: axis i is reduced */
    int32_t keep;
} rt_reduce_attr;

typedef struct rt_shape_attr { /* RESHAPE, BROADCAST */
    rt_shape shape;
} rt_shape_attr;

typedef struct rt_transpose_attr { /* TRANSPOSE: output axis i is input axis perm[i]; entries past rank are 0 */
    int32_t perm[RT_MAX_RANK];
} rt_transpose_attr;

typedef struct rt_slice_attr { /* SLICE: [begin, end) per axis */
    int64_t begin[RT_MAX_RANK], end[RT_MAX_RANK];
} rt_slice_attr;

typedef struct rt_pad_attr { /* PAD: zeros before and after per axis */
    int64_t lo[RT_MAX_RANK], hi[RT_MAX_RANK];
} rt_pad_attr;

typedef struct rt_concat_attr { /* CONCAT */
    int32_t axis;
} rt_concat_attr;

typedef struct rt_rows_attr { /* SCATTER_ADD: rows of the output; ONE_HOT: classes */
    int64_t rows;
} rt_rows_attr;

typedef struct rt_matmul_attr { /* MATMUL: ta: a is stored [..,K,M]; tb: b is stored [..,N,K] */
    int32_t ta, tb;
} rt_matmul_attr;

#endif
