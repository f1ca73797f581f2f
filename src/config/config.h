/* The run's configuration: one struct, filled from a strict YAML file and `--set` overrides.
 *
 * config.def is the only list of keys. Strings are never NULL. An enum value is a `const char *` to one of the choices
 * in the table, so it can be handed to whoever looks names up (backend, data kind, architecture, method registry).
 *
 * Paths: a relative path in the file means relative to the file's own folder, so that a run does not depend on where
 * the program was started; one in a `--set` means relative to the working directory, as in any command. Both are stored
 * absolute, so the echo means the same wherever it lies. */
#ifndef RT_CONFIG_CONFIG_H
#define RT_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "retort/status.h"

enum { RT_CFG_MAX_LIST = 16 };

typedef struct rt_int_list {
    int32_t n;
    int64_t v[RT_CFG_MAX_LIST];
} rt_int_list;
typedef struct rt_real_list {
    int32_t n;
    double v[RT_CFG_MAX_LIST];
} rt_real_list;
typedef struct rt_name_list {
    int32_t n;
    const char *v[RT_CFG_MAX_LIST]; /* static storage */
} rt_name_list;

typedef struct rt_config {
#define RT_SECTION(name, help) struct {
#define RT_SECTION_END(name)                                                                                           \
    }                                                                                                                  \
    name;
#define RT_INT(at, key, def, lo, hi, help) int64_t key;
#define RT_REAL(at, key, def, lo, hi, help) double key;
#define RT_BOOL(at, key, def, help) bool key;
#define RT_STR(at, key, def, help) char *key;
#define RT_PATH(at, key, def, help) char *key;
#define RT_PATHS(at, key, def, help) char *key;
#define RT_ENUM(at, key, def, choices, help) const char *key;
#define RT_INTS(at, key, def, lo, hi, help) rt_int_list key;
#define RT_ENUMS(at, key, def, choices, help) rt_name_list key;
#define RT_REALS(at, key, def, lo, hi, help) rt_real_list key;
#define RT_REAL3(at, key, def, lo, hi, help) double key[3];
#include "config/config.def"
#undef RT_SECTION
#undef RT_SECTION_END
#undef RT_INT
#undef RT_REAL
#undef RT_BOOL
#undef RT_STR
#undef RT_PATH
#undef RT_PATHS
#undef RT_ENUM
#undef RT_INTS
#undef RT_ENUMS
#undef RT_REALS
#undef RT_REAL3
} rt_config;

/* Reads path, then applies overrides ("section.key=value", n of them) in order through the same checks. Every key that
 * is not given has its default. Errors are RT_ERR_CONFIG and name path:line:column (or the --set); a file that does not
 * exist is RT_ERR_MISSING. *out is untouched on failure; release with rt_config_fini. */
rt_status rt_config_load(const char *path, const char *const *overrides, int n, rt_config *out);
/* The same from text; `name` stands for the file in messages and its folder resolves paths. */
rt_status rt_config_parse(const char *name, const char *text, size_t size, const char *const *overrides, int n,
                          rt_config *out);
void rt_config_fini(rt_config *c); /* accepts NULL and a zeroed struct */

/* The resolved configuration as a YAML file with every key; loading it again gives an equal struct. Returns owned. */
rt_status rt_config_yaml(const rt_config *c, char **out);
/* Canonical text of some sections ("" is the top level: version, name, seed), one `section.key=value` a line in table
 * order, numbers with 17 digits: what stage hashes are made of. The hash of `teach` does not change when `eval` does.
 * sections NULL: all. Returns owned. RT_ERR_ARG for an unknown section. */
rt_status rt_config_canonical(const rt_config *c, const char *const *sections, int n, char **out);
/* Every key with type, range, default and meaning, for `retort help config`. */
rt_status rt_config_help(FILE *f);
/* Optimal string alignment distance, ASCII case ignored; 40 when either has more than 40 bytes: for "did you mean". */
int rt_edit_distance(const char *a, const char *b);

#endif
