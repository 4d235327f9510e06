/* Every operation is answered at the end of the loop's turn: submissions are created, nothing is ever found. */
#include "instant_store.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"

struct instant_store {
	struct store store;
	uv_timer_t due;
	struct store_operation *first, **last;
	const struct store_notices *notices;
	void *owner;
	void (*on_stopped)(void *owner);
	void *stop_owner;
	bool announced;
};

static struct instant_store *instant(const struct store *store)
{
	return CONTAINER_OF((struct store *)store, struct instant_store, store);
}

static void on_due(uv_timer_t *timer)
{
	struct instant_store *store = timer->data;
	if (!store->announced) {
		store->announced = true;
		store->notices->on_available(store->owner, true, NULL);
	}
	struct store_operation *operation = store->first;
	store->first = NULL;
	store->last = &store->first;
	while (operation) {
		struct store_operation *next = operation->next;
		operation->done(operation);
		operation = next;
	}
}

static void answer(struct store *store, struct store_operation *operation)
{
	struct instant_store *self = instant(store);
	operation->outcome = STORE_OK;
	operation->next = NULL;
	*self->last = operation;
	self->last = &operation->next;
	uv_timer_start(&self->due, on_due, 0, 0);
}

static void instant_submit(struct store *store, struct store_submit *submit)
{
	submit->results = arena_array(&submit->operation.arena, submit->count, sizeof(*submit->results));
	int64_t now = clock_wall_us();
	for (size_t i = 0; i < submit->count; i++) {
		const struct submission *submission = submit->items[i].submission;
		submit->results[i] = (struct submit_result){
			.status = SUBMIT_CREATED,
			.id = submission->id,
			.task_status = TASK_QUEUED,
			.created_at_us = now,
			.event = { .kind = EVENT_QUEUED,
				.task_id = submission->id,
				.sequence = 1,
				.run = 1,
				.timestamp_us = now },
		};
	}
	answer(store, &submit->operation);
}

static void instant_claim(struct store *store, struct store_claim *claim)
{
	claim->count = 0;
	claim->next_due_us = 0;
	claim->exhausted = arena_array(&claim->operation.arena, claim->lane_count, sizeof(*claim->exhausted));
	for (size_t i = 0; i < claim->lane_count; i++)
		claim->exhausted[i] = true;
	answer(store, &claim->operation);
}

static void instant_settle(struct store *store, struct store_settle *settle)
{
	settle->results = arena_array(&settle->operation.arena, settle->count, sizeof(*settle->results));
	answer(store, &settle->operation);
}

static void instant_command(struct store *store, struct store_command *command)
{
	command->result_count = 0;
	answer(store, &command->operation);
}

static void instant_heartbeat(struct store *store, struct store_heartbeat *heartbeat)
{
	heartbeat->alive = true;
	heartbeat->cancelled_count = 0;
	heartbeat->replica_count = 1;
	answer(store, &heartbeat->operation);
}

static void instant_take(struct store *store, struct store_take *take)
{
	take->count = take->dead_count = 0;
	take->more = false;
	answer(store, &take->operation);
}

static void instant_trim(struct store *store, struct store_trim *trim)
{
	trim->deleted = 0;
	trim->more = false;
	answer(store, &trim->operation);
}

static void instant_read_task(struct store *store, struct read_task *read)
{
	read->results = arena_array(&read->operation.arena, read->count, sizeof(*read->results));
	answer(store, &read->operation);
}

static void instant_read_match(struct store *store, struct read_match *read)
{
	read->result_count = 0;
	answer(store, &read->operation);
}

static void instant_read_list(struct store *store, struct read_list *read)
{
	read->result_count = 0;
	read->more = false;
	answer(store, &read->operation);
}

static void instant_read_events(struct store *store, struct read_events *read)
{
	read->result_count = 0;
	read->more = read->gap = false;
	read->last = read->after;
	answer(store, &read->operation);
}

static void instant_read_output(struct store *store, struct read_output *read)
{
	read->result_count = 0;
	read->end = 0;
	answer(store, &read->operation);
}

static void instant_read_position(struct store *store, struct read_position *read)
{
	read->ahead = read->queued = 0;
	answer(store, &read->operation);
}

static void instant_read_counts(struct store *store, struct read_counts *read)
{
	for (int i = 0; i < TASK_STATUS_COUNT; i++)
		read->by_status[i] = 0;
	read->oldest_waiting_at_us = 0;
	read->latest = (struct cursor){ 0 };
	read->tenant_count = 0;
	answer(store, &read->operation);
}

static int instant_start(struct store *store, const struct store_notices *notices, void *owner, struct err *err)
{
	struct instant_store *self = instant(store);
	self->notices = notices;
	self->owner = owner;
	uv_timer_start(&self->due, on_due, 0, 0);
	return 0;
}

static void on_closed(uv_handle_t *handle)
{
	struct instant_store *store = handle->data;
	store->on_stopped(store->stop_owner);
}

static void instant_stop(struct store *store, void (*on_stopped)(void *owner), void *owner)
{
	struct instant_store *self = instant(store);
	self->on_stopped = on_stopped;
	self->stop_owner = owner;
	uv_close((uv_handle_t *)&self->due, on_closed);
}

static void instant_free(struct store *store)
{
	free(instant(store));
}

static void instant_status(const struct store *store, struct store_status *ret_status)
{
	*ret_status = (struct store_status){
		.kind = "instant", .cursors_final = true, .parallel_submits = 1, .available = instant(store)->announced
	};
}

static void instant_follow_events(struct store *store, bool wanted)
{
}

static void instant_follow_output(struct store *store, const struct uuid *id)
{
}

static const struct store_ops ops = {
	.start = instant_start,
	.stop = instant_stop,
	.free = instant_free,
	.status = instant_status,
	.submit = instant_submit,
	.claim = instant_claim,
	.settle = instant_settle,
	.command = instant_command,
	.heartbeat = instant_heartbeat,
	.take = instant_take,
	.trim = instant_trim,
	.follow_events = instant_follow_events,
	.follow_output = instant_follow_output,
	.read_task = instant_read_task,
	.read_match = instant_read_match,
	.read_list = instant_read_list,
	.read_events = instant_read_events,
	.read_output = instant_read_output,
	.read_position = instant_read_position,
	.read_counts = instant_read_counts,
};

struct store *instant_store_new(uv_loop_t *loop)
{
	struct instant_store *store = alloc(sizeof(*store));
	store->store.ops = &ops;
	store->last = &store->first;
	uv_timer_init(loop, &store->due);
	store->due.data = store;
	return &store->store;
}
