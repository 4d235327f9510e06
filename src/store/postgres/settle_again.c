/* Settlements that were not made just now: were they made before, by this very operation, whose answer was lost?
 *
 * `settled_by` and `settled_attempt` in the row, and the events with their publisher, tell. What was made is told again
 * as it was, with its events, so that they are published. A task handed back leaves no event but the mark in its row;
 * everything else leaves an event, which still tells when the mark has been overwritten by a later attempt. */
#include <stdlib.h>
#include <string.h>

#include "store/postgres/row.h"
#include "store/postgres/settle.h"
#include "task/lifecycle.h"

struct looked_up {
	struct uuid id;
	enum task_status status;
	int run, attempt, attempts, settled_attempt;
	uint32_t sequence;
	int64_t run_after_us, settled_by;
	struct bytes tenant, eval_id, locked_by; /* in the operation's arena */
	struct uuid batch_id;
	bool callback;
	int place, priority;
	struct bytes executor; /* in the errand's arena */
	double turn;
};

enum {
	EVENT_TASK,
	EVENT_KIND,
	EVENT_SEQUENCE,
	EVENT_RUN,
	EVENT_ATTEMPT,
	EVENT_AT,
	EVENT_DATA,
	EVENT_XID,
	EVENT_ID,
	EVENT_PUBLISHER,
	EVENT_HORIZON,
};

struct telling {
	struct errand *errand;
	const PGresult *events; /* in the order of task and sequence */
	const struct transition *transition;
	struct settle_result *result;
	const struct looked_up *row;
	int64_t publisher;
};

static void add_event(struct telling *tell, int at)
{
	const PGresult *events = tell->events;
	uint32_t sequence = (uint32_t)postgres_get_int(events, at, EVENT_SEQUENCE);
	struct event event = {
		.kind = (enum event_kind)postgres_get_int(events, at, EVENT_KIND),
		.task_id = tell->transition->guard.id,
		.sequence = sequence,
		.run = (int)postgres_get_int(events, at, EVENT_RUN),
		.attempt = (int)postgres_get_int(events, at, EVENT_ATTEMPT),
		.timestamp_us = postgres_get_time(events, at, EVENT_AT),
		.cursor = cursor_safe((uint64_t)postgres_get_int(events, at, EVENT_XID),
			postgres_get_int(events, at, EVENT_ID), sequence,
			(uint64_t)postgres_get_int(events, at, EVENT_HORIZON)),
		.tenant = tell->row->tenant,
		.eval_id = tell->row->eval_id,
		.batch_id = tell->row->batch_id,
		.data = row_members(events, at, EVENT_DATA, &tell->errand->operation->arena),
	};
	event.delivery = tell->row->callback && event_kind_terminal(event.kind);
	settle_add_event(tell->result, &event);
}

