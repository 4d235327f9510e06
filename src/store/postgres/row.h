/* Rows as the plain structs of the model, and the cursor of the stream of events. */
#ifndef ASSAY_STORE_POSTGRES_ROW_H
#define ASSAY_STORE_POSTGRES_ROW_H

#include <stdbool.h>
#include <stdint.h>

#include "assay/task.h"
#include "base/arena.h"
#include "io/postgres.h"

/* A place in the stream, which is in the order of (xid, id). Transactions commit in another order than they begin: a
 * cursor is *safe* when everything below it has ended. Reading on from there misses nothing, though it may repeat;
 * position.h says how it does not. */
struct stream_place {
	uint64_t xid;
	int64_t id;
	uint32_t sequence; /* within its task */
};

struct cursor cursor_of(const struct stream_place *place);
bool cursor_read(const struct cursor *cursor, struct stream_place *ret_place); /* false: not one of ours */
/* The safe cursor of an event, where everything below the bound has ended. */
struct cursor cursor_safe(uint64_t xid, int64_t id, uint32_t sequence, uint64_t horizon);
struct cursor cursor_within(const struct stream_place *event, const struct stream_place *bound);

/* From $task_columns, which begin at `column`. Strings are copied. Returns the column behind them. */
int row_read_task(const PGresult *result, int row, int column, struct arena *arena, struct task *ret_task);
enum task_status row_status(const PGresult *result, int row, int column);
struct bytes row_text(const PGresult *result, int row, int column, struct arena *arena);

/* The members of an event's object are kept as a whole object. */
struct bytes row_members(const PGresult *result, int row, int column, struct arena *arena);
struct bytes row_object(struct bytes members, struct arena *arena); /* absent or empty: absent */
/* JSON without U+0000, which jsonb has no place for: U+FFFD instead. */
struct bytes row_json(struct bytes json, struct arena *arena);

int64_t row_hash(struct bytes incarnation); /* absent: 0 */

#endif
