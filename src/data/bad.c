/* Samples that could not be decoded: an explicit policy, a list, a bound. Nothing is replaced by a neighbour. */
#include "base/alloc.h"
#include "data/internal.h"

void rt_bad_list_init(rt_bad_list *b)
{
    *b = (rt_bad_list){.policy = RT_BAD_FAIL, .max_fraction = 1e-4, .warnings_are_bad = true};
}

void rt_bad_list_fini(rt_bad_list *b)
{
    if (!b) return;
    for (int64_t i = 0; i < b->n; i++) {
        rt_free(b->item[i].key);
        rt_free(b->item[i].reason);
    }
    rt_free(b->item);
    b->item = NULL;
    b->n = b->cap = 0;
}

rt_status rt_bad_list_add(rt_bad_list *b, const char *key, const char *reason)
{
    if (b->n == b->cap) {
        size_t old = (size_t)b->cap, grown = old ? old * 2 : 16;
        rt_bad_sample *bigger = rt_realloc(b->item, old * sizeof *bigger, grown * sizeof *bigger);
        if (!bigger) return RT_RAISE(RT_ERR_NOMEM, "no memory for the list of bad samples");
        b->item = bigger;
        b->cap = (int64_t)grown;
    }
    rt_bad_sample s = {rt_strdup(key), rt_strdup(reason)};
    if (!s.key || !s.reason) {
        rt_free(s.key);
        rt_free(s.reason);
        return RT_RAISE(RT_ERR_NOMEM, "no memory for the list of bad samples");
    }
    b->item[b->n++] = s;
    return RT_OK;
}

rt_status rt_bad_list_check(const rt_bad_list *b, int64_t tried)
{
    if (b->n == 0 || (double)b->n <= b->max_fraction * (double)tried) return RT_OK;
    rt_status st = RT_RAISE(RT_ERR_FORMAT, "%lld of %lld samples are bad, more than the fraction %g allowed; first: %s",
                            (long long)b->n, (long long)tried, b->max_fraction, b->item[0].reason);
    return rt_error_fix(st, "repair or remove those files, or allow a larger fraction");
}
