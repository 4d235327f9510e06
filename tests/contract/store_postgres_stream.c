/* The stream of events in PostgreSQL while transactions are open that began before: foreign ones, which it does not
 * wait for, and writers of events, whose events come when they come. Readers go by small pages, and are given each
 * event once. */
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "tests/contract/store_postgres_world.h"

#define OLD 16 /* transactions: how old the oldest may be before the store asks who it is */
#define PAGE 3
#define TASKS_MOST 2000

static struct node two;
static struct harness *const h = &one.harness, *const h2 = &two.harness;

static void open_both(void)
{
	open_one();
	node_up(&two, loop, postgres_server_conninfo(server), own_schema);
}

static void close_both(void)
{
	node_close(&one);
	node_close(&two);
}

TEST(there_is_more_than_the_service)
{
	free(postgres_server_query(server, "CREATE DATABASE elsewhere"));
	free(postgres_server_query(server, "CREATE TABLE other (n integer)"));
}

/* ---- sessions of others ---- */

static void run(PGconn *conn, const char *sql)
{
	PGresult *result = PQexec(conn, sql);
	if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK)
		printf("# %s: %s", sql, PQerrorMessage(conn));
	CHECK(PQresultStatus(result) == PGRES_COMMAND_OK || PQresultStatus(result) == PGRES_TUPLES_OK);
	PQclear(result);
}

static PGconn *session(const char *database)
{
	char conninfo[512], sql[64];
	snprintf(conninfo, sizeof(conninfo), "%s dbname=%s", postgres_server_conninfo(server), database);
	PGconn *conn = PQconnectdb(conninfo);
	REQUIRE(PQstatus(conn) == CONNECTION_OK);
	snprintf(sql, sizeof(sql), "SET search_path = public, %s", own_schema);
	run(conn, sql);
	return conn;
}

/* `count` events of a task that is there, numbered from `sequence` on. */
static void write_events(PGconn *conn, const struct uuid *task, int sequence, int count)
{
	char sql[512], digits[UUID_TEXT_SIZE];
	snprintf(sql, sizeof(sql),
		"INSERT INTO events (task_id, kind, sequence, run, attempt, at, publisher) SELECT '%s', 4, %d + i, 1, "
		"0, "
		"now(), 0 FROM generate_series(0, %d) i",
		uuid_format(task, digits), sequence, count - 1);
	run(conn, sql);
}

static bool holds(const char *condition)
{
	char sql[1024];
	snprintf(sql, sizeof(sql), "SELECT %s", condition);
	return strcmp(query(sql), "t") == 0;
}

/* ---- readers ---- */

/* What it was given, by task, in the order of their sequences or not at all. */
struct seen {
	struct uuid task;
	uint32_t sequence;
};

struct reader {
	struct cursor after;
	struct buffer position;
	size_t events, repeats, disorders, pages;
	struct seen tasks[TASKS_MOST];
	size_t task_count;
};

static void note(struct reader *reader, const struct event *event)
{
	size_t i = 0;
	reader->events++;
	while (i < reader->task_count && uuid_compare(&reader->tasks[i].task, &event->task_id) != 0)
		i++;
	REQUIRE(i < TASKS_MOST);
	if (i == reader->task_count)
		reader->tasks[reader->task_count++] = (struct seen){ event->task_id, 0 };
	if (event->sequence <= reader->tasks[i].sequence)
		reader->repeats++;
	else if (event->sequence > reader->tasks[i].sequence + 1)
		reader->disorders++;
	else
		reader->tasks[i].sequence = event->sequence;
}

static bool read_page(struct reader *reader)
{
	struct read_events read = {
		.after = reader->after, .position = buffer_bytes(&reader->position), .limit = PAGE
	};
	REQUIRE(do_read_events(h, &read) == STORE_OK);
	CHECK(!read.gap);
	CHECK(read.result_count <= PAGE);
	for (size_t i = 0; i < read.result_count; i++)
		note(reader, &read.results[i]);
	CHECK(cursor_compare(&read.last, &reader->after) >= 0);
	bool more = read.more;
	reader->after = read.last;
	reader->pages++;
	buffer_clear(&reader->position);
	buffer_append_bytes(&reader->position, read.next);
	store_operation_fini(&read.operation);
	return more;
}

