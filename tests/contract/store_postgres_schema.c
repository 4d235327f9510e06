/* What an operator can get wrong with the database, and what the schema gives to those who look into it by SQL. */
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/contract/store_postgres_world.h"

static struct node two;

/* A conninfo with words behind it, the last of which count. */
static const char *url_with(const char *words)
{
	static char url[512];
	snprintf(url, sizeof(url), "%s %s", postgres_server_conninfo(server), words);
	return url;
}

static void refused(const char *url, const char *schema, const char *because)
{
	node_open(&one, loop, url, schema);
	node_wait(&one, &one.failed);
	CHECK(strstr(one.why.message, because));
	if (!strstr(one.why.message, because))
		printf("# it said: %s\n", one.why.message);
	CHECK(!one.harness.available);
	node_close(&one);
}

static void migrated(const char *schema)
{
	node_up(&one, loop, postgres_server_conninfo(server), schema);
	node_close(&one);
}

TEST(a_wrong_password_is_told)
{
	refused(url_with("user=guarded password=wrong"), NULL, "password authentication failed");
}

TEST(a_missing_database_is_told)
{
	refused(url_with("dbname=nobody"), NULL, "database \"nobody\" does not exist");
}

TEST(missing_rights_are_told)
{
	query("CREATE ROLE poor LOGIN");
	query("REVOKE CREATE ON DATABASE postgres FROM PUBLIC");
	refused(url_with("user=poor"), "poor", "permission denied for database");
	migrated("rich");
	refused(url_with("user=poor"), "rich", "has no right to use schema rich");
	query("GRANT USAGE ON SCHEMA rich TO poor");
	query("GRANT SELECT ON ALL TABLES IN SCHEMA rich TO poor");
	refused(url_with("user=poor"), "rich", "may not read and write table rich.");
	query("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA rich TO poor");
	/* No more than that is needed to run where somebody else migrates. */
	node_up(&one, loop, url_with("user=poor"), "rich");
	struct submission s = submission_of(&one.harness);
	submit_one(&one.harness, &s);
	node_close(&one);
}

TEST(an_old_server_is_told)
{
	query("CREATE SCHEMA fake");
	query("CREATE FUNCTION fake.current_setting(text) RETURNS text LANGUAGE sql AS "
	      "$$ SELECT CASE $1 WHEN 'server_version_num' THEN '120022' ELSE '12.22' END $$");
	refused(url_with("options='-c search_path=fake,pg_catalog'"), "old",
		"PostgreSQL 12.22 is too old: 13 is the oldest that serves");
	CHECK_STR(query("SELECT count(*) FROM pg_namespace WHERE nspname = 'old'"), "0");
}

TEST(a_newer_schema_is_told)
{
	migrated("newer");
	query("INSERT INTO newer.migrations (number, name) SELECT max(number) + 1, 'later' FROM newer.migrations");
	refused(postgres_server_conninfo(server), "newer", "schema newer is newer than this program");
}

TEST(a_table_altered_by_hand_is_told)
{
	migrated("altered");
	query("ALTER TABLE altered.events DROP COLUMN attempt");
	refused(postgres_server_conninfo(server), "altered",
		"altered.events was altered by hand: column attempt is missing");
	query("ALTER TABLE altered.events ADD COLUMN attempt text");
	refused(postgres_server_conninfo(server), "altered", "column attempt is text, it should be integer");
	query("ALTER TABLE altered.events ALTER COLUMN attempt TYPE integer USING 0");
	query("ALTER TABLE altered.events ADD COLUMN note text"); /* what is added does no harm */
	migrated("altered");
}

TEST(a_migration_recorded_twice_or_out_of_order_is_told)
{
	migrated("twice");
	query("ALTER TABLE twice.migrations DROP CONSTRAINT migrations_pkey");
	query("INSERT INTO twice.migrations (number, name) SELECT number, name FROM twice.migrations WHERE number = 1");
	refused(postgres_server_conninfo(server), "twice", "migration 1 of schema twice is recorded 2 times");
	query("DELETE FROM twice.migrations");
	query("INSERT INTO twice.migrations (number, name) VALUES (2, '002_x')");
	refused(postgres_server_conninfo(server), "twice",
		"migration 1 of schema twice is not recorded, a later one is");
	query("INSERT INTO twice.migrations (number, name) VALUES (1, '001_other')");
	query("DELETE FROM twice.migrations WHERE number = 2");
	refused(postgres_server_conninfo(server), "twice", "is not the one that this program knows as 001_initial");
}

/* As the version before migration 3 left a schema. */
static void make_older(const char *schema)
{
	char sql[512];
	snprintf(sql, sizeof(sql),
		"SET search_path = %s; DELETE FROM migrations WHERE number >= 3;"
		"ALTER TABLE events DROP COLUMN size, DROP COLUMN others, DROP COLUMN began, DROP COLUMN began_data;"
		"DROP TABLE batches; CREATE INDEX tasks_batch ON tasks (batch_id, id)",
		schema);
	query(sql);
}

