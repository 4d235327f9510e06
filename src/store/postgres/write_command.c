/* Commands of users: cancel and run.
 *
 *   [ids of the batch] ─► the command ─► done
 *                                     ─► some were carried out before, by this very command: their EVENTS ─► done
 *
 * A command that is handed in again after a lost answer finds its own moment (at_us) in the row: what it did then is
 * told again, and nothing is done twice. */
#include <stdlib.h>
#include <string.h>

#include "store/postgres/internal.h"
#include "store/postgres/row.h"
#include "task/lifecycle.h"

struct found {
	struct uuid id;
	enum task_status status;
	int run, attempt, place, priority;
	uint32_t sequence;
	struct bytes tenant, locked_by, executor, eval_id; /* in the operation's arena */
	struct uuid batch_id;
	int64_t cancel_requested_at_us, queued_at_us;
	double turn;
	bool again, sooner, callback;
	uint64_t horizon;
};

struct commanding {
	const struct uuid *ids;
	size_t count;
	bool whole_batch;
	size_t *again; /* results whose event is to be looked up */
	size_t again_count;
};

static struct store_command *command_of(const struct errand *errand)
{
	return CONTAINER_OF(errand->operation, struct store_command, operation);
}

static int compare_found(const void *left, const void *right)
{
	return uuid_compare(&((const struct found *)left)->id, &((const struct found *)right)->id);
}

static struct found *read_found(struct errand *errand, const PGresult *result, size_t *ret_count)
{
	bool cancel = command_of(errand)->kind == COMMAND_CANCEL;
	struct arena *arena = &errand->operation->arena;
	size_t count = (size_t)PQntuples(result);
	struct found *rows = arena_array(&errand->arena, count, sizeof(rows[0]));
	for (size_t k = 0; k < count; k++) {
		int i = (int)k, c = 11;
		rows[k] = (struct found){
			.id = postgres_get_uuid(result, i, 0),
			.status = row_status(result, i, 1),
			.run = (int)postgres_get_int(result, i, 2),
			.attempt = (int)postgres_get_int(result, i, 3),
			.sequence = (uint32_t)postgres_get_int(result, i, 4),
			.tenant = row_text(result, i, 5, arena),
			.locked_by = row_text(result, i, 6, arena),
			.executor = row_text(result, i, 7, arena),
			.eval_id = row_text(result, i, 8, arena),
			.batch_id = postgres_get_uuid(result, i, 9),
			.place = (int)postgres_get_int(result, i, 10),
		};
		if (cancel) {
			rows[k].cancel_requested_at_us = postgres_get_time(result, i, c++);
			rows[k].callback = !postgres_get_null(result, i, c++);
		} else {
			rows[k].queued_at_us = postgres_get_time(result, i, c++);
			rows[k].priority = (int)postgres_get_int(result, i, c++);
			rows[k].turn = postgres_get_float8(result, i, c++);
			rows[k].again = postgres_get_bool(result, i, c++);
			rows[k].sooner = postgres_get_bool(result, i, c++);
		}
		rows[k].horizon = (uint64_t)postgres_get_int(result, i, c);
	}
	qsort(rows, count, sizeof(rows[0]), compare_found);
	*ret_count = count;
	return rows;
}

static void set_event(struct errand *errand, struct command_result *result, const struct found *row,
	enum event_kind kind, int run, struct bytes data)
{
	uint32_t sequence = row->sequence + 1;
	result->has_event = true;
	result->event = (struct event){
		.kind = kind,
		.task_id = row->id,
		.sequence = sequence,
		.run = run,
		.attempt = row->attempt,
		.timestamp_us = command_of(errand)->at_us,
		.cursor = cursor_safe(row->horizon, 0, sequence, row->horizon),
		.tenant = row->tenant,
		.eval_id = row->eval_id,
		.batch_id = row->batch_id,
		.data = arena_bytes(&errand->operation->arena, data),
		.delivery = row->callback && event_kind_terminal(kind),
	};
}

/* True where its event had been written before. */
static bool cancelled(struct errand *errand, struct command_result *result, const struct found *row)
{
	const struct store_command *command = command_of(errand);
	result->status = COMMAND_DONE;
	if (row->status == TASK_CANCELLED && row->cancel_requested_at_us == command->at_us)
		return true;
	if (task_status_ended(row->status)) {
		result->status = COMMAND_CONFLICT;
	} else if (row->status == TASK_RUNNING) {
		result->status = COMMAND_REQUESTED;
		result->locked_by = row->locked_by;
		notices_about(errand->store, 'c', &row->id);
	} else {
		result->task_status = TASK_CANCELLED;
		set_event(errand, result, row, EVENT_CANCELLED, row->run, command->event_data);
	}
	return false;
}

static bool run(struct errand *errand, struct command_result *result, const struct found *row)
{
	result->status = COMMAND_DONE;
	bool before = row->run > 1 && row->queued_at_us == command_of(errand)->at_us;
	if (before && row->place != 1)
		return true;
	if (row->status == TASK_RUNNING) {
		result->status = COMMAND_CONFLICT;
		return false;
	}
	if (row->again) {
		result->task_status = TASK_QUEUED;
		set_event(errand, result, row, EVENT_QUEUED, row->run + 1, BYTES_NONE);
		notices_about(errand->store, 'r', &row->id);
	}
	/* Of one that was carried out before nobody may have been told. */
	marks_lower(errand->store, row->executor, row->priority, row->turn);
	notices_work(errand->store, row->executor, row->priority, row->turn);
	return before;
}

/* ---- what had been done before ---- */

