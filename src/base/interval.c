/* Largest first, each at the lowest offset that no overlapping lifetime occupies: the classic greedy for activation
 * memory (few large buffers decide the peak). Ties break by index, so a plan is reproducible. */
#include "base/interval.h"

#include <stdlib.h>

#include "base/alloc.h"

typedef struct item {
    size_t bytes, index;
} item;

static int larger_first(const void *a, const void *b)
{
    const item *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x->index < y->index ? -1 : x->index > y->index;
}

rt_status rt_interval_pack(rt_interval *iv, size_t n, size_t align, size_t *peak)
{
    rt_status st = RT_OK;
    item *order = NULL;
    size_t *placed = NULL; /* indices of placed intervals, sorted by offset */
    size_t n_placed = 0, top = 0;
    RT_ALLOC(order, n * sizeof *order, "interval order");
    RT_ALLOC(placed, n * sizeof *placed, "interval order");
    for (size_t i = 0; i < n; i++) order[i] = (item){(iv[i].bytes + align - 1) / align * align, i};
    if (n) qsort(order, n, sizeof *order, larger_first);
    for (size_t k = 0; k < n; k++) {
        rt_interval *me = &iv[order[k].index];
        size_t need = order[k].bytes, cursor = 0, at = n_placed;
        size_t best = SIZE_MAX, best_gap = SIZE_MAX;
        for (size_t p = 0; p < n_placed; p++) {
            const rt_interval *o = &iv[placed[p]];
            if (o->last < me->first || me->last < o->first) continue;
            if (o->offset > cursor) {
                size_t gap = o->offset - cursor;
                if (gap >= need && gap < best_gap) {
                    best = cursor;
                    best_gap = gap;
                }
            }
            size_t end = o->offset + (o->bytes + align - 1) / align * align;
            if (end > cursor) cursor = end;
        }
        me->offset = best != SIZE_MAX ? best : cursor;
        if (me->offset + need > top) top = me->offset + need;
        for (at = n_placed; at > 0 && iv[placed[at - 1]].offset > me->offset; at--) placed[at] = placed[at - 1];
        placed[at] = order[k].index;
        n_placed++;
    }
    *peak = top;
out:
    rt_free(order);
    rt_free(placed);
    return st;
}
