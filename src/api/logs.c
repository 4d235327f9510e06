/* GET /logs/{id}: as JSON, as the very bytes (Accept: text/plain), and followed (?follow=1). The latter two are
 * streams: log_stream.c. */
#include "api/body.h"
#include "api/handlers.h"
#include "api/log_stream.h"
#include "api/lookup.h"
#include "api/problem.h"
#include "api/result.h"
#include "base/text.h"
#include "coordinator/coordinator.h"
#include "task/job_name.h"
#include "task/lifecycle.h"

struct logs {
	struct read_output read;
	const struct task *task;
	struct buffer answer;
};

/* ---- as JSON ---- */

static void write_answer(void *data)
{
	struct logs *logs = data;
	char name[JOB_NAME_SIZE];
	struct json json = JSON_TO(&logs->answer);
	uint64_t next = logs->read.offset + result_output_size(&logs->read);
	json_object(&json);
	json_member_string(&json, "job_name", bytes_of(job_name_format(&logs->read.task_id, 0, name)));
	json_member_int(&json, "attempt", logs->read.attempt_read);
	result_output_members(&json, &logs->read, true);
	/* What was not kept is told of the last attempt. */
	bool last = logs->read.attempt_read == logs->task->attempt;
	json_member_bool(&json, "truncated", last && result_truncated(logs->task));
	json_member_int(&json, "offset", (int64_t)next);
	json_member_bool(&json, "more", next < logs->read.end);
	json_object_end(&json);
}

static void on_written(struct call *call)
{
	struct logs *logs = call->data;
	if (logs->answer.failed)
		problem(call, 500, "internal", "there is not enough memory for the answer");
	else
		call_respond(call, 200, "application/json", buffer_bytes(&logs->answer), NULL, 0);
}

static void on_output(struct store_operation *operation)
{
	struct logs *logs = CONTAINER_OF(operation, struct logs, read.operation);
	struct call *call = operation->owner;
	if (!call_back(call))
		return;
	if (call_operation_ok(call, operation))
		call_work(call, result_output_size(&logs->read), write_answer, logs, on_written);
}

static void on_flushed(void *owner)
{
	struct call *call = owner;
	struct logs *logs = call->data;
	if (!call_back(call))
		return;
	call_operation(call, &logs->read.operation, on_output);
	call_out(call);
	call->api->store->ops->read_output(call->api->store, &logs->read);
}

static void free_answer(void *data)
{
	struct logs *logs = data;
	buffer_fini(&logs->answer);
}

/* ---- which output ---- */

static bool read_stream(struct call *call, int *ret_stream)
{
	struct bytes text = call_query(call, "stream");
	if (!text.data)
		*ret_stream = 0;
	else if (bytes_is(text, "stdout") || bytes_is(text, "1"))
		*ret_stream = 1;
	else if (bytes_is(text, "stderr") || bytes_is(text, "2"))
		*ret_stream = 2;
	else {
		problem_parameter(call, "stream", "stream must be stdout or stderr");
		return false;
	}
	return true;
}

static void on_task(struct call *call, const struct task *task)
{
	struct log_range range = { .task_id = call->id, .attempt = call->attempt };
	int64_t offset, attempt;
	bool follow;
	if (!read_stream(call, &range.stream) || !call_query_int(call, "offset", 0, INT64_MAX, 0, &offset) ||
		!call_query_int(call, "attempt", 1, INT32_MAX, call->attempt, &attempt) ||
		!call_query_bool(call, "follow", &follow))
		return;
	const struct task *own = call_own_task(call);
	if (own)
		task = own;
	range.attempt = (int)attempt;
	range.offset = (uint64_t)offset;
	if (range.attempt > task->attempt) {
		problem(call, 404, "not-found", "this task has had %d attempts so far", task->attempt);
		return;
	}
	if (follow || call_accepts(call, "text/plain")) {
		log_stream_start(call, &range, task, follow);
		return;
	}
	struct logs *logs = arena_alloc(&call->arena, sizeof(*logs));
	logs->task = task;
	if (own) {
		struct task *copy = arena_alloc(&call->arena, sizeof(*copy));
		/* Of a task that runs here nothing is kept longer than the loop's turn; it has no result yet. */
		copy->attempt = own->attempt;
		logs->task = copy;
	}
	logs->read.task_id = call->id;
	logs->read.attempt = range.attempt;
	logs->read.stream = range.stream;
	logs->read.offset = range.offset;
	logs->read.limit = RESULT_OUTPUT_MAX;
	call->data = logs;
	call_cleanup(call, free_answer, logs);
	call_out(call);
	coordinator_flush_output(call->api->coordinator, &call->id, on_flushed, call);
}

static void on_resolved(struct call *call)
{
	call_read_task(call, false, on_task);
}

void handle_logs(struct call *call)
{
	call_resolve(call, on_resolved);
}
