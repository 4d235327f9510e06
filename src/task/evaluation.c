/* Reads the body of POST /execute, and the normalised form of it that rows hold: the same fields, fewer of them.
 *
 * Members are first sorted into slots by name, then read in an order of our own, since some fields need others (an
 * encoding, the default of a test's timeout). Everything wrong is reported, not only the first thing. */
#include "task/evaluation.h"

#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/quantity.h"
#include "base/text.h"
#include "task/callback.h"
#include "task/evaluation_reader.h"

#define NAME_MAX_CHARACTERS 200
#define WORD_MAX 64
#define IMAGE_MAX 512
#define ENV_MAX 1000
#define ENV_NAME_MAX 256
#define ENV_BYTES_MAX (256 * 1024)
#define METADATA_MAX (16 * 1024)
#define METADATA_DEPTH_MAX (EVALUATION_DEPTH_MAX - 8)
#define MEMORY_MIN (INT64_C(4) << 20)
#define DEFAULT_MEMORY (INT64_C(512) << 20)
#define DEFAULT_CPU_MILLIS 500
#define LAST_TIME_S 253402300799.0 /* 9999-12-31T23:59:59Z */

enum {
	/* what belongs to the evaluation itself, and stands in its normalised form */
	F_LANGUAGE,
	F_CODE,
	F_CODE_ENCODING,
	F_FILES,
	F_ENTRYPOINT,
	F_STDIN,
	F_STDIN_ENCODING,
	F_ARGS,
	F_ENV,
	F_TIMEOUT,
	F_MEMORY_LIMIT,
	F_CPU_LIMIT,
	F_TESTS,
	F_FAIL_FAST,
	F_IMAGE,
	F_EVALUATION_END,
	/* columns of the task */
	F_EVAL_ID = F_EVALUATION_END,
	F_QUEUE,
	F_EXECUTOR,
	F_PRIORITY,
	F_MAX_ATTEMPTS,
	F_RUN_AFTER,
	F_METADATA,
	F_CALLBACK_URL,
	F_END,
};

#define NAME(text) { (text), sizeof(text) - 1 }
static const struct bytes field_names[F_END] = {
	[F_LANGUAGE] = NAME("language"),
	[F_CODE] = NAME("code"),
	[F_CODE_ENCODING] = NAME("code_encoding"),
	[F_FILES] = NAME("files"),
	[F_ENTRYPOINT] = NAME("entrypoint"),
	[F_STDIN] = NAME("stdin"),
	[F_STDIN_ENCODING] = NAME("stdin_encoding"),
	[F_ARGS] = NAME("args"),
	[F_ENV] = NAME("env"),
	[F_TIMEOUT] = NAME("timeout"),
	[F_MEMORY_LIMIT] = NAME("memory_limit"),
	[F_CPU_LIMIT] = NAME("cpu_limit"),
	[F_TESTS] = NAME("tests"),
	[F_FAIL_FAST] = NAME("fail_fast"),
	[F_IMAGE] = NAME("image"),
	[F_EVAL_ID] = NAME("eval_id"),
	[F_QUEUE] = NAME("queue"),
	[F_EXECUTOR] = NAME("executor"),
	[F_PRIORITY] = NAME("priority"),
	[F_MAX_ATTEMPTS] = NAME("max_attempts"),
	[F_RUN_AFTER] = NAME("run_after"),
	[F_METADATA] = NAME("metadata"),
	[F_CALLBACK_URL] = NAME("callback_url"),
};

bool evaluation_key_valid(struct bytes key)
{
	size_t characters = 0;
	if (!utf8_valid(key))
		return false;
	for (size_t i = 0; i < key.len; i++) {
		unsigned char c = (unsigned char)key.data[i];
		if (c < 0x20 || c == 0x7f)
			return false;
		if (c == 0xc2 && (unsigned char)key.data[i + 1] < 0xa0) /* U+0080 to U+009F */
			return false;
		characters += (c & 0xc0) != 0x80;
	}
	return characters >= 1 && characters <= NAME_MAX_CHARACTERS;
}

