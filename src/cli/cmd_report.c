/* The report of a run: of a run folder as it is (nothing but its results is read), or of a config's run. */
#include <limits.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "cli/cli.h"
#include "report/report.h"

void cli_print_report(char *table, char *page)
{
    cli_progress_stop();
    if (table) printf("\n%s\n", table);
    if (page) printf("report: %s\n", page);
    rt_free(table);
    rt_free(page);
}

rt_status cmd_report(const cli_args *a)
{
    rt_status st = RT_OK;
    rt_config c = {0};
    rt_results *r = NULL;
    char *table = NULL, *page = NULL, path[PATH_MAX];
    if (a->config && rt_fs_is_dir(a->config)) {
        RT_TRY(rt_fs_join(path, sizeof path, a->config, "results.db"));
        if (!rt_fs_exists(path)) {
            st = RT_RAISE(RT_ERR_MISSING, "%s has no results.db", a->config);
            st = rt_error_fix(st, "give the folder of a run in which `retort build` or `retort eval` has finished");
            goto out;
        }
        RT_TRY(rt_results_open(path, &r));
        RT_TRY(rt_report_table(r, RT_TABLE_TERMINAL, &table));
        st = rt_report_html(a->config, &page);
    } else {
        RT_TRY(cli_load_config(a, &c));
        st = rt_stage_report(&c, &table, &page);
    }
    cli_print_report(table, page);
out:
    rt_results_close(r);
    rt_config_fini(&c);
    return st;
}
