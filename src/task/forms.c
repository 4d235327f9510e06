/* Status objects: see forms.h. That of an ended task is of its row, and of what its `result` says of the attempt that no column does
 * (forms_result.c). Event payloads are in forms_event.c. */
#include "task/forms.h"

#include <string.h>

#include "base/uuid.h"
#include "task/forms_internal.h"
#include "task/job_name.h"
#include "task/lifecycle.h"

void form_word(struct json *json, const char *key, const char *word)
{
	json_member_string(json, key, bytes_of(word));
}

static void form_uuid(struct json *json, const char *key, const struct uuid *uuid)
{
	char text[UUID_TEXT_SIZE];
	if (uuid_is_nil(uuid))
		json_member_null(json, key);
	else
		form_word(json, key, uuid_format(uuid, text));
}

static void form_seconds(struct json *json, const char *key, int64_t us)
{
	if (us < 0)
		json_member_null(json, key);
	else
		json_member_double(json, key, (double)us / 1e6);
}

/* From the start of the code to the end of the attempt; null where it never started. */
void form_duration(struct json *json, int64_t started_at_us, int64_t finished_at_us)
{
	bool known = started_at_us && finished_at_us >= started_at_us;
	form_seconds(json, "duration_seconds", known ? finished_at_us - started_at_us : -1);
}

void form_usage(struct json *json, const struct attempt_record *record)
{
	if (!record || !record->started_at_us) {
		json_member_null(json, "usage");
		return;
	}
	json_key(json, "usage");
	json_object(json);
	form_seconds(json, "wall_seconds", record->usage.wall_us);
	form_seconds(json, "cpu_seconds", record->usage.cpu_us);
	if (record->usage.memory_bytes < 0)
		json_member_null(json, "memory_bytes");
	else
		json_member_int(json, "memory_bytes", record->usage.memory_bytes);
	json_object_end(json);
}

void form_exit(struct json *json, const struct attempt_record *record)
{
	if (record && record->exit_code >= 0)
		json_member_int(json, "exit_code", record->exit_code);
	else
		json_member_null(json, "exit_code");
	if (record && record->signal > 0)
		json_member_int(json, "signal", record->signal);
	else
		json_member_null(json, "signal");
}

void form_score(struct json *json, const struct attempt_record *record)
{
	json_key(json, "score");
	json_object(json);
	json_member_double(json, "points", record->score);
	json_member_double(json, "max_points", record->max_score);
	json_member_int(json, "passed", record->tests_passed);
	json_member_int(json, "total", record->tests_total);
	json_object_end(json);
}

void form_members(struct json *json, struct bytes members)
{
	if (members.len == 0)
		return;
	if (json->comma)
		buffer_append_char(json->buffer, ',');
	buffer_append_bytes(json->buffer, members);
	json->comma = true;
}

struct bytes form_replica(struct bytes locked_by)
{
	const char *hash = locked_by.data ? memrchr(locked_by.data, '#', locked_by.len) : NULL;
	if (hash)
		locked_by.len = (size_t)(hash - locked_by.data);
	return locked_by;
}

/* Where the task went: known once somebody has taken it. */
static void form_route(struct json *json, const struct task *task, struct bytes replica)
{
	json_key(json, "route");
	json_object(json);
	json_member_string(json, "executor", task->executor);
	json_member_string(json, "replica", replica);
	json_member_string(json, "queue", task->queue);
	json_object_end(json);
}

