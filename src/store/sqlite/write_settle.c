/* Settlements: what became of running tasks.
 *
 *   RUNNING ──STARTED, STEP──► RUNNING
 *           ──END──► COMPLETED, FAILED, CANCELLED
 *           ──RETRY──► RETRY, or CANCELLED where that was asked for
 *           ──HAND_BACK──► QUEUED, or CANCELLED likewise
 *
 * Each transition is made only if its guard still holds. One that does not hold may have been made already by this very
 * operation, whose answer was lost: `settled_by` and `settled_attempt` in the row, and the events, tell. Then it is
 * told again as it was, with its events, so that they are published. */
#include <string.h>

#include "store/sqlite/writer.h"
#include "task/lifecycle.h"

struct row {
	bool there;
	int64_t row;
	enum task_status status;
	int run, attempt, attempts;
	uint32_t sequence;
	int64_t started_at_us, cancel_requested_at_us, settled_by, run_after_us;
	int settled_attempt;
	struct bytes locked_by, tenant, eval_id; /* in the operation's arena */
	struct uuid batch_id;
};

/* One transition on its way. */
struct step {
	struct writer *writer;
	struct arena *arena; /* of the results */
	const struct transition *transition;
	struct settle_result *result;
	struct row row; /* as it is now */
	int64_t publisher;
};

static int find(struct writer *writer, const struct uuid *id, struct arena *arena, struct row *ret_row)
{
	sqlite3_stmt *statement = database_statement(&writer->database, WRITE_GUARD);
	bind_uuid(statement, 1, id);
	int code = sqlite3_step(statement);
	*ret_row = (struct row){ .there = code == SQLITE_ROW };
	if (code == SQLITE_ROW) {
		ret_row->row = column_int(statement, 0);
		ret_row->status = (enum task_status)column_int(statement, 1);
		ret_row->run = (int)column_int(statement, 2);
		ret_row->attempt = (int)column_int(statement, 3);
		ret_row->attempts = (int)column_int(statement, 4);
		ret_row->sequence = (uint32_t)column_int(statement, 5);
		ret_row->started_at_us = column_int(statement, 6);
		ret_row->cancel_requested_at_us = column_int(statement, 7);
		ret_row->settled_by = column_int(statement, 8);
		ret_row->settled_attempt = (int)column_int(statement, 9);
		ret_row->run_after_us = column_int(statement, 10);
		ret_row->locked_by = column_text_copy(statement, 11, arena);
		ret_row->tenant = column_text_copy(statement, 12, arena);
		ret_row->eval_id = column_text_copy(statement, 13, arena);
		ret_row->batch_id = column_uuid(statement, 14);
	}
	sqlite3_reset(statement);
	return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code;
}

static struct event *event_of(struct step *step)
{
	struct event *event = &step->result->events[step->result->event_count++];
	event->task_id = step->transition->guard.id;
	event->tenant = step->row.tenant;
	event->eval_id = step->row.eval_id;
	event->batch_id = step->row.batch_id;
	return event;
}

static int write_event(struct step *step, enum event_kind kind, int64_t at_us, struct bytes data)
{
	struct event event = {
		.kind = kind,
		.task_id = step->transition->guard.id,
		.sequence = ++step->row.sequence,
		.run = step->row.run,
		.attempt = step->row.attempt,
		.timestamp_us = at_us,
		.tenant = step->row.tenant,
		.eval_id = step->row.eval_id,
		.batch_id = step->row.batch_id,
		.data = arena_bytes(step->arena, data),
	};
	TRY(writer_event(step->writer, step->row.row, step->publisher, &event));
	*event_of(step) = event;
	return SQLITE_OK;
}

/* ---- what was made already ---- */

static int tell_event(struct step *step, enum event_kind kind, bool own, bool *ret_told)
{
	sqlite3_stmt *statement = database_statement(&step->writer->database, WRITE_EVENT_OF_ATTEMPT);
	bind_int(statement, 1, step->row.row);
	bind_int(statement, 2, step->transition->guard.attempt);
	bind_int(statement, 3, kind);
	int code = sqlite3_step(statement);
	*ret_told = code == SQLITE_ROW && (!own || column_int(statement, 7) == step->publisher);
	if (*ret_told) {
		struct event event;
		row_event(statement, step->arena, &event);
		event.task_id = step->transition->guard.id;
		event.tenant = step->row.tenant;
		event.eval_id = step->row.eval_id;
		event.batch_id = step->row.batch_id;
		*event_of(step) = event;
	}
	sqlite3_reset(statement);
	if (*ret_told && event_kind_terminal(kind))
		return writer_delivery(
			step->writer, step->row.row, &step->result->events[step->result->event_count - 1]);
	return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code;
}

