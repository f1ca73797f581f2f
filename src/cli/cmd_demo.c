/* configs/demo.yaml, which the build puts into the program, run in runs/demo of the working directory. */
#include <limits.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/demo_config.h"

rt_status cmd_demo(const cli_args *a)
{
    rt_status st = RT_OK;
    rt_config c = {0};
    char *table = NULL, *page = NULL;
    cli_args with_dir = *a;
    if (a->n_set == CLI_MAX_SET) return RT_RAISE(RT_ERR_USAGE, "more than %d --set", CLI_MAX_SET - 1);
    with_dir.set[0] = "run.dir=runs/demo"; /* first, so that a --set of the user wins */
    memcpy(with_dir.set + 1, a->set, (size_t)a->n_set * sizeof *a->set);
    with_dir.n_set++;
    RT_TRY(cli_override(&with_dir, "demo.yaml", rt_demo_config, strlen(rt_demo_config), &c));
    st = rt_stage_bench(&c, &(rt_stage_opts){.force = a->force}, &table, &page);
    cli_print_report(table, page); /* also when only the plots are missing */
out:
    rt_config_fini(&c);
    return st;
}
