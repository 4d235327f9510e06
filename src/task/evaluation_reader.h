/* Inside of evaluation_read() and evaluation_load(): typed reading of JSON values, with a path that becomes a JSON
 * pointer only when there is something to complain about. Every function adds its own errors and returns false (or
 * absent) after one. */
#ifndef ASSAY_TASK_EVALUATION_READER_H
#define ASSAY_TASK_EVALUATION_READER_H

#include <stdarg.h>
#include <yyjson.h>

#include "task/evaluation.h"

struct reader {
	struct arena *arena; /* borrowed */
	const struct evaluation_limits *limits; /* borrowed */
	struct field_errors *errors; /* borrowed */
	bool copy; /* strings are copied into the arena instead of pointing into the document */
	size_t source_bytes; /* of code and files so far */
	size_t file_count; /* in all lists so far */
};

/* Where a value stands: a chain on the stack, from the value up to the root. */
struct path {
	const struct path *parent; /* NULL: the root, whose name is the prefix as it is */
	struct bytes name; /* absent: an element of an array */
	size_t index;
};

#define PATH_NAME(parent_, name_) ((struct path){ .parent = (parent_), .name = (name_) })
#define PATH_INDEX(parent_, index_) ((struct path){ .parent = (parent_), .index = (index_) })

void reader_fail(struct reader *reader, const struct path *path, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Sorts an object's members into `values`, one slot per name of `names`; what is unknown or given twice is an error. */
bool read_object(struct reader *reader, const struct path *path, yyjson_val *value, const struct bytes *names,
	size_t name_count, yyjson_val **values);
bool read_array(struct reader *reader, const struct path *path, yyjson_val *value, size_t min, size_t max);
/* Any string, U+0000 included. */
bool read_raw_text(struct reader *reader, const struct path *path, yyjson_val *value, struct bytes *ret_text);
/* A string of min to max bytes without U+0000. */
bool read_text(struct reader *reader, const struct path *path, yyjson_val *value, size_t min, size_t max,
	struct bytes *ret_text);
/* Bytes: a string, decoded as `encoding` says (NULL, "utf8" or "base64"). */
bool read_content(struct reader *reader, const struct path *path, yyjson_val *value, const struct path *encoding_path,
	yyjson_val *encoding, struct bytes *ret_content);
bool read_bool(struct reader *reader, const struct path *path, yyjson_val *value, bool *ret_value);
bool read_int(struct reader *reader, const struct path *path, yyjson_val *value, int min, int max, int *ret_value);
/* A number of seconds above 0. */
bool read_duration(struct reader *reader, const struct path *path, yyjson_val *value, int64_t max_us, int64_t *ret_us);
/* An array of strings without U+0000. */
bool read_args(struct reader *reader, const struct path *path, yyjson_val *value, const struct bytes **ret_args,
	size_t *ret_count);

/* Names of members, for read_object(). */
#define NAME(text) { (text), sizeof(text) - 1 }

/* ---- evaluation.c ---- */
/* 1 to 200 printable characters. */
bool read_key(struct reader *reader, const struct path *path, yyjson_val *value, struct bytes *ret_text);

/* ---- evaluation_tests.c ---- */
/* `evaluation` has been read but for its tests; `base` are the sorted paths of its files. */
bool read_tests(struct reader *reader, const struct path *path, yyjson_val *value, struct evaluation *evaluation,
	const struct bytes *base, size_t base_count);

/* ---- evaluation_files.c ---- */
bool read_path(struct reader *reader, const struct path *path, yyjson_val *value, struct bytes *ret_path);
/* ret_sorted: the paths in the order of path_compare(), for path_clashes(). */
bool read_files(struct reader *reader, const struct path *path, yyjson_val *value, size_t min,
	const struct job_file **ret_files, size_t *ret_count, const struct bytes **ret_sorted);
/* Counts bytes of code towards the limit. */
bool read_source_size(struct reader *reader, const struct path *path, size_t size);
/* Whether one of the two is a directory of the other, for any path of a sorted list without such clashes of its own. */
bool path_clashes(const struct bytes *sorted, size_t count, struct bytes path);
bool path_listed(const struct bytes *sorted, size_t count, struct bytes path);

#endif
