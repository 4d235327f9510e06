/* Attempts whose image runs as it is (enum language_report): what its container gets, and what cannot be had so. */
#include <string.h>

#include "executor/command.h"
#include "executor/kubernetes/internal.h"
#include "executor/kubernetes/plan.h"

bool plain_is(const struct kube_attempt *attempt)
{
	return attempt->language && attempt->language->report != LANGUAGE_REPORT_WRAPPER;
}

const char *plain_unfit(const struct kube_attempt *attempt)
{
	const struct kubernetes *k = attempt->kubernetes;
	const struct job *job = attempt->job;
	size_t size = job_files_size(job->files, job->file_count);
	if (!plain_is(attempt))
		return !k->listener && job->runs[0].judged ? NO_TESTS : NULL;
	/* Admission has refused these; the language may have become such an image since. */
	if (job->run_count != 1 || job->runs[0].file_count > 0 || job->runs[0].stdin_data.len > 0)
		return "an image that runs as it is takes neither tests nor standard input";
	if (job->image.len > 0)
		return "the image of this language is the operator's choice";
	if (size > KUBE_PLAN_MAX)
		return "code and files are more than the 900 KiB that a Secret can bring";
	if (attempt->language->report != LANGUAGE_REPORT_PUBLISH)
		return NULL;
	if (!k->redis)
		return "images that publish need a Redis, and an address of it for pods";
	return job->file_count == 1 && size <= LANGUAGE_CODE_MAX
		       ? NULL
		       : "an image that publishes takes one file that fits into a variable";
}

/* The entry point's arguments: what the language says, then the evaluation's. */
static const char *const *args_of(const struct kube_attempt *attempt, struct arena *arena)
{
	struct job job = *attempt->job; /* its files as the container sees them */
	struct bytes entrypoint = command_entrypoint(attempt->language, &job);
	struct job_file *files = arena_array(arena, job.file_count, sizeof(*files));
	for (size_t i = 0; i < job.file_count; i++)
		files[i].path = bytes_of(
			arena_printf(arena, MANIFEST_CODE "/%.*s", (int)job.files[i].path.len, job.files[i].path.data));
	job.files = files;
	job.entrypoint = bytes_of(arena_printf(arena, MANIFEST_CODE "/%.*s", (int)entrypoint.len, entrypoint.data));
	return command_run(attempt->language, &job, &job.runs[0], "", arena).words;
}

static const char *const *env_of(const struct kube_attempt *attempt, struct arena *arena)
{
	const struct job *job = attempt->job;
	const char *const *own = attempt->language->env;
	size_t count = 0;
	while (own && own[count])
		count++;
	const char **env = arena_array(arena, count + job->env_count + 1, sizeof(*env));
	for (size_t i = 0; i < count; i++)
		env[i] = own[i];
	for (size_t i = 0; i < job->env_count; i++)
		env[count + i] = arena_printf(arena, "%.*s", (int)job->env[i].len, job->env[i].data);
	return env;
}

const struct manifest_plain *plain_of(const struct kube_attempt *attempt, struct arena *arena)
{
	if (!plain_is(attempt))
		return NULL;
	struct manifest_plain *plain = arena_alloc(arena, sizeof(*plain));
	plain->args = args_of(attempt, arena);
	plain->env = env_of(attempt, arena);
	if (attempt->language->report == LANGUAGE_REPORT_PUBLISH)
		plain->redis_url = attempt->kubernetes->options.publish_url;
	return plain;
}
