/* The table of words of CONTRACT.md, as code: names, which reason is whose fault, when to try again. */
#include "task/lifecycle.h"

#include "base/alloc.h"
#include "base/text.h"

static const char *const status_names[TASK_STATUS_COUNT] = {
	[TASK_QUEUED] = "QUEUED",
	[TASK_RUNNING] = "RUNNING",
	[TASK_COMPLETED] = "COMPLETED",
	[TASK_FAILED] = "FAILED",
	[TASK_RETRY] = "RETRY",
	[TASK_CANCELLED] = "CANCELLED",
};

static const char *const phase_names[] = {
	[PHASE_QUEUED] = "queued",
	[PHASE_STARTING] = "starting",
	[PHASE_RUNNING] = "running",
	[PHASE_RETRYING] = "retrying",
	[PHASE_SUCCEEDED] = "succeeded",
	[PHASE_FAILED] = "failed",
	[PHASE_TIMED_OUT] = "timed_out",
	[PHASE_OUT_OF_MEMORY] = "out_of_memory",
	[PHASE_CANCELLED] = "cancelled",
};

static const char *const fault_names[] = {
	[FAULT_USER] = "user",
	[FAULT_INFRASTRUCTURE] = "infrastructure",
	[FAULT_PLATFORM] = "platform",
};

static const struct {
	const char *name;
	enum task_fault fault;
} reasons[TASK_REASON_COUNT] = {
	[REASON_NONE] = { NULL, FAULT_NONE },
	[REASON_EXIT_CODE] = { "exit_code", FAULT_USER },
	[REASON_SIGNAL] = { "signal", FAULT_USER },
	[REASON_COMPILE_ERROR] = { "compile_error", FAULT_USER },
	[REASON_TIMEOUT] = { "timeout", FAULT_USER },
	[REASON_OUT_OF_MEMORY] = { "out_of_memory", FAULT_USER },
	[REASON_OUTPUT_LIMIT] = { "output_limit", FAULT_USER },
	[REASON_PROCESS_LIMIT] = { "process_limit", FAULT_USER },
	[REASON_DISK_LIMIT] = { "disk_limit", FAULT_USER },
	[REASON_TESTS_FAILED] = { "tests_failed", FAULT_USER },
	[REASON_EVICTED] = { "evicted", FAULT_INFRASTRUCTURE },
	[REASON_PREEMPTED] = { "preempted", FAULT_INFRASTRUCTURE },
	[REASON_DELETED] = { "deleted", FAULT_INFRASTRUCTURE },
	[REASON_NODE_LOST] = { "node_lost", FAULT_INFRASTRUCTURE },
	[REASON_EXECUTOR_LOST] = { "executor_lost", FAULT_INFRASTRUCTURE },
	[REASON_IMAGE_PULL] = { "image_pull", FAULT_INFRASTRUCTURE },
	[REASON_START_TIMEOUT] = { "start_timeout", FAULT_INFRASTRUCTURE },
	[REASON_API_ERROR] = { "api_error", FAULT_INFRASTRUCTURE },
	[REASON_WORKER_CRASH] = { "worker_crash", FAULT_INFRASTRUCTURE },
	[REASON_CANCELLED] = { "cancelled", FAULT_PLATFORM },
	[REASON_MAX_ATTEMPTS] = { "max_attempts", FAULT_PLATFORM },
};

static const char *const event_names[EVENT_KIND_COUNT] = {
	[EVENT_QUEUED] = "queued",
	[EVENT_RUNNING] = "running",
	[EVENT_RETRYING] = "retrying",
	[EVENT_TEST] = "test",
	[EVENT_STAGE] = "stage",
	[EVENT_COMPLETED] = "completed",
	[EVENT_FAILED] = "failed",
	[EVENT_CANCELLED] = "cancelled",
	[EVENT_LOG] = "log",
	[EVENT_PROGRESS] = "progress",
};

const char *task_status_name(enum task_status status)
{
	return status_names[status];
}

bool task_status_parse(struct bytes name, enum task_status *ret_status)
{
	for (size_t i = 0; i < TASK_STATUS_COUNT; i++) {
		if (text_equal_ignore_case(name, bytes_of(status_names[i]))) {
			*ret_status = (enum task_status)i;
			return true;
		}
	}
	return false;
}

const char *task_phase_name(enum task_phase phase)
{
	return phase_names[phase];
}

const char *task_reason_name(enum task_reason reason)
{
	return reasons[reason].name;
}

enum task_fault task_reason_fault(enum task_reason reason)
{
	return reasons[reason].fault;
}

const char *task_fault_name(enum task_fault fault)
{
	return fault_names[fault];
}

const char *event_kind_name(enum event_kind kind)
{
	return event_names[kind];
}

bool event_kind_parse(struct bytes name, enum event_kind *ret_kind)
{
	for (size_t i = 0; i < EVENT_KIND_COUNT; i++) {
		if (bytes_is(name, event_names[i])) {
			*ret_kind = (enum event_kind)i;
			return true;
		}
	}
	return false;
}

bool event_kind_terminal(enum event_kind kind)
{
	return kind == EVENT_COMPLETED || kind == EVENT_FAILED || kind == EVENT_CANCELLED;
}

bool task_status_ended(enum task_status status)
{
	return status == TASK_COMPLETED || status == TASK_FAILED || status == TASK_CANCELLED;
}

enum task_phase task_phase_of(enum task_status status, enum task_reason reason, int64_t started_at_us)
{
	switch (status) {
	case TASK_QUEUED:
		return PHASE_QUEUED;
	case TASK_RUNNING:
		return started_at_us ? PHASE_RUNNING : PHASE_STARTING;
	case TASK_RETRY:
		return PHASE_RETRYING;
	case TASK_COMPLETED:
		return PHASE_SUCCEEDED;
	case TASK_CANCELLED:
		return PHASE_CANCELLED;
	case TASK_FAILED:
		break;
	}
	if (reason == REASON_TIMEOUT)
		return PHASE_TIMED_OUT;
	if (reason == REASON_OUT_OF_MEMORY)
		return PHASE_OUT_OF_MEMORY;
	return PHASE_FAILED;
}

const char *task_outcome_name(enum task_status status)
{
	if (!task_status_ended(status))
		return "running";
	return status == TASK_COMPLETED ? "succeeded" : "failed";
}

enum event_kind task_terminal_event(enum task_status status)
{
	if (status == TASK_COMPLETED)
		return EVENT_COMPLETED;
	return status == TASK_CANCELLED ? EVENT_CANCELLED : EVENT_FAILED;
}

struct retry_decision retry_decide(
	const struct retry_policy *policy, enum task_reason reason, int attempts, int max_attempts)
{
	int charged = attempts + 1;
	if (charged >= max_attempts)
		return (struct retry_decision){ .retry = false };
	/* The task is most likely not to blame for the death of its replica; the second time it may be. */
	bool replica_died = reason == REASON_WORKER_CRASH || reason == REASON_NODE_LOST;
	if (replica_died && attempts == 0)
		return (struct retry_decision){ .retry = true, .delay_us = 0 };
	int factor = charged < policy->cap ? charged : policy->cap;
	return (struct retry_decision){ .retry = true, .delay_us = policy->base_us * factor };
}
