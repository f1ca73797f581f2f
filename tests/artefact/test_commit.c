/* Commit, recovery, checkpoints and the lock: killed at every file operation, on a full disk, with every bit flipped. */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "artefact/artefact.h"
#include "base/alloc.h"
#include "scratch.h"
#include "shim.h"

#define CONTENT_HASH_OF_ONE "8b4b3c46e27c802c202eaf0a464337954d5d23cbf66372aab4075091389d7ae6" /* by sha256sum(1) */

/* One artefact whose files all say which generation wrote them. */
static rt_status build(const char *path, const char *generation)
{
    rt_status st = RT_OK;
    rt_commit *c = NULL;
    json_t *m = json_pack("{s:s, s:s, s:{s:i}, s:f}", "kind", "set", "inputs_hash", generation, "config", "ipc", 10, "cost", 1.5);
    RT_TRY(rt_commit_begin(path, &c));
    RT_TRY(rt_commit_file(c, "a.txt", generation, strlen(generation)));
    RT_TRY(rt_commit_file(c, "images/x/0.png", generation, strlen(generation)));
    rt_commit *whole = c;
    c = NULL;
    RT_TRY(rt_commit_finish(whole, m));
out:
    rt_commit_abort(c);
    json_decref(m);
    return st;
}

/* The generation found at path by a deep open, checked to be of one piece; "" when there is none. */
static void generation_at(const char *path, char out[16])
{
    json_t *m = NULL;
    void *text = NULL;
    size_t n = 0;
    rt_status st = rt_artefact_open(path, "set", true, &m);
    out[0] = 0;
    if (st == RT_ERR_MISSING) return;
    rt_ok(st);
    const char *want = json_string_value(json_object_get(m, "inputs_hash"));
    ck_assert_ptr_nonnull(want);
    rt_ok(rt_fs_read(below(path, "a.txt"), 100, &text, &n));
    ck_assert_str_eq(text, want);
    rt_free(text);
    rt_ok(rt_fs_read(below(path, "images/x/0.png"), 100, &text, &n));
    ck_assert_str_eq(text, want);
    rt_free(text);
    snprintf(out, 16, "%s", want);
    json_decref(m);
}

START_TEST(round_trip_and_manifest)
{
    const char *dir = scratch("roundtrip");
    const char *p = below(dir, "nested/set");
    json_t *m = NULL;
    rt_ok(build(p, "one"));
    rt_ok(rt_artefact_open(p, "set", true, &m));
    ck_assert_int_eq(json_integer_value(json_object_get(m, "format_version")), 1);
    ck_assert_uint_eq(json_object_size(json_object_get(m, "files")), 2);
    rt_assert_near(json_real_value(json_object_get(m, "cost")), 1.5, 0, 0); /* comes back from run.json */
    ck_assert_ptr_nonnull(json_object_get(m, "created"));
    json_decref(m);
    ck_assert(rt_artefact_is_current(p, "set", "one"));
    ck_assert(!rt_artefact_is_current(p, "set", "two"));
    ck_assert(!rt_artefact_is_current(p, "teacher", "one"));
    rt_fails(rt_artefact_open(p, "teacher", false, NULL), RT_ERR_FORMAT);
    rt_fails(rt_artefact_open(below(dir, "absent"), "set", false, NULL), RT_ERR_MISSING);
    ck_assert(!rt_fs_exists(below(dir, "nested/set.tmp")));
}
END_TEST

