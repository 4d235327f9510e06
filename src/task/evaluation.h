/* The body of POST /execute: read, checked, and put into the normalised form that is the task's `params`.
 *
 * One reader serves both ends: evaluation_read() takes a client's JSON and names every bad field; evaluation_load()
 * takes what evaluation_write() had written. */
#ifndef ASSAY_TASK_EVALUATION_H
#define ASSAY_TASK_EVALUATION_H

#include <stdbool.h>
#include <stdint.h>

#include "assay/executor.h"
#include "assay/task.h"
#include "base/arena.h"
#include "base/buffer.h"
#include "base/bytes.h"

struct yyjson_val;

enum test_compare { COMPARE_TRIMMED, COMPARE_EXACT, COMPARE_NUMERIC, COMPARE_REGEX };

struct evaluation_test {
	struct bytes name;
	struct job_run run; /* timeout, stdin and args default to the evaluation's */
	struct bytes expected; /* any bytes; absent: only the exit code counts */
	enum test_compare compare;
	double points;
	bool hidden;
};

/* All memory is the arena's that it was read into. */
struct evaluation {
	struct bytes language;
	/* `code` is the only one, under the name "" until the language gives it one, or under that of `entrypoint` */
	const struct job_file *files;
	size_t file_count;
	struct bytes entrypoint;
	struct bytes stdin_data;
	const struct bytes *args;
	size_t arg_count;
	const struct bytes *env; /* NAME=value */
	size_t env_count;
	int64_t timeout_us;
	int64_t memory_bytes;
	int64_t cpu_millis;
	const struct evaluation_test *tests;
	size_t test_count;
	bool fail_fast;
	struct bytes image;
};

/* The rest of the body: columns of the task rather than part of the evaluation. */
struct evaluation_request {
	struct evaluation evaluation;
	struct bytes eval_id;
	struct bytes queue;
	struct bytes executor;
	int priority; /* default where not given */
	int max_attempts; /* default where not given */
	int64_t run_after_us;
	struct bytes callback_url;
	struct bytes metadata; /* JSON text */
};

#define EVALUATION_DIGEST_SIZE 33

/* Which callback_url may be given. */
enum callback_policy {
	CALLBACK_OFF, /* none: there is no secret to sign with */
	CALLBACK_HTTPS,
	CALLBACK_HTTP_TOO,
};

struct evaluation_limits {
	size_t source_max; /* bytes of code and files, those of tests included: 2 MiB */
	int64_t timeout_max_us; /* 3,600 s */
	int64_t memory_max;
	int64_t cpu_max;
	int max_attempts_max;
	int max_attempts_default;
	int priority_default;
	int64_t timeout_default_us;
	enum callback_policy callbacks;
	/* The images that may be named, as patterns (fnmatch(3), where `*` stands for any characters, `/` too): none, no image. */
	const char *const *images;
	size_t image_count;
};

struct field_error {
	const char *pointer; /* RFC 6901, "/tests/3/expected" */
	const char *detail;
};

struct field_errors {
	struct field_error *items; /* in the arena; at most 32 are kept */
	size_t count;
	bool too_large; /* the fault is its size, not what it says */
};

/* Bounds beside those of CONTRACT.md: 1,000 files in a list and 10,000 in all; 1,000 args and 1,000 variables of 256
 * KiB in all; paths of 1,024 bytes with parts of 255; metadata nested 56 deep; memory from 4Mi.
 *
 * Reads a client's object. Returns true when there is no error; otherwise `errors` has at least one. What is kept is
 * copied into the arena, except for strings that need no decoding, which point into `object`'s document: it must live
 * as long. `prefix` goes before every pointer ("" or "/params"). Regular expressions are compiled on trial. */
bool evaluation_read(struct yyjson_val *object, const char *prefix, const struct evaluation_limits *limits,
	struct arena *arena, struct evaluation_request *ret_request, struct field_errors *errors);

/* What idempotency keys are compared by: version byte 1 and SHA-256 of the canonical form of what was sent (RFC 8785 in
 * spirit: keys sorted, numbers and strings in one form), before defaults. `object` is nested less deeply than
 * EVALUATION_DEPTH_MAX, as what evaluation_read() took is. False where memory does not suffice. */
bool evaluation_digest(struct yyjson_val *object, uint8_t ret_digest[static EVALUATION_DIGEST_SIZE]);
#define EVALUATION_DEPTH_MAX 64

/* The normalised JSON object of `params`, defaults filled in; bytes that are not clean UTF-8 go as base64. */
void evaluation_write(const struct evaluation *evaluation, struct buffer *buffer);

/* Reads what evaluation_write() wrote, everything copied into the arena. An error means a row altered by hand. */
int evaluation_load(
	struct bytes params, struct arena *arena, struct evaluation *ret_evaluation, struct err *err) MUST_CHECK;

/* Bytes of code, files and standard input, those of tests included. */
size_t evaluation_input_size(const struct evaluation *evaluation);

/* Whether this may be an `eval_id` or an `Idempotency-Key`: 1 to 200 printable characters of UTF-8. */
bool evaluation_key_valid(struct bytes key);

/* Adds one error, formatted, unless there are 32 already. */
void field_errors_add(struct field_errors *errors, struct arena *arena, const char *pointer, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

#endif
