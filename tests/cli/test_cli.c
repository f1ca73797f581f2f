/* The program from outside: exit codes, the three lines of an error, help, the verbs that need no training. */
#include "support/suite.h"

#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "artefact/artefact.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "report/report.h"

static char dir[32], program[PATH_MAX];

typedef struct outcome {
    int code, signal; /* exit code, or -1 and the signal */
    char *out, *err;  /* owned */
} outcome;

static void fresh(void)
{
    const char *build = getenv("RT_BUILD_DIR");
    ck_assert_msg(build, "RT_BUILD_DIR is not set: run under ctest");
    snprintf(program, sizeof program, "%s/src/cli/retort", build);
    strcpy(dir, "/tmp/rt-cli-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static char *slurp(const char *name)
{
    char path[PATH_MAX], *text = NULL;
    size_t n;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    rt_ok(rt_fs_read(path, 8 << 20, (void **)&text, &n));
    return text;
}

static pid_t start(const char *const *argv, const char *out)
{
    char path[PATH_MAX];
    pid_t pid = fork();
    if (pid) return pid;
    if (chdir(dir)) _exit(126);
    snprintf(path, sizeof path, "%s/err.txt", dir);
    int e = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    snprintf(path, sizeof path, "%s/out.txt", dir);
    int o = open(out ? out : path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(o, 1);
    dup2(e, 2);
    execv(program, (char *const *)argv);
    _exit(127);
}

static outcome finish(pid_t pid)
{
    int status = 0;
    outcome r = {.code = -1};
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status))
        r.code = WEXITSTATUS(status);
    else
        r.signal = WTERMSIG(status);
    r.out = slurp("out.txt");
    r.err = slurp("err.txt");
    return r;
}

/* Words of a command line, split at spaces. */
static outcome run(const char *line)
{
    char copy[1024], *argv[32] = {program};
    int n = 1;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *w = strtok(copy, " "); w && n < 31; w = strtok(NULL, " ")) argv[n++] = w;
    return finish(start((const char *const *)argv, NULL));
}
static void done(outcome *r)
{
    rt_free(r->out), rt_free(r->err);
}

static void write_file(const char *name, const char *text)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    rt_ok(rt_fs_write_atomic(path, text, strlen(text)));
}

static const struct {
    const char *line;
    int code;
    const char *what, *fix; /* parts of the first and the third line */
} wrong[] = {
    {"bech", 64, "no verb `bech`", "did you mean `retort bench`?"},
    {"zzzzzz", 64, "no verb `zzzzzz`", "`retort help`"},
    {"help nothing", 64, "no help on `nothing`", "`retort help`"},
    {"bench", 64, "no config given", "--config FILE"},
    {"bench --confg x", 64, "no flag --confg", "did you mean --config?"},
    {"bench --zoom 3", 64, "no flag --zoom", "`retort help bench`"},
    {"bench -x", 64, "unknown flag -x", "`retort help bench`"},
    {"bench --config", 64, "--config needs a value", "`retort help bench`"},
    {"bench --config a --config b", 64, "--config is given twice", NULL},
    {"bench --force=1 good.yaml", 64, "--force takes no value", NULL},
    {"bench good.yaml more", 64, "does not take `more`", NULL},
    {"bench absent.yaml", 66, "absent.yaml: No such file or directory", "relative paths"},
    {"bench .", 66, "not a run folder", "config file"},
    {"bench bad.yaml", 78, "bad.yaml:3:3: unknown key `teach.epocs`", "did you mean `teach.epochs`?"},
    {"plan bad.yaml", 78, "bad.yaml:3:3: unknown key", NULL},
    {"bench good.yaml --set teach.lr=fast", 78, "--set teach.lr=fast: `teach.lr` must be a number", NULL},
    {"bench good.yaml --set=teach.lr", 78, "expected section.key=value", NULL},
    {"demo extra", 64, "does not take `extra`", NULL},
    {"show", 64, "needs SET", "`retort help show`"},
    {"show a b", 64, "does not take `b`", NULL},
    {"show absent", 66, "absent", NULL},
    {"show set --zoom 0", 64, "--zoom must be a whole number from 1 to 32, got `0`", NULL},
    {"show set --zoom 3x", 64, "--zoom must be a whole number", NULL},
    {"show set --scale big", 64, "--scale is stored or sd", NULL},
    {"verify absent", 66, "absent does not exist", NULL},
    {"verify empty", 66, "no artefact at or below empty", NULL},
    {"verify good.yaml", 64, "neither a folder nor a .safetensors file", NULL},
    {"verify broken.safetensors", 65, "broken.safetensors", "remove"},
    {"report empty", 66, "empty has no results.db", NULL},
    {"report text", 65, "results.db", NULL},
    {"eval good.yaml --json", 64, "no flag --json", NULL},
};

