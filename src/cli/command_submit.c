/* submit: reads the options and the files, sends them, and stays with one evaluation or a batch if asked to. */
#include <errno.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"
#include "cli/batch.h"
#include "cli/cli.h"
#include "cli/exit_code.h"
#include "cli/submission.h"
#include "cli/submit.h"
#include "cli/view.h"
#include "cli/watch.h"

enum {
	SUBMIT_LANGUAGE = OPTION_OWN,
	SUBMIT_ENTRYPOINT,
	SUBMIT_STDIN,
	SUBMIT_ARG,
	SUBMIT_ENV,
	SUBMIT_TIMEOUT,
	SUBMIT_MEMORY,
	SUBMIT_CPU,
	SUBMIT_TESTS,
	SUBMIT_FAIL_FAST,
	SUBMIT_PRIORITY,
	SUBMIT_QUEUE,
	SUBMIT_EXECUTOR,
	SUBMIT_IMAGE,
	SUBMIT_EVAL_ID,
	SUBMIT_MAX_ATTEMPTS,
	SUBMIT_RUN_AFTER,
	SUBMIT_METADATA,
	SUBMIT_WAIT,
	SUBMIT_FOLLOW,
	SUBMIT_RAW,
};

#define JSON_FILE_MAX (16 << 20)

static const struct option_spec submit_options[] = {
	{ SUBMIT_LANGUAGE, 'l', "language", "NAME", "else told from the file's name or its first line" },
	{ SUBMIT_ENTRYPOINT, 'e', "entrypoint", "PATH", "the file of a directory that is run" },
	{ SUBMIT_STDIN, 'i', "stdin", "FILE", "what the program reads on standard input; - is this program's own" },
	{ SUBMIT_ARG, 0, "arg", "TEXT", "an argument of the program; may be given often" },
	{ SUBMIT_ENV, 0, "env", "NAME=VALUE", "a variable of its environment; may be given often" },
	{ SUBMIT_TIMEOUT, 't', "timeout", "TIME", "wall-clock: seconds, or 5m, 1h" },
	{ SUBMIT_MEMORY, 'm', "memory", "QUANTITY", "memory limit, such as 512Mi" },
	{ SUBMIT_CPU, 'c', "cpu", "QUANTITY", "processor limit, such as 500m or 2" },
	{ SUBMIT_TESTS, 0, "tests", "FILE",
		"a JSON array of tests, each {name, stdin, args, expected, compare, points, …}" },
	{ SUBMIT_FAIL_FAST, 0, "fail-fast", NULL, "end at the first test that fails" },
	{ SUBMIT_PRIORITY, 'p', "priority", "0-9", "larger is sooner" },
	{ SUBMIT_QUEUE, 'q', "queue", "NAME", "which queue it waits in" },
	{ SUBMIT_EXECUTOR, 0, "executor", "NAME", "where it runs" },
	{ SUBMIT_IMAGE, 0, "image", "IMAGE", "container image, where the executor has such" },
	{ SUBMIT_EVAL_ID, 0, "eval-id", "ID", "your own name for it; submitting the same again starts nothing" },
	{ SUBMIT_MAX_ATTEMPTS, 0, "max-attempts", "N", "how often it is tried when machines fail" },
	{ SUBMIT_RUN_AFTER, 0, "run-after", "TIME", "not before: RFC 3339, or +90s, +5m, +2h from now" },
	{ SUBMIT_METADATA, 0, "metadata", "JSON", "kept with the task; @FILE reads it from a file" },
	{ SUBMIT_WAIT, 'w', "wait", NULL, "wait for the end; show the output; end with its exit code" },
	{ SUBMIT_FOLLOW, 'f', "follow", NULL, "the same, with the output as it comes" },
	{ SUBMIT_RAW, 0, "raw", NULL, "let the output's control characters reach the terminal" },
	{ 0 },
};

static int fail(struct cli *cli, const struct err *err)
{
	if (err->code == -EINVAL)
		return cli_usage(cli, "submit", "%s", err->message);
	term_fail(&cli->term, "%s", err->message);
	return EXIT_NOT_FOUND;
}

