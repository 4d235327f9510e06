/* The store in one SQLite file: the embedded default.
 *
 * Files in the data directory, all mode 0600: `assay.db` with its `-wal` and `-shm` (https://sqlite.org/wal.html), and
 * `lock`, which the process holds by flock(2) as long as the store is started. One daemon per directory.
 *
 * Three threads of the store's own, each with a connection of its own: the writer, which takes everything that waits
 * into one transaction, and two readers, one for what is quick (a task, its events, its output) and one for what may
 * scan (lists, short ids, positions, counts). What is handed in during one turn of the loop reaches the threads at its
 * end.
 *
 * When the disk is full or fails, operations that write come back as STORE_AWAY with the cause, nothing of them is
 * kept, on_available(false) is told, and the writer probes once a second until the disk takes writes again. Reads go on
 * meanwhile. A commit whose write or sync failed may come back to life if the process dies just then: it is told as
 * STORE_UNKNOWN. A damaged file is STORE_FAILED and is not probed. */
#ifndef ASSAY_STORE_SQLITE_SQLITE_STORE_H
#define ASSAY_STORE_SQLITE_SQLITE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "assay/store.h"
#include "base/log.h"

#define SQLITE_STORE_CACHE_DEFAULT ((size_t)8 << 20)
#define SQLITE_STORE_BUSY_MS_DEFAULT 5000

/* What the contract suite breaks. Called on the writer's thread; may be NULL. */
struct sqlite_store_faults {
	/* The operation did not commit, but its caller is told STORE_UNKNOWN. */
	bool (*before_commit)(void *owner);
	/* The operation did commit, but its caller is told STORE_UNKNOWN. Called once for each operation. */
	bool (*after_commit)(void *owner);
	void *owner;
};

struct sqlite_store_options {
	const char *directory; /* made, with its parents, mode 0700, where it is missing; copied */
	uv_loop_t *loop; /* borrowed: outlives the store */
	struct log *log; /* borrowed: outlives the store; NULL: nothing is logged */
	size_t cache_bytes; /* of all connections together, touched only under load; 0: SQLITE_STORE_CACHE_DEFAULT */
	int busy_ms; /* how long to wait for another program that holds the file; 0: the default */
	int64_t max_bytes; /* the database may grow to this; 0: no bound but the disk */
	int64_t (*clock)(void *owner); /* the store's clock in microseconds, any thread; NULL: the system's */
	void *clock_owner;
	struct sqlite_store_faults faults;
};

/* Nothing is opened before store->ops->start(). Free it with store->ops->free() when it was never started, failed to
 * start, or has stopped. */
struct store *sqlite_store_new(const struct sqlite_store_options *options) __attribute__((returns_nonnull));

#endif
