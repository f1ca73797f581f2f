/* CV-DD's choice of teachers, as plain functions. */
#ifndef RT_METHODS_CVDD_H
#define RT_METHODS_CVDD_H

#include <stdint.h>

/* Pair k of n in the order (0,1), (0,2), ..., (0,n-1), (1,2), ...: that in which the released code goes through its ten. */
void rt_cvdd_pair(int32_t n, int64_t k, int32_t pair[2]);
/* softmax(prior / temperature) of two. */
void rt_cvdd_weights(const double prior[2], double temperature, double weight[2]);

#endif