/* A step has no mark in the row: the same event is looked for among the task's newest, back to the first that is
 * older. */
static int tell_step(struct step *step, bool *ret_told)
{
	const struct transition *t = step->transition;
	sqlite3_stmt *statement = database_statement(&step->writer->database, WRITE_EVENTS_BACKWARDS);
	bind_int(statement, 1, step->row.row);
	*ret_told = false;
	int code;
	while ((code = sqlite3_step(statement)) == SQLITE_ROW && !*ret_told) {
		struct bytes data = column_text(statement, 6);
		if (column_int(statement, 4) != t->guard.attempt || column_int(statement, 5) < t->at_us)
			break;
		if (column_int(statement, 1) != t->event_kind || column_int(statement, 5) != t->at_us ||
			!bytes_equal(data, t->event_data))
			continue;
		struct event event;
		row_event(statement, step->arena, &event);
		event.task_id = t->guard.id;
		event.tenant = step->row.tenant;
		event.eval_id = step->row.eval_id;
		event.batch_id = step->row.batch_id;
		*event_of(step) = event;
		*ret_told = true;
	}
	sqlite3_reset(statement);
	return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code;
}

/* The guard does not hold. Was that this transition's own doing? A task handed back leaves no event but the mark in its
 * row; everything else leaves an event, which still tells when the mark has been overwritten by a later attempt. */
static int tell_again(struct step *step, bool *ret_applied)
{
	static const enum event_kind ends[] = { EVENT_CANCELLED, EVENT_RETRYING, EVENT_COMPLETED, EVENT_FAILED };
	const struct transition *t = step->transition;
	bool marked = step->row.settled_by == step->publisher && step->row.settled_attempt == t->guard.attempt;
	bool told = false;
	*ret_applied = false;
	if (!step->row.there || step->publisher == 0)
		return SQLITE_OK;
	if (t->kind == TRANSITION_STARTED)
		return tell_event(step, EVENT_RUNNING, true, ret_applied);
	if (marked && t->started_at_us != 0)
		TRY(tell_event(step, EVENT_RUNNING, true, &told));
	if (t->kind == TRANSITION_STEP)
		return marked ? tell_step(step, ret_applied) : SQLITE_OK;
	told = false;
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]) && !told; i++)
		TRY(tell_event(step, ends[i], true, &told));
	*ret_applied = marked || told;
	return SQLITE_OK;
}

/* ---- the transitions ---- */

static int start(struct step *step)
{
	const struct transition *t = step->transition;
	int64_t at_us = t->started_at_us ? t->started_at_us : t->at_us;
	if (step->row.started_at_us != 0) {
		bool told;
		return tell_event(step, EVENT_RUNNING, false, &told); /* the second time it is said */
	}
	TRY(write_event(step, EVENT_RUNNING, at_us,
		t->kind == TRANSITION_STARTED && !t->started_data.data ? t->event_data : t->started_data));
	sqlite3_stmt *statement = database_statement(&step->writer->database, WRITE_SETTLE_STARTED);
	bind_int(statement, 1, step->row.row);
	bind_int(statement, 2, at_us);
	bind_int(statement, 3, step->row.sequence);
	bind_int(statement, 4, step->writer->now_us);
	bind_text(statement, 5, t->node);
	bind_text(statement, 6, t->pod);
	bind_text(statement, 7, t->image);
	step->row.started_at_us = at_us;
	return database_run(statement);
}

static int make_step(struct step *step)
{
	const struct transition *t = step->transition;
	bool told;
	TRY(tell_step(step, &told));
	if (told)
		return SQLITE_OK;
	TRY(write_event(step, t->event_kind, t->at_us, t->event_data));
	sqlite3_stmt *statement = database_statement(&step->writer->database, WRITE_SETTLE_STEP);
	bind_int(statement, 1, step->row.row);
	bind_int(statement, 2, step->row.sequence);
	bind_int(statement, 3, step->writer->now_us);
	return database_run(statement);
}

