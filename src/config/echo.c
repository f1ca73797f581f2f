/* The configuration as text: the resolved YAML echo, the canonical lines that stage hashes are made of, and the help.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "config/schema.h"

rt_status cfg_append(cfg_text *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) return RT_RAISE(RT_ERR_INTERNAL, "format %s", fmt);
    size_t need = t->size + (size_t)n + 1;
    if (need > t->cap) {
        size_t cap = need + need / 2 + 256;
        char *bigger = rt_realloc(t->text, t->cap, cap);
        if (!bigger) return RT_RAISE(RT_ERR_NOMEM, "no memory for %zu bytes of text", cap);
        t->text = bigger;
        t->cap = cap;
    }
    va_start(ap, fmt);
    vsnprintf(t->text + t->size, t->cap - t->size, fmt, ap);
    va_end(ap);
    t->size += (size_t)n;
    return RT_OK;
}

/* The shortest decimal that reads back as the same double. */
static rt_status append_real(cfg_text *t, double x)
{
    char s[40];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(s, sizeof s, "%.*g", digits, x);
        if (strtod(s, NULL) == x) break;
    }
    return cfg_append(t, "%s", s);
}

/* Double quotes, so that no string can be taken for anything else. Control characters never get into a config. */
static rt_status append_quoted(cfg_text *t, const char *s)
{
    rt_status st = RT_OK;
    RT_TRY(cfg_append(t, "\""));
    while (*s) {
        size_t plain = strcspn(s, "\"\\");
        RT_TRY(cfg_append(t, "%.*s", (int)plain, s));
        s += plain;
        if (*s) RT_TRY(cfg_append(t, "\\%c", *s++));
    }
    RT_TRY(cfg_append(t, "\""));
out:
    return st;
}

rt_status cfg_append_value(cfg_text *t, const rt_config *c, const cfg_row *row)
{
    rt_status st = RT_OK;
    const void *at = (const char *)c + row->offset;
    const rt_int_list *ints = at;
    const rt_real_list *reals = at;
    const rt_name_list *names = at;
    switch (row->kind) {
    case CFG_SECTION: break;
    case CFG_INT: return cfg_append(t, "%lld", (long long)*(const int64_t *)at);
    case CFG_REAL: return append_real(t, *(const double *)at);
    case CFG_BOOL: return cfg_append(t, "%s", *(const bool *)at ? "true" : "false");
    case CFG_ENUM: return cfg_append(t, "%s", *(const char *const *)at);
    case CFG_STR:
    case CFG_PATH:
    case CFG_PATHS: return append_quoted(t, *(char *const *)at);
    case CFG_INTS:
        for (int i = 0; i < ints->n; i++) RT_TRY(cfg_append(t, "%s%lld", i ? ", " : "[", (long long)ints->v[i]));
        return cfg_append(t, "]");
    case CFG_ENUMS:
        for (int i = 0; i < names->n; i++) RT_TRY(cfg_append(t, "%s%s", i ? ", " : "[", names->v[i]));
        return cfg_append(t, "]");
    case CFG_REALS:
        for (int i = 0; i < reals->n; i++) {
            RT_TRY(cfg_append(t, "%s", i ? ", " : "["));
            RT_TRY(append_real(t, reals->v[i]));
        }
        return cfg_append(t, "]");
    case CFG_REAL3:
        for (int i = 0; i < 3; i++) {
            RT_TRY(cfg_append(t, "%s", i ? ", " : "["));
            RT_TRY(append_real(t, ((const double *)at)[i]));
        }
        return cfg_append(t, "]");
    }
out:
    return st;
}

