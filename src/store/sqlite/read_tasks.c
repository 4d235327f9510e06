/* Reads of tasks: by id, by short id, lists; positions and counts. */
#include <string.h>

#include "base/alloc.h"
#include "base/text.h"
#include "store/sqlite/reader.h"

#define COUNTED_MOST 10000
#define MATCHED_MOST 21

static int done(int code)
{
	return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code;
}

int reader_task(struct reader *reader, struct read_task *read)
{
	struct arena *arena = &read->operation.arena;
	read->results = arena_array(arena, read->count, sizeof(read->results[0]));
	int index = read->with_params ? READ_TASK_BY_ID_WITH_PARAMS : READ_TASK_BY_ID;
	for (size_t i = 0; i < read->count; i++) {
		sqlite3_stmt *statement = database_statement(&reader->database, index);
		bind_uuid(statement, 1, &read->ids[i]);
		int code = sqlite3_step(statement);
		if (code == SQLITE_ROW) {
			struct task *task = arena_alloc(arena, sizeof(*task));
			row_task(statement, arena, read->with_params, task);
			if (!read->tenant.data || bytes_equal(read->tenant, task->tenant))
				read->results[i] = task;
		}
		sqlite3_reset(statement);
		if (done(code) != SQLITE_OK)
			return code;
	}
	return SQLITE_OK;
}

/* ---- short ids ---- */

static void add_match(struct read_match *read, struct uuid id)
{
	for (size_t i = 0; i < read->result_count; i++)
		if (uuid_compare(&read->results[i], &id) == 0)
			return;
	if (read->result_count < MATCHED_MOST)
		read->results[read->result_count++] = id;
}

static int collect(sqlite3_stmt *statement, struct read_match *read)
{
	int code;
	while ((code = sqlite3_step(statement)) == SQLITE_ROW)
		add_match(read, column_uuid(statement, 0));
	sqlite3_reset(statement);
	return done(code);
}

int reader_match(struct reader *reader, struct read_match *read)
{
	static const int suffix_searches[] = { READ_MATCH_SUFFIX_NEWEST, READ_MATCH_SUFFIX_RUNNING,
		READ_MATCH_SUFFIX_DUE, READ_MATCH_SUFFIX_DELAYED };
	char digits[32], low[32], high[32];
	struct uuid from, to;
	size_t length = 0;
	read->results = arena_array(&read->operation.arena, MATCHED_MOST, sizeof(read->results[0]));
	read->result_count = 0;
	for (size_t i = 0; i < read->text.len; i++) {
		char c = read->text.data[i];
		if (c == '-')
			continue;
		if (length == sizeof(digits))
			return SQLITE_OK; /* longer than an id: nobody's */
		digits[length++] = c;
	}
	if (length < 4)
		return SQLITE_OK;
	memset(low, '0', sizeof(low));
	memset(high, 'f', sizeof(high));
	memcpy(low, digits, length);
	memcpy(high, digits, length);
	if (!hex_decode((struct bytes){ low, sizeof(low) }, from.bytes, sizeof(from.bytes)) ||
		!hex_decode((struct bytes){ high, sizeof(high) }, to.bytes, sizeof(to.bytes)))
		return SQLITE_OK;
	sqlite3_stmt *statement = database_statement(&reader->database, READ_MATCH_PREFIX);
	bind_uuid(statement, 1, &from);
	bind_uuid(statement, 2, &to);
	bind_text(statement, 3, read->tenant);
	int code = collect(statement, read);
	for (size_t i = 0; i < ARRAY_SIZE(suffix_searches) && length == 8; i++) {
		if (code != SQLITE_OK || read->result_count == MATCHED_MOST)
			break;
		statement = database_statement(&reader->database, suffix_searches[i]);
		bind_blob(statement, 1, (struct bytes){ (const char *)from.bytes, 4 });
		bind_text(statement, 2, read->tenant);
		code = collect(statement, read);
	}
	return code;
}

/* ---- lists ---- */

static bool is_filtered(const struct read_list *read)
{
	return read->status_mask != 0 || read->type.data || read->queue.data;
}

/* Where a list that leaves rows out stopped looking; as it was: nowhere. */
static int list_bound(
	struct reader *reader, const struct read_list *read, const struct uuid *before, struct uuid *ret_last)
{
	sqlite3_stmt *statement =
		database_statement(&reader->database, read->tenant.data ? READ_LIST_BOUND_TENANT : READ_LIST_BOUND_ALL);
	bind_uuid(statement, 1, before);
	bind_int(statement, 2, READ_LIST_EXAMINED - 1);
	if (read->tenant.data)
		bind_text(statement, 3, read->tenant);
	int code = sqlite3_step(statement);
	if (code == SQLITE_ROW)
		*ret_last = column_uuid(statement, 0);
	sqlite3_reset(statement);
	return done(code == SQLITE_ROW ? SQLITE_DONE : code);
}

