/* One node on the CUDA back end over the host runtime, beside its float64 reference. */
#ifndef RT_TESTS_KERNELS_RIG_H
#define RT_TESTS_KERNELS_RIG_H

#include "backend/cuda/cuda.h"

enum { RIG_MAX_IN = 8 };
enum {
    RIG_ALIAS = 1, /* output 0 takes the storage of input 0 */
    RIG_SHIFT = 2, /* every operand starts 4 bytes off a 16-byte boundary */
};

typedef struct rig {
    const rt_node *n;
    double *in[RIG_MAX_IN], *want[RT_MAX_OUT]; /* in: exactly representable in float; int32_t where the node wants it */
    float *got[RT_MAX_OUT];                    /* or int32_t */
    int64_t n_want[RT_MAX_OUT];
} rig;

rt_backend *rig_open(void);
/* Values in about [-4, 4] with zeros and ties; from 0.25 where positive. */
double rig_draw(uint32_t i, int input, bool positive);
/* The back end's run into r->got: run twice, compared bit by bit. Operands have exact sizes, the sanitizer guards their ends. */
void rig_device(rt_backend *be, rig *r, unsigned flags);
void rig_ref(rig *r);
/* rtol of the value, plus atol; equal infinities and NaNs count as equal. Integers: exact. */
void rig_compare(const rig *r, double atol, double rtol);
void rig_free(rig *r);
/* All of it for the node that made v, with drawn inputs; i32 inputs are drawn below `limit`. */
void rig_check_index(rt_backend *be, const rt_graph *g, rt_val v, int32_t limit, double atol, double rtol, unsigned flags);
void rig_check(rt_backend *be, const rt_graph *g, rt_val v, bool positive, double atol, double rtol, unsigned flags);

#endif
