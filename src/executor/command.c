/* Placeholders are replaced within a word, except {sources:.EXT}, which is a word by itself and becomes as many as
 * there are files. A file whose name begins with a dash is written with ./ before it, so that no program takes it for
 * an option. */
#include "executor/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"

struct bytes command_file_name(const struct language *language, const struct job_file *file)
{
	return file->path.len > 0 ? file->path : bytes_of(language->source);
}

struct bytes command_entrypoint(const struct language *language, const struct job *job)
{
	if (job->entrypoint.len > 0)
		return job->entrypoint;
	for (size_t i = 0; i < job->file_count; i++)
		if (bytes_is(command_file_name(language, &job->files[i]), language->source))
			return bytes_of(language->source);
	return job->file_count > 0 ? command_file_name(language, &job->files[0]) : bytes_of(language->source);
}

static const char *as_word(struct bytes path, struct arena *arena)
{
	return arena_printf(arena, "%s%.*s", path.len > 0 && path.data[0] == '-' ? "./" : "", (int)path.len, path.data);
}

/* The part of `word` between "{sources:" and "}", or NULL when it is another word. */
static const char *sources_extension(const char *word, struct arena *arena)
{
	static const char head[] = "{sources:";
	size_t len = strlen(word);
	if (strncmp(word, head, sizeof(head) - 1) != 0 || word[len - 1] != '}')
		return NULL;
	return arena_printf(arena, "%.*s", (int)(len - sizeof(head)), word + sizeof(head) - 1);
}

static bool ends_with(struct bytes name, const char *extension)
{
	size_t len = strlen(extension);
	return name.len > len && memcmp(name.data + name.len - len, extension, len) == 0;
}

static const char *replace(const char *word, const char *entrypoint, const char *binary, struct arena *arena)
{
	static const char entrypoint_mark[] = "{entrypoint}", binary_mark[] = "{binary}";
	const char *at = strstr(word, entrypoint_mark);
	if (at)
		return arena_printf(
			arena, "%.*s%s%s", (int)(at - word), word, entrypoint, at + sizeof(entrypoint_mark) - 1);
	at = strstr(word, binary_mark);
	if (at)
		return arena_printf(arena, "%.*s%s%s", (int)(at - word), word, binary, at + sizeof(binary_mark) - 1);
	return word;
}

static struct command make(const struct language *language, const struct job *job, const char *const *words,
	const struct bytes *args, size_t arg_count, const char *binary, struct arena *arena)
{
	size_t room = arg_count + 1;
	for (const char *const *word = words; *word; word++)
		room += 1 + (strstr(*word, "{sources:") ? job->file_count : 0);
	struct command command = { .words = arena_array(arena, room, sizeof(*command.words)) };
	const char *entrypoint = as_word(command_entrypoint(language, job), arena);
	for (const char *const *word = words; *word; word++) {
		const char *extension = sources_extension(*word, arena);
		if (!extension) {
			command.words[command.count++] = replace(*word, entrypoint, binary, arena);
			continue;
		}
		for (size_t i = 0; i < job->file_count; i++) {
			struct bytes name = command_file_name(language, &job->files[i]);
			if (ends_with(name, extension))
				command.words[command.count++] = as_word(name, arena);
		}
	}
	for (size_t i = 0; i < arg_count; i++)
		command.words[command.count++] = arena_printf(arena, "%.*s", (int)args[i].len, args[i].data);
	return command;
}

struct command command_compile(
	const struct language *language, const struct job *job, const char *binary, struct arena *arena)
{
	if (!language->compile)
		return (struct command){ 0 };
	return make(language, job, language->compile, NULL, 0, binary, arena);
}

struct command command_run(const struct language *language, const struct job *job, const struct job_run *run,
	const char *binary, struct arena *arena)
{
	return make(language, job, language->run, run->args, run->arg_count, binary, arena);
}

static void put(struct command *command, const char *pair)
{
	size_t name = strcspn(pair, "=") + 1;
	for (size_t i = 0; i < command->count; i++)
		if (strncmp(command->words[i], pair, name) == 0) {
			command->words[i] = pair;
			return;
		}
	command->words[command->count++] = pair;
}

struct command command_environment(
	const struct language *language, const struct job *job, const char *box, struct arena *arena)
{
	size_t room = 8 + job->env_count;
	for (const char *const *pair = language->env; pair && *pair; pair++)
		room++;
	struct command env = { .words = arena_array(arena, room, sizeof(*env.words)) };
	put(&env, "PATH=/usr/local/bin:/usr/bin:/bin");
	put(&env, "LANG=C.UTF-8");
	put(&env, "USER=user");
	put(&env, arena_printf(arena, "HOME=%s/home", box));
	put(&env, arena_printf(arena, "TMPDIR=%s/tmp", box));
	put(&env, arena_printf(arena, "PWD=%s/work", box));
	for (const char *const *pair = language->env; pair && *pair; pair++)
		put(&env, *pair);
	for (size_t i = 0; i < job->env_count; i++)
		put(&env, arena_printf(arena, "%.*s", (int)job->env[i].len, job->env[i].data));
	return env;
}

static bool is_there(const char *const *words)
{
	if (!words || !words[0] || strchr(words[0], '{'))
		return true;
	return access(words[0], X_OK) == 0;
}

bool command_available(const struct language *language)
{
	return language->report == LANGUAGE_REPORT_WRAPPER && is_there(language->compile) && is_there(language->run);
}
