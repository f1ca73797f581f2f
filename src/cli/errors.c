/* The three lines of an error: what, where, what to do. Every status has a remedy, so that no error ends without one.
 */
#include <string.h>

#include "cli/cli.h"

static const char *default_fix(rt_status st)
{
    switch (st) {
    case RT_OK: break;
    case RT_ERR_GATE: return "the lines above say which limit was missed";
    case RT_ERR_USAGE: return "see `retort help`";
    case RT_ERR_FORMAT: return "the file is damaged or of another kind: `retort verify PATH` names what differs";
    case RT_ERR_MISSING: return "check the path; relative paths in a config are relative to the config's folder";
    case RT_ERR_UNSUPPORTED: return "`retort doctor` lists what this machine and build offer";
    case RT_ERR_DEVICE: return "`retort doctor` checks the device; backend.device=cpu runs without it";
    case RT_ERR_ARG:
    case RT_ERR_INTERNAL: return "this is a bug: please report these lines with the output of `retort doctor --json`";
    case RT_ERR_NOMEM: return "`retort plan` shows what a run needs; use smaller batches or data.size";
    case RT_ERR_LOCKED: return "wait for the other process, or use another run.dir";
    case RT_ERR_IO: return "check the disk (free space, health), then rerun the same command: it resumes";
    case RT_ERR_CANCELLED: return "rerun the same command: it resumes from its last commit";
    case RT_ERR_COMM: return "check the other ranks, then rerun the same command: it resumes";
    case RT_ERR_PERMISSION: return "check the owner and mode of the path, or use another run.dir";
    case RT_ERR_CONFIG: return "`retort help config` lists every key with its type, range and default";
    case RT_ERR_NUMERIC: return "lower the learning rate of this stage, or check data.mean and data.std";
    case RT_STATUS_COUNT: break;
    }
    return "please report this message";
}

static void put_line(FILE *f, const char *s) /* messages may quote text with line breaks */
{
    for (; *s; s++) fputc((unsigned char)*s < 0x20 ? ' ' : *s, f);
    fputc('\n', f);
}

void cli_print_error(rt_status st, const char *where, FILE *f)
{
    const char *frames = rt_error_where(), *fix = rt_error_remedy(), *what = rt_error_what();
    fprintf(f, "error[%d]: ", rt_exit_code(st));
    put_line(f, what[0] ? what : rt_status_name(st));
    fprintf(f, "  retort%s%s%s", where[0] ? " " : "", where, frames[0] ? ": " : "");
    put_line(f, frames);
    fprintf(f, "  fix: ");
    put_line(f, fix[0] ? fix : default_fix(st));
}
