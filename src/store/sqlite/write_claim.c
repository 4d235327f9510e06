/* Claims: the first rows of the claim's index become RUNNING.
 *
 * The index holds only what is due. Rows whose run_after lies ahead stand in an index of their own and are moved over
 * here when their time has come, a bounded number at a time, so that a million rows that come due at once do not stop
 * the writer. */
#include <string.h>

#include "store/sqlite/writer.h"

#define PROMOTED_AT_ONCE 10000
#define CLAIMED_AT_ONCE 10000 /* of one lane: a caller with more slots claims again */

int writer_promote(struct writer *writer, struct bytes executor, bool *ret_all)
{
	sqlite3_stmt *statement = database_statement(&writer->database, WRITE_PROMOTE);
	bind_text(statement, 1, executor);
	bind_int(statement, 2, writer->now_us);
	bind_int(statement, 3, PROMOTED_AT_ONCE);
	TRY(database_run(statement));
	*ret_all = sqlite3_changes(writer->database.handle) < PROMOTED_AT_ONCE;
	return SQLITE_OK;
}

static int next_due(struct writer *writer, struct bytes executor, int64_t *due_us)
{
	sqlite3_stmt *statement = database_statement(&writer->database, WRITE_NEXT_DUE);
	bind_text(statement, 1, executor);
	int code = sqlite3_step(statement);
	if (code == SQLITE_ROW) {
		int64_t at = column_int(statement, 0);
		*due_us = *due_us == 0 || at < *due_us ? at : *due_us;
	}
	sqlite3_reset(statement);
	return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code;
}

static bool passed_over(const struct store_claim *claim, struct bytes tenant)
{
	for (size_t i = 0; i < claim->tenant_full_count; i++)
		if (bytes_equal(claim->tenants_full[i], tenant))
			return true;
	return false;
}

static bool wanted(const struct store_claim *claim, struct bytes queue)
{
	for (size_t i = 0; i < claim->queue_count; i++)
		if (bytes_equal(claim->queues[i], queue))
			return true;
	return !claim->queues;
}

/* The rows to take, before the index is changed under the search; ret_rows has room for `slots`. */
static int candidates(struct writer *writer, const struct store_claim *claim, struct bytes executor, size_t slots,
	int64_t *ret_rows, size_t *ret_count, bool *ret_exhausted)
{
	sqlite3_stmt *statement = database_statement(&writer->database, WRITE_CLAIM_CANDIDATES);
	bind_text(statement, 1, executor);
	size_t count = 0;
	int code;
	while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
		if (!wanted(claim, column_text(statement, 1)) || passed_over(claim, column_text(statement, 2)))
			continue;
		if (count == slots)
			break;
		ret_rows[count++] = column_int(statement, 0);
	}
	sqlite3_reset(statement);
	*ret_count = count;
	*ret_exhausted = code == SQLITE_DONE;
	return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code;
}

static int take(struct writer *writer, struct store_claim *claim, int64_t row, struct task *task)
{
	int code = writer_task(writer, row, &claim->operation.arena, task);
	if (code != SQLITE_ROW)
		return code == SQLITE_DONE ? SQLITE_CORRUPT : code;
	sqlite3_stmt *statement = database_statement(&writer->database, WRITE_CLAIM);
	bind_int(statement, 1, row);
	bind_text(statement, 2, claim->locked_by);
	bind_int(statement, 3, writer->now_us);
	TRY(database_run(statement));
	writer_tally(writer, task->tenant, task->status, TASK_RUNNING);
	task->status = TASK_RUNNING;
	task->attempt++;
	task->locked_by = claim->tasks == task ? arena_bytes(&claim->operation.arena, claim->locked_by)
					       : claim->tasks[0].locked_by;
	task->locked_at_us = task->updated_at_us = writer->now_us;
	task->started_at_us = 0;
	task->reason = task->cause = REASON_NONE;
	task->error = task->node = task->pod = BYTES_NONE;
	return SQLITE_OK;
}

int write_claim(struct writer *writer, struct store_claim *claim)
{
	struct arena *arena = &claim->operation.arena;
	int64_t replica;
	claim->tasks = NULL;
	claim->count = 0;
	claim->next_due_us = 0;
	claim->exhausted = arena_array(arena, claim->lane_count, sizeof(claim->exhausted[0]));
	TRY(writer_replica(writer, claim->locked_by, &replica));
	for (size_t i = 0; i < claim->lane_count; i++) {
		const struct claim_lane *lane = &claim->lanes[i];
		size_t slots = lane->slots < 0 ? 0 : (size_t)lane->slots, found;
		slots = slots > CLAIMED_AT_ONCE ? CLAIMED_AT_ONCE : slots;
		bool all;
		TRY(writer_promote(writer, lane->executor, &all));
		int64_t *rows = arena_array(&writer->arena, slots, sizeof(rows[0]));
		TRY(candidates(writer, claim, lane->executor, slots, rows, &found, &claim->exhausted[i]));
		claim->exhausted[i] = claim->exhausted[i] && all;
		TRY(next_due(writer, lane->executor, &claim->next_due_us));
		struct task *tasks = arena_array(arena, claim->count + found, sizeof(tasks[0]));
		if (claim->count > 0)
			memcpy(tasks, claim->tasks, claim->count * sizeof(tasks[0]));
		claim->tasks = tasks;
		for (size_t k = 0; k < found; k++, claim->count++)
			TRY(take(writer, claim, rows[k], &tasks[claim->count]));
	}
	return SQLITE_OK;
}
