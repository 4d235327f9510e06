/* What the writing operations share: the transaction, the numbering of events, the tallies, the incarnations. */
#include "store/sqlite/writer.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "task/lifecycle.h"

int writer_open(struct writer *writer, struct err *err)
{
	sqlite3_stmt *statement = database_statement(&writer->database, WRITE_LAST_POSITION);
	int code = sqlite3_step(statement);
	if (code == SQLITE_ROW)
		writer->committed_position = writer->position = column_int(statement, 0);
	sqlite3_reset(statement);
	if (code == SQLITE_ROW)
		return 0;
	database_failure(&writer->database, code, err);
	return err->code;
}

void writer_close(struct writer *writer)
{
	database_close(&writer->database);
	arena_fini(&writer->arena);
	free(writer->tallies);
	writer->tallies = NULL;
	writer->tally_count = writer->tally_capacity = 0;
}

static void forget(struct writer *writer)
{
	writer->tally_count = 0;
	writer->replica_name = BYTES_NONE;
	arena_fini(&writer->arena);
}

void writer_read_clock(struct writer *writer)
{
	writer->now_us = writer->clock(writer->clock_owner);
}

int writer_begin(struct writer *writer)
{
	forget(writer);
	writer->position = writer->committed_position;
	return database_run_simple(&writer->database, WRITE_BEGIN);
}

static int write_tallies(struct writer *writer)
{
	for (size_t i = 0; i < writer->tally_count; i++) {
		const struct tally *tally = &writer->tallies[i];
		sqlite3_stmt *statement = database_statement(&writer->database, WRITE_ADD_TO_TENANT);
		bind_text(statement, 1, tally->tenant);
		for (int status = 0; status < TASK_STATUS_COUNT; status++)
			bind_int(statement, 2 + status, tally->by_status[status]);
		TRY(database_run(statement));
	}
	return SQLITE_OK;
}

int writer_commit(struct writer *writer)
{
	TRY(write_tallies(writer));
	TRY(database_run_simple(&writer->database, WRITE_COMMIT));
	writer->committed_position = writer->position;
	forget(writer);
	return SQLITE_OK;
}

void writer_rollback(struct writer *writer)
{
	/* After some failures SQLite has rolled back by itself. */
	if (!sqlite3_get_autocommit(writer->database.handle))
		database_run_simple(&writer->database, WRITE_ROLLBACK);
	writer->position = writer->committed_position;
	forget(writer);
}

static struct tally *tally_of(struct writer *writer, struct bytes tenant)
{
	for (size_t i = writer->tally_count; i-- > 0;)
		if (bytes_equal(writer->tallies[i].tenant, tenant))
			return &writer->tallies[i];
	if (writer->tally_count == writer->tally_capacity) {
		writer->tally_capacity = writer->tally_capacity ? writer->tally_capacity * 2 : 8;
		writer->tallies = realloc_array(writer->tallies, writer->tally_capacity, sizeof(writer->tallies[0]));
	}
	struct tally *tally = &writer->tallies[writer->tally_count++];
	*tally = (struct tally){ .tenant = arena_bytes(&writer->arena, tenant) };
	return tally;
}

void writer_tally(struct writer *writer, struct bytes tenant, int from, int to)
{
	struct tally *tally = tally_of(writer, tenant);
	if (from >= 0)
		tally->by_status[from]--;
	if (to >= 0)
		tally->by_status[to]++;
}

int writer_replica(struct writer *writer, struct bytes locked_by, int64_t *ret_row)
{
	if (!locked_by.data) {
		*ret_row = 0;
		return SQLITE_OK;
	}
	if (!writer->replica_name.data || !bytes_equal(writer->replica_name, locked_by)) {
		for (int turn = 0;; turn++) {
			sqlite3_stmt *find = database_statement(&writer->database, WRITE_FIND_REPLICA);
			bind_text(find, 1, locked_by);
			int code = sqlite3_step(find);
			if (code == SQLITE_ROW) {
				writer->replica_row = column_int(find, 0);
				writer->replica_dead = column_int(find, 1) != 0;
			}
			sqlite3_reset(find);
			if (code == SQLITE_ROW)
				break;
			if (code != SQLITE_DONE)
				return code;
			sqlite3_stmt *add = database_statement(&writer->database, WRITE_ADD_REPLICA);
			bind_text(add, 1, locked_by);
			bind_int(add, 2, writer->now_us);
			TRY(database_run(add));
			if (turn > 0)
				return SQLITE_CORRUPT; /* it was written and is not there */
		}
		writer->replica_name = arena_bytes(&writer->arena, locked_by);
	}
	*ret_row = writer->replica_row;
	return SQLITE_OK;
}

int writer_event(struct writer *writer, int64_t task, int64_t publisher, struct event *event)
{
	sqlite3_stmt *statement = database_statement(&writer->database, WRITE_INSERT_EVENT);
	bind_int(statement, 1, ++writer->position);
	bind_int(statement, 2, task);
	bind_int(statement, 3, event->kind);
	bind_int(statement, 4, event->sequence);
	bind_int(statement, 5, event->run);
	bind_int(statement, 6, event->attempt);
	bind_int(statement, 7, event->timestamp_us);
	bind_int(statement, 8, publisher);
	bind_text(statement, 9, event->data);
	event->cursor = cursor_at(writer->position);
	TRY(database_run(statement));
	return event_kind_terminal(event->kind) ? writer_delivery(writer, task, event) : SQLITE_OK;
}

int writer_task(struct writer *writer, int64_t row, struct arena *arena, struct task *ret_task)
{
	sqlite3_stmt *statement = database_statement(&writer->database, WRITE_TASK_BY_ROW);
	bind_int(statement, 1, row);
	int code = sqlite3_step(statement);
	if (code == SQLITE_ROW)
		row_task(statement, arena, true, ret_task);
	sqlite3_reset(statement);
	return code;
}
