/* Rows as the plain structs of the model. The order of the columns is that of $task_columns and $event_columns in
 * write.sql. */
#include "store/sqlite/row.h"

#include "store/sqlite/database.h"

int64_t row_task(sqlite3_stmt *statement, struct arena *arena, bool with_params, struct task *ret_task)
{
	int c = 0;
	int64_t row = column_int(statement, c++);
	*ret_task = (struct task){ .id = column_uuid(statement, c++) };
	struct task *t = ret_task;
	t->status = (enum task_status)column_int(statement, c++);
	t->run = (int)column_int(statement, c++);
	t->attempt = (int)column_int(statement, c++);
	t->attempts = (int)column_int(statement, c++);
	t->max_attempts = (int)column_int(statement, c++);
	t->priority = (int)column_int(statement, c++);
	t->turn = sqlite3_column_double(statement, c++);
	t->sequence = (uint32_t)column_int(statement, c++);
	t->tenant = column_text_copy(statement, c++, arena);
	t->type = column_text_copy(statement, c++, arena);
	t->queue = column_text_copy(statement, c++, arena);
	t->executor = column_text_copy(statement, c++, arena);
	t->created_at_us = column_int(statement, c++);
	t->updated_at_us = column_int(statement, c++);
	t->queued_at_us = column_int(statement, c++);
	t->run_after_us = column_int(statement, c++);
	t->locked_at_us = column_int(statement, c++);
	t->started_at_us = column_int(statement, c++);
	t->finished_at_us = column_int(statement, c++);
	t->cancel_requested_at_us = column_int(statement, c++);
	t->reason = (enum task_reason)column_int(statement, c++);
	t->cause = (enum task_reason)column_int(statement, c++);
	t->locked_by = column_text_copy(statement, c++, arena);
	t->eval_id = column_text_copy(statement, c++, arena);
	t->idempotency_key = column_text_copy(statement, c++, arena);
	t->batch_id = column_uuid(statement, c++);
	t->node = column_text_copy(statement, c++, arena);
	t->pod = column_text_copy(statement, c++, arena);
	t->image = column_text_copy(statement, c++, arena);
	t->error = column_text_copy(statement, c++, arena);
	t->result = column_text_copy(statement, c++, arena);
	t->drift_score = sqlite3_column_double(statement, c++);
	t->description = column_text_copy(statement, c++, arena);
	t->domain = column_text_copy(statement, c++, arena);
	t->metadata = column_text_copy(statement, c++, arena);
	t->callback_url = column_text_copy(statement, c++, arena);
	t->traceparent = column_text_copy(statement, c++, arena);
	if (with_params)
		t->params = column_text_copy(statement, c, arena);
	return row;
}

void row_event(sqlite3_stmt *statement, struct arena *arena, struct event *ret_event)
{
	*ret_event = (struct event){
		.cursor = cursor_at(column_int(statement, 0)),
		.kind = (enum event_kind)column_int(statement, 1),
		.sequence = (uint32_t)column_int(statement, 2),
		.run = (int)column_int(statement, 3),
		.attempt = (int)column_int(statement, 4),
		.timestamp_us = column_int(statement, 5),
		.data = column_text_copy(statement, 6, arena),
	};
}

struct cursor cursor_at(int64_t position)
{
	struct cursor cursor = { .length = 8 };
	for (int i = 0; i < 8; i++)
		cursor.bytes[i] = (uint8_t)((uint64_t)position >> (56 - 8 * i));
	return cursor;
}

int64_t cursor_position(const struct cursor *cursor)
{
	uint64_t position = 0;
	if (cursor->length == 0)
		return 0;
	if (cursor->length != 8 || cursor->bytes[0] > 0x7f)
		return -1;
	for (int i = 0; i < 8; i++)
		position = position << 8 | cursor->bytes[i];
	return (int64_t)position;
}
