/* The ref backend: float64, plain loops, one thread. It is the definition of every op, not an implementation to use for
 * work: all its kernels are one function that calls the row's reference. A new op never touches this file. */
#include <string.h>

#include "backend/backend.h"
#include "base/alloc.h"

enum { ALIGN = 256 };

static rt_status ref_alloc(rt_backend *be, size_t bytes, void **p)
{
    (void)be;
    /* rt_calloc aligns to 64; the address of the block is kept just below the aligned part. */
    char *raw = rt_calloc(bytes + ALIGN + sizeof(void *));
    if (!raw) return RT_RAISE(RT_ERR_NOMEM, "ref: no memory for %zu bytes", bytes);
    char *at = (char *)(((uintptr_t)raw + sizeof(void *) + ALIGN - 1) & ~(uintptr_t)(ALIGN - 1));
    memcpy(at - sizeof(void *), &raw, sizeof raw);
    *p = at;
    return RT_OK;
}

static void ref_free(rt_backend *be, void *p)
{
    (void)be;
    char *raw;
    if (!p) return;
    memcpy(&raw, (char *)p - sizeof(void *), sizeof raw);
    rt_free(raw);
}

static rt_status ref_copy(rt_backend *be, void *dst, const void *src, size_t bytes)
{
    (void)be;
    if (bytes) memcpy(dst, src, bytes);
    return RT_OK;
}

static rt_status ref_fill(rt_backend *be, void *dst, double value, size_t count)
{
    (void)be;
    for (size_t i = 0; i < count; i++) ((double *)dst)[i] = value;
    return RT_OK;
}

static bool ref_supports(const rt_node *n, const char **why)
{
    if (rt_op_row_of(n->op)->ref) return true;
    *why = "its row has no reference";
    return false;
}

static rt_status ref_prepare(rt_backend *be, rt_prepared *p)
{
    (void)be;
    p->impl = "ref";
    return RT_OK;
}

static rt_status ref_run(const rt_prepared *p, const rt_kernel_io *io)
{
    return rt_op_row_of(p->node->op)->ref(p->node, &(rt_ref_io){.in = io->in, .out = io->out});
}

static const rt_kernel kernels[RT_OP_COUNT] = {
#define RT_OP(ENUM, name) [RT_OP_##ENUM] = {.supports = ref_supports, .prepare = ref_prepare, .run = ref_run},
#include "ops/ops.def"
#undef RT_OP
};

static void ref_close(rt_backend *be) { rt_free(be); }

static const rt_backend_vtable vtable = {
    .name = "ref",
    .real_bytes = sizeof(double),
    .host_memory = false,
    .kernels = kernels,
    .alloc = ref_alloc,
    .free = ref_free,
    .upload = ref_copy,
    .download = ref_copy,
    .fill = ref_fill,
    .close = ref_close,
};

rt_status rt_ref_open(const rt_backend_opts *o, rt_backend **out)
{
    rt_status st = RT_OK;
    rt_backend *be = NULL;
    RT_TRY(rt_backend_need_f32("ref", o));
    RT_ALLOC(be, sizeof *be, "backend ref");
    be->vt = &vtable;
    be->opts = *o;
    memcpy(be->describe, "ref: float64 loops, 1 thread", sizeof "ref: float64 loops, 1 thread");
    *out = be;
out:
    return st;
}
