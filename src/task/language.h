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
 *   grader:
 *     source: main.py
 *     image: registry.example/grader:3
 *     report: watch                       # the image runs as it is; see enum language_report
 *
 * Words in braces: {entrypoint} the file to run, {binary} where the compiler puts the program, {sources:.EXT} all files
 * of the job whose names end so, each a word of its own. */
#ifndef ASSAY_TASK_LANGUAGE_H
#define ASSAY_TASK_LANGUAGE_H

#include <stddef.h>

#include "base/bytes.h"
#include "base/err.h"

/* Who tells what becomes of the code. The operator's choice alone, since the last two trust the image. */
enum language_report {
	LANGUAGE_REPORT_WRAPPER, /* assay-wrap, in the container or outside; the only one that sandboxes know */
	/* Nobody: the image's own entry point runs, untouched, and its pod is looked at. `run` are its arguments, and may be
	 * missing, as `package` may; there is no compile. */
	LANGUAGE_REPORT_WATCH,
	LANGUAGE_REPORT_PUBLISH, /* the same, and the image publishes its events on Redis by itself */
};

struct language {
	const char *name;
	const char *const *aliases; /* NULL-terminated */
	const char *source;
	const char *const *compile; /* argv, NULL-terminated; NULL: nothing to compile */
	const char *const *run; /* argv, NULL-terminated; empty only where the image has a command of its own */
	const char *const *env; /* NAME=value, NULL-terminated; may be NULL */
	const char *package; /* NULL only where the image has all */
	const char *image; /* may be NULL; never with another report than the wrapper's */
	enum language_report report;
};

/* Of code that an image of LANGUAGE_REPORT_PUBLISH gets in its environment: Linux takes 128 KiB for a variable with its name. */
#define LANGUAGE_CODE_MAX ((128 << 10) - 64)

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
