/* POST /tasks, GET /tasks, POST /tasks/{id}/run and /cancel, GET /tasks/{id}/why. */
#include <stdio.h>
#include <string.h>
#include <yyjson.h>

#include "api/body.h"
#include "api/command.h"
#include "api/handlers.h"
#include "api/lookup.h"
#include "api/problem.h"
#include "api/submission.h"
#include "base/clock.h"
#include "base/text.h"
#include "coordinator/coordinator.h"
#include "task/evaluation_reader.h"
#include "task/forms.h"
#include "task/job_name.h"
#include "task/lifecycle.h"

/* ---- GET /tasks ---- */

#define LIST_DEFAULT 50
#define LIST_MAX 200

static bool read_statuses(struct call *call, uint32_t *ret_mask)
{
	struct bytes list = call_query(call, "status");
	*ret_mask = 0;
	while (list.len > 0) {
		const char *comma = memchr(list.data, ',', list.len);
		struct bytes name = { list.data, comma ? (size_t)(comma - list.data) : list.len };
		enum task_status status;
		if (!task_status_parse(name, &status)) {
			problem_parameter(call, "status",
				"status must be of QUEUED, RUNNING, COMPLETED, FAILED, RETRY, CANCELLED, and is "
				"\"%.*s\"",
				(int)(name.len < 32 ? name.len : 32), name.data);
			return false;
		}
		*ret_mask |= 1u << status;
		size_t used = name.len + (comma ? 1 : 0);
		list.data += used;
		list.len -= used;
	}
	return true;
}

static void on_list(struct store_operation *operation)
{
	struct read_list *list = CONTAINER_OF(operation, struct read_list, operation);
	struct call *call = operation->owner;
	if (!call_back(call) || !call_operation_ok(call, operation))
		return;
	struct buffer *buffer = call_buffer(call);
	struct json json = JSON_TO(buffer);
	json_object(&json);
	json_key(&json, "tasks");
	json_array(&json);
	for (size_t i = 0; i < list->result_count; i++)
		form_task(&json, &list->results[i]);
	json_array_end(&json);
	if (list->more && !uuid_is_nil(&list->next)) {
		char cursor[UUID_TEXT_SIZE];
		json_member_string(&json, "next_cursor", bytes_of(uuid_format(&list->next, cursor)));
	} else {
		json_member_null(&json, "next_cursor");
	}
	json_object_end(&json);
	call_respond_json(call, 200);
}

void handle_task_list(struct call *call)
{
	struct read_list *list = arena_alloc(&call->arena, sizeof(*list));
	int64_t limit;
	if (!read_statuses(call, &list->status_mask) || !call_query_uuid(call, "batch", &list->batch_id) ||
		!call_query_int(call, "limit", 1, LIST_MAX, LIST_DEFAULT, &limit))
		return;
	struct bytes cursor = call_query(call, "cursor");
	if (cursor.len > 0 && !uuid_parse(cursor, &list->before)) {
		problem_parameter(call, "cursor", "this is no cursor that this service has given");
		return;
	}
	list->tenant = principal_scope(&call->who);
	list->type = arena_bytes(&call->arena, call_query(call, "type"));
	list->queue = arena_bytes(&call->arena, call_query(call, "queue"));
	list->eval_id = arena_bytes(&call->arena, call_query(call, "eval_id"));
	list->limit = (size_t)limit;
	call_operation(call, &list->operation, on_list);
	call_out(call);
	call->api->store->ops->read_list(call->api->store, list);
}

/* ---- GET /tasks/{id}/why ---- */

struct why {
	const struct task *task;
	struct read_position position;
};

