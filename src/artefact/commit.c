/* The commit: a folder of files that exists whole or not at all.
 *
 * Names on disk for an artefact at P:  P (committed)   P.tmp (being written)   P.old (the previous one, set aside)
 *
 *   state   P      P.tmp        P.old   how it is left                           what recovery does
 *   A       -/old  absent       -       at rest                                  nothing
 *   B       -/old  incomplete   -       killed while writing                     writer: sweep P.tmp
 *   C       -/old  complete     -       killed before the first rename           writer: sweep P.tmp (not yet committed)
 *   D       -      complete     old     killed between the two renames           rename P.tmp to P (else P.old back to P)
 *   E       new    -            old     killed before the old one was removed    writer: remove P.old
 *   F       new    -            -       at rest
 *
 * manifest.json is written last, after every other file and folder is fsync'd, so P.tmp is complete exactly when its
 * manifest parses and its sizes agree. In every state either the old or the new artefact is reachable. State D is repaired
 * by whoever comes first, reader or writer: its renames are idempotent (a target that exists refuses), so racing is safe.
 * Everything else is repaired by rt_commit_begin only, whose caller holds the run's lock (lock.c).
 *
 * What is compared between runs and what is not. "Same seed, same bytes" holds for every file of the folder except
 * run.json: rt_commit_finish moves the caller's "cost", "created" and "host" there (created and host are filled in when
 * absent), with a SHA-256 of their own. manifest.json never lists run.json. The manifest holds the caller's other fields
 * and adds format_version, "files" {name: {bytes, sha256}} and "content_hash", the SHA-256 over "name\nsha256\n" of all
 * listed files in name order: the identity of the artefact. manifest.json must be byte for byte the canonical text of what
 * it parses to, and "manifest_hash" covers the rest of it, so damage to the manifest shows as well. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "artefact/artefact.h"
#include "artefact/internal.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"

#define MANIFEST RT_MANIFEST_NAME
#define RUN RT_RUN_NAME
static const char *const run_fields[] = {"cost", "created", "host"};
enum { N_RUN_FIELDS = sizeof run_fields / sizeof run_fields[0] };

struct rt_commit {
    char *path, *tmp, *old;
};

static void commit_free(rt_commit *c)
{
    if (!c) return;
    rt_free(c->path);
    rt_free(c->tmp);
    rt_free(c->old);
    rt_free(c);
}

static rt_status commit_paths(const char *path, rt_commit **out)
{
    rt_status st = RT_OK;
    rt_commit *c = NULL;
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    if (n == 0) return RT_RAISE(RT_ERR_ARG, "artefact path is empty");
    RT_ALLOC(c, sizeof *c, "commit");
    c->path = rt_asprintf("%.*s", (int)n, path);
    c->tmp = rt_asprintf("%.*s.tmp", (int)n, path);
    c->old = rt_asprintf("%.*s.old", (int)n, path);
    if (!c->path || !c->tmp || !c->old) {
        st = RT_RAISE(RT_ERR_NOMEM, "no memory for artefact paths");
        goto out;
    }
    *out = c;
    c = NULL;
out:
    commit_free(c);
    return st;
}

/* --- manifest -------------------------------------------------------------------------------------------------------- */

