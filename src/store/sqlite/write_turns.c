/* Turns of start-time fair queueing, kept so that they outlive the process. They travel with heartbeats: each tells
 * those that grew, and is given those that others told since.
 *
 * A tenant's turn that time has overtaken says nothing any more; such rows are deleted when there are many. */
#include "store/sqlite/writer.h"

#define TURNS_MAX 20000 /* rows kept, and given with one heartbeat */

static int turns_of_others(struct writer *writer, struct store_heartbeat *heartbeat, int64_t replica, int64_t seen)
{
	struct arena *arena = &heartbeat->operation.arena;
	sqlite3_stmt *statement = database_statement(&writer->database, WRITE_TURNS_OF_OTHERS);
	size_t capacity = 0;
	bind_int(statement, 1, seen);
	bind_int(statement, 2, replica);
	bind_int(statement, 3, TURNS_MAX);
	int code;
	while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
		if (heartbeat->latest_count == capacity) {
			capacity = capacity ? capacity * 2 : 16;
			struct fair_turn *more = arena_array(arena, capacity, sizeof(more[0]));
			for (size_t i = 0; i < heartbeat->latest_count; i++)
				more[i] = heartbeat->latest[i];
			heartbeat->latest = more;
		}
		struct bytes tenant = column_text(statement, 1);
		heartbeat->latest[heartbeat->latest_count++] = (struct fair_turn){
			.executor = column_text_copy(statement, 0, arena),
			.tenant = tenant.len ? arena_bytes(arena, tenant) : BYTES_NONE,
			.priority = (int)column_int(statement, 2),
			.turn = sqlite3_column_double(statement, 3),
		};
	}
	sqlite3_reset(statement);
	return code == SQLITE_DONE ? SQLITE_OK : code;
}

static int tell_turns(struct writer *writer, const struct store_heartbeat *heartbeat, int64_t replica, int64_t change)
{
	for (size_t i = 0; i < heartbeat->turn_count; i++) {
		const struct fair_turn *turn = &heartbeat->turns[i];
		sqlite3_stmt *statement = database_statement(&writer->database, WRITE_TELL_TURN);
		bind_text(statement, 1, turn->executor);
		bind_int(statement, 2, turn->priority);
		bind_text(statement, 3, turn->tenant.data ? turn->tenant : BYTES_LITERAL(""));
		sqlite3_bind_double(statement, 4, turn->turn);
		bind_int(statement, 5, replica);
		bind_int(statement, 6, change);
		TRY(database_run(statement));
	}
	sqlite3_stmt *statement = database_statement(&writer->database, WRITE_NOTE_TURNS_CHANGE);
	bind_int(statement, 1, change);
	return database_run(statement);
}

static int count_turns(struct writer *writer, int64_t *ret_count)
{
	sqlite3_stmt *statement = database_statement(&writer->database, WRITE_COUNT_TURNS);
	int code = sqlite3_step(statement);
	if (code == SQLITE_ROW)
		*ret_count = column_int(statement, 0);
	sqlite3_reset(statement);
	return code == SQLITE_ROW ? SQLITE_OK : code;
}

/* Without its turn a tenant's next row only stands where that of a new one would. */
static int forget_turns(struct writer *writer)
{
	int64_t count;
	TRY(count_turns(writer, &count));
	if (count <= TURNS_MAX)
		return SQLITE_OK;
	TRY(database_run_simple(&writer->database, WRITE_FORGET_PAST_TURNS));
	TRY(count_turns(writer, &count));
	return count <= TURNS_MAX / 2 ? SQLITE_OK
				      : database_run_simple(&writer->database, WRITE_FORGET_TURNS_OF_TENANTS);
}

int write_turns(struct writer *writer, struct store_heartbeat *heartbeat, int64_t replica)
{
	sqlite3_stmt *statement = database_statement(&writer->database, WRITE_TURNS_SEEN);
	int64_t seen = 0, change = 0;
	bind_int(statement, 1, replica);
	int code = sqlite3_step(statement);
	if (code == SQLITE_ROW) {
		seen = column_int(statement, 0);
		change = column_int(statement, 1);
	}
	sqlite3_reset(statement);
	if (code != SQLITE_ROW)
		return code == SQLITE_DONE ? SQLITE_CORRUPT : code;
	if (seen < change)
		TRY(turns_of_others(writer, heartbeat, replica, seen));
	if (heartbeat->turn_count) {
		change++;
		TRY(tell_turns(writer, heartbeat, replica, change));
		TRY(forget_turns(writer));
	}
	if (seen == change)
		return SQLITE_OK;
	statement = database_statement(&writer->database, WRITE_NOTE_TURNS_SEEN);
	bind_int(statement, 1, replica);
	bind_int(statement, 2, change);
	return database_run(statement);
}