bool read_key(struct reader *reader, const struct path *path, yyjson_val *value, struct bytes *ret_text)
{
	struct bytes text;
	if (!read_text(reader, path, value, 1, 4 * NAME_MAX_CHARACTERS, &text))
		return false;
	if (!evaluation_key_valid(text)) {
		reader_fail(reader, path, "must be 1 to %d printable characters", NAME_MAX_CHARACTERS);
		return false;
	}
	*ret_text = text;
	return true;
}

/* Names of queues and executors. */
static bool read_word(struct reader *reader, const struct path *path, yyjson_val *value, struct bytes *ret_text)
{
	struct bytes text;
	if (!read_text(reader, path, value, 1, WORD_MAX, &text))
		return false;
	for (size_t i = 0; i < text.len; i++) {
		char c = text.data[i];
		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-')) {
			reader_fail(reader, path, "may have lower-case letters, digits, \"_\", \".\" and \"-\" only");
			return false;
		}
	}
	*ret_text = text;
	return true;
}

/* Visible ASCII without blanks: names of languages and images, URLs. */
static bool read_token(
	struct reader *reader, const struct path *path, yyjson_val *value, size_t max, struct bytes *ret_text)
{
	struct bytes text;
	if (!read_text(reader, path, value, 1, max, &text))
		return false;
	for (size_t i = 0; i < text.len; i++) {
		if (text.data[i] <= ' ' || text.data[i] > '~') {
			reader_fail(reader, path, "may have visible ASCII characters only");
			return false;
		}
	}
	*ret_text = text;
	return true;
}

/* A Kubernetes quantity, as a string or a bare number, like its own API takes it. */
static bool read_quantity(struct reader *reader, const struct path *path, yyjson_val *value,
	int (*parse)(struct bytes, int64_t *, struct err *), int64_t *ret_value)
{
	char number[32];
	struct bytes text;
	struct err err = { 0 };
	if (yyjson_is_uint(value)) {
		snprintf(number, sizeof(number), "%" PRIu64, yyjson_get_uint(value));
		text = bytes_of(number);
	} else if (yyjson_is_num(value)) {
		/* Fifteen digits: 0.1 is one tenth, not the next double above it, which would be rounded up. */
		snprintf(number, sizeof(number), "%.15g", yyjson_get_num(value));
		text = bytes_of(number);
	} else if (yyjson_is_str(value)) {
		text = (struct bytes){ yyjson_get_str(value), yyjson_get_len(value) };
	} else {
		reader_fail(reader, path, "must be a quantity such as \"512Mi\" or \"500m\"");
		return false;
	}
	if (parse(text, ret_value, &err) < 0) {
		reader_fail(reader, path, "%s", err.message);
		return false;
	}
	return true;
}

static bool read_memory(struct reader *reader, const struct path *path, yyjson_val *value, int64_t *ret_bytes)
{
	int64_t max = reader->limits->memory_max;
	if (!read_quantity(reader, path, value, quantity_bytes, ret_bytes))
		return false;
	if (*ret_bytes < MEMORY_MIN || *ret_bytes > max) {
		reader_fail(reader, path, "must be from 4Mi to %" PRId64 "Mi", max >> 20);
		return false;
	}
	return true;
}

static bool read_cpu(struct reader *reader, const struct path *path, yyjson_val *value, int64_t *ret_millis)
{
	int64_t max = reader->limits->cpu_max;
	if (!read_quantity(reader, path, value, quantity_millis, ret_millis))
		return false;
	if (*ret_millis < 1 || *ret_millis > max) {
		reader_fail(reader, path, "must be from 1m to %" PRId64 "m", max);
		return false;
	}
	return true;
}

