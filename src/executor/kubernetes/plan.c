/* The command lines are those of the sandbox, but that programs are looked up in the image's own PATH: an image is free to
 * have its interpreter anywhere. */
#include "executor/kubernetes/plan.h"

#include <errno.h>
#include <string.h>

#include "base/arena.h"
#include "executor/command.h"
#include "wrap/plan_write.h"

#define BINARY "./program"

static void put_command(struct buffer *to, const struct command *command)
{
	for (size_t i = 0; i < command->count; i++) {
		const char *word = command->words[i];
		wrap_plan_put(to, PLAN_WORD, bytes_of(i == 0 && word[0] == '/' ? strrchr(word, '/') + 1 : word));
	}
}

static struct plan_settings settings_of(const struct kube_plan_options *options, const struct job *job)
{
	struct plan_settings settings = { .attempt = (uint32_t)job->attempt,
		.flags = PLAN_INHERIT | PLAN_CONFINE | PLAN_HIDE |
			 (job->ask_before_next && options->listener && !options->channel ? PLAN_ASK : 0) |
			 (options->listener ? 0 : PLAN_LOG) | (options->own_users ? PLAN_OWN_USERS : 0),
		.output_bytes = job->limits.output_bytes,
		.archive_bytes = (uint64_t)job->limits.disk_bytes,
		.processes = (uint64_t)job->limits.processes,
		.total_us = job->limits.total_timeout_us,
		.grace_us = options->grace_us,
		.patience_us = options->patience_us,
		.progress_us = options->progress_us };
	memcpy(settings.task, job->task_id.bytes, sizeof(settings.task));
	return settings;
}

static void put_environment(const struct language *language, const struct job *job, struct buffer *to)
{
	for (const char *const *pair = language->env; pair && *pair; pair++)
		wrap_plan_put(to, PLAN_ENV, bytes_of(*pair));
	for (size_t i = 0; i < job->env_count; i++)
		wrap_plan_put(to, PLAN_ENV, job->env[i]);
}

static void put_run(const struct language *language, const struct job *job, const struct job_run *run,
	struct arena *arena, struct buffer *to)
{
	const struct command command = command_run(language, job, run, BINARY, arena);
	wrap_plan_step(to, PLAN_RUN, run->timeout_us);
	put_command(to, &command);
	for (size_t i = 0; i < run->file_count; i++)
		wrap_plan_file(to, run->files[i].path, run->files[i].content);
	if (run->stdin_data.len > 0)
		wrap_plan_put(to, PLAN_STDIN, run->stdin_data);
}

static void put_plan(const struct kube_plan_options *options, const struct language *language, const struct job *job,
	struct buffer *to)
{
	struct arena arena = { 0 };
	const struct plan_settings settings = settings_of(options, job);
	wrap_plan_begin(to, &settings);
	if (options->listener)
		wrap_plan_put(to, PLAN_LISTENER, bytes_of(options->listener));
	if (options->channel)
		wrap_plan_put(to, PLAN_CHANNEL, bytes_of(options->channel));
	if (options->listener && options->fallback && options->fallback[0])
		wrap_plan_put(to, PLAN_LISTENER, bytes_of(options->fallback));
	wrap_plan_put(to, PLAN_BOX, bytes_of(options->box));
	wrap_plan_put(to, PLAN_ALSO, bytes_of(options->temporary));
	put_environment(language, job, to);
	for (size_t i = 0; i < job->file_count; i++)
		wrap_plan_file(to, command_file_name(language, &job->files[i]), job->files[i].content);
	const struct command compile = command_compile(language, job, BINARY, &arena);
	if (compile.count > 0) {
		wrap_plan_step(to, PLAN_COMPILE, job->limits.compile_timeout_us);
		put_command(to, &compile);
	}
	for (size_t i = 0; i < job->run_count; i++)
		put_run(language, job, &job->runs[i], &arena, to);
	wrap_plan_end(to);
	arena_fini(&arena);
}

size_t kube_plan_input_size(const struct job *job)
{
	size_t size = job_files_size(job->files, job->file_count);
	for (size_t i = 0; i < job->run_count; i++)
		size += job->runs[i].stdin_data.len + job_files_size(job->runs[i].files, job->runs[i].file_count);
	return size;
}

#define RECORD_SIZE 64 /* of a plan, beside the text in it, at most */

static size_t record_sizes(const struct bytes *texts, size_t count)
{
	size_t size = count * RECORD_SIZE;
	for (size_t i = 0; i < count; i++)
		size += texts[i].len;
	return size;
}

static size_t path_sizes(const struct job_file *files, size_t count)
{
	size_t size = count * RECORD_SIZE;
	for (size_t i = 0; i < count; i++)
		size += files[i].path.len;
	return size;
}

bool kube_plan_is_large(const struct job *job)
{
	size_t size = kube_plan_input_size(job) + record_sizes(job->env, job->env_count) +
		      path_sizes(job->files, job->file_count);
	for (size_t i = 0; i < job->run_count; i++) {
		const struct job_run *run = &job->runs[i];
		size += RECORD_SIZE + record_sizes(run->args, run->arg_count) + path_sizes(run->files, run->file_count);
	}
	return size > KUBE_PLAN_INPUT_MAX;
}

int kube_plan_write_plain(const struct kube_plan_options *options, const struct language *language,
	const struct job *job, struct buffer *to, struct err *err)
{
	to->max = PLAN_SIZE_MAX;
	put_plan(options, language, job, to);
	return to->failed ? err_set(err, -E2BIG, "code and files are more than %d MiB", PLAN_SIZE_MAX >> 20) : 0;
}

int kube_plan_write(const struct kube_plan_options *options, const struct language *language, const struct job *job,
	struct buffer *to, struct err *err)
{
	struct buffer plan = BUFFER_MAX(PLAN_SIZE_MAX);
	to->max = KUBE_PLAN_MAX;
	put_plan(options, language, job, &plan);
	if (!plan.failed)
		wrap_plan_zip(buffer_bytes(&plan), to);
	bool failed = plan.failed || to->failed;
	buffer_fini(&plan);
	return failed ? err_set(err, -E2BIG, "code and files are more than the %d KiB, zipped, that a Secret can bring",
				KUBE_PLAN_MAX >> 10)
		      : 0;
}
