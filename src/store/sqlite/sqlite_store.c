/* The store in one SQLite file: the loop's side of it, and what its threads do with their queues.
 *
 *   loop: submit() … ──► pending ──(end of the turn)──► a worker's queue
 *   worker: takes its whole queue ──► one transaction ──► finished ──► uv_async
 *   loop: on_finished ──► done()
 *
 *   NEW ──start──► RUNNING ──stop──► STOPPING ──(threads ended, handles closed)──► STOPPED
 *
 * The store owns its threads, their connections and the directory's lock. Operations belong to their callers; the store has them
 * in exactly one of its lists between the call and `done`. Everything under `mutex` is shared with the threads; all else belongs to
 * the loop, or to the one thread that runs it.
 *
 * Several operations of one transaction need no savepoints: if one of them fails, all is rolled back and each is
 * carried out again in a transaction of its own. That is rare, and the common case pays nothing. */
#include "store/sqlite/sqlite_store.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "store/sqlite/directory.h"
#include "store/sqlite/reader.h"
#include "store/sqlite/worker.h"
#include "store/sqlite/writer.h"

#define PROBE_NS UINT64_C(1000000000)
#define PROBE_BYTES 65536

enum operation_kind {
	KIND_SUBMIT,
	KIND_CLAIM,
	KIND_SETTLE,
	KIND_COMMAND,
	KIND_HEARTBEAT,
	KIND_TAKE,
	KIND_TRIM,
	KIND_READ_TASK,
	KIND_READ_MATCH,
	KIND_READ_LIST,
	KIND_READ_EVENTS,
	KIND_READ_OUTPUT,
	KIND_READ_POSITION,
	KIND_READ_COUNTS,
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
	int running_threads;
	bool available, probing;
	struct err unavailable;
};

static struct sqlite_store *self_of(const struct store *store)
{
	return CONTAINER_OF(store, struct sqlite_store, store);
}

static int64_t system_clock(void *owner)
{
	return clock_wall_us();
}

/* ---- on the threads ---- */

static void finish(struct sqlite_store *self, struct operations *list)
{
	uv_mutex_lock(&self->mutex);
	operations_move(&self->finished, list);
	uv_mutex_unlock(&self->mutex);
	uv_async_send(&self->handles->finished);
}

/* Called by the writer's thread alone, and read by the loop. */
static void set_available(struct sqlite_store *self, bool available, bool probing, const struct err *why_not)
{
	uv_mutex_lock(&self->mutex);
	bool changed = self->available != available;
	self->available = available;
	self->probing = probing;
	if (!available)
		self->unavailable = *why_not;
	uv_mutex_unlock(&self->mutex);
	if (changed)
		uv_async_send(&self->handles->finished);
}

static void note_failure(struct sqlite_store *self, int code, const struct err *err)
{
	switch (code & 0xff) {
	case SQLITE_FULL:
	case SQLITE_IOERR:
	case SQLITE_CANTOPEN:
	case SQLITE_READONLY:
		set_available(self, false, true, err);
		break;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		set_available(self, false, false, err);
		break;
	default:
		break;
	}
}

static int write_one(struct writer *writer, struct store_operation *operation)
{
	arena_fini(&operation->arena);
	writer_read_clock(writer);
	switch (operation->kind) {
	case KIND_SUBMIT:
		return write_submit(writer, CONTAINER_OF(operation, struct store_submit, operation));
	case KIND_CLAIM:
		return write_claim(writer, CONTAINER_OF(operation, struct store_claim, operation));
	case KIND_SETTLE:
		return write_settle(writer, CONTAINER_OF(operation, struct store_settle, operation));
	case KIND_COMMAND:
		return write_command(writer, CONTAINER_OF(operation, struct store_command, operation));
	case KIND_HEARTBEAT:
		return write_heartbeat(writer, CONTAINER_OF(operation, struct store_heartbeat, operation));
	case KIND_TAKE:
		return write_take(writer, CONTAINER_OF(operation, struct store_take, operation));
	default:
		return write_trim(writer, CONTAINER_OF(operation, struct store_trim, operation));
	}
}

