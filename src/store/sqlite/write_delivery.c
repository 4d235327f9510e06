/* Deliveries to callback URLs: written with the event that they carry, leased to who sends them, settled with a record
 * of each attempt.
 *
 *   (run ends) ──► WAITING, due ──claim──► WAITING, leased ──SENT──► DELIVERED
 *                     ▲   ▲                     │  └──STOP──► GIVEN_UP
 *                     │   └── lease over, HAND_BACK
 *                     └──────── AGAIN, due later
 */
#include <stdlib.h>

#include "store/sqlite/writer.h"
#include "task/callback.h"

#define WAITING_COUNTED_MOST 10000

int writer_delivery(struct writer *writer, int64_t task, struct event *event)
{
	sqlite3_stmt *statement = database_statement(&writer->database, WRITE_CALLBACK_OF);
	bind_int(statement, 1, task);
	int code = sqlite3_step(statement);
	struct bytes origin = BYTES_NONE;
	if (code == SQLITE_ROW)
		origin = callback_origin(column_text(statement, 0), &writer->arena);
	sqlite3_reset(statement);
	if (code != SQLITE_ROW)
		return code == SQLITE_DONE ? SQLITE_OK : code;
	event->delivery = true;
	statement = database_statement(&writer->database, WRITE_INSERT_DELIVERY);
	bind_int(statement, 1, task);
	bind_int(statement, 2, event->run);
	bind_int(statement, 3, writer->now_us);
	bind_text(statement, 4, origin);
	return database_run(statement);
}

/* ---- claim ---- */

/* One receiver with something waiting. */
struct waiting {
	struct bytes origin; /* in the writer's arena */
	int64_t due_us; /* of its first */
	int allowed;
};

struct waitings {
	struct waiting *items; /* in the writer's arena */
	size_t count, capacity;
};

static int allowed(const struct store_delivery_claim *claim, struct bytes origin)
{
	for (size_t i = 0; i < claim->origin_count; i++)
		if (bytes_equal(claim->origins[i].origin, origin))
			return claim->origin_limit - claim->origins[i].busy;
	return claim->origin_limit;
}

static void waitings_add(struct writer *writer, struct waitings *list, const struct waiting *waiting)
{
	if (list->count == list->capacity) {
		size_t more = list->capacity ? list->capacity * 2 : 64;
		struct waiting *grown = arena_array(&writer->arena, more, sizeof(grown[0]));
		if (list->count > 0)
			memcpy(grown, list->items, list->count * sizeof(grown[0]));
		list->items = grown;
		list->capacity = more;
	}
	list->items[list->count++] = *waiting;
}

/* A leap from origin to origin through the index: what it costs depends on how many receivers wait, not on how many
 * deliveries. */
static int find_waiting(struct writer *writer, const struct store_delivery_claim *claim, struct waitings *list)
{
	sqlite3_stmt *statement = database_statement(&writer->database, WRITE_NEXT_ORIGIN);
	struct bytes last = BYTES_LITERAL("");
	int code;
	for (;;) {
		bind_text(statement, 1, last);
		code = sqlite3_step(statement);
		if (code != SQLITE_ROW)
			break;
		struct waiting waiting = {
			.origin = column_text_copy(statement, 0, &writer->arena),
			.due_us = column_int(statement, 1),
		};
		sqlite3_reset(statement);
		last = waiting.origin;
		waiting.allowed = allowed(claim, waiting.origin);
		if (waiting.allowed > 0)
			waitings_add(writer, list, &waiting);
	}
	sqlite3_reset(statement);
	return code == SQLITE_DONE ? SQLITE_OK : code;
}

static int by_due(const void *a, const void *b)
{
	int64_t left = ((const struct waiting *)a)->due_us, right = ((const struct waiting *)b)->due_us;
	return left < right ? -1 : left > right;
}

static int claim_row(struct writer *writer, struct store_delivery_claim *claim, int64_t row)
{
	struct arena *arena = &claim->operation.arena;
	sqlite3_stmt *statement = database_statement(&writer->database, WRITE_CLAIM_DELIVERY);
	bind_int(statement, 1, row);
	bind_text(statement, 2, claim->locked_by);
	bind_int(statement, 3, writer->now_us + claim->lease_us);
	TRY(database_run(statement));
	statement = database_statement(&writer->database, WRITE_DELIVERY_BY_ROW);
	bind_int(statement, 1, row);
	int code = sqlite3_step(statement);
	if (code == SQLITE_ROW)
		claim->deliveries[claim->count++] = (struct delivery){
			.task_id = column_uuid(statement, 0),
			.run = (int)column_int(statement, 1),
			.attempt = (int)column_int(statement, 2),
			.attempts = (int)column_int(statement, 3),
			.created_at_us = column_int(statement, 4),
			.origin = column_text_copy(statement, 5, arena),
			.url = column_text_copy(statement, 6, arena),
		};
	sqlite3_reset(statement);
	return code == SQLITE_ROW ? SQLITE_OK : code == SQLITE_DONE ? SQLITE_CORRUPT : code;
}