/* A file of JSON, checked to be that, so that it can be put into the body as it is. */
static int read_json(
	const char *what, const char *path, const char *text, bool array, struct buffer *to, struct err *err)
{
	if (path && file_read(path, JSON_FILE_MAX, to, err) < 0)
		return err->code;
	if (!path)
		buffer_append_string(to, text);
	yyjson_read_err error;
	yyjson_doc *doc = yyjson_read_opts(to->data, to->len, 0, NULL, &error);
	bool fits = doc && (!array || yyjson_is_arr(yyjson_doc_get_root(doc)));
	bool is_json = doc != NULL;
	yyjson_doc_free(doc);
	if (!is_json)
		return err_set(err, -EINVAL, "%s: not JSON: %s at byte %zu", what, error.msg, error.pos);
	return fits ? 0 : err_set(err, -EINVAL, "%s: a JSON array of tests is wanted", what);
}

static int read_number(const char *name, const char *text, int64_t min, int64_t max, long *ret, struct err *err)
{
	int64_t number;
	if (!text_to_int(bytes_of(text), min, max, &number))
		return err_set(err, -EINVAL, "--%s is a number from %lld to %lld, not \"%s\"", name, (long long)min,
			(long long)max, text);
	*ret = (long)number;
	return 0;
}

/* "+5m" from now, else as it is: the service knows best what a date is. */
static int read_run_after(const char *text, char ret[static 32], struct err *err)
{
	double seconds;
	int64_t us;
	if (text[0] == '+' && duration_parse(text + 1, &seconds)) {
		clock_format(clock_wall_us() + (int64_t)(seconds * 1e6), ret);
		return 0;
	}
	if (strlen(text) >= 32 || !clock_parse(bytes_of(text), &us))
		return err_set(
			err, -EINVAL, "--run-after is a time such as 2026-11-21T18:00:00Z or +5m, not \"%s\"", text);
	memcpy(ret, text, strlen(text) + 1);
	return 0;
}

static int read_option(const struct parsed_option *option, struct submission_options *options, struct submit_mode *mode,
	struct err *err)
{
	const char *value = option->value;
	const struct {
		int id;
		const char **to;
	} texts[] = {
		{ SUBMIT_LANGUAGE, &options->language },
		{ SUBMIT_ENTRYPOINT, &options->entrypoint },
		{ SUBMIT_MEMORY, &options->memory },
		{ SUBMIT_CPU, &options->cpu },
		{ SUBMIT_QUEUE, &options->queue },
		{ SUBMIT_EXECUTOR, &options->executor },
		{ SUBMIT_IMAGE, &options->image },
		{ SUBMIT_EVAL_ID, &options->eval_id },
	};
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (texts[i].id == option->id)
			*texts[i].to = value;
	switch (option->id) {
	case SUBMIT_STDIN:
		options->has_stdin = true;
		buffer_clear(&options->stdin_data);
		return file_read(value, SOURCE_MAX, &options->stdin_data, err);
	case SUBMIT_ARG:
		options->args[options->arg_count++] = value;
		return 0;
	case SUBMIT_ENV:
		if (!strchr(value, '=') || value[0] == '=')
			return err_set(err, -EINVAL, "--env is NAME=VALUE, not \"%s\"", value);
		options->env[options->env_count++] = value;
		return 0;
	case SUBMIT_TIMEOUT:
		if (!duration_parse(value, &options->timeout_s))
			return err_set(err, -EINVAL, "--timeout is a time such as 30, 90s or 5m, not \"%s\"", value);
		return 0;
	case SUBMIT_TESTS:
		buffer_clear(&options->tests);
		return read_json(value, value, NULL, true, &options->tests, err);
	case SUBMIT_METADATA:
		buffer_clear(&options->metadata);
		return read_json(
			"--metadata", value[0] == '@' ? value + 1 : NULL, value, false, &options->metadata, err);
	case SUBMIT_PRIORITY:
		return read_number("priority", value, 0, 9, &options->priority, err);
	case SUBMIT_MAX_ATTEMPTS:
		return read_number("max-attempts", value, 1, 25, &options->max_attempts, err);
	case SUBMIT_RUN_AFTER:
		return read_run_after(value, options->run_after, err);
	case SUBMIT_FAIL_FAST:
		options->fail_fast = true;
		return 0;
	case SUBMIT_WAIT:
		mode->wait = true;
		return 0;
	case SUBMIT_FOLLOW:
		mode->wait = mode->follow = true;
		return 0;
	case SUBMIT_RAW:
		mode->raw = true;
		return 0;
	}
	return 0;
}

