/* The empirical characteristic function of a set of rows, and the distance NCFM takes between two of them (Wang et al.,
 * "Dataset Distillation with Neural Characteristic Function", CVPR 2025; matching.md 3.6, 4.9).
 *
 *   Phi(t) = mean_i exp(j <t, f_i>) = c + j s
 *   L = scale mean_k sqrt( alpha (|Phi_r| - |Phi_s|)^2 + beta max(1e-12, 2 (|Phi_r||Phi_s| - c_r c_s - s_r s_s)) )
 *
 * Graph builders over rows of unit length. */
#ifndef RT_METHODS_CHARACTERISTIC_H
#define RT_METHODS_CHARACTERISTIC_H

#include "retort/graph.h"

/* f [n,d] -> rows of unit length; a row of zeros stays. */
rt_val rt_cf_unit_rows(rt_graph *g, rt_val f);
/* f [n,d] in `classes` equal blocks, t [K,d] -> c and s [classes,K]. */
void rt_cf_means(rt_graph *g, rt_val f, rt_val t, int64_t classes, rt_val *c, rt_val *s);
/* Sum of L over the classes. alpha = beta needs no magnitudes: the two terms are then alpha |Phi_r - Phi_s|^2 together. */
rt_val rt_cf_loss(rt_graph *g, rt_val cr, rt_val sr, rt_val cs, rt_val ss, double alpha, double beta, double scale);

/* --- the sampling network psi ------------------------------------------------------------------------------------------ */
/* noise [K,dim] -> frequencies [K,dim]: three times (linear, batch norm), with leaky ReLU 0.2 after the first two and tanh
 * after the last. Its parameters are one vector: of each layer w [dim,dim], b, gamma, beta. */
int64_t rt_psi_n_params(int64_t dim);
void rt_psi_init(int64_t dim, uint64_t seed, float *theta); /* linear layers uniform in +-1/sqrt(dim), gamma 1, beta 0 */
rt_val rt_psi_forward(rt_graph *g, rt_val noise, rt_val theta, int64_t dim);

#endif
