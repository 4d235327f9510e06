/* What goes wrong between the PostgreSQL store and its server, and what others do to its tables: slow reads, silent
 * connections, answers that come too late, incarnations that nobody knows any more, dumps. */
#include <errno.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "tests/contract/store_postgres_world.h"

static struct harness *const h = &one.harness;

static PGconn *session(const char *sql)
{
	char all[1024];
	PGconn *conn = PQconnectdb(postgres_server_conninfo(server));
	REQUIRE(PQstatus(conn) == CONNECTION_OK);
	snprintf(all, sizeof(all), "SET search_path = %s; %s", own_schema, sql);
	PGresult *result = PQexec(conn, all);
	CHECK_STR(PQresultErrorMessage(result), "");
	PQclear(result);
	return conn;
}

static void end_session(PGconn *conn, const char *sql)
{
	PGresult *result = PQexec(conn, sql);
	CHECK_STR(PQresultErrorMessage(result), "");
	PQclear(result);
	PQfinish(conn);
}

static size_t claim_some(const char *locked_by, int slots, bool *ret_exhausted)
{
	struct claim_lane lane = { BYTES_LITERAL("noop"), slots };
	struct store_claim claim = { .locked_by = bytes_of(locked_by), .lanes = &lane, .lane_count = 1 };
	REQUIRE(do_claim(h, &claim) == STORE_OK);
	size_t count = claim.count;
	*ret_exhausted = claim.exhausted[0];
	store_operation_fini(&claim.operation);
	return count;
}

static bool beat(void)
{
	struct store_heartbeat heartbeat = { .locked_by = BYTES_LITERAL("me#1"), .lease_us = 15 * US_PER_S };
	REQUIRE(do_heartbeat(h, &heartbeat) == STORE_OK);
	bool alive = heartbeat.alive;
	store_operation_fini(&heartbeat.operation);
	return alive;
}

struct waiting {
	bool done;
};

static void on_done(struct store_operation *operation)
{
	((struct waiting *)operation->owner)->done = true;
}

