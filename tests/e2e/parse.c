/* parse FILE...: reads exports more strictly than most readers would. JSONL: an object on every line, all with the same
 * keys, no duplicates. CSV as in RFC 4180: CRLF, quotes closed, the same number of fields in every row. A CSV and the
 * JSONL beside it must have the same number of rows. JSON: one value. Says what is wrong and exits 1. */
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_BYTES = 64 << 20 };

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}

static char *read_file(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    char *text = f ? malloc(MAX_BYTES + 1) : NULL;
    if (text) {
        *n = fread(text, 1, MAX_BYTES, f);
        text[*n] = 0;
    }
    if (f) fclose(f);
    if (!text) printf("%s: cannot be read\n", path);
    return text;
}

/* Rows without the header, or -1. */
static long csv_rows(const char *path, const char *s, size_t n)
{
    long rows = 0, fields = 1, want = 0;
    bool quoted = false;
    for (size_t i = 0; i < n; i++) {
        bool begins = i == 0 || s[i - 1] == ',' || s[i - 1] == '\n';
        if (s[i] == '"' && !quoted) {
            if (!begins) return printf("%s: row %ld: a quote inside a bare field\n", path, rows + 1), -1;
            quoted = true;
        } else if (s[i] == '"' && s[i + 1] == '"') {
            i++;
        } else if (s[i] == '"') {
            quoted = false;
            if (!strchr(",\r", s[i + 1])) return printf("%s: row %ld: text after a quote\n", path, rows + 1), -1;
        } else if (!quoted && s[i] == ',') {
            fields++;
        } else if (!quoted && s[i] == '\n') {
            if (i == 0 || s[i - 1] != '\r') return printf("%s: row %ld does not end with CRLF\n", path, rows + 1), -1;
            if (!want) want = fields;
            if (fields != want) return printf("%s: row %ld has %ld fields, want %ld\n", path, rows + 1, fields, want), -1;
            fields = 1;
            rows++;
        }
    }
    if (quoted || rows < 1 || s[n - 1] != '\n') return printf("%s: does not end after a row\n", path), -1;
    return rows - 1;
}

static bool same_keys(json_t *a, json_t *b)
{
    const char *key;
    json_t *v;
    json_object_foreach(a, key, v)
        if (!json_object_get(b, key)) return false;
    return json_object_size(a) == json_object_size(b);
}

static long jsonl_rows(const char *path, char *s, size_t n)
{
    long rows = 0;
    json_t *first = NULL;
    json_error_t err;
    if (n && s[n - 1] != '\n') rows = -1;
    for (char *line = s, *end; rows >= 0 && (end = strchr(line, '\n')); line = end + 1) {
        json_t *v = json_loadb(line, (size_t)(end - line), JSON_REJECT_DUPLICATES, &err);
        bool ok = json_is_object(v) && (!first || same_keys(first, v));
        if (!v) printf("%s:%ld: %s\n", path, rows + 1, err.text);
        if (!first) first = json_incref(v);
        json_decref(v);
        rows = ok ? rows + 1 : -1;
    }
    if (rows < 0) printf("%s: not JSON objects of one kind, one a line\n", path);
    json_decref(first);
    return rows;
}

static long rows_of(const char *path)
{
    size_t n = 0;
    long rows = -1;
    char *text = read_file(path, &n);
    if (text && ends_with(path, ".csv")) rows = csv_rows(path, text, n);
    if (text && ends_with(path, ".jsonl")) rows = jsonl_rows(path, text, n);
    if (text && ends_with(path, ".json")) {
        json_error_t err;
        json_t *v = json_loadb(text, n, JSON_REJECT_DUPLICATES, &err);
        if (!v) printf("%s:%d: %s\n", path, err.line, err.text);
        rows = v ? 1 : -1;
        json_decref(v);
    }
    free(text);
    return rows;
}

int main(int argc, char **argv)
{
    int bad = argc < 2;
    for (int i = 1; i < argc; i++) {
        long rows = rows_of(argv[i]);
        bad += rows < 0;
        if (rows < 0 || !ends_with(argv[i], ".csv")) continue;
        char twin[4096];
        snprintf(twin, sizeof twin, "%.*s.jsonl", (int)(strlen(argv[i]) - 4), argv[i]);
        long other = rows_of(twin);
        if (other != rows) {
            printf("%s: %ld rows, %s: %ld\n", argv[i], rows, twin, other);
            bad++;
        }
    }
    return bad ? 1 : 0;
}