rt_status rt_config_yaml(const rt_config *c, char **out)
{
    rt_status st = RT_OK;
    cfg_text t = {0};
    for (int i = 0; i < cfg_row_count(); i++) {
        const cfg_row *row = cfg_row_at(i);
        if (row->kind == CFG_SECTION) {
            RT_TRY(cfg_append(&t, "\n%s:\n", row->key));
            continue;
        }
        RT_TRY(cfg_append(&t, "%s%s: ", strchr(row->path, '.') ? "  " : "", row->key));
        RT_TRY(cfg_append_value(&t, c, row));
        RT_TRY(cfg_append(&t, "\n"));
    }
    *out = t.text;
    t.text = NULL;
out:
    rt_free(t.text);
    return st;
}

rt_status rt_config_canonical(const rt_config *c, const char *const *sections, int n, char **out)
{
    rt_status st = RT_OK;
    cfg_text t = {0};
    for (int s = 0; sections && s < n; s++) {
        const cfg_row *row = sections[s][0] ? cfg_find(sections[s]) : NULL;
        if (sections[s][0] && (!row || row->kind != CFG_SECTION)) {
            st = RT_RAISE(RT_ERR_ARG, "no config section `%s`", sections[s]);
            goto out;
        }
    }
    RT_TRY(cfg_append(&t, "%s", ""));
    for (int i = 0; i < cfg_row_count(); i++) {
        const cfg_row *row = cfg_row_at(i);
        bool wanted = !sections;
        for (int s = 0; sections && s < n; s++) wanted = wanted || cfg_in_section(row, sections[s]);
        if (!wanted || row->kind == CFG_SECTION) continue;
        RT_TRY(cfg_append(&t, "%s=", row->path));
        RT_TRY(cfg_append_value(&t, c, row));
        RT_TRY(cfg_append(&t, "\n"));
    }
    *out = t.text;
    t.text = NULL;
out:
    rt_free(t.text);
    return st;
}

static void print_type(FILE *f, const cfg_row *row)
{
    switch (row->kind) {
    case CFG_SECTION: break;
    case CFG_INT:
    case CFG_INTS:
        fprintf(f, row->kind == CFG_INTS ? "list of integers" : "integer");
        if (row->ihi == INT64_MAX)
            fprintf(f, " from %lld", (long long)row->ilo);
        else
            fprintf(f, " %lld to %lld", (long long)row->ilo, (long long)row->ihi);
        break;
    case CFG_REALS: fprintf(f, "list of numbers %g to %g", row->lo, row->hi); break;
    case CFG_REAL:
    case CFG_REAL3: fprintf(f, "%s %g to %g", row->kind == CFG_REAL3 ? "3 numbers" : "number", row->lo, row->hi); break;
    case CFG_BOOL: fprintf(f, "true or false"); break;
    case CFG_STR: fprintf(f, "string"); break;
    case CFG_PATH: fprintf(f, "path"); break;
    case CFG_PATHS: fprintf(f, "path or paths between commas"); break;
    case CFG_ENUM:
    case CFG_ENUMS:
        fprintf(f, row->kind == CFG_ENUMS ? "list of " : "");
        for (const char *const *p = row->choices; *p; p++) fprintf(f, "%s%s", p == row->choices ? "" : " | ", *p);
        break;
    }
}

rt_status rt_config_help(FILE *f)
{
    fprintf(f, "A config is a YAML file of sections and keys; every key but `version` may be left out.\n"
               "Relative paths are relative to the file's folder (in --set: to the working directory).\n");
    for (int i = 0; i < cfg_row_count(); i++) {
        const cfg_row *row = cfg_row_at(i);
        if (row->kind == CFG_SECTION) {
            fprintf(f, "\n%s:  # %s\n", row->key, row->help);
            continue;
        }
        const char *indent = strchr(row->path, '.') ? "  " : "";
        fprintf(f, "%s%s: %s\n%s    ", indent, row->key, row->def[0] ? row->def : "\"\"", indent);
        print_type(f, row);
        fprintf(f, "; %s\n", row->help);
    }
    return ferror(f) ? RT_RAISE(RT_ERR_IO, "cannot write the help") : RT_OK;
}
