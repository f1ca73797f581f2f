/* A recipe and its published figure. The text is printed also when a gate fails. What the command line changed is said
 * beside the figure: a recipe with other settings is another recipe. */
#include "base/alloc.h"
#include "cli/cli.h"

rt_status cmd_repro(const cli_args *a)
{
    rt_status st = RT_OK;
    rt_config c = {0};
    char *text = NULL;
    RT_TRY(cli_load_config(a, &c));
    st = rt_stage_repro(&c, &(rt_stage_opts){.force = a->force}, &text);
    cli_progress_stop();
    if (text) {
        fputs(text, stdout);
        if (a->quick) printf("  %-10s --quick: the smallest sizes, the figure means nothing\n", "changed");
        for (int i = 0; i < a->n_set; i++) printf("  %-10s %s\n", "changed", a->set[i]);
    }
out:
    rt_free(text);
    rt_config_fini(&c);
    return st;
}