static bool env_name_valid(struct bytes name)
{
	if (name.len == 0 || name.len > ENV_NAME_MAX)
		return false;
	for (size_t i = 0; i < name.len; i++) {
		char c = name.data[i];
		bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
		if (!letter && !(i > 0 && c >= '0' && c <= '9'))
			return false;
	}
	return true;
}

static bool read_env(struct reader *reader, const struct path *path, yyjson_val *value, struct evaluation *evaluation)
{
	if (!yyjson_is_obj(value)) {
		reader_fail(reader, path, "must be an object of strings");
		return false;
	}
	size_t size = yyjson_obj_size(value);
	if (size > ENV_MAX) {
		reader_fail(reader, path, "has %zu members, at most %d are allowed", size, ENV_MAX);
		return false;
	}
	struct bytes *env = arena_array(reader->arena, size + 1, sizeof(*env));
	size_t i, count, total = 0;
	yyjson_val *key, *member;
	bool good = true;
	yyjson_obj_foreach(value, i, count, key, member)
	{
		struct bytes name = { yyjson_get_str(key), yyjson_get_len(key) };
		struct path here = PATH_NAME(path, name);
		struct bytes text = BYTES_NONE;
		if (!env_name_valid(name)) {
			reader_fail(reader, &here, "a name has letters, digits and \"_\", at most %d of them",
				ENV_NAME_MAX);
			good = false;
			continue;
		}
		if (!read_text(reader, &here, member, 0, ENV_BYTES_MAX, &text)) {
			good = false;
			continue;
		}
		total += name.len + text.len + 2;
		if (total > ENV_BYTES_MAX) {
			reader_fail(reader, path, "has more than %d bytes", ENV_BYTES_MAX);
			return false;
		}
		char *pair = arena_alloc(reader->arena, name.len + text.len + 2);
		memcpy(pair, name.data, name.len);
		pair[name.len] = '=';
		memcpy(pair + name.len + 1, text.data, text.len);
		env[i] = (struct bytes){ pair, name.len + 1 + text.len };
		for (size_t j = 0; j < i; j++) {
			if (env[j].len > name.len && memcmp(env[j].data, pair, name.len + 1) == 0) {
				reader_fail(reader, &here, "given twice");
				good = false;
				break;
			}
		}
	}
	evaluation->env = env;
	evaluation->env_count = count;
	return good;
}

/* `code`, or `files` with an entrypoint. ret_sorted: the paths for later checks. */
static bool read_source(struct reader *reader, const struct path *path, yyjson_val **values, const struct path *at,
	struct evaluation *evaluation, const struct bytes **ret_sorted)
{
	bool good = true;
	if (values[F_ENTRYPOINT])
		good = read_path(reader, &at[F_ENTRYPOINT], values[F_ENTRYPOINT], &evaluation->entrypoint);
	if (!values[F_CODE] == !values[F_FILES]) {
		reader_fail(reader, path, values[F_CODE] ? "has both code and files" : "has neither code nor files");
		return false;
	}
	if (values[F_FILES]) {
		if (values[F_CODE_ENCODING]) {
			reader_fail(reader, &at[F_CODE_ENCODING], "says how a field is encoded that is not there");
			good = false;
		}
		if (!read_files(reader, &at[F_FILES], values[F_FILES], 1, &evaluation->files, &evaluation->file_count,
			    ret_sorted))
			return false;
		if (evaluation->entrypoint.data &&
			!path_listed(*ret_sorted, evaluation->file_count, evaluation->entrypoint)) {
			reader_fail(reader, &at[F_ENTRYPOINT], "is not among the files");
			good = false;
		}
		return good;
	}
	struct job_file *file = arena_alloc(reader->arena, sizeof(*file));
	if (!read_content(
		    reader, &at[F_CODE], values[F_CODE], &at[F_CODE_ENCODING], values[F_CODE_ENCODING], &file->content))
		return false;
	/* An entrypoint beside `code` is the name that the one file gets. */
	file->path = evaluation->entrypoint.data ? evaluation->entrypoint : BYTES_LITERAL("");
	evaluation->files = file;
	evaluation->file_count = 1;
	*ret_sorted = &file->path;
	return read_source_size(reader, &at[F_CODE], file->content.len) && good;
}