/* `record`: of the attempt that ended it; NULL: there is none yet. */
static void form_members_of_status(
	struct json *json, const struct task *task, const struct attempt_record *record, struct bytes replica)
{
	char job_name[JOB_NAME_SIZE];
	enum task_phase phase = task_phase_of(task->status, task->reason, task->started_at_us);
	form_word(json, "job_name", job_name_format(&task->id, 0, job_name));
	json_member_string(json, "eval_id", task->eval_id);
	form_uuid(json, "task_id", &task->id);
	form_word(json, "status", task_outcome_name(task->status));
	form_word(json, "phase", task_phase_name(phase));
	form_word(json, "reason", task_reason_name(task->reason));
	form_word(json, "fault", task_fault_name(task_reason_fault(task->reason)));
	form_word(json, "cause", task_reason_name(task->cause));
	form_exit(json, record);
	json_member_int(json, "attempts", task->attempts);
	json_member_int(json, "attempt", task->attempt);
	json_member_time(json, "queued_at", task->queued_at_us);
	json_member_time(json, "started_at", task->started_at_us);
	json_member_time(json, "finished_at", task->finished_at_us);
	form_duration(json, task->started_at_us, task->finished_at_us);
	form_usage(json, record);
	json_member_string(json, "executor", task->executor);
	json_member_string(json, "node", task->node);
	json_member_string(json, "pod", task->pod);
	json_member_string(json, "image", task->image);
	json_member_string(json, "error", task->error);
	json_member_int(json, "priority", task->priority);
	json_member_string(json, "queue", task->queue);
	json_member_string(json, "type", task->type);
	json_member_int(json, "run", task->run);
	form_uuid(json, "batch_id", &task->batch_id);
	json_member_bool(json, "stdout_truncated", record && record->stdout_truncated);
	json_member_bool(json, "stderr_truncated", record && record->stderr_truncated);
	if (record && record->has_score) {
		form_score(json, record);
		json_member_raw(json, "tests", record->tests.data ? record->tests : BYTES_LITERAL("[]"));
	}
	form_route(json, task, replica);
	if (record)
		form_members(json, record->extra);
}

/* Members that are null are left out: the store parses and writes each of them, and SQL does not tell the difference. */
void form_result(struct json *json, const struct task *task, const struct attempt_record *record)
{
	struct task ended = *task;
	ended.status = record->status;
	ended.reason = record->reason;
	ended.cause = record->cause;
	ended.error = record->error;
	ended.node = record->node;
	ended.pod = record->pod;
	ended.image = record->image;
	ended.started_at_us = record->started_at_us;
	ended.finished_at_us = record->finished_at_us;
	json->sparse = true;
	json_object(json);
	form_members_of_status(json, &ended, record, form_replica(task->locked_by));
	json_object_end(json);
	json->sparse = false;
}

/* A row that was cancelled while it waited may have no result, since one statement cancels many. */
static void form_status_members(struct json *json, const struct task *task)
{
	if (!task_status_ended(task->status) || !task->result.data) {
		form_members_of_status(json, task, NULL, form_replica(task->locked_by));
		return;
	}
	struct task ended = *task;
	struct kept_result kept;
	kept_result_read(&kept, task->result);
	if (kept.is_status)
		ended.error = kept.record.error;
	form_members_of_status(json, &ended, &kept.record, kept.replica);
	kept_result_fini(&kept);
}

void form_status(struct json *json, const struct task *task)
{
	json_object(json);
	form_status_members(json, task);
	json_object_end(json);
}

void form_task(struct json *json, const struct task *task)
{
	json_object(json);
	form_status_members(json, task);
	form_uuid(json, "id", &task->id);
	form_word(json, "state", task_status_name(task->status));
	json_member_int(json, "max_attempts", task->max_attempts);
	json_member_string(json, "locked_by", task->locked_by);
	json_member_time(json, "locked_at", task->locked_at_us);
	json_member_time(json, "run_after", task->run_after_us);
	json_member_string(json, "description", task->description);
	json_member_string(json, "domain", task->domain);
	json_member_double(json, "drift_score", task->drift_score);
	if (task->params.data)
		json_member_raw(json, "params", task->params);
	json_member_raw(json, "result", task->result.data ? task->result : BYTES_LITERAL("null"));
	json_member_time(json, "created_at", task->created_at_us);
	json_member_time(json, "updated_at", task->updated_at_us);
	json_member_time(json, "cancel_requested_at", task->cancel_requested_at_us);
	json_member_string(json, "idempotency_key", task->idempotency_key);
	json_member_raw(json, "metadata", task->metadata.data ? task->metadata : BYTES_LITERAL("null"));
	json_member_string(json, "traceparent", task->traceparent);
	json_object_end(json);
}
