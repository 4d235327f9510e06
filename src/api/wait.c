/* A waiter follows its task, and only then looks at it:
 *
 *   LOOKING ── ended ──► OUTPUT ──► 200
 *     │  ▲
 *     │  └── terminal event ──┐
 *     └── not ended ──► WAITING ── time is up, drain ──► CLOSING ──► 202
 *
 * A terminal event that comes while it is LOOKING has it look once more. All deadlines share one timer, which runs
 * while somebody waits. */
#include "api/wait.h"

#include <stdlib.h>

#include "api/body.h"
#include "api/hub.h"
#include "api/lookup.h"
#include "api/problem.h"
#include "api/result.h"
#include "api/state.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/text.h"
#include "coordinator/coordinator.h"
#include "task/forms.h"
#include "task/job_name.h"
#include "task/lifecycle.h"

struct waiters {
	struct api *api; /* borrowed */
	struct list waiting; /* in state WAITING */
	uv_timer_t timer;
	uint64_t armed_ms; /* by the loop's clock; 0: not */
	void (*on_freed)(void *owner);
	void *owner;
};

enum wait_state { WAIT_LOOKING, WAIT_WAITING, WAIT_OUTPUT };

struct waiter {
	struct follower follower;
	struct list link; /* in waiters->waiting */
	struct call *call;
	enum wait_state state;
	uint64_t deadline_ms; /* by the loop's clock */
	bool over; /* time is up, or the service drains: answer what is known */
	bool woken; /* something happened while looking */
	struct read_task *read;
	struct read_output output;
	struct buffer answer; /* the full result */
};

/* ---- deadlines ---- */

static void on_deadline(uv_timer_t *timer);

static void arm(struct waiters *waiters, uint64_t deadline_ms)
{
	if (waiters->armed_ms && waiters->armed_ms <= deadline_ms)
		return;
	uint64_t now = uv_now(waiters->api->loop);
	waiters->armed_ms = deadline_ms;
	uv_timer_start(&waiters->timer, on_deadline, deadline_ms > now ? deadline_ms - now : 0, 0);
}

static void look(struct waiter *waiter);

static void close_waiter(struct waiter *waiter)
{
	waiter->over = true;
	if (waiter->state == WAIT_WAITING)
		look(waiter);
}

static void on_deadline(uv_timer_t *timer)
{
	struct waiters *waiters = timer->data;
	uint64_t now = uv_now(timer->loop), next = 0;
	struct list pending, *node;
	waiters->armed_ms = 0;
	list_init(&pending);
	list_splice_back(&pending, &waiters->waiting);
	while ((node = list_pop_front(&pending))) {
		struct waiter *waiter = LIST_ENTRY(node, struct waiter, link);
		list_push_back(&waiters->waiting, node);
		if (waiter->deadline_ms <= now)
			close_waiter(waiter);
		else if (next == 0 || waiter->deadline_ms < next)
			next = waiter->deadline_ms;
	}
	if (next)
		arm(waiters, next);
}

static void wait_on(struct waiter *waiter)
{
	struct waiters *waiters = waiter->call->api->waiters;
	waiter->state = WAIT_WAITING;
	list_push_back(&waiters->waiting, &waiter->link);
	arm(waiters, waiter->deadline_ms);
}

/* ---- looking ---- */

static void leave(struct waiter *waiter)
{
	list_remove(&waiter->link);
	hub_leave(waiter->call->api->hub, &waiter->follower);
}

static void answer_status(struct waiter *waiter, const struct task *task)
{
	struct call *call = waiter->call;
	struct buffer *buffer = call_buffer(call);
	struct json json = JSON_TO(buffer);
	form_status(&json, task);
	call_respond_json(call, 202);
}

/* The task was accepted, whatever the store does now: say so rather than let the client think that it was not. */
static void answer_unknown(struct waiter *waiter)
{
	struct call *call = waiter->call;
	struct buffer *buffer = call_buffer(call);
	struct json json = JSON_TO(buffer);
	char id[UUID_TEXT_SIZE], name[JOB_NAME_SIZE];
	json_object(&json);
	json_member_string(&json, "task_id", bytes_of(uuid_format(&call->id, id)));
	json_member_string(&json, "job_name", bytes_of(job_name_format(&call->id, 0, name)));
	json_member_string(&json, "status", BYTES_LITERAL("running"));
	json_object_end(&json);
	call_respond_json(call, 202);
}

static void write_result(void *data)
{
	struct waiter *waiter = data;
	result_write(&waiter->answer, waiter->read->results[0], &waiter->output);
}

static void free_answer(void *data)
{
	struct waiter *waiter = data;
	buffer_fini(&waiter->answer);
}

static void on_written(struct call *call)
{
	struct waiter *waiter = call->data;
	if (waiter->answer.failed)
		answer_unknown(waiter);
	else
		call_respond(call, 200, "application/json", buffer_bytes(&waiter->answer), NULL, 0);
}