/* The fields that belong to the evaluation itself. */
static bool read_evaluation(struct reader *reader, const struct path *path, yyjson_val **values, const struct path *at,
	struct evaluation *evaluation)
{
	const struct evaluation_limits *limits = reader->limits;
	const struct bytes *sorted = NULL;
	*evaluation = (struct evaluation){
		.language = BYTES_LITERAL("python"),
		.timeout_us = limits->timeout_default_us,
		.memory_bytes = DEFAULT_MEMORY < limits->memory_max ? DEFAULT_MEMORY : limits->memory_max,
		.cpu_millis = DEFAULT_CPU_MILLIS < limits->cpu_max ? DEFAULT_CPU_MILLIS : limits->cpu_max,
	};
	bool good = read_source(reader, path, values, at, evaluation, &sorted);
	if (values[F_LANGUAGE])
		good &= read_token(reader, &at[F_LANGUAGE], values[F_LANGUAGE], WORD_MAX, &evaluation->language);
	if (values[F_STDIN] || values[F_STDIN_ENCODING])
		good &= read_content(reader, &at[F_STDIN], values[F_STDIN], &at[F_STDIN_ENCODING],
			values[F_STDIN_ENCODING], &evaluation->stdin_data);
	if (values[F_ARGS])
		good &= read_args(reader, &at[F_ARGS], values[F_ARGS], &evaluation->args, &evaluation->arg_count);
	if (values[F_ENV])
		good &= read_env(reader, &at[F_ENV], values[F_ENV], evaluation);
	if (values[F_TIMEOUT])
		good &= read_duration(
			reader, &at[F_TIMEOUT], values[F_TIMEOUT], limits->timeout_max_us, &evaluation->timeout_us);
	if (values[F_MEMORY_LIMIT])
		good &= read_memory(reader, &at[F_MEMORY_LIMIT], values[F_MEMORY_LIMIT], &evaluation->memory_bytes);
	if (values[F_CPU_LIMIT])
		good &= read_cpu(reader, &at[F_CPU_LIMIT], values[F_CPU_LIMIT], &evaluation->cpu_millis);
	if (values[F_FAIL_FAST])
		good &= read_bool(reader, &at[F_FAIL_FAST], values[F_FAIL_FAST], &evaluation->fail_fast);
	if (values[F_IMAGE])
		good &= read_token(reader, &at[F_IMAGE], values[F_IMAGE], IMAGE_MAX, &evaluation->image);
	if (values[F_TESTS])
		good &= read_tests(
			reader, &at[F_TESTS], values[F_TESTS], evaluation, sorted, sorted ? evaluation->file_count : 0);
	return good;
}

/* Any value, but none that could hurt those who store it or walk it. */
static const char *metadata_fault(yyjson_val *value, int depth)
{
	size_t i, count;
	yyjson_val *key, *element;
	const char *fault = NULL;
	if (depth > METADATA_DEPTH_MAX)
		return "is nested too deeply";
	if (yyjson_is_str(value) && memchr(yyjson_get_str(value), '\0', yyjson_get_len(value)))
		return "must not contain U+0000";
	if (yyjson_is_arr(value)) {
		yyjson_arr_foreach(value, i, count, element)
		{
			if ((fault = metadata_fault(element, depth + 1)))
				return fault;
		}
	} else if (yyjson_is_obj(value)) {
		yyjson_obj_foreach(value, i, count, key, element)
		{
			if ((fault = metadata_fault(key, depth + 1)) || (fault = metadata_fault(element, depth + 1)))
				return fault;
		}
	}
	return NULL;
}

