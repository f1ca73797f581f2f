/* The graph object, shared by the files of src/graph only. */
#ifndef RT_GRAPH_INTERNAL_H
#define RT_GRAPH_INTERNAL_H

#include "ops/row.h"

typedef struct rt_graph_block rt_graph_block;

struct rt_graph {
    rt_graph_block *blocks; /* bump storage: nodes and everything they point to; addresses never move */
    rt_node **node;         /* n_node pointers, in order of creation = topological order */
    size_t n_node, cap_node;
    uint32_t *owner;        /* owner[id]: index of the node that made value id; owner[0] is unused */
    size_t n_val, cap_val;  /* n_val counts the none value */
    uint32_t *slot;         /* open addressing: node index + 1, 0 is free; n_slot is a power of two */
    uint64_t *slot_hash;
    size_t n_slot;
    uint32_t *input;        /* indices of INPUT nodes */
    size_t n_input, cap_input;
    int expanding;          /* depth of expansions under way: rt_graph_expanding */
    rt_status st;           /* first error */
    rt_error_chain chain;
};

/* --- differentiation, shared by grad.c and jvp.c ------------------------------------------------------------------ */
/* The walk of grad.c. out[i] is none where y does not depend on wrt[i]; out may alias wrt. No path passes a value of
 * `stop`, as an input of a node under partial differentiation. */
rt_status rt_grad_walk(rt_graph *g, const rt_val *y, const rt_val *gy, int n_y, const rt_val *wrt, int n_wrt,
                       const rt_val *stop, int n_stop, int nesting, rt_val *out);
/* The rule of one node: partial derivatives, each summed to its input's shape where the op broadcast it. gx (n_in values)
 * comes filled with none. */
rt_status rt_grad_node(rt_graph *g, const rt_node *n, const rt_val *gy, int nesting, rt_val *gx);

#endif