/* The first row of the task's events, by bisection; the number of rows where there is none. */
static int first_event(const PGresult *events, const struct uuid *id)
{
	int low = 0, high = PQntuples(events);
	while (low < high) {
		int middle = low + (high - low) / 2;
		struct uuid at = postgres_get_uuid(events, middle, EVENT_TASK);
		if (uuid_compare(&at, id) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool is_of(const struct telling *tell, int at)
{
	struct uuid id = postgres_get_uuid(tell->events, at, EVENT_TASK);
	return uuid_compare(&id, &tell->transition->guard.id) == 0;
}

static bool tell_event(struct telling *tell, enum event_kind kind, bool own)
{
	int found = -1;
	for (int i = first_event(tell->events, &tell->transition->guard.id);
		i < PQntuples(tell->events) && is_of(tell, i); i++)
		if (postgres_get_int(tell->events, i, EVENT_KIND) == kind &&
			postgres_get_int(tell->events, i, EVENT_ATTEMPT) == tell->transition->guard.attempt)
			found = i;
	if (found < 0 || (own && postgres_get_int(tell->events, found, EVENT_PUBLISHER) != tell->publisher))
		return false;
	add_event(tell, found);
	return true;
}

/* The start that came with this transition. Where this round has written it, it has been told. */
static void tell_start(struct telling *tell, bool made)
{
	if (tell->transition->started_at_us != 0 && tell->result->event_count == 0)
		tell_event(tell, EVENT_RUNNING, !made);
}

/* A step has no mark in the row: it is the same event. */
static bool tell_step(struct telling *tell, bool made)
{
	const struct transition *t = tell->transition;
	struct bytes data = row_object(t->event_data, &tell->errand->arena);
	for (int i = first_event(tell->events, &t->guard.id); i < PQntuples(tell->events) && is_of(tell, i); i++) {
		if (postgres_get_int(tell->events, i, EVENT_KIND) != t->event_kind ||
			postgres_get_int(tell->events, i, EVENT_ATTEMPT) != t->guard.attempt ||
			postgres_get_time(tell->events, i, EVENT_AT) != t->at_us ||
			!bytes_equal(postgres_get_text(tell->events, i, EVENT_DATA), data))
			continue;
		tell_start(tell, made);
		add_event(tell, i);
		return true;
	}
	return false;
}

/* Is this the kind of event that the transition leaves? */
static bool is_end_of(const struct transition *t, enum event_kind kind)
{
	if (t->kind == TRANSITION_END)
		return kind == task_terminal_event(t->target) || (t->charged && kind == EVENT_CANCELLED);
	return kind == EVENT_CANCELLED || (t->kind == TRANSITION_RETRY && kind == EVENT_RETRYING);
}

static bool tell_leaving(struct telling *tell)
{
	const struct transition *t = tell->transition;
	const PGresult *events = tell->events;
	int found = -1;
	bool other = false; /* it ended by another transition */
	for (int i = first_event(events, &t->guard.id); i < PQntuples(events) && is_of(tell, i); i++) {
		enum event_kind kind = (enum event_kind)postgres_get_int(events, i, EVENT_KIND);
		if ((kind != EVENT_RETRYING && !event_kind_terminal(kind)) ||
			postgres_get_int(events, i, EVENT_ATTEMPT) != t->guard.attempt ||
			postgres_get_int(events, i, EVENT_PUBLISHER) != tell->publisher)
			continue;
		if (is_end_of(t, kind) && postgres_get_time(events, i, EVENT_AT) == t->at_us)
			found = i;
		else
			other = true;
	}
	bool handed_back = t->kind == TRANSITION_HAND_BACK && !other && tell->row->settled_by == tell->publisher &&
			   tell->row->settled_attempt == t->guard.attempt;
	if (found < 0 && !handed_back)
		return false;
	tell_start(tell, /* made= */ false);
	if (found >= 0)
		add_event(tell, found);
	return true;
}

static int compare_rows(const void *left, const void *right)
{
	return uuid_compare(&((const struct looked_up *)left)->id, &((const struct looked_up *)right)->id);
}

static struct looked_up *read_rows(struct errand *errand, const PGresult *result, size_t *ret_count)
{
	struct arena *arena = &errand->operation->arena;
	size_t count = (size_t)PQntuples(result);
	struct looked_up *rows = arena_array(&errand->arena, count, sizeof(rows[0]));
	for (size_t k = 0; k < count; k++) {
		int i = (int)k;
		rows[k] = (struct looked_up){
			.id = postgres_get_uuid(result, i, 0),
			.status = row_status(result, i, 1),
			.run = (int)postgres_get_int(result, i, 2),
			.attempt = (int)postgres_get_int(result, i, 3),
			.attempts = (int)postgres_get_int(result, i, 4),
			.sequence = (uint32_t)postgres_get_int(result, i, 5),
			.run_after_us = postgres_get_time(result, i, 6),
			.settled_by = postgres_get_int(result, i, 7),
			.settled_attempt = (int)postgres_get_int(result, i, 8),
			.tenant = row_text(result, i, 9, arena),
			.eval_id = row_text(result, i, 10, arena),
			.batch_id = postgres_get_uuid(result, i, 11),
			.locked_by = row_text(result, i, 12, arena),
			.callback = postgres_get_bool(result, i, 13),
			.place = (int)postgres_get_int(result, i, 14),
			.executor = row_text(result, i, 15, &errand->arena),
			.priority = (int)postgres_get_int(result, i, 16),
			.turn = postgres_get_float8(result, i, 17),
		};
	}
	qsort(rows, count, sizeof(rows[0]), compare_rows);
	*ret_count = count;
	return rows;
}

static bool guard_holds(const struct transition *t, const struct looked_up *row)
{
	return t->guard.status == TASK_RUNNING && row->status == TASK_RUNNING && row->attempt == t->guard.attempt &&
	       bytes_equal(row->locked_by, t->guard.locked_by);
}

/* That it waits again nobody may have been told, nor this replica's marks. */
static void handed_on(const struct telling *tell)
{
	const struct looked_up *row = tell->row;
	struct postgres_store *store = tell->errand->store;
	if (row->place == 2)
		marks_delayed(store, row->executor);
	if (row->place != 1)
		return;
	marks_lower(store, row->executor, row->priority, row->turn);
	notices_work(store, row->executor, row->priority, row->turn);
}

/* False: its guard holds, so it is to be made. */
static bool tell(struct telling *tell, bool made)
{
	const struct transition *t = tell->transition;
	struct settle_result *result = tell->result;
	if (!tell->row) {
		*result = (struct settle_result){ SETTLE_REFUSED, .task_status = TASK_QUEUED };
		return true;
	}
	if (!made) /* also what no round settles */
		*result = (struct settle_result){ SETTLE_REFUSED, .task_status = tell->row->status };
	if (!made && guard_holds(t, tell->row))
		return false;
	bool applied = made;
	if (t->kind == TRANSITION_STARTED)
		applied |= tell_event(tell, EVENT_RUNNING, !made);
	else if (t->kind == TRANSITION_STEP)
		applied |= tell_step(tell, made);
	else
		applied |= tell_leaving(tell);
	if (applied && !made)
		handed_on(tell);
	if (applied && !made) {
		struct settling *w = tell->errand->work;
		w->wrote_events = true;
	}
	result->status = applied ? SETTLE_APPLIED : SETTLE_REFUSED;
	result->task_status = tell->row->status;
	result->attempt = tell->row->attempt;
	result->attempts = tell->row->attempts;
	result->run_after_us = tell->row->run_after_us;
	result->sequence = tell->row->sequence;
	return true;
}

static void answered(struct errand *errand)
{
	struct store_settle *settle = CONTAINER_OF(errand->operation, struct store_settle, operation);
	struct settling *w = errand->work;
	size_t count;
	const struct looked_up *rows = read_rows(errand, errand->group.results[1], &count);
	bool more = false;
	for (size_t i = 0; i < w->again_count; i++) {
		size_t index = w->again[i];
		const struct transition *t = &settle->transitions[index];
		struct looked_up key = { .id = t->guard.id };
		struct telling telling = {
			.errand = errand,
			.events = errand->group.results[2],
			.transition = t,
			.result = &settle->results[index],
			.row = bsearch(&key, rows, count, sizeof(rows[0]), compare_rows),
			.publisher = settle_publisher(settle, t),
		};
		/* Made in this round, only its event was there before. */
		bool made = settle->results[index].status == SETTLE_APPLIED && settle->results[index].attempt > 0;
		w->settled[index] = tell(&telling, made);
		more |= !w->settled[index];
	}
	if (more && w->rounds <= settle->count)
		settle_round(errand);
	else
		settle_finish(errand);
}

void settle_again(struct errand *errand)
{
	struct store_settle *settle = CONTAINER_OF(errand->operation, struct store_settle, operation);
	const struct settling *w = errand->work;
	struct postgres_group *group = &errand->group;
	errand_group(errand);
	errand_planner(errand);
	errand_add(errand, &errand->store->write[WRITE_SETTLE_ROWS]);
	struct postgres_array array = postgres_array_begin(group, POSTGRES_UUID);
	for (size_t i = 0; i < w->again_count; i++)
		if (i == 0 || uuid_compare(&settle->transitions[w->again[i]].guard.id,
				      &settle->transitions[w->again[i - 1]].guard.id) != 0)
			postgres_array_uuid(&array, &settle->transitions[w->again[i]].guard.id);
	postgres_array_end(&array);
	errand_add(errand, &errand->store->write[WRITE_SETTLE_EVENTS]);
	array = postgres_array_begin(group, POSTGRES_UUID);
	for (size_t i = 0; i < w->again_count; i++)
		postgres_array_uuid(&array, &settle->transitions[w->again[i]].guard.id);
	postgres_array_end(&array);
	array = postgres_array_begin(group, POSTGRES_INT4);
	for (size_t i = 0; i < w->again_count; i++)
		postgres_array_int4(&array, settle->transitions[w->again[i]].guard.attempt);
	postgres_array_end(&array);
	errand_send(errand, answered);
}
