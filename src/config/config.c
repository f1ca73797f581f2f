/* YAML events to a filled struct, overrides, and the checks that need more than one key.
 *
 * The accepted language is a small part of YAML: one document, a map of sections, each a map of keys, each a scalar or
 * a list of scalars. Anchors, aliases, tags, directives, further documents and any other nesting are refused where they
 * appear; since the schema is three levels deep, nesting ends there, before libyaml has followed a hostile file
 * further. libyaml supplies the syntax only: what a scalar means is decided in schema.c. */
#include "config/config.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <yaml.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "config/schema.h"

enum { MAX_FILE_BYTES = 1 << 20, MAX_ROWS = 512 };

typedef struct reader {
    yaml_parser_t yaml;
    yaml_event_t ev;
    bool have_event;
    const char *file, *base;
    rt_config *c;
    cfg_src seen[MAX_ROWS]; /* by row; file NULL: not given */
} reader;

static cfg_src place(const reader *r, yaml_mark_t m)
{
    return (cfg_src){.file = r->file, .line = m.line + 1, .column = m.column + 1};
}

static rt_status syntax_error(const reader *r, const char *text, size_t size)
{
    const yaml_parser_t *y = &r->yaml;
    cfg_src at = place(r, y->problem_mark);
    if (y->error == YAML_MEMORY_ERROR) return RT_RAISE(RT_ERR_NOMEM, "%s: no memory to parse it", r->file);
    if (y->error == YAML_READER_ERROR) { /* the mark is not set: count up to the offending byte */
        at.line = at.column = 1;
        for (size_t i = 0; i < y->problem_offset && i < size; i++) {
            at.column++;
            if (text[i] == '\n') at.line++, at.column = 1;
        }
    }
    rt_status st = cfg_blame(&at, "not YAML: %s%s%s", y->problem ? y->problem : "syntax error", y->context ? " " : "",
                             y->context ? y->context : "");
    return rt_error_fix(
        st, "maps, lists and scalars only; indent with spaces; quote strings that hold any of `: # { } [ ]`");
}

static rt_status next(reader *r, const char *text, size_t size)
{
    if (r->have_event) yaml_event_delete(&r->ev);
    r->have_event = false;
    if (!yaml_parser_parse(&r->yaml, &r->ev)) return syntax_error(r, text, size);
    r->have_event = true;
    const yaml_char_t *anchor = NULL, *tag = NULL;
    switch (r->ev.type) {
    case YAML_ALIAS_EVENT: anchor = r->ev.data.alias.anchor; break;
    case YAML_SCALAR_EVENT: anchor = r->ev.data.scalar.anchor, tag = r->ev.data.scalar.tag; break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = r->ev.data.sequence_start.anchor, tag = r->ev.data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT: anchor = r->ev.data.mapping_start.anchor, tag = r->ev.data.mapping_start.tag; break;
    case YAML_DOCUMENT_START_EVENT:
        if (r->ev.data.document_start.version_directive ||
            r->ev.data.document_start.tag_directives.start != r->ev.data.document_start.tag_directives.end) {
            cfg_src at = place(r, r->ev.start_mark);
            return rt_error_fix(cfg_blame(&at, "YAML directives are not supported"),
                                "remove the line that starts with %%");
        }
        break;
    default: break;
    }
    if (!anchor && !tag) return RT_OK;
    cfg_src at = place(r, r->ev.start_mark);
    rt_status st = anchor ? cfg_blame(&at, "YAML anchors and aliases are not supported (`%.40s`)", (const char *)anchor)
                          : cfg_blame(&at, "YAML tags are not supported (`%.40s`)", (const char *)tag);
    return rt_error_fix(st, "write the value out");
}

static rt_status unknown_key(const cfg_src *at, const char *section, const char *key)
{
    const cfg_row *near = cfg_nearest(section, key);
    rt_status st = cfg_blame(at, "unknown key `%s%s%.60s`", section, section[0] ? "." : "", key);
    const cfg_row *dotted = at->set ? NULL : cfg_find(key);
    if (dotted && strchr(key, '.'))
        return rt_error_fix(st, "nest it: put `%s:` below the section `%.*s:`", dotted->key, (int)strcspn(key, "."),
                            key);
    if (near) return rt_error_fix(st, "did you mean `%s`?", near->path);
    char list[400];
    size_t n = 0;
    for (int i = 0; i < cfg_row_count() && n < sizeof list; i++)
        if (cfg_in_section(cfg_row_at(i), section))
            n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", n ? ", " : "", cfg_row_at(i)->key);
    return rt_error_fix(st, "keys %s%s: %s", section[0] ? "of " : "", section[0] ? section : "here", list);
}