static rt_status read_manifest(const char *dir, json_t **out)
{
    rt_status st = RT_OK;
    char path[PATH_MAX], hex[RT_HASH_HEX];
    json_t *m = NULL, *bare = NULL;
    char *text = NULL, *again = NULL;

    RT_TRY(rt_fs_join(path, sizeof path, dir, MANIFEST));
    RT_TRY(rt_json_read(path, RT_MANIFEST_MAX_BYTES, &m, &text));
    const char *want = json_string_value(json_object_get(m, "manifest_hash"));
    json_int_t version = json_integer_value(json_object_get(m, "format_version"));
    if (!want || version < 1 || !json_is_object(json_object_get(m, "files"))) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: not a manifest", path);
        goto out;
    }
    if (version > RT_MANIFEST_VERSION) {
        st = RT_RAISE(RT_ERR_UNSUPPORTED, "%s: format version %" JSON_INTEGER_FORMAT ", this program reads %d", path, version,
                      RT_MANIFEST_VERSION);
        goto out;
    }
    RT_TRY(rt_json_text(m, &again));
    bare = json_copy(m); /* drops members without a word when memory runs out: count them */
    if (!bare || json_object_size(bare) != json_object_size(m) || json_object_del(bare, "manifest_hash")) {
        st = RT_RAISE(RT_ERR_NOMEM, "no memory for %s", path);
        goto out;
    }
    RT_TRY(rt_json_hash(bare, hex));
    if (strcmp(text, again) || strcmp(hex, want)) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: checksum of the manifest differs: it was changed after the commit", path);
        goto out;
    }
    *out = m;
    m = NULL;
out:
    json_decref(m);
    json_decref(bare);
    rt_free(text);
    rt_free(again);
    return st;
}

/* Attaches the fields of run.json to m; a missing run.json is fine (the content does not depend on it). */
static rt_status read_run(const char *dir, json_t *m)
{
    rt_status st = RT_OK;
    char path[PATH_MAX], hex[RT_HASH_HEX];
    json_t *r = NULL, *want = NULL;

    RT_TRY(rt_fs_join(path, sizeof path, dir, RUN));
    if (!rt_fs_exists(path)) return RT_OK;
    RT_TRY(rt_json_read(path, RT_MANIFEST_MAX_BYTES, &r, NULL));
    want = json_incref(json_object_get(r, "sha256"));
    json_object_del(r, "sha256");
    RT_TRY(rt_json_hash(r, hex));
    if (!json_is_string(want) || strcmp(json_string_value(want), hex)) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: checksum differs: it was changed after the commit", path);
        goto out;
    }
    if (json_object_update_missing(m, r)) st = RT_RAISE(RT_ERR_NOMEM, "no memory for %s", path);
out:
    json_decref(r);
    json_decref(want);
    return st;
}

static rt_status check_file(const char *dir, const char *name, const json_t *row, bool deep)
{
    rt_status st = RT_OK;
    char path[PATH_MAX], hex[RT_HASH_HEX];
    struct stat sb;
    uint64_t size = 0;
    const json_t *bytes = json_object_get(row, "bytes");
    const char *want = json_string_value(json_object_get(row, "sha256"));

    if (!rt_artefact_name_ok(name) || !json_is_integer(bytes) || !want)
        return RT_RAISE(RT_ERR_FORMAT, "%s: manifest lists a bad entry \"%s\"", dir, name);
    RT_TRY(rt_fs_join(path, sizeof path, dir, name));
    if (lstat(path, &sb)) {
        st = errno == ENOENT ? RT_RAISE(RT_ERR_FORMAT, "%s: listed in the manifest but missing", path) : RT_RAISE_ERRNO("%s", path);
        goto out;
    }
    if (!S_ISREG(sb.st_mode) || sb.st_size != json_integer_value(bytes)) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: %lld bytes, the manifest says %" JSON_INTEGER_FORMAT, path, (long long)sb.st_size,
                      json_integer_value(bytes));
        goto out;
    }
    if (!deep) return RT_OK;
    RT_TRY(rt_hash_file(path, hex, &size));
    if (strcmp(hex, want)) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: SHA-256 %.12s..., the manifest says %.12s...", path, hex, want);
        rt_error_fix(st, "the file was damaged after it was committed: rebuild the artefact or restore it from a copy");
    }
out:
    return st;
}

static rt_status check_folder(const char *dir, bool deep, json_t **out)
{
    rt_status st = RT_OK;
    json_t *m = NULL, *row;
    const char *name;
    RT_TRY(read_manifest(dir, &m));
    json_object_foreach(json_object_get(m, "files"), name, row) RT_TRY(check_file(dir, name, row, deep));
    *out = m;
    m = NULL;
out:
    json_decref(m);
    return st;
}

