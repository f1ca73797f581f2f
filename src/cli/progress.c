/* What people see while a stage runs.
 *
 *   on a terminal    one live line, redrawn at most ten times a second; log lines scroll above it
 *   elsewhere        a line at each phase edge and every 30 s
 *   everywhere       a heartbeat line when nothing was reported for 30 s, saying which phase it waits for
 *   in the run       progress.json, rewritten every 5 s, for dashboards
 *
 * Reports may come from any thread. A small thread of ours only looks at the clock. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "cli/cli.h"

static const double redraw_s = 0.1, plain_s = 30, silent_s = 30, file_s = 5;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t thread;
    bool running, stop, tty, live; /* live: the cursor is behind an unfinished line */
    char phase[128], unit[32], note[160], run_dir[PATH_MAX];
    int n_phases;
    double done, total, first_done; /* first_done: where this process took the phase up */
    double phase_start, last_report, last_plain, last_draw, last_file;
    double rate, rate_at, rate_done; /* smoothed over about ten seconds */
} p = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

void cli_format_seconds(double s, char *buf, size_t n)
{
    if (!(s >= 0) || s > 1e9)
        snprintf(buf, n, "?");
    else if (s < 10)
        snprintf(buf, n, "%.1fs", s);
    else if (s < 60)
        snprintf(buf, n, "%.0fs", s);
    else if (s < 3600)
        snprintf(buf, n, "%dm%02ds", (int)s / 60, (int)s % 60);
    else
        snprintf(buf, n, "%dh%02dm", (int)(s / 3600), (int)(fmod(s, 3600) / 60));
}

void cli_format_count(double x, char *buf, size_t n) /* 1281167 as 1,281,167 */
{
    char digits[40];
    snprintf(digits, sizeof digits, "%.0f", x);
    size_t len = strlen(digits), at = 0;
    for (size_t i = 0; i < len && at + 2 < n; i++) {
        buf[at++] = digits[i];
        if ((len - i - 1) % 3 == 0 && i + 1 < len && digits[i] != '-') buf[at++] = ',';
    }
    buf[at] = 0;
}

static void format_rate(double r, char *buf, size_t n)
{
    if (!(r > 0))
        snprintf(buf, n, "%s", "");
    else if (r >= 100)
        cli_format_count(r, buf, n);
    else
        snprintf(buf, n, r >= 10 ? "%.0f" : r >= 1 ? "%.1f" : "%.2f", r);
}

/* [3] build dm-ipc10-s0  412/1,000 it  ####......  41 %  3.2 it/s  eta 3m03s  note */
static void format_line(char *out, size_t n, bool bar)
{
    char done[40], total[40], rate[40], eta[40], count[120] = "", speed[90] = "", left[60] = "", meter[40] = "";
    cli_format_count(p.done, done, sizeof done);
    cli_format_count(p.total, total, sizeof total);
    if (p.total > 0) {
        double part = p.done / p.total;
        part = part < 0 ? 0 : part > 1 ? 1 : part;
        snprintf(count, sizeof count, "  %s/%s %s", done, total, p.unit);
        char cells[11];
        for (int i = 0; i < 10; i++) cells[i] = part * 10 >= i + 1 ? '#' : '.';
        cells[10] = 0;
        snprintf(meter, sizeof meter, "%s%s  %3.0f %%", bar ? "  " : "", bar ? cells : "", 100 * part);
    } else if (p.done > 0) {
        snprintf(count, sizeof count, "  %s %s", done, p.unit);
    }
    format_rate(p.rate, rate, sizeof rate);
    if (rate[0]) snprintf(speed, sizeof speed, "  %s %s/s", rate, p.unit);
    if (p.total > 0 && p.rate > 0 && p.done < p.total) {
        cli_format_seconds((p.total - p.done) / p.rate, eta, sizeof eta);
        snprintf(left, sizeof left, "  eta %s", eta);
    }
    snprintf(out, n, "[%d] %s%s%s%s%s%s%s", p.n_phases, p.phase, count, meter, speed, left, p.note[0] ? "  " : "",
             p.note);
}

static int columns(void)
{
    struct winsize w;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) || w.ws_col < 20 ? 100 : w.ws_col;
}

static void erase(void)
{
    if (p.live) fputs("\r\033[K", stderr);
    p.live = false;
}

static void draw(double now)
{
    char line[512];
    format_line(line, sizeof line, true);
    erase();
    fprintf(stderr, "%.*s", columns() - 1, line);
    fflush(stderr);
    p.live = true;
    p.last_draw = now;
}

static void plain(double now)
{
    char line[512];
    format_line(line, sizeof line, false);
    fprintf(stderr, "%s\n", line);
    p.last_plain = now;
}

static void end_phase(double now)
{
    char took[32], done[40];
    if (!p.phase[0]) return;
    erase();
    cli_format_seconds(now - p.phase_start, took, sizeof took);
    cli_format_count(p.done, done, sizeof done);
    fprintf(stderr, "[%d] %s", p.n_phases, p.phase);
    if (p.done > 0) fprintf(stderr, "  %s %s", done, p.unit);
    if (p.total > 0 && p.done < p.total) fprintf(stderr, ", not finished");
    fprintf(stderr, "  in %s%s%s\n", took, p.note[0] ? "  " : "", p.note);
    p.phase[0] = 0;
}

