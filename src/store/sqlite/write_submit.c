/* Submissions: one insert each into task, task_input and event.
 *
 * Nothing is looked up before the insert: a row that did not go in because a key of it is there already is looked for
 * then. So a submission whose keys are new costs no search, and one that is handed in again is told what had become of
 * it. */
#include <string.h>

#include "store/sqlite/writer.h"

#define FIELD_BYTES_MOST ((size_t)256 << 20) /* SQLite's own limit for a row is 1e9 bytes */

struct found {
	bool there;
	int64_t row;
	struct uuid id;
	enum task_status status;
	int64_t created_at_us;
	bool same; /* the digest */
};

static int find(struct writer *writer, int index, const struct submission *s, struct bytes key, struct found *ret_found)
{
	*ret_found = (struct found){ 0 };
	sqlite3_stmt *statement = database_statement(&writer->database, index);
	if (key.data) {
		bind_text(statement, 1, key);
		bind_text(statement, 2, s->tenant);
	} else {
		bind_uuid(statement, 1, &s->id);
	}
	int code = sqlite3_step(statement);
	if (code == SQLITE_ROW) {
		struct bytes digest = column_blob(statement, 4);
		*ret_found = (struct found){
			.there = true,
			.row = column_int(statement, 0),
			.id = column_uuid(statement, 1),
			.status = (enum task_status)column_int(statement, 2),
			.created_at_us = column_int(statement, 3),
			/* Only rows with a key keep their digest. */
			.same = !digest.data ||
				(digest.len == sizeof(s->digest) && memcmp(digest.data, s->digest, digest.len) == 0),
		};
	}
	sqlite3_reset(statement);
	return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code;
}

static void about(struct event *event, const struct submission *s, struct arena *arena, struct submit_result *before)
{
	event->task_id = s->id;
	/* Items of one batch mostly share their tenant. */
	event->tenant = before && bytes_equal(before->event.tenant, s->tenant) ? before->event.tenant
									       : arena_bytes(arena, s->tenant);
	event->eval_id = arena_bytes(arena, s->eval_id);
	event->batch_id = s->batch_id;
}

/* This very submission had been committed before: its event is told again, so that it is published. */
static int created_before(struct writer *writer, const struct submission *s, const struct found *found,
	struct arena *arena, struct submit_result *ret_result)
{
	*ret_result = (struct submit_result){
		.status = SUBMIT_CREATED,
		.id = s->id,
		.task_status = found->status,
		.created_at_us = found->created_at_us,
	};
	sqlite3_stmt *statement = database_statement(&writer->database, WRITE_EVENTS_BACKWARDS);
	bind_int(statement, 1, found->row);
	int code;
	while ((code = sqlite3_step(statement)) == SQLITE_ROW)
		if (column_int(statement, 2) == 1)
			row_event(statement, arena, &ret_result->event);
	sqlite3_reset(statement);
	about(&ret_result->event, s, arena, NULL);
	return code == SQLITE_DONE ? SQLITE_OK : code;
}

static int why_not(
	struct writer *writer, const struct submission *s, struct arena *arena, struct submit_result *ret_result)
{
	struct found same = { 0 }, by_eval_id = { 0 }, by_key = { 0 };
	TRY(find(writer, WRITE_FIND_BY_ID, s, BYTES_NONE, &same));
	if (same.there && same.same)
		return created_before(writer, s, &same, arena, ret_result);
	if (same.there) {
		*ret_result = (struct submit_result){ SUBMIT_INVALID, .error = "its id belongs to another task" };
		return SQLITE_OK;
	}
	if (s->eval_id.data)
		TRY(find(writer, WRITE_FIND_BY_EVAL_ID, s, s->eval_id, &by_eval_id));
	if (s->idempotency_key.data)
		TRY(find(writer, WRITE_FIND_BY_IDEMPOTENCY_KEY, s, s->idempotency_key, &by_key));
	const struct found *found = by_eval_id.there ? &by_eval_id : &by_key;
	if (!found->there)
		return SQLITE_CORRUPT; /* an index holds a key whose row cannot be found */
	*ret_result = (struct submit_result){
		.status = found->same ? SUBMIT_EXISTS : SUBMIT_CONFLICT,
		.id = found->id,
		.task_status = found->status,
		.created_at_us = found->created_at_us,
	};
	if (by_eval_id.there && by_key.there && by_eval_id.row != by_key.row) {
		ret_result->status = SUBMIT_DISAGREE;
		ret_result->other_id = by_key.id;
	}
	return SQLITE_OK;
}