static bool read_metadata(struct reader *reader, const struct path *path, yyjson_val *value, struct bytes *ret_text)
{
	const char *fault = metadata_fault(value, 1);
	if (fault) {
		reader_fail(reader, path, "%s", fault);
		return false;
	}
	size_t length = 0;
	char *text = yyjson_val_write(value, 0, &length);
	if (!text || length > METADATA_MAX) {
		reader_fail(reader, path, "has more than %d bytes", METADATA_MAX);
		free(text);
		return false;
	}
	*ret_text = arena_bytes(reader->arena, (struct bytes){ text, length });
	free(text);
	return true;
}

/* RFC 3339, or seconds since the epoch. */
static bool read_time(struct reader *reader, const struct path *path, yyjson_val *value, int64_t *ret_us)
{
	if (yyjson_is_num(value)) {
		double seconds = yyjson_get_num(value);
		if (seconds >= 0 && seconds <= LAST_TIME_S) {
			*ret_us = llround(seconds * 1e6);
			return true;
		}
	} else if (yyjson_is_str(value) &&
		   clock_parse((struct bytes){ yyjson_get_str(value), yyjson_get_len(value) }, ret_us)) {
		return true;
	}
	reader_fail(reader, path, "must be an RFC 3339 time such as \"2030-01-31T12:00:00Z\", or seconds since 1970");
	return false;
}

static bool read_callback(struct reader *reader, const struct path *path, yyjson_val *value, struct bytes *ret_url)
{
	enum callback_policy policy = reader->limits->callbacks;
	if (policy == CALLBACK_OFF) {
		reader_fail(reader, path,
			"cannot be given here: this service has no secret to sign with (its operator sets "
			"ASSAY_WEBHOOK_SECRET)");
		return false;
	}
	struct bytes url;
	if (!read_text(reader, path, value, 1, CALLBACK_URL_MAX, &url))
		return false;
	const char *fault = callback_fault(url, policy == CALLBACK_HTTPS);
	if (fault) {
		reader_fail(reader, path, "%s", fault);
		return false;
	}
	*ret_url = url;
	return true;
}

/* The fields that become columns of the task. */
static bool read_columns(
	struct reader *reader, yyjson_val **values, const struct path *at, struct evaluation_request *request)
{
	const struct evaluation_limits *limits = reader->limits;
	bool good = true;
	request->priority = limits->priority_default;
	request->max_attempts = limits->max_attempts_default;
	if (values[F_EVAL_ID])
		good &= read_key(reader, &at[F_EVAL_ID], values[F_EVAL_ID], &request->eval_id);
	if (values[F_QUEUE])
		good &= read_word(reader, &at[F_QUEUE], values[F_QUEUE], &request->queue);
	if (values[F_EXECUTOR])
		good &= read_word(reader, &at[F_EXECUTOR], values[F_EXECUTOR], &request->executor);
	if (values[F_PRIORITY])
		good &= read_int(reader, &at[F_PRIORITY], values[F_PRIORITY], 0, 9, &request->priority);
	if (values[F_MAX_ATTEMPTS])
		good &= read_int(reader, &at[F_MAX_ATTEMPTS], values[F_MAX_ATTEMPTS], 1, limits->max_attempts_max,
			&request->max_attempts);
	if (values[F_RUN_AFTER])
		good &= read_time(reader, &at[F_RUN_AFTER], values[F_RUN_AFTER], &request->run_after_us);
	if (values[F_METADATA])
		good &= read_metadata(reader, &at[F_METADATA], values[F_METADATA], &request->metadata);
	if (values[F_CALLBACK_URL])
		good &= read_callback(reader, &at[F_CALLBACK_URL], values[F_CALLBACK_URL], &request->callback_url);
	return good;
}

