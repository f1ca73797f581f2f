/* Plots: a gnuplot script with its data inside, run to SVG, then made to fit a page.
 *
 * Text, axes and the page's colour: the script draws them in one odd colour (INK) that is replaced by currentColor, so
 * one picture serves light and dark pages. Names from the database are reduced to harmless characters before they enter
 * a script, because gnuplot strings can run commands. */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "report/internal.h"

extern char **environ;

#define INK "#010203"
static const char *const palette[] = {"#0072b2", "#d55e00", "#009e73", "#b0569b",
                                      "#c98a00", "#3aa0d8", "#8a6d3b", "#6a5acd"};
enum { N_PALETTE = sizeof palette / sizeof *palette };

const char *plot_colour(const d_data *d, const char *method)
{
    int index = 0;
    if (!strcmp(method, "random")) return "#808080";
    for (int i = 0; i < d->n_set; i++) { /* sets are in key order, so the colours of a run do not move */
        const char *m = d->set[i].method;
        if (!strcmp(m, method)) return palette[index % N_PALETTE];
        bool fresh = strcmp(m, "random") != 0;
        for (int k = 0; k < i; k++) fresh = fresh && strcmp(d->set[k].method, m);
        index += fresh;
    }
    return palette[0];
}

/* --- running gnuplot -----------------------------------------------------------------------------------------------
 */
