/* Train the networks that features and scores come from. */
#include "cli/cli.h"

rt_status cmd_teach(const cli_args *a)
{
    rt_status st = RT_OK;
    rt_config c = {0};
    RT_TRY(cli_load_config(a, &c));
    RT_TRY(rt_stage_teach(&c, &(rt_stage_opts){.force = a->force, .paths = a->pos, .n_paths = a->n_pos}));
    cli_progress_stop();
    printf("%s\n", c.run.dir);
out:
    rt_config_fini(&c);
    return st;
}
