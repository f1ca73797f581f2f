/* Plots along a construction: accuracy of its snapshots, and the loss in its trace.
 *
 * Losses of different methods are different quantities, so each method has a plot of its own. A trace may hold a million
 * lines; a plot shows at most a thousand points of it, each the mean of a stretch. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "report/internal.h"

enum { MAX_LINES = 32, MAX_POINTS = 1000, TRACE_MAX_BYTES = 256 << 20 };

/* The pairs of protocol and student, in row order. Returns false past the end. */
bool plot_pair_at(const d_data *d, int index, const char **protocol, const char **student)
{
    int seen = 0;
    for (int i = 0; i < d->n_row; i++) {
        const d_summary *r = &d->row[i], *last = i ? &d->row[i - 1] : NULL;
        if (!r->protocol[0] || (last && !strcmp(last->protocol, r->protocol) && !strcmp(last->student, r->student)))
            continue;
        if (seen++ != index) continue;
        *protocol = r->protocol;
        *student = r->student;
        return true;
    }
    return false;
}

/* Mean and standard deviation over the students of the sets of (method, ipc) at one iteration (0: finished). */
static int accuracy_at(const d_data *d, const d_set *like, int64_t iteration, const char *protocol, const char *student,
                       double *mean, double *sd)
{
    const d_set *list = iteration ? d->snapshot : d->set;
    int n_list = iteration ? d->n_snapshot : d->n_set, n = 0;
    double sum = 0, sum2 = 0;
    for (int i = 0; i < n_list; i++) {
        const d_set *s = &list[i];
        if (s->iteration != iteration || s->ipc != like->ipc || strcmp(s->method, like->method)) continue;
        for (int k = 0; k < d->n_eval; k++) {
            const d_eval *e = &d->eval[k];
            if (strcmp(e->set, s->id) || strcmp(e->protocol, protocol) || strcmp(e->student, student)) continue;
            sum += e->accuracy;
            sum2 += e->accuracy * e->accuracy;
            n++;
        }
    }
    *mean = n ? sum / n : NAN;
    double spread = n > 1 ? (sum2 - sum * *mean) / (n - 1) : 0;
    *sd = spread > 0 ? sqrt(spread) : 0;
    return n;
}

static int64_t iterations_of(const d_set *s)
{
    json_t *notes = s->notes[0] ? json_loads(s->notes, JSON_REJECT_DUPLICATES, NULL) : NULL;
    int64_t n = json_integer_value(json_object_get(notes, "iterations"));
    json_decref(notes);
    return n;
}

/* The next iteration after `after` that some snapshot of like's method and size was taken at; 0 past the last. */
static int64_t next_snapshot(const d_data *d, const d_set *like, int64_t after)
{
    int64_t at = 0;
    for (int i = 0; i < d->n_snapshot; i++) {
        const d_set *s = &d->snapshot[i];
        if (s->ipc == like->ipc && !strcmp(s->method, like->method) && s->iteration > after && (!at || s->iteration < at))
            at = s->iteration;
    }
    return at;
}

/* First finished set of each (method, ipc) (of one method when it is given). */
static int lines_of(const d_data *d, const d_set *list[MAX_LINES], const char *method)
{
    int n = 0;
    for (int i = 0; i < d->n_set; i++) {
        const d_set *s = &d->set[i];
        bool fresh = s->synthetic && (!method || !strcmp(s->method, method));
        for (int k = 0; k < n && fresh; k++) fresh = list[k]->ipc != s->ipc || strcmp(list[k]->method, s->method);
        if (fresh && n < MAX_LINES) list[n++] = s;
    }
    return n;
}

static int64_t same_method_before(const d_set *const *list, int n)
{
    int64_t k = 0;
    for (int i = 0; i < n; i++) k += !strcmp(list[i]->method, list[n]->method);
    return k;
}

rt_status plot_curves(const d_data *d, const char *protocol, const char *student, char **svg)
{
    rt_status st = RT_OK;
    text t = {0}, lines = {0};
    const d_set *list[MAX_LINES];
    int n = lines_of(d, list, NULL), shown = 0;
    double mean, sd;
    for (int i = 0; i < n; i++) {
        int points = 0;
        if (!next_snapshot(d, list[i], 0)) continue;
        t_put(&t, "$d%d << EOD\n", i);
        for (int64_t at = next_snapshot(d, list[i], 0); at; at = next_snapshot(d, list[i], at)) {
            if (!accuracy_at(d, list[i], at, protocol, student, &mean, &sd)) continue;
            t_put(&t, "%lld %.6g %.6g\n", (long long)at, 100 * mean, 100 * sd);
            points++;
        }
        int64_t last = iterations_of(list[i]);
        if (last > 0 && accuracy_at(d, list[i], 0, protocol, student, &mean, &sd)) {
            t_put(&t, "%lld %.6g %.6g\n", (long long)last, 100 * mean, 100 * sd);
            points++;
        }
        t_put(&t, "EOD\n");
        if (!points) continue;
        t_put(&lines, "%s$d%d using 1:2:3 with yerrorlines pt 7 ps 0.7 lw 1.4 dt %d lc rgb '%s' title '", shown ? ", " : "", i,
              (int)same_method_before(list, i) % 5 + 1, plot_colour(d, list[i]->method));
        plot_name(&lines, list[i]->method);
        t_put(&lines, ", IPC %lld'", (long long)list[i]->ipc);
        shown++;
    }
    if (!shown) {
        st = RT_RAISE(RT_ERR_MISSING, "no snapshots");
        goto out;
    }
    t_put(&t, "set xlabel 'iterations of the construction'\nset ylabel 'top-1, %%'\nset offsets graph 0.02,graph 0.02,1,1\n"
              "set key outside right center reverse Left samplen 1.5\nplot %s\n", lines.s ? lines.s : "");
    if (t.st != RT_OK || lines.st != RT_OK) {
        st = t.st != RT_OK ? t.st : lines.st;
        goto out;
    }
    RT_TRY(plot_svg(t.s, 640, 370, svg));
out:
    t_free(&t);
    t_free(&lines);
    return st;
}

