/* Opening backends by name. */
#include "backend/backend.h"

#include <string.h>

static const struct {
    const char *name;
    rt_status (*open)(const rt_backend_opts *o, rt_backend **out);
} backends[] = {{"cpu", rt_cpu_open}, {"cuda", rt_cuda_open}, {"ref", rt_ref_open}};

rt_status rt_backend_open(const char *name, const rt_backend_opts *o, rt_backend **out)
{
    rt_backend_opts defaults = {0};
    if (!name) return RT_RAISE(RT_ERR_ARG, "backend: no name given");
    for (size_t i = 0; i < sizeof backends / sizeof backends[0]; i++)
        if (strcmp(backends[i].name, name) == 0) return backends[i].open(o ? o : &defaults, out);
    rt_status st = RT_RAISE(RT_ERR_ARG, "backend '%s' does not exist", name);
    return rt_error_fix(st, "choose one of: cpu, cuda, ref");
}

const char *rt_precision_name(rt_precision p)
{
    static const char *const names[] = {"f32", "tf32", "bf16"};
    return (size_t)p < sizeof names / sizeof *names ? names[p] : "?";
}

rt_status rt_backend_need_f32(const char *name, const rt_backend_opts *o)
{
    if (o->precision == RT_PRECISION_F32) return RT_OK;
    rt_status st = RT_RAISE(RT_ERR_UNSUPPORTED, "backend %s: precision %s: it computes in %s only", name, rt_precision_name(o->precision),
                            strcmp(name, "ref") == 0 ? "float64" : "float32");
    return rt_error_fix(st, "use --set backend.precision=f32, or backend.device=cuda");
}

void rt_backend_close(rt_backend *be)
{
    if (be) be->vt->close(be);
}

const char *rt_backend_name(const rt_backend *be) { return be->vt->name; }
const char *rt_backend_describe(const rt_backend *be) { return be->describe; }