TEST(connections_that_are_cut_are_noticed_by_the_server)
{
	char path[256], line[4096];
	int count = 0;
	open_one();
	snprintf(path, sizeof(path), "%s/log", postgres_server_directory(server));
	FILE *file = fopen(path, "r");
	REQUIRE(file);
	while (fgets(line, sizeof(line), file))
		count += strstr(line, "set tcp_keepalives_idle = 10") != NULL;
	fclose(file);
	/* As many connections as the store has. */
	char *connections = postgres_server_query(
		server, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'assay %'");
	CHECK(connections && count == atoi(connections) && count >= 8);
	free(connections);
	node_close(&one);
}

TEST(a_slow_read_fails_alone)
{
	open_one();
	struct submission s = submission_of(h);
	struct uuid id = submit_one(h, &s);
	PGconn *conn = session("BEGIN; LOCK TABLE events IN ACCESS EXCLUSIVE MODE");
	struct waiting waiting = { false };
	struct read_events read = { .operation = { .done = on_done, .owner = &waiting }, .task_id = id, .limit = 10 };
	one.harness.store->ops->read_events(one.harness.store, &read);
	while (!waiting.done)
		CHECK(beat()); /* one after the other, as long as it takes */
	CHECK_INT(read.operation.outcome, STORE_FAILED);
	CHECK_INT(read.operation.err.code, -ETIMEDOUT);
	CHECK(strstr(read.operation.err.message, "too long"));
	CHECK_INT(one.harness.availables, 1);
	store_operation_fini(&read.operation);
	end_session(conn, "COMMIT");
	struct read_events again = { .task_id = id, .limit = 10 };
	CHECK_INT(do_read_events(h, &again), STORE_OK);
	CHECK_INT(again.result_count, 1);
	store_operation_fini(&again.operation);
	node_close(&one);
}

TEST(connections_of_reads_alone_do_not_make_the_store_away)
{
	open_one();
	struct submission s = submission_of(h);
	struct uuid id = submit_one(h, &s);
	for (int i = 0; i < 3; i++) {
		one.events = false;
		query("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name IN "
		      "('assay read', 'assay scan', 'assay keep')");
		node_wait(&one, &one.events);
		/* The cut may come in the middle of a read; behind it one waits for the connection. */
		struct read_task read = { .ids = &id, .count = 1 };
		enum store_outcome outcome = do_read_task(h, &read);
		if (outcome == STORE_UNKNOWN)
			outcome = do_read_task(h, &read);
		CHECK_INT(outcome, STORE_OK);
		store_operation_fini(&read.operation);
		CHECK(beat());
	}
	CHECK_INT(one.harness.availables, 1);
	node_close(&one);
}

TEST(a_step_whose_first_writing_is_under_way_is_written_once)
{
	bool exhausted;
	open_one();
	struct submission s = submission_of(h);
	struct uuid id = submit_one(h, &s);
	CHECK_INT(claim_some("me#1", 1, &exhausted), 1);
	int64_t at_us = clock_wall_us();
	char sql[512];
	snprintf(sql, sizeof(sql),
		"BEGIN; UPDATE tasks SET sequence = 2; INSERT INTO events (task_id, kind, sequence, run, attempt, at, "
		"data, publisher) SELECT id, %d, 2, 1, 1, timestamptz 'epoch' + %lld * interval '1 microsecond', "
		"'{\"a\":1}', 0 "
		"FROM tasks",
		EVENT_STAGE, (long long)at_us);
	PGconn *conn = session(sql);
	struct transition step = { .kind = TRANSITION_STEP,
		.guard = guard_of(&id, 1, "me#1"),
		.event_kind = EVENT_STAGE,
		.event_data = BYTES_LITERAL("\"a\":1"),
		.at_us = at_us };
	struct waiting waiting = { false };
	struct store_settle settle = {
		.operation = { .done = on_done, .owner = &waiting }, .transitions = &step, .count = 1
	};
	one.harness.store->ops->settle(one.harness.store, &settle);
	while (strcmp(query("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'assay settle' AND "
			    "wait_event_type = 'Lock'"),
		       "1") != 0)
		uv_run(loop, UV_RUN_NOWAIT);
	end_session(conn, "COMMIT");
	node_wait(&one, &waiting.done);
	CHECK_INT(settle.operation.outcome, STORE_OK);
	CHECK_INT(settle.results[0].status, SETTLE_APPLIED);
	store_operation_fini(&settle.operation);
	CHECK_STR(query("SELECT count(*) FROM events WHERE sequence > 1"), "1");
	node_close(&one);
}

/* A submission whose answer was lost went in before the mark that a claim has raised, and nobody was told. */
TEST(what_is_told_again_is_found_by_claims)
{
	bool exhausted;
	char sql[512], digits[UUID_TEXT_SIZE];
	open_one();
	struct submission first = submission_of(h), late = submission_of(h);
	first.turn = 100;
	late.turn = 1;
	submit_one(h, &first);
	CHECK_INT(claim_some("me#1", 1, &exhausted), 1);
	snprintf(sql, sizeof(sql),
		"INSERT INTO tasks (id, status, place, max_attempts, run_attempts, priority, sequence, turn, tenant, "
		"queue, executor, type) SELECT '%s', 'QUEUED', 1, max_attempts, run_attempts, priority, 1, 1, tenant, "
		"queue, "
		"executor, type FROM tasks",
		uuid_format(&late.id, digits));
	query(sql);
	CHECK_INT(claim_some("me#1", 1, &exhausted), 0); /* it stands before the mark */
	submit_one(h, &late);
	CHECK_INT(claim_some("me#1", 1, &exhausted), 1);
	node_close(&one);
}

/* ---- incarnations ---- */

TEST(running_rows_of_unknown_incarnations_are_taken)
{
	bool exhausted;
	open_one();
	struct submission s = submission_of(h), second = submission_of(h);
	submit_one(h, &s);
	submit_one(h, &second);
	CHECK_INT(claim_some("gone#1", 1, &exhausted), 1);
	CHECK_INT(claim_some("long_dead#1", 1, &exhausted), 1);
	query("DELETE FROM replicas WHERE incarnation = 'gone#1'");
	query("UPDATE replicas SET dead_at = now() - interval '3 days', dead_by = 'other#1'");
	/* One that still has running rows is not forgotten. */
	struct store_trim trim = { .finished_before_us = clock_wall_us() - 3600 * US_PER_S, .limit = 10 };
	REQUIRE(do_trim(h, &trim) == STORE_OK);
	store_operation_fini(&trim.operation);
	CHECK_STR(query("SELECT string_agg(incarnation, ' ') FROM replicas"), "long_dead#1");
	struct store_take take = {
		.kind = TAKE_DEAD, .locked_by = BYTES_LITERAL("me#1"), .lease_us = 15 * US_PER_S, .limit = 10
	};
	REQUIRE(do_take(h, &take) == STORE_OK);
	CHECK_INT(take.count, 2);
	CHECK(!take.more);
	store_operation_fini(&take.operation);
	CHECK_STR(query("SELECT string_agg(DISTINCT locked_by, ' ') FROM tasks"), "me#1");
	REQUIRE(do_trim(h, &trim) == STORE_OK);
	store_operation_fini(&trim.operation);
	CHECK_STR(query("SELECT string_agg(incarnation, ' ') FROM replicas"), "me#1");
	node_close(&one);
}

TEST(an_incarnation_that_was_buried_gets_nothing)
{
	bool exhausted;
	open_one();
	CHECK_INT(claim_some("me#1", 1, &exhausted), 0);
	struct submission s = submission_of(h), born = submission_of(h);
	submit_one(h, &s);
	query("UPDATE replicas SET dead_at = now(), dead_by = 'other#1'");
	CHECK_INT(claim_some("me#1", 1, &exhausted), 0);
	CHECK(exhausted); /* there is nothing for it: it need not ask on and on */
	struct submit_item item = { .submission = &born, .born_running = true };
	struct store_submit submit = { .items = &item, .count = 1, .locked_by = BYTES_LITERAL("me#1") };
	REQUIRE(do_submit(h, &submit) == STORE_OK);
	CHECK_INT(submit.results[0].status, SUBMIT_CREATED);
	CHECK_INT(submit.results[0].task_status, TASK_QUEUED);
	store_operation_fini(&submit.operation);
	CHECK(!beat());
	CHECK_INT(claim_some("me#2", 10, &exhausted), 2);
	node_close(&one);
}

TEST(what_is_claimed_at_once_is_bounded_in_bytes)
{
	bool exhausted;
	open_one();
	for (int i = 0; i < 4; i++) {
		struct submission s = submission_of(h);
		submit_one(h, &s);
	}
	query("UPDATE tasks SET params = jsonb_build_object('code', repeat('x', 40000000))");
	CHECK_INT(claim_some("me#1", 10, &exhausted), 2);
	CHECK(!exhausted);
	CHECK_INT(claim_some("me#1", 10, &exhausted), 2);
	CHECK(exhausted);
	node_close(&one);
}

/* ---- dumps ---- */

TEST(a_dump_in_another_cluster_is_read_from_its_beginning)
{
	open_one();
	struct uuid ids[3];
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		struct submission s = submission_of(h);
		ids[i] = submit_one(h, &s);
	}
	node_close(&one);
	query("UPDATE events SET xid = (xid::text::bigint + 1000000000)::text::xid8");
	query("UPDATE state SET trimmed_xid = '1000000001', trimmed_id = 7");
	node_up(&one, loop, postgres_server_conninfo(server), own_schema);
	struct submission s = submission_of(h);
	struct uuid last = submit_one(h, &s);
	struct read_events read = { .limit = 10 };
	REQUIRE(do_read_events(h, &read) == STORE_OK);
	REQUIRE(read.result_count == 4);
	CHECK(!read.more && !read.gap);
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
		CHECK(uuid_compare(&read.results[i].task_id, &ids[i]) == 0);
	CHECK(uuid_compare(&read.results[3].task_id, &last) == 0);
	struct read_events none = { .after = read.last, .limit = 10 };
	REQUIRE(do_read_events(h, &none) == STORE_OK);
	CHECK_INT(none.result_count, 0);
	store_operation_fini(&none.operation);
	store_operation_fini(&read.operation);
	node_close(&one);
}

STORE_POSTGRES_MAIN("fsync = off\nlog_statement = all\n")
