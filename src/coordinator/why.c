/* Why a task is where it is: one word of the closed vocabulary, and a sentence. */
#include "coordinator/internal.h"

#include <stdio.h>
#include <string.h>

/* It was claimed, and its executor could not begin. */
static bool why_handed_back(const struct task *task, struct wait_reason *why)
{
	struct bytes said = task->error, wanted = BYTES_LITERAL(WANTED_QUOTA);
	if (task->status != TASK_QUEUED || said.len == 0)
		return false;
	bool is_quota = said.len >= wanted.len && memcmp(said.data, wanted.data, wanted.len) == 0;
	if (is_quota)
		said = (struct bytes){ said.data + wanted.len, said.len - wanted.len };
	why->word = is_quota ? "quota" : "waiting_for_capacity";
	snprintf(why->words, sizeof(why->words), "It could not begin, and is tried again: %.*s", (int)said.len,
		said.data);
	return true;
}

static void why_waiting(const struct coordinator *c, const struct task *task, const struct read_position *position,
	struct wait_reason *why)
{
	struct lane *lane = router_lane(c, task->executor);
	const struct executor_status *status = lane ? lane->executor->ops->status(lane->executor) : NULL;
	int64_t now = clock_wall_us(), running, limit;
	bool unhealthy = status && status->health == EXECUTOR_UNAVAILABLE;
	if (!unhealthy && why_handed_back(task, why))
		return;
	if (task->run_after_us > now) {
		char text[CLOCK_TEXT_SIZE];
		why->word = "backoff";
		snprintf(why->words, sizeof(why->words), "It is not to run before %s%s.",
			clock_format(task->run_after_us, text),
			task->status == TASK_RETRY ? ", a pause after a failed attempt" : "");
	} else if (unhealthy) {
		why->word = "executor_unhealthy";
		snprintf(why->words, sizeof(why->words), "Its executor, %.*s, cannot run anything now: %.*s",
			(int)status->name.len, status->name.data, (int)status->detail.len, status->detail.data);
	} else if (tenant_running(c, task->tenant, &running, &limit)) {
		why->word = "tenant_limit";
		snprintf(why->words, sizeof(why->words), "Its tenant runs %lld tasks, of %lld that it may%s.",
			(long long)running, (long long)limit,
			running < limit ? "; this replica's share of the rest is taken until the next count" : "");
	} else if (position->ahead > 0) {
		why->word = "position";
		snprintf(why->words, sizeof(why->words), "%s%lld tasks come before it.",
			position->ahead >= 10000 ? "More than " : "", (long long)position->ahead);
	} else {
		why->word = "waiting_for_capacity";
		snprintf(why->words, sizeof(why->words), "It is next, and waits for a free slot of executor %.*s.",
			(int)task->executor.len, task->executor.data);
	}
}

/* Claimed, and its code has not started. What its executor waits for is known where that is this process's. */
static void why_starting(const struct coordinator *c, const struct task *task, struct wait_reason *why)
{
	static const struct {
		const char *word, *sentence;
	} waits[] = {
		[JOB_WAIT_NONE] = { "starting", "Its executor is starting it" },
		[JOB_WAIT_CAPACITY] = { "waiting_for_capacity", "Its executor has no room for it yet" },
		[JOB_WAIT_QUOTA] = { "quota", "What its executor may use is used up" },
		[JOB_WAIT_IMAGE] = { "image_pulling", "Its image is not there yet" },
	};
	const struct attempt *attempt = attempt_find(c, &task->id);
	struct job_waiting waiting = { 0 };
	if (attempt && attempt->task.attempt == task->attempt)
		waiting = attempt->job.waiting;
	why->word = waits[waiting.what].word;
	snprintf(why->words, sizeof(why->words), "%s%s%s.", waits[waiting.what].sentence, waiting.message ? ": " : "",
		waiting.message ? waiting.message : "");
}

struct wait_reason coordinator_why(
	const struct coordinator *c, const struct task *task, const struct read_position *position)
{
	struct wait_reason why = { 0 };
	if (task_status_ended(task->status)) {
		why.word = task->status == TASK_CANCELLED ? "cancelled" : "ended";
		snprintf(why.words, sizeof(why.words), "It has ended: %s.", task_status_name(task->status));
	} else if (task->cancel_requested_at_us) {
		why.word = "cancelled";
		snprintf(why.words, sizeof(why.words), "Its cancellation was asked for and is being carried out.");
	} else if (task->status == TASK_RUNNING && !task->started_at_us) {
		why_starting(c, task, &why);
	} else if (task->status == TASK_RUNNING) {
		why.word = "running";
		snprintf(why.words, sizeof(why.words), "Its code is running.");
	} else {
		why_waiting(c, task, position, &why);
	}
	return why;
}
