/* GET /tasks/{id}/deliveries: what became of the webhooks of a task. */
#include "api/handlers.h"
#include "api/lookup.h"
#include "api/problem.h"
#include "base/alloc.h"
#include "task/job_name.h"
#include "webhook/webhooks.h"

static void write_attempts(struct json *json, const struct delivery_record *record)
{
	json_key(json, "attempts");
	json_array(json);
	for (size_t i = 0; i < record->attempt_count; i++) {
		const struct delivery_attempt *attempt = &record->attempts[i];
		json_object(json);
		json_member_time(json, "at", attempt->at_us);
		json_member_double(json, "duration_seconds", (double)attempt->duration_us / 1e6);
		if (attempt->http_status)
			json_member_int(json, "http_status", attempt->http_status);
		else
			json_member_null(json, "http_status");
		json_member_string(json, "error", attempt->error);
		json_object_end(json);
	}
	json_array_end(json);
}

static void write_delivery(struct json *json, const struct uuid *task_id, const struct delivery_record *record)
{
	static const char *const words[] = { "waiting", "delivered", "given_up" };
	char id[WEBHOOK_ID_SIZE];
	bool waits = record->status == DELIVERY_WAITING;
	json_object(json);
	json_member_string(json, "webhook_id", bytes_of(webhook_id_format(task_id, record->run, id)));
	json_member_int(json, "run", record->run);
	json_member_string(json, "status", bytes_of(waits && record->under_way ? "sending" : words[record->status]));
	json_member_time(json, "created_at", record->created_at_us);
	json_member_time(json, "next_attempt_at", waits && !record->under_way ? record->due_at_us : 0);
	write_attempts(json, record);
	json_object_end(json);
}

static void on_deliveries(struct store_operation *operation)
{
	struct read_deliveries *read = CONTAINER_OF(operation, struct read_deliveries, operation);
	struct call *call = operation->owner;
	if (!call_back(call) || !call_operation_ok(call, operation))
		return;
	if (!read->found) {
		problem_not_found(call);
		return;
	}
	char id[UUID_TEXT_SIZE], name[JOB_NAME_SIZE];
	struct buffer *buffer = call_buffer(call);
	struct json json = JSON_TO(buffer);
	json_object(&json);
	json_member_string(&json, "task_id", bytes_of(uuid_format(&call->id, id)));
	json_member_string(&json, "job_name", bytes_of(job_name_format(&call->id, 0, name)));
	json_member_string(&json, "callback_url", read->url);
	json_key(&json, "deliveries");
	json_array(&json);
	for (size_t i = 0; i < read->result_count; i++)
		write_delivery(&json, &call->id, &read->results[i]);
	json_array_end(&json);
	json_object_end(&json);
	call_respond_json(call, 200);
}

static void on_resolved(struct call *call)
{
	struct read_deliveries *read = arena_alloc(&call->arena, sizeof(*read));
	read->task_id = call->id;
	read->tenant = principal_scope(&call->who);
	call_operation(call, &read->operation, on_deliveries);
	call_out(call);
	call->api->store->ops->read_deliveries(call->api->store, read);
}

void handle_task_deliveries(struct call *call)
{
	call_resolve(call, on_resolved);
}