int reader_list(struct reader *reader, struct read_list *read)
{
	static const struct uuid last = { { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		0xff, 0xff, 0xff, 0xff } };
	struct arena *arena = &read->operation.arena;
	bool by_batch = !uuid_is_nil(&read->batch_id);
	size_t capacity = 0;
	struct task *tasks = NULL;
	read->result_count = 0;
	read->more = false;
	/* One index leads, the other filters are looked at row by row. */
	int index = read->eval_id.data  ? READ_LIST_EVAL_ID
		    : by_batch          ? READ_LIST_BATCH
		    : read->tenant.data ? READ_LIST_TENANT
					: READ_LIST_ALL;
	const struct uuid *before = uuid_is_nil(&read->before) ? &last : &read->before;
	bool is_bounded = index == READ_LIST_TENANT || index == READ_LIST_ALL;
	int code;
	sqlite3_stmt *statement = database_statement(&reader->database, index);
	bind_uuid(statement, 1, before);
	if (is_bounded)
		bind_int(statement, 8, is_filtered(read) ? READ_LIST_EXAMINED : -1);
	bind_int(statement, 2, read->status_mask);
	bind_text(statement, 3, read->type);
	bind_text(statement, 4, read->queue);
	/* Those of one evaluation id are few, and may be asked for by batch as well: sorted out here. */
	bind_int(statement, 5, read->eval_id.data && by_batch ? INT64_MAX : (int64_t)read->limit + 1);
	if (index == READ_LIST_EVAL_ID)
		bind_text(statement, 6, read->eval_id);
	else if (index == READ_LIST_BATCH)
		bind_uuid(statement, 6, &read->batch_id);
	else if (index == READ_LIST_TENANT)
		bind_text(statement, 6, read->tenant);
	if (index == READ_LIST_EVAL_ID || index == READ_LIST_BATCH)
		bind_text(statement, 7, read->tenant);
	read->next = (struct uuid){ 0 };
	while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
		struct task task;
		if (read->result_count == read->limit) {
			read->more = true;
			if (tasks)
				read->next = tasks[read->limit - 1].id;
			break;
		}
		row_task(statement, arena, false, &task);
		if (by_batch && uuid_compare(&task.batch_id, &read->batch_id) != 0)
			continue;
		if (read->result_count >= capacity) {
			size_t more = capacity ? capacity * 2 : 16;
			struct task *grown = arena_array(arena, more, sizeof(grown[0]));
			if (capacity > 0)
				memcpy(grown, tasks, capacity * sizeof(grown[0]));
			tasks = grown;
			capacity = more;
		}
		tasks[read->result_count++] = task;
	}
	sqlite3_reset(statement);
	read->results = tasks;
	code = done(code);
	if (code != SQLITE_OK || read->more || !is_bounded || !is_filtered(read))
		return code;
	code = list_bound(reader, read, before, &read->next);
	read->more = !uuid_is_nil(&read->next);
	return code;
}

/* ---- why a task waits ---- */

struct waiting {
	struct bytes executor, queue;
	struct uuid id;
	int64_t priority;
	double turn;
};

static int count(struct reader *reader, int index, const struct waiting *w, int64_t *ret_count)
{
	sqlite3_stmt *statement = database_statement(&reader->database, index);
	int parameters = sqlite3_bind_parameter_count(statement);
	bind_text(statement, 1, w->executor);
	bind_text(statement, 2, w->queue);
	bind_int(statement, 3, COUNTED_MOST);
	if (parameters > 3)
		bind_int(statement, 4, w->priority);
	if (parameters > 4) {
		sqlite3_bind_double(statement, 5, w->turn);
		bind_uuid(statement, 6, &w->id);
	}
	int code = sqlite3_step(statement);
	*ret_count = code == SQLITE_ROW ? column_int(statement, 0) : 0;
	sqlite3_reset(statement);
	return done(code);
}

static bool comes_before(sqlite3_stmt *statement, const struct waiting *w)
{
	int64_t priority = column_int(statement, 0);
	double turn = sqlite3_column_double(statement, 1);
	struct uuid id = column_uuid(statement, 2);
	if (priority != w->priority)
		return priority > w->priority;
	return turn != w->turn ? turn < w->turn : uuid_compare(&id, &w->id) < 0;
}