static void set_outcome(struct operations *list, enum store_outcome outcome, const struct err *err)
{
	for (struct store_operation *operation = list->first; operation; operation = operation->next) {
		operation->outcome = outcome;
		operation->err = err ? *err : (struct err){ 0 };
		if (outcome != STORE_OK)
			arena_fini(&operation->arena);
	}
}

static void lose_answer(struct writer *writer, struct store_operation *operation)
{
	if (operation->kind == KIND_TAKE && writer->lost_take_at_us == 0)
		writer->lost_take_at_us = writer->take_at_us;
	operation->outcome = STORE_UNKNOWN;
	err_set(&operation->err, -EPIPE, "the answer to a commit was lost");
	arena_fini(&operation->arena);
}

static void after_commit(struct sqlite_store *self, struct operations *list)
{
	const struct sqlite_store_faults *faults = &self->options.faults;
	for (struct store_operation *operation = list->first; operation; operation = operation->next) {
		if (faults->after_commit && faults->after_commit(faults->owner))
			lose_answer(&self->writer, operation);
		else if (operation->kind == KIND_TAKE)
			self->writer.lost_take_at_us = 0;
	}
}

/* One transaction for all of the list; false where nothing of it was done and *ret_code says why. */
static bool try_write(struct sqlite_store *self, struct operations *list, int *ret_code)
{
	struct writer *writer = &self->writer;
	const struct sqlite_store_faults *faults = &self->options.faults;
	int code = writer_begin(writer);
	for (struct store_operation *o = list->first; o && code == SQLITE_OK; o = o->next)
		code = write_one(writer, o);
	if (code != SQLITE_OK) {
		*ret_code = code;
		return false;
	}
	if (faults->before_commit && faults->before_commit(faults->owner)) {
		writer_rollback(writer);
		for (struct store_operation *o = list->first; o; o = o->next)
			lose_answer(writer, o);
		return true;
	}
	code = writer_commit(writer);
	if ((code & 0xff) == SQLITE_IOERR) {
		/* The commit may have reached the disk all the same, and a crash now would bring it back. */
		struct err err;
		database_failure(&writer->database, code, &err);
		writer_rollback(writer);
		note_failure(self, code, &err);
		for (struct store_operation *o = list->first; o; o = o->next) {
			lose_answer(writer, o);
			o->err = err;
		}
		return true;
	}
	*ret_code = code;
	if (code != SQLITE_OK)
		return false;
	set_outcome(list, STORE_OK, NULL);
	set_available(self, true, false, NULL);
	after_commit(self, list);
	return true;
}

static void write_list(struct sqlite_store *self, struct operations *list)
{
	int code;
	if (try_write(self, list, &code))
		return;
	struct err err;
	enum store_outcome outcome = database_failure(&self->writer.database, code, &err);
	writer_rollback(&self->writer);
	/* Each would wait just as long for the program that holds the file. */
	bool held = (code & 0xff) == SQLITE_BUSY || (code & 0xff) == SQLITE_LOCKED;
	if (held || list->first == list->last) {
		note_failure(self, code, &err);
		set_outcome(list, outcome, &err);
		return;
	}
	/* Each for itself: what one cannot do is no fault of the others. */
	struct operations rest = *list;
	*list = (struct operations){ 0 };
	while (rest.first) {
		struct operations one = { 0 };
		struct store_operation *operation = rest.first;
		rest.first = operation->next;
		operations_push(&one, operation);
		write_list(self, &one);
		operations_move(list, &one);
	}
}