static void answer_why(struct call *call, const struct task *task, const struct read_position *position)
{
	struct wait_reason reason = coordinator_why(call->api->coordinator, task, position);
	bool waits = task->status == TASK_QUEUED || task->status == TASK_RETRY;
	char id[UUID_TEXT_SIZE], name[JOB_NAME_SIZE];
	struct buffer *buffer = call_buffer(call);
	struct json json = JSON_TO(buffer);
	json_object(&json);
	json_member_string(&json, "task_id", bytes_of(uuid_format(&task->id, id)));
	json_member_string(&json, "job_name", bytes_of(job_name_format(&task->id, 0, name)));
	json_member_string(&json, "phase",
		bytes_of(task_phase_name(task_phase_of(task->status, task->reason, task->started_at_us))));
	json_member_string(&json, "reason", bytes_of(reason.word));
	json_member_string(&json, "detail", bytes_of(reason.words));
	if (waits && position)
		json_member_int(&json, "position", position->ahead + 1);
	else
		json_member_null(&json, "position");
	json_member_time(&json, "queued_at", task->queued_at_us);
	json_member_time(&json, "run_after", task->run_after_us);
	if (waits)
		json_member_double(&json, "age_seconds", (double)(clock_wall_us() - task->queued_at_us) / 1e6);
	else
		json_member_null(&json, "age_seconds");
	json_object_end(&json);
	call_respond_json(call, 200);
}

static void on_position(struct store_operation *operation)
{
	struct why *why = CONTAINER_OF(operation, struct why, position.operation);
	struct call *call = operation->owner;
	if (call_back(call) && call_operation_ok(call, operation))
		answer_why(call, why->task, &why->position);
}

static void on_why_task(struct call *call, const struct task *task)
{
	const struct task *own = call_own_task(call);
	if (own) {
		answer_why(call, own, NULL);
		return;
	}
	if (task->status != TASK_QUEUED && task->status != TASK_RETRY) {
		answer_why(call, task, NULL);
		return;
	}
	struct why *why = arena_alloc(&call->arena, sizeof(*why));
	why->task = task;
	why->position.id = call->id;
	call_operation(call, &why->position.operation, on_position);
	call_out(call);
	call->api->store->ops->read_position(call->api->store, &why->position);
}

static void on_why_resolved(struct call *call)
{
	call_read_task(call, false, on_why_task);
}

void handle_task_why(struct call *call)
{
	call_resolve(call, on_why_resolved);
}

/* ---- POST /tasks/{id}/run, /cancel ---- */

static void answer_command(struct call *call, const struct store_command *command)
{
	const struct command_result *result = command->result_count > 0 ? &command->results[0] : NULL;
	if (!result || result->status == COMMAND_NOT_FOUND) {
		problem_not_found(call);
		return;
	}
	bool cancel = command->kind == COMMAND_CANCEL;
	if (result->status == COMMAND_CONFLICT) {
		if (cancel)
			problem(call, 409, "ended", "this task has ended (%s), there is nothing to cancel",
				task_status_name(result->task_status));
		else
			problem(call, 409, "running", "this task is running; it can be run again when it has ended");
		return;
	}
	char id[UUID_TEXT_SIZE], name[JOB_NAME_SIZE];
	struct buffer *buffer = call_buffer(call);
	struct json json = JSON_TO(buffer);
	json_object(&json);
	json_member_string(&json, "task_id", bytes_of(uuid_format(&result->id, id)));
	json_member_string(&json, "job_name", bytes_of(job_name_format(&result->id, 0, name)));
	json_member_string(&json, "status", bytes_of(task_outcome_name(result->task_status)));
	json_member_string(&json, "state", bytes_of(task_status_name(result->task_status)));
	json_member_bool(&json, "cancel_requested", result->status == COMMAND_REQUESTED);
	json_object_end(&json);
	/* Asked for, but not yet so: it ends when the kill is confirmed. */
	call_respond_json(call, result->status == COMMAND_REQUESTED ? 202 : 200);
}

static void on_cancel_resolved(struct call *call)
{
	command_send(call, COMMAND_CANCEL, &call->id, NULL, answer_command);
}

/* What has ended waits again, and so is one more in the queue. */
static void on_run_row(struct call *call, const struct task *task)
{
	if (!task_status_ended(task->status) || !coordinator_queue_full(call->api->coordinator, task->tenant)) {
		command_send(call, COMMAND_RUN, &call->id, NULL, answer_command);
		return;
	}
	char seconds[16];
	int length = snprintf(seconds, sizeof(seconds), "%d", ADMISSION_RETRY_AFTER_S);
	const struct http_header retry = { BYTES_LITERAL("Retry-After"), { seconds, (size_t)length } };
	problem_with_headers(call, 429, "queue-full", &retry, 1, "too many tasks are waiting already");
}