/* To the end, which must come; how many events that were. */
static size_t read_on(struct reader *reader)
{
	size_t before = reader->events, pages = reader->pages;
	while (read_page(reader))
		REQUIRE(reader->pages - pages < 10000);
	return reader->events - before;
}

/* What a client that comes back with this cursor, and nothing else, is given. */
static size_t events_from(struct cursor after)
{
	static struct reader reader;
	reader = (struct reader){ .after = after };
	size_t count = read_on(&reader);
	buffer_fini(&reader.position);
	return count;
}

static void reader_free(struct reader *reader)
{
	CHECK_INT(reader->repeats, 0);
	CHECK_INT(reader->disorders, 0);
	buffer_fini(&reader->position);
	free(reader);
}

static struct reader *reader_new(void)
{
	struct reader *reader = calloc(1, sizeof(*reader));
	REQUIRE(reader);
	return reader;
}

static struct cursor latest(void)
{
	struct read_counts counts = { 0 };
	REQUIRE(do_read_counts(h, &counts) == STORE_OK);
	struct cursor cursor = counts.latest;
	store_operation_fini(&counts.operation);
	return cursor;
}

static struct cursor horizon(void)
{
	struct store_heartbeat heartbeat = { .locked_by = BYTES_LITERAL("me#1"), .lease_us = 15 * US_PER_S };
	REQUIRE(do_heartbeat(h, &heartbeat) == STORE_OK);
	struct cursor cursor = heartbeat.horizon;
	store_operation_fini(&heartbeat.operation);
	return cursor;
}

/* One after the other, two transactions and two events each. */
static void live(int tasks)
{
	for (int i = 0; i < tasks; i++) {
		struct harness *harness = i % 2 ? h : h2;
		struct submission s = submission_of(harness);
		submit_running(harness, &s, "me#1");
		struct transition end = { .kind = TRANSITION_END,
			.guard = guard_of(&s.id, 1, "me#1"),
			.target = TASK_COMPLETED,
			.at_us = clock_wall_us() };
		CHECK_INT(settle_one(harness, &end).status, SETTLE_APPLIED);
	}
}

/* ---- foreign transactions ---- */

static void hold_up_nobody(PGconn *conn, const char *end)
{
	struct reader *steady = reader_new(), *slow = reader_new();
	live(5);
	CHECK_INT(read_on(steady), 10);
	for (int i = 0; i < 30; i++) {
		live(5);
		CHECK_INT(read_on(steady), 10);
	}
	/* It goes on where it was, however long the transaction has been open. */
	CHECK_INT(read_on(slow), steady->events);
	CHECK_INT(read_on(slow), 0);
	/* And so does who has a cursor and nothing else: one that was given now, to a reader, a heartbeat or a
	 * newcomer, is not older than OLD. */
	const struct cursor cursors[] = { steady->after, slow->after, latest(), horizon() };
	for (size_t i = 0; i < ARRAY_SIZE(cursors); i++)
		CHECK(events_from(cursors[i]) <= OLD);
	run(conn, end);
	CHECK_INT(read_on(steady), 0);
	CHECK_INT(events_from(latest()), 0);
	CHECK_INT(events_from((struct cursor){ 0 }), steady->events);
	reader_free(steady);
	reader_free(slow);
	PQfinish(conn);
}

TEST(a_transaction_in_another_database_holds_nobody_up)
{
	open_both();
	PGconn *conn = session("elsewhere");
	run(conn, "BEGIN; CREATE TABLE t (n integer)");
	hold_up_nobody(conn, "COMMIT");
	close_both();
}

TEST(a_transaction_in_another_table_holds_nobody_up)
{
	open_both();
	PGconn *conn = session("postgres");
	run(conn, "BEGIN; SELECT count(*) FROM events; INSERT INTO other VALUES (1)");
	hold_up_nobody(conn, "ROLLBACK");
	close_both();
}

TEST(a_prepared_transaction_holds_nobody_up)
{
	open_both();
	PGconn *conn = session("postgres");
	run(conn, "BEGIN; INSERT INTO other VALUES (2); PREPARE TRANSACTION 'forgotten'");
	hold_up_nobody(conn, "COMMIT PREPARED 'forgotten'");
	close_both();
}

/* ---- those that write events ---- */