int reader_position(struct reader *reader, struct read_position *read)
{
	struct arena *arena = &read->operation.arena;
	struct waiting w = { .id = read->id };
	int64_t due, higher, sooner;
	read->ahead = read->queued = 0;
	sqlite3_stmt *statement = database_statement(&reader->database, READ_POSITION_TASK);
	bind_uuid(statement, 1, &read->id);
	int code = sqlite3_step(statement);
	enum task_place place = PLACE_ENDED;
	if (code == SQLITE_ROW) {
		place = (enum task_place)column_int(statement, 0);
		w.executor = column_text_copy(statement, 1, arena);
		w.queue = column_text_copy(statement, 2, arena);
		w.priority = column_int(statement, 3);
		w.turn = sqlite3_column_double(statement, 4);
	}
	sqlite3_reset(statement);
	if (code != SQLITE_ROW)
		return done(code);
	code = count(reader, READ_POSITION_DUE, &w, &due);
	if (code == SQLITE_OK)
		code = count(reader, READ_POSITION_AHEAD_PRIORITY, &w, &higher);
	if (code == SQLITE_OK)
		code = count(reader, READ_POSITION_AHEAD_TURN, &w, &sooner);
	if (code != SQLITE_OK)
		return code;
	bool waits = place == PLACE_DUE || place == PLACE_DELAYED;
	read->queued = due;
	read->ahead = waits ? higher + sooner : 0;
	/* Those that are due but have not been moved into the claim's index yet. */
	statement = database_statement(&reader->database, READ_POSITION_DELAYED);
	bind_text(statement, 1, w.executor);
	bind_text(statement, 2, w.queue);
	bind_int(statement, 3, COUNTED_MOST);
	bind_int(statement, 4, reader->clock(reader->clock_owner));
	while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
		read->queued++;
		read->ahead += waits && comes_before(statement, &w);
	}
	sqlite3_reset(statement);
	read->queued = read->queued > COUNTED_MOST ? COUNTED_MOST : read->queued;
	read->ahead = read->ahead > COUNTED_MOST ? COUNTED_MOST : read->ahead;
	return done(code);
}

/* ---- counts ---- */

static int read_number(struct reader *reader, int index, int64_t *ret_number)
{
	sqlite3_stmt *statement = database_statement(&reader->database, index);
	int code = sqlite3_step(statement);
	*ret_number = code == SQLITE_ROW ? column_int(statement, 0) : 0;
	sqlite3_reset(statement);
	return done(code);
}

static int read_tenants(struct reader *reader, struct read_counts *read)
{
	struct arena *arena = &read->operation.arena;
	struct tenant_count *tenants = NULL;
	size_t capacity = 0;
	memset(read->by_status, 0, sizeof(read->by_status));
	read->tenant_count = 0;
	sqlite3_stmt *statement = database_statement(&reader->database, READ_COUNT_STATUSES);
	int code;
	while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
		int64_t counts[TASK_STATUS_COUNT];
		for (int status = 0; status < TASK_STATUS_COUNT; status++) {
			counts[status] = column_int(statement, 1 + status);
			read->by_status[status] += counts[status];
		}
		int64_t waiting = counts[TASK_QUEUED] + counts[TASK_RETRY];
		if (waiting == 0 && counts[TASK_RUNNING] == 0)
			continue;
		if (read->tenant_count == capacity) {
			size_t more = capacity ? capacity * 2 : 8;
			struct tenant_count *grown = arena_array(arena, more, sizeof(grown[0]));
			if (capacity > 0)
				memcpy(grown, tenants, capacity * sizeof(grown[0]));
			tenants = grown;
			capacity = more;
		}
		tenants[read->tenant_count++] = (struct tenant_count){
			.tenant = column_text_copy(statement, 0, arena),
			.waiting = waiting,
			.running = counts[TASK_RUNNING],
		};
	}
	sqlite3_reset(statement);
	read->tenants = tenants;
	code = done(code);
	if (code == SQLITE_OK)
		code = read_number(reader, READ_OLDEST_WAITING, &read->oldest_waiting_at_us);
	return code;
}

int reader_counts(struct reader *reader, struct read_counts *read)
{
	int64_t end;
	int code = read->latest_only ? SQLITE_OK : read_tenants(reader, read);
	if (code == SQLITE_OK)
		code = read_number(reader, READ_EVENTS_BOUNDS, &end);
	if (code == SQLITE_OK)
		read->latest = cursor_at(end);
	return code;
}