/* Same inputs, another moment and another cost: manifest.json and every listed file are the same bytes. */
START_TEST(same_bytes_twice)
{
    const char *dir = scratch("samebytes");
    void *a = NULL, *b = NULL;
    size_t na = 0, nb = 0;
    rt_ok(build(below(dir, "a"), "one"));
    rt_commit *c = NULL;
    json_t *m = json_pack("{s:f, s:{s:i}, s:s, s:s, s:s}", "cost", 99.0, "config", "ipc", 10, "inputs_hash", "one", "kind", "set",
                          "created", "1999-01-01T00:00:00Z"); /* another key order too */
    rt_ok(rt_commit_begin(below(dir, "b"), &c));
    rt_ok(rt_commit_file(c, "images/x/0.png", "one", 3));
    rt_ok(rt_commit_file(c, "a.txt", "one", 3));
    rt_ok(rt_commit_finish(c, m));
    json_decref(m);
    rt_ok(rt_fs_read(below(dir, "a/manifest.json"), 1 << 20, &a, &na));
    rt_ok(rt_fs_read(below(dir, "b/manifest.json"), 1 << 20, &b, &nb));
    ck_assert_str_eq(a, b);
    /* Known answer: SHA-256 of "a.txt\n" sha "\n" "images/x/0.png\n" sha "\n", sha = SHA-256("one"). */
    ck_assert_ptr_nonnull(strstr(a, "\"content_hash\": \"" CONTENT_HASH_OF_ONE "\""));
    rt_free(a);
    rt_free(b);
}
END_TEST

START_TEST(bad_names_and_reserved_files)
{
    const char *dir = scratch("names");
    static const char *const bad[] = {"", "/abs", "../up", "a/../b", "a//b", "./a", "a/", "."};
    rt_commit *c = NULL;
    json_t *m = json_pack("{s:s}", "kind", "set"), *no_kind = json_object();
    rt_ok(rt_commit_begin(below(dir, "s"), &c));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) rt_fails(rt_commit_file(c, bad[i], "x", 1), RT_ERR_ARG);
    rt_ok(rt_commit_file(c, "run.json", "x", 1));
    rt_fails(rt_commit_finish(c, m), RT_ERR_ARG); /* reserved; c is gone and nothing is left */
    ck_assert(!rt_fs_exists(below(dir, "s")) && !rt_fs_exists(below(dir, "s.tmp")));
    rt_ok(rt_commit_begin(below(dir, "s"), &c));
    ck_assert_int_eq(symlink("/etc/passwd", below(rt_commit_dir(c), "link")), 0);
    rt_fails(rt_commit_finish(c, m), RT_ERR_ARG);
    rt_ok(rt_commit_begin(below(dir, "s"), &c));
    rt_fails(rt_commit_finish(c, no_kind), RT_ERR_ARG);
    json_decref(m);
    json_decref(no_kind);
}
END_TEST

/* Forks a child that builds generation "two" with a fault at operation k. Returns its exit code. */
static int build_under(const char *path, rt_shim_mode mode, uint64_t k)
{
    fflush(NULL);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        rt_shim_arm(mode, k);
        rt_status st = build(path, "two");
        if (st != RT_OK && !rt_error_what()[0]) _exit(99); /* a failure without a message */
        _exit(rt_exit_code(st));
    }
    int status = 0;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static uint64_t operations(const char *path)
{
    rt_shim_arm(RT_SHIM_COUNT, 0);
    rt_ok(build(path, "two"));
    uint64_t n = rt_shim_count();
    rt_shim_disarm();
    return n;
}

/* with_old: generation "one" is committed first. After a fault at any operation either generation is whole; the next
 * build then succeeds. */
static void fault_everywhere(const char *dir, rt_shim_mode mode, bool with_old)
{
    const char *p = strdup(below(dir, "set"));
    char got[16];
    if (with_old) rt_ok(build(p, "one"));
    uint64_t n = operations(p);
    ck_assert_uint_ge(n, with_old ? 20 : 10);
    int seen_old = 0, seen_new = 0;
    for (uint64_t k = 1; k <= n; k++) {
        rt_ok(rt_fs_remove_tree(p));
        if (with_old) rt_ok(build(p, "one"));
        int code = build_under(p, mode, k);
        if (mode == RT_SHIM_DIE || mode == RT_SHIM_TEAR) ck_assert_int_eq(code, 137);
        else ck_assert_msg(code == 74 || code == 0, "operation %llu: exit %d", (unsigned long long)k, code);
        generation_at(p, got);
        bool old = !strcmp(got, with_old ? "one" : ""), new = !strcmp(got, "two");
        ck_assert_msg(old || new, "operation %llu of %llu: found \"%s\"", (unsigned long long)k, (unsigned long long)n, got);
        if (code == 0) ck_assert_msg(new, "operation %llu: success reported, found \"%s\"", (unsigned long long)k, got);
        seen_old += old;
        seen_new += new;
        rt_ok(build(p, "three"));
        generation_at(p, got);
        ck_assert_str_eq(got, "three");
        ck_assert(!rt_fs_exists(below(dir, "set.tmp")) && !rt_fs_exists(below(dir, "set.old")));
    }
    ck_assert_int_ge(seen_old, 5);
    if (mode != RT_SHIM_FULL) ck_assert_int_ge(seen_new, 1);
    free((void *)p);
}

