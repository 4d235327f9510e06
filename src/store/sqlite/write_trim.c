/* Retention: old tasks go, with all that is theirs, a few at a time. */
#include "store/sqlite/writer.h"

#define TRIMMED_AT_ONCE 10000

static int delete_of(struct writer *writer, int index, int64_t task)
{
	sqlite3_stmt *statement = database_statement(&writer->database, index);
	bind_int(statement, 1, task);
	return database_run(statement);
}

static int last_event(struct writer *writer, int64_t task, int64_t *position)
{
	sqlite3_stmt *statement = database_statement(&writer->database, WRITE_LAST_EVENT_OF);
	bind_int(statement, 1, task);
	int code = sqlite3_step(statement);
	if (code == SQLITE_ROW && column_int(statement, 0) > *position)
		*position = column_int(statement, 0);
	sqlite3_reset(statement);
	return code == SQLITE_ROW ? SQLITE_OK : code;
}

int write_trim(struct writer *writer, struct store_trim *trim)
{
	size_t limit = trim->limit > TRIMMED_AT_ONCE ? TRIMMED_AT_ONCE : trim->limit, count = 0;
	int64_t *rows = arena_array(&writer->arena, limit, sizeof(rows[0]));
	int64_t trimmed = 0;
	sqlite3_stmt *statement = database_statement(&writer->database, WRITE_TRIM_CANDIDATES);
	bind_int(statement, 1, trim->finished_before_us);
	bind_int(statement, 2, (int64_t)limit);
	int code;
	while ((code = sqlite3_step(statement)) == SQLITE_ROW && count < limit) {
		rows[count++] = column_int(statement, 0);
		writer_tally(writer, column_text(statement, 1), (int)column_int(statement, 2), -1);
	}
	sqlite3_reset(statement);
	if (code != SQLITE_DONE && code != SQLITE_ROW)
		return code;
	for (size_t i = 0; i < count; i++) {
		TRY(last_event(writer, rows[i], &trimmed));
		TRY(delete_of(writer, WRITE_DELETE_EVENTS, rows[i]));
		TRY(delete_of(writer, WRITE_DELETE_OUTPUT, rows[i]));
		TRY(delete_of(writer, WRITE_DELETE_DELIVERY_ATTEMPTS, rows[i]));
		TRY(delete_of(writer, WRITE_DELETE_DELIVERIES, rows[i]));
		TRY(delete_of(writer, WRITE_DELETE_INPUT, rows[i]));
		TRY(delete_of(writer, WRITE_DELETE_TASK, rows[i]));
	}
	if (trimmed > 0)
		TRY(delete_of(writer, WRITE_NOTE_TRIMMED, trimmed));
	TRY(delete_of(writer, WRITE_FORGET_REPLICAS, trim->finished_before_us));
	trim->deleted = count;
	trim->more = count == limit && count > 0;
	return SQLITE_OK;
}
