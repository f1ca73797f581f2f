/* Committees in memory; where they come from is stage/committee.c's business. */
#include "teacher/committee.h"

#include <string.h>

#include "base/alloc.h"

void rt_committee_fini(rt_committee *c)
{
    for (int32_t i = 0; c->teacher && i < c->n; i++) {
        rt_model_destroy(c->teacher[i].model);
        rt_free(c->teacher[i].theta);
        rt_free(c->teacher[i].buffers);
    }
    rt_free(c->teacher);
    memset(c, 0, sizeof *c);
}

rt_status rt_teacher_resized(const rt_teacher *t, int32_t size, rt_model **out)
{
    rt_status st = RT_OK;
    rt_model *m = NULL;
    rt_model_desc d = *rt_model_desc_of(t->model);
    d.size = size;
    RT_TRYF(rt_model_create(&d, &m), "teacher %s at %d pixels", t->name, size);
    bool same = rt_model_param_count(m) == rt_model_param_count(t->model);
    for (int32_t i = 0; same && i < rt_model_param_count(m); i++)
        same = rt_shape_eq(&rt_model_param(m, i)->shape, &rt_model_param(t->model, i)->shape);
    if (!same) {
        st = RT_RAISE(RT_ERR_UNSUPPORTED, "teacher %s cannot look at %d pixels: its parameters depend on the side", t->name, size);
        rt_error_fix(st, "use a teacher with global pooling, such as resnet18, or keep every stage at %d pixels",
                     rt_model_desc_of(t->model)->size);
        goto out;
    }
    *out = m;
    m = NULL;
out:
    rt_model_destroy(m);
    return st;
}