static void on_run_resolved(struct call *call)
{
	call_read_task(call, false, on_run_row);
}

void handle_task_cancel(struct call *call)
{
	call_resolve(call, on_cancel_resolved);
}

void handle_task_run(struct call *call)
{
	call_resolve(call, on_run_resolved);
}

/* ---- POST /tasks ---- */

#define TEST_PARAMS_MAX ((size_t)16 * 1024)
#define TEXT_MAX 4096

enum field {
	FIELD_TYPE,
	FIELD_PARAMS,
	FIELD_DESCRIPTION,
	FIELD_DOMAIN,
	FIELD_DRIFT_SCORE,
	FIELD_PRIORITY,
	FIELD_QUEUE,
	FIELD_RUN_AFTER,
	FIELD_MAX_ATTEMPTS,
	FIELD_END,
};

static const struct bytes field_names[FIELD_END] = {
	[FIELD_TYPE] = { "type", 4 },
	[FIELD_PARAMS] = { "params", 6 },
	[FIELD_DESCRIPTION] = { "description", 11 },
	[FIELD_DOMAIN] = { "domain", 6 },
	[FIELD_DRIFT_SCORE] = { "drift_score", 11 },
	[FIELD_PRIORITY] = { "priority", 8 },
	[FIELD_QUEUE] = { "queue", 5 },
	[FIELD_RUN_AFTER] = { "run_after", 9 },
	[FIELD_MAX_ATTEMPTS] = { "max_attempts", 12 },
};

struct creation {
	struct bytes body;
	struct call *call; /* of it a thread uses the arena alone */
	const struct evaluation_limits *limits;
	struct submission_headers headers;
	yyjson_doc *document; /* owned by the call's clean-up */
	yyjson_read_err fault;
	yyjson_val *values[FIELD_END];
	bool is_test;
	struct prepared prepared; /* of an evaluation */
	struct submission columns; /* the fields of the task itself */
	uint8_t digest[33];
	bool good;
	struct field_errors errors;
};

/* A name of a queue or a domain: what the columns of an evaluation take too. */
static bool read_name(struct reader *reader, const struct path *path, yyjson_val *value, struct bytes *ret)
{
	if (!read_text(reader, path, value, 1, 200, ret))
		return false;
	if (evaluation_key_valid(*ret))
		return true;
	reader_fail(reader, path, "must be of printable characters");
	return false;
}

static bool read_due(struct reader *reader, const struct path *path, yyjson_val *value, int64_t *ret_us)
{
	double seconds = yyjson_get_num(value);
	if (yyjson_is_num(value) && seconds >= 0 && seconds <= 253402300799.0) {
		*ret_us = (int64_t)(seconds * 1e6);
		return true;
	}
	if (yyjson_is_str(value) && clock_parse((struct bytes){ yyjson_get_str(value), yyjson_get_len(value) }, ret_us))
		return true;
	reader_fail(reader, path, "must be an RFC 3339 time such as \"2030-01-31T12:00:00Z\", or seconds since 1970");
	return false;
}

static bool read_columns(struct creation *creation, struct reader *reader, const struct path *at)
{
	struct submission *to = &creation->columns;
	yyjson_val **values = creation->values;
	bool good = true;
	to->priority = creation->limits->priority_default;
	to->max_attempts = creation->limits->max_attempts_default;
	if (values[FIELD_DESCRIPTION])
		good &= read_text(
			reader, &at[FIELD_DESCRIPTION], values[FIELD_DESCRIPTION], 0, TEXT_MAX, &to->description);
	if (values[FIELD_DOMAIN])
		good &= read_name(reader, &at[FIELD_DOMAIN], values[FIELD_DOMAIN], &to->domain);
	if (values[FIELD_QUEUE])
		good &= read_name(reader, &at[FIELD_QUEUE], values[FIELD_QUEUE], &to->queue);
	if (values[FIELD_DRIFT_SCORE]) {
		if (yyjson_is_num(values[FIELD_DRIFT_SCORE]))
			to->drift_score = yyjson_get_num(values[FIELD_DRIFT_SCORE]);
		else
			reader_fail(reader, &at[FIELD_DRIFT_SCORE], "must be a number"), good = false;
	}
	if (values[FIELD_PRIORITY])
		good &= read_int(reader, &at[FIELD_PRIORITY], values[FIELD_PRIORITY], 0, 9, &to->priority);
	if (values[FIELD_MAX_ATTEMPTS])
		good &= read_int(reader, &at[FIELD_MAX_ATTEMPTS], values[FIELD_MAX_ATTEMPTS], 1,
			creation->limits->max_attempts_max, &to->max_attempts);
	if (values[FIELD_RUN_AFTER])
		good &= read_due(reader, &at[FIELD_RUN_AFTER], values[FIELD_RUN_AFTER], &to->run_after_us);
	return good;
}

