/* Why a task is where it is: one word of the closed vocabulary, and a sentence. */
#include "coordinator/internal.h"

#include <stdio.h>

static void why_waiting(const struct coordinator *c, const struct task *task, const struct read_position *position,
	struct wait_reason *why)
{
	struct lane *lane = router_lane(c, task->executor);
	const struct executor_status *status = lane ? lane->executor->ops->status(lane->executor) : NULL;
	int64_t now = clock_wall_us(), running, limit;
	if (task->run_after_us > now) {
		char text[CLOCK_TEXT_SIZE];
		why->word = "backoff";
		snprintf(why->words, sizeof(why->words), "It is not to run before %s%s.",
			clock_format(task->run_after_us, text),
			task->status == TASK_RETRY ? ", a pause after a failed attempt" : "");
	} else if (status && status->health == EXECUTOR_UNAVAILABLE) {
		why->word = "executor_unhealthy";
		snprintf(why->words, sizeof(why->words), "Its executor, %.*s, cannot run anything now: %.*s",
			(int)status->name.len, status->name.data, (int)status->detail.len, status->detail.data);
	} else if (tenant_running(c, task->tenant, &running, &limit)) {
		why->word = "tenant_limit";
		snprintf(why->words, sizeof(why->words), "Its tenant runs %lld tasks, of %lld that it may.",
			(long long)running, (long long)limit);
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
	} else if (task->status == TASK_RUNNING) {
		why.word = task->started_at_us ? "running" : "starting";
		snprintf(why.words, sizeof(why.words),
			task->started_at_us ? "Its code is running." : "Its executor is starting it.");
	} else {
		why_waiting(c, task, position, &why);
	}
	return why;
}
