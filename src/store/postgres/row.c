/* Rows as the plain structs of the model. The order of the columns is that of $task_columns in write.sql. */
#include "store/postgres/row.h"

#include <string.h>

#include "base/text.h"
#include "task/lifecycle.h"

/* ---- the cursor: xid (8 bytes), id (8), sequence (3) ---- */

#define CURSOR_LENGTH 19

static void put(uint8_t *to, int size, uint64_t value)
{
	for (int i = 0; i < size; i++)
		to[i] = (uint8_t)(value >> 8 * (size - 1 - i));
}

static uint64_t get(const uint8_t *from, int size)
{
	uint64_t value = 0;
	for (int i = 0; i < size; i++)
		value = value << 8 | from[i];
	return value;
}

struct cursor cursor_of(const struct stream_place *place)
{
	struct cursor cursor = { .length = CURSOR_LENGTH };
	put(cursor.bytes, 8, place->xid);
	put(cursor.bytes + 8, 8, (uint64_t)place->id);
	put(cursor.bytes + 16, 3, place->sequence);
	return cursor;
}

bool cursor_read(const struct cursor *cursor, struct stream_place *ret_place)
{
	*ret_place = (struct stream_place){ 0 };
	if (cursor->length == 0)
		return true;
	if (cursor->length != CURSOR_LENGTH || cursor->bytes[0] > 0x7f || cursor->bytes[8] > 0x7f)
		return false;
	*ret_place = (struct stream_place){
		.xid = get(cursor->bytes, 8),
		.id = (int64_t)get(cursor->bytes + 8, 8),
		.sequence = (uint32_t)get(cursor->bytes + 16, 3),
	};
	return true;
}

struct cursor cursor_within(const struct stream_place *event, const struct stream_place *bound)
{
	struct stream_place place = *event;
	if (place.xid > bound->xid || (place.xid == bound->xid && place.id > bound->id)) {
		place.xid = bound->xid;
		place.id = bound->id;
	}
	return cursor_of(&place);
}

struct cursor cursor_safe(uint64_t xid, int64_t id, uint32_t sequence, uint64_t horizon)
{
	const struct stream_place event = { .xid = xid, .id = id, .sequence = sequence };
	return cursor_within(&event, &(struct stream_place){ .xid = horizon });
}

/* ---- rows ---- */

struct bytes row_text(const PGresult *result, int row, int column, struct arena *arena)
{
	return arena_bytes(arena, postgres_get_text(result, row, column));
}

enum task_status row_status(const PGresult *result, int row, int column)
{
	enum task_status status = TASK_QUEUED;
	/* The table's check lets no other words in. */
	return task_status_parse(postgres_get_text(result, row, column), &status) ? status : TASK_QUEUED;
}

int row_read_task(const PGresult *result, int row, int column, struct arena *arena, struct task *ret_task)
{
	int c = column;
	*ret_task = (struct task){ .id = postgres_get_uuid(result, row, c++) };
	struct task *t = ret_task;
	t->status = row_status(result, row, c++);
	t->run = (int)postgres_get_int(result, row, c++);
	t->attempt = (int)postgres_get_int(result, row, c++);
	t->attempts = (int)postgres_get_int(result, row, c++);
	t->max_attempts = (int)postgres_get_int(result, row, c++);
	t->priority = (int)postgres_get_int(result, row, c++);
	t->turn = postgres_get_float8(result, row, c++);
	t->sequence = (uint32_t)postgres_get_int(result, row, c++);
	t->tenant = row_text(result, row, c++, arena);
	t->type = row_text(result, row, c++, arena);
	t->queue = row_text(result, row, c++, arena);
	t->executor = row_text(result, row, c++, arena);
	t->created_at_us = postgres_get_time(result, row, c++);
	t->updated_at_us = postgres_get_time(result, row, c++);
	t->queued_at_us = postgres_get_time(result, row, c++);
	t->run_after_us = postgres_get_time(result, row, c++);
	t->locked_at_us = postgres_get_time(result, row, c++);
	t->started_at_us = postgres_get_time(result, row, c++);
	t->finished_at_us = postgres_get_time(result, row, c++);
	t->cancel_requested_at_us = postgres_get_time(result, row, c++);
	t->reason = (enum task_reason)postgres_get_int(result, row, c++);
	t->cause = (enum task_reason)postgres_get_int(result, row, c++);
	t->locked_by = row_text(result, row, c++, arena);
	t->eval_id = row_text(result, row, c++, arena);
	t->idempotency_key = row_text(result, row, c++, arena);
	t->batch_id = postgres_get_uuid(result, row, c++);
	t->node = row_text(result, row, c++, arena);
	t->pod = row_text(result, row, c++, arena);
	t->image = row_text(result, row, c++, arena);
	t->error = row_text(result, row, c++, arena);
	t->result = row_text(result, row, c++, arena);
	t->drift_score = postgres_get_float8(result, row, c++);
	t->description = row_text(result, row, c++, arena);
	t->domain = row_text(result, row, c++, arena);
	t->metadata = row_text(result, row, c++, arena);
	t->callback_url = row_text(result, row, c++, arena);
	t->traceparent = row_text(result, row, c++, arena);
	return c;
}

/* ---- JSON ---- */

struct bytes row_members(const PGresult *result, int row, int column, struct arena *arena)
{
	struct bytes object = postgres_get_text(result, row, column);
	if (object.len < 2)
		return BYTES_NONE;
	return arena_bytes(arena, (struct bytes){ object.data + 1, object.len - 2 });
}

struct bytes row_object(struct bytes members, struct arena *arena)
{
	if (members.len == 0)
		return BYTES_NONE;
	char *object = arena_alloc(arena, members.len + 2);
	object[0] = '{';
	memcpy(object + 1, members.data, members.len);
	object[members.len + 1] = '}';
	return (struct bytes){ object, members.len + 2 };
}

static char *next_nul(const char *from, const char *end)
{
	return memmem(from, (size_t)(end - from), "\\u0000", 6);
}

struct bytes row_json(struct bytes json, struct arena *arena)
{
	if (!json.data || !next_nul(json.data, json.data + json.len))
		return json;
	char *copy = arena_alloc(arena, json.len + 1), *end = copy + json.len;
	memcpy(copy, json.data, json.len);
	for (char *at = next_nul(copy, end); at; at = next_nul(at + 1, end)) {
		size_t before = 0;
		while (at - before > copy && at[-1 - (ptrdiff_t)before] == '\\')
			before++;
		/* After an odd number of backslashes this one is itself escaped. */
		if (before % 2 == 0)
			memcpy(at, "\\ufffd", 6);
	}
	return (struct bytes){ copy, json.len };
}

int64_t row_hash(struct bytes incarnation)
{
	uint8_t digest[SHA256_SIZE];
	if (!incarnation.data)
		return 0;
	sha256(incarnation, digest);
	return (int64_t)get(digest, 8);
}
