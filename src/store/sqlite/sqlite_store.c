/* The store in one SQLite file: the loop's side of it, and what its threads do with their queues.
 *
 *   loop: submit() … ──► pending ──(end of the turn)──► a worker's queue
 *   worker: takes its whole queue ──► one transaction ──► finished ──► uv_async
 *   loop: on_finished ──► done()
 *
 *   NEW ──start──► RUNNING ──stop──► STOPPING ──(threads ended, handles closed)──► STOPPED
 *
 * The store owns its threads, their connections and the directory's lock. Operations belong to their callers; the store
 * has them in exactly one of its lists between the call and `done`. Everything under `mutex` is shared with the
 * threads; all else belongs to the loop, or to the one thread that runs it. */
#include "store/sqlite/sqlite_store.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "store/sqlite/directory.h"
#include "store/sqlite/threads.h"

static struct sqlite_store *self_of(const struct store *store)
{
	return CONTAINER_OF(store, struct sqlite_store, store);
}

static int64_t system_clock(void *owner)
{
	return clock_wall_us();
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
	store_finish(self, &refused);
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

static void delivery_claim(struct store *store, struct store_delivery_claim *operation)
{
	hand_in(store, &operation->operation, KIND_DELIVERY_CLAIM, WORKER_WRITER);
}

static void delivery_settle(struct store *store, struct store_delivery_settle *operation)
{
	hand_in(store, &operation->operation, KIND_DELIVERY_SETTLE, WORKER_WRITER);
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

static void read_deliveries(struct store *store, struct read_deliveries *operation)
{
	hand_in(store, &operation->operation, KIND_READ_DELIVERIES, WORKER_QUICK);
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
	self->working_threads = self->running_threads = WORKER_COUNT;
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
	*ret_status = (struct store_status){ .kind = "sqlite", .cursors_final = true, .parallel_submits = 1 };
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

/* One process has the file: nobody else writes events or output. */
static void follow_events(struct store *store, bool wanted)
{
}

static void follow_output(struct store *store, const struct uuid *id)
{
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
	.delivery_claim = delivery_claim,
	.delivery_settle = delivery_settle,
	.follow_events = follow_events,
	.follow_output = follow_output,
	.read_task = read_task,
	.read_match = read_match,
	.read_list = read_list,
	.read_events = read_events,
	.read_output = read_output,
	.read_position = read_position,
	.read_counts = read_counts,
	.read_deliveries = read_deliveries,
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