static PGconn *claimer_open(void)
{
	PGconn *conn = PQconnectdb(url_with("application_name='assay claim'"));
	REQUIRE(PQstatus(conn) == CONNECTION_OK);
	return conn;
}

static void claimers_gone(void)
{
	const char *left;
	do {
		left = query("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'assay claim'");
	} while (strcmp(left, "0") != 0);
}

TEST(replicas_of_an_older_version_must_be_gone)
{
	migrated("older");
	make_older("older");
	query("INSERT INTO older.replicas (incarnation) VALUES ('old#1')");
	refused(postgres_server_conninfo(server), "older", "replicas of an older version are running");
	CHECK_STR(query("SELECT count(*) FROM older.migrations"), "2");
	query("UPDATE older.replicas SET heartbeat_at = now() - interval '1 minute'"); /* it died, and nobody has buried it */
	claimers_gone();
	migrated("older");
	CHECK_STR(query("SELECT count(*) FROM older.migrations"), "4");
}

TEST(a_replica_of_an_older_version_whose_heartbeats_are_rare_must_be_gone)
{
	migrated("older");
	make_older("older");
	query("UPDATE older.replicas SET heartbeat_at = now() - interval '50 minutes'");
	PGconn *claimer = claimer_open();
	refused(postgres_server_conninfo(server), "older", "replicas of an older version are running");
	refused(postgres_server_conninfo(server), "older", "have ended: old#1");
	CHECK_STR(query("SELECT count(*) FROM older.migrations"), "2");
	PQfinish(claimer);
	claimers_gone();
	migrated("older");
	/* The session is somebody else's where the last heartbeat is older than any pause. */
	migrated("older");
	make_older("older");
	query("UPDATE older.replicas SET heartbeat_at = now() - interval '3 hours'");
	claimer = claimer_open();
	migrated("older");
	CHECK_STR(query("SELECT count(*) FROM older.migrations"), "4");
	PQfinish(claimer);
}

TEST(batches_of_an_older_version_keep_their_tasks)
{
	node_up(&one, loop, postgres_server_conninfo(server), "batched");
	struct submission s = submission_of(&one.harness);
	s.batch_id = uuid_new(&one.harness.ids);
	for (int i = 0; i < 3; i++) {
		s.id = uuid_new(&one.harness.ids);
		submit_one(&one.harness, &s);
	}
	node_close(&one);
	make_older("batched");
	query("DELETE FROM batched.replicas");
	node_up(&one, loop, postgres_server_conninfo(server), "batched");
	struct read_list read = { .batch_id = s.batch_id, .limit = 10 };
	REQUIRE(do_read_list(&one.harness, &read) == STORE_OK);
	REQUIRE(read.result_count == 3);
	CHECK(uuid_compare(&read.results[0].id, &s.id) == 0);
	store_operation_fini(&read.operation);
	node_close(&one);
}

TEST(a_schema_of_somebody_else_is_told)
{
	query("CREATE SCHEMA theirs");
	query("CREATE TABLE theirs.tasks (x int)");
	refused(postgres_server_conninfo(server), "theirs", "already exists");
	CHECK_STR(query("SELECT count(*) FROM pg_class WHERE relnamespace = 'theirs'::regnamespace"), "1");
}

TEST(two_can_migrate_at_once)
{
	node_open(&one, loop, postgres_server_conninfo(server), "both");
	node_open(&two, loop, postgres_server_conninfo(server), "both");
	node_wait(&one, &one.harness.available);
	node_wait(&two, &two.harness.available);
	CHECK_STR(query("SELECT count(*) FROM \"both\".migrations WHERE number = 1"), "1");
	node_close(&one);
	node_close(&two);
}

TEST(a_server_that_is_not_there_is_waited_for)
{
	postgres_server_shut_down(server);
	node_open(&one, loop, postgres_server_conninfo(server), "late");
	for (int i = 0; i < 50; i++)
		uv_run(loop, UV_RUN_NOWAIT);
	CHECK(!one.failed);
	struct store_status status;
	one.harness.store->ops->status(one.harness.store, &status);
	CHECK(!status.available && status.err.message[0]);
	postgres_server_restart(server);
	node_wait(&one, &one.harness.available);
	/* It goes away and comes back. */
	bool gone = false;
	postgres_server_kill(server);
	while (!gone) {
		uv_run(loop, UV_RUN_ONCE);
		gone = !one.harness.available;
	}
	postgres_server_restart(server);
	node_wait(&one, &one.harness.available);
	struct submission s = submission_of(&one.harness);
	submit_one(&one.harness, &s);
	node_close(&one);
}

static void status_of(struct store_status *ret_status)
{
	one.harness.store->ops->status(one.harness.store, ret_status);
}

