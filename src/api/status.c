/* GET /status/{id} and GET /tasks/{id}. A task that this replica runs is answered from the coordinator's memory, an
 * ended one from the cache of rendered status objects; only what is neither is read from the store. */
#include "api/handlers.h"
#include "api/lookup.h"
#include "api/problem.h"
#include "task/forms.h"
#include "task/lifecycle.h"

static void answer_status(struct call *call, const struct task *task)
{
	struct buffer *buffer = call_buffer(call);
	struct json json = JSON_TO(buffer);
	form_status(&json, task);
	call_respond_json(call, 200);
}

struct status_read {
	uint64_t generation;
};

static void on_row(struct call *call, const struct task *task)
{
	const struct status_read *read = call->data;
	if (call->attempt > task->attempt) {
		problem_not_found(call);
		return;
	}
	struct buffer *buffer = call_buffer(call);
	struct json json = JSON_TO(buffer);
	form_status(&json, task);
	if (task_status_ended(task->status) && !buffer->failed)
		status_cache_put(call->api->status_cache, &call->id,
			(struct status_entry){ buffer_bytes(buffer), task->tenant, task->attempt }, read->generation);
	call_respond_json(call, 200);
}

static void on_resolved(struct call *call)
{
	const struct task *own = call_own_task(call);
	if (own && call->attempt <= own->attempt) {
		answer_status(call, own);
		return;
	}
	struct status_cache *cache = call->api->status_cache;
	const struct status_entry *entry = own ? NULL : status_cache_find(cache, &call->id);
	struct bytes scope = principal_scope(&call->who);
	if (entry && call->attempt <= entry->attempt && (!scope.data || bytes_equal(scope, entry->tenant))) {
		call_respond(call, 200, "application/json", entry->body, NULL, 0);
		return;
	}
	struct status_read *read = arena_alloc(&call->arena, sizeof(*read));
	read->generation = status_cache_generation(cache);
	call->data = read;
	call_read_task(call, false, on_row);
}

void handle_status(struct call *call)
{
	call_resolve(call, on_resolved);
}

/* ---- the whole task ---- */

static void on_task(struct call *call, const struct task *row)
{
	/* What this replica knows of its own tasks is newer than the row; only the params are the row's alone. */
	const struct task *own = call_own_task(call);
	struct task task = own ? *own : *row;
	task.params = row->params;
	struct buffer *buffer = call_buffer(call);
	struct json json = JSON_TO(buffer);
	form_task(&json, &task);
	call_respond_json(call, 200);
}

static void on_task_resolved(struct call *call)
{
	call_read_task(call, true, on_task);
}

void handle_task_get(struct call *call)
{
	call_resolve(call, on_task_resolved);
}
