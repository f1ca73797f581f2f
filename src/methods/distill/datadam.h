/* What DataDAM matches, as a graph builder of its own so that tests can look at it (datadam.c). */
#ifndef RT_METHODS_DATADAM_H
#define RT_METHODS_DATADAM_H

#include "methods/distill/class_mean.h"

/* Rows [n,T] for a forward pass with RT_FORWARD_RELUS over n images: sqrt(scale) times the unit attention of every ReLU output
 * but the last (datadam.last_layer: of every one), then sqrt(scale lambda) times the features. */
rt_val rt_datadam_statistic(const rt_config *c, rt_graph *g, const rt_forward *f);

#endif