TEST(a_standby_is_waited_for)
{
	struct store_status status;
	query("ALTER SYSTEM SET default_transaction_read_only = on");
	query("SELECT pg_reload_conf()");
	node_open(&one, loop, postgres_server_conninfo(server), "standby");
	do {
		uv_run(loop, UV_RUN_ONCE);
		status_of(&status);
	} while (!strstr(status.err.message, "read-only") && !one.failed);
	CHECK(!one.failed && !one.harness.available);
	query("ALTER SYSTEM RESET default_transaction_read_only");
	query("SELECT pg_reload_conf()");
	node_wait(&one, &one.harness.available);
	node_close(&one);
}

static void on_over(uv_timer_t *timer)
{
	*(bool *)timer->data = true;
}

/* Longer than a connection may take to come about. */
TEST(a_migration_that_waits_for_a_lock_is_not_taken_for_a_lost_connection)
{
	struct store_status status;
	bool over = false;
	uv_timer_t timer;
	migrated("waits");
	PGconn *conn = PQconnectdb(postgres_server_conninfo(server));
	PQclear(PQexec(conn, "BEGIN; LOCK TABLE waits.migrations IN ACCESS EXCLUSIVE MODE"));
	uv_timer_init(loop, &timer);
	timer.data = &over;
	uv_timer_start(&timer, on_over, 4500, 0);
	node_open(&one, loop, url_with("connect_timeout=3"), "waits");
	node_wait(&one, &over);
	uv_close((uv_handle_t *)&timer, NULL);
	CHECK_STR(query("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"), "1");
	status_of(&status);
	CHECK(!status.available && !strstr(status.err.message, "no connection"));
	PQclear(PQexec(conn, "COMMIT"));
	PQfinish(conn);
	node_wait(&one, &one.harness.available);
	node_close(&one);
}

TEST(migrate_brings_a_schema_up_to_date)
{
	struct log log = { .fd = STDERR_FILENO, .level = LOG_ERROR };
	struct err err = { 0 };
	CHECK_INT(postgres_store_migrate(postgres_server_conninfo(server), "user", true, &log, &err), 0);
	CHECK_INT(postgres_store_migrate(postgres_server_conninfo(server), "user", true, &log, &err), 0);
	CHECK_STR(query("SELECT count(*) FROM public.tasks"), "0");
	CHECK_STR(query("SELECT count(*) FROM celery_taskmeta"), "0");
	log.fd = -1; /* what follows is to fail */
	CHECK(postgres_store_migrate(url_with("user=poor"), "none", false, &log, &err) < 0);
	CHECK(strstr(err.message, "permission denied"));
	CHECK(postgres_store_migrate("host=/nowhere user=x dbname=x", "none", false, &log, &err) < 0);
	CHECK(err.message[0]);
	CHECK(postgres_store_schema_valid("assay_2"));
	CHECK(!postgres_store_schema_valid("2assay"));
	CHECK(!postgres_store_schema_valid("a\"b"));
	CHECK(!postgres_store_schema_valid(""));
}

TEST(rows_answer_the_sql_of_a_result_backend)
{
	node_up(&one, loop, postgres_server_conninfo(server), NULL);
	struct submission s = submission_of(&one.harness);
	s.type = BYTES_LITERAL("student_testing");
	s.params = BYTES_LITERAL("{\"a\":1}");
	for (int i = 0; i < 10; i++) { /* these wait, and do not stand before what has ended */
		submit_one(&one.harness, &s);
		s.id = uuid_new(&one.harness.ids);
	}
	CHECK_STR(query("SELECT m.status || ' ' || (date_done = updated_at AT TIME ZONE 'UTC') FROM "
			"assay.celery_taskmeta m "
			"JOIN assay.tasks t ON t.id::text = m.task_id LIMIT 1"),
		"PENDING true");
	submit_running(&one.harness, &s, "me#1");
	struct transition end = { .kind = TRANSITION_END,
		.guard = guard_of(&s.id, 1, "me#1"),
		.target = TASK_FAILED,
		.at_us = clock_wall_us(),
		.result = BYTES_LITERAL("{\"exit_code\":3}"),
		.error = BYTES_LITERAL("it failed") };
	settle_one(&one.harness, &end);
	CHECK_STR(query("SET search_path = assay; SELECT status || ' ' || (date_done IS NOT NULL) || ' ' || "
			"(result->>'exit_code') "
			"FROM celery_taskmeta WHERE name = 'ctutor_backend.tasks.student_testing' "
			"ORDER BY date_done DESC LIMIT 10"),
		"FAILURE true 3");
	char sql[256], digits[UUID_TEXT_SIZE];
	snprintf(sql, sizeof(sql), "SELECT result->>'exit_code' FROM assay.celery_taskmeta WHERE task_id = '%s'",
		uuid_format(&s.id, digits));
	CHECK_STR(query(sql), "3");
	/* Who writes by hand leaves a trace. */
	query("UPDATE assay.tasks SET updated_at = '2020-01-01'");
	query("UPDATE assay.tasks SET description = 'by hand'");
	CHECK_STR(query("SELECT updated_at > now() - interval '1 hour' FROM assay.tasks"), "t");
	node_close(&one);
}

STORE_POSTGRES_MAIN("fsync = off\n")