START_TEST(errors_are_three_lines_with_their_code)
{
    char path[PATH_MAX];
    fresh();
    write_file("good.yaml", "version: 1\ndata: {kind: demo}\n");
    write_file("bad.yaml", "version: 1\nteach:\n  epocs: 3\n");
    write_file("broken.safetensors", "not one");
    snprintf(path, sizeof path, "%s/empty", dir);
    rt_ok(rt_fs_mkdirs(path));
    snprintf(path, sizeof path, "%s/text", dir);
    rt_ok(rt_fs_mkdirs(path));
    write_file("text/results.db",
               "a text that is long enough to look like the header of a database, which it is not at all, no");
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        outcome r = run(wrong[i].line);
        char head[32], *line[4] = {r.err};
        snprintf(head, sizeof head, "error[%d]: ", wrong[i].code);
        if (r.code != wrong[i].code)
            ck_abort_msg("retort %s: exit %d, want %d\n%s", wrong[i].line, r.code, wrong[i].code, r.err);
        int n = 0;
        for (char *p = r.err; *p; p++)
            if (*p == '\n') {
                *p = 0;
                if (++n < 4) line[n] = p + 1;
            }
        if (n != 3 || strncmp(line[0], head, strlen(head)) || strncmp(line[1], "  retort", 8) ||
            strncmp(line[2], "  fix: ", 7))
            ck_abort_msg("retort %s: not three lines: %d: %s | %s | %s", wrong[i].line, n, line[0], line[1], line[2]);
        ck_assert_msg(strlen(line[2]) > 10, "retort %s: empty fix", wrong[i].line);
        if (!strstr(line[0], wrong[i].what))
            ck_abort_msg("retort %s says %s\nwant %s", wrong[i].line, line[0], wrong[i].what);
        if (wrong[i].fix && !strstr(line[2], wrong[i].fix))
            ck_abort_msg("retort %s: %s\nwant %s", wrong[i].line, line[2], wrong[i].fix);
        done(&r);
    }
    rt_ok(rt_fs_remove_tree(dir));
}
END_TEST

START_TEST(help_is_on_standard_output)
{
    static const struct {
        const char *line, *want;
    } asked[] = {{"", "usage: retort VERB"},
                 {"help", "doctor"},
                 {"--help", "Exit codes:"},
                 {"help show", "--scale stored|sd"},
                 {"show --help", "usage: retort show"},
                 {"bench --help", "--set KEY=VALUE"},
                 {"help config", "el2n_epoch: 0"},
                 {"--version", "retort 0."}};
    fresh();
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        outcome r = run(asked[i].line);
        ck_assert_msg(r.code == 0 && !r.err[0], "retort %s: exit %d, %s", asked[i].line, r.code, r.err);
        ck_assert_msg(strstr(r.out, asked[i].want), "retort %s lacks %s:\n%s", asked[i].line, asked[i].want, r.out);
        int lines = 0, width = 0;
        for (char *p = r.out; *p; p++) {
            width = *p == '\n' ? 0 : width + 1;
            lines += *p == '\n';
            ck_assert_msg(width <= 130 || !strcmp(asked[i].line, "help config"), "retort %s: a line is too long",
                          asked[i].line);
        }
        if (strcmp(asked[i].line, "help config")) ck_assert_int_le(lines, 40); /* one screen */
        done(&r);
    }
    rt_ok(rt_fs_remove_tree(dir));
}
END_TEST

