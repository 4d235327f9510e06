/* Look-ups end in the call's next step or in its answer, never in both. A task of another tenant is not found, by no
 * form of its id. */
#include "api/lookup.h"

#include <string.h>

#include "api/problem.h"
#include "base/text.h"
#include "coordinator/coordinator.h"
#include "task/job_name.h"
#include "task/lifecycle.h"

#define CANDIDATES_MAX 20
#define PREFIX_MIN 4
#define HEX_DIGITS 32

/* ---- short ids ---- */

/* Lower-case hex digits without dashes into `to`; 0 when it is something else. */
static size_t hex_digits(struct bytes text, char to[static HEX_DIGITS])
{
	size_t len = 0;
	for (size_t i = 0; i < text.len; i++) {
		char c = text.data[i];
		if (c == '-')
			continue;
		if (c >= 'A' && c <= 'F')
			c = (char)(c | 0x20);
		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')) || len == HEX_DIGITS)
			return 0;
		to[len++] = c;
	}
	return len;
}

static void answer_several(struct call *call, const struct read_match *match)
{
	struct buffer *buffer = call_buffer(call);
	struct json json = JSON_TO(buffer);
	json_object(&json);
	problem_members(&json, 409, "ambiguous-id", "several tasks have an id that begins or ends so");
	json_key(&json, "candidates");
	json_array(&json);
	for (size_t i = 0; i < match->result_count && i < CANDIDATES_MAX; i++) {
		char text[UUID_TEXT_SIZE], name[JOB_NAME_SIZE];
		json_object(&json);
		json_member_string(&json, "task_id", bytes_of(uuid_format(&match->results[i], text)));
		json_member_string(&json, "job_name", bytes_of(job_name_format(&match->results[i], 0, name)));
		json_object_end(&json);
	}
	json_array_end(&json);
	json_member_bool(&json, "more", match->result_count > CANDIDATES_MAX);
	json_object_end(&json);
	call_respond(call, 409, PROBLEM_CONTENT_TYPE, buffer_bytes(buffer), NULL, 0);
}

static void on_matched(struct store_operation *operation)
{
	struct read_match *match = CONTAINER_OF(operation, struct read_match, operation);
	struct call *call = operation->owner;
	if (!call_back(call))
		return;
	if (!call_operation_ok(call, operation))
		return;
	if (match->result_count == 0) {
		problem_not_found(call);
		return;
	}
	if (match->result_count > 1) {
		answer_several(call, match);
		return;
	}
	call->id = match->results[0];
	call->next(call);
}

void call_resolve(struct call *call, void (*next)(struct call *call))
{
	if (job_name_parse(call->argument, &call->id, &call->attempt) || uuid_parse(call->argument, &call->id)) {
		next(call);
		return;
	}
	char digits[HEX_DIGITS];
	size_t len = hex_digits(call->argument, digits);
	if (len == HEX_DIGITS) {
		hex_decode((struct bytes){ digits, len }, call->id.bytes, sizeof(call->id.bytes));
		next(call);
		return;
	}
	if (len < PREFIX_MIN) {
		problem_not_found(call);
		return;
	}
	struct read_match *match = arena_alloc(&call->arena, sizeof(*match));
	match->text = arena_bytes(&call->arena, (struct bytes){ digits, len });
	match->tenant = principal_scope(&call->who);
	call->next = next;
	call_operation(call, &match->operation, on_matched);
	call_out(call);
	call->api->store->ops->read_match(call->api->store, match);
}

/* ---- tasks ---- */

const struct task *call_own_task(const struct call *call)
{
	const struct task *task = coordinator_find(call->api->coordinator, &call->id);
	if (!task || task_status_ended(task->status))
		return NULL;
	struct bytes scope = principal_scope(&call->who);
	return !scope.data || bytes_equal(scope, task->tenant) ? task : NULL;
}

struct task_read {
	struct read_task read;
	void (*next)(struct call *call, const struct task *task);
};

static void on_task_read(struct store_operation *operation)
{
	struct task_read *read = CONTAINER_OF(operation, struct task_read, read.operation);
	struct call *call = operation->owner;
	if (!call_back(call))
		return;
	if (!call_operation_ok(call, operation))
		return;
	const struct task *task = read->read.results[0];
	if (!task)
		problem_not_found(call);
	else
		read->next(call, task);
}

void call_read_task(struct call *call, bool with_params, void (*next)(struct call *call, const struct task *task))
{
	struct task_read *read = arena_alloc(&call->arena, sizeof(*read));
	read->next = next;
	read->read.ids = &call->id;
	read->read.count = 1;
	read->read.tenant = principal_scope(&call->who);
	read->read.with_params = with_params;
	call_operation(call, &read->read.operation, on_task_read);
	call_out(call);
	call->api->store->ops->read_task(call->api->store, &read->read);
}