static void events_answered(struct errand *errand)
{
	struct store_command *command = command_of(errand);
	const struct commanding *w = errand->work;
	const PGresult *events = errand_result(errand);
	for (int i = 0; i < PQntuples(events); i++) {
		struct uuid id = postgres_get_uuid(events, i, 0);
		uint32_t sequence = (uint32_t)postgres_get_int(events, i, 2);
		for (size_t k = 0; k < w->again_count; k++) {
			struct command_result *result = &command->results[w->again[k]];
			if (uuid_compare(&result->id, &id) != 0)
				continue;
			result->has_event = true;
			result->event.kind = (enum event_kind)postgres_get_int(events, i, 1);
			result->event.sequence = sequence;
			result->event.run = (int)postgres_get_int(events, i, 3);
			result->event.attempt = (int)postgres_get_int(events, i, 4);
			result->event.timestamp_us = postgres_get_time(events, i, 5);
			result->event.data = row_members(events, i, 6, &command->operation.arena);
			result->event.cursor = cursor_safe((uint64_t)postgres_get_int(events, i, 7),
				postgres_get_int(events, i, 8), sequence, (uint64_t)postgres_get_int(events, i, 9));
		}
	}
	errand_done(errand, STORE_OK);
}

static void send_events(struct errand *errand)
{
	const struct store_command *command = command_of(errand);
	const struct commanding *w = errand->work;
	errand_group(errand);
	errand_planner(errand);
	errand_add(errand, &errand->store->write[WRITE_COMMAND_EVENTS]);
	struct postgres_array array = postgres_array_begin(&errand->group, POSTGRES_UUID);
	for (size_t i = 0; i < w->again_count; i++)
		postgres_array_uuid(&array, &command->results[w->again[i]].id);
	postgres_array_end(&array);
	postgres_put_int2(&errand->group, command->kind == COMMAND_CANCEL ? EVENT_CANCELLED : EVENT_QUEUED);
	postgres_put_time(&errand->group, command->at_us);
	errand_send(errand, events_answered);
}

/* ---- the command ---- */

static void answered(struct errand *errand)
{
	struct store_command *command = command_of(errand);
	struct commanding *w = errand->work;
	size_t count;
	const struct found *rows = read_found(errand, errand_result(errand), &count);
	bool any = false;
	command->results = arena_array(&command->operation.arena, w->count, sizeof(command->results[0]));
	command->result_count = 0;
	w->again = arena_array(&errand->arena, w->count, sizeof(w->again[0]));
	for (size_t i = 0; i < w->count; i++) {
		struct command_result *result = &command->results[command->result_count];
		struct found key = { .id = w->ids[i] };
		const struct found *row = bsearch(&key, rows, count, sizeof(rows[0]), compare_found);
		*result = (struct command_result){ .status = COMMAND_NOT_FOUND, .id = w->ids[i] };
		bool before = false;
		if (row) {
			result->task_status = row->status;
			result->attempt = row->attempt;
			result->executor = row->executor;
			result->event = (struct event){ .task_id = row->id,
				.tenant = row->tenant,
				.eval_id = row->eval_id,
				.batch_id = row->batch_id,
				.delivery = row->callback };
			before = command->kind == COMMAND_CANCEL ? cancelled(errand, result, row)
								 : run(errand, result, row);
		}
		any |= result->has_event;
		/* Of a batch, what it does not touch is not told: another tenant's tasks, running ones told to run. */
		if (w->whole_batch && (result->status == COMMAND_NOT_FOUND || result->status == COMMAND_CONFLICT))
			continue;
		if (before)
			w->again[w->again_count++] = command->result_count;
		command->result_count++;
	}
	if (any)
		notices_events(errand->store);
	errand->unknown_before = true;
	if (w->again_count > 0)
		send_events(errand);
	else
		errand_done(errand, STORE_OK);
}

static void send_command(struct errand *errand)
{
	const struct store_command *command = command_of(errand);
	const struct commanding *w = errand->work;
	struct postgres_group *group = &errand->group;
	bool cancel = command->kind == COMMAND_CANCEL;
	errand_group(errand);
	errand_planner(errand);
	errand_add(errand, &errand->store->write[cancel ? WRITE_CANCEL : WRITE_RUN]);
	struct postgres_array array = postgres_array_begin(group, POSTGRES_UUID);
	for (size_t i = 0; i < w->count; i++)
		postgres_array_uuid(&array, &w->ids[i]);
	postgres_array_end(&array);
	postgres_put_text(group, command->tenant);
	postgres_put_time(group, command->at_us);
	if (cancel)
		postgres_put_text(group, row_object(command->event_data, &errand->arena));
	postgres_put_int8(group, row_hash(command->publisher));
	errand_send(errand, answered);
}

static void ids_answered(struct errand *errand)
{
	struct commanding *w = errand->work;
	const PGresult *result = errand_result(errand);
	w->count = (size_t)PQntuples(result);
	struct uuid *ids = arena_array(&errand->arena, w->count, sizeof(ids[0]));
	for (size_t i = 0; i < w->count; i++)
		ids[i] = postgres_get_uuid(result, (int)i, 0);
	w->ids = ids;
	send_command(errand);
}

void begin_command(struct errand *errand)
{
	struct store_command *command = command_of(errand);
	struct commanding *w = arena_alloc(&errand->arena, sizeof(*w));
	w->whole_batch = !uuid_is_nil(&command->batch_id);
	errand->work = w;
	if (!w->whole_batch) {
		w->count = command->count;
		w->ids = command->ids;
		send_command(errand);
		return;
	}
	errand_group(errand);
	errand_planner(errand);
	errand_add(errand, &errand->store->write[WRITE_BATCH_IDS]);
	postgres_put_uuid(&errand->group, &command->batch_id);
	postgres_put_text(&errand->group, command->tenant);
	postgres_put_time(&errand->group, command->at_us);
	errand_send(errand, ids_answered);
}