static int check(const struct submission_options *options, const struct submit_mode *mode,
	const struct parsed_args *args, struct err *err)
{
	size_t inputs = 0;
	for (size_t i = 0; i < args->operand_count; i++)
		inputs += strcmp(args->operands[i], "-") == 0;
	for (size_t i = 0; i < args->option_count; i++)
		inputs += args->options[i].id == SUBMIT_STDIN && strcmp(args->options[i].value, "-") == 0;
	if (inputs > 1)
		return err_set(err, -EINVAL, "standard input can be read once: - stands there more often");
	if (args->operand_count == 1)
		return 0;
	if (options->eval_id)
		return err_set(err, -EINVAL, "--eval-id names one evaluation, and there are %zu", args->operand_count);
	if (mode->follow)
		return err_set(err, -EINVAL, "--follow shows one evaluation, and there are %zu: --wait waits for all",
			args->operand_count);
	return 0;
}

/* The bodies of all operands. */
static int read_sources(const struct submission_options *options, const struct parsed_args *args,
	const struct languages *languages, struct buffer *bodies, struct err *err)
{
	for (size_t i = 0; i < args->operand_count; i++) {
		struct source source;
		int result = source_read(args->operands[i], &source, err);
		if (result == 0)
			result = submission_write(options, &source, languages, &bodies[i], err);
		source_fini(&source);
		if (result < 0)
			return result;
	}
	return 0;
}

static int submit(struct cli *cli, struct submission_options *options, const struct parsed_args *args)
{
	struct err err;
	struct submit_mode mode = { 0 };
	struct languages *languages = NULL;
	for (size_t i = 0; i < args->option_count; i++)
		if (read_option(&args->options[i], options, &mode, &err) < 0)
			return fail(cli, &err);
	if (check(options, &mode, args, &err) < 0)
		return fail(cli, &err);
	if (languages_parse(languages_builtin(), "languages", &languages, &err) < 0)
		return fail(cli, &err);
	struct buffer *bodies = alloc_array(args->operand_count, sizeof(*bodies));
	int result = read_sources(options, args, languages, bodies, &err);
	languages_free(languages);
	int code;
	cli->term.raw = mode.raw;
	if (result < 0)
		code = fail(cli, &err);
	else if (args->operand_count == 1)
		code = submit_one(cli, &mode, buffer_bytes(&bodies[0]), options->eval_id != NULL);
	else
		code = submit_batch(cli, &mode, args->operands, bodies, args->operand_count);
	for (size_t i = 0; i < args->operand_count; i++)
		buffer_fini(&bodies[i]);
	free(bodies);
	return code;
}

static int run_submit(struct cli *cli, const struct parsed_args *args)
{
	struct submission_options options = {
		.args = alloc_array(args->option_count + 1, sizeof(char *)),
		.env = alloc_array(args->option_count + 1, sizeof(char *)),
		.priority = -1,
		.max_attempts = -1,
	};
	int code = submit(cli, &options, args);
	buffer_fini(&options.stdin_data);
	buffer_fini(&options.tests);
	buffer_fini(&options.metadata);
	free(options.args);
	free(options.env);
	return code;
}

const struct command submit_command = {
	.name = "submit",
	.usage = "FILE|DIRECTORY|-... [options]",
	.summary = "hand in code to be run",
	.description = "A file is one evaluation, a directory is one evaluation of all files in it (.git left out, "
		       "symbolic links refused),\n"
		       "- is standard input. Several make a batch, one evaluation each, with the same options.\n"
		       "\n"
		       "Without --wait the name of the job is printed, to be used with status, logs, cancel and the "
		       "others. With --wait or\n"
		       "--follow the program's output is printed, standard output and standard error apart, and this "
		       "program ends as the\n"
		       "evaluation did (`assay help exit-codes`). Ctrl-C stops the waiting, not the evaluation.",
	.options = submit_options,
	.operands_min = 1,
	.operands_max = 10000,
	.run = run_submit,
};