static rt_status run_gnuplot(const char *script_path, const char *log_path)
{
    rt_status st = RT_OK;
    posix_spawn_file_actions_t fa;
    pid_t pid;
    int status;
    char *argv[] = {"gnuplot", "-d", (char *)script_path, NULL}; /* -d: without the user's own start-up files */
    if (posix_spawn_file_actions_init(&fa)) return RT_RAISE(RT_ERR_NOMEM, "no memory to start gnuplot");
    posix_spawn_file_actions_addopen(&fa, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&fa, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&fa, STDERR_FILENO, log_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int e = posix_spawnp(&pid, "gnuplot", &fa, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&fa);
    if (e == ENOENT) {
        st = RT_RAISE(RT_ERR_UNSUPPORTED, "gnuplot is not installed: no plots");
        return rt_error_fix(st, "apt-get install gnuplot-nox, then `retort report` again");
    }
    if (e) {
        errno = e;
        return RT_RAISE_ERRNO("start gnuplot");
    }
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return RT_RAISE_ERRNO("wait for gnuplot");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return RT_OK;
    void *log = NULL;
    size_t n = 0;
    if (rt_fs_read(log_path, 4096, &log, &n) != RT_OK) log = NULL;
    st = RT_RAISE(RT_ERR_INTERNAL, "gnuplot failed: %.300s", log ? (char *)log : "no message");
    rt_free(log);
    return st;
}

static void replace_all(text *t, const char *in, const char *const (*pair)[2], int n)
{
    while (*in) {
        int hit = -1;
        for (int i = 0; i < n && hit < 0; i++)
            if (!strncmp(in, pair[i][0], strlen(pair[i][0]))) hit = i;
        if (hit < 0) {
            t_raw(t, in++, 1);
            continue;
        }
        t_raw(t, pair[hit][1], strlen(pair[hit][1]));
        in += strlen(pair[hit][0]);
    }
}

rt_status plot_svg(const char *script, int width, int height, char **svg)
{
    static const char *const pair[][2] = {{"rgb(1,2,3)", "currentColor"},
                                          {"rgb(  1,   2,   3)", "currentColor"},
                                          {" color=\"black\"", ""},
                                          {"font-family=\"sans-serif\"", ""}};
    rt_status st = RT_OK;
    char dir[] = "/tmp/retort-plot-XXXXXX", in[64], out[64], log[64];
    text whole = {0}, fit = {0};
    void *raw = NULL;
    size_t n = 0;
    const char *tmp = mkdtemp(dir);
    if (!tmp) return RT_RAISE_ERRNO("%s", dir);
    snprintf(in, sizeof in, "%s/in.gp", dir);
    snprintf(out, sizeof out, "%s/out.svg", dir);
    snprintf(log, sizeof log, "%s/log.txt", dir);
    t_put(&whole,
          "set encoding utf8\nset term svg size %d,%d dynamic noenhanced font 'sans-serif,14'\nset output '%s'\n"
          "set border 3 lc rgb '%s' lw 0.6\nset tics nomirror out scale 0.5 textcolor rgb '%s'\n"
          "set key textcolor rgb '%s' noenhanced\nset xlabel textcolor rgb '%s'\nset ylabel textcolor rgb '%s'\n"
          "set grid ytics lc rgb '#888888' lw 0.4 dt 1\nset bars 0.5\nset pointintervalbox 0\n%s\n",
          width, height, out, INK, INK, INK, INK, INK, script);
    if (whole.st != RT_OK) {
        st = whole.st;
        goto out;
    }
    RT_TRY(rt_fs_write_atomic(in, whole.s, whole.n));
    RT_TRY(run_gnuplot(in, log));
    RT_TRY(rt_fs_read(out, 16 << 20, &raw, &n));
    replace_all(&fit, raw, pair, sizeof pair / sizeof *pair);
    RT_TRY(t_take(&fit, svg));
out:
    t_free(&whole);
    t_free(&fit);
    rt_free(raw);
    rt_error_chain kept;
    rt_error_save(&kept);
    rt_fs_remove_tree(dir);
    if (st != RT_OK) rt_error_restore(&kept);
    return st;
}

/* --- scripts -------------------------------------------------------------------------------------------------------
 */
void plot_name(text *t, const char *s)
{
    for (int n = 0; *s && n < 60; s++, n++) {
        bool fine = strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ._-+()/", *s) != NULL;
        t_raw(t, fine ? s : "?", 1);
    }
}

static bool in_cell(const d_summary *r, const char *protocol, const char *student)
{
    return r->n && !strcmp(r->protocol, protocol) && !strcmp(r->student, student);
}

/* Methods of a cell in the order of its rows, each once. Returns how many; list holds at most cap. */
static int methods_of(const d_data *d, const char *protocol, const char *student, const char **list, int cap)
{
    int n = 0;
    for (int i = 0; i < d->n_row; i++) {
        const d_summary *r = &d->row[i];
        bool fresh = in_cell(r, protocol, student) && !r->full;
        for (int k = 0; k < n; k++) fresh = fresh && strcmp(list[k], r->method);
        if (fresh && n < cap) list[n++] = r->method;
    }
    return n;
}

enum { MAX_METHODS = 32 };

static void put_full_line(text *t, const d_data *d, const char *protocol, const char *student)
{
    for (int i = 0; i < d->n_row; i++)
        if (in_cell(&d->row[i], protocol, student) && d->row[i].full)
            t_put(t, ", %.6f with lines dt 2 lw 1 lc rgb '%s' title 'all images'", 100 * d->row[i].mean, INK);
}

/* Filled point: the construction alone. Open point at the end of the thin line: with the teacher that it needed. */
rt_status plot_accuracy_cost(const d_data *d, const char *protocol, const char *student, char **svg)
{
    rt_status st = RT_OK;
    text t = {0};
    const char *method[MAX_METHODS];
    int n = methods_of(d, protocol, student, method, MAX_METHODS);
    double lo = INFINITY, hi = 0;
    bool teacher = false;
    for (int m = 0; m < n; m++) {
        t_put(&t, "$d%d << EOD\n", m);
        for (int i = 0; i < d->n_row; i++) {
            const d_summary *r = &d->row[i];
            if (r->full || !in_cell(r, protocol, student) || strcmp(r->method, method[m]) || isnan(r->build_s))
                continue;
            double x = r->build_s > 1e-3 ? r->build_s : 1e-3, x2 = x + r->teacher_s; /* a log axis */
            t_put(&t, "%.6g %.6g %.6g %lld %.6g\n", x, 100 * r->mean, isnan(r->sd) ? 0 : 100 * r->sd, (long long)r->ipc,
                  x2);
            lo = x < lo ? x : lo;
            hi = x2 > hi ? x2 : hi;
            teacher = teacher || r->teacher_s > 0;
        }
        t_put(&t, "EOD\n");
    }
    if (!(hi > 0)) {
        st = RT_RAISE(RT_ERR_MISSING, "no construction cost recorded");
        goto out;
    }
    t_put(&t,
          "set logscale x\nset xrange [%.6g:%.6g]\nset format x '%%g'\nset xlabel 'construction, seconds%s'\n"
          "set ylabel 'top-1, %%'\nset key outside right center reverse Left samplen 1.5\nset offsets 0,0,2,2\nplot ",
          lo / 2, hi * 2, teacher ? " (open: with the teacher)" : "");
    for (int m = 0; m < n; m++) {
        const char *colour = plot_colour(d, method[m]);
        t_put(&t, "%s$d%d using 1:2 with lines lw 1 lc rgb '%s' notitle", m ? ", " : "", m, colour);
        t_put(&t, ", $d%d using 1:2:($5-$1):(0) with vectors nohead lw 0.7 lc rgb '%s' notitle", m, colour);
        t_put(&t, ", $d%d using ($5>1.001*$1?$5:NaN):2 with points pt 6 ps 0.8 lw 1.2 lc rgb '%s' notitle", m, colour);
        t_put(&t, ", $d%d using 1:2:3 with yerrorbars pt 7 ps 0.8 lw 1.4 lc rgb '%s' title '", m, colour);
        plot_name(&t, method[m]);
        t_put(&t,
              "', $d%d using 1:2:(sprintf('%%d', $4)) with labels right offset -0.8,0.6 font ',11' textcolor rgb '%s' "
              "notitle",
              m, INK);
    }
    put_full_line(&t, d, protocol, student);
    if (t.st != RT_OK) {
        st = t.st;
        goto out;
    }
    RT_TRY(plot_svg(t.s, 640, 370, svg));
out:
    t_free(&t);
    return st;
}

/* One IPC: a strip of every network per method. Several: lines over IPC. */
rt_status plot_accuracy_ipc(const d_data *d, const char *protocol, const char *student, char **svg)
{
    rt_status st = RT_OK;
    text t = {0};
    const char *method[MAX_METHODS];
    int n = methods_of(d, protocol, student, method, MAX_METHODS);
    int64_t first = 0, lo = INT64_MAX, hi = 0;
    bool several = false;
    for (int i = 0; i < d->n_row; i++) {
        const d_summary *r = &d->row[i];
        if (r->full || !in_cell(r, protocol, student)) continue;
        several = several || (first && r->ipc != first);
        first = r->ipc;
        lo = r->ipc < lo ? r->ipc : lo;
        hi = r->ipc > hi ? r->ipc : hi;
    }
    if (!n) {
        st = RT_RAISE(RT_ERR_MISSING, "no evaluations");
        goto out;
    }
    for (int m = 0; m < n; m++) {
        t_put(&t, "$d%d << EOD\n", m);
        for (int i = 0; i < d->n_row; i++) {
            const d_summary *r = &d->row[i];
            if (!r->full && in_cell(r, protocol, student) && !strcmp(r->method, method[m]))
                t_put(&t, "%g %.6g %.6g\n", several ? (double)r->ipc : m + 1, 100 * r->mean,
                      isnan(r->sd) ? 0 : 100 * r->sd);
        }
        t_put(&t, "EOD\n$e%d << EOD\n-1 -1\n", m); /* gnuplot refuses an empty block; the point is out of range */
        int k = 0;
        for (int i = 0; i < d->n_eval; i++) {
            const d_eval *e = &d->eval[i];
            const d_set *s = e->owner;
            if (!s || strcmp(s->method, method[m]) || strcmp(e->protocol, protocol) || strcmp(e->student, student))
                continue;
            t_put(&t, "%.4f %.6g\n", several ? (double)s->ipc : m + 1 + 0.05 * (k % 5 - 2), 100 * e->accuracy);
            k++;
        }
        t_put(&t, "EOD\n");
    }
    t_put(&t, "set ylabel 'top-1, %%'\nset offsets 0,0,2,2\n");
    if (several) {
        t_put(&t, "set logscale x\nset xlabel 'images per class'\nset key outside right center reverse Left samplen "
                  "1.5\nset xtics (");
        for (int i = 0, k = 0; i < d->n_set; i++) {
            bool fresh = true;
            for (int j = 0; j < i; j++) fresh = fresh && d->set[j].ipc != d->set[i].ipc;
            if (fresh) t_put(&t, "%s'%lld' %lld", k++ ? ", " : "", (long long)d->set[i].ipc, (long long)d->set[i].ipc);
        }
        t_put(&t, ")\nset xrange [%g:%g]\nplot ", (double)lo / 1.4, (double)hi * 1.4);
    } else {
        t_put(&t, "unset key\nset xrange [0.4:%g]\nset xtics (", n + 0.6);
        for (int m = 0; m < n; m++) {
            t_put(&t, "%s'", m ? ", " : "");
            plot_name(&t, method[m]);
            t_put(&t, "' %d", m + 1);
        }
        t_put(&t, ")\nplot ");
    }
    for (int m = 0; m < n; m++) {
        const char *colour = plot_colour(d, method[m]);
        if (m) t_put(&t, ", ");
        if (several) {
            t_put(&t,
                  "$d%d using 1:2 with lines lw 1.4 lc rgb '%s' notitle, $d%d using 1:2:3 with yerrorbars pt 7 ps 0.7 "
                  "lw 1.4 "
                  "lc rgb '%s' title '",
                  m, colour, m, colour);
            plot_name(&t, method[m]);
            t_put(&t, "'");
        } else {
            t_put(&t, "$e%d using ($2<0?1/0:$1):2 with points pt 7 ps 0.55 lc rgb '%s' notitle, ", m, colour);
            t_put(&t, "$d%d using ($1+0.28):2:3 with yerrorbars pt 5 ps 0.7 lw 1.6 lc rgb '%s' notitle", m, colour);
        }
    }
    put_full_line(&t, d, protocol, student);
    if (t.st != RT_OK) {
        st = t.st;
        goto out;
    }
    RT_TRY(plot_svg(t.s, 640, 370, svg));
out:
    t_free(&t);
    return st;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Up to 20 classes by name; more: each method's classes in order of its own coverage. */
rt_status plot_coverage(const d_data *d, int64_t ipc, int64_t k, char **svg)
{
    rt_status st = RT_OK;
    text t = {0};
    const char *method[MAX_METHODS];
    double *values = NULL;
    int n = 0, shown = 0;
    bool named = d->n_classes <= 20;
    for (int i = 0; i < d->n_row; i++) {
        bool fresh = !d->row[i].full && d->row[i].ipc == ipc;
        for (int m = 0; m < n; m++) fresh = fresh && strcmp(method[m], d->row[i].method);
        if (fresh && n < MAX_METHODS) method[n++] = d->row[i].method;
    }
    RT_ALLOC(values, (size_t)(d->n_classes + 1) * sizeof *values, "coverage");
    for (int m = 0; m < n; m++) {
        int have = 0;
        for (int c = 0; c < d->n_classes; c++) {
            double v = d_metric_mean(d, method[m], ipc, "coverage", k, c, NULL);
            if (!isnan(v)) values[have++] = v;
        }
        if (have < d->n_classes) continue;
        if (!named) qsort(values, (size_t)have, sizeof *values, by_value);
        t_put(&t, "$d%d << EOD\n", shown);
        for (int c = 0; c < have; c++)
            t_put(&t, "%g %.6g\n", named ? c + 1 + ((double)m - 0.5 * (n - 1)) * 0.7 / n : c + 1.0, 100 * values[c]);
        t_put(&t, "EOD\n");
        method[shown++] = method[m];
    }
    if (!shown) {
        st = RT_RAISE(RT_ERR_MISSING, "no per-class coverage");
        goto out;
    }
    t_put(&t,
          "set ylabel 'coverage, %%'\nset yrange [0:*]\nset xrange [0.3:%g]\nset key outside right center reverse Left "
          "samplen 1.5\n",
          d->n_classes + 0.7);
    if (named) {
        t_put(&t, "set xtics rotate by 35 right (");
        for (int c = 0; c < d->n_classes; c++) {
            t_put(&t, "%s'", c ? ", " : "");
            plot_name(&t, d->classes[c]);
            t_put(&t, "' %d", c + 1);
        }
        t_put(&t, ")\n");
    } else {
        t_put(&t, "set xlabel 'classes, from the least covered'\n");
    }
    t_put(&t, "plot ");
    for (int m = 0; m < shown; m++) {
        const char *colour = plot_colour(d, method[m]);
        t_put(&t, "%s$d%d using 1:2 with %s lc rgb '%s' title '", m ? ", " : "", m,
              named ? "impulses lw 5" : "lines lw 1.6", colour);
        plot_name(&t, method[m]);
        t_put(&t, "'");
    }
    double expected;
    d_metric_mean(d, method[0], ipc, "coverage", k, -1, &expected);
    if (!isnan(expected))
        t_put(&t, ", %.6g with lines dt 2 lw 1 lc rgb '%s' title 'expected of random'", 100 * expected, INK);
    if (t.st != RT_OK) {
        st = t.st;
        goto out;
    }
    RT_TRY(plot_svg(t.s, 900, 330, svg));
out:
    rt_free(values);
    t_free(&t);
    return st;
}

/* A waterfall: each bar starts where the last one ended. */
rt_status plot_costs(const d_data *d, char **svg)
{
    static const char *const stage[] = {"index", "whiten", "teach", "experts", "build", "eval", "measure"};
    rt_status st = RT_OK;
    text t = {0}, ticks = {0};
    int bars = 0;
    double at = 0;
    t_put(&t, "$d << EOD\n");
    for (size_t s = 0; s < sizeof stage / sizeof *stage; s++) {
        bool split = !strcmp(stage[s], "build"); /* constructions: a bar per method */
        const char *method[MAX_METHODS] = {""};
        int n = split ? 0 : 1;
        for (int i = 0; split && i < d->n_set; i++) {
            bool fresh = true;
            for (int k = 0; k < n; k++) fresh = fresh && strcmp(method[k], d->set[i].method);
            if (fresh && n < MAX_METHODS) method[n++] = d->set[i].method;
        }
        for (int m = 0; m < n; m++) {
            double sum = 0;
            bool any = false;
            for (int i = 0; i < d->n_cost; i++) {
                const d_cost *c = &d->cost[i];
                const d_set *set = split ? c->owner : NULL;
                if (strcmp(c->stage, stage[s]) || (split && (!set || strcmp(set->method, method[m])))) continue;
                sum += c->cost.wall_s;
                any = true;
            }
            if (!any) continue;
            const char *colour = split ? plot_colour(d, method[m]) : "#9a9a9a";
            char fig[T_FIG];
            t_put(&t, "%.6g %d %.6g %.6g 0x%s \"%s\"\n", at, -bars, at, at + sum, colour + 1, t_seconds(sum, fig));
            t_put(&ticks, "%s'%s%s", bars ? ", " : "", stage[s], split ? " " : "");
            plot_name(&ticks, method[m]);
            t_put(&ticks, "' %d", -bars);
            at += sum;
            bars++;
        }
    }
    if (!bars) {
        st = RT_RAISE(RT_ERR_MISSING, "no costs recorded");
        goto out;
    }
    t_put(
        &t,
        "EOD\nunset key\nset grid noytics xtics\nset xlabel 'seconds since the start, resumed work summed'\nset yrange "
        "[%g:0.7]\nset xrange [0:%.6g]\nset style fill solid 0.85 noborder\nset border 1\nset ytics (%s)\n",
        -bars + 0.3, at > 0 ? at * 1.12 : 1, ticks.s);
    t_put(&t,
          "plot $d using 1:2:3:4:($2-0.32):($2+0.32):5 with boxxyerror lc rgb variable, "
          "$d using 4:2:6 with labels left offset 0.6,0 font ',11' textcolor rgb '%s'",
          INK);
    if (t.st != RT_OK || ticks.st != RT_OK) {
        st = t.st != RT_OK ? t.st : ticks.st;
        goto out;
    }
    RT_TRY(plot_svg(t.s, 900, 60 + 30 * (bars + 1), svg));
out:
    t_free(&t);
    t_free(&ticks);
    return st;
}