static int leave(struct step *step)
{
	const struct transition *t = step->transition;
	struct row *row = &step->row;
	enum task_status target = t->kind == TRANSITION_END     ? t->target
				  : t->kind == TRANSITION_RETRY ? TASK_RETRY
								: TASK_QUEUED;
	bool faulty = !task_status_ended(target) || t->charged;
	bool cancelled = faulty && row->cancel_requested_at_us != 0;
	if (cancelled)
		target = TASK_CANCELLED;
	bool ended = task_status_ended(target);
	if (!cancelled && (target == TASK_RETRY || t->charged))
		row->attempts++;
	row->run_after_us = ended || t->delay_us <= 0 ? 0 : step->writer->now_us + t->delay_us;
	if (target != TASK_QUEUED)
		TRY(write_event(step, ended ? task_terminal_event(target) : EVENT_RETRYING, t->at_us,
			cancelled ? t->cancelled_data : t->event_data));
	bool tells_why = ended || target == TASK_RETRY;
	sqlite3_stmt *statement = database_statement(&step->writer->database, WRITE_SETTLE_LEAVE);
	bind_int(statement, 1, row->row);
	bind_int(statement, 2, target);
	bind_int(statement, 3, ended ? PLACE_ENDED : row->run_after_us != 0 ? PLACE_DELAYED : PLACE_DUE);
	bind_int(statement, 4, row->attempts);
	bind_int(statement, 5, row->sequence);
	bind_int(statement, 6, step->writer->now_us);
	bind_int(statement, 7, target == TASK_QUEUED ? 0 : row->started_at_us);
	bind_int(statement, 8, ended ? t->at_us : 0);
	bind_int(statement, 9, row->run_after_us);
	bind_int(statement, 10, step->publisher);
	bind_int(statement, 11, cancelled ? REASON_CANCELLED : tells_why ? t->reason : REASON_NONE);
	bind_int(statement, 12, !cancelled && tells_why ? t->cause : REASON_NONE);
	bind_text(statement, 13, t->node);
	bind_text(statement, 14, t->pod);
	bind_text(statement, 15, t->image);
	bind_text(statement, 16, t->error);
	bind_text(statement, 17, cancelled ? t->cancelled_result : ended ? t->result : BYTES_NONE);
	TRY(database_run(statement));
	writer_tally(step->writer, row->tenant, row->status, target);
	row->status = target;
	return SQLITE_OK;
}

static int make(struct step *step)
{
	const struct transition *t = step->transition;
	if (t->kind == TRANSITION_STARTED)
		return start(step);
	if (t->started_at_us != 0)
		TRY(start(step));
	return t->kind == TRANSITION_STEP ? make_step(step) : leave(step);
}

static int settle_one(struct step *step)
{
	const struct transition *t = step->transition;
	struct settle_result *result = step->result;
	bool applied = false;
	TRY(find(step->writer, &t->guard.id, step->arena, &step->row));
	TRY(writer_replica(step->writer, t->guard.locked_by, &step->publisher));
	if (step->row.there && t->guard.status == TASK_RUNNING && step->row.status == TASK_RUNNING &&
		step->row.attempt == t->guard.attempt && bytes_equal(step->row.locked_by, t->guard.locked_by)) {
		TRY(make(step));
		applied = true;
	} else {
		TRY(tell_again(step, &applied));
	}
	result->status = applied ? SETTLE_APPLIED : SETTLE_REFUSED;
	result->task_status = step->row.there ? step->row.status : TASK_QUEUED;
	result->attempt = step->row.attempt;
	result->attempts = step->row.attempts;
	result->run_after_us = step->row.run_after_us;
	result->sequence = step->row.sequence;
	return SQLITE_OK;
}

static int write_output(struct writer *writer, const struct output_chunk *chunk, int64_t row)
{
	sqlite3_stmt *statement = database_statement(&writer->database, WRITE_INSERT_OUTPUT);
	bind_int(statement, 1, row);
	bind_int(statement, 2, chunk->attempt);
	bind_int(statement, 3, (int64_t)chunk->offset);
	bind_int(statement, 4, chunk->stream);
	bind_int(statement, 5, (int64_t)chunk->stream_offset);
	bind_int(statement, 6, (int64_t)chunk->data.len);
	bind_blob(statement, 7, chunk->data.data ? chunk->data : BYTES_LITERAL(""));
	return database_run(statement);
}

int write_settle(struct writer *writer, struct store_settle *settle)
{
	struct arena *arena = &settle->operation.arena;
	settle->results = arena_array(arena, settle->count, sizeof(settle->results[0]));
	for (size_t i = 0; i < settle->count; i++) {
		struct step step = {
			.writer = writer,
			.arena = arena,
			.transition = &settle->transitions[i],
			.result = &settle->results[i],
		};
		TRY(settle_one(&step));
	}
	struct uuid task = { { 0 } };
	int64_t row = 0;
	for (size_t i = 0; i < settle->chunk_count; i++) {
		const struct output_chunk *chunk = &settle->chunks[i];
		if (i == 0 || uuid_compare(&task, &chunk->task_id) != 0) {
			struct row found;
			TRY(find(writer, &chunk->task_id, &writer->arena, &found));
			task = chunk->task_id;
			row = found.there ? found.row : 0;
		}
		/* A task that retention has deleted keeps no output. */
		if (row != 0 && chunk->data.len > 0)
			TRY(write_output(writer, chunk, row));
	}
	return SQLITE_OK;
}
