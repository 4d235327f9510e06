/* Where a reader of the stream of all tasks stands: exactly, whoever is writing.
 *
 * The stream is in the order of (xid, id), transactions commit in another. A reader that has been given all that
 * could be seen up to a place has not been given what transactions wrote that were under way then and have a lesser
 * xid. They are the *holes* below the place. When such a transaction has ended its events are given first, and the
 * hole is gone; so nothing is given twice, and nobody waits for the oldest of them. Of transactions that write no
 * events there are no holes ($writers in write.sql).
 *
 *   place, holes ─► read: what has come in holes; only where there is nothing, what lies behind the place ─► place, holes
 *
 * The cursor of a position is the lowest hole, or else the place: nothing below it is missing, though what is above
 * comes again. */
#ifndef ASSAY_STORE_POSTGRES_POSITION_H
#define ASSAY_STORE_POSTGRES_POSITION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "store/postgres/row.h"

struct position {
	struct stream_place place;
	/* Below it, in their order: the transaction, and the last of its events that was given, 0 while it was under
	 * way. */
	struct stream_place *holes;
	size_t hole_count;
};

/* What one statement saw. */
struct position_view {
	const uint64_t *open; /* transactions under way that may write events, in their order */
	size_t open_count;
	uint64_t next; /* no transaction from here on had begun */
	bool late; /* what it gave stood in holes, else behind the place */
	bool cut; /* there may be more of it, behind … */
	struct stream_place reached;
};

/* The bytes of a position are good within one process. False: they are not those of one. */
bool position_read(struct bytes bytes, struct arena *arena, struct position *ret_position);
struct bytes position_write(const struct position *position, struct arena *arena); /* absent: the cursor says it all */
struct stream_place position_cursor(const struct position *position);

/* Numbers between blanks, as the statement brings `open`. */
void position_read_open(struct bytes text, struct arena *arena, struct position_view *view);
/* The safe cursor of all that the statement gave lies below this. */
struct stream_place position_bound(const struct position *before, const struct position_view *view);
/* Where the reader stands when it has been given that. */
void position_advance(const struct position *before, const struct position_view *view, struct arena *arena,
	struct position *ret_after);

#endif
