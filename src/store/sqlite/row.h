/* Rows as the plain structs of the model. */
#ifndef ASSAY_STORE_SQLITE_ROW_H
#define ASSAY_STORE_SQLITE_ROW_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "assay/task.h"
#include "base/arena.h"

/* Where a row stands in the queue; the numbers of the column `place`. */
enum task_place { PLACE_ENDED, PLACE_DUE, PLACE_DELAYED, PLACE_RUNNING };

/* From a statement that selects $task_columns, and i.params behind them where with_params. Returns the row's number. */
int64_t row_task(sqlite3_stmt *statement, struct arena *arena, bool with_params, struct task *ret_task);
/* From a statement that selects $event_columns first: the row's own part. Who it belongs to is added by the caller. */
void row_event(sqlite3_stmt *statement, struct arena *arena, struct event *ret_event);

/* A cursor of this store is the event's position, eight bytes, the highest first. */
struct cursor cursor_at(int64_t position);
/* -1 for a cursor that is none of this store's. The empty cursor is before everything: 0. */
int64_t cursor_position(const struct cursor *cursor);

#endif