/* --- recovery -------------------------------------------------------------------------------------------------------- */

/* Leaves state D. A rename that finds its source gone or its target there lost a race against the same repair: fine. */
static rt_status recover(const rt_commit *c)
{
    json_t *m = NULL;
    if (rt_fs_exists(c->path) || !rt_fs_exists(c->old)) return RT_OK;
    bool forward = check_folder(c->tmp, false, &m) == RT_OK;
    json_decref(m);
    if (rename(forward ? c->tmp : c->old, c->path) && errno != ENOENT && errno != ENOTEMPTY && errno != EEXIST)
        return RT_RAISE_ERRNO("%s: recovery of an interrupted commit", c->path);
    rt_log_line(RT_LOG_INFO, "%s: %s an interrupted commit", c->path, forward ? "completed" : "took back");
    return rt_fsync_parent(c->path);
}

rt_status rt_commit_begin(const char *path, rt_commit **out)
{
    rt_status st = RT_OK;
    rt_commit *c = NULL;
    char parent[PATH_MAX];

    RT_TRY(commit_paths(path, &c));
    if ((size_t)snprintf(parent, sizeof parent, "%s", c->path) >= sizeof parent) {
        st = RT_RAISE(RT_ERR_ARG, "%s: path too long", c->path);
        goto out;
    }
    char *slash = strrchr(parent, '/');
    if (slash && slash != parent) {
        *slash = 0;
        RT_TRY(rt_fs_mkdirs(parent));
    }
    RT_TRY(recover(c));
    RT_TRY(rt_artefact_remove(c->tmp));
    RT_TRY(rt_artefact_remove(c->old)); /* after recover, path exists whenever old does */
    if (mkdir(c->tmp, 0777)) {
        st = RT_RAISE_ERRNO("%s: cannot create folder", c->tmp);
        goto out;
    }
    *out = c;
    c = NULL;
out:
    commit_free(c);
    return st;
}

const char *rt_commit_dir(const rt_commit *c) { return c->tmp; }

void rt_commit_abort(rt_commit *c)
{
    if (!c) return;
    rt_error_chain kept;
    rt_error_save(&kept);
    if (rt_artefact_remove(c->tmp) != RT_OK) rt_log_line(RT_LOG_WARN, "%s: could not be removed: %s", c->tmp, rt_error_what());
    rt_error_restore(&kept); /* the caller's failure is the one to report */
    commit_free(c);
}

rt_status rt_commit_file(rt_commit *c, const char *name, const void *p, size_t n)
{
    rt_status st = RT_OK;
    char path[PATH_MAX];
    rt_piece piece = {p, n};
    if (!rt_artefact_name_ok(name)) return RT_RAISE(RT_ERR_ARG, "%s: bad file name \"%s\"", c->tmp, name);
    RT_TRY(rt_fs_join(path, sizeof path, c->tmp, name));
    char *slash = strrchr(path, '/');
    if (strchr(name, '/')) {
        *slash = 0;
        RT_TRY(rt_fs_mkdirs(path));
        *slash = '/';
    }
    RT_TRY(rt_write_pieces(path, &piece, 1, false));
out:
    return st;
}

/* --- finish ---------------------------------------------------------------------------------------------------------- */

/* SHA-256 over "name\nsha256\n" in byte order of the names. jansson iterates in insertion order, and the walk's is
 * depth first: sort. */
