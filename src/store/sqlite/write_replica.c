/* Incarnations: they tell that they live, and take up what dead ones left running. */
#include "store/sqlite/writer.h"

static int cancelled(struct writer *writer, struct store_heartbeat *heartbeat)
{
	size_t capacity = 0;
	sqlite3_stmt *statement = database_statement(&writer->database, WRITE_CANCELLED_RUNNING);
	bind_text(statement, 1, heartbeat->locked_by);
	int code;
	while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
		if (heartbeat->cancelled_count == capacity) {
			capacity = capacity ? capacity * 2 : 16;
			struct uuid *more = arena_array(&heartbeat->operation.arena, capacity, sizeof(more[0]));
			for (size_t i = 0; i < heartbeat->cancelled_count; i++)
				more[i] = heartbeat->cancelled[i];
			heartbeat->cancelled = more;
		}
		heartbeat->cancelled[heartbeat->cancelled_count++] = column_uuid(statement, 0);
	}
	sqlite3_reset(statement);
	return code == SQLITE_DONE ? SQLITE_OK : code;
}

int write_heartbeat(struct writer *writer, struct store_heartbeat *heartbeat)
{
	int64_t row;
	heartbeat->alive = false;
	heartbeat->cancelled = NULL;
	heartbeat->cancelled_count = heartbeat->replica_count = heartbeat->latest_count = 0;
	heartbeat->latest = NULL;
	heartbeat->frontier = heartbeat->horizon = (struct cursor){ 0 };
	TRY(writer_replica(writer, heartbeat->locked_by, &row));
	sqlite3_stmt *statement = database_statement(&writer->database, WRITE_BEAT);
	struct bytes published = { (const char *)heartbeat->published.bytes, heartbeat->published.length };
	bind_int(statement, 1, row);
	bind_text(statement, 2, heartbeat->address);
	bind_int(statement, 3, heartbeat->draining);
	bind_int(statement, 4, writer->now_us);
	bind_blob(statement, 5, published);
	TRY(database_run(statement));
	heartbeat->alive = sqlite3_changes(writer->database.handle) > 0;
	TRY(write_turns(writer, heartbeat, row));
	statement = database_statement(&writer->database, WRITE_COUNT_REPLICAS);
	bind_int(statement, 1, writer->now_us - heartbeat->lease_us);
	int code = sqlite3_step(statement);
	if (code == SQLITE_ROW)
		heartbeat->replica_count = (size_t)column_int(statement, 0);
	sqlite3_reset(statement);
	if (code != SQLITE_ROW)
		return code;
	/* What came due while no slot was free is counted as waiting, too. */
	for (size_t i = 0; i < heartbeat->lane_count; i++) {
		bool all;
		TRY(writer_promote(writer, heartbeat->lanes[i].executor, &all));
	}
	return heartbeat->alive ? cancelled(writer, heartbeat) : SQLITE_OK;
}

/* ---- take ---- */

struct found {
	int64_t row;
	struct bytes name;
	struct cursor published;
	struct found *next;
};

/* Replicas that a statement finds, in the writer's arena, put before *list. */
static int find_replicas(struct writer *writer, sqlite3_stmt *statement, struct found **list, size_t *count)
{
	int code;
	while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
		struct found *found = arena_alloc(&writer->arena, sizeof(*found));
		struct bytes published = column_blob(statement, 2);
		found->row = column_int(statement, 0);
		found->name = column_text_copy(statement, 1, &writer->arena);
		if (published.len == 8) {
			found->published.length = 8;
			for (int i = 0; i < 8; i++)
				found->published.bytes[i] = (uint8_t)published.data[i];
		}
		found->next = *list;
		*list = found;
		(*count)++;
	}
	sqlite3_reset(statement);
	return code == SQLITE_DONE ? SQLITE_OK : code;
}

static int bury_dead(struct writer *writer, struct store_take *take)
{
	struct arena *arena = &take->operation.arena;
	struct found *list = NULL;
	size_t count = 0;
	/* Those of a take whose answer was lost are told once more. */
	if (writer->lost_take_at_us != 0) {
		sqlite3_stmt *lost = database_statement(&writer->database, WRITE_LOST_REPLICAS);
		bind_int(lost, 1, writer->lost_take_at_us);
		TRY(find_replicas(writer, lost, &list, &count));
	}
	sqlite3_stmt *statement = database_statement(&writer->database, WRITE_EXPIRED_REPLICAS);
	bind_int(statement, 1, take->kind == TAKE_ALL ? INT64_MAX : writer->now_us - take->lease_us);
	bind_text(statement, 2, take->locked_by);
	TRY(find_replicas(writer, statement, &list, &count));
	take->dead = arena_array(arena, count, sizeof(take->dead[0]));
	take->watermarks = arena_array(arena, count, sizeof(take->watermarks[0]));
	for (struct found *found = list; found; found = found->next) {
		sqlite3_stmt *bury = database_statement(&writer->database, WRITE_BURY);
		bind_int(bury, 1, found->row);
		bind_int(bury, 2, writer->now_us);
		TRY(database_run(bury));
		take->dead[take->dead_count] = arena_bytes(arena, found->name);
		take->watermarks[take->dead_count++] = found->published;
	}
	return SQLITE_OK;
}

