/* What is the SQLite store's alone: its files, its lock, damaged and foreign databases, a full disk, query plans. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "base/clock.h"
#include "store/sqlite/sql.h"
#include "store/sqlite/sqlite_store.h"
#include "tests/contract/store_harness.h"
#include "tests/unit/test.h"

static char own[32]; /* the present test's directory */
static char directory[64]; /* the store's */
static int64_t max_bytes;

static struct store *open_store(struct store_suite_fixture *fixture, bool empty)
{
	struct sqlite_store_options options = { .directory = directory, .loop = fixture->loop, .max_bytes = max_bytes };
	return sqlite_store_new(&options);
}

static struct store_suite_fixture fixture = { .open = open_store };
static struct harness harness;
static struct harness *const h = &harness;

/* The store's directory is this below the test's own. */
static void go_to(const char *below)
{
	snprintf(directory, sizeof(directory), "%s%s", own, below);
}

static void make_directory(void)
{
	snprintf(own, sizeof(own), "/tmp/assay-file-XXXXXX");
	REQUIRE(mkdtemp(own));
	go_to("");
	fixture.loop = uv_default_loop();
	max_bytes = 0;
}

static void remove_directory(void)
{
	remove_tree(own);
}

/* A start that is refused: its code, and whether its message holds this. */
static int refused(const char *part)
{
	struct err err = { 0 };
	struct store *store = open_store(&fixture, false);
	int result = store->ops->start(store, NULL, NULL, &err);
	CHECK_INT(result, err.code);
	if (!strstr(err.message, part))
		CHECK_STR(err.message, part);
	store->ops->free(store);
	uv_run(fixture.loop, UV_RUN_NOWAIT);
	return result;
}

static char *path_of(const char *name)
{
	static char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return path;
}

static void run_sql(const char *sql)
{
	sqlite3 *db;
	REQUIRE(sqlite3_open(path_of("assay.db"), &db) == SQLITE_OK);
	REQUIRE(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK);
	sqlite3_close(db);
}

TEST(files_are_private)
{
	static const char *const names[] = { "", "assay.db", "assay.db-wal", "assay.db-shm", "lock" };
	make_directory();
	go_to("/a/b");
	mode_t mask = umask(0);
	harness_open(h, &fixture, true);
	umask(mask);
	struct submission s = submission_of(h);
	submit_one(h, &s);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct stat status;
		REQUIRE(stat(path_of(names[i]), &status) == 0);
		CHECK_INT(status.st_mode & 0777, i == 0 ? 0700 : 0600);
	}
	harness_close(h);
	remove_directory();
}

TEST(a_second_daemon_is_refused_with_the_firsts_process_id)
{
	char pid[32];
	make_directory();
	harness_open(h, &fixture, true);
	snprintf(pid, sizeof(pid), "process %ld", (long)getpid());
	CHECK_INT(refused(pid), -EBUSY);
	harness_close(h);
	harness_open(h, &fixture, true); /* the lock goes with the store */
	harness_close(h);
	remove_directory();
}

TEST(a_directory_that_cannot_be_made_is_refused)
{
	make_directory();
	int fd = open(path_of("file"), O_CREAT | O_WRONLY, 0600);
	close(fd);
	go_to("/file/d");
	CHECK_INT(refused("cannot make the directory"), -ENOTDIR);
	remove_directory();
}

TEST(a_read_only_directory_is_refused)
{
	make_directory();
	/* Root writes everywhere, but not where nothing can be written at all. */
	if (geteuid() == 0)
		snprintf(directory, sizeof(directory), "/proc");
	else
		REQUIRE(chmod(directory, 0500) == 0);
	CHECK(refused("cannot be written") < 0);
	remove_directory();
}

static void write_file(const char *name, const void *data, size_t size, off_t at)
{
	int fd = open(path_of(name), O_CREAT | O_WRONLY, 0600);
	REQUIRE(fd >= 0 && pwrite(fd, data, size, at) == (ssize_t)size);
	close(fd);
}