START_TEST(a_full_output_is_an_error)
{
    fresh();
    if (access("/dev/full", W_OK)) return;
    const char *const argv[] = {program, "help", NULL};
    pid_t pid = start(argv, "/dev/full");
    write_file("out.txt", "");
    outcome r = finish(pid);
    ck_assert_int_eq(r.code, 74);
    ck_assert_ptr_nonnull(strstr(r.err, "error[74]: standard output: No space left"));
    done(&r);
    rt_ok(rt_fs_remove_tree(dir));
}
END_TEST

static void commit_set(const char *name)
{
    static const char *const classes[] = {"cat", "dog"};
    char path[PATH_MAX];
    rt_commit *c = NULL;
    int64_t image_bytes, label_bytes;
    rt_set s = {
        .n = 4, .h = 8, .w = 8, .ipc = 2, .norm = {{0.5f, 0.5f, 0.5f}, {0.25f, 0.25f, 0.25f}}, .method = "random"};
    rt_ok(rt_classes_make(classes, 2, &s.classes));
    s.px = rt_calloc(4 * 8 * 8 * 3 * sizeof *s.px);
    s.label = rt_calloc(4 * sizeof *s.label);
    s.label[2] = s.label[3] = 1;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    rt_ok(rt_commit_begin(path, &c));
    rt_ok(rt_set_write(&s, c, &image_bytes, &label_bytes));
    json_t *manifest = json_pack("{s:s}", "kind", "set");
    rt_ok(rt_commit_finish(c, manifest));
    json_decref(manifest);
    rt_set_fini(&s);
}

START_TEST(show_writes_a_grid_once)
{
    char path[PATH_MAX];
    void *png = NULL;
    size_t n = 0;
    rt_image im = {0};
    fresh();
    commit_set("aset");
    outcome r = run("show aset/ --zoom 2");
    ck_assert_msg(r.code == 0, "%s", r.err);
    ck_assert_str_eq(r.out, "aset.png\n");
    done(&r);
    snprintf(path, sizeof path, "%s/aset.png", dir);
    rt_ok(rt_fs_read(path, 1 << 20, &png, &n));
    rt_ok(rt_decode(png, n, "aset.png", &im, NULL));
    ck_assert_int_eq(im.w, 2 * (16 + 2) + 2);
    ck_assert_int_eq(im.h, 2 * (16 + 2) + 2);
    rt_image_fini(&im);
    rt_free(png);
    r = run("show aset"); /* never overwrites unasked */
    ck_assert_int_eq(r.code, 73);
    ck_assert_ptr_nonnull(strstr(r.err, "--force"));
    done(&r);
    r = run("show aset --force --scale sd --classes 1 --images 1 --out other.png");
    ck_assert_msg(r.code == 0, "%s", r.err);
    done(&r);
    rt_ok(rt_fs_remove_tree(dir));
}
END_TEST

START_TEST(verify_finds_one_flipped_bit)
{
    char path[PATH_MAX];
    fresh();
    commit_set("sets/one");
    commit_set("sets/two");
    outcome r = run("verify .");
    ck_assert_msg(r.code == 0, "%s", r.err);
    ck_assert_ptr_nonnull(strstr(r.out, "2 artefacts checked, 0 damaged"));
    done(&r);
    snprintf(path, sizeof path, "%s/sets/two/set.safetensors", dir);
    int fd = open(path, O_RDWR);
    char byte;
    ck_assert_int_eq(pread(fd, &byte, 1, 900), 1);
    byte ^= 4;
    ck_assert_int_eq(pwrite(fd, &byte, 1, 900), 1);
    close(fd);
    r = run("verify . --json");
    ck_assert_int_eq(r.code, 65);
    ck_assert_ptr_nonnull(strstr(r.err, "error[65]: "));
    json_t *list = json_loads(r.out, 0, NULL);
    ck_assert_msg(list && json_array_size(list) == 2, "%s", r.out);
    ck_assert(json_is_true(json_object_get(json_array_get(list, 0), "ok")));
    ck_assert(json_is_false(json_object_get(json_array_get(list, 1), "ok")));
    json_decref(list);
    done(&r);
    rt_ok(rt_fs_remove_tree(dir));
}
END_TEST