#define TAKEN_AT_ONCE 10000

static int stored_output(struct writer *writer, int64_t row, int attempt, uint64_t *ret_end)
{
	sqlite3_stmt *statement = database_statement(&writer->database, WRITE_STORED_OUTPUT);
	bind_int(statement, 1, row);
	bind_int(statement, 2, attempt);
	int code = sqlite3_step(statement);
	*ret_end = code == SQLITE_ROW ? (uint64_t)column_int(statement, 0) : 0;
	sqlite3_reset(statement);
	return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code;
}

static int take_rows(struct writer *writer, struct store_take *take, int index)
{
	struct arena *arena = &take->operation.arena;
	sqlite3_stmt *statement = database_statement(&writer->database, index);
	/* Its own rows are as many as it has slots: what is not known among them stands behind all that is. */
	bool bounded = take->kind != TAKE_OWN && take->limit > TAKEN_AT_ONCE;
	size_t limit = bounded ? TAKEN_AT_ONCE : take->limit, count = 0;
	int64_t *rows = arena_array(&writer->arena, limit + 1, sizeof(rows[0]));
	struct bytes *former = arena_array(arena, limit + 1, sizeof(former[0]));
	bind_int(statement, 1, (int64_t)limit + 1);
	bind_text(statement, 2, take->locked_by);
	int code;
	while ((code = sqlite3_step(statement)) == SQLITE_ROW && count <= limit) {
		rows[count] = column_int(statement, 0);
		former[count++] = column_text_copy(statement, 1, arena);
	}
	sqlite3_reset(statement);
	if (code != SQLITE_DONE)
		return code == SQLITE_ROW ? SQLITE_INTERNAL : code;
	take->more = count > limit;
	count = take->more ? limit : count;
	struct task *tasks = arena_array(arena, count, sizeof(tasks[0]));
	take->output_ends = arena_array(arena, count, sizeof(take->output_ends[0]));
	struct bytes locked_by = arena_bytes(arena, take->locked_by);
	for (size_t i = 0; i < count; i++) {
		code = writer_task(writer, rows[i], arena, &tasks[i]);
		if (code != SQLITE_ROW)
			return code == SQLITE_DONE ? SQLITE_CORRUPT : code;
		TRY(stored_output(writer, rows[i], tasks[i].attempt, &take->output_ends[i]));
		if (take->kind == TAKE_OWN)
			continue;
		sqlite3_stmt *own = database_statement(&writer->database, WRITE_TAKE);
		bind_int(own, 1, rows[i]);
		bind_text(own, 2, take->locked_by);
		bind_int(own, 3, writer->now_us);
		TRY(database_run(own));
		tasks[i].locked_by = locked_by;
		tasks[i].updated_at_us = writer->now_us;
	}
	take->tasks = tasks;
	take->former = former;
	take->count = count;
	return SQLITE_OK;
}

/* Whoever was sending died with the process: what it had leased is due. */
static int release_deliveries(struct writer *writer)
{
	sqlite3_stmt *statement = database_statement(&writer->database, WRITE_RELEASE_DELIVERIES);
	bind_int(statement, 1, writer->now_us);
	return database_run(statement);
}

int write_take(struct writer *writer, struct store_take *take)
{
	int64_t row;
	writer->take_at_us = writer->now_us;
	take->tasks = NULL;
	take->former = take->dead = NULL;
	take->output_ends = NULL;
	take->watermarks = NULL;
	take->count = take->dead_count = 0;
	take->more = false;
	TRY(writer_replica(writer, take->locked_by, &row));
	if (take->kind != TAKE_OWN)
		TRY(bury_dead(writer, take));
	if (take->kind == TAKE_ALL)
		TRY(release_deliveries(writer));
	return take_rows(writer, take,
		take->kind == TAKE_DEAD  ? WRITE_RUNNING_OF_DEAD
		: take->kind == TAKE_ALL ? WRITE_RUNNING_OF_OTHERS
					 : WRITE_RUNNING_OF);
}
