/* Making the body of POST /execute. Pure. */
#include "cli/submission.h"

#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/detect.h"

/* `key` with `key_encoding` where the bytes are no text. */
static void write_bytes(struct json *json, const char *key, const char *encoding_key, struct bytes data)
{
	if (!data.data)
		data = BYTES_LITERAL("");
	if (utf8_valid(data) && !memchr(data.data, '\0', data.len)) {
		json_member_string(json, key, data);
		return;
	}
	struct buffer base64 = { 0 };
	base64_append(&base64, data);
	json_member_string(json, key, buffer_bytes(&base64));
	json_member_string(json, encoding_key, BYTES_LITERAL("base64"));
	buffer_fini(&base64);
}

static void write_files(struct json *json, const struct source *source)
{
	json_key(json, "files");
	json_array(json);
	for (size_t i = 0; i < source->count; i++) {
		json_object(json);
		json_member_string(json, "path", bytes_of(source->files[i].path));
		write_bytes(json, "content", "encoding", buffer_bytes(&source->files[i].content));
		json_object_end(json);
	}
	json_array_end(json);
}

static bool has_file(const struct source *source, const char *path)
{
	for (size_t i = 0; i < source->count; i++)
		if (strcmp(source->files[i].path, path) == 0)
			return true;
	return false;
}

/* The language of a directory: that of the file to run, else the one whose main file is there, else the only one that
 * any file is in. NULL when that does not decide it. */
static const struct language *language_of_directory(
	const struct submission_options *options, const struct source *source, const struct languages *languages)
{
	if (options->entrypoint)
		return language_of_path(languages, options->entrypoint);
	const struct language *found = NULL;
	size_t found_count = 0;
	for (size_t i = 0; i < languages_count(languages); i++)
		if (has_file(source, languages_at(languages, i)->source)) {
			found = languages_at(languages, i);
			found_count++;
		}
	if (found_count > 0)
		return found_count == 1 ? found : NULL;
	for (size_t i = 0; i < source->count; i++) {
		const struct language *language = language_of_path(languages, source->files[i].path);
		if (language && found && language != found)
			return NULL;
		if (language)
			found = language;
	}
	return found;
}

static int choose_language(const struct submission_options *options, const struct source *source,
	const struct languages *languages, const char **ret_name, struct err *err)
{
	*ret_name = options->language;
	if (options->language)
		return 0;
	const struct source_file *file = &source->files[0];
	const struct language *language;
	if (source->is_directory) {
		language = language_of_directory(options, source, languages);
		if (!language)
			return err_set(err, -EINVAL,
				"the files do not tell which language to run them in: say it with --language");
	} else {
		language = language_of_path(languages, file->path);
		if (!language)
			language = language_of_first_line(languages, buffer_bytes(&file->content));
		/* Standard input has no name: the service's default holds. */
		if (!language && strcmp(file->path, "-") == 0)
			return 0;
		if (!language)
			return err_set(err, -EINVAL,
				"%s does not tell its language by its name or its first line: say it with --language",
				file->path);
	}
	*ret_name = language->name;
	return 0;
}

static int check_entrypoint(const struct submission_options *options, const struct source *source,
	const struct languages *languages, const char *language_name, struct err *err)
{
	if (options->entrypoint && !source->is_directory)
		return err_set(err, -EINVAL, "--entrypoint chooses a file of a directory; %s is run itself",
			source->files[0].path);
	if (options->entrypoint && !has_file(source, options->entrypoint))
		return err_set(err, -EINVAL, "there is no file %s in the directory", options->entrypoint);
	if (options->entrypoint || !source->is_directory || source->count == 1)
		return 0;
	const struct language *language = languages_find(languages, bytes_of(language_name));
	if (language && !language->compile && !has_file(source, language->source))
		return err_set(err, -EINVAL, "there is no %s in the directory: say which file to run with --entrypoint",
			language->source);
	return 0;
}

static void write_strings(struct json *json, const char *key, const char *const *items, size_t count)
{
	json_key(json, key);
	json_array(json);
	for (size_t i = 0; i < count; i++)
		json_string(json, bytes_of(items[i]));
	json_array_end(json);
}

static void write_env(struct json *json, const struct submission_options *options)
{
	json_key(json, "env");
	json_object(json);
	for (size_t i = 0; i < options->env_count; i++) {
		const char *equals = strchr(options->env[i], '=');
		json_string(json, (struct bytes){ options->env[i], (size_t)(equals - options->env[i]) });
		buffer_append_char(json->buffer, ':');
		json->comma = false;
		json_string(json, bytes_of(equals + 1));
	}
	json_object_end(json);
}

static void write_options(struct json *json, const struct submission_options *options)
{
	const struct {
		const char *key, *value;
	} texts[] = {
		{ "eval_id", options->eval_id },
		{ "entrypoint", options->entrypoint },
		{ "memory_limit", options->memory },
		{ "cpu_limit", options->cpu },
		{ "queue", options->queue },
		{ "executor", options->executor },
		{ "image", options->image },
		{ "run_after", *options->run_after ? options->run_after : NULL },
	};
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (texts[i].value)
			json_member_string(json, texts[i].key, bytes_of(texts[i].value));
	if (options->timeout_s > 0)
		json_member_double(json, "timeout", options->timeout_s);
	if (options->priority >= 0)
		json_member_int(json, "priority", options->priority);
	if (options->max_attempts >= 0)
		json_member_int(json, "max_attempts", options->max_attempts);
	if (options->has_stdin)
		write_bytes(json, "stdin", "stdin_encoding", buffer_bytes(&options->stdin_data));
	if (options->arg_count > 0)
		write_strings(json, "args", options->args, options->arg_count);
	if (options->env_count > 0)
		write_env(json, options);
	if (options->tests.len > 0)
		json_member_raw(json, "tests", buffer_bytes(&options->tests));
	if (options->fail_fast)
		json_member_bool(json, "fail_fast", true);
	if (options->metadata.len > 0)
		json_member_raw(json, "metadata", buffer_bytes(&options->metadata));
}

int submission_write(const struct submission_options *options, const struct source *source,
	const struct languages *languages, struct buffer *to, struct err *err)
{
	const char *language;
	if (choose_language(options, source, languages, &language, err) < 0)
		return err->code;
	if (check_entrypoint(options, source, languages, language, err) < 0)
		return err->code;
	struct json json = JSON_TO(to);
	json_object(&json);
	if (language)
		json_member_string(&json, "language", bytes_of(language));
	if (source->is_directory)
		write_files(&json, source);
	else
		write_bytes(&json, "code", "code_encoding", buffer_bytes(&source->files[0].content));
	write_options(&json, options);
	json_object_end(&json);
	return 0;
}