static rt_status content_hash(const json_t *files, char hex[RT_HASH_HEX])
{
    rt_status st = RT_OK;
    rt_sha256 *h = NULL;
    char *text = NULL;
    json_t *again = NULL;
    const char *name;
    json_t *row;

    RT_TRY(rt_json_text(files, &text)); /* the canonical text has the order */
    RT_TRY(rt_json_parse("files", text, strlen(text), &again));
    RT_TRY(rt_sha256_create(&h));
    json_object_foreach(again, name, row) {
        const char *sha = json_string_value(json_object_get(row, "sha256"));
        rt_sha256_update(h, name, strlen(name));
        rt_sha256_update(h, "\n", 1);
        rt_sha256_update(h, sha, strlen(sha));
        rt_sha256_update(h, "\n", 1);
    }
    rt_sha256_final(h, hex);
out:
    json_decref(again);
    rt_free(text);
    return st;
}

static rt_status write_json(const char *dir, const char *name, const json_t *v)
{
    rt_status st = RT_OK;
    char path[PATH_MAX];
    char *text = NULL;
    RT_TRY(rt_fs_join(path, sizeof path, dir, name));
    RT_TRY(rt_json_text(v, &text));
    RT_TRY(rt_write_pieces(path, &(rt_piece){text, strlen(text)}, 1, true));
out:
    rt_free(text);
    return st;
}

static rt_status write_run(const char *dir, const json_t *manifest)
{
    rt_status st = RT_OK;
    char host[256] = "", when[32], hex[RT_HASH_HEX];
    time_t now = time(NULL);
    struct tm tm;
    json_t *run = json_object();

    gethostname(host, sizeof host - 1);
    gmtime_r(&now, &tm);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
    int bad = !run;
    for (int i = 0; !bad && i < N_RUN_FIELDS; i++) {
        json_t *v = json_object_get(manifest, run_fields[i]);
        if (v) bad |= json_object_set(run, run_fields[i], v);
    }
    if (!bad && !json_object_get(run, "created")) bad |= json_object_set_new(run, "created", json_string(when));
    if (!bad && !json_object_get(run, "host") && host[0]) bad |= json_object_set_new(run, "host", json_string(host));
    if (bad) {
        st = RT_RAISE(RT_ERR_NOMEM, "no memory for %s/" RUN, dir);
        goto out;
    }
    RT_TRY(rt_json_hash(run, hex));
    if (json_object_set_new(run, "sha256", json_string(hex))) {
        st = RT_RAISE(RT_ERR_NOMEM, "no memory for %s/" RUN, dir);
        goto out;
    }
    RT_TRY(write_json(dir, RUN, run));
out:
    json_decref(run);
    return st;
}

/* The manifest as stored: the caller's fields without those of run.json, plus what this module adds. */
static rt_status write_manifest(const char *dir, const json_t *given, const json_t *files)
{
    rt_status st = RT_OK;
    char hex[RT_HASH_HEX];
    json_t *m = json_copy((json_t *)given);
    if (given && m && json_object_size(m) != json_object_size(given)) {
        st = RT_RAISE(RT_ERR_NOMEM, "no memory for %s/" MANIFEST, dir);
        goto out;
    }
    if (!m || !json_is_object(m) || !json_is_string(json_object_get(m, "kind"))) {
        st = RT_RAISE(RT_ERR_ARG, "%s: a manifest is an object with \"kind\"", dir);
        goto out;
    }
    for (int i = 0; i < N_RUN_FIELDS; i++) json_object_del(m, run_fields[i]);
    json_object_del(m, "manifest_hash");
    RT_TRY(content_hash(files, hex));
    if (json_object_set_new(m, "format_version", json_integer(RT_MANIFEST_VERSION)) ||
        json_object_set(m, "files", (json_t *)files) || json_object_set_new(m, "content_hash", json_string(hex))) {
        st = RT_RAISE(RT_ERR_NOMEM, "no memory for %s/" MANIFEST, dir);
        goto out;
    }
    RT_TRY(rt_json_hash(m, hex));
    if (json_object_set_new(m, "manifest_hash", json_string(hex))) {
        st = RT_RAISE(RT_ERR_NOMEM, "no memory for %s/" MANIFEST, dir);
        goto out;
    }
    RT_TRY(write_json(dir, MANIFEST, m));
out:
    json_decref(m);
    return st;
}