/* Writes more than a page or two, so that success means something, and gives it back. */
static void probe(struct sqlite_store *self)
{
	struct writer *writer = &self->writer;
	sqlite3_stmt *statement = database_statement(&writer->database, WRITE_PROBE);
	int code = writer_begin(writer);
	if (code == SQLITE_OK) {
		bind_int(statement, 1, PROBE_BYTES);
		code = database_run(statement);
	}
	if (code == SQLITE_OK) {
		bind_int(statement, 1, 0);
		code = database_run(statement);
	}
	if (code == SQLITE_OK)
		code = writer_commit(writer);
	if (code == SQLITE_OK) {
		set_available(self, true, false, NULL);
		return;
	}
	struct err err;
	database_failure(&writer->database, code, &err);
	writer_rollback(writer);
	note_failure(self, code, &err);
}

static void run_writer(void *owner, struct operations *list)
{
	struct sqlite_store *self = owner;
	if (!list->first) {
		probe(self);
		return;
	}
	write_list(self, list);
	finish(self, list);
}

/* Asked by the writer's thread, which alone writes `probing`. */
static uint64_t writer_idle_ns(void *owner)
{
	struct sqlite_store *self = owner;
	return self->probing ? PROBE_NS : 0;
}

static int read_one(struct reader *reader, struct store_operation *operation)
{
	arena_fini(&operation->arena);
	switch (operation->kind) {
	case KIND_READ_TASK:
		return reader_task(reader, CONTAINER_OF(operation, struct read_task, operation));
	case KIND_READ_MATCH:
		return reader_match(reader, CONTAINER_OF(operation, struct read_match, operation));
	case KIND_READ_LIST:
		return reader_list(reader, CONTAINER_OF(operation, struct read_list, operation));
	case KIND_READ_EVENTS:
		return reader_events(reader, CONTAINER_OF(operation, struct read_events, operation));
	case KIND_READ_OUTPUT:
		return reader_output(reader, CONTAINER_OF(operation, struct read_output, operation));
	case KIND_READ_POSITION:
		return reader_position(reader, CONTAINER_OF(operation, struct read_position, operation));
	default:
		return reader_counts(reader, CONTAINER_OF(operation, struct read_counts, operation));
	}
}

static void run_reader(void *owner, struct operations *list)
{
	struct read_thread *thread = owner;
	struct database *database = &thread->reader.database;
	int begun = database_run_simple(database, READ_BEGIN);
	for (struct store_operation *operation = list->first; operation; operation = operation->next) {
		int code = begun == SQLITE_OK ? read_one(&thread->reader, operation) : begun;
		operation->outcome = STORE_OK;
		operation->err = (struct err){ 0 };
		if (code == SQLITE_OK)
			continue;
		operation->outcome = database_failure(database, code, &operation->err);
		arena_fini(&operation->arena);
	}
	if (!sqlite3_get_autocommit(database->handle))
		database_run_simple(database, READ_COMMIT);
	finish(thread->store, list);
}

/* The last connection that closes moves the log into the database: here, not on the loop. */
static void thread_ended(struct sqlite_store *self)
{
	uv_mutex_lock(&self->mutex);
	self->running_threads--;
	uv_mutex_unlock(&self->mutex);
	uv_async_send(&self->handles->finished);
}

static void writer_ended(void *owner)
{
	struct sqlite_store *self = owner;
	writer_close(&self->writer);
	thread_ended(self);
}

static void reader_ended(void *owner)
{
	struct read_thread *thread = owner;
	database_close(&thread->reader.database);
	thread_ended(thread->store);
}

/* ---- on the loop ---- */

static void on_closed(uv_handle_t *handle)
{
	struct handles *handles = handle->data;
	struct sqlite_store *self = handles->store;
	if (--handles->open > 0)
		return;
	free(handles);
	if (!self)
		return;
	self->handles = NULL;
	uv_mutex_destroy(&self->mutex);
	close(self->lock_fd);
	self->lock_fd = -1;
	self->state = STATE_STOPPED;
	self->on_stopped(self->stop_owner);
}

static void close_handles(struct handles *handles)
{
	uv_close((uv_handle_t *)&handles->finished, on_closed);
	uv_close((uv_handle_t *)&handles->end_of_turn, on_closed);
}