static const char *event_noun(yaml_event_type_t t)
{
    switch (t) {
    case YAML_SEQUENCE_START_EVENT: return "a list";
    case YAML_MAPPING_START_EVENT: return "a map";
    default: return "a single value";
    }
}

/* The value of row: the current event starts it. Scalars are copied, because an event dies when the next one is read.
 */
static rt_status read_value(reader *r, const cfg_row *row, const char *text, size_t size)
{
    rt_status st = RT_OK;
    cfg_scalar v[RT_CFG_MAX_LIST];
    char *copy[RT_CFG_MAX_LIST] = {0};
    int n = 0;
    cfg_src at = place(r, r->ev.start_mark);
    bool list = r->ev.type == YAML_SEQUENCE_START_EVENT;

    if (list && !cfg_is_list(row)) {
        st = cfg_blame(&at, "`%s` must be a single value, got a list", row->path);
        st = rt_error_fix(st, "%s; default %s", row->help, row->def);
        goto out;
    }
    if (r->ev.type == YAML_MAPPING_START_EVENT) {
        st = cfg_blame(&at, "`%s` must be %s, got a map", row->path, cfg_is_list(row) ? "a list" : "a single value");
        st = rt_error_fix(st, "%s; default %s", row->help, row->def);
        goto out;
    }
    if (list) RT_TRY(next(r, text, size));
    while (r->ev.type != YAML_SEQUENCE_END_EVENT) {
        cfg_src here = place(r, r->ev.start_mark);
        if (r->ev.type != YAML_SCALAR_EVENT) {
            st = cfg_blame(&here, "an entry of `%s` must be a single value, got %s", row->path, event_noun(r->ev.type));
            goto out;
        }
        if (n == RT_CFG_MAX_LIST) {
            st = cfg_blame(&here, "`%s` has more than %d entries", row->path, RT_CFG_MAX_LIST);
            goto out;
        }
        size_t len = r->ev.data.scalar.length;
        RT_ALLOC(copy[n], len + 1, row->path);
        memcpy(copy[n], r->ev.data.scalar.value, len);
        v[n] = (cfg_scalar){copy[n], len, r->ev.data.scalar.style == YAML_PLAIN_SCALAR_STYLE, here};
        n++;
        if (!list) break;
        RT_TRY(next(r, text, size));
    }
    if (!n) {
        st = rt_error_fix(cfg_blame(&at, "`%s` is an empty list", row->path), "as in %s", row->def);
        goto out;
    }
    RT_TRY(cfg_assign(r->c, row, v, n, r->base));
out:
    for (int i = 0; i < n; i++) rt_free(copy[i]);
    return st;
}

/* The current event is the start of a map that belongs to section. */
static rt_status read_map(reader *r, const char *section, const char *text, size_t size)
{
    rt_status st = RT_OK;
    for (;;) {
        RT_TRY(next(r, text, size));
        if (r->ev.type == YAML_MAPPING_END_EVENT) break;
        cfg_src at = place(r, r->ev.start_mark);
        if (r->ev.type != YAML_SCALAR_EVENT) {
            st = cfg_blame(&at, "a key must be a name, got %s", event_noun(r->ev.type));
            goto out;
        }
        char key[128], path[160];
        snprintf(key, sizeof key, "%s", (const char *)r->ev.data.scalar.value);
        snprintf(path, sizeof path, "%s%s%s", section, section[0] ? "." : "", key);
        const cfg_row *row = r->ev.data.scalar.length < sizeof key ? cfg_find(path) : NULL;
        if (!row || !cfg_in_section(row, section)) {
            st = unknown_key(&at, section, key);
            goto out;
        }
        cfg_src *seen = &r->seen[row - cfg_row_at(0)];
        if (seen->file) {
            st = cfg_blame(&at, "duplicate key `%s`, first given at line %zu", row->path, seen->line);
            st = rt_error_fix(st, "remove one of the two");
            goto out;
        }
        RT_TRY(next(r, text, size));
        *seen = place(r, r->ev.start_mark);
        if (row->kind != CFG_SECTION) {
            RT_TRY(read_value(r, row, text, size));
        } else if (r->ev.type == YAML_MAPPING_START_EVENT) {
            RT_TRY(read_map(r, row->key, text, size));
        } else {
            st = cfg_blame(seen, "section `%s` must be a map of keys, got %s", row->key,
                           r->ev.type == YAML_SCALAR_EVENT && !r->ev.data.scalar.length ? "nothing"
                                                                                        : event_noun(r->ev.type));
            st = rt_error_fix(st, "indent its keys below it, or remove the section for its defaults");
            goto out;
        }
    }
out:
    return st;
}

