/* The store's own struct, shared by the loop's side (sqlite_store.c) and the threads' (threads.c). */
#ifndef ASSAY_STORE_SQLITE_THREADS_H
#define ASSAY_STORE_SQLITE_THREADS_H

#include <limits.h>
#include <stdbool.h>
#include <uv.h>

#include "store/sqlite/reader.h"
#include "store/sqlite/sqlite_store.h"
#include "store/sqlite/worker.h"
#include "store/sqlite/writer.h"

enum operation_kind {
	KIND_SUBMIT,
	KIND_CLAIM,
	KIND_SETTLE,
	KIND_COMMAND,
	KIND_HEARTBEAT,
	KIND_TAKE,
	KIND_TRIM,
	KIND_DELIVERY_CLAIM,
	KIND_DELIVERY_SETTLE,
	KIND_READ_TASK,
	KIND_READ_MATCH,
	KIND_READ_LIST,
	KIND_READ_EVENTS,
	KIND_READ_OUTPUT,
	KIND_READ_POSITION,
	KIND_READ_COUNTS,
	KIND_READ_DELIVERIES,
};

enum { WORKER_WRITER, WORKER_QUICK, WORKER_SLOW, WORKER_COUNT };

enum state { STATE_NEW, STATE_RUNNING, STATE_STOPPING, STATE_STOPPED };

struct sqlite_store;

/* One of the two readers. */
struct read_thread {
	struct sqlite_store *store; /* borrowed: it owns us */
	struct reader reader;
};

/* What libuv keeps until it has closed it, longer perhaps than the store lives whose start failed. */
struct handles {
	struct sqlite_store *store; /* borrowed; NULL when the start failed */
	uv_async_t finished; /* something came into `finished` or changed */
	uv_prepare_t end_of_turn; /* active while something is pending */
	int open;
};

struct sqlite_store {
	struct store store; /* first: what callers see */
	struct sqlite_store_options options;
	char *directory; /* owned */
	char path[PATH_MAX]; /* of the database */
	enum state state;
	int lock_fd; /* -1: not held */
	struct store_notices notices;
	void *owner;
	void (*on_stopped)(void *owner);
	void *stop_owner;
	struct handles *handles; /* owned until they are closing */
	struct operations pending[WORKER_COUNT]; /* handed in during this turn */
	struct worker workers[WORKER_COUNT];
	struct writer writer; /* on the writer's thread */
	struct read_thread readers[2]; /* each on its thread: quick, slow */
	bool told_available; /* what the owner was told last */
	bool told_once;
	uv_mutex_t mutex;
	struct operations finished; /* under the mutex, like all that follows */
	int working_threads; /* that may use a connection; the last to stop closes the writer's */
	int running_threads;
	bool available, probing;
	struct err unavailable;
};

/* What workers do. `owner` of the writer is the store, that of a reader its struct read_thread. */
void run_writer(void *owner, struct operations *list);
uint64_t writer_idle_ns(void *owner);
void writer_ended(void *owner);
void run_reader(void *owner, struct operations *list);
void reader_ended(void *owner);

/* Gives operations back: their `done` is called on the loop. Any thread. */
void store_finish(struct sqlite_store *self, struct operations *list);

#endif