TEST(what_is_no_database_is_refused)
{
	make_directory();
	write_file("assay.db", "this is a letter to my aunt", 27, 0);
	CHECK_INT(refused("is damaged: it does not begin as an SQLite database"), -EBADMSG);
	remove_directory();
}

TEST(a_database_that_was_cut_is_refused)
{
	make_directory();
	harness_open(h, &fixture, true);
	harness_close(h);
	REQUIRE(truncate(path_of("assay.db"), 8192) == 0);
	CHECK_INT(refused("is damaged"), -EBADMSG);
	remove_directory();
}

TEST(a_database_that_was_overwritten_is_refused)
{
	char noise[4096];
	make_directory();
	harness_open(h, &fixture, true);
	harness_close(h);
	memset(noise, 0x5a, sizeof(noise));
	write_file("assay.db", noise, sizeof(noise), 4096);
	CHECK_INT(refused("is damaged"), -EBADMSG);
	remove_directory();
}

TEST(a_newer_or_foreign_database_is_refused)
{
	make_directory();
	harness_open(h, &fixture, true);
	harness_close(h);
	run_sql("PRAGMA user_version = 9999");
	CHECK_INT(refused("newer assayd (its schema is number 9999"), -EPROTO);
	run_sql("PRAGMA user_version = 1; PRAGMA application_id = 7");
	CHECK_INT(refused("another program"), -EINVAL);
	remove_directory();
	make_directory();
	run_sql("CREATE TABLE letters (x)");
	CHECK_INT(refused("another program"), -EINVAL);
	remove_directory();
}

/* ---- a full disk ---- */

static void print_much(const struct uuid *id, uint64_t *offset, enum store_outcome *ret_outcome, struct err *ret_err)
{
	static char data[65536];
	memset(data, 'x', sizeof(data));
	struct output_chunk chunk = { *id, 1, 1, *offset, *offset, { data, sizeof(data) } };
	struct store_settle settle = { .chunks = &chunk, .chunk_count = 1 };
	*ret_outcome = do_settle(h, &settle);
	*ret_err = settle.operation.err;
	if (*ret_outcome == STORE_OK)
		*offset += sizeof(data);
	store_operation_fini(&settle.operation);
}

static int64_t output_end(const struct uuid *id)
{
	struct read_output read = { .task_id = *id };
	REQUIRE(do_read_output(h, &read) == STORE_OK);
	int64_t end = (int64_t)read.end;
	store_operation_fini(&read.operation);
	return end;
}

/* Fills the store until it is away; what was told as written is there. */
static void fill(const struct uuid *id, uint64_t *offset)
{
	enum store_outcome outcome = STORE_OK;
	struct err err;
	for (int i = 0; i < 4000 && outcome == STORE_OK; i++)
		print_much(id, offset, &outcome, &err);
	CHECK_INT(outcome, STORE_AWAY);
	CHECK_INT(err.code, -ENOSPC);
	struct store_status status;
	h->store->ops->status(h->store, &status);
	CHECK(!status.available);
	CHECK(!status.schema_wrong);
	CHECK_INT(status.err.code, -ENOSPC);
	CHECK_INT(output_end(id), *offset);
}

TEST(a_database_at_its_largest_size_is_away_until_there_is_room)
{
	make_directory();
	max_bytes = 4 << 20;
	harness_open(h, &fixture, true);
	struct submission s = submission_of(h);
	struct uuid old = submit_running(h, &s, "me#1");
	s = submission_of(h);
	struct uuid id = submit_running(h, &s, "me#1");
	uint64_t offset = 0;
	fill(&old, &offset);
	/* The transition that makes room needs little itself. */
	struct transition end = {
		.kind = TRANSITION_END, .guard = guard_of(&old, 1, "me#1"), .target = TASK_COMPLETED, .at_us = 1000
	};
	CHECK_INT(settle_one(h, &end).status, SETTLE_APPLIED);
	struct store_trim trim = { .finished_before_us = 2000, .limit = 10 };
	REQUIRE(do_trim(h, &trim) == STORE_OK);
	CHECK_INT(trim.deleted, 1);
	store_operation_fini(&trim.operation);
	enum store_outcome outcome;
	struct err err;
	offset = 0;
	print_much(&id, &offset, &outcome, &err);
	CHECK_INT(outcome, STORE_OK);
	harness_wait(h, &h->available);
	harness_close(h);
	remove_directory();
}

