/* Commands of users: cancel and run.
 *
 * A command that is handed in again after a lost answer finds its own moment (at_us) in the row: what it did then is
 * told again, and nothing is done twice. */
#include "store/sqlite/writer.h"
#include "task/lifecycle.h"

struct row {
	int64_t row;
	enum task_status status;
	int run, attempt;
	uint32_t sequence;
	int64_t queued_at_us, finished_at_us, cancel_requested_at_us;
	struct bytes tenant, locked_by, executor, eval_id; /* in the operation's arena */
	struct uuid batch_id;
};

/* One task on its way. */
struct step {
	struct writer *writer;
	struct store_command *command;
	struct command_result *result;
	struct row row;
	int64_t publisher;
};

static int find(struct step *step, const struct uuid *id)
{
	struct arena *arena = &step->command->operation.arena;
	struct row *row = &step->row;
	sqlite3_stmt *statement = database_statement(&step->writer->database, WRITE_COMMAND_TASK);
	bind_uuid(statement, 1, id);
	int code = sqlite3_step(statement);
	if (code == SQLITE_ROW) {
		*row = (struct row){
			.row = column_int(statement, 0),
			.status = (enum task_status)column_int(statement, 1),
			.run = (int)column_int(statement, 2),
			.attempt = (int)column_int(statement, 3),
			.sequence = (uint32_t)column_int(statement, 4),
			.queued_at_us = column_int(statement, 5),
			.finished_at_us = column_int(statement, 6),
			.cancel_requested_at_us = column_int(statement, 7),
			.tenant = column_text_copy(statement, 8, arena),
			.locked_by = column_text_copy(statement, 9, arena),
			.executor = column_text_copy(statement, 10, arena),
			.eval_id = column_text_copy(statement, 11, arena),
			.batch_id = column_uuid(statement, 12),
		};
	}
	sqlite3_reset(statement);
	return code;
}

static void name_event(struct step *step)
{
	struct event *event = &step->result->event;
	event->task_id = step->result->id;
	event->tenant = step->row.tenant;
	event->eval_id = step->row.eval_id;
	event->batch_id = step->row.batch_id;
	step->result->has_event = true;
}

static int write_event(struct step *step, enum event_kind kind, struct bytes data)
{
	struct event *event = &step->result->event;
	*event = (struct event){
		.kind = kind,
		.sequence = ++step->row.sequence,
		.run = step->row.run,
		.attempt = step->row.attempt,
		.timestamp_us = step->command->at_us,
		.data = arena_bytes(&step->command->operation.arena, data),
	};
	name_event(step);
	return writer_event(step->writer, step->row.row, step->publisher, event);
}

/* The task's newest event of this kind in its present run. */
static int tell_event(struct step *step, enum event_kind kind)
{
	sqlite3_stmt *statement = database_statement(&step->writer->database, WRITE_EVENTS_BACKWARDS);
	bind_int(statement, 1, step->row.row);
	int code;
	while ((code = sqlite3_step(statement)) == SQLITE_ROW && !step->result->has_event) {
		if (column_int(statement, 1) != kind || column_int(statement, 3) != step->row.run)
			continue;
		row_event(statement, &step->command->operation.arena, &step->result->event);
		name_event(step);
	}
	sqlite3_reset(statement);
	if (step->result->has_event && event_kind_terminal(kind))
		return writer_delivery(step->writer, step->row.row, &step->result->event);
	return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code;
}

static int cancel(struct step *step)
{
	struct row *row = &step->row;
	int64_t at_us = step->command->at_us;
	if (row->status == TASK_CANCELLED && row->cancel_requested_at_us == at_us) {
		step->result->status = COMMAND_DONE;
		return tell_event(step, EVENT_CANCELLED);
	}
	if (task_status_ended(row->status)) {
		step->result->status = COMMAND_CONFLICT;
		return SQLITE_OK;
	}
	if (row->status == TASK_RUNNING) {
		step->result->status = COMMAND_REQUESTED;
		step->result->locked_by = row->locked_by;
		if (row->cancel_requested_at_us != 0)
			return SQLITE_OK;
		sqlite3_stmt *statement = database_statement(&step->writer->database, WRITE_REQUEST_CANCEL);
		bind_int(statement, 1, row->row);
		bind_int(statement, 2, at_us);
		bind_int(statement, 3, step->writer->now_us);
		return database_run(statement);
	}
	step->result->status = COMMAND_DONE;
	TRY(write_event(step, EVENT_CANCELLED, step->command->event_data));
	sqlite3_stmt *statement = database_statement(&step->writer->database, WRITE_CANCEL_WAITING);
	bind_int(statement, 1, row->row);
	bind_int(statement, 2, row->sequence);
	bind_int(statement, 3, step->writer->now_us);
	bind_int(statement, 4, at_us);
	bind_int(statement, 5, REASON_CANCELLED);
	TRY(database_run(statement));
	writer_tally(step->writer, row->tenant, row->status, TASK_CANCELLED);
	row->status = TASK_CANCELLED;
	return SQLITE_OK;
}