size_t evaluation_input_size(const struct evaluation *evaluation)
{
	size_t size = evaluation->stdin_data.len + job_files_size(evaluation->files, evaluation->file_count);
	for (size_t i = 0; i < evaluation->test_count; i++) {
		const struct job_run *run = &evaluation->tests[i].run;
		size += run->stdin_data.len + job_files_size(run->files, run->file_count);
	}
	return size;
}

/* What runs in an image has the rights that the image gives it: only those that the operator knows. */
static bool check_image(struct reader *reader, const struct path *path, struct bytes image)
{
	const struct evaluation_limits *limits = reader->limits;
	char name[IMAGE_MAX + 1];
	memcpy(name, image.data, image.len);
	name[image.len] = '\0';
	for (size_t i = 0; i < limits->image_count; i++)
		if (fnmatch(limits->images[i], name, 0) == 0)
			return true;
	reader_fail(reader, path,
		limits->image_count ? "is not among the images that may be named here"
				    : "may not be given: no images may be named here");
	return false;
}

bool evaluation_read(struct yyjson_val *object, const char *prefix, const struct evaluation_limits *limits,
	struct arena *arena, struct evaluation_request *ret_request, struct field_errors *errors)
{
	struct reader reader = { .arena = arena, .limits = limits, .errors = errors };
	struct path root = { .name = bytes_of(prefix) };
	struct path at[F_END];
	yyjson_val *values[F_END] = { 0 };
	*ret_request = (struct evaluation_request){ 0 };
	if (!yyjson_is_obj(object)) {
		reader_fail(&reader, &root, "must be an object");
		return false;
	}
	for (size_t i = 0; i < F_END; i++)
		at[i] = PATH_NAME(&root, field_names[i]);
	/* All three, so that every fault is told at once. */
	bool good = read_object(&reader, &root, object, field_names, F_END, values);
	good &= read_evaluation(&reader, &root, values, at, &ret_request->evaluation);
	if (ret_request->evaluation.image.data)
		good &= check_image(&reader, &at[F_IMAGE], ret_request->evaluation.image);
	good &= read_columns(&reader, values, at, ret_request);
	return good;
}

int evaluation_load(struct bytes params, struct arena *arena, struct evaluation *ret_evaluation, struct err *err)
{
	/* What was accepted under other settings must stay readable. */
	static const struct evaluation_limits limits = {
		.source_max = SIZE_MAX,
		.timeout_max_us = 3600 * US_PER_S,
		.memory_max = INT64_MAX,
		.cpu_max = INT64_MAX,
		.timeout_default_us = 300 * US_PER_S,
	};
	struct field_errors errors = { 0 };
	struct reader reader = { .arena = arena, .limits = &limits, .errors = &errors, .copy = true };
	struct path root = { .name = BYTES_LITERAL("") };
	struct path at[F_EVALUATION_END];
	yyjson_val *values[F_EVALUATION_END] = { 0 };
	yyjson_read_err fault;
	for (size_t i = 0; i < F_EVALUATION_END; i++)
		at[i] = PATH_NAME(&root, field_names[i]);
	/* Without YYJSON_READ_INSITU the text is only read, whatever the type of the parameter says. */
	yyjson_doc *document = yyjson_read_opts((char *)(uintptr_t)params.data, params.len, 0, NULL, &fault);
	if (!document) {
		if (fault.code == YYJSON_READ_ERROR_MEMORY_ALLOCATION)
			return err_set(err, -ENOMEM, "no memory for the parameters of the task");
		return err_set(err, -EINVAL, "parameters are not JSON: %s at byte %zu", fault.msg, fault.pos);
	}
	yyjson_val *object = yyjson_doc_get_root(document);
	bool good = read_object(&reader, &root, object, field_names, F_EVALUATION_END, values) &&
		    read_evaluation(&reader, &root, values, at, ret_evaluation);
	yyjson_doc_free(document);
	if (!good)
		return err_set(err, -EINVAL, "parameters: %s %s", errors.items[0].pointer, errors.items[0].detail);
	return 0;
}