struct several {
	struct store_settle settles[3];
	int done;
	bool all;
};

static void on_one_of_several(struct store_operation *operation)
{
	struct several *several = operation->owner;
	several->all = ++several->done == 3;
}

TEST(an_operation_that_finds_no_room_fails_alone)
{
	static char large[8 << 20];
	make_directory();
	max_bytes = 4 << 20;
	harness_open(h, &fixture, true);
	struct submission s = submission_of(h);
	struct uuid id = submit_running(h, &s, "me#1");
	struct output_chunk chunks[] = {
		{ id, 1, 1, 0, 0, BYTES_LITERAL("a") },
		{ id, 1, 1, 1, 1, { large, sizeof(large) } },
		{ id, 1, 2, 1, 0, BYTES_LITERAL("b") },
	};
	struct several several = { .done = 0 };
	for (int i = 0; i < 3; i++) {
		several.settles[i] = (struct store_settle){
			.operation = { .done = on_one_of_several, .owner = &several },
			.chunks = &chunks[i],
			.chunk_count = 1,
		};
		h->store->ops->settle(h->store, &several.settles[i]);
	}
	harness_wait(h, &several.all);
	for (int i = 0; i < 3; i++) {
		CHECK_INT(several.settles[i].operation.outcome, i == 1 ? STORE_AWAY : STORE_OK);
		store_operation_fini(&several.settles[i].operation);
	}
	CHECK_INT(output_end(&id), 2);
	harness_wait(h, &h->available);
	harness_close(h);
	remove_directory();
}

/* A real file system that is full, in a mount namespace of its own; 77 where that is not to be had. */
static int full_disk(void)
{
	if (unshare(geteuid() == 0 ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS) < 0 ||
		mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("tmpfs", directory, "tmpfs", 0, "size=6m") < 0)
		return 77;
	int ballast = open(path_of("ballast"), O_CREAT | O_WRONLY, 0600);
	REQUIRE(ballast >= 0 && posix_fallocate(ballast, 0, 3 << 20) == 0);
	close(ballast);
	REQUIRE(uv_loop_fork(fixture.loop) == 0);
	go_to("/d");
	harness_open(h, &fixture, true);
	struct submission s = submission_of(h);
	struct uuid id = submit_running(h, &s, "me#1");
	uint64_t offset = 0;
	fill(&id, &offset);
	CHECK(!h->available);
	go_to("");
	REQUIRE(unlink(path_of("ballast")) == 0);
	/* Nothing is handed in: the writer finds out by itself. */
	harness_wait(h, &h->available);
	enum store_outcome outcome;
	struct err err;
	print_much(&id, &offset, &outcome, &err);
	CHECK_INT(outcome, STORE_OK);
	CHECK_INT(output_end(&id), offset);
	go_to("/d");
	harness_reopen(h);
	return test_failures > 0;
}