/* What no store of ours can hold. */
static const char *unfit(const struct submission *s)
{
	const struct {
		const char *error;
		struct bytes text;
	} fields[] = {
		{ "tenant holds U+0000", s->tenant },
		{ "type holds U+0000", s->type },
		{ "queue holds U+0000", s->queue },
		{ "executor holds U+0000", s->executor },
		{ "eval_id holds U+0000", s->eval_id },
		{ "the idempotency key holds U+0000", s->idempotency_key },
		{ "description holds U+0000", s->description },
		{ "domain holds U+0000", s->domain },
		{ "params holds U+0000", s->params },
		{ "metadata holds U+0000", s->metadata },
		{ "callback_url holds U+0000", s->callback_url },
		{ "traceparent holds U+0000", s->traceparent },
		{ "image holds U+0000", s->image },
	};
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		if (fields[i].text.len > 0 && memchr(fields[i].text.data, '\0', fields[i].text.len))
			return fields[i].error;
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		if (fields[i].text.len > FIELD_BYTES_MOST)
			return "a field is larger than the store can hold";
	if (!s->tenant.data || !s->type.data || !s->queue.data || !s->executor.data)
		return "tenant, type, queue and executor are needed";
	if (s->turn != s->turn || s->drift_score != s->drift_score)
		return "turn and drift_score must be numbers";
	return NULL;
}

static int insert(struct writer *writer, const struct submit_item *item, struct bytes locked_by, int64_t *ret_row)
{
	const struct submission *s = item->submission;
	bool keyed = s->eval_id.data || s->idempotency_key.data;
	enum task_place place = item->born_running                  ? PLACE_RUNNING
				: s->run_after_us <= writer->now_us ? PLACE_DUE
								    : PLACE_DELAYED;
	sqlite3_stmt *statement = database_statement(&writer->database, WRITE_INSERT_TASK);
	bind_uuid(statement, 1, &s->id);
	bind_int(statement, 2, item->born_running ? TASK_RUNNING : TASK_QUEUED);
	bind_int(statement, 3, place);
	bind_int(statement, 4, item->born_running ? 1 : 0);
	bind_int(statement, 5, s->max_attempts);
	bind_int(statement, 6, s->priority);
	sqlite3_bind_double(statement, 7, s->turn);
	bind_text(statement, 8, s->tenant);
	bind_text(statement, 9, s->type);
	bind_text(statement, 10, s->queue);
	bind_text(statement, 11, s->executor);
	bind_int(statement, 12, writer->now_us);
	bind_int(statement, 13, s->run_after_us);
	bind_int(statement, 14, item->born_running ? writer->now_us : 0);
	bind_text(statement, 15, item->born_running ? locked_by : BYTES_NONE);
	bind_text(statement, 16, s->eval_id);
	bind_text(statement, 17, s->idempotency_key);
	bind_blob(statement, 18, keyed ? (struct bytes){ (const char *)s->digest, sizeof(s->digest) } : BYTES_NONE);
	bind_uuid_or_null(statement, 19, &s->batch_id);
	bind_text(statement, 20, s->image);
	TRY(database_run(statement));
	*ret_row =
		sqlite3_changes(writer->database.handle) > 0 ? sqlite3_last_insert_rowid(writer->database.handle) : 0;
	if (*ret_row == 0)
		return SQLITE_OK;
	statement = database_statement(&writer->database, WRITE_INSERT_INPUT);
	bind_int(statement, 1, *ret_row);
	sqlite3_bind_double(statement, 2, s->drift_score);
	bind_text(statement, 3, s->description);
	bind_text(statement, 4, s->domain);
	bind_text(statement, 5, s->metadata);
	bind_text(statement, 6, s->callback_url);
	bind_text(statement, 7, s->traceparent);
	bind_text(statement, 8, s->params);
	return database_run(statement);
}

int write_submit(struct writer *writer, struct store_submit *submit)
{
	struct arena *arena = &submit->operation.arena;
	int64_t publisher;
	submit->results = arena_array(arena, submit->count, sizeof(submit->results[0]));
	TRY(writer_replica(writer, submit->locked_by, &publisher));
	for (size_t i = 0; i < submit->count; i++) {
		const struct submission *s = submit->items[i].submission;
		struct submit_result *result = &submit->results[i];
		const char *error = unfit(s);
		int64_t row;
		if (error) {
			*result = (struct submit_result){ SUBMIT_INVALID, .error = error };
			continue;
		}
		TRY(insert(writer, &submit->items[i], submit->locked_by, &row));
		if (row == 0) {
			TRY(why_not(writer, s, arena, result));
			continue;
		}
		*result = (struct submit_result){
			.status = SUBMIT_CREATED,
			.id = s->id,
			.task_status = submit->items[i].born_running ? TASK_RUNNING : TASK_QUEUED,
			.created_at_us = writer->now_us,
			.event = {
				.kind = EVENT_QUEUED,
				.sequence = 1,
				.run = 1,
				.timestamp_us = writer->now_us,
			},
		};
		about(&result->event, s, arena, i > 0 ? result - 1 : NULL);
		TRY(writer_event(writer, row, publisher, &result->event));
		writer_tally(writer, s->tenant, -1, result->task_status);
	}
	return SQLITE_OK;
}
