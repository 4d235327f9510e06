/* The ceilings of the PostgreSQL store: a bare program that has the same statements run on the same schema with the
 * same parameters, each group of them one transaction as the store's are, and does nothing else.
 *
 *	bare-postgres URL submit  CONNECTIONS BATCH ROWS   submissions alone
 *	bare-postgres URL life    CONNECTIONS BATCH ROWS   the whole life of a task: submitted, claimed, settled
 *	bare-postgres URL burn    CONNECTIONS BATCH ROWS   rows that are queued already, claimed and settled
 *	bare-postgres URL latency CONNECTIONS BATCH ROWS   commits of BATCH rows, 50 a second over one connection
 *
 * prints "rows/s=… p50_ms=… p99_ms=…", the latter of one transaction that submits (of one that settles, for burn). The
 * database must be empty. Each connection has a thread, and waits for each of its transactions. */
#include <libpq-fe.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "assay/task.h"
#include "base/clock.h"
#include "base/text.h"
#include "base/uuid.h"
#include "io/postgres.h"
#include "store/postgres/sql.h"
#include "tests/bench/bench_rows.h"

#define CONNECTIONS_MAX 16
#define INCARNATION "bare-0123456789abcdef"
#define PUBLISHER 4711
#define PRIORITY 5
#define RATE 50
/* As the service writes them for the noop executor. */
#define RESULT \
	"{\"job_name\":\"eval-agq76ikltzzepomd24u4hafgpy\",\"task_id\":\"01a1ff21-4b9e-7247-b983-d729c380a67e\"," \
	"\"status\":\"succeeded\",\"phase\":\"succeeded\",\"exit_code\":0,\"attempts\":0,\"attempt\":1," \
	"\"queued_at\":\"2026-11-21T17:22:14.559Z\",\"started_at\":\"2026-11-21T17:22:14.561Z\"," \
	"\"finished_at\":\"2026-11-21T17:22:14.561Z\",\"duration_seconds\":0.000001,\"usage\":{\"wall_seconds\":0," \
	"\"cpu_seconds\":0,\"memory_bytes\":0},\"executor\":\"noop\",\"priority\":5,\"queue\":\"default\"," \
	"\"type\":\"evaluation\",\"run\":1,\"stdout_truncated\":false,\"stderr_truncated\":false," \
	"\"route\":{\"executor\":\"noop\",\"replica\":\"vm\",\"queue\":\"default\"}}"
#define STARTED_DATA "{\"executor\":\"noop\"}"
#define EVENT_DATA \
	"{\"exit_code\":0,\"signal\":null,\"duration_seconds\":1e-06,\"status\":\"succeeded\",\"phase\":" \
	"\"succeeded\"," \
	"\"reason\":null,\"fault\":null,\"cause\":null,\"message\":null,\"usage\":{\"wall_seconds\":0,\"cpu_" \
	"seconds\":0," \
	"\"memory_bytes\":0},\"executor\":\"noop\"}"

static const struct postgres_statement statements[] = WRITE_STATEMENTS;
static const struct postgres_statement checks[] = CHECK_STATEMENTS;
static const struct {
	const char *name, *sql;
} migrations[] = MIGRATIONS;

struct shared {
	const char *url;
	int batch;
	atomic_int left, turn;
	bool submits, settles, paced;
	double *latencies;
	atomic_int latency_count;
};

struct worker {
	struct shared *shared; /* borrowed */
	pthread_t thread;
	PGconn *conn;
	struct postgres_group group;
	struct uuid_generator ids;
	double mark; /* nothing to claim stands before this turn */
};

struct claimed {
	struct uuid id;
	int attempt;
};

static void die(const PGconn *conn, const char *what)
{
	fprintf(stderr, "bare-postgres: %s: %s\n", what, conn ? PQerrorMessage(conn) : "");
	exit(1);
}

/* ---- groups of statements, one Sync each ---- */

static void send_call(struct worker *w, const struct postgres_call *call)
{
	const char *values[POSTGRES_PARAMETERS_MAX];
	int lengths[POSTGRES_PARAMETERS_MAX], formats[POSTGRES_PARAMETERS_MAX];
	for (size_t i = 0; i < call->parameter_count; i++) {
		size_t at = call->first_parameter + i;
		lengths[i] = w->group.parameters[at].length;
		values[i] = lengths[i] < 0 ? NULL : w->group.values.data + w->group.parameters[at].offset;
		formats[i] = 1;
	}
	if (!PQsendQueryPrepared(
		    w->conn, call->statement->name, (int)call->parameter_count, values, lengths, formats, 1))
		die(w->conn, "send");
}

