/* Status objects: see forms.h. Event payloads are in forms_event.c.
 *
 * One function writes the object, from one struct of facts, whether the facts come from an attempt that has just ended
 * or from a row. What it wrote when a task ended is kept in the row's `result` and given out as it is from then on. */
#include "task/forms.h"

#include <stdlib.h>
#include <yyjson.h>

#include "base/uuid.h"
#include "task/forms_internal.h"
#include "task/job_name.h"
#include "task/lifecycle.h"

struct facts {
	enum task_status status;
	enum task_reason reason, cause;
	int64_t started_at_us, finished_at_us;
	struct bytes error, node, pod, image;
	const struct attempt_record *record; /* borrowed; NULL where the attempt itself is not known */
};

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

/* Where the task went: known once somebody has taken it. */
static void form_route(struct json *json, const struct task *task)
{
	struct bytes replica = task->locked_by;
	const char *hash = replica.data ? memrchr(replica.data, '#', replica.len) : NULL;
	if (hash)
		replica.len = (size_t)(hash - replica.data);
	json_key(json, "route");
	json_object(json);
	json_member_string(json, "executor", task->executor);
	json_member_string(json, "replica", replica);
	json_member_string(json, "queue", task->queue);
	json_object_end(json);
}

static void form_members_of_status(struct json *json, const struct task *task, const struct facts *facts)
{
	char job_name[JOB_NAME_SIZE];
	const struct attempt_record *record = facts->record;
	enum task_phase phase = task_phase_of(facts->status, facts->reason, facts->started_at_us);
	form_word(json, "job_name", job_name_format(&task->id, 0, job_name));
	json_member_string(json, "eval_id", task->eval_id);
	form_uuid(json, "task_id", &task->id);
	form_word(json, "status", task_outcome_name(facts->status));
	form_word(json, "phase", task_phase_name(phase));
	form_word(json, "reason", task_reason_name(facts->reason));
	form_word(json, "fault", task_fault_name(task_reason_fault(facts->reason)));
	form_word(json, "cause", task_reason_name(facts->cause));
	form_exit(json, record);
	json_member_int(json, "attempts", task->attempts);
	json_member_int(json, "attempt", task->attempt);
	json_member_time(json, "queued_at", task->queued_at_us);
	json_member_time(json, "started_at", facts->started_at_us);
	json_member_time(json, "finished_at", facts->finished_at_us);
	form_duration(json, facts->started_at_us, facts->finished_at_us);
	form_usage(json, record);
	json_member_string(json, "executor", task->executor);
	json_member_string(json, "node", facts->node);
	json_member_string(json, "pod", facts->pod);
	json_member_string(json, "image", facts->image);
	json_member_string(json, "error", facts->error);
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
	form_route(json, task);
	if (record)
		form_members(json, record->extra);
}

void form_result(struct json *json, const struct task *task, const struct attempt_record *record)
{
	struct facts facts = {
		.status = record->status,
		.reason = record->reason,
		.cause = record->cause,
		.started_at_us = record->started_at_us,
		.finished_at_us = record->finished_at_us,
		.error = record->error,
		.node = record->node,
		.pod = record->pod,
		.image = record->image,
		.record = record,
	};
	json_object(json);
	form_members_of_status(json, task, &facts);
	json_object_end(json);
}

static void form_members_of_row(struct json *json, const struct task *task)
{
	struct facts facts = {
		.status = task->status,
		.reason = task->reason,
		.cause = task->cause,
		.started_at_us = task->started_at_us,
		.finished_at_us = task->finished_at_us,
		.error = task->error,
		.node = task->node,
		.pod = task->pod,
		.image = task->image,
	};
	form_members_of_status(json, task, &facts);
}

static void form_value(struct json *json, yyjson_val *key, yyjson_val *value)
{
	size_t length;
	char *text = yyjson_val_write(value, 0, &length);
	json_member_raw(json, yyjson_get_str(key), (struct bytes){ text, text ? length : 0 });
	free(text);
}

/* The members of a kept status in the order in which a status is written, of which the row alone gives the example;
 * what only the attempt knew comes last. */
static void form_members_in_order(struct json *json, const struct task *task, yyjson_val *kept)
{
	struct buffer text = { 0 };
	struct json example = JSON_TO(&text);
	json_object(&example);
	form_members_of_row(&example, task);
	json_object_end(&example);
	yyjson_doc *document = yyjson_read(text.data, text.len, 0);
	yyjson_val *order = yyjson_doc_get_root(document), *key, *value;
	size_t i, count;
	yyjson_obj_foreach(order, i, count, key, value)
	{
		yyjson_val *own = yyjson_obj_get(kept, yyjson_get_str(key));
		form_value(json, key, own ? own : value);
	}
	yyjson_obj_foreach(kept, i, count, key, value)
	{
		if (!yyjson_obj_get(order, yyjson_get_str(key)))
			form_value(json, key, value);
	}
	yyjson_doc_free(document);
	buffer_fini(&text);
}

/* What was kept when the task ended, where that is a status: a row that was cancelled while it waited may have none,
 * since one statement cancels many. A store may give the object back with its members in another order (jsonb has one
 * of its own). */
static bool form_kept_status(struct json *json, const struct task *task)
{
	static const char begin[] = "{\"job_name\":";
	struct bytes result = task->result;
	if (!task_status_ended(task->status) || !result.data)
		return false;
	if (result.len > sizeof(begin) && memcmp(result.data, begin, sizeof(begin) - 1) == 0) {
		form_members(json, (struct bytes){ result.data + 1, result.len - 2 });
		return true;
	}
	yyjson_doc *document = yyjson_read(result.data, result.len, 0);
	yyjson_val *kept = yyjson_doc_get_root(document);
	bool is_status = yyjson_obj_get(kept, "job_name") != NULL;
	if (is_status)
		form_members_in_order(json, task, kept);
	yyjson_doc_free(document);
	return is_status;
}

static void form_status_members(struct json *json, const struct task *task)
{
	if (!form_kept_status(json, task))
		form_members_of_row(json, task);
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
