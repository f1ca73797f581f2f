/* What a run needs. The text is printed also when something does not fit. */
#include "base/alloc.h"
#include "cli/cli.h"

rt_status cmd_plan(const cli_args *a)
{
    rt_status st = RT_OK;
    rt_config c = {0};
    char *text = NULL;
    RT_TRY(cli_load_config(a, &c));
    st = rt_stage_plan(&c, &text);
    cli_progress_stop();
    if (text) fputs(text, stdout);
out:
    rt_free(text);
    rt_config_fini(&c);
    return st;
}
