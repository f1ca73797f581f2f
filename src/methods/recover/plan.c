/* Which images form a block, and which blocks go through one pass (core.h). */
#include <string.h>

#include "base/alloc.h"
#include "methods/recover/core.h"

enum { GPU_PIXELS = 512 * 64 * 64, CPU_PIXELS = 16 * 64 * 64 }; /* a CPU is faster with what its cache holds: measured */

/* SRe2L's blocks: one image of each of `batch` consecutive classes, rank after rank; or consecutive images. */
static int64_t by_default(const rt_recovery *r, int64_t block, int64_t *image)
{
    int64_t classes = r->ctx->train->classes.n, ipc = r->ctx->ipc, n = 0;
    if (r->class_major) {
        for (int64_t i = block * r->batch; i < classes * ipc && n < r->batch; i++) image[n++] = i;
    } else {
        int64_t per_rank = (classes + r->batch - 1) / r->batch, rank = block / per_rank;
        if (rank >= ipc) return -1;
        for (int64_t c = block % per_rank * r->batch; c < classes && n < r->batch; c++) image[n++] = c * ipc + rank;
    }
    return n > 0 ? n : -1;
}

static bool same_panel(const rt_recovery *r, int64_t a, int64_t b)
{
    recover_panel x, y;
    if (!r->panel) return true;
    recover_panel_of(r, a, 0, &x);
    recover_panel_of(r, b, 0, &y);
    for (int32_t i = 0; x.n == y.n && i < x.n; i++)
        if (x.teacher[i] != y.teacher[i] || x.weight[i] != y.weight[i]) return false;
    return x.n == y.n;
}

/* (A block of one image stays alone: one image takes another path through the convolutions, and other bits come out.)
 * Blocks together take turns with teachers together, which is what they do alone when every block begins with the same one. */
static bool may_group(const rt_recovery *r)
{
    int32_t n = r->ctx->teachers->n;
    return !r->before_block && (r->teachers == RT_RECOVER_ALL || n == 1 || r->iterations % n == 0);
}

void recover_panel_of(const rt_recovery *r, int64_t block, int64_t t, recover_panel *out)
{
    const rt_committee *c = r->ctx->teachers;
    memset(out, 0, sizeof *out);
    if (r->teachers == RT_RECOVER_ROUND_ROBIN) {
        out->n = 1;
        out->teacher[0] = (int32_t)((block * r->iterations + t) % c->n);
        out->weight[0] = 1;
    } else if (r->panel) {
        out->n = r->panel(r->self, block, out->teacher, out->weight);
    } else {
        for (out->n = 0; out->n < c->n; out->n++) {
            out->teacher[out->n] = out->n;
            out->weight[out->n] = c->teacher[out->n].weight;
        }
    }
}

static rt_status compose(const rt_recovery *r, recover_plan *p, int64_t n)
{
    rt_status st = RT_OK;
    bool *seen = NULL;
    int64_t *one = NULL, at = 0;
    RT_ALLOC(seen, (size_t)n, "blocks");
    RT_ALLOC(one, (size_t)n * sizeof *one, "blocks");
    memset(seen, 0, (size_t)n);
    for (int64_t b = 0;; b++) {
        int64_t k = r->compose ? r->compose(r->self, b, one) : by_default(r, b, one);
        if (k < 0) break;
        for (int64_t i = 0; i < k; i++) {
            if (at >= n || one[i] < 0 || one[i] >= n || seen[one[i]]) {
                st = RT_RAISE(RT_ERR_INTERNAL, "%s puts image %lld into block %lld, where it cannot be", r->name, (long long)one[i],
                              (long long)b);
                goto out;
            }
            seen[one[i]] = true;
            p->image[at++] = one[i];
        }
        p->start[p->n_blocks + 1] = at;
        p->n_blocks += k > 0;
    }
    if (at != n) st = RT_RAISE(RT_ERR_INTERNAL, "%s leaves %lld images out of its blocks", r->name, (long long)(n - at));
out:
    rt_free(seen);
    rt_free(one);
    return st;
}

rt_status recover_plan_make(const rt_recovery *r, recover_plan *out)
{
    rt_status st = RT_OK;
    recover_plan p = {0};
    int64_t n = (int64_t)r->ctx->train->classes.n * r->ctx->ipc, side = r->ctx->net.size;
    int64_t pixels = strcmp(rt_backend_name(r->ctx->be), "cuda") ? CPU_PIXELS : GPU_PIXELS;
    RT_ALLOC(p.image, (size_t)n * sizeof *p.image, "blocks");
    RT_ALLOC(p.start, (size_t)(n + 2) * sizeof *p.start, "blocks");
    RT_ALLOC(p.pass, (size_t)(n + 2) * sizeof *p.pass, "blocks");
    p.start[0] = p.pass[0] = 0;
    RT_TRY(compose(r, &p, n));
    for (int64_t b = 0; b < p.n_blocks;) {
        int64_t size = p.start[b + 1] - p.start[b], most = r->groups ? r->groups : pixels / (size * side * side), end = b + 1;
        while (size > 1 && may_group(r) && end < p.n_blocks && end - b < most && p.start[end + 1] - p.start[end] == size && same_panel(r, b, end)) end++;
        if (size * (end - b) > p.largest) p.largest = size * (end - b);
        p.pass[++p.n_passes] = b = end;
    }
    *out = p;
    memset(&p, 0, sizeof p);
out:
    recover_plan_fini(&p);
    return st;
}

void recover_plan_fini(recover_plan *p)
{
    rt_free(p->image);
    rt_free(p->start);
    rt_free(p->pass);
    memset(p, 0, sizeof *p);
}