/* How deep the value is nested, looked at only down to `left` levels: false where it goes deeper. */
static bool depth_within(yyjson_val *value, int left)
{
	if (!yyjson_is_ctn(value))
		return true;
	if (left == 0)
		return false;
	size_t i, count;
	yyjson_val *key, *item;
	if (yyjson_is_arr(value)) {
		yyjson_arr_foreach(value, i, count, item)
		{
			if (!depth_within(item, left - 1))
				return false;
		}
	} else {
		yyjson_obj_foreach(value, i, count, key, item)
		{
			if (!depth_within(item, left - 1))
				return false;
		}
	}
	return true;
}

static bool read_test_params(struct creation *creation, struct reader *reader, const struct path *at)
{
	yyjson_val *value = creation->values[FIELD_PARAMS];
	creation->columns.params = BYTES_LITERAL("{}");
	if (!value)
		return true;
	if (!yyjson_is_obj(value) || !depth_within(value, EVALUATION_DEPTH_MAX / 2)) {
		reader_fail(reader, at, "must be an object, nested less than %d deep", EVALUATION_DEPTH_MAX / 2);
		return false;
	}
	size_t len;
	char *text = yyjson_val_write(value, 0, &len);
	bool good = text && len <= TEST_PARAMS_MAX;
	if (good)
		creation->columns.params = arena_bytes(reader->arena, (struct bytes){ text, len });
	else
		reader_fail(reader, at, "must have at most %zu bytes", TEST_PARAMS_MAX);
	free(text);
	return good;
}

static bool read_evaluation_params(struct creation *creation, struct reader *reader, const struct path *at)
{
	if (!creation->values[FIELD_PARAMS]) {
		reader_fail(reader, at, "must be the body of POST /execute");
		return false;
	}
	yyjson_val *params = creation->values[FIELD_PARAMS];
	/* One place for each column: else it would be left to chance which of the two counts. */
	static const enum field columns[] = { FIELD_PRIORITY, FIELD_QUEUE, FIELD_RUN_AFTER, FIELD_MAX_ATTEMPTS };
	bool good = true;
	for (size_t i = 0; i < ARRAY_SIZE(columns); i++) {
		struct bytes name = field_names[columns[i]];
		if (creation->values[columns[i]] && yyjson_obj_getn(params, name.data, name.len)) {
			struct path path = PATH_NAME(at, name);
			reader_fail(reader, &path, "is given twice, here and beside params");
			good = false;
		}
	}
	return good & submission_prepare(params, "/params", true, creation->limits, reader->arena, &creation->prepared,
			      reader->errors);
}

static bool only_params(const struct creation *creation)
{
	for (int i = 0; i < FIELD_END; i++)
		if (creation->values[i] && i != FIELD_TYPE && i != FIELD_PARAMS)
			return false;
	return true;
}