START_TEST(killed_at_every_operation_first_time) { fault_everywhere(scratch("kill1"), RT_SHIM_DIE, false); }
END_TEST
START_TEST(killed_at_every_operation_replacing) { fault_everywhere(scratch("kill2"), RT_SHIM_DIE, true); }
END_TEST
START_TEST(torn_at_every_write) { fault_everywhere(scratch("tear"), RT_SHIM_TEAR, true); }
END_TEST
START_TEST(enospc_once_at_every_operation) { fault_everywhere(scratch("enospc"), RT_SHIM_ENOSPC, true); }
END_TEST
START_TEST(eio_once_at_every_operation) { fault_everywhere(scratch("eio"), RT_SHIM_EIO, true); }
END_TEST

/* From operation k on the disk is full. Clean-up cannot need space, so nothing is left behind. */
START_TEST(disk_full_keeps_the_previous)
{
    const char *dir = scratch("full");
    const char *p = strdup(below(dir, "set"));
    char got[16];
    rt_ok(build(p, "one"));
    int refused = 0;
    for (uint64_t k = 1;; k++, refused++) {
        int code = build_under(p, RT_SHIM_FULL, k);
        if (code == 0) break; /* nothing after operation k needs space */
        ck_assert_int_eq(code, 74);
        generation_at(p, got);
        ck_assert_str_eq(got, "one");
        ck_assert(!rt_fs_exists(below(dir, "set.tmp")));
    }
    ck_assert_int_ge(refused, 8);
    rt_shim_arm(RT_SHIM_FULL, 4);
    rt_fails(build(p, "three"), RT_ERR_IO);
    rt_shim_disarm();
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "set.tmp")); /* names the file */
    free((void *)p);
}
END_TEST

START_TEST(short_writes_and_eintr_are_continued)
{
    const char *dir = scratch("short");
    const char *p = strdup(below(dir, "set"));
    char got[16];
    uint64_t n = operations(p);
    for (uint64_t k = 1; k <= n; k++) {
        ck_assert_int_eq(build_under(p, RT_SHIM_SHORT, k), 0);
        generation_at(p, got);
        ck_assert_str_eq(got, "two");
    }
    free((void *)p);
}
END_TEST

/* Power loss: when the folder takes its final name, everything below it has been fsync'd (pending is at most the parent, in
 * which the temporary folder was made); when the commit reports success, so has the parent. */
START_TEST(durable_before_visible)
{
    const char *dir = scratch("durable");
    const char *p = strdup(below(dir, "set"));
    float v[3] = {1, 2, 3};
    rt_st_tensor t = {"t", RT_ST_F32, 1, {3}, v, sizeof v};
    json_t *m = json_pack("{s:s}", "kind", "set");
    rt_commit *c = NULL;
    for (int replacing = 0; replacing < 2; replacing++) {
        rt_shim_arm(RT_SHIM_COUNT, 0);
        rt_ok(rt_commit_begin(p, &c));
        rt_ok(rt_commit_file(c, "deep/er/a.txt", "x", 1));
        rt_ok(rt_st_write(below(rt_commit_dir(c), "deep/t.safetensors"), &t, 1, NULL, 0));
        ck_assert_int_gt(rt_shim_unsynced(), 2); /* the shim sees what is pending */
        rt_ok(rt_commit_finish(c, m));
        ck_assert_int_eq(rt_shim_unsynced(), 0);
        ck_assert_int_le(rt_shim_unsynced_at_rename(), 1);
        rt_shim_disarm();
    }
    json_decref(m);
    free((void *)p);
}
END_TEST