/* As many as are due and allowed of one receiver; then when its next is due, or none that may be claimed. */
static int claim_of(struct writer *writer, struct store_delivery_claim *claim, struct waiting *waiting)
{
	size_t left = claim->limit - claim->count, most = (size_t)waiting->allowed, count = 0;
	most = most < left ? most : left;
	int64_t *rows = arena_array(&writer->arena, most, sizeof(rows[0]));
	sqlite3_stmt *statement = database_statement(&writer->database, WRITE_DUE_DELIVERIES);
	bind_text(statement, 1, waiting->origin);
	bind_int(statement, 2, writer->now_us);
	bind_int(statement, 3, (int64_t)most);
	int code;
	while ((code = sqlite3_step(statement)) == SQLITE_ROW)
		rows[count++] = column_int(statement, 0);
	sqlite3_reset(statement);
	if (code != SQLITE_DONE)
		return code;
	for (size_t i = 0; i < count; i++)
		TRY(claim_row(writer, claim, rows[i]));
	waiting->allowed -= (int)count;
	if (waiting->allowed == 0)
		return SQLITE_OK;
	statement = database_statement(&writer->database, WRITE_FIRST_DUE);
	bind_text(statement, 1, waiting->origin);
	code = sqlite3_step(statement);
	if (code == SQLITE_ROW)
		waiting->due_us = column_int(statement, 0);
	sqlite3_reset(statement);
	return code == SQLITE_ROW ? SQLITE_OK : code == SQLITE_DONE ? SQLITE_CORRUPT : code;
}

static int count_waiting(struct writer *writer, int64_t *ret_count)
{
	sqlite3_stmt *statement = database_statement(&writer->database, WRITE_COUNT_DELIVERIES);
	bind_int(statement, 1, WAITING_COUNTED_MOST);
	int code = sqlite3_step(statement);
	if (code == SQLITE_ROW)
		*ret_count = column_int(statement, 0);
	sqlite3_reset(statement);
	return code == SQLITE_ROW ? SQLITE_OK : code;
}

int write_delivery_claim(struct writer *writer, struct store_delivery_claim *claim)
{
	struct waitings list = { 0 };
	claim->deliveries = arena_array(&claim->operation.arena, claim->limit, sizeof(claim->deliveries[0]));
	claim->count = 0;
	claim->next_due_in_us = -1;
	TRY(find_waiting(writer, claim, &list));
	if (list.count > 0)
		qsort(list.items, list.count, sizeof(list.items[0]), by_due);
	for (size_t i = 0; i < list.count && claim->count < claim->limit && list.items[i].due_us <= writer->now_us; i++)
		TRY(claim_of(writer, claim, &list.items[i]));
	claim->more = claim->count == claim->limit;
	for (size_t i = 0; i < list.count; i++) {
		int64_t in_us = list.items[i].due_us > writer->now_us ? list.items[i].due_us - writer->now_us : 0;
		if (list.items[i].allowed > 0 && (claim->next_due_in_us < 0 || in_us < claim->next_due_in_us))
			claim->next_due_in_us = in_us;
	}
	return claim->count_waiting ? count_waiting(writer, &claim->waiting) : SQLITE_OK;
}

/* ---- settle ---- */

static int recorded(struct writer *writer, int64_t delivery, int attempt, bool *ret_recorded)
{
	sqlite3_stmt *statement = database_statement(&writer->database, WRITE_FIND_ATTEMPT);
	bind_int(statement, 1, delivery);
	bind_int(statement, 2, attempt);
	int code = sqlite3_step(statement);
	*ret_recorded = code == SQLITE_ROW;
	sqlite3_reset(statement);
	return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code;
}

static int record(struct writer *writer, int64_t delivery, const struct delivery_outcome *outcome)
{
	sqlite3_stmt *statement = database_statement(&writer->database, WRITE_INSERT_ATTEMPT);
	bind_int(statement, 1, delivery);
	bind_int(statement, 2, outcome->attempt);
	bind_int(statement, 3, outcome->at_us);
	bind_int(statement, 4, outcome->duration_us);
	bind_int(statement, 5, outcome->http_status);
	bind_text(statement, 6, outcome->error);
	return database_run(statement);
}

static int settle_one(struct writer *writer, const struct store_delivery_settle *settle,
	const struct delivery_outcome *outcome, enum settle_status *ret_status)
{
	sqlite3_stmt *statement = database_statement(&writer->database, WRITE_DELIVERY_OF);
	bind_uuid(statement, 1, &outcome->task_id);
	bind_int(statement, 2, outcome->run);
	int64_t row = 0;
	bool holds = false, handed_back = outcome->verdict == DELIVERY_HAND_BACK;
	*ret_status = SETTLE_REFUSED;
	int code = sqlite3_step(statement);
	if (code == SQLITE_ROW) {
		row = column_int(statement, 0);
		holds = column_int(statement, 1) == DELIVERY_WAITING && column_int(statement, 2) == outcome->attempt &&
			bytes_equal(column_text(statement, 3), settle->locked_by);
	}
	sqlite3_reset(statement);
	if (code != SQLITE_ROW)
		return code == SQLITE_DONE ? SQLITE_OK : code;
	if (!holds) {
		bool before;
		TRY(recorded(writer, row, outcome->attempt, &before));
		*ret_status = before ? SETTLE_APPLIED : SETTLE_REFUSED;
		return SQLITE_OK;
	}
	*ret_status = SETTLE_APPLIED;
	if (!handed_back)
		TRY(record(writer, row, outcome));
	statement = database_statement(&writer->database, WRITE_SETTLE_DELIVERY);
	bind_int(statement, 1, row);
	bind_int(statement, 2,
		outcome->verdict == DELIVERY_SENT   ? DELIVERY_DELIVERED
		: outcome->verdict == DELIVERY_STOP ? DELIVERY_GIVEN_UP
						    : DELIVERY_WAITING);
	bind_int(statement, 3, writer->now_us + (outcome->verdict == DELIVERY_AGAIN ? outcome->delay_us : 0));
	bind_int(statement, 4, !handed_back);
	return database_run(statement);
}

int write_delivery_settle(struct writer *writer, struct store_delivery_settle *settle)
{
	settle->results = arena_array(&settle->operation.arena, settle->count, sizeof(settle->results[0]));
	for (size_t i = 0; i < settle->count; i++)
		TRY(settle_one(writer, settle, &settle->outcomes[i], &settle->results[i]));
	return SQLITE_OK;
}
