/* A set that somebody else distilled becomes one that eval and measure take. */
#include "base/alloc.h"
#include "cli/cli.h"

rt_status cmd_import(const cli_args *a)
{
    rt_status st = RT_OK;
    rt_config c = {0};
    char *text = NULL;
    if (!a->method) {
        st = RT_RAISE(RT_ERR_USAGE, "what is this set called?");
        return rt_error_fix(st, "add --method NAME, such as --method sre2l-released");
    }
    RT_TRY(cli_load_config(a, &c));
    RT_TRY(rt_stage_import(&c, &(rt_import){.source = a->pos[0], .method = a->method, .map = a->map, .space = a->space, .logits = a->logits,
                                            .ipc = a->ipc, .out = a->out, .force = a->force}, &text));
    cli_progress_stop();
    fputs(text, stdout);
out:
    rt_free(text);
    rt_config_fini(&c);
    return st;
}
