/* The body of POST /execute, made from what was read and what the options say. */
#ifndef ASSAY_CLI_SUBMISSION_H
#define ASSAY_CLI_SUBMISSION_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"
#include "base/err.h"
#include "cli/source.h"
#include "task/language.h"

/* All strings are borrowed; NULL: the option was not given and the service's default holds. */
struct submission_options {
	const char *language, *entrypoint, *memory, *cpu, *queue, *executor, *image, *eval_id;
	const char **args;
	size_t arg_count;
	const char **env; /* NAME=VALUE, checked */
	size_t env_count;
	double timeout_s; /* 0: not given */
	long priority, max_attempts; /* -1: not given */
	bool has_stdin, fail_fast;
	struct buffer stdin_data;
	struct buffer tests, metadata; /* JSON, checked; empty: not given */
	char run_after[32]; /* RFC 3339; empty: not given */
};

/* Appends the JSON object. An error (-EINVAL) is one for the user: no telling which language, which file to run. */
int submission_write(const struct submission_options *options, const struct source *source,
	const struct languages *languages, struct buffer *to, struct err *err) MUST_CHECK;

#endif
