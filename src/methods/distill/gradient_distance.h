/* Distances between parameter gradients, as graphs: what DC, DSA and IDC minimise.
 *
 * Gradients of `classes` networks at once: each entry of r (real, a constant) and s (synthetic) is the gradient of one
 * parameter tensor, [classes, ...shape of the parameter]. The result has one distance per class; classes never mix.
 *
 *   cosine   sum over tensors and rows of 1 - <r,s> / (|r| |s| + 1e-6), rows = output units; tensors of rank >= 2, the
 *            classifier among them; biases and norm parameters do not count     (DC, DSA; matching.md 2.5)
 *   mse      |s - r|^2 over every parameter                                     (DC, alternative)
 *   cos      1 - <r,s> / (|r| |s| + 1e-6) over all parameters as one vector     (DC, alternative)
 *   conv_l2  |s - r|^2 over convolution kernels: no bias, no norm, no classifier (IDC; matching.md 4.4)
 *   conv_l1  sum |s - r| over the same                                          (IDC on MNIST and ImageNet)
 *
 * Sums, not means, over rows and tensors: another convention needs another step size. */
#ifndef RT_METHODS_GRADIENT_DISTANCE_H
#define RT_METHODS_GRADIENT_DISTANCE_H

#include "nn/nn.h"

typedef enum rt_distance {
    RT_DISTANCE_COSINE,
    RT_DISTANCE_MSE,
    RT_DISTANCE_COS,
    RT_DISTANCE_CONV_L2,
    RT_DISTANCE_CONV_L1,
    RT_DISTANCES
} rt_distance;

/* Whether a parameter tensor enters the distance. */
bool rt_distance_includes(rt_distance d, const rt_param *p);
/* Indices into rt_model_param of the tensors that enter, ascending; index has room for rt_model_param_count. Returns how
 * many there are (0: e.g. conv_l2 of an MLP, which the caller must refuse). */
int32_t rt_distance_tensors(rt_distance d, const rt_model *m, int32_t *index);
/* [classes] distances. r[k], s[k]: equal shapes [classes, ...], n of them. r gets no gradient. */
rt_val rt_gradient_distance(rt_graph *g, rt_distance d, const rt_val *r, const rt_val *s, int32_t n);

#endif