static rt_status read_text(reader *r, const char *text, size_t size)
{
    rt_status st = RT_OK;
    cfg_src top = {.file = r->file, .line = 1, .column = 1};
    if (!yaml_parser_initialize(&r->yaml)) return RT_RAISE(RT_ERR_NOMEM, "%s: no memory for the parser", r->file);
    yaml_parser_set_encoding(&r->yaml, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r->yaml, (const unsigned char *)text, size);
    RT_TRY(next(r, text, size)); /* stream start */
    RT_TRY(next(r, text, size));
    if (r->ev.type == YAML_STREAM_END_EVENT) {
        st = rt_error_fix(cfg_blame(&top, "the config is empty"),
                          "start with `version: 1`; `retort help config` lists the keys");
        goto out;
    }
    RT_TRY(next(r, text, size));
    if (r->ev.type != YAML_MAPPING_START_EVENT) {
        cfg_src at = place(r, r->ev.start_mark);
        st = rt_error_fix(cfg_blame(&at, "a config is a map of sections, got %s", event_noun(r->ev.type)),
                          "start with `version: 1`; `retort help config` lists the keys");
        goto out;
    }
    RT_TRY(read_map(r, "", text, size));
    RT_TRY(next(r, text, size)); /* document end */
    RT_TRY(next(r, text, size));
    if (r->ev.type != YAML_STREAM_END_EVENT) {
        cfg_src at = place(r, r->ev.start_mark);
        st = rt_error_fix(cfg_blame(&at, "a second YAML document"), "one config a file: remove the `---`");
        goto out;
    }
    if (!r->seen[cfg_find("version") - cfg_row_at(0)].file) {
        st = rt_error_fix(cfg_blame(&top, "`version` is missing"), "add `version: 1`");
        goto out;
    }
out:
    if (r->have_event) yaml_event_delete(&r->ev);
    r->have_event = false;
    yaml_parser_delete(&r->yaml);
    return st;
}

/* "section.key=value". Scalars are taken as they are; a list is `a,b` or `[a, b]`. */
static rt_status apply_text(rt_config *c, const cfg_row *row, const char *value, const cfg_src *src, const char *base)
{
    cfg_scalar v[RT_CFG_MAX_LIST];
    int n = 0;
    size_t len = strlen(value);
    if (!cfg_is_list(row)) {
        v[0] = (cfg_scalar){value, len, true, *src};
        return cfg_assign(c, row, v, 1, base);
    }
    if (len >= 2 && value[0] == '[' && value[len - 1] == ']') value++, len -= 2;
    char part[RT_CFG_MAX_LIST][64];
    for (const char *p = value, *end = value + len; p <= end && n < RT_CFG_MAX_LIST;) {
        const char *comma = memchr(p, ',', (size_t)(end - p)), *stop = comma ? comma : end, *next_part = stop + 1;
        while (p < stop && *p == ' ') p++;
        while (stop > p && stop[-1] == ' ') stop--;
        if (stop - p >= 64) return cfg_blame(src, "an entry of `%s` is too long", row->path);
        memcpy(part[n], p, (size_t)(stop - p));
        part[n][stop - p] = 0;
        v[n] = (cfg_scalar){part[n], (size_t)(stop - p), true, *src};
        n++;
        if (comma && n == RT_CFG_MAX_LIST)
            return cfg_blame(src, "`%s` has more than %d entries", row->path, RT_CFG_MAX_LIST);
        p = next_part;
    }
    return cfg_assign(c, row, v, n, base);
}

