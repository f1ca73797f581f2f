/* retort: the command line. The one place that prints, handles signals and exits. */
#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/version.h"

/* The first signal asks the stage to commit and stop; a second one ends the process at once. */
static void on_signal(int sig)
{
    if (rt_stop_requested()) _exit(128 + sig);
    static const char line[] = "\nstopping after the next commit; once more ends at once\n";
    int saved = errno;
    rt_stop_request();
    if (write(STDERR_FILENO, line, sizeof line - 1) < 0) { /* nothing can be done about it in a handler */
    }
    errno = saved;
}

static void catch_signals(void)
{
    struct sigaction sa = {.sa_handler = on_signal};
    sigemptyset(&sa.sa_mask);
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
}

static rt_status unknown_verb(const char *name)
{
    rt_status st = RT_RAISE(RT_ERR_USAGE, "no verb `%.60s`", name);
    const char *near = NULL;
    int best = 3;
    for (int i = 0; cli_verb_at(i); i++) {
        int d = rt_edit_distance(name, cli_verb_at(i)->name);
        if (d < best) {
            best = d;
            near = cli_verb_at(i)->name;
        }
    }
    return near ? rt_error_fix(st, "did you mean `retort %s`?", near)
                : rt_error_fix(st, "`retort help` lists the verbs");
}

static rt_status run(int argc, char **argv, const char **where)
{
    rt_status st = RT_OK;
    const char *name = argc > 1 ? argv[1] : "help";
    *where = "";
    if (!strcmp(name, "--version") || !strcmp(name, "version")) {
        printf("retort %s\n", RT_VERSION);
        return RT_OK;
    }
    if (!strcmp(name, "help") || !strcmp(name, "--help") || !strcmp(name, "-h"))
        return cli_help(argc > 2 ? argv[2] : NULL, stdout);
    const cli_verb *v = cli_verb_find(name);
    if (!v) return unknown_verb(name);
    *where = v->name;
    cli_args args = {.program = argv[0]};
    RT_TRY(cli_parse(v, argc - 2, argv + 2, &args));
    if (args.help) return cli_help(v->name, stdout);
    RT_TRY(cli_progress_start());
    st = v->run(&args);
out:
    cli_progress_stop();
    return st;
}

int main(int argc, char **argv)
{
    const char *where = "";
    catch_signals();
    rt_status st = run(argc, argv, &where);
    if (fflush(stdout) && st == RT_OK) st = RT_RAISE_ERRNO("standard output");
    if (st != RT_OK) cli_print_error(st, where, stderr);
    return rt_exit_code(st);
}