static void on_output(struct store_operation *operation)
{
	struct waiter *waiter = CONTAINER_OF(operation, struct waiter, output.operation);
	struct call *call = operation->owner;
	if (!call_back(call))
		return;
	if (operation->outcome != STORE_OK) {
		answer_unknown(waiter);
		return;
	}
	call_work(call, result_output_size(&waiter->output), write_result, waiter, on_written);
}

static void read_output(struct waiter *waiter)
{
	struct call *call = waiter->call;
	waiter->state = WAIT_OUTPUT;
	waiter->output.task_id = call->id;
	waiter->output.limit = RESULT_OUTPUT_MAX;
	call_operation(call, &waiter->output.operation, on_output);
	call_out(call);
	call->api->store->ops->read_output(call->api->store, &waiter->output);
}

static void on_read(struct store_operation *operation)
{
	struct read_task *read = CONTAINER_OF(operation, struct read_task, operation);
	struct call *call = operation->owner;
	struct waiter *waiter = call->data;
	/* The call may be gone after call_back(), and the follower is in its arena. */
	if (!call->exchange)
		leave(waiter);
	if (!call_back(call))
		return;
	const struct task *task = operation->outcome == STORE_OK ? read->results[0] : NULL;
	if (task && task_status_ended(task->status)) {
		leave(waiter);
		read_output(waiter);
		return;
	}
	if (waiter->over || !task) {
		leave(waiter);
		if (task)
			answer_status(waiter, task);
		else
			answer_unknown(waiter);
		return;
	}
	if (waiter->woken)
		look(waiter);
	else
		wait_on(waiter);
}

static void look(struct waiter *waiter)
{
	struct call *call = waiter->call;
	list_remove(&waiter->link);
	waiter->state = WAIT_LOOKING;
	waiter->woken = false;
	waiter->read = arena_alloc(&call->arena, sizeof(*waiter->read));
	waiter->read->ids = &call->id;
	waiter->read->count = 1;
	waiter->read->tenant = principal_scope(&call->who);
	call_operation(call, &waiter->read->operation, on_read);
	call_out(call);
	call->api->store->ops->read_task(call->api->store, waiter->read);
}

/* ---- the hub ---- */

static void wake(struct waiter *waiter)
{
	if (waiter->state == WAIT_WAITING)
		look(waiter);
	else
		waiter->woken = true;
}

static void on_event(struct follower *follower, const struct event *event)
{
	if (event->kind == EVENT_COMPLETED || event->kind == EVENT_FAILED || event->kind == EVENT_CANCELLED)
		wake(CONTAINER_OF(follower, struct waiter, follower));
}

static void on_gap(struct follower *follower)
{
	wake(CONTAINER_OF(follower, struct waiter, follower));
}

static void on_drain(struct follower *follower)
{
	close_waiter(CONTAINER_OF(follower, struct waiter, follower));
}

static const struct follower_ops ops = { .on_event = on_event, .on_gap = on_gap, .on_drain = on_drain };

static void on_gone(struct call *call)
{
	leave(call->data);
}

void wait_for_end(struct call *call, const struct uuid *id, int64_t wait_us)
{
	struct api *api = call->api;
	struct waiter *waiter = arena_alloc(&call->arena, sizeof(*waiter));
	call->id = *id;
	call->data = waiter;
	call->on_gone = on_gone;
	waiter->call = call;
	waiter->follower.ops = &ops;
	call_cleanup(call, free_answer, waiter);
	waiter->deadline_ms = uv_now(api->loop) + (uint64_t)(wait_us / US_PER_MS);
	waiter->over = api->draining;
	hub_follow(api->hub, &waiter->follower, TOPIC_TASK, (struct bytes){ (const char *)call->id.bytes, 16 });
	/* What this replica runs has not ended; for what else there may be, the store knows. */
	if (call_own_task(call) && !waiter->over)
		wait_on(waiter);
	else
		look(waiter);
}

/* ---- life ---- */

struct waiters *waiters_new(struct api *api)
{
	struct waiters *waiters = alloc(sizeof(*waiters));
	waiters->api = api;
	list_init(&waiters->waiting);
	uv_timer_init(api->loop, &waiters->timer);
	waiters->timer.data = waiters;
	return waiters;
}

static void on_closed(uv_handle_t *handle)
{
	struct waiters *waiters = handle->data;
	void (*on_freed)(void *owner) = waiters->on_freed;
	void *owner = waiters->owner;
	free(waiters);
	on_freed(owner);
}

void waiters_free(struct waiters *waiters, void (*on_freed)(void *owner), void *owner)
{
	waiters->on_freed = on_freed;
	waiters->owner = owner;
	uv_close((uv_handle_t *)&waiters->timer, on_closed);
}