/* Sends the group and waits until it is committed; its results are in group.results. */
static void run(struct worker *w)
{
	struct postgres_group *group = &w->group;
	for (size_t i = 0; i < group->call_count; i++)
		send_call(w, &group->calls[i]);
	if (!PQpipelineSync(w->conn))
		die(w->conn, "sync");
	for (size_t i = 0; i < group->call_count; i++) {
		PGresult *end;
		group->results[i] = PQgetResult(w->conn);
		ExecStatusType status = PQresultStatus(group->results[i]);
		if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
			die(w->conn, group->calls[i].statement->name);
		end = PQgetResult(w->conn);
		if (end)
			die(w->conn, "more results than statements");
	}
	PGresult *sync = PQgetResult(w->conn);
	if (PQresultStatus(sync) != PGRES_PIPELINE_SYNC)
		die(w->conn, "no sync");
	PQclear(sync);
}

static void note_latency(struct worker *w, int64_t from_us)
{
	w->shared->latencies[atomic_fetch_add(&w->shared->latency_count, 1)] =
		(double)(clock_monotonic_us() - from_us) / 1000;
}

/* An array parameter with `count` times the same, or with what `i` makes. */
#define PUT_ARRAY(type, put, ...) \
	do { \
		struct postgres_array array_ = postgres_array_begin(&w->group, (type)); \
		for (int i = 0; i < count; i++) \
			put(&array_, ##__VA_ARGS__); \
		postgres_array_end_sparse(&array_); \
	} while (0)
#define PUT_TEXTS(type, literal) PUT_ARRAY(type, postgres_array_text, bytes_of(literal))
#define PUT_NULLS(type) PUT_ARRAY(type, postgres_array_null)

/* ---- the three statements of a life ---- */

static void submit(struct worker *w, int count)
{
	struct uuid *ids = calloc((size_t)count, sizeof(ids[0]));
	int turn = atomic_fetch_add(&w->shared->turn, count);
	struct uuid batch = uuid_new(&w->ids);
	for (int i = 0; i < count; i++)
		ids[i] = uuid_new(&w->ids);
	int64_t from_us = clock_monotonic_us();
	postgres_group_reset(&w->group);
	postgres_group_add(&w->group, &statements[WRITE_SUBMIT_NEW]);
	postgres_put_text(&w->group, BYTES_LITERAL(INCARNATION));
	postgres_put_int8(&w->group, PUBLISHER);
	PUT_ARRAY(POSTGRES_UUID, postgres_array_uuid, &ids[i]);
	PUT_ARRAY(POSTGRES_BOOL, postgres_array_bool, false);
	PUT_TEXTS(POSTGRES_TEXT, BENCH_TENANT);
	PUT_TEXTS(POSTGRES_TEXT, BENCH_TYPE);
	PUT_TEXTS(POSTGRES_TEXT, BENCH_QUEUE);
	PUT_TEXTS(POSTGRES_TEXT, BENCH_EXECUTOR);
	PUT_NULLS(POSTGRES_TEXT); /* eval_id */
	PUT_NULLS(POSTGRES_TEXT); /* idempotency_key */
	PUT_NULLS(POSTGRES_BYTEA);
	PUT_ARRAY(POSTGRES_INT2, postgres_array_int2, PRIORITY);
	PUT_ARRAY(POSTGRES_INT4, postgres_array_int4, 3);
	PUT_ARRAY(POSTGRES_FLOAT8, postgres_array_float8, turn + i);
	PUT_NULLS(POSTGRES_TIMESTAMPTZ);
	if (count > 1)
		PUT_ARRAY(POSTGRES_UUID, postgres_array_uuid, &batch);
	else
		PUT_NULLS(POSTGRES_UUID);
	PUT_NULLS(POSTGRES_TEXT); /* description */
	PUT_NULLS(POSTGRES_TEXT); /* domain */
	PUT_ARRAY(POSTGRES_FLOAT8, postgres_array_float8, 0);
	PUT_TEXTS(POSTGRES_JSONB, BENCH_PARAMS);
	PUT_NULLS(POSTGRES_JSON); /* metadata */
	PUT_NULLS(POSTGRES_TEXT); /* callback_url */
	PUT_NULLS(POSTGRES_TEXT); /* traceparent */
	PUT_NULLS(POSTGRES_TEXT); /* image */
	run(w);
	if (PQntuples(w->group.results[0]) != count)
		die(NULL, "not all rows went in");
	note_latency(w, from_us);
	free(ids);
}

static void put_search(struct worker *w, int slots)
{
	int count = 1;
	PUT_TEXTS(POSTGRES_TEXT, BENCH_EXECUTOR);
	PUT_ARRAY(POSTGRES_INT8, postgres_array_int8, slots);
	count = 10; /* priorities, 9 first */
	PUT_ARRAY(POSTGRES_FLOAT8, postgres_array_float8, i == 9 - PRIORITY ? w->mark : 0);
	postgres_put_null(&w->group);
	postgres_put_null(&w->group);
	postgres_put_text(&w->group, BYTES_LITERAL(INCARNATION));
}

/* Places of $task_columns. */
enum { COLUMN_ID = 0, COLUMN_ATTEMPT = 3, COLUMN_TURN = 7 };

static int claim(struct worker *w, int slots, struct claimed *claimed)
{
	postgres_group_reset(&w->group);
	postgres_group_add(&w->group, &statements[WRITE_PLANNER]);
	postgres_group_add(&w->group, &statements[WRITE_CLAIM]);
	put_search(w, slots);
	postgres_group_add(&w->group, &statements[WRITE_CLAIM_LEFT]);
	put_search(w, slots);
	run(w);
	const PGresult *result = w->group.results[1];
	int count = PQntuples(result);
	double first = 0;
	for (int i = 0; i < count; i++) {
		double turn = postgres_get_float8(result, i, COLUMN_TURN);
		first = i == 0 || turn < first ? turn : first;
		claimed[i].id = postgres_get_uuid(result, i, COLUMN_ID);
		claimed[i].attempt = (int)postgres_get_int(result, i, COLUMN_ATTEMPT);
	}
	w->mark = count > 0 ? first : w->mark;
	return count;
}

static int compare_claimed(const void *a, const void *b)
{
	return uuid_compare(&((const struct claimed *)a)->id, &((const struct claimed *)b)->id);
}

static void settle(struct worker *w, struct claimed *claimed, int count)
{
	qsort(claimed, (size_t)count, sizeof(claimed[0]), compare_claimed);
	int64_t from_us = clock_monotonic_us(), now_us = clock_wall_us();
	postgres_group_reset(&w->group);
	postgres_group_add(&w->group, &statements[WRITE_PLANNER]);
	postgres_group_add(&w->group, &statements[WRITE_SETTLE_PLAIN]);
	PUT_ARRAY(POSTGRES_UUID, postgres_array_uuid, &claimed[i].id);
	PUT_ARRAY(POSTGRES_INT4, postgres_array_int4, claimed[i].attempt);
	PUT_TEXTS(POSTGRES_TEXT, INCARNATION);
	PUT_ARRAY(POSTGRES_TIMESTAMPTZ, postgres_array_time, now_us);
	PUT_TEXTS(POSTGRES_JSON, STARTED_DATA);
	PUT_TEXTS(POSTGRES_TEXT, "COMPLETED");
	PUT_ARRAY(POSTGRES_BOOL, postgres_array_bool, false);
	PUT_ARRAY(POSTGRES_INT4, postgres_array_int4, 0);
	PUT_ARRAY(POSTGRES_INT8, postgres_array_int8, 0);
	PUT_ARRAY(POSTGRES_INT2, postgres_array_int2, EVENT_COMPLETED);
	PUT_ARRAY(POSTGRES_TIMESTAMPTZ, postgres_array_time, now_us);
	PUT_TEXTS(POSTGRES_JSON, EVENT_DATA);
	PUT_ARRAY(POSTGRES_INT2, postgres_array_int2, REASON_NONE);
	PUT_ARRAY(POSTGRES_INT2, postgres_array_int2, REASON_NONE);
	PUT_NULLS(POSTGRES_TEXT); /* error */
	PUT_TEXTS(POSTGRES_JSONB, RESULT);
	PUT_NULLS(POSTGRES_TEXT); /* node */
	PUT_NULLS(POSTGRES_TEXT); /* pod */
	PUT_NULLS(POSTGRES_TEXT); /* image */
	PUT_ARRAY(POSTGRES_INT8, postgres_array_int8, PUBLISHER);
	run(w);
	if (PQntuples(w->group.results[1]) != count)
		die(NULL, "not all rows were settled");
	if (!w->shared->submits)
		note_latency(w, from_us);
}

/* ---- a connection ---- */

static void connect_to(struct worker *w)
{
	const int prepared[] = { WRITE_SUBMIT_NEW, WRITE_PLANNER, WRITE_CLAIM, WRITE_CLAIM_LEFT, WRITE_SETTLE_PLAIN };
	w->conn = PQconnectdb(w->shared->url);
	if (PQstatus(w->conn) != CONNECTION_OK)
		die(w->conn, "connect");
	for (size_t i = 0; i < sizeof(prepared) / sizeof(prepared[0]); i++) {
		const struct postgres_statement *statement = &statements[prepared[i]];
		PGresult *result = PQprepare(w->conn, statement->name, statement->sql, 0, NULL);
		if (PQresultStatus(result) != PGRES_COMMAND_OK)
			die(w->conn, statement->name);
		PQclear(result);
	}
	PGresult *registered = PQexecParams(
		w->conn, statements[WRITE_REGISTER].sql, 1, NULL, (const char *const[]){ INCARNATION }, NULL, NULL, 0);
	if (PQresultStatus(registered) != PGRES_COMMAND_OK)
		die(w->conn, "register");
	PQclear(registered);
	if (!PQenterPipelineMode(w->conn))
		die(w->conn, "pipeline mode");
}

/* How many rows this round is to have; 0 when there are no more. */
static int take(struct shared *shared)
{
	int left = atomic_fetch_sub(&shared->left, shared->batch);
	return left < shared->batch ? (left > 0 ? left : 0) : shared->batch;
}

static void *work(void *data)
{
	struct worker *w = data;
	struct shared *shared = w->shared;
	struct claimed *claimed = calloc((size_t)shared->batch, sizeof(claimed[0]));
	int64_t begin_us = clock_monotonic_us();
	for (int round = 0, count; (count = take(shared)) > 0; round++) {
		if (shared->paced) {
			int64_t due_us = begin_us + (int64_t)round * 1000000 / RATE, now_us = clock_monotonic_us();
			if (due_us > now_us)
				usleep((useconds_t)(due_us - now_us));
		}
		if (shared->submits)
			submit(w, count);
		/* What the others have claimed of ours they leave for us of theirs. */
		for (int done = 0, got; shared->settles && done < count; done += got) {
			got = claim(w, count - done, claimed);
			if (got > 0)
				settle(w, claimed, got);
		}
	}
	free(claimed);
	return NULL;
}

/* Runs all connections until `rows` are done; the seconds it took. */
static double run_all(struct worker *workers, int connections, struct shared *shared, int rows)
{
	atomic_store(&shared->left, rows);
	atomic_store(&shared->latency_count, 0);
	int64_t from_us = clock_monotonic_us();
	for (int i = 0; i < connections; i++)
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
			die(NULL, "thread");
	for (int i = 0; i < connections; i++)
		pthread_join(workers[i].thread, NULL);
	return (double)(clock_monotonic_us() - from_us) / 1e6;
}

static void make_schema(PGconn *conn)
{
	PGresult *result = PQexec(conn, checks[CHECK_SCHEMA].sql);
	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		die(conn, "schema");
	PQclear(result);
	for (size_t i = 0; i < sizeof(migrations) / sizeof(migrations[0]); i++) {
		result = PQexec(conn, migrations[i].sql);
		if (PQresultStatus(result) != PGRES_COMMAND_OK)
			die(conn, migrations[i].name);
		PQclear(result);
	}
}

static int compare(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;
	return left < right ? -1 : left > right;
}

int main(int argc, char **argv)
{
	int64_t connections, batch, rows;
	const char *mode = argc == 6 ? argv[2] : "";
	bool burn = strcmp(mode, "burn") == 0, life = strcmp(mode, "life") == 0, latency = strcmp(mode, "latency") == 0;
	if ((!burn && !life && !latency && strcmp(mode, "submit") != 0) ||
		!text_to_int(bytes_of(argv[3]), 1, CONNECTIONS_MAX, &connections) ||
		!text_to_int(bytes_of(argv[4]), 1, 10000, &batch) ||
		!text_to_int(bytes_of(argv[5]), 1, 100000000, &rows)) {
		fputs("usage: bare-postgres URL submit|life|burn|latency CONNECTIONS BATCH ROWS\n", stderr);
		return 2;
	}
	struct shared shared = {
		.url = argv[1], .batch = (int)batch, .submits = true, .settles = life, .paced = latency
	};
	struct worker workers[CONNECTIONS_MAX] = { 0 };
	PGconn *conn = PQconnectdb(shared.url);
	if (PQstatus(conn) != CONNECTION_OK)
		die(conn, "connect");
	make_schema(conn);
	PQfinish(conn);
	shared.latencies = calloc((size_t)(rows + connections), sizeof(shared.latencies[0]));
	for (int i = 0; i < connections; i++) {
		workers[i].shared = &shared;
		connect_to(&workers[i]);
	}
	double seconds = run_all(workers, (int)connections, &shared, (int)rows);
	if (burn) {
		shared.submits = false;
		shared.settles = true;
		seconds = run_all(workers, (int)connections, &shared, (int)rows);
	}
	int count = atomic_load(&shared.latency_count);
	qsort(shared.latencies, (size_t)count, sizeof(shared.latencies[0]), compare);
	printf("bare-postgres %s connections=%d batch=%d rows=%d rows/s=%.0f p50_ms=%.3f p99_ms=%.3f\n", mode,
		(int)connections, (int)batch, (int)rows, (double)rows / seconds, shared.latencies[count / 2],
		shared.latencies[(count - 1) * 99 / 100]);
	for (int i = 0; i < connections; i++) {
		postgres_group_fini(&workers[i].group);
		PQfinish(workers[i].conn);
	}
	free(shared.latencies);
	return 0;
}