static void on_end_of_turn(uv_prepare_t *handle)
{
	struct sqlite_store *self = ((struct handles *)handle->data)->store;
	for (int i = 0; i < WORKER_COUNT; i++)
		if (self->pending[i].first)
			worker_hand_over(&self->workers[i], &self->pending[i]);
	uv_prepare_stop(&self->handles->end_of_turn);
}

static void tell_available(struct sqlite_store *self, bool available, const struct err *why_not)
{
	if (self->told_once && self->told_available == available)
		return;
	self->told_once = true;
	self->told_available = available;
	if (self->notices.on_available)
		self->notices.on_available(self->owner, available, available ? NULL : why_not);
}

static void on_finished(uv_async_t *handle)
{
	struct sqlite_store *self = ((struct handles *)handle->data)->store;
	struct operations finished = { 0 };
	uv_mutex_lock(&self->mutex);
	operations_move(&finished, &self->finished);
	bool available = self->available, all_ended = self->running_threads == 0;
	struct err why_not = self->unavailable;
	uv_mutex_unlock(&self->mutex);
	if (self->state == STATE_RUNNING)
		tell_available(self, available, &why_not);
	while (finished.first) {
		struct store_operation *operation = finished.first;
		finished.first = operation->next;
		operation->next = NULL;
		operation->done(operation);
	}
	if (self->state != STATE_STOPPING || !all_ended || uv_is_closing((uv_handle_t *)handle))
		return;
	/* What was refused meanwhile, from within a `done`, is still to be told. */
	uv_mutex_lock(&self->mutex);
	bool more = self->finished.first != NULL;
	uv_mutex_unlock(&self->mutex);
	if (more) {
		uv_async_send(&self->handles->finished);
		return;
	}
	for (int i = 0; i < WORKER_COUNT; i++)
		worker_join(&self->workers[i]);
	close_handles(self->handles);
}

static void hand_in(struct store *store, struct store_operation *operation, enum operation_kind kind, int worker)
{
	struct sqlite_store *self = self_of(store);
	operation->kind = kind;
	if (self->state == STATE_RUNNING) {
		operations_push(&self->pending[worker], operation);
		uv_prepare_start(&self->handles->end_of_turn, on_end_of_turn);
		return;
	}
	assert(self->state == STATE_STOPPING);
	struct operations refused = { 0 };
	operation->outcome = STORE_AWAY;
	err_set(&operation->err, -ESHUTDOWN, "the store is stopping");
	arena_fini(&operation->arena);
	operations_push(&refused, operation);
	finish(self, &refused);
}

static void submit(struct store *store, struct store_submit *operation)
{
	hand_in(store, &operation->operation, KIND_SUBMIT, WORKER_WRITER);
}

static void claim(struct store *store, struct store_claim *operation)
{
	hand_in(store, &operation->operation, KIND_CLAIM, WORKER_WRITER);
}

static void settle(struct store *store, struct store_settle *operation)
{
	hand_in(store, &operation->operation, KIND_SETTLE, WORKER_WRITER);
}

static void command(struct store *store, struct store_command *operation)
{
	hand_in(store, &operation->operation, KIND_COMMAND, WORKER_WRITER);
}

static void heartbeat(struct store *store, struct store_heartbeat *operation)
{
	hand_in(store, &operation->operation, KIND_HEARTBEAT, WORKER_WRITER);
}

static void take(struct store *store, struct store_take *operation)
{
	hand_in(store, &operation->operation, KIND_TAKE, WORKER_WRITER);
}

static void trim(struct store *store, struct store_trim *operation)
{
	hand_in(store, &operation->operation, KIND_TRIM, WORKER_WRITER);
}

static void read_task(struct store *store, struct read_task *operation)
{
	hand_in(store, &operation->operation, KIND_READ_TASK, WORKER_QUICK);
}