static void write_file(double now, bool silent)
{
    char path[PATH_MAX], tmp[PATH_MAX];
    p.last_file = now;
    if (!p.run_dir[0] || !rt_fs_is_dir(p.run_dir)) return;
    if (snprintf(path, sizeof path, "%s/progress.json", p.run_dir) >= (int)sizeof path ||
        snprintf(tmp, sizeof tmp, "%s/.progress.json.tmp", p.run_dir) >= (int)sizeof tmp)
        return;
    json_t *j = json_pack("{s:s, s:i, s:f, s:f, s:s, s:f, s:f, s:s, s:b, s:I, s:I}", "phase", p.phase, "phase_number",
                          p.n_phases, "done", p.done, "total", p.total, "unit", p.unit, "per_second", p.rate,
                          "phase_seconds", p.phase[0] ? now - p.phase_start : 0.0, "note", p.note, "silent", silent,
                          "pid", (json_int_t)getpid(), "unix_time", (json_int_t)time(NULL));
    /* A dashboard's file: whole at any moment, but not worth an fsync. Failures are not the run's business. */
    if (j && json_dump_file(j, tmp, JSON_INDENT(1)) == 0) rename(tmp, path);
    json_decref(j);
}

static void on_progress(void *ctx, const rt_progress *r)
{
    (void)ctx;
    double now = rt_now();
    pthread_mutex_lock(&p.lock);
    bool edge = strcmp(p.phase, r->phase) != 0;
    if (edge) {
        end_phase(now);
        snprintf(p.phase, sizeof p.phase, "%s", r->phase);
        snprintf(p.unit, sizeof p.unit, "%s", r->unit ? r->unit : "");
        p.n_phases++;
        p.first_done = p.rate_done = r->done;
        p.phase_start = p.rate_at = now;
        p.rate = 0;
    }
    p.done = r->done;
    p.total = r->total;
    snprintf(p.note, sizeof p.note, "%s", r->note ? r->note : "");
    p.last_report = now;
    if (now - p.rate_at >= 1) {
        double fresh = (p.done - p.rate_done) / (now - p.rate_at), mix = p.rate > 0 ? (now - p.rate_at) / 10 : 1;
        p.rate = fresh > 0 ? p.rate + (mix < 1 ? mix : 1) * (fresh - p.rate) : p.rate;
        p.rate_at = now;
        p.rate_done = p.done;
    }
    if (p.tty && (edge || now - p.last_draw >= redraw_s || p.done == p.total)) draw(now);
    if (!p.tty && (edge || now - p.last_plain >= plain_s)) plain(now);
    if (edge || now - p.last_file >= file_s) write_file(now, false);
    pthread_mutex_unlock(&p.lock);
}

static void on_log(void *ctx, rt_log_level level, const char *line)
{
    (void)ctx;
    if (level == RT_LOG_DEBUG && !getenv("RT_DEBUG")) return;
    pthread_mutex_lock(&p.lock);
    bool was_live = p.live;
    erase();
    fprintf(stderr, "%s%s\n", level == RT_LOG_WARN ? "warning: " : "", line);
    if (was_live) draw(rt_now());
    p.last_report = rt_now();
    pthread_mutex_unlock(&p.lock);
}

static void *watch(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&p.lock);
    while (!p.stop) {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        t.tv_sec++;
        pthread_cond_timedwait(&p.wake, &p.lock, &t);
        double now = rt_now();
        if (p.stop || !p.phase[0] || now - p.last_report < silent_s) continue;
        char quiet[32];
        cli_format_seconds(now - p.last_report, quiet, sizeof quiet);
        if (p.tty) {
            char line[512];
            format_line(line, sizeof line, true);
            erase();
            fprintf(stderr, "%.*s  (no report for %s)", columns() - 30, line, quiet);
            fflush(stderr);
            p.live = true;
        } else if (now - p.last_plain >= plain_s) {
            fprintf(stderr, "[%d] %s: still working, no report for %s\n", p.n_phases, p.phase, quiet);
            p.last_plain = now;
        }
        if (now - p.last_file >= file_s) write_file(now, true);
    }
    pthread_mutex_unlock(&p.lock);
    return NULL;
}

rt_status cli_progress_start(void)
{
    const char *term = getenv("TERM");
    p.tty = isatty(STDERR_FILENO) && term && strcmp(term, "dumb");
    p.last_report = p.last_plain = rt_now();
    int e = pthread_create(&p.thread, NULL, watch, NULL);
    if (e) {
        errno = e;
        return RT_RAISE_ERRNO("progress thread");
    }
    p.running = true;
    rt_log_set(on_log, NULL);
    rt_progress_set(on_progress, NULL);
    return RT_OK;
}

void cli_progress_file(const char *run_dir)
{
    snprintf(p.run_dir, sizeof p.run_dir, "%s", run_dir);
}

void cli_progress_stop(void)
{
    if (!p.running) return;
    rt_log_set(NULL, NULL);
    rt_progress_set(NULL, NULL);
    pthread_mutex_lock(&p.lock);
    p.stop = true;
    end_phase(rt_now());
    write_file(rt_now(), false);
    pthread_cond_signal(&p.wake);
    pthread_mutex_unlock(&p.lock);
    pthread_join(p.thread, NULL);
    p.running = false;
}
