/* The table behind "where does the time go": one line per kernel call, in order, and the sum. */
#include "exec/exec_internal.h"
#include "ops/util.h"

rt_status rt_exec_profile_dump(const rt_exec *ex, FILE *f)
{
    char text[512];
    double total = 0, runs = ex->n_run ? (double)ex->n_run : 1;
    if (!ex->opts.profile) return RT_RAISE(RT_ERR_ARG, "this exec was prepared without profile");
    fprintf(f, "%8s %6s %8s %8s  %-28s %s\n", "ms", "share", "GF/s", "GB/s", "implementation", "op");
    for (int s = 0; s < ex->plan->n_step; s++) total += ex->ms[s] / runs;
    for (int s = 0; s < ex->plan->n_step; s++) {
        const rt_node *n = ex->prep[s].node;
        const rt_op_row *row = rt_op_row_of(n->op);
        rt_cost c = row->cost ? row->cost(n) : rt_cost_default(n);
        double ms = ex->ms[s] / runs, per = ms > 0 ? 1e-6 / ms : 0;
        fprintf(f, "%8.3f %5.1f%% %8.1f %8.1f  %-28s %s\n", ms, total > 0 ? 100 * ms / total : 0, c.flops * per,
                c.bytes * per, ex->prep[s].impl, rt_plan_node_str(n, text, sizeof text));
    }
    fprintf(f, "%8.3f total of %d kernels, %ld runs\n", total, ex->plan->n_step, ex->n_run);
    return ferror(f) ? RT_RAISE(RT_ERR_IO, "cannot write the profile") : RT_OK;
}