TEST(events_that_commit_late_come_once)
{
	open_both();
	struct reader *steady = reader_new(), *slow = reader_new();
	struct submission s;
	struct uuid tasks[3];
	for (size_t i = 0; i < ARRAY_SIZE(tasks); i++) {
		s = submission_of(h);
		tasks[i] = submit_one(h, &s);
	}
	CHECK_INT(read_on(steady), 3);
	/* Three of them, between all others, one with more than a page holds. */
	PGconn *early = session("postgres"), *late = session("postgres"), *too = session("postgres"),
	       *foreign = session("elsewhere");
	run(early, "BEGIN");
	write_events(early, &tasks[0], 2, 3 * PAGE + 1);
	run(foreign, "BEGIN; CREATE TABLE u (n integer)");
	live(20);
	CHECK_INT(read_on(steady), 40);
	run(late, "BEGIN");
	write_events(late, &tasks[1], 2, 2);
	run(too, "BEGIN");
	write_events(too, &tasks[2], 2, PAGE + 1);
	struct cursor cursors[4] = { steady->after };
	for (int i = 0; i < OLD; i++) {
		live(1);
		CHECK_INT(read_on(steady), 2);
		if (i == OLD / 2) /* it is in the midst of the stream when they commit */
			for (int k = 0; k < 5; k++)
				CHECK(read_page(slow));
	}
	cursors[1] = steady->after;
	cursors[2] = latest();
	cursors[3] = horizon();
	/* What is safe stays before the first of them. */
	for (size_t i = 0; i < ARRAY_SIZE(cursors); i++)
		CHECK(events_from(cursors[i]) >= 40 + 2 * OLD);
	run(late, "COMMIT");
	CHECK_INT(read_on(steady), 2);
	CHECK_INT(read_on(slow), steady->events - slow->events);
	run(early, "COMMIT");
	run(too, "COMMIT");
	live(1);
	CHECK_INT(read_on(steady), 4 * PAGE + 2 + 2);
	CHECK_INT(read_on(slow), 4 * PAGE + 2 + 2);
	CHECK_INT(read_on(steady) + read_on(slow), 0);
	/* Nobody who comes back with a cursor misses them. */
	for (size_t i = 0; i < ARRAY_SIZE(cursors); i++)
		CHECK(events_from(cursors[i]) >= 40 + 2 * OLD + 4 * PAGE + 2 + 2);
	CHECK(events_from(steady->after) <= OLD);
	CHECK_INT(events_from((struct cursor){ 0 }), steady->events);
	run(foreign, "ROLLBACK");
	CHECK_INT(read_on(steady), 0);
	CHECK_INT(events_from(steady->after), 0);
	reader_free(steady);
	reader_free(slow);
	PQfinish(early);
	PQfinish(late);
	PQfinish(too);
	PQfinish(foreign);
	close_both();
}

TEST(what_is_rolled_back_leaves_nothing)
{
	open_both();
	struct reader *reader = reader_new();
	struct submission s = submission_of(h);
	struct uuid first = submit_one(h, &s);
	PGconn *conn = session("postgres");
	run(conn, "BEGIN");
	write_events(conn, &first, 2, 2);
	live(OLD);
	CHECK_INT(read_on(reader), 1 + 2 * OLD);
	CHECK(reader->position.len > 0);
	run(conn, "ROLLBACK");
	CHECK_INT(read_on(reader), 0);
	CHECK_INT(reader->position.len, 0);
	CHECK_INT(events_from(reader->after), 0);
	reader_free(reader);
	PQfinish(conn);
	close_both();
}

/* ---- the store's own writing is known as such ---- */

static void on_done(struct store_operation *operation)
{
	*(bool *)operation->owner = true;
}

/* A session that has an id of a transaction, waits for a lock, and has the one that writers of events take. */
#define WAITING_WRITER \
	"EXISTS (SELECT FROM pg_locks w, pg_locks x WHERE NOT w.granted AND x.pid = w.pid AND x.locktype = " \
	"'transactionid' AND x.granted AND x.mode = 'ExclusiveLock')"
#define IS_MARKED \
	"bool_and(EXISTS (SELECT FROM pg_locks e WHERE e.pid = w.pid AND e.relation = 'events'::regclass AND " \
	"e.granted AND " \
	"e.mode = 'RowExclusiveLock')) FROM pg_locks w WHERE NOT w.granted"

static void until(const char *condition)
{
	int64_t deadline_us = clock_monotonic_us() + 60 * US_PER_S;
	while (!holds(condition)) {
		REQUIRE(clock_monotonic_us() < deadline_us);
		uv_run(loop, UV_RUN_NOWAIT);
	}
}