static rt_status apply_override(reader *r, const char *arg, const char *cwd)
{
    cfg_src src = {.set = arg};
    char path[128];
    const char *eq = strchr(arg, '=');
    if (!eq || eq == arg || (size_t)(eq - arg) >= sizeof path)
        return rt_error_fix(cfg_blame(&src, "expected section.key=value"), "as in --set teach.epochs=30");
    memcpy(path, arg, (size_t)(eq - arg));
    path[eq - arg] = 0;
    const cfg_row *row = cfg_find(path);
    if (!row) {
        char section[128] = "";
        const char *dot = strchr(path, '.'), *key = path;
        if (dot) {
            memcpy(section, path, (size_t)(dot - path));
            section[dot - path] = 0;
            if (cfg_find(section))
                key = dot + 1;
            else
                section[0] = 0;
        }
        return unknown_key(&src, section, key);
    }
    if (row->kind == CFG_SECTION)
        return rt_error_fix(cfg_blame(&src, "`%s` is a section", path), "name one of its keys: %s.key=value", path);
    r->seen[row - cfg_row_at(0)] = src;
    return apply_text(r->c, row, eq + 1, &src, cwd);
}

/* --- checks across keys --------------------------------------------------------------------------------------------
 */
/* Where a key was given; its file at 1:1 when it has its default. */
static cfg_src given(const reader *r, const char *path)
{
    cfg_src s = r->seen[cfg_find(path) - cfg_row_at(0)];
    if (!s.file && !s.set) s = (cfg_src){.file = r->file, .line = 1, .column = 1};
    return s;
}

static rt_status check_dsa(const reader *r, const char *path, const char *strategy)
{
    static const char *const ops[] = {"color", "crop", "cutout", "flip", "scale", "rotate", NULL};
    if (!strcmp(strategy, "none")) return RT_OK;
    for (const char *p = strategy;; p++) {
        size_t n = strcspn(p, "_");
        bool known = false;
        for (int i = 0; ops[i]; i++) known = known || (strlen(ops[i]) == n && !strncmp(ops[i], p, n));
        if (!known) {
            cfg_src at = given(r, path);
            rt_status st = cfg_blame(&at, "`%s` names no augmentation: `%.*s`", path, (int)(n > 40 ? 40 : n), p);
            return rt_error_fix(st, "join some of color, crop, cutout, flip, scale, rotate with `_`, or write none");
        }
        p += n;
        if (!*p) return RT_OK;
    }
}

