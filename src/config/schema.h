/* The table of config.def as data, and the one place where text becomes a checked value. Internal to src/config. */
#ifndef RT_CONFIG_SCHEMA_H
#define RT_CONFIG_SCHEMA_H

#include "config/config.h"

typedef enum cfg_kind {
    CFG_SECTION,
    CFG_INT,
    CFG_REAL,
    CFG_BOOL,
    CFG_STR,
    CFG_PATH,
    CFG_PATHS,
    CFG_ENUM,
    CFG_INTS,
    CFG_ENUMS,
    CFG_REALS,
    CFG_REAL3
} cfg_kind;

typedef struct cfg_row {
    cfg_kind kind;
    const char *path; /* "teach.lr"; a section is "teach" */
    const char *key;  /* "lr" */
    const char *def, *help;
    int64_t ilo, ihi;           /* CFG_INT, CFG_INTS */
    double lo, hi;              /* CFG_REAL, CFG_REALS, CFG_REAL3 */
    const char *const *choices; /* NULL-terminated; CFG_ENUM, CFG_ENUMS */
    size_t offset;              /* in rt_config */
} cfg_row;

/* Where a value came from, for messages: a place in a file, or a --set argument. */
typedef struct cfg_src {
    const char *file;
    size_t line, column; /* from 1 */
    const char *set;     /* whole "section.key=value" when it came from the command line, else NULL */
} cfg_src;

typedef struct cfg_scalar {
    const char *text;
    size_t size;
    bool plain; /* not quoted */
    cfg_src src;
} cfg_scalar;

int cfg_row_count(void);
const cfg_row *cfg_row_at(int i);
bool cfg_is_list(const cfg_row *row);
const cfg_row *cfg_find(const char *path);                        /* NULL when absent */
const cfg_row *cfg_nearest(const char *section, const char *key); /* a likely meaning, or NULL */
bool cfg_in_section(const cfg_row *row, const char *section);     /* section "": the top level, sections included */

/* RT_ERR_CONFIG with the place in front. */
rt_status cfg_blame(const cfg_src *src, const char *fmt, ...) RT_PRINTF(2, 3);

/* Checks n scalars against row and stores them in c (releasing what was there). base is the folder that relative paths
 * belong to. On failure c is as it was. */
rt_status cfg_assign(rt_config *c, const cfg_row *row, const cfg_scalar *v, int n, const char *base);

/* Replaces what data.preset stands for; seen says where each row was given. RT_ERR_CONFIG naming the first key that was given
 * beside the preset and says something else. */
rt_status cfg_expand_preset(rt_config *c, const cfg_src *seen);

/* Growing text. text is owned. */
typedef struct cfg_text {
    char *text;
    size_t size, cap;
} cfg_text;
rt_status cfg_append(cfg_text *t, const char *fmt, ...) RT_PRINTF(2, 3);
/* The value as it is written in YAML flow style. */
rt_status cfg_append_value(cfg_text *t, const rt_config *c, const cfg_row *row);

#endif
