/* What the files of this folder share: canonical JSON and durable plain writes. Not for other modules. */
#ifndef RT_ARTEFACT_INTERNAL_H
#define RT_ARTEFACT_INTERNAL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "artefact/artefact.h"
#include "retort/status.h"

#define RT_MANIFEST_NAME "manifest.json"
#define RT_RUN_NAME "run.json"

enum {
    RT_MANIFEST_VERSION = 1,
    RT_MANIFEST_MAX_BYTES = 256 << 20 /* 1.3 million files at ~200 bytes */
};

typedef struct rt_piece {
    const void *p;
    size_t n;
} rt_piece;

/* The one text of a JSON value: keys sorted by bytes, two spaces of indent, reals with 17 significant digits, final
 * newline. Equal values give equal bytes. *text is owned (rt_free). */
rt_status rt_json_text(const json_t *v, char **text);
rt_status rt_json_parse(const char *name, const char *text, size_t n, json_t **out); /* duplicates rejected; owned */
/* Reads and parses a file; *text (may be NULL) gets the owned, NUL-terminated source. */
rt_status rt_json_read(const char *path, size_t max_bytes, json_t **out, char **text);
/* SHA-256 of rt_json_text. hex has RT_HASH_HEX bytes. */
rt_status rt_json_hash(const json_t *v, char *hex);

/* Creates or truncates path and writes the pieces. Not atomic: for files inside an uncommitted folder. Without sync it is
 * left to rt_commit_finish to make the file durable. */
rt_status rt_write_pieces(const char *path, const rt_piece *piece, int n, bool sync);
/* The same through `<path>.tmp.<pid>` and rename, then fsync of the folder. The temporary is removed on failure. */
rt_status rt_write_atomic_pieces(const char *path, const rt_piece *piece, int n);
rt_status rt_fsync_parent(const char *path);

/* Makes every file and folder below root durable and adds {bytes, sha256} of every file to `files` (seal.c). */
rt_status rt_artefact_seal(const char *root, json_t *files);

/* Removes a committed folder so that no moment leaves a valid-looking half: its manifest goes first. */
rt_status rt_artefact_remove(const char *path);

/* True for a relative path without empty, "." or ".." parts: a name a manifest may hold. */
bool rt_artefact_name_ok(const char *name);

/* --- what set.c, set_write.c and set_read.c share --------------------------------------------------------------------- */
enum { RT_SET_SIDE_MAX = 1 << 16, RT_SET_FACTOR_MAX = 16, RT_SET_FOLDER = 116, RT_SET_TEXT_MAX = 256 << 20 };
/* All values of a set whose arrays are there. `numeric` is what a value that is not finite means, `broken` any other fault:
 * NUMERIC and ARG when a method made them, FORMAT when a file holds them. */
rt_status rt_set_check(const rt_set *s, const char *where, rt_status numeric, rt_status broken);
/* RT_OK for text that starts with a header line, ends with a newline and holds no NUL byte. */
rt_status rt_set_check_trace(const char *text, size_t n, const char *where, rt_status broken);
/* 8 bits of image i: n = h*w*3 bytes. */
void rt_set_rgb(const rt_set *s, int64_t i, uint8_t *rgb);
/* True when the class names are in byte order and fit as folder names; folder of a class, RT_SET_FOLDER bytes. */
bool rt_set_plain_names(const rt_classes *c);
void rt_set_folder(const rt_classes *c, int32_t label, bool plain, char *out);

#endif