START_TEST(a_report_without_plots_is_an_error_with_a_table)
{
    char path[PATH_MAX];
    rt_results *r = NULL;
    fresh();
    snprintf(path, sizeof path, "%s/run", dir);
    rt_ok(rt_fs_mkdirs(path));
    snprintf(path, sizeof path, "%s/run/results.db", dir);
    rt_ok(rt_results_open(path, &r));
    rt_ok(rt_results_put_set(
        r, &(rt_row_set){.id = "dm-ipc1-s0", .method = "dm", .ipc = 1, .n = 10, .path = "sets/none"}));
    rt_ok(rt_results_put_cost(r, &(rt_row_cost){"build", "dm-ipc1-s0", "dm", {.wall_s = 1, .segments = 1}}));
    rt_results_close(r);
    char *keep = rt_strdup(getenv("PATH"));
    setenv("PATH", "/nonexistent", 1);
    outcome o = run("report run");
    setenv("PATH", keep, 1);
    rt_free(keep);
    ck_assert_msg(o.code == 69, "exit %d: %s", o.code, o.err);
    ck_assert_ptr_nonnull(strstr(o.err, "error[69]: gnuplot is not installed"));
    ck_assert_ptr_nonnull(strstr(o.out, "not evaluated"));
    ck_assert_ptr_nonnull(strstr(o.out, "report: run/report/index.html"));
    done(&o);
    rt_ok(rt_fs_remove_tree(dir));
}
END_TEST

START_TEST(doctor_speaks_json)
{
    fresh();
    outcome r = run("doctor --json");
    ck_assert_msg(r.code == 0 || r.code == 3, "exit %d: %s", r.code, r.err);
    json_t *list = json_loads(r.out, 0, NULL);
    ck_assert_msg(list != NULL, "%s", r.out);
    static const char *const names[] = {"cores",    "oneDNN", "durable commit", "random numbers", "arithmetic",
                                        "decoding", "CUDA"};
    size_t n = json_array_size(list);
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        bool found = false;
        for (size_t i = 0; i < n; i++) {
            json_t *row = json_array_get(list, i);
            const char *level = json_string_value(json_object_get(row, "level"));
            found = found || !strcmp(json_string_value(json_object_get(row, "name")), names[k]);
            ck_assert_msg(strcmp(level, "red"), "a red row: %s", r.out);
            ck_assert_msg(!strcmp(level, "green") || json_string_length(json_object_get(row, "fix")), "no fix: %s",
                          r.out);
        }
        ck_assert_msg(found, "doctor has no row %s", names[k]);
    }
    json_decref(list);
    done(&r);
    r = run("doctor absent");
    ck_assert_int_eq(r.code, 69); /* a folder that is not there cannot hold a run */
    done(&r);
    rt_ok(rt_fs_remove_tree(dir));
}
END_TEST

START_TEST(a_signal_stops_at_a_commit)
{
    fresh();
    const char *const argv[] = {program, "demo", "--set", "run.dir=demo", NULL};
    pid_t pid = start(argv, NULL);
    usleep(2500000);
    kill(pid, SIGTERM);
    outcome r = finish(pid);
    ck_assert_msg(r.code == 75, "exit %d, signal %d: %s", r.code, r.signal, r.err);
    ck_assert_ptr_nonnull(strstr(r.err, "stopping after the next commit"));
    ck_assert_ptr_nonnull(strstr(r.err, "error[75]: "));
    ck_assert_ptr_nonnull(strstr(r.err, "  fix: "));
    done(&r);
    rt_ok(rt_fs_remove_tree(dir));
}
END_TEST

static const rt_test tests[] = {
    {"errors are three lines with their code", errors_are_three_lines_with_their_code},
    {"help is on standard output", help_is_on_standard_output},
    {"a full output is an error", a_full_output_is_an_error},
    {"show writes a grid once", show_writes_a_grid_once},
    {"verify finds one flipped bit", verify_finds_one_flipped_bit},
    {"a report without plots is an error with a table", a_report_without_plots_is_an_error_with_a_table},
    {"doctor speaks JSON", doctor_speaks_json},
    {"a signal stops at a commit", a_signal_stops_at_a_commit},
};
RT_SUITE("cli", tests)