static void read_match(struct store *store, struct read_match *operation)
{
	hand_in(store, &operation->operation, KIND_READ_MATCH, WORKER_SLOW);
}

static void read_list(struct store *store, struct read_list *operation)
{
	hand_in(store, &operation->operation, KIND_READ_LIST, WORKER_SLOW);
}

static void read_events(struct store *store, struct read_events *operation)
{
	hand_in(store, &operation->operation, KIND_READ_EVENTS, WORKER_QUICK);
}

static void read_output(struct store *store, struct read_output *operation)
{
	hand_in(store, &operation->operation, KIND_READ_OUTPUT, WORKER_QUICK);
}

static void read_position(struct store *store, struct read_position *operation)
{
	hand_in(store, &operation->operation, KIND_READ_POSITION, WORKER_SLOW);
}

static void read_counts(struct store *store, struct read_counts *operation)
{
	hand_in(store, &operation->operation, KIND_READ_COUNTS, WORKER_SLOW);
}

/* ---- start and stop ---- */

static int open_all(struct sqlite_store *self, struct err *err)
{
	const struct sqlite_store_options *options = &self->options;
	/* The writer changes pages, the slow reader scans: they get the larger parts. */
	struct database_options part = {
		.cache_bytes = options->cache_bytes / 2,
		.busy_ms = options->busy_ms,
		.max_bytes = options->max_bytes,
	};
	int result = database_open_writer(&self->writer.database, self->path, &part, err);
	if (result == 0)
		result = writer_open(&self->writer, err);
	part.cache_bytes = options->cache_bytes / 4;
	for (int i = 0; i < 2 && result == 0; i++)
		result = database_open_reader(&self->readers[i].reader.database, self->path, &part, err);
	return result;
}

static void close_all(struct sqlite_store *self)
{
	for (int i = 0; i < 2; i++)
		database_close(&self->readers[i].reader.database);
	writer_close(&self->writer);
	close(self->lock_fd);
	self->lock_fd = -1;
}

static int start_threads(struct sqlite_store *self)
{
	self->workers[WORKER_WRITER].run = run_writer;
	self->workers[WORKER_WRITER].ended = writer_ended;
	self->workers[WORKER_WRITER].idle_ns = writer_idle_ns;
	self->workers[WORKER_WRITER].owner = self;
	for (int i = 0; i < 2; i++) {
		struct worker *worker = &self->workers[WORKER_QUICK + i];
		worker->run = run_reader;
		worker->ended = reader_ended;
		worker->owner = &self->readers[i];
	}
	int result = 0, started = 0;
	for (; started < WORKER_COUNT && result == 0; started++)
		result = worker_start(&self->workers[started]);
	if (result == 0)
		return 0;
	for (int i = 0; i < started - 1; i++) {
		worker_stop(&self->workers[i]);
		worker_join(&self->workers[i]);
	}
	return result;
}

static int open_handles(struct sqlite_store *self)
{
	struct handles *handles = alloc(sizeof(*handles));
	int result = uv_async_init(self->options.loop, &handles->finished, on_finished);
	if (result < 0) {
		free(handles);
		return result;
	}
	uv_prepare_init(self->options.loop, &handles->end_of_turn);
	handles->finished.data = handles->end_of_turn.data = handles;
	handles->store = self;
	handles->open = 2;
	self->handles = handles;
	return 0;
}

