/* Rows whose family file is not written yet. Weak, so a family file replaces its row by defining it; a call of one of these
 * ops is refused by name. This file goes when the list is empty. */
#include "ops/util.h"

static rt_status refuse(rt_node *n)
{
    return RT_RAISE(RT_ERR_UNSUPPORTED, "%s: this op is not in this build", rt_op_name(n->op));
}

#define PENDING(op)                                                                                                    \
    __attribute__((weak)) const rt_op_row rt_row_##op = {.name = #op, .n_in = 255, .n_out = 1, .infer = refuse}

PENDING(conv2d);
PENDING(conv2d_dx);
PENDING(conv2d_dw);
PENDING(avg_pool);
PENDING(avg_pool_dx);
PENDING(max_pool);
PENDING(max_pool_dx);
PENDING(pool_gather);
PENDING(norm);
PENDING(norm_dx);
PENDING(log_softmax);
PENDING(softmax_ce);
PENDING(color);
PENDING(affine_sample);
PENDING(affine_scatter);
PENDING(box_mask);
PENDING(sgd_step);
PENDING(adam_step);