TEST(a_full_disk_loses_nothing_and_is_noticed_when_it_has_room_again)
{
	make_directory();
	fflush(stdout);
	pid_t child = fork();
	REQUIRE(child >= 0);
	if (child == 0) {
		int result = full_disk();
		fflush(stdout);
		_exit(result);
	}
	int status = 0;
	REQUIRE(waitpid(child, &status, 0) == child);
	REQUIRE(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		printf("# skipped: no mount namespace to be had here\n");
	else
		CHECK_INT(WEXITSTATUS(status), 0);
	remove_directory();
}

/* ---- plans ---- */

static sqlite3 *plain_database(void)
{
	static const struct {
		const char *name, *sql;
	} migrations[] = MIGRATIONS;
	sqlite3 *db;
	REQUIRE(sqlite3_open(":memory:", &db) == SQLITE_OK);
	for (size_t i = 0; i < sizeof(migrations) / sizeof(migrations[0]); i++)
		REQUIRE(sqlite3_exec(db, migrations[i].sql, NULL, NULL, NULL) == SQLITE_OK);
	return db;
}

/* Every line of the plan goes by an index, and none sorts. */
static void check_plan(sqlite3 *db, const char *sql)
{
	char explain[4096];
	sqlite3_stmt *statement;
	snprintf(explain, sizeof(explain), "EXPLAIN QUERY PLAN %s", sql);
	REQUIRE(sqlite3_prepare_v2(db, explain, -1, &statement, NULL) == SQLITE_OK);
	while (sqlite3_step(statement) == SQLITE_ROW) {
		const char *line = (const char *)sqlite3_column_text(statement, 3);
		/* The rows that a LIMIT lets through are counted, or looked at one after the other. */
		bool is_limited = strstr(line, "SCAN (subquery") || strcmp(line, "SCAN n") == 0;
		if ((!is_limited && strstr(line, "SCAN")) || strstr(line, "TEMP B-TREE") || strstr(line, "AUTOMATIC")) {
			printf("# %s\n", sql);
			CHECK_STR(line, "SEARCH … USING INDEX");
		}
	}
	sqlite3_finalize(statement);
}

TEST(hot_statements_go_by_an_index_and_do_not_sort)
{
	static const char *const writes[] = WRITE_STATEMENTS, *const reads[] = READ_STATEMENTS;
	static const int hot_writes[] = { WRITE_FIND_BY_ID, WRITE_FIND_BY_EVAL_ID, WRITE_FIND_BY_IDEMPOTENCY_KEY,
		WRITE_PROMOTE, WRITE_NEXT_DUE, WRITE_CLAIM_CANDIDATES, WRITE_CLAIM, WRITE_TASK_BY_ROW, WRITE_GUARD,
		WRITE_SETTLE_STARTED, WRITE_SETTLE_STEP, WRITE_SETTLE_LEAVE, WRITE_EVENT_OF_ATTEMPT,
		WRITE_EVENTS_BACKWARDS, WRITE_COMMAND_TASK, WRITE_BATCH_TASKS, WRITE_FIND_REPLICA, WRITE_BEAT,
		WRITE_COUNT_REPLICAS, WRITE_CANCELLED_RUNNING, WRITE_EXPIRED_REPLICAS, WRITE_RUNNING_OF,
		WRITE_TRIM_CANDIDATES, WRITE_LAST_EVENT_OF, WRITE_DELETE_EVENTS, WRITE_DELETE_OUTPUT,
		WRITE_DELETE_INPUT, WRITE_DELETE_TASK };
	static const int hot_reads[] = { READ_TASK_BY_ID, READ_TASK_BY_ID_WITH_PARAMS, READ_MATCH_PREFIX, READ_LIST_ALL,
		READ_LIST_TENANT, READ_LIST_BATCH, READ_EVENTS_ALL, READ_EVENTS_TASK, READ_OUTPUT_ATTEMPT,
		READ_OUTPUT_FROM, READ_OUTPUT_END, READ_OUTPUT_STREAM_END, READ_POSITION_TASK, READ_POSITION_DUE,
		READ_POSITION_AHEAD_PRIORITY, READ_POSITION_AHEAD_TURN, READ_POSITION_DELAYED };
	sqlite3 *db = plain_database();
	for (size_t i = 0; i < sizeof(hot_writes) / sizeof(hot_writes[0]); i++)
		check_plan(db, writes[hot_writes[i]]);
	for (size_t i = 0; i < sizeof(hot_reads) / sizeof(hot_reads[0]); i++)
		check_plan(db, reads[hot_reads[i]]);
	sqlite3_close(db);
}

TEST_MAIN()
