/* The whole grid, and its table. */
#include "cli/cli.h"

rt_status cmd_bench(const cli_args *a)
{
    rt_status st = RT_OK;
    rt_config c = {0};
    char *table = NULL, *page = NULL;
    RT_TRY(cli_load_config(a, &c));
    st = rt_stage_bench(&c, &(rt_stage_opts){.force = a->force}, &table, &page);
    cli_print_report(table, page); /* also when only the plots are missing */
out:
    rt_config_fini(&c);
    return st;
}
