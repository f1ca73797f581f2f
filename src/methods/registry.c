/* The table of methods, expanded from method.def. */
#include "methods/method.h"

#include <stdio.h>
#include <string.h>

#define RT_METHOD(name) extern const rt_method rt_method_##name;
#include "methods/method.def"
#undef RT_METHOD

static const rt_method *const table[] = {
#define RT_METHOD(name) &rt_method_##name,
#include "methods/method.def"
#undef RT_METHOD
};

const rt_method *rt_method_at(int i)
{
    return i >= 0 && (size_t)i < sizeof table / sizeof *table ? table[i] : NULL;
}

rt_status rt_method_find(const char *name, const rt_method **out)
{
    char known[1024] = "";
    for (int i = 0; rt_method_at(i); i++) {
        if (!strcmp(rt_method_at(i)->name, name)) {
            *out = rt_method_at(i);
            return RT_OK;
        }
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s", n ? ", " : "", rt_method_at(i)->name);
    }
    rt_status st = RT_RAISE(RT_ERR_CONFIG, "no method named '%s'", name);
    return rt_error_fix(st, "known methods: %s", known);
}
