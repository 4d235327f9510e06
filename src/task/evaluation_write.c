/* The normalised form of an evaluation: the fields of the body, defaults filled in, bytes that are not text as base64.
 * It is itself a body that POST /execute takes. */
#include <inttypes.h>
#include <stdio.h>

#include "base/json.h"
#include "base/text.h"
#include "task/compare.h"
#include "task/evaluation.h"

/* Text that every store can hold as JSON: PostgreSQL's jsonb has no place for U+0000. */
static bool is_plain_text(struct bytes content)
{
	return !memchr(content.data, '\0', content.len) && utf8_valid(content);
}

static void write_content(struct json *json, const char *key, const char *encoding_key, struct bytes content)
{
	if (is_plain_text(content)) {
		json_member_string(json, key, content);
		return;
	}
	struct buffer *buffer = json->buffer;
	json_member_string(json, encoding_key, BYTES_LITERAL("base64"));
	json_key(json, key);
	buffer_append_char(buffer, '"');
	base64_append(buffer, content);
	buffer_append_char(buffer, '"');
	json->comma = true;
}

static void write_files(struct json *json, const struct job_file *files, size_t count)
{
	json_key(json, "files");
	json_array(json);
	for (size_t i = 0; i < count; i++) {
		json_object(json);
		json_member_string(json, "path", files[i].path);
		write_content(json, "content", "encoding", files[i].content);
		json_object_end(json);
	}
	json_array_end(json);
}

static void write_args(struct json *json, const struct bytes *args, size_t count)
{
	json_key(json, "args");
	json_array(json);
	for (size_t i = 0; i < count; i++)
		json_string(json, args[i]);
	json_array_end(json);
}

/* Names of variables need no escaping: they were checked. */
static void write_env(struct json *json, const struct bytes *env, size_t count)
{
	json_key(json, "env");
	json_object(json);
	for (size_t i = 0; i < count; i++) {
		const char *equals = memchr(env[i].data, '=', env[i].len);
		size_t name = (size_t)(equals - env[i].data);
		json_string(json, (struct bytes){ env[i].data, name });
		buffer_append_char(json->buffer, ':');
		json->comma = false;
		json_string(json, (struct bytes){ equals + 1, env[i].len - name - 1 });
	}
	json_object_end(json);
}

static void write_seconds(struct json *json, int64_t us)
{
	if (us % 1000000 == 0)
		json_member_int(json, "timeout", us / 1000000);
	else
		json_member_double(json, "timeout", (double)us / 1e6);
}

static void write_test(struct json *json, const struct evaluation *evaluation, const struct evaluation_test *test)
{
	json_object(json);
	json_member_string(json, "name", test->name);
	/* What the test has from the evaluation is the very same memory. */
	bool own_stdin = test->run.stdin_data.data != evaluation->stdin_data.data ||
			 test->run.stdin_data.len != evaluation->stdin_data.len;
	if (test->run.stdin_data.data && own_stdin)
		write_content(json, "stdin", "stdin_encoding", test->run.stdin_data);
	if (test->run.args && test->run.args != evaluation->args)
		write_args(json, test->run.args, test->run.arg_count);
	if (test->run.file_count)
		write_files(json, test->run.files, test->run.file_count);
	if (test->expected.data)
		write_content(json, "expected", "expected_encoding", test->expected);
	json_member_string(json, "compare", bytes_of(test_compare_name(test->compare)));
	json_member_double(json, "points", test->points);
	write_seconds(json, test->run.timeout_us);
	if (test->hidden)
		json_member_bool(json, "hidden", true);
	json_object_end(json);
}

void evaluation_write(const struct evaluation *evaluation, struct buffer *buffer)
{
	struct json json = JSON_TO(buffer);
	char quantity[32];
	json_object(&json);
	json_member_string(&json, "language", evaluation->language);
	if (evaluation->file_count == 1 && evaluation->files[0].path.len == 0)
		write_content(&json, "code", "code_encoding", evaluation->files[0].content);
	else
		write_files(&json, evaluation->files, evaluation->file_count);
	if (evaluation->entrypoint.data)
		json_member_string(&json, "entrypoint", evaluation->entrypoint);
	if (evaluation->stdin_data.data)
		write_content(&json, "stdin", "stdin_encoding", evaluation->stdin_data);
	if (evaluation->arg_count)
		write_args(&json, evaluation->args, evaluation->arg_count);
	if (evaluation->env_count)
		write_env(&json, evaluation->env, evaluation->env_count);
	write_seconds(&json, evaluation->timeout_us);
	json_member_int(&json, "memory_limit", evaluation->memory_bytes);
	snprintf(quantity, sizeof(quantity), "%" PRId64 "m", evaluation->cpu_millis);
	json_member_string(&json, "cpu_limit", bytes_of(quantity));
	if (evaluation->test_count) {
		json_key(&json, "tests");
		json_array(&json);
		for (size_t i = 0; i < evaluation->test_count; i++)
			write_test(&json, evaluation, &evaluation->tests[i]);
		json_array_end(&json);
	}
	if (evaluation->fail_fast)
		json_member_bool(&json, "fail_fast", true);
	if (evaluation->image.data)
		json_member_string(&json, "image", evaluation->image);
	json_object_end(&json);
}