static int start(struct store *store, const struct store_notices *notices, void *owner, struct err *err)
{
	struct sqlite_store *self = self_of(store);
	int length = snprintf(self->path, sizeof(self->path), "%s/assay.db", self->directory);
	if (length >= (int)sizeof(self->path))
		return err_set(err, -ENAMETOOLONG, "the data directory's path is too long");
	int result = directory_hold(self->directory, &self->lock_fd, err);
	if (result < 0)
		return result;
	result = open_all(self, err);
	if (result < 0) {
		close_all(self);
		return result;
	}
	self->notices = notices ? *notices : (struct store_notices){ 0 };
	self->owner = owner;
	self->running_threads = WORKER_COUNT;
	self->available = true;
	self->told_once = false;
	if (uv_mutex_init(&self->mutex) < 0) {
		close_all(self);
		return err_set(err, -ENOMEM, "the store's mutex cannot be made");
	}
	result = open_handles(self);
	if (result == 0)
		result = start_threads(self);
	if (result < 0) {
		if (self->handles) {
			self->handles->store = NULL;
			close_handles(self->handles);
			self->handles = NULL;
		}
		uv_mutex_destroy(&self->mutex);
		close_all(self);
		return err_set(err, result, "the store's threads cannot be made: %s", strerror(-result));
	}
	self->state = STATE_RUNNING;
	if (self->options.log)
		log_event(self->options.log, LOG_DEBUG, "database opened", L_STR("path", self->path),
			L_STR("sqlite", sqlite3_libversion()), L_INT("events", self->writer.position));
	uv_async_send(&self->handles->finished); /* on_available */
	return 0;
}

static void stop(struct store *store, void (*on_stopped)(void *owner), void *owner)
{
	struct sqlite_store *self = self_of(store);
	self->on_stopped = on_stopped;
	self->stop_owner = owner;
	self->state = STATE_STOPPING;
	for (int i = 0; i < WORKER_COUNT; i++) {
		if (self->pending[i].first)
			worker_hand_over(&self->workers[i], &self->pending[i]);
		worker_stop(&self->workers[i]);
	}
	uv_prepare_stop(&self->handles->end_of_turn);
}

static void free_store(struct store *store)
{
	struct sqlite_store *self = self_of(store);
	free(self->directory);
	free(self);
}

static void status(const struct store *store, struct store_status *ret_status)
{
	struct sqlite_store *self = self_of(store);
	*ret_status = (struct store_status){ .kind = "sqlite" };
	snprintf(ret_status->description, sizeof(ret_status->description), "SQLite %s in %.80s, cache %zu KiB",
		sqlite3_libversion(), self->path[0] ? self->path : self->directory, self->options.cache_bytes / 1024);
	if (self->state != STATE_RUNNING) {
		err_set(&ret_status->err, -ESHUTDOWN, "the store is not running");
		return;
	}
	uv_mutex_lock(&self->mutex);
	ret_status->available = self->available;
	if (!self->available) {
		ret_status->err = self->unavailable;
		ret_status->schema_wrong = self->unavailable.code == -EBADMSG;
	}
	uv_mutex_unlock(&self->mutex);
}

static const struct store_ops ops = {
	.start = start,
	.stop = stop,
	.free = free_store,
	.status = status,
	.submit = submit,
	.claim = claim,
	.settle = settle,
	.command = command,
	.heartbeat = heartbeat,
	.take = take,
	.trim = trim,
	.read_task = read_task,
	.read_match = read_match,
	.read_list = read_list,
	.read_events = read_events,
	.read_output = read_output,
	.read_position = read_position,
	.read_counts = read_counts,
};

struct store *sqlite_store_new(const struct sqlite_store_options *options)
{
	struct sqlite_store *self = alloc(sizeof(*self));
	self->store.ops = &ops;
	self->options = *options;
	self->directory = string_copy(options->directory);
	self->options.directory = self->directory;
	self->lock_fd = -1;
	if (self->options.cache_bytes == 0)
		self->options.cache_bytes = SQLITE_STORE_CACHE_DEFAULT;
	if (self->options.busy_ms == 0)
		self->options.busy_ms = SQLITE_STORE_BUSY_MS_DEFAULT;
	if (!self->options.clock)
		self->options.clock = system_clock;
	self->writer.clock = self->options.clock;
	self->writer.clock_owner = self->options.clock_owner;
	for (int i = 0; i < 2; i++) {
		self->readers[i].store = self;
		self->readers[i].reader.clock = self->options.clock;
		self->readers[i].reader.clock_owner = self->options.clock_owner;
	}
	return &self->store;
}
