/* Reads of streams: events by cursor, output by offset. */
#include <string.h>

#include "store/sqlite/reader.h"

#define EXAMINED_AT_ONCE 10000 /* events looked at by one operation, whatever its filters let through */
#define EVENTS_BYTES_MOST (4 << 20) /* an operation's results: then `more` */

static int done(int code)
{
	return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code;
}

/* ---- output ---- */

/* Where a walk over an attempt's chunks takes from: at most `limit` bytes of one stream, or of both. */
struct walk {
	int64_t task;
	int attempt, stream;
	uint64_t offset;
	size_t limit;
};

typedef void walk_fn(void *owner, const struct output_chunk *chunk);

static int walk_output(struct reader *reader, const struct walk *walk, walk_fn *on_chunk, void *owner)
{
	size_t left = walk->limit;
	sqlite3_stmt *statement = database_statement(&reader->database, READ_OUTPUT_FROM);
	bind_int(statement, 1, walk->task);
	bind_int(statement, 2, walk->attempt);
	/* An offset within one stream is never larger than that within both: nothing before it can be wanted. */
	bind_int(statement, 3, walk->offset > INT64_MAX ? INT64_MAX : (int64_t)walk->offset);
	int code = SQLITE_DONE;
	while (left > 0 && (code = sqlite3_step(statement)) == SQLITE_ROW) {
		int stream = (int)column_int(statement, 1);
		if (walk->stream != 0 && stream != walk->stream)
			continue;
		uint64_t offset = (uint64_t)column_int(statement, 0);
		uint64_t stream_offset = (uint64_t)column_int(statement, 2);
		uint64_t begin = walk->stream == 0 ? offset : stream_offset;
		uint64_t size = (uint64_t)column_int(statement, 3);
		uint64_t skip = walk->offset > begin ? walk->offset - begin : 0;
		if (skip >= size)
			continue;
		struct bytes data = column_blob(statement, 4);
		data.data += skip;
		data.len -= skip;
		data.len = data.len > left ? left : data.len;
		left -= data.len;
		struct output_chunk chunk = {
			.attempt = walk->attempt,
			.stream = stream,
			.offset = offset + skip,
			.stream_offset = stream_offset + skip,
			.data = data,
		};
		on_chunk(owner, &chunk);
	}
	sqlite3_reset(statement);
	return done(code);
}

struct chunks {
	struct read_output *read;
	size_t capacity;
};

static void on_chunk(void *owner, const struct output_chunk *chunk)
{
	struct chunks *chunks = owner;
	struct read_output *read = chunks->read;
	struct arena *arena = &read->operation.arena;
	if (read->result_count == chunks->capacity) {
		size_t more = chunks->capacity ? chunks->capacity * 2 : 16;
		struct output_chunk *grown = arena_array(arena, more, sizeof(grown[0]));
		if (chunks->capacity > 0)
			memcpy(grown, read->results, chunks->capacity * sizeof(grown[0]));
		read->results = grown;
		chunks->capacity = more;
	}
	struct output_chunk *kept = &read->results[read->result_count++];
	*kept = *chunk;
	kept->task_id = read->task_id;
	kept->data = arena_bytes(arena, chunk->data);
}

int reader_output(struct reader *reader, struct read_output *read)
{
	struct chunks chunks = { .read = read };
	read->results = NULL;
	read->result_count = 0;
	read->attempt_read = 0;
	read->end = 0;
	sqlite3_stmt *statement = database_statement(&reader->database, READ_OUTPUT_ATTEMPT);
	bind_uuid(statement, 1, &read->task_id);
	int code = sqlite3_step(statement);
	int64_t task = 0;
	if (code == SQLITE_ROW) {
		task = column_int(statement, 0);
		read->attempt_read = read->attempt ? read->attempt : (int)column_int(statement, 1);
	}
	sqlite3_reset(statement);
	if (code != SQLITE_ROW)
		return done(code);
	statement = database_statement(&reader->database, read->stream == 0 ? READ_OUTPUT_END : READ_OUTPUT_STREAM_END);
	bind_int(statement, 1, task);
	bind_int(statement, 2, read->attempt_read);
	if (read->stream != 0)
		bind_int(statement, 3, read->stream);
	code = sqlite3_step(statement);
	if (code == SQLITE_ROW)
		read->end = (uint64_t)column_int(statement, 0);
	sqlite3_reset(statement);
	if (done(code) != SQLITE_OK)
		return code;
	struct walk walk = { task, read->attempt_read, read->stream, read->offset, read->limit };
	return walk_output(reader, &walk, on_chunk, &chunks);
}

/* ---- events ---- */

struct text {
	char *data;
	size_t len;
};

static void on_text(void *owner, const struct output_chunk *chunk)
{
	struct text *text = owner;
	memcpy(text->data + text->len, chunk->data.data, chunk->data.len);
	text->len += chunk->data.len;
}

static int stream_text(
	struct reader *reader, struct arena *arena, const struct walk *walk, struct bytes *ret_text, bool *truncated)
{
	int64_t end = 0;
	sqlite3_stmt *statement = database_statement(&reader->database, READ_OUTPUT_STREAM_END);
	bind_int(statement, 1, walk->task);
	bind_int(statement, 2, walk->attempt);
	bind_int(statement, 3, walk->stream);
	int code = sqlite3_step(statement);
	if (code == SQLITE_ROW)
		end = column_int(statement, 0);
	sqlite3_reset(statement);
	if (done(code) != SQLITE_OK)
		return code;
	struct text text = { arena_alloc(arena, (end < EVENT_OUTPUT_MAX ? (size_t)end : EVENT_OUTPUT_MAX) + 1), 0 };
	if (end > 0)
		code = walk_output(reader, walk, on_text, &text);
	*ret_text = (struct bytes){ text.data, text.len };
	*truncated = *truncated || end > EVENT_OUTPUT_MAX;
	return done(code);
}

