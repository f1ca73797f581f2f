/* The images of a set as one PNG. */
#include <limits.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "cli/cli.h"
#include "report/report.h"

rt_status cmd_show(const cli_args *a)
{
    rt_status st = RT_OK;
    rt_set set = {0};
    void *png = NULL;
    size_t bytes = 0;
    char name[PATH_MAX];
    const char *dir = a->pos[0];

    size_t end = strlen(dir);
    while (end > 1 && dir[end - 1] == '/') end--;
    size_t begin = end;
    while (begin && dir[begin - 1] != '/') begin--;
    if (a->out)
        snprintf(name, sizeof name, "%s", a->out);
    else
        snprintf(name, sizeof name, "%.*s.png", (int)(end - begin), dir + begin);
    if (rt_fs_exists(name) && !a->force) {
        st = RT_RAISE(RT_ERR_LOCKED, "%s exists", name);
        st = rt_error_fix(st, "add --force to overwrite it, or --out FILE");
        goto out;
    }
    RT_TRYF(rt_set_read(dir, false, &set, NULL), "read the set");
    rt_grid_opts o = {.max_classes = (int32_t)a->classes,
                      .max_ipc = (int32_t)a->images,
                      .zoom = a->zoom ? (int32_t)a->zoom : 2,
                      .gap = 2,
                      .scale = a->scale_sd ? RT_GRID_SD : RT_GRID_STORED};
    RT_TRY(rt_grid_png(&set, &o, &png, &bytes));
    RT_TRY(rt_fs_write_atomic(name, png, bytes));
    printf("%s\n", name);
out:
    rt_free(png);
    rt_set_fini(&set);
    return st;
}