/* The state between the two renames, made by hand in both forms. */
START_TEST(recovers_between_renames)
{
    const char *dir = scratch("between");
    const char *p = strdup(below(dir, "set"));
    char got[16];
    rt_ok(build(p, "one"));
    ck_assert_int_eq(rename(p, below(dir, "set.old")), 0);
    generation_at(p, got); /* no .tmp: back */
    ck_assert_str_eq(got, "one");
    ck_assert_int_eq(rename(p, below(dir, "set.old")), 0);
    rt_ok(build(below(dir, "other"), "two"));
    ck_assert_int_eq(rename(below(dir, "other"), below(dir, "set.tmp")), 0);
    generation_at(p, got); /* complete .tmp: forward */
    ck_assert_str_eq(got, "two");
    free((void *)p);
}
END_TEST

/* Every single-bit flip in every file of an artefact is found by a deep open. */
START_TEST(every_bit_flip_is_detected)
{
    const char *dir = scratch("flip");
    static const char *const files[] = {"a.txt", "images/x/0.png", "manifest.json", "run.json"};
    const char *p = strdup(below(dir, "set"));
    rt_ok(build(p, "one"));
    int64_t flips = 0;
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        char name[PATH_MAX];
        snprintf(name, sizeof name, "%s/%s", p, files[f]);
        int64_t n = rt_fs_size(name);
        int fd = open(name, O_RDWR);
        ck_assert_int_ge(fd, 0);
        for (int64_t i = 0; i < n; i++)
            for (int bit = 0; bit < 8; bit++, flips++) {
                unsigned char c = 0, bad;
                ck_assert_int_eq(pread(fd, &c, 1, i), 1);
                bad = (unsigned char)(c ^ 1u << bit);
                ck_assert_int_eq(pwrite(fd, &bad, 1, i), 1);
                rt_status st = rt_artefact_open(p, "set", true, NULL);
                ck_assert_msg(st == RT_ERR_FORMAT || st == RT_ERR_UNSUPPORTED, "%s byte %lld bit %d: %s", files[f], (long long)i, bit,
                              rt_status_name(st));
                ck_assert_int_eq(pwrite(fd, &c, 1, i), 1);
            }
        close(fd);
    }
    ck_assert_int_gt(flips, 5000);
    rt_ok(rt_artefact_open(p, "set", true, NULL));
    ck_assert_int_eq(truncate(below(p, "a.txt"), 1), 0);
    rt_fails(rt_artefact_open(p, "set", false, NULL), RT_ERR_FORMAT); /* sizes are checked even when shallow */
    ck_assert_int_eq(unlink(below(p, "a.txt")), 0);
    rt_fails(rt_artefact_open(p, "set", false, NULL), RT_ERR_FORMAT);
    ck_assert_int_eq(unlink(below(p, "manifest.json")), 0);
    rt_fails(rt_artefact_open(p, "set", false, NULL), RT_ERR_MISSING);
    free((void *)p);
}
END_TEST

START_TEST(allocation_failures)
{
    const char *dir = scratch("oom");
    const char *p = strdup(below(dir, "set"));
    char got[16];
    rt_ok(build(p, "one"));
    int passed = 0;
    for (uint64_t n = 1; !passed && n < 5000; n++) {
        json_t *m = NULL;
        rt_alloc_fail_at(n, 0);
        rt_status st = rt_artefact_open(p, "set", true, &m);
        rt_alloc_fail_at(0, 0);
        json_decref(m);
        ck_assert_msg(st == RT_OK || st == RT_ERR_NOMEM, "allocation %llu: %s %s", (unsigned long long)n, rt_status_name(st), rt_error_what());
        passed = st == RT_OK;
        generation_at(p, got);
        ck_assert_str_eq(got, "one");
    }
    ck_assert_int_eq(passed, 1);
    free((void *)p);
}
END_TEST