static int run(struct step *step)
{
	struct row *row = &step->row;
	if (row->run > 1 && row->queued_at_us == step->command->at_us) {
		step->result->status = COMMAND_DONE;
		return tell_event(step, EVENT_QUEUED);
	}
	if (row->status == TASK_RUNNING) {
		step->result->status = COMMAND_CONFLICT;
		return SQLITE_OK;
	}
	step->result->status = COMMAND_DONE;
	if (!task_status_ended(row->status)) {
		sqlite3_stmt *statement = database_statement(&step->writer->database, WRITE_RUN_NOW);
		bind_int(statement, 1, row->row);
		bind_int(statement, 2, step->writer->now_us);
		return database_run(statement);
	}
	row->run++;
	TRY(write_event(step, EVENT_QUEUED, BYTES_NONE));
	sqlite3_stmt *statement = database_statement(&step->writer->database, WRITE_RUN_AGAIN);
	bind_int(statement, 1, row->row);
	bind_int(statement, 2, row->sequence);
	bind_int(statement, 3, step->writer->now_us);
	bind_int(statement, 4, step->command->at_us);
	TRY(database_run(statement));
	writer_tally(step->writer, row->tenant, row->status, TASK_QUEUED);
	row->status = TASK_QUEUED;
	return SQLITE_OK;
}

static int command_one(struct step *step, const struct uuid *id)
{
	*step->result = (struct command_result){ .id = *id };
	int code = find(step, id);
	if (code == SQLITE_DONE || (code == SQLITE_ROW && step->command->tenant.data &&
					   !bytes_equal(step->command->tenant, step->row.tenant))) {
		step->result->status = COMMAND_NOT_FOUND;
		return SQLITE_OK;
	}
	if (code != SQLITE_ROW)
		return code;
	code = step->command->kind == COMMAND_CANCEL ? cancel(step) : run(step);
	step->result->task_status = step->row.status;
	step->result->attempt = step->row.attempt;
	step->result->executor = step->row.executor;
	return code;
}

/* The tasks of a batch that have not ended, and those that this very command had cancelled before. */
static int ids_of_batch(
	struct writer *writer, const struct store_command *command, struct uuid **ret_ids, size_t *ret_count)
{
	struct uuid *ids = NULL;
	size_t count = 0, capacity = 0;
	sqlite3_stmt *statement = database_statement(&writer->database, WRITE_BATCH_TASKS);
	bind_uuid(statement, 1, &command->batch_id);
	bind_int(statement, 2, command->at_us);
	int code;
	while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
		if (count == capacity) {
			struct uuid *more = arena_array(&writer->arena, capacity ? capacity * 2 : 64, sizeof(ids[0]));
			for (size_t i = 0; i < count; i++)
				more[i] = ids[i];
			capacity = capacity ? capacity * 2 : 64;
			ids = more;
		}
		ids[count++] = column_uuid(statement, 0);
	}
	sqlite3_reset(statement);
	*ret_ids = ids;
	*ret_count = count;
	return code == SQLITE_DONE ? SQLITE_OK : code;
}

int write_command(struct writer *writer, struct store_command *command)
{
	struct step step = { .writer = writer, .command = command };
	bool whole_batch = !uuid_is_nil(&command->batch_id);
	struct uuid *found = NULL;
	size_t count = command->count;
	if (whole_batch)
		TRY(ids_of_batch(writer, command, &found, &count));
	const struct uuid *ids = whole_batch ? found : command->ids;
	TRY(writer_replica(writer, command->publisher, &step.publisher));
	command->results = arena_array(&command->operation.arena, count, sizeof(command->results[0]));
	command->result_count = 0;
	for (size_t i = 0; i < count; i++) {
		step.result = &command->results[command->result_count];
		TRY(command_one(&step, &ids[i]));
		/* Of a batch, what it does not touch is not told: another tenant's tasks, running ones told to run. */
		if (!whole_batch ||
			(step.result->status != COMMAND_NOT_FOUND && step.result->status != COMMAND_CONFLICT))
			command->result_count++;
	}
	return SQLITE_OK;
}
