/* What became of a task's deliveries. */
#include "store/sqlite/reader.h"

#define RUNS_MOST 100

static int done(int code)
{
	return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code;
}

static int find_task(struct reader *reader, struct read_deliveries *read, int64_t *ret_task)
{
	sqlite3_stmt *statement = database_statement(&reader->database, READ_CALLBACK_OF_TASK);
	bind_uuid(statement, 1, &read->task_id);
	int code = sqlite3_step(statement);
	read->found =
		code == SQLITE_ROW && (!read->tenant.data || bytes_equal(read->tenant, column_text(statement, 1)));
	if (read->found) {
		*ret_task = column_int(statement, 0);
		read->url = column_text_copy(statement, 2, &read->operation.arena);
	}
	sqlite3_reset(statement);
	return done(code);
}

/* `capacity`: as many as the row has counted. */
static int read_attempts(
	struct reader *reader, struct arena *arena, int64_t delivery, size_t capacity, struct delivery_record *record)
{
	struct delivery_attempt *attempts = arena_array(arena, capacity, sizeof(attempts[0]));
	sqlite3_stmt *statement = database_statement(&reader->database, READ_ATTEMPTS_OF);
	bind_int(statement, 1, delivery);
	int code = SQLITE_DONE;
	while (record->attempt_count < capacity && (code = sqlite3_step(statement)) == SQLITE_ROW)
		attempts[record->attempt_count++] = (struct delivery_attempt){
			.attempt = (int)column_int(statement, 0),
			.at_us = column_int(statement, 1),
			.duration_us = column_int(statement, 2),
			.http_status = (int)column_int(statement, 3),
			.error = column_text_copy(statement, 4, arena),
		};
	sqlite3_reset(statement);
	record->attempts = attempts;
	return done(code);
}

int reader_deliveries(struct reader *reader, struct read_deliveries *read)
{
	struct arena *arena = &read->operation.arena;
	int64_t task = 0, rows[RUNS_MOST] = { 0 };
	size_t attempts[RUNS_MOST] = { 0 };
	read->results = NULL;
	read->result_count = 0;
	read->url = BYTES_NONE;
	int code = find_task(reader, read, &task);
	if (code != SQLITE_OK || !read->found)
		return code;
	read->results = arena_array(arena, RUNS_MOST, sizeof(read->results[0]));
	sqlite3_stmt *statement = database_statement(&reader->database, READ_DELIVERIES_OF);
	bind_int(statement, 1, task);
	bind_int(statement, 2, RUNS_MOST);
	while (read->result_count < RUNS_MOST && (code = sqlite3_step(statement)) == SQLITE_ROW) {
		rows[read->result_count] = column_int(statement, 0);
		attempts[read->result_count] = (size_t)column_int(statement, 6);
		read->results[read->result_count++] = (struct delivery_record){
			.run = (int)column_int(statement, 1),
			.status = (enum delivery_status)column_int(statement, 2),
			.created_at_us = column_int(statement, 3),
			.due_at_us = column_int(statement, 4),
			.under_way = column_int(statement, 5) != 0,
		};
	}
	sqlite3_reset(statement);
	for (size_t i = 0; i < read->result_count && done(code) == SQLITE_OK; i++)
		code = read_attempts(reader, arena, rows[i], attempts[i], &read->results[i]);
	return done(code);
}