/* --- checkpoints ----------------------------------------------------------------------------------------------------- */

static rt_status save(const char *dir, uint64_t step, const char *hash, int keep)
{
    float v[2] = {(float)step, -1.0f};
    rt_st_tensor t = {.name = "theta", .dtype = RT_ST_F32, .rank = 1, .shape = {2}, .data = v, .bytes = sizeof v};
    json_t *s = json_pack("{s:I, s:s}", "step", (json_int_t)step, "inputs_hash", hash);
    rt_status st = rt_ckpt_save(dir, step, &t, 1, s, keep);
    json_decref(s);
    return st;
}

/* The step loaded, with its tensor and state checked to agree; -1 when there is none. */
static int64_t load(const char *dir, const char *hash)
{
    uint64_t step = 0;
    rt_st_file *f = NULL;
    json_t *s = NULL;
    float v[2];
    rt_status st = rt_ckpt_load(dir, hash, &step, &f, &s);
    if (st == RT_ERR_MISSING) return -1;
    rt_ok(st);
    rt_ok(rt_st_to_f32(rt_st_find(f, "theta"), v, 2));
    rt_assert_near(v[0], (double)step, 0, 0);
    ck_assert_int_eq(json_integer_value(json_object_get(s, "step")), (int64_t)step);
    rt_st_close(f);
    json_decref(s);
    return (int64_t)step;
}

START_TEST(checkpoints_newest_valid_wins)
{
    const char *dir = strdup(below(scratch("ckpt"), "build.ckpt"));
    ck_assert_int_eq(load(dir, NULL), -1);
    for (uint64_t s = 1; s <= 5; s++) rt_ok(save(dir, s * 10, "h", 2));
    ck_assert_int_eq(load(dir, "h"), 50);
    ck_assert_int_eq(load(dir, "other"), -1);
    ck_assert(!rt_fs_exists(below(dir, "000000000030")));
    ck_assert(rt_fs_exists(below(dir, "000000000040")));
    ck_assert_int_eq(truncate(below(dir, "000000000050/tensors.safetensors"), 20), 0);
    ck_assert_int_eq(load(dir, "h"), 40);
    rt_ok(save(dir, 45, "h", 2)); /* 50 belongs to a timeline given up */
    ck_assert(!rt_fs_exists(below(dir, "000000000050")));
    ck_assert_int_eq(load(dir, "h"), 45);
    rt_ok(rt_ckpt_clear(dir));
    ck_assert(!rt_fs_exists(dir));
    rt_ok(rt_ckpt_clear(dir));
    free((void *)dir);
}
END_TEST

START_TEST(checkpoint_killed_at_every_operation)
{
    const char *dir = strdup(below(scratch("ckptkill"), "c"));
    static const uint64_t next[] = {20, 10}; /* a new step, and the same step again */
    for (int which = 0; which < 2; which++) {
        rt_ok(save(dir, 10, "h", 1));
        rt_shim_arm(RT_SHIM_COUNT, 0);
        rt_ok(save(dir, next[which], "h", 1));
        uint64_t n = rt_shim_count();
        rt_shim_disarm();
        ck_assert_uint_ge(n, 15);
        for (uint64_t k = 1; k <= n; k++) {
            rt_ok(rt_ckpt_clear(dir));
            rt_ok(save(dir, 10, "h", 1));
            fflush(NULL);
            pid_t pid = fork();
            if (pid == 0) {
                rt_shim_arm(RT_SHIM_DIE, k);
                save(dir, next[which], "h", 1);
                _exit(0);
            }
            int status = 0;
            ck_assert_int_eq(waitpid(pid, &status, 0), pid);
            ck_assert_int_eq(WEXITSTATUS(status), 137);
            int64_t got = load(dir, "h");
            ck_assert_msg(got == 10 || got == (int64_t)next[which], "operation %llu: step %lld", (unsigned long long)k, (long long)got);
        }
    }
    free((void *)dir);
}
END_TEST

/* --- lock ------------------------------------------------------------------------------------------------------------ */

