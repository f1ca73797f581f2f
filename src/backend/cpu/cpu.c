/* Opening the cpu backend: threads, oneDNN's engine and stream, and what machine this is.
 *
 * OpenMP runs the loops and oneDNN. Its threads spin between parallel regions by default, which is right on a machine of
 * one's own and wasteful beside other work: OMP_WAIT_POLICY=passive then gives the cores back. */
#include "backend/cpu/cpu.h"

#include <omp.h>
#include <string.h>

#include "base/alloc.h"

const char *rt_cpu_dnnl_name(dnnl_status_t s)
{
    switch (s) {
    case dnnl_success: return "success";
    case dnnl_out_of_memory: return "out of memory";
    case dnnl_invalid_arguments: return "invalid arguments";
    case dnnl_unimplemented: return "no implementation";
    case dnnl_iterator_ends: return "no further implementation";
    case dnnl_runtime_error: return "runtime error";
    case dnnl_not_required: return "not required";
    default: return "unknown status";
    }
}

static const char *isa_name(void)
{
    switch (dnnl_get_effective_cpu_isa()) {
    case dnnl_cpu_isa_sse41: return "sse4.1";
    case dnnl_cpu_isa_avx: return "avx";
    case dnnl_cpu_isa_avx2: return "avx2";
    case dnnl_cpu_isa_avx2_vnni: return "avx2+vnni";
    case dnnl_cpu_isa_avx512_mic:
    case dnnl_cpu_isa_avx512_mic_4ops: return "avx512-mic";
    case dnnl_cpu_isa_avx512_core: return "avx512";
    case dnnl_cpu_isa_avx512_core_vnni: return "avx512+vnni";
    case dnnl_cpu_isa_avx512_core_bf16: return "avx512+bf16";
    case dnnl_cpu_isa_avx512_core_amx: return "avx512+amx";
    default: return "best available";
    }
}

static rt_status cpu_alloc(rt_backend *be, size_t bytes, void **p)
{
    /* rt_malloc aligns to a cache line; stores of a plan are placed at multiples of 256 inside one arena. */
    enum { ALIGN = 256 };
    (void)be;
    char *raw = rt_malloc(bytes + ALIGN);
    if (!raw) return RT_RAISE(RT_ERR_NOMEM, "no memory for %zu bytes on the cpu", bytes);
    size_t shift = ALIGN - (uintptr_t)raw % ALIGN; /* 64..256: room for the way back */
    char *at = raw + shift;
    memcpy(at - sizeof raw, &raw, sizeof raw);
    /* Zeroing also maps every page now, in the threads' shares: no page fault is left for the run. */
#pragma omp parallel
    {
        int64_t lo, hi;
        rt_share((int64_t)bytes, omp_get_thread_num(), omp_get_num_threads(), &lo, &hi);
        memset(at + lo, 0, (size_t)(hi - lo));
    }
    *p = at;
    return RT_OK;
}

static void cpu_free(rt_backend *be, void *p)
{
    void *raw;
    (void)be;
    if (!p) return;
    memcpy(&raw, (char *)p - sizeof raw, sizeof raw);
    rt_free(raw);
}

static rt_status cpu_copy(rt_backend *be, void *dst, const void *src, size_t bytes)
{
    (void)be;
    if (bytes) memcpy(dst, src, bytes);
    return RT_OK;
}

static rt_status cpu_fill(rt_backend *be, void *dst, double value, size_t count)
{
    (void)be;
    for (size_t i = 0; i < count; i++) ((float *)dst)[i] = (float)value;
    return RT_OK;
}

static rt_status cpu_begin_run(rt_backend *be)
{
    omp_set_num_threads(((rt_cpu *)be)->threads);
    return RT_OK;
}

static void cpu_close(rt_backend *be)
{
    rt_cpu *c = (rt_cpu *)be;
    if (!c) return;
    if (c->stream) dnnl_stream_destroy(c->stream);
    if (c->engine) dnnl_engine_destroy(c->engine);
    rt_free(c->algo_cache);
    rt_free(c);
}

rt_status rt_cpu_open(const rt_backend_opts *o, rt_backend **out)
{
    rt_status st = RT_OK;
    rt_cpu *c = NULL;
    const dnnl_version_t *v = dnnl_version();
    RT_TRY(rt_backend_need_f32("cpu", o));
    RT_ALLOC(c, sizeof *c, "cpu backend");
    if (o->threads < 0 || o->threads > 4096) {
        st = RT_RAISE(RT_ERR_ARG, "backend cpu: %d threads", o->threads);
        goto out;
    }
    c->threads = o->threads ? o->threads : omp_get_num_procs();
    omp_set_num_threads(c->threads);
    if (o->algo_cache && !(c->algo_cache = rt_strdup(o->algo_cache))) {
        st = RT_RAISE(RT_ERR_NOMEM, "no memory for the name of the algorithm cache");
        goto out;
    }
    rt_cpu_elementwise_kernels(c->kernels);
    rt_cpu_reduce_kernels(c->kernels);
    rt_cpu_move_kernels(c->kernels);
    rt_cpu_index_kernels(c->kernels);
    rt_cpu_matmul_kernels(c->kernels);
    rt_cpu_conv_kernels(c->kernels);
    rt_cpu_pool_kernels(c->kernels);
    rt_cpu_norm_kernels(c->kernels);
    rt_cpu_loss_kernels(c->kernels);
    rt_cpu_moments_kernels(c->kernels);
    rt_cpu_sample_kernels(c->kernels);
    rt_cpu_generate_kernels(c->kernels);
    rt_cpu_crop_kernels(c->kernels);
    rt_cpu_optim_kernels(c->kernels);
    c->vt = (rt_backend_vtable){.name = "cpu", .real_bytes = sizeof(float), .host_memory = true, .kernels = c->kernels,
                                .alloc = cpu_alloc, .free = cpu_free, .upload = cpu_copy, .download = cpu_copy,
                                .fill = cpu_fill, .begin_run = cpu_begin_run, .close = cpu_close};
    c->base.vt = &c->vt;
    c->base.opts = *o;
    c->base.opts.threads = c->threads;
    c->base.opts.algo_cache = c->algo_cache;
    RT_ONEDNN(dnnl_engine_create(&c->engine, dnnl_cpu, 0));
    RT_ONEDNN(dnnl_stream_create(&c->stream, c->engine, dnnl_stream_default_flags));
    snprintf(c->base.describe, sizeof c->base.describe, "cpu: %d thread%s, oneDNN %d.%d.%d (%s)", c->threads,
             c->threads == 1 ? "" : "s", v->major, v->minor, v->patch, isa_name());
    *out = &c->base;
    c = NULL;
out:
    cpu_close((rt_backend *)c);
    return st;
}