static rt_status check_whole(const reader *r)
{
    const rt_config *c = r->c;
    rt_status st = RT_OK;
    cfg_src at = given(r, "name");
    if (!c->name[0] ||
        strspn(c->name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != strlen(c->name) ||
        c->name[0] == '.' || strlen(c->name) > 100) {
        st = cfg_blame(&at, "`name` becomes a folder and cannot be `%.40s`", c->name);
        return rt_error_fix(st, "use letters, digits, '.', '_' and '-', at most 100, not '.' first");
    }
    if (strcmp(c->data.kind, "demo") && !c->data.train[0]) {
        at = given(r, "data.train");
        st = cfg_blame(&at, "`data.train` is not given");
        return rt_error_fix(st, "add the path of the training images (kind %s), or set data.kind to demo",
                            c->data.kind);
    }
    if (c->data.resize && c->data.resize < c->data.size) {
        at = given(r, "data.resize");
        st = cfg_blame(&at, "`data.resize` is %lld, less than the centre crop of %lld", (long long)c->data.resize,
                       (long long)c->data.size);
        return rt_error_fix(st, "use at least data.size, or 0 to squash");
    }
    if (!strcmp(c->network.arch, "convnet") && (c->data.size >> c->network.depth) < 1) {
        at = given(r, "network.depth");
        st = cfg_blame(&at, "`network.depth` %lld halves %lld pixels to nothing", (long long)c->network.depth,
                       (long long)c->data.size);
        return rt_error_fix(st, "each block halves the image: use a smaller depth or larger data.size");
    }
    if (c->teach.el2n_epoch > c->teach.epochs) {
        at = given(r, "teach.el2n_epoch");
        st = cfg_blame(&at, "`teach.el2n_epoch` is %lld, but teach.epochs is %lld", (long long)c->teach.el2n_epoch,
                       (long long)c->teach.epochs);
        return rt_error_fix(st, "use an epoch that is trained, or 0 for the last");
    }
    st = check_dsa(r, "dm.dsa", c->dm.dsa);
    if (st == RT_OK) st = check_dsa(r, "dc.dsa", c->dc.dsa);
    if (st == RT_OK) st = check_dsa(r, "datadam.dsa", c->datadam.dsa);
    if (st == RT_OK) st = check_dsa(r, "idc.dsa_match", c->idc.dsa_match);
    if (st == RT_OK) st = check_dsa(r, "idc.dsa_train", c->idc.dsa_train);
    if (st == RT_OK) st = check_dsa(r, "ncfm.dsa", c->ncfm.dsa);
    if (st == RT_OK) st = check_dsa(r, "ncfm.pretrain_dsa", c->ncfm.pretrain_dsa);
    if (st == RT_OK) st = check_dsa(r, "dsa.strategy", c->dsa.strategy);
    return st;
}

/* --- entry points --------------------------------------------------------------------------------------------------
 */
static rt_status set_defaults(reader *r, const char *cwd)
{
    rt_status st = RT_OK;
    for (int i = 0; i < cfg_row_count(); i++) {
        const cfg_row *row = cfg_row_at(i);
        cfg_src src = {.set = row->path};
        if (row->kind != CFG_SECTION) RT_TRYF(apply_text(r->c, row, row->def, &src, cwd), "default of %s", row->path);
    }
out:
    return st;
}

rt_status rt_config_parse(const char *name, const char *text, size_t size, const char *const *overrides, int n,
                          rt_config *out)
{
    rt_status st = RT_OK;
    rt_config c = {0};
    char folder[PATH_MAX], base[PATH_MAX], cwd[PATH_MAX];
    reader r = {.file = name, .base = base, .c = &c};
    _Static_assert(MAX_ROWS >= 128, "room for every row");

    if (cfg_row_count() > MAX_ROWS)
        return RT_RAISE(RT_ERR_INTERNAL, "%d config rows, room for %d", cfg_row_count(), MAX_ROWS);
    if (!getcwd(cwd, sizeof cwd)) return RT_RAISE_ERRNO("working directory");
    if ((size_t)snprintf(folder, sizeof folder, "%s", name) >= sizeof folder)
        return RT_RAISE(RT_ERR_USAGE, "%.40s...: path too long", name);
    char *slash = strrchr(folder, '/');
    if (!slash)
        snprintf(folder, sizeof folder, ".");
    else
        slash[slash == folder] = 0;
    if (!realpath(folder, base)) return RT_RAISE_ERRNO("%s", folder);

    RT_TRY(set_defaults(&r, cwd));
    RT_TRY(read_text(&r, text, size));
    for (int i = 0; i < n; i++) RT_TRY(apply_override(&r, overrides[i], cwd));
    RT_TRY(cfg_expand_preset(&c, r.seen));
    RT_TRY(check_whole(&r));
    if (!c.run.dir[0]) {
        rt_free(c.run.dir);
        c.run.dir = rt_asprintf("%s/runs/%s", strcmp(base, "/") ? base : "", c.name);
        if (!c.run.dir) {
            st = RT_RAISE(RT_ERR_NOMEM, "no memory for run.dir");
            goto out;
        }
    }
    *out = c;
    memset(&c, 0, sizeof c);
out:
    rt_config_fini(&c);
    return st;
}

rt_status rt_config_load(const char *path, const char *const *overrides, int n, rt_config *out)
{
    rt_status st = RT_OK;
    void *text = NULL;
    size_t size = 0;
    if (rt_fs_is_dir(path)) {
        st = RT_RAISE(RT_ERR_CONFIG, "%s is a folder, expected a YAML file", path);
        goto out;
    }
    if (rt_fs_size(path) > MAX_FILE_BYTES) {
        st = RT_RAISE(RT_ERR_CONFIG, "%s: %lld bytes, a config has at most %d", path, (long long)rt_fs_size(path),
                      MAX_FILE_BYTES);
        goto out;
    }
    RT_TRYF(rt_fs_read(path, MAX_FILE_BYTES, &text, &size), "read the config");
    RT_TRY(rt_config_parse(path, text, size, overrides, n, out));
out:
    rt_free(text);
    return st;
}

void rt_config_fini(rt_config *c)
{
    if (!c) return;
    for (int i = 0; i < cfg_row_count(); i++) {
        const cfg_row *row = cfg_row_at(i);
        if (row->kind == CFG_STR || row->kind == CFG_PATH || row->kind == CFG_PATHS) {
            char **at = (char **)((char *)c + row->offset);
            rt_free(*at);
            *at = NULL;
        }
    }
}
