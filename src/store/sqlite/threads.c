/* What the store's threads do with their queues: one transaction for all that waited, then everything back to the loop.
 *
 * Several operations of one transaction need no savepoints: if one of them fails, all is rolled back and each is
 * carried out again in a transaction of its own. That is rare, and the common case pays nothing. */
#include "store/sqlite/threads.h"

#include <errno.h>

#include "base/alloc.h"

#define PROBE_NS UINT64_C(1000000000)
#define PROBE_BYTES 65536

void store_finish(struct sqlite_store *self, struct operations *list)
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
	case KIND_DELIVERY_CLAIM:
		return write_delivery_claim(writer, CONTAINER_OF(operation, struct store_delivery_claim, operation));
	case KIND_DELIVERY_SETTLE:
		return write_delivery_settle(writer, CONTAINER_OF(operation, struct store_delivery_settle, operation));
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

void run_writer(void *owner, struct operations *list)
{
	struct sqlite_store *self = owner;
	if (!list->first) {
		probe(self);
		return;
	}
	write_list(self, list);
	store_finish(self, list);
}

/* Asked by the writer's thread, which alone writes `probing`. */
uint64_t writer_idle_ns(void *owner)
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
	case KIND_READ_DELIVERIES:
		return reader_deliveries(reader, CONTAINER_OF(operation, struct read_deliveries, operation));
	default:
		return reader_counts(reader, CONTAINER_OF(operation, struct read_counts, operation));
	}
}

void run_reader(void *owner, struct operations *list)
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
	store_finish(thread->store, list);
}

/* The last connection that closes moves the log into the database: the writer's, here, when no reader has its own open
 * any more (of connections that close at the same moment none may be the last), and not on the loop. */
static void thread_ended(struct sqlite_store *self)
{
	uv_mutex_lock(&self->mutex);
	bool last = --self->working_threads == 0;
	uv_mutex_unlock(&self->mutex);
	if (last)
		writer_close(&self->writer);
	uv_mutex_lock(&self->mutex);
	self->running_threads--;
	uv_mutex_unlock(&self->mutex);
	uv_async_send(&self->handles->finished);
}

void writer_ended(void *owner)
{
	thread_ended(owner);
}

void reader_ended(void *owner)
{
	struct read_thread *thread = owner;
	database_close(&thread->reader.database);
	thread_ended(thread->store);
}