START_TEST(lock_refuses_names_owner_and_is_taken_over)
{
    const char *dir = strdup(scratch("lock"));
    rt_lock *a = NULL, *b = NULL;
    char pid[32];
    rt_ok(rt_lock_take(dir, &a));
    rt_fails(rt_lock_take(dir, &b), RT_ERR_LOCKED);
    ck_assert_ptr_null(b);
    snprintf(pid, sizeof pid, "pid %ld ", (long)getpid());
    ck_assert_ptr_nonnull(strstr(rt_error_what(), pid));
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "host "));
    ck_assert_str_ne(rt_error_remedy(), "");
    rt_lock_release(a);
    ck_assert_int_eq(rt_fs_size(below(dir, "LOCK")), 0);
    /* An owner that dies without releasing. */
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        rt_lock *l = NULL;
        _exit(rt_lock_take(dir, &l) == RT_OK ? 0 : 1);
    }
    int status = 0;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(WEXITSTATUS(status), 0);
    ck_assert_int_gt(rt_fs_size(below(dir, "LOCK")), 0); /* its text stayed */
    rt_ok(rt_lock_take(dir, &b));
    rt_lock_release(b);
    rt_lock_release(NULL);
    free((void *)dir);
}
END_TEST

/* Eight processes race, fifty rounds each; a non-atomic counter file shows any overlap. */
START_TEST(lock_race)
{
    const char *dir = strdup(scratch("race"));
    const char *counter = strdup(below(dir, "counter"));
    enum { PROCESSES = 8, ROUNDS = 50 };
    rt_ok(rt_fs_write_atomic(counter, "0", 1));
    fflush(NULL);
    for (int i = 0; i < PROCESSES; i++)
        if (fork() == 0) {
            for (int r = 0; r < ROUNDS;) {
                rt_lock *l = NULL;
                rt_status st = rt_lock_take(dir, &l);
                if (st == RT_ERR_LOCKED) {
                    usleep(200);
                    continue;
                }
                if (st != RT_OK) _exit(1);
                FILE *f = fopen(counter, "r+");
                int v = -1;
                if (!f || fscanf(f, "%d", &v) != 1) _exit(2);
                rewind(f);
                fprintf(f, "%d", v + 1);
                fclose(f);
                rt_lock_release(l);
                r++;
            }
            _exit(0);
        }
    for (int i = 0; i < PROCESSES; i++) {
        int status = 0;
        wait(&status);
        ck_assert_int_eq(status, 0);
    }
    void *text = NULL;
    size_t n = 0;
    rt_ok(rt_fs_read(counter, 100, &text, &n));
    ck_assert_int_eq(atoi(text), PROCESSES * ROUNDS);
    rt_free(text);
    free((void *)counter);
    free((void *)dir);
}
END_TEST

static const rt_test tests[] = {
    {"round trip and manifest", round_trip_and_manifest},
    {"same bytes twice", same_bytes_twice},
    {"bad names and reserved files", bad_names_and_reserved_files},
    {"killed at every operation, first time", killed_at_every_operation_first_time},
    {"killed at every operation, replacing", killed_at_every_operation_replacing},
    {"torn at every write", torn_at_every_write},
    {"ENOSPC once at every operation", enospc_once_at_every_operation},
    {"EIO once at every operation", eio_once_at_every_operation},
    {"disk full keeps the previous", disk_full_keeps_the_previous},
    {"short writes and EINTR are continued", short_writes_and_eintr_are_continued},
    {"durable before visible", durable_before_visible},
    {"recovers between renames", recovers_between_renames},
    {"every bit flip is detected", every_bit_flip_is_detected},
    {"allocation failures", allocation_failures},
    {"checkpoints: newest valid wins", checkpoints_newest_valid_wins},
    {"checkpoint killed at every operation", checkpoint_killed_at_every_operation},
    {"lock refuses, names owner, is taken over", lock_refuses_names_owner_and_is_taken_over},
    {"lock race", lock_race},
};
RT_SUITE("artefact.commit", tests)