/* A settlement holds rows, and waits for another's, before it writes the first event. */
TEST(a_settlement_that_waits_is_waited_for)
{
	open_both();
	struct reader *reader = reader_new();
	struct submission s[2] = { submission_of(h), submission_of(h) };
	char sql[256], digits[UUID_TEXT_SIZE];
	submit_running(h, &s[0], "me#1");
	submit_running(h, &s[1], "me#1");
	CHECK_INT(read_on(reader), 2);
	PGconn *conn = session("postgres");
	snprintf(
		sql, sizeof(sql), "BEGIN; SELECT FROM tasks WHERE id = '%s' FOR UPDATE", uuid_format(&s[1].id, digits));
	run(conn, sql);
	bool done = false;
	struct transition steps[2];
	for (int i = 0; i < 2; i++)
		steps[i] = (struct transition){ .kind = TRANSITION_STEP,
			.guard = guard_of(&s[i].id, 1, "me#1"),
			.at_us = clock_wall_us(),
			.event_kind = EVENT_TEST,
			.event_data = BYTES_LITERAL("\"index\":0") };
	struct store_settle settle = { .operation = { .done = on_done, .owner = &done },
		.transitions = steps,
		.count = 2,
		.publisher = BYTES_LITERAL("me#1") };
	h->store->ops->settle(h->store, &settle);
	until(WAITING_WRITER);
	CHECK(holds(IS_MARKED));
	const struct cursor before = reader->after;
	for (int i = 0; i < 2 * OLD; i++) {
		struct submission other = submission_of(h2);
		submit_one(h2, &other);
	}
	CHECK_INT(read_on(reader), 2 * OLD);
	const struct cursor cursors[] = { before, reader->after, latest() };
	run(conn, "ROLLBACK");
	node_wait(&one, &done);
	CHECK_INT(settle.operation.outcome, STORE_OK);
	store_operation_fini(&settle.operation);
	CHECK_INT(read_on(reader), 2);
	for (size_t i = 0; i < ARRAY_SIZE(cursors); i++)
		CHECK_INT(events_from(cursors[i]), 2 + 2 * OLD);
	reader_free(reader);
	PQfinish(conn);
	close_both();
}

/* The first submission of an incarnation has written its row before it comes to the tasks. */
TEST(a_first_submission_that_waits_is_waited_for)
{
	open_both();
	PGconn *conn = session("postgres");
	run(conn, "BEGIN; LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE");
	bool done = false;
	struct submission s = submission_of(h);
	struct submit_item item = { .submission = &s };
	struct store_submit submit = { .operation = { .done = on_done, .owner = &done },
		.items = &item,
		.count = 1,
		.locked_by = BYTES_LITERAL("new#1") };
	h->store->ops->submit(h->store, &submit);
	until(WAITING_WRITER);
	CHECK(holds(IS_MARKED));
	run(conn, "ROLLBACK");
	node_wait(&one, &done);
	CHECK_INT(submit.operation.outcome, STORE_OK);
	store_operation_fini(&submit.operation);
	PQfinish(conn);
	close_both();
}

/* ---- everything at once ---- */

#define AT_ONCE 4
#define ROUNDS 100

struct writer {
	struct store_submit submit;
	struct submission submission;
	struct submit_item item;
	struct harness *harness;
	int left;
	bool done;
};

static void write_next(struct writer *writer);

static void on_written(struct store_operation *operation)
{
	struct writer *writer = operation->owner;
	CHECK_INT(operation->outcome, STORE_OK);
	store_operation_fini(operation);
	if (--writer->left > 0)
		write_next(writer);
	else
		writer->done = true;
}

static void write_next(struct writer *writer)
{
	writer->submission = submission_of(writer->harness);
	writer->item = (struct submit_item){ .submission = &writer->submission };
	writer->submit = (struct store_submit){ .operation = { .done = on_written, .owner = writer },
		.items = &writer->item,
		.count = 1,
		.locked_by = BYTES_LITERAL("me#1") };
	writer->harness->store->ops->submit(writer->harness->store, &writer->submit);
}