/* --- traces ----------------------------------------------------------------------------------------------------------
 */

/* Which field of a CSV header is called name, or -1. */
static int field_named(const char *header, const char *name)
{
    size_t n = strlen(name);
    for (int at = 0; *header && *header != '\n'; at++) {
        size_t len = strcspn(header, ",\n");
        if (len == n && !strncmp(header, name, n)) return at;
        header += len + (header[len] == ',');
    }
    return -1;
}

/* Field `at` of a line as a number; NaN when it is missing or no number. */
static double number_in(const char *line, int at)
{
    char *end;
    for (; at > 0; at--) {
        line += strcspn(line, ",\n");
        if (*line != ',') return NAN;
        line++;
    }
    double v = strtod(line, &end);
    return end == line || (*end != ',' && *end != '\n' && *end) ? NAN : v;
}

/* Points of one trace: means of stretches as `x y`, and of the iterations without an update their places. Returns the smallest
 * loss, NaN when nothing can be shown. */
static double put_trace(text *t, text *skips, const char *csv)
{
    int it = field_named(csv, "iteration"), loss = field_named(csv, "loss"), skipped = field_named(csv, "skipped");
    int64_t rows = -1, row = 0;
    double x = 0, sum = 0, least = NAN;
    int64_t n = 0;
    if (it < 0 || loss < 0) return NAN;
    for (const char *p = csv; *p; p++) rows += *p == '\n';
    int64_t stretch = (rows + MAX_POINTS - 1) / MAX_POINTS;
    for (const char *line = strchr(csv, '\n'); line && line[1]; line = strchr(line, '\n'), row++) {
        line++;
        double at = number_in(line, it), v = number_in(line, loss);
        bool none = skipped >= 0 && number_in(line, skipped) > 0;
        if (none && isfinite(at)) t_put(skips, "%.9g 0\n", at);
        if (!none && isfinite(at) && isfinite(v)) x = at, sum += v, n++;
        if (n && ((row + 1) % stretch == 0 || row + 1 == rows)) {
            double y = sum / (double)n;
            t_put(t, "%.9g %.9g\n", x, y);
            if (!(y > least)) least = y;
            sum = 0, n = 0;
        }
    }
    return least;
}

rt_status plot_trace(const d_data *d, const char *method, const char *run_dir, char **svg)
{
    rt_status st = RT_OK;
    text t = {0}, skips = {0}, lines = {0};
    const d_set *list[MAX_LINES];
    char path[PATH_MAX], file[PATH_MAX];
    int n = lines_of(d, list, method), shown = 0;
    double least = INFINITY;
    void *csv = NULL;
    for (int i = 0; i < n; i++) {
        size_t bytes = 0;
        RT_TRY(d_set_path(list[i], run_dir, path, sizeof path));
        RT_TRY(rt_fs_join(file, sizeof file, path, "trace.csv"));
        if (!rt_fs_exists(file)) continue;
        rt_free(csv);
        csv = NULL;
        RT_TRY(rt_fs_read(file, TRACE_MAX_BYTES, &csv, &bytes));
        text points = {0};
        double low = put_trace(&points, &skips, csv);
        if (isfinite(low)) {
            t_put(&t, "$d%d << EOD\n%sEOD\n", i, points.s ? points.s : "");
            t_put(&lines, "%s$d%d using 1:2 with lines lw 1.2 dt %d lc rgb '%s' title 'IPC %lld'", shown ? ", " : "", i,
                  shown % 5 + 1, plot_colour(d, method), (long long)list[i]->ipc);
            if (low < least) least = low;
            shown++;
        }
        if (points.st != RT_OK && t.st == RT_OK) t.st = points.st;
        t_free(&points);
    }
    if (!shown) {
        st = RT_RAISE(RT_ERR_MISSING, "no traces");
        goto out;
    }
    if (skips.n) {
        t_put(&t, "$skip << EOD\n%sEOD\n", skips.s);
        t_put(&lines, ", $skip using 1:(%.9g) with points pt 2 ps 0.6 lc rgb '#a33a1c' title 'no update'", least);
    }
    t_put(&t, "%sset xlabel 'iterations of the construction'\nset ylabel 'loss'\nset key outside right center reverse Left samplen 1.5\n"
              "plot %s\n", least > 0 ? "set logscale y\nset format y '%g'\n" : "", lines.s ? lines.s : "");
    if (t.st != RT_OK || lines.st != RT_OK || skips.st != RT_OK) {
        st = t.st != RT_OK ? t.st : lines.st != RT_OK ? lines.st : skips.st;
        goto out;
    }
    RT_TRY(plot_svg(t.s, 640, 330, svg));
out:
    rt_free(csv);
    t_free(&t);
    t_free(&skips);
    t_free(&lines);
    return st;
}
