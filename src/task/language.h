/* Languages are data: a YAML file of definitions (src/task/languages.yaml is the one that comes with the program), read
 * once.
 *
 *   python:
 *     aliases: [python3, py]
 *     source: main.py                     # the name `code` gets
 *     run: [/usr/bin/python3, "{entrypoint}"]
 *     package: python3                    # what brings it on Debian and Ubuntu
 *     image: …                            # container image, for executors that use images
 *   c:
 *     source: main.c
 *     compile: [/usr/bin/gcc, -O2, -pipe, -o, "{binary}", "{sources:.c}", -lm]
 *     run: ["{binary}"]
 *
 * Words in braces: {entrypoint} the file to run, {binary} where the compiler puts the program, {sources:.EXT} all files
 * of the job whose names end so, each a word of its own. */
#ifndef ASSAY_TASK_LANGUAGE_H
#define ASSAY_TASK_LANGUAGE_H

#include <stddef.h>

#include "base/bytes.h"
#include "base/err.h"

struct language {
	const char *name;
	const char *const *aliases; /* NULL-terminated */
	const char *source;
	const char *const *compile; /* argv, NULL-terminated; NULL: nothing to compile */
	const char *const *run; /* argv, NULL-terminated */
	const char *const *env; /* NAME=value, NULL-terminated; may be NULL */
	const char *package;
	const char *image; /* may be NULL */
};

struct languages;

/* `text` is the file's content, not needed afterwards; `name` of the file is for messages. */
int languages_parse(struct bytes text, const char *name, struct languages **ret_languages, struct err *err) MUST_CHECK;
void languages_free(struct languages *languages);
/* By name or alias; NULL where there is none. Lives as long as `languages`. */
const struct language *languages_find(const struct languages *languages, struct bytes name);
size_t languages_count(const struct languages *languages);
const struct language *languages_at(const struct languages *languages, size_t index);
/* The definitions built into the program. */
struct bytes languages_builtin(void);

#endif