/* C -> D -> E -> F of the table above. */
static rt_status swap_in(const rt_commit *c)
{
    bool replaces = rt_fs_exists(c->path);
    if (replaces && rename(c->path, c->old)) return RT_RAISE_ERRNO("%s: cannot set the previous artefact aside", c->path);
    if (rename(c->tmp, c->path)) {
        bool repaired_by_reader = errno == ENOENT && rt_fs_exists(c->path);
        if (!repaired_by_reader) {
            rt_status st = RT_RAISE_ERRNO("%s: rename", c->path);
            if (replaces && rename(c->old, c->path)) /* state D: the next open or begin repairs it */
                rt_log_line(RT_LOG_WARN, "%s: commit interrupted between two renames; it is completed at next use", c->path);
            return st;
        }
    }
    return rt_fsync_parent(c->path);
}

rt_status rt_commit_finish(rt_commit *c, const json_t *manifest)
{
    rt_status st = RT_OK;
    json_t *files = json_object();
    if (!files) {
        st = RT_RAISE(RT_ERR_NOMEM, "no memory for the file list");
        goto out;
    }
    RT_TRYF(rt_artefact_seal(c->tmp, files), "commit %s", c->path);
    RT_TRYF(write_run(c->tmp, manifest), "commit %s", c->path);
    RT_TRYF(write_manifest(c->tmp, manifest, files), "commit %s", c->path);
    RT_TRYF(rt_fs_fsync_dir(c->tmp), "commit %s", c->path);
    RT_TRYF(swap_in(c), "commit %s", c->path);
    if (rt_artefact_remove(c->old) != RT_OK) { /* committed all the same; the next begin sweeps it */
        rt_log_line(RT_LOG_WARN, "%s: could not be removed: %s", c->old, rt_error_what());
        rt_error_clear();
    }
    commit_free(c);
    c = NULL;
out:
    json_decref(files);
    if (c) {
        /* In state D the folder P.tmp is the new artefact and must stay. */
        if (rt_fs_exists(c->old) && !rt_fs_exists(c->path)) commit_free(c);
        else rt_commit_abort(c);
    }
    return st;
}

/* --- opening --------------------------------------------------------------------------------------------------------- */

rt_status rt_artefact_open(const char *path, const char *kind, bool deep, json_t **manifest)
{
    rt_status st = RT_OK;
    rt_commit *c = NULL;
    json_t *m = NULL;

    RT_TRY(commit_paths(path, &c));
    RT_TRY(recover(c));
    if (!rt_fs_is_dir(c->path)) {
        st = RT_RAISE(RT_ERR_MISSING, "%s: no such artefact", c->path);
        goto out;
    }
    char file[PATH_MAX];
    RT_TRY(rt_fs_join(file, sizeof file, c->path, MANIFEST));
    if (!rt_fs_exists(file)) {
        st = RT_RAISE(RT_ERR_MISSING, "%s: has no " MANIFEST ", so it was never committed", c->path);
        goto out;
    }
    RT_TRY(check_folder(c->path, deep, &m));
    const char *got = json_string_value(json_object_get(m, "kind"));
    if (kind && (!got || strcmp(got, kind))) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: is a \"%s\", expected a \"%s\"", c->path, got ? got : "?", kind);
        goto out;
    }
    RT_TRY(read_run(c->path, m));
    if (manifest) {
        *manifest = m;
        m = NULL;
    }
out:
    json_decref(m);
    commit_free(c);
    return st;
}

bool rt_artefact_is_current(const char *path, const char *kind, const char *inputs_hash)
{
    json_t *m = NULL;
    bool same = false;
    if (rt_artefact_open(path, kind, false, &m) == RT_OK) {
        const char *got = json_string_value(json_object_get(m, "inputs_hash"));
        same = got && inputs_hash && !strcmp(got, inputs_hash);
    } else rt_error_clear();
    json_decref(m);
    return same;
}
