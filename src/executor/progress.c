#include "executor/progress.h"

#include "base/clock.h"
#include "base/json.h"

static void put_seconds(struct json *json, const char *key, int64_t us)
{
	json_member_double(json, key, (double)us / (double)US_PER_S);
}

void progress_tell(
	const struct executor_listener *listener, void *owner, struct job *job, const struct progress *progress)
{
	struct buffer members = { 0 };
	struct json json = JSON_TO(&members);
	json_member_string(&json, "step", bytes_of(progress->kind == STEP_COMPILE ? "compile" : "run"));
	if (progress->kind == STEP_RUN)
		json_member_int(&json, "run_index", (int64_t)progress->run_index);
	put_seconds(&json, "wall_seconds", progress->wall_us);
	if (progress->cpu_us >= 0)
		put_seconds(&json, "cpu_seconds", progress->cpu_us);
	if (progress->memory_bytes >= 0)
		json_member_int(&json, "memory_bytes", progress->memory_bytes);
	listener->on_progress(owner, job, buffer_bytes(&members));
	buffer_fini(&members);
}
