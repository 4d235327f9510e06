/* What the writing operations share while they run on the writer's thread, within one transaction.
 *
 * Each write_… below carries out one operation: SQLITE_OK, or the code for which the whole transaction is to be rolled
 * back. It may be carried out again after a rollback, so it sets its results from scratch. */
#ifndef ASSAY_STORE_SQLITE_WRITER_H
#define ASSAY_STORE_SQLITE_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "assay/store.h"
#include "base/arena.h"
#include "store/sqlite/database.h"
#include "store/sqlite/row.h"
#include "store/sqlite/sql.h"

/* What a transaction adds to one row of table tenant. */
struct tally {
	struct bytes tenant; /* in the writer's arena */
	int64_t by_status[TASK_STATUS_COUNT];
};

struct writer {
	struct database database;
	int64_t (*clock)(void *owner);
	void *clock_owner;
	/* Of the transaction: */
	int64_t now_us; /* by the store's clock, one reading for each operation */
	int64_t position; /* of the last event that was numbered */
	struct arena arena;
	struct tally *tallies; /* owned */
	size_t tally_count, tally_capacity;
	struct bytes replica_name; /* in the arena: the one looked up last … */
	int64_t replica_row; /* … and its row */
	bool replica_dead;
	/* Across transactions: */
	int64_t take_at_us; /* by the store's clock: the last take */
	int64_t committed_position;
	int64_t lost_take_at_us; /* a take at this time came back UNKNOWN: the next tells its dead again; 0: none */
};

int writer_open(struct writer *writer, struct err *err) MUST_CHECK; /* when its database is open */
void writer_close(struct writer *writer);

int writer_begin(struct writer *writer);
int writer_commit(struct writer *writer); /* on failure the caller rolls back */
void writer_rollback(struct writer *writer);
void writer_read_clock(struct writer *writer);

/* A task came to be (from = -1), changed its status, or went (to = -1). */
void writer_tally(struct writer *writer, struct bytes tenant, int from, int to);

/* The row of an incarnation, made where it is new. An absent name has row 0. */
int writer_replica(struct writer *writer, struct bytes locked_by, int64_t *ret_row);

/* Writes an event and gives it its cursor; with a terminal one the delivery to the task's callback_url. */
int writer_event(struct writer *writer, int64_t task, int64_t publisher, struct event *event);

/* The delivery of a terminal event, where its task has a callback_url: written unless it is there, and noted in the
 * event. */
int writer_delivery(struct writer *writer, int64_t task, struct event *event);

/* Reads one task with its params; SQLITE_ROW when it is there. */
int writer_task(struct writer *writer, int64_t row, struct arena *arena, struct task *ret_task);

int write_submit(struct writer *writer, struct store_submit *submit);
int write_claim(struct writer *writer, struct store_claim *claim);
int write_settle(struct writer *writer, struct store_settle *settle);
int write_command(struct writer *writer, struct store_command *command);
int write_heartbeat(struct writer *writer, struct store_heartbeat *heartbeat);
int write_take(struct writer *writer, struct store_take *take);
/* The turns of a heartbeat: what others told is given, what grew here is kept. */
int write_turns(struct writer *writer, struct store_heartbeat *heartbeat, int64_t replica);
int write_trim(struct writer *writer, struct store_trim *trim);
int write_delivery_claim(struct writer *writer, struct store_delivery_claim *claim);
int write_delivery_settle(struct writer *writer, struct store_delivery_settle *settle);

/* Rows whose run_after has come enter the claim's index. False in *ret_all where some were left for the next time. */
int writer_promote(struct writer *writer, struct bytes executor, bool *ret_all);

#define TRY(call) \
	do { \
		int code_ = (call); \
		if (code_ != SQLITE_OK) \
			return code_; \
	} while (0)

#endif