static bool read_creation(struct creation *creation)
{
	yyjson_val *root = yyjson_doc_get_root(creation->document);
	struct reader reader = {
		.arena = &creation->call->arena, .limits = creation->limits, .errors = &creation->errors
	};
	struct path path = { .name = BYTES_LITERAL("") };
	struct path at[FIELD_END];
	for (size_t i = 0; i < FIELD_END; i++)
		at[i] = PATH_NAME(&path, field_names[i]);
	if (!yyjson_is_obj(root)) {
		reader_fail(&reader, &path, "must be an object");
		return false;
	}
	bool good = read_object(&reader, &path, root, field_names, FIELD_END, creation->values);
	yyjson_val *type = creation->values[FIELD_TYPE];
	creation->is_test = yyjson_equals_str(type, "test");
	if (!creation->is_test && !yyjson_equals_str(type, "evaluation")) {
		reader_fail(&reader, &at[FIELD_TYPE], "must be \"evaluation\" or \"test\"");
		return false;
	}
	good &= read_columns(creation, &reader, at);
	if (creation->is_test)
		good &= read_test_params(creation, &reader, &at[FIELD_PARAMS]);
	else
		good &= read_evaluation_params(creation, &reader, &at[FIELD_PARAMS]);
	if (!good)
		return false;
	/* An evaluation with nothing beside it is the same request as its params at POST /execute. */
	if (!creation->is_test && only_params(creation))
		memcpy(creation->digest, creation->prepared.digest, sizeof(creation->digest));
	else if (!evaluation_digest(root, creation->digest)) {
		reader_fail(&reader, &path, "is too large for the memory that is left");
		return false;
	}
	return true;
}

static void prepare_creation(void *data)
{
	struct creation *creation = data;
	struct body_memory memory = body_memory_for(creation->body);
	creation->document = body_parse(creation->body, &memory, &creation->fault);
	if (creation->document)
		creation->good = read_creation(creation);
}

static void fill_test(struct call *call, const struct creation *creation, struct submission *to)
{
	*to = creation->columns;
	to->id = uuid_new(call->api->ids);
	to->tenant = call->who.tenant;
	to->type = BYTES_LITERAL("test");
	if (!to->queue.data)
		to->queue = BYTES_LITERAL("default");
}

static bool fill_evaluation(struct call *call, struct creation *creation, struct submission *to)
{
	if (!submission_fill(
		    call->api, &call->who, &creation->prepared, "/params", &call->arena, to, &creation->errors))
		return false;
	const struct submission *columns = &creation->columns;
	to->description = columns->description;
	to->domain = columns->domain;
	to->drift_score = columns->drift_score;
	if (columns->queue.data)
		to->queue = columns->queue;
	if (creation->values[FIELD_PRIORITY])
		to->priority = columns->priority;
	if (creation->values[FIELD_MAX_ATTEMPTS])
		to->max_attempts = columns->max_attempts;
	if (creation->values[FIELD_RUN_AFTER])
		to->run_after_us = columns->run_after_us;
	return true;
}

static void on_creation_prepared(struct call *call)
{
	struct creation *creation = call->data;
	if (!creation->document) {
		problem(call, 400, "not-json", "the body is not JSON: %s at byte %zu", creation->fault.msg,
			creation->fault.pos);
		return;
	}
	struct submission submission = { 0 };
	if (creation->good && creation->is_test) {
		const char *field = NULL;
		struct err err = { 0 };
		struct executor *executor = coordinator_route(call->api->coordinator, BYTES_LITERAL("test"), BYTES_NONE,
			/* evaluation= */ NULL, &field, &err);
		fill_test(call, creation, &submission);
		if (executor)
			submission.executor = executor->ops->status(executor)->name;
		else
			field_errors_add(&creation->errors, &call->arena, "/type", "%s", err.message);
		creation->good = executor != NULL;
	} else if (creation->good) {
		creation->good = fill_evaluation(call, creation, &submission);
	}
	if (!creation->good) {
		problem_fields(call, &creation->errors);
		return;
	}
	memcpy(submission.digest, creation->digest, sizeof(submission.digest));
	submission.idempotency_key = creation->headers.idempotency_key;
	submission.traceparent = creation->headers.traceparent;
	submission_admit(call, &submission, 0);
}

static void free_creation(void *data)
{
	struct creation *creation = data;
	yyjson_doc_free(creation->document);
}

void handle_task_create(struct call *call)
{
	enum body_kind kind;
	struct creation *creation = arena_alloc(&call->arena, sizeof(*creation));
	if (!body_kind(call, false, &kind) || !submission_headers_read(call, &creation->headers))
		return;
	creation->call = call;
	creation->limits = call->api->evaluation_limits;
	call->data = creation;
	call_cleanup(call, free_creation, creation);
	body_work(call, &creation->body, prepare_creation, creation, on_creation_prepared);
}
