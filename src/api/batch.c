/* POST /execute/batch and POST /batches/{id}/cancel.
 *
 *   body ──► items, each parsed and checked for itself (on a thread when it is large)
 *        ──► routed, FILL_SLICE of them per turn of the loop
 *        ──► admitted together ──► one answer, in the order of the items (written on a thread when there are many)
 *
 * An item that is not good gets its own answer and is left out of what is admitted. */
#include <string.h>
#include <yyjson.h>

#include "api/body.h"
#include "api/command.h"
#include "api/handlers.h"
#include "api/problem.h"
#include "api/submission.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"
#include "coordinator/coordinator.h"

#define FILL_SLICE 1000
#define ITEM_ANSWER_BYTES 160 /* about: decides where the answer is written */

struct batch_item {
	yyjson_doc *document; /* owned; of a line of NDJSON, else NULL */
	struct prepared prepared;
	struct field_errors errors;
	bool good;
	size_t place; /* among what is admitted */
};

struct batch {
	struct bytes body;
	struct body_memory memory; /* of all its documents */
	enum body_kind kind;
	struct arena *arena; /* the call's */
	const struct evaluation_limits *limits;
	size_t items_max;
	struct bytes traceparent;
	struct uuid id;
	yyjson_doc *document; /* owned; of an array */
	yyjson_read_err fault;
	bool not_array, too_many;
	struct batch_item *items;
	size_t count, filled;
	struct admission admission;
	struct buffer answer;
};

/* ---- parsing: on any thread ---- */

static void prepare_item(struct batch *batch, struct batch_item *item, yyjson_val *value)
{
	item->good = submission_prepare(value, "", false, batch->limits, batch->arena, &item->prepared, &item->errors);
}

static void prepare_array(struct batch *batch)
{
	batch->document = body_parse(batch->body, &batch->memory, &batch->fault);
	if (!batch->document)
		return;
	yyjson_val *root = yyjson_doc_get_root(batch->document), *value;
	batch->not_array = !yyjson_is_arr(root);
	batch->count = yyjson_arr_size(root);
	batch->too_many = batch->count > batch->items_max;
	if (batch->not_array || batch->too_many)
		return;
	batch->items = arena_array(batch->arena, batch->count, sizeof(*batch->items));
	size_t i, count;
	yyjson_arr_foreach(root, i, count, value) prepare_item(batch, &batch->items[i], value);
}

static void prepare_line(struct batch *batch, struct batch_item *item, struct bytes line)
{
	yyjson_read_err fault;
	item->document = body_parse(line, &batch->memory, &fault);
	if (item->document)
		prepare_item(batch, item, yyjson_doc_get_root(item->document));
	else
		field_errors_add(
			&item->errors, batch->arena, "", "this line is not JSON: %s at byte %zu", fault.msg, fault.pos);
}

/* Takes the next line that is not blank off `rest`; absent when there is none. */
static struct bytes next_line(struct bytes *rest)
{
	while (rest->len > 0) {
		const char *end = memchr(rest->data, '\n', rest->len);
		struct bytes line = { rest->data, end ? (size_t)(end - rest->data) : rest->len };
		size_t used = line.len + (end ? 1 : 0);
		rest->data += used;
		rest->len -= used;
		line = text_trim(line);
		if (line.len > 0)
			return line;
	}
	return BYTES_NONE;
}

static void prepare_lines(struct batch *batch)
{
	struct bytes rest = batch->body;
	while (next_line(&rest).data && batch->count <= batch->items_max)
		batch->count++;
	batch->too_many = batch->count > batch->items_max;
	if (batch->too_many)
		return;
	batch->items = arena_array(batch->arena, batch->count, sizeof(*batch->items));
	rest = batch->body;
	for (size_t i = 0; i < batch->count; i++)
		prepare_line(batch, &batch->items[i], next_line(&rest));
}

static void prepare_batch(void *data)
{
	struct batch *batch = data;
	batch->memory = body_memory_for(batch->body);
	if (batch->kind == BODY_KIND_NDJSON)
		prepare_lines(batch);
	else
		prepare_array(batch);
}

/* ---- answering ---- */

static void write_item(struct json *json, struct batch *batch, const struct batch_item *item)
{
	json_object(json);
	if (item->good) {
		submission_answer(
			json, &batch->admission.submissions[item->place], &batch->admission.results[item->place], true);
	} else {
		problem_members_of(json, &item->errors, item->errors.items[0].detail);
	}
	json_object_end(json);
}

static void write_answer(void *data)
{
	struct batch *batch = data;
	char id[UUID_TEXT_SIZE];
	struct json json = JSON_TO(&batch->answer);
	json_object(&json);
	json_member_string(&json, "batch_id", bytes_of(uuid_format(&batch->id, id)));
	json_key(&json, "results");
	json_array(&json);
	for (size_t i = 0; i < batch->count; i++)
		write_item(&json, batch, &batch->items[i]);
	json_array_end(&json);
	json_object_end(&json);
}

static void on_written(struct call *call)
{
	struct batch *batch = call->data;
	if (batch->answer.failed)
		problem(call, 500, "internal", "the batch was accepted, and there is not enough memory for the answer");
	else
		call_respond(call, 200, "application/json", buffer_bytes(&batch->answer), NULL, 0);
}

static bool all_away(const struct admission *admission)
{
	for (size_t i = 0; i < admission->count; i++)
		if (admission->results[i].status != ADMISSION_AWAY)
			return false;
	return true;
}

static void on_admitted(struct admission *admission)
{
	struct call *call = admission->owner;
	struct batch *batch = call->data;
	if (!call_back(call))
		return;
	if (all_away(admission))
		problem_away(call, "the store is away; nothing was accepted, try again soon");
	else
		call_work(call, batch->count * ITEM_ANSWER_BYTES, write_answer, batch, on_written);
}