static int add_output(struct reader *reader, struct arena *arena, int64_t task, struct event *event)
{
	struct walk walk = { task, event->attempt, 1, 0, EVENT_OUTPUT_MAX };
	int code = stream_text(reader, arena, &walk, &event->output, &event->output_truncated);
	walk.stream = 2;
	if (code == SQLITE_OK)
		code = stream_text(reader, arena, &walk, &event->error, &event->output_truncated);
	return code;
}

/* The columns behind those of the event: publisher, task, id, tenant, eval_id, batch_id, name of the publisher. */
static bool passes(const struct read_events *read, sqlite3_stmt *statement, int64_t publisher)
{
	if (read->kind_mask != 0 && !(read->kind_mask & 1u << column_int(statement, 1)))
		return false;
	if (read->publisher.data && column_int(statement, 7) != publisher)
		return false;
	if (read->tenant.data && !bytes_equal(read->tenant, column_text(statement, 10)))
		return false;
	if (read->eval_id.data && !bytes_equal(read->eval_id, column_text(statement, 11)))
		return false;
	if (uuid_is_nil(&read->batch_id))
		return true;
	struct uuid batch = column_uuid(statement, 12);
	return uuid_compare(&batch, &read->batch_id) == 0;
}

static int publisher_row(struct reader *reader, struct bytes name, int64_t *ret_row)
{
	*ret_row = -1;
	if (!name.data)
		return SQLITE_OK;
	sqlite3_stmt *statement = database_statement(&reader->database, READ_FIND_REPLICA);
	bind_text(statement, 1, name);
	int code = sqlite3_step(statement);
	if (code == SQLITE_ROW)
		*ret_row = column_int(statement, 0);
	sqlite3_reset(statement);
	return done(code);
}

/* Where to begin, and where the stream ends now. */
static int bounds(struct reader *reader, struct read_events *read, int64_t *ret_after, int64_t *ret_end)
{
	sqlite3_stmt *statement = database_statement(&reader->database, READ_EVENTS_BOUNDS);
	int code = sqlite3_step(statement);
	if (code != SQLITE_ROW) {
		sqlite3_reset(statement);
		return code == SQLITE_DONE ? SQLITE_CORRUPT : code; /* the row is always there */
	}
	int64_t end = column_int(statement, 0), trimmed = column_int(statement, 1);
	sqlite3_reset(statement);
	int64_t after = cursor_position(&read->after);
	if (after < 0 || after > end) {
		/* A cursor of another database: what it had seen is not known. */
		read->gap = true;
		after = 0;
	} else if (read->after.length > 0 && after < trimmed && uuid_is_nil(&read->task_id)) {
		/* Retention deletes whole tasks: of one task that is still there nothing is missing. */
		read->gap = true;
	}
	*ret_after = after;
	*ret_end = end;
	return SQLITE_OK;
}

int reader_events(struct reader *reader, struct read_events *read)
{
	struct arena *arena = &read->operation.arena;
	size_t capacity = 0, examined = 0;
	int64_t after = 0, end = 0, publisher = -1;
	read->results = NULL;
	read->result_count = 0;
	read->more = read->gap = false;
	read->next = BYTES_NONE;
	size_t bytes_most =
		read->bytes_most && read->bytes_most < EVENTS_BYTES_MOST ? read->bytes_most : EVENTS_BYTES_MOST;
	int code = bounds(reader, read, &after, &end);
	if (code == SQLITE_OK)
		code = publisher_row(reader, read->publisher, &publisher);
	if (code != SQLITE_OK)
		return code;
	bool one_task = !uuid_is_nil(&read->task_id);
	sqlite3_stmt *statement = database_statement(&reader->database, one_task ? READ_EVENTS_TASK : READ_EVENTS_ALL);
	bind_int(statement, 1, after);
	bind_int(statement, 2, EXAMINED_AT_ONCE);
	if (one_task)
		bind_uuid(statement, 3, &read->task_id);
	while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
		bool through = passes(read, statement, publisher);
		if (through && (read->result_count == read->limit || arena->used > bytes_most)) {
			read->more = true;
			break;
		}
		after = column_int(statement, 0);
		examined++;
		if (!through)
			continue;
		if (read->result_count == capacity) {
			size_t more = capacity ? capacity * 2 : 16;
			struct event *grown = arena_array(arena, more, sizeof(grown[0]));
			if (capacity > 0)
				memcpy(grown, read->results, capacity * sizeof(grown[0]));
			read->results = grown;
			capacity = more;
		}
		struct event *event = &read->results[read->result_count++];
		row_event(statement, arena, event);
		event->task_id = column_uuid(statement, 9);
		event->tenant = column_text_copy(statement, 10, arena);
		event->eval_id = column_text_copy(statement, 11, arena);
		event->batch_id = column_uuid(statement, 12);
		event->publisher = column_text_copy(statement, 13, arena);
		if (event->kind >= EVENT_COMPLETED && event->kind <= EVENT_CANCELLED) {
			int failed = add_output(reader, arena, column_int(statement, 8), event);
			if (failed != SQLITE_OK) {
				code = failed;
				break;
			}
		}
	}
	sqlite3_reset(statement);
	if (done(code) != SQLITE_OK)
		return code;
	read->more = read->more || examined == EXAMINED_AT_ONCE;
	/* All was seen: go on behind what deleted tasks and filters have taken out, too. */
	read->last = cursor_at(read->more ? after : end);
	return SQLITE_OK;
}
