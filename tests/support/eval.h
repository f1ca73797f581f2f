/* A slow, obvious interpreter of graphs in double: one heap block per value, nodes in order, each by its row's reference.
 * It shares nothing with src/exec and src/backend, and so serves as the oracle of both. */
#ifndef RT_TESTS_EVAL_H
#define RT_TESTS_EVAL_H

#include "retort/graph.h"

typedef struct rt_feed {
    rt_val v;         /* an input of the graph */
    const void *data; /* double (RT_F32) or int32_t (RT_I32), row-major */
} rt_feed;

/* Bytes of a value here: 8 per RT_F32 element, 4 per RT_I32 element. */
size_t rt_eval_bytes(const rt_graph *g, rt_val v);
/* Computes want[i] into out[i] (rt_eval_bytes each). Only what the wanted values need is computed. */
rt_status rt_eval_ref(const rt_graph *g, const rt_feed *feed, int n_feed, const rt_val *want, int n_want,
                      void *const *out);
#endif