TEST(many_write_and_one_reads)
{
	static struct writer writers[AT_ONCE];
	open_both();
	struct submission s = submission_of(h);
	struct uuid first = submit_one(h, &s);
	struct reader *reader = reader_new();
	PGconn *foreign = session("elsewhere"), *own = session("postgres");
	run(foreign, "BEGIN; CREATE TABLE v (n integer)");
	for (int i = 0; i < AT_ONCE; i++) {
		writers[i] = (struct writer){ .harness = i % 2 ? h : h2, .left = ROUNDS };
		write_next(&writers[i]);
	}
	int sequence = 2;
	for (bool done = false; !done;) {
		run(own, "BEGIN");
		write_events(own, &first, sequence++, 1);
		for (int i = 0; i < 10; i++)
			read_page(reader);
		run(own, sequence % 3 ? "COMMIT" : (sequence--, "ROLLBACK"));
		read_page(reader);
		done = true;
		for (int i = 0; i < AT_ONCE; i++)
			done &= writers[i].done;
	}
	read_on(reader);
	CHECK_INT(reader->events, 1 + AT_ONCE * ROUNDS + sequence - 2);
	CHECK_INT(events_from((struct cursor){ 0 }), reader->events);
	run(foreign, "ROLLBACK");
	PQfinish(foreign);
	PQfinish(own);
	reader_free(reader);
	close_both();
}

/* ---- rows of many events ---- */

/* A submission of so many tasks, of this tenant, as a transaction of its own. */
static void bulk(PGconn *conn, int tasks, const char *tenant)
{
	char sql[1024];
	snprintf(sql, sizeof(sql),
		"WITH added AS (INSERT INTO tasks (id, status, place, max_attempts, run_attempts, priority, sequence, "
		"turn, "
		"tenant, queue, executor, type) SELECT gen_random_uuid(), 'QUEUED', 1, 3, 3, 5, 1, i, '%s', 'default', "
		"'noop', "
		"'test' FROM generate_series(1, %d) i RETURNING id), gathered AS (SELECT array_agg(id) AS ids FROM "
		"added) "
		"INSERT INTO events (id, size, task_id, others, kind, sequence, run, attempt, at, publisher) SELECT "
		"cardinality(ids), cardinality(ids), ids[1], CASE WHEN cardinality(ids) > 1 THEN ids[2:] END, 0, 1, 1, "
		"0, "
		"now(), 0 FROM gathered",
		tenant, tasks);
	run(conn, sql);
}

/* Everything of this tenant that is behind `after`, by position or by cursor alone, by pages of this size. */
static size_t walk(const char *tenant, size_t limit, bool by_position, struct cursor after)
{
	struct buffer position = { 0 };
	size_t found = 0, pages = 0;
	for (bool more = true; more; pages++) {
		struct read_events read = { .after = after,
			.position = by_position ? buffer_bytes(&position) : BYTES_NONE,
			.limit = limit,
			.tenant = bytes_of(tenant) };
		REQUIRE(pages < 10000);
		REQUIRE(do_read_events(h, &read) == STORE_OK);
		CHECK(read.result_count <= limit);
		found += read.result_count;
		more = read.more;
		after = read.last;
		buffer_clear(&position);
		buffer_append_bytes(&position, read.next);
		store_operation_fini(&read.operation);
	}
	buffer_fini(&position);
	return found;
}

/* A page looks at so many events that rows of many do not fit in it evenly: it ends within one, again and again. */
TEST(rows_of_many_events_are_walked_through_to_the_end)
{
	static const int sizes[] = { 4096, 1, 4000, 3999, 4096, 7, 4096, 4096, 1, 1, 3000, 4096, 4096 };
	open_one();
	PGconn *own = session("postgres");
	size_t all = 0;
	struct cursor start = latest();
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		bulk(own, sizes[i], "t");
		all += (size_t)sizes[i];
	}
	bulk(own, 5, "u");
	bulk(own, 1, "u");
	for (int by_position = 0; by_position < 2; by_position++) {
		CHECK_INT(walk("u", 2, by_position, start), 6);
		CHECK_INT(walk("u", 100, by_position, (struct cursor){ 0 }), 6);
		CHECK_INT(walk("t", 5000, by_position, start), all);
		CHECK_INT(walk(NULL, 3000, by_position, start), all + 6);
		CHECK_INT(walk(NULL, 5000, by_position, (struct cursor){ 0 }), all + 6);
	}
	PQfinish(own);
	node_close(&one);
}

STORE_POSTGRES_MAIN("fsync = off\nautovacuum = off\nmax_prepared_transactions = 4\n")