/* ---- routing, a slice per turn ---- */

static void no_work(void *data)
{
}

static void fill(struct call *call)
{
	struct batch *batch = call->data;
	size_t end = batch->count - batch->filled > FILL_SLICE ? batch->filled + FILL_SLICE : batch->count;
	for (; batch->filled < end; batch->filled++) {
		struct batch_item *item = &batch->items[batch->filled];
		struct submission *to = &batch->admission.submissions[batch->admission.count];
		item->good = item->good && submission_fill(call->api, &call->who, &item->prepared, "", &call->arena, to,
						   &item->errors);
		if (!item->good)
			continue;
		to->batch_id = batch->id;
		to->traceparent = batch->traceparent;
		item->place = batch->admission.count++;
	}
	if (batch->filled < batch->count) {
		/* By way of the thread pool, which lets the loop turn. */
		call_work(call, BODY_INLINE_MAX + 1, no_work, NULL, fill);
		return;
	}
	if (batch->admission.count == 0) {
		call_work(call, batch->count * ITEM_ANSWER_BYTES, write_answer, batch, on_written);
		return;
	}
	batch->admission.results = arena_array(&call->arena, batch->admission.count, sizeof(*batch->admission.results));
	batch->admission.done = on_admitted;
	batch->admission.owner = call;
	call_out(call);
	coordinator_admit(call->api->coordinator, &batch->admission);
}

static void on_prepared(struct call *call)
{
	struct batch *batch = call->data;
	if (batch->kind == BODY_KIND_JSON && !batch->document) {
		problem(call, 400, "not-json", "the body is not JSON: %s at byte %zu", batch->fault.msg,
			batch->fault.pos);
		return;
	}
	if (batch->not_array) {
		problem(call, 422, "invalid-field", "the body must be an array of bodies of POST /execute");
		return;
	}
	if (batch->too_many) {
		problem(call, 413, "too-many-items", "a batch has at most %zu items", batch->items_max);
		return;
	}
	batch->admission.submissions = arena_array(&call->arena, batch->count, sizeof(struct submission));
	fill(call);
}

static void free_batch(void *data)
{
	struct batch *batch = data;
	admission_fini(&batch->admission);
	yyjson_doc_free(batch->document);
	for (size_t i = 0; batch->items && i < batch->count; i++)
		yyjson_doc_free(batch->items[i].document);
	buffer_fini(&batch->answer);
}

void handle_execute_batch(struct call *call)
{
	struct batch *batch = arena_alloc(&call->arena, sizeof(*batch));
	struct submission_headers headers;
	if (!body_kind(call, true, &batch->kind) || !submission_headers_read(call, &headers))
		return;
	if (headers.idempotency_key.data) {
		problem_header(call, "Idempotency-Key", "a batch has no key of its own: give each item an eval_id");
		return;
	}
	batch->arena = &call->arena;
	batch->limits = call->api->evaluation_limits;
	batch->items_max = call->api->settings.batch_items_max;
	batch->traceparent = headers.traceparent;
	batch->id = uuid_new(call->api->ids);
	call->data = batch;
	call_cleanup(call, free_batch, batch);
	body_work(call, &batch->body, prepare_batch, batch, on_prepared);
}

/* ---- cancel ---- */

struct batch_cancel {
	struct uuid id;
	struct read_list list;
};

static void answer_cancel(struct call *call, int64_t cancelled, int64_t requested)
{
	struct batch_cancel *cancel = call->data;
	char id[UUID_TEXT_SIZE];
	struct buffer *buffer = call_buffer(call);
	struct json json = JSON_TO(buffer);
	json_object(&json);
	json_member_string(&json, "batch_id", bytes_of(uuid_format(&cancel->id, id)));
	json_member_int(&json, "cancelled", cancelled);
	json_member_int(&json, "cancel_requested", requested);
	json_object_end(&json);
	call_respond_json(call, requested > 0 ? 202 : 200);
}

static void on_list(struct store_operation *operation)
{
	struct read_list *list = CONTAINER_OF(operation, struct read_list, operation);
	struct call *call = operation->owner;
	if (!call_back(call) || !call_operation_ok(call, operation))
		return;
	if (list->result_count == 0)
		problem(call, 404, "not-found", "no batch of yours has this id");
	else
		answer_cancel(call, 0, 0);
}

static void on_cancelled(struct call *call, const struct store_command *command)
{
	struct batch_cancel *cancel = call->data;
	int64_t cancelled = 0, requested = 0;
	for (size_t i = 0; i < command->result_count; i++) {
		cancelled += command->results[i].status == COMMAND_DONE;
		requested += command->results[i].status == COMMAND_REQUESTED;
	}
	if (cancelled + requested > 0) {
		answer_cancel(call, cancelled, requested);
		return;
	}
	/* Nothing was left to cancel; was there ever such a batch? */
	cancel->list.tenant = principal_scope(&call->who);
	cancel->list.batch_id = cancel->id;
	cancel->list.limit = 1;
	call_operation(call, &cancel->list.operation, on_list);
	call_out(call);
	call->api->store->ops->read_list(call->api->store, &cancel->list);
}

void handle_batch_cancel(struct call *call)
{
	struct batch_cancel *cancel = arena_alloc(&call->arena, sizeof(*cancel));
	call->data = cancel;
	if (!uuid_parse(call->argument, &cancel->id) || uuid_is_nil(&cancel->id)) {
		problem(call, 404, "not-found", "no batch of yours has this id");
		return;
	}
	command_send(call, COMMAND_CANCEL, NULL, &cancel->id, on_cancelled);
}
